//! Queues.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal, QueueView};
use wharf_protocol::QueueName;

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path};
use crate::policy::QueuePolicy;
use crate::version::{self, IfMatch, Versioned};

/// A queue: what it promises and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What it promises.
    pub policy: QueuePolicy,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that a consumer holds.
    pub leased: u64,
    /// Messages that wait for their time: a delay, or the pause before a retry.
    pub delayed: u64,
    /// Consumers attached now.
    pub consumers: u64,
    /// Messages that ever came in.
    pub enqueued: u64,
    /// Messages that are done, in any way.
    pub settled: u64,
    /// Messages that consumers acknowledged, or got at most once.
    pub acked: u64,
    /// Messages that went to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages whose time to live ran out.
    pub expired: u64,
    /// Deliveries, first and further ones.
    pub delivered: u64,
    /// Deliveries that were refused or whose lease lapsed.
    pub failed: u64,
    /// Deliveries that came back because their consumer left.
    pub returned: u64,
    /// Dead letters that lie here.
    pub dead: u64,
    /// Messages that were purged.
    pub purged: u64,
    /// Messages that were dropped to make room for newer ones.
    pub dropped: u64,
    /// Messages that were moved to another queue.
    pub moved: u64,
    /// Dead letters that were sent on their way again from here.
    pub redriven: u64,
    /// Bytes of the messages that are not settled.
    pub bytes: u64,
    /// In a queue ordered by key or fair by tenant: how many of these have a message in flight, or one that rests
    /// after a failure.
    pub lanes_in_flight: u64,
    /// Ready messages that wait for the turn of their key or tenant, as far as the queue has looked.
    pub lanes_waiting: u64,
    /// When the oldest message that is not settled was stored, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_stored_at: Option<String>,
}

/// How many messages an operation touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How many messages.
    pub messages: u64,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, change, remove))
        .routes(routes!(purge))
}

/// Every queue.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", responses((status = 200, body = [Queue])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Queue>>, Problem> {
    let queues = node.queues(&who).await?;
    Ok(axum::Json(queues.into_iter().map(Queue::from).collect()))
}

/// One queue.
#[utoipa::path(
    get, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path, description = "the queue")),
    responses((status = 200, body = Queue), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
) -> Result<Versioned<Queue>, Problem> {
    Ok(versioned(node.queue(&who, &name).await?.into()))
}

/// Makes a queue. Asking again for what there is changes nothing; asking for another policy is a conflict.
#[utoipa::path(
    put, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path, description = "the queue")),
    request_body = QueuePolicy,
    responses((status = 200, body = Queue), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn put(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    Json(policy): Json<QueuePolicy>,
) -> Result<Versioned<Queue>, Problem> {
    let queue = node.create_queue(&who, name, policy.into()).await?;
    Ok(versioned(queue.into()))
}

/// Changes what is given of a queue's policy, for the messages that wait too; `null` is the default. What waiting
/// messages were sorted by (`order`, `fair_by`) changes only while there are none. What somebody else changes at the
/// same time stays changed; with `If-Match` nothing is changed that has another version than the one named there.
#[utoipa::path(
    patch, path = "/v1/queues/{name}", tag = "queues",
    params(
        ("name" = String, Path, description = "the queue"),
        ("If-Match" = Option<String>, Header, description = "the `ETag` that the policy must still have"),
    ),
    request_body = QueuePolicy,
    responses(
        (status = 200, body = Queue), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 412, body = ErrorBody),
    ),
)]
async fn change(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
    version: IfMatch,
    Json(changes): Json<Map<String, Value>>,
) -> Result<Versioned<Queue>, Problem> {
    let next = |policy: &wharf_node::QueuePolicy| {
        let policy = QueuePolicy::from(policy.clone());
        version.check("queue", &policy)?;
        Ok::<_, Problem>(policy.with(changes.clone())?.into())
    };
    Ok(versioned(node.change_policy(&who, &name, next).await?.into()))
}

/// Removes a queue with its messages and bindings.
#[utoipa::path(
    delete, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path, description = "the queue")),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
) -> Result<axum::http::StatusCode, Problem> {
    node.delete_queue(&who, &name).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Drops every message of a queue that no consumer holds.
#[utoipa::path(
    post, path = "/v1/queues/{name}/purge", tag = "queues",
    params(("name" = String, Path, description = "the queue")),
    responses((status = 200, body = Count), (status = 404, body = ErrorBody)),
)]
async fn purge(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<QueueName>,
) -> Result<axum::Json<Count>, Problem> {
    let messages = node.purge_queue(&who, &name).await?;
    Ok(axum::Json(Count { messages }))
}

fn versioned(queue: Queue) -> Versioned<Queue> {
    Versioned { tag: version::tag(&queue.policy), body: queue }
}

impl From<QueueView> for Queue {
    fn from(view: QueueView) -> Self {
        Self {
            name: view.name.to_string(),
            policy: view.policy.into(),
            ready: view.ready,
            leased: view.leased,
            delayed: view.delayed,
            consumers: view.consumers,
            enqueued: view.enqueued,
            settled: view.settled,
            acked: view.acked,
            dead_lettered: view.dead_lettered,
            expired: view.expired,
            delivered: view.delivered,
            failed: view.failed,
            returned: view.returned,
            dead: view.dead,
            purged: view.purged,
            dropped: view.dropped,
            moved: view.moved,
            redriven: view.redriven,
            bytes: view.bytes,
            lanes_in_flight: view.lanes_in_flight,
            lanes_waiting: view.lanes_waiting,
            oldest_stored_at: view.oldest_stored_at.map(|at| at.to_string()),
        }
    }
}
