//! What holds publishers back while consumers go on: a disk that fills.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How often the disk is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The alarms of a node, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    disk: Mutex<Option<String>>,
}

impl Alarms {
    /// Why publishes are refused at the moment, if they are.
    pub(crate) fn raised(&self) -> Option<String> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    pub(crate) fn watch(self: &Arc<Self>, folder: PathBuf, free_bytes_min: u64) -> JoinHandle<()> {
        let alarms = Arc::clone(self);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            loop {
                interval.tick().await;
                alarms.look(&folder, free_bytes_min);
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
}
