//! Where a plugin is used, and what it may send to.

use crate::Problem;
use crate::bindings::lifecycle::exports::wharf::plugin::lifecycle;

/// The stage of a pipeline that a plugin is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's name in it.
    pub name: String,
    /// The outputs that the operator declared for this stage, by name.
    pub outputs: Vec<String>,
}

/// A declared output, resolved once by [`Stage::output`]. A plugin can send to no other place.
///
/// ```
/// use wharf_plugin::{Output, Problem, Stage};
///
/// fn audit(stage: &Stage) -> Result<Output, Problem> {
///     stage.output("audit")
/// }
///
/// let stage = Stage { outputs: vec!["audit".into()], ..Stage::default() };
/// assert!(audit(&stage).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output(pub(crate) u16);

impl Stage {
    /// The stage that the plugin runs in: what [`Plugin::init`](crate::Plugin::init) was given, at any time.
    ///
    /// ```
    /// use wharf_plugin::{Stage, log};
    ///
    /// log::info(&format!("stage {} is at work", Stage::current().name));
    /// ```
    pub fn current() -> Self {
        crate::host::backend_stage()
    }

    /// The stage's configuration at any time, as JSON.
    ///
    /// ```
    /// use wharf_plugin::{Problem, Stage, parse_config};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Limits {
    ///     #[serde(default)]
    ///     strict: bool,
    /// }
    ///
    /// let limits: Limits = parse_config(&Stage::config_text())?;
    /// assert!(!limits.strict);
    /// # Ok::<(), Problem>(())
    /// ```
    pub fn config_text() -> String {
        crate::host::backend_config()
    }

    /// The output that the operator declared as `name`.
    ///
    /// # Errors
    /// `no-such-output`, which refuses the pipeline when it is applied.
    ///
    /// ```
    /// use wharf_plugin::Stage;
    ///
    /// let stage = Stage { outputs: vec!["eu".into(), "us".into()], ..Stage::default() };
    /// assert!(stage.output("us").is_ok());
    /// assert_eq!(
    ///     stage.output("asia").unwrap_err().message,
    ///     "this stage has no output `asia`; declared are: eu, us",
    /// );
    /// ```
    pub fn output(&self, name: &str) -> Result<Output, Problem> {
        let at = self.outputs.iter().position(|output| output == name).and_then(|at| u16::try_from(at).ok());
        at.map(Output).ok_or_else(|| {
            let declared = if self.outputs.is_empty() { "none".into() } else { self.outputs.join(", ") };
            let message = format!("this stage has no output `{name}`; declared are: {declared}");
            Problem::new("no-such-output", message)
        })
    }
}

impl From<lifecycle::Stage> for Stage {
    fn from(stage: lifecycle::Stage) -> Self {
        Self { pipeline: stage.pipeline, name: stage.name, outputs: stage.outputs }
    }
}
