//! One vhost's exchanges, queue names and bindings.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::model::{QueueId, ShortString};

use super::binding_table::BindingTable;
use super::exchange::PREDECLARED_EXCHANGES;
use super::{Binding, Destination, Exchange};

/// What is declared in one vhost. The queues themselves lie in `Topology`, by id.
#[derive(Clone, Debug)]
pub(super) struct Vhost {
    pub(super) name: ShortString,
    pub(super) exchanges: BTreeMap<ShortString, Exchange>,
    /// Hashed, because a publish to the default exchange looks here; never walked, so its order shows nowhere.
    pub(super) queues: HashMap<ShortString, QueueId, FixedState>,
    pub(super) bindings: BindingTable,
}

impl Vhost {
    /// A vhost with the predeclared exchanges.
    pub(super) fn new(name: ShortString, hash: &FixedState) -> Self {
        let predeclared = PREDECLARED_EXCHANGES
            .iter()
            .map(|&(name, kind)| Exchange::predeclared(name, kind));
        let exchanges = predeclared
            .map(|exchange| (exchange.name.clone(), exchange))
            .collect();
        Self {
            name,
            exchanges,
            queues: HashMap::with_hasher(hash.clone()),
            bindings: BindingTable::default(),
        }
    }

    /// Forgets an exchange, and what was bound to it.
    pub(super) fn remove_exchange(&mut self, name: &ShortString) {
        if self.exchanges.remove(name).is_some() {
            self.bindings.remove_leaving(name);
            self.bindings
                .remove_leading_to(&Destination::Exchange(name.clone()));
        }
    }

    /// Whether the source of `binding` exists, and its destination if that is an exchange.
    pub(super) fn has_exchanges_of(&self, binding: &Binding) -> bool {
        let destination_exists = match &binding.destination {
            Destination::Queue(_) => true,
            Destination::Exchange(name) => self.exchanges.contains_key(name),
        };
        destination_exists && self.exchanges.contains_key(&binding.source)
    }
}
