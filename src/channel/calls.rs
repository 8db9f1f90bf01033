//! `Calls`: whose turn it is to hear that the channel's prefetch has room again.

/// The consumers of a channel that are still to be told, in turn: another one is first each time.
#[derive(Debug, Default)]
pub struct Calls {
    begun: usize,
    waiting: Vec<u32>,
    /// Who was called last, on another core, and has not answered.
    asked: Option<u32>,
}

impl Calls {
    /// The channel has room: all of `numbers` are to be called.
    pub fn begin(&mut self, numbers: impl Iterator<Item = u32>) {
        self.waiting.clear();
        self.waiting.extend(numbers);
        if !self.waiting.is_empty() {
            let first = self.begun % self.waiting.len();
            self.waiting.rotate_left(first);
            self.waiting.reverse();
        }
        self.begun = self.begun.wrapping_add(1);
        self.asked = None;
    }

    /// Who is to be called next.
    pub fn take_next(&mut self) -> Option<u32> {
        self.waiting.pop()
    }

    /// Nobody is called before `number` has answered.
    pub fn ask(&mut self, number: u32) {
        self.asked = Some(number);
    }

    /// `number` has answered, or is gone. Returns whether the next one is to be called now: an answer to what it was told
    /// outside of its turn, or in a round before, calls nobody.
    pub fn answered(&mut self, number: u32) -> bool {
        let was_asked = self.asked == Some(number);
        if was_asked {
            self.asked = None;
        }
        was_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_one_is_first_each_time() {
        let mut calls = Calls::default();
        let mut round = || {
            calls.begin([3, 5, 9].into_iter());
            std::iter::from_fn(|| calls.take_next()).collect::<Vec<u32>>()
        };
        assert_eq!(
            [round(), round(), round(), round()],
            [[3, 5, 9], [5, 9, 3], [9, 3, 5], [3, 5, 9]]
        );
    }

    #[test]
    fn only_who_was_asked_lets_the_next_one_be_called() {
        let mut calls = Calls::default();
        calls.begin([3, 5].into_iter());
        calls.ask(3);
        assert!(!calls.answered(5), "it was told outside of its turn");
        assert!(calls.answered(3));
        assert!(!calls.answered(3), "once");
        calls.ask(5);
        calls.begin([3, 5].into_iter());
        assert!(!calls.answered(5), "that was the round before");
    }

    #[test]
    fn a_channel_without_consumers_calls_nobody() {
        let mut calls = Calls::default();
        calls.begin([].into_iter());
        assert_eq!(calls.take_next(), None);
    }
}
