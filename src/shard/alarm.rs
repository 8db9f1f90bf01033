//! Alarms: a core that is low on memory or disk says so to all, and no connection's publishes are read until it has
//! recovered. Consumers go on, since they make room. A client that understands it is told with connection.blocked
//! when it publishes, and with connection.unblocked when every alarm has ended (RabbitMQ, "Blocked Connections").

use super::Shard;
use super::connect::Next;
use super::connections::Hold;
use super::mailbox::ShardMessage;
use crate::model::{ChannelNumber, Moment, ShardId};
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
        let before = self.alarms.of_core[usize::from(self.id.0)];
        let mut shortage = before;
        shortage.memory = self.is_low_on_memory(before.memory);
        if now.milliseconds_since(self.alarms.looked_at_disk) >= DISK_MILLISECONDS {
            self.alarms.looked_at_disk = now;
            shortage.disk = self.is_low_on_disk(before.disk);
        }
        if shortage != before {
            warn!(shard = %self.id, ?shortage, "alarm changed: publishers wait while any core is short of memory or disk");
            for shard in (0..self.shards).map(ShardId) {
                self.say(shard, ShardMessage::Shortage(shortage));
            }
        }
    }

    /// Bytes of messages held in this core's memory.
    pub fn message_memory(&self) -> u64 {
        let queues: usize = self
            .queues
            .iter()
            .map(|queue| queue.arena.bytes_allocated())
            .sum();
        queues as u64 + self.shared.live_bytes()
    }

    fn is_low_on_memory(&self, already: bool) -> bool {
        let tenths = if already { 7 } else { 8 };
        self.message_memory() > self.settings.message_memory_max / 10 * tenths
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
    pub(super) fn wait_for_resources(&mut self, slot: u32, assembled: Option<ChannelNumber>) -> Next {
        let reason = self.alarms.everywhere().reason();
        let connection = self.connections.get_mut(slot).expect("it publishes");
        connection.hold = Some(Hold::Credit { assembled });
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
