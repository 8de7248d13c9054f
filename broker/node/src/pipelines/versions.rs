//! The versions of a pipeline: staged, put to use, and put to use again.

use std::sync::Arc;

use wharf_pipeline::{Engine, Pipeline};
use wharf_protocol::Name;
use wharf_queue::{Change, PipelineEventKind, Topology};

use super::{missing, parse, prepare, write};
use crate::view::{PipelineChange, PipelineView};
use crate::{Action, Node, NodeError, Principal};

impl Node {
    /// Makes `spec`, the text of a pipeline file in TOML or JSON, the next version of a pipeline that is there, and
    /// leaves the version in use in use. It is checked as one that is applied: it can run. Its number.
    ///
    /// # Errors
    /// What is wrong with the file, a plugin or its configuration; no such pipeline; not allowed.
    pub async fn stage_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        spec: &str,
        note: Option<String>,
    ) -> Result<u32, NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        let topology = self.shard().topology().clone();
        if topology.pipeline(name.as_str()).is_none() {
            return Err(NodeError::Conflict(format!(
                "pipeline {name} has no version in use yet: its first is applied, and others are staged beside it"
            )));
        }
        let (spec, _) = self.candidate(&topology, name, spec).await?;
        let change = Change::StagePipeline {
            name: name.clone(),
            spec: write(&spec)?.into(),
            ingress: spec.ingress.clone(),
            delivery: spec.delivery.clone(),
            by: who.name().to_owned(),
            note: note.unwrap_or_default(),
        };
        self.shard().change(change).await?;
        // Nothing else changes pipelines meanwhile: the last version is this one.
        let topology = self.shard().topology().clone();
        let newest = topology.pipeline(name.as_str()).and_then(|known| known.versions.last_key_value());
        newest.map(|(number, _)| *number).ok_or_else(|| missing(name))
    }

    /// Puts version `number` of a pipeline to use, at one place in the log. A trial of the pipeline ends with it.
    ///
    /// # Errors
    /// No such pipeline or version; one of its plugins is gone; not allowed.
    pub async fn activate_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        number: u32,
        note: Option<String>,
    ) -> Result<PipelineView, NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        let (by, note) = (who.name().to_owned(), note.unwrap_or_default());
        self.put_to_use(name, number, PipelineEventKind::Activated, by, note).await?;
        self.pipeline(who, name).await
    }

    /// Puts an older version of a pipeline to use again: `to`, or the one that was before the version in use.
    ///
    /// # Errors
    /// As [`activate_pipeline`](Self::activate_pipeline); there is no earlier version.
    pub async fn rollback_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        to: Option<u32>,
        note: Option<String>,
    ) -> Result<PipelineView, NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        let topology = self.shard().topology().clone();
        let known = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?;
        let before = || {
            let none =
                || NodeError::Conflict(format!("pipeline {name} has no earlier version to go back to"));
            known.before_active().ok_or_else(none)
        };
        let number = to.map_or_else(before, Ok)?;
        let note = note.unwrap_or_else(|| format!("rolled back from {}", known.active));
        let by = who.name().to_owned();
        self.put_to_use(name, number, PipelineEventKind::RolledBack, by, note).await?;
        self.pipeline(who, name).await
    }

    /// What was done with a pipeline, oldest first.
    ///
    /// # Errors
    /// No such pipeline; not allowed.
    pub async fn pipeline_history(
        &self,
        who: &Principal,
        name: &Name,
    ) -> Result<Vec<PipelineChange>, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology();
        let known = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?;
        let last = known.history.iter().rposition(|event| event.kind.activates());
        let changes = known.history.iter().enumerate().map(|(i, event)| PipelineChange {
            number: event.number,
            kind: event.kind,
            at: event.at,
            by: event.by.clone(),
            note: event.note.clone(),
            index: event.index,
            active: Some(i) == last,
        });
        Ok(changes.collect())
    }

    /// Swaps a version that is there in; the caller keeps other changes out.
    pub(super) async fn put_to_use(
        &self,
        name: &Name,
        number: u32,
        how: PipelineEventKind,
        by: String,
        note: String,
    ) -> Result<(), NodeError> {
        let topology = self.shard().topology().clone();
        let pipeline = self.prepare_version(self.engine(), &topology, name, number).await?;
        let change = Change::ActivatePipeline { name: name.clone(), number, how, by, note };
        self.swap(name, change, pipeline).await
    }

    /// Makes version `number` of a pipeline ready to run in `engine`.
    pub(super) async fn prepare_version(
        &self,
        engine: &Engine,
        topology: &Topology,
        name: &Name,
        number: u32,
    ) -> Result<Arc<Pipeline>, NodeError> {
        let known = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?;
        let version = known.versions.get(&number).ok_or_else(|| NodeError::NotFound {
            kind: "pipeline version",
            name: format!("{name}/{number}"),
        })?;
        let spec = parse(name, &version.spec)?;
        prepare(engine, self.components(), topology, &spec).await
    }
}
