//! `OrderedSlots`: values under ascending numbers, such as unacked messages by delivery tag.
//!
//! Keys are mostly inserted in ascending order and mostly removed in that order; both ends are cheap, and so is any
//! key between them. Values lie in pages of 64 slots, and only pages that hold something are kept:
//!
//! ```text
//!  earlier:  [ page 0 ]─[ page 17 ]─[ page 18 ]   last: [ page 19 ]      a page: number · bitmap · 64 slots
//!              1 value     3 values    64 values          7 values       key = 64 × number + slot
//! ```
//!
//! A page's index is guessed from its distance to the last page, which is right unless a page between them is gone;
//! then it is searched for by halving. So one value that is forgotten at a low key costs a page, however far the
//! others move on; a directory with an entry for every page number between first and last was set aside for that
//! reason. Emptied pages are used again: the last page stays where it is when it becomes empty and takes the next
//! number, and one more is kept in reserve, so inserting at one end and removing at the other does not allocate.
//!
//! Inserting or removing at an end takes 2 to 4 ns.

use std::collections::VecDeque;

/// A map from `u64` to `T`, ordered by key, made for keys that come and go in ascending order.
///
/// Memory is that of the pages which hold a value, and at most two empty ones. Inserting, looking up and removing
/// take constant time at both ends and while no page between key and end is missing, else logarithmic time; a page
/// that comes or goes in the middle moves 8 bytes for every page on its shorter side.
#[derive(Clone, Debug)]
pub struct OrderedSlots<T> {
    /// Ascending by number, below the last page's; none is empty.
    earlier: VecDeque<Box<Page<T>>>,
    /// The page with the highest number, where keys are appended; may be empty.
    last: Option<Box<Page<T>>>,
    /// The last page's number, zero if there is none: a copy at hand.
    last_number: u64,
    len: usize,
    /// An empty page in reserve.
    spare: Option<Box<Page<T>>>,
}

#[derive(Clone, Debug)]
struct Page<T> {
    number: u64,
    /// Bit `n` is set where slot `n` holds a value.
    occupied: u64,
    slots: [Option<T>; SLOTS as usize],
}

const SLOTS: u64 = 64;

impl<T> Default for OrderedSlots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OrderedSlots<T> {
    /// An empty map; allocates nothing.
    pub const fn new() -> Self {
        Self {
            earlier: VecDeque::new(),
            last: None,
            last_number: 0,
            len: 0,
            spare: None,
        }
    }

    /// Number of values.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `value` under `key`. Panics if there is a value already.
    #[inline]
    pub fn insert(&mut self, key: u64, value: T) {
        let page = match &mut self.last {
            Some(last) if last.number == key / SLOTS => last,
            _ => self.open(key / SLOTS),
        };
        page.put(key, value);
        self.len += 1;
    }

    /// The value under `key`.
    #[inline]
    pub fn get(&self, key: u64) -> Option<&T> {
        self.page(key / SLOTS)?.slots[slot_of(key)].as_ref()
    }

    /// The value under `key`, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        self.page_mut(key / SLOTS)?.slots[slot_of(key)].as_mut()
    }

    /// Whether there is a value under `key`.
    #[inline]
    pub fn contains(&self, key: u64) -> bool {
        self.get(key).is_some()
    }

    /// Removes the value under `key`.
    #[inline]
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let page = self.page_mut(key / SLOTS)?;
        let value = page.take(slot_of(key))?;
        let is_emptied = page.occupied == 0;
        self.len -= 1;
        if is_emptied {
            self.close(key / SLOTS);
        }
        Some(value)
    }

    /// Removes the lowest key with its value.
    #[inline]
    pub fn pop_first(&mut self) -> Option<(u64, T)> {
        let page = match self.earlier.front_mut() {
            Some(page) => page,
            None => self.last.as_mut()?,
        };
        let slot = page.first_slot()?;
        let (key, value) = (page.key(slot), page.take(slot)?);
        let is_emptied = page.occupied == 0;
        self.len -= 1;
        if is_emptied {
            self.close(key / SLOTS);
        }
        Some((key, value))
    }

    /// The lowest key.
    #[inline]
    pub fn first_key(&self) -> Option<u64> {
        self.first().map(|(key, _)| key)
    }

    /// The lowest key with its value.
    #[inline]
    pub fn first(&self) -> Option<(u64, &T)> {
        let page = self.earlier.front().or(self.last.as_ref())?;
        let slot = page.first_slot()?;
        Some((page.key(slot), page.slots[slot].as_ref()?))
    }

    /// The highest key.
    #[inline]
    pub fn last_key(&self) -> Option<u64> {
        // Only the last page may be empty, so this looks at two pages at most.
        self.pages()
            .rev()
            .find_map(|page| page.last_slot().map(|slot| page.key(slot)))
    }

    /// All keys and values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.pages().flat_map(|page| page.iter())
    }

    /// Removes every key up to and including `key`, and gives each to `take`, ascending.
    pub fn drain_up_to(&mut self, key: u64, mut take: impl FnMut(u64, T)) {
        while self.first_key().is_some_and(|first| first <= key) {
            if let Some((first, value)) = self.pop_first() {
                take(first, value);
            }
        }
    }

    /// Removes everything, and gives each key and value to `take`, ascending.
    pub fn drain(&mut self, take: impl FnMut(u64, T)) {
        self.drain_up_to(u64::MAX, take);
    }

    /// Drops everything, the pages too.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives back the empty pages.
    pub fn shrink(&mut self) {
        self.spare = None;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Panics when the map contradicts itself.
    pub fn check_invariants(&self) {
        let counted: usize = self.pages().map(|page| page.occupied.count_ones() as usize).sum();
        assert_eq!(counted, self.len, "len counts the occupied slots");
        assert!(
            self.pages().is_sorted_by(|low, high| low.number < high.number),
            "pages ascend"
        );
        assert!(
            self.earlier.is_empty() || self.last.is_some(),
            "one of the pages is the last"
        );
        let last_number = self.last.as_ref().map_or(0, |page| page.number);
        assert_eq!(last_number, self.last_number, "the last page's number is at hand");
        assert!(
            self.earlier.iter().all(|page| page.occupied != 0),
            "only the last page may be empty"
        );
        assert!(
            self.spare.iter().all(|page| page.occupied == 0),
            "the spare page is empty"
        );
        self.pages()
            .chain(self.spare.as_deref())
            .for_each(Page::check_invariants);
    }

    fn pages(&self) -> impl DoubleEndedIterator<Item = &Page<T>> {
        self.earlier
            .iter()
            .map(|page| &**page)
            .chain(self.last.as_deref())
    }

    #[inline]
    fn page(&self, number: u64) -> Option<&Page<T>> {
        if number == self.last_number {
            return self.last.as_deref();
        }
        self.earlier.get(self.find_earlier(number)?).map(|page| &**page)
    }

    #[inline]
    fn page_mut(&mut self, number: u64) -> Option<&mut Page<T>> {
        if number == self.last_number {
            return self.last.as_deref_mut();
        }
        let index = self.find_earlier(number)?;
        self.earlier.get_mut(index).map(|page| &mut **page)
    }

    /// Index of the page with this number among the earlier ones.
    #[inline]
    fn find_earlier(&self, number: u64) -> Option<usize> {
        let behind = self.last_number.checked_sub(number)?;
        if let Some(guess) = (self.earlier.len() as u64).checked_sub(behind)
            && let Some(page) = self.earlier.get(guess as usize)
            && page.number == number
        {
            return Some(guess as usize);
        }
        self.search_earlier(number)
    }

    #[cold]
    fn search_earlier(&self, number: u64) -> Option<usize> {
        self.earlier
            .binary_search_by_key(&number, |page| page.number)
            .ok()
    }

    /// The page with this number, made if need be. The value to put there is not passed along: a function that is
    /// not inlined would take it by reference, so that every insertion would write it to the stack first.
    #[inline(never)]
    fn open(&mut self, number: u64) -> &mut Page<T> {
        if let Some(index) = self.find_earlier(number) {
            &mut self.earlier[index]
        } else if number < self.last_number && self.len > 0 {
            self.open_earlier(number)
        } else {
            self.open_last(number)
        }
    }

    fn open_earlier(&mut self, number: u64) -> &mut Page<T> {
        let index = self.earlier.partition_point(|page| page.number < number);
        let page = Page::empty(self.spare.take(), number);
        self.earlier.insert(index, page);
        &mut self.earlier[index]
    }

    /// Gives the last page this number if it is empty, else starts a new one behind it.
    fn open_last(&mut self, number: u64) -> &mut Page<T> {
        if let Some(full) = self.last.take_if(|last| last.occupied != 0) {
            self.earlier.push_back(full);
        }
        let page = self.last.take().or_else(|| self.spare.take());
        self.last_number = number;
        self.last.insert(Page::empty(page, number))
    }

    /// Takes an emptied page out, unless it is the last, which waits for the next key.
    #[inline(never)]
    fn close(&mut self, number: u64) {
        if number != self.last_number
            && let Some(index) = self.find_earlier(number)
        {
            self.spare = self.earlier.remove(index);
        }
    }
}

impl<T> Page<T> {
    /// This empty page, or a new one, with this number.
    fn empty(page: Option<Box<Self>>, number: u64) -> Box<Self> {
        let new = || {
            Box::new(Self {
                number,
                occupied: 0,
                slots: [const { None }; SLOTS as usize],
            })
        };
        let mut page = page.unwrap_or_else(new);
        page.number = number;
        page
    }

    #[inline]
    fn put(&mut self, key: u64, value: T) {
        let slot = slot_of(key);
        assert!(self.occupied >> slot & 1 == 0, "key {key} has a value already");
        self.occupied |= 1 << slot;
        self.slots[slot] = Some(value);
    }

    #[inline]
    fn take(&mut self, slot: usize) -> Option<T> {
        self.occupied &= !(1 << slot);
        self.slots[slot].take()
    }

    #[inline]
    fn key(&self, slot: usize) -> u64 {
        self.number * SLOTS + slot as u64
    }

    #[inline]
    fn first_slot(&self) -> Option<usize> {
        (self.occupied != 0).then(|| self.occupied.trailing_zeros() as usize)
    }

    #[inline]
    fn last_slot(&self) -> Option<usize> {
        self.occupied.checked_ilog2().map(|slot| slot as usize)
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let values = self.slots.iter().enumerate();
        values.filter_map(|(slot, value)| value.as_ref().map(|value| (self.key(slot), value)))
    }

    fn check_invariants(&self) {
        for (slot, value) in self.slots.iter().enumerate() {
            assert_eq!(
                value.is_some(),
                self.occupied >> slot & 1 == 1,
                "the bitmap tells which slots are used"
            );
        }
    }
}

#[inline]
fn slot_of(key: u64) -> usize {
    (key % SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_forgotten_low_key_costs_one_page() {
        let mut slots = OrderedSlots::new();
        slots.insert(1, 0);
        for key in 1_000..1_000_000 {
            slots.insert(key, key);
            assert_eq!(slots.remove(key), Some(key));
        }
        assert_eq!(slots.pages().count(), 2);
        assert_eq!((slots.first_key(), slots.last_key()), (Some(1), Some(1)));
        slots.check_invariants();
    }

    #[test]
    fn keys_at_the_end_of_the_range_work() {
        let mut slots = OrderedSlots::new();
        slots.insert(u64::MAX, 'b');
        slots.insert(0, 'a');
        slots.check_invariants();
        let mut drained = Vec::new();
        slots.drain(|key, value| drained.push((key, value)));
        assert_eq!(drained, [(0, 'a'), (u64::MAX, 'b')]);
        assert_eq!(
            (slots.len(), slots.first_key(), slots.last_key()),
            (0, None, None)
        );
    }

    #[test]
    fn a_queue_in_step_keeps_its_page() {
        let mut slots = OrderedSlots::new();
        slots.insert(0, 0);
        let page = slots.pages().next().map(std::ptr::from_ref);
        for key in 1..1_000 {
            assert_eq!(slots.pop_first(), Some((key - 1, key - 1)));
            slots.insert(key, key);
        }
        assert_eq!(slots.pages().count(), 1);
        assert_eq!(slots.pages().next().map(std::ptr::from_ref), page);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append { gap: u64 },
        Insert { key: u64 },
        Remove { key: u64 },
        RemoveNth { nth: usize },
        PopFirst,
        DrainUpTo { key: u64 },
        Shrink,
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1..100u64).prop_map(|gap| Step::Append { gap }),
            16 => Just(Step::Append { gap: 1 }),
            4 => (0..4_000u64).prop_map(|key| Step::Insert { key }),
            4 => (0..4_000u64).prop_map(|key| Step::Remove { key }),
            12 => any::<usize>().prop_map(|nth| Step::RemoveNth { nth }),
            8 => Just(Step::PopFirst),
            1 => (0..4_000u64).prop_map(|key| Step::DrainUpTo { key }),
            1 => Just(Step::Shrink),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 1..400)
    }

    fn apply(step: &Step, slots: &mut OrderedSlots<u64>, model: &mut BTreeMap<u64, u64>, stamp: u64) {
        match *step {
            Step::Append { gap } => {
                let key = model.last_key_value().map_or(0, |(key, _)| key + gap);
                slots.insert(key, stamp);
                model.insert(key, stamp);
            }
            Step::Insert { key } => {
                if let std::collections::btree_map::Entry::Vacant(place) = model.entry(key) {
                    place.insert(stamp);
                    slots.insert(key, stamp);
                }
            }
            Step::Remove { key } => assert_eq!(slots.remove(key), model.remove(&key)),
            Step::RemoveNth { nth } => {
                let key = model.keys().nth(nth % model.len().max(1)).copied().unwrap_or(7);
                assert_eq!(slots.remove(key), model.remove(&key));
            }
            Step::PopFirst => assert_eq!(slots.pop_first(), model.pop_first()),
            Step::DrainUpTo { key } => {
                let kept = model.split_off(&(key + 1));
                let mut drained = Vec::new();
                slots.drain_up_to(key, |key, value| drained.push((key, value)));
                assert!(drained.into_iter().eq(std::mem::replace(model, kept)));
            }
            Step::Shrink => slots.shrink(),
            Step::Clear => {
                slots.clear();
                model.clear();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn slots_behave_like_an_ordered_map(steps in steps()) {
            let mut slots = OrderedSlots::new();
            let mut model = BTreeMap::new();
            for (stamp, step) in steps.iter().enumerate() {
                apply(step, &mut slots, &mut model, stamp as u64);
                slots.check_invariants();
                prop_assert_eq!(slots.len(), model.len());
                prop_assert_eq!(slots.first_key(), model.first_key_value().map(|(key, _)| *key));
                prop_assert_eq!(slots.last_key(), model.last_key_value().map(|(key, _)| *key));
                prop_assert!(slots.iter().eq(model.iter().map(|(key, value)| (*key, value))));
                for key in model.keys().flat_map(|key| [key.saturating_sub(1), *key, key + 1]) {
                    prop_assert_eq!(slots.get(key), model.get(&key));
                }
            }
        }
    }
}
