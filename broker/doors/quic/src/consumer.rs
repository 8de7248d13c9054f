//! A consumer's stream: deliveries and answers out, credit and settlements in.
//!
//! One side writes: whatever deliveries wait are encoded together and written at once. A client that reads slowly
//! fills its window, and this stream alone stops. The other side reads credit, settlements and renewals and passes
//! them on; the answers come back to the writer in the order of what is answered.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Controls, Event, NodeError, Settled, Settler, SubscribeOptions, Subscription};
use wharf_protocol::ErrorCode;
use wharf_protocol::frame::{self, Cancelled, Durable, Frame, Subscribe, Subscribed};
use wharf_transport::{FrameReader, WRITE_BYTES};

use crate::connection::Guest;
use crate::ended::{Ended, write};

/// `Settle` and `Renew` frames that were handed to the node and are not answered.
const SETTLES_MAX: usize = 64;

/// A `Settle` or `Renew` frame whose answer is awaited.
struct Asked {
    number: u64,
    renewal: bool,
    answer: Settled,
}

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
    let Subscribe { queue, credit, auto_settle, until_empty, credit_bytes, durable } = subscribe;
    check_credit(credit.into(), guest)?;
    let options = SubscribeOptions { auto_settle, notify_empty: until_empty, credit, credit_bytes };
    if let Some(Durable { pattern, expires_ms }) = durable {
        let expires = (expires_ms > 0).then(|| Duration::from_millis(expires_ms));
        guest.node.keep_subscription(&guest.principal, &queue, &pattern, expires).await?;
    }
    let subscription = guest.node.subscribe(&guest.principal, &queue, options).await?;
    let lease_ms = u64::try_from(subscription.lease().as_millis()).unwrap_or(u64::MAX);
    let entered = guest.consumers.enter(Settler::Consumer(subscription.controls()));
    write(send, &Frame::Subscribed(Subscribed { consumer: entered.number, lease_ms })).await?;

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
                Some(answer) => answer?.encode(&mut out),
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
    settles: mpsc::Sender<Asked>,
    guest: &Guest,
) -> Result<(), Ended> {
    loop {
        let (mut credit, mut credit_bytes) = (0u32, 0u64);
        while let Some(frame) = reader.ready()? {
            match frame {
                Frame::Credit { messages: add, bytes } => {
                    credit_bytes = credit_bytes.saturating_add(bytes);
                    granted = granted.saturating_add(add.into());
                    check_credit(granted - delivered.messages.load(Ordering::Relaxed).min(granted), guest)?;
                    credit = credit.saturating_add(add);
                }
                Frame::Settle { number, settlements } => {
                    check_tags(settlements.iter().map(|each| (each.first, each.last)), delivered)?;
                    let answer = controls.settle(settlements).await?;
                    let asked = Asked { number, renewal: false, answer };
                    settles.send(asked).await.map_err(|_| Ended::Lost)?;
                }
                Frame::Renew { number, tags } => {
                    check_tags(tags.iter().copied(), delivered)?;
                    let answer = controls.renew(tags).await?;
                    let asked = Asked { number, renewal: true, answer };
                    settles.send(asked).await.map_err(|_| Ended::Lost)?;
                }
                other => return Err(Ended::unexpected(&other, "consumer")),
            }
        }
        if credit > 0 || credit_bytes > 0 {
            controls.credit(credit, credit_bytes).await?;
        }
        if !reader.fill().await? {
            return Ok(());
        }
    }
}

/// Refuses tags that were never given.
fn check_tags(tags: impl IntoIterator<Item = (u64, u64)>, delivered: &Delivered) -> Result<(), Ended> {
    let last_tag = delivered.last_tag.load(Ordering::Relaxed);
    match tags.into_iter().find(|(first, last)| *first == 0 || *last > last_tag) {
        None => Ok(()),
        Some((first, last)) => {
            let reason = format!("tags {first} to {last} were not delivered, only 1 to {last_tag}");
            Err(Ended::refused(ErrorCode::Malformed, reason))
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

/// The answers to settles and renewals, in their order.
struct Answers {
    settles: mpsc::Receiver<Asked>,
    next: Option<Asked>,
}

impl Answers {
    /// The next answer; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// No answer is lost.
    async fn next(&mut self) -> Option<Result<Frame, NodeError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, NodeError>>> {
        if self.next.is_none() {
            self.next = ready!(self.settles.poll_recv(cx));
        }
        let Some(Asked { number, renewal, answer }) = &mut self.next else { return Poll::Ready(None) };
        let (number, renewal) = (*number, *renewal);
        let stale = ready!(Pin::new(answer).poll(cx));
        self.next = None;
        Poll::Ready(Some(stale.map(|stale| {
            let answer = frame::Settled { number, stale };
            if renewal { Frame::Renewed(answer) } else { Frame::Settled(answer) }
        })))
    }
}
