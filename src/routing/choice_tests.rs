//! The exchanges that choose one binding: random, local random, modulus hash and consistent hash, through the router.

use std::collections::BTreeMap;

use super::*;
use crate::model::{FieldTable, ShardId, VshardId};
use crate::topology::{Destination, Exchange, ExchangeFlags, ExchangeKind, QueueDefinition};

/// A topology and its router.
#[derive(Default)]
struct World {
    topology: Topology,
    router: Router,
}

impl World {
    fn apply(&mut self, change: &Change) {
        self.topology.apply(change);
        self.router.apply(change);
    }

    fn exchange(&mut self, name: &'static str, kind: ExchangeKind, arguments: FieldTable) {
        let flags = ExchangeFlags {
            durable: true,
            auto_delete: false,
            internal: false,
        };
        self.apply(&Change::ExchangeDeclared {
            vhost: ShortString::from("/"),
            exchange: Exchange::new(ShortString::from(name), kind, flags, arguments),
        });
    }

    fn queue(&mut self, id: u64, owner: u16) {
        self.apply(&Change::QueueDeclared(QueueDefinition {
            id: QueueId(id),
            vhost: ShortString::from("/"),
            name: ShortString::truncated(&format!("q{id}")),
            vshard: VshardId(0),
            owner: ShardId(owner),
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::default(),
        }));
    }

    fn bind(&mut self, source: &'static str, destination: Destination, key: &'static str) {
        self.apply(&Change::Bound(Binding {
            vhost: ShortString::from("/"),
            source: ShortString::from(source),
            destination,
            routing_key: ShortString::from(key),
            arguments: FieldTable::default(),
        }));
    }

    /// How many of a thousand messages each queue gets; `key` is each one's routing key.
    fn publish(&self, exchange: &str, home: u16, key: impl Fn(u64) -> String) -> BTreeMap<u64, u64> {
        let (mut routed, mut counts) = (Routed::default(), BTreeMap::new());
        for number in 0..1000 {
            let key = key(number);
            let envelope = Envelope {
                routing_keys: &[key.as_bytes()],
                home: ShardId(home),
                chance: number,
                ..Envelope::default()
            };
            self.router
                .route(&self.topology, b"/", exchange.as_bytes(), &envelope, &mut routed)
                .expect("the exchange is there");
            assert_eq!(routed.queues.len(), 1, "one binding is chosen");
            *counts.entry(routed.queues[0].0).or_default() += 1;
        }
        counts
    }
}

fn same(_: u64) -> String {
    "key".to_owned()
}

fn own(number: u64) -> String {
    format!("key.{number}")
}

fn to(queue: u64) -> Destination {
    Destination::Queue(QueueId(queue))
}

/// Exchange `x` of `kind`, with a queue on each of two cores and a third that lies on the second.
fn world(kind: ExchangeKind) -> World {
    let mut world = World::default();
    world.exchange("x", kind, FieldTable::default());
    for (id, owner) in [(1, 0), (2, 1), (3, 1)] {
        world.queue(id, owner);
        world.bind("x", to(id), "");
    }
    world
}

fn assert_shares(counts: &BTreeMap<u64, u64>, shares: &[(u64, u64)]) {
    assert_eq!(counts.len(), shares.len(), "{counts:?}");
    for (queue, share) in shares {
        assert!(counts[queue].abs_diff(*share) < 80, "{counts:?}");
    }
}

#[test]
fn chance_chooses_each_binding_as_often_as_any_other() {
    let mut world = world(ExchangeKind::Random);
    assert_shares(&world.publish("x", 0, same), &[(1, 333), (2, 333), (3, 333)]);
    world.bind("x", to(1), "another binding");
    assert_shares(&world.publish("x", 0, same), &[(1, 500), (2, 250), (3, 250)]);
}

#[test]
fn local_chance_stays_on_the_publishers_core_while_a_queue_lives_there() {
    let world = world(ExchangeKind::LocalRandom);
    assert_shares(&world.publish("x", 0, same), &[(1, 1000)]);
    assert_shares(&world.publish("x", 1, same), &[(2, 500), (3, 500)]);
    assert_shares(&world.publish("x", 2, same), &[(1, 333), (2, 333), (3, 333)]);
}

#[test]
fn a_modulus_hash_keeps_a_key_at_one_queue_and_spreads_many() {
    let world = world(ExchangeKind::ModulusHash);
    assert_eq!(world.publish("x", 0, same).len(), 1);
    assert_shares(&world.publish("x", 0, own), &[(1, 333), (2, 333), (3, 333)]);
}

#[test]
fn a_modulus_hash_does_not_depend_on_the_order_of_declarations() {
    let routes = |exchanges: [&'static str; 3]| {
        let mut world = World::default();
        for name in exchanges {
            world.exchange(name, ExchangeKind::ModulusHash, FieldTable::default());
        }
        for (id, name) in [(1, "left"), (2, "right")] {
            world.queue(id, 0);
            world.bind(name, to(id), "");
            world.bind("x", Destination::Exchange(ShortString::from(name)), "");
        }
        world.publish("x", 0, own)
    };
    assert_eq!(routes(["x", "left", "right"]), routes(["right", "x", "left"]));
}

#[test]
fn two_exchanges_on_one_way_choose_by_different_chances() {
    let mut world = World::default();
    world.exchange("x", ExchangeKind::Random, FieldTable::default());
    for (name, first) in [("left", 1), ("right", 3)] {
        world.exchange(name, ExchangeKind::Random, FieldTable::default());
        world.bind("x", Destination::Exchange(ShortString::from(name)), "");
        for id in [first, first + 1] {
            world.queue(id, 0);
            world.bind(name, to(id), "");
        }
    }
    let shares = [(1, 250), (2, 250), (3, 250), (4, 250)];
    assert_shares(&world.publish("x", 0, same), &shares);
}

#[test]
fn an_exchange_without_bindings_passes_on_to_its_alternate() {
    for kind in &ExchangeKind::ALL[4..] {
        let mut world = World::default();
        let arguments = FieldTable::builder().string("alternate-exchange", "amq.fanout");
        world.exchange("x", *kind, arguments.build());
        world.queue(1, 0);
        world.bind("amq.fanout", to(1), "");
        assert_shares(&world.publish("x", 0, same), &[(1, 1000)]);
    }
}

#[test]
fn only_a_route_that_the_key_alone_decides_may_be_kept() {
    let on_header = FieldTable::builder().string("hash-header", "h").build();
    let kinds = [
        (ExchangeKind::Direct, FieldTable::default(), false),
        (ExchangeKind::Fanout, FieldTable::default(), false),
        (ExchangeKind::Topic, FieldTable::default(), false),
        (ExchangeKind::Headers, FieldTable::default(), true),
        (ExchangeKind::ConsistentHash, FieldTable::default(), false),
        (ExchangeKind::ConsistentHash, on_header, true),
        (ExchangeKind::ModulusHash, FieldTable::default(), false),
        (ExchangeKind::Random, FieldTable::default(), true),
        (ExchangeKind::LocalRandom, FieldTable::default(), true),
    ];
    for (kind, arguments, is_for_message_alone) in kinds {
        let mut world = World::default();
        world.exchange("x", kind, arguments.clone());
        world.bind("amq.topic", Destination::Exchange(ShortString::from("x")), "to.x");
        let mut routed = Routed::default();
        let mut alone = |exchange: &str, key: &str| {
            let routing_keys = [key.as_bytes()];
            let envelope = Envelope {
                routing_keys: &routing_keys,
                ..Envelope::default()
            };
            let found =
                world
                    .router
                    .route(&world.topology, b"/", exchange.as_bytes(), &envelope, &mut routed);
            found.expect("the exchange is there");
            routed.is_for_message_alone
        };
        assert_eq!(alone("x", "1"), is_for_message_alone, "{kind:?} {arguments:?}");
        assert_eq!(
            alone("amq.topic", "to.x"),
            is_for_message_alone,
            "{kind:?} behind a topic"
        );
        assert!(!alone("amq.topic", "elsewhere"), "{kind:?} is not met");
    }
}
