//! `wharf audit`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::audit::{AuditLine, Page, Report};
use wharf_protocol::Timestamp;

use crate::admin::{Admin, path};
use crate::connection::Connection;
use crate::output::{self, Format, Output};
use crate::units::{self, show_count};

/// Shows who asked the broker to change what, and checks that nobody tampered with that
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(List),
    Verify(Verify),
}

/// Lists the changes that were asked for by the admin API, newest first
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf audit ls
  wharf audit ls --who admin --since 1h
  wharf audit ls --target /v1/dead-letters -o json")]
struct List {
    /// Only those that this principal asked for
    #[arg(long)]
    who: Option<String>,
    /// Only those whose path begins so
    #[arg(long, value_name = "PATH")]
    target: Option<String>,
    /// Only those since a moment, or as long ago: 2026-11-22T18:30:00Z, 10m
    #[arg(long, value_name = "TIME", value_parser = units::moment)]
    since: Option<Timestamp>,
    /// At most this many
    #[arg(short, value_name = "N", default_value_t = 50)]
    n: usize,
    #[command(flatten)]
    output: Output,
}

/// Checks the audit log link by link; names the first entry that is not as it was written
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf audit verify
  wharf audit verify --data /var/lib/wharf      reads the files itself, of a broker that runs or does not

It prints the chain of the last entry. Kept elsewhere, that tells later whether the log was cut off or written anew: no
log can tell that by itself.")]
struct Verify {
    /// The broker's data folder: its files are read here, and the broker is not asked
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    match args.command {
        Command::Ls(list) => {
            let titles = ["ENTRY", "AT", "WHO", "FROM", "CHANGE", "STATUS", "BODY"];
            output::list(list.output, &pages(&connection.admin()?, &list)?, &titles, |line| {
                let body = line.body_bytes.filter(|bytes| *bytes > 0).map(units::show_bytes);
                vec![
                    line.seq.to_string(),
                    line.at.clone(),
                    line.who.clone(),
                    line.from.clone(),
                    format!("{} {}", line.method, line.target),
                    line.status.map_or_else(|| "unanswered".to_owned(), |status| status.to_string()),
                    body.unwrap_or_default(),
                ]
            })
        }
        Command::Verify(verify) => {
            let report = match &verify.data {
                None => connection.admin()?.get(&path(["v1", "audit", "verify"]))?,
                Some(data) => {
                    let folder = data.join("audit");
                    let report = wharf_node::verify_audit(&folder);
                    Report::from(report.with_context(|| format!("cannot read {}", folder.display()))?)
                }
            };
            show(&report, verify.output)
        }
    }
}

fn show(report: &Report, how: Output) -> anyhow::Result<()> {
    let Report { files, entries, first, last, head, .. } = report;
    match how.output {
        Format::Json => output::json(report)?,
        Format::Table => output::line(format_args!(
            "{} in {} as they were written: {first} to {last}\nhead {head}",
            show_count(*entries, "entry"),
            show_count(*files, "file")
        ))?,
    }
    match &report.problem {
        Some(problem) => bail!("the audit log is not as it was written: {problem}"),
        None => Ok(()),
    }
}

fn pages(admin: &Admin, list: &List) -> anyhow::Result<Vec<AuditLine>> {
    let since = list.since.map(|at| at.0.to_string());
    let mut lines = Vec::new();
    let mut before: Option<String> = None;
    while lines.len() < list.n {
        let limit = (list.n - lines.len()).min(wharf_admin::page::PAGE_MAX).to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(list.who.as_deref().map(|who| ("who", who)));
        query.extend(list.target.as_deref().map(|target| ("target", target)));
        query.extend(since.as_deref().map(|since| ("since", since)));
        query.extend(before.as_deref().map(|before| ("before", before)));
        let page: Page = admin.get_with(&path(["v1", "audit"]), &query)?;
        lines.extend(page.items);
        before = page.next.map(|next| next.to_string());
        if before.is_none() {
            break;
        }
    }
    Ok(lines)
}
