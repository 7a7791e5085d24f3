//! The queue of verified proofs of work that no final block carries yet. The AuxPowActor decides
//! about its content and its order, and the StorageActor bounds and stores it.

use std::collections::BTreeSet;

use alys_storage::schema::{self, MAX_PROOFS};
use alys_storage::{BlockStore, Error};
use alys_types::Hash;

/// A proof in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProof {
    /// Commitment of its work.
    pub commitment: Hash,
    /// Encoded by the AuxPowActor.
    pub bytes: Vec<u8>,
}

/// The queue has no room for a proof, or the proof is too long. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("{MAX_PROOFS} proofs wait for a block: remove one first")]
    Count,
    #[error("a proof of {bytes} bytes, at most {limit}")]
    Proof { bytes: usize, limit: usize },
}

/// The commitments of the stored proofs, so that the bound needs no read of them.
pub(super) struct ProofQueue(BTreeSet<Hash>);

impl ProofQueue {
    pub(super) fn open(blocks: &BlockStore) -> Result<ProofQueue, Error> {
        let proofs = blocks.proofs()?.into_iter();
        Ok(ProofQueue(
            proofs.map(|(commitment, _)| commitment).collect(),
        ))
    }

    /// Counts a proof that is about to be written, in place of one with its commitment.
    pub(super) fn admit(&mut self, proof: &StoredProof) -> Result<(), NoRoom> {
        let bytes = proof.bytes.len();
        let limit = schema::value_limit(schema::PROOFS, &proof.commitment.0);
        if bytes > limit {
            return Err(NoRoom::Proof { bytes, limit });
        }
        if self.0.len() >= MAX_PROOFS && !self.0.contains(&proof.commitment) {
            return Err(NoRoom::Count);
        }
        self.0.insert(proof.commitment);
        Ok(())
    }

    /// Removes those that are there, and lists them.
    pub(super) fn remove(&mut self, commitments: &[Hash]) -> Vec<Hash> {
        let stored = commitments.iter().copied();
        stored.filter(|hash| self.0.remove(hash)).collect()
    }
}

/// Reads the queue.
pub(super) fn stored(blocks: &BlockStore) -> Result<Vec<StoredProof>, Error> {
    let proofs = blocks.proofs()?.into_iter();
    let proof = |(commitment, bytes)| StoredProof { commitment, bytes };
    Ok(proofs.map(proof).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(index: u8, bytes: usize) -> StoredProof {
        StoredProof {
            commitment: Hash([index; 32]),
            bytes: vec![index; bytes],
        }
    }

    #[test]
    fn the_queue_is_bounded_in_count_and_a_proof_in_bytes() {
        let mut queue = ProofQueue(BTreeSet::new());
        let limit = schema::value_limit(schema::PROOFS, &[0; 32]);
        for index in 0..MAX_PROOFS as u8 {
            assert_eq!(queue.admit(&proof(index, limit)), Ok(()));
        }
        let more = proof(200, 1);
        assert_eq!(queue.admit(&more), Err(NoRoom::Count));
        assert_eq!(queue.admit(&proof(3, 1)), Ok(()), "in place of another");
        let bytes = limit + 1;
        let long = proof(3, bytes);
        assert_eq!(queue.admit(&long), Err(NoRoom::Proof { bytes, limit }));
        let removed = queue.remove(&[Hash([3; 32]), Hash([3; 32]), more.commitment]);
        assert_eq!(removed, [Hash([3; 32])]);
        assert_eq!(queue.admit(&more), Ok(()));
        assert!(MAX_PROOFS * limit <= 40 << 20, "the memory of an answer");
    }
}
