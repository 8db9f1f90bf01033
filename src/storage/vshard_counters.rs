//! `VshardCounters`: the last vshard lsn of each vshard, as this log gave them out.

use crate::model::{VSHARD_COUNT, VshardId};

/// One counter for each vshard; zero where this log has no record of it.
pub(super) struct VshardCounters(Box<[u64; VSHARD_COUNT as usize]>);

impl Default for VshardCounters {
    fn default() -> Self {
        Self(Box::new([0; VSHARD_COUNT as usize]))
    }
}

impl VshardCounters {
    /// The number of the vshard's next record.
    ///
    /// # Panics
    /// If there is no such vshard.
    #[inline]
    pub(super) fn next(&mut self, vshard: VshardId) -> u64 {
        let last = &mut self.0[usize::from(vshard.0)];
        *last += 1;
        *last
    }

    /// Learns that a number was given out. Returns whether there is such a vshard.
    pub(super) fn note(&mut self, vshard: VshardId, given: u64) -> bool {
        let Some(last) = self.0.get_mut(usize::from(vshard.0)) else {
            return false;
        };
        *last = given.max(*last);
        true
    }

    /// Vshards that have records, with the last number of each.
    pub(super) fn used(&self) -> impl Iterator<Item = (VshardId, u64)> {
        let numbered = self
            .0
            .iter()
            .enumerate()
            .map(|(vshard, &last)| (VshardId(vshard as u16), last));
        numbered.filter(|&(_, last)| last > 0)
    }
}
