//! Random declarations for property tests of topology and routing, and what always holds of a topology.

use proptest::prelude::*;

use super::*;
use crate::model::field_table::FieldTableBuilder;
use crate::model::{FieldTable, FieldTableRef, ShardId, VshardId};

pub(crate) fn connection(slot: u32) -> ConnectionId {
    ConnectionId {
        shard: ShardId(0),
        slot,
        generation: 0,
    }
}

/// A declaration by a client, over a small world of names, so that much of it collides.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    DeclareExchange {
        name: &'static str,
        kind: ExchangeKind,
        flags: [bool; 3],
        alternate: Option<&'static str>,
    },
    DeleteExchange {
        name: &'static str,
        if_unused: bool,
    },
    DeclareQueue {
        name: &'static str,
        durable: bool,
        exclusive: bool,
    },
    DeleteQueue {
        name: &'static str,
    },
    BindQueue {
        queue: &'static str,
        source: &'static str,
        key: &'static str,
        arguments: FieldTable,
    },
    UnbindQueue {
        queue: &'static str,
        source: &'static str,
        key: &'static str,
        arguments: FieldTable,
    },
    BindExchange {
        destination: &'static str,
        source: &'static str,
        key: &'static str,
        arguments: FieldTable,
    },
    UnbindExchange {
        destination: &'static str,
        source: &'static str,
        key: &'static str,
        arguments: FieldTable,
    },
}

pub(crate) const EXCHANGES: [&str; 7] = ["x1", "x2", "x3", "x4", "x5", "amq.topic", "amq.match"];
const QUEUES: [&str; 4] = ["q1", "q2", "q3", "q4"];
const KEYS: [&str; 7] = ["", "a", "a.b", "a.*", "#", "#.b", "2"];

fn name_of(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names)
}

fn any_arguments() -> impl Strategy<Value = FieldTable> {
    let one = FieldTable::builder().int("a", 1).build();
    let any = FieldTable::builder()
        .string("x-match", "any")
        .int("a", 1)
        .int("b", 2)
        .build();
    prop::sample::select(vec![FieldTable::default(), FieldTable::default(), one, any])
}

pub(crate) fn any_operation() -> impl Strategy<Value = Operation> {
    any_operation_on(&ExchangeKind::ALL)
}

/// An operation that declares only exchanges of these types.
pub(crate) fn any_operation_on(kinds: &[ExchangeKind]) -> impl Strategy<Value = Operation> + use<> {
    let kind = prop::sample::select(kinds.to_vec());
    let ends = |destinations: &'static [&'static str]| {
        (
            name_of(destinations),
            name_of(&EXCHANGES),
            name_of(&KEYS),
            any_arguments(),
        )
    };
    prop_oneof![
        3 => (name_of(&EXCHANGES[..5]), kind, any::<[bool; 3]>(), prop::option::of(name_of(&EXCHANGES[..5])))
            .prop_map(|(name, kind, flags, alternate)| Operation::DeclareExchange { name, kind, flags, alternate }),
        1 => (name_of(&EXCHANGES[..5]), any::<bool>())
            .prop_map(|(name, if_unused)| Operation::DeleteExchange { name, if_unused }),
        2 => (name_of(&QUEUES), any::<bool>(), any::<bool>())
            .prop_map(|(name, durable, exclusive)| Operation::DeclareQueue { name, durable, exclusive }),
        1 => name_of(&QUEUES).prop_map(|name| Operation::DeleteQueue { name }),
        5 => ends(&QUEUES).prop_map(|(queue, source, key, arguments)| {
            Operation::BindQueue { queue, source, key, arguments }
        }),
        2 => ends(&QUEUES).prop_map(|(queue, source, key, arguments)| {
            Operation::UnbindQueue { queue, source, key, arguments }
        }),
        4 => ends(&EXCHANGES).prop_map(|(destination, source, key, arguments)| {
            Operation::BindExchange { destination, source, key, arguments }
        }),
        2 => ends(&EXCHANGES).prop_map(|(destination, source, key, arguments)| {
            Operation::UnbindExchange { destination, source, key, arguments }
        }),
    ]
}

/// The changes an operation comes to; `number` is a new queue's id, if it declares one.
pub(crate) fn decide(
    topology: &Topology,
    operation: &Operation,
    number: u64,
) -> Result<Vec<Change>, Refusal> {
    let asker = connection(1);
    match operation {
        Operation::DeclareExchange {
            name,
            kind,
            flags: [durable, auto_delete, internal],
            alternate,
        } => {
            let arguments = FieldTable::builder();
            let arguments = match alternate {
                Some(alternate) => arguments.string("alternate-exchange", alternate).build(),
                None => arguments.build(),
            };
            let declare = ExchangeDeclare {
                vhost: b"/",
                name: name.as_bytes(),
                kind: kind.name().as_bytes(),
                passive: false,
                durable: *durable,
                auto_delete: *auto_delete,
                internal: *internal,
                arguments: arguments.as_ref(),
            };
            topology
                .decide_exchange_declare(&declare)
                .map(|change| change.into_iter().collect())
        }
        Operation::DeleteExchange { name, if_unused } => {
            topology.decide_exchange_delete(b"/", name.as_bytes(), *if_unused)
        }
        Operation::DeclareQueue {
            name,
            durable,
            exclusive,
        } => {
            let mut declare = queue_declare(name, FieldTableRef(b""));
            (declare.durable, declare.exclusive) = (*durable, *exclusive);
            Ok(match topology.check_queue_declare(&declare)? {
                DeclareVerdict::Exists(_) => Vec::new(),
                DeclareVerdict::Create => vec![Change::QueueDeclared(definition(&declare, number))],
            })
        }
        Operation::DeleteQueue { name } => {
            let queue = topology.queue(b"/", name.as_bytes());
            Ok(queue
                .map(|queue| topology.queue_deletion_changes(queue.id))
                .unwrap_or_default())
        }
        Operation::BindQueue {
            queue,
            source,
            key,
            arguments,
        } => {
            let (queue, source, key) = (queue.as_bytes(), source.as_bytes(), key.as_bytes());
            topology.decide_queue_bind(b"/", queue, source, key, arguments.as_ref(), asker)
        }
        Operation::UnbindQueue {
            queue,
            source,
            key,
            arguments,
        } => {
            let (queue, source, key) = (queue.as_bytes(), source.as_bytes(), key.as_bytes());
            topology.decide_queue_unbind(b"/", queue, source, key, arguments.as_ref(), asker)
        }
        Operation::BindExchange {
            destination,
            source,
            key,
            arguments,
        } => {
            let (destination, source, key) = (destination.as_bytes(), source.as_bytes(), key.as_bytes());
            topology.decide_exchange_bind(b"/", destination, source, key, arguments.as_ref())
        }
        Operation::UnbindExchange {
            destination,
            source,
            key,
            arguments,
        } => {
            let (destination, source, key) = (destination.as_bytes(), source.as_bytes(), key.as_bytes());
            topology.decide_exchange_unbind(b"/", destination, source, key, arguments.as_ref())
        }
    }
}

fn any_name() -> impl Strategy<Value = ShortString> {
    prop::collection::vec(any::<u8>(), 0..=255)
        .prop_map(|bytes| ShortString::new(&bytes).expect("at most 255 bytes"))
}

fn any_table() -> impl Strategy<Value = FieldTable> {
    let entry = ("[a-z-]{0,9}", any::<i32>(), any::<bool>());
    prop::collection::vec(entry, 0..4).prop_map(|entries| {
        let add = |table: FieldTableBuilder, (key, number, flag): (String, i32, bool)| match flag {
            true => table.int(&key, number),
            false => table.string(&key, number.to_string()),
        };
        entries.into_iter().fold(FieldTable::builder(), add).build()
    })
}

fn any_connection() -> impl Strategy<Value = ConnectionId> {
    (any::<u16>(), any::<u32>(), any::<u32>()).prop_map(|(shard, slot, generation)| ConnectionId {
        shard: ShardId(shard),
        slot,
        generation,
    })
}

prop_compose! {
    fn any_queue()(
        id in any::<u64>(), (vhost, name) in (any_name(), any_name()), (vshard, owner) in any::<(u16, u16)>(),
        (durable, auto_delete) in any::<(bool, bool)>(), exclusive in prop::option::of(any_connection()),
        arguments in any_table(),
    ) -> QueueDefinition {
        let (id, vshard, owner) = (QueueId(id), VshardId(vshard), ShardId(owner));
        QueueDefinition { id, vhost, name, vshard, owner, durable, exclusive, auto_delete, arguments }
    }
}

prop_compose! {
    fn any_binding()(
        (vhost, source, routing_key) in (any_name(), any_name(), any_name()), arguments in any_table(),
        destination in prop_oneof![
            any::<u64>().prop_map(|id| Destination::Queue(QueueId(id))),
            any_name().prop_map(Destination::Exchange),
        ],
    ) -> Binding {
        Binding { vhost, source, destination, routing_key, arguments }
    }
}

prop_compose! {
    fn any_exchange()(
        name in any_name(), flags in any::<[bool; 3]>(), arguments in any_table(),
        alternate in prop::option::of("[a-z]{0,300}"), kind in 0usize..4,
    ) -> Exchange {
        let arguments = match alternate {
            Some(alternate) => FieldTable::builder().string("alternate-exchange", alternate).build(),
            None => arguments,
        };
        let kind = PREDECLARED_EXCHANGES[kind + 1].1;
        let [durable, auto_delete, internal] = flags;
        Exchange::new(name, kind, ExchangeFlags { durable, auto_delete, internal }, arguments)
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let apply_to = prop::sample::select(ApplyTo::ALL.to_vec());
    let pattern = prop::sample::select(vec!["", "^a", "^(?!b).*"]);
    (any_name(), pattern, apply_to, any::<i64>(), any::<i64>()).prop_map(
        |(name, pattern, (apply_to, _), priority, limit)| Policy {
            name,
            pattern: crate::model::Pattern::new(pattern).expect("valid"),
            apply_to,
            priority,
            definition: FieldTable::builder().long("max-length", limit).build(),
        },
    )
}

pub(super) fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_name().prop_map(|name| Change::VhostDeclared {
            name,
            connections: Usage::default()
        }),
        (any_name(), prop::collection::vec(any_name(), 0..3)).prop_map(|(name, tags)| {
            let metadata = VhostMetadata {
                description: name.to_string(),
                default_queue_type: name.clone(),
                tags,
            };
            Change::VhostDescribed { name, metadata }
        }),
        (any_name(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(|(name, connections, queues)| {
            let limits = VhostLimits {
                max_connections: connections.map(u64::from),
                max_queues: queues.map(u64::from),
            };
            Change::VhostLimited { name, limits }
        }),
        (any_name(), any::<bool>(), any_policy()).prop_map(|(vhost, is_operators, policy)| {
            let kind = if is_operators {
                PolicyKind::Operator
            } else {
                PolicyKind::User
            };
            Change::PolicySet { vhost, kind, policy }
        }),
        (any_name(), any_name()).prop_map(|(vhost, name)| Change::PolicyCleared {
            vhost,
            kind: PolicyKind::Operator,
            name
        }),
        any_name().prop_map(|name| Change::VhostDeleted { name }),
        (any_name(), any_exchange())
            .prop_map(|(vhost, exchange)| Change::ExchangeDeclared { vhost, exchange }),
        (any_name(), any_name()).prop_map(|(vhost, name)| Change::ExchangeDeleted { vhost, name }),
        any_queue().prop_map(Change::QueueDeclared),
        any::<u64>().prop_map(|id| Change::QueueDeleted { id: QueueId(id) }),
        any_binding().prop_map(Change::Bound),
        any_binding().prop_map(Change::Unbound),
    ]
}

/// Asserts what holds between the parts of a topology.
pub(super) fn check_invariants(topology: &Topology) {
    for vhost in topology.vhosts.values() {
        for binding in vhost.bindings.iter() {
            assert!(
                vhost.has_exchanges_of(binding),
                "both exchanges of {binding:?} exist"
            );
            if let Destination::Queue(id) = binding.destination {
                assert!(
                    topology.queues.contains_key(&id),
                    "the queue of {binding:?} exists"
                );
            }
            let mut to_its_end = vhost.bindings.leading_to(&binding.destination);
            assert!(
                to_its_end.any(|found| found == binding),
                "{binding:?} is found from its destination"
            );
        }
        for (name, id) in &vhost.queues {
            assert_eq!(
                topology.queues[id].name, *name,
                "a name leads to the queue that has it"
            );
        }
    }
    let names: usize = topology.vhosts.values().map(|vhost| vhost.queues.len()).sum();
    assert_eq!(names, topology.queues.len(), "every queue has one name");
    let exclusive = topology
        .queues
        .values()
        .filter(|queue| queue.exclusive.is_some())
        .count();
    assert_eq!(
        exclusive,
        topology.exclusive.len(),
        "every exclusive queue is found by its connection"
    );
}

proptest! {
    #[test]
    fn declarations_leave_a_sound_topology_whose_snapshot_restores_what_is_durable(
        operations in prop::collection::vec(any_operation(), 0..80),
    ) {
        let (mut topology, mut log) = (Topology::new(), Vec::new());
        for (number, operation) in (1..).zip(&operations) {
            for change in decide(&topology, operation, number).unwrap_or_default() {
                if change.is_durable(&topology) {
                    log.push(change.clone());
                }
                topology.apply(&change);
            }
            check_invariants(&topology);
        }
        let snapshot: Vec<_> = topology.snapshot_durable().collect();
        for source in [&snapshot, &log] {
            let mut restored = Topology::new();
            source.iter().for_each(|change| restored.apply(change));
            check_invariants(&restored);
            prop_assert_eq!(&restored.snapshot_durable().collect::<Vec<_>>(), &snapshot);
            prop_assert_eq!(restored.queues().count(), topology.queues().filter(|queue| queue.durable).count());
        }
    }

    #[test]
    fn a_log_replayed_twice_gives_the_same_topology(
        operations in prop::collection::vec(any_operation(), 0..60),
    ) {
        let (mut topology, mut snapshot_at_half) = (Topology::new(), Vec::new());
        let mut later = Vec::new();
        for (number, operation) in (1..).zip(&operations) {
            if number == operations.len() as u64 / 2 {
                snapshot_at_half = topology.snapshot_durable().collect();
                later.clear();
            }
            for change in decide(&topology, operation, number).unwrap_or_default() {
                if change.is_durable(&topology) {
                    later.push(change.clone());
                }
                topology.apply(&change);
            }
        }
        let mut restored = Topology::new();
        snapshot_at_half.iter().chain(&later).for_each(|change| restored.apply(change));
        let once: Vec<_> = restored.snapshot_durable().collect();
        once.iter().for_each(|change| restored.apply(change));
        prop_assert_eq!(restored.snapshot_durable().collect::<Vec<_>>(), once);
        check_invariants(&restored);
    }

    #[test]
    fn changes_that_do_not_fit_are_passed_over(changes in prop::collection::vec(any_change(), 0..40)) {
        let mut topology = Topology::new();
        for change in &changes {
            topology.apply(change);
            check_invariants(&topology);
        }
        prop_assert_eq!(topology.epoch(), changes.len() as u64);
    }

    #[test]
    fn an_auto_delete_exchange_never_outlives_its_last_binding(
        operations in prop::collection::vec(any_operation(), 0..80),
    ) {
        let (mut topology, mut was_bound) = (Topology::new(), BTreeSet::new());
        for (number, operation) in (1..).zip(&operations) {
            for change in decide(&topology, operation, number).unwrap_or_default() {
                topology.apply(&change);
                match &change {
                    Change::Bound(binding) => {
                        was_bound.insert(binding.source.clone());
                    }
                    Change::ExchangeDeleted { name, .. } => {
                        was_bound.remove(name);
                    }
                    _ => {}
                }
            }
            for name in &was_bound {
                let exchange = topology.exchange(b"/", name.as_bytes()).expect("it was not deleted");
                let is_bound = topology.bindings_from(b"/", name.as_bytes()).next().is_some();
                prop_assert!(is_bound || !exchange.auto_delete, "{} lost its last binding and stays", name);
            }
        }
    }
}

pub(super) fn queue_declare<'a>(name: &'a str, arguments: FieldTableRef<'a>) -> QueueDeclare<'a> {
    QueueDeclare {
        vhost: b"/",
        name: name.as_bytes(),
        server_named: false,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments,
        connection: connection(1),
    }
}

pub(super) fn definition(declare: &QueueDeclare<'_>, number: u64) -> QueueDefinition {
    QueueDefinition {
        id: QueueId(number),
        vhost: ShortString::new(declare.vhost).expect("a short name"),
        name: ShortString::new(declare.name).expect("a short name"),
        vshard: VshardId(number as u16),
        owner: ShardId(0),
        durable: declare.durable && !declare.exclusive,
        exclusive: declare.exclusive.then_some(declare.connection),
        auto_delete: declare.auto_delete,
        arguments: declare.arguments.to_owned(),
    }
}
