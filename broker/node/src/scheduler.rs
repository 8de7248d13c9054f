//! The task that publishes what schedules say, when it is due.
//!
//! [`Agenda`] decides; this sleeps until it has something to say, and publishes that through the whole way of a
//! message, pipelines included, as the schedule's own producer with the occurrence's time as its sequence. So an
//! occurrence is stored once, whatever crashes between storing and remembering it: they are one record. One that
//! was stored nowhere leaves a record all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use wharf_protocol::{ErrorCode, Message, Name, Receipt, Rejection, Session, Timestamp};
use wharf_queue::{Durability, Publish, Schedule};

use crate::agenda::{Agenda, Occurrence};
use crate::node::WeakNode;
use crate::{Node, NodeError, Principal, Publication};

/// The clock may be set while this sleeps: it looks at least so often, when there is a schedule at all.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The only life of a schedule's producer: its sequences are times, which go on.
const EPOCH: u32 = 1;
/// The header that names the schedule of a message.
const SCHEDULE_HEADER: &str = "wharf-schedule";
/// The header that says when a message of a schedule was due.
const SCHEDULED_AT_HEADER: &str = "wharf-scheduled-at";

/// The running scheduler of a node.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// The schedules are others now, or it is to stop.
    changed: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Why the last attempt of a schedule failed, for those where it did.
    problems: Mutex<BTreeMap<Name, String>>,
}

/// What became of an occurrence.
enum Fate {
    /// Stored, now or before.
    Stored,
    /// It went nowhere, and never will: that is to be remembered.
    Nowhere { problem: Option<String> },
    /// Nothing can be stored at the moment.
    HeldBack { problem: String },
}

impl Scheduler {
    pub(crate) fn start(&self, node: WeakNode) {
        let task = tokio::spawn(run(node, Arc::clone(&self.changed)));
        *lock(&self.task) = Some(task);
    }

    /// Ends it; what it publishes at the moment is stored, or tried again after the next start.
    pub(crate) async fn stop(&self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.abort();
            // It was aborted, or had ended: both are fine.
            let _ = task.await;
        }
    }

    /// Says that this schedule has changed: what was said of it before is past.
    pub(crate) fn look_again(&self, schedule: &Name) {
        self.note(schedule, None);
        self.changed.notify_one();
    }

    /// Why the last attempt of this schedule failed, if it did.
    pub(crate) fn problem(&self, schedule: &Name) -> Option<String> {
        lock(&self.problems).get(schedule).cloned()
    }

    fn note(&self, schedule: &Name, problem: Option<String>) {
        let mut problems = lock(&self.problems);
        match problem {
            Some(problem) => drop(problems.insert(schedule.clone(), problem)),
            None => drop(problems.remove(schedule)),
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Publishes what is due and sleeps until more is, until the node is gone or stops.
async fn run(node: WeakNode, changed: Arc<Notify>) {
    let mut agenda = Agenda::default();
    let mut revision = None;
    loop {
        let wakes_at = {
            let Some(node) = node.upgrade() else { return };
            let seen = node.shard().topology().revision();
            if revision != Some(seen) {
                let Ok(schedules) = node.schedules_and_last().await else { return };
                for (name, problem) in agenda.update(schedules) {
                    tracing::error!(schedule = %name, problem, "a schedule does not run");
                    node.scheduler().note(&name, Some(problem));
                }
                revision = Some(seen);
            }
            if node.publish_due(&mut agenda).await.is_err() {
                return;
            }
            agenda.wakes_at()
        };
        let now = Timestamp::wall_clock();
        match wakes_at {
            None => changed.notified().await,
            Some(at) if at <= now => {}
            Some(at) => {
                // Woken early or late by a changed clock: the agenda is asked again either way.
                let _ = tokio::time::timeout(at.since(now).min(LOOK_EVERY), changed.notified()).await;
            }
        }
    }
}

impl Node {
    /// Every schedule with the time of its last occurrence that was done with.
    pub(crate) async fn schedules_and_last(
        &self,
    ) -> Result<Vec<(Name, Schedule, Option<Timestamp>)>, NodeError> {
        let known = self.shard().query(|state, _| {
            let schedules = state.topology().schedules().map(|(name, schedule)| {
                let last = state.last_sequence(Schedule::producer(name)).map(Timestamp);
                (name.clone(), schedule.clone(), last)
            });
            schedules.collect()
        });
        Ok(known.await?)
    }

    /// Publishes what `agenda` says is due, together.
    async fn publish_due(&self, agenda: &mut Agenda) -> Result<(), NodeError> {
        let now = Timestamp::wall_clock();
        let due = agenda.due(now);
        if due.is_empty() {
            return Ok(());
        }
        let batch = due.iter().map(publication).collect();
        let receipts = self.publish(&Principal::system(), batch).await.await;
        let mut nowhere = Vec::new();
        for (occurrence, receipt) in due.iter().zip(receipts) {
            let Occurrence { schedule, at, .. } = occurrence;
            match fate(receipt) {
                Fate::Stored => self.scheduler().note(schedule, None),
                Fate::Nowhere { problem } => {
                    if let Some(problem) = &problem {
                        tracing::warn!(%schedule, due = %at, problem, "an occurrence was refused");
                    }
                    self.scheduler().note(schedule, problem);
                    let session = Some(session(occurrence));
                    nowhere.push(Publish { session, ..Publish::default() });
                }
                Fate::HeldBack { problem } => {
                    tracing::warn!(%schedule, due = %at, problem, "an occurrence is held back");
                    self.scheduler().note(schedule, Some(problem));
                    agenda.held_back(schedule, now);
                    continue;
                }
            }
            agenda.done(schedule, *at);
        }
        if !nowhere.is_empty() {
            // An error means that the node stops: the occurrence is tried again after the next start.
            let _ = self.shard().publish(nowhere, 0, Durability::Fsync).await?.await;
        }
        Ok(())
    }
}

fn publication(occurrence: &Occurrence) -> Publication {
    let mut headers = occurrence.message.headers.edit();
    headers.set(SCHEDULE_HEADER, occurrence.schedule.as_str());
    headers.set(SCHEDULED_AT_HEADER, occurrence.at.to_string());
    let message = occurrence.message.clone();
    // Headers at their limit go as they are: the note is not worth the message.
    let headers = headers.build().unwrap_or_else(|_| message.headers.clone());
    let message = Message { headers, ..message };
    Publication { message, session: Some(session(occurrence)), tell_versions: false }
}

fn session(occurrence: &Occurrence) -> Session {
    let producer = Schedule::producer(&occurrence.schedule);
    Session { producer, epoch: EPOCH, sequence: occurrence.at.0 }
}

fn fate(receipt: Receipt) -> Fate {
    match receipt {
        Receipt::Stored(stored) if stored.entries == 0 => Fate::Nowhere { problem: None },
        Receipt::Stored(_) | Receipt::Duplicate(_) => Fate::Stored,
        Receipt::Rejected(rejection) if may_pass_later(&rejection) => {
            Fate::HeldBack { problem: rejection.reason }
        }
        Receipt::Rejected(rejection) => Fate::Nowhere { problem: Some(rejection.reason) },
    }
}

/// Whether the same message may be stored another time: an alarm, a full queue, a stage that asks for patience.
fn may_pass_later(rejection: &Rejection) -> bool {
    matches!(rejection.code, ErrorCode::Unavailable | ErrorCode::Closing)
        || rejection.retry_after_ms.is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
