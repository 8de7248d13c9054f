//! What is lent to plugins by name: lookup tables and schemas.

use axum::Extension;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;
use wharf_node::{LENT_BYTES_MAX, LentFormat, LentKind, LentView, Node, Principal};
use wharf_protocol::Name;

use crate::error::{Code, ErrorBody, Problem};
use crate::extract::{Body, Path, content_type};

/// A lookup table or a schema: the version in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lent {
    /// Its name.
    pub name: String,
    /// 1 for the first of its name; each other content is one more.
    pub version: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub digest: String,
    /// The size of its content.
    pub bytes: u64,
    /// How it is written: `json`, `csv`, `other`.
    pub format: String,
    /// How many keys it has; of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Who put it.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// The pipelines with a version that is granted it.
    pub used_by: Vec<String>,
    /// Why it cannot be read, when it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list_tables))
        .routes(routes!(show_table, put_table, remove_table).layer(DefaultBodyLimit::max(LENT_BYTES_MAX)))
        .routes(routes!(table_content))
        .routes(routes!(list_schemas))
        .routes(routes!(show_schema, put_schema, remove_schema).layer(DefaultBodyLimit::max(LENT_BYTES_MAX)))
        .routes(routes!(schema_content))
}

/// All lookup tables.
#[utoipa::path(get, path = "/v1/lookups", tag = "lookups", responses((status = 200, body = [Lent])))]
async fn list_tables(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Lent>>, Problem> {
    let all = node.all_lent(&who, LentKind::Table)?;
    Ok(axum::Json(all.into_iter().map(Lent::from).collect()))
}

/// One lookup table.
#[utoipa::path(
    get, path = "/v1/lookups/{name}", tag = "lookups", params(("name" = String, Path, description = "the lookup table")),
    responses((status = 200, body = Lent), (status = 404, body = ErrorBody)),
)]
async fn show_table(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Lent>, Problem> {
    Ok(axum::Json(node.lent(&who, LentKind::Table, &name)?.into()))
}

/// Puts a lookup table, or the next version of one: a JSON object, or CSV of `key,value` a line. Running stages see it
/// at their next call.
#[utoipa::path(
    put, path = "/v1/lookups/{name}", tag = "lookups", params(("name" = String, Path, description = "the lookup table")),
    request_body(content = Vec<u8>, description = "the content"),
    responses((status = 200, body = Lent), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody)),
)]
async fn put_table(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    headers: HeaderMap,
    Body(content): Body,
) -> Result<axum::Json<Lent>, Problem> {
    let format = match content_type(&headers).as_deref() {
        None | Some("application/json" | "application/octet-stream") => LentFormat::Json,
        Some("text/csv") => LentFormat::Csv,
        Some(other) => {
            let message = format!("a table is uploaded as application/json or text/csv, not {other}");
            return Err(Problem::new(Code::UnsupportedMediaType, message));
        }
    };
    Ok(axum::Json(node.put_lent(&who, LentKind::Table, name, format, content).await?.into()))
}

/// Removes a lookup table that no pipeline is granted.
#[utoipa::path(
    delete, path = "/v1/lookups/{name}", tag = "lookups", params(("name" = String, Path, description = "the lookup table")),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn remove_table(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<StatusCode, Problem> {
    node.remove_lent(&who, LentKind::Table, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The content of a lookup table, as it was uploaded.
#[utoipa::path(
    get, path = "/v1/lookups/{name}/content", tag = "lookups",
    params(("name" = String, Path, description = "the lookup table")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = ErrorBody)),
)]
async fn table_content(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<Bytes, Problem> {
    Ok(node.lent_content(&who, LentKind::Table, &name).await?)
}

/// All schemas.
#[utoipa::path(get, path = "/v1/schemas", tag = "schemas", responses((status = 200, body = [Lent])))]
async fn list_schemas(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Lent>>, Problem> {
    let all = node.all_lent(&who, LentKind::Schema)?;
    Ok(axum::Json(all.into_iter().map(Lent::from).collect()))
}

/// One schema.
#[utoipa::path(
    get, path = "/v1/schemas/{name}", tag = "schemas", params(("name" = String, Path, description = "the schema")),
    responses((status = 200, body = Lent), (status = 404, body = ErrorBody)),
)]
async fn show_schema(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Lent>, Problem> {
    Ok(axum::Json(node.lent(&who, LentKind::Schema, &name)?.into()))
}

/// Puts a schema, or the next version of one, in whatever language its plugin reads. Running stages see it at their
/// next call.
#[utoipa::path(
    put, path = "/v1/schemas/{name}", tag = "schemas", params(("name" = String, Path, description = "the schema")),
    request_body(content = Vec<u8>, description = "the content"),
    responses((status = 200, body = Lent), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody)),
)]
async fn put_schema(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    headers: HeaderMap,
    Body(content): Body,
) -> Result<axum::Json<Lent>, Problem> {
    let format = match content_type(&headers).as_deref() {
        Some("application/json") => LentFormat::Json,
        _ => LentFormat::Other,
    };
    Ok(axum::Json(node.put_lent(&who, LentKind::Schema, name, format, content).await?.into()))
}

/// Removes a schema that no pipeline is granted.
#[utoipa::path(
    delete, path = "/v1/schemas/{name}", tag = "schemas", params(("name" = String, Path, description = "the schema")),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn remove_schema(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<StatusCode, Problem> {
    node.remove_lent(&who, LentKind::Schema, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The content of a schema, as it was uploaded.
#[utoipa::path(
    get, path = "/v1/schemas/{name}/content", tag = "schemas",
    params(("name" = String, Path, description = "the schema")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = ErrorBody)),
)]
async fn schema_content(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<Bytes, Problem> {
    Ok(node.lent_content(&who, LentKind::Schema, &name).await?)
}

impl From<LentView> for Lent {
    fn from(view: LentView) -> Self {
        Self {
            name: view.name.to_string(),
            version: view.version,
            digest: view.digest,
            bytes: view.bytes,
            format: view.format,
            keys: view.keys,
            by: view.by,
            at: view.at.to_string(),
            used_by: view.used_by.iter().map(ToString::to_string).collect(),
            problem: view.problem,
        }
    }
}
