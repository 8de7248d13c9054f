//! The messages of a queue: looked at, and moved.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{BrowsedView, MessagePlace, Node, Principal, TransferEnd, TransferSpec, TransferView};
use wharf_protocol::{MessageId, QueueName};

use crate::dead_letter::{Death, Filter, redriven_max};
use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path, Query};
use crate::message::MessageJson;
use crate::page;

/// The longest that a request waits for the end of a transfer.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// A message where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// Its place in the queue.
    pub offset: u64,
    /// Its id.
    pub id: String,
    /// What it waits for.
    pub state: Place,
    /// Until when it is delayed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When it was first stored, RFC 3339.
    pub stored_at: String,
    /// What it takes.
    pub bytes: u32,
    /// Deliveries that ended without settling it.
    pub attempts: u32,
    /// Those of them, in this queue, that were refused or lapsed.
    pub failures: u32,
    /// 0 to 31.
    pub priority: u8,
    /// When its time to live runs out, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Why it is a dead letter, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// The message, when it was asked for and the page had room: 8 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageJson>,
}

/// Where in its life a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// It waits for a consumer.
    Ready,
    /// A consumer holds it.
    Leased,
    /// It waits for its time.
    Delayed,
}

/// A page of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// The messages, in the order of their coming.
    pub items: Vec<Waiting>,
    /// What to give as `from` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Which messages go to another queue, and how fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The queue they go to.
    #[schema(value_type = String)]
    pub to: QueueName,
    /// These, at most 1,000; all that wait when none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// At most so many, the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// At most so many a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

/// How fast the dead letters of a queue go back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedriveQueue {
    /// The queue they go to, as they are. Not given: each goes on from where it died, through what is in force now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<QueueName>,
    /// At most so many, the oldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// At most so many a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Only these.
    pub filter: Filter,
    /// Those too that were redriven three times before.
    pub force: bool,
}

/// Messages on their way from one queue to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transfer {
    /// From where.
    pub queue: String,
    /// To where; absent for dead letters, each of which goes on from where it died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether only dead letters go.
    pub redrive: bool,
    /// At most so many a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Messages that went.
    pub moved: u64,
    /// Dead letters that a pipeline gave up once more: they are dead letters again.
    #[serde(default)]
    pub died_again: u64,
    /// Messages that stay: a consumer held them, there is no queue, or no room, where they were to go, or they were
    /// refused on their way.
    pub kept: u64,
    /// Why the newest of those stays that were refused on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Dead letters that stay because they were redriven three times before.
    #[serde(default)]
    pub looping: u64,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// How it stands.
    pub state: TransferState,
    /// Why it failed, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// Under way.
    Running,
    /// All that was to go was tried.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// It could not go on.
    Failed,
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// The first offset.
    from: Option<u64>,
    /// At most this many: 1 to 1,000, 100 when it is not given.
    limit: Option<usize>,
    /// Whether to show the messages too.
    bodies: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct NextQuery {
    /// At most this many: 1 to 1,000, 1 when it is not given.
    limit: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Patience {
    /// How long to wait for its end, in milliseconds, at most 60,000; not at all when it is not given.
    wait_ms: Option<u64>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(next))
        .routes(routes!(move_messages))
        .routes(routes!(redrive))
        .routes(routes!(transfer, stop))
}

/// The messages of a queue, whatever becomes of them, in the order of their coming. Nothing is taken.
#[utoipa::path(
    get, path = "/v1/queues/{name}/messages", tag = "messages",
    params(("name" = String, Path, description = "the queue"), PageQuery),
    responses((status = 200, body = Page), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page>, Problem> {
    let limit = page::limit(query.limit)?;
    let (from, bodies) = (query.from.unwrap_or(0), query.bodies.unwrap_or(false));
    // One more than asked for tells whether there is another page.
    let mut found = node.browse(&who, &name, from, limit + 1, bodies).await?;
    let next = found.get(limit).map(|view| view.offset);
    found.truncate(limit);
    Ok(axum::Json(Page { items: found.into_iter().map(Waiting::from).collect(), next }))
}

/// The messages that consumers would get next, in that order. Nothing is taken.
#[utoipa::path(
    get, path = "/v1/queues/{name}/next", tag = "messages",
    params(("name" = String, Path, description = "the queue"), NextQuery),
    responses((status = 200, body = [Waiting]), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn next(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    Query(query): Query<NextQuery>,
) -> Result<axum::Json<Vec<Waiting>>, Problem> {
    let found = node.peek(&who, &name, page::limit(query.limit.or(Some(1)))?).await?;
    Ok(axum::Json(found.into_iter().map(Waiting::from).collect()))
}

/// Begins to move what waits in a queue to another. One transfer a queue; named messages go at once.
#[utoipa::path(
    post, path = "/v1/queues/{name}/move", tag = "messages",
    params(("name" = String, Path, description = "the queue")), request_body = Move,
    responses(
        (status = 202, body = Transfer), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    ),
)]
async fn move_messages(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    Json(order): Json<Move>,
) -> Result<(StatusCode, axum::Json<Transfer>), Problem> {
    let Move { to, ids, limit, per_second } = order;
    let ids: Result<Vec<MessageId>, _> = ids.iter().map(|id| id.parse()).collect();
    let (ids, per_second) = (ids.map_err(Problem::invalid)?, rate(per_second)?);
    let spec = TransferSpec { ids, limit, per_second, ..TransferSpec::default() };
    let begun = node.move_messages(&who, &name, to, spec).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(begun.into())))
}

/// Begins to send the dead letters of a queue on their way again: each from where it died, through what is in force now.
#[utoipa::path(
    post, path = "/v1/queues/{name}/redrive", tag = "messages",
    params(("name" = String, Path, description = "the dead-letter queue")), request_body = RedriveQueue,
    responses(
        (status = 202, body = Transfer), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    ),
)]
async fn redrive(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    Json(order): Json<RedriveQueue>,
) -> Result<(StatusCode, axum::Json<Transfer>), Problem> {
    let RedriveQueue { to, limit, per_second, filter, force } = order;
    let (filter, redriven_max) = (filter.parsed()?, redriven_max(force));
    let per_second = rate(per_second)?;
    let spec = TransferSpec { limit, per_second, filter, redriven_max, ..TransferSpec::default() };
    let begun = node.redrive_queue(&who, &name, to, spec).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(begun.into())))
}

/// The newest transfer from a queue since the broker started.
#[utoipa::path(
    get, path = "/v1/queues/{name}/transfer", tag = "messages",
    params(("name" = String, Path, description = "the queue"), Patience),
    responses((status = 200, body = Transfer), (status = 404, body = ErrorBody)),
)]
async fn transfer(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    Query(patience): Query<Patience>,
) -> Result<axum::Json<Transfer>, Problem> {
    let patience = Duration::from_millis(patience.wait_ms.unwrap_or(0)).min(PATIENCE_MAX);
    Ok(axum::Json(node.transfer_of(&who, &name, patience).await?.into()))
}

/// Stops the transfer from a queue. What has gone stays where it went.
#[utoipa::path(
    delete, path = "/v1/queues/{name}/transfer", tag = "messages",
    params(("name" = String, Path, description = "the queue")),
    responses((status = 200, body = Transfer), (status = 404, body = ErrorBody)),
)]
async fn stop(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
) -> Result<axum::Json<Transfer>, Problem> {
    Ok(axum::Json(node.stop_transfer(&who, &name).await?.into()))
}

fn rate(per_second: Option<u32>) -> Result<Option<u32>, Problem> {
    match per_second {
        Some(0) => Err(Problem::invalid("per_second is at least 1; leave it out for no limit")),
        rate => Ok(rate),
    }
}

impl From<BrowsedView> for Waiting {
    fn from(view: BrowsedView) -> Self {
        let (state, until) = match view.place {
            MessagePlace::Ready => (Place::Ready, None),
            MessagePlace::Leased => (Place::Leased, None),
            MessagePlace::Delayed { until } => (Place::Delayed, Some(until.to_string())),
        };
        Self {
            offset: view.offset,
            id: view.id.to_string(),
            state,
            until,
            stored_at: view.stored_at.to_string(),
            bytes: view.bytes,
            attempts: view.attempts,
            failures: view.failures,
            priority: view.priority,
            expires_at: view.expires_at.map(|at| at.to_string()),
            death: view.death.map(Death::from),
            message: view.message.as_ref().map(MessageJson::from),
        }
    }
}

impl From<TransferView> for Transfer {
    fn from(view: TransferView) -> Self {
        let (state, problem) = match view.end {
            None => (TransferState::Running, None),
            Some(TransferEnd::Done) => (TransferState::Done, None),
            Some(TransferEnd::Stopped) => (TransferState::Stopped, None),
            Some(TransferEnd::Failed(problem)) => (TransferState::Failed, Some(problem)),
        };
        Self {
            queue: view.queue.to_string(),
            to: view.to.map(|to| to.to_string()),
            redrive: view.redrive,
            per_second: view.per_second,
            moved: view.moved,
            died_again: view.died_again,
            kept: view.kept,
            why: view.why,
            looping: view.looping,
            started_at: view.started_at.to_string(),
            state,
            problem,
        }
    }
}
