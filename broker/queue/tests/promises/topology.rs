//! Queues, bindings, plugins and pipelines as data in the log.

use std::sync::Arc;

use wharf_protocol::{ErrorCode, Topic};
use wharf_queue::{
    Attach, CanaryBounds, Change, ConsumerId, Effect, PipelineEventKind, QueuePolicy, Record, TrialKind,
};

use crate::shard::{Shard, message, name};

fn bind(pattern: &str, queue: &str, pipeline: Option<&str>) -> Change {
    let pattern = pattern.parse().expect("a pattern");
    Change::Bind { pattern, queue: name(queue), pipeline: pipeline.map(name) }
}

fn pipeline(spec: &'static str, ingress: Option<&str>) -> Change {
    let ingress = ingress.map(|pattern| pattern.parse().expect("a pattern"));
    let (by, note) = ("ann".into(), format!("apply {spec}"));
    Change::ApplyPipeline { name: name("p"), spec: spec.into(), ingress, by, note, delivery: Vec::new() }
}

fn plugin(digest: u8) -> Change {
    Change::PutPlugin {
        name: name("xml"),
        version: name("1.0"),
        digest: [digest; 32],
        bytes: 4,
        kinds: vec!["transformer".into()],
        summary: "XML to JSON".into(),
        by: "ann".into(),
    }
}

fn resolve(shard: &Shard, topic: &str) -> Vec<String> {
    let topic: Topic = topic.parse().expect("a topic");
    shard.state.topology().resolve(&topic).iter().map(|binding| binding.queue.to_string()).collect()
}

#[test]
fn bindings_resolve_topics_to_queues() {
    let mut shard = Shard::with_queues(&["all", "eu", "new"]);
    for (pattern, queue) in
        [("orders.#", "all"), ("orders.eu.*", "eu"), ("orders.eu.new", "new"), ("#", "all")]
    {
        shard.change(bind(pattern, queue, None)).expect("bound");
    }
    assert_eq!(resolve(&shard, "orders.eu.new"), ["all", "eu", "new"]);
    assert_eq!(resolve(&shard, "other"), ["all"]);

    let unbind = Change::Unbind { pattern: "#".parse().expect("a pattern"), queue: name("all") };
    shard.change(unbind.clone()).expect("unbound");
    assert_eq!(resolve(&shard, "other"), [""; 0]);
    assert_eq!(shard.change(unbind).expect_err("gone").code, ErrorCode::NotFound);
}

#[test]
fn what_is_so_already_changes_nothing_and_what_contradicts_it_is_refused() {
    let mut shard = Shard::with_queues(&["q"]);
    let before = shard.state.topology().revision();
    let same = Change::CreateQueue { name: name("q"), policy: QueuePolicy::default() };
    assert_eq!(shard.change(same), Ok(vec![]));

    let policy = QueuePolicy { max_attempts: 3, ..QueuePolicy::default() };
    let other = shard.change(Change::CreateQueue { name: name("q"), policy }).expect_err("refused");
    assert_eq!(
        (other.code, other.reason.as_str()),
        (ErrorCode::Conflict, "queue q exists with another policy")
    );
    let policy = QueuePolicy { lease_ms: 0, ..QueuePolicy::default() };
    let bad = shard.change(Change::CreateQueue { name: name("r"), policy }).expect_err("refused");
    assert_eq!(bad.code, ErrorCode::Malformed);
    let (spec, by, note) = ("x".into(), "ann".into(), "why ".repeat(2_000));
    let delivery = Vec::new();
    let long = Change::ApplyPipeline { name: name("p"), spec, ingress: None, by, note, delivery };
    assert_eq!(shard.change(long).expect_err("refused").code, ErrorCode::TooLarge);
    assert_eq!(shard.change(bind("#", "r", None)).expect_err("no queue").code, ErrorCode::NotFound);
    assert_eq!(shard.change(bind("#", "q", Some("p"))).expect_err("no pipeline").code, ErrorCode::NotFound);
    assert_eq!(shard.state.topology().revision(), before);
}

#[test]
fn readers_keep_the_topology_they_took() {
    let mut shard = Shard::with_queues(&["q"]);
    let taken = Arc::clone(shard.state.topology());
    shard.change(bind("#", "q", None)).expect("bound");
    assert_eq!((taken.bindings().len(), shard.state.topology().bindings().len()), (0, 1));
}

#[test]
fn a_deleted_queue_takes_its_messages_and_bindings_and_tells_its_consumers() {
    let mut shard = Shard::with_queues(&["q", "r"]);
    shard.change(bind("#", "q", None)).expect("bound");
    shard.publish(&["q"], message("m"));
    shard.publish(&["q"], message("m"));
    shard.attach(1, "q", 1);
    let old = shard.id("q");

    let effects = shard.change(Change::DeleteQueue { name: name("q") }).expect("deleted");
    assert_eq!(effects, [Effect::Cancelled { consumer: ConsumerId(1) }, Effect::TopologyChanged]);
    assert_eq!(resolve(&shard, "any"), [""; 0]);
    assert_eq!(shard.state.next_timer(), None, "its leases are gone");
    assert_eq!(shard.ack(1, 1).stale, [1]);

    shard.create("q", QueuePolicy::default());
    assert_ne!(shard.id("q"), old, "a number is never used again");
    assert_eq!(shard.attach(1, "q", 1), []);
}

#[test]
fn a_purge_settles_what_waits_and_leaves_what_consumers_hold() {
    let mut shard = Shard::with_queues(&["q"]);
    for _ in 0..4 {
        shard.publish(&["q"], message("m"));
    }
    shard.attach(1, "q", 2);
    shard.nack(1, 2, 1_000);

    let effects = shard.change(Change::PurgeQueue { name: name("q") }).expect("purged");
    assert_eq!(effects, [Effect::Purged { queue: name("q"), messages: 3 }]);
    assert_eq!((shard.queue("q").leased, shard.queue("q").purged), (1, 3));
    assert_eq!(shard.ack(1, 1).accepted, 1);
    assert_eq!(shard.state.next_timer().map(|at| at > shard.now()), Some(true));
}

#[test]
fn a_pipeline_is_a_history_of_immutable_versions() {
    let mut shard = Shard::new();
    for spec in ["one", "two", "three"] {
        shard.change(pipeline(spec, Some("orders.#"))).expect("applied");
    }
    let rollback = |to| Change::RollbackPipeline { name: name("p"), to, by: "bob".into() };
    shard.change(rollback(None)).expect("rolled back");
    shard.change(rollback(None)).expect("rolled back further");

    let topology = Arc::clone(shard.state.topology());
    let found = topology.pipeline("p").expect("there");
    assert_eq!((found.active, found.active_version().spec.to_string()), (1, "one".to_owned()));
    let history: Vec<_> =
        found.history.iter().map(|each| (each.number, each.by.as_str(), each.index)).collect();
    assert_eq!(history, [(1, "ann", 1), (2, "ann", 2), (3, "ann", 3), (2, "bob", 4), (1, "bob", 5)]);
    assert_eq!(found.history[3].note, "rolled back from 3");
    let topic = "orders.new".parse().expect("a topic");
    assert_eq!(topology.ingress(&topic).map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["p"]);

    assert_eq!(shard.change(rollback(None)).expect_err("the first").code, ErrorCode::Conflict);
    assert_eq!(shard.change(rollback(Some(9))).expect_err("no such").code, ErrorCode::NotFound);
    shard.change(rollback(Some(3))).expect("forward again");
    shard.change(pipeline("four", None)).expect("applied");
    assert_eq!(shard.state.topology().pipeline("p").expect("there").active, 4);
}

fn stage(spec: &'static str) -> Change {
    let (by, note) = ("ann".into(), format!("stage {spec}"));
    Change::StagePipeline {
        name: name("p"),
        spec: spec.into(),
        ingress: None,
        delivery: Vec::new(),
        by,
        note,
    }
}

fn activate(number: u32, how: PipelineEventKind) -> Change {
    Change::ActivatePipeline { name: name("p"), number, how, by: "bob".into(), note: "why".into() }
}

fn trial(number: u32, kind: TrialKind) -> Change {
    let (by, note) = ("bob".into(), "see".into());
    Change::BeginTrial { name: name("p"), number, share_ppm: 50_000, kind, by, note }
}

#[test]
fn a_staged_version_is_there_and_not_in_use_until_it_is_activated() {
    let mut shard = Shard::new();
    assert_eq!(shard.change(stage("zero")).expect_err("nothing is in use").code, ErrorCode::NotFound);
    shard.change(pipeline("one", None)).expect("applied");
    shard.change(stage("two")).expect("staged");
    shard.change(stage("three")).expect("staged");
    let active = |shard: &Shard| shard.state.topology().pipeline("p").expect("there").active;
    assert_eq!(active(&shard), 1);
    shard.change(activate(3, PipelineEventKind::Activated)).expect("activated");
    let before = shard.state.topology().pipeline("p").expect("there").before_active();
    assert_eq!((active(&shard), before), (3, Some(1)), "2 was never in use");

    assert_eq!(shard.change(activate(3, PipelineEventKind::Activated)), Ok(vec![]), "it is so already");
    assert_eq!(
        shard.change(activate(9, PipelineEventKind::Activated)).expect_err("none").code,
        ErrorCode::NotFound
    );
    let staged =
        shard.change(activate(2, PipelineEventKind::Staged)).expect_err("that is no way to activate");
    assert_eq!(staged.code, ErrorCode::Malformed);
    let topology = Arc::clone(shard.state.topology());
    let history = &topology.pipeline("p").expect("there").history;
    let kinds: Vec<_> = history.iter().map(|event| (event.number, event.kind)).collect();
    use PipelineEventKind::{Activated, Staged};
    assert_eq!(kinds, [(1, Activated), (2, Staged), (3, Staged), (3, Activated)]);
}

#[test]
fn a_trial_ends_by_itself_when_a_version_is_put_to_use() {
    let mut shard = Shard::new();
    shard.change(pipeline("one", None)).expect("applied");
    shard.change(stage("two")).expect("staged");
    shard.change(stage("three")).expect("staged");
    assert_eq!(shard.change(trial(1, TrialKind::Shadow)).expect_err("in use").code, ErrorCode::Conflict);
    shard.change(trial(2, TrialKind::Shadow)).expect("begun");
    assert_eq!(
        shard.change(trial(3, TrialKind::Shadow)).expect_err("one at a time").code,
        ErrorCode::Conflict
    );
    shard.change(activate(3, PipelineEventKind::Activated)).expect("activated");
    let topology = Arc::clone(shard.state.topology());
    let found = topology.pipeline("p").expect("there");
    assert_eq!((found.active, &found.trial), (3, &None));
    let last_two: Vec<_> = found.history.iter().rev().take(2).map(|each| (each.number, each.kind)).collect();
    assert_eq!(last_two, [(3, PipelineEventKind::Activated), (2, PipelineEventKind::ShadowEnded)]);
    let end = Change::EndTrial { name: name("p"), by: "bob".into(), note: String::new() };
    assert_eq!(shard.change(end).expect_err("it ended").code, ErrorCode::Conflict);

    let bounds = CanaryBounds {
        errors_max_ppm: 0,
        divergence_max_ppm: 0,
        p99_max_us: None,
        after: 0,
        promote_after: None,
    };
    let refused = shard.change(trial(2, TrialKind::Canary(bounds))).expect_err("judged over nothing");
    assert_eq!(refused.code, ErrorCode::Malformed);
}

#[test]
fn versions_in_use_and_on_trial_outlive_the_bound() {
    let mut shard = Shard::new();
    shard.change(pipeline("one", None)).expect("applied");
    shard.change(stage("two")).expect("staged");
    shard.change(trial(2, TrialKind::Shadow)).expect("begun");
    for _ in 0..300 {
        shard.change(stage("more")).expect("staged");
    }
    let topology = Arc::clone(shard.state.topology());
    let versions = &topology.pipeline("p").expect("there").versions;
    assert_eq!(versions.len(), 256);
    let kept: Vec<u32> = versions.keys().copied().take(3).collect();
    assert_eq!(kept, [1, 2, 49]);
}

#[test]
fn a_pipeline_sits_at_the_queues_that_it_names() {
    let mut shard = Shard::new();
    let (by, note) = ("ann".into(), String::new());
    let delivery = vec!["orders.*".parse().expect("a pattern"), "audit".parse().expect("a pattern")];
    let change =
        Change::ApplyPipeline { name: name("p"), spec: "x".into(), ingress: None, by, note, delivery };
    shard.change(change).expect("applied");
    let at = |queue| shard.state.topology().delivery(queue).count();
    assert_eq!([at("orders.eu"), at("audit"), at("orders"), at("orders.eu.new")], [1, 1, 0, 0]);
}

#[test]
fn a_pipeline_in_use_is_not_removed() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.change(pipeline("one", None)).expect("applied");
    shard.change(bind("orders.#", "q", Some("p"))).expect("bound");
    let remove = Change::RemovePipeline { name: name("p") };
    let refusal = shard.change(remove.clone()).expect_err("in use");
    assert_eq!(refusal.reason, "the binding of orders.# to queue q uses pipeline p");

    shard.change(bind("orders.#", "q", None)).expect("bound anew");
    shard.change(remove).expect("removed");
    assert!(shard.state.topology().pipeline("p").is_none());
}

#[test]
fn a_plugins_version_is_immutable() {
    let mut shard = Shard::new();
    shard.change(plugin(1)).expect("put");
    assert_eq!(shard.change(plugin(1)), Ok(vec![]));
    assert_eq!(shard.change(plugin(2)).expect_err("another").code, ErrorCode::Conflict);
    assert_eq!(shard.state.topology().plugins().count(), 1);
    shard.change(Change::RemovePlugin { name: name("xml"), version: name("1.0") }).expect("removed");
    shard.change(plugin(2)).expect("put");
}

#[test]
fn a_refused_attach_leaves_no_trace_but_its_record() {
    let mut shard = Shard::new();
    let attach = Attach { consumer: ConsumerId(1), queue: name("none"), ..Attach::default() };
    let effects = shard.apply(Record::Attach(attach));
    assert!(matches!(&effects[..], [Effect::Refused(refusal)] if refusal.code == ErrorCode::NotFound));
}
