//! The eight programs of tests/clients with lapin: `cases URI CASE`.

mod cases;
mod client;

use std::process::ExitCode;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, name] = &arguments[..] else {
        eprintln!("usage: cases URI CASE");
        return ExitCode::from(64);
    };
    let start = Instant::now();
    let late = || Err(format!("expected an end within {DEADLINE:?}, found none").into());
    match tokio::time::timeout(DEADLINE, cases::run(uri, name))
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
