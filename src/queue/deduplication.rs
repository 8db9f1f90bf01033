//! `Deduplication`: the values that a queue has seen lately, each in one message's header.
//!
//! ```text
//!   known    every value that is remembered, and since when      is this one new?
//!   order    oldest ─ … ─ newest, with its time and its stub      who goes when there are too many, or time has passed
//! ```
//!
//! A value counts from when it first came; that it comes again does not keep it. When its time is over it counts no more,
//! though it may still stand here: what is over goes in slices. What survives a restart has a stub: a
//! message without a body, of an exchange that no client can have, which the queue keeps aside and the log holds. A value
//! above 255 bytes is remembered by its SHA-256.

use crate::model::{FieldTableRef, QueueSequence};
use crate::topology::Deduplicating;
use crate::topology::erlang_term::value_text;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The exchange that stubs are of. Its name is reserved (§ `amq.`), so that no message of a client can be.
pub const STUB_EXCHANGE: &[u8] = b"amq.deduplication";

const VALUE_BYTES_MAX: usize = 255;

/// See the file's head.
#[derive(Debug)]
pub struct Deduplication {
    settings: Deduplicating,
    known: BTreeMap<Arc<[u8]>, u64>,
    order: VecDeque<Remembered>,
    value_bytes: usize,
    stub_count: usize,
    is_watched: bool,
}

#[derive(Debug)]
struct Remembered {
    value: Arc<[u8]>,
    /// In milliseconds since 1970.
    since: u64,
    stub: Option<QueueSequence>,
}

impl Deduplication {
    /// Nothing was seen yet.
    pub fn new(settings: Deduplicating) -> Self {
        Self {
            settings,
            known: BTreeMap::new(),
            order: VecDeque::new(),
            value_bytes: 0,
            stub_count: 0,
            is_watched: false,
        }
    }

    /// The value of a message with these headers, at most 255 bytes, if it has one.
    pub fn value_of(&self, headers: Option<FieldTableRef<'_>>) -> Option<Vec<u8>> {
        let value = headers?.get(self.settings.header.as_bytes())?;
        let bytes = match value.as_string() {
            Some(bytes) => bytes.to_vec(),
            None => value_text(value).into_bytes(),
        };
        Some(match bytes.len() {
            0..=VALUE_BYTES_MAX => bytes,
            _ => Sha256::digest(&bytes).to_vec(),
        })
    }

    /// Whether the value is remembered, and counts at `now`.
    pub fn knows(&self, value: &[u8], now: u64) -> bool {
        self.known
            .get(value)
            .is_some_and(|&since| !self.is_over(since, now))
    }

    /// Remembers a new value that came at `since`, with its stub if it has one.
    pub fn remember(&mut self, value: &[u8], since: u64, stub: Option<QueueSequence>) {
        let value: Arc<[u8]> = value.into();
        self.value_bytes += value.len();
        self.stub_count += usize::from(stub.is_some());
        self.known.insert(value.clone(), since);
        self.order.push_back(Remembered { value, since, stub });
    }

    /// Gives each value without a stub the one that `stub` makes for it. A restart takes its time for the value's.
    pub fn complete(&mut self, mut stub: impl FnMut(&[u8]) -> QueueSequence) {
        for remembered in self.order.iter_mut().filter(|value| value.stub.is_none()) {
            remembered.stub = Some(stub(&remembered.value));
            self.stub_count += 1;
        }
    }

    /// Forgets the oldest value if it is one too many, or its time is over at `now`. Returns its stub, which may go; call
    /// until `None`.
    pub fn forget_one(&mut self, now: u64) -> Option<Option<QueueSequence>> {
        let oldest = self.order.front()?;
        let is_too_many = self.order.len() as u64 > self.settings.cache_size;
        match is_too_many || self.is_over(oldest.since, now) {
            true => self.forget_oldest(),
            false => None,
        }
    }

    /// Forgets the oldest value, whose place is needed. Returns its stub, which may go; `None` if nothing is remembered.
    pub fn forget_oldest(&mut self) -> Option<Option<QueueSequence>> {
        let forgotten = self.order.pop_front()?;
        if self.known.get(&forgotten.value) == Some(&forgotten.since) {
            self.known.remove(&forgotten.value);
        }
        Some(self.uncount(&forgotten))
    }

    fn uncount(&mut self, forgotten: &Remembered) -> Option<QueueSequence> {
        self.value_bytes -= forgotten.value.len();
        self.stub_count -= usize::from(forgotten.stub.is_some());
        forgotten.stub
    }

    /// Forgets this value. Returns its stub, which may go; `None` if it is not remembered.
    pub fn forget(&mut self, value: &[u8]) -> Option<Option<QueueSequence>> {
        let since = self.known.get(value)?;
        let is_it = |remembered: &Remembered| remembered.since == *since && *remembered.value == *value;
        let place = self.order.iter().rposition(is_it)?;
        self.known.remove(value);
        let forgotten = self.order.remove(place)?;
        Some(self.uncount(&forgotten))
    }

    /// When the oldest value's time is over, if somebody has to begin to watch for it: told once until
    /// [`unwatch`](Self::unwatch).
    pub fn watch(&mut self) -> Option<u64> {
        let over_at = self.order.front()?.since.saturating_add(self.settings.cache_ttl?);
        (!std::mem::replace(&mut self.is_watched, true)).then_some(over_at)
    }

    /// Nobody watches any more for the time when a value is over.
    pub fn unwatch(&mut self) {
        self.is_watched = false;
    }

    fn is_over(&self, since: u64, now: u64) -> bool {
        let ttl = self.settings.cache_ttl;
        ttl.is_some_and(|ttl| since.saturating_add(ttl) <= now)
    }

    /// How many values have a stub.
    pub fn stub_count(&self) -> usize {
        self.stub_count
    }

    /// Bytes of memory that it takes, to a few for each value.
    pub fn memory_bytes(&self) -> usize {
        self.value_bytes + self.order.len() * (2 * size_of::<Remembered>() + 3 * size_of::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldTable, ShortString};

    fn deduplication(cache_size: u64, cache_ttl: Option<u64>) -> Deduplication {
        Deduplication::new(Deduplicating {
            cache_size,
            cache_ttl,
            header: ShortString::from("id"),
        })
    }

    #[test]
    fn the_oldest_values_are_forgotten_when_there_are_too_many() {
        let mut seen = deduplication(2, None);
        for (at, value) in [b"a", b"b", b"c"].into_iter().enumerate() {
            seen.remember(value, at as u64, Some(QueueSequence(at as u64)));
        }
        assert_eq!(seen.forget_one(9), Some(Some(QueueSequence(0))));
        assert_eq!(seen.forget_one(9), None);
        assert!(!seen.knows(b"a", 9) && seen.knows(b"b", 9) && seen.knows(b"c", 9));
    }

    #[test]
    fn values_are_forgotten_when_their_time_is_over() {
        let mut seen = deduplication(10, Some(100));
        seen.remember(b"a", 0, None);
        seen.remember(b"b", 50, None);
        assert_eq!(seen.watch(), Some(100));
        assert_eq!(seen.watch(), None, "it is watched");
        assert!(seen.knows(b"a", 99) && !seen.knows(b"a", 100));
        assert_eq!(seen.forget_one(99), None);
        assert_eq!(seen.forget_one(100), Some(None));
        assert_eq!(seen.forget_one(100), None);
        assert!(!seen.knows(b"a", 100) && seen.knows(b"b", 100));
        seen.unwatch();
        assert_eq!(seen.watch(), Some(150));
    }

    #[test]
    fn a_value_that_comes_again_when_its_time_is_over_is_a_new_one() {
        let mut seen = deduplication(10, Some(100));
        seen.remember(b"a", 0, Some(QueueSequence(1)));
        seen.remember(b"a", 120, Some(QueueSequence(2)));
        assert_eq!(seen.forget_one(150), Some(Some(QueueSequence(1))));
        assert!(seen.knows(b"a", 150) && seen.stub_count() == 1);
    }

    #[test]
    fn a_value_may_be_forgotten_by_its_name() {
        let mut seen = deduplication(10, None);
        for value in [b"a", b"b", b"c"] {
            seen.remember(value, 0, Some(QueueSequence(u64::from(value[0]))));
        }
        assert_eq!(seen.forget(b"b"), Some(Some(QueueSequence(u64::from(b'b')))));
        assert_eq!(seen.forget(b"b"), None);
        assert!(seen.knows(b"a", 0) && !seen.knows(b"b", 0) && seen.knows(b"c", 0));
        assert_eq!(seen.stub_count(), 2);
    }

    #[test]
    fn a_value_is_a_headers_text_and_a_long_one_its_digest() {
        let seen = deduplication(10, None);
        let value = |headers: FieldTable| seen.value_of(Some(headers.as_ref()));
        assert_eq!(
            value(FieldTable::builder().string("id", "a").build()),
            Some(b"a".to_vec())
        );
        assert_eq!(
            value(FieldTable::builder().int("id", 7).build()),
            Some(b"7".to_vec())
        );
        assert_eq!(value(FieldTable::builder().string("other", "a").build()), None);
        let long = value(FieldTable::builder().string("id", "x".repeat(256)).build());
        assert_eq!(long.map(|value| value.len()), Some(32));
        assert_eq!(seen.value_of(None), None);
    }

    #[test]
    fn what_it_holds_is_counted_and_given_back() {
        let mut seen = deduplication(1, None);
        seen.remember(&[0; 200], 0, None);
        let one = seen.memory_bytes();
        assert!(one > 200);
        seen.remember(&[1; 200], 0, None);
        seen.forget_one(0);
        assert_eq!(seen.memory_bytes(), one);
    }
}
