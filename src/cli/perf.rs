//! `lanemq perf`: the load generator's arguments, and what it prints.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::perf::affinity;
use crate::perf::compare::{CompareFormat, Comparison};
use crate::perf::embedded::EmbeddedOptions;
use crate::perf::error::PerfError;
use crate::perf::report::Report;
use crate::perf::run::{RunRequest, Target, run as run_workload};
use crate::perf::sink::Sink;
use crate::perf::table;
use crate::perf::uri::AmqpUri;

/// Arguments of `lanemq perf`.
#[derive(Debug, Args)]
pub struct PerfArguments {
    #[command(subcommand)]
    command: PerfCommand,
}

#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one in the life of the process"
)]
enum PerfCommand {
    /// Put a workload on a broker, print what came of it, and keep it as a report
    Run(RunArguments),
    /// Print reports side by side, with ratios to the first label
    Compare(CompareArguments),
    /// Print a report again
    Show(ShowArguments),
    /// Serve as the fastest possible peer, to measure the generator itself
    #[command(hide = true)]
    Sink(SinkArguments),
}

const RUN_EXAMPLES: &str = "\
Examples:
  lanemq perf run perf/workloads/quick.toml --embedded
  lanemq perf run perf/workloads/one-kib.toml --uri amqp://guest:guest@127.0.0.1:5672 --cpu 1 --broker-pid 4711
  lanemq perf run perf/workloads/durable-confirmed.toml --embedded --cores 0 --cpu 1 --durability fsync --repeat 5
  lanemq perf run perf/workloads/small-messages.toml --set publisher.body_bytes=64 --set queue.arguments.x-lane=1

Exit codes: 0 all went well, 1 messages were lost, doubled, disordered or corrupted, 64 wrong usage or workload,
69 no broker, or the run broke off.";

/// Arguments of `lanemq perf run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
struct RunArguments {
    /// Workload file, such as perf/workloads/quick.toml
    #[arg(value_name = "WORKLOAD.toml")]
    workload: PathBuf,

    /// The broker to load
    #[arg(
        long,
        value_name = "URI",
        default_value = "amqp://guest:guest@127.0.0.1:5672/",
        conflicts_with = "embedded"
    )]
    uri: String,

    /// Start a broker of this program on a free port for each run, with a data directory of its own
    #[arg(long)]
    embedded: bool,

    /// Cores of the embedded broker, its lanes and its affinity mask, such as 0 or 0-2 [default: all]
    #[arg(long, value_name = "LIST", requires = "embedded")]
    cores: Option<String>,

    /// A setting of the embedded broker, as `lanemq serve --set` takes it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "embedded")]
    broker_set: Vec<String>,

    /// Set a key of the workload, such as publisher.body_bytes=1024 (all groups) or queue.0.durable=true (the first)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Seconds to measure, in place of the workload's
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,

    /// Number of runs, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,

    /// The broker's process, to measure its CPU time and memory (for RabbitMQ that of beam.smp)
    #[arg(long, value_name = "PID", conflicts_with = "embedded")]
    broker_pid: Option<u32>,

    /// Cores of the generator, one pinned thread each, such as 1 or 2-3 [default: one thread, not pinned]
    #[arg(long, value_name = "LIST")]
    cpu: Option<String>,

    /// Name of what is measured, which `compare` groups by [default: the broker's product]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,

    /// How durable a confirm is; sets the embedded broker's mode (fsync or write), else only noted in the report
    #[arg(long, value_name = "MODE")]
    durability: Option<String>,

    /// The broker's data directory, noted with its file system; for an embedded broker the place to make it in
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Directory of the report [default: perf/reports/<time>-<workload>-<label>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Arguments of `lanemq perf compare`.
#[derive(Debug, Args)]
struct CompareArguments {
    /// Reports: directories, or their result.json; the first label is the baseline
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = FormatArgument::Table)]
    format: FormatArgument,
}

/// Arguments of `lanemq perf show`.
#[derive(Debug, Args)]
struct ShowArguments {
    /// Reports: directories, or their result.json
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<PathBuf>,
}

/// Arguments of `lanemq perf sink`.
#[derive(Debug, Args)]
struct SinkArguments {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5690")]
    listen: String,

    /// Cores to run on
    #[arg(long, value_name = "LIST")]
    cpu: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArgument {
    /// Columns for people
    Table,
    /// For programs
    Json,
    /// For a page
    Markdown,
}

/// Does what was asked for, and prints it.
pub fn run(arguments: PerfArguments) -> ExitCode {
    let done = match arguments.command {
        PerfCommand::Run(arguments) => run_and_print(arguments),
        PerfCommand::Compare(arguments) => compare(&arguments),
        PerfCommand::Show(arguments) => show(&arguments),
        PerfCommand::Sink(arguments) => sink(&arguments).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("lanemq perf: {error}");
        ExitCode::from(exit_code(&error))
    })
}

fn run_and_print(arguments: RunArguments) -> Result<ExitCode, PerfError> {
    let request = request(arguments)?;
    let reports = run_workload(&request, print_run)?;
    if reports.len() > 1 {
        print(&Comparison::new(&reports).render(CompareFormat::Table));
    }
    let is_good = reports.iter().all(|report| report.is_good);
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAULTY)
    })
}

fn request(arguments: RunArguments) -> Result<RunRequest, PerfError> {
    let mut settings = arguments.set.clone();
    settings.extend(
        arguments
            .duration
            .map(|seconds| format!("duration_seconds={seconds:?}")),
    );
    Ok(RunRequest {
        target: target(&arguments)?,
        workload: arguments.workload,
        settings,
        repeat: arguments.repeat,
        cores: cores(arguments.cpu.as_deref())?,
        label: arguments.label,
        durability: arguments.durability,
        out: arguments.out,
    })
}

fn target(arguments: &RunArguments) -> Result<Target, PerfError> {
    if !arguments.embedded {
        let uri = AmqpUri::parse(&arguments.uri)?;
        return Ok(Target::Running {
            uri,
            pid: arguments.broker_pid,
            data_dir: arguments.data_dir.clone(),
        });
    }
    Ok(Target::Embedded(EmbeddedOptions {
        cores: cores(arguments.cores.as_deref())?,
        durability: arguments.durability.clone(),
        data_parent: arguments.data_dir.clone(),
        settings: arguments.broker_set.clone(),
    }))
}

fn cores(list: Option<&str>) -> Result<Vec<usize>, PerfError> {
    list.map_or(Ok(Vec::new()), affinity::parse_cores)
}

fn compare(arguments: &CompareArguments) -> Result<ExitCode, PerfError> {
    let format = match arguments.format {
        FormatArgument::Table => CompareFormat::Table,
        FormatArgument::Json => CompareFormat::Json,
        FormatArgument::Markdown => CompareFormat::Markdown,
    };
    print(&Comparison::read(&arguments.reports)?.render(format));
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: &ShowArguments) -> Result<ExitCode, PerfError> {
    for path in &arguments.reports {
        print(&table::render(&Report::read(path)?));
    }
    Ok(ExitCode::SUCCESS)
}

fn sink(arguments: &SinkArguments) -> Result<(), PerfError> {
    let cores = cores(arguments.cpu.as_deref())?;
    if !cores.is_empty() {
        affinity::pin(&cores)?;
    }
    let listener = TcpListener::bind(&arguments.listen);
    let listener = listener.map_err(PerfError::system(format!("listening on {}", arguments.listen)))?;
    Sink::new(listener)
        .map_err(PerfError::system("preparing to listen"))?
        .run()
}

fn print_run(report: &Report, directory: &Path) {
    print(&format!(
        "{}  {:<14} {}\n\n",
        table::render(report),
        "report",
        directory.display()
    ));
}

fn print(text: &str) {
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn exit_code(error: &PerfError) -> u8 {
    match error {
        PerfError::Workload(_) | PerfError::Uri(_) | PerfError::Argument(_) => super::EXIT_USAGE,
        PerfError::Report { .. } => super::EXIT_USAGE,
        _ => super::EXIT_UNAVAILABLE,
    }
}

/// Messages were lost, doubled, disordered or corrupted.
const EXIT_FAULTY: u8 = 1;
