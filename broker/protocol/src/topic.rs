//! Topics, and the patterns that match them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// The longest topic or pattern, in bytes.
pub const TOPIC_BYTES_MAX: usize = 1024;

/// Why a text is not a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing was given.
    #[error("a topic cannot be empty")]
    Empty,
    /// The text has more than [`TOPIC_BYTES_MAX`] bytes.
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The bytes are not UTF-8.
    #[error("a topic is UTF-8 text")]
    Encoding,
    /// A control character or white space.
    #[error("a topic has no control characters and no spaces, this one has {0:?}")]
    Character(char),
    /// A word that only a pattern may have.
    #[error("the word {0:?} is a wildcard, and a message is published to one topic, not to a pattern")]
    Wildcard(&'static str),
}

/// Where a message is published: dot-separated words, `orders.eu.created`. Cheap to clone.
///
/// One to 1,024 bytes of UTF-8 without spaces or control characters; no word is `*` or `#`. Empty words are
/// words (`a..b` has three), as in AMQP and MQTT.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(ByteString);

impl Topic {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The words between the dots.
    pub fn words(&self) -> std::str::Split<'_, char> {
        self.0.split('.')
    }

    /// The topic whose text these bytes are; no copy is made.
    ///
    /// # Errors
    /// What keeps the bytes from being a topic.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, TopicError> {
        let text = ByteString::try_from(bytes).map_err(|_| TopicError::Encoding)?;
        check_text(&text)?;
        for word in text.split('.') {
            match word {
                "*" => return Err(TopicError::Wildcard("*")),
                "#" => return Err(TopicError::Wildcard("#")),
                _ => {}
            }
        }
        Ok(Self(text))
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::from_bytes(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        Self::from_bytes(Bytes::from(text))
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> Self {
        topic.0.to_string()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing was given.
    #[error("a pattern cannot be empty; # matches every topic")]
    Empty,
    /// The text has more than [`TOPIC_BYTES_MAX`] bytes.
    #[error("a pattern has at most {TOPIC_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A control character or white space.
    #[error("a pattern has no control characters and no spaces, this one has {0:?}")]
    Character(char),
    /// A wildcard inside a longer word, which would silently match nothing.
    #[error("in the word {0:?} the wildcard is not alone; * and # stand for whole words")]
    PartialWildcard(String),
}

/// Which topics: words as in a [`Topic`], where `*` stands for one word and `#` for zero or more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(ByteString);

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The words between the dots, wildcards included.
    pub fn words(&self) -> std::str::Split<'_, char> {
        self.0.split('.')
    }

    /// Whether the pattern is a plain topic, and matches only itself.
    pub fn is_literal(&self) -> bool {
        self.words().all(|word| word != "*" && word != "#")
    }

    /// Whether every topic that `other` means is meant by this one as well.
    ///
    /// It may say no where a long way round would say yes (`*.#` and `#.*` mean the same topics); never the reverse.
    pub fn covers(&self, other: &Self) -> bool {
        let (mine, theirs): (Vec<_>, Vec<_>) = (self.words().collect(), other.words().collect());
        // covered[n]: whether the rest of mine, from the word looked at on, covers theirs from n on.
        let mut covered = vec![false; theirs.len() + 1];
        covered[theirs.len()] = true;
        for word in mine.into_iter().rev() {
            let rest = covered.clone();
            for n in (0..=theirs.len()).rev() {
                covered[n] = match (word, theirs.get(n).copied()) {
                    ("#", None) => rest[n],
                    ("#", Some(_)) => rest[n] || covered[n + 1],
                    (_, None | Some("#")) => false,
                    ("*", Some(_)) => rest[n + 1],
                    (word, Some(their)) => word == their && rest[n + 1],
                };
            }
        }
        covered[0]
    }

    /// Whether `topic` is one of the topics meant.
    ///
    /// Linear in the topic for patterns with one `#`; in the worst case words × words, never exponential.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_text(topic.as_str())
    }

    /// As [`matches`](Self::matches), for any dot-separated text, such as the name of a queue.
    pub fn matches_text(&self, text: &str) -> bool {
        let mut pattern = self.words();
        let mut words = text.split('.');
        // Where to go on from when a `#` has to swallow one word more.
        let mut retry: Option<(std::str::Split<'_, char>, std::str::Split<'_, char>)> = None;
        loop {
            match (pattern.next(), words.clone().next()) {
                (Some("#"), _) => {
                    retry = Some((pattern.clone(), words.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some(expected), Some(word)) if expected == "*" || expected == word => {
                    words.next();
                    continue;
                }
                _ => {}
            }
            let Some((after_hash, mut rest)) = retry.take() else {
                return false;
            };
            if rest.next().is_none() {
                return false;
            }
            pattern = after_hash.clone();
            words = rest.clone();
            retry = Some((after_hash, rest));
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        match check_text(&text) {
            Err(TopicError::Empty) => return Err(PatternError::Empty),
            Err(TopicError::TooLong(n)) => return Err(PatternError::TooLong(n)),
            Err(TopicError::Character(c)) => return Err(PatternError::Character(c)),
            Err(TopicError::Encoding | TopicError::Wildcard(_)) | Ok(()) => {}
        }
        let partial = |word: &&str| word.len() > 1 && word.contains(['*', '#']);
        if let Some(word) = text.split('.').find(partial) {
            return Err(PatternError::PartialWildcard(word.to_owned()));
        }
        Ok(Self(ByteString::from(text)))
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Topic> for Pattern {
    /// The pattern that matches `topic` alone.
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// What topics and patterns have in common.
fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong(text.len()));
    }
    match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(c) => Err(TopicError::Character(c)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        let pattern: Pattern = pattern.parse().expect("a pattern");
        pattern.matches(&topic.parse().expect("a topic"))
    }

    /// The definition, by recursion: slow and plainly right.
    fn naive(pattern: &[&str], words: &[&str]) -> bool {
        match pattern.split_first() {
            None => words.is_empty(),
            Some((&"#", rest)) => (0..=words.len()).any(|n| naive(rest, &words[n..])),
            Some((&word, rest)) => words
                .split_first()
                .is_some_and(|(first, others)| (word == "*" || word == *first) && naive(rest, others)),
        }
    }

    #[test]
    fn a_pattern_covers_what_means_no_more_than_it() {
        let covers = |mine: &str, theirs: &str| {
            let parse = |text: &str| text.parse::<Pattern>().expect("a pattern");
            parse(mine).covers(&parse(theirs))
        };
        for (mine, theirs) in [
            ("#", "#"),
            ("#", "orders.*.x"),
            ("orders.#", "orders"),
            ("orders.#", "orders.#"),
            ("orders.*", "orders.eu"),
            ("orders.*", "orders.*"),
            ("#.eu", "a.b.eu"),
            ("a.#.z", "a.#.b.#.z"),
            ("*.*", "a.*"),
            ("#.#", "#"),
        ] {
            assert!(covers(mine, theirs), "{mine} covers {theirs}");
        }
        for (mine, theirs) in [
            ("orders.#", "#"),
            ("orders.*", "orders.#"),
            ("orders.*", "orders"),
            ("orders.eu", "orders.*"),
            ("*", "#"),
            ("#.eu", "a.#"),
            ("a.#.z", "a.#"),
            ("orders.#", "ordersx"),
        ] {
            assert!(!covers(mine, theirs), "{mine} does not cover {theirs}");
        }
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_is_any_number() {
        assert!(matches("orders.*.created", "orders.eu.created"));
        assert!(!matches("orders.*.created", "orders.created"));
        assert!(matches("orders.#", "orders"));
        assert!(matches("orders.#", "orders.eu.created"));
        assert!(matches("#.created", "orders.eu.created"));
        assert!(matches("#", "anything.at.all"));
        assert!(!matches("orders", "orders.eu"));
        assert!(matches("a.#.b.#.c", "a.b.b.x.c"));
    }

    #[test]
    fn a_wildcard_inside_a_word_is_refused() {
        let error = "orders.eu*".parse::<Pattern>().expect_err("not a pattern");
        assert_eq!(error, PatternError::PartialWildcard("eu*".into()));
        assert_eq!("a.#".parse::<Topic>(), Err(TopicError::Wildcard("#")));
    }

    proptest::proptest! {
        #[test]
        fn matching_agrees_with_its_definition(
            pattern in "[ab*#](\\.[ab*#]){0,5}",
            topic in "[ab](\\.[ab]){0,6}",
        ) {
            let words: Vec<&str> = topic.split('.').collect();
            let expected = naive(&pattern.split('.').collect::<Vec<_>>(), &words);
            proptest::prop_assert_eq!(matches(&pattern, &topic), expected);
        }
    }
}
