//! The program `lanemq`. All of it is in the library, so that tests and the simulator run the same code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lanemq::cli::run()
}
