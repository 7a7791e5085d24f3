//! Typed alterations of all messages between nodes.
//!
//! **Owns** the catalogue: each field of each message, the ways in which valid and invalid parts
//! combine, and how much of the message follows the altered field. **Guarantees** that an
//! alteration is signed only with the adversary's key, that the invariants know each message before
//! it is sent, and that the catalogue is worked through instead of drawn from, so that short runs
//! reach most of it. **Never** reads the state of a correct node; it receives the gossip that every
//! peer receives.

mod answers;
mod blocks;
mod certificates;
mod work;
mod workshop;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use alys_net::{Protocol, Topic};
use alys_runtime::sim::World;
use alys_types::wire::{
    BlockRange, BlockReceipts, CertifiedHeader, Confirmation, HeaderRange, Message, Proposal,
    RangeRequest, Status, StatusAnswer, WorkProof,
};
use alys_types::{Block, Certificate, Hash, Header, Height, Vote, VoteKind, VoteTarget};

use answers::{
    BLOCK_RANGE, BLOCKS, Change, HASHES, HEADER_RANGE, RANGE_REQUEST, RECEIPTS, STATUS,
    STATUS_ANSWER,
};
use blocks::{BODY, HEADER};
use certificates::{CERTIFICATE, VOTE};
use work::WORK;
pub use workshop::Workshop;
use workshop::certificate;

use super::byzantine::seal;
use crate::cluster::genesis::{Chain, authority_key};
use crate::cluster::now_ms;
use crate::invariants::{Forgery, Judge, Tolerance};
use crate::params::{Conduct, WorldPlan};

/// Altered proposals for each block of the adversary's own, in its slot.
const OF_OWN_BLOCK: u32 = 8;
/// Entries of the catalogue that are tried before a turn is left empty: some need signatures that
/// were not heard, and some do not change the message at hand.
const MOST_TRIES: usize = 12;

/// A message that contains signatures or work, by the topic that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Proposal,
    Approval,
    Confirmation,
    Finality,
    Work,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Proposal,
        Self::Approval,
        Self::Confirmation,
        Self::Finality,
        Self::Work,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Approval => "approval",
            Self::Confirmation => "confirmation",
            Self::Finality => "finality",
            Self::Work => "work",
        }
    }

    const fn topic(self) -> Topic {
        match self {
            Self::Proposal => Topic::Blocks,
            Self::Approval => Topic::Approvals,
            Self::Confirmation => Topic::Confirmations,
            Self::Finality => Topic::Finality,
            Self::Work => Topic::Work,
        }
    }
}

/// The altered part of a message, by index in the table of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Vote(usize),
    Header(usize),
    /// The certificate of the parent in a proposal, of the block in other messages.
    Certificate(usize),
    Body(usize),
    Work(usize),
    /// The vote of another confirmation beside the certificate.
    OtherBlock,
    /// A certificate of confirmations in place of one of approvals.
    OfConfirmations,
}

/// The parts of a message that are adjusted to its altered part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// Nothing.
    Bare,
    /// The hashes that other parts contain, but no signature.
    Bound,
    /// The hashes, and a signature of the adversary.
    Signed,
    /// As [`Self::Signed`], and the hash of the payload.
    Sealed,
}

impl Binding {
    const fn word(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Bound => "bound",
            Self::Signed => "signed",
            Self::Sealed => "sealed",
        }
    }

    const fn needs_key(self) -> bool {
        matches!(self, Self::Signed | Self::Sealed)
    }
}

/// An entry of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alteration {
    kind: Kind,
    part: Part,
    binding: Binding,
}

impl Alteration {
    fn name(self) -> String {
        let field = match self.part {
            Part::Vote(at) => format!("vote.{}", VOTE[at].0),
            Part::Header(at) => format!("header.{}", HEADER[at].0),
            Part::Certificate(at) if self.kind == Kind::Proposal => {
                format!("parent-certificate.{}", CERTIFICATE[at].0)
            }
            Part::Certificate(at) => format!("certificate.{}", CERTIFICATE[at].0),
            Part::Body(at) => format!("body.{}", BODY[at].0),
            Part::Work(at) => format!("proof.{}", WORK[at].0),
            Part::OtherBlock => "vote.of-other-block".to_owned(),
            Part::OfConfirmations => "certificate.of-confirmations".to_owned(),
        };
        format!("{}.{field}.{}", self.kind.word(), self.binding.word())
    }

    fn tolerance(self) -> Tolerance {
        match (self.kind, self.part, self.binding) {
            (Kind::Approval, Part::Vote(at), Binding::Signed) => VOTE[at].1,
            (Kind::Proposal, Part::Header(at), Binding::Signed) => HEADER[at].1,
            (Kind::Proposal, Part::Body(at), Binding::Signed) => BODY[at].1,
            (Kind::Proposal, Part::Body(at), Binding::Sealed) => BODY[at].2,
            (Kind::Proposal, Part::Certificate(at), Binding::Signed) => CERTIFICATE[at].1,
            (Kind::Confirmation | Kind::Finality, Part::Certificate(at), _) => CERTIFICATE[at].1,
            _ => Tolerance::Refused,
        }
    }
}

/// All alterations of gossip, in a fixed order.
static CATALOGUE: LazyLock<Vec<Alteration>> = LazyLock::new(|| {
    use Binding::{Bare, Bound, Sealed, Signed};
    let mut all = Vec::new();
    let mut add = |kind, part, bindings: &[Binding]| {
        let of = |binding: &Binding| Alteration {
            kind,
            part,
            binding: *binding,
        };
        all.extend(bindings.iter().map(of));
    };
    for at in 0..HEADER.len() {
        add(Kind::Proposal, Part::Header(at), &[Bare, Bound, Signed]);
        add(Kind::Confirmation, Part::Header(at), &[Bare, Bound]);
        add(Kind::Finality, Part::Header(at), &[Bare, Bound]);
    }
    for at in 0..CERTIFICATE.len() {
        add(Kind::Proposal, Part::Certificate(at), &[Bound, Signed]);
        add(Kind::Finality, Part::Certificate(at), &[Bare]);
        // The signed vote of a confirmation is a valid one beside the altered certificate.
        add(Kind::Confirmation, Part::Certificate(at), &[Bare, Signed]);
    }
    for (at, (name, ..)) in BODY.iter().enumerate() {
        let bindings: &[Binding] = match *name {
            // The hash of a payload cannot follow itself.
            "payload.block-hash" => &[Bare, Bound, Signed],
            _ if name.starts_with("payload.") => &[Bare, Bound, Signed, Sealed],
            _ => &[Bare, Bound, Signed],
        };
        add(Kind::Proposal, Part::Body(at), bindings);
    }
    for (at, (name, ..)) in VOTE.iter().enumerate() {
        let bindings: &[Binding] = match *name {
            "signature.bits" | "signature.infinity" => &[Bare],
            _ => &[Bare, Signed],
        };
        add(Kind::Approval, Part::Vote(at), bindings);
        add(Kind::Confirmation, Part::Vote(at), bindings);
        add(Kind::Proposal, Part::Vote(at), &[Bare]);
    }
    add(Kind::Confirmation, Part::OtherBlock, &[Bare]);
    add(Kind::Confirmation, Part::OfConfirmations, &[Bare]);
    for at in 0..WORK.len() {
        add(Kind::Work, Part::Work(at), &[Bare]);
    }
    all
});

/// The names of all alterations, each with the reactions that are permitted to correct nodes.
pub fn catalogue() -> impl Iterator<Item = (String, Tolerance)> {
    let gossip = CATALOGUE.iter();
    let gossip = gossip.map(|alteration| (alteration.name(), alteration.tolerance()));
    gossip.chain(answer_names().map(|name| (name, Tolerance::Valid)))
}

fn answer_names() -> impl Iterator<Item = String> {
    fn of<T>(message: &str, table: &[(&str, Change<T>)]) -> Vec<String> {
        let name = |(field, _): &(&str, Change<T>)| format!("{message}.{field}");
        table.iter().map(name).collect()
    }
    [
        of("status", STATUS),
        of("status-answer", STATUS),
        of("status-answer", STATUS_ANSWER),
        of("header-range", HEADER_RANGE),
        of("block-range", BLOCK_RANGE),
        of("blocks", BLOCKS),
        of("receipts", RECEIPTS),
        of("range-request", RANGE_REQUEST),
        of("hashes", HASHES),
    ]
    .into_iter()
    .flatten()
}

/// An altered message of gossip.
#[derive(Debug)]
pub struct Forged {
    pub topic: Topic,
    pub payload: Vec<u8>,
}

/// A mutator that an adversary's machines share.
pub type SharedMutator = Arc<Mutex<Mutator>>;

/// Locks a mutator. A poisoned lock is taken over, because a panic ends the run in any case.
pub fn lock(mutator: &SharedMutator) -> MutexGuard<'_, Mutator> {
    mutator.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Alters the messages that an adversary hears.
pub struct Mutator {
    shop: Workshop,
    judge: Judge,
    heard: Heard,
    /// The adversary's own block, and the number of alterations that are left for it.
    own: Option<(Proposal, u32)>,
    /// The next kind.
    turn: usize,
    /// The next entry of the catalogue, by kind, and whether it must be signed.
    cursors: BTreeMap<(Kind, bool), usize>,
}

/// The latest messages of others.
#[derive(Default)]
struct Heard {
    proposal: Option<Proposal>,
    approval: Option<Vote>,
    confirmation: Option<Confirmation>,
    earlier: Option<Confirmation>,
    finality: Option<CertifiedHeader>,
    work: Option<WorkProof>,
}

/// The mutators of the authorities whose conduct is to forge, by index from 0.
pub fn of_plan(
    world: World,
    plan: &WorldPlan,
    chain: &Chain,
    judge: &Judge,
) -> BTreeMap<u8, SharedMutator> {
    let forging = plan.byzantine.iter();
    let forging = forging.filter(|one| one.conduct == Conduct::Forge);
    forging
        .map(|one| one.node.saturating_sub(1))
        .map(|index| (index, shared(world, plan, chain, judge, Some(index))))
        .collect()
}

/// A mutator with the key of an authority, from 0, or of a stranger.
pub fn shared(
    world: World,
    plan: &WorldPlan,
    chain: &Chain,
    judge: &Judge,
    index: Option<u8>,
) -> SharedMutator {
    Arc::new(Mutex::new(Mutator {
        shop: workshop_of(world, plan, chain, index),
        judge: judge.clone(),
        heard: Heard::default(),
        own: None,
        turn: 0,
        cursors: BTreeMap::new(),
    }))
}

/// The means of an authority, from 0, or of a stranger.
pub fn workshop_of(world: World, plan: &WorldPlan, chain: &Chain, index: Option<u8>) -> Workshop {
    let label = index.map_or("stranger".to_owned(), |index| index.to_string());
    Workshop::new(
        index.map(|index| (index, authority_key(index))),
        chain.genesis.chain_id(),
        plan.fault_model,
        plan.authorities(),
        world.rng(&format!("mutator {label}")),
    )
}

impl Mutator {
    /// Remembers a message of gossip.
    pub fn hear(&mut self, topic: Topic, payload: &[u8]) {
        match topic {
            Topic::Blocks => {
                if let Ok(proposal) = Proposal::decode(payload) {
                    self.heard.proposal = Some(proposal);
                }
            }
            Topic::Approvals => {
                if let Ok(vote) = Vote::decode(payload) {
                    self.shop.hear(&vote);
                    self.heard.approval = Some(vote);
                }
            }
            Topic::Confirmations => {
                if let Ok(confirmation) = Confirmation::decode(payload) {
                    self.shop.hear(&confirmation.vote);
                    let hash = confirmation.vote.target.hash;
                    let before = self.heard.confirmation.replace(confirmation);
                    let of_other = before.filter(|before| before.vote.target.hash != hash);
                    if of_other.is_some() {
                        self.heard.earlier = of_other;
                    }
                }
            }
            Topic::Finality => {
                if let Ok(certified) = CertifiedHeader::decode(payload) {
                    self.heard.finality = Some(certified);
                }
            }
            Topic::Work => {
                if let Ok(proof) = WorkProof::decode(payload) {
                    self.heard.work = Some(proof);
                }
            }
            Topic::Transactions => {}
        }
    }

    /// Takes a block that the adversary proposes.
    pub fn propose(&mut self, proposal: Proposal) {
        self.own = Some((proposal, OF_OWN_BLOCK));
    }

    /// The next message, which the invariants know from now on; `None` if nothing was heard yet.
    pub fn next_message(&mut self) -> Option<Forged> {
        if let Some((proposal, left)) = self.own.take() {
            if left > 1 {
                self.own = Some((proposal.clone(), left - 1));
            }
            if let Some(forged) = self.forge(Kind::Proposal, true, Some(&proposal)) {
                return Some(forged);
            }
        }
        for _ in 0..2 * Kind::ALL.len() {
            let kind = Kind::ALL[self.turn % Kind::ALL.len()];
            let is_signed = self.turn / Kind::ALL.len() % 2 == 1;
            self.turn += 1;
            // Only its leader can sign a proposal.
            let is_possible = !is_signed || kind != Kind::Proposal;
            if is_possible && let Some(forged) = self.forge(kind, is_signed, None) {
                return Some(forged);
            }
        }
        None
    }

    /// Makes a message by the next entry of the catalogue that applies.
    fn forge(&mut self, kind: Kind, is_signed: bool, own: Option<&Proposal>) -> Option<Forged> {
        if is_signed && self.shop.authority().is_none() {
            return None;
        }
        let fits = |one: &&Alteration| one.kind == kind && one.binding.needs_key() == is_signed;
        let all: Vec<Alteration> = CATALOGUE.iter().filter(fits).copied().collect();
        for _ in 0..MOST_TRIES {
            let cursor = self.cursors.entry((kind, is_signed)).or_default();
            let alteration = *all.get(*cursor % all.len().max(1))?;
            *cursor += stride(all.len());
            let forgery = Forgery {
                name: alteration.name().into(),
                tolerance: alteration.tolerance(),
            };
            let payload = match kind {
                Kind::Proposal => {
                    let base = own.or(self.heard.proposal.as_ref()).cloned();
                    base.and_then(|base| self.alter_proposal(&base, alteration))
                        .map(|altered| {
                            if alteration.binding.needs_key() {
                                self.register(&forgery, &altered.block);
                            }
                            altered.encode()
                        })
                }
                Kind::Approval => {
                    let altered = self.alter_approval(alteration);
                    altered.map(|altered| altered.encode())
                }
                Kind::Confirmation => {
                    let altered = self.alter_confirmation(alteration);
                    altered.map(|altered| altered.encode())
                }
                Kind::Finality => {
                    let altered = self.alter_finality(alteration);
                    altered.map(|altered| altered.encode())
                }
                Kind::Work => {
                    let altered = self.alter_work(alteration);
                    altered.map(|altered| altered.encode())
                }
            };
            let topic = kind.topic();
            if let Some(payload) = payload.filter(|payload| payload.len() <= topic.max_payload()) {
                self.judge.look().forgeries.sent(&forgery, &payload);
                return Some(Forged { topic, payload });
            }
        }
        None
    }

    /// Registers a block that only the adversary makes with the invariants.
    fn register(&self, forgery: &Forgery, block: &Block) {
        let Some(authority) = self.shop.authority() else {
            return;
        };
        let hash = block.header.hash();
        let at_ms = now_ms(World::current());
        let mut oracles = self.judge.look();
        oracles.forgeries.sent_block(forgery, hash);
        // Correct nodes check the block, so its own violations are ignored here.
        let _ = oracles.learn(at_ms, authority, hash, &Arc::new(block.clone()));
    }

    fn alter_proposal(&mut self, base: &Proposal, how: Alteration) -> Option<Proposal> {
        let mut altered = base.clone();
        let Block { header, body } = &mut altered.block;
        match how.part {
            Part::Header(at) => (HEADER[at].2)(header, &mut self.shop),
            Part::Certificate(at) => {
                let of_parent = header.parent_certificate?;
                header.parent_certificate = Some(self.alter_certificate(&of_parent, at)?);
            }
            Part::Body(at) => (BODY[at].3)(body, &mut self.shop),
            Part::Vote(at) => (VOTE[at].2)(&mut altered.vote, &mut self.shop),
            Part::Work(_) | Part::OtherBlock | Part::OfConfirmations => return None,
        }
        if altered == *base {
            return None;
        }
        if how.binding == Binding::Sealed {
            seal(&mut altered.block);
            altered.block.header.execution_hash = altered.block.body.payload.block_hash;
        }
        if how.binding != Binding::Bare {
            if matches!(how.part, Part::Body(_)) {
                altered.block.header.body_hash = altered.block.body.hash();
            }
            altered.vote.target = target_of(VoteKind::Proposal, &altered.block.header);
            altered.vote.signer = altered.block.header.proposer;
        }
        if how.binding.needs_key() {
            altered.vote.signature = self.shop.sign(altered.vote.target)?.signature;
        }
        (altered != *base).then_some(altered)
    }

    fn alter_approval(&mut self, how: Alteration) -> Option<Vote> {
        let Part::Vote(at) = how.part else {
            return None;
        };
        let base = self.heard.approval?;
        self.alter_vote(base, at, how.binding)
    }

    /// Alters a vote of another, or signs an altered vote.
    fn alter_vote(&mut self, base: Vote, at: usize, binding: Binding) -> Option<Vote> {
        let base = if binding.needs_key() {
            self.shop.sign(base.target)?
        } else {
            base
        };
        let mut altered = base;
        (VOTE[at].2)(&mut altered, &mut self.shop);
        if binding.needs_key() {
            altered.signature = self.shop.sign(altered.target)?.signature;
        }
        (altered != base).then_some(altered)
    }

    fn alter_certificate(&mut self, of: &Certificate, at: usize) -> Option<Certificate> {
        self.shop.belong_to(of.signers.len());
        (CERTIFICATE[at].2)(of, &mut self.shop)
    }

    fn alter_confirmation(&mut self, how: Alteration) -> Option<Confirmation> {
        let base = self.heard.confirmation.clone()?;
        let mut altered = base.clone();
        match how.part {
            Part::Vote(at) => {
                altered.vote = self.alter_vote(base.vote, at, how.binding)?;
            }
            Part::Header(at) => {
                (HEADER[at].2)(&mut altered.certified.header, &mut self.shop);
                if how.binding == Binding::Bound {
                    bind(&mut altered.certified);
                    let kind = altered.vote.target.kind;
                    altered.vote.target = target_of(kind, &altered.certified.header);
                }
            }
            Part::Certificate(at) => {
                let of_block = base.certified.certificate;
                altered.certified.certificate = self.alter_certificate(&of_block, at)?;
                if how.binding == Binding::Signed {
                    altered.vote = self.shop.sign(base.vote.target)?;
                }
            }
            Part::OtherBlock => altered.vote = self.heard.earlier.as_ref()?.vote,
            Part::OfConfirmations => {
                let mut target = base.certified.certificate.target;
                target.kind = VoteKind::Confirmation;
                let all = self.shop.signatures(&target);
                self.shop
                    .belong_to(base.certified.certificate.signers.len());
                let signers = self.shop.bitmap(all.keys().copied());
                let signatures: Vec<_> = all.into_values().collect();
                altered.certified.certificate = certificate(target, signers, &signatures)?;
            }
            Part::Body(_) | Part::Work(_) => return None,
        }
        (altered != base).then_some(altered)
    }

    fn alter_finality(&mut self, how: Alteration) -> Option<CertifiedHeader> {
        let base = self.heard.finality.clone()?;
        let mut altered = base.clone();
        match how.part {
            Part::Header(at) => {
                (HEADER[at].2)(&mut altered.header, &mut self.shop);
                if how.binding == Binding::Bound {
                    bind(&mut altered);
                }
            }
            Part::Certificate(at) => {
                altered.certificate = self.alter_certificate(&base.certificate, at)?;
            }
            Part::Vote(_)
            | Part::Body(_)
            | Part::Work(_)
            | Part::OtherBlock
            | Part::OfConfirmations => return None,
        }
        (altered != base).then_some(altered)
    }

    fn alter_work(&mut self, how: Alteration) -> Option<WorkProof> {
        let Part::Work(at) = how.part else {
            return None;
        };
        let base = self.heard.work.as_ref()?;
        let mut altered = base.clone();
        (WORK[at].1)(&mut altered, &mut self.shop);
        (altered != *base).then_some(altered)
    }

    /// An altered request for blocks or headers, with its range.
    pub fn request(&mut self) -> (Protocol, Vec<u8>, Forgery, Option<(u64, u64)>) {
        let heard = self.heard.finality.as_ref();
        let height = heard.map_or(1, |certified| certified.header.height.0);
        let hash = heard.map_or(Hash::ZERO, |certified| certified.header.hash());
        let (protocol, name, payload, range) = match self.shop.rng.below(3) {
            0 => {
                let mut hashes = vec![hash];
                let name = answers::draw("hashes", HASHES, &mut hashes, &mut self.shop);
                (Protocol::BlocksByHash, name, hashes.encode(), None)
            }
            drawn => {
                let mut request = RangeRequest {
                    start: Height(height.saturating_sub(4).max(1)),
                    count: 4,
                };
                let name =
                    answers::draw("range-request", RANGE_REQUEST, &mut request, &mut self.shop);
                let protocol = match drawn {
                    1 => Protocol::BlocksByRange,
                    _ => Protocol::HeadersByRange,
                };
                let range = Some((request.start.0, request.count));
                (protocol, name, request.encode(), range)
            }
        };
        let forgery = record(&self.judge, name, &payload);
        (protocol, payload, forgery, range)
    }
}

/// Alters the status of a node, which the invariants know from now on.
pub fn alter_status(status: &[u8], shop: &mut Workshop, judge: &Judge) -> Option<Vec<u8>> {
    alter(
        status,
        |status: &mut Status| answers::draw("status", STATUS, status, shop),
        judge,
    )
}

/// Alters an answer, which the invariants know from now on; `None` if it cannot be decoded, or the
/// alteration does not apply.
pub fn alter_answer(
    protocol: Protocol,
    answer: &[u8],
    shop: &mut Workshop,
    judge: &Judge,
) -> Option<Vec<u8>> {
    let altered = match protocol {
        Protocol::Status => alter(
            answer,
            |answer: &mut StatusAnswer| match shop.rng.below(3) {
                0 => answers::draw("status-answer", STATUS_ANSWER, answer, shop),
                _ => answers::draw("status-answer", STATUS, &mut answer.status, shop),
            },
            judge,
        ),
        Protocol::HeadersByRange => alter(
            answer,
            |range: &mut HeaderRange| answers::draw("header-range", HEADER_RANGE, range, shop),
            judge,
        ),
        Protocol::BlocksByRange => alter(
            answer,
            |range: &mut BlockRange| answers::draw("block-range", BLOCK_RANGE, range, shop),
            judge,
        ),
        Protocol::BlocksByHash => alter(
            answer,
            |blocks: &mut Vec<Block>| answers::draw("blocks", BLOCKS, blocks, shop),
            judge,
        ),
        Protocol::Receipts => alter(
            answer,
            |receipts: &mut Option<BlockReceipts>| {
                answers::draw("receipts", RECEIPTS, receipts, shop)
            },
            judge,
        ),
    };
    altered.filter(|altered| altered.len() <= protocol.max_response())
}

/// Decodes a message, changes it, and registers it with the invariants; `None` if nothing changed.
fn alter<M: Message + PartialEq + Clone>(
    bytes: &[u8],
    change: impl FnOnce(&mut M) -> String,
    judge: &Judge,
) -> Option<Vec<u8>> {
    let base = M::decode(bytes).ok()?;
    let mut altered = base.clone();
    let name = change(&mut altered);
    if altered == base {
        return None;
    }
    let payload = altered.encode();
    record(judge, name, &payload);
    Some(payload)
}

/// Registers a message that is not gossip with the invariants.
fn record(judge: &Judge, name: String, payload: &[u8]) -> Forgery {
    let forgery = Forgery {
        name: name.into(),
        tolerance: Tolerance::Valid,
    };
    judge.look().forgeries.sent(&forgery, payload);
    forgery
}

/// The target of a vote of this kind for a block.
pub(super) fn target_of(kind: VoteKind, header: &Header) -> VoteTarget {
    VoteTarget {
        kind,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    }
}

/// Points a certificate to the header beside it. Its signature is that of another target now.
fn bind(certified: &mut CertifiedHeader) {
    let kind = certified.certificate.target.kind;
    certified.certificate.target = target_of(kind, &certified.header);
}

/// A step through a table that visits all entries, and neighbours far apart: fields that are next
/// to each other often have the same consequence, of which a node takes only two in a slot.
fn stride(length: usize) -> usize {
    const fn greatest_common_divisor(a: usize, b: usize) -> usize {
        if b == 0 {
            a
        } else {
            greatest_common_divisor(b, a % b)
        }
    }
    let golden = length * 5 / 8;
    let mut steps = golden.max(1)..=length.max(1);
    steps
        .find(|step| greatest_common_divisor(*step, length) == 1)
        .unwrap_or(1)
}

#[cfg(test)]
mod tests;
