//! What a run hung on beside its message and its pipeline: with it, the same run gives the same bytes again.
//!
//! The time is the run's, random bits follow from the message and the time, and what was read of the pipeline's
//! memory is here. Of tables and schemas, the versions are: their content is the operator's to keep.

use std::sync::Arc;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{Kept, Timestamp};

use crate::{Grant, Library, Memory};

/// What a traced run hung on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// What its plugins were told is the time; their random bits follow from it and the message.
    pub now: Timestamp,
    /// What it found in its pipeline's memory; `None`: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<(ByteString, Option<Kept>)>,
    /// The versions of the tables and schemas that it used, as they are granted: `lookup:prices`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lent: Vec<(Grant, u64)>,
}

/// Why a run cannot be had again as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run used version {then} of {grant}, and {}", now_text(*.now))]
pub struct Outdated {
    /// The table or schema.
    pub grant: Grant,
    /// The version that the run used.
    pub then: u64,
    /// The version that is in use; `None`: it is gone.
    pub now: Option<u64>,
}

fn now_text(now: Option<u64>) -> String {
    now.map_or("it is there no more".to_owned(), |now| format!("version {now} is in use now"))
}

impl Circumstances {
    /// Whether what was lent then is lent now.
    pub(crate) fn check(&self, library: &Library) -> Result<(), Outdated> {
        for (grant, then) in &self.lent {
            let now = library.version(grant);
            if now != Some(*then) {
                return Err(Outdated { grant: grant.clone(), then: *then, now });
            }
        }
        Ok(())
    }

    /// A memory that holds what was found, and nothing else.
    pub(crate) fn memory(&self) -> Arc<dyn Memory> {
        Arc::new(Found(self.reads.clone()))
    }
}

struct Found(Vec<(ByteString, Option<Kept>)>);

impl Memory for Found {
    fn get(&self, key: &str) -> Option<Kept> {
        self.0.iter().find(|(each, _)| &**each == key).and_then(|(_, kept)| kept.clone())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
