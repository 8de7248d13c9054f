//! One message of a batch, read where the host put it.

use std::cell::OnceCell;

use serde::Deserialize;

use crate::bindings::imports::wharf::plugin::types::{Slot, Span};
use crate::host::Batch;
use crate::{Failure, Fields, Problem};

/// The length of a field that is not there.
pub(crate) const ABSENT: u32 = u32::MAX;

/// A message as a plugin sees it.
///
/// Fields that the plugin [reads](crate::Plugin::reads) are borrowed from the packed batch, without a copy; others
/// are fetched from the host at the first access, and kept.
///
/// ```
/// use wharf_plugin::{Failure, Headers, Message, enricher};
///
/// #[derive(serde::Deserialize)]
/// struct Order<'a> {
///     customer: &'a str,
/// }
///
/// /// Says of an order what its consumers sort by.
/// #[enricher]
/// fn described(message: &Message, headers: &mut Headers) -> Result<(), Failure> {
///     let order: Order<'_> = message.json()?;
///     headers.set("customer", order.customer);
///     headers.set("region", message.header_text("region")?.unwrap_or("none"));
///     headers.set("from", message.topic());
///     headers.set("again", (message.attempt() > 0).to_string());
///     Ok(())
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::{Harness, Input};
///
/// let plugin = Harness::<Described>::native();
/// let order = Input::new(r#"{"customer": "acme"}"#).topic("orders.new").header("region", "eu");
/// plugin.send(order).assert_header("customer", "acme").assert_header("region", "eu").assert_header("from", "orders.new");
/// plugin.send("no order").assert_rejected("not-json");
/// # }
/// ```
pub struct Message<'a> {
    index: u32,
    /// What is in no column; not packed where none of it is read.
    slot: Option<&'a Slot>,
    /// One span for each name in `reads.headers`.
    headers: &'a [Span],
    bytes: &'a [u8],
    reads: &'a Fields,
    all: &'a Batch,
    fetched: Fetched,
}

impl<'a> Message<'a> {
    /// The messages of a call, in order.
    #[cfg(any(target_family = "wasm", feature = "harness"))]
    pub(crate) fn each(
        view: &'a crate::bindings::imports::wharf::plugin::types::View,
        reads: &'a Fields,
        all: &'a Batch,
    ) -> impl Iterator<Item = Message<'a>> + use<'a> {
        let columns = reads.headers.len();
        let count = match view.slots.len() {
            0 => view.headers.len().checked_div(columns).unwrap_or_else(|| all.len() as usize),
            slots => slots,
        };
        (0..).zip(0..count).map(move |(index, i)| {
            let row = i * columns;
            Message {
                index,
                slot: view.slots.get(i),
                headers: view.headers.get(row..row + columns).unwrap_or_default(),
                bytes: &view.bytes,
                reads,
                all,
                fetched: Fetched::default(),
            }
        })
    }

    #[cfg(any(target_family = "wasm", feature = "harness"))]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Whether it is the first message of a call: what a call may see anew is seen anew here, as in the example of
    /// [`ask_again`](crate::schema::Compiled::ask_again).
    pub fn begins_call(&self) -> bool {
        self.index == 0
    }

    /// Where it was published.
    pub fn topic(&self) -> &str {
        let packed = self.slot.filter(|_| self.reads.topic).and_then(|slot| self.span(slot.topic));
        let topic = packed.or_else(|| {
            self.fetched.get_or_fetch(Field::Topic, || Some(self.all.topic(self.index).into_bytes()))
        });
        std::str::from_utf8(topic.unwrap_or_default()).expect("topics are UTF-8")
    }

    /// Messages with the same key keep their order.
    pub fn key(&self) -> Option<&[u8]> {
        if let Some(slot) = self.slot.filter(|_| self.reads.key) {
            return self.span(slot.key);
        }
        self.fetched.get_or_fetch(Field::Key, || self.all.key(self.index))
    }

    /// The body.
    pub fn payload(&self) -> &[u8] {
        let packed = self.slot.filter(|_| self.reads.payload).and_then(|slot| self.span(slot.payload));
        packed
            .or_else(|| self.fetched.get_or_fetch(Field::Payload, || Some(self.all.payload(self.index))))
            .unwrap_or_default()
    }

    /// The body as text.
    ///
    /// # Errors
    /// Rejects with `not-utf8` and the offset of the first wrong byte.
    pub fn text(&self) -> Result<&str, Failure> {
        utf8(self.payload()).map_err(|error| {
            let message = format!("the payload is not UTF-8 text: wrong byte at {}", error.valid_up_to());
            Problem::new("not-utf8", message).into()
        })
    }

    /// The body as a value, from JSON. What `T` borrows lies in the batch, and is not copied: a field `&'a str` takes
    /// texts without escapes, a `Cow<'a, str>` with `#[serde(borrow)]` all of them.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use wharf_plugin::{Failure, Message};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Order<'a> {
    ///     id: &'a str,
    ///     #[serde(borrow)]
    ///     note: Cow<'a, str>,
    /// }
    ///
    /// fn note(message: &Message<'_>) -> Result<String, Failure> {
    ///     let Order { id, note } = message.json()?;
    ///     Ok(format!("{id}: {note}"))
    /// }
    /// ```
    ///
    /// # Errors
    /// Rejects with `not-json`, what was expected, and the line and column.
    pub fn json<'m, T: Deserialize<'m>>(&'m self) -> Result<T, Failure> {
        // Checked at once, its strings need not be checked one by one.
        let read = match utf8(self.payload()) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(self.payload()),
        };
        read.map_err(|error| json_problem(&error).into())
    }

    /// The value of the header `name`.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        if let Some(column) = self.reads.headers.iter().position(|read| read == name) {
            return self.headers.get(column).and_then(|&span| self.span(span));
        }
        self.fetched.get_or_fetch(Field::Header(name), || self.all.header(self.index, name))
    }

    /// The value of the header `name`, as text.
    ///
    /// # Errors
    /// Rejects with `not-utf8` a header that is there but is no text.
    pub fn header_text(&self, name: &str) -> Result<Option<&str>, Failure> {
        self.header(name)
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|_| Problem::new("not-utf8", format!("header `{name}` is not UTF-8 text")).into())
    }

    /// The value of the header `name`, as text, of a message that must have it.
    ///
    /// ```
    /// use wharf_plugin::{Failure, Message, OrFail};
    ///
    /// fn cents(message: &Message<'_>) -> Result<u64, Failure> {
    ///     message.require_header("cents")?.parse().or_reject("bad-cents")
    /// }
    /// ```
    ///
    /// # Errors
    /// Rejects with `missing-header` a message without it, and with `not-utf8` a value that is no text.
    pub fn require_header(&self, name: &str) -> Result<&str, Failure> {
        self.header_text(name)?
            .ok_or_else(|| Problem::new("missing-header", format!("the header `{name}` is missing")).into())
    }

    /// All headers, by name; fetched from the host at each call.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.all.headers(self.index)
    }

    /// The publisher's own id; fetched from the host.
    pub fn message_id(&self) -> Option<&str> {
        let id = self
            .fetched
            .get_or_fetch(Field::MessageId, || self.all.message_id(self.index).map(String::into_bytes))?;
        Some(std::str::from_utf8(id).expect("message ids are UTF-8"))
    }

    /// Where an answer is to be published; fetched from the host.
    pub fn reply_to(&self) -> Option<&str> {
        let topic = self
            .fetched
            .get_or_fetch(Field::ReplyTo, || self.all.reply_to(self.index).map(String::into_bytes))?;
        Some(std::str::from_utf8(topic).expect("topics are UTF-8"))
    }

    /// How often it was delivered before: 0 before it is stored. Fetched from the host where neither topic, key nor
    /// payload is read.
    pub fn attempt(&self) -> u32 {
        self.slot.map_or_else(|| self.all.attempt(self.index), |slot| slot.attempt)
    }

    /// When the broker took it, in milliseconds since 1970. Fetched from the host where neither topic, key nor payload
    /// is read.
    pub fn received_at(&self) -> u64 {
        self.slot.map_or_else(|| self.all.published_at(self.index), |slot| slot.received_at)
    }

    /// 0 to 31; a higher one is delivered first. Fetched from the host.
    pub fn priority(&self) -> u8 {
        self.all.priority(self.index)
    }

    /// When it expires, in milliseconds since 1970; `None`: never. Its queue may let it expire earlier. Fetched
    /// from the host.
    pub fn deadline(&self) -> Option<u64> {
        self.all.deadline(self.index)
    }

    /// 64 random bits: others at each call, the same when the same message is run again.
    ///
    /// ```
    /// use wharf_plugin::Message;
    ///
    /// /// Whether a message is among the one in a hundred that is looked at.
    /// fn sampled(message: &Message<'_>) -> bool {
    ///     message.random() % 100 == 0
    /// }
    /// ```
    pub fn random(&self) -> u64 {
        crate::host::random(self.index)
    }

    fn span(&self, span: Span) -> Option<&'a [u8]> {
        if span.length == ABSENT {
            return None;
        }
        let start = span.start as usize;
        Some(
            self.bytes
                .get(start..start + span.length as usize)
                .expect("the host packs spans within its bytes"),
        )
    }
}

/// As [`std::str::from_utf8`], which goes byte by byte where text is not ASCII; this goes by sixteen.
fn utf8(bytes: &[u8]) -> Result<&str, std::str::Utf8Error> {
    simdutf8::basic::from_utf8(bytes).or_else(|_| std::str::from_utf8(bytes))
}

/// `not-json`, from what serde_json says.
pub(crate) fn json_problem(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let what = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
    let problem = Problem::new("not-json", format!("the payload is not the JSON that was expected: {what}"));
    problem.at(format!("line {}, column {}", error.line(), error.column()))
}

/// What was fetched for one message: a list that only grows, so that what it holds can be borrowed.
#[derive(Default)]
struct Fetched(OnceCell<Box<Entry>>);

struct Entry {
    field: Field<String>,
    value: Option<Vec<u8>>,
    next: Fetched,
}

/// A field's name; `N` is borrowed to look one up, owned to keep it.
enum Field<N> {
    Topic,
    Key,
    Payload,
    MessageId,
    ReplyTo,
    Header(N),
}

impl Fetched {
    fn get_or_fetch(&self, field: Field<&str>, fetch: impl FnOnce() -> Option<Vec<u8>>) -> Option<&[u8]> {
        let mut list = self;
        while let Some(entry) = list.0.get() {
            if entry.field.is(&field) {
                return entry.value.as_deref();
            }
            list = &entry.next;
        }
        let entry = list.0.get_or_init(|| {
            Box::new(Entry { field: field.into_owned(), value: fetch(), next: Self::default() })
        });
        entry.value.as_deref()
    }
}

impl Field<&str> {
    fn into_owned(self) -> Field<String> {
        match self {
            Self::Topic => Field::Topic,
            Self::Key => Field::Key,
            Self::Payload => Field::Payload,
            Self::MessageId => Field::MessageId,
            Self::ReplyTo => Field::ReplyTo,
            Self::Header(name) => Field::Header(name.to_owned()),
        }
    }
}

impl Field<String> {
    fn is(&self, other: &Field<&str>) -> bool {
        match (self, other) {
            (Self::Header(own), Field::Header(name)) => own == name,
            (Self::Topic, Field::Topic)
            | (Self::Key, Field::Key)
            | (Self::Payload, Field::Payload)
            | (Self::MessageId, Field::MessageId)
            | (Self::ReplyTo, Field::ReplyTo) => true,
            _ => false,
        }
    }
}
