//! Figures with a name: families, their samples and what may be wrong with them.

use std::{collections::BTreeMap, time::Duration};

use super::HistogramSnapshot;

/// Bytes of the name of a family or a label.
pub const MAX_NAME_BYTES: usize = 128;

/// Bytes of a family's help text.
pub const MAX_HELP_BYTES: usize = 512;

/// Labels of a sample.
pub const MAX_LABELS: usize = 8;

/// Bytes of the value of a label. The longest are paths of actors.
pub const MAX_LABEL_BYTES: usize = 256;

/// Samples of a [`MetricSet`]: what one reading of a whole system may come to, at about a hundred bytes each
/// and two thousand for a histogram.
pub const MAX_SAMPLES: usize = 65_536;

/// Endings by which the text format names the samples of a family. A family whose own name had one could be
/// taken for a sample of another.
const RESERVED_ENDINGS: [&str; 8] = [
    "_total", "_created", "_count", "_sum", "_bucket", "_gcount", "_gsum", "_info",
];

/// Label names that the text format uses itself.
const RESERVED_LABELS: [&str; 2] = ["le", "quantile"];

/// Units that are recognised at the end of a family's name.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// What kind of figure a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FamilyKind {
    /// Only rises, but for a restart.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl FamilyKind {
    /// The name in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A number as it is shown, without a loss on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number from zero.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// Any number; not a number and the infinities too.
    Float(f64),
    /// A duration, shown in seconds.
    Seconds(Duration),
}

impl Number {
    /// Whether it can be what a counter has come to.
    fn is_a_count(self) -> bool {
        match self {
            Self::Unsigned(_) | Self::Seconds(_) => true,
            Self::Signed(number) => number >= 0,
            Self::Float(number) => number.is_finite() && number >= 0.0,
        }
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Unsigned(number.into())
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Unsigned(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<Duration> for Number {
    fn from(duration: Duration) -> Self {
        Self::Seconds(duration)
    }
}

/// Names and values that tell the samples of a family apart, sorted by name. Labels without a value are left
/// out: to the text format they are the same as none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// Checked labels.
    ///
    /// # Errors
    /// When a name is not one, is there twice, or there are too many or too long ones.
    pub fn new(pairs: &[(&str, &str)]) -> Result<Self, MetricError> {
        Self::default().and(pairs)
    }

    /// These labels and some more.
    ///
    /// # Errors
    /// As for [`Labels::new`].
    pub fn and(&self, pairs: &[(&str, &str)]) -> Result<Self, MetricError> {
        let mut labels = self.0.clone();
        for (name, value) in pairs {
            if !is_name(name) || RESERVED_LABELS.contains(name) {
                return Err(MetricError::BadLabelName { name: shown(name) });
            }
            if value.len() > MAX_LABEL_BYTES {
                return Err(MetricError::LabelTooLong {
                    name: shown(name),
                    bytes: value.len(),
                });
            }
            if labels.iter().any(|(other, _)| other == name) {
                return Err(MetricError::LabelTwice { name: shown(name) });
            }
            if labels.len() == MAX_LABELS {
                return Err(MetricError::TooManyLabels { limit: MAX_LABELS });
            }
            if !value.is_empty() {
                labels.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        labels.sort_unstable();
        Ok(Self(labels))
    }

    /// The labels, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// The figure of one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Counter(Number),
    /// Of a gauge.
    Gauge(Number),
    /// Of a histogram.
    Histogram(Box<HistogramSnapshot>),
}

impl Value {
    /// The kind of family it belongs to.
    pub fn kind(&self) -> FamilyKind {
        match self {
            Self::Counter(_) => FamilyKind::Counter,
            Self::Gauge(_) => FamilyKind::Gauge,
            Self::Histogram(_) => FamilyKind::Histogram,
        }
    }
}

/// A figure and what tells it from others of its family.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What it is about.
    pub labels: Labels,
    /// The figure.
    pub value: Value,
}

/// All samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    name: String,
    help: String,
    kind: FamilyKind,
    samples: BTreeMap<Labels, Value>,
}

impl Family {
    /// An empty family. A counter's name may be given with or without its `_total`; a histogram's must end with
    /// `_seconds`, because that is what it shows.
    ///
    /// # Errors
    /// When the name is none that the text format allows, or the help is too long.
    pub fn new(kind: FamilyKind, name: &str, help: &str) -> Result<Self, MetricError> {
        let base = match kind {
            FamilyKind::Counter => name.strip_suffix("_total").unwrap_or(name),
            FamilyKind::Gauge | FamilyKind::Histogram => name,
        };
        if !is_name(base) {
            return Err(MetricError::BadName { name: shown(name) });
        }
        if let Some(ending) = RESERVED_ENDINGS
            .into_iter()
            .find(|ending| base.ends_with(ending))
        {
            return Err(MetricError::ReservedEnding {
                name: shown(name),
                ending,
            });
        }
        if kind == FamilyKind::Histogram && unit(base) != Some("seconds") {
            return Err(MetricError::NotInSeconds { name: shown(name) });
        }
        if help.len() > MAX_HELP_BYTES {
            return Err(MetricError::HelpTooLong {
                name: shown(name),
                bytes: help.len(),
            });
        }
        let (name, help) = (base.to_owned(), help.to_owned());
        Ok(Self {
            name,
            help,
            kind,
            samples: BTreeMap::new(),
        })
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// When it is of another kind, there is one of the same labels, or it is a counter that cannot have come
    /// about by counting.
    pub fn add(&mut self, sample: Sample) -> Result<(), MetricError> {
        let name = || self.name.clone();
        if sample.value.kind() != self.kind {
            return Err(MetricError::KindDiffers {
                name: name(),
                kind: self.kind.as_str(),
            });
        }
        if matches!(sample.value, Value::Counter(number) if !number.is_a_count()) {
            return Err(MetricError::NotACount { name: name() });
        }
        if self.samples.contains_key(&sample.labels) {
            return Err(MetricError::SampleTwice { name: name() });
        }
        self.samples.insert(sample.labels, sample.value);
        Ok(())
    }

    /// Its name, without the endings of samples.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is about, for people.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Its kind.
    pub fn kind(&self) -> FamilyKind {
        self.kind
    }

    /// Its unit, if its name ends with one.
    pub fn unit(&self) -> Option<&'static str> {
        unit(&self.name)
    }

    /// Its samples, by label.
    pub fn samples(&self) -> impl Iterator<Item = (&Labels, &Value)> {
        self.samples.iter()
    }
}

/// Families by name: what is shown together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricSet {
    families: BTreeMap<String, Family>,
    samples: usize,
}

impl MetricSet {
    /// The families, by name.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.values()
    }

    /// Samples in all families; a histogram is one.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Adds a sample to the family of this name, which comes into being with its first one.
    ///
    /// # Errors
    /// As for [`Family::new`] and [`Family::add`]; also when the family has another help text, or there are
    /// [`MAX_SAMPLES`] already. The set is as it was before.
    pub fn add(&mut self, name: &str, help: &str, sample: Sample) -> Result<(), MetricError> {
        self.add_within(MAX_SAMPLES, name, help, sample)
    }

    /// Adds what another set holds, as far as it fits. Returns what did not.
    #[must_use = "what does not fit is missing"]
    pub fn merge(&mut self, other: Self) -> Vec<MetricError> {
        let mut errors = Vec::new();
        for family in other.families.into_values() {
            for (labels, value) in family.samples {
                errors.extend(
                    self.add(&family.name, &family.help, Sample { labels, value })
                        .err(),
                );
            }
        }
        errors
    }

    pub(super) fn add_within(
        &mut self,
        limit: usize,
        name: &str,
        help: &str,
        sample: Sample,
    ) -> Result<(), MetricError> {
        if self.samples >= limit {
            return Err(MetricError::TooManySamples { limit });
        }
        let mut fresh = Family::new(sample.value.kind(), name, help)?;
        if let Some(family) = self.families.get_mut(&fresh.name) {
            if family.help != fresh.help {
                return Err(MetricError::HelpDiffers { name: fresh.name });
            }
            family.add(sample)?;
        } else {
            fresh.add(sample)?;
            self.families.insert(fresh.name.clone(), fresh);
        }
        self.samples += 1;
        Ok(())
    }
}

/// Whether the text format allows it as the name of a family or a label. A colon is for what is computed from
/// other figures, an underscore in front for the format itself.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn unit(name: &str) -> Option<&'static str> {
    let ends_with = |unit: &&str| {
        name.strip_suffix(*unit)
            .is_some_and(|rest| rest.ends_with('_'))
    };
    UNITS.into_iter().find(ends_with)
}

/// As much of a name as an error repeats.
fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME_BYTES).collect()
}

/// What is wrong with a figure. Always ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Not a name of letters, digits and underscores, a letter first, of at most [`MAX_NAME_BYTES`].
    #[error("{name:?} is no name of a metric")]
    BadName {
        /// The name.
        name: String,
    },
    /// The name could be taken for a sample of another family.
    #[error("{name} ends with {ending}, which the text format adds itself")]
    ReservedEnding {
        /// The name.
        name: String,
        /// Its ending.
        ending: &'static str,
    },
    /// A histogram of durations that does not say so.
    #[error("{name} is a histogram and does not end with _seconds")]
    NotInSeconds {
        /// The name.
        name: String,
    },
    /// Over [`MAX_HELP_BYTES`].
    #[error("the help of {name} has {bytes} bytes, more than {MAX_HELP_BYTES}")]
    HelpTooLong {
        /// The family.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// As [`MetricError::BadName`]; `le` and `quantile` are not allowed either.
    #[error("{name:?} is no name of a label")]
    BadLabelName {
        /// The label.
        name: String,
    },
    /// Over [`MAX_LABEL_BYTES`].
    #[error("the value of label {name} has {bytes} bytes, more than {MAX_LABEL_BYTES}")]
    LabelTooLong {
        /// The label.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// A sample with two labels of one name.
    #[error("label {name} is there twice")]
    LabelTwice {
        /// The label.
        name: String,
    },
    /// One label too many.
    #[error("more than {limit} labels")]
    TooManyLabels {
        /// [`MAX_LABELS`].
        limit: usize,
    },
    /// Two samples of one family with the same labels.
    #[error("{name} has a sample with these labels already")]
    SampleTwice {
        /// The family.
        name: String,
    },
    /// A sample of another kind than its family.
    #[error("{name} is a {kind}")]
    KindDiffers {
        /// The family.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// Two texts for one family.
    #[error("{name} has another help text already")]
    HelpDiffers {
        /// The family.
        name: String,
    },
    /// A counter that is negative, infinite or not a number.
    #[error("{name} is a counter, and cannot be negative, infinite or not a number")]
    NotACount {
        /// The family.
        name: String,
    },
    /// One sample too many.
    #[error("more than {limit} samples")]
    TooManySamples {
        /// [`MAX_SAMPLES`] or [`MAX_SHEET_SAMPLES`](super::MAX_SHEET_SAMPLES).
        limit: usize,
    },
}
