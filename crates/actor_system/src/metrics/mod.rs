//! Figures: counters, gauges and histograms that many may write, sheets on which actors report, and their text.
//!
//! **Owns** the names and limits of figures and their form as [OpenMetrics] text.
//!
//! ```
//! use std::time::Duration;
//! use alys_actor_system::metrics::{Counter, Histogram, Labels, Sheet, encode};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (imported, took) = (Counter::default(), Histogram::default());
//! imported.add(1);
//! took.observe(Duration::from_millis(3));
//!
//! let mut sheet = Sheet::new(Labels::new(&[("actor", "alys/chain")])?);
//! sheet.counter("alys_chain_blocks_total", "Blocks imported.", imported.get());
//! sheet.histogram("alys_chain_import_seconds", "Time to import a block.", took.snapshot());
//! sheet.with(&[("side", "left")]).gauge("alys_chain_tips", "Tips known.", 2u64);
//! assert!(sheet.errors().is_empty());
//!
//! let text = encode(sheet.set());
//! assert!(text.contains("alys_chain_blocks_total{actor=\"alys/chain\"} 1\n"));
//! assert!(text.contains("alys_chain_import_seconds_bucket{actor=\"alys/chain\",le=\"0.005\"} 1\n"));
//! # Ok(())
//! # }
//! ```
//!
//! **Promises**
//! - Writing a figure takes no lock and no memory.
//! - The same figures give the same text: families by name, samples by label.
//! - What is shown is what the format allows: names are checked when they are given.
//!
//! **Never** reads a clock, and never starts anything: who wants figures asks for them.
//!
//! [OpenMetrics]: https://prometheus.io/docs/specs/om/open_metrics_spec/

mod family;
mod histogram;
mod openmetrics;
mod sheet;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

pub use family::{
    Family, FamilyKind, Labels, MAX_HELP_BYTES, MAX_LABEL_BYTES, MAX_LABELS, MAX_NAME_BYTES,
    MAX_SAMPLES, MetricError, MetricSet, Number, Sample, Value,
};
pub use histogram::{Histogram, HistogramSnapshot};
pub use openmetrics::{CONTENT_TYPE, encode};
pub use sheet::{MAX_SHEET_SAMPLES, Row, Sheet};

/// A number that only rises. After 2^64 it begins again at zero, as readers of counters expect.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Any number of writers at once.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds, faster: a plain load and store. Only for a counter that has one writer at a time, such as an
    /// actor's own. If there are two, additions are lost, but nothing worse happens.
    pub fn add_alone(&self, n: u64) {
        histogram::add_alone(&self.0, n);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls, between the ends of an `i64`; beyond them it wraps.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds; a negative number takes away. Any number of writers at once.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}
