//! Groups of streams: joined, left and moved, and what their members are done with or fail with.

use std::collections::BTreeSet;

use wharf_protocol::{Death, DeathCause, Name};

use super::State;
use super::death::{GivenUp, bounded};
use crate::backlog::Slot;
use crate::effect::{Assignment, Refusal};
use crate::lane::LaneId;
use crate::queue::Extra;
use crate::stream::{Cursor, Group, Stream};
use crate::{Commit, ConsumerId, Effect, Failed, GiveUpTo, JoinGroup, Passed, ResetGroup};

/// The most groups of a stream.
const GROUPS_MAX: usize = 1_024;
/// The most members of a group; those over the partitions stand by.
const MEMBERS_MAX: usize = 1_024;

impl State {
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
