//! The OpenAPI document: made from the routes themselves, so that it cannot say anything else.

use axum::response::IntoResponse;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, SecurityRequirement};

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Wharf admin API",
    description = "Everything about a Wharf broker that is not publishing or consuming.",
))]
struct Head;

/// What is said once, for all routes.
pub(crate) fn head() -> OpenApi {
    let mut document = Head::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("the admin token"));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    document
}

/// The route that serves `document`.
pub(crate) async fn serve(document: axum::extract::Extension<std::sync::Arc<OpenApi>>) -> impl IntoResponse {
    axum::Json(document.as_ref().clone())
}
