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
//! Beside single messages:
//!
//! - [`Harness::check_cases`] compares a folder of messages with what is expected of them, `UPDATE_GOLDEN=1` writes it;
//! - [`Harness::check_properties`] asserts what holds for every plugin: it never breaks, whatever the payload, and it
//!   says the same in any batch, on any instance, natively and compiled;
//! - [`Harness::kv`] gives what the pipeline remembers before, [`Harness::assert_kv`] says what it remembers after;
//! - [`Outcome::assert_within`] a [`Budget`] of fuel, memory and output;
//! - [`Harness::deny`], [`Harness::deadline`] and [`Outcome::assert_fault`] show what the broker's refusals look like;
//! - [`Harness::check_recording`] repeats what a running broker saw.
//!
//! In a plugin's own tests, [`Harness::each`] runs the same lines against both. The component is the one that
//! `WHARF_PLUGIN_WASM` names, as `wharf plugin test` sets it; without, it is built once for each test process. It
//! runs under the broker's limits.

pub mod baseline;
mod budget;
mod case;
mod component;
mod given;
mod golden;
mod input;
mod memory;
mod native;
mod outcome;
mod properties;
mod recording;
mod subject;
pub mod wire;
mod written;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::path::Path;

use serde_json::Value;

use crate::Problem;
use golden::{package_folder, to_be_updated};

pub use budget::Budget;
pub use case::{CaseReport, case_inputs, run_cases};
pub use component::Component;
pub use input::Input;
pub use memory::{Changes, Memory, Remembered};
#[doc(hidden)]
pub use native::{Answer, Tested, Verdict};
pub use outcome::{Emitted, Outcome, Result, Usage};
pub use properties::check_properties;
pub use recording::{Divergence, Entry, Head, RECORDING_VERSION, Recording};
pub use subject::{Setup, Subject, Trouble};

/// A plugin under test: [`native`](Self::native), or as a [`component`](Self::component).
pub struct Harness<P> {
    kind: Kind,
    setup: Setup,
    /// Where a test gave a configuration that is no object, which no stage can have.
    odd_config: Option<Value>,
    subject: RefCell<Option<Box<dyn Subject>>>,
    /// What the pipeline remembers by now; `None`: what the setup says.
    memory: RefCell<Option<Memory>>,
    plugin: PhantomData<fn() -> P>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Native,
    Component,
}

impl<P: Tested> Harness<P> {
    /// The logic, called directly: quick to build, and open to a debugger.
    ///
    /// ```
    #[doc = include_str!("harness/examples/shout.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Shout>::native().send("help").assert_payload("HELP");
    /// # }
    /// ```
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
        let (setup, subject) = (Setup::default(), RefCell::new(None));
        Self { kind, setup, odd_config: None, subject, memory: RefCell::new(None), plugin: PhantomData }
    }

    /// Why the plugin refuses a configuration; `None` where it takes it.
    ///
    /// ```
    #[doc = include_str!("harness/examples/shout.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// use serde_json::json;
    ///
    /// let plugin = Harness::<Shout>::native();
    /// assert_eq!(plugin.refusal_of(&json!({})), None);
    /// let problem = plugin.refusal_of(&json!({"louder": true})).expect("it has no configuration");
    /// assert_eq!((problem.code.as_ref(), problem.path.as_deref()), ("bad-config", Some("/louder")));
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the component cannot be built or run.
    #[track_caller]
    pub fn refusal_of(&self, config: &Value) -> Option<Problem> {
        let Value::Object(config) = config else {
            return Some(Problem::new("bad-config", "a stage's configuration is an object"));
        };
        let setup = Setup { config: config.clone(), ..self.setup.clone() };
        match self.run(&setup, &[]) {
            Ok(_) => None,
            Err(Trouble::Refused(problem)) => Some(problem),
            Err(Trouble::Failed(error)) => panic!("{error}"),
        }
    }

    /// Asserts that the plugin refuses this configuration.
    ///
    /// ```
    #[doc = include_str!("harness/examples/shout.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// use serde_json::json;
    ///
    /// Harness::<Shout>::native().config(json!({"louder": true})).assert_refused("bad-config", Some("/louder"));
    /// # }
    /// ```
    ///
    /// # Panics
    /// If it takes the configuration, or refuses it with another code or path.
    #[track_caller]
    pub fn assert_refused(&self, code: &str, path: Option<&str>) {
        let config = self.odd_config.clone().unwrap_or_else(|| self.setup.config.clone().into());
        let Some(problem) = self.refusal_of(&config) else {
            panic!("the plugin takes the configuration {config}, and is to refuse it with `{code}`");
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
    /// ```
    #[doc = include_str!("harness/examples/shout.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// let outcomes = Harness::<Shout>::native().send_all(["a", "", "b"]);
    /// outcomes[0].assert_payload("A");
    /// outcomes[1].assert_dropped();
    /// outcomes[2].assert_payload("B");
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the plugin refuses its configuration, or cannot be built.
    #[track_caller]
    pub fn send_all<I: Into<Input>>(&self, inputs: impl IntoIterator<Item = I>) -> Vec<Outcome> {
        let inputs: Vec<Input> = inputs.into_iter().map(Into::into).collect();
        if let Some(config) = &self.odd_config {
            panic!("a stage's configuration is an object, and not {config}");
        }
        let kv = self.memory();
        match self.run(&Setup { kv, ..self.setup.clone() }, &inputs) {
            Ok(outcomes) => {
                let mut memory = self.memory();
                outcomes.iter().for_each(|outcome| memory::apply(&mut memory, &outcome.changes));
                self.memory.replace(Some(memory));
                outcomes
            }
            Err(error) => panic!("{error} (the configuration is {})", Value::from(self.setup.config.clone())),
        }
    }

    /// What the pipeline's `kv` holds by now.
    pub fn memory(&self) -> Memory {
        self.memory.borrow().clone().unwrap_or_else(|| self.setup.kv.clone())
    }

    /// Asserts what the pipeline's `kv` holds by now under `key`; `None`: nothing.
    ///
    /// # Panics
    /// If it is something else.
    #[track_caller]
    pub fn assert_kv(&self, key: &str, value: Option<&str>) -> &Self {
        let memory = self.memory();
        let is = memory.get(key).map(|remembered| String::from_utf8_lossy(&remembered.value));
        assert_eq!(is.as_deref(), value, "what `kv` holds as `{key}`");
        self
    }

    /// Asserts that each case in `folder`, within the plugin's folder, becomes what its `expected.json` says; with
    /// `UPDATE_GOLDEN=1`, writes those files. A case is a folder with a `payload.*` or a `message.json` or both; a
    /// `stage.json`, in it or beside the cases, says how the stage is configured, in place of this harness's own
    /// settings, and may hold a `budget`. `wharf plugin test FILE.wasm --cases DIR` reads the same folder.
    ///
    /// # Panics
    /// If a message becomes something else, costs more than its budget, or a file is not what it is to be.
    #[track_caller]
    pub fn check_cases(&self, folder: impl AsRef<Path>) {
        let folder = package_folder().join(folder);
        let reports = run_cases(&mut Lent(self), &folder, &self.setup, to_be_updated());
        let reports = reports.unwrap_or_else(|error| panic!("{error}"));
        let wrong = reports.iter().filter(|report| !report.wrong.is_empty());
        let wrong: Vec<String> =
            wrong.map(|report| format!("{}:\n  {}", report.name, report.wrong.join("\n  "))).collect();
        assert!(
            wrong.is_empty(),
            "of {} cases, {} are wrong\n{}",
            reports.len(),
            wrong.len(),
            wrong.join("\n")
        );
    }

    /// Asserts what holds for every plugin, on `inputs` and on hundreds of payloads made of theirs: it never breaks,
    /// and it says the same in any batch, on any instance and, for a component, natively. A plugin that draws random
    /// bits draws others natively; its component is to be checked by [`check_properties`] alone.
    ///
    /// ```
    #[doc = include_str!("harness/examples/shout.md")]
    /// use wharf_plugin::harness::Harness;
    ///
    /// Harness::<Shout>::native().check_properties(["help", "", "?"]);
    /// # }
    /// ```
    ///
    /// # Panics
    /// If one of them does not hold.
    #[track_caller]
    pub fn check_properties<I: Into<Input>>(&self, inputs: impl IntoIterator<Item = I>) {
        let inputs: Vec<Input> = inputs.into_iter().map(Into::into).collect();
        let native = Self { setup: self.setup.clone(), ..Self::native() };
        let mut native = Lent(&native);
        let other: Option<&mut dyn Subject> = match self.kind {
            Kind::Native => None,
            Kind::Component => Some(&mut native),
        };
        if let Err(error) = check_properties(&mut Lent(self), other, &self.setup, &inputs) {
            panic!("{error}");
        }
    }

    /// Asserts that each message of a recording that `wharf record` made becomes what it became in the broker. The
    /// stage is the recorded one, this harness's settings apart from the configuration do not matter.
    ///
    /// # Panics
    /// If one becomes something else, or the recording cannot be read.
    #[track_caller]
    pub fn check_recording(&self, file: impl AsRef<Path>) {
        let file = package_folder().join(file);
        let replayed = Recording::read(&file).and_then(|recording| {
            let divergences = recording.replay(&mut Lent(self), &recording.setup())?;
            Ok((recording.entries.len(), divergences))
        });
        let (entries, divergences) = replayed.unwrap_or_else(|error| panic!("{error}"));
        let lines =
            divergences.iter().map(|each| format!("message {}: {}", each.entry, each.lines.join("; ")));
        let lines: Vec<String> = lines.collect();
        assert!(
            lines.is_empty(),
            "of {entries} messages, {} become something else\n{}",
            lines.len(),
            lines.join("\n")
        );
    }

    #[track_caller]
    fn run(&self, setup: &Setup, inputs: &[Input]) -> std::result::Result<Vec<Outcome>, Trouble> {
        let mut subject = self.subject.borrow_mut();
        let subject = subject.get_or_insert_with(|| match self.kind {
            Kind::Native => Box::new(native::Native::<P>::default()),
            Kind::Component => Box::new(Component::of_this_package()),
        });
        subject.run(setup, inputs)
    }
}

/// A harness as the subject that it tests.
struct Lent<'h, P>(&'h Harness<P>);

impl<P: Tested> Subject for Lent<'_, P> {
    fn run(&mut self, setup: &Setup, inputs: &[Input]) -> std::result::Result<Vec<Outcome>, Trouble> {
        self.0.run(setup, inputs)
    }

    fn renew(&mut self) {
        *self.0.subject.borrow_mut() = None;
    }
}
