//! Why a pipeline cannot run.

use wharf_protocol::Name;

use crate::{Grant, Kind, Need, Problem, ReadsError, SpecError};

/// Why a pipeline cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The spec contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The caller resolved too few or too many plugins.
    #[error("the pipeline has {stages} stages and {plugins} plugins were resolved for it")]
    Plugins {
        /// Stages of the spec.
        stages: usize,
        /// Plugins given.
        plugins: usize,
    },
    /// The plugin is not of the kind asked for, or of several and none was named.
    #[error("stage {stage}: {}", kind_text(*asked, kinds))]
    Kind {
        /// Which stage.
        stage: Name,
        /// The kind that the spec names.
        asked: Option<Kind>,
        /// The kinds that the plugin is.
        kinds: Vec<Kind>,
    },
    /// A policy that would let unchecked messages through.
    #[error(
        "stage {0}: on-failure = \"bypass\" would let unchecked messages through a validator; use \"reject\" or \
         \"dead-letter\""
    )]
    BypassedValidator(Name),
    /// Outputs for a kind that has none.
    #[error("stage {stage}: a {kind} sends nothing anywhere; remove its outputs")]
    NoOutputs {
        /// Which stage.
        stage: Name,
        /// Its kind.
        kind: Kind,
    },
    /// The plugin needs what its stage does not grant.
    #[error("stage {stage}: the plugin uses {need}; add {} to the stage's grants", need.example())]
    NotGranted {
        /// Which stage.
        stage: Name,
        /// What it imports.
        need: Need,
    },
    /// The stage's configuration names what it does not grant.
    #[error("stage {stage}: its configuration names {grant}; add \"{grant}\" to the stage's grants")]
    NotGrantedByName {
        /// Which stage.
        stage: Name,
        /// What is to be granted.
        grant: Grant,
    },
    /// The plugin does not accept its configuration.
    #[error("stage {stage}: the plugin refuses its configuration: {problem}")]
    Config {
        /// Which stage.
        stage: Name,
        /// What the plugin says, with the path to what is wrong.
        problem: Problem,
    },
    /// The plugin broke while it took its configuration.
    #[error("stage {stage}: the plugin broke while it took its configuration: {problem}")]
    Init {
        /// Which stage.
        stage: Name,
        /// How.
        problem: Problem,
    },
    /// What the plugin would read with this configuration is out of bounds.
    #[error("stage {stage}: with this configuration, {error}")]
    Reads {
        /// Which stage.
        stage: Name,
        /// Which bound.
        error: ReadsError,
    },
    /// The host failed.
    #[error("the host failed while it prepared the pipeline")]
    Host,
}

fn kind_text(asked: Option<Kind>, kinds: &[Kind]) -> String {
    let kinds = kinds.iter().map(Kind::to_string).collect::<Vec<_>>().join(", ");
    match asked {
        Some(asked) => format!("the plugin is no {asked}; it is: {kinds}"),
        None => format!("the plugin is several; say which with kind = \"…\", one of: {kinds}"),
    }
}
