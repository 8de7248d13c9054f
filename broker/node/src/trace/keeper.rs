//! The thread that keeps traces, and the handle by which the way of a message reaches it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use wharf_protocol::{MessageId, Receipt, Rejection, Timestamp, TransactionReceipt};
use wharf_queue::is_stale;
use wharf_shard::ShardError;

use super::shelf::{FOUND_MAX, SLED_TIME_MAX, Shelf, ShelfError, Stock};
use super::{
    Accounts, Followed, Later, Pass, Sequel, Trace, TraceConfig, TraceCounts, TraceFilter, TraceKey,
    TraceSummary, TraceVerdict, Why, Wishes,
};
use crate::{Action, Node, NodeError, Principal, Receipts};

/// Traces that wait to be kept at most.
const WAITING_MAX: usize = 1024;
/// Programs that follow the traces at most.
const FEEDS_MAX: usize = 16;

/// What decides whether a message is traced, and takes the traces.
#[derive(Debug)]
pub(crate) struct Tracing {
    config: TraceConfig,
    shelf: Option<Arc<Shelf>>,
    /// To the keeper; `None` when it has stopped.
    finished: Mutex<Option<SyncSender<Work>>>,
    keeper: Mutex<Option<Keeper>>,
    shared: Arc<Shared>,
    followed: Arc<Followed>,
    /// The present second in the upper half, and how many traces began in it.
    window: AtomicU64,
    refused: AtomicU64,
}

/// The keeper's thread, and what tells that it has ended.
#[derive(Debug)]
struct Keeper {
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

/// What the keeper does.
enum Work {
    Keep(Box<Trace>),
    /// Adds to the trace of a message.
    Add(MessageId, Later),
}

#[derive(Debug)]
struct Shared {
    feeds: Mutex<Vec<mpsc::Sender<Arc<Trace>>>>,
    kept: watch::Sender<u64>,
    lost: AtomicU64,
}

/// Every trace from now on, as it ends. One that is not read in time misses some.
#[derive(Debug)]
pub struct TraceFeed(mpsc::Receiver<Arc<Trace>>);

impl TraceFeed {
    /// The next; `None` when the node has stopped.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Arc<Trace>> {
        self.0.recv().await
    }

    /// As [`next`](Self::next), for a thread outside of async code.
    pub fn blocking_next(&mut self) -> Option<Arc<Trace>> {
        self.0.blocking_recv()
    }

    /// The next, when it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Trace>> {
        self.0.try_recv().ok()
    }
}

impl Tracing {
    /// Opens the shelf in `folder` and starts its keeper. Without a shelf, traces go to those who follow them alone.
    pub(crate) fn open(folder: &Path, config: TraceConfig) -> Self {
        let shared = Arc::new(Shared {
            feeds: Mutex::default(),
            kept: watch::Sender::new(0),
            lost: AtomicU64::new(0),
        });
        let (shelf, stock) = match Shelf::open(folder) {
            Ok((shelf, stock)) => (Some(Arc::new(shelf)), stock),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "traces are not kept");
                (None, Stock::default())
            }
        };
        let (finished, waiting) = sync_channel(WAITING_MAX);
        let (running, ended) = sync_channel::<()>(1);
        let keep = {
            let (shelf, shared) = (shelf.clone(), Arc::clone(&shared));
            move || {
                // Goes with the thread, whatever ends it.
                let _running = running;
                keep(&waiting, shelf.as_deref(), stock, &config, &shared);
            }
        };
        let keeper = std::thread::Builder::new().name("wharf-traces".to_owned()).spawn(keep);
        let keeper = keeper.inspect_err(|error| tracing::warn!(%error, "traces are not kept")).ok();
        let keeper = keeper.map(|thread| Keeper { thread, ended });
        Self {
            config,
            shelf,
            finished: Mutex::new(keeper.is_some().then_some(finished)),
            keeper: Mutex::new(keeper),
            shared,
            followed: Arc::default(),
            window: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Whether a message that comes in at `now` is traced, and why.
    #[inline]
    pub(crate) fn wanted(&self, wishes: &Wishes<'_>, now: Timestamp) -> Option<Why> {
        let why = if wishes.trace.is_some() {
            Why::Asked
        } else if (self.config.sample > 0.0 && falls_in(self.config.sample))
            || (self.config.follow_sampled && wishes.is_sampled())
        {
            Why::Sampled
        } else {
            return None;
        };
        self.may_begin(now).then_some(why)
    }

    /// Whether a message falls in a pipeline's own sample.
    pub(crate) fn sampled(&self, share: f64, now: Timestamp) -> bool {
        share > 0.0 && falls_in(share) && self.may_begin(now)
    }

    /// Counts a trace that is about to begin; no more than so many in a second.
    fn may_begin(&self, now: Timestamp) -> bool {
        let second = (now.0 / 1000) & u64::from(u32::MAX);
        let most = u64::from(self.config.per_second);
        let count = |window: u64| {
            let begun = if window >> 32 == second { window & u64::from(u32::MAX) } else { 0 };
            (begun < most).then_some(second << 32 | (begun + 1))
        };
        let begins = self.window.fetch_update(Relaxed, Relaxed, count).is_ok();
        if !begins {
            self.refused.fetch_add(1, Relaxed);
        }
        begins
    }

    /// Hands a finished trace to the keeper. Never waits.
    pub(crate) fn finished(&self, trace: Trace) {
        self.hand_over(Work::Keep(Box::new(trace)));
    }

    /// The messages whose traces go on.
    pub(crate) fn followed(&self) -> &Arc<Followed> {
        &self.followed
    }

    /// Adds what became of a message to its trace, while that goes on. Never waits.
    pub(crate) fn sequel(&self, sequel: Sequel) {
        if self.followed.tells(sequel.message, sequel.kind) {
            self.hand_over(Work::Add(sequel.message, Later::Sequel(sequel)));
        }
    }

    /// Adds the pass of a message through a pipeline on the way out to its trace. Never waits.
    pub(crate) fn passed_out(&self, id: MessageId, pass: Pass) {
        self.hand_over(Work::Add(id, Later::Pass(Box::new(pass))));
    }

    fn hand_over(&self, work: Work) {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |error| matches!(error, TrySendError::Disconnected(_));
        let sent = finished.as_ref().map(|keeper| keeper.try_send(work).map_err(is_gone));
        if sent != Some(Ok(())) {
            debug_assert!(sent != Some(Err(true)), "the keeper outlives its handle");
            self.shared.lost.fetch_add(1, Relaxed);
        }
    }

    /// Ends these accounts when their publisher is told, and tells it.
    pub(crate) fn with_receipts(self: &Arc<Self>, traced: Accounts, mut receipts: Receipts) -> Receipts {
        let versions = receipts.take_versions();
        let (tell, told) = oneshot::channel();
        let (tracing, count) = (Arc::clone(self), receipts.count());
        tokio::spawn(async move {
            let receipts = receipts.await;
            for (origin, account) in traced {
                // One that is stale goes again, with another account.
                if !is_stale(&receipts[origin]) {
                    let entries = account.entries();
                    tracing.finished(account.end(&receipts[origin], 0, entries));
                }
            }
            // Whoever published may have left.
            let _ = tell.send(receipts);
        });
        Receipts::new(vec![None; count], Some(told)).of_versions(versions)
    }

    /// Ends these accounts of a transaction that was refused.
    pub(crate) fn refused(&self, traced: Accounts, rejection: &Rejection) {
        for account in traced.into_values() {
            self.finished(account.end(&Receipt::Rejected(rejection.clone()), 0, 0));
        }
    }

    /// Ends these accounts when what became of their transaction is known, and hands that on. `firsts` are the
    /// entries at which the messages of each publication begin.
    pub(crate) fn with_transaction(
        self: &Arc<Self>,
        traced: Accounts,
        firsts: Vec<u16>,
        answer: oneshot::Receiver<Result<TransactionReceipt, ShardError>>,
    ) -> oneshot::Receiver<Result<TransactionReceipt, ShardError>> {
        let (tell, told) = oneshot::channel();
        let tracing = Arc::clone(self);
        tokio::spawn(async move {
            // Without an answer nobody knows what became of it, and its publisher is told so.
            let Ok(answer) = answer.await else { return };
            let receipt = match &answer {
                Ok(TransactionReceipt::Committed(committed)) => Receipt::Stored(committed.stored),
                Ok(TransactionReceipt::Duplicate(place)) => Receipt::Duplicate(*place),
                Ok(TransactionReceipt::Refused { rejection, .. }) => Receipt::Rejected(rejection.clone()),
                Err(error) => Receipt::Rejected(Rejection {
                    code: error.code(),
                    stage: None,
                    reason: error.to_string(),
                    retry_after_ms: None,
                }),
            };
            for (origin, account) in traced {
                if is_stale(&receipt) {
                    break;
                }
                let entries = account.entries();
                tracing.finished(account.end(&receipt, firsts[origin], entries));
            }
            // Whoever published may have left.
            let _ = tell.send(answer);
        });
        told
    }

    pub(crate) fn counts(&self) -> TraceCounts {
        TraceCounts {
            kept: *self.shared.kept.borrow(),
            lost: self.shared.lost.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// Keeps what waits, and ends. Those who follow are told.
    pub(crate) async fn stop(&self) {
        drop(self.finished.lock().unwrap_or_else(PoisonError::into_inner).take());
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Keeper { thread, ended }) = keeper {
            let join = move || match ended.recv_timeout(SLED_TIME_MAX) {
                Err(RecvTimeoutError::Timeout) => tracing::warn!("the keeper of traces did not end"),
                // A keeper that panicked has said so.
                _ => drop(thread.join()),
            };
            let _ = tokio::task::spawn_blocking(join).await;
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Shelf) -> Result<T, ShelfError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let unavailable = |error: &dyn std::fmt::Display| NodeError::Unavailable(error.to_string());
        let Some(shelf) = self.shelf.clone() else {
            return Err(NodeError::Unavailable(
                "the store of traces did not open; the log says why".to_owned(),
            ));
        };
        let asked = tokio::task::spawn_blocking(move || ask(&shelf)).await;
        asked.map_err(|error| unavailable(&error))?.map_err(|error| unavailable(&error))
    }
}

impl Node {
    /// At most `limit` traces that pass `filter`, newest first; at most 1,000.
    ///
    /// # Errors
    /// Not allowed; the store of traces does not work.
    pub async fn traces(
        &self,
        who: &Principal,
        filter: TraceFilter,
        limit: usize,
    ) -> Result<Vec<TraceSummary>, NodeError> {
        who.check(Action::Administer)?;
        self.tracing().ask(move |shelf| shelf.list(&filter, limit.min(FOUND_MAX))).await
    }

    /// The traces of an id, oldest first; with `patience` it waits so long for the first of them.
    ///
    /// # Errors
    /// There is none; not allowed; the store of traces does not work.
    pub async fn trace(
        &self,
        who: &Principal,
        key: TraceKey,
        patience: Duration,
    ) -> Result<Vec<Trace>, NodeError> {
        who.check(Action::Administer)?;
        let mut kept = self.tracing().shared.kept.subscribe();
        let look = async {
            loop {
                kept.mark_unchanged();
                let found = self.tracing().ask(move |shelf| shelf.find(&key)).await?;
                if !found.is_empty() || kept.changed().await.is_err() {
                    return Ok::<_, NodeError>(found);
                }
            }
        };
        let found = match tokio::time::timeout(patience, look).await {
            Ok(found) => found?,
            Err(_) => self.tracing().ask(move |shelf| shelf.find(&key)).await?,
        };
        if found.is_empty() {
            let name = match key {
                TraceKey::Trace(id) => id.to_string(),
                TraceKey::Message(id) => format!("of message {id}"),
            };
            return Err(NodeError::NotFound { kind: "trace", name });
        }
        Ok(found)
    }

    /// Every trace from now on, as it ends; at most `waiting` wait for whoever follows them.
    ///
    /// # Errors
    /// 16 follow already.
    pub fn follow_traces(&self, waiting: usize) -> Result<TraceFeed, NodeError> {
        let (feed, traces) = mpsc::channel(waiting.max(1));
        let mut feeds = self.tracing().shared.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|feed| !feed.is_closed());
        if feeds.len() >= FEEDS_MAX {
            return Err(NodeError::Unavailable(format!("{FEEDS_MAX} programs follow the traces already")));
        }
        feeds.push(feed);
        Ok(TraceFeed(traces))
    }
}

/// The thread: until nobody can send any more.
fn keep(
    waiting: &Receiver<Work>,
    shelf: Option<&Shelf>,
    mut stock: Stock,
    config: &TraceConfig,
    shared: &Shared,
) {
    let mut early = Early::default();
    for work in waiting {
        let mut trace = match work {
            Work::Keep(trace) => *trace,
            Work::Add(id, later) => {
                add(id, later, &mut early, shelf, &mut stock, config, shared);
                continue;
            }
        };
        early.take(&mut trace);
        let mut feeds = shared.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if !feeds.is_empty() {
            let whole = Arc::new(trace.clone());
            feeds.retain(|feed| match feed.try_send(Arc::clone(&whole)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    shared.lost.fetch_add(1, Relaxed);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
        }
        drop(feeds);
        match shelf.map(|shelf| shelf.put(trace, config, &mut stock)) {
            Some(Ok(())) => shared.kept.send_modify(|kept| *kept += 1),
            Some(Err(error)) => {
                shared.lost.fetch_add(1, Relaxed);
                tracing::warn!(%error, "a trace is lost");
            }
            None => {}
        }
    }
    if let Some(shelf) = shelf {
        shelf.flush();
    }
    shared.feeds.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Adds to a trace that is kept, or sets aside what comes before its trace does.
fn add(
    id: MessageId,
    later: Later,
    early: &mut Early,
    shelf: Option<&Shelf>,
    stock: &mut Stock,
    config: &TraceConfig,
    shared: &Shared,
) {
    let Some(shelf) = shelf else { return };
    match shelf.add(id, later.clone(), config, stock) {
        // Whoever waits for it looks again.
        Ok(true) => shared.kept.send_modify(|_| ()),
        Ok(false) => early.put(id, later),
        Err(error) => {
            shared.lost.fetch_add(1, Relaxed);
            tracing::warn!(%error, "a part of a trace is lost");
        }
    }
}

/// What became of messages whose traces are still on their way here. Bounded: of traces that were lost, the oldest go.
#[derive(Default)]
struct Early(VecDeque<(MessageId, Later)>);

impl Early {
    fn put(&mut self, id: MessageId, later: Later) {
        self.0.push_back((id, later));
        if self.0.len() > WAITING_MAX {
            self.0.pop_front();
        }
    }

    /// Moves what is of `trace` into it.
    fn take(&mut self, trace: &mut Trace) {
        let mut others = VecDeque::with_capacity(self.0.len());
        for (id, later) in self.0.drain(..) {
            match trace.verdict != TraceVerdict::Duplicate && trace.messages.contains(&id) {
                true => trace.add(later),
                false => others.push_back((id, later)),
            }
        }
        self.0 = others;
    }
}

fn falls_in(share: f64) -> bool {
    rand::random::<f64>() < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_traces_begin_in_a_second_than_the_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = TraceConfig { per_second: 3, ..TraceConfig::default() };
        let tracing = Tracing::open(folder.path(), config);
        let asked = Wishes { trace: Some(b"1"), ..Wishes::default() };
        let begun = |at: u64| (0..10).filter(|_| tracing.wanted(&asked, Timestamp(at)).is_some()).count();
        assert_eq!((begun(5_000), begun(5_999), begun(6_000)), (3, 0, 3));
        assert_eq!(tracing.counts().refused, 24);
        assert_eq!(tracing.wanted(&Wishes::default(), Timestamp(9_000)), None, "nobody asks");
    }
}
