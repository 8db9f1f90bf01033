//! The scan of one segment: a pure function over its bytes.

use super::record::{
    DURABLE_MARK_BYTES, DurableMark, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, Record, RecordFault, RecordKind,
    checksum, padded, read_record,
};
use crate::model::{Lsn, Position, SegmentId};

/// A valid record, and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct ScannedRecord<'a> {
    /// Where it begins.
    pub position: Position,
    /// Its lsn.
    pub lsn: Lsn,
    /// Bytes it takes, padding included.
    pub length: u32,
    /// What it says.
    pub record: Record<'a>,
}

/// What the scan meets next.
#[derive(Clone, Copy, Debug)]
pub enum ScanStep<'a> {
    /// A record.
    Record(ScannedRecord<'a>),
    /// The segment's records end here, as its last one or the following segment says.
    End,
    /// No valid record follows.
    Fault(RecordFault),
    /// A valid record whose meaning is unknown or makes no sense.
    NotUnderstood {
        /// The number of its kind.
        kind: u8,
    },
}

/// Walks the records of a segment.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    segment: SegmentId,
    byte: u32,
    next_lsn: Lsn,
    is_sealed: bool,
}

impl<'a> Scan<'a> {
    /// A scan of `bytes`, the segment's file from its beginning to where its records may end; the first record is at
    /// `byte` and has lsn `first`.
    pub fn new(bytes: &'a [u8], segment: SegmentId, byte: u32, first: Lsn) -> Self {
        Self {
            bytes,
            segment,
            byte,
            next_lsn: first,
            is_sealed: false,
        }
    }

    /// Byte behind the records met so far.
    pub fn byte(&self) -> u32 {
        self.byte
    }

    /// The lsn that the next record must have.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// The next record, or why there is none. After anything but a record, the answer stays the same.
    pub fn step(&mut self) -> ScanStep<'a> {
        if self.is_sealed || self.byte as usize == self.bytes.len() {
            return ScanStep::End;
        }
        let raw = match read_record(self.bytes, self.segment, self.byte) {
            Ok(raw) => raw,
            Err(fault) => return ScanStep::Fault(fault),
        };
        if raw.lsn() != self.next_lsn {
            return ScanStep::Fault(RecordFault::Lsn {
                found: raw.lsn(),
                expected: self.next_lsn,
            });
        }
        let Some(record) = raw.decode() else {
            return ScanStep::NotUnderstood { kind: raw.kind() };
        };
        let position = Position {
            segment: self.segment,
            byte: self.byte,
        };
        let length = raw.padded_length() as u32;
        self.byte += length;
        self.next_lsn.0 = self.next_lsn.0.wrapping_add(1);
        self.is_sealed = record == Record::SegmentEnd;
        ScanStep::Record(ScannedRecord {
            position,
            lsn: raw.lsn(),
            length,
            record,
        })
    }
}

/// The durable mark that promises most among those that lie anywhere from `byte` on, whatever lies between them.
/// With this recovery tells a torn end from damage: behind a torn end there is no mark that covers it.
pub fn highest_mark(bytes: &[u8], segment: SegmentId, byte: u32) -> Option<DurableMark> {
    let begins =
        (byte as usize..bytes.len().saturating_sub(DURABLE_MARK_BYTES - 1)).step_by(RECORD_ALIGNMENT);
    let marks = begins.filter_map(|begin| mark_at(bytes, segment, begin));
    marks.max_by_key(|mark| mark.durable)
}

/// Puts right the lsn and checksum of everything in `bytes` that has a possible length where a record begins, from
/// `byte` on, so that a fuzzer reaches what lies behind them.
pub fn reseal(bytes: &mut [u8], segment: SegmentId, mut byte: u32, mut lsn: Lsn) {
    while let Some(length) = length_at(bytes, byte) {
        let record = &mut bytes[byte as usize..][..length];
        record[8..16].copy_from_slice(&lsn.0.to_le_bytes());
        let sum = checksum(segment, byte, &record[4..]);
        record[..4].copy_from_slice(&sum.to_le_bytes());
        byte += length as u32;
        lsn.0 += 1;
    }
}

/// Padded length of a record at `byte`, if one could lie there.
fn length_at(bytes: &[u8], byte: u32) -> Option<usize> {
    let bytes = bytes.get(byte as usize..)?;
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize;
    (length >= RECORD_HEADER_BYTES && padded(length) <= bytes.len()).then_some(padded(length))
}

fn mark_at(bytes: &[u8], segment: SegmentId, begin: usize) -> Option<DurableMark> {
    let looks_like_one = bytes[begin + 4..begin + 8] == (DURABLE_MARK_BYTES as u32).to_le_bytes()
        && bytes[begin + 16..begin + 20] == [RecordKind::DurableMark as u8, 0, 0, 0];
    if !looks_like_one {
        return None;
    }
    match read_record(bytes, segment, begin as u32).ok()?.decode()? {
        Record::DurableMark(mark) => Some(mark),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, mark_payload};
    use super::*;

    fn marks(count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for lsn in 1..=count {
            let (segment, kind) = (SegmentId(5), RecordKind::DurableMark);
            let frame = Frame {
                segment,
                byte: bytes.len() as u32,
                lsn: Lsn(lsn),
                kind,
                flags: 0,
                count: 0,
            };
            let mark = DurableMark {
                durable: Lsn(lsn - 1),
                oldest: SegmentId(1),
            };
            frame.write(&mark_payload(mark), &[], &mut bytes);
        }
        bytes
    }

    #[test]
    fn a_scan_meets_every_record_and_then_the_fault() {
        let mut bytes = marks(3);
        bytes.extend_from_slice(&[0; 64]);
        let mut scan = Scan::new(&bytes, SegmentId(5), 0, Lsn(1));
        for lsn in 1..=3 {
            let ScanStep::Record(met) = scan.step() else {
                panic!()
            };
            assert_eq!((met.lsn, met.length), (Lsn(lsn), 32));
        }
        for _ in 0..2 {
            assert!(matches!(scan.step(), ScanStep::Fault(RecordFault::NeverWritten)));
        }
        assert_eq!((scan.byte(), scan.next_lsn()), (96, Lsn(4)));
        let mut displaced = Scan::new(&bytes, SegmentId(5), 32, Lsn(1));
        assert!(matches!(
            displaced.step(),
            ScanStep::Fault(RecordFault::Lsn { .. })
        ));
    }

    #[test]
    fn resealed_bytes_scan_to_their_end() {
        let mut bytes = marks(4);
        bytes[40] ^= 1;
        bytes[73] ^= 1;
        reseal(&mut bytes, SegmentId(9), 0, Lsn(1));
        let mut scan = Scan::new(&bytes, SegmentId(9), 0, Lsn(1));
        while let ScanStep::Record(_) = scan.step() {}
        assert_eq!(scan.byte() as usize, bytes.len());
    }

    #[test]
    fn a_mark_is_found_behind_damage() {
        let mut bytes = marks(4);
        bytes[40] ^= 1;
        bytes[70] ^= 1;
        assert_eq!(
            highest_mark(&bytes, SegmentId(5), 32).map(|mark| mark.durable),
            Some(Lsn(3))
        );
        assert_eq!(highest_mark(&bytes[..100], SegmentId(5), 32), None);
        assert_eq!(highest_mark(&bytes, SegmentId(6), 0), None);
    }
}
