//! Streams and groups, by commands, and through a crash.

use crate::broker::Broker;

#[test]
fn a_stream_is_made_read_changed_and_removed() {
    let broker = Broker::start();
    assert_eq!(broker.ok("stream add events --partitions 2"), "stream events is there\n");
    broker.ok("bind events.# events");
    broker.ok_with("pub events.seen --lines --key a", "1\n2\n3\n");

    assert_eq!(broker.ok("stream read events --until-end -o raw"), "1\n2\n3\n");
    let one = broker.ok("stream read events --from 1 -n 1 -o json");
    let one: serde_json::Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!((&one["offset"], &one["payload"]), (&1.into(), &"2".into()));
    assert!(broker.ok("stream ls").contains("everything"));
    assert!(
        broker.ok("stream set events --max-age 7d --max-messages 10").contains("7d, 10 messages a partition")
    );
    assert_eq!(broker.json("stream show events -o json")["policy"]["max_age_ms"], 604_800_000);

    assert!(broker.fails("stream add events").contains("exists with another policy"));
    assert!(broker.fails("queue add events").contains("there is a stream events"));
    assert!(broker.fails("stream last events a").contains("index-keys"));
    broker.ok("stream rm events");
    assert!(broker.fails("stream show events").contains("wharf stream ls"));
}

#[test]
fn a_group_goes_on_where_it_was_after_a_crash() {
    let broker = Broker::start();
    broker.ok("stream add events");
    broker.ok("bind events events");
    broker.ok_with("pub events --lines", "1\n2\n3\n4\n5\n");
    assert_eq!(broker.ok("stream read events --group g -n 2 -o raw"), "1\n2\n");
    let broker = Broker::start_in(broker.kill());

    let group = &broker.json("group ls events -o json")[0];
    assert_eq!((&group["name"], &group["lag"]), (&"g".into(), &3.into()));
    assert_eq!(broker.ok("stream read events --group g -n 3 -o raw"), "3\n4\n5\n");
    assert_eq!(broker.ok("group reset events g 3"), "group g has 2 messages before it\n");
    assert_eq!(broker.ok("stream read events --group g -n 2 -o raw"), "4\n5\n");
    broker.ok("group rm events g");
    assert!(broker.fails("group show events g").contains("has no group"));
}

#[test]
fn the_last_value_of_a_key_is_read_directly() {
    let broker = Broker::start();
    broker.ok("stream add prices --compact");
    broker.ok("bind prices prices");
    for price in ["1.07", "1.09"] {
        broker.ok(&format!("pub prices {price} --key EUR/USD"));
    }
    let last = broker.json("stream last prices EUR/USD -o json");
    assert_eq!((&last["offset"], &last["message"]["payload"]), (&1.into(), &"1.09".into()));
    assert_eq!(broker.ok("stream read prices --until-end -o raw"), "1.09\n");
    broker.ok("pub prices 1.10 --key EUR/USD -H wharf-expect-key-offset=1");
    let late = broker.fails("pub prices 1.11 --key EUR/USD -H wharf-expect-key-offset=1");
    assert!(late.contains("the last offset of the key in stream prices is 2, not 1"), "{late}");
}
