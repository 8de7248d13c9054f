//! Deduplication: how long message ids are remembered.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{DedupView, Deduplication, Node, Principal};

use crate::error::{ErrorBody, Problem};
use crate::extract::Json;

/// How message ids are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dedup {
    /// How long a message id is remembered, in milliseconds.
    pub window_ms: u64,
    /// How many are remembered; past that the oldest goes before its time.
    pub max: u64,
    /// How many are remembered now.
    pub remembered: u64,
}

/// New bounds; what is left out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDedup {
    /// How long a message id is remembered, in milliseconds; at most 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// How many are remembered, at most 10,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(show, set))
}

/// How message ids are remembered.
#[utoipa::path(get, path = "/v1/dedup", tag = "dedup", responses((status = 200, body = Dedup)))]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Dedup>, Problem> {
    Ok(axum::Json(node.deduplication(&who).await?.into()))
}

/// Sets how long message ids are remembered, and how many.
#[utoipa::path(
    put, path = "/v1/dedup", tag = "dedup", request_body = SetDedup,
    responses((status = 200, body = Dedup), (status = 400, body = ErrorBody)),
)]
async fn set(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Json(wanted): Json<SetDedup>,
) -> Result<axum::Json<Dedup>, Problem> {
    let Deduplication { window_ms, max } = node.deduplication(&who).await?.bounds;
    let bounds =
        Deduplication { window_ms: wanted.window_ms.unwrap_or(window_ms), max: wanted.max.unwrap_or(max) };
    Ok(axum::Json(node.set_deduplication(&who, bounds).await?.into()))
}

impl From<DedupView> for Dedup {
    fn from(view: DedupView) -> Self {
        let DedupView { bounds: Deduplication { window_ms, max }, remembered } = view;
        Self { window_ms, max, remembered }
    }
}
