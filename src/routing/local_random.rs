//! The local random exchange: one binding, by chance, of those to queues that the publisher's core owns, so that the
//! message crosses to no other (RabbitMQ 4's `x-local-random`, where local is the node).
//!
//! RabbitMQ drops a message that finds no local queue. On one machine another core is never out of reach: then the
//! chance goes to all bindings.

use crate::model::ShardId;
use crate::topology::Topology;

use super::Routed;
use super::binding_list::BindingList;
use super::hash::scale;
use super::targets::Target;

/// All bindings, which have no keys. A route asks of each queue who owns it.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalRandomTable {
    pub(super) bindings: BindingList,
}

impl LocalRandomTable {
    pub(super) fn route(&self, home: ShardId, topology: &Topology, routed: &mut Routed) {
        routed.decided_for_message_alone();
        if self.bindings.is_empty() {
            return;
        }
        let is_local = |target: &Target| match target {
            Target::Queue(id) => topology.queue_by_id(*id).is_some_and(|queue| queue.owner == home),
            Target::Exchange(_) => false,
        };
        let chance = routed.draw();
        let local_count = self.bindings.iter().filter(is_local).count();
        let chosen = match local_count {
            0 => self.bindings.at(scale(chance, self.bindings.len())),
            count => self
                .bindings
                .iter()
                .filter(is_local)
                .nth(scale(chance, count))
                .expect("as many were counted"),
        };
        routed.reach(chosen);
    }
}
