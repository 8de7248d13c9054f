//! The messages of a call, and the packed view of them.

use crate::Fields;
use crate::bindings::imports::wharf::plugin::types::{Slot, Span, View};
use crate::host::native::TIME;
use crate::message::ABSENT;

/// One message, with all its fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) message_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) attempt: u32,
    pub(crate) priority: u8,
    /// How long it lives, in milliseconds.
    pub(crate) ttl: Option<u64>,
}

/// What a plugin can ask for beside the packed view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch(pub(crate) Vec<Stored>);

impl Batch {
    fn message(&self, i: u32) -> &Stored {
        self.0.get(i as usize).expect("the message is in the batch")
    }

    pub(crate) fn topic(&self, i: u32) -> String {
        self.message(i).topic.clone()
    }

    pub(crate) fn key(&self, i: u32) -> Option<Vec<u8>> {
        self.message(i).key.clone()
    }

    pub(crate) fn message_id(&self, i: u32) -> Option<String> {
        self.message(i).message_id.clone()
    }

    pub(crate) fn reply_to(&self, i: u32) -> Option<String> {
        self.message(i).reply_to.clone()
    }

    pub(crate) fn header(&self, i: u32, name: &str) -> Option<Vec<u8>> {
        self.message(i).headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn headers(&self, i: u32) -> Vec<(String, Vec<u8>)> {
        self.message(i).headers.clone()
    }

    pub(crate) fn payload(&self, i: u32) -> Vec<u8> {
        self.message(i).payload.clone()
    }

    pub(crate) fn len(&self) -> u32 {
        length32(self.0.len())
    }

    pub(crate) fn attempt(&self, i: u32) -> u32 {
        self.message(i).attempt
    }

    pub(crate) fn published_at(&self, _i: u32) -> u64 {
        TIME.get()
    }

    pub(crate) fn priority(&self, i: u32) -> u8 {
        self.message(i).priority
    }

    pub(crate) fn deadline(&self, i: u32) -> Option<u64> {
        self.message(i).ttl.map(|ttl| TIME.get().saturating_add(ttl))
    }

    /// Packs what `reads` names, as the broker does.
    pub(crate) fn view(&self, reads: &Fields) -> View {
        let mut view = View { slots: Vec::new(), headers: Vec::new(), bytes: Vec::new() };
        for message in &self.0 {
            let mut pack = |field: Option<&[u8]>| pack(&mut view.bytes, field);
            if reads.topic || reads.key || reads.payload {
                let topic = pack(reads.topic.then_some(message.topic.as_bytes()));
                let key = pack(if reads.key { message.key.as_deref() } else { None });
                let payload = pack(reads.payload.then_some(message.payload.as_slice()));
                let received_at = TIME.get();
                view.slots.push(Slot { topic, key, payload, attempt: message.attempt, received_at });
            }
            for name in &reads.headers {
                let value = message.headers.iter().find(|(own, _)| own == name);
                view.headers.push(pack(value.map(|(_, value)| value.as_slice())));
            }
        }
        view
    }
}

fn pack(bytes: &mut Vec<u8>, field: Option<&[u8]>) -> Span {
    let start = length32(bytes.len());
    let Some(field) = field else {
        return Span { start, length: ABSENT };
    };
    bytes.extend_from_slice(field);
    Span { start, length: length32(field.len()) }
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a test's batch is under 4 GiB")
}
