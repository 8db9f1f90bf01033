//! `Trace`: what happened in a run, line by line: the last lines in full, and a hash of all.

use crate::model::Moment;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines kept.
const LINES_MAX: usize = 40;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The trace of the current run. Clones share it, so that a panic's hook can print what came before the panic.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    is_printed: bool,
    seed: u64,
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// Begins the trace of another seed.
    pub fn begin(&self, seed: u64) {
        let mut trace = self.lock();
        trace.seed = seed;
        trace.hash = FNV_OFFSET;
        trace.lines.clear();
    }

    /// Prints every line from now on to standard error.
    pub fn print(&self) {
        self.lock().is_printed = true;
    }

    /// Adds a line.
    pub fn say(&self, now: Moment, what: fmt::Arguments<'_>) {
        let mut trace = self.lock();
        let mut line = match trace.lines.len() {
            LINES_MAX => trace.lines.pop_front().unwrap_or_default(),
            _ => String::new(),
        };
        line.clear();
        let (milliseconds, rest) = (now.0 / 1_000_000, now.0 % 1_000_000);
        // Writing to a string cannot fail.
        let _ = write!(line, "{milliseconds:>6}.{rest:06} ms  {what}");
        trace.hash = line.bytes().fold(trace.hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
        });
        if trace.is_printed {
            eprintln!("{line}");
        }
        trace.lines.push_back(line);
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.lock().seed
    }

    /// Hash of all lines of the run: equal when the run was.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The last lines.
    pub fn last_lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
