//! Transfers: many messages on their way from one queue to others, at a limited rate if one is given.
//!
//! A move takes what waits in a queue to another; a redrive sends dead letters on from where they died, or to one
//! queue. Either goes through the messages that were there when it began, oldest first, a page at a time. So
//! whatever stops it, each message is in one place; what it leaves it can be told to take again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};
use wharf_protocol::{MessageId, QueueName, Timestamp};
use wharf_queue::{DeadLetter, Move, Selection, State};
use wharf_shard::{Changed, Shard, ShardError};

use crate::dead_letters::{LetterFate, LetterFilter, Matcher, Order, Redriven};
use crate::node::WeakNode;
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
    /// Of a move, these messages; all of them that wait when none is named.
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
    /// Dead letters that a pipeline gave up once more.
    pub died_again: u64,
    /// Messages that stay: a consumer held them, where they were to go there is no queue or no room, or they were
    /// refused on their way.
    pub kept: u64,
    /// Why the newest dead letter that was refused on its way stays.
    pub why: Option<String>,
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
    Redrive { matcher: Box<Matcher>, order: Order },
}

/// What is to go next.
enum Going {
    Moved(Selection, QueueName),
    Redriven(Vec<DeadLetter>, Order),
}

/// Messages that are to go next.
struct Page {
    going: Going,
    messages: u64,
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

    /// Begins to send the dead letters of a queue on their way again: each from where it died, through what is in force
    /// now, or all to one queue as they are.
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
        if !spec.ids.is_empty() {
            return Err(NodeError::Invalid("dead letters that are named are redriven at once".to_owned()));
        }
        let matcher = Box::new(Matcher::new(spec.filter.clone(), &self.shard().topology().clone())?);
        let order = Order { to, redriven_max: spec.redriven_max };
        self.transfer(who, queue, Way::Redrive { matcher, order }, spec).await
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
            Way::Redrive { order, .. } => order.to.as_ref(),
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
            died_again: 0,
            kept: 0,
            why: None,
            looping: 0,
            started_at: Timestamp::wall_clock(),
            end: None,
        };
        let transfer = self.transfers().begin(view.clone())?;
        let ids = (!spec.ids.is_empty()).then(|| spec.ids.clone());
        // What comes after it began is not its concern: it ends although more comes.
        let walk = Walk {
            node: self.downgrade(),
            shard: self.shard().clone(),
            who: who.clone(),
            way,
            from: 0,
            end: from.enqueued,
            transfer,
        };
        match (ids, &walk.way) {
            (Some(ids), Way::Move { to }) => {
                let going = Going::Moved(Selection::Ids(ids), to.clone());
                walk.take_these(going).await;
            }
            _ => drop(tokio::spawn(walk.run(spec))),
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
    /// What stops is not held up by what is on its way.
    node: WeakNode,
    shard: Shard,
    who: Principal,
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
    async fn take_these(self, going: Going) {
        let end = match self.take(going).await {
            Ok(_) => TransferEnd::Done,
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
            let Page { going, messages, next } = self.page(allowed.min(left).min(PAGE)).await?;
            if messages > 0 {
                let went = self.take(going).await?;
                left = left.saturating_sub(went);
                if let Some(pace) = &mut pace {
                    pace.took(went);
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
        let to = match &self.way {
            Way::Move { to } => to.clone(),
            Way::Redrive { matcher, order } => {
                let mut found = matcher.page(&self.shard, &queue, from, max).await?;
                found.letters.retain(|letter| letter.offset < end);
                return Ok(Page {
                    messages: found.letters.len() as u64,
                    going: Going::Redriven(found.letters, order.clone()),
                    next: found.next.filter(|next| *next < end),
                });
            }
        };
        let ask = move |state: &State, _: &wharf_log::Stats| state.browse(queue.as_str(), from, max);
        let waiting = self.shard.query(ask).await?;
        let offsets = waiting.iter().map(|each| each.offset).filter(|offset| *offset < end);
        let (count, next) = offsets.fold((0, None), |(count, _), offset| (count + 1, Some(offset + 1)));
        let select = Selection::Offsets { from, to: next.unwrap_or(from) };
        Ok(Page { going: Going::Moved(select, to), messages: count, next })
    }

    /// Takes these: how many tried to go.
    async fn take(&self, going: Going) -> Result<u64, ShardError> {
        let queue = self.transfer.view.borrow().queue.clone();
        let done = match going {
            Going::Moved(select, to) => {
                let Changed { messages, kept, .. } =
                    self.shard.move_messages(Move { queue, select, to }).await?;
                Redriven { moved: messages, kept, ..Redriven::default() }
            }
            Going::Redriven(letters, order) => {
                let node = self.node.upgrade().ok_or_else(|| self.shard.gone())?;
                node.send_again(&self.who, &queue, letters, &order).await?
            }
        };
        let why = done.told.iter().rev().find_map(|told| match &told.fate {
            LetterFate::Stays(rejection) => Some(match &rejection.stage {
                Some(stage) => format!("{stage}: {}", rejection.reason),
                None => rejection.reason.clone(),
            }),
            LetterFate::WentOn { .. } => None,
        });
        self.transfer.view.send_modify(|view| {
            view.moved += done.moved;
            view.died_again += done.died_again;
            view.kept += done.kept;
            view.looping += done.looping;
            view.why = why.or(view.why.take());
        });
        Ok(done.moved + done.died_again + done.kept)
    }
}
