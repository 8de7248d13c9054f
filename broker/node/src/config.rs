//! What a node is told at start.

use std::path::PathBuf;
use std::time::Duration;

use wharf_pipeline::Limits;

use crate::signature::Trust;
use crate::{Identity, TraceConfig};

/// Settings of a [`Node`](crate::Node). `Config::new(folder)` has every default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its data lives; created when missing, and locked while the node runs.
    pub data: PathBuf,
    /// Who may do what. Nobody else gets in.
    pub principals: Vec<Identity>,
    /// The largest encoded message that is taken, and the largest that a pipeline may make.
    pub message_bytes_max: usize,
    /// The largest component that is taken.
    pub plugin_bytes_max: usize,
    /// How often a message may pass through pipelines and be routed on before it is taken for a loop.
    pub hops_max: u8,
    /// Publishes are refused, while consuming goes on, when the disk has less room than this.
    pub disk_free_bytes_min: u64,
    /// Publishes are refused, while consuming goes on, when the process has more memory than this; `None`: 70 % of what
    /// the machine or the control group has.
    pub memory_bytes_max: Option<u64>,
    /// Bytes of log in a segment.
    pub segment_bytes: u32,
    /// The bounds on plugins, compiled and running; the size of a component is [`Config::plugin_bytes_max`].
    pub plugin_limits: Limits,
    /// Whose plugins are taken.
    pub trust: Trust,
    /// Threads that run plugins; 0: one a core, and one more.
    pub plugin_threads: usize,
    /// The program that compiles a plugin apart from the broker: it is run with the argument
    /// `compile-plugin`. `None` compiles in this process, which a hostile plugin can exhaust.
    pub compiler: Option<PathBuf>,
    /// Which messages are traced, and how much of that is kept.
    pub trace: TraceConfig,
    /// How long a stopping node waits for what it has begun.
    pub drain: Duration,
}

impl Config {
    /// Every default, with the data in `data` and no principal.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            principals: Vec::new(),
            message_bytes_max: 1024 * 1024,
            plugin_bytes_max: 32 * 1024 * 1024,
            hops_max: 8,
            disk_free_bytes_min: 256 * 1024 * 1024,
            memory_bytes_max: None,
            segment_bytes: 64 * 1024 * 1024,
            plugin_limits: Limits::default(),
            trust: Trust::default(),
            plugin_threads: 0,
            compiler: None,
            trace: TraceConfig::default(),
            drain: Duration::from_secs(10),
        }
    }
}
