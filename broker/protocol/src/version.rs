//! By which version of a pipeline a message was handled.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Name;

/// The most versions that are told of one message: pipelines that send it on and on pass more, which are left out.
pub const VERSIONS_TOLD_MAX: usize = 64;

/// One version of a pipeline, written `orders/12`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PipelineVersion {
    /// The pipeline.
    pub pipeline: Name,
    /// The number of the version, from 1.
    pub number: u32,
}

impl fmt::Display for PipelineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.number)
    }
}
