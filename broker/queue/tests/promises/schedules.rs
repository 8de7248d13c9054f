//! Schedules as data in the log, and the memory of what they published.

use bytes::{Bytes, BytesMut};
use wharf_protocol::{ErrorCode, Message, Receipt, Session, Timestamp};
use wharf_queue::{Change, PRODUCER_IDLE_MAX, Publish, SCHEDULED_MESSAGE_BYTES_MAX, SCHEDULES_MAX, Schedule};

use crate::shard::{Shard, message, name};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn put(schedule: &str, cron: &'static str) -> Change {
    put_message(schedule, cron, encoded(&message("report")))
}

fn put_message(schedule: &str, cron: &'static str, message: Bytes) -> Change {
    let (name, time_zone) = (name(schedule), "UTC".into());
    Change::PutSchedule { name, cron: cron.into(), time_zone, message, by: "ann".into() }
}

fn encoded(message: &Message) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    bytes.freeze()
}

fn occurrence(schedule: &str, at: Timestamp) -> Option<Session> {
    Some(Session { producer: Schedule::producer(&name(schedule)), epoch: 1, sequence: at.0 })
}

fn since(shard: &Shard, schedule: &str) -> Timestamp {
    shard.state.topology().schedule(schedule).expect("a schedule").since
}

#[test]
fn what_is_so_already_changes_nothing() {
    let mut shard = Shard::new();
    shard.change(put("nightly", "0 3 * * *")).expect("put");
    let before = (shard.state.topology().revision(), since(&shard, "nightly"));

    shard.wait(1000);
    assert_eq!(shard.change(put("nightly", "0 3 * * *")), Ok(vec![]));
    assert_eq!((shard.state.topology().revision(), since(&shard, "nightly")), before);

    shard.change(put("nightly", "0 4 * * *")).expect("replaced");
    assert_eq!(since(&shard, "nightly"), shard.now(), "another schedule, which begins now");
}

#[test]
fn what_a_pause_covers_is_past_when_it_ends() {
    let mut shard = Shard::new();
    let pause = |paused| Change::PauseSchedule { name: name("nightly"), paused };
    assert_eq!(shard.change(pause(true)).expect_err("unknown").code, ErrorCode::NotFound);
    shard.change(put("nightly", "0 3 * * *")).expect("put");

    shard.change(pause(true)).expect("paused");
    shard.wait(DAY_MS);
    assert_eq!(shard.change(pause(true)), Ok(vec![]), "it rests already");
    shard.change(pause(false)).expect("resumed");

    assert_eq!(since(&shard, "nightly"), shard.now());
    assert!(!shard.state.topology().schedule("nightly").expect("a schedule").paused);
}

#[test]
fn a_removed_schedule_is_gone() {
    let mut shard = Shard::new();
    shard.change(put("nightly", "0 3 * * *")).expect("put");
    let remove = Change::RemoveSchedule { name: name("nightly") };
    shard.change(remove.clone()).expect("removed");
    assert_eq!(shard.state.topology().schedules().len(), 0);
    assert_eq!(shard.change(remove).expect_err("gone").code, ErrorCode::NotFound);
}

#[test]
fn what_cannot_be_published_is_no_schedule() {
    let mut shard = Shard::new();
    let not_a_message = put_message("s", "0 3 * * *", Bytes::from_static(b"\xff"));
    assert_eq!(shard.change(not_a_message).expect_err("refused").code, ErrorCode::Malformed);
    let large = Message::new("t".parse().expect("a topic"), vec![0; SCHEDULED_MESSAGE_BYTES_MAX]);
    let large = put_message("s", "0 3 * * *", encoded(&large));
    assert_eq!(shard.change(large).expect_err("refused").code, ErrorCode::TooLarge);
}

#[test]
fn schedules_are_bounded() {
    // Without the harness: it restores a snapshot after each record.
    let mut state = wharf_queue::State::default();
    let mut effects = Vec::new();
    for n in 0..=SCHEDULES_MAX as u64 {
        let record = wharf_queue::Record::Topology(put(&format!("s{n}"), "0 3 * * *"));
        effects.clear();
        state.apply(n + 1, &wharf_queue::Stamped { at: Timestamp(1), record }, &mut effects);
    }
    assert!(
        matches!(&effects[..], [wharf_queue::Effect::Refused(why)] if why.code == ErrorCode::Unavailable)
    );
    assert_eq!(state.topology().schedules().len(), SCHEDULES_MAX);
}

/// A monthly schedule was taken for a new one after a month: an idle producer is forgotten after a week.
#[test]
fn the_last_occurrence_of_a_schedule_is_known_for_as_long_as_it_is_there() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.change(put("monthly", "0 3 1 * *")).expect("put");
    let session = occurrence("monthly", shard.now());
    let fired = shard.now().0;
    assert!(matches!(shard.publish_with("q", session, None), Receipt::Stored(_)));

    shard.wait(31 * DAY_MS);
    shard.tick();
    let producer = Schedule::producer(&name("monthly"));
    assert_eq!(shard.state.last_sequence(producer), Some(fired));
    assert!(matches!(shard.publish_with("q", session, None), Receipt::Duplicate(_)));

    shard.change(Change::RemoveSchedule { name: name("monthly") }).expect("removed");
    shard.wait(31 * DAY_MS);
    shard.tick();
    shard.wait(u64::try_from(PRODUCER_IDLE_MAX.as_millis()).expect("a week"));
    shard.tick();
    assert_eq!(shard.state.last_sequence(producer), None, "nothing is kept for what is gone");
}

#[test]
fn an_occurrence_that_went_nowhere_is_remembered_too() {
    let mut shard = Shard::new();
    shard.change(put("nightly", "0 3 * * *")).expect("put");
    let session = occurrence("nightly", shard.now());

    let nothing = Publish { session, ..Publish::default() };
    assert!(matches!(shard.send(nothing.clone()).0, Receipt::Stored(stored) if stored.entries == 0));
    assert!(matches!(shard.send(nothing).0, Receipt::Duplicate(_)));
}
