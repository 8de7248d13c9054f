//! `wharf log`: what is on disk, told while no broker uses it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::broker::{Broker, wharf};

/// A `wharf log` command on the data in `folder`.
fn log(folder: &Path, line: &str) -> Output {
    let mut command: Command = wharf();
    command.arg("log").args(line.split(' ')).arg("--data").arg(folder.join("data"));
    command.output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_data_folder_is_verified_counted_and_dumped_while_no_broker_runs() {
    let broker = Broker::start();
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders");
    broker.ok("pub orders.eu first");
    broker.ok("pub orders.us second");
    broker.ok("sub orders -n 1");
    let in_use = log(broker.folder.path(), "verify");
    assert_eq!(in_use.status.code(), Some(1));
    assert!(text(&in_use.stderr).contains("is in use by a broker; stop it first"), "{in_use:?}");
    let folder = broker.kill();

    let verified = log(folder.path(), "verify");
    assert!(verified.status.success() && text(&verified.stdout).contains("good"), "{verified:?}");

    let stats = text(&log(folder.path(), "stats -o json").stdout);
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!(stats[0]["segments"][0]["live"], 1, "one message is not acked: {stats}");

    let dumped = text(&log(folder.path(), "dump").stdout);
    let lines: Vec<serde_json::Value> =
        dumped.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert!(lines.iter().map(|line| line["index"].as_u64()).eq((1..=lines.len() as u64).map(Some)));
    let published: Vec<_> = lines.iter().filter(|line| line["kind"] == "publish").collect();
    assert_eq!(published.len(), 2, "{dumped}");
    assert_eq!(
        (&published[1]["messages"][0]["topic"], &published[1]["messages"][0]["payload"]),
        (&"orders.us".into(), &"second".into())
    );
    let first = published[0]["index"].as_u64().expect("a number");
    let one = text(&log(folder.path(), &format!("dump --from {first} --to {first}")).stdout);
    assert_eq!(one.lines().count(), 1);
}

#[test]
fn damage_is_named_with_what_to_do_and_a_folder_without_a_log_is_refused() {
    let broker = Broker::start();
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders");
    for _ in 0..3 {
        broker.ok("pub orders.eu something");
    }
    let folder = broker.kill();
    let segment = folder.path().join("data/shard-0/00000000000000000001.segment");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[64 + 45] ^= 1;
    fs::write(&segment, bytes).expect("written");

    let damaged = log(folder.path(), "verify");

    assert_eq!(damaged.status.code(), Some(1));
    let said = text(&damaged.stderr);
    let expected =
        ["00000000000000000001.segment is damaged at byte 64 (record 1)", "restore the file from a copy"];
    assert!(expected.iter().all(|part| said.contains(part)), "{said}");
    assert!(text(&damaged.stdout).contains("DAMAGED"));

    let nothing = log(&folder.path().join("elsewhere"), "verify");
    assert!(text(&nothing.stderr).contains("name the broker's data folder with --data"), "{nothing:?}");
}
