//! Messages that come twice, at queues and exchanges that deduplicate.

use super::*;
use crate::queue::deduplication::Deduplication;
use crate::shard::queues::QueueSlot;

const ENDS: [End; 3] = [End::Stop, End::Kill, End::PowerCut(7)];

fn deduplicating() -> FieldTableBuilder {
    FieldTable::builder()
        .boolean("x-message-deduplication", true)
        .int("x-cache-size", 3)
        .int("x-cache-ttl", 1_000)
}

/// A persistent message with this value, to a queue of `exchange`.
fn message(exchange: &str, key: &str, value: Option<&str>, body: &str) -> Vec<u8> {
    publish_asking((exchange, key), value, body, (false, None))
}

/// The same, which is to come back if it reaches no queue.
fn mandatory(exchange: &str, key: &str, value: Option<&str>, body: &str) -> Vec<u8> {
    publish_asking((exchange, key), value, body, (true, None))
}

fn publish_asking(
    (exchange, key): (&str, &str),
    value: Option<&str>,
    body: &str,
    (mandatory, expiration): (bool, Option<&str>),
) -> Vec<u8> {
    let headers = value.map(|value| {
        FieldTable::builder()
            .string("x-deduplication-header", value)
            .build()
    });
    let (mut bytes, mut properties) = (Vec::new(), Vec::new());
    PropertiesBuilder {
        headers: headers.as_ref().map(FieldTable::as_ref),
        delivery_mode: Some(2),
        expiration: expiration.map(str::as_bytes),
        ..Default::default()
    }
    .encode(&mut properties);
    Method::from(BasicPublish {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        mandatory,
        immediate: false,
    })
    .encode(1, &mut bytes);
    encode_content(1, &properties, &[body.as_bytes()], FRAME_MAX, &mut bytes);
    bytes
}

/// An exchange that deduplicates, and the queue `q` of core `lane`, which has what the exchange lets pass.
fn declare_exchange(cores: &mut Cores, client: ConnectionId, lane: i32) {
    let arguments = deduplicating().build();
    let declare = ExchangeDeclare {
        exchange: b"x",
        kind: b"direct",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    cores.call(client, declare);
    cores.declare_with(client, "q", true, FieldTable::builder().int("x-lane", lane));
    let none = FieldTable::default();
    let bind = QueueBind {
        queue: b"q",
        exchange: b"x",
        routing_key: b"q",
        nowait: false,
        arguments: none.as_ref(),
    };
    cores.call(client, bind);
    cores.read(client);
}

/// The queue `q`, which deduplicates, or that of an exchange which does; the exchange to publish to.
fn scenes(cores: &mut Cores, client: ConnectionId, of_exchange: bool) -> &'static str {
    if of_exchange {
        declare_exchange(cores, client, 1);
        return "x";
    }
    cores.declare_with(client, "q", true, deduplicating().int("x-lane", 1));
    cores.read(client);
    ""
}

#[test]
fn of_messages_with_one_value_the_first_stays_and_all_are_confirmed() {
    for of_exchange in [false, true] {
        let mut cores = Cores::new(2);
        let (near, far) = (cores.connect(0), cores.connect(1));
        let exchange = scenes(&mut cores, near, of_exchange);
        for publisher in [near, far] {
            cores.call(publisher, ConfirmSelect { nowait: false });
        }
        let messages = [
            message(exchange, "q", Some("1"), "first"),
            message(exchange, "q", None, "without"),
            message(exchange, "q", Some("1"), "again"),
            message(exchange, "q", Some("2"), "second"),
            message(exchange, "q", None, "without"),
        ];
        cores.send(near, &messages.concat());
        cores.send(far, &message(exchange, "q", Some("2"), "of another"));
        assert_eq!(cores.read(near).last().map(String::as_str), Some("basic.ack 5"));
        assert_eq!(cores.read(far), ["confirm.select-ok", "basic.ack 1"]);
        assert_eq!(
            cores.get_all(near, "q"),
            ["first", "without", "second", "without"],
            "of an exchange: {of_exchange}"
        );
    }
}

#[test]
fn a_value_is_remembered_when_its_message_has_gone_and_over_a_restart() {
    for of_exchange in [false, true] {
        for end in ENDS {
            let mut cores = Cores::new(2);
            cores.pass_time(1_700_000_000_000);
            let client = cores.connect(0);
            let exchange = scenes(&mut cores, client, of_exchange);
            cores.call(client, ConfirmSelect { nowait: false });
            cores.send(client, &message(exchange, "q", Some("taken"), "taken"));
            assert_eq!(cores.get_all(client, "q"), ["taken"]);
            cores.send(client, &message(exchange, "q", Some("waits"), "waits"));
            cores.restart(end);
            let client = cores.connect(1);
            for value in ["taken", "waits", "new"] {
                cores.send(client, &message(exchange, "q", Some(value), value));
            }
            let found = cores.get_all(client, "q");
            // That it was taken may be lost with the power.
            let mut found: Vec<&str> = found
                .iter()
                .filter(|seen| *seen != "again taken")
                .map(|seen| seen.trim_start_matches("again "))
                .collect();
            if end == ENDS[2] {
                // And that it has arrived where its exchange led.
                found.dedup();
            }
            assert_eq!(found, ["waits", "new"], "{end:?}, of an exchange: {of_exchange}");
        }
    }
}

#[test]
fn values_are_forgotten_by_number_and_by_time() {
    for of_exchange in [false, true] {
        for restarts in [false, true] {
            let mut cores = Cores::new(2);
            cores.pass_time(1_700_000_000_000);
            let mut client = cores.connect(0);
            let exchange = scenes(&mut cores, client, of_exchange);
            for value in ["1", "2", "3", "4"] {
                cores.send(client, &message(exchange, "q", Some(value), value));
                cores.pass_time(100);
            }
            assert_eq!(cores.get_all(client, "q").len(), 4);
            if restarts {
                cores.restart(End::Kill);
                client = cores.connect(0);
            }
            let mut sends = |values: &[&str]| {
                for value in values {
                    cores.send(client, &message(exchange, "q", Some(value), value));
                }
                let found = cores.get_all(client, "q");
                cores.pass_time(700);
                found
            };
            assert_eq!(
                sends(&["2", "3", "4"]),
                Vec::<String>::new(),
                "three are remembered"
            );
            assert_eq!(sends(&["4", "2"]), ["2"], "1000 ms after 2, and 900 after 4");
            assert_eq!(sends(&["4"]), ["4"]);
        }
    }
}

#[test]
fn a_restart_with_messages_that_wait_remembers_the_newest_values() {
    for (end, of_exchange) in ENDS.into_iter().flat_map(|end| [(end, false), (end, true)]) {
        let mut cores = Cores::new(2);
        cores.pass_time(1_700_000_000_000);
        let client = cores.connect(0);
        let exchange = scenes(&mut cores, client, of_exchange);
        cores.call(client, ConfirmSelect { nowait: false });
        for value in ["1", "2", "3", "4", "5", "6"] {
            cores.send(client, &message(exchange, "q", Some(value), value));
        }
        cores.restart(end);
        let client = cores.connect(0);
        for value in ["4", "5", "6", "1"] {
            cores.send(client, &message(exchange, "q", Some(value), "again"));
        }
        let found = cores.get_all(client, "q");
        let again = found.iter().filter(|body| body.ends_with("again"));
        assert_eq!(
            again.count(),
            1,
            "{end:?}, of an exchange: {of_exchange}: {found:?}"
        );
    }
}

#[test]
fn a_value_whose_stub_a_power_cut_took_outlives_its_message() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", true, deduplicating());
    cores.send(client, &message("", "q", Some("a"), "first"));
    let slot = cores.shards[0].queues.slots_in_use()[0];
    let queue = cores.shards[0].queues.get_mut(slot).expect("it is declared");
    let settings = queue.settings.deduplication.clone();
    let mut forgetful = Deduplication::new(settings.expect("it deduplicates"));
    forgetful.remember(b"a", 0, None);
    queue.deduplication = Some(Box::new(forgetful));
    cores.shards[0].complete_stubs(slot);
    assert_eq!(cores.get_all(client, "q"), ["first"]);
    cores.restart(End::Kill);
    let client = cores.connect(0);
    cores.send(client, &message("", "q", Some("a"), "again"));
    assert_eq!(cores.get_all(client, "q"), Vec::<String>::new());
}

#[test]
fn exchanges_that_lead_to_each_other_pass_a_message_on_once() {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    declare_exchange(&mut cores, client, 1);
    let arguments = deduplicating().build();
    let declare = ExchangeDeclare {
        exchange: b"y",
        kind: b"fanout",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    cores.call(client, declare);
    let none = FieldTable::default();
    for (source, destination) in [(b"x", b"y"), (b"y", b"x")] {
        let bind = ExchangeBind {
            destination,
            source,
            routing_key: b"q",
            nowait: false,
            arguments: none.as_ref(),
        };
        cores.call(client, bind);
    }
    cores.read(client);
    for value in [None, Some("a")] {
        cores.send(client, &message("x", "q", value, "body"));
        assert_eq!(cores.get_all(client, "q"), ["body"], "{value:?}");
    }
}

#[test]
fn values_are_forgotten_when_their_time_is_over_though_nobody_publishes() {
    let mut cores = Cores::new(1);
    cores.pass_time(1_700_000_000_000);
    let client = cores.connect(0);
    cores.declare_with(client, "q", true, deduplicating());
    for value in ["a", "b"] {
        cores.send(client, &message("", "q", Some(value), "message"));
        assert_eq!(cores.get_all(client, "q"), ["message"]);
        cores.pass_time(400);
    }
    let slot = cores.shards[0].queues.slots_in_use()[0];
    let mut kept = |pass: u64| {
        cores.pass_time(pass);
        let queue = cores.shards[0].queues.get_mut(slot).expect("it is declared");
        queue.queue.live().count()
    };
    assert_eq!([kept(199), kept(1), kept(399), kept(1)], [2, 1, 1, 0], "stubs");
    assert_eq!(kept(100_000), 0);
}

#[test]
fn what_is_remembered_raises_no_alarm_and_has_a_bound_of_its_own() {
    let mut cores = Cores::with_settings(1, |settings| settings.message_memory_max = 1 << 20);
    let client = cores.connect(0);
    let many = FieldTable::builder()
        .boolean("x-message-deduplication", true)
        .int("x-cache-size", 1_000_000);
    cores.declare_with(client, "q", true, many);
    for value in 0..3_500 {
        cores.send(client, &message("", "q", Some(&format!("{value:0250}")), ""));
        cores.get_all(client, "q");
        if value % 100 == 0 {
            cores.pass_time(1);
        }
    }
    assert!(!cores.shards[0].alarms.is_raised());
    let remembered = cores.shards[0]
        .queues
        .iter()
        .map(QueueSlot::remembered_bytes)
        .sum::<usize>();
    assert!(remembered < 300 << 10, "{remembered} bytes");
    for (value, passes) in [(3_499, false), (0, true)] {
        cores.send(client, &message("", "q", Some(&format!("{value:0250}")), "body"));
        assert_eq!(cores.get_all(client, "q").len(), usize::from(passes), "{value}");
    }
}

/// The queue `q` of core `lane`, which the exchange `x` leads to, has room for one message and refuses more.
fn declare_full_queue(cores: &mut Cores, client: ConnectionId, lane: i32) {
    let arguments = deduplicating().build();
    let declare = ExchangeDeclare {
        exchange: b"x",
        kind: b"direct",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    cores.call(client, declare);
    let full = FieldTable::builder()
        .int("x-lane", lane)
        .int("x-max-length", 1)
        .string("x-overflow", "reject-publish");
    cores.declare_with(client, "q", true, full);
    let none = FieldTable::default();
    let bind = QueueBind {
        queue: b"q",
        exchange: b"x",
        routing_key: b"q",
        nowait: false,
        arguments: none.as_ref(),
    };
    cores.call(client, bind);
    cores.read(client);
}

#[test]
fn what_a_queue_behind_an_exchange_refuses_is_nacked_and_may_come_again() {
    for (core, lane) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut cores = Cores::new(2);
        cores.pass_time(1_700_000_000_000);
        let client = cores.connect(core);
        declare_full_queue(&mut cores, client, lane);
        cores.call(client, ConfirmSelect { nowait: false });
        cores.read(client);
        for value in ["1", "2", "1"] {
            cores.send(client, &message("x", "q", Some(value), value));
        }
        assert_eq!(cores.read(client), ["basic.ack 1", "basic.nack", "basic.ack 3"]);
        let expiring = publish_asking(("x", "q"), Some("3"), "3", (false, Some("0")));
        cores.send(client, &expiring);
        assert_eq!(cores.read(client), ["basic.nack"]);
        assert_eq!(cores.get_all(client, "q"), ["1"]);
        cores.send(client, &message("x", "q", Some("2"), "2"));
        assert_eq!(cores.read(client), ["basic.ack 5"]);
        assert_eq!(
            cores.get_all(client, "q"),
            ["2"],
            "client of {core}, queue of {lane}"
        );
    }
}

#[test]
fn a_transaction_fails_when_a_queue_behind_an_exchange_refuses_a_message() {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    declare_full_queue(&mut cores, client, 1);
    cores.call(client, TxSelect {});
    for value in ["1", "2"] {
        cores.send(client, &message("x", "q", Some(value), value));
    }
    cores.call(client, TxCommit {});
    let told = cores.read(client);
    assert_eq!(told[0], "tx.select-ok");
    assert!(
        told[1].starts_with("channel.close PRECONDITION_FAILED - partial tx completion"),
        "{told:?}"
    );
}

#[test]
fn what_an_exchange_passes_on_is_confirmed_when_the_last_core_has_synced_it() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        declare_exchange(&mut cores, client, lane);
        cores.call(client, ConfirmSelect { nowait: false });
        cores.read(client);
        cores.without_syncs = vec![lane as usize];
        cores.send(client, &message("x", "q", Some("1"), "body"));
        assert_eq!(cores.read(client), Vec::<String>::new());
        cores.without_syncs.clear();
        cores.pass_time(100);
        assert_eq!(cores.read(client), ["basic.ack 1"], "lane {lane}");
    }
}

#[test]
fn a_mandatory_message_comes_back_from_an_exchange_that_leads_nowhere_for_it() {
    for core in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(core);
        declare_exchange(&mut cores, client, 1);
        cores.call(client, ConfirmSelect { nowait: false });
        cores.read(client);
        for key in ["nowhere", "q"] {
            cores.send(client, &mandatory("x", key, Some(key), "body"));
        }
        assert_eq!(
            cores.read(client),
            ["basic.return body", "basic.ack 1", "basic.ack 2"]
        );
        assert_eq!(cores.get_all(client, "q"), ["body"]);
    }
}

#[test]
fn a_dead_letter_that_comes_back_is_no_second_message() {
    for of_exchange in [false, true] {
        let mut cores = Cores::new(2);
        cores.pass_time(1_700_000_000_000);
        let client = cores.connect(0);
        declare_exchange(&mut cores, client, 0);
        let (exchange, work) = match of_exchange {
            true => ("x", FieldTable::builder()),
            false => ("", deduplicating()),
        };
        // What is rejected waits in another queue, and comes back by the way it took first.
        let work = work
            .int("x-lane", 1)
            .string("x-dead-letter-exchange", "")
            .string("x-dead-letter-routing-key", "waiting");
        let waiting = FieldTable::builder()
            .int("x-message-ttl", 100)
            .string("x-dead-letter-exchange", exchange)
            .string("x-dead-letter-routing-key", "work");
        cores.declare_with(client, "work", true, work);
        cores.declare_with(client, "waiting", true, waiting);
        let none = FieldTable::default();
        let bind = QueueBind {
            queue: b"work",
            exchange: b"x",
            routing_key: b"work",
            nowait: false,
            arguments: none.as_ref(),
        };
        cores.call(client, bind);
        cores.send(client, &message(exchange, "work", Some("1"), "once"));
        for delivery_tag in 1..=3 {
            let got = cores.get(client, "work", false);
            assert_eq!(got.as_deref(), Some("once"), "of an exchange: {of_exchange}");
            cores.send(client, &message(exchange, "work", Some("1"), "again"));
            cores.reject(client, delivery_tag, false);
            cores.pass_time(200);
        }
        assert_eq!(cores.get_all(client, "work"), ["once"]);
    }
}

#[test]
fn what_is_remembered_leaves_the_log_when_it_is_forgotten() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", true, deduplicating());
    for value in 0..20 {
        let value = value.to_string();
        cores.send(client, &message("", "q", Some(&value), "message"));
        assert_eq!(cores.get_all(client, "q"), ["message"]);
    }
    cores.restart(End::Stop);
    let id = cores.shards[0]
        .topology
        .queue_id(b"/", b"q")
        .expect("it is durable");
    let kept = |shard: &mut Shard| {
        let (_, queue) = shard.queues.find(id, 0).expect("it is there");
        queue.queue.live().count()
    };
    assert_eq!(kept(&mut cores.shards[0]), 3, "stubs alone");
}

#[test]
fn an_exchange_cannot_deduplicate_and_delay() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    let arguments = deduplicating().string("x-delayed-type", "direct").build();
    let declare = ExchangeDeclare {
        exchange: b"x",
        kind: b"x-delayed-message",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    cores.call(client, declare);
    let seen = cores.read(client);
    assert!(
        seen[0].contains("can't be used with a type that remembers messages"),
        "{seen:?}"
    );
}
