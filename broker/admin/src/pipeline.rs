//! Pipelines: numbered versions of a list of stages.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{
    BreakerView, CpuUse, Node, PipelineChange, PipelineVersionView, PipelineView, Principal, StageStats,
};
use wharf_protocol::{Message, Name};

use crate::error::{Code, ErrorBody, Problem};
use crate::extract::{Body, Json, Path, Query, content_type};
use crate::message::MessageJson;
use crate::step::{Trace, word};
use crate::trial::{Trial, candidate};

/// A pipeline, as its active version has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// The number of the active version.
    pub version: u32,
    /// The topics whose messages go through it before they are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// The queues and streams whose deliveries go through it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivery: Vec<String>,
    /// Every version that is kept, by number.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// The queues with a binding that goes through it.
    pub bound_to: Vec<String>,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// What it has taken of processor time.
    #[serde(default)]
    pub cpu: Cpu,
    /// The pipeline file of the active version, as TOML; every plugin has its version.
    pub spec: String,
    /// Why it does not run, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// The version that is tried beside the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A stage of a pipeline, and what it has done since this version was activated or the broker started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// Its name in the pipeline.
    pub name: String,
    /// Its plugin, as `name@version`.
    pub plugin: String,
    /// As what it is used: `validator`, `router`, `transformer`, `enricher`.
    pub kind: String,
    /// Calls of the plugin.
    pub calls: u64,
    /// Messages given to it.
    pub messages: u64,
    /// Messages by what it said of them.
    pub verdicts: Verdicts,
    /// Time in calls, in microseconds.
    pub busy_us: u64,
    /// Messages that the plugin broke on, by how.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// Whether it is called, and why not.
    pub breaker: Breaker,
}

/// The circuit breaker of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Breaker {
    /// `closed`: called as usual; `open`: not for a while; `half-open`: with one message, to see.
    pub state: String,
    /// For how long it has been so, in milliseconds.
    pub since_ms: u64,
    /// Faults in a row.
    pub faults_in_a_row: u32,
    /// How often it opened.
    pub opened: u64,
    /// When the next message may try, in milliseconds from now; only when it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_in_ms: Option<u64>,
    /// How the plugin broke last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<LastFault>,
}

/// How a plugin broke last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastFault {
    /// By what metrics count it.
    pub code: String,
    /// What it did, in one sentence.
    pub message: String,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
}

/// What a pipeline has taken of processor time, since this version was activated or the broker started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cpu {
    /// What it may take, as `50%` of one processor; absent: what there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// Time in its plugins, in microseconds.
    pub busy_us: u64,
    /// How often a batch of messages waited for its share.
    pub waits: u64,
    /// How long they waited in all, in microseconds.
    pub waited_us: u64,
    /// How long the next batch would wait now, in microseconds.
    pub owed_us: u64,
}

/// Messages by what became of them at a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdicts {
    /// Accepted, passed or kept as they were.
    pub passed: u64,
    /// Changed, or made into others.
    pub changed: u64,
    /// Sent to declared outputs.
    pub routed: u64,
    /// Dropped on purpose.
    pub dropped: u64,
    /// Refused.
    pub rejected: u64,
    /// To be tried again.
    pub retried: u64,
    /// The plugin broke.
    pub faults: u64,
}

/// A version of a pipeline, active or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PipelineVersion)]
pub struct Version {
    /// Its number.
    pub version: u32,
    /// When it was applied or staged, RFC 3339.
    pub at: String,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub note: String,
}

/// An entry in a pipeline's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The version that it is about.
    pub version: u32,
    /// What was done with it: `activated`, `rolled-back`, `promoted`, `staged`, `shadow-began`, `shadow-ended`,
    /// `canary-began` or `canary-ended`.
    pub change: String,
    /// When, RFC 3339.
    pub at: String,
    /// By whom; `wharf` for the broker itself.
    pub by: String,
    /// Why, in their words.
    pub note: String,
    /// The place in the log: of a version that was activated, messages stored later passed it.
    pub index: u64,
    /// Whether it is why messages go through the active version.
    pub active: bool,
}

/// Where a pipeline is rolled back to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollback {
    /// The version to go back to; the one before the active one when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// Why; kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A message to try, and on which version: the active one, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Try {
    /// The message.
    #[serde(flatten)]
    pub message: MessageJson,
    /// The version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The text of a pipeline file, TOML or JSON, in place of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
}

/// Which version is activated.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The version.
    pub version: u32,
    /// Why; kept in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A version that was added and is not active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Staged {
    /// The pipeline.
    pub pipeline: String,
    /// The version's number.
    pub version: u32,
}

/// Why a pipeline is changed.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Note {
    /// Why; kept in the history.
    note: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, remove))
        .routes(routes!(history))
        .routes(routes!(stage))
        .routes(routes!(activate))
        .routes(routes!(rollback))
        .routes(routes!(try_message))
}

/// Every pipeline.
#[utoipa::path(get, path = "/v1/pipelines", tag = "pipelines", responses((status = 200, body = [Pipeline])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Pipeline>>, Problem> {
    let pipelines = node.pipelines(&who).await?;
    Ok(axum::Json(pipelines.into_iter().map(Pipeline::from).collect()))
}

/// One pipeline.
#[utoipa::path(
    get, path = "/v1/pipelines/{name}", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = Pipeline), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Pipeline>, Problem> {
    Ok(axum::Json(node.pipeline(&who, &name).await?.into()))
}

/// Applies a pipeline file as the next version, and activates it at one position in the log.
///
/// Messages in flight finish with the version they began with.
#[utoipa::path(
    put, path = "/v1/pipelines/{name}", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Note),
    request_body(
        description = "the pipeline file",
        content((String = "application/toml"), (serde_json::Value = "application/json")),
    ),
    responses((status = 200, body = Pipeline), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn put(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Query(Note { note }): Query<Note>,
    headers: HeaderMap,
    Body(spec): Body,
) -> Result<axum::Json<Pipeline>, Problem> {
    let spec = spec_text(&headers, &spec)?;
    Ok(axum::Json(node.apply_pipeline(&who, name, spec, note).await?.into()))
}

/// Adds a pipeline file as a version of a pipeline that is there, and leaves the active version active.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/versions", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Note),
    request_body(
        description = "the pipeline file",
        content((String = "application/toml"), (serde_json::Value = "application/json")),
    ),
    responses((status = 201, body = Staged), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn stage(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Query(Note { note }): Query<Note>,
    headers: HeaderMap,
    Body(spec): Body,
) -> Result<(StatusCode, axum::Json<Staged>), Problem> {
    let version = node.stage_pipeline(&who, &name, spec_text(&headers, &spec)?, note).await?;
    Ok((StatusCode::CREATED, axum::Json(Staged { pipeline: name.to_string(), version })))
}

/// Activates a version that is there, at one position in the log. A trial of the pipeline ends with it.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/activate", tag = "pipelines", request_body = Activate,
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = Pipeline), (status = 404, body = ErrorBody)),
)]
async fn activate(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(Activate { version, note }): Json<Activate>,
) -> Result<axum::Json<Pipeline>, Problem> {
    Ok(axum::Json(node.activate_pipeline(&who, &name, version, note).await?.into()))
}

/// A pipeline file, as the body of a request.
pub(crate) fn spec_text<'a>(headers: &HeaderMap, spec: &'a [u8]) -> Result<&'a str, Problem> {
    let kind = content_type(headers);
    if !matches!(kind.as_deref(), None | Some("application/toml" | "application/json" | "text/plain")) {
        let message = "a pipeline is application/toml or application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, message));
    }
    std::str::from_utf8(spec).map_err(|_| Problem::invalid("the pipeline file is not UTF-8"))
}

/// Removes a pipeline that no binding goes through.
#[utoipa::path(
    delete, path = "/v1/pipelines/{name}", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<StatusCode, Problem> {
    node.remove_pipeline(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What was active when, the oldest first.
#[utoipa::path(
    get, path = "/v1/pipelines/{name}/history", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = [Change]), (status = 404, body = ErrorBody)),
)]
async fn history(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Vec<Change>>, Problem> {
    let history = node.pipeline_history(&who, &name).await?;
    Ok(axum::Json(history.into_iter().map(Change::from).collect()))
}

/// Activates an earlier version again.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/rollback", tag = "pipelines", request_body = Rollback,
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = Pipeline), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn rollback(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(Rollback { to, note }): Json<Rollback>,
) -> Result<axum::Json<Pipeline>, Problem> {
    Ok(axum::Json(node.rollback_pipeline(&who, &name, to, note).await?.into()))
}

/// Runs a message through a version and tells what every stage did. Delivers nothing.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/try", tag = "pipelines", request_body = Try,
    params(("name" = String, Path, description = "the pipeline")),
    responses((status = 200, body = Trace), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn try_message(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(Try { message, version, spec }): Json<Try>,
) -> Result<axum::Json<Trace>, Problem> {
    let message = Message::try_from(message).map_err(Problem::invalid)?;
    let candidate = candidate(version, spec)?;
    Ok(axum::Json(node.try_candidate(&who, &name, &candidate, message).await?.into()))
}

impl From<PipelineView> for Pipeline {
    fn from(view: PipelineView) -> Self {
        Self {
            name: view.name.to_string(),
            version: view.number,
            ingress: view.ingress.map(String::from),
            delivery: view.delivery.into_iter().map(String::from).collect(),
            versions: view.versions.into_iter().map(Version::from).collect(),
            bound_to: view.bound_to.iter().map(ToString::to_string).collect(),
            stages: view.stages.into_iter().map(Stage::from).collect(),
            cpu: view.cpu.into(),
            spec: view.spec,
            broken: view.broken,
            trial: view.trial.map(Trial::from),
        }
    }
}

impl From<PipelineVersionView> for Version {
    fn from(view: PipelineVersionView) -> Self {
        Self { version: view.number, at: view.at.to_string(), by: view.by, note: view.note }
    }
}

impl From<BreakerView> for Breaker {
    fn from(view: BreakerView) -> Self {
        Self {
            state: word(&view.state),
            since_ms: ms(view.since),
            faults_in_a_row: view.faults_in_a_row,
            opened: view.opened,
            next_try_in_ms: view.next_try_in.map(ms),
            last_fault: view.last_fault.map(|last| LastFault {
                code: last.problem.code,
                message: last.problem.message,
                ago_ms: ms(last.ago),
            }),
        }
    }
}

impl From<CpuUse> for Cpu {
    fn from(used: CpuUse) -> Self {
        Self {
            share: used.share.map(|share| share.to_string()),
            busy_us: us(used.busy),
            waits: used.waits,
            waited_us: us(used.waited),
            owed_us: us(used.owed),
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl From<StageStats> for Stage {
    fn from(stats: StageStats) -> Self {
        let verdicts = stats.verdicts;
        Self {
            name: stats.stage.to_string(),
            plugin: stats.plugin.to_string(),
            kind: stats.kind.to_string(),
            calls: stats.calls,
            messages: stats.messages,
            verdicts: Verdicts {
                passed: verdicts.passed,
                changed: verdicts.changed,
                routed: verdicts.routed,
                dropped: verdicts.dropped,
                rejected: verdicts.rejected,
                retried: verdicts.retried,
                faults: verdicts.faults,
            },
            busy_us: u64::try_from(stats.busy.as_micros()).unwrap_or(u64::MAX),
            faults: stats.faults,
            breaker: stats.breaker.into(),
        }
    }
}

impl From<PipelineChange> for Change {
    fn from(change: PipelineChange) -> Self {
        Self {
            version: change.number,
            change: word(&change.kind),
            at: change.at.to_string(),
            by: change.by,
            note: change.note,
            index: change.index,
            active: change.active,
        }
    }
}
