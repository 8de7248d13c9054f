//! Many dead letters at once: by their ids, or all that are like something; redriven or discarded.

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::{MessageId, QueueName};
use wharf_queue::{DeadLetter, Resolve};
use wharf_shard::ShardError;

use super::again::Order;
use super::{LetterFilter, Matcher, PAGE, Redriven, queues_with_dead_letters};
use crate::{Action, Node, NodeError, Principal};

/// The most dead letters that are named one by one.
pub const LETTERS_NAMED_MAX: usize = 1_000;

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    /// Those with these ids; at most [`LETTERS_NAMED_MAX`].
    Named(Vec<MessageId>),
    /// All that are there now and pass the filter: of one queue, or of every queue.
    Like(Option<QueueName>, Box<LetterFilter>),
}

/// How many dead letters were discarded, and how many of those meant stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Gone for good.
    pub discarded: u64,
    /// Still there: a consumer holds them. Or gone before.
    pub kept: u64,
}

/// What is done with dead letters of one queue.
enum Deed {
    Redrive(Order),
    Discard,
}

/// What came of it.
#[derive(Default)]
struct Done {
    redriven: Redriven,
    discarded: Discarded,
}

impl Node {
    /// Sends dead letters on their way again, these or all: each from where it died, through what is in force now, or
    /// all to `to` as they are. Those that were redriven `redriven_max` times before stay.
    ///
    /// # Errors
    /// No such dead letter or queue; more than are named at once; not allowed.
    ///
    /// # Cancel safety
    /// Dropped, it goes no further; each letter is where it was, or on its way.
    pub async fn redrive(
        &self,
        who: &Principal,
        ids: Option<Vec<MessageId>>,
        to: Option<&QueueName>,
        redriven_max: Option<u32>,
    ) -> Result<Redriven, NodeError> {
        who.check(Action::Administer)?;
        if let Some(to) = to
            && self.shard().topology().queue(to.as_str()).is_none()
        {
            return Err(NodeError::NotFound { kind: "queue", name: to.to_string() });
        }
        let letters = ids.map_or_else(|| Letters::Like(None, Box::default()), Letters::Named);
        let order = Order { to: to.cloned(), redriven_max };
        Ok(self.with_letters(who, letters, Deed::Redrive(order)).await?.redriven)
    }

    /// Ends dead letters for good, each in a record.
    ///
    /// # Errors
    /// No such dead letter, queue or plugin; more than are named at once; not allowed.
    ///
    /// # Cancel safety
    /// Dropped, it goes no further; what is gone is gone.
    pub async fn discard(&self, who: &Principal, letters: Letters) -> Result<Discarded, NodeError> {
        who.check(Action::Administer)?;
        Ok(self.with_letters(who, letters, Deed::Discard).await?.discarded)
    }

    /// Does something with dead letters, queue by queue, a page at a time. What becomes one meanwhile is not meant.
    async fn with_letters(&self, who: &Principal, letters: Letters, deed: Deed) -> Result<Done, NodeError> {
        let mut done = Done::default();
        let (queue, filter) = match letters {
            Letters::Named(ids) => {
                for (queue, letters) in self.letters_named(ids).await? {
                    self.with_page(who, &queue, letters, &deed, &mut done).await?;
                }
                return Ok(done);
            }
            Letters::Like(queue, filter) => (queue, *filter),
        };
        let queues = self.queues_of_letters(who, queue.as_ref()).await?;
        let matcher = Matcher::new(filter, &self.shard().topology().clone())?;
        let asked = queues.clone();
        let ends = move |queue: &QueueName, state: &wharf_queue::State| {
            state.queue(queue.as_str()).map_or(0, |view| view.enqueued)
        };
        let ends: Vec<u64> = self
            .shard()
            .query(move |state, _| asked.iter().map(|queue| ends(queue, state)).collect())
            .await?;
        for (queue, end) in queues.iter().zip(ends) {
            let mut from = Some(0);
            while let Some(offset) = from.filter(|offset| *offset < end) {
                let found = matcher.page(self.shard(), queue, offset, PAGE).await?;
                let here = found.letters.into_iter().filter(|letter| letter.offset < end).collect();
                self.with_page(who, queue, here, &deed, &mut done).await?;
                from = found.next;
            }
        }
        Ok(done)
    }

    async fn with_page(
        &self,
        who: &Principal,
        queue: &QueueName,
        letters: Vec<DeadLetter>,
        deed: &Deed,
        done: &mut Done,
    ) -> Result<(), ShardError> {
        match deed {
            Deed::Redrive(order) => {
                done.redriven.add(self.send_again(who, queue, letters, order).await?);
            }
            Deed::Discard => {
                let mut answers = Vec::with_capacity(letters.len());
                for DeadLetter { offset, id, .. } in letters {
                    let resolve = Resolve { queue: queue.clone(), offset, id, becomes: None };
                    answers.push(self.shard().resolve(resolve, None).await?);
                }
                for answer in answers {
                    match answer.await.map_err(|_| self.shard().gone())? {
                        Ok(_) => done.discarded.discarded += 1,
                        Err(ShardError::Refused(_)) => done.discarded.kept += 1,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// The dead letters with these ids, queue by queue: one walk for all of them, which ends with the last.
    ///
    /// # Errors
    /// One is not there; more than are named at once.
    pub(super) async fn letters_named(
        &self,
        ids: Vec<MessageId>,
    ) -> Result<BTreeMap<QueueName, Vec<DeadLetter>>, NodeError> {
        if ids.len() > LETTERS_NAMED_MAX {
            let text =
                format!("at most {LETTERS_NAMED_MAX} dead letters are named at once, not {}", ids.len());
            return Err(NodeError::TooLarge(text));
        }
        let mut missing: BTreeSet<MessageId> = ids.into_iter().collect();
        let mut found: BTreeMap<QueueName, Vec<DeadLetter>> = BTreeMap::new();
        for queue in self.shard().query(|state, _| queues_with_dead_letters(state)).await? {
            let mut from = Some(0);
            while let Some(offset) = from.filter(|_| !missing.is_empty()) {
                let (asked, wanted) = (queue.clone(), missing.clone());
                let ask = move |state: &wharf_queue::State, _: &wharf_log::Stats| {
                    let mut page = state.dead_letters(asked.as_str(), offset, PAGE);
                    let next = page.last().map(|last| last.offset + 1);
                    page.retain(|letter| wanted.contains(&letter.id));
                    (page, next)
                };
                let (page, next) = self.shard().query(ask).await?;
                missing.retain(|id| page.iter().all(|letter| letter.id != *id));
                if !page.is_empty() {
                    found.entry(queue.clone()).or_default().extend(page);
                }
                from = next;
            }
        }
        match missing.first() {
            Some(id) => Err(NodeError::NotFound { kind: "dead letter", name: id.to_string() }),
            None => Ok(found),
        }
    }
}
