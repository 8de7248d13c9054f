//! `wharf lookup` and `wharf schema`: what is lent to plugins by name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::lent::Lent;
use wharf_protocol::Name;

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::show_count;

/// Reference tables that plugins look things up in
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf lookup put prices prices.csv
  wharf lookup ls")]
pub(crate) struct LookupArgs {
    #[command(subcommand)]
    command: Lookup,
}

/// Schemas that plugins check messages by
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf schema put order order.schema.json
  wharf schema ls")]
pub(crate) struct SchemaArgs {
    #[command(subcommand)]
    command: Schema,
}

#[derive(Debug, Subcommand)]
enum Lookup {
    /// Puts a table, or its next version: a JSON object, or a .csv file of `key,value` a line
    #[command(after_help = "\
Examples:
  wharf lookup put prices prices.csv
  wharf lookup put customers customers.json

Running stages see a new version at their next call. A stage is granted it as grants = [\"lookup:prices\"].")]
    Put(Put),
    /// Lists the tables
    #[command(after_help = "\
Examples:
  wharf lookup ls")]
    Ls(List),
    /// Shows a table
    #[command(after_help = "\
Examples:
  wharf lookup show prices")]
    Show(Show),
    /// Removes a table that no pipeline is granted
    #[command(after_help = "\
Examples:
  wharf lookup rm prices")]
    Rm(Remove),
}

#[derive(Debug, Subcommand)]
enum Schema {
    /// Puts a schema, or its next version, in whatever language its plugin reads
    #[command(after_help = "\
Examples:
  wharf schema put order order.schema.json
  wharf schema put order order.proto

Running stages see a new version at their next call. A stage is granted it as grants = [\"schema:order\"].")]
    Put(Put),
    /// Lists the schemas
    #[command(after_help = "\
Examples:
  wharf schema ls")]
    Ls(List),
    /// Shows a schema
    #[command(after_help = "\
Examples:
  wharf schema show order")]
    Show(Show),
    /// Removes a schema that no pipeline is granted
    #[command(after_help = "\
Examples:
  wharf schema rm order")]
    Rm(Remove),
}

#[derive(Debug, ClapArgs)]
struct Put {
    /// Its name
    name: Name,
    /// The file with its content
    file: PathBuf,
}

#[derive(Debug, ClapArgs)]
struct List {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// Its name
    name: Name,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, ClapArgs)]
struct Remove {
    /// Its name
    name: Name,
}

/// What both commands do.
enum Verb {
    Put(Put),
    Ls(List),
    Show(Show),
    Rm(Remove),
}

pub(crate) fn lookup(args: LookupArgs, connection: &Connection) -> anyhow::Result<()> {
    let verb = match args.command {
        Lookup::Put(put) => Verb::Put(put),
        Lookup::Ls(list) => Verb::Ls(list),
        Lookup::Show(show) => Verb::Show(show),
        Lookup::Rm(remove) => Verb::Rm(remove),
    };
    run("lookups", "table", verb, connection)
}

pub(crate) fn schema(args: SchemaArgs, connection: &Connection) -> anyhow::Result<()> {
    let verb = match args.command {
        Schema::Put(put) => Verb::Put(put),
        Schema::Ls(list) => Verb::Ls(list),
        Schema::Show(show) => Verb::Show(show),
        Schema::Rm(remove) => Verb::Rm(remove),
    };
    run("schemas", "schema", verb, connection)
}

fn run(noun: &str, word: &str, verb: Verb, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    let at = |name: &Name| path(["v1", noun, name.as_str()]);
    match verb {
        Verb::Put(Put { name, file }) => {
            let content = fs::read(&file).with_context(|| file.display().to_string())?;
            let lent: Lent = admin.put_bytes(&at(&name), &[], content_type(&file), &content)?;
            let keys = lent.keys.map(|keys| format!(", {}", show_count(keys, "key"))).unwrap_or_default();
            output::line(format_args!("{word} {name} is at version {}{keys}", lent.version))
        }
        Verb::Ls(List { output }) => {
            let all: Vec<Lent> = admin.get(&path(["v1", noun]))?;
            output::list(output, &all, &["NAME", "VERSION", "KEYS", "BYTES", "USED BY", "PUT AT"], |lent| {
                let keys = lent.keys.map_or_else(|| "-".to_owned(), |keys| keys.to_string());
                let Lent { name, version, bytes, used_by, at, .. } = lent.clone();
                vec![name, version.to_string(), keys, bytes.to_string(), used_by.join(", "), at]
            })
        }
        Verb::Show(Show { name, output }) => {
            let lent: Lent = admin.get(&at(&name))?;
            let rows = vec![
                ("name", lent.name.clone()),
                ("version", lent.version.to_string()),
                ("format", lent.format.clone()),
                ("keys", lent.keys.map(|keys| keys.to_string()).unwrap_or_default()),
                ("bytes", lent.bytes.to_string()),
                ("digest", lent.digest.clone()),
                ("put", format!("{} by {}", lent.at, lent.by)),
                ("used by", lent.used_by.join(", ")),
                ("problem", lent.problem.clone().unwrap_or_default()),
            ];
            output::show(output, &lent, rows)
        }
        Verb::Rm(Remove { name }) => {
            admin.delete(&at(&name), &[])?;
            output::line(format_args!("{word} {name} is gone"))
        }
    }
}

fn content_type(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => "text/csv",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
