//! Dead letters that go through mended pipelines again, or are discarded.

use std::time::Duration;

use wharf_node::{Binding, DeadLetterView, LetterFate, Letters, NodeError, Redriven, TraceKey, TransferSpec};
use wharf_protocol::{ErrorCode, Message, MessageId, Name, Rejection};

use crate::broker::{GUEST, TestBroker, me, message, name};

/// A validator that refuses what asks for it, to the dead letters.
fn strict(rest: &str) -> String {
    format!("{rest}\n[[stage]]\nplugin = \"{GUEST}\"\nkind = \"validator\"\non-failure = \"dead-letter\"\n")
}

fn converter(rest: &str) -> String {
    format!("{rest}\n[[stage]]\nplugin = \"xml-to-json\"\non-failure = \"dead-letter\"\n")
}

const INGRESS: &str = "ingress = \"in\"";

fn broken() -> Message {
    message("in", "<a>1</a>", &[("behave", "reject")])
}

async fn letters(broker: &TestBroker) -> Vec<DeadLetterView> {
    broker.node.dead_letters(&me(), None, 0, 99).await.expect("allowed")
}

async fn redrive(broker: &TestBroker, ids: &[MessageId]) -> Redriven {
    broker.node.redrive(&me(), Some(ids.to_vec()), None, None).await.expect("allowed")
}

fn payload(message: &Message) -> &str {
    std::str::from_utf8(&message.payload).expect("text")
}

#[track_caller]
fn stays(redriven: &Redriven) -> &Rejection {
    match &redriven.told[..] {
        [told] => match &told.fate {
            LetterFate::Stays(rejection) => rejection,
            other => panic!("it went: {other:?}"),
        },
        other => panic!("one is told of, not {other:?}"),
    }
}

#[tokio::test]
async fn what_died_on_its_way_in_goes_through_the_version_in_force_now() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.queue("other", "in", None).await;
    broker.apply("check", &strict(INGRESS)).await;
    broker.publish(broken()).await;
    let [letter] = &letters(&broker).await[..] else { panic!("one letter") };
    broker.apply("check", &converter(INGRESS)).await;

    let redriven = redrive(&broker, &[letter.id]).await;

    assert_eq!((redriven.moved, redriven.died_again, redriven.kept), (1, 0, 0));
    let LetterFate::WentOn { became, versions, died_again: None } = &redriven.told[0].fate else {
        panic!("it went on: {redriven:?}")
    };
    assert_eq!((became.entries, versions[0].to_string().as_str()), (1, "check/2"));
    for queue in ["q", "other"] {
        let [delivery] = &broker.take(queue).await[..] else { panic!("one in {queue}") };
        assert_eq!(payload(&delivery.message), "{\"a\":\"1\"}");
        assert_eq!(Some(delivery.id), became.ids().next());
    }
    assert_eq!(letters(&broker).await, []);
    let again = broker.node.redrive(&me(), Some(vec![letter.id]), None, None).await;
    assert!(matches!(again, Err(NodeError::NotFound { .. })), "once: {again:?}");
}

/// It went through the first pipeline before, which would not know its own output.
#[tokio::test]
async fn what_died_in_the_second_pipeline_of_its_topic_does_not_pass_the_first_again() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("a-convert", &converter(INGRESS)).await;
    broker.apply("b-check", &strict(INGRESS)).await;
    broker.publish(broken()).await;
    let [letter] = &letters(&broker).await[..] else { panic!("one letter") };
    assert_eq!(letter.death.stage.as_deref(), Some("b-check/guest"));
    let remove = vec!["behave".to_owned()];
    let edit = wharf_node::LetterEdit { remove, ..wharf_node::LetterEdit::default() };
    let letter = broker.node.edit_dead_letter(&me(), letter.id, &edit).await.expect("edited");

    assert_eq!(redrive(&broker, &[letter.id]).await.moved, 1);
    let [delivery] = &broker.take("q").await[..] else { panic!("one message") };
    assert_eq!(payload(&delivery.message), "{\"a\":\"1\"}");
    assert_eq!(delivery.message.headers.text("wharf-pipeline"), Some("a-convert/1, b-check/1"));
}

#[tokio::test]
async fn what_died_on_a_binding_goes_through_that_binding_alone() {
    let broker = TestBroker::start().await;
    broker.apply("check", &strict("")).await;
    broker.queue("checked", "in", Some("check")).await;
    broker.queue("plain", "in", None).await;
    broker.publish(broken()).await;
    assert_eq!(broker.take("plain").await.len(), 1);
    let [letter] = &letters(&broker).await[..] else { panic!("one letter") };
    broker.apply("check", &converter("")).await;

    assert_eq!(redrive(&broker, &[letter.id]).await.moved, 1);

    let [delivery] = &broker.take("checked").await[..] else { panic!("one message") };
    assert_eq!(payload(&delivery.message), "{\"a\":\"1\"}");
    assert!(broker.take("plain").await.is_empty(), "it had its message");
}

#[tokio::test]
async fn what_another_pipeline_stands_in_for_goes_through_that_and_what_nothing_takes_stays() {
    let broker = TestBroker::start().await;
    broker.apply("check", &strict("")).await;
    broker.apply("convert", &converter("")).await;
    broker.queue("q", "in", Some("check")).await;
    broker.publish(broken()).await;
    broker.publish(broken()).await;
    let [first, second] = &letters(&broker).await[..] else { panic!("two letters") };
    let binding = |pipeline: Option<Name>| Binding {
        pattern: "in".parse().expect("a pattern"),
        queue: name("q"),
        pipeline,
    };
    broker.node.unbind(&me(), &"in".parse().expect("a pattern"), &name("q")).await.expect("unbound");

    let told = redrive(&broker, &[first.id]).await;
    assert!(stays(&told).reason.contains("no binding"), "{told:?}");
    assert_eq!((told.kept, letters(&broker).await.len()), (1, 2));
    broker.node.bind(&me(), binding(Some(name("convert")))).await.expect("bound");
    assert_eq!(redrive(&broker, &[first.id]).await.moved, 1);
    assert_eq!(payload(&broker.take("q").await[0].message), "{\"a\":\"1\"}");

    broker.node.unbind(&me(), &"in".parse().expect("a pattern"), &name("q")).await.expect("unbound");
    broker.node.bind(&me(), binding(None)).await.expect("bound");
    assert_eq!(redrive(&broker, &[second.id]).await.moved, 1);
    assert_eq!(payload(&broker.take("q").await[0].message), "<a>1</a>", "no pipeline is in force");
}

#[tokio::test]
async fn what_is_refused_stays_and_what_dies_again_is_a_letter_with_its_past() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("check", &strict(INGRESS)).await;
    broker.publish(broken()).await;
    let old = letters(&broker).await.remove(0);
    let told = redrive(&broker, &[old.id]).await;
    let LetterFate::WentOn { became, died_again: Some((stage, reason)), .. } = &told.told[0].fate else {
        panic!("it died again: {told:?}")
    };
    assert_eq!((told.moved, told.died_again, stage.as_str()), (0, 1, "check/guest"));
    assert!(reason.contains("asked to be rejected"), "{reason}");
    let new = letters(&broker).await.remove(0);
    assert_eq!(Some(new.id), became.ids().next());
    assert_eq!((new.redriven, &new.past[..]), (1, &[old.death][..]));
    let key = TraceKey::Message(new.death.original);
    let traced = broker.node.trace(&me(), key, Duration::from_secs(60)).await.expect("kept");
    assert_eq!(traced[0].stage.as_deref(), Some("check/guest"), "the step on which it failed is kept");

    broker.apply("check", &strict(INGRESS).replace("dead-letter", "reject")).await;
    let told = redrive(&broker, &[new.id]).await;
    let Rejection { code, stage, reason, .. } = stays(&told);
    assert_eq!((*code, stage.as_deref()), (ErrorCode::RejectedByStage, Some("check/guest")));
    assert!(reason.contains("asked to be rejected"), "{reason}");
    assert_eq!(letters(&broker).await, std::slice::from_ref(&new));

    let guarded = broker.node.redrive(&me(), Some(vec![new.id]), None, Some(1)).await.expect("allowed");
    assert_eq!((guarded.looping, guarded.moved), (1, 0), "the guard counts it");
}

#[tokio::test]
async fn a_paced_redrive_goes_through_pipelines_too_and_takes_none_twice() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("check", &strict(INGRESS)).await;
    for n in 0..5 {
        let behave = if n == 3 { "reject" } else { "panic" };
        broker.publish(message("in", &format!("<n>{n}</n>"), &[("behave", behave)])).await;
    }
    let dead_letters = name("dead-letters");
    let again = |broker: &TestBroker| {
        let node = broker.node.clone();
        let queue = dead_letters.clone();
        async move {
            let spec = TransferSpec { per_second: Some(10_000), ..TransferSpec::default() };
            node.redrive_queue(&me(), &queue, None, spec).await.expect("begun");
            node.transfer_of(&me(), &queue, Duration::from_secs(60)).await.expect("there")
        }
    };
    let told = again(&broker).await;
    assert_eq!((told.moved, told.died_again, told.kept), (0, 5, 0), "each once, though each is there again");
    broker.apply("check", &converter(INGRESS)).await;
    let told = again(&broker).await;
    assert_eq!((told.moved, told.died_again, told.kept), (5, 0, 0));
    let came: Vec<String> =
        broker.take("q").await.iter().map(|each| payload(&each.message).to_owned()).collect();
    assert_eq!(came, (0..5).map(|n| format!("{{\"n\":\"{n}\"}}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_letter_is_discarded_once_alone_and_with_others_like_it() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("check", &strict(INGRESS)).await;
    for _ in 0..300 {
        broker.publish(broken()).await;
    }
    broker.publish(message("in", "x", &[("behave", "panic")])).await;
    let first = letters(&broker).await.remove(0);
    let one = || Letters::Named(vec![first.id]);
    assert_eq!(broker.node.discard(&me(), one()).await.expect("there").discarded, 1);
    assert!(matches!(broker.node.discard(&me(), one()).await, Err(NodeError::NotFound { .. })));

    let filter = wharf_node::LetterFilter {
        reason: Some("asked to be rejected".into()),
        ..wharf_node::LetterFilter::default()
    };
    let like = Letters::Like(Some(name("dead-letters")), Box::new(filter));
    let told = broker.node.discard(&me(), like).await.expect("allowed");
    assert_eq!((told.discarded, told.kept), (299, 0));
    let broker = broker.restart().await;
    let left = letters(&broker).await;
    assert_eq!(left.len(), 1, "what broke its stage is left, also after a restart");
    assert!(broker.node.dead_letter(&me(), first.id).await.is_err());
}
