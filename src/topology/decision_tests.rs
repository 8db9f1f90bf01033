//! Decisions in RabbitMQ's words: what is refused, in which order, and what falls with what.

use super::tests::{check_invariants, connection, definition, queue_declare};
use super::*;
use crate::model::{FieldTable, FieldTableRef, FieldValue};

fn exchange_declare<'a>(name: &'a str, kind: &'a str, arguments: FieldTableRef<'a>) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        vhost: b"/",
        name: name.as_bytes(),
        kind: kind.as_bytes(),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments,
    }
}

/// The exchanges `x` (direct) and `ad` (fanout, auto-delete), the queue `q` and connection 2's exclusive queue `e`.
fn small_world() -> Topology {
    let mut topology = Topology::new();
    let none = FieldTableRef(b"");
    let auto_delete = ExchangeDeclare {
        auto_delete: true,
        ..exchange_declare("ad", "fanout", none)
    };
    for declare in [exchange_declare("x", "direct", none), auto_delete] {
        let change = topology
            .decide_exchange_declare(&declare)
            .expect("a new exchange")
            .expect("a change");
        topology.apply(&change);
    }
    let exclusive = QueueDeclare {
        exclusive: true,
        connection: connection(2),
        ..queue_declare("e", none)
    };
    for (number, declare) in (1..).zip([queue_declare("q", none), exclusive]) {
        assert_eq!(topology.check_queue_declare(&declare), Ok(DeclareVerdict::Create));
        topology.apply(&Change::QueueDeclared(definition(&declare, number)));
    }
    topology
}

fn apply_all(topology: &mut Topology, changes: Result<Vec<Change>, Refusal>) {
    changes
        .expect("it is allowed")
        .iter()
        .for_each(|change| topology.apply(change));
}

fn refused<T: std::fmt::Debug>(verdict: Result<T, Refusal>) -> String {
    verdict.expect_err("it is refused").to_string()
}

const NONE: FieldTableRef<'static> = FieldTableRef(b"");

const LOCKED: &str = "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'e' in vhost '/'. It could \
    be originally declared on another connection or the exclusive property value does not match that of the original \
    declaration.";

#[test]
fn the_default_exchange_cannot_be_touched() {
    let topology = small_world();
    let text = "403 ACCESS_REFUSED - operation not permitted on the default exchange";
    let declare = exchange_declare("", "direct", NONE);
    assert_eq!(refused(topology.decide_exchange_declare(&declare)), text);
    assert_eq!(
        refused(topology.decide_exchange_declare(&ExchangeDeclare {
            passive: true,
            ..declare
        })),
        text
    );
    assert_eq!(refused(topology.decide_exchange_delete(b"/", b"", false)), text);
    assert_eq!(
        refused(topology.decide_queue_bind(b"/", b"none", b"", b"", NONE, connection(1))),
        text
    );
    assert_eq!(
        refused(topology.decide_queue_unbind(b"/", b"q", b"", b"", NONE, connection(1))),
        text
    );
    assert_eq!(
        refused(topology.decide_exchange_bind(b"/", b"x", b"", b"", NONE)),
        text
    );
    assert_eq!(
        refused(topology.decide_exchange_bind(b"/", b"", b"x", b"", NONE)),
        text
    );
    assert_eq!(
        refused(topology.decide_exchange_unbind(b"/", b"", b"x", b"", NONE)),
        text
    );
}

#[test]
fn reserved_names_are_refused_and_predeclared_exchanges_stay() {
    let topology = small_world();
    let new = |name, kind| refused(topology.decide_exchange_declare(&exchange_declare(name, kind, NONE)));
    assert_eq!(
        new("amq.z", "direct"),
        "403 ACCESS_REFUSED - exchange name 'amq.z' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        new("amq.z", "zz"),
        "503 COMMAND_INVALID - unknown exchange type 'zz'"
    );
    assert_eq!(new("z", ""), "503 COMMAND_INVALID - invalid exchange type ''");
    let durable = ExchangeDeclare {
        durable: true,
        ..exchange_declare("amq.direct", "direct", NONE)
    };
    assert_eq!(topology.decide_exchange_declare(&durable), Ok(None));
    assert_eq!(
        refused(topology.decide_exchange_delete(b"/", b"amq.direct", false)),
        "403 ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    let queue = queue_declare("amq.gen-x", NONE);
    assert_eq!(
        refused(topology.check_queue_declare(&queue)),
        "403 ACCESS_REFUSED - queue name 'amq.gen-x' contains reserved prefix 'amq.*'"
    );
    let server_named = QueueDeclare {
        server_named: true,
        ..queue
    };
    assert_eq!(
        topology.check_queue_declare(&server_named),
        Ok(DeclareVerdict::Create)
    );
}

#[test]
fn an_exchange_declared_differently_is_refused_by_its_first_difference() {
    let topology = small_world();
    let other = FieldTable::builder().string("alternate-exchange", "z").build();
    let mut declare = exchange_declare("x", "fanout", other.as_ref());
    (declare.durable, declare.auto_delete, declare.internal) = (true, true, true);
    let text = |declare: &ExchangeDeclare<'_>| {
        let text = refused(topology.decide_exchange_declare(declare));
        text.replace("406 PRECONDITION_FAILED - inequivalent arg ", "")
            .replace(" for exchange 'x' in vhost '/'", "")
    };
    assert_eq!(
        text(&declare),
        "'type': received 'fanout' but current is 'direct'"
    );
    declare.kind = b"direct";
    assert_eq!(
        text(&declare),
        "'durable': received 'true' but current is 'false'"
    );
    declare.durable = false;
    assert_eq!(
        text(&declare),
        "'auto_delete': received 'true' but current is 'false'"
    );
    declare.auto_delete = false;
    assert_eq!(
        text(&declare),
        "'internal': received 'true' but current is 'false'"
    );
    declare.internal = false;
    assert_eq!(
        text(&declare),
        "'alternate-exchange': received the value 'z' of type 'longstr' but current is none"
    );
    let unknown = FieldTable::builder().int("foo", 1).build();
    declare.arguments = unknown.as_ref();
    assert_eq!(topology.decide_exchange_declare(&declare), Ok(None));
    declare.passive = true;
    (declare.kind, declare.internal) = (b"zz", true);
    assert_eq!(topology.decide_exchange_declare(&declare), Ok(None));
    declare.name = b"none";
    assert_eq!(
        refused(topology.decide_exchange_declare(&declare)),
        "404 NOT_FOUND - no exchange 'none' in vhost '/'"
    );
}

#[test]
fn an_alternate_exchange_is_a_string() {
    let arguments = FieldTable::builder().int("alternate-exchange", 5).build();
    let declare = exchange_declare("new", "direct", arguments.as_ref());
    assert_eq!(
        refused(small_world().decide_exchange_declare(&declare)),
        "406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'new' in vhost '/'"
    );
}

#[test]
fn a_queue_declared_differently_is_refused_and_exclusivity_comes_first() {
    let topology = small_world();
    let negative = FieldTable::builder().int("x-message-ttl", -6).build();
    let declare = QueueDeclare {
        durable: true,
        auto_delete: true,
        ..queue_declare("q", negative.as_ref())
    };
    let text = |declare: &QueueDeclare<'_>| refused(topology.check_queue_declare(declare));
    assert_eq!(
        text(&QueueDeclare {
            exclusive: true,
            ..declare
        }),
        LOCKED.replace("'e'", "'q'")
    );
    let head = "406 PRECONDITION_FAILED - inequivalent arg ";
    let durable = "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'";
    assert_eq!(text(&declare), format!("{head}{durable}"));
    let declare = QueueDeclare {
        durable: false,
        ..declare
    };
    assert_eq!(
        text(&declare),
        format!("{head}{}", durable.replace("durable", "auto_delete"))
    );
    let ttl = "'x-message-ttl' for queue 'q' in vhost '/': \
        received the value '-6' of type 'signedint' but current is none";
    assert_eq!(
        text(&QueueDeclare {
            auto_delete: false,
            ..declare
        }),
        format!("{head}{ttl}")
    );
    let unknown = FieldTable::builder().int("x-foo", 1).int("x-lane", 1).build();
    let known = queue_declare("q", unknown.as_ref());
    assert_eq!(
        topology.check_queue_declare(&known),
        Ok(DeclareVerdict::Exists(QueueId(1)))
    );
}

#[test]
fn a_passive_declare_asks_only_whether_the_queue_is_there_and_free() {
    let topology = small_world();
    let negative = FieldTable::builder().int("x-message-ttl", -6).build();
    let declare = QueueDeclare {
        passive: true,
        durable: true,
        ..queue_declare("q", negative.as_ref())
    };
    assert_eq!(
        topology.check_queue_declare(&declare),
        Ok(DeclareVerdict::Exists(QueueId(1)))
    );
    let missing = QueueDeclare {
        name: b"amq.none",
        ..declare
    };
    assert_eq!(
        refused(topology.check_queue_declare(&missing)),
        "404 NOT_FOUND - no queue 'amq.none' in vhost '/'"
    );
    assert_eq!(
        refused(topology.check_queue_declare(&QueueDeclare {
            name: b"e",
            ..declare
        })),
        LOCKED
    );
}

#[test]
fn an_exclusive_queue_is_its_connections_alone() {
    let mut topology = small_world();
    let exclusive = QueueDeclare {
        exclusive: true,
        ..queue_declare("e", NONE)
    };
    assert_eq!(refused(topology.check_queue_declare(&exclusive)), LOCKED);
    assert_eq!(
        refused(topology.check_queue_access(b"/", b"e", connection(1))),
        LOCKED
    );
    assert_eq!(
        refused(topology.decide_queue_bind(b"/", b"e", b"x", b"", NONE, connection(1))),
        LOCKED
    );
    // A durable exclusive queue is not durable, however it is declared.
    let again = QueueDeclare {
        durable: true,
        connection: connection(2),
        ..exclusive
    };
    assert_eq!(
        topology.check_queue_declare(&again),
        Ok(DeclareVerdict::Exists(QueueId(2)))
    );
    assert_eq!(topology.exclusive_queues_of(connection(2)), [QueueId(2)]);
    let bound = topology.decide_queue_bind(b"/", b"e", b"x", b"", NONE, connection(2));
    apply_all(&mut topology, bound);
    assert_eq!(
        refused(topology.decide_queue_unbind(b"/", b"e", b"x", b"", NONE, connection(1))),
        LOCKED
    );
    assert_eq!(
        topology.decide_queue_unbind(b"/", b"e", b"x", b"other", NONE, connection(1)),
        Ok(Vec::new())
    );
    topology.apply(&Change::QueueDeleted { id: QueueId(2) });
    assert_eq!(topology.exclusive_queues_of(connection(2)), []);
}

#[test]
fn binding_what_is_missing_is_refused_and_unbinding_it_is_not() {
    let topology = small_world();
    let (asker, no_queue) = (connection(1), "404 NOT_FOUND - no queue 'none' in vhost '/'");
    let no_exchange = "404 NOT_FOUND - no exchange 'none' in vhost '/'";
    assert_eq!(
        refused(topology.decide_queue_bind(b"/", b"none", b"x", b"", NONE, asker)),
        no_queue
    );
    assert_eq!(
        refused(topology.decide_queue_bind(b"/", b"e", b"none", b"", NONE, asker)),
        no_exchange
    );
    assert_eq!(
        refused(topology.decide_queue_bind(b"/", b"none", b"none", b"", NONE, asker)),
        no_exchange
    );
    assert_eq!(
        refused(topology.decide_exchange_bind(b"/", b"none", b"x", b"", NONE)),
        no_exchange
    );
    assert_eq!(
        refused(topology.decide_exchange_bind(b"/", b"other", b"none", b"", NONE)),
        no_exchange
    );
    for (queue, exchange) in [
        (&b"none"[..], &b"x"[..]),
        (b"q", b"none"),
        (b"none", b"none"),
        (b"q", b"x"),
    ] {
        assert_eq!(
            topology.decide_queue_unbind(b"/", queue, exchange, b"", NONE, asker),
            Ok(Vec::new())
        );
        assert_eq!(
            topology.decide_exchange_unbind(b"/", queue, exchange, b"", NONE),
            Ok(Vec::new())
        );
    }
    assert_eq!(
        topology.decide_exchange_delete(b"/", b"none", true),
        Ok(Vec::new())
    );
}

#[test]
fn a_headers_exchange_refuses_an_unknown_x_match() {
    let topology = small_world();
    let bind = |exchange: &[u8], value: FieldValue<'_>| {
        let arguments = FieldTable::builder().value("x-match", value).build();
        topology.decide_queue_bind(b"/", b"q", exchange, b"", arguments.as_ref(), connection(1))
    };
    assert_eq!(
        refused(bind(b"amq.headers", FieldValue::LongString(b"foo"))),
        "406 PRECONDITION_FAILED - Invalid x-match field value <<\"foo\">>; \
         expected all, any, all-with-x, or any-with-x"
    );
    assert_eq!(
        refused(bind(b"amq.match", FieldValue::Int32(5))),
        "406 PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected longstr"
    );
    assert!(bind(b"amq.headers", FieldValue::LongString(b"any-with-x")).is_ok());
    assert!(bind(b"x", FieldValue::LongString(b"foo")).is_ok());
}

#[test]
fn every_exchange_type_is_declared_by_its_name_and_told_in_quotes_where_erlang_quotes_it() {
    let mut topology = small_world();
    for kind in ExchangeKind::ALL {
        let arguments = FieldTable::builder().string("x-delayed-type", "direct").build();
        let declare = exchange_declare("t", kind.name(), arguments.as_ref());
        let declared = topology.decide_exchange_declare(&declare);
        assert!(
            matches!(&declared, Ok(Some(Change::ExchangeDeclared { exchange, .. })) if exchange.kind == kind)
        );
    }
    let declared = topology.decide_exchange_declare(&exchange_declare("t", "x-random", NONE));
    apply_all(&mut topology, declared.map(|change| change.into_iter().collect()));
    assert_eq!(
        refused(topology.decide_exchange_declare(&exchange_declare("t", "fanout", NONE))),
        "406 PRECONDITION_FAILED - inequivalent arg 'type' for exchange 't' in vhost '/': \
         received 'fanout' but current is ''x-random''"
    );
}

#[test]
fn a_consistent_hash_exchange_refuses_what_it_cannot_hash_by() {
    let mut topology = small_world();
    let arguments = FieldTable::builder().string("hash-property", "foo").build();
    let declare = |name, arguments| exchange_declare(name, "x-consistent-hash", arguments);
    assert_eq!(
        refused(topology.decide_exchange_declare(&declare("c", arguments.as_ref()))),
        "406 PRECONDITION_FAILED - Unsupported property: foo"
    );
    assert_eq!(
        refused(topology.decide_exchange_declare(&declare("amq.c", arguments.as_ref()))),
        "403 ACCESS_REFUSED - exchange name 'amq.c' contains reserved prefix 'amq.*'"
    );
    let declared = topology.decide_exchange_declare(&declare("c", NONE));
    apply_all(&mut topology, declared.map(|change| change.into_iter().collect()));
    assert_eq!(
        topology.decide_exchange_declare(&declare("c", arguments.as_ref())),
        Ok(None),
        "RabbitMQ compares only the alternate exchange"
    );
    let bind = |key: &[u8]| topology.decide_queue_bind(b"/", b"q", b"c", key, NONE, connection(1));
    assert_eq!(bind(b"10").map(|changes| changes.len()), Ok(1));
    assert_eq!(
        refused(bind(b"ten")),
        "406 PRECONDITION_FAILED - The binding key must be an integer: <<\"ten\">>"
    );
    assert_eq!(
        refused(topology.decide_exchange_bind(b"/", b"x", b"c", b"0", NONE)),
        "406 PRECONDITION_FAILED - The binding key must be greater than 0"
    );
    let unbound = topology.decide_queue_unbind(b"/", b"q", b"c", b"ten", NONE, connection(1));
    assert_eq!(unbound, Ok(Vec::new()), "what cannot be bound is not bound");
}

#[test]
fn a_local_random_exchange_takes_queues_without_a_key() {
    let mut topology = small_world();
    let declared = topology.decide_exchange_declare(&exchange_declare("l", "x-local-random", NONE));
    apply_all(&mut topology, declared.map(|change| change.into_iter().collect()));
    let bind = |key: &[u8]| topology.decide_queue_bind(b"/", b"q", b"l", key, NONE, connection(1));
    assert_eq!(bind(b"").map(|changes| changes.len()), Ok(1));
    assert_eq!(
        refused(bind(b"k")),
        "406 PRECONDITION_FAILED - Non empty binding 'k' key not permitted"
    );
    assert_eq!(
        refused(topology.decide_exchange_bind(b"/", b"x", b"l", b"", NONE)),
        "406 PRECONDITION_FAILED - Destination not found"
    );
}

#[test]
fn a_binding_is_one_however_often_and_in_whatever_order_its_arguments_come() {
    let mut topology = small_world();
    let (one, other) = (
        FieldTable::builder().int("a", 1).int("b", 2),
        FieldTable::builder().int("b", 2).int("a", 1),
    );
    let (one, other) = (one.build(), other.build());
    let bound = topology.decide_queue_bind(b"/", b"q", b"x", b"k", one.as_ref(), connection(1));
    apply_all(&mut topology, bound);
    let again = topology.decide_queue_bind(b"/", b"q", b"x", b"k", other.as_ref(), connection(1));
    assert_eq!(again, Ok(Vec::new()));
    let different = topology.decide_queue_bind(b"/", b"q", b"x", b"k", NONE, connection(1));
    apply_all(&mut topology, different);
    assert_eq!(topology.bindings(b"/").count(), 2);
    assert_eq!(
        topology
            .bindings_to(b"/", &Destination::Queue(QueueId(1)))
            .count(),
        2
    );
}

#[test]
fn if_unused_looks_at_bindings_as_source_only() {
    let mut topology = small_world();
    let bound = topology.decide_exchange_bind(b"/", b"x", b"ad", b"", NONE);
    apply_all(&mut topology, bound);
    let text = "406 PRECONDITION_FAILED - exchange 'ad' in vhost '/' in use";
    assert_eq!(refused(topology.decide_exchange_delete(b"/", b"ad", true)), text);
    assert!(topology.decide_exchange_delete(b"/", b"x", true).is_ok());
}

#[test]
fn a_chain_of_auto_delete_exchanges_falls_with_the_queue_at_its_end() {
    let mut topology = small_world();
    let second = ExchangeDeclare {
        auto_delete: true,
        ..exchange_declare("ad2", "direct", NONE)
    };
    let second = topology
        .decide_exchange_declare(&second)
        .map(|change| change.into_iter().collect());
    apply_all(&mut topology, second);
    for bound in [
        topology.decide_exchange_bind(b"/", b"ad2", b"ad", b"", NONE),
        topology.decide_queue_bind(b"/", b"q", b"ad2", b"", NONE, connection(1)),
    ] {
        apply_all(&mut topology, bound);
    }
    let changes = topology.queue_deletion_changes(QueueId(1));
    let kinds: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Unbound(binding) => format!("unbound from {}", binding.source),
            Change::ExchangeDeleted { name, .. } => format!("deleted {name}"),
            Change::QueueDeleted { id } => format!("deleted queue {id}"),
            other => panic!("an unexpected {other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "unbound from ad2",
            "unbound from ad",
            "deleted ad2",
            "deleted ad",
            "deleted queue 1"
        ]
    );
    assert!(
        topology.exchange(b"/", b"ad").is_some(),
        "a decision changes nothing"
    );
}

#[test]
fn an_auto_delete_exchange_stays_while_it_never_was_bound() {
    let mut topology = small_world();
    let nothing = topology.decide_queue_unbind(b"/", b"q", b"ad", b"", NONE, connection(1));
    assert_eq!(nothing, Ok(Vec::new()));
    let bound = topology.decide_exchange_bind(b"/", b"ad", b"ad", b"", NONE);
    apply_all(&mut topology, bound);
    let unbound = topology.decide_exchange_unbind(b"/", b"ad", b"ad", b"", NONE);
    apply_all(&mut topology, unbound);
    assert!(topology.exchange(b"/", b"ad").is_none());
}

#[test]
fn a_vhost_that_is_gone_is_told_so() {
    let mut topology = small_world();
    topology.apply(&Change::VhostDeleted {
        name: ShortString::from("/"),
    });
    check_invariants(&topology);
    assert_eq!(
        refused(topology.check_queue_declare(&queue_declare("q", NONE))),
        "530 NOT_ALLOWED - vhost / not found"
    );
    let snapshot: Vec<_> = topology.snapshot_durable().collect();
    assert_eq!(
        snapshot,
        [Change::VhostDeleted {
            name: ShortString::from("/")
        }]
    );
}

#[test]
fn carriage_returns_and_line_feeds_are_taken_out_of_names() {
    assert_eq!(&*strip_cr_lf(b"a\r\nb\n"), b"ab");
    assert!(matches!(strip_cr_lf(b"ab"), Cow::Borrowed(b"ab")));
}
