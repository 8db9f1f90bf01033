//! A run as pictures: rates over time, latency by percentile. Plain SVG, readable without a program of ours.

use std::fmt::Write;

use super::report::Report;
use super::table::number;

/// A line of a picture.
struct Line<'a> {
    name: &'a str,
    colour: &'a str,
    points: Vec<(f64, f64)>,
}

/// One coordinate system with its labels.
struct Chart<'a> {
    title: String,
    lines: Vec<Line<'a>>,
    /// Ticks below, at positions of the points' scale.
    ticks: Vec<(f64, String)>,
    is_logarithmic: bool,
}

/// Both pictures of a report, one above the other, as an SVG document.
pub fn render(report: &Report) -> String {
    let charts = [rates(report), latencies(report)];
    let shown: Vec<&Chart<'_>> = charts
        .iter()
        .filter(|chart| chart.lines.iter().any(|line| line.points.len() > 1))
        .collect();
    let height = shown.len() as f64 * HEIGHT;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, chart) in shown.iter().enumerate() {
        draw(&mut out, chart, index as f64 * HEIGHT);
    }
    out.push_str("</svg>\n");
    out
}

fn rates(report: &Report) -> Chart<'static> {
    let line = |name, colour, value: fn(&super::report::Second) -> u64| Line {
        name,
        colour,
        points: report
            .timeline
            .iter()
            .enumerate()
            .map(|(second, counts)| (second as f64, value(counts) as f64))
            .collect(),
    };
    let step = report.timeline.len().div_ceil(10).max(1);
    Chart {
        title: format!(
            "{} · {}: messages in each second",
            report.workload.name, report.label
        ),
        lines: vec![
            line("published", GREY, |second| second.published),
            line("delivered", BLUE, |second| second.delivered),
        ],
        ticks: (0..report.timeline.len())
            .step_by(step)
            .map(|second| (second as f64, format!("{second} s")))
            .collect(),
        is_logarithmic: false,
    }
}

fn latencies(report: &Report) -> Chart<'static> {
    let figures = &report.figures;
    let lines = [
        ("end to end", BLUE, &figures.end_to_end),
        ("confirm", ORANGE, &figures.confirm),
    ];
    let points = |curve: &[(f64, f64)]| {
        curve
            .iter()
            .map(|&(percent, value)| (nines(percent), value))
            .collect()
    };
    let drawn = lines.into_iter().filter_map(|(name, colour, latency)| {
        latency.as_ref().map(|latency| Line {
            name,
            colour,
            points: points(&latency.percentiles),
        })
    });
    Chart {
        title: format!(
            "{} · {}: latency in µs by percentile",
            report.workload.name, report.label
        ),
        lines: drawn.collect(),
        ticks: [0.0, 50.0, 90.0, 99.0, 99.9, 99.99]
            .iter()
            .map(|&percent| (nines(percent), format!("{percent} %")))
            .collect(),
        is_logarithmic: true,
    }
}

/// Position of a percentile: each nine has the same width.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-5).log10()
}

/// Where a chart's points lie on the page.
struct Scale {
    top: f64,
    x_max: f64,
    y_min: f64,
    y_max: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of(chart: &Chart<'_>, top: f64) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let y_max = points().map(|point| point.1).fold(1e-9, f64::max) * 1.05;
        let least = points().map(|point| point.1).fold(y_max, f64::min).max(0.1);
        Self {
            top,
            x_max: points().map(|point| point.0).fold(1e-9, f64::max),
            y_min: if chart.is_logarithmic { least } else { 0.0 },
            y_max,
            is_logarithmic: chart.is_logarithmic,
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + value / self.x_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(self.y_min) / self.y_min).ln() / (self.y_max / self.y_min).ln().max(1e-9),
            false => value / self.y_max,
        };
        self.base() - share * (HEIGHT - TOP - BOTTOM)
    }

    /// The value at this share of the height.
    fn value(&self, share: f64) -> f64 {
        match self.is_logarithmic {
            true => self.y_min * (self.y_max / self.y_min).powf(share),
            false => self.y_max * share,
        }
    }

    fn base(&self) -> f64 {
        self.top + HEIGHT - BOTTOM
    }
}

fn draw(out: &mut String, chart: &Chart<'_>, top: f64) {
    let scale = Scale::of(chart, top);
    text(out, LEFT, top + 20.0, "start", &chart.title);
    draw_grid(out, chart, &scale);
    for (index, line) in chart.lines.iter().enumerate() {
        draw_line(out, line, &scale);
        let at = LEFT + 110.0 * index as f64;
        let (y, colour) = (top + 28.0, line.colour);
        let _ = writeln!(
            out,
            "<rect x=\"{at}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        text(out, at + 18.0, top + 38.0, "start", line.name);
    }
}

fn draw_grid(out: &mut String, chart: &Chart<'_>, scale: &Scale) {
    for (at, label) in chart.ticks.iter().filter(|(at, _)| *at <= scale.x_max) {
        let x = scale.x(*at);
        stroke(out, (x, scale.base()), (x, scale.top + TOP));
        text(out, x, scale.base() + 18.0, "middle", label);
    }
    for quarter in 0..=4 {
        let value = scale.value(f64::from(quarter) / 4.0);
        let y = scale.y(value);
        stroke(out, (LEFT, y), (WIDTH - RIGHT, y));
        text(out, LEFT - 8.0, y + 4.0, "end", &number(value));
    }
}

fn draw_line(out: &mut String, line: &Line<'_>, scale: &Scale) {
    let point = |&(x, y): &(f64, f64)| format!("{:.1},{:.1}", scale.x(x), scale.y(y));
    let points = line.points.iter().map(point).collect::<Vec<_>>().join(" ");
    let colour = line.colour;
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>"
    );
}

fn stroke(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 40.0;
const BLUE: &str = "#1f6fb4";
const ORANGE: &str = "#d9822b";
const GREY: &str = "#9aa5b1";

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn a_picture_has_its_lines_within_its_borders() {
        let svg = render(&report("a<b", "w", 100.0));
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(
            svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
    }
}
