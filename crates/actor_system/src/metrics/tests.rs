//! Names, sheets, and the text as an independent and strict reader of the specification sees it.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::{openmetrics::SHOWN, *};

/// A reader of OpenMetrics 1.0 that knows nothing of the writer. What the specification forbids is an error,
/// and so is what it merely leaves open and the writer has no use for (time stamps, exemplars, other types).
mod reader {
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Debug, Clone, PartialEq)]
    pub struct Sample {
        pub name: String,
        pub labels: Vec<(String, String)>,
        pub number: f64,
        pub text: String,
    }

    #[derive(Debug, Clone, PartialEq, Default)]
    pub struct Family {
        pub name: String,
        pub kind: String,
        pub unit: Option<String>,
        pub help: Option<String>,
        pub samples: Vec<Sample>,
    }

    pub fn read(text: &str) -> Result<Vec<Family>, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("no EOF at the end")?;
        if !body.is_empty() && !body.ends_with('\n') {
            return Err("EOF is not on a line of its own".into());
        }
        let mut families: Vec<Family> = Vec::new();
        for line in body.split_terminator('\n') {
            if line == "# EOF" {
                return Err("text after EOF".into());
            }
            let read = match line.strip_prefix("# ") {
                Some(descriptor) => read_descriptor(descriptor, &mut families),
                None => read_sample(line, &mut families),
            };
            read.map_err(|error| format!("{error}: {line:?}"))?;
        }
        let mut names = BTreeSet::new();
        for family in &families {
            let of_family = [""]
                .into_iter()
                .chain(endings(&family.kind).iter().copied());
            for ending in of_family.chain(["_created"]).collect::<BTreeSet<_>>() {
                if !names.insert(format!("{}{ending}", family.name)) {
                    return Err(format!(
                        "two families could have a sample {}{ending}",
                        family.name
                    ));
                }
            }
            check_family(family).map_err(|error| format!("{error}: {}", family.name))?;
        }
        Ok(families)
    }

    /// All descriptors of a family come before its samples, each at most once, and begin with the type.
    fn read_descriptor(line: &str, families: &mut Vec<Family>) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').ok_or("no descriptor")?;
        let (name, value) = rest.split_once(' ').ok_or("no value")?;
        if !is_name(name) {
            return Err("bad family name".into());
        }
        if word == "TYPE" {
            if !["counter", "gauge", "histogram"].contains(&value) {
                return Err("unknown type".into());
            }
            let (name, kind) = (name.to_owned(), value.to_owned());
            families.push(Family {
                name,
                kind,
                ..Family::default()
            });
            return Ok(());
        }
        let family = families
            .last_mut()
            .filter(|family| family.name == name)
            .ok_or("not within its family")?;
        if !family.samples.is_empty() {
            return Err("after the samples".into());
        }
        match word {
            "UNIT" if family.unit.is_none() => {
                if !is_name(value) || !name.ends_with(&format!("_{value}")) {
                    return Err("the unit is not in the name".into());
                }
                family.unit = Some(value.to_owned());
            }
            "HELP" if family.help.is_none() => family.help = Some(unescape(value)?),
            _ => return Err("unknown or repeated descriptor".into()),
        }
        Ok(())
    }

    fn read_sample(line: &str, families: &mut [Family]) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no number")?;
        let (name, mut rest) = line.split_at(end);
        if !is_name(name) {
            return Err("bad sample name".into());
        }
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, after) = rest.split_once("=\"").ok_or("no label")?;
                if !is_name(label) {
                    return Err("bad label name".into());
                }
                let close = closing_quote(after).ok_or("no closing quote")?;
                labels.push((label.to_owned(), unescape(&after[..close])?));
                rest = &after[close + 1..];
                match rest.strip_prefix(',') {
                    Some(after) => rest = after,
                    None => break,
                }
            }
            rest = rest.strip_prefix('}').ok_or("no closing brace")?;
        }
        let text = rest.strip_prefix(' ').ok_or("no space before the number")?;
        let number = read_number(text).ok_or("bad number")?;
        let family = families.last_mut().ok_or("no family")?;
        let ending = name
            .strip_prefix(&family.name)
            .ok_or("a sample outside of its family")?;
        if !endings(&family.kind).contains(&ending) {
            return Err("a sample outside of its family".into());
        }
        if labels
            .iter()
            .map(|(label, _)| label)
            .collect::<BTreeSet<_>>()
            .len()
            != labels.len()
        {
            return Err("a label twice".into());
        }
        if labels.iter().any(|(_, value)| value.is_empty()) {
            return Err("an empty label".into());
        }
        if labels.iter().any(|(label, _)| label == "le") != (ending == "_bucket") {
            return Err("le where it does not belong, or missing".into());
        }
        family.samples.push(Sample {
            name: name.to_owned(),
            labels,
            number,
            text: text.to_owned(),
        });
        Ok(())
    }

    fn check_family(family: &Family) -> Result<(), String> {
        // Samples of one metric, which is a family and labels without le, stand together.
        let mut metrics: Vec<(Vec<(String, String)>, Vec<&Sample>)> = Vec::new();
        for sample in &family.samples {
            let mut key = sample.labels.clone();
            key.retain(|(label, _)| label != "le");
            key.sort_unstable();
            match metrics.last_mut() {
                Some((last, samples)) if *last == key => samples.push(sample),
                _ => metrics.push((key, vec![sample])),
            }
        }
        if metrics
            .iter()
            .map(|(key, _)| key)
            .collect::<BTreeSet<_>>()
            .len()
            != metrics.len()
        {
            return Err("a metric's samples do not stand together, or are repeated".into());
        }
        for (_, samples) in metrics {
            match &*family.kind {
                "gauge" if samples.len() == 1 => {}
                "counter" if samples.len() == 1 && samples[0].number >= 0.0 => {}
                "histogram" => check_histogram(&samples)?,
                _ => return Err("more than one sample, or a negative counter".into()),
            }
        }
        Ok(())
    }

    fn check_histogram(samples: &[&Sample]) -> Result<(), String> {
        let (buckets, totals): (Vec<&Sample>, Vec<&Sample>) = samples
            .iter()
            .partition(|sample| sample.name.ends_with("_bucket"));
        let is_first = samples
            .iter()
            .take(buckets.len())
            .all(|sample| sample.name.ends_with("_bucket"));
        let les: Vec<f64> = buckets
            .iter()
            .map(|bucket| le(bucket))
            .collect::<Option<_>>()
            .ok_or("bad le")?;
        if !is_first || !les.is_sorted_by(|a, b| a < b) || les.last() != Some(&f64::INFINITY) {
            return Err("buckets out of order, or without +Inf".into());
        }
        if !buckets.is_sorted_by(|a, b| a.number <= b.number) {
            return Err("buckets do not add up".into());
        }
        if buckets
            .iter()
            .chain(&totals)
            .any(|sample| sample.number < 0.0 || sample.number.is_nan())
        {
            return Err("negative or no number".into());
        }
        let total = |ending: &str| {
            let mut found = totals.iter().filter(|sample| sample.name.ends_with(ending));
            found.next().filter(|_| found.next().is_none())
        };
        let (Some(count), Some(_), 2) = (total("_count"), total("_sum"), totals.len()) else {
            return Err("not one count and one sum".into());
        };
        let all = buckets.last().map(|bucket| bucket.number);
        if Some(count.number) != all {
            return Err("the count is not the last bucket".into());
        }
        if buckets
            .iter()
            .chain([count])
            .any(|sample| sample.text.parse::<u64>().is_err())
        {
            return Err("a count that is not whole".into());
        }
        Ok(())
    }

    /// The bound of a bucket, which has to be in the specification's canonical form.
    fn le(bucket: &Sample) -> Option<f64> {
        let (_, text) = bucket.labels.iter().find(|(label, _)| label == "le")?;
        let number = read_number(text)?;
        let canonical = if number == f64::INFINITY {
            "+Inf".to_owned()
        } else if number < 1e-4 {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once("e-")?;
            format!("{digits}e-{exponent:0>2}")
        } else {
            format!("{number:?}")
        };
        (*text == canonical).then_some(number)
    }

    fn endings(kind: &str) -> &'static [&'static str] {
        match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_count", "_sum"],
        }
    }

    fn is_name(name: &str) -> bool {
        let mut chars = name.chars();
        chars
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic())
            && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
    }

    /// `[sign] digits [. digits] [e [sign] digits]`, `NaN`, or an infinity with its sign.
    fn read_number(text: &str) -> Option<f64> {
        match text {
            "NaN" => return Some(f64::NAN),
            "+Inf" => return Some(f64::INFINITY),
            "-Inf" => return Some(f64::NEG_INFINITY),
            _ => {}
        }
        let is_digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (mantissa, exponent) = text
            .split_once('e')
            .map_or((text, None), |(m, e)| (m, Some(e)));
        let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, fraction) = mantissa
            .split_once('.')
            .map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let exponent =
            exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        let is_number =
            is_digits(whole) && fraction.is_none_or(is_digits) && exponent.is_none_or(is_digits);
        is_number.then(|| text.parse().ok()).flatten()
    }

    fn closing_quote(text: &str) -> Option<usize> {
        let mut is_escaped = false;
        text.char_indices().find_map(|(at, char)| {
            let closes = char == '"' && !is_escaped;
            is_escaped = char == '\\' && !is_escaped;
            closes.then_some(at)
        })
    }

    fn unescape(text: &str) -> Result<String, String> {
        let known = BTreeMap::from([('n', '\n'), ('"', '"'), ('\\', '\\')]);
        let (mut plain, mut chars) = (String::new(), text.chars());
        while let Some(char) = chars.next() {
            plain.push(match char {
                '\\' => *chars
                    .next()
                    .and_then(|next| known.get(&next))
                    .ok_or("unknown escape")?,
                '"' => return Err("a quote that is not escaped".into()),
                other => other,
            });
        }
        Ok(plain)
    }
}

fn sample(value: Value, labels: &[(&str, &str)]) -> Sample {
    Sample {
        labels: Labels::new(labels).unwrap(),
        value,
    }
}

fn count(n: u64) -> Value {
    Value::Counter(n.into())
}

fn gauge(n: impl Into<Number>) -> Value {
    Value::Gauge(n.into())
}

fn durations(ns: &[u64]) -> HistogramSnapshot {
    let histogram = Histogram::default();
    for ns in ns {
        histogram.observe(Duration::from_nanos(*ns));
    }
    histogram.snapshot()
}

#[test]
fn counters_and_gauges_hold_what_was_added() {
    let (counter, gauge) = (Counter::default(), Gauge::default());
    counter.add(2);
    counter.add_alone(3);
    gauge.set(4);
    gauge.add(-6);
    assert_eq!((counter.get(), gauge.get()), (5, -2));
}

#[test]
fn the_text_is_the_golden_one() {
    let mut set = MetricSet::default();
    let mut add = |name, help, value, labels: &[(&str, &str)]| {
        set.add(name, help, sample(value, labels)).unwrap();
    };
    add("alys_depth", "", gauge(-3i64), &[("b", "2"), ("a", "1")]);
    add("alys_depth", "", gauge(f64::NAN), &[]);
    add(
        "alys_blocks_total",
        "Blocks\nseen \"twice\" \\ once",
        count(7),
        &[("peer", "a\"b\\c\nd"), ("none", "")],
    );
    add(
        "alys_busy_seconds_total",
        "",
        Value::Counter(Duration::from_millis(1500).into()),
        &[],
    );
    let took = durations(&[0, 1_000, 1_001, 3_000_000_000, 90_000_000_000]);
    add(
        "alys_took_seconds",
        "Time.",
        Value::Histogram(Box::new(took)),
        &[("kind", "x")],
    );
    let text = encode(&set);
    let shown = text.replace("alys_took_seconds", "T");
    let mut buckets = String::new();
    for (bound_ns, le) in SHOWN {
        let count = match bound_ns {
            1_000 => 2,
            2_000..5_000_000_000 => 3,
            _ => 4,
        };
        buckets += &format!("T_bucket{{kind=\"x\",le=\"{le}\"}} {count}\n");
    }
    let golden = "\
        # TYPE alys_blocks counter\n\
        # HELP alys_blocks Blocks\\nseen \\\"twice\\\" \\\\ once\n\
        alys_blocks_total{peer=\"a\\\"b\\\\c\\nd\"} 7\n\
        # TYPE alys_busy_seconds counter\n\
        # UNIT alys_busy_seconds seconds\n\
        alys_busy_seconds_total 1.5\n\
        # TYPE alys_depth gauge\n\
        alys_depth NaN\n\
        alys_depth{a=\"1\",b=\"2\"} -3\n\
        # TYPE T histogram\n\
        # UNIT T seconds\n\
        # HELP T Time.\n";
    let end = "\
        T_bucket{kind=\"x\",le=\"+Inf\"} 5\n\
        T_count{kind=\"x\"} 5\n\
        T_sum{kind=\"x\"} 93.000002001\n\
        # EOF\n";
    assert_eq!(shown, format!("{golden}{buckets}{end}"));
    assert_eq!(reader::read(&text).unwrap().len(), 4);
    assert_eq!(encode(&MetricSet::default()), "# EOF\n");
    assert_eq!(
        CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
}

#[test]
fn shown_bounds_are_1_2_and_5_in_each_decade_and_say_their_value() {
    for (index, (bound_ns, le)) in SHOWN.into_iter().enumerate() {
        let decade = 10u64.pow(u32::try_from(index / 3).unwrap());
        assert_eq!(bound_ns, 1_000 * decade * [1, 2, 5][index % 3]);
        assert_eq!(le.parse::<f64>().unwrap(), bound_ns as f64 / 1e9, "{le}");
        let [at, above] =
            [bound_ns, bound_ns + 1].map(|ns| durations(&[ns]).not_longer_than(bound_ns));
        assert_eq!((at, above), (1, 0), "{le}");
    }
}

#[test]
fn numbers_are_shown_without_a_loss() {
    for (number, text) in [
        (Number::from(u64::MAX), "18446744073709551615"),
        (Number::from(7u32), "7"),
        (Number::from(7usize), "7"),
        (Number::from(i64::MIN), "-9223372036854775808"),
        (Number::from(0.1), "0.1"),
        (Number::from(1.0), "1.0"),
        (Number::from(-1e300), "-1e300"),
        (Number::from(f64::INFINITY), "+Inf"),
        (Number::from(f64::NEG_INFINITY), "-Inf"),
        (Number::from(-f64::NAN), "NaN"),
        (Number::from(Duration::ZERO), "0.0"),
        (Number::from(Duration::from_nanos(1)), "0.000000001"),
        (Number::from(Duration::from_millis(120_500)), "120.5"),
        (
            Number::from(Duration::MAX),
            "18446744073709551615.999999999",
        ),
    ] {
        let mut set = MetricSet::default();
        set.add("x", "", sample(Value::Gauge(number), &[])).unwrap();
        assert_eq!(encode(&set), format!("# TYPE x gauge\nx {text}\n# EOF\n"));
    }
}

#[test]
fn a_bad_name_help_or_sample_is_refused_with_its_reason() {
    use FamilyKind::{Counter as C, Gauge as G, Histogram as H};
    let owned = |name: &str| name.to_owned();
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    let bad = |name: &str| MetricError::BadName {
        name: owned(&name.chars().take(MAX_NAME_BYTES).collect::<String>()),
    };
    let reserved = |name: &str, ending| MetricError::ReservedEnding {
        name: owned(name),
        ending,
    };
    let fits = "x".repeat(MAX_NAME_BYTES);
    for (kind, name, error) in [
        (G, &*fits, None),
        (G, "aZ_9", None),
        (C, "a_total", None),
        (C, "a", None),
        (H, "a_seconds", None),
        (G, "", Some(bad(""))),
        (C, "_total", Some(bad("_total"))),
        (G, "9a", Some(bad("9a"))),
        (G, "_a", Some(bad("_a"))),
        (G, "a:b", Some(bad("a:b"))),
        (G, "a-b", Some(bad("a-b"))),
        (G, "ä", Some(bad("ä"))),
        (G, "a\n", Some(bad("a\n"))),
        (G, &long, Some(bad(&long))),
        (G, "a_total", Some(reserved("a_total", "_total"))),
        (
            C,
            "a_total_total",
            Some(reserved("a_total_total", "_total")),
        ),
        (G, "a_created", Some(reserved("a_created", "_created"))),
        (G, "a_count", Some(reserved("a_count", "_count"))),
        (H, "a_bucket", Some(reserved("a_bucket", "_bucket"))),
        (
            H,
            "a_time",
            Some(MetricError::NotInSeconds {
                name: owned("a_time"),
            }),
        ),
        (
            H,
            "aseconds",
            Some(MetricError::NotInSeconds {
                name: owned("aseconds"),
            }),
        ),
    ] {
        assert_eq!(Family::new(kind, name, "").err(), error, "{name}");
    }
    let help = "h".repeat(MAX_HELP_BYTES + 1);
    let too_long = MetricError::HelpTooLong {
        name: owned("a"),
        bytes: MAX_HELP_BYTES + 1,
    };
    assert_eq!(Family::new(G, "a", &help), Err(too_long));

    let value = "v".repeat(MAX_LABEL_BYTES + 1);
    let names: Vec<String> = (0..=MAX_LABELS).map(|n| format!("l{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "v")).collect();
    let bad = |name: &str| MetricError::BadLabelName { name: owned(name) };
    for (labels, error) in [
        (&[("", "x")][..], bad("")),
        (&[("a b", "x")], bad("a b")),
        (&[("__name__", "x")], bad("__name__")),
        (&[("le", "x")], bad("le")),
        (&[("quantile", "")], bad("quantile")),
        (
            &[("a", &*value)],
            MetricError::LabelTooLong {
                name: owned("a"),
                bytes: MAX_LABEL_BYTES + 1,
            },
        ),
        (
            &[("a", "x"), ("a", "y")],
            MetricError::LabelTwice { name: owned("a") },
        ),
        (&many, MetricError::TooManyLabels { limit: MAX_LABELS }),
    ] {
        assert_eq!(Labels::new(labels), Err(error), "{labels:?}");
    }
    assert!(Labels::new(&many[1..]).is_ok());

    let mut set = MetricSet::default();
    set.add("a", "help", sample(count(1), &[("x", "1")]))
        .unwrap();
    let before = set.clone();
    let name = || owned("a");
    for (help, value, labels, error) in [
        (
            "help",
            count(2),
            &[("x", "1"), ("y", "")][..],
            MetricError::SampleTwice { name: name() },
        ),
        (
            "help",
            gauge(2u64),
            &[],
            MetricError::KindDiffers {
                name: name(),
                kind: "counter",
            },
        ),
        (
            "other",
            count(2),
            &[],
            MetricError::HelpDiffers { name: name() },
        ),
        (
            "help",
            Value::Counter(Number::Signed(-1)),
            &[],
            MetricError::NotACount { name: name() },
        ),
        (
            "help",
            Value::Counter(Number::Float(-0.5)),
            &[],
            MetricError::NotACount { name: name() },
        ),
        (
            "help",
            Value::Counter(Number::Float(f64::NAN)),
            &[],
            MetricError::NotACount { name: name() },
        ),
        (
            "help",
            Value::Counter(Number::Float(f64::INFINITY)),
            &[],
            MetricError::NotACount { name: name() },
        ),
    ] {
        assert_eq!(set.add("a", help, sample(value, labels)), Err(error));
    }
    assert_eq!(set, before);
    set.add(
        "a_total",
        "help",
        sample(Value::Counter(Number::Float(0.5)), &[]),
    )
    .unwrap();
    assert_eq!(
        (set.len(), set.is_empty(), set.families().count()),
        (2, false, 1)
    );
}

#[test]
fn a_set_and_a_sheet_are_bounded_and_say_what_they_left_out() {
    let mut sheet = Sheet::new(Labels::new(&[("actor", "s/a")]).unwrap());
    for n in 0..MAX_SHEET_SAMPLES + 20 {
        sheet.with(&[("n", &n.to_string())]).gauge("n", "", n);
    }
    assert_eq!(
        (sheet.set().len(), sheet.refused()),
        (MAX_SHEET_SAMPLES, 20)
    );
    assert_eq!(
        sheet.errors(),
        vec![
            MetricError::TooManySamples {
                limit: MAX_SHEET_SAMPLES
            };
            8
        ]
    );

    let mut set = MetricSet::default();
    let sheets = MAX_SAMPLES / MAX_SHEET_SAMPLES;
    for n in 0..=sheets {
        let mut sheet = Sheet::new(Labels::new(&[("actor", &n.to_string())]).unwrap());
        for n in 0..MAX_SHEET_SAMPLES {
            sheet.with(&[("n", &n.to_string())]).gauge("n", "", n);
        }
        let left_out = set.merge(sheet.into_set());
        assert_eq!(
            left_out.len(),
            if n < sheets { 0 } else { MAX_SHEET_SAMPLES }
        );
        assert!(
            left_out
                .iter()
                .all(|error| *error == MetricError::TooManySamples { limit: MAX_SAMPLES })
        );
    }
    assert_eq!(set.len(), MAX_SAMPLES);
}

#[test]
fn a_sheet_puts_its_labels_on_every_sample_and_its_mistakes_aside() {
    let mut sheet = Sheet::new(Labels::new(&[("actor", "s/a")]).unwrap());
    sheet.counter("seen_total", "Seen.", 3u64);
    sheet
        .with(&[("peer", "b")])
        .counter("seen", "Seen.", 4u64)
        .gauge("open", "", 1u64);
    sheet.histogram("wait_seconds", "", durations(&[5]));
    sheet.histogram("wait", "", durations(&[5]));
    sheet.with(&[("actor", "s/b")]).gauge("open", "", 1u64);
    let not_seconds = MetricError::NotInSeconds {
        name: "wait".into(),
    };
    assert_eq!(
        sheet.errors(),
        [
            not_seconds,
            MetricError::LabelTwice {
                name: "actor".into()
            }
        ]
    );
    assert_eq!(sheet.refused(), 2);
    let text = encode(sheet.set());
    for line in [
        "seen_total{actor=\"s/a\"} 3",
        "seen_total{actor=\"s/a\",peer=\"b\"} 4",
        "wait_seconds_count{actor=\"s/a\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    let mut whole = sheet.clone().into_set();
    assert_eq!(
        whole.merge(sheet.into_set()).len(),
        4,
        "the same samples again"
    );
}

/// A sample as a test makes it up: name, help, labels, value.
#[derive(Debug, Clone)]
struct Made {
    name: String,
    help: String,
    labels: Vec<(String, String)>,
    value: Value,
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::from),
        any::<i64>().prop_map(Number::from),
        any::<f64>().prop_map(Number::from),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0)].prop_map(Number::from),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, ns)| Duration::new(s, ns).into()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let ns = (0..64u32, any::<u64>()).prop_map(|(bits, random)| random >> bits);
    prop_oneof![
        number().prop_map(Value::Counter),
        number().prop_map(Value::Gauge),
        prop::collection::vec(ns, 0..40).prop_map(|ns| Value::Histogram(Box::new(durations(&ns)))),
    ]
}

/// Names that meet, clash, and are none.
fn name() -> impl Strategy<Value = String> {
    let ending = prop::sample::select(vec![
        "", "_seconds", "_bytes", "_total", "_sum", "_count", "_created", "s",
    ]);
    let good = ("[ab]", ending).prop_map(|(base, ending)| base + ending);
    prop_oneof![8 => good, 1 => "[a-zA-Z_:][a-z0-9_:]{0,3}", 1 => any::<String>()]
}

fn made() -> impl Strategy<Value = Made> {
    let text = prop_oneof![
        Just(String::new()),
        "[a\"\\\\\n n,={}# ]{0,6}",
        any::<String>()
    ];
    let label = prop_oneof![8 => "[ab]", 1 => Just("le".to_owned()), 1 => any::<String>()];
    let labels = prop::collection::vec((label, text.clone()), 0..3);
    let help = prop_oneof![4 => Just(String::new()), 1 => text];
    (name(), help, labels, value()).prop_map(|(name, help, labels, value)| Made {
        name,
        help,
        labels,
        value,
    })
}

/// What the text should say for a number.
fn float(number: Number) -> f64 {
    match number {
        Number::Unsigned(number) => number as f64,
        Number::Signed(number) => number as f64,
        Number::Float(number) => number,
        Number::Seconds(duration) => {
            format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos())
                .parse()
                .unwrap()
        }
    }
}

fn same(left: f64, right: f64) -> bool {
    left == right || left.is_nan() && right.is_nan()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is offered: what is taken is in the text, once and unchanged, and the text is what the
    /// specification allows.
    #[test]
    fn the_text_of_any_families_is_read_back_by_a_strict_reader(made in prop::collection::vec(made(), 0..30)) {
        let mut set = MetricSet::default();
        let mut taken = Vec::new();
        for one in made {
            let pairs: Vec<(&str, &str)> = one.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            let Ok(labels) = Labels::new(&pairs) else { continue };
            let sample = Sample { labels, value: one.value.clone() };
            if set.add(&one.name, &one.help, sample).is_ok() {
                taken.push(one);
            }
        }
        let text = encode(&set);
        prop_assert_eq!(&text, &encode(&set.clone()));
        let families = reader::read(&text);
        prop_assert!(families.is_ok(), "{:?} in\n{}", families, text);
        let families = families.unwrap();
        prop_assert!(families.is_sorted_by(|a, b| a.name < b.name));

        let is_one_of_many = |name: &str| name.ends_with("_bucket") || name.ends_with("_sum");
        let samples = families.iter().flat_map(|family| &family.samples);
        let shown = samples.filter(|sample| !is_one_of_many(&sample.name)).count();
        prop_assert_eq!(shown, taken.len());
        for one in taken {
            let (base, ending, expected) = match &one.value {
                Value::Counter(number) => {
                    let base = one.name.strip_suffix("_total").unwrap_or(&one.name);
                    (base, "_total", float(*number))
                }
                Value::Gauge(number) => (&*one.name, "", float(*number)),
                Value::Histogram(histogram) => (&*one.name, "_count", histogram.count() as f64),
            };
            let family = families.iter().find(|family| family.name == base).unwrap();
            prop_assert_eq!(&family.kind, one.value.kind().as_str());
            prop_assert_eq!(family.help.as_deref().unwrap_or_default(), one.help);
            let unit = ["_seconds", "_bytes", "_ratio"].into_iter().find(|unit| base.ends_with(unit));
            let unit = unit.map(|unit| &unit[1..]);
            prop_assert_eq!(family.unit.as_deref(), unit);
            let with_value = one.labels.iter().filter(|(_, value)| !value.is_empty());
            let labels: BTreeSet<_> = with_value.cloned().collect();
            let of = |sample: &&reader::Sample, ending: &str| {
                let bare = sample.labels.iter().filter(|(label, _)| label != "le").cloned().collect();
                sample.name == format!("{base}{ending}") && labels == bare
            };
            let found: Vec<_> = family.samples.iter().filter(|sample| of(sample, ending)).collect();
            prop_assert_eq!(found.len(), 1);
            prop_assert!(same(found[0].number, expected), "{} is not {}", found[0].text, expected);
            if let Value::Histogram(histogram) = &one.value {
                let sum = family.samples.iter().find(|sample| of(sample, "_sum")).unwrap();
                prop_assert_eq!(sum.number, float(histogram.sum().into()));
                let buckets = family.samples.iter().filter(|sample| of(sample, "_bucket")).count();
                prop_assert_eq!(buckets, SHOWN.len() + 1);
            }
        }
    }
}

#[test]
fn the_strict_reader_refuses_what_the_specification_forbids() {
    for bad in [
        "",
        "# EOF",
        "# EOF\n\n",
        "# EOF\n# EOF\n",
        "a 1\n# EOF\n",
        "# TYPE a gauge\na 1# EOF\n",
        "# TYPE a gauge\n# TYPE a gauge\n# EOF\n",
        "# TYPE a gauge\na 1\na 1\n# EOF\n",
        "# TYPE a gauge\na 1\n# HELP a x\n# EOF\n",
        "# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a counter\na_total -1\n# EOF\n",
        "# TYPE a counter\na_total 1\n# TYPE a_total gauge\na_total 1\n# EOF\n",
        "# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n# EOF\n",
        "# TYPE a gauge\na{x=\"\\t\"} 1\n# EOF\n",
        "# TYPE a gauge\na{x=\"1\"}  1\n# EOF\n",
        "# TYPE a gauge\na{x=\"1\"} one\n# EOF\n",
        "# TYPE a gauge\na{x=\"1\"} 1\na 1\na{x=\"1\"} 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1.0\"} 1\na_count 1\na_sum 1.0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum 1.0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1.0\"} 2\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum 1.0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 2\na_sum 1.0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1\n# EOF\n",
    ] {
        assert!(reader::read(bad).is_err(), "{bad:?}");
    }
    let good = "# TYPE a histogram\na_bucket{le=\"1.0\"} 1\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum 1.0\n# EOF\n";
    assert!(reader::read(good).is_ok());
}
