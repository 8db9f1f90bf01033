//! `Table`: the bindings of one exchange, laid out as its type routes by them.

use foldhash::fast::FixedState;

use crate::topology::{Binding, Exchange, ExchangeKind, HashOn, Topology};

use super::Routed;
use super::consistent_hash::ConsistentHashTable;
use super::direct::DirectTable;
use super::envelope::Envelope;
use super::fanout::FanoutTable;
use super::headers::HeadersTable;
use super::local_random::LocalRandomTable;
use super::modulus_hash::ModulusHashTable;
use super::random::RandomTable;
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
}

impl Table {
    /// The table of an exchange without bindings.
    pub(super) fn new(exchange: &Exchange, hash: &FixedState) -> Self {
        match exchange.kind {
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
        }
    }

    /// Adds a binding to `target`, the slot or id of the binding's destination; `false` when it is there already.
    pub(super) fn bind(&mut self, binding: &Binding, target: Target) -> bool {
        let (key, arguments) = (&binding.routing_key, binding.arguments.as_bytes());
        match self {
            Table::Direct(table) => table.bind(key, arguments, target),
            Table::Fanout(table) => table.bind(key, arguments, target),
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
            Table::Fanout(table) => table.unbind(key, arguments, target),
            Table::Topic(table) => table.unbind(key, arguments, target),
            Table::Headers(table) => table.unbind(key, arguments, target),
            Table::ConsistentHash(table) => table.unbind(key, arguments, target),
            Table::ModulusHash(table) => table.bindings.unbind(binding),
            Table::Random(table) => table.bindings.unbind(binding),
            Table::LocalRandom(table) => table.bindings.unbind(binding),
        }
    }

    /// Reports where the bindings lead that the message matches.
    #[inline]
    pub(super) fn route(&self, envelope: &Envelope<'_>, topology: &Topology, routed: &mut Routed) {
        let keys = envelope.routing_keys;
        match self {
            Table::Direct(table) => keys.iter().for_each(|key| table.route(key, routed)),
            Table::Fanout(table) => table.route(routed),
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
