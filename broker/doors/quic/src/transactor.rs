//! A transactor's stream: transactions in, what became of them out, in their order.

use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Transact, Transacted};
use wharf_protocol::frame::{self, Frame, OpenTransactor, Opened, ProducerSession};
use wharf_protocol::{ErrorCode, PipelineVersion, Session, TransactionReceipt};
use wharf_transport::FrameReader;

use crate::connection::Guest;
use crate::ended::{Ended, write};

/// Transactions that were handed to the node and are not answered.
const TRANSACTIONS_MAX: usize = 32;

/// A transaction on its way into the log.
struct Handed {
    sequence: u64,
    transacted: Transacted,
    /// By which versions its messages were handled; empty when its client does not ask.
    versions: Vec<PipelineVersion>,
}

/// Serves a transactor until its client ends it.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    open: OpenTransactor,
    guest: &Guest,
) -> Result<(), Ended> {
    let ProducerSession { producer, epoch } = open.session;
    let last_sequence = guest.node.last_sequence(producer, epoch).await?;
    write(send, &Frame::Opened(Opened { last_sequence, session: None })).await?;
    let (handed, answers) = mpsc::channel(TRANSACTIONS_MAX);
    let transact = transact(reader, open.session, guest, handed);
    let answer = answer(send, answers);
    tokio::pin!(transact, answer);
    tokio::select! {
        // First only if there is nobody to answer to, or the node stops.
        ended = &mut answer => ended,
        ended = &mut transact => {
            answer.await?;
            ended
        }
    }
}

/// Reads transactions and hands them to the node, one after the other.
async fn transact(
    reader: &mut FrameReader,
    session: ProducerSession,
    guest: &Guest,
    handed: mpsc::Sender<Handed>,
) -> Result<(), Ended> {
    let mut last = 0;
    loop {
        let transact = match reader.next().await? {
            Some(Frame::Transact(transact)) => transact,
            Some(other) => return Err(Ended::unexpected(&other, "transactor")),
            None => return Ok(()),
        };
        let frame::Transact { sequence, messages, settles, tell_versions } = transact;
        if sequence <= last {
            let reason = format!("sequence {sequence} follows {last}; it must rise with each transaction");
            return Err(Ended::refused(ErrorCode::Malformed, reason));
        }
        last = sequence;
        let ProducerSession { producer, epoch } = session;
        let session = Some(Session { producer, epoch, sequence });
        let settle =
            |each: frame::ConsumerSettlement| (guest.consumers.named(each.consumer), each.settlement);
        let settles = settles.into_iter().map(settle).collect();
        let transact = Transact { session, messages, settles, tell_versions };
        let mut transacted = guest.node.transact(&guest.principal, transact).await;
        let versions = transacted.take_versions();
        if handed.send(Handed { sequence, transacted, versions }).await.is_err() {
            return Err(Ended::Lost);
        }
    }
}

/// Waits for what becomes of transactions, and tells.
async fn answer(send: &mut SendStream, mut answers: mpsc::Receiver<Handed>) -> Result<(), Ended> {
    while let Some(Handed { sequence, transacted, versions }) = answers.recv().await {
        let receipt = transacted.await;
        if let TransactionReceipt::Refused { rejection, .. } = &receipt {
            match rejection.code {
                // The client sends it again, elsewhere or later.
                ErrorCode::Closing => {
                    return Err(Ended::refused(ErrorCode::Closing, "the broker is stopping"));
                }
                ErrorCode::Fenced => return Err(Ended::refused(ErrorCode::Fenced, rejection.reason.clone())),
                _ => {}
            }
        }
        write(send, &Frame::Transacted(frame::Transacted { sequence, receipt, versions })).await?;
    }
    Ok(())
}
