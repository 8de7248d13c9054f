//! What owners may have: so many queues and streams, and so many bytes in them.

use wharf_protocol::{ErrorCode, Message, Receipt, Rejection};
use wharf_queue::{Change, Destination, Entry, Publish, QueuePolicy, Refusal, StreamPolicy};

use crate::shard::{Shard, name};

impl Shard {
    fn make_queue(&mut self, owner: &str, most: Option<u32>, queue: &str) -> Result<(), Refusal> {
        let make = Box::new(Change::CreateQueue { name: name(queue), policy: QueuePolicy::default() });
        self.change(Change::Own { owner: owner.into(), most, make }).map(|_| ())
    }

    fn make_stream(&mut self, owner: &str, most: Option<u32>, stream: &str) -> Result<(), Refusal> {
        let make = Box::new(Change::CreateStream { name: name(stream), policy: StreamPolicy::default() });
        self.change(Change::Own { owner: owner.into(), most, make }).map(|_| ())
    }

    fn bound(&mut self, owner: &str, stored_bytes_max: Option<u64>) {
        self.change(Change::BoundOwner { owner: owner.into(), stored_bytes_max }).expect("bounded");
    }

    fn bring(&mut self, backlogs: &[&str]) -> Result<(), Rejection> {
        let id = |name: &&str| self.state.topology().backlog(name).expect("a backlog");
        let destinations = backlogs.iter().map(|name| Destination::from(id(name))).collect();
        let entry = Entry { message: one(), destinations };
        match self.send(Publish::from(entry)).0 {
            Receipt::Stored(_) => Ok(()),
            Receipt::Rejected(rejection) => Err(rejection),
            other => panic!("{other:?}"),
        }
    }
}

fn one() -> Message {
    Message::new("a".parse().expect("a topic"), vec![b'x'; 1_000])
}

fn bytes() -> u64 {
    one().encoded_bytes() as u64
}

#[test]
fn one_queue_or_stream_too_many_is_refused_with_the_numbers_until_one_goes() {
    let mut shard = Shard::new();
    shard.make_queue("shop", Some(2), "one").expect("made");
    shard.make_stream("shop", Some(2), "two").expect("made");
    shard.make_queue("other", Some(2), "three").expect("others have their own");

    for refused in [shard.make_queue("shop", Some(2), "four"), shard.make_stream("shop", Some(2), "four")] {
        let refused = refused.expect_err("one too many");
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(refused.reason.contains("shop has made 2 queues and streams, and its quota is 2"));
    }
    shard.make_queue("shop", Some(2), "one").expect("it is there already");

    shard.change(Change::DeleteStream { name: name("two") }).expect("gone");
    shard.make_queue("shop", Some(2), "four").expect("room again");
    assert_eq!(shard.state.topology().owner("four"), Some("shop"));
    assert_eq!(shard.state.topology().owned("shop"), 2);
}

#[test]
fn what_is_there_stays_whose_it_is() {
    let mut shard = Shard::with_queues(&["nobodys"]);
    shard.make_queue("shop", None, "nobodys").expect("the same policy");
    shard.make_queue("shop", None, "shops").expect("made");
    shard.make_queue("other", None, "shops").expect("the same policy");
    let topology = shard.state.topology();
    assert_eq!((topology.owner("nobodys"), topology.owner("shops")), (None, Some("shop")));
}

#[test]
fn only_a_queue_or_a_stream_is_made_for_an_owner() {
    let mut shard = Shard::with_queues(&["q"]);
    let make = Box::new(Change::DeleteQueue { name: name("q") });
    let refused = shard.change(Change::Own { owner: "shop".into(), most: None, make }).expect_err("refused");
    assert_eq!(refused.code, ErrorCode::Malformed);
    assert!(shard.state.queue("q").is_some(), "nothing happened");
}

#[test]
fn what_all_queues_and_streams_of_an_owner_hold_is_bounded_together() {
    let mut shard = Shard::with_queues(&["nobodys"]);
    shard.make_queue("shop", None, "q").expect("made");
    shard.bound("shop", Some(3 * bytes()));
    shard.make_stream("shop", None, "s").expect("made after the bound");
    shard.bring(&["q"]).expect("room");
    shard.bring(&["s"]).expect("room");

    let refused = shard.bring(&["q", "s"]).expect_err("two are too many");
    assert_eq!(refused.code, ErrorCode::Unavailable);
    let (held, more, quota) = (2 * bytes(), 2 * bytes(), 3 * bytes());
    let expected = format!(
        "the queues and streams that shop made hold {held} bytes, {more} more are over its quota of {quota} stored"
    );
    assert!(refused.reason.starts_with(&expected), "{}", refused.reason);
    shard.bring(&["q"]).expect("one fits");
    shard.bring(&["q"]).expect_err("full");
    shard.bring(&["nobodys"]).expect("it is nobody's");

    // Acked, purged and deleted: each makes room.
    shard.attach(1, "q", 1);
    shard.ack(1, 1);
    assert_eq!(shard.state.stored_bytes("shop"), Some(2 * bytes()));
    shard.change(Change::PurgeQueue { name: name("q") }).expect("purged");
    shard.change(Change::DeleteStream { name: name("s") }).expect("gone");
    assert_eq!(shard.state.stored_bytes("shop"), Some(0));
}

#[test]
fn a_bound_below_what_is_there_loses_nothing_and_goes_when_it_is_taken_back() {
    let mut shard = Shard::new();
    shard.make_queue("shop", None, "q").expect("made");
    shard.bring(&["q"]).expect("no bound yet");
    shard.bound("shop", Some(10));
    assert_eq!(shard.state.stored_bytes("shop"), Some(bytes()));
    shard.bring(&["q"]).expect_err("over");
    assert_eq!(shard.queue("q").ready, 1);
    shard.bound("shop", None);
    assert_eq!(shard.state.stored_bytes("shop"), None);
    shard.bring(&["q"]).expect("no bound any more");
}
