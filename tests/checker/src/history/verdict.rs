//! The judge: linear passes over a history, one for each promise.
//!
//! | promise | broken when |
//! |---|---|
//! | lost | confirmed, and neither delivered and settled, nor dead-lettered, nor excused |
//! | phantom | delivered, and never published, or refused, or not whole |
//! | duplicated | one publish lies in a queue as two messages |
//! | reordered | two messages of a publisher and key lie in a queue the wrong way round, or a consumer got first deliveries against their order |
//! | unmarked | delivered again without being marked, or one attempt delivered twice |
//! | resurrected | delivered at a later attempt than the one whose settlement was confirmed; of a stream: to the member that had settled it, or to one that came later |
//! | settled twice | two settlements of one message were confirmed |
//! | split | of a batch, some messages are there and some are not |
//! | torn | the input of a transaction came again although its output is there, or neither is there |
//! | repeated | delivered twice by a queue whose consumers settle on delivery |

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Place, Promises, Queue};
use crate::label::Label;
use crate::report::{Answer, Violation};

impl History {
    /// Every promise that this history shows to be broken. It ends with all queues drained.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.phantoms(&mut found);
        self.lost(&mut found);
        self.owed(&mut found);
        self.duplicated(&mut found);
        self.reordered(&mut found);
        self.unmarked(&mut found);
        self.resurrected(&mut found);
        self.torn(&mut found);
        self.settled_twice(&mut found);
        self.split(&mut found);
        found
    }

    fn promises(&self, queue: Queue) -> Promises {
        self.promises.get(queue).copied().unwrap_or_default()
    }

    fn phantoms(&self, found: &mut Vec<Violation>) {
        for seen in &self.deliveries {
            let known = seen.label.and_then(|label| self.publications.get(&label));
            let origin = seen.died_in.as_deref().unwrap_or(seen.queue);
            let why = match (seen.label, known) {
                (None, _) => "its payload is nobody's, or not whole".to_owned(),
                (Some(label), None) => format!("{label} was never published"),
                (Some(label), Some(known)) if known.answer == Answer::Failed => {
                    format!("{label} was refused")
                }
                (Some(label), Some(known)) if !known.queues.contains(&origin) => {
                    format!("{label} was published to {:?}", known.queues)
                }
                _ => continue,
            };
            found.push(Violation::new("phantom", format!("{} from {}: {why}", seen.id, seen.queue)));
        }
    }

    fn lost(&self, found: &mut Vec<Violation>) {
        let mut ended: BTreeSet<(&str, Label)> = BTreeSet::new();
        for place in self.done.keys().chain(&self.perhaps_done) {
            ended.extend(place.label.map(|label| (place.queue, label)));
        }
        for seen in &self.deliveries {
            let Some(label) = seen.label else { continue };
            if let Some(origin) = &seen.died_in {
                ended.insert((origin, label));
            }
            if self.promises(seen.queue).at_most_once {
                ended.insert((seen.queue, label));
            }
        }
        for (label, publication) in &self.publications {
            for queue in &publication.queues {
                let accounted = ended.contains(&(*queue, *label)) || self.excused.contains(&(*queue, *label));
                if publication.answer == Answer::Ok && !accounted {
                    found.push(Violation::new("lost", format!("{label} from {queue}")));
                }
            }
        }
    }

    fn owed(&self, found: &mut Vec<Violation>) {
        let came: BTreeSet<_> = self.deliveries.iter().map(|seen| seen.id).collect();
        for (queue, label, id) in &self.owed {
            let excused = self.promises(queue).at_most_once || self.excused.contains(&(*queue, *label));
            if !came.contains(id) && !excused {
                let what = format!("{label} of {queue}, which a dead letter became as {id}");
                found.push(Violation::new("lost", what));
            }
        }
    }

    fn duplicated(&self, found: &mut Vec<Violation>) {
        let mut ids = BTreeMap::new();
        for seen in &self.deliveries {
            let Some(label) = seen.label else { continue };
            let boot = if self.promises(seen.queue).survives_power { 0 } else { seen.boot };
            let copy = (seen.queue, seen.died_in.as_deref(), label, boot);
            let ids: &mut BTreeSet<_> = ids.entry(copy).or_default();
            let reborn = self.reborn.get(&label).map_or(0, |times| *times as usize);
            if ids.insert(seen.id) && ids.len() > 1 + reborn {
                let what = format!("{label} in {} as {ids:?}, reborn {reborn} times", seen.queue);
                found.push(Violation::new("duplicated", what));
            }
        }
    }

    fn reordered(&self, found: &mut Vec<Violation>) {
        // Where each message first lay, by the order of its publisher and key.
        let mut places: BTreeMap<(Queue, u32, u64, u32), BTreeMap<u64, u64>> = BTreeMap::new();
        let mut newest: BTreeMap<(Queue, u32, u32), u64> = BTreeMap::new();
        for seen in &self.deliveries {
            let promises = self.promises(seen.queue);
            let ordered = |label: &Label| self.publications.get(label).is_some_and(|known| known.ordered);
            // What comes again may have been dead-lettered and sent on its way anew, at the end.
            let first = seen.attempt == 1 && seen.died_in.is_none();
            if let Some(label) = seen.label.filter(ordered).filter(|_| first) {
                let boot = if promises.survives_power { 0 } else { seen.boot };
                let run = places.entry((seen.queue, label.producer, label.key(), boot)).or_default();
                let offset = run.entry(label.number).or_insert(seen.offset);
                *offset = seen.offset.min(*offset);
            }
            if promises.fifo && first {
                let newest = newest.entry((seen.queue, seen.consumer, seen.boot)).or_insert(seen.offset);
                if seen.offset < *newest {
                    let what = format!("{}: {} came after offset {newest}", seen.queue, seen.offset);
                    found.push(Violation::new("reordered", what));
                }
                *newest = seen.offset;
            }
        }
        for ((queue, producer, ..), run) in places {
            let mut before = None;
            for (number, offset) in run {
                if let Some((earlier, at)) = before.filter(|(_, at)| *at >= offset) {
                    let what = format!("{queue}: {producer}/{earlier} lies at {at}, {number} at {offset}");
                    found.push(Violation::new("reordered", what));
                }
                before = Some((number, offset));
            }
        }
    }

    fn unmarked(&self, found: &mut Vec<Violation>) {
        let mut attempts: BTreeSet<(Place, u32, u32)> = BTreeSet::new();
        let mut once: BTreeSet<Place> = BTreeSet::new();
        for seen in &self.deliveries {
            let what = || format!("{} from {} at attempt {}", seen.id, seen.queue, seen.attempt);
            if seen.redelivered != (seen.attempt > 1) {
                found.push(Violation::new("unmarked", format!("{}: marked {}", what(), seen.redelivered)));
            }
            // Members that follow each other both begin again where the last one may have been.
            let counted = !self.promises(seen.queue).stream || !seen.redelivered;
            if counted && !attempts.insert((seen.place(), seen.boot, seen.attempt)) {
                found.push(Violation::new("unmarked", format!("{} came twice", what())));
            }
            if self.promises(seen.queue).at_most_once && !once.insert(seen.place()) {
                found.push(Violation::new("repeated", format!("{}, settled on delivery", what())));
            }
        }
    }

    fn resurrected(&self, found: &mut Vec<Violation>) {
        for (number, seen) in self.deliveries.iter().enumerate() {
            let Some(done) = self.done.get(&seen.place()) else { continue };
            let again = if self.promises(seen.queue).stream {
                // One that was on its way to another member may come late; its settlement is refused.
                let joined = self.joined.get(&seen.consumer).copied().unwrap_or(0);
                number >= done.after && (seen.consumer == done.consumer || joined >= done.after)
            } else {
                (seen.boot, seen.attempt) > (done.boot, done.attempt)
            };
            if again {
                let what = format!(
                    "{} from {} at attempt {} (boot {}), settled at {} (boot {})",
                    seen.id, seen.queue, seen.attempt, seen.boot, done.attempt, done.boot
                );
                found.push(Violation::new("resurrected", what));
            }
        }
    }

    fn settled_twice(&self, found: &mut Vec<Violation>) {
        for place in &self.done_twice {
            let what = format!("offset {} of {}, {:?}", place.offset, place.queue, place.label);
            found.push(Violation::new("settled twice", what));
        }
    }

    fn split(&self, found: &mut Vec<Violation>) {
        let there: BTreeSet<Label> = self.deliveries.iter().filter_map(|seen| seen.label).collect();
        for batch in &self.batches {
            let (whole, missing): (Vec<&Label>, Vec<&Label>) =
                batch.iter().partition(|label| there.contains(label));
            if let (Some(one), Some(other)) = (whole.first(), missing.first()) {
                let what = format!("of a batch of {}, {one} is there, {other} is not", batch.len());
                found.push(Violation::new("split", what));
            }
        }
    }

    fn torn(&self, found: &mut Vec<Violation>) {
        let mut newest: BTreeMap<(Queue, Label), (u32, u32)> = BTreeMap::new();
        let mut there: BTreeSet<Label> = BTreeSet::new();
        for seen in &self.deliveries {
            let Some(label) = seen.label else { continue };
            there.insert(label);
            let origin = match &seen.died_in {
                Some(died_in) => self.promises.keys().copied().find(|queue| *queue == died_in.as_str()),
                None => Some(seen.queue),
            };
            if let Some(origin) = origin {
                let newest = newest.entry((origin, label)).or_default();
                *newest = (seen.boot, seen.attempt).max(*newest);
            }
        }
        for (input, output) in &self.pairs {
            let Some(label) = input.label else { continue };
            let answer = self.publications.get(output).map(|known| known.answer);
            let stream = self.promises(input.queue).stream;
            // A stream's attempts do not tell whether its message came again; `resurrected` does, once it is known.
            if answer == Some(Answer::Failed) || (stream && answer != Some(Answer::Ok)) {
                continue;
            }
            let again = !stream && newest.get(&(input.queue, label)) > Some(&(input.boot, input.attempt));
            if again == there.contains(output) {
                let what = format!("{label} came again: {again}; {output} is there: {again}");
                found.push(Violation::new("torn", what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::MessageId;

    use super::super::Seen;
    use super::*;

    const A: Label = Label { producer: 1, number: 8 };
    const B: Label = Label { producer: 1, number: 16 };

    fn history() -> History {
        let once = Promises { at_most_once: true, ..Promises::default() };
        let mut history = History::new([("work", Promises::default()), ("once", once)]);
        for label in [A, B] {
            history.publishing(label, &["work"], true);
            history.published(label, Answer::Ok);
        }
        history
    }

    fn seen(label: Label, index: u64, offset: u64, attempt: u32) -> Seen {
        Seen {
            queue: "work",
            consumer: 1,
            boot: 0,
            label: Some(label),
            id: MessageId { index, entry: 0 },
            offset,
            attempt,
            redelivered: attempt > 1,
            died_in: None,
        }
    }

    fn ack(history: &mut History, seen: Seen) {
        history.delivered(seen.clone());
        history.settled_for_good(&seen, Answer::Ok);
    }

    #[track_caller]
    fn assert_found(history: &History, promise: &str) {
        let promises: Vec<_> = history.violations().into_iter().map(|violation| violation.promise).collect();
        assert_eq!(promises, [promise]);
    }

    #[test]
    fn a_history_in_good_order_breaks_nothing() {
        let mut history = history();
        history.delivered(seen(A, 5, 0, 1));
        ack(&mut history, seen(A, 5, 0, 2));
        ack(&mut history, seen(B, 6, 1, 1));
        assert_eq!(history.violations(), []);
        assert_eq!((history.confirmed(), history.deliveries()), (2, (3, 1)));
    }

    #[test]
    fn what_was_confirmed_and_never_settled_is_lost() {
        let mut history = history();
        ack(&mut history, seen(A, 5, 0, 1));
        history.delivered(seen(B, 6, 1, 1));
        assert_found(&history, "lost");
        history.excuse("work", B);
        assert_eq!(history.violations(), []);
    }

    #[test]
    fn what_was_not_published_or_was_refused_is_a_phantom() {
        let mut history = history();
        ack(&mut history, seen(A, 5, 0, 1));
        ack(&mut history, seen(B, 6, 1, 1));
        let mut harmed = seen(A, 7, 2, 1);
        harmed.label = None;
        history.delivered(harmed);
        assert_found(&history, "phantom");

        let mut history = self::history();
        ack(&mut history, seen(A, 5, 0, 1));
        ack(&mut history, seen(B, 6, 1, 1));
        let refused = Label { producer: 2, number: 1 };
        history.publishing(refused, &["work"], false);
        history.refused(refused);
        ack(&mut history, seen(refused, 9, 3, 1));
        assert_found(&history, "phantom");
    }

    #[test]
    fn one_publish_stored_twice_is_duplicated() {
        let mut history = history();
        ack(&mut history, seen(A, 5, 0, 1));
        ack(&mut history, seen(B, 6, 1, 1));
        ack(&mut history, seen(B, 7, 2, 1));
        assert_found(&history, "duplicated");
    }

    #[test]
    fn a_letter_that_ended_is_not_there_and_what_it_became_is_there_once() {
        let letter = Seen { queue: "dead", died_in: Some("work".into()), ..seen(B, 6, 0, 0) };
        let resolved = || {
            let mut history = history();
            ack(&mut history, seen(A, 5, 0, 1));
            history.delivered(seen(B, 6, 1, 1));
            history.resolved(&letter, None, Answer::Ok);
            history
        };
        assert_found(&resolved(), "lost");
        let mut history = resolved();
        ack(&mut history, seen(B, 9, 2, 2));
        assert_eq!(history.violations(), []);
        ack(&mut history, seen(B, 11, 3, 2));
        assert_found(&history, "duplicated");

        let mut history = resolved();
        ack(&mut history, seen(B, 9, 2, 2));
        history.delivered(Seen { attempt: 1, ..letter.clone() });
        assert_found(&history, "resurrected");

        let mut history = resolved();
        ack(&mut history, seen(B, 9, 2, 2));
        history.owes("work", B, MessageId { index: 12, entry: 0 });
        assert_found(&history, "lost");

        let mut history = self::history();
        ack(&mut history, seen(A, 5, 0, 1));
        history.resolved(&letter, Some("work"), Answer::Ok);
        assert_eq!(history.violations(), []);
    }

    #[test]
    fn a_key_whose_messages_lie_the_wrong_way_round_is_reordered() {
        let mut history = history();
        ack(&mut history, seen(B, 5, 0, 1));
        ack(&mut history, seen(A, 6, 1, 1));
        assert_found(&history, "reordered");
    }

    #[test]
    fn a_delivery_against_the_order_of_offsets_is_reordered() {
        let mut history = history();
        ack(&mut history, seen(B, 6, 1, 1));
        ack(&mut history, seen(A, 5, 0, 1));
        assert_found(&history, "reordered");
    }

    #[test]
    fn a_second_delivery_without_a_mark_is_found() {
        let mut history = history();
        history.delivered(seen(A, 5, 0, 1));
        ack(&mut history, seen(A, 5, 0, 1));
        ack(&mut history, seen(B, 6, 1, 1));
        assert_found(&history, "unmarked");
    }

    #[test]
    fn a_delivery_after_its_confirmed_ack_is_resurrected() {
        let mut history = history();
        ack(&mut history, seen(A, 5, 0, 1));
        ack(&mut history, seen(B, 6, 1, 1));
        history.delivered(seen(B, 6, 1, 2));
        assert_found(&history, "resurrected");
    }

    #[test]
    fn a_transaction_of_which_one_half_happened_is_torn() {
        let output = Label { producer: 9, number: 1 };
        let unknown = |outputs: &[Seen], inputs: &[Seen]| {
            let mut history = history();
            history.delivered(seen(A, 5, 0, 1));
            ack(&mut history, seen(B, 6, 1, 1));
            history.transacting(&seen(A, 5, 0, 1), output);
            history.publishing(output, &["work"], false);
            history.settled_for_good(&seen(A, 5, 0, 1), Answer::Unknown);
            history.published(output, Answer::Unknown);
            outputs.iter().chain(inputs).for_each(|seen| ack(&mut history, seen.clone()));
            history
        };
        let (made, again) = ([seen(output, 7, 2, 1)], [seen(A, 5, 0, 2)]);
        assert_eq!(unknown(&made, &[]).violations(), []);
        assert_eq!(unknown(&[], &again).violations(), []);
        assert_found(&unknown(&made, &again), "torn");
        assert_found(&unknown(&[], &[]), "torn");
    }

    #[test]
    fn a_batch_of_which_a_part_is_there_is_split() {
        let mut history = history();
        history.batch(vec![A, B]);
        ack(&mut history, seen(A, 5, 0, 1));
        history.excuse("work", B);
        assert_found(&history, "split");
    }

    /// Of a partition of a stream: late deliveries of the member before are no violation, later members' are.
    #[test]
    fn a_groups_member_gets_nothing_that_was_settled_before_it_came() {
        let of = |consumer, redelivered| {
            let attempt = 1 + u32::from(redelivered);
            Seen { queue: "log", consumer, redelivered, ..seen(A, 5, 0, attempt) }
        };
        let history = |last: Seen| {
            let stream = Promises { stream: true, ..Promises::default() };
            let mut history = History::new([("log", stream)]);
            history.publishing(A, &["log"], true);
            history.published(A, Answer::Ok);
            history.joins(1);
            history.joins(2);
            ack(&mut history, of(1, false));
            history.joins(3);
            history.delivered(last);
            history
        };
        assert_eq!(history(of(2, true)).violations(), [], "it was on its way when the other took over");
        assert_found(&history(of(1, true)), "resurrected");
        assert_found(&history(of(3, true)), "resurrected");
        assert_found(&history(of(2, false)), "unmarked");

        let mut twice = history(of(2, true));
        twice.settled_for_good(&of(2, true), Answer::Ok);
        assert_found(&twice, "settled twice");
    }

    #[test]
    fn two_deliveries_at_most_once_are_one_too_many() {
        let mut history = history();
        ack(&mut history, seen(A, 5, 0, 1));
        ack(&mut history, seen(B, 6, 1, 1));
        let label = Label { producer: 3, number: 1 };
        history.publishing(label, &["once"], true);
        history.published(label, Answer::Ok);
        for boot in 0..2 {
            history.delivered(Seen { queue: "once", boot, ..seen(label, 9, 0, 1) });
        }
        assert_found(&history, "repeated");
    }
}
