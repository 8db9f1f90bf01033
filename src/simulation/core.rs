//! `Core`: one shard with what the loop around it does in production, in virtual time.
//!
//! What `shard::core_loop` awaits is arranged here with the scheduler: reads, writes, batches, syncs, segments, the timer.

use super::network::{Arrival, LinkId, Written};
use super::scheduler::{CoreHappening, Scheduler};
use crate::model::ShardId;
use crate::runtime::BufferPool;
use crate::shard::connections::Peer;
use crate::shard::mailbox::Batch;
use crate::shard::{Event, Outputs, Shard};
use crate::storage::{PrepareRequest, Prepared, StorageError, SyncRequest};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Bytes of a write's share.
const WRITE_SHARE: usize = 1 << 20;

/// Ticks between two looks at every invariant, which cost more than the ticks.
const TICKS_A_CHECK: u64 = 8;

/// What waits for a core's next tick.
enum Posted {
    Accepted(LinkId),
    Writable(LinkId),
    Event(Event),
}

/// A sync on its helper thread: some end early and are told late, others are still to be done.
enum Syncing {
    Ahead(SyncRequest),
    Done(SyncRequest, io::Result<()>),
}

enum Preparing {
    Ahead(PrepareRequest),
    Done(Prepared),
}

/// One core of the simulated broker.
pub struct Core {
    index: usize,
    life: u32,
    /// The shard itself.
    pub shard: Shard,
    pool: BufferPool,
    /// Connections whose reader waits for a buffer.
    starved: Vec<LinkId>,
    posted: VecDeque<Posted>,
    sockets: Vec<Option<LinkId>>,
    syncing: Option<Syncing>,
    preparing: Option<Preparing>,
    is_tick_arranged: bool,
    ticks: u64,
    has_more: bool,
    events: Vec<Event>,
    outputs: Outputs,
}

impl Core {
    /// A core around `shard`, in this life of the broker, with so many receive buffers of `buffer_bytes`.
    pub fn new(shard: Shard, life: u32, (buffer_bytes, buffers): (usize, usize)) -> Self {
        Self {
            index: usize::from(shard.id().0),
            life,
            shard,
            pool: BufferPool::new(buffer_bytes, buffers),
            starved: Vec::new(),
            posted: VecDeque::new(),
            sockets: Vec::new(),
            syncing: None,
            preparing: None,
            is_tick_arranged: false,
            ticks: 0,
            has_more: false,
            events: Vec::new(),
            outputs: Outputs::default(),
        }
    }

    /// Whether nothing is under way at this core.
    pub fn is_idle(&self) -> bool {
        self.posted.is_empty()
            && self.syncing.is_none()
            && self.preparing.is_none()
            && !self.is_tick_arranged
            && !self.shard.has_work()
    }

    /// A client has connected.
    pub fn accept(&mut self, id: LinkId, scheduler: &mut Scheduler) {
        self.post(Posted::Accepted(id), scheduler);
    }

    /// The reader looks at a connection. Without a buffer it waits until one comes back.
    pub fn reach(&mut self, id: LinkId, scheduler: &mut Scheduler) {
        let buffer_bytes = self.pool.buffer_bytes();
        let Some(link) = scheduler.network.link(id) else {
            return;
        };
        if link.can_be_read() && self.pool.take().is_none() {
            return self.starved.push(id);
        }
        let slot = link.token;
        let dice = &mut scheduler.dice;
        match link.receive(buffer_bytes, |count| dice.cut(count)) {
            Arrival::Nothing => {}
            Arrival::Bytes(bytes) => {
                let count = bytes.len();
                let buffer = self.pool.holding(&bytes).expect("one was free just above");
                scheduler.say(format_args!(
                    "core {} receives {count} bytes on link {id}",
                    self.index
                ));
                self.post(Posted::Event(Event::Received { slot, buffer }), scheduler);
            }
            Arrival::End(reason) => {
                let reason = reason.to_owned();
                scheduler.say(format_args!("core {} meets the end of link {id}", self.index));
                self.post(Posted::Event(Event::Disconnected { slot, reason }), scheduler);
            }
        }
    }

    /// The client of a connection has made room for a blocked writer.
    pub fn make_writable(&mut self, id: LinkId, scheduler: &mut Scheduler) {
        self.post(Posted::Writable(id), scheduler);
    }

    /// Whether the connection waits: for an answer, for credit, or for the end of an alarm.
    pub fn holds(&mut self, token: (u32, u32)) -> bool {
        let connection = self.shard.connections().get_mut(token.0);
        connection.is_some_and(|connection| connection.id.generation == token.1 && connection.hold.is_some())
    }

    /// A batch has come.
    pub fn take_mail(&mut self, from: usize, batch: Batch, scheduler: &mut Scheduler) {
        let count = batch.messages.len();
        scheduler.say(format_args!(
            "core {} gets a batch of {count} from core {from}: {} bytes accepted, {} to accept",
            self.index, batch.credit.accepted_bytes, batch.credit.credited_bytes
        ));
        let from = ShardId(from as u16);
        self.post(Posted::Event(Event::Mail { from, batch }), scheduler);
    }

    /// The timer has ticked.
    pub fn take_time(&mut self, scheduler: &mut Scheduler) {
        self.post(Posted::Event(Event::Timer), scheduler);
        scheduler.arrange(self.life, self.index, CoreHappening::Timer);
    }

    /// The broker shuts down.
    pub fn drain(&mut self, scheduler: &mut Scheduler) {
        self.post(Posted::Event(Event::Drain), scheduler);
    }

    /// The sync under way ends.
    pub fn end_sync(&mut self, scheduler: &mut Scheduler) {
        let (request, result) = match self.syncing.take() {
            Some(Syncing::Ahead(request)) => {
                let result = request.run();
                (request, result)
            }
            Some(Syncing::Done(request, result)) => (request, result),
            None => return,
        };
        scheduler.say(format_args!(
            "core {} is synced through {}",
            self.index,
            request.through()
        ));
        self.post(Posted::Event(Event::Synced(request, result)), scheduler);
    }

    /// The segment under way is prepared.
    pub fn end_preparing(&mut self, scheduler: &mut Scheduler) {
        let prepared = match self.preparing.take() {
            Some(Preparing::Ahead(request)) => request.run(),
            Some(Preparing::Done(prepared)) => prepared,
            None => return,
        };
        self.post(Posted::Event(Event::Prepared(prepared)), scheduler);
    }

    /// One tick: some or all of what was posted, in order, then what the shard leaves to be done. Returns batches for
    /// other cores.
    ///
    /// # Errors
    /// The log failed: the broker stops.
    pub fn tick(&mut self, scheduler: &mut Scheduler) -> Result<Vec<(ShardId, Batch)>, StorageError> {
        self.is_tick_arranged = false;
        self.pool.collect_returned();
        self.gather(scheduler);
        let now = scheduler.now();
        let count = self.events.len();
        self.shard.set_unix_time(now.0 / 1_000_000);
        self.shard.tick(&mut self.events, now, &mut self.outputs)?;
        let Outputs {
            writes,
            batches,
            sync,
            ..
        } = &self.outputs;
        scheduler.say(format_args!(
            "core {} ticks: {count} events, {} writes, {} batches, {}",
            self.index,
            writes.len(),
            batches.len(),
            if sync.is_some() { "a sync" } else { "no sync" }
        ));
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_A_CHECK) {
            self.shard.check_invariants();
        }
        let batches = self.perform(scheduler);
        for id in std::mem::take(&mut self.starved) {
            scheduler.arrange_reach(id);
        }
        if self.has_more || !self.posted.is_empty() || self.shard.has_work() {
            self.arrange_tick(scheduler);
        }
        Ok(batches)
    }

    fn post(&mut self, posted: Posted, scheduler: &mut Scheduler) {
        self.posted.push_back(posted);
        self.arrange_tick(scheduler);
    }

    fn arrange_tick(&mut self, scheduler: &mut Scheduler) {
        if !std::mem::replace(&mut self.is_tick_arranged, true) {
            scheduler.arrange(self.life, self.index, CoreHappening::Tick);
        }
    }

    fn gather(&mut self, scheduler: &mut Scheduler) {
        if self.posted.is_empty() {
            return;
        }
        for _ in 0..scheduler.dice.cut(self.posted.len()) {
            match self.posted.pop_front().expect("no more are taken than there are") {
                Posted::Accepted(id) => self.connect(id, scheduler),
                Posted::Writable(id) => self.write(id, scheduler),
                Posted::Event(event) => self.events.push(event),
            }
        }
    }

    fn connect(&mut self, id: LinkId, scheduler: &mut Scheduler) {
        let now = scheduler.now();
        let Some(link) = scheduler.network.link(id) else {
            return;
        };
        let peer = Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + (id % 20_000) as u16)),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)),
        };
        let connection = self.shard.connect(peer, now);
        link.accept((connection.slot, connection.generation));
        let slot = connection.slot as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize(slot + 1, None);
        }
        self.sockets[slot] = Some(id);
        scheduler.say(format_args!(
            "core {} accepts link {id} as connection {connection}",
            self.index
        ));
        scheduler.arrange_reach(id);
    }

    fn perform(&mut self, scheduler: &mut Scheduler) -> Vec<(ShardId, Batch)> {
        let mut outputs = std::mem::take(&mut self.outputs);
        for slot in outputs.writes.drain(..) {
            if let Some(id) = self.socket(slot) {
                self.write(id, scheduler);
            }
        }
        for slot in outputs.reads.drain(..) {
            self.read_on(slot, scheduler);
        }
        for (slot, outbound) in outputs.closes.drain(..) {
            self.close(slot, outbound, scheduler);
        }
        self.perform_on_disk(&mut outputs, scheduler);
        self.has_more = std::mem::take(&mut outputs.has_more);
        let batches = std::mem::take(&mut outputs.batches);
        self.outputs = outputs;
        batches
    }

    /// Starts the sync and the preparation asked for. Whether the work is done when it begins or when it ends decides
    /// what a crash in between finds on the disk.
    fn perform_on_disk(&mut self, outputs: &mut Outputs, scheduler: &mut Scheduler) {
        if let Some(request) = outputs.sync.take() {
            self.syncing = Some(match scheduler.dice.chance(50) {
                true => {
                    let result = request.run();
                    Syncing::Done(request, result)
                }
                false => Syncing::Ahead(request),
            });
            scheduler.arrange(self.life, self.index, CoreHappening::Synced);
        }
        if let Some(request) = outputs.prepare.take() {
            self.preparing = Some(match scheduler.dice.chance(50) {
                true => Preparing::Done(request.run()),
                false => Preparing::Ahead(request),
            });
            scheduler.arrange(self.life, self.index, CoreHappening::Prepared);
        }
    }

    fn socket(&self, slot: u32) -> Option<LinkId> {
        self.sockets.get(slot as usize).copied().flatten()
    }

    fn write(&mut self, id: LinkId, scheduler: &mut Scheduler) {
        let now = scheduler.now();
        let Some(link) = scheduler.network.link(id) else {
            return;
        };
        let slot = link.token.0;
        if self.socket(slot) != Some(id) {
            return;
        }
        let Some(connection) = self.shard.connections().get_mut(slot) else {
            return;
        };
        let share = scheduler.dice.cut(WRITE_SHARE);
        let written = link.write(&mut connection.outbound, share);
        match written {
            Written::Flushed => connection.connection.sent(now),
            Written::Unfinished => {
                connection.connection.sent(now);
                self.shard.connections().note_output(slot);
            }
            Written::Blocked => {}
            // The reader would meet the same, but not while the connection waits.
            Written::Lost => {
                let (slot, reason) = (link.token, "broken pipe".to_owned());
                return self.post(Posted::Event(Event::Disconnected { slot, reason }), scheduler);
            }
        }
        self.shard.relieve(slot);
        scheduler.arrange_read(id);
    }

    fn read_on(&mut self, slot: u32, scheduler: &mut Scheduler) {
        let Some(id) = self.socket(slot) else { return };
        let Some(input) = self
            .shard
            .connections()
            .get_mut(slot)
            .and_then(|connection| connection.input.take())
        else {
            return;
        };
        if let Some(link) = scheduler.network.link(id) {
            link.read_on(input.rest());
        }
        scheduler.arrange_reach(id);
    }

    fn close(&mut self, slot: u32, outbound: crate::net::Outbound, scheduler: &mut Scheduler) {
        let Some(id) = self.sockets[slot as usize].take() else {
            return;
        };
        scheduler.say(format_args!("core {} closes link {id}", self.index));
        let Some(link) = scheduler.network.link(id) else {
            return;
        };
        link.end_by_broker(outbound);
        if link.has_client() {
            scheduler.arrange_read(id);
        } else {
            scheduler.network.forget(id);
        }
    }
}
