//! Messages between nodes, typed, with their limits and decoders. `net` carries them as bytes.

use serde::{Deserialize, Serialize};

use crate::bls::{self, PublicKeyBytes, SecretKey, Signature};
use crate::codec::{self, DecodeError};
use crate::hash::{tagged, tags};
use crate::limits::{
    MAX_AUXPOW_BYTES, MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_CERTIFICATE_BYTES,
    MAX_PROPOSAL_BYTES, MAX_RANGE_BYTES, MAX_RECEIPTS_BYTES, MAX_STATUS_BYTES,
    MAX_TRANSACTIONS_BYTES, MAX_VOTE_BYTES, MAX_WORK_PROOF_BYTES,
};
use crate::vote::ChainId;
use crate::{
    Address, AuthoritySet, Block, Certificate, ForkId, Hash, Header, Height, Slot, Vote, bounded,
};

/// A proposal: the block and its leader's signature (topic `blocks`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub block: Block,
    /// Kind `Proposal`, signed by the leader of the block's slot.
    pub vote: Vote,
}

/// A header with its certificate: of approvals (certified) or of confirmations (final).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedHeader {
    pub header: Header,
    /// Unchecked: it may be about another header.
    pub certificate: Certificate,
}

/// A confirmation with the certificate that it is about (topic `confirmations`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Kind `Confirmation`.
    pub vote: Vote,
    /// The approvals that made the voter confirm.
    pub certified: CertifiedHeader,
}

/// Identity and position of a node, exchanged on every new connection and on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Genesis hash; a different one ends the connection.
    pub genesis: Hash,
    /// Rules in force; one that does not fit the own upgrades ends the connection.
    pub fork_id: ForkId,
    /// Height of the execution head.
    pub head_height: Height,
    /// Hash of the execution head.
    pub head: Hash,
    /// The highest certificate; `None` while it is genesis.
    pub highest: Option<CertifiedHeader>,
    /// The last finality certificate; `None` while it is genesis.
    pub finalized: Option<CertifiedHeader>,
    /// Proof of the sender's key, if it is an authority: it asks for the votes held of this key.
    pub authority: Option<AuthorityProof>,
    /// The slot that the sender's wall clock is in, which confirms the clock of an authority that
    /// starts (rule 3.9).
    pub slot: Slot,
}

/// Proof that the node with a peer id holds an authority's key: a signature over the peer id. It
/// needs no nonce, because the encryption of a connection proves the peer id, so no other peer can
/// use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityProof {
    pub key: PublicKeyBytes,
    /// Over the chain and the peer id; see [`Self::sign`].
    pub signature: Signature,
}

/// The reason for which a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityProofError {
    #[error("{key} is the key of no authority of the set")]
    NoAuthority { key: PublicKeyBytes },
    /// Among others a proof for another peer or another chain.
    #[error(transparent)]
    Signature(#[from] bls::Error),
}

impl AuthorityProof {
    /// `peer` is the encoded peer id of the node that holds `key`.
    pub fn sign(key: &SecretKey, chain: &ChainId, peer: &[u8]) -> AuthorityProof {
        AuthorityProof {
            key: key.public_key().to_bytes(),
            signature: key.sign(&Self::message(chain, peer).0),
        }
    }

    /// Checks that the key is a member of `set` and signed for `peer`.
    pub fn verify(
        &self,
        set: &AuthoritySet,
        chain: &ChainId,
        peer: &[u8],
    ) -> Result<(), AuthorityProofError> {
        let index = set.index_of(&self.key);
        let key = index
            .and_then(|index| set.key(index))
            .ok_or(AuthorityProofError::NoAuthority { key: self.key })?;
        bls::verify(&[key], &Self::message(chain, peer).0, &self.signature)?;
        Ok(())
    }

    fn message(chain: &ChainId, peer: &[u8]) -> Hash {
        tagged(
            tags::AUTHORITY_PEER,
            &[
                &chain.evm.to_le_bytes(),
                &chain.genesis.0,
                &(peer.len() as u64).to_le_bytes(),
                peer,
            ],
        )
    }
}

/// The latest votes held of an authority. A node that lost its vote state notices the loss by them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldVotes {
    pub approval: Option<Vote>,
    pub confirmation: Option<Vote>,
}

/// Answer to a status request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    pub status: Status,
    /// The latest votes held of the authority in the request.
    pub held: HeldVotes,
}

/// Request for the blocks `start ..= start + count - 1` of the peer's certified chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    pub start: Height,
    /// At most [`crate::limits::MAX_RANGE_BLOCKS`].
    pub count: u64,
}

/// Consecutive headers; each is certified by the next one's parent certificate, the last by `tip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRange {
    /// Ascending, without gaps.
    pub headers: Vec<Header>,
    /// Certificate of the last header; `None` only when `headers` is empty.
    pub tip: Option<Certificate>,
    /// Federation changes of the range, by height.
    pub changes: Vec<(Height, crate::Order)>,
    /// The peer's highest finality certificate of a header in the range, or its last one.
    pub finalized: Option<CertifiedHeader>,
}

/// Consecutive blocks, certified like a [`HeaderRange`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRange {
    /// Ascending, without gaps.
    pub blocks: Vec<Block>,
    /// Certificate of the last block; `None` only when `blocks` is empty.
    pub tip: Option<Certificate>,
    /// The peer's highest finality certificate of a block in the range, or its last one.
    pub finalized: Option<CertifiedHeader>,
}

/// Receipts of a block, in the order of its transactions, EIP-2718 encoded. Unchecked: the receipts
/// root of the block decides (docs/protocol.md, rule 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockReceipts(
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_BLOCK_TRANSACTIONS>")] pub Vec<Vec<u8>>,
);

/// A proof of work over a range of final blocks that no block carries yet (topic `work`).
/// Unchecked. It has no commitment, because its receiver knows the blocks of the range (rule 4.1,
/// docs/protocol.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkProof {
    /// Number of the proof, from 1.
    pub sequence: u64,
    /// Oldest block of the range.
    pub range_start: Hash,
    /// Newest block of the range.
    pub range_end: Hash,
    /// Number of blocks of the range.
    pub count: u32,
    /// EVM address that the work pays.
    pub miner: Address,
    /// `CAuxPow` in Namecoin's encoding.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_AUXPOW_BYTES>")]
    pub auxpow: Vec<u8>,
}

/// Users' transactions, EIP-2718 encoded (topic `transactions`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions(pub Vec<Vec<u8>>);

/// A message with a limit on its encoding.
pub trait Message: Serialize + serde::de::DeserializeOwned {
    /// Largest encoding, in bytes.
    const LIMIT: usize;

    /// The canonical encoding.
    fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes at most [`Self::LIMIT`] bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::LIMIT)
    }
}

macro_rules! message {
    ($($name:ty = $limit:expr),* $(,)?) => {$(
        impl Message for $name {
            const LIMIT: usize = $limit;
        }
    )*};
}

message!(
    Proposal = MAX_PROPOSAL_BYTES,
    Vote = MAX_VOTE_BYTES,
    Confirmation = MAX_VOTE_BYTES,
    CertifiedHeader = MAX_CERTIFICATE_BYTES,
    Status = MAX_STATUS_BYTES,
    StatusAnswer = MAX_STATUS_BYTES,
    RangeRequest = 64,
    HeaderRange = MAX_BLOCK_BYTES,
    BlockRange = MAX_RANGE_BYTES,
    Hash = 64,
    Option<BlockReceipts> = MAX_RECEIPTS_BYTES,
    Vec<Hash> = 8 * 1024,
    Vec<Block> = MAX_RANGE_BYTES,
    Transactions = MAX_TRANSACTIONS_BYTES,
    WorkProof = MAX_WORK_PROOF_BYTES,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, FaultModel};

    #[test]
    fn the_largest_proof_of_work_is_within_its_limit() {
        let proof = WorkProof {
            sequence: u64::MAX,
            range_start: Hash([1; 32]),
            range_end: Hash([2; 32]),
            count: u32::MAX,
            miner: Address([3; 20]),
            auxpow: vec![4; MAX_AUXPOW_BYTES],
        };
        let bytes = proof.encode();
        assert!(bytes.len() <= WorkProof::LIMIT, "{} bytes", bytes.len());
        assert_eq!(WorkProof::decode(&bytes).as_ref(), Ok(&proof));
        let longer = WorkProof {
            auxpow: vec![4; MAX_AUXPOW_BYTES + 1],
            ..proof
        };
        assert!(WorkProof::decode(&longer.encode()).is_err());
    }

    fn key(index: u8) -> SecretKey {
        SecretKey::derive(&[index + 1; 32])
    }

    #[test]
    fn only_an_authority_proves_its_own_peer_id() {
        let authorities = (0..2).map(|index| Authority {
            public_key: key(index).public_key().to_bytes(),
            proof_of_possession: key(index).prove_possession(),
            fee_address: Address([index; 20]),
        });
        let set = AuthoritySet::new(authorities.collect(), FaultModel::Byzantine);
        let set = set.expect("a good set");
        let chain = |evm| ChainId {
            evm,
            genesis: Hash([7; 32]),
        };
        let proof = AuthorityProof::sign(&key(1), &chain(1), b"mine");
        let stolen = AuthorityProof {
            key: key(0).public_key().to_bytes(),
            ..proof
        };
        let stranger = AuthorityProof::sign(&key(2), &chain(1), b"mine");
        let mismatch = AuthorityProofError::Signature(bls::Error::Mismatch);
        let no_authority = AuthorityProofError::NoAuthority { key: stranger.key };
        let table = [
            (proof, 1, "mine", Ok(())),
            (proof, 1, "others", Err(mismatch)),
            (proof, 2, "mine", Err(mismatch)),
            (stolen, 1, "mine", Err(mismatch)),
            (stranger, 1, "mine", Err(no_authority)),
        ];
        for (row, (proof, evm, peer, expected)) in table.into_iter().enumerate() {
            let found = proof.verify(&set, &chain(evm), peer.as_bytes());
            assert_eq!(found, expected, "row {row}");
        }
    }
}
