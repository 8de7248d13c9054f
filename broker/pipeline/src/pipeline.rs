//! A pipeline, ready to run.
use wharf_protocol::{Name, Timestamp};

use crate::{Item, PipelineSpec, Problem, Processed, StageStats, Traced};

/// One version of a pipeline.
pub struct Pipeline {
    spec: PipelineSpec,
}

/// Why a pipeline cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The caller resolved too few or too many plugins.
    #[error("the pipeline has {stages} stages and {plugins} plugins were resolved for it")]
    Plugins {
        /// Stages of the spec.
        stages: usize,
        /// Plugins given.
        plugins: usize,
    },
    /// The plugin does not accept its configuration.
    #[error("stage {stage}: {problem}")]
    Config {
        /// Which stage.
        stage: Name,
        /// What the plugin says.
        problem: Problem,
    },
}

impl Pipeline {
    /// What it was made from.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    /// Runs `batch`, on the engine's threads: one answer a message, in order.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answers; the work that began goes on to its end.
    pub async fn run(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        let _ = (batch, now);
        vec![]
    }

    /// Runs one message and tells what each stage did.
    pub async fn run_traced(&self, item: Item, now: Timestamp) -> Traced {
        let _ = (item, now);
        unimplemented!()
    }

    /// What each stage has done so far.
    pub fn stats(&self) -> Vec<StageStats> {
        vec![]
    }
}
