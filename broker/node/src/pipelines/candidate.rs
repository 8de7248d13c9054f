//! A version of a pipeline that is not in use, made ready to be looked at: by number, or from a file.

use std::sync::Arc;

use wharf_pipeline::{Item, Pipeline, Processed};
use wharf_protocol::{Message, Name, Timestamp};

use super::missing;
use crate::view::{TryDestination, TryReport, TryResult};
use crate::{Action, Node, NodeError, Principal};

/// Which version of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Candidate {
    /// The one in use.
    #[default]
    InUse,
    /// The one of this number.
    Version(u32),
    /// One that the broker does not have: the text of a pipeline file, in TOML or JSON.
    Spec(String),
}

impl Node {
    /// What the version in use would do with `message`: every stage's account. Stores and delivers nothing.
    ///
    /// # Errors
    /// No such pipeline; it does not run; not allowed.
    pub async fn try_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        message: Message,
    ) -> Result<TryReport, NodeError> {
        self.try_candidate(who, name, &Candidate::InUse, message).await
    }

    /// What a version would do with `message`: every stage's account. Stores and delivers nothing, and is no call in
    /// the statistics of the version in use.
    ///
    /// # Errors
    /// No such pipeline or version; it does not run; not allowed.
    pub async fn try_candidate(
        &self,
        who: &Principal,
        name: &Name,
        candidate: &Candidate,
        message: Message,
    ) -> Result<TryReport, NodeError> {
        who.check(Action::Administer)?;
        let (number, pipeline) = self.ready_version(name, candidate).await?;
        let item = Item::new(message);
        let run = tokio::task::spawn_blocking(move || pipeline.run_traced(item, Timestamp::wall_clock()));
        let traced =
            run.await.map_err(|error| NodeError::Unavailable(format!("the trial failed: {error}")))?;
        let (result, outputs) = match traced.processed {
            Processed::Passed(outputs) => (TryResult::Passed, outputs),
            Processed::Dropped { .. } => (TryResult::Dropped, Vec::new()),
            Processed::Failed(_) => (TryResult::Failed, Vec::new()),
        };
        let topology = self.shard().topology();
        let bound_here = |binding: &&wharf_queue::Binding| binding.pipeline.as_ref() == Some(name);
        let destinations = outputs.into_iter().map(|output| {
            let bindings = topology.resolve(&output.message.topic);
            let (mut queues, mut through) = (Vec::new(), Vec::new());
            match output.to {
                Some(wharf_pipeline::Target::Queue(queue)) => queues.push(queue),
                // Out of a binding's pipeline a message goes on to that binding's queue alone.
                None if bindings.iter().any(bound_here) => {
                    let here = bindings.iter().copied().filter(bound_here);
                    queues.extend(here.map(|binding| binding.queue.clone()));
                }
                Some(wharf_pipeline::Target::Topic(_)) | None => {
                    for binding in &bindings {
                        match &binding.pipeline {
                            Some(pipeline) => through.push((binding.queue.clone(), pipeline.clone())),
                            None => queues.push(binding.queue.clone()),
                        }
                    }
                }
            }
            TryDestination { topic: output.message.topic.to_string(), queues, through }
        });
        Ok(TryReport {
            pipeline: name.clone(),
            number,
            destinations: destinations.collect(),
            steps: traced.steps,
            result,
        })
    }

    /// A version made ready to run, apart from the one that messages pass; and its number, 0 of a file.
    pub(crate) async fn ready_version(
        &self,
        name: &Name,
        candidate: &Candidate,
    ) -> Result<(u32, Arc<Pipeline>), NodeError> {
        let topology = self.shard().topology().clone();
        let number = match candidate {
            Candidate::InUse => topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?.active,
            Candidate::Version(number) => *number,
            Candidate::Spec(text) => return Ok((0, self.candidate(&topology, name, text).await?.1)),
        };
        Ok((number, self.prepare_version(self.engine(), &topology, name, number).await?))
    }

    /// A version made ready to run metered, so that it tells its fuel. Where it cannot be (metered code is larger, and
    /// compiled under the same limits), as messages pass it.
    pub(crate) async fn metered_version(&self, name: &Name, number: u32) -> Result<Arc<Pipeline>, NodeError> {
        let topology = self.shard().topology().clone();
        let metered = match self.engine().metered() {
            Ok(engine) => self.prepare_version(&engine, &topology, name, number).await,
            Err(error) => Err(NodeError::Unavailable(error.to_string())),
        };
        if let Err(error) = &metered {
            tracing::debug!(%name, number, %error, "a version is run without counting fuel");
            return self.prepare_version(self.engine(), &topology, name, number).await;
        }
        metered
    }
}
