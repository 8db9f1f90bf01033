//! `Usage`: how many of something are in use on all cores, for limits that hold over all of them exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that copies share: the cores' copies of a user or a vhost count together. It is no part of what they compare.
#[derive(Clone, Debug, Default)]
pub struct Usage(Arc<AtomicU64>);

/// One of those counted; it counts until it is dropped.
#[derive(Debug)]
pub struct Share(Arc<AtomicU64>);

impl Usage {
    /// Counts one more, unless `limit` are in use already.
    pub fn take(&self, limit: Option<u64>) -> Option<Share> {
        let more = |count: u64| limit.is_none_or(|limit| count < limit).then_some(count + 1);
        // The count guards no other memory.
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Share(self.0.clone()))
    }

    /// How many are in use now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Usage {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Usage {}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_count_together_and_what_is_dropped_counts_no_more() {
        let usage = Usage::default();
        let first = usage.clone().take(Some(2)).expect("the first");
        let second = usage.take(Some(2)).expect("the second");
        assert!(usage.take(Some(2)).is_none() && usage.take(Some(0)).is_none());
        drop(first);
        let third = usage.take(Some(2));
        assert!(third.is_some());
        let fourth = usage.take(None);
        drop((second, fourth));
        assert_eq!(usage.count(), 1);
    }
}
