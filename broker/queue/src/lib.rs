//! The state machine of delivery: records in, effects out.
//!
//! [`State::apply`] folds one [`Record`] at a time into queues, leases, dead letters, deduplication and
//! topology, and answers with the [`Effect`]s to carry out: receipts, deliveries, refusals. It is the only
//! way to change a state, for live traffic and for recovery alike, so both decide the same.
//!
//! There is no file, clock, task or chance in here: time is [`Stamped::at`], jitter is a hash of the record's
//! index, and nothing is decided by the order of a hash map. Message bodies stay in the log; the state
//! knows a message by its [`MessageId`](wharf_protocol::MessageId) and size alone, 12 bytes while it waits.
//!
//! ```
//! use wharf_protocol::{Message, Receipt, Timestamp};
//! use wharf_queue::{Attach, Change, ConsumerId, Destination, Effect, Entry, Publish, QueuePolicy};
//! use wharf_queue::{Record, Stamped, State};
//!
//! let mut state = State::default();
//! let mut effects = Vec::new();
//! let mut index = 0;
//! let mut apply = |state: &mut State, record| {
//!     index += 1;
//!     state.apply(index, &Stamped { at: Timestamp(index), record }, &mut effects);
//!     std::mem::take(&mut effects)
//! };
//!
//! let orders: wharf_protocol::Name = "orders".parse().expect("a name");
//! let create = Change::CreateQueue { name: orders.clone(), policy: QueuePolicy::default() };
//! apply(&mut state, Record::Topology(create));
//! let queue = state.topology().queue("orders").expect("just made").id;
//!
//! let attach = Attach { consumer: ConsumerId(1), queue: orders, credit: 10, ..Attach::default() };
//! apply(&mut state, Record::Attach(attach));
//!
//! let message = Message::new("orders.new".parse().expect("a topic"), "a");
//! let entry = Entry { message, destinations: vec![Destination::from(queue)] };
//! let told = apply(&mut state, Record::Publish(Publish::from(entry)));
//! assert!(matches!(told[0], Effect::Receipt(Receipt::Stored(_))));
//! assert!(matches!(told[1], Effect::Deliver(_)));
//! ```

mod backlog;
mod bindings;
mod codec;
mod consumer;
mod effect;
mod kv;
mod lane;
mod live;
mod message_ids;
mod pack;
mod past;
mod policy;
mod producers;
mod purse;
mod queue;
mod record;
#[cfg(feature = "seeded-faults")]
pub mod seeded;
#[cfg(not(feature = "seeded-faults"))]
#[expect(dead_code, unreachable_pub, reason = "faults exist for the checks only")]
mod seeded;
mod snapshot;
mod state;
mod stream;
mod timers;
mod topology;
mod transaction;
mod view;

pub use codec::DecodeRecordError;
pub use effect::{Assignment, Deliver, Effect, Refusal, STALE_TAGS_MAX};
pub use kv::{Kv, KvChange, KvPart, KvRead, KvView, is_stale, is_stale_rejection, kv_digest};
pub use lane::{LOAD_PERIOD_MS, PARKED_MAX, TENANTS_REMEMBERED_MAX};
pub use message_ids::Deduplication;
pub use past::{PAST_DEATHS_MAX, Past};
pub use policy::{Backoff, DEAD_LETTERS, Durability, FAIR_BY_BYTES_MAX, Order, Overflow, QueuePolicy};
pub use producers::{PRODUCER_IDLE_MAX, PRODUCER_RANGES_MAX, PRODUCERS_MAX};
pub use record::{
    Attach, Change, Commit, ConsumerId, Destination, Edit, Entry, Failed, JoinGroup, MOVED_MAX, Move, Passed,
    Publish, QueueId, Record, Redrive, Refused, ResetGroup, Resolve, Selection, Stamped, Start,
};
pub use snapshot::RestoreError;
pub use state::{EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET, State, StreamPlaces};
pub use stream::{
    CursorView, GROUP_WINDOW_MAX, GiveUp, GiveUpTo, GroupView, PARTITIONS_MAX, PartitionView, StreamPolicy,
    StreamView, partition_of,
};
pub use topology::{
    Binding, CanaryBounds, LENT_MAX, Lent, LentKind, Pipeline, PipelineEvent, PipelineEventKind,
    PipelineVersion, Plugin, QueueInfo, SCHEDULED_MESSAGE_BYTES_MAX, SCHEDULES_MAX, SHARE_WHOLE_PPM,
    Schedule, StreamInfo, Topology, Trial, TrialKind,
};
pub use transaction::Transaction;
pub use view::{Browsed, DeadLetter, Place, QueueView, Waiting};
