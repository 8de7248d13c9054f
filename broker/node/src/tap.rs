//! Live views of what is published: at most once, lossy, bounded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use wharf_protocol::{Message, Pattern};

use crate::{Action, NodeError, Principal};

/// Messages that wait in one tap before the oldest are missed.
const WAITING_MAX: usize = 4096;
/// Bytes of payload that wait in one tap before the oldest are missed.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A live view of the messages whose topic matches a pattern.
///
/// Lossy: who reads too slowly misses the oldest, and is told how many. Dropping it ends it.
#[derive(Debug)]
pub struct Tap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pattern: Pattern,
    principal: Principal,
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    missed: u64,
    closed: bool,
}

impl Tap {
    /// Waits for at least one message and appends what waits; returns how many were missed before them.
    ///
    /// # Errors
    /// [`NodeError::Closing`].
    ///
    /// # Cancel safety
    /// What is not taken stays.
    pub async fn next(&mut self, out: &mut Vec<Message>) -> Result<u64, NodeError> {
        loop {
            {
                let mut waiting = self.0.lock();
                if !waiting.messages.is_empty() {
                    out.extend(waiting.messages.drain(..));
                    waiting.bytes = 0;
                    return Ok(std::mem::take(&mut waiting.missed));
                }
                if waiting.closed {
                    return Err(NodeError::Closing("no more live messages".into()));
                }
            }
            self.0.ready.notified().await;
        }
    }
}

impl Inner {
    /// Whether it takes the message.
    fn offer(&self, message: &Message) -> bool {
        if !self.pattern.matches(&message.topic)
            || self.principal.check(Action::Consume(message.topic.as_str())).is_err()
        {
            return false;
        }
        let mut waiting = self.lock();
        waiting.bytes += message.payload.len();
        waiting.messages.push_back(message.clone());
        while waiting.messages.len() > WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = waiting.messages.pop_front() else { break };
            waiting.bytes -= oldest.payload.len();
            waiting.missed += 1;
        }
        drop(waiting);
        self.ready.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every open tap of a node.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    open: Mutex<Vec<Weak<Inner>>>,
    count: AtomicUsize,
}

impl Taps {
    pub(crate) fn open(&self, principal: Principal, pattern: Pattern) -> Tap {
        let inner = Arc::new(Inner { pattern, principal, waiting: Mutex::default(), ready: Notify::new() });
        let mut open = self.lock();
        open.retain(|tap| tap.strong_count() > 0);
        open.push(Arc::downgrade(&inner));
        self.count.store(open.len(), Ordering::Release);
        Tap(inner)
    }

    /// Whether anybody looks: publishing without taps costs one load.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Shows `message` to every tap that it concerns; how many those are.
    pub(crate) fn offer(&self, message: &Message) -> usize {
        let (mut open, mut heard) = (self.lock(), 0);
        open.retain(|tap| {
            let Some(tap) = tap.upgrade() else { return false };
            heard += usize::from(tap.offer(message));
            true
        });
        self.count.store(open.len(), Ordering::Release);
        heard
    }

    pub(crate) fn close(&self) {
        for tap in self.lock().drain(..).filter_map(|tap| tap.upgrade()) {
            tap.lock().closed = true;
            tap.ready.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Inner>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str) -> Message {
        Message::new(topic.parse().expect("a topic"), "x")
    }

    #[tokio::test]
    async fn a_slow_tap_misses_the_oldest_and_is_told() {
        let taps = Taps::default();
        let mut tap = taps.open(Principal::system(), "orders.#".parse().expect("a pattern"));
        taps.offer(&message("prices"));
        for _ in 0..WAITING_MAX + 3 {
            taps.offer(&message("orders.eu"));
        }

        let mut out = Vec::new();
        assert_eq!(tap.next(&mut out).await, Ok(3));
        assert_eq!(out.len(), WAITING_MAX);
    }

    #[tokio::test]
    async fn a_dropped_tap_costs_nothing_more() {
        let taps = Taps::default();
        drop(taps.open(Principal::system(), "#".parse().expect("a pattern")));
        taps.offer(&message("a"));
        assert!(!taps.any());
    }
}
