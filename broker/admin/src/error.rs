//! What a request is told that was not carried out: `{"error": {"code", "message", "hint"?}}` and a status.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_node::NodeError;

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: Problem,
}

/// What went wrong, for a program and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of thing went wrong.
    pub code: Code,
    /// What and where, in one sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The closed list of things that go wrong. Each has one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// 400: the request itself is wrong.
    Invalid,
    /// 401: the token is missing or nobody's.
    Unauthenticated,
    /// 403: this principal may not do that.
    Forbidden,
    /// 404: no such thing.
    NotFound,
    /// 405: not with this method.
    MethodNotAllowed,
    /// 409: it exists already, or something depends on it.
    Conflict,
    /// 412: somebody else changed it meanwhile.
    Changed,
    /// 413: over a stated size.
    TooLarge,
    /// 415: a content type that the route does not take.
    UnsupportedMediaType,
    /// 503: not now: a full disk, a quota, or the broker is stopping.
    Unavailable,
    /// 504: it took too long.
    TimedOut,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn invalid(message: impl ToString) -> Self {
        Self::new(Code::Invalid, message.to_string())
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        let message = error.to_string();
        match error {
            NodeError::NotFound { kind, .. } => {
                let problem = Self::new(Code::NotFound, message);
                match where_listed(kind) {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
            NodeError::Conflict(_) | NodeError::Fenced(_) => Self::new(Code::Conflict, message),
            NodeError::Invalid(_) => Self::new(Code::Invalid, message),
            NodeError::TooLarge(_) => Self::new(Code::TooLarge, message),
            NodeError::Forbidden { .. } => Self::new(Code::Forbidden, message),
            NodeError::Unavailable(_) | NodeError::Closing(_) => Self::new(Code::Unavailable, message),
        }
    }
}

fn where_listed(kind: &str) -> Option<&'static str> {
    match kind {
        "queue" => Some("`wharf queue ls` (GET /v1/queues) lists the queues"),
        "transfer" => Some("`wharf queue move` and `wharf dlq redrive` begin one"),
        "schedule" => Some("`wharf schedule ls` (GET /v1/schedules) lists the schedules"),
        "stream" => Some("`wharf stream ls` (GET /v1/streams) lists the streams"),
        "queue or stream" => Some("`wharf queue ls` and `wharf stream ls` list what there is"),
        "binding" => Some("`wharf bindings` (GET /v1/bindings) lists the bindings"),
        "plugin" | "plugin version" => Some("`wharf plugin ls` (GET /v1/plugins) lists the plugins"),
        "pipeline" => Some("`wharf pipeline ls` (GET /v1/pipelines) lists the pipelines"),
        "pipeline version" => Some("`wharf pipeline history NAME` lists its versions"),
        "lookup table" => Some("`wharf lookup ls` (GET /v1/lookups) lists the tables"),
        "schema" => Some("`wharf schema ls` (GET /v1/schemas) lists the schemas"),
        "key" => Some("`wharf kv ls PIPELINE` lists the keys"),
        "trace" => Some(
            "`wharf trace ls` (GET /v1/traces) lists those that are kept; `wharf pub --trace` asks for one",
        ),
        "dead letter" => Some("`wharf dlq ls` (GET /v1/dead-letters) lists the dead letters"),
        _ => None,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.code.status(), axum::Json(ErrorBody { error: self })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_travels_as_words() {
        let problem = Problem::new(Code::NotFound, "there is no queue \"x\"");
        let json = serde_json::to_string(&ErrorBody { error: problem }).expect("encodes");
        assert_eq!(json, r#"{"error":{"code":"not-found","message":"there is no queue \"x\""}}"#);
    }
}
