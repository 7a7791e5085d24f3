//! Byzantine authorities: the real node, with the authority's own key, behind an interceptor that
//! changes its messages. The same interceptor repeats gossip to correct nodes.
//!
//! **Owns** the state that a conduct keeps between two messages. **Guarantees** that forged
//! messages are signed only with the authority's own key, and that each interceptor draws from its
//! own random stream. **Never** changes the messages between a node and its execution client, and
//! never reads the state of another machine.

mod equivocation;
mod lies;
mod twins;
mod withholding;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_net::{Command, Event, InboundId, Protocol, Topic};
use alys_node::interceptor::Intercept;
use alys_runtime::sim::{NodeId, Rng, World};
use alys_types::wire::{Confirmation, Message, Proposal};
use alys_types::{Genesis, Hash, Header, Slot, Vote, VoteTarget};

pub use twins::split as split_twins;

use crate::cluster::genesis::{Chain, authority_key};
use crate::faults::GossipRepeater;
use crate::invariants::Judge;
use crate::params::{Conduct, Slots, WorldPlan};

/// Limit of remembered requests from peers; requests beyond it are answered truthfully.
const MOST_QUESTIONS: usize = 64;
/// Limit of remembered alternative blocks and of slots with withheld votes.
const KEPT_SLOTS: usize = 16;

/// Creates the interceptor of each authority's node.
pub fn interceptors(
    world: World,
    plan: &WorldPlan,
    slots: Slots,
    chain: &Chain,
    judge: &Judge,
) -> BTreeMap<u8, Arc<ByzantineInterceptor>> {
    let of = |index: u8| {
        let conduct = plan
            .byzantine
            .iter()
            .find(|one| one.node == index + 1)
            .map(|one| one.conduct);
        let inner = Inner {
            index,
            nodes: plan.nodes,
            genesis: chain.genesis.clone(),
            conduct,
            slots,
            judge: judge.clone(),
            rng: world.rng(&format!("bend {index}")),
            late: Vec::new(),
            seen: None,
            others: BTreeMap::new(),
            kept_back: BTreeMap::new(),
            questions: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        (index, Arc::new(ByzantineInterceptor(Mutex::new(inner))))
    };
    (0..plan.nodes).map(of).collect()
}

/// Intercepts the messages between a node and its network.
pub struct ByzantineInterceptor(Mutex<Inner>);

struct Inner {
    index: u8,
    nodes: u8,
    genesis: Arc<Genesis>,
    conduct: Option<Conduct>,
    slots: Slots,
    /// Records blocks that only this interceptor creates, because they may become final.
    judge: Judge,
    rng: Rng,
    /// Maximum delay of repeated gossip in milliseconds, one for each active fault.
    late: Vec<u64>,
    /// The header of the last proposal that arrived.
    seen: Option<Header>,
    /// The alternative proposal for the authority's own block, by its slot and hash.
    others: BTreeMap<(Slot, Hash), Proposal>,
    /// Withheld kinds of votes, by slot.
    kept_back: BTreeMap<u64, [bool; 3]>,
    questions: BTreeMap<InboundId, Protocol>,
    counts: BTreeMap<&'static str, u64>,
}

impl ByzantineInterceptor {
    fn look(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GossipRepeater for ByzantineInterceptor {
    fn duplicate(&self, ms: u64, on: bool) {
        let late = &mut self.look().late;
        match late.iter().position(|other| *other == ms) {
            Some(at) if !on => drop(late.remove(at)),
            _ if on => late.push(ms),
            _ => {}
        }
    }

    // The conduct of a Byzantine authority does not end.
    fn heal(&self) {
        self.look().late.clear();
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.look().counts.clone()
    }
}

impl Intercept for ByzantineInterceptor {
    fn leaving(&self, command: Command) -> Vec<(Duration, Command)> {
        let mut inner = self.look();
        match inner.conduct {
            None | Some(Conduct::Twins) => now(command),
            Some(Conduct::Equivocate) => inner.equivocate(command),
            Some(Conduct::Withhold) => inner.withhold(command),
            Some(Conduct::Delay) => inner.delay(command),
            Some(Conduct::InvalidPayload) => inner.replace_payload(command),
            Some(Conduct::BadCertificate) => inner.forge_certificate(command),
            Some(Conduct::Mutate) => inner.mutate(command),
            Some(Conduct::Lie) => inner.lie(command),
        }
    }

    fn arriving(&self, event: Event) -> Vec<(Duration, Event)> {
        let mut inner = self.look();
        match &event {
            Event::Request { id, protocol, .. } if inner.conduct.is_some() => {
                if inner.questions.len() < MOST_QUESTIONS {
                    inner.questions.insert(*id, *protocol);
                }
            }
            Event::Gossip {
                topic: Topic::Blocks,
                payload,
                ..
            } if inner.conduct.is_some() => {
                if let Ok(proposal) = Proposal::decode(payload) {
                    inner.seen = Some(proposal.block.header);
                }
            }
            _ => {}
        }
        let mut all = vec![(Duration::ZERO, event.clone())];
        if let (Event::Gossip { .. }, Some(most)) = (&event, inner.late.iter().max().copied()) {
            // At least a millisecond, because a delay of zero would not yield.
            let wait = Duration::from_millis(1 + inner.rng.below(most.max(1)));
            *inner.counts.entry("duplicated-gossip").or_default() += 1;
            all.push((wait, event));
        }
        all
    }
}

fn now(command: Command) -> Vec<(Duration, Command)> {
    vec![(Duration::ZERO, command)]
}

fn publish<M: Message>(topic: Topic, message: &M) -> Command {
    Command::Publish {
        topic,
        payload: message.encode(),
    }
}

/// A published message, as far as conducts distinguish messages.
enum Said {
    Proposal(Proposal),
    Approval(Vote),
    Confirmation(Confirmation),
    Else,
}

impl Said {
    fn read(command: &Command) -> Self {
        let Command::Publish { topic, payload } = command else {
            return Self::Else;
        };
        match topic {
            Topic::Blocks => Proposal::decode(payload).map_or(Self::Else, Self::Proposal),
            Topic::Approvals => Vote::decode(payload).map_or(Self::Else, Self::Approval),
            Topic::Confirmations => {
                Confirmation::decode(payload).map_or(Self::Else, Self::Confirmation)
            }
            Topic::Work | Topic::Finality | Topic::Transactions => Self::Else,
        }
    }

    fn target(&self) -> Option<VoteTarget> {
        match self {
            Self::Proposal(proposal) => Some(proposal.vote.target),
            Self::Approval(vote) => Some(vote.target),
            Self::Confirmation(confirmation) => Some(confirmation.vote.target),
            Self::Else => None,
        }
    }
}

impl Inner {
    fn did(&mut self) {
        if let Some(conduct) = self.conduct {
            *self.counts.entry(conduct.counter()).or_default() += 1;
        }
    }

    fn flip(&mut self) -> bool {
        self.rng.below(2) == 0
    }

    fn sign(&self, target: VoteTarget) -> Vote {
        let signature = authority_key(self.index).sign(&target.message(&self.genesis.chain_id()).0);
        Vote {
            target,
            signer: self.index,
            signature,
        }
    }

    fn now_ms(&self) -> u64 {
        World::current().wall_ms(NodeId::WORLD)
    }

    /// A random delay of up to a fraction of a slot.
    fn soon(&mut self, part: u64) -> Duration {
        let most = self.slots.slot_ms / part;
        Duration::from_millis(1 + self.rng.below(most))
    }
}
