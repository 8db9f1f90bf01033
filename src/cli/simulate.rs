//! `lanemq simulate`: runs the simulation, seed after seed.

use crate::simulation::{STEPS, Tally, Trace, run_seed};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `lanemq simulate`.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// How many seeds to run, one after another
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// The first seed; a failing run prints its own
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Happenings for which the clients of a seed work
    #[arg(long, default_value_t = STEPS)]
    pub steps: u64,
    /// Print each seed's trace hash: two runs of a seed must print the same
    #[arg(long)]
    pub verbose: bool,
    /// Print every line of the traces, not only the last before a failure
    #[arg(long)]
    pub trace: bool,
}

/// Runs the seeds; the first that breaks a promise ends it with exit code 1.
pub fn run(arguments: SimulateArguments) -> ExitCode {
    let trace = Trace::default();
    if arguments.trace {
        trace.print();
    }
    explain_panics(&trace, arguments.steps);
    let begun = Instant::now();
    let mut sum = Tally::default();
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        show_progress(seed, &arguments);
        match run_seed(seed, arguments.steps, &trace) {
            Ok(tally) => add(&mut sum, tally),
            Err(violation) => {
                clear_progress();
                explain(&violation, &trace, arguments.steps);
                return ExitCode::FAILURE;
            }
        }
        if arguments.verbose {
            println!("seed {seed}: trace {:016x}", trace.hash());
        }
    }
    clear_progress();
    println!(
        "{} seeds passed in {:.1} s ({} messages confirmed, {} crashes, {} redelivered, {} dead letters)",
        arguments.seeds,
        begun.elapsed().as_secs_f64(),
        sum.confirmed,
        sum.crashes,
        sum.redelivered,
        sum.dead_letters
    );
    ExitCode::SUCCESS
}

fn add(sum: &mut Tally, tally: Tally) {
    sum.confirmed += tally.confirmed;
    sum.crashes += tally.crashes;
    sum.redelivered += tally.redelivered;
    sum.dead_letters += tally.dead_letters;
}

/// A broken invariant of the broker panics; the seed is told then as well.
fn explain_panics(trace: &Trace, steps: u64) {
    let trace = trace.clone();
    let print_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        clear_progress();
        print_panic(panic);
        explain("a panic, told above", &trace, steps);
        // The profile aborts on panics, which would be another exit code.
        std::process::exit(1);
    }));
}

fn explain(violation: &str, trace: &Trace, steps: u64) {
    let seed = trace.seed();
    for line in trace.last_lines() {
        eprintln!("{line}");
    }
    eprintln!("seed {seed}: {violation}");
    eprintln!("repeat it with: cargo sim --seeds 1 --seed {seed} --steps {steps}");
}

fn show_progress(seed: u64, arguments: &SimulateArguments) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() && !arguments.verbose && !arguments.trace {
        let (count, all) = (seed - arguments.seed, arguments.seeds);
        // Progress that cannot be shown is no matter.
        let _ = write!(stderr, "\r{count} of {all} seeds passed");
    }
}

fn clear_progress() {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K");
    }
}
