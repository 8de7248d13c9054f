//! `wharf bind`, `wharf unbind`, `wharf bindings`.

use clap::Args;
use wharf_admin::binding::Binding;
use wharf_protocol::{Name, Pattern, QueueName};

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};

/// Sends the messages of matching topics to a queue or stream
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf bind 'orders.#' orders                            everything below orders
  wharf bind 'orders.*.created' eu --pipeline to-json     through a pipeline on the way
  wharf bind 'orders.#' orders --pipeline to-json         a binding that exists changes its pipeline")]
pub(crate) struct BindArgs {
    /// Which topics: `*` is one word, `#` any number of words
    pattern: Pattern,
    /// The queue or stream that gets them
    queue: QueueName,
    /// The pipeline they go through on the way
    #[arg(long, value_name = "NAME")]
    pipeline: Option<Name>,
}

/// Removes a binding
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf unbind 'orders.#' orders")]
pub(crate) struct UnbindArgs {
    /// The binding's pattern
    pattern: Pattern,
    /// The binding's queue or stream
    queue: QueueName,
}

/// Lists the bindings
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf bindings
  wharf bindings -o json | jq '.[].pattern'")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    output: Output,
}

pub(crate) fn bind(args: BindArgs, connection: &Connection) -> anyhow::Result<()> {
    let binding = Binding { pattern: args.pattern, queue: args.queue, pipeline: args.pipeline };
    let bound: Binding = connection.admin()?.post(&path(["v1", "bindings"]), &binding)?;
    let through = bound.pipeline.map(|name| format!(", through pipeline {name}")).unwrap_or_default();
    output::line(format_args!("{} goes to {}{through}", bound.pattern, bound.queue))
}

pub(crate) fn unbind(args: UnbindArgs, connection: &Connection) -> anyhow::Result<()> {
    let which = [("pattern", args.pattern.as_str()), ("queue", args.queue.as_str())];
    connection.admin()?.delete(&path(["v1", "bindings"]), &which)?;
    output::line(format_args!("{} no longer goes to {}", args.pattern, args.queue))
}

pub(crate) fn list(args: ListArgs, connection: &Connection) -> anyhow::Result<()> {
    let bindings: Vec<Binding> = connection.admin()?.get(&path(["v1", "bindings"]))?;
    output::list(args.output, &bindings, &["PATTERN", "QUEUE", "PIPELINE"], |binding| {
        let pipeline = binding.pipeline.as_ref().map(ToString::to_string);
        vec![binding.pattern.to_string(), binding.queue.to_string(), pipeline.unwrap_or_else(|| "-".into())]
    })
}
