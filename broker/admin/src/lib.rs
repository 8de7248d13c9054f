//! The admin API of a broker: HTTP and JSON over [`wharf_node::Node`].
//!
//! A request is authenticated (`auth`), noted where it changes something ([`audit`]), bounded in size and time (here),
//! parsed at the edge (`extract`), answered by the route of its noun ([`queue`], [`messages`], [`binding`], [`schedule`],
//! [`stream`], [`plugin`], [`pipeline`], [`trial`], [`kv`], [`lent`], [`dead_letter`], [`trace`], [`step`], [`rerun`],
//! [`status`], `metrics`), and what goes wrong is an [`error::Problem`]. The routes describe themselves: `/v1/openapi.json` is
//! made from them. The types of the bodies are public: the command line reads what this crate writes.

pub mod audit;
mod auth;
pub mod binding;
pub mod dead_letter;
pub mod dedup;
pub mod error;
mod extract;
mod health;
pub mod kv;
pub mod lent;
mod listener;
pub mod message;
pub mod messages;
mod metrics;
mod openapi;
pub mod page;
pub mod pipeline;
pub mod plugin;
pub mod policy;
pub mod queue;
pub mod recording;
pub mod rerun;
pub mod schedule;
pub mod status;
pub mod step;
pub mod stream;
pub mod trace;
pub mod trial;
mod version;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Extension, Request};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, serve::Listener as _};
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use wharf_node::Node;

use crate::error::{Code, Problem};

/// The largest body of any route but the upload of plugins, which [`wharf_node::Config::plugin_bytes_max`] bounds.
///
/// Room for the largest message in base64 within JSON, by default.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a request may take, its body and the compiling of a plugin included.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(120);

/// Serves the API of `node` on `listener` until `stop` resolves, then finishes the requests it has begun.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    node: Node,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener::Bounded::new(listener);
    tracing::info!(address = %listener.local_addr()?, "the admin API listens");
    let service = router(node).into_make_service_with_connect_info::<listener::Peer>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

/// The API as a router, to be served by whoever embeds a node.
pub fn router(node: Node) -> Router {
    let (open, closed, document) = routes(node.config().plugin_bytes_max);
    let closed = closed
        .route("/v1/openapi.json", get(openapi::serve))
        .layer(Extension(Arc::new(document)))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(auth::authorize))
        .layer(middleware::from_fn_with_state(node.clone(), audit::note))
        .layer(middleware::from_fn_with_state(node.clone(), auth::authenticate))
        .layer(middleware::from_fn(within_time));
    open.merge(closed).with_state(node)
}

/// The OpenAPI document of the API.
pub fn document() -> OpenApi {
    routes(BODY_BYTES_MAX).2
}

/// The routes that anybody may call, those that need a token, and what both say of themselves.
fn routes(plugin_bytes_max: usize) -> (Router<Node>, Router<Node>, OpenApi) {
    let (open, open_document) = health::routes().split_for_parts();
    let (closed, mut document) = OpenApiRouter::with_openapi(openapi::head())
        .merge(status::routes())
        .merge(queue::routes())
        .merge(messages::routes())
        .merge(schedule::routes())
        .merge(stream::routes())
        .merge(binding::routes())
        .merge(plugin::routes(plugin_bytes_max))
        .merge(pipeline::routes())
        .merge(trial::routes())
        .merge(kv::routes())
        .merge(lent::routes())
        .merge(recording::routes())
        .merge(dead_letter::routes())
        .merge(trace::routes())
        .merge(rerun::routes())
        .merge(audit::routes())
        .merge(dedup::routes())
        .merge(metrics::routes())
        .split_for_parts();
    document.merge(open_document);
    (open, closed, document)
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("it took over {} seconds", REQUEST_TIME_MAX.as_secs());
            Problem::new(Code::TimedOut, message).into_response()
        }
    }
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is no route {}", uri.path()))
        .hint("GET /v1/openapi.json describes the routes")
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}
