//! Producer sessions: which sequences were stored, so that a resend is exact.
//!
//! A producer is its epoch and its last sequence; anything up to that was seen. Where it was stored is known
//! for the newest runs only: a duplicate is recognised for ever, its place is not. A sequence that was passed over
//! was refused, and is told so again: to call it a duplicate would confirm what is stored nowhere.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wharf_protocol::{ErrorCode, ProducerId, Session, Stored, Timestamp};

use crate::effect::Refusal;

/// A producer that publishes nothing for this long, in logged time, is forgotten.
pub const PRODUCER_IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Where a producer's messages were stored is known for so many runs of them; the oldest go first.
pub const PRODUCER_RANGES_MAX: usize = 1_024;
/// So many gaps in a producer's sequences are known as such; what lies in an older one counts as a duplicate. No
/// client resends from that far back.
const GAPS_MAX: usize = 1_024;
/// The most producers known at a time; more are refused until idle ones are forgotten.
pub const PRODUCERS_MAX: usize = 100_000;
/// The runs of a producer idle for this long are let go; that a message is a duplicate stays known.
const RANGES_IDLE_MAX: Duration = Duration::from_secs(3600);
/// How often idle producers are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Sequences `first..first + count` stored one after the other: at `index..`, as `entries` messages each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) index: u64,
    pub(crate) entries: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Producer {
    pub(crate) epoch: u32,
    pub(crate) last: u64,
    pub(crate) seen_at: Timestamp,
    pub(crate) ranges: VecDeque<Range>,
    /// Sequences that were passed over, as first and last, ascending.
    pub(crate) gaps: VecDeque<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Producers {
    pub(crate) known: BTreeMap<ProducerId, Producer>,
    pub(crate) sweep_at: Timestamp,
}

/// What a session says of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    Before(Option<Stored>),
}

impl Producers {
    /// Whether the message of `session` was stored before. A newer epoch starts its sequences anew.
    pub(crate) fn check(&self, session: &Session) -> Result<Seen, Refusal> {
        if session.sequence == 0 {
            return Err(Refusal::malformed("a producer's sequences start from 1"));
        }
        let Some(producer) = self.known.get(&session.producer) else {
            if self.known.len() >= PRODUCERS_MAX {
                return Err(Refusal::full("producers", PRODUCERS_MAX));
            }
            return Ok(Seen::New);
        };
        if session.epoch < producer.epoch {
            let reason = format!(
                "producer {} has epoch {}, and this is its epoch {}: a newer life of it took over",
                session.producer, producer.epoch, session.epoch
            );
            return Err(Refusal { code: ErrorCode::Fenced, reason });
        }
        if session.epoch > producer.epoch || session.sequence > producer.last {
            return Ok(Seen::New);
        }
        let gap = producer.gaps.partition_point(|(_, last)| *last < session.sequence);
        if producer.gaps.get(gap).is_some_and(|(first, _)| *first <= session.sequence) {
            return Err(Refusal::conflict(format!(
                "sequence {} was refused or left out before sequence {} was stored; publish it under a new one",
                session.sequence, producer.last
            )));
        }
        let after = producer.ranges.partition_point(|range| range.first <= session.sequence);
        let place = after.checked_sub(1).and_then(|at| {
            let range = producer.ranges[at];
            let step = session.sequence - range.first;
            (step < range.count).then(|| Stored { index: range.index + step, entries: range.entries })
        });
        Ok(Seen::Before(place))
    }

    /// Begins a new life of a producer: its epoch, and the sequence at which the earlier ones ended.
    pub(crate) fn claim(&mut self, id: ProducerId, now: Timestamp) -> Result<(u32, u64), Refusal> {
        if !self.known.contains_key(&id) && self.known.len() >= PRODUCERS_MAX {
            return Err(Refusal::full("producers", PRODUCERS_MAX));
        }
        let producer = self.known.entry(id).or_default();
        producer.epoch = producer
            .epoch
            .checked_add(1)
            .ok_or_else(|| Refusal::conflict(format!("producer {id} has had all its lives")))?;
        producer.seen_at = now;
        Ok((producer.epoch, producer.last))
    }

    /// Remembers that a [new](Seen::New) message was stored.
    pub(crate) fn store(&mut self, session: &Session, stored: Stored, now: Timestamp) {
        let producer = self.known.entry(session.producer).or_default();
        if session.epoch != producer.epoch {
            *producer = Producer { epoch: session.epoch, ..Producer::default() };
        }
        if session.sequence > producer.last + 1 {
            if producer.gaps.len() == GAPS_MAX {
                producer.gaps.pop_front();
            }
            producer.gaps.push_back((producer.last + 1, session.sequence - 1));
        }
        producer.last = session.sequence;
        producer.seen_at = now;
        if let Some(range) = producer.ranges.back_mut()
            && range.first + range.count == session.sequence
            && range.index + range.count == stored.index
            && range.entries == stored.entries
        {
            range.count += 1;
            return;
        }
        if producer.ranges.len() == PRODUCER_RANGES_MAX {
            producer.ranges.pop_front();
        }
        let (first, index, entries) = (session.sequence, stored.index, stored.entries);
        producer.ranges.push_back(Range { first, count: 1, index, entries });
    }

    /// A producer that resends is not idle, unless it is a past life.
    pub(crate) fn touch(&mut self, session: &Session, now: Timestamp) {
        if let Some(producer) = self.known.get_mut(&session.producer)
            && producer.epoch == session.epoch
        {
            producer.seen_at = now;
        }
    }

    /// Forgets producers that are idle for long and not to be `kept`; looks at them once an hour of logged time.
    pub(crate) fn sweep(&mut self, now: Timestamp, kept: impl Fn(ProducerId) -> bool) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now.after(SWEEP_EVERY);
        self.known.retain(|id, producer| {
            let idle = now.since(producer.seen_at);
            if idle >= RANGES_IDLE_MAX {
                (producer.ranges, producer.gaps) = (VecDeque::new(), VecDeque::new());
            }
            idle < PRODUCER_IDLE_MAX || kept(*id)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(epoch: u32, sequence: u64) -> Session {
        Session { producer: ProducerId(7), epoch, sequence }
    }

    fn stored(index: u64) -> Stored {
        Stored { index, entries: 1 }
    }

    #[test]
    fn a_resend_is_told_where_its_message_lies_while_that_is_known() {
        let mut producers = Producers::default();
        for sequence in 1..=10 {
            producers.store(&session(1, sequence), stored(100 + sequence), Timestamp(0));
        }
        producers.store(&session(1, 15), stored(200), Timestamp(0));

        assert_eq!(producers.check(&session(1, 3)), Ok(Seen::Before(Some(stored(103)))));
        assert_eq!(producers.check(&session(1, 15)), Ok(Seen::Before(Some(stored(200)))));
        let passed_over = producers.check(&session(1, 12)).map_err(|refusal| refusal.code);
        assert_eq!(passed_over, Err(ErrorCode::Conflict), "it is stored nowhere");
        assert_eq!(producers.check(&session(1, 16)), Ok(Seen::New));
        assert_eq!(producers.known[&ProducerId(7)].ranges.len(), 2, "runs, not messages");
    }

    #[test]
    fn what_is_kept_of_a_producer_is_bounded() {
        let mut producers = Producers::default();
        for sequence in 1..=3_000 {
            producers.store(&session(1, sequence), stored(sequence * 2), Timestamp(0));
        }
        assert_eq!(producers.known[&ProducerId(7)].ranges.len(), PRODUCER_RANGES_MAX);
        assert_eq!(producers.check(&session(1, 1)), Ok(Seen::Before(None)));
        assert_eq!(producers.check(&session(1, 3_000)), Ok(Seen::Before(Some(stored(6_000)))));
    }

    #[test]
    fn an_idle_producer_is_forgotten_after_a_week_and_its_places_after_an_hour() {
        let mut producers = Producers::default();
        producers.store(&session(1, 1), stored(1), Timestamp(0));
        producers.sweep(Timestamp(0).after(RANGES_IDLE_MAX), |_| false);
        assert_eq!(producers.check(&session(1, 1)), Ok(Seen::Before(None)));
        producers.sweep(Timestamp(0).after(PRODUCER_IDLE_MAX), |_| false);
        assert_eq!(producers.check(&session(1, 1)), Ok(Seen::New));
    }
}
