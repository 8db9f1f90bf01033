//! `LogMetrics`: what one log has done since it was opened.

/// Counters that only grow; plain numbers of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogMetrics {
    /// Records appended.
    pub records_appended: u64,
    /// Messages among them.
    pub messages_appended: u64,
    /// Bytes of records appended, padding included.
    pub bytes_appended: u64,
    /// Batches written.
    pub batches_written: u64,
    /// Syncs that ended well.
    pub syncs: u64,
    /// Time they took together, in nanoseconds, as the caller noted it.
    pub sync_nanoseconds: u64,
    /// Segments begun.
    pub segments_begun: u64,
    /// Of these, segments for which no spare was ready, so that they began as sparse files.
    pub sparse_rolls: u64,
    /// Spares prepared with zeros.
    pub spares_prepared: u64,
    /// Spares for which the disk had no room.
    pub spare_failures: u64,
    /// Segments recycled or removed since nothing in them was live.
    pub segments_recycled: u64,
    /// Messages copied forward.
    pub messages_moved: u64,
    /// Bytes of their records.
    pub bytes_moved: u64,
}
