//! A broker in a process of its own, for the demo and the benchmarks: started, measured, killed, started again.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use wharf_client::Context;

use crate::connection::Connection;

/// `wharf serve` as a child. Dropping it kills it.
pub(crate) struct OwnBroker {
    child: Child,
    folder: PathBuf,
    connection: Connection,
}

/// Where a broker listens, so that the next one can listen there too.
struct Addresses {
    quic: String,
    admin: String,
}

impl OwnBroker {
    /// Starts one with its data and its context file in `folder`, on any free ports, and waits until it is ready.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let any = || "127.0.0.1:0".to_owned();
        Self::start_at(folder, &Addresses { quic: any(), admin: any() })
    }

    /// Ends it as a crash would, with SIGKILL, and returns when it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("killing the broker")?;
        self.child.wait().context("waiting for the killed broker")?;
        Ok(())
    }

    /// Starts the next one on the same data and ports, and waits until it is ready.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        let context = Context::read(&context_file(&self.folder))?;
        let admin = context.admin.context("the broker wrote where its admin API is")?;
        let admin = admin.trim_start_matches("http://").to_owned();
        *self = Self::start_at(&self.folder, &Addresses { quic: context.address, admin })?;
        Ok(())
    }

    /// The way to it.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start_at(folder: &Path, addresses: &Addresses) -> anyhow::Result<Self> {
        let exe = std::env::current_exe().context("finding this program")?;
        let context = context_file(folder);
        let log = fs::File::create(folder.join("broker.log")).context("making the broker's log file")?;
        let mut child = Command::new(exe)
            .arg("--context")
            .arg(&context)
            .args([
                "serve",
                "--log",
                "warn",
                "--quic",
                &addresses.quic,
                "--admin",
                &addresses.admin,
                "--data",
            ])
            .arg(folder.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("starting the broker")?;
        let stdout = child.stdout.take().context("the child's output is piped")?;
        let broker = Self { child, folder: folder.to_owned(), connection: Connection::new(Some(context)) };
        let mut lines = BufReader::new(stdout).lines();
        match lines.next() {
            Some(Ok(line)) if line.contains("is ready") => {}
            _ => {
                let log = fs::read_to_string(folder.join("broker.log")).unwrap_or_default();
                bail!("the broker did not start:\n{log}");
            }
        }
        // What else it prints is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(broker)
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn context_file(folder: &Path) -> PathBuf {
    folder.join("context.toml")
}

/// The CPU time that process `pid` has used, user and system, to a hundredth of a second (proc(5)).
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading the broker's CPU time")?;
    // The name in parentheses may hold anything; fields are counted after it.
    let fields = stat.rsplit_once(')').context("the format of /proc/PID/stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().context("the format of /proc/PID/stat")?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The memory that process `pid` has resident, in bytes (proc(5)).
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading the broker's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is in kB")?;
    Ok(kib * 1024)
}
