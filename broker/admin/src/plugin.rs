//! Plugins: components, uploaded by name and version.

use axum::Extension;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;
use wharf_node::{Node, PluginView, Principal, Upload};
use wharf_protocol::Name;

use crate::error::{Code, ErrorBody, Problem};
use crate::extract::{Body, Path, Query, content_type};

/// The header of an upload that carries its signature.
pub const SIGNATURE_HEADER: &str = "wharf-signature";

/// A plugin: one version of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The component's size.
    pub bytes: u64,
    /// What it can be: `validator`, `router`, `transformer`, `enricher`.
    pub kinds: Vec<String>,
    /// One line, in its own words.
    pub summary: String,
    /// Which fields of a message are handed to it; only when one plugin is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Reads>,
    /// A JSON Schema of the configuration of its stages; only when one plugin is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<serde_json::Value>,
    /// What its stages are to grant by name, as its imports say: `kv`, `lookup`, `schema`, `secrets`; only when one
    /// plugin is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// What of the host it uses, by the names that a stage grants; only when one plugin is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<Vec<String>>,
    /// Who signed it: `nobody`, the name of a trusted key with the key, or a key that is not trusted.
    #[serde(default)]
    pub signed_by: String,
    /// When it was uploaded, RFC 3339.
    pub uploaded_at: String,
    /// By whom.
    pub uploaded_by: String,
    /// The pipelines with a version that has it in a stage.
    pub used_by: Vec<String>,
}

/// What a collection of plugins removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collection {
    /// Versions that no version of a pipeline has in a stage.
    pub plugins: Vec<CollectedVersion>,
    /// Files that no record names.
    pub stray_files: u64,
    /// Their bytes.
    pub stray_bytes: u64,
    /// Whether another collection would find more.
    pub more: bool,
    /// Whether nothing was removed.
    pub dry_run: bool,
}

/// A version of a plugin that a collection removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectedVersion {
    /// The plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The component's size.
    pub bytes: u64,
}

/// How to collect.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct HowToCollect {
    /// Only tell what would be removed.
    #[serde(default)]
    dry_run: bool,
}

/// Which fields of a message are handed to a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reads {
    /// The topic.
    pub topic: bool,
    /// The key.
    pub key: bool,
    /// The payload.
    pub payload: bool,
    /// These headers.
    pub headers: Vec<String>,
}

/// The routes; uploads take up to `bytes_max`.
pub(crate) fn routes(bytes_max: usize) -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(newest))
        .routes(routes!(show, put, remove).layer(DefaultBodyLimit::max(bytes_max)))
        .routes(routes!(collect))
}

/// Whether a path is one of these routes: who may load plugins may use them without being an administrator.
pub(crate) fn is_route(path: &str) -> bool {
    path == "/v1/plugins" || path == COLLECT || path.starts_with("/v1/plugins/")
}

const COLLECT: &str = "/v1/garbage/plugins";

/// Every version of every plugin.
#[utoipa::path(get, path = "/v1/plugins", tag = "plugins", responses((status = 200, body = [Plugin])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Plugin>>, Problem> {
    let plugins = node.plugins(&who).await?;
    Ok(axum::Json(plugins.into_iter().map(Plugin::from).collect()))
}

/// The newest version of a plugin.
#[utoipa::path(
    get, path = "/v1/plugins/{name}", tag = "plugins", params(("name" = String, Path, description = "the plugin")),
    responses((status = 200, body = Plugin), (status = 404, body = ErrorBody)),
)]
async fn newest(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Plugin>, Problem> {
    Ok(axum::Json(node.plugin(&who, &name, None).await?.into()))
}

/// One version of a plugin.
#[utoipa::path(
    get, path = "/v1/plugins/{name}/{version}", tag = "plugins",
    params(
        ("name" = String, Path, description = "the plugin"),
        ("version" = String, Path, description = "its version"),
    ),
    responses((status = 200, body = Plugin), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((name, version)): Path<(Name, String)>,
) -> Result<axum::Json<Plugin>, Problem> {
    Ok(axum::Json(node.plugin(&who, &name, Some(&version)).await?.into()))
}

/// Uploads a component. It is checked (its world, its imports, its size) and compiled before the answer comes.
///
/// The same bytes again change nothing; other bytes under a version that exists are a conflict. The header
/// `wharf-signature` carries a signature as `wharf plugin sign` writes it.
#[utoipa::path(
    put, path = "/v1/plugins/{name}/{version}", tag = "plugins",
    params(
        ("name" = String, Path, description = "the plugin"),
        ("version" = String, Path, description = "its version"),
    ),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "the component"),
    responses(
        (status = 200, body = Plugin), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody),
    ),
)]
async fn put(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((name, version)): Path<(Name, Name)>,
    headers: HeaderMap,
    Body(wasm): Body,
) -> Result<axum::Json<Plugin>, Problem> {
    let kind = content_type(&headers);
    if !matches!(kind.as_deref(), None | Some("application/wasm" | "application/octet-stream")) {
        let message = "a component is uploaded as application/wasm";
        return Err(Problem::new(Code::UnsupportedMediaType, message));
    }
    let signature = headers.get(SIGNATURE_HEADER).map(|value| value.to_str().unwrap_or_default().parse());
    let signature = signature.transpose().map_err(Problem::invalid)?;
    let plugin = node.upload_plugin(&who, Upload { name, version, wasm, signature }).await?;
    Ok(axum::Json(plugin.into()))
}

/// Removes versions that no kept version of a pipeline uses, and files that no record names; a few hundred at once.
#[utoipa::path(
    post, path = "/v1/garbage/plugins", tag = "plugins", params(HowToCollect),
    responses((status = 200, body = Collection), (status = 403, body = ErrorBody)),
)]
async fn collect(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Query(HowToCollect { dry_run }): Query<HowToCollect>,
) -> Result<axum::Json<Collection>, Problem> {
    let collected = node.collect_plugins(&who, dry_run).await?;
    let version = |plugin: wharf_node::CollectedPlugin| CollectedVersion {
        name: plugin.name.to_string(),
        version: plugin.version.to_string(),
        digest: plugin.digest,
        bytes: plugin.bytes,
    };
    Ok(axum::Json(Collection {
        plugins: collected.plugins.into_iter().map(version).collect(),
        stray_files: collected.strays,
        stray_bytes: collected.stray_bytes,
        more: collected.more,
        dry_run: collected.dry_run,
    }))
}

/// Removes a version that no pipeline uses.
#[utoipa::path(
    delete, path = "/v1/plugins/{name}/{version}", tag = "plugins",
    params(
        ("name" = String, Path, description = "the plugin"),
        ("version" = String, Path, description = "its version"),
    ),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((name, version)): Path<(Name, Name)>,
) -> Result<StatusCode, Problem> {
    node.remove_plugin(&who, &name, &version).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<PluginView> for Plugin {
    fn from(view: PluginView) -> Self {
        // A schema that is not JSON is the plugin's fault; it is shown as the text that it is.
        let schema = |text: String| {
            serde_json::from_str(&text).unwrap_or_else(|_| serde_json::Value::String(text.clone()))
        };
        Self {
            name: view.name.to_string(),
            version: view.version.to_string(),
            digest: view.digest,
            bytes: view.bytes,
            kinds: view.kinds,
            summary: view.summary,
            reads: view.reads.map(|reads| Reads {
                topic: reads.topic,
                key: reads.key,
                payload: reads.payload,
                headers: reads.headers,
            }),
            config_schema: view.config_schema.map(schema),
            needs: view.needs.map(|needs| needs.iter().map(ToString::to_string).collect()),
            uses: view.uses,
            signed_by: view.signer.to_string(),
            uploaded_at: view.uploaded_at.to_string(),
            uploaded_by: view.by,
            used_by: view.used_by.iter().map(ToString::to_string).collect(),
        }
    }
}
