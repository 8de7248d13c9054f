//! The audit log: every change by this API passes one layer, and is listed and checked here.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::Extension;
use axum::body::{Body, BodyDataStream};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{AuditAsked, AuditDone, AuditFilter, AuditReport, AuditView, Node, Principal};

use crate::error::{ErrorBody, Problem};
use crate::extract::Query;
use crate::listener::Peer;
use crate::page;
use crate::trace::moment;

/// The ends of paths that are posted to and change nothing.
const READING_POSTS: [&str; 4] = ["/search", "/try", "/replay", "/rerun"];
/// Below this, bodies are secrets: not even their digests are noted, from which a short one could be guessed.
const SECRETS: &str = "/v1/secrets";

/// A change that somebody asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// The entry's number.
    pub seq: u64,
    /// When it was asked for, RFC 3339.
    pub at: String,
    /// By whom.
    pub who: String,
    /// From which address.
    pub from: String,
    /// The method of the request.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// The status of the answer; absent when there was none: it may have been made or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The SHA-256 of the request's body; absent of a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// How long the body was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}

/// A page of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// The changes, newest first.
    pub items: Vec<AuditLine>,
    /// What to give as `before` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Whether the audit log is as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Files that were read.
    pub files: u64,
    /// Entries that are as they were written.
    pub entries: u64,
    /// The number of the first that is kept.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The chain of the last: kept elsewhere, it tells later that nothing was cut off or written anew.
    pub head: String,
    /// The first thing that is wrong, with the number of its entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Only those that this principal asked for.
    who: Option<String>,
    /// Only those whose path begins so.
    target: Option<String>,
    /// Only those from then on: RFC 3339, or milliseconds since 1970.
    since: Option<String>,
    /// Only those with a lower number.
    before: Option<u64>,
    /// At most this many: 1 to 1,000, 100 when it is not given.
    limit: Option<usize>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify))
}

/// The changes that were asked for by this API, newest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", params(PageQuery),
    responses((status = 200, body = Page), (status = 400, body = ErrorBody)),
)]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page>, Problem> {
    let limit = page::limit(query.limit)?;
    let filter = AuditFilter {
        who: query.who,
        target: query.target,
        since: moment("since", query.since)?,
        before: query.before,
    };
    let found = node.audited(&who, filter, limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.seq);
    Ok(axum::Json(Page { items: found.into_iter().map(AuditLine::from).collect(), next }))
}

/// Whether the audit log is as it was written, as far as the broker itself can tell.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit", responses((status = 200, body = Report)))]
async fn verify(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Report>, Problem> {
    Ok(axum::Json(node.verify_audit(&who).await?.into()))
}

/// The one place that every change passes: it is noted before it is begun, and what came of it before the answer.
pub(crate) async fn note(State(node): State<Node>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || (request.method() == Method::POST && READING_POSTS.iter().any(|end| path.ends_with(end)));
    if reads {
        return next.run(request).await;
    }
    let secret = path.starts_with(SECRETS);
    let asked = AuditAsked {
        who: request.extensions().get::<Principal>().map_or("-", Principal::name).to_owned(),
        from: address(&request).map_or_else(|| "-".to_owned(), |address| address.to_string()),
        method: request.method().to_string(),
        target: request.uri().path_and_query().map_or(path, |target| target.as_str()).to_owned(),
    };
    let of = match node.audit(asked).await {
        Ok(of) => of,
        Err(error) => return Problem::from(error).into_response(),
    };
    let digest = Arc::new(Mutex::new(Digested::default()));
    let (parts, body) = request.into_parts();
    let body = Hashed { body: body.into_data_stream(), digest: Arc::clone(&digest) };
    let mut unanswered = Unanswered { node, digest, secret, of: Some(of) };
    let response = next.run(Request::from_parts(parts, Body::from_stream(body))).await;
    match unanswered.done(response.status().as_u16()).await {
        Ok(()) => response,
        Err(problem) => problem.into_response(),
    }
}

fn address(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(address))| *address)
}

/// What was read of a body.
#[derive(Default)]
struct Digested {
    hash: Sha256,
    bytes: u64,
}

/// A body that is hashed as it is read.
struct Hashed {
    body: BodyDataStream,
    digest: Arc<Mutex<Digested>>,
}

impl Stream for Hashed {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.body).poll_next(context));
        if let Some(Ok(bytes)) = &next {
            let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
            digest.hash.update(bytes);
            digest.bytes += bytes.len() as u64;
        }
        Poll::Ready(next)
    }
}

/// A change that is under way. Where whoever asked leaves, that is noted too.
struct Unanswered {
    node: Node,
    digest: Arc<Mutex<Digested>>,
    secret: bool,
    of: Option<u64>,
}

impl Unanswered {
    fn entry(&mut self, status: Option<u16>) -> Option<AuditDone> {
        let of = self.of.take()?;
        let digest = std::mem::take(&mut *self.digest.lock().unwrap_or_else(PoisonError::into_inner));
        let body_sha256 =
            (!self.secret).then(|| digest.hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        Some(AuditDone { of, status, body_sha256, body_bytes: digest.bytes })
    }

    async fn done(&mut self, status: u16) -> Result<(), Problem> {
        match self.entry(Some(status)) {
            Some(done) => Ok(self.node.audit_done(done).await?),
            None => Ok(()),
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(done) = self.entry(None) {
            let node = self.node.clone();
            tokio::spawn(async move {
                if let Err(error) = node.audit_done(done).await {
                    tracing::warn!(%error, "what came of a change was not noted");
                }
            });
        }
    }
}

impl From<AuditView> for AuditLine {
    fn from(view: AuditView) -> Self {
        let (status, body_sha256, body_bytes) = match view.done {
            Some(done) => (done.status, done.body_sha256, Some(done.body_bytes)),
            None => (None, None, None),
        };
        Self {
            seq: view.seq,
            at: view.at,
            who: view.asked.who,
            from: view.asked.from,
            method: view.asked.method,
            target: view.asked.target,
            status,
            body_sha256,
            body_bytes,
        }
    }
}

impl From<AuditReport> for Report {
    fn from(report: AuditReport) -> Self {
        Self {
            files: report.files,
            entries: report.entries,
            first: report.first,
            last: report.last,
            head: report.head,
            problem: report.problem.map(|problem| problem.to_string()),
        }
    }
}
