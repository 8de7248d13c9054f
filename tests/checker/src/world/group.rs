//! A group that reads the trail: what its members were confirmed to have settled stays so, and nothing else is, however
//! often members change and the machine crashes.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;
use wharf_protocol::Start;
use wharf_queue::{Assignment, Commit, Durability, Failed, JoinGroup, Passed};
use wharf_shard::{Committed, Member, ShardError};

use super::World;
use super::name;
use super::trail::TRAIL;
use crate::Answer;

/// Members at a time.
const MEMBERS_MAX: usize = 3;
/// Offsets of one commit, at most.
const PASSED_MAX: u64 = 4;

/// What the group settled, by partition and offset.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    confirmed: BTreeSet<(u16, u64)>,
    /// Without an answer.
    perhaps: BTreeSet<(u16, u64)>,
    /// How often members were confirmed to have failed.
    failures: BTreeMap<(u16, u64), u32>,
    /// Failures without an answer.
    perhaps_failures: BTreeMap<(u16, u64), u32>,
}

/// A commit that was sent, and its answer to come.
pub(super) struct Sent {
    said: Said,
    answer: oneshot::Receiver<Result<Committed, ShardError>>,
}

/// What a commit says of these places.
enum Said {
    Done(Vec<(u16, u64)>),
    Failed((u16, u64)),
}

impl World {
    /// How many offsets the group was confirmed to have settled.
    pub(crate) fn settled_by_group(&self) -> u64 {
        self.settled_by_group.confirmed.len() as u64
    }

    /// A member comes or goes.
    pub(super) async fn change_group(&mut self) {
        if self.members.len() < MEMBERS_MAX && self.random.below(3) > 0 {
            self.join_group().await;
        } else if !self.members.is_empty() {
            let place = self.random.below(self.members.len() as u64) as usize;
            let member = self.members.swap_remove(place);
            self.leave_group(member).await;
        }
    }

    /// A member comes, and what it is given is compared with what is known.
    pub(super) async fn join_group(&mut self) {
        let (stream, group, start) = (name(TRAIL), name("walkers"), Start::First);
        let join = JoinGroup { member: Default::default(), stream, group, start };
        let joined = self.shard().join_group(join).await;
        let answer = super::work::answer_of(&joined);
        self.note_late_confirm(answer);
        self.history.other(answer);
        let Ok(member) = joined else { return };
        let assignments = member.membership.borrow().assignments.clone();
        for assignment in &assignments {
            self.compare_cursor(assignment);
        }
        self.members.push(member);
    }

    /// Members go one by one, each seen off by the owner: so that a seed repeats a run.
    pub(super) async fn leave_group(&mut self, member: Member) {
        drop(member);
        // When it has stopped nobody has to be seen off.
        let _ = self.shard().query(|_, _| ()).await;
    }

    fn compare_cursor(&mut self, assignment: &Assignment) {
        let partition = assignment.partition;
        let is_settled = |offset: u64| {
            let mut ranges = assignment.settled.iter();
            offset < assignment.floor || ranges.any(|(first, last)| (*first..=*last).contains(&offset))
        };
        let Settled { confirmed, perhaps, .. } = &self.settled_by_group;
        let lost =
            confirmed.range((partition, 0)..(partition + 1, 0)).find(|(_, offset)| !is_settled(*offset));
        let above = assignment.settled.iter().flat_map(|(first, last)| *first..=*last);
        let claimed = (0..assignment.floor).chain(above).map(|offset| (partition, offset));
        let invented =
            claimed.into_iter().find(|place| !confirmed.contains(place) && !perhaps.contains(place));
        let (lost, invented) = (lost.copied(), invented);
        if let Some((partition, offset)) = lost {
            let what =
                format!("offset {partition}/{offset} was settled and confirmed, and is open: {assignment:?}");
            self.violation("cursor", what);
        }
        if let Some((partition, offset)) = invented {
            let what = format!("nobody settled offset {partition}/{offset}, and it is: {assignment:?}");
            self.violation("cursor", what);
        }
        self.compare_failures(assignment);
    }

    /// A confirmed failure is counted, for whoever has the partition next, and none is that nobody said.
    fn compare_failures(&mut self, assignment: &Assignment) {
        let partition = assignment.partition;
        let known: BTreeMap<u64, u32> = assignment.failures.iter().copied().collect();
        let Settled { confirmed, perhaps, failures, perhaps_failures } = &self.settled_by_group;
        let failed = failures.keys().chain(perhaps_failures.keys());
        let mine = failed.filter(|place| place.0 == partition && !confirmed.contains(place));
        let wrong = mine.copied().find(|place| {
            let least = failures.get(place).copied().unwrap_or(0);
            let most = least + perhaps_failures.get(place).copied().unwrap_or(0);
            let counted = known.get(&place.1).copied().unwrap_or(0);
            // What was perhaps settled has perhaps no failures left.
            counted > most || (counted < least && !perhaps.contains(place))
        });
        if let Some(place) = wrong {
            let said = (failures.get(&place), perhaps_failures.get(&place));
            let what = format!("offset {place:?} failed {said:?} times: {assignment:?}");
            self.violation("cursor", what);
        }
    }

    /// A member says that it is done with some of what it has.
    pub(super) async fn commit_some(&mut self) -> Option<Sent> {
        if self.members.is_empty() {
            return None;
        }
        let place = self.random.below(self.members.len() as u64) as usize;
        let assignments = self.members[place].membership.borrow().assignments.clone();
        if assignments.is_empty() {
            return None;
        }
        let Assignment { partition, generation, .. } =
            assignments[self.random.below(assignments.len() as u64) as usize];
        let read = self.trail.range((partition, 0)..(partition + 1, 0)).count() as u64;
        let open = (0..read).find(|at| !self.settled_by_group.confirmed.contains(&(partition, *at)))?;
        let first = open + self.random.below(read - open).min(PASSED_MAX);
        let last = (first + self.random.below(PASSED_MAX)).min(read - 1);
        let mut commit = Commit { member: self.members[place].id, passed: Vec::new(), failed: Vec::new() };
        let said = if self.random.below(4) == 0 {
            commit.failed.push(Failed { partition, generation, first, offset: first });
            Said::Failed((partition, first))
        } else {
            commit.passed.push(Passed { partition, generation, first, last, dead_letter: None });
            Said::Done((first..=last).map(|offset| (partition, offset)).collect())
        };
        match self.shard().commit(commit, Durability::Fsync).await {
            Ok(answer) => Some(Sent { said, answer }),
            Err(_) => {
                self.committed(said, Answer::Unknown);
                None
            }
        }
    }

    pub(super) async fn answered(&mut self, Sent { mut said, answer }: Sent) {
        let answer = match answer.await {
            Ok(Ok(Committed { stale, given_up })) if stale.is_empty() => {
                if let Said::Failed(place) = said
                    && !given_up.is_empty()
                {
                    said = Said::Done(vec![place]);
                }
                Answer::Ok
            }
            Ok(Ok(_) | Err(ShardError::Full(_))) => Answer::Failed,
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        };
        self.note_late_confirm(answer);
        self.committed(said, answer);
    }

    fn committed(&mut self, said: Said, answer: Answer) {
        self.history.other(answer);
        let Settled { confirmed, perhaps, failures, perhaps_failures } = &mut self.settled_by_group;
        match (answer, said) {
            (Answer::Ok, Said::Done(offsets)) => confirmed.extend(offsets),
            (Answer::Unknown, Said::Done(offsets)) => perhaps.extend(offsets),
            (Answer::Ok, Said::Failed(place)) => *failures.entry(place).or_default() += 1,
            (Answer::Unknown, Said::Failed(place)) => *perhaps_failures.entry(place).or_default() += 1,
            (Answer::Failed, _) => {}
        }
    }
}
