//! The `txpool_` methods, with the answers of Geth. `txpool_content` and `txpool_contentFrom` show
//! a bounded part of a large pool.

use std::collections::BTreeMap;

use alloy_consensus::Transaction as _;
use alloy_primitives::Address;
use serde_json::{Map, Value, json};

use super::shared::{quantity, to_json};
use crate::embedded::execution::{BySender, ChainView};
use crate::http::{Args, RpcError};

pub(super) fn query(view: &ChainView, method: &str, params: Value) -> Result<Value, RpcError> {
    match method {
        "txpool_status" => {
            let status = view.pool_status();
            Ok(json!({ "pending": quantity(status.pending), "queued": quantity(status.queued) }))
        }
        "txpool_content" => {
            let content = view.pool_content_within(None);
            Ok(json!({ "pending": full(&content.pending)?, "queued": full(&content.queued)? }))
        }
        "txpool_contentFrom" => {
            let address: Address = Args::new(params, 1)?.required()?;
            let content = view.pool_content_within(Some(address));
            let of_address = |part: &BySender| -> Result<Value, RpcError> {
                let mut all = full(part)?;
                Ok(all
                    .remove(&address.to_string())
                    .unwrap_or_else(|| json!({})))
            };
            Ok(json!({
                "pending": of_address(&content.pending)?,
                "queued": of_address(&content.queued)?,
            }))
        }
        "txpool_inspect" => {
            let content = view.pool_content();
            Ok(json!({ "pending": summary(&content.pending), "queued": summary(&content.queued) }))
        }
        _ => Err(RpcError::method_not_found(method)),
    }
}

/// Keys are checksummed addresses, then decimal nonces.
fn full(part: &BySender) -> Result<Map<String, Value>, RpcError> {
    let mut senders = Map::new();
    for (sender, transactions) in part {
        let mut by_nonce = Map::new();
        for (nonce, transaction) in transactions {
            let shown = alloy_rpc_types_eth::Transaction::from_transaction(
                (**transaction).clone(),
                alloy_rpc_types_eth::TransactionInfo::default(),
            );
            by_nonce.insert(nonce.to_string(), to_json(shown)?);
        }
        senders.insert(sender.to_string(), by_nonce.into());
    }
    Ok(senders)
}

fn summary(part: &BySender) -> BTreeMap<String, BTreeMap<String, String>> {
    let line = |transaction: &alloy_consensus::TxEnvelope| {
        let to = transaction
            .to()
            .map_or_else(|| "contract creation".to_owned(), |to| to.to_string());
        let value = transaction.value();
        let gas = transaction.gas_limit();
        let fee = transaction.max_fee_per_gas();
        format!("{to}: {value} wei + {gas} gas × {fee} wei")
    };
    part.iter()
        .map(|(sender, transactions)| {
            let lines = transactions
                .iter()
                .map(|(nonce, tx)| (nonce.to_string(), line(tx.inner())))
                .collect();
            (sender.to_string(), lines)
        })
        .collect()
}
