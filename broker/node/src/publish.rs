//! The way of a message: from a door to its place in the log.

use wharf_protocol::{ErrorCode, Message, REQUIRE_LISTENER, Receipt, Rejection, Session, Stored};
use wharf_queue::{Durability, Publish};
use xxhash_rust::xxh3::xxh3_128;

use crate::journey::{Journey, Traveller};
use crate::trace::{Accounts, Wishes};
use crate::{Action, Node, Principal, Receipts, deliver_at};

/// A message to publish, and its place in its producer's run, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The message.
    pub message: Message,
    /// Its place; a sequence that was stored before is a duplicate.
    pub session: Option<Session>,
    /// Its receipt is to say which versions of which pipelines handled it: [`Receipts::take_versions`].
    pub tell_versions: bool,
}

impl From<Message> for Publication {
    fn from(message: Message) -> Self {
        Self { message, session: None, tell_versions: false }
    }
}

impl Node {
    /// Publishes a batch: checks, processes, routes and stores each message.
    ///
    /// Returns once the batch has its place in the order of the log; call again for the next batch of the same
    /// producer only then. The receipts come when it is durable.
    ///
    /// # Cancel safety
    /// Dropped before it returns, none or all of the batch may be stored. Send it again with its sequences.
    pub async fn publish(&self, who: &Principal, batch: Vec<Publication>) -> Receipts {
        let bytes = batch.iter().map(|publication| publication.message.encoded_bytes()).sum();
        self.abide_by_rate(who, batch.len(), bytes).await;
        if self.meets_a_memory(batch.iter().map(|publication| &publication.message)) {
            return self.publish_remembering(who, batch).await.counted(self.counts());
        }
        let (mut journey, admitted) = self.admit(who, batch);
        self.travel(&mut journey, admitted).await;
        self.store(journey).await.counted(self.counts())
    }

    /// Whether one of these may meet a pipeline that remembers.
    pub(crate) fn meets_a_memory<'a>(&self, messages: impl Iterator<Item = &'a Message>) -> bool {
        self.memories().concern(&self.shard().topology(), messages)
    }

    /// Waits while the principal is over its rate: its client waits with it.
    pub(crate) async fn abide_by_rate(&self, who: &Principal, messages: usize, bytes: usize) {
        if !who.usage().has_rate() {
            return;
        }
        let (messages, bytes) = (messages as u64, bytes as u64);
        while let Err(wait) = who.usage().take(self.uptime(), messages, bytes) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes every traveller through pipelines and bindings.
    pub(crate) async fn travel(&self, journey: &mut Journey, mut travellers: Vec<Traveller>) {
        while !travellers.is_empty() {
            let arrived = self.pass_ingress(journey, travellers).await;
            travellers = self.pass_bindings(journey, arrived).await;
        }
    }

    /// May they come in? Access, size, alarms.
    pub(crate) fn admit(&self, who: &Principal, batch: Vec<Publication>) -> (Journey, Vec<Traveller>) {
        let topology = self.shard().topology().clone();
        let mut journey = Journey::new(who, topology, batch.len());
        let mut travellers = Vec::with_capacity(batch.len());
        let alarm = self.alarms().raised();
        for (origin, publication) in batch.into_iter().enumerate() {
            let mut message = publication.message;
            let wishes = Wishes::of(&message.headers);
            if let Some(why) = self.tracing().wanted(&wishes, journey.now()) {
                journey.begin_account(origin, why, &message);
            }
            let objection = self
                .objection(who, &message, alarm.as_deref())
                .or_else(|| foreign_session(who, publication.session.as_ref()))
                .or_else(|| {
                    deliver_at::hold_back(&mut message.delay, wishes.deliver_at, journey.now()).err()
                });
            let request = message.reply_to.is_some() && message.headers.get(REQUIRE_LISTENER).is_some();
            journey.identify(publication.session, dedup_key(&message), request);
            if publication.tell_versions {
                journey.tell_versions();
            }
            match objection {
                Some(rejection) => journey.reject(origin, rejection),
                None => travellers.push(Traveller::new(origin, message)),
            }
        }
        (journey, travellers)
    }

    /// Why a message may not come in: it is too large, its topic is not its publisher's, an alarm is raised.
    pub(crate) fn objection(
        &self,
        who: &Principal,
        message: &Message,
        alarm: Option<&str>,
    ) -> Option<Rejection> {
        let rejection =
            |code, reason: String| Some(Rejection { code, stage: None, reason, retry_after_ms: None });
        if let Some(reason) = alarm {
            return rejection(ErrorCode::Unavailable, reason.to_owned());
        }
        let (bytes, max) = (message.encoded_bytes(), self.config().message_bytes_max);
        if bytes > max {
            let reason = format!("the message has {bytes} bytes, over the limit of {max}");
            return rejection(ErrorCode::TooLarge, reason);
        }
        let refused = who.check(Action::Publish(message.topic.as_str())).err()?;
        rejection(refused.code(), refused.to_string())
    }

    /// Hands what came through to the shard, and ends the accounts of those that are traced with their receipts.
    pub(crate) async fn store(&self, mut journey: Journey) -> Receipts {
        let traced = journey.close_accounts();
        let receipts = self.hand_on(journey, &traced).await;
        if traced.is_empty() { receipts } else { self.tracing().with_receipts(traced, receipts) }
    }

    /// Hands what came through to the shard, one record a publication, and lets go of the pipelines.
    async fn hand_on(&self, mut journey: Journey, traced: &Accounts) -> Receipts {
        let versions = journey.take_versions();
        let (mut decided, places, _entered) = journey.finish();
        let mut records = Vec::with_capacity(places.len());
        let mut follows = Vec::new();
        let mut bytes = 0;
        let mut durability = Durability::Memory;
        for (origin, (place, decided)) in places.into_iter().zip(&mut decided).enumerate() {
            if decided.is_some() {
                continue;
            }
            let heard = place.live.iter().map(|message| self.taps().offer(message)).sum::<usize>();
            let needs_consumer = place.request && heard == 0;
            if place.entries.is_empty() && place.kv.is_none() {
                if needs_consumer {
                    *decided = Some(nobody_listens());
                    continue;
                }
                if !place.dropped {
                    self.counts().unrouted();
                }
                *decided = Some(Receipt::Stored(Stored { index: 0, entries: 0 }));
                continue;
            }
            bytes += place.entries.iter().map(|entry| entry.message.encoded_bytes()).sum::<usize>();
            durability = durability.max(place.durability);
            if let Some(account) = traced.get(&origin) {
                follows.push((records.len(), account.landings()));
            }
            records.push(Publish {
                session: place.session,
                dedup: place.dedup,
                topology: place.revision,
                needs_consumer,
                kv: place.kv,
                entries: place.entries,
            });
        }
        if records.is_empty() {
            return Receipts::new(decided, None).of_versions(versions);
        }
        // Without an answer the receipts say that the node is closing.
        let seen = self.tracing().followed().of_records(follows);
        let stored = self.shard().publish_seen(records, bytes, durability, seen).await.ok();
        Receipts::new(decided, stored).of_versions(versions)
    }
}

/// The broker's own producers are nobody else's: who could be one could make its schedules fire never again.
pub(crate) fn foreign_session(who: &Principal, session: Option<&Session>) -> Option<Rejection> {
    let producer = session?.producer;
    if !producer.is_reserved() || who.is_system() {
        return None;
    }
    let reason = format!("producer {producer} is one of the broker's own; choose an id at random");
    Some(Rejection { code: ErrorCode::Forbidden, stage: None, reason, retry_after_ms: None })
}

fn nobody_listens() -> Receipt {
    let reason = "nobody is listening: nothing is bound to its topic".to_owned();
    Receipt::Rejected(Rejection { code: ErrorCode::NoListener, stage: None, reason, retry_after_ms: None })
}

/// What makes a second message a duplicate: the topic and the id that its publisher gave it.
fn dedup_key(message: &Message) -> Option<u128> {
    let id = message.message_id.as_ref()?;
    let mut bytes = Vec::with_capacity(message.topic.as_str().len() + 1 + id.len());
    bytes.extend_from_slice(message.topic.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(id.as_bytes());
    Some(xxh3_128(&bytes))
}
