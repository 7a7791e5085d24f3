//! The chain spec and the genesis block that it determines (protocol sections 1 and 2).

use serde::{Deserialize, Serialize};

use crate::bls::{self, PublicKey, PublicKeyBytes};
use crate::federation::{self, AuthoritySet};
use crate::hash::{Hash, tagged, tags};
use crate::limits::{MAX_GOVERNANCE_KEYS, MIN_SLOT_DURATION_MS};
use crate::vote::ChainId;
use crate::{Address, Authority, FaultModel, Header, Height, Sats, Slot, codec};

/// Header version of this release.
pub const HEADER_VERSION: u16 = 1;

/// Types of transactions that a payload may contain (EIP-2718, 0 for legacy ones), until the spec
/// has an upgrade table. Blob transactions (type 3) would need sidecars, which are not built.
pub const TRANSACTION_TYPES: [u8; 3] = [0, 1, 2];

/// The type of an encoded transaction; `None` if no transaction begins with its first byte.
pub fn transaction_type(encoded: &[u8]) -> Option<u8> {
    match *encoded.first()? {
        // The head of an RLP list, which a legacy transaction is.
        0xc0..=0xfe => Some(0),
        kind @ 0x01..=0x7f => Some(kind),
        _ => None,
    }
}

/// The address that collects priority fees. Derived by hashing, so that its key does not exist.
pub fn vault_address() -> Address {
    let hash = tagged(tags::VAULT, &[]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash.0[12..]);
    Address(address)
}

/// Hash of the peg ledger before its first entry.
pub fn empty_ledger_hash() -> Hash {
    tagged(tags::LEDGER, &[])
}

/// `prev_randao` of a block: not a source of security.
pub fn prev_randao(parent: &Hash, slot: Slot) -> Hash {
    tagged(tags::RANDAO, &[&parent.0, &slot.0.to_le_bytes()])
}

/// The parameters that all nodes of a chain share. The genesis hash covers all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    pub evm_chain_id: u64,
    /// Slot of genesis: the launch, not the making of the file.
    pub start_slot: Slot,
    /// Milliseconds, at least [`MIN_SLOT_DURATION_MS`].
    pub slot_duration_ms: u64,
    pub fault_model: FaultModel,
    /// Tolerated difference between clocks, in milliseconds; below the slot duration.
    #[serde(default = "default_drift_ms")]
    pub drift_allowance_ms: u64,
    /// Slots for which a node that lost its vote state stays silent, beyond the highest slot that
    /// its lost votes can be of (rule 3.8).
    #[serde(default = "default_rejoin_margin")]
    pub rejoin_margin: u64,
    /// Hash of execution block 0, computed from the execution genesis file beside the spec.
    pub execution_genesis_hash: Hash,
    /// The first federation, by index.
    pub authorities: Vec<Authority>,
    pub governance: GovernanceSpec,
    #[serde(default)]
    pub peg: PegSpec,
    #[serde(default)]
    pub auxpow: AuxPowSpec,
}

fn default_drift_ms() -> u64 {
    500
}

fn default_rejoin_margin() -> u64 {
    1800
}

/// The keys that order changes of the federation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct GovernanceSpec {
    /// Number of signatures that make an order; 0 without keys: the federation never changes.
    pub threshold: u8,
    pub keys: Vec<PublicKeyBytes>,
}

/// Peg constants (protocol section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PegSpec {
    /// Bitcoin depth at which deposits and payouts count.
    pub required_confirmations: u32,
    /// Smallest output that is a deposit.
    pub min_deposit: Sats,
    /// Smallest burn that is accepted.
    pub min_peg_out: Sats,
}

impl Default for PegSpec {
    fn default() -> Self {
        PegSpec {
            required_confirmations: 6,
            min_deposit: Sats(10_000),
            min_peg_out: Sats(1_000_000),
        }
    }
}

/// AuxPoW constants (protocol section 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuxPowSpec {
    /// AuxPoW chain id. Never 8192, because Bitcoin headers of version 0x20000000 carry that id.
    pub chain_id: u16,
    /// Easiest compact target.
    pub limit_bits: u32,
    /// Seconds between proofs.
    pub spacing_secs: u64,
    /// ASERT half life in seconds.
    pub half_life_secs: u64,
    /// Final blocks without proof of work after which the gate closes (rule 4.6); 0: no gate.
    pub max_blocks_without_pow: u64,
}

impl Default for AuxPowSpec {
    fn default() -> Self {
        AuxPowSpec {
            chain_id: 21_212,
            limit_bits: 0x207f_ffff,
            spacing_secs: 60,
            half_life_secs: 3600,
            max_blocks_without_pow: 0,
        }
    }
}

/// A checked spec with its genesis block.
#[derive(Debug, Clone)]
pub struct Genesis {
    spec: ChainSpec,
    header: Header,
    hash: Hash,
    set: AuthoritySet,
    governance: Vec<PublicKey>,
}

impl Genesis {
    /// Checks a spec: keys, proofs of possession, ranges. Errors name the field.
    pub fn new(spec: ChainSpec) -> Result<Genesis, SpecError> {
        if spec.evm_chain_id == 0 {
            return Err(SpecError::EvmChainId);
        }
        if spec.slot_duration_ms < MIN_SLOT_DURATION_MS {
            return Err(SpecError::SlotDuration {
                found: spec.slot_duration_ms,
            });
        }
        if spec.drift_allowance_ms >= spec.slot_duration_ms {
            return Err(SpecError::Drift {
                found: spec.drift_allowance_ms,
                slot: spec.slot_duration_ms,
            });
        }
        if spec.auxpow.chain_id == 8192 {
            return Err(SpecError::AuxPowChainId);
        }
        let keys = spec.governance.keys.len();
        let threshold = usize::from(spec.governance.threshold);
        if keys > MAX_GOVERNANCE_KEYS || threshold > keys || (threshold == 0) != (keys == 0) {
            return Err(SpecError::Threshold { keys, threshold });
        }
        let set = AuthoritySet::new(spec.authorities.clone(), spec.fault_model)?;
        let governance = spec
            .governance
            .keys
            .iter()
            .enumerate()
            .map(|(index, key)| {
                PublicKey::try_from(*key)
                    .map_err(|source| SpecError::GovernanceKey { index, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let header = Header {
            version: HEADER_VERSION,
            evm_chain_id: spec.evm_chain_id,
            genesis_hash: Hash::ZERO,
            height: Height(0),
            slot: spec.start_slot,
            proposer: 0,
            parent_hash: Hash::ZERO,
            parent_certificate: None,
            execution_hash: spec.execution_genesis_hash,
            body_hash: tagged(tags::SPEC, &[&codec::encode(&spec)]),
            set_hash: set.hash(),
            ledger_hash: empty_ledger_hash(),
        };
        let hash = header.hash();
        Ok(Genesis {
            spec,
            header,
            hash,
            set,
            governance,
        })
    }

    pub fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// The header of block 0.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The genesis hash: the block hash of block 0.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The authorities from height 1 on, until a change.
    pub fn set(&self) -> &AuthoritySet {
        &self.set
    }

    /// The governance keys, checked.
    pub fn governance(&self) -> &[PublicKey] {
        &self.governance
    }

    /// The chain that votes are bound to.
    pub fn chain_id(&self) -> ChainId {
        ChainId {
            evm: self.spec.evm_chain_id,
            genesis: self.hash,
        }
    }

    /// Identifies the rules in force; a connection to a peer with another fork id ends. No upgrade
    /// is scheduled.
    pub fn fork_id(&self) -> Hash {
        tagged(
            tags::FORK_ID,
            &[&self.hash.0, &u64::from(HEADER_VERSION).to_le_bytes()],
        )
    }
}

/// The reason for which a spec is refused; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// EIP-155 has no signatures for chain 0, so no transaction would be valid.
    #[error("evm_chain_id: must be above 0")]
    EvmChainId,
    #[error("slot_duration_ms: must be at least 1000, found {found}")]
    SlotDuration { found: u64 },
    #[error("drift_allowance_ms: must be below slot_duration_ms ({slot}), found {found}")]
    Drift { found: u64, slot: u64 },
    #[error("auxpow.chain_id: 8192 is the chain id of ordinary Bitcoin headers; choose another")]
    AuxPowChainId,
    #[error(
        "governance.threshold: must be from 1 to the number of keys ({keys}, at most 15), \
         found {threshold}; no keys and threshold 0 mean a fixed federation"
    )]
    Threshold { keys: usize, threshold: usize },
    #[error("governance.keys[{index}]: {source}")]
    GovernanceKey { index: usize, source: bls::Error },
    #[error(transparent)]
    Federation(#[from] federation::Error),
}
