//! Streams and their groups.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{GroupView, Node, Principal, StreamView};
use wharf_protocol::{Name, ParseStartError, Start};

use crate::error::{Code, ErrorBody, Problem};
use crate::extract::{Json, Path, Query};
use crate::message::MessageJson;
use crate::policy::Durability;
use crate::version::{self, IfMatch, Versioned};

/// A stream: what it promises and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// What it promises.
    pub policy: StreamPolicy,
    /// Messages that are kept.
    pub messages: u64,
    /// Bytes of these, as they are encoded.
    pub bytes: u64,
    /// How many groups read it.
    pub groups: usize,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// When the oldest message was stored, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_stored_at: Option<String>,
}

/// What a stream promises. What is not given is the broker's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamPolicy {
    /// What a confirm waits for.
    pub durability: Durability,
    /// Into how many runs it is split, 1 to 256; messages of one key stay in one. It stays as it was made.
    pub partitions: u16,
    /// Messages older than this go; 0: age does not matter.
    pub max_age_ms: u64,
    /// At least so many bytes of the newest messages of each partition are kept, and up to a quarter more; 0: all.
    pub max_bytes: u64,
    /// At least so many of the newest messages of each partition are kept, and up to a quarter more; 0: all.
    pub max_messages: u64,
    /// Of each key only the last message is kept; one with an empty payload takes the key away. It stays as it was
    /// made.
    pub compact: bool,
    /// Knows the last message of each key, which compaction implies. It stays as it was made.
    pub index_keys: bool,
    /// How long an empty message stays that took its key away.
    pub tombstone_ms: u64,
    /// Where messages go that a group's member gives up; to the queue `dead-letters` when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dead_letter: Option<Name>,
    /// After this many nacks a group gives a message up, so that it holds its partition no longer; 0: never.
    pub max_attempts: u32,
    /// Where a message goes that a group gives up by itself.
    pub give_up: GiveUp,
}

/// Where a message goes that a group gives up by itself. It stays in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GiveUp {
    /// The stream's dead-letter queue.
    #[default]
    DeadLetter,
    /// Nowhere: the group passes over it.
    Skip,
}

/// One partition of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partition {
    /// The first offset that is kept.
    pub first: u64,
    /// The offset that the next message gets.
    pub next: u64,
    /// Messages that are kept.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Keys that are known, where the stream knows keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
}

/// A group of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Members that are there now.
    pub members: usize,
    /// Messages that are not settled, in all partitions.
    pub lag: u64,
    /// How far it is, by partition.
    pub cursors: Vec<Cursor>,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cursor {
    /// Which partition.
    pub partition: u16,
    /// All offsets below it are settled.
    pub floor: u64,
    /// Messages from there on that are not.
    pub lag: u64,
    /// The member that has the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<u64>,
    /// Messages among them that failed at least once.
    #[serde(default)]
    pub failing: u64,
}

/// Where a group is to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// `first`, `last`, `new`, an offset, or a time as RFC 3339 writes it.
    pub to: String,
    /// In this partition alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u16>,
}

/// A message at its place in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placed {
    /// The partition.
    pub partition: u16,
    /// Its offset there.
    pub offset: u64,
    /// Its id in the broker.
    pub id: String,
    /// When it was stored, RFC 3339.
    pub stored_at: String,
    /// The message.
    pub message: MessageJson,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct KeyQuery {
    /// The key, as text.
    key: String,
}

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, change, remove))
        .routes(routes!(last))
        .routes(routes!(groups))
        .routes(routes!(group, forget))
        .routes(routes!(reset))
}

/// Every stream.
#[utoipa::path(get, path = "/v1/streams", tag = "streams", responses((status = 200, body = [Stream])))]
async fn list(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
) -> Result<axum::Json<Vec<Stream>>, Problem> {
    let streams = node.streams(&who).await?;
    Ok(axum::Json(streams.into_iter().map(Stream::from).collect()))
}

/// One stream.
#[utoipa::path(
    get, path = "/v1/streams/{name}", tag = "streams",
    params(("name" = String, Path, description = "the stream")),
    responses((status = 200, body = Stream), (status = 404, body = ErrorBody)),
)]
async fn show(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<Versioned<Stream>, Problem> {
    Ok(versioned(node.stream(&who, &name).await?.into()))
}

/// Makes a stream. Asking again for what there is changes nothing; asking for another policy is a conflict, and so is
/// the name of a queue.
#[utoipa::path(
    put, path = "/v1/streams/{name}", tag = "streams",
    params(("name" = String, Path, description = "the stream")), request_body = StreamPolicy,
    responses((status = 200, body = Stream), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
async fn put(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Json(policy): Json<StreamPolicy>,
) -> Result<Versioned<Stream>, Problem> {
    Ok(versioned(node.create_stream(&who, name, policy.into()).await?.into()))
}

/// Changes what is given of a stream's policy, for the messages that are there too; `null` is the default. What
/// somebody else changes at the same time stays changed; with `If-Match` nothing is changed that has another version
/// than the one named there.
#[utoipa::path(
    patch, path = "/v1/streams/{name}", tag = "streams",
    params(
        ("name" = String, Path, description = "the stream"),
        ("If-Match" = Option<String>, Header, description = "the `ETag` that the policy must still have"),
    ),
    request_body = StreamPolicy,
    responses(
        (status = 200, body = Stream), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 412, body = ErrorBody),
    ),
)]
async fn change(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    version: IfMatch,
    Json(changes): Json<Map<String, Value>>,
) -> Result<Versioned<Stream>, Problem> {
    let next = |policy: &wharf_node::StreamPolicy| {
        let policy = StreamPolicy::from(policy.clone());
        version.check("stream", &policy)?;
        let next = crate::policy::changed(&policy, &StreamPolicy::default(), changes.clone())?;
        Ok::<_, Problem>(next.into())
    };
    Ok(versioned(node.change_stream_policy(&who, &name, next).await?.into()))
}

/// Removes a stream with its messages, groups and bindings.
#[utoipa::path(
    delete, path = "/v1/streams/{name}", tag = "streams",
    params(("name" = String, Path, description = "the stream")),
    responses((status = 204), (status = 404, body = ErrorBody)),
)]
async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<StatusCode, Problem> {
    node.delete_stream(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The last message of a key: of a stream that is compacted or indexes its keys.
#[utoipa::path(
    get, path = "/v1/streams/{name}/last", tag = "streams",
    params(("name" = String, Path, description = "the stream"), KeyQuery),
    responses((status = 200, body = Placed), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn last(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
    Query(KeyQuery { key }): Query<KeyQuery>,
) -> Result<axum::Json<Placed>, Problem> {
    let found = node.last_of_key(&who, &name, key.clone().into()).await?;
    let found = found.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("stream {name:?} has no message of key {key:?}"))
    })?;
    Ok(axum::Json(Placed {
        partition: found.partition,
        offset: found.message.offset,
        id: found.message.id.to_string(),
        stored_at: found.message.stored_at.to_string(),
        message: MessageJson::from(&found.message.message),
    }))
}

/// Every group of a stream.
#[utoipa::path(
    get, path = "/v1/streams/{name}/groups", tag = "streams",
    params(("name" = String, Path, description = "the stream")),
    responses((status = 200, body = [Group]), (status = 404, body = ErrorBody)),
)]
async fn groups(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(name): Path<Name>,
) -> Result<axum::Json<Vec<Group>>, Problem> {
    Ok(axum::Json(node.groups(&who, &name).await?.into_iter().map(Group::from).collect()))
}

/// One group of a stream.
#[utoipa::path(
    get, path = "/v1/streams/{name}/groups/{group}", tag = "streams",
    params(("name" = String, Path, description = "the stream"), ("group" = String, Path, description = "the group")),
    responses((status = 200, body = Group), (status = 404, body = ErrorBody)),
)]
async fn group(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((stream, group)): Path<(Name, Name)>,
) -> Result<axum::Json<Group>, Problem> {
    let found = node.groups(&who, &stream).await?.into_iter().find(|each| each.name == group);
    let missing = || Problem::new(Code::NotFound, format!("stream {stream:?} has no group {group:?}"));
    Ok(axum::Json(found.ok_or_else(missing)?.into()))
}

/// Forgets a group; its members are told.
#[utoipa::path(
    delete, path = "/v1/streams/{name}/groups/{group}", tag = "streams",
    params(("name" = String, Path, description = "the stream"), ("group" = String, Path, description = "the group")),
    responses((status = 204), (status = 404, body = ErrorBody)),
)]
async fn forget(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((stream, group)): Path<(Name, Name)>,
) -> Result<StatusCode, Problem> {
    node.delete_group(&who, stream, group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a group to another place; its members begin there at once.
#[utoipa::path(
    post, path = "/v1/streams/{name}/groups/{group}/reset", tag = "streams",
    params(("name" = String, Path, description = "the stream"), ("group" = String, Path, description = "the group")),
    request_body = Reset,
    responses((status = 200, body = Group), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
async fn reset(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path((stream, name)): Path<(Name, Name)>,
    Json(wanted): Json<Reset>,
) -> Result<axum::Json<Group>, Problem> {
    let to: Start = wanted.to.parse().map_err(|error: ParseStartError| Problem::invalid(error))?;
    node.reset_group(&who, stream.clone(), name.clone(), to, wanted.partition).await?;
    group(State(node), Extension(who), Path((stream, name))).await
}

fn versioned(stream: Stream) -> Versioned<Stream> {
    Versioned { tag: version::tag(&stream.policy), body: stream }
}

impl Default for StreamPolicy {
    fn default() -> Self {
        wharf_node::StreamPolicy::default().into()
    }
}

impl From<wharf_node::StreamPolicy> for StreamPolicy {
    fn from(policy: wharf_node::StreamPolicy) -> Self {
        let wharf_node::StreamPolicy {
            durability,
            partitions,
            max_age_ms,
            max_bytes,
            max_messages,
            compact,
            index_keys,
            tombstone_ms,
            dead_letter,
            give_up: wharf_node::GiveUp { max_attempts, to },
        } = policy;
        let (durability, give_up) = (durability.into(), to.into());
        Self {
            durability,
            partitions,
            max_age_ms,
            max_bytes,
            max_messages,
            compact,
            index_keys,
            tombstone_ms,
            dead_letter,
            max_attempts,
            give_up,
        }
    }
}

impl From<StreamPolicy> for wharf_node::StreamPolicy {
    fn from(policy: StreamPolicy) -> Self {
        let StreamPolicy {
            durability,
            partitions,
            max_age_ms,
            max_bytes,
            max_messages,
            compact,
            index_keys,
            tombstone_ms,
            dead_letter,
            max_attempts,
            give_up,
        } = policy;
        let (durability, to) = (durability.into(), give_up.into());
        Self {
            durability,
            partitions,
            max_age_ms,
            max_bytes,
            max_messages,
            compact,
            index_keys,
            tombstone_ms,
            dead_letter,
            give_up: wharf_node::GiveUp { max_attempts, to },
        }
    }
}

impl From<wharf_node::GiveUpTo> for GiveUp {
    fn from(to: wharf_node::GiveUpTo) -> Self {
        match to {
            wharf_node::GiveUpTo::DeadLetter => Self::DeadLetter,
            wharf_node::GiveUpTo::Skip => Self::Skip,
        }
    }
}

impl From<GiveUp> for wharf_node::GiveUpTo {
    fn from(give_up: GiveUp) -> Self {
        match give_up {
            GiveUp::DeadLetter => Self::DeadLetter,
            GiveUp::Skip => Self::Skip,
        }
    }
}

impl From<StreamView> for Stream {
    fn from(view: StreamView) -> Self {
        let (messages, bytes) = (view.messages(), view.bytes());
        let oldest_stored_at = view.oldest_at().map(|at| at.to_string());
        let partition = |each: &wharf_node::PartitionView| Partition {
            first: each.first,
            next: each.next,
            messages: each.messages,
            bytes: each.bytes,
            keys: each.keys,
        };
        let partitions = view.partitions.iter().map(partition).collect();
        let (name, policy) = (view.name.to_string(), view.policy.into());
        Self { name, policy, messages, bytes, groups: view.groups, partitions, oldest_stored_at }
    }
}

impl From<GroupView> for Group {
    fn from(view: GroupView) -> Self {
        let cursor = |(partition, each): (u16, &wharf_node::CursorView)| {
            let member = each.owner.map(|owner| owner.0);
            Cursor { partition, floor: each.floor, lag: each.lag, member, failing: each.failing }
        };
        let cursors: Vec<Cursor> = (0..).zip(&view.cursors).map(cursor).collect();
        let lag = cursors.iter().map(|cursor| cursor.lag).sum();
        Self { name: view.name.to_string(), members: view.members.len(), lag, cursors }
    }
}
