//! Plugins, stages and pipelines: the only crate that names wasmtime.
//!
//! ```text
//!  bytes ─▶ Engine::load ─▶ Plugin ┐
//!                                  ├─▶ Engine::prepare ─▶ Pipeline::run(messages) ─▶ one answer a message
//!  TOML ──▶ PipelineSpec ──────────┘
//! ```
//!
//! A plugin is hostile until proven otherwise. Whatever it does, loops, traps, takes memory, floods its log,
//! answers nonsense, costs the message that it did it on; the messages beside it, the other pipelines and the
//! process go on. What it may take is in [`Limits`]; what it may use is what its stage grants.
//!
//! This crate knows nothing of queues, files of the log, or the network.

mod again;
mod batch;
mod bindings;
mod breaker;
mod cache;
mod circumstances;
pub mod compare;
mod compile;
mod config_schema;
mod engine;
mod flow;
mod grant;
pub mod harness;
mod here;
mod host;
mod instance;
mod library;
mod limits;
mod logbook;
mod memory;
mod outcome;
mod pipeline;
mod plugin;
mod prepare_error;
mod reads;
mod recorder;
mod share;
mod spec;
mod stage;
mod stats;
mod text;
mod ticker;
mod trace;
mod view;
mod wanted;
mod wasi;
mod way;
mod worker;

pub use again::{Departure, departure};
pub use breaker::{BreakerState, BreakerView, FAULTS_TO_OPEN, LastFault};
pub use circumstances::{Circumstances, Outdated};
pub use compile::{COMPILE_SUBCOMMAND, CompileError, Compiler, compile_plugin_main};
pub use engine::{Engine, EngineConfig, EngineError};
pub use grant::{Grant, GrantError, Need};
pub use library::{Library, Schema, Secret, Table};
pub use limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Limits, OUTPUTS_MAX};
pub use memory::{Memories, Memory, Recall};
pub use outcome::{Failure, FailureKind, Fault, Item, Output, Problem, Processed};
pub use pipeline::{Pipeline, TimedRun};
pub use plugin::{CONTRACT_VERSION, Description, LoadError, Plugin, SCHEMA_BYTES_MAX, SUMMARY_BYTES_MAX};
pub use prepare_error::PrepareError;
pub use reads::{READ_HEADERS_MAX, Reads, ReadsError};
pub use recorder::{RECORDING_VERSION, RecordError, Recorded, Recording, RecordingHead};
pub use share::{CpuShare, CpuShareError, CpuUse};
pub use spec::{
    DEADLINE_MS_MAX, DECLARED_OUTPUTS_MAX, Kind, OnFailure, PipelineSpec, PluginRef, PluginRefError,
    STAGES_MAX, SpecError, StageSpec, Target, TargetError,
};
pub use stats::{CALL_TIME_EDGES_US, StageStats, Verdicts};
pub use trace::{Change, EXCERPT_BYTES_MAX, Excerpt, Level, LogLine, Shown, Snapshot, Step, Traced, Verdict};
