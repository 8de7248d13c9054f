//! `wharf pub`.

use std::io::{self, BufRead as _, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use tokio::sync::mpsc;
use wharf_client::{Confirm, Confirmed, PublishError, Publisher};
use wharf_node::TraceId;
use wharf_protocol::{
    DELIVER_AT, HeadersBuilder, Message, PipelineVersion, Rejection, Stored, TRACE, Timestamp, Topic,
};

use crate::connection::Connection;
use crate::output;
use crate::units;

/// Lines that are read, or published and not yet printed, at most.
const WINDOW: usize = 4096;

/// The longest line that `--lines` takes: no broker takes a larger message.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Publishes messages and waits until they are stored
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("payload").required(true),
    after_help = "\
Examples:
  wharf pub orders.eu.created '{\"total\": 12}'
  wharf pub orders.eu.created --file order.xml -H tenant=acme -H content-type=application/xml
  wharf pub orders.eu.created - < order.xml
  wharf pub clicks ping --count 1000
  wharf pub orders.eu.created --file order.xml --id order-17     twice stores it once
  wharf pub reminders.tea 'tea is ready' --deliver-at 2026-12-24T17:00:00+01:00
  wharf pub orders.eu.created --file order.xml --receipt         says which version of which pipeline handled it
  wharf pub orders.eu.created --file order.xml --trace           shows what each stage made of it
  seq 1000000 | wharf pub numbers --lines

It prints the id of each message as it is confirmed, and fails when one is rejected."
)]
pub(crate) struct Args {
    /// Where to publish: words between dots
    topic: Topic,
    /// The payload; `-` reads it from standard input
    #[arg(group = "payload")]
    body: Option<String>,
    /// Reads the payload from a file
    #[arg(long, value_name = "FILE", group = "payload")]
    file: Option<PathBuf>,
    /// Publishes each line of standard input as a message, and prints a line for each as it is confirmed, in order
    #[arg(long, group = "payload")]
    lines: bool,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = units::header)]
    headers: Vec<(String, String)>,
    /// Messages with the same key keep their order
    #[arg(long)]
    key: Option<String>,
    /// The message's id: a second message with it is stored once
    #[arg(long, conflicts_with_all = ["count", "lines"])]
    id: Option<String>,
    /// Publishes the message this many times
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "lines")]
    count: u64,
    /// How long it may still be delivered
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    ttl: Option<Duration>,
    /// How long it is held back before it is delivered
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    delay: Option<Duration>,
    /// When it is delivered at the earliest: 2026-12-24T18:00:00+01:00, or milliseconds since 1970
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    deliver_at: Option<Timestamp>,
    /// 0 to 31; higher ones are delivered first
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=31))]
    priority: u8,
    /// Asks for a trace, and prints it: what each stage of each pipeline was given, said and changed
    #[arg(long, conflicts_with_all = ["count", "lines"])]
    trace: bool,
    /// Prints, behind the id of each message, the versions of the pipelines that handled it: orders/12
    #[arg(long)]
    receipt: bool,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let mut message = message(&args)?;
    let trace = args.trace.then(TraceId::random);
    if let Some(id) = trace {
        message.headers = message.headers.edit().set(TRACE, id.to_string()).build()?;
    }
    let source = match args.lines {
        true => Source::Lines,
        false => Source::Times(args.count),
    };
    let outcome = super::runtime()?.block_on(async {
        let client = connection.client().await?;
        let mut opening = client.publisher();
        if args.receipt {
            opening = opening.tell_versions();
        }
        let outcome = publish(&opening.await?, message, source).await;
        client.close().await;
        outcome
    });
    if let Some(id) = trace {
        // A rejected message has the trace that tells most.
        super::trace::follow(&connection.admin()?, &id.to_string())?;
    }
    outcome
}

/// The whole of a file, or of standard input for `-`.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut all = Vec::new();
        io::stdin().lock().read_to_end(&mut all).context("cannot read standard input")?;
        return Ok(all);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What was typed, `-` for standard input; or what is in the file; or nothing.
pub(super) fn payload(body: Option<&str>, file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    match (body, file) {
        (Some("-"), _) => read(Path::new("-")),
        (Some(body), _) => Ok(body.as_bytes().to_vec()),
        (None, Some(file)) => read(file),
        (None, None) => Ok(Vec::new()),
    }
}

/// The message; of `--lines`, without its payload.
fn message(args: &Args) -> anyhow::Result<Message> {
    let payload = payload(args.body.as_deref(), args.file.as_deref())?;
    let mut headers = HeadersBuilder::default();
    for (name, value) in &args.headers {
        headers.set(name, value);
    }
    if let Some(at) = args.deliver_at {
        headers.set(DELIVER_AT, at.to_string());
    }
    let mut message = Message::new(args.topic.clone(), payload);
    message.headers = headers.build()?;
    message.key = args.key.clone().map(Into::into);
    message.message_id = args.id.clone().map(Into::into);
    message.ttl = args.ttl;
    message.delay = args.delay;
    message.priority = args.priority;
    Ok(message)
}

/// What is published.
enum Source {
    /// The message, so many times.
    Times(u64),
    /// The message with each line of standard input as its payload.
    Lines,
}

/// A message on its way, and the line it came from.
type OnItsWay = (u64, Confirm);

/// Publishes ahead while earlier confirms are awaited and printed, in order.
async fn publish(publisher: &Publisher, message: Message, source: Source) -> anyhow::Result<()> {
    let (sent, confirms) = mpsc::channel::<OnItsWay>(WINDOW);
    let send = async move {
        match source {
            Source::Times(count) => {
                for n in 1..=count {
                    let confirm = publisher.publish(message.clone()).await?;
                    if sent.send((n, confirm)).await.is_err() {
                        break;
                    }
                }
            }
            Source::Lines => {
                let mut lines = read_lines();
                let mut n = 0;
                while let Some(line) = lines.recv().await {
                    n += 1;
                    let confirm =
                        publisher.publish(Message { payload: line?.into(), ..message.clone() }).await?;
                    if sent.send((n, confirm)).await.is_err() {
                        break;
                    }
                }
            }
        }
        anyhow::Ok(())
    };
    let out = BufWriter::new(io::stdout().lock());
    let (sent, printed) = tokio::join!(send, print(confirms, out));
    // A failure to print (nobody reads any more) ends the sending too, and is the reason to give.
    printed.and(sent)
}

/// Prints a line for each confirmed message, as soon as it is.
async fn print(mut confirms: mpsc::Receiver<OnItsWay>, mut out: impl Write) -> anyhow::Result<()> {
    let (mut rejected, mut unrouted) = (0u64, 0u64);
    loop {
        let next = match confirms.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                out.flush()?;
                confirms.recv().await
            }
        };
        let Some((n, confirm)) = next else { break };
        let mut confirm = pin!(confirm);
        let early = std::future::poll_fn(|cx| Poll::Ready(confirm.as_mut().poll(cx))).await;
        let receipt = match early {
            Poll::Ready(receipt) => receipt,
            Poll::Pending => {
                out.flush()?;
                confirm.as_mut().await
            }
        };
        let versions = by(&confirm.versions());
        match receipt {
            Ok(Confirmed::Stored(stored)) => {
                unrouted += u64::from(stored.entries == 0);
                writeln!(out, "{}{versions}", ids(stored))?;
            }
            Ok(Confirmed::Duplicate(stored)) => {
                writeln!(out, "{} duplicate", stored.map_or("-".into(), ids))?;
            }
            Err(PublishError::Rejected(rejection)) => {
                rejected += 1;
                output::note(format_args!("message {n}: {}{versions}", reason(&rejection)));
            }
            Err(error) => {
                out.flush()?;
                return Err(anyhow::Error::from(error).context(format!("message {n}")));
            }
        }
    }
    out.flush()?;
    if unrouted > 0 {
        output::note(format_args!(
            "{unrouted} stored nowhere: no queue is bound to the topic, or a pipeline dropped it"
        ));
    }
    match rejected {
        0 => Ok(()),
        1 => bail!("1 message was rejected"),
        _ => bail!("{rejected} messages were rejected"),
    }
}

/// The lines of standard input, without their ends. A thread of its own reads them: a read cannot be cancelled.
fn read_lines() -> mpsc::Receiver<anyhow::Result<Vec<u8>>> {
    let (lines, received) = mpsc::channel(WINDOW);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            let read = match read {
                Ok(0) => return,
                Ok(_) if !line.ends_with(b"\n") && line.len() as u64 == LINE_BYTES_MAX => {
                    Err(anyhow::anyhow!("a line has over {LINE_BYTES_MAX} bytes"))
                }
                Ok(_) => {
                    if line.ends_with(b"\n") {
                        line.pop();
                    }
                    Ok(line)
                }
                Err(error) => Err(anyhow::Error::from(error).context("cannot read standard input")),
            };
            let last = read.is_err();
            if lines.blocking_send(read).is_err() || last {
                return;
            }
        }
    });
    received
}

/// The ids of what was stored; `-` when nothing is bound to the topic.
fn ids(stored: Stored) -> String {
    match stored.entries {
        0 => "-".into(),
        _ => stored.ids().map(|id| id.to_string()).collect::<Vec<_>>().join(" "),
    }
}

/// The versions that handled a message, as they are printed behind its id.
fn by(versions: &[PipelineVersion]) -> String {
    versions.iter().map(|version| format!(" {version}")).collect()
}

fn reason(rejection: &Rejection) -> String {
    let by = rejection.stage.as_ref().map(|stage| format!(" by {stage}")).unwrap_or_default();
    let again =
        rejection.retry_after_ms.map(|ms| format!(" (try again in {})", units::show_duration(ms.into())));
    format!("rejected{by}: {}{}", rejection.reason, again.unwrap_or_default())
}
