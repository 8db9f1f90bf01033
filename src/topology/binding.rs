//! Bindings: queue.bind and exchange.bind, and how they are undone (AMQP 0-9-1 §1.7.2.3; RabbitMQ's exchange.bind).

use crate::model::{ConnectionId, FieldTable, FieldTableRef, QueueId, Refusal, ReplyCode, ShortString};

use super::arguments::in_key_order;
use super::cascade::Cascade;
use super::erlang_term::{binary, term};
use super::exchange::check_not_default;
use super::hash_on::binding_weight;
use super::memory::delayed_kind;
use super::refusal::{Entity, no_vhost, not_found};
use super::vhost::Vhost;
use super::{Change, Exchange, ExchangeKind, QueueDefinition, Topology, short};

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A queue's incarnation; its name is asked of the topology.
    Queue(QueueId),
    /// An exchange of the same vhost.
    Exchange(ShortString),
}

/// A binding. All its fields together are its identity: bound twice it is one, with other arguments it is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The vhost of both ends.
    pub vhost: ShortString,
    /// The exchange it leaves, never the default exchange.
    pub source: ShortString,
    /// Where it leads.
    pub destination: Destination,
    /// The routing key, for a topic exchange a pattern.
    pub routing_key: ShortString,
    /// The arguments, in order of their keys.
    pub arguments: FieldTable,
}

impl Topology {
    /// What a queue.bind changes; nothing when it is bound so already.
    ///
    /// Refused with 403 (default exchange), 404 (exchange, queue), 405 (another connection's queue), 406 (the exchange
    /// cannot match by it), 530 (vhost).
    pub fn decide_queue_bind(
        &self,
        vhost: &[u8],
        queue: &[u8],
        exchange: &[u8],
        routing_key: &[u8],
        arguments: FieldTableRef<'_>,
        connection: ConnectionId,
    ) -> Result<Vec<Change>, Refusal> {
        check_not_default(exchange)?;
        let home = self.vhost(vhost).ok_or_else(|| no_vhost(vhost))?;
        let source = existing_exchange(home, exchange)?;
        let queue = self
            .queue(vhost, queue)
            .ok_or_else(|| not_found(Entity::queue(vhost, queue)))?;
        let destination = Destination::Queue(queue.id);
        check_binding(source, &destination, routing_key, arguments)?;
        queue.check_access(connection)?;
        bind(
            home,
            new_binding(home, source, destination, routing_key, arguments)?,
        )
    }

    /// What a queue.unbind changes: the binding, and auto-delete exchanges that fall with it. Nothing when there is
    /// no such binding, whatever of it is missing.
    ///
    /// Refused with 403 (default exchange), 405 (another connection's queue).
    pub fn decide_queue_unbind(
        &self,
        vhost: &[u8],
        queue: &[u8],
        exchange: &[u8],
        routing_key: &[u8],
        arguments: FieldTableRef<'_>,
        connection: ConnectionId,
    ) -> Result<Vec<Change>, Refusal> {
        check_not_default(exchange)?;
        let Some(home) = self.vhost(vhost) else {
            return Ok(Vec::new());
        };
        let Some(source) = home.exchanges.get(exchange) else {
            return Ok(Vec::new());
        };
        let Some(queue) = self.queue(vhost, queue) else {
            return Ok(Vec::new());
        };
        let binding = new_binding(home, source, Destination::Queue(queue.id), routing_key, arguments)?;
        let changes = unbind(home, binding);
        if !changes.is_empty() {
            queue.check_access(connection)?;
        }
        Ok(changes)
    }

    /// What an exchange.bind changes; nothing when it is bound so already. An exchange may be bound to itself.
    ///
    /// Refused with 403 (default exchange at either end), 404 (source, then destination), 406 (the source cannot match
    /// by it), 530.
    pub fn decide_exchange_bind(
        &self,
        vhost: &[u8],
        destination: &[u8],
        source: &[u8],
        routing_key: &[u8],
        arguments: FieldTableRef<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        check_not_default(destination)?;
        check_not_default(source)?;
        let home = self.vhost(vhost).ok_or_else(|| no_vhost(vhost))?;
        let source = existing_exchange(home, source)?;
        let destination = Destination::Exchange(existing_exchange(home, destination)?.name.clone());
        check_binding(source, &destination, routing_key, arguments)?;
        bind(
            home,
            new_binding(home, source, destination, routing_key, arguments)?,
        )
    }

    /// What an exchange.unbind changes: the binding, and auto-delete exchanges that fall with it. Nothing when there
    /// is no such binding.
    ///
    /// Refused with 403 (default exchange at either end).
    pub fn decide_exchange_unbind(
        &self,
        vhost: &[u8],
        destination: &[u8],
        source: &[u8],
        routing_key: &[u8],
        arguments: FieldTableRef<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        check_not_default(destination)?;
        check_not_default(source)?;
        let Some(home) = self.vhost(vhost) else {
            return Ok(Vec::new());
        };
        let Some(source) = home.exchanges.get(source) else {
            return Ok(Vec::new());
        };
        let destination = Destination::Exchange(short(destination)?);
        Ok(unbind(
            home,
            new_binding(home, source, destination, routing_key, arguments)?,
        ))
    }

    /// What a binding between ends that exist changes, whoever asks; nothing when it is bound so already. Refused with
    /// 404 (source), 406 (`x-match`), 530 (vhost).
    pub fn decide_binding(
        &self,
        vhost: &[u8],
        source: &[u8],
        destination: Destination,
        routing_key: &ShortString,
        arguments: FieldTableRef<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        let home = self.vhost(vhost).ok_or_else(|| no_vhost(vhost))?;
        let source = existing_exchange(home, source)?;
        let key = routing_key.as_bytes();
        check_binding(source, &destination, key, arguments)?;
        bind(home, new_binding(home, source, destination, key, arguments)?)
    }

    /// The changes by which a queue goes: its bindings, auto-delete exchanges that fall with them, the queue itself
    /// last. Empty for an id that is gone. Whether the queue may go, its owner has judged.
    pub fn queue_deletion_changes(&self, id: QueueId) -> Vec<Change> {
        let queue: Option<&QueueDefinition> = self.queue_by_id(id);
        let vhost = queue.and_then(|queue| self.vhost(queue.vhost.as_bytes()));
        match (queue, vhost) {
            (Some(queue), Some(vhost)) => Cascade::new(vhost).deleting_queue(queue),
            _ => Vec::new(),
        }
    }
}

fn existing_exchange<'a>(vhost: &'a Vhost, name: &[u8]) -> Result<&'a Exchange, Refusal> {
    let found = vhost.exchanges.get(name);
    found.ok_or_else(|| not_found(Entity::exchange(vhost.name.as_bytes(), name)))
}

fn new_binding(
    vhost: &Vhost,
    source: &Exchange,
    destination: Destination,
    routing_key: &[u8],
    arguments: FieldTableRef<'_>,
) -> Result<Binding, Refusal> {
    let (routing_key, arguments) = (short(routing_key)?, in_key_order(arguments));
    Ok(Binding {
        vhost: vhost.name.clone(),
        source: source.name.clone(),
        destination,
        routing_key,
        arguments,
    })
}

fn bind(vhost: &Vhost, binding: Binding) -> Result<Vec<Change>, Refusal> {
    match vhost.bindings.get(binding.clone()) {
        Some(_) => Ok(Vec::new()),
        None => Ok(vec![Change::Bound(binding)]),
    }
}

fn unbind(vhost: &Vhost, binding: Binding) -> Vec<Change> {
    match vhost.bindings.get(binding) {
        Some(binding) => Cascade::new(vhost).unbinding(binding),
        None => Vec::new(),
    }
}

/// 406 when an exchange of this type cannot match by this binding.
fn check_binding(
    source: &Exchange,
    destination: &Destination,
    routing_key: &[u8],
    arguments: FieldTableRef<'_>,
) -> Result<(), Refusal> {
    let kind = match source.kind {
        ExchangeKind::Delayed => delayed_kind(source.arguments.as_ref()).unwrap_or(ExchangeKind::Direct),
        kind => kind,
    };
    match kind {
        ExchangeKind::Headers => check_x_match(arguments),
        ExchangeKind::ConsistentHash => binding_weight(routing_key).map(|_| ()),
        ExchangeKind::LocalRandom => check_local(destination, routing_key),
        ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::Topic
        | ExchangeKind::ModulusHash
        | ExchangeKind::Random
        | ExchangeKind::Delayed
        | ExchangeKind::RecentHistory => Ok(()),
    }
}

/// 406 when the binding has a key, or leads to an exchange, which lies on every core.
fn check_local(destination: &Destination, routing_key: &[u8]) -> Result<(), Refusal> {
    let text = match destination {
        _ if !routing_key.is_empty() => {
            let key = String::from_utf8_lossy(routing_key);
            format!("Non empty binding '{key}' key not permitted")
        }
        Destination::Exchange(_) => "Destination not found".to_owned(),
        Destination::Queue(_) => return Ok(()),
    };
    Err(Refusal::new(ReplyCode::PreconditionFailed, text))
}

/// 406 when a headers exchange would not know how to match by these arguments.
fn check_x_match(arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
    let Some(value) = arguments.get(b"x-match") else {
        return Ok(());
    };
    let text = match value.as_string() {
        Some(b"all" | b"any" | b"all-with-x" | b"any-with-x") => return Ok(()),
        Some(other) => {
            let found = binary(other);
            format!("Invalid x-match field value {found}; expected all, any, all-with-x, or any-with-x")
        }
        None => {
            let (kind, value) = (value.rabbit_type_name(), term(value));
            format!("Invalid x-match field type {kind} (value {value}); expected longstr")
        }
    };
    Err(Refusal::new(ReplyCode::PreconditionFailed, text))
}
