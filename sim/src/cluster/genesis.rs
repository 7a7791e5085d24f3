//! The chain of a simulated world: the authorities' keys, derived from their numbers, and both
//! genesis files as values.

use std::sync::Arc;

use alys_integrations::embedded::execution::{CoreConfig, ExecutionCore, PoolConfig};
use alys_integrations::http::JwtSecret;
use alys_storage::MemoryStore;
use alys_types::bls::SecretKey;
use alys_types::spec::{AuxPowSpec, GovernanceSpec};
use alys_types::{Authority, ChainSpec, Genesis, Slot};
use serde_json::json;

use super::governance::{self, Governance};
use crate::params::accounts::{CHAIN_ID, DUST_USER, user_address, user_funds};
use crate::params::{Stack, Stranger, WorkloadPlan, WorldPlan};

/// Slots between proofs.
const SPACING_SLOTS: u64 = 6;
/// Spacings in the half life of the difficulty.
const HALF_LIFE_SPACINGS: u64 = 6;
/// Target before the first proof: one hash in 16 meets it, one in two the limit.
const ANCHOR_BITS: u32 = 0x200f_ffff;

#[derive(Debug, Clone)]
pub struct Chain {
    /// The checked spec.
    pub genesis: Arc<Genesis>,
    /// Block 0 of the execution chain.
    pub execution: alloy_genesis::Genesis,
    /// The configuration of the execution clients.
    pub execution_core: CoreConfig,
    /// `None` if the spec has no keys of governance.
    pub governance: Option<Governance>,
}

/// The block-signing key of the authority `index`, from 0.
pub fn authority_key(index: u8) -> SecretKey {
    let entropy = [index + 1; 32];
    if Stack::is_fast() {
        return SecretKey::derive_stand_in(&entropy);
    }
    SecretKey::derive(&entropy)
}

/// The authority `index`, from 0, as a spec or a change of the federation names it.
pub fn authority(index: u8) -> Authority {
    let key = authority_key(index);
    Authority {
        public_key: key.public_key().to_bytes(),
        proof_of_possession: key.prove_possession(),
        fee_address: alys_types::Address([index + 1; 20]),
    }
}

/// The JWT secret that an authority's node shares with its execution client.
pub fn jwt_secret(index: u8) -> JwtSecret {
    JwtSecret::new([0x40 + index; 32])
}

impl Chain {
    /// Builds the chain of a plan; it starts with the slot of `now_ms`.
    pub fn new(plan: &WorldPlan, workload: &WorkloadPlan, now_ms: u64) -> Self {
        let start_slot = Slot::at(now_ms, plan.slot_ms);
        let mut funded: Vec<u8> = (0..workload.users).collect();
        if plan.strangers.contains(&Stranger::Dust) {
            funded.push(DUST_USER);
        }
        let timestamp = start_slot.timestamp(plan.slot_ms);
        let execution = execution_genesis(workload, &funded, timestamp);
        let core = ExecutionCore::open(
            Arc::new(MemoryStore::new()),
            &execution,
            CoreConfig::default(),
        );
        let core = core.expect("the genesis below is one that the embedded client takes");
        let authorities = (0..plan.authorities()).map(authority).collect();
        let execution_hash = core.genesis_hash().into();
        let development = ChainSpec::development(
            CHAIN_ID,
            start_slot,
            plan.slot_ms,
            execution_hash,
            authorities,
        );
        let spec = ChainSpec {
            fault_model: plan.fault_model,
            drift_allowance_ms: plan.drift_ms,
            rejoin_margin: plan.rejoin_margin,
            governance: if plan.governance {
                governance::spec()
            } else {
                GovernanceSpec::default()
            },
            auxpow: proof_of_work(plan, development.auxpow.clone()),
            ..development
        };
        let genesis = Genesis::new(spec).expect("plans are checked to give a good spec");
        let pool = PoolConfig {
            max_transactions: workload.pool,
            max_per_sender: (workload.pool / 2).max(1),
            max_queued_per_sender: (workload.pool / 8).max(1),
            ..PoolConfig::default()
        };
        let execution_core = CoreConfig {
            pool,
            ..CoreConfig::default()
        };
        Self {
            governance: plan.governance.then(|| Governance::new(genesis.hash())),
            genesis: Arc::new(genesis),
            execution,
            execution_core,
        }
    }
}

/// Constants of proof of work with which targets change within a run, and a handful of hashes is a
/// proof.
fn proof_of_work(plan: &WorldPlan, development: AuxPowSpec) -> AuxPowSpec {
    let spacing = (SPACING_SLOTS * plan.slot_ms).div_ceil(1_000);
    AuxPowSpec {
        anchor_bits: ANCHOR_BITS,
        spacing,
        half_life: HALF_LIFE_SPACINGS * spacing,
        max_range: plan.max_range(),
        max_blocks_without_pow: plan.gate,
        ..development
    }
}

fn execution_genesis(
    workload: &WorkloadPlan,
    funded: &[u8],
    timestamp: u64,
) -> alloy_genesis::Genesis {
    let mut alloc = serde_json::Map::new();
    for user in funded {
        let funds = format!("{:#x}", user_funds());
        alloc.insert(user_address(*user).to_string(), json!({ "balance": funds }));
    }
    let beacon_roots = alloy_eips::eip4788::BEACON_ROOTS_CODE.to_string();
    let contract = json!({ "balance": "0x0", "nonce": "0x1", "code": beacon_roots });
    alloc.insert(
        alloy_eips::eip4788::BEACON_ROOTS_ADDRESS.to_string(),
        contract,
    );
    let genesis = json!({
        "config": {
            "chainId": CHAIN_ID,
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": true, "shanghaiTime": 0, "cancunTime": 0,
        },
        "nonce": "0x0", "timestamp": format!("{timestamp:#x}"), "extraData": "0x",
        "gasLimit": format!("{:#x}", workload.block_gas), "difficulty": "0x0", "alloc": alloc,
    });
    serde_json::from_value(genesis).expect("the genesis above is well-formed")
}
