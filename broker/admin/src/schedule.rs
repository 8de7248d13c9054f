//! Schedules: messages that are published again and again.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal, ScheduleView};
use wharf_protocol::{Message, Name};

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path};
use crate::message::MessageJson;

/// The time zone of a schedule that names none.
const TIME_ZONE: &str = "UTC";

/// What is published, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// When: minute, hour, day of month, month and day of week; or six fields with seconds in front; or `@daily`
    /// and its kin.
    #[schema(example = "0 9 * * MON-FRI")]
    pub cron: String,
    /// By which clock: the IANA name of a time zone; `UTC` when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What. Its delay and time to live begin anew with each occurrence.
    pub message: MessageJson,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When, as a cron expression.
    pub cron: String,
    /// When, in words.
    pub description: String,
    /// By which clock.
    pub time_zone: String,
    /// What is published.
    pub message: MessageJson,
    /// Whether it rests.
    pub paused: bool,
    /// Who put it.
    pub by: String,
    /// When it was put or resumed, RFC 3339: only what comes after that is published.
    pub since: String,
    /// The last occurrence that was published, or refused for good, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The next one, RFC 3339; absent while it rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Why the last attempt since the broker started failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, remove))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// Every schedule.
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules", responses((status = 200, body = [Schedule])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Schedule>>, Problem> {
    let schedules = node.schedules(&who).await?;
    Ok(axum::Json(schedules.into_iter().map(Schedule::from).collect()))
}

/// One schedule.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "the schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Schedule>, Problem> {
    Ok(axum::Json(node.schedule(&who, &name).await?.into()))
}

/// Puts a schedule, or replaces it: what is put anew begins anew. The same one again is left as it is.
#[utoipa::path(
    put, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "the schedule")), request_body = ScheduleSpec,
    responses((status = 200, body = Schedule), (status = 400, body = ErrorBody)),
)]
async fn put(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(spec): Json<ScheduleSpec>,
) -> Result<axum::Json<Schedule>, Problem> {
    let message = Message::try_from(spec.message)
        .map_err(|error| Problem::invalid(format_args!("message: {error}")))?;
    let time_zone = spec.time_zone.unwrap_or_else(|| TIME_ZONE.to_owned());
    let spec = wharf_node::ScheduleSpec { cron: spec.cron, time_zone, message };
    Ok(axum::Json(node.put_schedule(&who, name, spec).await?.into()))
}

/// Removes a schedule. What it has published stays.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "the schedule")),
    responses((status = 204), (status = 404, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::http::StatusCode, Problem> {
    node.remove_schedule(&who, &name).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Stops a schedule until it is resumed. What the pause covers is never published.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/pause", tag = "schedules",
    params(("name" = String, Path, description = "the schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = ErrorBody)),
)]
async fn pause(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Schedule>, Problem> {
    Ok(axum::Json(node.pause_schedule(&who, &name, true).await?.into()))
}

/// Lets a paused schedule go on, with the next occurrence from now.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/resume", tag = "schedules",
    params(("name" = String, Path, description = "the schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = ErrorBody)),
)]
async fn resume(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Schedule>, Problem> {
    Ok(axum::Json(node.pause_schedule(&who, &name, false).await?.into()))
}

impl From<ScheduleView> for Schedule {
    fn from(view: ScheduleView) -> Self {
        Self {
            name: view.name.to_string(),
            cron: view.cron,
            description: view.description,
            time_zone: view.time_zone,
            message: MessageJson::from(&view.message),
            paused: view.paused,
            by: view.by,
            since: view.since.to_string(),
            last: view.last.map(|at| at.to_string()),
            next: view.next.map(|at| at.to_string()),
            problem: view.problem,
        }
    }
}
