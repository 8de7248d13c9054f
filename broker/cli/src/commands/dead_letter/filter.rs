//! Which dead letters are meant, as `search` and `redrive` are told.

use wharf_admin::dead_letter::Filter;
use wharf_node::PluginRef;
use wharf_protocol::{DeathCause, QueueName, Timestamp};

use crate::units;

/// Which dead letters: those of which all that is given is true.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Only those whose reason has this in it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those with this cause: max-attempts, rejected, stage, stage-fault, expired, overflow
    #[arg(long, value_parser = cause)]
    cause: Option<DeathCause>,
    /// Only those that this stage refused or broke on: pipeline/stage, or a pipeline
    #[arg(long)]
    stage: Option<String>,
    /// Only those that this plugin refused or broke on
    #[arg(long, value_name = "NAME[@VERSION]")]
    plugin: Option<PluginRef>,
    /// Only those that died in this queue, or on their way there
    #[arg(long, value_name = "QUEUE")]
    died_in: Option<QueueName>,
    /// Only those with this header; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = units::header)]
    headers: Vec<(String, String)>,
    /// Only those that died since a moment, or as long ago: 2026-11-22T18:30:00Z, 10m
    #[arg(long, value_name = "TIME", value_parser = units::moment)]
    since: Option<Timestamp>,
    /// Only those that died before a moment
    #[arg(long, value_name = "TIME", value_parser = units::moment)]
    until: Option<Timestamp>,
}

impl Args {
    pub(super) fn is_given(&self) -> bool {
        self.filter() != Filter::default()
    }

    pub(super) fn filter(&self) -> Filter {
        Filter {
            reason: self.reason.clone(),
            cause: self.cause,
            stage: self.stage.clone(),
            plugin: self.plugin.clone(),
            died_in: self.died_in.clone(),
            headers: self.headers.iter().cloned().collect(),
            since: self.since.map(|at| at.to_string()),
            until: self.until.map(|at| at.to_string()),
        }
    }
}

fn cause(text: &str) -> Result<DeathCause, String> {
    let named = serde_json::from_value(serde_json::Value::from(text));
    named.map_err(|_| "a cause is max-attempts, rejected, stage, stage-fault, expired or overflow".to_owned())
}
