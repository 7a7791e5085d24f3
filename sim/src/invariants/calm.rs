//! Calm stretches of a run: no fault acts, all authorities run, and everything had time to settle.
//! There each slot has a block that is final in time on every node, no node is silent, the work for
//! a block stays within its budget, and tables are as small as the present state of the node
//! justifies.
//!
//! Outside of such a stretch redundancy hides a single failure: another mechanism, or a restart,
//! repairs a lost or late message, or a request that is not repeated. In a calm stretch nothing
//! has to be repaired, so the limits are those of the normal path.
//!
//! The limits of costs and of the time until a block is final are about 1.5 times the largest
//! values of 300 mixed seeds, most of them with four nodes: final 205 ms after the start of the
//! slot, and for each block and node 3.4 messages published, 9.3 received, 3,817 bytes of votes
//! received, 5.8 signature checks and no request. Worlds with seven nodes reach 17.7 messages
//! received, 7,426 bytes and 10.9 checks, so these limits grow with the federation. The counters
//! `calm.*` of a run are the largest values that it reached.

use std::collections::{BTreeMap, BTreeSet};

use alys_consensus::Summary;
use alys_node::metrics::{Costs, Footprint};

use super::Violation;
use crate::params::{LinkPlan, WorldPlan};

/// Time after the start of a run until it may be calm. Dials that find no listener yet are repeated
/// after 250, 500 and 1,000 ms, statuses after a second, and the first slots have few votes.
const START_MS: u64 = 6_000;
/// Time after the last disturbance until a run may be calm again. The longest way back begins with
/// a half-open connection: its silence is noticed after 15 s (the interval and the timeout of
/// pings), and then it is dialled at once; five seconds remain for the handshake, a status that is
/// requested again, and the fetch of missed blocks. Everything else is over sooner: retransmissions
/// on a healed link (1 s), the circuit breakers of actors (2 s), pauses between fork choices (2 s),
/// fetches by hash (2 s), a hanging dial and the longest backoff after it (11 s), a range that a
/// peer does not send (12 s).
const SETTLE_MS: u64 = 20_000;
/// Time after the last transaction until the tables of transactions must be empty: the pool of the
/// execution client is read twice in a second, and a submission takes a second at most.
const REST_MS: u64 = 5_000;
/// Time from the start of a slot until its block is final on every node. A node that wakes once a
/// second, and not at the start of a slot, needs about 600 ms.
const FINAL_MS: u64 = 350;
/// Messages one after the other in [`FINAL_MS`], the slowest that the links which count may have: a
/// proposal, an approval and a confirmation, and as much as two more for executions and delays.
const HOPS: u64 = 5;
/// Bytes of transactions above which a block may be late, because it fills the links.
const LARGE_BLOCK: usize = 256 << 10;
/// Blocks over which costs are counted.
const WINDOW: u64 = 10;

// Costs of a block on one node.
/// Messages that a node publishes: an approval, a confirmation, a certificate, and sometimes a
/// proposal. A node receives as many of each other node.
const PUBLISHED: u64 = 5;
/// Bytes of a received vote or certificate, on average.
const MESSAGE_BYTES: u64 = 400;
/// Checks for each authority, in tenths: its approval and its confirmation, without those that
/// arrive after a certificate.
const CHECKS_TENTHS: u64 = 22;
/// Requests in a window of blocks: a certificate may overtake a proposal that a link delays.
const REQUESTS_OF_WINDOW: u64 = 1;

/// The work of a node at the start of a window.
#[derive(Debug, Clone, Copy)]
struct Begun {
    height: u64,
    costs: Costs,
}

/// The disturbances of a run, and the demands between them.
#[derive(Debug)]
pub struct Calm {
    nodes: u8,
    slot_ms: u64,
    /// True wall clock at the start of the run.
    start_ms: u64,
    /// The world has neither attackers nor slow links, small mailboxes or a changing federation,
    /// and a quorum does not need every authority.
    is_possible: bool,
    /// Nodes take rare valid paths until everything heals.
    has_buggify: bool,
    /// A stranger or light client may be connected, too.
    has_others: bool,
    /// Steps of the plan that act.
    active: BTreeSet<u32>,
    /// A fault acted whose effects have no known end before everything heals.
    is_spoilt: bool,
    /// The end of the time to settle after the last disturbance.
    since_ms: u64,
    /// The same after the gate was near (rule 4.6): slots may have no block then.
    shut_ms: u64,
    /// The users have stopped.
    rest_ms: Option<u64>,
    /// The next slot to judge.
    next_slot: u64,
    /// By slot and node: the time at which a block became final.
    finals: BTreeMap<u64, BTreeMap<u8, u64>>,
    /// Slots with a block that may be late.
    large: BTreeSet<u64>,
    begun: BTreeMap<u8, Begun>,
    counts: BTreeMap<&'static str, u64>,
}

impl Calm {
    pub fn new(plan: &WorldPlan) -> Self {
        let LinkPlan {
            latency_ms,
            jitter_ms,
            loss_ppm,
            kbytes_per_s,
            ..
        } = plan.link;
        let is_wide = kbytes_per_s == 0 || kbytes_per_s >= LinkPlan::default().kbytes_per_s;
        let is_quick = (latency_ms + jitter_ms) * HOPS <= FINAL_MS;
        // Otherwise each long delay of a single link delays the block.
        let is_redundant = plan.quorum() < usize::from(plan.authorities());
        let has_attackers = !plan.suspects().is_empty()
            || !plan.strangers.is_empty()
            || plan.crowd > 0
            || plan.greedy_peers
            || plan.silent_peers;
        // Nodes join and leave, or wait for room: the limits are those of a fixed federation with
        // the mailboxes of production.
        let has_usual_queues = plan.mailboxes.is_empty() && plan.queued_events.is_none();
        let is_fixed = !plan.governance && has_usual_queues && plan.publish_again.is_none();
        // All blocks are large.
        let is_usual = is_fixed && plan.limits.range.is_none();
        Self {
            nodes: plan.nodes,
            slot_ms: plan.slot_ms,
            start_ms: 0,
            is_possible: loss_ppm == 0
                && is_wide
                && is_quick
                && is_redundant
                && is_usual
                && !has_attackers,
            has_buggify: plan.buggify,
            has_others: plan.light_client,
            active: BTreeSet::new(),
            is_spoilt: false,
            since_ms: START_MS,
            shut_ms: 0,
            rest_ms: None,
            next_slot: 0,
            finals: BTreeMap::new(),
            large: BTreeSet::new(),
            begun: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Sets the true wall clock at the start of the run.
    pub fn begin(&mut self, start_ms: u64) {
        self.start_ms = start_ms;
    }

    /// The slot at a simulated time.
    pub fn slot_at(&self, at_ms: u64) -> u64 {
        (self.start_ms + at_ms) / self.slot_ms
    }

    /// The simulated time `by_ms` before the start of a slot.
    pub fn before_ms(&self, slot: u64, by_ms: u64) -> u64 {
        (slot * self.slot_ms).saturating_sub(self.start_ms + by_ms)
    }

    /// A step of the plan begins. `is_lasting`: its effects have no known end.
    pub fn fault_began(&mut self, at_ms: u64, step: u32, is_lasting: bool) {
        self.active.insert(step);
        self.is_spoilt |= is_lasting;
        self.disturbed(at_ms);
    }

    pub fn fault_ended(&mut self, at_ms: u64, step: u32) {
        self.active.remove(&step);
        self.disturbed(at_ms);
    }

    /// A process ends or starts, or another effect of a fault happens.
    pub fn disturbed(&mut self, at_ms: u64) {
        self.since_ms = self.since_ms.max(at_ms + SETTLE_MS);
        self.begun.clear();
    }

    /// Slots may have no block now, because the chain waits for a proof of work.
    pub fn shut(&mut self, at_ms: u64) {
        self.shut_ms = at_ms + SETTLE_MS;
        self.begun.clear();
    }

    /// The time from which on the run may be calm.
    fn earliest_ms(&self) -> u64 {
        self.since_ms.max(self.shut_ms)
    }

    /// All faults ended. `is_whole`: every authority runs and has its votes.
    pub fn healed(&mut self, at_ms: u64, is_whole: bool) {
        self.active.clear();
        self.is_spoilt = !is_whole;
        self.has_buggify = false;
        self.disturbed(at_ms);
    }

    /// The users have stopped.
    pub fn rests(&mut self, at_ms: u64) {
        self.rest_ms = Some(at_ms);
    }

    /// The time from which on the run is calm, and everything is at rest, without another fault.
    pub fn settled_ms(&self) -> u64 {
        let rest_ms = self.rest_ms.map_or(0, |at_ms| at_ms + REST_MS);
        self.earliest_ms().max(rest_ms)
    }

    /// The time of the last disturbance; `None` while one acts, or has effects without a known end.
    pub fn undisturbed_since_ms(&self) -> Option<u64> {
        let is_disturbed = self.is_spoilt || self.has_buggify || !self.active.is_empty();
        (!is_disturbed).then(|| self.since_ms.saturating_sub(SETTLE_MS))
    }

    /// True if the run can be calm from now on, once it has settled.
    pub fn can_settle(&self) -> bool {
        self.is_possible && !self.is_spoilt && !self.has_buggify && self.active.is_empty()
    }

    pub fn is_calm(&self, at_ms: u64) -> bool {
        self.can_settle() && at_ms >= self.earliest_ms()
    }

    /// The measured values, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, n)| (*name, *n))
    }

    fn measure(&mut self, name: &'static str, value: u64) {
        let most = self.counts.entry(name).or_default();
        *most = value.max(*most);
    }

    /// Records a proposed block.
    pub fn proposed(&mut self, slot: u64, transactions: &[Vec<u8>]) {
        let bytes: usize = transactions.iter().map(Vec::len).sum();
        if bytes > LARGE_BLOCK {
            // The next leader starts late, too.
            self.large.extend([slot, slot + 1]);
        }
    }

    /// Records that a block of a slot is final on a node.
    pub fn finalized(&mut self, at_ms: u64, node: u8, slot: u64) {
        let of_slot = self.finals.entry(slot).or_default();
        of_slot.entry(node).or_insert(at_ms);
    }

    /// Judges the slots whose blocks must be final by now.
    ///
    /// # Errors
    /// [`Violation::BlockLate`].
    pub fn look(&mut self, at_ms: u64) -> Result<(), Violation> {
        if !self.is_calm(at_ms) {
            return Ok(());
        }
        let first = (self.start_ms + self.earliest_ms()).div_ceil(self.slot_ms);
        let mut slot = self.next_slot.max(first);
        loop {
            let begins_ms = slot * self.slot_ms - self.start_ms;
            if begins_ms + FINAL_MS > at_ms {
                break;
            }
            self.next_slot = slot + 1;
            if !self.large.contains(&slot) {
                self.slot_is_final(slot, begins_ms)?;
            }
            slot += 1;
        }
        self.finals = self.finals.split_off(&slot);
        self.large = self.large.split_off(&slot);
        Ok(())
    }

    fn slot_is_final(&mut self, slot: u64, begins_ms: u64) -> Result<(), Violation> {
        let finals = self.finals.get(&slot).cloned().unwrap_or_default();
        for node in 0..self.nodes {
            let after_ms = finals
                .get(&node)
                .map(|at_ms| at_ms.saturating_sub(begins_ms));
            if after_ms.is_none_or(|after_ms| after_ms > FINAL_MS) {
                return Err(Violation::BlockLate {
                    node: node + 1,
                    slot,
                    limit_ms: FINAL_MS,
                });
            }
            self.measure("calm.final-ms", after_ms.unwrap_or(0));
        }
        *self.counts.entry("calm.slots").or_default() += 1;
        Ok(())
    }

    /// Checks a node's summary.
    ///
    /// # Errors
    /// [`Violation::SilentInCalm`].
    pub fn stands(&self, at_ms: u64, node: u8, summary: &Summary) -> Result<(), Violation> {
        if summary.silent && self.is_calm(at_ms) {
            return Err(Violation::SilentInCalm { node: node + 1 });
        }
        Ok(())
    }

    /// Checks the work and the tables of a node whose last final block has this height.
    ///
    /// # Errors
    /// [`Violation::TooCostly`] or [`Violation::TableNotShrunk`].
    pub fn footprint(
        &mut self,
        at_ms: u64,
        node: u8,
        height: u64,
        footprint: &Footprint,
    ) -> Result<(), Violation> {
        if !self.is_calm(at_ms) {
            return Ok(());
        }
        self.work(node, height, footprint.costs)?;
        match self.rest_ms {
            Some(rest_ms) if at_ms >= rest_ms + REST_MS => self.tables(at_ms, node, footprint),
            _ => Ok(()),
        }
    }

    fn work(&mut self, node: u8, height: u64, costs: Costs) -> Result<(), Violation> {
        let begun = *self.begun.entry(node).or_insert(Begun { height, costs });
        let blocks = height.saturating_sub(begun.height);
        if blocks < WINDOW {
            return Ok(());
        }
        self.begun.insert(node, Begun { height, costs });
        let authorities = u64::from(self.nodes);
        let others = authorities.saturating_sub(1);
        let before = begun.costs;
        let rows = [
            (
                "messages published",
                "calm.published",
                costs.published.saturating_sub(before.published),
                PUBLISHED * blocks,
            ),
            (
                "messages received",
                "calm.received",
                costs.received.saturating_sub(before.received),
                PUBLISHED * others * blocks,
            ),
            (
                "bytes of votes received",
                "calm.received-bytes",
                costs.received_bytes.saturating_sub(before.received_bytes),
                PUBLISHED * others * MESSAGE_BYTES * blocks,
            ),
            (
                "signature checks",
                "calm.checks",
                costs.checks.saturating_sub(before.checks),
                CHECKS_TENTHS * authorities * blocks / 10,
            ),
            (
                "requests",
                "calm.requests",
                costs.requests.saturating_sub(before.requests),
                REQUESTS_OF_WINDOW * blocks.div_ceil(WINDOW),
            ),
        ];
        for (what, counter, found, budget) in rows {
            // In tenths of one, for each block.
            self.measure(counter, found * 10 / blocks);
            if found > budget {
                return Err(Violation::TooCostly {
                    node: node + 1,
                    what: what.to_owned(),
                    blocks,
                    found,
                    budget,
                });
            }
        }
        Ok(())
    }

    /// The most entries of each table that the present state justifies: all authorities are
    /// connected, two slots at most are not final, and nothing is missing.
    fn tables(&mut self, at_ms: u64, node: u8, footprint: &Footprint) -> Result<(), Violation> {
        let authorities = u64::from(self.nodes);
        let peers = authorities - 1;
        // Two kinds of votes and a proposal of each authority, in the present slot, the one before,
        // and the next one, whose leader's clock may be ahead.
        let open_votes = 3 * 3 * authorities;
        // Votes are remembered for 256 slots, and a run has fewer before its end.
        let slots = (at_ms / self.slot_ms + 2).min(257);
        let remembered = 3 * authorities * slots;
        let rows = [
            ("chain", "blocks", 4),
            ("chain", "bodies", 2),
            ("chain", "asked_executions", 2),
            ("chain", "remembered_votes", remembered),
            ("engine", "refused_forkchoices", 0),
            ("engine", "replays", 0),
            // A block that the chain left is forgotten after two minutes.
            ("engine", "missing_receipts", 4),
            ("engine", "fetched_receipts", 4),
            ("peers", "receipt_fetches", 1),
            ("chain", "buffered_votes", open_votes),
            ("chain", "latest_votes", authorities),
            ("chain", "screened_votes", open_votes),
            // A message reaches the actor from one peer, and a decided slot ends its checks.
            ("chain", "checks_under_way", open_votes),
            ("chain", "sought_parents", 0),
            ("chain", "queue", 0),
            ("network", "requests", 1),
            ("network", "dials", 0),
            ("network", "bans", 0),
            ("network", "outbound_requests", 1),
            ("network", "queued_events", 0),
            ("peers", "requests", 1),
            ("peers", "fetches", 1),
            ("validation", "strangers", 0),
            ("validation", "strangers_bytes", 0),
            ("tx_pool", "queue", 0),
            ("tx_pool", "queue_bytes", 0),
        ];
        let of_peers = [
            ("chain", "vouched_peers", peers),
            ("network", "connected", peers),
            ("network", "connections", peers),
            ("network", "inbound_requests", 1),
            ("network", "unread_answers", 1),
            ("peers", "peers", peers),
            ("peers", "remembered_peers", 0),
        ];
        let of_peers = of_peers.into_iter().filter(|_| !self.has_others);
        let entries = |actor: &'static str, table: &'static str| {
            footprint.tables.get(&(actor, table)).copied().unwrap_or(0)
        };
        for (actor, table, limit) in rows.into_iter().chain(of_peers) {
            let found = entries(actor, table);
            if found > limit {
                return Err(Violation::TableNotShrunk {
                    node: node + 1,
                    table: format!("{actor}.{table}"),
                    found,
                    limit,
                });
            }
        }
        // The counterpart: a table must not lack a connected peer.
        let (connected, known) = (entries("network", "connected"), entries("peers", "peers"));
        if connected < peers || known != connected {
            return Err(Violation::PeersMissing {
                node: node + 1,
                connected,
                known,
                authorities: peers,
            });
        }
        *self.counts.entry("calm.tables").or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::blocks::tests::plan;

    /// A run that is calm from here on.
    const FROM: u64 = START_MS;

    fn calm() -> Calm {
        let mut calm = Calm::new(&plan());
        calm.begin(1_000_000);
        calm
    }

    /// Makes the blocks of some slots final on all nodes, at this time in each slot.
    fn finalize(calm: &mut Calm, slots: std::ops::Range<u64>, into_ms: u64) {
        for slot in slots {
            for node in 0..4 {
                calm.finalized(slot * 1_000 - 1_000_000 + into_ms, node, slot);
            }
        }
    }

    #[test]
    fn each_slot_has_a_final_block_in_time() {
        let first = 1_000 + FROM / 1_000;
        let mut good = calm();
        finalize(&mut good, first..first + 9, 350);
        assert_eq!(good.look(FROM + 9_349), Ok(()));
        let counts: BTreeMap<_, _> = good.counts().collect();
        assert_eq!(counts, [("calm.final-ms", 350), ("calm.slots", 9)].into());
        let mut late = calm();
        finalize(&mut late, first..first + 9, 351);
        let name = late.look(FROM + 9_349).map_err(|broken| broken.name());
        assert_eq!(name, Err("block-late".to_owned()));
        let mut missing = calm();
        finalize(&mut missing, first..first + 4, 300);
        finalize(&mut missing, first + 5..first + 9, 300);
        let expected = Violation::BlockLate {
            node: 1,
            slot: first + 4,
            limit_ms: 350,
        };
        assert_eq!(missing.look(FROM + 9_349), Err(expected));
    }

    #[test]
    fn faults_end_a_stretch_and_their_effects_need_time_to_settle() {
        let mut calm = calm();
        assert!(!calm.is_calm(FROM - 1) && calm.is_calm(FROM));
        calm.fault_began(FROM, 1, false);
        assert!(!calm.is_calm(FROM + 2 * SETTLE_MS), "it acts");
        calm.fault_ended(FROM + 500, 1);
        assert!(!calm.is_calm(FROM + SETTLE_MS));
        assert!(calm.is_calm(FROM + 500 + SETTLE_MS));
        assert_eq!(calm.look(FROM + 600), Ok(()), "nothing is demanded");
        calm.fault_began(0, 2, true);
        calm.fault_ended(1, 2);
        assert!(!calm.can_settle(), "its effects have no known end");
        calm.healed(2, true);
        assert!(calm.can_settle());
        calm.healed(2, false);
        assert!(!calm.can_settle());
        let changes: [fn(&mut WorldPlan); 7] = [
            |plan| plan.nodes = 2,
            |plan| plan.link.loss_ppm = 1,
            |plan| plan.link.latency_ms = 66,
            |plan| plan.forger = Some(1),
            |plan| plan.buggify = true,
            |plan| plan.governance = true,
            |plan| plan.mailboxes = [("chain".to_owned(), 32)].into(),
        ];
        for change in changes {
            let mut plan = plan();
            change(&mut plan);
            assert!(!Calm::new(&plan).can_settle());
        }
    }

    #[test]
    fn the_work_for_a_block_stays_within_its_budget() {
        type Set = fn(&mut Costs, u64);
        // Budgets of ten blocks in a federation of four.
        let table: [(&str, u64, Set); 5] = [
            ("messages published", 50, |costs, n| costs.published = n),
            ("messages received", 150, |costs, n| costs.received = n),
            ("bytes of votes received", 60_000, |costs, n| {
                costs.received_bytes = n;
            }),
            ("signature checks", 88, |costs, n| costs.checks = n),
            ("requests", 1, |costs, n| costs.requests = n),
        ];
        for (what, budget, set) in table {
            let footprint = |n: u64| {
                let mut costs = Costs::default();
                set(&mut costs, n);
                Footprint {
                    costs,
                    ..Footprint::default()
                }
            };
            let mut calm = calm();
            assert_eq!(calm.footprint(FROM, 0, 5, &footprint(7)), Ok(()));
            let too_many = footprint(7 + budget + 1);
            assert_eq!(calm.footprint(FROM, 0, 14, &too_many), Ok(()), "too few");
            let judged = calm.footprint(FROM, 0, 15, &too_many);
            let expected = Violation::TooCostly {
                node: 1,
                what: what.to_owned(),
                blocks: 10,
                found: budget + 1,
                budget,
            };
            assert_eq!(judged, Err(expected));
            let next = footprint(7 + budget + 1 + budget);
            assert_eq!(calm.footprint(FROM, 0, 25, &next), Ok(()), "{what}");
        }
    }

    #[test]
    fn tables_are_as_small_as_needed_and_know_all_peers() {
        let all = [(("network", "connected"), 3), (("peers", "peers"), 3)];
        let judge = |change: &[((&'static str, &'static str), u64)]| {
            let mut calm = calm();
            calm.rests(FROM - REST_MS);
            let footprint = Footprint {
                tables: all.into_iter().chain(change.iter().copied()).collect(),
                ..Footprint::default()
            };
            let judged = calm.footprint(FROM, 0, 5, &footprint);
            judged.map_err(|broken| broken.name())
        };
        assert_eq!(judge(&[]), Ok(()));
        assert_eq!(judge(&[(("chain", "blocks"), 4)]), Ok(()));
        let kept = Err("table-not-shrunk".to_owned());
        assert_eq!(judge(&[(("chain", "blocks"), 5)]), kept);
        assert_eq!(judge(&[(("tx_pool", "queue_bytes"), 1)]), kept);
        assert_eq!(judge(&[(("chain", "checks_under_way"), 36)]), Ok(()));
        assert_eq!(judge(&[(("chain", "checks_under_way"), 37)]), kept);
        let missing = Err("peers-missing".to_owned());
        assert_eq!(judge(&[(("peers", "peers"), 2)]), missing);
    }
}
