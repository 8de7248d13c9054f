//! What a plugin is: a type with a configuration, and one of four traits.

use serde::de::DeserializeOwned;

use crate::{Failure, Fields, Message, Out, Output, Problem, Reads, Stage, Transformed};

/// What all plugins have: a configuration, the fields they read, and how one is made.
///
/// An instance serves many messages, one after another, and may be replaced by a new one between any two: what it
/// keeps is a cache, never a truth.
///
/// ```
/// use regex_lite::Regex;
/// # mod regex_lite { pub struct Regex(String); impl Regex {
/// #     pub fn new(text: &str) -> Result<Self, String> { Ok(Self(text.to_owned())) }
/// #     pub fn is_match(&self, text: &str) -> bool { text.contains(&self.0) } } }
/// use wharf_plugin::{Config, Failure, Message, Plugin, Problem, Reads, Stage, Validator, config_schema};
///
/// #[derive(serde::Deserialize, Config)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     /// What the header `region` has to match.
///     pattern: String,
/// }
///
/// /// A type where something is prepared once, and not for each message.
/// struct OfRegion {
///     pattern: Regex,
/// }
///
/// impl Plugin for OfRegion {
///     type Config = Settings;
///     const SUMMARY: &'static str = "accepts messages of some regions";
///     const READS: Reads = Reads::NOTHING.with_headers(&["region"]);
///     const CONFIG_SCHEMA: Option<&'static str> = Some(config_schema!(Settings));
///
///     fn init(config: Settings, _stage: &Stage) -> Result<Self, Problem> {
///         let pattern = Regex::new(&config.pattern);
///         Ok(Self { pattern: pattern.map_err(|error| Problem::new("bad-config", error.to_string()).at("/pattern"))? })
///     }
/// }
///
/// impl Validator for OfRegion {
///     fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
///         match self.pattern.is_match(message.require_header("region")?) {
///             true => Ok(()),
///             false => Err(Problem::new("wrong-region", "this is of another region").into()),
///         }
///     }
/// }
///
/// wharf_plugin::export!(OfRegion as validator);
/// # fn main() {}
/// ```
pub trait Plugin: Sized + 'static {
    /// The stage's configuration; [`NoConfig`](crate::NoConfig) for none.
    type Config: DeserializeOwned;

    /// One line for listings.
    const SUMMARY: &'static str;

    /// Which fields the broker packs into each call, as far as it is known without a configuration.
    const READS: Reads = Reads::PAYLOAD;

    /// A JSON Schema of the configuration.
    const CONFIG_SCHEMA: Option<&'static str> = None;

    /// Makes an instance for a stage.
    ///
    /// # Errors
    /// What is wrong with the configuration; it refuses the pipeline when it is applied.
    fn init(config: Self::Config, stage: &Stage) -> Result<Self, Problem>;

    /// Which fields the broker packs into each call, where the configuration says it better than [`Plugin::READS`].
    /// Asked once, after `init`: the same configuration gives the same fields.
    fn reads(&self) -> Fields {
        Self::READS.into()
    }
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
///
/// ```
/// use wharf_plugin::{Failure, Message, NoConfig, Output, Plugin, Problem, Route, Router, Stage};
///
/// struct Loud {
///     alarms: Output,
/// }
///
/// impl Plugin for Loud {
///     type Config = NoConfig;
///     const SUMMARY: &'static str = "sends what shouts to the alarms";
///
///     fn init(_config: NoConfig, stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self { alarms: stage.output("alarms")? })
///     }
/// }
///
/// impl Router for Loud {
///     fn route(&self, message: &Message<'_>) -> Result<Route, Failure> {
///         Ok(if message.payload().ends_with(b"!") { Route::to(self.alarms) } else { Route::Pass })
///     }
/// }
///
/// wharf_plugin::export!(Loud as router);
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// let plugin = Harness::<Loud>::native().outputs(["alarms"]);
/// plugin.send("fire!").assert_routed(["alarms"]);
/// plugin.send("hello").assert_payload("hello");
/// # }
/// ```
pub trait Router: Plugin {
    /// Chooses for a message.
    ///
    /// # Errors
    /// Why it can go nowhere.
    fn route(&self, message: &Message<'_>) -> Result<Route, Failure>;
}

/// Where a message goes.
///
/// ```
/// use wharf_plugin::{Failure, Message, Output, Route, router};
///
/// /// Copies orders to both halves of the world, and drops what is no order.
/// #[router(outputs("east", "west"))]
/// fn halves(message: &Message, [east, west]: [Output; 2]) -> Result<Route, Failure> {
///     match message.topic().strip_prefix("orders.") {
///         Some("all") => Ok(Route::To(vec![east, west])),
///         Some(_) => Ok(Route::Pass),
///         None => Ok(Route::Drop),
///     }
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::{Harness, Input};
///
/// let plugin = Harness::<Halves>::native().outputs(["east", "west"]);
/// plugin.send(Input::new("x").topic("orders.all")).assert_routed(["east", "west"]);
/// plugin.send(Input::new("x").topic("noise")).assert_dropped();
/// # }
/// ```
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
    ///
    /// ```
    /// use wharf_plugin::{Route, Stage};
    ///
    /// let stage = Stage { outputs: vec!["eu".into()], ..Stage::default() };
    /// let eu = stage.output("eu")?;
    /// assert_eq!(Route::to(eu), Route::To(vec![eu]));
    /// # Ok::<(), wharf_plugin::Problem>(())
    /// ```
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
///
/// ```
/// use wharf_plugin::{Enricher, Failure, Headers, Message, NoConfig, Plugin, Problem, Reads, Stage};
///
/// struct Sized;
///
/// impl Plugin for Sized {
///     type Config = NoConfig;
///     const SUMMARY: &'static str = "says how large a message is";
///
///     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self)
///     }
/// }
///
/// impl Enricher for Sized {
///     fn enrich(&self, message: &Message<'_>, headers: &mut Headers) -> Result<(), Failure> {
///         headers.set("bytes", message.payload().len().to_string());
///         Ok(())
///     }
/// }
///
/// wharf_plugin::export!(Sized as enricher);
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// Harness::<Sized>::native().send("four").assert_header("bytes", "4");
/// # }
/// ```
pub trait Enricher: Plugin {
    /// Sets headers of a message.
    ///
    /// # Errors
    /// Why it cannot be enriched.
    fn enrich(&self, message: &Message<'_>, headers: &mut Headers) -> Result<(), Failure>;
}

/// The headers that an [`Enricher`] sets.
///
/// ```
/// use wharf_plugin::{Failure, Headers, Message, enricher};
///
/// /// A second value of a name takes the place of the first.
/// #[enricher]
/// fn stamped(message: &Message, headers: &mut Headers) -> Result<(), Failure> {
///     headers.set("stamp", "unread");
///     headers.set("stamp", message.text()?.chars().take(2).collect::<String>());
///     Ok(())
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// Harness::<Stamped>::native().send("abc").assert_header("stamp", "ab");
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Headers(pub(crate) Vec<(String, Vec<u8>)>);

impl Headers {
    /// Adds the header `name`, or replaces it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }
}
