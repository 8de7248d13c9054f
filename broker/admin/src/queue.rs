//! Queues.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal, QueueView};
use wharf_protocol::QueueName;

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path};

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
    /// When the oldest message that is not settled was stored, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_stored_at: Option<String>,
}

/// What a queue promises. What is not given is the broker's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePolicy {
    /// What a confirm waits for.
    pub durability: Durability,
    /// How long a consumer may hold a message before it is delivered again.
    pub lease_ms: u64,
    /// After how many failed deliveries a message goes to the dead-letter queue.
    pub max_attempts: u32,
    /// The first pause before a retry; each further one is twice as long.
    pub retry_min_ms: u64,
    /// The longest pause before a retry.
    pub retry_max_ms: u64,
    /// Where dead letters go; to the queue `dead-letters` when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dead_letter: Option<QueueName>,
    /// Whether a message whose time to live runs out is dead-lettered; otherwise it is dropped.
    pub dead_letter_expired: bool,
}

/// What a confirm waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The disk.
    Fsync,
    /// The operating system: a message survives a crash of the broker, not of the machine.
    Os,
    /// Nothing but its place in the order.
    Memory,
}

/// How many messages an operation touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How many messages.
    pub messages: u64,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, put, remove)).routes(routes!(purge))
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
) -> Result<axum::Json<Queue>, Problem> {
    Ok(axum::Json(node.queue(&who, &name).await?.into()))
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
) -> Result<axum::Json<Queue>, Problem> {
    let queue = node.create_queue(&who, name, policy.into()).await?;
    Ok(axum::Json(queue.into()))
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
            oldest_stored_at: view.oldest_stored_at.map(|at| at.to_string()),
        }
    }
}

impl Default for QueuePolicy {
    fn default() -> Self {
        wharf_node::QueuePolicy::default().into()
    }
}

impl From<wharf_node::QueuePolicy> for QueuePolicy {
    fn from(policy: wharf_node::QueuePolicy) -> Self {
        Self {
            durability: match policy.durability {
                wharf_node::Durability::Fsync => Durability::Fsync,
                wharf_node::Durability::Os => Durability::Os,
                wharf_node::Durability::Memory => Durability::Memory,
            },
            lease_ms: policy.lease_ms,
            max_attempts: policy.max_attempts,
            retry_min_ms: policy.retry_min_ms,
            retry_max_ms: policy.retry_max_ms,
            dead_letter: policy.dead_letter,
            dead_letter_expired: policy.dead_letter_expired,
        }
    }
}

impl From<QueuePolicy> for wharf_node::QueuePolicy {
    fn from(policy: QueuePolicy) -> Self {
        Self {
            durability: match policy.durability {
                Durability::Fsync => wharf_node::Durability::Fsync,
                Durability::Os => wharf_node::Durability::Os,
                Durability::Memory => wharf_node::Durability::Memory,
            },
            lease_ms: policy.lease_ms,
            max_attempts: policy.max_attempts,
            retry_min_ms: policy.retry_min_ms,
            retry_max_ms: policy.retry_max_ms,
            dead_letter: policy.dead_letter,
            dead_letter_expired: policy.dead_letter_expired,
            ..Self::default()
        }
    }
}
