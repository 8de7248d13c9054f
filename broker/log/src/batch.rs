//! Records on their way to the log: encoded one after the other into one buffer, written by one write.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::engine::Index;
use crate::record::{self, ALIGN, HEAD_BYTES, Seed};

/// The buffer that an emptied batch keeps for its next use.
const CAPACITY_KEPT_BYTES_MAX: usize = 16 << 20;

/// Records being encoded, in order, laid out as they will stand on disk. Emptied by an append, then reused.
#[derive(Debug, Default)]
pub struct Batch {
    buffer: BytesMut,
    records: Vec<Slot>,
}

/// Where a record stands in the buffer.
#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    body_bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one record, whose body `encode` appends to the buffer it is given.
    ///
    /// # Panics
    /// When `encode` shortens the buffer below what it held.
    pub fn push(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let start = self.buffer.len();
        let body = start + HEAD_BYTES;
        self.buffer.resize(body, 0);
        encode(&mut self.buffer);
        assert!(self.buffer.len() >= body, "a record's encoder only appends");
        self.records.push(Slot { start, body_bytes: self.buffer.len() - body });
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGN), 0);
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// It holds no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many bytes it will take on disk.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets its records and keeps its buffer.
    pub fn clear(&mut self) {
        self.records.clear();
        self.buffer.clear();
        if self.buffer.capacity() > CAPACITY_KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
    }

    /// The largest body, in bytes.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.records.iter().map(|slot| slot.body_bytes).max().unwrap_or(0)
    }

    /// The length on disk of the record at `position`.
    pub(crate) fn stored_bytes(&self, position: usize) -> usize {
        record::stored_bytes(self.records[position].body_bytes)
    }

    /// Fills in the heads of the records at `part`. Returns the bytes to write and the last record's chain.
    pub(crate) fn seal(
        &mut self,
        part: Range<usize>,
        first: Index,
        durable: Index,
        mut chain: u64,
        seed: Seed,
    ) -> (&[u8], u64) {
        let start = self.records[part.start].start;
        let mut end = start;
        for (slot, index) in self.records[part].iter().zip(first..) {
            end = slot.start + record::stored_bytes(slot.body_bytes);
            let bytes = &mut self.buffer[slot.start..end];
            chain = record::seal(bytes, slot.body_bytes, index, durable, chain, seed);
        }
        (&self.buffer[start..end], chain)
    }
}

impl Extend<Bytes> for Batch {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, bodies: I) {
        for body in bodies {
            self.push(|out| out.extend_from_slice(&body));
        }
    }
}
