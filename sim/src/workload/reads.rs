//! Users that read. The state at a final block never changes: every execution client must give the
//! same answer at any time, and the one that follows from the final blocks and transactions.

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alys_integrations::http::{CallError, HttpClient};
use alys_types::ExecutionPayload;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::User;
use crate::invariants::{Answered, Asked, Violation, base_fee, logger_call};
use crate::params::accounts::{sink_address, user_address};
use crate::params::transactions::Contract;

/// Reads are of one of this many last final blocks.
const DEPTH: u64 = 4;
/// Gas of a transfer to an account without code; an estimate must equal it.
const TRANSFER_GAS: u64 = 21_000;
/// Part by which the estimate of a call may exceed its need, in thousandths of the estimate.
const ESTIMATE_TOLERANCE: u64 = 15;
/// Estimates are of calls that emit up to this many logs.
const MOST_LOGS: u64 = 24;

impl User {
    /// Sends one execution client one query about a final block, or a gas estimate of a transfer.
    pub(super) async fn read(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let teller = self.rng.below(clients.len() as u64) as usize;
        let client = &clients[teller];
        let Some((height, block)) = self.final_block() else {
            return Ok(());
        };
        let at = json!({ "blockHash": block });
        let contract = self.desk.contracts.iter().next();
        let contract = contract.map(|(contract, at)| (*contract, *at));
        let counter = self.desk.contracts.get(&Contract::Counter).copied();
        let user = user_address(self.index);
        let sink = sink_address(self.index);
        let owner = if self.flip() { user } else { sink };
        let (feature, method, params) = match self.rng.below(12) {
            0 => ("read.balance", "eth_getBalance", json!([owner, at])),
            1 => ("read.nonce", "eth_getTransactionCount", json!([user, at])),
            2 => (
                "read.storage",
                "eth_getStorageAt",
                json!([counter.unwrap_or(sink), "0x0", at]),
            ),
            3 => (
                "read.code",
                "eth_getCode",
                json!([contract.map_or(sink, |(_, at)| at), at]),
            ),
            4 => (
                "read.call",
                "eth_call",
                json!([{ "from": user, "to": counter.unwrap_or(sink) }, at]),
            ),
            5 => ("read.logs", "eth_getLogs", json!([at])),
            6 => ("read.receipts", "eth_getBlockReceipts", json!([at])),
            7 => ("read.block", "eth_getBlockByHash", json!([block, false])),
            8 => return self.read_fees(teller, client, height).await,
            9 => return self.read_transaction(teller, client).await,
            10 => return self.read_price(teller, client).await,
            _ => return self.estimate(teller, client, (height, block)).await,
        };
        // An execution client may not have the block yet.
        let Ok(answer) = client.call::<Value>(method, &params).await else {
            return Ok(());
        };
        if answer.is_null() {
            return Ok(());
        }
        let what = check(method, block, &answer);
        let what = what.or_else(|| match method {
            "eth_getBlockByHash" => self.check_block(height, &answer),
            "eth_getCode" => check_code(contract.map(|(contract, _)| contract), &answer),
            _ => None,
        });
        if let Some(what) = what {
            return Err(differs(
                teller,
                height,
                format!("{method} {params}: {what}"),
            ));
        }
        let subject = match method {
            "eth_getBalance" => Some((owner, Asked::Balance)),
            "eth_getTransactionCount" => Some((user, Asked::Nonce)),
            "eth_getStorageAt" => Some((counter.unwrap_or(sink), Asked::Slot)),
            _ => None,
        };
        self.keep(teller, height, subject, &answer);
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

    /// Keeps an answer about an account, to be compared with the transactions at the end.
    fn keep(&self, teller: usize, height: u64, of: Option<(Address, Asked)>, answer: &Value) {
        let (Some((account, asked)), Ok(found)) = (of, U256::deserialize(answer)) else {
            return;
        };
        self.judge.look().ledger.answered(Answered {
            node: teller as u8 + 1,
            height,
            account,
            asked,
            found,
        });
    }

    /// Compares a block with the payload that consensus made final. Returns the first difference.
    fn check_block(&self, height: u64, answer: &Value) -> Option<String> {
        let payload = self.payload(height)?;
        let numbers = [
            ("number", U256::from(payload.block_number)),
            ("gasLimit", U256::from(payload.gas_limit)),
            ("gasUsed", U256::from(payload.gas_used)),
            ("timestamp", U256::from(payload.timestamp)),
            ("baseFeePerGas", U256::from(base_fee(&payload))),
        ];
        let hashes = [
            ("hash", payload.block_hash),
            ("parentHash", payload.parent_hash),
            ("stateRoot", payload.state_root),
            ("receiptsRoot", payload.receipts_root),
            ("mixHash", payload.prev_randao),
        ];
        let number = |field: &str| U256::deserialize(&answer[field]).ok();
        let hash = |field: &str| B256::deserialize(&answer[field]).ok();
        let wrong_number = numbers
            .iter()
            .find(|(field, expected)| number(field) != Some(*expected))
            .map(|(field, expected)| format!("{field} {}, expected {expected}", answer[*field]));
        let wrong_hash = hashes
            .iter()
            .find(|(field, expected)| hash(field) != Some(B256::new(expected.0)))
            .map(|(field, expected)| format!("{field} {}, expected {expected}", answer[*field]));
        let transactions: Vec<B256> = payload.transactions.iter().map(keccak256).collect();
        let found = Vec::<B256>::deserialize(&answer["transactions"]).ok();
        let wrong_list = (found != Some(transactions))
            .then(|| "the transactions are not those of the block".to_owned());
        wrong_number.or(wrong_hash).or(wrong_list)
    }

    /// The payload of a final block.
    pub(super) fn payload(&self, height: u64) -> Option<ExecutionPayload> {
        let oracles = self.judge.look();
        let last = oracles.finality.blocks.get(&height)?;
        let proposed = oracles.blocks.get(&last.hash)?;
        Some(proposed.block.body.payload.clone())
    }

    /// Reads a transaction of the user that is in a final block.
    async fn read_transaction(
        &mut self,
        teller: usize,
        client: &HttpClient,
    ) -> Result<(), Violation> {
        let drawn = {
            let oracles = self.judge.look();
            let ledger = &oracles.ledger;
            let own = ledger.acknowledged.keys().filter(|hash| {
                let sent = ledger.sent.get(*hash);
                sent.is_some_and(|sent| sent.user == self.index)
            });
            let own: Vec<B256> = own.copied().collect();
            let at = self.rng.below(own.len() as u64) as usize;
            own.get(at).and_then(|hash| {
                let (height, block) = *ledger.acknowledged.get(hash)?;
                Some((*hash, height, block, ledger.sent.get(hash)?.nonce))
            })
        };
        let Some((hash, height, block, nonce)) = drawn else {
            return Ok(());
        };
        let method = "eth_getTransactionByHash";
        let Ok(answer) = client.call::<Value>(method, (hash,)).await else {
            return Ok(());
        };
        // The execution client may lack the transaction, or have it in another block yet.
        if answer.is_null() {
            return Ok(());
        }
        self.count("read.transaction");
        let is_there = B256::deserialize(&answer["blockHash"]).ok() == Some(block);
        let holds = [
            (
                "hash",
                B256::deserialize(&answer["hash"]).ok() == Some(hash),
            ),
            (
                "from",
                Address::deserialize(&answer["from"]).ok() == Some(user_address(self.index)),
            ),
            (
                "nonce",
                U256::deserialize(&answer["nonce"]).ok() == Some(U256::from(nonce)),
            ),
            (
                "blockNumber",
                !is_there
                    || U256::deserialize(&answer["blockNumber"]).ok() == Some(U256::from(height)),
            ),
        ];
        match holds.into_iter().find(|(_, holds)| !holds) {
            None => Ok(()),
            Some((field, _)) => {
                let what = format!("{method} {hash}: {field} {}", answer[field]);
                Err(differs(teller, height, what))
            }
        }
    }

    /// Asks for the gas of a transfer, or of a call whose gas follows from its argument.
    async fn estimate(
        &mut self,
        teller: usize,
        client: &HttpClient,
        (height, block): (u64, B256),
    ) -> Result<(), Violation> {
        let logger = self.desk.contracts.get(&Contract::Logger).copied();
        if let Some(logger) = logger.filter(|_| height.is_multiple_of(2)) {
            return self
                .estimate_call(teller, client, (height, block), logger)
                .await;
        }
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

impl User {
    /// Asks for the gas of a call of the contract that emits logs, which exists at the final block.
    async fn estimate_call(
        &mut self,
        teller: usize,
        client: &HttpClient,
        (height, block): (u64, B256),
        logger: Address,
    ) -> Result<(), Violation> {
        let argument = 1 + height % MOST_LOGS;
        let request = json!({
            "from": user_address(self.index),
            "to": logger,
            "input": B256::from(U256::from(argument)),
        });
        if !has_code(client, logger, json!({ "blockHash": block })).await {
            return Ok(());
        }
        let answer: Result<U64, CallError> = client.call("eth_estimateGas", json!([request])).await;
        // The head of a client that lost blocks may be below the final block.
        let Some(gas) = answer.ok().filter(|gas| gas.to::<u64>() > 0) else {
            return Ok(());
        };
        if !has_code(client, logger, json!("latest")).await {
            return Ok(());
        }
        self.count("read.estimate-call");
        let gas = gas.to::<u64>();
        let needed = logger_call(argument);
        // The search ends when it has come this close, so that the estimate may be higher.
        let is_close = gas.saturating_sub(needed) * 1_000 <= gas * ESTIMATE_TOLERANCE;
        if gas >= needed && is_close {
            return Ok(());
        }
        let what = format!("a call that needs {needed} gas is estimated to need {gas}");
        Err(differs(teller, height, what))
    }
}

/// True if the contract that emits logs is at the address in this block.
async fn has_code(client: &HttpClient, logger: Address, block: Value) -> bool {
    let params = json!([logger, block]);
    let code: Result<Bytes, CallError> = client.call("eth_getCode", params).await;
    code.is_ok_and(|code| code[..] == *Contract::Logger.code())
}

/// Checks that an answer is about the block that was asked for. Returns the difference.
fn check(method: &str, block: B256, answer: &Value) -> Option<String> {
    if !matches!(method, "eth_getLogs" | "eth_getBlockReceipts") {
        return None;
    }
    let items = answer.as_array()?;
    let is_of_block = |item: &&Value| B256::deserialize(&item["blockHash"]).ok() == Some(block);
    let other = items.iter().find(|item| !is_of_block(item))?;
    Some(format!("an item of block {}", other["blockHash"]))
}

/// Checks that an account has the code of its contract, or none because its deployment was replaced
/// or is not final yet. Returns the difference.
fn check_code(contract: Option<Contract>, answer: &Value) -> Option<String> {
    let found = Bytes::deserialize(answer).ok()?;
    let expected = contract.map_or(b"".as_slice(), Contract::code);
    let is_right = found.is_empty() || found[..] == *expected;
    (!is_right).then(|| format!("{found}, expected {}", Bytes::from_static(expected)))
}

/// True if the execution client has this payload's block at its height.
pub(super) async fn is_canonical(client: &HttpClient, payload: &ExecutionPayload) -> bool {
    let params = json!([U64::from(payload.block_number), false]);
    let answer = client.call::<Value>("eth_getBlockByNumber", &params).await;
    answer.is_ok_and(|block| {
        B256::deserialize(&block["hash"]).ok() == Some(B256::new(payload.block_hash.0))
    })
}

pub(super) fn differs(teller: usize, height: u64, what: String) -> Violation {
    Violation::StateDiffers {
        node: teller as u8 + 1,
        height,
        what,
    }
}

/// Most answers that are kept for comparison.
const MOST_READS: usize = 4_096;
