//! Dead letters: what could not be delivered, and why.

mod ending;

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
pub use wharf_node::REDRIVEN_MAX;
use wharf_node::{DeadLetterView, LetterEdit, LetterFilter, Node, PluginRef, Principal};
use wharf_protocol::{DeathCause, MessageId, QueueName, Topic};

use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path, Query};
use crate::message::{MessageJson, PayloadEncoding};
use crate::page;
use crate::step::word;
use crate::trace::moment;

pub(crate) use ending::redriven_max;
pub use ending::{Discard, Discarded, LetterTold, Objection, Redrive, Redriven};

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Its id, by which it is shown and redriven.
    pub id: String,
    /// The dead-letter queue that holds it.
    pub queue: String,
    /// Its place there.
    pub offset: u64,
    /// What it takes.
    pub bytes: u32,
    /// Why and from where it came there.
    pub death: Death,
    /// How often it was sent on its way again.
    #[serde(default)]
    pub redriven: u32,
    /// How often its message was edited.
    #[serde(default)]
    pub edited: u32,
    /// Its deaths before this one, oldest first: the first and the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Death>,
    /// The message; only when one dead letter is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageJson>,
}

/// Why and from where a message came to a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Death {
    /// The queue it was in or on its way to.
    pub queue: String,
    /// `max-attempts`, `rejected`, `stage`, `stage-fault` or `expired`.
    pub cause: String,
    /// One sentence.
    pub reason: String,
    /// The stage that refused it, as `pipeline/stage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The SHA-256 of that stage's plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Deliveries before it was given up.
    pub attempts: u32,
    /// When it was first stored, RFC 3339.
    pub first_at: String,
    /// When it was dead-lettered, RFC 3339.
    pub last_at: String,
    /// Its id where it died.
    pub original: String,
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// The dead letters, without their messages.
    pub items: Vec<DeadLetter>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What is changed of a dead letter's message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// Another payload: text, or base64 when `payload_encoding` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Absent when the payload is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_encoding: Option<PayloadEncoding>,
    /// Another topic. What died before any queue had it goes by it; the rest back to the queue where it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub topic: Option<Topic>,
    /// Headers to set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_headers: BTreeMap<String, String>,
    /// Headers to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_headers: Vec<String>,
}

/// Which dead letters are looked for: those of which all that is given is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The reason has this in it; case does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `max-attempts`, `rejected`, `stage`, `stage-fault`, `expired` or `overflow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cause: Option<DeathCause>,
    /// The stage that refused it, as `pipeline/stage`; or the pipeline alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// That stage's plugin, as `name` or `name@version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginRef>,
    /// The queue where it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub died_in: Option<QueueName>,
    /// Headers with these values; at most 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Died at that moment or later, RFC 3339 or milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Died before that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Dead letters that are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// Only those in this dead-letter queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub queue: Option<QueueName>,
    /// Which of them.
    pub filter: Filter,
    /// What an earlier page gave as `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many: 1 to 1,000, 100 when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Filter {
    /// The filter that the node knows.
    pub(crate) fn parsed(self) -> Result<LetterFilter, Problem> {
        Ok(LetterFilter {
            reason: self.reason,
            cause: self.cause,
            stage: self.stage,
            plugin: self.plugin,
            died_in: self.died_in,
            headers: self.headers.into_iter().collect(),
            since: moment("since", self.since)?,
            until: moment("until", self.until)?,
        })
    }
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Only those in this dead-letter queue.
    #[param(value_type = Option<String>)]
    queue: Option<QueueName>,
    /// Only those after the page whose `next` this is.
    after: Option<String>,
    /// At most this many: 1 to 1,000, 100 when it is not given.
    limit: Option<usize>,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(ending::redrive))
        .routes(routes!(ending::discard))
        .routes(routes!(search))
        .routes(routes!(show, edit, ending::remove))
}

/// A page of dead letters: queue by queue, in each the oldest first.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", params(PageQuery),
    responses((status = 200, body = Page), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page>, Problem> {
    let limit = page::limit(query.limit)?;
    let after = query.after.as_deref().map(cursor).transpose()?;
    let mut queues = match query.queue {
        Some(queue) => vec![queue],
        None => with_dead_letters(&node, &who).await?,
    };
    queues.sort_unstable();
    let mut found = Vec::new();
    for queue in queues {
        let from = match &after {
            Some((last, _)) if queue < *last => continue,
            Some((last, offset)) if queue == *last => offset.saturating_add(1),
            _ => 0,
        };
        // One more than asked for tells whether there is another page.
        found.extend(node.dead_letters(&who, Some(&queue), from, limit + 1 - found.len()).await?);
        if found.len() > limit {
            break;
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| format!("{}:{}", last.queue, last.offset));
    Ok(axum::Json(Page { items: found.into_iter().map(DeadLetter::from).collect(), next }))
}

/// The queues in which dead letters lie.
async fn with_dead_letters(node: &Node, who: &Principal) -> Result<Vec<QueueName>, Problem> {
    let queues = node.queues(who).await?;
    Ok(queues.into_iter().filter(|queue| queue.dead > 0).map(|queue| queue.name).collect())
}

/// The place that `next` of a page tells: `QUEUE:OFFSET`.
fn cursor(text: &str) -> Result<(QueueName, u64), Problem> {
    let parsed =
        text.rsplit_once(':').and_then(|(queue, offset)| Some((queue.parse().ok()?, offset.parse().ok()?)));
    parsed.ok_or_else(|| Problem::invalid(format_args!("after: {text:?} is not the `next` of a page")))
}

/// One dead letter with its message.
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "dead letters",
    params(("id" = String, Path, description = "the dead letter")),
    responses((status = 200, body = DeadLetter), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<axum::Json<DeadLetter>, Problem> {
    let (found, message) = node.dead_letter(&who, message_id(&id)?).await?;
    Ok(axum::Json(DeadLetter { message: Some(MessageJson::from(&message)), ..found.into() }))
}

/// A page of the dead letters that are looked for: queue by queue, in each the oldest first. It may have fewer than
/// asked for, or none, and still not be the last: that one has no `next`.
#[utoipa::path(
    post, path = "/v1/dead-letters/search", tag = "dead letters", request_body = Search,
    responses((status = 200, body = Page), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn search(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Json(search): Json<Search>,
) -> Result<axum::Json<Page>, Problem> {
    let limit = page::limit(search.limit)?;
    let after = search.after.as_deref().map(cursor).transpose()?;
    let filter = search.filter.parsed()?;
    let page = node.find_dead_letters(&who, search.queue.as_ref(), filter, after, limit).await?;
    let next = page.next.map(|(queue, offset)| format!("{queue}:{offset}"));
    Ok(axum::Json(Page { items: page.letters.into_iter().map(DeadLetter::from).collect(), next }))
}

/// Puts an edited message in the place of a dead letter, in one record: with its death and its history, under the new
/// id that the answer has. Done once: the old letter is not there any more.
#[utoipa::path(
    patch, path = "/v1/dead-letters/{id}", tag = "dead letters", request_body = Edit,
    params(("id" = String, Path, description = "the dead letter")),
    responses(
        (status = 200, body = DeadLetter), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
    ),
)]
async fn edit(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    Json(edit): Json<Edit>,
) -> Result<axum::Json<DeadLetter>, Problem> {
    let decode = |text: String| match edit.payload_encoding {
        None => Ok(Bytes::from(text)),
        Some(PayloadEncoding::Base64) => BASE64
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| Problem::invalid(format_args!("payload: {error}"))),
    };
    let set = edit.set_headers.into_iter().map(|(name, value)| (name, value.into_bytes()));
    let change = LetterEdit {
        payload: edit.payload.map(decode).transpose()?,
        topic: edit.topic,
        set: set.collect(),
        remove: edit.remove_headers,
    };
    if change == LetterEdit::default() {
        return Err(Problem::invalid("an edit changes the payload, the topic or a header"));
    }
    Ok(axum::Json(node.edit_dead_letter(&who, message_id(&id)?, &change).await?.into()))
}

fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(Problem::invalid)
}

impl From<DeadLetterView> for DeadLetter {
    fn from(view: DeadLetterView) -> Self {
        Self {
            id: view.id.to_string(),
            queue: view.queue.to_string(),
            offset: view.offset,
            bytes: view.bytes,
            death: view.death.into(),
            redriven: view.redriven,
            edited: view.edited,
            past: view.past.into_iter().map(Death::from).collect(),
            message: None,
        }
    }
}

impl From<wharf_protocol::Death> for Death {
    fn from(death: wharf_protocol::Death) -> Self {
        Self {
            queue: death.queue,
            cause: word(&death.cause),
            reason: death.reason,
            stage: death.stage,
            plugin: death.plugin,
            attempts: death.attempts,
            first_at: death.first_at.to_string(),
            last_at: death.last_at.to_string(),
            original: death.original.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_the_last_queue_and_its_offset() {
        let (queue, offset) = cursor("tenant:a:17").expect("a cursor");
        assert_eq!((queue.as_str(), offset), ("tenant:a", 17));
        for wrong in ["", "17", ":17", "q:", "q:-1"] {
            assert!(cursor(wrong).is_err(), "{wrong:?}");
        }
    }
}
