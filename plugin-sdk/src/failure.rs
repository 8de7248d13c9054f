//! Why a message cannot go on, and how errors become that with `?`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::bindings::imports::wharf::plugin::types;

/// What is wrong, for the person who reads it in a receipt, a dead letter or a log.
///
/// ```
/// use wharf_plugin::Problem;
///
/// let problem = Problem::new("no-amount", "an order needs an amount").at("/order/amount");
/// assert_eq!(problem.to_string(), "no-amount: an order needs an amount (at /order/amount)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A short constant, `not-xml`, that metrics and searches count by.
    pub code: Cow<'static, str>,
    /// One sentence: what, where, and what was expected.
    pub message: String,
    /// Where in the payload or configuration: a JSON pointer, or `line 3, column 7`.
    pub path: Option<String>,
}

impl Problem {
    /// A problem of a kind, said in a sentence.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), path: None }
    }

    /// The same problem at a place.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.path {
            Some(path) => write!(f, " (at {path})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Why a message cannot go on.
///
/// A [`Problem`] becomes a [`Reject`](Self::Reject) with `?`, and so do the errors of JSON (`not-json`), of texts
/// (`not-utf8`) and of numbers (`not-a-number`). Others do with [`OrFail::or_reject`] and [`OrFail::or_retry`], which
/// name a code of the plugin's own.
///
/// ```
/// use wharf_plugin::Failure;
///
/// fn cents(payload: &[u8]) -> Result<u64, Failure> {
///     Ok(std::str::from_utf8(payload)?.trim().parse::<u64>()?)
/// }
///
/// assert_eq!(cents(b"12 "), Ok(12));
/// assert_eq!(cents(b"twelve").unwrap_err().problem().code, "not-a-number");
/// assert_eq!(cents(b"\xff").unwrap_err().problem().code, "not-utf8");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It never will: refused, or laid in the dead-letter queue, as the stage's policy says.
    Reject(Problem),
    /// It may later.
    Retry {
        /// What is missing now.
        problem: Problem,
        /// Not before this long; the queue's own schedule where absent.
        after: Option<Duration>,
    },
}

impl Failure {
    /// The problem, whichever it is.
    ///
    /// ```
    /// use wharf_plugin::{Failure, Problem};
    ///
    /// let busy = Failure::Retry { problem: Problem::new("busy", "the table is being loaded"), after: None };
    /// assert_eq!(busy.problem().code, "busy");
    /// ```
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Reject(problem) | Self::Retry { problem, .. } => problem,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Reject(problem)
    }
}

/// `not-json`, with the line and column.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        crate::message::json_problem(&error).into()
    }
}

/// `not-utf8`, with the offset of the first wrong byte.
impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Self {
        let message = format!("this is not UTF-8 text: wrong byte at {}", error.valid_up_to());
        Problem::new("not-utf8", message).into()
    }
}

/// `not-a-number`.
impl From<std::num::ParseIntError> for Failure {
    fn from(error: std::num::ParseIntError) -> Self {
        Problem::new("not-a-number", error.to_string()).into()
    }
}

/// `not-a-number`.
impl From<std::num::ParseFloatError> for Failure {
    fn from(error: std::num::ParseFloatError) -> Self {
        Problem::new("not-a-number", error.to_string()).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject(problem) => write!(f, "rejected: {problem}"),
            Self::Retry { problem, after: None } => write!(f, "to be tried again: {problem}"),
            Self::Retry { problem, after: Some(after) } => {
                write!(f, "to be tried again after {after:?}: {problem}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Turns any error into a [`Failure`] with a code.
///
/// ```
/// use wharf_plugin::{Failure, OrFail};
///
/// fn cents(amount: &str) -> Result<u64, Failure> {
///     amount.parse().or_reject("bad-amount")
/// }
///
/// assert_eq!(cents("x").unwrap_err().problem().code, "bad-amount");
///
/// let failure = "x".parse::<u64>().or_reject_at("bad-amount", "/lines/3/price").unwrap_err();
/// assert_eq!(failure.to_string(), "rejected: bad-amount: invalid digit found in string (at /lines/3/price)");
/// ```
pub trait OrFail<T> {
    /// Rejects the message; the error's text is the problem's message.
    ///
    /// # Errors
    /// [`Failure::Reject`] for an error.
    fn or_reject(self, code: &'static str) -> Result<T, Failure>;

    /// As [`or_reject`](Self::or_reject), with the place in the payload: a JSON pointer, `/lines/3/price`.
    ///
    /// # Errors
    /// [`Failure::Reject`] for an error.
    fn or_reject_at(self, code: &'static str, path: impl Into<String>) -> Result<T, Failure>;

    /// Asks for the message again; the error's text is the problem's message.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wharf_plugin::{Failure, OrFail};
    ///
    /// let failure = Err::<(), _>("no rates yet").or_retry("no-rates", Some(Duration::from_secs(5))).unwrap_err();
    /// assert!(matches!(failure, Failure::Retry { after: Some(_), .. }));
    /// ```
    ///
    /// # Errors
    /// [`Failure::Retry`] for an error.
    fn or_retry(self, code: &'static str, after: Option<Duration>) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_reject(self, code: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Reject(Problem::new(code, error.to_string())))
    }

    fn or_reject_at(self, code: &'static str, path: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::Reject(Problem::new(code, error.to_string()).at(path)))
    }

    fn or_retry(self, code: &'static str, after: Option<Duration>) -> Result<T, Failure> {
        self.map_err(|error| Failure::Retry { problem: Problem::new(code, error.to_string()), after })
    }
}

impl From<Problem> for types::Problem {
    fn from(problem: Problem) -> Self {
        Self { code: problem.code.into_owned(), message: problem.message, path: problem.path }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reject(problem) => Self::Reject(problem.into()),
            Failure::Retry { problem, after } => {
                let milliseconds = after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
                Self::Retry((problem.into(), milliseconds))
            }
        }
    }
}
