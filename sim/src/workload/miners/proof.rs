//! Proofs of merged mining as a pool makes them: coinbase, branches and parent header, of the
//! `bitcoin` crate and of arithmetic of its own.

use alloy_primitives::U256;
use alys_runtime::sim::Rng;
use alys_types::Hash;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{VarInt, serialize};
use bitcoin::hashes::{Hash as _, HashEngine, sha256d};
use bitcoin::transaction::Version as TransactionVersion;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness,
};

const MAGIC: [u8; 4] = [0xfa, 0xbe, 0x6d, 0x6d];
/// Bytes of a nonce that pools put into a coinbase, at most.
const MOST_EXTRA_NONCE: u64 = 8;
/// Time of a parent header; no rule reads it.
const PARENT_TIME: u32 = 1_700_000_000;
/// Bits of a parent header, those of Bitcoin's block 1; no rule reads them.
const PARENT_BITS: u32 = 0x1d00_ffff;
/// A version with BIP 9 bits, which is the chain id 0x2000.
const PARENT_VERSION: i32 = 0x2000_0000;
/// Subsidy of the parent block in satoshi.
const SUBSIDY: u64 = 312_500_000;

/// The form of a proof, within the freedom that the format leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Levels of the parent's tree of transactions.
    pub coinbase_levels: usize,
    /// Levels of the tree of chains.
    pub chain_levels: usize,
    /// The tag is in an output script, as some pools write it.
    pub is_in_output: bool,
    /// Tags of other chains and a witness commitment are in outputs.
    pub has_other_tags: bool,
    /// The coinbase has a witness, which its id does not cover.
    pub has_witness: bool,
}

impl Shape {
    /// The simplest form.
    pub const PLAIN: Self = Self {
        coinbase_levels: 0,
        chain_levels: 0,
        is_in_output: false,
        has_other_tags: false,
        has_witness: false,
    };

    /// Draws a form.
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            coinbase_levels: [0, 1, 5, 12][rng.below(4) as usize],
            chain_levels: [0, 0, 1, 4][rng.below(4) as usize],
            is_in_output: rng.below(3) == 0,
            has_other_tags: rng.below(2) == 0,
            has_witness: rng.below(2) == 0,
        }
    }
}

/// A branch of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Siblings from the leaf up, in internal order.
    pub hashes: Vec<[u8; 32]>,
    pub index: u32,
}

impl Branch {
    fn draw(rng: &mut Rng, levels: usize, index: u32) -> Self {
        let hashes = (0..levels).map(|_| draw_hash(rng)).collect();
        Self { hashes, index }
    }

    /// The root above a leaf.
    pub fn fold(&self, leaf: [u8; 32]) -> [u8; 32] {
        let mut index = u64::from(self.index);
        self.hashes.iter().fold(leaf, |at, sibling| {
            let is_odd = index % 2 == 1;
            index /= 2;
            if is_odd {
                both(sibling, &at)
            } else {
                both(&at, sibling)
            }
        })
    }
}

fn both(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(left);
    engine.input(right);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

fn draw_hash(rng: &mut Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&rng.below(u64::MAX).to_le_bytes()[..part.len()]);
    }
    bytes
}

/// A proof whose parts can be changed one by one; [`Draft::seal`] makes the later parts follow the
/// earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    shape: Shape,
    /// The commitment of the work, in internal order.
    pub work: [u8; 32],
    pub chain_id: u16,
    /// Number in the tag from which the slot follows.
    pub nonce: u32,
    /// The magic and everything after it, as scripts have it.
    pub tag: Vec<u8>,
    extra_nonce: Vec<u8>,
    pub coinbase: Transaction,
    pub coinbase_branch: Branch,
    pub chain_branch: Branch,
    pub header: Header,
}

impl Draft {
    /// A proof of this work, in a parent block with other chains and transactions, without work.
    pub fn new(work: Hash, chain_id: u16, shape: Shape, rng: &mut Rng) -> Self {
        let nonce = rng.below(1 << 32) as u32;
        let extra_nonce = 1 + rng.below(MOST_EXTRA_NONCE);
        let extra_nonce = (0..extra_nonce).map(|_| rng.below(256) as u8).collect();
        let index = slot(nonce, chain_id, shape.chain_levels);
        let coinbase_branch = Branch::draw(rng, shape.coinbase_levels, 0);
        let chain_branch = Branch::draw(rng, shape.chain_levels, index);
        let header = Header {
            version: Version::from_consensus(PARENT_VERSION),
            prev_blockhash: BlockHash::from_byte_array(draw_hash(rng)),
            merkle_root: TxMerkleNode::all_zeros(),
            time: PARENT_TIME,
            bits: CompactTarget::from_consensus(PARENT_BITS),
            nonce: rng.below(1 << 32) as u32,
        };
        let mut draft = Self {
            shape,
            work: work.0,
            chain_id,
            nonce,
            tag: Vec::new(),
            extra_nonce,
            coinbase: Transaction {
                version: TransactionVersion::ONE,
                lock_time: LockTime::ZERO,
                input: Vec::new(),
                output: Vec::new(),
            },
            coinbase_branch,
            chain_branch,
            header,
        };
        draft.write_tag();
        draft
    }

    /// Writes the tag of the work, and everything that follows from it.
    pub fn write_tag(&mut self) {
        let mut root = self.chain_branch.fold(self.work);
        root.reverse();
        let size = 1_u32 << self.chain_branch.hashes.len().min(31);
        self.tag = [
            MAGIC.as_slice(),
            &root,
            &size.to_le_bytes(),
            &self.nonce.to_le_bytes(),
        ]
        .concat();
        self.write_coinbase();
    }

    /// Writes the coinbase around the tag, and everything that follows from it.
    pub fn write_coinbase(&mut self) {
        // The height of the parent block, as BIP 34 demands it, and an extra nonce.
        let mut script = vec![3, 0x40, 0x0d, 0x0c];
        if !self.shape.is_in_output {
            script.push(self.tag.len().min(75) as u8);
            script.extend(&self.tag);
        }
        script.extend(&self.extra_nonce);
        let mut witness = Witness::new();
        if self.shape.has_witness {
            witness.push([0; 32]);
        }
        let output = |value, script: Vec<u8>| TxOut {
            value: Amount::from_sat(value),
            script_pubkey: ScriptBuf::from_bytes(script),
        };
        let op_return = |data: &[u8]| {
            let length = data.len().min(75) as u8;
            output(0, [&[0x6a, length], data].concat())
        };
        let payee = [&[0, 20], [7; 20].as_slice()].concat();
        let mut outputs = vec![output(SUBSIDY, payee)];
        if self.shape.has_other_tags {
            outputs.push(op_return(&[b"RSKBLOCK:".as_slice(), &[0x5a; 32]].concat()));
            let commitment = [[0xaa, 0x21, 0xa9, 0xed].as_slice(), &[3; 32]].concat();
            outputs.push(op_return(&commitment));
        }
        if self.shape.is_in_output {
            outputs.push(op_return(&self.tag));
        }
        self.coinbase.input = vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence::MAX,
            witness,
        }];
        self.coinbase.output = outputs;
        self.write_header();
    }

    /// Writes the Merkle root of the coinbase into the header.
    pub fn write_header(&mut self) {
        let id = self.coinbase.compute_txid().to_byte_array();
        let root = self.coinbase_branch.fold(id);
        self.header.merkle_root = TxMerkleNode::from_byte_array(root);
    }

    /// The hash of the header as a number.
    pub fn found(&self) -> U256 {
        U256::from_le_bytes(self.header.block_hash().to_byte_array())
    }

    /// Tries nonces until `is_wanted` holds for the hash, at most `most`. Returns true if it does.
    pub fn grind(&mut self, most: u32, is_wanted: impl Fn(U256) -> bool) -> bool {
        for _ in 0..most {
            if is_wanted(self.found()) {
                return true;
            }
            self.header.nonce = self.header.nonce.wrapping_add(1);
        }
        false
    }

    /// The proof in Namecoin's encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serialize(&self.coinbase);
        bytes.extend(self.header.block_hash().to_byte_array());
        for branch in [&self.coinbase_branch, &self.chain_branch] {
            bytes.extend(serialize(&VarInt::from(branch.hashes.len())));
            branch.hashes.iter().for_each(|hash| bytes.extend(hash));
            bytes.extend(branch.index.to_le_bytes());
        }
        bytes.extend(serialize(&self.header));
        bytes
    }
}

/// The slot of a chain in a tree of 2^`levels` chains, as pools compute it.
pub fn slot(nonce: u32, chain_id: u16, levels: usize) -> u32 {
    let mut number = nonce;
    number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
    number = number.wrapping_add(u32::from(chain_id));
    number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
    number % (1 << levels)
}
