//! Bindings: which topics go to which queue, and through which pipeline.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal};
use wharf_protocol::{Name, Pattern, QueueName};

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Query};

/// Messages whose topic matches `pattern` go to `queue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Which topics: `*` is one word, `#` any number.
    #[schema(value_type = String, example = "orders.#")]
    pub pattern: Pattern,
    /// The queue that gets them.
    #[schema(value_type = String)]
    pub queue: QueueName,
    /// The pipeline they go through on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pipeline: Option<Name>,
}

/// By what a binding is known.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The binding's pattern.
    #[param(value_type = String)]
    pattern: Pattern,
    /// The binding's queue.
    #[param(value_type = String)]
    queue: QueueName,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(list, add, remove))
}

/// Every binding.
#[utoipa::path(get, path = "/v1/bindings", tag = "bindings", responses((status = 200, body = [Binding])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Binding>>, Problem> {
    let bindings = node.bindings(&who).await?;
    Ok(axum::Json(bindings.into_iter().map(Binding::from).collect()))
}

/// Binds a pattern to a queue. Asking again with another pipeline changes the binding's pipeline.
#[utoipa::path(
    post, path = "/v1/bindings", tag = "bindings", request_body = Binding,
    responses((status = 201, body = Binding), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn add(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Json(binding): Json<Binding>,
) -> Result<(StatusCode, axum::Json<Binding>), Problem> {
    node.bind(&who, binding.clone().into()).await?;
    Ok((StatusCode::CREATED, axum::Json(binding)))
}

/// Removes a binding.
#[utoipa::path(
    delete, path = "/v1/bindings", tag = "bindings", params(Which),
    responses((status = 204), (status = 404, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Problem> {
    node.unbind(&who, &which.pattern, &which.queue).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<wharf_node::Binding> for Binding {
    fn from(binding: wharf_node::Binding) -> Self {
        Self { pattern: binding.pattern, queue: binding.queue, pipeline: binding.pipeline }
    }
}

impl From<Binding> for wharf_node::Binding {
    fn from(binding: Binding) -> Self {
        Self { pattern: binding.pattern, queue: binding.queue, pipeline: binding.pipeline }
    }
}
