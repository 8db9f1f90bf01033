//! Reports as text for people.

use std::fmt::Write;

use super::report::{Latency, Report};

/// A number with thousands separated, and as many decimals as its size makes worth reading.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let grouped = group_thousands(whole);
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

fn group_thousands(digits: &str) -> String {
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One run, its figures and what accounting found.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    heading(&mut out, report);
    rates(&mut out, report);
    latencies(&mut out, report);
    broker(&mut out, report);
    accounting(&mut out, report);
    for remark in &report.remarks {
        row(&mut out, "remark", remark);
    }
    out
}

fn heading(out: &mut String, report: &Report) {
    let server = &report.broker.server;
    let durability = report
        .broker
        .durability
        .as_deref()
        .map_or(String::new(), |mode| format!(", durability {mode}"));
    row(
        out,
        "workload",
        &format!("{} · {}", report.workload.name, report.workload.why),
    );
    row(
        out,
        "broker",
        &format!(
            "{} {} ({}){durability}",
            server.product, server.version, report.label
        ),
    );
}

fn rates(out: &mut String, report: &Report) {
    let figures = &report.figures;
    row(
        out,
        "delivered",
        &format!("{}/s", number(figures.delivered_per_second)),
    );
    row(
        out,
        "published",
        &format!("{}/s", number(figures.published_per_second)),
    );
    if figures.confirm.is_some() {
        row(
            out,
            "confirmed",
            &format!("{}/s", number(figures.settled_per_second)),
        );
    }
    let cores = number(figures.generator_cores_used);
    row(
        out,
        "measured",
        &format!("{} s, generator on {cores} of its cores", number(figures.seconds)),
    );
}

fn latencies(out: &mut String, report: &Report) {
    let figures = &report.figures;
    let kinds = [
        ("end to end", &figures.end_to_end),
        ("confirm", &figures.confirm),
        ("send delay", &figures.send_delay),
    ];
    if kinds.iter().any(|(_, latency)| latency.is_some()) {
        row(
            out,
            "latency µs",
            "       p50        p90        p99      p99.9        max",
        );
    }
    for (name, latency) in kinds {
        if let Some(latency) = latency {
            row(out, name, &latency_cells(latency));
        }
    }
}

fn latency_cells(latency: &Latency) -> String {
    let cells = [
        latency.p50_microseconds,
        latency.p90_microseconds,
        latency.p99_microseconds,
        latency.p999_microseconds,
        latency.max_microseconds,
    ];
    cells
        .iter()
        .map(|&value| format!("{:>10} ", number(value)))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn broker(out: &mut String, report: &Report) {
    let broker = &report.broker;
    if let Some(cost) = broker.cpu_seconds_per_million {
        let cores = broker.cpu_seconds.unwrap_or(0.0) / report.figures.seconds;
        row(
            out,
            "broker CPU",
            &format!("{} s per million messages, {} cores", number(cost), number(cores)),
        );
    }
    if let Some(resident) = broker.resident_bytes {
        row(
            out,
            "broker memory",
            &format!("{} MB resident", number(resident as f64 / 1e6)),
        );
    }
}

fn accounting(out: &mut String, report: &Report) {
    let integrity = &report.integrity;
    let verdict = if report.is_good {
        "nothing lost, doubled or out of order"
    } else {
        "FAULTY"
    };
    row(out, "accounting", verdict);
    let count = |value: u64| group_thousands(&value.to_string());
    let counts = [
        ("published", integrity.published),
        ("unsent", integrity.unsent),
        ("confirmed", integrity.confirmed),
        ("unconfirmed", integrity.unconfirmed),
        ("nacked", integrity.nacked),
        ("returned", integrity.returned),
        ("expected", integrity.expected),
        ("delivered", integrity.delivered),
        ("lost", integrity.lost),
        ("duplicated", integrity.duplicated),
        ("disordered", integrity.disordered),
        ("corrupted", integrity.corrupted),
        ("redelivered", integrity.redelivered),
    ];
    let always = ["published", "delivered"];
    let shown = counts
        .iter()
        .filter(|(name, value)| *value > 0 || always.contains(name));
    let text: Vec<String> = shown
        .map(|&(name, value)| format!("{} {name}", count(value)))
        .collect();
    row(out, "", &text.join(", "));
}

fn row(out: &mut String, name: &str, text: &str) {
    writeln!(out, "  {name:<14} {text}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded_to_their_size() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(0.0871), "0.087");
        assert_eq!(number(-1234.0), "-1,234");
    }

    #[test]
    fn a_report_names_its_figures_and_faults() {
        let mut report = report("mine", "small", 1_500_000.0);
        report.is_good = false;
        report.integrity.lost = 7;
        let text = render(&report);
        assert!(
            text.contains("1,500,000/s") && text.contains("FAULTY") && text.contains("7 lost"),
            "{text}"
        );
    }
}
