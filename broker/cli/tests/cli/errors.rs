//! What is typed wrong, or comes at a wrong time, is answered with what to do.

use crate::broker::{Broker, wharf};

#[test]
fn what_does_not_exist_or_is_no_such_thing_is_said() {
    let broker = Broker::start();
    broker.ok("queue add q");
    broker.file("wrong.toml", "name = \"p\"\n[[stage]]\nplugin = \"nothing\"\n");
    broker.file("misspelt.toml", "name = \"p\"\n[[stage]]\nplugn = \"nothing\"\n");
    broker.file("text.wasm", "not a component");

    let cases = [
        ("queue show nowhere", "there is no queue \"nowhere\""),
        ("bind # nowhere", "there is no queue or stream \"nowhere\""),
        ("bind # q --pipeline nothing", "there is no pipeline \"nothing\""),
        ("queue add q --lease 1s", "q"),
        ("sub nowhere", "nowhere"),
        ("pub t --file missing.xml", "missing.xml"),
        ("pipeline show nothing", "there is no pipeline"),
        ("pipeline apply wrong.toml", "nothing"),
        ("pipeline apply misspelt.toml", "line 3"),
        ("plugin push text.wasm --version 1", "component"),
        ("plugin push text.wasm", "--version"),
        ("plugin show nothing", "wharf plugin ls"),
        ("dlq show 1-0", "wharf dlq ls"),
        ("plugin build", "wharf plugin new"),
    ];
    for (line, expected) in cases {
        let said = broker.fails(line);
        assert!(said.starts_with("error: ") && said.contains(expected), "wharf {line}: {said}");
    }
}

#[test]
fn a_wrong_token_and_no_broker_are_told_apart() {
    let broker = Broker::start();
    let context = std::fs::read_to_string(broker.context()).expect("there");
    let token = context.lines().find(|line| line.starts_with("token")).expect("a token");

    broker.file("context.toml", context.replace(token, "token = \"wrong\""));
    assert!(broker.fails("queue ls").contains("the token is nobody's here"));
    assert!(broker.fails("pub t x").contains("refused"));

    broker.file("context.toml", context.clone());
    let folder = broker.stop();
    std::fs::write(folder.path().join("context.toml"), context).expect("written");
    let output =
        wharf().args(["queue", "ls"]).env("WHARF_CONTEXT", folder.path().join("context.toml")).output();
    let said = String::from_utf8(output.expect("it runs").stderr).expect("UTF-8");
    assert!(said.contains("is `wharf serve` running"), "{said}");
}

#[test]
fn without_a_context_file_it_says_where_one_comes_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = wharf().args(["queue", "ls", "--context"]).arg(folder.path().join("none.toml")).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("wharf serve"), "{output:?}");
}

#[test]
fn what_cannot_be_typed_is_a_usage_error() {
    for line in [
        "pub",
        "pub a.# x",
        "pub t x --file y",
        "pub t --lines --count 3",
        "pub t x -H nothing",
        "queue add a/b",
        "queue add q --lease 30",
        "bind or*ders q",
        "sub",
        "sub q --topic #",
        "dlq redrive",
        "dlq redrive 1-0 --all",
        "dlq discard",
        "dlq discard 1-0 --yes",
        "nonsense",
    ] {
        let output = wharf().args(line.split(' ')).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "wharf {line}: {output:?}");
        assert!(output.stdout.is_empty(), "wharf {line}");
    }
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wharf.toml");
    std::fs::write(&file, "data = \"d\"\nport = 6420\n").expect("written");

    let output = wharf().args(["serve", "--config"]).arg(&file).current_dir(folder.path()).output();

    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("wharf.toml") && said.contains("line 2") && said.contains("port"), "{said}");
    assert!(!folder.path().join("d").exists(), "nothing was begun");
}
