//! What can go wrong with a log.

use super::record::RecordFault;
use crate::model::{Lsn, SegmentId, ShardId};
use std::io;

/// The log cannot go on, or cannot be opened. Nothing of it is retried.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused. After a write or a sync it is unknown what the disk holds: stop, and let recovery look.
    #[error("cannot {operation} {file}: {source}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("{0}")]
    Directory(#[from] io::Error),
    /// The log failed before; see the first error.
    #[error("the log has failed before and takes nothing more")]
    Failed,
    /// A record is damaged that was known to be durable, so it is no torn end of the log.
    #[error(
        "segment file {file} is damaged at byte {byte}: {fault}. Record {lsn} should be there, and records up to \
         {durable} were durable. Restore the file from a backup, or move this core's log directory away to start \
         without its messages"
    )]
    Corruption {
        /// The segment's file.
        file: String,
        /// The record's byte in it.
        byte: u32,
        /// The record that should be there.
        lsn: Lsn,
        /// Up to where the log was known to be durable.
        durable: Lsn,
        /// What was found, with both checksums.
        fault: RecordFault,
    },
    /// A segment's header is damaged though its records were durable.
    #[error(
        "the header of segment file {file} is damaged: {fault}. Record {lsn} should follow it, and records up to \
         {durable} were durable. Restore the file from a backup, or move this core's log directory away to start \
         without its messages"
    )]
    DamagedHeader {
        /// The segment's file.
        file: String,
        /// The record that should follow.
        lsn: Lsn,
        /// Up to where the log was known to be durable.
        durable: Lsn,
        /// What was found.
        fault: String,
    },
    /// A segment that was durable and still needed is not there.
    #[error(
        "a segment is missing before {before}: record {lsn} is in none, and records up to {durable} were durable. \
         Restore the missing segment files from a backup, or move this core's log directory away to start without \
         its messages"
    )]
    MissingSegment {
        /// The first segment file behind the gap.
        before: String,
        /// The first record that is missing.
        lsn: Lsn,
        /// Up to where the log was known to be durable.
        durable: Lsn,
    },
    /// The log's first segments are not there though they were still needed.
    #[error(
        "the log begins with segment {found}, but segment {expected} is still needed. Restore the missing segment \
         files from a backup, or move this core's log directory away to start without its messages"
    )]
    MissingBeginning {
        /// The oldest segment that was needed.
        expected: SegmentId,
        /// The oldest there is.
        found: SegmentId,
    },
    /// A valid record whose contents make no sense: written by a fault of ours, or by another program.
    #[error(
        "segment file {file}, byte {byte}: a valid record of kind {kind} has contents that make no sense"
    )]
    Malformed {
        /// The segment's file.
        file: String,
        /// The record's byte in it.
        byte: u32,
        /// The number of its kind.
        kind: u8,
    },
    /// A kind of record that this version does not know.
    #[error(
        "segment file {file}, byte {byte}: record kind {kind} is unknown to this version, which reads format 1. Start \
         the version that wrote it, or a newer one"
    )]
    UnknownKind {
        /// The segment's file.
        file: String,
        /// The record's byte in it.
        byte: u32,
        /// The number of its kind.
        kind: u8,
    },
    /// A segment of a later format.
    #[error(
        "segment file {file} has format version {version}, and this version reads format 1: start a newer one"
    )]
    UnsupportedVersion {
        /// The segment's file.
        file: String,
        /// Its format version.
        version: u16,
    },
    /// A segment of another core's log, or of another log altogether.
    #[error("segment file {file} belongs to {found}, not to {expected}: it was moved here; put it back")]
    ForeignSegment {
        /// The segment's file.
        file: String,
        /// Which log it belongs to.
        found: String,
        /// Which log was opened.
        expected: String,
    },
    /// Two files hold one segment.
    #[error("segment files {first} and {second} are the same segment: remove the copy")]
    DuplicateSegment {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A segment size or shard that the format has no room for.
    #[error("segments of {bytes} bytes are not possible: at least {min}, at most {max}, a multiple of 4096")]
    SegmentSize {
        /// What was asked for.
        bytes: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

impl StorageError {
    pub(super) fn io(operation: &'static str, file: &str, source: io::Error) -> Self {
        Self::Io {
            operation,
            file: file.to_owned(),
            source,
        }
    }
}

/// Which log a segment belongs to, for error texts.
pub(super) fn log_name(shard: ShardId, log_id: u64) -> String {
    format!("core {shard} of log {log_id:016x}")
}
