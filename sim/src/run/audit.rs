//! After the chaos: every execution client has the final chain, and every account holds what its transactions leave it.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::{B256, U64, U256};
use alys_integrations::http::{CallError, HttpClient};
use alys_runtime::sim::Rng;
use alys_runtime::time;
use serde::Deserialize;

use crate::events::short;
use crate::invariants::{Due, Final, Judge, Receipt, Violation};
use crate::params::WorkloadPlan;
use crate::workload::rpc;

/// How long clients may take to have the final chain.
const PATIENCE: Duration = Duration::from_secs(30);
/// Percent of its gas from which on a block counts as full.
const FULL_PERCENT: u64 = 90;
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    hash: B256,
    state_root: B256,
}

/// Checks the clients of these authorities (from 0) up to a height that is final on all of them.
pub async fn audit(
    judge: &Judge,
    nodes: &[u8],
    workload: &WorkloadPlan,
    mut rng: Rng,
) -> Result<(), Violation> {
    let (height, block) = {
        let oracles = judge.look();
        let height = nodes
            .iter()
            .map(|node| oracles.finality.of(*node))
            .min()
            .unwrap_or(0);
        // A crash can cut off the report of a block on every node: then the one below will do.
        let Some((height, block)) = oracles.finality.blocks.range(..=height).next_back() else {
            return Ok(());
        };
        (*height, block.clone())
    };
    for node in nodes {
        await_block(*node, height, &block).await?;
        agree(judge, *node).await?;
    }
    if workload.users == 0 {
        return Ok(());
    }
    let teller = nodes[rng.below(nodes.len() as u64) as usize];
    let receipts = receipts(teller, height).await?;
    let due = {
        let mut oracles = judge.look();
        let ledger = &mut oracles.ledger;
        let due = ledger.settle(teller, height, workload.users, &receipts)?;
        for fullness in fullness(height, workload.block_gas, &receipts) {
            ledger.coverage.count(fullness);
        }
        due
    };
    for node in nodes {
        compare(*node, height, &due).await?;
    }
    Ok(())
}

/// Asks until there is an answer.
async fn ask<T: serde::de::DeserializeOwned>(
    node: u8,
    client: &HttpClient,
    method: &str,
    params: serde_json::Value,
) -> Result<T, Violation> {
    let deadline = time::now() + PATIENCE;
    loop {
        let answer: Result<T, CallError> = client.call(method, &params).await;
        match answer {
            Ok(answer) => return Ok(answer),
            Err(error) if time::now() > deadline => {
                let what = format!(
                    "the execution client of node {} does not answer: {error}",
                    node + 1
                );
                return Err(Violation::Hung { what });
            }
            Err(_) => time::sleep(AGAIN).await,
        }
    }
}

async fn await_block(node: u8, height: u64, expected: &Final) -> Result<(), Violation> {
    let client = rpc(node);
    let deadline = time::now() + PATIENCE;
    loop {
        let params = serde_json::json!([U64::from(height), false]);
        let block: Option<Block> = ask(node, &client, "eth_getBlockByNumber", params).await?;
        match block {
            Some(block) if block.hash.0 == expected.execution_hash.0 => {
                let is_same = block.state_root.0 == expected.state_root.0;
                let what = format!(
                    "state root {} where consensus has {}",
                    block.state_root,
                    short(&expected.state_root)
                );
                return if is_same {
                    Ok(())
                } else {
                    Err(Violation::StateDiffers {
                        node: node + 1,
                        height,
                        what,
                    })
                };
            }
            Some(block) if time::now() > deadline => {
                let what = format!(
                    "block {} where {} is final",
                    block.hash,
                    short(&expected.execution_hash)
                );
                return Err(Violation::StateDiffers {
                    node: node + 1,
                    height,
                    what,
                });
            }
            None if time::now() > deadline => {
                let number: U64 =
                    ask(node, &client, "eth_blockNumber", serde_json::json!([])).await?;
                return Err(Violation::ExecutionBehind {
                    node: node + 1,
                    reached: number.to(),
                    needed: height,
                });
            }
            _ => time::sleep(AGAIN).await,
        }
    }
}

/// A node and its execution client have the same head: at some moment, for the chain goes on.
async fn agree(judge: &Judge, node: u8) -> Result<(), Violation> {
    let client = rpc(node);
    let deadline = time::now() + PATIENCE;
    let head = || {
        let oracles = judge.look();
        let head = oracles.heads.get(&node)?;
        oracles
            .blocks
            .get(head)
            .map(|proposed| proposed.block.header.execution_hash)
    };
    loop {
        let before = head();
        let latest: Option<Block> = ask(
            node,
            &client,
            "eth_getBlockByNumber",
            serde_json::json!(["latest", false]),
        )
        .await?;
        let after = head();
        let (Some(before), Some(after), Some(latest)) = (before, after, latest) else {
            return Ok(());
        };
        if [before.0, after.0].contains(&latest.hash.0) {
            return Ok(());
        }
        if time::now() > deadline {
            let (consensus, execution) = (short(&after), latest.hash.to_string());
            return Err(Violation::HeadsDiffer {
                node: node + 1,
                consensus,
                execution,
            });
        }
        // Not in step with the slots.
        time::sleep(AGAIN * 3 / 4).await;
    }
}

async fn receipts(node: u8, height: u64) -> Result<Vec<Receipt>, Violation> {
    let client = rpc(node);
    let mut all = Vec::new();
    for number in 1..=height {
        let params = serde_json::json!([U64::from(number)]);
        let receipts: Vec<Receipt> = ask(node, &client, "eth_getBlockReceipts", params).await?;
        all.extend(receipts);
    }
    Ok(all)
}

/// The feature of each final block: how much of its gas is used.
fn fullness(
    height: u64,
    block_gas: u64,
    receipts: &[Receipt],
) -> impl Iterator<Item = &'static str> {
    let mut used: BTreeMap<u64, u64> = (1..=height).map(|number| (number, 0)).collect();
    for receipt in receipts {
        let gas = used
            .entry(receipt.block_number.saturating_to())
            .or_default();
        *gas = gas.saturating_add(receipt.gas_used.saturating_to());
    }
    used.into_values().map(move |gas| match gas {
        0 => "block.empty",
        _ if gas.saturating_mul(100) >= block_gas.saturating_mul(FULL_PERCENT) => "block.full",
        _ => "block.part",
    })
}

async fn compare(node: u8, height: u64, due: &Due) -> Result<(), Violation> {
    let client = rpc(node);
    let at = U64::from(height);
    let mut table: Vec<(String, &str, serde_json::Value, U256)> = Vec::new();
    for (account, balance) in &due.balances {
        let params = serde_json::json!([account, at]);
        table.push((
            format!("balance of {account}"),
            "eth_getBalance",
            params,
            *balance,
        ));
    }
    for (account, nonce) in &due.nonces {
        let params = serde_json::json!([account, at]);
        table.push((
            format!("nonce of {account}"),
            "eth_getTransactionCount",
            params,
            U256::from(*nonce),
        ));
    }
    for (contract, count) in &due.counts {
        let params = serde_json::json!([contract, "0x0", at]);
        table.push((
            format!("count of {contract}"),
            "eth_getStorageAt",
            params,
            *count,
        ));
    }
    for (account, method, params, expected) in table {
        let found: U256 = ask(node, &client, method, params).await?;
        if found != expected {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(Violation::WrongBalance {
                node: node + 1,
                account,
                height,
                expected,
                found,
            });
        }
    }
    Ok(())
}
