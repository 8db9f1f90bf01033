//! The real process is killed with SIGKILL and started again over the same directory: what was confirmed is there.
//!
//! `LANEMQ_RECOVERY_MESSAGES` and `LANEMQ_RECOVERY_KILLS` make the runs longer than `cargo test` wants them.

mod support;

use std::time::{Duration, Instant};
use support::broker::{Broker, TestDirectory, cores};
use support::client::{Client, Received};

const WINDOW: u64 = 1000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn body(sequence: u64) -> [u8; 256] {
    let mut body = [b'.'; 256];
    body[..8].copy_from_slice(&sequence.to_be_bytes());
    body
}

fn sequence_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[..8].try_into().expect("a body begins with its sequence"))
}

/// Publishes sequences from `first` until `stop` says so or the broker is gone. Returns the last one sent and the last one confirmed.
fn publish(client: &mut Client, first: u64, mut stop: impl FnMut(u64) -> bool) -> (u64, u64) {
    let (mut sent, mut confirmed) = (first - 1, first - 1);
    loop {
        while sent - confirmed < WINDOW && !stop(sent) {
            sent += 1;
            client.publish("orders", &body(sent));
        }
        if client.flush().is_err() || (stop(sent) && sent == confirmed) {
            return (sent, confirmed);
        }
        match client.receive() {
            Ok(Received::Ack { tag, .. }) => confirmed = first - 1 + tag,
            Ok(other) => panic!("expected a confirm, found {other:?}"),
            Err(_) => return (sent, confirmed),
        }
    }
}

/// Takes `count` messages or more out of the queue, until nothing comes for a moment. Each must follow the one before.
fn drain(client: &mut Client, at_least: u64) -> Vec<(u64, bool)> {
    let mut taken = Vec::new();
    client.consume("orders").expect("the queue is there");
    client
        .set_patience(Duration::from_millis(500))
        .expect("a timeout can be set");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match client.receive() {
            Ok(Received::Delivery {
                tag,
                redelivered,
                body,
            }) => {
                taken.push((sequence_of(&body), redelivered));
                if tag % 500 == 0 {
                    client.ack_up_to(tag).expect("the broker listens");
                }
            }
            Ok(other) => panic!("expected a delivery, found {other:?}"),
            Err(_) if (taken.len() as u64) < at_least && Instant::now() < deadline => {}
            Err(_) => break,
        }
    }
    client.ack_up_to(0).expect("the broker listens");
    taken
}

fn assert_all_there(taken: &[(u64, bool)], first: u64, confirmed: u64, sent: u64) {
    assert!(
        taken.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "messages come in order, each once"
    );
    assert_eq!(
        taken.first().map(|first| first.0),
        Some(first),
        "the first confirmed message is there"
    );
    let last = taken.last().expect("messages came").0;
    assert!(
        (confirmed..=sent).contains(&last),
        "the last is {last}, confirmed up to {confirmed}, sent up to {sent}"
    );
    assert_eq!(taken.len() as u64, last - first + 1, "none is missing");
    assert!(
        taken.iter().all(|(_, redelivered)| *redelivered),
        "after a crash nobody knows which were delivered"
    );
}

#[test]
fn every_confirmed_message_is_there_in_order_after_sigkill() {
    let count = setting("LANEMQ_RECOVERY_MESSAGES", 20_000);
    let directory = TestDirectory::new("sigkill");
    let broker = Broker::start(&directory.data(), &cores(1));
    let mut client = Client::connect(broker.address).expect("the broker accepts");
    client
        .declare_durable("orders", None)
        .expect("the queue can be declared");
    client.select_confirms().expect("confirms can be selected");
    let begun = Instant::now();
    let (sent, confirmed) = publish(&mut client, 1, |sent| sent == count);
    println!(
        "{count} persistent messages of 256 bytes confirmed in {:?}",
        begun.elapsed()
    );
    assert_eq!((sent, confirmed), (count, count));
    broker.kill();

    let broker = Broker::start(&directory.data(), &cores(1));
    println!("accepting again after {:?}", broker.accepting_after);
    let mut client = Client::connect(broker.address).expect("the broker accepts");
    let begun = Instant::now();
    let taken = drain(&mut client, count);
    println!("{} messages taken after {:?}", taken.len(), begun.elapsed());
    assert_all_there(&taken, 1, count, count);
}

#[test]
fn kills_at_random_moments_lose_no_confirmed_message() {
    let kills = setting("LANEMQ_RECOVERY_KILLS", 3);
    let seed = setting("LANEMQ_RECOVERY_SEED", u64::from(std::process::id()));
    println!("LANEMQ_RECOVERY_SEED={seed}");
    let mut random = lanemq::shard::settings::Random::seeded(seed);
    let directory = TestDirectory::new("random-kills");
    let mut next = 1;
    for kill in 1..=kills {
        let broker = Broker::start(&directory.data(), &cores(2));
        let mut client = Client::connect(broker.address).expect("the broker accepts");
        client
            .declare_durable("orders", None)
            .expect("the queue can be declared");
        client.select_confirms().expect("confirms can be selected");
        let lifetime = Duration::from_millis(50 + random.next_u64() % 450);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(lifetime);
            broker.kill();
        });
        let (sent, confirmed) = publish(&mut client, next, |_| false);
        killer.join().expect("the broker was killed");

        let broker = Broker::start(&directory.data(), &cores(2));
        let mut client = Client::connect(broker.address).expect("the broker accepts");
        let taken = drain(&mut client, confirmed - next + 1);
        println!(
            "kill {kill} after {lifetime:?}: sent up to {sent}, confirmed up to {confirmed}, found {}",
            taken.len()
        );
        if confirmed >= next {
            assert_all_there(&taken, next, confirmed, sent);
        }
        next = sent + 1;
        wait_until_acks_are_durable(&mut client);
        broker.kill();
    }
}

/// Acks are synced at the latest 100 ms after they were written; a durable publish of ours comes behind them.
fn wait_until_acks_are_durable(client: &mut Client) {
    client
        .set_patience(Duration::from_secs(30))
        .expect("a timeout can be set");
    client.select_confirms().expect("confirms can be selected");
    client
        .declare_durable("marker", None)
        .expect("the queue can be declared");
    client.publish("marker", b"behind the acks");
    client.flush().expect("the broker listens");
    assert!(
        matches!(client.receive(), Ok(Received::Ack { .. })),
        "the marker is confirmed"
    );
}
