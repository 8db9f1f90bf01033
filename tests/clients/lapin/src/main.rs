//! The eight programs of tests/clients with lapin: `cases URI CASE`.

mod cases;
mod client;

use std::process::ExitCode;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

/// How a case failed: what it expected and found, or what the client library said.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, name] = &arguments[..] else {
        eprintln!("usage: cases URI CASE");
        return ExitCode::from(64);
    };
    let start = Instant::now();
    let late = || Err(format!("expected an end within {DEADLINE:?}, found none").into());
    match tokio::time::timeout(DEADLINE, run(uri, name))
        .await
        .unwrap_or_else(|_| late())
    {
        Ok(()) => {
            println!("ok {name} {:.3}s", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAILED {name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(uri: &str, name: &str) -> Result<(), Failure> {
    match name {
        "hello" => cases::hello(uri).await,
        "work" => cases::work(uri).await,
        "pubsub" => cases::pubsub(uri).await,
        "routing" => cases::routing(uri).await,
        "topics" => cases::topics(uri).await,
        "rpc" => cases::rpc(uri).await,
        "confirms" => cases::confirms(uri).await,
        "large" => cases::large(uri).await,
        // Started by `work`, which hands the queue's name over in the environment.
        "slow-worker" => client::hold_a_task(uri, &std::env::var(client::WORKER_QUEUE)?).await,
        _ => Err(format!("expected the name of a case, found {name}").into()),
    }
}
