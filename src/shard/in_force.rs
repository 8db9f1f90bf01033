//! The story of what is in force: policies change, and with them the settings of queues and exchanges; users change, and with
//! them the bounds of their connections.
//!
//! Policies are changes like declarations: control decides and logs them, and every core applies them in the same order.
//! What follows from them for a queue its owner reckons, from its own copy of arguments and policies, and for an exchange
//! every core does. Nothing that follows is sent or logged, so no copy can differ from what it follows from.

use super::Shard;
use super::control_change::ControlChange;
use super::queues::NO_SLOT;
use crate::auth::UserChange;
use crate::model::{QueueId, ShortString};
use crate::topology::{Change, QueueSettings};
use std::collections::BTreeSet;

impl Shard {
    /// What follows from a change of what is declared, once it is applied.
    pub(super) fn follow(&mut self, change: &Change) {
        self.router.choose_alternates(change, &self.topology);
        if let Change::VhostDeleted { name } = change {
            self.users.forget_vhost(name);
        }
    }

    /// What follows from the policies among the changes of one decision, once all are applied: no queue is to see what stands
    /// between them.
    pub(super) fn follow_policies(&mut self, changes: &[ControlChange]) {
        let vhost_of = |change: &ControlChange| match change {
            ControlChange::Topology(
                Change::PolicySet { vhost, .. } | Change::PolicyCleared { vhost, .. },
            ) => Some(vhost.clone()),
            _ => None,
        };
        let vhosts: BTreeSet<ShortString> = changes.iter().filter_map(vhost_of).collect();
        vhosts.iter().for_each(|vhost| self.settle_queues_of(vhost));
    }

    /// Takes over a change of who may do what.
    pub(super) fn apply_to_users(&mut self, change: &UserChange) {
        self.users.apply(change);
        if let UserChange::UserSet { name, limits, .. } = change {
            let slots: Vec<u32> = self.connections.slots().collect();
            for slot in slots {
                let connection = self.connections.get_mut(slot).expect("just listed");
                if connection.connection.user() == name {
                    connection.connection.bound_channels(limits.max_channels);
                }
            }
        }
    }

    /// Puts in force for this core's queues of a vhost what the policies say now.
    fn settle_queues_of(&mut self, vhost: &ShortString) {
        let queues = self.queues.iter().filter(|queue| queue.vhost == *vhost);
        let ids: Vec<QueueId> = queues.map(|queue| queue.id).collect();
        for id in ids {
            let Some(definition) = self.topology.queue_by_id(id) else {
                continue;
            };
            let settings = self.topology.queue_settings(definition);
            self.change_settings(id, settings);
        }
    }

    /// Puts other settings in force for a queue of this core: what is too much for them goes at once, messages keep the
    /// time that they had.
    fn change_settings(&mut self, id: QueueId, settings: QueueSettings) {
        let Some((slot, queue)) = self.queues.find(id, NO_SLOT) else {
            return;
        };
        if queue.settings == settings {
            return;
        }
        let was_leased_for = queue.settings.expires;
        let is_leased_for = settings.expires;
        queue.set_settings(settings);
        let is_sooner = match (was_leased_for, is_leased_for) {
            (Some(before), Some(now)) => now < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if is_sooner {
            self.renew_lease(slot);
            self.arm_lease(slot);
        }
        self.keep_limits(slot);
        self.list_deliverable(slot);
    }
}
