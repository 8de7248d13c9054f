//! Streams: all that was ever appended to them, by partition.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_protocol::{ErrorCode, MessageId, Name, Start, Timestamp};
use wharf_queue::{EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET, Effect, Entry, QueueId, StreamPolicy};
use xxhash_rust::xxh3::xxh3_64;

use super::Model;
use super::group::Group;

/// Retention takes at most so many messages together.
const BLOCK_MESSAGES_MAX: u64 = 256;

/// A stream: all that was ever appended to it.
pub struct Stream {
    /// Its name.
    pub name: Name,
    pub(crate) policy: StreamPolicy,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) groups: BTreeMap<Name, Group>,
}

/// One partition: by offset.
#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) messages: Vec<Appended>,
    /// The number of the block that takes what comes.
    open: u64,
}

/// A message of a stream.
pub(crate) struct Appended {
    pub(crate) id: MessageId,
    pub(crate) at: Timestamp,
    pub(crate) bytes: u64,
    pub(crate) key: Option<Vec<u8>>,
    tombstone: bool,
    /// Those of one block go together, where nothing is compacted.
    block: u64,
    pub(crate) gone: bool,
}

impl Partition {
    pub(crate) fn next(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Offsets and messages that are kept.
    pub(crate) fn kept(&self) -> impl DoubleEndedIterator<Item = (u64, &Appended)> {
        self.messages.iter().enumerate().map(|(n, m)| (n as u64, m)).filter(|(_, m)| !m.gone)
    }

    pub(crate) fn first(&self) -> u64 {
        self.kept().next().map_or(self.next(), |(offset, _)| offset)
    }

    /// The offset of the last message of a key.
    pub(crate) fn last_of(&self, key: &[u8]) -> Option<u64> {
        self.kept().rev().find(|(_, m)| m.key.as_deref() == Some(key)).map(|(offset, _)| offset)
    }

    pub(crate) fn offset_of(&self, start: Start) -> u64 {
        let (first, next) = (self.first(), self.next());
        match start {
            Start::First => first,
            Start::Last => next.saturating_sub(1).max(first),
            Start::New => next,
            Start::Offset(offset) => offset.max(first).min(next),
            Start::Time(at) => self.kept().find(|(_, m)| m.at >= at).map_or(next, |(offset, _)| offset),
        }
    }

    fn append(&mut self, message: Appended, policy: &StreamPolicy) {
        if policy.compact && message.key.is_some() {
            let before = self.messages.iter_mut().filter(|each| each.key == message.key);
            before.for_each(|each| each.gone = true);
        }
        self.messages.push(Appended { block: self.open, ..message });
        let open = || self.messages.iter().filter(|each| !each.gone && each.block == self.open);
        let (count, bytes) = (open().count() as u64, open().map(|each| each.bytes).sum::<u64>());
        let age = open().next().map_or(0, |first| message.at.0 - first.at.0);
        let quarter = |limit: u64| if limit == 0 { u64::MAX } else { (limit / 4).max(1) };
        let full = count >= quarter(policy.max_messages).min(BLOCK_MESSAGES_MAX)
            || bytes >= quarter(policy.max_bytes)
            || age >= quarter(policy.max_age_ms);
        // Where something is compacted, each message is a block.
        self.open += u64::from(full || policy.compact);
    }

    /// Gives up what its policy does not keep any more.
    fn retain(&mut self, now: Timestamp, policy: &StreamPolicy) {
        let due = |at: Timestamp, ms: u64| at.after(Duration::from_millis(ms)) <= now;
        loop {
            let Some(block) = self.kept().next().map(|(_, oldest)| oldest.block) else { break };
            let (mut all, mut those) = ((0, 0), (0, 0));
            let mut newest = Timestamp(0);
            for (_, each) in self.kept() {
                all = (all.0 + 1, all.1 + each.bytes);
                if each.block == block {
                    those = (those.0 + 1, those.1 + each.bytes);
                    newest = each.at;
                }
            }
            let old = policy.max_age_ms > 0 && due(newest, policy.max_age_ms);
            let many = policy.max_messages > 0 && all.0 - those.0 >= policy.max_messages;
            let large = policy.max_bytes > 0 && all.1 - those.1 >= policy.max_bytes;
            if !(old || many || large) {
                break;
            }
            self.messages.iter_mut().filter(|each| each.block == block).for_each(|each| each.gone = true);
            self.open += u64::from(block == self.open);
        }
        if policy.compact {
            let over = |each: &&mut Appended| each.tombstone && due(each.at, policy.tombstone_ms);
            self.messages.iter_mut().filter(over).for_each(|each| each.gone = true);
        }
    }
}

impl Model {
    pub(super) fn stream_named(&self, name: &Name) -> Option<u32> {
        self.streams.iter().find(|(_, stream)| stream.name == *name).map(|(id, _)| *id)
    }

    /// The partition of a stream to which the message of this number of the record goes.
    fn partition(&self, stream: u32, number: u16, message: &wharf_protocol::Message) -> usize {
        let spread = match &message.key {
            Some(key) => xxh3_64(key),
            None => self.index + u64::from(number),
        };
        (spread % self.streams[&stream].partitions.len() as u64) as usize
    }

    pub(super) fn append(&mut self, stream: u32, number: u16, message: &wharf_protocol::Message) {
        let partition = self.partition(stream, number, message);
        let known = self.streams.get_mut(&stream).expect("there");
        let key = message.key.as_ref().filter(|_| known.policy.knows_keys()).map(|key| key.to_vec());
        let appended = Appended {
            id: MessageId { index: self.index, entry: number },
            at: self.now,
            bytes: message.encoded_bytes() as u64,
            tombstone: key.is_some() && message.payload.is_empty(),
            key,
            block: 0,
            gone: false,
        };
        let Stream { partitions, policy, .. } = known;
        partitions[partition].append(appended, policy);
        partitions[partition].retain(self.now, policy);
        self.appended.insert((stream, partition));
    }

    pub(super) fn retain(&mut self) {
        for stream in self.streams.values_mut() {
            for partition in &mut stream.partitions {
                partition.retain(self.now, &stream.policy);
            }
        }
    }

    pub(super) fn tell_appended(&mut self) {
        for (stream, partition) in std::mem::take(&mut self.appended) {
            if let Some(known) = self.streams.get(&stream) {
                let next = known.partitions[partition].next();
                let (stream, partition) = (QueueId(stream), partition as u16);
                self.effects.push(Effect::Appended { stream, partition, next });
            }
        }
    }

    /// The first of these messages, each with its number in the record, that expects another last offset than it
    /// will find.
    pub(super) fn unmet(&self, entries: &[(u16, &Entry)]) -> Option<u16> {
        let mut lasts: BTreeMap<(u32, usize), Option<u64>> = BTreeMap::new();
        let mut keys: BTreeMap<(u32, &[u8]), Option<u64>> = BTreeMap::new();
        for (number, Entry { message, destinations }) in entries {
            let is_met = |header: &str, is: Option<u64>| match message.headers.get(header) {
                None => true,
                Some(b"none") => is.is_none(),
                Some(text) => {
                    let expected = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
                    expected.is_some() && expected == is
                }
            };
            for destination in destinations.iter().filter(|each| each.death.is_none()) {
                let id = destination.queue.0;
                let Some(stream) = self.streams.get(&id) else { continue };
                let partition = self.partition(id, *number, message);
                let run = &stream.partitions[partition];
                let last = lasts.entry((id, partition)).or_insert(run.next().checked_sub(1));
                if !is_met(EXPECT_LAST_OFFSET, *last) {
                    return Some(*number);
                }
                *last = Some(last.map_or(0, |last| last + 1));
                let Some(key) = message.key.as_deref() else {
                    if !stream.policy.knows_keys() && message.headers.get(EXPECT_KEY_OFFSET).is_some() {
                        return Some(*number);
                    }
                    continue;
                };
                if !stream.policy.knows_keys() {
                    if message.headers.get(EXPECT_KEY_OFFSET).is_some() {
                        return Some(*number);
                    }
                    continue;
                }
                let known = keys.entry((id, key)).or_insert(run.last_of(key));
                if !is_met(EXPECT_KEY_OFFSET, *known) {
                    return Some(*number);
                }
                *known = *last;
            }
        }
        None
    }

    pub(super) fn create_stream(&mut self, name: &Name, policy: &StreamPolicy) {
        if let Some(code) = self.stream_policy_problem(policy) {
            return self.refuse(code);
        }
        if let Some(id) = self.stream_named(name) {
            if self.streams[&id].policy != *policy {
                self.refuse(ErrorCode::Conflict);
            }
            return;
        }
        let of_queue = self.queues.values().any(|queue| queue.policy.dead_letter.as_ref() == Some(name));
        let of_stream = self.streams.values().any(|stream| stream.policy.dead_letter.as_ref() == Some(name));
        let of_itself = policy.dead_letter.as_ref() == Some(name);
        let of_any = name.as_str() == "dead-letters" || of_queue || of_stream || of_itself;
        if self.named(name.as_str()).is_some() || of_any {
            return self.refuse(ErrorCode::Conflict);
        }
        let partitions = (0..policy.partitions).map(|_| Partition::default()).collect();
        let stream =
            Stream { name: name.clone(), policy: policy.clone(), partitions, groups: BTreeMap::new() };
        self.streams.insert(self.next_queue, stream);
        self.next_queue += 1;
        self.effects.push(Effect::TopologyChanged);
    }

    pub(super) fn set_stream_policy(
        &mut self,
        name: &Name,
        policy: &StreamPolicy,
        was: Option<&StreamPolicy>,
    ) {
        if let Some(code) = self.stream_policy_problem(policy) {
            return self.refuse(code);
        }
        let Some(id) = self.stream_named(name) else { return self.refuse(ErrorCode::NotFound) };
        let old = &self.streams[&id].policy;
        if was.is_some_and(|was| was != old) {
            return self.refuse(ErrorCode::Conflict);
        }
        let fixed = |policy: &StreamPolicy| (policy.partitions, policy.compact, policy.knows_keys());
        if fixed(old) != fixed(policy) {
            return self.refuse(ErrorCode::Conflict);
        }
        if old != policy {
            self.streams.get_mut(&id).expect("there").policy = policy.clone();
            self.retain();
            self.effects.push(Effect::TopologyChanged);
        }
    }

    pub(super) fn delete_stream(&mut self, name: &Name) {
        let Some(id) = self.stream_named(name) else { return self.refuse(ErrorCode::NotFound) };
        let stream = self.streams.remove(&id).expect("there");
        self.bindings.retain(|(_, to)| to != name);
        stream.groups.values().for_each(|group| self.cancel(group));
        self.effects.extend([Effect::StreamDeleted { stream: QueueId(id) }, Effect::TopologyChanged]);
    }

    fn stream_policy_problem(&self, policy: &StreamPolicy) -> Option<ErrorCode> {
        if policy.partitions == 0 {
            return Some(ErrorCode::Malformed);
        }
        let stream = policy.dead_letter.as_ref().and_then(|name| self.stream_named(name));
        stream.map(|_| ErrorCode::Conflict)
    }
}
