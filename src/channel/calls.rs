//! `Calls`: whose turn it is to hear that the channel's prefetch has room again.

/// The consumers of a channel that are still to be told, in turn: another one is first each time.
#[derive(Debug, Default)]
pub struct Calls {
    begun: usize,
    waiting: Vec<u32>,
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
    }

    /// Who is to be called next.
    pub fn take_next(&mut self) -> Option<u32> {
        self.waiting.pop()
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
    fn a_channel_without_consumers_calls_nobody() {
        let mut calls = Calls::default();
        calls.begin([].into_iter());
        assert_eq!(calls.take_next(), None);
    }
}
