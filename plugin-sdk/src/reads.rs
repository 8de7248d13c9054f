//! Which fields a plugin asks for.

use std::borrow::Cow;

/// The fields that the broker packs into each call, so that reading them costs nothing more.
///
/// What is not named here is not copied into the plugin at all, and can still be had from a
/// [`Message`](crate::Message): each such access is a call to the host, about 0.2 µs and an allocation.
///
/// ```
/// use wharf_plugin::Reads;
///
/// const READS: Reads = Reads::PAYLOAD.with_topic().with_headers(&["region", "amount"]);
/// assert!(READS.payload && READS.topic && !READS.key);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// Where the message was published.
    pub topic: bool,
    /// The key that keeps messages in order.
    pub key: bool,
    /// The body.
    pub payload: bool,
    /// These headers, by name.
    pub headers: &'static [&'static str],
}

impl Reads {
    /// No field.
    ///
    /// ```
    /// use wharf_plugin::Reads;
    ///
    /// const READS: Reads = Reads::NOTHING.with_key();
    /// assert!(READS.key && !READS.payload);
    /// ```
    pub const NOTHING: Self = Self { topic: false, key: false, payload: false, headers: &[] };

    /// The payload alone: what most plugins read.
    pub const PAYLOAD: Self = Self::NOTHING.with_payload();

    /// These, and the topic.
    #[must_use]
    pub const fn with_topic(mut self) -> Self {
        self.topic = true;
        self
    }

    /// These, and the key.
    #[must_use]
    pub const fn with_key(mut self) -> Self {
        self.key = true;
        self
    }

    /// These, and the payload.
    #[must_use]
    pub const fn with_payload(mut self) -> Self {
        self.payload = true;
        self
    }

    /// These, and the headers `names` (instead of headers named before).
    #[must_use]
    pub const fn with_headers(mut self, names: &'static [&'static str]) -> Self {
        self.headers = names;
        self
    }
}

/// The fields that are packed into each call of one instance: its plugin's [`Reads`], or what its configuration names.
///
/// ```
/// use wharf_plugin::{Failure, Fields, Message, Plugin, Problem, Reads, Stage, Validator};
///
/// /// Accepts messages that have the header that the configuration names.
/// struct Marked(String);
///
/// impl Plugin for Marked {
///     type Config = String;
///     const SUMMARY: &'static str = "accepts messages with a header";
///     const READS: Reads = Reads::NOTHING;
///
///     fn init(config: String, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self(config))
///     }
///
///     fn reads(&self) -> Fields {
///         Fields::from(Self::READS).with_header(self.0.clone())
///     }
/// }
///
/// impl Validator for Marked {
///     fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
///         message.require_header(&self.0).map(drop) // packed: no call to the host
///     }
/// }
///
/// wharf_plugin::export!(Marked as validator);
/// # fn main() {
/// assert_eq!(Marked("region".to_owned()).reads().headers, ["region"]);
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Where the message was published.
    pub topic: bool,
    /// The key that keeps messages in order.
    pub key: bool,
    /// The body.
    pub payload: bool,
    /// These headers, by name; at most 64.
    pub headers: Vec<Cow<'static, str>>,
}

impl Fields {
    /// These, and the header `name`.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push(name.into());
        self
    }
}

impl From<Reads> for Fields {
    fn from(Reads { topic, key, payload, headers }: Reads) -> Self {
        Self { topic, key, payload, headers: headers.iter().map(|&name| name.into()).collect() }
    }
}
