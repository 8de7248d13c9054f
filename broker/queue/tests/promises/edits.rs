//! Dead letters that are mended, and those that die again and again.

use wharf_protocol::{ErrorCode, Message, MessageId, Outcome};
use wharf_queue::{
    DeadLetter, Edit, Effect, PAST_DEATHS_MAX, QueuePolicy, Record, Redrive, Selection, Stamped, State,
};

use crate::shard::{Shard, brief, deliveries, message, name};

/// A shard with a consumer of queue `q` and one message that it refused.
fn with_dead_letter() -> Shard {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 100);
    shard.publish(&["q"], message("broken"));
    refuse(&mut shard, 1);
    shard
}

fn refuse(shard: &mut Shard, tag: u64) {
    shard.settle(1, tag, tag, Outcome::DeadLetter { reason: format!("refused as {tag}") });
}

fn letter(shard: &Shard) -> DeadLetter {
    shard.state.dead_letters("dead-letters", 0, 9).remove(0)
}

fn edit(shard: &mut Shard, of: &DeadLetter, message: Message) -> Vec<Effect> {
    let edit = Edit { queue: name("dead-letters"), offset: of.offset, id: of.id, message };
    shard.apply(Record::Edit(Box::new(edit)))
}

fn redrive(shard: &mut Shard, redriven_max: Option<u32>) -> Vec<Effect> {
    let select = Selection::Oldest(9);
    shard.apply(Record::Redrive(Redrive { queue: name("dead-letters"), select, to: None, redriven_max }))
}

#[test]
fn a_mended_letter_takes_the_place_of_the_old_one_once_with_its_history() {
    let mut shard = with_dead_letter();
    let old = letter(&shard);
    let effects = edit(&mut shard, &old, Message { priority: 3, ..message("mended") });

    let new = letter(&shard);
    assert_eq!(effects, [Effect::Edited { id: new.id }]);
    assert_ne!(new.id, old.id);
    assert_eq!((&new.death, new.past.edited), (&old.death, 1), "its death and original id are kept");
    assert_eq!((shard.queue("dead-letters").dead, shard.queue("dead-letters").ready), (1, 1));
    let again = edit(&mut shard, &old, message("mended twice"));
    assert!(
        matches!(&again[..], [Effect::Refused(refusal)] if refusal.code == ErrorCode::NotFound),
        "{again:?}"
    );
    assert_eq!(letter(&shard), new, "once");

    let got = deliveries(redrive(&mut shard, None));
    assert_eq!((brief(&got), got[0].id), (vec![(1, 1, 2)], new.id), "back to its queue, as a second attempt");
}

#[test]
fn a_letter_that_a_consumer_holds_or_for_which_there_is_no_room_is_not_edited() {
    let mut shard = with_dead_letter();
    let old = letter(&shard);
    let policy = QueuePolicy { max_bytes: 100, ..QueuePolicy::default() };
    shard
        .change(wharf_queue::Change::SetPolicy { name: name("dead-letters"), policy, was: None })
        .expect("set");
    let large = edit(&mut shard, &old, Message::new("t".parse().expect("a topic"), "x".repeat(200)));
    assert!(matches!(&large[..], [Effect::Refused(refusal)] if refusal.reason.contains("room")), "{large:?}");
    shard.attach(2, "dead-letters", 1);
    let held = edit(&mut shard, &old, message("m"));
    assert!(matches!(&held[..], [Effect::Refused(refusal)] if refusal.reason.contains("holds")), "{held:?}");
    assert_eq!(letter(&shard).id, old.id);
}

#[test]
fn a_letter_that_dies_again_and_again_is_left_and_remembers_its_deaths() {
    let mut shard = with_dead_letter();
    for tag in 2..=4 {
        assert_eq!(redrive(&mut shard, Some(3))[0], Effect::Redriven { moved: 1, kept: 0 });
        refuse(&mut shard, tag);
    }
    assert_eq!(
        redrive(&mut shard, Some(3)),
        [Effect::Redriven { moved: 0, kept: 1 }],
        "three times were enough"
    );
    let left = letter(&shard);
    let reasons: Vec<&str> = left.past.deaths.iter().map(|death| death.reason.as_str()).collect();
    assert_eq!((left.past.redriven, reasons), (3, vec!["refused as 1", "refused as 2", "refused as 3"]));
    assert_eq!(left.death.reason, "refused as 4");

    assert_eq!(redrive(&mut shard, None)[0], Effect::Redriven { moved: 1, kept: 0 }, "unless it is forced");
    for tag in 5..20 {
        refuse(&mut shard, tag);
        redrive(&mut shard, None);
    }
    refuse(&mut shard, 20);
    let deaths = letter(&shard).past.deaths;
    assert_eq!((deaths.len(), deaths[0].reason.as_str()), (PAST_DEATHS_MAX, "refused as 1"));
}

#[test]
fn the_past_survives_a_snapshot_and_an_edit_its_encoding() {
    let mut shard = with_dead_letter();
    redrive(&mut shard, None);
    refuse(&mut shard, 2);
    let old = letter(&shard);
    edit(&mut shard, &old, message("mended"));
    let restored = State::restore(&shard.state.snapshot()).expect("restored");
    assert_eq!(restored.hash(), shard.state.hash());
    let known = restored.dead_letters("dead-letters", 0, 9).remove(0);
    assert_eq!((known.past.redriven, known.past.edited, known.past.deaths.len()), (1, 1, 1));

    let id = MessageId { index: 7, entry: 2 };
    let edit = Edit { queue: name("dead-letters"), offset: 9, id, message: message("mended") };
    let stamped = Stamped { at: shard.now(), record: Record::Edit(Box::new(edit)) };
    let mut bytes = bytes::BytesMut::new();
    stamped.encode(&mut bytes);
    let read = Stamped::decode(bytes.freeze()).expect("decodes");
    assert_eq!(read, stamped);
    assert_eq!(read.record.message(0), Some(&message("mended")));
    assert_eq!(read.record.message(1), None);
}

#[test]
fn letters_are_found_by_their_death_a_part_of_the_queue_at_a_time() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 100);
    for tag in 1..=9 {
        shard.publish(&["q"], message("m"));
        refuse(&mut shard, tag);
    }
    let find = |from, looked_max, max| {
        let even = |death: &wharf_protocol::Death| {
            death
                .reason
                .rsplit(' ')
                .next()
                .and_then(|tag| tag.parse::<u64>().ok())
                .is_some_and(|tag| tag % 2 == 0)
        };
        let (found, next) = shard.state.find_dead_letters("dead-letters", from, looked_max, max, even);
        (found.iter().map(|letter| letter.offset).collect::<Vec<_>>(), next)
    };
    assert_eq!(find(0, 100, 100), (vec![1, 3, 5, 7], None));
    assert_eq!(find(0, 100, 2), (vec![1, 3], Some(4)), "enough are found");
    assert_eq!(find(4, 2, 100), (vec![5], Some(6)), "enough were looked at");
}
