//! Streams: all that was ever appended, and the groups that read it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_protocol::{Death, DeathCause, ErrorCode, MessageId, Name, Start, Timestamp};
use wharf_queue::{
    Assignment, Commit, ConsumerId, EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET, Effect, Entry, Failed,
    GROUP_WINDOW_MAX, GiveUp, GiveUpTo, JoinGroup, Passed, QueueId, ResetGroup, StreamPolicy,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{Message, Model, Place};

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

/// A group and how far it is.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) members: BTreeSet<u64>,
    pub(crate) cursors: Vec<Cursor>,
}

#[derive(Clone, Default)]
pub(crate) struct Cursor {
    pub(crate) floor: u64,
    /// Offsets above the floor, one by one.
    pub(crate) settled: BTreeSet<u64>,
    seen: u64,
    pub(crate) owner: Option<u64>,
    pub(crate) generation: u64,
    /// How often members failed with each offset, whether it is settled by now or not.
    pub(crate) failures: BTreeMap<u64, u32>,
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

impl Cursor {
    fn settle(&mut self, first: u64, last: u64) {
        self.settled.extend(first.max(self.floor)..=last);
        while self.settled.remove(&self.floor) {
            self.floor += 1;
        }
    }

    fn is_settled(&self, offset: u64) -> bool {
        offset < self.floor || self.settled.contains(&offset)
    }

    /// Nobody can settle what is gone.
    fn pass(&mut self, first: u64) {
        if self.floor < first {
            self.settle(self.floor, first - 1);
        }
    }

    fn release(&mut self, next: u64) {
        (self.owner, self.seen) = (None, self.seen.max(next));
    }

    /// How often members failed with what is not settled.
    pub(crate) fn failing(&self) -> Vec<(u64, u32)> {
        let open = self.failures.iter().filter(|(offset, _)| !self.is_settled(**offset));
        open.map(|(offset, failures)| (*offset, *failures)).collect()
    }

    /// What is settled above the floor, neighbours as one.
    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for offset in &self.settled {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *offset => *last = *offset,
                _ => runs.push((*offset, *offset)),
            }
        }
        runs
    }
}

impl Group {
    /// Every member gets its share: those who have most keep what is left over, and nothing moves without need.
    fn rebalance(&mut self, nexts: &[u64]) -> BTreeSet<u64> {
        let mut changed = BTreeSet::new();
        for (cursor, next) in self.cursors.iter_mut().zip(nexts) {
            if cursor.owner.is_some_and(|owner| !self.members.contains(&owner)) {
                cursor.release(*next);
            }
        }
        let has = |cursors: &[Cursor], member: u64| {
            cursors.iter().filter(|cursor| cursor.owner == Some(member)).count()
        };
        let mut order: Vec<u64> = self.members.iter().copied().collect();
        order.sort_by_key(|member| (std::cmp::Reverse(has(&self.cursors, *member)), *member));
        let share = |place: usize| {
            let (each, over) = (self.cursors.len() / order.len(), self.cursors.len() % order.len());
            each + usize::from(place < over)
        };
        let shares: BTreeMap<u64, usize> =
            order.iter().enumerate().map(|(place, member)| (*member, share(place))).collect();
        for (member, share) in &shares {
            let mine = self.cursors.iter_mut().zip(nexts).filter(|(cursor, _)| cursor.owner == Some(*member));
            for (cursor, next) in mine.skip(*share) {
                cursor.release(*next);
                changed.insert(*member);
            }
        }
        for (member, share) in &shares {
            while has(&self.cursors, *member) < *share {
                let free = self.cursors.iter_mut().find(|cursor| cursor.owner.is_none());
                let cursor = free.expect("the shares are as many as there are partitions");
                (cursor.owner, cursor.generation) = (Some(*member), cursor.generation + 1);
                changed.insert(*member);
            }
        }
        changed
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

    pub(super) fn join_group(&mut self, join: &JoinGroup) {
        let Some(id) = self.stream_named(&join.stream) else { return self.refuse(ErrorCode::NotFound) };
        if self.members.contains_key(&join.member.0) {
            return self.refuse(ErrorCode::Conflict);
        }
        self.members.insert(join.member.0, (id, join.group.clone()));
        let stream = self.streams.get_mut(&id).expect("there");
        let cursor = |run: &Partition| Cursor { floor: run.offset_of(join.start), ..Cursor::default() };
        let new = || Group { cursors: stream.partitions.iter().map(cursor).collect(), ..Group::default() };
        let group = stream.groups.entry(join.group.clone()).or_insert_with(new);
        group.members.insert(join.member.0);
        let nexts: Vec<u64> = stream.partitions.iter().map(Partition::next).collect();
        let mut changed = group.rebalance(&nexts);
        changed.insert(join.member.0);
        self.tell_assigned(id, &join.group, changed);
    }

    pub(super) fn leave_group(&mut self, member: u64) {
        let Some((id, name)) = self.members.remove(&member) else { return self.refuse(ErrorCode::NotFound) };
        let stream = self.streams.get_mut(&id).expect("there");
        let nexts: Vec<u64> = stream.partitions.iter().map(Partition::next).collect();
        let group = stream.groups.get_mut(&name).expect("there");
        group.members.remove(&member);
        let changed = if group.members.is_empty() {
            release_all(group, &nexts);
            BTreeSet::new()
        } else {
            group.rebalance(&nexts)
        };
        self.tell_assigned(id, &name, changed);
    }

    pub(super) fn restart_groups(&mut self) {
        self.members.clear();
        for stream in self.streams.values_mut() {
            let nexts: Vec<u64> = stream.partitions.iter().map(Partition::next).collect();
            for group in stream.groups.values_mut() {
                group.members.clear();
                release_all(group, &nexts);
            }
        }
    }

    fn tell_assigned(&mut self, stream: u32, group: &Name, members: BTreeSet<u64>) {
        let Stream { partitions, groups, .. } = self.streams.get_mut(&stream).expect("there");
        let group = groups.get_mut(group).expect("there");
        for (cursor, partition) in group.cursors.iter_mut().zip(partitions) {
            cursor.pass(partition.first());
        }
        for member in members {
            let mine = (0..).zip(&group.cursors).filter(|(_, cursor)| cursor.owner == Some(member));
            let assignment = |(partition, cursor): (u16, &Cursor)| Assignment {
                partition,
                generation: cursor.generation,
                floor: cursor.floor,
                settled: cursor.runs(),
                seen: cursor.seen,
                failures: cursor.failing(),
            };
            let assignments = mine.map(assignment).collect();
            self.effects.push(Effect::Assigned { member: ConsumerId(member), assignments });
        }
    }

    /// How far the group of a member is in a partition, and what of it is kept first and comes next, if the member
    /// may settle these.
    fn passable(&self, member: u64, passed: &Passed) -> Option<(u32, Name)> {
        let (id, name) = self.members.get(&member)?;
        let stream = &self.streams[id];
        let cursor = stream.groups[name].cursors.get(usize::from(passed.partition))?;
        let next = stream.partitions[usize::from(passed.partition)].next();
        let whose = cursor.owner == Some(member) && cursor.generation == passed.generation;
        let there = passed.first <= passed.last && passed.last < next;
        (whose && there && passed.last < cursor.floor + GROUP_WINDOW_MAX).then(|| (*id, name.clone()))
    }

    /// Whether a transaction may say that a member is done with these: it has them, and had not settled the last.
    pub(super) fn may_commit(&self, member: u64, passed: &Passed) -> bool {
        self.passable(member, passed).is_some_and(|(id, name)| {
            let cursor = &self.streams[&id].groups[&name].cursors[usize::from(passed.partition)];
            !cursor.is_settled(passed.last)
        })
    }

    pub(super) fn commit(&mut self, commit: &Commit) {
        let mut stale = Vec::new();
        for (number, passed) in (0..).zip(&commit.passed) {
            let Some((id, name)) = self.passable(commit.member.0, passed) else {
                stale.push(number);
                continue;
            };
            if let Some(reason) = &passed.dead_letter {
                let cursor = &self.streams[&id].groups[&name].cursors[usize::from(passed.partition)];
                let attempts = 1 + cursor.failures.get(&passed.last).copied().unwrap_or(0);
                self.give_up(id, &name, passed, (DeathCause::Rejected, reason, attempts));
            }
            self.pass(id, &name, passed);
        }
        let mut given_up = Vec::new();
        for (number, failed) in (commit.passed.len() as u32..).zip(&commit.failed) {
            match self.fail_in_group(commit.member.0, failed) {
                None => stale.push(number),
                Some(true) => given_up.push(number),
                Some(false) => {}
            }
        }
        self.effects.push(Effect::Committed { member: commit.member, stale, given_up });
    }

    fn pass(&mut self, id: u32, name: &Name, passed: &Passed) {
        let stream = self.streams.get_mut(&id).expect("there");
        let partition = usize::from(passed.partition);
        let cursor = &mut stream.groups.get_mut(name).expect("there").cursors[partition];
        cursor.settle(passed.first, passed.last);
        cursor.pass(stream.partitions[partition].first());
    }

    /// Whether a failure was one too many; `None` when it may not be said.
    fn fail_in_group(&mut self, member: u64, failed: &Failed) -> Option<bool> {
        let Failed { partition, generation, first, offset: last } = *failed;
        let passed = Passed { partition, generation, first, last, dead_letter: None };
        if !self.may_commit(member, &passed) {
            return None;
        }
        let (id, name) = self.members[&member].clone();
        let stream = self.streams.get_mut(&id).expect("there");
        let message = &stream.partitions[usize::from(partition)].messages[last as usize];
        if !message.gone {
            let cursor = &mut stream.groups.get_mut(&name).expect("there").cursors[usize::from(partition)];
            let failures = cursor.failures.entry(last).or_default();
            *failures += 1;
            let failures = *failures;
            let GiveUp { max_attempts, to } = stream.policy.give_up;
            if max_attempts == 0 || failures < max_attempts {
                return Some(false);
            }
            if to == GiveUpTo::DeadLetter {
                if !self.grave_has_room(id) {
                    return Some(false);
                }
                let reason = format!("failed {failures} times, at last by a nack");
                self.give_up(id, &name, &passed, (DeathCause::MaxAttempts, &reason, failures));
            }
        }
        self.pass(id, &name, &passed);
        Some(true)
    }

    /// A member gives up the message at the end of a range: why, and how often it had it.
    fn give_up(&mut self, id: u32, group: &Name, passed: &Passed, why: (DeathCause, &str, u32)) {
        let (cause, reason, attempts) = why;
        let stream = &self.streams[&id];
        let partition = usize::from(passed.partition);
        let message = &stream.partitions[partition].messages[passed.last as usize];
        if message.gone || stream.groups[group].cursors[partition].is_settled(passed.last) {
            return;
        }
        let death = Death {
            queue: stream.name.to_string(),
            cause,
            reason: format!("group {group}: {reason}"),
            stage: None,
            plugin: None,
            attempts,
            first_at: message.at,
            last_at: self.now,
            original: message.id,
        };
        let dead = Message {
            id: message.id,
            stored_at: message.at,
            came_at: self.now,
            // A stream does not note what its messages take.
            bytes: 0,
            lane: 0,
            attempts,
            failures: 0,
            priority: 0,
            expires: None,
            redriven: 0,
            death: Some(Box::new(death)),
            place: Place::Ready,
            plain: false,
            overdue: false,
        };
        let to = self.grave(id);
        self.lay(to, dead, Place::Ready);
        self.make_room(to);
    }

    pub(super) fn reset_group(&mut self, reset: &ResetGroup) {
        let Some(id) = self.stream_named(&reset.stream) else { return self.refuse(ErrorCode::NotFound) };
        let Stream { partitions, groups, .. } = self.streams.get_mut(&id).expect("there");
        let unknown = reset.partition.is_some_and(|partition| usize::from(partition) >= partitions.len());
        let Some(group) = groups.get_mut(&reset.group).filter(|_| !unknown) else {
            return self.refuse(ErrorCode::NotFound);
        };
        let mut changed = BTreeSet::new();
        for (number, (cursor, partition)) in group.cursors.iter_mut().zip(partitions).enumerate() {
            if reset.partition.is_none_or(|only| usize::from(only) == number) {
                let got = if cursor.owner.is_some() { partition.next() } else { cursor.floor };
                let settled = cursor.settled.last().map_or(0, |last| last + 1);
                cursor.seen = cursor.seen.max(got).max(settled);
                (cursor.floor, cursor.generation) = (partition.offset_of(reset.to), cursor.generation + 1);
                cursor.settled.clear();
                cursor.failures.clear();
                changed.extend(cursor.owner);
            }
        }
        self.tell_assigned(id, &reset.group, changed);
    }

    pub(super) fn delete_group(&mut self, stream: &Name, group: &Name) {
        let known = self.stream_named(stream).and_then(|id| self.streams.get_mut(&id));
        match known.and_then(|stream| stream.groups.remove(group)) {
            Some(group) => self.cancel(&group),
            None => self.refuse(ErrorCode::NotFound),
        }
    }

    fn cancel(&mut self, group: &Group) {
        for member in &group.members {
            self.members.remove(member);
            self.effects.push(Effect::Cancelled { consumer: ConsumerId(*member) });
        }
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
        if self.named(name.as_str()).is_some() || name.as_str() == "dead-letters" || of_queue || of_stream {
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

fn release_all(group: &mut Group, nexts: &[u64]) {
    for (cursor, next) in group.cursors.iter_mut().zip(nexts) {
        if cursor.owner.is_some() {
            cursor.release(*next);
        }
    }
}
