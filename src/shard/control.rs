//! `Control`: the one shard that orders all declarations (shard 0).
//!
//! ```text
//!   request ─▶ decided on `decided` ─▶ logged, if durable ─▶ synced ─▶ announced to every core ─▶ applied by all ─▶ answer
//! ```
//!
//! Changes are numbered and go through these stages in order, several at a time. A request that changes nothing is
//! answered too only when everything decided before it is applied everywhere, so that whoever was told of a queue
//! finds it from any connection. `decided` runs ahead of the copies that cores route by.

use super::control_change::ControlChange;
use super::import::Decision;
use crate::auth::Users;
use crate::model::{
    ConnectionId, FieldTable, Lsn, QueueId, Refusal, ReplyCode, ShardId, ShortString, VSHARD_COUNT, VshardId,
};
use crate::topology::{
    Change, DeclareVerdict, ExchangeDeclare, ExchangeMemory, QueueDeclare, QueueDefinition, Topology,
};
use std::collections::VecDeque;

/// Whom an answer goes to.
#[derive(Clone, Copy, Debug)]
pub enum ReplyTo {
    /// A connection that waits.
    Connection(ConnectionId),
    /// Nobody: the broker itself asked.
    Nobody,
}

/// A declaration, as a core sends it to control.
#[derive(Debug)]
pub struct ControlRequest {
    /// Who waits for the answer.
    pub reply_to: ReplyTo,
    /// The vhost.
    pub vhost: ShortString,
    /// What to do.
    pub action: ControlAction,
}

/// What control can be asked to do.
#[derive(Clone, Debug)]
pub enum ControlAction {
    /// exchange.declare.
    DeclareExchange {
        /// Its name.
        name: ShortString,
        /// Its type's name.
        kind: ShortString,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it goes with its last binding.
        auto_delete: bool,
        /// Whether clients may not publish to it.
        internal: bool,
        /// Its arguments.
        arguments: FieldTable,
    },
    /// exchange.delete.
    DeleteExchange {
        /// Its name.
        name: ShortString,
        /// Only without bindings.
        if_unused: bool,
    },
    /// exchange.bind or exchange.unbind.
    BindExchange {
        /// Whether to unbind.
        unbind: bool,
        /// The source exchange.
        source: ShortString,
        /// The destination exchange.
        destination: ShortString,
        /// The routing key.
        routing_key: ShortString,
        /// The arguments.
        arguments: FieldTable,
    },
    /// queue.declare of a queue that the asking core does not know.
    DeclareQueue {
        /// Its name.
        name: ShortString,
        /// Whether the broker made the name.
        server_named: bool,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it belongs to one connection.
        exclusive: bool,
        /// Whether it goes with its last consumer.
        auto_delete: bool,
        /// Its arguments.
        arguments: FieldTable,
        /// The declaring connection.
        connection: ConnectionId,
        /// Why the user may not make it, if it is not there: where its dead letters go is not the user's to say.
        if_new: Option<Refusal>,
    },
    /// The owner has frozen this queue: delete it. The count goes into the answer.
    DeleteQueue {
        /// The queue.
        queue: QueueId,
        /// Ready messages it had.
        message_count: u32,
    },
    /// queue.bind or queue.unbind.
    BindQueue {
        /// Whether to unbind.
        unbind: bool,
        /// The queue.
        queue: ShortString,
        /// The exchange.
        exchange: ShortString,
        /// The routing key.
        routing_key: ShortString,
        /// The arguments.
        arguments: FieldTable,
        /// The connection that asks.
        connection: ConnectionId,
    },
}

/// What control answers when all cores have applied the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAnswer {
    /// Done.
    Done,
    /// The queue exists under this id now; `created` tells whether this request made it.
    QueueDeclared {
        /// Its id.
        queue: QueueId,
        /// Whether it is new.
        created: bool,
    },
    /// The queue is gone.
    QueueDeleted {
        /// Ready messages it had.
        message_count: u32,
    },
}

/// An answer that leaves when all changes up to a number are applied everywhere.
#[derive(Debug)]
pub struct PendingAnswer {
    after: u64,
    reply_to: ReplyTo,
    answer: Result<ControlAnswer, Refusal>,
}

#[derive(Debug)]
struct PendingChange {
    number: u64,
    change: ControlChange,
    /// The record that must be durable first: that of the last change of the same decision that is logged, if one is.
    durable_at: Option<Lsn>,
}

/// The control shard's state.
pub struct Control {
    decided: Topology,
    users: Users,
    queues_of_shard: Vec<u32>,
    vshard_turn: u16,
    next_queue: u64,
    decided_number: u64,
    announced_number: u64,
    unannounced: VecDeque<PendingChange>,
    applied_by: Vec<u64>,
    answers: VecDeque<PendingAnswer>,
}

impl Control {
    /// Control over `shards` cores, beginning from the recovered `topology` and `users`; `next_queue` is above every queue id
    /// ever given.
    pub fn new(topology: Topology, users: Users, shards: u16, next_queue: u64) -> Self {
        let mut queues_of_shard = vec![0; usize::from(shards)];
        for queue in topology.queues() {
            queues_of_shard[usize::from(queue.owner.0)] += 1;
        }
        Self {
            decided: topology,
            users,
            queues_of_shard,
            vshard_turn: 0,
            next_queue,
            decided_number: 0,
            announced_number: 0,
            unannounced: VecDeque::new(),
            applied_by: vec![0; usize::from(shards)],
            answers: VecDeque::new(),
        }
    }

    /// The topology as decided, ahead of what cores route by.
    pub fn decided(&self) -> &Topology {
        &self.decided
    }

    /// The users as decided.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Decides `request`. `append` logs the durable changes of a decision, all or none, and returns the last one's record
    /// number.
    pub fn decide(&mut self, request: ControlRequest, append: &mut dyn FnMut(&[&ControlChange]) -> Lsn) {
        let verdict = self.judge(&request);
        let answer = verdict.map(|(changes, answer)| {
            let mut decision = Decision::default();
            for change in changes {
                self.take(&mut decision, change.into());
            }
            self.enqueue(decision, append);
            answer
        });
        self.answers.push_back(PendingAnswer {
            after: self.decided_number,
            reply_to: request.reply_to,
            answer,
        });
    }

    /// Takes the changes that may be announced now that the log is durable up to `durable`, with the number of the last.
    pub fn announce(&mut self, durable: Lsn) -> Option<(u64, Vec<ControlChange>)> {
        let mut changes = Vec::new();
        while let Some(next) = self.unannounced.front() {
            if next.durable_at.is_some_and(|lsn| lsn > durable) {
                break;
            }
            let next = self.unannounced.pop_front().expect("looked at just above");
            self.announced_number = next.number;
            changes.push(next.change);
        }
        (!changes.is_empty()).then_some((self.announced_number, changes))
    }

    /// Whether a change waits to be durable.
    pub fn awaits_sync(&self) -> bool {
        !self.unannounced.is_empty()
    }

    /// `shard` has applied all changes up to `number`.
    pub fn applied(&mut self, shard: ShardId, number: u64) {
        self.applied_by[usize::from(shard.0)] = number;
    }

    /// The next answer that may leave.
    pub fn next_answer(&mut self) -> Option<(ReplyTo, Result<ControlAnswer, Refusal>)> {
        let everywhere = self.applied_by.iter().copied().min().unwrap_or(0);
        let next = self.answers.pop_front_if(|answer| answer.after <= everywhere)?;
        Some((next.reply_to, next.answer))
    }

    /// Adds a change to a decision, and makes it true here.
    pub(super) fn take(&mut self, decision: &mut Decision, change: ControlChange) {
        if change.is_durable(&self.decided) {
            decision.durable.push(decision.changes.len());
        }
        self.make_true(&change);
        decision.changes.push(change);
    }

    /// Announces the changes of a decision together once they may be.
    pub(super) fn enqueue(&mut self, decision: Decision, append: &mut dyn FnMut(&[&ControlChange]) -> Lsn) {
        let Decision { changes, durable } = decision;
        let durable: Vec<_> = durable.iter().map(|&at| &changes[at]).collect();
        let durable_at = (!durable.is_empty()).then(|| append(&durable));
        for change in changes {
            self.decided_number += 1;
            self.unannounced.push_back(PendingChange {
                number: self.decided_number,
                change,
                durable_at,
            });
        }
    }

    fn make_true(&mut self, change: &ControlChange) {
        match change {
            ControlChange::Topology(change) => {
                self.count_queues(change);
                self.decided.apply(change);
                if let Change::VhostDeleted { name } = change {
                    self.users.forget_vhost(name);
                }
            }
            ControlChange::Users(change) => self.users.apply(change),
        }
    }

    fn count_queues(&mut self, change: &Change) {
        match change {
            Change::QueueDeclared(queue) => self.queues_of_shard[usize::from(queue.owner.0)] += 1,
            Change::QueueDeleted { id } => {
                if let Some(queue) = self.decided.queue_by_id(*id) {
                    self.queues_of_shard[usize::from(queue.owner.0)] -= 1;
                }
            }
            _ => {}
        }
    }

    fn judge(&mut self, request: &ControlRequest) -> Result<(Vec<Change>, ControlAnswer), Refusal> {
        let vhost = request.vhost.as_bytes();
        let done = |changes: Vec<Change>| (changes, ControlAnswer::Done);
        match &request.action {
            ControlAction::DeclareExchange {
                name,
                kind,
                durable,
                auto_delete,
                internal,
                arguments,
            } => {
                let declare = ExchangeDeclare {
                    vhost,
                    name: name.as_bytes(),
                    kind: kind.as_bytes(),
                    passive: false,
                    durable: *durable,
                    auto_delete: *auto_delete,
                    internal: *internal,
                    arguments: arguments.as_ref(),
                };
                let change = self.decided.decide_exchange_declare(&declare)?;
                let memory = self.memory_of(change.as_ref())?;
                Ok(done(change.into_iter().chain(memory).collect()))
            }
            ControlAction::DeleteExchange { name, if_unused } => Ok(done(
                self.decided
                    .decide_exchange_delete(vhost, name.as_bytes(), *if_unused)?,
            )),
            ControlAction::BindExchange {
                unbind,
                source,
                destination,
                routing_key,
                arguments,
            } => {
                let (source, destination) = (source.as_bytes(), destination.as_bytes());
                let (key, arguments) = (routing_key.as_bytes(), arguments.as_ref());
                let changes = if *unbind {
                    self.decided
                        .decide_exchange_unbind(vhost, destination, source, key, arguments)?
                } else {
                    self.decided
                        .decide_exchange_bind(vhost, destination, source, key, arguments)?
                };
                Ok(done(changes))
            }
            ControlAction::BindQueue {
                unbind,
                queue,
                exchange,
                routing_key,
                arguments,
                connection,
            } => {
                let (queue, exchange) = (queue.as_bytes(), exchange.as_bytes());
                let (key, arguments) = (routing_key.as_bytes(), arguments.as_ref());
                let changes = if *unbind {
                    self.decided
                        .decide_queue_unbind(vhost, queue, exchange, key, arguments, *connection)?
                } else {
                    self.decided
                        .decide_queue_bind(vhost, queue, exchange, key, arguments, *connection)?
                };
                Ok(done(changes))
            }
            ControlAction::DeclareQueue { .. } => self.judge_queue_declare(request),
            ControlAction::DeleteQueue { queue, message_count } => {
                let changes = self.decided.queue_deletion_changes(*queue);
                Ok((
                    changes,
                    ControlAnswer::QueueDeleted {
                        message_count: *message_count,
                    },
                ))
            }
        }
    }

    fn judge_queue_declare(
        &mut self,
        request: &ControlRequest,
    ) -> Result<(Vec<Change>, ControlAnswer), Refusal> {
        let ControlAction::DeclareQueue {
            name,
            server_named,
            durable,
            exclusive,
            auto_delete,
            arguments,
            connection,
            if_new,
        } = &request.action
        else {
            unreachable!("the caller matched a queue.declare");
        };
        let declare = QueueDeclare {
            vhost: request.vhost.as_bytes(),
            name: name.as_bytes(),
            server_named: *server_named,
            passive: false,
            durable: *durable,
            exclusive: *exclusive,
            auto_delete: *auto_delete,
            arguments: arguments.as_ref(),
            connection: *connection,
        };
        if let DeclareVerdict::Exists(queue) = self.decided.check_queue_declare(&declare)? {
            return Ok((
                Vec::new(),
                ControlAnswer::QueueDeclared {
                    queue,
                    created: false,
                },
            ));
        }
        if let Some(refusal) = if_new {
            return Err(refusal.clone());
        }
        self.check_queue_limit(&request.vhost, name)?;
        let lane = self.lane_asked_for(request, name, arguments)?;
        let near = (*exclusive || *server_named).then_some(connection.shard);
        let (id, vshard, owner) = self.place_queue(lane.or(near));
        let definition = QueueDefinition {
            id,
            vhost: request.vhost.clone(),
            name: name.clone(),
            vshard,
            owner,
            durable: *durable && !*exclusive,
            exclusive: exclusive.then_some(*connection),
            auto_delete: *auto_delete,
            arguments: arguments.clone(),
        };
        let answer = ControlAnswer::QueueDeclared {
            queue: definition.id,
            created: true,
        };
        Ok((vec![Change::QueueDeclared(definition)], answer))
    }

    /// 406 when the vhost has as many queues as it may; control knows all of them.
    fn check_queue_limit(&self, vhost: &ShortString, name: &ShortString) -> Result<(), Refusal> {
        let limits = self.decided.vhost_limits(vhost.as_bytes()).unwrap_or_default();
        let count = self.decided.queue_count(vhost.as_bytes()) as u64;
        match limits.max_queues {
            Some(most) if count >= most => {
                let text = format!(
                    "cannot declare queue '{name}': queue limit in vhost '{vhost}' ({most}) is reached"
                );
                Err(Refusal::new(ReplyCode::PreconditionFailed, text))
            }
            _ => Ok(()),
        }
    }

    /// The queue in which a new exchange remembers, if it does.
    pub(super) fn memory_of(&mut self, change: Option<&Change>) -> Result<Option<Change>, Refusal> {
        let Some(Change::ExchangeDeclared { vhost, exchange }) = change else {
            return Ok(None);
        };
        let Some((name, arguments)) = ExchangeMemory::queue_of(vhost.as_bytes(), exchange)? else {
            return Ok(None);
        };
        let (id, vshard, owner) = self.place_queue(None);
        let definition = QueueDefinition {
            id,
            vhost: vhost.clone(),
            name,
            vshard,
            owner,
            durable: exchange.durable,
            exclusive: None,
            auto_delete: false,
            arguments,
        };
        Ok(Some(Change::QueueDeclared(definition)))
    }

    /// The core that `x-lane` names.
    fn lane_asked_for(
        &self,
        request: &ControlRequest,
        name: &ShortString,
        arguments: &FieldTable,
    ) -> Result<Option<ShardId>, Refusal> {
        let Some(lane) = crate::topology::lane_argument(arguments.as_ref()) else {
            return Ok(None);
        };
        let cores = self.applied_by.len();
        match u16::try_from(lane).ok().filter(|&lane| usize::from(lane) < cores) {
            Some(lane) => Ok(Some(ShardId(lane))),
            None => {
                let vhost = &request.vhost;
                let text = format!(
                    "invalid arg 'x-lane' for queue '{name}' in vhost '{vhost}': {lane} is not one of the {cores} lanes, counted from 0"
                );
                Err(Refusal::new(ReplyCode::PreconditionFailed, text))
            }
        }
    }

    /// Id, vshard and owner of a new queue, which lives on `owner` or where there is most room.
    pub(super) fn place_queue(&mut self, owner: Option<ShardId>) -> (QueueId, VshardId, ShardId) {
        let owner = owner.unwrap_or_else(|| self.least_loaded_shard());
        let id = QueueId(self.next_queue);
        self.next_queue += 1;
        (id, self.vshard_on(owner), owner)
    }

    fn least_loaded_shard(&self) -> ShardId {
        let least = (0..self.queues_of_shard.len()).min_by_key(|&shard| self.queues_of_shard[shard]);
        ShardId(least.expect("a broker has a core") as u16)
    }

    /// The next vshard, in turn, of those that live on `owner`.
    fn vshard_on(&mut self, owner: ShardId) -> VshardId {
        let shards = self.applied_by.len() as u16;
        let homes = (VSHARD_COUNT / shards).max(1);
        self.vshard_turn = (self.vshard_turn + 1) % homes;
        VshardId((self.vshard_turn * shards + owner.0) % VSHARD_COUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Binding, Destination};

    const QUEUE: QueueId = QueueId(7);

    /// A durable queue, bound twice to a durable exchange.
    fn bound_queue() -> Topology {
        let mut topology = Topology::new();
        topology.apply(&Change::QueueDeclared(QueueDefinition {
            id: QUEUE,
            vhost: ShortString::from("/"),
            name: ShortString::from("q"),
            vshard: VshardId(0),
            owner: ShardId(0),
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::default(),
        }));
        for key in ["a", "b"] {
            topology.apply(&Change::Bound(Binding {
                vhost: ShortString::from("/"),
                source: ShortString::from("amq.direct"),
                destination: Destination::Queue(QUEUE),
                routing_key: ShortString::from(key),
                arguments: FieldTable::default(),
            }));
        }
        topology
    }

    #[test]
    fn a_deletion_is_logged_and_announced_as_one_decision() {
        let mut control = Control::new(bound_queue(), Users::default(), 1, 8);
        let request = ControlRequest {
            reply_to: ReplyTo::Nobody,
            vhost: ShortString::from("/"),
            action: ControlAction::DeleteQueue {
                queue: QUEUE,
                message_count: 0,
            },
        };
        let mut logged = Vec::new();
        control.decide(request, &mut |decision| {
            logged.push(decision.len());
            Lsn(5)
        });
        assert_eq!(logged, [3]);
        assert_eq!(control.announce(Lsn(4)), None);
        let (number, changes) = control.announce(Lsn(5)).expect("it is durable");
        assert_eq!((number, changes.len()), (3, 3));
        assert_eq!(changes[2], Change::QueueDeleted { id: QUEUE }.into());
    }
}
