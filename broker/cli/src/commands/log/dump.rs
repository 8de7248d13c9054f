//! `wharf log dump`: records as JSON, one a line.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use bytes::Bytes;
use clap::Args as ClapArgs;
use serde::Serialize;
use wharf_protocol::Message;
use wharf_queue::{Entry, Publish, Record, Resolve, Stamped};

use super::{Data, open};
use crate::output;

/// What is shown of a payload, in bytes.
const EXCERPT_BYTES: usize = 120;
/// What is shown of a record without messages, in characters.
const DETAIL_CHARS: usize = 600;

/// Prints records as JSON, one a line
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf log dump --from 4711 --to 4720
  wharf log dump | jq -c 'select(.kind == \"publish\") | .messages[].topic' | sort | uniq -c")]
pub(super) struct Args {
    #[command(flatten)]
    data: Data,
    /// The first record
    #[arg(long, value_name = "INDEX", default_value_t = 1)]
    from: u64,
    /// The last record [default: the last there is]
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
}

/// A record, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    /// The folder of its log.
    log: &'a str,
    index: u64,
    /// Its length in the log.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Shown>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// A message, with an excerpt of its payload.
#[derive(Serialize)]
struct Shown {
    topic: String,
    /// The numbers of the queues that it went to.
    queues: Vec<u32>,
    payload_bytes: usize,
    payload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let range = args.from..args.to.map_or(u64::MAX, |to| to.saturating_add(1));
    for folder in args.data.logs()? {
        let log = folder.display().to_string();
        let mut printed = Ok(());
        open(&folder)?.records(range.clone(), &mut |index, body| {
            printed = serde_json::to_string(&Line::new(&log, index, body))
                .map_err(anyhow::Error::from)
                .and_then(output::line);
            if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        printed?;
    }
    Ok(())
}

impl<'a> Line<'a> {
    fn new(log: &'a str, index: u64, body: Bytes) -> Self {
        let bytes = body.len();
        let line = |at, kind: &str, messages, detail| Line {
            log,
            index,
            bytes,
            at,
            kind: kind.to_owned(),
            messages,
            detail,
        };
        let stamped = match Stamped::decode(body) {
            Ok(stamped) => stamped,
            Err(error) => return line(None, "unknown", Vec::new(), error.to_string()),
        };
        let at = Some(stamped.at.to_string());
        match &stamped.record {
            Record::Publish(publish) => line(at, "publish", shown([publish]), String::new()),
            Record::Transaction(transaction) => {
                let mut detail = String::new();
                // Writing to a string does not fail.
                let _ =
                    write!(detail, "settles {:?}, cursors {:?}", transaction.settles, transaction.cursors);
                line(at, "transaction", shown(&transaction.publishes), shorten(detail))
            }
            Record::Resolve(resolve) => {
                let Resolve { queue, offset, id, becomes } = &**resolve;
                let what = if becomes.is_some() { "goes on" } else { "is discarded" };
                let detail = format!("dead letter {id}, offset {offset} of {queue}, {what}");
                line(at, "resolve", shown(becomes), detail)
            }
            other => {
                let detail = format!("{other:?}");
                let kind = detail.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                line(at, &kind.to_lowercase(), Vec::new(), shorten(detail.clone()))
            }
        }
    }
}

fn shown<'a>(publishes: impl IntoIterator<Item = &'a Publish>) -> Vec<Shown> {
    publishes.into_iter().flat_map(|publish| &publish.entries).map(Shown::new).collect()
}

impl Shown {
    fn new(Entry { message, destinations }: &Entry) -> Self {
        let Message { topic, payload, key, message_id, .. } = message;
        Self {
            topic: topic.to_string(),
            queues: destinations.iter().map(|destination| destination.queue.0).collect(),
            payload_bytes: payload.len(),
            payload: excerpt(payload),
            key: key.as_deref().map(excerpt),
            message_id: message_id.as_ref().map(ToString::to_string),
        }
    }
}

/// The first bytes, as text where they are text, else as hexadecimal digits after `hex:`.
fn excerpt(bytes: &[u8]) -> String {
    let first = &bytes[..bytes.len().min(EXCERPT_BYTES)];
    let more = if first.len() < bytes.len() { "…" } else { "" };
    // A cut in the middle of a character is no reason to show digits.
    let text = first.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    if first.len() - text.len() < 4 && (!more.is_empty() || text.len() == first.len()) {
        format!("{text}{more}")
    } else {
        format!("hex:{}{more}", hex::encode(first))
    }
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(DETAIL_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_text_where_the_bytes_are() {
        assert_eq!(excerpt(b"{\"total\":12}"), "{\"total\":12}");
        assert_eq!(excerpt(&[0xff, 0x00]), "hex:ff00");
        let long = "ä".repeat(100);
        assert_eq!(excerpt(long.as_bytes()), format!("{}…", "ä".repeat(60)));
        let odd = format!("a{}", "ä".repeat(100));
        assert_eq!(excerpt(odd.as_bytes()), format!("a{}…", "ä".repeat(59)));
    }
}
