//! What became of a message, and assertions about it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Changes, golden};
use crate::{Level, Problem};

/// What became of a message.
///
/// ```
#[doc = include_str!("examples/shout.md")]
/// use wharf_plugin::harness::Harness;
///
/// let plugin = Harness::<Shout>::native();
/// plugin.send("help").assert_payload("HELP").assert_routed([]);
/// plugin.send("").assert_dropped();
/// assert_eq!(plugin.send("?").assert_rejected("no-question").message, "nobody knows");
/// assert_eq!(plugin.send("help").output_bytes(), 4);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What the plugin said.
    pub result: Result,
    /// What it left in the pipeline's `kv`; nothing where the message failed.
    pub changes: Changes,
    /// The lines that it wrote.
    pub log: Vec<(Level, String)>,
    /// What it took.
    pub usage: Usage,
    /// How long the payload that came in was.
    pub given_bytes: u64,
}

/// What a plugin said to a message.
///
/// ```
#[doc = include_str!("examples/shout.md")]
/// use wharf_plugin::harness::{Harness, Result};
///
/// let plugin = Harness::<Shout>::native();
/// assert_eq!(plugin.send("").result, Result::Dropped);
/// assert!(matches!(plugin.send("help").result, Result::Passed(outputs) if outputs.len() == 1));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Result {
    /// These go on: one where the plugin kept, accepted or passed the message.
    Passed(Vec<Emitted>),
    /// Nothing goes on: the message is settled, without a dead letter.
    Dropped,
    /// The plugin rejects it.
    Rejected(Problem),
    /// The plugin asks for it again.
    Retry(Problem, Option<Duration>),
    /// The plugin broke: it trapped, took too long or too much, or broke the contract.
    Fault(Problem),
}

/// A message that goes on.
///
/// ```
#[doc = include_str!("examples/shout.md")]
/// use wharf_plugin::harness::{Harness, Input};
///
/// let outcome = Harness::<Shout>::native().send(Input::new("help").header("from", "room 7"));
/// let emitted = outcome.assert_one();
/// assert_eq!((emitted.text().as_ref(), emitted.header("from")), ("HELP", Some(&b"room 7"[..])));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The declared output that it goes to; `None`: on to where it was going.
    pub to: Option<String>,
    /// All its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub payload: Vec<u8>,
}

/// What a call took.
///
/// ```
#[doc = include_str!("examples/shout.md")]
/// use wharf_plugin::harness::Harness;
///
/// let usage = Harness::<Shout>::native().send("help").usage;
/// assert_eq!((usage.fuel, usage.memory_bytes), (None, None), "of a component they are known");
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// On the clock.
    pub time: Duration,
    /// The most linear memory that the instance had; `None` natively.
    pub memory_bytes: Option<u64>,
    /// Instructions, about: the same for the same message, whatever the machine; `None` natively.
    pub fuel: Option<u64>,
}

impl Emitted {
    /// The value of the header `name`.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    /// The payload, for people: what is not UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }
}

impl Result {
    /// Whether it is the same as `other`: of a fault, whose text is for people, by its code.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fault(one), Self::Fault(other)) => one.code == other.code,
            (one, other) => one == other,
        }
    }
}

impl Outcome {
    /// How long the payloads and headers of what goes on are, together.
    pub fn output_bytes(&self) -> u64 {
        let Result::Passed(outputs) = &self.result else { return 0 };
        let header = |(name, value): &(String, Vec<u8>)| name.len() + value.len();
        let bytes =
            |output: &Emitted| output.payload.len() + output.headers.iter().map(header).sum::<usize>();
        outputs.iter().map(bytes).sum::<usize>() as u64
    }

    /// Asserts that the plugin breaks on the message, and gives the problem: `plugin-grant` for what its stage does
    /// not grant, `plugin-deadline` for what takes too long, `plugin-trap`, `plugin-memory`.
    ///
    /// # Panics
    /// If it does not, or in another way.
    #[track_caller]
    pub fn assert_fault(&self, code: &str) -> &Problem {
        match &self.result {
            Result::Fault(problem) if problem.code == code => problem,
            other => panic!("the plugin was to break with `{code}`, and the message is {}", said(other)),
        }
    }

    /// Asserts that messages go on, and gives them.
    ///
    /// # Panics
    /// If none do.
    #[track_caller]
    pub fn assert_passed(&self) -> &[Emitted] {
        match &self.result {
            Result::Passed(outputs) => outputs,
            other => panic!("the message was to go on, and is {}", said(other)),
        }
    }

    /// Asserts that exactly one message goes on, and gives it.
    ///
    /// # Panics
    /// If none or several do.
    #[track_caller]
    pub fn assert_one(&self) -> &Emitted {
        match self.assert_passed() {
            [one] => one,
            several => panic!("one message was to go on, and {} do: {several:?}", several.len()),
        }
    }

    /// Asserts that one message goes on, with this payload.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn assert_payload(&self, payload: impl AsRef<[u8]>) -> &Self {
        let expected = String::from_utf8_lossy(payload.as_ref());
        let one = self.assert_one();
        assert!(
            one.payload == payload.as_ref(),
            "another payload\n     is: {}\n  to be: {expected}",
            one.text()
        );
        self
    }

    /// Asserts that one message goes on, whose payload is this value as JSON, however it is spaced.
    ///
    /// # Panics
    /// If it is another, or no JSON.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "so that a test reads assert_json(json!(…))")]
    pub fn assert_json(&self, value: Value) -> &Self {
        let one = self.assert_one();
        let payload: Value = match serde_json::from_slice(&one.payload) {
            Ok(payload) => payload,
            Err(error) => panic!("the payload is no JSON ({error}): {}", one.text()),
        };
        assert!(payload == value, "another payload\n     is: {payload}\n  to be: {value}");
        self
    }

    /// Asserts that one message goes on, with this header.
    ///
    /// # Panics
    /// If it has another or none.
    #[track_caller]
    pub fn assert_header(&self, name: &str, value: impl AsRef<[u8]>) -> &Self {
        let one = self.assert_one();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        assert_eq!(one.header(name).map(text), Some(text(value.as_ref())), "header `{name}`");
        self
    }

    /// Asserts that messages go to these outputs, in this order; an empty list: on to where they were going.
    ///
    /// # Panics
    /// If they go elsewhere.
    #[track_caller]
    pub fn assert_routed<'n>(&self, outputs: impl IntoIterator<Item = &'n str>) -> &Self {
        let expected: Vec<&str> = outputs.into_iter().collect();
        let to: Vec<&str> = self.assert_passed().iter().filter_map(|output| output.to.as_deref()).collect();
        assert_eq!(to, expected, "the outputs that the message goes to");
        self
    }

    /// Asserts that nothing goes on, on purpose.
    ///
    /// # Panics
    /// If something does, or the message failed.
    #[track_caller]
    pub fn assert_dropped(&self) -> &Self {
        assert!(
            self.result == Result::Dropped,
            "the message was to be dropped, and is {}",
            said(&self.result)
        );
        self
    }

    /// Asserts that the plugin rejects the message, and gives the problem.
    ///
    /// # Panics
    /// If it does not, or with another code.
    #[track_caller]
    pub fn assert_rejected(&self, code: &str) -> &Problem {
        match &self.result {
            Result::Rejected(problem) if problem.code == code => problem,
            other => panic!("the message was to be rejected with `{code}`, and is {}", said(other)),
        }
    }

    /// Asserts that the plugin asks for the message again, and gives the problem.
    ///
    /// # Panics
    /// If it does not, or with another code.
    #[track_caller]
    pub fn assert_retried(&self, code: &str) -> &Problem {
        match &self.result {
            Result::Retry(problem, _) if problem.code == code => problem,
            other => panic!("the message was to be tried again with `{code}`, and is {}", said(other)),
        }
    }

    /// Asserts that the plugin wrote a line that contains `text`.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn assert_logged(&self, text: &str) -> &Self {
        let found = self.log.iter().any(|(_, line)| line.contains(text));
        assert!(found, "no line says `{text}`; the plugin wrote: {:?}", self.log);
        self
    }

    /// Asserts that one message goes on, whose payload is the file `path` within the plugin's folder.
    /// `UPDATE_GOLDEN=1` writes the file instead. JSON files are compared as JSON.
    ///
    /// # Panics
    /// If the payload is another, or the file cannot be read or written.
    #[track_caller]
    pub fn assert_golden(&self, path: impl AsRef<Path>) -> &Self {
        golden::compare(path.as_ref(), &self.assert_one().payload);
        self
    }
}

fn said(result: &Result) -> String {
    match result {
        Result::Passed(outputs) => format!("passed on as {outputs:?}"),
        Result::Dropped => "dropped".into(),
        Result::Rejected(problem) => format!("rejected: {problem}"),
        Result::Retry(problem, after) => format!("to be tried again (after {after:?}): {problem}"),
        Result::Fault(problem) => format!("too much for the plugin, which broke: {problem}"),
    }
}
