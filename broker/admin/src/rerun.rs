//! Traced messages once more through the pipelines that they passed.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Again, Node, PassAgain, Principal, RerunOptions, RunDifference, TraceKey};
use wharf_protocol::Name;

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path};
use crate::step::Step;

/// What of a trace is run again, and by which version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rerun {
    /// Only this pipeline; all that the message passed when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Another version than the one that the message passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// One traced message, run again. Nothing was stored or delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RerunResult {
    /// Its trace.
    pub id: String,
    /// When it was traced, RFC 3339.
    pub at: String,
    /// Where it was published.
    pub topic: String,
    /// The pipelines, in the order in which it passed them.
    pub passes: Vec<RerunPass>,
}

/// One pipeline that a traced message passed, once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RerunPass {
    /// The pipeline.
    pub pipeline: String,
    /// The version that it passed.
    pub then: u32,
    /// The version that ran now.
    pub now: u32,
    /// The queue on whose binding the pipeline is; absent at ingress and on the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_way_to: Option<String>,
    /// The queue or stream on whose way to a consumer the pipeline is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_way_from: Option<String>,
    /// `same`: of the same version, to the byte at every stage; of another one, in its outcome. `differs`, or
    /// `impossible`.
    pub outcome: String,
    /// Why it cannot be had again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of the same version, the first thing that differs; of another one, what differs in its outcome.
    pub differences: Vec<RerunDifference>,
    /// How many differences more there are.
    #[serde(default)]
    pub differences_more: u64,
    /// What each stage said now.
    pub steps: Vec<Step>,
}

/// One thing in which a run differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RerunDifference {
    /// The stage where it shows, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What differs.
    pub what: String,
    /// What was recorded, or the recorded version has there.
    pub then: String,
    /// What is there now.
    pub now: String,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(rerun))
}

/// Runs what is traced under an id once more, with the time, random bits and memory of then, and compares it.
#[utoipa::path(
    post, path = "/v1/traces/{id}/rerun", tag = "traces", request_body = Rerun,
    params(("id" = String, Path, description = "a trace's id, or a message's")),
    responses(
        (status = 200, body = [RerunResult]), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
async fn rerun(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    Json(asked): Json<Rerun>,
) -> Result<axum::Json<Vec<RerunResult>>, Problem> {
    let key: TraceKey = id.parse().map_err(Problem::invalid)?;
    let pipeline = asked.pipeline.map(|name| name.parse::<Name>()).transpose().map_err(Problem::invalid)?;
    let options = RerunOptions { pipeline, version: asked.version };
    let reruns = node.rerun(&who, key, options).await?;
    Ok(axum::Json(reruns.into_iter().map(RerunResult::from).collect()))
}

impl From<wharf_node::Rerun> for RerunResult {
    fn from(rerun: wharf_node::Rerun) -> Self {
        Self {
            id: rerun.trace.to_string(),
            at: rerun.at.to_string(),
            topic: rerun.topic,
            passes: rerun.passes.into_iter().map(RerunPass::from).collect(),
        }
    }
}

impl From<PassAgain> for RerunPass {
    fn from(again: PassAgain) -> Self {
        let (outcome, reason, differences, differences_more) = match again.outcome {
            Again::Same => ("same", None, Vec::new(), 0),
            Again::Differs { found, more } => ("differs", None, found, more),
            Again::Impossible(reason) => ("impossible", Some(reason), Vec::new(), 0),
        };
        Self {
            pipeline: again.pipeline.to_string(),
            then: again.then,
            now: again.now,
            on_way_to: again.on_way_to.map(|queue| queue.to_string()),
            on_way_from: again.on_way_from.map(|queue| queue.to_string()),
            outcome: outcome.to_owned(),
            reason,
            differences: differences.into_iter().map(RerunDifference::from).collect(),
            differences_more,
            steps: again.steps.into_iter().map(Step::from).collect(),
        }
    }
}

impl From<RunDifference> for RerunDifference {
    fn from(difference: RunDifference) -> Self {
        Self {
            stage: difference.stage.map(|stage| stage.to_string()),
            what: difference.what,
            then: difference.then,
            now: difference.now,
        }
    }
}
