//! What becomes of messages that pipelines pass, split, route, refuse or break on.

use wharf_protocol::{DeathCause, ErrorCode, Receipt, Rejection};

use crate::broker::{GUEST, TestBroker, me, message, name};

fn rejection(receipt: Receipt) -> Rejection {
    match receipt {
        Receipt::Rejected(rejection) => rejection,
        other => panic!("it was not rejected: {other:?}"),
    }
}

fn stage(kind: &str, rest: &str) -> String {
    format!("[[stage]]\nplugin = \"{GUEST}\"\nkind = \"{kind}\"\n{rest}\n")
}

fn ingress(pattern: &str, stages: &str) -> String {
    format!("ingress = \"{pattern}\"\n{stages}")
}

#[tokio::test]
async fn a_refusal_at_ingress_is_told_to_the_publisher_and_nothing_is_stored() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("check", &ingress("in", &stage("validator", ""))).await;

    let told = rejection(broker.publish(message("in", "x", &[("behave", "reject")])).await);
    assert_eq!(told.code, ErrorCode::RejectedByStage);
    assert_eq!(told.stage.as_deref(), Some("check/guest"));
    assert!(told.reason.contains("asked to be rejected"), "{}", told.reason);
    let later = rejection(broker.publish(message("in", "x", &[("behave", "retry")])).await);
    assert_eq!((later.code, later.retry_after_ms), (ErrorCode::StageFailed, Some(250)));
    assert!(broker.take("q").await.is_empty());
}

#[tokio::test]
async fn a_refusal_on_the_way_to_one_queue_is_a_dead_letter_there_and_no_loss_elsewhere() {
    let broker = TestBroker::start().await;
    broker.apply("check", &stage("validator", "on-failure = \"dead-letter\"")).await;
    broker.queue("checked", "in", Some("check")).await;
    broker.queue("plain", "in", None).await;

    let receipt = broker.publish(message("in", "x", &[("behave", "reject")])).await;
    assert!(matches!(receipt, Receipt::Stored(_)), "{receipt:?}");
    assert_eq!(broker.take("plain").await.len(), 1);
    assert!(broker.take("checked").await.is_empty());
    let letters = broker.node.dead_letters(&me(), None, 0, 10).await.expect("allowed");
    assert_eq!(letters.len(), 1);
    let death = &letters[0].death;
    assert_eq!((death.queue.as_str(), death.cause), ("checked", DeathCause::Stage));
    assert_eq!(death.stage.as_deref(), Some("check/guest"));
    assert!(death.plugin.as_ref().is_some_and(|digest| digest.len() == 64));
}

#[tokio::test]
async fn a_dead_letter_at_ingress_lies_in_the_dead_letters_with_its_reason() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("check", &ingress("in", &stage("validator", "on-failure = \"dead-letter\""))).await;

    let receipt = broker.publish(message("in", "x", &[("behave", "panic")])).await;
    assert!(matches!(receipt, Receipt::Stored(_)), "{receipt:?}");
    assert!(broker.take("q").await.is_empty());
    let letters = broker.node.dead_letters(&me(), None, 0, 10).await.expect("allowed");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].death.cause, DeathCause::StageFault);
    let again = broker.node.redrive(&me(), None, None, None).await.expect("allowed");
    assert_eq!((again.moved, again.died_again), (0, 1), "its pipeline is as it was");
    let redriven = broker.node.redrive(&me(), None, Some(&name("q")), None).await.expect("allowed");
    assert_eq!((redriven.moved, redriven.kept), (1, 0));
    assert_eq!(broker.take("q").await.len(), 1);
}

#[tokio::test]
async fn one_message_may_become_several_and_go_where_a_router_says() {
    let broker = TestBroker::start().await;
    let outputs = "outputs = { a = \"topic:left\", b = \"queue:right\" }";
    broker.queue("left", "left", None).await;
    broker.queue("right", "nothing-comes-here", None).await;
    broker.apply("split", &ingress("in", &stage("router", outputs))).await;

    assert!(matches!(
        broker.publish(message("in", "x", &[("behave", "both")])).await,
        Receipt::Stored(stored) if stored.entries == 2
    ));
    let left = broker.take("left").await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].message.topic.as_str(), "left");
    assert_eq!(left[0].message.headers.text("wharf-pipeline"), Some("split/1"));
    assert_eq!(broker.take("right").await.len(), 1);
}

#[tokio::test]
async fn a_loop_of_pipelines_is_ended_and_explained() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("circle", &ingress("in", &stage("router", "outputs = { a = \"topic:in\" }"))).await;

    let told = rejection(broker.publish(message("in", "x", &[("behave", "first")])).await);
    assert_eq!(told.code, ErrorCode::StageFailed);
    assert!(told.reason.contains("loop"), "{}", told.reason);
    assert!(matches!(broker.publish(message("in", "x", &[])).await, Receipt::Stored(_)));
}

#[tokio::test]
async fn a_plugin_that_breaks_spoils_its_own_message_and_no_other_queue() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.queue("other", "other", None).await;
    broker.apply("hostile", &ingress("in", &stage("transformer", "deadline-ms = 20"))).await;

    for behaviour in ["loop", "panic", "allocate", "recurse", "output-huge", "outputs-many", "bad-range"] {
        let told = rejection(broker.publish(message("in", "x", &[("behave", behaviour)])).await);
        assert_eq!(told.code, ErrorCode::StageFailed, "{behaviour}: {told:?}");
        assert_eq!(told.stage.as_deref(), Some("hostile/guest"));
        let fine = broker.publish(message("in", "fine", &[])).await;
        assert!(matches!(fine, Receipt::Stored(_)), "after {behaviour}: {fine:?}");
        assert!(matches!(broker.publish(message("other", "x", &[])).await, Receipt::Stored(_)));
    }
    assert_eq!(broker.take("q").await.len(), 7);
    assert_eq!(broker.take("other").await.len(), 7);
}

#[tokio::test]
async fn a_trial_tells_what_would_be_done_and_does_nothing() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("convert", &ingress("in", "[[stage]]\nplugin = \"xml-to-json\"\n")).await;

    let report = broker.node.try_pipeline(&me(), &name("convert"), message("in", "<a>1</a>", &[])).await;
    let report = report.expect("it runs");
    assert_eq!(report.steps.len(), 1);
    assert_eq!(report.destinations[0].queues, [name("q")]);
    assert!(broker.take("q").await.is_empty());
}

#[tokio::test]
async fn a_pipeline_file_that_is_wrong_changes_nothing_and_says_what_is_wrong() {
    let broker = TestBroker::start().await;
    for (spec, complaint) in [
        ("name = \"p\"", "[[stage]]"),
        ("name = \"p\"\n[[stage]]\nplugin = \"nobody\"", "nobody"),
        ("name = \"p\"\n[[stage]]\nplugin = \"xml-to-json\"\nconfig = { numbers = 7 }", "numbers"),
        ("name = \"p\"\n[[stage]]\nplugin = \"xml-to-json\"\nkind = \"router\"", "router"),
        ("name = \"other\"\n[[stage]]\nplugin = \"xml-to-json\"", "other"),
    ] {
        let refused = broker.node.apply_pipeline(&me(), name("p"), spec, None).await.expect_err("refused");
        assert!(refused.to_string().contains(complaint), "{spec}: {refused}");
    }
    assert!(broker.node.pipelines(&me()).await.expect("allowed").is_empty());
}

#[tokio::test]
async fn a_plugin_in_use_stays_and_one_that_is_not_can_be_removed() {
    let broker = TestBroker::start().await;
    broker.apply("p", "[[stage]]\nplugin = \"xml-to-json\"\n").await;
    let in_use = broker.node.remove_plugin(&me(), &name("xml-to-json"), &name("1")).await;
    assert!(in_use.expect_err("refused").to_string().contains("pipeline p"));

    broker.node.remove_plugin(&me(), &name(GUEST), &name("1")).await.expect("removed");
    let left = broker.node.plugins(&me()).await.expect("allowed");
    assert_eq!(left.iter().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>(), ["xml-to-json"]);
}
