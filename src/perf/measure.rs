//! The run's clock and phases, latency histograms, and what a thread counts while it works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Nanoseconds since the run's beginning, monotonic, the same on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock that shows 0 now.
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// What it shows, in nanoseconds.
    #[inline]
    pub fn now(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }

    /// Sleeps until it shows `moment`.
    pub fn sleep_until(&self, moment: u64) {
        std::thread::sleep(Duration::from_nanos(moment.saturating_sub(self.now())));
    }
}

/// When the run's phases begin, in nanoseconds of its clock.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// Publishing begins; warm-up.
    pub start: u64,
    /// Measuring begins.
    pub measure: u64,
    /// Measuring and publishing end; draining begins.
    pub drain: u64,
    /// What has not arrived by now is lost.
    pub end: u64,
}

impl Phases {
    /// Phases that begin at `start` and last these many seconds.
    pub fn new(start: u64, warmup: f64, duration: f64, drain: f64) -> Self {
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let measure = start + nanoseconds(warmup);
        let end_of_measuring = measure + nanoseconds(duration);
        Self {
            start,
            measure,
            drain: end_of_measuring,
            end: end_of_measuring + nanoseconds(drain),
        }
    }

    /// Whether something of `moment` belongs into the figures.
    #[inline]
    pub fn is_measured(&self, moment: u64) -> bool {
        (self.measure..self.drain).contains(&moment)
    }
}

/// The run's clock with its phases.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The clock.
    pub clock: Clock,
    /// The phases, by that clock.
    pub phases: Phases,
}

impl Timing {
    /// What the clock shows now, to judge all that one read brought.
    #[inline]
    pub fn read(&self) -> Reading<'_> {
        Reading {
            now: self.clock.now(),
            phases: &self.phases,
        }
    }
}

/// A moment in the run.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    now: u64,
    phases: &'a Phases,
}

impl Reading<'_> {
    /// How long ago `intended` is, if something meant to be sent then belongs into the figures. What was meant for the
    /// window and comes after it counts, so that a stall at its end is not cut off.
    #[inline]
    pub fn latency(&self, intended: u64) -> Option<u64> {
        self.phases
            .is_measured(intended)
            .then(|| self.now.saturating_sub(intended))
    }
}

/// Latencies from 1 µs to 10 minutes with three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    /// A run of equal values not yet in the histogram: messages stamped and read together have the same latency.
    pending: u64,
    pending_count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1_000, LATENCY_MAX, 3).expect("the bounds are in range");
        Self {
            histogram,
            pending: 0,
            pending_count: 0,
        }
    }
}

impl Latencies {
    /// Records one latency in nanoseconds.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        if nanoseconds == self.pending {
            self.pending_count += 1;
            return;
        }
        self.flush();
        self.pending = nanoseconds;
        self.pending_count = 1;
    }

    /// Everything recorded so far.
    pub fn into_histogram(mut self) -> Histogram<u64> {
        self.flush();
        self.histogram
    }

    fn flush(&mut self) {
        if self.pending_count > 0 {
            self.histogram
                .saturating_record_n(self.pending, self.pending_count);
            self.pending_count = 0;
        }
    }
}

const LATENCY_MAX: u64 = 600_000_000_000;

/// Messages counted by one thread so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed to a socket or waiting for it to take the rest.
    pub published: u64,
    /// Delivered.
    pub delivered: u64,
    /// Delivered for the first time.
    pub fresh: u64,
    /// Confirmed or refused.
    pub settled: u64,
}

impl Counts {
    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            published: self.published - earlier.published,
            delivered: self.delivered - earlier.delivered,
            fresh: self.fresh - earlier.fresh,
            settled: self.settled - earlier.settled,
        }
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.fresh += other.fresh;
        self.settled += other.settled;
    }
}

/// Where a thread shows its counts to the others, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Slate {
    published: AtomicU64,
    delivered: AtomicU64,
    fresh: AtomicU64,
    settled: AtomicU64,
    /// Publishers that have still something to send.
    publishing: AtomicU64,
}

/// The slates of all threads, and the sign to give up.
#[derive(Debug, Default)]
pub struct Board {
    slates: Vec<Slate>,
    is_aborted: AtomicBool,
}

impl Board {
    /// A board for so many threads, each with its number of publishers.
    pub fn new(publishers: &[usize]) -> Self {
        let slate = |&count: &usize| Slate {
            publishing: AtomicU64::new(count as u64),
            ..Slate::default()
        };
        Self {
            slates: publishers.iter().map(slate).collect(),
            is_aborted: AtomicBool::new(false),
        }
    }

    /// Shows the counts of thread `thread`, and how many of its publishers have something to send.
    #[inline]
    pub fn show(&self, thread: usize, counts: &Counts, publishing: u64) {
        let slate = &self.slates[thread];
        slate.published.store(counts.published, Ordering::Relaxed);
        slate.delivered.store(counts.delivered, Ordering::Relaxed);
        slate.fresh.store(counts.fresh, Ordering::Relaxed);
        slate.settled.store(counts.settled, Ordering::Relaxed);
        slate.publishing.store(publishing, Ordering::Release);
    }

    /// The counts of all threads; they were true at slightly different moments.
    #[inline]
    pub fn total(&self) -> Counts {
        self.slates.iter().fold(Counts::default(), |mut sum, slate| {
            sum.add(&slate.read());
            sum
        })
    }

    /// Whether no publisher has anything left to send.
    pub fn is_published(&self) -> bool {
        self.slates
            .iter()
            .all(|slate| slate.publishing.load(Ordering::Acquire) == 0)
    }

    /// Tells all threads to stop.
    pub fn abort(&self) {
        self.is_aborted.store(true, Ordering::Relaxed);
    }

    /// Whether a thread told the others to stop.
    #[inline]
    pub fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }
}

impl Slate {
    #[inline]
    fn read(&self) -> Counts {
        Counts {
            published: self.published.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            fresh: self.fresh.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
        }
    }
}

/// Counts of a thread at the borders of the measured window, and for each second.
#[derive(Clone, Debug, Default)]
pub struct Window {
    began: Option<(u64, Counts)>,
    ended: Option<(u64, Counts)>,
    seconds: Vec<Counts>,
    last: Counts,
}

impl Window {
    /// Notes what was counted by `now`; called a few thousand times a second.
    #[inline]
    pub fn note(&mut self, now: u64, phases: &Phases, counts: &Counts) {
        if self.began.is_none() && now >= phases.measure {
            self.began = Some((now, *counts));
        }
        if self.ended.is_none() && now >= phases.drain {
            self.ended = Some((now, *counts));
        }
        let second = (now.saturating_sub(phases.start) / 1_000_000_000) as usize;
        if second > self.seconds.len() {
            self.close_second(second, counts);
        }
    }

    /// Messages counted inside the window, and its length in seconds; `None` when it was not reached.
    pub fn counted(&self) -> Option<(Counts, f64)> {
        let (began_at, began) = self.began?;
        let (ended_at, ended) = self.ended?;
        Some((ended.since(&began), (ended_at - began_at) as f64 / 1e9))
    }

    /// Messages counted in each whole second since the publishers started.
    pub fn seconds(&self) -> &[Counts] {
        &self.seconds
    }

    fn close_second(&mut self, second: usize, counts: &Counts) {
        self.seconds.push(counts.since(&self.last));
        self.seconds.resize(second, Counts::default());
        self.last = *counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(delivered: u64) -> Counts {
        Counts {
            delivered,
            ..Counts::default()
        }
    }

    #[test]
    fn only_the_window_between_warm_up_and_drain_is_measured() {
        let phases = Phases::new(1_000_000_000, 1.0, 2.0, 3.0);
        let mut window = Window::default();
        for (second, delivered) in [(1, 0), (2, 100), (3, 300), (4, 500), (5, 510)] {
            window.note(second * 1_000_000_000, &phases, &counts(delivered));
        }
        let (inside, seconds) = window.counted().expect("the window was passed");
        assert_eq!((inside.delivered, seconds), (400, 2.0));
        let timeline: Vec<u64> = window.seconds().iter().map(|counts| counts.delivered).collect();
        assert_eq!(timeline, [100, 200, 200, 10]);
    }

    #[test]
    fn equal_latencies_are_recorded_as_often_as_they_came() {
        let mut latencies = Latencies::default();
        for value in [50_000, 50_000, 80_000, 50_000] {
            latencies.record(value);
        }
        let histogram = latencies.into_histogram();
        assert_eq!(histogram.len(), 4);
        assert_eq!(histogram.count_between(49_000, 51_000), 3);
    }

    #[test]
    fn the_board_sums_all_threads() {
        let board = Board::new(&[1, 1]);
        board.show(0, &counts(3), 0);
        board.show(1, &counts(4), 1);
        assert_eq!(board.total().delivered, 7);
        assert!(!board.is_published());
    }
}
