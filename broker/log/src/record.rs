//! One record on disk: a head of 40 bytes, the body, zeros up to a multiple of eight.
//!
//! ```text
//! byte 0         4         8         12   13   14   16              24              32              40
//!      | head    | body    | body    | en-| fl-|    | index         | durable       | chain         | body … 0
//!      |  CRC32C |  CRC32C |  length | co-| ags| 0  |               |               |               |
//!      |         |         |         | din|    |    |               |               |               |
//!                |<────────────── xxh3-64, seeded with the chain before: the chain ─>|
//!                |<──────────────────────────────────────────────────────── the head CRC covers this ─>|
//! ```
//!
//! All numbers are little-endian. Both CRCs start from a seed made of the log's identity and the segment's
//! id, so the bytes that an earlier life left in a recycled file never pass for records of this one.
//! `durable` is the last index known to be durable when the record was written: it is how recovery tells
//! damage (what was durable is wrong) from a torn tail (what was never confirmed is missing). The chain binds
//! each record to all before it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::Index;
use crate::seeded::{self, Fault};

/// The bytes of a record before its body.
pub(crate) const HEAD_BYTES: usize = 40;
/// How records and bodies are laid out; a reader refuses what it does not know.
const ENCODING: u8 = 1;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;

/// Where a CRC starts, so that it fits one segment of one log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(identity: u64, segment: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&identity.to_le_bytes()), &segment.to_le_bytes()))
    }

    /// From whatever tells a file from all others.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(crc32c::crc32c(bytes))
    }

    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// What a record's head says, once its CRC fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) body_crc: u32,
    pub(crate) body_bytes: u32,
    pub(crate) index: Index,
    pub(crate) durable: Index,
    pub(crate) chain: u64,
    /// What the chain would have to be after `chain_before`; kept to check the link without the bytes.
    facts: [u8; 28],
}

impl Head {
    /// Reads the head at the start of `bytes`; `None` when there is no head of this segment.
    pub(crate) fn parse(bytes: &[u8], seed: Seed) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        // Bits that nobody has defined are refused, not ignored: they may change what the body means.
        if head[12] != ENCODING || head[13..16] != [0; 3] || seed.crc(&head[4..]) != u32_at(head, 0) {
            return None;
        }
        let mut facts = [0; 28];
        facts.copy_from_slice(&head[4..32]);
        Some(Self {
            body_crc: u32_at(head, 4),
            body_bytes: u32_at(head, 8),
            index: u64_at(head, 16),
            durable: u64_at(head, 24),
            chain: u64_at(head, 32),
            facts,
        })
    }

    /// The record's whole length on disk.
    pub(crate) fn stored_bytes(&self) -> u64 {
        stored_bytes(self.body_bytes as usize) as u64
    }

    /// It is record `index`, and comes right after the record whose chain is `chain_before`.
    pub(crate) fn follows(&self, index: Index, chain_before: u64) -> bool {
        self.index == index && linked(self.chain, xxh3_64_with_seed(&self.facts, chain_before))
    }

    /// Its body within `record` (which starts with the head), when that is whole and unharmed.
    pub(crate) fn body(&self, record: &Bytes, seed: Seed) -> Option<Bytes> {
        let end = HEAD_BYTES + self.body_bytes as usize;
        let body = record.get(HEAD_BYTES..end)?;
        (seed.crc(body) == self.body_crc).then(|| record.slice(HEAD_BYTES..end))
    }
}

/// What says that it has chain `found` goes on where `expected` ends.
pub(crate) fn linked(found: u64, expected: u64) -> bool {
    found == expected || seeded::is(Fault::HashChainUnchecked)
}

/// The length on disk of a record with a body of `body_bytes`.
pub(crate) const fn stored_bytes(body_bytes: usize) -> usize {
    (HEAD_BYTES + body_bytes).next_multiple_of(ALIGN)
}

/// Fills in the head of `record`, whose body of `body_bytes` already stands after it. Returns its chain.
pub(crate) fn seal(
    record: &mut [u8],
    body_bytes: usize,
    index: Index,
    durable: Index,
    chain_before: u64,
    seed: Seed,
) -> u64 {
    let body_crc = seed.crc(&record[HEAD_BYTES..HEAD_BYTES + body_bytes]);
    record[4..8].copy_from_slice(&body_crc.to_le_bytes());
    record[8..12].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    record[12..16].copy_from_slice(&[ENCODING, 0, 0, 0]);
    record[16..24].copy_from_slice(&index.to_le_bytes());
    record[24..32].copy_from_slice(&durable.to_le_bytes());
    let chain = xxh3_64_with_seed(&record[4..32], chain_before);
    record[32..40].copy_from_slice(&chain.to_le_bytes());
    let head_crc = seed.crc(&record[4..HEAD_BYTES]);
    record[..4].copy_from_slice(&head_crc.to_le_bytes());
    chain
}

/// The little-endian number at `at`, which the caller knows to be inside.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller checked the length"))
}

/// The little-endian number at `at`, which the caller knows to be inside.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller checked the length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &[u8], index: Index, chain: u64, seed: Seed) -> Bytes {
        let mut bytes = vec![0; stored_bytes(body.len())];
        bytes[HEAD_BYTES..HEAD_BYTES + body.len()].copy_from_slice(body);
        seal(&mut bytes, body.len(), index, index - 1, chain, seed);
        bytes.into()
    }

    #[test]
    fn a_sealed_record_reads_back_and_links_to_the_one_before() {
        let seed = Seed::new(1, 1);
        let bytes = record(b"order", 7, 99, seed);

        let head = Head::parse(&bytes, seed).expect("a head");

        assert_eq!((head.index, head.durable, head.stored_bytes()), (7, 6, 48));
        assert!(head.follows(7, 99) && !head.follows(7, 98) && !head.follows(8, 99));
        assert_eq!(head.body(&bytes, seed).expect("a body"), "order");
    }

    #[test]
    fn a_record_of_another_segment_or_log_is_none_of_ours() {
        let bytes = record(b"order", 7, 99, Seed::new(1, 1));

        assert_eq!(Head::parse(&bytes, Seed::new(1, 2)), None);
        assert_eq!(Head::parse(&bytes, Seed::new(2, 1)), None);
    }

    #[test]
    fn every_flipped_bit_of_head_and_body_is_noticed() {
        let seed = Seed::new(1, 1);
        let bytes = record(b"order", 7, 99, seed);

        for bit in 0..(HEAD_BYTES + 5) * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = Bytes::from(flipped);
            let body = Head::parse(&flipped, seed).and_then(|head| head.body(&flipped, seed));
            assert_eq!(body, None, "bit {bit}");
        }
    }
}
