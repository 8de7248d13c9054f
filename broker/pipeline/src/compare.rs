//! How the outcomes of two versions of a pipeline for the same message differ.
//!
//! Pure: two [`Processed`] in, what differs out. Each difference belongs to a [`Class`], by which a [`Comparison`]
//! counts over many messages and keeps a few examples: "in 12 of 500 messages `$.total` is another" is what a
//! person can decide by.

mod difference;
mod json;
mod times;
mod totals;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use difference::{
    Aspect, Class, DIFFERENCES_MAX, DIFFERENT_CLASSES_MAX, Difference, Differences, differences, verdict,
};
pub use times::Times;
pub use totals::Totals;

use crate::Processed;

/// How many classes a [`Comparison`] tells apart; what falls into others is only counted.
pub const CLASSES_MAX: usize = 128;

/// Many messages, counted by how their outcomes differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Messages that ran through both versions.
    pub compared: u64,
    /// Those of them whose outcomes differ.
    pub different: u64,
    /// What differs, in how many messages.
    pub classes: Vec<Found>,
    /// Differences of classes beyond the first [`CLASSES_MAX`], or beyond the first so many of one message.
    pub beyond: u64,
    /// What became of the messages in the version in use: where both refuse all of them, they are the same.
    #[serde(default)]
    pub live_totals: Totals,
    /// What became of them in the candidate.
    #[serde(default)]
    pub candidate_totals: Totals,
    /// How long messages waited for the version in use.
    pub live_times: Times,
    /// How long they waited for the candidate.
    pub candidate_times: Times,
}

/// A class of differences that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The class.
    pub class: Class,
    /// In how many messages.
    pub messages: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// One message in which something differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// By what the message is known.
    pub message: String,
    /// Where exactly.
    pub at: String,
    /// What the version in use has there.
    pub live: String,
    /// What the candidate has there.
    pub candidate: String,
}

/// What one version made of one message, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The outcome.
    pub processed: Processed,
    /// How long the message waited for it: as long as its whole batch took.
    pub took: Duration,
    /// Its share of that time, which is what it cost.
    pub share: Duration,
}

impl Ran {
    /// What became of each message of a batch that took so long.
    pub fn each_of(processed: Vec<Processed>, took: Duration) -> impl Iterator<Item = Self> {
        let share = took / u32::try_from(processed.len().max(1)).unwrap_or(u32::MAX);
        processed.into_iter().map(move |processed| Self { processed, took, share })
    }
}

impl Comparison {
    /// Counts one message, which `name` names. At most `examples_max` examples a class are kept. Whether its
    /// outcomes differ.
    pub fn add(
        &mut self,
        name: impl Fn() -> String,
        live: &Ran,
        candidate: &Ran,
        examples_max: usize,
    ) -> bool {
        self.compared += 1;
        self.live_totals.add(&live.processed);
        self.candidate_totals.add(&candidate.processed);
        self.live_times.add(live.took, live.share);
        self.candidate_times.add(candidate.took, candidate.share);
        let differences = differences(&live.processed, &candidate.processed);
        if differences.found.is_empty() {
            return false;
        }
        self.different += 1;
        self.beyond += differences.classes_cut;
        let mut counted = BTreeSet::new();
        for Difference { class, at, live, candidate } in differences.found {
            if !counted.insert(class.clone()) {
                continue;
            }
            let found = match self.classes.binary_search_by(|found| found.class.cmp(&class)) {
                Ok(found) => found,
                Err(_) if self.classes.len() >= CLASSES_MAX => {
                    self.beyond += 1;
                    continue;
                }
                Err(place) => {
                    self.classes.insert(place, Found { class, messages: 0, examples: Vec::new() });
                    place
                }
            };
            let found = &mut self.classes[found];
            found.messages += 1;
            if found.examples.len() < examples_max {
                found.examples.push(Example { message: name(), at, live, candidate });
            }
        }
        true
    }

    /// Messages whose outcomes are the same.
    pub fn same(&self) -> u64 {
        self.compared - self.different
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::Message;

    use super::*;
    use crate::Output;

    fn message(payload: &str) -> Message {
        Message::new("orders".parse().expect("a topic"), payload.to_owned())
    }

    fn passed(payloads: &[&str]) -> Processed {
        Processed::Passed(payloads.iter().map(|each| Output { message: message(each), to: None }).collect())
    }

    #[test]
    fn a_comparison_counts_messages_by_class_and_keeps_the_first_examples() {
        let mut comparison = Comparison::default();
        let ran = |processed, ms| {
            let took = Duration::from_millis(ms);
            Ran { processed, took, share: took }
        };
        for n in 0..10 {
            let payload = format!("{{\"n\":{n},\"list\":[{n},{n}]}}");
            let candidate = if n < 4 { "{\"n\":99,\"list\":[77,77]}" } else { payload.as_str() };
            let (live, candidate) = (ran(passed(&[&payload]), 1), ran(passed(&[candidate]), n));
            assert_eq!(comparison.add(|| format!("m{n}"), &live, &candidate, 2), n < 4);
        }
        assert_eq!((comparison.compared, comparison.same(), comparison.different), (10, 6, 4));
        let counted: Vec<_> =
            comparison.classes.iter().map(|found| (found.class.to_string(), found.messages)).collect();
        let expected = [("payload $.list[*]".to_owned(), 4), ("payload $.n".to_owned(), 4)];
        assert_eq!(counted, expected, "both elements of a list are one difference of a message");
        let examples: Vec<_> =
            comparison.classes[1].examples.iter().map(|each| each.message.as_str()).collect();
        assert_eq!(examples, ["m0", "m1"]);
        assert!((1_000..=1_024).contains(&comparison.live_times.percentile_us(99)));
        assert!((9_000..=12_288).contains(&comparison.candidate_times.percentile_us(99)));
    }

    #[test]
    fn a_message_waits_as_long_as_its_whole_batch_and_costs_its_share() {
        let batch: Vec<_> = (0..32).map(|_| passed(&["x"])).collect();
        let ran: Vec<_> = Ran::each_of(batch, Duration::from_millis(64)).collect();
        let mut comparison = Comparison::default();
        ran.iter().for_each(|ran| {
            comparison.add(String::new, ran, ran, 1);
        });
        let times = &comparison.live_times;
        assert!(times.percentile_us(50) >= 64_000, "{}", times.percentile_us(50));
        assert_eq!(times.total_us(), 64_000, "all of them cost what the batch took");
    }

    #[test]
    fn what_is_told_of_all_messages_is_bounded() {
        let object = |value: u32, first: u32| {
            let fields: Vec<String> = (first..first + 200).map(|n| format!("\"f{n}\":{value}")).collect();
            passed(&[&format!("{{{}}}", fields.join(","))])
        };
        let mut comparison = Comparison::default();
        for first in 0..40 {
            let (took, share) = (Duration::ZERO, Duration::ZERO);
            let ran = |value| Ran { processed: object(value, first * 200), took, share };
            comparison.add(|| "m".to_owned(), &ran(1), &ran(2), 1);
        }
        assert_eq!(comparison.classes.len(), CLASSES_MAX);
        assert!(comparison.beyond > 0);
    }
}
