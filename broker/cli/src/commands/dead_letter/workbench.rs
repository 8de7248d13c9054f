//! Dead letters looked for, mended and tried.

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args as ClapArgs;
use wharf_admin::dead_letter::{self, DeadLetter, Page};
use wharf_admin::message::PayloadEncoding;
use wharf_admin::page::PAGE_MAX;
use wharf_admin::pipeline::Try as TryRequest;
use wharf_admin::step::Trace;
use wharf_admin::trace::StoredTrace;
use wharf_protocol::{MessageId, Name, QueueName, Topic};

use super::filter;
use crate::admin::{Admin, path};
use crate::commands::{pipeline, publish, trace};
use crate::output::{self, Format, Output};
use crate::units;

/// Looks for dead letters: queue by queue, in each the oldest first
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dlq search --reason 'no total'
  wharf dlq search --cause stage --plugin check@1.2.0 --since 1h
  wharf dlq search --queue orders-dead -H tenant=acme -n 10 -o json")]
pub(super) struct Search {
    /// Only those in this dead-letter queue
    #[arg(long)]
    queue: Option<QueueName>,
    #[command(flatten)]
    filter: filter::Args,
    /// At most this many
    #[arg(short, value_name = "N", default_value_t = 100)]
    n: usize,
    #[command(flatten)]
    output: Output,
}

/// Mends a dead letter: an edited message takes its place, with its death and its history, once
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true),
    after_help = "\
Examples:
  wharf dlq edit 4711-0 --payload-file order.json
  wharf dlq edit 4711-0 --set-header tenant=acme --remove-header x-debug
  wharf dlq edit 4711-0 --topic orders.eu.created

It prints the new id; `wharf dlq redrive ID` sends it on its way."
)]
pub(super) struct Edit {
    /// Its id, as `wharf dlq ls` shows it
    id: MessageId,
    /// Another payload, from a file; `-` reads standard input
    #[arg(long, value_name = "FILE", group = "what")]
    payload_file: Option<PathBuf>,
    /// Sets a header; may be given several times
    #[arg(long = "set-header", value_name = "NAME=VALUE", value_parser = units::header, group = "what")]
    set: Vec<(String, String)>,
    /// Removes a header; may be given several times
    #[arg(long = "remove-header", value_name = "NAME", group = "what")]
    remove: Vec<String>,
    /// Another topic: what died before any queue had it goes by it, the rest back to the queue where it died
    #[arg(long, group = "what")]
    topic: Option<Topic>,
    #[command(flatten)]
    output: Output,
}

/// Shows what a pipeline would do with a dead letter; stores and delivers nothing
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dlq try 4711-0
  wharf dlq try 4711-0 --spec orders.toml
  wharf dlq try 4711-0 --pipeline orders --version 7")]
pub(super) struct Try {
    /// Its id, as `wharf dlq ls` shows it
    id: MessageId,
    /// The pipeline [default: the one that gave it up]
    #[arg(long)]
    pipeline: Option<Name>,
    /// The version [default: the active one]
    #[arg(long, value_name = "N", conflicts_with = "spec")]
    version: Option<u32>,
    /// A pipeline file in place of a version
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn search(admin: &Admin, search: &Search) -> anyhow::Result<()> {
    let titles = ["ID", "DIED IN", "CAUSE", "AT", "REDRIVEN", "REASON"];
    output::list(search.output, &found(admin, search)?, &titles, |letter| {
        let death = &letter.death;
        let stage = death.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
        vec![
            letter.id.clone(),
            super::died_in(letter),
            death.cause.clone(),
            death.last_at.clone(),
            letter.redriven.to_string(),
            format!("{stage}{}", death.reason),
        ]
    })
}

fn found(admin: &Admin, search: &Search) -> anyhow::Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    let mut body = dead_letter::Search {
        queue: search.queue.clone(),
        filter: search.filter.filter(),
        ..dead_letter::Search::default()
    };
    while letters.len() < search.n {
        body.limit = Some((search.n - letters.len()).min(PAGE_MAX));
        let page: Page = admin.post(&path(["v1", "dead-letters", "search"]), &body)?;
        letters.extend(page.items);
        body.after = page.next;
        if body.after.is_none() {
            return Ok(letters);
        }
    }
    if body.after.is_some() {
        output::note(format_args!("there may be more: -n is {}", search.n));
    }
    Ok(letters)
}

pub(super) fn edit(admin: &Admin, edit: &Edit) -> anyhow::Result<()> {
    let payload = edit.payload_file.as_deref().map(publish::read).transpose()?;
    let (payload, payload_encoding) = payload.map_or((None, None), |bytes| match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (Some(BASE64.encode(error.as_bytes())), Some(PayloadEncoding::Base64)),
    });
    let body = dead_letter::Edit {
        payload,
        payload_encoding,
        topic: edit.topic.clone(),
        set_headers: edit.set.iter().cloned().collect(),
        remove_headers: edit.remove.clone(),
    };
    let id = edit.id.to_string();
    let letter: DeadLetter = admin.patch(&path(["v1", "dead-letters", &id]), &body)?;
    match edit.output.output {
        Format::Json => output::json(&letter),
        Format::Table => output::line(&letter.id),
    }
}

pub(super) fn try_letter(admin: &Admin, tried: &Try) -> anyhow::Result<()> {
    let id = tried.id.to_string();
    let letter: DeadLetter = admin.get(&path(["v1", "dead-letters", &id]))?;
    let message = letter.message.context("the broker left the message out")?;
    let gave_up = letter.death.stage.as_deref().and_then(|stage| stage.split('/').next());
    let pipeline = tried.pipeline.as_ref().map(Name::as_str).or(gave_up);
    let pipeline = pipeline.with_context(|| format!("no pipeline gave {id} up: name one with --pipeline"))?;
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    let spec = tried.spec.as_ref().map(read).transpose()?;
    let body = TryRequest { message, version: tried.version, spec };
    let trial: Trace = admin.post(&path(["v1", "pipelines", pipeline, "try"]), &body)?;
    match tried.output.output {
        Format::Json => output::json(&trial),
        Format::Table => pipeline::print(&trial),
    }
}

/// Prints the trace of a letter that a stage refused, where there is one.
pub(super) fn print_trace(admin: &Admin, how: Output, letter: &DeadLetter) -> anyhow::Result<()> {
    if how.output == Format::Json || letter.death.stage.is_none() {
        return Ok(());
    }
    match admin.get::<Vec<StoredTrace>>(&path(["v1", "traces", &letter.death.original])) {
        Ok(traces) => {
            output::line("")?;
            traces.iter().try_for_each(trace::print)
        }
        // It was long ago: older traces made room for newer ones.
        Err(_) => Ok(()),
    }
}
