//! `Queues`: the queues this core owns, with the bytes of what they hold.

use super::admit::Wishes;
use crate::model::{
    ConnectionId, Content, QueueId, QueueSequence, Refusal, ReplyCode, ShortString, VshardId,
};
use crate::queue::deduplication::Deduplication;
use crate::queue::{Arena, Due, Entry, Limits, Locator, Occasion, Queue, Succession};
use crate::shard::mailbox::SHARED_CONTENT_BYTES;
use crate::storage::{EntryHeader, Log, SettleKind, SettledRange};
use crate::topology::{MemoryKind, Overflow, QueueDefinition, QueueSettings, QueueType};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Slot number that stands for a queue of another core.
pub const NO_SLOT: u32 = u32::MAX;

/// One queue and what belongs to it.
pub struct QueueSlot {
    /// Its id.
    pub id: QueueId,
    /// Its vhost.
    pub vhost: ShortString,
    /// Its name.
    pub name: ShortString,
    /// Its vshard.
    pub vshard: VshardId,
    /// Whether it survives a restart: only then are persistent messages logged.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// What is in force for it.
    pub settings: QueueSettings,
    /// Whether some of that concerns each message: then messages are admitted one by one.
    pub has_rules: bool,
    /// Most that may be ready.
    pub limits: Limits,
    /// Order and consumers.
    pub queue: Queue,
    /// Values that it has seen, if it drops what comes twice.
    pub deduplication: Option<Box<Deduplication>>,
    /// Bytes of small messages that are not in the log.
    pub arena: Arena,
    /// What was settled in this tick and is not yet in the log.
    pub settled: Vec<SettledRange>,
    /// Whether the queue is being deleted: it takes and gives nothing any more.
    pub is_frozen: bool,
    /// Connections that asked for its counts since then.
    pub inspectors: Vec<ConnectionId>,
    /// Whether the list of queues with something to deliver names it.
    pub is_listed: bool,
    /// Whether the list of queues with settles to log names it.
    pub is_settling: bool,
    /// Whether the time index knows when the next message runs out that stays as long as the queue says.
    pub is_deadline_armed: bool,
    /// When somebody used it last, in milliseconds since 1970.
    pub last_used: u64,
}

/// The queues of one core, by slot and by id.
#[derive(Default)]
pub struct Queues {
    slots: Vec<Option<Box<QueueSlot>>>,
    free: Vec<u32>,
    by_id: BTreeMap<QueueId, u32>,
    newest: QueueId,
}

impl Queues {
    /// Adds a queue; returns its slot.
    pub fn add(&mut self, queue: QueueSlot) -> u32 {
        let id = queue.id;
        self.newest = self.newest.max(id);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(Box::new(queue));
        self.by_id.insert(id, slot);
        slot
    }

    /// Takes a queue out.
    pub fn remove(&mut self, id: QueueId) -> Option<Box<QueueSlot>> {
        let slot = self.by_id.remove(&id)?;
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// Whether `id` was given out later than any this core has heard of: word of it is under way.
    pub fn is_from_the_future(&self, id: QueueId) -> bool {
        id > self.newest
    }

    /// This core has heard of `id`, its own or another's.
    pub fn heard_of(&mut self, id: QueueId) {
        self.newest = self.newest.max(id);
    }

    /// The slot of a queue of this core.
    #[inline]
    pub fn slot_of(&self, id: QueueId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The queue in `slot`.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut QueueSlot> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The queue `id`, found by its slot when `hint` is right.
    #[inline]
    pub fn find(&mut self, id: QueueId, hint: u32) -> Option<(u32, &mut QueueSlot)> {
        let is_right = matches!(self.slots.get(hint as usize), Some(Some(queue)) if queue.id == id);
        let slot = if is_right { hint } else { self.slot_of(id)? };
        Some((slot, self.get_mut(slot)?))
    }

    /// All queues.
    pub fn iter(&self) -> impl Iterator<Item = &QueueSlot> {
        self.slots.iter().flatten().map(|queue| &**queue)
    }

    /// The slots that hold a queue.
    pub fn slots_in_use(&self) -> Vec<u32> {
        self.by_id.values().copied().collect()
    }

    /// Gives back memory that queues hold for messages to come.
    pub fn shrink(&mut self) {
        self.slots.iter_mut().flatten().for_each(|queue| queue.shrink());
    }

    /// All queues, ascending by id.
    pub fn ids(&self) -> Vec<QueueId> {
        self.by_id.keys().copied().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl QueueSlot {
    /// An empty queue, as it was declared and with what is in force for it.
    pub fn new(definition: &QueueDefinition, settings: QueueSettings) -> Self {
        Self {
            id: definition.id,
            vhost: definition.vhost.clone(),
            name: definition.name.clone(),
            vshard: definition.vshard,
            durable: definition.durable && definition.exclusive.is_none(),
            auto_delete: definition.auto_delete,
            has_rules: has_rules(&settings),
            limits: Limits::new(settings.max_length, settings.max_length_bytes),
            queue: ordering(&settings),
            deduplication: settings
                .deduplication
                .clone()
                .map(|asked| Box::new(Deduplication::new(asked))),
            settings,
            arena: Arena::new(),
            settled: Vec::new(),
            is_frozen: false,
            inspectors: Vec::new(),
            is_listed: false,
            is_settling: false,
            is_deadline_armed: false,
            last_used: 0,
        }
    }

    /// Checks that basic.get may take messages.
    ///
    /// # Errors
    /// 405, when it is a quorum queue with a single active consumer; a classic one gives what it has, as in RabbitMQ.
    pub fn check_gets(&self) -> Result<(), Refusal> {
        if !self.settings.single_active_consumer || !self.is_quorum() {
            return Ok(());
        }
        let (name, vhost) = (&self.name, &self.vhost);
        let text = format!(
            "cannot obtain access to locked queue '{name}' in vhost '{vhost}'. basic.get operations are not supported by \
             quorum queues with single active consumer"
        );
        Err(Refusal::new(ReplyCode::ResourceLocked, text))
    }

    /// Stores a message that is not logged, and makes it ready.
    #[inline]
    pub fn push_transient(
        &mut self,
        content: Content<'_>,
        priority: u8,
        shared: &mut SharedContents,
    ) -> QueueSequence {
        let locator = if content.encoded_length() < SHARED_CONTENT_BYTES {
            Locator::Arena(self.arena.store(&content))
        } else {
            let mut bytes = Vec::with_capacity(content.encoded_length());
            content.encode(&mut bytes);
            Locator::Shared(shared.add(Bytes::from(bytes)))
        };
        self.push(locator, content.body.len(), priority)
    }

    /// Makes ready a message that others hold too, in `slot`.
    pub fn push_shared(
        &mut self,
        slot: u32,
        body_length: usize,
        priority: u8,
        shared: &mut SharedContents,
    ) -> QueueSequence {
        shared.hold(slot);
        self.push(Locator::Shared(slot), body_length, priority)
    }

    /// The queue's entry in the record of a message that will have its next sequence.
    #[inline]
    pub fn entry_header(&self) -> EntryHeader {
        EntryHeader::new(self.id, self.vshard, self.queue.next_sequence())
    }

    /// Makes ready a message whose record was appended.
    #[inline]
    pub fn push_logged(&mut self, locator: Locator, body_length: usize, priority: u8) -> QueueSequence {
        self.push(locator, body_length, priority)
    }

    #[inline]
    fn push(&mut self, locator: Locator, body_length: usize, priority: u8) -> QueueSequence {
        self.queue.push(Entry {
            locator,
            body_bytes: u32::try_from(body_length).unwrap_or(u32::MAX),
            delivery_count: 0,
            priority: priority.min(self.queue.max_priority()),
            redelivered: false,
        })
    }

    /// Notes until when a message may stay that came at `since`: its own time to live or the queue's, whichever is shorter;
    /// in the memory of a delayed exchange its delay. Returns the time if the time index must know it, beside the queue's common deadline.
    pub fn set_deadline(&mut self, sequence: QueueSequence, wishes: Wishes, since: u64) -> Option<u64> {
        let own = match self.settings.memory.as_ref().map(|memory| memory.kind) {
            Some(MemoryKind::Delayed) => Some(wishes.delay.unwrap_or(0)),
            // It goes on at once.
            Some(MemoryKind::Deduplication) => Some(0),
            // What is remembered runs out in the queues it is given to.
            Some(MemoryKind::RecentHistory) => None,
            None => wishes.expiration,
        };
        let (lives_for, is_common) = match (own, self.settings.message_ttl) {
            (None, None) => return None,
            (Some(own), None) => (own, false),
            (Some(own), Some(common)) if own < common => (own, false),
            (_, Some(common)) => (common, true),
        };
        let at = since.saturating_add(lives_for);
        self.queue.set_deadline(sequence, at, is_common).then_some(at)
    }

    /// Puts other settings in force. What was admitted before keeps its deadline.
    pub fn set_settings(&mut self, settings: QueueSettings) {
        self.has_rules = has_rules(&settings);
        self.limits = Limits::new(settings.max_length, settings.max_length_bytes);
        self.settings = settings;
    }

    /// Whether more is ready than may be, were there one more message of `more_bytes`.
    pub fn would_overflow(&self, more_bytes: u64) -> bool {
        let (messages, bytes) = (u64::from(self.queue.ready_count()), self.queue.ready_bytes());
        self.limits.are_exceeded_by(messages + 1, bytes + more_bytes)
    }

    /// Whether more is ready than may be, and the first has to go. A queue that refuses new messages keeps those it took,
    /// also when some of them come back.
    pub fn has_surplus(&self) -> bool {
        if self.settings.overflow != Overflow::DropHead {
            return false;
        }
        let (messages, bytes) = (u64::from(self.queue.ready_count()), self.queue.ready_bytes());
        self.limits.are_exceeded_by(messages, bytes)
    }

    /// Whether all that it holds survives a restart, and each delivery says how often it came back.
    pub fn is_quorum(&self) -> bool {
        self.settings.kind == QueueType::Quorum
    }

    /// Whether it holds messages back until their time has come.
    pub fn delays(&self) -> bool {
        let memory = self.settings.memory.as_ref();
        memory.is_some_and(|memory| memory.kind != MemoryKind::RecentHistory)
    }

    /// Whether messages pass through it on their way to where an exchange leads.
    pub fn passes_on(&self) -> bool {
        let memory = self.settings.memory.as_ref();
        memory.is_some_and(|memory| memory.kind == MemoryKind::Deduplication)
    }

    /// Something of this queue, in `slot`, that falls due.
    pub fn due(&self, slot: u32, at: u64, occasion: Occasion) -> Due {
        Due {
            at,
            queue_slot: slot,
            queue_stamp: self.stamp(),
            occasion,
        }
    }

    /// Tells this queue from others that had its slot, in the time index.
    pub fn stamp(&self) -> u32 {
        self.id.0 as u32
    }

    /// Frees the bytes of a message that left the queue; a logged one is noted as settled.
    #[inline]
    pub fn release(
        &mut self,
        sequence: QueueSequence,
        entry: Entry,
        kind: SettleKind,
        log: &mut Log,
        shared: &mut SharedContents,
    ) {
        match entry.locator {
            Locator::Arena(slot) => self.arena.release(slot),
            Locator::Shared(slot) => shared.remove(slot),
            Locator::Log { position, .. } => {
                self.note_settled(kind, sequence);
                log.release(position);
            }
        }
    }

    /// Adds a sequence to the ranges settled in this tick.
    #[inline]
    fn note_settled(&mut self, kind: SettleKind, sequence: QueueSequence) {
        match self.settled.last_mut() {
            Some(range) if range.kind == kind && range.last.0 + 1 == sequence.0 => range.last = sequence,
            _ => self.settled.push(SettledRange {
                kind,
                first: sequence,
                last: sequence,
            }),
        }
    }

    /// Bytes that its messages take here: contents not in the log, and the index.
    pub fn memory_bytes(&self) -> usize {
        let index_bytes = self.queue.index_bytes().saturating_sub(self.stub_bytes());
        self.arena.bytes_allocated() + index_bytes
    }

    /// Bytes that the values take which it remembers.
    pub fn remembered_bytes(&self) -> usize {
        let values = self.deduplication.as_ref();
        values.map_or(0, |deduplication| deduplication.memory_bytes()) + self.stub_bytes()
    }

    /// Bytes that knowing of stubs takes.
    fn stub_bytes(&self) -> usize {
        let values = self.deduplication.as_ref();
        values.map_or(0, |deduplication| deduplication.stub_count()) * Queue::LEAVING_BYTES
    }

    /// Gives back memory held for messages to come.
    pub fn shrink(&mut self) {
        self.arena.shrink();
        self.queue.shrink();
    }
}

/// The order and the consumers that `settings` ask for.
fn ordering(settings: &QueueSettings) -> Queue {
    let mut queue = Queue::with_priorities(settings.max_priority);
    match (settings.single_active_consumer, settings.kind) {
        (false, _) => {}
        (true, QueueType::Classic) => queue.serve_one_consumer(Succession::ByPriority),
        (true, QueueType::Quorum) => queue.serve_one_consumer(Succession::BySubscription),
    }
    queue
}

fn has_rules(settings: &QueueSettings) -> bool {
    settings.message_ttl.is_some()
        || settings.max_length.is_some()
        || settings.max_length_bytes.is_some()
        || settings.max_priority > 0
        || settings.memory.is_some()
        || settings.deduplication.is_some()
        || settings.kind == QueueType::Quorum
}

/// Large contents that are not in the log, each held once for all queues that have it.
#[derive(Default)]
pub struct SharedContents {
    slots: Vec<SharedContent>,
    free: Vec<u32>,
    live_bytes: u64,
}

#[derive(Default)]
struct SharedContent {
    bytes: Bytes,
    holders: u32,
}

impl SharedContents {
    /// Adds a content with one holder; returns its slot.
    pub fn add(&mut self, bytes: Bytes) -> u32 {
        self.live_bytes += bytes.len() as u64;
        let content = SharedContent { bytes, holders: 1 };
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = content;
                slot
            }
            None => {
                self.slots.push(content);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Another holder of the content in `slot`.
    pub fn hold(&mut self, slot: u32) {
        self.slots[slot as usize].holders += 1;
    }

    /// The content in `slot`.
    pub fn get(&self, slot: u32) -> &Bytes {
        &self.slots[slot as usize].bytes
    }

    /// A holder of the content in `slot` gives it up; the last one drops it.
    pub fn remove(&mut self, slot: u32) {
        let content = &mut self.slots[slot as usize];
        content.holders -= 1;
        if content.holders == 0 {
            self.live_bytes -= content.bytes.len() as u64;
            content.bytes = Bytes::new();
            self.free.push(slot);
        }
    }

    /// Bytes held, each content once.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }
}
