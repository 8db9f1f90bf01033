//! The command line: what a person or a script asks of the program `lanemq`.
//!
//! Each subcommand has a file: its arguments, and a `run` that gives an exit code. Data goes to standard output,
//! everything said about it to standard error, so that a pipe carries data alone. Exit codes are those of
//! `sysexits.h`, as RabbitMQ's tools use them.
//!
//! The folder decides nothing about messages. It reads settings, starts a broker, and reports.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod check;
pub mod logging;
pub mod perf;
pub mod serve;
pub mod serve_arguments;
pub mod simulate;

/// The arguments were not understood.
pub const EXIT_USAGE: u8 = 64;
/// Something this command needs is not there: a broker to talk to, a port.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// A fault of the program itself.
pub const EXIT_SOFTWARE: u8 = 70;
/// Settings or the machine do not allow it; what was printed says what to change.
pub const EXIT_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  lanemq serve                                  a broker on 127.0.0.1:5672, data in ./data
  lanemq serve --cores 0-3 --data-dir /var/lib/lanemq
  lanemq check io-uring                         can this machine run a broker, and if not, why
  lanemq perf run perf/workloads/quick.toml     load a running broker and print what it did

Exit codes: 0 success, 64 wrong usage, 69 unavailable, 70 internal fault, 78 settings or machine.";

/// An AMQP 0-9-1 broker: RabbitMQ's clients connect to it unchanged, every core is a lane with its own queues and log.
#[derive(Debug, Parser)]
#[command(name = "lanemq", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker until SIGTERM or SIGINT; a second signal stops at once
    Serve(serve_arguments::ServeArguments),
    /// Look at the machine, and say what to change before a broker can run
    Check(check::CheckArguments),
    /// Load a broker and measure what it does, LaneMQ or any other of AMQP 0-9-1
    Perf(perf::PerfArguments),
    /// Run shards, clients, crashes and an auditor in one thread, from a seed
    #[command(hide = true)]
    Simulate(simulate::SimulateArguments),
}

/// Does what the program's arguments ask, and gives the process's exit code.
pub fn run() -> ExitCode {
    run_with(std::env::args_os())
}

/// Does what `arguments` ask; the first is the program's name.
pub fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(refusal) => return explain(&refusal),
    };
    match arguments.command {
        Command::Serve(arguments) => serve_arguments::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Perf(arguments) => perf::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
    }
}

/// Prints help, version or a refusal of the arguments.
fn explain(refusal: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal has gone.
    let _ = refusal.print();
    if refusal.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_declared_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        fn look(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(look);
        }
        look(&Arguments::command());
    }

    #[test]
    fn wrong_usage_and_help_have_their_exit_codes() {
        let wrong = parse("lanemq serve --no-such-option").expect_err("no such option");
        assert!(wrong.use_stderr());
        let help = parse("lanemq --help").expect_err("help is no command");
        assert!(!help.use_stderr());
    }
}
