//! Traces of messages as OpenTelemetry spans: the publish is one, each stage a child of it.
//!
//! ```text
//! node's feed of traces ── bounded ──▶ exporter's thread ── batches, OTLP/HTTP with JSON ──▶ collector
//! ```
//!
//! [`span`] says what a trace is in OTLP; [`Exporter`] sends it. A collector that is slow or away costs traces, which
//! are counted, and nothing else: the feed is bounded, a batch is tried a few times, and the thread is the exporter's
//! own. TLS is left to a collector beside the broker.

mod exporter;
pub mod span;

pub use exporter::{Config, Counts, Exporter, StartError};
