//! Alarms: who waits, for how long, and what an unfinished message may cost.

use super::*;

const MEBIBYTE: u64 = 1 << 20;

/// A core with 1 MiB for messages, and a queue that holds so many that publishers wait.
fn short_of_memory() -> (Cores, ConnectionId) {
    let mut cores = Cores::with_settings(1, |settings| {
        settings.message_memory_max = MEBIBYTE;
        settings.message_bytes_max = 2 * MEBIBYTE;
    });
    let client = cores.connect(0);
    cores.declare(client, "full", 0, false, false);
    let body = vec![b'.'; 100_000];
    for _ in 0..10 {
        cores.send(client, &publish("full", &body, false, false));
    }
    cores.pass_time(100);
    cores.read(client);
    (cores, client)
}

/// Somebody takes all there is, and the cores hear of it.
fn drain(cores: &mut Cores, client: ConnectionId) {
    cores.consume(client, "full", "drain", true);
    cores.pass_time(100);
    cores.read(client);
}

/// A whole publish on channel 1, frame by frame.
fn frames_of_publish(body: &[u8]) -> Vec<Vec<u8>> {
    let bytes = publish("full", body, false, false);
    split_frames(&bytes).into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn connections_that_wait_do_not_keep_receive_buffers_from_others() {
    let mut cores = Cores::with_settings(1, |settings| settings.message_memory_max = 1 << 20);
    let consumer = cores.connect(0);
    cores.declare(consumer, "queue", 0, false, false);
    let publishers: Vec<ConnectionId> = (0..8).map(|_| cores.connect(0)).collect();
    let body = vec![b'.'; 100_000];
    for _ in 0..10 {
        cores.send(publishers[0], &publish("queue", &body, false, false));
    }
    cores.pass_time(100);
    for &publisher in &publishers {
        cores.send(publisher, &publish("queue", b"waits", false, false));
    }
    assert_eq!(cores.read(publishers[1]), ["connection.blocked low on memory"]);
    cores.consume(consumer, "queue", "tag", true);
    cores.pass_time(100);
    assert_eq!(cores.read(publishers[1]), ["connection.unblocked"]);
    let seen = cores.read(consumer);
    assert_eq!(
        seen.iter().filter(|sentence| sentence.ends_with("waits")).count(),
        8,
        "every publisher went on"
    );
}

#[test]
fn memory_that_queues_hold_for_messages_to_come_raises_no_alarm() {
    let mut cores = Cores::with_settings(1, |settings| settings.message_memory_max = 2 << 20);
    let client = cores.connect(0);
    let body = vec![b'.'; 10_000];
    for number in 0..20 {
        let queue = format!("queue{number}");
        cores.declare(client, &queue, 0, false, false);
        for _ in 0..50 {
            cores.send(client, &publish(&queue, &body, false, false));
        }
        cores.call(
            client,
            QueuePurge {
                queue: queue.as_bytes(),
                nowait: false,
            },
        );
    }
    cores.pass_time(100);
    cores.read(client);
    cores.send(client, &publish("queue0", b"more", false, false));
    cores.consume(client, "queue0", "tag", true);
    assert_eq!(cores.read(client), ["basic.consume-ok", "basic.deliver 1 more"]);
}

#[test]
fn an_unfinished_message_is_no_way_around_an_alarm() {
    let (mut cores, draining) = short_of_memory();
    drain(&mut cores, draining);
    let client = cores.connect(0);
    cores.call_on(client, 2, ChannelOpen { out_of_band: b"" });
    // Method and header of a body that never comes.
    let frames = frames_of_publish(b"never");
    cores.send(client, &frames[..2].concat());
    cores.call(
        draining,
        BasicCancel {
            consumer_tag: b"drain",
            nowait: false,
        },
    );
    let body = vec![b'.'; 100_000];
    for _ in 0..9 {
        cores.send(draining, &publish("full", &body, false, false));
    }
    cores.pass_time(100);
    cores.read(client);
    cores.send(client, &publish_on(2, "full", b"waits", false, false));
    assert!(cores.is_waiting(client));
    assert_eq!(cores.read(client), ["connection.blocked low on memory"]);
    assert_eq!(cores.shards[0].counters.messages_published, 19);
    drain(&mut cores, draining);
    assert_eq!(cores.read(client), ["connection.unblocked"]);
    assert_eq!(cores.shards[0].counters.messages_published, 20);
}

#[test]
fn a_message_that_becomes_complete_during_an_alarm_waits_for_its_end() {
    let (mut cores, client) = short_of_memory();
    drain(&mut cores, client);
    let slow = cores.connect(0);
    let frames = frames_of_publish(&vec![b's'; 300_000]);
    cores.send(slow, &frames[..3].concat());
    cores.call(
        client,
        BasicCancel {
            consumer_tag: b"drain",
            nowait: false,
        },
    );
    let body = vec![b'.'; 100_000];
    for _ in 0..9 {
        cores.send(client, &publish("full", &body, false, false));
    }
    cores.pass_time(100);
    cores.read(slow);
    let published = cores.shards[0].counters.messages_published;
    for frame in &frames[3..] {
        cores.send(slow, frame);
    }
    assert_eq!(cores.read(slow), ["connection.blocked low on memory"]);
    assert_eq!(cores.shards[0].counters.messages_published, published);
    drain(&mut cores, client);
    assert_eq!(cores.read(slow), ["connection.unblocked"]);
    assert_eq!(cores.shards[0].counters.messages_published, published + 1);
}

#[test]
fn unfinished_messages_raise_no_alarm_and_keep_none_up() {
    let (mut cores, client) = short_of_memory();
    let patient = cores.connect(0);
    cores.send(patient, &publish("full", b"waits", false, false));
    assert_eq!(cores.read(patient), ["connection.blocked low on memory"]);
    drain(&mut cores, client);
    assert_eq!(cores.read(patient), ["connection.unblocked"]);
    // Nearly all of the budget in a body whose end never comes.
    let slow = cores.connect(0);
    let frames = frames_of_publish(&vec![b's'; 1_100_000]);
    let (last, others) = frames.split_last().expect("there are frames");
    others.iter().for_each(|frame| cores.send(slow, frame));
    cores.pass_time(100);
    cores.send(patient, &publish("full", b"goes on", false, false));
    assert_eq!(cores.read(patient), Vec::<String>::new());
    assert_eq!(cores.read(client), ["basic.deliver 12 goes on"]);
    cores.send(slow, last);
    assert!(cores.read(client)[0].starts_with("basic.deliver 13 ssssssss"));
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
}

#[test]
fn unfinished_messages_beyond_the_memory_cost_the_connection_that_holds_most() {
    let mut cores = Cores::with_settings(1, |settings| {
        settings.message_memory_max = MEBIBYTE;
        settings.message_bytes_max = 4 * MEBIBYTE;
    });
    let (greedy, modest) = (cores.connect(0), cores.connect(0));
    cores.declare(modest, "full", 0, false, false);
    cores.consume(modest, "full", "tag", true);
    cores.read(modest);
    cores.call_on(greedy, 2, ChannelOpen { out_of_band: b"" });
    let modest_frames = frames_of_publish(&vec![b'm'; 400_000]);
    let begun = &modest_frames[..4];
    begun.iter().for_each(|frame| cores.send(modest, frame));
    cores.read(greedy);
    let body = vec![b'g'; 3 << 20];
    let mut refused = Vec::new();
    for channel in [1, 2] {
        let bytes = publish_on(channel, "full", &body, false, false);
        let frames = split_frames(&bytes);
        for frame in &frames[..frames.len() - 1] {
            cores.send(greedy, frame);
            refused.extend(cores.read(greedy));
        }
    }
    let [text] = &refused[..] else {
        panic!("refused once: {refused:?}");
    };
    assert!(
        text.starts_with("connection.close RESOURCE_ERROR - low on memory, and "),
        "{text}"
    );
    modest_frames[4..]
        .iter()
        .for_each(|frame| cores.send(modest, frame));
    assert!(cores.read(modest)[0].starts_with("basic.deliver 1 mmmmmmmm"));
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
}

#[test]
fn unfinished_messages_make_way_when_queues_fill_up_behind_them() {
    let mut cores = Cores::with_settings(1, |settings| {
        settings.message_memory_max = 4 * MEBIBYTE;
        settings.message_bytes_max = MEBIBYTE;
    });
    let publisher = cores.connect(0);
    cores.declare(publisher, "full", 0, false, false);
    let slow: Vec<ConnectionId> = (0..3).map(|_| cores.connect(0)).collect();
    let frames = frames_of_publish(&vec![b's'; 1_000_000]);
    for &client in &slow {
        frames[..frames.len() - 1]
            .iter()
            .for_each(|frame| cores.send(client, frame));
    }
    cores.pass_time(100);
    let body = vec![b'.'; 100_000];
    for _ in 0..30 {
        cores.send(publisher, &publish("full", &body, false, false));
    }
    cores.pass_time(100);
    let refused = slow.iter().filter(|&&client| !cores.read(client).is_empty());
    assert_eq!(
        refused.count(),
        2,
        "one of the largest size is always let through"
    );
    assert!(cores.shards[0].unfinished_bytes <= MEBIBYTE + u64::from(FRAME_MAX));
}

#[test]
fn a_message_of_the_largest_size_is_let_through_whatever_queues_hold() {
    let mut cores = Cores::with_settings(1, |settings| {
        settings.message_memory_max = MEBIBYTE;
        settings.message_bytes_max = 4 * MEBIBYTE;
    });
    let client = cores.connect(0);
    cores.declare(client, "full", 0, false, false);
    cores.consume(client, "full", "tag", true);
    cores.read(client);
    for frame in frames_of_publish(&vec![b'l'; 4 << 20]) {
        cores.send(client, &frame);
        assert!(
            cores.shards[0].unfinished_bytes <= 4 * MEBIBYTE + 11,
            "names and properties besides"
        );
    }
    assert!(cores.read(client)[0].starts_with("basic.deliver 1 llllllll"));
}

#[test]
fn publishers_wait_while_the_disk_is_low_and_go_on_when_it_has_room() {
    let mut cores = Cores::with_settings(2, |settings| settings.disk_free_min = 8 * MEBIBYTE);
    let (publisher, consumer) = (cores.connect(1), cores.connect(1));
    cores.declare(publisher, "queue", 1, true, false);
    cores.read(publisher);
    cores.disks[0].set_capacity(8 * MEBIBYTE);
    cores.pass_time(1000);
    cores.send(publisher, &publish("queue", b"kept", true, false));
    assert_eq!(
        cores.read(publisher),
        ["connection.blocked low on disk"],
        "a core's disk is everybody's matter"
    );
    cores.consume(consumer, "queue", "tag", true);
    assert_eq!(cores.read(consumer), ["basic.consume-ok"]);
    // A little more than the least is not enough to begin again.
    cores.disks[0].set_capacity(11 * MEBIBYTE);
    cores.pass_time(1000);
    assert!(cores.is_waiting(publisher));
    cores.disks[0].set_capacity(64 * MEBIBYTE);
    cores.pass_time(1000);
    assert_eq!(cores.read(publisher), ["connection.unblocked"]);
    assert_eq!(cores.read(consumer), ["basic.deliver 1 kept"]);
}

fn split_frames(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut at, mut frames) = (0, Vec::new());
    while let Some((_, used)) = decode_frame(&bytes[at..], FRAME_MAX).expect("frames are well formed") {
        frames.push(&bytes[at..at + used]);
        at += used;
    }
    frames
}
