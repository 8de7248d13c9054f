//! Queues by commands: what they promise, and what lies in them.

use serde_json::json;

use crate::broker::Broker;

#[test]
fn a_policy_is_typed_with_units_and_shown_where_it_differs() {
    let broker = Broker::start();
    broker.ok("queue add plain");
    broker.ok("queue add orders --retry linear:1s..1m --max-bytes 1GiB --overflow dead-letter --ttl 1h");

    let plain = broker.ok("queue show plain");
    assert!(plain.lines().all(|line| !line.starts_with("lease:") && !line.starts_with("retry")), "{plain}");
    let shown = broker.ok("queue show orders");
    for row in ["retry:", "linear, 1s to 1m", "most bytes:", "1.0 GiB", "when full:", "dead-letter", "1h"] {
        assert!(shown.contains(row), "{row}: {shown}");
    }

    let said = broker.ok("queue set orders --ttl none --overflow drop-oldest --max-messages 2");
    assert!(said.contains("when full: drop-oldest") && !said.contains("time to live"), "{said}");
    assert!(broker.fails("queue set orders").contains("nothing to change"));
    assert!(broker.fails("queue set orders --fair-by tenant --order key").contains("both"));
    assert!(broker.fails("queue set nowhere --ttl 1s").contains("wharf queue ls"));

    broker.ok("bind # orders");
    for n in ["1", "2", "3"] {
        broker.ok(&format!("pub t {n}"));
    }
    let queue = broker.json("queue show orders -o json");
    assert_eq!((&queue["ready"], &queue["dropped"]), (&json!(2), &json!(1)));
    assert_eq!(broker.ok("sub orders --exit-when-empty -o raw"), "2\n3\n");
}

#[test]
fn messages_are_looked_at_and_moved() {
    let broker = Broker::start();
    broker.ok("queue add a");
    broker.ok("queue add b");
    broker.ok("bind t a");
    broker.ok_with("pub t --lines -H tenant=acme", "one\ntwo\nthree\n");
    broker.ok("pub t later --delay 1h");

    let peeked = broker.ok("queue peek a");
    assert!(peeked.contains("one") && peeked.contains("tenant: acme") && !peeked.contains("two"), "{peeked}");
    let browsed = broker.json("queue browse a --from 1 -o json");
    assert_eq!(browsed.as_array().map(Vec::len), Some(3));
    assert_eq!(browsed[2]["state"], "delayed");
    let two = browsed[0]["id"].as_str().expect("an id");

    assert_eq!(broker.ok(&format!("queue move a b --id {two}")), "1 message moved\n");
    assert_eq!(broker.ok("queue move a b --limit 1 --rate 100/s"), "1 message moved\n");
    assert_eq!(broker.ok("sub b --exit-when-empty -o raw"), "two\none\n");
    assert_eq!(broker.ok("queue move a b"), "2 messages moved\n");
    assert!(broker.fails("queue move a a").contains("itself"));
    let browsed = broker.ok("queue browse b");
    assert!(browsed.contains("until 20"), "{browsed}");
}

#[test]
fn dead_letters_go_back_at_a_rate_and_keep_their_history() {
    let broker = Broker::start();
    broker.ok("queue add jobs --ttl 1s --dead-letter-expired --dead-letter jobs-dead");
    broker.ok("bind jobs.# jobs");
    broker.ok("pub jobs.a one --ttl 1ms");
    // The event to wait for: it expires into the dead-letter queue.
    let delivered = broker.ok("sub jobs-dead -n 1 --no-ack -o json");
    let delivered: serde_json::Value = serde_json::from_str(&delivered).expect("JSON");

    let letter = &broker.json("dlq ls -o json")[0];
    let death = &letter["death"];
    assert_eq!((&death["queue"], &death["cause"]), (&json!("jobs"), &json!("expired")));
    assert_eq!((&death["original"], &delivered["topic"]), (&letter["id"], &json!("jobs.a")));
    for field in ["first_at", "last_at", "attempts", "reason"] {
        assert!(!death[field].is_null(), "{field}: {letter}");
    }
    let said = broker.ok("dlq redrive --all --queue jobs-dead --rate 100/s");
    assert_eq!(said, "1 message sent back from jobs-dead\n");
}
