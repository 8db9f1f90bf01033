//! What exchanges with many bindings cost: a topic exchange with 100,000 patterns to match, to grow, to shrink and to
//! hold in memory; and the choice of a consistent-hash exchange among many queues.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lanemq::model::*;
use lanemq::routing::{Envelope, Routed, Router};
use lanemq::topology::{Binding, Change, Destination, Exchange, ExchangeFlags, ExchangeKind, Topology};
use std::hint::black_box;

const BINDINGS: u64 = 100_000;

fn name(text: &str) -> ShortString {
    ShortString::new(text.as_bytes()).expect("a short name")
}

fn exchange(kind: ExchangeKind) -> Change {
    let flags = ExchangeFlags {
        durable: true,
        auto_delete: false,
        internal: false,
    };
    Change::ExchangeDeclared {
        vhost: name("/"),
        exchange: Exchange::new(name("bench"), kind, flags, FieldTable::default()),
    }
}

fn binding(queue: u64, key: &str) -> Binding {
    Binding {
        vhost: name("/"),
        source: name("bench"),
        destination: Destination::Queue(QueueId(queue + 1)),
        routing_key: name(key),
        arguments: FieldTable::default(),
    }
}

fn router(kind: ExchangeKind, bindings: &[Binding]) -> Router {
    let mut router = Router::new();
    router.apply(&exchange(kind));
    for binding in bindings {
        router.apply(&Change::Bound(binding.clone()));
    }
    router
}

/// A fleet's subscriptions: a device's own events, whatever they are; a tenant's, to any depth; a region's alarms of one
/// kind; what anybody says of an order; and a few that listen to much.
fn fleet() -> Vec<Binding> {
    let pattern = |number: u64| match number % 10 {
        _ if number < 20 => format!("eu.site-{number}.#"),
        0..4 => format!("eu.site-{}.device-{number}.*", number % 500),
        4..7 => format!("tenant-{number}.#"),
        7..9 => format!("*.*.alarm.kind-{number}"),
        _ => format!("#.order-{number}.#"),
    };
    (0..BINDINGS)
        .map(|number| binding(number, &pattern(number)))
        .collect()
}

/// The same pattern but for its last word, behind a `#`: what a trie by leading words knows least of.
fn suffixes() -> Vec<Binding> {
    (0..BINDINGS)
        .map(|number| binding(number, &format!("#.suffix-{number}")))
        .collect()
}

/// Stars in all places of a few words, so that many nodes are alive at once.
fn stars() -> Vec<Binding> {
    let word = |number: u64, place: u32| match number >> place & 1 {
        0 => "*".to_owned(),
        _ => format!("w{}", (number >> 8) % 50 + u64::from(place)),
    };
    (0..BINDINGS)
        .map(|number| {
            let words: Vec<_> = (0..8).map(|place| word(number, place)).collect();
            binding(number, &words.join("."))
        })
        .collect()
}

fn route(criterion: &mut Criterion, id: &str, router: &Router, key: &str, expected: usize) {
    let (topology, mut routed) = (Topology::new(), Routed::default());
    let routing_keys = [key.as_bytes()];
    let envelope = Envelope {
        routing_keys: &routing_keys,
        ..Envelope::default()
    };
    let mut group = criterion.benchmark_group("topic-of-100000");
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            router
                .route(&topology, b"/", b"bench", black_box(&envelope), &mut routed)
                .expect("the exchange is there");
        });
    });
    assert_eq!(routed.queues.len(), expected, "{id}");
}

fn topic_match(criterion: &mut Criterion) {
    let fleet = router(ExchangeKind::Topic, &fleet());
    route(
        criterion,
        "device",
        &fleet,
        "eu.site-251.device-3251.temperature",
        1,
    );
    route(
        criterion,
        "site-and-device",
        &fleet,
        "eu.site-1.device-60001.temperature",
        2,
    );
    route(
        criterion,
        "tenant",
        &fleet,
        "tenant-77776.billing.invoice.paid",
        1,
    );
    route(criterion, "alarm", &fleet, "us.site-9.alarm.kind-44447", 1);
    route(
        criterion,
        "order",
        &fleet,
        "shop.web.order-55559.item-3.picked",
        1,
    );
    route(criterion, "nobody", &fleet, "asia.site-1.device-7.temperature", 0);
    let long = vec!["word"; 50].join(".");
    route(criterion, "nobody-50-words", &fleet, &long, 0);
    let suffixes = router(ExchangeKind::Topic, &suffixes());
    route(criterion, "suffix", &suffixes, "a.b.c.suffix-77777", 1);
    let stars = router(ExchangeKind::Topic, &stars());
    route(criterion, "stars", &stars, "w7.w8.w9.w10.w11.w12.w13.w14", 2000);
    route(
        criterion,
        "stars-nobody",
        &stars,
        "w7.w8.w9.w10.w11.w12.w13.zzz",
        1000,
    );
}

fn topic_change(criterion: &mut Criterion) {
    let bindings = fleet();
    let mut group = criterion.benchmark_group("topic-of-100000");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BINDINGS));
    group.bench_function("build", |bencher| {
        bencher.iter_with_large_drop(|| router(ExchangeKind::Topic, &bindings));
    });
    let full = router(ExchangeKind::Topic, &bindings);
    group.bench_function("unbind-all", |bencher| {
        bencher.iter_batched_ref(
            || full.clone(),
            |router| {
                bindings
                    .iter()
                    .for_each(|binding| router.apply(&Change::Unbound(binding.clone())))
            },
            BatchSize::LargeInput,
        );
    });
    let mut all = router(ExchangeKind::Topic, &bindings);
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    group.bench_function("unbind-and-bind-one", |bencher| {
        bencher.iter(|| {
            number = (number + 7_919) % bindings.len();
            all.apply(&Change::Unbound(bindings[number].clone()));
            all.apply(&Change::Bound(bindings[number].clone()));
        });
    });
}

/// What a core's copy takes, of the process's resident memory.
fn topic_memory(_: &mut Criterion) {
    for (id, bindings) in [("fleet", fleet()), ("suffixes", suffixes()), ("stars", stars())] {
        let before = resident_bytes();
        let held = router(ExchangeKind::Topic, &bindings);
        let router_bytes = resident_bytes() - before;
        println!(
            "topic-of-100000/memory/{id}: {} bytes a binding",
            router_bytes / BINDINGS
        );
        drop(black_box(held));
    }
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("linux tells it");
    let resident = pages.split(' ').nth(1).expect("its second number");
    resident.parse::<u64>().expect("a number") * rustix::param::page_size() as u64
}

fn consistent_hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consistent-hash");
    for queues in [4, 32, 1000] {
        let bindings: Vec<_> = (0..queues).map(|queue| binding(queue, "1")).collect();
        let router = router(ExchangeKind::ConsistentHash, &bindings);
        let (topology, mut routed) = (Topology::new(), Routed::default());
        let keys: Vec<String> = (0..1024).map(|number| format!("order.{number}")).collect();
        let mut number = 0;
        group.bench_function(format!("of-{queues}"), |bencher| {
            bencher.iter(|| {
                number = (number + 1) % keys.len();
                let routing_keys = [keys[number].as_bytes()];
                let envelope = Envelope {
                    routing_keys: &routing_keys,
                    ..Envelope::default()
                };
                router
                    .route(&topology, b"/", b"bench", black_box(&envelope), &mut routed)
                    .expect("the exchange is there");
                assert_eq!(routed.queues.len(), 1);
            });
        });
    }
}

criterion_group!(benches, topic_memory, topic_match, topic_change, consistent_hash);
criterion_main!(benches);
