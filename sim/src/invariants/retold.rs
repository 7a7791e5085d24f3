//! Facts that an actor keeps about the incarnation of another one, and that are void after either
//! restarts. Each must be sent again:
//!
//! | restarted | receiver | fact |
//! |---|---|---|
//! | network | chain | `network_started`: status and proofs of the earlier service are gone |
//! | network | peers | nothing by messages: its supervisor restarts the PeerActor, too |
//! | network | network service | `SetStatus`, and `Vouch` for each authority that proves its key |
//! | peers | network | `get_connected`, which the network answers with the connected peers |
//! | chain | peers | `range_lost`: the answered range was in its memory |
//! | chain | network service | `SetStatus` and `SetAuthorities` |
//! | validation | chain | `checks_lost`: the check in hand, perhaps of a range |
//! | engine | chain | `execution_restarted`: open questions get no answer |
//!
//! A service begins without peers that proved a key, so it needs no `SetAuthorities`; and its
//! addresses to dial are in its configuration. The goal of the sync is repeated in each slot.
//!
//! The receiver counts the messages that it handled, by kind, and the interceptor of the node sees
//! the commands. A fact is due when the actors that carry it were idle several times since. A
//! receiver that refused or lost a message meanwhile is excused.

use std::collections::{BTreeMap, BTreeSet};

use alys_actor_system::{MailboxSnapshot, Snapshot, State};
use alys_net::{Command, Event, PeerId, Protocol};
use alys_node::wiring::table::{ActorSpec, CHAIN, ENGINE, NETWORK, PEERS, VALIDATION};
use alys_types::wire::{Message, Status, StatusAnswer};

use super::actors::unaccounted;
use super::{Oracles, Violation};
use crate::params::WorldPlan;

/// Observations of idle actors after which nothing is on its way between them. One is enough for
/// messages, and a delayed retry needs up to a second; a node is observed twice a second.
const LOOKS: u32 = 4;

/// A message by which one actor reports its restart to another one.
struct Duty {
    restarted: ActorSpec,
    receiver: ActorSpec,
    kind: &'static str,
}

const fn duty(restarted: ActorSpec, receiver: ActorSpec, kind: &'static str) -> Duty {
    Duty {
        restarted,
        receiver,
        kind,
    }
}

const DUTIES: [Duty; 5] = [
    duty(NETWORK, CHAIN, "network_started"),
    duty(PEERS, NETWORK, "get_connected"),
    duty(CHAIN, PEERS, "range_lost"),
    duty(VALIDATION, CHAIN, "checks_lost"),
    duty(ENGINE, CHAIN, "execution_restarted"),
];

/// Messages that a mailbox refused, or that its actor did not handle to the end.
fn lost(mailbox: &MailboxSnapshot) -> u64 {
    mailbox.refused
        + mailbox.dropped
        + mailbox.failed
        + mailbox.expired
        + mailbox.interrupted
        + mailbox.abandoned
}

fn is_idle(actor: &Snapshot) -> bool {
    let is_empty = |mailbox: &MailboxSnapshot| {
        mailbox.depth == 0 && !mailbox.in_hand && unaccounted(mailbox) == 0
    };
    actor.state == State::Running && actor.mailbox.as_ref().is_some_and(is_empty)
}

/// Messages of a duty at its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    times: u64,
    /// Lost messages and restarts of the receiver.
    lost: u64,
}

/// A restart that the receiver does not know, with its state before.
#[derive(Debug, Clone, Copy)]
struct Due {
    before: Told,
    looks: u32,
}

/// The last observation of a duty.
#[derive(Debug, Clone, Copy)]
struct Watch {
    incarnation: u64,
    told: Told,
    due: Option<Due>,
}

/// Lost messages of the actors between the network service and the check of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Losses {
    /// Of the NetworkActor. Its own restarts begin another service, so only refused and dropped
    /// messages count.
    network: u64,
    others: u64,
}

/// A proof of an authority's key that awaits its [`Command::Vouch`], with the losses before it.
#[derive(Debug, Clone, Copy)]
struct Proof {
    network: Option<u64>,
    others: Option<u64>,
    looks: u32,
}

/// An incarnation of a node's network service.
#[derive(Debug, Default)]
struct Service {
    /// Commands that the chain owes it.
    owed: BTreeSet<&'static str>,
    looks: u32,
    /// Observed since its start.
    is_observed: bool,
    /// Connected honest authorities.
    connected: BTreeSet<u8>,
    proofs: BTreeMap<u8, Proof>,
    vouched: BTreeSet<u8>,
}

#[derive(Debug, Default)]
struct Node {
    /// By number of the duty.
    watches: BTreeMap<usize, Watch>,
    losses: Option<Losses>,
    service: Option<Service>,
}

/// The facts of all nodes.
#[derive(Debug)]
pub struct Retold {
    /// The world has neither small mailboxes or queues, which refuse messages, nor a changing
    /// federation, by which an authority loses its place.
    is_possible: bool,
    /// Nodes lose messages on purpose until everything heals.
    has_buggify: bool,
    /// Authorities whose key others have too. They push each other out of their places.
    suspects: BTreeSet<u8>,
    /// The mailboxes of each node that have no room on purpose.
    full: BTreeMap<u8, u32>,
    nodes: BTreeMap<u8, Node>,
}

impl Retold {
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            is_possible: plan.mailboxes.is_empty()
                && plan.queued_events.is_none()
                && !plan.governance,
            has_buggify: plan.buggify,
            suspects: plan.suspects(),
            full: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// A mailbox of a node has no room on purpose from now on, or has room again. Meanwhile nothing
    /// that is lost is demanded; afterwards it is, as soon as there is a reason to send it again.
    pub fn filled(&mut self, node: u8, is_full: bool) {
        let full = self.full.entry(node).or_default();
        *full = if is_full {
            *full + 1
        } else {
            full.saturating_sub(1)
        };
    }

    fn is_full(&self, node: u8) -> bool {
        self.full.get(&node).is_some_and(|full| *full > 0)
    }

    /// Forgets a node because its process restarts.
    pub fn born(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// All faults ended, so nothing that was lost before is demanded.
    pub fn healed(&mut self) {
        self.has_buggify = false;
        for known in self.nodes.values_mut() {
            known.watches.clear();
            known.losses = None;
            if let Some(service) = &mut known.service {
                service.owed.clear();
                service.proofs.clear();
            }
        }
    }

    /// A network service begins, without any connection.
    pub fn service_started(&mut self, node: u8) {
        let known = self.nodes.entry(node).or_default();
        known.service = Some(Service {
            owed: BTreeSet::from(["SetStatus"]),
            ..Service::default()
        });
    }

    /// A new ChainActor does not know the commands of an earlier one to the network service.
    pub fn chain_restored(&mut self, node: u8, incarnation: u64) {
        let known = self.nodes.entry(node).or_default();
        if let Some(service) = known.service.as_mut().filter(|_| incarnation > 1) {
            service.owed.extend(["SetStatus", "SetAuthorities"]);
            service.looks = 0;
        }
    }

    fn connected(&mut self, node: u8, peer: u8, is_connected: bool) {
        let known = self.nodes.entry(node).or_default();
        let Some(service) = &mut known.service else {
            return;
        };
        if is_connected {
            service.connected.insert(peer);
        } else {
            service.connected.remove(&peer);
        }
    }

    /// A peer sent a valid proof of its authority's key.
    fn proven(&mut self, node: u8, peer: u8) {
        if self.suspects.contains(&peer) || self.is_full(node) {
            return;
        }
        let known = self.nodes.entry(node).or_default();
        let losses = known.losses;
        let Some(service) = &mut known.service else {
            return;
        };
        if service.vouched.contains(&peer) {
            return;
        }
        service.proofs.entry(peer).or_insert(Proof {
            // Before, the losses are those of the restart.
            network: losses
                .filter(|_| service.is_observed)
                .map(|losses| losses.network),
            others: losses.map(|losses| losses.others),
            looks: 0,
        });
    }

    fn vouched(&mut self, node: u8, peer: u8) {
        let known = self.nodes.entry(node).or_default();
        if let Some(service) = &mut known.service {
            service.proofs.remove(&peer);
            service.vouched.insert(peer);
        }
    }

    fn commanded(&mut self, node: u8, name: &'static str) {
        let known = self.nodes.entry(node).or_default();
        if let Some(service) = &mut known.service {
            service.owed.remove(name);
        }
    }

    /// Checks a snapshot of a node's tree.
    ///
    /// # Errors
    /// [`Violation::NotToldAgain`].
    pub fn look(&mut self, node: u8, tree: &Snapshot) -> Result<(), Violation> {
        if !self.is_possible || self.has_buggify {
            return Ok(());
        }
        let is_full = self.is_full(node);
        let known = self.nodes.entry(node).or_default();
        if is_full {
            known.pardon();
        }
        let result = known.restarts(tree);
        match result.and_then(|()| known.service(tree)) {
            Ok(()) => Ok(()),
            Err(what) => Err(Violation::NotToldAgain {
                node: node + 1,
                what,
            }),
        }
    }

    /// The first two of these nodes that are not connected, as the first one knows.
    pub fn apart(&self, nodes: &[u8]) -> Option<(u8, u8)> {
        for node in nodes {
            let known = self.nodes.get(node);
            let service = known.and_then(|known| known.service.as_ref());
            for other in nodes.iter().filter(|other| *other != node) {
                if !service.is_some_and(|service| service.connected.contains(other)) {
                    return Some((*node, *other));
                }
            }
        }
        None
    }
}

impl Node {
    /// Demands nothing that was lost up to now.
    fn pardon(&mut self) {
        for watch in self.watches.values_mut() {
            watch.due = None;
        }
        if let Some(service) = &mut self.service {
            service.looks = 0;
            service.proofs.clear();
        }
    }

    /// Checks that each receiver knows of each restart; the error names the fact.
    fn restarts(&mut self, tree: &Snapshot) -> Result<(), String> {
        for (number, duty) in DUTIES.iter().enumerate() {
            let restarted = tree.find(&duty.restarted.path());
            let receiver = tree.find(&duty.receiver.path());
            let (Some(restarted), Some(receiver)) = (restarted, receiver) else {
                continue;
            };
            let Some(mailbox) = &receiver.mailbox else {
                continue;
            };
            let told = Told {
                times: mailbox.kinds.get(duty.kind).copied().unwrap_or(0),
                lost: lost(mailbox) + receiver.incarnation,
            };
            let incarnation = restarted.incarnation;
            let watch = self.watches.entry(number).or_insert(Watch {
                incarnation,
                told,
                due: None,
            });
            if incarnation > watch.incarnation {
                watch.due = Some(Due {
                    before: watch.told,
                    looks: 0,
                });
            }
            watch.incarnation = incarnation;
            watch.told = told;
            let Some(mut due) = watch.due.take() else {
                continue;
            };
            if told.times > due.before.times || told.lost != due.before.lost {
                continue;
            }
            if is_idle(restarted) && is_idle(receiver) {
                due.looks += 1;
            }
            if due.looks >= LOOKS {
                return Err(format!(
                    "{} to the {} after the restart of the {}",
                    duty.kind, duty.receiver.actor, duty.restarted.actor
                ));
            }
            watch.due = Some(due);
        }
        Ok(())
    }

    /// Checks that the network service has the status, and places for authorities.
    fn service(&mut self, tree: &Snapshot) -> Result<(), String> {
        let mut losses = Losses {
            network: 0,
            others: 0,
        };
        let mut is_quiet = true;
        for spec in [VALIDATION, CHAIN, PEERS, NETWORK] {
            let Some(actor) = tree.find(&spec.path()) else {
                return Ok(());
            };
            let Some(mailbox) = &actor.mailbox else {
                return Ok(());
            };
            if spec.name == NETWORK.name {
                losses.network = mailbox.refused + mailbox.dropped;
            } else {
                losses.others += lost(mailbox);
            }
            // The PeerActor restarts with each NetworkActor.
            if spec.group == CHAIN.group {
                losses.others += actor.incarnation;
            }
            is_quiet &= is_idle(actor);
        }
        self.losses = Some(losses);
        let Some(service) = &mut self.service else {
            return Ok(());
        };
        service.is_observed = true;
        service.proofs.retain(|_, proof| {
            let network = *proof.network.get_or_insert(losses.network);
            let others = *proof.others.get_or_insert(losses.others);
            network == losses.network && others == losses.others
        });
        if !is_quiet {
            return Ok(());
        }
        for (peer, proof) in &mut service.proofs {
            proof.looks += 1;
            if proof.looks >= LOOKS {
                return Err(format!("Vouch for node{} to the network service", peer + 1));
            }
        }
        if service.owed.is_empty() {
            service.looks = 0;
        } else {
            service.looks += 1;
        }
        match service.owed.first() {
            Some(name) if service.looks >= LOOKS => Err(format!("{name} to the network service")),
            _ => Ok(()),
        }
    }
}

impl Oracles {
    /// A command of a correct node to its network service.
    pub fn commanded(&mut self, node: u8, command: &Command) {
        match command {
            Command::SetStatus { .. } => self.retold.commanded(node, "SetStatus"),
            Command::SetAuthorities { .. } => self.retold.commanded(node, "SetAuthorities"),
            Command::Vouch { peer, .. } => {
                *self.heard.entry("vouched").or_default() += 1;
                if let Some(peer) = self.index_of(peer) {
                    self.retold.vouched(node, peer);
                }
            }
            _ => {}
        }
    }

    /// An event of a correct node's network service.
    pub fn arrived(&mut self, node: u8, event: &Event) {
        // The proof of a correct node is valid: it signed its own identity with its own key.
        let (peer, has_proof) = match event {
            Event::PeerConnected { peer, .. } => {
                self.repairs.connected(node, *peer, true);
                if let Some(peer) = self.index_of(peer) {
                    self.retold.connected(node, peer, true);
                }
                return;
            }
            Event::PeerDisconnected { peer, .. } => {
                self.repairs.connected(node, *peer, false);
                if let Some(peer) = self.index_of(peer) {
                    self.retold.connected(node, peer, false);
                }
                return;
            }
            Event::Status { peer, status } => {
                let answer = StatusAnswer::decode(status);
                let proof = answer.map(|answer| answer.status.authority);
                (peer, matches!(proof, Ok(Some(_))))
            }
            Event::Request {
                peer,
                protocol: Protocol::Status,
                payload,
                ..
            } => {
                let proof = Status::decode(payload).map(|status| status.authority);
                (peer, matches!(proof, Ok(Some(_))))
            }
            _ => return,
        };
        if let Some(peer) = self.index_of(peer).filter(|_| has_proof) {
            self.retold.proven(node, peer);
        }
    }

    /// The authority with this identity, if it follows the protocol.
    fn index_of(&self, peer: &PeerId) -> Option<u8> {
        self.honest.get(&peer.to_string()).copied()
    }
}

#[cfg(test)]
mod tests {
    use alys_actor_system::Health;

    use super::*;

    fn node(name: &str, incarnation: u64, mailbox: Option<MailboxSnapshot>) -> Snapshot {
        Snapshot {
            name: name.to_owned(),
            path: name.to_owned(),
            state: State::Running,
            health: Health::Healthy,
            incarnation,
            restarts: incarnation - 1,
            failures: incarnation - 1,
            last_error: None,
            mailbox,
            children: Vec::new(),
        }
    }

    /// A tree in which all actors are idle. The chain handled this many messages of a kind.
    fn tree(engine: u64, chain: u64, kind: &'static str, times: u64) -> Snapshot {
        let idle = MailboxSnapshot::default();
        let told = MailboxSnapshot {
            accepted: times,
            handled: times,
            kinds: BTreeMap::from([(kind, times)]),
            ..idle.clone()
        };
        let mut consensus = node("chain", 1, None);
        consensus.children = vec![
            node("validation", 1, Some(idle.clone())),
            node("engine", engine, Some(idle.clone())),
            node("chain", chain, Some(told)),
        ];
        let mut network = node("network", 1, None);
        network.children = vec![
            node("network", 1, Some(idle.clone())),
            node("peers", 1, Some(idle)),
        ];
        let mut root = node("node1", 1, None);
        root.children = vec![consensus, network];
        root
    }

    fn retold() -> Retold {
        Retold::new(&WorldPlan::default())
    }

    fn looks(retold: &mut Retold, tree: &Snapshot) -> Result<(), Violation> {
        (0..LOOKS).try_for_each(|_| retold.look(0, tree))
    }

    const KIND: &str = "execution_restarted";

    #[test]
    fn a_restart_is_reported() {
        let mut all = retold();
        assert_eq!(all.look(0, &tree(1, 1, KIND, 0)), Ok(()));
        assert_eq!(looks(&mut all, &tree(2, 1, KIND, 1)), Ok(()));
        assert!(matches!(
            looks(&mut all, &tree(3, 1, KIND, 1)),
            Err(Violation::NotToldAgain { node: 1, .. })
        ));
    }

    #[test]
    fn a_receiver_that_restarts_or_loses_messages_is_excused() {
        let mut all = retold();
        assert_eq!(all.look(0, &tree(1, 1, KIND, 0)), Ok(()));
        // The range in the memory of the chain is another fact, which the peers do not get here.
        let mut both = tree(2, 2, KIND, 0);
        let peers = &mut both.children[1].children[1];
        peers.mailbox = Some(MailboxSnapshot {
            refused: 1,
            ..MailboxSnapshot::default()
        });
        assert_eq!(looks(&mut all, &both), Ok(()));
        assert_eq!(looks(&mut all, &both), Ok(()));
    }

    #[test]
    fn a_busy_actor_has_time() {
        let mut all = retold();
        assert_eq!(all.look(0, &tree(1, 1, KIND, 0)), Ok(()));
        let mut busy = tree(2, 1, KIND, 0);
        busy.children[0].children[2].mailbox = Some(MailboxSnapshot {
            in_hand: true,
            ..MailboxSnapshot::default()
        });
        assert_eq!(looks(&mut all, &busy), Ok(()));
        assert!(looks(&mut all, &tree(2, 1, KIND, 0)).is_err());
    }

    #[test]
    fn each_service_vouches_for_authorities_and_has_a_status() {
        let idle = tree(1, 1, KIND, 0);
        let mut all = retold();
        all.service_started(0);
        all.commanded(0, "SetStatus");
        all.proven(0, 2);
        all.vouched(0, 2);
        assert_eq!(looks(&mut all, &idle), Ok(()));
        all.service_started(0);
        all.commanded(0, "SetStatus");
        assert_eq!(looks(&mut all, &idle), Ok(()));
        all.proven(0, 2);
        assert!(looks(&mut all, &idle).is_err());
        let mut all = retold();
        all.service_started(0);
        assert!(looks(&mut all, &idle).is_err());
        let mut all = retold();
        all.service_started(0);
        all.commanded(0, "SetStatus");
        all.chain_restored(0, 2);
        all.commanded(0, "SetStatus");
        assert!(looks(&mut all, &idle).is_err(), "it lacks the authorities");
        all.healed();
        assert_eq!(looks(&mut all, &idle), Ok(()));
    }

    #[test]
    fn a_lost_message_excuses_a_proof_unless_it_is_older_than_the_service() {
        let idle = tree(1, 1, KIND, 0);
        let mut refused = idle.clone();
        refused.children[1].children[0].mailbox = Some(MailboxSnapshot {
            refused: 1,
            ..MailboxSnapshot::default()
        });
        for is_observed in [false, true] {
            let mut all = retold();
            assert_eq!(all.look(0, &idle), Ok(()));
            all.service_started(0);
            all.commanded(0, "SetStatus");
            if is_observed {
                assert_eq!(all.look(0, &idle), Ok(()));
            }
            all.proven(0, 1);
            assert_eq!(looks(&mut all, &refused).is_ok(), is_observed);
        }
    }

    #[test]
    fn a_mailbox_without_room_excuses_until_the_next_reason() {
        let idle = tree(1, 1, KIND, 0);
        let mut all = retold();
        all.service_started(0);
        all.filled(0, true);
        assert_eq!(looks(&mut all, &idle), Ok(()), "the status finds no room");
        all.proven(0, 1);
        all.filled(0, false);
        all.commanded(0, "SetStatus");
        assert_eq!(looks(&mut all, &idle), Ok(()), "nor does the proof of then");
        all.proven(0, 1);
        assert!(looks(&mut all, &idle).is_err());
    }

    #[test]
    fn authorities_are_connected_if_both_know() {
        let mut all = retold();
        all.service_started(0);
        all.service_started(1);
        all.connected(0, 1, true);
        assert_eq!(all.apart(&[0, 1]), Some((1, 0)));
        all.connected(1, 0, true);
        assert_eq!(all.apart(&[0, 1]), None);
        all.connected(0, 1, false);
        assert_eq!(all.apart(&[0, 1]), Some((0, 1)));
        all.connected(0, 1, true);
        all.service_started(0);
        assert_eq!(all.apart(&[0, 1]), Some((0, 1)), "a new service has none");
        assert_eq!(all.apart(&[0]), None);
    }
}
