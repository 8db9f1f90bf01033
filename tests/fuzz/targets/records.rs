//! Arbitrary bytes as a segment: the scan, every decoder and the search for marks must answer, whatever they meet.

#![no_main]

use lanemq::model::{Lsn, SegmentId};
use lanemq::storage::{Record, Scan, ScanStep, SnapshotPiece, TopologyChange, highest_mark, reseal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let segment = SegmentId(1);
    walk(bytes, segment);
    let _ = highest_mark(bytes, segment, 0);
    // Few inputs guess a checksum, so the same bytes are scanned again with the checksums put right.
    let mut resealed = bytes.to_vec();
    reseal(&mut resealed, segment, 0, Lsn(1));
    walk(&resealed, segment);
    let _ = highest_mark(&resealed, segment, 0);
});

fn walk(bytes: &[u8], segment: SegmentId) {
    let mut scan = Scan::new(bytes, segment, 0, Lsn(1));
    while let ScanStep::Record(met) = scan.step() {
        assert!(met.position.byte + met.length <= bytes.len() as u32);
        visit(&met.record);
    }
    assert!(scan.byte() as usize <= bytes.len());
}

fn visit(record: &Record<'_>) {
    match record {
        Record::Message(message) => {
            assert_eq!(message.entries().count(), message.entry_count());
            assert_eq!(message.parts().next().is_some(), message.has_parts());
            let _ = (
                message.content(),
                message.body_bytes(),
                message.published_at(),
                message.expires_at(),
            );
        }
        Record::Settle { ranges, .. } => ranges.iter().for_each(drop),
        Record::Requeue { items, .. } => items.iter().for_each(drop),
        Record::VshardLsns(lsns) => lsns.iter().for_each(drop),
        Record::TopologySnapshot(SnapshotPiece::Change(bytes))
        | Record::Topology(TopologyChange { bytes, .. })
        | Record::MessagePart(bytes) => {
            assert!(bytes.len() <= u32::MAX as usize);
        }
        Record::TopologySnapshot(SnapshotPiece::Begin | SnapshotPiece::End)
        | Record::QueuePurged { .. }
        | Record::QueueDeleted(_)
        | Record::DurableMark(_)
        | Record::SegmentEnd => {}
    }
}
