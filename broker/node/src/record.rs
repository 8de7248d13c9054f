//! Recordings: what a stage of a running pipeline takes and says, for the tests of its plugin.

use wharf_pipeline::{RecordError, Recording};
use wharf_protocol::Name;

use crate::pipelines::Active;
use crate::{Action, Node, NodeError, Principal};

impl Node {
    /// Records what `stage` of a pipeline takes and says from now on; its first stage where none is named. The
    /// recording ends with the pipeline's version.
    ///
    /// # Errors
    /// No such pipeline or stage; it does not run; somebody else records it; not allowed.
    pub async fn record_stage(
        &self,
        who: &Principal,
        pipeline: &Name,
        stage: Option<&Name>,
    ) -> Result<Recording, NodeError> {
        who.check(Action::Administer)?;
        let missing = || NodeError::NotFound { kind: "pipeline", name: pipeline.to_string() };
        let entered = self.pipelines_in_use().enter(pipeline).await.ok_or_else(missing)?;
        match &*entered {
            Active::Broken { reason, .. } => Err(NodeError::Unavailable(reason.clone())),
            Active::Ready { number, pipeline, .. } => {
                pipeline.record(stage, *number).map_err(|error| match error {
                    RecordError::NoSuchStage { .. } => NodeError::Invalid(error.to_string()),
                    RecordError::Busy(_) => NodeError::Conflict(error.to_string()),
                })
            }
        }
    }
}
