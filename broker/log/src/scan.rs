//! Walking the records of one segment, from its header on.

use std::io;
use std::ops::RangeFrom;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::engine::Index;
use crate::record::{ALIGN, HEAD_BYTES, Head, Seed, u32_at, u64_at};
use crate::seeded::{self, Fault};
use crate::segment::{HEADER_BYTES, Sealed, records_end_max};
use crate::sparse::{self, Sparse};

/// What is read from the disk at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// Yields the records of a segment as long as each follows from the one before.
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    size: u32,
    /// Records may be missing, and where they end is known.
    sparse: Option<Sparse>,
    seed: Seed,
    block: Bytes,
    block_start: u64,
    /// Where each record found so far starts.
    pub(crate) offsets: Vec<u32>,
    /// Which records they are, in a sparse segment.
    pub(crate) indexes: Vec<Index>,
    /// Where the next record would start.
    pub(crate) offset: u64,
    /// The index it would have, at least.
    pub(crate) next: Index,
    /// The chain of the last record found.
    pub(crate) chain: u64,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, segment: &Sealed) -> Self {
        let header = &segment.header;
        Self {
            file,
            size: header.size,
            sparse: segment.sparse,
            seed: segment.seed(),
            block: Bytes::new(),
            block_start: 0,
            offsets: Vec::new(),
            indexes: Vec::new(),
            offset: if segment.sparse.is_some() { sparse::HEADER_BYTES } else { HEADER_BYTES },
            next: header.base,
            chain: header.chain,
        }
    }

    /// The next record's index and body; `None` where no record follows, whatever the reason.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Index, Bytes)>> {
        let Some(head) = Head::parse(&self.bytes(HEAD_BYTES as u64)?, self.seed) else { return Ok(None) };
        let end = self.offset + head.stored_bytes();
        let (index, end_max) = match &self.sparse {
            None => (self.next, records_end_max(self.size, self.offsets.len() as u64 + 1)),
            Some(sparse) if (self.next..sparse.next).contains(&head.index) => (head.index, sparse.end.into()),
            Some(_) => return Ok(None),
        };
        if !head.follows(index, self.chain) || end > end_max {
            return Ok(None);
        }
        let record = self.bytes(head.stored_bytes())?;
        let body = match head.body(&record, self.seed) {
            Some(body) => body,
            None if seeded::is(Fault::TornTailKept) => record.slice(HEAD_BYTES.min(record.len())..),
            None => return Ok(None),
        };
        if self.sparse.is_some() {
            self.indexes.push(index);
        }
        self.offsets.push(self.offset as u32);
        self.offset = end;
        self.next = index + 1;
        self.chain = head.chain;
        Ok(Some((index, body)))
    }

    /// Walks to the end of the records.
    pub(crate) fn finish(mut self) -> io::Result<Self> {
        while self.next()?.is_some() {}
        Ok(self)
    }

    /// Up to `wanted` bytes from the current offset on, from the block at hand or the disk.
    fn bytes(&mut self, wanted: u64) -> io::Result<Bytes> {
        let from = (self.offset - self.block_start) as usize;
        let to = from + wanted as usize;
        if to > self.block.len() {
            let room = u64::from(self.size).saturating_sub(self.offset);
            let mut block = vec![0; wanted.max(BLOCK_BYTES).min(room) as usize];
            let read = self.file.read_at(self.offset, &mut block)?;
            block.truncate(read);
            self.block = block.into();
            self.block_start = self.offset;
            return Ok(self.block.slice(..self.block.len().min(wanted as usize)));
        }
        Ok(self.block.slice(from..to))
    }
}

/// What is left of records of this segment's life after the place where its records stop.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Where the last head found ends.
    pub(crate) end: Option<u64>,
    /// The highest index that a head found says was durable.
    pub(crate) durable: Index,
}

/// Looks for heads of records with one of `indexes`, anywhere from `offset` on.
pub(crate) fn traces(
    file: &dyn DiskFile,
    seed: Seed,
    offset: u64,
    indexes: RangeFrom<Index>,
) -> io::Result<Traces> {
    let end = file.bytes()?;
    let mut found = Traces::default();
    let mut block = vec![0; (BLOCK_BYTES + HEAD_BYTES as u64) as usize];
    let mut start = offset;
    while start < end {
        let read = file.read_at(start, &mut block)?;
        for at in (0..read.min(BLOCK_BYTES as usize)).step_by(ALIGN) {
            let bytes = &block[at..read];
            if !plausible(bytes, indexes.start, end) {
                continue;
            }
            if let Some(head) = Head::parse(bytes, seed) {
                found.end = Some(start + (at + HEAD_BYTES) as u64);
                found.durable = found.durable.max(head.durable);
            }
        }
        start += BLOCK_BYTES;
    }
    Ok(found)
}

/// Tells nearly everything that is no head by two numbers, before a checksum is computed.
fn plausible(bytes: &[u8], next: Index, size: u64) -> bool {
    bytes.len() >= HEAD_BYTES && u64_at(bytes, 16) >= next && u64::from(u32_at(bytes, 8)) < size
}
