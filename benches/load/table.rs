//! Reports and comparisons as text for people.

use std::io::{self, Write};

use crate::cell::Bound;
use crate::compare::Row;
use crate::report::Report;

/// Three significant digits with k, M or G.
pub fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 999_500_000.0 => (value / 1e9, " G"),
        size if size >= 999_500.0 => (value / 1e6, " M"),
        size if size >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    match scaled.abs() {
        size if size >= 99.95 => format!("{scaled:.0}{unit}"),
        size if size >= 9.995 => format!("{scaled:.1}{unit}"),
        size if size >= 0.1 || size == 0.0 => format!("{scaled:.2}{unit}"),
        _ => format!("{scaled:.4}{unit}"),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

fn bound(bound: Bound) -> String {
    match bound {
        Bound::TimesAtLeast(times) => format!("≥ {times}×"),
        Bound::TimesAtMost(times) => format!("≤ {times}×"),
        Bound::AtLeast(value) => format!("≥ {}", number(value)),
        Bound::AtMost(value) => format!("≤ {}", number(value)),
        Bound::Shown => String::new(),
    }
}

/// Writes a comparison: a line for each figure, then what went wrong.
///
/// # Errors
/// When `out` cannot be written.
pub fn comparison(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    let mut lines = vec![
        [
            "cell", "figure", "dialtone", "other", "ratio", "target", "", "",
        ]
        .map(ToOwned::to_owned)
        .to_vec(),
    ];
    for row in rows {
        for (index, figure) in row.figures.iter().enumerate() {
            let (noisy, rounds) = row.noise();
            let noise = if noisy > 0 && index == 0 {
                format!("{noisy} of {rounds} runs noisy")
            } else {
                String::new()
            };
            let met = match figure.met {
                Some(true) => "✓",
                Some(false) => "✗",
                None => "",
            };
            lines.push(vec![
                if index == 0 {
                    format!("{} ({} / {})", row.cell, row.ours.name(), row.theirs)
                } else {
                    String::new()
                },
                figure.metric.name().to_owned(),
                optional(figure.ours),
                optional(figure.theirs),
                figure
                    .ratio
                    .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}×")),
                bound(figure.bound),
                met.to_owned(),
                noise,
            ]);
        }
    }
    columns(out, &lines)?;
    for row in rows {
        for failure in row.failures() {
            writeln!(out, "{}: a run failed: {failure}", row.cell)?;
        }
    }
    Ok(())
}

/// Writes lines of fields in columns, the first two to the left and numbers to the right.
fn columns(out: &mut dyn Write, lines: &[Vec<String>]) -> io::Result<()> {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|field| field.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    for line in lines {
        let mut text = String::new();
        for (column, (field, &width)) in line.iter().zip(&widths).enumerate() {
            let padded = match column {
                2..=4 => format!("{field:>width$}  "),
                _ => format!("{field:<width$}  "),
            };
            text.push_str(&padded);
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// Writes one report, a figure on each line.
///
/// # Errors
/// When `out` cannot be written.
pub fn report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{} {}, {}/s",
        number_of(report.count),
        report.unit,
        number(report.per_sec)
    )?;
    if let (Some(rate), Some(each)) = (report.per_cpu_sec, report.cpu_us_each) {
        writeln!(
            out,
            "server CPU: {} {} per CPU-second, {} µs each",
            number(rate),
            report.unit,
            number(each)
        )?;
    }
    for (name, latency) in [
        ("latency", report.latency),
        ("latency without load", report.unloaded),
    ] {
        if let Some(p) = latency {
            let [p50, p99, p999, max] = [p.p50_us, p.p99_us, p.p999_us, p.max_us].map(number);
            writeln!(
                out,
                "{name}: p50 {p50} µs, p99 {p99} µs, p999 {p999} µs, longest {max} µs"
            )?;
        }
    }
    let optional = [
        ("rate kept under disturbance", report.kept),
        ("server memory for each, bytes", report.bytes_each),
        ("bulk, bytes per second", report.bulk_bytes_per_sec),
        ("read, bytes per second", report.read_bytes_per_sec),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            writeln!(out, "{name}: {}", number(value))?;
        }
    }
    if report.cut > 0 {
        writeln!(out, "connections cut by the server: {}", report.cut)?;
    }
    if !report.timeline.is_empty() {
        let rates: Vec<_> = report.timeline.iter().map(|&rate| number(rate)).collect();
        writeln!(out, "rate in each 0.1 s: {}", rates.join(", "))?;
    }
    if let Some(server) = report.usage.server {
        let (rss, peak) = (server.rss_kib / 1024, server.rss_peak_kib / 1024);
        writeln!(
            out,
            "server: {:.2} cores, {rss} MiB, at most {peak} MiB",
            server.cpu_secs / report.usage.secs
        )?;
    }
    writeln!(
        out,
        "client {:.2} cores, others {:.2} cores",
        report.usage.client_cores, report.usage.other_cores
    )
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn number_of(count: u64) -> String {
    number(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0.00"),
            (0.012_34, "0.0123"),
            (0.5, "0.50"),
            (12.345, "12.3"),
            (1_234.0, "1234"),
            (12_345.0, "12.3 k"),
            (999_600.0, "1.00 M"),
            (1_840_000.0, "1.84 M"),
            (2.5e9, "2.50 G"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let lines = [vec!["a", "b", "1"], vec!["long", "µ", "22"]]
            .map(|line| line.into_iter().map(String::from).collect());
        let mut out = Vec::new();
        columns(&mut out, &lines).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a     b   1\nlong  µ  22\n"
        );
    }
}
