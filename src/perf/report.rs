//! `Report`: one run as `result.json` keeps it.
//!
//! The schema has version 1. Keys may be added under the same version; a key that changes its meaning or goes makes
//! the next one. Times are in the unit that ends their name, sizes in bytes.

use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::connection::ServerFacts;
use super::environment::{Environment, utc};
use super::error::PerfError;
use super::generator::Measured;
use super::verify::Integrity;
use super::workload::Workload;

/// The version that this program writes and reads.
pub const SCHEMA_VERSION: u32 = 1;
/// Name of the file in a report's directory.
pub const RESULT_FILE: &str = "result.json";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who was measured, in the words of whoever measured.
    pub label: String,
    /// When the run began, UTC, ISO 8601.
    pub started: String,
    /// Whether everything came once, whole, in order and confirmed.
    pub is_good: bool,
    /// What was wrong with the measurement itself, such as a generator at its limit; empty when nothing was.
    pub remarks: Vec<String>,
    /// Rates and latencies.
    pub figures: Figures,
    /// What accounting found.
    pub integrity: Integrity,
    /// The broker.
    pub broker: BrokerFigures,
    /// The load, as it was after overrides.
    pub workload: Workload,
    /// The machine.
    pub environment: Environment,
    /// Counts of each second from the beginning of the warm-up to the end of the drain.
    pub timeline: Vec<Second>,
}

/// Rates and latencies inside the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Length of the window.
    pub seconds: f64,
    /// Messages published a second.
    pub published_per_second: f64,
    /// Deliveries received a second.
    pub delivered_per_second: f64,
    /// Messages confirmed or refused a second.
    pub settled_per_second: f64,
    /// From the intended send time to the delivery; bodies of 24 bytes and more.
    pub end_to_end: Option<Latency>,
    /// From the intended send time to the confirm.
    pub confirm: Option<Latency>,
    /// From the intended to the actual send time: how late the generator was. Open loops only.
    pub send_delay: Option<Latency>,
    /// The generator's CPU time over the window's; 1 is one core.
    pub generator_cores_used: f64,
}

/// A distribution of latencies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Values recorded.
    pub count: u64,
    /// Mean in microseconds.
    pub mean_microseconds: f64,
    /// Median.
    pub p50_microseconds: f64,
    /// 90 % are no slower.
    pub p90_microseconds: f64,
    /// 99 % are no slower.
    pub p99_microseconds: f64,
    /// 99.9 % are no slower.
    pub p999_microseconds: f64,
    /// The slowest.
    pub max_microseconds: f64,
    /// The curve: pairs of a share in percent and the latency in microseconds.
    pub percentiles: Vec<(f64, f64)>,
}

/// The broker's side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerFigures {
    /// What it said of itself.
    pub server: ServerFacts,
    /// How durable a confirm is: as it said, or as the caller said for it.
    pub durability: Option<String>,
    /// CPU seconds inside the window.
    pub cpu_seconds: Option<f64>,
    /// CPU seconds per million messages delivered, or published where nothing is consumed: microseconds a message.
    pub cpu_seconds_per_million: Option<f64>,
    /// Resident memory at the window's end.
    pub resident_bytes: Option<u64>,
    /// Most resident memory up to then.
    pub resident_bytes_peak: Option<u64>,
}

/// Messages counted in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Published.
    pub published: u64,
    /// Delivered.
    pub delivered: u64,
    /// Confirmed or refused.
    pub settled: u64,
}

/// What a report says beside what was measured.
#[derive(Clone, Debug)]
pub struct ReportContext {
    /// Who was measured.
    pub label: String,
    /// Durability mode as the caller knows it.
    pub durability: Option<String>,
    /// Seconds since 1970 at the run's beginning.
    pub started: u64,
    /// The machine.
    pub environment: Environment,
}

impl Report {
    /// The report of a run of `workload`.
    pub fn new(measured: &Measured, workload: &Workload, context: ReportContext) -> Self {
        let figures = Figures::new(measured);
        Self {
            schema_version: SCHEMA_VERSION,
            label: context.label,
            started: utc(context.started),
            is_good: measured.integrity.is_good(measured.copies),
            remarks: remarks(measured, workload, &figures, &context.environment),
            broker: BrokerFigures::new(measured, context.durability),
            figures,
            integrity: measured.integrity,
            workload: workload.clone(),
            environment: context.environment,
            timeline: measured
                .timeline
                .iter()
                .map(|counts| Second {
                    published: counts.published,
                    delivered: counts.delivered,
                    settled: counts.settled,
                })
                .collect(),
        }
    }

    /// Reads a `result.json`, or the one in a report's directory.
    pub fn read(path: &Path) -> Result<Self, PerfError> {
        let file = if path.is_dir() {
            path.join(RESULT_FILE)
        } else {
            path.to_owned()
        };
        let refuse = |reason: String| PerfError::Report {
            path: file.clone(),
            reason,
        };
        let text = fs::read_to_string(&file).map_err(|error| refuse(error.to_string()))?;
        let version: SchemaVersion =
            serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if version.schema_version != SCHEMA_VERSION {
            let found = version.schema_version;
            return Err(refuse(format!(
                "schema version {found}, but this program reads {SCHEMA_VERSION}"
            )));
        }
        serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))
    }

    /// Writes `result.json` into `directory`, which is made if need be, and returns its path.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, PerfError> {
        let path = directory.join(RESULT_FILE);
        let text = serde_json::to_string_pretty(self).expect("a report holds only what JSON can say");
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, text + "\n"))
            .map_err(PerfError::system(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

#[derive(Deserialize)]
struct SchemaVersion {
    schema_version: u32,
}

impl Figures {
    fn new(measured: &Measured) -> Self {
        let rate = |count: u64| {
            if measured.seconds > 0.0 {
                count as f64 / measured.seconds
            } else {
                0.0
            }
        };
        Self {
            seconds: measured.seconds,
            published_per_second: rate(measured.counts.published),
            delivered_per_second: rate(measured.counts.delivered),
            settled_per_second: rate(measured.counts.settled),
            end_to_end: Latency::new(&measured.end_to_end),
            confirm: Latency::new(&measured.confirm),
            send_delay: Latency::new(&measured.send_delay),
            generator_cores_used: if measured.seconds > 0.0 {
                measured.generator_cpu_seconds / measured.seconds
            } else {
                0.0
            },
        }
    }
}

impl Latency {
    /// Figures of a histogram of nanoseconds, `None` if it is empty.
    fn new(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |share: f64| histogram.value_at_quantile(share) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean_microseconds: histogram.mean() / 1e3,
            p50_microseconds: at(0.5),
            p90_microseconds: at(0.9),
            p99_microseconds: at(0.99),
            p999_microseconds: at(0.999),
            max_microseconds: histogram.max() as f64 / 1e3,
            percentiles: CURVE
                .iter()
                .map(|&percent| (percent, at(percent / 100.0)))
                .collect(),
        })
    }
}

impl BrokerFigures {
    fn new(measured: &Measured, durability: Option<String>) -> Self {
        let counted = measured.counts.delivered.max(if measured.counts.delivered == 0 {
            measured.counts.published
        } else {
            0
        });
        let cpu_seconds = measured.broker.map(|(cpu_seconds, _)| cpu_seconds);
        Self {
            server: measured.server.clone(),
            durability: durability.or_else(|| measured.server.durability.clone()),
            cpu_seconds,
            cpu_seconds_per_million: cpu_seconds
                .filter(|_| counted > 0)
                .map(|seconds| seconds * 1e6 / counted as f64),
            resident_bytes: measured.broker.map(|(_, sample)| sample.resident_bytes),
            resident_bytes_peak: measured.broker.map(|(_, sample)| sample.resident_bytes_peak),
        }
    }
}

/// What makes the figures doubtful.
fn remarks(
    measured: &Measured,
    workload: &Workload,
    figures: &Figures,
    environment: &Environment,
) -> Vec<String> {
    let mut remarks = Vec::new();
    let cores = environment.generator_cores.len().max(1) as f64;
    let is_open = workload.publishers.iter().any(|group| group.rate > 0.0);
    if !is_open && figures.generator_cores_used > 0.95 * cores {
        remarks.push("the generator used its cores up: it may be the limit, not the broker".to_owned());
    }
    if figures
        .send_delay
        .as_ref()
        .is_some_and(|delay| delay.p99_microseconds > 1_000.0)
    {
        remarks.push("1 % of the messages were sent more than 1 ms late: by a full confirm window, a full socket, or a busy core".to_owned());
    }
    if environment.load_average > 0.5 {
        remarks.push(format!(
            "the machine was busy before the run: load average {:.1}",
            environment.load_average
        ));
    }
    let integrity = &measured.integrity;
    if integrity.unsent > 0 {
        remarks.push(format!(
            "{} scheduled messages could not be sent: the latencies lack them",
            integrity.unsent
        ));
    }
    if integrity.nacked + integrity.returned > 0 {
        remarks.push(format!(
            "{} messages were refused and {} returned",
            integrity.nacked, integrity.returned
        ));
    }
    remarks
}

const CURVE: [f64; 20] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95,
    99.99, 99.999, 100.0,
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report with these figures, for tests of whoever reads reports.
    pub(in crate::perf) fn report(label: &str, workload: &str, delivered_per_second: f64) -> Report {
        let text = format!(
            "name = \"{workload}\"\n[[queue]]\n[[publisher]]\nbody_bytes = [16, 24]\n[[consumer]]\nack = {{ multiple = 10 }}\n"
        );
        let mut histogram = Histogram::new(3).expect("three digits are possible");
        (1..=1000u64).for_each(|value| histogram.record(value * 1_000).expect("it resizes itself"));
        Report {
            schema_version: SCHEMA_VERSION,
            label: label.to_owned(),
            started: utc(0),
            is_good: true,
            remarks: vec!["a remark".to_owned()],
            figures: Figures {
                seconds: 2.0,
                delivered_per_second,
                end_to_end: Latency::new(&histogram),
                ..Figures::default()
            },
            integrity: Integrity {
                published: 3,
                ..Integrity::default()
            },
            broker: BrokerFigures {
                cpu_seconds: Some(1.5),
                ..BrokerFigures::default()
            },
            workload: Workload::parse(&text, "test", &[]).expect("the text is a workload"),
            environment: Environment {
                core_count: 2,
                ..Environment::default()
            },
            timeline: vec![
                Second {
                    published: 1,
                    delivered: 2,
                    settled: 3
                };
                2
            ],
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let directory = std::env::temp_dir().join(format!("lanemq-report-{}", std::process::id()));
        let written = report("a", "w", 12.5);
        written.write(&directory).expect("the directory can be made");
        let read = Report::read(&directory).expect("it was just written");
        fs::remove_dir_all(&directory).expect("it was just made");
        assert_eq!(read, written);
    }

    #[test]
    fn a_report_of_another_version_is_refused() {
        let path = std::env::temp_dir().join(format!("lanemq-report-{}.json", std::process::id()));
        fs::write(&path, "{\"schema_version\": 9}").expect("the file can be written");
        let error = Report::read(&path).expect_err("version 9 is unknown").to_string();
        fs::remove_file(&path).expect("it was just written");
        assert!(error.contains("schema version 9"), "{error}");
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let latency = report("a", "w", 1.0)
            .figures
            .end_to_end
            .expect("there are values");
        assert!((latency.p50_microseconds - 500.0).abs() < 1.0, "{latency:?}");
        assert!((latency.max_microseconds - 1000.0).abs() < 1.0, "{latency:?}");
    }
}
