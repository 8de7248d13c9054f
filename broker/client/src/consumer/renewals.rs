//! Leases that are being renewed: `Renew` frames on their way, and who waits for their answers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::BytesMut;
use wharf_protocol::frame::{Frame, Settled};

use super::settle::{Batch, Settle};
use crate::SettleError;

/// Ranges of tags in one `Renew` frame: it stays far below a frame's bound.
const RANGES_MAX: usize = 4096;

/// The renewals of one subscription, and which deliveries are to be renewed without being asked.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// Asked for and not written.
    asked: Vec<(u64, u64)>,
    batch: Arc<Batch>,
    /// Written and not answered, by number.
    sent: VecDeque<(u64, Arc<Batch>)>,
    /// The number of the last frame.
    number: u64,
    /// What is held, where renewal goes by itself.
    held: BTreeSet<u64>,
}

impl Renewals {
    /// Asks for the lease of one delivery to begin anew.
    pub(super) fn renew(&mut self, tag: u64) -> Settle {
        self.ask(tag, tag);
        Settle::sent(Arc::clone(&self.batch), tag)
    }

    /// A delivery is to be renewed until it is let go.
    pub(super) fn hold(&mut self, tag: u64) {
        self.held.insert(tag);
    }

    /// A delivery is settled or dropped.
    pub(super) fn let_go(&mut self, tag: u64) {
        self.held.remove(&tag);
    }

    /// All deliveries up to this one are settled.
    pub(super) fn let_go_up_to(&mut self, tag: u64) {
        self.held = self.held.split_off(&tag.saturating_add(1));
    }

    /// Asks for all that is held; whether that is anything.
    pub(super) fn renew_held(&mut self) -> bool {
        for tag in std::mem::take(&mut self.held) {
            self.ask(tag, tag);
            self.held.insert(tag);
        }
        !self.held.is_empty()
    }

    fn ask(&mut self, first: u64, last: u64) {
        match self.asked.last_mut() {
            Some(range) if range.1 + 1 == first => range.1 = last,
            _ => self.asked.push((first, last)),
        }
    }

    /// Encodes what is to be written.
    pub(super) fn write(&mut self, out: &mut BytesMut) {
        if self.asked.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        // What is asked for at once is answered with its last frame.
        let mut asked = std::mem::take(&mut self.asked).into_iter().peekable();
        while asked.peek().is_some() {
            let tags: Vec<(u64, u64)> = asked.by_ref().take(RANGES_MAX).collect();
            self.number += 1;
            self.sent.push_back((self.number, Arc::clone(&batch)));
            Frame::Renew { number: self.number, tags }.encode(out);
        }
    }

    /// Passes the answer to a `Renew` frame on. They come in their order.
    pub(super) fn answered(&mut self, answer: Settled, wakers: &mut Vec<Waker>) -> Result<(), String> {
        let Some((_, batch)) = self.sent.pop_front_if(|(number, _)| *number == answer.number) else {
            return Err(format!("the broker answered renew {}, which is not the next", answer.number));
        };
        for tag in &answer.stale {
            self.held.remove(tag);
        }
        let more = self.sent.front().is_some_and(|(_, next)| Arc::ptr_eq(next, &batch));
        batch.add(answer.stale, !more, wakers);
        Ok(())
    }

    /// The subscription is lost, and with it all leases.
    pub(super) fn lose(&mut self, wakers: &mut Vec<Waker>) {
        for (_, batch) in self.sent.drain(..) {
            batch.answer(Err(SettleError::Stale), wakers);
        }
        std::mem::take(&mut self.batch).answer(Err(SettleError::Stale), wakers);
        *self = Self::default();
    }
}
