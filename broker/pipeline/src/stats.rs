//! What a stage counts, for metrics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;

use crate::{BreakerView, Fault, Kind, PluginRef};

/// The upper edges of the buckets of [`StageStats::call_time`], in microseconds; one more bucket has no edge.
pub const CALL_TIME_EDGES_US: [u64; 11] = [10, 25, 50, 100, 250, 500, 1_000, 5_000, 10_000, 50_000, 100_000];

/// What a stage has done since its pipeline version was prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStats {
    /// The stage.
    pub stage: Name,
    /// Its plugin.
    pub plugin: PluginRef,
    /// As what it is used.
    pub kind: Kind,
    /// Guest calls.
    pub calls: u64,
    /// Messages that came to it: as many as there are verdicts.
    pub messages: u64,
    /// Messages by what it said of them.
    pub verdicts: Verdicts,
    /// Time in guest calls.
    pub busy: Duration,
    /// Time in which its instances were made.
    pub starting: Duration,
    /// Guest calls by duration: one count for each of [`CALL_TIME_EDGES_US`], and one for those above.
    pub call_time: [u64; CALL_TIME_EDGES_US.len() + 1],
    /// Instances made.
    pub instances: u64,
    /// Log lines over the limit, which were dropped.
    pub log_lines_dropped: u64,
    /// Whether it is called at all, and why not.
    pub breaker: BreakerView,
    /// Messages that it broke on, by how; none that is zero.
    pub faults: BTreeMap<String, u64>,
    /// The plugin's own counters.
    pub counters: BTreeMap<String, u64>,
}

/// Messages by what became of them at a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Accepted, passed or kept as they were.
    pub passed: u64,
    /// Changed, or made into others.
    pub changed: u64,
    /// Sent to declared outputs.
    pub routed: u64,
    /// Dropped on purpose.
    pub dropped: u64,
    /// Refused.
    pub rejected: u64,
    /// To be tried again.
    pub retried: u64,
    /// The plugin broke.
    pub faults: u64,
}

/// The counters behind [`StageStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) passed: AtomicU64,
    pub(crate) changed: AtomicU64,
    pub(crate) routed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) busy_ns: AtomicU64,
    pub(crate) starting_ns: AtomicU64,
    pub(crate) instances: AtomicU64,
    pub(crate) log_lines_dropped: AtomicU64,
    /// In the order of [`Fault::ALL`].
    faulted: [AtomicU64; Fault::ALL.len()],
    call_time: [AtomicU64; CALL_TIME_EDGES_US.len() + 1],
    own: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub(crate) fn called(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = CALL_TIME_EDGES_US.partition_point(|edge| *edge < us);
        self.calls.fetch_add(1, Relaxed);
        self.busy_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.call_time[bucket].fetch_add(1, Relaxed);
    }

    /// So many messages met this fault.
    pub(crate) fn faulted(&self, fault: Fault, messages: usize) {
        self.faults.fetch_add(messages as u64, Relaxed);
        self.faulted[fault as usize].fetch_add(messages as u64, Relaxed);
    }

    /// So many messages came that the plugin was not asked about.
    pub(crate) fn not_asked(&self, fault: Fault, messages: usize) {
        self.messages.fetch_add(messages as u64, Relaxed);
        self.faulted(fault, messages);
    }

    fn faults_by_code(&self) -> BTreeMap<String, u64> {
        let counts = Fault::ALL.into_iter().map(|fault| {
            let count = self.faulted[fault as usize].load(Relaxed);
            (fault.code().to_owned(), count)
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// An instance was made and configured.
    pub(crate) fn started(&self, took: Duration) {
        self.instances.fetch_add(1, Relaxed);
        self.starting_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Adds to the plugin's own counters; a name beyond the first `names_max` is not taken in.
    pub(crate) fn add_own(&self, added: &BTreeMap<String, u64>, names_max: usize) {
        let mut own = self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, by) in added {
            if let Some(value) = own.get_mut(name) {
                *value = value.wrapping_add(*by);
            } else if own.len() < names_max {
                own.insert(name.clone(), *by);
            }
        }
    }

    pub(crate) fn read(
        &self,
        stage: Name,
        plugin: PluginRef,
        kind: Kind,
        breaker: BreakerView,
    ) -> StageStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        StageStats {
            stage,
            plugin,
            kind,
            calls: read(&self.calls),
            messages: read(&self.messages),
            verdicts: Verdicts {
                passed: read(&self.passed),
                changed: read(&self.changed),
                routed: read(&self.routed),
                dropped: read(&self.dropped),
                rejected: read(&self.rejected),
                retried: read(&self.retried),
                faults: read(&self.faults),
            },
            busy: Duration::from_nanos(read(&self.busy_ns)),
            starting: Duration::from_nanos(read(&self.starting_ns)),
            call_time: std::array::from_fn(|i| read(&self.call_time[i])),
            instances: read(&self.instances),
            log_lines_dropped: read(&self.log_lines_dropped),
            breaker,
            faults: self.faults_by_code(),
            counters: self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        }
    }
}
