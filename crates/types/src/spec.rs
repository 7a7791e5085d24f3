//! The chain spec and the genesis block that it determines (protocol sections 1 and 2).

mod bounds;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bls::{self, PublicKey, PublicKeyBytes};
use crate::federation::{self, AuthoritySet};
use crate::forks::{ForkId, ForkMismatch, Forks, Upgrade};
use crate::hash::{Hash, tagged, tags};
use crate::limits::{MAX_GAS_LIMIT, MAX_GOVERNANCE_KEYS};
use crate::peg::{BitcoinKey, FederationScript};
use crate::vote::ChainId;
use crate::{Address, Authority, FaultModel, FeeRate, Header, Height, Sats, Slot, bounded, codec};

/// Newest header version that this release knows.
pub const HEADER_VERSION: u16 = 1;

/// Types of transactions that this release knows (EIP-2718, 0 for legacy ones). Blob transactions
/// (type 3) would need sidecars, which there are none of (rule 2.3).
pub const TRANSACTION_TYPES: [u8; 3] = [0, 1, 2];

/// Burned fees and gifts go to this address, which has no known key; the bridge contract forwards
/// its receipts there.
pub const BURN_ADDRESS: Address = {
    let mut address = [0; 20];
    address[18] = 0xde;
    address[19] = 0xad;
    Address(address)
};

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

/// The parameters that all nodes of a chain share. The genesis hash covers all of them but
/// `upgrades`, `drift_allowance_ms` and `rejoin_margin`. [`bounds`] has the bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    pub evm_chain_id: u64,
    /// Slot of genesis: the launch, not the making of the file.
    pub start_slot: Slot,
    #[serde(default = "default_slot_ms")]
    pub slot_duration_ms: u64,
    #[serde(default = "default_fault_model")]
    pub fault_model: FaultModel,
    /// Tolerated difference between clocks, in milliseconds.
    #[serde(default = "default_drift_ms")]
    pub drift_allowance_ms: u64,
    /// Slots for which a node that lost its vote state stays silent, beyond the highest slot that
    /// its lost votes can be of (rule 3.8).
    #[serde(default = "default_rejoin_margin")]
    pub rejoin_margin: u64,
    /// Highest gas limit of a payload (rule 2.5).
    #[serde(default = "default_max_gas_limit")]
    pub max_gas_limit: u64,
    /// Hash of execution block 0, computed from the execution genesis file beside the spec.
    pub execution_genesis_hash: Hash,
    /// Header versions and transaction types by height (rule 2.2). Nodes may learn of an upgrade
    /// long after genesis.
    #[serde(default = "default_upgrades")]
    pub upgrades: Vec<Upgrade>,
    /// The first federation, by index.
    pub authorities: Vec<Authority>,
    #[serde(default)]
    pub governance: GovernanceSpec,
    pub bitcoin: BitcoinSpec,
    #[serde(default)]
    pub peg: PegSpec,
    #[serde(default)]
    pub auxpow: AuxPowSpec,
}

fn default_slot_ms() -> u64 {
    2000
}

fn default_fault_model() -> FaultModel {
    FaultModel::Byzantine
}

fn default_drift_ms() -> u64 {
    500
}

fn default_rejoin_margin() -> u64 {
    1800
}

fn default_max_gas_limit() -> u64 {
    MAX_GAS_LIMIT
}

fn default_upgrades() -> Vec<Upgrade> {
    vec![Upgrade {
        height: Height(0),
        header_version: HEADER_VERSION,
        transaction_types: TRANSACTION_TYPES.to_vec(),
    }]
}

impl ChainSpec {
    /// The spec of a development chain: Bitcoin's regtest, a federation that never changes, no gate
    /// (rule 4.6), and a short AuxPoW spacing.
    pub fn development(
        evm_chain_id: u64,
        start_slot: Slot,
        slot_duration_ms: u64,
        execution_genesis_hash: Hash,
        authorities: Vec<Authority>,
    ) -> ChainSpec {
        ChainSpec {
            evm_chain_id,
            start_slot,
            slot_duration_ms,
            fault_model: default_fault_model(),
            // A quarter of a slot where that is less than the usual half second.
            drift_allowance_ms: (slot_duration_ms / 4).min(default_drift_ms()),
            rejoin_margin: default_rejoin_margin(),
            max_gas_limit: default_max_gas_limit(),
            execution_genesis_hash,
            upgrades: default_upgrades(),
            authorities,
            governance: GovernanceSpec::default(),
            bitcoin: BitcoinSpec::regtest(),
            peg: PegSpec::default(),
            auxpow: AuxPowSpec {
                spacing: DEVELOPMENT_SPACING.max(two_slots(slot_duration_ms)),
                max_blocks_without_pow: 0,
                ..AuxPowSpec::default()
            },
        }
    }

    /// The encoding of the fields that the genesis hash covers.
    fn fixed_part(&self) -> Vec<u8> {
        let ChainSpec {
            evm_chain_id,
            start_slot,
            slot_duration_ms,
            fault_model,
            drift_allowance_ms: _,
            rejoin_margin: _,
            max_gas_limit,
            execution_genesis_hash,
            upgrades: _,
            authorities,
            governance,
            bitcoin,
            peg,
            auxpow,
        } = self;
        codec::encode(&(
            (evm_chain_id, start_slot, slot_duration_ms, fault_model),
            (
                max_gas_limit,
                execution_genesis_hash,
                authorities,
                governance,
            ),
            (bitcoin, peg, auxpow),
        ))
    }
}

/// Seconds between proofs on a development chain, so that a user sees several in a minute.
const DEVELOPMENT_SPACING: u64 = 20;

/// The keys that order changes of the federation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct GovernanceSpec {
    /// Number of signatures that make an order; 0 without keys: the federation never changes.
    pub threshold: u8,
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_GOVERNANCE_KEYS>")]
    pub keys: Vec<PublicKeyBytes>,
}

/// A network of Bitcoin, by the name that Bitcoin Core's option `-chain` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BitcoinNetwork {
    Main,
    Test,
    Testnet4,
    Signet,
    /// A chain for development: some bounds are off, and accounts may have balances at genesis.
    Regtest,
}

impl BitcoinNetwork {
    /// True for development chains.
    pub fn is_development(self) -> bool {
        self == BitcoinNetwork::Regtest
    }
}

impl fmt::Display for BitcoinNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BitcoinNetwork::Main => "main",
            BitcoinNetwork::Test => "test",
            BitcoinNetwork::Testnet4 => "testnet4",
            BitcoinNetwork::Signet => "signet",
            BitcoinNetwork::Regtest => "regtest",
        })
    }
}

/// The Bitcoin chain that deposits come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitcoinSpec {
    pub network: BitcoinNetwork,
    /// Deposits are in blocks above this height.
    pub start: u32,
    /// Depth at which deposits and payouts count.
    #[serde(default = "default_confirmations")]
    pub required_confirmations: u32,
    /// The first script of the federation.
    pub epoch_0: FederationScript,
}

fn default_confirmations() -> u32 {
    6
}

impl BitcoinSpec {
    /// Regtest from its first block, with a script whose secret keys are 1, 2 and 3.
    pub fn regtest() -> BitcoinSpec {
        let keys = [
            "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
            "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
        ];
        let key = |hex: &str| -> BitcoinKey { hex.parse().expect("the text above is hex") };
        BitcoinSpec {
            network: BitcoinNetwork::Regtest,
            start: 0,
            required_confirmations: default_confirmations(),
            epoch_0: FederationScript {
                threshold: 2,
                keys: keys.map(key).to_vec(),
            },
        }
    }
}

/// Peg constants (protocol section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PegSpec {
    /// Smallest output that is a deposit.
    pub min_deposit: Sats,
    /// Smallest burn that is accepted.
    pub min_peg_out: Sats,
    /// Smallest change of a payout, and the size from which an output counts as large.
    pub min_change: Sats,
    /// Most burns in a payout.
    pub max_burns: u16,
    /// Most inputs of a payout.
    pub max_inputs: u16,
    /// Outputs that the federation's coins are split into.
    pub utxo_target: u16,
    pub fee_floor: FeeRate,
    pub fee_ceiling: FeeRate,
    /// Rate that a version pays beyond the one before.
    pub incremental_rate: FeeRate,
    /// Largest fee of a payout, in parts of 10,000 of its payments.
    pub max_fee_share: u16,
    /// Seconds for which a leader's fee estimate counts.
    pub statement_age: u64,
    /// Age of a burn, in seconds, from which none is paid before it.
    pub hold_after: u64,
    /// Age of a version, in seconds, at which the next one follows the rate.
    pub replace_after: u64,
    /// Age of a version, in seconds, at which the next one pays more in any case.
    pub escalate_after: u64,
}

impl Default for PegSpec {
    fn default() -> Self {
        PegSpec {
            min_deposit: Sats(100_000),
            min_peg_out: Sats(1_000_000),
            min_change: Sats(1_000_000),
            max_burns: 50,
            max_inputs: 90,
            utxo_target: 8,
            fee_floor: FeeRate(1_000),
            fee_ceiling: FeeRate(500_000),
            incremental_rate: FeeRate(1_000),
            max_fee_share: 2_500,
            statement_age: 86_400,
            hold_after: 7_200,
            replace_after: 1_800,
            escalate_after: 86_400,
        }
    }
}

/// AuxPoW constants (protocol section 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawAuxPowSpec")]
pub struct AuxPowSpec {
    /// AuxPoW chain id, not the EVM's.
    pub chain_id: u16,
    /// Easiest compact target.
    pub limit_bits: u32,
    /// Compact target before the first proof.
    pub anchor_bits: u32,
    /// Seconds between proofs.
    pub spacing: u64,
    /// ASERT half life in seconds.
    pub half_life: u64,
    /// Most blocks that one proof covers.
    pub max_range: u32,
    /// Final blocks without proof of work after which the gate closes (rule 4.6); 0: no gate.
    pub max_blocks_without_pow: u64,
}

/// [`AuxPowSpec`] in a file: `anchor_bits` may be left out and is then the limit.
#[derive(Deserialize)]
#[serde(rename = "AuxPowSpec", deny_unknown_fields, default)]
struct RawAuxPowSpec {
    chain_id: u16,
    limit_bits: u32,
    anchor_bits: Option<u32>,
    spacing: u64,
    half_life: u64,
    max_range: u32,
    max_blocks_without_pow: u64,
}

impl Default for RawAuxPowSpec {
    fn default() -> Self {
        RawAuxPowSpec {
            chain_id: 21_212,
            limit_bits: 0x207f_ffff,
            anchor_bits: None,
            spacing: 60,
            half_life: 600,
            max_range: 4_096,
            max_blocks_without_pow: 600,
        }
    }
}

impl From<RawAuxPowSpec> for AuxPowSpec {
    fn from(raw: RawAuxPowSpec) -> AuxPowSpec {
        AuxPowSpec {
            chain_id: raw.chain_id,
            limit_bits: raw.limit_bits,
            anchor_bits: raw.anchor_bits.unwrap_or(raw.limit_bits),
            spacing: raw.spacing,
            half_life: raw.half_life,
            max_range: raw.max_range,
            max_blocks_without_pow: raw.max_blocks_without_pow,
        }
    }
}

impl Default for AuxPowSpec {
    fn default() -> Self {
        RawAuxPowSpec::default().into()
    }
}

impl AuxPowSpec {
    /// The values of a new chain with slots of this length: the gate closes when twenty proofs are
    /// missing.
    pub fn of_slots(slot_duration_ms: u64) -> AuxPowSpec {
        let standard = AuxPowSpec::default();
        let spacing = standard.spacing.max(two_slots(slot_duration_ms));
        AuxPowSpec {
            max_blocks_without_pow: spacing
                .saturating_mul(20_000)
                .checked_div(slot_duration_ms)
                .unwrap_or(standard.max_blocks_without_pow),
            spacing,
            ..standard
        }
    }
}

/// The shortest spacing of proofs, in seconds: a proof needs a final block of its own.
fn two_slots(slot_duration_ms: u64) -> u64 {
    slot_duration_ms.saturating_mul(2).div_ceil(1000)
}

/// A checked spec with its genesis block.
#[derive(Debug, Clone)]
pub struct Genesis {
    spec: ChainSpec,
    header: Header,
    hash: Hash,
    set: AuthoritySet,
    governance: Vec<PublicKey>,
    forks: Forks,
}

impl Genesis {
    /// Checks a spec: keys, proofs of possession, bounds. Errors name the field.
    pub fn new(spec: ChainSpec) -> Result<Genesis, SpecError> {
        bounds::check(&spec)?;
        Genesis::of(spec)
    }

    /// Skips the bounds of section 10, for tests whose clock must stand in one slot.
    #[cfg(feature = "unchecked-spec")]
    pub fn without_bounds(spec: ChainSpec) -> Result<Genesis, SpecError> {
        Genesis::of(spec)
    }

    fn of(spec: ChainSpec) -> Result<Genesis, SpecError> {
        let set = AuthoritySet::new(spec.authorities.clone(), spec.fault_model)?;
        let keys = spec.governance.keys.iter().enumerate();
        let governance = keys.map(|(index, key)| {
            PublicKey::try_from(*key).map_err(|source| SpecError::GovernanceKey { index, source })
        });
        let governance = governance.collect::<Result<Vec<_>, _>>()?;
        let header = Header {
            version: rules_at(&spec.upgrades, Height(0)).header_version,
            evm_chain_id: spec.evm_chain_id,
            genesis_hash: Hash::ZERO,
            height: Height(0),
            slot: spec.start_slot,
            proposer: 0,
            parent_hash: Hash::ZERO,
            parent_certificate: None,
            execution_hash: spec.execution_genesis_hash,
            body_hash: tagged(tags::SPEC, &[&spec.fixed_part()]),
            set_hash: set.hash(),
            ledger_hash: empty_ledger_hash(),
        };
        let hash = header.hash();
        Ok(Genesis {
            forks: Forks::new(&hash, &spec.upgrades),
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

    /// The upgrade in force at a height: header version and transaction types.
    pub fn upgrade(&self, height: Height) -> &Upgrade {
        rules_at(&self.spec.upgrades, height)
    }

    /// The fork id of a node whose head is at a height.
    pub fn fork_id(&self, head: Height) -> ForkId {
        self.forks.at(head)
    }

    /// Checks the fork id of a peer; the own head is at `head`.
    pub fn check_fork_id(&self, theirs: &ForkId, head: Height) -> Result<(), ForkMismatch> {
        self.forks.check(theirs, head)
    }
}

/// The row of a checked table that is in force at a height.
fn rules_at(upgrades: &[Upgrade], height: Height) -> &Upgrade {
    let passed = upgrades.iter().rev().find(|row| row.height <= height);
    passed.expect("a checked table begins with height 0")
}

/// The reason for which a spec is refused; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A value that breaks its bound.
    #[error("{field}: must be {bound}, found {found}")]
    Bound {
        field: &'static str,
        bound: String,
        found: String,
    },
    #[error(
        "governance.threshold: must be from 1 to the number of keys ({keys}, at most 15), \
         found {threshold}; no keys and threshold 0 mean a fixed federation, in development only"
    )]
    Threshold { keys: usize, threshold: usize },
    #[error("governance.keys[{index}]: {source}")]
    GovernanceKey { index: usize, source: bls::Error },
    #[error(
        "bitcoin.epoch_0.threshold: must be from 1 to the number of keys ({keys}, at most 15), found {threshold}"
    )]
    ScriptThreshold { keys: usize, threshold: usize },
    #[error("bitcoin.epoch_0.keys[{index}]: not a compressed secp256k1 public key (33 bytes)")]
    ScriptKey { index: usize },
    #[error("bitcoin.epoch_0.keys[{index}]: the same key stands earlier in the list")]
    DuplicateScriptKey { index: usize },
    #[error("upgrades: the first one must have height 0")]
    NoFirstUpgrade,
    #[error("upgrades[{index}].height: heights must rise")]
    UpgradeOrder { index: usize },
    #[error(
        "upgrades[{index}].header_version: this program knows 1 to {HEADER_VERSION}, found \
         {found}; use a newer release"
    )]
    UpgradeVersion { index: usize, found: u16 },
    #[error(
        "upgrades[{index}].transaction_types: must be one or more of 0, 1 and 2, ascending, found \
         {found:?}"
    )]
    UpgradeTypes { index: usize, found: Vec<u8> },
    #[error(transparent)]
    Federation(#[from] federation::Error),
}
