//! Messages that are published again and again: what is declared of them.
//!
//! When one is due is not decided here. A cron expression has to be read with the rules of its time zone, and those
//! come from a table that is another one on the next machine: whoever publishes reads both. The state keeps what
//! was declared, and what was published: each occurrence is a message of the schedule's own producer
//! ([`Schedule::producer`]) whose sequence is the occurrence's time in milliseconds. So an occurrence is stored once
//! however often it is tried, and [`State::last_sequence`](crate::State::last_sequence) says which one was the
//! last. The producer of a schedule is never forgotten for being idle.

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{ErrorCode, Message, Name, ProducerId, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::Topology;
use crate::effect::Refusal;
use crate::seeded::{self, Fault};

/// The most schedules.
pub const SCHEDULES_MAX: usize = 1_024;
/// The longest message of a schedule, encoded: all of them lie in memory and in every snapshot.
pub const SCHEDULED_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The longest cron expression and the longest name of a time zone.
const EXPRESSION_BYTES_MAX: usize = 256;

/// A message and when it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// When, as a cron expression; opaque here.
    pub cron: ByteString,
    /// Where the clock hangs by which `cron` is read, by its IANA name; opaque here.
    pub time_zone: ByteString,
    /// What is published, as [`Message::encode`] writes it.
    pub message: Bytes,
    /// Nothing is published until it is resumed.
    pub paused: bool,
    /// Only occurrences after this are published: when it was put or resumed.
    pub since: Timestamp,
    /// Who put it.
    pub by: String,
}

impl Schedule {
    /// By whom the occurrences of the schedule `name` are published: one of the broker's own producers, which no
    /// client can be.
    pub fn producer(name: &Name) -> ProducerId {
        ProducerId::reserved(xxh3_64(name.as_str().as_bytes()))
    }
}

impl Topology {
    /// The schedule `name`.
    pub fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.schedules.get(name)
    }

    /// All schedules, by name.
    pub fn schedules(&self) -> impl ExactSizeIterator<Item = (&Name, &Schedule)> {
        self.schedules.iter()
    }

    /// Whether `producer` publishes for a schedule.
    pub(crate) fn is_scheduled(&self, producer: ProducerId) -> bool {
        producer.is_reserved() && self.schedules.keys().any(|name| Schedule::producer(name) == producer)
    }

    /// Puts a schedule, or replaces one. The same one again is left as it is, paused or not.
    pub(super) fn put_schedule(&mut self, name: &Name, new: Schedule) -> Result<bool, Refusal> {
        check(&new)?;
        if let Some(known) = self.schedules.get(name) {
            let same =
                (&known.cron, &known.time_zone, &known.message) == (&new.cron, &new.time_zone, &new.message);
            if same {
                return Ok(false);
            }
        } else if self.schedules.len() >= SCHEDULES_MAX {
            return Err(Refusal::full("schedules", SCHEDULES_MAX));
        }
        self.schedules.insert(name.clone(), new);
        Ok(true)
    }

    /// Pauses or resumes. What would have been published meanwhile never is.
    pub(super) fn pause_schedule(
        &mut self,
        name: &Name,
        paused: bool,
        at: Timestamp,
    ) -> Result<bool, Refusal> {
        let schedule = self.schedules.get_mut(name).ok_or_else(|| Refusal::not_found("schedule", name))?;
        if schedule.paused == paused {
            return Ok(false);
        }
        schedule.paused = paused;
        if !paused && !seeded::is(Fault::ResumeLooksBack) {
            schedule.since = at;
        }
        Ok(true)
    }

    pub(super) fn remove_schedule(&mut self, name: &Name) -> Result<bool, Refusal> {
        self.schedules.remove(name).ok_or_else(|| Refusal::not_found("schedule", name))?;
        Ok(true)
    }
}

fn check(schedule: &Schedule) -> Result<(), Refusal> {
    let too_large = |what: &str, bytes: usize, max: usize| {
        let reason = format!("{what} of {bytes} bytes is over the {max} that a schedule has");
        Err(Refusal { code: ErrorCode::TooLarge, reason })
    };
    if schedule.message.len() > SCHEDULED_MESSAGE_BYTES_MAX {
        return too_large("a message", schedule.message.len(), SCHEDULED_MESSAGE_BYTES_MAX);
    }
    let expression = schedule.cron.len().max(schedule.time_zone.len());
    if expression > EXPRESSION_BYTES_MAX {
        return too_large("a cron expression or time zone", expression, EXPRESSION_BYTES_MAX);
    }
    match Message::decode(schedule.message.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Refusal::malformed(format!("the message of the schedule is not one: {error}"))),
    }
}
