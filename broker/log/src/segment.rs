//! A segment: a file of fixed size with a header, records, and once it is sealed a footer.
//!
//! ```text
//! byte 0        64                            end      size-64-4n          size-64       size
//!      | header | record | record | … | record | …unused… | n offsets (u32) | trailer     |
//!
//! header   "WHARFSEG" | format u32 | size u32 | identity u64 | id u64 | first index u64 | chain u64
//!          | zeros u64 | zeros u32 | CRC32C u32
//! trailer  "WHARFEND" | format u32 | n u32 | end u64 | first index u64 | durable u64 | chain u64
//!          | zeros u64 | CRC32C of the offsets u32 | CRC32C u32
//! ```
//!
//! The header's chain is the one before its first record, the trailer's the one after its last. The header is
//! durable before the first record is written; records and footer are durable before the next segment has a
//! header. The footer is derived: when it is lost, it is made again from the records.

use std::path::PathBuf;

use crate::disk::DiskFile;
use crate::engine::{Failure, Index};
use crate::record::{HEAD_BYTES, Seed, u32_at, u64_at};
use crate::sparse::Sparse;

/// The layout of all files in the folder, named in each of them.
pub(crate) const FORMAT: u32 = 2;
pub(crate) const HEADER_BYTES: u64 = 64;
const TRAILER_BYTES: u64 = 64;
const OFFSET_BYTES: u64 = 4;
const HEADER_MAGIC: &[u8; 8] = b"WHARFSEG";
const TRAILER_MAGIC: &[u8; 8] = b"WHARFEND";

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: u64,
    pub(crate) id: u64,
    /// The length of the file, in bytes.
    pub(crate) size: u32,
    /// The index of its first record.
    pub(crate) base: Index,
    /// The chain of the record before its first.
    pub(crate) chain: u64,
}

impl Header {
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.identity, self.id)
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[..8].copy_from_slice(HEADER_MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&self.size.to_le_bytes());
        out[16..24].copy_from_slice(&self.identity.to_le_bytes());
        out[24..32].copy_from_slice(&self.id.to_le_bytes());
        out[32..40].copy_from_slice(&self.base.to_le_bytes());
        out[40..48].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `file`; `None` when there is none of segment `id` of this log.
    pub(crate) fn read(file: &dyn DiskFile, identity: u64, id: u64) -> std::io::Result<Option<Self>> {
        Ok(Self::read_any(file)?.filter(|header| header.identity == identity && header.id == id))
    }

    /// The header at the start of `file`, of whatever log and segment.
    pub(crate) fn read_any(file: &dyn DiskFile) -> std::io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = file.read_at(0, &mut bytes)?;
        let whole = read == bytes.len() && bytes[..8] == *HEADER_MAGIC;
        if !whole || crc32c::crc32c(&bytes[..60]) != u32_at(&bytes, 60) || u32_at(&bytes, 8) != FORMAT {
            return Ok(None);
        }
        Ok(Some(Self {
            size: u32_at(&bytes, 12),
            identity: u64_at(&bytes, 16),
            id: u64_at(&bytes, 24),
            base: u64_at(&bytes, 32),
            chain: u64_at(&bytes, 40),
        }))
    }
}

/// What a sealed segment's trailer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) base: Index,
    pub(crate) records: u32,
    /// Where the last record ends.
    pub(crate) end: u64,
    /// The last index known to be durable when the footer was written.
    pub(crate) durable: Index,
    /// The last record's chain.
    pub(crate) chain: u64,
    offsets_crc: u32,
}

impl Trailer {
    /// The trailer at the end of `file`; `None` when the segment is not sealed, or its trailer is harmed.
    pub(crate) fn read(file: &dyn DiskFile, header: &Header) -> std::io::Result<Option<Self>> {
        let mut bytes = [0; TRAILER_BYTES as usize];
        let Some(at) = u64::from(header.size).checked_sub(TRAILER_BYTES) else { return Ok(None) };
        let read = file.read_at(at, &mut bytes)?;
        let whole = read == bytes.len() && bytes[..8] == *TRAILER_MAGIC;
        if !whole || header.seed().crc(&bytes[..60]) != u32_at(&bytes, 60) || u32_at(&bytes, 8) != FORMAT {
            return Ok(None);
        }
        let trailer = Self {
            records: u32_at(&bytes, 12),
            end: u64_at(&bytes, 16),
            base: u64_at(&bytes, 24),
            durable: u64_at(&bytes, 32),
            chain: u64_at(&bytes, 40),
            offsets_crc: u32_at(&bytes, 56),
        };
        let fits = trailer.end <= records_end_max(header.size, trailer.records.into());
        Ok((fits && trailer.base == header.base).then_some(trailer))
    }

    /// The index after its last record.
    pub(crate) fn next(&self) -> Index {
        self.base + Index::from(self.records)
    }

    /// Where each record starts, and where the last ends; `None` when the table is harmed.
    pub(crate) fn offsets(&self, file: &dyn DiskFile, header: &Header) -> std::io::Result<Option<Vec<u32>>> {
        let mut bytes = vec![0; self.records as usize * OFFSET_BYTES as usize];
        let at = u64::from(header.size) - TRAILER_BYTES - bytes.len() as u64;
        let read = file.read_at(at, &mut bytes)?;
        if read != bytes.len() || header.seed().crc(&bytes) != self.offsets_crc {
            return Ok(None);
        }
        let starts = bytes.chunks_exact(OFFSET_BYTES as usize).map(|chunk| u32_at(chunk, 0));
        Ok(Some(starts.chain([self.end as u32]).collect()))
    }
}

/// What sealing a segment writes down.
pub(crate) struct Footer<'a> {
    /// Where each record starts.
    pub(crate) offsets: &'a [u32],
    /// Where the last one ends.
    pub(crate) end: u64,
    pub(crate) durable: Index,
    pub(crate) chain: u64,
}

impl Footer<'_> {
    /// Writes the footer at the end of `file`. Durable after the next sync.
    pub(crate) fn write(&self, file: &dyn DiskFile, header: &Header) -> std::io::Result<()> {
        let seed = header.seed();
        let table_bytes = self.offsets.len() * OFFSET_BYTES as usize;
        let mut out = Vec::with_capacity(table_bytes + TRAILER_BYTES as usize);
        out.extend(self.offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        let offsets_crc = seed.crc(&out);
        out.extend_from_slice(TRAILER_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        for number in [self.end, header.base, self.durable, self.chain, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&offsets_crc.to_le_bytes());
        let crc = seed.crc(&out[table_bytes..]);
        out.extend_from_slice(&crc.to_le_bytes());
        file.write_at(u64::from(header.size) - out.len() as u64, &out)
    }
}

/// Where records must end so that a footer for `records` of them still fits behind.
pub(crate) fn records_end_max(size: u32, records: u64) -> u64 {
    u64::from(size).saturating_sub(TRAILER_BYTES + OFFSET_BYTES * records)
}

/// The largest body that fits a segment of `size` bytes.
pub(crate) fn body_bytes_max(size: u32) -> usize {
    let room = records_end_max(size, 1).saturating_sub(HEADER_BYTES + HEAD_BYTES as u64);
    // The end of the record is rounded up to a multiple of eight, so the room is rounded down.
    (room & !7) as usize
}

/// Erases the trailer, so that the segment counts as not sealed. Durable after the next sync.
pub(crate) fn unseal(file: &dyn DiskFile, header: &Header) -> std::io::Result<()> {
    file.write_at(u64::from(header.size) - TRAILER_BYTES, &[0; TRAILER_BYTES as usize])
}

/// A sealed segment, as the list of segments knows it.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) header: Header,
    /// What a sparse segment's header says beyond that; `None` for a dense one.
    pub(crate) sparse: Option<Sparse>,
    pub(crate) path: PathBuf,
}

impl Sealed {
    pub(crate) fn dense(header: Header, path: PathBuf) -> Self {
        Self { header, sparse: None, path }
    }

    pub(crate) fn seed(&self) -> Seed {
        match &self.sparse {
            Some(sparse) => sparse.seed(&self.header),
            None => self.header.seed(),
        }
    }

    /// The id of the last segment that it stands for.
    pub(crate) fn last_id(&self) -> u64 {
        self.sparse.map_or(self.header.id, |sparse| sparse.last_id)
    }

    /// Which copy of its records it is: 0 for where they were first written.
    pub(crate) fn edition(&self) -> u64 {
        self.sparse.map_or(0, |sparse| sparse.edition)
    }

    pub(crate) fn failure(&self, doing: &'static str) -> impl Fn(std::io::Error) -> Failure {
        move |source| Failure::new(doing, &self.path, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { identity: 3, id: 7, size: 1024, base: 100, chain: 42 }
    }

    #[test]
    fn header_and_footer_read_back_and_fit_their_segment_only() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1024).unwrap();
        file.write_at(0, &header().encode()).unwrap();
        let offsets = [64, 128];
        Footer { offsets: &offsets, end: 200, durable: 90, chain: 43 }.write(&file, &header()).unwrap();

        let trailer = Trailer::read(&file, &header()).unwrap().expect("a trailer");

        assert_eq!(Header::read(&file, 3, 7).unwrap(), Some(header()));
        assert_eq!(Header::read(&file, 3, 8).unwrap(), None);
        assert_eq!(Header::read(&file, 4, 7).unwrap(), None);
        assert_eq!((trailer.next(), trailer.durable, trailer.chain), (102, 90, 43));
        assert_eq!(trailer.offsets(&file, &header()).unwrap(), Some(vec![64, 128, 200]));
        assert_eq!(Trailer::read(&file, &Header { id: 8, ..header() }).unwrap(), None);
    }

    #[test]
    fn the_largest_body_leaves_room_for_the_footer() {
        for size in [512, 1000, 1024, 4096] {
            let end = HEADER_BYTES + crate::record::stored_bytes(body_bytes_max(size)) as u64;
            assert!(end <= records_end_max(size, 1), "{size}");
        }
    }
}
