//! Authorities that do not keep to the rules: the real node, with the authority's own key, behind a
//! layer that bends what it says. The same layer lets gossip arrive twice at nodes that do.
//!
//! **Owns** what each authority's conduct needs to remember between two messages. **Promises** that
//! what it makes is signed with no other key than the authority's own, and that its choices come
//! from a stream of their own. **Never** bends what goes between a node and its execution client,
//! and never reads what only another machine knows.

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

/// Questions of peers that are remembered until they are answered; more are answered truthfully.
const MOST_QUESTIONS: usize = 64;
/// Slots of which the own other block is remembered.
const KEPT_SLOTS: usize = 16;

/// The layer of each authority's node.
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

/// What stands between a node and its network.
pub struct ByzantineInterceptor(Mutex<Inner>);

struct Inner {
    index: u8,
    nodes: u8,
    genesis: Arc<Genesis>,
    conduct: Option<Conduct>,
    slots: Slots,
    /// Told of blocks that only this layer makes: they may become final.
    judge: Judge,
    rng: Rng,
    /// How much later gossip arrives a second time, by fault.
    late: Vec<u64>,
    /// The last block of anybody that was proposed.
    seen: Option<Header>,
    /// By slot and hash of an own block: what is proposed beside it or instead of it.
    others: BTreeMap<(Slot, Hash), Proposal>,
    /// By slot: which kinds of votes are kept back.
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

    // An authority that does not keep to the rules goes on all the same.
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
            // At least a millisecond: a wait of none would not be one.
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

/// What a message that is published says, as far as conducts care.
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

    /// A part of a slot.
    fn soon(&mut self, part: u64) -> Duration {
        let most = self.slots.slot_ms / part;
        Duration::from_millis(1 + self.rng.below(most))
    }
}
