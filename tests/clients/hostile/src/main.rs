//! Sends a broker what no client should: random and mutated strings, and clients that die within a method. A
//! well-behaved client publishes and consumes all along.
//!
//! Afterwards the broker must run, must have lost nothing, must have answered within a second all the time, and
//! must have given back the memory.

mod attack;
mod mutate;
mod process;
mod random;
mod session;
mod wire;
mod witness;

use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attack::{Attack, Tally};
use mutate::Base;
use witness::Testimony;

const USAGE: &str = "usage: hostile --uri amqp://127.0.0.1:PORT/ [--pid PID] [--count STRINGS] [--seed NUMBER] \
                     [--first INDEX] [--kind NAME]";

/// The memory that may stay in use: allocators keep some, and tables their size.
const GROWTH_BYTES_MAX: u64 = 5 << 20;
/// A leak makes a broker grow in each round; pages that a few small things of long life hold do so once.
const ROUNDS_MAX: u64 = 2;

struct Options {
    /// The broker's address. User and password are guest's.
    target: SocketAddrV4,
    /// The broker's process. Without it, memory is not looked at.
    pid: Option<u32>,
    /// How many strings to send.
    count: u64,
    /// Together with a string's index, decides what the string is.
    seed: u64,
    /// The index of the first string: to repeat a part of a run.
    first: u64,
    /// The only kind of strings to send, as its place in `mutate::KINDS`.
    kind: Option<usize>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("hostile: {problem}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    println!("seed {}", options.seed);
    match run(&options) {
        Ok(()) => {
            println!("ok hostile");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAILED hostile: {failure} (--seed {})", options.seed);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let clock_seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_nanos() as u64);
    let mut options = Options {
        target: "127.0.0.1:5672".parse().expect("an address"),
        pid: None,
        count: 1_000_000,
        seed: clock_seed,
        first: 0,
        kind: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("expected a value after {name}, found none"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("expected a number after {name}, found {value}"))
        };
        match name.as_str() {
            "--uri" => options.target = address_of(&value)?,
            "--pid" => options.pid = Some(number()? as u32),
            "--count" => options.count = number()?,
            "--seed" => options.seed = number()?,
            "--first" => options.first = number()?,
            "--kind" => {
                options.kind =
                    Some(mutate::kind_named(&value).ok_or("expected a kind as the report names it")?)
            }
            _ => return Err(format!("expected an option, found {name}")),
        }
    }
    Ok(options)
}

/// The address in `amqp://guest:guest@127.0.0.1:5672/`.
fn address_of(uri: &str) -> Result<SocketAddrV4, String> {
    let authority = uri
        .strip_prefix("amqp://")
        .unwrap_or(uri)
        .split('/')
        .next()
        .unwrap_or_default();
    let address = authority.rsplit('@').next().unwrap_or_default();
    address
        .parse()
        .map_err(|_| format!("expected a URI with an IPv4 address and a port, found {uri}"))
}

fn run(options: &Options) -> Result<(), String> {
    witness::play_valid_session(options.target)?;
    let base = Base::new(options.kind);
    // What a broker allocates once, and keeps, is no leak.
    let warm_up = options.count / 10;
    in_witness(options, "warm-up", |attack| {
        attack.send_cut_methods();
        attack.send_strings(&base, !options.seed, 0, warm_up);
    })?;
    for round in 1.. {
        let Some((pid, grown)) = attack_all(options, &base, round)? else {
            println!("SKIPPED memory: without --pid, it is not looked at");
            return Ok(());
        };
        if grown <= GROWTH_BYTES_MAX {
            return Ok(());
        }
        if round == ROUNDS_MAX {
            return Err(format!(
                "expected process {pid} to grow by at most {GROWTH_BYTES_MAX} bytes in one of {ROUNDS_MAX} rounds, \
                 found {grown} bytes more in the last"
            ));
        }
        println!("memory: once more, since what a broker allocates once and keeps is no leak");
    }
    unreachable!("the last round returns")
}

/// All attacks, of another seed in each round. Returns the broker's process and the bytes it has grown by.
fn attack_all(options: &Options, base: &Base, round: u64) -> Result<Option<(u32, u64)>, String> {
    let before = options
        .pid
        .map(|pid| process::settled_bytes(pid, 0))
        .transpose()?;
    in_witness(options, "methods cut at every byte", |attack| {
        attack.send_cut_methods();
    })?;
    let seed = options.seed.wrapping_add(round - 1);
    in_witness(options, "strings", |attack| {
        attack.send_strings(base, seed, options.first, options.count)
    })?;
    witness::play_valid_session(options.target)?;
    let (Some(pid), Some(before)) = (options.pid, before) else {
        return Ok(None);
    };
    let after = process::settled_bytes(pid, before + GROWTH_BYTES_MAX)?;
    println!(
        "memory: {} kB of anonymous memory before, {} kB after",
        before / 1024,
        after / 1024
    );
    Ok(Some((pid, after.saturating_sub(before))))
}

/// Runs a phase beside the well-behaved client, whose complaint ends the phase at once.
fn in_witness(options: &Options, phase: &str, send: impl Fn(&Attack)) -> Result<(), String> {
    let (stop_witness, stop_attack) = (AtomicBool::new(false), AtomicBool::new(false));
    let attack = Attack::new(options.target, &stop_attack);
    let begin = Instant::now();
    let testimony = thread::scope(|scope| {
        let witness = scope.spawn(|| {
            let testimony = witness::watch(options.target, &stop_witness);
            stop_attack.store(true, Ordering::Relaxed);
            testimony
        });
        send(&attack);
        let elapsed = begin.elapsed();
        stop_witness.store(true, Ordering::Relaxed);
        witness
            .join()
            .expect("the witness returns its complaints")
            .map(|testimony| (testimony, elapsed))
    });
    let failed = |complaint| format!("{phase}: {complaint}{}", death_of(options));
    let (testimony, elapsed) = testimony.map_err(failed)?;
    report(phase, elapsed, &attack.tally, &testimony);
    check_stalls(phase, &attack.tally)
}

/// Adds to a complaint that the broker is gone, when it is.
fn death_of(options: &Options) -> String {
    match options.pid.map(process::anonymous_bytes) {
        Some(Err(gone)) => format!("; {gone}"),
        _ => String::new(),
    }
}

fn report(phase: &str, elapsed: Duration, tally: &Tally, testimony: &Testimony) {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, seconds) = (count(&tally.sent), elapsed.as_secs_f64());
    println!(
        "{phase}: {sent} strings, each on a connection of its own, {} MB in {seconds:.1} s, {:.0}/s; \
         of {} that waited, the broker closed {}",
        count(&tally.bytes) / 1_000_000,
        sent as f64 / seconds,
        count(&tally.waited),
        count(&tally.closed_by_broker),
    );
    for ((name, ..), made) in mutate::KINDS
        .iter()
        .zip(&tally.kinds)
        .filter(|(_, made)| count(made) > 0)
    {
        println!("  {:>8} {name}", count(made));
    }
    println!(
        "  well-behaved client: {} round trips, none lost; 99 % within {:.1?}, slowest {:.1?}",
        testimony.round_trips.len(),
        testimony.percentile_99(),
        testimony.slowest()
    );
}

fn check_stalls(phase: &str, tally: &Tally) -> Result<(), String> {
    match tally.stalled.load(Ordering::Relaxed) {
        0 => Ok(()),
        count => Err(format!(
            "{phase}: expected every connection to be accepted and read, found {count} that stalled"
        )),
    }
}
