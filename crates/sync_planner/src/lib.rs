//! What to fetch next, from whom, and when to give up; pure.
//!
//! Owns the plan of a catch-up: one range at a time, from one peer at a time. Promises that there is at most one
//! request outstanding, that a peer which fails or stays silent is left alone for a while, and that a range which
//! does not connect is asked for again from the last final block. Never does IO, waits, reads a clock or draws
//! randomness: time is an argument, in milliseconds of a monotonic clock.

use std::collections::BTreeMap;

use alys_types::Height;

/// Blocks asked for at once.
pub const RANGE: u64 = 64;
/// How long a peer has to answer.
pub const TIMEOUT_MS: u64 = 12_000;
/// How long a peer that failed is left alone.
pub const PENALTY_MS: u64 = 5_000;

/// What is missing: everything from the node's own position up to a certified height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The node's last final height: its peers agree up to there.
    pub final_height: Height,
    /// The node's highest certified height, perhaps on a branch that its peers left.
    pub highest: Height,
    /// A certified height that was seen.
    pub to: Height,
}

/// A request to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<P> {
    /// Whom to ask.
    pub peer: P,
    /// First height.
    pub start: Height,
    /// How many, from 1 to [`RANGE`].
    pub count: u64,
}

/// The plan. `P` identifies peers.
#[derive(Debug)]
pub struct Planner<P: Ord + Clone> {
    peers: BTreeMap<P, Peer>,
    goal: Option<Goal>,
    outstanding: Option<(P, u64)>,
    /// The last range did not connect: the next starts at the last final block.
    from_final: bool,
    asked: u64,
}

#[derive(Debug, Default)]
struct Peer {
    avoided_until_ms: u64,
    last_asked: u64,
}

impl<P: Ord + Clone> Default for Planner<P> {
    fn default() -> Self {
        Planner { peers: BTreeMap::new(), goal: None, outstanding: None, from_final: false, asked: 0 }
    }
}

impl<P: Ord + Clone> Planner<P> {
    /// A peer is there.
    pub fn connected(&mut self, peer: P) {
        self.peers.entry(peer).or_default();
    }

    /// A peer is gone; what was asked of it is asked of another.
    pub fn disconnected(&mut self, peer: &P) {
        self.peers.remove(peer);
        if self.outstanding.as_ref().is_some_and(|(p, _)| p == peer) {
            self.outstanding = None;
        }
    }

    /// Something is missing.
    pub fn want(&mut self, goal: Goal) {
        self.goal = (goal.to > goal.highest || goal.to > goal.final_height).then_some(goal);
    }

    /// A range was answered and taken. `progress` tells whether it added blocks; where the node stands now comes with
    /// the next [`Self::want`].
    pub fn taken(&mut self, peer: &P, progress: bool, now_ms: u64) {
        self.settle(peer);
        self.goal = None;
        if !progress {
            // Nothing new: it may not connect where we are, or the peer has no more than we have.
            self.from_final = !self.from_final;
            self.avoid(peer, now_ms + PENALTY_MS / 5);
        } else {
            self.from_final = false;
        }
    }

    /// A range was refused, malformed, or did not come.
    pub fn failed(&mut self, peer: &P, now_ms: u64) {
        self.settle(peer);
        self.avoid(peer, now_ms + PENALTY_MS);
    }

    /// A range was lost after it had come: another is asked for, and nobody is to blame.
    pub fn lost(&mut self) {
        self.outstanding = None;
    }

    /// The next request, if one is due.
    pub fn next(&mut self, now_ms: u64) -> Option<Request<P>> {
        if let Some((peer, since)) = self.outstanding.clone() {
            if now_ms < since + TIMEOUT_MS {
                return None;
            }
            self.failed(&peer, now_ms);
        }
        let goal = self.goal?;
        let base = if self.from_final {
            goal.final_height
        } else {
            goal.highest.min(goal.to).max(goal.final_height)
        };
        let base = if base >= goal.to { goal.final_height } else { base };
        let count = (goal.to.0 - base.0).min(RANGE);
        let peer = self
            .peers
            .iter()
            .filter(|(_, p)| p.avoided_until_ms <= now_ms)
            .min_by_key(|(_, p)| p.last_asked)
            .map(|(id, _)| id.clone())?;
        self.asked += 1;
        if let Some(p) = self.peers.get_mut(&peer) {
            p.last_asked = self.asked;
        }
        self.outstanding = Some((peer.clone(), now_ms));
        Some(Request { peer, start: base.next(), count })
    }

    /// Peers that may be asked, the one asked longest ago first.
    pub fn peers(&self) -> impl Iterator<Item = &P> {
        self.peers.keys()
    }

    fn settle(&mut self, peer: &P) {
        if self.outstanding.as_ref().is_some_and(|(p, _)| p == peer) {
            self.outstanding = None;
        }
    }

    fn avoid(&mut self, peer: &P, until_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.avoided_until_ms = p.avoided_until_ms.max(until_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn goal(final_height: u64, highest: u64, to: u64) -> Goal {
        Goal { final_height: Height(final_height), highest: Height(highest), to: Height(to) }
    }

    #[test]
    fn a_range_that_is_lost_is_asked_for_again_and_costs_nobody() {
        let mut planner = Planner::default();
        planner.connected("a");
        planner.want(goal(10, 12, 500));
        let first = planner.next(0);
        assert_eq!((first.is_some(), planner.next(1)), (true, None));
        planner.lost();
        assert_eq!(planner.next(2), first, "of the only peer, which is not left alone for it");
    }

    #[test]
    fn one_request_at_a_time_round_the_peers() {
        let mut planner = Planner::default();
        planner.connected("a");
        planner.connected("b");
        planner.want(goal(10, 12, 500));
        assert_eq!(planner.next(0), Some(Request { peer: "a", start: Height(13), count: RANGE }));
        assert_eq!(planner.next(1), None, "one is outstanding");
        planner.taken(&"a", true, 2);
        assert_eq!(planner.next(3), None, "what is wanted now is not known yet");
        planner.want(goal(10, 76, 500));
        assert_eq!(planner.next(4), Some(Request { peer: "b", start: Height(77), count: RANGE }));
    }

    #[test]
    fn a_range_that_does_not_connect_is_asked_from_the_last_final_block() {
        let mut planner = Planner::default();
        planner.connected("a");
        planner.want(goal(10, 12, 14));
        assert_eq!(planner.next(0).map(|r| r.start), Some(Height(13)));
        planner.taken(&"a", false, 1);
        planner.want(goal(10, 12, 14));
        assert_eq!(planner.next(1), None, "left alone for a moment");
        assert_eq!(planner.next(PENALTY_MS), Some(Request { peer: "a", start: Height(11), count: 4 }));
    }

    #[test]
    fn a_silent_or_failing_peer_is_left_alone_for_a_while() {
        let mut planner = Planner::default();
        planner.connected("a");
        planner.connected("b");
        planner.want(goal(0, 0, 10));
        assert_eq!(planner.next(0).map(|r| r.peer), Some("a"));
        assert_eq!(planner.next(TIMEOUT_MS).map(|r| r.peer), Some("b"));
        planner.failed(&"b", TIMEOUT_MS + 1);
        assert_eq!(planner.next(TIMEOUT_MS + 2), None);
        assert_eq!(planner.next(TIMEOUT_MS + PENALTY_MS).map(|r| r.peer), Some("a"));
        planner.disconnected(&"a");
        assert_eq!(planner.next(TIMEOUT_MS + 2 * PENALTY_MS).map(|r| r.peer), Some("b"));
    }

    proptest! {
        /// Whatever happens: at most one request outstanding, ranges within bounds, never for nothing.
        #[test]
        fn requests_are_bounded(steps in proptest::collection::vec((0u8..6, 0u8..4, 0u64..300, 0u64..300, 0u64..300), 1..200)) {
            let mut planner = Planner::default();
            let (mut now, mut outstanding) = (0, None::<u8>);
            for (what, peer, a, b, c) in steps {
                now += a * 20;
                match what {
                    0 => planner.connected(peer),
                    1 => {
                        planner.disconnected(&peer);
                        if outstanding == Some(peer) { outstanding = None; }
                    }
                    2 => planner.want(goal(a.min(b), b, c)),
                    3 => {
                        planner.taken(&peer, a % 2 == 0, now);
                        if outstanding == Some(peer) { outstanding = None; }
                    }
                    4 => {
                        planner.failed(&peer, now);
                        if outstanding == Some(peer) { outstanding = None; }
                    }
                    _ => {}
                }
                if let Some(request) = planner.next(now) {
                    prop_assert!(request.count >= 1 && request.count <= RANGE);
                    prop_assert!(request.start >= Height(1));
                    prop_assert!(outstanding.is_none() || outstanding != Some(request.peer) || planner.peers().count() > 0);
                    outstanding = Some(request.peer);
                }
            }
        }
    }
}
