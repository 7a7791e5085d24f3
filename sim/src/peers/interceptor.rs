//! The interceptor between each authority's node and its network.
//!
//! **Owns** the repetition and loss of messages ([`GossipRepeater`]), faults of any node.
//! **Guarantees** that the messages of a correct authority leave unchanged; those of a Byzantine
//! one go through its conduct ([`byzantine`](super::byzantine)). Compares the verdicts of correct
//! nodes on forged messages with the admissible ones. **Never** delays the first copy of a message
//! that arrives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use alys_net::{Command, Event, GossipId, GossipVerdict, Offence, PeerId, RequestError, Topic};
use alys_node::interceptor::Intercept;
use alys_runtime::sim::{Rng, World};

use super::byzantine::Byzantine;
use super::mutator::SharedMutator;
use crate::cluster::genesis::Chain;
use crate::cluster::now_ms;
use crate::faults::{Class, GossipRepeater};
use crate::invariants::{Forgery, Judge};
use crate::params::{Ms, Slots, WorldPlan};

/// The counter of repeated messages, beside the counter of the faults `duplicate-gossip`.
const REPEATED: &str = "duplicate-gossip.messages";
/// Most forged messages of one node that await their verdict; verdicts take milliseconds.
const MOST_UNJUDGED: usize = 256;

/// The counter of lost messages, beside the counter of the faults `lose-class`.
const LOST: &str = "lose-class.messages";

/// Most messages of gossip of one node that await their verdict. Some never get one, because an
/// actor restarts.
const MOST_OPEN: usize = 1_024;

/// Messages of a class of which a repetition is recognised. More are on their way to a node within
/// a slot only if it is flooded.
const MAX_SEEN: usize = 256;

/// Creates the interceptor of each authority's node.
pub fn interceptors(
    world: World,
    plan: &WorldPlan,
    slots: Slots,
    chain: &Chain,
    judge: &Judge,
    mutators: &BTreeMap<u8, SharedMutator>,
) -> BTreeMap<u8, Arc<MessageInterceptor>> {
    let of = |index: u8| {
        let inner = Inner {
            byzantine: Byzantine::of_plan(
                world,
                plan,
                index,
                slots,
                chain,
                judge,
                mutators.get(&index).cloned(),
            ),
            inspector: Inspector {
                world,
                node: index,
                judge: judge.clone(),
                unjudged: VecDeque::new(),
                forwarded: VecDeque::new(),
                answered: BTreeMap::new(),
            },
            rng: world.rng(&format!("interceptor {index}")),
            publish_again_ms: plan.publish_again.map(|Ms(ms)| ms),
            late: Vec::new(),
            repeated: 0,
            losing: Vec::new(),
            seen: VecDeque::new(),
            lost: 0,
        };
        (index, Arc::new(MessageInterceptor(Mutex::new(inner))))
    };
    (0..plan.nodes).map(of).collect()
}

/// Intercepts the messages between a node and its network.
pub struct MessageInterceptor(Mutex<Inner>);

struct Inner {
    /// `None` for a correct authority.
    byzantine: Option<Byzantine>,
    inspector: Inspector,
    rng: Rng,
    /// Maximum delay of the second copy of each published message, which has another nonce.
    publish_again_ms: Option<u64>,
    /// Maximum delay of repeated gossip in milliseconds, one for each active fault.
    late: Vec<u64>,
    /// Number of repeated messages.
    repeated: u64,
    /// The classes whose messages are lost, or only their repetitions, one for each active fault.
    losing: Vec<(Class, bool)>,
    /// The hashes of the last messages of classes whose repetitions are lost. A block has
    /// megabytes.
    seen: VecDeque<(Class, B256)>,
    /// Number of lost messages.
    lost: u64,
}

/// The class of an event, with the bytes by which a repetition is recognised.
fn class_of(event: &Event) -> Option<(Class, &[u8])> {
    match event {
        Event::Gossip { topic, payload, .. } => {
            let class = match topic {
                Topic::Blocks => Class::Blocks,
                Topic::Approvals => Class::Approvals,
                Topic::Confirmations => Class::Confirmations,
                Topic::Finality => Class::Finality,
                Topic::Transactions => Class::Transactions,
                Topic::Work => Class::Work,
            };
            Some((class, payload.as_slice()))
        }
        Event::Response {
            result: Ok(payload),
            ..
        } => Some((Class::Answers, payload.as_slice())),
        _ => None,
    }
}

impl Inner {
    /// True if an active fault loses this event.
    fn loses(&mut self, event: &Event) -> bool {
        let Some((class, payload)) = class_of(event) else {
            return false;
        };
        if self.losing.contains(&(class, false)) {
            return true;
        }
        if !self.losing.contains(&(class, true)) {
            return false;
        }
        let message = (class, keccak256(payload));
        if self.seen.contains(&message) {
            return true;
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(message);
        false
    }
}

/// The event in place of a lost one: a request fails as if its peer did not answer.
fn in_place_of(lost: Event) -> Vec<(Duration, Event)> {
    match lost {
        Event::Response { id, peer, .. } => {
            let result = Err(RequestError::Timeout);
            vec![(Duration::ZERO, Event::Response { id, peer, result })]
        }
        _ => Vec::new(),
    }
}

/// Watches how a correct node handles forged messages.
struct Inspector {
    world: World,
    /// From 0.
    node: u8,
    judge: Judge,
    /// Forged gossip without a verdict.
    unjudged: VecDeque<(GossipId, Forgery)>,
    /// Gossip without a verdict, with the peer that forwarded it.
    forwarded: VecDeque<(GossipId, PeerId)>,
    /// The last forged answer of each peer.
    answered: BTreeMap<PeerId, Forgery>,
}

impl Inspector {
    /// The node blames a peer.
    fn note_blame(&self, peer: &PeerId, offence: Offence) {
        let (at_ms, peer) = (now_ms(self.world), peer.to_string());
        self.judge.look().blamed(at_ms, self.node, &peer, offence);
    }

    fn note_arrival(&mut self, event: &Event) {
        match event {
            Event::Gossip {
                id, from, payload, ..
            } => {
                self.forwarded.push_back((id.clone(), *from));
                if self.forwarded.len() > MOST_OPEN {
                    self.forwarded.pop_front();
                }
                let Some(forgery) = self.judge.look().forgeries.find(payload) else {
                    return;
                };
                self.unjudged.push_back((id.clone(), forgery));
                if self.unjudged.len() > MOST_UNJUDGED {
                    self.unjudged.pop_front();
                }
            }
            Event::Response {
                peer,
                result: Ok(payload),
                ..
            } => {
                if let Some(forgery) = self.judge.look().forgeries.find(payload) {
                    self.answered.insert(*peer, forgery);
                }
            }
            Event::Response {
                peer,
                result: Err(RequestError::Malformed(_)),
                ..
            } => self.note_blame(peer, Offence::MalformedFrame),
            event => self.judge.look().arrived(self.node, event),
        }
    }

    fn note_departure(&mut self, command: &Command) {
        self.judge.look().commanded(self.node, command);
        let at_ms = now_ms(self.world);
        let node = self.node;
        self.judge.look().repairs.commanded(at_ms, node, command);
        match command {
            Command::Judge { id, verdict } => {
                self.note_verdict(id, *verdict);
                let Some(at) = self.unjudged.iter().position(|(known, _)| known == id) else {
                    return;
                };
                if let Some((_, forgery)) = self.unjudged.remove(at) {
                    let is_accepted = *verdict == GossipVerdict::Accept;
                    let at_ms = now_ms(self.world);
                    self.judge
                        .look()
                        .judged(at_ms, self.node, &forgery, is_accepted);
                }
            }
            Command::Report { peer, offence } => {
                if let Some(forgery) = self.answered.remove(peer) {
                    self.judge.look().forgeries.refused(&forgery);
                }
                self.note_blame(peer, *offence);
            }
            Command::Publish {
                topic: Topic::Transactions,
                payload,
            } => self.judge.look().broadcast(self.node, payload),
            Command::Vouch { peer, .. } => {
                let at_ms = now_ms(self.world);
                let peer = peer.to_string();
                self.judge.look().vouched(at_ms, self.node, &peer);
            }
            _ => {}
        }
    }
}

impl Inspector {
    /// Checks a verdict on gossip against the peer that forwarded it.
    fn note_verdict(&mut self, id: &GossipId, verdict: GossipVerdict) {
        // The last one first, because verdicts take milliseconds.
        let at = self.forwarded.iter().rposition(|(known, _)| known == id);
        let Some((_, from)) = at.and_then(|at| self.forwarded.remove(at)) else {
            return;
        };
        let (at_ms, peer) = (now_ms(self.world), from.to_string());
        let mut oracles = self.judge.look();
        oracles.judged_gossip(at_ms, self.node, &peer, verdict);
    }
}

impl MessageInterceptor {
    fn look(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GossipRepeater for MessageInterceptor {
    fn duplicate(&self, ms: u64, on: bool) {
        let late = &mut self.look().late;
        match late.iter().position(|other| *other == ms) {
            Some(at) if !on => drop(late.remove(at)),
            _ if on => late.push(ms),
            _ => {}
        }
    }

    fn lose(&self, class: Class, repeats: bool, on: bool) {
        let mut inner = self.look();
        let losing = &mut inner.losing;
        match losing.iter().position(|other| *other == (class, repeats)) {
            Some(at) if !on => drop(losing.remove(at)),
            _ if on => losing.push((class, repeats)),
            _ => {}
        }
        if inner.losing.is_empty() {
            inner.seen.clear();
        }
    }

    // The conduct of a Byzantine authority does not end.
    fn heal(&self) {
        let mut inner = self.look();
        inner.late.clear();
        inner.losing.clear();
        inner.seen.clear();
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        let inner = self.look();
        let of_conduct = inner.byzantine.as_ref().map(Byzantine::count);
        let own = [(REPEATED, inner.repeated), (LOST, inner.lost)];
        let all = of_conduct.into_iter().chain(own);
        all.filter(|(_, times)| *times > 0).collect()
    }
}

impl Intercept for MessageInterceptor {
    fn started(&self) {
        let inner = self.look();
        if inner.byzantine.is_none() {
            let Inspector { node, judge, .. } = &inner.inspector;
            judge.look().retold.service_started(*node);
            judge.look().repairs.service_started(*node);
            judge.look().dials.service_started(*node);
        }
    }

    fn leaving(&self, command: Command) -> Vec<(Duration, Command)> {
        let mut guard = self.look();
        let inner = &mut *guard;
        match &mut inner.byzantine {
            Some(byzantine) => byzantine.leaving(command),
            None => {
                inner.inspector.note_departure(&command);
                let again = match (&command, inner.publish_again_ms) {
                    (Command::Publish { .. }, Some(most)) => {
                        // At least a millisecond, because a delay of zero would not yield.
                        let wait = Duration::from_millis(1 + inner.rng.below(most.max(1)));
                        Some((wait, command.clone()))
                    }
                    _ => None,
                };
                let first = (Duration::ZERO, command);
                [first].into_iter().chain(again).collect()
            }
        }
    }

    fn arriving(&self, event: Event) -> Vec<(Duration, Event)> {
        let mut guard = self.look();
        let inner = &mut *guard;
        if inner.loses(&event) {
            inner.lost += 1;
            return in_place_of(event);
        }
        match &mut inner.byzantine {
            Some(byzantine) => byzantine.note_arrival(&event),
            None => inner.inspector.note_arrival(&event),
        }
        let mut all = vec![(Duration::ZERO, event.clone())];
        if let (Event::Gossip { .. }, Some(most)) = (&event, inner.late.iter().max().copied()) {
            // At least a millisecond, because a delay of zero would not yield.
            let wait = Duration::from_millis(1 + inner.rng.below(most.max(1)));
            inner.repeated += 1;
            all.push((wait, event));
        }
        all
    }
}
