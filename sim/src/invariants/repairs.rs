//! Retransmissions and retries after losses. If one of these mechanisms works only once, or not at
//! all, another one hides it, so each is checked separately:
//!
//! | mechanism | bound |
//! |---|---|
//! | rule 3.7: certificates and the latest approval, in slots without finality | [`SILENT_SLOTS`] |
//! | a fork choice that the execution client does not follow is repeated | [`FIRST_PAUSE_MS`] |
//! | a status request of the handshake that failed is repeated on its connection | [`STATUS_MS`] |
//! | a copy of gossip is ignored only if another was taken within the window | [`WINDOW_MS`] |
//! | the PeerActor has the connected peers of the network service | [`PEERS_MS`] |
//!
//! The inputs are the commands of a node to its network service and the events of it, the calls at
//! the execution client, and the events that both record in the trace. A node that was not observed
//! for a while was paused, so nothing is demanded of the time before.

use std::collections::{BTreeMap, BTreeSet};

use alys_net::{Command, PeerId, Topic};
use alys_node::node::{NodeEvent, PeerEvent};
use alys_runtime::sim::NodeId;
use alys_types::VoteKind;

use super::{Oracles, Violation};
use crate::params::{MachineRole, WorldPlan};

/// Slots without anything sent again after which rule 3.7 counts as broken: one may be missing by
/// the drift of clocks.
const SILENT_SLOTS: u64 = 2;
/// The same in a world whose nodes lose commands on purpose.
const SILENT_SLOTS_OF_BUGGIFY: u64 = 4;
/// Time in which a timer fires and its message is handled.
const SLACK_MS: u64 = 400;
/// Pause before a fork choice is repeated. Each further one is twice as long; a refusal during a
/// pause does not prolong it.
const FIRST_PAUSE_MS: u64 = 100;
/// Time before the end of a pause in which a refusal may begin the next one: the node sees it later
/// than the client.
const EDGE_MS: u64 = 20;
/// The longest of these pauses.
const MAX_PAUSE_MS: u64 = 2_000;
const MAX_DOUBLINGS: u32 = 5;
/// Time after a payload with an unknown parent in which the node may send blocks again: the fork
/// choices of such a replay are not those of the chain.
const REPLAY_MS: u64 = 5_000;
/// Time until a status request that failed is repeated: a second, and the ticks of the service.
const STATUS_MS: u64 = 2_000;
/// The same after an answer beyond the budgets, with a pause of five seconds.
const STATUS_DROPPED_MS: u64 = 6_000;
/// Factor of these limits in a world with buggify, where a node may wait three times as long.
const STATUS_FACTOR_OF_BUGGIFY: u64 = 4;
/// Time for which the repeats of a payload are ignored: half a slot at most.
const WINDOW_MS: u64 = 500;
/// Largest difference between two clocks that round to milliseconds.
const ROUNDING_MS: u64 = 2;
/// Remembered payloads of a node, above which the old ones are forgotten.
const MAX_TAKEN: usize = 4_096;
/// Time until the PeerActor has the peers of the network service: the list follows with the next
/// message of the NetworkActor, which has one in each slot of two seconds at most.
const PEERS_MS: u64 = 6_000;
/// Time after a fault of a node until its mechanisms are judged: retransmissions, restarts of
/// actors, and the breakers before them take less.
const QUIET_MS: u64 = 6_000;
/// A node is observed twice a second; a longer time between two observations is a pause.
const PAUSED_MS: u64 = 1_200;

/// Faults of links between nodes. They leave the mechanisms of each node as they are.
const OF_LINKS: [&str; 13] = [
    "partition",
    "slow-links",
    "latency-spike",
    "loss",
    "reorder",
    "squeeze",
    "clog",
    "swizzle",
    "half-open",
    "duplicate-gossip",
    "reset",
    "single-peer",
    "lose-class",
];
/// Faults during which a node repeats its fork choices as usual: refusals, and those of messages.
const OF_REFUSALS: [&str; 6] = [
    "partition",
    "duplicate-gossip",
    "single-peer",
    "lose-class",
    "execution-forgets",
    "execution-refuses",
];

/// The part of a node that a fault disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The ChainActor, the NetworkActor and the PeerActor.
    Actors,
    /// The EngineActor and its execution client.
    Engine,
}

impl Part {
    const ALL: [Self; 2] = [Self::Actors, Self::Engine];

    fn is_disturbed_by(self, fault: &str) -> bool {
        let is_of_execution =
            fault.starts_with("execution-") || ["slow-execution", "cut-execution"].contains(&fault);
        match self {
            Self::Actors => !OF_LINKS.contains(&fault) && !is_of_execution,
            Self::Engine => !OF_REFUSALS.contains(&fault),
        }
    }
}

/// Something that is sent again in each slot.
#[derive(Debug, Clone, Copy, Default)]
struct Resent {
    /// The time from which it is due; `None` without anything to send.
    since_ms: Option<u64>,
    sent_ms: u64,
}

/// The conversation with the execution client, as the client sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Engine {
    /// The client followed a fork choice since the last disturbance, so the pause is known.
    is_known: bool,
    /// Pauses since the last fork choice that the client followed.
    refusals: u32,
    /// The end of the last pause.
    next_ms: u64,
    /// The latest time of the next fork choice.
    due_ms: Option<u64>,
    /// The last call or answer.
    busy_ms: u64,
    is_building: bool,
    /// An answer arrived, so the node knows that the client is back.
    has_answered: bool,
    /// Time until which blocks may be sent again.
    replays_until_ms: u64,
}

impl Engine {
    /// A call arrives. Returns the time by which a fork choice is late.
    fn called(&mut self, at_ms: u64, is_forkchoice: bool, is_building: bool) -> Option<u64> {
        let late_ms = self.late_ms(at_ms);
        self.busy_ms = at_ms;
        if is_forkchoice {
            self.due_ms = None;
            self.is_building = is_building;
        }
        late_ms
    }

    /// The actor handles one message after the other, so a timer waits while calls are under way.
    fn late_ms(&self, at_ms: u64) -> Option<u64> {
        let due_ms = self.due_ms?.max(self.busy_ms + SLACK_MS);
        at_ms.checked_sub(due_ms).filter(|late_ms| *late_ms > 0)
    }

    fn refuse(&mut self, at_ms: u64) {
        if at_ms + EDGE_MS >= self.next_ms {
            let doublings = self.refusals.min(MAX_DOUBLINGS);
            self.refusals += 1;
            self.next_ms = at_ms + (FIRST_PAUSE_MS << doublings).min(MAX_PAUSE_MS);
        }
        if self.is_known && at_ms >= self.replays_until_ms {
            self.due_ms = Some(self.next_ms.max(at_ms) + SLACK_MS);
        }
    }

    /// A call ends; the outcomes are those of the fault injector of the embedded client.
    fn answered(&mut self, at_ms: u64, outcome: u8) {
        self.busy_ms = at_ms;
        match outcome {
            0 => self.has_answered = true,
            1 => {
                self.has_answered = true;
                self.is_known = true;
                self.refusals = 0;
                self.next_ms = 0;
                self.due_ms = None;
            }
            2 => {
                self.has_answered = true;
                self.refuse(at_ms);
            }
            3 => {
                self.has_answered = true;
                self.due_ms = None;
                self.replays_until_ms = at_ms + REPLAY_MS;
            }
            // A build that fails is not repeated. A client that was away gets the fork choice from
            // the chain once it is back.
            5 if self.has_answered && !self.is_building => self.refuse(at_ms),
            6 => *self = Self::default(),
            _ => {}
        }
    }
}

/// A status request that failed.
#[derive(Debug, Clone, Copy)]
struct Failed {
    at_ms: u64,
    limit_ms: u64,
}

#[derive(Debug, Default)]
struct Node {
    looked_ms: u64,
    certificates: Resent,
    approval: Resent,
    /// The highest slot of an approval by this process.
    approved_slot: u64,
    /// Payloads by key, with the time at which the network service took the last copy.
    taken: BTreeMap<Vec<u8>, u64>,
    /// Peers that were asked for their status on a connection that is not closing.
    asked: BTreeSet<Vec<u8>>,
    failed: BTreeMap<Vec<u8>, Failed>,
    /// Peers of the network service.
    connected: BTreeSet<PeerId>,
    /// Peers of the PeerActor.
    known: BTreeSet<PeerId>,
    /// Peers that only one of both has, with the time since when.
    differing: BTreeMap<PeerId, u64>,
}

/// The mechanisms of all nodes.
#[derive(Debug)]
pub struct Repairs {
    slot_ms: u64,
    /// Mailboxes and queues are as large as in production, so that no command is refused.
    has_room: bool,
    has_buggify: bool,
    /// A federation that changes has blocks whose set an authority does not belong to.
    is_changing: bool,
    machines: BTreeMap<NodeId, (MachineRole, u8)>,
    /// Faults that act: the nodes that they hit, and their names.
    active: BTreeMap<u32, (BTreeSet<u8>, &'static str)>,
    /// The last time at which a fault disturbed a part of a node.
    disturbed_ms: BTreeMap<(u8, Part), u64>,
    nodes: BTreeMap<u8, Node>,
    engines: BTreeMap<u8, Engine>,
    counts: BTreeMap<&'static str, u64>,
}

impl Repairs {
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            slot_ms: plan.slot_ms,
            has_room: plan.mailboxes.is_empty() && plan.queued_events.is_none(),
            has_buggify: plan.buggify,
            is_changing: plan.governance,
            machines: BTreeMap::new(),
            active: BTreeMap::new(),
            disturbed_ms: BTreeMap::new(),
            nodes: BTreeMap::new(),
            engines: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Times that each mechanism had to work, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, n)| (*name, *n))
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// True for the kinds of events that [`Oracles::traced`] deals with.
    pub fn is_watched(kind: &str) -> bool {
        kind.starts_with("net.gossip.")
            || kind.starts_with("net.status.")
            || ["net.closing", "net.closed"].contains(&kind)
            || ["execution.called", "execution.answered"].contains(&kind)
    }

    /// A process of a correct authority starts on a machine.
    pub fn started(&mut self, at_ms: u64, machine: NodeId, role: MachineRole, node: u8) {
        self.machines.insert(machine, (role, node));
        self.engines.remove(&node);
        self.disturbed_ms.insert((node, Part::Engine), at_ms);
        if role == MachineRole::Node {
            self.nodes.remove(&node);
            self.disturbed_ms.insert((node, Part::Actors), at_ms);
        }
    }

    /// A step of the plan begins.
    pub fn fault_began(&mut self, at_ms: u64, step: u32, name: &'static str, nodes: &BTreeSet<u8>) {
        self.active.insert(step, (nodes.clone(), name));
        self.disturb(at_ms, step);
    }

    pub fn fault_ended(&mut self, at_ms: u64, step: u32) {
        self.disturb(at_ms, step);
        self.active.remove(&step);
    }

    fn disturb(&mut self, at_ms: u64, step: u32) {
        let Some((nodes, name)) = self.active.get(&step) else {
            return;
        };
        for part in Part::ALL
            .into_iter()
            .filter(|part| part.is_disturbed_by(name))
        {
            for node in nodes {
                self.disturbed_ms.insert((*node, part), at_ms);
            }
        }
    }

    /// All faults ended.
    pub fn healed(&mut self, at_ms: u64, nodes: u8) {
        self.active.clear();
        self.has_buggify = false;
        for node in 0..nodes {
            for part in Part::ALL {
                self.disturbed_ms.insert((node, part), at_ms);
            }
        }
    }

    /// The time since when no fault disturbs a part of a node; `None` if one does, or did a moment
    /// ago.
    fn quiet_since(&self, at_ms: u64, node: u8, part: Part) -> Option<u64> {
        let is_disturbed = |(nodes, name): &(BTreeSet<u8>, &'static str)| {
            nodes.contains(&node) && part.is_disturbed_by(name)
        };
        if self.active.values().any(is_disturbed) {
            return None;
        }
        let since_ms = self.disturbed_ms.get(&(node, part));
        let since_ms = since_ms.copied().unwrap_or(0);
        (at_ms >= since_ms + QUIET_MS).then_some(since_ms)
    }

    fn node(&mut self, node: u8) -> &mut Node {
        self.nodes.entry(node).or_default()
    }

    /// A network service begins, without any connection.
    pub fn service_started(&mut self, node: u8) {
        let known = self.node(node);
        known.taken.clear();
        known.asked.clear();
        known.failed.clear();
        known.connected.clear();
    }

    /// A peer of the network service, as its events say.
    pub fn connected(&mut self, node: u8, peer: PeerId, is_connected: bool) {
        let known = self.node(node);
        if is_connected {
            known.connected.insert(peer);
        } else {
            known.connected.remove(&peer);
        }
    }

    /// A command of a correct node to its network service.
    pub fn commanded(&mut self, at_ms: u64, node: u8, command: &Command) {
        let Command::Publish { topic, .. } = command else {
            return;
        };
        let known = self.node(node);
        match topic {
            Topic::Finality => known.certificates.sent_ms = at_ms,
            Topic::Approvals => known.approval.sent_ms = at_ms,
            _ => {}
        }
    }

    /// An event that a correct node reported.
    pub fn observe(&mut self, at_ms: u64, node: u8, event: &NodeEvent) {
        let known = self.node(node);
        match event {
            NodeEvent::Finalized(_) => {
                known.certificates.since_ms = Some(at_ms);
                // The approved block may be final, or beside the final one.
                known.approval.since_ms = None;
            }
            NodeEvent::Signed { target } if target.kind == VoteKind::Approval => {
                if target.slot.0 > known.approved_slot {
                    known.approved_slot = target.slot.0;
                    known.approval.since_ms = Some(at_ms);
                }
            }
            NodeEvent::Restored { .. } => {
                known.certificates = Resent::default();
                known.approval = Resent::default();
            }
            NodeEvent::Peering(PeerEvent::Connected { peer, .. }) => {
                known.known.insert(*peer);
            }
            NodeEvent::Peering(PeerEvent::Disconnected { peer }) => {
                known.known.remove(peer);
            }
            NodeEvent::Peering(PeerEvent::Started { .. } | PeerEvent::NetworkRestarted) => {
                known.known.clear();
            }
            _ => {}
        }
    }

    /// A node reports that it may not vote.
    pub fn silent(&mut self, node: u8) {
        self.node(node).approval = Resent::default();
    }

    /// An event that a machine recorded in the trace.
    ///
    /// # Errors
    /// [`Violation::CopyIgnored`] or [`Violation::ForkchoiceNotRepeated`].
    fn traced(
        &mut self,
        at_ms: u64,
        machine: NodeId,
        kind: &str,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some((role, node)) = self.machines.get(&machine).copied() else {
            return Ok(());
        };
        match role {
            MachineRole::Node => self.of_service(at_ms, node, kind, payload),
            MachineRole::Execution => self.of_execution(at_ms, node, kind, payload),
        }
    }

    fn of_service(
        &mut self,
        at_ms: u64,
        node: u8,
        kind: &str,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let factor = if self.has_buggify {
            STATUS_FACTOR_OF_BUGGIFY
        } else {
            1
        };
        let window_ms = WINDOW_MS.min(self.slot_ms / 2);
        let known = self.nodes.entry(node).or_default();
        let mut fail = |pause_ms: u64| {
            // A request that fails because its connection ended is not repeated.
            if known.asked.contains(payload) {
                let limit_ms = pause_ms * factor;
                let failed = Failed { at_ms, limit_ms };
                known.failed.insert(payload.to_vec(), failed);
            }
        };
        match kind {
            "net.status.failed" => {
                fail(STATUS_MS);
                self.count("repairs.statuses");
            }
            "net.status.dropped" => fail(STATUS_DROPPED_MS),
            "net.status.asked" => {
                known.failed.remove(payload);
                known.asked.insert(payload.to_vec());
            }
            "net.closing" | "net.closed" => {
                known.failed.remove(payload);
                known.asked.remove(payload);
            }
            "net.gossip.taken" => {
                known.taken.insert(payload.to_vec(), at_ms);
                if known.taken.len() > MAX_TAKEN {
                    known.taken.retain(|_, taken| *taken + window_ms >= at_ms);
                }
            }
            "net.gossip.repeat" => {
                let taken_ms = known.taken.get(payload).copied();
                let is_repeat = |taken: u64| at_ms <= taken + window_ms + ROUNDING_MS;
                self.count("repairs.copies");
                if !taken_ms.is_some_and(is_repeat) {
                    return Err(Violation::CopyIgnored {
                        node: node + 1,
                        window_ms,
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn of_execution(
        &mut self,
        at_ms: u64,
        node: u8,
        kind: &str,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let quiet = self.quiet_since(at_ms, node, Part::Engine);
        let is_judged = quiet.is_some() && !self.has_buggify;
        let engine = self.engines.entry(node).or_default();
        if !is_judged {
            *engine = Engine {
                busy_ms: at_ms,
                replays_until_ms: engine.replays_until_ms,
                ..Engine::default()
            };
        }
        let code = payload.first().copied().unwrap_or(0);
        if kind == "execution.answered" {
            engine.answered(at_ms, code);
            if !is_judged {
                engine.due_ms = None;
            }
            if engine.due_ms.is_some() {
                self.count("repairs.forkchoices");
            }
            return Ok(());
        }
        match engine.called(at_ms, code > 0, code > 1) {
            Some(late_ms) if is_judged => Err(not_repeated(node, late_ms)),
            _ => Ok(()),
        }
    }

    /// Checks a node that runs.
    ///
    /// # Errors
    /// [`Violation::NotResent`], [`Violation::ForkchoiceNotRepeated`],
    /// [`Violation::StatusNotRepeated`] or [`Violation::PeersDiffer`].
    pub fn look(&mut self, at_ms: u64, node: u8) -> Result<(), Violation> {
        let known = self.node(node);
        let was_paused = at_ms > known.looked_ms + PAUSED_MS;
        known.looked_ms = at_ms;
        if was_paused {
            known.failed.clear();
            known.differing.clear();
            self.engines.remove(&node);
            self.disturbed_ms.insert((node, Part::Actors), at_ms);
            self.disturbed_ms.insert((node, Part::Engine), at_ms);
            return Ok(());
        }
        self.statuses(at_ms, node)?;
        self.resends(at_ms, node)?;
        self.peers(at_ms, node)?;
        let engine = self.engines.get(&node).copied().unwrap_or_default();
        match engine.late_ms(at_ms) {
            Some(late_ms)
                if !self.has_buggify && self.quiet_since(at_ms, node, Part::Engine).is_some() =>
            {
                Err(not_repeated(node, late_ms))
            }
            _ => Ok(()),
        }
    }

    fn statuses(&self, at_ms: u64, node: u8) -> Result<(), Violation> {
        let known = self.nodes.get(&node);
        let mut failed = known.into_iter().flat_map(|known| known.failed.values());
        match failed.find(|failed| at_ms > failed.at_ms + failed.limit_ms) {
            Some(Failed {
                at_ms: since_ms,
                limit_ms,
            }) => Err(Violation::StatusNotRepeated {
                node: node + 1,
                after_ms: at_ms - since_ms,
                limit_ms: *limit_ms,
            }),
            None => Ok(()),
        }
    }

    /// After a new final block a node rebroadcasts in the slot after next for the first time, and
    /// then in each further slot.
    fn resends(&mut self, at_ms: u64, node: u8) -> Result<(), Violation> {
        let quiet = self.quiet_since(at_ms, node, Part::Actors);
        let Some(quiet_ms) = quiet.filter(|_| self.has_room) else {
            return Ok(());
        };
        let slots = if self.has_buggify {
            SILENT_SLOTS_OF_BUGGIFY
        } else {
            SILENT_SLOTS
        };
        let limit_ms = slots * self.slot_ms + SLACK_MS;
        let Some(known) = self.nodes.get(&node) else {
            return Ok(());
        };
        let Some(final_ms) = known.certificates.since_ms else {
            return Ok(());
        };
        let silent_ms = |resent: Resent| {
            let since_ms = resent.since_ms?.max(final_ms).max(quiet_ms) + self.slot_ms;
            at_ms.checked_sub(since_ms.max(resent.sent_ms))
        };
        let rows = [
            ("certificates", known.certificates, true),
            ("approval", known.approval, !self.is_changing),
        ];
        let is_stalled = at_ms > final_ms + 2 * self.slot_ms;
        for (what, resent, is_judged) in rows {
            if let Some(after_ms) = silent_ms(resent).filter(|_| is_judged)
                && after_ms > limit_ms
            {
                return Err(Violation::NotResent {
                    node: node + 1,
                    what: what.to_owned(),
                    after_ms,
                    limit_ms,
                });
            }
        }
        if is_stalled {
            self.count("repairs.stalled");
        }
        Ok(())
    }

    fn peers(&mut self, at_ms: u64, node: u8) -> Result<(), Violation> {
        let is_quiet = self.quiet_since(at_ms, node, Part::Actors).is_some();
        let known = self.nodes.entry(node).or_default();
        let differing = known.connected.symmetric_difference(&known.known);
        let differing: BTreeMap<PeerId, u64> = differing
            .map(|peer| {
                let since_ms = known.differing.get(peer).copied();
                (*peer, since_ms.unwrap_or(at_ms))
            })
            .collect();
        known.differing = if is_quiet { differing } else { BTreeMap::new() };
        let late = known
            .differing
            .values()
            .any(|since| at_ms > since + PEERS_MS);
        if late {
            return Err(Violation::PeersDiffer {
                node: node + 1,
                connected: known.connected.len() as u64,
                known: known.known.len() as u64,
                limit_ms: PEERS_MS,
            });
        }
        Ok(())
    }
}

fn not_repeated(node: u8, late_ms: u64) -> Violation {
    Violation::ForkchoiceNotRepeated {
        node: node + 1,
        late_ms,
    }
}

impl Oracles {
    /// A process of an authority starts on a machine.
    pub fn process_started(&mut self, at_ms: u64, machine: NodeId, role: MachineRole, node: u8) {
        if !self.votes.is_byzantine(node) {
            self.repairs.started(at_ms, machine, role, node);
        }
    }

    /// An event that a machine recorded in the trace; see [`Repairs::is_watched`].
    pub fn traced(&mut self, at_ms: u64, machine: NodeId, kind: &str, payload: &[u8]) {
        let result = self.repairs.traced(at_ms, machine, kind, payload);
        self.note(at_ms, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_net::NodeKey;
    use alys_types::{Hash, Height, Slot, VoteTarget};

    const NODE: NodeId = NodeId(7);
    const CLIENT: NodeId = NodeId(8);
    /// A quiet time after the start of the processes.
    const FROM: u64 = QUIET_MS;

    fn repairs() -> Repairs {
        let mut all = Repairs::new(&WorldPlan::default());
        all.started(0, NODE, MachineRole::Node, 0);
        all.started(0, CLIENT, MachineRole::Execution, 0);
        all
    }

    fn name(result: Result<(), Violation>) -> String {
        result.map_or_else(|broken| broken.name(), |()| "holds".to_owned())
    }

    /// Looks twice a second until a time, and returns the first violation.
    fn look(all: &mut Repairs, from_ms: u64, until_ms: u64) -> Result<(), Violation> {
        (from_ms..=until_ms)
            .step_by(500)
            .try_for_each(|at_ms| all.look(at_ms, 0))
    }

    fn publish(all: &mut Repairs, at_ms: u64, topic: Topic) {
        let payload = Vec::new();
        all.commanded(at_ms, 0, &Command::Publish { topic, payload });
    }

    fn approve(all: &mut Repairs, at_ms: u64, slot: u64) {
        let target = VoteTarget {
            kind: VoteKind::Approval,
            height: Height(1),
            slot: Slot(slot),
            hash: Hash([1; 32]),
        };
        all.observe(at_ms, 0, &NodeEvent::Signed { target });
    }

    /// A node without a new final block from [`FROM`] on, which sends something in each slot.
    fn stalled(topics: &[Topic]) -> String {
        let mut all = repairs();
        assert_eq!(look(&mut all, 0, FROM), Ok(()));
        all.node(0).certificates.since_ms = Some(FROM);
        approve(&mut all, FROM + 10, 20);
        for slot in 0..8 {
            let at_ms = FROM + 1_000 * slot;
            topics
                .iter()
                .for_each(|topic| publish(&mut all, at_ms, *topic));
            let looked = look(&mut all, at_ms, at_ms + 999);
            if looked.is_err() {
                return name(looked);
            }
        }
        "holds".to_owned()
    }

    #[test]
    fn certificates_and_the_approval_are_sent_in_each_slot_without_a_final_block() {
        assert_eq!(stalled(&[Topic::Finality, Topic::Approvals]), "holds");
        assert_eq!(stalled(&[Topic::Approvals]), "not-resent");
        assert_eq!(stalled(&[Topic::Finality]), "not-resent");
    }

    #[test]
    fn a_disturbed_node_need_not_send_again() {
        let mut all = repairs();
        assert_eq!(look(&mut all, 0, FROM), Ok(()));
        all.node(0).certificates.since_ms = Some(FROM);
        let nodes = BTreeSet::from([0]);
        all.fault_began(FROM, 1, "actor-hang", &nodes);
        assert_eq!(look(&mut all, FROM, FROM + 20_000), Ok(()));
        all.fault_ended(FROM + 20_000, 1);
        all.fault_began(FROM + 20_000, 2, "partition", &nodes);
        let looked = look(&mut all, FROM + 20_000, FROM + 40_000);
        assert_eq!(name(looked), "not-resent");
    }

    #[test]
    fn a_refused_fork_choice_is_repeated_after_a_growing_pause() {
        let call = |all: &mut Repairs, at_ms: u64, outcome: u8| {
            let called = all.traced(at_ms, CLIENT, "execution.called", &[1]);
            let answered = all.traced(at_ms, CLIENT, "execution.answered", &[outcome]);
            assert_eq!(answered, Ok(()));
            called
        };
        let mut all = repairs();
        assert_eq!(look(&mut all, 0, FROM), Ok(()));
        assert_eq!(call(&mut all, FROM, 1), Ok(()));
        assert_eq!(call(&mut all, FROM, 2), Ok(()));
        assert_eq!(call(&mut all, FROM + 50, 2), Ok(()));
        assert_eq!(call(&mut all, FROM + 100, 5), Ok(()));
        assert_eq!(call(&mut all, FROM + 300, 1), Ok(()));
        assert_eq!(look(&mut all, FROM + 500, FROM + 3_000), Ok(()));
        assert_eq!(call(&mut all, FROM + 3_000, 2), Ok(()));
        let late = call(&mut all, FROM + 3_900, 1);
        assert_eq!(name(late), "forkchoice-not-repeated");
        assert_eq!(call(&mut all, FROM + 4_000, 2), Ok(()));
        let looked = look(&mut all, FROM + 3_500, FROM + 5_000);
        assert_eq!(name(looked), "forkchoice-not-repeated");
    }

    #[test]
    fn a_status_that_failed_is_requested_again_while_the_connection_lasts() {
        let peer = [3];
        for repair in ["net.status.asked", "net.closed", "net.ping"] {
            let mut all = repairs();
            assert_eq!(look(&mut all, 0, FROM), Ok(()));
            for kind in ["net.status.asked", "net.status.failed", repair] {
                assert_eq!(all.traced(FROM, NODE, kind, &peer), Ok(()));
            }
            let expected = if repair == "net.ping" {
                "status-not-repeated"
            } else {
                "holds"
            };
            let looked = look(&mut all, FROM, FROM + STATUS_MS + 500);
            assert_eq!(name(looked), expected);
        }
    }

    #[test]
    fn a_copy_is_ignored_only_after_one_that_was_taken() {
        let mut all = repairs();
        let mut trace = |at_ms, kind| all.traced(at_ms, NODE, kind, &[9; 16]);
        assert_eq!(trace(FROM, "net.gossip.taken"), Ok(()));
        assert_eq!(trace(FROM + 499, "net.gossip.repeat"), Ok(()));
        let ignored = trace(FROM + 510, "net.gossip.repeat");
        assert_eq!(name(ignored), "copy-ignored");
    }

    #[test]
    fn both_actors_have_the_same_peers_after_a_while() {
        let peer = NodeKey::from_bytes([9; 32]).peer_id();
        let is_expected = true;
        let there = NodeEvent::Peering(PeerEvent::Connected { peer, is_expected });
        let gone = NodeEvent::Peering(PeerEvent::Disconnected { peer });
        let mut all = repairs();
        assert_eq!(look(&mut all, 0, FROM), Ok(()));
        all.connected(0, peer, true);
        assert_eq!(look(&mut all, FROM, FROM + PEERS_MS), Ok(()));
        all.observe(0, 0, &there);
        assert_eq!(look(&mut all, FROM + PEERS_MS, FROM + 20_000), Ok(()));
        all.connected(0, peer, false);
        let mut same = repairs();
        assert_eq!(look(&mut same, 0, FROM), Ok(()));
        same.observe(0, 0, &there);
        same.observe(0, 0, &gone);
        assert_eq!(look(&mut same, FROM, FROM + 20_000), Ok(()));
        let looked = look(&mut all, FROM + 20_000, FROM + 30_000);
        assert_eq!(name(looked), "peers-differ");
    }

    #[test]
    fn other_events_change_nothing() {
        let mut all = repairs();
        assert!(Repairs::is_watched("net.gossip.taken") && !Repairs::is_watched("net.send"));
        assert_eq!(
            all.traced(FROM, NodeId(9), "net.gossip.repeat", &[]),
            Ok(())
        );
        assert_eq!(all.counts().count(), 0);
    }
}
