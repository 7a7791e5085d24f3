//! The tips of a block, from its transactions and receipts (rules 5.4 and 5.25, docs/protocol.md).

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{ReceiptEnvelope, Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::U256;
use alys_types::{ExecutionPayload, Hash};

/// Sums the tips of a payload's transactions, in wei. The payload was executed, or is certified;
/// the receipts may come from anywhere, because they count under its receipts root only.
///
/// # Errors
/// [`ReceiptsError::Count`] and [`ReceiptsError::Root`] if the receipts are not the payload's; the
/// other errors are faults of the payload, which no execution client accepts.
pub fn tips(
    payload: &ExecutionPayload,
    receipts: &[ReceiptEnvelope],
) -> Result<U256, ReceiptsError> {
    check_root(payload, receipts)?;
    let base_fee = U256::from_be_bytes(payload.base_fee_per_gas);
    let mut gas_before = 0;
    let mut tips = U256::ZERO;
    for (index, (encoded, receipt)) in payload.transactions.iter().zip(receipts).enumerate() {
        let transaction =
            TxEnvelope::decode_2718_exact(encoded).map_err(|error| ReceiptsError::Transaction {
                index,
                reason: error.to_string(),
            })?;
        let cumulative = receipt.cumulative_gas_used();
        let gas_used = cumulative
            .checked_sub(gas_before)
            .ok_or(ReceiptsError::GasOrder {
                index,
                before: gas_before,
                found: cumulative,
            })?;
        gas_before = cumulative;
        let cap = transaction.max_fee_per_gas();
        let tip = tip_per_gas(cap, transaction.max_priority_fee_per_gas(), base_fee).ok_or(
            ReceiptsError::FeeCap {
                index,
                base_fee,
                found: cap,
            },
        )?;
        // A product has at most 64 + 128 bits, and a block far fewer than 2^64 transactions.
        tips = tips.saturating_add(tip.saturating_mul(U256::from(gas_used)));
    }
    if gas_before != payload.gas_used {
        return Err(ReceiptsError::GasUsed {
            expected: payload.gas_used,
            found: gas_before,
        });
    }
    Ok(tips)
}

/// The part of a gas price that goes to the vault: the lesser of the priority fee and the fee cap
/// above the base fee. Transactions of types 0 and 1 have no priority fee, and their gas price is
/// the cap. `None` if the cap does not cover the base fee.
pub fn tip_per_gas(cap: u128, priority_fee: Option<u128>, base_fee: U256) -> Option<U256> {
    let above_base = U256::from(cap).checked_sub(base_fee)?;
    Some(priority_fee.map_or(above_base, |fee| above_base.min(U256::from(fee))))
}

/// One receipt for each transaction, under the payload's receipts root.
fn check_root(
    payload: &ExecutionPayload,
    receipts: &[ReceiptEnvelope],
) -> Result<(), ReceiptsError> {
    let expected = payload.transactions.len();
    if receipts.len() != expected {
        return Err(ReceiptsError::Count {
            expected,
            found: receipts.len(),
        });
    }
    let found = Hash::from(calculate_receipt_root(receipts));
    if found != payload.receipts_root {
        return Err(ReceiptsError::Root {
            expected: payload.receipts_root,
            found,
        });
    }
    Ok(())
}

/// The reason for which receipts give no tips.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptsError {
    #[error("{found} receipts for {expected} transactions: one for each is right")]
    Count { expected: usize, found: usize },
    #[error("root of the receipts is {found}, the payload's receipts_root is {expected}")]
    Root { expected: Hash, found: Hash },
    #[error("transaction {index} of the payload does not decode: {reason}")]
    Transaction { index: usize, reason: String },
    #[error(
        "receipt {index} has cumulative gas {found}, below the {before} of the receipt before it"
    )]
    GasOrder {
        index: usize,
        before: u64,
        found: u64,
    },
    #[error("receipts add up to {found} gas, the payload's gas_used is {expected}")]
    GasUsed { expected: u64, found: u64 },
    #[error("fee cap {found} of transaction {index} is below the base fee {base_fee}")]
    FeeCap {
        index: usize,
        base_fee: U256,
        found: u128,
    },
}
