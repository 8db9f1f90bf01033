//! `Progress`: a line a second on standard error while a run goes on, if that is a terminal.

use std::io::{IsTerminal, Write};

use super::measure::Counts;
use super::worker::Common;

/// Shows how a run goes on.
#[derive(Debug)]
pub struct Progress<'a> {
    common: &'a Common,
    is_shown: bool,
    last: (u64, Counts),
}

impl<'a> Progress<'a> {
    /// Begins now, with nothing counted.
    pub fn start(common: &'a Common) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        Self {
            common,
            is_shown,
            last: (common.timing.clock.now(), Counts::default()),
        }
    }

    /// Waits until the run's clock shows `moment` or the run was given up, and shows each second.
    pub fn until(&mut self, moment: u64) {
        while self.common.timing.clock.now() < moment && !self.common.board.is_aborted() {
            let next = (self.last.0 + SECOND).min(moment);
            self.common
                .timing
                .clock
                .sleep_until(next.min(self.common.timing.clock.now() + GLANCE));
            if self.common.timing.clock.now() >= self.last.0 + SECOND {
                self.show();
            }
        }
    }

    /// Waits until all is delivered or it is late, and clears the line.
    pub fn until_drained(&mut self) {
        let Common {
            timing, board, plan, ..
        } = self.common;
        while self.common.timing.clock.now() < timing.phases.end && !board.is_aborted() {
            let total = board.total();
            if board.is_published()
                && (plan.consumers.is_empty() || total.fresh >= total.published * plan.copies)
            {
                break;
            }
            self.until(self.common.timing.clock.now() + GLANCE / 4);
        }
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&mut self) {
        let now = self.common.timing.clock.now();
        let total = self.common.board.total();
        if self.is_shown {
            eprint!(
                "\r\x1b[K{}",
                line(
                    self.phase(now),
                    now - self.last.0,
                    &total.since(&self.last.1),
                    &total
                )
            );
            // A line that cannot be shown is no reason to stop measuring.
            let _ = std::io::stderr().flush();
        }
        self.last = (now, total);
    }

    fn phase(&self, now: u64) -> &'static str {
        let phases = &self.common.timing.phases;
        match now {
            _ if now < phases.measure => "warming up",
            _ if now < phases.drain => "measuring",
            _ => "draining",
        }
    }
}

fn line(phase: &str, nanoseconds: u64, counts: &Counts, total: &Counts) -> String {
    let rate = |count: u64| count as f64 * 1e9 / nanoseconds as f64;
    format!(
        "{phase:<10}  published {:>12.0}/s  delivered {:>12.0}/s  settled {:>12.0}/s  delivered in all {}",
        rate(counts.published),
        rate(counts.delivered),
        rate(counts.settled),
        total.delivered,
    )
}

const SECOND: u64 = 1_000_000_000;
/// How long a given-up run may go unnoticed, in nanoseconds.
const GLANCE: u64 = 200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_rates_of_the_last_interval() {
        let counts = Counts {
            published: 100,
            delivered: 50,
            fresh: 50,
            settled: 0,
        };
        let line = line("measuring", 500_000_000, &counts, &counts);
        assert!(
            line.contains("published          200/s") && line.contains("delivered          100/s"),
            "{line}"
        );
    }
}
