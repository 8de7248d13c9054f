//! What a message went through before: the deaths from which it was sent on its way again, and how often.
//!
//! It goes with the message from queue to queue, so that whoever looks at a dead letter sees all its deaths, and no
//! message dies and is redriven without end.

use serde::{Deserialize, Serialize};
use wharf_protocol::Death;

use crate::seeded::{self, Fault};

/// Deaths that are remembered of a message: the first, and the newest.
pub const PAST_DEATHS_MAX: usize = 8;

/// What a message went through before its present life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// How often it was sent on its way again.
    pub redriven: u32,
    /// How often another message was put in its place.
    pub edited: u32,
    /// Its deaths before this life, oldest first; at most [`PAST_DEATHS_MAX`].
    pub deaths: Vec<Death>,
}

impl Past {
    /// Another life begins, after `death`.
    pub(crate) fn redriven(past: Option<Box<Self>>, death: Option<Box<Death>>) -> Box<Self> {
        let mut past = past.unwrap_or_default();
        let again = u32::from(!seeded::is(Fault::RedriveUncounted));
        past.redriven = past.redriven.saturating_add(again);
        if past.deaths.len() >= PAST_DEATHS_MAX {
            past.deaths.remove(1);
        }
        past.deaths.extend(death.map(|death| *death));
        past
    }

    /// Another message takes its place.
    pub(crate) fn edited(past: Option<Box<Self>>) -> Box<Self> {
        let mut past = past.unwrap_or_default();
        past.edited = past.edited.saturating_add(1);
        past
    }
}
