//! `wharf stream read`.

use clap::Args as ClapArgs;
use wharf_client::{ConsumeOptions, ReadOptions};
use wharf_protocol::{Name, Start};

use crate::commands::subscribe::{Format, interrupted, print_placed};
use crate::connection::Connection;

/// Reads a stream, alone or as a member of a group
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream read events                                 from the beginning, and what comes
  wharf stream read events --from new
  wharf stream read events --from 2026-01-31T09:00:00Z --until-end -o json
  wharf stream read events --from 4711 --partition 2 -n 10
  wharf stream read events --until-end --original-pace     as it was stored, with its pauses
  wharf stream read events --group billing                 goes on where the group is

A member acknowledges a message once it is printed.")]
pub(crate) struct Read {
    /// The stream's name
    stream: Name,
    /// Where to begin: `first`, `last`, `new`, an offset, or a time like 2026-01-31T09:00:00Z; a group that is there
    /// goes on where it is
    #[arg(long, value_name = "PLACE", default_value = "first")]
    from: Start,
    /// As a member of this group, which is made when there is none
    #[arg(long, value_name = "NAME", conflicts_with_all = ["partitions", "until_end", "original_pace"])]
    group: Option<Name>,
    /// Of this partition alone; may be given several times
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<u16>,
    /// Ends after what is there now
    #[arg(long)]
    until_end: bool,
    /// With the pauses with which the messages were stored
    #[arg(long)]
    original_pace: bool,
    /// Ends after this many messages
    #[arg(short, value_name = "N")]
    n: Option<u64>,
    /// How to print a message
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "pretty")]
    output: Format,
}

pub(super) fn run(args: Read, connection: &Connection) -> anyhow::Result<()> {
    crate::commands::runtime()?.block_on(async {
        let client = connection.client().await?;
        let outcome = read(&client, &args).await;
        client.close().await;
        outcome
    })
}

async fn read(client: &wharf_client::Client, args: &Read) -> anyhow::Result<()> {
    let stream = client.stream(args.stream.as_str())?;
    let mut consumer = match &args.group {
        Some(group) => {
            let options = ConsumeOptions { limit: args.n, ..ConsumeOptions::default() };
            stream.group(group.as_str(), args.from, options).await?
        }
        None => {
            let options = ReadOptions {
                start: args.from,
                partitions: args.partitions.clone(),
                until_end: args.until_end,
                original_pace: args.original_pace,
                limit: args.n,
                ..ReadOptions::default()
            };
            stream.read(options).await?
        }
    };
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    loop {
        let delivery = tokio::select! {
            delivery = consumer.next() => delivery,
            () = &mut interrupted => None,
        };
        let Some(delivery) = delivery else { break };
        print_placed(args.output, &delivery)?;
        drop(delivery.ack());
    }
    consumer.flush().await;
    match consumer.end() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
