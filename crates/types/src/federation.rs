//! The federation: authorities, fault model, quorum, leaders (protocol section 1).

use serde::{Deserialize, Serialize};

use crate::bls::{self, PublicKey, PublicKeyBytes, Signature};
use crate::hash::{Hash, tagged, tags};
use crate::limits::MAX_AUTHORITIES;
use crate::{Address, Slot, codec};

/// An authority in a spec or a federation change, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// BLS public key, 48 bytes.
    pub public_key: PublicKeyBytes,
    /// Proof of possession of the key, 96 bytes.
    pub proof_of_possession: Signature,
    /// EVM address of the authority's share of the fees.
    pub fee_address: Address,
}

/// The faults that a federation tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultModel {
    /// Up to `floor((n-1)/3)` authorities behave arbitrarily.
    Byzantine,
    /// Up to `floor((n-1)/2)` authorities stop, and restart with their disks.
    Crash,
}

impl FaultModel {
    /// Number of `n` authorities that may be faulty.
    pub fn tolerated(self, n: usize) -> usize {
        match self {
            FaultModel::Byzantine => n.saturating_sub(1) / 3,
            FaultModel::Crash => n.saturating_sub(1) / 2,
        }
    }
}

/// The checked authorities of one height, in order. Made only by [`AuthoritySet::new`], which
/// checks every key and every proof of possession.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySet {
    authorities: Vec<Authority>,
    keys: Vec<PublicKey>,
    fault_model: FaultModel,
    hash: Hash,
}

impl AuthoritySet {
    /// Checks 1 to 15 distinct authorities.
    pub fn new(
        authorities: Vec<Authority>,
        fault_model: FaultModel,
    ) -> Result<AuthoritySet, Error> {
        if authorities.is_empty() || authorities.len() > MAX_AUTHORITIES {
            return Err(Error::Count {
                found: authorities.len(),
            });
        }
        let mut keys: Vec<PublicKey> = Vec::with_capacity(authorities.len());
        for (index, authority) in authorities.iter().enumerate() {
            let key = PublicKey::try_from(authority.public_key)
                .map_err(|source| Error::Key { index, source })?;
            key.verify_possession(&authority.proof_of_possession)
                .map_err(|source| Error::Possession { index, source })?;
            if keys.contains(&key) {
                return Err(Error::Duplicate { index });
            }
            keys.push(key);
        }
        let hash = tagged(tags::SET, &[&codec::encode(&authorities)]);
        Ok(AuthoritySet {
            authorities,
            keys,
            fault_model,
            hash,
        })
    }

    /// Number of authorities, 1 to 15.
    pub fn len(&self) -> usize {
        self.authorities.len()
    }

    /// Always false; clippy expects it beside `len`.
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// Votes that make a certificate: `n - f`.
    pub fn quorum(&self) -> usize {
        self.len().saturating_sub(self.tolerated())
    }

    /// Number of authorities that may be faulty.
    pub fn tolerated(&self) -> usize {
        self.fault_model.tolerated(self.len())
    }

    pub fn fault_model(&self) -> FaultModel {
        self.fault_model
    }

    /// Index of the authority `slot mod n`; `alys_consensus::rules` has the rule.
    pub fn leader(&self, slot: Slot) -> u8 {
        let index = slot.0.checked_rem(self.len() as u64);
        index.expect("a set has at least one authority") as u8
    }

    /// The checked key at an index.
    pub fn key(&self, index: u8) -> Option<&PublicKey> {
        self.keys.get(usize::from(index))
    }

    pub fn index_of(&self, key: &PublicKeyBytes) -> Option<u8> {
        self.authorities
            .iter()
            .position(|a| a.public_key == *key)
            .map(|i| i as u8)
    }

    /// In the order of their indices.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Identifies the set: a hash over its authorities, in order.
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

/// The reason for which authorities do not make a federation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer than 1 or more than 15.
    #[error("authorities: a federation has 1 to 15 authorities, found {found}")]
    Count { found: usize },
    /// Not a key.
    #[error("authorities[{index}].public_key: {source}")]
    Key { index: usize, source: bls::Error },
    /// The proof of possession is not the key's.
    #[error("authorities[{index}].proof_of_possession: {source}; make it with `alys keys show`")]
    Possession { index: usize, source: bls::Error },
    /// The key stands earlier in the list.
    #[error("authorities[{index}].public_key: the same key stands earlier in the list")]
    Duplicate { index: usize },
}
