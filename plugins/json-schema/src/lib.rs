//! `json-schema`: a validator that accepts the JSON payloads that a schema describes.
//!
//! ```toml
//! [stage.config]
//! formats = true                       # check `format` too; the specification leaves it unchecked
//!
//! [stage.config.schema]                # draft 2020-12, unless its `$schema` names an older one
//! type = "object"
//! required = ["total"]
//! properties.total = { type = "number", minimum = 0 }
//! ```
//!
//! `{"total": 12}` is accepted. `{"total": "12"}` is rejected with the code `schema`, the path `/total`, and the
//! message `/total: want number, but got string`. Several mistakes are named together.
//!
//! A payload with two members of one name is rejected (`not-json`): which of them is meant cannot be known, and another
//! one than was checked could be used. Numbers past 64 bits are compared as doubles.
//!
//! The schema is whole: one that refers to a document outside the configuration is refused when the pipeline is
//! applied, and never fetched.

mod explain;
mod unique;

use std::error::Error;

use boon::{CompileError, Compiler, Draft, SchemaIndex, Schemas, UrlLoader};
use serde::Deserialize;
use serde_json::Value;
use wharf_plugin::{Failure, Message, Plugin, Problem, Stage, Validator};

pub use unique::Unique;

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The schema.
    pub schema: Value,
    /// Whether `format` is checked.
    #[serde(default)]
    pub formats: bool,
}

/// The plugin.
pub struct JsonSchema {
    schemas: Schemas,
    schema: SchemaIndex,
}

/// Where the schema is, for references within it. The name can never exist (RFC 2606).
const HOME: &str = "https://wharf.invalid/schema.json";

impl Plugin for JsonSchema {
    type Config = Config;
    const SUMMARY: &'static str = "accepts the JSON that a schema describes";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(NothingOutside));
        if config.formats {
            compiler.enable_format_assertions();
        }
        let mut schemas = Schemas::new();
        compiler.add_resource(HOME, config.schema).map_err(|error| bad_schema(&error))?;
        let schema = compiler.compile(HOME, &mut schemas).map_err(|error| bad_schema(&error))?;
        Ok(Self { schemas, schema })
    }
}

impl Validator for JsonSchema {
    fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
        let Unique(payload) = message.json()?;
        Ok(self.check(&payload)?)
    }
}

impl JsonSchema {
    /// Whether the schema describes `payload`.
    ///
    /// # Errors
    /// What it does not allow, with the paths.
    pub fn check(&self, payload: &Value) -> Result<(), Problem> {
        self.schemas.validate(payload, self.schema).map_err(|error| explain::problem(&error))
    }
}

/// Refuses every document that does not come with the specification itself.
struct NothingOutside;

impl UrlLoader for NothingOutside {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        let url = url.strip_prefix("https://wharf.invalid/").unwrap_or(url);
        Err(format!("it refers to `{url}`, which is not in the configuration; nothing is fetched").into())
    }
}

fn bad_schema(error: &CompileError) -> Problem {
    let problem = match error {
        CompileError::LoadUrlError { src, .. } => Problem::new("schema-outside", src.to_string()),
        CompileError::ValidationError { src, .. } => {
            let problem = explain::problem(src);
            let path = format!("/schema{}", problem.path.unwrap_or_default());
            let mistakes = problem.message.split_whitespace().collect::<Vec<_>>().join(" ");
            return Problem::new("bad-schema", format!("this is not a schema: {mistakes}")).at(path);
        }
        CompileError::InvalidRegex { regex, src, .. } => {
            Problem::new("bad-schema", format!("`{regex}` is not a pattern: {src}"))
        }
        error => Problem::new("bad-schema", error.to_string().replace(HOME, "")),
    };
    problem.at("/schema")
}

wharf_plugin::export!(JsonSchema as validator);
