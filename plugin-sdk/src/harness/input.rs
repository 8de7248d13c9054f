//! A message for a test.

/// A message to send through a plugin. Without more it has the topic `test` and no headers.
///
/// ```
/// use wharf_plugin::harness::Input;
///
/// let order = Input::new("<order/>").topic("orders.new").header("region", "eu");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) message_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) attempt: u32,
}

impl Input {
    /// A message with this payload.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: "test".into(),
            key: None,
            message_id: None,
            reply_to: None,
            headers: Vec::new(),
            payload: payload.into(),
            attempt: 0,
        }
    }

    /// A message whose payload is this value, as JSON.
    ///
    /// ```
    /// use serde_json::json;
    /// use wharf_plugin::harness::Input;
    ///
    /// assert_eq!(Input::json(&json!({"id": 7})), Input::new(r#"{"id":7}"#));
    /// ```
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(value.to_string())
    }

    /// On this topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this id.
    #[must_use]
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// With this topic for an answer.
    #[must_use]
    pub fn reply_to(mut self, topic: impl Into<String>) -> Self {
        self.reply_to = Some(topic.into());
        self
    }

    /// With this header, and those before.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    /// Delivered this often before.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

impl From<&str> for Input {
    fn from(payload: &str) -> Self {
        Self::new(payload)
    }
}

impl From<Vec<u8>> for Input {
    fn from(payload: Vec<u8>) -> Self {
        Self::new(payload)
    }
}
