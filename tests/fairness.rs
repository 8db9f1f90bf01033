//! A core that is saturated by publishers still serves everybody else on it.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::broker::{Broker, TestDirectory, cores};
use support::client::{Client, Received};

/// More than sockets and the broker's output buffer hold.
const MESSAGES: u64 = 2_000;
const BODY_BYTES: usize = 16 * 1024;

/// Publishes to nowhere as fast as the broker reads, until told to stop.
fn saturate(address: SocketAddr, stop: &AtomicBool, published: &AtomicU64) {
    let mut client = Client::connect(address).expect("the broker accepts");
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1000 {
            client.publish("nowhere", &[b'.'; 16]);
        }
        client.flush().expect("the broker reads");
        published.fetch_add(1000, Ordering::Relaxed);
    }
}

/// Waits until nothing more arrives at a consumer that does not read: its socket is full.
fn wait_until_blocked(consumer: &Client) {
    let (mut before, mut since) = (0, Instant::now());
    while before == 0 || since.elapsed() < Duration::from_millis(300) {
        let arrived = consumer.unread_bytes().expect("a socket can be asked");
        if arrived != before {
            (before, since) = (arrived, Instant::now());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_blocked_consumer_is_served_while_publishers_saturate_its_core() {
    let directory = TestDirectory::new("fairness");
    let broker = Broker::start(&directory.data(), &cores(1));
    let mut consumer = Client::connect(broker.address).expect("the broker accepts");
    consumer
        .declare_durable("backlog", None)
        .expect("the queue can be declared");
    consumer.select_confirms().expect("confirms can be selected");
    for _ in 0..MESSAGES {
        consumer.publish("backlog", &[b'.'; BODY_BYTES]);
    }
    consumer.flush().expect("the broker reads");
    let mut confirmed = 0;
    while confirmed < MESSAGES {
        match consumer.receive().expect("the broker confirms") {
            Received::Ack { tag, .. } => confirmed = tag,
            other => panic!("expected a confirm, found {other:?}"),
        }
    }
    consumer.consume("backlog").expect("the queue is there");
    wait_until_blocked(&consumer);

    let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishers: Vec<_> = (0..2)
        .map(|_| {
            let (stop, published, address) = (stop.clone(), published.clone(), broker.address);
            thread::spawn(move || saturate(address, &stop, &published))
        })
        .collect();
    while published.load(Ordering::Relaxed) < 100_000 {
        thread::sleep(Duration::from_millis(1));
    }
    let (before, begun) = (published.load(Ordering::Relaxed), Instant::now());
    consumer
        .set_patience(Duration::from_secs(10))
        .expect("a timeout can be set");
    for _ in 0..MESSAGES {
        match consumer.receive().expect("the blocked consumer is served") {
            Received::Delivery { body, .. } => assert_eq!(body.len(), BODY_BYTES),
            other => panic!("expected a delivery, found {other:?}"),
        }
    }
    println!(
        "{MESSAGES} messages after {:?}, while {} were published",
        begun.elapsed(),
        published.load(Ordering::Relaxed) - before
    );
    stop.store(true, Ordering::Relaxed);
    publishers
        .into_iter()
        .for_each(|publisher| publisher.join().expect("a publisher ends"));
}
