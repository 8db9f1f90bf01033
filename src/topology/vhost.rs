//! One vhost: its exchanges, queue names and bindings, its policies, what is said of it and what bounds it.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::model::{QueueId, ShortString, Usage};

use super::binding_table::BindingTable;
use super::exchange::PREDECLARED_EXCHANGES;
use super::policy::{Policies, PolicyKind, PolicyTable, Target};
use super::{Binding, Destination, Exchange};

/// What is said of a vhost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostMetadata {
    /// For people.
    pub description: String,
    /// For tools.
    pub tags: Vec<ShortString>,
    /// The type that queues get which are declared without one and can be of it; empty when nothing is said.
    pub default_queue_type: ShortString,
}

/// How much there may be in a vhost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Most connections.
    pub max_connections: Option<u64>,
    /// Most queues.
    pub max_queues: Option<u64>,
}

/// What is declared in one vhost. The queues themselves lie in `Topology`, by id.
#[derive(Clone, Debug)]
pub(super) struct Vhost {
    pub(super) name: ShortString,
    pub(super) exchanges: BTreeMap<ShortString, Exchange>,
    /// Hashed, because a publish to the default exchange looks here; never walked, so its order shows nowhere.
    pub(super) queues: HashMap<ShortString, QueueId, FixedState>,
    pub(super) bindings: BindingTable,
    pub(super) policies: PolicyTable,
    pub(super) operator_policies: PolicyTable,
    pub(super) metadata: VhostMetadata,
    pub(super) limits: VhostLimits,
    /// Its connections on all cores.
    pub(super) connections: Usage,
}

impl Vhost {
    /// A vhost with the predeclared exchanges.
    pub(super) fn new(name: ShortString, connections: Usage, hash: &FixedState) -> Self {
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
            policies: PolicyTable::default(),
            operator_policies: PolicyTable::default(),
            metadata: VhostMetadata::default(),
            limits: VhostLimits::default(),
            connections,
        }
    }

    pub(super) fn policies_of(&self, kind: PolicyKind) -> &PolicyTable {
        match kind {
            PolicyKind::User => &self.policies,
            PolicyKind::Operator => &self.operator_policies,
        }
    }

    pub(super) fn policies_of_mut(&mut self, kind: PolicyKind) -> &mut PolicyTable {
        match kind {
            PolicyKind::User => &mut self.policies,
            PolicyKind::Operator => &mut self.operator_policies,
        }
    }

    /// The policies in force for a queue or an exchange of this name.
    pub(super) fn policies_for(&self, name: &[u8], target: Target<'_>) -> Policies<'_> {
        Policies {
            user: self.policies.highest(name, target),
            operator: self.operator_policies.highest(name, target),
        }
    }

    /// Where what an exchange cannot route goes: as it was declared, else as the policies say.
    pub(super) fn alternate_of(&self, exchange: &Exchange) -> Option<ShortString> {
        let policies = || self.policies_for(exchange.name.as_bytes(), Target::Exchange);
        exchange
            .declared_alternate()
            .or_else(|| policies().name("alternate-exchange"))
    }

    /// The policies have changed: every exchange gets the alternate exchange that is in force now.
    pub(super) fn choose_alternates(&mut self) {
        let alternates: Vec<_> = self
            .exchanges
            .values()
            .map(|exchange| self.alternate_of(exchange))
            .collect();
        for (exchange, alternate) in self.exchanges.values_mut().zip(alternates) {
            exchange.alternate = alternate;
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
