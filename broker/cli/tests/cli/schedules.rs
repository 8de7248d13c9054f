//! Schedules, by commands, and through crashes.

use std::collections::BTreeSet;

use crate::broker::Broker;

/// When the message that a line of `sub -o json` shows was due.
fn due(line: &str) -> String {
    let delivery: serde_json::Value = serde_json::from_str(line).expect("JSON");
    delivery["headers"]["wharf-scheduled-at"].as_str().expect("the broker says when it was due").to_owned()
}

#[test]
fn a_schedule_is_put_listed_paused_and_removed() {
    let broker = Broker::start();
    let mut add = broker.command("schedule add daily");
    add.args(["0 9 * * MON-FRI", "reports.daily", "go", "--zone", "Europe/Berlin", "-H", "kind=daily"]);
    let said = add.output().expect("it ends");
    let said = String::from_utf8(said.stdout).expect("UTF-8");
    assert!(said.contains("schedule daily is there; next at 20") && said.contains("Europe/Berlin"), "{said}");

    let listed = &broker.json("schedule ls -o json")[0];
    assert_eq!((&listed["cron"], &listed["time_zone"]), (&"0 9 * * MON-FRI".into(), &"Europe/Berlin".into()));
    assert_eq!(listed["message"]["headers"]["kind"], "daily");
    assert!(broker.ok("schedule show daily").contains("At 09:00"));

    broker.ok("schedule pause daily");
    assert!(broker.ok("schedule ls").contains("paused"));
    assert!(broker.ok("schedule resume daily").contains("next at"));
    broker.ok("schedule rm daily");
    assert!(broker.fails("schedule show daily").contains("wharf schedule ls"));
    assert!(broker.fails("schedule add s @never t x").contains("is not a cron expression"));
    assert!(broker.fails("schedule add s @daily t x --zone Berlin").contains("Europe/Berlin"));
}

#[test]
fn no_occurrence_is_published_twice_though_the_broker_is_killed_after_each() {
    let mut broker = Broker::start();
    broker.ok("queue add ticks");
    broker.ok("bind ticks ticks");
    let mut add = broker.command("schedule add ticks");
    assert!(add.args(["* * * * * *", "ticks", "tick"]).output().expect("it ends").status.success());
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        // It has just been published: the next is a second away, or being published as the broker dies.
        let ticks = broker.ok("sub ticks -n 1 -o json");
        assert!(seen.insert(due(ticks.trim())), "published twice: {ticks}");
        broker = Broker::start_in(broker.kill());
    }
    for tick in broker.ok("sub ticks -n 2 -o json").lines() {
        assert!(seen.insert(due(tick)), "published twice: {tick}");
    }
}

#[test]
fn a_message_waits_for_the_moment_that_it_names() {
    let broker = Broker::start();
    broker.ok("queue add q");
    broker.ok("bind # q");
    broker.ok("pub t later --deliver-at 2999-01-01T00:00:00Z");
    broker.ok("pub t at-once --deliver-at 2001-01-01T00:00:00+01:00");

    assert_eq!(broker.ok("sub q --exit-when-empty -o raw"), "at-once\n");
    assert_eq!(broker.json("queue show q -o json")["delayed"], 1);
    let output = broker.run("pub t x --deliver-at tomorrow", "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("2026-11-22T18:30:00Z"));
}
