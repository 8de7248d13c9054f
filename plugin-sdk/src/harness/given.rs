//! What a test gives a plugin beside its messages: its configuration and outputs, the time, what is lent to it, and
//! what it is refused.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Harness, Remembered, Tested};

impl<P: Tested> Harness<P> {
    /// With this configuration; without, it is `{}`.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.odd_config = None;
        match config {
            Value::Object(config) => self.setup.config = config,
            Value::Null => self.setup.config = serde_json::Map::new(),
            odd => self.odd_config = Some(odd),
        }
        self
    }

    /// With these outputs declared.
    ///
    /// ```
    #[doc = include_str!("examples/seeing.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Seeing>::native().outputs(["eu", "us"]).send("outputs").assert_header("seen", "eu+us");
    /// # }
    /// ```
    #[must_use]
    pub fn outputs<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.setup.outputs = names.into_iter().map(Into::into).collect();
        self
    }

    /// With another time than the one that plugins see in tests, in milliseconds since 1970.
    ///
    /// ```
    #[doc = include_str!("examples/seeing.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Seeing>::native().now(1_000).send("now").assert_header("seen", "1000");
    /// # }
    /// ```
    #[must_use]
    pub fn now(mut self, now_ms: u64) -> Self {
        self.setup.now_ms = Some(now_ms);
        self
    }

    /// With this reference table lent, and granted as `lookup:name`.
    ///
    /// ```
    #[doc = include_str!("examples/seeing.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// let plugin = Harness::<Seeing>::native().table("prices", [("apple", "10")]);
    /// plugin.send("apple").assert_header("seen", "10");
    /// # }
    /// ```
    #[must_use]
    pub fn table<K: Into<String>, V: Into<String>>(
        mut self,
        name: &str,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into()));
        self.setup.tables.insert(name.to_owned(), entries.collect());
        self
    }

    /// With this schema lent, and granted as `schema:name`.
    #[must_use]
    pub fn schema(mut self, name: &str, document: impl Into<String>) -> Self {
        self.setup.schemas.insert(name.to_owned(), document.into());
        self
    }

    /// With this secret lent, and granted as `secrets:name`.
    ///
    /// ```
    #[doc = include_str!("examples/seeing.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Seeing>::native().secret("token", "hush").send("secret").assert_header("seen", "hush");
    /// # }
    /// ```
    #[must_use]
    pub fn secret(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup.secrets.insert(name.to_owned(), value.into());
        self
    }

    /// With this value in the pipeline's `kv` before the first message. What a message leaves there is there for the next
    /// one that is sent, natively and compiled.
    #[must_use]
    pub fn kv(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.setup.kv.insert(key.to_owned(), Remembered::new(value));
        self.memory = RefCell::new(None);
        self
    }

    /// With a table or schema that is there and cannot be read, by the name that a pipeline file grants it by:
    /// `lookup:prices`, `schema:order`.
    ///
    /// ```
    #[doc = include_str!("examples/seeing.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Seeing>::native().unavailable("lookup:prices").send("apple").assert_retried("table-unavailable");
    /// # }
    /// ```
    #[must_use]
    pub fn unavailable(mut self, grant: &str) -> Self {
        self.setup.unavailable.push(grant.to_owned());
        self
    }

    /// With everything granted but this, by the name that a pipeline file uses: `clock`, `random`, `lookup:prices`.
    /// A plugin that uses it breaks, with `plugin-grant`. To be said after what is lent.
    ///
    /// Natively a message breaks it that makes it ask. Of `kv`, tables, schemas and secrets the broker makes no pipeline
    /// that does not grant what its plugin imports: the component breaks on each message.
    ///
    /// ```
    #[doc = include_str!("examples/seeing.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Seeing>::native().deny("clock").send("now").assert_fault("plugin-grant");
    /// # }
    /// ```
    #[must_use]
    pub fn deny(mut self, grant: &str) -> Self {
        let granted = self.setup.granted().into_iter().filter(|each| each != grant);
        self.setup.grants = Some(granted.collect());
        self
    }

    /// With another deadline than the broker's own 100 ms for a call. A component over it breaks, with
    /// `plugin-deadline`; natively nothing is interrupted.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.setup = self.setup.deadline(deadline);
        self
    }
}
