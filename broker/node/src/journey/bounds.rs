//! What pipelines may make of a publication: bounds against loops, and against what nobody may store.

use wharf_protocol::{ErrorCode, Name, Rejection};

use super::{Journey, Traveller, rejection};
use crate::{Config, Node};

/// How many messages one publication may become on its way, over all pipelines and hops: a pipeline that sends sixteen
/// copies back to its own topic would make four thousand million in eight hops.
const FAN_OUT_MAX: u32 = 1024;

impl Journey {
    /// Counts what a pipeline made of a publication, and ends it when that is too much: whether it goes on.
    pub(super) fn became(&mut self, origin: usize, messages: usize) -> bool {
        let made = &mut self.places[origin].made;
        *made = made.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
        let fits = *made <= FAN_OUT_MAX;
        if !fits {
            let text = format!(
                "pipelines made more than {FAN_OUT_MAX} messages of this one: a loop that multiplies?"
            );
            self.reject(origin, rejection(ErrorCode::StageFailed, text));
        }
        fits
    }
}

impl Node {
    /// Bounds what pipelines make, and ends the publication of what may not go on: hops against loops, the size of a
    /// message, and where it is sent.
    pub(super) fn may_go_on(&self, journey: &mut Journey, traveller: &Traveller) -> bool {
        let (hops, bytes) = (traveller.hops, traveller.message.encoded_bytes());
        let Config { hops_max, message_bytes_max, .. } = *self.config();
        let refusal = match &traveller.to {
            _ if hops > hops_max => {
                let topic = &traveller.message.topic;
                let text = format!("pipelines sent the message on {hops} times, last to {topic}: a loop?");
                rejection(ErrorCode::StageFailed, text)
            }
            _ if bytes > message_bytes_max => {
                let text = format!(
                    "a pipeline made a message of {bytes} bytes, over the limit of {message_bytes_max}"
                );
                rejection(ErrorCode::TooLarge, text)
            }
            Some(queue) if journey.topology.backlog(queue.as_str()).is_none() => no_such_queue(queue),
            _ => return true,
        };
        journey.reject(traveller.origin, refusal);
        false
    }
}

pub(super) fn no_such_queue(queue: &Name) -> Rejection {
    let reason = format!("a pipeline sent the message to {queue}, which is no queue or stream");
    rejection(ErrorCode::StageFailed, reason)
}
