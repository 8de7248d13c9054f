//! What people and metrics see of a state.

use wharf_protocol::{Death, MessageId, Name, Timestamp};

use crate::QueueId;

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

/// One message that lies in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub offset: u64,
    /// Where its body lies.
    pub id: MessageId,
    /// When it was first stored.
    pub stored_at: Timestamp,
}

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in the dead-letter queue.
    pub offset: u64,
    /// Where its body lies.
    pub id: MessageId,
    /// Why it lies there.
    pub death: Death,
}
