//! `Lane`: one core without its sockets. Bytes go into `Shard::tick` and its output is thrown away, so that what is
//! measured is the broker's own work and none of the kernel's.

use lanemq::config::{Config, Durability};
use lanemq::connection::ServerIdentity;
use lanemq::model::{ConnectionId, FieldTable, Moment, ShardId};
use lanemq::protocol::content::encode_content;
use lanemq::protocol::method::*;
use lanemq::protocol::properties::PropertiesBuilder;
use lanemq::runtime::BufferPool;
use lanemq::runtime::disk::Disk;
use lanemq::shard::connections::Peer;
use lanemq::shard::recover::{OpenedLog, RecoveryOptions, deal};
use lanemq::shard::settings::Settings;
use lanemq::shard::{Beginning, Event, Outputs, Shard};
use lanemq::storage::{Log, LogOptions};
use std::net::{Ipv4Addr, SocketAddr};

const BUFFER_BYTES: usize = 144 * 1024;
const CHANNEL: u16 = 1;

/// A core that is fed by hand.
pub struct Lane {
    shard: Shard,
    pool: BufferPool,
    events: Vec<Event>,
    outputs: Outputs,
    now: Moment,
    /// Bytes that the shard wanted written.
    pub bytes_out: u64,
}

impl Lane {
    /// A core over the empty `disk`.
    pub fn new(disk: Box<dyn Disk>, durability: Durability) -> Self {
        let id = ShardId(0);
        let (log, found) = Log::open(disk, id, LogOptions::default()).expect("an empty disk opens");
        let options = RecoveryOptions {
            shards: 1,
            was_clean: true,
            least_queue: 1,
            unix_milliseconds: 0,
        };
        let dealt = deal(vec![OpenedLog { log, found }], options)
            .expect("an empty log is dealt")
            .remove(0);
        let config = Config {
            durability,
            ..Config::default()
        };
        let shard = Shard::new(Beginning {
            id,
            shards: 1,
            settings: Settings::new(&config, 1),
            identity: ServerIdentity::new("bench", durability.name(), 0, "PLAIN"),
            users: dealt.users,
            control: dealt.control,
            topology: dealt.topology,
            queues: dealt.queues,
            log: dealt.log,
            seed: 1,
            secret_key: 1,
        });
        Self {
            shard,
            pool: BufferPool::new(BUFFER_BYTES, 8),
            events: Vec::new(),
            outputs: Outputs::default(),
            now: Moment::default(),
            bytes_out: 0,
        }
    }

    /// A client that has opened channel 1.
    pub fn connect(&mut self) -> ConnectionId {
        let peer = Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)),
        };
        let client = self.shard.connect(peer, self.now);
        let properties = FieldTable::default();
        self.send(client, b"AMQP\0\0\x09\x01");
        let start_ok = ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        };
        self.call(client, 0, start_ok);
        let tune_ok = ConnectionTuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
        };
        self.call(client, 0, tune_ok);
        let open = ConnectionOpen {
            virtual_host: b"/",
            capabilities: b"",
            insist: false,
        };
        self.call(client, 0, open);
        self.call(client, CHANNEL, ChannelOpen { out_of_band: b"" });
        client
    }

    /// Declares a queue.
    pub fn declare(&mut self, client: ConnectionId, queue: &str, durable: bool) {
        let arguments = FieldTable::default();
        let declare = QueueDeclare {
            queue: queue.as_bytes(),
            passive: false,
            durable,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: arguments.as_ref(),
        };
        self.call(client, CHANNEL, declare);
    }

    /// Consumes without acks.
    pub fn consume(&mut self, client: ConnectionId, queue: &str) {
        let arguments = FieldTable::default();
        let consume = BasicConsume {
            queue: queue.as_bytes(),
            consumer_tag: b"bench",
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: arguments.as_ref(),
        };
        self.call(client, CHANNEL, consume);
    }

    /// Sends one method, and lets the shard answer.
    pub fn call<'m>(&mut self, client: ConnectionId, channel: u16, method: impl Into<Method<'m>>) {
        let mut bytes = Vec::new();
        method.into().encode(channel, &mut bytes);
        self.send(client, &bytes);
    }

    /// Bytes from a client, and ticks until nothing is left to do.
    pub fn send(&mut self, client: ConnectionId, bytes: &[u8]) {
        let buffer = self
            .pool
            .holding(bytes)
            .expect("no more buffers are under way than there are");
        self.events.push(Event::Received {
            slot: (client.slot, client.generation),
            buffer,
        });
        while !self.events.is_empty() {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.pool.collect_returned();
        self.shard
            .tick(&mut self.events, self.now, &mut self.outputs)
            .expect("the disk takes all");
        for slot in self.outputs.writes.drain(..) {
            if let Some(connection) = self.shard.connections().get_mut(slot) {
                let count = connection.outbound.len();
                connection.outbound.consume(count);
                self.bytes_out += count as u64;
            }
            self.shard.relieve(slot);
        }
        for slot in self.outputs.reads.drain(..) {
            if let Some(connection) = self.shard.connections().get_mut(slot) {
                connection.input = None;
            }
        }
        // Nothing waits for the disk here: what a sync costs is another measurement.
        if let Some(request) = self.outputs.sync.take() {
            self.events.push(Event::Synced(request, Ok(())));
        }
        if let Some(request) = self.outputs.prepare.take() {
            self.events.push(Event::Prepared(request.run()));
        }
    }
}

/// As many publishes to `queue` as fit a receive buffer, with their number.
pub fn publishes(queue: &str, body_bytes: usize, persistent: bool) -> (Vec<u8>, u64) {
    let (body, mut one) = (vec![b'.'; body_bytes], Vec::new());
    let publish = BasicPublish {
        exchange: b"",
        routing_key: queue.as_bytes(),
        mandatory: false,
        immediate: false,
    };
    let mut properties = Vec::new();
    PropertiesBuilder {
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        ..PropertiesBuilder::default()
    }
    .encode(&mut properties);
    Method::BasicPublish(publish).encode(CHANNEL, &mut one);
    encode_content(CHANNEL, &properties, &[&body], 131_072, &mut one);
    let count = 131_072 / one.len();
    (one.repeat(count), count as u64)
}
