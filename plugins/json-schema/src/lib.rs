//! json-schema
