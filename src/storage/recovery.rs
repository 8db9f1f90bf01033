//! Recovery's scan: which files are the log, where its end is, and whether that end is torn or damaged.
//!
//! 1. Everything is synced, so that no decision rests on what a power cut could still take back. After a write or a
//!    sync that failed this is not enough: the kernel may keep pages that it could not write, and calls them clean.
//!    A file `failed` in the directory tells of it, and everything is then read from the disk.
//! 2. Segments are read in order. Each must name its predecessor and continue its lsns; its records end where its
//!    SegmentEnd, or the next segment's header, says.
//! 3. Where that fails, the log **breaks**. The records before the break are the log. A durable mark anywhere, before
//!    or behind, that promises the record at the break makes it damage: an error that names file, byte and
//!    checksums. Otherwise the end is torn by a power cut, or was never written.
//! 4. Segments behind the break are removed, durably, before their numbers are given again: in a file of the same
//!    number their records would be valid. The broken segment keeps its records; what lies behind them stays void,
//!    since the log goes on in a fresh segment whose header says where its predecessor ended.
//! 5. A log that does not begin with segment 1 must have a mark saying that the earlier ones are not needed.
//!
//! Marks are searched behind the break at every aligned byte, because the damaged record's length means nothing.
//! What a damaged disk took above the last mark cannot be told from a torn end; marks follow their sync with the
//! next batch, and on an idle core within 100 ms.

use super::error::StorageError;
use super::record::{DurableMark, Record, RecordFault, RecordKind};
use super::scan::{Scan, ScanStep, ScannedRecord, highest_mark};
use super::segment::{
    FAILED_NAME, FIRST_SEGMENT, FileRole, HEADER_FIELDS_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::model::{Lsn, SegmentId, ShardId};
use crate::runtime::disk::{Disk, SegmentFile, Syncer};

/// How the log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing was written behind the last record.
    Whole,
    /// What was written behind the last record did not reach the disk whole.
    Torn {
        /// The segment's file.
        file: String,
        /// Where the last valid record ends.
        byte: u32,
    },
}

/// The files and bounds of a log that was scanned.
pub struct ScannedLog {
    pub(super) files: Vec<ScannedFile>,
    pub(super) next_lsn: Lsn,
    pub(super) mark: DurableMark,
    pub(super) log_id: Option<u64>,
    /// How it ended.
    pub tail: Tail,
}

impl ScannedLog {
    /// The lsn that the next record will have: one more than the records there are or were.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }
}

/// A segment that is part of the log.
pub(super) struct ScannedFile {
    pub segment: SegmentId,
    pub file: Box<dyn SegmentFile>,
    pub end: u32,
    pub last_lsn: Lsn,
}

/// Is handed each record in order; says whether the record makes sense after those before it.
pub type Observer<'a> = dyn FnMut(&ScannedRecord<'_>) -> bool + 'a;

struct Listed {
    name: String,
    segment: SegmentId,
    file: Box<dyn SegmentFile>,
    header: Result<SegmentHeader, String>,
}

struct Break {
    index: usize,
    byte: u32,
    cause: Cause,
}

enum Cause {
    Header(String),
    Gap,
    Record(RecordFault),
}

/// Scans the log in `disk`, hands its records to `observer`, and removes segments behind its end.
///
/// # Errors
/// See `StorageError`; nothing was removed then.
pub fn scan_log(
    disk: &dyn Disk,
    shard: ShardId,
    observer: &mut Observer<'_>,
) -> Result<ScannedLog, StorageError> {
    let (files, has_failed) = open_segments(disk)?;
    check_headers(&files, shard)?;
    let log_id = files
        .iter()
        .find_map(|listed| listed.header.as_ref().ok().map(|header| header.log_id));
    let (mark, tail) = (DurableMark::default(), Tail::Whole);
    let log = ScannedLog {
        files: Vec::new(),
        next_lsn: Lsn(1),
        mark,
        log_id,
        tail,
    };
    let mut walk = Walk {
        log,
        bytes: Vec::new(),
        ends: Vec::new(),
    };
    let broken = walk.run(&files, observer)?;
    if let Some(broken) = &broken {
        walk.judge(&files, broken)?;
    }
    walk.check_beginning(&files)?;
    if has_failed {
        disk.remove(FAILED_NAME)
            .map_err(|error| StorageError::io("remove", FAILED_NAME, error))?;
    }
    walk.keep(disk, files, broken)
}

/// Tells the next life that a write or a sync failed. Not synced: what memory hides goes with the machine's memory, and
/// so may the note. If it cannot be made, the disk is read-only or gone, and the next life cannot begin on it.
pub(super) fn note_failure(disk: &dyn Disk) {
    let _it_may_be_there_already = disk.create(FAILED_NAME, 0);
}

/// The segments in order, synced, and whether the last life's log failed.
fn open_segments(disk: &dyn Disk) -> Result<(Vec<Listed>, bool), StorageError> {
    let names = disk
        .list()
        .map_err(|error| StorageError::io("list", "the log directory", error))?;
    let has_failed = names.iter().any(|name| name == FAILED_NAME);
    let mut files = Vec::new();
    for name in names {
        if let Some(FileRole::Segment(segment)) = FileRole::of(&name) {
            files.push(open_segment(disk, name, segment, has_failed)?);
        }
    }
    sync(disk, &*disk.directory_syncer(), "the log directory")?;
    files.sort_by_key(|listed| listed.segment);
    Ok((files, has_failed))
}

fn open_segment(
    disk: &dyn Disk,
    name: String,
    segment: SegmentId,
    has_failed: bool,
) -> Result<Listed, StorageError> {
    let file = disk
        .open(&name)
        .map_err(|error| StorageError::io("open", &name, error))?;
    sync(disk, &*file.syncer(), &name)?;
    if has_failed {
        file.forget_cached()
            .map_err(|error| StorageError::io("reread", &name, error))?;
    }
    let header = read_header(&name, &*file)?;
    Ok(Listed {
        name,
        segment,
        file,
        header,
    })
}

fn sync(disk: &dyn Disk, syncer: &dyn Syncer, file: &str) -> Result<(), StorageError> {
    syncer.sync().map_err(|error| {
        note_failure(disk);
        StorageError::io("sync", file, error)
    })
}

fn read_header(name: &str, file: &dyn SegmentFile) -> Result<Result<SegmentHeader, String>, StorageError> {
    let mut bytes = vec![0; HEADER_FIELDS_BYTES];
    if file.size() < SEGMENT_HEADER_BYTES as u64 {
        bytes.clear();
    }
    file.read_at(0, &mut bytes)
        .map_err(|error| StorageError::io("read", name, error))?;
    SegmentHeader::decode(name, &bytes)
}

fn check_headers(files: &[Listed], shard: ShardId) -> Result<(), StorageError> {
    let mut log_id = None;
    for (index, listed) in files.iter().enumerate() {
        let twin = files[..index]
            .iter()
            .find(|other| other.segment == listed.segment);
        let Ok(header) = &listed.header else {
            if let Some(twin) = twin {
                return Err(duplicate(twin, listed));
            }
            continue;
        };
        let original = files.iter().find(|other| {
            let is_itself = other
                .header
                .as_ref()
                .is_ok_and(|other| other.segment == header.segment);
            other.segment == header.segment && other.name != listed.name && is_itself
        });
        if let Some(original) = twin.or(original) {
            return Err(duplicate(original, listed));
        }
        if header.segment == listed.segment {
            header.check_log(&listed.name, shard, log_id)?;
            log_id = Some(header.log_id);
        }
    }
    Ok(())
}

fn duplicate(first: &Listed, second: &Listed) -> StorageError {
    StorageError::DuplicateSegment {
        first: first.name.clone(),
        second: second.name.clone(),
    }
}

impl Listed {
    /// The header, if the file is the segment its name says.
    fn own_header(&self) -> Result<&SegmentHeader, String> {
        let header = self.header.as_ref().map_err(Clone::clone)?;
        if header.segment == self.segment {
            return Ok(header);
        }
        Err(format!("it still has the header of segment {}", header.segment))
    }
}

struct Walk {
    log: ScannedLog,
    /// The segment being scanned.
    bytes: Vec<u8>,
    /// For each segment scanned: where its records end, and the last one.
    ends: Vec<(u32, Lsn)>,
}

/// Where a segment that was scanned ended.
struct Scanned {
    end: u32,
    fault: Option<RecordFault>,
}

impl Walk {
    /// Scans segment after segment; returns where the log breaks, if it does.
    fn run(&mut self, files: &[Listed], observer: &mut Observer<'_>) -> Result<Option<Break>, StorageError> {
        let mut previous: Option<(SegmentId, u32)> = None;
        for (index, listed) in files.iter().enumerate() {
            let header = match listed.own_header() {
                Ok(header) => header,
                Err(fault) => {
                    return Ok(Some(Break {
                        index,
                        byte: 0,
                        cause: Cause::Header(fault),
                    }));
                }
            };
            let continues = |(segment, end): (SegmentId, u32)| {
                let follows = header.previous == segment && listed.segment.0 == segment.0 + 1;
                follows && (header.previous_end, header.first_lsn) == (end, self.log.next_lsn)
            };
            if !previous.is_none_or(continues) {
                return Ok(Some(Break {
                    index,
                    byte: 0,
                    cause: Cause::Gap,
                }));
            }
            self.log.next_lsn = header.first_lsn;
            let limit = files
                .get(index + 1)
                .and_then(|next| limit_by(next, listed.segment));
            let scanned = self.scan(listed, limit, observer)?;
            self.ends.push((scanned.end, Lsn(self.log.next_lsn.0 - 1)));
            if let Some(fault) = scanned.fault {
                return Ok(Some(Break {
                    index,
                    byte: scanned.end,
                    cause: Cause::Record(fault),
                }));
            }
            previous = Some((listed.segment, scanned.end));
        }
        Ok(None)
    }

    fn scan(
        &mut self,
        listed: &Listed,
        limit: Option<u32>,
        observer: &mut Observer<'_>,
    ) -> Result<Scanned, StorageError> {
        read_file(listed, &mut self.bytes)?;
        let end = limit.map_or(self.bytes.len(), |limit| self.bytes.len().min(limit as usize));
        let mut scan = Scan::new(
            &self.bytes[..end],
            listed.segment,
            SEGMENT_HEADER_BYTES as u32,
            self.log.next_lsn,
        );
        loop {
            let byte = scan.byte();
            match scan.step() {
                ScanStep::Record(met) => {
                    if let Record::DurableMark(mark) = met.record {
                        self.log.mark = mark;
                    }
                    if !observer(&met) {
                        let kind = self.bytes[byte as usize + 16];
                        return Err(StorageError::Malformed {
                            file: listed.name.clone(),
                            byte,
                            kind,
                        });
                    }
                    self.log.next_lsn = scan.next_lsn();
                }
                ScanStep::End => {
                    return Ok(Scanned {
                        end: byte,
                        fault: None,
                    });
                }
                ScanStep::Fault(fault) => {
                    return Ok(Scanned {
                        end: byte,
                        fault: Some(fault),
                    });
                }
                ScanStep::NotUnderstood { kind } => return Err(not_understood(&listed.name, byte, kind)),
            }
        }
    }

    /// Tells a torn end from damage.
    fn judge(&mut self, files: &[Listed], broken: &Break) -> Result<(), StorageError> {
        let mut durable = self.log.mark.durable;
        for (index, listed) in files.iter().enumerate().skip(broken.index) {
            read_file(listed, &mut self.bytes)?;
            let from = if index == broken.index { broken.byte } else { 0 };
            let from = from.max(SEGMENT_HEADER_BYTES as u32);
            let behind = highest_mark(&self.bytes, listed.segment, from);
            durable = durable.max(behind.unwrap_or_default().durable);
        }
        let (listed, lsn) = (&files[broken.index], self.log.next_lsn);
        let had_predecessors = broken.index == 0 && listed.segment > FIRST_SEGMENT;
        if had_predecessors && self.log.mark.oldest < listed.segment {
            // They went once this segment held a durable mark.
            durable = durable.max(lsn);
        }
        if durable < lsn {
            return Ok(());
        }
        let file = listed.name.clone();
        Err(match &broken.cause {
            Cause::Record(fault) => StorageError::Corruption {
                file,
                byte: broken.byte,
                lsn,
                durable,
                fault: *fault,
            },
            Cause::Header(fault) => StorageError::DamagedHeader {
                file,
                lsn,
                durable,
                fault: fault.clone(),
            },
            Cause::Gap => StorageError::MissingSegment {
                before: file,
                lsn,
                durable,
            },
        })
    }

    /// Checks that no segment is missing before the first.
    fn check_beginning(&self, files: &[Listed]) -> Result<(), StorageError> {
        let expected = self.log.mark.oldest.max(FIRST_SEGMENT);
        match files.first() {
            Some(first) if first.segment > expected => Err(StorageError::MissingBeginning {
                expected,
                found: first.segment,
            }),
            _ => Ok(()),
        }
    }

    /// Keeps the segments that have records and removes those behind the break.
    fn keep(
        self,
        disk: &dyn Disk,
        files: Vec<Listed>,
        broken: Option<Break>,
    ) -> Result<ScannedLog, StorageError> {
        let Walk { mut log, ends, .. } = self;
        log.tail = broken.map_or(Tail::Whole, |broken| broken.tail(&files));
        let count = ends.len();
        for (index, listed) in files.into_iter().enumerate() {
            let (end, last_lsn) = ends.get(index).copied().unwrap_or_default();
            let has_records = end > SEGMENT_HEADER_BYTES as u32;
            if index < count && (has_records || index + 1 < count) {
                log.files.push(ScannedFile {
                    segment: listed.segment,
                    file: listed.file,
                    end,
                    last_lsn,
                });
            } else {
                disk.remove(&listed.name)
                    .map_err(|error| StorageError::io("remove", &listed.name, error))?;
            }
        }
        disk.sync_directory()
            .map_err(|error| StorageError::io("sync", "the log directory", error))?;
        Ok(log)
    }
}

impl Break {
    fn tail(&self, files: &[Listed]) -> Tail {
        let is_last = self.index + 1 == files.len();
        match self.cause {
            Cause::Record(RecordFault::NeverWritten) if is_last => Tail::Whole,
            _ => Tail::Torn {
                file: files[self.index].name.clone(),
                byte: self.byte,
            },
        }
    }
}

fn limit_by(next: &Listed, segment: SegmentId) -> Option<u32> {
    next.own_header()
        .ok()
        .filter(|header| header.previous == segment)
        .map(|header| header.previous_end)
}

fn read_file(listed: &Listed, bytes: &mut Vec<u8>) -> Result<(), StorageError> {
    bytes.resize(listed.file.size() as usize, 0);
    listed
        .file
        .read_at(0, bytes)
        .map_err(|error| StorageError::io("read", &listed.name, error))
}

fn not_understood(file: &str, byte: u32, kind: u8) -> StorageError {
    let file = file.to_owned();
    match RecordKind::from_number(kind).is_some_and(|kind| kind < RecordKind::Checkpoint) {
        true => StorageError::Malformed { file, byte, kind },
        false => StorageError::UnknownKind { file, byte, kind },
    }
}
