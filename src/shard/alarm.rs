//! Alarms: a core that is low on memory or disk says so to all, and no connection's publishes are taken until it has
//! recovered. Connections that only consume go on, since they make room; one that publishes as well waits with all it has
//! to say, its acks too (as in RabbitMQ: use two connections). A client that understands it is told with
//! connection.blocked when it publishes, and with connection.unblocked when every alarm has ended (RabbitMQ, "Blocked
//! Connections").
//!
//! An alarm is about what queues hold, of which consumers make an end. Messages whose bodies are still coming raise none
//! and keep none up: a connection that waits could not finish them. So it is with what transactions keep. They may take what
//! the budget has left, and at least the size of the largest message; beyond that, the connection that holds the most is
//! closed. What deduplication remembers raises none either, and has a bound of its own ([`deduplicate`](super::deduplicate)).
//!
//! Not part of the budget: receive buffers, what a connection that waits has sent already (a receive buffer at most), and
//! output (`limits.output_bytes_max`).

use super::Shard;
use super::connect::Next;
use super::connections::Hold;
use super::mailbox::ShardMessage;
use super::publish::BASIC_PUBLISH;
use super::queues::QueueSlot;
use crate::channel::Channel;
use crate::model::{ChannelNumber, Moment, Refusal, ReplyCode, ShardId};
use crate::protocol::method::{ConnectionBlocked, ConnectionUnblocked, Method};
use tracing::{info, warn};

/// Time between looks at the free space of the disk.
const DISK_MILLISECONDS: u64 = 1000;
/// What names of exchange and routing key add to a message at most.
const NAMES_BYTES_MAX: u64 = 2 * 256 + 6;

/// What a core is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Messages in queues take more than four fifths of the memory budget.
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
    /// Bytes of messages in queues, at the last look.
    queued_bytes: u64,
    /// Whether values that deduplication remembers take as much as they may.
    is_memory_for_values_full: bool,
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

    /// Whether a value that is to be remembered takes the place of another.
    pub(super) fn is_memory_for_values_full(&self) -> bool {
        self.is_memory_for_values_full
    }

    /// Notes whether remembered values take as much as they may. Returns whether that has changed.
    pub(super) fn note_memory_for_values(&mut self, is_full: bool) -> bool {
        std::mem::replace(&mut self.is_memory_for_values_full, is_full) != is_full
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
        self.bound_unfinished();
        self.watch_remembered();
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

    /// Bytes of messages in this core's queues, with what is known of each.
    pub fn queued_bytes(&self) -> u64 {
        let queues: usize = self.queues.iter().map(QueueSlot::memory_bytes).sum();
        queues as u64 + self.shared.live_bytes() + self.transfers.refused_bytes()
    }

    fn is_low_on_memory(&mut self, already: bool) -> bool {
        let tenths = if already { 7 } else { 8 };
        let limit = self.settings.message_memory_max / 10 * tenths;
        self.alarms.queued_bytes = self.queued_bytes();
        if self.alarms.queued_bytes > limit {
            // What queues hold for messages to come is no reason to make anybody wait.
            self.queues.shrink();
            self.alarms.queued_bytes = self.queued_bytes();
        }
        self.alarms.queued_bytes > limit
    }

    /// A publish begins whose content is still to come: not during an alarm.
    pub(super) fn begin_publish(&mut self, slot: u32) -> Next {
        match self.alarms.is_raised() {
            true => self.wait_for_resources(slot, None),
            false => Next::Pull,
        }
    }

    /// More of a message has come, and its memory is counted.
    pub(super) fn count_unfinished(&mut self, slot: u32, number: ChannelNumber) -> Next {
        let channel = self.channel_at(slot, number).expect("the content came on it");
        self.unfinished_bytes += channel.assembly.growth();
        self.bound_unfinished();
        Next::Pull
    }

    /// While unfinished messages take too much, the connection that holds the most of them is closed (506).
    pub(super) fn bound_unfinished(&mut self) {
        if self.unfinished_bytes <= self.unfinished_bytes_max() {
            return;
        }
        // What queues hold for messages to come is no reason to close anybody.
        self.queues.shrink();
        self.alarms.queued_bytes = self.queued_bytes();
        while self.unfinished_bytes > self.unfinished_bytes_max() && self.refuse_greatest() {}
    }

    /// What queues leave of the budget, at least a message of the largest size with its properties and names.
    #[inline]
    fn unfinished_bytes_max(&self) -> u64 {
        let settings = &self.settings;
        let left = settings
            .message_memory_max
            .saturating_sub(self.alarms.queued_bytes);
        left.max(settings.message_bytes_max + u64::from(settings.tuning.frame_max) + NAMES_BYTES_MAX)
    }

    /// Closes the connection that holds the most of unfinished messages; returns whether one does. What commits is none: its
    /// messages are on their way to their queues.
    fn refuse_greatest(&mut self) -> bool {
        let slots: Vec<u32> = self.connections.slots().collect();
        let held = slots
            .into_iter()
            .map(|slot| (self.unfinished_bytes_of(slot), slot))
            .max();
        let Some((bytes, slot)) = held.filter(|&(bytes, _)| bytes > 0) else {
            return false;
        };
        let text = format!("low on memory, and {bytes} bytes of unfinished messages on this connection");
        let refusal = Refusal::new(ReplyCode::ResourceError, text);
        self.refuse_connection(slot, &refusal, BASIC_PUBLISH);
        true
    }

    fn unfinished_bytes_of(&mut self, slot: u32) -> u64 {
        let connection = self.connections.get_mut(slot);
        connection.map_or(0, |connection| {
            if matches!(connection.hold, Some(Hold::Commit { .. })) {
                return 0;
            }
            let channels = connection.connection.channels();
            channels.map(Channel::held).sum()
        })
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

    /// Lets a publishing connection wait for the end of all alarms, and tells its client. A message may wait complete in the
    /// channel `assembled`.
    pub(super) fn wait_for_resources(&mut self, slot: u32, assembled: Option<ChannelNumber>) -> Next {
        let reason = self.alarms.everywhere().reason();
        let connection = self.connections.get_mut(slot).expect("it publishes");
        connection.hold = Some(Hold::Publish { assembled });
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
