//! What a stage is granted by name, and how a run that hung on it is had again.

use std::sync::Arc;

use bytes::Bytes;
use wharf_pipeline::{
    Engine, EngineConfig, Item, Kind, Memory, Pipeline, PipelineSpec, PrepareError, Schema, Secret, Table,
};
use wharf_protocol::Kept;

use crate::stand::{NOW, asking, component, passed, run, stage};

/// A memory of one key.
struct Five;

impl Memory for Five {
    fn get(&self, key: &str) -> Option<Kept> {
        (key == "n").then(|| Kept { value: "5".into(), expires: None })
    }

    fn bytes(&self) -> u64 {
        66
    }
}

/// Every pipeline has the same memory.
struct Fives;

impl wharf_pipeline::Memories for Fives {
    fn of(&self, _: &wharf_protocol::Name) -> Arc<dyn Memory> {
        Arc::new(Five)
    }
}

/// An engine of its own: what it lends is its own too.
fn engine() -> Engine {
    let config = EngineConfig { threads: 1, instances: 8, ..EngineConfig::default() };
    let engine = Engine::new(config).expect("an engine");
    let library = engine.library();
    library.put_table("t".parse().expect("a name"), table(1, "10"));
    library.put_schema("s".parse().expect("a name"), Schema { version: 3, bytes: "{}".into() });
    library.put_secret("x".parse().expect("a name"), Secret::new("hidden"));
    engine
}

fn table(version: u64, price: &'static str) -> Table {
    Table::new(version, [("apple".to_owned(), Bytes::from(price))])
}

fn prepare(engine: &Engine, grants: &str) -> Result<Arc<Pipeline>, PrepareError> {
    let stage =
        format!("name = \"p\"\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"\ngrants = {grants}");
    let plugin = engine.load(&component(wharf_test_artifacts::GUEST_WITH_MEMORY)).expect("it loads");
    engine.prepare(PipelineSpec::from_toml(&stage).expect("a pipeline"), vec![plugin])
}

const ALL: &str = r#"["kv", "lookup:t", "schema:s", "secrets:x"]"#;

fn said(pipeline: &Pipeline, item: Item) -> String {
    let outputs = passed(pipeline.run_blocking(vec![item], NOW).remove(0));
    outputs[0].message.headers.text("said").expect("it was asked").to_owned()
}

#[test]
fn what_is_granted_is_had_and_what_is_not_is_said_before_it_runs() {
    let engine = engine();
    let pipeline = prepare(&engine, ALL).expect("it fits");
    assert_eq!(said(&pipeline, asking("lookup t apple")), "10");
    assert_eq!(said(&pipeline, asking("schema s")), "3 {}");
    assert_eq!(said(&pipeline, asking("secret x")), "hidden");

    let refused = prepare(&engine, r#"["kv", "lookup:t", "schema:s"]"#).err().expect("refused").to_string();
    assert!(refused.contains("uses secrets") && refused.contains("secrets:NAME"), "{refused}");
    let other =
        prepare(&engine, r#"["kv", "lookup:other", "schema:s", "secrets:x"]"#).expect("it has a table");
    let fault = crate::stand::failed(other.run_blocking(vec![asking("lookup t apple")], NOW).remove(0));
    assert!(fault.problem.message.contains("add \"lookup:t\""), "{}", fault.problem);
    assert_eq!(said(&other, asking("lookup other apple")), "Absence::NoSuchName");
}

#[test]
fn a_table_is_the_same_within_a_call_and_the_next_sees_the_new_one() {
    let engine = engine();
    let pipeline = prepare(&engine, ALL).expect("it fits");
    assert_eq!(said(&pipeline, asking("lookup t apple")), "10");
    engine.library().put_table("t".parse().expect("a name"), table(2, "11"));
    assert_eq!(said(&pipeline, asking("lookup t apple")), "11");
    engine.library().spoil_table("t".parse().expect("a name"), "its file is damaged");
    assert!(said(&pipeline, asking("lookup t apple")).contains("its file is damaged"));
}

#[test]
fn each_message_of_a_run_sees_what_the_one_before_it_left_and_the_run_leaves_nothing() {
    let engine = engine();
    engine.remember_in(Arc::new(Fives));
    let pipeline = prepare(&engine, ALL).expect("it fits");
    for _ in 0..2 {
        let ran = pipeline.run_blocking(vec![asking("kv-add n"), asking("kv-add n")], NOW);
        let said: Vec<String> = ran
            .into_iter()
            .map(|each| passed(each)[0].message.headers.text("said").expect("it was asked").to_owned())
            .collect();
        assert_eq!(said, ["6", "7"]);
    }
}

#[test]
fn who_does_not_ask_for_kv_is_given_whole_batches_though_it_is_granted() {
    let pipeline = stage(Kind::Validator, "grants = [\"kv\"]");
    run(&pipeline, &["ok"; 16]);
    assert_eq!(pipeline.stats()[0].calls, 1);
}

#[test]
fn a_traced_run_is_had_again_from_what_it_hung_on() {
    let engine = engine();
    engine.remember_in(Arc::new(Fives));
    let traced = prepare(&engine, ALL).expect("it fits").run_traced(asking("kv-add n"), NOW);
    let looked = prepare(&engine, ALL).expect("it fits").run_traced(asking("lookup t apple"), NOW);
    let json = serde_json::to_string(&traced.circumstances).expect("it serialises");
    let circumstances = serde_json::from_str(&json).expect("what was written");
    assert_eq!(traced.circumstances, circumstances);

    let elsewhere = self::engine();
    let pipeline = prepare(&elsewhere, ALL).expect("it fits");
    assert_eq!(said(&pipeline, asking("kv-add n")), "1", "nothing is remembered here");
    let again = pipeline.run_again(asking("kv-add n"), &circumstances).expect("nothing changed");
    assert_eq!(again.processed, traced.processed);

    assert!(pipeline.run_again(asking("lookup t apple"), &looked.circumstances).is_ok());
    elsewhere.library().put_table("t".parse().expect("a name"), table(2, "11"));
    let outdated = pipeline.run_again(asking("lookup t apple"), &looked.circumstances).expect_err("outdated");
    assert!(outdated.to_string().contains("version 1 of lookup:t"), "{outdated}");
}
