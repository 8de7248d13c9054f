//! What a consumer's stream begins with: a queue, or a stream and the place in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_protocol::Delivery;
use wharf_protocol::frame::{Frame, OpenReader, Subscribe};

/// How a consumer's stream is opened, now and after a lost connection.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    Queue(Subscribe),
    /// Without a group the place in the stream is the client's to know.
    Reader(OpenReader, Progress),
}

/// Where a reader goes on in each partition: after what its user has got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<BTreeMap<u16, u64>>>);

impl Opening {
    /// The first frame, for a subscription that begins with `credit`.
    pub(super) fn frame(&self, credit: u32) -> Frame {
        match self {
            Self::Queue(subscribe) => Frame::Subscribe(Subscribe { credit, ..subscribe.clone() }),
            Self::Reader(open, progress) => {
                let resume = progress.lock().iter().map(|(partition, next)| (*partition, *next)).collect();
                Frame::OpenReader(OpenReader { credit, resume, ..open.clone() })
            }
        }
    }

    /// The consumer's number on its connection and how long a lease lasts, by the broker's answer; `None` when that is
    /// no answer to this.
    pub(super) fn opened(&self, answer: &Frame) -> Option<(u64, Duration)> {
        match (self, answer) {
            (Self::Queue(_), Frame::Subscribed(told)) => {
                Some((told.consumer, Duration::from_millis(told.lease_ms)))
            }
            (Self::Reader(open, progress), Frame::ReaderOpened(told)) => {
                if open.group.is_none() {
                    let mut known = progress.lock();
                    for (partition, from) in &told.positions {
                        known.entry(*partition).or_insert(*from);
                    }
                }
                // What a member holds is its own until it leaves: nothing to renew.
                Some((told.consumer, Duration::ZERO))
            }
            _ => None,
        }
    }

    /// Where to note what the user has got.
    pub(super) fn progress(&self) -> Option<Progress> {
        match self {
            Self::Reader(open, progress) if open.group.is_none() => Some(progress.clone()),
            _ => None,
        }
    }
}

impl Progress {
    /// The user has got `delivery`.
    pub(super) fn got(&self, delivery: &Delivery) {
        self.lock().insert(delivery.partition, delivery.offset + 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
