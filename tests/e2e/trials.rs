//! A version that is not in use: tried, replayed, shadowed and as a canary.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_node::compare::{Comparison, Totals};
use wharf_node::{
    CanaryBounds, Candidate, Config, PipelineEventKind, PipelineView, Publication, Replay, ReplaySource,
    StreamPolicy, TrialKind, TrialSpec, TryResult,
};
use wharf_protocol::{ErrorCode, Message, Receipt, Start};

use crate::broker::{GUEST, TestBroker, me, message, name};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn convert(numbers: bool) -> String {
    let config = format!("config = {{ numbers = {numbers} }}");
    format!("name = \"convert\"\ningress = \"in\"\n[[stage]]\nplugin = \"xml-to-json\"\n{config}\n")
}

/// As `convert(false)`, and what the header `behave` asks for.
fn checked() -> String {
    format!("{}[[stage]]\nplugin = \"{GUEST}\"\nkind = \"validator\"\n", convert(false))
}

fn canary() -> CanaryBounds {
    CanaryBounds {
        errors_max_ppm: 0,
        divergence_max_ppm: 1_000_000,
        p99_max_us: None,
        after: 100,
        promote_after: None,
    }
}

fn trial(kind: TrialKind, share_ppm: u32) -> TrialSpec {
    TrialSpec { number: 2, share_ppm, kind }
}

/// With `convert(false)` in use, `staged` as version 2, and a queue.
async fn with_staged(staged: &str) -> TestBroker {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let convert_name = name("convert");
    broker.node.apply_pipeline(&me(), convert_name.clone(), &convert(false), None).await.expect("applied");
    let number =
        broker.node.stage_pipeline(&me(), &convert_name, staged, Some("new".into())).await.expect("staged");
    assert_eq!(number, 2);
    broker
}

/// A stream of what is published to `raw`.
async fn raw_stream(broker: &TestBroker) -> wharf_protocol::Name {
    let stream = name("inputs");
    broker.node.create_stream(&me(), stream.clone(), StreamPolicy::default()).await.expect("created");
    let pattern = "raw".parse().expect("a pattern");
    let binding = wharf_node::Binding { pattern, queue: stream.clone(), pipeline: None };
    broker.node.bind(&me(), binding).await.expect("bound");
    stream
}

async fn view(broker: &TestBroker) -> PipelineView {
    broker.node.pipeline(&me(), &name("convert")).await.expect("it is there")
}

/// Waits until the pipeline looks as it is to.
async fn until(broker: &TestBroker, what: impl Fn(&PipelineView) -> bool) -> PipelineView {
    let waiting = async {
        loop {
            let view = view(broker).await;
            if what(&view) {
                return view;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it came to that")
}

/// Waits until the canary is over: what the history says of it.
async fn how_it_ended(broker: &TestBroker) -> String {
    until(broker, |view| view.trial.is_none()).await;
    let history = broker.node.pipeline_history(&me(), &name("convert")).await.expect("it is there");
    history.last().expect("there is one").note.clone()
}

/// What was done with the pipeline since it was staged.
async fn events(broker: &TestBroker) -> Vec<(u32, PipelineEventKind, String)> {
    let history = broker.node.pipeline_history(&me(), &name("convert")).await.expect("it is there");
    history.into_iter().skip(2).map(|change| (change.number, change.kind, change.by)).collect()
}

fn keyed(n: u32, payload: &str, headers: &[(&str, &str)]) -> Message {
    Message { key: Some(format!("k{n}").into()), ..message("in", payload, headers) }
}

async fn publish(broker: &TestBroker, messages: Vec<Message>) -> Vec<Receipt> {
    let batch = messages.into_iter().map(Publication::from).collect();
    broker.node.publish(&me(), batch).await.await
}

#[tokio::test]
async fn a_staged_version_is_tried_beside_the_one_in_use() {
    let broker = with_staged(&convert(true)).await;
    let convert_name = name("convert");
    let tried = |candidate: Candidate| {
        let (node, convert_name) = (broker.node.clone(), convert_name.clone());
        async move {
            let message = message("in", "<n>7</n>", &[]);
            let report =
                node.try_candidate(&me(), &convert_name, &candidate, message).await.expect("it runs");
            let payload = report.steps[0].outputs[0].payload.clone().expect("it was changed");
            (report.number, report.result, format!("{:?}", payload.shown))
        }
    };
    let (number, result, text) = tried(Candidate::InUse).await;
    assert_eq!((number, result, text.contains("\\\"7\\\"")), (1, TryResult::Passed, true), "{text}");
    let (number, _, text) = tried(Candidate::Version(2)).await;
    assert_eq!((number, text.contains("\\\"7\\\"")), (2, false), "{text}");
    let (number, _, text) = tried(Candidate::Spec(convert(true))).await;
    assert_eq!((number, text.contains("\\\"7\\\"")), (0, false), "{text}");
    assert!(broker.take("q").await.is_empty(), "nothing is stored");
    assert_eq!(view(&broker).await.stages[0].messages, 0, "the version in use was not called");
}

#[tokio::test]
async fn a_try_tells_of_the_pipeline_behind_a_binding_that_comes_next() {
    let broker = with_staged(&convert(true)).await;
    broker.apply("guard", &format!("[[stage]]\n{}\n", guest("kind = \"validator\""))).await;
    broker.queue("tq", "in", Some("guard")).await;
    let tried = message("in", "<n>7</n>", &[]);
    let report =
        broker.node.try_candidate(&me(), &name("convert"), &Candidate::InUse, tried).await.expect("it runs");
    let destination = &report.destinations[0];
    assert_eq!(destination.queues, [name("q")]);
    assert_eq!(destination.through, [(name("tq"), name("guard"))]);
}

#[tokio::test]
async fn a_replay_tells_what_would_differ_by_class_with_examples() {
    let broker = with_staged(&convert(true)).await;
    let stream = raw_stream(&broker).await;
    for n in 0..100 {
        let text = if n % 4 == 0 { format!("<n>{n}</n>") } else { format!("<n>word {n}</n>") };
        broker.publish(message("raw", &text, &[])).await;
    }
    let replay = |source, limit| Replay {
        candidate: Candidate::Version(2),
        source,
        limit,
        examples: 2,
        per_second: None,
    };
    let from = |from, until| ReplaySource::Stream { stream: stream.clone(), from, until };
    let node = &broker.node;
    let run =
        |replay| async move { node.replay_pipeline(&me(), &name("convert"), replay).await.expect("it ran") };

    let report = run(replay(from(Start::First, None), 1_000)).await;
    let comparison = &report.comparison;
    assert_eq!((report.live, report.candidate), (1, 2));
    assert_eq!((comparison.compared, comparison.different, comparison.same()), (100, 25, 75));
    assert_eq!(comparison.classes.len(), 1);
    let found = &comparison.classes[0];
    assert_eq!((found.class.to_string().as_str(), found.messages), ("payload $.n", 25));
    assert_eq!(found.examples.len(), 2);
    let first = &found.examples[0];
    assert_eq!(
        (first.message.as_str(), first.live.as_str(), first.candidate.as_str()),
        ("0:0", "\"0\"", "0")
    );

    assert_eq!(
        run(replay(from(Start::Offset(50), Some(Start::Offset(60))), 1_000)).await.comparison.compared,
        10
    );
    let report = run(replay(from(Start::First, None), 33)).await;
    assert_eq!(report.comparison.compared, 33);
    let stopped = report.stopped.expect("there are more");
    assert!(stopped.starts_with("33 were looked at and there are more"), "{stopped}");
    assert_eq!(run(replay(from(Start::First, None), 100)).await.stopped, None, "that was all");
    assert!(broker.take("q").await.is_empty(), "nothing is stored");
    assert_eq!(view(&broker).await.stages[0].messages, 0, "the version in use was not called");
}

#[tokio::test]
async fn a_percentile_is_of_how_long_messages_waited() {
    let broker = TestBroker::start().await;
    let slow = format!("name = \"slow\"\n[[stage]]\n{}\ndeadline-ms = 20\n", guest("kind = \"validator\""));
    broker.node.apply_pipeline(&me(), name("slow"), &slow, None).await.expect("applied");
    let stream = raw_stream(&broker).await;
    for n in 0..32 {
        let behave = if n == 7 { "loop" } else { "" };
        broker.publish(message("raw", "x", &[("behave", behave)])).await;
    }
    let replay = Replay {
        candidate: Candidate::Version(1),
        source: ReplaySource::Stream { stream, from: Start::First, until: None },
        limit: 100,
        examples: 1,
        per_second: None,
    };
    let report = broker.node.replay_pipeline(&me(), &name("slow"), replay).await.expect("it ran");
    assert_eq!(report.comparison.compared, 32);
    let waited = report.comparison.candidate_times.percentile_us(50);
    assert!(waited >= 20_000, "all wait for the one that takes its deadline: {waited}");
}

#[tokio::test]
async fn dead_letters_are_replayed_through_the_version_that_mends_them() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let strict = format!("{}on-failure = \"dead-letter\"\n", checked());
    broker.node.apply_pipeline(&me(), name("convert"), &strict, None).await.expect("applied");
    for n in 0..5 {
        broker.publish(keyed(n, "<n>1</n>", &[("behave", "reject")])).await;
    }
    let replay = Replay {
        candidate: Candidate::Spec(convert(false)),
        source: ReplaySource::DeadLetters(name("dead-letters")),
        limit: 100,
        examples: 3,
        per_second: Some(100_000),
    };
    let report = broker.node.replay_pipeline(&me(), &name("convert"), replay).await.expect("it ran");
    assert_eq!((report.comparison.compared, report.comparison.different), (5, 5));
    assert_eq!(report.comparison.classes[0].class.to_string(), "verdict rejected → passed");
    assert_eq!((report.left_out, report.stopped), (0, None));
    let Comparison { live_totals, candidate_totals, .. } = report.comparison;
    let (passed, rejected) =
        (Totals { passed: 5, ..Totals::default() }, Totals { rejected: 5, ..Totals::default() });
    assert_eq!((live_totals, candidate_totals), (rejected, passed));
}

#[tokio::test]
async fn dead_letters_of_others_are_left_out_and_counted() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.queue("q2", "other", None).await;
    let strict = |pipeline: &str, topic: &str| {
        let stage = guest("kind = \"validator\"\non-failure = \"dead-letter\"");
        format!("name = \"{pipeline}\"\ningress = \"{topic}\"\n[[stage]]\n{stage}\n")
    };
    for (pipeline, topic) in [("convert", "in"), ("convert-more", "other")] {
        let spec = strict(pipeline, topic);
        broker.node.apply_pipeline(&me(), name(pipeline), &spec, None).await.expect("applied");
    }
    for n in 0..40 {
        let topic = if n % 4 == 0 { "in" } else { "other" };
        broker.publish(message(topic, "x", &[("behave", "reject")])).await;
    }
    let replay = |limit| Replay {
        candidate: Candidate::Spec(strict("convert", "in")),
        source: ReplaySource::DeadLetters(name("dead-letters")),
        limit,
        examples: 3,
        per_second: None,
    };
    let run = async |limit| {
        broker.node.replay_pipeline(&me(), &name("convert"), replay(limit)).await.expect("it ran")
    };
    let all = run(100).await;
    let refused = Totals { rejected: 10, ..Totals::default() };
    assert_eq!(all.comparison.same(), 10, "both refuse them, and it is seen that nothing passed");
    assert_eq!((all.comparison.live_totals, all.comparison.candidate_totals), (refused, refused));
    assert_eq!((all.comparison.compared, all.left_out, all.stopped), (10, 30, None));
    let few = run(4).await;
    assert_eq!(few.comparison.compared, 4);
    assert!(few.stopped.is_some_and(|stopped| stopped.starts_with("4 were looked at and there are more")));
    assert_eq!(run(10).await.stopped, None, "what is behind them is of another pipeline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_is_shown_live_messages_and_changes_nothing() {
    let broker = with_staged(&convert(true)).await;
    let shadow = trial(TrialKind::Shadow, 1_000_000);
    broker.node.begin_trial(&me(), &name("convert"), shadow, Some("see".into())).await.expect("begun");
    let messages = (0..60).map(|n| keyed(n, if n % 3 == 0 { "<n>7</n>" } else { "<n>seven</n>" }, &[]));
    publish(&broker, messages.collect()).await;
    let seen =
        until(&broker, |view| view.trial.as_ref().is_some_and(|trial| trial.comparison.compared == 60)).await;
    let trial = seen.trial.expect("it goes on");
    assert_eq!((trial.comparison.different, trial.skipped, trial.processed), (20, 0, 0));
    assert_eq!(trial.comparison.classes[0].class.to_string(), "payload $.n");

    let delivered = broker.take("q").await;
    assert_eq!(delivered.len(), 60);
    let headers: BTreeSet<_> =
        delivered.iter().map(|each| each.message.headers.text("wharf-pipeline")).collect();
    assert_eq!(headers, BTreeSet::from([Some("convert/1")]), "nothing of the shadow was stored");
    let ended = broker.node.end_trial(&me(), &name("convert"), None).await.expect("ended");
    assert_eq!(ended.comparison.compared, 60);
    assert!(view(&broker).await.trial.is_none());
    publish(&broker, vec![keyed(1, "<n>7</n>", &[])]).await;
    assert_eq!(broker.take("q").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_has_its_share_of_keys_and_each_message_passes_one_version() {
    let broker = with_staged(&convert(true)).await;
    let bounds = CanaryBounds { divergence_max_ppm: 1_000_000, ..canary() };
    let spec = trial(TrialKind::Canary(bounds), 300_000);
    broker.node.begin_trial(&me(), &name("convert"), spec, None).await.expect("begun");
    for _ in 0..4 {
        publish(&broker, (0..200).map(|n| keyed(n, &format!("<n>{n}</n>"), &[])).collect()).await;
    }
    let mut by_key: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    let delivered = broker.take("q").await;
    assert_eq!(delivered.len(), 800);
    for (place, delivery) in delivered.iter().enumerate() {
        let header = delivery.message.headers.text("wharf-pipeline").expect("it is marked").to_owned();
        let written = String::from_utf8_lossy(&delivery.message.payload).into_owned();
        let canary = header == "convert/2";
        assert_eq!(!written.ends_with("\"}"), canary, "{written} by {header}");
        let n = written.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().expect("a number");
        assert_eq!(n, place % 200, "the order of publishing is kept across versions");
        let key = delivery.message.key.as_ref().expect("it has one").to_vec();
        by_key.entry(key).or_default().insert(header);
    }
    assert!(by_key.values().all(|versions| versions.len() == 1), "a key is with one version");
    let share = by_key.values().filter(|versions| versions.contains("convert/2")).count();
    assert!((35..=85).contains(&share), "{share} of 200 keys are 30 %, about");
    let processed = view(&broker).await.trial.expect("it goes on").processed;
    assert_eq!(processed, 4 * share as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_rolled_back_by_the_broker_with_the_reason() {
    let broker = with_staged(&checked()).await;
    let spec = trial(TrialKind::Canary(canary()), 1_000_000);
    broker.node.begin_trial(&me(), &name("convert"), spec, None).await.expect("begun");
    let good = publish(&broker, (0..50).map(|n| keyed(n, "<n>1</n>", &[])).collect()).await;
    assert!(good.iter().all(|receipt| matches!(receipt, Receipt::Stored(_))));
    let bad = publish(&broker, vec![keyed(99, "<n>1</n>", &[("behave", "reject")])]).await;
    assert!(matches!(bad[0], Receipt::Rejected(_)), "the canary works for good: {bad:?}");
    // Closed from that moment on, though the log may not have it yet.
    let after = publish(&broker, vec![keyed(99, "<n>1</n>", &[("behave", "reject")])]).await;
    assert!(matches!(after[0], Receipt::Stored(_)), "the version in use lets it pass: {after:?}");

    until(&broker, |view| view.trial.is_none()).await;
    let history = broker.node.pipeline_history(&me(), &name("convert")).await.expect("it is there");
    let last = history.last().expect("there is one");
    assert_eq!((last.number, last.kind, last.by.as_str()), (2, PipelineEventKind::CanaryEnded, "wharf"));
    assert_eq!(last.note, "rolled back: 1 of its last 51 messages failed, over the bound of 0% in 100");
    assert_eq!(view(&broker).await.number, 1);
}

/// With a stage in use at `points`, and another as a canary of all messages that is promoted when none of five fails.
async fn with_canary(change: impl FnOnce(&mut Config), points: &str, live: &str, canary: &str) -> TestBroker {
    let broker = TestBroker::start_with(change).await;
    broker.queue("q", "in", None).await;
    let spec = |stage: &str| format!("name = \"convert\"\n{points}\n[[stage]]\n{stage}\n");
    let convert = name("convert");
    broker.node.apply_pipeline(&me(), convert.clone(), &spec(live), None).await.expect("applied");
    broker.node.stage_pipeline(&me(), &convert, &spec(canary), None).await.expect("staged");
    let bounds = CanaryBounds { promote_after: Some(5), ..self::canary() };
    let spec = trial(TrialKind::Canary(bounds), 1_000_000);
    broker.node.begin_trial(&me(), &convert, spec, None).await.expect("begun");
    broker
}

fn guest(rest: &str) -> String {
    format!("plugin = \"{GUEST}\"\n{rest}")
}

fn five(payload: &str, behave: &str) -> Vec<Message> {
    (0..5).map(|n| keyed(n, payload, &[("behave", behave)])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_trial_see_the_same_time_and_random_bits() {
    let points = "ingress = \"in\"";
    let stage = guest("kind = \"enricher\"\ngrants = [\"clock\", \"random\"]");
    let broker = with_canary(|_| {}, points, &stage, &format!("{stage}\ndeadline-ms = 900")).await;
    broker.node.end_trial(&me(), &name("convert"), None).await.expect("ended");
    for kind in [TrialKind::Shadow, TrialKind::Canary(canary())] {
        let spec = trial(kind, 1_000_000);
        broker.node.begin_trial(&me(), &name("convert"), spec, None).await.expect("begun");
        let mut receipts = Vec::new();
        for n in 0..200 {
            let behave = if n % 2 == 0 { "clock" } else { "random" };
            let batch = vec![Publication::from(keyed(n, "x", &[("behave", behave)]))];
            receipts.push(broker.node.publish(&me(), batch).await);
        }
        for receipt in receipts {
            assert!(matches!(receipt.await[0], Receipt::Stored(_)));
        }
        let all = |view: &PipelineView| {
            view.trial.as_ref().is_some_and(|trial| trial.comparison.compared + trial.skipped == 200)
        };
        let seen = until(&broker, all).await.trial.expect("it goes on");
        assert_eq!(seen.comparison.classes, [], "{kind:?}");
        broker.node.end_trial(&me(), &name("convert"), None).await.expect("ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_whose_failures_its_stage_lets_pass_is_rolled_back() {
    let live = guest("kind = \"router\"");
    let bypass = guest("kind = \"transformer\"\non-failure = \"bypass\"");
    for behave in ["reject", "panic"] {
        let broker = with_canary(|_| {}, "ingress = \"in\"", &live, &bypass).await;
        let stored = publish(&broker, five("x", behave)).await;
        assert!(stored.iter().all(|receipt| matches!(receipt, Receipt::Stored(_))), "{stored:?}");
        let note = how_it_ended(&broker).await;
        assert!(note.contains("messages failed, over the bound of 0%"), "{note}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_whose_deliveries_become_dead_letters_is_rolled_back() {
    let (live, two) = (guest("kind = \"validator\""), guest("kind = \"transformer\""));
    let broker = with_canary(|_| {}, "delivery = [\"q\"]", &live, &two).await;
    publish(&broker, five("x", "two")).await;
    assert!(broker.take("q").await.len() < 5);
    let note = how_it_ended(&broker).await;
    assert!(note.contains("messages failed, over the bound of 0%"), "{note}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_canary_takes_is_of_its_pipeline_s_share() {
    let stage = guest("kind = \"validator\"\ndeadline-ms = 400");
    for traced in [false, true] {
        let points =
            format!("ingress = \"in\"\ncpu = \"1ms\"\n{}", if traced { "trace-sample = 1.0\n" } else { "" });
        let broker = with_canary(|_| {}, &points, &stage, &stage).await;
        publish(&broker, vec![keyed(1, "x", &[("behave", "loop")])]).await;
        let cpu = view(&broker).await.cpu;
        assert!(cpu.busy >= Duration::from_millis(300), "{cpu:?}");
        assert!(cpu.owed > Duration::from_secs(30), "{cpu:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_makes_what_nobody_may_store_is_rolled_back() {
    let small = |config: &mut Config| config.message_bytes_max = 64 * 1024;
    let live = guest("kind = \"validator\"");
    // In JSON, each of these has a backslash before it.
    let (converter, quotes) = ("plugin = \"xml-to-json\"", format!("<n>{}</n>", "\"".repeat(40 * 1024)));
    let loops = guest("kind = \"router\"\noutputs = { a = \"topic:in\" }");
    for (canary, payload, behave, code) in [
        (converter, quotes.as_str(), "", ErrorCode::TooLarge),
        (&loops, "x", "first", ErrorCode::StageFailed),
    ] {
        let broker = with_canary(small, "ingress = \"in\"", &live, canary).await;
        let refused = publish(&broker, five(payload, behave)).await;
        let Receipt::Rejected(rejection) = &refused[0] else { panic!("{behave}: {refused:?}") };
        assert_eq!(rejection.code, code, "{behave}");
        let note = how_it_ended(&broker).await;
        assert!(note.contains("messages failed, over the bound of 0%"), "{behave}: {note}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_diverges_is_rolled_back_and_one_that_does_not_is_promoted() {
    let broker = with_staged(&convert(true)).await;
    let bounds = CanaryBounds { divergence_max_ppm: 50_000, promote_after: Some(50), ..canary() };
    let begin = async || {
        let spec = trial(TrialKind::Canary(bounds), 1_000_000);
        broker.node.begin_trial(&me(), &name("convert"), spec, None).await.expect("begun");
    };
    begin().await;
    publish(&broker, (0..30).map(|n| keyed(n, "<n>7</n>", &[])).collect()).await;
    until(&broker, |view| view.trial.is_none()).await;
    assert_eq!(view(&broker).await.number, 1);
    let history = broker.node.pipeline_history(&me(), &name("convert")).await.expect("it is there");
    assert!(
        history.last().is_some_and(|last| last.note.contains("came out otherwise, over the bound of 5%"))
    );

    begin().await;
    publish(&broker, (0..60).map(|n| keyed(n, "<n>seven</n>", &[])).collect()).await;
    let promoted = until(&broker, |view| view.number == 2).await;
    assert!(promoted.trial.is_none());
    use PipelineEventKind::{CanaryBegan, CanaryEnded, Promoted};
    let done: Vec<_> = events(&broker).await.into_iter().map(|(_, kind, by)| (kind, by)).collect();
    let expected = [
        (CanaryBegan, "wharf"),
        (CanaryEnded, "wharf"),
        (CanaryBegan, "wharf"),
        (CanaryEnded, "wharf"),
        (Promoted, "wharf"),
    ];
    assert_eq!(done, expected.map(|(kind, by)| (kind, by.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_goes_on_after_a_restart_with_the_same_keys() {
    let broker = with_staged(&convert(true)).await;
    let spec = trial(TrialKind::Canary(canary()), 500_000);
    broker.node.begin_trial(&me(), &name("convert"), spec, None).await.expect("begun");
    let run = async |broker: &TestBroker| {
        publish(broker, (0..40).map(|n| keyed(n, "<n>1</n>", &[])).collect()).await;
        let delivered = broker.take("q").await.into_iter();
        let canary =
            delivered.filter(|each| each.message.headers.text("wharf-pipeline") == Some("convert/2"));
        canary.map(|each| each.message.key.expect("it has one")).collect::<BTreeSet<_>>()
    };
    let before = run(&broker).await;
    let broker = broker.restart().await;
    let trial = view(&broker).await.trial.expect("it goes on");
    assert_eq!((trial.trial.number, trial.processed), (2, 0), "what it has seen is counted anew");
    assert_eq!(run(&broker).await, before);
    assert!((5..36).contains(&before.len()), "{}", before.len());
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_with_the_reason() {
    let broker = with_staged(&convert(true)).await;
    let node = &broker.node;
    let begin = async |number| {
        let spec = TrialSpec { number, share_ppm: 1_000_000, kind: TrialKind::Shadow };
        node.begin_trial(&me(), &name("convert"), spec, None)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(begin(1).await.is_err_and(|error| error.contains("is the one in use")));
    assert!(begin(9).await.is_err_and(|error| error.contains("convert/9")));
    let elsewhere = convert(true).replace("ingress = \"in\"", "ingress = \"out\"");
    let number = node.stage_pipeline(&me(), &name("convert"), &elsewhere, None).await.expect("staged");
    assert!(begin(number).await.is_err_and(|error| error.contains("other topics")));
    begin(2).await.expect("begun");
    assert!(begin(2).await.is_err_and(|error| error.contains("is on trial")));
    let new = node.stage_pipeline(&me(), &name("new"), "name = \"new\"", None).await;
    assert!(new.is_err_and(|error| error.to_string().contains("its first is applied")));
}
