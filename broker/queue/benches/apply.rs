//! What a record costs: `cargo bench -p wharf-queue`.
//!
//! Prints nanoseconds of CPU a message on one core, and bytes of memory a waiting message. With a number behind
//! `--`, only what so many waiting messages cost; with `keys`, `tenants` or `limits`, only that: memory is measured in
//! a process that has used none before.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wharf_protocol::{HeadersBuilder, Message, Outcome, ProducerId, Session, Settlement, Timestamp};
use wharf_queue::{
    Attach, Change, ConsumerId, Effect, Entry, Order, Publish, QueuePolicy, Record, Stamped, State,
};

const MESSAGES: u64 = 1_000_000;

struct Shard {
    state: State,
    effects: Vec<Effect>,
}

impl Shard {
    fn new() -> Self {
        Self::with(QueuePolicy::default())
    }

    fn with(policy: QueuePolicy) -> Self {
        let mut shard = Self { state: State::default(), effects: Vec::new() };
        let name = "q".parse().expect("a name");
        shard.apply(&at(Record::Topology(Change::CreateQueue { name, policy })));
        shard
    }

    fn apply(&mut self, stamped: &Stamped) -> usize {
        self.effects.clear();
        self.state.apply(self.state.applied() + 1, stamped, &mut self.effects);
        self.effects.len()
    }

    fn attach(&mut self, credit: u32) {
        let queue = "q".parse().expect("a name");
        self.apply(&at(Record::Attach(Attach {
            consumer: ConsumerId(1),
            queue,
            credit,
            ..Attach::default()
        })));
    }
}

fn at(record: Record) -> Stamped {
    Stamped { at: Timestamp(1_000), record }
}

fn publish(shard: &Shard) -> Publish {
    let message = Message::new("orders.eu.created".parse().expect("a topic"), vec![b'x'; 1024]);
    let queue = shard.state.topology().queue("q").expect("made").id;
    Publish::from(Entry { message, destinations: vec![queue.into()] })
}

fn ack(first: u64, last: u64) -> Stamped {
    let settlements = vec![Settlement { first, last, outcome: Outcome::Ack }];
    at(Record::Settle { consumer: ConsumerId(1), settlements })
}

/// Prints what a run of `messages` cost each.
fn report(what: &str, messages: u64, took: Duration) {
    println!("{what:<58} {:>7.0} ns", took.as_nanos() as f64 / messages as f64);
}

fn main() {
    if let Some(messages) = std::env::args().find_map(|text| text.parse().ok()) {
        return waiting(messages);
    }
    if let Some((what, policy)) = std::env::args().find_map(|text| sorted(&text)) {
        return lanes(what, policy);
    }
    codec();
    waiting(MESSAGES);
    flowing();
    sessions();
    for name in ["keys", "tenants", "limits"] {
        let (what, policy) = sorted(name).expect("one of those there are");
        lanes(what, policy);
    }
}

fn codec() {
    let shard = Shard::new();
    let stamped = at(Record::Publish(publish(&shard)));
    let mut out = BytesMut::with_capacity(2_048);
    let start = Clock::start();
    for _ in 0..MESSAGES {
        out.clear();
        black_box(&stamped).encode(&mut out);
    }
    report("encode a publish of 1 KiB", MESSAGES, start.elapsed());
    let bytes: Bytes = out.freeze();
    let start = Clock::start();
    for _ in 0..MESSAGES {
        black_box(Stamped::decode(black_box(bytes.clone())).expect("a record"));
    }
    report("decode a publish of 1 KiB", MESSAGES, start.elapsed());
}

fn waiting(messages: u64) {
    let mut shard = Shard::new();
    let stamped = at(Record::Publish(publish(&shard)));
    let before = resident_bytes();
    let start = Clock::start();
    for _ in 0..messages {
        shard.apply(&stamped);
    }
    report("publish, nobody waits", messages, start.elapsed());
    let each = resident_bytes().saturating_sub(before) as f64 / messages as f64;
    println!("{:<58} {each:>7.1} bytes", "memory of a waiting message");

    let start = Clock::start();
    let snapshot = shard.state.snapshot();
    let took = start.elapsed();
    report("snapshot, a message", messages, took);
    println!("{:<58} {:>7.0} ms", "snapshot, all", took.as_secs_f64() * 1e3);
    println!(
        "{:<58} {:>7.1} bytes",
        "snapshot of a waiting message",
        snapshot.len() as f64 / messages as f64
    );
    let start = Clock::start();
    black_box(State::restore(&snapshot).expect("a snapshot"));
    let took = start.elapsed();
    report("restore, a message", messages, took);
    println!("{:<58} {:>7.0} ms", "restore, all", took.as_secs_f64() * 1e3);
    let start = Clock::start();
    black_box(shard.state.live_records(messages / 2..messages / 2 + 1_000));
    report("find the live records of a range, a message", messages, start.elapsed());

    shard.attach(0);
    let start = Clock::start();
    for batch in 0..messages / 100 {
        shard.apply(&at(Record::Credit { consumer: ConsumerId(1), add: 100, bytes: 0 }));
        shard.apply(&ack(batch * 100 + 1, batch * 100 + 100));
    }
    report("drain: deliver and ack by hundreds", messages, start.elapsed());
}

fn flowing() {
    let mut shard = Shard::new();
    shard.attach(u32::MAX);
    let stamped = at(Record::Publish(publish(&shard)));
    let (mut publishing, mut acking) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..MESSAGES / 1_000 {
        let start = Clock::start();
        for _ in 0..1_000 {
            black_box(shard.apply(&stamped));
        }
        publishing += start.elapsed();
        let acks: Vec<Stamped> = (1..=1_000).map(|n| ack(batch * 1_000 + n, batch * 1_000 + n)).collect();
        let start = Clock::start();
        for ack in &acks {
            shard.apply(ack);
        }
        acking += start.elapsed();
    }
    report("publish to a waiting consumer", MESSAGES, publishing);
    report("ack, one a record", MESSAGES, acking);
}

fn sessions() {
    let mut shard = Shard::new();
    let mut publish = publish(&shard);
    let mut took = Duration::ZERO;
    for batch in 0..MESSAGES / 1_000 {
        let numbered = |n: u64| {
            let sequence = batch * 1_000 + n;
            publish.session = Some(Session { producer: ProducerId(7), epoch: 1, sequence });
            publish.dedup =
                Some(u128::from(sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            at(Record::Publish(publish.clone()))
        };
        let records: Vec<Stamped> = (1..=1_000).map(numbered).collect();
        let start = Clock::start();
        for record in &records {
            shard.apply(record);
        }
        took += start.elapsed();
    }
    report("publish with a session and a message id", MESSAGES, took);
}

/// A policy by which messages are sorted, or one with limits.
fn sorted(name: &str) -> Option<(&'static str, QueuePolicy)> {
    let policy = QueuePolicy::default();
    match name {
        "keys" => Some(("by key", QueuePolicy { order: Order::Key, ..policy })),
        "tenants" => Some(("by tenant", QueuePolicy { fair_by: Some("tenant".into()), ..policy })),
        "limits" => Some((
            "with limits and a ttl",
            QueuePolicy { max_messages: u64::MAX, ttl_ms: 3_600_000, ..policy },
        )),
        _ => None,
    }
}

/// What such a queue costs, with a thousand keys and ten tenants.
fn lanes(what: &str, policy: QueuePolicy) {
    let mut shard = Shard::with(policy);
    let records: Vec<Stamped> = (0..1_000_u64)
        .map(|n| {
            let mut publish = publish(&shard);
            let tenant = HeadersBuilder::default().set("tenant", (n % 10).to_string()).build();
            publish.entries[0].message.headers = tenant.expect("small");
            publish.entries[0].message.key = Some(n.to_string().into());
            at(Record::Publish(publish))
        })
        .collect();
    let before = resident_bytes();
    let start = Clock::start();
    for record in records.iter().cycle().take(MESSAGES as usize) {
        shard.apply(record);
    }
    report(&format!("publish, nobody waits, {what}"), MESSAGES, start.elapsed());
    let each = resident_bytes().saturating_sub(before) as f64 / MESSAGES as f64;
    println!("{:<58} {each:>7.1} bytes", format!("memory of a waiting message, {what}"));
    shard.attach(0);
    let start = Clock::start();
    for batch in 0..MESSAGES / 100 {
        shard.apply(&at(Record::Credit { consumer: ConsumerId(1), add: 100, bytes: 0 }));
        shard.apply(&ack(batch * 100 + 1, batch * 100 + 100));
    }
    report(&format!("drain: deliver and ack by hundreds, {what}"), MESSAGES, start.elapsed());
}

/// CPU time of this thread, where the system tells; wall time elsewhere. A shared machine slows one only.
struct Clock {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    fn elapsed(&self) -> Duration {
        let cpu = cpu_time().zip(self.cpu).map(|(now, then)| now - then);
        cpu.unwrap_or_else(|| self.wall.elapsed())
    }
}

fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * 4_096
}
