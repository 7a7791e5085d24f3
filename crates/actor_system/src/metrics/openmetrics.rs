//! Families as OpenMetrics 1.0 text.

use std::fmt::{self, Write};

use super::{Family, HistogramSnapshot, Labels, MetricSet, Number, Value};

/// What an answer over HTTP says that it contains.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The bounds of the buckets that are shown: 1, 2 and 5 in each decade from 1 µs to 50 s. All are bounds of the
/// histogram too, so that the counts are exact. The text is the canonical one of the specification.
pub(super) const SHOWN: [(u64, &str); 24] = [
    (1_000, "1e-06"),
    (2_000, "2e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (20_000, "2e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (200_000, "0.0002"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_000_000_000, "2.0"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
    (20_000_000_000, "20.0"),
    (50_000_000_000, "50.0"),
];

/// The text of all families, in the order of their names, then labels.
pub fn encode(set: &MetricSet) -> String {
    let mut text = String::new();
    for family in set.families() {
        write_family(&mut text, family).expect("a string takes all that is written to it");
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(out: &mut String, family: &Family) -> fmt::Result {
    let name = family.name();
    writeln!(out, "# TYPE {name} {}", family.kind().as_str())?;
    if let Some(unit) = family.unit() {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    if !family.help().is_empty() {
        write!(out, "# HELP {name} ")?;
        write_escaped(out, family.help());
        out.push('\n');
    }
    for (labels, value) in family.samples() {
        match value {
            Value::Counter(number) => write_sample(out, (name, "_total"), labels, None, *number)?,
            Value::Gauge(number) => write_sample(out, (name, ""), labels, None, *number)?,
            Value::Histogram(histogram) => write_histogram(out, name, labels, histogram)?,
        }
    }
    Ok(())
}

fn write_histogram(
    out: &mut String,
    name: &str,
    labels: &Labels,
    histogram: &HistogramSnapshot,
) -> fmt::Result {
    for (bound_ns, le) in SHOWN {
        let number = Number::Unsigned(histogram.not_longer_than(bound_ns));
        write_sample(out, (name, "_bucket"), labels, Some(le), number)?;
    }
    let count = Number::Unsigned(histogram.count());
    write_sample(out, (name, "_bucket"), labels, Some("+Inf"), count)?;
    write_sample(out, (name, "_count"), labels, None, count)?;
    write_sample(
        out,
        (name, "_sum"),
        labels,
        None,
        Number::Seconds(histogram.sum()),
    )
}

fn write_sample(
    out: &mut String,
    (name, ending): (&str, &str),
    labels: &Labels,
    le: Option<&str>,
    number: Number,
) -> fmt::Result {
    write!(out, "{name}{ending}")?;
    let mut before = '{';
    for (name, value) in labels.iter().chain(le.map(|le| ("le", le))) {
        write!(out, "{before}{name}=\"")?;
        write_escaped(out, value);
        out.push('"');
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    out.push(' ');
    write_number(out, number)?;
    out.push('\n');
    Ok(())
}

fn write_number(out: &mut String, number: Number) -> fmt::Result {
    match number {
        Number::Unsigned(number) => write!(out, "{number}"),
        Number::Signed(number) => write!(out, "{number}"),
        Number::Float(number) if number.is_nan() => write!(out, "NaN"),
        Number::Float(f64::INFINITY) => write!(out, "+Inf"),
        Number::Float(f64::NEG_INFINITY) => write!(out, "-Inf"),
        // The shortest text that is read back as the same number.
        Number::Float(number) => write!(out, "{number:?}"),
        Number::Seconds(duration) => {
            let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
            let short = text.trim_end_matches('0');
            let zero = if short.ends_with('.') { "0" } else { "" };
            write!(out, "{short}{zero}")
        }
    }
}

fn write_escaped(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
}
