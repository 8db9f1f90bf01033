//! Consumers as cores see them: one at a time, deliveries that are not settled in time, prefetch, refusals.

use super::*;

const SINGLE: (&str, i64) = ("x-single-active-consumer", 1);

fn declare_with(cores: &mut Cores, client: ConnectionId, queue: &str, lane: i32, argument: (&str, i64)) {
    let arguments = FieldTable::builder().int("x-lane", lane);
    let arguments = match argument {
        SINGLE => arguments.boolean(SINGLE.0, true),
        (key, value) => arguments.long(key, value),
    };
    cores.call(
        client,
        QueueDeclare {
            queue: queue.as_bytes(),
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: arguments.build().as_ref(),
        },
    );
    assert_eq!(cores.read(client), ["queue.declare-ok 0"]);
}

fn cancel(cores: &mut Cores, client: ConnectionId, tag: &str) {
    let cancel = BasicCancel {
        consumer_tag: tag.as_bytes(),
        nowait: false,
    };
    cores.call(client, cancel);
}

fn prefetch(cores: &mut Cores, client: ConnectionId, prefetch_count: u16, global: bool) {
    let qos = BasicQos {
        prefetch_size: 0,
        prefetch_count,
        global,
    };
    cores.call(client, qos);
    assert_eq!(cores.read(client), ["basic.qos-ok"]);
}

fn timing_out(milliseconds: u64) -> Cores {
    Cores::with_settings(2, |settings| {
        settings.consumer_timeout_milliseconds = milliseconds
    })
}

const LATE: &str = "channel.close PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value \
                    used: 5000 ms. This timeout value can be configured, see consumers doc guide to learn more";

#[test]
fn one_consumer_at_a_time_is_served_whichever_core_it_is_of() {
    for lane in 0..2 {
        let mut cores = Cores::new(2);
        let [near, far] = [cores.connect(0), cores.connect(1)];
        declare_with(&mut cores, near, "q", lane, SINGLE);
        cores.consume(near, "q", "near", true);
        cores.consume(far, "q", "far", true);
        cores.send(far, &publish("q", b"1", false, false));
        assert_eq!(cores.read(near), ["basic.consume-ok", "basic.deliver 1 1"]);
        assert_eq!(cores.read(far), ["basic.consume-ok"]);
        cancel(&mut cores, near, "near");
        cores.send(far, &publish("q", b"2", false, false));
        assert_eq!(cores.read(near), ["basic.cancel-ok"]);
        assert_eq!(cores.read(far), ["basic.deliver 1 2"]);
    }
}

#[test]
fn what_the_active_consumers_connection_held_goes_to_the_next_when_it_is_lost() {
    let mut cores = Cores::new(2);
    let [first, second] = [cores.connect(1), cores.connect(0)];
    declare_with(&mut cores, second, "q", 0, SINGLE);
    prefetch(&mut cores, first, 1, false);
    cores.consume(first, "q", "first", false);
    cores.consume(second, "q", "second", false);
    for body in [b"1", b"2"] {
        cores.send(second, &publish("q", body, false, false));
    }
    assert_eq!(cores.read(first), ["basic.consume-ok", "basic.deliver 1 1"]);
    assert_eq!(cores.read(second), ["basic.consume-ok"]);
    cores.events[1].push(Event::Disconnected {
        slot: (first.slot, first.generation),
        reason: "gone".into(),
    });
    cores.settle();
    // The second is active before anything comes back, and is sent what is ready at once, or behind that.
    let mut found = cores.read(second);
    found.sort_unstable();
    let ready_first = ["basic.deliver 1 2", "basic.deliver 2 again 1"];
    let in_order = ["basic.deliver 1 again 1", "basic.deliver 2 2"];
    assert!(found == ready_first || found == in_order, "{found:?}");
}

#[test]
fn the_next_consumer_gets_what_is_ready_as_soon_as_the_one_before_is_cancelled() {
    let mut cores = Cores::new(1);
    let [first, second] = [cores.connect(0), cores.connect(0)];
    declare_with(&mut cores, first, "q", 0, SINGLE);
    prefetch(&mut cores, first, 1, false);
    cores.consume(first, "q", "first", false);
    cores.consume(second, "q", "second", false);
    for body in [b"1", b"2"] {
        cores.send(first, &publish("q", body, false, false));
    }
    cores.read(second);
    cancel(&mut cores, first, "first");
    assert_eq!(cores.read(second), ["basic.deliver 1 2"]);
    let requeue = BasicNack {
        delivery_tag: 1,
        multiple: false,
        requeue: true,
    };
    cores.call(first, requeue);
    assert_eq!(cores.read(second), ["basic.deliver 2 again 1"]);
}

#[test]
fn an_exclusive_consumer_of_a_queue_that_serves_one_at_a_time_is_refused() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    declare_with(&mut cores, client, "q", 0, SINGLE);
    let arguments = FieldTable::default();
    cores.call(
        client,
        BasicConsume {
            queue: b"q",
            consumer_tag: b"tag",
            no_local: false,
            no_ack: false,
            exclusive: true,
            nowait: false,
            arguments: arguments.as_ref(),
        },
    );
    let refused = "channel.close ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    assert_eq!(cores.read(client), [refused]);
}

#[test]
fn a_delivery_that_is_not_settled_in_time_closes_its_channel_and_goes_back() {
    for lane in 0..2 {
        let mut cores = timing_out(5000);
        let [client, other] = [cores.connect(0), cores.connect(0)];
        cores.declare(client, "q", lane, false, false);
        cores.consume(client, "q", "tag", false);
        cores.send(other, &publish("q", b"1", false, false));
        cores.read(client);
        for _ in 0..6 {
            cores.pass_time(1000);
            assert_eq!(cores.read(client), [""; 0]);
        }
        cores.pass_time(1000);
        assert_eq!(cores.read(client), [LATE]);
        cores.consume(other, "q", "other", false);
        assert_eq!(cores.read(other), ["basic.consume-ok", "basic.deliver 1 again 1"]);
    }
}

#[test]
fn who_settles_in_time_keeps_its_channel_though_something_is_always_unsettled() {
    let mut cores = timing_out(5000);
    let client = cores.connect(0);
    cores.declare(client, "q", 0, false, false);
    cores.consume(client, "q", "tag", false);
    for tag in 1..40 {
        cores.send(client, &publish("q", b"1", false, false));
        cores.pass_time(1000);
        if tag > 3 {
            let ack = BasicAck {
                delivery_tag: tag - 3,
                multiple: false,
            };
            cores.call(client, ack);
        }
    }
    assert!(
        !cores
            .read(client)
            .iter()
            .any(|method| method.starts_with("channel.close"))
    );
}

#[test]
fn a_queues_own_consumer_timeout_goes_before_the_settings() {
    for (own, is_closed) in [(5000, true), (0, false), (600_000, false)] {
        let mut cores = timing_out(7000);
        let client = cores.connect(0);
        declare_with(&mut cores, client, "q", 0, ("x-consumer-timeout", own));
        cores.consume(client, "q", "tag", false);
        cores.send(client, &publish("q", b"1", false, false));
        cores.read(client);
        (0..20).for_each(|_| cores.pass_time(1000));
        let expected = if is_closed { vec![LATE] } else { vec![] };
        assert_eq!(cores.read(client), expected, "x-consumer-timeout {own}");
    }
}

#[test]
fn a_policys_consumer_timeout_is_in_force_as_soon_as_the_policy_is() {
    let mut cores = timing_out(0);
    let client = cores.connect(1);
    cores.declare(client, "q", 0, false, false);
    cores.consume(client, "q", "tag", false);
    cores.send(client, &publish("q", b"1", false, false));
    (0..20).for_each(|_| cores.pass_time(1000));
    assert!(!cores.read(client).contains(&LATE.to_owned()));
    let policy = r#"{"policies": [
        {"vhost": "/", "name": "p", "pattern": "^q$", "definition": {"consumer-timeout": 5000}}]}"#;
    let definitions = crate::definitions::read(policy).expect("well formed");
    cores.events[0].push(Event::Definitions(Box::new(definitions)));
    cores.settle();
    cores.pass_time(1000);
    assert_eq!(cores.read(client), [LATE]);
}

#[test]
fn consumers_that_need_not_settle_are_never_late() {
    let mut cores = timing_out(5000);
    let client = cores.connect(0);
    cores.declare(client, "q", 0, false, false);
    cores.consume(client, "q", "tag", true);
    cores.send(client, &publish("q", b"1", false, false));
    cores.read(client);
    (0..20).for_each(|_| cores.pass_time(1000));
    assert_eq!(cores.read(client), [""; 0]);
}

#[test]
fn a_prefetch_of_the_consumers_own_lifts_the_one_they_shared() {
    for lane in 0..2 {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        cores.declare(client, "q", lane, false, false);
        cores.read(client);
        prefetch(&mut cores, client, 1, true);
        cores.consume(client, "q", "tag", false);
        for body in [b"1", b"2", b"3"] {
            cores.send(client, &publish("q", body, false, false));
        }
        assert_eq!(cores.read(client), ["basic.consume-ok", "basic.deliver 1 1"]);
        let qos = BasicQos {
            prefetch_size: 0,
            prefetch_count: 1,
            global: false,
        };
        cores.call(client, qos);
        let mut found = cores.read(client);
        found.sort_unstable();
        assert_eq!(found, ["basic.deliver 2 2", "basic.deliver 3 3", "basic.qos-ok"]);
    }
}

#[test]
fn a_priority_that_is_no_integer_is_refused_and_the_largest_integer_is_not() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "q", 0, false, false);
    cores.read(client);
    for (arguments, expected) in [
        (
            FieldTable::builder().long("x-priority", i64::MAX),
            "basic.consume-ok",
        ),
        (
            FieldTable::builder().string("x-priority", "1"),
            "channel.close PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
             \"expected integer, got longstr\"",
        ),
    ] {
        cores.call(
            client,
            BasicConsume {
                queue: b"q",
                consumer_tag: b"",
                no_local: false,
                no_ack: false,
                exclusive: false,
                nowait: false,
                arguments: arguments.build().as_ref(),
            },
        );
        assert_eq!(cores.read(client), [expected]);
    }
}

#[test]
fn a_consumer_tag_is_looked_at_before_the_queue() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "q", 0, false, false);
    cores.consume(client, "q", "tag", false);
    cores.read(client);
    cores.consume(client, "nowhere", "tag", false);
    let reused = "connection.close NOT_ALLOWED - attempt to reuse consumer tag 'tag'";
    assert_eq!(cores.read(client), [reused]);
}

#[test]
fn a_consumer_who_waits_has_what_came_before_a_get_a_count_a_purge_or_a_deletion() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let (client, consumer) = (cores.connect(0), cores.connect(1));
        cores.declare(client, "q", lane, false, false);
        cores.consume(consumer, "q", "tag", false);
        cores.read(client);
        cores.read(consumer);
        let passive = FieldTable::default();
        let asks: [Method<'_>; 4] = [
            BasicGet {
                queue: b"q",
                no_ack: true,
            }
            .into(),
            QueueDeclare {
                queue: b"q",
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: passive.as_ref(),
            }
            .into(),
            QueuePurge {
                queue: b"q",
                nowait: false,
            }
            .into(),
            QueueDelete {
                queue: b"q",
                if_unused: false,
                if_empty: true,
                nowait: false,
            }
            .into(),
        ];
        let mut answers = Vec::new();
        for ask in asks {
            let mut bytes = publish("q", b"message", false, false);
            ask.encode(1, &mut bytes);
            cores.send(client, &bytes);
            answers.extend(cores.read(client));
            let seen = cores.read(consumer);
            assert!(
                seen[0].starts_with("basic.deliver") && seen[0].ends_with(" message"),
                "on core {lane} after {answers:?}: {seen:?}"
            );
        }
        assert_eq!(answers[0], "basic.get-empty", "{answers:?}");
        assert_eq!(answers.len(), 4, "{answers:?}");
    }
}

#[test]
fn what_comes_before_recover_ok_was_returned_to_its_queue() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    // Before messages come back to a queue with a limit, waiting consumers take what is ready.
    cores.declare_with(client, "q", true, FieldTable::builder().int("x-max-length", 10));
    cores.consume(client, "q", "c", false);
    cores.send(client, &publish("q", b"first", true, false));
    cores.read(client);
    let mut bytes = publish("q", b"second", true, false);
    Method::from(BasicRecover { requeue: true }).encode(1, &mut bytes);
    cores.send(client, &bytes);
    assert_eq!(
        cores.read(client),
        [
            "basic.recover-ok",
            "basic.deliver 2 second",
            "basic.deliver 3 again first"
        ]
    );
}
