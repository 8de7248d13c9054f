//! What the documentation tells a newcomer to type.

use crate::broker::Broker;

#[test]
fn a_message_goes_in_and_comes_out() {
    let broker = Broker::start();
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders");

    let id = broker.ok("pub orders.eu.created an-order -H tenant=acme -H note=a=b --key o-17");

    let printed = broker.ok("sub orders -n 1 -o json");
    let delivery: serde_json::Value = serde_json::from_str(&printed).expect("one JSON object a line");
    let expected = serde_json::json!({
        "topic": "orders.eu.created", "headers": {"tenant": "acme", "note": "a=b"}, "key": "o-17",
        "payload": "an-order", "id": id.trim(), "offset": 0, "attempt": 1, "redelivered": false,
    });
    assert_eq!(delivery, expected);
    assert_eq!(broker.ok("sub orders --exit-when-empty"), "", "it was acknowledged");
}

#[test]
fn a_payload_comes_from_the_line_a_file_or_standard_input() {
    let broker = Broker::start();
    broker.ok("queue add q");
    broker.ok("bind # q");
    broker.file("order.xml", "<order/>");

    broker.ok("pub t typed");
    broker.ok("pub t --file order.xml");
    broker.ok_with("pub t -", "piped");
    broker.ok("pub t again --count 3");
    broker.ok("pub t once --id order-17");
    assert!(broker.ok("pub t once --id order-17").contains("duplicate"));

    let payloads = broker.ok("sub q --exit-when-empty -o raw");
    assert_eq!(payloads, "typed\n<order/>\npiped\nagain\nagain\nagain\nonce\n");
}

#[test]
fn lines_are_confirmed_in_their_order() {
    let broker = Broker::start();
    broker.ok("queue add numbers");
    broker.ok("bind numbers numbers");
    let numbers: Vec<String> = (0..5000).map(|n| n.to_string()).collect();

    let confirmed = broker.ok_with("pub numbers --lines", &(numbers.join("\n") + "\n"));

    let ids: Vec<&str> = confirmed.lines().collect();
    assert_eq!(ids.len(), 5000);
    let stored = broker.ok("sub numbers -n 5000 -o json");
    assert_eq!(stored.lines().count(), 5000);
    let deliveries =
        stored.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    for ((delivery, id), number) in deliveries.zip(ids).zip(numbers) {
        assert_eq!((delivery["id"].as_str(), delivery["payload"].as_str()), (Some(id), Some(&*number)));
    }
}

#[test]
fn looking_leaves_a_message_where_it_is() {
    let broker = Broker::start();
    broker.ok("queue add q");
    broker.ok("bind # q");
    broker.ok("pub t one");
    broker.ok("pub t two");

    assert_eq!(broker.ok("sub q --no-ack --exit-when-empty -o raw"), "one\ntwo\n");
    assert_eq!(broker.ok("sub q -n 1 -o raw"), "one\n");

    let second: serde_json::Value = serde_json::from_str(&broker.ok("sub q -n 1 -o json")).expect("JSON");
    assert_eq!((&second["payload"], &second["redelivered"]), (&"two".into(), &true.into()));
}

#[test]
fn queues_and_bindings_are_listed_and_removed() {
    let broker = Broker::start();
    broker.ok("queue add orders --lease 2m --max-attempts 5 --durability os");
    broker.ok("bind orders.# orders");
    broker.ok("pub orders.eu one");

    let queue = broker.json("queue show orders -o json");
    assert_eq!((&queue["ready"], &queue["policy"]["lease_ms"]), (&1.into(), &120_000.into()));
    let names: Vec<_> = broker.json("queue ls -o json").as_array().expect("a list").clone();
    assert!(names.iter().any(|queue| queue["name"] == "orders"));
    assert!(broker.ok("queue ls").starts_with("NAME"));
    assert_eq!(broker.json("bindings -o json")[0]["pattern"], "orders.#");

    assert!(broker.ok("queue purge orders").contains("1 message dropped"));
    broker.ok("unbind orders.# orders");
    assert_eq!(broker.json("bindings -o json"), serde_json::json!([]));
    broker.ok("queue rm orders");
    assert!(broker.fails("queue show orders").contains("wharf queue ls"));
    assert!(broker.ok("status").contains("version"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let broker = Broker::start();
    let mut list = broker.command("completions bash");
    let mut child = list
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());

    let output = child.wait_with_output().expect("it ends");

    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
