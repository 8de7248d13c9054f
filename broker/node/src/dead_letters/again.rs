//! Dead letters on their way again: each from where it died, through what is in force now.
//!
//! What a consumer, a limit or time gave up goes back to the queue where it died, as it is. What a pipeline gave up
//! before any consumer saw it goes through pipelines and bindings like every message, as the broker's own publish; what
//! becomes of it and the end of the letter are one record ([`wharf_queue::Resolve`]). Is it refused on its way, it stays.

use tokio::sync::oneshot;
use wharf_protocol::{ErrorCode, Message, MessageId, PipelineVersion, QueueName, Receipt, Rejection, Stored};
use wharf_queue::{DeadLetter, Entry, Publish, Redrive, Resolve, Selection, is_stale_rejection};
use wharf_shard::{Changed, ShardError};

use super::letters_read_at_once;
use crate::journey::{Entrance, Journey, Place, Traveller};
use crate::memories::Turn;
use crate::trace::Wishes;
use crate::{Node, Principal, Receipts, deliver_at, kv};

/// Of so many letters it is told what became of each.
pub const LETTERS_TOLD_MAX: usize = 1_000;

/// What became of dead letters that were to go on their way again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Where they were to go.
    pub moved: u64,
    /// A pipeline gave them up once more: dead letters again, with their past.
    pub died_again: u64,
    /// Still there: refused on their way, held by a consumer, or their queue is gone or full.
    pub kept: u64,
    /// Still there because they were redriven often enough.
    pub looping: u64,
    /// What became of those that went through pipelines, and of those that stay for a reason of their own; the first
    /// [`LETTERS_TOLD_MAX`].
    pub told: Vec<LetterTold>,
}

/// What became of one dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterTold {
    /// Its id.
    pub id: MessageId,
    /// What became of it.
    pub fate: LetterFate,
}

/// What became of a dead letter on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterFate {
    /// It ended, and what it became is stored.
    WentOn {
        /// Where; no messages when its pipelines dropped it.
        became: Stored,
        /// The versions of the pipelines that it passed.
        versions: Vec<PipelineVersion>,
        /// The stage, as `pipeline/stage`, that gave it up once more, and why.
        died_again: Option<(String, String)>,
    },
    /// It lies where it lay, and why.
    Stays(Rejection),
}

/// How dead letters are to go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// All to this queue, as they are; `None`: each from where it died.
    pub(crate) to: Option<QueueName>,
    /// Those that were redriven as often before stay.
    pub(crate) redriven_max: Option<u32>,
}

/// A letter that goes through pipelines.
struct Going {
    letter: DeadLetter,
    entrance: Entrance,
    message: Message,
}

impl Redriven {
    /// Adds what became of others.
    pub(crate) fn add(&mut self, other: Self) {
        self.moved += other.moved;
        self.died_again += other.died_again;
        self.kept += other.kept;
        self.looping += other.looping;
        let room = LETTERS_TOLD_MAX.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
    }

    fn note(&mut self, id: MessageId, fate: LetterFate) {
        match &fate {
            LetterFate::WentOn { died_again: Some(_), .. } => self.died_again += 1,
            LetterFate::WentOn { .. } => self.moved += 1,
            LetterFate::Stays(_) => self.kept += 1,
        }
        if self.told.len() < LETTERS_TOLD_MAX {
            self.told.push(LetterTold { id, fate });
        }
    }
}

impl Node {
    /// Sends dead letters of one queue on their way again, in order.
    pub(crate) async fn send_again(
        &self,
        who: &Principal,
        queue: &QueueName,
        letters: Vec<DeadLetter>,
        order: &Order,
    ) -> Result<Redriven, ShardError> {
        let mut redriven = Redriven::default();
        let topology = self.shard().topology().clone();
        let (mut as_they_are, mut through) = (Vec::new(), Vec::new());
        for letter in letters {
            let entrance = Entrance::of(&letter.death, &topology).filter(|_| order.to.is_none());
            match entrance {
                _ if order.redriven_max.is_some_and(|max| letter.past.redriven >= max) => {
                    redriven.looping += 1;
                }
                Some(entrance) => through.push((letter, entrance)),
                None => as_they_are.push(letter.offset),
            }
        }
        if !as_they_are.is_empty() {
            let (select, to) = (Selection::At(as_they_are), order.to.clone());
            let record = Redrive { queue: queue.clone(), select, to, redriven_max: order.redriven_max };
            let Changed { messages, kept, .. } = self.shard().redrive(record).await?;
            redriven.moved += messages;
            redriven.kept += kept;
        }
        let mut rest = through.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(letters_read_at_once(rest.iter().map(|(letter, _)| letter)));
            rest = later;
            for (id, fate) in self.go_again(who, queue, now).await? {
                redriven.note(id, fate);
            }
        }
        Ok(redriven)
    }

    /// Sends letters through pipelines: what became of each.
    async fn go_again(
        &self,
        who: &Principal,
        queue: &QueueName,
        letters: &[(DeadLetter, Entrance)],
    ) -> Result<Vec<(MessageId, LetterFate)>, ShardError> {
        let (mut going, mut fates) = (Vec::with_capacity(letters.len()), Vec::new());
        let messages = self.read_letters(letters.iter().map(|(letter, _)| letter.id).collect()).await?;
        for ((letter, entrance), message) in letters.iter().cloned().zip(messages) {
            match message {
                Some(message) => going.push(Going { letter, entrance, message }),
                None => fates.push((letter.id, LetterFate::Stays(settled_meanwhile(letter.id)))),
            }
        }
        let ids: Vec<MessageId> = going.iter().map(|each| each.letter.id).collect();
        let mut told = Vec::with_capacity(going.len());
        if self.meets_a_memory(going.iter().map(|each| &each.message)) {
            for one in &going {
                told.push(self.go_remembering(who, queue, one).await?);
            }
        } else {
            told = self.travel_again(who, queue, &going, None).await?;
        }
        fates.extend(ids.into_iter().zip(told));
        Ok(fates)
    }

    /// Sends a letter through pipelines of which one may remember: nothing else is under way meanwhile.
    async fn go_remembering(
        &self,
        who: &Principal,
        queue: &QueueName,
        one: &Going,
    ) -> Result<LetterFate, ShardError> {
        let turn = self.turn_for(std::iter::once(&one.message)).await;
        for _ in 0..kv::TRIES_MAX {
            self.memories().all_arrived().await;
            let one = std::slice::from_ref(one);
            let fate = self.travel_again(who, queue, one, Some(turn.again())).await?.pop();
            match fate {
                Some(LetterFate::Stays(rejection)) if is_stale_rejection(&rejection) => {}
                Some(fate) => return Ok(fate),
                None => break,
            }
        }
        Ok(LetterFate::Stays(kv::restless()))
    }

    /// Takes letters through pipelines and bindings, and stores what becomes of each in the record that ends it.
    async fn travel_again(
        &self,
        who: &Principal,
        queue: &QueueName,
        going: &[Going],
        turn: Option<Turn>,
    ) -> Result<Vec<LetterFate>, ShardError> {
        let mut journey = Journey::new(who, self.shard().topology().clone(), going.len());
        if let Some(turn) = turn {
            journey.take_turn(turn);
        }
        let admitted = self.readmit(&mut journey, going);
        self.travel(&mut journey, admitted).await;

        let traced = journey.close_accounts();
        let versions = journey.take_versions();
        // The pipelines stay at their versions until all of it has its place in the order of the log.
        let (decided, places, entered) = journey.finish();
        let mut sent = Vec::with_capacity(going.len());
        for ((((origin, Going { letter, entrance, .. }), place), decided), versions) in
            going.iter().enumerate().zip(places).zip(decided).zip(versions)
        {
            sent.push(match arrived(decided, place, entrance) {
                Err(rejection) => Err(rejection),
                Ok(place) => {
                    for message in &place.live {
                        self.taps().offer(message);
                    }
                    let died_again = place.entries.iter().find_map(died);
                    let publish = Publish {
                        topology: place.revision,
                        kv: place.kv,
                        entries: place.entries,
                        ..Publish::default()
                    };
                    let DeadLetter { offset, id, .. } = *letter;
                    let resolve = Resolve { queue: queue.clone(), offset, id, becomes: Some(publish) };
                    let account = traced.get(&origin);
                    let seen = account.map(|account| self.tracing().followed().of_letter(account.landings()));
                    Ok((self.shard().resolve(resolve, seen).await?, versions, died_again))
                }
            });
        }
        drop(entered);

        let (mut fates, mut receipts) = (Vec::with_capacity(sent.len()), Vec::with_capacity(sent.len()));
        for each in sent {
            let fate = match each {
                Err(rejection) => LetterFate::Stays(rejection),
                Ok((answer, versions, died_again)) => match self.resolved(answer).await? {
                    Err(rejection) => LetterFate::Stays(rejection),
                    Ok(became) => LetterFate::WentOn { became, versions, died_again },
                },
            };
            receipts.push(Some(match &fate {
                LetterFate::WentOn { became, .. } => Receipt::Stored(*became),
                LetterFate::Stays(rejection) => Receipt::Rejected(rejection.clone()),
            }));
            fates.push(fate);
        }
        if !traced.is_empty() {
            self.tracing().with_receipts(traced, Receipts::new(receipts, None)).await;
        }
        Ok(fates)
    }

    /// The letters as messages that come in again: whoever may send them may publish them, and what they were counted
    /// as before is forgotten. Their time to live is over; of their delay, what is left holds.
    fn readmit(&self, journey: &mut Journey, going: &[Going]) -> Vec<Traveller> {
        let alarm = self.alarms().raised();
        let mut travellers = Vec::with_capacity(going.len());
        for (origin, Going { letter, entrance, message }) in going.iter().enumerate() {
            let mut message = message.clone();
            message.ttl = None;
            let left = message.delay.map(|delay| letter.death.first_at.after(delay).since(journey.now()));
            message.delay = left.filter(|left| !left.is_zero());
            let wishes = Wishes::of(&message.headers);
            if let Some(why) = self.tracing().wanted(&wishes, journey.now()) {
                journey.begin_account(origin, why, &message);
            }
            let objection = self.objection(&Principal::system(), &message, alarm.as_deref()).or_else(|| {
                deliver_at::hold_back(&mut message.delay, wishes.deliver_at, journey.now()).err()
            });
            journey.identify(None, None, false);
            match objection {
                Some(rejection) => journey.reject(origin, rejection),
                None => travellers.push(Traveller::again(origin, message, entrance.clone(), journey)),
            }
        }
        journey.tell_versions();
        travellers
    }

    /// What the shard says to the end of a letter: where what it became is stored, or why it stays.
    async fn resolved(
        &self,
        answer: oneshot::Receiver<Result<Changed, ShardError>>,
    ) -> Result<Result<Stored, Rejection>, ShardError> {
        match answer.await.map_err(|_| self.shard().gone())? {
            Ok(changed) => Ok(Ok(changed.became.unwrap_or(Stored { index: 0, entries: 0 }))),
            Err(error @ ShardError::Stopped(_)) => Err(error),
            Err(error) => Ok(Err(rejection(error.code(), error.to_string()))),
        }
    }
}

/// What a letter led to: unless it was refused, or nothing takes it any more.
fn arrived(decided: Option<Receipt>, place: Place, entrance: &Entrance) -> Result<Place, Rejection> {
    if let Some(Receipt::Rejected(rejection)) = decided {
        return Err(rejection);
    }
    if place.entries.is_empty() && !place.dropped {
        let reason = match entrance {
            Entrance::Ingress(_) => "nothing is bound to its topic any more",
            Entrance::Bindings(_) => "no binding takes its topic to that queue any more",
        };
        return Err(rejection(ErrorCode::NotFound, format!("{reason}; bind it, or name a queue for it")));
    }
    Ok(place)
}

/// The stage that gave a message up, and why.
fn died(entry: &Entry) -> Option<(String, String)> {
    let death = entry.destinations.iter().find_map(|to| to.death.as_deref())?;
    Some((death.stage.clone().unwrap_or_default(), death.reason.clone()))
}

pub(super) fn settled_meanwhile(id: MessageId) -> Rejection {
    rejection(ErrorCode::NotFound, format!("dead letter {id} was settled meanwhile"))
}

fn rejection(code: ErrorCode, reason: String) -> Rejection {
    Rejection { code, stage: None, reason, retry_after_ms: None }
}
