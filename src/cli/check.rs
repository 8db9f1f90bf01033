//! `lanemq check`: what the machine offers, and what to change before a broker can run.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::serve_arguments::{SettingsArguments, refuse};
use super::{EXIT_CONFIG, EXIT_SOFTWARE, EXIT_USAGE, logging};
use crate::definitions::Definitions;
use crate::runtime::self_check::{Facts, Finding, Status, judge, raise_limits};
use crate::shard::definitions_file::read_definitions;

const CHECK_HELP: &str = "\
Example:
  lanemq check io-uring --data-dir /var/lib/lanemq --format json

Exit codes: 0 a broker can run (warnings included), 78 it cannot: each failed line names its remedy.";

const DEFINITIONS_HELP: &str = "\
Examples:
  lanemq check definitions definitions.json     a file that RabbitMQ has exported
  lanemq check definitions -c lanemq.toml       the file that definitions.file names

Exit codes: 0 the file can be imported (warnings included), 78 it cannot: each fault is told with its fix.";

/// Arguments of `lanemq check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// What `serve` looks at before it starts: kernel, io_uring, limits, data directory, ports
    #[command(after_help = CHECK_HELP)]
    IoUring(IoUringArguments),
    /// What a file of definitions holds, and what is wrong with it
    #[command(after_help = DEFINITIONS_HELP)]
    Definitions(DefinitionsArguments),
}

#[derive(Debug, Args)]
struct DefinitionsArguments {
    /// What the settings are.
    #[command(flatten)]
    settings: SettingsArguments,

    /// The file [default: the one of the setting definitions.file]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct IoUringArguments {
    /// What the settings are.
    #[command(flatten)]
    settings: SettingsArguments,

    /// Form of the answer: a table for people, or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned lines for people, coloured on a terminal.
    Table,
    /// One JSON document.
    Json,
}

/// Looks at its subject and prints what was found.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    match &arguments.subject {
        Subject::IoUring(arguments) => check_machine(arguments),
        Subject::Definitions(arguments) => check_definitions(arguments),
    }
}

fn check_definitions(arguments: &DefinitionsArguments) -> ExitCode {
    let file = match (&arguments.file, arguments.settings.load()) {
        (Some(file), _) => file.clone(),
        (None, Ok(config)) => config.definitions.file,
        (None, Err(error)) => return refuse(&error),
    };
    if file.as_os_str().is_empty() {
        eprintln!("error: no file: name one, or set definitions.file");
        return ExitCode::from(EXIT_USAGE);
    }
    let definitions = match read_definitions(&file) {
        Ok(definitions) => definitions,
        Err(refused) => {
            eprintln!("{refused}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    for warning in &definitions.warnings {
        eprintln!("warning: {}: {warning}", file.display());
    }
    match std::io::stdout()
        .lock()
        .write_all(summary(&definitions).as_bytes())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_SOFTWARE),
    }
}

/// How much there is of each kind, a line each.
fn summary(definitions: &Definitions) -> String {
    let counts = [
        ("users", definitions.users.len()),
        ("vhosts and limits", definitions.vhosts.len()),
        ("permissions", definitions.permissions.len()),
        ("topic permissions", definitions.topic_permissions.len()),
        ("policies", definitions.policies.len()),
        ("queues", definitions.queues.len()),
        ("exchanges", definitions.exchanges.len()),
        ("bindings", definitions.bindings.len()),
    ];
    let lines = counts.iter().map(|(what, count)| format!("{count:>8}  {what}\n"));
    lines.collect()
}

fn check_machine(arguments: &IoUringArguments) -> ExitCode {
    let config = match arguments.settings.load() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    raise_limits();
    let findings = judge(&Facts::read(&config.data_dir, config.listen.as_slice()));
    let out = std::io::stdout();
    let text = match arguments.format {
        Format::Table => table(&findings, logging::is_coloured(&out)),
        Format::Json => json(&findings),
    };
    match out.lock().write_all(text.as_bytes()) {
        Ok(()) => verdict(&findings),
        Err(_) => ExitCode::from(EXIT_SOFTWARE),
    }
}

/// Success unless a finding says that no broker can run.
pub fn verdict(findings: &[Finding]) -> ExitCode {
    let is_failed = findings.iter().any(|finding| finding.status == Status::Failed);
    if is_failed {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::SUCCESS
    }
}

/// The findings for people: a line each, and below it what to do.
pub fn table(findings: &[Finding], is_coloured: bool) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let word = format!("{:<7}", word(finding.status));
        let word = if is_coloured {
            coloured(finding.status, &word)
        } else {
            word
        };
        text += &format!("{word}  {:<width$}  {}\n", finding.name, finding.found);
        if !finding.remedy.is_empty() {
            text += &format!("         {:<width$}  fix: {}\n", "", finding.remedy);
        }
    }
    text
}

/// The findings for programs: `{"findings": [{"name", "status", "found", "remedy"}]}`; status is "ok", "warning" or
/// "failed", remedy is null when nothing is to be done.
pub fn json(findings: &[Finding]) -> String {
    let answer = Answer {
        findings: findings.iter().map(Entry::from).collect(),
    };
    let text = serde_json::to_string_pretty(&answer).expect("texts have a form in JSON");
    text + "\n"
}

#[derive(Serialize)]
struct Answer<'a> {
    findings: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    status: &'a str,
    found: &'a str,
    remedy: Option<&'a str>,
}

impl<'a> From<&'a Finding> for Entry<'a> {
    fn from(finding: &'a Finding) -> Self {
        let remedy = (!finding.remedy.is_empty()).then_some(finding.remedy.as_str());
        Self {
            name: finding.name,
            status: word(finding.status),
            found: &finding.found,
            remedy,
        }
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failed => "failed",
    }
}

/// `text` between the terminal's sequences for green, yellow or red.
fn coloured(status: Status, text: &str) -> String {
    let colour = match status {
        Status::Ok => 32,
        Status::Warning => 33,
        Status::Failed => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        let finding = |name, status, found: &str, remedy: &str| Finding {
            name,
            status,
            found: found.to_owned(),
            remedy: remedy.to_owned(),
        };
        vec![
            finding("kernel", Status::Ok, "Linux 6.1", ""),
            finding(
                "locked memory",
                Status::Failed,
                "64 KiB may be locked",
                "ulimit -l unlimited",
            ),
        ]
    }

    #[test]
    fn a_table_shows_the_remedy_below_the_finding() {
        let expected = "\
ok       kernel         Linux 6.1
failed   locked memory  64 KiB may be locked
                        fix: ulimit -l unlimited
";
        assert_eq!(table(&findings(), false), expected);
        assert!(table(&findings(), true).contains("\x1b[31mfailed \x1b[0m"));
    }

    #[test]
    fn json_has_null_where_nothing_is_to_be_done() {
        let answer: serde_json::Value = serde_json::from_str(&json(&findings())).expect("JSON");
        assert_eq!(answer["findings"][0]["remedy"], serde_json::Value::Null);
        assert_eq!(answer["findings"][1]["status"], "failed");
    }
}
