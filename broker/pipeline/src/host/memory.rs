//! How much linear memory an instance takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use wasmtime::{ResourceLimiter, Result};

use crate::engine::TABLE_ELEMENTS_MAX;

/// The memory of one instance, over all its linear memories.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes_max: usize,
    pub(crate) bytes: usize,
    pub(crate) peak_bytes: usize,
    /// Whether more was asked for than allowed.
    pub(crate) refused: bool,
    /// What the guests of the engine have together.
    all: Arc<AtomicUsize>,
}

impl Memory {
    /// At most `bytes_max`; counted among `all` that guests have.
    pub(super) fn new(bytes_max: usize, all: &Arc<AtomicUsize>) -> Self {
        Self { bytes_max, all: Arc::clone(all), ..Self::default() }
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.all.fetch_add(bytes - self.bytes, Relaxed);
        self.bytes = bytes;
        self.peak_bytes = self.peak_bytes.max(bytes);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
