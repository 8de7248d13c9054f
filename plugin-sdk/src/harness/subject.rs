//! What can be tested: something that takes messages at a stage and says what becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::Problem;
use crate::harness::{Input, Memory, Outcome};

/// The stage that a plugin is tested in.
///
/// ```
/// use serde_json::json;
/// use wharf_plugin::harness::Setup;
///
/// let setup: Setup = serde_json::from_value(json!({
///     "config": {"max_bytes": 65536},
///     "outputs": ["eu", "us"],
///     "deadline_ms": 20,
/// }))?;
/// assert_eq!(setup.outputs, ["eu", "us"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setup {
    /// The stage's configuration.
    pub config: Map<String, Value>,
    /// The names of the declared outputs.
    pub outputs: Vec<String>,
    /// As what a plugin of several kinds is used: `validator`, `router`, `transformer`, `enricher`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Reference tables that are lent, by name: keys and values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, BTreeMap<String, String>>,
    /// Schemas that are lent, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, String>,
    /// Secrets that are lent, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What the pipeline's `kv` holds before the batch.
    #[serde(skip_serializing_if = "Memory::is_empty")]
    pub kv: Memory,
    /// What of it is there and cannot be read: `lookup:prices`, `schema:order`.
    #[serde(deserialize_with = "unavailable", skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<String>,
    /// What the stage grants, as a pipeline file names it; everything that there is where it is not given.
    #[serde(deserialize_with = "grants", skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// How long a call may take, in place of the broker's own limit; not held natively.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The time that the plugin sees, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
}

/// Why there are no outcomes.
///
/// ```
/// use wharf_plugin::harness::{Component, Setup, Subject, Trouble};
///
/// let mut component = Component::open("nobody-compiled-this.wasm");
/// assert!(matches!(component.run(&Setup::default(), &[]), Err(Trouble::Failed(_))));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The plugin, or its schema, refuses the configuration.
    Refused(Problem),
    /// There is no plugin, or nothing to run it in.
    Failed(String),
}

/// A plugin's function, or its component.
pub trait Subject {
    /// What becomes of each message of one batch.
    ///
    /// # Errors
    /// The configuration is refused, or there is nothing to run.
    fn run(&mut self, setup: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble>;

    /// Forgets every instance: the next batch goes to a new one.
    fn renew(&mut self);
}

/// What is granted without a name.
const NAMELESS: [&str; 6] = ["log", "config", "metrics", "clock", "random", "kv"];

/// What is granted by name.
const NAMED: [&str; 3] = ["lookup", "schema", "secrets"];

/// The name behind `interface:`, where `grant` is one.
fn name_in<'g>(grant: &'g str, interface: &str) -> Option<&'g str> {
    grant.strip_prefix(interface)?.strip_prefix(':').filter(|name| !name.is_empty())
}

fn unavailable<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    let odd = all.iter().find(|each| ["lookup", "schema"].iter().all(|kind| name_in(each, kind).is_none()));
    match odd {
        None => Ok(all),
        Some(odd) => Err(D::Error::custom(format!(
            "{odd:?} is neither a table nor a schema that could be unavailable; write \"lookup:{odd}\" or \
             \"schema:{odd}\""
        ))),
    }
}

fn grants<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let all = Option::<Vec<String>>::deserialize(from)?;
    let is_grant = |each: &str| {
        NAMELESS.contains(&each) || NAMED.iter().any(|interface| name_in(each, interface).is_some())
    };
    match all.iter().flatten().find(|each| !is_grant(each)) {
        None => Ok(all),
        Some(odd) => Err(D::Error::custom(format!(
            "{odd:?} is nothing that a stage grants; there are {}, \"lookup:TABLE\", \"schema:NAME\" and \
             \"secrets:NAME\"",
            NAMELESS.map(|grant| format!("\"{grant}\"")).join(", ")
        ))),
    }
}

impl Setup {
    /// What the stage grants: what it says, or everything that there is.
    ///
    /// ```
    /// use wharf_plugin::harness::Setup;
    ///
    /// let mut setup = Setup::default();
    /// assert!(setup.granted().contains(&"kv".to_owned()), "everything, where nothing is said");
    /// setup.grants = Some(vec!["log".into()]);
    /// assert_eq!(setup.granted(), ["log"]);
    /// ```
    pub fn granted(&self) -> Vec<String> {
        if let Some(grants) = &self.grants {
            return grants.clone();
        }
        let named = |kind: &'static str| move |name: &String| format!("{kind}:{name}");
        let nameless = NAMELESS.iter().map(|&grant| grant.to_owned());
        let tables = self.tables.keys().map(named("lookup"));
        let schemas = self.schemas.keys().map(named("schema"));
        let secrets = self.secrets.keys().map(named("secrets"));
        nameless.chain(tables).chain(schemas).chain(secrets).chain(self.unavailable.iter().cloned()).collect()
    }

    /// How long a call may take.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wharf_plugin::harness::Setup;
    ///
    /// assert_eq!(Setup::default().deadline(Duration::from_millis(20)).deadline_ms, Some(20));
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).max(1));
        self
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(problem) => write!(f, "the configuration is refused: {problem}"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Trouble {}
