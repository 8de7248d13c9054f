//! A publisher's stream: batches in, cumulative confirms out.
//!
//! A publisher that is known by a name begins a new life as it opens: its sequences go on where they stopped, and
//! earlier lives are refused. What is sent again after a lost connection is told what became of it.
//!
//! One side reads: whatever whole frames came together are one batch for the node, which returns as soon as the
//! batch has its place in the log. The other side waits for the receipts in that order, and writes all that became
//! durable together as runs in one frame. Between them lie a bounded number of batches: when they are full the
//! stream is not read, and QUIC's window stops the client.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Publication, Receipts, Transact, Transacted};
use wharf_protocol::frame::{Confirmation, Frame, OpenPublisher, Opened, ProducerSession};
use wharf_protocol::{ErrorCode, Message, Part, PipelineVersion, Receipt, Session, TransactionReceipt};
use wharf_transport::FrameReader;

use crate::connection::Guest;
use crate::ended::{Ended, write};

/// Messages that are one batch for the node.
const BATCH_MESSAGES_MAX: usize = 1024;

/// Batches that were handed to the node and are not confirmed.
const BATCHES_MAX: usize = 32;

/// Messages of one publisher that may be unconfirmed.
#[expect(clippy::cast_possible_truncation, reason = "32 times 1,024")]
pub(crate) const UNCONFIRMED_MAX: u32 = (BATCH_MESSAGES_MAX * BATCHES_MAX) as u32;

/// A batch at the node: its sequences, and the receipts to come.
struct Batch {
    sequences: Vec<u64>,
    receipts: Answers,
    /// By which versions each was handled; empty when its publisher does not ask.
    versions: Vec<Vec<PipelineVersion>>,
}

/// What becomes of a batch.
enum Answers {
    /// An answer for each message.
    Each(Receipts),
    /// One answer: its messages are stored together or not at all.
    Together(Transacted),
}

/// Serves a publisher until its client ends it.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    open: OpenPublisher,
    guest: &Guest,
) -> Result<(), Ended> {
    let life = Life::begin(open, guest).await?;
    write(send, &Frame::Opened(life.opened)).await?;
    let (batches, published) = mpsc::channel(BATCHES_MAX);
    let mut publish = pin!(publish(reader, life, guest, batches));
    let mut confirm = pin!(confirm(send, published));
    tokio::select! {
        // First only if there is nobody to confirm to, or the node stops.
        ended = &mut confirm => ended,
        ended = &mut publish => {
            confirm.await?;
            ended
        }
    }
}

/// Whose messages they are.
#[derive(Clone, Copy)]
struct Life {
    session: Option<ProducerSession>,
    /// What was published up to here is only told what became of it.
    stored: u64,
    opened: Opened,
    /// Each confirm is to say by which versions of pipelines the message was handled.
    tell_versions: bool,
}

impl Life {
    async fn begin(open: OpenPublisher, guest: &Guest) -> Result<Self, Ended> {
        let tell_versions = open.tell_versions;
        match open {
            OpenPublisher { session: Some(_), producer: Some(_), .. } => {
                Err(Ended::refused(ErrorCode::Malformed, "a publisher has a session or a name, not both"))
            }
            OpenPublisher { producer: Some(name), .. } => {
                let life = guest.node.claim_producer(&guest.principal, &name).await?;
                let session = Some(ProducerSession { producer: life.producer, epoch: life.epoch });
                let opened = Opened { last_sequence: Some(life.last_sequence), session };
                Ok(Self { session, stored: life.last_sequence, opened, tell_versions })
            }
            OpenPublisher { session: Some(ProducerSession { producer, epoch }), .. } => {
                let last_sequence = guest.node.last_sequence(producer, epoch).await?;
                let opened = Opened { last_sequence, session: None };
                let stored = last_sequence.unwrap_or(0);
                Ok(Self { session: open.session, stored, opened, tell_versions })
            }
            OpenPublisher { session: None, producer: None, .. } => {
                let opened = Opened { last_sequence: None, session: None };
                Ok(Self { session: None, stored: 0, opened, tell_versions })
            }
        }
    }

    fn at(&self, sequence: u64) -> Option<Session> {
        self.session.map(|ProducerSession { producer, epoch }| Session { producer, epoch, sequence })
    }
}

/// Reads messages and hands them to the node, as many at a time as came.
async fn publish(
    reader: &mut FrameReader,
    life: Life,
    guest: &Guest,
    batches: mpsc::Sender<Batch>,
) -> Result<(), Ended> {
    let (mut last, mut next) = (0, None);
    loop {
        let mut taken = Taken::default();
        let full = taken.fill(reader, &life, &mut last, &mut next);
        if let Some(first) = taken.sequences.first() {
            tracing::trace!(first, count = taken.sequences.len(), "batch");
            let mut receipts = if *first <= life.stored {
                guest.node.publish_again(&guest.principal, taken.publications).await
            } else {
                guest.node.publish(&guest.principal, taken.publications).await
            };
            let versions = receipts.take_versions();
            let batch = Batch { sequences: taken.sequences, receipts: Answers::Each(receipts), versions };
            if batches.send(batch).await.is_err() {
                return Err(Ended::Lost);
            }
        }
        if let Some(together) = taken.together {
            let (sequence, session) = (together.sequence, life.at(together.sequence));
            let transact = Transact {
                session,
                messages: together.messages,
                tell_versions: life.tell_versions,
                ..Transact::default()
            };
            let mut transacted = guest.node.transact(&guest.principal, transact).await;
            let versions = vec![transacted.take_versions()];
            let receipts = Answers::Together(transacted);
            if batches.send(Batch { sequences: vec![sequence], receipts, versions }).await.is_err() {
                return Err(Ended::Lost);
            }
        }
        // What came before a frame that is wrong is published all the same.
        if !full? && !reader.fill().await? {
            return Ok(());
        }
    }
}

/// What is handed to the node at once.
#[derive(Default)]
struct Taken {
    sequences: Vec<u64>,
    publications: Vec<Publication>,
    /// After those.
    together: Option<Together>,
}

/// Messages of one sequence.
struct Together {
    sequence: u64,
    messages: Vec<Message>,
}

impl Taken {
    /// Takes the messages that are here already; says whether there may be more. One that is new, after some that
    /// are sent again, is left in `next`.
    fn fill(
        &mut self,
        reader: &mut FrameReader,
        life: &Life,
        last: &mut u64,
        next: &mut Option<(u64, Message)>,
    ) -> Result<bool, Ended> {
        while self.sequences.len() < BATCH_MESSAGES_MAX {
            let (sequence, message) = match next.take() {
                Some(waiting) => waiting,
                None => match reader.ready()? {
                    Some(Frame::Publish { sequence, message }) => {
                        rise(last, sequence)?;
                        (sequence, message)
                    }
                    Some(Frame::PublishAll { sequence, messages }) => {
                        rise(last, sequence)?;
                        self.together = Some(Together { sequence, messages });
                        return Ok(true);
                    }
                    Some(other) => return Err(Ended::unexpected(&other, "publisher")),
                    None => return Ok(false),
                },
            };
            if sequence > life.stored && self.sequences.first().is_some_and(|first| *first <= life.stored) {
                *next = Some((sequence, message));
                return Ok(true);
            }
            self.sequences.push(sequence);
            let (session, tell_versions) = (life.at(sequence), life.tell_versions);
            self.publications.push(Publication { message, session, tell_versions });
        }
        Ok(true)
    }
}

fn rise(last: &mut u64, sequence: u64) -> Result<(), Ended> {
    if sequence <= *last {
        let reason = format!("sequence {sequence} follows {last}; it must rise with each message");
        return Err(Ended::refused(ErrorCode::Malformed, reason));
    }
    *last = sequence;
    Ok(())
}

/// Waits for receipts in their order, and writes all that are ready together.
async fn confirm(send: &mut SendStream, mut published: mpsc::Receiver<Batch>) -> Result<(), Ended> {
    let mut waiting = published.recv().await;
    while let Some(mut batch) = waiting {
        let mut runs = Vec::new();
        let receipts = (&mut batch.receipts).await;
        let mut ended = add(&mut runs, batch, receipts);
        waiting = loop {
            if ended.is_some() {
                break None;
            }
            let Ok(mut batch) = published.try_recv() else { break None };
            match poll_once(&mut batch.receipts).await {
                Poll::Ready(receipts) => ended = add(&mut runs, batch, receipts),
                Poll::Pending => break Some(batch),
            }
        };
        if !runs.is_empty() {
            write(send, &Frame::Confirm(runs)).await?;
        }
        if let Some(ended) = ended {
            return Err(ended);
        }
        if waiting.is_none() {
            waiting = published.recv().await;
        }
    }
    Ok(())
}

/// Adds the answers of one batch to `runs`, up to one that ends the stream: the node stops, and the client sends
/// those messages again elsewhere; or a newer life of the producer took over.
fn add(runs: &mut Vec<Confirmation>, batch: Batch, receipts: Vec<Receipt>) -> Option<Ended> {
    let Batch { sequences, versions, .. } = batch;
    debug_assert_eq!(sequences.len(), receipts.len(), "the node answers each message");
    let mut versions = versions.into_iter();
    for (sequence, receipt) in sequences.into_iter().zip(receipts) {
        if let Receipt::Rejected(rejection) = &receipt {
            match rejection.code {
                ErrorCode::Closing => {
                    return Some(Ended::refused(ErrorCode::Closing, "the broker is stopping"));
                }
                ErrorCode::Fenced => {
                    return Some(Ended::refused(ErrorCode::Fenced, rejection.reason.clone()));
                }
                _ => {}
            }
        }
        let passed = versions.next().unwrap_or_default();
        // What is stored of a duplicate passed its pipelines before, perhaps at other versions.
        let told = if matches!(receipt, Receipt::Duplicate(_)) { Vec::new() } else { passed };
        Confirmation::push(runs, sequence, receipt, told);
    }
    None
}

impl Future for Answers {
    type Output = Vec<Receipt>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Receipt>> {
        match self.get_mut() {
            Self::Each(receipts) => Pin::new(receipts).poll(cx),
            Self::Together(transacted) => Pin::new(transacted).poll(cx).map(|receipt| vec![as_one(receipt)]),
        }
    }
}

/// The answer to messages that are stored together.
fn as_one(receipt: TransactionReceipt) -> Receipt {
    match receipt {
        TransactionReceipt::Committed(committed) => Receipt::Stored(committed.stored),
        TransactionReceipt::Duplicate(stored) => Receipt::Duplicate(stored),
        TransactionReceipt::Refused { part, mut rejection } => {
            if let Part::Message(_) = part {
                rejection.reason = format!("{part} of the batch: {}", rejection.reason);
            }
            Receipt::Rejected(rejection)
        }
    }
}

/// Looks whether `future` is ready.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}
