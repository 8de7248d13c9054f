//! What the node promises of dead letters: found, mended, sent back, and not without end.

use std::time::Duration;

use tempfile::TempDir;
use wharf_node::{
    Binding, Config, Event, LetterEdit, LetterFilter, Node, NodeError, Principal, Publication, REDRIVEN_MAX,
    SubscribeOptions, TransferSpec, TransferView,
};
use wharf_protocol::{DeathCause, Delivery, HeadersBuilder, Message, Name, Outcome, Settlement, Timestamp};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    node: Node,
    _folder: TempDir,
}

fn me() -> Principal {
    Principal::system()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

impl Broker {
    /// A node with a queue `q`, bound to every topic.
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = Node::start(Config::new(folder.path())).await.expect("it starts");
        node.create_queue(&me(), name("q"), Default::default()).await.expect("created");
        let binding = Binding { pattern: "#".parse().expect("a pattern"), queue: name("q"), pipeline: None };
        node.bind(&me(), binding).await.expect("bound");
        Self { node, _folder: folder }
    }

    async fn publish(&self, count: usize) {
        let publication = |n: usize| {
            let mut message = Message::new("t".parse().expect("a topic"), n.to_string());
            let tenant = if n.is_multiple_of(100) { "acme" } else { "other" };
            message.headers = HeadersBuilder::default().set("tenant", tenant).build().expect("small");
            Publication::from(message)
        };
        let receipts = self.node.publish(&me(), (0..count).map(publication).collect()).await.await;
        assert_eq!(receipts.len(), count);
    }

    /// Takes all there is, and refuses it.
    async fn refuse_all(&self, reason: &str) -> Vec<Delivery> {
        let options = SubscribeOptions { credit: 65_536, notify_empty: true, ..SubscribeOptions::default() };
        let mut consumer = self.node.subscribe(&me(), &name("q"), options).await.expect("subscribed");
        let mut deliveries = Vec::new();
        while consumer.next(&mut deliveries).await.expect("open") != Event::Empty {}
        let outcome = Outcome::DeadLetter { reason: reason.to_owned() };
        if let Some(last) = deliveries.last() {
            let settlement = Settlement { first: 1, last: last.tag, outcome };
            let settled = consumer.controls().settle(vec![settlement]).await;
            settled.expect("open").await.expect("durable");
        }
        deliveries
    }

    async fn redrive(&self, spec: TransferSpec) -> TransferView {
        self.node.redrive_queue(&me(), &name("dead-letters"), None, spec).await.expect("begun");
        self.node.transfer_of(&me(), &name("dead-letters"), PATIENCE).await.expect("there is one")
    }

    async fn find(&self, filter: LetterFilter) -> Vec<u64> {
        self.find_by(100, filter).await
    }

    /// Page by page, of at most `limit` letters.
    async fn find_by(&self, limit: usize, filter: LetterFilter) -> Vec<u64> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.node.find_dead_letters(&me(), None, filter.clone(), after, limit).await;
            let page = page.expect("allowed");
            assert!(page.letters.len() <= limit);
            found.extend(page.letters.iter().map(|letter| letter.offset));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }
}

#[tokio::test]
async fn letters_are_found_by_what_their_deaths_and_headers_say() {
    let broker = Broker::start().await;
    broker.publish(250).await;
    broker.refuse_all("no total").await;
    let second = Timestamp::wall_clock();
    broker.publish(1).await;
    broker.refuse_all("No Customer").await;

    assert_eq!(broker.find(LetterFilter::default()).await, (0..251).collect::<Vec<u64>>());
    let reason = |text: &str| LetterFilter { reason: Some(text.to_owned()), ..LetterFilter::default() };
    assert_eq!(broker.find(reason("no customer")).await, [250]);
    let acme = vec![("tenant".to_owned(), "acme".to_owned())];
    let filter = LetterFilter { headers: acme.clone(), ..LetterFilter::default() };
    assert_eq!(broker.find(filter).await, [0, 100, 200, 250]);
    let both = LetterFilter { headers: acme, ..reason("total") };
    assert_eq!(broker.find(both).await, [0, 100, 200]);
    let later = LetterFilter { since: Some(second), ..LetterFilter::default() };
    assert!(broker.find(later).await.ends_with(&[250]));
    let none = LetterFilter { cause: Some(DeathCause::Expired), ..LetterFilter::default() };
    assert!(broker.find(none).await.is_empty());
    let nobody =
        LetterFilter { plugin: Some("nobody".parse().expect("a plugin")), ..LetterFilter::default() };
    let refused = broker.node.find_dead_letters(&me(), None, nobody, None, 9).await;
    assert!(matches!(refused, Err(NodeError::NotFound { kind: "plugin", .. })));
}

/// A search by headers looks at more letters than it was asked for.
#[tokio::test]
async fn a_page_of_a_search_by_headers_ends_where_the_next_one_begins() {
    let broker = Broker::start().await;
    broker.publish(250).await;
    broker.refuse_all("no total").await;
    for (tenant, count) in [("acme", 3), ("other", 247), ("nobody", 0)] {
        let headers = vec![("tenant".to_owned(), tenant.to_owned())];
        let filter = LetterFilter { headers, ..LetterFilter::default() };
        for limit in [1, 2, 3, 100, 247, 300] {
            let found = broker.find_by(limit, filter.clone()).await;
            assert_eq!(found.len(), count, "{tenant}, by {limit}");
            assert!(found.is_sorted_by(|one, next| one < next), "{tenant}, by {limit}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_redrive_takes_those_that_are_meant_and_leaves_those_that_go_in_circles() {
    let broker = Broker::start().await;
    broker.publish(101).await;
    broker.refuse_all("no total").await;
    let filter = LetterFilter { headers: vec![("tenant".into(), "acme".into())], ..LetterFilter::default() };
    for _ in 0..REDRIVEN_MAX {
        let spec = || TransferSpec {
            filter: filter.clone(),
            redriven_max: Some(REDRIVEN_MAX),
            per_second: Some(10_000),
            ..TransferSpec::default()
        };
        let told = broker.redrive(spec()).await;
        assert_eq!((told.moved, told.kept, told.looping), (2, 0, 0));
        let again = broker.refuse_all("no total").await;
        assert_eq!(
            again.iter().map(|each| &each.message.payload[..]).collect::<Vec<_>>(),
            [&b"0"[..], b"100"]
        );
    }

    let guarded = TransferSpec { redriven_max: Some(REDRIVEN_MAX), ..TransferSpec::default() };
    let told = broker.redrive(guarded).await;
    assert_eq!((told.moved, told.looping), (99, 2));
    let letters = broker.node.dead_letters(&me(), None, 0, 9).await.expect("allowed");
    assert!(letters.iter().all(|letter| letter.redriven == REDRIVEN_MAX && letter.past.len() == 3));
    assert_eq!(broker.redrive(TransferSpec::default()).await.moved, 2, "forced");
}

#[tokio::test]
async fn an_edited_letter_is_another_message_with_the_same_history_also_after_a_restart() {
    let broker = Broker::start().await;
    broker.publish(1).await;
    broker.refuse_all("no total").await;
    let old = broker.node.dead_letters(&me(), None, 0, 1).await.expect("allowed").remove(0);
    let edit = LetterEdit {
        payload: Some("mended".into()),
        topic: Some("elsewhere".parse().expect("a topic")),
        set: vec![("by".into(), b"me".to_vec())],
        remove: vec!["tenant".into()],
    };
    let new = broker.node.edit_dead_letter(&me(), old.id, &edit).await.expect("edited");
    assert_eq!((&new.death, new.edited), (&old.death, 1));
    let again = broker.node.edit_dead_letter(&me(), old.id, &edit).await;
    assert!(matches!(again, Err(NodeError::NotFound { .. })), "{again:?}");

    let Broker { node, _folder } = broker;
    node.shutdown().await;
    drop(node);
    let node = Node::start(Config::new(_folder.path())).await.expect("it starts again");
    let broker = Broker { node, _folder };
    let (letter, message) = broker.node.dead_letter(&me(), new.id).await.expect("there");
    assert_eq!(letter, new);
    assert_eq!((&message.payload[..], message.topic.as_str()), (&b"mended"[..], "elsewhere"));
    assert_eq!((message.headers.text("by"), message.headers.get("tenant")), (Some("me"), None));
    broker.redrive(TransferSpec::default()).await;
    assert_eq!(broker.refuse_all("again").await[0].message.payload, "mended");
}
