//! A reader's stream: messages of a stream and answers out, credit and settlements in.
//!
//! As a consumer's, with one difference: what was not asked for by credit is not leased, so nothing of it is lost
//! when the client goes.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Event, NodeError, ReadOptions, Reader, ReaderControls, ReaderSettled, Settler};
use wharf_protocol::frame::{self, Cancelled, Frame, OpenReader, ReaderOpened};
use wharf_transport::{FrameReader, WRITE_BYTES};

use crate::asked::{self, Answers, Asked, check_tags};
use crate::connection::Guest;
use crate::ended::{Ended, write};

/// Serves a reader until its client ends it or the stream is gone.
pub(crate) async fn serve(
    send: &mut SendStream,
    frames: &mut FrameReader,
    open: OpenReader,
    guest: &Guest,
) -> Result<(), Ended> {
    let OpenReader { stream, group, start, credit, partitions, resume, until_end, original_pace, last_of } =
        open;
    guest.check_credit(credit.into())?;
    let options = ReadOptions { group, start, credit, partitions, resume, until_end, original_pace, last_of };
    let reader = guest.node.read_stream(&guest.principal, &stream, options).await?;
    let (partitions, positions) = (reader.partitions(), reader.positions());
    let entered = guest.consumers.enter(Settler::Reader(reader.controls()));
    let consumer = entered.number;
    write(send, &Frame::ReaderOpened(ReaderOpened { partitions, positions, consumer })).await?;

    let last_tag = AtomicU64::new(0);
    let (settles, answers) = asked::channel();
    let controls = reader.controls();
    let listen = listen(frames, controls, &last_tag, settles, guest);
    let deliver = deliver(send, reader, answers, &last_tag);
    tokio::pin!(listen, deliver);
    tokio::select! {
        ended = &mut deliver => ended,
        ended = &mut listen => match ended {
            // The client is done: it still gets its answers.
            Ok(()) => deliver.await,
            ended => ended,
        },
    }
}

/// Writes messages and answers as they come, as many at a time as wait.
async fn deliver(
    send: &mut SendStream,
    mut reader: Reader,
    mut answers: Answers<ReaderSettled>,
    last_tag: &AtomicU64,
) -> Result<(), Ended> {
    let (mut deliveries, mut out) = (Vec::new(), BytesMut::new());
    loop {
        tokio::select! {
            biased;
            answer = answers.next() => match answer {
                Some(answer) => answer?.encode(&mut out),
                None => return Ok(()),
            },
            event = reader.next(&mut deliveries) => match event {
                Ok(Event::Deliveries) => {}
                Ok(Event::Empty) => Frame::Empty.encode(&mut out),
                Err(error @ NodeError::NotFound { .. }) => {
                    let cancelled = Cancelled { code: error.code(), reason: error.to_string() };
                    return write(send, &Frame::Cancelled(cancelled)).await;
                }
                Err(error) => return Err(error.into()),
            },
        }
        if let Some(last) = deliveries.last() {
            last_tag.store(last.tag, Ordering::Relaxed);
        }
        for delivery in deliveries.drain(..) {
            frame::encode_deliver(&delivery, &mut out);
            if out.len() >= WRITE_BYTES {
                send.write_chunk(out.split().freeze()).await?;
            }
        }
        if !out.is_empty() {
            send.write_chunk(out.split().freeze()).await?;
        }
    }
}

/// Reads credit and settlements and hands them to the node, credit that came together as one.
async fn listen(
    frames: &mut FrameReader,
    controls: ReaderControls,
    last_tag: &AtomicU64,
    settles: mpsc::Sender<Asked<ReaderSettled>>,
    guest: &Guest,
) -> Result<(), Ended> {
    loop {
        let mut credit = 0u32;
        while let Some(frame) = frames.ready()? {
            match frame {
                // A reader's bytes are bounded by the stream's window.
                Frame::Credit { messages, bytes: _ } => {
                    guest.check_credit(messages.into())?;
                    credit = credit.saturating_add(messages);
                }
                Frame::Settle { number, settlements } => {
                    let tags = settlements.iter().map(|each| (each.first, each.last));
                    check_tags(tags, last_tag.load(Ordering::Relaxed))?;
                    let answer = controls.settle(settlements).await?;
                    let asked = Asked { number, renewal: false, answer };
                    settles.send(asked).await.map_err(|_| Ended::Lost)?;
                }
                other => return Err(Ended::unexpected(&other, "reader")),
            }
        }
        if credit > 0 {
            controls.credit(credit);
        }
        if !frames.fill().await? {
            return Ok(());
        }
    }
}
