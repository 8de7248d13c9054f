//! What can be typed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    audit, bench, binding, completions, dead_letter, dedup, demo, group, kv, lent, log, pipeline, plugin,
    publish, queue, record, request, schedule, serve, status, stream, subscribe, trace,
};
use crate::connection::Connection;

/// A message broker that you program with WebAssembly components.
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    after_help = "\
Try it, in two terminals:
  wharf serve
  wharf queue add orders && wharf bind 'orders.#' orders
  wharf pub orders.eu.created '{\"total\": 12}'
  wharf sub orders -n 1

`wharf help COMMAND` shows the examples of a command."
)]
pub(crate) struct Wharf {
    /// The file that says where the broker is and carries the credentials: `serve` writes it, the others read it
    /// [default: ~/.config/wharf/context.toml, which the newest `wharf serve` wrote]
    #[arg(long, global = true, env = "WHARF_CONTEXT", value_name = "FILE")]
    context: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Status(status::Args),
    Pub(publish::Args),
    Sub(subscribe::Args),
    Queue(queue::Args),
    Bind(binding::BindArgs),
    Unbind(binding::UnbindArgs),
    Bindings(binding::ListArgs),
    Stream(stream::Args),
    Group(group::Args),
    Schedule(schedule::Args),
    Lookup(lent::LookupArgs),
    Schema(lent::SchemaArgs),
    Kv(kv::Args),
    Plugin(plugin::Args),
    Pipeline(pipeline::Args),
    Record(record::Args),
    Dlq(dead_letter::Args),
    Trace(trace::Args),
    Audit(audit::Args),
    Dedup(dedup::Args),
    Request(request::RequestArgs),
    Reply(request::ReplyArgs),
    Log(log::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    /// Compiles a component read from standard input: the child process of an upload
    #[command(hide = true)]
    CompilePlugin,
    /// Receives what `bench` sends over a bare QUIC stream
    #[command(hide = true)]
    BenchSink,
}

impl Wharf {
    /// Carries the command out.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let connection = Connection::new(self.context);
        match self.command {
            Command::Demo(args) => demo::run(args),
            Command::Serve(args) => serve::run(args, &connection),
            Command::Status(args) => status::run(args, &connection),
            Command::Pub(args) => publish::run(args, &connection),
            Command::Sub(args) => subscribe::run(args, &connection),
            Command::Queue(args) => queue::run(args, &connection),
            Command::Bind(args) => binding::bind(args, &connection),
            Command::Unbind(args) => binding::unbind(args, &connection),
            Command::Bindings(args) => binding::list(args, &connection),
            Command::Stream(args) => stream::run(args, &connection),
            Command::Group(args) => group::run(args, &connection),
            Command::Schedule(args) => schedule::run(args, &connection),
            Command::Lookup(args) => lent::lookup(args, &connection),
            Command::Schema(args) => lent::schema(args, &connection),
            Command::Kv(args) => kv::run(args, &connection),
            Command::Plugin(args) => plugin::run(args, &connection),
            Command::Pipeline(args) => pipeline::run(args, &connection),
            Command::Record(args) => record::run(&args, &connection),
            Command::Dlq(args) => dead_letter::run(args, &connection),
            Command::Audit(args) => audit::run(args, &connection),
            Command::Trace(args) => trace::run(args, &connection),
            Command::Dedup(args) => dedup::run(args, &connection),
            Command::Request(args) => request::request(args, &connection),
            Command::Reply(args) => request::reply(args, &connection),
            Command::Log(args) => return log::run(args),
            Command::Bench(args) => bench::run(args),
            Command::BenchSink => bench::sink(),
            Command::Completions(args) => completions::run(args),
            Command::CompilePlugin => return Ok(wharf_pipeline::compile_plugin_main()),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Wharf::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for each in command.get_subcommands().filter(|each| !each.is_hide_set()) {
                let path = format!("{path} {}", each.get_name());
                if each.has_subcommands() {
                    check(each, &path);
                    continue;
                }
                let help = each.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(path.trim()), "`{path} --help` has no example");
            }
        }
        check(&Wharf::command(), "wharf");
    }

    #[test]
    fn what_the_examples_say_can_be_typed() {
        fn check(command: &clap::Command) {
            for each in command.get_subcommands() {
                let help = each.get_after_help().map(ToString::to_string).unwrap_or_default();
                for line in help.lines().filter_map(|line| line.trim().strip_prefix("wharf ")) {
                    // Up to the remark beside it, or the shell's own syntax: pipes, redirections.
                    let line = line.split("   ").next().unwrap_or_default();
                    let line = line.split([';', '|', '>', '<', '&']).next().unwrap_or_default();
                    let words = shell_words(line);
                    let typed = std::iter::once("wharf".to_owned()).chain(words);
                    if let Err(error) = Wharf::try_parse_from(typed) {
                        panic!("`wharf {line}` is shown in a help text: {error}");
                    }
                }
                check(each);
            }
        }
        check(&Wharf::command());
    }

    /// Words as a shell splits them, as far as the examples need it: single quotes and comments.
    fn shell_words(line: &str) -> Vec<String> {
        let mut words = vec![];
        for (n, part) in line.split('\'').enumerate() {
            if n % 2 == 1 {
                words.push(part.to_owned());
                continue;
            }
            for word in part.split_whitespace() {
                if word == "#" {
                    return words;
                }
                words.push(word.to_owned());
            }
        }
        words
    }
}
