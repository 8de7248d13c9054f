//! A consumer's stream: deliveries and answers out, credit and settlements in.
//!
//! One side writes: whatever deliveries wait are encoded together and written at once. A client that reads slowly
//! fills its window, and this stream alone stops. The other side reads credit and settlements and passes them on;
//! the answers come back to the writer in the order of the settles.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Controls, Event, NodeError, Settled, SubscribeOptions, Subscription};
use wharf_protocol::ErrorCode;
use wharf_protocol::frame::{self, Cancelled, Frame, Subscribe, Subscribed};
use wharf_transport::{FrameReader, WRITE_BYTES};

use crate::connection::Guest;
use crate::ended::{Ended, write};

/// `Settle` frames that were handed to the node and are not answered.
const SETTLES_MAX: usize = 64;

/// What was delivered so far, for the side that reads.
#[derive(Default)]
struct Delivered {
    messages: AtomicU64,
    last_tag: AtomicU64,
}

/// Serves a consumer until its client ends it or the queue is gone.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    subscribe: Subscribe,
    guest: &Guest,
) -> Result<(), Ended> {
    let Subscribe { queue, credit, auto_settle, until_empty } = subscribe;
    check_credit(credit.into(), guest)?;
    let options = SubscribeOptions { auto_settle, notify_empty: until_empty, credit };
    let subscription = guest.node.subscribe(&guest.principal, &queue, options).await?;
    write(send, &Frame::Subscribed(Subscribed {})).await?;

    let delivered = Delivered::default();
    let (settles, answers) = mpsc::channel(SETTLES_MAX);
    let listen = listen(reader, subscription.controls(), credit.into(), &delivered, settles, guest);
    let deliver = deliver(send, subscription, Answers { settles: answers, next: None }, &delivered);
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

/// Writes deliveries and answers as they come, as many at a time as wait.
async fn deliver(
    send: &mut SendStream,
    mut subscription: Subscription,
    mut answers: Answers,
    delivered: &Delivered,
) -> Result<(), Ended> {
    let mut deliveries = Vec::new();
    let mut out = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            answer = answers.next() => match answer {
                Some(answer) => Frame::Settled(answer?).encode(&mut out),
                None => return Ok(()),
            },
            event = subscription.next(&mut deliveries) => match event {
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
            delivered.last_tag.store(last.tag, Ordering::Relaxed);
            delivered.messages.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
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
    reader: &mut FrameReader,
    controls: Controls,
    mut granted: u64,
    delivered: &Delivered,
    settles: mpsc::Sender<(u64, Settled)>,
    guest: &Guest,
) -> Result<(), Ended> {
    loop {
        let mut credit = 0u32;
        while let Some(frame) = reader.ready()? {
            match frame {
                Frame::Credit(add) => {
                    granted = granted.saturating_add(add.into());
                    check_credit(granted - delivered.messages.load(Ordering::Relaxed).min(granted), guest)?;
                    credit = credit.saturating_add(add);
                }
                Frame::Settle { number, settlements } => {
                    let last_tag = delivered.last_tag.load(Ordering::Relaxed);
                    if let Some(beyond) =
                        settlements.iter().find(|each| each.first == 0 || each.last > last_tag)
                    {
                        let (first, last) = (beyond.first, beyond.last);
                        let reason =
                            format!("tags {first} to {last} were not delivered, only 1 to {last_tag}");
                        return Err(Ended::refused(ErrorCode::Malformed, reason));
                    }
                    let settled = controls.settle(settlements).await?;
                    if settles.send((number, settled)).await.is_err() {
                        return Err(Ended::Lost);
                    }
                }
                other => return Err(Ended::unexpected(&other, "consumer")),
            }
        }
        if credit > 0 {
            controls.credit(credit).await?;
        }
        if !reader.fill().await? {
            return Ok(());
        }
    }
}

fn check_credit(credit: u64, guest: &Guest) -> Result<(), Ended> {
    let max = guest.config.credit_max;
    if credit <= max.into() {
        return Ok(());
    }
    Err(Ended::refused(
        ErrorCode::TooLarge,
        format!("credit for {credit} messages is over the {max} allowed"),
    ))
}

/// The answers to settles, in their order.
struct Answers {
    settles: mpsc::Receiver<(u64, Settled)>,
    next: Option<(u64, Settled)>,
}

impl Answers {
    /// The next answer; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// No answer is lost.
    async fn next(&mut self) -> Option<Result<frame::Settled, NodeError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<frame::Settled, NodeError>>> {
        if self.next.is_none() {
            self.next = ready!(self.settles.poll_recv(cx));
        }
        let Some((number, settled)) = &mut self.next else { return Poll::Ready(None) };
        let number = *number;
        let stale = ready!(Pin::new(settled).poll(cx));
        self.next = None;
        Poll::Ready(Some(stale.map(|stale| frame::Settled { number, stale })))
    }
}
