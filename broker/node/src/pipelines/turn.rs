//! Waiting for a pipeline's share of processor time, so that who brings it messages feels what they cost.
//!
//! Nobody waits inside of the pipeline that they wait for: it can be swapped meanwhile. Who holds another one, which
//! their messages have passed, lets go of it when it is to be swapped, by not waiting any longer: the time is owed,
//! and the next ones wait for it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch::Sender;
use wharf_protocol::Name;

use super::{Active, Entered, Pipelines};

/// While one lives, somebody waits for a pipeline to be empty.
pub(super) struct Announced<'a>(&'a Sender<usize>);

impl<'a> Announced<'a> {
    pub(super) fn new(swapping: &'a Sender<usize>) -> Self {
        swapping.send_modify(|count| *count += 1);
        Self(swapping)
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Pipelines {
    /// As [`enter`](Self::enter), once the pipeline owes no processor time. Who holds others gives up waiting as soon
    /// as any pipeline is to be swapped; all others look again, because the next version may owe nothing.
    pub(crate) async fn enter_in_turn(&self, name: &Name, holds_others: bool) -> Option<Entered> {
        loop {
            let entered = self.enter(name).await?;
            let Active::Ready { pipeline, .. } = &*entered else { return Some(entered) };
            let Some(owed) = pipeline.owed() else { return Some(entered) };
            let pipeline = Arc::clone(pipeline);
            drop(entered);

            let began = Instant::now();
            let mut swapping = self.swapping.subscribe();
            let swap = async {
                // The sender is `self`'s: neither ends early.
                let _ = match holds_others {
                    true => swapping.wait_for(|count| *count > 0).await.map(drop),
                    false => swapping.changed().await,
                };
                holds_others
            };
            let hurried = tokio::select! {
                () = tokio::time::sleep(owed) => false,
                hurried = swap => hurried,
            };
            pipeline.waited(began.elapsed());
            if hurried {
                return self.enter(name).await;
            }
        }
    }
}
