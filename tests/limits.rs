//! What the whole program does at its limits, and when it cannot start as it was told.

mod support;

use lanemq::config::Config;
use lanemq::shard::start::{Broker as Cores, StartError};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::broker::{Broker, TestDirectory, cores, free_address};
use support::client::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that has said no more than its protocol header, if the broker answers it.
fn begin(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a timeout");
    let mut first = [0];
    let said = stream.write_all(b"AMQP\0\0\x09\x01");
    match said.and_then(|()| stream.read(&mut first)) {
        Ok(1) => Some(stream),
        _ => None,
    }
}

/// Waits until `is_so`.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn connections_that_do_not_log_in_are_dropped_at_their_limit_and_keep_nobody_out_for_good() {
    let directory = TestDirectory::new("unauthenticated");
    let settings = ["limits.unauthenticated_connections_max=2"];
    let broker = Broker::start_with(&directory.data(), &cores(1), &settings);
    let mut opened = Client::connect(broker.address).expect("the broker accepts");
    let silent: Vec<_> = (0..2)
        .map(|_| begin(broker.address).expect("two may be silent"))
        .collect();
    assert!(begin(broker.address).is_none(), "the third is dropped");
    opened
        .select_confirms()
        .expect("who has logged in is not concerned");
    drop(silent);
    until("there is room again", || begin(broker.address).is_some());
}

#[test]
fn connections_are_dropped_at_their_limit_whichever_cores_hold_them() {
    let directory = TestDirectory::new("connections");
    let broker = Broker::start_with(&directory.data(), &cores(2), &["limits.connections_max=8"]);
    // The one that looked whether the broker listens may still be leaving.
    let mut held = Vec::new();
    until("eight are in", || {
        held.extend(Client::connect(broker.address).ok());
        held.len() == 8
    });
    assert!(begin(broker.address).is_none(), "the ninth is dropped");
    held.pop();
    until("there is room again", || Client::connect(broker.address).is_ok());
}

#[test]
fn a_client_that_vanishes_while_an_alarm_holds_it_leaves_nothing_behind() {
    let directory = TestDirectory::new("vanishing");
    let broker = Broker::start_with(&directory.data(), &cores(1), &["limits.memory=64 MiB"]);
    let mut publisher = Client::connect_with_heartbeat(broker.address, 1).expect("the broker accepts");
    publisher
        .declare_transient("its-own", true)
        .expect("an exclusive queue");
    publisher.declare_transient("full", false).expect("a queue");
    for _ in 0..60 {
        publisher.publish("full", &vec![b'.'; 1 << 20]);
        publisher.flush().expect("the broker reads");
    }
    // Heartbeats come, but nobody reads them; what is unread when it closes makes the end a reset.
    let mut other = Client::connect(broker.address).expect("the broker accepts");
    until("a heartbeat comes", || {
        publisher.unread_bytes().expect("a socket can be asked") > 0
    });
    assert!(other.finds_queue("its-own").expect("an answer"));
    publisher.publish("full", b"never read: the alarm holds this connection");
    publisher.flush().expect("the socket takes it");
    drop(publisher);
    until("its queue is gone", || {
        !other.finds_queue("its-own").expect("an answer")
    });
}

#[test]
fn a_core_that_cannot_start_stops_the_others_and_is_named() {
    let directory = TestDirectory::new("no-such-core");
    let address = free_address();
    let config = Config {
        data_dir: directory.data(),
        listen: serde_json::from_value(address.to_string().into()).expect("an address"),
        ..Config::default()
    };
    let first = cores(1).parse().expect("a processor's number");
    let Err(error) = Cores::start(&config, &[first, 1000]) else {
        panic!("there is no processor 1000");
    };
    assert!(matches!(error, StartError::Core { cpu: 1000, .. }), "{error}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
