//! `Turns`: who is served next.
//!
//! Only those who can be served now stand here, so that finding the next one never passes over those who cannot,
//! were they thousands. Each priority is a ring, linked through a table that is indexed as the consumers' is; the
//! ring's cursor points at whose turn it is:
//!
//! ```text
//!   levels, ascending      ring of a level
//!   ┌─ priority 0 ── cursor ──► 4 ⇄ 0 ⇄ 7 ⇄ (4)       4 is next, then 0, then 7, then 4 again
//!   └─ priority 9 ── cursor ──► 2 ⇄ (2)               served first: the last level
//! ```
//!
//! Who joins stands at the end of its ring, just before the cursor. A level exists while someone stands in it, so the
//! highest one is the last of a short `Vec`. Asking, passing and leaving are constant; joining or leaving last or
//! first at a level searches the levels by halving.

/// Rings of those that can be served, one for each priority.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Ascending by priority; none is empty.
    levels: Vec<Level>,
    /// Neighbours in the ring, by index; `NOBODY` twice for those outside.
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    priority: i64,
    cursor: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

const NOBODY: u32 = u32::MAX;
const OUTSIDE: Link = Link {
    previous: NOBODY,
    next: NOBODY,
};

impl Turns {
    /// Whose turn it is: the highest priority's cursor.
    #[inline]
    pub(super) fn next(&self) -> Option<u32> {
        self.levels.last().map(|level| level.cursor)
    }

    /// Whether the one whose turn it is will also be next, as nobody else stands in its ring.
    #[inline]
    pub(super) fn is_next_alone(&self) -> bool {
        self.levels
            .last()
            .is_some_and(|level| self.links[level.cursor as usize].next == level.cursor)
    }

    /// Moves the one whose turn it is to the end of its ring.
    #[inline]
    pub(super) fn pass(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.cursor = self.links[level.cursor as usize].next;
        }
    }

    /// Whether this one stands in a ring.
    #[inline]
    pub(super) fn contains(&self, index: u32) -> bool {
        self.links
            .get(index as usize)
            .is_some_and(|link| link.next != NOBODY)
    }

    /// Puts this one, who stands nowhere, at the end of its priority's ring.
    pub(super) fn join(&mut self, index: u32, priority: i64) {
        debug_assert!(!self.contains(index), "consumer {index} stands in one place");
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, OUTSIDE);
        }
        match self.find(priority) {
            Ok(level) => self.link_before(self.levels[level].cursor, index),
            Err(level) => {
                self.links[index as usize] = Link {
                    previous: index,
                    next: index,
                };
                self.levels.insert(
                    level,
                    Level {
                        priority,
                        cursor: index,
                    },
                );
            }
        }
    }

    /// Takes this one, who stands in its priority's ring, out of it.
    pub(super) fn leave(&mut self, index: u32, priority: i64) {
        debug_assert!(self.contains(index), "consumer {index} stands in a ring");
        let link = std::mem::replace(&mut self.links[index as usize], OUTSIDE);
        let level = self
            .find(priority)
            .expect("a level exists while someone stands in it");
        if link.next == index {
            self.levels.remove(level);
            return;
        }
        self.links[link.previous as usize].next = link.next;
        self.links[link.next as usize].previous = link.previous;
        if self.levels[level].cursor == index {
            self.levels[level].cursor = link.next;
        }
    }

    /// Panics when the rings contradict themselves, or hold others than those for whom `priority_of` tells one.
    pub(super) fn check_invariants(&self, priority_of: impl Fn(u32) -> Option<i64>) {
        assert!(
            self.levels.is_sorted_by(|low, high| low.priority < high.priority),
            "levels ascend"
        );
        let mut seen = 0;
        for level in &self.levels {
            let mut index = level.cursor;
            loop {
                assert_eq!(
                    priority_of(index),
                    Some(level.priority),
                    "consumer {index} stands in its level"
                );
                let next = self.links[index as usize].next;
                assert_eq!(
                    self.links[next as usize].previous, index,
                    "neighbours know each other"
                );
                seen += 1;
                index = next;
                if index == level.cursor {
                    break;
                }
            }
        }
        let standing = (0..self.links.len() as u32)
            .filter(|&index| self.contains(index))
            .count();
        assert_eq!(seen, standing, "who is linked is reached from a cursor");
    }

    fn link_before(&mut self, next: u32, index: u32) {
        let previous = std::mem::replace(&mut self.links[next as usize].previous, index);
        self.links[previous as usize].next = index;
        self.links[index as usize] = Link { previous, next };
    }

    fn find(&self, priority: i64) -> Result<usize, usize> {
        self.levels
            .binary_search_by_key(&priority, |level| level.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(turns: &mut Turns, count: usize) -> Vec<u32> {
        let serve_one = |_| {
            let next = turns.next().expect("somebody stands there");
            turns.pass();
            next
        };
        (0..count).map(serve_one).collect()
    }

    #[test]
    fn equals_are_served_in_turn_and_who_joins_waits_a_round() {
        let mut turns = Turns::default();
        [4, 0, 7].into_iter().for_each(|index| turns.join(index, 0));
        assert_eq!(serve(&mut turns, 4), [4, 0, 7, 4]);
        turns.join(5, 0);
        assert_eq!(serve(&mut turns, 5), [0, 7, 4, 5, 0]);
    }

    #[test]
    fn who_leaves_on_its_turn_gives_it_to_the_next() {
        let mut turns = Turns::default();
        [1, 2, 3].into_iter().for_each(|index| turns.join(index, 0));
        turns.leave(1, 0);
        assert_eq!(serve(&mut turns, 3), [2, 3, 2]);
        turns.leave(2, 0);
        assert!(turns.is_next_alone());
        turns.leave(3, 0);
        assert_eq!(turns.next(), None);
    }

    #[test]
    fn a_higher_priority_is_served_while_it_stands() {
        let mut turns = Turns::default();
        turns.join(0, 0);
        turns.join(1, 9);
        turns.join(2, -5);
        assert_eq!(serve(&mut turns, 2), [1, 1]);
        turns.leave(1, 9);
        assert_eq!(serve(&mut turns, 2), [0, 0]);
        turns.leave(0, 0);
        assert_eq!(serve(&mut turns, 1), [2]);
    }
}
