//! The consumers of a shard's queues: what a batch gives each of them, and the outlet where it is laid.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use wharf_protocol::{Message, Name};
use wharf_queue::{Attach, ConsumerId, Deliver, Durability, Topology};

use crate::outlet::{Closed, Outgoing, Outlet};

/// All consumers that are attached, or are about to be.
#[derive(Default)]
pub(super) struct Consumers {
    by_id: HashMap<ConsumerId, Consumer>,
    /// Those whose outlet is to be filled after the batch, in the order in which the batch came to them.
    touched: Vec<ConsumerId>,
}

struct Consumer {
    outlet: Arc<Outlet>,
    /// Its deliveries of the batch being applied.
    fresh: Vec<Outgoing>,
    empty: bool,
    /// Its queue, when a delivery to it settles the message.
    settles: Option<Name>,
}

impl Consumers {
    /// Known before its record is applied, so that its first deliveries find it.
    pub(super) fn attach(&mut self, attach: &Attach, outlet: Arc<Outlet>) {
        let settles = attach.auto_settle.then(|| attach.queue.clone());
        let consumer = Consumer { outlet, fresh: Vec::new(), empty: false, settles };
        self.by_id.insert(attach.consumer, consumer);
    }

    /// It left, or was not let in.
    pub(super) fn detach(&mut self, consumer: ConsumerId) {
        self.by_id.remove(&consumer);
    }

    /// Its queue is gone, and it is told so.
    pub(super) fn cancel(&mut self, consumer: ConsumerId) {
        if let Some(consumer) = self.by_id.remove(&consumer) {
            consumer.outlet.close(Closed::QueueDeleted);
        }
    }

    /// Notes a delivery for after the batch; one to a consumer that is gone goes back with its lease.
    pub(super) fn deliver(&mut self, deliver: Deliver, body: Option<Message>) {
        let Some(consumer) = self.by_id.get_mut(&deliver.consumer) else { return };
        if consumer.fresh.is_empty() && !consumer.empty {
            self.touched.push(deliver.consumer);
        }
        consumer.empty = false;
        consumer.fresh.push(Outgoing {
            tag: deliver.tag,
            id: deliver.id,
            offset: deliver.offset,
            attempt: deliver.attempt,
            redelivered: deliver.redelivered,
            stored_at: deliver.stored_at,
            death: deliver.death,
            body,
        });
    }

    /// Its queue has nothing more for it, after what it was given so far.
    pub(super) fn ran_empty(&mut self, consumer: ConsumerId) {
        if let Some(entry) = self.by_id.get_mut(&consumer) {
            entry.empty = true;
            self.touched.push(consumer);
        }
    }

    /// Whether a delivery of the batch settles its message in a queue that promises to have that on disk first.
    pub(super) fn wait_for_sync(&self, topology: &Topology) -> bool {
        let settles = |consumer: &Consumer| {
            let queue = consumer.settles.as_ref().and_then(|queue| topology.queue(queue.as_str()));
            !consumer.fresh.is_empty()
                && queue.is_some_and(|info| info.policy.durability == Durability::Fsync)
        };
        self.touched.iter().filter_map(|id| self.by_id.get(id)).any(settles)
    }

    /// Lays what the batch gave to each where it is taken from.
    pub(super) fn fill_outlets(&mut self) {
        for id in self.touched.drain(..) {
            let Some(consumer) = self.by_id.get_mut(&id) else { continue };
            if !consumer.fresh.is_empty() {
                consumer.outlet.put(&mut consumer.fresh);
            }
            if mem::take(&mut consumer.empty) {
                consumer.outlet.put_empty();
            }
        }
    }

    /// The shard stops, and all are told.
    pub(super) fn close(&self) {
        for consumer in self.by_id.values() {
            consumer.outlet.close(Closed::Stopping);
        }
    }
}
