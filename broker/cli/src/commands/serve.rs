//! `wharf serve`: load, build, serve, drain.

mod config;
mod credentials;

use std::fs;
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
#[cfg(feature = "bundled-plugins")]
use bytes::Bytes;
use clap::{Args as ClapArgs, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;
use wharf_node::Node;
#[cfg(feature = "bundled-plugins")]
use wharf_node::{KnownPlugin, PluginView, Principal};
use wharf_otlp::Exporter;
use wharf_quic::{Certificate, Door};

use crate::connection::Connection;
use crate::output;
#[cfg(feature = "bundled-plugins")]
use crate::units::show_count;
use config::{Config, Overrides};
use credentials::{Credentials, Place};

/// Runs a broker
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf serve                                        data in ./wharf-data, loopback only
  wharf serve --data /var/lib/wharf --quic 0.0.0.0:6420
  wharf serve --config wharf.toml
  wharf serve --quic 127.0.0.1:0 --admin 127.0.0.1:0   any free ports, which it prints

No configuration is needed. At its first start it makes a certificate, an administrator's token and a context
file, by which the other commands of this user reach it. It stops on SIGINT or SIGTERM when what it has begun is
done; a second one ends it at once.

A configuration file has these keys, each with a default:
  data = \"./wharf-data\"
  drain = \"10s\"
  quic = { listen = \"127.0.0.1:6420\", names = [] }      # or certificate, key
  admin.listen = \"127.0.0.1:6421\"
  limits = { message = \"1MiB\", plugin = \"32MiB\", disk-free = \"256MiB\", hops = 8 }
  log.segment = \"64MiB\"
  plugins.threads = 0
  trace = { sample = 0.0, per-second = 100, keep = 10000, keep-bytes = \"64MiB\", follow-sampled = false }
  [[principals]]
  name = \"shop\"
  token-sha256 = \"…\"                                 # printf %s \"$TOKEN\" | sha256sum
  publish = [\"orders.#\"]
  consume = [\"orders\"]")]
pub(crate) struct Args {
    /// A configuration file, TOML
    #[arg(long, short, value_name = "FILE", env = "WHARF_CONFIG")]
    config: Option<PathBuf>,
    /// Where the data is [default: ./wharf-data]
    #[arg(long, value_name = "DIR", env = "WHARF_DATA")]
    data: Option<PathBuf>,
    /// Where clients connect, UDP [default: 127.0.0.1:6420]
    #[arg(long, value_name = "ADDRESS", env = "WHARF_QUIC")]
    quic: Option<SocketAddr>,
    /// Where the admin API listens, TCP [default: 127.0.0.1:6421]
    #[arg(long, value_name = "ADDRESS", env = "WHARF_ADMIN")]
    admin: Option<SocketAddr>,
    /// Which log lines to write: a level, or levels of parts, as in `warn,wharf_node=debug`
    #[arg(long, value_name = "FILTER", env = "WHARF_LOG", default_value = "info")]
    log: String,
    /// How to write log lines
    #[arg(long, value_name = "FORMAT", env = "WHARF_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    start_log(&args)?;
    let overrides = Overrides { data: args.data, quic: args.quic, admin: args.admin };
    let config = Config::load(args.config.as_deref(), overrides)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&config, connection))
}

/// Log lines go to standard error.
fn start_log(args: &Args) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn serve(config: &Config, connection: &Connection) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let credentials = Credentials::open(&config.data)?;
    let data = config.data.canonicalize().context("the data folder")?;
    let node = Node::start(config.node(credentials.administrator())?).await?;
    register_bundled(&node).await?;
    let exporter =
        config.otlp().map(|otlp| Exporter::start(&node, otlp)).transpose().context("trace.otlp")?;

    let certificate = certificate(config, &data)?;
    let quic = Door::bind(config.door(certificate.clone(), &node), node.clone()).await;
    let quic = quic.context("--quic 127.0.0.1:0 takes any free port")?;
    let admin = TcpListener::bind(config.admin).await;
    let admin = admin.with_context(|| cannot_listen("admin", config.admin))?;
    let place = Place {
        data,
        address: reachable(quic.address()).to_string(),
        admin: format!("http://{}", reachable(admin.local_addr()?)),
        certificate: certificate.chain_pem,
    };
    let context = credentials.write_contexts(&place, connection.path())?;
    let (stop, stopped) = oneshot::channel::<()>();
    let admin = tokio::spawn(wharf_admin::serve(node.clone(), admin, async { drop(stopped.await) }));
    announce(&place, &context)?;

    let outcome = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping; a second signal ends it at once");
            Ok(())
        }
        reason = node.failed() => Err(anyhow!("the broker stopped by itself: {reason}")),
    };
    drop(stop);
    tokio::select! {
        () = drain(&node, &quic, admin, config, exporter) => outcome,
        _ = signals.next() => bail!("ended before what was begun was done; it is recovered at the next start"),
    }
}

/// Lets the doors finish, and the node after them.
async fn drain(
    node: &Node,
    quic: &Door,
    admin: JoinHandle<io::Result<()>>,
    config: &Config,
    exporter: Option<Exporter>,
) {
    let doors = async {
        let ((), admin) = tokio::join!(quic.close(), admin);
        if let Err(error) = admin.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "the admin API did not close well");
        }
    };
    if tokio::time::timeout(config.drain(), doors).await.is_err() {
        tracing::warn!("clients still had something under way");
    }
    node.shutdown().await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    tracing::info!("stopped");
}

/// The broker's own certificate where one is configured, else the one in the data folder, made at first start.
fn certificate(config: &Config, data: &Path) -> anyhow::Result<Certificate> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    if let Some((chain, key)) = config.certificate()? {
        return Ok(Certificate { chain_pem: read(chain)?, key_pem: read(key)? });
    }
    let (chain, key) = (data.join("certificate.pem"), data.join("key.pem"));
    if !chain.exists() {
        let made = Certificate::self_signed(config.names())?;
        // The chain comes last: where it is, the key is whole.
        credentials::write_private(&key, &made.key_pem)?;
        credentials::write_private(&chain, &made.chain_pem)?;
    }
    Ok(Certificate { chain_pem: read(&chain)?, key_pem: read(&key)? })
}

/// Takes the plugins that come with Wharf in, by name and version, where they are missing.
#[cfg(feature = "bundled-plugins")]
async fn register_bundled(node: &Node) -> anyhow::Result<()> {
    let system = Principal::system();
    let known = node.plugins(&system).await?;
    let mut registered = 0;
    for plugin in wharf_bundle::BUNDLED {
        let same =
            |view: &PluginView| view.name.as_str() == plugin.name && view.version.as_str() == plugin.version;
        if known.iter().any(same) {
            continue;
        }
        let known = KnownPlugin {
            name: plugin.name.parse()?,
            version: plugin.version.parse()?,
            kinds: vec![plugin.kind.to_owned()],
            summary: plugin.summary.to_owned(),
            wasm: Bytes::from_static(plugin.wasm),
        };
        node.register_plugin(known)
            .await
            .with_context(|| format!("the plugin {} that comes with wharf", plugin.name))?;
        registered += 1;
        let (name, version) = (plugin.name, plugin.version);
        tracing::debug!(name, version, "registered a plugin that comes with wharf");
    }
    if registered > 0 {
        tracing::info!("registered {} that come with wharf", show_count(registered, "plugin"));
    }
    Ok(())
}

#[cfg(not(feature = "bundled-plugins"))]
async fn register_bundled(_: &Node) -> anyhow::Result<()> {
    Ok(())
}

fn announce(place: &Place, context: &Path) -> anyhow::Result<()> {
    let Place { data, address, admin, .. } = place;
    output::line(format_args!(
        "\
wharf {version} is ready
  clients  {address} (QUIC)
  admin    {admin}
  data     {data}
  context  {context}

Commands of this user on this machine need no flags:
  wharf queue add orders && wharf bind 'orders.#' orders
  wharf pub orders.eu.created '{{\"total\": 12}}'
  wharf sub orders -n 1
From elsewhere, copy the context file: wharf --context FILE …",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
        context = context.display(),
    ))
}

/// Where somebody on this machine reaches what listens at `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn cannot_listen(door: &str, address: SocketAddr) -> String {
    format!("cannot listen at {address} (is another wharf running? --{door} 127.0.0.1:0 takes any free port)")
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// The name of the next.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_is_reached_by_loopback() {
        let reach = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(reach("0.0.0.0:6420"), "127.0.0.1:6420");
        assert_eq!(reach("[::]:6420"), "[::1]:6420");
        assert_eq!(reach("10.0.0.1:6420"), "10.0.0.1:6420");
    }
}
