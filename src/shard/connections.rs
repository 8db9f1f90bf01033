//! `Connections`: the connections this core holds, with what waits to be decoded and to be written.

use crate::channel::{Channel, ChannelConsumer};
use crate::connection::Connection;
use crate::model::{ChannelNumber, ConnectionId, ConsumerId, QueueId, ShardId, Share, ShortString};
use crate::net::Outbound;
use crate::runtime::ReceiveBuffer;
use crate::shard::control::ControlAction;
use std::net::SocketAddr;

/// Who is on the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
}

/// Received bytes that are not decoded yet.
pub struct PendingInput {
    bytes: InputBytes,
    /// How many of them are decoded.
    pub consumed: usize,
}

enum InputBytes {
    /// In a buffer of the core's pool.
    Pooled(ReceiveBuffer),
    /// Copied out of it.
    Kept(Vec<u8>),
}

impl PendingInput {
    /// What a read has brought.
    pub fn new(buffer: ReceiveBuffer) -> Self {
        Self {
            bytes: InputBytes::Pooled(buffer),
            consumed: 0,
        }
    }

    /// The bytes that are not decoded.
    #[inline]
    pub fn rest(&self) -> &[u8] {
        let bytes: &[u8] = match &self.bytes {
            InputBytes::Pooled(buffer) => buffer,
            InputBytes::Kept(bytes) => bytes,
        };
        &bytes[self.consumed..]
    }

    /// Gives the pool's buffer back: a connection that waits, perhaps for long, must not keep others from reading.
    pub fn keep(self) -> Self {
        match self.bytes {
            InputBytes::Pooled(_) => Self {
                bytes: InputBytes::Kept(self.rest().to_vec()),
                consumed: 0,
            },
            InputBytes::Kept(_) => self,
        }
    }
}

/// What a connection waits for before its next method is decoded.
#[derive(Debug)]
pub enum Hold {
    /// An answer from a queue's owner or from control.
    Answer(Awaited),
    /// Credit of the lanes its publish needs, or the end of an alarm. A message put together from several frames waits
    /// in its channel.
    Publish {
        /// That channel, if it does.
        assembled: Option<ChannelNumber>,
    },
    /// Its transaction to be committed.
    Commit {
        /// The channel that commits.
        channel: ChannelNumber,
    },
    /// Its client to read the replies it asked for.
    Output,
    /// Deletion of its exclusive queues, before close-ok.
    Queues {
        /// Deletions not answered yet.
        outstanding: u32,
    },
}

/// The method whose answer a connection waits for.
#[derive(Debug)]
pub struct Awaited {
    /// The channel it came on.
    pub channel: ChannelNumber,
    /// Its class and method.
    pub method: (u16, u16),
    /// Whether the client wants no reply.
    pub nowait: bool,
    /// Name of the queue that it speaks of, empty when it speaks of none.
    pub queue: ShortString,
    /// What else the reply needs.
    pub request: AwaitedRequest,
}

/// What a reply needs besides the answer.
#[derive(Debug)]
pub enum AwaitedRequest {
    /// exchange.declare.
    ExchangeDeclare,
    /// exchange.delete.
    ExchangeDelete,
    /// exchange.bind.
    ExchangeBind,
    /// exchange.unbind.
    ExchangeUnbind,
    /// queue.declare.
    QueueDeclare {
        /// What control is asked when the queue has gone meanwhile; nothing for a passive declare.
        anew: Option<Box<ControlAction>>,
    },
    /// queue.bind.
    QueueBind,
    /// queue.unbind.
    QueueUnbind,
    /// queue.purge.
    QueuePurge,
    /// queue.delete.
    QueueDelete,
    /// basic.consume.
    Consume(Box<ChannelConsumer>),
    /// basic.cancel of this tag.
    Cancel {
        /// The tag.
        tag: ShortString,
    },
    /// basic.get.
    Get {
        /// The queue.
        queue: QueueId,
        /// Its owner.
        owner: ShardId,
    },
}

/// One connection and what belongs to it.
pub struct ConnectionSlot {
    /// Its id.
    pub id: ConnectionId,
    /// Who is on the other end.
    pub peer: Peer,
    /// The conversation.
    pub connection: Connection,
    /// What waits to be written.
    pub outbound: Outbound,
    /// What waits to be decoded.
    pub input: Option<PendingInput>,
    /// What it waits for.
    pub hold: Option<Hold>,
    /// Bytes of replies encoded since the output was last empty; deliveries are bounded otherwise.
    pub replied_bytes: usize,
    /// Whether it has opened its vhost.
    pub was_opened: bool,
    /// What it takes of the limits of its vhost and its user.
    pub shares: Option<[Share; 2]>,
    /// Whether its consumers are paused because it takes its deliveries too slowly.
    pub is_congested: bool,
    /// Whether its client was told connection.blocked.
    pub is_blocked: bool,
    /// Whether the tick's list of connections with output names it.
    pub has_output: bool,
    /// Whether the socket is to be closed once everything is written.
    pub is_ending: bool,
}

/// The connections of one core, by slot.
pub struct Connections {
    shard: ShardId,
    slots: Vec<Option<Box<ConnectionSlot>>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    count: usize,
    unopened_count: usize,
    with_output: Vec<u32>,
}

impl Connections {
    /// None yet, on core `shard`.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            slots: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            count: 0,
            unopened_count: 0,
            with_output: Vec::new(),
        }
    }

    /// Adds a connection; returns its id.
    pub fn add(&mut self, peer: Peer, connection: Connection) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            self.slots.len() as u32 - 1
        });
        let id = ConnectionId {
            shard: self.shard,
            slot,
            generation: self.generations[slot as usize],
        };
        self.slots[slot as usize] = Some(Box::new(ConnectionSlot {
            id,
            peer,
            connection,
            outbound: Outbound::default(),
            input: None,
            hold: None,
            replied_bytes: 0,
            was_opened: false,
            shares: None,
            is_congested: false,
            is_blocked: false,
            has_output: false,
            is_ending: false,
        }));
        self.count += 1;
        self.unopened_count += 1;
        id
    }

    /// The connection has logged in and opened its vhost.
    pub fn note_opened(&mut self, slot: u32) {
        if let Some(connection) = self.get_mut(slot)
            && !std::mem::replace(&mut connection.was_opened, true)
        {
            self.unopened_count -= 1;
        }
    }

    /// Takes a connection out; its id is never used again.
    pub fn remove(&mut self, slot: u32) -> Option<Box<ConnectionSlot>> {
        let connection = self.slots.get_mut(slot as usize)?.take()?;
        self.generations[slot as usize] = self.generations[slot as usize].wrapping_add(1);
        self.free.push(slot);
        self.count -= 1;
        self.unopened_count -= usize::from(!connection.was_opened);
        Some(connection)
    }

    /// The connection in `slot`.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut ConnectionSlot> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The connection `id`, unless it has gone.
    #[inline]
    pub fn find(&mut self, id: ConnectionId) -> Option<&mut ConnectionSlot> {
        debug_assert!(id.shard == self.shard, "the connection is of this core");
        self.get_mut(id.slot).filter(|connection| connection.id == id)
    }

    /// The channel of a connection, unless either has gone.
    #[inline]
    pub fn channel(&mut self, id: ConnectionId, number: ChannelNumber) -> Option<&mut Channel> {
        self.find(id)?.connection.channel_mut(number)
    }

    /// The consumer's connection, if the consumer is still there.
    #[inline]
    pub fn of_consumer(&mut self, consumer: ConsumerId) -> Option<&mut ConnectionSlot> {
        let slot = self.find(consumer.connection)?;
        slot.connection
            .channel_mut(consumer.channel)?
            .consumers
            .get_mut(consumer.number)?;
        Some(slot)
    }

    /// Notes that `slot` has output to be written when the tick ends.
    #[inline]
    pub fn note_output(&mut self, slot: u32) {
        if let Some(connection) = self
            .slots
            .get_mut(slot as usize)
            .and_then(|slot| slot.as_deref_mut())
            && !connection.has_output
        {
            connection.has_output = true;
            self.with_output.push(slot);
        }
    }

    /// Takes the list of slots with output.
    pub fn take_with_output(&mut self, out: &mut Vec<u32>) {
        for slot in self.with_output.drain(..) {
            if let Some(connection) = self.slots[slot as usize].as_deref_mut() {
                connection.has_output = false;
                out.push(slot);
            }
        }
    }

    /// Whether a connection has output that no tick has listed yet.
    pub fn has_output(&self) -> bool {
        !self.with_output.is_empty()
    }

    /// Slots in use, ascending.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        (0..self.slots.len() as u32).filter(|&slot| self.slots[slot as usize].is_some())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many have not opened their vhost yet.
    pub fn unopened_count(&self) -> usize {
        self.unopened_count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
