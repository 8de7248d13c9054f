//! A pipeline as its author writes it: TOML or JSON, checked as far as text alone can be.
//!
//! ```
//! let spec = wharf_pipeline::PipelineSpec::from_toml(r#"
//!     name = "orders"
//!     ingress = "orders.#"
//!
//!     [[stage]]
//!     plugin = "xml-to-json"
//!
//!     [[stage]]
//!     name = "by-region"
//!     plugin = "route-by@1.0.0"
//!     on-failure = "dead-letter"
//!     outputs = { eu = "queue:orders-eu", us = "topic:orders.us" }
//!     [stage.config]
//!     header = "region"
//! "#)?;
//! assert_eq!(spec.stages[1].name().as_str(), "by-region");
//! # Ok::<(), wharf_pipeline::SpecError>(())
//! ```

mod plugin_ref;
mod target;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use wharf_protocol::{Name, Pattern};

use crate::{CpuShare, Grant};

pub use plugin_ref::{PluginRef, PluginRefError};
pub use target::{Target, TargetError};

/// How many stages a pipeline has at most.
pub const STAGES_MAX: usize = 16;

/// How many outputs a stage declares at most.
pub const DECLARED_OUTPUTS_MAX: usize = 256;

/// The longest deadline that a stage may ask for.
pub const DEADLINE_MS_MAX: u64 = 10_000;

/// What a pipeline is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PipelineSpec {
    /// By which bindings and commands name it.
    pub name: Name,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Runs every message published to a topic of this pattern through it, before it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Pattern>,
    /// Runs every delivery from the queues and streams of these names or patterns through it, on its way to the
    /// consumer. Each message becomes one message or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivery: Vec<Pattern>,
    /// The share of its messages that is traced, 0 to 1, beside those that are traced anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_sample: Option<f64>,
    /// How much processor time it may take, as `"50%"` of one processor or `"500ms"` each second; over it, its messages
    /// wait. What there is, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuShare>,
    /// What a message goes through, in order.
    #[serde(rename = "stage", default)]
    pub stages: Vec<StageSpec>,
}

/// A plugin at its place in a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StageSpec {
    /// By which metrics and failures name it; the plugin's name where it is not given.
    #[serde(rename = "name", default, skip_serializing_if = "Option::is_none")]
    pub own_name: Option<Name>,
    /// Which plugin.
    pub plugin: PluginRef,
    /// As what it is used; needed only when the plugin is several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Handed to the plugin as a JSON object.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What it may use of the host.
    #[serde(default = "Grant::defaults")]
    pub grants: Vec<Grant>,
    /// Where it may send messages, by the names that it knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Target>,
    /// What becomes of a message that it refuses or breaks on.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How long a call may take, in place of the broker's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// A new instance for each batch: nothing that the plugin keeps outlives it. About 16 µs a batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
}

/// What a plugin can be used as: one for each world of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Accepts or refuses.
    Validator,
    /// Chooses among declared outputs.
    Router,
    /// Makes zero, one or many messages of one.
    Transformer,
    /// Sets headers.
    Enricher,
}

/// What becomes of a message that a stage refuses or breaks on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Its publisher is told why, and nothing is stored.
    #[default]
    Reject,
    /// It is laid in the dead-letter queue as it came, with the reason.
    DeadLetter,
    /// It goes on to the next stage as if this one were not there; never for a validator.
    Bypass,
}

/// Why a text is not a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not TOML, or a key or value that has no place in a pipeline; the text names the line.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// Not JSON, or a key or value that has no place in a pipeline; the text names the line.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// No stage at all, or too many.
    #[error("a pipeline has 1 to {STAGES_MAX} stages, this one has {0}; each is a [[stage]] table")]
    StageCount(usize),
    /// Two stages of one name.
    #[error("two stages are named {0}; give one of them a name of its own with name = \"…\"")]
    DuplicateStage(Name),
    /// A policy that would let unchecked messages through.
    #[error(
        "stage {0}: on-failure = \"bypass\" would let unchecked messages through a validator; \
         use \"reject\" or \"dead-letter\""
    )]
    BypassedValidator(Name),
    /// Outside its bounds.
    #[error("stage {stage}: deadline-ms is 1 to {DEADLINE_MS_MAX}, not {deadline_ms}")]
    Deadline {
        /// Which stage.
        stage: Name,
        /// What it asks for.
        deadline_ms: u64,
    },
    /// A delivery has one consumer: there is nowhere else to send it.
    #[error(
        "stage {0} declares outputs, and a delivery goes to its consumer alone; remove them, or delivery"
    )]
    DeliveryOutputs(Name),
    /// Memory without a record to put it in.
    #[error(
        "stage {0}: a pipeline on delivery has no kv: what it changes would have no record to be in; grant kv at \
         ingress or on a binding"
    )]
    KvOnDelivery(Name),
    /// A share is a part of the whole.
    #[error("trace-sample is a share of the messages, 0 to 1, not {0}")]
    TraceSample(f64),
    /// More outputs than an id can name.
    #[error("stage {stage} declares {outputs} outputs; at most {DECLARED_OUTPUTS_MAX}")]
    Outputs {
        /// Which stage.
        stage: Name,
        /// How many it declares.
        outputs: usize,
    },
}

impl PipelineSpec {
    /// The pipeline that a TOML document describes, checked.
    ///
    /// # Errors
    /// What is wrong with it, and in which line or stage.
    pub fn from_toml(text: &str) -> Result<Self, SpecError> {
        let spec: Self = toml::from_str(text)?;
        spec.check()?;
        Ok(spec)
    }

    /// The pipeline that a JSON document describes, checked.
    ///
    /// # Errors
    /// What is wrong with it, and in which line or stage.
    pub fn from_json(text: &[u8]) -> Result<Self, SpecError> {
        let spec: Self = serde_json::from_slice(text)?;
        spec.check()?;
        Ok(spec)
    }

    /// What no single key shows: names that collide, policies that contradict their stage.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.stages.is_empty() || self.stages.len() > STAGES_MAX {
            return Err(SpecError::StageCount(self.stages.len()));
        }
        if let Some(share) = self.trace_sample
            && !(0.0..=1.0).contains(&share)
        {
            return Err(SpecError::TraceSample(share));
        }
        for (i, stage) in self.stages.iter().enumerate() {
            let name = || stage.name().clone();
            if self.stages[..i].iter().any(|other| other.name() == stage.name()) {
                return Err(SpecError::DuplicateStage(name()));
            }
            if stage.kind == Some(Kind::Validator) && stage.on_failure == OnFailure::Bypass {
                return Err(SpecError::BypassedValidator(name()));
            }
            if !self.delivery.is_empty() && stage.grants.contains(&Grant::Kv) {
                return Err(SpecError::KvOnDelivery(name()));
            }
            if let Some(deadline_ms) = stage.deadline_ms
                && !(1..=DEADLINE_MS_MAX).contains(&deadline_ms)
            {
                return Err(SpecError::Deadline { stage: name(), deadline_ms });
            }
            if !self.delivery.is_empty() && !stage.outputs.is_empty() {
                return Err(SpecError::DeliveryOutputs(name()));
            }
            if stage.outputs.len() > DECLARED_OUTPUTS_MAX {
                return Err(SpecError::Outputs { stage: name(), outputs: stage.outputs.len() });
            }
        }
        Ok(())
    }
}

impl StageSpec {
    /// A stage with every default.
    pub fn new(plugin: PluginRef) -> Self {
        Self {
            own_name: None,
            plugin,
            kind: None,
            config: serde_json::Map::new(),
            grants: Grant::defaults(),
            outputs: BTreeMap::new(),
            on_failure: OnFailure::default(),
            deadline_ms: None,
            fresh: false,
        }
    }

    /// Its own name, or its plugin's.
    pub fn name(&self) -> &Name {
        self.own_name.as_ref().unwrap_or(&self.plugin.name)
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Validator, Self::Router, Self::Transformer, Self::Enricher];

    /// The interface of the contract that a plugin of this kind exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Validator => "validate",
            Self::Router => "route",
            Self::Transformer => "transform",
            Self::Enricher => "enrich",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Validator => "validator",
            Self::Router => "router",
            Self::Transformer => "transformer",
            Self::Enricher => "enricher",
        })
    }
}

impl<'de> Deserialize<'de> for OnFailure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "reject" => Ok(Self::Reject),
            "dead-letter" => Ok(Self::DeadLetter),
            "bypass" => Ok(Self::Bypass),
            "hold" | "previous-version" => Err(de::Error::custom(format!(
                "on-failure = {text:?} is not available; \
                 use \"reject\", \"dead-letter\" or \"bypass\""
            ))),
            _ => Err(de::Error::unknown_variant(&text, &["reject", "dead-letter", "bypass"])),
        }
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::DeadLetter => "dead-letter",
            Self::Bypass => "bypass",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(stage: &str) -> String {
        let text = format!("name = \"p\"\n[[stage]]\nplugin = \"a\"\n{stage}");
        PipelineSpec::from_toml(&text).expect_err("this must be refused").to_string()
    }

    #[test]
    fn a_short_pipeline_gets_its_defaults_and_survives_json() {
        let spec = PipelineSpec::from_toml("name = \"p\"\n[[stage]]\nplugin = \"a@1\"").expect("a pipeline");
        assert_eq!(spec.stages[0].name().as_str(), "a");
        assert_eq!(spec.stages[0].grants, [Grant::Log, Grant::Config, Grant::Metrics]);
        assert_eq!(spec.stages[0].on_failure, OnFailure::Reject);
        let json = serde_json::to_vec(&spec).expect("it serialises");
        assert_eq!(PipelineSpec::from_json(&json).expect("a pipeline"), spec);
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_not_ignored() {
        assert!(refused("on-failure = \"hold\"").contains("not available"));
        assert!(refused("on-failure = \"maybe\"").contains("dead-letter"));
        assert!(refused("kind = \"validator\"\non-failure = \"bypass\"").contains("unchecked"));
        assert!(refused("grants = [\"network\"]").contains("clock"));
        assert!(refused("deadline-ms = 0").contains("1 to 10000"));
        assert!(refused("outputs = { eu = \"orders\" }").contains("topic:NAME"));
        let delivery =
            "name = \"p\"\ndelivery = [\"q\"]\n[[stage]]\nplugin = \"a\"\noutputs = { eu = \"queue:q\" }";
        let error = PipelineSpec::from_toml(delivery).expect_err("a delivery goes nowhere else");
        assert!(error.to_string().contains("consumer alone"), "{error}");
        assert!(refused("outptus = {}").contains("outptus"));
        let delivered = "name = \"p\"\ndelivery = [\"q\"]\n[[stage]]\nplugin = \"a\"\ngrants = [\"kv\"]";
        let refused_kv = PipelineSpec::from_toml(delivered).expect_err("no record to put it in").to_string();
        assert!(refused_kv.contains("on delivery has no kv"), "{refused_kv}");
        assert!(refused("[[stage]]\nplugin = \"a\"").contains("two stages"));
        assert!(
            PipelineSpec::from_toml("name = \"p\"").expect_err("no stage").to_string().contains("[[stage]]")
        );
    }
}
