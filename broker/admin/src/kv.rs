//! What pipelines remember: looked at, and removed key by key.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{KV_LIST_MAX, KvEntryView, KvView, Node, Principal};
use wharf_protocol::Name;

use crate::error::{ErrorBody, Problem};
use crate::extract::{Path, Query};
use crate::message::TextOrBytes;

/// What one pipeline remembers, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvSpace {
    /// The pipeline.
    pub pipeline: String,
    /// How many keys.
    pub keys: u64,
    /// What they take of the 64 MiB that a pipeline has.
    pub bytes: u64,
}

/// One key that a pipeline remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: TextOrBytes,
    /// When it is there no more, RFC 3339; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Which keys of a pipeline.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Those that begin with this.
    #[serde(default)]
    prefix: String,
    /// From this key on.
    #[serde(default)]
    from: String,
    /// At most so many; 1000 when it is not given, which is the most.
    limit: Option<usize>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(keys)).routes(routes!(show, remove))
}

/// Every pipeline that remembers something.
#[utoipa::path(get, path = "/v1/kv", tag = "kv", responses((status = 200, body = [KvSpace])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<KvSpace>>, Problem> {
    Ok(axum::Json(node.kv(&who)?.into_iter().map(KvSpace::from).collect()))
}

/// The keys of a pipeline, in order.
#[utoipa::path(
    get, path = "/v1/kv/{pipeline}", tag = "kv",
    params(("pipeline" = String, Path, description = "the pipeline"), Which),
    responses((status = 200, body = [KvEntry]), (status = 404, body = ErrorBody)),
)]
async fn keys(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(pipeline): Path<Name>,
    Query(which): Query<Which>,
) -> Result<axum::Json<Vec<KvEntry>>, Problem> {
    let limit = which.limit.unwrap_or(KV_LIST_MAX);
    let keys = node.kv_keys(&who, &pipeline, &which.prefix, &which.from, limit)?;
    Ok(axum::Json(keys.into_iter().map(KvEntry::from).collect()))
}

/// One key of a pipeline.
#[utoipa::path(
    get, path = "/v1/kv/{pipeline}/{key}", tag = "kv",
    params(
        ("pipeline" = String, Path, description = "the pipeline"),
        ("key" = String, Path, description = "the key"),
    ),
    responses((status = 200, body = KvEntry), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((pipeline, key)): Path<(Name, String)>,
) -> Result<axum::Json<KvEntry>, Problem> {
    Ok(axum::Json(node.kv_get(&who, &pipeline, &key)?.into()))
}

/// Removes a key of a pipeline. A message that has read it and is not stored yet is run again.
#[utoipa::path(
    delete, path = "/v1/kv/{pipeline}/{key}", tag = "kv",
    params(
        ("pipeline" = String, Path, description = "the pipeline"),
        ("key" = String, Path, description = "the key"),
    ),
    responses((status = 204), (status = 404, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((pipeline, key)): Path<(Name, String)>,
) -> Result<StatusCode, Problem> {
    node.kv_remove(&who, &pipeline, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<KvView> for KvSpace {
    fn from(view: KvView) -> Self {
        Self { pipeline: view.pipeline.to_string(), keys: view.keys, bytes: view.bytes }
    }
}

impl From<KvEntryView> for KvEntry {
    fn from(view: KvEntryView) -> Self {
        let expires_at = view.expires_at.map(|at| at.to_string());
        Self { key: view.key, value: TextOrBytes::new(&view.value), expires_at }
    }
}
