//! Metrics of the ValidationActor.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::registry::Registry;

use super::Job;
use crate::metrics::{Label, Tables};

/// Kinds of checks, in the order of [`Job`].
const KINDS: [&str; 9] = [
    "proposal",
    "vote",
    "held_vote",
    "confirmation",
    "certified",
    "parent",
    "range",
    "bodies",
    "authority",
];

#[derive(Clone, Default)]
pub struct Metrics {
    checks: Family<Label, Counter>,
    pub(crate) tables: Tables,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "alys_validation_checks",
            "Checks of signatures and hashes, by the checked message",
            self.checks.clone(),
        );
        self.tables.register(registry, "validation");
    }

    pub(super) fn on_check(&self, job: &Job) {
        let kind = match job {
            Job::Proposal { .. } => 0,
            Job::Vote { .. } => 1,
            Job::HeldVote { .. } => 2,
            Job::Confirmation { .. } => 3,
            Job::Certified { .. } => 4,
            Job::Parent { .. } => 5,
            Job::Range { .. } => 6,
            Job::Bodies { .. } => 7,
            Job::Authority { .. } => 8,
        };
        self.checks.get_or_create(&[("kind", KINDS[kind])]).inc();
    }

    /// Number of checks so far.
    pub(crate) fn checks(&self) -> u64 {
        let count = |kind: &&'static str| self.checks.get_or_create(&[("kind", *kind)]).get();
        KINDS.iter().map(count).sum()
    }
}
