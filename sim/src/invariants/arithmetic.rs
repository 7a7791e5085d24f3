//! Execution by independent arithmetic: base fees, gas, receipts and blooms, computed with integers
//! from the blocks and from the transactions as their users signed them. The execution clients of a
//! run are alike, so that none of them would disagree with a mistake that all make.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};
use alys_types::ExecutionPayload;

use super::ledger::{Action, Receipt, Sent};
use crate::params::accounts::user_address;
use crate::params::transactions::{Contract, Form};

/// Base fee of block 1, in wei: that of genesis is 1 gwei (EIP-1559), less an eighth because
/// genesis uses no gas.
const FIRST_BASE_FEE: u128 = 875_000_000;
/// The gas target is the limit divided by this (EIP-1559).
const ELASTICITY: u128 = 2;
/// The base fee changes by at most this part (EIP-1559).
const DENOMINATOR: u128 = 8;
/// The gas limit changes by less than this part.
const LIMIT_DIVISOR: u64 = 1_024;
const LOWEST_GAS_LIMIT: u64 = 5_000;

/// Units of gas of a transaction.
const TRANSACTION: u64 = 21_000;
const CREATION: u64 = 32_000;
const ZERO_BYTE: u64 = 4;
const NONZERO_BYTE: u64 = 16;
/// A word of init code (EIP-3860), and of a copy or of new memory.
const INIT_WORD: u64 = 2;
const WORD: u64 = 3;
/// A byte of deployed code.
const CODE_BYTE: u64 = 200;
/// An access list of one account and one slot (EIP-2930).
const ACCESS_LIST: u64 = 2_400 + 1_900;
/// Storage (EIP-2929, EIP-2200 and EIP-3529).
const WARM_READ: u64 = 100;
const COLD_READ: u64 = 2_100;
const SET: u64 = 20_000;
const CHANGE: u64 = 5_000 - COLD_READ;
const CLEAR_REFUND: u64 = 4_800;
/// A refund is at most this part of the gas (EIP-3529).
const REFUND_QUOTIENT: u64 = 5;
/// A log with one topic and 32 bytes.
const LOG: u64 = 375 + 375 + 8 * 32;

/// The base fee of the block after one with this gas limit, gas used and base fee (EIP-1559).
pub fn next_base_fee(gas_limit: u64, gas_used: u64, base_fee: u128) -> u128 {
    let target = (u128::from(gas_limit) / ELASTICITY).max(1);
    let used = u128::from(gas_used);
    let change = |distance: u128| base_fee * distance / target / DENOMINATOR;
    match used.checked_sub(target) {
        Some(0) => base_fee,
        Some(above) => base_fee + change(above).max(1),
        None => base_fee - change(target - used),
    }
}

/// The base fee of a payload in wei.
pub fn base_fee(payload: &ExecutionPayload) -> u128 {
    U256::from_be_bytes(payload.base_fee_per_gas).saturating_to()
}

/// Checks the fields of a payload that follow from its parent's by arithmetic; `None` stands for
/// the parent genesis.
///
/// # Errors
/// The field, with the expected value.
pub fn follows(
    parent: Option<&ExecutionPayload>,
    payload: &ExecutionPayload,
) -> Result<(), String> {
    let expected = parent.map_or(FIRST_BASE_FEE, |parent| {
        next_base_fee(parent.gas_limit, parent.gas_used, base_fee(parent))
    });
    let found = base_fee(payload);
    if found != expected {
        return Err(format!("base fee {found}, expected {expected} wei"));
    }
    let ExecutionPayload {
        gas_limit,
        gas_used,
        ..
    } = *payload;
    if gas_used > gas_limit {
        return Err(format!("gas used {gas_used} of {gas_limit}"));
    }
    let least = TRANSACTION * payload.transactions.len() as u64;
    if gas_used < least || (payload.transactions.is_empty() && gas_used > 0) {
        return Err(format!(
            "gas used {gas_used} by {} transactions",
            payload.transactions.len()
        ));
    }
    if let Some(parent) = parent {
        let change = gas_limit.abs_diff(parent.gas_limit);
        let is_jump = change > 0 && change >= parent.gas_limit / LIMIT_DIVISOR;
        if is_jump || gas_limit < LOWEST_GAS_LIMIT {
            return Err(format!("gas limit {gas_limit} after {}", parent.gas_limit));
        }
    }
    match payload.blob_gas {
        Some(blobs) if blobs.used == 0 && blobs.excess == 0 => Ok(()),
        found => Err(format!("blob gas {found:?} where there are no blobs")),
    }
}

/// Checks that receipts belong to a payload, in its order, and add up to its totals.
///
/// # Errors
/// The receipt and field, with the expected value.
pub fn add_up(
    payload: &ExecutionPayload,
    receipts: &[Receipt],
    sent: &BTreeMap<B256, Sent>,
) -> Result<(), String> {
    if receipts.len() != payload.transactions.len() {
        return Err(format!(
            "{} receipts of {} transactions",
            receipts.len(),
            payload.transactions.len()
        ));
    }
    let mut total = U256::ZERO;
    let mut logs = 0_u64;
    let mut bloom = [0; 256];
    for (index, (receipt, encoded)) in receipts.iter().zip(&payload.transactions).enumerate() {
        total += receipt.gas_used;
        let differs = |field: &str, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
            format!("receipt {index}: {field} {found:?}, expected {expected:?}")
        };
        let index = U256::from(index);
        let kind = match encoded.first() {
            Some(kind @ 1..=0x7f) => U256::from(*kind),
            Some(_) | None => U256::ZERO,
        };
        let numbers = [
            ("transactionIndex", receipt.transaction_index, index),
            ("cumulativeGasUsed", receipt.cumulative_gas_used, total),
            (
                "blockNumber",
                receipt.block_number,
                U256::from(payload.block_number),
            ),
            ("type", receipt.kind, kind),
        ];
        if let Some((field, found, expected)) = numbers
            .iter()
            .find(|(_, found, expected)| found != expected)
        {
            return Err(differs(field, found, expected));
        }
        let block = B256::new(payload.block_hash.0);
        let hashes = [
            (
                "transactionHash",
                receipt.transaction_hash,
                keccak256(encoded),
            ),
            ("blockHash", receipt.block_hash, block),
        ];
        if let Some((field, found, expected)) =
            hashes.iter().find(|(_, found, expected)| found != expected)
        {
            return Err(differs(field, found, expected));
        }
        for log in &receipt.logs {
            let is_of_receipt = log.block_hash == receipt.block_hash
                && log.transaction_hash == receipt.transaction_hash
                && log.transaction_index == receipt.transaction_index;
            if !is_of_receipt || log.log_index != U256::from(logs) {
                return Err(differs("log", log, &logs));
            }
            logs += 1;
            accrue(&mut bloom, log.address.as_slice());
            for topic in &log.topics {
                accrue(&mut bloom, topic.as_slice());
            }
        }
        if let Some(sent) = sent.get(&receipt.transaction_hash) {
            of_sender(payload, receipt, sent).map_err(|what| format!("receipt {index}: {what}"))?;
        }
    }
    if total != U256::from(payload.gas_used) {
        return Err(format!(
            "the receipts use {total} gas, the block {}",
            payload.gas_used
        ));
    }
    if bloom != payload.logs_bloom {
        return Err("the bloom is not that of the logs".to_owned());
    }
    Ok(())
}

/// Checks the fields of a receipt that follow from the transaction as it was signed.
fn of_sender(payload: &ExecutionPayload, receipt: &Receipt, sent: &Sent) -> Result<(), String> {
    let sender = user_address(sent.user);
    if receipt.from != sender {
        return Err(format!("from {}, expected {sender}", receipt.from));
    }
    let created = match sent.action {
        Action::Deploy { .. } => Some(sender.create(sent.nonce)),
        Action::Transfer { .. } | Action::Cancel | Action::Touch { .. } | Action::Call { .. } => {
            None
        }
    };
    if receipt.contract_address != created {
        return Err(format!(
            "contract {:?}, expected {created:?}",
            receipt.contract_address
        ));
    }
    let base_fee = base_fee(payload);
    let price = sent.cap.min(base_fee + sent.tip);
    if sent.cap < base_fee || receipt.effective_gas_price != U256::from(price) {
        return Err(format!(
            "price {}, expected {price} of a cap of {} and a base fee of {base_fee}",
            receipt.effective_gas_price, sent.cap
        ));
    }
    Ok(())
}

/// Sets the three bits of an address or topic in a bloom.
fn accrue(bloom: &mut [u8; 256], bytes: &[u8]) {
    let hash = keccak256(bytes);
    for pair in [0, 2, 4] {
        let bit = ((usize::from(hash[pair]) << 8) | usize::from(hash[pair + 1])) & 0x7ff;
        bloom[255 - bit / 8] |= 1 << (bit % 8);
    }
}

/// The gas that each transaction of the workload must use, in the order of the chain.
#[derive(Debug, Clone, Default)]
pub struct GasModel {
    /// Slot 0 of each deployed contract.
    contracts: BTreeMap<Address, (Contract, u64)>,
}

/// The gas of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub gas: u64,
    /// True if a part of the gas was refunded.
    pub has_refund: bool,
}

impl GasModel {
    /// The gas of the next final transaction.
    pub fn spend(&mut self, sent: &Sent) -> Spent {
        let whole = |gas| Spent {
            gas,
            has_refund: false,
        };
        match sent.action {
            // The users offer exactly what these need.
            Action::Transfer { .. } | Action::Cancel | Action::Touch { .. } => {
                whole(sent.gas_limit)
            }
            Action::Deploy { contract } => {
                let at = user_address(sent.user).create(sent.nonce);
                self.contracts.insert(at, (contract, 0));
                whole(deployment(contract))
            }
            Action::Call { at, argument } => {
                let data = U256::from(argument).to_be_bytes::<32>();
                let is_warm = sent.form == Form::AccessList;
                let list = if is_warm { ACCESS_LIST } else { 0 };
                let before = TRANSACTION + data_gas(&data) + list;
                let Some((contract, slot)) = self.contracts.get_mut(&at) else {
                    return whole(before);
                };
                let read = if is_warm { WARM_READ } else { COLD_READ };
                match contract {
                    Contract::Counter => {
                        let write = if *slot == 0 { SET } else { CHANGE };
                        *slot += 1;
                        // Seven pushes, ADD and DUP1, MSTORE with a word of memory, a log.
                        whole(before + 7 * 3 + 2 * 3 + 3 + WORD + read + write + LOG)
                    }
                    Contract::Reverter => {
                        let cold = if is_warm { 0 } else { COLD_READ };
                        // Six pushes, MSTORE with a word of memory; nothing stays written.
                        whole(before + 6 * 3 + 3 + WORD + cold + SET)
                    }
                    Contract::Logger => whole(before + logger_code(argument)),
                    Contract::Spinner => whole(sent.gas_limit),
                    Contract::Toggle => {
                        let (write, refund) = match *slot {
                            0 => (SET, 0),
                            _ => (CHANGE, 2 * CLEAR_REFUND),
                        };
                        *slot = 1 - *slot;
                        // The access list has slot 0 only.
                        let gas = before + 2 * (3 * 3 + write) + read + COLD_READ;
                        let refund = refund.min(gas / REFUND_QUOTIENT);
                        Spent {
                            gas: gas - refund,
                            has_refund: refund > 0,
                        }
                    }
                }
            }
        }
    }
}

/// The gas of the code of [`Contract::Logger`].
fn logger_code(argument: u64) -> u64 {
    let memory = if argument > 0 { WORD } else { 0 };
    // Per turn of the loop a test of 20 and a body of 38 and a log.
    let turns = 20 * (argument + 1) + (38 + LOG) * argument;
    6 + turns + memory + 1
}

/// The gas of a call of [`Contract::Logger`] without an access list, which depends on nothing but
/// the argument.
pub fn logger_call(argument: u64) -> u64 {
    let data = U256::from(argument).to_be_bytes::<32>();
    TRANSACTION + data_gas(&data) + logger_code(argument)
}

fn data_gas(data: &[u8]) -> u64 {
    let of = |byte: &u8| if *byte == 0 { ZERO_BYTE } else { NONZERO_BYTE };
    data.iter().map(of).sum()
}

const fn words(length: usize) -> u64 {
    length.div_ceil(32) as u64
}

/// The gas of a deployment; its access list is empty.
fn deployment(contract: Contract) -> u64 {
    let init = contract.init_code();
    let code = contract.code().len();
    let before = TRANSACTION + CREATION + data_gas(&init) + INIT_WORD * words(init.len());
    // Four pushes and DUP1, then CODECOPY with its words and as much memory.
    before + 5 * 3 + 3 + 2 * WORD * words(code) + CODE_BYTE * code as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Taken;

    #[test]
    fn base_fees_follow_eip_1559() {
        const GWEI: u128 = 1_000_000_000;
        let table = [
            // Examples of the specification's formula, by hand.
            (30_000_000, 0, GWEI, FIRST_BASE_FEE),
            (30_000_000, 15_000_000, GWEI, GWEI),
            (30_000_000, 30_000_000, GWEI, 1_125_000_000),
            (30_000_000, 15_000_001, 7, 8),
            (30_000_000, 14_999_999, 7, 7),
            (2_000_000, 1_500_000, 800, 850),
            (2_000_000, 500_000, 800, 750),
        ];
        for (limit, used, before, expected) in table {
            assert_eq!(next_base_fee(limit, used, before), expected, "{used}");
        }
    }

    fn sent(nonce: u64, action: Action, form: Form) -> Sent {
        Sent {
            user: 0,
            nonce,
            action,
            form,
            gas_limit: 21_000,
            size: 100,
            taken: Taken::Yes,
            cap: 50,
            tip: 2,
        }
    }

    #[test]
    fn gas_of_contracts_follows_their_operations() {
        let at = user_address(0).create(0);
        let call = |argument, form| sent(1, Action::Call { at, argument }, form);
        let deployed = |contract| {
            let mut model = GasModel::default();
            let deployment = model.spend(&sent(0, Action::Deploy { contract }, Form::Legacy));
            assert!(deployment.gas > TRANSACTION + CREATION, "{contract:?}");
            model
        };
        let nothing_there = GasModel::default().spend(&call(0, Form::Legacy));
        assert_eq!(nothing_there.gas, 21_128);
        // Counted by an interpreter of these few operations.
        let table = [
            (Contract::Counter, 0, Form::Legacy, [44_267, 27_167]),
            (Contract::Counter, 0, Form::AccessList, [46_567, 29_467]),
            (Contract::Reverter, 0, Form::Legacy, [43_252, 43_252]),
            (Contract::Logger, 7, Form::Legacy, [28_618, 28_618]),
            (Contract::Toggle, 0, Form::Legacy, [65_346, 24_917]),
        ];
        for (contract, argument, form, expected) in table {
            let mut model = deployed(contract);
            let found = expected.map(|_| model.spend(&call(argument, form)).gas);
            assert_eq!(found, expected, "{contract:?}");
        }
        assert_eq!(logger_call(7), 28_618);
        let mut model = deployed(Contract::Toggle);
        let refunds = [0; 4].map(|_| model.spend(&call(0, Form::Legacy)).has_refund);
        assert_eq!(refunds, [false, true, false, true]);
    }

    fn payload() -> ExecutionPayload {
        let (_, block) = crate::invariants::blocks::tests::block(1, 100, alys_types::Hash::ZERO);
        let mut payload = block.body.payload.clone();
        payload.gas_limit = 30_000_000;
        payload.base_fee_per_gas = U256::from(FIRST_BASE_FEE).to_be_bytes();
        payload.blob_gas = Some(alys_types::BlobGas { used: 0, excess: 0 });
        payload
    }

    #[test]
    fn totals_of_a_payload_follow_from_its_parent() {
        let first = payload();
        assert_eq!(follows(None, &first), Ok(()));
        let child = |change: fn(&mut ExecutionPayload)| {
            let mut child = payload();
            let fee = next_base_fee(first.gas_limit, 0, FIRST_BASE_FEE);
            child.base_fee_per_gas = U256::from(fee).to_be_bytes();
            change(&mut child);
            follows(Some(&first), &child)
        };
        assert_eq!(child(|_| {}), Ok(()));
        let table: [(fn(&mut ExecutionPayload), &str); 5] = [
            (|p| p.base_fee_per_gas[31] ^= 1, "base fee"),
            (|p| p.gas_used = 1, "gas used"),
            (|p| p.gas_used = p.gas_limit + 1, "gas used"),
            (|p| p.gas_limit -= 30_000, "gas limit"),
            (|p| p.blob_gas = None, "blob gas"),
        ];
        for (change, expected) in table {
            let broken = child(change).expect_err(expected);
            assert!(broken.contains(expected), "{broken}");
        }
    }

    #[test]
    fn receipts_add_up_to_their_block() {
        let encoded = vec![2, 9];
        let hash = keccak256(&encoded);
        let mut payload = payload();
        payload.transactions = vec![encoded];
        payload.gas_used = 21_000;
        let receipt = Receipt {
            transaction_hash: hash,
            block_hash: B256::ZERO,
            block_number: U256::from(1),
            transaction_index: U256::ZERO,
            kind: U256::from(2),
            status: U256::from(1),
            gas_used: U256::from(21_000),
            cumulative_gas_used: U256::from(21_000),
            effective_gas_price: U256::from(FIRST_BASE_FEE + 2),
            from: user_address(0),
            contract_address: None,
            logs: Vec::new(),
        };
        let mut known = sent(0, Action::Cancel, Form::DynamicFee);
        known.cap = 2 * FIRST_BASE_FEE;
        let all = BTreeMap::from([(hash, known)]);
        assert_eq!(
            add_up(&payload, std::slice::from_ref(&receipt), &all),
            Ok(())
        );
        assert!(add_up(&payload, &[], &all).is_err(), "a receipt is missing");
        let table: [(fn(&mut Receipt), &str); 7] = [
            (|r| r.transaction_index = U256::from(1), "transactionIndex"),
            (
                |r| r.cumulative_gas_used += U256::from(1),
                "cumulativeGasUsed",
            ),
            (|r| r.gas_used += U256::from(1), "cumulativeGasUsed"),
            (|r| r.kind = U256::ZERO, "type"),
            (|r| r.from = user_address(1), "from"),
            (|r| r.effective_gas_price += U256::from(1), "price"),
            (|r| r.block_hash = B256::repeat_byte(1), "blockHash"),
        ];
        for (change, expected) in table {
            let mut altered = receipt.clone();
            change(&mut altered);
            let broken = add_up(&payload, &[altered], &all).expect_err(expected);
            assert!(broken.contains(expected), "{broken}");
        }
        payload.logs_bloom[0] = 1;
        let broken = add_up(&payload, &[receipt], &all).expect_err("another bloom");
        assert!(broken.contains("bloom"), "{broken}");
    }
}
