//! How a topology becomes the next one.

use std::collections::BTreeMap;

use wharf_protocol::{ErrorCode, Name, Pattern, Timestamp};

use super::{Binding, Lent, PipelineEvent, PipelineVersion, Plugin, QueueInfo, Schedule, Topology, Trial};
use crate::bindings::Matcher;
use crate::effect::Refusal;
use crate::{Change, QueueId, QueuePolicy};

/// The most queues.
pub(super) const QUEUES_MAX: usize = 65_536;
/// The most bindings.
const BINDINGS_MAX: usize = 65_536;
/// The most versions of plugins.
const PLUGINS_MAX: usize = 4_096;
/// The longest text for people in a change, and of all kinds of a plugin together.
const TEXT_BYTES_MAX: usize = 4 * 1024;

impl Topology {
    /// Makes `change`, for record `index` of `at`: whether anything is different now. What has to happen to
    /// messages and consumers beside it is the state's to do.
    pub(crate) fn change(&mut self, index: u64, at: Timestamp, change: &Change) -> Result<bool, Refusal> {
        check_texts(change)?;
        let changed = match change {
            Change::CreateQueue { name, policy } => self.create_queue(name, policy)?,
            Change::DeleteQueue { name } => {
                self.known_queue(name)?;
                self.forget_queue(index, name);
                true
            }
            Change::PurgeQueue { name } => {
                self.known_queue(name)?;
                false
            }
            Change::Bind { pattern, queue, pipeline } => self.bind(pattern, queue, pipeline.as_ref())?,
            Change::Unbind { pattern, queue } => self.unbind(pattern, queue)?,
            Change::PutPlugin { name, version, digest, bytes, kinds, summary, by } => {
                let (kinds, summary, by) = (kinds.clone(), summary.clone(), by.clone());
                let plugin = Plugin { digest: *digest, bytes: *bytes, kinds, summary, by, at };
                self.put_plugin(name, version, plugin)?
            }
            Change::RemovePlugin { name, version } => self.remove_plugin(name, version)?,
            Change::ApplyPipeline { name, spec, ingress, by, note, delivery } => {
                let (spec, ingress, delivery) = (spec.clone(), ingress.clone(), delivery.clone());
                let version =
                    PipelineVersion { spec, ingress, by: by.clone(), note: note.clone(), at, delivery };
                self.apply_pipeline(index, name, version)?
            }
            Change::RollbackPipeline { name, to, by } => self.rollback_pipeline(index, at, name, *to, by)?,
            Change::RemovePipeline { name } => self.remove_pipeline(name)?,
            Change::PutSchedule { name, cron, time_zone, message, by } => {
                let (cron, time_zone, message) = (cron.clone(), time_zone.clone(), message.clone());
                let by = by.clone();
                let schedule = Schedule { cron, time_zone, message, paused: false, since: at, by };
                self.put_schedule(name, schedule)?
            }
            Change::PauseSchedule { name, paused } => self.pause_schedule(name, *paused, at)?,
            Change::RemoveSchedule { name } => self.remove_schedule(name)?,
            Change::SetPolicy { name, policy, .. } => self.set_policy(name, policy)?,
            Change::SetDeduplication(deduplication) => match deduplication.problem() {
                Some(problem) => return Err(Refusal::malformed(problem)),
                None => std::mem::replace(&mut self.deduplication, *deduplication) != *deduplication,
            },
            Change::CreateStream { name, policy } => self.create_stream(name, policy)?,
            Change::DeleteStream { name } => self.delete_stream(name)?,
            Change::SetStreamPolicy { name, policy, was } => {
                self.set_stream_policy(name, policy, was.as_deref())?
            }
            Change::StagePipeline { name, spec, ingress, delivery, by, note } => {
                let (spec, ingress, delivery) = (spec.clone(), ingress.clone(), delivery.clone());
                let version =
                    PipelineVersion { spec, ingress, by: by.clone(), note: note.clone(), at, delivery };
                self.stage_pipeline(index, name, version)?
            }
            Change::ActivatePipeline { name, number, how, by, note } => {
                let (number, by, note) = (*number, by.clone(), note.clone());
                self.activate_pipeline(name, PipelineEvent { number, by, note, at, index, kind: *how })?
            }
            Change::BeginTrial { name, number, share_ppm, kind, by, note } => {
                let (by, note) = (by.clone(), note.clone());
                let trial =
                    Trial { number: *number, share_ppm: *share_ppm, kind: *kind, by, note, at, index };
                self.begin_trial(name, trial)?
            }
            Change::Lend { kind, name, digest, bytes, format, by } => {
                let (format, by) = (format.clone(), by.clone());
                self.lend(*kind, name, Lent { version: 1, digest: *digest, bytes: *bytes, format, by, at })?
            }
            Change::TakeBack { kind, name } => self.take_back(*kind, name)?,
            Change::EndTrial { name, by, note } => {
                let (by, note) = (by.clone(), note.clone());
                self.end_trial(name, by, note, at, index)?
            }
            Change::Own { owner, most, make } => {
                let made = make
                    .made()
                    .ok_or_else(|| Refusal::malformed("only a queue or a stream is made for an owner"))?;
                if self.backlog(made.as_str()).is_none() {
                    self.check_owned(owner, *most)?;
                }
                let changed = self.change(index, at, make)?;
                if changed {
                    self.own(owner, made);
                }
                changed
            }
            Change::BoundOwner { owner, stored_bytes_max } => self.bound_owner(owner, *stored_bytes_max),
        };
        if changed {
            self.revision = index;
        }
        Ok(changed)
    }

    fn known_queue(&self, name: &Name) -> Result<&QueueInfo, Refusal> {
        self.queues.get(name).ok_or_else(|| Refusal::not_found("queue", name))
    }

    fn create_queue(&mut self, name: &Name, policy: &QueuePolicy) -> Result<bool, Refusal> {
        if let Some(problem) = policy.problem() {
            return Err(Refusal::malformed(problem));
        }
        self.check_no_stream(name)?;
        policy.dead_letter.as_ref().map_or(Ok(()), |name| self.check_no_stream(name))?;
        if let Some(queue) = self.queues.get(name) {
            if queue.policy == *policy {
                return Ok(false);
            }
            return Err(Refusal::conflict(format!("queue {name} exists with another policy")));
        }
        if self.queues.len() >= QUEUES_MAX || self.next_queue == u32::MAX {
            return Err(Refusal::full("queues", QUEUES_MAX));
        }
        self.add_queue(name.clone(), policy.clone());
        Ok(true)
    }

    fn set_policy(&mut self, name: &Name, policy: &QueuePolicy) -> Result<bool, Refusal> {
        if let Some(problem) = policy.problem() {
            return Err(Refusal::malformed(problem));
        }
        policy.dead_letter.as_ref().map_or(Ok(()), |name| self.check_no_stream(name))?;
        let queue = self.queues.get_mut(name).ok_or_else(|| Refusal::not_found("queue", name))?;
        let changed = queue.policy != *policy;
        queue.policy = policy.clone();
        Ok(changed)
    }

    /// Adds a queue that is known to be none of those here. A dead-letter queue made at need may be one over
    /// the bound for each queue: refusing it would lose a message.
    fn add_queue(&mut self, name: Name, policy: QueuePolicy) -> QueueId {
        let id = QueueId(self.next_queue);
        self.next_queue += 1;
        self.queues.insert(name, QueueInfo { id, policy });
        id
    }

    /// The number of the dead-letter queue `name`, made by record `index` when there is none.
    pub(crate) fn dead_letter_queue(&mut self, index: u64, name: &Name) -> QueueId {
        if let Some(queue) = self.queues.get(name) {
            return queue.id;
        }
        self.revision = index;
        self.add_queue(name.clone(), QueuePolicy::default())
    }

    /// Removes a queue that is here and its bindings, by record `index`.
    pub(crate) fn forget_queue(&mut self, index: u64, name: &Name) {
        self.revision = index;
        self.queues.remove(name);
        self.disown(name);
        self.bindings.retain(|binding| binding.queue != *name);
        self.rebuild_matcher();
    }

    fn bind(&mut self, pattern: &Pattern, queue: &Name, pipeline: Option<&Name>) -> Result<bool, Refusal> {
        let unknown = || Refusal::not_found("queue or stream", queue);
        let queue_id = self.backlog(queue.as_str()).ok_or_else(unknown)?;
        if let Some(name) = pipeline
            && !self.pipelines.contains_key(name)
        {
            return Err(Refusal::not_found("pipeline", name));
        }
        let (pattern, queue, pipeline) = (pattern.clone(), queue.clone(), pipeline.cloned());
        let new = Binding { pattern, queue, queue_id, pipeline };
        match self.position(&new.pattern, &new.queue) {
            Ok(at) if self.bindings[at] == new => return Ok(false),
            Ok(at) => self.bindings[at] = new,
            Err(_) if self.bindings.len() >= BINDINGS_MAX => {
                return Err(Refusal::full("bindings", BINDINGS_MAX));
            }
            Err(at) => self.bindings.insert(at, new),
        }
        self.rebuild_matcher();
        Ok(true)
    }

    fn unbind(&mut self, pattern: &Pattern, queue: &Name) -> Result<bool, Refusal> {
        let Ok(at) = self.position(pattern, queue) else {
            let both = format!("of {pattern} to queue {queue}");
            return Err(Refusal::not_found("binding", &both));
        };
        self.bindings.remove(at);
        self.rebuild_matcher();
        Ok(true)
    }

    fn position(&self, pattern: &Pattern, queue: &Name) -> Result<usize, usize> {
        self.bindings.binary_search_by(|each| (&each.pattern, &each.queue).cmp(&(pattern, queue)))
    }

    fn put_plugin(&mut self, name: &Name, version: &Name, plugin: Plugin) -> Result<bool, Refusal> {
        if let Some(known) = self.plugin(name.as_str(), version.as_str()) {
            if known.digest == plugin.digest {
                return Ok(false);
            }
            let reason =
                format!("plugin {name} {version} is registered with another component; raise the version");
            return Err(Refusal::conflict(reason));
        }
        if self.plugins.values().map(BTreeMap::len).sum::<usize>() >= PLUGINS_MAX {
            return Err(Refusal::full("plugin versions", PLUGINS_MAX));
        }
        self.plugins.entry(name.clone()).or_default().insert(version.clone(), plugin);
        Ok(true)
    }

    fn remove_plugin(&mut self, name: &Name, version: &Name) -> Result<bool, Refusal> {
        let versions = self.plugins.get_mut(name).ok_or_else(|| Refusal::not_found("plugin", name))?;
        if versions.remove(version).is_none() {
            return Err(Refusal::not_found("plugin", &format!("{name} {version}")));
        }
        if versions.is_empty() {
            self.plugins.remove(name);
        }
        Ok(true)
    }

    /// Builds what follows from the rest: after a change of bindings, and after a restore.
    pub(crate) fn rebuild_matcher(&mut self) {
        self.matcher = Matcher::new(&self.bindings);
    }

    /// The queue `name`, with its name as it is shared.
    pub(crate) fn named(&self, name: &str) -> Option<(&Name, &QueueInfo)> {
        self.queues.get_key_value(name)
    }

    /// What is wrong with a topology that was read from a snapshot.
    pub(crate) fn inconsistency(&self) -> Option<&'static str> {
        let streams = self.streams.values().map(|stream| stream.id);
        if self.queues.values().map(|queue| queue.id).chain(streams).any(|id| id.0 >= self.next_queue) {
            return Some("a queue or stream has a number not yet given out");
        }
        if self.streams.values().any(|stream| stream.policy.problem().is_some()) {
            return Some("a stream has a policy that none can have");
        }
        let known = |each: &Binding| self.backlog(each.queue.as_str()) == Some(each.queue_id);
        if !self.bindings.iter().all(known) {
            return Some("a binding leads to no queue");
        }
        let key = |each: &Binding| (each.pattern.clone(), each.queue.clone());
        if !self.bindings.is_sorted_by_key(key) {
            return Some("bindings are out of order");
        }
        if let Some(problem) = self.pipelines.values().find_map(super::Pipeline::inconsistency) {
            return Some(problem);
        }
        None
    }
}

/// Refuses texts that are longer than a person writes: the topology is copied when it changes.
fn check_texts(change: &Change) -> Result<(), Refusal> {
    let bytes = match change {
        Change::PutPlugin { kinds, summary, by, .. } => {
            summary.len().max(by.len()).max(kinds.iter().map(|kind| kind.len() + 1).sum())
        }
        Change::ApplyPipeline { by, note, .. }
        | Change::StagePipeline { by, note, .. }
        | Change::ActivatePipeline { by, note, .. }
        | Change::BeginTrial { by, note, .. }
        | Change::EndTrial { by, note, .. } => by.len().max(note.len()),
        Change::Lend { format, by, .. } => format.len().max(by.len()),
        Change::Own { owner, .. } | Change::BoundOwner { owner, .. } => owner.len(),
        Change::RollbackPipeline { by, .. } | Change::PutSchedule { by, .. } => by.len(),
        _ => 0,
    };
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let reason =
        format!("a text of {bytes} bytes is over the {TEXT_BYTES_MAX} that notes, names and summaries have");
    Err(Refusal { code: ErrorCode::TooLarge, reason })
}
