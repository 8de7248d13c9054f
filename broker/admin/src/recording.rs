//! Recordings: messages as they enter a stage of a running pipeline, and what it makes of them.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{Node, Principal};
use wharf_protocol::Name;

use crate::error::{Code, ErrorBody, Problem};
use crate::extract::{Path, Query};

/// How many messages one recording has at most.
pub const COUNT_MAX: usize = 10_000;

/// How long one recording takes at most: within the time of a request.
pub const WAIT_MS_MAX: u64 = 110_000;

/// How long a recording's text gets before it ends.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What to record.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The stage; the pipeline's first where it is not given.
    #[param(value_type = Option<String>)]
    stage: Option<Name>,
    /// After how many messages it ends, 1 to 10,000; 100 where it is not given.
    count: Option<usize>,
    /// After how many milliseconds it ends, whatever came, up to 110,000; 30,000 where it is not given.
    wait_ms: Option<u64>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(record))
}

/// Records what a stage takes and says from now on, until there are enough messages or the time is over.
///
/// The answer is lines of JSON: the stage first, then a message a line with what became of it. Nothing is taken out of
/// its way, and nothing is slower for it; who publishes too fast is recorded in part, and `missed` on the last line says
/// how many messages are not there.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/record", tag = "pipelines",
    params(("name" = String, Path, description = "the pipeline"), Wanted),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
)]
async fn record(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let (count, wait_ms) = (wanted.count.unwrap_or(100), wanted.wait_ms.unwrap_or(30_000));
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(Problem::invalid(format!("count is 1 to {COUNT_MAX}, not {count}")));
    }
    if wait_ms > WAIT_MS_MAX {
        return Err(Problem::invalid(format!("wait_ms is at most {WAIT_MS_MAX}, not {wait_ms}")));
    }
    let mut recording = node.record_stage(&who, &name, wanted.stage.as_ref()).await?;
    let end = Instant::now() + Duration::from_millis(wait_ms);
    let mut text = Vec::new();
    append(&mut text, &recording.head)?;
    let mut recorded = 0;
    let mut last = None;
    while recorded < count && text.len() < BYTES_MAX {
        let Ok(Some(entry)) = timeout_at(end, recording.next()).await else { break };
        let at = text.len();
        append(&mut text, &entry)?;
        last = Some((at, entry));
        recorded += 1;
    }
    let missed = recording.missed();
    if let Some((at, entry)) = last.filter(|_| missed > 0) {
        text.truncate(at);
        append(&mut text, &Incomplete { entry, missed })?;
    }
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// The last line of a recording that misses messages. Readers skip members that they do not know.
#[derive(Serialize)]
struct Incomplete<E> {
    #[serde(flatten)]
    entry: E,
    missed: u64,
}

fn append(text: &mut Vec<u8>, line: &impl serde::Serialize) -> Result<(), Problem> {
    serde_json::to_writer(&mut *text, line).map_err(|error| {
        Problem::new(Code::Unavailable, format!("the recording cannot be written: {error}"))
    })?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_line_is_an_entry_that_says_what_is_missed() {
        let mut text = Vec::new();
        append(&mut text, &Incomplete { entry: json!({"now_ms": 7}), missed: 650 }).expect("it is written");
        assert_eq!(text, b"{\"now_ms\":7,\"missed\":650}\n");
    }
}
