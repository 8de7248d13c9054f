//! `wharf schedule`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Map;
use wharf_admin::message::MessageJson;
use wharf_admin::schedule::{Schedule, ScheduleSpec};
use wharf_protocol::{HeadersBuilder, Message, Name, Topic};

use crate::admin::path;
use crate::commands::publish;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units;

/// Publishes messages again and again
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schedule add daily-report '0 9 * * MON-FRI' reports.daily go --zone Europe/Berlin
  wharf schedule ls")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Box<Add>),
    Ls(List),
    Show(Show),
    Pause(Pause),
    Resume(Resume),
    Rm(Remove),
}

/// Puts a schedule, or replaces the one of that name
///
/// A cron expression has five fields: minute, hour, day of month, month, day of week; a sixth in front is seconds.
/// `L` is the last day, `MON#1` the first Monday, `15W` the weekday nearest to the 15th.
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("payload").required(true),
    after_help = "\
Examples:
  wharf schedule add daily-report '0 9 * * MON-FRI' reports.daily go --zone Europe/Berlin
  wharf schedule add heartbeat '*/10 * * * * *' health.ping ping --ttl 10s
  wharf schedule add month-end '0 18 L * *' books.close --file close.json -H kind=month

Each occurrence is published once, as if by `wharf pub`, with the headers wharf-schedule and wharf-scheduled-at. Of
those that were missed while the broker was down, the last one is published, late."
)]
struct Add {
    /// Its name
    name: Name,
    /// When
    #[arg(value_name = "CRON", allow_hyphen_values = true)]
    cron: String,
    /// Where to publish
    topic: Topic,
    /// The payload; `-` reads it from standard input
    #[arg(group = "payload")]
    body: Option<String>,
    /// Reads the payload from a file
    #[arg(long, value_name = "FILE", group = "payload")]
    file: Option<PathBuf>,
    /// By which clock: the IANA name of a time zone [default: UTC]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = units::header)]
    headers: Vec<(String, String)>,
    /// Messages with the same key keep their order
    #[arg(long)]
    key: Option<String>,
    /// How long each occurrence may still be delivered
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    ttl: Option<Duration>,
    /// How long each occurrence is held back before it is delivered
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    delay: Option<Duration>,
    /// 0 to 31; higher ones are delivered first
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=31))]
    priority: u8,
}

/// Lists the schedules
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schedule ls
  wharf schedule ls -o json | jq -r '.[] | select(.problem) | .name'")]
struct List {
    #[command(flatten)]
    output: Output,
}

/// Shows a schedule
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schedule show daily-report")]
struct Show {
    /// Its name
    name: Name,
    #[command(flatten)]
    output: Output,
}

/// Stops a schedule until it is resumed
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schedule pause daily-report")]
struct Pause {
    /// Its name
    name: Name,
}

/// Lets a paused schedule go on; what the pause covered is not made up for
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schedule resume daily-report")]
struct Resume {
    /// Its name
    name: Name,
}

/// Removes a schedule; what it has published stays
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schedule rm daily-report")]
struct Remove {
    /// Its name
    name: Name,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Add(add) => {
            let spec = add.spec()?;
            let schedule: Schedule = admin.put(&path(["v1", "schedules", add.name.as_str()]), &spec)?;
            output::line(format_args!("schedule {} is there; {}", schedule.name, next(&schedule)))
        }
        Command::Ls(list) => {
            let schedules: Vec<Schedule> = admin.get(&path(["v1", "schedules"]))?;
            let titles = ["NAME", "CRON", "ZONE", "TOPIC", "NEXT", "LAST"];
            output::list(list.output, &schedules, &titles, |schedule| {
                let last = schedule.last.clone().unwrap_or_else(|| "-".into());
                let coming = match (&schedule.problem, &schedule.next) {
                    (Some(problem), _) => format!("failed: {problem}"),
                    (None, Some(next)) => next.clone(),
                    (None, None) => "paused".into(),
                };
                let Schedule { name, cron, time_zone, message, .. } = schedule.clone();
                vec![name, cron, time_zone, message.topic, coming, last]
            })
        }
        Command::Show(show) => {
            let schedule: Schedule = admin.get(&path(["v1", "schedules", show.name.as_str()]))?;
            let rows = rows(&schedule);
            output::show(show.output, &schedule, rows)
        }
        Command::Pause(pause) => {
            let to = path(["v1", "schedules", pause.name.as_str(), "pause"]);
            let schedule: Schedule = admin.post(&to, &Map::new())?;
            output::line(format_args!("schedule {} rests", schedule.name))
        }
        Command::Resume(resume) => {
            let to = path(["v1", "schedules", resume.name.as_str(), "resume"]);
            let schedule: Schedule = admin.post(&to, &Map::new())?;
            output::line(format_args!("schedule {} goes on; {}", schedule.name, next(&schedule)))
        }
        Command::Rm(remove) => {
            admin.delete(&path(["v1", "schedules", remove.name.as_str()]), &[])?;
            output::line(format_args!("schedule {} is gone", remove.name))
        }
    }
}

impl Add {
    fn spec(&self) -> anyhow::Result<ScheduleSpec> {
        let mut headers = HeadersBuilder::default();
        for (name, value) in &self.headers {
            headers.set(name, value);
        }
        let payload = publish::payload(self.body.as_deref(), self.file.as_deref())?;
        let mut message = Message::new(self.topic.clone(), payload);
        message.headers = headers.build()?;
        message.key = self.key.clone().map(Into::into);
        message.ttl = self.ttl;
        message.delay = self.delay;
        message.priority = self.priority;
        let message = MessageJson::from(&message);
        Ok(ScheduleSpec { cron: self.cron.clone(), time_zone: self.zone.clone(), message })
    }
}

fn next(schedule: &Schedule) -> String {
    match &schedule.next {
        Some(next) => format!("next at {next} ({}, {})", schedule.description, schedule.time_zone),
        None => "paused".into(),
    }
}

fn rows(schedule: &Schedule) -> Vec<(&'static str, String)> {
    let message = &schedule.message;
    let mut rows = vec![
        ("name", schedule.name.clone()),
        ("when", format!("{} ({})", schedule.cron, schedule.description)),
        ("time zone", schedule.time_zone.clone()),
        ("topic", message.topic.clone()),
        ("next", schedule.next.clone().unwrap_or_else(|| "paused".into())),
        ("last", schedule.last.clone().unwrap_or_default()),
        ("since", schedule.since.clone()),
        ("by", schedule.by.clone()),
        ("problem", schedule.problem.clone().unwrap_or_default()),
    ];
    // As `pub` was told it: what is not text is base64.
    rows.push(("payload", message.payload.clone()));
    rows
}
