//! Alarms: a core that is low on memory or disk says so to all, and no connection's publishes are read until it has
//! recovered. Consumers go on, since they make room. A client that understands it is told with connection.blocked
//! when it publishes, and with connection.unblocked when every alarm has ended (RabbitMQ, "Blocked Connections").

use super::Shard;
use super::connect::Next;
use super::connections::Hold;
use super::mailbox::ShardMessage;
use super::publish::BASIC_PUBLISH;
use super::queues::QueueSlot;
use crate::model::{ChannelNumber, Moment, Refusal, ReplyCode, ShardId};
use crate::protocol::method::{ConnectionBlocked, ConnectionUnblocked, Method};
use tracing::{info, warn};

/// Time between looks at the free space of the disk.
const DISK_MILLISECONDS: u64 = 1000;

/// What a core is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Message memory is above four fifths of its budget.
    pub memory: bool,
    /// The log's disk has less free space than the log may need soon.
    pub disk: bool,
}

impl Shortage {
    fn any(self) -> bool {
        self.memory || self.disk
    }

    fn or(self, other: Shortage) -> Shortage {
        Shortage {
            memory: self.memory || other.memory,
            disk: self.disk || other.disk,
        }
    }

    /// RabbitMQ's words for it.
    fn reason(self) -> &'static str {
        match (self.memory, self.disk) {
            (true, true) => "low on memory & disk",
            (false, true) => "low on disk",
            _ => "low on memory",
        }
    }
}

/// Every core's shortage, and the connections that wait for the end of all.
#[derive(Debug, Default)]
pub struct Alarms {
    of_core: Vec<Shortage>,
    blocked: Vec<u32>,
    looked_at_disk: Moment,
}

impl Alarms {
    /// No alarm on any of `shards` cores.
    pub fn new(shards: u16) -> Self {
        Self {
            of_core: vec![Shortage::default(); usize::from(shards)],
            ..Self::default()
        }
    }

    fn everywhere(&self) -> Shortage {
        self.of_core
            .iter()
            .fold(Shortage::default(), |all, &one| all.or(one))
    }

    /// A connection that waited has gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.blocked.retain(|&blocked| blocked != slot);
    }

    /// Whether a core is short of something, so that publishes must wait.
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.of_core.iter().any(|shortage| shortage.any())
    }
}

impl Shard {
    /// Looks whether this core is short of something, and tells all cores when that has changed. Ends are judged
    /// with some distance from beginnings, so that an alarm does not flutter.
    pub(super) fn watch_resources(&mut self, now: Moment) {
        let mut shortage = self.own_shortage();
        shortage.memory = self.is_low_on_memory(shortage.memory);
        if now.milliseconds_since(self.alarms.looked_at_disk) >= DISK_MILLISECONDS {
            self.alarms.looked_at_disk = now;
            shortage.disk = self.is_low_on_disk(shortage.disk);
        }
        self.tell_shortage(shortage);
    }

    fn own_shortage(&self) -> Shortage {
        self.alarms.of_core[usize::from(self.id.0)]
    }

    fn tell_shortage(&mut self, shortage: Shortage) {
        if shortage != self.own_shortage() {
            warn!(shard = %self.id, ?shortage, "alarm changed: publishers wait while any core is short of memory or disk");
            for shard in (0..self.shards).map(ShardId) {
                self.say(shard, ShardMessage::Shortage(shortage));
            }
        }
    }

    /// Bytes of messages held in this core's memory, with what is known of each and what headers have announced.
    pub fn message_memory(&self) -> u64 {
        let queues: usize = self.queues.iter().map(QueueSlot::memory_bytes).sum();
        queues as u64 + self.shared.live_bytes() + self.reserved_bytes
    }

    fn is_low_on_memory(&mut self, already: bool) -> bool {
        let tenths = if already { 7 } else { 8 };
        let limit = self.settings.message_memory_max / 10 * tenths;
        if self.message_memory() <= limit {
            return false;
        }
        // What queues hold for messages to come is no reason to make anybody wait.
        self.queues.shrink();
        self.message_memory() > limit
    }

    /// A publish begins whose content is still to come. During an alarm it waits, unless others of its connection are
    /// unfinished: those must be read to their ends, since the alarm may be about them.
    pub(super) fn begin_publish(&mut self, slot: u32, number: ChannelNumber) -> Next {
        if !self.alarms.is_raised() {
            return Next::Pull;
        }
        let unfinished = self.unfinished_bytes(slot);
        if unfinished == 0 {
            return self.wait_for_resources(slot);
        }
        if unfinished <= self.settings.message_bytes_max {
            return Next::Pull;
        }
        let text = format!("low on memory, and {unfinished} bytes of unfinished messages on this connection");
        self.refuse_method(
            slot,
            number,
            &Refusal::new(ReplyCode::ResourceError, text),
            BASIC_PUBLISH,
        )
    }

    /// Whether a whole publish must wait: during an alarm, unless an unfinished one of its connection would wait with it.
    #[inline]
    pub(super) fn must_wait_for_resources(&mut self, slot: u32) -> bool {
        self.alarms.is_raised() && self.unfinished_bytes(slot) == 0
    }

    /// Bytes announced on a connection by messages whose bodies are still coming.
    fn unfinished_bytes(&mut self, slot: u32) -> u64 {
        let connection = &self.connections.get_mut(slot).expect("it publishes").connection;
        connection
            .channels()
            .map(|channel| channel.assembly.reserved())
            .sum()
    }

    /// A body's memory is counted when its header comes.
    pub(super) fn reserve_body(&mut self, slot: u32, number: ChannelNumber) -> Next {
        let channel = self.channel_at(slot, number).expect("the header came on it");
        self.reserved_bytes += channel.assembly.reserved();
        let shortage = self.own_shortage();
        if !shortage.memory && self.reserved_bytes > self.settings.message_memory_max / 10 * 8 {
            self.tell_shortage(Shortage {
                memory: true,
                ..shortage
            });
        }
        Next::Pull
    }

    /// A disk whose free space cannot be read counts as it did before: the next write will tell.
    fn is_low_on_disk(&self, already: bool) -> bool {
        let least = self.settings.disk_free_min;
        let needed = if already { least + least / 2 } else { least };
        self.log.free_bytes().map_or(already, |free| free < needed)
    }

    /// A core has told what it is short of.
    pub(super) fn take_shortage(&mut self, from: ShardId, shortage: Shortage) {
        self.alarms.of_core[usize::from(from.0)] = shortage;
        if !self.alarms.is_raised() {
            self.unblock_publishers();
        }
    }

    /// Lets a publishing connection wait for the end of all alarms, and tells its client.
    pub(super) fn wait_for_resources(&mut self, slot: u32) -> Next {
        let reason = self.alarms.everywhere().reason();
        let connection = self.connections.get_mut(slot).expect("it publishes");
        connection.hold = Some(Hold::Credit { assembled: None });
        if connection.connection.capabilities().connection_blocked && !connection.is_blocked {
            connection.is_blocked = true;
            let blocked = Method::ConnectionBlocked(ConnectionBlocked {
                reason: reason.as_bytes(),
            });
            blocked.encode(0, connection.outbound.buffer());
        }
        info!(connection = %connection.id, reason, "publishing connection blocked");
        self.connections.note_output(slot);
        self.alarms.blocked.push(slot);
        Next::Wait
    }

    fn unblock_publishers(&mut self) {
        for slot in std::mem::take(&mut self.alarms.blocked) {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if std::mem::take(&mut connection.is_blocked) {
                Method::ConnectionUnblocked(ConnectionUnblocked {}).encode(0, connection.outbound.buffer());
                self.connections.note_output(slot);
            }
            self.resume_publisher(slot);
        }
    }
}
