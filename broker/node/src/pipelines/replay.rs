//! Stored messages once more through two versions of a pipeline, to see what would differ.
//!
//! Nothing is stored, delivered or settled, and the version that live messages pass is not touched: both sides are
//! prepared anew. A replay takes one thread of the plugins at a time, which it shares with all trials, so that live
//! messages find the others free.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use wharf_pipeline::compare::{Comparison, Ran};
use wharf_pipeline::{Item, Pipeline, TimedRun};
use wharf_protocol::{Death, DeathCause, Delivery, Message, Name, QueueName, Start, Timestamp};

use super::Candidate;
use crate::pace::Pace;
use crate::{Action, Event, Node, NodeError, Principal, ReadOptions};

/// Messages that run through both versions together.
const BATCH: usize = 32;
/// Dead letters that are looked at together, for those that the pipeline gave up.
const LETTERS_LOOKED_AT: usize = 256;
/// How long a replay looks for another message behind those that were asked for.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a replay goes on; past that it tells how far it came.
const TIME_MAX: Duration = Duration::from_secs(90);
/// The most examples of a class of differences.
const EXAMPLES_MAX: usize = 100;

/// What is replayed, and against what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The version to compare with the one in use.
    pub candidate: Candidate,
    /// The messages.
    pub source: ReplaySource,
    /// At most so many of them.
    pub limit: u64,
    /// How many examples to keep of each class of differences, at most 100.
    pub examples: usize,
    /// At most so many messages a second.
    pub per_second: Option<u32>,
}

/// Where the messages of a replay lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplaySource {
    /// In a stream.
    Stream {
        /// Which.
        stream: Name,
        /// Where to begin.
        from: Start,
        /// Before which offset or time to end; what is there now, if nothing is said.
        until: Option<Start>,
    },
    /// Those of the dead letters in this queue that the pipeline gave up, oldest first.
    DeadLetters(QueueName),
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// The pipeline.
    pub pipeline: Name,
    /// The number of the version in use.
    pub live: u32,
    /// The number of the candidate; 0 of one that came as a file.
    pub candidate: u32,
    /// What differs.
    pub comparison: Comparison,
    /// Why it ended before all messages were through, if it did.
    pub stopped: Option<String>,
    /// Dead letters that were passed over, because this pipeline did not give them up.
    pub left_out: u64,
}

/// Where the next messages come from.
enum Source {
    Stream { reader: Box<crate::Reader>, until: Option<Start>, ended: bool },
    DeadLetters { queue: QueueName, from: u64, of: Name, left_out: u64 },
}

impl Node {
    /// Runs stored messages through a candidate and through the version in use, and compares what comes out.
    ///
    /// # Errors
    /// No such pipeline, version, stream or queue; a version does not run; not allowed.
    pub async fn replay_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        replay: Replay,
    ) -> Result<ReplayReport, NodeError> {
        who.check(Action::Administer)?;
        let (live_number, live) = self.ready_version(name, &Candidate::InUse).await?;
        let (number, candidate) = self.ready_version(name, &replay.candidate).await?;
        let mut source = self.open_source(who, name, replay.source).await?;
        let mut pace = replay.per_second.map(Pace::new);
        let mut comparison = Comparison::default();
        let began = Instant::now();
        let mut stopped = None;
        loop {
            if began.elapsed() > TIME_MAX {
                stopped =
                    Some(format!("it took over {} s; go on behind the last message", TIME_MAX.as_secs()));
                break;
            }
            let room = usize::try_from(replay.limit - comparison.compared).unwrap_or(BATCH).min(BATCH);
            if room == 0 {
                stopped = self.is_more_in(who, &mut source).await?.then(|| {
                    let messages = comparison.compared;
                    format!(
                        "{messages} were looked at and there are more; ask for a larger number of them (-n)"
                    )
                });
                break;
            }
            let max = match &mut pace {
                Some(pace) => match usize::try_from(pace.allowed(began.elapsed())).unwrap_or(BATCH).min(room)
                {
                    0 => {
                        sleep(pace.pause()).await;
                        continue;
                    }
                    max => max,
                },
                None => room,
            };
            let Some(messages) = self.take_from(who, &mut source, max).await? else { break };
            if messages.is_empty() {
                continue;
            }
            if let Some(pace) = &mut pace {
                pace.took(messages.len() as u64);
            }
            let _turn = self.pipelines_in_use().trials.turn().await;
            let examples = replay.examples.min(EXAMPLES_MAX);
            compare(&live, &candidate, messages, &mut comparison, examples).await;
        }
        let candidate = number;
        let left_out = source.left_out();
        Ok(ReplayReport {
            pipeline: name.clone(),
            live: live_number,
            candidate,
            comparison,
            stopped,
            left_out,
        })
    }

    async fn open_source(
        &self,
        who: &Principal,
        pipeline: &Name,
        source: ReplaySource,
    ) -> Result<Source, NodeError> {
        match source {
            ReplaySource::Stream { stream, from, until } => {
                if until.is_some_and(|until| !matches!(until, Start::Offset(_) | Start::Time(_))) {
                    return Err(NodeError::Invalid("a replay ends before an offset or a time".into()));
                }
                let options = ReadOptions { start: from, until_end: true, ..ReadOptions::default() };
                let reader = Box::new(self.read_stream(who, &stream, options).await?);
                Ok(Source::Stream { reader, until, ended: false })
            }
            ReplaySource::DeadLetters(queue) => {
                self.queue(who, &queue).await?;
                Ok(Source::DeadLetters { queue, from: 0, of: pipeline.clone(), left_out: 0 })
            }
        }
    }

    /// Whether another message lies in a source.
    async fn is_more_in(&self, who: &Principal, source: &mut Source) -> Result<bool, NodeError> {
        let began = Instant::now();
        while let Some(messages) = self.take_from(who, source, 1).await? {
            // What is not found in that time may be there.
            if !messages.is_empty() || began.elapsed() > LOOK_TIME_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next messages, at most `max`, each with what it is known by; `None`: that was all. There may be none among
    /// those that were looked at.
    async fn take_from(
        &self,
        who: &Principal,
        source: &mut Source,
        max: usize,
    ) -> Result<Option<Vec<(String, Message)>>, NodeError> {
        match source {
            Source::Stream { reader, until, ended } => {
                if *ended {
                    return Ok(None);
                }
                let mut deliveries = Vec::new();
                reader.controls().credit(u32::try_from(max).unwrap_or(u32::MAX));
                *ended = reader.next(&mut deliveries).await? == Event::Empty;
                let wanted = deliveries.into_iter().filter(|each| is_before(each, *until));
                let named = |each: Delivery| (format!("{}:{}", each.partition, each.offset), each.message);
                Ok(Some(wanted.map(named).collect()))
            }
            Source::DeadLetters { queue, from, of, left_out } => {
                let letters = self.dead_letters(who, Some(queue), *from, LETTERS_LOOKED_AT).await?;
                let Some(last) = letters.last() else { return Ok(None) };
                let mut next = last.offset + 1;
                let mut wanted = Vec::new();
                for letter in letters {
                    if !gave_up(of, &letter.death) {
                        *left_out += 1;
                    } else if wanted.len() < max {
                        wanted.push(letter.id);
                    } else {
                        next = letter.offset;
                        break;
                    }
                }
                *from = next;
                if wanted.is_empty() {
                    return Ok(Some(Vec::new()));
                }
                let messages = self.shard().read(wanted.clone()).await?;
                Ok(Some(wanted.into_iter().map(|id| id.to_string()).zip(messages).collect()))
            }
        }
    }
}

impl Source {
    fn left_out(&self) -> u64 {
        match self {
            Self::Stream { .. } => 0,
            Self::DeadLetters { left_out, .. } => *left_out,
        }
    }
}

/// Whether a message died in a pipeline: at one of its stages, or because it made several of one delivery. What a
/// pipeline refuses to a group of a stream is no stage's in the log: its reason begins with the stage.
fn gave_up(pipeline: &Name, death: &Death) -> bool {
    let is_of = |place: &str| {
        let rest = place.strip_prefix(pipeline.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match &death.stage {
        Some(stage) => is_of(stage),
        None if death.cause == DeathCause::Rejected => {
            death.reason.split_once(':').is_some_and(|(place, _)| is_of(place))
        }
        None => false,
    }
}

fn is_before(delivery: &Delivery, until: Option<Start>) -> bool {
    match until {
        Some(Start::Offset(offset)) => delivery.offset < offset,
        Some(Start::Time(at)) => delivery.stored_at < at,
        _ => true,
    }
}

/// Runs messages through both, one after the other, and adds what differs.
async fn compare(
    live: &Pipeline,
    candidate: &Pipeline,
    messages: Vec<(String, Message)>,
    comparison: &mut Comparison,
    examples: usize,
) {
    let (names, messages): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
    let items: Vec<Item> = messages.into_iter().map(Item::new).collect();
    let now = Timestamp::wall_clock();
    let live = each_of(live.run_timed(items.clone(), now).await);
    let candidate = each_of(candidate.run_timed(items, now).await);
    for ((name, live), candidate) in names.iter().zip(live).zip(candidate) {
        comparison.add(|| name.clone(), &live, &candidate, examples);
    }
}

/// What became of each message of a batch.
pub(super) fn each_of(TimedRun { processed, took, .. }: TimedRun) -> impl Iterator<Item = Ran> {
    Ran::each_of(processed, took)
}

#[cfg(test)]
mod tests {
    use wharf_protocol::MessageId;

    use super::*;

    #[test]
    fn a_letter_is_of_a_pipeline_by_its_stage_or_where_a_group_was_refused_it() {
        let orders = "orders".parse().expect("a name");
        let letter = |stage: Option<&str>, cause, reason: &str| {
            let at = Timestamp(0);
            let death = Death {
                queue: "q".into(),
                cause,
                reason: reason.into(),
                stage: stage.map(str::to_owned),
                plugin: None,
                attempts: 1,
                first_at: at,
                last_at: at,
                original: MessageId { index: 0, entry: 0 },
            };
            gave_up(&orders, &death)
        };
        assert!(letter(Some("orders/check"), DeathCause::Stage, "no total"));
        assert!(letter(Some("orders"), DeathCause::StageFault, "made 2 messages"));
        assert!(!letter(Some("orders-eu/check"), DeathCause::Stage, "no total"));
        assert!(letter(None, DeathCause::Rejected, "orders/check: schema: no total"));
        assert!(!letter(None, DeathCause::Rejected, "the consumer did not want it"));
        assert!(!letter(None, DeathCause::MaxAttempts, "orders/check: failed 3 times"));
    }
}
