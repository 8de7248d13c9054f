//! A consumer's stream: deliveries and answers out, credit and settlements in.
//!
//! One side writes: whatever deliveries wait are encoded together and written at once. A client that reads slowly
//! fills its window, and this stream alone stops. The other side reads credit, settlements and renewals and passes
//! them on; the answers come back to the writer in the order of what is answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use quinn::SendStream;
use tokio::sync::mpsc;
use wharf_node::{Controls, Event, NodeError, Settled, Settler, SubscribeOptions, Subscription};
use wharf_protocol::frame::{self, Cancelled, Durable, Frame, Subscribe, Subscribed};
use wharf_transport::{FrameReader, WRITE_BYTES};

use crate::asked::{self, Answers, Asked, check_tags};
use crate::connection::Guest;
use crate::ended::{Ended, write};

/// What was delivered so far, for the side that reads.
#[derive(Default)]
struct Delivered {
    messages: AtomicU64,
    last_tag: AtomicU64,
}

impl Delivered {
    fn last_tag(&self) -> u64 {
        self.last_tag.load(Ordering::Relaxed)
    }
}

/// Serves a consumer until its client ends it or the queue is gone.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    subscribe: Subscribe,
    guest: &Guest,
) -> Result<(), Ended> {
    let Subscribe { queue, credit, auto_settle, until_empty, credit_bytes, durable } = subscribe;
    guest.check_credit(credit.into())?;
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
    let (settles, answers) = asked::channel();
    let listen = listen(reader, subscription.controls(), credit.into(), &delivered, settles, guest);
    let deliver = deliver(send, subscription, answers, &delivered);
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
    mut answers: Answers<Settled>,
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
    settles: mpsc::Sender<Asked<Settled>>,
    guest: &Guest,
) -> Result<(), Ended> {
    loop {
        let (mut credit, mut credit_bytes) = (0u32, 0u64);
        while let Some(frame) = reader.ready()? {
            match frame {
                Frame::Credit { messages: add, bytes } => {
                    credit_bytes = credit_bytes.saturating_add(bytes);
                    granted = granted.saturating_add(add.into());
                    guest.check_credit(granted - delivered.messages.load(Ordering::Relaxed).min(granted))?;
                    credit = credit.saturating_add(add);
                }
                Frame::Settle { number, settlements } => {
                    check_tags(settlements.iter().map(|each| (each.first, each.last)), delivered.last_tag())?;
                    let answer = controls.settle(settlements).await?;
                    let asked = Asked { number, renewal: false, answer };
                    settles.send(asked).await.map_err(|_| Ended::Lost)?;
                }
                Frame::Renew { number, tags } => {
                    check_tags(tags.iter().copied(), delivered.last_tag())?;
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
