//! The modulus hash exchange: the hash of the routing keys modulo the number of bindings chooses one (RabbitMQ's
//! rabbitmq_sharding). Equal keys go to one queue while the bindings stay; a new binding moves most keys.

use super::Routed;
use super::binding_list::BindingList;
use super::hash::{hash, mix};

/// All bindings, in an order that is the same on every core and after a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct ModulusHashTable {
    pub(super) bindings: BindingList,
}

impl ModulusHashTable {
    /// The keys of `CC` and `BCC` are hashed along, as RabbitMQ does: they choose one binding together.
    pub(super) fn route(&self, routing_keys: &[&[u8]], routed: &mut Routed) {
        if self.bindings.is_empty() {
            return;
        }
        let hash = routing_keys.iter().fold(0, |hashed, key| mix(hashed) ^ hash(key));
        routed.reach(self.bindings.at((hash % self.bindings.len() as u64) as usize));
    }
}
