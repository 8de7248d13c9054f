//! Reading records back: neighbours together, every checksum checked.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Damage, Index, LogReader, ReadError};
use crate::places::{Places, Run, Span};
use crate::record::Head;

/// The most that is read from the disk at a time, unless a single record is larger.
const BLOCK_BYTES_MAX: u32 = 1 << 20;
/// Records this near to each other are read together, with what lies between.
const GAP_BYTES_MAX: u32 = 4 << 10;

/// Reads a [`LocalLog`](crate::LocalLog) while it is written.
pub(crate) struct Reader {
    pub(crate) places: Arc<Places>,
}

impl LogReader for Reader {
    fn read(&self, indexes: &[Index], out: &mut Vec<Bytes>) -> Result<(), ReadError> {
        out.reserve(indexes.len());
        let before = out.len();
        loop {
            let rest = &indexes[out.len() - before..];
            let Some(&index) = rest.first() else { return Ok(()) };
            let replaced = self.places.replaced();
            let Err(error) = self.read_run(rest, out) else { continue };
            // What was given up since it was found may already be another segment's: not damage.
            match self.places.first() {
                first if index < first => return Err(ReadError::Trimmed { index, first }),
                _ if self.places.replaced() == replaced => return Err(error),
                // Or it moved to a sparse segment meanwhile.
                _ => {}
            }
        }
    }
}

impl Reader {
    /// Reads as many of `indexes`, from the first on, as lie in one segment.
    fn read_run(&self, indexes: &[Index], out: &mut Vec<Bytes>) -> Result<(), ReadError> {
        self.places.run(indexes)?.read(&mut |_, body| out.push(body))
    }
}

/// How many of `spans`, from the first on, are worth one read.
fn neighbours(spans: &[Span]) -> usize {
    let start = spans[0].start;
    let pairs = spans.windows(2).take_while(|pair| {
        let gap = pair[1].start.checked_sub(pair[0].end);
        gap.is_some_and(|gap| gap <= GAP_BYTES_MAX) && pair[1].end - start <= BLOCK_BYTES_MAX
    });
    1 + pairs.count()
}

impl Run {
    /// Hands over head and body of each record, checked.
    pub(crate) fn read(&self, each: &mut dyn FnMut(&Head, Bytes)) -> Result<(), ReadError> {
        let mut rest = &self.spans[..];
        while !rest.is_empty() {
            let (together, after) = rest.split_at(neighbours(rest));
            self.read_together(together, each)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads ascending neighbours with one read.
    fn read_together(&self, spans: &[Span], each: &mut dyn FnMut(&Head, Bytes)) -> Result<(), ReadError> {
        let (first, last) = (spans[0], spans[spans.len() - 1]);
        let mut block = vec![0; (last.end - first.start) as usize];
        let read = self.file.read_at(first.start.into(), &mut block).map_err(self.segment.failure("read"))?;
        block.truncate(read);
        let block = Bytes::from(block);
        for span in spans {
            let from = ((span.start - first.start) as usize).min(block.len());
            let to = ((span.end - first.start) as usize).min(block.len());
            let (head, body) =
                self.record(span.index, &block.slice(from..to)).ok_or_else(|| self.damage(span))?;
            each(&head, body);
        }
        Ok(())
    }

    fn record(&self, index: Index, record: &Bytes) -> Option<(Head, Bytes)> {
        let seed = self.segment.seed();
        let head = Head::parse(record, seed).filter(|head| head.index == index)?;
        head.body(record, seed).map(|body| (head, body))
    }

    fn damage(&self, span: &Span) -> ReadError {
        ReadError::Damaged(Damage {
            path: self.segment.path.clone(),
            offset: span.start.into(),
            index: span.index,
            what: "its checksums do not fit".into(),
        })
    }
}
