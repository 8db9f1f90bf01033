//! The broker's own lines: to standard error, in the level and form that are set.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel, Logging};

/// Begins to write lines. The environment variable RUST_LOG takes the place of the level. Called a second time in a
/// process it changes nothing.
pub fn start(logging: &Logging) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level_name(logging.level)));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(io::stderr);
    // Only the first subscriber of a process counts; tests start several brokers in one.
    let _ = match logging.format {
        LogFormat::Text => lines.with_ansi(is_coloured(&io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Whether to colour what is written to `stream`: only a terminal, and not when NO_COLOR is set (no-color.org).
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !is_forbidden
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
