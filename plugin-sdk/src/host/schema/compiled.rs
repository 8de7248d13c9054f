//! What a plugin makes of a schema that is lent to it, kept until another version is in use.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::host::schema;
use crate::{Failure, Message, Problem};

/// What is made of the schema of one name: a parsed document, a compiled validator.
///
/// The schema stays the same within a call, so it is asked for at a call's first message alone, and made into something
/// again only when it is another one.
///
/// ```
/// use wharf_plugin::schema::Compiled;
/// use wharf_plugin::{Failure, Message, NoConfig, Plugin, Problem, Stage, Validator};
///
/// /// Accepts the words of a list that is uploaded as the schema `words`.
/// struct Known {
///     words: Compiled<Vec<String>>,
/// }
///
/// impl Plugin for Known {
///     type Config = NoConfig;
///     const SUMMARY: &'static str = "accepts the words of a list";
///
///     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self { words: Compiled::new("words") })
///     }
/// }
///
/// impl Validator for Known {
///     fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
///         let words = self.words.get(message, |list| {
///             serde_json::from_slice(list).map_err(|error| Problem::new("bad-schema", error.to_string()))
///         })?;
///         if words.iter().any(|word| word.as_bytes() == message.payload()) {
///             return Ok(());
///         }
///         Err(Problem::new("unknown-word", "the payload is none of the words").into())
///     }
/// }
///
/// wharf_plugin::export!(Known as validator);
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct Compiled<T> {
    name: String,
    /// The document, and what was made of it.
    kept: RefCell<Option<(Vec<u8>, Rc<T>)>>,
    /// Whether the schema is asked for although a call goes on.
    again: Cell<bool>,
}

impl<T> Compiled<T> {
    /// Of the schema `name`, which the stage grants as `schema:name`. Nothing is asked for yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), kept: RefCell::new(None), again: Cell::new(false) }
    }

    /// Asks for the schema at the next [`get`](Self::get), although its message is not the first of its call. A plugin of
    /// several schemas, of which a message uses one, says so of each when a call begins.
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// use wharf_plugin::schema::Compiled;
    /// use wharf_plugin::{Failure, Message};
    ///
    /// /// The schema that the message's topic names.
    /// fn of(message: &Message<'_>, schemas: &[(String, Compiled<String>)]) -> Result<Option<Rc<String>>, Failure> {
    ///     if message.begins_call() {
    ///         schemas.iter().for_each(|(_, schema)| schema.ask_again());
    ///     }
    ///     let Some((_, schema)) = schemas.iter().find(|(topic, _)| topic == message.topic()) else { return Ok(None) };
    ///     schema.get(message, |text| Ok(String::from_utf8_lossy(text).into_owned())).map(Some)
    /// }
    /// # fn main() {}
    /// ```
    pub fn ask_again(&self) {
        self.again.set(true);
    }

    /// What `compile` makes of the version that is in use in the call that `message` is part of.
    ///
    /// # Errors
    /// Asks for a retry while the schema is not there, cannot be read, or is not what `compile` expects: that is no
    /// fault of the message, and an operator can mend it.
    pub fn get(
        &self,
        message: &Message<'_>,
        compile: impl FnOnce(&[u8]) -> Result<T, Problem>,
    ) -> Result<Rc<T>, Failure> {
        let kept = self.kept.take();
        let again = self.again.take();
        if let Some((_, made)) = &kept
            && !message.begins_call()
            && !again
        {
            let made = Rc::clone(made);
            self.kept.replace(kept);
            return Ok(made);
        }
        let document = schema::get(&self.name)?.bytes;
        let made = match kept {
            Some((same, made)) if same == document => made,
            _ => Rc::new(compile(&document).map_err(|problem| self.unusable(problem))?),
        };
        self.kept.replace(Some((document, Rc::clone(&made))));
        Ok(made)
    }

    fn unusable(&self, problem: Problem) -> Failure {
        let place = problem.path.filter(|path| !path.is_empty());
        let place = place.map(|path| format!(" (at {path})")).unwrap_or_default();
        let message = format!("schema `{}` cannot be used: {}{place}", self.name, problem.message);
        Failure::Retry { problem: Problem { code: problem.code, message, path: None }, after: None }
    }
}
