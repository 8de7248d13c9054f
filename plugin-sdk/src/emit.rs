//! What a transformer makes of a message.

use serde::Serialize;

use crate::bindings::outputs::wharf::plugin::emit::{Body, EmitError, Output as Wire};
use crate::host::Emitter;
use crate::{Failure, Output, Problem};

/// What JSON is said to be.
const JSON: &[(&str, &[u8])] = &[("content-type", b"application/json")];

/// One message to send on, made of the one that came in. Borrows what it can: nothing is copied before it is handed
/// to the host.
///
/// ```
/// use wharf_plugin::Emit;
///
/// let json = br#"{"cents": 250}"#;
/// let emit = Emit::bytes(json).set_headers(&[("content-type", b"application/json")]);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an output is sent by `Out::emit`"]
pub struct Emit<'a> {
    body: Body<'a>,
    /// The payload in place of `body`, where it was made here.
    made: Option<Vec<u8>>,
    to: Option<Output>,
    set_headers: &'a [(&'a str, &'a [u8])],
    remove_headers: &'a [&'a str],
}

impl<'a> Emit<'a> {
    /// With this payload.
    pub fn bytes(payload: &'a [u8]) -> Self {
        Self::body(Body::Bytes(payload))
    }

    /// With this value as JSON, and the header `content-type: application/json`;
    /// [`set_headers`](Self::set_headers) after it sets others in its place.
    ///
    /// ```
    /// use wharf_plugin::{Emit, Failure, Message, Out, Transformed};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Receipt {
    ///     bytes: usize,
    /// }
    ///
    /// fn weigh(message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
    ///     out.emit(Emit::json(&Receipt { bytes: message.payload().len() })?)
    /// }
    /// ```
    ///
    /// # Errors
    /// Rejects with `no-json` a value that JSON cannot say, such as a map whose keys are no texts.
    pub fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let made = serde_json::to_vec(value).map_err(|error| Problem::new("no-json", error.to_string()))?;
        let emit = Self { made: Some(made), ..Self::body(Body::Same) };
        Ok(emit.set_headers(JSON))
    }

    /// With the payload that came in; it does not leave the host.
    pub fn same() -> Self {
        Self::body(Body::Same)
    }

    /// With `length` bytes from `start` of the payload that came in; they do not leave the host.
    pub fn part(start: u64, length: u64) -> Self {
        Self::body(Body::Part((start, length)))
    }

    fn body(body: Body<'a>) -> Self {
        Self { body, made: None, to: None, set_headers: &[], remove_headers: &[] }
    }

    /// To a declared output; without, on to where the message was going.
    pub fn to(mut self, output: Output) -> Self {
        self.to = Some(output);
        self
    }

    /// Adds or replaces these headers; the others stay as they came.
    pub fn set_headers(mut self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        self.set_headers = headers;
        self
    }

    /// Takes these headers away.
    pub fn remove_headers(mut self, names: &'a [&'a str]) -> Self {
        self.remove_headers = names;
        self
    }
}

/// What goes on in place of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transformed {
    /// The message, unchanged.
    Keep,
    /// What was emitted for it.
    Emitted,
    /// Nothing: it is settled here, without a dead letter.
    Drop,
}

/// Takes a message's outputs as they are made.
pub struct Out<'a> {
    pub(crate) emitter: &'a Emitter,
    pub(crate) parent: u32,
    pub(crate) emitted: bool,
}

impl Out<'_> {
    /// Sends `output`; call it once for each message to send on.
    ///
    /// # Errors
    /// Rejects the message when its outputs pass the stage's limits (`too-many-outputs`, `output-too-large`), or when
    /// a range or header is wrong (`bad-range`, `bad-header`).
    pub fn emit(&mut self, output: Emit<'_>) -> Result<Transformed, Failure> {
        let Emit { body, made, to, set_headers, remove_headers } = output;
        let body = made.as_deref().map_or(body, Body::Bytes);
        let to = to.map(|output| output.0);
        let output = Wire { parent: self.parent, to, body, set_headers, remove_headers };
        self.emitter.emit(output).map_err(|error| Failure::Reject(problem(error)))?;
        self.emitted = true;
        Ok(Transformed::Emitted)
    }
}

fn problem(error: EmitError) -> Problem {
    let (code, message) = match error {
        EmitError::NoSuchParent => ("no-such-parent", "an output names a message outside the batch"),
        EmitError::NoSuchOutput => ("no-such-output", "an output goes to a place that is not declared"),
        EmitError::BadRange => ("bad-range", "an output is a range outside the payload"),
        EmitError::BadHeader => ("bad-header", "an output's headers are not valid"),
        EmitError::TooMany => ("too-many-outputs", "the message makes more outputs than the stage allows"),
        EmitError::TooLarge => ("output-too-large", "the message's outputs are larger than the stage allows"),
    };
    Problem::new(code, message)
}
