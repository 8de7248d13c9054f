//! A batch as the guest sees it: numbers over one run of bytes.
//!
//! ```text
//!  slots    one a message: spans of topic, key, payload · attempt · received-at; none where nothing of it is read
//!  headers  a row a message: one span for each header that the plugin reads
//!  bytes    what the spans point into, message by message
//! ```
//!
//! Only what the plugin said it reads is copied. A list of records with strings would cost the guest an
//! allocation for each of them; this costs three for the whole batch.

use wharf_protocol::Timestamp;

use crate::bindings::wharf::plugin::types::{Slot, Span, View};
use crate::{Item, Reads};

/// What goes into the views of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    reads: Reads,
    slots: bool,
}

impl Packing {
    /// What a plugin's description says, whose instances count on slots.
    pub(crate) fn described(reads: Reads) -> Self {
        Self { reads, slots: true }
    }

    /// What an instance says since it was configured.
    pub(crate) fn configured(reads: Reads) -> Self {
        Self { slots: reads.topic || reads.key || reads.payload, reads }
    }
}

/// A field that is not there.
const ABSENT: Span = Span { start: 0, length: u32::MAX };

/// The buffers of a view, kept from call to call.
#[derive(Default)]
pub(crate) struct Packed {
    slots: Vec<Slot>,
    headers: Vec<Span>,
    bytes: Vec<u8>,
}

impl Packed {
    /// Packs what `packing` names of `items`.
    ///
    /// # Errors
    /// How many bytes there would be, when a span cannot address them.
    pub(crate) fn pack<'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item>,
        packing: &Packing,
        now: Timestamp,
    ) -> Result<(), usize> {
        let reads = &packing.reads;
        self.slots.clear();
        self.headers.clear();
        self.bytes.clear();
        for Item { message, attempt, published_at } in items {
            if packing.slots {
                let slot = Slot {
                    topic: self.append(reads.topic.then(|| message.topic.as_str().as_bytes())),
                    key: self.append(reads.key.then_some(message.key.as_deref()).flatten()),
                    payload: self.append(reads.payload.then_some(&*message.payload)),
                    attempt: *attempt,
                    received_at: published_at.unwrap_or(now).0,
                };
                self.slots.push(slot);
            }
            self.append_headers(message, &reads.headers);
            if self.bytes.len() >= u32::MAX as usize {
                return Err(self.bytes.len());
            }
        }
        Ok(())
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { slots: &self.slots, headers: &self.headers, bytes: &self.bytes }
    }

    /// One walk over the message's headers, no further than to the last that is read: no name is there twice.
    fn append_headers(&mut self, message: &wharf_protocol::Message, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let (row, mut missing) = (self.headers.len(), names.len());
        self.headers.resize(row + missing, ABSENT);
        for (name, value) in message.headers.iter_bytes() {
            if let Some(column) = names.iter().position(|wanted| wanted.as_bytes() == name) {
                self.headers[row + column] = self.append(Some(value));
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
    }

    /// The span is cut when it goes over 4 GiB; `pack` refuses such a batch.
    #[expect(clippy::cast_possible_truncation, reason = "pack refuses a batch in which it could matter")]
    fn append(&mut self, field: Option<&[u8]>) -> Span {
        let Some(field) = field else { return ABSENT };
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(field);
        Span { start, length: field.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::{HeadersBuilder, Message};

    use super::*;

    #[test]
    fn a_view_holds_what_is_read_and_marks_the_rest_absent() {
        let mut message = Message::new("a.b".parse().expect("a topic"), "body");
        message.headers = HeadersBuilder::default().set("x", "1").set("y", "22").build().expect("small");
        let items = [Item::new(message.clone()), Item::new(Message::new(message.topic.clone(), ""))];
        let reads =
            Reads { topic: false, key: true, payload: true, headers: vec!["y".to_owned(), "z".to_owned()] };

        let mut packed = Packed::default();
        packed.pack(items.iter(), &Packing::described(reads), Timestamp(7)).expect("small");
        let view = packed.view();

        let read = |span: Span| {
            (span.length != u32::MAX).then(|| {
                let start = span.start as usize;
                std::str::from_utf8(&view.bytes[start..start + span.length as usize]).expect("text")
            })
        };
        assert_eq!(read(view.slots[0].payload), Some("body"));
        assert_eq!(read(view.slots[0].topic), None, "not read");
        assert_eq!(read(view.slots[0].key), None, "not there");
        assert_eq!(read(view.slots[1].payload), Some(""));
        let headers: Vec<_> = view.headers.iter().map(|span| read(*span)).collect();
        assert_eq!(headers, [Some("22"), None, None, None]);
        assert_eq!(view.slots[1].received_at, 7);
    }

    #[test]
    fn slots_of_which_a_configured_instance_reads_nothing_are_not_packed() {
        let items = [Item::new(Message::new("a.b".parse().expect("a topic"), "body"))];
        let mut packed = Packed::default();
        let mut slots = |packing: Packing| {
            packed.pack(items.iter(), &packing, Timestamp(7)).expect("small");
            packed.view().slots.len()
        };
        let header = Reads { headers: vec!["y".to_owned()], ..Reads::default() };
        assert_eq!(slots(Packing::described(header.clone())), 1);
        assert_eq!(slots(Packing::configured(Reads { key: true, ..header.clone() })), 1);
        assert_eq!(slots(Packing::configured(header)), 0);
    }
}
