//! Versions of what is shown, so that nobody overwrites what somebody else has changed meanwhile (RFC 9110 §13.1.1).

use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Problem};

/// Bytes of the hash in an entity tag: it tells versions apart, and is no secret.
const TAG_BYTES: usize = 8;

/// An answer with the version of what can be changed of it, in its `ETag`.
pub(crate) struct Versioned<T> {
    pub(crate) tag: String,
    pub(crate) body: T,
}

/// The versions that a request is about, in its `If-Match`; none: any.
pub(crate) struct IfMatch(Option<String>);

/// The entity tag of a value.
pub(crate) fn tag(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("a struct of plain fields is JSON");
    let hash = Sha256::digest(json);
    let hex: String = hash.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

impl IfMatch {
    /// Refuses a request that is about another version of `value`, a `kind`.
    pub(crate) fn check(&self, kind: &str, value: &impl Serialize) -> Result<(), Problem> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let (is, mut wanted) = (tag(value), wanted.split(',').map(str::trim));
        if wanted.any(|each| each == "*" || each == is) {
            return Ok(());
        }
        let message = format!("the policy of this {kind} is another one than If-Match says: it is {is} now");
        Err(Problem::new(Code::Changed, message).hint("somebody else changed it; look at it again"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = |value: &axum::http::HeaderValue| {
            let text = value.to_str().map_err(|_| Problem::invalid("If-Match is entity tags, or *"))?;
            Ok(text.to_owned())
        };
        parts.headers.get(IF_MATCH).map(text).transpose().map(Self)
    }
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        ([(ETAG, self.tag)], axum::Json(self.body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_about_another_version_is_refused() {
        let check = |header: Option<&str>| IfMatch(header.map(ToOwned::to_owned)).check("queue", &7).is_ok();
        let is = tag(&7);
        assert!(check(None) && check(Some("*")) && check(Some(&is)) && check(Some(&format!("\"x\", {is}"))));
        for other in [&tag(&8), "", "\"x\"", &format!("W/{is}")] {
            assert!(!check(Some(other)), "{other}");
        }
    }
}
