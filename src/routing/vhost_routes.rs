//! The routing tables of one vhost, and the walk from exchange to exchange.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::model::{QueueId, ShortString};
use crate::topology::{
    Binding, Deduplicating, Destination, Exchange, ExchangeMemory, MemoryKind, PREDECLARED_EXCHANGES,
    Topology,
};

use super::Routed;
use super::envelope::Envelope;
use super::table::Table;
use super::targets::{ExchangeSlot, Target};

/// Exchanges in numbered slots, so that bindings between them need no names.
#[derive(Clone, Debug)]
pub(super) struct VhostRoutes {
    names: HashMap<ShortString, ExchangeSlot, FixedState>,
    exchanges: Vec<Option<ExchangeRoutes>>,
    free: Vec<ExchangeSlot>,
    hash: FixedState,
}

#[derive(Clone, Debug)]
struct ExchangeRoutes {
    table: Table,
    /// The queue it remembers in.
    memory: Option<(QueueId, MemoryKind)>,
    /// The header by which it deduplicates.
    deduplication_header: Option<ShortString>,
    internal: bool,
    alternate: Option<ShortString>,
    /// The exchanges it is bound to, with the number of bindings to each.
    exchange_targets: BTreeMap<ExchangeSlot, u32>,
    /// Bindings that lead to it from exchanges.
    inbound: u32,
}

impl VhostRoutes {
    /// The predeclared exchanges, without the default exchange, whose routes are the queues' names.
    pub(super) fn new(hash: &FixedState) -> Self {
        let mut routes = Self {
            names: HashMap::with_hasher(hash.clone()),
            exchanges: Vec::new(),
            free: Vec::new(),
            hash: hash.clone(),
        };
        for (name, kind) in PREDECLARED_EXCHANGES
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
        {
            routes.declare(&Exchange::predeclared(name, kind));
        }
        routes
    }

    pub(super) fn declare(&mut self, exchange: &Exchange) {
        if self.names.contains_key(&exchange.name) {
            return;
        }
        let routes = ExchangeRoutes {
            table: Table::new(exchange, &self.hash),
            memory: None,
            deduplication_header: Deduplicating::of(exchange.arguments.as_ref()).map(|asked| asked.header),
            internal: exchange.internal,
            alternate: exchange.alternate.clone(),
            exchange_targets: BTreeMap::new(),
            inbound: 0,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.exchanges.push(None);
            ExchangeSlot((self.exchanges.len() - 1) as u32)
        });
        self.exchanges[slot.0 as usize] = Some(routes);
        self.names.insert(exchange.name.clone(), slot);
    }

    /// Sends what the exchange cannot route to `alternate` from now on.
    pub(super) fn set_alternate(&mut self, name: &ShortString, alternate: &Option<ShortString>) {
        let slot = self.names.get(name).copied();
        let routes = slot.and_then(|slot| self.exchanges[slot.0 as usize].as_mut());
        if let Some(routes) = routes {
            routes.alternate.clone_from(alternate);
        }
    }

    pub(super) fn delete(&mut self, name: &ShortString) {
        let Some(slot) = self.names.remove(name) else {
            return;
        };
        let Some(routes) = self.exchanges[slot.0 as usize].take() else {
            return;
        };
        for (target, count) in routes.exchange_targets {
            if let Some(target) = self.exchanges[target.0 as usize].as_mut() {
                target.inbound -= count;
            }
        }
        // Bindings are unbound before their exchange is deleted; were one left over, it must not lead to a newcomer.
        if routes.inbound == 0 {
            self.free.push(slot);
        }
    }

    pub(super) fn bind(&mut self, binding: &Binding) {
        let Some((source, target)) = self.ends(binding) else {
            return;
        };
        let Some(routes) = self.exchanges[source.0 as usize].as_mut() else {
            return;
        };
        let is_new = routes.table.bind(binding, target);
        if let (true, Target::Exchange(destination)) = (is_new, target) {
            *routes.exchange_targets.entry(destination).or_default() += 1;
            if let Some(destination) = self.exchanges[destination.0 as usize].as_mut() {
                destination.inbound += 1;
            }
        }
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        let Some((source, target)) = self.ends(binding) else {
            return;
        };
        let Some(routes) = self.exchanges[source.0 as usize].as_mut() else {
            return;
        };
        let was_there = routes.table.unbind(binding, target);
        if let (true, Target::Exchange(destination)) = (was_there, target) {
            routes.forget_exchange_target(destination);
            if let Some(destination) = self.exchanges[destination.0 as usize].as_mut() {
                destination.inbound -= 1;
            }
        }
    }

    /// The slot of the exchange of this name.
    #[inline]
    pub(super) fn slot_of(&self, name: &[u8]) -> Option<ExchangeSlot> {
        self.names.get(name).copied()
    }

    /// Whether clients may not publish to it.
    #[inline]
    pub(super) fn is_internal(&self, slot: ExchangeSlot) -> bool {
        self.routes(slot).is_some_and(|routes| routes.internal)
    }

    /// Adds the queues that a message reaches from `start`, some perhaps more than once.
    #[inline]
    pub(super) fn walk(
        &self,
        start: ExchangeSlot,
        envelope: &Envelope<'_>,
        topology: &Topology,
        routed: &mut Routed,
    ) {
        routed.seen.clear();
        routed.ahead.clear();
        routed.chance = envelope.chance;
        routed.enter(start);
        while let Some(slot) = routed.ahead.pop() {
            let Some(routes) = self.routes(slot) else { continue };
            routed.matches = 0;
            routes.route(envelope, topology, routed);
            if routed.matches == 0
                && let Some(alternate) = routes.alternate.as_ref().and_then(|name| self.names.get(name))
            {
                routed.enter(*alternate);
            }
        }
    }

    /// The exchange remembers in this queue.
    pub(super) fn remember_in(&mut self, memory: &ExchangeMemory, queue: QueueId) {
        let slot = self.names.get(&memory.exchange).copied();
        let routes = slot.and_then(|slot| self.exchanges[slot.0 as usize].as_mut());
        if let Some(routes) = routes {
            routes.memory = Some((queue, memory.kind));
        }
    }

    fn ends(&self, binding: &Binding) -> Option<(ExchangeSlot, Target)> {
        let target = match &binding.destination {
            Destination::Queue(id) => Target::Queue(*id),
            Destination::Exchange(name) => Target::Exchange(*self.names.get(name)?),
        };
        Some((*self.names.get(&binding.source)?, target))
    }

    #[inline]
    fn routes(&self, slot: ExchangeSlot) -> Option<&ExchangeRoutes> {
        self.exchanges[slot.0 as usize].as_ref()
    }
}

impl ExchangeRoutes {
    /// Reports where the message goes on: into the exchange's memory, where its bindings lead, or both.
    #[inline]
    fn route(&self, envelope: &Envelope<'_>, topology: &Topology, routed: &mut Routed) {
        match self.memory {
            Some((memory, _)) if envelope.from_memory == Some(memory) => {
                self.table.route(envelope, topology, routed);
            }
            // Exchanges that lead to each other would pass a message round for ever that none of them remembers.
            Some((_, MemoryKind::Deduplication))
                if envelope.from_memory.is_some() && !self.deduplicates(envelope) =>
            {
                self.table.route(envelope, topology, routed);
            }
            Some((memory, MemoryKind::Deduplication)) => routed.reach(Target::Queue(memory)),
            Some((memory, _)) => self.table.route_remembering(memory, envelope, topology, routed),
            None => self.table.route(envelope, topology, routed),
        }
    }

    /// Whether the message has what it is remembered by.
    fn deduplicates(&self, envelope: &Envelope<'_>) -> bool {
        let header = self.deduplication_header.as_ref();
        let value = header.and_then(|header| envelope.headers?.get(header.as_bytes()));
        value.is_some()
    }

    fn forget_exchange_target(&mut self, destination: ExchangeSlot) {
        if let Some(count) = self.exchange_targets.get_mut(&destination) {
            *count -= 1;
            if *count == 0 {
                self.exchange_targets.remove(&destination);
            }
        }
    }
}
