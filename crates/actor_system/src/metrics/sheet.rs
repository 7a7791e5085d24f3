//! What one actor writes its figures on.

use super::{HistogramSnapshot, Labels, MetricError, MetricSet, Number, Sample, Value};

/// Samples on one sheet; a histogram is one. An actor whose figures grow with its input has its labels wrong.
pub const MAX_SHEET_SAMPLES: usize = 256;

/// Mistakes that a sheet keeps whole; more are only counted.
const MAX_SHEET_ERRORS: usize = 8;

/// Figures of one actor, at one moment. Each carries the labels that the sheet was made with, such as the
/// actor's path.
///
/// A mistake does not go back to the actor, whose work is not to fail because of it: the sample is left out,
/// and the sheet says so to its reader.
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    labels: Labels,
    set: MetricSet,
    errors: Vec<MetricError>,
    refused: u64,
}

impl Sheet {
    /// An empty sheet whose samples all have these labels.
    pub fn new(labels: Labels) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }

    /// A figure that only rises. Its name may end with `_total` or not.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.with(&[]).counter(name, help, value);
    }

    /// A figure that rises and falls.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.with(&[]).gauge(name, help, value);
    }

    /// Durations. Its name ends with `_seconds`.
    pub fn histogram(&mut self, name: &str, help: &str, value: HistogramSnapshot) {
        self.with(&[]).histogram(name, help, value);
    }

    /// The same, with further labels: `sheet.with(&[("peer", "a")]).gauge(..)`.
    pub fn with<'a>(&'a mut self, labels: &'a [(&'a str, &'a str)]) -> Row<'a> {
        Row {
            sheet: self,
            labels,
        }
    }

    /// What is on it.
    pub fn set(&self) -> &MetricSet {
        &self.set
    }

    /// The first mistakes.
    pub fn errors(&self) -> &[MetricError] {
        &self.errors
    }

    /// Samples that were left out.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What is on it, to be shown together with others.
    pub fn into_set(self) -> MetricSet {
        self.set
    }

    fn add(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: Value) {
        let added = self.labels.and(labels).and_then(|labels| {
            self.set
                .add_within(MAX_SHEET_SAMPLES, name, help, Sample { labels, value })
        });
        if let Err(error) = added {
            self.refused += 1;
            if self.errors.len() < MAX_SHEET_ERRORS {
                self.errors.push(error);
            }
        }
    }
}

/// A [`Sheet`], with labels for what is written next.
#[derive(Debug)]
pub struct Row<'a> {
    sheet: &'a mut Sheet,
    labels: &'a [(&'a str, &'a str)],
}

impl Row<'_> {
    /// See [`Sheet::counter`].
    pub fn counter(&mut self, name: &str, help: &str, value: impl Into<Number>) -> &mut Self {
        self.add(name, help, Value::Counter(value.into()))
    }

    /// See [`Sheet::gauge`].
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) -> &mut Self {
        self.add(name, help, Value::Gauge(value.into()))
    }

    /// See [`Sheet::histogram`].
    pub fn histogram(&mut self, name: &str, help: &str, value: HistogramSnapshot) -> &mut Self {
        self.add(name, help, Value::Histogram(Box::new(value)))
    }

    fn add(&mut self, name: &str, help: &str, value: Value) -> &mut Self {
        self.sheet.add(name, help, self.labels, value);
        self
    }
}
