//! Where each record is: the list of segments, the active one's offsets, a few sealed ones' footers.
//!
//! Shared by the writer, which changes it, and the readers. Memory does not follow the length of the log: a
//! sealed segment is an entry in a list, and its footer is read when it is needed and kept in a bounded cache.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile};
use crate::engine::{Damage, Index, ReadError};
use crate::scan::Scan;
use crate::segment::{Header, Sealed, Trailer};
use crate::sparse::{self, Table};

/// The most sealed segments that are kept open for reading.
const OPEN_SEGMENTS_MAX: usize = 64;

/// The places of all records of a log.
pub(crate) struct Places {
    disk: Arc<dyn Disk>,
    view: Mutex<View>,
    opened: Mutex<Opened>,
}

struct View {
    sealed: VecDeque<Sealed>,
    active: Active,
    /// Readers see records below this one only.
    next: Index,
    /// How often sealed segments were replaced by a sparse one.
    replaced: u64,
}

/// The segment that is being written.
pub(crate) struct Active {
    pub(crate) segment: Sealed,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where each record starts.
    pub(crate) offsets: Vec<u32>,
    /// Where the last one ends.
    pub(crate) end: u32,
}

/// Sealed segments open for reading, the least recently used first.
struct Opened {
    segments: Vec<(Key, Arc<Footed>)>,
    /// The most bytes of places that are kept.
    offsets_bytes_max: usize,
}

/// What tells a segment's file from all others: its id and its edition.
type Key = (u64, u64);

/// A sealed segment, open, with its footer.
pub(crate) struct Footed {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its records, when some are missing; empty when they are dense.
    indexes: Vec<Index>,
    /// Where each record starts, and where the last one ends.
    offsets: Vec<u32>,
}

/// A sealed segment with what its neighbours tell of it.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) segment: Sealed,
    /// The index after its last one.
    pub(crate) next: Index,
    /// The chain of its last record, as the segment after it goes on.
    pub(crate) chain_after: u64,
}

/// Records of one segment, to be read.
pub(crate) struct Run {
    pub(crate) segment: Sealed,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) spans: Vec<Span>,
}

/// The bytes of one record within its segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) index: Index,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Neighbour {
    /// How many records it holds.
    pub(crate) fn records(&self) -> u64 {
        let dense = self.next - self.segment.header.base;
        self.segment.sparse.map_or(dense, |sparse| sparse.records.into())
    }
}

impl Places {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        sealed: VecDeque<Sealed>,
        active: Active,
        next: Index,
        offsets_bytes_max: usize,
    ) -> Self {
        let opened = Opened { segments: Vec::new(), offsets_bytes_max };
        Self {
            disk,
            view: Mutex::new(View { sealed, active, next, replaced: 0 }),
            opened: Mutex::new(opened),
        }
    }

    /// The first record that is kept.
    pub(crate) fn first(&self) -> Index {
        self.view().first()
    }

    /// How many segments hold records, and the room they take.
    pub(crate) fn size(&self) -> (usize, u64) {
        let view = self.view();
        let segments = view.sealed.iter().chain([&view.active.segment]);
        let bytes = segments.map(|segment| u64::from(segment.header.size)).sum();
        (view.sealed.len() + 1, bytes)
    }

    /// Finds as many of `indexes` (at least one), from the first on, as lie in the same segment.
    pub(crate) fn run(&self, indexes: &[Index]) -> Result<Run, ReadError> {
        let first = indexes[0];
        let found = {
            let view = self.view();
            view.check(first)?;
            if first >= view.active.segment.header.base {
                return Ok(view.active.run(indexes, view.next));
            }
            view.sealed_with(first)
        };
        let footed = self.open(&found)?;
        let spans = footed.spans(&found, indexes);
        if spans.is_empty() {
            return Err(ReadError::Compacted { index: first });
        }
        Ok(Run { file: Arc::clone(&footed.file), segment: found.segment, spans })
    }

    /// How often segments were replaced: a reader that met an error looks again when this has changed.
    pub(crate) fn replaced(&self) -> u64 {
        self.view().replaced
    }

    /// Sealed segments, from the one that begins at `from` or after it on, that end below `below` and hold at most
    /// `records_max` records together, but at least one segment.
    pub(crate) fn window(&self, from: Index, below: Index, records_max: u64) -> Vec<Neighbour> {
        let view = self.view();
        let first = view.sealed.partition_point(|sealed| sealed.header.base < from);
        let mut records = 0;
        let neighbours = (first..view.sealed.len()).map(|at| view.neighbour(at));
        let fits = |neighbour: &Neighbour| {
            let alone = records == 0;
            records += neighbour.records();
            neighbour.next <= below && (alone || records <= records_max)
        };
        neighbours.take_while(fits).collect()
    }

    /// Puts `sparse` in the place of the segments that it stands for.
    pub(crate) fn replace(&self, sparse: Sealed) {
        let mut view = self.view();
        let from = view.sealed.partition_point(|sealed| sealed.header.id < sparse.header.id);
        let to = view.sealed.partition_point(|sealed| sealed.header.id <= sparse.last_id());
        let replaced: Vec<Key> = view.sealed.range(from..to).map(Sealed::key).collect();
        view.sealed.drain(from..to);
        view.sealed.insert(from, sparse);
        view.replaced += 1;
        drop(view);
        self.opened().segments.retain(|(key, _)| !replaced.contains(key));
    }

    /// Adds the places of records just written, not yet for readers.
    pub(crate) fn written(&self, offsets: impl Iterator<Item = u32>, end: u32) {
        let mut view = self.view();
        view.active.offsets.extend(offsets);
        view.active.end = end;
    }

    /// Lets readers see all records below `next`.
    pub(crate) fn publish(&self, next: Index) {
        self.view().next = next;
    }

    /// The active segment's offsets, for its footer.
    pub(crate) fn active_offsets(&self) -> Vec<u32> {
        self.view().active.offsets.clone()
    }

    /// Makes `active` the segment that is written; the one before is sealed, and stays open for readers.
    pub(crate) fn roll(&self, active: Active) {
        let mut view = self.view();
        let Active { segment, file, mut offsets, end } = std::mem::replace(&mut view.active, active);
        let key = segment.key();
        view.sealed.push_back(segment);
        drop(view);
        offsets.push(end);
        self.opened().keep(key, Arc::new(Footed { file, indexes: Vec::new(), offsets }));
    }

    /// Takes the first segment off the list when all its records are below `below`.
    pub(crate) fn give_up(&self, below: Index) -> Option<Sealed> {
        let mut view = self.view();
        let second = view.sealed.get(1).unwrap_or(&view.active.segment);
        if second.header.base > below {
            return None;
        }
        let given_up = view.sealed.pop_front()?;
        drop(view);
        self.opened().segments.retain(|(key, _)| *key != given_up.key());
        Some(given_up)
    }

    /// The sealed segment, open; its footer is made again from its records when it is harmed.
    pub(crate) fn open(&self, found: &Neighbour) -> Result<Arc<Footed>, ReadError> {
        let segment = &found.segment;
        if let Some(footed) = self.opened().used(segment.key()) {
            return Ok(footed);
        }
        let file = self.disk.open(&segment.path).map_err(segment.failure("open"))?;
        let footed = Footed::read(file, segment).map_err(segment.failure("read"))?;
        let (known, records) = (footed.offsets.len() as u64 - 1, found.records());
        if known != records {
            return Err(ReadError::Damaged(Damage {
                path: segment.path.clone(),
                offset: footed.offsets.last().copied().unwrap_or(0).into(),
                index: footed.indexes.last().map_or(segment.header.base + known, |last| last + 1),
                what: format!("{known} of the segment's {records} records can be found"),
            }));
        }
        let footed = Arc::new(footed);
        self.opened().keep(segment.key(), Arc::clone(&footed));
        Ok(footed)
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn first(&self) -> Index {
        self.sealed.front().unwrap_or(&self.active.segment).header.base
    }

    fn check(&self, index: Index) -> Result<(), ReadError> {
        let first = self.first();
        if index < first {
            return Err(ReadError::Trimmed { index, first });
        }
        if index >= self.next {
            return Err(ReadError::Unknown { index, next: self.next });
        }
        Ok(())
    }

    /// The sealed segment that holds `index`, or held it.
    fn sealed_with(&self, index: Index) -> Neighbour {
        let after = self.sealed.partition_point(|sealed| sealed.header.base <= index);
        self.neighbour(after - 1)
    }

    fn neighbour(&self, at: usize) -> Neighbour {
        let after: &Header = &self.sealed.get(at + 1).unwrap_or(&self.active.segment).header;
        Neighbour { segment: self.sealed[at].clone(), next: after.base, chain_after: after.chain }
    }
}

impl Sealed {
    fn key(&self) -> Key {
        (self.header.id, self.edition())
    }
}

impl Footed {
    fn read(file: Arc<dyn DiskFile>, segment: &Sealed) -> std::io::Result<Self> {
        let Some(expected) = &segment.sparse else {
            let offsets = offsets(&*file, segment)?;
            return Ok(Self { file, indexes: Vec::new(), offsets });
        };
        // The name may be a later edition's by now: then it is not what the caller looks for.
        let found = sparse::sealed(&*file, segment.header.identity, &segment.path)?;
        if !found.is_some_and(|found| found.header == segment.header && found.sparse == segment.sparse) {
            return Ok(Self { file, indexes: Vec::new(), offsets: vec![sparse::HEADER_BYTES as u32] });
        }
        let Table { indexes, mut offsets } = Table::read(&*file, segment, expected)?;
        offsets.push(expected.end);
        Ok(Self { file, indexes, offsets })
    }

    /// The places of those of `indexes`, from the first on, that the segment holds.
    pub(crate) fn spans(&self, found: &Neighbour, indexes: &[Index]) -> Vec<Span> {
        let inside = found.segment.header.base..found.next;
        let place = |index: Index| match found.segment.sparse {
            None => Some((index - inside.start) as usize),
            Some(_) => self.indexes.binary_search(&index).ok(),
        };
        let inside = indexes.iter().take_while(|index| inside.contains(index));
        inside
            .map_while(|&index| {
                let at = place(index)?;
                Some(Span { index, start: self.offsets[at], end: self.offsets[at + 1] })
            })
            .collect()
    }

    fn places_bytes(&self) -> usize {
        size_of_val(&self.offsets[..]) + size_of_val(&self.indexes[..])
    }
}

impl Active {
    fn run(&self, indexes: &[Index], next: Index) -> Run {
        let base = self.segment.header.base;
        let mut spans = Vec::with_capacity(indexes.len());
        for &index in indexes.iter().take_while(|index| (base..next).contains(index)) {
            let at = (index - base) as usize;
            let end = self.offsets.get(at + 1).copied().unwrap_or(self.end);
            spans.push(Span { index, start: self.offsets[at], end });
        }
        Run { segment: self.segment.clone(), file: Arc::clone(&self.file), spans }
    }
}

impl Opened {
    fn used(&mut self, key: Key) -> Option<Arc<Footed>> {
        let at = self.segments.iter().position(|(opened, _)| *opened == key)?;
        let entry = self.segments.remove(at);
        let footed = Arc::clone(&entry.1);
        self.segments.push(entry);
        Some(footed)
    }

    fn keep(&mut self, key: Key, footed: Arc<Footed>) {
        self.segments.retain(|(opened, _)| *opened != key);
        self.segments.push((key, footed));
        while self.segments.len() > 1
            && (self.segments.len() > OPEN_SEGMENTS_MAX || self.offsets_bytes() > self.offsets_bytes_max)
        {
            self.segments.remove(0);
        }
    }

    fn offsets_bytes(&self) -> usize {
        self.segments.iter().map(|(_, footed)| footed.places_bytes()).sum()
    }
}

/// Where each record of a dense sealed segment starts, and where the last one ends.
fn offsets(file: &dyn DiskFile, segment: &Sealed) -> std::io::Result<Vec<u32>> {
    if let Some(trailer) = Trailer::read(file, &segment.header)?
        && let Some(offsets) = trailer.offsets(file, &segment.header)?
    {
        return Ok(offsets);
    }
    tracing::warn!(path = %segment.path.display(), "a segment's footer is harmed; its records are walked");
    let scan = Scan::new(file, segment).finish()?;
    let mut offsets = scan.offsets;
    offsets.push(scan.offset as u32);
    Ok(offsets)
}
