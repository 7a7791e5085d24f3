//! Metrics of the AuxPowActor.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::metrics::gauge::Gauge;
use alys_actor_system::metrics::prometheus_client::registry::Registry;

use super::desk::{Accepted, Gossiped, Sizes, Submission, Unused};
use crate::metrics::{Label, Tables};

#[derive(Clone, Default)]
pub struct Metrics {
    pub(super) created: Counter,
    submissions: Family<Label, Counter>,
    gossiped: Family<Label, Counter>,
    offered_blocks: Gauge,
    final_sequence: Gauge,
    final_height: Gauge,
    pub(crate) tables: Tables,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        self.tables.register(registry, "auxpow");
        registry.register(
            "alys_auxpow_created_works",
            "Work that miners asked for",
            self.created.clone(),
        );
        registry.register(
            "alys_auxpow_submissions",
            "Proofs of miners, by result",
            self.submissions.clone(),
        );
        registry.register(
            "alys_auxpow_gossiped",
            "Proofs that peers sent, by result",
            self.gossiped.clone(),
        );
        let gauges = [
            (
                &self.offered_blocks,
                "offered_blocks",
                "Blocks that the present work covers, 0 while there is none",
            ),
            (
                &self.final_sequence,
                "final_sequence",
                "Number of the last proof that a final block carries",
            ),
            (
                &self.final_height,
                "final_height",
                "Height of the last block that is final by proof of work",
            ),
        ];
        for (gauge, name, help) in gauges {
            registry.register(format!("alys_auxpow_{name}"), help, gauge.clone());
        }
    }

    pub(super) fn on_submission(&self, submission: &Submission) {
        let result = match submission {
            Submission::Accepted(Accepted::New { .. }) => "accepted",
            Submission::Accepted(Accepted::Again) => "repeated",
            Submission::Accepted(Accepted::Superseded) => "superseded",
            Submission::Stale(_) => "stale",
            Submission::Refused(_) => "refused",
            Submission::Unknown { .. } => "unknown",
        };
        self.submissions.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn on_gossip(&self, gossiped: &Gossiped) {
        let result = match gossiped {
            Gossiped::New { .. } => "accepted",
            Gossiped::Unused(Unused::OtherSequence) => "other_sequence",
            Gossiped::Unused(Unused::OtherRange) => "other_range",
            Gossiped::Unused(Unused::Known) => "known",
            Gossiped::Unused(Unused::Work) => "too_little_work",
            Gossiped::Unused(Unused::Superseded) => "superseded",
            Gossiped::Refused(_) => "refused",
        };
        self.gossiped.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn on_offer(&self, blocks: usize) {
        self.offered_blocks
            .set(i64::try_from(blocks).unwrap_or(i64::MAX));
    }

    pub(super) fn on_final(&self, sequence: u64, height: u64) {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.final_sequence, sequence);
        set(&self.final_height, height);
    }

    pub(super) fn on_sizes(&self, sizes: Sizes) {
        let Sizes {
            works,
            addresses,
            held,
        } = sizes;
        self.tables.set("works", works);
        self.tables.set("addresses", addresses);
        self.tables.set("held", held);
    }
}
