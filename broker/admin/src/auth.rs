//! Who asks: a bearer token, on every route but `/healthz` and `/readyz`.
//!
//! `/metrics` is no exception: a scraper gives the token with `authorization: {credentials_file: …}`.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use wharf_node::{Action, Credentials, Node, NodeError, Principal};

use crate::error::{Code, Problem};

/// Lets a request through whose token is somebody's, and lays the principal beside it.
pub(crate) async fn authenticate(State(node): State<Node>, mut request: Request, next: Next) -> Response {
    let token = bearer(request.headers());
    let Some(principal) = node.authenticate(Credentials { token, certificate: None }) else {
        return unauthenticated(token.is_some());
    };
    request.extensions_mut().insert(principal);
    next.run(request).await
}

/// Lets a request through that an administrator asks for, or on the routes of plugins somebody who may load them. Who may
/// not has been noted by then.
pub(crate) async fn authorize(
    Extension(who): Extension<Principal>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(error) = who.check(Action::Administer)
        && !(crate::plugin::is_route(request.uri().path()) && who.check(Action::LoadPlugin).is_ok())
    {
        return refused(error);
    }
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
