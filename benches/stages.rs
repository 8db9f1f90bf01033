//! What each stage of the road costs by itself: recognise, route, queue, log, encode, and the ring between cores.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lanemq::model::*;
use lanemq::protocol::content::encode_content;
use lanemq::protocol::deliver::DeliverTemplate;
use lanemq::protocol::method::{BasicPublish, Method};
use lanemq::protocol::publish::recognise_publish;
use lanemq::queue::{Arena, Consumer, Entry, Locator, Pauses, Queue};
use lanemq::routing::{Envelope, Routed, Router};
use lanemq::runtime::disk::MemoryDisk;
use lanemq::runtime::ring;
use lanemq::storage::{EntryHeader, Log, LogOptions};
use lanemq::topology::{
    Binding, Change, Destination, Exchange, ExchangeFlags, ExchangeKind, QueueDefinition, Topology,
};
use std::hint::black_box;

const FRAME_MAX: u32 = 131_072;
const SIZES: [usize; 3] = [16, 256, 1024];

fn content<'a>(body: &'a [u8]) -> Content<'a> {
    Content {
        exchange: b"",
        routing_key: b"orders",
        properties: &[0x10, 0, 2],
        body,
    }
}

fn recognise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recognise");
    for size in SIZES {
        let mut method = Vec::new();
        let publish = BasicPublish {
            exchange: b"",
            routing_key: b"orders",
            mandatory: false,
            immediate: false,
        };
        Method::BasicPublish(publish).encode(1, &mut method);
        let mut one = method.clone();
        encode_content(1, &[0x10, 0, 2], &[&vec![b'.'; size]], FRAME_MAX, &mut one);
        let count = 131_072 / one.len();
        let input = one.repeat(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                let (mut at, mut bodies) = (0, 0);
                while let Some(publish) = recognise_publish(&input[at..], &method, FRAME_MAX) {
                    at += publish.length as usize;
                    bodies += publish.body.len();
                }
                assert_eq!(bodies, count * size);
                bodies
            });
        });
    }
}

fn shared_name(name: String) -> ShortString {
    ShortString::new(name.as_bytes()).expect("a short name")
}

/// A thousand queues, each bound to the exchange `kind` by `key(queue)`.
fn bound(kind: ExchangeKind, key: impl Fn(usize) -> String) -> (Topology, Router) {
    let (mut topology, mut router) = (Topology::new(), Router::new());
    let mut apply = |change: Change| {
        router.apply(&change);
        topology.apply(&change);
    };
    let (vhost, exchange) = (ShortString::from("/"), ShortString::from("bench"));
    apply(Change::ExchangeDeclared {
        vhost: vhost.clone(),
        exchange: Exchange::new(
            exchange.clone(),
            kind,
            ExchangeFlags {
                durable: true,
                auto_delete: false,
                internal: false,
            },
            FieldTable::default(),
        ),
    });
    for number in 0..1000 {
        let name = shared_name(format!("queue.{number}"));
        apply(Change::QueueDeclared(QueueDefinition {
            id: QueueId(number as u64 + 1),
            vhost: vhost.clone(),
            name: name.clone(),
            vshard: VshardId(0),
            owner: ShardId(0),
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::default(),
        }));
        apply(Change::Bound(Binding {
            vhost: vhost.clone(),
            source: exchange.clone(),
            destination: Destination::Queue(QueueId(number as u64 + 1)),
            routing_key: shared_name(key(number)),
            arguments: FieldTable::default(),
        }));
    }
    (topology, router)
}

fn route_one(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    (topology, router): (Topology, Router),
    exchange: &[u8],
    key: &[u8],
) {
    let mut routed = Routed::default();
    let routing_keys = [key];
    let envelope = Envelope {
        routing_keys: &routing_keys,
        ..Envelope::default()
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            router
                .route(
                    &topology,
                    b"/",
                    black_box(exchange),
                    black_box(&envelope),
                    &mut routed,
                )
                .expect("the exchange is there");
            assert_eq!(routed.queues.len(), 1);
        });
    });
}

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let own = |number: usize| format!("route.{number}.event");
    route_one(
        &mut group,
        "default-of-1000",
        bound(ExchangeKind::Direct, own),
        b"",
        b"queue.500",
    );
    route_one(
        &mut group,
        "direct-of-1000",
        bound(ExchangeKind::Direct, own),
        b"bench",
        b"route.500.event",
    );
    let star = |number: usize| format!("route.{number}.*");
    route_one(
        &mut group,
        "topic-of-1000",
        bound(ExchangeKind::Topic, star),
        b"bench",
        b"route.500.event",
    );
}

fn consumer() -> Consumer {
    Consumer {
        id: ConsumerId {
            connection: ConnectionId {
                shard: ShardId(0),
                slot: 0,
                generation: 0,
            },
            channel: ChannelNumber(1),
            number: 1,
        },
        no_ack: false,
        prefetch_count: 0,
        exclusive: false,
        priority: 0,
        pauses: Pauses::default(),
        grant: u32::MAX,
    }
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(1));
    let entry = Entry {
        locator: Locator::Shared(1),
        body_bytes: 16,
        delivery_count: 0,
        priority: 0,
        redelivered: false,
    };
    let mut acking = Queue::new();
    acking.add_consumer(consumer()).expect("nobody is exclusive");
    group.bench_function("push-deliver-acknowledge", |bencher| {
        bencher.iter(|| {
            acking.push(black_box(entry));
            let delivery = acking
                .next_delivery()
                .expect("a consumer without a limit takes it");
            acking.acknowledge(delivery.sequence)
        });
    });
    let mut direct = Queue::new();
    let no_ack = Consumer {
        no_ack: true,
        ..consumer()
    };
    direct.add_consumer(no_ack).expect("nobody is exclusive");
    group.bench_function("hand-off-of-a-run", |bencher| {
        bencher.iter(|| direct.hand_off(black_box(512)));
    });
    for size in SIZES {
        let body = vec![b'.'; size];
        let mut arena = Arena::new();
        // A thousand stay behind, as in a queue that is not empty.
        let mut slots: std::collections::VecDeque<_> =
            (0..1000).map(|_| arena.store(&content(&body))).collect();
        group.bench_function(format!("arena-{size}"), |bencher| {
            bencher.iter(|| {
                slots.push_back(arena.store(&content(&body)));
                let slot = slots.pop_front().expect("there are a thousand");
                black_box(arena.read(slot));
                arena.release(slot);
            });
        });
    }
}

fn log(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    for size in SIZES {
        let body = vec![b'.'; size];
        let open = || {
            let options = LogOptions::default();
            Log::open(Box::new(MemoryDisk::new()), ShardId(0), options)
                .expect("an empty disk opens")
                .0
        };
        const RUN: u64 = 512;
        group.throughput(Throughput::Elements(RUN));
        let mut sequence = 0;
        group.bench_function(format!("append-{size}"), |bencher| {
            bencher.iter_batched_ref(
                open,
                |log| {
                    for _ in 0..RUN {
                        sequence += 1;
                        let entry = EntryHeader::new(QueueId(1), VshardId(0), QueueSequence(sequence));
                        black_box(log.append_message(&[entry], content(&body), None));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let template = DeliverTemplate::new(1, b"amq.ctag-bench", b"", b"orders");
    for size in SIZES {
        let body = vec![b'.'; size];
        let mut out = Vec::with_capacity(1 << 20);
        let run = (512 * 1024 / (size + 100)) as u64;
        group.throughput(Throughput::Elements(run));
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                out.clear();
                for tag in 0..run {
                    template.encode(tag, false, &[0x10, 0, 2], &body, FRAME_MAX, &mut out);
                }
                out.len()
            });
        });
    }
}

/// Items between two threads, in batches of 64 as a busy core sends them.
fn cross(criterion: &mut Criterion) {
    const COUNT: u64 = 1 << 18;
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(COUNT));
    group.sample_size(20);
    group.bench_function("between-two-threads", |bencher| {
        bencher.iter(|| {
            let (mut sender, mut receiver) = ring::ring::<u64>(1024);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let mut next = 0;
                    while next < COUNT {
                        while next < COUNT && sender.try_send(next).is_ok() {
                            next += 1;
                        }
                        std::hint::spin_loop();
                    }
                });
                let mut expected = 0;
                while expected < COUNT {
                    while let Some(item) = receiver.receive() {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                    std::hint::spin_loop();
                }
            });
        });
    });
}

criterion_group!(benches, recognise, route, queue, log, encode, cross);
criterion_main!(benches);
