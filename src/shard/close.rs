//! The story of an end: of a channel, a connection, a queue, the broker.
//!
//! Whatever ends gives back what it holds: consumers leave their queues first, so that what returns to a queue does
//! not come back to them; then unacked messages go back to their places; then exclusive queues go, before close-ok.

use super::Shard;
use super::connect::Next;
use super::connections::{AwaitedRequest, Hold};
use super::control::{ControlAction, ControlAnswer, ControlRequest, ReplyTo};
use super::mailbox::{QueueAnswer, Settlement, ShardMessage};
use super::queues::NO_SLOT;
use crate::connection::ConnectionState;
use crate::model::{ChannelNumber, Closes, ConnectionId, ConsumerId, QueueId, Refusal, ReplyCode};
use crate::protocol::method::{BasicCancel, Method};
use crate::storage::SettleKind;
use tracing::{info, warn};

impl Shard {
    /// The peer closes a channel.
    pub(super) fn close_channel(&mut self, slot: u32, number: ChannelNumber) -> Next {
        self.release_channel(slot, number);
        let connection = self.connections.get_mut(slot).expect("the method came on it");
        connection
            .connection
            .channel_closed(number, connection.outbound.buffer());
        Next::Pull
    }

    /// A method is refused: its channel closes, or its connection, as the code says.
    pub(super) fn refuse_method(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        refusal: &Refusal,
        method: (u16, u16),
    ) -> Next {
        match refusal.code.closes() {
            Closes::Channel => self.refuse_channel(slot, number, refusal, method),
            Closes::Connection => self.refuse_connection(slot, refusal, method),
        }
    }

    /// The broker closes a channel.
    pub(super) fn refuse_channel(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        refusal: &Refusal,
        method: (u16, u16),
    ) -> Next {
        self.release_channel(slot, number);
        let Some(connection) = self.connections.get_mut(slot) else {
            return Next::End;
        };
        warn!(connection = %connection.id, channel = %number, %refusal, "channel closed");
        connection
            .connection
            .refuse_channel(number, refusal, method, connection.outbound.buffer());
        self.connections.note_output(slot);
        self.counters.channels_closed += 1;
        Next::Pull
    }

    /// The broker closes a connection.
    pub(super) fn refuse_connection(&mut self, slot: u32, refusal: &Refusal, method: (u16, u16)) -> Next {
        self.release_connection(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return Next::End;
        };
        warn!(connection = %connection.id, peer = %connection.peer.address, %refusal, "connection refused");
        connection
            .connection
            .refuse(refusal, method, connection.outbound.buffer());
        self.connections.note_output(slot);
        self.counters.connections_refused += 1;
        Next::Pull
    }

    /// The peer closes its connection: close-ok goes out once its exclusive queues are gone.
    pub(super) fn close_connection(&mut self, slot: u32) -> Next {
        let outstanding = self.release_connection(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return Next::End;
        };
        if outstanding > 0 {
            connection.hold = Some(Hold::Queues { outstanding });
            return Next::Wait;
        }
        connection.connection.closed(connection.outbound.buffer());
        self.end(slot)
    }

    /// The socket is gone.
    pub(super) fn disconnect(&mut self, (slot, generation): (u32, u32), reason: &str) {
        let Some(connection) = self
            .connections
            .get_mut(slot)
            .filter(|c| c.id.generation == generation)
        else {
            return;
        };
        if connection.connection.state() == ConnectionState::Running {
            warn!(connection = %connection.id, peer = %connection.peer.address, reason, "connection lost");
        }
        self.release_connection(slot);
        self.end(slot);
    }

    /// Forgets a connection; the loop writes what is left and closes the socket.
    pub(super) fn end(&mut self, slot: u32) -> Next {
        if let Some(connection) = self.connections.remove(slot) {
            info!(connection = %connection.id, peer = %connection.peer.address, "connection closed");
            self.counters.connections_closed += 1;
            self.closes.push((slot, connection.outbound));
        }
        Next::End
    }

    /// Gives back all that a connection holds. Returns how many exclusive queues are being deleted.
    fn release_connection(&mut self, slot: u32) -> u32 {
        let Some(connection) = self.connections.get_mut(slot) else {
            return 0;
        };
        if connection.connection.state() == ConnectionState::Closing {
            return 0;
        }
        let id = connection.id;
        let hold = connection.hold.take();
        if let Some(Hold::Credit { .. }) = hold {
            self.waiting_for_credit.retain(|&waiting| waiting != slot);
            self.alarms.forget(slot);
        }
        if hold.is_some() {
            // What it has sent meanwhile is read again, a close-ok above all.
            self.runnable.push(slot);
        }
        let numbers = connection.connection.channel_numbers();
        if let Some(Hold::Answer(awaited)) = hold
            && let AwaitedRequest::Consume(consumer) = awaited.request
        {
            let number = ConsumerId {
                connection: id,
                channel: awaited.channel,
                number: consumer.number,
            };
            self.say(
                consumer.owner,
                ShardMessage::Cancel {
                    queue: consumer.queue,
                    consumer: number,
                    answer: false,
                },
            );
        }
        for number in numbers {
            self.release_channel(slot, number);
        }
        self.delete_exclusive_queues(id)
    }

    fn delete_exclusive_queues(&mut self, connection: ConnectionId) -> u32 {
        let queues = self.topology.exclusive_queues_of(connection);
        for &queue in &queues {
            let owner = self.topology.queue_by_id(queue).expect("just listed").owner;
            self.say(
                owner,
                ShardMessage::Delete {
                    queue,
                    connection,
                    if_unused: false,
                    if_empty: false,
                },
            );
        }
        queues.len() as u32
    }

    /// Gives back all that a channel holds.
    fn release_channel(&mut self, slot: u32, number: ChannelNumber) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let id = connection.id;
        let Some(channel) = connection.connection.channel_mut(number) else {
            return;
        };
        self.reserved_bytes -= channel.assembly.take_reserved();
        let consumers = channel.consumers.take_all();
        let mut unacked = Vec::new();
        channel.settle_all(&mut unacked);
        for consumer in consumers {
            let number = ConsumerId {
                connection: id,
                channel: number,
                number: consumer.number,
            };
            if consumer.owner == self.id {
                self.remove_own_consumer(consumer.queue, number);
            } else {
                self.say(
                    consumer.owner,
                    ShardMessage::Cancel {
                        queue: consumer.queue,
                        consumer: number,
                        answer: false,
                    },
                );
            }
        }
        self.apply_settlement(&unacked, Settlement::Requeue);
    }

    /// An exclusive queue of a closing connection is gone. Returns whether it was one.
    pub(super) fn count_deleted_queue(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.find(id) else {
            return false;
        };
        let Some(Hold::Queues { outstanding }) = &mut connection.hold else {
            return false;
        };
        *outstanding -= 1;
        if *outstanding == 0 {
            connection.connection.closed(connection.outbound.buffer());
            self.end(id.slot);
        }
        true
    }

    // ---- queues

    /// Judges queue.delete at the owner. A queue that may go is frozen, and control is asked to delete it.
    pub(super) fn freeze(&mut self, id: QueueId, connection: ConnectionId, if_unused: bool, if_empty: bool) {
        let verdict = self.judge_deletion(id, if_unused, if_empty);
        match verdict {
            Ok(Some(message_count)) => self.ask_deletion(id, message_count, ReplyTo::Connection(connection)),
            Ok(None) => self.answer(connection, Ok(QueueAnswer::Gone)),
            Err(refusal) => self.answer(connection, Err(refusal)),
        }
    }

    /// How many messages go with the queue; `None` when it has gone already.
    fn judge_deletion(
        &mut self,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<Option<u32>, Refusal> {
        let Some((_, queue)) = self.queues.find(id, NO_SLOT) else {
            return Ok(None);
        };
        let (name, vhost) = (&queue.name, &queue.vhost);
        let refuse = |why| {
            Err(Refusal::new(
                ReplyCode::PreconditionFailed,
                format!("queue '{name}' in vhost '{vhost}' {why}"),
            ))
        };
        if if_unused && queue.queue.consumer_count() > 0 {
            return refuse("in use");
        }
        if if_empty && queue.queue.ready_count() > 0 {
            return refuse("not empty");
        }
        queue.is_frozen = true;
        Ok(Some(queue.queue.ready_count()))
    }

    /// An auto-delete queue has lost its last consumer.
    pub(super) fn delete_unasked(&mut self, id: QueueId) {
        if let Ok(Some(message_count)) = self.judge_deletion(id, false, false) {
            self.ask_deletion(id, message_count, ReplyTo::Nobody);
        }
    }

    fn ask_deletion(&mut self, queue: QueueId, message_count: u32, reply_to: ReplyTo) {
        let vhost = self
            .queues
            .find(queue, NO_SLOT)
            .map(|(_, queue)| queue.vhost.clone())
            .unwrap_or_default();
        self.send_to_control(ControlRequest {
            reply_to,
            vhost,
            action: ControlAction::DeleteQueue { queue, message_count },
        });
    }

    /// Control has deleted a queue: its messages are dropped and its consumers told.
    pub(super) fn drop_queue(&mut self, id: QueueId) {
        let Some(mut queue) = self.queues.remove(id) else {
            return;
        };
        let mut entries = Vec::new();
        queue
            .queue
            .drain(|sequence, entry| entries.push((sequence, entry)));
        for (sequence, entry) in entries {
            queue.release(
                sequence,
                entry,
                SettleKind::Dropped,
                &mut self.log,
                &mut self.shared,
            );
        }
        if queue.durable {
            self.log.append_queue_deleted(id, queue.vshard);
        }
        for connection in std::mem::take(&mut queue.inspectors) {
            self.answer(connection, Ok(QueueAnswer::Gone));
        }
        let consumers: Vec<ConsumerId> = queue.queue.consumer_ids().collect();
        for consumer in consumers {
            self.say(consumer.connection.shard, ShardMessage::ConsumerGone { consumer });
        }
        self.counters.queues_deleted += 1;
    }

    /// The queue of a consumer is gone: a client that understands it gets basic.cancel.
    pub(super) fn notify_cancel(&mut self, consumer: ConsumerId) {
        let Some(connection) = self.connections.find(consumer.connection) else {
            return;
        };
        let understands = connection.connection.capabilities().consumer_cancel_notify;
        let Some(channel) = connection.connection.channel_mut(consumer.channel) else {
            return;
        };
        let Some(gone) = channel.consumers.remove_number(consumer.number) else {
            return;
        };
        if understands {
            let cancel = BasicCancel {
                consumer_tag: gone.tag.as_bytes(),
                nowait: true,
            };
            self.reply(
                consumer.connection.slot,
                consumer.channel,
                &Method::BasicCancel(cancel),
            );
        }
    }

    /// An exclusive queue was made for a connection that has gone meanwhile.
    pub(super) fn delete_orphan(
        &mut self,
        connection: ConnectionId,
        answer: &Result<ControlAnswer, Refusal>,
    ) {
        if let Ok(ControlAnswer::QueueDeclared { queue, .. }) = answer
            && let Some(definition) = self.topology.queue_by_id(*queue)
            && definition.exclusive == Some(connection)
        {
            let (queue, owner) = (*queue, definition.owner);
            self.say(
                owner,
                ShardMessage::Delete {
                    queue,
                    connection,
                    if_unused: false,
                    if_empty: false,
                },
            );
        }
    }

    /// A message that was got for a connection that has gone meanwhile goes back.
    pub(super) fn return_got(&mut self, answer: Result<QueueAnswer, Refusal>) {
        if let Ok(QueueAnswer::Got(got)) = answer
            && got.needs_ack
            && let Some(definition) = self.topology.queue_by_id(got.queue)
        {
            let (owner, queue, queue_slot) = (definition.owner, got.queue, got.queue_slot);
            let sequences = vec![got.sequence];
            self.say(
                owner,
                ShardMessage::Settle {
                    queue,
                    queue_slot,
                    settlement: Settlement::Requeue,
                    sequences,
                },
            );
        }
    }

    // ---- the broker

    /// The broker shuts down: every client is told.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        let text = "broker forced connection closure with reason 'shutdown'";
        let refusal = Refusal::new(ReplyCode::ConnectionForced, text);
        let slots: Vec<u32> = self.connections.slots().collect();
        for slot in slots {
            let state = self
                .connections
                .get_mut(slot)
                .map(|connection| connection.connection.state());
            match state {
                Some(ConnectionState::Running) => drop(self.refuse_connection(slot, &refusal, (0, 0))),
                _ => drop(self.end(slot)),
            }
        }
    }

    /// Whether the broker shuts down and every client has gone.
    pub fn is_drained(&self) -> bool {
        self.is_draining && self.connections.is_empty()
    }
}
