//! The subscriber for node logs: an ERROR line of a live process fails the run. Other lines are
//! only printed, for readers of a replay.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use alys_runtime::sim::{NodeId, World, here};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::cluster::now_ms;
use crate::faults::Faults;
use crate::invariants::{Judge, Violation};

/// Harmless lines that libraries log at ERROR level: the target, and a part of the text.
///
/// libp2p-gossipsub 0.50.1 cancels its requests for a message at every peer that it asked,
/// including those that have disconnected since (`GossipPromises::peers_for_message`). Nothing is
/// sent to the latter, and the promise expires (seed 1901). At most [`MAX_HARMLESS_ERRORS`] such
/// lines are tolerated, because other call sites log the same text.
const HARMLESS_ERRORS: &[(&str, &str)] = &[(
    "libp2p_gossipsub::behaviour",
    "Could not send rpc to connection handler, peer doesn't exist",
)];
/// Limit on harmless ERROR lines per run; a larger number needs an investigation.
const MAX_HARMLESS_ERRORS: u64 = 20;

/// The machine whose code is logging, and its name.
fn who(world: World) -> (NodeId, String) {
    let id = here().node;
    (id, world.name(id))
}

/// The log subscriber of a run, installed as the default of the simulation's thread only.
pub struct Logs {
    judge: Judge,
    /// Empty until the machines exist.
    faults: std::sync::Arc<std::sync::OnceLock<Faults>>,
    /// The most verbose level that is printed.
    shown: LevelFilter,
    next_span: AtomicU64,
    noise: AtomicU64,
}

impl Logs {
    /// Reports ERROR lines to `judge`, and prints lines of level `shown` and above.
    pub fn new(
        judge: Judge,
        faults: std::sync::Arc<std::sync::OnceLock<Faults>>,
        shown: LevelFilter,
    ) -> Self {
        Self {
            judge,
            faults,
            shown,
            next_span: AtomicU64::new(1),
            noise: AtomicU64::new(0),
        }
    }
}

impl Subscriber for Logs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && (*metadata.level() == Level::ERROR || *metadata.level() <= self.shown)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.shown.max(LevelFilter::ERROR))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.next_span.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let world = World::current();
        if !world.is_here_alive() {
            return;
        }
        let (id, name) = who(world);
        let metadata = event.metadata();
        let mut line = Line(format!("{}:", metadata.target()));
        event.record(&mut line);
        let level = *metadata.level();
        if level <= self.shown {
            eprintln!("{:>8} ms {name:<8} {level:<5} {}", now_ms(world), line.0);
        }
        // A node with an injected disk fault rightly logs an error for its operator.
        let is_expected = self
            .faults
            .get()
            .is_some_and(|faults| faults.is_damaged(id));
        let is_noise = HARMLESS_ERRORS
            .iter()
            .any(|(target, text)| metadata.target() == *target && line.0.contains(text));
        let is_let_pass =
            is_noise && self.noise.fetch_add(1, Ordering::Relaxed) < MAX_HARMLESS_ERRORS;
        if level == Level::ERROR && !is_expected && !is_let_pass {
            self.judge.accuse(
                now_ms(world),
                Violation::ErrorLine {
                    node: name,
                    line: line.0,
                },
            );
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A log line under construction: the target, then the message and the fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("writing to a string cannot fail");
    }
}
