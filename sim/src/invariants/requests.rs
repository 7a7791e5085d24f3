//! Requests to peers: each ends in time, goes to the best peer, and asks for the next range, as the
//! sync planner promises. The PeerActor reports its events and its requests; this file computes
//! each decision a second time from the events.

use std::collections::BTreeMap;

use alys_net::PeerId;
use alys_node::node::{Ending, PeerEvent, Wanted};

use super::Violation;

/// Time in which a request ends, in milliseconds: the network answers within ten seconds, and the
/// PeerActor gives up after twelve.
const REQUEST_MS: u64 = 12_000;
/// Time after which a peer with a range counts as failed.
const RANGE_MS: u64 = 12_000;
/// Time for which a peer that failed is asked for no range; it ranks behind for this time, doubled
/// with each further failure.
const FAILED_MS: u64 = 5_000;
/// The same for a peer whose range brought nothing.
const USELESS_MS: u64 = 1_000;
const MAX_DOUBLINGS: u32 = 6;
/// Blocks of a range.
const RANGE_BLOCKS: u64 = 64;
/// One turn in this many is that of the peer that was asked the longest time ago.
const FAIR_ONE_IN: u64 = 4;
/// Shortest time between two requests for one block: the pause after an answer, and the time in
/// which an answer is awaited.
const AGAIN_ANSWERED_MS: u64 = 500;
const AGAIN_AWAITED_MS: u64 = 2_000;
/// Largest difference between the times of the actor and of this file, because each rounds to
/// milliseconds from its own start.
const ROUNDING_MS: u64 = 2;
/// Failed peers that are remembered after they left.
const MAX_LEFT: usize = 256;

/// The failures of a peer.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    failures: u32,
    avoided_until_ms: u64,
    behind_until_ms: u64,
}

impl Record {
    fn fail(&mut self, ms: u64, at_ms: u64) {
        let longer = ms << self.failures.min(MAX_DOUBLINGS);
        self.failures += 1;
        self.behind_until_ms = self.behind_until_ms.max(at_ms + longer);
    }

    fn avoid(&mut self, ms: u64, at_ms: u64) {
        self.avoided_until_ms = self.avoided_until_ms.max(at_ms + ms);
    }

    /// True if one of its times is so close that the actor may see it on the other side.
    fn is_on_edge(&self, at_ms: u64) -> bool {
        let is_near = |ms: u64| ms > 0 && ms.abs_diff(at_ms) <= ROUNDING_MS;
        is_near(self.avoided_until_ms) || is_near(self.behind_until_ms)
    }
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    is_expected: bool,
    last_asked: u64,
    record: Record,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    wanted: Wanted,
    peer: PeerId,
    at_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Goal {
    final_height: u64,
    highest: u64,
    to: u64,
}

/// The plan of one node.
#[derive(Debug, Default)]
struct Plan {
    peers: BTreeMap<PeerId, Peer>,
    left: BTreeMap<PeerId, (u64, Record)>,
    goal: Option<Goal>,
    range: Option<(PeerId, u64)>,
    from_final: bool,
    asked: u64,
    ranges: u64,
    departures: u64,
}

/// The requests of one incarnation of a PeerActor.
#[derive(Debug, Default)]
struct NodeRequests {
    incarnation: u64,
    last_tag: u64,
    open: BTreeMap<u64, Open>,
    /// Blocks by hash, or their receipts: the time from which on another request is in order.
    again_ms: BTreeMap<(bool, alys_types::Hash), u64>,
    fetches: u64,
    /// Time of the last request that the network did not take.
    not_sent_ms: Option<u64>,
    plan: Plan,
}

/// The requests of all nodes.
#[derive(Debug)]
pub struct Requests {
    /// Nodes may ask for a single block of a range.
    has_small_ranges: bool,
    nodes: BTreeMap<u8, NodeRequests>,
}

/// A broken rule, in words.
type Broken = String;

/// True for a fetch of a block, and false for one of its receipts.
fn is_block(wanted: Wanted) -> bool {
    matches!(wanted, Wanted::Block { .. })
}

impl Requests {
    /// `has_buggify`: nodes take rare valid paths.
    pub fn new(has_buggify: bool) -> Self {
        Self {
            has_small_ranges: has_buggify,
            nodes: BTreeMap::new(),
        }
    }

    /// Forgets a node because its process restarts.
    pub fn born(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// Checks an event of a node's PeerActor.
    ///
    /// # Errors
    /// [`Violation::RequestOverdue`], [`Violation::WrongRequest`] or
    /// [`Violation::IncarnationsCrossed`].
    pub fn report(&mut self, at_ms: u64, node: u8, event: &PeerEvent) -> Result<(), Violation> {
        let has_small_ranges = self.has_small_ranges;
        let requests = self.nodes.entry(node).or_default();
        let wrong = |what: Broken| Violation::WrongRequest {
            node: node + 1,
            what,
        };
        match event {
            PeerEvent::Started { incarnation } => {
                *requests = NodeRequests {
                    incarnation: *incarnation,
                    ..NodeRequests::default()
                };
            }
            PeerEvent::Requested { tag, peer, wanted } => {
                if tag >> 32 != requests.incarnation || *tag <= requests.last_tag {
                    return Err(requests.crossed(node, *tag));
                }
                requests.last_tag = *tag;
                let request = Open {
                    wanted: *wanted,
                    peer: *peer,
                    at_ms,
                };
                requests.open.insert(*tag, request);
                return requests.requested(request, has_small_ranges).map_err(wrong);
            }
            PeerEvent::Ended { tag, ending } => {
                let Some(open) = requests.open.remove(tag) else {
                    return Err(requests.crossed(node, *tag));
                };
                requests.ended(at_ms, open, *ending);
            }
            PeerEvent::Planned => {
                if let Some((what, since_ms)) = requests.overdue(at_ms) {
                    return Err(Violation::RequestOverdue {
                        node: node + 1,
                        what,
                        after_ms: at_ms - since_ms,
                        limit_ms: REQUEST_MS,
                    });
                }
                if let Some(peer) = requests.unasked(at_ms) {
                    let what = format!("no range is requested, and {peer} could be asked");
                    return Err(wrong(what));
                }
            }
            PeerEvent::RangeOverdue { peer } => {
                let since = requests.plan.range.filter(|(asked, _)| asked == peer);
                let is_over = |since: u64| at_ms + ROUNDING_MS >= since + RANGE_MS;
                if !since.is_some_and(|(_, since)| is_over(since)) {
                    return Err(wrong(format!("the range of {peer} is given up too early")));
                }
                requests.plan.range_failed(peer, at_ms);
            }
            PeerEvent::NetworkRestarted => {
                requests.open.clear();
                requests.again_ms.clear();
                requests.plan = Plan::default();
            }
            PeerEvent::Connected { .. }
            | PeerEvent::Disconnected { .. }
            | PeerEvent::Goal { .. }
            | PeerEvent::RangeTaken { .. }
            | PeerEvent::RangeLost
            | PeerEvent::Misbehaved { .. } => requests.plan.learn(at_ms, event),
        }
        Ok(())
    }
}

impl NodeRequests {
    /// A tag of another incarnation of the actor, or one that is not open.
    fn crossed(&self, node: u8, tag: u64) -> Violation {
        Violation::IncarnationsCrossed {
            node: node + 1,
            actor: "network/peers".to_owned(),
            what: format!("request {tag:x}"),
            living: self.incarnation,
        }
    }

    /// The oldest request that should have ended, and its time.
    fn overdue(&self, at_ms: u64) -> Option<(String, u64)> {
        let is_late = |since: u64| at_ms > since + REQUEST_MS + ROUNDING_MS;
        let open = self
            .open
            .values()
            .map(|open| (open.wanted.to_string(), open.at_ms));
        let range = self
            .plan
            .range
            .map(|(peer, at_ms)| (format!("the range of {peer}"), at_ms));
        open.chain(range)
            .filter(|(_, at_ms)| is_late(*at_ms))
            .min_by_key(|(_, at_ms)| *at_ms)
    }

    /// A peer to which a range request is due, although none is open.
    fn unasked(&self, at_ms: u64) -> Option<PeerId> {
        // A full mailbox of the network ends a request at once, and costs its peer a pause.
        let was_full = self.not_sent_ms == Some(at_ms);
        let is_due = self.plan.goal.is_some() && self.plan.range.is_none() && !was_full;
        let is_rested = |peer: &Peer| peer.record.avoided_until_ms + ROUNDING_MS <= at_ms;
        let mut peers = self.plan.peers.iter().filter(|(_, peer)| is_rested(peer));
        peers.next().filter(|_| is_due).map(|(peer, _)| *peer)
    }

    fn requested(&mut self, request: Open, has_small_ranges: bool) -> Result<(), Broken> {
        let Open {
            wanted,
            peer,
            at_ms,
        } = request;
        if !self.plan.peers.contains_key(&peer) {
            return Err(format!(
                "{wanted} is requested from {peer}, which is not connected"
            ));
        }
        match wanted {
            Wanted::Status => Ok(()),
            Wanted::Block { hash } | Wanted::Receipts { hash, .. } => {
                let turn = self.fetches;
                self.fetches += 1;
                let fetched = (is_block(wanted), hash);
                let again_ms = self.again_ms.insert(fetched, at_ms + AGAIN_AWAITED_MS);
                if let Some(due_ms) = again_ms.filter(|due| at_ms + ROUNDING_MS < *due) {
                    let early_ms = due_ms - at_ms;
                    return Err(format!(
                        "{wanted} is requested again {early_ms} ms too early"
                    ));
                }
                let chosen = self.plan.check_choice(at_ms, peer, turn, |_| true);
                self.plan.ask(peer);
                chosen.map_err(|why| format!("{wanted}: {why}"))
            }
            Wanted::Range { start, count } => {
                let checked = self
                    .plan
                    .check_range(at_ms, start.0, count, has_small_ranges);
                let turn = self.plan.ranges;
                let is_rested = |record: &Record| record.avoided_until_ms <= at_ms;
                let chosen = self.plan.check_choice(at_ms, peer, turn, is_rested);
                self.plan.ranges += 1;
                self.plan.ask(peer);
                self.plan.range = Some((peer, at_ms));
                checked
                    .and(chosen)
                    .map_err(|why| format!("{wanted}: {why}"))
            }
        }
    }

    fn ended(&mut self, at_ms: u64, open: Open, ending: Ending) {
        let peer = open.peer;
        if ending == Ending::NotSent {
            self.not_sent_ms = Some(at_ms);
        }
        match open.wanted {
            Wanted::Status => {}
            Wanted::Range { .. } => match ending {
                // The import of the range decides.
                Ending::Answered | Ending::Missing => {}
                // The plan waits for the range as long as for the answer, and reports it itself.
                Ending::GivenUp => {}
                Ending::Failed | Ending::Unusable | Ending::NotSent => {
                    self.plan.range_failed(&peer, at_ms);
                }
            },
            Wanted::Block { hash } | Wanted::Receipts { hash, .. } => {
                if matches!(ending, Ending::GivenUp | Ending::NotSent) {
                    return;
                }
                let fetched = (is_block(open.wanted), hash);
                self.again_ms.entry(fetched).and_modify(|due| {
                    *due = (*due).min(at_ms + AGAIN_ANSWERED_MS);
                });
                let Some(Peer { record, .. }) = self.plan.peers.get_mut(&peer) else {
                    return;
                };
                match ending {
                    Ending::Answered => record.failures = record.failures.saturating_sub(1),
                    Ending::Missing => {
                        record.behind_until_ms = record.behind_until_ms.max(at_ms + USELESS_MS);
                    }
                    Ending::Failed => record.fail(FAILED_MS, at_ms),
                    Ending::Unusable | Ending::GivenUp | Ending::NotSent => {}
                }
            }
        }
    }
}

impl Plan {
    fn learn(&mut self, at_ms: u64, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { peer, is_expected } => self.connected(*peer, *is_expected),
            PeerEvent::Disconnected { peer } => self.disconnected(peer, at_ms),
            PeerEvent::Goal {
                final_height,
                highest,
                to,
            } => {
                let goal = Goal {
                    final_height: final_height.0,
                    highest: highest.0,
                    to: to.0,
                };
                let is_open = goal.to > goal.final_height;
                self.goal = is_open.then_some(goal);
            }
            PeerEvent::RangeTaken { peer, has_progress } => {
                self.end_range_of(peer);
                self.goal = None;
                self.from_final = !has_progress && !self.from_final;
                if *has_progress {
                    if let Some(known) = self.peers.get_mut(peer) {
                        known.record = Record::default();
                    }
                } else {
                    self.punish(peer, USELESS_MS, at_ms);
                }
            }
            PeerEvent::RangeLost => self.range = None,
            PeerEvent::Misbehaved { peer } => self.range_failed(peer, at_ms),
            PeerEvent::Started { .. }
            | PeerEvent::NetworkRestarted
            | PeerEvent::Requested { .. }
            | PeerEvent::Ended { .. }
            | PeerEvent::RangeOverdue { .. }
            | PeerEvent::Planned => {}
        }
    }

    fn connected(&mut self, peer: PeerId, is_expected: bool) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.is_expected |= is_expected;
            return;
        }
        let record = self.left.remove(&peer).map(|(_, record)| record);
        let new = Peer {
            is_expected,
            last_asked: self.asked,
            record: record.unwrap_or_default(),
        };
        self.peers.insert(peer, new);
    }

    fn disconnected(&mut self, peer: &PeerId, at_ms: u64) {
        if self.range.is_some_and(|(asked, _)| asked == *peer) {
            self.range_failed(peer, at_ms);
        }
        let Some(Peer { record, .. }) = self.peers.remove(peer) else {
            return;
        };
        if record.failures == 0 {
            return;
        }
        self.departures += 1;
        self.left.insert(*peer, (self.departures, record));
        if self.left.len() > MAX_LEFT {
            let first = self.left.iter().min_by_key(|(_, (order, _))| *order);
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.left.remove(&first);
            }
        }
    }

    fn end_range_of(&mut self, peer: &PeerId) {
        self.range.take_if(|(asked, _)| *asked == *peer);
    }

    fn range_failed(&mut self, peer: &PeerId, at_ms: u64) {
        self.end_range_of(peer);
        self.punish(peer, FAILED_MS, at_ms);
    }

    fn punish(&mut self, peer: &PeerId, ms: u64, at_ms: u64) {
        if let Some(Peer { record, .. }) = self.peers.get_mut(peer) {
            record.fail(ms, at_ms);
            record.avoid(ms, at_ms);
        }
    }

    fn ask(&mut self, peer: PeerId) {
        self.asked += 1;
        if let Some(known) = self.peers.get_mut(&peer) {
            known.last_asked = self.asked;
        }
    }

    /// Checks heights and number of the blocks of a range that is requested now.
    fn check_range(
        &self,
        at_ms: u64,
        start: u64,
        count: u64,
        has_small_ranges: bool,
    ) -> Result<(), Broken> {
        if let Some((peer, since_ms)) = self.range {
            let for_ms = at_ms - since_ms;
            return Err(format!("the range of {peer} is open for {for_ms} ms"));
        }
        let Some(goal) = self.goal else {
            return Err("nothing is missing".to_owned());
        };
        let position = goal.highest.min(goal.to).max(goal.final_height);
        let base = if self.from_final || position >= goal.to {
            goal.final_height
        } else {
            position
        };
        let expected = goal.to.saturating_sub(base).min(RANGE_BLOCKS);
        let is_count = count == expected || has_small_ranges && count == 1;
        if start != base + 1 || !is_count {
            return Err(format!("expected {expected} blocks from {} on", base + 1));
        }
        Ok(())
    }

    /// Checks that no other peer comes before the chosen one. Near a change of a record nothing is
    /// checked.
    fn check_choice(
        &self,
        at_ms: u64,
        chosen: PeerId,
        turn: u64,
        is_eligible: impl Fn(&Record) -> bool,
    ) -> Result<(), Broken> {
        if self
            .peers
            .values()
            .any(|peer| peer.record.is_on_edge(at_ms))
        {
            return Ok(());
        }
        let is_fair_turn = (turn + 1).is_multiple_of(FAIR_ONE_IN);
        let rank = |peer: &Peer| {
            let is_behind = at_ms < peer.record.behind_until_ms;
            let merit = (!peer.is_expected, peer.record.failures);
            (is_behind, (!is_fair_turn).then_some(merit), peer.last_asked)
        };
        let Some(peer) = self.peers.get(&chosen) else {
            return Ok(());
        };
        if !is_eligible(&peer.record) {
            return Err(format!("{chosen} failed a moment ago"));
        }
        let others = self
            .peers
            .iter()
            .filter(|(_, other)| is_eligible(&other.record));
        match others.min_by_key(|(_, other)| rank(other)) {
            Some((first, other)) if rank(other) < rank(peer) => {
                Err(format!("{first} comes before {chosen}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_net::NodeKey;
    use alys_types::{Hash, Height};

    const FIRST: u64 = 1 << 32;

    fn peer(mark: u8) -> PeerId {
        NodeKey::from_bytes([mark; 32]).peer_id()
    }

    fn connected(mark: u8, is_expected: bool) -> PeerEvent {
        PeerEvent::Connected {
            peer: peer(mark),
            is_expected,
        }
    }

    fn goal(final_height: u64, highest: u64, to: u64) -> PeerEvent {
        PeerEvent::Goal {
            final_height: Height(final_height),
            highest: Height(highest),
            to: Height(to),
        }
    }

    fn range(tag: u64, mark: u8, start: u64, count: u64) -> PeerEvent {
        PeerEvent::Requested {
            tag: FIRST + tag,
            peer: peer(mark),
            wanted: Wanted::Range {
                start: Height(start),
                count,
            },
        }
    }

    fn block(tag: u64, mark: u8, hash: u8) -> PeerEvent {
        PeerEvent::Requested {
            tag: FIRST + tag,
            peer: peer(mark),
            wanted: Wanted::Block {
                hash: Hash([hash; 32]),
            },
        }
    }

    fn ended(tag: u64, ending: Ending) -> PeerEvent {
        PeerEvent::Ended {
            tag: FIRST + tag,
            ending,
        }
    }

    fn taken(mark: u8, has_progress: bool) -> PeerEvent {
        PeerEvent::RangeTaken {
            peer: peer(mark),
            has_progress,
        }
    }

    /// The name of the first violation, and the number of the event.
    fn judge(events: &[(u64, PeerEvent)]) -> Option<(usize, String)> {
        let mut requests = Requests::new(false);
        let start = PeerEvent::Started { incarnation: 1 };
        assert_eq!(requests.report(0, 0, &start), Ok(()));
        let mut judged = events.iter().enumerate();
        judged.find_map(|(at, (at_ms, event))| {
            let violation = requests.report(*at_ms, 0, event).err()?;
            Some((at, violation.name()))
        })
    }

    fn wrong(at: usize) -> Option<(usize, String)> {
        Some((at, "wrong-request".to_owned()))
    }

    #[test]
    fn ranges_follow_the_goal_one_at_a_time() {
        let start = [(0, connected(1, true)), (0, goal(10, 12, 500))];
        let after = |events: &[(u64, PeerEvent)]| judge(&[&start[..], events].concat());
        assert_eq!(after(&[(1, range(1, 1, 13, 64))]), None);
        assert_eq!(
            after(&[(1, range(1, 1, 12, 64))]),
            wrong(2),
            "another start"
        );
        assert_eq!(after(&[(1, range(1, 1, 13, 65))]), wrong(2), "too many");
        assert_eq!(
            after(&[(1, range(1, 2, 13, 64))]),
            wrong(2),
            "not connected"
        );
        let two = [(1, range(1, 1, 13, 64)), (2, range(2, 1, 13, 64))];
        assert_eq!(after(&two), wrong(3), "one is open");
        let useless = [
            (1, range(1, 1, 13, 64)),
            (2, ended(1, Ending::Answered)),
            (3, taken(1, false)),
            (4, goal(10, 12, 500)),
        ];
        let next = |at_ms, start| {
            let next = (at_ms, range(2, 1, start, 64));
            after(&[&useless[..], &[next]].concat())
        };
        assert_eq!(next(1_100, 11), None, "from the final block");
        assert_eq!(next(1_100, 13), wrong(6));
        assert_eq!(next(900, 11), wrong(6), "the peer is avoided");
    }

    #[test]
    fn a_range_is_requested_as_soon_as_possible() {
        let start = [(10, connected(1, true)), (10, goal(10, 12, 500))];
        let after = |events: &[(u64, PeerEvent)]| judge(&[&start[..], events].concat());
        assert_eq!(after(&[(500, PeerEvent::Planned)]), wrong(2));
        let asked = [(11, range(1, 1, 13, 64)), (500, PeerEvent::Planned)];
        assert_eq!(after(&asked), None);
        let failed = [(11, range(1, 1, 13, 64)), (12, ended(1, Ending::Failed))];
        let planned = |at_ms| after(&[&failed[..], &[(at_ms, PeerEvent::Planned)]].concat());
        assert_eq!(planned(5_000), None, "the only peer is avoided");
        assert_eq!(planned(5_100), wrong(4));
    }

    #[test]
    fn the_best_peer_is_asked() {
        let start = [(0, connected(1, false)), (0, connected(2, true))];
        let after = |events: &[(u64, PeerEvent)]| judge(&[&start[..], events].concat());
        assert_eq!(after(&[(1, block(1, 2, 9))]), None);
        assert_eq!(
            after(&[(1, block(1, 1, 9))]),
            wrong(2),
            "the other is expected"
        );
        let failed = [(1, block(1, 2, 9)), (2, ended(1, Ending::Failed))];
        let next = |at_ms, mark| after(&[&failed[..], &[(at_ms, block(2, mark, 9))]].concat());
        assert_eq!(next(600, 1), None);
        assert_eq!(next(600, 2), wrong(4), "it has just failed");
        assert_eq!(next(400, 1), wrong(4), "too early");
    }

    #[test]
    fn requests_end_in_time_and_in_their_own_incarnation() {
        let start = [(0, connected(1, true)), (0, block(1, 1, 9))];
        let after = |events: &[(u64, PeerEvent)]| judge(&[&start[..], events].concat());
        assert_eq!(after(&[(REQUEST_MS, PeerEvent::Planned)]), None);
        let overdue = Some((2, "request-overdue".to_owned()));
        assert_eq!(after(&[(REQUEST_MS + 3, PeerEvent::Planned)]), overdue);
        let given_up = [
            (REQUEST_MS, ended(1, Ending::GivenUp)),
            (REQUEST_MS + 500, PeerEvent::Planned),
        ];
        assert_eq!(after(&given_up), None);
        let restarted = [
            (1, PeerEvent::Started { incarnation: 2 }),
            (2, ended(1, Ending::Answered)),
        ];
        let crossed = Some((3, "incarnations-crossed".to_owned()));
        assert_eq!(after(&restarted), crossed);
        let early = PeerEvent::RangeOverdue { peer: peer(1) };
        assert_eq!(after(&[(9, early)]), wrong(2));
    }
}
