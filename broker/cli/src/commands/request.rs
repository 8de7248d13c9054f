//! `wharf request` and `wharf reply`.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use wharf_client::{ConsumeOptions, Delivery};
use wharf_protocol::{QueueName, Topic};

use crate::connection::Connection;
use crate::output;
use crate::units;

use super::subscribe::interrupted;

/// Requests that are answered at once.
const PREFETCH: u32 = 16;

/// Asks, and prints the answer
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf request prices apple
  wharf request prices apple --timeout 500ms
  wharf request prices - < question.json

It fails at once when nobody is listening.")]
pub(crate) struct RequestArgs {
    /// The topic that is asked
    topic: Topic,
    /// The question; `-` reads it from standard input
    body: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    timeout: Duration,
}

/// Answers the requests that come to a queue
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("how").required(true),
    after_help = "\
Examples:
  wharf reply prices --echo
  wharf reply prices --exec 'tr a-z A-Z'
  wharf reply prices --exec ./price.sh -n 10

Several that answer one queue share its requests. A program that fails leaves its request for another try."
)]
pub(crate) struct ReplyArgs {
    /// The queue where the requests come
    queue: QueueName,
    /// Answers with the question
    #[arg(long, group = "how")]
    echo: bool,
    /// Runs a shell command for each request, with the question on its standard input; the answer is what it prints
    #[arg(long, value_name = "COMMAND", group = "how")]
    exec: Option<String>,
    /// Ends after this many requests
    #[arg(short, value_name = "N")]
    n: Option<u64>,
}

pub(crate) fn request(args: RequestArgs, connection: &Connection) -> anyhow::Result<()> {
    let body = match args.body.as_str() {
        "-" => super::publish::read(std::path::Path::new("-"))?,
        text => text.as_bytes().to_vec(),
    };
    super::runtime()?.block_on(async {
        let client = connection.client().await?;
        let answer = client.request(args.topic.as_str(), body, args.timeout).await;
        client.close().await;
        let mut out = std::io::stdout().lock();
        out.write_all(&answer?.payload)?;
        out.write_all(b"\n")?;
        Ok(())
    })
}

pub(crate) fn reply(args: ReplyArgs, connection: &Connection) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        let client = connection.client().await?;
        let options = ConsumeOptions { prefetch: PREFETCH, limit: args.n, ..ConsumeOptions::default() };
        let mut requests = client.consume(args.queue.as_str(), options).await?;
        let interrupted = interrupted()?;
        tokio::pin!(interrupted);
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = &mut interrupted => None,
            };
            let Some(request) = request else { break };
            answer(request, args.exec.as_deref()).await?;
        }
        requests.flush().await;
        let end = requests.end();
        client.close().await;
        end.map_or(Ok(()), |error| Err(error.into()))
    })
}

/// Answers one request. The answer is stored before the request is gone: in between, it is asked again.
async fn answer(request: Delivery, command: Option<&str>) -> anyhow::Result<()> {
    if request.message.reply_to.is_none() {
        output::note(format!("{} asks for no answer; left to the dead letters", request.id));
        request.dead_letter("it asks for no answer").await?;
        return Ok(());
    }
    let answer = match command {
        None => Ok(request.message.payload.to_vec()),
        Some(command) => output_of(command, &request.message.payload).await,
    };
    match answer {
        Ok(answer) => {
            request.reply(answer).await?.await?;
            output::line(format!("{} {}", request.id, request.message.topic))?;
            request.ack().await?;
        }
        Err(error) => {
            output::complain(&error);
            request.nack(None).await?;
        }
    }
    Ok(())
}

async fn output_of(command: &str, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn().with_context(|| format!("cannot run `{command}`"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_vec();
    let writing = tokio::spawn(async move {
        // A command that does not read its input may be gone already.
        let _ = stdin.write_all(&input).await;
    });
    let output = child.wait_with_output().await?;
    writing.await?;
    if !output.status.success() {
        bail!("`{command}` ended with {}", output.status);
    }
    Ok(output.stdout)
}
