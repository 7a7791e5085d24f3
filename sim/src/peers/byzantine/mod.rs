//! Authorities that do not keep to the rules: the real node, with the authority's own key, behind a layer that bends what it
//! says. The same layer lets gossip arrive twice at nodes that do.
//!
//! **Owns** what each authority's conduct needs to remember between two messages. **Promises** that what it makes is signed
//! with no other key than the authority's own, and that its choices come from a stream of their own. **Never** bends what
//! goes between a node and its execution client, and never reads what only another machine knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use alloy_rpc_types_engine::{CancunPayloadFields, ExecutionData, ExecutionPayloadSidecar};
use alys_integrations::execution::to_wire;
use alys_net::{Command, Event, InboundId, Protocol, Topic};
use alys_node::interceptor::Intercept;
use alys_runtime::sim::{NodeId, Rng, World};
use alys_types::spec::prev_randao;
use alys_types::wire::{
    BlockRange, CertifiedHeader, Confirmation, HeaderRange, Message, Proposal, Status, StatusAnswer,
};
use alys_types::{
    Bitmap, Block, Certificate, Genesis, Hash, Header, Height, Slot, Vote, VoteKind, VoteTarget,
};

use crate::cluster;
use crate::cluster::genesis::{Chain, authority_key};
use crate::faults::GossipRepeater;
use crate::invariants::Judge;
use crate::params::Slots;
use crate::params::{Conduct, WorldPlan};

/// Questions of peers that are remembered until they are answered; more are answered truthfully.
const MOST_QUESTIONS: usize = 64;
/// Slots of which the own other block is remembered.
const KEPT_SLOTS: usize = 16;
/// How far ahead of the truth a liar claims to be.
const LIE_AHEAD: u64 = 1_000;
/// Bytes that are added to a mutated message at most.
const MOST_EXTRA_BYTES: u64 = 32;

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

    /// An own proposal with another payload, remembered by the block that it is made from.
    fn other(
        &mut self,
        proposal: &Proposal,
        change: impl FnOnce(&mut Rng, &mut Block),
    ) -> Option<Proposal> {
        let own = (proposal.vote.target.slot, proposal.vote.target.hash);
        if let Some(known) = self.others.get(&own) {
            return Some(known.clone());
        }
        let mut block = proposal.block.clone();
        change(&mut self.rng, &mut block);
        block.header.execution_hash = block.body.payload.block_hash;
        block.header.body_hash = block.body.hash();
        let Header { height, slot, .. } = block.header;
        let target = VoteTarget {
            hash: block.header.hash(),
            height,
            slot,
            ..proposal.vote.target
        };
        let other = Proposal {
            vote: self.sign(target),
            block,
        };
        let (at_ms, block) = (
            cluster::now_ms(World::current()),
            Arc::new(other.block.clone()),
        );
        // Whatever is wrong with it, correct nodes judge.
        let _ = self
            .judge
            .look()
            .blocks
            .proposed(at_ms, self.index, target.hash, &block);
        while self.others.len() >= KEPT_SLOTS {
            self.others.pop_first();
        }
        self.others.insert(own, other.clone());
        Some(other)
    }

    /// Two blocks for a slot, and two approvals for every slot.
    fn equivocate(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let mut all = now(command.clone());
        let second = match Said::read(&command) {
            Said::Proposal(proposal) => self
                .other(&proposal, |_, block| {
                    block.body.payload.extra_data = b"another".to_vec();
                    seal(block);
                })
                .map(|other| publish(Topic::Blocks, &other)),
            Said::Approval(vote) => {
                let hash = match self.others.get(&(vote.target.slot, vote.target.hash)) {
                    Some(other) => other.vote.target.hash,
                    None => Hash([self.rng.below(256) as u8; 32]),
                };
                Some(publish(
                    Topic::Approvals,
                    &self.sign(VoteTarget {
                        hash,
                        ..vote.target
                    }),
                ))
            }
            Said::Confirmation(_) | Said::Else => None,
        };
        let Some(second) = second else { return all };
        self.did();
        let wait = self.soon(4);
        all.push((wait, second));
        if self.flip() {
            // The other one first.
            (all[0].0, all[1].0) = (all[1].0, all[0].0);
        }
        all
    }

    /// In each slot some kinds of votes do not leave.
    fn withhold(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let Some(target) = Said::read(&command).target() else {
            return now(command);
        };
        let slot = target.slot.0;
        if !self.kept_back.contains_key(&slot) {
            let drawn = [self.flip(), self.flip(), self.flip()];
            self.kept_back.insert(slot, drawn);
            while self.kept_back.len() > KEPT_SLOTS {
                self.kept_back.pop_first();
            }
        }
        let is_kept_back = self
            .kept_back
            .get(&slot)
            .is_some_and(|kinds| match target.kind {
                VoteKind::Proposal => kinds[0],
                VoteKind::Approval => kinds[1],
                VoteKind::Confirmation => kinds[2],
            });
        match is_kept_back {
            true => {
                self.did();
                Vec::new()
            }
            false => now(command),
        }
    }

    /// What belongs to a slot leaves as the slot ends: shortly before, so that it arrives in time for some, or within the
    /// drift allowance after.
    fn delay(&mut self, command: Command) -> Vec<(Duration, Command)> {
        /// What a message takes to others, about.
        const WAY_MS: u64 = 30;
        let Some(target) = Said::read(&command).target() else {
            return now(command);
        };
        let drift_ms = self.genesis.spec().drift_allowance_ms;
        let end_ms = target.slot.next().start_ms(self.slots.slot_ms);
        let edge_ms = (end_ms.saturating_sub(WAY_MS)) + self.rng.below(drift_ms + WAY_MS);
        let wait = edge_ms.saturating_sub(self.now_ms());
        if wait > 0 {
            self.did();
        }
        vec![(Duration::from_millis(wait), command)]
    }

    /// Own blocks do not execute, or break a rule, and are approved all the same. One of a slot that somebody else leads leaves
    /// when that slot begins.
    fn replace_payload(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let replaced = match Said::read(&command) {
            Said::Proposal(proposal) => {
                let slot_ms = self.slots.slot_ms;
                self.other(&proposal, |rng, block| spoil(rng, block, slot_ms))
                    .map(|other| publish(Topic::Blocks, &other))
            }
            Said::Approval(vote) => self
                .others
                .get(&(vote.target.slot, vote.target.hash))
                .map(|other| VoteTarget {
                    kind: vote.target.kind,
                    ..other.vote.target
                })
                .map(|target| publish(Topic::Approvals, &self.sign(target))),
            Said::Confirmation(_) | Said::Else => None,
        };
        match replaced {
            Some(replaced) => {
                self.did();
                let slot = Said::read(&replaced)
                    .target()
                    .map_or(0, |target| target.slot.start_ms(self.slots.slot_ms));
                vec![(
                    Duration::from_millis(slot.saturating_sub(self.now_ms())),
                    replaced,
                )]
            }
            None => now(command),
        }
    }

    /// Beside each of its approvals it declares the last block that it heard of certified or final.
    fn forge_certificate(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let mut all = now(command.clone());
        if let (Said::Approval(_), Some(header)) = (Said::read(&command), self.seen.clone()) {
            let (topic, forged) = self.forged(header);
            self.did();
            all.push((self.soon(2), publish(topic, &forged)));
        }
        all
    }

    /// A certificate with the own signature alone: it says so, or says that everybody signed, or has a bitmap of another
    /// federation.
    fn forged(&mut self, header: Header) -> (Topic, CertifiedHeader) {
        let kind = if self.flip() {
            VoteKind::Approval
        } else {
            VoteKind::Confirmation
        };
        let target = VoteTarget {
            kind,
            height: header.height,
            slot: header.slot,
            hash: header.hash(),
        };
        let signature = self.sign(target).signature;
        let claim = self.rng.below(3);
        let bits = usize::from(self.nodes) + usize::from(claim == 2);
        let mut signers = Bitmap::empty(bits);
        match claim {
            0 => signers.set(self.index),
            _ => (0..self.nodes).for_each(|node| signers.set(node)),
        }
        (
            Topic::Finality,
            CertifiedHeader {
                header,
                certificate: Certificate {
                    target,
                    signers,
                    signature,
                },
            },
        )
    }

    /// One message in three is not as it was.
    fn mutate(&mut self, command: Command) -> Vec<(Duration, Command)> {
        if self.rng.below(3) != 0 {
            return now(command);
        }
        match command {
            Command::Publish { topic, payload } => {
                self.did();
                let topic = match self.rng.below(4) {
                    0 => Topic::ALL[self.rng.below(Topic::ALL.len() as u64) as usize],
                    _ => topic,
                };
                let mut payload = self.damaged(payload);
                payload.truncate(topic.max_payload());
                now(Command::Publish { topic, payload })
            }
            Command::Respond {
                id,
                response: Ok(payload),
            } => {
                self.did();
                now(Command::Respond {
                    id,
                    response: Ok(self.damaged(payload)),
                })
            }
            other => now(other),
        }
    }

    fn damaged(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len() as u64;
        match self.rng.below(4) {
            0 => bytes.truncate(self.rng.below(length + 1) as usize),
            1 => {
                let extra = 1 + self.rng.below(MOST_EXTRA_BYTES);
                bytes.extend((0..extra).map(|_| self.rng.below(256) as u8));
            }
            _ if length > 0 => {
                for _ in 0..1 + self.rng.below(8) {
                    bytes[self.rng.below(length) as usize] ^= 1 << self.rng.below(8);
                }
            }
            _ => bytes.push(0),
        }
        bytes
    }

    /// It claims to be far ahead, and gives ranges that do not hang together.
    fn lie(&mut self, command: Command) -> Vec<(Duration, Command)> {
        match command {
            Command::SetStatus { status } => match Status::decode(&status) {
                Ok(status) => {
                    self.did();
                    now(Command::SetStatus {
                        status: self.lied_status(status).encode(),
                    })
                }
                Err(_) => now(Command::SetStatus { status }),
            },
            Command::Respond {
                id,
                response: Ok(payload),
            } => {
                let lied = self
                    .questions
                    .remove(&id)
                    .and_then(|protocol| self.lied(protocol, &payload));
                if lied.is_some() {
                    self.did();
                }
                now(Command::Respond {
                    id,
                    response: Ok(lied.unwrap_or(payload)),
                })
            }
            Command::Respond { id, response } => {
                self.questions.remove(&id);
                now(Command::Respond { id, response })
            }
            other => now(other),
        }
    }

    fn lied_status(&mut self, mut status: Status) -> Status {
        status.head_height = Height(status.head_height.0 + LIE_AHEAD);
        if let (Some(header), true) = (self.seen.clone(), self.flip()) {
            let ahead = Header {
                height: Height(header.height.0 + LIE_AHEAD),
                slot: Slot(header.slot.0 + LIE_AHEAD),
                ..header
            };
            let (_, forged) = self.forged(ahead);
            match forged.certificate.target.kind {
                VoteKind::Confirmation => status.finalized = Some(forged),
                _ => status.highest = Some(forged),
            }
        }
        status
    }

    fn lied(&mut self, protocol: Protocol, payload: &[u8]) -> Option<Vec<u8>> {
        match protocol {
            Protocol::Status => {
                let mut answer = StatusAnswer::decode(payload).ok()?;
                answer.status = self.lied_status(answer.status);
                // The asker's own votes, but of other slots and blocks than it signed.
                for vote in [&mut answer.held.approval, &mut answer.held.confirmation]
                    .into_iter()
                    .flatten()
                {
                    vote.target.slot = Slot(vote.target.slot.0 + LIE_AHEAD);
                }
                Some(answer.encode())
            }
            Protocol::HeadersByRange => {
                let mut range = HeaderRange::decode(payload).ok()?;
                self.shuffle(&mut range.headers, |header| header);
                if self.flip() {
                    range.tip = None;
                }
                Some(range.encode())
            }
            Protocol::BlocksByRange => {
                let mut range = BlockRange::decode(payload).ok()?;
                self.shuffle(&mut range.blocks, |block| &mut block.header);
                Some(range.encode())
            }
            Protocol::BlocksByHash => {
                let mut blocks = Vec::<Block>::decode(payload).ok()?;
                self.shuffle(&mut blocks, |block| &mut block.header);
                Some(blocks.encode())
            }
        }
    }

    /// Leaves one out, exchanges two, alters one, or keeps all to itself.
    fn shuffle<T>(&mut self, all: &mut Vec<T>, header: impl Fn(&mut T) -> &mut Header) {
        if all.is_empty() {
            return;
        }
        let (a, b) = (
            self.rng.below(all.len() as u64) as usize,
            self.rng.below(all.len() as u64) as usize,
        );
        match self.rng.below(4) {
            0 => drop(all.remove(a)),
            1 if a != b => all.swap(a, b),
            2 => all.clear(),
            _ => header(&mut all[a]).slot = Slot(header(&mut all[b]).slot.0 + 1),
        }
    }
}

/// Makes a block one that does not execute, or that breaks a rule which needs no execution to be seen.
fn spoil(rng: &mut Rng, block: &mut Block, slot_ms: u64) {
    let payload = &mut block.body.payload;
    match rng.below(10) {
        0 => payload.state_root.0[0] ^= 1,
        1 => payload.gas_used += 1,
        2 if !payload.transactions.is_empty() => drop(payload.transactions.pop()),
        2 => payload.receipts_root.0[0] ^= 1,
        3 => payload.timestamp += 1,
        4 => payload.prev_randao.0[0] ^= 1,
        5 => payload.fee_recipient.0[0] ^= 1,
        6 => block.header.height.0 += 1,
        7 | 8 => {
            // Out of turn: another leads the next slot.
            block.header.slot = block.header.slot.next();
            payload.timestamp = block.header.slot.timestamp(slot_ms);
            payload.prev_randao = prev_randao(&block.header.parent_hash, block.header.slot);
        }
        _ => {
            // The hash is that of no block at all.
            payload.block_hash.0[0] ^= 1;
            return;
        }
    }
    seal(block);
}

/// Gives a changed payload the hash that it has as an execution block, so that only executing it can show what is wrong.
fn seal(block: &mut Block) {
    let parent_beacon_block_root = B256::new(block.header.parent_hash.0);
    let sidecar = match block.body.payload.blob_gas {
        Some(_) => ExecutionPayloadSidecar::v3(CancunPayloadFields {
            parent_beacon_block_root,
            versioned_hashes: Vec::new(),
        }),
        None => ExecutionPayloadSidecar::none(),
    };
    let data = ExecutionData::new(to_wire(&block.body.payload), sidecar);
    let sealed: Result<alloy_consensus::Block<alloy_consensus::TxEnvelope>, _> =
        data.try_into_block();
    match sealed {
        Ok(sealed) => block.body.payload.block_hash = Hash(sealed.header.hash_slow().0),
        // A payload that is no block is spoilt as well.
        Err(_) => block.body.payload.block_hash.0[0] ^= 1,
    }
}
