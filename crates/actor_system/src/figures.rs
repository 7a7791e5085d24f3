//! The figures that the framework keeps of every actor, as metrics.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    actor::Health,
    lifecycle::State,
    metrics::{Labels, MetricSet, Sample, Value},
    tree::{Cell, Snapshot},
};

/// What is known of every actor at and under `root`.
pub(crate) fn collect(root: &Arc<Cell>) -> MetricSet {
    let mut set = MetricSet::default();
    for cell in root.family() {
        actor(&mut set, &cell);
    }
    for ((path, reason), count) in root.shared.graveyard.look().counts {
        let labels = [("actor", &*path), ("reason", reason.as_str())];
        counter(
            &mut set,
            "alys_actor_dead_letters",
            "Messages that nobody handled.",
            &labels,
            count,
        );
    }
    set
}

fn actor(set: &mut MetricSet, cell: &Cell) {
    let Some(stats) = cell.stats() else { return };
    let path = &*cell.path;
    let Snapshot {
        state,
        health,
        restarts,
        mailbox,
        ..
    } = cell.snapshot();
    let mailbox = mailbox.unwrap_or_default();
    for (outcome, count) in [
        ("accepted", mailbox.accepted),
        ("refused", mailbox.refused),
        ("coalesced", mailbox.coalesced),
        ("dropped", mailbox.dropped),
        ("expired", mailbox.expired),
        ("redelivered", mailbox.redelivered),
        ("interrupted", mailbox.interrupted),
        ("abandoned", mailbox.abandoned),
    ] {
        let labels = [("actor", path), ("outcome", outcome)];
        counter(
            set,
            "alys_actor_messages",
            "What became of messages.",
            &labels,
            count,
        );
    }
    let own = [("actor", path)];
    counter(set, "alys_actor_restarts", "Restarts.", &own, restarts);
    gauge(
        set,
        "alys_actor_mailbox_depth",
        "Messages waiting.",
        &own,
        mailbox.depth as u64,
    );
    gauge(
        set,
        "alys_actor_mailbox_capacity",
        "Messages that may wait.",
        &own,
        mailbox.capacity as u64,
    );
    gauge(
        set,
        "alys_actor_running",
        "Whether it handles messages.",
        &own,
        u64::from(state == State::Running),
    );
    let health = match health {
        Health::Healthy => 0,
        Health::Degraded(_) => 1,
        Health::Unhealthy(_) => 2_u64,
    };
    gauge(
        set,
        "alys_actor_health",
        "0 healthy, 1 degraded, 2 unhealthy.",
        &own,
        health,
    );
    for (kind, handled, failed, times) in stats.kinds() {
        let labels = [("actor", path), ("kind", kind)];
        counter(
            set,
            "alys_actor_handled",
            "Messages handled.",
            &labels,
            handled,
        );
        counter(
            set,
            "alys_actor_failed",
            "Messages whose handling failed.",
            &labels,
            failed,
        );
        if let Some(times) = times {
            let waited = Value::Histogram(Box::new(times.waited.snapshot()));
            let took = Value::Histogram(Box::new(times.handled.snapshot()));
            add(
                set,
                "alys_actor_wait_seconds",
                "From being sent to being begun.",
                &labels,
                waited,
            );
            add(
                set,
                "alys_actor_handling_seconds",
                "From being begun to being done.",
                &labels,
                took,
            );
        }
    }
    counter(
        set,
        "alys_actor_timers",
        "Timers that came due.",
        &own,
        stats.timers.load(Relaxed),
    );
}

fn counter(set: &mut MetricSet, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
    add(set, name, help, labels, Value::Counter(value.into()));
}

fn gauge(set: &mut MetricSet, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
    add(set, name, help, labels, Value::Gauge(value.into()));
}

fn add(set: &mut MetricSet, name: &str, help: &str, labels: &[(&str, &str)], value: Value) {
    let added =
        Labels::new(labels).and_then(|labels| set.add(name, help, Sample { labels, value }));
    if let Err(error) = added {
        tracing::warn!(%error, "a figure is not shown");
    }
}
