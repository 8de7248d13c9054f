//! `wharf sub`.

use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use wharf_admin::dead_letter::Death;
use wharf_admin::message::MessageJson;
use wharf_client::{Client, ConsumeOptions};
use wharf_protocol::{Delivery, Message, Pattern, QueueName};

use crate::connection::Connection;
use crate::output;
use crate::units::{self, show_count};

/// Consumes a queue, or watches topics
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("source").required(true),
    after_help = "\
Examples:
  wharf sub orders                               until interrupted
  wharf sub orders -n 10 -o json | jq .payload
  wharf sub orders --exit-when-empty             what is there now
  wharf sub orders --no-ack -n 1                 look, and leave it in the queue
  wharf sub images --prefetch-bytes 64MiB        large messages, a few at a time
  wharf sub --topic 'orders.#'                   live, without a queue; at most once
  wharf sub --topic 'prices.*' --datagrams       what is lost on the way is not sent again, but counted
  wharf sub --durable audit 'orders.#'           what is published while this is away waits

A message is acknowledged once it is printed; several consumers of one queue share its messages."
)]
pub(crate) struct Args {
    /// The queue to consume
    #[arg(group = "source")]
    queue: Option<QueueName>,
    /// Watches what is published to matching topics from now on, at most once
    #[arg(long, value_name = "PATTERN", group = "source", conflicts_with_all = ["exit_when_empty", "no_ack"])]
    topic: Option<Pattern>,
    /// Takes the messages as datagrams: one that is lost holds none of the others up
    #[arg(long, requires = "topic", conflicts_with_all = ["queue", "durable"])]
    datagrams: bool,
    /// Keeps a queue of that name bound to the pattern, made when there is none, and consumes it: what is published
    /// while this is away waits there
    #[arg(long, value_names = ["NAME", "PATTERN"], num_args = 2, group = "source")]
    durable: Option<Vec<String>>,
    /// A queue that --durable makes goes when it had no consumer for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "durable")]
    expires: Option<Duration>,
    /// Ends after this many messages
    #[arg(short, value_name = "N")]
    n: Option<u64>,
    /// Ends when the queue has nothing ready
    #[arg(long)]
    exit_when_empty: bool,
    /// Does not acknowledge: the messages go back to the queue when this ends
    #[arg(long)]
    no_ack: bool,
    /// Messages on their way to this consumer at once; a competing one is to get its share
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    prefetch: u32,
    /// Bytes of messages on their way to this consumer at once; one message may go over [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, conflicts_with = "topic")]
    prefetch_bytes: Option<u64>,
    /// Renews the leases of what is held: with --no-ack, for as long as it runs
    #[arg(long, conflicts_with = "topic")]
    renew: bool,
    /// How to print a message
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "pretty")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: a line about the message, its headers, its payload
    Pretty,
    /// One JSON object a line
    Json,
    /// The payload alone, and a line end
    Raw,
}

/// A delivery as `-o json` prints it.
#[derive(Debug, Serialize)]
struct DeliveryJson {
    #[serde(flatten)]
    message: MessageJson,
    id: String,
    offset: u64,
    attempt: u32,
    redelivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    death: Option<Death>,
}

/// A message of a stream as `-o json` prints it.
#[derive(Debug, Serialize)]
struct PlacedJson {
    partition: u16,
    stored_at: String,
    #[serde(flatten)]
    delivery: DeliveryJson,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        let client = connection.client().await?;
        let outcome = match (&args.queue, &args.topic) {
            (Some(queue), _) => consume(&client, Some(queue), &args).await,
            (None, Some(pattern)) => watch(&client, pattern, &args).await,
            (None, None) => consume(&client, None, &args).await,
        };
        client.close().await;
        outcome
    })
}

/// Prints and acknowledges what a queue delivers.
async fn consume(client: &Client, queue: Option<&QueueName>, args: &Args) -> anyhow::Result<()> {
    let options = ConsumeOptions {
        until_empty: args.exit_when_empty,
        prefetch: args.prefetch,
        prefetch_bytes: args.prefetch_bytes.unwrap_or(0),
        renew: args.renew,
        limit: args.n,
        ..ConsumeOptions::default()
    };
    let mut consumer = match (queue, args.durable.as_deref()) {
        (Some(queue), _) => client.consume(queue.as_str(), options).await?,
        (None, Some([name, pattern])) => client.durable(name, pattern, args.expires, options).await?,
        (None, _) => anyhow::bail!("say what to consume: a queue, --topic or --durable"),
    };
    let mut held = Vec::new();
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    loop {
        let delivery = tokio::select! {
            delivery = consumer.next() => delivery,
            () = &mut interrupted => None,
        };
        let Some(delivery) = delivery else { break };
        print(args.output, &delivery)?;
        match args.no_ack {
            // Held until the end: one that is let go of makes room for the next.
            true => held.push(delivery),
            false => drop(delivery.ack()),
        }
    }
    consumer.flush().await;
    match consumer.end() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Prints what is published.
async fn watch(client: &Client, pattern: &Pattern, args: &Args) -> anyhow::Result<()> {
    let open = client.tap(pattern.as_str());
    let mut tap = if args.datagrams { open.datagrams() } else { open }.await?;
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    let mut left = args.n.unwrap_or(u64::MAX);
    while left > 0 {
        let message = tokio::select! {
            message = tap.next() => message,
            () = &mut interrupted => break,
        };
        print_tapped(args.output, &message.context("the broker ended it")?)?;
        left -= 1;
    }
    if tap.missed() > 0 {
        eprintln!("missing: {}", show_count(tap.missed(), "message"));
    }
    Ok(())
}

/// Resolves at SIGINT or SIGTERM: what was printed is acknowledged before the end.
pub(crate) fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn print(format: Format, delivery: &Delivery) -> anyhow::Result<()> {
    match format {
        Format::Json => output::line(serde_json::to_string(&DeliveryJson::from(delivery))?),
        Format::Raw => raw(&delivery.message),
        Format::Pretty => {
            let again = match delivery.redelivered {
                true => format!("  attempt {}", delivery.attempt),
                false => String::new(),
            };
            let died = delivery.death.as_deref().map(|death| {
                let stage = death.stage.as_ref().map(|stage| format!(" by {stage}")).unwrap_or_default();
                format!("\n  died in {}{stage}: {}", death.queue, death.reason)
            });
            let head =
                format!("{} {}{again}{}", delivery.id, delivery.message.topic, died.unwrap_or_default());
            pretty(&head, &delivery.message)
        }
    }
}

/// Prints a message of a stream with its place.
pub(crate) fn print_placed(format: Format, delivery: &Delivery) -> anyhow::Result<()> {
    match format {
        Format::Json => {
            let placed = PlacedJson {
                partition: delivery.partition,
                stored_at: delivery.stored_at.to_string(),
                delivery: DeliveryJson::from(delivery),
            };
            output::line(serde_json::to_string(&placed)?)
        }
        Format::Raw => raw(&delivery.message),
        Format::Pretty => {
            let (partition, offset) = (delivery.partition, delivery.offset);
            let head = format!("{partition}/{offset} {} {}", delivery.stored_at, delivery.message.topic);
            pretty(&head, &delivery.message)
        }
    }
}

fn print_tapped(format: Format, message: &Message) -> anyhow::Result<()> {
    match format {
        Format::Json => output::line(serde_json::to_string(&MessageJson::from(message))?),
        Format::Raw => raw(message),
        Format::Pretty => pretty(message.topic.as_str(), message),
    }
}

fn raw(message: &Message) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&message.payload)?;
    out.write_all(b"\n")?;
    Ok(())
}

fn pretty(head: &str, message: &Message) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{head}")?;
    if let Some(key) = &message.key {
        writeln!(out, "  key: {}", String::from_utf8_lossy(key))?;
    }
    for (name, value) in message.headers.iter() {
        writeln!(out, "  {name}: {}", String::from_utf8_lossy(value))?;
    }
    match std::str::from_utf8(&message.payload) {
        Ok(text) => writeln!(out, "{text}")?,
        Err(_) => writeln!(out, "({}, not text)", show_count(message.payload.len() as u64, "byte"))?,
    }
    Ok(())
}

impl From<&Delivery> for DeliveryJson {
    fn from(delivery: &Delivery) -> Self {
        Self {
            message: MessageJson::from(&delivery.message),
            id: delivery.id.to_string(),
            offset: delivery.offset,
            attempt: delivery.attempt,
            redelivered: delivery.redelivered,
            death: delivery.death.as_deref().cloned().map(Death::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::{DeathCause, MessageId, Timestamp};

    use super::*;

    #[test]
    fn a_delivery_is_one_json_object() {
        let original = MessageId { index: 3, entry: 0 };
        let death = wharf_protocol::Death {
            queue: "orders".into(),
            cause: DeathCause::Stage,
            reason: "no total".into(),
            stage: Some("orders/check".into()),
            plugin: None,
            attempts: 0,
            first_at: Timestamp(0),
            last_at: Timestamp(1000),
            original,
        };
        let delivery = Delivery {
            tag: 1,
            id: MessageId { index: 4711, entry: 2 },
            offset: 9,
            attempt: 2,
            redelivered: true,
            stored_at: Timestamp(0),
            partition: 0,
            death: Some(Box::new(death)),
            message: Message::new("orders.eu".parse().expect("a topic"), vec![0xff]),
        };
        let json = serde_json::to_value(DeliveryJson::from(&delivery)).expect("encodes");
        let expected = serde_json::json!({
            "topic": "orders.eu", "headers": {}, "payload": "/w==", "payload_encoding": "base64",
            "id": "4711-2", "offset": 9, "attempt": 2, "redelivered": true,
            "death": {
                "queue": "orders", "cause": "stage", "reason": "no total", "stage": "orders/check", "attempts": 0,
                "first_at": "1970-01-01T00:00:00.000Z", "last_at": "1970-01-01T00:00:01.000Z", "original": "3-0",
            },
        });
        assert_eq!(json, expected);
    }
}
