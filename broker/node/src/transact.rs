//! The way of a transaction: its messages go the way of every message, and then all of it is one record.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use wharf_protocol::{
    ErrorCode, Message, Part, PipelineVersion, Receipt, Rejection, Session, Settlement,
    TRANSACTION_MESSAGES_MAX, TransactionReceipt, VERSIONS_TOLD_MAX,
};
use wharf_queue::{Commit, ConsumerId, Durability, Publish, Transaction, is_stale_rejection};
use wharf_shard::ShardError;

use crate::journey::{Held, Journey};
use crate::kv;
use crate::memories::Turn;
use crate::publish::{Publication, foreign_session};
use crate::{Controls, Node, Principal, ReaderControls};

/// What is to happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Transact {
    /// Its place in its producer's run: what comes again under it is a duplicate.
    pub session: Option<Session>,
    /// What is published; at most 4,096 messages.
    pub messages: Vec<Message>,
    /// What is settled, and by whom. `None` is a consumer that is gone: its deliveries are no longer held, which
    /// refuses the transaction unless it happened before.
    pub settles: Vec<(Option<Settler>, Settlement)>,
    /// What is told of it is to say which versions of which pipelines handled its messages:
    /// [`Transacted::take_versions`].
    pub tell_versions: bool,
}

/// Who settles deliveries.
#[derive(Clone, Debug)]
pub enum Settler {
    /// The consumer of a queue.
    Consumer(Controls),
    /// A reader of a stream, as a member of a group.
    Reader(ReaderControls),
}

/// Resolves to what became of a transaction, once that is durable.
///
/// It never fails. Dropping it undoes nothing.
#[derive(Debug)]
pub struct Transacted {
    answer: Answer,
    /// Where each settlement of a consumer, and each of a member, was in the whole.
    places: [Vec<u32>; 2],
    /// What members are told once it happened.
    settled: Vec<(ReaderControls, Settlement)>,
    /// What traces are told once it happened.
    watched: Vec<(Controls, Settlement)>,
    /// Messages to whose topics nothing is bound.
    unrouted: Vec<u32>,
    versions: Vec<PipelineVersion>,
}

#[derive(Debug)]
enum Answer {
    Decided(TransactionReceipt),
    Awaited(oneshot::Receiver<Result<TransactionReceipt, ShardError>>),
}

/// The number that no consumer has.
const NOBODY: ConsumerId = ConsumerId(0);

impl Node {
    /// Does all of `transact`, or nothing of it.
    ///
    /// Every message is checked, processed and routed as one that is published alone; one that is rejected refuses
    /// the whole. Returns once the transaction has its place in the order of the log.
    ///
    /// # Cancel safety
    /// Dropped before it returns, all of it or nothing may happen. Send it again with its sequence.
    pub async fn transact(&self, who: &Principal, transact: Transact) -> Transacted {
        let messages = &transact.messages;
        self.abide_by_rate(who, messages.len(), messages.iter().map(Message::encoded_bytes).sum()).await;
        match self.meets_a_memory(transact.messages.iter()) {
            true => self.transact_remembering(who, transact).await,
            false => self.transact_once(who, transact, None).await,
        }
    }

    /// A transaction of which a message may meet a pipeline that remembers: nothing else is under way meanwhile, and
    /// it returns when it is decided.
    async fn transact_remembering(&self, who: &Principal, transact: Transact) -> Transacted {
        let turn = self.turn_for(transact.messages.iter()).await;
        for _ in 0..kv::TRIES_MAX {
            self.memories().all_arrived().await;
            let mut transacted = self.transact_once(who, transact.clone(), Some(turn.again())).await;
            let versions = transacted.take_versions();
            let receipt = transacted.await;
            if !matches!(&receipt, TransactionReceipt::Refused { rejection, .. } if is_stale_rejection(rejection))
            {
                return Transacted::decided(receipt).of_versions(versions);
            }
        }
        Transacted::decided(TransactionReceipt::Refused { part: Part::Whole, rejection: kv::restless() })
    }

    async fn transact_once(&self, who: &Principal, transact: Transact, turn: Option<Turn>) -> Transacted {
        let Transact { session, messages, settles, tell_versions } = transact;
        let count = messages.len();
        let publications = messages.into_iter().map(Publication::from).collect();
        let (mut journey, admitted) = self.admit(who, publications);
        if let Some(turn) = turn {
            journey.take_turn(turn);
        }
        if tell_versions {
            journey.tell_versions();
        }
        if count > TRANSACTION_MESSAGES_MAX {
            let reason = format!("{count} messages are over the {TRANSACTION_MESSAGES_MAX} of a transaction");
            let rejection = rejection(ErrorCode::TooLarge, reason);
            self.tracing().refused(journey.close_accounts(), &rejection);
            return self.refused(session, Part::Whole, rejection).await;
        }
        if let Some(rejection) = foreign_session(who, session.as_ref()) {
            return self.refused(None, Part::Whole, rejection).await;
        }
        self.travel(&mut journey, admitted).await;
        let traced = journey.close_accounts();
        let versions = of_all(journey.take_versions());
        let routed = match Routed::new(journey) {
            Ok(routed) => routed,
            Err((part, rejection)) => {
                self.tracing().refused(traced, &rejection);
                return self.refused(session, part, rejection).await.of_versions(versions);
            }
        };
        for message in &routed.live {
            self.taps().offer(message);
        }
        let mut said = Said { durability: routed.durability, ..Said::default() };
        for (n, (by, settlement)) in (0..).zip(settles) {
            if let Err(reason) = said.add(n, by, settlement) {
                let rejection = rejection(ErrorCode::Conflict, reason);
                self.tracing().refused(traced, &rejection);
                return self.refused(session, Part::Settlement(n), rejection).await;
            }
        }
        let Said { settles, cursors, durability, places, settled, watched } = said;
        // The pipelines stay at their versions until the transaction has its place.
        let Routed { publishes, bytes, unrouted, _entered, .. } = routed;
        let firsts = if traced.is_empty() { Vec::new() } else { firsts(&publishes) };
        let transaction = Transaction { session, publishes, settles, cursors };
        let follows = traced.iter().map(|(origin, account)| (firsts[*origin], account.landings())).collect();
        let seen = self.tracing().followed().of_transaction(follows);
        let answer = match self.shard().transact(transaction, bytes, durability, seen).await {
            Ok(answer) if traced.is_empty() => Answer::Awaited(answer),
            Ok(answer) => Answer::Awaited(self.tracing().with_transaction(traced, firsts, answer)),
            Err(error) => Answer::Decided(refusal(&error)),
        };
        Transacted { answer, places, settled, watched, unrouted, versions }
    }

    /// A transaction that cannot happen, unless it did before: an alarm or a new version of a pipeline does not
    /// unmake what is stored.
    async fn refused(&self, session: Option<Session>, part: Part, rejection: Rejection) -> Transacted {
        let mut receipt = TransactionReceipt::Refused { part, rejection };
        if let Some(session) = session {
            let before = self.shard().query(move |state, _| state.told_before(&session)).await;
            if let Ok(Some(Receipt::Duplicate(place))) = before {
                receipt = TransactionReceipt::Duplicate(place);
            }
        }
        Transacted::decided(receipt)
    }
}

impl Transacted {
    /// Which versions of which pipelines handled its messages, each once, where that was asked for
    /// ([`Transact::tell_versions`]). Known before the answer; what happened before may have passed others.
    pub fn take_versions(&mut self) -> Vec<PipelineVersion> {
        mem::take(&mut self.versions)
    }

    fn of_versions(self, versions: Vec<PipelineVersion>) -> Self {
        Self { versions, ..self }
    }

    fn decided(receipt: TransactionReceipt) -> Self {
        let unrouted = match &receipt {
            TransactionReceipt::Committed(committed) => committed.unrouted.clone(),
            _ => Vec::new(),
        };
        Self {
            answer: Answer::Decided(receipt),
            places: Default::default(),
            settled: Vec::new(),
            watched: Vec::new(),
            unrouted,
            versions: Vec::new(),
        }
    }
}

/// The settlements of a transaction, as the record has them.
#[derive(Default)]
struct Said {
    settles: Vec<(ConsumerId, Vec<Settlement>)>,
    cursors: Vec<Commit>,
    durability: Durability,
    places: [Vec<u32>; 2],
    settled: Vec<(ReaderControls, Settlement)>,
    watched: Vec<(Controls, Settlement)>,
}

impl Said {
    /// Adds the settlement of number `n`.
    fn add(&mut self, n: u32, by: Option<Settler>, settlement: Settlement) -> Result<(), String> {
        match by {
            Some(Settler::Reader(controls)) => {
                self.cursors.push(controls.commit_of(&settlement)?);
                self.durability = self.durability.max(controls.durability());
                self.places[1].push(n);
                self.settled.push((controls, settlement));
            }
            Some(Settler::Consumer(controls)) => {
                self.settles.push((controls.consumer, vec![settlement.clone()]));
                self.durability = self.durability.max(controls.durability);
                self.places[0].push(n);
                if controls.watcher.holds_any() {
                    self.watched.push((controls, settlement));
                }
            }
            None => {
                self.settles.push((NOBODY, vec![settlement]));
                self.places[0].push(n);
            }
        }
        Ok(())
    }
}

/// The messages of a transaction, on their way into the log.
struct Routed {
    publishes: Vec<Publish>,
    bytes: usize,
    durability: Durability,
    unrouted: Vec<u32>,
    live: Vec<Message>,
    _entered: Held,
}

impl Routed {
    /// What a journey led to, unless one of its messages was rejected.
    fn new(journey: Journey) -> Result<Self, (Part, Rejection)> {
        let (decided, places, entered) = journey.finish();
        let mut routed = Self {
            publishes: Vec::with_capacity(places.len()),
            bytes: 0,
            durability: Durability::Memory,
            unrouted: Vec::new(),
            live: Vec::new(),
            _entered: entered,
        };
        let mut entries = 0;
        for ((place, decided), n) in places.into_iter().zip(decided).zip(0..) {
            if let Some(Receipt::Rejected(rejection)) = decided {
                return Err((Part::Message(n), rejection));
            }
            if place.entries.is_empty() {
                routed.unrouted.push(n);
            }
            entries += place.entries.len();
            routed.bytes += place.entries.iter().map(|entry| entry.message.encoded_bytes()).sum::<usize>();
            routed.durability = routed.durability.max(place.durability);
            routed.live.extend(place.live);
            let (dedup, topology, kv, entries) = (place.dedup, place.revision, place.kv, place.entries);
            routed.publishes.push(Publish { dedup, topology, kv, entries, ..Publish::default() });
        }
        if entries > usize::from(u16::MAX) {
            let reason = format!("its messages became {entries}, and one record holds {}", u16::MAX);
            return Err((Part::Whole, rejection(ErrorCode::TooLarge, reason)));
        }
        Ok(routed)
    }
}

/// The versions that any of the messages passed, each once.
fn of_all(versions: Vec<Vec<PipelineVersion>>) -> Vec<PipelineVersion> {
    let mut all: Vec<PipelineVersion> = versions.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(VERSIONS_TOLD_MAX);
    all
}

/// The entry of the record at which the messages of each publish begin.
fn firsts(publishes: &[Publish]) -> Vec<u16> {
    let ends = publishes.iter().scan(0u16, |end, publish| {
        let first = *end;
        *end = end.saturating_add(u16::try_from(publish.entries.len()).unwrap_or(u16::MAX));
        Some(first)
    });
    ends.collect()
}

/// What a transaction is told that the shard did not take.
fn refusal(error: &ShardError) -> TransactionReceipt {
    TransactionReceipt::Refused { part: Part::Whole, rejection: rejection(error.code(), error.to_string()) }
}

fn rejection(code: ErrorCode, reason: String) -> Rejection {
    Rejection { code, stage: None, reason, retry_after_ms: None }
}

impl Future for Transacted {
    type Output = TransactionReceipt;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransactionReceipt> {
        let mut receipt = match &mut self.answer {
            Answer::Decided(receipt) => receipt.clone(),
            Answer::Awaited(answer) => match ready!(Pin::new(answer).poll(context)) {
                Ok(Ok(receipt)) => receipt,
                Ok(Err(error)) => refusal(&error),
                // Nobody knows whether it is in the log.
                Err(_) => refusal(&ShardError::Stopped(
                    "the broker stopped before it knew; send it again with its sequence".into(),
                )),
            },
        };
        let [settlements, cursors] = &self.places;
        let place = |places: &[u32], n: u32| usize::try_from(n).ok().and_then(|n| places.get(n)).copied();
        match &mut receipt {
            TransactionReceipt::Committed(committed) => committed.unrouted = mem::take(&mut self.unrouted),
            TransactionReceipt::Refused { part, .. } => {
                *part = match *part {
                    Part::Settlement(n) => Part::Settlement(place(settlements, n).unwrap_or(n)),
                    Part::Cursor(n) => Part::Settlement(place(cursors, n).unwrap_or(n)),
                    part => part,
                };
            }
            TransactionReceipt::Duplicate(_) => {}
        }
        if !matches!(receipt, TransactionReceipt::Refused { .. }) {
            self.settled.drain(..).for_each(|(controls, settlement)| controls.forget(&settlement));
            let watched = std::mem::take(&mut self.watched);
            watched.iter().for_each(|(controls, settlement)| controls.settled_with_others(settlement));
        }
        Poll::Ready(receipt)
    }
}
