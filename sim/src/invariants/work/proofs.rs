//! Proofs by a second statement of rules 4.1, 4.2 and 4.4: the commitment, and the merged-mining
//! proof that a parent header commits to it. Nothing here is shared with the node or with the
//! miners of a run.

use alloy_primitives::U256;
use alys_types::{Address, Hash};
use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize_partial;
use bitcoin::hashes::Hash as _;

use super::tree::{double, tagged};

/// Most bytes of a proof (rule 4.4).
const MOST_BYTES: usize = 512 << 10;
/// Most levels of a branch (rule 4.2).
const MOST_LEVELS: usize = 30;
const MAGIC: [u8; 4] = [0xfa, 0xbe, 0x6d, 0x6d];
const HEADER_BYTES: usize = 80;

/// The blocks that a proof makes final, and its miner.
#[derive(Debug, Clone, Copy)]
pub struct Commitment<'a> {
    pub genesis: Hash,
    pub chain_id: u16,
    pub sequence: u64,
    /// Hashes of the blocks, oldest first.
    pub range: &'a [Hash],
    pub miner: Address,
}

impl Commitment<'_> {
    /// The hash that a proof commits to (rule 4.1); `None` without blocks.
    pub fn hash(&self) -> Option<Hash> {
        let (start, end) = (self.range.first()?, self.range.last()?);
        let root = merkle_root(self.range);
        Some(tagged(
            b"alys/auxpow",
            &[
                &self.genesis.0,
                &self.chain_id.to_le_bytes(),
                &self.sequence.to_le_bytes(),
                &start.0,
                &end.0,
                &(self.range.len() as u32).to_le_bytes(),
                &root.0,
                &self.miner.0,
            ],
        ))
    }
}

/// Bitcoin's Merkle root: an odd node at the end of a level is paired with itself.
fn merkle_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::ZERO,
        [one] => *one,
        _ => {
            // The left subtree is the largest complete one that leaves something for the right.
            let width = leaves.len().next_power_of_two() / 2;
            let depth = width.ilog2();
            let (left, right) = leaves.split_at(width);
            pair(&merkle_root(left), &padded(right, depth))
        }
    }
}

/// The root of a subtree of 2^`depth` leaves, of which the first ones are there.
fn padded(leaves: &[Hash], depth: u32) -> Hash {
    if depth == 0 {
        return leaves.first().copied().unwrap_or(Hash::ZERO);
    }
    let width = 1 << (depth - 1);
    let (left, right) = leaves.split_at(width.min(leaves.len()));
    let left = padded(left, depth - 1);
    if right.is_empty() {
        return pair(&left, &left);
    }
    pair(&left, &padded(right, depth - 1))
}

fn pair(left: &Hash, right: &Hash) -> Hash {
    double(&[left.0, right.0].concat())
}

/// A branch of a Merkle tree: siblings from the leaf up, and the position of the leaf.
struct Branch {
    siblings: Vec<Hash>,
    position: u32,
}

impl Branch {
    fn root(&self, leaf: Hash) -> Hash {
        let mut at = leaf;
        for (level, sibling) in self.siblings.iter().enumerate() {
            let is_right = self.position.checked_shr(level as u32).unwrap_or(0) & 1 == 1;
            at = if is_right {
                pair(sibling, &at)
            } else {
                pair(&at, sibling)
            };
        }
        at
    }
}

/// The parts of an encoded proof.
struct Parts {
    coinbase: Transaction,
    coinbase_branch: Branch,
    chain_branch: Branch,
    header: [u8; HEADER_BYTES],
}

/// The rest of the bytes of a proof.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    /// A branch of fewer than 253 siblings: longer ones are invalid in any case.
    fn branch(&mut self) -> Option<Branch> {
        let count = *self.take(1)?.first()?;
        let mut siblings = Vec::new();
        for _ in 0..count {
            siblings.push(Hash(self.take(32)?.try_into().ok()?));
        }
        let position = self.number()?;
        Some(Branch { siblings, position })
    }
}

fn parts(bytes: &[u8]) -> Option<Parts> {
    let (coinbase, read) = deserialize_partial::<Transaction>(bytes).ok()?;
    let mut rest = Rest(bytes.get(read..)?);
    // The hash of the parent block, which no verifier reads.
    rest.take(32)?;
    let coinbase_branch = rest.branch()?;
    let chain_branch = rest.branch()?;
    let header = rest.take(HEADER_BYTES)?.try_into().ok()?;
    let is_whole = rest.0.is_empty();
    is_whole.then_some(Parts {
        coinbase,
        coinbase_branch,
        chain_branch,
        header,
    })
}

/// The texts after each magic in the scripts of a transaction.
fn tags(coinbase: &Transaction) -> Vec<&[u8]> {
    let inputs = coinbase.input.iter().map(|one| one.script_sig.as_bytes());
    let outputs = coinbase
        .output
        .iter()
        .map(|one| one.script_pubkey.as_bytes());
    let mut found = Vec::new();
    for script in inputs.chain(outputs) {
        for start in 0..script.len() {
            if let Some(tag) = script[start..].strip_prefix(&MAGIC) {
                found.push(tag);
            }
        }
    }
    found
}

/// The slot of a chain in a tree of 2^`levels` chains.
pub fn slot(nonce: u32, chain_id: u16, levels: usize) -> u32 {
    let modulus = 1_u64 << 32;
    let step = |number: u64| (number * 1_103_515_245 + 12_345) % modulus;
    let number = step((step(u64::from(nonce)) + u64::from(chain_id)) % modulus);
    (number % (1 << levels)) as u32
}

/// The hash of a header as a number.
pub fn work_of(header: &[u8]) -> U256 {
    U256::from_le_bytes(double(header).0)
}

/// Checks an encoded proof of a commitment.
///
/// # Errors
/// The rule that it breaks, as a sentence that does not hold.
pub fn check(
    bytes: &[u8],
    commitment: Hash,
    chain_id: u16,
    target: U256,
) -> Result<(), &'static str> {
    let holds = |holds: bool, rule: &'static str| if holds { Ok(()) } else { Err(rule) };
    holds(bytes.len() <= MOST_BYTES, "its proof has at most 512 KiB")?;
    let Parts {
        coinbase,
        coinbase_branch,
        chain_branch,
        header,
    } = parts(bytes).ok_or("its proof has the format of Namecoin")?;
    holds(!coinbase.input.is_empty(), "its coinbase has an input")?;
    holds(
        coinbase_branch.position == 0,
        "its coinbase is transaction 0",
    )?;
    let levels = chain_branch.siblings.len();
    holds(
        levels <= MOST_LEVELS && coinbase_branch.siblings.len() <= MOST_LEVELS,
        "its branches have at most 30 levels",
    )?;
    let parent_id = u16::from_le_bytes([header[2], header[3]]);
    holds(parent_id != chain_id, "its parent is of another chain")?;
    holds(work_of(&header) <= target, "its work meets its bits")?;
    let tags = tags(&coinbase);
    let [tag] = tags.as_slice() else {
        return Err("its coinbase has the magic once");
    };
    let mut tag = Rest(tag);
    let root = tag.take(32);
    let (size, nonce) = (tag.number(), tag.number());
    let (Some(root), Some(size), Some(nonce)) = (root, size, nonce) else {
        return Err("root, size and nonce follow the magic");
    };
    holds(size == 1 << levels, "its tree has the size of its branch")?;
    holds(
        chain_branch.position == slot(nonce, chain_id, levels),
        "the chain is in its slot",
    )?;
    let mut expected = chain_branch.root(commitment).0;
    expected.reverse();
    holds(
        root == expected,
        "its coinbase has the root of the commitment",
    )?;
    let id = Hash(coinbase.compute_txid().to_byte_array());
    holds(
        coinbase_branch.root(id).0 == header[36..68],
        "its parent has the coinbase",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(mark: u8) -> Hash {
        Hash([mark; 32])
    }

    #[test]
    fn roots_are_those_of_bitcoin() {
        let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(leaf);
        let of = |leaves: &[Hash]| merkle_root(leaves);
        assert_eq!(of(&[a]), a);
        assert_eq!(of(&[a, b]), pair(&a, &b));
        assert_eq!(of(&[a, b, c]), pair(&pair(&a, &b), &pair(&c, &c)));
        let left = pair(&pair(&a, &b), &pair(&c, &d));
        let right = pair(&pair(&e, &e), &pair(&e, &e));
        assert_eq!(of(&[a, b, c, d, e]), pair(&left, &right));
    }

    /// The bytes of rule 4.1, written out.
    #[test]
    fn the_commitment_has_the_bytes_of_the_protocol() {
        let range = [leaf(3), leaf(4)];
        let commitment = Commitment {
            genesis: leaf(1),
            chain_id: 21_212,
            sequence: 7,
            range: &range,
            miner: Address([2; 20]),
        };
        let mut bytes = vec![11];
        bytes.extend(b"alys/auxpow");
        bytes.extend([1; 32]);
        bytes.extend([0xdc, 0x52]);
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([3; 32]);
        bytes.extend([4; 32]);
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(pair(&range[0], &range[1]).0);
        bytes.extend([2; 20]);
        assert_eq!(commitment.hash(), Some(double(&bytes)));
        let empty = Commitment {
            range: &[],
            ..commitment
        };
        assert_eq!(empty.hash(), None);
    }

    #[test]
    fn a_tree_of_one_chain_has_one_slot() {
        assert_eq!(slot(77, 21_212, 0), 0);
        // By hand: 12345 + 1 steps to 12346 * 1103515245 + 12345 modulo 2^32.
        assert_eq!(
            slot(0, 1, 30),
            (12_346_u64 * 1_103_515_245 + 12_345) as u32 & 0x3fff_ffff
        );
    }

    #[test]
    fn bytes_that_are_no_proof_are_named() {
        for bytes in [&[][..], &[1; 90], &[0; 600_000]] {
            assert!(check(bytes, leaf(1), 21_212, U256::MAX).is_err());
        }
    }
}
