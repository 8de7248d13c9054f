//! One message on its way.

use std::sync::Arc;

use wharf_pipeline::{Output, Target};
use wharf_protocol::{Message, Name};

use super::Journey;
use super::entrance::Towards;

/// One message on its way.
pub(crate) struct Traveller {
    /// Which publication of the batch it comes from.
    pub(super) origin: usize,
    pub(super) message: Message,
    /// How often a pipeline has sent it to another topic.
    pub(super) hops: u8,
    /// The pipelines of its topic, and how many of them it has passed.
    pub(super) ingress: Option<(Arc<[Name]>, usize)>,
    /// A stage sent it straight to this queue.
    pub(super) to: Option<Name>,
    /// It died on its way to a queue: it is past its topic's pipelines, and other bindings have taken it.
    pub(super) towards: Option<Box<Towards>>,
}

impl Traveller {
    pub(crate) fn new(origin: usize, message: Message) -> Self {
        Self { origin, message, hops: 0, ingress: None, to: None, towards: None }
    }

    /// The ingress pipeline that it has to pass next.
    pub(super) fn next_pipeline(&mut self, journey: &mut Journey) -> Option<Name> {
        if self.to.is_some() || self.towards.is_some() {
            return None;
        }
        let topic = &self.message.topic;
        let (pipelines, passed) =
            self.ingress.get_or_insert_with(|| (Arc::clone(&journey.route(topic).ingress), 0));
        pipelines.get(*passed).cloned()
    }

    /// What an ingress pipeline made of it.
    pub(super) fn go_on(&self, output: Output) -> Self {
        let (origin, message) = (self.origin, output.message);
        let next = Self { hops: self.hops, ..Self::new(origin, message) };
        match output.to {
            Some(Target::Topic(_)) => Self { hops: self.hops + 1, ..next },
            Some(Target::Queue(queue)) => Self { to: Some(queue), ..next },
            None => {
                let ingress = self.ingress.clone().map(|(pipelines, passed)| (pipelines, passed + 1));
                Self { ingress, ..next }
            }
        }
    }
}
