//! xml-to-json
