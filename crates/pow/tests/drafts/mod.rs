//! Proofs for tests: built as a pool builds them, with the values of a draft, which may be wrong.

#![allow(dead_code, reason = "each test uses its part")]

use alys_pow::rules::{MAGIC, expected_slot};
use alys_pow::{AuxPow, Bits, Branch, Demand, Target, reversed};
use alys_types::Hash;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};

/// Half of all hashes meet it.
pub const EASY_BITS: u32 = 0x207f_ffff;
/// Nonces that are tried; each meets [`EASY_BITS`] with a chance of one half.
const TRIES: u32 = 64;

/// A proof to be built. `None` is the right value.
#[derive(Debug, Clone)]
pub struct Draft {
    pub chain_id: u16,
    pub commitment: Hash,
    pub chain_siblings: Vec<Hash>,
    pub coinbase_siblings: Vec<Hash>,
    pub nonce: u32,
    pub inputs: usize,
    pub outputs: usize,
    /// The script that holds the tag, among those of inputs and then outputs.
    pub tag_script: usize,
    pub before_tag: Vec<u8>,
    pub after_tag: Vec<u8>,
    /// Scripts without the tag, by their places.
    pub others: Vec<(usize, Vec<u8>)>,
    pub magic: Vec<u8>,
    pub root: Option<Hash>,
    pub size: Option<u32>,
    /// Bytes of root, size and nonce that are left out.
    pub cut: usize,
    pub chain_index: Option<u32>,
    pub coinbase_index: u32,
    pub merkle_root: Option<Hash>,
    pub version: i32,
    pub has_witness: bool,
    pub is_mined: bool,
}

impl Default for Draft {
    fn default() -> Draft {
        Draft {
            chain_id: 21_212,
            commitment: Hash([0x11; 32]),
            chain_siblings: vec![Hash([0x22; 32]); 3],
            coinbase_siblings: vec![Hash([0x33; 32]); 5],
            nonce: 7,
            inputs: 1,
            outputs: 2,
            tag_script: 0,
            before_tag: vec![3, 1, 2, 3],
            after_tag: b"/pool/".to_vec(),
            others: Vec::new(),
            magic: MAGIC.to_vec(),
            root: None,
            size: None,
            cut: 0,
            chain_index: None,
            coinbase_index: 0,
            merkle_root: None,
            version: 0x2000_0000,
            has_witness: false,
            is_mined: true,
        }
    }
}

impl Draft {
    /// The facts that the proof should agree with.
    pub fn demand(&self) -> Demand {
        Demand {
            chain_id: self.chain_id,
            commitment: self.commitment,
            target: easy(),
        }
    }

    /// The branch of the commitment, in its slot.
    pub fn chain_branch(&self) -> Branch {
        let slot = expected_slot(self.nonce, self.chain_id, self.chain_siblings.len());
        Branch {
            hashes: self.chain_siblings.clone(),
            index: self.chain_index.unwrap_or(slot),
        }
    }

    /// The tag, with the bytes around it.
    fn tagged_script(&self) -> Vec<u8> {
        let root = self
            .root
            .unwrap_or_else(|| self.chain_branch().fold(self.commitment));
        let levels = self.chain_siblings.len() as u32;
        let size = self.size.unwrap_or(1_u32.checked_shl(levels).unwrap_or(0));
        let mut tag = reversed(root).0.to_vec();
        tag.extend(size.to_le_bytes());
        tag.extend(self.nonce.to_le_bytes());
        tag.truncate(tag.len() - self.cut);
        [&self.before_tag, &self.magic, &tag, &self.after_tag]
            .map(|part| part.as_slice())
            .concat()
    }

    fn script(&self, place: usize) -> ScriptBuf {
        if place == self.tag_script {
            return self.tagged_script().into();
        }
        let other = self.others.iter().find(|(other, _)| *other == place);
        other
            .map_or_else(|| vec![0x51, place as u8], |(_, bytes)| bytes.clone())
            .into()
    }

    fn coinbase(&self) -> Transaction {
        let mut witness = Witness::new();
        if self.has_witness {
            witness.push([0; 32]);
        }
        let input = (0..self.inputs).map(|place| TxIn {
            previous_output: OutPoint::null(),
            script_sig: self.script(place),
            sequence: Sequence::MAX,
            witness: witness.clone(),
        });
        let output = (0..self.outputs).map(|place| TxOut {
            value: Amount::from_sat(place as u64),
            script_pubkey: self.script(self.inputs + place),
        });
        Transaction {
            version: transaction::Version::ONE,
            lock_time: LockTime::ZERO,
            input: input.collect(),
            output: output.collect(),
        }
    }

    /// The proof.
    pub fn build(&self) -> AuxPow {
        let mut proof = AuxPow {
            coinbase: self.coinbase(),
            block_hash: Hash([0x44; 32]),
            coinbase_branch: Branch {
                hashes: self.coinbase_siblings.clone(),
                index: self.coinbase_index,
            },
            chain_branch: self.chain_branch(),
            parent: Header {
                version: Version::from_consensus(self.version),
                prev_blockhash: BlockHash::all_zeros(),
                merkle_root: TxMerkleNode::all_zeros(),
                time: 1_700_000_000,
                bits: CompactTarget::from_consensus(0x1703_4219),
                nonce: 0,
            },
        };
        let root = proof.coinbase_branch.fold(proof.coinbase_id());
        let root = self.merkle_root.unwrap_or(root);
        proof.parent.merkle_root = TxMerkleNode::from_byte_array(root.0);
        let found = (0..TRIES).find(|nonce| {
            proof.parent.nonce = *nonce;
            easy().is_met_by(proof.parent_hash()) == self.is_mined
        });
        assert!(found.is_some(), "{TRIES} coins fell on the same side");
        proof
    }
}

/// The target of [`EASY_BITS`].
pub fn easy() -> Target {
    Bits::new(EASY_BITS).expect("canonical").target()
}
