//! Who asks: a bearer token, on every route but `/healthz` and `/readyz`.
//!
//! `/metrics` is no exception: a scraper gives the token with `authorization: {credentials_file: …}`.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use wharf_node::{Action, Credentials, Node, NodeError};

use crate::error::{Code, Problem};

/// Lets a request through whose token is an administrator's, or on the routes of plugins that of somebody who may load
/// them, and lays the principal beside it for the routes.
pub(crate) async fn authenticate(State(node): State<Node>, mut request: Request, next: Next) -> Response {
    let token = bearer(request.headers());
    let Some(principal) = node.authenticate(Credentials { token, certificate: None }) else {
        return unauthenticated(token.is_some());
    };
    if let Err(error) = principal.check(Action::Administer)
        && !(crate::plugin::is_route(request.uri().path()) && principal.check(Action::LoadPlugin).is_ok())
    {
        return refused(error);
    }
    request.extensions_mut().insert(principal);
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn unauthenticated(token_given: bool) -> Response {
    let message = match token_given {
        true => "the token is nobody's here",
        false => "this needs a token: `Authorization: Bearer TOKEN`",
    };
    let problem = Problem::new(Code::Unauthenticated, message).hint(
        "the token is in the broker's data folder (admin.token), and in the context file of its commands",
    );
    ([(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

fn refused(error: NodeError) -> Response {
    Problem::from(error).into_response()
}
