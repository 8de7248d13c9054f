//! The configuration of `wharf serve`: a TOML file, then `WHARF_*` in the environment, then flags.
//!
//! Every key has a default, and an unknown one is an error that shows its line:
//!
//! ```toml
//! data = "./wharf-data"            # --data, WHARF_DATA
//! drain = "10s"                    # how long a stopping broker waits for what it has begun
//!
//! [quic]
//! listen = "127.0.0.1:6420"        # --quic, WHARF_QUIC; UDP
//! names = []                       # what clients call this broker, beside localhost: in the certificate it makes
//! # certificate = "chain.pem"      # its own certificate and key, in place of one made at first start
//! # key = "key.pem"
//!
//! [admin]
//! listen = "127.0.0.1:6421"        # --admin, WHARF_ADMIN; TCP
//!
//! [limits]
//! message = "1MiB"
//! plugin = "32MiB"
//! disk-free = "256MiB"             # with less, publishers wait
//! # memory = "2GiB"                # with more, too; 70 % of what the machine or control group has unless told
//! hops = 8                         # passes through pipelines before a message counts as looping
//!
//! [log]
//! segment = "64MiB"
//!
//! [plugins]
//! threads = 0                      # that run plugins; 0: one a core, and one more
//! deadline = "100ms"               # of a call, where a stage sets none
//! memory = "64MiB"                 # that an instance may have
//! compile-time = "60s"             # that compiling one may take
//! compile-memory = "4GiB"
//! outputs = 16                     # messages that one may become in a pipeline
//! require-signed = false           # take only what a trusted key signed
//! # trusted-keys = { release = "ed25519:…" }   # `wharf plugin keygen` makes them
//!
//! [trace]
//! sample = 0.0                     # the share of all messages that is traced; those that ask for it always are
//! follow-sampled = false           # trace what comes with a `traceparent` that is sampled
//! per-second = 100                 # traces that begin in a second at most
//! keep = 10000                     # traces that are kept at most
//! keep-bytes = "64MiB"
//! # otlp = "http://127.0.0.1:4318"   # a collector that gets them as OpenTelemetry spans
//!
//! [[principals]]                   # beside the administrator, who is made at first start
//! name = "shop"
//! token-sha256 = "…"               # printf %s "$TOKEN" | sha256sum
//! publish = ["orders.#"]
//! consume = ["orders"]
//! subscribe = ["orders.#"]         # topics of which it may keep durable subscriptions
//! quota = { messages-per-second = 1000, connections = 10, queues = 20, stored-bytes = 50000000 }
//! ```

#[cfg(test)]
mod fuzz;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Deserializer, de};
use wharf_node::signature::{PublicKey, TRUSTED_KEYS_MAX, Trust};
use wharf_node::{Identity, Node, OUTPUTS_MAX};
use wharf_quic::Certificate;

use crate::units;

/// What a frame has beside its message.
const FRAME_ROOM_BYTES: usize = 4096;

/// Where the broker listens, where its data is, and what it allows.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) data: PathBuf,
    pub(super) quic: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) file: File,
}

/// A configuration file. What it leaves out has the node's default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    data: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    drain: Option<Duration>,
    quic: Quic,
    admin: Listener,
    limits: Limits,
    log: Log,
    plugins: Plugins,
    trace: Trace,
    principals: Vec<Identity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Quic {
    listen: Option<SocketAddr>,
    names: Vec<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listener {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Limits {
    #[serde(deserialize_with = "bytes")]
    message: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    plugin: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    disk_free: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    memory: Option<u64>,
    hops: Option<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    #[serde(deserialize_with = "bytes")]
    segment: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Plugins {
    threads: Option<usize>,
    #[serde(deserialize_with = "duration")]
    deadline: Option<Duration>,
    #[serde(deserialize_with = "bytes")]
    memory: Option<u64>,
    #[serde(deserialize_with = "duration")]
    compile_time: Option<Duration>,
    #[serde(deserialize_with = "bytes")]
    compile_memory: Option<u64>,
    outputs: Option<usize>,
    require_signed: bool,
    trusted_keys: BTreeMap<String, PublicKey>,
}

impl Plugins {
    /// The bounds on plugins: the node's own, where nothing else is said.
    fn limits(&self) -> anyhow::Result<wharf_node::Limits> {
        let ms = |time: Duration| u64::try_from(time.as_millis());
        let mut limits = wharf_node::Limits::default();
        set(&mut limits.deadline_ms, self.deadline.map(ms).transpose()?);
        set(&mut limits.memory_bytes, self.memory.map(usize::try_from).transpose()?);
        set(&mut limits.compile_ms, self.compile_time.map(ms).transpose()?);
        set(&mut limits.compile_memory_bytes, self.compile_memory);
        if let Some(outputs) = self.outputs
            && !(1..=OUTPUTS_MAX).contains(&outputs)
        {
            bail!("plugins.outputs is {outputs}; a message may become 1 to {OUTPUTS_MAX} in a pipeline");
        }
        set(&mut limits.outputs, self.outputs);
        Ok(limits)
    }

    /// Whose plugins are taken.
    fn trust(&self) -> anyhow::Result<Trust> {
        if self.trusted_keys.len() > TRUSTED_KEYS_MAX {
            bail!("plugins.trusted-keys has {} keys; at most {TRUSTED_KEYS_MAX}", self.trusted_keys.len());
        }
        if self.require_signed && self.trusted_keys.is_empty() {
            bail!("plugins.require-signed takes no plugin at all without plugins.trusted-keys; name one");
        }
        Ok(Trust { keys: self.trusted_keys.clone(), required: self.require_signed })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Trace {
    #[serde(deserialize_with = "share")]
    sample: Option<f64>,
    follow_sampled: Option<bool>,
    per_second: Option<u32>,
    keep: Option<usize>,
    #[serde(deserialize_with = "bytes")]
    keep_bytes: Option<u64>,
    otlp: Option<String>,
}

/// What flags and the environment say; either wins over the file.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) data: Option<PathBuf>,
    pub(super) quic: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}

impl Config {
    /// The configuration in `file`, where one is given, under `overrides`.
    pub(super) fn load(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<Self> {
        let Some(path) = file else {
            return Ok(Self::new(File::default(), overrides));
        };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        Ok(Self::new(file, overrides))
    }

    fn new(file: File, overrides: Overrides) -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            data: overrides.data.or(file.data.clone()).unwrap_or_else(|| "wharf-data".into()),
            quic: overrides.quic.or(file.quic.listen).unwrap_or_else(|| loopback(6420)),
            admin: overrides.admin.or(file.admin.listen).unwrap_or_else(|| loopback(6421)),
            file,
        }
    }

    /// What the node is told. Beside the principals of the file there is `administrator`.
    pub(super) fn node(&self, administrator: Identity) -> anyhow::Result<wharf_node::Config> {
        let mut node = wharf_node::Config::new(&self.data);
        let File { drain, limits, log, plugins, trace, principals, .. } = &self.file;
        node.principals = std::iter::once(administrator).chain(principals.iter().cloned()).collect();
        set(&mut node.message_bytes_max, limits.message.map(usize::try_from).transpose()?);
        set(&mut node.plugin_bytes_max, limits.plugin.map(usize::try_from).transpose()?);
        set(&mut node.disk_free_bytes_min, limits.disk_free);
        node.memory_bytes_max = limits.memory;
        set(&mut node.hops_max, limits.hops);
        set(&mut node.segment_bytes, log.segment.map(u32::try_from).transpose()?);
        set(&mut node.plugin_threads, plugins.threads);
        set(&mut node.trace.sample, trace.sample);
        set(&mut node.trace.follow_sampled, trace.follow_sampled);
        set(&mut node.trace.per_second, trace.per_second);
        set(&mut node.trace.traces_max, trace.keep);
        set(&mut node.trace.bytes_max, trace.keep_bytes);
        node.plugin_limits = plugins.limits()?;
        node.trust = plugins.trust()?;
        set(&mut node.drain, *drain);
        node.compiler = Some(std::env::current_exe().context("cannot tell where this program is")?);
        Ok(node)
    }

    /// Where traces are exported to, where they are.
    pub(super) fn otlp(&self) -> Option<wharf_otlp::Config> {
        self.file.trace.otlp.as_ref().map(wharf_otlp::Config::new)
    }

    /// What the QUIC door is told.
    pub(super) fn door(&self, certificate: Certificate, node: &Node) -> wharf_quic::Config {
        let mut door = wharf_quic::Config::new(self.quic, certificate);
        // The largest message fits a frame.
        door.frame_bytes_max = door.frame_bytes_max.max(node.config().message_bytes_max + FRAME_ROOM_BYTES);
        door
    }

    /// The files of the configured certificate and its key.
    pub(super) fn certificate(&self) -> anyhow::Result<Option<(&Path, &Path)>> {
        match (&self.file.quic.certificate, &self.file.quic.key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => bail!("quic.certificate and quic.key are given together or not at all"),
        }
    }

    /// The names in the certificate that is made at first start, beside those of this machine's loopback.
    pub(super) fn names(&self) -> &[String] {
        &self.file.quic.names
    }

    /// How long a stopping broker waits for what it has begun.
    pub(super) fn drain(&self) -> Duration {
        self.file.drain.unwrap_or(wharf_node::Config::new("").drain)
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// `"64MiB"`, or a plain number of bytes.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bytes {
        Number(u64),
        Text(String),
    }
    match Bytes::deserialize(deserializer)? {
        Bytes::Number(number) => Ok(Some(number)),
        Bytes::Text(text) => units::bytes(&text).map(Some).map_err(de::Error::custom),
    }
}

/// A part of a whole.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let share = f64::deserialize(deserializer)?;
    match (0.0..=1.0).contains(&share) {
        true => Ok(Some(share)),
        false => Err(de::Error::custom(format_args!("a share is 0 to 1, not {share}"))),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::duration(&text).map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file at the head of this one.
    pub(super) fn documented() -> String {
        let lines = include_str!("config.rs").lines().skip_while(|line| !line.contains("```toml")).skip(1);
        lines
            .take_while(|line| !line.contains("```"))
            .map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n")
            .collect()
    }

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        Ok(Config::new(toml::from_str(text)?, Overrides::default()))
    }

    #[test]
    fn nothing_needs_to_be_configured_and_nobody_else_gets_in() {
        let config = parse("").expect("a configuration");
        assert_eq!(config.data, PathBuf::from("wharf-data"));
        assert!(config.quic.ip().is_loopback() && config.admin.ip().is_loopback());
        assert_eq!((config.quic.port(), config.admin.port()), (6420, 6421));
    }

    #[test]
    fn outputs_are_bounded_by_what_a_publication_may_become() {
        let node = |outputs: usize| {
            let config = parse(&format!("[plugins]\noutputs = {outputs}")).expect("a configuration");
            config.node(Identity::administrator("admin", String::new()))
        };
        assert_eq!(node(OUTPUTS_MAX).expect("within").plugin_limits.outputs, OUTPUTS_MAX);
        for outputs in [0, OUTPUTS_MAX + 1] {
            let refused = node(outputs).expect_err("out of bounds").to_string();
            assert!(refused.contains("plugins.outputs") && refused.contains("1 to 1024"), "{refused}");
        }
    }

    #[test]
    fn the_documented_file_is_accepted() {
        let config = parse(&documented()).expect("a configuration");
        let administrator = Identity::administrator("admin", String::new());
        let node = config.node(administrator).expect("a node's configuration");
        let defaults = wharf_node::Config::new("./wharf-data");
        assert_eq!(node.message_bytes_max, defaults.message_bytes_max);
        assert_eq!(node.plugin_bytes_max, defaults.plugin_bytes_max);
        assert_eq!(node.disk_free_bytes_min, defaults.disk_free_bytes_min);
        assert_eq!(node.segment_bytes, defaults.segment_bytes);
        assert_eq!((node.hops_max, node.drain), (defaults.hops_max, defaults.drain));
        assert_eq!(node.trace, defaults.trace);
        let names: Vec<_> = node.principals.iter().map(|principal| principal.name.as_str()).collect();
        assert_eq!(names, ["admin", "shop"]);
    }

    #[test]
    fn a_key_that_does_not_exist_is_an_error_that_shows_its_line() {
        let error =
            parse("data = \"d\"\n\n[quic]\nlisten = \"127.0.0.1:1\"\nport = 5\n").expect_err("refused");
        let text = error.to_string();
        assert!(
            text.contains("line 5") && text.contains("port = 5") && text.contains("unknown field"),
            "{text}"
        );

        let text = parse("[limits]\nmessage = \"1MB\"\n").expect_err("refused").to_string();
        assert!(text.contains("line 2") && text.contains("64MiB"), "{text}");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = toml::from_str("data = \"a\"\n[quic]\nlisten = \"127.0.0.1:1\"").expect("a file");
        let overrides = Overrides { data: Some("b".into()), ..Overrides::default() };
        let config = Config::new(file, overrides);
        assert_eq!(config.data, PathBuf::from("b"));
        assert_eq!(config.quic.port(), 1);
    }
}
