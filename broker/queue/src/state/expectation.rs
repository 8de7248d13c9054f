//! Messages that are stored only behind a certain last offset: of their partition, or of their key.

use std::collections::BTreeMap;

use wharf_protocol::{ErrorCode, Message, MessageId, Rejection};

use super::State;
use crate::stream::key_hash;
use crate::{Entry, QueueId, partition_of};

/// The header of a message that is to be stored only if the last offset of its partition is this number, or
/// `none` when there is to be none.
pub const EXPECT_LAST_OFFSET: &str = "wharf-expect-last-offset";
/// The header of a message that is to be stored only if the last offset of its key is this number, or `none`.
pub const EXPECT_KEY_OFFSET: &str = "wharf-expect-key-offset";

/// The last offset that a header expects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Last(Option<u64>),
}

impl State {
    /// The first of these entries, each with its number in the record, whose headers expect another last offset than
    /// there is. What the record itself stores before it counts.
    pub(super) fn unmet_expectation<'a>(
        &self,
        entries: impl Iterator<Item = (u16, &'a Entry)> + Clone,
    ) -> Option<(u16, Rejection)> {
        if self.streams.is_empty() || !entries.clone().any(|(_, entry)| expects(&entry.message)) {
            return None;
        }
        let mut lasts: BTreeMap<(QueueId, u16), Option<u64>> = BTreeMap::new();
        let mut keys: BTreeMap<(QueueId, u128), Option<u64>> = BTreeMap::new();
        for (number, entry) in entries {
            let id = MessageId { index: self.applied, entry: number };
            let message = &entry.message;
            for destination in entry.destinations.iter().filter(|each| each.death.is_none()) {
                let Some(stream) = self.streams.get(&destination.queue) else { continue };
                let partition = partition_of(message, id, stream.policy.partitions);
                let run = &stream.partitions[usize::from(partition)];
                let last = lasts.entry((stream.id, partition)).or_insert(run.next.checked_sub(1));
                let place = || format!("stream {} partition {partition}", stream.name);
                if let Err(reason) = check(message, EXPECT_LAST_OFFSET, *last, place) {
                    return Some((number, conflict(reason)));
                }
                *last = Some(last.map_or(0, |last| last + 1));
                if !stream.policy.knows_keys() {
                    if message.headers.get(EXPECT_KEY_OFFSET).is_some() {
                        let reason = format!("stream {} does not index its keys", stream.name);
                        return Some((number, conflict(reason)));
                    }
                    continue;
                }
                let Some(key) = message.key.as_deref().map(key_hash) else { continue };
                let known = keys.entry((stream.id, key)).or_insert_with(|| run.last_of(key));
                let place = || format!("the key in stream {}", stream.name);
                if let Err(reason) = check(message, EXPECT_KEY_OFFSET, *known, place) {
                    return Some((number, conflict(reason)));
                }
                *known = *last;
            }
        }
        None
    }
}

/// Whether a message names the last offset that it expects.
fn expects(message: &Message) -> bool {
    let headers = &message.headers;
    !headers.is_empty()
        && [EXPECT_LAST_OFFSET, EXPECT_KEY_OFFSET].iter().any(|name| headers.get(name).is_some())
}

/// Whether the header `name` of a message, if it has it, expects `last`: what there is instead, if not.
fn check(message: &Message, name: &str, last: Option<u64>, place: impl Fn() -> String) -> Result<(), String> {
    match expected(message, name)? {
        Expected::Nothing => Ok(()),
        Expected::Last(expected) if expected == last => Ok(()),
        Expected::Last(expected) => {
            let text = |offset: Option<u64>| offset.map_or("none".to_owned(), |offset| offset.to_string());
            Err(format!("the last offset of {} is {}, not {}", place(), text(last), text(expected)))
        }
    }
}

fn expected(message: &Message, name: &str) -> Result<Expected, String> {
    let Some(value) = message.headers.get(name) else { return Ok(Expected::Nothing) };
    let text = std::str::from_utf8(value).ok();
    match text {
        Some("none") => Ok(Expected::Last(None)),
        Some(text) if text.parse::<u64>().is_ok() => Ok(Expected::Last(text.parse().ok())),
        _ => Err(format!("{name} is an offset or none")),
    }
}

fn conflict(reason: String) -> Rejection {
    Rejection { code: ErrorCode::Conflict, stage: None, reason, retry_after_ms: None }
}
