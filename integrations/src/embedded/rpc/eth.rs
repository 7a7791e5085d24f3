//! The read-only `eth_` methods.

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{Address, B256, U64, U256};
use alloy_rpc_types_eth::{BlockId, Filter, TransactionRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::{quantity, to_json};
use crate::embedded::execution::ChainView;
use crate::http::{Args, RpcError};

pub(super) fn query(view: &ChainView, method: &str, params: Value) -> Result<Value, RpcError> {
    match method {
        "eth_chainId" => Ok(quantity(view.chain_id())),
        "eth_blockNumber" => Ok(quantity(view.head().number)),
        "eth_accounts" => Ok(json!([])),
        "eth_gasPrice" => Ok(quantity(view.gas_price()?)),
        "eth_maxPriorityFeePerGas" => Ok(quantity(view.max_priority_fee()?)),
        "eth_blobBaseFee" => Ok(quantity(view.blob_base_fee())),
        "eth_feeHistory" => fee_history(view, Args::new(params, 3)?),
        "eth_getBlockByHash"
        | "eth_getBlockByNumber"
        | "eth_getBlockReceipts"
        | "eth_getBlockTransactionCountByHash"
        | "eth_getBlockTransactionCountByNumber"
        | "eth_getUncleCountByBlockHash"
        | "eth_getUncleCountByBlockNumber" => of_block(view, method, params),
        "eth_getTransactionByHash" => {
            to_json(view.rpc_transaction(Args::new(params, 1)?.required()?)?)
        }
        "eth_getTransactionReceipt" => {
            to_json(view.rpc_receipt(Args::new(params, 1)?.required()?)?)
        }
        "eth_getTransactionByBlockHashAndIndex" | "eth_getTransactionByBlockNumberAndIndex" => {
            let mut args = Args::new(params, 2)?;
            let block = block(&mut args, method)?;
            if block.is_pending() {
                return Ok(Value::Null);
            }
            // An index beyond `usize` is beyond the transactions of every block.
            let index = usize::try_from(args.required::<U64>()?.to::<u64>()).unwrap_or(usize::MAX);
            to_json(view.rpc_transaction_at(block, index)?)
        }
        "eth_getBalance"
        | "eth_getTransactionCount"
        | "eth_getCode"
        | "eth_getStorageAt"
        | "eth_getProof" => of_account(view, method, params),
        "eth_call" | "eth_estimateGas" => call(view, method, params),
        "eth_getLogs" => to_json(view.logs(&Args::new(params, 1)?.required::<Filter>()?)?),
        _ => Err(RpcError::method_not_found(method)),
    }
}

/// The block argument: a hash for methods with "Hash" in their name, else a number or tag.
fn block(args: &mut Args, method: &str) -> Result<BlockId, RpcError> {
    if method.contains("Hash") {
        Ok(args.required::<B256>()?.into())
    } else {
        Ok(args.required::<BlockNumberOrTag>()?.into())
    }
}

fn of_block(view: &ChainView, method: &str, params: Value) -> Result<Value, RpcError> {
    let max = if matches!(method, "eth_getBlockByHash" | "eth_getBlockByNumber") {
        2
    } else {
        1
    };
    let mut args = Args::new(params, max)?;
    match method {
        "eth_getBlockByHash" | "eth_getBlockByNumber" => {
            let block = block(&mut args, method)?;
            let full = args.optional()?.unwrap_or(false);
            if block.is_pending() {
                return pending_block(view);
            }
            to_json(view.rpc_block(block, full)?)
        }
        "eth_getBlockReceipts" => {
            let block: BlockId = args.required()?;
            if block.is_pending() {
                return Ok(json!([]));
            }
            to_json(view.rpc_block_receipts(block)?)
        }
        _ => {
            let block = block(&mut args, method)?;
            if block.is_pending() {
                return Ok(quantity(0));
            }
            let block = view.block(block)?;
            // Null for an unknown block. Blocks have no uncles since the merge.
            Ok(block.map_or(Value::Null, |block| {
                let count = if method.contains("Uncle") {
                    0
                } else {
                    block.block.body.transactions.len()
                };
                quantity(count)
            }))
        }
    }
}

/// The next block, whose hash, nonce and fee recipient are null, as in Geth.
fn pending_block(view: &ChainView) -> Result<Value, RpcError> {
    let mut block = to_json(view.rpc_pending_block())?;
    for unknown in ["hash", "nonce", "miner"] {
        block[unknown] = Value::Null;
    }
    Ok(block)
}

fn of_account(view: &ChainView, method: &str, params: Value) -> Result<Value, RpcError> {
    let max = if matches!(method, "eth_getStorageAt" | "eth_getProof") {
        3
    } else {
        2
    };
    let mut args = Args::new(params, max)?;
    let address: Address = args.required()?;
    match method {
        "eth_getStorageAt" => {
            let slot: U256 = args.required()?;
            to_json(view.storage_at(address, slot, block_or_latest(&mut args)?)?)
        }
        "eth_getProof" => proof(view, address, args),
        "eth_getBalance" => Ok(quantity(
            view.balance(address, block_or_latest(&mut args)?)?,
        )),
        "eth_getCode" => to_json(view.code(address, block_or_latest(&mut args)?)?),
        _ => Ok(quantity(view.nonce(address, block_or_latest(&mut args)?)?)),
    }
}

/// EIP-1186 proofs. Each storage key is returned in the form of its request: 32 bytes or a
/// quantity.
fn proof(view: &ChainView, address: Address, mut args: Args) -> Result<Value, RpcError> {
    let keys: Vec<Value> = args.required()?;
    let slots: Result<Vec<U256>, _> = keys.iter().map(U256::deserialize).collect();
    let slots =
        slots.map_err(|error| RpcError::invalid_params(format!("invalid argument 1: {error}")))?;
    let block = block_or_latest(&mut args)?;
    let words: Vec<B256> = slots.iter().map(|slot| B256::from(*slot)).collect();
    let mut proof = to_json(view.proof(address, &words, block)?)?;
    for (index, (key, slot)) in keys.iter().zip(slots).enumerate() {
        if key.as_str().is_none_or(|key| key.len() != 66) {
            proof["storageProof"][index]["key"] = quantity(slot);
        }
    }
    Ok(proof)
}

fn block_or_latest(args: &mut Args) -> Result<BlockId, RpcError> {
    Ok(args.optional()?.unwrap_or_else(BlockId::latest))
}

fn call(view: &ChainView, method: &str, params: Value) -> Result<Value, RpcError> {
    let mut args = Args::new(params, 4)?;
    let request: TransactionRequest = args.required()?;
    let block = match method {
        "eth_call" => block_or_latest(&mut args)?,
        // The transaction to estimate runs in the next block.
        _ => args.optional()?.unwrap_or_else(BlockId::pending),
    };
    for overrides in [args.optional::<Value>()?, args.optional()?] {
        let is_empty = overrides
            .as_ref()
            .and_then(Value::as_object)
            .is_none_or(serde_json::Map::is_empty);
        if !is_empty {
            // Ignoring them would give a wrong answer.
            return Err(RpcError::invalid_params(
                "state and block overrides are not supported",
            ));
        }
    }
    match method {
        "eth_call" => to_json(view.call(&request, block)?),
        _ => Ok(quantity(view.estimate_gas(&request, block)?)),
    }
}

fn fee_history(view: &ChainView, mut args: Args) -> Result<Value, RpcError> {
    let count = args.required::<U64>()?.to();
    let newest: BlockNumberOrTag = args.required()?;
    let percentiles: Option<Vec<f64>> = args.optional()?;
    to_json(view.fee_history(count, newest, percentiles.as_deref())?)
}
