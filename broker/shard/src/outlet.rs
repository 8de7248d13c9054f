//! Where a shard lays what a consumer is to get, and the consumer takes it from.
//!
//! How much can lie here is bounded twice: the number by the consumer's credit, and the bytes of bodies by
//! [`BODY_BYTES_MAX`]; past that a delivery waits as the place where its body can be read again.

use std::collections::VecDeque;
use std::sync::PoisonError;
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;
use wharf_protocol::{Death, Message, MessageId, Timestamp};

/// Bodies that wait in one outlet, in bytes; later ones are read from the log when their turn comes.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A delivery whose body may still lie in the log.
#[derive(Debug)]
pub struct Outgoing {
    /// What its settlement names it by.
    pub tag: u64,
    /// Where its body lies.
    pub id: MessageId,
    /// Its place in its queue.
    pub offset: u64,
    /// 1 at the first delivery.
    pub attempt: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// When it was first stored.
    pub stored_at: Timestamp,
    /// Why it was dead-lettered, when it was.
    pub death: Option<Box<Death>>,
    /// The message, while it is still in memory.
    pub body: Option<Message>,
}

/// Why an outlet gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its queue was deleted.
    QueueDeleted,
    /// The node stops.
    Stopping,
}

/// What [`Outlet::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Deliveries.
    Some,
    /// None, and the queue has none ready either.
    Empty,
}

/// Filled by the shard, emptied by one subscription.
#[derive(Debug, Default)]
pub struct Outlet {
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    deliveries: VecDeque<Outgoing>,
    body_bytes: usize,
    /// The queue ran empty after the deliveries that wait.
    empty: bool,
    closed: Option<Closed>,
}

impl Outlet {
    /// Lays down what `deliveries` holds, in order, and leaves it empty.
    pub fn put(&self, deliveries: &mut Vec<Outgoing>) {
        let mut waiting = self.lock();
        waiting.empty = false;
        for mut delivery in deliveries.drain(..) {
            let bytes = delivery.body.as_ref().map_or(0, |message| message.payload.len());
            if waiting.body_bytes + bytes > BODY_BYTES_MAX {
                delivery.body = None;
            } else {
                waiting.body_bytes += bytes;
            }
            waiting.deliveries.push_back(delivery);
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// Says that the queue has nothing ready, after what was put before.
    pub fn put_empty(&self) {
        self.lock().empty = true;
        self.ready.notify_one();
    }

    /// Nothing comes any more; what waits is dropped.
    pub fn close(&self, why: Closed) {
        let mut waiting = self.lock();
        waiting.closed.get_or_insert(why);
        waiting.deliveries.clear();
        drop(waiting);
        self.ready.notify_one();
    }

    /// Waits for something and appends at most `max` deliveries to `out`.
    ///
    /// # Cancel safety
    /// What is not taken stays.
    pub async fn take(&self, max: usize, out: &mut Vec<Outgoing>) -> Result<Taken, Closed> {
        loop {
            if let Some(taken) = self.take_now(max, out)? {
                return Ok(taken);
            }
            self.ready.notified().await;
        }
    }

    fn take_now(&self, max: usize, out: &mut Vec<Outgoing>) -> Result<Option<Taken>, Closed> {
        let mut waiting = self.lock();
        if let Some(why) = waiting.closed {
            return Err(why);
        }
        if waiting.deliveries.is_empty() {
            return Ok(std::mem::take(&mut waiting.empty).then_some(Taken::Empty));
        }
        let count = max.min(waiting.deliveries.len());
        for delivery in waiting.deliveries.drain(..count).collect::<Vec<_>>() {
            waiting.body_bytes -= delivery.body.as_ref().map_or(0, |message| message.payload.len());
            out.push(delivery);
        }
        Ok(Some(Taken::Some))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(tag: u64, bytes: usize) -> Outgoing {
        Outgoing {
            tag,
            id: MessageId { index: tag, entry: 0 },
            offset: tag,
            attempt: 1,
            redelivered: false,
            stored_at: Timestamp(0),
            death: None,
            body: Some(Message::new("a".parse().expect("a topic"), vec![0; bytes])),
        }
    }

    #[tokio::test]
    async fn bodies_over_the_bound_wait_in_the_log() {
        let outlet = Outlet::default();
        outlet.put(&mut vec![outgoing(1, BODY_BYTES_MAX), outgoing(2, 1)]);

        let mut out = Vec::new();
        assert_eq!(outlet.take(8, &mut out).await, Ok(Taken::Some));
        assert!(out[0].body.is_some());
        assert!(out[1].body.is_none());

        outlet.put(&mut vec![outgoing(3, 1)]);
        assert_eq!(outlet.take(8, &mut out).await, Ok(Taken::Some));
        assert!(out[2].body.is_some(), "what was taken makes room");
    }

    #[tokio::test]
    async fn empty_is_told_once_and_after_the_deliveries() {
        let outlet = Outlet::default();
        outlet.put(&mut vec![outgoing(1, 1)]);
        outlet.put_empty();

        let mut out = Vec::new();
        assert_eq!(outlet.take(8, &mut out).await, Ok(Taken::Some));
        assert_eq!(outlet.take(8, &mut out).await, Ok(Taken::Empty));
        outlet.close(Closed::QueueDeleted);
        assert_eq!(outlet.take(8, &mut out).await, Err(Closed::QueueDeleted));
    }
}
