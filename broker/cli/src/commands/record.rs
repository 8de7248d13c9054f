//! `wharf record`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args as ClapArgs;
use serde::Deserialize;
use wharf_admin::recording::{COUNT_MAX, WAIT_MS_MAX};
use wharf_protocol::Name;

use crate::admin::path;
use crate::connection::Connection;
use crate::output;
use crate::units::{self, show_count};

/// Records messages as they enter a stage of a running pipeline, and what it makes of them
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf record orders -n 100 -o orders.rec
  wharf record orders/check -n 1000 --for 1m -o check.rec
  wharf plugin test check.wasm --recording check.rec

Payloads and headers are in the file as they are. Messages go on undisturbed; those that come faster than they are
written are left out, and their number is told.")]
pub(crate) struct Args {
    /// The pipeline, and its stage [default: the first]
    #[arg(value_name = "PIPELINE[/STAGE]")]
    of: Of,
    /// Ends after this many messages
    #[arg(short, value_name = "N", default_value = "100", value_parser = count)]
    n: usize,
    /// Ends after this time, whatever came
    #[arg(long = "for", value_name = "DURATION", value_parser = wait, default_value = "30s")]
    wait: Duration,
    /// Where to write the recording
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Debug)]
struct Of {
    pipeline: Name,
    stage: Option<Name>,
}

impl FromStr for Of {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pipeline, stage) = match text.split_once('/') {
            Some((pipeline, stage)) => (pipeline, Some(stage)),
            None => (text, None),
        };
        let named = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
        Ok(Self { pipeline: named(pipeline)?, stage: stage.map(named).transpose()? })
    }
}

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "a whole number".to_owned())?;
    if (1..=COUNT_MAX).contains(&count) { Ok(count) } else { Err(format!("1 to {COUNT_MAX}")) }
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = units::duration(text)?;
    let max = Duration::from_millis(WAIT_MS_MAX);
    if wait <= max { Ok(wait) } else { Err(format!("at most {}s", max.as_secs())) }
}

pub(crate) fn run(args: &Args, connection: &Connection) -> anyhow::Result<()> {
    let path = path(["v1", "pipelines", args.of.pipeline.as_str(), "record"]);
    let (count, wait_ms) = (args.n.to_string(), args.wait.as_millis().to_string());
    let mut query = vec![("count", count.as_str()), ("wait_ms", wait_ms.as_str())];
    query.extend(args.of.stage.as_ref().map(|stage| ("stage", stage.as_str())));
    output::note(format_args!(
        "recording {}, for at most {}s",
        show_count(args.n as u64, "message"),
        args.wait.as_secs()
    ));
    let recording = connection.admin()?.post_for_bytes(&path, &query)?;
    let messages = recording.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
    let file = args.output.display();
    ensure!(
        messages > 0,
        "no message came to {} in {} ms, and {file} is not written; record while some come, or longer (--for 60s)",
        args.of.pipeline,
        args.wait.as_millis()
    );
    std::fs::write(&args.output, &recording).with_context(|| format!("cannot write {file}"))?;
    output::line(format_args!("{file}: {}", show_count(messages as u64, "message")))?;
    let missed = missed(&recording);
    if missed > 0 {
        output::note(format_args!(
            "{} came faster than they were written, and are not in it",
            show_count(missed, "more message")
        ));
    }
    Ok(())
}

/// How many messages a recording misses, by its last line.
fn missed(recording: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Last {
        #[serde(default)]
        missed: u64,
    }
    let last = recording.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    last.and_then(|line| serde_json::from_slice(line).ok()).map_or(0, |last: Last| last.missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_is_missed() {
        assert_eq!(missed(b"{\"wharf-recording\":1}\n{\"now_ms\":7}\n{\"now_ms\":8,\"missed\":650}\n"), 650);
        assert_eq!(missed(b"{\"wharf-recording\":1}\n{\"now_ms\":7,\"missed\":650}\n{\"now_ms\":8}\n"), 0);
        assert_eq!(missed(b""), 0);
    }
}
