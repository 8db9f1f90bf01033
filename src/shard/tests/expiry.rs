//! Time runs out for messages, and for queues that nobody uses.

use super::*;

fn expiring(expiration: &'static [u8], is_persistent: bool) -> PropertiesBuilder<'static> {
    PropertiesBuilder {
        expiration: Some(expiration),
        delivery_mode: Some(if is_persistent { 2 } else { 1 }),
        ..Default::default()
    }
}

#[test]
fn a_message_has_what_is_left_of_its_time_after_a_restart() {
    for end in [End::Stop, End::Kill] {
        for lane in [0, 1] {
            let mut cores = Cores::new(2);
            cores.pass_time(1_700_000_000_000);
            let client = cores.connect(0);
            let lane = || FieldTable::builder().int("x-lane", lane);
            cores.declare_with(client, "common", true, lane().int("x-message-ttl", 100));
            cores.declare_with(client, "own", true, lane());
            for queue in ["common", "own"] {
                let bytes = publish_with(queue, "message", false, expiring(b"100", true));
                cores.send(client, &bytes);
            }
            cores.pass_time(60);
            cores.restart(end);
            let client = cores.connect(0);
            cores.pass_time(39);
            for (left, milliseconds) in [(1, 1), (0, 0)] {
                assert_eq!(cores.count(client, "common"), Some(left), "{end:?}");
                assert_eq!(cores.count(client, "own"), Some(left), "{end:?}");
                cores.pass_time(milliseconds);
            }
        }
    }
}

#[test]
fn a_message_whose_time_came_while_the_broker_was_down_is_not_there_afterwards() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", true, FieldTable::builder());
    cores.send(
        client,
        &publish_with("q", "message", false, expiring(b"100", true)),
    );
    cores.unix_milliseconds += 500;
    cores.restart(End::Kill);
    let client = cores.connect(0);
    assert_eq!(cores.count(client, "q"), Some(0));
}

#[test]
fn an_unacked_message_expires_when_it_comes_back_and_not_before() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let arguments = FieldTable::builder()
            .int("x-lane", lane)
            .string("x-dead-letter-exchange", "")
            .string("x-dead-letter-routing-key", "dead");
        cores.declare_with(client, "dead", false, FieldTable::builder());
        cores.declare_with(client, "q", false, arguments.int("x-message-ttl", 20));
        // What is taken out of the other queue has the tag between.
        for (tag, own) in [(1, None), (3, Some(&b"10"[..]))] {
            let properties = PropertiesBuilder {
                expiration: own,
                ..Default::default()
            };
            cores.send(client, &publish_with("q", "message", false, properties));
            assert_eq!(cores.get(client, "q", false).as_deref(), Some("message"));
            cores.pass_time(30);
            assert_eq!(cores.count(client, "dead"), Some(0));
            cores.reject(client, tag, true);
            assert_eq!(cores.count(client, "q"), Some(0));
            assert_eq!(cores.get_all(client, "dead"), ["message"]);
        }
    }
}

#[test]
fn a_message_expires_at_its_time_behind_one_that_stays() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", false, FieldTable::builder());
    cores.send(client, &publish("q", b"stays", false, false));
    cores.send(client, &publish_with("q", "goes", false, expiring(b"10", false)));
    cores.pass_time(9);
    assert_eq!(cores.count(client, "q"), Some(2));
    cores.pass_time(1);
    assert_eq!(cores.get_all(client, "q"), ["stays"]);
}

#[test]
fn a_delivery_that_does_not_find_its_channel_comes_back_and_expires() {
    let mut cores = Cores::new(2);
    let (publisher, consumer) = (cores.connect(1), cores.connect(0));
    cores.declare_with(publisher, "far", false, FieldTable::builder().int("x-lane", 1));
    cores.consume(consumer, "far", "tag", false);
    // The delivery is under way when its channel closes, and when its time comes.
    cores.without_mail = vec![0];
    let bytes = publish_with("far", "message", false, expiring(b"10", false));
    cores.send(publisher, &bytes);
    let close = ChannelClose {
        reply_code: 200,
        reply_text: b"",
        class_id: 0,
        method_id: 0,
    };
    cores.call(consumer, close);
    cores.pass_time(20);
    cores.without_mail.clear();
    cores.settle();
    assert!(
        !cores
            .read(consumer)
            .iter()
            .any(|s| s.starts_with("basic.deliver"))
    );
    assert_eq!(cores.count(publisher, "far"), Some(0));
}

#[test]
fn a_queue_goes_when_nobody_has_used_it_for_as_long_as_it_says() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let leased = || FieldTable::builder().int("x-lane", lane).int("x-expires", 100);
        cores.declare_with(client, "q", false, leased());
        // A redeclaration, a get and a consumer use it; a publish does not.
        cores.pass_time(90);
        cores.declare_with(client, "q", false, leased());
        cores.pass_time(90);
        assert_eq!(cores.get(client, "q", true), None);
        cores.pass_time(90);
        cores.consume(client, "q", "tag", true);
        cores.pass_time(500);
        let cancel = BasicCancel {
            consumer_tag: b"tag",
            nowait: false,
        };
        cores.call(client, cancel);
        cores.pass_time(99);
        cores.send(client, &publish("q", b"message", false, true));
        assert_eq!(
            cores.read(client),
            ["basic.consume-ok", "basic.cancel-ok"],
            "it takes the message"
        );
        cores.pass_time(1);
        assert_eq!(cores.count(client, "q"), None);
    }
}

#[test]
fn a_queue_that_may_be_unused_for_a_while_has_all_of_it_after_a_restart() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", true, FieldTable::builder().int("x-expires", 100));
    cores.unix_milliseconds += 500;
    cores.restart(End::Kill);
    cores.pass_time(99);
    let client = cores.connect(0);
    assert_eq!(cores.count(client, "q"), Some(0));
    cores.pass_time(100);
    assert_eq!(cores.count(client, "q"), None);
}

#[test]
fn queues_with_many_expired_messages_in_front_all_come_to_deliver() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    let queues = ["a", "b", "c"];
    for queue in queues {
        let arguments = FieldTable::builder().int("x-message-ttl", 100);
        cores.declare_with(client, queue, false, arguments);
        let message = publish_with(queue, "old", false, PropertiesBuilder::default());
        (0..10).for_each(|_| cores.send(client, &message.repeat(300)));
    }
    cores.read(client);
    // All of it falls due in one tick, more than it may take, when each queue gets a consumer and a message that lives.
    cores.now = Moment(cores.now.0 + 100 * 1_000_000);
    cores.unix_milliseconds += 100;
    cores.events[0].push(Event::Timer);
    let mut bytes = Vec::new();
    for queue in queues {
        let none = FieldTable::default();
        let consume = BasicConsume {
            queue: queue.as_bytes(),
            consumer_tag: queue.as_bytes(),
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: true,
            arguments: none.as_ref(),
        };
        Method::from(consume).encode(1, &mut bytes);
        bytes.extend(publish_with(queue, "new", false, PropertiesBuilder::default()));
    }
    cores.send(client, &bytes);
    let mut seen = cores.read(client);
    seen.sort();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen.iter().all(|seen| seen.ends_with(" new")), "{seen:?}");
}
