//! `RecoveredLog`: what a core finds in its log when it starts.

use super::message_record::{MessageRecord, PartReference};
use super::record::{QueueStamp, Ranges, Record, Requeued, SnapshotPiece, TopologyChange};
use super::recovery::Tail;
use super::scan::ScannedRecord;
use super::vshard_counters::VshardCounters;
use crate::model::{Lsn, Position, QueueId, QueueSequence, SegmentId, VshardId};
use std::collections::BTreeMap;

/// What lived when the log ended. Some forty bytes for each live message; nothing for settled ones.
#[derive(Debug)]
pub struct RecoveredLog {
    /// What is declared: the changes to apply, in order; opaque here.
    pub topology: Vec<Vec<u8>>,
    /// Queues that the log mentions, in the order of their ids. Whether one still exists, the topology says.
    pub queues: BTreeMap<QueueId, RecoveredQueue>,
    /// How the log ended.
    pub tail: Tail,
    /// Records scanned.
    pub records: u64,
}

/// A queue's messages.
#[derive(Debug, Default)]
pub struct RecoveredQueue {
    /// The vshard it belongs to.
    pub vshard: VshardId,
    /// Live messages, in the queue's order.
    pub live: BTreeMap<QueueSequence, RecoveredMessage>,
    /// The log mentions no sequence from this one on.
    pub next_sequence: QueueSequence,
}

/// A live message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Where its record lies.
    pub position: Position,
    /// Length of its content in the record, as `Appended::length`.
    pub length: u32,
    /// Length of its body, `u32::MAX` if it is longer.
    pub body_bytes: u32,
    /// Times it was returned to the queue.
    pub delivery_count: u16,
    /// Whether it has a time to live of its own.
    pub expires: bool,
    /// Whether the log knows that it was delivered before. Deliveries are not logged, so others may have been, too.
    pub redelivered: bool,
}

/// What each segment has had, besides what is live.
#[derive(Clone, Copy, Default)]
pub(super) struct SegmentTotals {
    pub entries: u64,
    pub message_bytes: u64,
    pub has_topology: bool,
}

/// Where the last complete topology snapshot lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotPlace {
    pub begin: SegmentId,
    pub end: Lsn,
}

/// Builds a `RecoveredLog` from records in order.
#[derive(Default)]
pub(super) struct Recovered {
    pub queues: BTreeMap<QueueId, RecoveredQueue>,
    pub topology: Vec<Vec<u8>>,
    pub vshards: VshardCounters,
    pub totals: BTreeMap<SegmentId, SegmentTotals>,
    pub snapshot: Option<SnapshotPlace>,
    /// Parts of messages that have them, whether these are live or not. Parts of dead ones may be recycled.
    pub parts_of: BTreeMap<Position, Vec<PartReference>>,
    pub records: u64,
    parts: BTreeMap<Position, u32>,
    pending_snapshot: Option<(SegmentId, Vec<Vec<u8>>)>,
    /// Changes of a decision whose last one has not come yet.
    pending_decision: Option<Vec<Vec<u8>>>,
}

impl Recovered {
    /// Takes the next record. Returns whether it makes sense after those before it.
    pub(super) fn take(&mut self, met: &ScannedRecord<'_>) -> bool {
        self.records += 1;
        match met.record {
            Record::Message(message) => self.take_message(met, message),
            Record::MessagePart(bytes) => self.parts.insert(met.position, bytes.len() as u32).is_none(),
            Record::Settle { stamp, ranges, .. } => self.settle(stamp, ranges),
            Record::Requeue { stamp, items } => self.requeue(stamp, items),
            Record::QueuePurged { stamp, below } => self.purge(stamp, below),
            Record::QueueDeleted(stamp) => self.delete(stamp),
            Record::Topology(change) => self.change_topology(met, change),
            Record::TopologySnapshot(piece) => self.take_snapshot(met, piece),
            Record::VshardLsns(lsns) => lsns.iter().all(|(vshard, last)| self.vshards.note(vshard, last)),
            Record::DurableMark(_) | Record::SegmentEnd => true,
        }
    }

    fn take_message(&mut self, met: &ScannedRecord<'_>, message: MessageRecord<'_>) -> bool {
        if message.content().is_none() {
            return false;
        }
        let totals = self.totals.entry(met.position.segment).or_default();
        totals.entries += message.entry_count() as u64;
        totals.message_bytes += u64::from(met.length);
        if message.has_parts() {
            self.parts_of.insert(met.position, message.parts().collect());
        }
        let body_bytes = u32::try_from(message.body_bytes()).unwrap_or(u32::MAX);
        let length = message.stretch().len() as u32;
        message.entries().all(|entry| {
            let queue = self.queues.entry(entry.queue).or_default();
            queue.mention(entry.vshard, entry.sequence);
            let (delivery_count, redelivered) = (entry.delivery_count, entry.redelivered);
            let recovered = RecoveredMessage {
                position: met.position,
                length,
                body_bytes,
                delivery_count,
                expires: message.expires_at().is_some(),
                redelivered,
            };
            queue.live.insert(entry.sequence, recovered);
            self.vshards.note(entry.vshard, entry.vshard_lsn)
        })
    }

    /// Whether the part lies where a message says.
    pub(super) fn has_part(&self, part: &PartReference) -> bool {
        self.parts.get(&part.position) == Some(&part.length)
    }

    fn settle(&mut self, stamp: QueueStamp, ranges: Ranges<'_>) -> bool {
        let Some(queue) = self.stamped(stamp) else {
            return false;
        };
        for (first, last) in ranges.iter() {
            queue.mention(stamp.vshard, last);
            queue.remove(first, last);
        }
        true
    }

    fn requeue(&mut self, stamp: QueueStamp, items: Requeued<'_>) -> bool {
        let Some(queue) = self.stamped(stamp) else {
            return false;
        };
        for (sequence, delivery_count) in items.iter() {
            queue.mention(stamp.vshard, sequence);
            if let Some(message) = queue.live.get_mut(&sequence) {
                message.delivery_count = delivery_count;
                message.redelivered = true;
            }
        }
        true
    }

    fn purge(&mut self, stamp: QueueStamp, below: QueueSequence) -> bool {
        let Some(queue) = self.stamped(stamp) else {
            return false;
        };
        queue.live = queue.live.split_off(&below);
        queue.next_sequence = queue.next_sequence.max(below);
        true
    }

    fn delete(&mut self, stamp: QueueStamp) -> bool {
        self.queues.remove(&stamp.queue);
        self.vshards.note(stamp.vshard, stamp.vshard_lsn)
    }

    fn stamped(&mut self, stamp: QueueStamp) -> Option<&mut RecoveredQueue> {
        let is_known = self.vshards.note(stamp.vshard, stamp.vshard_lsn);
        is_known.then(|| self.queues.entry(stamp.queue).or_default())
    }

    fn change_topology(&mut self, met: &ScannedRecord<'_>, change: TopologyChange<'_>) -> bool {
        self.totals.entry(met.position.segment).or_default().has_topology = true;
        // A snapshot is written in one go, so a change inside one means that it was left unfinished.
        self.pending_snapshot = None;
        if change.is_first {
            self.pending_decision = Some(Vec::new());
        }
        let Some(decision) = &mut self.pending_decision else {
            // A decision of its own, from before they were marked; or the rest of one whose beginning was recycled, which
            // a later snapshot replaces.
            self.topology.push(change.bytes.to_vec());
            return true;
        };
        decision.push(change.bytes.to_vec());
        if change.is_last {
            self.topology.append(decision);
            self.pending_decision = None;
        }
        true
    }

    fn take_snapshot(&mut self, met: &ScannedRecord<'_>, piece: SnapshotPiece<'_>) -> bool {
        self.totals.entry(met.position.segment).or_default().has_topology = true;
        self.pending_decision = None;
        match piece {
            SnapshotPiece::Begin => self.pending_snapshot = Some((met.position.segment, Vec::new())),
            SnapshotPiece::Change(bytes) => match &mut self.pending_snapshot {
                Some((_, changes)) => changes.push(bytes.to_vec()),
                // The rest of a snapshot whose beginning was recycled: a later one replaced it.
                None => return true,
            },
            SnapshotPiece::End => {
                if let Some((begin, changes)) = self.pending_snapshot.take() {
                    self.topology = changes;
                    self.snapshot = Some(SnapshotPlace { begin, end: met.lsn });
                }
            }
        }
        true
    }
}

impl RecoveredQueue {
    fn mention(&mut self, vshard: VshardId, sequence: QueueSequence) {
        self.vshard = vshard;
        self.next_sequence = self
            .next_sequence
            .max(QueueSequence(sequence.0.saturating_add(1)));
    }

    /// Removes what lies in a range, first and last included.
    fn remove(&mut self, first: QueueSequence, last: QueueSequence) {
        while let Some((&sequence, _)) = self.live.range(first..).next()
            && sequence <= last
        {
            self.live.remove(&sequence);
        }
    }
}
