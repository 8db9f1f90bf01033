//! `run`: the steps of `lanemq perf run`, from a workload file to reports on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::affinity;
use super::embedded::{EmbeddedBroker, EmbeddedOptions};
use super::environment::{Environment, seconds_since_epoch};
use super::error::PerfError;
use super::generator::{GenerateOptions, generate};
use super::plot;
use super::report::{Report, ReportContext};
use super::uri::AmqpUri;
use super::workload::Workload;

/// Where the broker is.
#[derive(Clone, Debug)]
pub enum Target {
    /// It runs already.
    Running {
        /// Its address and our login.
        uri: AmqpUri,
        /// Its process, if on this machine.
        pid: Option<u32>,
        /// Its data directory, if on this machine.
        data_dir: Option<PathBuf>,
    },
    /// It is started for each run.
    Embedded(EmbeddedOptions),
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The workload file.
    pub workload: PathBuf,
    /// Overrides of its keys, `key=value`.
    pub settings: Vec<String>,
    /// The broker.
    pub target: Target,
    /// Number of runs, one after the other.
    pub repeat: u32,
    /// Cores of the generator, one thread each; empty: one thread anywhere.
    pub cores: Vec<usize>,
    /// Name of what is measured; `None`: the broker's product in small letters.
    pub label: Option<String>,
    /// The broker's durability mode, where it does not say itself.
    pub durability: Option<String>,
    /// Directory of the report; `None`: one named by time, workload and label in `perf/reports`.
    pub out: Option<PathBuf>,
}

/// Makes all runs; each report is written and then given to `show` with its directory.
pub fn run(request: &RunRequest, mut show: impl FnMut(&Report, &Path)) -> Result<Vec<Report>, PerfError> {
    let workload = Workload::load(&request.workload, &request.settings)?;
    let mut reports = Vec::new();
    for number in 1..=request.repeat {
        let report = run_once(request, &workload)?;
        let directory = directory(request, &report, number);
        write(&report, &directory)?;
        show(&report, &directory);
        reports.push(report);
    }
    Ok(reports)
}

fn run_once(request: &RunRequest, workload: &Workload) -> Result<Report, PerfError> {
    let suffix = suffix();
    let target = Reached::new(&request.target, suffix)?;
    let started = seconds_since_epoch();
    let environment = Environment::capture(target.data_dir.as_deref(), target.pid, &request.cores);
    let cores = request.cores.clone();
    let options = GenerateOptions {
        uri: target.uri.clone(),
        cores,
        broker_pid: target.pid,
        suffix,
    };
    let measured = if request.cores.is_empty() {
        generate(workload, &options)?
    } else {
        affinity::pinned_to(&request.cores, || generate(workload, &options))??
    };
    let label = request
        .label
        .clone()
        .unwrap_or_else(|| label_of(&measured.server.product));
    let context = ReportContext {
        label,
        durability: request.durability.clone(),
        started,
        environment,
    };
    Ok(Report::new(&measured, workload, context))
}

/// A broker that runs.
struct Reached {
    uri: AmqpUri,
    pid: Option<u32>,
    data_dir: Option<PathBuf>,
    /// Stopped when dropped.
    _embedded: Option<EmbeddedBroker>,
}

impl Reached {
    fn new(target: &Target, suffix: u64) -> Result<Self, PerfError> {
        let options = match target.clone() {
            Target::Running { uri, pid, data_dir } => {
                return Ok(Self {
                    uri,
                    pid,
                    data_dir,
                    _embedded: None,
                });
            }
            Target::Embedded(options) => options,
        };
        let program = std::env::current_exe().map_err(PerfError::system("looking for this program"))?;
        let broker = EmbeddedBroker::start(&program, &options, suffix)?;
        let (pid, data_dir) = (Some(broker.pid()), Some(broker.data_dir().to_owned()));
        Ok(Self {
            uri: broker.uri(),
            pid,
            data_dir,
            _embedded: Some(broker),
        })
    }
}

fn write(report: &Report, directory: &Path) -> Result<(), PerfError> {
    report.write(directory)?;
    let path = directory.join("result.svg");
    let written = fs::write(&path, plot::render(report));
    written.map_err(PerfError::system(format!("writing {}", path.display())))
}

fn directory(request: &RunRequest, report: &Report, number: u32) -> PathBuf {
    let time = report.started.replace(['-', ':'], "");
    let turn = if request.repeat == 1 {
        String::new()
    } else {
        format!("-{number}")
    };
    let named =
        || Path::new("perf/reports").join(format!("{time}-{}-{}{turn}", report.workload.name, report.label));
    match &request.out {
        Some(out) if request.repeat == 1 => out.clone(),
        Some(out) => out.join(number.to_string()),
        None => named(),
    }
}

fn label_of(product: &str) -> String {
    let plain: String = product.chars().filter(char::is_ascii_alphanumeric).collect();
    if plain.is_empty() {
        "broker".to_owned()
    } else {
        plain.to_ascii_lowercase()
    }
}

/// 48 bits that no other run has: time and process.
fn suffix() -> u64 {
    let nanoseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    (nanoseconds ^ (u64::from(std::process::id()) << 24)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
}
