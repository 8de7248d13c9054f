//! How much memory the process has, and how much it may have.

use std::fs;

/// The share of what the machine, or the process's control group, has that a broker takes when it is not told.
const SHARE_PERCENT: u64 = 70;

/// The resident memory, where the system tells: Linux does, in `/proc`.
pub fn resident_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// The limit when none is set: 70 % of what there is.
pub(crate) fn default_limit() -> Option<u64> {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "MemTotal:"));
    // "max" where there is no bound.
    let group =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    [host, group].into_iter().flatten().min().map(|all: u64| all / 100 * SHARE_PERCENT)
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(default_limit().is_some_and(|bytes| bytes > 10_000_000));
    }

    #[test]
    fn a_field_is_read_in_its_unit() {
        assert_eq!(kibibytes("Name:\twharf\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2 << 20));
        assert_eq!(kibibytes("VmRSS:\t 2048\n", "VmRSS:"), None);
    }
}
