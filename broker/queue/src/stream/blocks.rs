//! What a plain partition keeps: all messages from an offset on, in blocks that go as a whole.

use std::collections::VecDeque;
use std::ops::Range;

use wharf_protocol::Timestamp;

use super::block::{Block, Place};
use super::partition::Oldest;
use super::policy::StreamPolicy;

/// All messages from an offset on.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pub(crate) sealed: VecDeque<Block>,
    /// The newest messages, up to the partition's next offset.
    pub(crate) open: Vec<Place>,
    pub(crate) open_bytes: u64,
}

impl Blocks {
    /// Adds the message before offset `next`.
    pub(crate) fn push(&mut self, place: Place, bytes: u64, next: u64, policy: &StreamPolicy) {
        self.open.push(place);
        self.open_bytes += bytes;
        let age = place.at.since(self.open[0].at);
        if policy.block_is_full(self.open.len() as u64, self.open_bytes, age) {
            self.seal(next);
        }
    }

    pub(crate) fn first(&self, next: u64) -> Option<u64> {
        let open = (!self.open.is_empty()).then(|| self.open_first(next));
        self.sealed.front().map(|block| block.first).or(open)
    }

    pub(crate) fn oldest(&self) -> Option<Oldest> {
        if let Some(block) = self.sealed.front() {
            return Some(Oldest { messages: block.messages, bytes: block.bytes, newest: block.newest });
        }
        let newest = self.open.last()?.at;
        Some(Oldest { messages: self.open.len() as u64, bytes: self.open_bytes, newest })
    }

    /// Takes the oldest block.
    pub(crate) fn pop(&mut self, next: u64) -> Option<Block> {
        if self.sealed.is_empty() {
            self.seal(next);
        }
        self.sealed.pop_front()
    }

    /// The messages from offset `from` on.
    pub(crate) fn read(&self, from: u64, next: u64) -> impl Iterator<Item = (u64, Place)> {
        let block = self.sealed.partition_point(|block| block.end() <= from);
        let sealed = self.sealed.range(block..).flat_map(|block| (block.first..).zip(block.places()));
        let open = (self.open_first(next)..).zip(self.open.iter().copied());
        sealed.chain(open).skip_while(move |(offset, _)| *offset < from)
    }

    /// The messages of the records of `range`, and some beside them.
    pub(crate) fn of_records(&self, range: &Range<u64>) -> impl Iterator<Item = Place> + use<'_> {
        let (start, end) = (range.start, range.end);
        let from = self.sealed.partition_point(|block| block.records.1 < start);
        let sealed = self.sealed.range(from..).take_while(move |block| block.records.0 < end);
        sealed.flat_map(Block::places).chain(self.open.iter().copied())
    }

    /// The first message stored at `at` or later.
    pub(crate) fn offset_at(&self, at: Timestamp, next: u64) -> Option<u64> {
        let block = self.sealed.partition_point(|block| block.newest < at);
        let from = self.sealed.get(block).map_or(self.open_first(next), |block| block.first);
        self.read(from, next).find(|(_, place)| place.at >= at).map(|(offset, _)| offset)
    }

    fn open_first(&self, next: u64) -> u64 {
        next - self.open.len() as u64
    }

    fn seal(&mut self, next: u64) {
        if self.open.is_empty() {
            return;
        }
        self.sealed.push_back(Block::seal(self.open_first(next), self.open_bytes, &self.open));
        self.open.clear();
        self.open_bytes = 0;
    }
}
