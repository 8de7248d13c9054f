//! Avro 1.11 by a schema that is read at run time.
//!
//! Values are plain JSON: a union is the value itself, bytes and fixed are texts in base64, logical types are the
//! numbers and bytes beneath them.
//!
//! ```
//! use avro_value::Schema;
//!
//! let schema = br#"{"type": "record", "name": "Line", "fields": [{"name": "qty", "type": "int"}]}"#;
//! let schema = Schema::parse(schema)?;
//! let avro = schema.write(&json_value::read(br#"{"qty": 2}"#)?)?;
//! assert_eq!(avro, [4]);
//! assert_eq!(schema.read(&avro)?.to_json(), br#"{"qty":2}"#);
//! # Ok::<(), wharf_plugin::Problem>(())
//! ```

mod frame;
mod read;
mod resolve;
mod schema;
mod source;
mod write;
mod writers;

pub use frame::Framing;
pub use resolve::Resolution;
pub use schema::Schema;
pub use source::{Config, Source};
pub use writers::Writers;

/// The JSON Schema of [`Config`].
pub const CONFIG_SCHEMA: &str = include_str!("config.schema.json");
