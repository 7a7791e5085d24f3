//! Plan of a catch-up: the next range to fetch, the peer to ask, and when to give up; pure.
//!
//! Owns the plan: one range at a time, from one peer at a time. Promises that at most one request
//! is outstanding; that a peer which fails or does not answer is avoided for a while, and ranks
//! behind others for longer after each failure; that reconnecting does not clear its record; that
//! every peer is asked within a bounded number of requests; and that a range which does not connect
//! is requested again from the last final block. Never does IO, waits, reads a clock or draws
//! randomness: time is an argument, in milliseconds of a monotonic clock.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::BTreeMap;

use alys_types::Height;

/// Most blocks in one request.
pub const RANGE_BLOCKS: u64 = 64;
/// Time that a peer has to answer a range request.
pub const RANGE_TIMEOUT_MS: u64 = 12_000;
/// Time for which a peer that failed is asked for no range. It also ranks behind others, for twice
/// as long after each further failure, but is asked when no other peer is left.
pub const FAILURE_BACKOFF_MS: u64 = 5_000;
/// The same for a peer whose answer added nothing.
const NO_PROGRESS_BACKOFF_MS: u64 = FAILURE_BACKOFF_MS / 5;
/// Doublings of the backoff: beyond five minutes a longer one does not help.
const MAX_DOUBLINGS: u32 = 6;
/// One request in this many goes to the peer that was asked the longest time ago, of those that do
/// not rank behind, so that every peer is asked.
const FAIR_TURN_ONE_IN: u64 = 4;
/// Disconnected peers whose failures are remembered. An attacker with more identities than that can
/// use a new one each time, which gains as much.
const MAX_REMEMBERED: usize = 256;

/// The gap to close: from the node's own position up to a certified height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The node's last final height; its peers agree up to there.
    pub final_height: Height,
    /// The node's highest certified height, perhaps on a branch that its peers left.
    pub highest: Height,
    /// The certified height to reach.
    pub to: Height,
}

/// A request to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<P> {
    /// The peer to ask.
    pub peer: P,
    /// First height.
    pub start: Height,
    /// Number of blocks, from 1 to [`RANGE_BLOCKS`].
    pub count: u64,
}

/// The plan. `P` identifies peers.
#[derive(Debug)]
pub struct Planner<P: Ord + Clone> {
    peers: BTreeMap<P, Peer>,
    goal: Option<Goal>,
    /// The peer that was asked for a range, and the time of the request.
    outstanding: Option<(P, u64)>,
    /// The last range did not connect: the next one starts at the last final block.
    from_final: bool,
    /// Requests so far, for ranges and single blocks; orders [`Peer::last_asked`].
    requests: u64,
    /// Range requests so far.
    ranges: u64,
    /// Records of disconnected peers that failed, with the order in which they left.
    disconnected: BTreeMap<P, (u64, Record)>,
    disconnections: u64,
}

#[derive(Debug)]
struct Peer {
    /// Named by the operator.
    is_configured: bool,
    last_asked: u64,
    record: Record,
}

/// The failures of a peer.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Since the peer's last useful range.
    failures: u32,
    /// Asked for no range until then.
    avoided_until_ms: u64,
    /// Ranks behind others until then.
    behind_until_ms: u64,
}

impl Record {
    fn add_failure(&mut self, backoff_ms: u64, now_ms: u64) {
        let factor = 2u64.saturating_pow(self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        self.rank_behind(backoff_ms.saturating_mul(factor), now_ms);
    }

    fn rank_behind(&mut self, for_ms: u64, now_ms: u64) {
        self.behind_until_ms = self.behind_until_ms.max(now_ms.saturating_add(for_ms));
    }

    fn avoid(&mut self, for_ms: u64, now_ms: u64) {
        self.avoided_until_ms = self.avoided_until_ms.max(now_ms.saturating_add(for_ms));
    }
}

impl<P: Ord + Clone> Default for Planner<P> {
    fn default() -> Self {
        Planner {
            peers: BTreeMap::new(),
            goal: None,
            outstanding: None,
            from_final: false,
            requests: 0,
            ranges: 0,
            disconnected: BTreeMap::new(),
            disconnections: 0,
        }
    }
}

impl<P: Ord + Clone> Planner<P> {
    /// Adds a peer behind those that are connected; `is_configured` if the operator named it.
    pub fn connected(&mut self, peer: P, is_configured: bool) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.is_configured |= is_configured;
            return;
        }
        let remembered = self.disconnected.remove(&peer);
        let record = remembered.map(|(_, record)| record).unwrap_or_default();
        self.peers.insert(
            peer,
            Peer {
                is_configured,
                last_asked: self.requests,
                record,
            },
        );
    }

    /// Removes a peer. An outstanding request to it has failed, and is made again to another.
    pub fn disconnected(&mut self, peer: &P, now_ms: u64) {
        if self.outstanding.as_ref().is_some_and(|(p, _)| p == peer) {
            self.range_failed(peer, now_ms);
        }
        let Some(Peer { record, .. }) = self.peers.remove(peer) else {
            return;
        };
        if record.failures == 0 {
            return;
        }
        self.disconnections = self.disconnections.saturating_add(1);
        self.disconnected
            .insert(peer.clone(), (self.disconnections, record));
        let earliest = self
            .disconnected
            .iter()
            .min_by_key(|(_, (order, _))| *order);
        if self.disconnected.len() > MAX_REMEMBERED
            && let Some(earliest) = earliest.map(|(id, _)| id.clone())
        {
            self.disconnected.remove(&earliest);
        }
    }

    /// Sets the gap to close; a goal that is reached clears it.
    pub fn set_goal(&mut self, goal: Goal) {
        self.goal = (goal.to > goal.final_height).then_some(goal);
    }

    /// A range was answered and imported; `progress` tells whether it added blocks. The node's new
    /// position arrives with the next [`Self::set_goal`].
    pub fn range_imported(&mut self, peer: &P, progress: bool, now_ms: u64) {
        self.clear_outstanding(peer);
        self.goal = None;
        if !progress {
            // It may not connect to the node's branch, or the peer has no more blocks than the
            // node.
            self.from_final = !self.from_final;
            self.punish(peer, NO_PROGRESS_BACKOFF_MS, now_ms);
            return;
        }
        self.from_final = false;
        if let Some(p) = self.peers.get_mut(peer) {
            p.record = Record::default();
        }
    }

    /// A range was refused, malformed, or not answered.
    pub fn range_failed(&mut self, peer: &P, now_ms: u64) {
        self.clear_outstanding(peer);
        self.punish(peer, FAILURE_BACKOFF_MS, now_ms);
    }

    /// A range was dropped after it had arrived: it is requested again, and costs no peer.
    pub fn range_dropped(&mut self) {
        self.outstanding = None;
    }

    /// A single block was not answered: the peer ranks behind others. Its outstanding range is not
    /// affected.
    pub fn block_timed_out(&mut self, peer: &P, now_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.add_failure(FAILURE_BACKOFF_MS, now_ms);
        }
    }

    /// A peer does not have a single block, which is no fault: another one is asked first next
    /// time.
    pub fn block_missing(&mut self, peer: &P, now_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.rank_behind(NO_PROGRESS_BACKOFF_MS, now_ms);
        }
    }

    /// A peer sent a single block: makes up for one that it did not send, not for ranges.
    pub fn block_received(&mut self, peer: &P) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.failures = p.record.failures.saturating_sub(1);
        }
    }

    /// Gives up the outstanding range after [`RANGE_TIMEOUT_MS`], which counts as a failure of its
    /// peer. Returns the peer.
    pub fn expire_range(&mut self, now_ms: u64) -> Option<P> {
        let is_over = |since: u64| now_ms >= since.saturating_add(RANGE_TIMEOUT_MS);
        let (peer, _) = self.outstanding.clone().filter(|(_, at)| is_over(*at))?;
        self.range_failed(&peer, now_ms);
        Some(peer)
    }

    /// The next range request, if one is due.
    pub fn next_range(&mut self, now_ms: u64) -> Option<Request<P>> {
        self.expire_range(now_ms);
        if self.outstanding.is_some() {
            return None;
        }
        let goal = self.goal?;
        let position = goal.highest.min(goal.to).max(goal.final_height);
        let base = if self.from_final || position >= goal.to {
            goal.final_height
        } else {
            position
        };
        let count = goal.to.saturating_since(base).min(RANGE_BLOCKS);
        let is_rested = |p: &Peer| p.record.avoided_until_ms <= now_ms;
        let peer = self.pick(self.ranges, now_ms, is_rested)?;
        self.ranges = self.ranges.saturating_add(1);
        self.outstanding = Some((peer.clone(), now_ms));
        Some(Request {
            peer,
            start: base.next(),
            count,
        })
    }

    /// The peer to ask for a single block; `turn` counts these requests. A peer that is avoided for
    /// ranges is asked as well.
    pub fn peer_for_block(&mut self, turn: u64, now_ms: u64) -> Option<P> {
        self.pick(turn, now_ms, |_| true)
    }

    /// The connected peers.
    pub fn peers(&self) -> impl Iterator<Item = &P> {
        self.peers.keys()
    }

    /// Number of disconnected peers whose failures are remembered.
    pub fn remembered(&self) -> usize {
        self.disconnected.len()
    }

    /// Picks the peer to ask next, and counts it as asked.
    fn pick(&mut self, turn: u64, now_ms: u64, is_eligible: impl Fn(&Peer) -> bool) -> Option<P> {
        let is_fair_turn = turn.saturating_add(1).is_multiple_of(FAIR_TURN_ONE_IN);
        let rank = |p: &Peer| {
            let is_behind = now_ms < p.record.behind_until_ms;
            let merit = (!p.is_configured, p.record.failures);
            (is_behind, (!is_fair_turn).then_some(merit), p.last_asked)
        };
        let (id, peer) = self
            .peers
            .iter_mut()
            .filter(|(_, p)| is_eligible(p))
            .min_by_key(|(_, p)| rank(p))?;
        self.requests = self.requests.saturating_add(1);
        peer.last_asked = self.requests;
        Some(id.clone())
    }

    fn clear_outstanding(&mut self, peer: &P) {
        if self.outstanding.as_ref().is_some_and(|(p, _)| p == peer) {
            self.outstanding = None;
        }
    }

    fn punish(&mut self, peer: &P, backoff_ms: u64, now_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.add_failure(backoff_ms, now_ms);
            p.record.avoid(backoff_ms, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn goal(final_height: u64, highest: u64, to: u64) -> Goal {
        Goal {
            final_height: Height(final_height),
            highest: Height(highest),
            to: Height(to),
        }
    }

    #[test]
    fn a_range_that_is_dropped_is_requested_again_and_costs_no_peer() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.set_goal(goal(10, 12, 500));
        let first = planner.next_range(0);
        assert_eq!((first.is_some(), planner.next_range(1)), (true, None));
        planner.range_dropped();
        assert_eq!(
            planner.next_range(2),
            first,
            "from the only peer, which is not avoided for it"
        );
    }

    #[test]
    fn a_height_that_is_final_is_no_goal() {
        // Final, highest and wanted height, and the request.
        for (last, highest, to, expected) in [
            (12, 12, 12, None),
            (12, 20, 12, None),
            (12, 5, 10, None),
            (12, 5, 13, Some((13, 1))),
            (10, 12, 12, Some((11, 2))),
        ] {
            let mut planner = Planner::default();
            planner.connected("a", false);
            planner.set_goal(goal(last, highest, to));
            let request = planner.next_range(0);
            let request = request.map(|request| (request.start.0, request.count));
            assert_eq!(request, expected, "{last}, {highest}, {to}");
        }
    }

    #[test]
    fn an_overdue_range_is_given_up_once() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.set_goal(goal(10, 12, 500));
        assert_eq!(planner.expire_range(0), None, "none is outstanding");
        assert!(planner.next_range(5).is_some());
        assert_eq!(planner.expire_range(4 + RANGE_TIMEOUT_MS), None);
        assert_eq!(planner.expire_range(5 + RANGE_TIMEOUT_MS), Some("a"));
        assert_eq!(planner.expire_range(6 + RANGE_TIMEOUT_MS), None);
        assert_eq!(planner.next_range(6 + RANGE_TIMEOUT_MS), None, "avoided");
    }

    #[test]
    fn one_request_at_a_time_goes_round_the_peers() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.connected("b", false);
        planner.set_goal(goal(10, 12, 500));
        assert_eq!(
            planner.next_range(0),
            Some(Request {
                peer: "a",
                start: Height(13),
                count: RANGE_BLOCKS
            })
        );
        assert_eq!(planner.next_range(1), None, "one is outstanding");
        planner.range_imported(&"a", true, 2);
        assert_eq!(
            planner.next_range(3),
            None,
            "the new position is not known yet"
        );
        planner.set_goal(goal(10, 76, 500));
        assert_eq!(
            planner.next_range(4),
            Some(Request {
                peer: "b",
                start: Height(77),
                count: RANGE_BLOCKS
            })
        );
    }

    #[test]
    fn a_range_that_does_not_connect_is_requested_from_the_last_final_block() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.set_goal(goal(10, 12, 14));
        assert_eq!(planner.next_range(0).map(|r| r.start), Some(Height(13)));
        planner.range_imported(&"a", false, 1);
        planner.set_goal(goal(10, 12, 14));
        assert_eq!(planner.next_range(1), None, "avoided for a moment");
        assert_eq!(
            planner.next_range(FAILURE_BACKOFF_MS),
            Some(Request {
                peer: "a",
                start: Height(11),
                count: 4
            })
        );
    }

    #[test]
    fn a_silent_or_failing_peer_is_avoided_for_a_while() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.connected("b", false);
        planner.set_goal(goal(0, 0, 10));
        assert_eq!(planner.next_range(0).map(|r| r.peer), Some("a"));
        assert_eq!(
            planner.next_range(RANGE_TIMEOUT_MS).map(|r| r.peer),
            Some("b")
        );
        planner.range_failed(&"b", RANGE_TIMEOUT_MS + 1);
        assert_eq!(planner.next_range(RANGE_TIMEOUT_MS + 2), None);
        assert_eq!(
            planner
                .next_range(RANGE_TIMEOUT_MS + FAILURE_BACKOFF_MS)
                .map(|r| r.peer),
            Some("a")
        );
        planner.disconnected(&"a", RANGE_TIMEOUT_MS + FAILURE_BACKOFF_MS + 1);
        assert_eq!(
            planner
                .next_range(RANGE_TIMEOUT_MS + 2 * FAILURE_BACKOFF_MS)
                .map(|r| r.peer),
            Some("b")
        );
    }

    /// Runs a planner against strangers that never answer, and one honest peer that answers at
    /// once. With `leave`, a stranger disconnects before its timeout and returns as the next
    /// identity of `strangers`. Returns the number of `turns` requests that went to `honest`.
    fn under_attack(
        honest: &str,
        expected: bool,
        strangers: &[&'static str],
        leave: bool,
        turns: u64,
    ) -> u64 {
        let mut planner = Planner::default();
        strangers
            .iter()
            .take(if leave { 1 } else { usize::MAX })
            .for_each(|s| planner.connected(*s, false));
        planner.connected(honest, expected);
        planner.set_goal(goal(0, 0, 1_000_000));
        let mut now = 0;
        let mut served = 0;
        let mut asked = 0;
        let mut next = 0;
        while asked < turns {
            let Some(Request { peer, .. }) = planner.next_range(now) else {
                now += 500;
                continue;
            };
            asked += 1;
            if peer == honest {
                now += 100;
                served += 1;
                planner.range_imported(&peer, true, now);
                planner.set_goal(goal(0, served * RANGE_BLOCKS, 1_000_000));
            } else if leave {
                now += 9_900;
                next = (next + 1) % strangers.len();
                planner.connected(strangers[next], false);
                planner.disconnected(&peer, now);
            } else {
                now += RANGE_TIMEOUT_MS;
            }
        }
        served
    }

    #[test]
    fn silent_strangers_do_not_starve_honest_peers() {
        const MANY: [&str; 12] = [
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
        ];
        // Strangers, whether they leave, whether the honest peer is configured, and the least share
        // of 200 requests that it gets.
        let table = [
            (&MANY[..1], false, false, 190),
            (&MANY[..2], true, false, 180),
            (&MANY[..], false, false, 130),
            (&MANY[..], true, false, 130),
            (&MANY[..], true, true, 140),
        ];
        for (row, (strangers, leave, expected, least)) in table.into_iter().enumerate() {
            let served = under_attack("honest", expected, strangers, leave, 200);
            assert!(
                served >= least,
                "row {row}: {served} of 200 requests go to the honest peer"
            );
        }
    }

    #[test]
    fn a_peer_that_leaves_with_a_range_has_failed_and_is_recognised_when_it_returns() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.set_goal(goal(0, 0, 10));
        assert_eq!(planner.next_range(0).map(|r| r.peer), Some("a"));
        planner.disconnected(&"a", 100);
        planner.connected("a", false);
        assert_eq!(planner.next_range(200), None);
        planner.connected("b", false);
        assert_eq!(planner.next_range(300).map(|r| r.peer), Some("b"));
        planner.disconnected(&"b", 400);
        assert_eq!(
            planner.next_range(100 + FAILURE_BACKOFF_MS).map(|r| r.peer),
            Some("a"),
            "it is the only one left"
        );
    }

    #[test]
    fn a_single_block_is_requested_from_the_best_peer_and_from_the_next_if_that_one_lacks_it() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.connected("b", true);
        assert_eq!(
            planner.peer_for_block(0, 0),
            Some("b"),
            "the operator named it"
        );
        planner.block_missing(&"b", 0);
        assert_eq!(planner.peer_for_block(1, 1), Some("a"));
        planner.block_timed_out(&"a", 1);
        assert_eq!(planner.peer_for_block(2, NO_PROGRESS_BACKOFF_MS), Some("b"));
        assert_eq!(
            planner.peer_for_block(FAIR_TURN_ONE_IN - 1, 1 + FAILURE_BACKOFF_MS),
            Some("a"),
            "it was asked the longest time ago"
        );
    }

    #[test]
    fn a_single_block_makes_up_for_one_failure_and_shortens_no_backoff() {
        // Failures, single blocks that arrive after them, and the failures that remain.
        let table = [
            (0, 1, 0),
            (1, 1, 0),
            (2, 1, 1),
            (4, 1, 3),
            (4, 3, 1),
            (2, 5, 0),
        ];
        for (failures, blocks, left) in table {
            let context = format!("{failures} failures, {blocks} blocks");
            let mut planner = Planner::default();
            planner.connected("a", false);
            for _ in 0..failures {
                planner.range_failed(&"a", 0);
            }
            let before = planner.peers[&"a"].record;
            for _ in 0..blocks {
                planner.block_received(&"a");
            }
            let after = planner.peers[&"a"].record;
            assert_eq!(after.failures, left, "{context}");
            let times = |record: &Record| (record.avoided_until_ms, record.behind_until_ms);
            assert_eq!(times(&after), times(&before), "{context}");
            // The next failure costs as much as after those that remain.
            let later = 1_000 * FAILURE_BACKOFF_MS;
            planner.range_failed(&"a", later);
            let behind_ms = FAILURE_BACKOFF_MS << left;
            let record = planner.peers[&"a"].record;
            assert_eq!(record.behind_until_ms, later + behind_ms, "{context}");
        }
    }

    #[test]
    fn a_new_peer_ranks_behind_those_connected_before() {
        let mut planner = Planner::default();
        planner.connected("b", false);
        planner.connected("c", false);
        planner.set_goal(goal(0, 0, 500));
        assert_eq!(planner.next_range(0).map(|r| r.peer), Some("b"));
        planner.connected("a", false);
        planner.range_imported(&"b", true, 1);
        planner.set_goal(goal(0, 64, 500));
        assert_eq!(planner.next_range(2).map(|r| r.peer), Some("c"));
    }

    #[test]
    fn failed_peers_that_left_are_remembered_up_to_a_limit() {
        let mut planner = Planner::default();
        planner.set_goal(goal(0, 0, 10));
        let strangers = MAX_REMEMBERED as u64 + 10;
        for stranger in 0..strangers {
            planner.connected(stranger, false);
            assert_eq!(planner.next_range(0).map(|r| r.peer), Some(stranger));
            planner.disconnected(&stranger, 0);
        }
        assert_eq!(planner.disconnected.len(), MAX_REMEMBERED);
        assert!(
            !planner.disconnected.contains_key(&0)
                && planner.disconnected.contains_key(&(strangers - 1))
        );
    }

    proptest! {
        /// Any sequence of events: at most one request outstanding, ranges within bounds.
        #[test]
        fn requests_are_bounded(
            steps in vec((0u8..6, 0u8..4, 0u64..300, 0u64..300, 0u64..300), 1..200)
        ) {
            let mut planner = Planner::default();
            let mut now = 0;
            let mut outstanding = None::<u8>;
            for (event, peer, a, b, c) in steps {
                now += a * 20;
                match event {
                    0 => planner.connected(peer, b % 2 == 0),
                    1 => {
                        planner.disconnected(&peer, now);
                        if outstanding == Some(peer) { outstanding = None; }
                    }
                    2 => planner.set_goal(goal(a.min(b), b, c)),
                    3 => {
                        planner.range_imported(&peer, a % 2 == 0, now);
                        if outstanding == Some(peer) { outstanding = None; }
                    }
                    4 => {
                        planner.range_failed(&peer, now);
                        if outstanding == Some(peer) { outstanding = None; }
                    }
                    _ => {}
                }
                if let Some(request) = planner.next_range(now) {
                    prop_assert!(request.count >= 1 && request.count <= RANGE_BLOCKS);
                    prop_assert!(request.start >= Height(1));
                    let is_repeated = outstanding == Some(request.peer);
                    prop_assert!(!is_repeated || planner.peers().count() > 0);
                    outstanding = Some(request.peer);
                }
            }
        }
    }
}
