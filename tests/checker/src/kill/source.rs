//! Where the consumers of a kill run take their messages from: a queue, or a stream as a member of a group.

use wharf_client::{Client, ConsumeError, ConsumeOptions, Consumer, Delivery, MessageId, Start};
use wharf_protocol::Message;
use wharf_queue::partition_of;

use crate::Label;
use crate::history::{Queue, Seen};

/// The stream, bound to the topic of every message.
pub(super) const STREAM: &str = "journal";
/// How many partitions it has.
pub(super) const PARTITIONS: u16 = 3;
/// Its partitions as those see them who read them: each is a queue of its own to the judge.
pub(super) const FOLLOWERS: Partitions =
    ["journal/0 by followers", "journal/1 by followers", "journal/2 by followers"];
pub(super) const MILL: Partitions = ["journal/0 by mill", "journal/1 by mill", "journal/2 by mill"];
pub(super) const READER: Partitions = ["journal/0 by reader", "journal/1 by reader", "journal/2 by reader"];

/// What the judge calls the partitions of the stream.
pub(super) type Partitions = [Queue; PARTITIONS as usize];

/// Where messages are taken from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Queue(Queue),
    Group { group: &'static str, partitions: Partitions },
}

/// The group that acks what it gets, one by one.
pub(super) const FOLLOWING: Source = Source::Group { group: "followers", partitions: FOLLOWERS };
/// The group that acks what it gets in transactions.
pub(super) const MILLING: Source = Source::Group { group: "mill", partitions: MILL };

impl Source {
    pub(super) async fn open(
        self,
        client: &Client,
        options: ConsumeOptions,
    ) -> Result<Consumer, ConsumeError> {
        match self {
            Self::Queue(queue) => client.consume(queue, options).await,
            Self::Group { group, .. } => client.stream(STREAM)?.group(group, Start::First, options).await,
        }
    }

    /// What a delivery to `consumer` says.
    pub(super) fn seen(self, consumer: u32, delivery: &Delivery) -> Seen {
        let queue = match self {
            Self::Queue(queue) => queue,
            Self::Group { partitions, .. } => partitions[usize::from(delivery.partition)],
        };
        seen(queue, consumer, delivery)
    }

    /// How the report calls an ack.
    pub(super) fn ack(self) -> &'static str {
        match self {
            Self::Queue(_) => "ack",
            Self::Group { .. } => "ack by a group",
        }
    }
}

/// What a delivery says, from what the judge calls `queue`.
pub(super) fn seen(queue: Queue, consumer: u32, delivery: &Delivery) -> Seen {
    Seen {
        queue,
        consumer,
        // What moves leases is written before its effects, and the system survives: no boot is told apart.
        boot: 0,
        label: Label::read(&delivery.message.payload),
        id: delivery.id,
        offset: delivery.offset,
        attempt: delivery.attempt,
        redelivered: delivery.redelivered,
        died_in: delivery.death.as_ref().map(|death| death.queue.clone()),
    }
}

/// Everything that a message on its way to all queues and the stream has to come out of.
pub(super) fn destinations(message: &Message) -> Vec<Queue> {
    let nowhere = MessageId { index: 0, entry: 0 };
    let partition = usize::from(partition_of(message, nowhere, PARTITIONS));
    let views = [FOLLOWERS, MILL, READER].map(|partitions| partitions[partition]);
    super::QUEUES.into_iter().chain(views).collect()
}
