//! Byzantine authorities: the real node, with the authority's own key, whose messages a conduct
//! changes.
//!
//! **Owns** the state that a conduct keeps between two messages. **Guarantees** that forged
//! messages are signed only with the authority's own key, and that each authority draws from its
//! own random stream. **Never** changes the messages between a node and its execution client, and
//! never reads the state of another machine, except for the other identity of a forging authority.

mod equivocation;
mod flood;
mod lies;
mod orders;
mod twins;
mod withholding;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_net::{Command, Event, InboundId, Protocol, Topic};
use alys_runtime::sim::{NodeId, Rng, World};
use alys_types::wire::{Confirmation, Message, Proposal};
use alys_types::{Certificate, Genesis, Hash, Header, Order, Slot, Vote, VoteTarget};

pub(super) use equivocation::seal;
pub use twins::split as split_twins;

use crate::cluster::Governance;
use crate::cluster::genesis::{Chain, authority_key};
use crate::invariants::Judge;
use crate::params::{Conduct, Slots, WorldPlan};
use crate::peers::mutator::{self, SharedMutator, Workshop};

/// Limit of remembered requests from peers; requests beyond it are answered truthfully.
const MOST_QUESTIONS: usize = 64;
/// Limit of remembered alternative blocks and of slots with withheld votes.
const KEPT_SLOTS: usize = 16;

/// A Byzantine authority: changes the messages that its node sends.
pub(super) struct Byzantine {
    index: u8,
    nodes: u8,
    genesis: Arc<Genesis>,
    conduct: Conduct,
    slots: Slots,
    /// Records blocks that only this authority creates, because they may become final.
    judge: Judge,
    rng: Rng,
    /// The header of the last proposal that arrived.
    seen: Option<Header>,
    /// The alternative proposal for the authority's own block, by its slot and hash.
    others: BTreeMap<(Slot, Hash), Proposal>,
    /// Withheld kinds of votes, by slot.
    kept_back: BTreeMap<u64, [bool; 3]>,
    /// The last slot with a flood of votes.
    flooded: Option<Slot>,
    questions: BTreeMap<InboundId, Protocol>,
    /// The means to alter answers.
    shop: Workshop,
    /// Takes own proposals, which another identity of the authority alters.
    mutator: Option<SharedMutator>,
    /// The last order that a proposal carried.
    order: Option<Order>,
    /// Number of own blocks whose order was altered, or was to be.
    altered_orders: usize,
    /// Number of own blocks whose work was altered, or was to be.
    altered_works: usize,
    /// The last finality certificate that was gossiped.
    final_by: Option<Certificate>,
    /// Signs for other chains.
    governance: Option<Governance>,
    /// Number of messages that the conduct changed.
    changed: u64,
}

impl Byzantine {
    /// Creates the authority `index`, from 0; `None` if the plan has it correct.
    pub(super) fn of_plan(
        world: World,
        plan: &WorldPlan,
        index: u8,
        slots: Slots,
        chain: &Chain,
        judge: &Judge,
        mutator: Option<SharedMutator>,
    ) -> Option<Self> {
        let mut byzantine = plan.byzantine.iter();
        let conduct = byzantine.find(|one| one.node == index + 1)?.conduct;
        Some(Self {
            index,
            nodes: plan.authorities(),
            genesis: chain.genesis.clone(),
            conduct,
            slots,
            judge: judge.clone(),
            rng: world.rng(&format!("byzantine {index}")),
            seen: None,
            others: BTreeMap::new(),
            kept_back: BTreeMap::new(),
            flooded: None,
            questions: BTreeMap::new(),
            shop: mutator::workshop_of(world, plan, chain, Some(index)),
            mutator,
            order: None,
            altered_orders: 0,
            altered_works: 0,
            final_by: None,
            governance: chain.governance.clone(),
            changed: 0,
        })
    }

    /// The messages that leave in place of a message of the node, each after a delay.
    pub(super) fn leaving(&mut self, command: Command) -> Vec<(Duration, Command)> {
        match self.conduct {
            Conduct::Twins => now(command),
            Conduct::Equivocate => self.equivocate(command),
            Conduct::Withhold => self.withhold(command),
            Conduct::Delay => self.delay(command),
            Conduct::InvalidPayload => self.replace_payload(command),
            Conduct::BadCertificate => self.forge_certificate(command),
            Conduct::Mutate => self.mutate(command),
            Conduct::Lie => self.lie(command),
            Conduct::Forge => self.forge(command),
            Conduct::Flood => self.flood(command),
            Conduct::AlterOrders => self.alter_order(command),
            Conduct::AlterWork => self.alter_work(command),
        }
    }

    /// Remembers the requests and the proposals that arrive at the node.
    pub(super) fn note_arrival(&mut self, event: &Event) {
        match event {
            Event::Request { id, protocol, .. } => {
                if self.questions.len() < MOST_QUESTIONS {
                    self.questions.insert(*id, *protocol);
                }
            }
            Event::Gossip {
                topic: Topic::Blocks,
                payload,
                ..
            } => {
                if let Ok(proposal) = Proposal::decode(payload) {
                    let order = proposal.block.body.federation_order();
                    self.note_order(order);
                    self.seen = Some(proposal.block.header);
                }
            }
            Event::Gossip {
                topic: Topic::Finality,
                payload,
                ..
            } => self.note_finality(payload),
            _ => {}
        }
    }

    /// The counter of the messages that the conduct changed.
    pub(super) fn count(&self) -> (&'static str, u64) {
        (self.conduct.counter(), self.changed)
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

impl Byzantine {
    fn did(&mut self) {
        self.changed += 1;
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
