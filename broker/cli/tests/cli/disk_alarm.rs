//! A disk that really fills up: a file system of a few megabytes, where the test may mount one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::broker::Broker;

/// With less than this the alarm is raised.
const CONFIG: &str = "[limits]\ndisk-free = \"16MiB\"\n\n[log]\nsegment = \"1MiB\"\n";
/// Room for what comes with Wharf, compiled, and some more.
const DISK: &str = "size=192m";
/// What a file is filled with at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// What is left when it is full: less than the limit, and enough for the log to note what is settled.
const LEFT_BYTES: u64 = 8 << 20;

/// A mounted file system, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "wharf-test"]).arg(at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(at.to_owned()))
    }

    fn free_bytes(&self) -> u64 {
        let df = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.0).output().expect("df runs");
        let said = String::from_utf8(df.stdout).expect("UTF-8");
        said.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is still open goes with its process.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Asks until the status says so; every question is a process, so this does not spin.
fn wait_for(broker: &Broker, alarmed: bool) {
    while broker.ok("status").contains("MiB left") != alarmed {}
}

#[test]
fn a_full_disk_refuses_publishes_and_lets_consumers_go_on_until_there_is_room() {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::mount(&folder.path().join("data")) else {
        println!("skipped: this test may not mount a file system here");
        return;
    };
    fs::write(folder.path().join("wharf.toml"), CONFIG).expect("written");
    let config = folder.path().join("wharf.toml");
    let broker = Broker::start_with(folder, &["--config", config.to_str().expect("UTF-8")]);
    broker.ok("queue add orders");
    broker.ok("bind orders orders");
    broker.ok_with("pub orders --lines", &"an order\n".repeat(100));

    let ballast = disk.0.join("ballast");
    let mut file = fs::File::create(&ballast).expect("made");
    while disk.free_bytes() > LEFT_BYTES + CHUNK_BYTES as u64 {
        std::io::Write::write_all(&mut file, &[0; CHUNK_BYTES]).expect("there is room");
    }
    wait_for(&broker, true);
    let refused = broker.run("pub orders late", "");
    let said = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("MiB left, under the limit of 16 MiB"), "{said}");
    assert_eq!(broker.ok("sub orders -n 60 -o raw").lines().count(), 60, "consuming goes on");
    assert_eq!(broker.json("queue show orders -o json")["acked"], 60, "and so does acking");

    fs::remove_file(&ballast).expect("removed");
    drop(file);
    wait_for(&broker, false);
    broker.ok("pub orders late");
    assert_eq!(broker.ok("sub orders --exit-when-empty -o raw").lines().count(), 41, "nothing was lost");
    let folder = broker.kill();
    drop(disk);
    drop(folder);
}
