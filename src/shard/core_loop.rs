//! The loop of a core: what of it awaits, but for its start. It turns what tasks posted, and what rings and helpers hold,
//! into events, ticks the shard, and does what the tick left to be done.
//!
//! ```text
//!   reader tasks ─┬─▶ inbox ─┐                        ┌─▶ one batch a core, doorbell
//!   timer ────────┘          ├─▶ events ─▶ tick ──────┼─▶ one write a connection
//!   rings ───────────────────┤                        ├─▶ readers go on
//!   helpers ─────────────────┘                        └─▶ sync, segment: helper threads
//! ```
//!
//! glommio polls I/O only when every task waits, so a saturated core makes a trip through the ring every fourth tick;
//! else a publisher whose socket is always full would starve a consumer whose socket was.

use super::connections::Peer;
use super::mailbox::Batch;
use super::start::{CoreParts, StopRequest};
use super::{Event, Outputs, Shard};
use crate::definitions::Definitions;
use crate::model::{Moment, ShardId};
use crate::net::{
    AcceptedSocket, ListenerHandle, SendProgress, SocketEvent, SocketHandle, SocketToken, start_listener,
};
use crate::runtime::memory::{Quiet, give_back_free};
use crate::runtime::{self, BufferPool, DoorbellListener, Inbox, IoPoll};
use crate::storage::{Prepared, StorageError, SyncRequest};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{info, warn};

/// Receive buffers that a quiet core keeps.
const SPARE_BUFFERS: usize = 2;
/// Interval of the coarse timer.
const TIMER_INTERVAL: Duration = Duration::from_millis(100);
/// Saturated ticks in a row after which I/O is polled: in each a read filled its buffer, so its reader had more to read at once.
const TICKS_A_TRIP: u32 = 4;

/// What tasks post to the loop.
pub enum Posted {
    /// A socket's event.
    Socket(SocketEvent),
    /// The coarse timer has ticked.
    Timer,
}

impl From<SocketEvent> for Posted {
    fn from(event: SocketEvent) -> Self {
        Posted::Socket(event)
    }
}

/// What a helper thread answers.
pub enum HelperReply {
    /// A sync has ended.
    Synced(SyncRequest, io::Result<()>),
    /// A segment is prepared.
    Prepared(Prepared),
    /// A file of definitions was read.
    Definitions(Box<Definitions>),
}

/// A core's shard with its sockets, rings and helpers.
pub struct CoreLoop {
    shard: Shard,
    parts: CoreParts,
    inbox: Inbox<Posted>,
    pool: BufferPool,
    sockets: Vec<Option<SocketHandle<Posted>>>,
    listeners: Vec<ListenerHandle>,
    unsent: Vec<VecDeque<Batch>>,
    events: Vec<Event>,
    posted: Vec<Posted>,
    outputs: Outputs,
    asked_to_drain: bool,
    told_drained: bool,
    ticks_in_row: u32,
    quiet: Quiet,
    has_read_full_buffer: bool,
}

impl CoreLoop {
    /// A loop around `shard`.
    pub fn new(shard: Shard, parts: CoreParts) -> Self {
        let pool = BufferPool::new(parts.receive_buffer_bytes, parts.receive_buffers);
        let quiet = Quiet::new(parts.busy_cores.clone());
        let unsent = (0..parts.senders.len()).map(|_| VecDeque::new()).collect();
        Self {
            shard,
            parts,
            inbox: Inbox::new(),
            pool,
            sockets: Vec::new(),
            listeners: Vec::new(),
            unsent,
            events: Vec::new(),
            posted: Vec::new(),
            outputs: Outputs::default(),
            asked_to_drain: false,
            told_drained: false,
            ticks_in_row: 0,
            quiet,
            has_read_full_buffer: false,
        }
    }

    /// Accepts and serves until the broker stops.
    ///
    /// # Errors
    /// The log failed, or the core's own descriptors could not be had.
    pub async fn run(mut self) -> Result<(), StorageError> {
        let doorbell = DoorbellListener::new(&self.parts.doorbells[self.id()])?;
        doorbell.start(self.inbox.clone());
        let io_poll = IoPoll::new()?;
        self.listen()?;
        self.start_timer();
        self.parts.tell_started();
        loop {
            self.gather();
            let now = runtime::now();
            self.shard.set_unix_time(runtime::unix_milliseconds());
            self.shard.tick(&mut self.events, now, &mut self.outputs)?;
            self.quiet.note_tick();
            self.perform(now);
            if self.is_finished() {
                break;
            }
            self.rest(&doorbell, &io_poll).await;
        }
        self.stop().await
    }

    fn id(&self) -> usize {
        usize::from(self.shard.id().0)
    }

    fn listen(&mut self) -> io::Result<()> {
        for (number, address) in self.parts.addresses.clone().into_iter().enumerate() {
            let listener = runtime::Listener::bind(address, self.parts.backlog)?;
            self.listeners
                .push(start_listener(listener, number as u16, self.inbox.clone())?);
        }
        Ok(())
    }

    fn start_timer(&self) {
        let (inbox, stop) = (self.inbox.clone(), self.parts.stop.clone());
        runtime::spawn(async move {
            while stop.get() != StopRequest::Stopped {
                runtime::sleep(TIMER_INTERVAL).await;
                inbox.push(Posted::Timer);
            }
        });
    }

    /// Turns what was posted into events.
    fn gather(&mut self) {
        self.pool.collect_returned();
        let mut posted = std::mem::take(&mut self.posted);
        self.inbox.drain_into(&mut posted);
        for item in posted.drain(..) {
            match item {
                Posted::Socket(event) => self.take_socket_event(event),
                Posted::Timer => {
                    self.give_back_memory();
                    self.events.push(Event::Timer);
                }
            }
        }
        self.posted = posted;
        self.gather_mail();
        self.gather_replies();
        if !self.asked_to_drain && self.parts.stop.get() != StopRequest::Run {
            self.asked_to_drain = true;
            self.listeners.drain(..).for_each(ListenerHandle::stop);
            self.events.push(Event::Drain);
        }
    }

    /// Gives back receive buffers that nobody uses, and the last core that turns quiet all that is free.
    fn give_back_memory(&mut self) {
        self.pool.trim(SPARE_BUFFERS);
        if self.quiet.note_timer() {
            give_back_free(&self.parts.helpers);
        }
    }

    /// Takes the batches that had come when it looked; what comes meanwhile waits for the next tick.
    fn gather_mail(&mut self) {
        for (from, receiver) in self.parts.receivers.iter_mut().enumerate() {
            let Some(receiver) = receiver else { continue };
            for _ in 0..16 {
                let Some(batch) = receiver.receive() else { break };
                self.events.push(Event::Mail {
                    from: ShardId(from as u16),
                    batch,
                });
            }
        }
    }

    fn gather_replies(&mut self) {
        while let Some(reply) = self.parts.replies.receive() {
            self.events.push(match reply {
                HelperReply::Synced(request, result) => Event::Synced(request, result),
                HelperReply::Prepared(prepared) => Event::Prepared(prepared),
                HelperReply::Definitions(definitions) => Event::Definitions(definitions),
            });
        }
    }

    fn take_socket_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Accepted { socket, .. } => self.accept(socket),
            SocketEvent::Received { token, buffer } => {
                self.has_read_full_buffer |= buffer.len() == self.parts.receive_buffer_bytes;
                self.events.push(Event::Received {
                    slot: (token.slot, token.generation),
                    buffer,
                });
            }
            SocketEvent::Writable { token } => self.write(token.slot, runtime::now()),
            SocketEvent::Closed { token, reason } => {
                let slot = (token.slot, token.generation);
                self.events.push(Event::Disconnected {
                    slot,
                    reason: reason.to_string(),
                });
            }
        }
    }

    fn accept(&mut self, socket: AcceptedSocket) {
        if let Some(limit) = self.refusal_to_accept() {
            warn!(peer = %socket.peer, "connection dropped: {limit}");
            return;
        }
        let peer = Peer {
            address: socket.peer,
            local: socket.local,
        };
        info!(peer = %socket.peer, local = %socket.local, "accepting AMQP connection");
        self.parts.connections.fetch_add(1, Ordering::Relaxed);
        let id = self.shard.connect(peer, runtime::now());
        let slot = id.slot as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        let token = SocketToken {
            slot: id.slot,
            generation: id.generation,
        };
        let handle = SocketHandle::open(socket, token, self.pool.clone(), self.inbox.clone());
        self.sockets[slot] = Some(handle);
    }

    /// Why no further connection is accepted now, if so.
    fn refusal_to_accept(&mut self) -> Option<&'static str> {
        let (connections, parts) = (self.shard.connections(), &self.parts);
        if self.asked_to_drain {
            Some("the broker shuts down")
        } else if parts.connections.load(Ordering::Relaxed) >= parts.connections_max {
            Some("limits.connections_max is reached")
        } else if connections.unopened_count() >= parts.unauthenticated_connections_max {
            Some("limits.unauthenticated_connections_max is reached on this core")
        } else {
            None
        }
    }

    /// Does what the tick left to be done.
    fn perform(&mut self, now: Moment) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for (to, batch) in outputs.batches.drain(..) {
            self.unsent[usize::from(to.0)].push_back(batch);
        }
        self.post_batches();
        for slot in outputs.writes.drain(..) {
            self.write(slot, now);
        }
        for slot in outputs.reads.drain(..) {
            self.read_on(slot);
        }
        for (slot, outbound) in outputs.closes.drain(..) {
            self.parts.connections.fetch_sub(1, Ordering::Relaxed);
            if let Some(handle) = self.sockets[slot as usize].take() {
                handle.close_after_flush(outbound);
            }
        }
        if let Some(request) = outputs.sync.take() {
            let replies = self.parts.reply_sender.clone();
            self.parts.helpers.submit(
                move || {
                    let result = request.run();
                    HelperReply::Synced(request, result)
                },
                &replies,
            );
        }
        if let Some(request) = outputs.prepare.take() {
            let replies = self.parts.reply_sender.clone();
            self.parts
                .helpers
                .submit(move || HelperReply::Prepared(request.run()), &replies);
        }
        self.outputs = outputs;
    }

    /// Sends batches; what finds its ring full stays, in order.
    fn post_batches(&mut self) {
        for (to, unsent) in self.unsent.iter_mut().enumerate() {
            let Some(sender) = self.parts.senders[to].as_mut() else {
                continue;
            };
            let had_any = !unsent.is_empty();
            while let Some(batch) = unsent.pop_front() {
                if let Err(batch) = sender.try_send(batch) {
                    unsent.push_front(batch);
                    break;
                }
            }
            if had_any {
                self.parts.doorbells[to].ring();
            }
        }
    }

    fn write(&mut self, slot: u32, now: Moment) {
        let Some(handle) = self.sockets.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(connection) = self.shard.connections().get_mut(slot) else {
            return;
        };
        match handle.send(&mut connection.outbound) {
            Ok(SendProgress::Flushed) => connection.connection.sent(now),
            Ok(SendProgress::Unfinished) => {
                connection.connection.sent(now);
                self.shard.connections().note_output(slot);
            }
            Ok(SendProgress::Blocked) => {}
            // The reader would meet the same error, but not while the connection waits.
            Err(error) => {
                let slot = (slot, connection.id.generation);
                let reason = error.to_string();
                return self.events.push(Event::Disconnected { slot, reason });
            }
        }
        self.shard.relieve(slot);
    }

    fn read_on(&mut self, slot: u32) {
        let Some(handle) = self.sockets.get(slot as usize).and_then(Option::as_ref) else {
            return;
        };
        let Some(connection) = self.shard.connections().get_mut(slot) else {
            return;
        };
        let Some(input) = connection.input.take() else {
            return;
        };
        handle.resume_reading(input.rest());
    }

    /// Waits for something to do; at once when there is more.
    async fn rest(&mut self, doorbell: &DoorbellListener, io_poll: &IoPoll) {
        let is_saturated = std::mem::take(&mut self.has_read_full_buffer) || self.has_more();
        self.ticks_in_row = if is_saturated { self.ticks_in_row + 1 } else { 0 };
        if self.ticks_in_row >= TICKS_A_TRIP {
            self.ticks_in_row = 0;
            io_poll.trip().await;
        }
        if self.has_more() {
            runtime::yield_now().await;
            return;
        }
        doorbell.about_to_sleep();
        self.gather_replies();
        if self.has_mail() {
            runtime::yield_now().await;
        } else {
            self.wait().await;
        }
        doorbell.awake();
    }

    /// Waits until something is posted or falls due. The coarse timer posts often enough for what is far away.
    async fn wait(&mut self) {
        let now = runtime::unix_milliseconds();
        let due_in = self
            .outputs
            .wake_at
            .map(|at| Duration::from_millis(at.saturating_sub(now)));
        match due_in.filter(|&due_in| due_in < TIMER_INTERVAL) {
            Some(Duration::ZERO) => runtime::yield_now().await,
            Some(due_in) => drop(runtime::within(due_in, self.inbox.wait()).await),
            None => self.inbox.wait().await,
        }
    }

    fn has_more(&self) -> bool {
        self.outputs.has_more || self.shard.has_work() || self.unsent.iter().any(|unsent| !unsent.is_empty())
    }

    fn has_mail(&self) -> bool {
        self.parts
            .receivers
            .iter()
            .flatten()
            .any(|receiver| !receiver.is_empty())
            || !self.events.is_empty()
            || (!self.asked_to_drain && self.parts.stop.get() != StopRequest::Run)
    }

    fn is_finished(&mut self) -> bool {
        if !self.told_drained && self.shard.is_drained() {
            self.told_drained = true;
            self.parts.tell_drained();
        }
        matches!(self.parts.stop.get(), StopRequest::Now | StopRequest::Stopped)
    }

    /// Writes and syncs what is left, then returns.
    async fn stop(mut self) -> Result<(), StorageError> {
        for (slot, handle) in self.sockets.iter_mut().enumerate() {
            if let (Some(mut handle), Some(connection)) =
                (handle.take(), self.shard.connections().get_mut(slot as u32))
            {
                let _last_words = handle.send(&mut connection.outbound);
                handle.close();
            }
        }
        runtime::yield_now().await;
        self.shard.finish_log()
    }
}
