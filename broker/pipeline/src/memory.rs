//! What a pipeline remembers, as one run sees it, and what a message changes of it.
//!
//! ```text
//!  what this message changed  ▷  what the messages before it in this run left  ▷  Memory
//! ```
//!
//! A run changes nothing itself: it says what it read and what it would change, and whoever stores the message
//! stores that with it. A run whose account nobody keeps (a trial, a trace) leaves no mark.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytestring::ByteString;
use wharf_protocol::{
    KV_CHANGES_MAX, KV_KEY_BYTES_MAX, KV_READS_MAX, KV_SPACE_BYTES_MAX, KV_VALUE_BYTES_MAX, Kept, Name,
    Timestamp,
};

use crate::bindings::wharf::plugin::kv::Error;

/// What a pipeline remembers from earlier messages.
pub trait Memory: Send + Sync {
    /// What there is under `key`, also when it has expired meanwhile.
    fn get(&self, key: &str) -> Option<Kept>;

    /// What all of it takes, as [`Kept::cost`] counts it; never too little.
    fn bytes(&self) -> u64;
}

/// Where pipelines remember: what a run reads whose changes nobody keeps.
pub trait Memories: Send + Sync {
    /// The memory of the pipeline of this name, which is about to be made.
    fn of(&self, pipeline: &Name) -> Arc<dyn Memory>;
}

/// Remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Blank;

/// What a message read and changed of what its pipeline remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recall {
    /// What it found that it had not changed itself; `None`: nothing.
    pub reads: BTreeMap<ByteString, Option<Kept>>,
    /// What it left; `None`: it removed it.
    pub changes: BTreeMap<ByteString, Option<Kept>>,
}

/// The memory of a run that goes on.
pub(crate) struct Remembering {
    memory: Arc<dyn Memory>,
    /// What earlier messages of the run left.
    earlier: BTreeMap<ByteString, Option<Kept>>,
    /// What those may have added.
    earlier_bytes: u64,
    recall: Recall,
}

/// Shared between a run and the instance that it is in.
pub(crate) type Shared = Arc<Mutex<Remembering>>;

impl Memory for Blank {
    fn get(&self, _: &str) -> Option<Kept> {
        None
    }

    fn bytes(&self) -> u64 {
        0
    }
}

impl Remembering {
    pub(crate) fn begin(memory: Arc<dyn Memory>) -> Shared {
        let (earlier, recall) = (BTreeMap::new(), Recall::default());
        Arc::new(Mutex::new(Self { memory, earlier, earlier_bytes: 0, recall }))
    }

    /// The account of a message that is done; when it came through, the next ones see what it left.
    pub(crate) fn end_message(&mut self, came_through: bool) -> Recall {
        let mut recall = std::mem::take(&mut self.recall);
        if !came_through {
            recall.changes.clear();
        }
        self.earlier_bytes += cost(&recall.changes);
        self.earlier.extend(recall.changes.clone());
        recall
    }

    /// What the message has found so far.
    pub(crate) fn reads(&self) -> Vec<(ByteString, Option<Kept>)> {
        self.recall.reads.iter().map(|(key, kept)| (key.clone(), kept.clone())).collect()
    }

    /// What the message has changed so far: for [`go_back`](Self::go_back).
    pub(crate) fn mark(&self) -> BTreeMap<ByteString, Option<Kept>> {
        self.recall.changes.clone()
    }

    /// Undoes what a stage did that refused the message or broke on it.
    pub(crate) fn go_back(&mut self, mark: BTreeMap<ByteString, Option<Kept>>) {
        self.recall.changes = mark;
    }

    /// Whether the message may read `key`: what it reads is in its record, and a record has an end.
    pub(crate) fn may_read(&self, key: &str) -> bool {
        let Recall { reads, changes } = &self.recall;
        reads.len() < KV_READS_MAX || reads.contains_key(key) || changes.contains_key(key)
    }

    /// Of a key that [may be read](Self::may_read).
    pub(crate) fn get(&mut self, key: &str, now: Timestamp) -> Result<Option<Kept>, Error> {
        if key.is_empty() || key.len() > KV_KEY_BYTES_MAX {
            return Err(Error::BadKey);
        }
        let lives = |kept: &Kept| kept.lives(now);
        if let Some(own) = self.recall.changes.get(key) {
            return Ok(own.clone().filter(lives));
        }
        let found = match self.earlier.get(key) {
            Some(left) => left.clone(),
            None => self.memory.get(key),
        };
        let found = found.filter(lives);
        self.recall.reads.entry(key.into()).or_insert_with(|| found.clone());
        Ok(found)
    }

    pub(crate) fn set(&mut self, key: &str, kept: Option<Kept>) -> Result<(), Error> {
        if key.is_empty() || key.len() > KV_KEY_BYTES_MAX {
            return Err(Error::BadKey);
        }
        if kept.as_ref().is_some_and(|kept| kept.value.len() > KV_VALUE_BYTES_MAX) {
            return Err(Error::ValueTooLarge);
        }
        let changes = &self.recall.changes;
        if changes.len() >= KV_CHANGES_MAX && !changes.contains_key(key) {
            return Err(Error::TooManyChanges);
        }
        if let Some(kept) = &kept {
            let taken = self.memory.bytes() + self.earlier_bytes + cost(changes);
            if taken + kept.cost(key.len()) > KV_SPACE_BYTES_MAX {
                return Err(Error::Full);
            }
        }
        self.recall.changes.insert(key.into(), kept);
        Ok(())
    }

    /// Of a key that [may be read](Self::may_read).
    pub(crate) fn add(
        &mut self,
        key: &str,
        by: i64,
        ends: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<i64, Error> {
        let (before, expires) = match self.get(key, now)? {
            None => (0, ends),
            Some(kept) => (number(&kept.value).ok_or(Error::NotANumber)?, kept.expires),
        };
        let counted = before.checked_add(by).ok_or(Error::NotANumber)?;
        self.set(key, Some(Kept { value: counted.to_string().into(), expires }))?;
        Ok(counted)
    }
}

pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Remembering> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What changes add at most.
fn cost(changes: &BTreeMap<ByteString, Option<Kept>>) -> u64 {
    changes.iter().filter_map(|(key, kept)| Some(kept.as_ref()?.cost(key.len()))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    /// A memory of one key, and of a size.
    struct One(Option<Kept>, u64);

    impl Memory for One {
        fn get(&self, key: &str) -> Option<Kept> {
            self.0.clone().filter(|_| key == "n")
        }

        fn bytes(&self) -> u64 {
            self.1
        }
    }

    fn remembering(value: &'static str, expires: Option<Timestamp>) -> Shared {
        Remembering::begin(Arc::new(One(Some(Kept { value: value.into(), expires }), 0)))
    }

    #[test]
    fn a_message_sees_its_own_changes_and_those_of_messages_that_came_through() {
        let shared = remembering("5", None);
        let mut run = lock(&shared);
        assert_eq!((run.add("n", 1, None, NOW), run.add("n", 1, None, NOW)), (Ok(6), Ok(7)));
        let first = run.end_message(true);
        assert_eq!(first.reads["n"].as_ref().map(|kept| &*kept.value), Some(&b"5"[..]));
        assert_eq!(first.changes["n"].as_ref().map(|kept| &*kept.value), Some(&b"7"[..]));

        assert_eq!(run.add("n", 1, None, NOW), Ok(8));
        let refused = run.end_message(false);
        assert!(refused.changes.is_empty());
        assert_eq!(refused.reads["n"].as_ref().map(|kept| &*kept.value), Some(&b"7"[..]));
        assert_eq!(run.add("n", 1, None, NOW), Ok(8), "what was refused left nothing");
    }

    #[test]
    fn what_has_expired_is_not_there_and_a_counter_keeps_its_end() {
        let shared = remembering("5", Some(NOW));
        let mut run = lock(&shared);
        assert_eq!(run.get("n", NOW), Ok(None));
        let ends = Some(Timestamp(2_000));
        assert_eq!(run.add("n", 1, ends, NOW), Ok(1));
        assert_eq!(run.add("n", 1, Some(Timestamp(9_000)), NOW), Ok(2));
        let recall = run.end_message(true);
        assert_eq!(recall.reads["n"], None);
        assert_eq!(recall.changes["n"].as_ref().and_then(|kept| kept.expires), ends);
    }

    #[test]
    fn every_bound_is_an_error_of_its_own() {
        let shared = Remembering::begin(Arc::new(One(None, KV_SPACE_BYTES_MAX - 200)));
        let mut run = lock(&shared);
        let kept = |bytes: usize| Some(Kept { value: vec![b'9'; bytes].into(), expires: None });
        assert_eq!(run.set("", kept(1)), Err(Error::BadKey));
        assert_eq!(run.get(&"k".repeat(KV_KEY_BYTES_MAX + 1), NOW), Err(Error::BadKey));
        assert_eq!(run.set("k", kept(KV_VALUE_BYTES_MAX + 1)), Err(Error::ValueTooLarge));
        assert_eq!(run.set("k", kept(200)), Err(Error::Full));
        assert_eq!(run.set("k", kept(100)), Ok(()));
        assert_eq!(run.add("k", 1, None, NOW), Err(Error::NotANumber), "of a hundred digits");
        for i in 1..KV_CHANGES_MAX {
            assert_eq!(run.set(&i.to_string(), None), Ok(()));
        }
        assert_eq!(run.set("one more", None), Err(Error::TooManyChanges));
    }

    #[test]
    fn a_message_reads_so_many_keys_that_it_did_not_change_and_those_as_often_as_it_likes() {
        let shared = Remembering::begin(Arc::new(Blank));
        let mut run = lock(&shared);
        run.set("own", None).expect("there is room");
        for i in 0..KV_READS_MAX {
            assert!(run.may_read(&i.to_string()));
            assert_eq!(run.get(&i.to_string(), NOW), Ok(None));
        }
        assert!(!run.may_read("one more"));
        assert!(run.may_read("0") && run.may_read("own"));
        run.end_message(true);
        assert!(run.may_read("one more"), "the next message reads as many again");
    }
}
