//! How a broker starts, stops, and comes back.

use std::os::unix::fs::PermissionsExt as _;

use crate::broker::{Broker, wharf};

#[test]
fn the_first_start_makes_what_the_commands_need_and_for_its_owner_alone() {
    let broker = Broker::start();
    let data = broker.folder.path().join("data");

    for file in ["admin.token", "key.pem", "certificate.pem", "context.toml"] {
        let mode = std::fs::metadata(data.join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    let said = &broker.said;
    for told in ["clients  127.0.0.1:", "admin    http://127.0.0.1:", "context.toml"] {
        assert!(said.contains(told), "{told:?} in {said}");
    }
    assert!(said.contains(data.to_str().expect("UTF-8")), "{said}");
    assert!(!said.contains(std::fs::read_to_string(data.join("admin.token")).expect("there").trim()));
}

#[test]
fn what_was_confirmed_survives_a_stop_and_a_kill() {
    let broker = Broker::start();
    let token = std::fs::read(broker.folder.path().join("data/admin.token")).expect("there");
    broker.ok("queue add q");
    broker.ok("bind # q");
    broker.ok("pub t one");

    let broker = Broker::start_in(broker.stop());
    broker.ok("pub t two");
    let broker = Broker::start_in(broker.kill());

    assert_eq!(std::fs::read(broker.folder.path().join("data/admin.token")).expect("there"), token);
    assert_eq!(broker.ok("sub q --exit-when-empty -o raw"), "one\ntwo\n");
}

#[test]
fn a_second_broker_on_the_same_data_is_refused() {
    let broker = Broker::start();
    let data = broker.folder.path().join("data");

    let mut second = wharf();
    second.args(["serve", "--quic", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(&data);
    let output = second.env("WHARF_CONTEXT", broker.context()).output().expect("it runs");

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    broker.ok("status");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");

    let mut serve = wharf();
    serve
        .args(["serve", "--quic", "127.0.0.1:0", "--admin", &address, "--data"])
        .arg(folder.path().join("data"));
    let output = serve.env("WHARF_CONTEXT", folder.path().join("context.toml")).output().expect("it runs");

    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--admin"), "{said}");
}
