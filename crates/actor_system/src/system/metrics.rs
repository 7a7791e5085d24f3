//! Metrics of a system in the Prometheus text format.
//!
//! Every actor has the same families, named `alys_actor_<what>_<unit>`, with its path as the label
//! `actor`. Their other labels are an outcome, the reason of a dead letter, or the kind of a
//! message, of which an actor has at most 33. The number of actors thus bounds the size of a
//! scrape. Code that starts actors can register further metrics:
//!
//! ```
//! use alys_actor_system::{System, metrics::prometheus_client::metrics::counter::Counter};
//!
//! # alys_runtime::block_on_main(async {
//! let system = System::new("alys");
//! let imported = Counter::<u64>::default();
//! system.metrics().register(|registry| {
//!     registry.register("alys_chain_blocks", "Blocks imported", imported.clone());
//! });
//! imported.inc();
//!
//! let text = system.metrics().encode().unwrap();
//! assert!(text.contains("alys_chain_blocks_total 1\n"));
//! # });
//! ```
//!
//! Updating a metric takes no lock of this module, and a scrape does not wait for actors.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

pub use prometheus_client::{self, encoding::prometheus_text::CONTENT_TYPE};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{TypedMetric, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    actor::Health,
    actor::cell::{Cell, Snapshot},
    actor::lifecycle::State,
    lock,
    mailbox::stats::{KindStats, Stats},
};

/// Handle of the metrics of one system: those of its actors and those registered by other code.
/// Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    pub(crate) fn new(root: &Arc<Cell>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ActorCollector(root.clone())));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers further metrics. Register each name only once, because the text format forbids a
    /// second family of the same name; not in the factory of an actor, because it runs at every
    /// restart. Several actors of one type share a
    /// [`Family`](prometheus_client::metrics::family::Family).
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut lock(&self.0));
    }

    /// Encodes all metrics as text of the media type [`CONTENT_TYPE`]. Takes time linear in the
    /// number of actors.
    ///
    /// # Errors
    /// [`fmt::Error`] if a registered metric has no text form, such as a histogram with native
    /// buckets only. The metrics of actors always have one.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &lock(&self.0))?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Collector that reads the actors at every scrape, in the order of the tree.
struct ActorCollector(Arc<Cell>);

impl fmt::Debug for ActorCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorCollector").field(&self.0.path).finish()
    }
}

impl Collector for ActorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cells = self.0.family();
        let actors: Vec<(Snapshot, &Stats)> = cells
            .iter()
            .filter_map(|cell| Some((cell.snapshot(), &**cell.stats()?)))
            .collect();
        let encoder = &mut encoder;
        encode_outcomes(encoder, &actors)?;
        encode_state(encoder, &actors)?;
        encode_kinds(encoder, &actors)?;
        let dead_letters = self.0.shared.tables.dead_letters.read().counts;
        let samples = dead_letters.iter().map(|((path, reason), count)| {
            let labels = [("actor", &**path), ("reason", reason.as_str())];
            (labels, ConstCounter::new(*count))
        });
        let help = "Messages that were not handled, by reason.";
        encode_family(encoder, "alys_actor_dead_letters", help, samples)
    }
}

type Actors<'a> = [(Snapshot, &'a Stats)];

fn encode_outcomes(encoder: &mut DescriptorEncoder<'_>, actors: &Actors<'_>) -> fmt::Result {
    let samples = actors.iter().flat_map(|(actor, _)| {
        let mailbox = actor.mailbox.clone().unwrap_or_default();
        let outcomes = [
            ("accepted", mailbox.accepted),
            ("refused", mailbox.refused),
            ("dropped", mailbox.dropped),
            ("expired", mailbox.expired),
            ("interrupted", mailbox.interrupted),
            ("abandoned", mailbox.abandoned),
        ];
        outcomes.map(|(outcome, count)| {
            let labels = [("actor", &*actor.path), ("outcome", outcome)];
            (labels, ConstCounter::new(count))
        })
    });
    let help = "Messages by outcome in the mailbox.";
    encode_family(encoder, "alys_actor_messages", help, samples)
}

fn encode_state(encoder: &mut DescriptorEncoder<'_>, actors: &Actors<'_>) -> fmt::Result {
    let mut counter = |name, help, read: fn(&Snapshot, &Stats) -> u64| {
        let samples = actors.iter().map(|(actor, stats)| {
            let labels = [("actor", &*actor.path)];
            (labels, ConstCounter::new(read(actor, stats)))
        });
        encode_family(encoder, name, help, samples)
    };
    counter("alys_actor_restarts", "Restarts.", |actor, _| {
        actor.restarts
    })?;
    counter(
        "alys_actor_timers",
        "Messages of timers whose handling started.",
        |_, stats| stats.timers.load(Relaxed),
    )?;
    let mut gauge = |name, help, read: fn(&Snapshot) -> u64| {
        let samples = actors.iter().map(|(actor, _)| {
            let labels = [("actor", &*actor.path)];
            (labels, ConstGauge::new(read(actor)))
        });
        encode_family(encoder, name, help, samples)
    };
    gauge(
        "alys_actor_mailbox_messages",
        "Messages in the mailbox.",
        |actor| {
            actor
                .mailbox
                .as_ref()
                .map_or(0, |mailbox| mailbox.depth as u64)
        },
    )?;
    gauge(
        "alys_actor_mailbox_capacity_messages",
        "Capacity of the mailbox.",
        |actor| {
            actor
                .mailbox
                .as_ref()
                .map_or(0, |mailbox| mailbox.capacity as u64)
        },
    )?;
    gauge(
        "alys_actor_running",
        "1 while the actor handles messages, else 0.",
        |actor| u64::from(actor.state == State::Running),
    )?;
    gauge(
        "alys_actor_health",
        "0 healthy, 1 degraded, 2 unhealthy.",
        |actor| match actor.health {
            Health::Healthy => 0,
            Health::Degraded(_) => 1,
            Health::Unhealthy(_) => 2,
        },
    )
}

fn encode_kinds(encoder: &mut DescriptorEncoder<'_>, actors: &Actors<'_>) -> fmt::Result {
    let kinds = || {
        actors.iter().flat_map(|(actor, stats)| {
            let labels = |kind| [("actor", &*actor.path), ("kind", kind)];
            stats.kinds().map(move |(name, kind)| (labels(name), kind))
        })
    };
    let handled = kinds().map(|(labels, kind)| (labels, ConstCounter::new(kind.handled())));
    let help = "Messages handled without a failure.";
    encode_family(encoder, "alys_actor_handled_messages", help, handled)?;
    let failed = kinds().map(|(labels, kind)| (labels, ConstCounter::new(kind.failed())));
    let help = "Messages whose handler failed.";
    encode_family(encoder, "alys_actor_failed_messages", help, failed)?;
    let times = |pick: fn(&KindStats) -> Option<Histogram>| {
        kinds().filter_map(move |(labels, kind)| Some((labels, pick(kind)?)))
    };
    let waited = times(|kind| Some(kind.times()?.waiting.clone()));
    let help = "Time from sending until the handler starts.";
    encode_family(encoder, "alys_actor_wait_seconds", help, waited)?;
    let handled = times(|kind| Some(kind.times()?.handling.clone()));
    let help = "Duration of the handler.";
    encode_family(encoder, "alys_actor_handling_seconds", help, handled)
}

/// Writes one family with its samples, or nothing if there are none.
fn encode_family<'a, const LABELS: usize, M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = ([(&'static str, &'a str); LABELS], M)>,
) -> fmt::Result {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, M::TYPE)?;
    for (labels, metric) in samples {
        metric.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
