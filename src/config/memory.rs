//! The memory budget of the process, and the memory it is a share of.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use super::byte_count::{format_bytes, parse_bytes};

/// Most memory the broker plans to use, as `limits.memory` names it: "60%" or "4 GiB".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryBudget {
    /// A share, 1 to 95 percent, of what the machine or the control group gives.
    Percent(u8),
    /// So many bytes, at least 64 MiB.
    Bytes(u64),
}

/// A text that names no budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a share from \"1%\" to \"95%\" or at least \"64 MiB\", found \"{found}\"")]
pub struct NotBudget {
    found: String,
}

const BYTES_MIN: u64 = 64 << 20;

impl MemoryBudget {
    /// The budget in bytes when `available` bytes may be used: never more than those.
    pub fn bytes(self, available: u64) -> u64 {
        match self {
            MemoryBudget::Percent(percent) => available / 100 * u64::from(percent),
            MemoryBudget::Bytes(bytes) => bytes.min(available),
        }
    }
}

impl Default for MemoryBudget {
    fn default() -> Self {
        MemoryBudget::Percent(60)
    }
}

impl FromStr for MemoryBudget {
    type Err = NotBudget;

    fn from_str(text: &str) -> Result<Self, NotBudget> {
        let budget = match text.trim().strip_suffix('%') {
            Some(percent) => percent
                .trim()
                .parse()
                .ok()
                .filter(|percent| (1..=95).contains(percent))
                .map(MemoryBudget::Percent),
            None => parse_bytes(text)
                .filter(|&bytes| bytes >= BYTES_MIN)
                .map(MemoryBudget::Bytes),
        };
        budget.ok_or_else(|| NotBudget {
            found: text.to_owned(),
        })
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryBudget::Percent(percent) => write!(f, "{percent}%"),
            MemoryBudget::Bytes(bytes) => f.write_str(&format_bytes(*bytes)),
        }
    }
}

/// Bytes this process may use: the least of the machine's memory and the limits of its control groups; `None` when
/// the machine tells neither.
pub fn available_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_memory_total(&text));
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| control_group_limit(&text));
    [machine, group].into_iter().flatten().min()
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn parse_memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least limit on the way from this process's control group to the root, by the lines of /proc/self/cgroup.
fn control_group_limit(groups: &str) -> Option<u64> {
    groups
        .lines()
        .filter_map(control_group_file)
        .filter_map(|(root, path, file)| least_limit(root, path, file))
        .min()
}

/// Where the limit of one line of /proc/self/cgroup lies: mount point, path below it, file name.
fn control_group_file(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let mut fields = line.splitn(3, ':');
    let (_hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    match controllers {
        "" => Some(("/sys/fs/cgroup", path, "memory.max")),
        list if list.split(',').any(|name| name == "memory") => {
            Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
        }
        _ => None,
    }
}

/// Inside a container the path may not exist below the mount point; its parents then hold the limit.
fn least_limit(root: &str, path: &str, file: &str) -> Option<u64> {
    let below = Path::new(path.trim_start_matches('/'));
    below
        .ancestors()
        .filter_map(|group| fs::read_to_string(Path::new(root).join(group).join(file)).ok())
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_share_or_an_amount() {
        assert_eq!("60%".parse(), Ok(MemoryBudget::Percent(60)));
        assert_eq!("4 GiB".parse(), Ok(MemoryBudget::Bytes(4 << 30)));
        for text in ["0%", "96%", "60 percent", "1 MiB", "", "-5%"] {
            assert!(text.parse::<MemoryBudget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_budget_never_exceeds_what_is_available() {
        assert_eq!(MemoryBudget::Percent(60).bytes(1_000), 600);
        assert_eq!(MemoryBudget::Bytes(4 << 30).bytes(1 << 30), 1 << 30);
    }

    #[test]
    fn the_machines_memory_is_read_from_meminfo() {
        assert_eq!(
            parse_memory_total("MemTotal:       8039412 kB\nMemFree: 1 kB\n"),
            Some(8_039_412 * 1024)
        );
        assert_eq!(parse_memory_total("nothing"), None);
    }

    #[test]
    fn both_versions_of_control_groups_are_found() {
        assert_eq!(
            control_group_file("0::/system.slice"),
            Some(("/sys/fs/cgroup", "/system.slice", "memory.max"))
        );
        let first = control_group_file("4:cpu,memory:/docker/1").expect("a memory controller");
        assert_eq!(
            first,
            ("/sys/fs/cgroup/memory", "/docker/1", "memory.limit_in_bytes")
        );
        assert_eq!(control_group_file("7:pids:/docker/1"), None);
    }
}
