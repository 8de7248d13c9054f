//! Which fields a plugin asks for.

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
