//! Decisions about catching up with peers beyond the state machine's own goal. Pure: time is an
//! argument, and the ChainActor carries the decisions out.
//!
//! Three things are remembered: certified parents of proposals that are fetched by hash, a height
//! that peers claim is certified, and new peers to which the latest votes have not been
//! rebroadcast.

use std::collections::BTreeMap;

use alys_sync_planner::Goal;
use alys_types::{Certificate, Hash, Header, Height, Slot, VoteKind};

use crate::actors::validation::CheckError;

/// Unknown parents fetched at once. There is rarely more than one, because a proposal stands on the
/// highest certified block.
pub const MAX_PARENTS: usize = 8;
/// Least time between two rebroadcasts for new peers. Sooner ones would be dropped by peers as
/// repetitions, and a stranger that reconnects in a loop would make the whole federation
/// rebroadcast.
pub const REBROADCAST_INTERVAL_MS: u64 = 500;

/// Shortest interval, in milliseconds, between two requests for the statuses of all peers. A peer
/// answers one request per second.
pub const STATUS_INTERVAL_MS: u64 = 2_000;

/// Doubtful messages that a claimed height excuses, limited because a claim costs nothing. As many
/// as the burst of votes in the budget of a peer.
pub const MAX_EXCUSED: u32 = 2000;

/// Position of the local chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub final_height: Height,
    /// Height and slot of the highest certified block.
    pub highest_height: Height,
    pub highest_slot: Slot,
    /// Goal of the state machine; `None` while no certified block is out of reach.
    pub goal: Option<Goal>,
}

/// Decision about a proposal whose parent is unknown.
#[derive(Debug, PartialEq, Eq)]
pub enum Orphan {
    /// Its parent is final, not above the highest certified block, or being fetched.
    Ignore,
    Refuse(CheckError),
    /// Check the certificate of the parent; [`Catchup::add_parent`] follows if it is valid.
    CheckParent(Certificate),
}

/// Decision about data that fails against an assumed authority set.
#[derive(Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The sender pays a little, because the data is probably forged.
    pub is_penalized: bool,
    /// A height above all known ones is claimed: the goal has changed.
    pub is_goal_raised: bool,
}

#[derive(Debug, Default)]
pub struct Catchup {
    parents: BTreeMap<Hash, Certificate>,
    /// A height above ours that peers claim is certified, by an authority set that is unknown below
    /// it.
    claimed: Option<Height>,
    /// The last range that was requested for a claim brought nothing. Claims excuse no forgery
    /// until a range brings progress.
    is_claim_disproved: bool,
    /// Doubtful messages that the claim excused.
    excused: u32,
    has_new_peers: bool,
    rebroadcast_ms: Option<u64>,
    statuses_ms: Option<u64>,
}

impl Catchup {
    /// Only a parent with a certificate is fetched, never a hash that a stranger names.
    pub fn on_orphan(&self, header: &Header, at: &Position) -> Orphan {
        if header.height <= at.final_height {
            return Orphan::Ignore;
        }
        let is_of_parent = |certificate: &Certificate| {
            let target = &certificate.target;
            target.kind == VoteKind::Approval && target.hash == header.parent_hash
        };
        let Some(certificate) = header.parent_certificate.filter(is_of_parent) else {
            return Orphan::Refuse(CheckError::ParentUncertified);
        };
        let target = certificate.target;
        if target.slot <= at.highest_slot || self.parents.contains_key(&target.hash) {
            return Orphan::Ignore;
        }
        Orphan::CheckParent(certificate)
    }

    /// Adds a parent whose certificate is valid; beyond `limit` the lowest slots are dropped.
    pub fn add_parent(&mut self, certificate: Certificate, limit: usize) {
        self.parents.insert(certificate.target.hash, certificate);
        while self.parents.len() > limit {
            let lowest = self.parents.values().min_by_key(|c| c.target.slot);
            let Some(hash) = lowest.map(|certificate| certificate.target.hash) else {
                return;
            };
            self.parents.remove(&hash);
        }
    }

    /// Parents to fetch. Forgets those that are known, or not above the highest certified slot any
    /// more.
    pub fn missing_parents(
        &mut self,
        highest: Slot,
        is_known: impl Fn(&Hash) -> bool,
    ) -> impl Iterator<Item = Hash> {
        self.parents
            .retain(|hash, certificate| certificate.target.slot > highest && !is_known(hash));
        self.parents.keys().copied()
    }

    /// Number of parents that are being fetched.
    pub fn sought_parents(&self) -> usize {
        self.parents.len()
    }

    /// The certificate of a fetched parent, which is fetched no longer.
    pub fn take_parent(&mut self, hash: &Hash) -> Option<Certificate> {
        self.parents.remove(hash)
    }

    /// A forgery is cheap to make, so it costs its sender a little. While blocks are missing, valid
    /// data fails as well, and an honest peer that forwards it must not pay. A mere claim that they
    /// are missing is as cheap as a forgery: it excuses a limited number of messages, and none
    /// after a claim was disproved.
    pub fn on_doubtful(
        &mut self,
        is_gossip: bool,
        claimed: Option<Height>,
        at: &Position,
    ) -> Doubt {
        let is_excused =
            self.claimed.is_some() && !self.is_claim_disproved && self.excused < MAX_EXCUSED;
        let is_behind = at.goal.is_some() || is_excused;
        if is_gossip && is_excused && at.goal.is_none() {
            self.excused = self.excused.saturating_add(1);
        }
        let is_goal_raised = claimed.is_some_and(|height| height > at.highest_height);
        if is_goal_raised {
            self.claimed = self.claimed.max(claimed);
        }
        Doubt {
            is_penalized: is_gossip && !is_behind,
            is_goal_raised,
        }
    }

    /// A range without progress ends the pursuit of a claimed height, because the claim may be a
    /// lie.
    pub fn on_range_taken(&mut self, has_progress: bool) {
        if has_progress {
            self.is_claim_disproved = false;
            self.excused = 0;
        } else {
            self.is_claim_disproved |= self.claimed.is_some();
            self.claimed = None;
        }
    }

    /// The range of heights to request from peers, if any.
    pub fn goal(&self, at: &Position) -> Option<Goal> {
        let claimed = || {
            let to = self.claimed.filter(|height| *height > at.highest_height)?;
            Some(Goal {
                final_height: at.final_height,
                highest: at.highest_height,
                to,
            })
        };
        at.goal.or_else(claimed)
    }

    /// A peer subscribed to the topics: broadcasts reach it from now on.
    pub fn on_new_peer(&mut self) {
        self.has_new_peers = true;
    }

    /// True when the latest votes are due to be rebroadcast, once for all new peers.
    pub fn is_rebroadcast_due(&mut self, now_ms: u64) -> bool {
        let is_recent = |last_ms: u64| now_ms.saturating_sub(last_ms) < REBROADCAST_INTERVAL_MS;
        if !self.has_new_peers || self.rebroadcast_ms.is_some_and(is_recent) {
            return false;
        }
        self.has_new_peers = false;
        self.rebroadcast_ms = Some(now_ms);
        true
    }

    /// True when the statuses of the peers may be requested; counts as the request.
    pub fn is_status_due(&mut self, now_ms: u64) -> bool {
        let is_recent = |last_ms: u64| now_ms.saturating_sub(last_ms) < STATUS_INTERVAL_MS;
        if self.statuses_ms.is_some_and(is_recent) {
            return false;
        }
        self.statuses_ms = Some(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use alys_types::bls::Signature;
    use alys_types::vote::Bitmap;
    use alys_types::{VoteTarget, spec};

    use super::*;

    fn hash(mark: u8) -> Hash {
        Hash([mark; 32])
    }

    fn certificate(mark: u8, slot: u64, kind: VoteKind) -> Certificate {
        Certificate {
            target: VoteTarget {
                kind,
                height: Height(slot),
                slot: Slot(slot),
                hash: hash(mark),
            },
            signers: Bitmap::empty(4),
            signature: Signature([0; 96]),
        }
    }

    fn approved(mark: u8, slot: u64) -> Certificate {
        certificate(mark, slot, VoteKind::Approval)
    }

    /// A proposal at `height` on the block `parent`.
    fn proposal(height: u64, parent: u8, parent_certificate: Option<Certificate>) -> Header {
        Header {
            version: spec::HEADER_VERSION,
            evm_chain_id: 1,
            genesis_hash: hash(0),
            height: Height(height),
            slot: Slot(height),
            proposer: 0,
            parent_hash: hash(parent),
            parent_certificate,
            execution_hash: hash(0),
            body_hash: hash(0),
            set_hash: hash(0),
            ledger_hash: hash(0),
        }
    }

    /// Final up to 5, certified up to 7.
    fn position() -> Position {
        Position {
            final_height: Height(5),
            highest_height: Height(7),
            highest_slot: Slot(7),
            goal: None,
        }
    }

    fn goal(to: u64) -> Goal {
        Goal {
            final_height: Height(5),
            highest: Height(7),
            to: Height(to),
        }
    }

    #[test]
    fn only_a_certified_parent_above_the_chain_is_fetched() {
        let mut catchup = Catchup::default();
        catchup.add_parent(approved(8, 8), MAX_PARENTS);
        let unsupported = || Orphan::Refuse(CheckError::ParentUncertified);
        let table = [
            (proposal(5, 9, Some(approved(9, 9))), Orphan::Ignore),
            (proposal(10, 9, None), unsupported()),
            (proposal(10, 9, Some(approved(1, 9))), unsupported()),
            (
                proposal(10, 9, Some(certificate(9, 9, VoteKind::Confirmation))),
                unsupported(),
            ),
            (proposal(10, 9, Some(approved(9, 7))), Orphan::Ignore),
            (proposal(10, 8, Some(approved(8, 8))), Orphan::Ignore),
            (
                proposal(10, 9, Some(approved(9, 9))),
                Orphan::CheckParent(approved(9, 9)),
            ),
        ];
        for (row, (header, expected)) in table.into_iter().enumerate() {
            assert_eq!(
                catchup.on_orphan(&header, &position()),
                expected,
                "row {row}"
            );
        }
    }

    #[test]
    fn parents_are_fetched_until_they_are_known_or_overtaken() {
        let mut catchup = Catchup::default();
        for slot in 8..12 {
            catchup.add_parent(approved(slot, u64::from(slot)), 3);
        }
        let missing = |catchup: &mut Catchup, highest, known| {
            catchup
                .missing_parents(Slot(highest), |other| *other == hash(known))
                .collect::<Vec<_>>()
        };
        // The lowest slot gave way to the limit.
        assert_eq!(missing(&mut catchup, 7, 0), [hash(9), hash(10), hash(11)]);
        assert_eq!(missing(&mut catchup, 9, 11), [hash(10)]);
        assert_eq!(catchup.take_parent(&hash(10)), Some(approved(10, 10)));
        assert_eq!(catchup.take_parent(&hash(10)), None);
        assert!(missing(&mut catchup, 7, 0).is_empty());
    }

    #[test]
    fn doubtful_data_costs_its_sender_unless_blocks_are_missing() {
        // True for gossip, the claimed height, whether a height was claimed before, the goal
        // of the state machine; whether the sender pays, and the goal after it.
        let table = [
            (true, None, None, None, true, None),
            (false, None, None, None, false, None),
            (true, Some(9), None, None, true, Some(9)),
            (true, Some(7), None, None, true, None),
            (true, Some(9), Some(11), None, false, Some(11)),
            (true, Some(12), Some(11), None, false, Some(12)),
            (true, Some(12), None, Some(8), false, Some(8)),
        ];
        for (row, (is_gossip, claimed, before, own_goal, is_penalized, expected)) in
            table.into_iter().enumerate()
        {
            let at = Position {
                goal: own_goal.map(goal),
                ..position()
            };
            let claimed = claimed.map(Height);
            let mut catchup = Catchup {
                claimed: before.map(Height),
                ..Catchup::default()
            };
            let doubt = catchup.on_doubtful(is_gossip, claimed, &at);
            let is_goal_raised = claimed > Some(Height(7));
            assert_eq!(
                doubt,
                Doubt {
                    is_penalized,
                    is_goal_raised
                },
                "row {row}"
            );
            assert_eq!(catchup.goal(&at), expected.map(goal), "row {row}");
        }
    }

    /// A claim without proof excuses no flood of forgeries.
    #[test]
    fn a_disproved_claim_excuses_no_forgery() {
        let mut catchup = Catchup::default();
        let doubt = |catchup: &mut Catchup| {
            let doubt = catchup.on_doubtful(true, Some(Height(9)), &position());
            doubt.is_penalized
        };
        assert!(doubt(&mut catchup), "the claim itself costs");
        assert!(!doubt(&mut catchup), "it may be true");
        catchup.on_range_taken(false);
        for _ in 0..5 {
            assert!(
                doubt(&mut catchup),
                "it was not, nor are later ones believed"
            );
        }
        catchup.on_range_taken(true);
        assert!(!doubt(&mut catchup));
        for _ in 1..MAX_EXCUSED {
            assert!(!doubt(&mut catchup));
        }
        assert!(doubt(&mut catchup), "a claim excuses a limited number");
    }

    #[test]
    fn a_claimed_height_is_pursued_while_ranges_bring_progress() {
        let mut catchup = Catchup::default();
        catchup.on_doubtful(false, Some(Height(9)), &position());
        catchup.on_range_taken(true);
        assert_eq!(catchup.goal(&position()), Some(goal(9)));
        let arrived = Position {
            highest_height: Height(9),
            ..position()
        };
        assert_eq!(catchup.goal(&arrived), None);
        catchup.on_range_taken(false);
        assert_eq!(catchup.goal(&position()), None);
    }

    #[test]
    fn new_peers_share_a_rebroadcast_each_interval() {
        let mut catchup = Catchup::default();
        let mut due = Vec::new();
        for now_ms in [0, 100, 499, 500, 501, 1_200] {
            if now_ms != 501 {
                catchup.on_new_peer();
            }
            due.push(catchup.is_rebroadcast_due(now_ms));
        }
        assert_eq!(due, [true, false, false, true, false, true]);
    }

    #[test]
    fn statuses_are_requested_at_intervals() {
        let mut catchup = Catchup::default();
        let times = [0, 1, 1_999, STATUS_INTERVAL_MS, 2_001, 4_000];
        let due = times.map(|now_ms| catchup.is_status_due(now_ms));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
