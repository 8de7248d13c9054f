//! Where traces lie: in sled, because losing them breaks no promise. Bounded in number and bytes: the oldest go.
//!
//! ```text
//! traces     place → the trace in JSON              place: u64 when, in milliseconds · u64 number, big-endian
//! by-id      trace id, 16 bytes · place → nothing
//! by-message u64 index · u16 entry · place → nothing
//! by-pipeline  name · 0 · place → nothing
//! ```
//!
//! An index may name a trace that is gone, after a crash: then there is nothing there.

use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use wharf_protocol::MessageId;

use super::{Later, TRACE_BYTES_MAX, Trace, TraceConfig, TraceFilter, TraceKey, TraceSummary, TraceVerdict};

/// How much of what it read sled keeps in memory.
const SLED_CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// How long a trace may lie in memory before sled has it on the disk.
const FLUSH_MS: u64 = 1000;
/// The most traces that are found at once.
pub(super) const FOUND_MAX: usize = 1000;
/// The excerpt that is left of each payload and header of a trace that is too large.
const CUT_BYTES: usize = 256;
/// The bytes of a place.
const PLACE_BYTES: usize = 16;

/// Why the shelf does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the store of traces does not work: {0}")]
pub(crate) struct ShelfError(String);

/// How long sled may take to end. On damaged files a flush waits for ever, and the end of the process must not wait
/// with it.
pub(super) const SLED_TIME_MAX: Duration = Duration::from_secs(5);

/// The traces that are kept. One thread writes, any may read.
#[derive(Debug)]
pub(super) struct Shelf {
    /// Gone only when the shelf is dropped.
    trees: Option<Trees>,
}

#[derive(Debug)]
pub(super) struct Trees {
    db: sled::Db,
    traces: sled::Tree,
    by_id: sled::Tree,
    by_message: sled::Tree,
    by_pipeline: sled::Tree,
}

/// What is on the shelf, for the one who writes.
#[derive(Debug, Default)]
pub(super) struct Stock {
    count: usize,
    bytes: u64,
    next: u64,
}

impl Shelf {
    /// The shelf in `folder`. One that will not open is moved aside and begun again.
    pub(super) fn open(folder: &Path) -> Result<(Self, Stock), ShelfError> {
        Self::try_open(folder).or_else(|error| {
            let aside = move_aside(folder).map_err(|error| ShelfError(error.to_string()))?;
            tracing::warn!(%error, aside = %aside.display(), "the store of traces did not open and begins anew");
            Self::try_open(folder)
        })
    }

    fn try_open(folder: &Path) -> Result<(Self, Stock), ShelfError> {
        guarded(|| {
            let db = sled::Config::new()
                .path(folder)
                .cache_capacity(SLED_CACHE_BYTES)
                .flush_every_ms(Some(FLUSH_MS))
                .mode(sled::Mode::LowSpace)
                .open()?;
            let tree = |name: &str| db.open_tree(name);
            let trees = Trees {
                traces: tree("traces")?,
                by_id: tree("by-id")?,
                by_message: tree("by-message")?,
                by_pipeline: tree("by-pipeline")?,
                db,
            };
            let shelf = Self { trees: Some(trees) };
            let mut stock = Stock::default();
            for entry in shelf.traces.iter() {
                let (place, trace) = entry?;
                stock.count += 1;
                stock.bytes += trace.len() as u64;
                stock.next = number_of(&place).map_or(stock.next, |number| number + 1);
            }
            Ok((shelf, stock))
        })
    }

    /// Lays a trace down, and lets the oldest go while there is too much.
    pub(super) fn put(
        &self,
        mut trace: Trace,
        config: &TraceConfig,
        stock: &mut Stock,
    ) -> Result<(), ShelfError> {
        let encoded = encode(&mut trace)?;
        let place = place_of(trace.at.0, stock.next);
        stock.next += 1;
        guarded(|| {
            for (tree, key) in self.entries(&trace, place) {
                tree.insert(key, &[])?;
            }
            self.traces.insert(place, encoded.as_slice())?;
            stock.count += 1;
            stock.bytes += encoded.len() as u64;
            self.make_room(config, stock)
        })
    }

    /// Adds to the trace of a message what became of it. Whether there is such a trace.
    pub(super) fn add(
        &self,
        id: MessageId,
        later: Later,
        config: &TraceConfig,
        stock: &mut Stock,
    ) -> Result<bool, ShelfError> {
        let found = guarded(|| {
            for entry in self.by_message.scan_prefix(prefix(&TraceKey::Message(id))).keys() {
                let entry = entry?;
                let Some(place) = entry.last_chunk::<PLACE_BYTES>() else { continue };
                let Some(bytes) = self.traces.get(place)? else { continue };
                let trace = serde_json::from_slice::<Trace>(&bytes).ok();
                // What was sent once more under its id became nothing of its own.
                if let Some(trace) = trace.filter(|trace| trace.verdict != TraceVerdict::Duplicate) {
                    return Ok(Some((*place, bytes.len(), trace)));
                }
            }
            Ok(None)
        })?;
        let Some((place, before, mut trace)) = found else { return Ok(false) };
        trace.add(later);
        let encoded = encode(&mut trace)?;
        guarded(|| {
            for (tree, key) in self.entries(&trace, place) {
                tree.insert(key, &[])?;
            }
            self.traces.insert(place, encoded.as_slice())?;
            stock.bytes = (stock.bytes + encoded.len() as u64).saturating_sub(before as u64);
            self.make_room(config, stock)
        })?;
        Ok(true)
    }

    /// Lets the oldest go while there is too much.
    fn make_room(&self, config: &TraceConfig, stock: &mut Stock) -> sled::Result<()> {
        while stock.count > config.traces_max || stock.bytes > config.bytes_max {
            let Some((place, old)) = self.traces.pop_min()? else { break };
            stock.count = stock.count.saturating_sub(1);
            stock.bytes = stock.bytes.saturating_sub(old.len() as u64);
            let place = <[u8; PLACE_BYTES]>::try_from(&*place).unwrap_or_default();
            if let Ok(old) = serde_json::from_slice::<Trace>(&old) {
                for (tree, key) in self.entries(&old, place) {
                    tree.remove(key)?;
                }
            }
        }
        Ok(())
    }

    /// The keys under which indexes name a trace.
    fn entries(&self, trace: &Trace, place: [u8; PLACE_BYTES]) -> Vec<(&sled::Tree, Vec<u8>)> {
        let key = |prefix: &[u8]| [prefix, &place].concat();
        let mut entries = vec![(&self.by_id, key(&trace.id.to_bytes()))];
        let messages = trace.messages.iter();
        entries.extend(messages.map(|id| (&self.by_message, key(&prefix(&TraceKey::Message(*id))))));
        let pipelines = trace.passes.iter().map(|pass| key(&pipeline_prefix(pass.pipeline.as_str())));
        entries.extend(pipelines.map(|key| (&self.by_pipeline, key)));
        entries
    }

    /// The traces of a key, oldest first; at most [`FOUND_MAX`].
    pub(super) fn find(&self, key: &TraceKey) -> Result<Vec<Trace>, ShelfError> {
        guarded(|| {
            let tree = match key {
                TraceKey::Trace(_) => &self.by_id,
                TraceKey::Message(_) => &self.by_message,
            };
            let mut found = Vec::new();
            for entry in tree.scan_prefix(prefix(key)).keys().take(FOUND_MAX) {
                let entry = entry?;
                let Some(place) = entry.last_chunk::<PLACE_BYTES>() else { continue };
                let Some(trace) = self.traces.get(place)? else { continue };
                found.extend(serde_json::from_slice::<Trace>(&trace).ok());
            }
            Ok(found)
        })
    }

    /// At most `limit` traces that pass `filter`, newest first.
    pub(super) fn list(&self, filter: &TraceFilter, limit: usize) -> Result<Vec<TraceSummary>, ShelfError> {
        let first = place_of(filter.since.map_or(0, |at| at.0), 0);
        let end = filter.until.map_or([0xff; PLACE_BYTES], |at| place_of(at.0, 0));
        let end = filter.after.map_or(end, |after| end.min(after.to_be_bytes()));
        if first >= end {
            return Ok(Vec::new());
        }
        guarded(|| {
            let mut found = Vec::new();
            let places: Box<dyn Iterator<Item = sled::Result<sled::IVec>>> = match &filter.pipeline {
                None => Box::new(self.traces.range(first..end).keys().rev()),
                Some(name) => {
                    let prefix = pipeline_prefix(name.as_str());
                    let range = [&prefix[..], &first].concat()..[&prefix[..], &end].concat();
                    Box::new(self.by_pipeline.range(range).keys().rev())
                }
            };
            for entry in places {
                let entry = entry?;
                let Some(place) = entry.last_chunk::<PLACE_BYTES>() else { continue };
                let Some(trace) = self.traces.get(place)? else { continue };
                let Ok(trace) = serde_json::from_slice::<Trace>(&trace) else { continue };
                if filter.verdict.is_none_or(|verdict| verdict == trace.verdict) {
                    found.push(trace.summary(u128::from_be_bytes(*place)));
                    if found.len() == limit {
                        break;
                    }
                }
            }
            Ok(found)
        })
    }

    pub(super) fn flush(&self) {
        if let Err(error) = guarded(|| self.db.flush()) {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}

impl Deref for Shelf {
    type Target = Trees;

    fn deref(&self) -> &Trees {
        self.trees.as_ref().expect("they go when the shelf does")
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let trees = self.trees.take();
        let (done, waiting) = mpsc::sync_channel::<()>(1);
        let close = move || {
            drop(trees);
            drop(done);
        };
        let closing = std::thread::Builder::new().name("wharf-shelf".to_owned()).spawn(close);
        if closing.is_err() || waiting.recv_timeout(SLED_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the store of traces did not close; the last traces may be lost");
        }
    }
}

/// The trace as it is kept, cut until it fits.
fn encode(trace: &mut Trace) -> Result<Vec<u8>, ShelfError> {
    let json = |trace: &Trace| serde_json::to_vec(trace).map_err(|error| ShelfError(error.to_string()));
    let mut encoded = json(trace)?;
    if encoded.len() > TRACE_BYTES_MAX {
        trace.cut = true;
        trace.given.cut_to(CUT_BYTES);
        let steps = trace.passes.iter_mut().flat_map(|pass| &mut pass.steps);
        steps.for_each(|step| step.cut_to(CUT_BYTES));
        encoded = json(trace)?;
    }
    if encoded.len() > TRACE_BYTES_MAX {
        // What is told outlives what it could be had again with.
        for pass in &mut trace.passes {
            (pass.given, pass.circumstances) = (None, None);
        }
        encoded = json(trace)?;
    }
    while encoded.len() > TRACE_BYTES_MAX {
        let Some(pass) = trace.passes.iter_mut().rev().find(|pass| !pass.steps.is_empty()) else {
            trace.given.headers.clear();
            return json(trace);
        };
        let half = pass.steps.len() / 2;
        pass.steps.truncate(half);
        encoded = json(trace)?;
    }
    Ok(encoded)
}

fn place_of(at_ms: u64, number: u64) -> [u8; PLACE_BYTES] {
    (u128::from(at_ms) << 64 | u128::from(number)).to_be_bytes()
}

fn number_of(place: &[u8]) -> Option<u64> {
    place.last_chunk().map(|number| u64::from_be_bytes(*number))
}

fn prefix(key: &TraceKey) -> Vec<u8> {
    match key {
        TraceKey::Trace(id) => id.to_bytes().to_vec(),
        TraceKey::Message(id) => [&id.index.to_be_bytes()[..], &id.entry.to_be_bytes()].concat(),
    }
}

fn pipeline_prefix(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Does what sled may fail or panic on: its data may be of any shape.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, ShelfError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| ShelfError(error.to_string())),
        Err(_) => Err(ShelfError("sled panicked".to_owned())),
    }
}

/// Out of the way, but not lost to whoever wants to know what happened; only the latest is kept.
fn move_aside(folder: &Path) -> io::Result<PathBuf> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".broken");
    let aside = folder.with_file_name(name);
    if aside.is_dir() {
        std::fs::remove_dir_all(&aside)?;
    } else if aside.exists() {
        std::fs::remove_file(&aside)?;
    }
    std::fs::rename(folder, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use wharf_pipeline::Snapshot;
    use wharf_protocol::{Message, Timestamp};

    use super::super::{Account, Pass, Why};
    use super::*;

    fn trace(at: u64, pipeline: &str) -> Trace {
        let message = Message::new("orders.eu".parse().expect("a topic"), "x".repeat(100));
        let rejected = wharf_protocol::Receipt::Rejected(wharf_protocol::Rejection {
            code: wharf_protocol::ErrorCode::Forbidden,
            stage: None,
            reason: "no".into(),
            retry_after_ms: None,
        });
        let mut trace = Account::begin(Why::Asked, "me", &message, Timestamp(at)).end(&rejected, 0, 0);
        trace.messages = vec![MessageId { index: at, entry: 0 }];
        trace.passes.push(Pass {
            pipeline: pipeline.parse().expect("a name"),
            number: 1,
            on_way_to: None,
            begun_us: 0,
            now: Timestamp(at),
            steps: Vec::new(),
            given: None,
            circumstances: None,
            on_way_from: None,
        });
        trace
    }

    fn config(traces_max: usize, bytes_max: u64) -> TraceConfig {
        TraceConfig { traces_max, bytes_max, ..TraceConfig::default() }
    }

    #[test]
    fn a_trace_is_found_by_its_id_its_message_its_pipeline_and_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let (shelf, mut stock) = Shelf::open(folder.path()).expect("it opens");
        for at in 1..=9 {
            let pipeline = if at % 2 == 0 { "even" } else { "odd" };
            shelf.put(trace(at, pipeline), &config(100, 1 << 20), &mut stock).expect("kept");
        }
        drop(shelf);

        let (shelf, _) = Shelf::open(folder.path()).expect("it opens again");
        let fifth = shelf.find(&TraceKey::Message(MessageId { index: 5, entry: 0 })).expect("it answers");
        assert_eq!(fifth.iter().map(|trace| trace.at.0).collect::<Vec<_>>(), [5]);
        assert_eq!(shelf.find(&TraceKey::Trace(fifth[0].id)).expect("it answers"), fifth);
        let times = |filter: TraceFilter| -> Vec<u64> {
            shelf.list(&filter, 100).expect("it answers").iter().map(|each| each.at.0).collect()
        };
        let even =
            || TraceFilter { pipeline: Some("even".parse().expect("a name")), ..TraceFilter::default() };
        assert_eq!(times(even()), [8, 6, 4, 2]);
        let some = TraceFilter { since: Some(Timestamp(4)), until: Some(Timestamp(8)), ..even() };
        assert_eq!(times(some), [6, 4]);
        let stored = TraceFilter { verdict: Some(TraceVerdict::Stored), ..TraceFilter::default() };
        assert!(times(stored).is_empty());
        let page = shelf.list(&TraceFilter::default(), 2).expect("it answers");
        let rest = TraceFilter { after: Some(page[1].place), ..TraceFilter::default() };
        assert_eq!(times(rest), [7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_large_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let (shelf, mut stock) = Shelf::open(folder.path()).expect("it opens");
        for at in 1..=9 {
            shelf.put(trace(at, "p"), &config(3, 1 << 20), &mut stock).expect("kept");
        }
        let all = |shelf: &Shelf| -> Vec<u64> {
            let found = shelf.list(&TraceFilter::default(), 100).expect("it answers");
            found.iter().map(|each| each.at.0).collect()
        };
        assert_eq!(all(&shelf), [9, 8, 7]);
        assert_eq!((shelf.by_id.len(), shelf.by_message.len(), shelf.by_pipeline.len()), (3, 3, 3));

        drop(shelf);
        let (shelf, mut stock) = Shelf::open(folder.path()).expect("it opens again");
        assert_eq!(stock.count, 3, "counted anew");
        shelf.put(trace(10, "p"), &config(100, stock.bytes / 3 * 2), &mut stock).expect("kept");
        assert_eq!(all(&shelf).len(), 1, "two would be over the bytes");
    }

    #[test]
    fn a_trace_over_its_bound_is_cut_and_says_so() {
        let mut large = trace(1, "p");
        let payload = "y".repeat(4096);
        let message = Message::new("t".parse().expect("a topic"), payload);
        let mut snapshot = Snapshot::of(&message);
        for n in 0..200 {
            let excerpt = snapshot.payload.clone();
            snapshot.headers.insert(format!("h{n}"), excerpt);
        }
        large.given = snapshot;
        let encoded = encode(&mut large).expect("encodes");
        assert!(encoded.len() <= TRACE_BYTES_MAX && large.cut);
        assert_eq!(large.given.payload.bytes, 4096, "what it had is still said");
    }

    #[test]
    fn a_shelf_that_does_not_open_is_moved_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("traces");
        std::fs::write(&path, b"not a folder").expect("written");
        let (shelf, mut stock) = Shelf::open(&path).expect("it begins anew");
        shelf.put(trace(1, "p"), &config(9, 1 << 20), &mut stock).expect("kept");
        assert!(folder.path().join("traces.broken").exists());
    }
}
