//! What to fetch next, from whom, and when to give up; pure.
//!
//! Owns the plan of a catch-up: one range at a time, from one peer at a time. Promises that there
//! is at most one request outstanding, that a peer which fails or stays silent is left alone for a
//! while and gives way to others for longer each time, that coming back does not make up for it,
//! that everybody is asked within a bounded number of requests, and that a range which does not
//! connect is asked for again from the last final block. Never does IO, waits, reads a clock or
//! draws randomness: time is an argument, in milliseconds of a monotonic clock.

use std::collections::BTreeMap;

use alys_types::Height;

/// Blocks asked for at once.
pub const RANGE: u64 = 64;
/// How long a peer has to answer.
pub const TIMEOUT_MS: u64 = 12_000;
/// How long a peer that failed is left alone. Doubled for every further failure, it gives way to
/// others that long: to be the only one left is no reason not to be asked.
pub const PENALTY_MS: u64 = 5_000;
/// The same for a peer that had nothing of use.
const USELESS_MS: u64 = PENALTY_MS / 5;
/// So often the wait doubles: more than five minutes help nobody.
const MAX_DOUBLINGS: u32 = 6;
/// Every so many requests go to whoever was not asked for the longest time, of those that need not
/// give way: nobody is always somebody's second.
const ROUND: u64 = 4;
/// Peers that failed and left that are remembered. Who can make more identities than that can be a
/// new one each time, which gains as much.
const MAX_GONE: usize = 256;

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
    /// Peers asked so far, for ranges and else; says who was asked before whom.
    asked: u64,
    /// Ranges asked for so far.
    ranges: u64,
    /// Those that failed and left, with the order in which they left.
    gone: BTreeMap<P, (u64, Record)>,
    left: u64,
}

#[derive(Debug)]
struct Peer {
    /// One that the operator named.
    expected: bool,
    last_asked: u64,
    record: Record,
}

/// What is held against a peer.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Since it was last of use.
    failures: u32,
    avoided_until_ms: u64,
    gives_way_until_ms: u64,
}

impl Record {
    fn add_failure(&mut self, wait_ms: u64, now_ms: u64) {
        let longer = wait_ms << self.failures.min(MAX_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        self.gives_way_until_ms = self.gives_way_until_ms.max(now_ms + longer);
    }

    fn avoid(&mut self, wait_ms: u64, now_ms: u64) {
        self.avoided_until_ms = self.avoided_until_ms.max(now_ms + wait_ms);
    }
}

impl<P: Ord + Clone> Default for Planner<P> {
    fn default() -> Self {
        Planner {
            peers: BTreeMap::new(),
            goal: None,
            outstanding: None,
            from_final: false,
            asked: 0,
            ranges: 0,
            gone: BTreeMap::new(),
            left: 0,
        }
    }
}

impl<P: Ord + Clone> Planner<P> {
    /// A peer is there; `expected` if the operator named it. It stands behind those that are there
    /// already.
    pub fn connected(&mut self, peer: P, expected: bool) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.expected |= expected;
            return;
        }
        let record = self
            .gone
            .remove(&peer)
            .map(|(_, record)| record)
            .unwrap_or_default();
        self.peers.insert(
            peer,
            Peer {
                expected,
                last_asked: self.asked,
                record,
            },
        );
    }

    /// A peer is gone; what was asked of it is asked of another, and is a failure.
    pub fn disconnected(&mut self, peer: &P, now_ms: u64) {
        if self.outstanding.as_ref().is_some_and(|(p, _)| p == peer) {
            self.failed(peer, now_ms);
        }
        let Some(Peer { record, .. }) = self.peers.remove(peer) else {
            return;
        };
        if record.failures == 0 {
            return;
        }
        self.left += 1;
        self.gone.insert(peer.clone(), (self.left, record));
        if self.gone.len() > MAX_GONE
            && let Some(first) = self
                .gone
                .iter()
                .min_by_key(|(_, (left, _))| *left)
                .map(|(id, _)| id.clone())
        {
            self.gone.remove(&first);
        }
    }

    /// Something is missing.
    pub fn want(&mut self, goal: Goal) {
        self.goal = (goal.to > goal.highest || goal.to > goal.final_height).then_some(goal);
    }

    /// A range was answered and taken. `progress` tells whether it added blocks; where the node
    /// stands now comes with the next [`Self::want`].
    pub fn taken(&mut self, peer: &P, progress: bool, now_ms: u64) {
        self.settle(peer);
        self.goal = None;
        if !progress {
            // Nothing new: it may not connect where we are, or the peer has no more than we have.
            self.from_final = !self.from_final;
            self.punish(peer, USELESS_MS, now_ms);
        } else {
            self.from_final = false;
            if let Some(p) = self.peers.get_mut(peer) {
                p.record = Record::default();
            }
        }
    }

    /// A range was refused, malformed, or did not come.
    pub fn failed(&mut self, peer: &P, now_ms: u64) {
        self.settle(peer);
        self.punish(peer, PENALTY_MS, now_ms);
    }

    /// A single block did not come: the peer gives way to others, which says nothing of a range
    /// that is under way.
    pub fn silent(&mut self, peer: &P, now_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.add_failure(PENALTY_MS, now_ms);
        }
    }

    /// A peer does not have a single block, which is no fault: another is asked first next time.
    pub fn lacks(&mut self, peer: &P, now_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.gives_way_until_ms = p.record.gives_way_until_ms.max(now_ms + USELESS_MS);
        }
    }

    /// A peer gave a single block. It makes up for one that did not come, not for ranges.
    pub fn gave(&mut self, peer: &P) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.failures = p.record.failures.saturating_sub(1);
        }
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
        let base = if base >= goal.to {
            goal.final_height
        } else {
            base
        };
        let count = (goal.to.0 - base.0).min(RANGE);
        let is_rested = |p: &Peer| p.record.avoided_until_ms <= now_ms;
        let peer = self.pick(self.ranges, now_ms, is_rested)?;
        self.ranges += 1;
        self.outstanding = Some((peer.clone(), now_ms));
        Some(Request {
            peer,
            start: base.next(),
            count,
        })
    }

    /// Whom to ask for a single block. `turn` counts such questions. Being left alone only sets a
    /// peer back here.
    pub fn any(&mut self, turn: u64, now_ms: u64) -> Option<P> {
        self.pick(turn, now_ms, |_| true)
    }

    /// Peers that are there.
    pub fn peers(&self) -> impl Iterator<Item = &P> {
        self.peers.keys()
    }

    /// Whom to ask next; it counts as asked.
    fn pick(&mut self, turn: u64, now_ms: u64, may_be: impl Fn(&Peer) -> bool) -> Option<P> {
        let by_merit = turn % ROUND != ROUND - 1;
        let rank = |p: &Peer| {
            let gives_way = now_ms < p.record.gives_way_until_ms;
            (
                gives_way,
                by_merit.then_some((!p.expected, p.record.failures)),
                p.last_asked,
            )
        };
        let (id, peer) = self
            .peers
            .iter_mut()
            .filter(|(_, p)| may_be(p))
            .min_by_key(|(_, p)| rank(p))?;
        self.asked += 1;
        peer.last_asked = self.asked;
        Some(id.clone())
    }

    fn settle(&mut self, peer: &P) {
        if self.outstanding.as_ref().is_some_and(|(p, _)| p == peer) {
            self.outstanding = None;
        }
    }

    fn punish(&mut self, peer: &P, wait_ms: u64, now_ms: u64) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.record.add_failure(wait_ms, now_ms);
            p.record.avoid(wait_ms, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn goal(final_height: u64, highest: u64, to: u64) -> Goal {
        Goal {
            final_height: Height(final_height),
            highest: Height(highest),
            to: Height(to),
        }
    }

    #[test]
    fn a_range_that_is_lost_is_asked_for_again_and_costs_nobody() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.want(goal(10, 12, 500));
        let first = planner.next(0);
        assert_eq!((first.is_some(), planner.next(1)), (true, None));
        planner.lost();
        assert_eq!(
            planner.next(2),
            first,
            "of the only peer, which is not left alone for it"
        );
    }

    #[test]
    fn one_request_at_a_time_round_the_peers() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.connected("b", false);
        planner.want(goal(10, 12, 500));
        assert_eq!(
            planner.next(0),
            Some(Request {
                peer: "a",
                start: Height(13),
                count: RANGE
            })
        );
        assert_eq!(planner.next(1), None, "one is outstanding");
        planner.taken(&"a", true, 2);
        assert_eq!(planner.next(3), None, "what is wanted now is not known yet");
        planner.want(goal(10, 76, 500));
        assert_eq!(
            planner.next(4),
            Some(Request {
                peer: "b",
                start: Height(77),
                count: RANGE
            })
        );
    }

    #[test]
    fn a_range_that_does_not_connect_is_asked_from_the_last_final_block() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.want(goal(10, 12, 14));
        assert_eq!(planner.next(0).map(|r| r.start), Some(Height(13)));
        planner.taken(&"a", false, 1);
        planner.want(goal(10, 12, 14));
        assert_eq!(planner.next(1), None, "left alone for a moment");
        assert_eq!(
            planner.next(PENALTY_MS),
            Some(Request {
                peer: "a",
                start: Height(11),
                count: 4
            })
        );
    }

    #[test]
    fn a_silent_or_failing_peer_is_left_alone_for_a_while() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.connected("b", false);
        planner.want(goal(0, 0, 10));
        assert_eq!(planner.next(0).map(|r| r.peer), Some("a"));
        assert_eq!(planner.next(TIMEOUT_MS).map(|r| r.peer), Some("b"));
        planner.failed(&"b", TIMEOUT_MS + 1);
        assert_eq!(planner.next(TIMEOUT_MS + 2), None);
        assert_eq!(
            planner.next(TIMEOUT_MS + PENALTY_MS).map(|r| r.peer),
            Some("a")
        );
        planner.disconnected(&"a", TIMEOUT_MS + PENALTY_MS + 1);
        assert_eq!(
            planner.next(TIMEOUT_MS + 2 * PENALTY_MS).map(|r| r.peer),
            Some("b")
        );
    }

    /// Serves every request at once if honest; is silent otherwise, and where it leaves comes back
    /// as somebody else of `strangers` before its time is up. Tells how many of `turns` requests
    /// went to `honest`.
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
        planner.want(goal(0, 0, 1_000_000));
        let (mut now, mut served, mut asked, mut next) = (0, 0, 0, 0);
        while asked < turns {
            let Some(Request { peer, .. }) = planner.next(now) else {
                now += 500;
                continue;
            };
            asked += 1;
            if peer == honest {
                (now, served) = (now + 100, served + 1);
                planner.taken(&peer, true, now);
                planner.want(goal(0, served * RANGE, 1_000_000));
            } else if leave {
                (now, next) = (now + 9_900, (next + 1) % strangers.len());
                planner.connected(strangers[next], false);
                planner.disconnected(&peer, now);
            } else {
                now += TIMEOUT_MS;
            }
        }
        served
    }

    #[test]
    fn silent_strangers_do_not_keep_it_from_honest_peers() {
        const MANY: [&str; 12] = [
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
        ];
        // Strangers, whether they leave, whether the honest one is expected, and how many of 200
        // requests it gets at least.
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
                "row {row}: {served} of 200 requests go to the honest one"
            );
        }
    }

    #[test]
    fn who_leaves_with_a_range_has_failed_and_is_known_when_it_comes_back() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.want(goal(0, 0, 10));
        assert_eq!(planner.next(0).map(|r| r.peer), Some("a"));
        planner.disconnected(&"a", 100);
        planner.connected("a", false);
        assert_eq!(planner.next(200), None);
        planner.connected("b", false);
        assert_eq!(planner.next(300).map(|r| r.peer), Some("b"));
        planner.disconnected(&"b", 400);
        assert_eq!(
            planner.next(100 + PENALTY_MS).map(|r| r.peer),
            Some("a"),
            "it is the only one left"
        );
    }

    #[test]
    fn a_single_block_is_asked_of_the_best_and_of_the_next_when_that_one_lacks_it() {
        let mut planner = Planner::default();
        planner.connected("a", false);
        planner.connected("b", true);
        assert_eq!(planner.any(0, 0), Some("b"), "it is expected");
        planner.lacks(&"b", 0);
        assert_eq!(planner.any(1, 1), Some("a"));
        planner.silent(&"a", 1);
        assert_eq!(planner.any(2, USELESS_MS), Some("b"));
        assert_eq!(
            planner.any(ROUND - 1, 1 + PENALTY_MS),
            Some("a"),
            "it was not asked for longer"
        );
    }

    #[test]
    fn a_new_peer_stands_behind_those_that_wait() {
        let mut planner = Planner::default();
        planner.connected("b", false);
        planner.connected("c", false);
        planner.want(goal(0, 0, 500));
        assert_eq!(planner.next(0).map(|r| r.peer), Some("b"));
        planner.connected("a", false);
        planner.taken(&"b", true, 1);
        planner.want(goal(0, 64, 500));
        assert_eq!(planner.next(2).map(|r| r.peer), Some("c"));
    }

    #[test]
    fn those_that_left_are_remembered_up_to_a_limit() {
        let mut planner = Planner::default();
        planner.want(goal(0, 0, 10));
        let strangers = MAX_GONE as u64 + 10;
        for stranger in 0..strangers {
            planner.connected(stranger, false);
            assert_eq!(planner.next(0).map(|r| r.peer), Some(stranger));
            planner.disconnected(&stranger, 0);
        }
        assert_eq!(planner.gone.len(), MAX_GONE);
        assert!(!planner.gone.contains_key(&0) && planner.gone.contains_key(&(strangers - 1)));
    }

    proptest! {
        /// Whatever happens: at most one request outstanding, ranges within bounds, never for
        /// nothing.
        #[test]
        fn requests_are_bounded(steps in proptest::collection::vec((0u8..6, 0u8..4, 0u64..300, 0u64..300, 0u64..300), 1..200)) {
            let mut planner = Planner::default();
            let (mut now, mut outstanding) = (0, None::<u8>);
            for (what, peer, a, b, c) in steps {
                now += a * 20;
                match what {
                    0 => planner.connected(peer, b % 2 == 0),
                    1 => {
                        planner.disconnected(&peer, now);
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
