//! The way of messages whose pipelines remember; and what they remember, for those who look after it.
//!
//! A batch is first run and stored as every other, in its turn. What proves stale goes again, message by message,
//! each stored before the next one runs, while nothing else is under way: then what it reads is what the log holds.

use std::collections::BTreeSet;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{ErrorCode, Kept, Message, Name, PipelineVersion, Receipt, Rejection, Timestamp, Topic};
use wharf_queue::{KvChange, is_stale};

use crate::memories::Turn;
use crate::publish::Publication;
use crate::{Action, Node, NodeError, Principal, Receipts};

/// How often a message is run while what it reads changes under it: only a change by hand, or time, can do that.
pub(crate) const TRIES_MAX: usize = 3;
/// The most keys that one listing shows.
pub const KV_LIST_MAX: usize = 1_000;

/// Whether a batch is run for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    First,
    Again,
}

/// What came of running a batch once.
struct Attempt {
    told: Vec<Receipt>,
    versions: Vec<Vec<PipelineVersion>>,
    /// Whether any of it has to go again.
    stale: bool,
}

/// What one pipeline remembers, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvView {
    /// The pipeline.
    pub pipeline: Name,
    /// How many keys.
    pub keys: u64,
    /// What they take of the 64 MiB that a pipeline has.
    pub bytes: u64,
}

/// One key of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntryView {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: bytes::Bytes,
    /// When it is there no more.
    pub expires_at: Option<Timestamp>,
}

impl Node {
    /// Publishes a batch of which some may meet a pipeline that remembers. Returns when all of it is decided: what
    /// comes behind a message that has to go again is not to overtake it.
    pub(crate) async fn publish_remembering(&self, who: &Principal, batch: Vec<Publication>) -> Receipts {
        let turn = self.turn_for(batch.iter().map(|publication| &publication.message)).await;
        let Attempt { mut told, mut versions, stale } =
            self.publish_in_turn(who, batch.clone(), turn, Run::First).await;
        if stale {
            let first = told.iter().position(is_stale).unwrap_or(told.len());
            told.truncate(first);
            versions.truncate(first);
            let turn = self.turn_for(batch.iter().map(|publication| &publication.message)).await;
            self.memories().all_arrived().await;
            for publication in batch.into_iter().skip(first) {
                let (receipt, passed) = self.publish_alone(who, publication, &turn).await;
                told.push(receipt);
                versions.extend(passed);
            }
        }
        Receipts::new(told.into_iter().map(Some).collect(), None).of_versions(versions)
    }

    /// A turn for these messages, once the pipelines of their topics owe no processor time: whoever waited for that in
    /// their turn would keep all others from theirs.
    pub(crate) async fn turn_for(&self, messages: impl Iterator<Item = &Message>) -> Turn {
        let mut paid = BTreeSet::new();
        {
            let topology = self.shard().topology();
            let mut last: Option<&Topic> = None;
            for Message { topic, .. } in messages {
                if last.replace(topic) == Some(topic) {
                    continue;
                }
                paid.extend(topology.ingress(topic).map(|(name, _)| name.clone()));
                paid.extend(topology.resolve(topic).iter().filter_map(|binding| binding.pipeline.clone()));
            }
        }
        for name in &paid {
            drop(self.pipelines_in_use().enter_in_turn(name, false).await);
        }
        self.memories().turn(paid).await
    }

    /// One attempt.
    async fn publish_in_turn(
        &self,
        who: &Principal,
        batch: Vec<Publication>,
        turn: Turn,
        run: Run,
    ) -> Attempt {
        let (mut journey, admitted) = self.admit(who, batch);
        journey.take_turn(turn.again());
        self.travel(&mut journey, admitted).await;
        if run == Run::Again {
            journey.was_heard();
        }
        let ticket = self.memories().send_off(journey.kv_changes());
        let mut receipts = self.store(journey).await;
        drop(turn);
        let versions = receipts.take_versions();
        let told = receipts.await;
        drop(ticket);
        let stale = told.iter().any(is_stale);
        Attempt { told, versions, stale }
    }

    /// What became of one message, and the versions that it passed, where it asks for them.
    async fn publish_alone(
        &self,
        who: &Principal,
        publication: Publication,
        turn: &Turn,
    ) -> (Receipt, Option<Vec<PipelineVersion>>) {
        let asks = publication.tell_versions;
        for _ in 0..TRIES_MAX {
            let attempt =
                self.publish_in_turn(who, vec![publication.clone()], turn.again(), Run::Again).await;
            if !attempt.stale
                && let Some(receipt) = attempt.told.into_iter().next()
            {
                return (receipt, attempt.versions.into_iter().next());
            }
        }
        (Receipt::Rejected(restless()), asks.then(Vec::new))
    }

    /// Every pipeline that remembers something.
    ///
    /// # Errors
    /// Not allowed.
    pub fn kv(&self, who: &Principal) -> Result<Vec<KvView>, NodeError> {
        who.check(Action::Administer)?;
        let view = |view: wharf_queue::KvView| KvView {
            pipeline: view.pipeline,
            keys: view.keys,
            bytes: view.bytes,
        };
        Ok(self.shard().kv().views().into_iter().map(view).collect())
    }

    /// At most `max` keys of a pipeline, in order: those that begin with `prefix`, from `from` on.
    ///
    /// # Errors
    /// No such pipeline; not allowed.
    pub fn kv_keys(
        &self,
        who: &Principal,
        pipeline: &Name,
        prefix: &str,
        from: &str,
        max: usize,
    ) -> Result<Vec<KvEntryView>, NodeError> {
        self.check_remembers(who, pipeline)?;
        let keys = self.shard().kv().list(pipeline, prefix, from, max.min(KV_LIST_MAX));
        let now = Timestamp::wall_clock();
        Ok(keys.into_iter().filter(|(_, kept)| kept.lives(now)).map(KvEntryView::from).collect())
    }

    /// One key of a pipeline.
    ///
    /// # Errors
    /// No such pipeline or key; not allowed.
    pub fn kv_get(&self, who: &Principal, pipeline: &Name, key: &str) -> Result<KvEntryView, NodeError> {
        self.check_remembers(who, pipeline)?;
        let kept = self.shard().kv().get(pipeline, key).filter(|kept| kept.lives(Timestamp::wall_clock()));
        let missing = || NodeError::NotFound { kind: "key", name: key.to_owned() };
        Ok(KvEntryView::from((ByteString::from(key), kept.ok_or_else(missing)?)))
    }

    /// Removes a key of a pipeline, in a record of its own.
    ///
    /// # Errors
    /// No such pipeline or key; not allowed.
    pub async fn kv_remove(&self, who: &Principal, pipeline: &Name, key: &str) -> Result<(), NodeError> {
        self.kv_get(who, pipeline, key)?;
        let change = KvChange { pipeline: pipeline.clone(), key: key.into(), kept: None };
        Ok(self.shard().change_kv(vec![change]).await?)
    }

    fn check_remembers(&self, who: &Principal, pipeline: &Name) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        match self.shard().topology().pipeline(pipeline.as_str()) {
            Some(_) => Ok(()),
            None => Err(NodeError::NotFound { kind: "pipeline", name: pipeline.to_string() }),
        }
    }
}

/// What is told of a message that was run as often as one is, each time on something else.
pub(crate) fn restless() -> Rejection {
    Rejection {
        code: ErrorCode::Unavailable,
        stage: None,
        reason: format!(
            "what its pipelines remember changed {TRIES_MAX} times while it was on its way; send it again"
        ),
        retry_after_ms: Some(0),
    }
}

impl From<(ByteString, Kept)> for KvEntryView {
    fn from((key, kept): (ByteString, Kept)) -> Self {
        Self { key: key.to_string(), value: kept.value, expires_at: kept.expires }
    }
}
