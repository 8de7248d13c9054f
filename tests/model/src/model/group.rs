//! Groups: how far their members are in a stream's partitions, and who reads which.

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::{Death, DeathCause, ErrorCode, Name};
use wharf_queue::{
    Assignment, Commit, ConsumerId, Effect, Failed, GROUP_WINDOW_MAX, GiveUp, GiveUpTo, JoinGroup, Passed,
    ResetGroup,
};

use super::stream::{Partition, Stream};
use super::{Message, Model, Place};

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
            deaths: Vec::new(),
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

    /// The members of a group that is deleted go with it.
    pub(super) fn cancel(&mut self, group: &Group) {
        for member in &group.members {
            self.members.remove(member);
            self.effects.push(Effect::Cancelled { consumer: ConsumerId(*member) });
        }
    }
}

fn release_all(group: &mut Group, nexts: &[u64]) {
    for (cursor, next) in group.cursors.iter_mut().zip(nexts) {
        if cursor.owner.is_some() {
            cursor.release(*next);
        }
    }
}
