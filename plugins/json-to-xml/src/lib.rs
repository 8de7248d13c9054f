//! json-to-xml
