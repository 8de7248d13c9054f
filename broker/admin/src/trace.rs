//! Traces: what became of messages on their way in, stage by stage.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal, TraceFilter, TraceKey, TraceSummary, TraceVerdict};
use wharf_protocol::{Name, Timestamp};

use crate::error::{ErrorBody, Problem};
use crate::extract::{Path, Query};
use crate::page;
use crate::step::{Snapshot, Step, excerpts, word};

/// The longest that a request waits for a trace.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// What became of one publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredTrace {
    /// The trace's id, 32 hexadecimal digits; several messages may share it.
    pub id: String,
    /// The span of the publish in it, 16 hexadecimal digits.
    pub span: String,
    /// The span that the publisher named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Why it was traced: `asked`, `sampled` or `dead-letter` (then only the failing stage's step is there).
    pub why: String,
    /// When the broker took it, RFC 3339.
    pub at: String,
    /// Who published it.
    pub by: String,
    /// What came.
    pub given: Snapshot,
    /// The pipelines that it passed, in order.
    pub passes: Vec<Pass>,
    /// What became of it: `stored`, `duplicate`, `dropped`, `unrouted`, `dead-lettered` or `rejected`.
    pub verdict: String,
    /// The ids under which it is stored.
    pub messages: Vec<String>,
    /// Where it went.
    pub landings: Vec<Landing>,
    /// The stage that decided, as `pipeline/stage`, when it was refused or dead-lettered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why, in that case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From its coming until its publisher was told, in microseconds.
    pub took_us: u64,
    /// It was too large to be kept whole.
    pub cut: bool,
    /// What became of its messages after its publisher was told, in order.
    #[serde(default)]
    pub sequels: Vec<Sequel>,
    /// How much more became of them that is not told.
    #[serde(default)]
    pub sequels_left_out: u64,
}

/// One thing that became of a stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sequel {
    /// The message's id.
    pub message: String,
    /// The queue or stream.
    pub queue: String,
    /// When, RFC 3339.
    pub at: String,
    /// Which delivery it is, from 1.
    pub attempt: u32,
    /// `delivered`, `filtered` (by a pipeline on the way out), `acked`, `nacked`, `stale` (settled too late) or
    /// `dead-lettered`.
    pub kind: String,
    /// Why, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One pipeline that a message passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pass {
    /// The pipeline.
    pub pipeline: String,
    /// The version that handled it.
    pub version: u32,
    /// The queue on whose binding it is; absent at ingress and on the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_way_to: Option<String>,
    /// The queue or stream on whose way to a consumer it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_way_from: Option<String>,
    /// When it began, in microseconds after the message came.
    pub begun_us: u64,
    /// The time that its plugins saw, RFC 3339.
    pub now: String,
    /// One step for each message at each stage, in order.
    pub steps: Vec<Step>,
}

/// A queue or stream in which a traced message was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Landing {
    /// Which; of a dead letter, the queue on whose way it died.
    pub queue: String,
    /// Which of the messages that it became, from 0.
    pub entry: u16,
    /// As a dead letter.
    pub dead: bool,
}

/// A trace in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceLine {
    /// The trace's id.
    pub id: String,
    /// When, RFC 3339.
    pub at: String,
    /// Where it was published.
    pub topic: String,
    /// The pipelines that it passed, as `name/number`.
    pub pipelines: Vec<String>,
    /// What became of it.
    pub verdict: String,
    /// The ids under which it is stored.
    pub messages: Vec<String>,
    /// The stage that decided, when it was refused or dead-lettered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why, in that case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From its coming until its publisher was told, in microseconds.
    pub took_us: u64,
}

/// A page of traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// The traces, newest first.
    pub items: Vec<TraceLine>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Only those that passed this pipeline.
    #[param(value_type = Option<String>)]
    pipeline: Option<Name>,
    /// Only those that ended so: `stored`, `duplicate`, `dropped`, `unrouted`, `dead-lettered` or `rejected`.
    #[param(value_type = Option<String>)]
    verdict: Option<TraceVerdict>,
    /// Only those from then on: RFC 3339, or milliseconds since 1970.
    since: Option<String>,
    /// Only those before then.
    until: Option<String>,
    /// Only those after the page whose `next` this is.
    after: Option<String>,
    /// At most this many: 1 to 1,000, 100 when it is not given.
    limit: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Patience {
    /// How long to wait for it, in milliseconds, at most 60,000; not at all when it is not given.
    wait_ms: Option<u64>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// The traces that are kept, newest first.
#[utoipa::path(
    get, path = "/v1/traces", tag = "traces", params(PageQuery),
    responses((status = 200, body = Page), (status = 400, body = ErrorBody)),
)]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page>, Problem> {
    let limit = page::limit(query.limit)?;
    let after = query.after.map(|after| u128::from_str_radix(&after, 16)).transpose();
    let after = after.map_err(|_| Problem::invalid("after: that is not the `next` of a page"))?;
    let filter = TraceFilter {
        pipeline: query.pipeline,
        verdict: query.verdict,
        since: moment("since", query.since)?,
        until: moment("until", query.until)?,
        after,
    };
    let found = node.traces(&who, filter, limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| format!("{:032x}", last.place));
    Ok(axum::Json(Page { items: found.into_iter().map(TraceLine::from).collect(), next }))
}

/// The traces of an id: a trace's own, or that of a stored message. Oldest first.
#[utoipa::path(
    get, path = "/v1/traces/{id}", tag = "traces",
    params(("id" = String, Path, description = "a trace's id, or a message's"), Patience),
    responses(
        (status = 200, body = [StoredTrace]), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    Query(query): Query<Patience>,
) -> Result<axum::Json<Vec<StoredTrace>>, Problem> {
    let key: TraceKey = id.parse().map_err(Problem::invalid)?;
    let patience = Duration::from_millis(query.wait_ms.unwrap_or(0)).min(PATIENCE_MAX);
    let found = node.trace(&who, key, patience).await?;
    Ok(axum::Json(found.into_iter().map(StoredTrace::from).collect()))
}

/// The moment that a parameter names.
pub(crate) fn moment(parameter: &str, text: Option<String>) -> Result<Option<Timestamp>, Problem> {
    let parse =
        |text: String| text.parse().map_err(|error| Problem::invalid(format_args!("{parameter}: {error}")));
    text.map(parse).transpose()
}

impl From<wharf_node::Trace> for StoredTrace {
    fn from(trace: wharf_node::Trace) -> Self {
        let passes = trace.passes.into_iter().map(|pass| Pass {
            pipeline: pass.pipeline.to_string(),
            version: pass.number,
            on_way_to: pass.on_way_to.map(|queue| queue.to_string()),
            on_way_from: pass.on_way_from.map(|queue| queue.to_string()),
            begun_us: pass.begun_us,
            now: pass.now.to_string(),
            steps: pass.steps.into_iter().map(Step::from).collect(),
        });
        let landings = trace.landings.into_iter().map(|landing| Landing {
            queue: landing.queue.to_string(),
            entry: landing.entry,
            dead: landing.dead,
        });
        Self {
            id: trace.id.to_string(),
            span: trace.span.to_string(),
            parent: trace.parent.map(|parent| parent.to_string()),
            why: word(&trace.why),
            at: trace.at.to_string(),
            by: trace.by,
            given: Snapshot {
                topic: trace.given.topic,
                headers: excerpts(trace.given.headers),
                payload: trace.given.payload.into(),
            },
            passes: passes.collect(),
            verdict: word(&trace.verdict),
            messages: trace.messages.iter().map(ToString::to_string).collect(),
            landings: landings.collect(),
            stage: trace.stage,
            reason: trace.reason,
            took_us: trace.took_us,
            cut: trace.cut,
            sequels: trace.sequels.into_iter().map(Sequel::from).collect(),
            sequels_left_out: trace.sequels_left_out,
        }
    }
}

impl From<wharf_node::Sequel> for Sequel {
    fn from(sequel: wharf_node::Sequel) -> Self {
        Self {
            message: sequel.message.to_string(),
            queue: sequel.queue.to_string(),
            at: sequel.at.to_string(),
            attempt: sequel.attempt,
            kind: word(&sequel.kind),
            note: sequel.note,
        }
    }
}

impl From<TraceSummary> for TraceLine {
    fn from(trace: TraceSummary) -> Self {
        Self {
            id: trace.id.to_string(),
            at: trace.at.to_string(),
            topic: trace.topic,
            pipelines: trace.pipelines,
            verdict: word(&trace.verdict),
            messages: trace.messages.iter().map(ToString::to_string).collect(),
            stage: trace.stage,
            reason: trace.reason,
            took_us: trace.took_us,
        }
    }
}
