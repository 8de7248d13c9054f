//! A pipeline is swapped while messages flow: each passes one version, once, and the log says which.
//!
//! What went wrong when the lock of a swap was broken on purpose (a version was used after its swap had its place in
//! the log): messages behind the record of version n + 1 had passed version n. The check by record catches that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wharf_node::{Node, PipelineChange, Publication, Receipts, TransferSpec};
use wharf_protocol::{Delivery, PipelineVersion, Receipt};

use crate::broker::{TestBroker, me, message, name};

const SWAPS: u32 = 200;
/// Publishers that work at the same time, each with messages of its own.
const PUBLISHERS: u64 = 3;
/// Messages of a batch: a batch passes its pipeline together.
const BATCH: u64 = 7;

fn spec(numbers: bool) -> String {
    format!(
        "name = \"convert\"\ningress = \"in\"\n[[stage]]\nplugin = \"xml-to-json\"\nconfig = {{ numbers = {numbers} }}\n"
    )
}

/// By index of the record: the versions that the receipt of its message told.
type Told = BTreeMap<u64, Vec<PipelineVersion>>;

/// What a batch was told.
async fn receive(mut receipts: Receipts, told: &mut Told) {
    let versions = receipts.take_versions();
    for (receipt, versions) in receipts.await.into_iter().zip(versions) {
        let Receipt::Stored(stored) = receipt else { panic!("{receipt:?}") };
        told.insert(stored.index, versions);
    }
}

/// The version that was in use where a message has its place in the log, which is the one that it is marked with.
#[track_caller]
fn version_of(delivery: &Delivery, history: &[PipelineChange]) -> u32 {
    let index = delivery.id.index;
    let change = history.iter().rev().find(|change| change.index < index).expect("a version was active");
    let mark = delivery.message.headers.text("wharf-pipeline");
    assert_eq!(mark, Some(format!("convert/{}", change.number).as_str()), "record {index}");
    change.number
}

/// Publishes batch after batch until told to stop; what their receipts told.
async fn publish(node: Node, publisher: u64, stop: Arc<AtomicBool>, flowing: Arc<AtomicU64>) -> Told {
    let (mut sent, mut waiting, mut told) = (0, Vec::new(), Told::new());
    while !stop.load(Ordering::Acquire) {
        let batch = (sent..sent + BATCH).map(|n| {
            let text = format!("<n>{}</n>", n * PUBLISHERS + publisher);
            let message = message("in", &text, &[]);
            Publication { message, session: None, tell_versions: true }
        });
        waiting.push(node.publish(&me(), batch.collect()).await);
        sent += BATCH;
        flowing.fetch_add(BATCH, Ordering::AcqRel);
        if waiting.len() == 16 {
            for receipts in waiting.drain(..) {
                receive(receipts, &mut told).await;
            }
        }
    }
    for receipts in waiting {
        receive(receipts, &mut told).await;
    }
    assert_eq!(told.len() as u64, sent, "each message has a record and a receipt of its own");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn two_hundred_swaps_under_load_lose_repeat_and_mix_nothing() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let convert = name("convert");
    broker.node.apply_pipeline(&me(), convert.clone(), &spec(false), None).await.expect("applied");

    let stop = Arc::new(AtomicBool::new(false));
    let flowing = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| tokio::spawn(publish(broker.node.clone(), n, Arc::clone(&stop), Arc::clone(&flowing))))
        .collect();
    for swap in 0..SWAPS {
        // Messages passed every version: the swap is under load, not beside it.
        let before = flowing.load(Ordering::Acquire);
        while flowing.load(Ordering::Acquire) < before + BATCH {
            tokio::task::yield_now().await;
        }
        // Each way to swap: a new version, one that was staged, and back and forth again.
        let node = &broker.node;
        match swap % 4 {
            0 => drop(
                node.apply_pipeline(&me(), convert.clone(), &spec(swap % 8 == 0), None)
                    .await
                    .expect("applied"),
            ),
            1 => {
                let staged =
                    node.stage_pipeline(&me(), &convert, &spec(swap % 8 == 5), None).await.expect("staged");
                drop(node.activate_pipeline(&me(), &convert, staged, None).await.expect("activated"));
            }
            2 => drop(node.rollback_pipeline(&me(), &convert, None, None).await.expect("rolled back")),
            _ => drop(node.activate_pipeline(&me(), &convert, 1, None).await.expect("activated")),
        }
    }
    stop.store(true, Ordering::Release);
    let mut told = Told::new();
    for publisher in publishers {
        told.append(&mut publisher.await.expect("it published"));
    }

    let mut history = broker.node.pipeline_history(&me(), &convert).await.expect("it is there");
    history.retain(|change| change.kind.activates());
    assert_eq!(history.len(), 1 + usize::try_from(SWAPS).expect("small"));
    let numbers: BTreeMap<u32, bool> = broker.numbers_of("convert").await;
    let (mut seen, mut passed) = (BTreeMap::new(), BTreeMap::new());
    for delivery in broker.take("q").await {
        let number = version_of(&delivery, &history);
        let receipt = &told[&delivery.id.index];
        let expected = PipelineVersion { pipeline: convert.clone(), number };
        assert_eq!(receipt, &[expected], "the receipt of record {}", delivery.id.index);
        let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
        assert_eq!(!text.ends_with("\"}"), numbers[&number], "version {number} did not make {text}");
        let n = text.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number");
        *seen.entry(n).or_insert(0) += 1;
        *passed.entry(number).or_insert(0) += 1;
    }
    assert!(seen.values().all(|times| *times == 1), "a message was repeated");
    assert_eq!(seen.len(), told.len(), "a message was lost");
    assert!(passed.len() > 50, "only {} versions saw a message", passed.len());
}

const LETTERS: u64 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dead_letters_that_go_on_while_their_pipeline_is_swapped_pass_one_version_each_once() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let strict = "[[stage]]\nplugin = \"guest\"\nkind = \"validator\"\non-failure = \"dead-letter\"";
    broker.apply("convert", &format!("ingress = \"in\"\n{strict}")).await;
    for n in 0..LETTERS {
        broker.publish(message("in", &format!("<n>{n}</n>"), &[("behave", "reject")])).await;
    }
    let (convert, letters) = (name("convert"), name("dead-letters"));
    broker.node.apply_pipeline(&me(), convert.clone(), &spec(false), None).await.expect("applied");

    let order = TransferSpec { per_second: Some(2_000), ..TransferSpec::default() };
    broker.node.redrive_queue(&me(), &letters, None, order).await.expect("begun");
    let node = broker.node.clone();
    let redrive = tokio::spawn(async move {
        node.transfer_of(&me(), &letters, std::time::Duration::from_secs(60)).await.expect("there")
    });
    // Odd versions make numbers; the first made the letters.
    let mut version = 3;
    while !redrive.is_finished() {
        let spec = spec(version % 2 == 1);
        broker.node.apply_pipeline(&me(), convert.clone(), &spec, None).await.expect("applied");
        version += 1;
    }
    let told = redrive.await.expect("it ended");
    assert_eq!((told.moved, told.died_again, told.kept), (LETTERS, 0, 0));

    let history = broker.node.pipeline_history(&me(), &convert).await.expect("it is there");
    let (mut seen, mut passed) = (BTreeMap::new(), BTreeMap::new());
    for delivery in broker.take("q").await {
        let number = version_of(&delivery, &history);
        let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
        assert_eq!(!text.ends_with("\"}"), number % 2 == 1, "version {number} did not make {text}");
        *seen.entry(text.trim_matches(|c: char| !c.is_ascii_digit()).to_owned()).or_insert(0) += 1;
        *passed.entry(number).or_insert(0) += 1;
    }
    assert!(seen.len() as u64 == LETTERS && seen.values().all(|times| *times == 1), "each came once");
    assert!(passed.len() > 2, "it was swapped beside the redrive: {passed:?}");
}
