//! Alterations of proofs of work. No node forwards an altered one: it is of no use to any, or
//! breaks a rule.

use alys_types::wire::WorkProof;

use super::answers::Change;
use super::certificates::flip_hash;

/// Bytes of a parent header, the last part of an AuxPoW, and those of the Merkle root in it.
const HEADER_BYTES: usize = 80;
const ROOT_AT: usize = 36;

pub const WORK: &[(&str, Change<WorkProof>)] = &[
    ("sequence", |proof, _| proof.sequence += 1),
    ("range-start", |proof, _| flip_hash(&mut proof.range_start)),
    ("range-end", |proof, _| flip_hash(&mut proof.range_end)),
    ("count.more", |proof, _| proof.count += 1),
    ("count.zero", |proof, _| proof.count = 0),
    ("miner", |proof, _| proof.miner.0[0] ^= 1),
    ("auxpow.merkle-root", |proof, _| {
        let at = proof.auxpow.len().saturating_sub(HEADER_BYTES) + ROOT_AT;
        if let Some(byte) = proof.auxpow.get_mut(at) {
            *byte ^= 1;
        }
    }),
    ("auxpow.coinbase", |proof, _| {
        if let Some(byte) = proof.auxpow.first_mut() {
            *byte ^= 1;
        }
    }),
    ("auxpow.longer", |proof, _| proof.auxpow.push(0)),
    ("auxpow.empty", |proof, _| proof.auxpow.clear()),
];
