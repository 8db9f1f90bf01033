//! The story of a change: control decides a request, announces what may be known, and every core applies it.

use super::Shard;
use super::control::{ControlRequest, ReplyTo};
use super::control_change::ControlChange;
use super::mailbox::ShardMessage;
use super::queues::QueueSlot;
use crate::model::{Lsn, ShardId};
use crate::storage::Log;
use crate::topology::Change;
use std::sync::Arc;

impl Shard {
    /// Decides a request, on the control shard.
    pub(super) fn decide(&mut self, request: ControlRequest) {
        let Shard { control, log, .. } = self;
        let control = control.as_mut().expect("requests go to the control shard");
        control.decide(request, &mut |decision| append(log, decision));
        self.announce();
    }

    /// Whether a change waits to be durable before it is announced.
    pub(super) fn awaits_announcement(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.awaits_sync())
    }

    /// Sends changes to every core, those that are durable as they must be.
    pub(super) fn announce(&mut self) {
        let Some(control) = self.control.as_mut() else {
            return;
        };
        let durable = match self.settings.durability {
            crate::config::Durability::Fsync => self.log.durable_lsn(),
            crate::config::Durability::Write => self.log.flushed_lsn(),
        };
        if let Some((number, changes)) = control.announce(durable) {
            let changes: Arc<[ControlChange]> = changes.into();
            for shard in (0..self.shards).map(ShardId) {
                self.say(
                    shard,
                    ShardMessage::Apply {
                        number,
                        changes: changes.clone(),
                    },
                );
            }
        }
        self.answer_requests();
    }

    /// A core has applied changes, on the control shard.
    pub(super) fn applied(&mut self, shard: ShardId, number: u64) {
        let control = self.control.as_mut().expect("cores report to the control shard");
        control.applied(shard, number);
        self.answer_requests();
    }

    fn answer_requests(&mut self) {
        while let Some((reply_to, answer)) = self.control.as_mut().and_then(|control| control.next_answer()) {
            if let ReplyTo::Connection(connection) = reply_to {
                self.say(
                    connection.shard,
                    ShardMessage::ControlAnswer { connection, answer },
                );
            }
        }
    }

    /// Applies control's changes to this core's copy, and to the queues it owns.
    pub(super) fn apply(&mut self, number: u64, changes: &[ControlChange]) {
        for change in changes {
            match change {
                ControlChange::Topology(change) => self.apply_to_topology(change),
                ControlChange::Users(change) => self.apply_to_users(change),
            }
        }
        self.follow_policies(changes);
        self.applied_number = number;
        self.say(ShardId(0), ShardMessage::Applied { number });
        self.take_early_mail();
    }

    fn apply_to_topology(&mut self, change: &Change) {
        match change {
            Change::QueueDeclared(queue) if queue.owner == self.id => {
                let settings = self.topology.queue_settings(queue);
                let slot = self.queues.add(QueueSlot::new(queue, settings));
                self.renew_lease(slot);
                self.arm_lease(slot);
                self.counters.queues_created += 1;
            }
            Change::QueueDeclared(queue) => self.queues.heard_of(queue.id),
            Change::QueueDeleted { id } => self.drop_queue(*id),
            _ => {}
        }
        self.topology.apply(change);
        self.router.apply(change);
        self.follow(change);
        if let Change::Bound(binding) = change {
            self.replay_history(binding);
        }
    }
}

/// Logs the changes of a decision, all or none; returns the last one's record number.
pub(super) fn append(log: &mut Log, decision: &[&ControlChange]) -> Lsn {
    let encoded: Vec<Vec<u8>> = decision.iter().map(|change| change.encoded()).collect();
    log.append_topology(encoded.iter().map(Vec::as_slice))
}
