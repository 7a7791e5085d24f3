//! Inputs and effects of the state machine.

use std::sync::Arc;

use alys_peg::{Additions, Changes};
use alys_types::bls::PublicKeyBytes;
use alys_types::wire::CertifiedHeader;
use alys_types::{
    Address, Authority, Block, ExecutionPayload, Hash, Height, Order, Slot, VoteTarget, Withdrawal,
};
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::federation::FederationRecord;
use crate::rules::Refusal;
use crate::rules::validity::Invalid;
use crate::rules::work::WorkFault;
use crate::verify::{CertifiedBlock, VerifiedBody, VerifiedProposal, VerifiedVote};

/// The time of an input, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, milliseconds since the Unix epoch. May jump.
    pub wall_ms: u64,
    /// Monotonic clock, milliseconds since any fixed moment of this process.
    pub mono_ms: u64,
}

impl Now {
    /// Wall minus monotonic clock; constant until the wall clock drifts or jumps. Saturates.
    pub(crate) fn offset_ms(self) -> i64 {
        let offset = i128::from(self.wall_ms).saturating_sub(i128::from(self.mono_ms));
        i64::try_from(offset).unwrap_or(i64::MAX)
    }
}

/// A block by slot and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockRef {
    pub slot: Slot,
    /// Block hash: of the header.
    pub hash: Hash,
}

/// The promises that keep a node from contradicting itself, and its latest votes, to rebroadcast
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteState {
    /// Highest slot approved.
    pub approved_slot: Slot,
    /// Highest block confirmed.
    pub locked: BlockRef,
    /// The latest vote of each kind.
    pub latest: Latest,
    /// Set after a loss of the vote state: no vote until a block of a later slot is final.
    pub silent_until: Option<Slot>,
}

impl VoteState {
    /// The state of a key that has never voted: locked on genesis.
    pub fn fresh(genesis: BlockRef) -> VoteState {
        VoteState {
            approved_slot: genesis.slot,
            locked: genesis,
            latest: Latest::default(),
            silent_until: None,
        }
    }
}

/// The latest own vote of each kind, without signatures: BLS signs deterministically, so each can
/// be signed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latest {
    pub proposal: Option<VoteTarget>,
    pub approval: Option<VoteTarget>,
    pub confirmation: Option<VoteTarget>,
}

/// An event of the node, checked before it enters.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed. Due at every start of a slot and several times within it.
    Tick,
    /// A proposal whose header, body and signature were checked against its parent.
    Proposal(VerifiedProposal),
    /// A vote whose signature was checked.
    Vote(VerifiedVote),
    /// A certificate (of approvals or confirmations) whose quorum was checked.
    Certified(CertifiedBlock),
    /// The body of a certified block, checked against its header; from a peer or from the store.
    Body(VerifiedBody),
    /// The execution layer's answer about a block.
    Executed { hash: Hash, verdict: Verdict },
    /// The additions of a block to the ledger, from its receipts; `None` if they are not known yet,
    /// for the next tick asks again.
    Accounted {
        hash: Hash,
        additions: Option<Additions>,
    },
    /// The final block at a height, for the ledger; `None` if the store lacks it.
    FinalLoaded {
        height: Height,
        stored: Option<Box<StoredFinal>>,
    },
    /// A proof of work that was checked, to be carried by an own block.
    Proof(Arc<HeldProof>),
    /// The execution layer built a payload.
    Built {
        slot: Slot,
        parent: Hash,
        payload: Box<ExecutionPayload>,
    },
    /// The execution layer could not build a payload.
    BuildFailed { slot: Slot, parent: Hash },
    /// The execution layer is reachable again and may have lost blocks.
    ExecutionRestarted,
    /// A peer connected: rebroadcast the latest certificates and votes.
    PeerConnected,
    /// A vote of our own that a peer holds.
    HeldVote(VerifiedVote),
    /// A federation change that governance ordered.
    Order(Box<Order>),
    /// The operator confirms the wall clock after a jump, or at the start.
    ClockConfirmed,
    /// The slot that the clock of an authority is in, as stated by a peer that proved its key.
    ClockStated {
        authority: PublicKeyBytes,
        slot: Slot,
    },
}

/// A final block in the store, with the data that the ledger needs.
#[derive(Debug, Clone)]
pub struct StoredFinal {
    pub block: Arc<Block>,
    /// Hash of the set of the block's height; `None` for the first block, whose set is that of
    /// genesis.
    pub set_hash: Option<Hash>,
    /// `None` if they were not known when the block was written.
    pub additions: Option<Additions>,
}

/// The work of a miner: the commitment over a range of final blocks, and the proof of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldProof {
    /// Number of the proof that it can become, from 1.
    pub sequence: u64,
    /// Oldest block of the range.
    pub range_start: Hash,
    /// Newest block of the range.
    pub range_end: Hash,
    /// Number of blocks of the range.
    pub count: u32,
    /// EVM address that the work pays.
    pub miner: Address,
    /// `CAuxPow` in Namecoin's encoding.
    pub auxpow: Vec<u8>,
    /// Hash of the parent header, which the bits of the carrying block have to admit.
    pub work: Hash,
}

/// The work that miners can do: a range of final blocks without proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOffer {
    /// Number of the proof that this can become.
    pub sequence: u64,
    /// Height of the oldest block.
    pub first: Height,
    /// Block hashes, oldest first: 1 to `max_range`.
    pub range: Vec<Hash>,
    /// Target of a proof that a block of the next slot carries, in compact form.
    pub bits: u32,
    /// Number of the last proof that a final block carries; 0 before the first.
    pub final_sequence: u64,
    /// End of the range of that proof; genesis before the first.
    pub final_end: Height,
}

/// A range that became final by proof of work (rule 4.4): the block that carries the proof is
/// final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowFinal {
    pub sequence: u64,
    /// Height of the oldest block.
    pub first: Height,
    /// Height of the newest block.
    pub end: Height,
    pub end_hash: Hash,
    pub miner: Address,
    /// The block that carries the proof.
    pub carrier: BlockRef,
}

/// The execution layer's answer about a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Executed; roots match.
    Valid,
    /// Never valid.
    Invalid,
    /// Not known yet: SYNCING, ACCEPTED, or no answer.
    Unknown,
}

/// An action of the node. Effects are carried out in order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Write, durably, before the next effect is carried out.
    Persist(Box<Record>),
    /// Sign where needed and send to all peers.
    Broadcast(Broadcast),
    /// Ask the execution layer to build a payload.
    Build(PayloadRequest),
    /// Ask the execution layer about a block. `block` is `None` if the store has it.
    Execute {
        hash: Hash,
        block: Option<Arc<Block>>,
    },
    /// Ask for the additions of an executed block to the ledger. `block` is `None` if the store has
    /// it.
    Account {
        hash: Hash,
        block: Option<Arc<Block>>,
    },
    /// Load a final block, whose additions the ledger lacks.
    LoadFinal { height: Height },
    /// The work for miners changed; `None` while there is none.
    Work(Option<Arc<WorkOffer>>),
    /// Report a range that became final by proof of work.
    PowFinal(PowFinal),
    /// Set the execution layer's head, safe and finalized block, by execution hash.
    Forkchoice {
        /// Block hash and execution hash.
        head: (Hash, Hash),
        safe: Hash,
        finalized: Hash,
    },
    /// Fetch a certified block whose body is missing.
    FetchBlock { hash: Hash },
    /// Fetch ranges: a certified block at `to` does not connect, and everything from `from` on may
    /// be missing.
    Sync { from: Height, to: Height },
    /// Report blocks that became final, ascending; the height is that of the last one.
    Finalized(Vec<BlockRef>, Height),
    /// Report the equivocation of an authority.
    Evidence(Box<Evidence>),
    /// Inform the operator.
    Notice(Notice),
    /// Trace the reason for which nothing was signed. Emitted when it changes.
    Trace(Refusal),
}

/// A message to all peers.
#[derive(Debug, Clone)]
pub enum Broadcast {
    /// Sign (kind proposal) and gossip.
    Proposal {
        target: VoteTarget,
        signer: u8,
        block: Arc<Block>,
    },
    /// Sign and gossip an approval.
    Approval { target: VoteTarget, signer: u8 },
    /// Sign and gossip a confirmation with the certificate that it is about.
    Confirmation {
        target: VoteTarget,
        signer: u8,
        certified: Box<CertifiedHeader>,
    },
    /// Gossip a certificate: approvals or confirmations.
    Certificate(Box<CertifiedHeader>),
}

/// The payload attributes of a block on top of `parent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadRequest {
    /// Block hash of the parent.
    pub parent: Hash,
    /// Execution hash of the parent.
    pub parent_execution: Hash,
    /// Slot of the new block.
    pub slot: Slot,
    /// Seconds since the Unix epoch, derived from the slot.
    pub timestamp: u64,
    /// Derived from parent and slot (docs/protocol.md, section 6).
    pub prev_randao: Hash,
    /// The vault, which collects priority fees.
    pub fee_recipient: Address,
    /// Fees of the proof that the block carries (rule 5.25).
    pub withdrawals: Vec<Withdrawal>,
    /// The payload must not contain transactions (docs/protocol.md, rule 6.5).
    pub is_empty: bool,
}

/// One atomic, durable write.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The vote state, whole.
    pub votes: Option<VoteState>,
    /// Blocks, header and body.
    pub blocks: Vec<Arc<Block>>,
    /// Headers with their approvals.
    pub certified: Vec<CertifiedHeader>,
    /// The certified block with the highest slot.
    pub highest: Option<BlockRef>,
    /// New finality.
    pub finalized: Option<Finalization>,
    /// Authority sets, stored by their hash.
    pub sets: Vec<Vec<Authority>>,
    /// Additions of blocks to the ledger, by block hash.
    pub additions: Vec<(Hash, Additions)>,
    /// Changes of the stored ledger.
    pub ledger: Option<LedgerRecord>,
}

/// Part of a [`Record`]: the ledger after a final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRecord {
    pub height: Height,
    pub hash: Hash,
    /// The entries that differ from the ledger of the record before.
    pub changes: Changes,
}

/// Part of a [`Record`]: blocks that became final.
#[derive(Debug, Clone)]
pub struct Finalization {
    /// The highest final block with its finality certificate.
    pub certified: CertifiedHeader,
    /// The newly final blocks, ascending, the last one being `certified`.
    pub chain: Vec<(Height, Hash)>,
    /// The federation after that block.
    pub federation: Option<FederationRecord>,
    /// Blocks beside the final chain, which can never become final.
    pub dropped: Vec<Hash>,
}

/// A message to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The wall clock jumped against the monotonic one: no votes until it is confirmed.
    ClockJumped { by_ms: i64 },
    /// At the start of the process the wall clock is far ahead of the chain: no votes until it is
    /// confirmed.
    ClockUnconfirmed { slot: Slot, highest: Slot },
    /// The wall clock is trusted again.
    ClockTrusted,
    /// The node has approved in a slot that is ahead of its clock: no approvals until then.
    ApprovedAhead { approved: Slot, slot: Slot },
    /// A vote of this node that its vote state does not contain proves a loss: an older data
    /// directory was restored, or the key is in use elsewhere. [`Notice::VotesLost`] follows.
    UnknownVote { slot: Slot },
    /// The vote state was lost: no votes until a block after this slot is final; `None` while the
    /// clock is not trusted, after which a second notice states the slot.
    VotesLost { silent_until: Option<Slot> },
    /// The silence after a loss is over.
    VotesRegained,
    /// The own execution layer calls a certified block invalid: a bug in either.
    CertifiedInvalid { hash: Hash },
    /// The own execution layer accepts a certified block that it called invalid before.
    CertifiedValid { hash: Hash },
    /// The block of a payload that the own execution layer built breaks a rule of validity, so that
    /// it was neither written nor signed.
    OwnBlockInvalid { slot: Slot, rule: Invalid },
    /// A finality certificate contradicts our own: more than f authorities are faulty.
    ConflictingFinality {
        height: Height,
        ours: Hash,
        theirs: Hash,
    },
    /// A proposal does not fit the ledger of its parent.
    UnfitProposal { slot: Slot, fault: WorkFault },
    /// The headers of final blocks contradict the own ledger: a bug, or a damaged store. No block
    /// is approved or proposed from here on.
    LedgerDiverged { height: Height },
    /// An ordered federation change cannot be carried.
    OrderRefused { number: u64 },
}
