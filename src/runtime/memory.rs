//! Memory that is freed, and what the system gets back of it.

use crate::runtime::HelperPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ticks between two of the coarse timer that a core has although nothing happens.
const TICKS_OF_NOTHING: u32 = 4;
/// Ticks of the coarse timer without more than that, after which a core is quiet.
const QUIET_TIMERS: u32 = 5;

/// How many cores are busy. Clones count the same cores.
#[derive(Clone, Debug)]
pub struct BusyCores(Arc<AtomicUsize>);

impl BusyCores {
    /// Of `cores`, all of which are busy.
    pub fn new(cores: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(cores)))
    }
}

/// One core's turns from busy to quiet and back. The last core that turns quiet has the allocator give back what is free,
/// page by page; the allocator's locks are held meanwhile, so it is not done while any core is busy.
#[derive(Debug)]
pub struct Quiet {
    busy: BusyCores,
    ticks: u32,
    quiet_timers: u32,
}

impl Quiet {
    /// A core that is busy.
    pub fn new(busy: BusyCores) -> Self {
        Self {
            busy,
            ticks: 0,
            quiet_timers: 0,
        }
    }

    /// The core had a look at what happened.
    #[inline]
    pub fn note_tick(&mut self) {
        self.ticks += 1;
    }

    /// The coarse timer ticked. Returns whether this was the last busy core and turned quiet.
    pub fn note_timer(&mut self) -> bool {
        let was_quiet = self.quiet_timers >= QUIET_TIMERS;
        self.quiet_timers = match self.ticks <= TICKS_OF_NOTHING {
            true => self.quiet_timers.saturating_add(1),
            false => 0,
        };
        self.ticks = 0;
        match (was_quiet, self.quiet_timers >= QUIET_TIMERS) {
            (false, true) => self.busy.0.fetch_sub(1, Ordering::AcqRel) == 1,
            (true, false) => {
                self.busy.0.fetch_add(1, Ordering::AcqRel);
                false
            }
            _ => false,
        }
    }
}

/// Has a helper give back to the system what the allocator keeps though nothing uses it: after a burst it keeps most of
/// what the burst took, for want of a free end of its heap.
pub fn give_back_free(helpers: &HelperPool) {
    helpers.run(trim);
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it takes no pointer, locks whatever it looks at, and leaves what is in use where it is.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of `timers` ticks of the timer said, after so many looks each.
    fn turns(core: &mut Quiet, ticks: u32, timers: u32) -> Vec<bool> {
        (0..timers)
            .map(|_| {
                (0..ticks).for_each(|_| core.note_tick());
                core.note_timer()
            })
            .collect()
    }

    #[test]
    fn the_last_core_that_turns_quiet_is_told_so_once() {
        let busy = BusyCores::new(2);
        let (mut first, mut second) = (Quiet::new(busy.clone()), Quiet::new(busy));
        assert!(!turns(&mut first, 1, 20).contains(&true), "the other is busy");
        assert_eq!(turns(&mut second, 100, 3), [false; 3]);
        assert_eq!(
            turns(&mut second, 1, 6),
            [false, false, false, false, true, false]
        );
    }

    #[test]
    fn a_core_that_was_busy_again_turns_quiet_again() {
        let mut core = Quiet::new(BusyCores::new(1));
        assert!(turns(&mut core, 1, 5)[4]);
        assert_eq!(turns(&mut core, 100, 1), [false]);
        assert_eq!(turns(&mut core, 1, 5), [false, false, false, false, true]);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn free_memory_between_used_memory_goes_back_to_the_system() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").expect("a proc file system");
            let pages = status.split(' ').nth(1).expect("resident pages");
            pages.parse::<usize>().expect("a number") * 4096
        };
        let mut blocks: Vec<Vec<u8>> = (0..4_000).map(|_| vec![1; 32 * 1024]).collect();
        let full = resident();
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 50 == 0
        });
        trim();
        assert!(resident() + (32 << 20) < full, "{} of {full} stay", resident());
        assert_eq!(blocks.len(), 80);
    }
}
