//! A parent block for miners that mine no other chain: a coinbase with the commitment and nothing
//! else. Its proof is one of merged mining like any other.

use alys_types::Hash;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};

use crate::auxpow::{AuxPow, Branch};
use crate::hashing::{reversed, sha256d};
use crate::rules::MAGIC;
use crate::target::Target;

/// Version with the BIP 9 marker, as blocks of Bitcoin have. Its upper half is an auxpow chain id
/// that rule 4.3 excludes.
const VERSION: i32 = 0x2000_0000;
/// Offset of the nonce, the last field of a header.
const NONCE_AT: usize = 76;

/// A parent block that is being mined.
#[derive(Debug, Clone)]
pub struct Template {
    proof: AuxPow,
    header: [u8; 80],
    next_nonce: Option<u32>,
}

impl Template {
    /// A parent block with the commitment of some work, in internal order. `extra` tells miners of
    /// the same work apart, so that no two try the same hashes. `time` is in seconds.
    pub fn new(commitment: Hash, time: u32, extra: u64) -> Template {
        let mut script = vec![8];
        script.extend(extra.to_le_bytes());
        script.extend(MAGIC);
        script.extend(reversed(commitment).0);
        // One chain: a tree of one leaf, for which every nonce gives slot 0.
        script.extend(1_u32.to_le_bytes());
        script.extend(0_u32.to_le_bytes());
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let output = TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::new(),
        };
        let coinbase = Transaction {
            version: transaction::Version::ONE,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: vec![output],
        };
        let alone = Branch {
            hashes: Vec::new(),
            index: 0,
        };
        let merkle_root = TxMerkleNode::from_byte_array(coinbase.compute_txid().to_byte_array());
        let proof = AuxPow {
            coinbase,
            block_hash: Hash::ZERO,
            coinbase_branch: alone.clone(),
            chain_branch: alone,
            parent: Header {
                version: Version::from_consensus(VERSION),
                prev_blockhash: BlockHash::all_zeros(),
                merkle_root,
                time,
                bits: CompactTarget::from_consensus(0),
                nonce: 0,
            },
        };
        let mut header = [0; 80];
        header.copy_from_slice(&encode::serialize(&proof.parent));
        Template {
            proof,
            header,
            next_nonce: Some(0),
        }
    }

    /// Tries up to `tries` hashes. Returns the proof if one meets the target, and the number of
    /// hashes; fewer than `tries` without a proof when all nonces were tried.
    pub fn grind(&mut self, target: Target, tries: u32) -> (Option<AuxPow>, u32) {
        let mut tried = 0_u32;
        while tried < tries
            && let Some(nonce) = self.next_nonce
        {
            self.next_nonce = nonce.checked_add(1);
            tried = tried.saturating_add(1);
            if let Some((_, field)) = self.header.split_at_mut_checked(NONCE_AT) {
                field.copy_from_slice(&nonce.to_le_bytes());
            }
            if target.is_met_by(sha256d(&[&self.header])) {
                let mut proof = self.proof.clone();
                proof.parent.nonce = nonce;
                return (Some(proof), tried);
            }
        }
        (None, tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bits, Demand, VerifiedAuxPow};

    #[test]
    fn a_ground_template_is_a_proof_of_its_commitment() {
        let commitment = Hash([7; 32]);
        let target = Bits::new(0x200f_ffff).expect("canonical").target();
        let mut template = Template::new(commitment, 1_700_000_000, 9);
        let (first, tried) = template.grind(target, 1_000);
        let first = first.expect("a hash in 16 meets it");
        let (second, _) = template.grind(target, 1_000);
        assert_ne!(second.as_ref(), Some(&first), "nonces are not repeated");
        assert!((1..=1_000).contains(&tried));
        for proof in [first, second.expect("a hash in 16 meets it")] {
            let bytes = proof.encode();
            let demand = Demand {
                chain_id: 21_212,
                commitment,
                target,
            };
            let decoded = AuxPow::decode(&bytes).expect("one encoding");
            assert_eq!(decoded, proof);
            assert!(VerifiedAuxPow::new(decoded, demand).is_ok());
        }
    }

    #[test]
    fn a_template_ends_with_its_nonces() {
        let mut template = Template::new(Hash([7; 32]), 0, 0);
        template.next_nonce = Some(u32::MAX - 1);
        let (proof, tried) = template.grind(Target::ONE, 5);
        assert_eq!((proof, tried), (None, 2));
        assert_eq!(template.grind(Target::ONE, 5), (None, 0));
    }

    #[test]
    fn miners_of_the_same_work_have_other_headers() {
        let header = |extra| Template::new(Hash([7; 32]), 0, extra).header;
        assert_ne!(header(1), header(2));
    }
}
