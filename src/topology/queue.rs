//! Queues as they are declared (AMQP 0-9-1 §1.7): the definition every core has a copy of, and what a declare of
//! one is answered with.

use crate::model::{
    ConnectionId, FieldTable, FieldTableRef, QueueId, Refusal, ShardId, ShortString, VshardId,
};

use super::arguments::check_equivalence;
use super::queue_arguments::{
    check_queue_arguments, check_queue_properties, compared_arguments, queue_type_of,
};
use super::queue_settings::QueueType;
use super::refusal::{Entity, inequivalent_property, locked, no_vhost, not_found, reserved_name};
use super::{Topology, short};

/// A declared queue: who it is, where it lives, what it was declared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDefinition {
    /// Its incarnation.
    pub id: QueueId,
    /// The vhost it lives in.
    pub vhost: ShortString,
    /// Its name, unique in the vhost.
    pub name: ShortString,
    /// The vshard given to it when it was declared, for good.
    pub vshard: VshardId,
    /// The core that holds its messages.
    pub owner: ShardId,
    /// Whether it survives a restart; never together with `exclusive`.
    pub durable: bool,
    /// The connection it belongs to and goes with.
    pub exclusive: Option<ConnectionId>,
    /// Whether it goes when its last consumer does.
    pub auto_delete: bool,
    /// As declared.
    pub arguments: FieldTable,
}

impl QueueDefinition {
    /// What the queue promises.
    pub fn queue_type(&self) -> QueueType {
        queue_type_of(self.arguments.as_ref())
    }

    /// 405 when the queue is exclusive to a connection other than `connection`.
    pub fn check_access(&self, connection: ConnectionId) -> Result<(), Refusal> {
        match self.exclusive {
            Some(owner) if owner != connection => Err(locked(self.entity())),
            _ => Ok(()),
        }
    }

    fn entity(&self) -> Entity<'_> {
        Entity::queue(self.vhost.as_bytes(), self.name.as_bytes())
    }
}

/// A queue.declare (AMQP 0-9-1 §1.7.2.1); the name has been through `strip_cr_lf`.
#[derive(Clone, Copy, Debug)]
pub struct QueueDeclare<'a> {
    /// The vhost.
    pub vhost: &'a [u8],
    /// The queue's name; made by the broker when the client left it empty.
    pub name: &'a [u8],
    /// Whether the broker made the name, which then may begin with `amq.`.
    pub server_named: bool,
    /// Whether to ask only if it exists.
    pub passive: bool,
    /// Whether it shall survive a restart; no use together with `exclusive`.
    pub durable: bool,
    /// Whether it shall belong to `connection`.
    pub exclusive: bool,
    /// See `QueueDefinition::auto_delete`.
    pub auto_delete: bool,
    /// The arguments, checked to be a table.
    pub arguments: FieldTableRef<'a>,
    /// The connection that asks.
    pub connection: ConnectionId,
}

/// What a queue.declare comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclareVerdict {
    /// The queue exists, and the declare is equivalent or passive.
    Exists(QueueId),
    /// It is to be created; name and arguments are checked.
    Create,
}

impl Topology {
    /// What a queue.declare comes to. An existing queue is compared before arguments are judged, as RabbitMQ does.
    ///
    /// Refused with 403 (reserved name), 404 (passive), 405 (exclusive to another connection, or not alike
    /// exclusive), 406 (not equivalent, arguments), 530 (vhost).
    pub fn check_queue_declare(&self, declare: &QueueDeclare<'_>) -> Result<DeclareVerdict, Refusal> {
        let entity = Entity::queue(declare.vhost, declare.name);
        if declare.passive {
            let queue = self.check_queue_access(declare.vhost, declare.name, declare.connection)?;
            return Ok(DeclareVerdict::Exists(queue.id));
        }
        if !declare.server_named && declare.name.starts_with(b"amq.") {
            return Err(reserved_name(entity));
        }
        self.vhost(declare.vhost).ok_or_else(|| no_vhost(declare.vhost))?;
        match self.queue(declare.vhost, declare.name) {
            Some(queue) => {
                check_same_queue(entity, declare, queue).map(|()| DeclareVerdict::Exists(queue.id))
            }
            None => {
                check_queue_arguments(entity, declare.arguments)?;
                check_queue_properties(entity, declare)?;
                short(declare.name)?;
                Ok(DeclareVerdict::Create)
            }
        }
    }

    /// The queue of this name, if `connection` may use it. Refused with 404 and 405.
    pub fn check_queue_access(
        &self,
        vhost: &[u8],
        name: &[u8],
        connection: ConnectionId,
    ) -> Result<&QueueDefinition, Refusal> {
        let queue = self
            .queue(vhost, name)
            .ok_or_else(|| not_found(Entity::queue(vhost, name)))?;
        queue.check_access(connection)?;
        Ok(queue)
    }
}

fn check_same_queue(
    entity: Entity<'_>,
    declare: &QueueDeclare<'_>,
    queue: &QueueDefinition,
) -> Result<(), Refusal> {
    if queue.exclusive != declare.exclusive.then_some(declare.connection) {
        return Err(locked(entity));
    }
    let durable = declare.durable && !declare.exclusive;
    for (key, received, current) in [
        ("durable", durable, queue.durable),
        ("auto_delete", declare.auto_delete, queue.auto_delete),
    ] {
        if received != current {
            return Err(inequivalent_property(key, entity, received, current));
        }
    }
    let current = queue.arguments.as_ref();
    let keys: Vec<&str> = compared_arguments(queue_type_of(current)).collect();
    check_equivalence(entity, &keys, declare.arguments, current)
}
