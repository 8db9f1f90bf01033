//! Exchanges whose routes hold for one message alone, published to as runs and one by one.

use super::*;

/// A core, or more, with a client that takes from queues and counts what it took.
struct Scene {
    cores: Cores,
    publisher: ConnectionId,
    consumer: ConnectionId,
    queues: Vec<&'static str>,
}

impl Scene {
    fn new(
        cores: u16,
        exchange: (&str, FieldTable),
        bindings: &[(&'static str, i32, &str, FieldTable)],
    ) -> Self {
        let mut cores = Cores::new(cores);
        let (publisher, consumer) = (cores.connect(0), cores.connect(0));
        let (kind, arguments) = exchange;
        let declare = ExchangeDeclare {
            exchange: b"x",
            kind: kind.as_bytes(),
            passive: false,
            durable: false,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: arguments.as_ref(),
        };
        cores.call(publisher, declare);
        let mut queues = Vec::new();
        for (queue, lane, key, arguments) in bindings {
            cores.declare(publisher, queue, *lane, false, false);
            let bind = QueueBind {
                queue: queue.as_bytes(),
                exchange: b"x",
                routing_key: key.as_bytes(),
                nowait: false,
                arguments: arguments.as_ref(),
            };
            cores.call(publisher, bind);
            queues.push(*queue);
        }
        let seen = cores.read(publisher);
        assert_eq!(
            seen.iter().filter(|seen| *seen == "queue.bind-ok").count(),
            bindings.len()
        );
        Self {
            cores,
            publisher,
            consumer,
            queues,
        }
    }

    fn publish(&mut self, key: &str, properties: PropertiesBuilder<'_>) -> Vec<u8> {
        let (mut bytes, mut encoded) = (Vec::new(), Vec::new());
        Method::from(BasicPublish {
            exchange: b"x",
            routing_key: key.as_bytes(),
            mandatory: false,
            immediate: false,
        })
        .encode(1, &mut bytes);
        properties.encode(&mut encoded);
        encode_content(1, &encoded, &[b"body"], FRAME_MAX, &mut bytes);
        bytes
    }

    /// Sends the messages in one piece, so that they are recognised as a run, or each by itself.
    fn send(&mut self, messages: &[Vec<u8>], as_run: bool) {
        match as_run {
            true => self.cores.send(self.publisher, &messages.concat()),
            false => messages
                .iter()
                .for_each(|message| self.cores.send(self.publisher, message)),
        }
    }

    /// The number of messages in each queue, which are purged.
    fn counts(&mut self) -> Vec<u32> {
        let mut counts = Vec::new();
        for queue in self.queues.clone() {
            let purge = QueuePurge {
                queue: queue.as_bytes(),
                nowait: false,
            };
            let mut bytes = Vec::new();
            Method::from(purge).encode(1, &mut bytes);
            let raw = self.cores.raw_of(self.consumer, self.consumer, &bytes);
            let (frame, _) = decode_frame(&raw, FRAME_MAX)
                .expect("a frame")
                .expect("a whole one");
            match Method::decode(frame.payload).expect("a method") {
                Method::QueuePurgeOk(ok) => counts.push(ok.message_count),
                other => panic!("an unexpected {other:?}"),
            }
        }
        counts
    }
}

fn none() -> FieldTable {
    FieldTable::default()
}

#[test]
fn chance_decides_anew_for_each_message_of_a_run_and_between_runs() {
    let bindings = [("a", 0, "", none()), ("b", 0, "", none()), ("c", 1, "", none())];
    let mut scene = Scene::new(2, ("x-random", none()), &bindings);
    let message = scene.publish("key", PropertiesBuilder::default());
    for as_run in [true, false] {
        scene.send(&vec![message.clone(); 120], as_run);
        let counts = scene.counts();
        assert_eq!(counts.iter().sum::<u32>(), 120);
        assert!(counts.iter().all(|count| (10..80).contains(count)), "{counts:?}");
    }
}

#[test]
fn a_delayed_message_goes_to_its_blind_copies_as_well() {
    let arguments = FieldTable::builder().string("x-delayed-type", "direct").build();
    let bindings = [("own", 0, "key", none()), ("blind", 1, "blind", none())];
    let mut scene = Scene::new(2, ("x-delayed-message", arguments), &bindings);
    let blind = FieldArray::new().with(FieldValue::LongString(b"blind"));
    let headers = FieldTable::builder()
        .array("BCC", &blind)
        .long("x-delay", 50)
        .build();
    let properties = PropertiesBuilder {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    let message = scene.publish("key", properties);
    scene.send(&[message], false);
    assert_eq!(scene.counts(), [0, 0]);
    scene.cores.pass_time(50);
    assert_eq!(scene.counts(), [1, 1]);
}

#[test]
fn local_chance_crosses_to_no_core_while_there_is_a_queue_on_this_one() {
    let bindings = [("a", 0, "", none()), ("b", 0, "", none()), ("c", 1, "", none())];
    let mut scene = Scene::new(2, ("x-local-random", none()), &bindings);
    let message = scene.publish("key", PropertiesBuilder::default());
    for as_run in [true, false] {
        scene.send(&vec![message.clone(); 120], as_run);
        let counts = scene.counts();
        assert_eq!(counts[0] + counts[1], 120);
        assert!(counts[0] > 20 && counts[1] > 20, "{counts:?}");
    }
    let mut scene = Scene::new(2, ("x-local-random", none()), &bindings[2..]);
    let message = scene.publish("key", PropertiesBuilder::default());
    scene.send(&vec![message; 5], true);
    assert_eq!(scene.counts(), [5]);
}

#[test]
fn messages_of_one_key_are_told_apart_by_their_headers() {
    let wanted = |value: &str| FieldTable::builder().string("h", value).build();
    let by_header = ("headers", none());
    let by_hash = (
        "x-consistent-hash",
        FieldTable::builder().string("hash-header", "h").build(),
    );
    let matching = [("a", 0, "", wanted("1")), ("b", 0, "", wanted("2"))];
    let hashing = [("a", 0, "1", none()), ("b", 0, "1", none())];
    for (exchange, bindings) in [(by_header, matching), (by_hash, hashing)] {
        let kind = exchange.0.to_owned();
        let mut scene = Scene::new(1, exchange, &bindings);
        let messages = ["1", "2", "3", "4", "5", "6", "7", "8"].map(|value| {
            let headers = wanted(value);
            let headers = Some(headers.as_ref());
            scene.publish(
                "key",
                PropertiesBuilder {
                    headers,
                    ..Default::default()
                },
            )
        });
        let mut seen = Vec::new();
        for as_run in [true, false, true] {
            scene.send(&messages, as_run);
            let counts = scene.counts();
            assert!(counts[0] > 0 && counts[1] > 0, "{kind}: {counts:?}");
            seen.push(counts);
        }
        assert!(seen.iter().all(|counts| *counts == seen[0]), "{kind}: {seen:?}");
    }
}

#[test]
fn a_consistent_hash_of_the_key_keeps_each_key_at_one_queue() {
    let bindings = ["a", "b", "c"].map(|queue| (queue, 0, "1", none()));
    let mut scene = Scene::new(1, ("x-consistent-hash", none()), &bindings);
    let mut used = [0; 3];
    for number in 0..60 {
        let message = scene.publish(&format!("key.{number}"), PropertiesBuilder::default());
        scene.send(&vec![message; 3], number % 2 == 0);
        let counts = scene.counts();
        assert_eq!(
            counts.iter().filter(|count| **count == 3).count(),
            1,
            "{counts:?}"
        );
        let at = counts.iter().position(|count| *count == 3).expect("one has all");
        used[at] += 1;
    }
    assert!(used.iter().all(|keys| *keys > 5), "{used:?}");
}
