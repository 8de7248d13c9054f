//! The log on this machine's disk: one write and one sync a batch, a new segment when one is full.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::batch::Batch;
use crate::compaction::{Compacted, Compaction, RECORDS_MAX, Reclaimed, Stop};
use crate::disk::{Disk, DiskFile, FileSystem};
use crate::engine::{
    AppendError, CompactError, Durability, Epoch, Failure, Index, LogEngine, LogReader, SnapshotError,
    TrimError,
};
use crate::folder::Folder;
use crate::places::{Active, Places};
use crate::reader::Reader;
use crate::recovery::{self, OpenError, Replay, ReplayError};
use crate::seeded::{self, Fault};
use crate::segment::{Footer, HEADER_BYTES, Header, Sealed, body_bytes_max, records_end_max};
use crate::snapshot::{self, Snapshot, Written};
use crate::spares::{Preparation, Spares};
use crate::stats::Stats;

/// The sizes that a segment may have: offsets in it are 32 bits wide.
const SEGMENT_BYTES: std::ops::RangeInclusive<u32> = 512..=1 << 30;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The size of a new segment, in bytes. Segments that exist keep theirs.
    pub segment_bytes: u32,
    /// The most spare segments that are kept; what is trimmed beyond them is removed.
    pub spares_max: usize,
    /// Prepare the next segment on a thread of its own, before it is needed.
    pub prepare_ahead: bool,
    /// The most memory for the places of records in sealed segments, in bytes.
    pub places_bytes_max: usize,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            spares_max: 4,
            prepare_ahead: true,
            places_bytes_max: 8 << 20,
            disk: Arc::new(FileSystem),
        }
    }
}

/// A log in a folder of this machine, owned by this process while it is open.
pub struct LocalLog {
    // Dropped first: its thread still uses the folder, whose lock goes last.
    spares: Spares,
    places: Arc<Places>,
    writing: Writing,
    /// Spares for segments that the batch at hand needs.
    taken: VecDeque<PathBuf>,
    segment_bytes: u32,
    next: Index,
    /// The last record that survives a power cut.
    durable: Index,
    /// The chain of the last record.
    chain: u64,
    /// Durable snapshots, oldest first.
    snapshots: Vec<Index>,
    /// Where the part of a compaction that is under way begins.
    compacting: Option<Index>,
    /// Where the next part of the pass begins.
    pass: Index,
    /// The write or sync after which nothing more is written.
    failure: Option<Arc<Failure>>,
    stats: Stats,
    folder: Arc<Folder>,
}

/// The end of the active segment.
struct Writing {
    segment: Sealed,
    file: Arc<dyn DiskFile>,
    end: u64,
    records: u64,
    /// How often it was synced since it was begun or opened.
    syncs: u64,
}

impl LocalLog {
    /// Opens the log in `dir`, or makes an empty one, and hands over what is in it.
    ///
    /// `replay` gets the newest good snapshot, if there is one, and each record after it. When this returns,
    /// all of it is durable.
    ///
    /// # Errors
    /// [`OpenError`]; a log that is damaged is left as it was found.
    pub fn open(
        dir: &Path,
        options: Options,
        replay: &mut dyn FnMut(Replay<'_>) -> Result<(), ReplayError>,
    ) -> Result<Self, OpenError> {
        let Options { segment_bytes, spares_max, prepare_ahead, places_bytes_max, disk } = options;
        if !SEGMENT_BYTES.contains(&segment_bytes) {
            let (min, max) = SEGMENT_BYTES.into_inner();
            let what = format!("a segment has {min} to {max} bytes, not {segment_bytes}");
            return Err(OpenError::Options(what));
        }
        let folder = Folder::claim(Arc::clone(&disk), dir)?;
        let found = recovery::recover(&folder, segment_bytes, spares_max, replay)?;
        let spares =
            Spares::new(Arc::clone(&disk), dir, segment_bytes, spares_max, prepare_ahead, &found.spares);
        let active = match found.active {
            Some(active) => active,
            None => {
                let header = Header {
                    identity: folder.identity,
                    id: found.next_id,
                    size: segment_bytes,
                    base: found.next,
                    chain: found.chain,
                };
                begin_segment(&folder, &spares.take()?, header)?
            }
        };
        let writing = Writing {
            segment: active.segment.clone(),
            file: Arc::clone(&active.file),
            end: active.end.into(),
            records: active.offsets.len() as u64,
            syncs: 0,
        };
        Ok(Self {
            spares,
            places: Arc::new(Places::new(disk, found.sealed, active, found.next, places_bytes_max)),
            writing,
            taken: VecDeque::new(),
            segment_bytes,
            next: found.next,
            durable: found.next - 1,
            chain: found.chain,
            snapshots: found.snapshots,
            compacting: None,
            pass: 0,
            failure: None,
            stats: Stats::default(),
            folder: Arc::new(folder),
        })
    }

    /// The largest body that a record may have, in bytes.
    pub fn body_bytes_max(&self) -> usize {
        body_bytes_max(self.segment_bytes)
    }

    /// The last record that the newest durable snapshot covers; 0 when there is none.
    pub fn snapshot_at(&self) -> Index {
        self.snapshots.last().copied().unwrap_or(0)
    }

    /// The first record that may be replayed again: the older generation is there to fall back on.
    fn replayable(&self) -> Index {
        self.snapshots.iter().rev().nth(snapshot::GENERATIONS - 1).copied().unwrap_or(0) + 1
    }

    /// Takes the spares that the batch needs, so that a full disk is met before anything is written.
    fn make_room(&mut self, batch: &Batch) -> Result<(), AppendError> {
        let needed = self.segments_needed(batch);
        while self.taken.len() < needed {
            match self.spares.take() {
                Ok(spare) => self.taken.push_back(spare),
                Err(failure) if failure.is_full() => return Err(AppendError::Full(failure)),
                Err(failure) => return Err(self.fail(failure)),
            }
        }
        Ok(())
    }

    /// How many new segments the batch reaches into.
    fn segments_needed(&self, batch: &Batch) -> usize {
        let whole = self.writing.end + batch.bytes() as u64;
        if whole <= self.writing.end_max(batch.len() as u64) {
            return 0;
        }
        let (mut segments, mut end, mut records) = (0, self.writing.end, self.writing.records);
        let mut size = self.writing.segment.header.size;
        for position in 0..batch.len() {
            let stored = batch.stored_bytes(position) as u64;
            if end + stored > records_end_max(size, records + 1) {
                segments += 1;
                (end, records, size) = (HEADER_BYTES, 0, self.segment_bytes);
            }
            end += stored;
            records += 1;
        }
        segments
    }

    /// Writes the batch, rolling to the next segment where a record does not fit.
    fn write(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let mut from = 0;
        while from < batch.len() {
            let to = from + self.writing.fitting(batch, from);
            if to > from {
                self.write_part(batch, from..to)?;
            }
            if to < batch.len() {
                self.roll()?;
            }
            from = to;
        }
        Ok(())
    }

    /// Writes records that fit the active segment, with one write.
    fn write_part(&mut self, batch: &mut Batch, part: Range<usize>) -> Result<(), Failure> {
        let Writing { segment, file, end, records, .. } = &mut self.writing;
        let seed = segment.header.seed();
        let (bytes, chain) = batch.seal(part.clone(), self.next, self.durable, self.chain, seed);
        file.write_at(*end, bytes).map_err(segment.failure("write records to"))?;

        let mut start = *end as u32;
        let written = bytes.len() as u64;
        *end += written;
        *records += part.len() as u64;
        self.chain = chain;
        self.next += part.len() as u64;
        self.stats.records_appended += part.len() as u64;
        self.stats.bytes_appended += written;
        let starts = part.map(|position| {
            let this = start;
            start += batch.stored_bytes(position) as u32;
            this
        });
        self.places.written(starts, *end as u32);
        Ok(())
    }

    /// Seals the active segment and begins the next one, which is durably empty when this returns.
    fn roll(&mut self) -> Result<(), Failure> {
        let Writing { segment, file, end, .. } = &self.writing;
        let offsets = self.places.active_offsets();
        let footer = Footer { offsets: &offsets, end: *end, durable: self.durable, chain: self.chain };
        footer.write(&**file, &segment.header).map_err(segment.failure("write footer to"))?;
        self.sync_records()?;

        let header = Header {
            id: self.writing.segment.header.id + 1,
            size: self.segment_bytes,
            base: self.next,
            chain: self.chain,
            ..self.writing.segment.header
        };
        let spare =
            self.taken.pop_front().expect("the spares that a batch needs are taken before it is written");
        let active = begin_segment(&self.folder, &spare, header)?;
        self.writing = Writing {
            segment: active.segment.clone(),
            file: Arc::clone(&active.file),
            end: active.end.into(),
            records: 0,
            syncs: 0,
        };
        self.places.roll(active);
        Ok(())
    }

    /// Makes everything written durable.
    fn sync_records(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        if !seeded::is(Fault::FsyncSkipped) {
            self.writing.file.sync().map_err(self.writing.segment.failure("sync"))?;
        }
        self.writing.syncs += 1;
        self.stats.last_sync = begun.elapsed();
        self.stats.syncs.record(self.stats.last_sync);
        self.durable = self.next - 1;
        Ok(())
    }

    fn usable(&self) -> Result<(), Arc<Failure>> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(Arc::clone(failure)))
    }

    /// Takes no more records from now on.
    fn stop(&mut self, failure: Failure) -> Arc<Failure> {
        if seeded::is(Fault::FailedSyncRetried) {
            return Arc::new(failure);
        }
        tracing::error!(%failure, error = %failure.source, "the log stops");
        Arc::clone(self.failure.insert(Arc::new(failure)))
    }

    fn fail(&mut self, failure: Failure) -> AppendError {
        AppendError::Failed(self.stop(failure))
    }
}

impl LogEngine for LocalLog {
    fn claim(&mut self) -> Result<Epoch, AppendError> {
        // The folder's lock keeps every other owner out already.
        self.usable().map_err(AppendError::Failed)?;
        Ok(Epoch(self.next))
    }

    fn next(&self) -> Index {
        self.next
    }

    fn append(
        &mut self,
        expected: Index,
        batch: &mut Batch,
        durability: Durability,
    ) -> Result<Range<Index>, AppendError> {
        self.usable().map_err(AppendError::Failed)?;
        if expected != self.next {
            return Err(AppendError::Conflict { expected, next: self.next });
        }
        let (bytes, max) = (batch.body_bytes_max(), self.body_bytes_max());
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        if batch.is_empty() {
            return Ok(expected..expected);
        }
        self.make_room(batch)?;
        self.write(batch).map_err(|failure| self.fail(failure))?;
        if durability == Durability::Fsync {
            self.sync_records().map_err(|failure| self.fail(failure))?;
        }
        self.places.publish(self.next);
        self.stats.batches_appended += 1;
        batch.clear();
        if self.writing.end > u64::from(self.writing.segment.header.size) / 2 {
            self.spares.want(Preparation::after(self.writing.end, self.writing.syncs));
        }
        Ok(expected..self.next)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.usable().map_err(AppendError::Failed)?;
        if self.durable + 1 < self.next {
            self.sync_records().map_err(|failure| self.fail(failure))?;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(Reader { places: Arc::clone(&self.places) })
    }

    fn trim(&mut self, below: Index) -> Result<Index, TrimError> {
        self.usable().map_err(TrimError::Failed)?;
        // What is being copied is given up by who copies it.
        let below = below.min(self.replayable()).min(self.compacting.unwrap_or(Index::MAX));
        while let Some(segment) = self.places.give_up(below) {
            let given = self.spares.returns().take(&[segment]);
            // Going on after a failure could leave a gap in the middle of the log.
            given.map_err(|failure| TrimError::Failed(self.stop(failure)))?;
        }
        Ok(self.places.first())
    }

    fn begin_snapshot(&mut self, at: Index) -> Result<Option<Snapshot>, SnapshotError> {
        self.usable().map_err(SnapshotError::Stopped)?;
        if at >= self.next {
            return Err(SnapshotError::Ahead { at, next: self.next });
        }
        if at <= self.snapshot_at() {
            return Ok(None);
        }
        if self.durable < at {
            self.sync_records().map_err(|failure| SnapshotError::Stopped(self.stop(failure)))?;
        }
        Ok(Some(Snapshot { folder: Arc::clone(&self.folder), at }))
    }

    fn snapshot_written(&mut self, written: Written) -> Result<(), SnapshotError> {
        written.outcome?;
        if written.at > self.snapshot_at() {
            self.snapshots.push(written.at);
        }
        while self.snapshots.len() > snapshot::GENERATIONS {
            let old = self.folder.snapshot(self.snapshots.remove(0));
            if let Err(error) = self.folder.disk.remove(&old) {
                tracing::warn!(path = %old.display(), %error, "cannot remove an old snapshot");
            }
        }
        Ok(())
    }

    fn compaction(
        &mut self,
        live: &mut dyn FnMut(Range<Index>) -> Vec<Index>,
    ) -> Result<Option<Compaction>, AppendError> {
        self.usable().map_err(AppendError::Failed)?;
        if self.compacting.is_some() {
            return Ok(None);
        }
        let window = self.places.window(self.pass, self.replayable(), RECORDS_MAX);
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            self.pass = 0;
            return Ok(None);
        };
        self.sync()?;
        let range = first.segment.header.base..last.next;
        (self.compacting, self.pass) = (Some(range.start), range.end);
        let mut live = live(range.clone());
        live.sort_unstable();
        live.dedup();
        live.retain(|index| range.contains(index));
        Ok(Some(Compaction {
            folder: Arc::clone(&self.folder),
            places: Arc::clone(&self.places),
            returns: self.spares.returns(),
            segment_bytes: self.segment_bytes.into(),
            window,
            live,
        }))
    }

    fn compacted(&mut self, done: Compacted) -> Result<Reclaimed, CompactError> {
        self.compacting = None;
        let stop = match done.outcome {
            Ok(()) => return Ok(done.reclaimed),
            Err(stop) => stop,
        };
        self.pass = 0;
        Err(match stop {
            Stop::Unchanged(error) => error,
            Stop::Unknown(failure) => CompactError::Stopped(self.stop(failure)),
        })
    }

    fn stats(&self) -> Stats {
        let (segments, segment_bytes) = self.places.size();
        let spares = self.spares.len() + self.taken.len();
        Stats {
            first: self.places.first(),
            next: self.next,
            durable: self.durable,
            segments,
            snapshots: self.snapshots.len(),
            spares,
            bytes: segment_bytes + spares as u64 * u64::from(self.segment_bytes),
            ..self.stats.clone()
        }
    }
}

impl fmt::Debug for LocalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLog")
            .field("dir", &self.folder.dir)
            .field("next", &self.next)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Writing {
    /// Where records may end when `more` of them are added.
    fn end_max(&self, more: u64) -> u64 {
        records_end_max(self.segment.header.size, self.records + more)
    }

    /// How many of the batch's records, from the one at `from` on, fit the segment.
    fn fitting(&self, batch: &Batch, from: usize) -> usize {
        if from == 0 && self.end + batch.bytes() as u64 <= self.end_max(batch.len() as u64) {
            return batch.len();
        }
        let mut end = self.end;
        let fits = |position: &usize| {
            end += batch.stored_bytes(*position) as u64;
            end <= self.end_max((position - from + 1) as u64)
        };
        (from..batch.len()).take_while(fits).count()
    }
}

/// Turns a spare into the segment that `header` describes. Name and header are durable when this returns.
fn begin_segment(folder: &Folder, spare: &Path, header: Header) -> Result<Active, Failure> {
    let segment = Sealed::dense(header, folder.segment(header.id));
    folder.disk.rename(spare, &segment.path).map_err(segment.failure("rename a spare to"))?;
    folder.sync()?;
    let file = folder.disk.open(&segment.path).map_err(segment.failure("open"))?;
    file.write_at(0, &header.encode()).map_err(segment.failure("write header to"))?;
    file.sync().map_err(segment.failure("sync"))?;
    Ok(Active { segment, file, offsets: Vec::new(), end: HEADER_BYTES as u32 })
}
