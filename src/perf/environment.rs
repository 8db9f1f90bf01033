//! `Environment`: the machine a run was made on, as far as it changes the figures.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What is known of machine, system and checkout; what cannot be found out is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Model of the processor.
    pub cpu_model: String,
    /// Cores that are online.
    pub core_count: usize,
    /// `hypervisor` when the processor says that it is virtual.
    pub virtualization: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Frequency governor of the first core.
    pub governor: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Distribution.
    pub system: String,
    /// File system of the broker's data directory with its device and options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file_system: Option<String>,
    /// Commit of the checkout in the current directory, with `-dirty` where it was changed.
    pub commit: String,
    /// Version of this generator.
    pub generator_version: String,
    /// Load average over a minute before the run; a busy machine spoils figures.
    pub load_average: f64,
    /// Cores the generator was pinned to; empty: not pinned.
    pub generator_cores: Vec<usize>,
    /// Cores that the broker's process may run on, as the kernel lists them.
    pub broker_cores: String,
}

impl Environment {
    /// Looks at this machine. `data_dir` is the broker's, if known.
    pub fn capture(data_dir: Option<&Path>, broker_pid: Option<u32>, generator_cores: &[usize]) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        Self {
            cpu_model: field(&cpuinfo, "model name", ':').unwrap_or_default(),
            core_count: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            virtualization: if cpuinfo.contains(" hypervisor") {
                "hypervisor".to_owned()
            } else {
                String::new()
            },
            kernel: read("/proc/sys/kernel/osrelease"),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
                .unwrap_or_default()
                .replace('"', ""),
            data_file_system: data_dir.and_then(file_system),
            commit: commit(),
            generator_version: env!("CARGO_PKG_VERSION").to_owned(),
            load_average: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            generator_cores: generator_cores.to_vec(),
            broker_cores: broker_pid.map(broker_cores).unwrap_or_default(),
        }
    }
}

/// Seconds since 1970 as `2026-11-22T16:05:09Z`.
pub fn utc(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let time = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

/// Seconds since 1970.
pub fn seconds_since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(text: &str, key: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(separator)?.1.trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = field(meminfo, "MemTotal", ':').unwrap_or_default();
    total
        .trim_end_matches(" kB")
        .parse::<u64>()
        .map_or(0, |kibibytes| kibibytes * 1024)
}

fn broker_cores(pid: u32) -> String {
    field(&read(&format!("/proc/{pid}/status")), "Cpus_allowed_list", ':').unwrap_or_default()
}

/// Device, type and options of the mount that holds `path`.
fn file_system(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = read("/proc/mounts");
    let parsed = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.next()?, fields.next()?, fields.next()?, fields.next()?))
    });
    let holding = parsed
        .filter(|(_, at, _, _)| path.starts_with(at))
        .max_by_key(|(_, at, _, _)| at.len());
    holding.map(|(device, _, kind, options)| format!("{kind} on {device} ({options})"))
}

fn commit() -> String {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let output = described.ok().filter(|output| output.status.success());
    output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_new_years() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(utc(1_795_363_509), "2026-11-22T16:05:09Z");
    }

    #[test]
    fn this_machine_is_recognised() {
        let environment = Environment::capture(Some(Path::new("/")), None, &[]);
        assert!(environment.core_count > 0 && environment.memory_bytes > 0);
        assert!(environment.data_file_system.is_some());
    }
}
