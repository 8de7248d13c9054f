//! What a plugin may take: every bound on guest code has its name and its default here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many messages one guest call carries at most.
pub const BATCH_MESSAGES_MAX: usize = 64;

/// How many bytes of messages one guest call carries at most, unless a single message is larger.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The bounds on guest code. All are on by default; each can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// How long one call may take, whatever the number of messages in it; a stage may set its own.
    pub deadline_ms: u64,
    /// How much linear memory an instance may take.
    pub memory_bytes: usize,
    /// How much linear memory instances may have together while they wait to be used again; over it, they are dropped.
    pub idle_memory_bytes: usize,
    /// How much native stack guest code may take.
    pub stack_bytes: usize,
    /// How large the component itself may be.
    pub component_bytes: usize,
    /// How much machine code a component may become.
    pub compiled_bytes: usize,
    /// How long compiling may take.
    pub compile_ms: u64,
    /// How much memory the compiling process may take.
    pub compile_memory_bytes: u64,
    /// How many messages one message may become in a pipeline.
    pub outputs: usize,
    /// How many bytes those may have in all.
    pub output_bytes: usize,
    /// How many bytes of output one call may make for all its messages; over it, the batch is split.
    pub batch_output_bytes: usize,
    /// How many bytes one crossing from guest to host may carry: the arguments of an import, or a result.
    pub crossing_bytes: usize,
    /// How many handles an instance may hold.
    pub handles: usize,
    /// How many log lines a call may write; more are counted and dropped.
    pub log_lines: usize,
    /// How long a log line may be; the rest is cut.
    pub log_line_bytes: usize,
    /// How many counters of its own a stage may have.
    pub counters: usize,
}

/// The most that [`Limits::outputs`] is set to: one publication becomes no more on its whole way.
pub const OUTPUTS_MAX: usize = 1024;

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            deadline_ms: 100,
            memory_bytes: 64 * MIB,
            idle_memory_bytes: 512 * MIB,
            stack_bytes: 512 * 1024,
            component_bytes: 32 * MIB,
            compiled_bytes: 256 * MIB,
            compile_ms: 60_000,
            compile_memory_bytes: 4096 * MIB as u64,
            outputs: 16,
            output_bytes: 4 * MIB,
            batch_output_bytes: 32 * MIB,
            crossing_bytes: 8 * MIB,
            handles: 256,
            log_lines: 100,
            log_line_bytes: 4096,
            counters: 64,
        }
    }
}

impl Limits {
    /// How long one call may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

/// How many messages one may become, and where that is set.
pub(crate) fn outputs_text(outputs: usize) -> String {
    format!("at most {outputs} (`outputs` under [plugins] in the broker's configuration)")
}
