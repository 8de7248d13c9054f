//! A pipeline's versions, which of them is in use, which is on trial, and how it came to that.
//!
//! Versions are immutable and numbered from 1. One is *active*: messages pass it. One other may be on *trial*
//! beside it: as a shadow, which is shown copies, or as a canary, which processes a share of the messages. Each
//! step of that is an event of the history, with who took it and why; the broker takes some by itself.

use std::collections::BTreeMap;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{ErrorCode, Name, Pattern, Timestamp};

use super::Topology;
use crate::effect::Refusal;

/// The whole of a share, in millionths.
pub const SHARE_WHOLE_PPM: u32 = 1_000_000;

/// The most pipelines.
const PIPELINES_MAX: usize = 4_096;
/// The longest specification of a pipeline.
const SPEC_BYTES_MAX: usize = 256 * 1024;
/// How many versions of a pipeline are kept; past that, the oldest that is neither active nor on trial goes.
const VERSIONS_MAX: usize = 256;
/// How many events of a pipeline are remembered.
const HISTORY_MAX: usize = 1_024;
/// The most patterns of queues and streams at which a pipeline sits.
const DELIVERY_PATTERNS_MAX: usize = 64;

/// A pipeline: numbered versions of a specification, one of them active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The active version's number.
    pub active: u32,
    /// By number, from 1; immutable. At most 256 are kept: past that the oldest that nobody uses goes.
    pub versions: BTreeMap<u32, PipelineVersion>,
    /// What was done with it, oldest first; at most 1,024 events.
    pub history: Vec<PipelineEvent>,
    /// The version that is tried beside the active one.
    #[serde(default)]
    pub trial: Option<Trial>,
}

/// One version of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineVersion {
    /// The specification.
    pub spec: ByteString,
    /// Topics whose messages pass it on their way in.
    pub ingress: Option<Pattern>,
    /// Who applied or staged it.
    pub by: String,
    /// Why.
    pub note: String,
    /// When.
    pub at: Timestamp,
    /// Queues and streams whose deliveries pass it on their way out.
    #[serde(default)]
    pub delivery: Vec<Pattern>,
}

/// One step in the life of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineEvent {
    /// The version that it is about.
    pub number: u32,
    /// Who took it; `wharf` for the broker itself.
    pub by: String,
    /// Why.
    pub note: String,
    /// When.
    pub at: Timestamp,
    /// The index of the record: of a version that was activated, messages of later records passed it.
    pub index: u64,
    /// What was done.
    #[serde(default)]
    pub kind: PipelineEventKind,
}

/// What was done with a version of a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelineEventKind {
    /// It was put to use.
    #[default]
    Activated,
    /// It was put to use again in place of a later one.
    RolledBack,
    /// It was put to use because it kept the bounds of its trial.
    Promoted,
    /// It was added, not yet to be used.
    Staged,
    /// It is shown copies of messages.
    ShadowBegan,
    /// It no longer is.
    ShadowEnded,
    /// It processes a share of the messages.
    CanaryBegan,
    /// It no longer does.
    CanaryEnded,
}

/// A version that is tried beside the one in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The version's number.
    pub number: u32,
    /// Its share of the messages, in millionths; at least 1.
    pub share_ppm: u32,
    /// What it does with them.
    pub kind: TrialKind,
    /// Who began it.
    pub by: String,
    /// Why.
    pub note: String,
    /// When.
    pub at: Timestamp,
    /// The index of the record: of a canary, only messages of later records passed it.
    pub index: u64,
}

/// What a version on trial does with its share of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialKind {
    /// It is shown copies; what it makes of them is compared and thrown away.
    Shadow,
    /// It processes them, until a bound is passed.
    Canary(CanaryBounds),
}

/// What a canary may do and go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryBounds {
    /// At most so many of a million messages may fail.
    pub errors_max_ppm: u32,
    /// At most so many of a million may come out otherwise than from the version in use.
    pub divergence_max_ppm: u32,
    /// 99 of 100 messages are to take no longer than this; `None`: as long as they like.
    pub p99_max_us: Option<u64>,
    /// The bounds hold for each run of so many messages; at least 1, at most 100,000.
    pub after: u32,
    /// The version is activated when so many messages kept the bounds; `None`: somebody decides.
    pub promote_after: Option<u64>,
}

/// The longest run of messages that a canary's bounds can be about.
const CANARY_AFTER_MAX: u32 = 100_000;

impl PipelineEventKind {
    /// Whether messages pass the version from then on.
    pub fn activates(self) -> bool {
        matches!(self, Self::Activated | Self::RolledBack | Self::Promoted)
    }
}

impl Trial {
    fn begins_as(&self) -> PipelineEventKind {
        match self.kind {
            TrialKind::Shadow => PipelineEventKind::ShadowBegan,
            TrialKind::Canary(_) => PipelineEventKind::CanaryBegan,
        }
    }

    fn ends_as(&self) -> PipelineEventKind {
        match self.kind {
            TrialKind::Shadow => PipelineEventKind::ShadowEnded,
            TrialKind::Canary(_) => PipelineEventKind::CanaryEnded,
        }
    }

    fn problem(&self) -> Option<String> {
        if !(1..=SHARE_WHOLE_PPM).contains(&self.share_ppm) {
            return Some(format!("a share is 1 to {SHARE_WHOLE_PPM} millionths, not {}", self.share_ppm));
        }
        let TrialKind::Canary(bounds) = self.kind else { return None };
        if !(1..=CANARY_AFTER_MAX).contains(&bounds.after) {
            let after = bounds.after;
            return Some(format!("a canary is judged over 1 to {CANARY_AFTER_MAX} messages, not {after}"));
        }
        None
    }
}

impl Pipeline {
    /// The version in use.
    pub fn active_version(&self) -> &PipelineVersion {
        self.versions.get(&self.active).expect("the active version is never forgotten")
    }

    /// The version that was active before the one that is, where it is still kept. Going back to a version
    /// undoes what came after it, so rolling back twice goes back twice.
    pub fn before_active(&self) -> Option<u32> {
        let mut stack: Vec<u32> = Vec::new();
        for number in self.history.iter().filter(|each| each.kind.activates()).map(|each| each.number) {
            match stack.iter().position(|each| *each == number) {
                Some(at) => stack.truncate(at + 1),
                None => stack.push(number),
            }
        }
        stack.iter().rev().skip(1).find(|number| self.versions.contains_key(number)).copied()
    }

    fn add(&mut self, version: PipelineVersion) -> u32 {
        // Numbers only grow: a forgotten version's number is not used again.
        let number = self.versions.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        self.versions.insert(number, version);
        number
    }

    fn activate(&mut self, event: PipelineEvent) {
        if let Some(trial) = self.trial.take() {
            let kind = trial.ends_as();
            let note = format!("version {} was put to use", event.number);
            self.remember(PipelineEvent { number: trial.number, note, kind, ..event.clone() });
        }
        self.active = event.number;
        self.remember(event);
        self.forget_versions();
    }

    fn remember(&mut self, event: PipelineEvent) {
        if self.history.len() >= HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(event);
    }

    /// Keeps the number of versions within its bound.
    fn forget_versions(&mut self) {
        let tried = self.trial.as_ref().map(|trial| trial.number);
        while self.versions.len() > VERSIONS_MAX {
            let newest = self.versions.last_key_value().map(|(number, _)| *number);
            let used =
                |number: &u32| *number == self.active || Some(*number) == tried || Some(*number) == newest;
            let Some(oldest) = self.versions.keys().find(|number| !used(number)).copied() else { break };
            self.versions.remove(&oldest);
        }
    }

    /// What is wrong with one that was read from a snapshot.
    pub(super) fn inconsistency(&self) -> Option<&'static str> {
        if !self.versions.contains_key(&self.active) {
            return Some("a pipeline's active version is missing");
        }
        match &self.trial {
            Some(trial) if !self.versions.contains_key(&trial.number) => {
                Some("the version of a pipeline that is on trial is missing")
            }
            _ => None,
        }
    }
}

impl Topology {
    pub(super) fn apply_pipeline(
        &mut self,
        index: u64,
        name: &Name,
        version: PipelineVersion,
    ) -> Result<bool, Refusal> {
        check_version(&version)?;
        if !self.pipelines.contains_key(name) && self.pipelines.len() >= PIPELINES_MAX {
            return Err(Refusal::full("pipelines", PIPELINES_MAX));
        }
        let none = || Pipeline { active: 0, versions: BTreeMap::new(), history: Vec::new(), trial: None };
        let pipeline = self.pipelines.entry(name.clone()).or_insert_with(none);
        let (by, note, at) = (version.by.clone(), version.note.clone(), version.at);
        let number = pipeline.add(version);
        pipeline.activate(PipelineEvent { number, by, note, at, index, kind: PipelineEventKind::Activated });
        Ok(true)
    }

    pub(super) fn stage_pipeline(
        &mut self,
        index: u64,
        name: &Name,
        version: PipelineVersion,
    ) -> Result<bool, Refusal> {
        check_version(&version)?;
        let pipeline = self.known_pipeline(name)?;
        let (by, note, at) = (version.by.clone(), version.note.clone(), version.at);
        let number = pipeline.add(version);
        pipeline.remember(PipelineEvent { number, by, note, at, index, kind: PipelineEventKind::Staged });
        pipeline.forget_versions();
        Ok(true)
    }

    pub(super) fn activate_pipeline(&mut self, name: &Name, event: PipelineEvent) -> Result<bool, Refusal> {
        if !event.kind.activates() {
            return Err(Refusal::malformed("a version is activated, rolled back to or promoted"));
        }
        let pipeline = self.known_pipeline(name)?;
        if !pipeline.versions.contains_key(&event.number) {
            return Err(Refusal::not_found("version", &format!("{} of pipeline {name}", event.number)));
        }
        if event.number == pipeline.active {
            return Ok(false);
        }
        pipeline.activate(event);
        Ok(true)
    }

    pub(super) fn rollback_pipeline(
        &mut self,
        index: u64,
        at: Timestamp,
        name: &Name,
        to: Option<u32>,
        by: &str,
    ) -> Result<bool, Refusal> {
        let pipeline = self.known_pipeline(name)?;
        let before = || {
            let reason = format!("pipeline {name} has no earlier version to go back to");
            pipeline.before_active().ok_or_else(|| Refusal::conflict(reason))
        };
        let number = to.map_or_else(before, Ok)?;
        let (by, note) = (by.to_owned(), format!("rolled back from {}", pipeline.active));
        let kind = PipelineEventKind::RolledBack;
        self.activate_pipeline(name, PipelineEvent { number, by, note, at, index, kind })
    }

    pub(super) fn begin_trial(&mut self, name: &Name, trial: Trial) -> Result<bool, Refusal> {
        if let Some(problem) = trial.problem() {
            return Err(Refusal::malformed(problem));
        }
        let pipeline = self.known_pipeline(name)?;
        if !pipeline.versions.contains_key(&trial.number) {
            return Err(Refusal::not_found("version", &format!("{} of pipeline {name}", trial.number)));
        }
        if trial.number == pipeline.active {
            let reason = format!("version {} of pipeline {name} is the one in use", trial.number);
            return Err(Refusal::conflict(reason));
        }
        if let Some(other) = &pipeline.trial {
            let reason = format!("version {} of pipeline {name} is on trial; end that first", other.number);
            return Err(Refusal::conflict(reason));
        }
        let Trial { number, by, note, at, index, .. } = trial.clone();
        pipeline.remember(PipelineEvent { number, by, note, at, index, kind: trial.begins_as() });
        pipeline.trial = Some(trial);
        Ok(true)
    }

    pub(super) fn end_trial(
        &mut self,
        name: &Name,
        by: String,
        note: String,
        at: Timestamp,
        index: u64,
    ) -> Result<bool, Refusal> {
        let pipeline = self.known_pipeline(name)?;
        let Some(trial) = pipeline.trial.take() else {
            return Err(Refusal::conflict(format!("no version of pipeline {name} is on trial")));
        };
        let (number, kind) = (trial.number, trial.ends_as());
        pipeline.remember(PipelineEvent { number, by, note, at, index, kind });
        Ok(true)
    }

    pub(super) fn remove_pipeline(&mut self, name: &Name) -> Result<bool, Refusal> {
        if let Some(user) = self.bindings.iter().find(|each| each.pipeline.as_ref() == Some(name)) {
            let reason =
                format!("the binding of {} to queue {} uses pipeline {name}", user.pattern, user.queue);
            return Err(Refusal::conflict(reason));
        }
        self.pipelines.remove(name).ok_or_else(|| Refusal::not_found("pipeline", name))?;
        Ok(true)
    }

    fn known_pipeline(&mut self, name: &Name) -> Result<&mut Pipeline, Refusal> {
        self.pipelines.get_mut(name).ok_or_else(|| Refusal::not_found("pipeline", name))
    }
}

fn check_version(version: &PipelineVersion) -> Result<(), Refusal> {
    if version.spec.len() > SPEC_BYTES_MAX {
        let reason = format!("a pipeline's specification has at most {SPEC_BYTES_MAX} bytes");
        return Err(Refusal { code: ErrorCode::TooLarge, reason });
    }
    if version.delivery.len() > DELIVERY_PATTERNS_MAX {
        return Err(Refusal::full("delivery patterns of a pipeline", DELIVERY_PATTERNS_MAX));
    }
    Ok(())
}
