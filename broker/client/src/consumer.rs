//! Consuming a queue: deliveries out, settlements in.

mod desk;
mod many;
mod opening;
mod renewals;
mod settle;

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::sync::Notify;
use wharf_protocol::frame::{Cancelled, Durable, Frame, Refusal, Subscribe};
use wharf_protocol::{Outcome, QueueName};
use wharf_transport::FrameReader;

use crate::client::WeakClient;
use crate::link::{self, Backoff, Ended, Link, Up, unexpected};
use crate::{Client, Confirm, ConsumeError, PublishError};
use desk::{Desk, Extent, Fetched, Held};
pub use many::{ack_all, dead_letter_all, nack_all};
pub(crate) use opening::{Opening, Progress};
pub use settle::Settle;

/// Leases are renewed no more often than this.
const RENEWAL_PAUSE_MIN: Duration = Duration::from_millis(10);

/// How a queue is consumed.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeOptions {
    /// How many deliveries may be unsettled at once. More are faster, until others go hungry; 1,024 unless told
    /// otherwise. The client holds so many messages at most.
    pub prefetch: u32,
    /// How many bytes of messages, as they are encoded, may be unsettled at once; 0, unless told otherwise: no
    /// bound. The next message comes while any are left, so that one may go over.
    pub prefetch_bytes: u64,
    /// Renew the leases of all deliveries that are neither settled nor dropped, for as long as the program lives:
    /// for work that takes longer than the queue's lease. One that hangs keeps its message. Off unless told otherwise.
    pub renew: bool,
    /// Settle each message before it is delivered: at most once, nothing to ack.
    pub auto_settle: bool,
    /// End once nothing is left to deliver.
    pub until_empty: bool,
    /// Ask for so many deliveries at most, and end after them: what comes later stays with the broker, untouched.
    pub limit: Option<u64>,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self {
            prefetch: 1024,
            prefetch_bytes: 0,
            renew: false,
            auto_settle: false,
            until_empty: false,
            limit: None,
        }
    }
}

/// The deliveries of one subscription: a [`Stream`], or call [`next`](Self::next).
///
/// After a lost connection it goes on with a new subscription. Dropping it ends the subscription: what was
/// delivered and not settled goes to others.
#[derive(Debug)]
pub struct Consumer {
    desk: Arc<Desk>,
    /// Taken from the desk together, delivered one by one.
    ready: Fetched,
    left: Arc<Notify>,
    client: Client,
    progress: Option<Progress>,
}

impl Consumer {
    /// The next delivery; `None` when there will be no more, for the reason that [`end`](Self::end) gives.
    ///
    /// # Cancel safety
    /// No delivery is lost.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// Why there are no more deliveries; `None` before the end, and at the end that
    /// [`until_empty`](ConsumeOptions::until_empty) asks for.
    pub fn end(&self) -> Option<ConsumeError> {
        self.desk.end()
    }

    /// Waits until everything settled so far is durable, or given up. Then the consumer can be dropped without
    /// a message that was acked being delivered again.
    pub async fn flush(&self) {
        self.desk.flush().await;
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if !self.desk.is_wanting() {
            return Poll::Ready(None);
        }
        loop {
            if let Some(delivery) = self.ready.pop(&self.desk) {
                self.desk.got_one();
                self.progress.iter().for_each(|progress| progress.got(&delivery));
                let desk = Some(Arc::clone(&self.desk));
                let client = self.client.downgrade();
                return Poll::Ready(Some(Delivery { delivery, round: self.ready.round, desk, client }));
            }
            match self.desk.poll_fetch(&mut self.ready, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for Consumer {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.get_mut().poll_delivery(cx)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.left.notify_one();
    }
}

/// A message that is leased to this consumer until it is settled.
///
/// Dropped unsettled, it stays leased until the lease runs out or the consumer goes, and is delivered again then.
#[derive(Debug)]
pub struct Delivery {
    delivery: wharf_protocol::Delivery,
    /// Of which of the consumer's subscriptions.
    round: u64,
    /// Where it is settled; `None` once it is.
    desk: Option<Arc<Desk>>,
    client: WeakClient,
}

impl Deref for Delivery {
    type Target = wharf_protocol::Delivery;

    fn deref(&self) -> &wharf_protocol::Delivery {
        &self.delivery
    }
}

impl Delivery {
    /// Done: it is never delivered again. Sent at once, together with its neighbours'; await what comes back to
    /// know that it is durable, or drop it.
    pub fn ack(self) -> Settle {
        self.settle(Extent::One, Outcome::Ack)
    }

    /// Deliver it again, at the earliest after `delay`; `None` leaves that to the queue's retry policy.
    pub fn nack(self, delay: Option<Duration>) -> Settle {
        self.settle(Extent::One, Outcome::Nack { delay })
    }

    /// Lay it in the dead-letter queue, with this reason (of which 1,024 bytes are kept).
    pub fn dead_letter(self, reason: impl Into<String>) -> Settle {
        self.settle(Extent::One, Outcome::DeadLetter { reason: reason.into() })
    }

    /// Done, and so is all that this consumer got before it and has not settled. Deliveries of those that are
    /// still held cannot be settled any more.
    pub fn ack_up_to(self) -> Settle {
        self.settle(Extent::UpTo, Outcome::Ack)
    }

    /// [`nack`](Self::nack), for all that this consumer got before it and has not settled as well.
    pub fn nack_up_to(self, delay: Option<Duration>) -> Settle {
        self.settle(Extent::UpTo, Outcome::Nack { delay })
    }

    /// [`dead_letter`](Self::dead_letter), for all that this consumer got before it and has not settled as well.
    pub fn dead_letter_up_to(self, reason: impl Into<String>) -> Settle {
        self.settle(Extent::UpTo, Outcome::DeadLetter { reason: reason.into() })
    }

    /// Lets its lease begin anew, as long as the queue's policy says: it is still being worked on. Await what comes
    /// back to know whether it was in time.
    pub fn renew(&self) -> Settle {
        match &self.desk {
            Some(desk) => desk.renew(self.round, self.delivery.tag),
            None => Settle::known(Err(crate::SettleError::Stale)),
        }
    }

    /// Answers it: publishes `payload` to its reply-to. It still has to be settled.
    ///
    /// # Errors
    /// When it asks for no reply, or the answer was not sent.
    pub async fn reply(&self, payload: impl Into<Bytes>) -> Result<Confirm, PublishError> {
        let client = self.client.upgrade().ok_or(PublishError::Closed)?;
        client.reply(&self.delivery.message, payload).await
    }

    /// By which a transaction settles it: its consumer's number on this connection and its tag; `None` when its lease
    /// is lost.
    pub(crate) fn settled_by(&self) -> Option<(u64, u64)> {
        let consumer = self.desk.as_ref()?.number(self.round)?;
        Some((consumer, self.delivery.tag))
    }

    fn settle(mut self, extent: Extent, outcome: Outcome) -> Settle {
        let desk = self.desk.take().expect("settling takes the delivery");
        desk.settle(self.round, self.held(), extent, outcome)
    }

    fn held(&self) -> Held {
        Held { tag: self.delivery.tag, bytes: self.delivery.message.encoded_bytes() as u64 }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.take() {
            desk.forget(self.round, self.held());
        }
    }
}

/// Consumes a queue.
pub(crate) async fn open_queue(
    client: &Client,
    queue: QueueName,
    options: ConsumeOptions,
    durable: Option<Durable>,
) -> Result<Consumer, ConsumeError> {
    let ConsumeOptions { prefetch, auto_settle, until_empty, prefetch_bytes: credit_bytes, .. } = options;
    let credit = prefetch.max(1);
    let subscribe = Subscribe { queue, credit, auto_settle, until_empty, credit_bytes, durable };
    open(client, Opening::Queue(subscribe), options).await
}

/// Opens a consumer and waits until the broker has taken it.
pub(crate) async fn open(
    client: &Client,
    opening: Opening,
    options: ConsumeOptions,
) -> Result<Consumer, ConsumeError> {
    let progress = opening.progress();
    let desk = Arc::new(Desk::new(&options));
    let left = Arc::new(Notify::new());
    let backoff = Backoff::new(client.pause_max());
    client.spawn(
        Role { opening, desk: Arc::clone(&desk), left: Arc::clone(&left), link: client.link(), backoff }
            .run(),
    );
    let consumer = Consumer { desk, ready: Fetched::default(), left, client: client.clone(), progress };
    consumer.desk.opened().await?;
    Ok(consumer)
}

/// The consumer's task.
struct Role {
    opening: Opening,
    desk: Arc<Desk>,
    left: Arc<Notify>,
    link: Link,
    backoff: Backoff,
}

impl Drop for Role {
    /// However it ends, nobody waits for ever.
    fn drop(&mut self) {
        self.desk.close(ConsumeError::Closed);
    }
}

impl Role {
    async fn run(mut self) {
        let (desk, stop, left) = (Arc::clone(&self.desk), self.link.stop.clone(), Arc::clone(&self.left));
        let left = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = left.notified() => {}
            }
            desk.flush().await;
        };
        tokio::select! {
            () = left => {}
            end = self.keep_consuming() => desk.close(end),
        }
    }

    /// Consumes over one connection after the other, until the broker ends it.
    async fn keep_consuming(&mut self) -> ConsumeError {
        loop {
            let up = match self.link.up().await {
                Ok(up) => up,
                Err(refusal) => return ConsumeError::Refused(refusal),
            };
            match self.consume(&up).await {
                Ended::Refused(refusal) if link::is_final(&refusal) => return ConsumeError::Refused(refusal),
                ended => tracing::debug!(reason = %ended, "consumer's stream over, opening another"),
            }
            self.desk.lose();
            self.backoff.wait().await;
        }
    }

    /// Consumes over one stream.
    async fn consume(&mut self, up: &Up) -> Ended {
        let (send, reader, answer) = match up.open(&self.opening.frame(self.desk.first_credit())).await {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        let Some((consumer, lease)) = self.opening.opened(&answer) else { return unexpected(&answer) };
        self.desk.open(consumer);
        self.backoff.reset();
        tokio::select! {
            ended = write(send, &self.desk) => ended,
            ended = read(reader, &self.desk) => ended,
            ended = renew(lease, &self.desk) => ended,
        }
    }
}

/// Renews what is held three times in each lease, where that goes by itself.
async fn renew(lease: Duration, desk: &Desk) -> Ended {
    if !lease.is_zero() {
        let mut interval = tokio::time::interval((lease / 3).max(RENEWAL_PAUSE_MIN));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            desk.renew_held();
        }
    }
    std::future::pending().await
}

/// Writes credit and settlements as they come, as many at a time as wait.
async fn write(mut send: quinn::SendStream, desk: &Desk) -> Ended {
    let mut out = BytesMut::new();
    loop {
        desk.take(&mut out);
        if out.is_empty() {
            desk.filled().await;
            continue;
        }
        if let Err(error) = send.write_chunk(out.split().freeze()).await {
            // The broker's reason, if it gave one, is on its way to the reader.
            tracing::debug!(%error, "writing");
            std::future::pending::<()>().await;
        }
    }
}

/// Reads deliveries and answers; what came together is passed on together.
async fn read(mut reader: FrameReader, desk: &Desk) -> Ended {
    let mut deliveries = Vec::new();
    loop {
        loop {
            match reader.ready() {
                Ok(Some(Frame::Deliver(delivery))) => deliveries.push(delivery),
                Ok(Some(Frame::Settled(settled))) => {
                    if let Err(reason) = desk.settled(settled) {
                        return Ended::Lost(reason);
                    }
                }
                Ok(Some(Frame::Renewed(renewed))) => {
                    if let Err(reason) = desk.renewed(renewed) {
                        return Ended::Lost(reason);
                    }
                }
                Ok(Some(Frame::Empty)) => {
                    desk.deliver(&mut deliveries);
                    desk.exhausted();
                }
                Ok(Some(Frame::Cancelled(Cancelled { code, reason }))) => {
                    return Ended::Refused(Refusal { code, reason });
                }
                Ok(Some(Frame::Error(refusal))) => return Ended::Refused(refusal),
                Ok(Some(other)) => return unexpected(&other),
                Ok(None) => break,
                Err(error) => return Ended::Lost(error.to_string()),
            }
        }
        desk.deliver(&mut deliveries);
        match reader.fill().await {
            Ok(true) => {}
            Ok(false) => return Ended::Lost("the broker ended the stream".into()),
            Err(error) => return error.into(),
        }
    }
}
