//! Upkeep of the log: durable marks of an idle core, topology snapshots, compaction in bounded slices, and at an orderly
//! stop which messages were given out.

use super::Shard;
use super::control_change::ControlChange;
use super::queues::{NO_SLOT, Queues};
use crate::model::{Position, QueueId, QueueSequence};
use crate::queue::Locator;
use crate::storage::{Appended, CompactionProgress, StorageError, Survivor, Survivors};

/// Bytes of the log that one tick may read and copy for compaction.
const COMPACTION_BYTES_A_TICK: u64 = 256 * 1024;

impl Shard {
    /// Appends what the log needs besides what the tick had to say.
    ///
    /// # Errors
    /// Compaction met a damaged record.
    pub(super) fn keep_log(&mut self) -> Result<(), StorageError> {
        if self.is_mark_due {
            self.is_mark_due = false;
            if self.log.needs_durable_mark() {
                self.log.append_durable_mark();
            }
        }
        if self.log.wants_topology_snapshot() {
            self.append_topology_snapshot();
        }
        // Acks may empty the segment between two steps, and then there is nothing left to compact.
        self.is_compacting = self.log.wants_compaction() && self.compact()? == CompactionProgress::More;
        Ok(())
    }

    /// Appends which logged messages were given out. After an orderly stop the log alone tells that, and it does not know
    /// of those that are unacked still, nor of those that this run's recovery has marked.
    pub(super) fn append_given_out(&mut self) {
        let Shard { queues, log, .. } = self;
        for queue in queues.iter() {
            let logged = queue.queue.given_out().filter(|(_, entry)| entry.is_logged());
            let given_out: Vec<_> = logged
                .map(|(sequence, entry)| (sequence, entry.delivery_count))
                .collect();
            if !given_out.is_empty() {
                log.append_requeue(queue.id, queue.vshard, &given_out);
            }
        }
    }

    fn compact(&mut self) -> Result<CompactionProgress, StorageError> {
        self.log
            .compaction_step(COMPACTION_BYTES_A_TICK, &mut self.queues)
    }

    /// Only the control shard's log holds topology.
    fn append_topology_snapshot(&mut self) {
        let Some(control) = &self.control else { return };
        let declared = control.decided().snapshot_durable().map(ControlChange::from);
        let users = control.users().snapshot().map(ControlChange::from);
        let encoded: Vec<Vec<u8>> = declared.chain(users).map(|change| change.encoded()).collect();
        self.log
            .append_topology_snapshot(encoded.iter().map(Vec::as_slice));
    }
}

impl Survivors for Queues {
    fn resolve(&mut self, queue: QueueId, sequence: QueueSequence, position: Position) -> Option<Survivor> {
        let (_, queue) = self.find(queue, NO_SLOT)?;
        let entry = queue.queue.entry(sequence)?;
        match entry.locator {
            Locator::Log { position: at, .. } if at == position => Some(Survivor {
                delivery_count: entry.delivery_count,
                redelivered: entry.redelivered,
            }),
            _ => None,
        }
    }

    fn moved(&mut self, queue: QueueId, sequence: QueueSequence, to: Appended) {
        let locator = Locator::Log {
            position: to.position,
            length: to.length,
        };
        if let Some((_, queue)) = self.find(queue, NO_SLOT) {
            let was_there = queue.queue.relocate(sequence, locator);
            debug_assert!(was_there, "the message was resolved just before");
        }
    }
}
