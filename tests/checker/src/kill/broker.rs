//! A `wharf serve` that can be killed and started again on the same data and port.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use wharf_client::{Client, ConnectOptions, Context};

use super::source::Source;

/// A running broker. Killed when it is dropped.
pub(crate) struct Broker {
    child: Child,
    binary: PathBuf,
    folder: PathBuf,
}

impl Broker {
    /// Starts one with the data in `folder`, on `address` or on a port that is free, and waits until it serves.
    ///
    /// # Errors
    /// When it ends instead.
    pub(crate) async fn start(binary: &Path, folder: &Path, address: Option<&str>) -> Result<Self> {
        let mut serve = wharf(binary, folder);
        serve.args(["serve", "--admin", "127.0.0.1:0", "--log", "error", "--quic"]);
        serve.arg(address.unwrap_or("127.0.0.1:0")).arg("--data").arg(folder.join("data"));
        let mut child = serve.stdout(Stdio::piped()).spawn().context("starting the broker")?;
        let stdout = child.stdout.take().expect("piped");
        let broker = Self { child, binary: binary.to_owned(), folder: folder.to_owned() };
        let serves = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(stdout).lines();
            lines.any(|line| line.is_ok_and(|line| line.contains("From elsewhere")))
        });
        ensure!(serves.await?, "the broker ended before it served");
        Ok(broker)
    }

    /// How to reach it.
    pub(crate) fn context(&self) -> Result<Context> {
        Context::read(&self.folder.join("context.toml")).context("the broker's context file")
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        let options: ConnectOptions = self.context()?.connect_options();
        // Soon there again after a restart: the time of a run is for its load.
        let options = options.reconnect_pause_max(std::time::Duration::from_millis(50));
        Client::connect(options).await.context("connecting to the broker")
    }

    /// Runs a command that speaks to it.
    pub(crate) fn command(&self, words: &[&str]) -> Result<String> {
        let output = wharf(&self.binary, &self.folder).args(words).output().context("running wharf")?;
        if !output.status.success() {
            bail!("wharf {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether nothing of a queue is left, in a consumer's hands neither. Of a group, who drains it knows.
    pub(crate) fn is_drained(&self, source: Source) -> Result<bool> {
        let Source::Queue(queue) = source else { return Ok(true) };
        let shown = self.command(&["queue", "show", queue])?;
        let none_is = |what: &str| {
            let line = shown.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
            line.map(|count| count.trim() == "0").with_context(|| format!("{what} is not in: {shown}"))
        };
        Ok(none_is("ready")? && none_is("leased")? && none_is("delayed")?)
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        // A broker that had ended by itself would make a kill that proves nothing.
        ensure!(std::os::unix::process::ExitStatusExt::signal(&status) == Some(9), "it had ended: {status}");
        Ok(())
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// When it does not end in good order.
    pub(crate) fn stop(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &id]).status()?.success(), "kill -TERM {id}");
        let status = self.child.wait()?;
        ensure!(status.success(), "asked to stop, the broker ended with {status}");
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, in an environment that says nothing of Wharf but where the context file is.
fn wharf(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WHARF_") {
            command.env_remove(name);
        }
    }
    command.env("WHARF_CONTEXT", folder.join("context.toml"));
    command
}
