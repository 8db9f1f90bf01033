//! Faults that were found on the road of a message, each with the smallest story that shows it.

use super::*;

fn cancel(tag: &str) -> BasicCancel<'_> {
    BasicCancel {
        consumer_tag: tag.as_bytes(),
        nowait: false,
    }
}

/// A consumer that acknowledges.
fn consume(queue: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: queue.as_bytes(),
        consumer_tag: b"tag",
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: crate::model::FieldTableRef::default(),
    }
}

fn qos(prefetch_count: u16, global: bool) -> BasicQos {
    BasicQos {
        prefetch_size: 0,
        prefetch_count,
        global,
    }
}

fn ack(delivery_tag: u64) -> BasicAck {
    BasicAck {
        delivery_tag,
        multiple: false,
    }
}

#[test]
fn a_persistent_message_forwarded_beside_large_transient_ones_is_confirmed_after_its_sync() {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    cores.declare(client, "far", 1, true, false);
    cores.call(client, ConfirmSelect { nowait: false });
    cores.send(client, &publish("far", b"first", false, false));
    cores.read(client);
    cores.are_syncs_run = false;
    let large = vec![b'.'; 20_000];
    let run = [
        publish("far", b"kept", true, false),
        publish("far", &large, false, false),
        publish("far", b"last", false, false),
    ];
    cores.send(client, &run.concat());
    assert_eq!(
        cores.read(client),
        Vec::<String>::new(),
        "nothing is confirmed before the sync"
    );
    cores.are_syncs_run = true;
    cores.settle();
    assert_eq!(cores.read(client), ["basic.ack 4"]);
}

#[test]
fn a_queue_declared_while_it_is_being_deleted_is_made_anew() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        cores.declare(client, "going", lane, true, true);
        cores.consume(client, "going", "tag", true);
        cores.read(client);
        // The deletion of a durable queue waits for its sync; the client does not.
        cores.are_syncs_run = false;
        cores.call(client, cancel("tag"));
        assert_eq!(cores.read(client), ["basic.cancel-ok"]);
        cores.declare(client, "going", lane, true, true);
        assert_eq!(cores.read(client), Vec::<String>::new());
        cores.are_syncs_run = true;
        cores.settle();
        assert_eq!(cores.read(client), ["queue.declare-ok 0"]);
        cores.call(client, ConfirmSelect { nowait: false });
        cores.send(client, &publish("going", b"message", true, false));
        cores.consume(client, "going", "tag", true);
        assert_eq!(
            cores.read(client),
            [
                "confirm.select-ok",
                "basic.ack 1",
                "basic.consume-ok",
                "basic.deliver 1 message"
            ],
            "the queue is on core {lane}"
        );
    }
}

#[test]
fn a_passive_declare_of_a_queue_that_is_being_deleted_names_it_in_its_refusal() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "going", 0, true, true);
    cores.consume(client, "going", "tag", true);
    cores.are_syncs_run = false;
    cores.call(client, cancel("tag"));
    cores.read(client);
    let arguments = FieldTable::default();
    cores.call(
        client,
        QueueDeclare {
            queue: b"going",
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: arguments.as_ref(),
        },
    );
    cores.are_syncs_run = true;
    cores.settle();
    assert_eq!(
        cores.read(client),
        ["channel.close NOT_FOUND - no queue 'going' in vhost '/'"]
    );
}

#[test]
fn a_channels_prefetch_holds_over_queues_of_both_cores() {
    let mut cores = Cores::new(2);
    let (publisher, consumer) = (cores.connect(0), cores.connect(0));
    for (queue, lane) in [("near", 0), ("far", 1)] {
        cores.declare(publisher, queue, lane, false, false);
        for number in 0..20 {
            cores.send(
                publisher,
                &publish(queue, format!("{queue}{number}").as_bytes(), false, false),
            );
        }
    }
    cores.call(consumer, qos(3, true));
    cores.consume(consumer, "far", "far", false);
    cores.consume(consumer, "near", "near", false);
    let delivered = |seen: Vec<String>| seen.iter().filter(|s| s.starts_with("basic.deliver")).count();
    assert_eq!(delivered(cores.read(consumer)), 3);
    let mut taken = 3;
    for tag in 1..=40 {
        cores.call(consumer, ack(tag));
        let seen = cores.read(consumer);
        assert!(
            seen.iter().all(|s| !s.contains("again")),
            "no delivery was seen before: {seen:?}"
        );
        taken += delivered(seen);
        assert!(taken as u64 <= tag + 3, "at most three are unacked");
    }
    assert_eq!(taken, 40, "all were delivered in the end");
}

#[test]
fn deliveries_that_go_back_come_again_in_one_round() {
    let mut cores = Cores::with_settings(2, |settings| settings.deliveries_a_tick = 1);
    let (publisher, consumer) = (cores.connect(1), cores.connect(0));
    cores.declare(publisher, "far", 1, false, false);
    for number in 0..3 {
        let body = format!("far{number}");
        cores.send(publisher, &publish("far", body.as_bytes(), false, false));
    }
    cores.read(consumer);
    // Each word takes its time: three deliveries are under way when the first one fills the channel.
    cores.are_lanes_slow = true;
    let mut bytes = Vec::new();
    Method::from(consume("far")).encode(1, &mut bytes);
    Method::from(qos(1, true)).encode(1, &mut bytes);
    cores.post(consumer, &bytes);
    for core in [0, 1, 1, 1, 0, 0] {
        assert!(cores.tick(core));
    }
    // The channel has room again before the third has come.
    cores.without_mail = vec![0];
    cores.post_call(consumer, ack(1));
    cores.tick(0);
    cores.without_mail.clear();
    let mut rounds = 0;
    while cores.tick(0) | cores.tick(1) {
        rounds += 1;
        assert!(rounds < 20, "the cores do not come to rest");
    }
    assert_eq!(
        cores.read(consumer),
        [
            "basic.consume-ok",
            "basic.deliver 1 far0",
            "basic.qos-ok",
            "basic.deliver 2 far1"
        ]
    );
    cores.call(consumer, ack(2));
    assert_eq!(cores.read(consumer), ["basic.deliver 3 far2"]);
}

#[test]
fn consumers_that_share_a_prefetch_get_their_share_though_one_queue_is_nearer_or_longer() {
    for lanes in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let mut cores = Cores::new(2);
        let (publisher, consumer) = (cores.connect(0), cores.connect(0));
        cores.call(consumer, qos(1, true));
        for (queue, lane) in ["a", "b"].into_iter().zip(lanes) {
            cores.declare(publisher, queue, lane, false, false);
            for _ in 0..100 {
                cores.send(publisher, &publish(queue, queue.as_bytes(), false, false));
            }
        }
        cores.consume(consumer, "a", "a", false);
        cores.consume(consumer, "b", "b", false);
        let (mut a, mut b) = (0, 0);
        for tag in 1..=40 {
            for delivery in cores.read(consumer) {
                a += u32::from(delivery.ends_with(" a"));
                b += u32::from(delivery.ends_with(" b"));
            }
            cores.call(consumer, ack(tag));
        }
        assert_eq!(a + b, 40, "one for each ack, queues on cores {lanes:?}");
        assert!(a >= 15 && b >= 15, "queues on cores {lanes:?}: {a} and {b}");
    }
}

#[test]
fn a_full_channel_holds_back_no_consumer_that_does_not_acknowledge() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        for queue in ["acked", "before", "after"] {
            cores.declare(client, queue, lane, false, false);
        }
        cores.call(client, qos(1, true));
        cores.consume(client, "acked", "acked", false);
        cores.consume(client, "before", "before", true);
        cores.send(client, &publish("acked", b"fills", false, false));
        cores.consume(client, "after", "after", true);
        cores.read(client);
        for queue in ["before", "after", "acked"] {
            cores.send(client, &publish(queue, queue.as_bytes(), false, false));
        }
        let seen = cores.read(client);
        assert_eq!(
            seen,
            ["basic.deliver 2 before", "basic.deliver 3 after"],
            "queues on core {lane}"
        );
        cores.call(client, ack(1));
        assert_eq!(
            cores.read(client),
            ["basic.deliver 4 acked"],
            "queues on core {lane}"
        );
    }
}

#[test]
fn what_a_full_channel_sends_back_is_bounded_by_its_prefetch() {
    let mut cores = Cores::new(2);
    let (publisher, consumer) = (cores.connect(1), cores.connect(0));
    cores.call(consumer, qos(5, true));
    for queue in ["a", "b"] {
        cores.declare(publisher, queue, 1, false, false);
        let body = [b'.'; 100];
        cores.send(publisher, &publish(queue, &body, false, false).repeat(200));
        cores.consume(consumer, queue, queue, false);
    }
    for tag in 1..=100 {
        cores.call(consumer, ack(tag));
    }
    let delivered = cores.shards[1].counters.messages_delivered;
    assert!(
        delivered < 105 * 3,
        "deliveries of 105 that were taken: {delivered}"
    );
}

#[test]
fn what_a_client_gets_by_itself_does_not_count_for_the_channels_prefetch() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    for queue in ["got", "consumed"] {
        cores.declare(client, queue, 0, false, false);
    }
    cores.send(client, &publish("got", b"first", false, false));
    cores.call(client, qos(1, true));
    cores.consume(client, "consumed", "tag", false);
    cores.call(
        client,
        BasicGet {
            queue: b"got",
            no_ack: false,
        },
    );
    cores.read(client);
    for body in [b"second", b"third!"] {
        cores.send(client, &publish("consumed", body, false, false));
    }
    assert_eq!(cores.read(client), ["basic.deliver 2 second"]);
    cores.call(client, ack(1));
    assert_eq!(cores.read(client), Vec::<String>::new(), "the channel is full");
    cores.call(client, ack(2));
    assert_eq!(cores.read(client), ["basic.deliver 3 third!"]);
}

#[test]
fn replies_that_a_client_does_not_read_are_bounded() {
    let mut cores = Cores::with_settings(1, |settings| settings.output_bytes_max = 64 * 1024);
    let client = cores.connect(0);
    cores.are_sockets_written = false;
    let body = vec![b'.'; 10_000];
    let unroutable = publish("nobody", &body, false, true);
    cores.send(client, &unroutable.repeat(20));
    let waiting = cores.output_of(client);
    assert!(
        waiting < 20 * 10_000 + 10_000,
        "one receive buffer's worth: {waiting}"
    );
    assert!(cores.is_waiting(client), "nothing more is read");
    cores.are_sockets_written = true;
    cores.write(0, client.slot);
    cores.settle();
    assert!(!cores.is_waiting(client));
    cores.send(client, &unroutable);
    assert_eq!(cores.read(client).len(), 21, "every message came back");
}

#[test]
fn a_consumer_made_while_its_client_does_not_read_gets_nothing_yet() {
    let mut cores = Cores::with_settings(2, |settings| {
        settings.output_bytes_max = 10_000;
        settings.ring_credit_bytes = 50_000;
    });
    let (publisher, consumer) = (cores.connect(1), cores.connect(0));
    let body = vec![b'.'; 1_000];
    for queue in ["a", "b", "c", "d", "e"] {
        cores.declare(publisher, queue, 1, false, false);
        cores.send(publisher, &publish(queue, &body, false, false).repeat(60));
    }
    cores.are_sockets_written = false;
    for queue in ["a", "b", "c", "d", "e"] {
        cores.consume(consumer, queue, queue, true);
    }
    let waiting = cores.output_of(consumer);
    assert!(
        waiting < 10_000 + 2 * 50_000,
        "one lane's credit at most: {waiting}"
    );
    cores.are_sockets_written = true;
    for _ in 0..10 {
        cores.write(0, consumer.slot);
        cores.settle();
    }
    assert_eq!(cores.read(consumer).len(), 5 + 5 * 60, "all came in the end");
}

#[test]
fn a_hand_off_to_another_core_waits_for_that_lanes_credit() {
    let mut cores = Cores::with_settings(2, |settings| settings.ring_credit_bytes = 10_000);
    let (publisher, consumer) = (cores.connect(1), cores.connect(0));
    cores.declare(publisher, "queue", 1, false, false);
    cores.consume(consumer, "queue", "tag", true);
    cores.read(consumer);
    // Core 0 is busy: only core 1 ticks.
    let body = vec![b'.'; 1_000];
    for _ in 0..5 {
        cores.post(publisher, &publish("queue", &body, false, false).repeat(20));
        while cores.tick(1) {}
    }
    let under_way = cores.shards[1].mailbox().unaccepted_bytes(ShardId(0));
    assert!(
        under_way < 10_000 + 20 * 1_100,
        "credit and a run at most: {under_way}"
    );
    cores.settle();
    assert_eq!(cores.read(consumer).len(), 100);
}

#[test]
fn a_shutdown_does_not_wait_for_connections_that_wait() {
    let mut cores = Cores::with_settings(1, |settings| settings.message_memory_max = 1 << 20);
    let client = cores.connect(0);
    cores.declare(client, "queue", 0, false, false);
    cores.send(
        client,
        &publish("queue", &vec![b'.'; 120_000], false, false).repeat(2),
    );
    for _ in 0..7 {
        cores.send(client, &publish("queue", &vec![b'.'; 120_000], false, false));
    }
    cores.pass_time(100);
    cores.send(client, &publish("queue", b"waits", false, false));
    cores.read(client);
    cores.events[0].push(Event::Drain);
    cores.settle();
    assert_eq!(
        cores.read(client),
        ["connection.close CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"]
    );
    cores.call_on(client, 0, ConnectionCloseOk {});
    assert!(cores.shards[0].is_drained());
}
