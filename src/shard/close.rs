//! The story of an end: of a channel, a connection, the broker. A queue's is in [`delete`](super::delete).
//!
//! Whatever ends gives back what it holds: consumers leave their queues first, so that what returns to a queue does
//! not come back to them; then unacked messages go back to their places; then exclusive queues go, before close-ok.

use super::Shard;
use super::connect::Next;
use super::connections::{AwaitedRequest, Hold};
use super::mailbox::{Settlement, ShardMessage};
use crate::connection::ConnectionState;
use crate::model::{ChannelNumber, Closes, ConnectionId, ConsumerId, Refusal, ReplyCode};
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
        if let Some(Hold::Publish { .. } | Hold::Commit { .. }) = hold {
            self.waiting_for_credit.retain(|&waiting| waiting != slot);
            self.alarms.forget(slot);
        }
        if hold.is_some() {
            // What it has sent meanwhile is read again, a close-ok above all.
            self.runnable.push(slot);
        }
        let numbers = connection.connection.channel_numbers();
        if let Some(Hold::Commit { channel }) = hold {
            self.finish_commit(id, channel);
        }
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
        self.unfinished_bytes -= channel.assembly.take_held() + channel.roll_back();
        channel.assembly.abandon();
        channel.reply_consumer = None;
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
