//! Cores by hand: shards without sockets, disks in memory, and clients whose bytes are read as sentences.

mod alarms;
mod consuming;
mod dead_letters;
mod deduplication;
mod definitions;
mod exchanges;
mod expiry;
mod faults;
mod limits;
mod naive;
mod naive_flow;
mod naive_queue;
mod operations;
mod publishing;
mod received;
mod replies;
mod rules;
mod transactions;

use super::connections::Peer;
use super::mailbox::Batch;
use super::recover::{OpenedLog, RecoveryOptions, deal};
use super::settings::Settings;
use super::{Beginning, Event, Outputs, Shard};
use crate::config::{Config, Durability};
use crate::connection::ServerIdentity;
use crate::model::field_table::{FieldArray, FieldTableBuilder};
use crate::model::{ConnectionId, FieldTable, FieldValue, Moment, ShardId};
use crate::protocol::content::encode_content;
use crate::protocol::frame::{FrameKind, decode_frame};
use crate::protocol::method::*;
use crate::protocol::properties::PropertiesBuilder;
use crate::runtime::BufferPool;
use crate::runtime::disk::{Disk, MemoryDisk};
use crate::storage::{Log, LogOptions, SyncRequest};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

const FRAME_MAX: u32 = 131_072;

/// Cores that are ticked by hand, and what their clients have been sent.
struct Cores {
    shards: Vec<Shard>,
    pools: Vec<BufferPool>,
    events: Vec<Vec<Event>>,
    lanes: Vec<Vec<VecDeque<Batch>>>,
    syncs: Vec<Option<SyncRequest>>,
    disks: Vec<MemoryDisk>,
    /// Whether syncs end; a test that watches what waits for one stops them.
    are_syncs_run: bool,
    /// Cores whose syncs do not end.
    without_syncs: Vec<usize>,
    /// Whether a tick takes one batch of each lane, instead of all there are.
    are_lanes_slow: bool,
    /// Cores whose mail is held up.
    without_mail: Vec<usize>,
    /// Whether sockets take output.
    are_sockets_written: bool,
    written: BTreeMap<ConnectionId, Vec<u8>>,
    now: Moment,
    /// Milliseconds since 1970.
    unix_milliseconds: u64,
    /// How often it was started.
    lives: u64,
    settings: Settings,
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// In order.
    Stop,
    /// All that was written stays.
    Kill,
    /// What was not synced is kept, lost or torn, as this number decides.
    PowerCut(u64),
}

impl Cores {
    fn new(count: u16) -> Self {
        Self::with_settings(count, |_| ())
    }

    fn with_settings(count: u16, change: impl Fn(&mut Settings)) -> Self {
        let mut settings = Settings::new(&Config::default(), count);
        settings.durability = Durability::Fsync;
        settings.tuning.heartbeat_seconds = 0;
        change(&mut settings);
        let lanes = || (0..count).map(|_| VecDeque::new()).collect();
        let mut cores = Self {
            shards: Vec::new(),
            pools: (0..count).map(|_| BufferPool::new(256 * 1024, 4)).collect(),
            events: (0..count).map(|_| Vec::new()).collect(),
            lanes: (0..count).map(|_| lanes()).collect(),
            syncs: (0..count).map(|_| None).collect(),
            disks: (0..count).map(|_| MemoryDisk::new()).collect(),
            are_syncs_run: true,
            without_syncs: Vec::new(),
            are_lanes_slow: false,
            without_mail: Vec::new(),
            are_sockets_written: true,
            written: BTreeMap::new(),
            now: Moment(1),
            unix_milliseconds: 0,
            lives: 0,
            settings,
        };
        cores.start(true);
        cores
    }

    /// Begins a life with what is on the disks.
    fn start(&mut self, was_clean: bool) {
        self.lives += 1;
        let lives = self.lives;
        let logs = self.disks.iter().zip(0..).map(|(disk, shard)| {
            let options = LogOptions {
                segment_bytes: 1 << 20,
                log_id: lives << 8 | u64::from(shard),
                ..LogOptions::default()
            };
            let (log, found) = Log::open(disk.share(), ShardId(shard), options).expect("the log is whole");
            OpenedLog { log, found }
        });
        let count = self.disks.len() as u16;
        let options = RecoveryOptions {
            shards: count,
            was_clean,
            least_queue: self.lives << 32,
            unix_milliseconds: self.unix_milliseconds,
        };
        let dealt = deal(logs.collect(), options).expect("whole logs are dealt");
        let shards = dealt.into_iter().enumerate().map(|(index, dealt)| {
            Shard::new(Beginning {
                id: ShardId(index as u16),
                shards: count,
                settings: self.settings.clone(),
                identity: ServerIdentity::new("test", "fsync", index as u16, "PLAIN"),
                users: dealt.users,
                control: dealt.control,
                topology: dealt.topology,
                queues: dealt.queues,
                log: dealt.log,
                seed: index as u64,
                secret_key: index as u128,
            })
        });
        self.shards = shards.collect();
    }

    /// Ends the broker and starts it again; its clients are gone.
    fn restart(&mut self, end: End) {
        if end == End::Stop {
            for shard in &mut self.shards {
                shard.finish_log().expect("the disk takes all");
            }
        }
        self.shards.clear();
        for core in 0..self.disks.len() {
            self.events[core].clear();
            self.lanes[core].iter_mut().for_each(VecDeque::clear);
            self.syncs[core] = None;
            self.disks[core] = match end {
                End::PowerCut(seed) => self.disks[core].crash(seed),
                End::Stop | End::Kill => self.disks[core].kill(),
            };
        }
        self.written.clear();
        self.start(end == End::Stop);
        self.pass_time(0);
    }

    /// A client on `core` with channel 1 open.
    fn connect(&mut self, core: usize) -> ConnectionId {
        let peer = Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)),
        };
        let client = self.shards[core].connect(peer, self.now);
        self.send(client, b"AMQP\0\0\x09\x01");
        let capabilities = FieldTable::builder()
            .boolean("connection.blocked", true)
            .boolean("consumer_cancel_notify", true)
            .build();
        let properties = FieldTable::builder().table("capabilities", &capabilities).build();
        let start_ok = ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        };
        self.call_on(client, 0, start_ok);
        let tune_ok = ConnectionTuneOk {
            channel_max: 2047,
            frame_max: FRAME_MAX,
            heartbeat: 0,
        };
        self.call_on(client, 0, tune_ok);
        let open = ConnectionOpen {
            virtual_host: b"/",
            capabilities: b"",
            insist: false,
        };
        self.call_on(client, 0, open);
        self.call(client, ChannelOpen { out_of_band: b"" });
        assert_eq!(self.read(client).last().expect("an answer"), "channel.open-ok");
        client
    }

    fn call<'m>(&mut self, client: ConnectionId, method: impl Into<Method<'m>>) {
        self.call_on(client, 1, method);
    }

    fn call_on<'m>(&mut self, client: ConnectionId, channel: u16, method: impl Into<Method<'m>>) {
        let mut bytes = Vec::new();
        method.into().encode(channel, &mut bytes);
        self.send(client, &bytes);
    }

    fn declare(&mut self, client: ConnectionId, queue: &str, lane: i32, durable: bool, auto_delete: bool) {
        let arguments = FieldTable::builder().int("x-lane", lane).build();
        self.call(
            client,
            QueueDeclare {
                queue: queue.as_bytes(),
                passive: false,
                durable,
                exclusive: false,
                auto_delete,
                nowait: false,
                arguments: arguments.as_ref(),
            },
        );
    }

    fn declare_with(
        &mut self,
        client: ConnectionId,
        queue: &str,
        durable: bool,
        arguments: FieldTableBuilder,
    ) {
        self.read(client);
        let arguments = arguments.build();
        self.call(
            client,
            QueueDeclare {
                queue: queue.as_bytes(),
                passive: false,
                durable,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: arguments.as_ref(),
            },
        );
        let seen = self.read(client);
        assert!(seen.iter().all(|s| s.starts_with("queue.declare-ok")), "{seen:?}");
    }

    /// How many messages are ready in a queue, `None` if there is no such queue; then the channel is opened again.
    fn count(&mut self, client: ConnectionId, queue: &str) -> Option<u32> {
        let arguments = FieldTable::default();
        self.read(client);
        self.call(
            client,
            QueueDeclare {
                queue: queue.as_bytes(),
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: arguments.as_ref(),
            },
        );
        let seen = self.read(client);
        if let Some(count) = seen[0].strip_prefix("queue.declare-ok ") {
            return Some(count.parse().expect("a count"));
        }
        assert!(seen[0].starts_with("channel.close NOT_FOUND"), "{seen:?}");
        self.call(client, ChannelCloseOk {});
        self.call(client, ChannelOpen { out_of_band: b"" });
        self.read(client);
        None
    }

    /// Gets a message: its body, and whether it comes again; `None` if there is none.
    fn get(&mut self, client: ConnectionId, queue: &str, no_ack: bool) -> Option<String> {
        let get = BasicGet {
            queue: queue.as_bytes(),
            no_ack,
        };
        self.read(client);
        self.call(client, get);
        let got = self.read(client).remove(0);
        got.strip_prefix("basic.get-ok ").map(str::to_owned)
    }

    /// Takes out all that is ready.
    fn get_all(&mut self, client: ConnectionId, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.get(client, queue, true)).collect()
    }

    fn reject(&mut self, client: ConnectionId, delivery_tag: u64, requeue: bool) {
        let reject = BasicReject {
            delivery_tag,
            requeue,
        };
        self.call(client, reject);
    }

    fn consume(&mut self, client: ConnectionId, queue: &str, tag: &str, no_ack: bool) {
        let arguments = FieldTable::default();
        self.call(
            client,
            BasicConsume {
                queue: queue.as_bytes(),
                consumer_tag: tag.as_bytes(),
                no_local: false,
                no_ack,
                exclusive: false,
                nowait: false,
                arguments: arguments.as_ref(),
            },
        );
    }

    /// Bytes from a client, and all that follows from them.
    fn send(&mut self, client: ConnectionId, bytes: &[u8]) {
        self.post(client, bytes);
        self.settle();
    }

    /// Bytes from a client that nobody has looked at yet.
    fn post(&mut self, client: ConnectionId, bytes: &[u8]) {
        let core = usize::from(client.shard.0);
        self.pools[core].collect_returned();
        let buffer = self.pools[core].holding(bytes).expect("a receive buffer is free");
        self.events[core].push(Event::Received {
            slot: (client.slot, client.generation),
            buffer,
        });
    }

    /// A method on channel 1 that nobody has looked at yet.
    fn post_call<'m>(&mut self, client: ConnectionId, method: impl Into<Method<'m>>) {
        let mut bytes = Vec::new();
        method.into().encode(1, &mut bytes);
        self.post(client, &bytes);
    }

    /// Ticks until no core has anything to do.
    fn settle(&mut self) {
        while (0..self.shards.len()).any(|core| self.tick(core)) {}
    }

    /// The coarse timer, everywhere.
    fn pass_time(&mut self, milliseconds: u64) {
        self.now = Moment(self.now.0 + milliseconds * 1_000_000);
        self.unix_milliseconds += milliseconds;
        self.events
            .iter_mut()
            .for_each(|events| events.push(Event::Timer));
        self.settle();
    }

    /// A tick of `core`, if it has something to do.
    fn tick(&mut self, core: usize) -> bool {
        self.gather(core);
        if self.events[core].is_empty() && !self.shards[core].has_work() {
            return false;
        }
        let mut outputs = Outputs::default();
        self.shards[core].set_unix_time(self.unix_milliseconds);
        self.shards[core]
            .tick(&mut self.events[core], self.now, &mut outputs)
            .expect("the disk takes all");
        self.shards[core].check_invariants();
        for (to, batch) in outputs.batches {
            self.lanes[core][usize::from(to.0)].push_back(batch);
        }
        for slot in outputs.writes {
            self.write(core, slot);
        }
        for slot in outputs.reads {
            if let Some(connection) = self.shards[core].connections().get_mut(slot) {
                let input = connection.input.take().expect("it was read");
                assert!(input.rest().is_empty(), "tests send whole frames");
            }
        }
        if let Some(request) = outputs.prepare {
            self.events[core].push(Event::Prepared(request.run()));
        }
        self.syncs[core] = self.syncs[core].take().or(outputs.sync);
        true
    }

    fn gather(&mut self, core: usize) {
        let most = match (self.without_mail.contains(&core), self.are_lanes_slow) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => usize::MAX,
        };
        for from in 0..self.shards.len() {
            let lane = &mut self.lanes[from][core];
            let count = lane.len().min(most);
            let from = ShardId(from as u16);
            let batches = lane.drain(..count);
            self.events[core].extend(batches.map(|batch| Event::Mail { from, batch }));
        }
        if self.are_syncs_run
            && !self.without_syncs.contains(&core)
            && let Some(request) = self.syncs[core].take()
        {
            let result = request.run();
            self.events[core].push(Event::Synced(request, result));
        }
    }

    fn write(&mut self, core: usize, slot: u32) {
        let Some(connection) = self.shards[core].connections().get_mut(slot) else {
            return;
        };
        if !self.are_sockets_written {
            return;
        }
        let written = self.written.entry(connection.id).or_default();
        while let Some(slice) = connection.outbound.first_slice() {
            written.extend_from_slice(slice);
            let count = slice.len();
            connection.outbound.consume(count);
        }
        self.shards[core].relieve(slot);
    }

    /// What a client was sent since it last read, a sentence a method; deliveries with tag and the body's beginning.
    fn read(&mut self, client: ConnectionId) -> Vec<String> {
        let bytes = self.written.remove(&client).unwrap_or_default();
        let (mut at, mut seen) = (0, Vec::new());
        while let Some((frame, used)) = decode_frame(&bytes[at..], FRAME_MAX).expect("frames are well formed")
        {
            at += used;
            match frame.kind {
                FrameKind::Method => seen.push(sentence(&Method::decode(frame.payload).expect("a method"))),
                FrameKind::Body => {
                    let begin = &frame.payload[..frame.payload.len().min(8)];
                    let last = seen.last_mut().expect("a body follows its method");
                    *last = format!("{last} {}", String::from_utf8_lossy(begin));
                }
                _ => {}
            }
        }
        seen
    }

    /// The bytes that `reader` is sent when `client` sends these.
    fn raw_of(&mut self, client: ConnectionId, reader: ConnectionId, bytes: &[u8]) -> Vec<u8> {
        self.read(reader);
        self.send(client, bytes);
        self.written.remove(&reader).unwrap_or_default()
    }

    /// Whether the broker does not read from a client.
    fn is_waiting(&mut self, client: ConnectionId) -> bool {
        let shard = &mut self.shards[usize::from(client.shard.0)];
        shard
            .connections()
            .find(client)
            .expect("it is connected")
            .hold
            .is_some()
    }

    /// Bytes that wait for a client's socket.
    fn output_of(&mut self, client: ConnectionId) -> usize {
        let shard = &mut self.shards[usize::from(client.shard.0)];
        shard
            .connections()
            .find(client)
            .expect("it is connected")
            .outbound
            .len()
    }
}

fn sentence(method: &Method<'_>) -> String {
    let name = method.name();
    match method {
        Method::BasicDeliver(deliver) => {
            let again = if deliver.redelivered { " again" } else { "" };
            format!("{name} {}{again}", deliver.delivery_tag)
        }
        Method::BasicGetOk(ok) if ok.redelivered => format!("{name} again"),
        Method::BasicAck(ack) => format!("{name} {}", ack.delivery_tag),
        Method::QueueDeclareOk(ok) => format!("{name} {}", ok.message_count),
        Method::ChannelClose(close) => format!("{name} {}", String::from_utf8_lossy(close.reply_text)),
        Method::ConnectionBlocked(blocked) => {
            format!("{name} {}", String::from_utf8_lossy(blocked.reason))
        }
        Method::ConnectionClose(close) => format!("{name} {}", String::from_utf8_lossy(close.reply_text)),
        _ => name.to_owned(),
    }
}

/// A publish on channel 1.
fn publish(queue: &str, body: &[u8], is_persistent: bool, mandatory: bool) -> Vec<u8> {
    publish_on(1, queue, body, is_persistent, mandatory)
}

fn publish_on(channel: u16, queue: &str, body: &[u8], is_persistent: bool, mandatory: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    Method::from(BasicPublish {
        exchange: b"",
        routing_key: queue.as_bytes(),
        mandatory,
        immediate: false,
    })
    .encode(channel, &mut bytes);
    let properties = [0x10, 0, if is_persistent { 2 } else { 1 }];
    encode_content(channel, &properties, &[body], FRAME_MAX, &mut bytes);
    bytes
}

/// An array of strings.
fn keys(keys: &[&str]) -> FieldArray {
    let keys = keys.iter().map(|key| FieldValue::LongString(key.as_bytes()));
    keys.fold(FieldArray::new(), FieldArray::with)
}

/// A publish on channel 1 to the default exchange.
fn publish_with(key: &str, body: &str, mandatory: bool, properties: PropertiesBuilder<'_>) -> Vec<u8> {
    let (mut bytes, mut encoded) = (Vec::new(), Vec::new());
    Method::from(BasicPublish {
        exchange: b"",
        routing_key: key.as_bytes(),
        mandatory,
        immediate: false,
    })
    .encode(1, &mut bytes);
    properties.encode(&mut encoded);
    encode_content(1, &encoded, &[body.as_bytes()], FRAME_MAX, &mut bytes);
    bytes
}
