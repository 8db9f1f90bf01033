//! The story of a declaration: exchanges, queues, bindings, and their ends.
//!
//! What an exchange's declare finds as it asks is answered from this core's copy of the topology; a queue that is there is
//! asked of its owner, for its counts; every change, and what this copy would refuse, travels to control, which decides.

use super::Shard;
use super::connect::Next;
use super::connections::AwaitedRequest;
use super::control::ControlAction;
use super::mailbox::ShardMessage;
use super::obey::{At, FoundQueue};
use crate::channel::reply_to::is_reply_name;
use crate::model::{
    ConnectionId, FieldTableRef, QueueId, Refusal, ReplyCode, ShortString, short_string::base64url,
};
use crate::protocol::method::*;
use crate::topology::{DeclareVerdict, QueueDeclare};
use tracing::warn;

impl Shard {
    // ---- exchanges

    pub(super) fn declare_exchange(
        &mut self,
        at: At,
        declare: &ExchangeDeclare<'_>,
    ) -> Result<Next, Refusal> {
        let vhost = self.vhost_at(at.slot);
        let name = crate::topology::strip_cr_lf(declare.exchange);
        let wanted = crate::topology::ExchangeDeclare {
            vhost: vhost.as_bytes(),
            name: &name,
            kind: declare.kind,
            passive: declare.passive,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
        };
        if self.topology.decide_exchange_declare(&wanted)?.is_none() {
            return match declare.nowait {
                true => Ok(Next::Pull),
                false => self.answer_at(at, Method::ExchangeDeclareOk(ExchangeDeclareOk {})),
            };
        }
        let action = ControlAction::DeclareExchange {
            name: short(&name),
            kind: short(declare.kind),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.to_owned(),
        };
        self.ask_control(at, declare.nowait, action, AwaitedRequest::ExchangeDeclare)
    }

    pub(super) fn delete_exchange(&mut self, at: At, delete: &ExchangeDelete<'_>) -> Result<Next, Refusal> {
        let name = short(&crate::topology::strip_cr_lf(delete.exchange));
        let action = ControlAction::DeleteExchange {
            name,
            if_unused: delete.if_unused,
        };
        self.ask_control(at, delete.nowait, action, AwaitedRequest::ExchangeDelete)
    }

    pub(super) fn bind_exchange(&mut self, at: At, bind: &ExchangeBind<'_>) -> Result<Next, Refusal> {
        let action = exchange_binding(
            false,
            bind.source,
            bind.destination,
            bind.routing_key,
            bind.arguments,
        );
        self.ask_control(at, bind.nowait, action, AwaitedRequest::ExchangeBind)
    }

    pub(super) fn unbind_exchange(&mut self, at: At, unbind: &ExchangeUnbind<'_>) -> Result<Next, Refusal> {
        let action = exchange_binding(
            true,
            unbind.source,
            unbind.destination,
            unbind.routing_key,
            unbind.arguments,
        );
        self.ask_control(at, unbind.nowait, action, AwaitedRequest::ExchangeUnbind)
    }

    // ---- queues

    pub(super) fn declare_queue(
        &mut self,
        at: At,
        declare: &crate::protocol::method::QueueDeclare<'_>,
    ) -> Result<Next, Refusal> {
        if is_reply_name(declare.queue) {
            let name = short(&crate::topology::strip_cr_lf(declare.queue));
            return self.declare_reply_queue(at, declare.nowait, name);
        }
        let (vhost, connection) = (self.vhost_at(at.slot), self.id_at(at.slot));
        if declare.passive {
            return self.declare_passively(at, &vhost, declare);
        }
        let server_named = declare.queue.is_empty();
        let name = match server_named {
            true => ShortString::truncated(&format!("amq.gen-{}", base64url(self.random.next_u128()))),
            false => short(&crate::topology::strip_cr_lf(declare.queue)),
        };
        let wanted = QueueDeclare {
            vhost: vhost.as_bytes(),
            name: name.as_bytes(),
            server_named,
            passive: false,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments,
            connection,
        };
        let verdict = self.topology.check_queue_declare(&wanted);
        warn_of_arguments_without_effect(&name, declare.arguments);
        let action = ControlAction::DeclareQueue {
            name: name.clone(),
            server_named,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.to_owned(),
            connection,
        };
        match verdict {
            Ok(DeclareVerdict::Exists(queue)) => {
                self.ask_status(at, declare.nowait, queue, name, Some(Box::new(action)));
            }
            // A refusal may be about a queue that is being deleted: control knows.
            _ => self.declare_at_control(at, declare.nowait, name, action),
        }
        Ok(Next::Wait)
    }

    /// Lets control declare a queue.
    pub(super) fn declare_at_control(
        &mut self,
        at: At,
        nowait: bool,
        name: ShortString,
        action: ControlAction,
    ) {
        let anew = Some(Box::new(action.clone()));
        self.send_request(at, action);
        self.wait(at, nowait, name, AwaitedRequest::QueueDeclare { anew });
    }

    fn declare_passively(
        &mut self,
        at: At,
        vhost: &ShortString,
        declare: &crate::protocol::method::QueueDeclare<'_>,
    ) -> Result<Next, Refusal> {
        let connection = self.id_at(at.slot);
        let name = short(&crate::topology::strip_cr_lf(declare.queue));
        let queue = self
            .topology
            .check_queue_access(vhost.as_bytes(), name.as_bytes(), connection)?
            .id;
        self.ask_status(at, declare.nowait, queue, name, None);
        Ok(Next::Wait)
    }

    /// Asks the owner for the counts of queue.declare-ok; `anew` is what control is asked if the queue has gone.
    pub(super) fn ask_status(
        &mut self,
        at: At,
        nowait: bool,
        queue: QueueId,
        name: ShortString,
        anew: Option<Box<ControlAction>>,
    ) {
        // A queue that this core has not heard of any more is asked for here, where nobody knows it either.
        let owner = self
            .topology
            .queue_by_id(queue)
            .map_or(self.id, |queue| queue.owner);
        let connection = self.id_at(at.slot);
        self.say(owner, ShardMessage::Inspect { queue, connection });
        self.wait(at, nowait, name, AwaitedRequest::QueueDeclare { anew });
    }

    pub(super) fn bind_queue(&mut self, at: At, bind: &QueueBind<'_>) -> Result<Next, Refusal> {
        let queue = self.queue_named(at, bind.queue)?;
        check_can_be_bound(&queue)?;
        // An empty queue name with an empty key stands for the last declared queue twice (RabbitMQ).
        let is_shortcut = bind.queue.is_empty() && bind.routing_key.is_empty();
        let routing_key = if is_shortcut {
            queue.clone()
        } else {
            short(bind.routing_key)
        };
        let connection = self.id_at(at.slot);
        let action = queue_binding(
            false,
            queue,
            bind.exchange,
            routing_key,
            bind.arguments,
            connection,
        );
        self.ask_control(at, bind.nowait, action, AwaitedRequest::QueueBind)
    }

    pub(super) fn unbind_queue(&mut self, at: At, unbind: &QueueUnbind<'_>) -> Result<Next, Refusal> {
        let queue = self.queue_named(at, unbind.queue)?;
        check_can_be_bound(&queue)?;
        let connection = self.id_at(at.slot);
        let key = short(unbind.routing_key);
        let action = queue_binding(true, queue, unbind.exchange, key, unbind.arguments, connection);
        self.ask_control(at, false, action, AwaitedRequest::QueueUnbind)
    }

    pub(super) fn ask_purge(&mut self, at: At, purge: &QueuePurge<'_>) -> Result<Next, Refusal> {
        let found = self.accessible_queue(at, purge.queue)?;
        let (queue, connection) = (found.id, self.id_at(at.slot));
        let message = ShardMessage::Purge { queue, connection };
        self.ask_owner(at, found, message, purge.nowait, AwaitedRequest::QueuePurge)
    }

    pub(super) fn delete_queue(&mut self, at: At, delete: &QueueDelete<'_>) -> Result<Next, Refusal> {
        let found = match self.accessible_queue(at, delete.queue) {
            Ok(found) => found,
            // What is not there is deleted (RabbitMQ since 3.2).
            Err(refusal) if refusal.code == ReplyCode::NotFound && !delete.queue.is_empty() => {
                return match delete.nowait {
                    true => Ok(Next::Pull),
                    false => self.answer_at(at, Method::QueueDeleteOk(QueueDeleteOk { message_count: 0 })),
                };
            }
            Err(refusal) => return Err(refusal),
        };
        let (queue, connection) = (found.id, self.id_at(at.slot));
        let (if_unused, if_empty) = (delete.if_unused, delete.if_empty);
        let message = ShardMessage::Delete {
            queue,
            connection,
            if_unused,
            if_empty,
        };
        self.ask_owner(at, found, message, delete.nowait, AwaitedRequest::QueueDelete)
    }

    /// The name a method means: itself without line ends, or the last declared queue's when empty.
    fn queue_named(&mut self, at: At, name: &[u8]) -> Result<ShortString, Refusal> {
        let name = crate::topology::strip_cr_lf(name);
        self.channel_of(at).queue_named(&name)
    }

    /// The queue a method means, if this connection may use it.
    pub(super) fn accessible_queue(&mut self, at: At, name: &[u8]) -> Result<FoundQueue, Refusal> {
        let name = self.queue_named(at, name)?;
        let (vhost, connection) = (self.vhost_at(at.slot), self.id_at(at.slot));
        let queue = self
            .topology
            .check_queue_access(vhost.as_bytes(), name.as_bytes(), connection)?;
        Ok(FoundQueue {
            id: queue.id,
            owner: queue.owner,
            name,
        })
    }
}

/// Arguments that are checked as RabbitMQ checks them, and kept, and do nothing yet.
const WITHOUT_EFFECT: &[&str] = &[
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-priority",
    "x-single-active-consumer",
];

fn warn_of_arguments_without_effect(queue: &ShortString, arguments: FieldTableRef<'_>) {
    for argument in WITHOUT_EFFECT {
        if arguments.get(argument.as_bytes()).is_some() {
            warn!(%queue, argument, "queue declared with an argument that has no effect in this version");
        }
    }
}

fn check_can_be_bound(queue: &ShortString) -> Result<(), Refusal> {
    match is_reply_name(queue.as_bytes()) {
        true => Err(Refusal::new(
            ReplyCode::AccessRefused,
            "cannot bind or unbind to a volatile (direct reply-to) queue",
        )),
        false => Ok(()),
    }
}

pub(super) fn short(bytes: &[u8]) -> ShortString {
    ShortString::new(bytes).expect("the decoder bounds a shortstr to 255 bytes")
}

fn exchange_binding(
    unbind: bool,
    source: &[u8],
    destination: &[u8],
    key: &[u8],
    arguments: FieldTableRef<'_>,
) -> ControlAction {
    ControlAction::BindExchange {
        unbind,
        source: short(&crate::topology::strip_cr_lf(source)),
        destination: short(&crate::topology::strip_cr_lf(destination)),
        routing_key: short(key),
        arguments: arguments.to_owned(),
    }
}

fn queue_binding(
    unbind: bool,
    queue: ShortString,
    exchange: &[u8],
    routing_key: ShortString,
    arguments: FieldTableRef<'_>,
    connection: ConnectionId,
) -> ControlAction {
    let exchange = short(&crate::topology::strip_cr_lf(exchange));
    ControlAction::BindQueue {
        unbind,
        queue,
        exchange,
        routing_key,
        arguments: arguments.to_owned(),
        connection,
    }
}
