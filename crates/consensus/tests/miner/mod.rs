//! A miner: the smallest proof of a work offer, a parent block with nothing but its coinbase.

#![allow(dead_code, reason = "each file of tests uses a part")]

use alys_consensus::{HeldProof, WorkOffer};
use alys_pow::{AuxPow, Bits, Branch, Bundle, Work, reversed};
use alys_types::{Address, Genesis, Hash};
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};

pub const MINER: Address = Address([0x77; 20]);

/// The proof of the whole offer.
pub fn mine(genesis: &Genesis, offer: &WorkOffer) -> HeldProof {
    mine_for(
        genesis,
        offer,
        MINER,
        Bits::new(offer.bits).expect("canonical"),
    )
}

pub fn mine_for(genesis: &Genesis, offer: &WorkOffer, miner: Address, bits: Bits) -> HeldProof {
    let chain_id = genesis.spec().auxpow.chain_id;
    let bundle = Bundle::new(
        genesis.hash(),
        chain_id,
        offer.sequence,
        &offer.range,
        miner,
    )
    .expect("an offer is a bundle");
    let work = Work::new(bundle, bits);
    let proof = prove(&work);
    HeldProof {
        sequence: offer.sequence,
        range_start: bundle.start,
        range_end: bundle.end,
        count: bundle.count,
        miner,
        auxpow: proof.encode(),
        work: proof.parent_hash(),
    }
}

fn prove(work: &Work) -> AuxPow {
    let mut script = vec![0xfa, 0xbe, 0x6d, 0x6d];
    script.extend(reversed(work.commitment).0);
    script.extend(1_u32.to_le_bytes());
    script.extend(0_u32.to_le_bytes());
    let coinbase = Transaction {
        version: transaction::Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::new(),
        }],
    };
    let root = TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash());
    let mut proof = AuxPow {
        coinbase,
        block_hash: Hash::ZERO,
        coinbase_branch: Branch {
            hashes: Vec::new(),
            index: 0,
        },
        chain_branch: Branch {
            hashes: Vec::new(),
            index: 0,
        },
        parent: Header {
            version: Version::ONE,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: root,
            time: 0,
            bits: CompactTarget::from_consensus(work.bits.get()),
            nonce: 0,
        },
    };
    let target = work.bits.target();
    while !target.is_met_by(proof.parent_hash()) {
        proof.parent.nonce += 1;
    }
    proof
}
