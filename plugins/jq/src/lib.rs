//! `jq`: a transformer that runs a jq program on JSON.
//!
//! ```toml
//! [stage.config]
//! program = ".lines[] | {sku, cost: (.qty * .price), order: $topic}"
//! raw = false                          # whether a text is sent as it is, without quotes and escapes
//! ```
//! ```json
//! {"lines":[{"sku":"A-1","qty":2,"price":3},{"sku":"B-9","qty":1,"price":5}]}
//! ```
//! becomes two messages:
//! ```json
//! {"sku":"A-1","cost":6,"order":"orders.new"}
//! {"sku":"B-9","cost":5,"order":"orders.new"}
//! ```
//!
//! Each value that the program makes is a message; a program that makes none settles the message here. `$topic` is the
//! topic, `$key` the key or `null`, `$headers` an object of the headers; those that are no text are left out of it.
//! Integers keep all their digits, and a number that the program only moves stays as it was written.
//!
//! The language is jq as jaq has it, without what a stage has no business with (files, modules, the clock, the
//! environment, `input`, `debug`, `halt`) and without most of `math`. Times are numbers of seconds, which `todate` writes
//! and `fromdate` reads as RFC 3339 has them; there is no `now` and no `strftime`. Regular expressions have neither
//! look-around nor back-references, so that no text takes them long; `\w`, `\d` and the flag `i` are of ASCII, and the flags
//! are `g`, `n`, `i`, `x`, and as in Rust `s` (`.` is any character) and `m` (`^` and `$` are of lines).
//!
//! A program that does not compile refuses the pipeline, with the line and column; an error while it runs rejects the
//! message with the code `jq`; what it made that JSON cannot say, with `not-json` or `too-deep`. A program without an end
//! is stopped by the stage's deadline, one that takes too much memory or too many outputs by those limits.

mod language;
mod regex;
mod value;

use jaq_core::{Ctx, Vars};
use jaq_json::Val;
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Reads, Stage, Transformed, Transformer};

use language::{Data, Program};

/// How long a program can be.
pub const PROGRAM_BYTES_MAX: usize = 64 * 1024;

/// How much of an error is told: it names values, which may be whole payloads.
const ERROR_CHARACTERS_MAX: usize = 200;

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The program.
    pub program: String,
    /// Whether a text is sent as it is.
    #[serde(default)]
    pub raw: bool,
}

/// The plugin.
pub struct Jq {
    program: Program,
    raw: bool,
    /// Whether the program names `$headers`: they are fetched only then.
    headers: bool,
}

impl Plugin for Jq {
    type Config = Config;
    const SUMMARY: &'static str = "runs a jq program on JSON";
    const READS: Reads = Reads::PAYLOAD.with_topic().with_key();
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let text = &config.program;
        if text.len() > PROGRAM_BYTES_MAX {
            let message =
                format!("the program has {} bytes, and at most {PROGRAM_BYTES_MAX} are read", text.len());
            return Err(Problem::new("bad-config", message).at("/program"));
        }
        let program =
            language::compile(text).map_err(|message| Problem::new("bad-config", message).at("/program"))?;
        Ok(Self { program, raw: config.raw, headers: text.contains("$headers") })
    }
}

impl Transformer for Jq {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let payload = json_value::read(message.payload())?;
        // In the order of `language::VARIABLES`.
        let variables = Vars::new([
            value::text(message.topic()),
            message.key().map_or(Val::Null, |key| value::text(&String::from_utf8_lossy(key))),
            if self.headers { value::headers(message.headers()) } else { Val::Null },
        ]);
        let context = Ctx::<Data>::new(&self.program.lut, variables);
        let mut transformed = Transformed::Drop;
        let mut made = Vec::new();
        for value in self.program.id.run((context, value::of_json(&payload))) {
            let value = value.map_err(|thrown| {
                let text = match thrown.get_err().map(jaq_json::Error::into_val) {
                    Ok(Val::TStr(text)) => String::from_utf8_lossy(&text).into_owned(),
                    Ok(other) => other.to_string(),
                    Err(_) => "it broke off".to_owned(),
                };
                Problem::new("jq", text.chars().take(ERROR_CHARACTERS_MAX).collect::<String>())
            })?;
            made.clear();
            transformed = match value {
                Val::TStr(text) if self.raw => out.emit(Emit::bytes(&text))?,
                value => {
                    value::write(&mut made, &value)?;
                    out.emit(Emit::bytes(&made).set_headers(&[("content-type", b"application/json")]))?
                }
            };
        }
        Ok(transformed)
    }
}

wharf_plugin::export!(Jq as transformer);
