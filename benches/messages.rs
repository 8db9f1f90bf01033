//! What a message costs the broker itself, from received bytes to bytes to send: a whole core without the kernel.
//!
//! `LANEMQ_BENCH_MESSAGES=1000000` runs each case once with so many messages and measures nothing, for
//! `valgrind --tool=callgrind`: instructions a message are its count divided by that number.

mod lane;

use criterion::{Criterion, Throughput, criterion_group};
use lane::{Lane, publishes};
use lanemq::config::Durability;
use lanemq::protocol::method::ConfirmSelect;
use lanemq::runtime::disk::{Disk, MemoryDisk, RealDisk};
use std::hint::black_box;

/// One publisher to one consumer.
struct Case {
    name: &'static str,
    body_bytes: usize,
    /// Persistent and confirmed, through a log in the page cache: its writes are system calls, its syncs are not waited for.
    is_durable: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "transient-16",
        body_bytes: 16,
        is_durable: false,
    },
    Case {
        name: "transient-1024",
        body_bytes: 1024,
        is_durable: false,
    },
    Case {
        name: "durable-16",
        body_bytes: 16,
        is_durable: true,
    },
    Case {
        name: "durable-1024",
        body_bytes: 1024,
        is_durable: true,
    },
];

impl Case {
    /// A step sends a buffer full of publishes and carries all that follows; with it the messages of a step.
    fn prepare(&self) -> (impl FnMut() + use<>, u64) {
        let mut lane = Lane::new(self.disk(), Durability::Fsync);
        let (publisher, consumer) = (lane.connect(), lane.connect());
        lane.declare(publisher, "bench", self.is_durable);
        lane.consume(consumer, "bench");
        if self.is_durable {
            lane.call(publisher, 1, ConfirmSelect { nowait: false });
        }
        let (bytes, count) = publishes("bench", self.body_bytes, self.is_durable);
        let before = lane.bytes_out;
        lane.send(publisher, &bytes);
        let delivered = lane.bytes_out - before;
        assert!(
            delivered > count * self.body_bytes as u64,
            "each of {count} messages is delivered, found {delivered} bytes"
        );
        (move || lane.send(publisher, black_box(&bytes)), count)
    }

    fn disk(&self) -> Box<dyn Disk> {
        if !self.is_durable {
            return Box::new(MemoryDisk::new());
        }
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name);
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("the last run's log can be removed");
        }
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Box::new(RealDisk::open(&path).expect("a directory opens"))
    }
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    for case in CASES {
        let (mut step, count) = case.prepare();
        group.throughput(Throughput::Elements(count));
        group.bench_function(case.name, |bencher| bencher.iter(&mut step));
    }
}

fn run_once(wanted: u64) {
    let only = std::env::args().nth(1);
    for case in CASES
        .iter()
        .filter(|case| only.as_deref().is_none_or(|name| name == case.name))
    {
        let (mut step, count) = case.prepare();
        let steps = wanted.div_ceil(count);
        (0..steps).for_each(|_| step());
        println!("{}: {} messages", case.name, steps * count);
    }
}

criterion_group!(benches, messages);

fn main() {
    match std::env::var("LANEMQ_BENCH_MESSAGES") {
        Ok(count) => run_once(count.parse().expect("LANEMQ_BENCH_MESSAGES is a number")),
        Err(_) => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
