//! Queues that hold no more than they may, and messages that stand before others.

use super::*;

fn qos(prefetch_count: u16) -> BasicQos {
    BasicQos {
        prefetch_size: 0,
        prefetch_count,
        global: false,
    }
}

#[test]
fn a_queue_that_holds_nothing_gives_a_message_to_a_consumer_who_waits() {
    for (lane, no_ack) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let arguments = FieldTable::builder().int("x-lane", lane).int("x-max-length", 0);
        cores.declare_with(client, "q", false, arguments);
        cores.send(client, &publish("q", b"dropped", false, false));
        assert_eq!(cores.count(client, "q"), Some(0));
        cores.consume(client, "q", "tag", no_ack);
        cores.send(client, &publish("q", b"message", false, false));
        assert_eq!(
            cores.read(client),
            ["basic.consume-ok", "basic.deliver 1 message"]
        );
    }
}

#[test]
fn a_message_that_one_of_two_queues_refuses_is_nacked_though_the_other_kept_it() {
    for lanes in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let arguments = FieldTable::default();
        for (queue, lane, most) in [("full", lanes[0], 0), ("open", lanes[1], 9)] {
            let rules = FieldTable::builder()
                .int("x-lane", lane)
                .int("x-max-length", most)
                .string("x-overflow", "reject-publish");
            cores.declare_with(client, queue, false, rules);
            let bind = QueueBind {
                queue: queue.as_bytes(),
                exchange: b"amq.direct",
                routing_key: b"key",
                nowait: false,
                arguments: arguments.as_ref(),
            };
            cores.call(client, bind);
        }
        cores.call(client, ConfirmSelect { nowait: false });
        cores.read(client);
        let mut bytes = Vec::new();
        Method::from(BasicPublish {
            exchange: b"amq.direct",
            routing_key: b"key",
            mandatory: true,
            immediate: false,
        })
        .encode(1, &mut bytes);
        encode_content(1, &[0, 0], &[b"message"], FRAME_MAX, &mut bytes);
        cores.send(client, &bytes);
        assert_eq!(cores.read(client), ["basic.nack"], "queues on cores {lanes:?}");
        assert_eq!(cores.count(client, "full"), Some(0));
        assert_eq!(cores.get_all(client, "open"), ["message"]);
    }
}

#[test]
fn a_message_that_comes_back_counts_before_it_is_delivered_again() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let arguments = FieldTable::builder().int("x-lane", lane).int("x-max-length", 1);
        cores.declare_with(client, "q", false, arguments);
        cores.call(client, qos(1));
        cores.consume(client, "q", "tag", false);
        cores.read(client);
        for body in ["first", "second"] {
            cores.send(client, &publish("q", body.as_bytes(), false, false));
        }
        assert_eq!(cores.read(client), ["basic.deliver 1 first"]);
        cores.reject(client, 1, true);
        assert_eq!(cores.read(client), ["basic.deliver 2 second"]);
    }
}

#[test]
fn what_consumers_wait_for_is_not_too_much_when_another_message_comes_back() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", false, FieldTable::builder().int("x-max-length", 1));
    cores.send(client, &publish("q", b"first", false, false));
    cores.get(client, "q", false);
    cores.call(client, qos(1));
    cores.consume(client, "q", "tag", false);
    cores.read(client);
    // Both in one tick: the second message is the consumer's before the first comes back.
    let mut bytes = publish("q", b"second", false, false);
    Method::from(BasicReject {
        delivery_tag: 1,
        requeue: true,
    })
    .encode(1, &mut bytes);
    cores.send(client, &bytes);
    assert_eq!(cores.read(client), ["basic.deliver 2 second"]);
    assert_eq!(cores.count(client, "q"), Some(1));
}

#[test]
fn a_queue_that_refuses_messages_keeps_one_that_comes_back() {
    for overflow in ["reject-publish", "reject-publish-dlx"] {
        let mut cores = Cores::new(1);
        let client = cores.connect(0);
        let arguments = FieldTable::builder()
            .int("x-max-length", 1)
            .string("x-overflow", overflow);
        cores.declare_with(client, "q", false, arguments);
        cores.send(client, &publish("q", b"first", false, false));
        cores.get(client, "q", false);
        cores.send(client, &publish("q", b"second", false, false));
        cores.reject(client, 1, true);
        assert_eq!(cores.get_all(client, "q"), ["again first", "second"]);
    }
}

#[test]
fn what_a_full_queue_dead_letters_comes_after_the_message_itself() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    let arguments = FieldTable::default();
    let open = FieldTable::builder()
        .int("x-max-length", 1)
        .string("x-overflow", "reject-publish");
    let full = FieldTable::builder()
        .int("x-max-length", 0)
        .string("x-overflow", "reject-publish-dlx")
        .string("x-dead-letter-exchange", "")
        .string("x-dead-letter-routing-key", "open");
    for (queue, rules) in [("open", open), ("full", full)] {
        cores.declare_with(client, queue, false, rules);
        let bind = QueueBind {
            queue: queue.as_bytes(),
            exchange: b"amq.fanout",
            routing_key: b"",
            nowait: false,
            arguments: arguments.as_ref(),
        };
        cores.call(client, bind);
    }
    let mut bytes = Vec::new();
    Method::from(BasicPublish {
        exchange: b"amq.fanout",
        routing_key: b"",
        mandatory: false,
        immediate: false,
    })
    .encode(1, &mut bytes);
    encode_content(1, &[0, 0], &[b"message"], FRAME_MAX, &mut bytes);
    cores.send(client, &bytes);
    assert_eq!(
        cores.count(client, "open"),
        Some(1),
        "it is full with the message"
    );
}

#[test]
fn priorities_survive_a_restart() {
    for (end, again) in [(End::Stop, ""), (End::Kill, "again ")] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let arguments = FieldTable::builder().int("x-lane", 1).int("x-max-priority", 3);
        cores.declare_with(client, "q", true, arguments);
        for (priority, body) in [
            (0, "low"),
            (2, "middle"),
            (9, "high"),
            (3, "higher"),
            (1, "lower"),
        ] {
            let properties = PropertiesBuilder {
                priority: Some(priority),
                delivery_mode: Some(2),
                ..Default::default()
            };
            cores.send(client, &publish_with("q", body, false, properties));
        }
        cores.restart(end);
        let client = cores.connect(0);
        let expected = ["high", "higher", "middle", "lower", "low"].map(|body| format!("{again}{body}"));
        assert_eq!(cores.get_all(client, "q"), expected);
    }
}
