//! How dead letters end: sent on their way again, or discarded.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_node::{LetterFate, Letters, Node, NodeError, Principal, REDRIVEN_MAX};
use wharf_protocol::{MessageId, QueueName};

use super::{Filter, message_id};
use crate::error::{ErrorBody, Problem};
use crate::extract::{Json, Path};

/// Of what one letter became, so many ids are told.
const BECAME_TOLD_MAX: usize = 16;

/// Which dead letters go on their way again, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redrive {
    /// These; at most 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// All there are.
    pub all: bool,
    /// The queue they go to, as they are. Not given: each goes on from where it died, through what is in force now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Those too that were redriven three times before.
    pub force: bool,
}

/// What became of dead letters that were to go on their way again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// On their way again, with a fresh count of failures; or dropped by their pipelines.
    pub moved: u64,
    /// A pipeline gave them up once more: dead letters again, with their past.
    #[serde(default)]
    pub died_again: u64,
    /// Still there: refused on their way, held by a consumer, redriven often enough, or their queue is gone or full.
    pub kept: u64,
    /// What became of those that went through pipelines, and of those that stay for a reason of their own; the first
    /// 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub letters: Vec<LetterTold>,
}

/// What became of one dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterTold {
    /// Its id.
    pub id: String,
    /// The ids of what it became, the first 16. None: its pipelines dropped it, or it stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub became: Vec<String>,
    /// The versions of the pipelines that it passed, as `name/number`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<String>,
    /// A stage gave it up once more: what it became is a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died_again: Option<Objection>,
    /// Why it lies where it lay, when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<Objection>,
}

/// Who objected to a message, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Objection {
    /// The stage, as `pipeline/stage`, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// One sentence.
    pub reason: String,
}

/// Which dead letters are discarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discard {
    /// These; at most 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// All there are that pass the filter.
    pub all: bool,
    /// Of all, only those in this dead-letter queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub queue: Option<QueueName>,
    /// Of all, only these.
    pub filter: Filter,
}

/// What became of dead letters that were to be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Discarded {
    /// Gone for good.
    pub discarded: u64,
    /// Still there: a consumer holds them. Or gone before.
    pub kept: u64,
}

/// Sends dead letters on their way again: each from where it died, through the pipelines and bindings that are in force
/// now, or to one queue as they are. What a pipeline refuses stays, and the answer says why.
#[utoipa::path(
    post, path = "/v1/dead-letters/redrive", tag = "dead letters", request_body = Redrive,
    responses(
        (status = 200, body = Redriven), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
    ),
)]
pub(super) async fn redrive(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Json(redrive): Json<Redrive>,
) -> Result<axum::Json<Redriven>, Problem> {
    let ids = which(redrive.all, &redrive.ids)?;
    let to: Option<QueueName> = redrive
        .to
        .map(|to| to.parse().map_err(|error| Problem::invalid(format_args!("to: {error}"))))
        .transpose()?;
    let redriven = node.redrive(&who, ids, to.as_ref(), redriven_max(redrive.force)).await?;
    Ok(axum::Json(redriven.into()))
}

/// Discards a dead letter: it is gone for good.
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", tag = "dead letters",
    params(("id" = String, Path, description = "the dead letter")),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
pub(super) async fn remove(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let discarded = node.discard(&who, Letters::Named(vec![message_id(&id)?])).await?;
    if discarded.kept > 0 {
        let text = format!("a consumer holds dead letter {id}: discard it when it is back");
        return Err(NodeError::Conflict(text).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Discards dead letters, these or all that pass a filter: they are gone for good.
#[utoipa::path(
    post, path = "/v1/dead-letters/discard", tag = "dead letters", request_body = Discard,
    responses(
        (status = 200, body = Discarded), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
    ),
)]
pub(super) async fn discard(
    State(node): State<Node>,
    Extension(who): Extension<Principal>,
    Json(discard): Json<Discard>,
) -> Result<axum::Json<Discarded>, Problem> {
    let Discard { ids, all, queue, filter } = discard;
    let letters = match which(all, &ids)? {
        None => Letters::Like(queue, Box::new(filter.parsed()?)),
        Some(ids) if queue.is_none() && filter == Filter::default() => Letters::Named(ids),
        Some(_) => return Err(Problem::invalid("`queue` and `filter` go with `all: true`, not with `ids`")),
    };
    let discarded = node.discard(&who, letters).await?;
    Ok(axum::Json(Discarded { discarded: discarded.discarded, kept: discarded.kept }))
}

/// The ids that are meant; `None`: all.
fn which(all: bool, ids: &[String]) -> Result<Option<Vec<MessageId>>, Problem> {
    match (all, ids.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => ids.iter().map(|id| message_id(id)).collect::<Result<_, _>>().map(Some),
        _ => Err(Problem::invalid("give either `ids` or `all: true`")),
    }
}

/// How often a letter may have been redriven before.
pub(crate) fn redriven_max(force: bool) -> Option<u32> {
    (!force).then_some(REDRIVEN_MAX)
}

impl From<wharf_node::Redriven> for Redriven {
    fn from(redriven: wharf_node::Redriven) -> Self {
        Self {
            moved: redriven.moved,
            died_again: redriven.died_again,
            kept: redriven.kept + redriven.looping,
            letters: redriven.told.into_iter().map(LetterTold::from).collect(),
        }
    }
}

impl From<wharf_node::LetterTold> for LetterTold {
    fn from(told: wharf_node::LetterTold) -> Self {
        let letter = Self { id: told.id.to_string(), ..Self::default() };
        match told.fate {
            LetterFate::Stays(rejection) => {
                let (stage, reason) = (rejection.stage, rejection.reason);
                Self { stays: Some(Objection { stage, reason }), ..letter }
            }
            LetterFate::WentOn { became, versions, died_again } => Self {
                became: became.ids().take(BECAME_TOLD_MAX).map(|id| id.to_string()).collect(),
                pipelines: versions.iter().map(ToString::to_string).collect(),
                died_again: died_again.map(|(stage, reason)| Objection { stage: Some(stage), reason }),
                ..letter
            },
        }
    }
}
