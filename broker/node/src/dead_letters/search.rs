//! Looking for dead letters: by what their deaths say, which the state knows, and by their headers, which lie in the log.
//!
//! There is no index: deaths are in memory, and a search looks through them a page at a time, so that the shard does
//! other things between two pages. Only where headers are asked for are bodies read, of the letters that the rest of the
//! filter leaves.

use std::collections::BTreeSet;

use wharf_pipeline::PluginRef;
use wharf_protocol::{Death, DeathCause, Message, QueueName, Timestamp};
use wharf_queue::{DeadLetter, Topology};
use wharf_shard::{Shard, ShardError};

use super::letters_read_at_once;
use crate::NodeError;

/// Dead letters that the shard looks at in one turn.
const LOOKED_MAX: usize = 4_096;
/// Letters whose headers are read in one turn, however few are wanted: rare ones would be looked for one by one else.
const READ_MAX: usize = 1_024;
/// The most headers that a search names.
const HEADERS_MAX: usize = 16;

/// Which dead letters are meant: those of which all that is given is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// The reason has this in it; case does not matter.
    pub reason: Option<String>,
    /// What kind of reason.
    pub cause: Option<DeathCause>,
    /// The stage, as `pipeline/stage`; or the pipeline alone.
    pub stage: Option<String>,
    /// A plugin's name and, where it matters, its version.
    pub plugin: Option<PluginRef>,
    /// The queue where it died.
    pub died_in: Option<QueueName>,
    /// Headers with these values.
    pub headers: Vec<(String, String)>,
    /// Died at that moment or later.
    pub since: Option<Timestamp>,
    /// Died before that moment.
    pub until: Option<Timestamp>,
}

/// A filter with what it names looked up.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    filter: LetterFilter,
    /// The reason in lower case.
    reason: Option<String>,
    /// The SHA-256 of the plugins that are meant, in hexadecimal.
    digests: Option<BTreeSet<String>>,
}

/// What one page found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) letters: Vec<DeadLetter>,
    /// Where to go on, when that was not all.
    pub(crate) next: Option<u64>,
}

impl Matcher {
    /// # Errors
    /// No plugin of that name; too many headers.
    pub(crate) fn new(filter: LetterFilter, topology: &Topology) -> Result<Self, NodeError> {
        if filter.headers.len() > HEADERS_MAX {
            let text = format!("a search names at most {HEADERS_MAX} headers, not {}", filter.headers.len());
            return Err(NodeError::TooLarge(text));
        }
        let digests = filter.plugin.as_ref().map(|wanted| {
            let meant = topology.plugins().filter(|(name, version, _)| {
                **name == wanted.name && wanted.version.as_ref().is_none_or(|wanted| wanted == *version)
            });
            meant.map(|(_, _, plugin)| hex::encode(plugin.digest)).collect::<BTreeSet<_>>()
        });
        if let (Some(digests), Some(wanted)) = (&digests, &filter.plugin)
            && digests.is_empty()
        {
            return Err(NodeError::NotFound { kind: "plugin", name: wanted.to_string() });
        }
        let reason = filter.reason.as_ref().map(|reason| reason.to_lowercase());
        Ok(Self { filter, reason, digests })
    }

    fn matches(&self, death: &Death) -> bool {
        let filter = &self.filter;
        let stage = |wanted: &String| {
            let stage = death.stage.as_deref().unwrap_or_default();
            stage == wanted || stage.split('/').next() == Some(wanted)
        };
        filter.cause.is_none_or(|cause| death.cause == cause)
            && filter.since.is_none_or(|since| death.last_at >= since)
            && filter.until.is_none_or(|until| death.last_at < until)
            && filter.died_in.as_ref().is_none_or(|queue| death.queue == queue.as_str())
            && filter.stage.as_ref().is_none_or(stage)
            && self
                .digests
                .as_ref()
                .is_none_or(|digests| death.plugin.as_ref().is_some_and(|plugin| digests.contains(plugin)))
            && self.reason.as_ref().is_none_or(|reason| death.reason.to_lowercase().contains(reason))
    }

    /// At most `max` letters of a queue from offset `from` on, of the next that one turn looks at.
    pub(crate) async fn page(
        &self,
        shard: &Shard,
        queue: &QueueName,
        from: u64,
        max: usize,
    ) -> Result<Found, ShardError> {
        let (matcher, queue) = (self.clone(), queue.clone());
        let by_headers = !self.filter.headers.is_empty();
        let candidates = if by_headers { max.max(READ_MAX) } else { max };
        let ask = move |state: &wharf_queue::State, _: &wharf_log::Stats| {
            let wanted = |death: &Death| matcher.matches(death);
            state.find_dead_letters(queue.as_str(), from, LOOKED_MAX, candidates, wanted)
        };
        let (letters, next) = shard.query(ask).await?;
        let mut found = Found { letters, next };
        if by_headers {
            let candidates = std::mem::take(&mut found.letters);
            let mut rest = candidates.as_slice();
            while !rest.is_empty() && found.letters.len() <= max {
                let (now, later) = rest.split_at(letters_read_at_once(rest.iter()));
                found.letters.extend(self.with_headers(shard, now).await?);
                rest = later;
            }
            // One more than is wanted: the next page begins with it.
            if let Some(over) = found.letters.get(max) {
                found.next = Some(over.offset);
                found.letters.truncate(max);
            }
        }
        Ok(found)
    }

    /// Those of `letters` whose messages have the headers.
    async fn with_headers(
        &self,
        shard: &Shard,
        letters: &[DeadLetter],
    ) -> Result<Vec<DeadLetter>, ShardError> {
        let has = |message: &Message| {
            let same = |(name, value): &(String, String)| message.headers.get(name) == Some(value.as_bytes());
            self.filter.headers.iter().all(same)
        };
        let ids = letters.iter().map(|letter| letter.id).collect();
        if let Ok(messages) = shard.read(ids).await {
            let both = letters.iter().zip(messages).filter(|(_, message)| has(message));
            return Ok(both.map(|(letter, _)| letter.clone()).collect());
        }
        // One of them was settled meanwhile, and is gone from the log: the others are still there.
        let mut found = Vec::new();
        for letter in letters {
            match shard.read(vec![letter.id]).await {
                Ok(messages) => found.extend(messages.iter().any(has).then(|| letter.clone())),
                Err(error @ ShardError::Stopped(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!(id = %letter.id, %error, "a dead letter went while it was looked for")
                }
            }
        }
        Ok(found)
    }
}
