//! Where a consumer's task and its user meet: deliveries one way, credit and settlements the other.
//!
//! Everything passes in batches: the task lays down what it read at once, the user takes all that lies there, and
//! neighbouring tags with one outcome become one range. A delivery that is settled or dropped gives its credit
//! back, so that never more than the prefetch are unsettled.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::sync::Notify;
use wharf_protocol::frame::{Frame, Settled};
use wharf_protocol::{Delivery, Outcome, Settlement};

use super::renewals::Renewals;
use super::settle::{Batch, Settle};
use crate::shared_state::SharedState;
use crate::{ConsumeError, ConsumeOptions, SettleError};

/// Ranges in one `Settle` frame: with the longest reasons it stays below a frame's bound.
const RANGES_MAX: usize = 512;

/// How far tags may run ahead of the oldest that is not settled: the broker's bound.
const UNSETTLED_SPAN_MAX: u64 = 65_536;

#[derive(Debug)]
pub(super) struct Desk {
    state: SharedState<State>,
    /// The number of the subscription: raised whenever it is lost, and its deliveries with it.
    round: AtomicU64,
    /// There is something to write.
    filled: Notify,
    /// Credit is given back when so much has come together.
    credit_step: u32,
    prefetch: u32,
    /// Bytes of deliveries that may be unsettled; 0: no bound.
    prefetch_bytes: u64,
    /// Deliveries are renewed until they are settled or dropped.
    renew: bool,
    /// Deliveries that the user still wants.
    wanted: AtomicU64,
    auto_settle: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Deliveries that the user has not fetched.
    inbox: VecDeque<Delivery>,
    /// The user, waiting for one.
    waker: Option<Waker>,
    /// Credit to give back.
    credit: u32,
    /// Bytes of credit to give back.
    credit_bytes: u64,
    /// How much more may be given back: what is wanted beyond the credit that the broker has.
    allowance: u64,
    /// The `Settle` frame that grows.
    filling: Filling,
    /// Frames that are full and not written.
    unwritten: VecDeque<Filling>,
    /// Frames that are written and not answered, by number.
    sent: VecDeque<(u64, Arc<Batch>)>,
    /// The number of the next frame.
    number: u64,
    /// Up to here every delivery of the subscription is settled, as far as can be told without a list.
    settled_up_to: u64,
    renewals: Renewals,
    opened: bool,
    /// By which the broker knows the subscription that stands.
    consumer: u64,
    /// The broker has nothing left.
    exhausted: bool,
    /// No more deliveries, and why.
    ended: bool,
    end: Option<ConsumeError>,
}

/// A `Settle` frame before it is written.
#[derive(Debug, Default)]
struct Filling {
    settlements: Vec<Settlement>,
    batch: Arc<Batch>,
}

/// A delivery in the user's hands, as far as credit goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) tag: u64,
    /// Of the encoded message, as the broker counts them.
    pub(super) bytes: u64,
}

/// How many deliveries are settled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// This one.
    One,
    /// This one and all before it.
    UpTo,
}

/// Deliveries that the user has fetched together.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    deliveries: VecDeque<Delivery>,
    pub(super) round: u64,
}

impl Fetched {
    /// The next, unless its subscription is lost.
    pub(super) fn pop(&mut self, desk: &Desk) -> Option<Delivery> {
        if self.round != desk.round.load(Ordering::Acquire) {
            self.deliveries.clear();
        }
        self.deliveries.pop_front()
    }
}

/// The user's side.
impl Desk {
    pub(super) fn new(options: &ConsumeOptions) -> Self {
        let ConsumeOptions { prefetch, prefetch_bytes, auto_settle, renew, limit, .. } = *options;
        let prefetch = prefetch.max(1);
        let wanted = limit.unwrap_or(u64::MAX);
        let state = State { allowance: wanted, ..State::default() };
        Self {
            state: SharedState::new(state),
            round: AtomicU64::new(0),
            filled: Notify::new(),
            credit_step: (prefetch / 4).max(1),
            prefetch,
            prefetch_bytes,
            renew: renew && !auto_settle,
            wanted: AtomicU64::new(wanted),
            auto_settle,
        }
    }

    /// Fetches all that lies there into `ready`; `false` when there will be no more.
    pub(super) fn poll_fetch(&self, ready: &mut Fetched, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.state.lock();
        if !state.inbox.is_empty() {
            std::mem::swap(&mut state.inbox, &mut ready.deliveries);
            ready.round = self.round.load(Ordering::Acquire);
            return Poll::Ready(true);
        }
        if state.exhausted || state.ended {
            return Poll::Ready(false);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Settles a delivery of subscription `round`; or all up to it that are not settled.
    pub(super) fn settle(&self, round: u64, held: Held, extent: Extent, outcome: Outcome) -> Settle {
        let mut state = self.state.lock();
        if round != self.round.load(Ordering::Acquire) || state.ended {
            return Settle::known(Err(SettleError::Stale));
        }
        let mut write = self.give_back(&mut state, held);
        let settle = if self.auto_settle {
            Settle::known(Ok(()))
        } else {
            write |= state.filling.settlements.is_empty();
            let first = state.first_to_settle(held.tag, extent);
            Settle::sent(state.add(first, held.tag, outcome), held.tag)
        };
        drop(state);
        if write {
            self.filled.notify_one();
        }
        settle
    }

    /// By which the broker knows subscription `round`, unless it is lost.
    pub(super) fn number(&self, round: u64) -> Option<u64> {
        let state = self.state.lock();
        (round == self.round.load(Ordering::Acquire) && !state.ended).then_some(state.consumer)
    }

    /// Lets the lease of a delivery begin anew.
    pub(super) fn renew(&self, round: u64, tag: u64) -> Settle {
        let mut state = self.state.lock();
        if round != self.round.load(Ordering::Acquire) || state.ended {
            return Settle::known(Err(SettleError::Stale));
        }
        if self.auto_settle {
            return Settle::known(Ok(()));
        }
        let renewal = state.renewals.renew(tag);
        drop(state);
        self.filled.notify_one();
        renewal
    }

    /// A delivery was dropped unsettled: another may come.
    pub(super) fn forget(&self, round: u64, held: Held) {
        let mut state = self.state.lock();
        if round == self.round.load(Ordering::Acquire) && self.give_back(&mut state, held) {
            self.filled.notify_one();
        }
    }

    /// Whether that is enough to tell the broker.
    fn give_back(&self, state: &mut State, held: Held) -> bool {
        if self.renew {
            state.renewals.let_go(held.tag);
        }
        if self.prefetch_bytes > 0 {
            state.credit_bytes += held.bytes;
        }
        if state.allowance > 0 {
            state.allowance -= 1;
            state.credit += 1;
        }
        self.is_due(state)
    }

    /// Whether the broker is to be told of credit: a step of it has come together, or the last that will come.
    fn is_due(&self, state: &State) -> bool {
        state.credit >= self.credit_step
            || (state.credit > 0 && state.allowance == 0)
            || (state.credit_bytes > 0 && state.credit_bytes >= self.prefetch_bytes / 4)
    }

    /// Whether the user wants more deliveries.
    pub(super) fn is_wanting(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    /// The user has got one.
    pub(super) fn got_one(&self) {
        self.wanted.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn end(&self) -> Option<ConsumeError> {
        self.state.lock().end.clone()
    }

    pub(super) async fn opened(&self) -> Result<(), ConsumeError> {
        self.state.wait_until(|state| state.opened || state.ended).await;
        let state = self.state.lock();
        match &state.end {
            Some(error) if !state.opened => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until every settlement is answered.
    pub(super) async fn flush(&self) {
        self.state
            .wait_until(|state| {
                state.sent.is_empty() && state.unwritten.is_empty() && state.filling.settlements.is_empty()
            })
            .await;
    }
}

/// The task's side.
impl Desk {
    /// The credit that a new subscription begins with.
    pub(super) fn first_credit(&self) -> u32 {
        let wanted = self.wanted.load(Ordering::Acquire);
        let credit = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.prefetch);
        self.state.lock().allowance = wanted - u64::from(credit);
        credit
    }

    /// A subscription stands; the broker knows it by `number`.
    pub(super) fn open(&self, number: u64) {
        let mut state = self.state.lock();
        (state.opened, state.consumer) = (true, number);
        drop(state);
        self.state.notify();
    }

    /// Lays `deliveries` down for the user.
    pub(super) fn deliver(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if self.renew {
            deliveries.iter().for_each(|delivery| state.renewals.hold(delivery.tag));
        }
        state.inbox.extend(deliveries.drain(..));
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nothing is left to deliver.
    pub(super) fn exhausted(&self) {
        let mut state = self.state.lock();
        state.exhausted = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Encodes all that is to be written.
    pub(super) fn take(&self, out: &mut BytesMut) {
        let mut state = self.state.lock();
        if self.is_due(&state) {
            let messages = std::mem::take(&mut state.credit);
            let bytes = std::mem::take(&mut state.credit_bytes);
            Frame::Credit { messages, bytes }.encode(out);
        }
        state.renewals.write(out);
        while let Some(filling) = state.next_unwritten() {
            state.number += 1;
            let number = state.number;
            state.sent.push_back((number, filling.batch));
            Frame::Settle { number, settlements: filling.settlements }.encode(out);
        }
    }

    /// Waits until [`take`](Self::take) may have something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Passes the answer to a `Settle` frame on. They come in their order.
    pub(super) fn settled(&self, settled: Settled) -> Result<(), String> {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        let batch = match state.sent.front() {
            Some((number, _)) if *number == settled.number => state.sent.pop_front(),
            _ => return Err(format!("the broker answered settle {}, which is not the next", settled.number)),
        };
        if let Some((_, batch)) = batch {
            batch.answer(Ok(settled.stale), &mut wakers);
        }
        drop(state);
        self.state.notify();
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Passes the answer to a `Renew` frame on.
    pub(super) fn renewed(&self, renewed: Settled) -> Result<(), String> {
        let mut wakers = Vec::new();
        self.state.lock().renewals.answered(renewed, &mut wakers)?;
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Asks for the leases of all that is held to begin anew, where that goes by itself.
    pub(super) fn renew_held(&self) {
        if self.renew && self.state.lock().renewals.renew_held() {
            self.filled.notify_one();
        }
    }

    /// The subscription is lost, and with it the leases of its deliveries.
    pub(super) fn lose(&self) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        self.lose_locked(&mut state, &mut wakers);
        drop(state);
        self.state.notify();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// There are no more deliveries.
    pub(super) fn close(&self, end: ConsumeError) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        if !state.ended {
            // The user still gets what was delivered, and learns by its ack that it is stale.
            let inbox = std::mem::take(&mut state.inbox);
            self.lose_locked(&mut state, &mut wakers);
            state.inbox = inbox;
            state.ended = true;
            state.end = Some(end);
            wakers.extend(state.waker.take());
        }
        drop(state);
        self.state.notify();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lose_locked(&self, state: &mut State, wakers: &mut Vec<Waker>) {
        self.round.fetch_add(1, Ordering::AcqRel);
        state.inbox.clear();
        state.exhausted = false;
        (state.credit, state.credit_bytes, state.number, state.settled_up_to) = (0, 0, 0, 0);
        state.renewals.lose(wakers);
        for (_, batch) in state.sent.drain(..) {
            batch.answer(Err(SettleError::Unknown), wakers);
        }
        while let Some(filling) = state.next_unwritten() {
            filling.batch.answer(Err(SettleError::Stale), wakers);
        }
    }
}

impl State {
    /// The first tag that settling `tag` concerns.
    fn first_to_settle(&mut self, tag: u64, extent: Extent) -> u64 {
        let next = self.settled_up_to + 1;
        let first = match extent {
            Extent::One => tag,
            // The broker lets no tag run further ahead of the oldest unsettled one.
            Extent::UpTo => next.min(tag).max(tag.saturating_sub(UNSETTLED_SPAN_MAX - 1)),
        };
        if extent == Extent::UpTo || tag == next {
            self.settled_up_to = self.settled_up_to.max(tag);
        }
        if extent == Extent::UpTo {
            self.renewals.let_go_up_to(tag);
        }
        first
    }

    /// Adds a settlement to the frame that grows: to its last range, where it continues that.
    fn add(&mut self, first: u64, last: u64, outcome: Outcome) -> Arc<Batch> {
        let settlements = &mut self.filling.settlements;
        match settlements.last_mut() {
            Some(before) if before.last + 1 == first && before.outcome == outcome => before.last = last,
            _ => settlements.push(Settlement { first, last, outcome }),
        }
        let batch = Arc::clone(&self.filling.batch);
        if self.filling.settlements.len() >= RANGES_MAX {
            self.unwritten.push_back(std::mem::take(&mut self.filling));
        }
        batch
    }

    fn next_unwritten(&mut self) -> Option<Filling> {
        let full = self.unwritten.pop_front();
        full.or_else(|| (!self.filling.settlements.is_empty()).then(|| std::mem::take(&mut self.filling)))
    }
}
