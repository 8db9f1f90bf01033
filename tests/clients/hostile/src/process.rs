//! What the kernel tells about the broker's process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long memory may take to fall back.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Memory of the process that no file backs (RssAnon), in bytes. Fails when the process is gone.
pub fn anonymous_bytes(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)
        .map_err(|error| format!("expected process {pid} to run: {path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes
        .map(|count| count * 1024)
        .ok_or_else(|| format!("expected RssAnon in {path}, found a process that ends"))
}

/// Polls until the anonymous memory is at most `bytes_max`, or time is up; returns what it is then.
pub fn settled_bytes(pid: u32, bytes_max: u64) -> Result<u64, String> {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let bytes = anonymous_bytes(pid)?;
        if bytes <= bytes_max || Instant::now() > deadline {
            return Ok(bytes);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
