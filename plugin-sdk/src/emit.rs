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
/// use wharf_plugin::{Emit, Failure, Message, Out, Transformed, transformer};
///
/// /// Sends on what stands between the first two bytes and the last, under another type.
/// #[transformer]
/// fn unwrapped(message: &Message, out: &mut Out) -> Result<Transformed, Failure> {
///     let length = (message.payload().len() as u64).saturating_sub(3);
///     out.emit(Emit::part(2, length).set_headers(&[("content-type", b"text/plain")]).remove_headers(&["wrapped-by"]))
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::{Harness, Input};
///
/// let wrapped = Input::new("<[bare]").header("wrapped-by", "us");
/// let outcome = Harness::<Unwrapped>::native().send(wrapped);
/// outcome.assert_payload("bare").assert_header("content-type", "text/plain");
/// assert_eq!(outcome.assert_one().header("wrapped-by"), None);
/// # }
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
    ///
    /// ```
    /// use wharf_plugin::Emit;
    ///
    /// let csv = "id,total\n7,12\n";
    /// let emit = Emit::bytes(csv.as_bytes()).set_headers(&[("content-type", b"text/csv")]);
    /// # drop(emit);
    /// ```
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
    ///
    /// ```
    /// use wharf_plugin::Emit;
    ///
    /// let emit = Emit::same().remove_headers(&["authorization"]);
    /// # drop(emit);
    /// ```
    pub fn same() -> Self {
        Self::body(Body::Same)
    }

    /// With `length` bytes from `start` of the payload that came in; they do not leave the host.
    ///
    /// ```
    /// use wharf_plugin::Emit;
    ///
    /// let payload = b"header\nbody";
    /// let body = payload.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    /// let emit = Emit::part(body as u64, (payload.len() - body) as u64);
    /// # drop(emit);
    /// ```
    pub fn part(start: u64, length: u64) -> Self {
        Self::body(Body::Part((start, length)))
    }

    fn body(body: Body<'a>) -> Self {
        Self { body, made: None, to: None, set_headers: &[], remove_headers: &[] }
    }

    /// To a declared output; without, on to where the message was going.
    ///
    /// ```
    /// use wharf_plugin::{Emit, Problem, Stage};
    ///
    /// fn audit(stage: &Stage) -> Result<Emit<'static>, Problem> {
    ///     Ok(Emit::same().to(stage.output("audit")?))
    /// }
    /// # let stage = Stage { outputs: vec!["audit".into()], ..Stage::default() };
    /// # assert!(audit(&stage).is_ok());
    /// ```
    pub fn to(mut self, output: Output) -> Self {
        self.to = Some(output);
        self
    }

    /// Adds or replaces these headers; the others stay as they came.
    ///
    /// ```
    /// use wharf_plugin::Emit;
    ///
    /// let total = 12.to_string();
    /// let headers: [(&str, &[u8]); 2] = [("currency", b"EUR"), ("total", total.as_bytes())];
    /// let emit = Emit::same().set_headers(&headers);
    /// # drop(emit);
    /// ```
    pub fn set_headers(mut self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        self.set_headers = headers;
        self
    }

    /// Takes these headers away.
    ///
    /// ```
    /// use wharf_plugin::Emit;
    ///
    /// let emit = Emit::same().remove_headers(&["authorization", "cookie"]);
    /// # drop(emit);
    /// ```
    pub fn remove_headers(mut self, names: &'a [&'a str]) -> Self {
        self.remove_headers = names;
        self
    }
}

/// What goes on in place of a message.
///
/// ```
/// use wharf_plugin::{Emit, Failure, Message, Out, Transformed, transformer};
///
/// /// Trims texts, and drops those of which nothing is left.
/// #[transformer]
/// fn trimmed(message: &Message, out: &mut Out) -> Result<Transformed, Failure> {
///     let text = message.text()?;
///     match text.trim() {
///         "" => Ok(Transformed::Drop),
///         trim if trim.len() == text.len() => Ok(Transformed::Keep),
///         trim => out.emit(Emit::bytes(trim.as_bytes())),
///     }
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// let plugin = Harness::<Trimmed>::native();
/// plugin.send("  ").assert_dropped();
/// plugin.send("as it is").assert_payload("as it is");
/// plugin.send(" a ").assert_payload("a");
/// # }
/// ```
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
///
/// ```
/// use wharf_plugin::{Emit, Failure, Message, Out, Transformed, transformer};
///
/// /// Makes a message of each line.
/// #[transformer]
/// fn lines(message: &Message, out: &mut Out) -> Result<Transformed, Failure> {
///     for line in message.text()?.lines() {
///         out.emit(Emit::bytes(line.as_bytes()))?;
///     }
///     Ok(Transformed::Emitted)
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// let outcome = Harness::<Lines>::native().send("a\nb");
/// let texts: Vec<_> = outcome.assert_passed().iter().map(|each| each.text()).collect();
/// assert_eq!(texts, ["a", "b"]);
/// # }
/// ```
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
