//! Validation of a header before its block is executed.

use super::genesis::{ChainRules, Fork};
use alloy_consensus::{Header, constants::MAXIMUM_EXTRA_DATA_SIZE};
use alloy_eips::eip7840::BlobParams;

/// Smallest gas limit of a block.
const MIN_GAS_LIMIT: u64 = 5_000;
/// Largest gas limit of a block.
const MAX_GAS_LIMIT: u64 = i64::MAX as u64;
/// A gas limit must differ from its parent's by less than the parent's divided by this.
const GAS_LIMIT_DIVISOR: u64 = 1_024;

/// Checks a header against its parent and the fork in force. Roots, bloom and gas used are checked
/// after execution.
pub(crate) fn check_header(
    rules: &ChainRules,
    parent: &Header,
    header: &Header,
) -> Result<(), String> {
    let fork = rules.fork_at(header.timestamp);
    if Some(header.number) != parent.number.checked_add(1) {
        return Err(format!(
            "invalid block number: {}, parent has {}",
            header.number, parent.number
        ));
    }
    if header.timestamp <= parent.timestamp {
        return Err(format!(
            "invalid timestamp: {} is not after the parent's {}",
            header.timestamp, parent.timestamp
        ));
    }
    if header.extra_data.len() > MAXIMUM_EXTRA_DATA_SIZE {
        return Err(format!(
            "extra-data too long: {} > {MAXIMUM_EXTRA_DATA_SIZE}",
            header.extra_data.len()
        ));
    }
    if header.gas_used > header.gas_limit {
        return Err(format!(
            "invalid gasUsed: have {}, gasLimit {}",
            header.gas_used, header.gas_limit
        ));
    }
    let step = header.gas_limit.abs_diff(parent.gas_limit);
    if step >= parent.gas_limit / GAS_LIMIT_DIVISOR
        || !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(&header.gas_limit)
    {
        return Err(format!(
            "invalid gas limit: have {}, parent has {}",
            header.gas_limit, parent.gas_limit
        ));
    }
    let base_fee = parent.next_block_base_fee(rules.base_fee_params());
    if header.base_fee_per_gas != base_fee {
        return Err(format!(
            "invalid baseFee: have {:?}, want {base_fee:?}",
            header.base_fee_per_gas
        ));
    }
    if header.withdrawals_root.is_some() != (fork >= Fork::Shanghai) {
        return Err("withdrawals must be given from Shanghai on, and not before".to_owned());
    }
    if header.parent_beacon_block_root.is_some() != (fork >= Fork::Cancun) {
        return Err(
            "parentBeaconBlockRoot must be given from Cancun on, and not before".to_owned(),
        );
    }
    if header.blob_gas_used != (fork >= Fork::Cancun).then_some(0) {
        return Err(format!("invalid blobGasUsed: {:?}", header.blob_gas_used));
    }
    let excess = (fork >= Fork::Cancun).then(|| next_excess_blob_gas(parent));
    if header.excess_blob_gas != excess {
        return Err(format!(
            "invalid excessBlobGas: have {:?}, want {excess:?}",
            header.excess_blob_gas
        ));
    }
    Ok(())
}

/// The excess blob gas of a child of `parent` (EIP-4844). It only decreases, because this chain has
/// no blobs.
pub(crate) fn next_excess_blob_gas(parent: &Header) -> u64 {
    parent
        .next_block_excess_blob_gas(BlobParams::cancun())
        .unwrap_or_default()
}
