//! Plugins, stages and pipelines: the only crate that names wasmtime.

mod bindings;
mod breaker;
mod engine;
mod host;
mod limits;
mod outcome;
mod pipeline;
mod plugin;
mod spec;
mod stats;
mod trace;

pub use breaker::{BreakerState, FAULTS_TO_OPEN};
pub use engine::{Compiler, Engine, EngineConfig, EngineError};
pub use limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Limits};
pub use outcome::{Failure, FailureKind, Fault, Item, Output, Problem, Processed};
pub use pipeline::{Pipeline, PrepareError};
pub use plugin::{Description, LoadError, Plugin, Reads};
pub use spec::{
    DEADLINE_MS_MAX, DECLARED_OUTPUTS_MAX, Grant, Kind, OnFailure, PipelineSpec, PluginRef, PluginRefError,
    STAGES_MAX, SpecError, StageSpec, Target, TargetError,
};
pub use stats::{CALL_TIME_EDGES_US, StageStats, Verdicts};
pub use trace::{Change, EXCERPT_BYTES_MAX, Excerpt, Level, LogLine, Shown, Snapshot, Step, Traced, Verdict};

/// The `main` of the hidden subcommand `compile-plugin`: a component on standard input, machine code on
/// standard output.
pub fn compile_plugin_main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
