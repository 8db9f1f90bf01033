//! The whole program with a file of definitions: users, vhosts, permissions, limits, policies, read at the start and at SIGHUP.

mod support;

use lanemq::model::FieldTable;
use lanemq::protocol::content::encode_content;
use lanemq::protocol::method::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::broker::{Broker, TestDirectory, cores};
use support::client::{Client, Received};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two users of a vhost each; the first has a queue that holds at most so many messages by a policy.
fn definitions(most: u32) -> String {
    let user = |name: &str| format!(r#"{{"name": "{name}", "password": "{name}", "tags": ""}}"#);
    let (buyer, seller) = (user("buyer"), user("seller"));
    format!(
        r#"{{
  "users": [{buyer}, {seller}],
  "vhosts": [{{"name": "shop", "limits": {{"max-queues": 2, "max-connections": 3}}}}, {{"name": "store"}}],
  "permissions": [
    {{"user": "buyer", "vhost": "shop", "configure": "^orders", "write": "^(orders|amq\\.default$)", "read": "^orders"}},
    {{"user": "seller", "vhost": "store", "configure": ".*", "write": ".*", "read": ".*"}}
  ],
  "policies": [{{"vhost": "shop", "name": "most", "pattern": "^orders$", "definition": {{"max-length": {most}}}}}],
  "queues": [{{"name": "orders", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {{}}}}],
  "exchanges": [{{"name": "orders.x", "vhost": "shop", "type": "fanout", "durable": true, "auto_delete": false}}],
  "bindings": [{{"source": "orders.x", "vhost": "shop", "destination": "orders", "destination_type": "queue",
                 "routing_key": "", "arguments": {{}}}}]
}}"#
    )
}

/// A directory with a file of definitions.
fn prepared(test: &str, text: &str) -> (TestDirectory, PathBuf) {
    let directory = TestDirectory::new(test);
    let file = directory.data().join("../definitions.json");
    fs::write(&file, text).expect("written");
    (directory, file)
}

fn start(directory: &TestDirectory, file: &Path) -> Broker {
    let setting = format!("definitions.file={}", file.display());
    Broker::start_with(&directory.data(), &cores(2), &[&setting])
}

/// The reply to a passive declare, or the text of the refusal, after which the channel is closed.
fn ask(client: &mut Client, queue: &str, passive: bool) -> String {
    let arguments = FieldTable::default();
    let declare = QueueDeclare {
        queue: queue.as_bytes(),
        passive,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    client.on_channel(Method::QueueDeclare(declare)).expect("sent");
    match client.receive().expect("answered") {
        Received::Method((50, 11) | (20, 40), told) => told,
        other => panic!("an answer to queue.declare: {other:?}"),
    }
}

/// Opens the channel again that a refusal has closed.
fn reopen(client: &mut Client) {
    let method = Method::ChannelCloseOk(ChannelCloseOk {});
    client.on_channel(method).expect("sent");
    let method = Method::ChannelOpen(ChannelOpen { out_of_band: b"" });
    client.on_channel(method).expect("sent");
    assert!(matches!(client.receive(), Ok(Received::Method((20, 11), _))));
}

fn refusal(user: &str, vhost: &str, broker: &Broker) -> String {
    let refused = Client::connect_as(broker.address, user, vhost).err();
    refused.expect("it is refused").to_string()
}

/// Waits until as many messages are ready.
fn until_ready(client: &mut Client, queue: &str, count: u32) {
    let (begun, expected) = (Instant::now(), format!("message_count: {count},"));
    loop {
        let told = ask(client, queue, true);
        if told.contains(&expected) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{count} messages are ready: {told}");
    }
}

fn publish(client: &mut Client, queue: &str, count: u64) {
    client.select_confirms().expect("confirms");
    (0..count).for_each(|_| client.publish(queue, b"body"));
    client.flush().expect("sent");
    let mut confirmed = 0;
    while confirmed < count {
        match client.receive().expect("confirms come") {
            Received::Ack { tag } => confirmed = tag,
            other => panic!("a confirm: {other:?}"),
        }
    }
}

fn until_logged(directory: &TestDirectory, part: &str) {
    let (begun, log) = (Instant::now(), directory.data().join("../broker.log"));
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains(part)) {
        assert!(begun.elapsed() < PATIENCE, "the log tells {part:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_policy_that_sighup_brings_takes_effect_and_survives_without_the_file() {
    let (directory, file) = prepared("policy", &definitions(3));
    let broker = start(&directory, &file);
    let mut buyer = Client::connect_as(broker.address, "buyer", "shop").expect("a user of the file");
    publish(&mut buyer, "orders", 5);
    until_ready(&mut buyer, "orders", 3);

    fs::write(&file, definitions(2)).expect("written");
    broker.hang_up();
    until_ready(&mut buyer, "orders", 2);

    fs::write(
        &file,
        definitions(1).replace("\"durable\": true", "\"durable\": 1"),
    )
    .expect("written");
    broker.hang_up();
    until_logged(
        &directory,
        "queues[0] (\"orders\" in vhost \"shop\"): durable: expected true or false, found 1",
    );
    fs::write(
        &file,
        definitions(1).replace("\"vhost\": \"store\"", "\"vhost\": \"stall\""),
    )
    .expect("written");
    broker.hang_up();
    until_logged(&directory, "vhost: expected a vhost that exists, found \"stall\"");
    until_ready(&mut buyer, "orders", 2);

    broker.kill();
    let broker = Broker::start_with(&directory.data(), &cores(2), &[]);
    let mut buyer = Client::connect_as(broker.address, "buyer", "shop").expect("the log has the user");
    until_ready(&mut buyer, "orders", 2);
    publish(&mut buyer, "orders", 1);
    until_ready(&mut buyer, "orders", 2);
}

#[test]
fn vhosts_are_apart_and_users_do_what_they_are_permitted() {
    let (directory, file) = prepared("permissions", &definitions(3));
    let broker = start(&directory, &file);
    let mut buyer = Client::connect_as(broker.address, "buyer", "shop").expect("a user of the file");
    let mut seller = Client::connect_as(broker.address, "seller", "store").expect("a user of the file");
    assert!(ask(&mut seller, "orders", true).contains("NOT_FOUND - no queue 'orders' in vhost 'store'"));
    reopen(&mut seller);
    assert!(ask(&mut seller, "orders", false).contains("message_count: 0"));

    let told = ask(&mut buyer, "other", false);
    let expected = "ACCESS_REFUSED - access to queue 'other' in vhost 'shop' refused for user 'buyer'";
    assert!(told.contains(expected), "{told}");
    reopen(&mut buyer);
    assert!(ask(&mut buyer, "orders.2", false).contains("message_count: 0"));
    let told = ask(&mut buyer, "orders.3", false);
    let expected = "cannot declare queue 'orders.3': queue limit in vhost 'shop' (2) is reached";
    assert!(told.contains(expected), "{told}");

    let told = refusal("seller", "shop", &broker);
    assert!(
        told.contains("access to vhost 'shop' refused for user 'seller'"),
        "{told}"
    );
    let told = refusal("guest", "/", &broker);
    assert!(
        told.contains("ACCESS_REFUSED") || !told.contains("41"),
        "guest is not of the file: {told}"
    );
}

#[test]
fn transient_exchanges_and_queues_of_the_file_route_from_the_start() {
    let text = definitions(3)
        .replace(
            r#""type": "fanout", "durable": true"#,
            r#""type": "fanout", "durable": false"#,
        )
        .replace(r#""write": "^(orders|"#, r#""write": "^(orders.*|"#);
    let (directory, file) = prepared("transient", &text);
    let broker = start(&directory, &file);
    let mut client = Client::connect_as(broker.address, "buyer", "shop").expect("buyer may");
    client.select_confirms().expect("confirms");
    let publish = BasicPublish {
        exchange: b"orders.x",
        routing_key: b"",
        mandatory: false,
        immediate: false,
    };
    client.send(|out| {
        Method::BasicPublish(publish).encode(1, out);
        encode_content(1, &[0, 0], &[b"body"], 131_072, out);
    });
    client.flush().expect("sent");
    let answer = client.receive().expect("an answer");
    assert!(matches!(answer, Received::Ack { .. }), "{answer:?}");
    until_ready(&mut client, "orders", 1);
}

#[test]
fn connections_of_a_vhost_are_bounded_over_all_cores() {
    let (directory, file) = prepared("limits", &definitions(3));
    let broker = start(&directory, &file);
    let connect = || Client::connect_as(broker.address, "buyer", "shop");
    let mut held: Vec<_> = (0..3).map(|_| connect().expect("there is room")).collect();
    let told = refusal("buyer", "shop", &broker);
    let expected = "access to vhost 'shop' refused for user 'buyer': connection limit (3) is reached";
    assert!(told.contains(expected), "{told}");
    drop(held.pop());
    let begun = Instant::now();
    while connect().is_err() {
        assert!(begun.elapsed() < PATIENCE, "there is room again");
    }
}

#[test]
fn a_faulty_file_keeps_the_broker_from_starting_and_check_tells_why() {
    let faulty = definitions(3).replace("\"fanout\"", "\"x-foo\"");
    let (directory, file) = prepared("faulty", &faulty);
    let data = directory.data();
    let (data, setting) = (
        data.to_str().expect("UTF-8"),
        format!("definitions.file={}", file.display()),
    );
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
        "--set",
        &setting,
    ];
    for arguments in [
        &serve[..],
        &["check", "definitions", file.to_str().expect("UTF-8")],
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_lanemq"))
            .args(arguments)
            .output()
            .expect("the program runs");
        assert_eq!(ended.status.code(), Some(78));
        let told = String::from_utf8_lossy(&ended.stderr);
        let expected = "exchanges[0] (\"orders.x\" in vhost \"shop\"): type: unknown exchange type 'x-foo'";
        assert!(told.contains(expected) && told.contains("fix: "), "{told}");
    }
}
