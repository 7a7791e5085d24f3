//! Submissions that break one rule each: everything that follows from the flaw is made to fit, and
//! the work is real where it is not itself the flaw.

use alloy_primitives::U256;
use alys_runtime::sim::Rng;
use alys_types::Hash;
use bitcoin::block::Version;
use bitcoin::hashes::Hash as _;
use bitcoin::{ScriptBuf, TxMerkleNode};

use super::proof::{Draft, Shape, slot};

/// The encoding of a proof whose bytes are too many.
const TOO_LONG: usize = (512 << 10) + 1;
/// A number above every target: the easiest one of simulated chains has its highest bit clear.
const EASIEST: U256 = U256::from_limbs([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1]);
/// One level more than a branch may have.
const TOO_DEEP: usize = 31;

/// A flaw of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Not hex.
    Text,
    /// Bytes without a form.
    Junk,
    Empty,
    TooLong,
    CutOff,
    Trailing,
    NoMagic,
    TwoMagics,
    /// The root in internal order.
    RootOrder,
    TagCutOff,
    Size,
    /// The nonce of another slot, in a tree with several.
    Slot,
    /// Another root in the tag.
    Root,
    ChainLevels,
    CoinbaseLevels,
    CoinbaseIndex,
    /// The parent's Merkle root in the other order.
    MerkleOrder,
    /// Another transaction in place of the coinbase.
    Inclusion,
    /// The parent is of our own chain.
    OwnParent,
    /// No work.
    Work,
    /// Work by the number that the bytes are in the other order.
    WorkOrder,
    /// The proof of other work.
    OtherWork,
    /// The work of another chain in our slot.
    OtherChain,
    /// The hash of the work in the other order.
    HashOrder,
    /// A hash that the node did not hand out.
    UnknownHash,
}

impl Flaw {
    /// All flaws.
    pub const ALL: [Self; 25] = [
        Self::Text,
        Self::Junk,
        Self::Empty,
        Self::TooLong,
        Self::CutOff,
        Self::Trailing,
        Self::NoMagic,
        Self::TwoMagics,
        Self::RootOrder,
        Self::TagCutOff,
        Self::Size,
        Self::Slot,
        Self::Root,
        Self::ChainLevels,
        Self::CoinbaseLevels,
        Self::CoinbaseIndex,
        Self::MerkleOrder,
        Self::Inclusion,
        Self::OwnParent,
        Self::Work,
        Self::WorkOrder,
        Self::OtherWork,
        Self::OtherChain,
        Self::HashOrder,
        Self::UnknownHash,
    ];
    /// Those of byte orders.
    pub const ORDERS: [Self; 4] = [
        Self::RootOrder,
        Self::MerkleOrder,
        Self::WorkOrder,
        Self::HashOrder,
    ];
    /// Those of work for other chains.
    pub const OTHERS: [Self; 5] = [
        Self::OtherWork,
        Self::OtherChain,
        Self::OwnParent,
        Self::Slot,
        Self::UnknownHash,
    ];

    /// The word in verdicts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Junk => "junk",
            Self::Empty => "empty",
            Self::TooLong => "too-long",
            Self::CutOff => "cut-off",
            Self::Trailing => "trailing",
            Self::NoMagic => "no-magic",
            Self::TwoMagics => "two-magics",
            Self::RootOrder => "root-order",
            Self::TagCutOff => "tag-cut-off",
            Self::Size => "size",
            Self::Slot => "slot",
            Self::Root => "root",
            Self::ChainLevels => "chain-levels",
            Self::CoinbaseLevels => "coinbase-levels",
            Self::CoinbaseIndex => "coinbase-index",
            Self::MerkleOrder => "merkle-order",
            Self::Inclusion => "inclusion",
            Self::OwnParent => "own-parent",
            Self::Work => "work",
            Self::WorkOrder => "work-order",
            Self::OtherWork => "other-work",
            Self::OtherChain => "other-chain",
            Self::HashOrder => "hash-order",
            Self::UnknownHash => "unknown-hash",
        }
    }
}

/// A submission as its two parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The hash of the work, as text.
    pub hash: String,
    /// The proof, as text.
    pub auxpow: String,
}

/// Work as a node handed it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// In internal order.
    pub commitment: Hash,
    pub chain_id: u16,
    pub target: U256,
}

impl Work {
    /// The hash as nodes write it.
    pub fn hash(&self) -> String {
        let mut bytes = self.commitment.0;
        bytes.reverse();
        hex::encode(bytes)
    }
}

/// A valid submission of this work; `None` if `most` hashes do not suffice.
pub fn valid(work: &Work, shape: Shape, most: u32, rng: &mut Rng) -> Option<Submission> {
    let mut draft = Draft::new(work.commitment, work.chain_id, shape, rng);
    let is_found = draft.grind(most, |hash| hash <= work.target);
    is_found.then(|| Submission {
        hash: work.hash(),
        auxpow: hex::encode(draft.encode()),
    })
}

/// A submission of this work with a flaw; `None` if `most` hashes do not suffice.
pub fn flawed(work: &Work, flaw: Flaw, most: u32, rng: &mut Rng) -> Option<Submission> {
    let mut shape = Shape::draw(rng);
    if flaw == Flaw::Slot {
        // With one slot there is no wrong one.
        shape.chain_levels = 4;
    }
    let mut draft = Draft::new(work.commitment, work.chain_id, shape, rng);
    alter(&mut draft, flaw, rng);
    let target = work.target;
    // The target of work becomes easier while the chain waits (rule 4.5), up to the limit.
    let is_none = |hash: U256| hash > target.max(EASIEST);
    let is_found = match flaw {
        Flaw::Work => draft.grind(most, is_none),
        Flaw::WorkOrder => {
            let reversed = |hash: U256| U256::from_be_bytes(hash.to_le_bytes::<32>());
            draft.grind(most, |hash| is_none(hash) && reversed(hash) <= target)
        }
        _ => draft.grind(most, |hash| hash <= target),
    };
    if !is_found {
        return None;
    }
    let mut bytes = draft.encode();
    let mut hash = work.hash();
    match flaw {
        Flaw::Junk => bytes = (0..120).map(|_| rng.below(256) as u8).collect(),
        Flaw::Empty => bytes.clear(),
        Flaw::TooLong => bytes.resize(TOO_LONG, 0),
        Flaw::CutOff => bytes.truncate(bytes.len() - 1 - rng.below(80) as usize),
        Flaw::Trailing => bytes.push(0),
        Flaw::HashOrder => hash = hex::encode(work.commitment.0),
        Flaw::UnknownHash => hash = hex::encode([rng.below(256) as u8; 32]),
        _ => {}
    }
    let mut auxpow = hex::encode(bytes);
    if flaw == Flaw::Text {
        auxpow.replace_range(0..1, "g");
    }
    Some(Submission { hash, auxpow })
}

/// Alters the parts of a proof that a flaw concerns, and those that follow from them.
fn alter(draft: &mut Draft, flaw: Flaw, rng: &mut Rng) {
    match flaw {
        Flaw::NoMagic => {
            draft.tag.drain(..4);
            draft.write_coinbase();
        }
        Flaw::TwoMagics => {
            let second = ScriptBuf::from_bytes(draft.tag.clone());
            if let Some(output) = draft.coinbase.output.first_mut() {
                output.script_pubkey = second;
            }
            draft.write_header();
        }
        Flaw::RootOrder => {
            draft.tag[4..36].reverse();
            draft.write_coinbase();
        }
        Flaw::TagCutOff => {
            draft.tag.truncate(40);
            cut_scripts(draft);
        }
        Flaw::Size => {
            draft.tag[36] ^= 1;
            draft.write_coinbase();
        }
        Flaw::Slot => {
            let levels = draft.chain_branch.hashes.len();
            draft.chain_branch.index = (draft.chain_branch.index + 1) % (1 << levels);
            draft.write_tag();
        }
        Flaw::Root => {
            draft.tag[10] ^= 1;
            draft.write_coinbase();
        }
        Flaw::ChainLevels => {
            draft.chain_branch.hashes.resize(TOO_DEEP, [7; 32]);
            draft.chain_branch.index = slot(draft.nonce, draft.chain_id, TOO_DEEP);
            draft.write_tag();
        }
        Flaw::CoinbaseLevels => {
            draft.coinbase_branch.hashes.resize(TOO_DEEP, [7; 32]);
            draft.write_header();
        }
        Flaw::CoinbaseIndex => {
            draft.coinbase_branch.hashes.push([7; 32]);
            draft.coinbase_branch.index = 1;
            draft.write_header();
        }
        Flaw::MerkleOrder => {
            let mut root = draft.header.merkle_root.to_byte_array();
            root.reverse();
            draft.header.merkle_root = TxMerkleNode::from_byte_array(root);
        }
        Flaw::Inclusion => {
            draft.coinbase.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
        }
        Flaw::OwnParent => {
            let version = (u32::from(draft.chain_id) << 16) as i32;
            draft.header.version = Version::from_consensus(version);
        }
        Flaw::OtherWork => {
            draft.work[rng.below(32) as usize] ^= 1;
            draft.write_tag();
        }
        Flaw::OtherChain => {
            // The chain of the slot is another one, in whose proof ours is a sibling.
            let ours = draft.work;
            draft.chain_branch.hashes = vec![ours];
            draft.chain_branch.index = slot(draft.nonce, draft.chain_id, 1);
            draft.work = [0x77; 32];
            draft.write_tag();
        }
        Flaw::Text
        | Flaw::Junk
        | Flaw::Empty
        | Flaw::TooLong
        | Flaw::CutOff
        | Flaw::Trailing
        | Flaw::Work
        | Flaw::WorkOrder
        | Flaw::HashOrder
        | Flaw::UnknownHash => {}
    }
}

/// Writes the tag as the last bytes of its script, so that nothing follows it.
fn cut_scripts(draft: &mut Draft) {
    draft.write_coinbase();
    let tag = draft.tag.clone();
    let end_at_tag = |script: &mut ScriptBuf| {
        let bytes = script.as_bytes();
        let at = bytes.windows(tag.len()).position(|window| window == tag);
        if let Some(at) = at {
            *script = ScriptBuf::from_bytes(bytes[..at + tag.len()].to_vec());
        }
    };
    let coinbase = &mut draft.coinbase;
    coinbase
        .input
        .iter_mut()
        .for_each(|one| end_at_tag(&mut one.script_sig));
    coinbase
        .output
        .iter_mut()
        .for_each(|one| end_at_tag(&mut one.script_pubkey));
    draft.write_header();
}
