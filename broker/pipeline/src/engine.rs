//! The engine: one a process.
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Limits, LoadError, Pipeline, PipelineSpec, Plugin, PrepareError};

/// How to make an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The bounds on guest code.
    pub limits: Limits,
    /// How many threads run guest code.
    pub threads: usize,
    /// How many instances may exist at once.
    pub instances: u32,
    /// Where compiled plugins are kept; `None`: they are compiled again in each process.
    pub cache: Option<PathBuf>,
    /// Who compiles.
    pub compiler: Compiler,
    /// Counts fuel: exact and repeatable, and slower. For harnesses.
    pub fuel: bool,
}

/// Who compiles components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This process: for tests and harnesses.
    InProcess,
    /// A child, started as `EXE compile-plugin`, whose `main` calls [`compile_plugin_main`](crate::compile_plugin_main).
    Child(PathBuf),
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("the plugin engine does not start: {0}")]
pub struct EngineError(pub(crate) String);

/// Runs plugins. Cheap to clone; one a process.
#[derive(Clone)]
pub struct Engine;

impl Engine {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let _ = config;
        Ok(Self)
    }

    /// Checks, compiles and describes a component. Blocks for as long as compiling takes.
    ///
    /// # Errors
    /// What is wrong with the component.
    pub fn load(&self, wasm: &Bytes) -> Result<Arc<Plugin>, LoadError> {
        let _ = wasm;
        Err(LoadError::NotWasm)
    }

    /// Makes `spec` ready to run, with one plugin a stage. Blocks while each stage's `init` runs.
    ///
    /// # Errors
    /// The first stage that does not fit its plugin, and why.
    pub fn prepare(
        &self,
        spec: PipelineSpec,
        plugins: Vec<Arc<Plugin>>,
    ) -> Result<Arc<Pipeline>, PrepareError> {
        let _ = (spec, plugins);
        Err(PrepareError::Plugins { stages: 0, plugins: 0 })
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            limits: Limits::default(),
            threads: cores + 1,
            instances: 1000,
            cache: None,
            compiler: Compiler::InProcess,
            fuel: false,
        }
    }
}
