//! Direct reply-to: addresses, and replies that meet no queue.

use super::*;
use crate::protocol::properties::Properties;

const REPLY_QUEUE: &str = "amq.rabbitmq.reply-to";

/// A publish on channel 1 to the default exchange, with these properties.
fn publish_with(key: &str, body: &str, mandatory: bool, properties: PropertiesBuilder<'_>) -> Vec<u8> {
    let (mut bytes, mut encoded) = (Vec::new(), Vec::new());
    Method::from(BasicPublish {
        exchange: b"",
        routing_key: key.as_bytes(),
        mandatory,
        immediate: false,
    })
    .encode(1, &mut bytes);
    properties.encode(&mut encoded);
    encode_content(1, &encoded, &[body.as_bytes()], FRAME_MAX, &mut bytes);
    bytes
}

fn reply(address: &str, body: &str, mandatory: bool) -> Vec<u8> {
    publish_with(address, body, mandatory, PropertiesBuilder::default())
}

fn request(reply_to: &str) -> Vec<u8> {
    let properties = PropertiesBuilder {
        content_type: Some(b"text"),
        correlation_id: Some(b"7"),
        reply_to: Some(reply_to.as_bytes()),
        ..Default::default()
    };
    publish_with("requests", "ask", false, properties)
}

fn declare_passively(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: queue.as_bytes(),
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: crate::model::FieldTableRef::default(),
    }
}

fn cancel(tag: &str) -> BasicCancel<'_> {
    BasicCancel {
        consumer_tag: tag.as_bytes(),
        nowait: false,
    }
}

/// Properties of the first message among these bytes.
fn properties_of(bytes: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while let Some((frame, used)) = decode_frame(&bytes[at..], FRAME_MAX).expect("frames are well formed") {
        if frame.kind == FrameKind::Header {
            return frame.payload[12..].to_vec();
        }
        at += used;
    }
    panic!("there is no message");
}

/// A requester on core 0, a server on `core`, and the address that the requester's requests carry.
fn asking(core: usize) -> (Cores, ConnectionId, ConnectionId, String) {
    asking_with(core, |_| ())
}

fn asking_with(core: usize, change: impl Fn(&mut Settings)) -> (Cores, ConnectionId, ConnectionId, String) {
    let mut cores = Cores::with_settings(2, change);
    let (client, server) = (cores.connect(0), cores.connect(core));
    cores.declare(server, "requests", 0, false, false);
    cores.consume(server, "requests", "server", true);
    cores.consume(client, REPLY_QUEUE, "replies", true);
    assert_eq!(cores.read(client), ["basic.consume-ok"]);
    let address = address_of(&mut cores, client, server);
    (cores, client, server, address)
}

fn address_of(cores: &mut Cores, client: ConnectionId, server: ConnectionId) -> String {
    let raw = cores.raw_of(client, server, &request(REPLY_QUEUE));
    let bytes = properties_of(&raw);
    let properties = Properties::new_checked(&bytes).expect("they are well formed");
    assert_eq!(properties.content_type(), Some(b"text".as_slice()));
    assert_eq!(properties.correlation_id(), Some(b"7".as_slice()));
    let address = properties.reply_to().expect("it has an address");
    String::from_utf8(address.to_vec()).expect("an address is text")
}

#[test]
fn a_reply_goes_straight_to_who_asked_wherever_it_is_connected() {
    for core in [0, 1] {
        let (mut cores, client, server, address) = asking(core);
        let run: Vec<u8> = ["one", "two", "three"]
            .iter()
            .flat_map(|body| reply(&address, body, false))
            .collect();
        cores.send(server, &run);
        cores.send(server, &reply(&address, "four", true));
        assert_eq!(
            cores.read(client),
            [
                "basic.deliver 1 one",
                "basic.deliver 2 two",
                "basic.deliver 3 three",
                "basic.deliver 4 four"
            ],
            "the server is on core {core}"
        );
        assert_eq!(cores.read(server), Vec::<String>::new(), "none was returned");
    }
}

#[test]
fn a_large_reply_crosses_in_whole() {
    let (mut cores, client, server, address) = asking(1);
    let body = "x".repeat(300_000);
    for frame in split(&reply(&address, &body, false)) {
        cores.send(server, &frame);
    }
    let raw = cores.written.remove(&client).expect("the reply");
    assert!(raw.len() > 300_000);
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut frames) = (0, Vec::new());
    while let Some((_, used)) = decode_frame(&bytes[at..], FRAME_MAX).expect("frames are well formed") {
        frames.push(bytes[at..at + used].to_vec());
        at += used;
    }
    frames
}

#[test]
fn an_address_stays_while_its_consumer_does_and_is_no_other_consumers() {
    let (mut cores, client, server, address) = asking(1);
    assert_eq!(address_of(&mut cores, client, server), address);
    cores.call(client, cancel("replies"));
    cores.consume(client, REPLY_QUEUE, "", true);
    let next = address_of(&mut cores, client, server);
    assert_ne!(next, address);
    cores.read(client);
    cores.send(
        server,
        &[reply(&address, "late", false), reply(&next, "now", false)].concat(),
    );
    assert_eq!(cores.read(client), ["basic.deliver 1 now"]);
}

#[test]
fn a_mandatory_reply_comes_back_when_nobody_is_there_before_its_confirm() {
    let ends: [fn(&mut Cores, ConnectionId); 4] = [
        |cores, client| cores.call(client, cancel("replies")),
        // The broker closes the channel, and the client has not said close-ok.
        |cores, client| cores.call(client, TxCommit {}),
        |cores, client| {
            cores.call(
                client,
                ChannelClose {
                    reply_code: 200,
                    reply_text: b"",
                    class_id: 0,
                    method_id: 0,
                },
            );
        },
        |cores, client| {
            cores.events[0].push(Event::Disconnected {
                slot: (client.slot, client.generation),
                reason: "test".to_owned(),
            });
            cores.settle();
        },
    ];
    for (end, core) in ends.into_iter().flat_map(|end| [(end, 0), (end, 1)]) {
        let (mut cores, client, server, address) = asking(core);
        end(&mut cores, client);
        cores.send(server, &reply(&address, "back", true));
        assert_eq!(cores.read(server), ["basic.return back"]);
        cores.call(server, ConfirmSelect { nowait: false });
        cores.send(server, &reply(&address, "dropped", false));
        cores.send(server, &reply(&address, "again", true));
        assert_eq!(
            cores.read(server),
            [
                "confirm.select-ok",
                "basic.ack 1",
                "basic.return again",
                "basic.ack 2"
            ],
            "the server is on core {core}"
        );
    }
}

#[test]
fn a_server_that_does_not_read_what_comes_back_is_not_read_either() {
    let (mut cores, client, server, address) = asking_with(1, |settings| settings.output_bytes_max = 1000);
    cores.call(client, cancel("replies"));
    cores.are_sockets_written = false;
    let body = "x".repeat(1000);
    let mut sent = 0;
    while !cores.is_waiting(server) {
        cores.send(server, &reply(&address, &body, true));
        sent += 1;
        assert!(sent < 20, "it waits before all are sent");
    }
    cores.are_sockets_written = true;
    cores.shards[1].connections().note_output(server.slot);
    cores.settle();
    assert!(!cores.is_waiting(server));
    assert_eq!(cores.read(server).len(), sent, "each came back");
}

#[test]
fn an_address_with_another_secret_or_place_reaches_nobody() {
    let (mut cores, client, server, address) = asking(1);
    let dot = address.rfind('.').expect("an address has two parts");
    let last = if address.ends_with('A') { "Q" } else { "A" };
    let forged = [
        format!("{}{last}", &address[..address.len() - 1]),
        format!("{}{}", &address[..=dot], "A".repeat(22)),
        format!("{REPLY_QUEUE}.{}.{}", "_".repeat(21) + "w", "A".repeat(22)),
        format!("{REPLY_QUEUE}.x.y"),
        REPLY_QUEUE.to_owned(),
    ];
    for address in forged {
        cores.send(server, &reply(&address, "forged", true));
        assert_eq!(cores.read(server), ["basic.return forged"], "{address}");
    }
    assert_eq!(cores.read(client), Vec::<String>::new());
}

#[test]
fn a_passive_declare_tells_whether_the_requester_is_there() {
    for core in [0, 1] {
        let (mut cores, client, server, address) = asking(core);
        for name in [REPLY_QUEUE, "amq.direct.reply-to", &address] {
            cores.call(server, declare_passively(name));
            assert_eq!(cores.read(server), ["queue.declare-ok 0"], "{name}");
        }
        cores.call(client, cancel("replies"));
        cores.call(server, declare_passively(&address));
        assert_eq!(
            cores.read(server),
            [format!(
                "channel.close NOT_FOUND - no queue '{address}' in vhost '/'"
            )]
        );
    }
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.call(client, declare_passively("amq.rabbitmq.reply-tox"));
    assert_eq!(
        cores.read(client),
        ["channel.close NOT_FOUND - no queue 'amq.rabbitmq.reply-tox' in vhost '/'"]
    );
}

#[test]
fn what_a_consumer_of_replies_may_not_is_refused_with_rabbitmqs_texts() {
    type Call<'a> = &'a dyn Fn(&mut Cores, ConnectionId);
    let refusal = |calls: &[Call<'_>]| {
        let mut cores = Cores::new(1);
        let client = cores.connect(0);
        cores.declare(client, "requests", 0, false, false);
        calls.iter().for_each(|call| call(&mut cores, client));
        cores.read(client).pop().expect("an answer")
    };
    let replies = |tag: &'static str, no_ack| {
        move |cores: &mut Cores, client| cores.consume(client, REPLY_QUEUE, tag, no_ack)
    };
    let of_queue = |cores: &mut Cores, client| cores.consume(client, "requests", "a", true);
    let ask = |cores: &mut Cores, client| cores.send(client, &request(REPLY_QUEUE));
    let bind = |cores: &mut Cores, client| {
        let arguments = crate::model::FieldTableRef::default();
        cores.call(
            client,
            QueueBind {
                queue: REPLY_QUEUE.as_bytes(),
                exchange: b"amq.direct",
                routing_key: b"key",
                nowait: false,
                arguments,
            },
        );
    };
    assert_eq!(
        refusal(&[&replies("a", false)]),
        "channel.close PRECONDITION_FAILED - reply consumer cannot acknowledge"
    );
    assert_eq!(
        refusal(&[&replies("a", true), &replies("b", true)]),
        "channel.close PRECONDITION_FAILED - reply consumer already set"
    );
    assert_eq!(
        refusal(&[&ask]),
        "channel.close PRECONDITION_FAILED - fast reply consumer does not exist"
    );
    for calls in [
        [&of_queue as &dyn Fn(&mut Cores, _), &replies("a", true)],
        [&replies("a", true), &of_queue],
    ] {
        assert_eq!(
            refusal(&calls),
            "connection.close NOT_ALLOWED - attempt to reuse consumer tag 'a'"
        );
    }
    assert_eq!(
        refusal(&[&bind]),
        "channel.close ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue"
    );
}

#[test]
fn requests_in_a_run_carry_the_address_and_lavinmqs_name_stands_for_it() {
    let (mut cores, client, server, address) = asking(0);
    let run = [
        request(REPLY_QUEUE),
        request("amq.direct.reply-to"),
        request("elsewhere"),
    ];
    let raw = cores.raw_of(client, server, &run.concat());
    let count = |name: &str| {
        raw.windows(name.len())
            .filter(|window| *window == name.as_bytes())
            .count()
    };
    assert_eq!((count(&address), count("elsewhere")), (2, 1));
    assert_eq!(count("amq.direct.reply-to"), 0);
}

#[test]
fn a_copy_of_a_message_goes_to_a_requester_once() {
    for core in [0, 1] {
        let (mut cores, client, server, address) = asking(core);
        cores.declare(server, "queue", 1, false, false);
        cores.consume(server, "queue", "tag", true);
        cores.read(server);
        let key = crate::model::FieldValue::LongString(address.as_bytes());
        let keys = crate::model::field_table::FieldArray::new().with(key).with(key);
        let headers = FieldTable::builder().array("CC", &keys).build();
        let properties = PropertiesBuilder {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        cores.send(server, &publish_with("queue", "copy", true, properties));
        assert_eq!(cores.read(client), ["basic.deliver 1 copy"]);
        assert_eq!(cores.read(server), ["basic.deliver 2 copy"]);
    }
}

#[test]
fn a_reply_in_a_transaction_goes_out_with_the_commit() {
    for core in [0, 1] {
        let (mut cores, client, server, address) = asking(core);
        cores.call(server, TxSelect {});
        cores.send(server, &reply(&address, "reply", true));
        assert_eq!(cores.read(client), Vec::<String>::new());
        cores.call(server, TxCommit {});
        assert_eq!(cores.read(client), ["basic.deliver 1 reply"]);
        cores.send(server, &reply(&address, "late", true));
        cores.call(client, cancel("replies"));
        cores.read(server);
        cores.call(server, TxCommit {});
        assert_eq!(cores.read(server), ["basic.return late", "tx.commit-ok"]);
    }
}

#[test]
fn replies_to_another_core_wait_for_credit_in_order() {
    let (mut cores, client, server, address) = asking_with(1, |settings| settings.ring_credit_bytes = 2_000);
    cores.without_mail = vec![0];
    for number in 0..20 {
        let body = format!("{number:08}{}", ".".repeat(500));
        cores.post(server, &reply(&address, &body, false));
        cores.settle();
        if cores.is_waiting(server) {
            break;
        }
        assert!(number < 19, "it waits before all are sent");
    }
    cores.without_mail.clear();
    cores.settle();
    let seen = cores.read(client);
    assert!(!cores.is_waiting(server) && seen.len() > 3);
    for (number, sentence) in seen.iter().enumerate() {
        assert_eq!(*sentence, format!("basic.deliver {} {number:08}", number + 1));
    }
}

#[test]
fn a_requester_that_does_not_read_gets_no_more_than_a_bounded_number_of_replies() {
    let (mut cores, client, server, address) = asking_with(0, |settings| settings.output_bytes_max = 1000);
    cores.are_sockets_written = false;
    let body = "x".repeat(1000);
    for _ in 0..30 {
        cores.send(server, &reply(&address, &body, false));
    }
    let length = cores.output_of(client);
    assert!((16_000..19_000).contains(&length), "{length}");
    assert!(cores.shards[0].counters.replies_dropped > 10);
    cores.send(server, &reply(&address, "back", true));
    cores.are_sockets_written = true;
    cores.call(server, declare_passively(&address));
    assert_eq!(cores.read(server), ["basic.return back", "queue.declare-ok 0"]);
}

#[test]
fn every_reply_has_a_route_of_its_own() {
    let (mut cores, first, server, one) = asking(1);
    let second = cores.connect(1);
    cores.consume(second, REPLY_QUEUE, "replies", true);
    let two = address_of(&mut cores, second, server);
    cores.read(second);
    let run = [
        reply(&one, "a", false),
        reply(&two, "b", false),
        reply(&one, "c", false),
    ];
    cores.send(server, &run.concat());
    assert_eq!(cores.read(first), ["basic.deliver 1 a", "basic.deliver 2 c"]);
    assert_eq!(cores.read(second), ["basic.deliver 1 b"]);
}
