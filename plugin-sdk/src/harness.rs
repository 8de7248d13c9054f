//! Tests for plugins: the logic natively, and the compiled component in the broker's own engine.
//!
//! ```
//! use serde::Deserialize;
//! use serde_json::json;
//! use wharf_plugin::harness::{Harness, Input};
//! use wharf_plugin::{Failure, Message, Plugin, Problem, Stage, Validator};
//!
//! #[derive(Deserialize)]
//! struct AtMost {
//!     bytes: usize,
//! }
//!
//! impl Plugin for AtMost {
//!     type Config = Self;
//!     const SUMMARY: &'static str = "accepts payloads up to a length";
//!
//!     fn init(config: Self, _stage: &Stage) -> Result<Self, Problem> {
//!         Ok(config)
//!     }
//! }
//!
//! impl Validator for AtMost {
//!     fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
//!         match message.payload().len() {
//!             length if length <= self.bytes => Ok(()),
//!             length => Err(Problem::new("too-long", format!("{length} bytes, at most {}", self.bytes)))?,
//!         }
//!     }
//! }
//!
//! wharf_plugin::export!(AtMost as validator);
//!
//! # fn main() {
//! let plugin = Harness::<AtMost>::native().config(json!({"bytes": 3}));
//! plugin.send(Input::new("abc")).assert_passed();
//! plugin.send(Input::new("abcd")).assert_rejected("too-long");
//! # }
//! ```
//!
//! In a plugin's own tests, [`Harness::each`] runs the same lines against both. The component is the one that
//! `WHARF_PLUGIN_WASM` names, as `wharf plugin test` sets it; without, it is built once for each test process. It
//! runs under the broker's limits.

mod component;
mod golden;
mod input;
mod native;
mod outcome;
pub mod wire;

use std::cell::RefCell;
use std::marker::PhantomData;

use serde_json::Value;

use crate::{Problem, Stage};

pub use input::Input;
#[doc(hidden)]
pub use native::{Answer, Tested, Verdict};
pub use outcome::{Emitted, Outcome, Result, Usage};

/// A plugin under test: [`native`](Self::native), or as a [`component`](Self::component).
pub struct Harness<P> {
    kind: Kind,
    config: Value,
    stage: Stage,
    backend: RefCell<Option<Backend<P>>>,
    plugin: PhantomData<fn() -> P>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Native,
    Component,
}

enum Backend<P> {
    Native(P),
    Component(Box<component::Component>),
}

impl<P: Tested> Harness<P> {
    /// The logic, called directly: quick to build, and open to a debugger.
    pub fn native() -> Self {
        Self::new(Kind::Native)
    }

    /// The compiled component, in the broker's engine with the broker's limits.
    pub fn component() -> Self {
        Self::new(Kind::Component)
    }

    /// Runs `test` with the one and then with the other; `WHARF_HARNESS=native` or `=component` chooses one.
    pub fn each(test: impl Fn(Self)) {
        let chosen = std::env::var("WHARF_HARNESS").unwrap_or_default();
        if chosen != "component" {
            test(Self::native());
        }
        if chosen != "native" {
            test(Self::component());
        }
    }

    fn new(kind: Kind) -> Self {
        let stage = Stage { pipeline: "test".into(), name: "stage".into(), outputs: Vec::new() };
        let config = Value::Object(serde_json::Map::new());
        Self { kind, config, stage, backend: RefCell::new(None), plugin: PhantomData }
    }

    /// With this configuration; without, it is `{}`.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self.backend = RefCell::new(None);
        self
    }

    /// With these outputs declared.
    #[must_use]
    pub fn outputs<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.stage.outputs = names.into_iter().map(Into::into).collect();
        self.backend = RefCell::new(None);
        self
    }

    /// Why the plugin refuses a configuration; `None` where it takes it.
    ///
    /// # Panics
    /// If the component cannot be built or run.
    #[track_caller]
    pub fn refusal_of(&self, config: &Value) -> Option<Problem> {
        match self.kind {
            Kind::Native => native::start::<P>(&self.stage, config).err(),
            Kind::Component => component::refusal(&self.stage, config),
        }
    }

    /// Asserts that the plugin refuses this configuration.
    ///
    /// # Panics
    /// If it takes the configuration, or refuses it with another code or path.
    #[track_caller]
    pub fn assert_refused(&self, code: &str, path: Option<&str>) {
        let Some(problem) = self.refusal_of(&self.config) else {
            panic!("the plugin takes the configuration {}, and is to refuse it with `{code}`", self.config);
        };
        assert_eq!((problem.code.as_ref(), problem.path.as_deref()), (code, path), "{problem}");
    }

    /// What becomes of one message.
    ///
    /// # Panics
    /// If the plugin refuses its configuration, or cannot be built.
    #[track_caller]
    pub fn send(&self, input: impl Into<Input>) -> Outcome {
        self.send_all([input.into()]).pop().expect("one message has one outcome")
    }

    /// What becomes of each message of one batch. Log lines and usage are those of the batch.
    ///
    /// # Panics
    /// If the plugin refuses its configuration, or cannot be built.
    #[track_caller]
    pub fn send_all<I: Into<Input>>(&self, inputs: impl IntoIterator<Item = I>) -> Vec<Outcome> {
        let inputs: Vec<Input> = inputs.into_iter().map(Into::into).collect();
        let mut backend = self.backend.borrow_mut();
        let backend = backend.get_or_insert_with(|| match self.kind {
            Kind::Native => match native::start(&self.stage, &self.config) {
                Ok(plugin) => Backend::Native(plugin),
                Err(problem) => panic!("the plugin refuses the configuration {}: {problem}", self.config),
            },
            Kind::Component => Backend::Component(Box::new(component::Component::start())),
        });
        match backend {
            Backend::Native(plugin) => native::run(plugin, &self.stage, &inputs),
            Backend::Component(component) => component.run(&self.stage, &self.config, &inputs),
        }
    }
}
