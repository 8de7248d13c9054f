//! How the broker is.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal};

use crate::error::Problem;

/// How the broker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// When it was started, RFC 3339.
    pub started_at: String,
    /// Where its data is.
    pub data: String,
    /// Queues there are.
    pub queues: u64,
    /// Messages that are stored and not settled, over all queues.
    pub messages: u64,
    /// Resident memory of the process, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The principals of the configuration, and what they use of their quotas.
    #[serde(default)]
    pub principals: Vec<PrincipalUse>,
    /// The log.
    pub log: Log,
    /// Why publishes are refused; usually absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// What a principal uses of its quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrincipalUse {
    /// Its name.
    pub name: String,
    /// Connections that it has.
    pub connections: u32,
    /// How often what it published has waited for its rate.
    pub waits: u64,
    /// Queues and streams that it has made.
    #[serde(default)]
    pub queues: u64,
    /// The bytes in those, where its quota bounds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

/// The log on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Log {
    /// Files that hold records.
    pub segments: u64,
    /// Room that the log takes on the disk.
    pub bytes: u64,
    /// The index of the last record.
    pub last_index: u64,
    /// Records appended since the start.
    pub records: u64,
    /// Syncs since the start.
    pub syncs: u64,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(show))
}

/// How the broker is.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Status>, Problem> {
    Ok(axum::Json(node.status(&who).await?.into()))
}

impl From<wharf_node::Status> for Status {
    fn from(status: wharf_node::Status) -> Self {
        Self {
            version: status.version,
            started_at: status.started_at.to_string(),
            data: status.data.display().to_string(),
            queues: status.queues,
            messages: status.messages,
            memory_bytes: wharf_node::resident_bytes(),
            principals: status.principals.into_iter().map(PrincipalUse::from).collect(),
            log: Log {
                segments: status.log.segments,
                bytes: status.log.bytes,
                last_index: status.log.last_index,
                records: status.log.records,
                syncs: status.log.syncs,
            },
            alarm: status.alarm,
        }
    }
}

impl From<wharf_node::PrincipalView> for PrincipalUse {
    fn from(view: wharf_node::PrincipalView) -> Self {
        let wharf_node::PrincipalView { name, connections, waits, queues, stored_bytes } = view;
        Self { name, connections, waits, queues, stored_bytes }
    }
}
