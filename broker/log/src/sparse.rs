//! A sparse segment: the few live records of neighbouring segments that were mostly dead, copied together.
//!
//! ```text
//! byte 0        128                            end                end+8n              end+12n = size
//!      | header | record | record | … | record | n indexes (u64) | n offsets (u32) |
//!
//! header   "WHARFSPA" | format u32 | size u32 | identity u64 | first id u64 | last id u64 | edition u64
//!          | base u64 | next u64 | chain u64 | chain after u64 | chain inside u64
//!          | end u32 | n u32 | CRC32C of the table u32 | zeros u192 | CRC32C u32
//! ```
//!
//! It stands for the segments `first id..=last id` and their records `base..next`, of which it holds those that
//! were live, under their own indexes. `chain` and `chain after` are those of the segments it stands for, so it
//! links to its neighbours as they did. Inside, the records are sealed anew: the CRCs start from a seed of this
//! file alone (the edition grows whenever it is copied again), and the chain runs from `chain` over the records
//! that are there to `chain inside`. The header is written last and all is synced before the file gets its
//! name, so it is whole once it has one. The table is derived: when it is lost, it is made again.

use std::path::Path;

use crate::disk::DiskFile;
use crate::engine::Index;
use crate::record::{Seed, u32_at, u64_at};
use crate::scan::Scan;
use crate::segment::{FORMAT, Header, Sealed};

pub(crate) const HEADER_BYTES: u64 = 128;
const MAGIC: &[u8; 8] = b"WHARFSPA";
/// Where the header's own CRC stands.
const CRC_AT: usize = HEADER_BYTES as usize - 4;
const INDEX_BYTES: usize = 8;
const OFFSET_BYTES: usize = 4;
/// What a record takes beside its own bytes.
pub(crate) const ENTRY_BYTES: u64 = (INDEX_BYTES + OFFSET_BYTES) as u64;

/// What a sparse segment's header says beyond a segment's: `Header::id` is the first id, `Header::size` the
/// file's length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) last_id: u64,
    pub(crate) edition: u64,
    /// The index after the last one that it stands for.
    pub(crate) next: Index,
    /// The chain of the last record that it stands for.
    pub(crate) chain_after: u64,
    /// The chain, in this file, of the last record that it holds.
    pub(crate) chain_inside: u64,
    /// Where the last record ends.
    pub(crate) end: u32,
    pub(crate) records: u32,
    pub(crate) table_crc: u32,
}

/// Which records a sparse segment holds, and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) indexes: Vec<Index>,
    /// Where each record starts.
    pub(crate) offsets: Vec<u32>,
}

impl Sparse {
    pub(crate) fn seed(&self, header: &Header) -> Seed {
        Seed::sparse(header.identity, header.id, self.last_id, self.edition)
    }

    /// The header of the sparse segment in `file`; `None` when there is none.
    pub(crate) fn read(file: &dyn DiskFile, identity: u64) -> std::io::Result<Option<(Header, Self)>> {
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = file.read_at(0, &mut bytes)?;
        let whole = read == bytes.len() && bytes[..8] == *MAGIC && u64_at(&bytes, 16) == identity;
        if !whole || crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(&bytes, CRC_AT) || u32_at(&bytes, 8) != FORMAT
        {
            return Ok(None);
        }
        let header = Header {
            identity,
            id: u64_at(&bytes, 24),
            size: u32_at(&bytes, 12),
            base: u64_at(&bytes, 48),
            chain: u64_at(&bytes, 64),
        };
        let sparse = Self {
            last_id: u64_at(&bytes, 32),
            edition: u64_at(&bytes, 40),
            next: u64_at(&bytes, 56),
            chain_after: u64_at(&bytes, 72),
            chain_inside: u64_at(&bytes, 80),
            end: u32_at(&bytes, 88),
            records: u32_at(&bytes, 92),
            table_crc: u32_at(&bytes, 96),
        };
        Ok(Some((header, sparse)))
    }

    fn encode(&self, header: &Header) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&header.size.to_le_bytes());
        let numbers = [
            header.identity,
            header.id,
            self.last_id,
            self.edition,
            header.base,
            self.next,
            header.chain,
            self.chain_after,
            self.chain_inside,
        ];
        for (at, number) in (16..).step_by(8).zip(numbers) {
            out[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        out[88..92].copy_from_slice(&self.end.to_le_bytes());
        out[92..96].copy_from_slice(&self.records.to_le_bytes());
        out[96..100].copy_from_slice(&self.table_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Writes table and header of a file whose records end at `self.end`. Durable after the next sync.
    pub(crate) fn write(
        mut self,
        file: &dyn DiskFile,
        mut header: Header,
        table: &Table,
    ) -> std::io::Result<(Header, Self)> {
        let bytes = table.encode();
        self.records = table.indexes.len() as u32;
        self.table_crc = self.seed(&header).crc(&bytes);
        header.size = self.end + bytes.len() as u32;
        file.write_at(self.end.into(), &bytes)?;
        file.write_at(0, &self.encode(&header))?;
        Ok((header, self))
    }
}

impl Table {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.indexes.len() * (INDEX_BYTES + OFFSET_BYTES));
        out.extend(self.indexes.iter().flat_map(|index| index.to_le_bytes()));
        out.extend(self.offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        out
    }

    /// The table of `segment`, read from `file`, or made again from the records when it is harmed.
    pub(crate) fn read(file: &dyn DiskFile, segment: &Sealed, sparse: &Sparse) -> std::io::Result<Self> {
        if let Some(table) = Self::stored(file, segment, sparse)? {
            return Ok(table);
        }
        tracing::warn!(path = %segment.path.display(), "a sparse segment's table is harmed; its records are walked");
        let scan = Scan::new(file, segment).finish()?;
        Ok(Self { indexes: scan.indexes, offsets: scan.offsets })
    }

    /// The table of `segment`, read from `file`; `None` when it is harmed.
    pub(crate) fn stored(
        file: &dyn DiskFile,
        segment: &Sealed,
        sparse: &Sparse,
    ) -> std::io::Result<Option<Self>> {
        let records = sparse.records as usize;
        let mut bytes = vec![0; records * (INDEX_BYTES + OFFSET_BYTES)];
        let read = file.read_at(sparse.end.into(), &mut bytes)?;
        if read == bytes.len() && segment.seed().crc(&bytes) == sparse.table_crc {
            let (indexes, offsets) = bytes.split_at(records * INDEX_BYTES);
            return Ok(Some(Self {
                indexes: indexes.chunks_exact(INDEX_BYTES).map(|chunk| u64_at(chunk, 0)).collect(),
                offsets: offsets.chunks_exact(OFFSET_BYTES).map(|chunk| u32_at(chunk, 0)).collect(),
            }));
        }
        Ok(None)
    }
}

/// The sparse segment in the file at `path`, opened as `file`; `None` when there is none.
pub(crate) fn sealed(
    file: &dyn DiskFile,
    identity: u64,
    path: impl AsRef<Path>,
) -> std::io::Result<Option<Sealed>> {
    let read = Sparse::read(file, identity)?;
    Ok(read.map(|(header, sparse)| Sealed { header, sparse: Some(sparse), path: path.as_ref().to_owned() }))
}

impl Seed {
    fn sparse(identity: u64, first: u64, last: u64, edition: u64) -> Self {
        let mut bytes = [0; 32];
        for (at, number) in (0..).step_by(8).zip([identity, first, last, edition]) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        // Never a dense segment's: those are made of 16 bytes.
        Self::of(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (std::fs::File, Header, Sparse) {
        let file = tempfile::tempfile().unwrap();
        let header = Header { identity: 3, id: 7, size: 0, base: 100, chain: 42 };
        let sparse = Sparse {
            last_id: 9,
            edition: 2,
            next: 400,
            chain_after: 43,
            chain_inside: 44,
            end: 300,
            records: 0,
            table_crc: 0,
        };
        let table = Table { indexes: vec![120, 399], offsets: vec![128, 200] };
        let (header, sparse) = sparse.write(&file, header, &table).unwrap();
        (file, header, sparse)
    }

    #[test]
    fn header_and_table_read_back_and_fit_their_log_only() {
        let (file, header, sparse) = written();

        let segment = sealed(&file, 3, "a").unwrap().expect("a sparse segment");

        assert_eq!((segment.header, segment.sparse), (header, Some(sparse)));
        assert_eq!((header.size, sparse.records), (324, 2));
        let table = Table::read(&file, &segment, &sparse).unwrap();
        assert_eq!(table, Table { indexes: vec![120, 399], offsets: vec![128, 200] });
        assert_eq!(Sparse::read(&file, 4).unwrap(), None);
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_noticed() {
        let (file, ..) = written();
        let mut bytes = [0; HEADER_BYTES as usize];
        file.read_at(0, &mut bytes).unwrap();

        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            file.write_at(0, &flipped).unwrap();
            assert_eq!(Sparse::read(&file, 3).unwrap(), None, "bit {bit}");
        }
    }
}
