//! Cores: which ones a thread may run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::error::PerfError;

/// Cores from a list such as `1` or `0-2,5`, ascending as written.
pub fn parse_cores(list: &str) -> Result<Vec<usize>, PerfError> {
    let refuse = || PerfError::Argument(format!("cores {list:?}: write a list such as 1 or 0-2,5"));
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let first: usize = first.parse().map_err(|_| refuse())?;
        let last: usize = last.parse().map_err(|_| refuse())?;
        if last < first || last >= CpuSet::MAX_CPU {
            return Err(refuse());
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

/// Keeps the calling thread, and threads and processes it starts later, to `cores`.
pub fn pin(cores: &[usize]) -> Result<(), PerfError> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    let pinned = sched_setaffinity(None, &set);
    pinned.map_err(|error| PerfError::system(format!("pinning to cores {cores:?}"))(error.into()))
}

/// Runs `action` on `cores`, then goes back to where the thread could run before. What `action` starts stays there.
pub fn pinned_to<T>(cores: &[usize], action: impl FnOnce() -> T) -> Result<T, PerfError> {
    let before = sched_getaffinity(None);
    let before = before.map_err(|error| PerfError::system("asking for the affinity mask")(error.into()))?;
    pin(cores)?;
    let result = action();
    let restored = sched_setaffinity(None, &before);
    restored.map_err(|error| PerfError::system("restoring the affinity mask")(error.into()))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_parsed() {
        assert_eq!(parse_cores("1").expect("valid"), [1]);
        assert_eq!(parse_cores("0-2, 5").expect("valid"), [0, 1, 2, 5]);
        for wrong in ["", "a", "3-1", "1,,2", "99999999"] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
    }
}
