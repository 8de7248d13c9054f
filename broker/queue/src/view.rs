//! What people and metrics see of a state.

use wharf_protocol::{Death, MessageId, Name, Timestamp};

use crate::{ConsumerId, Past, QueueId};

/// One queue in numbers. `ready + leased + delayed + settled = enqueued`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Its number.
    pub id: QueueId,
    /// Its name.
    pub name: Name,
    /// Messages that the next consumer with credit gets.
    pub ready: u64,
    /// Messages that consumers hold.
    pub leased: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Consumers attached.
    pub consumers: u64,
    /// Messages that ever came in; the next one's offset.
    pub enqueued: u64,
    /// Messages that are done, in any way.
    pub settled: u64,
    /// Messages that consumers acked, or got at most once.
    pub acked: u64,
    /// Messages that went to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages whose time to live ran out.
    pub expired: u64,
    /// Messages that were purged.
    pub purged: u64,
    /// Dead letters that were sent on their way again from here.
    pub redriven: u64,
    /// Messages that were moved from here to another queue.
    pub moved: u64,
    /// Messages that were dropped to make room for newer ones.
    pub dropped: u64,
    /// Bytes of the messages that are not settled.
    pub bytes: u64,
    /// Keys (or tenants, in a fair queue) of which a message is in flight or resting after a failure.
    pub lanes_in_flight: u64,
    /// Ready messages that wait for their key's turn, as far as the queue has looked; all of them in a fair
    /// queue.
    pub lanes_waiting: u64,
    /// The one consumer that gets deliveries, where the policy says that one does.
    pub active: Option<ConsumerId>,
    /// Dead letters that lie here.
    pub dead: u64,
    /// Deliveries, first and further ones.
    pub delivered: u64,
    /// Deliveries that were nacked or whose lease lapsed.
    pub failed: u64,
    /// Deliveries that came back because their consumer left.
    pub returned: u64,
    /// The offset of the oldest message that is not settled, when there is one.
    pub oldest_offset: Option<u64>,
    /// When that one was stored.
    pub oldest_stored_at: Option<Timestamp>,
}

/// One message that lies in a queue or stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub offset: u64,
    /// Where its body lies.
    pub id: MessageId,
    /// When it was first stored.
    pub stored_at: Timestamp,
}

/// One message of a queue, looked at without being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsed {
    /// Its place.
    pub offset: u64,
    /// Where its body lies.
    pub id: MessageId,
    /// When it was first stored.
    pub stored_at: Timestamp,
    /// What it takes: topic, key, headers and payload.
    pub bytes: u32,
    /// What it waits for.
    pub place: Place,
    /// Deliveries that ended without settling it, in any queue.
    pub attempts: u32,
    /// Those of them, in this queue, that were nacked or lapsed.
    pub failures: u32,
    /// 0 to 31.
    pub priority: u8,
    /// When its time to live runs out, the queue's counted in.
    pub expires: Option<Timestamp>,
    /// Why it is dead, when it is.
    pub death: Option<Death>,
}

/// Where in its life an unsettled message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The next consumer with credit gets it, or the one after.
    Ready,
    /// A consumer holds it.
    Leased,
    /// It waits for its time.
    Delayed {
        /// Until then.
        until: Timestamp,
    },
}

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in the dead-letter queue.
    pub offset: u64,
    /// Where its body lies.
    pub id: MessageId,
    /// What it takes: topic, key, headers and payload.
    pub bytes: u32,
    /// Why it lies there.
    pub death: Death,
    /// What it went through before.
    pub past: Past,
}
