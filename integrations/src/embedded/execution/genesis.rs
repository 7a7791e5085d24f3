//! Chain rules and the genesis block, from a Geth genesis file.

use super::{
    error::Error,
    state::{Ancestors, Overlay, StateDb, StateUpdate},
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, constants::EMPTY_WITHDRAWALS};
use alloy_eips::eip1559::{BaseFeeParams, INITIAL_BASE_FEE};
use alloy_genesis::Genesis;
use alloy_primitives::{B64, B256, Bloom, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use revm::{bytecode::Bytecode, primitives::hardfork::SpecId, state::AccountInfo};

/// Geth's default gas limit of a genesis file.
const DEFAULT_GAS_LIMIT: u64 = 4_712_388;

/// The fork in force at a time, which determines the Engine API's method versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fork {
    /// The merge (V1 methods).
    Paris,
    /// Adds withdrawals (V2 methods).
    Shanghai,
    /// Adds the parent beacon block root and blob fields (V3 methods).
    Cancun,
}

/// The settings of a genesis file that apply to all blocks.
#[derive(Debug, Clone)]
pub struct ChainRules {
    /// The chain id of EIP-155 signatures.
    pub chain_id: u64,
    /// Unix time in seconds from which Shanghai is in force.
    pub shanghai_time: Option<u64>,
    /// Unix time in seconds from which Cancun is in force.
    pub cancun_time: Option<u64>,
}

impl ChainRules {
    /// # Errors
    /// [`Error::UnsupportedGenesis`] for a fork after Cancun, for blocks before London or the
    /// merge, and for forks out of order.
    pub fn new(genesis: &Genesis) -> Result<Self, Error> {
        let config = &genesis.config;
        let unsupported = |reason: &str| {
            Err(Error::UnsupportedGenesis {
                reason: reason.to_owned(),
            })
        };
        let later = [
            config.prague_time,
            config.osaka_time,
            config.amsterdam_time,
            config.bogota_time,
            config.bpo1_time,
            config.bpo2_time,
            config.bpo3_time,
            config.bpo4_time,
            config.bpo5_time,
        ];
        if later.iter().any(Option::is_some) {
            return unsupported("a fork after Cancun is scheduled");
        }
        let number = genesis.number.unwrap_or_default();
        if number != 0 {
            return unsupported("the first block must have number 0");
        }
        let blocks = [
            config.homestead_block,
            config.eip150_block,
            config.eip155_block,
            config.eip158_block,
            config.byzantium_block,
            config.constantinople_block,
            config.petersburg_block,
            config.istanbul_block,
            config.berlin_block,
            config.london_block,
        ];
        if blocks.iter().any(|block| *block != Some(0)) {
            return unsupported("all forks up to London must be at block 0");
        }
        let merged = config.terminal_total_difficulty_passed
            || config
                .terminal_total_difficulty
                .is_some_and(|total| total <= genesis.difficulty);
        if !merged {
            return unsupported(
                "the merge must have happened at genesis (terminalTotalDifficulty 0)",
            );
        }
        match (config.shanghai_time, config.cancun_time) {
            (None, Some(_)) => return unsupported("Cancun needs Shanghai"),
            (Some(shanghai), Some(cancun)) if cancun < shanghai => {
                return unsupported("Cancun comes before Shanghai");
            }
            (Some(_), Some(_)) | (_, None) => {}
        }
        Ok(Self {
            chain_id: config.chain_id,
            shanghai_time: config.shanghai_time,
            cancun_time: config.cancun_time,
        })
    }

    /// The fork in force at a timestamp in seconds.
    pub fn fork_at(&self, timestamp: u64) -> Fork {
        let active = |time: Option<u64>| time.is_some_and(|time| time <= timestamp);
        if active(self.cancun_time) {
            Fork::Cancun
        } else if active(self.shanghai_time) {
            Fork::Shanghai
        } else {
            Fork::Paris
        }
    }

    pub(crate) fn spec_at(&self, timestamp: u64) -> SpecId {
        match self.fork_at(timestamp) {
            Fork::Paris => SpecId::MERGE,
            Fork::Shanghai => SpecId::SHANGHAI,
            Fork::Cancun => SpecId::CANCUN,
        }
    }

    /// The parameters of EIP-1559, equal on all supported forks.
    pub(crate) fn base_fee_params(&self) -> BaseFeeParams {
        crate::interceptor::base_fee_params()
    }
}

/// The genesis header and state, by Geth's rules.
pub(crate) fn genesis_block(
    db: &StateDb,
    rules: &ChainRules,
    genesis: &Genesis,
) -> Result<(Header, StateUpdate), Error> {
    let mut overlay = Overlay::new(db, EMPTY_ROOT_HASH, &NoAncestors);
    for (address, account) in &genesis.alloc {
        let mut info = AccountInfo {
            balance: account.balance,
            nonce: account.nonce.unwrap_or_default(),
            ..AccountInfo::default()
        };
        if let Some(code) = account.non_empty_code() {
            info.set_code(Bytecode::new_legacy(code.clone()));
        }
        let storage = account
            .storage
            .iter()
            .flatten()
            .map(|(slot, value)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0)));
        overlay.insert(*address, info, storage)?;
    }
    let state = db.apply(EMPTY_ROOT_HASH, &overlay.into_changes())?;
    let fork = rules.fork_at(genesis.timestamp);
    let base_fee = genesis.base_fee_per_gas.unwrap_or(INITIAL_BASE_FEE.into());
    let base_fee = u64::try_from(base_fee).map_err(|_| Error::UnsupportedGenesis {
        reason: "base fee above 64 bits".to_owned(),
    })?;
    let header = Header {
        parent_hash: genesis.parent_hash.unwrap_or_default(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: genesis.coinbase,
        state_root: state.root,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        logs_bloom: Bloom::ZERO,
        difficulty: genesis.difficulty,
        number: 0,
        gas_limit: if genesis.gas_limit == 0 {
            DEFAULT_GAS_LIMIT
        } else {
            genesis.gas_limit
        },
        gas_used: 0,
        timestamp: genesis.timestamp,
        extra_data: genesis.extra_data.clone(),
        mix_hash: genesis.mix_hash,
        nonce: B64::from(genesis.nonce),
        base_fee_per_gas: Some(base_fee),
        withdrawals_root: (fork >= Fork::Shanghai).then_some(EMPTY_WITHDRAWALS),
        blob_gas_used: (fork >= Fork::Cancun).then(|| genesis.blob_gas_used.unwrap_or_default()),
        excess_blob_gas: (fork >= Fork::Cancun)
            .then(|| genesis.excess_blob_gas.unwrap_or_default()),
        parent_beacon_block_root: (fork >= Fork::Cancun).then_some(B256::ZERO),
        ..Header::default()
    };
    Ok((header, state))
}

struct NoAncestors;

impl Ancestors for NoAncestors {
    fn hash_at(&self, _number: u64) -> Result<B256, Error> {
        Ok(B256::ZERO)
    }
}
