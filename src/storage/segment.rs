//! Segments: the files a log consists of, their names, their header, and what is live in each.
//!
//! A core's log is a directory of its own, `shard-0003`. In it:
//!
//! ```text
//!  00000042.segment      a segment in use, its number in decimal; numbers follow one another, from 1
//!  00000007.spare        zeros, or a segment no longer needed: becomes a segment by a change of name
//!  00000007.preparing    zeros being written
//!  failed                empty: a write or a sync failed in the last life
//! ```
//!
//! Spares last as long as the process: the next one removes them.
//!
//! The first 4 KiB of a segment:
//!
//! ```text
//!  offset  width
//!   0      8     "LANELOG\0"
//!   8      2     format version, 1
//!  10      2     shard
//!  12      4     segment number, the same as in the name
//!  16      8     lsn of the segment's first record
//!  24      8     log id: the same in all segments of one log
//!  32      4     number of the segment before, 0 in the log's first
//!  36      4     byte at which that segment's records end: what lies behind it there is void
//!  40      4     zero
//!  44      4     crc32 of bytes 0..44
//!  48            zeros up to 4096; the first record follows
//! ```
//!
//! A header is valid when magic and checksum agree and its number is the name's. An invalid one says that the file
//! never became a segment; a recycled file whose header was not yet written still has that of its earlier number.

use super::error::{StorageError, log_name};
use super::record::{u16_at, u32_at, u64_at};
use crate::model::{Lsn, SegmentId, ShardId};
use crate::runtime::disk::{FileMap, SegmentFile};

/// Bytes before a segment's first record.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// Least size of a segment.
pub const SEGMENT_BYTES_MIN: u32 = 64 * 1024;
/// Greatest size of a segment.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Name of the file that says that a write or a sync failed.
pub(super) const FAILED_NAME: &str = "failed";
/// Number of a log's first segment.
pub(super) const FIRST_SEGMENT: SegmentId = SegmentId(1);
/// Greatest number a file may have, so that a stray name cannot use up the numbers.
const NUMBER_MAX: u32 = u32::MAX / 2;
const MAGIC: [u8; 8] = *b"LANELOG\0";
const VERSION: u16 = 1;
const CHECKSUM_AT: usize = 44;
/// Bytes that are read of a header.
pub(super) const HEADER_FIELDS_BYTES: usize = 48;

/// Name of the directory that holds a core's log.
pub fn shard_directory_name(shard: ShardId) -> String {
    format!("shard-{:04}", shard.0)
}

pub(super) fn segment_name(segment: SegmentId) -> String {
    format!("{:08}.segment", segment.0)
}

pub(super) fn spare_name(number: u32) -> String {
    format!("{number:08}.spare")
}

pub(super) fn preparing_name(number: u32) -> String {
    format!("{number:08}.preparing")
}

/// What a file of the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileRole {
    Segment(SegmentId),
    Spare,
    Preparing,
}

impl FileRole {
    /// The role, or `None` for a file that is not the log's.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (number, role) = name.split_once('.')?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = number
            .parse::<u32>()
            .ok()
            .filter(|&number| number <= NUMBER_MAX)?;
        match role {
            "segment" => Some(Self::Segment(SegmentId(number))),
            "spare" => Some(Self::Spare),
            "preparing" => Some(Self::Preparing),
            _ => None,
        }
    }
}

/// The fields of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub shard: ShardId,
    pub segment: SegmentId,
    pub first_lsn: Lsn,
    pub log_id: u64,
    pub previous: SegmentId,
    pub previous_end: u32,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_FIELDS_BYTES] {
        let mut bytes = [0; HEADER_FIELDS_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.previous.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.previous_end.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header that `bytes` begin with; `Ok(Err)` says why there is none, which is no error in itself.
    ///
    /// # Errors
    /// `UnsupportedVersion`.
    pub(super) fn decode(file: &str, bytes: &[u8]) -> Result<Result<Self, String>, StorageError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_FIELDS_BYTES>() else {
            return Ok(Err("the file is too short to have one".to_owned()));
        };
        let (found, computed) = (u32_at(bytes, CHECKSUM_AT), crc32fast::hash(&bytes[..CHECKSUM_AT]));
        if found != computed || bytes[..8] != MAGIC {
            return Ok(Err(format!(
                "checksum {found:#010x} found, {computed:#010x} expected"
            )));
        }
        let version = u16_at(bytes, 8);
        if version != VERSION {
            return Err(StorageError::UnsupportedVersion {
                file: file.to_owned(),
                version,
            });
        }
        Ok(Ok(Self {
            shard: ShardId(u16_at(bytes, 10)),
            segment: SegmentId(u32_at(bytes, 12)),
            first_lsn: Lsn(u64_at(bytes, 16)),
            log_id: u64_at(bytes, 24),
            previous: SegmentId(u32_at(bytes, 32)),
            previous_end: u32_at(bytes, 36),
        }))
    }

    /// Checks that the segment is of the log whose shard and id are given.
    ///
    /// # Errors
    /// `ForeignSegment`.
    pub(super) fn check_log(
        &self,
        file: &str,
        shard: ShardId,
        log_id: Option<u64>,
    ) -> Result<(), StorageError> {
        let log_id = log_id.unwrap_or(self.log_id);
        if (self.shard, self.log_id) == (shard, log_id) {
            return Ok(());
        }
        let (found, expected) = (log_name(self.shard, self.log_id), log_name(shard, log_id));
        Err(StorageError::ForeignSegment {
            file: file.to_owned(),
            found,
            expected,
        })
    }
}

/// A segment of an open log.
#[derive(Default)]
pub(super) struct Segment {
    /// Missing until the segment's first batch is written.
    pub file: Option<OpenFile>,
    /// Byte at which its written records end.
    pub end: u32,
    /// Its last record, once the log has gone on.
    pub last_lsn: Lsn,
    /// Entries of messages that are still wanted, of all entries it has had.
    pub live_entries: u64,
    pub entries: u64,
    /// Bytes of its Message records.
    pub message_bytes: u64,
    /// MessagePart records that are still wanted, and their bytes.
    pub live_parts: u64,
    pub live_part_bytes: u64,
    /// Up to where the log must be durable for what was released here to stay so.
    pub settled_lsn: Lsn,
    /// Whether it has Topology records or pieces of a snapshot.
    pub has_topology: bool,
    /// Whether it was written since the last sync was asked for.
    pub is_dirty: bool,
    /// Whether the sync under way is to make it durable.
    pub is_syncing: bool,
}

/// A segment's file and its map.
pub(super) struct OpenFile {
    pub file: Box<dyn SegmentFile>,
    pub map: FileMap,
}

impl Segment {
    /// Bytes of records that are still wanted; entries of one segment are taken as equally long.
    pub(super) fn live_bytes(&self) -> u64 {
        let messages = match self.entries {
            0 => 0,
            entries => {
                (u128::from(self.message_bytes) * u128::from(self.live_entries) / u128::from(entries)) as u64
            }
        };
        messages + self.live_part_bytes
    }

    /// Whether an entry or a part in it is still wanted.
    pub(super) fn has_live(&self) -> bool {
        self.live_entries > 0 || self.live_parts > 0
    }

    /// The map; a segment that is read was written before.
    #[inline]
    pub(super) fn map(&self) -> &FileMap {
        &self
            .file
            .as_ref()
            .expect("a segment that is read was written")
            .map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        shard: ShardId(3),
        segment: SegmentId(42),
        first_lsn: Lsn(1000),
        log_id: 77,
        previous: SegmentId(41),
        previous_end: 8000,
    };

    #[test]
    fn a_header_reads_back_and_a_damaged_one_does_not() {
        let bytes = HEADER.encode();
        assert_eq!(SegmentHeader::decode("f", &bytes).unwrap(), Ok(HEADER));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert!(SegmentHeader::decode("f", &damaged).unwrap().is_err());
            assert!(SegmentHeader::decode("f", &bytes[..at]).unwrap().is_err());
        }
    }

    #[test]
    fn a_later_format_is_refused_by_its_number() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let sum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        let refused = SegmentHeader::decode("00000042.segment", &bytes).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("00000042.segment has format version 2"),
            "{refused}"
        );
    }

    #[test]
    fn a_segment_of_another_core_is_refused() {
        assert!(HEADER.check_log("f", ShardId(3), Some(77)).is_ok());
        assert!(HEADER.check_log("f", ShardId(4), None).is_err());
        assert!(HEADER.check_log("f", ShardId(3), Some(78)).is_err());
    }

    #[test]
    fn names_tell_what_a_file_is() {
        assert_eq!(
            FileRole::of(&segment_name(SegmentId(42))),
            Some(FileRole::Segment(SegmentId(42)))
        );
        assert_eq!(FileRole::of(&spare_name(7)), Some(FileRole::Spare));
        assert_eq!(FileRole::of(&preparing_name(7)), Some(FileRole::Preparing));
        for other in [
            "notes.txt",
            "+1.segment",
            ".segment",
            "1.segment.old",
            "4000000000.segment",
        ] {
            assert_eq!(FileRole::of(other), None);
        }
    }
}
