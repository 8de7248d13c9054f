//! A pipeline's share of processor time: who brings it messages waits, and nobody else.

use std::time::Duration;

use wharf_node::Publication;
use wharf_protocol::Receipt;

use crate::broker::{GUEST, TestBroker, me, message, name};

/// Far less than one call takes: the first message of a pipeline with it owes minutes.
const HARDLY_ANY: &str = "cpu = \"1ms\"\n";

/// A bound on a busy machine, far below what is owed.
const SOON: Duration = Duration::from_secs(20);

fn spec(head: &str, name: &str) -> String {
    format!(
        "{head}[[stage]]\nname = \"{name}\"\nplugin = \"{GUEST}\"\nkind = \"validator\"\ndeadline-ms = 400\n"
    )
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

#[tokio::test]
async fn who_is_over_its_share_waits_others_do_not_and_a_new_version_lets_them_go() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.queue("other", "other", None).await;
    broker.apply("greedy", &spec(&format!("ingress = \"in\"\n{HARDLY_ANY}"), "s")).await;
    broker.apply("modest", &spec("ingress = \"other\"\n", "s")).await;

    // It may owe: the first is taken at once.
    let first = soon("the first", broker.publish(message("in", "x", &[("behave", "loop")]))).await;
    assert!(matches!(first, Receipt::Rejected(_)), "{first:?}");

    let (node, late) = (broker.node.clone(), message("in", "x", &[]));
    let waiting =
        tokio::spawn(async move { node.publish(&me(), vec![Publication::from(late)]).await.await.remove(0) });
    let owed = async {
        loop {
            let view = broker.node.pipeline(&me(), &name("greedy")).await.expect("there");
            if view.cpu.owed > Duration::from_secs(30) {
                return view;
            }
            tokio::task::yield_now().await;
        }
    };
    let view = soon("the account", owed).await;
    assert_eq!(view.cpu.share.map(|share| share.to_string()).as_deref(), Some("1ms"));
    assert!(view.cpu.busy >= Duration::from_millis(300), "{:?}", view.cpu);
    for _ in 0..10 {
        let other = soon("another pipeline", broker.publish(message("other", "x", &[]))).await;
        assert!(matches!(other, Receipt::Stored(_)), "{other:?}");
    }
    assert!(!waiting.is_finished(), "it is over its share");

    soon("a swap", broker.apply("greedy", &spec("ingress = \"in\"\n", "s"))).await;
    let late = soon("who waited", waiting).await.expect("it does not panic");
    assert!(matches!(late, Receipt::Stored(_)), "{late:?}");
    assert_eq!(broker.take("q").await.len(), 1);
}

#[tokio::test]
async fn who_waits_for_a_share_does_not_hold_up_the_swap_of_what_it_has_passed() {
    let broker = TestBroker::start().await;
    broker.apply("bound", &spec(HARDLY_ANY, "s")).await;
    broker.queue("q", "in", Some("bound")).await;
    let owing = soon("a loop", broker.publish(message("in", "x", &[("behave", "loop")]))).await;
    assert!(matches!(owing, Receipt::Rejected(_)), "{owing:?}");
    broker.apply("first", &spec("ingress = \"in\"\n", "s")).await;

    let (node, late) = (broker.node.clone(), message("in", "x", &[]));
    let waiting =
        tokio::spawn(async move { node.publish(&me(), vec![Publication::from(late)]).await.await.remove(0) });
    // It holds `first` once that has seen its message.
    let passed = async {
        while broker.node.pipeline(&me(), &name("first")).await.expect("there").stages[0].messages == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the first pipeline", passed).await;
    soon("a swap", broker.apply("first", &spec("ingress = \"in\"\n", "t"))).await;
    let late = soon("who waited", waiting).await.expect("it does not panic");
    assert!(matches!(late, Receipt::Stored(_)), "{late:?}");
}
