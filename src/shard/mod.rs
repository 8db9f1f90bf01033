//! One core: it owns all of its state and strings the other folders together.
//!
//! ```text
//!            events                         Shard (one &mut, in `run`)                     outputs
//!   sockets ───────▶  connect  declare  publish ─▶ deliver  settle  delete  close ───────▶ bytes to write
//!   mailbox ───────▶     each begins its file; lib.rs has the map               ───────▶ batches for other cores
//!   helpers ───────▶                                                            ───────▶ a sync, a segment to prepare
//! ```
//!
//! [`Shard::tick`] is a plain function: it drains events, decides, and leaves what must be done in [`Outputs`]; it
//! awaits nothing, so the simulator runs the same code under its own clock. [`core_loop`] is the loop around it.
//!
//! A tick, in order: every event's story, which appends a message's record when it is published; deliveries from queues
//! that can; settles appended, and all records written with one positioned write; confirms whose publishes are safe; then
//! one batch a core, one write a connection, and a sync if someone waits for one.
//!
//! **Budget.** At 16 bytes, one publisher to one consumer here, a message may cost 100 ns, half of it the kernel's:
//! receive 20, recognise 15, queue and credit 15, patch the delivery's frames 15, send 25, the tick 10. Nothing is
//! allocated or hashed for a message: a run of publishes shares its route, the delivery's frames are a template. Measured
//! are 167 on two virtual cores, 53 of them here and the rest the kernel's and the loop's; `perf/reports` holds the stages
//! beside their budgets, `benches/messages.rs` measures this folder without the kernel.

pub mod admit;
pub mod alarm;
pub mod answer;
pub mod close;
pub mod confirm;
pub mod connect;
pub mod connections;
pub mod consume;
pub mod control;
pub mod control_change;
pub mod core_loop;
pub mod credit;
pub mod dead_letter;
pub mod decide;
pub mod declare;
pub mod deduplicate;
pub mod definitions_file;
pub mod delay;
pub mod delete;
pub mod deliver;
pub mod delivery_count;
pub mod dispatch;
pub mod enqueue;
pub mod expire;
pub mod forward;
pub mod heartbeat;
pub mod history;
pub mod import;
pub mod in_force;
pub mod mail;
pub mod mailbox;
pub mod obey;
pub mod overdue;
pub mod owner;
pub mod pass_on;
pub mod permit;
pub mod pressure;
pub mod publish;
pub mod queues;
pub mod recover;
pub mod reply;
pub mod route;
pub mod secrets;
pub mod settings;
pub mod settle;
pub mod start;
pub mod transaction;
pub mod transfer;
pub mod unroutable;
pub mod upkeep;

#[cfg(test)]
mod tests;

use crate::auth::Users;
use crate::channel::Unacked;
use crate::connection::ServerIdentity;
use crate::definitions::Definitions;
use crate::metrics::ShardCounters;
use crate::model::{ChannelNumber, ConnectionId, Moment, ShardId};
use crate::net::Outbound;
use crate::protocol::publish::RecognisedPublish;
use crate::queue::TimeIndex;
use crate::routing::{Routed, Router};
use crate::runtime::ReceiveBuffer;
use crate::storage::{Log, PrepareRequest, Prepared, StorageError, SyncRequest};
use crate::topology::Topology;
use confirm::SyncWaiters;
use connections::{Connections, Peer, PendingInput};
use control::Control;
use mailbox::{Batch, Mailbox, Place, Publisher, ShardMessage};
use queues::{Queues, SharedContents};
use settings::Settings;

/// Something that happened to a core.
pub enum Event {
    /// Bytes came on a connection.
    Received {
        /// Its slot and generation.
        slot: (u32, u32),
        /// The bytes, with what the last read left undecoded in front.
        buffer: ReceiveBuffer,
    },
    /// A connection's peer is gone.
    Disconnected {
        /// Its slot and generation.
        slot: (u32, u32),
        /// Why, for the log.
        reason: String,
    },
    /// A batch came from another core.
    Mail {
        /// Who sent it.
        from: ShardId,
        /// What it says.
        batch: Batch,
    },
    /// The sync asked for has ended.
    Synced(SyncRequest, std::io::Result<()>),
    /// The segment asked for is prepared.
    Prepared(Prepared),
    /// A file of definitions was read, for the control shard to import.
    Definitions(Box<Definitions>),
    /// The coarse timer.
    Timer,
    /// The broker shuts down: say so to every client.
    Drain,
}

/// What a tick leaves to be done.
#[derive(Default)]
pub struct Outputs {
    /// Slots with bytes to write.
    pub writes: Vec<u32>,
    /// Slots whose input is used up to what is left: read on.
    pub reads: Vec<u32>,
    /// Slots to close, with what is left to write.
    pub closes: Vec<(u32, Outbound)>,
    /// Batches for other cores.
    pub batches: Vec<(ShardId, Batch)>,
    /// A sync to run on a helper thread.
    pub sync: Option<SyncRequest>,
    /// A segment to prepare on a helper thread.
    pub prepare: Option<PrepareRequest>,
    /// Whether there is work left that did not fit this tick.
    pub has_more: bool,
    /// When the next tick is due though nothing happens, in milliseconds since 1970.
    pub wake_at: Option<u64>,
}

/// Lists the hot path lends out, so that it allocates nothing.
#[derive(Default)]
struct Scratch {
    run: Vec<RecognisedPublish>,
    places: Vec<Place>,
    settled: Vec<Unacked>,
    routed: Routed,
}

/// One core of the broker.
pub struct Shard {
    id: ShardId,
    shards: u16,
    settings: Settings,
    identity: ServerIdentity,
    users: Users,
    topology: Topology,
    router: Router,
    connections: Connections,
    queues: Queues,
    shared: SharedContents,
    log: Log,
    mailbox: Mailbox,
    control: Option<Control>,
    sync_waiters: SyncWaiters,
    alarms: alarm::Alarms,
    time_index: TimeIndex,
    /// Whether more has fallen due than the tick could take.
    is_expiry_behind: bool,
    is_sweeping: bool,
    transfers: transfer::Transfers,
    /// Messages of the run just enqueued that a queue refused, by their number in the run.
    refused: Vec<u32>,
    /// The last publish of the run just enqueued that is passed on from an exchange's memory, if its publisher hears of that.
    passed_on: Option<Publisher>,
    deliverable: Vec<u32>,
    /// Queues whose next consumer is of a core that has to take earlier deliveries first.
    starved: Vec<u32>,
    settling: Vec<u32>,
    runnable: Vec<u32>,
    /// Transactions whose commits go on with the next tick.
    committing: Vec<(ConnectionId, ChannelNumber)>,
    waiting_for_credit: Vec<u32>,
    early_mail: Vec<(ShardId, Batch)>,
    applied_number: u64,
    /// Whether queues are as recovery left them, perhaps with more than they may hold.
    is_just_recovered: bool,
    /// The time of this tick, in milliseconds since 1970.
    unix_milliseconds: u64,
    random: settings::Random,
    /// For the exchanges that choose by chance.
    chances: settings::Random,
    secrets: secrets::Secrets,
    last_sync: Moment,
    last_beat: Moment,
    is_draining: bool,
    has_spent_tick: bool,
    is_mark_due: bool,
    is_compacting: bool,
    /// Memory taken by messages whose bodies are still coming, or that wait complete in their channels.
    unfinished_bytes: u64,
    scratch: Scratch,
    closes: Vec<(u32, Outbound)>,
    reads: Vec<u32>,
    /// What this core has counted.
    pub counters: ShardCounters,
}

/// What a shard begins with.
pub struct Beginning {
    /// Its number.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Settings.
    pub settings: Settings,
    /// What it says of itself.
    pub identity: ServerIdentity,
    /// Who may log in.
    pub users: Users,
    /// The recovered topology.
    pub topology: Topology,
    /// Its recovered queues.
    pub queues: Queues,
    /// Its log.
    pub log: Log,
    /// Control, on shard 0.
    pub control: Option<Control>,
    /// Seed of names.
    pub seed: u64,
    /// Key of secrets: random, and told to nobody.
    pub secret_key: u128,
}

impl Shard {
    /// A core as recovery left it.
    pub fn new(beginning: Beginning) -> Self {
        let Beginning {
            id,
            shards,
            settings,
            identity,
            users,
            topology,
            queues,
            log,
            control,
            seed,
            secret_key,
        } = beginning;
        let mut router = Router::new();
        for change in topology.snapshot_all() {
            router.apply(&change);
            router.choose_alternates(&change, &topology);
        }
        let mailbox = Mailbox::new(id, shards, settings.ring_credit_bytes);
        let mut shard = Self {
            id,
            shards,
            identity,
            users,
            router,
            topology,
            connections: Connections::new(id),
            queues,
            shared: SharedContents::default(),
            log,
            mailbox,
            control,
            sync_waiters: SyncWaiters::default(),
            alarms: alarm::Alarms::new(shards),
            time_index: TimeIndex::default(),
            is_expiry_behind: false,
            is_sweeping: false,
            transfers: transfer::Transfers::default(),
            refused: Vec::new(),
            passed_on: None,
            deliverable: Vec::new(),
            starved: Vec::new(),
            settling: Vec::new(),
            runnable: Vec::new(),
            committing: Vec::new(),
            waiting_for_credit: Vec::new(),
            early_mail: Vec::new(),
            applied_number: 0,
            is_just_recovered: true,
            unix_milliseconds: 0,
            random: settings::Random::seeded(seed),
            chances: settings::Random::seeded(!seed),
            secrets: secrets::Secrets::keyed(secret_key),
            last_sync: Moment::default(),
            last_beat: Moment::default(),
            is_draining: false,
            has_spent_tick: false,
            is_mark_due: false,
            is_compacting: false,
            unfinished_bytes: 0,
            scratch: Scratch::default(),
            closes: Vec::new(),
            reads: Vec::new(),
            counters: ShardCounters::default(),
            settings,
        };
        shard.arm_recovered();
        shard
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The time of the next tick, in milliseconds since 1970: when its messages are published, and what is due.
    pub fn set_unix_time(&mut self, unix_milliseconds: u64) {
        self.unix_milliseconds = unix_milliseconds;
        self.log.set_published_at(unix_milliseconds);
    }

    /// The connections, for the loop to write their output and take back their input.
    pub fn connections(&mut self) -> &mut Connections {
        &mut self.connections
    }

    /// Takes in what happened, decides, and leaves in `outputs` what must be done.
    ///
    /// # Errors
    /// The log cannot be written or synced: nothing more may be confirmed, and the process must stop.
    pub fn tick(
        &mut self,
        events: &mut Vec<Event>,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Result<(), StorageError> {
        let is_behind = self.expire_due();
        if !is_behind {
            self.limit_recovered();
        }
        let mut has_more = is_behind | self.sweep_time_index();
        self.carry_commits();
        for event in events.drain(..) {
            self.take_event(event, now)?;
            self.carry_on(now);
        }
        has_more |= self.carry_transfers();
        self.deliver_ready();
        self.carry_on(now);
        self.write_log(now, outputs)?;
        self.answer_confirms();
        self.collect(outputs);
        outputs.has_more |= has_more || self.can_carry();
        outputs.wake_at = self.time_index.next_due();
        self.counters.ticks += 1;
        Ok(())
    }

    fn take_event(&mut self, event: Event, now: Moment) -> Result<(), StorageError> {
        match event {
            Event::Received { slot, buffer } => self.receive(slot, buffer),
            Event::Disconnected { slot, reason } => self.disconnect(slot, &reason),
            Event::Mail { from, batch } => self.take_mail(from, batch),
            Event::Synced(request, result) => self.synced(request, result)?,
            Event::Prepared(prepared) => self.log.prepared(prepared)?,
            Event::Definitions(definitions) => self.import(&definitions),
            Event::Timer => self.keep_time(now),
            Event::Drain => self.drain(),
        }
        Ok(())
    }

    /// Carries on with what this core said to itself and with connections that may go on, until nothing is left.
    fn carry_on(&mut self, now: Moment) {
        loop {
            if let Some(message) = self.mailbox.take_own() {
                self.take_message(self.id, message, &Batch::default());
            } else if let Some(slot) = self.runnable.pop() {
                self.converse(slot, now);
            } else {
                break;
            }
        }
    }

    fn receive(&mut self, (slot, generation): (u32, u32), buffer: ReceiveBuffer) {
        let Some(connection) = self
            .connections
            .get_mut(slot)
            .filter(|c| c.id.generation == generation)
        else {
            return;
        };
        debug_assert!(connection.input.is_none(), "one buffer a connection is under way");
        connection.input = Some(PendingInput::new(buffer));
        self.runnable.push(slot);
    }

    /// Gathers what the tick leaves to be done.
    fn collect(&mut self, outputs: &mut Outputs) {
        self.mailbox.take_batches(&mut outputs.batches);
        self.connections.take_with_output(&mut outputs.writes);
        outputs.closes.append(&mut self.closes);
        outputs.reads.append(&mut self.reads);
        outputs.has_more = self.has_spent_tick || self.is_compacting;
    }

    /// A connection was accepted; its slot is where the loop keeps its socket.
    pub fn connect(&mut self, peer: Peer, now: Moment) -> ConnectionId {
        self.accept(peer, now)
    }

    /// The queues it owns.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// What it says to other cores.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Checks what must hold between ticks.
    ///
    /// # Panics
    /// If it does not.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        assert!(
            !self.sync_waiters.is_waiting() || self.log.durable_lsn() < self.log.appended_lsn(),
            "whoever waits for a sync has one to come"
        );
        for queue in self.queues.iter() {
            queue.queue.check_invariants();
            assert!(
                queue.settled.is_empty(),
                "what a tick settled is in the log when it ends"
            );
        }
    }

    /// Whether another tick is due though nothing has happened.
    pub fn has_work(&self) -> bool {
        !self.runnable.is_empty()
            || self.mailbox.has_news()
            || self.connections.has_output()
            || !self.deliverable.is_empty()
            || !self.committing.is_empty()
    }

    /// Writes and syncs what is left, and notes that it is: the broker stops.
    ///
    /// # Errors
    /// The log cannot be written or synced.
    pub fn finish_log(&mut self) -> Result<(), StorageError> {
        while self.carry_transfers() {}
        self.append_settles();
        self.append_given_out();
        self.log.flush()?;
        self.log.sync_here()
    }

    fn send_to_control(&mut self, request: control::ControlRequest) {
        self.mailbox
            .send(ShardId(0), ShardMessage::Request(Box::new(request)));
    }
}
