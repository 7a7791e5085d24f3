//! Conversion of payloads between the chain's types and the Engine API's.

use alloy_eips::eip4895;
use alloy_primitives::{Address, B256, Bloom, U256};
use alloy_rpc_types_engine as wire;
use alys_types as chain;

use super::ExecutionError;

/// The Engine API's payload: `ExecutionPayloadV3` when it has blob gas, else `ExecutionPayloadV2`.
pub fn to_wire(payload: &chain::ExecutionPayload) -> wire::ExecutionPayload {
    let inner = wire::ExecutionPayloadV1 {
        parent_hash: B256::new(payload.parent_hash.0),
        fee_recipient: Address::new(payload.fee_recipient.0),
        state_root: B256::new(payload.state_root.0),
        receipts_root: B256::new(payload.receipts_root.0),
        logs_bloom: Bloom::new(payload.logs_bloom),
        prev_randao: B256::new(payload.prev_randao.0),
        block_number: payload.block_number,
        gas_limit: payload.gas_limit,
        gas_used: payload.gas_used,
        timestamp: payload.timestamp,
        extra_data: payload.extra_data.clone().into(),
        base_fee_per_gas: U256::from_be_bytes(payload.base_fee_per_gas),
        block_hash: B256::new(payload.block_hash.0),
        transactions: payload
            .transactions
            .iter()
            .map(|bytes| bytes.clone().into())
            .collect(),
    };
    let withdrawals = withdrawals_to_wire(&payload.withdrawals);
    let payload_inner = wire::ExecutionPayloadV2 {
        payload_inner: inner,
        withdrawals,
    };
    match payload.blob_gas {
        None => wire::ExecutionPayload::V2(payload_inner),
        Some(chain::BlobGas { used, excess }) => {
            wire::ExecutionPayload::V3(wire::ExecutionPayloadV3 {
                payload_inner,
                blob_gas_used: used,
                excess_blob_gas: excess,
            })
        }
    }
}

/// The chain's payload.
///
/// # Errors
/// [`ExecutionError::UnsupportedPayload`] for versions other than V2 (Capella) and V3 (Deneb).
pub fn from_wire(
    payload: wire::ExecutionPayload,
) -> Result<chain::ExecutionPayload, ExecutionError> {
    let (payload, blob_gas) = match payload {
        wire::ExecutionPayload::V2(payload) => (payload, None),
        wire::ExecutionPayload::V3(wire::ExecutionPayloadV3 {
            payload_inner,
            blob_gas_used: used,
            excess_blob_gas: excess,
        }) => (payload_inner, Some(chain::BlobGas { used, excess })),
        wire::ExecutionPayload::V1(_) | wire::ExecutionPayload::V4(_) => {
            return Err(ExecutionError::UnsupportedPayload);
        }
    };
    let wire::ExecutionPayloadV2 {
        payload_inner: inner,
        withdrawals,
    } = payload;
    Ok(chain::ExecutionPayload {
        parent_hash: chain::Hash(inner.parent_hash.0),
        fee_recipient: chain::Address(inner.fee_recipient.into_array()),
        state_root: chain::Hash(inner.state_root.0),
        receipts_root: chain::Hash(inner.receipts_root.0),
        logs_bloom: inner.logs_bloom.into_array(),
        prev_randao: chain::Hash(inner.prev_randao.0),
        block_number: inner.block_number,
        gas_limit: inner.gas_limit,
        gas_used: inner.gas_used,
        timestamp: inner.timestamp,
        extra_data: inner.extra_data.into(),
        base_fee_per_gas: inner.base_fee_per_gas.to_be_bytes(),
        block_hash: chain::Hash(inner.block_hash.0),
        transactions: inner.transactions.into_iter().map(Into::into).collect(),
        withdrawals: withdrawals
            .into_iter()
            .map(|withdrawal| chain::Withdrawal {
                index: withdrawal.index,
                validator_index: withdrawal.validator_index,
                address: chain::Address(withdrawal.address.into_array()),
                amount_gwei: withdrawal.amount,
            })
            .collect(),
        blob_gas,
    })
}

/// The withdrawals of payload attributes (EIP-4895).
pub fn withdrawals_to_wire(withdrawals: &[chain::Withdrawal]) -> Vec<eip4895::Withdrawal> {
    withdrawals
        .iter()
        .map(|withdrawal| eip4895::Withdrawal {
            index: withdrawal.index,
            validator_index: withdrawal.validator_index,
            address: Address::new(withdrawal.address.0),
            amount: withdrawal.amount_gwei,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_both_versions_round_trip() {
        for blob_gas in [None, Some(chain::BlobGas { used: 1, excess: 2 })] {
            let hash = |byte| chain::Hash([byte; 32]);
            let payload = chain::ExecutionPayload {
                parent_hash: hash(1),
                fee_recipient: chain::Address([2; 20]),
                state_root: hash(3),
                receipts_root: hash(4),
                logs_bloom: [5; 256],
                prev_randao: hash(6),
                block_number: 7,
                gas_limit: 8,
                gas_used: 9,
                timestamp: 10,
                extra_data: vec![11],
                base_fee_per_gas: [12; 32],
                block_hash: hash(13),
                transactions: vec![vec![14], Vec::new()],
                withdrawals: vec![chain::Withdrawal {
                    index: 15,
                    validator_index: 16,
                    address: chain::Address([17; 20]),
                    amount_gwei: 18,
                }],
                blob_gas,
            };
            let sent = to_wire(&payload);
            assert_eq!(sent.as_v1().base_fee_per_gas, U256::from_be_bytes([12; 32]));
            assert_eq!(sent.blob_gas_used(), blob_gas.map(|gas| gas.used));
            assert_eq!(sent.withdrawals().map(Vec::len), Some(1));
            assert_eq!(from_wire(sent).unwrap(), payload);
        }
    }
}
