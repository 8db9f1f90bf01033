//! `Comparison`: several reports side by side, runs of the same label and workload summed up by their median.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::error::PerfError;
use super::report::{Latency, Report};
use super::table::number;

/// How a comparison is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompareFormat {
    /// Columns for people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For a page.
    Markdown,
}

/// All workloads that were compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// One for each workload, in the order in which they were first named.
    pub workloads: Vec<WorkloadComparison>,
}

/// One workload, one column for each label; ratios are to the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadComparison {
    /// The workload's name.
    pub workload: String,
    /// The columns.
    pub columns: Vec<Column>,
}

/// All runs of one label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// The label.
    pub label: String,
    /// Product, version and durability.
    pub broker: String,
    /// Number of runs.
    pub run_count: usize,
    /// Runs in which something was lost, doubled, disordered or corrupted.
    pub faulty_count: usize,
    /// The figures that at least one run has.
    pub figures: Vec<Figure>,
}

/// One figure over all runs of a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: &'static str,
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The median divided by the first column's, where that is not zero.
    pub ratio: Option<f64>,
}

impl Comparison {
    /// Reads `paths` (directories or files) and compares them.
    pub fn read(paths: &[PathBuf]) -> Result<Self, PerfError> {
        let reports = paths
            .iter()
            .map(|path| Report::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(&reports))
    }

    /// Compares `reports`; the first label of each workload is its baseline.
    pub fn new(reports: &[Report]) -> Self {
        let names = distinct(reports.iter().map(|report| report.workload.name.as_str()));
        let of = |name: &str| {
            reports
                .iter()
                .filter(|report| report.workload.name == name)
                .collect::<Vec<_>>()
        };
        let workloads = names
            .into_iter()
            .map(|name| WorkloadComparison::new(name, &of(name)))
            .collect();
        Self { workloads }
    }

    /// Prints itself.
    pub fn render(&self, format: CompareFormat) -> String {
        match format {
            CompareFormat::Json => {
                serde_json::to_string_pretty(self).expect("it holds only what JSON can say") + "\n"
            }
            CompareFormat::Table => self
                .workloads
                .iter()
                .map(WorkloadComparison::table)
                .collect::<Vec<_>>()
                .join("\n"),
            CompareFormat::Markdown => self
                .workloads
                .iter()
                .map(WorkloadComparison::markdown)
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }
}

impl WorkloadComparison {
    fn new(name: &str, reports: &[&Report]) -> Self {
        let labels = distinct(reports.iter().map(|report| report.label.as_str()));
        let of = |label: &str| {
            reports
                .iter()
                .copied()
                .filter(|report| report.label == label)
                .collect::<Vec<_>>()
        };
        let mut columns: Vec<Column> = labels
            .into_iter()
            .map(|label| Column::new(label, &of(label)))
            .collect();
        let baseline = columns
            .first()
            .map_or(Vec::new(), |column| column.figures.clone());
        columns
            .iter_mut()
            .flat_map(|column| &mut column.figures)
            .for_each(|figure| figure.relate_to(&baseline));
        Self {
            workload: name.to_owned(),
            columns,
        }
    }

    /// Names of all figures that any column has.
    fn figure_names(&self) -> Vec<&'static str> {
        let present = |name: &str| self.columns.iter().any(|column| column.figure(name).is_some());
        FIGURES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| present(name))
            .collect()
    }

    /// Rows of cells, the first row the headings.
    fn cells(&self) -> Vec<Vec<String>> {
        let heading = |column: &Column| format!("{} ({} runs)", column.label, column.run_count);
        let mut rows = vec![
            [self.workload.clone()]
                .into_iter()
                .chain(self.columns.iter().map(heading))
                .collect::<Vec<_>>(),
        ];
        rows.push(self.row("broker", |column| column.broker.clone()));
        for name in self.figure_names() {
            rows.push(self.row(name, |column| {
                column.figure(name).map_or("-".to_owned(), Figure::cell)
            }));
        }
        rows.push(self.row("faulty runs", |column| column.faulty_count.to_string()));
        rows
    }

    fn row(&self, name: &str, cell: impl Fn(&Column) -> String) -> Vec<String> {
        [name.to_owned()]
            .into_iter()
            .chain(self.columns.iter().map(cell))
            .collect()
    }

    fn table(&self) -> String {
        let rows = self.cells();
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|index| {
                rows.iter()
                    .map(|row| row[index].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in &rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:<width$}"))
                .collect();
            writeln!(out, "{}", cells.join("   ").trim_end()).expect("a string takes everything");
        }
        out
    }

    fn markdown(&self) -> String {
        let rows = self.cells();
        let mut out = String::new();
        for (index, row) in rows.iter().enumerate() {
            writeln!(out, "| {} |", row.join(" | ")).expect("a string takes everything");
            if index == 0 {
                writeln!(out, "|{}", "---|".repeat(row.len())).expect("a string takes everything");
            }
        }
        out
    }
}

impl Column {
    fn new(label: &str, reports: &[&Report]) -> Self {
        let broker = reports
            .first()
            .map_or(String::new(), |report| broker_name(report));
        let figure = |(name, value): &(&'static str, fn(&Report) -> Option<f64>)| {
            Figure::over(name, reports.iter().filter_map(|report| value(report)).collect())
        };
        Self {
            label: label.to_owned(),
            broker,
            run_count: reports.len(),
            faulty_count: reports.iter().filter(|report| !report.is_good).count(),
            figures: FIGURES.iter().filter_map(figure).collect(),
        }
    }

    fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

impl Figure {
    fn over(name: &'static str, mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Self {
            name,
            median,
            min,
            max,
            ratio: None,
        })
    }

    fn relate_to(&mut self, baseline: &[Figure]) {
        let base = baseline
            .iter()
            .find(|figure| figure.name == self.name)
            .map(|figure| figure.median);
        self.ratio = base.filter(|&base| base != 0.0).map(|base| self.median / base);
    }

    fn cell(&self) -> String {
        let ratio = self
            .ratio
            .map_or(String::new(), |ratio| format!(" × {}", number(ratio)));
        if self.min == self.max {
            return format!("{}{ratio}", number(self.median));
        }
        format!(
            "{}{ratio}  [{} – {}]",
            number(self.median),
            number(self.min),
            number(self.max)
        )
    }
}

fn broker_name(report: &Report) -> String {
    let server = &report.broker.server;
    let durability = report
        .broker
        .durability
        .as_deref()
        .map_or(String::new(), |mode| format!(", {mode}"));
    format!("{} {}{durability}", server.product, server.version)
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.fold(Vec::new(), |mut distinct, name| {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
        distinct
    })
}

fn end_to_end(report: &Report, value: fn(&Latency) -> f64) -> Option<f64> {
    report.figures.end_to_end.as_ref().map(value)
}

fn confirm(report: &Report, value: fn(&Latency) -> f64) -> Option<f64> {
    report.figures.confirm.as_ref().map(value)
}

/// A figure's name and where a report has it.
type FigureOf = (&'static str, fn(&Report) -> Option<f64>);

const FIGURES: [FigureOf; 13] = [
    ("delivered/s", |report| Some(report.figures.delivered_per_second)),
    ("published/s", |report| Some(report.figures.published_per_second)),
    ("end to end p50 µs", |report| {
        end_to_end(report, |latency| latency.p50_microseconds)
    }),
    ("end to end p90 µs", |report| {
        end_to_end(report, |latency| latency.p90_microseconds)
    }),
    ("end to end p99 µs", |report| {
        end_to_end(report, |latency| latency.p99_microseconds)
    }),
    ("end to end p99.9 µs", |report| {
        end_to_end(report, |latency| latency.p999_microseconds)
    }),
    ("end to end max µs", |report| {
        end_to_end(report, |latency| latency.max_microseconds)
    }),
    ("confirm p50 µs", |report| {
        confirm(report, |latency| latency.p50_microseconds)
    }),
    ("confirm p99 µs", |report| {
        confirm(report, |latency| latency.p99_microseconds)
    }),
    ("confirm p99.9 µs", |report| {
        confirm(report, |latency| latency.p999_microseconds)
    }),
    ("broker CPU µs/message", |report| {
        report.broker.cpu_seconds_per_million
    }),
    ("broker resident MB", |report| {
        report.broker.resident_bytes.map(|bytes| bytes as f64 / 1e6)
    }),
    ("generator cores used", |report| {
        Some(report.figures.generator_cores_used)
    }),
];

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn runs_of_a_label_are_summed_up_by_their_median() {
        let rates = [100.0, 300.0, 150.0];
        let mut reports: Vec<Report> = rates
            .iter()
            .map(|&rate| report("rabbit", "small", rate))
            .collect();
        reports.extend([report("lane", "small", 6_000.0), report("lane", "small", 8_000.0)]);
        let comparison = Comparison::new(&reports);
        let [rabbit, lane] = &comparison.workloads[0].columns[..] else {
            panic!("two labels make two columns")
        };
        let figure = rabbit.figure("delivered/s").expect("each run has a rate");
        assert_eq!((figure.median, figure.min, figure.max), (150.0, 100.0, 300.0));
        let figure = lane.figure("delivered/s").expect("each run has a rate");
        assert_eq!((figure.median, figure.ratio), (7_000.0, Some(7_000.0 / 150.0)));
        assert_eq!(lane.run_count, 2);
    }

    #[test]
    fn each_workload_has_its_own_table_and_baseline() {
        let reports = [
            report("a", "x", 10.0),
            report("a", "y", 20.0),
            report("b", "y", 40.0),
        ];
        let comparison = Comparison::new(&reports);
        assert_eq!(comparison.workloads.len(), 2);
        let figure = comparison.workloads[1].columns[1]
            .figure("delivered/s")
            .expect("each run has a rate");
        assert_eq!(figure.ratio, Some(2.0));
    }

    #[test]
    fn every_format_shows_the_ratio() {
        let comparison = Comparison::new(&[report("a", "x", 10.0), report("b", "x", 25.0)]);
        assert!(comparison.render(CompareFormat::Table).contains("× 2.50"));
        assert!(
            comparison
                .render(CompareFormat::Markdown)
                .contains("| delivered/s | 10.0 × 1.00 | 25.0 × 2.50 |")
        );
        let json: serde_json::Value =
            serde_json::from_str(&comparison.render(CompareFormat::Json)).expect("JSON");
        assert_eq!(json["workloads"][0]["columns"][1]["figures"][0]["ratio"], 2.5);
    }
}
