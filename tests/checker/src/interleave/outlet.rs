//! A shard that lays deliveries down as far as there is credit, against a subscription that takes them, gives credit
//! back and is cancelled now and then. A wake-up that is lost is a deadlock, which the scheduler tells.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::{future, thread};
use wharf_protocol::{Message, MessageId, Timestamp};
use wharf_shard::{Closed, Outgoing, Outlet, Taken};

/// Deliveries of one run.
const DELIVERIES: u64 = 8;
/// How many may lie in the outlet or be held.
const CREDIT: u64 = 3;

/// What a consumer may still get, and who waits for it to be more.
#[derive(Default)]
struct Credit {
    left: Mutex<u64>,
    given: Condvar,
}

impl Credit {
    /// Takes at least one and at most `max`.
    fn take(&self, max: u64) -> u64 {
        let mut left = self.left.lock().unwrap();
        while *left == 0 {
            left = self.given.wait(left).unwrap();
        }
        let taken = max.min(*left);
        *left -= taken;
        taken
    }

    fn give(&self, count: u64) {
        *self.left.lock().unwrap() += count;
        self.given.notify_one();
    }
}

fn outgoing(tag: u64) -> Outgoing {
    Outgoing {
        tag,
        id: MessageId { index: tag, entry: 0 },
        offset: tag,
        attempt: 1,
        redelivered: false,
        stored_at: Timestamp(0),
        death: None,
        body: Some(Message::new("a".parse().unwrap(), vec![0; 8])),
    }
}

/// One order in which things happen: decided by the scheduler, at every lock.
pub(super) fn once() {
    let (outlet, credit) = (Arc::new(Outlet::default()), Arc::new(Credit::default()));
    credit.give(CREDIT);
    let owner = {
        let (outlet, credit) = (Arc::clone(&outlet), Arc::clone(&credit));
        thread::spawn(move || lay_down(&outlet, &credit))
    };
    let subscription = thread::spawn(move || take(&outlet, &credit));
    owner.join().unwrap();
    subscription.join().unwrap();
}

fn lay_down(outlet: &Outlet, credit: &Credit) {
    let mut next = 1;
    while next <= DELIVERIES {
        let count = credit.take(DELIVERIES + 1 - next);
        let mut batch: Vec<Outgoing> = (next..next + count).map(outgoing).collect();
        outlet.put(&mut batch);
        assert!(batch.is_empty(), "it is handed over");
        next += count;
    }
    outlet.put_empty();
    // All credit is back: all was taken.
    for _ in 0..CREDIT {
        credit.take(1);
    }
    outlet.close(Closed::QueueDeleted);
}

fn take(outlet: &Outlet, credit: &Credit) {
    let (mut last, mut empty) = (0, 0);
    loop {
        let mut out = Vec::new();
        {
            // Cancelled before it is ready: what it would have got stays, and so does the wake-up.
            let taking = pin!(outlet.take(1, &mut out));
            let _ = taking.poll_now();
        }
        let told = match out.is_empty() {
            true => future::block_on(outlet.take(2, &mut out)),
            false => Ok(Taken::Some),
        };
        match told {
            Ok(Taken::Some) => {
                assert!(out.len() as u64 <= CREDIT, "no more than there was credit for");
                for delivery in &out {
                    assert_eq!(delivery.tag, last + 1, "in order, each once");
                    last = delivery.tag;
                }
                credit.give(out.len() as u64);
            }
            Ok(Taken::Empty) => {
                empty += 1;
                assert_eq!(last, DELIVERIES, "empty is told after all that was put before");
            }
            Err(why) => {
                assert_eq!(why, Closed::QueueDeleted);
                break;
            }
        }
    }
    assert_eq!(last, DELIVERIES, "nothing is lost");
    assert!(empty <= 1, "told once");
}

/// Polls once, for nobody.
trait PollNow: Future {
    fn poll_now(self) -> Poll<Self::Output>;
}

impl<F: Future> PollNow for std::pin::Pin<&mut F> {
    fn poll_now(self) -> Poll<F::Output> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }
}
