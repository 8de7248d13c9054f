//! `template`: a transformer that makes text of JSON by a template in the language of Jinja.
//!
//! ```toml
//! [stage.config]
//! template = """
//! Order {{ payload.id }} from {{ headers.region }}:
//! {%- for line in payload.lines %}
//! - {{ line.qty }} x {{ line.sku }}
//! {%- endfor %}"""
//! content-type = "text/plain; charset=utf-8"
//! escape = "none"                      # or "html", "json": how `{{ }}` writes values
//! undefined = "reject"                 # or "empty": what becomes of a name that nothing has
//! ```
//! ```json
//! {"id":7,"lines":[{"sku":"A-1","qty":2},{"sku":"B-9","qty":1}]}
//! ```
//! with the header `region: eu` becomes
//! ```text
//! Order 7 from eu:
//! - 2 x A-1
//! - 1 x B-9
//! ```
//!
//! The template sees `payload`, `topic`, `key` and `headers`; keys and headers that are no text are left out. Integers
//! up to 128 bits keep their digits, larger ones reject the message (`number-too-large`); a number with a fraction or
//! exponent is a double, written as the shortest text that reads back as it. A template that cannot be read refuses the
//! pipeline, with the line; an error while it runs rejects the message with the code `template`, and so does one that
//! runs for more than half a million steps, where 64 bytes that it makes are one: with the line of the template, and the
//! name that nothing has (`` undefined value: `payload.cutsomer` is undefined (line 3) ``). There is nothing to include or
//! import.

use json_value::{Path, Value, real};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, context};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Reads, Stage, Transformed, Transformer};

/// How many steps a template may run for a message; 64 bytes that it makes are a step.
const STEPS_MAX: u64 = 500_000;

/// How long a template can be.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The template.
    pub template: String,
    /// What the text is.
    #[serde(default = "plain")]
    pub content_type: String,
    /// How values are written.
    #[serde(default)]
    pub escape: Escape,
    /// What becomes of a name that nothing has.
    #[serde(default)]
    pub undefined: Undefined,
}

/// How values are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escape {
    /// As they are.
    #[default]
    None,
    /// With HTML's special characters escaped.
    Html,
    /// As JSON.
    Json,
}

/// What becomes of a name that nothing has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undefined {
    /// The message is rejected.
    #[default]
    Reject,
    /// Nothing is written for it.
    Empty,
}

fn plain() -> String {
    "text/plain; charset=utf-8".into()
}

/// The plugin.
pub struct Template {
    environment: Environment<'static>,
    content_type: String,
    /// Whether the template names `headers`: they are fetched only then.
    headers: bool,
}

const NAME: &str = "template";

impl Plugin for Template {
    type Config = Config;
    const SUMMARY: &'static str = "makes text of JSON by a template";
    const READS: Reads = Reads::PAYLOAD.with_topic().with_key();
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        if config.template.len() > TEMPLATE_BYTES_MAX {
            let bytes = config.template.len();
            let message =
                format!("the template has {bytes} bytes, and at most {TEMPLATE_BYTES_MAX} are read");
            return Err(Problem::new("bad-config", message).at("/template"));
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(STEPS_MAX));
        // Errors then name what is undefined. What else they know, the whole context, is told to nobody.
        environment.set_debug(true);
        environment.set_auto_escape_callback(move |_| match config.escape {
            Escape::None => AutoEscape::None,
            Escape::Html => AutoEscape::Html,
            Escape::Json => AutoEscape::Json,
        });
        environment.set_undefined_behavior(match config.undefined {
            Undefined::Reject => UndefinedBehavior::Strict,
            Undefined::Empty => UndefinedBehavior::Lenient,
        });
        let headers = config.template.contains("headers");
        environment.add_template_owned(NAME, config.template).map_err(|error| {
            Problem::new("bad-config", format!("the template cannot be read: {}", text(&error)))
                .at("/template")
        })?;
        Ok(Self { environment, content_type: config.content_type, headers })
    }
}

impl Transformer for Template {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let payload = json_value::read(message.payload())?;
        let payload = value(&payload, &mut Path::default())?;
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
        let headers = if self.headers { message.headers() } else { Vec::new() };
        let headers =
            headers.into_iter().filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?)));
        let context = context! {
            payload,
            topic => message.topic(),
            key => key.map_or(minijinja::Value::from(()), minijinja::Value::from),
            headers => minijinja::Value::from_pairs(headers),
        };
        let template = self.environment.get_template(NAME).expect("it was added when the stage was made");
        let made = template.render(context).map_err(|error| {
            let problem = Problem::new("template", text(&error));
            match error.line() {
                Some(line) => problem.at(format!("template line {line}")),
                None => problem,
            }
        })?;
        out.emit(Emit::bytes(made.as_bytes()).set_headers(&[("content-type", self.content_type.as_bytes())]))
    }
}

/// What went wrong, without the name that the template has here.
fn text(error: &minijinja::Error) -> String {
    /// How much of an error is told: it may name values.
    const ERROR_CHARACTERS_MAX: usize = 200;

    let said = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it runs for more than {STEPS_MAX} steps"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let place = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    said.chars().take(ERROR_CHARACTERS_MAX).chain(place.chars()).collect()
}

/// The same value in the template's language. Recursion ends with the depth that the reader of JSON allows.
fn value<'v>(json: &'v Value<'_>, path: &mut Path<'v>) -> Result<minijinja::Value, Problem> {
    Ok(match json {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(bool) => minijinja::Value::from(*bool),
        Value::Number(digits) if digits.contains(['.', 'e', 'E']) => {
            let number = real(digits)
                .ok_or_else(|| path.problem("number-too-large", "the number is past all doubles"))?;
            minijinja::Value::from(number)
        }
        Value::Number(digits) => {
            let number: Result<i128, _> = digits.parse();
            let number = number.map_err(|_| {
                path.problem("number-too-large", "an integer of more than 128 bits cannot be used")
            })?;
            minijinja::Value::from(number)
        }
        Value::String(text) => minijinja::Value::from(text.as_ref()),
        Value::Bytes(bytes) => minijinja::Value::from_bytes(bytes.clone()),
        Value::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.enter_item(index);
                values.push(value(item, path)?);
                path.leave();
            }
            values.into_iter().collect()
        }
        Value::Object(members) => {
            let mut pairs = Vec::with_capacity(members.len());
            for (name, member) in members {
                path.enter(name);
                pairs.push((name.as_ref(), value(member, path)?));
                path.leave();
            }
            minijinja::Value::from_pairs(pairs)
        }
    })
}

wharf_plugin::export!(Template as transformer);
