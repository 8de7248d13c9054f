//! What a message's headers ask of the broker itself, read in one pass.

use wharf_protocol::{DELIVER_AT, Headers, TRACE};

use super::context::{Parent, TRACEPARENT, TRACESTATE};

/// The values of the headers that the broker looks at when a message comes in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes<'a> {
    pub(crate) deliver_at: Option<&'a [u8]>,
    pub(super) trace: Option<&'a [u8]>,
    pub(super) parent: Option<&'a [u8]>,
    pub(super) state: Option<&'a [u8]>,
}

impl<'a> Wishes<'a> {
    pub(crate) fn of(headers: &'a Headers) -> Self {
        let mut wishes = Self::default();
        for (name, value) in headers.iter() {
            match name {
                DELIVER_AT => wishes.deliver_at = Some(value),
                TRACE => wishes.trace = Some(value),
                TRACEPARENT => wishes.parent = Some(value),
                TRACESTATE => wishes.state = Some(value),
                _ => {}
            }
        }
        wishes
    }

    /// Whether the publisher's trace is sampled.
    pub(super) fn is_sampled(&self) -> bool {
        self.parent.and_then(Parent::parse).is_some_and(|parent| parent.sampled)
    }
}
