//! Ordering keys and fair queues.

use wharf_protocol::{HeadersBuilder, Message, Outcome};
use wharf_queue::{
    Change, Entry, LOAD_PERIOD_MS, Order, PARKED_MAX, Publish, QueuePolicy, Record, Redrive, Selection,
};

use crate::shard::{Shard, brief, deliveries, message, name};

fn keyed(key: &'static str) -> Message {
    Message { key: Some(key.into()), ..message("m") }
}

fn of_tenant(tenant: &str) -> Message {
    let headers = HeadersBuilder::default().set("tenant", tenant).build().expect("small");
    Message { headers, ..message("m") }
}

fn by_key() -> QueuePolicy {
    QueuePolicy { order: Order::Key, ..QueuePolicy::default() }
}

fn by_tenant() -> QueuePolicy {
    QueuePolicy { fair_by: Some("tenant".into()), ..QueuePolicy::default() }
}

#[test]
fn one_message_of_a_key_is_in_flight_and_others_pass_it() {
    let mut shard = Shard::new();
    shard.create("q", by_key());
    for key in ["a", "a", "b", "a", "b"] {
        shard.publish(&["q"], keyed(key));
    }
    shard.publish(&["q"], message("no key"));
    assert_eq!(brief(&shard.attach(1, "q", 10)), [(1, 0, 1), (1, 2, 1), (1, 5, 1)]);
    let view = shard.queue("q");
    assert_eq!((view.ready, view.lanes_in_flight, view.lanes_waiting), (3, 2, 3));
    assert_eq!(brief(&shard.ack(1, 1).delivered), [(1, 1, 1)]);
    assert_eq!(brief(&shard.ack(1, 2).delivered), [(1, 4, 1)]);
    assert_eq!(brief(&shard.ack(1, 4).delivered), [(1, 3, 1)]);
}

#[test]
fn a_key_waits_while_its_message_rests_after_a_failure() {
    let mut shard = Shard::new();
    shard.create("q", by_key());
    shard.attach(1, "q", 10);
    for _ in 0..2 {
        shard.publish(&["q"], keyed("a"));
    }
    assert_eq!(brief(&shard.nack(1, 1, 1_000).delivered), []);
    shard.wait(999);
    assert_eq!(brief(&deliveries(shard.publish(&["q"], keyed("b")).1)), [(1, 2, 1)]);
    shard.wait(1);
    assert_eq!(brief(&deliveries(shard.tick())), [(1, 0, 2)], "the first again, before the second");
    assert_eq!(
        brief(&shard.settle(1, 3, 3, Outcome::DeadLetter { reason: "no".into() }).delivered),
        [(1, 1, 1)]
    );
}

#[test]
fn a_key_goes_on_when_its_consumer_leaves() {
    let mut shard = Shard::new();
    shard.create("q", by_key());
    for _ in 0..2 {
        shard.publish(&["q"], keyed("a"));
    }
    shard.attach(1, "q", 10);
    shard.detach(1);
    assert_eq!(brief(&shard.attach(2, "q", 10)), [(2, 0, 2)]);
    assert_eq!(brief(&shard.ack(2, 1).delivered), [(2, 1, 1)]);
}

#[test]
fn a_redriven_letter_finds_its_key_again() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_attempts: 1, ..by_key() });
    shard.attach(1, "q", 1);
    shard.publish(&["q"], keyed("a"));
    shard.nack(1, 1, 0);
    shard.publish(&["q"], keyed("a"));
    shard.apply(Record::Credit { consumer: wharf_queue::ConsumerId(1), add: 9, bytes: 0 });
    let redrive =
        Redrive { queue: name("dead-letters"), select: Selection::Oldest(9), to: None, redriven_max: None };
    assert_eq!(brief(&deliveries(shard.apply(Record::Redrive(redrive)))), [], "its key is in flight");
    assert_eq!(brief(&shard.ack(1, 2).delivered), [(1, 2, 2)]);
}

#[test]
fn a_queue_looks_past_so_many_messages_of_keys_in_flight_and_no_further() {
    let mut shard = Shard::new();
    shard.create("q", by_key());
    let queue = shard.id("q");
    let entry = |key: &'static str| Entry { message: keyed(key), destinations: vec![queue.into()] };
    let entries = std::iter::repeat_with(|| entry("a")).take(65_535).collect();
    shard.send(Publish { entries, ..Publish::default() });
    for key in ["a", "a", "a", "b"] {
        shard.send(entry(key).into());
    }
    assert_eq!(brief(&shard.attach(1, "q", 10)), [(1, 0, 1)]);
    assert_eq!(shard.queue("q").lanes_waiting, PARKED_MAX as u64);
    assert_eq!(brief(&shard.ack(1, 1).delivered), [(1, 1, 1), (1, 65_538, 1)], "one went, and there is room");
}

#[test]
fn tenants_take_turns() {
    let mut shard = Shard::new();
    shard.create("q", by_tenant());
    for tenant in ["loud", "loud", "loud", "loud", "quiet"] {
        shard.publish(&["q"], of_tenant(tenant));
    }
    let offsets: Vec<u64> = shard.attach(1, "q", 3).iter().map(|each| each.offset).collect();
    assert_eq!(offsets.iter().filter(|offset| **offset == 4).count(), 1, "{offsets:?}");
    assert!(offsets[..2].contains(&4), "one of the first two: {offsets:?}");
}

#[test]
fn time_taken_counts_and_is_forgotten() {
    let mut shard = Shard::new();
    shard.create("q", by_tenant());
    shard.attach(1, "q", 1);
    shard.publish(&["q"], of_tenant("slow"));
    shard.wait(3_000);
    for tenant in ["slow", "fast", "fast"] {
        shard.publish(&["q"], of_tenant(tenant));
    }
    shard.ack(1, 1);
    let next = |shard: &mut Shard, tag: u64| {
        let more = shard.apply(Record::Credit { consumer: wharf_queue::ConsumerId(1), add: 1, bytes: 0 });
        let offset = deliveries(more)[0].offset;
        shard.ack(1, tag);
        offset
    };
    assert_eq!([next(&mut shard, 2), next(&mut shard, 3)], [2, 3], "the slow one has had its time");
    shard.publish(&["q"], of_tenant("fast"));
    shard.wait(100 * LOAD_PERIOD_MS);
    shard.tick();
    let both = [next(&mut shard, 4), next(&mut shard, 5)];
    assert!(both == [1, 4] || both == [4, 1], "long ago, nobody is owed: {both:?}");
}

/// Nine tenants send a message each 100 ms and one sends fifty; five consumers take 20 ms a message: together they
/// are twice what is served.
fn longest_wait_of_the_quiet(policy: QueuePolicy) -> u64 {
    let mut shard = Shard::new();
    shard.create("q", policy);
    let tenants: Vec<String> = (0..9).map(|n| format!("quiet-{n}")).collect();
    (1..=5).for_each(|consumer| drop(shard.attach(consumer, "q", 1)));
    let (mut sent_at, mut longest) = (std::collections::BTreeMap::new(), 0);
    let mut busy: Vec<(u64, u64, u64)> = Vec::new();
    for now in 0..1_000_u64 {
        let mut got = Vec::new();
        if now % 100 == 0 {
            for tenant in std::iter::repeat_n("loud", 50).chain(tenants.iter().map(String::as_str)) {
                let offset = shard.queue("q").enqueued;
                if tenant != "loud" {
                    sent_at.insert(offset, now);
                }
                got.extend(deliveries(shard.publish(&["q"], of_tenant(tenant)).1));
            }
        }
        for (_, consumer, tag) in busy.extract_if(.., |(until, ..)| *until <= now).collect::<Vec<_>>() {
            shard.ack(consumer, tag);
            let consumer = wharf_queue::ConsumerId(consumer);
            got.extend(deliveries(shard.apply(Record::Credit { consumer, add: 1, bytes: 0 })));
        }
        for deliver in got {
            busy.push((now + 20, deliver.consumer.0, deliver.tag));
            if let Some(sent) = sent_at.remove(&deliver.offset) {
                longest = longest.max(now - sent);
            }
        }
        shard.wait(1);
    }
    sent_at.into_values().map(|sent| 1_000 - sent).fold(longest, u64::max)
}

#[test]
fn a_tenant_that_floods_waits_behind_its_own_messages() {
    let fair = longest_wait_of_the_quiet(by_tenant());
    let unfair = longest_wait_of_the_quiet(QueuePolicy::default());
    assert!(fair <= 100, "no quiet tenant waits for the flood: {fair} ms");
    assert!(unfair > 400, "as all do without: {unfair} ms");
}

#[test]
fn a_fair_queue_that_is_full_drops_from_the_tenant_that_floods() {
    let mut shard = Shard::new();
    let overflow = wharf_queue::Overflow::DropOldest;
    shard.create("q", QueuePolicy { max_messages: 6, overflow, ..by_tenant() });
    shard.attach(1, "q", 2);
    for _ in 0..3 {
        shard.publish(&["q"], of_tenant("loud"));
    }
    for tenant in ["quiet", "loud", "loud", "loud", "loud"] {
        shard.publish(&["q"], of_tenant(tenant));
    }
    let kept: Vec<u64> = shard.state.browse("q", 0, 9).iter().map(|each| each.offset).collect();
    assert_eq!(kept, [0, 1, 3, 5, 6, 7], "the quiet one's stays");
}

#[test]
fn what_waiting_messages_are_sorted_by_stays() {
    let mut shard = Shard::with_queues(&["q"]);
    let set = |policy| Change::SetPolicy { name: name("q"), policy, was: None };
    shard.publish(&["q"], keyed("a"));
    let refusal = shard.change(set(by_key())).expect_err("refused");
    assert_eq!(
        refusal.reason,
        "queue q holds 1 messages, and their order was decided as they came: order and fair-by change while it \
         is empty"
    );
    shard.change(Change::PurgeQueue { name: name("q") }).expect("purged");
    shard.change(set(by_key())).expect("empty");
    for _ in 0..2 {
        shard.publish(&["q"], keyed("a"));
    }
    assert_eq!(shard.attach(1, "q", 9).len(), 1);
    let both = QueuePolicy { order: Order::Key, ..by_tenant() };
    let create = Change::CreateQueue { name: name("both"), policy: both };
    assert!(shard.change(create).expect_err("refused").reason.contains("not both"));
}
