//! A pipeline is swapped while messages flow: each passes one version, once, and the log says which.

use std::collections::BTreeMap;

use wharf_node::Publication;
use wharf_protocol::Receipt;

use crate::broker::{TestBroker, me, message, name};

const MESSAGES: u64 = 3_000;
const SWAPS: u32 = 20;

fn spec(numbers: bool) -> String {
    format!("ingress = \"in\"\n[[stage]]\nplugin = \"xml-to-json\"\nconfig = {{ numbers = {numbers} }}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_lose_repeat_and_mix_nothing() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("convert", &spec(false)).await;

    let node = broker.node.clone();
    let publishing = tokio::spawn(async move {
        let mut receipts = Vec::new();
        for first in (0..MESSAGES).step_by(10) {
            let batch = (first..first + 10)
                .map(|n| Publication { message: message("in", &format!("<n>{n}</n>"), &[]), session: None });
            receipts.push(node.publish(&me(), batch.collect()).await);
        }
        let mut stored = 0;
        for receipt in receipts {
            stored += receipt.await.iter().filter(|each| matches!(each, Receipt::Stored(_))).count();
        }
        stored
    });
    for swap in 0..SWAPS {
        broker.apply("convert", &spec(swap % 2 == 0)).await;
    }
    assert_eq!(publishing.await.expect("it published"), usize::try_from(MESSAGES).expect("small"));

    let history = broker.node.pipeline_history(&me(), &name("convert")).await.expect("it is there");
    assert_eq!(history.len(), 1 + usize::try_from(SWAPS).expect("small"));
    let version_at =
        |index| history.iter().rev().find(|change| change.index < index).map(|change| change.number);
    let mut seen = BTreeMap::new();
    for delivery in broker.take("q").await {
        let number = version_at(delivery.id.index).expect("a version was active");
        let passed = delivery.message.headers.text("wharf-pipeline");
        assert_eq!(passed, Some(format!("convert/{number}").as_str()), "record {}", delivery.id.index);
        // Versions with even numbers write numbers, the odd ones strings.
        let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
        let n = text.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number");
        assert_eq!(text.ends_with("\"}"), number % 2 == 1, "{text}");
        *seen.entry(n).or_insert(0) += 1;
    }
    assert!(seen.values().all(|times| *times == 1), "a message was repeated");
    assert_eq!(seen.len() as u64, MESSAGES, "a message was lost");
}
