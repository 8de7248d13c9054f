//! A publisher's stream: batches in, cumulative confirms out.
//!
//! One side reads: whatever whole frames came together are one batch for the node, which returns as soon as the
//! batch has its place in the log. The other side waits for the receipts in that order, and writes all that became
//! durable together as runs in one frame. Between them lie a bounded number of batches: when they are full the
//! stream is not read, and QUIC's window stops the client.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Publication, Receipts};
use wharf_protocol::frame::{Confirmation, Frame, OpenPublisher, Opened, ProducerSession};
use wharf_protocol::{ErrorCode, Receipt, Session};
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
    receipts: Receipts,
}

/// Serves a publisher until its client ends it.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    open: OpenPublisher,
    guest: &Guest,
) -> Result<(), Ended> {
    write(send, &Frame::Opened(Opened { last_sequence: None })).await?;
    let (batches, published) = mpsc::channel(BATCHES_MAX);
    let mut publish = pin!(publish(reader, open.session, guest, batches));
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

/// Reads messages and hands them to the node, as many at a time as came.
async fn publish(
    reader: &mut FrameReader,
    session: Option<ProducerSession>,
    guest: &Guest,
    batches: mpsc::Sender<Batch>,
) -> Result<(), Ended> {
    let mut last = 0;
    loop {
        let mut taken = Taken::default();
        let full = taken.fill(reader, session, &mut last);
        if let Some(first) = taken.sequences.first() {
            tracing::trace!(first, count = taken.sequences.len(), "batch");
            let receipts = guest.node.publish(&guest.principal, taken.publications).await;
            if batches.send(Batch { sequences: taken.sequences, receipts }).await.is_err() {
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
}

impl Taken {
    /// Takes the messages that are here already; says whether there may be more.
    fn fill(
        &mut self,
        reader: &mut FrameReader,
        session: Option<ProducerSession>,
        last: &mut u64,
    ) -> Result<bool, Ended> {
        while self.sequences.len() < BATCH_MESSAGES_MAX {
            let (sequence, message) = match reader.ready()? {
                Some(Frame::Publish { sequence, message }) => (sequence, message),
                Some(other) => return Err(Ended::unexpected(&other, "publisher")),
                None => return Ok(false),
            };
            if sequence <= *last {
                let reason = format!("sequence {sequence} follows {last}; it must rise with each message");
                return Err(Ended::refused(ErrorCode::Malformed, reason));
            }
            *last = sequence;
            let session =
                session.map(|ProducerSession { producer, epoch }| Session { producer, epoch, sequence });
            self.sequences.push(sequence);
            self.publications.push(Publication { message, session });
        }
        Ok(true)
    }
}

/// Waits for receipts in their order, and writes all that are ready together.
async fn confirm(send: &mut SendStream, mut published: mpsc::Receiver<Batch>) -> Result<(), Ended> {
    let mut waiting = published.recv().await;
    while let Some(mut batch) = waiting {
        let mut runs = Vec::new();
        let receipts = (&mut batch.receipts).await;
        let mut stopping = add(&mut runs, batch.sequences, receipts);
        waiting = loop {
            let Ok(mut batch) = published.try_recv() else { break None };
            match poll_once(&mut batch.receipts).await {
                Poll::Ready(receipts) => stopping |= add(&mut runs, batch.sequences, receipts),
                Poll::Pending => break Some(batch),
            }
        };
        if !runs.is_empty() {
            write(send, &Frame::Confirm(runs)).await?;
        }
        if stopping {
            return Err(Ended::refused(ErrorCode::Closing, "the broker is stopping"));
        }
        if waiting.is_none() {
            waiting = published.recv().await;
        }
    }
    Ok(())
}

/// Adds the answers of one batch to `runs`, up to one that the node could not give because it stops: the client
/// sends those messages again.
fn add(runs: &mut Vec<Confirmation>, sequences: Vec<u64>, receipts: Vec<Receipt>) -> bool {
    debug_assert_eq!(sequences.len(), receipts.len(), "the node answers each message");
    for (sequence, receipt) in sequences.into_iter().zip(receipts) {
        if matches!(&receipt, Receipt::Rejected(rejection) if rejection.code == ErrorCode::Closing) {
            return true;
        }
        Confirmation::push(runs, sequence, receipt);
    }
    false
}

/// Looks whether `future` is ready.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}
