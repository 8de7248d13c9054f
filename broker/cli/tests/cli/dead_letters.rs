//! Traces, and what is done with dead letters, by commands.

use serde_json::Value;

use crate::broker::{Broker, wharf};

/// Orders need a total; what has none is a dead letter.
const CHECK: &str = r#"
name = "check"
[[stage]]
plugin = "json-schema"
on-failure = "dead-letter"
[stage.config.schema]
type = "object"
required = ["total"]
"#;

fn with_check() -> Broker {
    let broker = Broker::start();
    broker.file("check.toml", CHECK);
    broker.ok("pipeline apply check.toml");
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders --pipeline check");
    broker
}

fn ids(letters: &Value) -> Vec<String> {
    let letters = letters.as_array().expect("a list");
    letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_trace_tells_what_each_stage_made_of_a_message() {
    let broker = with_check();
    let said = broker.ok("pub orders.eu {\"total\":12} --trace");
    for told in
        ["(asked)", "pipeline check/1  on the way to orders", "json-schema: passed", "stored", "  orders"]
    {
        assert!(said.contains(told), "{told:?} in {said}");
    }
    let id = said.lines().next().expect("the message's id").to_owned();
    assert!(broker.ok(&format!("trace show {id}")).contains("json-schema: passed"));
    let listed = broker.json("trace ls --pipeline check --since 1h -o json");
    assert_eq!((listed.as_array().expect("a list").len(), &listed[0]["verdict"]), (1, &"stored".into()));
    assert_eq!(broker.json("trace ls --verdict rejected -o json"), serde_json::json!([]));
    assert!(broker.fails("trace show 999-0").contains("wharf trace ls"));
    assert!(broker.fails("trace ls --verdict lost").contains("verdict"));
}

#[test]
fn a_dead_letter_is_found_mended_tried_and_sent_back() {
    let broker = with_check();
    broker.ok("pub orders.eu {\"sum\":12} -H tenant=acme");
    broker.ok("pub orders.eu {\"sum\":13} -H tenant=other");

    let found = broker.json("dlq search --stage check --reason TOTAL -H tenant=acme -o json");
    let [id] = &ids(&found)[..] else { panic!("one letter: {found}") };
    assert_eq!(
        ids(&broker.json("dlq search --plugin json-schema --cause stage --since 1h -o json")).len(),
        2
    );
    assert_eq!(broker.json("dlq search --cause expired -o json"), serde_json::json!([]));
    assert!(broker.fails("dlq search --plugin nobody").contains("plugin"));
    let shown = broker.ok(&format!("dlq show {id}"));
    assert!(shown.contains("json-schema: rejected") && shown.contains("the stage that failed"), "{shown}");
    assert!(broker.ok(&format!("dlq try {id} --pipeline check")).contains("does not let it pass"));

    broker.file("mended.json", "{\"total\":12}");
    let edit = format!("dlq edit {id} --payload-file mended.json --set-header by=me --remove-header tenant");
    let new = broker.ok(&edit).trim().to_owned();
    assert!(broker.fails(&edit).contains("dead letter"), "once");
    assert!(broker.ok(&format!("dlq try {new}")).contains("lets it pass"));
    let shown = broker.json(&format!("dlq show {new} -o json"));
    assert_eq!((&shown["edited"], &shown["death"]["original"]), (&1.into(), &id.as_str().into()));
    assert_eq!(shown["message"]["headers"], serde_json::json!({"by": "me"}));

    broker.ok(&format!("dlq redrive {new}"));
    assert_eq!(broker.ok("sub orders --exit-when-empty -o raw"), "{\"total\":12}\n");
    assert_eq!(ids(&broker.json("dlq ls -o json")).len(), 1);
}

#[test]
fn what_was_changed_is_listed_and_tampering_with_that_is_told() {
    let broker = with_check();
    let listed = broker.json("audit ls --target /v1/pipelines -o json");
    assert_eq!((&listed[0]["who"], &listed[0]["status"]), (&"admin".into(), &200.into()));
    assert!(broker.ok("audit ls").contains("PUT /v1/queues/orders"));
    assert!(broker.ok("audit verify").contains("as they were written"));

    let folder = broker.stop();
    let log = folder.path().join("data/audit/00000000000000000001.log");
    let text = std::fs::read_to_string(&log).expect("there");
    std::fs::write(&log, text.replacen("/v1/queues/orders", "/v1/queues/others", 1)).expect("written");
    let mut verify = wharf();
    verify.args(["audit", "verify", "--data"]).arg(folder.path().join("data"));
    let output = verify.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not as it was written: entry "), "{said}");
}

#[test]
fn a_letter_that_no_queue_had_goes_through_the_mended_pipeline_or_past_it() {
    // It was told to have died in the queue of dead letters, of the digest of its plugin; and a redrive knew no way for it.
    let broker = Broker::start();
    let check = CHECK.replace("[[stage]]", "ingress = \"orders.#\"\n[[stage]]");
    broker.file("check.toml", &check);
    broker.ok("pipeline apply check.toml");
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders");
    broker.ok("pub orders.eu {\"sum\":12}");
    broker.ok("pub orders.eu {\"sum\":13}");

    let [first, second] = &ids(&broker.json("dlq ls -o json"))[..] else { panic!("two letters") };
    let shown = broker.ok(&format!("dlq show {first}"));
    assert!(shown.contains("no queue: on its way in") && shown.contains(" json-schema@"), "{shown}");
    let said = broker.ok(&format!("dlq redrive {first}"));
    assert!(
        said.contains(&format!("{first} died again as ")) && said.contains(": check/json-schema: "),
        "{said}"
    );
    let [second_still, first_again] = &ids(&broker.json("dlq ls -o json"))[..] else { panic!("two letters") };
    assert_eq!(second_still, second);

    broker.file("check.toml", check.replace("dead-letter", "reject"));
    broker.ok("pipeline apply check.toml");
    let stays = broker.run(&format!("dlq redrive {second}"), "");
    let said = String::from_utf8_lossy(&stays.stderr);
    assert!(said.contains(&format!("{second} stays: check/json-schema: ")), "{said}");

    broker.file("check.toml", check.replace("\"total\"", "\"sum\""));
    broker.ok("pipeline apply check.toml");
    let said = broker.ok(&format!("dlq redrive {first_again}"));
    assert!(said.contains(" through check/3\n1 dead letter sent back"), "{said}");
    assert_eq!(broker.ok("sub orders --exit-when-empty -o raw"), "{\"sum\":12}\n");
    broker.ok(&format!("dlq redrive {second} --to orders"));
    assert_eq!(broker.ok("sub orders --exit-when-empty -o raw"), "{\"sum\":13}\n");
}

#[test]
fn letters_are_discarded_by_id_by_filter_and_all_only_when_that_is_meant() {
    let broker = with_check();
    for sum in 1..=4 {
        broker.ok(&format!(
            "pub orders.eu {{\"sum\":{sum}}} -H tenant={}",
            if sum == 2 { "acme" } else { "other" }
        ));
    }
    let letters = ids(&broker.json("dlq ls -o json"));
    assert_eq!(broker.ok(&format!("dlq discard {}", letters[0])), "1 dead letter discarded\n");
    assert!(broker.fails(&format!("dlq discard {}", letters[0])).contains("dead letter"));
    assert_eq!(broker.ok("dlq discard --all -H tenant=acme"), "1 dead letter discarded\n");
    assert!(broker.fails("dlq discard --all").contains("--yes"));
    assert!(broker.fails("dlq discard --all --queue dead-letters").contains("of dead-letters: add --yes"));
    assert_eq!(ids(&broker.json("dlq ls -o json")), letters[2..]);
    assert_eq!(broker.ok("dlq discard --all --yes"), "2 dead letters discarded\n");
    assert_eq!(broker.ok("dlq redrive --all"), "there are no dead letters\n");
    assert!(broker.ok("audit ls").contains("POST /v1/dead-letters/discard"));
}
