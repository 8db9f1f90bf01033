//! `Log`: one core's log. This file opens it, writes its batches and keeps track of what is durable; `appender`
//! appends records, `reader` reads messages, `liveness`
//! counts what is still wanted, `maintenance` prepares and recycles segments, `compaction` moves what is
//! live out of the oldest one.

use super::batch::Batch;
use super::compaction::Cursor;
use super::error::StorageError;
use super::large::LargeMessages;
use super::maintenance::Spares;
use super::marks::Marks;
use super::metrics::LogMetrics;
use super::record::{DurableMark, RECORD_HEADER_BYTES};
use super::recovered::{Recovered, RecoveredLog, SnapshotPlace};
use super::recovery::{ScannedLog, note_failure, scan_log};
use super::segment::{OpenFile, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Segment, segment_name};
use super::segments::Segments;
use super::vshard_counters::VshardCounters;
use crate::model::{Lsn, SegmentId, ShardId};
use crate::runtime::disk::{Disk, Syncer};
use std::io;
use std::sync::Arc;

/// A batch of so many bytes is written before the next part of a large body joins it.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// What a log is opened with.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Size of new segments in bytes: a multiple of 4096 from 64 KiB to 1 GiB. As long as there is a larger segment,
    /// new ones are as large: its records may have to be appended again.
    pub segment_bytes: u32,
    /// Segments kept ready to be begun.
    pub spare_segments: usize,
    /// Identifies a new log; one that exists keeps its own. Random, so that segments of two logs are told apart.
    pub log_id: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            spare_segments: 2,
            log_id: 0,
        }
    }
}

/// One core's log, owned by its shard.
///
/// Appending copies a record into the tick's batch; `flush` writes the batch; a sync that the caller runs on another
/// thread makes it durable. `appended ≥ flushed ≥ durable` at all times.
pub struct Log {
    pub(super) disk: Box<dyn Disk>,
    pub(super) shard: ShardId,
    pub(super) options: LogOptions,
    pub(super) segments: Segments,
    pub(super) batch: Batch,
    pub(super) place: WritePlace,
    pub(super) appended: Lsn,
    pub(super) flushed: Lsn,
    pub(super) durable: Lsn,
    /// The last record that is not only about the log itself.
    pub(super) last_content: Lsn,
    pub(super) marks: Marks,
    pub(super) vshards: VshardCounters,
    pub(super) large: LargeMessages,
    pub(super) snapshot: Option<SnapshotPlace>,
    pub(super) spares: Spares,
    pub(super) cursor: Option<Cursor>,
    pub(super) published_at: u64,
    pub(super) metrics: LogMetrics,
    /// Segments that lost something live in this batch.
    pub(super) released: Vec<SegmentId>,
    sync_under_way: Option<Lsn>,
    is_directory_dirty: bool,
    is_directory_syncing: bool,
    has_failed: bool,
    /// Why it failed, until a flush tells it.
    early_failure: Option<StorageError>,
}

/// Where the next record goes.
#[derive(Clone, Copy)]
pub(super) struct WritePlace {
    /// The segment being written, if there is one.
    pub active: Option<SegmentId>,
    /// The next record's byte in it.
    pub byte: u32,
    /// The next segment's number.
    pub next_segment: SegmentId,
    /// The segment before it and where its records end, for its header.
    pub previous: (SegmentId, u32),
}

/// A sync to be run on any thread and then given back to `Log::synced`.
pub struct SyncRequest {
    through: Lsn,
    syncers: Vec<Arc<dyn Syncer>>,
    disk: Box<dyn Disk>,
}

impl SyncRequest {
    /// The last record it makes durable.
    pub fn through(&self) -> Lsn {
        self.through
    }

    /// Syncs the files that were written, and the directory if names changed. That this failed is noted at once for the next
    /// life: the process may be killed before anybody hears of it.
    ///
    /// # Errors
    /// Whatever the system says; never to be tried again.
    pub fn run(&self) -> io::Result<()> {
        let synced = self.syncers.iter().try_for_each(|syncer| syncer.sync());
        synced.inspect_err(|_| note_failure(&*self.disk))
    }
}

impl Log {
    /// Opens the log in `disk`, the directory of `shard` alone, and recovers what lives in it. Everything recovered is
    /// durable. Writes nothing; the log goes on in a fresh segment with the first batch.
    ///
    /// # Errors
    /// The log is damaged, incomplete, of another core or a later version, or the system refuses.
    pub fn open(
        disk: Box<dyn Disk>,
        shard: ShardId,
        options: LogOptions,
    ) -> Result<(Self, RecoveredLog), StorageError> {
        check_segment_size(options.segment_bytes)?;
        let mut recovered = Recovered::default();
        let scanned = scan_log(&*disk, shard, &mut |met| recovered.take(met))?;
        let spares = Spares::open(&*disk)?;
        let mut log = Self::new(disk, shard, options, &scanned, spares);
        let tail = scanned.tail.clone();
        log.adopt_segments(scanned, &recovered)?;
        log.adopt_live(&mut recovered)?;
        let Recovered {
            queues,
            topology,
            records,
            ..
        } = recovered;
        Ok((
            log,
            RecoveredLog {
                topology,
                queues,
                tail,
                records,
            },
        ))
    }

    fn new(
        disk: Box<dyn Disk>,
        shard: ShardId,
        mut options: LogOptions,
        scanned: &ScannedLog,
        spares: Spares,
    ) -> Self {
        options.log_id = scanned.log_id.unwrap_or(options.log_id);
        options.segment_bytes = options.segment_bytes.max(largest_segment(scanned));
        let last = Lsn(scanned.next_lsn.0 - 1);
        let previous = scanned
            .files
            .last()
            .map_or((SegmentId(0), 0), |last| (last.segment, last.end));
        let next_segment = SegmentId(previous.0.0 + 1);
        let first = scanned.files.first().map_or(next_segment, |first| first.segment);
        let mark = DurableMark {
            oldest: scanned.mark.oldest.max(first),
            ..scanned.mark
        };
        Self {
            disk,
            shard,
            options,
            segments: Segments::default(),
            batch: Batch::new(),
            place: WritePlace {
                active: None,
                byte: 0,
                next_segment,
                previous,
            },
            appended: last,
            flushed: last,
            durable: last,
            last_content: Lsn(0),
            marks: Marks::new(mark),
            vshards: VshardCounters::default(),
            large: LargeMessages::default(),
            snapshot: None,
            spares,
            cursor: None,
            published_at: 0,
            metrics: LogMetrics::default(),
            released: Vec::new(),
            sync_under_way: None,
            is_directory_dirty: false,
            is_directory_syncing: false,
            has_failed: false,
            early_failure: None,
        }
    }

    fn adopt_segments(&mut self, scanned: ScannedLog, recovered: &Recovered) -> Result<(), StorageError> {
        for scanned in scanned.files {
            let totals = recovered
                .totals
                .get(&scanned.segment)
                .copied()
                .unwrap_or_default();
            let name = segment_name(scanned.segment);
            let map = scanned
                .file
                .map()
                .map_err(|error| StorageError::io("map", &name, error))?;
            let segment = Segment {
                file: Some(OpenFile {
                    file: scanned.file,
                    map,
                }),
                end: scanned.end,
                last_lsn: scanned.last_lsn,
                entries: totals.entries,
                message_bytes: totals.message_bytes,
                has_topology: totals.has_topology,
                ..Segment::default()
            };
            self.segments.push(scanned.segment, segment);
        }
        Ok(())
    }

    /// Writes the tick's batch: one positioned write, or one more for each segment begun. When it returns, the records
    /// survive the process; a sync makes them durable.
    ///
    /// # Errors
    /// The write failed. What the disk holds is unknown, the log takes nothing more, and the process must stop.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(error) = self.early_failure.take() {
            return Err(error);
        }
        if self.has_failed {
            return Err(StorageError::Failed);
        }
        if !self.batch.is_empty() {
            let length = self.batch.length();
            self.terminate_batch();
            if let Err(error) = self.write_batch() {
                // What the rest of the tick appends, it reads as well.
                self.batch.bytes_mut().truncate(length);
                self.note_failure();
                return Err(error);
            }
            self.batch.clear();
            self.flushed = self.appended;
            self.metrics.batches_written += 1;
        }
        self.date_releases();
        Ok(())
    }

    /// Writes the batch before its tick ends if it has become long, so that a large body is not held twice. A failure is told
    /// by the next flush.
    pub(super) fn flush_if_long(&mut self) {
        if self.batch.length() >= BATCH_BYTES_MAX
            && !self.has_failed
            && let Err(error) = self.flush()
        {
            self.early_failure = Some(error);
        }
    }

    /// Ends the batch in zeros, which the next one overwrites: recovery sees there that nothing more was written, even
    /// in a recycled segment. They are not part of any record.
    fn terminate_batch(&mut self) {
        let room = self.options.segment_bytes - self.place.byte;
        let zeros = [0; RECORD_HEADER_BYTES];
        let count = zeros.len().min(room as usize);
        self.batch.bytes_mut().extend_from_slice(&zeros[..count]);
    }

    fn write_batch(&mut self) -> Result<(), StorageError> {
        let batch = std::mem::replace(&mut self.batch, Batch::new());
        let written = batch.stretches().try_for_each(|(stretch, bytes)| {
            self.begin_file(stretch.segment)?;
            let segment = self.segments.get_mut(stretch.segment);
            segment.is_dirty = true;
            let file = &segment.file.as_ref().expect("begun above").file;
            let failed = |error| StorageError::io("write", &segment_name(stretch.segment), error);
            file.write_at(u64::from(stretch.byte), bytes).map_err(failed)
        });
        self.batch = batch;
        if let Some(active) = self.place.active {
            self.segments.get_mut(active).end = self.place.byte;
        }
        written
    }

    /// Gives a segment that has none its file: a spare, or else a sparse file, so that nobody waits.
    fn begin_file(&mut self, id: SegmentId) -> Result<(), StorageError> {
        if self.segments.get(id).file.is_some() {
            return Ok(());
        }
        let name = segment_name(id);
        let failed = |error| StorageError::io("begin", &name, error);
        let file = match self.spares.take() {
            Some(spare) => {
                self.disk.rename(&spare.name, &name).map_err(failed)?;
                spare.file
            }
            None => {
                self.metrics.sparse_rolls += 1;
                self.disk
                    .create(&name, u64::from(self.options.segment_bytes))
                    .map_err(failed)?
            }
        };
        let map = file.map().map_err(failed)?;
        self.segments.get_mut(id).file = Some(OpenFile { file, map });
        self.is_directory_dirty = true;
        self.metrics.segments_begun += 1;
        Ok(())
    }

    /// A sync of what was written, to be run elsewhere; `None` while one is under way or when there is nothing to sync.
    pub fn sync_request(&mut self) -> Option<SyncRequest> {
        if self.sync_under_way.is_some() || self.flushed == self.durable || self.has_failed {
            return None;
        }
        let mut syncers = Vec::with_capacity(2);
        for (_, segment) in self.segments.iter_mut().filter(|(_, segment)| segment.is_dirty) {
            segment.is_dirty = false;
            segment.is_syncing = true;
            syncers.extend(segment.file.as_ref().map(|open| open.file.syncer()));
        }
        if std::mem::take(&mut self.is_directory_dirty) {
            self.is_directory_syncing = true;
            syncers.push(self.disk.directory_syncer());
        }
        self.sync_under_way = Some(self.flushed);
        Some(SyncRequest {
            through: self.flushed,
            syncers,
            disk: self.disk.share(),
        })
    }

    /// Takes a sync's end: records up to `request.through()` are durable.
    ///
    /// # Errors
    /// The sync failed: nothing more may be confirmed, and the process must stop.
    pub fn synced(&mut self, request: SyncRequest, result: io::Result<()>) -> Result<(), StorageError> {
        assert_eq!(
            self.sync_under_way.take(),
            Some(request.through),
            "one sync is under way"
        );
        result.map_err(|error| self.fail("sync", "the log", error))?;
        self.become_durable(request.through);
        Ok(())
    }

    /// Syncs all that was written, here and now: also what a sync under way is to make durable, whose end may come
    /// later or never. When it returns, `durable_lsn` is `flushed_lsn`.
    ///
    /// # Errors
    /// This sync or the one under way failed, or the log did before: the process must stop.
    pub fn sync_here(&mut self) -> Result<(), StorageError> {
        if self.has_failed {
            return Err(StorageError::Failed);
        }
        if self.flushed == self.durable {
            return Ok(());
        }
        let under_way = self.sync_under_way.take();
        self.segments
            .iter_mut()
            .for_each(|(_, segment)| segment.is_dirty |= segment.is_syncing);
        self.is_directory_dirty |= self.is_directory_syncing;
        let request = self.sync_request().expect("something is written and not durable");
        self.sync_under_way = under_way;
        let result = request.run();
        result.map_err(|error| self.fail("sync", "the log", error))?;
        self.become_durable(request.through);
        Ok(())
    }

    fn become_durable(&mut self, through: Lsn) {
        for (_, segment) in self.segments.iter_mut() {
            segment.is_syncing = false;
        }
        self.is_directory_syncing = false;
        self.durable = self.durable.max(through);
        self.marks.become_durable(self.durable);
        self.metrics.syncs += 1;
    }

    /// Nothing more may be promised: what the disk holds is unknown.
    pub(super) fn fail(&mut self, operation: &'static str, file: &str, error: io::Error) -> StorageError {
        self.note_failure();
        StorageError::io(operation, file, error)
    }

    fn note_failure(&mut self) {
        self.has_failed = true;
        note_failure(&*self.disk);
    }

    /// The last record appended; 0 before the first.
    pub fn appended_lsn(&self) -> Lsn {
        self.appended
    }

    /// The last record written: it survives the process.
    pub fn flushed_lsn(&self) -> Lsn {
        self.flushed
    }

    /// The last record synced: it survives a power cut.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable
    }

    /// Bytes that were appended and wait in memory to be written.
    pub fn unwritten_bytes(&self) -> usize {
        self.batch.length()
    }

    /// Size of new segments in bytes.
    pub fn segment_bytes(&self) -> u32 {
        self.options.segment_bytes
    }

    /// Makes new segments at least as large as those of another log, so that its records fit here.
    ///
    /// # Panics
    /// If something was appended since the log was opened.
    pub fn raise_segment_bytes(&mut self, bytes: u32) {
        assert!(
            self.place.active.is_none(),
            "segments of one life are equally large"
        );
        self.options.segment_bytes = self.options.segment_bytes.max(bytes);
    }

    /// The time that messages appended from now on are published at, in milliseconds since 1970.
    pub fn set_published_at(&mut self, unix_milliseconds: u64) {
        self.published_at = unix_milliseconds;
    }

    /// What the log has done since it was opened.
    pub fn metrics(&self) -> &LogMetrics {
        &self.metrics
    }

    /// Adds the time a sync took, which only its caller knows.
    pub fn note_sync_time(&mut self, nanoseconds: u64) {
        self.metrics.sync_nanoseconds += nanoseconds;
    }

    /// Bytes that the file system still has for the log.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    /// Checks what must hold between calls.
    ///
    /// # Panics
    /// If it does not.
    pub fn check_invariants(&self) {
        assert!(self.appended >= self.flushed, "only what was appended is written");
        assert!(self.flushed >= self.durable, "only what was written is durable");
        assert!(
            self.marks.written().durable <= self.durable,
            "a mark tells the truth"
        );
        for (id, segment) in self.segments.iter() {
            assert!(
                segment.live_entries <= segment.entries,
                "segment {id} has no more live entries than entries"
            );
            assert!(
                id >= self.marks.free_below() || !segment.has_live(),
                "segment {id} is needed"
            );
        }
        let parts: u64 = self.segments.iter().map(|(_, segment)| segment.live_parts).sum();
        assert!(
            parts >= self.large.all_parts().count() as u64,
            "parts of live messages are held"
        );
    }
}

/// Size of the largest segment there is, as a size that a new one may have.
fn largest_segment(scanned: &ScannedLog) -> u32 {
    let sizes = scanned.files.iter().map(|scanned| scanned.file.size());
    let largest = sizes.max().unwrap_or(0).next_multiple_of(4096);
    largest.min(u64::from(SEGMENT_BYTES_MAX)) as u32
}

fn check_segment_size(bytes: u32) -> Result<(), StorageError> {
    if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(4096) {
        return Ok(());
    }
    let (min, max) = (u64::from(SEGMENT_BYTES_MIN), u64::from(SEGMENT_BYTES_MAX));
    Err(StorageError::SegmentSize {
        bytes: bytes.into(),
        min,
        max,
    })
}
