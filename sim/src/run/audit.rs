//! The audit after recovery: every execution client has the final chain and calls it finalized, the
//! receipts add up to their blocks, and every account has the balance and nonce that follow from
//! its transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alys_integrations::http::{CallError, HttpClient};
use alys_runtime::sim::Rng;
use alys_runtime::time;
use alys_types::Hash;
use serde::Deserialize;

use crate::events::short;
use crate::invariants::{Due, Final, Judge, Oracles, Receipt, Violation, is_absent};
use crate::params::WorkloadPlan;
use crate::params::accounts::miner_address;
use crate::workload::miners::mining_rpc;
use crate::workload::rpc;

/// Time for an execution client to answer, or to reach the final chain.
const EXECUTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Gas use, in percent of the block's limit, from which a block counts as full.
const FULL_PERCENT: u64 = 90;
/// Most empty accounts whose absence is proven; the newest ones.
const MOST_TOUCHED: usize = 12;
/// Interval between two requests to an execution client.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    hash: B256,
    state_root: B256,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    account_proof: Vec<Bytes>,
}

#[derive(Debug, Deserialize)]
struct Finalized {
    number: U64,
    hash: B256,
}

/// Checks the execution clients of `nodes` (authorities from 0) up to the height that is final on
/// all of them.
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
        // A crash on every node can suppress the report of a block, so the audit takes the highest
        // block that was reported.
        let Some((height, block)) = oracles.finality.blocks.range(..=height).next_back() else {
            return Ok(());
        };
        (*height, block.clone())
    };
    for node in nodes {
        await_block(*node, height, &block).await?;
        agree(judge, *node).await?;
        await_finalized(judge, *node, height).await?;
        await_work(judge, *node).await?;
    }
    if workload.users == 0 {
        return Ok(());
    }
    let teller = nodes[rng.below(nodes.len() as u64) as usize];
    let receipts = receipts(teller, height).await?;
    let (due, touched) = {
        let mut oracles = judge.look();
        oracles.check_execution(teller, height, workload.users, &receipts)?;
        let ledger = &mut oracles.ledger;
        let mut due = ledger.settle(teller, height, workload.users, &receipts)?;
        for fullness in fullness(height, workload.block_gas, &receipts) {
            ledger.coverage.count(fullness);
        }
        let touched: BTreeSet<Address> = ledger.touched(&receipts).take(MOST_TOUCHED).collect();
        due.balances
            .extend(oracles.credits(height).unwrap_or_default());
        (due, touched)
    };
    for account in touched {
        absent(judge, teller, (height, block.state_root), account).await?;
    }
    for node in nodes {
        compare(*node, height, &due).await?;
    }
    Ok(())
}

/// Repeats a call until it succeeds, or fails with [`Violation::Hung`] after [`EXECUTION_TIMEOUT`].
async fn ask<T: serde::de::DeserializeOwned>(
    node: u8,
    client: &HttpClient,
    method: &str,
    params: serde_json::Value,
) -> Result<T, Violation> {
    let deadline = time::now() + EXECUTION_TIMEOUT;
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
            Err(_) => time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits until the execution client has the final block at `height`, and compares state roots.
async fn await_block(node: u8, height: u64, expected: &Final) -> Result<(), Violation> {
    let client = rpc(node);
    let deadline = time::now() + EXECUTION_TIMEOUT;
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
            _ => time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits until the execution client calls the end of the last range up to the final block at
/// `height`, or a later block, finalized, and checks that this block is final by proof of work
/// (rule 3.10).
async fn await_finalized(judge: &Judge, node: u8, height: u64) -> Result<(), Violation> {
    let client = rpc(node);
    let end_of = |oracles: &Oracles, height: u64| {
        let block = oracles.finality.blocks.get(&height)?;
        oracles.work.end_after(&block.hash)
    };
    let Some(height) = end_of(&judge.look(), height) else {
        return Ok(());
    };
    let deadline = time::now() + EXECUTION_TIMEOUT;
    loop {
        let params = serde_json::json!(["finalized", false]);
        let block: Option<Finalized> = ask(node, &client, "eth_getBlockByNumber", params).await?;
        let (number, hash) = block.map_or((0, B256::ZERO), |block| {
            (block.number.saturating_to::<u64>(), block.hash)
        });
        let top = {
            let oracles = judge.look();
            let last = oracles.finality.blocks.keys().next_back().copied();
            last.and_then(|last| end_of(&oracles, last))
        };
        if top.is_some_and(|top| number > top) {
            let what = format!("finalized block {hash}, which no proof of a final block covers");
            return Err(Violation::StateDiffers {
                node: node + 1,
                height: number,
                what,
            });
        }
        if number >= height {
            let known = judge.look().finality.blocks.get(&number).cloned();
            return match known {
                Some(known) if known.execution_hash.0 != hash.0 => Err(Violation::StateDiffers {
                    node: node + 1,
                    height: number,
                    what: format!(
                        "finalized block {hash} where {} is final",
                        short(&known.execution_hash)
                    ),
                }),
                // A crash on every node can suppress the report of a final block.
                Some(_) | None => Ok(()),
            };
        }
        if time::now() > deadline {
            return Err(Violation::ExecutionBehind {
                node: node + 1,
                reached: number,
                needed: height,
            });
        }
        time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until a node hands out work for miners, which it has while final blocks are without a
/// proof: the chain could not leave its gate otherwise (rule 4.6).
async fn await_work(judge: &Judge, node: u8) -> Result<(), Violation> {
    let client = mining_rpc(node);
    let deadline = time::now() + EXECUTION_TIMEOUT;
    let params = serde_json::json!([hex::encode(miner_address(0).0)]);
    loop {
        let answer: Result<serde_json::Value, CallError> =
            client.call("createauxblock", &params).await;
        match answer {
            Ok(_) => return Ok(()),
            Err(error) if time::now() > deadline => {
                return Err(Violation::NoWork {
                    node: node + 1,
                    why: error.to_string(),
                    within_ms: EXECUTION_TIMEOUT.as_millis() as u64,
                });
            }
            Err(_) if judge.is_over() => return Ok(()),
            Err(_) => time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits until a node and its execution client have the same head. They differ for moments,
/// because the chain grows during the check.
async fn agree(judge: &Judge, node: u8) -> Result<(), Violation> {
    let client = rpc(node);
    let deadline = time::now() + EXECUTION_TIMEOUT;
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
        let latest = latest.map(|block| block.hash);
        if is_same_head(&[before, after], latest) {
            return Ok(());
        }
        if time::now() > deadline {
            let unknown = || "unknown".to_owned();
            let consensus = after.map_or_else(unknown, |hash| short(&hash));
            let execution = latest.map_or_else(unknown, |hash| hash.to_string());
            return Err(Violation::HeadsDiffer {
                node: node + 1,
                consensus,
                execution,
            });
        }
        // A shorter interval than usual, so that the checks do not stay in phase with the slots.
        time::sleep(POLL_INTERVAL * 3 / 4).await;
    }
}

/// True if the execution client's head is one of the node's. An unknown head agrees with none.
fn is_same_head(of_node: &[Option<Hash>], of_client: Option<B256>) -> bool {
    of_client.is_some_and(|head| of_node.iter().flatten().any(|own| own.0 == head.0))
}

/// Checks that an account that transactions touched and left empty is not in the state of the final
/// block of this height and state root.
async fn absent(
    judge: &Judge,
    node: u8,
    (height, root): (u64, Hash),
    account: Address,
) -> Result<(), Violation> {
    let params = serde_json::json!([account, [], U64::from(height)]);
    let proof: Proof = ask(node, &rpc(node), "eth_getProof", params).await?;
    judge.look().ledger.coverage.count("model.absence");
    is_absent(B256::new(root.0), account, &proof.account_proof).map_err(|what| {
        Violation::WrongExecution {
            node: node + 1,
            height,
            what,
        }
    })
}

/// Fetches the receipts of all blocks up to `height`.
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

/// The coverage feature of each final block: empty, partly full or full by gas.
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

/// Compares balances, nonces and contract counters at `height` with the expected ones.
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
            return Err(Violation::WrongBalance {
                node: node + 1,
                account,
                height,
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_head_agrees_with_none() {
        let hash = |mark| Some(Hash([mark; 32]));
        let head = |mark| Some(B256::repeat_byte(mark));
        assert!(is_same_head(&[hash(1), hash(2)], head(1)));
        assert!(is_same_head(&[None, hash(2)], head(2)));
        assert!(!is_same_head(&[hash(1), hash(2)], head(3)));
        assert!(!is_same_head(&[None, None], head(1)));
        assert!(!is_same_head(&[hash(1), hash(1)], None));
        assert!(!is_same_head(&[None, None], None));
    }
}
