//! Where a consumer's task and its user meet: deliveries one way, credit and settlements the other.
//!
//! Everything passes in batches: the task lays down what it read at once, the user takes all that lies there, and
//! neighbouring tags with one outcome become one range. A delivery that is settled or dropped gives its credit
//! back, so that never more than the prefetch are unsettled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::sync::Notify;
use wharf_protocol::frame::{Frame, Settled};
use wharf_protocol::{Delivery, Outcome, Settlement};

use super::settle::{Batch, Settle};
use crate::{ConsumeError, SettleError};

/// Ranges in one `Settle` frame: with the longest reasons it stays below a frame's bound.
const RANGES_MAX: usize = 512;

#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// The number of the subscription: raised whenever it is lost, and its deliveries with it.
    round: AtomicU64,
    /// There is something to write.
    filled: Notify,
    /// Something was answered, or the state has changed otherwise.
    changed: Notify,
    /// Credit is given back when so much has come together.
    credit_step: u32,
    prefetch: u32,
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
    opened: bool,
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
    pub(super) fn new(prefetch: u32, auto_settle: bool, limit: Option<u64>) -> Self {
        let wanted = limit.unwrap_or(u64::MAX);
        let state = State { allowance: wanted, ..State::default() };
        Self {
            state: Mutex::new(state),
            round: AtomicU64::new(0),
            filled: Notify::new(),
            changed: Notify::new(),
            credit_step: (prefetch / 4).max(1),
            prefetch,
            wanted: AtomicU64::new(wanted),
            auto_settle,
        }
    }

    /// Fetches all that lies there into `ready`; `false` when there will be no more.
    pub(super) fn poll_fetch(&self, ready: &mut Fetched, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
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

    /// Settles the delivery `tag` of subscription `round`.
    pub(super) fn settle(&self, round: u64, tag: u64, outcome: Outcome) -> Settle {
        let mut state = self.lock();
        if round != self.round.load(Ordering::Acquire) || state.ended {
            return Settle::known(Err(SettleError::Stale));
        }
        let mut write = self.give_back(&mut state);
        let settle = if self.auto_settle {
            Settle::known(Ok(()))
        } else {
            write |= state.filling.settlements.is_empty();
            Settle::sent(state.add(tag, outcome), tag)
        };
        drop(state);
        if write {
            self.filled.notify_one();
        }
        settle
    }

    /// A delivery was dropped unsettled: another may come.
    pub(super) fn forget(&self, round: u64) {
        let mut state = self.lock();
        if round == self.round.load(Ordering::Acquire) && self.give_back(&mut state) {
            self.filled.notify_one();
        }
    }

    /// Whether that is enough to tell the broker.
    fn give_back(&self, state: &mut State) -> bool {
        if state.allowance == 0 {
            return false;
        }
        state.allowance -= 1;
        state.credit += 1;
        self.is_due(state)
    }

    /// Whether the broker is to be told of credit: a step of it has come together, or the last that will come.
    fn is_due(&self, state: &State) -> bool {
        state.credit >= self.credit_step || (state.credit > 0 && state.allowance == 0)
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
        self.lock().end.clone()
    }

    pub(super) async fn opened(&self) -> Result<(), ConsumeError> {
        self.wait_until(|state| state.opened || state.ended).await;
        let state = self.lock();
        match &state.end {
            Some(error) if !state.opened => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until every settlement is answered.
    pub(super) async fn flush(&self) {
        self.wait_until(|state| {
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
        self.lock().allowance = wanted - u64::from(credit);
        credit
    }

    /// A subscription stands.
    pub(super) fn open(&self) {
        self.lock().opened = true;
        self.changed.notify_waiters();
    }

    /// Lays `deliveries` down for the user.
    pub(super) fn deliver(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.inbox.extend(deliveries.drain(..));
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nothing is left to deliver.
    pub(super) fn exhausted(&self) {
        let mut state = self.lock();
        state.exhausted = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Encodes all that is to be written.
    pub(super) fn take(&self, out: &mut BytesMut) {
        let mut state = self.lock();
        if self.is_due(&state) {
            Frame::Credit(std::mem::take(&mut state.credit)).encode(out);
        }
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
        let mut state = self.lock();
        let batch = match state.sent.front() {
            Some((number, _)) if *number == settled.number => state.sent.pop_front(),
            _ => return Err(format!("the broker answered settle {}, which is not the next", settled.number)),
        };
        if let Some((_, batch)) = batch {
            batch.answer(Ok(settled.stale), &mut wakers);
        }
        drop(state);
        self.changed.notify_waiters();
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The subscription is lost, and with it the leases of its deliveries.
    pub(super) fn lose(&self) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        self.lose_locked(&mut state, &mut wakers);
        drop(state);
        self.changed.notify_waiters();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// There are no more deliveries.
    pub(super) fn close(&self, end: ConsumeError) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
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
        self.changed.notify_waiters();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lose_locked(&self, state: &mut State, wakers: &mut Vec<Waker>) {
        self.round.fetch_add(1, Ordering::AcqRel);
        state.inbox.clear();
        state.exhausted = false;
        (state.credit, state.number) = (0, 0);
        for (_, batch) in state.sent.drain(..) {
            batch.answer(Err(SettleError::Unknown), wakers);
        }
        while let Some(filling) = state.next_unwritten() {
            filling.batch.answer(Err(SettleError::Stale), wakers);
        }
    }

    async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a settlement to the frame that grows: to its last range, where it continues that.
    fn add(&mut self, tag: u64, outcome: Outcome) -> Arc<Batch> {
        let settlements = &mut self.filling.settlements;
        match settlements.last_mut() {
            Some(last) if last.last + 1 == tag && last.outcome == outcome => last.last = tag,
            _ => settlements.push(Settlement { first: tag, last: tag, outcome }),
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

#[cfg(test)]
mod tests {
    use wharf_protocol::frame::{Decoder, FRAME_BYTES_DEFAULT};

    use super::*;

    fn written(desk: &Desk) -> Vec<Frame> {
        let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
        desk.take(decoder.buffer());
        std::iter::from_fn(|| decoder.next_frame().expect("frames")).collect()
    }

    fn now(settle: &mut Settle) -> Poll<Result<(), SettleError>> {
        let mut cx = Context::from_waker(Waker::noop());
        std::pin::Pin::new(settle).poll(&mut cx)
    }

    use std::future::Future as _;

    #[test]
    fn neighbours_with_one_outcome_are_one_range() {
        let desk = Desk::new(1000, false, None);
        for tag in 1..=5 {
            desk.settle(0, tag, Outcome::Ack);
        }
        desk.settle(0, 7, Outcome::Ack);
        desk.settle(0, 8, Outcome::Nack { delay: None });
        let range = |first, last, outcome| Settlement { first, last, outcome };
        let settlements = vec![
            range(1, 5, Outcome::Ack),
            range(7, 7, Outcome::Ack),
            range(8, 8, Outcome::Nack { delay: None }),
        ];
        assert_eq!(written(&desk), [Frame::Settle { number: 1, settlements }]);
        assert_eq!(written(&desk), []);
    }

    #[test]
    fn credit_is_given_back_in_steps_by_what_is_settled_or_dropped() {
        let desk = Desk::new(8, false, None);
        desk.settle(0, 1, Outcome::Ack);
        assert!(!written(&desk).contains(&Frame::Credit(1)));
        desk.forget(0);
        assert_eq!(written(&desk), [Frame::Credit(2)]);
        desk.forget(17);
        desk.forget(17);
        assert_eq!(written(&desk), [], "of another subscription");
    }

    #[test]
    fn no_more_is_asked_for_than_is_wanted() {
        let desk = Desk::new(8, false, Some(3));
        assert_eq!(desk.first_credit(), 3);
        for tag in 1..=3 {
            assert!(desk.is_wanting());
            desk.got_one();
            desk.forget(0);
            desk.settle(0, tag, Outcome::Ack);
        }
        assert!(!desk.is_wanting());
        assert!(!written(&desk).iter().any(|frame| matches!(frame, Frame::Credit(_))));

        let desk = Desk::new(2, false, Some(3));
        assert_eq!(desk.first_credit(), 2);
        desk.forget(0);
        desk.forget(0);
        assert_eq!(written(&desk), [Frame::Credit(1)]);
    }

    /// A consumer with a limit waited for ever for the last few messages: their credit made no full step.
    #[test]
    fn the_last_credit_is_given_though_it_makes_no_step() {
        let desk = Desk::new(8, false, Some(11));
        assert_eq!(desk.first_credit(), 8);
        desk.forget(0);
        desk.forget(0);
        assert_eq!(written(&desk), [Frame::Credit(2)]);
        desk.forget(0);
        assert_eq!(written(&desk), [Frame::Credit(1)]);
    }

    #[test]
    fn an_answer_tells_the_stale_from_the_settled() {
        let desk = Desk::new(100, false, None);
        let (mut one, mut two) = (desk.settle(0, 1, Outcome::Ack), desk.settle(0, 2, Outcome::Ack));
        written(&desk);
        assert_eq!(now(&mut one), Poll::Pending);
        desk.settled(Settled { number: 1, stale: vec![2] }).expect("the next");
        assert_eq!(now(&mut one), Poll::Ready(Ok(())));
        assert_eq!(now(&mut two), Poll::Ready(Err(SettleError::Stale)));
        assert!(desk.settled(Settled { number: 1, stale: vec![] }).is_err());
    }

    #[test]
    fn a_lost_subscription_leaves_the_sent_unknown_and_the_rest_stale() {
        let desk = Desk::new(100, false, None);
        let mut sent = desk.settle(0, 1, Outcome::Ack);
        written(&desk);
        let mut unsent = desk.settle(0, 2, Outcome::Ack);
        desk.lose();
        assert_eq!(now(&mut sent), Poll::Ready(Err(SettleError::Unknown)));
        assert_eq!(now(&mut unsent), Poll::Ready(Err(SettleError::Stale)));
        assert_eq!(now(&mut desk.settle(0, 3, Outcome::Ack)), Poll::Ready(Err(SettleError::Stale)));
        assert_eq!(written(&desk), []);
    }
}
