//! What the clients of one run did and saw, for a judge that knows nothing of the broker's insides.
//!
//! Each publish is noted when it is invoked and again when it is answered, each delivery as it came, each
//! settlement with its answer. An operation without an answer is *unknown*: it may have been done or not, and the
//! judge allows both. [`History::violations`] is the judge.

mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::MessageId;

use crate::label::Label;
use crate::report::{Answer, Tally};

/// A queue's name.
pub type Queue = &'static str;

/// What a queue promises, as far as it changes what is a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// What is confirmed survives a power cut.
    pub survives_power: bool,
    /// First deliveries come in the order of offsets: no priorities and delays are used.
    pub fifo: bool,
    /// Its consumers settle on delivery: a message is delivered once or never.
    pub at_most_once: bool,
    /// It is a partition of a stream, as one group or reader sees it: a mark says whether a message may have come
    /// before, and attempts are not counted across members.
    pub stream: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Self { survives_power: true, fifo: true, at_most_once: false, stream: false }
    }
}

/// One delivery, as a consumer got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// From which queue.
    pub queue: Queue,
    /// By which consumer; its deliveries are in order.
    pub consumer: u32,
    /// After how many power cuts: across one, what moved leases alone may be forgotten.
    pub boot: u32,
    /// What its payload says; `None`: it is nobody's, or not whole.
    pub label: Option<Label>,
    /// Where it is stored.
    pub id: MessageId,
    /// Its place in its queue.
    pub offset: u64,
    /// Which delivery of it this is.
    pub attempt: u32,
    /// Whether it was marked as delivered before.
    pub redelivered: bool,
    /// The queue where it died, for a dead letter.
    pub died_in: Option<String>,
}

/// One message of one queue; the label tells apart what took the same place after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) queue: Queue,
    pub(crate) offset: u64,
    pub(crate) label: Option<Label>,
}

impl Seen {
    pub(crate) fn place(&self) -> Place {
        Place { queue: self.queue, offset: self.offset, label: self.label }
    }
}

#[derive(Clone, Debug)]
struct Publication {
    queues: Vec<Queue>,
    answer: Answer,
    /// One publisher sent it in order with its neighbours.
    ordered: bool,
}

/// A delivery that was settled for good, and confirmed.
#[derive(Clone, Copy, Debug)]
struct Done {
    boot: u32,
    attempt: u32,
    consumer: u32,
    /// How many deliveries had been noted when that was confirmed.
    after: usize,
}

/// Everything that happened in one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    promises: BTreeMap<Queue, Promises>,
    publications: BTreeMap<Label, Publication>,
    deliveries: Vec<Seen>,
    done: BTreeMap<Place, Done>,
    /// Settled for good and confirmed, and then once more.
    done_twice: Vec<Place>,
    /// How many deliveries had been noted when a consumer came, where that was told.
    joined: BTreeMap<u32, usize>,
    /// Messages that were published together: all of them are stored, or none.
    batches: Vec<Vec<Label>>,
    /// Settlements for good without an answer.
    perhaps_done: BTreeSet<Place>,
    /// Messages that may end without being delivered: purged, expired, taken by a consumer that crashed.
    excused: BTreeSet<(Queue, Label)>,
    /// How often a message may have become another by the end of its dead letter: each has an id of its own.
    reborn: BTreeMap<Label, u32>,
    /// What confirmed ends of letters became: each has to come, under its id.
    owed: Vec<(Queue, Label, MessageId)>,
    /// Inputs that were acked together with the publish of an output: where, at which attempt, and which output.
    pairs: Vec<(Seen, Label)>,
    tally: Tally,
    /// How operations of a kind ended, for those who tell their kinds.
    kinds: BTreeMap<&'static str, Tally>,
    /// Messages times queues.
    copies: u64,
}

impl History {
    /// A run with these queues.
    pub fn new(queues: impl IntoIterator<Item = (Queue, Promises)>) -> Self {
        Self { promises: queues.into_iter().collect(), ..Self::default() }
    }

    /// A publish begins. `ordered`: one publisher sends it in order with others of its label's producer.
    pub fn publishing(&mut self, label: Label, queues: &[Queue], ordered: bool) {
        let publication = Publication { queues: queues.to_vec(), answer: Answer::Unknown, ordered };
        self.copies += queues.len() as u64;
        self.publications.entry(label).or_insert(publication);
    }

    /// A publish ended; called once for each attempt of it, and confirmed for good when one was confirmed.
    pub fn published(&mut self, label: Label, answer: Answer) {
        self.tally.count(answer);
        let publication = self.publications.get_mut(&label).expect("noted when it began");
        publication.answer = match (publication.answer, answer) {
            (Answer::Ok, _) | (_, Answer::Ok) => Answer::Ok,
            // What was tried before without an answer may be there all the same.
            (Answer::Unknown, Answer::Failed) | (_, Answer::Unknown) => Answer::Unknown,
            (Answer::Failed, Answer::Failed) => Answer::Failed,
        };
    }

    /// A publish was refused at its first try: it is nowhere.
    pub fn refused(&mut self, label: Label) {
        self.tally.count(Answer::Failed);
        self.publications.get_mut(&label).expect("noted when it began").answer = Answer::Failed;
    }

    /// Messages are sent as one batch; each of them is told of as any publish.
    pub fn batch(&mut self, labels: Vec<Label>) {
        self.batches.push(labels);
    }

    /// A consumer comes: it may get nothing of which an ack was confirmed before.
    pub fn joins(&mut self, consumer: u32) {
        self.joined.entry(consumer).or_insert(self.deliveries.len());
    }

    /// A delivery came.
    pub fn delivered(&mut self, seen: Seen) {
        self.deliveries.push(seen);
    }

    /// A message of a stream was read, where it stays: there is nothing to settle.
    pub fn read(&mut self, seen: Seen) {
        self.deliveries.push(seen.clone());
        self.is_done(&seen);
    }

    fn is_done(&mut self, seen: &Seen) -> Option<Done> {
        let Seen { boot, attempt, consumer, .. } = *seen;
        self.done.insert(seen.place(), Done { boot, attempt, consumer, after: self.deliveries.len() })
    }

    /// A delivery was acked, or dead-lettered by its consumer.
    pub fn settled_for_good(&mut self, seen: &Seen, answer: Answer) {
        self.tally.count(answer);
        match answer {
            Answer::Ok => {
                if self.is_done(seen).is_some_and(|before| before.boot == seen.boot) {
                    self.done_twice.push(seen.place());
                }
            }
            Answer::Unknown => {
                self.perhaps_done.insert(seen.place());
            }
            Answer::Failed => {}
        }
    }

    /// A transaction begins that acks `input` and publishes `output`; both are told of as any ack and publish.
    pub fn transacting(&mut self, input: &Seen, output: Label) {
        self.pairs.push((input.clone(), output));
    }

    /// A dead letter was ended: discarded, or its message stored anew in the record that ended it. No attempt of the
    /// letter after `letter` may come.
    pub fn resolved(&mut self, letter: &Seen, discarded_from: Option<Queue>, answer: Answer) {
        self.settled_for_good(letter, answer);
        let Some(label) = letter.label.filter(|_| answer != Answer::Failed) else { return };
        match discarded_from {
            Some(queue) => self.excuse(queue, label),
            None => *self.reborn.entry(label).or_default() += 1,
        }
    }

    /// What became of an ended letter is confirmed to lie in `queue` under this id.
    pub fn owes(&mut self, queue: Queue, label: Label, id: MessageId) {
        self.owed.push((queue, label, id));
    }

    /// An operation that leaves a message where it was: a nack, a change of topology.
    pub fn other(&mut self, answer: Answer) {
        self.tally.count(answer);
    }

    /// A message may end in `queue` without being delivered.
    pub fn excuse(&mut self, queue: Queue, label: Label) {
        self.excused.insert((queue, label));
    }

    /// All that was published to `queue` until now may be gone from it.
    pub fn excuse_all(&mut self, queue: Queue) {
        let labels = self.publications.iter().filter(|(_, publication)| publication.queues.contains(&queue));
        self.excused.extend(labels.map(|(label, _)| (queue, *label)));
    }

    /// How the operations ended.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// An operation of a kind ended: one frame, whatever it holds.
    pub fn of_kind(&mut self, kind: &'static str, answer: Answer) {
        self.kinds.entry(kind).or_default().count(answer);
    }

    /// How operations ended, by kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, Tally)> {
        self.kinds.iter().map(|(kind, tally)| (*kind, *tally))
    }

    /// Whether a message was settled for good, or may have been.
    pub fn may_be_settled(&self, queue: Queue, offset: u64, label: Label) -> bool {
        let place = Place { queue, offset, label: Some(label) };
        self.done.contains_key(&place) || self.perhaps_done.contains(&place)
    }

    /// How many messages that were published are not settled yet, over all queues, at least.
    pub fn unsettled(&self) -> u64 {
        self.copies.saturating_sub((self.done.len() + self.perhaps_done.len()) as u64)
    }

    /// How many messages were published and confirmed.
    pub fn confirmed(&self) -> u64 {
        self.publications.values().filter(|publication| publication.answer == Answer::Ok).count() as u64
    }

    /// How many deliveries were seen, and how many of them were marked as redelivered.
    pub fn deliveries(&self) -> (u64, u64) {
        let again = self.deliveries.iter().filter(|seen| seen.redelivered).count();
        (self.deliveries.len() as u64, again as u64)
    }
}
