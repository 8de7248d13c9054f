//! What a plugin is: a type with a configuration, and one of four traits.

use serde::de::DeserializeOwned;

use crate::{Failure, Message, Out, Output, Problem, Reads, Stage, Transformed};

/// What all plugins have: a configuration, the fields they read, and how one is made.
///
/// An instance serves many messages, one after another, and may be replaced by a new one between any two: what it
/// keeps is a cache, never a truth.
pub trait Plugin: Sized + 'static {
    /// The stage's configuration; [`NoConfig`](crate::NoConfig) for none.
    type Config: DeserializeOwned;

    /// One line for listings.
    const SUMMARY: &'static str;

    /// Which fields the broker packs into each call.
    const READS: Reads = Reads::PAYLOAD;

    /// A JSON Schema of the configuration.
    const CONFIG_SCHEMA: Option<&'static str> = None;

    /// Makes an instance for a stage.
    ///
    /// # Errors
    /// What is wrong with the configuration; it refuses the pipeline when it is applied.
    fn init(config: Self::Config, stage: &Stage) -> Result<Self, Problem>;
}

/// Accepts messages, or says why not.
///
/// ```
/// use serde::Deserialize;
/// use wharf_plugin::{Failure, Message, OrFail, Plugin, Problem, Reads, Stage, Validator};
///
/// #[derive(Deserialize)]
/// struct AtMost {
///     bytes: usize,
/// }
///
/// impl Plugin for AtMost {
///     type Config = Self;
///     const SUMMARY: &'static str = "accepts payloads up to a length";
///
///     fn init(config: Self, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(config)
///     }
/// }
///
/// impl Validator for AtMost {
///     fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
///         match message.payload().len() {
///             length if length <= self.bytes => Ok(()),
///             length => Err(Problem::new("too-long", format!("{length} bytes, at most {}", self.bytes)))?,
///         }
///     }
/// }
///
/// wharf_plugin::export!(AtMost as validator);
/// # fn main() {}
/// ```
pub trait Validator: Plugin {
    /// Accepts a message.
    ///
    /// # Errors
    /// Why it is not accepted.
    fn validate(&self, message: &Message<'_>) -> Result<(), Failure>;
}

/// Chooses where messages go, among the outputs that the operator declared.
pub trait Router: Plugin {
    /// Chooses for a message.
    ///
    /// # Errors
    /// Why it can go nowhere.
    fn route(&self, message: &Message<'_>) -> Result<Route, Failure>;
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// On to where it was going.
    Pass,
    /// Nowhere: settled here, without a dead letter.
    Drop,
    /// To these outputs instead, a copy each.
    To(Vec<Output>),
}

impl Route {
    /// To one output.
    pub fn to(output: Output) -> Self {
        Self::To(vec![output])
    }
}

/// Makes messages of messages: none, one or many of each.
///
/// ```
/// use wharf_plugin::{Emit, Failure, Message, NoConfig, Out, Plugin, Problem, Stage, Transformed, Transformer};
///
/// struct Lines;
///
/// impl Plugin for Lines {
///     type Config = NoConfig;
///     const SUMMARY: &'static str = "sends each line of a text as a message of its own";
///
///     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self)
///     }
/// }
///
/// impl Transformer for Lines {
///     fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
///         let mut start = 0;
///         for line in message.payload().split_inclusive(|&byte| byte == b'\n') {
///             out.emit(Emit::part(start, line.len() as u64))?; // a range of what came: no copy
///             start += line.len() as u64;
///         }
///         Ok(Transformed::Emitted)
///     }
/// }
///
/// wharf_plugin::export!(Lines as transformer);
/// # fn main() {}
/// ```
pub trait Transformer: Plugin {
    /// Transforms a message. `&mut self` is for buffers and caches, which may vanish between any two messages.
    ///
    /// # Errors
    /// Why it cannot be transformed; what was emitted for it is forgotten.
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure>;
}

/// Sets headers; the payload never leaves the host.
pub trait Enricher: Plugin {
    /// Sets headers of a message.
    ///
    /// # Errors
    /// Why it cannot be enriched.
    fn enrich(&self, message: &Message<'_>, headers: &mut Headers) -> Result<(), Failure>;
}

/// The headers that an [`Enricher`] sets.
#[derive(Debug, Default)]
pub struct Headers(pub(crate) Vec<(String, Vec<u8>)>);

impl Headers {
    /// Adds the header `name`, or replaces it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }
}
