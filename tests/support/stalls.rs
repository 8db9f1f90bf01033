//! When the machine itself stood still: what is late then is nobody's fault.

use lanemq::runtime::unix_milliseconds;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a watch sleeps.
const NAP: Duration = Duration::from_micros(500);
/// A watch that wakes later than this was not let run by the machine.
const STALL_MIN: Duration = Duration::from_millis(3);

/// A thread on every processor that sleeps, and notes when it woke too late.
pub struct StallWatch {
    stop: Arc<AtomicBool>,
    watches: Vec<JoinHandle<Vec<(u64, u64)>>>,
}

/// The times, in milliseconds since 1970, at which a processor stood still.
pub struct Stalls(Vec<(u64, u64)>);

impl StallWatch {
    /// Begins to watch these processors.
    pub fn start(cpus: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = |cpu: usize| {
            let stop = stop.clone();
            std::thread::spawn(move || watch(cpu, &stop))
        };
        let watches = cpus.iter().copied().map(watch).collect();
        Self { stop, watches }
    }

    /// Ends it.
    pub fn stop(self) -> Stalls {
        self.stop.store(true, Ordering::Relaxed);
        let stalls = self
            .watches
            .into_iter()
            .flat_map(|watch| watch.join().expect("a watch sees no fault"));
        Stalls(stalls.collect())
    }
}

fn watch(cpu: usize, stop: &AtomicBool) -> Vec<(u64, u64)> {
    let mut mask = CpuSet::new();
    mask.set(cpu);
    sched_setaffinity(None, &mask).expect("a processor of the process");
    // Before every other program, if it may: those that keep the processor busy are no stall.
    let _may_not = setpriority_process(None, -20);
    let mut stalls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        std::thread::sleep(NAP);
        let late = begun.elapsed().saturating_sub(NAP);
        if late >= STALL_MIN {
            let now = unix_milliseconds();
            stalls.push((now - late.as_millis() as u64, now));
        }
    }
    stalls
}

impl Stalls {
    /// How many there were, and the longest in milliseconds.
    pub fn count_and_longest(&self) -> (usize, u64) {
        let lengths = self.0.iter().map(|(from, to)| to - from);
        (self.0.len(), lengths.max().unwrap_or(0))
    }

    /// How many of the milliseconds between two times some processor stood still.
    pub fn within(&self, from: u64, to: u64) -> i64 {
        let stands = |at: &u64| self.0.iter().any(|(begin, end)| (*begin..*end).contains(at));
        (from..to).filter(stands).count() as i64
    }
}
