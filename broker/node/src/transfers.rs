//! Transfers: many messages on their way from one queue to others, at a limited rate if one is given.
//!
//! A move takes what waits in a queue to another; a redrive takes dead letters back to the queues where they died,
//! or to one. Either goes through the messages that were there when it began, oldest first, a page a record. So
//! whatever stops it, each message is in one place; what it leaves it can be told to take again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};
use wharf_protocol::{MessageId, QueueName, Timestamp};
use wharf_queue::{DeadLetter, Move, Redrive, Selection, State};
use wharf_shard::{Changed, Shard, ShardError};

use crate::dead_letters::{LetterFilter, Matcher};
use crate::pace::Pace;
use crate::{Action, Node, NodeError, Principal};

/// Messages that one record takes: the shard does nothing else meanwhile.
const PAGE: u64 = 256;
/// Transfers that are remembered; past that, those that have ended go.
const REMEMBERED_MAX: usize = 1_024;
/// The most messages that are named one by one.
const IDS_MAX: usize = 1_000;

/// What is to be transferred, and how fast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferSpec {
    /// These messages; all of them that wait when none is named.
    pub ids: Vec<MessageId>,
    /// At most so many of the oldest.
    pub limit: Option<u64>,
    /// At most so many a second.
    pub per_second: Option<u32>,
    /// Of dead letters, only these.
    pub filter: LetterFilter,
    /// Dead letters that were redriven as often before stay; `None`: however often.
    pub redriven_max: Option<u32>,
}

/// A transfer as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferView {
    /// From where.
    pub queue: QueueName,
    /// To where; `None`: dead letters, each to the queue where it died.
    pub to: Option<QueueName>,
    /// Whether only dead letters go.
    pub redrive: bool,
    /// At most so many a second.
    pub per_second: Option<u32>,
    /// Messages that went.
    pub moved: u64,
    /// Messages that stay: a consumer held them, or where they were to go there is no queue or no room.
    pub kept: u64,
    /// Dead letters that stay because they were redriven often enough.
    pub looping: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended; `None`: it has not.
    pub end: Option<TransferEnd>,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferEnd {
    /// All that was to go was tried.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// It could not go on, and why.
    Failed(String),
}

/// The newest transfer from each queue.
#[derive(Debug, Default)]
pub(crate) struct Transfers(Mutex<BTreeMap<QueueName, Arc<Transfer>>>);

#[derive(Debug)]
struct Transfer {
    view: watch::Sender<TransferView>,
    stopping: AtomicBool,
    stopped: Notify,
}

/// What goes where.
#[derive(Clone, Debug)]
enum Way {
    Move { to: QueueName },
    Redrive { to: Option<QueueName>, matcher: Box<Matcher>, redriven_max: Option<u32> },
}

/// Messages that are to go next.
struct Page {
    select: Selection,
    messages: u64,
    /// Dead letters passed over because they were redriven often enough.
    looping: u64,
    /// Where to go on; `None`: that was all.
    next: Option<u64>,
}

impl Node {
    /// Begins to take the messages that wait in a queue to another.
    ///
    /// # Errors
    /// No such queue; a transfer from it is under way; not allowed.
    pub async fn move_messages(
        &self,
        who: &Principal,
        queue: &QueueName,
        to: QueueName,
        spec: TransferSpec,
    ) -> Result<TransferView, NodeError> {
        if *queue == to {
            return Err(NodeError::Invalid(format!("queue {queue} cannot be moved to itself")));
        }
        self.transfer(who, queue, Way::Move { to }, spec).await
    }

    /// Begins to send the dead letters of a queue on their way again: each to the queue where it died, or all to
    /// one.
    ///
    /// # Errors
    /// As [`move_messages`](Self::move_messages).
    pub async fn redrive_queue(
        &self,
        who: &Principal,
        queue: &QueueName,
        to: Option<QueueName>,
        spec: TransferSpec,
    ) -> Result<TransferView, NodeError> {
        let matcher = Box::new(Matcher::new(spec.filter.clone(), &self.shard().topology().clone())?);
        let redriven_max = spec.redriven_max;
        self.transfer(who, queue, Way::Redrive { to, matcher, redriven_max }, spec).await
    }

    /// The newest transfer from a queue since the broker started. With `patience` it waits so long for its end.
    ///
    /// # Errors
    /// There was none; not allowed.
    pub async fn transfer_of(
        &self,
        who: &Principal,
        queue: &QueueName,
        patience: std::time::Duration,
    ) -> Result<TransferView, NodeError> {
        who.check(Action::Administer)?;
        let mut view = self.transfers().find(queue)?.view.subscribe();
        // It has ended, or patience has: either way it is told as it stands.
        let _ = tokio::time::timeout(patience, view.wait_for(|view| view.end.is_some())).await;
        let now = view.borrow().clone();
        Ok(now)
    }

    /// Stops the transfer from a queue, and tells how far it came.
    ///
    /// # Errors
    /// There is none; not allowed.
    pub async fn stop_transfer(&self, who: &Principal, queue: &QueueName) -> Result<TransferView, NodeError> {
        who.check(Action::Administer)?;
        let transfer = self.transfers().find(queue)?;
        transfer.stopping.store(true, Ordering::Release);
        transfer.stopped.notify_one();
        let mut view = transfer.view.subscribe();
        let ended = view.wait_for(|view| view.end.is_some()).await;
        ended.map(|view| view.clone()).map_err(|_| self.shard().gone().into())
    }

    async fn transfer(
        &self,
        who: &Principal,
        queue: &QueueName,
        way: Way,
        spec: TransferSpec,
    ) -> Result<TransferView, NodeError> {
        who.check(Action::Administer)?;
        if spec.ids.len() > IDS_MAX {
            let text = format!("at most {IDS_MAX} messages are named at once, not {}", spec.ids.len());
            return Err(NodeError::TooLarge(text));
        }
        let to = match &way {
            Way::Move { to } => Some(to),
            Way::Redrive { to, .. } => to.as_ref(),
        };
        let from = self.queue(who, queue).await?;
        if let Some(to) = to {
            self.queue(who, to).await?;
        }
        let view = TransferView {
            queue: queue.clone(),
            to: to.cloned(),
            redrive: matches!(way, Way::Redrive { .. }),
            per_second: spec.per_second,
            moved: 0,
            kept: 0,
            looping: 0,
            started_at: Timestamp::wall_clock(),
            end: None,
        };
        let transfer = self.transfers().begin(view.clone())?;
        let ids = (!spec.ids.is_empty()).then(|| spec.ids.clone());
        // What comes after it began is not its concern: it ends although more comes.
        let walk = Walk { shard: self.shard().clone(), way, from: 0, end: from.enqueued, transfer };
        match ids {
            Some(ids) => walk.take_these(ids).await,
            None => drop(tokio::spawn(walk.run(spec))),
        }
        Ok(self.transfers().find(queue)?.view.borrow().clone())
    }
}

impl Transfers {
    fn find(&self, queue: &QueueName) -> Result<Arc<Transfer>, NodeError> {
        let none = || NodeError::NotFound { kind: "transfer", name: queue.to_string() };
        self.lock().get(queue).cloned().ok_or_else(none)
    }

    /// Notes a transfer, unless one from the same queue is under way.
    fn begin(&self, view: TransferView) -> Result<Arc<Transfer>, NodeError> {
        let mut transfers = self.lock();
        let under_way = |transfer: &Arc<Transfer>| transfer.view.borrow().end.is_none();
        if transfers.get(&view.queue).is_some_and(under_way) {
            let text = format!(
                "messages of queue {} are being moved already; stop that, or wait for its end",
                view.queue
            );
            return Err(NodeError::Conflict(text));
        }
        if transfers.len() >= REMEMBERED_MAX {
            transfers.retain(|_, transfer| under_way(transfer));
        }
        let (queue, view) = (view.queue.clone(), watch::Sender::new(view));
        let transfer = Arc::new(Transfer { view, stopping: AtomicBool::new(false), stopped: Notify::new() });
        transfers.insert(queue, Arc::clone(&transfer));
        Ok(transfer)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueName, Arc<Transfer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one transfer.
struct Walk {
    shard: Shard,
    way: Way,
    /// The offset to go on from.
    from: u64,
    /// The offset to end before.
    end: u64,
    transfer: Arc<Transfer>,
}

impl Walk {
    async fn run(mut self, spec: TransferSpec) {
        let end = match self.walk(&spec).await {
            Ok(end) => end,
            Err(error) => TransferEnd::Failed(error.to_string()),
        };
        self.transfer.view.send_modify(|view| view.end = Some(end));
    }

    /// Takes messages that were named.
    async fn take_these(self, ids: Vec<MessageId>) {
        let end = match self.take(Selection::Ids(ids)).await {
            Ok(()) => TransferEnd::Done,
            Err(error) => TransferEnd::Failed(error.to_string()),
        };
        self.transfer.view.send_modify(|view| view.end = Some(end));
    }

    async fn walk(&mut self, spec: &TransferSpec) -> Result<TransferEnd, ShardError> {
        let started = Instant::now();
        let mut pace = spec.per_second.map(Pace::new);
        let mut left = spec.limit.unwrap_or(u64::MAX);
        while left > 0 {
            if self.transfer.stopping.load(Ordering::Acquire) {
                return Ok(TransferEnd::Stopped);
            }
            let allowed = pace.as_mut().map_or(u64::MAX, |pace| pace.allowed(started.elapsed()));
            if allowed == 0 {
                let pause = pace.as_ref().map_or_else(Default::default, Pace::pause);
                // Stopped or rested: both are looked at above.
                let _ = tokio::time::timeout(pause, self.transfer.stopped.notified()).await;
                continue;
            }
            let Page { select, messages, looping, next } = self.page(allowed.min(left).min(PAGE)).await?;
            self.transfer.view.send_modify(|view| view.looping += looping);
            if messages > 0 {
                self.take(select).await?;
                left -= messages;
                if let Some(pace) = &mut pace {
                    pace.took(messages);
                }
            }
            match next {
                Some(next) => self.from = next,
                None => return Ok(TransferEnd::Done),
            }
        }
        Ok(TransferEnd::Done)
    }

    /// The next messages, at most `max`.
    async fn page(&self, max: u64) -> Result<Page, ShardError> {
        let (queue, from, end) = (self.transfer.view.borrow().queue.clone(), self.from, self.end);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if let Way::Redrive { matcher, redriven_max, .. } = &self.way {
            let found = matcher.page(&self.shard, &queue, from, max).await?;
            let here = found.letters.iter().filter(|letter| letter.offset < end);
            let often = |letter: &&DeadLetter| redriven_max.is_some_and(|max| letter.past.redriven >= max);
            let (looping, going): (Vec<_>, Vec<_>) = here.partition(often);
            let offsets: Vec<u64> = going.iter().map(|letter| letter.offset).collect();
            return Ok(Page {
                messages: offsets.len() as u64,
                select: Selection::At(offsets),
                looping: looping.len() as u64,
                next: found.next.filter(|next| *next < end),
            });
        }
        let ask = move |state: &State, _: &wharf_log::Stats| state.browse(queue.as_str(), from, max);
        let waiting = self.shard.query(ask).await?;
        let offsets = waiting.iter().map(|each| each.offset).filter(|offset| *offset < end);
        let (count, next) = offsets.fold((0, None), |(count, _), offset| (count + 1, Some(offset + 1)));
        let select = Selection::Offsets { from, to: next.unwrap_or(from) };
        Ok(Page { select, messages: count, looping: 0, next })
    }

    async fn take(&self, select: Selection) -> Result<(), ShardError> {
        let queue = self.transfer.view.borrow().queue.clone();
        let Changed { messages, kept, .. } = match self.way.clone() {
            Way::Move { to } => self.shard.move_messages(Move { queue, select, to }).await?,
            Way::Redrive { to, redriven_max, .. } => {
                self.shard.redrive(Redrive { queue, select, to, redriven_max }).await?
            }
        };
        self.transfer.view.send_modify(|view| {
            view.moved += messages;
            view.kept += kept;
        });
        Ok(())
    }
}
