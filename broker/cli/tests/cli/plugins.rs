//! A component tested, measured, inspected and recorded, of whatever language it is.

use std::fs;

use serde_json::{Value, json};

use crate::broker::Broker;

/// A broker, with the component of `xml-to-json` as `plugin.wasm`.
fn broker_and_component() -> Broker {
    broker_and_component_of("xml-to-json")
}

/// A broker, with the component of a plugin that comes with it as `plugin.wasm`.
fn broker_and_component_of(plugin: &str) -> Broker {
    let broker = Broker::start();
    let shown = broker.json(&format!("plugin show {plugin} -o json"));
    let digest = shown["digest"].as_str().expect("a digest").to_owned();
    let folder = broker.folder.path();
    let stored = fs::read_dir(folder.join("data/plugins")).expect("they are there");
    let stored = stored.map(|entry| entry.expect("it can be read").path());
    let file =
        stored.into_iter().find(|file| file.to_string_lossy().contains(&digest)).expect("it is stored");
    fs::copy(file, folder.join("plugin.wasm")).expect("copied");
    broker
}

fn case(broker: &Broker, name: &str, payload: &str) {
    let folder = broker.folder.path().join("cases").join(name);
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("payload.xml"), payload).expect("written");
}

#[test]
fn a_component_is_tested_by_cases_that_update_writes() {
    let broker = broker_and_component();
    case(&broker, "an-order", "<order id=\"7\"><total>19</total></order>");
    case(&broker, "no-xml", "{}");
    assert!(broker.fails("plugin test plugin.wasm").contains("--cases DIR"));
    assert!(
        broker.fails("plugin test plugin.wasm --cases cases --no-properties").contains("2 of the tests fail")
    );

    broker.ok("plugin test plugin.wasm --cases cases --update --no-properties");
    let expected = broker.folder.path().join("cases/an-order/expected.json");
    let written: Value = serde_json::from_slice(&fs::read(&expected).expect("written")).expect("JSON");
    assert_eq!(written["passed"][0]["json"], json!({"order": {"@id": "7", "total": "19"}}));
    let tested = broker.ok("plugin test plugin.wasm --cases cases");
    assert!(tested.contains("case an-order ... ok") && tested.contains("properties ... ok"), "{tested}");

    fs::write(&expected, fs::read_to_string(&expected).expect("text").replace("\"19\"", "\"20\""))
        .expect("written");
    let output = broker.run("plugin test plugin.wasm --cases cases --no-properties", "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("/passed/0/json/order/total: to be \"20\", and is \"19\""), "{said}");
}

#[test]
fn a_case_gives_kv_before_and_tells_what_is_left_there() {
    let broker = broker_and_component_of("dedupe");
    broker.file("cases/stage.json", r#"{"config": {"window-s": 10}, "now_ms": 1000000}"#);
    case(&broker, "first", "an order");
    broker.ok("plugin test plugin.wasm --cases cases --update --no-properties");
    let read = |file: &str| -> Value {
        let bytes = fs::read(broker.folder.path().join("cases").join(file)).expect("it is there");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let first = read("first/expected.json");
    let left = first["kv"].as_object().expect("it remembers").clone();
    let (key, value) = left.iter().next().expect("one key");
    assert_eq!((left.len(), &value["expires_ms"]), (1, &json!(1_010_000)), "{first}");

    // What the first leaves is what the second finds.
    case(&broker, "second", "an order");
    broker.file("cases/second/kv.json", Value::from(left.clone()).to_string());
    broker.ok("plugin test plugin.wasm --cases cases --update --no-properties");
    assert_eq!(read("first/expected.json"), first, "another case's memory is its own");
    let second = json!({"dropped": true, "kv": {key: {"text": "2", "expires_ms": 1_010_000}}});
    assert_eq!(read("second/expected.json"), second, "it is counted with the first, until the window ends");
    broker.ok("plugin test plugin.wasm --cases cases");

    // What is left and not expected is told, and what is expected and not left.
    broker.file("cases/first/expected.json", json!({"passed": first["passed"]}).to_string());
    broker.file("cases/second/expected.json", r#"{"dropped": true, "kv": {"count": "2"}}"#);
    let output = broker.run("plugin test plugin.wasm --cases cases --no-properties", "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("/kv: not to be there") && said.contains(key.as_str()), "{said}");
    assert!(said.contains("case second ... WRONG"), "{said}");

    broker.file("cases/second/kv.json", r#"{"count": 2}"#);
    assert!(broker.fails("plugin test plugin.wasm --cases cases").contains("second/kv.json"));
}

#[test]
fn a_component_shows_what_it_is_and_what_it_costs() {
    let broker = broker_and_component();
    broker.file("order.xml", "<order><total>19</total></order>");

    let inspected = broker.json("plugin inspect plugin.wasm -o json");
    assert_eq!(inspected["kinds"], json!(["transformer"]));
    assert_eq!(inspected["config_schema"]["properties"]["max-depth"]["maximum"], 128);
    assert!(
        inspected["reads"]["payload"].as_bool().expect("said") && inspected["load_us"].as_u64().is_some()
    );

    let rows = broker.json("plugin bench plugin.wasm --message order.xml --batch 1,8 --time 50ms -o json");
    let rows = rows.as_array().expect("a row a batch");
    assert_eq!(rows.iter().map(|row| row["batch"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(8)]);
    assert!(
        rows.iter().all(|row| row["ns"].as_u64() > Some(0) && row["fuel"].as_u64() > Some(100)),
        "{rows:?}"
    );
    let [one, eight] = &rows[..] else { panic!("two rows") };
    assert_eq!((&one["messages_per_call"], &eight["messages_per_call"]), (&json!(1.0), &json!(8.0)));
    assert_eq!(eight["outcomes"], json!({"passed": 8}));
    broker.file("no.xml", "{}");
    let refused = broker.json("plugin bench plugin.wasm --message no.xml --batch 1 --time 10ms -o json");
    assert_eq!(refused[0]["outcomes"], json!({"rejected": 1}), "what is measured is said");
}

#[test]
fn what_a_running_stage_took_is_repeated_by_its_component() {
    let broker = broker_and_component();
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders");
    broker.file(
        "intake.toml",
        "name = \"intake\"\ningress = \"orders.#\"\n[[stage]]\nplugin = \"xml-to-json\"\n",
    );
    broker.ok("pipeline apply intake.toml");

    let mut record = broker.command("record intake/xml-to-json -n 3 --for 60s -o orders.rec");
    let mut recording = record.stderr(std::process::Stdio::null()).spawn().expect("it starts");
    // What comes before it has begun is not recorded: messages come until it has three.
    while recording.try_wait().expect("asked").is_none() {
        broker.run("pub orders.eu <order><total>19</total></order>", "");
        broker.run("pub orders.eu nonsense", "");
    }

    let recorded = fs::read_to_string(broker.folder.path().join("orders.rec")).expect("written");
    assert_eq!(recorded.lines().count(), 4, "the stage and three messages: {recorded}");
    let repeated = broker.ok("plugin test plugin.wasm --recording orders.rec");
    assert!(
        repeated.contains("intake/xml-to-json version 1") && repeated.contains("3 messages"),
        "{repeated}"
    );
    broker.file("stage.json", "{\"config\": {\"numbers\": true}}");
    let output = broker.run("plugin test plugin.wasm --recording orders.rec --stage stage.json", "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("/passed/0/json/order/total"), "{said}");
    // Nobody publishes: the recording that is there stays.
    let error = broker.fails("record intake -n 1 --for 100ms -o orders.rec");
    assert!(error.contains("no message came to intake"), "{error}");
    let kept = fs::read_to_string(broker.folder.path().join("orders.rec")).expect("it is there");
    assert_eq!(kept, recorded);
    assert!(broker.fails("record intake/nowhere -n 1 -o x.rec").contains("its stages are: xml-to-json"));
}

#[test]
fn a_misspelt_key_is_told_with_the_one_that_was_meant_when_a_pipeline_is_applied() {
    let broker = Broker::start();
    let stage = "name = \"intake\"\n[[stage]]\nplugin = \"xml-to-json\"\nconfig = { max_dept = 3 }\n";
    broker.file("intake.toml", stage);

    let error = broker.fails("pipeline apply intake.toml");

    assert!(error.contains("unknown key `max_dept`; did you mean `max-depth`?"), "{error}");
    assert!(error.contains("/max_dept"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn few_addresses_are_room_for_few_plugins_and_too_few_are_told() {
    let broker = broker_and_component();
    let inspect = |kib: u64| {
        let line = format!("ulimit -v {kib} && exec \"$0\" plugin inspect plugin.wasm");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_wharf")]).current_dir(broker.folder.path());
        shell.output().expect("it runs")
    };
    let less_than_wanted = inspect(100 << 20);
    assert!(less_than_wanted.status.success(), "{less_than_wanted:?}");

    let too_few = inspect(20 << 20);
    let said = String::from_utf8_lossy(&too_few.stderr);
    assert!(!too_few.status.success() && said.contains("see `ulimit -v`"), "{said}");
}
