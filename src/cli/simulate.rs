//! `lanemq simulate`: runs the simulation, seed after seed.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `lanemq simulate`.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// How many seeds to run, one after another
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// The first seed; a failing run prints its own
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs the seeds.
pub fn run(arguments: SimulateArguments) -> ExitCode {
    eprintln!(
        "no simulation in this build: {} seeds from {} were not run",
        arguments.seeds, arguments.seed
    );
    ExitCode::from(super::EXIT_UNAVAILABLE)
}
