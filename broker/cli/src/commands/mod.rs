//! The commands, a file for each noun.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod binding;
pub(crate) mod completions;
pub(crate) mod dead_letter;
pub(crate) mod dedup;
pub(crate) mod demo;
pub(crate) mod group;
pub(crate) mod kv;
pub(crate) mod lent;
pub(crate) mod log;
pub(crate) mod pipeline;
pub(crate) mod plugin;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod schedule;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod subscribe;
pub(crate) mod trace;

/// A runtime for the commands that speak QUIC: one thread is enough for a client.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
