//! What goes into the state machine and what comes out.

use std::sync::Arc;

use alys_types::wire::CertifiedHeader;
use alys_types::{
    Address, Authority, Block, ExecutionPayload, FederationOrder, Hash, Height, Slot, VoteTarget,
};
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::federation::FederationRecord;
use crate::verify::{CertifiedBlock, VerifiedBody, VerifiedProposal, VerifiedVote};

/// The time of an input, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, milliseconds since the Unix epoch. May jump.
    pub wall_ms: u64,
    /// Monotonic clock, milliseconds since any fixed moment of this process.
    pub mono_ms: u64,
}

/// A block by slot and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its slot.
    pub slot: Slot,
    /// Its hash.
    pub hash: Hash,
}

/// What a node must remember to never contradict itself, and its last words, to say them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteState {
    /// Highest slot approved.
    pub approved_slot: Slot,
    /// Highest block confirmed.
    pub locked: BlockRef,
    /// What was signed last.
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

/// The latest vote of each kind, unsigned: BLS signatures are deterministic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latest {
    /// Own latest proposal.
    pub proposal: Option<VoteTarget>,
    /// Own latest approval.
    pub approval: Option<VoteTarget>,
    /// Own latest confirmation.
    pub confirmation: Option<VoteTarget>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed. Wanted at least at every start of a slot and several times within it.
    Tick,
    /// A proposal whose header, body and signature were checked against its parent.
    Proposal(VerifiedProposal),
    /// A vote whose signature was checked.
    Vote(VerifiedVote),
    /// A certificate (of approvals or confirmations) whose quorum was checked.
    Certified(CertifiedBlock),
    /// The body of a certified block, checked against its header; from a peer or from the store.
    Body(VerifiedBody),
    /// What the execution layer said of a block.
    Executed { hash: Hash, verdict: Verdict },
    /// The execution layer built a payload.
    Built {
        slot: Slot,
        parent: Hash,
        payload: Box<ExecutionPayload>,
    },
    /// The execution layer could not build one.
    BuildFailed { slot: Slot, parent: Hash },
    /// The execution layer is reachable again and may have forgotten things.
    ExecutionRestarted,
    /// A peer connected: say the latest things again.
    PeerConnected,
    /// A vote of our own that a peer holds.
    HeldVote(VerifiedVote),
    /// A federation change that governance ordered.
    Order(Box<FederationOrder>),
    /// The operator confirms the wall clock after a jump.
    ClockConfirmed,
}

/// The execution layer's answer about a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Executed; roots match.
    Valid,
    /// Never valid.
    Invalid,
    /// Not yet known (SYNCING, ACCEPTED, or unreachable).
    Unknown,
}

/// What to do, in order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Write, durably, before the next effect is carried out.
    Persist(Box<Record>),
    /// Sign where needed and send to all.
    Send(Send),
    /// Ask the execution layer to build a payload.
    Build(PayloadRequest),
    /// Ask the execution layer about a block. `block` is there unless the store has it.
    Execute {
        hash: Hash,
        block: Option<Arc<Block>>,
    },
    /// Tell the execution layer head, safe and finalized, as (block hash, execution hash).
    Forkchoice {
        head: (Hash, Hash),
        safe: Hash,
        finalized: Hash,
    },
    /// A certified block whose body is wanted.
    FetchBlock { hash: Hash },
    /// Something certified is above what can be reached: fetch ranges from `from` on.
    Sync { from: Height, to: Height },
    /// These became final, ascending.
    Finalized(Vec<BlockRef>, Height),
    /// An authority contradicted itself.
    Evidence(Box<Evidence>),
    /// For the operator.
    Notice(Notice),
}

/// What to send.
#[derive(Debug, Clone)]
pub enum Send {
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

/// Ask for a payload on top of `parent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadRequest {
    /// The block to build on.
    pub parent: Hash,
    /// Its execution block.
    pub parent_execution: Hash,
    /// Slot of the new block.
    pub slot: Slot,
    /// Seconds.
    pub timestamp: u64,
    /// As the protocol computes it.
    pub prev_randao: Hash,
    /// The vault.
    pub fee_recipient: Address,
}

/// One atomic, durable write.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The vote state as it is now.
    pub votes: Option<VoteState>,
    /// Blocks to keep, header and body.
    pub blocks: Vec<Arc<Block>>,
    /// Headers with certificates to keep (approvals).
    pub certified: Vec<CertifiedHeader>,
    /// The certified block with the highest slot.
    pub highest: Option<BlockRef>,
    /// New finality.
    pub finalized: Option<Finalization>,
    /// Authority sets to keep, by their hash.
    pub sets: Vec<Vec<Authority>>,
}

/// Part of a [`Record`]: what became final.
#[derive(Debug, Clone)]
pub struct Finalization {
    /// The highest final block with its finality certificate.
    pub certified: CertifiedHeader,
    /// The newly final blocks, ascending, the last one being `certified`.
    pub chain: Vec<(Height, Hash)>,
    /// The federation after that block.
    pub federation: Option<FederationRecord>,
    /// Uncertified or conflicting blocks that can never become final.
    pub dropped: Vec<Hash>,
}

/// Something the operator should see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The wall clock jumped by so many milliseconds against the monotonic one: no votes.
    ClockJumped { by_ms: i64 },
    /// The wall clock is trusted again.
    ClockTrusted,
    /// The vote state was lost: no votes until a block after this slot is final.
    VotesLost { silent_until: Slot },
    /// Votes again, after a loss.
    VotesRegained,
    /// The own execution layer calls a certified block invalid: a bug there or here.
    CertifiedInvalid { hash: Hash },
    /// A finality certificate contradicts our own: more than f authorities are faulty.
    ConflictingFinality {
        height: Height,
        ours: Hash,
        theirs: Hash,
    },
    /// An ordered federation change cannot be carried.
    OrderRefused { number: u64 },
}
