//! The routing tables of one vhost, and the walk from exchange to exchange.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::model::{FieldTableRef, QueueId, ShortString};
use crate::topology::{
    Binding, Destination, Exchange, ExchangeKind, PREDECLARED_EXCHANGES, delayed_kind,
    is_internal_from_the_start,
};

use super::Routed;
use super::delayed::delay_of;
use super::direct::DirectTable;
use super::fanout::FanoutTable;
use super::headers::HeadersTable;
use super::recent_history::is_stored;
use super::targets::{ExchangeSlot, Target};
use super::topic::TopicTable;

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
    memory: Option<QueueId>,
    internal: bool,
    alternate: Option<ShortString>,
    /// The exchanges it is bound to, with the number of bindings to each.
    exchange_targets: BTreeMap<ExchangeSlot, u32>,
    /// Bindings that lead to it from exchanges.
    inbound: u32,
}

#[derive(Clone, Debug)]
enum Table {
    Direct(DirectTable),
    Fanout(FanoutTable),
    Topic(TopicTable),
    Headers(HeadersTable),
    /// The table of what is due.
    Delayed(Box<Table>),
    RecentHistory(FanoutTable),
}

impl Table {
    fn of(kind: ExchangeKind, arguments: FieldTableRef<'_>, hash: &FixedState) -> Self {
        match kind {
            ExchangeKind::Direct => Table::Direct(DirectTable::new(hash)),
            ExchangeKind::Fanout => Table::Fanout(FanoutTable::default()),
            ExchangeKind::Topic => Table::Topic(TopicTable::new(hash)),
            ExchangeKind::Headers => Table::Headers(HeadersTable::default()),
            ExchangeKind::RecentHistory => Table::RecentHistory(FanoutTable::default()),
            ExchangeKind::Delayed => {
                let kind = delayed_kind(arguments).unwrap_or(ExchangeKind::Direct);
                Table::Delayed(Box::new(Table::of(kind, arguments, hash)))
            }
        }
    }

    fn bind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        match self {
            Table::Direct(table) => table.bind(key, arguments, target),
            Table::Fanout(table) | Table::RecentHistory(table) => table.bind(key, arguments, target),
            Table::Topic(table) => table.bind(key, arguments, target),
            Table::Headers(table) => table.bind(key, arguments, target),
            Table::Delayed(table) => table.bind(key, arguments, target),
        }
    }

    fn unbind(&mut self, key: &ShortString, arguments: &[u8], target: Target) -> bool {
        match self {
            Table::Direct(table) => table.unbind(key, arguments, target),
            Table::Fanout(table) | Table::RecentHistory(table) => table.unbind(key, arguments, target),
            Table::Topic(table) => table.unbind(key, arguments, target),
            Table::Headers(table) => table.unbind(key, arguments, target),
            Table::Delayed(table) => table.unbind(key, arguments, target),
        }
    }

    /// Whether a message's headers decide where it goes.
    fn looks_at_headers(&self) -> bool {
        matches!(
            self,
            Table::Headers(_) | Table::Delayed(_) | Table::RecentHistory(_)
        )
    }
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
            let table = Table::of(kind, FieldTableRef::default(), hash);
            routes.add(
                ShortString::from(name),
                table,
                is_internal_from_the_start(name),
                None,
            );
        }
        routes
    }

    pub(super) fn declare(&mut self, exchange: &Exchange) {
        if !self.names.contains_key(&exchange.name) {
            let table = Table::of(exchange.kind, exchange.arguments.as_ref(), &self.hash);
            self.add(
                exchange.name.clone(),
                table,
                exchange.internal,
                exchange.alternate.clone(),
            );
        }
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
        let (key, arguments) = (&binding.routing_key, binding.arguments.as_bytes());
        let is_new = routes.table.bind(key, arguments, target);
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
        let (key, arguments) = (&binding.routing_key, binding.arguments.as_bytes());
        let was_there = routes.table.unbind(key, arguments, target);
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
        routing_keys: &[&[u8]],
        headers: Option<FieldTableRef<'_>>,
        routed: &mut Routed,
    ) {
        routed.seen.clear();
        routed.ahead.clear();
        routed.enter(start);
        while let Some(slot) = routed.ahead.pop() {
            let Some(routes) = self.routes(slot) else { continue };
            routed.matches = 0;
            routes.route(routing_keys, headers, routed);
            if routed.matches == 0
                && let Some(alternate) = routes.alternate.as_ref().and_then(|name| self.names.get(name))
            {
                routed.enter(*alternate);
            }
        }
    }

    /// Whether a message published at `start` can come to a headers exchange.
    pub(super) fn reaches_headers_exchange(&self, start: ExchangeSlot) -> bool {
        let (mut seen, mut ahead) = (Vec::new(), vec![start]);
        while let Some(slot) = ahead.pop() {
            let Some(routes) = self.routes(slot) else { continue };
            if routes.table.looks_at_headers() {
                return true;
            }
            let alternate = routes.alternate.as_ref().and_then(|name| self.names.get(name));
            for &next in routes.exchange_targets.keys().chain(alternate) {
                if let Err(at) = seen.binary_search(&next) {
                    seen.insert(at, next);
                    ahead.push(next);
                }
            }
        }
        false
    }

    /// The exchange remembers in this queue.
    pub(super) fn remember_in(&mut self, exchange: &ShortString, queue: QueueId) {
        let slot = self.names.get(exchange).copied();
        let routes = slot.and_then(|slot| self.exchanges[slot.0 as usize].as_mut());
        if let Some(routes) = routes {
            routes.memory = Some(queue);
        }
    }

    fn add(&mut self, name: ShortString, table: Table, internal: bool, alternate: Option<ShortString>) {
        let routes = ExchangeRoutes {
            table,
            memory: None,
            internal,
            alternate,
            exchange_targets: BTreeMap::new(),
            inbound: 0,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.exchanges.push(None);
            ExchangeSlot((self.exchanges.len() - 1) as u32)
        });
        self.exchanges[slot.0 as usize] = Some(routes);
        self.names.insert(name, slot);
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
    #[inline]
    fn route(&self, routing_keys: &[&[u8]], headers: Option<FieldTableRef<'_>>, routed: &mut Routed) {
        match self.memory {
            Some(memory) => self.route_remembering(memory, routing_keys, headers, routed),
            None => self.table.route(routing_keys, headers, routed),
        }
    }

    fn route_remembering(
        &self,
        memory: QueueId,
        routing_keys: &[&[u8]],
        headers: Option<FieldTableRef<'_>>,
        routed: &mut Routed,
    ) {
        match self.table {
            Table::Delayed(_) if delay_of(headers).is_some() => routed.reach(Target::Queue(memory)),
            Table::RecentHistory(_) if is_stored(headers) => {
                self.table.route(routing_keys, headers, routed);
                routed.queues.push(memory);
            }
            _ => self.table.route(routing_keys, headers, routed),
        }
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

impl Table {
    #[inline]
    fn route(&self, routing_keys: &[&[u8]], headers: Option<FieldTableRef<'_>>, routed: &mut Routed) {
        match self {
            Table::Direct(table) => routing_keys.iter().for_each(|key| table.route(key, routed)),
            Table::Fanout(table) | Table::RecentHistory(table) => table.route(routed),
            Table::Delayed(table) => table.route(routing_keys, headers, routed),
            Table::Topic(table) => {
                let mut scratch = std::mem::take(&mut routed.topic);
                routing_keys
                    .iter()
                    .for_each(|key| table.route(key, &mut scratch, routed));
                routed.topic = scratch;
            }
            Table::Headers(table) => table.route(headers, routed),
        }
    }
}
