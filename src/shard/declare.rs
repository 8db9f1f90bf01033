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
use crate::auth::{Access, Resource};
use crate::channel::reply_to::is_reply_name;
use crate::model::{
    ConnectionId, FieldTable, FieldTableRef, QueueId, Refusal, ReplyCode, ShortString,
    short_string::base64url,
};
use crate::protocol::method::*;
use crate::topology::{
    DeclareVerdict, ExchangeKind, ExchangeMemory, QueueDeclare, QueueType, check_not_default,
};

const QUEUE_TYPE: &str = "x-queue-type";

impl Shard {
    // ---- exchanges

    pub(super) fn declare_exchange(
        &mut self,
        at: At,
        declare: &ExchangeDeclare<'_>,
    ) -> Result<Next, Refusal> {
        let vhost = self.vhost_at(at.slot);
        let name = crate::topology::strip_cr_lf(declare.exchange);
        if !declare.passive {
            // A type that does not exist, and the default exchange, come before permissions.
            ExchangeKind::parse(declare.kind)?;
            check_not_default(&name)?;
            self.permit(at, Access::Configure, Resource::Exchange(&name))?;
        }
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
        if let Some(alternate) = text_argument(declare.arguments, "alternate-exchange") {
            self.permit(at, Access::Read, Resource::Exchange(&name))?;
            self.permit(at, Access::Write, Resource::Exchange(alternate))?;
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
        // Control refuses both whoever asks.
        if !name.is_empty() && !name.as_bytes().starts_with(b"amq.") {
            self.permit(at, Access::Configure, Resource::Exchange(name.as_bytes()))?;
        }
        let action = ControlAction::DeleteExchange {
            name,
            if_unused: delete.if_unused,
        };
        self.ask_control(at, delete.nowait, action, AwaitedRequest::ExchangeDelete)
    }

    pub(super) fn bind_exchange(&mut self, at: At, bind: &ExchangeBind<'_>) -> Result<Next, Refusal> {
        self.permit_exchange_binding(at, bind.destination, bind.source, bind.routing_key)?;
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
        self.permit_exchange_binding(at, unbind.destination, unbind.source, unbind.routing_key)?;
        let action = exchange_binding(
            true,
            unbind.source,
            unbind.destination,
            unbind.routing_key,
            unbind.arguments,
        );
        self.ask_control(at, unbind.nowait, action, AwaitedRequest::ExchangeUnbind)
    }

    fn permit_exchange_binding(
        &mut self,
        at: At,
        destination: &[u8],
        source: &[u8],
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        let [destination, source] = [destination, source].map(crate::topology::strip_cr_lf);
        self.permit_binding(at, Resource::Exchange(&destination), &source, routing_key)
    }

    // ---- queues

    /// Whether the user may have dead letters of the queue go to `exchange`.
    fn permit_dead_letters(&mut self, at: At, queue: &ShortString, exchange: &[u8]) -> Result<(), Refusal> {
        self.permit(at, Access::Read, Resource::Queue(queue.as_bytes()))?;
        self.permit(at, Access::Write, Resource::Exchange(exchange))
    }

    /// The arguments that a queue is declared with, and the type that its vhost gives to queues without one. What a quorum
    /// queue cannot be stays classic.
    fn arguments_of(
        &self,
        vhost: &ShortString,
        server_named: bool,
        declare: &crate::protocol::method::QueueDeclare<'_>,
    ) -> FieldTable {
        let metadata = self.topology.vhost_metadata(vhost.as_bytes());
        let is_quorum = metadata.is_some_and(|metadata| metadata.default_queue_type.as_bytes() == b"quorum");
        let can_be_quorum = declare.durable && !declare.exclusive && !declare.auto_delete && !server_named;
        if !is_quorum || !can_be_quorum || declare.arguments.get(QUEUE_TYPE.as_bytes()).is_some() {
            return declare.arguments.to_owned();
        }
        declare
            .arguments
            .iter()
            .map_while(Result::ok)
            .fold(FieldTable::builder(), |table, (key, value)| {
                table.value(key, value)
            })
            .string(QUEUE_TYPE, "quorum")
            .build()
    }

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
        // A reserved name comes before permissions.
        if server_named || !name.as_bytes().starts_with(b"amq.") {
            self.permit(at, Access::Configure, Resource::Queue(name.as_bytes()))?;
        }
        let arguments = self.arguments_of(&vhost, server_named, declare);
        let wanted = QueueDeclare {
            vhost: vhost.as_bytes(),
            name: name.as_bytes(),
            server_named,
            passive: false,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: arguments.as_ref(),
            connection,
        };
        let verdict = self.topology.check_queue_declare(&wanted);
        let if_new = match text_argument(declare.arguments, "x-dead-letter-exchange") {
            Some(exchange) => self.permit_dead_letters(at, &name, exchange).err(),
            None => None,
        };
        if verdict == Ok(DeclareVerdict::Create)
            && let Some(refusal) = if_new
        {
            return Err(refusal);
        }
        let action = ControlAction::DeclareQueue {
            name: name.clone(),
            server_named,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments,
            connection,
            if_new,
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
        let queue = self.queue_named(at, &crate::topology::strip_cr_lf(bind.queue))?;
        check_can_be_bound(&queue)?;
        check_is_no_memory(&self.vhost_at(at.slot), &queue)?;
        let routing_key = key_or_shortcut(bind.queue, bind.routing_key, &queue);
        let exchange = crate::topology::strip_cr_lf(bind.exchange);
        let destination = Resource::Queue(queue.as_bytes());
        self.permit_binding(at, destination, &exchange, routing_key.as_bytes())?;
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
        let queue = self.queue_named(at, &crate::topology::strip_cr_lf(unbind.queue))?;
        check_can_be_bound(&queue)?;
        let exchange = crate::topology::strip_cr_lf(unbind.exchange);
        let destination = Resource::Queue(queue.as_bytes());
        self.permit_binding(at, destination, &exchange, unbind.routing_key)?;
        let connection = self.id_at(at.slot);
        let key = key_or_shortcut(unbind.queue, unbind.routing_key, &queue);
        let action = queue_binding(true, queue, unbind.exchange, key, unbind.arguments, connection);
        self.ask_control(at, false, action, AwaitedRequest::QueueUnbind)
    }

    pub(super) fn ask_purge(&mut self, at: At, purge: &QueuePurge<'_>) -> Result<Next, Refusal> {
        let found = self.accessible_queue(at, Access::Read, purge.queue)?;
        let (queue, connection) = (found.id, self.id_at(at.slot));
        let message = ShardMessage::Purge { queue, connection };
        self.ask_owner(at, found, message, purge.nowait, AwaitedRequest::QueuePurge)
    }

    pub(super) fn delete_queue(&mut self, at: At, delete: &QueueDelete<'_>) -> Result<Next, Refusal> {
        let name = crate::topology::strip_cr_lf(delete.queue);
        let found = match self.accessible_queue(at, Access::Configure, &name) {
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
        let vhost = self.vhost_at(at.slot);
        check_is_no_memory(&vhost, &found.name)?;
        if self.queue_type(found.id) == QueueType::Quorum {
            check_quorum_deletion(&vhost, &found.name, delete)?;
        }
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

    /// What the queue promises.
    pub(super) fn queue_type(&self, queue: QueueId) -> QueueType {
        self.topology
            .queue_by_id(queue)
            .map_or(QueueType::Classic, |queue| queue.queue_type())
    }

    /// The name a method means: itself, or the last declared queue's when empty.
    fn queue_named(&mut self, at: At, name: &[u8]) -> Result<ShortString, Refusal> {
        self.channel_of(at).queue_named(name)
    }

    /// The queue a method means, if this connection may use it and its user may have `access`.
    pub(super) fn accessible_queue(
        &mut self,
        at: At,
        access: Access,
        name: &[u8],
    ) -> Result<FoundQueue, Refusal> {
        let name = self.queue_named(at, name)?;
        self.permit(at, access, Resource::Queue(name.as_bytes()))?;
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

/// An empty queue name with an empty key stands for the last declared queue twice (RabbitMQ).
fn key_or_shortcut(queue_name: &[u8], routing_key: &[u8], queue: &ShortString) -> ShortString {
    match queue_name.is_empty() && routing_key.is_empty() {
        true => queue.clone(),
        false => short(routing_key),
    }
}

/// 540 for conditions that RabbitMQ's quorum queues do not know.
fn check_quorum_deletion(
    vhost: &ShortString,
    queue: &ShortString,
    delete: &QueueDelete<'_>,
) -> Result<(), Refusal> {
    let flag = match (delete.if_unused, delete.if_empty) {
        (true, _) => "if-unused",
        (_, true) => "if-empty",
        _ => return Ok(()),
    };
    let text = format!(
        "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {flag} flag set are not \
         supported by quorum queues"
    );
    Err(Refusal::new(ReplyCode::NotImplemented, text))
}

/// 403 for a queue in which an exchange remembers.
fn check_is_no_memory(vhost: &ShortString, queue: &ShortString) -> Result<(), Refusal> {
    match ExchangeMemory::of_queue(queue.as_bytes()) {
        None => Ok(()),
        Some(memory) => {
            let exchange = &memory.exchange;
            let text = format!(
                "queue '{queue}' in vhost '{vhost}' belongs to exchange '{exchange}' alone: it is neither bound nor deleted"
            );
            Err(Refusal::new(ReplyCode::AccessRefused, text))
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

fn text_argument<'a>(arguments: FieldTableRef<'a>, key: &str) -> Option<&'a [u8]> {
    arguments.get(key.as_bytes())?.as_string()
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
