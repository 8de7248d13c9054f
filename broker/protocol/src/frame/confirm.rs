//! What became of published messages, in runs of sequences.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{FrameError, pack, versions};
use crate::{PipelineVersion, Receipt, Stored};

const FRAME: &str = "Confirm";

const RUN_BYTES: usize = 24;

const STORED: u8 = 1;
const DUPLICATE: u8 = 2;
const DUPLICATE_UNKNOWN: u8 = 3;
const REJECTED: u8 = 4;

const FLAG_VERSIONS: u8 = 1;

/// One answer to the messages of `count` sequences from `first` on.
///
/// ```text
///  0  u8   1 stored, 2 duplicate, 3 duplicate of something no longer known, 4 rejected
///  1  u8   flags. Bit 0: versions follow, as `OpenPublisher::tell_versions` asks; other bits are zero
///  2  u16  messages that each became, when 1 or 2
///  4  u32  count, at least 1
///  8  u64  first sequence
/// 16  u64  index of the first record, when 1 or 2: the others follow it; length of the rejection, when 4
/// 24  rejection (a MessagePack map)
///     u32 length of the versions · versions (a MessagePack array), when flagged; at most 64
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The first sequence.
    pub first: u64,
    /// How many sequences, at least 1.
    pub count: u32,
    /// The answer to the first. Those after it are the same, but for the index, which rises with the sequence.
    pub receipt: Receipt,
    /// By which versions of pipelines each was handled, in order; told to those alone who ask.
    pub versions: Vec<PipelineVersion>,
}

impl Confirmation {
    /// The last sequence.
    pub fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count).saturating_sub(1))
    }

    /// The answer to `sequence`, if it is of this run.
    pub fn receipt(&self, sequence: u64) -> Option<Receipt> {
        let distance = sequence.checked_sub(self.first).filter(|d| *d < u64::from(self.count))?;
        let shifted = |stored: &Stored| Stored { index: stored.index.saturating_add(distance), ..*stored };
        Some(match &self.receipt {
            Receipt::Stored(stored) => Receipt::Stored(shifted(stored)),
            Receipt::Duplicate(stored) => Receipt::Duplicate(stored.as_ref().map(shifted)),
            Receipt::Rejected(rejection) => Receipt::Rejected(rejection.clone()),
        })
    }

    /// Adds the answer to `sequence`, handled by `versions`, to `runs`: to the last run where it continues it.
    pub fn push(runs: &mut Vec<Self>, sequence: u64, receipt: Receipt, versions: Vec<PipelineVersion>) {
        if let Some(last) = runs.last_mut()
            && last.count < u32::MAX
            && last.first.checked_add(u64::from(last.count)) == Some(sequence)
            && last.versions == versions
            && last.is_continued_by(&receipt)
        {
            last.count += 1;
            return;
        }
        runs.push(Self { first: sequence, count: 1, receipt, versions });
    }

    fn is_continued_by(&self, receipt: &Receipt) -> bool {
        let next = |run: &Stored, stored: &Stored| {
            run.entries == stored.entries
                && run.index.checked_add(u64::from(self.count)) == Some(stored.index)
        };
        match (&self.receipt, receipt) {
            (Receipt::Stored(run), Receipt::Stored(stored))
            | (Receipt::Duplicate(Some(run)), Receipt::Duplicate(Some(stored))) => next(run, stored),
            (Receipt::Duplicate(None), Receipt::Duplicate(None)) => true,
            (Receipt::Rejected(run), Receipt::Rejected(rejection)) => run == rejection,
            _ => false,
        }
    }
}

pub(super) fn write(runs: &[Confirmation], out: &mut BytesMut) {
    out.reserve(runs.len() * RUN_BYTES);
    for run in runs {
        let (verdict, entries, index) = match &run.receipt {
            Receipt::Stored(stored) => (STORED, stored.entries, stored.index),
            Receipt::Duplicate(Some(stored)) => (DUPLICATE, stored.entries, stored.index),
            Receipt::Duplicate(None) => (DUPLICATE_UNKNOWN, 0, 0),
            Receipt::Rejected(_) => (REJECTED, 0, 0),
        };
        out.put_u8(verdict);
        out.put_u8(if run.versions.is_empty() { 0 } else { FLAG_VERSIONS });
        out.put_u16_le(entries);
        out.put_u32_le(run.count);
        out.put_u64_le(run.first);
        out.put_u64_le(index);
        if let Receipt::Rejected(rejection) = &run.receipt {
            let start = out.len();
            pack::write(rejection, out);
            let length = (out.len() - start) as u64;
            out[start - 8..start].copy_from_slice(&length.to_le_bytes());
        }
        if !run.versions.is_empty() {
            versions::write(&run.versions, out);
        }
    }
}

pub(super) fn read(mut body: Bytes) -> Result<Vec<Confirmation>, FrameError> {
    let total = body.len();
    let mut runs = Vec::new();
    while body.has_remaining() {
        if body.len() < RUN_BYTES {
            return Err(FrameError::Length { frame: FRAME, length: total });
        }
        let mut head = body.split_to(RUN_BYTES);
        let (verdict, flags) = (head.get_u8(), head.get_u8());
        let (entries, count) = (head.get_u16_le(), head.get_u32_le());
        let (first, index) = (head.get_u64_le(), head.get_u64_le());
        if count == 0 || first.checked_add(u64::from(count) - 1).is_none() {
            return Err(FrameError::Field { frame: FRAME, field: "the count of a run", value: count.into() });
        }
        let receipt = match verdict {
            STORED => Receipt::Stored(Stored { index, entries }),
            DUPLICATE => Receipt::Duplicate(Some(Stored { index, entries })),
            DUPLICATE_UNKNOWN => Receipt::Duplicate(None),
            REJECTED => {
                let length = usize::try_from(index).ok().filter(|length| *length <= body.len());
                let length = length.ok_or(FrameError::Length { frame: FRAME, length: total })?;
                Receipt::Rejected(pack::read(FRAME, &body.split_to(length))?)
            }
            other => {
                return Err(FrameError::Field { frame: FRAME, field: "the verdict", value: other.into() });
            }
        };
        let versions = match flags & FLAG_VERSIONS {
            0 => Vec::new(),
            _ => versions::read(FRAME, &mut body)?,
        };
        runs.push(Confirmation { first, count, receipt, versions });
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, Rejection, VERSIONS_TOLD_MAX};

    fn stored(index: u64, entries: u16) -> Receipt {
        Receipt::Stored(Stored { index, entries })
    }

    #[test]
    fn consecutive_answers_become_one_run() {
        let mut runs = Vec::new();
        for n in 0..100 {
            Confirmation::push(&mut runs, 10 + n, stored(500 + n, 1), Vec::new());
        }
        let run = Confirmation { first: 10, count: 100, receipt: stored(500, 1), versions: Vec::new() };
        assert_eq!(runs, [run]);
        assert_eq!(runs[0].receipt(109), Some(stored(599, 1)));
        assert_eq!(runs[0].receipt(110), None);
    }

    #[test]
    fn a_gap_in_sequence_or_index_or_another_verdict_begins_a_run() {
        let rejected = Receipt::Rejected(Rejection {
            code: ErrorCode::RejectedByStage,
            stage: Some("orders/validate".into()),
            reason: "no order number".into(),
            retry_after_ms: None,
        });
        let mut runs = Vec::new();
        let answers = [(1, stored(7, 1)), (3, stored(8, 1)), (4, stored(10, 1)), (5, stored(11, 2))];
        for (sequence, receipt) in answers {
            Confirmation::push(&mut runs, sequence, receipt, Vec::new());
        }
        Confirmation::push(&mut runs, 6, rejected.clone(), Vec::new());
        Confirmation::push(&mut runs, 7, rejected, Vec::new());
        let counts: Vec<_> = runs.iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(counts, [(1, 1), (3, 1), (4, 1), (5, 1), (6, 2)]);
    }

    fn versions(number: u32) -> Vec<PipelineVersion> {
        vec![PipelineVersion { pipeline: "orders".parse().expect("a name"), number }]
    }

    #[test]
    fn another_version_begins_a_run() {
        let mut runs = Vec::new();
        for (n, number) in [(0, 1), (1, 1), (2, 2)] {
            Confirmation::push(&mut runs, 1 + n, stored(7 + n, 1), versions(number));
        }
        let told: Vec<_> = runs.iter().map(|run| (run.first, run.count, run.versions[0].number)).collect();
        assert_eq!(told, [(1, 2, 1), (3, 1, 2)]);
    }

    #[test]
    fn a_run_without_versions_is_24_bytes_as_it_always_was() {
        let run = |versions| Confirmation { first: 1, count: 1, receipt: stored(7, 1), versions };
        let mut out = BytesMut::new();
        write(&[run(Vec::new())], &mut out);
        assert_eq!((out.len(), out[1]), (RUN_BYTES, 0));
        write(&[run(versions(3))], &mut out);
        let runs = read(out.clone().freeze()).expect("just written");
        assert_eq!(runs, [run(Vec::new()), run(versions(3))]);
        for cut in RUN_BYTES + 1..out.len() {
            assert!(read(out.clone().freeze().slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn no_more_versions_are_taken_than_the_bound() {
        let many = |count| Confirmation {
            first: 1,
            count: 1,
            receipt: stored(7, 1),
            versions: vec![versions(1).remove(0); count],
        };
        let mut out = BytesMut::new();
        write(&[many(VERSIONS_TOLD_MAX + 1)], &mut out);
        assert_eq!(read(out.freeze()).expect("cut to fit"), [many(VERSIONS_TOLD_MAX)]);

        let mut out = BytesMut::new();
        write(&[many(1)], &mut out);
        out.truncate(RUN_BYTES);
        let start = out.len();
        out.put_u32_le(0);
        pack::write(&many(VERSIONS_TOLD_MAX + 1).versions, &mut out);
        let length = u32::try_from(out.len() - start - 4).expect("small");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        assert!(matches!(read(out.freeze()), Err(FrameError::Field { value: 65, .. })));
    }
}
