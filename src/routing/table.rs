//! `Table`: the bindings of one exchange, laid out as its type routes by them.

use foldhash::fast::FixedState;

use crate::model::QueueId;
use crate::topology::{Binding, Exchange, ExchangeKind, HashOn, Topology, delayed_kind};

use super::Routed;
use super::consistent_hash::ConsistentHashTable;
use super::delayed::delay_of;
use super::direct::DirectTable;
use super::envelope::Envelope;
use super::fanout::FanoutTable;
use super::headers::HeadersTable;
use super::local_random::LocalRandomTable;
use super::modulus_hash::ModulusHashTable;
use super::random::RandomTable;
use super::recent_history::is_stored;
use super::targets::Target;
use super::topic::TopicTable;

/// One variant a type.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Direct(DirectTable),
    Fanout(FanoutTable),
    Topic(TopicTable),
    Headers(HeadersTable),
    ConsistentHash(ConsistentHashTable),
    ModulusHash(ModulusHashTable),
    Random(RandomTable),
    LocalRandom(LocalRandomTable),
    /// The table of what is due.
    Delayed(Box<Table>),
    RecentHistory(FanoutTable),
}

impl Table {
    /// The table of an exchange without bindings.
    pub(super) fn new(exchange: &Exchange, hash: &FixedState) -> Self {
        Self::of_kind(exchange.kind, exchange, hash)
    }

    fn of_kind(kind: ExchangeKind, exchange: &Exchange, hash: &FixedState) -> Self {
        match kind {
            ExchangeKind::Direct => Table::Direct(DirectTable::new(hash)),
            ExchangeKind::Fanout => Table::Fanout(FanoutTable::default()),
            ExchangeKind::Topic => Table::Topic(TopicTable::new(hash)),
            ExchangeKind::Headers => Table::Headers(HeadersTable::default()),
            ExchangeKind::ConsistentHash => {
                let hash_on = HashOn::of(exchange.arguments.as_ref());
                Table::ConsistentHash(ConsistentHashTable::new(hash_on))
            }
            ExchangeKind::ModulusHash => Table::ModulusHash(ModulusHashTable::default()),
            ExchangeKind::Random => Table::Random(RandomTable::default()),
            ExchangeKind::LocalRandom => Table::LocalRandom(LocalRandomTable::default()),
            ExchangeKind::RecentHistory => Table::RecentHistory(FanoutTable::default()),
            ExchangeKind::Delayed => {
                let due = delayed_kind(exchange.arguments.as_ref()).unwrap_or(ExchangeKind::Direct);
                Table::Delayed(Box::new(Table::of_kind(due, exchange, hash)))
            }
        }
    }

    /// Adds a binding to `target`, the slot or id of the binding's destination; `false` when it is there already.
    pub(super) fn bind(&mut self, binding: &Binding, target: Target) -> bool {
        let (key, arguments) = (&binding.routing_key, binding.arguments.as_bytes());
        match self {
            Table::Direct(table) => table.bind(key, arguments, target),
            Table::Fanout(table) | Table::RecentHistory(table) => table.bind(key, arguments, target),
            Table::Delayed(table) => table.bind(binding, target),
            Table::Topic(table) => table.bind(key, arguments, target),
            Table::Headers(table) => table.bind(key, arguments, target),
            Table::ConsistentHash(table) => table.bind(key, arguments, (target, &binding.destination)),
            Table::ModulusHash(table) => table.bindings.bind(binding, target),
            Table::Random(table) => table.bindings.bind(binding, target),
            Table::LocalRandom(table) => table.bindings.bind(binding, target),
        }
    }

    /// Removes a binding; `false` when it is not there.
    pub(super) fn unbind(&mut self, binding: &Binding, target: Target) -> bool {
        let (key, arguments) = (&binding.routing_key, binding.arguments.as_bytes());
        match self {
            Table::Direct(table) => table.unbind(key, arguments, target),
            Table::Fanout(table) | Table::RecentHistory(table) => table.unbind(key, arguments, target),
            Table::Delayed(table) => table.unbind(binding, target),
            Table::Topic(table) => table.unbind(key, arguments, target),
            Table::Headers(table) => table.unbind(key, arguments, target),
            Table::ConsistentHash(table) => table.unbind(key, arguments, target),
            Table::ModulusHash(table) => table.bindings.unbind(binding),
            Table::Random(table) => table.bindings.unbind(binding),
            Table::LocalRandom(table) => table.bindings.unbind(binding),
        }
    }

    /// The same for an exchange that remembers in the queue `memory`.
    pub(super) fn route_remembering(
        &self,
        memory: QueueId,
        envelope: &Envelope<'_>,
        topology: &Topology,
        routed: &mut Routed,
    ) {
        routed.is_for_message_alone = true;
        match self {
            Table::Delayed(_) if delay_of(envelope.headers).is_some() => routed.reach(Target::Queue(memory)),
            Table::RecentHistory(_) if is_stored(envelope.headers) => {
                self.route(envelope, topology, routed);
                routed.queues.push(memory);
            }
            _ => self.route(envelope, topology, routed),
        }
    }

    /// Reports where the bindings lead that the message matches.
    #[inline]
    pub(super) fn route(&self, envelope: &Envelope<'_>, topology: &Topology, routed: &mut Routed) {
        let keys = envelope.routing_keys;
        match self {
            Table::Direct(table) => keys.iter().for_each(|key| table.route(key, routed)),
            Table::Fanout(table) | Table::RecentHistory(table) => table.route(routed),
            Table::Delayed(table) => table.route(envelope, topology, routed),
            Table::Topic(table) => {
                let mut scratch = std::mem::take(&mut routed.topic);
                keys.iter().for_each(|key| table.route(key, &mut scratch, routed));
                routed.topic = scratch;
            }
            Table::Headers(table) => table.route(envelope.headers, routed),
            Table::ConsistentHash(table) => table.route(envelope, routed),
            Table::ModulusHash(table) => table.route(keys, routed),
            Table::Random(table) => table.route(routed),
            Table::LocalRandom(table) => table.route(envelope.home, topology, routed),
        }
    }
}
