//! The programs of `tests/clients/lapin` against a broker of one core and one of two, without leaving `cargo test`.
//!
//! A program of its own and not a harness's test, because the case `work` starts this file again as the worker that it
//! kills.

#[path = "support/broker.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod broker;
#[path = "clients/lapin/src/cases.rs"]
mod cases;
#[path = "clients/lapin/src/client.rs"]
mod client;

use broker::{Broker, TestDirectory, cores};
use client::Failure;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const CASES: &[&str] = &[
    "hello", "work", "pubsub", "routing", "topics", "rpc", "confirms", "large",
];
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [uri, name] = &arguments[..]
        && name == "slow-worker"
    {
        return match cases::run(uri, name).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    // What `cargo test` hands to every test program: a part of the names, or only a question for them.
    let filter = arguments
        .iter()
        .find(|a| !a.starts_with('-'))
        .map_or("", String::as_str);
    let is_listing = arguments.iter().any(|a| a == "--list");
    let mut failed = 0;
    for count in [1, 2] {
        let names = CASES
            .iter()
            .map(|case| (case, format!("lapin::{case}_on_{count}")));
        let wanted: Vec<_> = names.filter(|(_, name)| name.contains(filter)).collect();
        if is_listing {
            wanted.iter().for_each(|(_, name)| println!("{name}: test"));
        } else if !wanted.is_empty() {
            failed += run_all(&wanted, count).await;
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the cases against a broker of `count` cores; returns how many failed.
async fn run_all(wanted: &[(&&str, String)], count: usize) -> usize {
    let directory = TestDirectory::new(&format!("lapin-{count}"));
    let broker = Broker::start(&directory.data(), &cores(count));
    let uri = format!("amqp://guest:guest@{}/%2f", broker.address);
    let mut failed = 0;
    for (case, name) in wanted {
        let begun = Instant::now();
        let result: Result<(), Failure> = match tokio::time::timeout(DEADLINE, cases::run(&uri, case)).await {
            Ok(result) => result,
            Err(_) => Err(format!("expected an end within {DEADLINE:?}, found none").into()),
        };
        match result {
            Ok(()) => println!("test {name} ... ok ({:.3} s)", begun.elapsed().as_secs_f64()),
            Err(failure) => {
                println!("test {name} ... FAILED: {failure}");
                failed += 1;
            }
        }
    }
    broker.kill();
    failed
}
