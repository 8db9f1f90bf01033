//! `ProcessSample`: CPU time and memory of a process, all its threads, from `/proc`.

use std::fs;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// CPU seconds in user and kernel mode of all threads, ended ones included; in steps of 10 ms.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Most resident memory so far, in bytes.
    pub resident_bytes_peak: u64,
}

impl ProcessSample {
    /// Of process `pid`, or `None` when there is no such process to be seen.
    pub fn take(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu_seconds: cpu_ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64,
            resident_bytes: status_bytes(&status, "VmRSS:").unwrap_or(0),
            resident_bytes_peak: status_bytes(&status, "VmHWM:").unwrap_or(0),
        })
    }
}

/// `utime` + `stime`: fields 14 and 15; the second field, a name in parentheses, may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 100";
        assert_eq!(cpu_ticks(stat), Some(200));
    }

    #[test]
    fn this_process_has_used_memory() {
        let sample = ProcessSample::take(std::process::id()).expect("we can see ourselves");
        assert!(sample.resident_bytes > 0 && sample.resident_bytes_peak >= sample.resident_bytes);
    }
}
