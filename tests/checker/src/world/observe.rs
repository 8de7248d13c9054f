//! Looking: what came to the consumers, and what the state says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_queue::QueueView;
use wharf_shard::{Outgoing, Outlet, ShardError};

use super::{LEASE_MS, World};
use crate::Label;
use crate::history::Seen;

/// What a shard says of itself between two records.
pub(super) struct Look {
    applied: u64,
    hash: u64,
    now: u64,
    pub(super) views: Vec<QueueView>,
}

impl World {
    /// Takes what came, and compares what the state says of itself with what the clients know. `None` when the shard
    /// has stopped.
    pub(super) async fn look(&mut self) -> Option<Look> {
        let ask = |state: &wharf_queue::State, _: &wharf_log::Stats| {
            state.verify();
            Look {
                applied: state.applied(),
                hash: state.hash(),
                now: state.now().0,
                views: state.queues().collect(),
            }
        };
        let look = match self.shard().query(ask).await {
            Ok(look) => look,
            Err(error) => {
                self.stopped(&error);
                return None;
            }
        };
        self.hashes.insert(look.applied, look.hash);
        self.books_now = look.now;
        for view in &look.views {
            if view.ready + view.leased + view.delayed + view.settled != view.enqueued {
                self.violation("conserved", format!("{view:?}"));
            }
        }
        let expired = look.views.iter().map(|view| view.expired).sum::<u64>();
        let may = self.books.expired(look.now).count() as u64;
        if expired > may {
            let what = format!("{expired} messages expired by {}, at most {may} could", look.now);
            self.violation("early", what);
        }
        for place in 0..self.consumers.len() {
            let mut taken = Vec::new();
            take_now(&self.consumers[place].outlet, &mut taken).await;
            for outgoing in taken {
                self.delivered(place, outgoing).await;
            }
        }
        Some(look)
    }

    async fn delivered(&mut self, place: usize, outgoing: Outgoing) {
        let mut message = outgoing.body;
        // Some are read back from the log, as one is whose consumer is slow.
        if message.is_none() || self.random.below(8) == 0 {
            match self.shard().read(vec![outgoing.id]).await {
                Ok(mut read) => message = read.pop(),
                Err(_) if self.is_stopped() => {}
                // Settled as it was delivered, it may be given up before it is read: at most once.
                Err(_) if self.consumers[place].queue == "once" => {}
                Err(error) => {
                    let consumer = &self.consumers[place];
                    let what = format!("{}, attempt {}: {error}", consumer.queue, outgoing.attempt);
                    self.violation("unreadable", what);
                }
            }
        }
        let Some(message) = message else { return };
        let consumer = &mut self.consumers[place];
        let seen = Seen {
            queue: consumer.queue,
            consumer: consumer.number,
            boot: self.boot,
            label: Label::read(&message.payload),
            id: outgoing.id,
            offset: outgoing.offset,
            attempt: outgoing.attempt,
            redelivered: outgoing.redelivered,
            died_in: outgoing.death.map(|death| death.queue),
        };
        let over = consumer.credit == 0;
        consumer.credit = consumer.credit.saturating_sub(1);
        let number = consumer.number;
        if consumer.queue != "once" {
            consumer.held.push((outgoing.tag, seen.clone()));
            for (promise, what) in self.books.delivered(&seen, self.books_now, LEASE_MS) {
                self.violation(promise, what);
            }
        }
        if over {
            self.violation("credit", format!("consumer {number} got {} without credit", seen.id));
        }
        self.history.delivered(seen);
    }

    /// The shard answered that it has stopped: fine when its disk failed, and only then.
    pub(super) fn stopped(&mut self, error: &ShardError) {
        if self.disk.failed().is_none() {
            self.violation("stopped", format!("with a disk in good order: {error}"));
        }
    }

    /// Messages of each queue that are not settled.
    pub(super) fn waiting(look: &Look) -> BTreeMap<String, u64> {
        let left = look.views.iter().map(|v| (v.name.to_string(), v.ready + v.leased + v.delayed));
        left.filter(|(_, left)| *left > 0).collect()
    }
}

/// All that lies in an outlet, without waiting for more.
async fn take_now(outlet: &Arc<Outlet>, out: &mut Vec<Outgoing>) {
    loop {
        let before = out.len();
        tokio::select! {
            biased;
            taken = outlet.take(usize::MAX, out) => {
                // Closed: whatever came before is taken.
                if taken.is_err() {
                    return;
                }
            }
            () = std::future::ready(()) => return,
        }
        if out.len() == before {
            // It told that the queue is empty, which nobody here waits for.
            continue;
        }
    }
}
