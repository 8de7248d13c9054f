//! What was published and is not confirmed: encoded once, kept until it is answered, sent again over the next
//! connection under the same sequence numbers.
//!
//! Messages are encoded straight into the buffer that will be written, and the same buffer is what is kept: a
//! message costs one copy and no allocation of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::Notify;
use wharf_protocol::Message;
use wharf_protocol::frame::{self, Confirmation, FRAME_BYTES_DEFAULT, HEAD_BYTES};
use wharf_transport::WRITE_BYTES;

use super::batch::Batch;
use crate::PublishError;
use crate::shared_state::SharedState;

/// Messages that may be unconfirmed.
const UNCONFIRMED_MAX: u64 = 8_192;

/// Bytes that may be unconfirmed. One message may exceed them.
const UNCONFIRMED_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Window {
    state: SharedState<State>,
    /// There is something to write.
    filled: Notify,
}

#[derive(Debug)]
struct State {
    /// The sequence of the next message.
    next: u64,
    /// Everything up to here is answered.
    confirmed: u64,
    /// Everything up to here is of an earlier life.
    begun_after: u64,
    /// Being encoded: not yet to be seen by the writer unless it asks.
    filling: Filling,
    /// Whole batches that were not written on this stream, a part of `kept`.
    unwritten: VecDeque<Bytes>,
    /// Everything unanswered but `filling`, in order.
    kept: VecDeque<Kept>,
    /// Bytes of `kept` and `filling`.
    bytes: usize,
    frame_bytes_max: usize,
    /// The broker has taken the publisher at least once.
    opened: bool,
    /// Nothing more is taken.
    shut: Option<PublishError>,
    /// Nothing more is answered.
    closed: Option<PublishError>,
}

/// A batch that still grows.
#[derive(Debug, Default)]
struct Filling {
    batch: Arc<Batch>,
    frames: BytesMut,
}

/// A batch as it was, or will be, written.
#[derive(Debug)]
struct Kept {
    batch: Arc<Batch>,
    frames: Bytes,
    last: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        let state = State {
            next: 1,
            confirmed: 0,
            begun_after: 0,
            filling: Filling::default(),
            unwritten: VecDeque::new(),
            kept: VecDeque::new(),
            bytes: 0,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            opened: false,
            shut: None,
            closed: None,
        };
        Self { state: SharedState::new(state), filled: Notify::new() }
    }

    /// The first message comes after `last`: an earlier life of the producer ended there.
    pub(super) fn begin_after(&self, last: u64) {
        let mut state = self.state.lock();
        debug_assert_eq!((state.next, state.confirmed), (1, 0), "nothing was taken yet");
        (state.next, state.confirmed, state.begun_after) = (last + 1, last, last);
    }

    pub(super) fn begun_after(&self) -> u64 {
        self.state.lock().begun_after
    }

    /// Takes one message, waiting for room.
    pub(super) async fn push(&self, message: &Message) -> Result<(Arc<Batch>, u64), PublishError> {
        let bytes = 8 + message.encoded_bytes();
        self.push_frame(bytes, |sequence, out| frame::encode_publish(sequence, message, out)).await
    }

    /// Takes messages that are stored together or not at all, under one sequence, waiting for room.
    pub(super) async fn push_all(&self, messages: &[Message]) -> Result<(Arc<Batch>, u64), PublishError> {
        let bytes = 8 + messages.iter().map(|message| 4 + message.encoded_bytes()).sum::<usize>();
        self.push_frame(bytes, |sequence, out| frame::encode_publish_all(sequence, messages, out)).await
    }

    /// Takes what becomes one frame with a body of `bytes`.
    async fn push_frame(
        &self,
        bytes: usize,
        encode: impl Fn(u64, &mut BytesMut),
    ) -> Result<(Arc<Batch>, u64), PublishError> {
        loop {
            if let Some(taken) = self.try_push(bytes, &encode)? {
                return Ok(taken);
            }
            self.state.wait_until(|state| state.shut.is_some() || state.has_room(bytes)).await;
        }
    }

    fn try_push(
        &self,
        bytes: usize,
        encode: impl Fn(u64, &mut BytesMut),
    ) -> Result<Option<(Arc<Batch>, u64)>, PublishError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.shut {
            return Err(error.clone());
        }
        if bytes > state.frame_bytes_max {
            return Err(PublishError::TooLarge { bytes, max: state.frame_bytes_max });
        }
        if !state.has_room(bytes) {
            return Ok(None);
        }
        let sequence = state.next;
        state.next += 1;
        state.bytes += HEAD_BYTES + bytes;
        let filling = &mut state.filling;
        if filling.frames.is_empty() {
            filling.frames.reserve(WRITE_BYTES.min(16 * bytes));
        }
        encode(sequence, &mut filling.frames);
        let batch = Arc::clone(&filling.batch);
        if filling.frames.len() >= WRITE_BYTES {
            let frames = state.seal();
            state.unwritten.push_back(frames);
        }
        drop(state);
        self.filled.notify_one();
        Ok(Some((batch, sequence)))
    }

    /// The frames to write next, if there are any.
    pub(super) fn take(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        if let Some(frames) = state.unwritten.pop_front() {
            return Some(frames);
        }
        (!state.filling.frames.is_empty()).then(|| state.seal())
    }

    /// Waits until [`take`](Self::take) may have something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// A new stream stands: everything unanswered is to be written on it.
    pub(super) fn open(&self, frame_bytes_max: usize) {
        let mut state = self.state.lock();
        let confirmed = state.confirmed;
        state.frame_bytes_max = frame_bytes_max;
        state.opened = true;
        state.unwritten = state.kept.iter().map(|kept| after(kept.frames.clone(), confirmed)).collect();
        drop(state);
        self.state.notify();
    }

    /// Waits until the broker has taken the publisher.
    pub(super) async fn opened(&self) -> Result<(), PublishError> {
        self.state.wait_until(|state| state.opened || state.closed.is_some()).await;
        match &self.state.lock().closed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Passes the broker's answers on. They come in the order of the sequences, each once.
    pub(super) fn confirm(&self, runs: Vec<Confirmation>) -> Result<(), String> {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        for run in runs {
            let (first, last) = (run.first, run.last());
            let (confirmed, sent) = (state.confirmed, state.kept.back().map_or(0, |kept| kept.last));
            if first != confirmed + 1 || last > sent {
                return Err(format!(
                    "the broker confirmed {first} to {last}, when {confirmed} was confirmed and {sent} sent"
                ));
            }
            state.answer(run, &mut wakers);
        }
        drop(state);
        self.state.notify();
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Waits until everything taken so far is answered.
    pub(super) async fn flush(&self) -> Result<(), PublishError> {
        let last = self.state.lock().next - 1;
        self.state.wait_until(|state| state.confirmed >= last || state.closed.is_some()).await;
        let state = self.state.lock();
        match &state.closed {
            Some(error) if state.confirmed < last => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Takes nothing more.
    pub(super) fn shut(&self) {
        self.state.lock().shut.get_or_insert(PublishError::Closed);
        self.state.notify();
    }

    /// Takes nothing more, and answers everything with `error`.
    pub(super) fn close(&self, error: PublishError) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.shut = Some(error.clone());
            state.closed = Some(error.clone());
            state.unwritten.clear();
            state.kept.drain(..).for_each(|kept| kept.batch.fail(error.clone(), &mut wakers));
            std::mem::take(&mut state.filling).batch.fail(error, &mut wakers);
        }
        drop(state);
        self.state.notify();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Whether a frame with a body of `bytes` may be unconfirmed beside all that is.
    fn has_room(&self, bytes: usize) -> bool {
        let unconfirmed = self.next - 1 - self.confirmed;
        let bytes = self.bytes + bytes;
        unconfirmed == 0 || (unconfirmed < UNCONFIRMED_MAX && bytes <= UNCONFIRMED_BYTES_MAX)
    }

    /// Ends the batch that grows: it is kept, and its frames are to be written.
    fn seal(&mut self) -> Bytes {
        let frames = self.filling.frames.split().freeze();
        let batch = std::mem::take(&mut self.filling.batch);
        self.kept.push_back(Kept { batch, frames: frames.clone(), last: self.next - 1 });
        frames
    }

    /// Gives the parts of `run` to the batches that they are for, and lets go of those that are answered whole.
    fn answer(&mut self, run: Confirmation, wakers: &mut Vec<Waker>) {
        let end = run.last();
        while self.confirmed < end {
            let kept = self.kept.front().expect("what was sent and is not answered is kept");
            let (first, last) = (self.confirmed + 1, end.min(kept.last));
            let receipt = run.receipt(first).expect("between the run's ends");
            let count = u32::try_from(last - first + 1).expect("a part of the run");
            let versions = run.versions.clone();
            kept.batch.answer(Confirmation { first, count, receipt, versions }, wakers);
            self.confirmed = last;
            if last == kept.last {
                self.bytes -= kept.frames.len();
                self.kept.pop_front();
            }
        }
    }
}

/// The frames in `frames` whose sequence, which each body begins with, is over `confirmed`.
fn after(mut frames: Bytes, confirmed: u64) -> Bytes {
    while frames.len() >= HEAD_BYTES + 8 {
        let length = (&frames[..4]).get_u32_le() as usize;
        let sequence = (&frames[HEAD_BYTES..]).get_u64_le();
        if sequence > confirmed {
            break;
        }
        frames.advance(HEAD_BYTES + length);
    }
    frames
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use wharf_protocol::frame::{Decoder, Frame};
    use wharf_protocol::{Receipt, Stored};

    use super::*;

    fn message(payload: &str) -> Message {
        Message::new("a".parse().expect("a topic"), payload.to_owned())
    }

    fn try_push(window: &Window, payload: &str) -> Option<(Arc<Batch>, u64)> {
        let message = message(payload);
        let encode = |sequence, out: &mut BytesMut| frame::encode_publish(sequence, &message, out);
        window.try_push(8 + message.encoded_bytes(), encode).expect("open")
    }

    fn push(window: &Window, payload: &str) -> (Arc<Batch>, u64) {
        try_push(window, payload).expect("room")
    }

    fn stored(first: u64, count: u32, index: u64) -> Confirmation {
        let receipt = Receipt::Stored(Stored { index, entries: 1 });
        Confirmation { first, count, receipt, versions: Vec::new() }
    }

    fn sequences(window: &Window) -> Vec<u64> {
        let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
        while let Some(frames) = window.take() {
            decoder.buffer().extend_from_slice(&frames);
        }
        let mut sequences = Vec::new();
        while let Some(Frame::Publish { sequence, .. }) = decoder.next_frame().expect("frames") {
            sequences.push(sequence);
        }
        sequences
    }

    fn poll(batch: &Batch, sequence: u64) -> Poll<Result<Receipt, String>> {
        let cx = Context::from_waker(Waker::noop());
        batch.poll(sequence, &cx).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_unconfirmed_is_written_again_from_the_middle_of_a_batch_on() {
        let window = Window::new();
        for n in 0..5 {
            push(&window, &n.to_string());
        }
        assert_eq!(sequences(&window), [1, 2, 3, 4, 5]);
        push(&window, "five");
        assert_eq!(sequences(&window), [6]);
        window.confirm(vec![stored(1, 3, 100)]).expect("in order");
        push(&window, "six");
        window.open(FRAME_BYTES_DEFAULT);
        assert_eq!(sequences(&window), [4, 5, 6, 7]);
    }

    #[test]
    fn a_later_life_begins_after_the_last_sequence_of_the_one_before() {
        let window = Window::new();
        window.begin_after(41);
        let (batch, sequence) = push(&window, "a");
        assert_eq!((sequence, sequences(&window)), (42, vec![42]));
        window.confirm(vec![stored(42, 1, 7)]).expect("in order");
        assert!(poll(&batch, 42).is_ready());
    }

    #[test]
    fn a_run_answers_messages_of_several_batches() {
        let window = Window::new();
        let (first, one) = push(&window, "a");
        sequences(&window);
        let (second, two) = push(&window, "b");
        sequences(&window);
        assert_eq!(poll(&second, two), Poll::Pending);
        window.confirm(vec![stored(1, 2, 40)]).expect("in order");
        assert_eq!(poll(&first, one), Poll::Ready(Ok(Receipt::Stored(Stored { index: 40, entries: 1 }))));
        assert_eq!(poll(&second, two), Poll::Ready(Ok(Receipt::Stored(Stored { index: 41, entries: 1 }))));
        assert_eq!(window.state.lock().bytes, 0);
    }

    #[test]
    fn an_answer_to_what_was_not_asked_is_an_error() {
        let window = Window::new();
        push(&window, "a");
        sequences(&window);
        assert!(window.confirm(vec![stored(2, 1, 1)]).is_err());
        assert!(window.confirm(vec![stored(1, 2, 1)]).is_err());
        window.confirm(vec![stored(1, 1, 1)]).expect("in order");
        assert!(window.confirm(vec![stored(1, 1, 1)]).is_err());
    }

    #[test]
    fn a_full_window_takes_no_more_until_it_is_confirmed() {
        let window = Window::new();
        for _ in 0..UNCONFIRMED_MAX {
            push(&window, "x");
        }
        assert!(try_push(&window, "x").is_none());
        sequences(&window);
        window.confirm(vec![stored(1, 1, 1)]).expect("in order");
        push(&window, "x");
        assert!(try_push(&window, "x").is_none());
    }

    #[test]
    fn a_closed_window_answers_everybody() {
        let window = Window::new();
        let (sent, one) = push(&window, "a");
        sequences(&window);
        let (unsent, two) = push(&window, "b");
        window.close(PublishError::Closed);
        assert!(matches!(poll(&sent, one), Poll::Ready(Err(_))));
        assert!(matches!(poll(&unsent, two), Poll::Ready(Err(_))));
        assert!(window.try_push(1, |_, _| {}).is_err());
    }
}
