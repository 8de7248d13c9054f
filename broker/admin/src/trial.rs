//! Versions of a pipeline that are not in use yet: replayed on stored messages, and on trial on live ones.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::compare::{self, Times};
use wharf_node::{
    CanaryBounds, Candidate, Node, Principal, ReplayReport, ReplaySource, SHARE_WHOLE_PPM, TrialKind,
    TrialSpec, TrialView,
};
use wharf_protocol::{Name, Start};

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path, Query};
use crate::pipeline::Pipeline;
use crate::step::word;

/// How many messages are replayed when nothing is said.
const REPLAYED: u64 = 1_000;
/// The most messages of one replay.
const REPLAYED_MAX: u64 = 1_000_000;
/// How many examples of a difference are shown when nothing is said.
const EXAMPLES: usize = 3;

/// Stored messages that run through a candidate and through the active version. Nothing is stored or delivered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// The version to compare with the active one; or give `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The text of a pipeline file, TOML or JSON, in place of a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// The stream where the messages lie; or give `dead_letters`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Where in the stream to begin: `first`, an offset or a time; the beginning when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Before which offset or time to end; what is there now when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The queue with the dead letters; those that the pipeline gave up are the messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// At most so many messages; 1,000 when it is not given, at most 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Examples of each class of differences; 3 when it is not given, at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples: Option<usize>,
    /// At most so many messages a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayResult {
    /// The pipeline.
    pub pipeline: String,
    /// The active version.
    pub live: u32,
    /// The candidate's version; 0 of one that came as a file.
    pub candidate: u32,
    /// What differs.
    pub comparison: Comparison,
    /// Why it ended before all messages were through, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Dead letters that were passed over: this pipeline did not give them up.
    #[serde(default)]
    pub left_out: u64,
}

/// Messages that ran through two versions, counted by how the outcomes differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// Messages.
    pub compared: u64,
    /// Those whose outcomes are the same.
    pub same: u64,
    /// Those whose outcomes differ.
    pub different: u64,
    /// What differs.
    pub classes: Vec<Class>,
    /// Differences in classes beyond those that are told apart.
    pub beyond: u64,
    /// What became of the messages in the active version. Messages that both refuse are the same.
    #[serde(default)]
    pub live: Totals,
    /// What became of them in the candidate.
    #[serde(default)]
    pub candidate: Totals,
    /// How long messages wait for the active version.
    pub live_time: Time,
    /// How long they wait for the candidate.
    pub candidate_time: Time,
}

/// Messages, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VerdictTotals)]
pub struct Totals {
    /// They go on.
    pub passed: u64,
    /// They end there, on purpose.
    pub dropped: u64,
    /// A stage refused them.
    pub rejected: u64,
    /// A stage wants them again later.
    pub retried: u64,
    /// A stage broke on them.
    pub faults: u64,
}

/// Differences of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DifferenceClass)]
pub struct Class {
    /// What differs: `verdict`, `error`, `outputs`, `destination`, `header`, `field` or `payload`.
    pub aspect: String,
    /// Which: the path in the payload, the header's name, the two verdicts.
    pub of: String,
    /// In how many messages.
    pub messages: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// One message in which something differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DifferenceExample)]
pub struct Example {
    /// The message: of a stream as `partition:offset`, of dead letters its id, of a trial its topic and key.
    pub message: String,
    /// Where exactly.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// What the active version has there.
    pub live: String,
    /// What the candidate has there.
    pub candidate: String,
}

/// How long messages wait, in microseconds; percentiles are rounded up to half an octave. A message waits as long as its
/// whole batch takes; copies run in batches of their own, of at most 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Time {
    /// Half of the messages take no longer.
    pub p50_us: u64,
    /// 99 of 100 messages take no longer.
    pub p99_us: u64,
    /// What all of them took together: divided by the messages, the share of one.
    pub total_us: u64,
}

/// A version to try on live messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginTrial {
    /// The version.
    pub version: u32,
    /// `shadow`: it is shown copies. `canary`: it processes its share, until a bound is passed.
    pub kind: String,
    /// Its share of the messages in percent, by key; all when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<f64>,
    /// Of a canary: how many percent may fail; 1 when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors_max_percent: Option<f64>,
    /// Of a canary: how many percent may come out otherwise than from the active version; 100 when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence_max_percent: Option<f64>,
    /// Of a canary: how long 99 of 100 messages may take, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_max_us: Option<u64>,
    /// Of a canary: the bounds hold for each run of so many messages; 500 when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// Of a canary: it is activated when so many messages kept the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<u64>,
    /// Why; kept in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A version on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trial {
    /// The version.
    pub version: u32,
    /// `shadow` or `canary`.
    pub kind: String,
    /// Its share of the messages in percent.
    pub share_percent: f64,
    /// A canary's bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// When it began, RFC 3339. What follows is counted since then or since the broker started.
    pub at: String,
    /// Who began it.
    pub by: String,
    /// Why.
    pub note: String,
    /// Messages that a canary processed for good.
    pub processed: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long they waited for it.
    pub time: Time,
    /// Messages that could not be compared: there was no room.
    pub skipped: u64,
    /// What was compared with the active version.
    pub comparison: Comparison,
}

/// What a canary may do and go on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CanaryBounds)]
pub struct Bounds {
    /// How many percent may fail.
    pub errors_max_percent: f64,
    /// How many percent may come out otherwise.
    pub divergence_max_percent: f64,
    /// How long 99 of 100 messages may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_max_us: Option<u64>,
    /// The bounds hold for each run of so many messages.
    pub after: u32,
    /// It is activated when so many messages kept them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<u64>,
}

/// Why a trial is ended.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Note {
    /// Why; kept in the history.
    note: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(replay)).routes(routes!(begin, end))
}

/// Runs stored messages through a candidate and the active version, and compares what comes out.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/replay", tag = "pipelines", request_body = Replay,
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = ReplayResult), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn replay(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(replay): Json<Replay>,
) -> Result<axum::Json<ReplayResult>, Problem> {
    Ok(axum::Json(node.replay_pipeline(&who, &name, replay.try_into()?).await?.into()))
}

/// Begins to try a version on live messages: as a shadow, or as a canary.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/trial", tag = "pipelines", request_body = BeginTrial,
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = Pipeline), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn begin(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(trial): Json<BeginTrial>,
) -> Result<axum::Json<Pipeline>, Problem> {
    let spec = trial.spec()?;
    Ok(axum::Json(node.begin_trial(&who, &name, spec, trial.note).await?.into()))
}

/// Ends the trial of a pipeline: all messages go through the active version again.
#[utoipa::path(
    delete, path = "/v1/pipelines/{name}/trial", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Note),
    responses((status = 200, body = Trial), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn end(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Query(Note { note }): Query<Note>,
) -> Result<axum::Json<Trial>, Problem> {
    Ok(axum::Json(node.end_trial(&who, &name, note).await?.into()))
}

/// The version that a request names, if it names one.
pub(crate) fn candidate(version: Option<u32>, spec: Option<String>) -> Result<Candidate, Problem> {
    match (version, spec) {
        (Some(_), Some(_)) => Err(Problem::invalid("give a version or a spec, not both")),
        (Some(version), None) => Ok(Candidate::Version(version)),
        (None, Some(spec)) => Ok(Candidate::Spec(spec)),
        (None, None) => Ok(Candidate::InUse),
    }
}

impl TryFrom<Replay> for wharf_node::Replay {
    type Error = Problem;

    fn try_from(replay: Replay) -> Result<Self, Problem> {
        let Replay { version, spec, stream, from, until, dead_letters, limit, examples, per_second } = replay;
        let name = |text: String| text.parse::<Name>().map_err(Problem::invalid);
        let start = |text: Option<String>| {
            text.map(|text| text.parse::<Start>()).transpose().map_err(Problem::invalid)
        };
        let source = match (stream, dead_letters) {
            (Some(stream), None) => ReplaySource::Stream {
                stream: name(stream)?,
                from: start(from)?.unwrap_or_default(),
                until: start(until)?,
            },
            (None, Some(queue)) => ReplaySource::DeadLetters(name(queue)?),
            _ => {
                return Err(Problem::invalid(
                    "a replay takes its messages from a stream or from dead_letters",
                ));
            }
        };
        Ok(Self {
            candidate: candidate(version, spec)?,
            source,
            limit: limit.unwrap_or(REPLAYED).min(REPLAYED_MAX),
            examples: examples.unwrap_or(EXAMPLES),
            per_second,
        })
    }
}

impl BeginTrial {
    fn spec(&self) -> Result<TrialSpec, Problem> {
        let share = |percent: Option<f64>, default: f64| ppm(percent.unwrap_or(default));
        let kind = match self.kind.as_str() {
            "shadow" => TrialKind::Shadow,
            "canary" => TrialKind::Canary(CanaryBounds {
                errors_max_ppm: share(self.errors_max_percent, 1.0)?,
                divergence_max_ppm: share(self.divergence_max_percent, 100.0)?,
                p99_max_us: self.p99_max_us,
                after: self.after.unwrap_or(500),
                promote_after: self.promote_after,
            }),
            other => {
                return Err(Problem::invalid(format_args!("a trial is a shadow or a canary, not {other:?}")));
            }
        };
        Ok(TrialSpec { number: self.version, share_ppm: share(self.share_percent, 100.0)?, kind })
    }
}

/// Percent as millionths.
fn ppm(percent: f64) -> Result<u32, Problem> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(Problem::invalid(format_args!("a share is 0 to 100 percent, not {percent}")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: at most a million")]
    Ok((percent / 100.0 * f64::from(SHARE_WHOLE_PPM)).round() as u32)
}

fn percent(ppm: u32) -> f64 {
    f64::from(ppm) * 100.0 / f64::from(SHARE_WHOLE_PPM)
}

impl From<ReplayReport> for ReplayResult {
    fn from(report: ReplayReport) -> Self {
        Self {
            pipeline: report.pipeline.to_string(),
            live: report.live,
            candidate: report.candidate,
            comparison: report.comparison.into(),
            stopped: report.stopped,
            left_out: report.left_out,
        }
    }
}

impl From<compare::Comparison> for Comparison {
    fn from(comparison: compare::Comparison) -> Self {
        let classes = comparison.classes.iter().map(|found| Class {
            aspect: found.class.aspect.as_str().to_owned(),
            of: found.class.of.clone(),
            messages: found.messages,
            examples: found.examples.iter().cloned().map(Example::from).collect(),
        });
        Self {
            compared: comparison.compared,
            same: comparison.same(),
            different: comparison.different,
            classes: classes.collect(),
            beyond: comparison.beyond,
            live: comparison.live_totals.into(),
            candidate: comparison.candidate_totals.into(),
            live_time: Time::from(&comparison.live_times),
            candidate_time: Time::from(&comparison.candidate_times),
        }
    }
}

impl From<compare::Totals> for Totals {
    fn from(totals: compare::Totals) -> Self {
        let compare::Totals { passed, dropped, rejected, retried, faults } = totals;
        Self { passed, dropped, rejected, retried, faults }
    }
}

impl From<compare::Example> for Example {
    fn from(example: compare::Example) -> Self {
        let compare::Example { message, at, live, candidate } = example;
        Self { message, at, live, candidate }
    }
}

impl From<&Times> for Time {
    fn from(times: &Times) -> Self {
        Self { p50_us: times.percentile_us(50), p99_us: times.percentile_us(99), total_us: times.total_us() }
    }
}

impl From<TrialView> for Trial {
    fn from(view: TrialView) -> Self {
        let trial = view.trial;
        let (kind, bounds) = match trial.kind {
            TrialKind::Shadow => (word(&trial.kind), None),
            TrialKind::Canary(bounds) => ("canary".to_owned(), Some(Bounds::from(bounds))),
        };
        Self {
            version: trial.number,
            kind,
            share_percent: percent(trial.share_ppm),
            bounds,
            at: trial.at.to_string(),
            by: trial.by,
            note: trial.note,
            processed: view.processed,
            failed: view.failed,
            time: Time::from(&view.times),
            skipped: view.skipped,
            comparison: view.comparison.into(),
        }
    }
}

impl From<CanaryBounds> for Bounds {
    fn from(bounds: CanaryBounds) -> Self {
        Self {
            errors_max_percent: percent(bounds.errors_max_ppm),
            divergence_max_percent: percent(bounds.divergence_max_ppm),
            p99_max_us: bounds.p99_max_us,
            after: bounds.after,
            promote_after: bounds.promote_after,
        }
    }
}
