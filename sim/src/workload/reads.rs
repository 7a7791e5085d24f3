//! Users that read. The state at a final block never changes: every execution client must give the
//! same answer at any time.

use alloy_primitives::{B256, U64, keccak256};
use alys_integrations::http::{CallError, HttpClient};
use serde_json::{Value, json};

use super::User;
use crate::invariants::Violation;
use crate::params::accounts::{sink_address, user_address};
use crate::params::transactions::Contract;

/// Reads are of one of this many last final blocks.
const DEPTH: u64 = 4;
/// Gas of a transfer to an account without code; an estimate must equal it.
const TRANSFER_GAS: u64 = 21_000;

impl User {
    /// Sends one execution client one query about a final block, or a gas estimate of a transfer.
    pub(super) async fn read(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let teller = self.rng.below(clients.len() as u64) as usize;
        let client = &clients[teller];
        let Some((height, block)) = self.final_block() else {
            return Ok(());
        };
        let at = json!({ "blockHash": block });
        let contract = self.desk.contracts.values().next().copied();
        let counter = self.desk.contracts.get(&Contract::Counter).copied();
        let user = user_address(self.index);
        let sink = sink_address(self.index);
        let (feature, method, params) = match self.rng.below(8) {
            0 => (
                "read.balance",
                "eth_getBalance",
                json!([if self.flip() { user } else { sink }, at]),
            ),
            1 => ("read.nonce", "eth_getTransactionCount", json!([user, at])),
            2 => (
                "read.storage",
                "eth_getStorageAt",
                json!([counter.unwrap_or(sink), "0x0", at]),
            ),
            3 => (
                "read.code",
                "eth_getCode",
                json!([contract.unwrap_or(sink), at]),
            ),
            4 => (
                "read.call",
                "eth_call",
                json!([{ "from": user, "to": counter.unwrap_or(sink) }, at]),
            ),
            5 => ("read.logs", "eth_getLogs", json!([at])),
            6 => ("read.receipts", "eth_getBlockReceipts", json!([at])),
            _ => return self.estimate(teller, client).await,
        };
        // An execution client may not have the block yet.
        let Ok(answer) = client.call::<Value>(method, &params).await else {
            return Ok(());
        };
        if answer.is_null() {
            return Ok(());
        }
        let digest = keccak256(answer.to_string());
        let what = format!("{method} {params}");
        let mut oracles = self.judge.look();
        oracles.ledger.coverage.count(feature);
        let seen = oracles.ledger.reads.len();
        match oracles.ledger.reads.get(&what) {
            Some((_, first)) if *first == digest => oracles.ledger.coverage.count("read.again"),
            Some((before, _)) => {
                let what = format!(
                    "{what} has another answer at the execution client of node {before}: {answer}"
                );
                return Err(Violation::StateDiffers {
                    node: teller as u8 + 1,
                    height,
                    what,
                });
            }
            None if seen < MOST_READS => {
                oracles
                    .ledger
                    .reads
                    .insert(what, (teller as u8 + 1, digest));
            }
            None => {}
        }
        Ok(())
    }

    /// Draws one of the last [`DEPTH`] final blocks. `None` if there is no such block.
    fn final_block(&mut self) -> Option<(u64, B256)> {
        let below = self.rng.below(DEPTH);
        let oracles = self.judge.look();
        let top = oracles.finality.top().checked_sub(below)?;
        let block = oracles.finality.blocks.get(&top)?;
        Some((top, B256::from(block.execution_hash.0)))
    }

    async fn estimate(&mut self, teller: usize, client: &HttpClient) -> Result<(), Violation> {
        let request = json!({
            "from": user_address(self.index),
            "to": sink_address(self.index),
            "value": "0x1",
        });
        let answer: Result<U64, CallError> = client.call("eth_estimateGas", json!([request])).await;
        let Ok(gas) = answer else { return Ok(()) };
        self.count("read.estimate");
        if gas.to::<u64>() == TRANSFER_GAS {
            return Ok(());
        }
        let what = format!("a transfer is estimated to use {gas} gas");
        Err(Violation::StateDiffers {
            node: teller as u8 + 1,
            height: 0,
            what,
        })
    }
}

/// Most answers that are kept for comparison.
const MOST_READS: usize = 4_096;
