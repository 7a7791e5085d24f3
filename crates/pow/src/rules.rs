//! The rules of a proof (rule 4.2, and 4.4 for its work), each one function. The sources are the
//! merged mining specification of the Bitcoin wiki and Namecoin Core (`auxpow.cpp`); comments name
//! the differences.

use alys_types::Hash;

use crate::auxpow::AuxPow;
use crate::hashing::reversed;
use crate::refusal::{Place, Refusal};
use crate::target::Target;

/// Begins the tag of merged mining in a coinbase.
pub const MAGIC: [u8; 4] = [0xfa, 0xbe, 0x6d, 0x6d];
/// Most levels of a branch: Namecoin's bound of the chain branch, whose tree has at most 2^30
/// chains. The coinbase branch has the same bound, because a block of 2^30 transactions cannot
/// exist.
pub const MAX_LEVELS: usize = 30;
/// Bytes behind the magic: root, size and nonce.
pub const TAG_BYTES: usize = 32 + 4 + 4;

/// The facts that a proof must agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// AuxPoW chain id of the spec.
    pub chain_id: u16,
    /// The commitment of the work, in internal order.
    pub commitment: Hash,
    /// The target that the parent's hash must meet.
    pub target: Target,
}

/// A proof that meets its demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAuxPow {
    proof: AuxPow,
    demand: Demand,
}

/// The facts of a rule that holds: those of the refusal that it would be otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held(pub Refusal);

/// The tag of merged mining in a coinbase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The root of the tree of chains, in internal order.
    pub root: Hash,
    /// Number of leaves of the tree.
    pub size: u32,
    /// Chosen by the miner so that the slots of its chains differ.
    pub nonce: u32,
}

impl VerifiedAuxPow {
    /// Checks every rule, cheap ones first.
    ///
    /// # Errors
    /// The first rule that the proof breaks.
    pub fn new(proof: AuxPow, demand: Demand) -> Result<VerifiedAuxPow, Refusal> {
        coinbase_index(&proof)?;
        coinbase_levels(&proof)?;
        chain_levels(&proof)?;
        parent_chain_id(&proof, demand.chain_id)?;
        work(&proof, demand.target)?;
        let (place, _) = magic(&proof, Some(demand.commitment))?;
        let (tag, _) = tag(&proof, place)?;
        size(&proof, &tag)?;
        slot(&proof, &tag, demand.chain_id)?;
        root(&proof, &tag, demand.commitment)?;
        inclusion(&proof)?;
        Ok(VerifiedAuxPow { proof, demand })
    }

    /// The proof.
    pub fn proof(&self) -> &AuxPow {
        &self.proof
    }

    /// The facts that it agrees with.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }
}

impl Refusal {
    fn unless(self, holds: bool) -> Result<Held, Refusal> {
        if holds { Ok(Held(self)) } else { Err(self) }
    }
}

/// The coinbase is transaction 0 of the parent. Namecoin ignores the field and folds with 0; a
/// proof with another index is a mistake of its maker.
pub fn coinbase_index(proof: &AuxPow) -> Result<Held, Refusal> {
    let found = proof.coinbase_branch.index;
    Refusal::CoinbaseIndex { found }.unless(found == 0)
}

/// The coinbase branch has at most 30 levels (rule 4.2; Namecoin has no bound).
pub fn coinbase_levels(proof: &AuxPow) -> Result<Held, Refusal> {
    let found = proof.coinbase_branch.hashes.len();
    Refusal::CoinbaseLevels { found }.unless(found <= MAX_LEVELS)
}

/// The chain branch has at most 30 levels (Namecoin's bound).
pub fn chain_levels(proof: &AuxPow) -> Result<Held, Refusal> {
    let found = proof.chain_branch.hashes.len();
    Refusal::ChainLevels { found }.unless(found <= MAX_LEVELS)
}

/// The parent is not of our chain (Namecoin's `fStrictChainId`): else a block of a
/// chain could be the parent of its own work. The chain id is the upper half of the version.
pub fn parent_chain_id(proof: &AuxPow, chain_id: u16) -> Result<Held, Refusal> {
    let version = proof.parent.version.to_consensus();
    let found = version.cast_unsigned() >> 16;
    Refusal::ParentChainId { chain_id, version }.unless(found != u32::from(chain_id))
}

/// The hash of the parent header meets our target, not the parent's own (rule 4.4).
pub fn work(proof: &AuxPow, target: Target) -> Result<Held, Refusal> {
    let hash = proof.parent_hash();
    Refusal::Work { target, hash }.unless(target.is_met_by(hash))
}

/// The magic is exactly once in all input and output scripts together (rule 4.2). Namecoin looks
/// into the first input's script only, and accepts a root without magic within its first 20 bytes.
/// `commitment` is used for the note of a refusal.
pub fn magic(proof: &AuxPow, commitment: Option<Hash>) -> Result<(Place, Held), Refusal> {
    let mut places = places(proof, &MAGIC);
    let first = places.next();
    let count = usize::from(first.is_some()).saturating_add(places.count());
    let missing = commitment.filter(|_| count == 0);
    let root = missing.and_then(|commitment| root_without_magic(proof, commitment));
    let facts = Refusal::Magic { count, first, root };
    match first {
        Some(place) if count == 1 => Ok((place, Held(facts))),
        _ => Err(facts),
    }
}

/// Root, size and nonce follow the magic in its script; more may follow them.
pub fn tag(proof: &AuxPow, magic: Place) -> Result<(Tag, Held), Refusal> {
    let script = proof.scripts().nth(magic.script);
    let script = script.map(|script| script.as_bytes()).unwrap_or_default();
    let after = magic.byte.saturating_add(MAGIC.len());
    let after = script.get(after..).unwrap_or_default();
    let facts = Refusal::Tag {
        magic,
        found: after.len(),
    };
    let (root, rest) = after.split_first_chunk().ok_or(facts)?;
    let (size, rest) = rest.split_first_chunk().ok_or(facts)?;
    let (nonce, _) = rest.split_first_chunk().ok_or(facts)?;
    let tag = Tag {
        root: reversed(Hash(*root)),
        size: u32::from_le_bytes(*size),
        nonce: u32::from_le_bytes(*nonce),
    };
    Ok((tag, Held(facts)))
}

/// The size in the tag is 2 to the power of the chain branch's levels (merged
/// mining specification).
pub fn size(proof: &AuxPow, tag: &Tag) -> Result<Held, Refusal> {
    let levels = proof.chain_branch.hashes.len();
    let (expected, found) = (tree_size(levels), tag.size);
    Refusal::Size {
        levels,
        expected,
        found,
    }
    .unless(found == expected)
}

/// The index of the chain branch is the slot that nonce, chain id and levels determine
/// (merged mining specification): a chain has one slot, so that one header proves one work of ours.
pub fn slot(proof: &AuxPow, tag: &Tag, chain_id: u16) -> Result<Held, Refusal> {
    let nonce = tag.nonce;
    let expected = expected_slot(nonce, chain_id, proof.chain_branch.hashes.len());
    let found = proof.chain_branch.index;
    Refusal::Slot {
        chain_id,
        nonce,
        expected,
        found,
    }
    .unless(found == expected)
}

/// The root in the tag is that of the tree with our commitment in the slot
/// (merged mining specification).
pub fn root(proof: &AuxPow, tag: &Tag, commitment: Hash) -> Result<Held, Refusal> {
    let (expected, found) = (proof.chain_branch.fold(commitment), tag.root);
    Refusal::Root { expected, found }.unless(found == expected)
}

/// The Merkle root of the parent is that of the tree with the coinbase (Bitcoin).
pub fn inclusion(proof: &AuxPow) -> Result<Held, Refusal> {
    let expected = Hash(*proof.parent.merkle_root.as_ref());
    let found = proof.coinbase_branch.fold(proof.coinbase_id());
    Refusal::Inclusion { expected, found }.unless(found == expected)
}

/// Slot of a chain in a tree of 2^`levels` leaves: two steps of a linear congruential generator
/// from the nonce, with the chain id added between, all modulo 2^32 (merged mining specification).
pub fn expected_slot(nonce: u32, chain_id: u16, levels: usize) -> u32 {
    let step = |number: u32| number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
    let number = step(step(nonce).wrapping_add(u32::from(chain_id)));
    number & tree_size(levels).wrapping_sub(1)
}

/// Leaves of a tree; 0 beyond 31 levels, which [`chain_levels`] refuses.
fn tree_size(levels: usize) -> u32 {
    let levels = u32::try_from(levels).ok();
    levels
        .and_then(|levels| 1_u32.checked_shl(levels))
        .unwrap_or(0)
}

/// The place of our root in either order.
fn root_without_magic(proof: &AuxPow, commitment: Hash) -> Option<(Place, bool)> {
    let root = proof.chain_branch.fold(commitment);
    let find = |bytes: Hash| places(proof, &bytes.0).next();
    let in_order = find(reversed(root)).map(|place| (place, true));
    in_order.or_else(|| find(root).map(|place| (place, false)))
}

/// Places of `needle` in the scripts of the coinbase.
fn places<const N: usize>(proof: &AuxPow, needle: &[u8; N]) -> impl Iterator<Item = Place> {
    let inputs = proof.coinbase.input.len();
    proof
        .scripts()
        .enumerate()
        .flat_map(move |(script, bytes)| {
            let windows = bytes.as_bytes().windows(N).enumerate();
            let found = windows.filter(move |(_, window)| *window == needle);
            found.map(move |(byte, _)| Place {
                script,
                inputs,
                byte,
            })
        })
}
