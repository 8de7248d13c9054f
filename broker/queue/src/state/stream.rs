//! Streams: messages appended, groups joined, left and moved.

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::{Death, DeathCause, ErrorCode, Message, MessageId, Name, Rejection};

use super::State;
use super::death::{GivenUp, bounded};
use crate::backlog::Slot;
use crate::effect::{Assignment, Refusal};
use crate::lane::LaneId;
use crate::queue::Extra;
use crate::stream::{Cursor, Group, Place, Stream, key_hash};
use crate::{
    Change, Commit, ConsumerId, Effect, Entry, Failed, GiveUpTo, GroupView, JoinGroup, Passed, QueueId,
    ResetGroup, StreamView, Waiting, partition_of,
};

/// The header of a message that is to be stored only if the last offset of its partition is this number, or
/// `none` when there is to be none.
pub const EXPECT_LAST_OFFSET: &str = "wharf-expect-last-offset";
/// The header of a message that is to be stored only if the last offset of its key is this number, or `none`.
pub const EXPECT_KEY_OFFSET: &str = "wharf-expect-key-offset";

/// The most groups of a stream.
const GROUPS_MAX: usize = 1_024;
/// The most members of a group; those over the partitions stand by.
const MEMBERS_MAX: usize = 1_024;

/// Where messages of a partition lie, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPlaces {
    /// In order; in a compacted stream with gaps.
    pub places: Vec<Waiting>,
    /// The first offset that is kept.
    pub first: u64,
    /// The offset that the next message gets.
    pub next: u64,
}

/// The last offset that a header expects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Last(Option<u64>),
}

impl State {
    /// One stream in numbers.
    pub fn stream(&self, name: &str) -> Option<StreamView> {
        Some(self.stream_named(name)?.view())
    }

    /// All streams in numbers, by number.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = StreamView> {
        self.streams.values().map(Stream::view)
    }

    /// All groups of a stream in numbers, by name.
    pub fn groups(&self, stream: &str) -> Vec<GroupView> {
        let Some(stream) = self.stream_named(stream) else { return Vec::new() };
        stream.groups.keys().filter_map(|name| stream.group_view(name)).collect()
    }

    /// At most `max` messages of a partition from offset `from` on; `None` when there is no such partition.
    pub fn read_stream(
        &self,
        stream: QueueId,
        partition: u16,
        from: u64,
        max: usize,
    ) -> Option<StreamPlaces> {
        let partition = self.streams.get(&stream)?.partitions.get(usize::from(partition))?;
        let waiting = |(offset, place): (u64, Place)| Waiting { offset, id: place.id, stored_at: place.at };
        let places = partition.read(from, max).into_iter().map(waiting).collect();
        Some(StreamPlaces { places, first: partition.first(), next: partition.next })
    }

    /// The offset in each partition that `start` means now; `None` when there is no such stream.
    pub fn offsets_at(&self, stream: QueueId, start: crate::Start) -> Option<Vec<u64>> {
        let stream = self.streams.get(&stream)?;
        Some((0..stream.partitions.len()).map(|number| stream.offset_of(number, start)).collect())
    }

    /// Partition and place of the last message of a key, in a stream that knows its keys.
    pub fn last_of_key(&self, stream: &str, key: &[u8]) -> Option<(u16, Waiting)> {
        self.stream_named(stream)?.last(key)
    }

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

    /// Adds a message to a stream, if `stream` is one that is there.
    pub(super) fn append_to_stream(&mut self, id: MessageId, stream: QueueId, message: &Message) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let appended = stream.append(id, self.now, message, &mut self.live, &mut self.timers);
        self.appended.push((stream.id, appended.0));
    }

    /// Tells which partitions have more than before this record.
    pub(super) fn tell_appended(&mut self, effects: &mut Vec<Effect>) {
        self.appended.sort_unstable();
        self.appended.dedup();
        for (stream, partition) in self.appended.drain(..) {
            let Some(known) = self.streams.get(&stream) else { continue };
            let next = known.partitions[usize::from(partition)].next;
            effects.push(Effect::Appended { stream, partition, next });
        }
    }

    /// Gives up what a partition does not keep any more.
    pub(super) fn retain(&mut self, stream: QueueId, partition: u16) {
        let stream = self.streams.get_mut(&stream).expect("a stream's timers go with it");
        stream.partitions[usize::from(partition)].armed = None;
        stream.retain(partition, self.now, &mut self.live, &mut self.timers);
    }

    /// Does what a change of topology, which is made, means for the streams.
    pub(super) fn change_streams(
        &mut self,
        change: &Change,
        deleted: Option<QueueId>,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            Change::CreateStream { name, policy } => {
                let id = self.topology.stream(name.as_str()).expect("just made").id;
                self.streams.entry(id).or_insert_with(|| Stream::new(id, name.clone(), policy.clone()));
            }
            Change::SetStreamPolicy { name, policy, .. } => {
                let id = self.topology.stream(name.as_str()).expect("the topology knows it").id;
                let stream = self.streams.get_mut(&id).expect("every declared stream is there");
                stream.set_policy(policy.clone(), self.now, &mut self.live, &mut self.timers);
            }
            Change::DeleteStream { .. } => {
                let id = deleted.expect("the topology knew it");
                let stream = self.streams.remove(&id).expect("every declared stream is there");
                stream.abandon(&mut self.live, &mut self.timers);
                for member in stream.groups.values().flat_map(|group| &group.members) {
                    self.members.remove(member);
                    effects.push(Effect::Cancelled { consumer: *member });
                }
                effects.push(Effect::StreamDeleted { stream: id });
            }
            _ => {}
        }
    }

    pub(super) fn join_group(&mut self, join: &JoinGroup, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let unknown = || Refusal::not_found("stream", &join.stream);
        let id = self.topology.stream(join.stream.as_str()).ok_or_else(unknown)?.id;
        if self.members.contains_key(&join.member) {
            return Err(Refusal::conflict(format!("there is a member {} already", join.member)));
        }
        let stream = self.streams.get_mut(&id).expect("every declared stream is there");
        if !stream.groups.contains_key(&join.group) {
            if stream.groups.len() >= GROUPS_MAX {
                return Err(Refusal::full("groups of a stream", GROUPS_MAX));
            }
            let floors = (0..stream.partitions.len()).map(|number| stream.offset_of(number, join.start));
            let group = Group::new(floors);
            stream.groups.insert(join.group.clone(), group);
        }
        let group = stream.groups.get_mut(&join.group).expect("just made, if it was not there");
        if group.members.len() >= MEMBERS_MAX {
            return Err(Refusal::full("members of a group", MEMBERS_MAX));
        }
        group.members.insert(join.member);
        self.members.insert(join.member, (id, join.group.clone()));
        let nexts = stream.nexts();
        let mut changed = rebalance(stream, &join.group, &nexts);
        // One that stands by hears that as well.
        changed.insert(join.member);
        tell_assigned(stream, &join.group, &changed, effects);
        Ok(())
    }

    pub(super) fn leave_group(
        &mut self,
        member: ConsumerId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (id, name) = self.members.remove(&member).ok_or_else(|| Refusal::not_found("member", &member))?;
        let stream = self.streams.get_mut(&id).expect("a stream's members go with it");
        let group = stream.groups.get_mut(&name).expect("a group's members go with it");
        group.members.remove(&member);
        let nexts = stream.nexts();
        let changed = rebalance(stream, &name, &nexts);
        tell_assigned(stream, &name, &changed, effects);
        Ok(())
    }

    /// All members leave.
    pub(super) fn restart_groups(&mut self) {
        self.members.clear();
        for stream in self.streams.values_mut() {
            let nexts = stream.nexts();
            for group in stream.groups.values_mut() {
                group.members.clear();
                group.rebalance(&nexts);
            }
        }
    }

    /// Which ranges of a commit would be refused; none: all of it would be done.
    pub fn check_commit(&self, commit: &Commit) -> Vec<u32> {
        let stale = (0..).zip(&commit.passed).filter(|(_, passed)| !self.may_pass(commit.member, passed));
        stale.map(|(number, _)| number).collect()
    }

    /// Does what a member says it is done with; what it may not say is told as stale.
    pub(crate) fn apply_commit(&mut self, commit: &Commit, effects: &mut Vec<Effect>) {
        let mut stale = Vec::new();
        for (number, passed) in (0..).zip(&commit.passed) {
            if !self.may_pass(commit.member, passed) {
                stale.push(number);
                continue;
            }
            if let Some(reason) = &passed.dead_letter {
                let given_up = GivenUp::new(DeathCause::Rejected, reason.clone());
                self.dead_letter_of_stream(commit.member, passed, given_up, effects);
            }
            self.pass(commit.member, passed);
        }
        let mut given_up = Vec::new();
        for (number, failed) in (first_failure(commit)..).zip(&commit.failed) {
            match self.fail(commit.member, failed, effects) {
                None => stale.push(number),
                Some(true) => given_up.push(number),
                Some(false) => {}
            }
        }
        effects.push(Effect::Committed { member: commit.member, stale, given_up });
    }

    /// A member is done with a range that it may pass.
    fn pass(&mut self, member: ConsumerId, passed: &Passed) {
        let (kept, cursor) = self.cursor_mut(member, passed.partition).expect("it may be passed");
        cursor.settle(passed.first, passed.last);
        cursor.pass(kept);
    }

    /// Counts a member's failure with a message, and gives the message up when it was one too many: whether it was.
    /// `None`: the message is not the member's, or settled.
    ///
    /// Where the dead-letter queue is full the message stays, as in a queue: the next failure tries again.
    fn fail(&mut self, member: ConsumerId, failed: &Failed, effects: &mut Vec<Effect>) -> Option<bool> {
        let passed = failed.passed();
        if !self.may_pass(member, &passed) || self.is_passed(member, &passed) {
            return None;
        }
        let id = self.members[&member].0;
        let stream = &self.streams[&id];
        let policy = stream.policy.give_up;
        // What retention took is nobody's to try again.
        if stream.partitions[usize::from(failed.partition)].place(failed.offset).is_some() {
            let (_, cursor) = self.cursor_mut(member, failed.partition).expect("it may be passed");
            let failures = cursor.fail(failed.offset);
            if !policy.is_due(failures) {
                return Some(false);
            }
            if policy.to == GiveUpTo::DeadLetter {
                if !self.has_room_for_dead_of_stream(id) {
                    return Some(false);
                }
                let reason = format!("failed {failures} times, at last by a nack");
                let given_up = GivenUp::new(DeathCause::MaxAttempts, reason);
                self.dead_letter_of_stream(member, &passed, given_up, effects);
            }
        }
        self.pass(member, &passed);
        Some(true)
    }

    /// Whether the message at the end of a range, which its member has, is settled.
    pub(super) fn is_passed(&self, member: ConsumerId, passed: &Passed) -> bool {
        let (stream, group) = &self.members[&member];
        self.streams[stream].groups[group].cursors[usize::from(passed.partition)].is_settled(passed.last)
    }

    pub(super) fn reset_group(
        &mut self,
        reset: &ResetGroup,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let stream = self.known_stream(&reset.stream)?;
        let count = stream.partitions.len();
        if let Some(partition) = reset.partition.filter(|partition| usize::from(*partition) >= count) {
            return Err(Refusal::not_found("partition", &format!("{partition} of stream {}", reset.stream)));
        }
        let targets: Vec<u64> = (0..count).map(|number| stream.offset_of(number, reset.to)).collect();
        let nexts = stream.nexts();
        let unknown = || Refusal::not_found("group", &format!("{} of stream {}", reset.group, reset.stream));
        let group = stream.groups.get_mut(&reset.group).ok_or_else(unknown)?;
        let mut changed = BTreeSet::new();
        for (number, cursor) in (0..).zip(&mut group.cursors) {
            if reset.partition.is_none_or(|partition| partition == number) {
                cursor.reset(targets[usize::from(number)], nexts[usize::from(number)]);
                changed.extend(cursor.owner);
            }
        }
        tell_assigned(stream, &reset.group, &changed, effects);
        Ok(())
    }

    pub(super) fn delete_group(
        &mut self,
        stream: &Name,
        name: &Name,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::not_found("group", &format!("{name} of stream {stream}"));
        let group = self.known_stream(stream)?.groups.remove(name).ok_or_else(unknown)?;
        for member in group.members {
            self.members.remove(&member);
            effects.push(Effect::Cancelled { consumer: member });
        }
        Ok(())
    }

    pub(super) fn verify_streams(&self) {
        self.streams.values().for_each(Stream::verify);
        assert_eq!(self.streams.len(), self.topology.streams().len(), "every declared stream is there");
        for (id, stream) in &self.streams {
            let info = self.topology.stream(stream.name.as_str()).expect("every stream is declared");
            assert_eq!((info.id, &info.policy), (*id, &stream.policy), "stream {}: as declared", stream.name);
            for (name, group) in &stream.groups {
                let mine = self.members.iter().filter(|(_, at)| (at.0, &at.1) == (*id, name));
                assert!(mine.map(|(member, _)| member).eq(&group.members), "group {name}: members");
            }
        }
    }

    fn stream_named(&self, name: &str) -> Option<&Stream> {
        self.streams.get(&self.topology.stream(name)?.id)
    }

    fn known_stream(&mut self, name: &Name) -> Result<&mut Stream, Refusal> {
        let unknown = || Refusal::not_found("stream", name);
        let id = self.topology.stream(name.as_str()).ok_or_else(unknown)?.id;
        Ok(self.streams.get_mut(&id).expect("every declared stream is there"))
    }

    fn may_pass(&self, member: ConsumerId, passed: &Passed) -> bool {
        let Some((id, name)) = self.members.get(&member) else { return false };
        let stream = &self.streams[id];
        let number = usize::from(passed.partition);
        let Some(cursor) = stream.groups[name].cursors.get(number) else { return false };
        let (owner, generation) = (Some(member), passed.generation);
        (cursor.owner, cursor.generation) == (owner, generation)
            && cursor.takes(passed.first, passed.last, stream.partitions[number].next)
    }

    /// The first offset that a partition keeps, and how far the member's group is in it.
    fn cursor_mut(&mut self, member: ConsumerId, partition: u16) -> Option<(u64, &mut Cursor)> {
        let (id, name) = self.members.get(&member)?;
        let stream = self.streams.get_mut(id)?;
        let first = stream.partitions.get(usize::from(partition))?.first();
        Some((first, stream.groups.get_mut(name)?.cursors.get_mut(usize::from(partition))?))
    }

    /// Lays the last message of `passed` where its stream has its dead letters, unless it is settled or gone.
    fn dead_letter_of_stream(
        &mut self,
        member: ConsumerId,
        passed: &Passed,
        given_up: GivenUp,
        effects: &mut Vec<Effect>,
    ) {
        let (id, group) = &self.members[&member];
        let (id, stream) = (*id, &self.streams[id]);
        let number = usize::from(passed.partition);
        let cursor = &stream.groups[group].cursors[number];
        let Some(place) =
            stream.partitions[number].place(passed.last).filter(|_| !cursor.is_settled(passed.last))
        else {
            return;
        };
        let failures = cursor.failures.get(&passed.last).copied().unwrap_or(0);
        // What its member gives up by its own word, it had once more than it failed with it.
        let attempts = failures.saturating_add(u32::from(given_up.cause == DeathCause::Rejected));
        let death = Death {
            queue: stream.name.to_string(),
            cause: given_up.cause,
            reason: bounded(&format!("group {group}: {}", given_up.reason)),
            stage: None,
            plugin: None,
            attempts,
            first_at: place.at,
            last_at: self.now,
            original: place.id,
        };
        let target = self.dead_letter_queue(id, effects);
        let extra = Extra { attempts, death: Some(Box::new(death)), ..Extra::default() };
        // A stream does not note what its messages take.
        let slot = Slot { id: place.id, stored_at: place.at, bytes: 0 };
        self.lay(target, slot, LaneId::NONE, extra);
        self.make_room_in(target, effects);
    }
}

/// The number of the first failure of a commit: they are counted on from its ranges.
fn first_failure(commit: &Commit) -> u32 {
    u32::try_from(commit.passed.len()).expect("a record holds fewer ranges than that")
}

/// Spreads a group's partitions over its members.
fn rebalance(stream: &mut Stream, group: &Name, nexts: &[u64]) -> BTreeSet<ConsumerId> {
    stream.groups.get_mut(group).expect("the caller found it").rebalance(nexts)
}

/// Tells `members` of a group what they have now.
fn tell_assigned(
    stream: &mut Stream,
    group: &Name,
    members: &BTreeSet<ConsumerId>,
    effects: &mut Vec<Effect>,
) {
    let Stream { groups, partitions, .. } = stream;
    let group = groups.get_mut(group).expect("the caller found it");
    for (cursor, partition) in group.cursors.iter_mut().zip(partitions) {
        cursor.pass(partition.first());
    }
    for member in members {
        let mine = (0..).zip(&group.cursors).filter(|(_, cursor)| cursor.owner == Some(*member));
        let assignment = |(partition, cursor): (u16, &Cursor)| Assignment {
            partition,
            generation: cursor.generation,
            floor: cursor.floor,
            settled: cursor.ahead.iter().map(|(first, last)| (*first, *last)).collect(),
            seen: cursor.seen,
            failures: cursor.failures.iter().map(|(offset, failures)| (*offset, *failures)).collect(),
        };
        effects.push(Effect::Assigned { member: *member, assignments: mine.map(assignment).collect() });
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
