//! A group that reads the trail: what its members were confirmed to have settled stays so, and nothing else is, however
//! often members change and the machine crashes.

use std::collections::BTreeSet;

use tokio::sync::oneshot;
use wharf_protocol::Start;
use wharf_queue::{Assignment, Commit, Durability, JoinGroup, Passed};
use wharf_shard::{Member, ShardError};

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
}

/// A commit that was sent, and its answer to come.
pub(super) struct Sent {
    offsets: Vec<(u16, u64)>,
    answer: oneshot::Receiver<Result<Vec<u32>, ShardError>>,
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
        let Settled { confirmed, perhaps } = &self.settled_by_group;
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
        let passed = vec![Passed { partition, generation, first, last, dead_letter: None }];
        let commit = Commit { member: self.members[place].id, passed };
        let offsets = (first..=last).map(|offset| (partition, offset)).collect();
        match self.shard().commit(commit, Durability::Fsync).await {
            Ok(answer) => Some(Sent { offsets, answer }),
            Err(_) => {
                self.committed(offsets, Answer::Unknown);
                None
            }
        }
    }

    pub(super) async fn answered(&mut self, Sent { offsets, answer }: Sent) {
        let answer = match answer.await {
            Ok(Ok(stale)) if stale.is_empty() => Answer::Ok,
            Ok(Ok(_) | Err(ShardError::Full(_))) => Answer::Failed,
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        };
        self.note_late_confirm(answer);
        self.committed(offsets, answer);
    }

    fn committed(&mut self, offsets: Vec<(u16, u64)>, answer: Answer) {
        self.history.other(answer);
        match answer {
            Answer::Ok => self.settled_by_group.confirmed.extend(offsets),
            Answer::Unknown => self.settled_by_group.perhaps.extend(offsets),
            Answer::Failed => {}
        }
    }
}
