//! A traced message once more through the pipelines that it passed.
//!
//! Time, random bits and what was read of a pipeline's memory come from the trace, so that the same version makes the same
//! bytes: each stage's outputs are held against the recorded ones by their SHA-256. Another version is run on the same,
//! and told in what its outcome differs. Nothing is stored, delivered, or counted, but fuel: runs of this kind go through
//! code that meters itself, which messages under way do not pay for.

use std::sync::Arc;

use wharf_pipeline::compare::{self, Difference, Differences};
use wharf_pipeline::{Item, Pipeline, Step, Traced, departure};
use wharf_protocol::{Name, Timestamp};

use super::{Pass, Trace, TraceId, TraceKey};
use crate::{Action, Node, NodeError, Principal};

/// Passes that are run again in one request; a trace has few.
const PASSES_MAX: usize = 64;

/// What of a trace is run again, and by which version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RerunOptions {
    /// Only this pipeline; all that the message passed, when it is not given.
    pub pipeline: Option<Name>,
    /// Another version than the one that the message passed.
    pub version: Option<u32>,
}

/// One traced message, run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerun {
    /// Its trace.
    pub trace: TraceId,
    /// When it was traced.
    pub at: Timestamp,
    /// Where it was published.
    pub topic: String,
    /// The pipelines, in the order in which it passed them.
    pub passes: Vec<PassAgain>,
}

/// One pipeline that a traced message passed, once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassAgain {
    /// The pipeline.
    pub pipeline: Name,
    /// The version that it passed.
    pub then: u32,
    /// The version that ran now.
    pub now: u32,
    /// The queue on whose binding the pipeline is; `None`: at ingress, or on the way out.
    pub on_way_to: Option<Name>,
    /// The queue or stream on whose way to a consumer the pipeline is.
    pub on_way_from: Option<Name>,
    /// What each stage said now, with its fuel.
    pub steps: Vec<Step>,
    /// How that is to what was recorded.
    pub outcome: Again,
}

/// How a run is to the one that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same: of the same version, at every stage, to the byte; of another one, its outcome.
    Same,
    /// Otherwise: of the same version, the first thing; of another one, what differs in its outcome.
    Differs {
        /// In what.
        found: Vec<RunDifference>,
        /// How many differences more there are.
        more: u64,
    },
    /// It cannot be had again, and why.
    Impossible(String),
}

/// One thing in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDifference {
    /// The stage where it shows, where that is known.
    pub stage: Option<Name>,
    /// What differs.
    pub what: String,
    /// What was recorded, or the recorded version has there.
    pub then: String,
    /// What is there now.
    pub now: String,
}

impl Node {
    /// Runs what is traced under an id once more, oldest first, and compares it with what was recorded.
    ///
    /// # Errors
    /// No such trace; the message did not pass the pipeline; several pipelines and one version; not allowed; the store
    /// of traces does not work.
    pub async fn rerun(
        &self,
        who: &Principal,
        key: TraceKey,
        options: RerunOptions,
    ) -> Result<Vec<Rerun>, NodeError> {
        who.check(Action::Administer)?;
        let traces = self.trace(who, key, std::time::Duration::ZERO).await?;
        let wanted = |pass: &Pass| options.pipeline.as_ref().is_none_or(|name| *name == pass.pipeline);
        check(&traces, &options)?;
        let mut reruns = Vec::with_capacity(traces.len());
        let mut room = PASSES_MAX;
        for trace in traces {
            let passes: Vec<Pass> = trace.passes.into_iter().filter(wanted).take(room).collect();
            room -= passes.len();
            let mut again = Vec::with_capacity(passes.len());
            for pass in passes {
                again.push(self.pass_again(pass, options.version).await);
            }
            reruns.push(Rerun { trace: trace.id, at: trace.at, topic: trace.given.topic, passes: again });
        }
        Ok(reruns)
    }

    async fn pass_again(&self, pass: Pass, version: Option<u32>) -> PassAgain {
        let Pass { pipeline, number: then, on_way_to, on_way_from, steps, given, circumstances, .. } = pass;
        let now = version.unwrap_or(then);
        let again = |steps, outcome| PassAgain {
            pipeline: pipeline.clone(),
            then,
            now,
            on_way_to,
            on_way_from,
            steps,
            outcome,
        };
        let item = given.and_then(|given| given.item());
        let (Some(item), Some(circumstances)) = (item, circumstances) else {
            return again(Vec::new(), Again::Impossible(not_kept()));
        };
        let circumstances = Arc::new(circumstances);
        let recorded = match self.run_version(&pipeline, then, item.clone(), &circumstances).await {
            Ok(traced) => traced,
            Err(reason) => return again(Vec::new(), Again::Impossible(reason)),
        };
        let departed = departure(&steps, &recorded.steps);
        if now == then {
            let outcome = match departed {
                None => Again::Same,
                Some(found) => Again::Differs { found: vec![found.into()], more: 0 },
            };
            return again(recorded.steps, outcome);
        }
        if let Some(found) = departed {
            let reason = format!(
                "version {then} itself does not give again what was recorded: at {}, {} is {:?} and was {:?}",
                found.stage, found.what, found.now, found.then
            );
            return again(recorded.steps, Again::Impossible(reason));
        }
        match self.run_version(&pipeline, now, item, &circumstances).await {
            Err(reason) => again(Vec::new(), Again::Impossible(reason)),
            Ok(other) => {
                let Differences { found, places_cut, classes_cut } =
                    compare::differences(&recorded.processed, &other.processed);
                let outcome = match found.is_empty() {
                    true => Again::Same,
                    false => Again::Differs {
                        found: found.into_iter().map(RunDifference::from).collect(),
                        more: places_cut + classes_cut,
                    },
                };
                again(other.steps, outcome)
            }
        }
    }

    /// Runs a message through a version of a pipeline in what it hung on then.
    async fn run_version(
        &self,
        name: &Name,
        number: u32,
        item: Item,
        circumstances: &Arc<wharf_pipeline::Circumstances>,
    ) -> Result<Traced, String> {
        let ready = self.metered_version(name, number).await;
        let pipeline: Arc<Pipeline> = ready.map_err(|error| error.to_string())?;
        let circumstances = Arc::clone(circumstances);
        // One thread of the plugins for all trials, replays and this; compiling came before.
        let _turn = self.pipelines_in_use().trials.turn().await;
        let run = tokio::task::spawn_blocking(move || pipeline.run_again(item, &circumstances));
        let ran = run.await.map_err(|error| format!("the run failed: {error}"))?;
        ran.map_err(|outdated| outdated.to_string())
    }
}

/// Whether there is one pipeline that the options can be about.
fn check(traces: &[Trace], options: &RerunOptions) -> Result<(), NodeError> {
    let mut passed: Vec<&Name> =
        traces.iter().flat_map(|trace| &trace.passes).map(|pass| &pass.pipeline).collect();
    passed.sort_unstable();
    passed.dedup();
    let names = || passed.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    match (&options.pipeline, &passed[..]) {
        (_, []) => {
            Err(NodeError::Invalid("the message passed no pipeline: there is nothing to run again".into()))
        }
        (Some(name), _) if !passed.contains(&name) => {
            Err(NodeError::Invalid(format!("the message did not pass {name}; it passed {}", names())))
        }
        (None, [_, _, ..]) if options.version.is_some() => {
            let names = names();
            Err(NodeError::Invalid(format!(
                "a version is of one pipeline, and the message passed {names}: name one"
            )))
        }
        _ => Ok(()),
    }
}

fn not_kept() -> String {
    format!(
        "the message was not kept whole: it had over {} KiB, or only the step on which it failed was kept (`wharf dlq \
         try` runs a dead letter)",
        super::GIVEN_BYTES_MAX / 1024
    )
}

impl From<wharf_pipeline::Departure> for RunDifference {
    fn from(found: wharf_pipeline::Departure) -> Self {
        Self { stage: Some(found.stage), what: found.what, then: found.then, now: found.now }
    }
}

impl From<Difference> for RunDifference {
    fn from(difference: Difference) -> Self {
        let Difference { class, at, live, candidate } = difference;
        let what = match at.is_empty() {
            true => class.to_string(),
            false => format!("{} {at}", class.aspect.as_str()),
        };
        Self { stage: None, what, then: live, now: candidate }
    }
}
