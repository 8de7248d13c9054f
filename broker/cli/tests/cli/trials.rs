//! The life of a version, typed as `docs/pipelines.md` has it: a wrong one is seen by each way to look at it.

use serde_json::Value;

use crate::broker::Broker;

/// How often something is looked at that comes by itself: each look runs a command, which takes its time.
const LOOKS_MAX: usize = 500;

const ORDERS: &str = r#"
name = "orders"

[[stage]]
plugin = "xml-to-json"
config = { arrays = ["line"] }

[[stage]]
plugin = "json-schema"
on-failure = "dead-letter"

[stage.config.schema.properties.order]
required = ["line", "total"]
properties.line.type = "array"
"#;

/// Orders of one line and of two, by turns.
fn orders(count: usize) -> String {
    let order = |n: usize| match n % 2 {
        0 => format!("<order id=\"{n}\"><line/><total>{n}</total></order>\n"),
        _ => format!("<order id=\"{n}\"><line/><line/><total>{n}</total></order>\n"),
    };
    (0..count).map(order).collect()
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    assert!((0..LOOKS_MAX).any(|_| look()), "{what} did not come");
}

fn events(broker: &Broker) -> Vec<(u64, String)> {
    let history = broker.json("pipeline history orders -o json");
    let event = |event: &Value| {
        (event["version"].as_u64().expect("a number"), event["change"].as_str().expect("a word").to_owned())
    };
    history.as_array().expect("a list").iter().map(event).collect()
}

#[test]
fn a_wrong_version_is_seen_in_a_try_a_replay_a_shadow_and_a_canary() {
    let broker = Broker::start();
    broker.file("orders.toml", ORDERS);
    // The list went with the edit.
    broker.file("numbers.toml", ORDERS.replace("arrays = [\"line\"]", "numbers = true"));
    broker.file("fixed.toml", ORDERS.replace("arrays = [\"line\"]", "arrays = [\"line\"], numbers = true"));
    broker.file("single.xml", "<order><line/><total>1</total></order>");
    for line in [
        "stream add orders-raw",
        "queue add billing",
        "pipeline apply orders.toml --note first",
        "bind orders.in orders-raw",
        "bind orders.in billing --pipeline orders",
        "pipeline stage numbers.toml --note numbers",
    ] {
        broker.ok(line);
    }
    broker.ok_with("pub orders.in --lines", &orders(20));

    let tried = broker.ok("pipeline try orders --version 2 --topic orders.in --file single.xml");
    assert!(tried.contains("json-schema: rejected") && tried.contains("does not let it pass"), "{tried}");
    assert!(
        broker.ok("pipeline try orders --topic orders.in --file single.xml").contains("json-schema: passed")
    );

    broker.file("many.txt", orders(20));
    let many = "pipeline try orders --version 2 --topic orders.in --file many.txt --lines";
    let tried = broker.ok(many);
    assert_eq!(tried.matches("message of line ").count(), 20, "{tried}");
    assert!(tried.contains("json-schema: rejected") && tried.contains("lets it pass"), "{tried}");
    assert_eq!(broker.json(&format!("{many} -o json")).as_array().map(Vec::len), Some(20));
    assert!(broker.fails("pipeline try orders --file many.txt --lines").contains("line 1"));

    let replay = "pipeline replay orders --version 2 --stream orders-raw";
    let output = broker.run(replay, "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "differences are no success");
    assert!(said.contains("verdict passed → rejected: 10 messages"), "{said}");
    assert!(said.contains("active: 20 passed; candidate: 10 passed, 10 rejected"), "{said}");
    let few = broker.run(&format!("{replay} --allow-differences -n 5"), "");
    let noted = String::from_utf8_lossy(&few.stderr).into_owned();
    assert!(noted.contains("not all messages: 5 were looked at and there are more"), "{noted}");
    let json = broker.json(&format!("{replay} --allow-differences -o json"));
    assert_eq!((&json["comparison"]["compared"], &json["comparison"]["different"]), (&20.into(), &20.into()));

    broker.ok("pipeline shadow orders --version 2");
    broker.ok_with("pub orders.in --lines", &orders(20));
    until("the shadow's comparison", || {
        broker.json("pipeline show orders -o json")["trial"]["comparison"]["compared"] == 20
    });
    let stopped = broker.ok("pipeline shadow orders --stop");
    assert!(stopped.contains("the trial of version 2 of orders is over"), "{stopped}");
    assert!(stopped.contains("verdict passed → rejected: 10 messages"), "{stopped}");
    assert_eq!(broker.json("queue show billing -o json")["ready"], 40, "nothing of a shadow is delivered");

    broker.ok("pipeline canary orders --version 2 --share 100% --errors-max 10% --after 10");
    broker.ok_with("pub orders.in --lines", &orders(40));
    until("the rollback", || events(&broker).last() == Some(&(2, "canary-ended".to_owned())));
    let ended = broker.json("pipeline history orders -o json");
    let note = ended.as_array().expect("a list").last().expect("some")["note"].to_string();
    assert!(note.contains("rolled back") && note.contains("10%"), "{note}");
    assert_eq!(broker.json("pipeline show orders -o json")["version"], 1);
    assert!(
        !broker.json("dlq ls -o json").as_array().expect("a list").is_empty(),
        "they wait there, mended or not"
    );

    broker.ok("pipeline stage fixed.toml");
    let dead = "pipeline replay orders --version 3 --dead-letters dead-letters --allow-differences";
    assert!(!broker.ok(dead).contains("rejected"), "version 3 lets them pass");
    broker.ok("pipeline activate orders 3 --note mended");
    assert_eq!(broker.json("pipeline show orders -o json")["version"], 3);
    broker.ok("pipeline rollback orders --note back");
    assert_eq!(broker.json("pipeline show orders -o json")["version"], 1);
    assert!(broker.fails("pipeline activate orders 9").contains("wharf pipeline history"));
    assert!(
        broker.fails("pipeline canary orders --stop").contains("no version of pipeline orders is on trial")
    );
}

#[test]
fn a_receipt_names_the_version_that_handled_a_message_and_a_rerun_makes_the_same_bytes() {
    let broker = Broker::start();
    broker.file("orders.toml", ORDERS);
    broker.file("numbers.toml", ORDERS.replace("arrays = [\"line\"]", "arrays = [\"line\"], numbers = true"));
    broker.file("order.xml", "<order><line/><total>1</total></order>");
    for line in [
        "queue add billing",
        "queue add plain",
        "pipeline apply orders.toml",
        "pipeline apply orders.toml",
        "bind orders.in billing --pipeline orders",
        "bind plain plain",
    ] {
        broker.ok(line);
    }

    let told = broker.ok("pub orders.in --file order.xml --receipt");
    let (id, version) = told.trim().split_once(' ').expect("an id and a version");
    assert_eq!(version, "orders/2");
    assert_eq!(broker.ok("pub orders.in --file order.xml").trim().split(' ').count(), 1, "nobody asked");
    let plain = broker.ok("pub plain x --id once --receipt");
    assert_eq!(plain.trim().split(' ').count(), 1, "no pipeline handled it");
    assert!(broker.ok("pub plain x --id once --receipt").trim().ends_with("duplicate"));
    let delivered = broker.json("sub billing -n 1 -o json");
    assert_eq!((&delivered["id"], &delivered["headers"]["wharf-pipeline"]), (&id.into(), &version.into()));

    let traced = broker.ok("pub orders.in --file order.xml --trace");
    let id = traced.lines().next().expect("an id");
    let again = broker.ok(&format!("trace rerun {id}"));
    assert!(again.contains("orders/2 on the way to billing: the same bytes in its 2 steps, "), "{again}");
    assert!(again.trim_end().ends_with(" fuel"), "{again}");
    let steps = broker.ok(&format!("trace rerun {id} --steps"));
    assert_eq!(steps.matches(" fuel)").count(), 2, "each stage's: {steps}");
    assert!(!broker.ok(&format!("trace show {id}")).contains("fuel"), "it was not counted then");
    broker.ok("pipeline stage numbers.toml");
    assert!(
        broker.fails(&format!("trace rerun {id} --version 3")).contains("1 of 1 runs came out otherwise")
    );
    let other = broker.ok(&format!("trace rerun {id} --version 3 --allow-differences"));
    assert!(other.contains("orders/2 on the way to billing, by version 3: another outcome"), "{other}");
    assert!(other.contains("payload $.order.total\n    - \"1\"\n    + 1"), "{other}");
    let json = broker.json(&format!("trace rerun {id} -o json"));
    assert_eq!(json[0]["passes"][0]["outcome"], "same");
    assert!(json[0]["passes"][0]["steps"][1]["fuel"].as_u64() > Some(100), "{json}");
    assert!(broker.fails("trace rerun 999-0").contains("wharf trace ls"));
}
