//! One running broker, embeddable in any tokio program. [`Node`] is its handle.
//!
//! The way of a message reads downwards in [`Node::publish`] (`publish.rs`): *admit* (access, size, alarms) →
//! *ingress pipelines* → *bindings and their pipelines* (`journey.rs`) → *store*. The shard's
//! owner (`broker/shard`) writes what waits together, syncs once, applies it to the state, and carries the
//! effects out: receipts to publishers, deliveries into outlets, where a [`Subscription`] takes them.
//!
//! This crate knows no socket, no HTTP, no QUIC: doors and the admin API translate to it.

mod access;
mod agenda;
mod alarm;
mod audit;
mod browse;
mod components;
mod config;
mod dead_letters;
mod dedup;
mod deliver_at;
mod durable;
mod error;
mod journey;
mod kv;
mod lent;
mod memories;
mod memory;
mod node;
mod owner;
mod pace;
mod pipelines;
mod plugins;
mod producers;
mod publish;
mod queues;
mod quota;
mod reader;
mod receipts;
mod record;
mod scheduler;
mod schedules;
pub mod signature;
mod status;
mod streams;
mod subscription;
mod tap;
mod timetable;
mod trace;
mod transact;
mod transfers;
mod view;
mod watcher;
mod way_out;

pub use access::{Action, Credentials, Identity, Principal};
pub use audit::{
    AuditAsked, AuditDone, AuditEntry, AuditEvent, AuditFilter, AuditProblem, AuditReport, AuditView,
    verify_audit,
};
pub use browse::{BrowsedView, MessagePlace};
pub use config::Config;
pub use dead_letters::{
    Discarded, LETTERS_NAMED_MAX, LETTERS_TOLD_MAX, LetterEdit, LetterFate, LetterFilter, LetterPage,
    LetterTold, Letters, REDRIVEN_MAX, Redriven,
};
pub use dedup::DedupView;
pub use error::{NodeError, StartError};
pub use kv::{KV_LIST_MAX, KvEntryView, KvView};
pub use lent::{LENT_BYTES_MAX, LentFormat, LentKind, LentView};
pub use memory::resident_bytes;
pub use node::Node;
pub use pipelines::{Candidate, Replay, ReplayReport, ReplaySource, TrialSpec, TrialView};
pub use plugins::{COLLECTED_MAX, KnownPlugin, Upload};
pub use producers::NewLife;
pub use publish::Publication;
pub use quota::{Presence, Quota};
pub use reader::{ReadOptions, Reader, ReaderControls, ReaderSettled};
pub use receipts::Receipts;
pub use schedules::{ScheduleSpec, ScheduleView};
pub use streams::{LastOfKey, StreamView};
pub use subscription::{Controls, Event, Settled, SubscribeOptions, Subscription};
pub use tap::Tap;
pub use trace::{
    Again, GIVEN_BYTES_MAX, Given, Landing, ParseTraceIdError, Pass, PassAgain, Rerun, RerunOptions,
    RunDifference, SEQUELS_MAX, Sequel, SequelKind, SpanId, TRACE, TRACE_BYTES_MAX, Trace, TraceConfig,
    TraceCounts, TraceFeed, TraceFilter, TraceId, TraceKey, TraceSummary, TraceVerdict, Why,
};
pub use transact::{Settler, Transact, Transacted};
pub use transfers::{TransferEnd, TransferSpec, TransferView};
pub use view::{
    Binding, Collected, CollectedPlugin, DeadLetterView, LogView, Metrics, PipelineChange,
    PipelineVersionView, PipelineView, PluginView, PrincipalView, PublishCounts, QueueView, Status,
    StreamLoad, TryDestination, TryReport, TryResult,
};
pub use wharf_pipeline::compare;
pub use wharf_pipeline::{
    BreakerState, BreakerView, CALL_TIME_EDGES_US, CpuShare, CpuUse, Excerpt, Kind, Limits, Need,
    OUTPUTS_MAX, PluginRef, Reads, Recorded, Recording, Shown, StageStats, Step, Verdict, Verdicts,
};
pub use wharf_queue::{
    Backoff, CanaryBounds, CursorView, Deduplication, Durability, EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET,
    GiveUp, GiveUpTo, GroupView, Order, Overflow, PartitionView, PipelineEventKind, QueuePolicy,
    SHARE_WHOLE_PPM, StreamPolicy, TrialKind,
};
pub use wharf_shard::StreamMessage;
