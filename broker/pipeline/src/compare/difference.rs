//! In what two outcomes differ, one thing at a time.
//!
//! Payloads that are both JSON are compared as values: the order of keys and white space are no difference, a
//! number written with other digits is one, by all of its digits. All others are compared as bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_protocol::Message;

use super::json::Json;
use crate::{Failure, FailureKind, Output, Processed, Target};

/// How many classes are told of one message, each with its first place.
pub const DIFFERENT_CLASSES_MAX: usize = 128;
/// How many differences are told of one message before further places of their classes are only counted.
pub const DIFFERENCES_MAX: usize = 32;
/// How many bytes of each side a difference shows.
const SHOWN_BYTES_MAX: usize = 160;
/// Larger payloads are compared as bytes.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One thing in which two outcomes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What kind of thing.
    pub class: Class,
    /// Where exactly: of JSON, the path with the numbers of elements. Empty where the class says it all.
    pub at: String,
    /// What the version in use has there.
    pub live: String,
    /// What the candidate has there.
    pub candidate: String,
}

/// In what two outcomes differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Each class with its first place, and further places while there is room.
    pub found: Vec<Difference>,
    /// Further places of those classes.
    pub places_cut: u64,
    /// Differences of classes beyond the first [`DIFFERENT_CLASSES_MAX`].
    pub classes_cut: u64,
}

/// Differences that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Class {
    /// What differs.
    pub aspect: Aspect,
    /// Which: the path in the payload, the header's name, the two verdicts.
    pub of: String,
}

/// What of an outcome differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Passed, dropped, rejected, retry, fault.
    Verdict,
    /// Both fail, for other reasons.
    Error,
    /// How many messages come out.
    Outputs,
    /// Where a message goes.
    Destination,
    /// A header.
    Header,
    /// Another field of the message.
    Field,
    /// The payload.
    Payload,
}

/// In what `candidate` differs from `live`.
pub fn differences(live: &Processed, candidate: &Processed) -> Differences {
    let mut list = List::default();
    if live == candidate {
        return list.differences;
    }
    let (before, after) = (verdict(live), verdict(candidate));
    if before != after {
        list.add(Aspect::Verdict, format!("{before} → {after}"), "", &told(live), &told(candidate));
        return list.differences;
    }
    match (live, candidate) {
        (Processed::Passed(live), Processed::Passed(candidate)) => list.outputs(live, candidate),
        (Processed::Dropped { stage: live }, Processed::Dropped { stage: candidate }) => {
            list.add(
                Aspect::Verdict,
                "dropped by another stage".into(),
                "",
                live.as_str(),
                candidate.as_str(),
            );
        }
        (Processed::Failed(live), Processed::Failed(candidate)) => list.failures(live, candidate),
        _ => unreachable!("outcomes of one verdict are of one kind"),
    }
    list.differences
}

/// The word for an outcome.
pub fn verdict(processed: &Processed) -> &'static str {
    match processed {
        Processed::Passed(_) => "passed",
        Processed::Dropped { .. } => "dropped",
        Processed::Failed(failure) => match failure.kind {
            FailureKind::Rejected => "rejected",
            FailureKind::Retry { .. } => "retry",
            FailureKind::Fault(_) => "fault",
        },
    }
}

/// An outcome in a few words.
fn told(processed: &Processed) -> String {
    match processed {
        Processed::Passed(outputs) => match outputs.as_slice() {
            [one] => text(&one.message.payload),
            several => format!("{} messages", several.len()),
        },
        Processed::Dropped { stage } => format!("dropped by {stage}"),
        Processed::Failed(failure) => format!("{}: {}", failure.stage, failure.problem),
    }
}

/// What was found so far, of one message.
#[derive(Default)]
struct List {
    differences: Differences,
    classes: BTreeSet<Class>,
}

impl List {
    fn add(&mut self, aspect: Aspect, of: String, at: &str, live: &str, candidate: &str) {
        self.add_with(aspect, &of, || (at.to_owned(), live.to_owned(), candidate.to_owned()));
    }

    /// Adds a difference, where there is room for it: only then it is put into words.
    fn add_with(&mut self, aspect: Aspect, of: &str, told: impl FnOnce() -> (String, String, String)) {
        let class = Class { aspect, of: cut(of) };
        let list = &mut self.differences;
        if self.classes.contains(&class) {
            if list.found.len() >= DIFFERENCES_MAX {
                list.places_cut += 1;
                return;
            }
        } else if self.classes.len() >= DIFFERENT_CLASSES_MAX {
            list.classes_cut += 1;
            return;
        } else {
            self.classes.insert(class.clone());
        }
        let (at, live, candidate) = told();
        list.found.push(Difference { class, at: cut(&at), live: cut(&live), candidate: cut(&candidate) });
    }

    /// How many differences there are, told or not.
    fn count(&self) -> u64 {
        let Differences { found, places_cut, classes_cut } = &self.differences;
        found.len() as u64 + places_cut + classes_cut
    }

    fn failures(&mut self, live: &Failure, candidate: &Failure) {
        let (a, b) = (&live.problem, &candidate.problem);
        if live.stage != candidate.stage {
            self.add(Aspect::Error, "stage".into(), "", live.stage.as_str(), candidate.stage.as_str());
        }
        if live.policy != candidate.policy {
            let (live, candidate) = (live.policy.to_string(), candidate.policy.to_string());
            self.add(Aspect::Error, "policy".into(), "", &live, &candidate);
        }
        if a.code != b.code {
            self.add(Aspect::Error, format!("{} → {}", a.code, b.code), "", &a.to_string(), &b.to_string());
        } else if (&a.message, &a.path) != (&b.message, &b.path) {
            self.add(Aspect::Error, format!("text of {}", a.code), "", &a.to_string(), &b.to_string());
        }
        if let (FailureKind::Retry { after: a }, FailureKind::Retry { after: b }) =
            (live.kind, candidate.kind)
            && a != b
        {
            self.add(Aspect::Error, "delay".into(), "", &format!("{a:?}"), &format!("{b:?}"));
        }
    }

    fn outputs(&mut self, live: &[Output], candidate: &[Output]) {
        let (before, after) = (live.len(), candidate.len());
        if before != after {
            let (a, b) = (format!("{before} messages"), format!("{after} messages"));
            self.add(Aspect::Outputs, format!("{before} → {after}"), "", &a, &b);
        }
        for (n, (a, b)) in live.iter().zip(candidate).enumerate() {
            let place = if before.max(after) > 1 { format!("message {n}") } else { String::new() };
            if a.to != b.to {
                let (a, b) = (onward(a.to.as_ref()), onward(b.to.as_ref()));
                self.add(Aspect::Destination, format!("{a} → {b}"), &place, &a, &b);
            }
            self.messages(&place, &a.message, &b.message);
        }
    }

    fn messages(&mut self, place: &str, live: &Message, candidate: &Message) {
        let Message { topic, headers, key, message_id, reply_to, priority, ttl, delay, payload } = live;
        let field = |list: &mut Self, name: &str, differs: bool, live: String, candidate: String| {
            if differs {
                list.add(Aspect::Field, name.to_owned(), place, &live, &candidate);
            }
        };
        let other = candidate;
        field(self, "topic", *topic != other.topic, topic.to_string(), other.topic.to_string());
        let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_deref().map_or_else(none, text);
        field(self, "key", *key != other.key, bytes(key), bytes(&other.key));
        let same = *message_id == other.message_id;
        field(self, "message-id", !same, format!("{message_id:?}"), format!("{:?}", other.message_id));
        let same = *reply_to == other.reply_to;
        field(self, "reply-to", !same, format!("{reply_to:?}"), format!("{:?}", other.reply_to));
        let same = *priority == other.priority;
        field(self, "priority", !same, priority.to_string(), other.priority.to_string());
        field(self, "ttl", *ttl != other.ttl, format!("{ttl:?}"), format!("{:?}", other.ttl));
        field(self, "delay", *delay != other.delay, format!("{delay:?}"), format!("{:?}", other.delay));
        if *headers != other.headers {
            let names = headers.iter().chain(other.headers.iter()).map(|(name, _)| name);
            for name in names.collect::<BTreeSet<_>>() {
                let (a, b) = (headers.get(name), other.headers.get(name));
                if a != b {
                    let (a, b) = (a.map_or_else(none, text), b.map_or_else(none, text));
                    self.add(Aspect::Header, name.to_owned(), place, &a, &b);
                }
            }
        }
        if *payload != other.payload {
            self.payloads(place, payload, &other.payload);
        }
    }

    fn payloads(&mut self, place: &str, live: &[u8], candidate: &[u8]) {
        let Some((a, b)) = json(live).zip(json(candidate)) else {
            return self.bytes(place, live, candidate);
        };
        let before = self.count();
        let mut path = Path { class: "$".to_owned(), at: "$".to_owned(), place };
        self.values(&mut path, Some(&a), Some(&b));
        // Values are equal that are not written alike: zeros at the end of a number, other escapes.
        if self.count() == before && letters(live) != letters(candidate) {
            self.add(Aspect::Payload, "written otherwise".into(), place, &text(live), &text(candidate));
        }
    }

    fn values(&mut self, path: &mut Path<'_>, live: Option<&Json<'_>>, candidate: Option<&Json<'_>>) {
        match (live, candidate) {
            (Some(Json::Object(a)), Some(Json::Object(b))) => {
                for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                    let step = format!(".{name}");
                    path.within(&step, &step, |path| self.values(path, a.get(name), b.get(name)));
                }
            }
            (Some(Json::List(a)), Some(Json::List(b))) if a.len() == b.len() => {
                for (n, (a, b)) in a.iter().zip(b).enumerate() {
                    path.within("[*]", &format!("[{n}]"), |path| self.values(path, Some(a), Some(b)));
                }
            }
            (Some(Json::List(a)), Some(Json::List(b))) => {
                let told = || (path.told(), format!("{} elements", a.len()), format!("{} elements", b.len()));
                self.add_with(Aspect::Payload, &path.class, told);
            }
            (Some(a), Some(b)) if a.is_same_leaf(b) => {}
            (a, b) => {
                let shown = |value: Option<&Json<'_>>| value.map_or_else(none, Json::to_string);
                self.add_with(Aspect::Payload, &path.class, || (path.told(), shown(a), shown(b)));
            }
        }
    }

    fn bytes(&mut self, place: &str, live: &[u8], candidate: &[u8]) {
        let first = live.iter().zip(candidate).take_while(|(a, b)| a == b).count();
        let from = first.saturating_sub(16);
        let shown =
            |bytes: &[u8]| format!("{} bytes: …{}", bytes.len(), text(&bytes[from.min(bytes.len())..]));
        let at = match place {
            "" => format!("byte {first}"),
            place => format!("{place}, byte {first}"),
        };
        self.add(Aspect::Payload, "bytes".into(), &at, &shown(live), &shown(candidate));
    }
}

/// Where in a payload: once as elements of all arrays are alike, once exactly.
struct Path<'a> {
    class: String,
    at: String,
    place: &'a str,
}

impl Path<'_> {
    fn within(&mut self, class: &str, at: &str, then: impl FnOnce(&mut Self)) {
        let (class_before, at_before) = (self.class.len(), self.at.len());
        self.class.push_str(class);
        self.at.push_str(at);
        then(self);
        self.class.truncate(class_before);
        self.at.truncate(at_before);
    }

    fn told(&self) -> String {
        match self.place {
            "" => self.at.clone(),
            place => format!("{place}, {}", self.at),
        }
    }
}

fn json(bytes: &[u8]) -> Option<Json<'_>> {
    (bytes.len() <= JSON_BYTES_MAX).then(|| Json::read(bytes)).flatten()
}

/// How often each byte occurs outside of white space: the same for what differs only in its order.
fn letters(bytes: &[u8]) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    for byte in bytes.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        *counts.entry(*byte).or_insert(0) += 1;
    }
    counts
}

fn onward(to: Option<&Target>) -> String {
    to.map_or_else(|| "on".to_owned(), Target::to_string)
}

fn none() -> String {
    "nothing".to_owned()
}

fn text(bytes: &[u8]) -> String {
    // Room for what cannot be shown at the cut.
    let beginning = &bytes[..bytes.len().min(SHOWN_BYTES_MAX + 4)];
    String::from_utf8_lossy(beginning).into_owned()
}

fn cut(text: &str) -> String {
    match text.len() {
        0..=SHOWN_BYTES_MAX => text.to_owned(),
        _ => format!("{}…", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]),
    }
}

impl Aspect {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Error => "error",
            Self::Outputs => "outputs",
            Self::Destination => "destination",
            Self::Header => "header",
            Self::Field => "field",
            Self::Payload => "payload",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.aspect.as_str(), self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, OnFailure, Problem};

    fn message(payload: &str) -> Message {
        Message::new("orders".parse().expect("a topic"), payload.to_owned())
    }

    fn passed(payloads: &[&str]) -> Processed {
        Processed::Passed(payloads.iter().map(|each| Output { message: message(each), to: None }).collect())
    }

    fn failed(kind: FailureKind, code: &str, text: &str) -> Processed {
        Processed::Failed(Box::new(Failure {
            stage: "check".parse().expect("a name"),
            plugin: "check@1".parse().expect("a plugin"),
            digest: String::new(),
            problem: Problem { code: code.into(), message: text.into(), path: None },
            kind,
            policy: OnFailure::Reject,
            step: None,
        }))
    }

    fn classes(live: &Processed, candidate: &Processed) -> Vec<String> {
        differences(live, candidate)
            .found
            .iter()
            .map(|each| format!("{} at {}", each.class, each.at))
            .collect()
    }

    #[test]
    fn json_is_compared_as_values_and_elements_of_lists_are_one_class() {
        let live = passed(&[r#"{"id":1,"total":30,"lines":[{"sum":10},{"sum":20}]}"#]);
        let same = passed(&[r#"{ "total": 30, "lines": [{"sum":10}, {"sum":20}], "id": 1 }"#]);
        assert_eq!(classes(&live, &same), [""; 0], "order and white space are no difference");

        let other = passed(&[r#"{"id":1,"total":25,"lines":[{"sum":10},{"sum":15}],"new":null}"#]);
        let found = classes(&live, &other);
        assert_eq!(
            found,
            [
                "payload $.lines[*].sum at $.lines[1].sum",
                "payload $.new at $.new",
                "payload $.total at $.total"
            ]
        );
        let total = &differences(&live, &other).found[2];
        assert_eq!((total.live.as_str(), total.candidate.as_str()), ("30", "25"));
        let fewer = passed(&[r#"{"id":1,"total":30,"lines":[{"sum":10}]}"#]);
        assert_eq!(classes(&live, &fewer), ["payload $.lines at $.lines"]);
    }

    #[test]
    fn a_number_with_other_digits_is_a_difference_even_where_floats_are_equal() {
        let (live, candidate) = (passed(&["[1.0]"]), passed(&["[1.00]"]));
        assert_eq!(classes(&live, &candidate), ["payload written otherwise at "]);
        assert_eq!(classes(&passed(&["1"]), &passed(&["1.0"])), ["payload $ at $"]);
    }

    #[test]
    fn a_digit_that_no_float_has_room_for_is_a_difference_where_it_is() {
        let (live, candidate) = (
            passed(&[r#"{"id":12345678901234567890,"n":0.1000000000000000055,"total":1}"#]),
            passed(&[r#"{"id":12345678901234567809,"n":0.1000000000000000505,"total":2}"#]),
        );
        let found = differences(&live, &candidate).found;
        let told: Vec<_> = found.iter().map(|each| (each.class.of.as_str(), each.live.as_str())).collect();
        assert_eq!(
            told,
            [("$.id", "12345678901234567890"), ("$.n", "0.1000000000000000055"), ("$.total", "1")]
        );
        let (live, candidate) = (passed(&["123456789012345678901"]), passed(&["123456789012345678910"]));
        assert_eq!(classes(&live, &candidate), ["payload $ at $"], "the same digits in another order");
    }

    #[test]
    fn what_is_not_json_is_compared_as_bytes() {
        let found = classes(&passed(&["<a>1</a>"]), &passed(&["<a>2</a>"]));
        assert_eq!(found, ["payload bytes at byte 3"]);
        assert_eq!(classes(&passed(&["abc"]), &passed(&["abcd"])), ["payload bytes at byte 3"]);
        assert_eq!(classes(&passed(&["<a/>"]), &passed(&["{}"])), ["payload bytes at byte 0"]);
    }

    #[test]
    fn verdicts_come_before_everything_else() {
        let dropped = Processed::Dropped { stage: "filter".parse().expect("a name") };
        assert_eq!(classes(&passed(&["x"]), &dropped), ["verdict passed → dropped at "]);
        let rejected = failed(FailureKind::Rejected, "schema", "no total");
        let fault = failed(FailureKind::Fault(Fault::Trap), "plugin-trap", "boom");
        assert_eq!(classes(&rejected, &fault), ["verdict rejected → fault at "]);
        let other = failed(FailureKind::Rejected, "range", "no total");
        assert_eq!(classes(&rejected, &other), ["error schema → range at "]);
        let reworded = failed(FailureKind::Rejected, "schema", "there is no total");
        assert_eq!(classes(&rejected, &reworded), ["error text of schema at "]);
    }

    #[test]
    fn headers_fields_destinations_and_counts_are_told_apart() {
        let live = passed(&["x"]);
        let mut moved = message("x");
        moved.headers = moved.headers.edit().set("region", "eu").build().expect("small");
        moved.key = Some("k".into());
        let to = Some("queue:eu".parse().expect("a target"));
        let candidate = Processed::Passed(vec![Output { message: moved, to }]);
        let found = classes(&live, &candidate);
        assert_eq!(found, ["destination on → queue:eu at ", "field key at ", "header region at "]);
        let several = classes(&passed(&["a", "b"]), &passed(&["a", "c", "d"]));
        assert_eq!(several, ["outputs 2 → 3 at ", "payload bytes at message 1, byte 0"]);
    }

    #[test]
    fn the_places_of_one_class_leave_room_for_the_others() {
        let order = |value: u32| {
            let lines: Vec<String> = (0..200).map(|_| format!("{{\"sum\":{value}}}")).collect();
            passed(&[&format!("{{\"lines\":[{}],\"total\":{value}}}", lines.join(","))])
        };
        let Differences { found, places_cut, classes_cut } = differences(&order(1), &order(2));
        assert_eq!(found.len(), DIFFERENCES_MAX + 1);
        let last = found.last().expect("there are some");
        assert_eq!((last.class.of.as_str(), last.live.as_str()), ("$.total", "1"));
        assert_eq!((places_cut, classes_cut), (200 - DIFFERENCES_MAX as u64, 0));
    }

    #[test]
    fn what_is_told_of_one_message_is_bounded() {
        let object = |value: u32| {
            let fields: Vec<String> = (0..200).map(|n| format!("\"f{n}\":{value}")).collect();
            passed(&[&format!("{{{}}}", fields.join(","))])
        };
        let fields = differences(&object(1), &object(2));
        assert_eq!((fields.found.len(), fields.classes_cut), (DIFFERENT_CLASSES_MAX, 72));
        let long = differences(&passed(&[&"é".repeat(1_000)]), &passed(&["x"])).found;
        assert!(long[0].live.len() < 300, "{}", long[0].live.len());
    }
}
