//! What holds publishers back while consumers go on: a disk that fills, memory that runs out.
//!
//! Each alarm is raised at one mark and clears itself at another, so that it does not flutter.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::memory;

/// How often the disk is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The alarms of a node, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    disk: Mutex<Option<String>>,
    memory: Mutex<Option<String>>,
}

/// The marks of the alarms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// The disk has less room than this.
    pub(crate) disk_free_bytes_min: u64,
    /// The process has more memory than this; `None`: whatever it has.
    pub(crate) memory_bytes_max: Option<u64>,
}

/// An alarm of memory clears when the process has less than this share of the limit.
const MEMORY_CLEAR_PERCENT: u64 = 90;

impl Alarms {
    /// Why publishes are refused at the moment, if they are.
    pub(crate) fn raised(&self) -> Option<String> {
        let read =
            |alarm: &Mutex<Option<String>>| alarm.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read(&self.disk).or_else(|| read(&self.memory))
    }

    /// Compares the memory that the process has with its limit.
    fn weigh(&self, resident: Option<u64>, limit: Option<u64>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(resident), Some(limit)) = (resident, limit) else {
            *memory = None;
            return;
        };
        if memory.is_none() && resident > limit {
            let reason = format!(
                "the broker has {} MiB of memory, over its limit of {} MiB; publishes are refused until it has less \
                 than {} MiB: consume, or raise `memory` under [limits]",
                resident >> 20,
                limit >> 20,
                (limit / 100 * MEMORY_CLEAR_PERCENT) >> 20
            );
            tracing::warn!(reason, "memory alarm raised");
            *memory = Some(reason);
        } else if memory.is_some() && resident < limit / 100 * MEMORY_CLEAR_PERCENT {
            tracing::info!("memory alarm cleared");
            *memory = None;
        }
    }

    /// Looks at the disk under `folder`: an alarm below `free_bytes_min`, which clears itself.
    pub(crate) fn look(&self, folder: &Path, free_bytes_min: u64) {
        let alarm = match free_bytes(folder) {
            Ok(free) if free < free_bytes_min => Some(format!(
                "the disk under {} has {} MiB left, under the limit of {} MiB; publishes are refused until \
                 there is room",
                folder.display(),
                free >> 20,
                free_bytes_min >> 20
            )),
            Ok(_) => None,
            Err(error) => Some(format!("the disk under {} cannot be read: {error}", folder.display())),
        };
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*disk, &alarm) {
            (None, Some(reason)) => tracing::warn!(reason, "disk alarm raised"),
            (Some(_), None) => tracing::info!("disk alarm cleared"),
            _ => {}
        }
        *disk = alarm;
    }

    /// Keeps looking until the task is aborted.
    pub(crate) fn watch(self: &Arc<Self>, folder: PathBuf, marks: Marks) -> JoinHandle<()> {
        let alarms = Arc::clone(self);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            loop {
                interval.tick().await;
                alarms.look(&folder, marks.disk_free_bytes_min);
                alarms.weigh(memory::resident_bytes(), marks.memory_bytes_max);
            }
        })
    }
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_alarm_is_raised_and_clears_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let alarms = Alarms::default();
        alarms.look(folder.path(), u64::MAX);
        assert!(alarms.raised().expect("an alarm").contains("MiB left"));
        alarms.look(folder.path(), 0);
        assert_eq!(alarms.raised(), None);
    }

    #[test]
    fn the_memory_alarm_is_raised_above_its_limit_and_clears_well_below() {
        let (alarms, limit) = (Alarms::default(), Some(1_000 << 20));
        alarms.weigh(Some(1_000 << 20), limit);
        assert_eq!(alarms.raised(), None);
        alarms.weigh(Some(1_001 << 20), limit);
        assert!(
            alarms.raised().expect("an alarm").contains("1001 MiB of memory, over its limit of 1000 MiB")
        );
        alarms.weigh(Some(950 << 20), limit);
        assert!(alarms.raised().is_some(), "still over the lower mark");
        alarms.weigh(Some(899 << 20), limit);
        assert_eq!(alarms.raised(), None);
        alarms.weigh(None, limit);
        assert_eq!(alarms.raised(), None, "where the system does not tell, there is no alarm");
    }
}
