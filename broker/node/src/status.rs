//! A node at a glance, and in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wharf_protocol::Receipt;

use crate::view::{LogView, Metrics, PrincipalView, PublishCounts, Status};
use crate::{Action, Node, NodeError, Principal};

/// Counts of publishes since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    rejected: AtomicU64,
    unrouted: AtomicU64,
}

impl Counts {
    /// A publisher is told this.
    pub(crate) fn told(&self, receipt: &Receipt) {
        let count = match receipt {
            Receipt::Stored(_) => &self.accepted,
            Receipt::Duplicate(_) => &self.duplicates,
            Receipt::Rejected(_) => &self.rejected,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unrouted(&self) {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> PublishCounts {
        PublishCounts {
            accepted: self.accepted.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            unrouted: self.unrouted.load(Ordering::Relaxed),
        }
    }
}

impl Node {
    /// The node at a glance.
    ///
    /// # Errors
    /// Not allowed; the node is stopping.
    pub async fn status(&self, who: &Principal) -> Result<Status, NodeError> {
        who.check(Action::Administer)?;
        let queues = self.queue_views().await?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at(),
            data: self.config().data.clone(),
            queues: queues.len() as u64,
            messages: queues.iter().map(|queue| queue.ready + queue.leased + queue.delayed).sum(),
            alarm: self.alarms().raised(),
            principals: self.principal_views().await?,
            log: self.log_view().await?,
        })
    }

    /// Everything that metrics show.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn metrics(&self) -> Result<Metrics, NodeError> {
        let (mut pipelines, mut cpu, mut broken) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, account) in self.pipelines_in_use().accounts().await {
            broken.insert(name.clone(), account.is_broken);
            pipelines.insert(name.clone(), account.stages);
            cpu.insert(name, account.cpu);
        }
        Ok(Metrics {
            queues: self.queue_views().await?,
            streams: self.stream_loads().await?,
            pipelines,
            cpu,
            broken,
            trials: self.pipelines_in_use().trial_views().await,
            log: self.log_view().await?,
            publishes: self.counts().read(),
            principals: self.principal_views().await?,
            traces: self.tracing().counts(),
            alarm: self.alarms().raised().is_some(),
        })
    }

    /// Whether publishing is possible now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn ready(&self) -> Result<(), String> {
        match self.shard().failure().or_else(|| self.alarms().raised()) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    async fn principal_views(&self) -> Result<Vec<PrincipalView>, NodeError> {
        let bounded = |principal: &&Principal| principal.quota().stored_bytes.is_some();
        let owners: Vec<_> =
            self.access().principals().iter().filter(bounded).map(|each| each.name().to_owned()).collect();
        let stored = self.shard().query(move |state, _| {
            let held = owners.into_iter().filter_map(|owner| Some((state.stored_bytes(&owner)?, owner)));
            held.map(|(bytes, owner)| (owner, bytes)).collect::<BTreeMap<_, _>>()
        });
        let (stored, topology) = (stored.await?, self.shard().topology().clone());
        let view = |principal: &Principal| PrincipalView {
            name: principal.name().to_owned(),
            connections: principal.usage().connections(),
            waits: principal.usage().waits(),
            queues: topology.owned(principal.name()) as u64,
            stored_bytes: stored.get(principal.name()).copied(),
        };
        Ok(self.access().principals().iter().map(view).collect())
    }

    async fn log_view(&self) -> Result<LogView, NodeError> {
        Ok(self.shard().query(|state, log| log_view(state.applied(), log)).await?)
    }
}

fn log_view(last_index: u64, stats: &wharf_log::Stats) -> LogView {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let edges = wharf_log::SYNC_BUCKETS.iter().map(|edge| micros(*edge)).chain([u64::MAX]);
    LogView {
        last_index,
        bytes: stats.bytes,
        segments: stats.segments as u64,
        records: stats.records_appended,
        bytes_appended: stats.bytes_appended,
        syncs: stats.syncs.count(),
        sync_time_us: edges.zip(stats.syncs.counts).collect(),
        sync_time_total_us: micros(stats.syncs.total),
    }
}
