//! Which bindings a topic meets, without asking each of them.
//!
//! Bindings are sorted by pattern. A pattern without wildcards is found by binary search; the others are
//! asked one by one, but only those whose first word can match.

use std::collections::BTreeMap;

use wharf_protocol::{Pattern, Topic};

use crate::Binding;

/// An index into a sorted list of bindings, which comes with each call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matcher {
    /// Positions of patterns with a wildcard, by their first word.
    by_first_word: BTreeMap<Box<str>, Vec<usize>>,
    /// Positions of patterns that open with a wildcard.
    any_first_word: Vec<usize>,
}

impl Matcher {
    pub(crate) fn new(bindings: &[Binding]) -> Self {
        let mut matcher = Self::default();
        for (at, binding) in bindings.iter().enumerate().filter(|(_, each)| !each.pattern.is_literal()) {
            match first_word(&binding.pattern) {
                "*" | "#" => matcher.any_first_word.push(at),
                word => matcher.by_first_word.entry(word.into()).or_default().push(at),
            }
        }
        matcher
    }

    /// The bindings that match, in their order, one for each queue and pipeline.
    pub(crate) fn resolve<'a>(&self, bindings: &'a [Binding], topic: &Topic) -> Vec<&'a Binding> {
        let from = bindings.partition_point(|each| each.pattern.as_str() < topic.as_str());
        let literal =
            bindings[from..].iter().take_while(|each| each.pattern.as_str() == topic.as_str()).count();
        let mut found: Vec<usize> = (from..from + literal).collect();
        let first = topic.words().next().unwrap_or("");
        let same_first = self.by_first_word.get(first).map_or(&[][..], Vec::as_slice);
        let asked = same_first.iter().chain(&self.any_first_word);
        found.extend(asked.filter(|at| bindings[**at].pattern.matches(topic)));
        found.sort_unstable();

        let mut resolved: Vec<&Binding> = Vec::with_capacity(found.len());
        let mut ways = std::collections::BTreeSet::new();
        for binding in found.into_iter().map(|at| &bindings[at]) {
            if ways.insert((binding.queue_id, &binding.pipeline)) {
                resolved.push(binding);
            }
        }
        resolved
    }
}

fn first_word(pattern: &Pattern) -> &str {
    pattern.words().next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::QueueId;

    fn binding(pattern: &str, queue: u32) -> Binding {
        let queue_name = format!("q{queue}").parse().expect("a name");
        let pattern = pattern.parse().expect("a pattern");
        Binding { pattern, queue: queue_name, queue_id: QueueId(queue), pipeline: None }
    }

    #[test]
    fn two_bindings_to_one_queue_bring_a_message_there_once() {
        let bindings = [binding("a.#", 1), binding("a.b", 1), binding("a.b", 2)];
        let matcher = Matcher::new(&bindings);
        let resolved = matcher.resolve(&bindings, &"a.b".parse().expect("a topic"));
        let queues: Vec<u32> = resolved.iter().map(|each| each.queue_id.0).collect();
        assert_eq!(queues, [1, 2]);
    }

    proptest! {
        #[test]
        fn what_is_resolved_is_what_matches(
            patterns in proptest::collection::btree_set("[ab*#](\\.[abc*#]){0,3}", 0..20),
            topic in "[abc](\\.[abc]){0,4}",
        ) {
            let bindings: Vec<Binding> =
                patterns.iter().enumerate().map(|(n, pattern)| binding(pattern, n as u32)).collect();
            let topic: Topic = topic.parse().expect("a topic");
            let naive: Vec<&Binding> = bindings.iter().filter(|each| each.pattern.matches(&topic)).collect();
            prop_assert_eq!(Matcher::new(&bindings).resolve(&bindings, &topic), naive);
        }
    }
}
