//! Delayed messages by the number: they come at their time while others pass by, the rest can be listed and cancelled, and
//! a killed broker forgets none.
//!
//! `LANEMQ_DELAYED_MESSAGES` and `LANEMQ_DELAYED_SECONDS` make the run longer than `cargo test` wants it: ten million
//! messages are due within a day then, and a minute is watched. `LANEMQ_DELAYED_RATE` is how many others pass by a second.

mod support;

use lanemq::model::FieldTable;
use lanemq::protocol::content::encode_content;
use lanemq::protocol::method::*;
use lanemq::protocol::properties::PropertiesBuilder;
use lanemq::runtime::{available_cpus, unix_milliseconds};
use lanemq::shard::settings::Random;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::broker::{Broker, TestDirectory, cores};
use support::client::{Client, Received};
use support::stalls::StallWatch;

const DAY_MILLISECONDS: u64 = 86_400_000;
const WINDOW: u64 = 256;
const FRAME_MAX: u32 = 131_072;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// What a message tells of itself: its number, and when it is due, counted from when it was sent.
fn body(number: u64, due: u64) -> [u8; 16] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body[8..].copy_from_slice(&due.to_be_bytes());
    body
}

fn told(body: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().expect("eight bytes"));
    (number(0), number(8))
}

fn expect(client: &mut Client, ids: (u16, u16)) -> String {
    match client.receive().expect("the broker answers") {
        Received::Method(found, text) if found == ids => text,
        other => panic!("expected method {ids:?}, found {other:?}"),
    }
}

fn declare(client: &mut Client) {
    let arguments = FieldTable::builder().string("x-delayed-type", "direct").build();
    let declare = ExchangeDeclare {
        exchange: b"later",
        kind: b"x-delayed-message",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    client
        .on_channel(Method::ExchangeDeclare(declare))
        .expect("the broker listens");
    expect(client, (40, 11));
    client
        .declare_durable("due", None)
        .expect("the queue can be declared");
    let none = FieldTable::default();
    let bind = QueueBind {
        queue: b"due",
        exchange: b"later",
        routing_key: b"k",
        nowait: false,
        arguments: none.as_ref(),
    };
    client
        .on_channel(Method::QueueBind(bind))
        .expect("the broker listens");
    expect(client, (50, 21));
}

/// Publishes `count` messages with delays between `least` and `horizon`, confirmed all.
fn publish(client: &mut Client, count: u64, (least, horizon): (u64, u64), random: &mut Random) {
    client.select_confirms().expect("confirms can be selected");
    let (mut sent, mut confirmed) = (0, 0);
    while confirmed < count {
        while sent < count && sent - confirmed < WINDOW {
            let delay = least + random.next_u64() % (horizon - least);
            client.send(|out| encode_delayed(sent, delay, out));
            sent += 1;
        }
        client.flush().expect("the broker listens");
        match client.receive().expect("confirms come") {
            Received::Ack { tag } => confirmed = tag,
            other => panic!("expected a confirm, found {other:?}"),
        }
        if confirmed % 1_000_000 == 0 && confirmed > 0 {
            println!("{confirmed} published");
        }
    }
}

fn encode_delayed(number: u64, delay: u64, out: &mut Vec<u8>) {
    let headers = FieldTable::builder().long("x-delay", delay as i64).build();
    let mut properties = Vec::new();
    PropertiesBuilder {
        headers: Some(headers.as_ref()),
        delivery_mode: Some(2),
        ..Default::default()
    }
    .encode(&mut properties);
    let publish = BasicPublish {
        exchange: b"later",
        routing_key: b"k",
        mandatory: false,
        immediate: false,
    };
    Method::BasicPublish(publish).encode(1, out);
    let body = body(number, unix_milliseconds() + delay);
    encode_content(1, &properties, &[&body], FRAME_MAX, out);
}

/// Messages that pass by: published at a rate, and consumed without acks.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    received: Arc<AtomicU64>,
}

impl Traffic {
    fn start(address: SocketAddr, rate: u64) -> Self {
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut consumer = Client::connect(address).expect("the broker accepts");
        consumer
            .declare_transient("passing", false)
            .expect("the queue can be declared");
        consumer
            .consume_without_ack("passing")
            .expect("the queue is there");
        consumer
            .set_patience(Duration::from_millis(200))
            .expect("a timeout can be set");
        let mut publisher = Client::connect(address).expect("the broker accepts");
        let (ends, count) = (stop.clone(), received.clone());
        let consuming = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                count.fetch_add(consumer.count_deliveries().unwrap_or(0), Ordering::Relaxed);
            }
        });
        let ends = stop.clone();
        let publishing = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut sent = 0;
            while !ends.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                (sent..due).for_each(|_| publisher.publish_transient("passing", &[0; 16]));
                sent = due;
                publisher.flush().expect("the broker listens");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            stop,
            threads: vec![consuming, publishing],
            received,
        }
    }

    /// Ends it, and tells how many messages passed by.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the traffic flowed");
        }
        self.received.load(Ordering::Relaxed)
    }
}

/// Takes what falls due for a while. Returns when each was due, and when it came.
fn take_due(client: &mut Client, seen: &mut [bool], seconds: u64) -> Vec<(u64, u64)> {
    client.consume("due").expect("the queue is there");
    client
        .set_patience(Duration::from_millis(100))
        .expect("a timeout can be set");
    let (begun, mut taken) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(seconds) {
        if let Ok(Received::Delivery { tag, body, .. }) = client.receive() {
            let (number, due) = told(&body);
            taken.push((due, unix_milliseconds()));
            mark(seen, number);
            client.ack_up_to(tag).expect("the broker listens");
        }
    }
    taken
}

fn mark(seen: &mut [bool], number: u64) {
    let was_seen = std::mem::replace(&mut seen[number as usize], true);
    assert!(!was_seen, "message {number} came twice");
}

/// Takes what still waits, and so cancels it; and what fell due meanwhile. Ends when every message was seen.
fn cancel_rest(address: SocketAddr, seen: &mut [bool]) -> (u64, u64) {
    let (mut cancelled, mut due) = (0, 0);
    for (queue, count) in [("amq.delayed-later", &mut cancelled), ("due", &mut due)] {
        let mut client = Client::connect(address).expect("the broker accepts");
        client.consume(queue).expect("the queue is there");
        client
            .set_patience(Duration::from_secs(2))
            .expect("a timeout can be set");
        while let Ok(Received::Delivery { tag, body, .. }) = client.receive() {
            mark(seen, told(&body).0);
            *count += 1;
            if tag % 1000 == 0 {
                client.ack_up_to(tag).expect("the broker listens");
            }
        }
        client.ack_up_to(0).expect("the broker listens");
    }
    (cancelled, due)
}

fn directory_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    entries
        .map(|entry| entry.expect("it can be read"))
        .map(|entry| match entry.metadata().expect("it is there") {
            metadata if metadata.is_dir() => directory_bytes(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

/// Runs this thread, and those it starts, on these processors if there are any. Off the broker's, what is late is the
/// broker's doing.
fn run_on(cpus: &[usize]) {
    let mut mask = CpuSet::new();
    cpus.iter().for_each(|&cpu| mask.set(cpu));
    if !cpus.is_empty() {
        sched_setaffinity(None, &mask).expect("these are processors of the process");
    }
}

/// Prints how late messages were, and returns how late the earliest was, in milliseconds.
fn report_late(what: &str, milliseconds: impl Iterator<Item = i64>) -> i64 {
    let mut late: Vec<i64> = milliseconds.collect();
    late.sort_unstable();
    println!(
        "{what}: p50 {} ms, p99.9 {} ms, worst {} ms, earliest {} ms",
        percentile(&late, 0.5),
        percentile(&late, 0.999),
        late[late.len() - 1],
        late[0]
    );
    late[0]
}

fn percentile(sorted: &[i64], share: f64) -> i64 {
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[at - 1]
}

#[test]
fn delayed_messages_come_at_their_time_and_none_is_lost() {
    let count = setting("LANEMQ_DELAYED_MESSAGES", 20_000);
    let seconds = setting("LANEMQ_DELAYED_SECONDS", 3);
    let rate = setting("LANEMQ_DELAYED_RATE", 2_000);
    let seed = setting("LANEMQ_DELAYED_SEED", u64::from(std::process::id()));
    println!("LANEMQ_DELAYED_SEED={seed}");
    let horizon = if count >= 1_000_000 {
        DAY_MILLISECONDS
    } else {
        20_000
    };
    let directory = TestDirectory::new("delayed");
    let broker = Broker::start_with(&directory.data(), &cores(1), &["limits.memory=80%"]);
    let cpus = available_cpus().expect("the affinity mask can be read");
    run_on(&cpus[1..]);
    let mut client = Client::connect(broker.address).expect("the broker accepts");
    declare(&mut client);
    let begun = Instant::now();
    publish(&mut client, count, (1, horizon), &mut Random::seeded(seed));
    println!("{count} delayed messages confirmed in {:?}", begun.elapsed());
    println!(
        "resident {} MB, on disk {} MB",
        broker.resident_bytes() >> 20,
        directory_bytes(&directory.data()) >> 20
    );

    let mut seen = vec![false; count as usize];
    let traffic = Traffic::start(broker.address, rate);
    let mut consumer = Client::connect(broker.address).expect("the broker accepts");
    // What fell due while others were published waits in its queue, and is late through no fault of the time index.
    let backlog = take_due(&mut consumer, &mut seen, 1).len();
    drop(consumer);
    let mut consumer = Client::connect(broker.address).expect("the broker accepts");
    let watch = StallWatch::start(&cpus);
    // Before the traffic's clients, if it may: a delivery has come when its client could read it.
    let _may_not = setpriority_process(None, -10);
    let taken = take_due(&mut consumer, &mut seen, seconds);
    let _may_not = setpriority_process(None, 0);
    let stalls = watch.stop();
    let passed = traffic.stop();
    assert!(!taken.is_empty(), "some fall due in {seconds} s");
    println!(
        "{backlog} had fallen due; {} fell due in {seconds} s while {passed} others passed by",
        taken.len()
    );
    let late = |(due, came): &(u64, u64)| *came as i64 - *due as i64;
    let earliest = report_late("late", taken.iter().map(late));
    let (count, longest) = stalls.count_and_longest();
    println!("the machine stood still {count} times, {longest} ms at most");
    let by_the_broker = |taken: &(u64, u64)| late(taken) - stalls.within(taken.0, taken.1);
    report_late("late but for that", taken.iter().map(by_the_broker));
    assert!(earliest >= -1, "nothing comes before its time");
    drop(consumer);
    broker.kill();
    run_on(&cpus);

    let broker = Broker::start_with(&directory.data(), &cores(1), &["limits.memory=80%"]);
    println!("accepting again after {:?}", broker.accepting_after);
    // Deliveries whose acks had not reached the disk come again.
    let (cancelled, due) = cancel_rest_after_crash(broker.address, &mut seen);
    println!("{cancelled} listed and cancelled, {due} due meanwhile");
    let missing = seen.iter().filter(|seen| !**seen).count();
    assert_eq!(missing, 0, "no message is lost");
}

/// The same after a crash, when what was delivered just before may come again.
fn cancel_rest_after_crash(address: SocketAddr, seen: &mut [bool]) -> (u64, u64) {
    let mut unseen = vec![false; seen.len()];
    let found = cancel_rest(address, &mut unseen);
    for (seen, found) in seen.iter_mut().zip(unseen) {
        *seen |= found;
    }
    found
}
