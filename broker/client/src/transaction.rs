//! Transactions: acks and publishes that happen together or not at all, and once, whatever becomes of the
//! connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, Semaphore, oneshot};
use wharf_protocol::frame::{
    ConsumerSettlement, FRAME_BYTES_DEFAULT, Frame, HEAD_BYTES, OpenTransactor, ProducerSession, Refusal,
    Transact, Transacted,
};
use wharf_protocol::{
    Message, Outcome, PipelineVersion, ProducerId, Settlement, Stored, TRANSACTION_MESSAGES_MAX,
    TRANSACTION_RANGES_MAX, TransactionReceipt,
};
use wharf_transport::FrameReader;

use crate::link::{self, Backoff, Ended, Link, Up, unexpected};
use crate::publisher::check;
use crate::shared_state::SharedState;
use crate::{Client, CommitError, Delivery};

/// Transactions of one client that are not answered; more wait.
const UNANSWERED_MAX: usize = 32;

/// The number that no consumer has.
const NOBODY: u64 = 0;

/// What is to happen together or not at all.
///
/// Consume, transform, produce, exactly once:
///
/// ```no_run
/// # async fn example(client: wharf_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// # use wharf_client::{ConsumeOptions, Message};
/// let mut orders = client.consume("orders", ConsumeOptions::default()).await?;
/// while let Some(order) = orders.next().await {
///     let mut transaction = client.transaction();
///     transaction.ack(&order);
///     transaction.publish(Message::new("invoices.new".parse()?, order.message.payload.clone()));
///     transaction.commit().await?; // the order is done and the invoice is there, or neither
/// }
/// # Ok(()) }
/// ```
///
/// A commit whose answer is lost with the connection is sent again, and the broker tells whether it had happened:
/// so the outcome is never in doubt, and nothing happens twice.
#[derive(Debug)]
#[must_use = "nothing happens until it is committed"]
pub struct Transaction {
    client: Client,
    messages: Vec<Message>,
    settles: Vec<ConsumerSettlement>,
    tell_versions: bool,
}

/// A transaction that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReceipt {
    /// The record that holds it; `None` when it was found to have happened before the connection was lost, so long
    /// ago that the broker no longer knows where.
    pub stored: Option<Stored>,
    /// The messages, from 0, that were left out because their message id was known.
    pub duplicates: Vec<u32>,
    /// The messages, from 0, to whose topics nothing is bound.
    pub unrouted: Vec<u32>,
    /// Which versions of which pipelines handled its messages, each once, where it
    /// [asked](Transaction::tell_versions); none when it had happened before.
    pub versions: Vec<PipelineVersion>,
}

impl Transaction {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, messages: Vec::new(), settles: Vec::new(), tell_versions: false }
    }

    /// Publishes `message`.
    pub fn publish(&mut self, message: Message) -> &mut Self {
        self.messages.push(message);
        self
    }

    /// Asks which versions of which pipelines handle its messages: [`CommitReceipt::versions`] then tells, and so does
    /// [`CommitError::Rejected`].
    ///
    /// A broker of before this was there tells none.
    pub fn tell_versions(&mut self) -> &mut Self {
        self.tell_versions = true;
        self
    }

    /// Done with `delivery`. It must not be settled in another way; when the commit fails it is still held, as long
    /// as its lease lasts.
    pub fn ack(&mut self, delivery: &Delivery) -> &mut Self {
        self.settle(delivery, Outcome::Ack)
    }

    /// Deliver it again, at the earliest after `delay`; `None` leaves that to the queue's retry policy.
    pub fn nack(&mut self, delivery: &Delivery, delay: Option<Duration>) -> &mut Self {
        self.settle(delivery, Outcome::Nack { delay })
    }

    /// Lay it in the dead-letter queue, with this reason.
    pub fn dead_letter(&mut self, delivery: &Delivery, reason: impl Into<String>) -> &mut Self {
        self.settle(delivery, Outcome::DeadLetter { reason: reason.into() })
    }

    fn settle(&mut self, delivery: &Delivery, outcome: Outcome) -> &mut Self {
        let (consumer, tag) = delivery.settled_by().unwrap_or((NOBODY, delivery.tag));
        if let Some(last) = self.settles.last_mut()
            && last.consumer == consumer
            && last.settlement.last + 1 == tag
            && last.settlement.outcome == outcome
        {
            last.settlement.last = tag;
        } else {
            let settlement = Settlement { first: tag, last: tag, outcome };
            self.settles.push(ConsumerSettlement { consumer, settlement });
        }
        self
    }

    /// Makes all of it happen, durably, in one record.
    ///
    /// # Errors
    /// Why nothing of it happened; or, for [`CommitError::Closed`] alone, that this is not known.
    ///
    /// # Cancel safety
    /// Dropped, it may happen or not.
    pub async fn commit(self) -> Result<CommitReceipt, CommitError> {
        let Self { client, messages, settles, tell_versions } = self;
        if messages.len() > TRANSACTION_MESSAGES_MAX || settles.len() > TRANSACTION_RANGES_MAX {
            return Err(CommitError::Invalid(format!(
                "a transaction has at most {TRANSACTION_MESSAGES_MAX} messages and {TRANSACTION_RANGES_MAX} \
                 ranges of settlements; this one has {} and {}",
                messages.len(),
                settles.len()
            )));
        }
        let transact = Transact { sequence: 0, messages, settles, tell_versions };
        let Transacted { receipt, versions, .. } = client.transactor().await?.0.commit(transact).await?;
        match receipt {
            TransactionReceipt::Committed(committed) => Ok(CommitReceipt {
                stored: Some(committed.stored),
                duplicates: committed.duplicates,
                unrouted: committed.unrouted,
                versions,
            }),
            TransactionReceipt::Duplicate(stored) => Ok(CommitReceipt {
                stored,
                duplicates: Vec::new(),
                unrouted: Vec::new(),
                versions: Vec::new(),
            }),
            TransactionReceipt::Refused { part, rejection } => {
                Err(CommitError::Rejected { part, rejection, versions })
            }
        }
    }
}

/// What the client holds; when it is dropped, the task ends.
#[derive(Debug)]
pub(crate) struct Shared(Arc<Transactor>);

/// Where commits and the task that carries them meet.
#[derive(Debug)]
struct Transactor {
    state: SharedState<State>,
    /// There is something to write.
    filled: Notify,
    room: Semaphore,
}

#[derive(Debug)]
struct State {
    /// The sequence of the next transaction.
    next: u64,
    /// Those that are not answered, in order; written on this stream up to `written`.
    unanswered: VecDeque<Unanswered>,
    written: usize,
    frame_bytes_max: usize,
    opened: bool,
    /// The handles are gone: it ends with the last answer.
    left: bool,
    closed: Option<CommitError>,
}

#[derive(Debug)]
struct Unanswered {
    sequence: u64,
    frame: Bytes,
    answer: oneshot::Sender<Result<Transacted, CommitError>>,
}

impl Transactor {
    async fn commit(&self, transact: Transact) -> Result<Transacted, CommitError> {
        for message in &transact.messages {
            check(message).map_err(|error| CommitError::Invalid(error.to_string()))?;
        }
        let _room = self.room.acquire().await.map_err(|_| CommitError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.push(transact, answer)?;
        self.filled.notify_one();
        answered.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Takes a transaction on its way, under the next sequence.
    fn push(
        &self,
        mut transact: Transact,
        answer: oneshot::Sender<Result<Transacted, CommitError>>,
    ) -> Result<(), CommitError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        transact.sequence = state.next;
        let mut frame = BytesMut::new();
        Frame::Transact(transact).encode(&mut frame);
        let (bytes, max) = (frame.len() - HEAD_BYTES, state.frame_bytes_max);
        if bytes > max {
            return Err(CommitError::TooLarge { bytes, max });
        }
        let sequence = state.next;
        state.next += 1;
        state.unanswered.push_back(Unanswered { sequence, frame: frame.freeze(), answer });
        Ok(())
    }

    /// The frame to write next, if there is one.
    fn take(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        let frame = state.unanswered.get(state.written)?.frame.clone();
        state.written += 1;
        Some(frame)
    }

    /// A new stream stands: everything unanswered is to be written on it.
    fn open(&self, frame_bytes_max: usize) {
        let mut state = self.state.lock();
        (state.opened, state.written, state.frame_bytes_max) = (true, 0, frame_bytes_max);
        drop(state);
        self.state.notify();
        self.filled.notify_one();
    }

    /// Passes an answer on. They come in the order of the sequences.
    fn answer(&self, transacted: Transacted) -> Result<(), String> {
        let mut state = self.state.lock();
        let next = state.unanswered.front().map(|first| first.sequence);
        if next != Some(transacted.sequence) || state.written == 0 {
            return Err(format!(
                "the broker answered transaction {}, which is not the next",
                transacted.sequence
            ));
        }
        state.written -= 1;
        let first = state.unanswered.pop_front().expect("it has a sequence");
        drop(state);
        // Whoever dropped the commit does not need it.
        let _ = first.answer.send(Ok(transacted));
        self.state.notify();
        Ok(())
    }

    /// Takes nothing more, and answers everything with `error`.
    fn close(&self, error: CommitError) {
        let mut state = self.state.lock();
        state.closed.get_or_insert_with(|| error.clone());
        let unanswered = std::mem::take(&mut state.unanswered);
        drop(state);
        for each in unanswered {
            let _ = each.answer.send(Err(error.clone()));
        }
        self.state.notify();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.0.state.lock().left = true;
        self.0.state.notify();
    }
}

/// Opens the transactor of a client and waits until the broker has taken it.
pub(crate) async fn open(client: &Client) -> Result<Shared, CommitError> {
    let state = State {
        next: 1,
        unanswered: VecDeque::new(),
        written: 0,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        opened: false,
        left: false,
        closed: None,
    };
    let transactor = Arc::new(Transactor {
        state: SharedState::new(state),
        filled: Notify::new(),
        room: Semaphore::new(UNANSWERED_MAX),
    });
    let session = ProducerSession { producer: ProducerId(rand::random()), epoch: 1 };
    let backoff = Backoff::new(client.pause_max());
    let role = Role { session, transactor: Arc::clone(&transactor), link: client.link(), backoff };
    client.spawn(role.run());
    let shared = Shared(transactor);
    shared.0.state.wait_until(|state| state.opened || state.closed.is_some()).await;
    let closed = shared.0.state.lock().closed.clone();
    closed.map_or(Ok(shared), Err)
}

/// The transactor's task.
struct Role {
    session: ProducerSession,
    transactor: Arc<Transactor>,
    link: Link,
    backoff: Backoff,
}

impl Drop for Role {
    /// However it ends, nobody waits for ever.
    fn drop(&mut self) {
        self.transactor.close(CommitError::Closed);
    }
}

impl Role {
    async fn run(mut self) {
        let (transactor, stop) = (Arc::clone(&self.transactor), self.link.stop.clone());
        let left = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = transactor.state.wait_until(|state| state.left) => {}
            }
            transactor.state.wait_until(|state| state.unanswered.is_empty()).await;
        };
        tokio::select! {
            () = left => {}
            refusal = self.keep_committing() => transactor.close(CommitError::Refused(refusal)),
        }
    }

    /// Commits over one connection after the other, until the broker refuses for good.
    async fn keep_committing(&mut self) -> Refusal {
        loop {
            let up = match self.link.up().await {
                Ok(up) => up,
                Err(refusal) => return refusal,
            };
            match self.commit(&up).await {
                Ended::Refused(refusal) if link::is_final(&refusal) => return refusal,
                ended => tracing::debug!(reason = %ended, "transactor's stream over, opening another"),
            }
            self.backoff.wait().await;
        }
    }

    /// Commits over one stream, first what earlier ones left unanswered.
    async fn commit(&mut self, up: &Up) -> Ended {
        let open = Frame::OpenTransactor(OpenTransactor { session: self.session });
        let (send, reader) = match up.open(&open).await {
            Ok((send, reader, Frame::Opened(_))) => (send, reader),
            Ok((.., other)) => return unexpected(&other),
            Err(ended) => return ended,
        };
        self.backoff.reset();
        self.transactor.open(up.limits.frame_bytes_max as usize);
        tokio::select! {
            ended = write(send, &self.transactor) => ended,
            ended = read(reader, &self.transactor) => ended,
        }
    }
}

async fn write(mut send: quinn::SendStream, transactor: &Transactor) -> Ended {
    loop {
        let Some(frame) = transactor.take() else {
            transactor.filled.notified().await;
            continue;
        };
        if let Err(error) = send.write_chunk(frame).await {
            // The broker's reason, if it gave one, is on its way to the reader.
            tracing::debug!(%error, "writing");
            std::future::pending::<()>().await;
        }
    }
}

async fn read(mut reader: FrameReader, transactor: &Transactor) -> Ended {
    loop {
        match reader.next().await {
            Ok(Some(Frame::Transacted(transacted))) => {
                if let Err(reason) = transactor.answer(transacted) {
                    return Ended::Lost(reason);
                }
            }
            Ok(Some(Frame::Error(refusal))) => return Ended::Refused(refusal),
            Ok(Some(other)) => return unexpected(&other),
            Ok(None) => return Ended::Lost("the broker ended the stream".into()),
            Err(error) => return error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::Committed;

    use super::*;

    fn transactor() -> Transactor {
        let state = State {
            next: 1,
            unanswered: VecDeque::new(),
            written: 0,
            frame_bytes_max: 200,
            opened: true,
            left: false,
            closed: None,
        };
        let room = Semaphore::new(UNANSWERED_MAX);
        Transactor { state: SharedState::new(state), filled: Notify::new(), room }
    }

    fn push(transactor: &Transactor) -> oneshot::Receiver<Result<Transacted, CommitError>> {
        let (answer, answered) = oneshot::channel();
        transactor.push(Transact::default(), answer).expect("open");
        answered
    }

    fn transacted(sequence: u64) -> Transacted {
        let stored = Stored { index: sequence, entries: 0 };
        let committed = Committed { stored, duplicates: Vec::new(), unrouted: Vec::new() };
        Transacted { sequence, receipt: TransactionReceipt::Committed(committed), versions: Vec::new() }
    }

    #[test]
    fn what_is_unanswered_is_written_again_on_the_next_stream() {
        let transactor = transactor();
        let (mut first, mut second) = (push(&transactor), push(&transactor));
        let frames: Vec<_> = std::iter::from_fn(|| transactor.take()).collect();
        assert_eq!(frames.len(), 2);
        transactor.answer(transacted(1)).expect("the next");
        assert!(first.try_recv().expect("answered").is_ok());

        transactor.open(200);
        assert_eq!(transactor.take().as_ref(), Some(&frames[1]), "the same bytes, the same sequence");
        assert_eq!(transactor.take(), None);
        transactor.answer(transacted(2)).expect("the next");
        assert!(second.try_recv().expect("answered").is_ok());
    }

    #[test]
    fn an_answer_to_what_was_not_asked_is_an_error() {
        let transactor = transactor();
        assert!(transactor.answer(transacted(1)).is_err());
        let _answer = push(&transactor);
        assert!(transactor.answer(transacted(1)).is_err(), "it was not written yet");
        transactor.take();
        assert!(transactor.answer(transacted(2)).is_err());
        transactor.answer(transacted(1)).expect("the next");
    }

    #[test]
    fn one_that_is_too_large_uses_no_sequence_up() {
        let transactor = transactor();
        let message = Message::new("a".parse().expect("a topic"), vec![0; 500]);
        let transact = Transact { messages: vec![message], ..Transact::default() };
        let refused = transactor.push(transact, oneshot::channel().0);
        assert!(matches!(refused, Err(CommitError::TooLarge { max: 200, .. })));
        assert_eq!(transactor.state.lock().next, 1);
    }
}
