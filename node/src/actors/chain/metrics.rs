//! Metrics of the ChainActor.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::metrics::gauge::Gauge;
use alys_actor_system::metrics::prometheus_client::metrics::histogram::Histogram;
use alys_actor_system::metrics::prometheus_client::registry::Registry;
use alys_consensus::Summary;
use alys_types::{Height, Slot, VoteKind};

use crate::actors::validation::Blame;
use crate::metrics::{Label, Tables};

/// Seconds from the start of a slot to finality; a healthy federation needs a fraction of a slot.
const FINALITY_SECONDS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0, 300.0];

#[derive(Clone)]
pub struct Metrics {
    head_height: Gauge,
    certified_height: Gauge,
    final_height: Gauge,
    sync_target_height: Gauge,
    slot: Gauge,
    synced: Gauge,
    silent: Gauge,
    votes: Family<Label, Counter>,
    final_blocks: Counter,
    finality: Histogram,
    refusals: Family<Label, Counter>,
    evidence: Counter,
    pub(crate) tables: Tables,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            head_height: Gauge::default(),
            certified_height: Gauge::default(),
            final_height: Gauge::default(),
            sync_target_height: Gauge::default(),
            slot: Gauge::default(),
            synced: Gauge::default(),
            silent: Gauge::default(),
            votes: Family::default(),
            final_blocks: Counter::default(),
            finality: Histogram::new(FINALITY_SECONDS),
            refusals: Family::default(),
            evidence: Counter::default(),
            tables: Tables::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        self.tables.register(registry, "chain");
        let gauges = [
            (
                &self.head_height,
                "head_height",
                "Height of the execution head",
            ),
            (
                &self.certified_height,
                "certified_height",
                "Height of the highest certified block",
            ),
            (
                &self.final_height,
                "final_height",
                "Height of the last final block",
            ),
            (
                &self.sync_target_height,
                "sync_target_height",
                "Height up to which blocks are requested from peers, 0 while none are missing",
            ),
            (&self.slot, "slot", "Current slot by the wall clock"),
            (
                &self.synced,
                "synced",
                "1 while the head is the highest certified block",
            ),
            (
                &self.silent,
                "silent",
                "1 while the node must not vote, after a clock jump or a loss of its votes",
            ),
        ];
        for (gauge, name, help) in gauges {
            registry.register(format!("alys_chain_{name}"), help, gauge.clone());
        }
        registry.register(
            "alys_chain_votes",
            "Votes signed and broadcast, by kind, rebroadcasts included",
            self.votes.clone(),
        );
        registry.register(
            "alys_chain_final_blocks",
            "Blocks that became final",
            self.final_blocks.clone(),
        );
        registry.register(
            "alys_chain_finality_seconds",
            "Time from the start of a block's slot to its finality on this node",
            self.finality.clone(),
        );
        registry.register(
            "alys_chain_refusals",
            "Messages refused, by the party at fault",
            self.refusals.clone(),
        );
        registry.register(
            "alys_chain_evidence",
            "Contradicting votes of other authorities",
            self.evidence.clone(),
        );
    }

    pub(super) fn on_progress(&self, summary: &Summary, slot: Slot, sync_target: Option<Height>) {
        set(&self.head_height, summary.head_height.0);
        set(&self.certified_height, summary.highest_height.0);
        set(&self.final_height, summary.final_height.0);
        set(
            &self.sync_target_height,
            sync_target.map_or(0, |height| height.0),
        );
        set(&self.slot, slot.0);
        set(&self.synced, u64::from(summary.synced));
        set(&self.silent, u64::from(summary.silent));
    }

    /// The height up to which blocks are missing, if any are.
    pub fn sync_target(&self) -> Option<i64> {
        Some(self.sync_target_height.get()).filter(|height| *height > 0)
    }

    /// Height of the execution head.
    pub fn head_height(&self) -> u64 {
        get(&self.head_height)
    }

    /// The highest height that is certified or requested from peers.
    pub fn known_height(&self) -> u64 {
        get(&self.certified_height).max(get(&self.sync_target_height))
    }

    pub(super) fn on_vote(&self, kind: VoteKind) {
        let kind = match kind {
            VoteKind::Proposal => "proposal",
            VoteKind::Approval => "approval",
            VoteKind::Confirmation => "confirmation",
        };
        self.votes.get_or_create(&[("kind", kind)]).inc();
    }

    pub(super) fn on_final(&self, after_ms: u64) {
        self.final_blocks.inc();
        self.finality.observe(after_ms as f64 / 1000.0);
    }

    pub(super) fn on_refusal(&self, blame: Blame) {
        let blame = match blame {
            Blame::Sender => "sender",
            Blame::Nobody => "nobody",
            Blame::Us => "us",
        };
        self.refusals.get_or_create(&[("blame", blame)]).inc();
    }

    pub(super) fn on_evidence(&self) {
        self.evidence.inc();
    }
}

fn get(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
