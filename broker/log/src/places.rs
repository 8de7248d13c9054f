//! Where each record is: the list of segments, the active one's offsets, a few sealed ones' footers.
//!
//! Shared by the writer, which changes it, and the readers. Memory does not follow the length of the log: a
//! sealed segment is an entry in a list, and its footer is read when it is needed and kept in a bounded cache.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::engine::{Damage, Index, ReadError};
use crate::scan::Scan;
use crate::segment::{Sealed, Trailer};

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
    segments: Vec<(u64, Arc<Footed>)>,
    /// The most bytes of offsets that are kept.
    offsets_bytes_max: usize,
}

/// A sealed segment, open, with its footer.
struct Footed {
    file: Arc<dyn DiskFile>,
    /// Where each record starts, and where the last one ends.
    offsets: Vec<u32>,
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

impl Places {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        sealed: VecDeque<Sealed>,
        active: Active,
        next: Index,
        offsets_bytes_max: usize,
    ) -> Self {
        let opened = Opened { segments: Vec::new(), offsets_bytes_max };
        Self { disk, view: Mutex::new(View { sealed, active, next }), opened: Mutex::new(opened) }
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
        let (segment, records) = {
            let view = self.view();
            view.check(first)?;
            if first >= view.active.segment.header.base {
                return Ok(view.active.run(indexes, view.next));
            }
            view.sealed_with(first)
        };
        let footed = self.open(&segment, records)?;
        let spans = spans(&footed.offsets, segment.header.base, segment.header.base + records, indexes);
        Ok(Run { file: Arc::clone(&footed.file), segment, spans })
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
        let id = segment.header.id;
        view.sealed.push_back(segment);
        drop(view);
        offsets.push(end);
        self.opened().keep(id, Arc::new(Footed { file, offsets }));
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
        self.opened().segments.retain(|(id, _)| *id != given_up.header.id);
        Some(given_up)
    }

    /// The sealed segment, open; its footer is made again from its records when it is harmed.
    fn open(&self, segment: &Sealed, records: u64) -> Result<Arc<Footed>, ReadError> {
        if let Some(footed) = self.opened().used(segment.header.id) {
            return Ok(footed);
        }
        let file = self.disk.open(&segment.path).map_err(segment.failure("open"))?;
        let offsets = offsets(&*file, segment).map_err(segment.failure("read"))?;
        if offsets.len() as u64 != records + 1 {
            let known = offsets.len() as u64 - 1;
            return Err(ReadError::Damaged(Damage {
                path: segment.path.clone(),
                offset: offsets.last().copied().unwrap_or(0).into(),
                index: segment.header.base + known,
                what: format!("{known} of the segment's {records} records can be found"),
            }));
        }
        let footed = Arc::new(Footed { file, offsets });
        self.opened().keep(segment.header.id, Arc::clone(&footed));
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

    /// The sealed segment that holds `index`, and how many records it has.
    fn sealed_with(&self, index: Index) -> (Sealed, u64) {
        let after = self.sealed.partition_point(|sealed| sealed.header.base <= index);
        let segment = &self.sealed[after - 1];
        let next = self.sealed.get(after).unwrap_or(&self.active.segment);
        (segment.clone(), next.header.base - segment.header.base)
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
    fn used(&mut self, id: u64) -> Option<Arc<Footed>> {
        let at = self.segments.iter().position(|(opened, _)| *opened == id)?;
        let entry = self.segments.remove(at);
        let footed = Arc::clone(&entry.1);
        self.segments.push(entry);
        Some(footed)
    }

    fn keep(&mut self, id: u64, footed: Arc<Footed>) {
        self.segments.retain(|(opened, _)| *opened != id);
        self.segments.push((id, footed));
        while self.segments.len() > 1
            && (self.segments.len() > OPEN_SEGMENTS_MAX || self.offsets_bytes() > self.offsets_bytes_max)
        {
            self.segments.remove(0);
        }
    }

    fn offsets_bytes(&self) -> usize {
        self.segments.iter().map(|(_, footed)| footed.offsets.len() * size_of::<u32>()).sum()
    }
}

/// The places of those of `indexes`, from the first on, that are in `base..next`.
fn spans(offsets: &[u32], base: Index, next: Index, indexes: &[Index]) -> Vec<Span> {
    let inside = indexes.iter().take_while(|index| (base..next).contains(index));
    inside
        .map(|&index| {
            let at = (index - base) as usize;
            Span { index, start: offsets[at], end: offsets[at + 1] }
        })
        .collect()
}

/// Where each record of a sealed segment starts, and where the last one ends.
fn offsets(file: &dyn DiskFile, segment: &Sealed) -> std::io::Result<Vec<u32>> {
    if let Some(trailer) = Trailer::read(file, &segment.header)?
        && let Some(offsets) = trailer.offsets(file, &segment.header)?
    {
        return Ok(offsets);
    }
    tracing::warn!(path = %segment.path.display(), "a segment's footer is harmed; its records are walked");
    let scan = Scan::new(file, &segment.header).finish()?;
    let mut offsets = scan.offsets;
    offsets.push(scan.offset as u32);
    Ok(offsets)
}
