//! What the consumers of a world do: they come, take, settle and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wharf_protocol::{Outcome, Settlement};
use wharf_queue::Attach;
use wharf_shard::{Outlet, ShardError};

use super::work::{Sent, answer_of};
use super::{Consumer, World, durability, name};
use crate::Answer;
use crate::history::{Queue, Seen};

/// Credit that a consumer has at most.
const CREDIT_MAX: u64 = 8;

impl World {
    pub(super) async fn attach(&mut self) {
        let queue = ["plain", "plain", "fancy", "quick", "once", "dead"][self.random.below(6) as usize];
        let credit = 1 + self.random.below(CREDIT_MAX);
        self.attach_to(queue, credit).await;
    }

    pub(super) async fn attach_to(&mut self, queue: Queue, credit: u64) {
        let outlet = Arc::new(Outlet::default());
        let attach = Attach {
            queue: name(queue),
            credit: u32::try_from(credit).expect("small"),
            auto_settle: queue == "once",
            ..Attach::default()
        };
        let attached = self.shard().attach(attach, Arc::clone(&outlet)).await;
        self.history.other(answer_of(&attached));
        if let Ok(id) = attached {
            self.consumers_made += 1;
            let number = self.consumers_made;
            self.consumers.push(Consumer { number, id, queue, outlet, credit, held: Vec::new() });
        }
    }

    pub(super) fn detach(&mut self) {
        if self.consumers.is_empty() {
            return;
        }
        let place = self.random.below(self.consumers.len() as u64) as usize;
        let consumer = self.consumers.swap_remove(place);
        self.shard().detach(consumer.id);
        self.books.left(consumer.number);
    }

    pub(super) async fn give_credit(&mut self) {
        let Some(place) = self.consumer_at_random() else { return };
        let consumer = &mut self.consumers[place];
        let add = CREDIT_MAX.saturating_sub(consumer.credit + consumer.held.len() as u64);
        consumer.credit += add;
        let id = consumer.id;
        // When it has stopped, the next answer says so.
        let _ = self.shard().credit(id, add as u32, 0).await;
    }

    pub(super) async fn settle_some(&mut self) -> Option<Sent> {
        let place = self.consumer_at_random()?;
        let count = self.consumers[place].held.len() as u64;
        if count == 0 {
            return None;
        }
        let take = 1 + self.random.below(count);
        let mut settled = Vec::new();
        for _ in 0..take {
            let held = &mut self.consumers[place].held;
            let (tag, seen) = held.remove(self.random.below(held.len() as u64) as usize);
            let outcome = match self.random.below(10) {
                0 => Outcome::Nack { delay: None },
                1 => Outcome::Nack { delay: Some(Duration::from_millis(self.random.below(200))) },
                2 if seen.queue != "dead" => Outcome::DeadLetter { reason: "not mine".into() },
                _ => Outcome::Ack,
            };
            settled.push((tag, seen, outcome));
        }
        self.send_settles(place, settled).await
    }

    async fn send_settles(&mut self, place: usize, settled: Vec<(u64, Seen, Outcome)>) -> Option<Sent> {
        let (id, queue) = (self.consumers[place].id, self.consumers[place].queue);
        let of = |(tag, _, outcome): &(u64, Seen, Outcome)| Settlement {
            first: *tag,
            last: *tag,
            outcome: outcome.clone(),
        };
        let settlements = settled.iter().map(of).collect();
        let sent = self.shard().settle(id, settlements, durability(queue)).await;
        let tags = settled.iter().map(|(tag, ..)| *tag).collect();
        let settled: Vec<_> = settled.into_iter().map(|(_, seen, outcome)| (seen, outcome)).collect();
        match sent {
            Ok(answer) => Some(Sent::Settle(settled, answer, tags)),
            Err(_) => {
                self.settled(settled, tags, None);
                None
            }
        }
    }

    pub(super) fn settled(
        &mut self,
        settled: Vec<(Seen, Outcome)>,
        tags: Vec<u64>,
        answer: Option<Result<Vec<u64>, ShardError>>,
    ) {
        let now = self.books_now.max(self.clock.load(Ordering::SeqCst));
        for (tag, (seen, outcome)) in tags.into_iter().zip(settled) {
            let answer = match &answer {
                Some(Ok(stale)) if stale.contains(&tag) => Answer::Failed,
                Some(Ok(_)) => Answer::Ok,
                Some(Err(ShardError::Full(_))) => Answer::Failed,
                Some(Err(_)) | None => Answer::Unknown,
            };
            let holds = self.books.holds(&seen, now);
            let full = answer == Answer::Failed && self.disk.failed().is_some();
            if answer == Answer::Failed && holds && !full {
                self.violation("lease", format!("{}: refused, though the lease had not ended", seen.id));
            }
            if answer == Answer::Ok && !holds {
                let what = format!("{} from {}: accepted after the lease had ended", seen.id, seen.queue);
                self.violation("lease", what);
            }
            self.books.let_go(&seen);
            match outcome {
                Outcome::Ack | Outcome::DeadLetter { .. } => self.history.settled_for_good(&seen, answer),
                Outcome::Nack { delay } => {
                    if let (Answer::Ok, Some(delay)) = (answer, delay) {
                        self.books.rests(&seen, now + delay.as_millis() as u64);
                    }
                    self.history.other(answer);
                }
            }
        }
    }

    /// Acks all that the consumers hold, and gives them credit for as much again.
    pub(super) async fn ack_all(&mut self, credit: u64) {
        for place in 0..self.consumers.len() {
            let held = std::mem::take(&mut self.consumers[place].held);
            let settled: Vec<_> = held.into_iter().map(|(tag, seen)| (tag, seen, Outcome::Ack)).collect();
            let consumer = &mut self.consumers[place];
            let add = credit.saturating_sub(consumer.credit);
            consumer.credit += add;
            let id = consumer.id;
            if !settled.is_empty()
                && let Some(Sent::Settle(settled, answer, tags)) = self.send_settles(place, settled).await
            {
                self.settled(settled, tags, answer.await.ok());
            }
            // When it has stopped, the next answer says so.
            let _ = self.shard().credit(id, add as u32, 0).await;
        }
    }

    fn consumer_at_random(&mut self) -> Option<usize> {
        let count = self.consumers.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }
}
