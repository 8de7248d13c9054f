//! Which records are still needed, so that the log can let go of those before.
//!
//! Messages are counted by runs of 4,096 records: enough to know what no queue needs any more, at a few
//! bytes for each run and not for each message.

use std::collections::BTreeMap;

const RUN_BITS: u32 = 12;

#[derive(Debug, Default)]
pub(crate) struct LiveRecords {
    /// How many messages of a run of records lie in queues.
    runs: BTreeMap<u64, u64>,
    /// The newest run and its count, which is not in `runs`: nearly all that comes, comes to it.
    newest: (u64, u64),
}

impl LiveRecords {
    /// One more queue holds a message of record `index`.
    pub(crate) fn add(&mut self, index: u64) {
        let run = index >> RUN_BITS;
        if run > self.newest.0 {
            let (old, count) = std::mem::replace(&mut self.newest, (run, 0));
            if count > 0 {
                self.runs.insert(old, count);
            }
        }
        if run == self.newest.0 {
            self.newest.1 += 1;
        } else {
            *self.runs.entry(run).or_default() += 1;
        }
    }

    /// One queue less holds a message of record `index`.
    pub(crate) fn remove(&mut self, index: u64) {
        let run = index >> RUN_BITS;
        if run == self.newest.0 {
            self.newest.1 -= 1;
            return;
        }
        let count = self.runs.get_mut(&run).expect("what is removed was added");
        *count -= 1;
        if *count == 0 {
            self.runs.remove(&run);
        }
    }

    /// A lower bound of the indexes in use, at most 4,095 too low; `None` when none is in use.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let newest = (self.newest.1 > 0).then_some(self.newest.0);
        let run = self.runs.first_key_value().map(|(run, _)| *run).or(newest)?;
        Some(run << RUN_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_live_record_is_never_passed() {
        let mut live = LiveRecords::default();
        let mut indexes: Vec<u64> = (1..60).map(|n| n * 997 % 50_021).collect();
        for index in &indexes {
            live.add(*index);
        }
        while let Some(index) = indexes.pop() {
            let oldest = indexes.iter().chain([&index]).min().expect("one is left");
            let bound = live.oldest().expect("one is left");
            assert!(bound <= *oldest && oldest - bound < 1 << RUN_BITS, "{bound} for {oldest}");
            live.remove(index);
        }
        assert_eq!(live.oldest(), None);
    }
}
