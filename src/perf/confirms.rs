//! `Confirms`: publishes of one channel that wait for their basic.ack or basic.nack.

/// The window of a publisher in confirm mode. Delivery tags are message numbers plus one.
#[derive(Clone, Debug)]
pub struct Confirms {
    window: usize,
    /// Intended send time of each waiting message at number modulo the length, `SETTLED` once it waits no more.
    times: Vec<u64>,
    /// Lowest number that waits, or the next to be sent.
    base: u64,
    next: u64,
    waiting: usize,
}

impl Confirms {
    /// A window of `window` messages (at least 1).
    pub fn new(window: usize) -> Self {
        // Twice the window, so that one late confirm does not stop the others at once.
        Self {
            window,
            times: vec![SETTLED; (2 * window).next_power_of_two()],
            base: 0,
            next: 0,
            waiting: 0,
        }
    }

    /// How many messages may be sent now.
    #[inline]
    pub fn room(&self) -> usize {
        let slots = self.times.len() - (self.next - self.base) as usize;
        slots.min(self.window - self.waiting)
    }

    /// Notes that the next message goes out; there must be room.
    #[inline]
    pub fn send(&mut self, intended: u64) {
        debug_assert!(self.room() > 0, "a message was sent beyond the window");
        let index = self.index(self.next);
        self.times[index] = intended;
        self.next += 1;
        self.waiting += 1;
    }

    /// Takes a confirm for `tag`, with `multiple` for all up to it (tag 0: all), and gives the intended send time of
    /// each message that it settles to `settled`. False when no such message waits.
    #[inline]
    pub fn settle(&mut self, tag: u64, multiple: bool, mut settled: impl FnMut(u64)) -> bool {
        let tag = if multiple && tag == 0 { self.next } else { tag };
        let Some(number) = tag.checked_sub(1).filter(|number| *number < self.next) else {
            return false;
        };
        let first = if multiple { self.base } else { number };
        if number < self.base {
            return multiple;
        }
        let waiting_before = self.waiting;
        for number in first..=number {
            let index = self.index(number);
            let time = std::mem::replace(&mut self.times[index], SETTLED);
            if time != SETTLED {
                self.waiting -= 1;
                settled(time);
            }
        }
        self.advance();
        multiple || self.waiting < waiting_before
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn advance(&mut self) {
        while self.base < self.next && self.times[self.index(self.base)] == SETTLED {
            self.base += 1;
        }
    }

    #[inline]
    fn index(&self, number: u64) -> usize {
        number as usize & (self.times.len() - 1)
    }
}

const SETTLED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(confirms: &mut Confirms, tag: u64, multiple: bool) -> Option<Vec<u64>> {
        let mut times = Vec::new();
        confirms
            .settle(tag, multiple, |time| times.push(time))
            .then_some(times)
    }

    #[test]
    fn the_window_closes_and_opens_again() {
        let mut confirms = Confirms::new(3);
        (10..13).for_each(|time| confirms.send(time));
        assert_eq!(confirms.room(), 0);
        assert_eq!(settle(&mut confirms, 2, true), Some(vec![10, 11]));
        assert_eq!((confirms.room(), confirms.waiting()), (2, 1));
    }

    #[test]
    fn confirms_may_come_out_of_order() {
        let mut confirms = Confirms::new(4);
        (10..14).for_each(|time| confirms.send(time));
        assert_eq!(settle(&mut confirms, 3, false), Some(vec![12]));
        assert_eq!(settle(&mut confirms, 4, true), Some(vec![10, 11, 13]));
        assert_eq!(confirms.room(), 4);
    }

    #[test]
    fn a_confirm_for_nothing_is_noticed() {
        let mut confirms = Confirms::new(4);
        confirms.send(10);
        assert_eq!(settle(&mut confirms, 2, false), None);
        assert_eq!(settle(&mut confirms, 1, false), Some(vec![10]));
        assert_eq!(settle(&mut confirms, 1, false), None);
    }
}
