//! Reads the receipts of a block by the methods that a client serves.
//!
//! | client | port | methods |
//! |---|---|---|
//! | Geth, ethrex, embedded | either | `eth_getBlockReceipts`, `eth_getTransactionReceipt` |
//! | Reth | public, some versions either | the same |
//! | EthereumJS | public | the same |
//!
//! The engine port is asked first. A client that lacks the method there is asked for it on its
//! public port, if the operator gave the URL. `eth_getTransactionReceipt` is the last resort: it
//! knows canonical blocks only, and EthereumJS executes the block again for each receipt.
//!
//! Receipts are data of the client, checked by nobody here: their root decides whether they are
//! those of a block.

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, TxType};
use alloy_primitives::{Address, B256, Bytes, Log, U8, U64};
use alys_types::limits::MAX_GAS_LIMIT;
use serde::Deserialize;

use super::ExecutionError;
use crate::http::{HttpClient, RpcError};

/// Largest answer in bytes. A block of 30 M gas has at most 80,000 logs (375 gas each), which
/// clients write with about 500 bytes of JSON beside the data, and 3.75 MB of data (8 gas a byte).
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Calls in a batch. Clients permit 1,000 or fewer; EthereumJS executes a block for each.
const MAX_BATCH: usize = 100;
/// Most transactions in a block: those of the lowest gas.
const MAX_TRANSACTIONS: usize = (MAX_GAS_LIMIT / 21_000) as usize;

/// "Unknown block" of Geth.
const UNKNOWN_BLOCK: i64 = -39001;
/// "Pruned history unavailable" of EIP-4444.
const PRUNED_HISTORY: i64 = 4444;

/// The method of one attempt, on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// `eth_getBlockReceipts`.
    Block,
    /// `eth_getTransactionReceipt` for each transaction.
    Transactions,
}

/// Remembers the attempt that the client served last.
#[derive(Debug, Default)]
pub(super) struct ReceiptReader {
    last: AtomicUsize,
}

impl ReceiptReader {
    /// The receipts of a block; `None` when the client does not have them.
    pub(super) async fn read(
        &self,
        engine: &HttpClient,
        public: Option<&HttpClient>,
        block: B256,
    ) -> Result<Option<Vec<ReceiptEnvelope>>, ExecutionError> {
        let ports = || std::iter::once(engine).chain(public);
        let attempts: Vec<(Method, &HttpClient)> = [Method::Block, Method::Transactions]
            .into_iter()
            .flat_map(|method| ports().map(move |port| (method, port)))
            .collect();
        let last = self.last.load(Ordering::Relaxed);
        for index in (last..attempts.len()).chain(0..last.min(attempts.len())) {
            let (method, port) = attempts[index];
            let answer = match method {
                Method::Block => by_block(port, block).await,
                Method::Transactions => by_transactions(port, block).await,
            };
            match answer {
                Err(error) if is_refused(&error) => {
                    tracing::debug!(?method, %error, "the client does not serve receipts so");
                }
                Err(error) if is_unknown(&error) => return Ok(None),
                answer => {
                    self.last.store(index, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(ExecutionError::ReceiptsNotServed)
    }
}

async fn by_block(
    http: &HttpClient,
    block: B256,
) -> Result<Option<Vec<ReceiptEnvelope>>, ExecutionError> {
    let method = "eth_getBlockReceipts";
    // As text, because EthereumJS refuses the form of EIP-1898.
    let answer: Option<Vec<WireReceipt>> = http
        .call_large(MAX_ANSWER_BYTES, method, (block,))
        .await
        .map_err(|error| ExecutionError::from_call(method, error))?;
    let Some(receipts) = answer else {
        return Ok(None);
    };
    // EthereumJS answers an empty list for a block whose receipts it lacks.
    if receipts.is_empty()
        && transactions(http, block)
            .await?
            .is_none_or(|transactions| !transactions.is_empty())
    {
        return Ok(None);
    }
    let envelopes = receipts
        .into_iter()
        .map(|receipt| receipt.into_envelope(method));
    envelopes.collect::<Result<_, _>>().map(Some)
}

async fn by_transactions(
    http: &HttpClient,
    block: B256,
) -> Result<Option<Vec<ReceiptEnvelope>>, ExecutionError> {
    let method = "eth_getTransactionReceipt";
    let Some(transactions) = transactions(http, block).await? else {
        return Ok(None);
    };
    if transactions.len() > MAX_TRANSACTIONS {
        return Err(ExecutionError::Invalid {
            method: "eth_getBlockByHash",
            reason: format!(
                "{} transactions in a block, the limit is {MAX_TRANSACTIONS}",
                transactions.len()
            ),
        });
    }
    let mut receipts = Vec::with_capacity(transactions.len());
    for part in transactions.chunks(MAX_BATCH) {
        let params: Vec<[B256; 1]> = part.iter().map(|hash| [*hash]).collect();
        let answers: Vec<Option<WireReceipt>> = http
            .call_batch(MAX_ANSWER_BYTES, method, &params)
            .await
            .map_err(|error| ExecutionError::from_call(method, error))?;
        for receipt in answers {
            // The transaction may be in another block of the canonical chain.
            let Some(receipt) = receipt.filter(|receipt| receipt.block_hash == Some(block)) else {
                return Ok(None);
            };
            receipts.push(receipt.into_envelope(method)?);
        }
    }
    Ok(Some(receipts))
}

/// Hashes of a block's transactions; `None` when the client does not have the block.
async fn transactions(http: &HttpClient, block: B256) -> Result<Option<Vec<B256>>, ExecutionError> {
    let method = "eth_getBlockByHash";
    let found: Option<WireBlock> = http
        .call(method, (block, false))
        .await
        .map_err(|error| ExecutionError::from_call(method, error))?;
    Ok(found.map(|block| block.transactions))
}

/// True for a method that the client does not serve on the port, or not in this form.
fn is_refused(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::Rpc { error, .. }
            if matches!(error.code, RpcError::METHOD_NOT_FOUND | RpcError::INVALID_PARAMS)
    )
}

/// True for a block that the client does not have, or no longer.
fn is_unknown(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::Rpc { error, .. } if matches!(error.code, UNKNOWN_BLOCK | PRUNED_HISTORY)
    )
}

#[derive(Deserialize)]
struct WireBlock {
    transactions: Vec<B256>,
}

/// The fields of a receipt that its root covers. Clients differ in the others. The bloom is
/// computed from the logs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReceipt {
    /// Absent for legacy transactions in some clients.
    #[serde(rename = "type", default)]
    kind: U8,
    status: U64,
    cumulative_gas_used: U64,
    logs: Vec<WireLog>,
    #[serde(default)]
    block_hash: Option<B256>,
}

#[derive(Deserialize)]
struct WireLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

impl WireReceipt {
    fn into_envelope(self, method: &'static str) -> Result<ReceiptEnvelope, ExecutionError> {
        let invalid = |reason: String| ExecutionError::Invalid { method, reason };
        let kind: u8 = self.kind.to();
        let kind = TxType::try_from(kind)
            .map_err(|_| invalid(format!("a receipt of the unknown transaction type {kind}")))?;
        let logs = self
            .logs
            .into_iter()
            .map(
                |WireLog {
                     address,
                     topics,
                     data,
                 }| {
                    let topics_found = topics.len();
                    Log::new(address, topics, data).ok_or_else(|| {
                        invalid(format!("a log with {topics_found} topics, 4 at most"))
                    })
                },
            )
            .collect::<Result<_, _>>()?;
        let receipt = Receipt {
            status: Eip658Value::Eip658(self.status.to::<u64>() == 1),
            cumulative_gas_used: self.cumulative_gas_used.to(),
            logs,
        };
        Ok(ReceiptEnvelope::from_typed(kind, receipt))
    }
}

#[cfg(test)]
mod tests;
