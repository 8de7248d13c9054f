//! Protocol Buffers by a schema that is read at run time, and their JSON (the mapping of proto3).
//!
//! ```
//! use proto_value::{Reading, Schema, Unknown};
//!
//! let text = r#"syntax = "proto3"; message Line { string sku = 1; repeated int32 qty = 2; }"#;
//! let schema = Schema::of_text(text, None)?;
//! let bytes = schema.write(&json_value::read(br#"{"sku": "A", "qty": [1, 300]}"#)?, Unknown::Reject)?;
//! assert_eq!(bytes, b"\x0a\x01A\x12\x03\x01\xac\x02");
//! let read = schema.read(&bytes, Reading { unknown: Unknown::Reject, zeros: false })?;
//! assert_eq!(read.to_json(), br#"{"sku":"A","qty":[1,300]}"#);
//! # Ok::<(), wharf_plugin::Problem>(())
//! ```

mod descriptor;
mod parse;
mod read;
mod schema;
mod source;
mod token;
mod wire;
mod write;

pub use read::{Reading, Unknown};
pub use schema::Schema;
pub use source::{Config, Source};
