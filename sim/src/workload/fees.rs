//! Users that read fees, and compare the answers with an independent model, because all execution
//! clients of a run compute them alike.

use alloy_primitives::{B256, U64, U256};
use alys_integrations::http::HttpClient;
use alys_types::ExecutionPayload;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::User;
use super::reads::{differs, is_canonical};
use crate::invariants::{
    Receipt, Sampled, Violation, base_fee, next_base_fee, rewards, suggested_tip, tips,
};

/// Most blocks of a history that users read.
const MOST_BLOCKS: u64 = 4;
/// Most percentiles of a history that users read.
const MOST_PERCENTILES: u64 = 4;
/// Blocks that the suggestion of a tip follows.
const SAMPLED_BLOCKS: usize = 20;
/// Largest difference between two equal shares of gas.
const RATIO_ERROR: f64 = 1e-9;

/// A head, and the blocks below it that a client takes its suggestion of a tip from.
struct Sample {
    head: B256,
    /// The higher base fee of the head and of the block after it.
    base_fee: u128,
    tip: u128,
}

impl User {
    /// Reads the history of fees up to a final block, with the rewards at drawn percentiles.
    pub(super) async fn read_fees(
        &mut self,
        teller: usize,
        client: &HttpClient,
        height: u64,
    ) -> Result<(), Violation> {
        let count = 1 + self.rng.below(MOST_BLOCKS.min(height));
        let mut percentiles: Vec<u64> = (0..1 + self.rng.below(MOST_PERCENTILES))
            .map(|_| self.rng.below(101))
            .collect();
        percentiles.sort_unstable();
        let oldest = height + 1 - count;
        let blocks: Option<Vec<ExecutionPayload>> =
            (oldest..=height).map(|at| self.payload(at)).collect();
        let Some(blocks) = blocks else {
            return Ok(());
        };
        let Some(newest) = blocks.last() else {
            return Ok(());
        };
        if !is_canonical(client, newest).await {
            return Ok(());
        }
        let params = json!([U64::from(count), U64::from(height), percentiles]);
        let answer = client.call::<Value>("eth_feeHistory", &params).await;
        let Ok(answer) = answer else {
            return Ok(());
        };
        // A client that lags behind may have had another block at this height.
        if !is_canonical(client, newest).await {
            return Ok(());
        }
        self.count("read.fees");
        if let Some(what) = check_history(oldest, &blocks, &answer) {
            let what = format!("eth_feeHistory {params}: {what}");
            return Err(differs(teller, height, what));
        }
        let found = Vec::<Vec<U256>>::deserialize(&answer["reward"]).unwrap_or_default();
        for (index, block) in blocks.iter().enumerate() {
            let Some(paid) = self.paid(client, block).await else {
                continue;
            };
            let expected: Vec<U256> = rewards(paid, &percentiles)
                .into_iter()
                .map(U256::from)
                .collect();
            if found.get(index) != Some(&expected) {
                let what = format!(
                    "eth_feeHistory {params}: rewards {:?} of block {}, expected {expected:?}",
                    found.get(index),
                    block.block_number
                );
                return Err(differs(teller, height, what));
            }
            if block.transactions.len() > 1 {
                self.count("model.rewards");
            }
        }
        Ok(())
    }

    /// Tip and gas of each transaction of a final block; `None` if they are not known.
    async fn paid(
        &self,
        client: &HttpClient,
        block: &ExecutionPayload,
    ) -> Option<Vec<(u128, u64)>> {
        let tips = tips(block, &self.judge.look().ledger.sent)?;
        if tips.is_empty() {
            return Some(Vec::new());
        }
        let params = json!([{ "blockHash": B256::new(block.block_hash.0) }]);
        let receipts = client.call::<Vec<Receipt>>("eth_getBlockReceipts", &params);
        let receipts = receipts.await.ok()?;
        let gas: Vec<u64> = receipts
            .iter()
            .map(|receipt| receipt.gas_used.saturating_to())
            .collect();
        // The audit checks the receipts of every final block.
        let is_whole = gas.len() == tips.len() && gas.iter().sum::<u64>() == block.gas_used;
        is_whole.then(|| tips.into_iter().zip(gas).collect())
    }

    /// Reads the suggested tip and price at the head of a client.
    pub(super) async fn read_price(
        &mut self,
        teller: usize,
        client: &HttpClient,
    ) -> Result<(), Violation> {
        let Some(sample) = self.sample(teller) else {
            return Ok(());
        };
        if head(client).await != Some(sample.head) {
            return Ok(());
        }
        let tip = client
            .call::<U256>("eth_maxPriorityFeePerGas", json!([]))
            .await;
        let price = client.call::<U256>("eth_gasPrice", json!([])).await;
        let (Ok(tip), Ok(price)) = (tip, price) else {
            return Ok(());
        };
        if head(client).await != Some(sample.head) {
            return Ok(());
        }
        self.count("read.price");
        let expected = [sample.tip, sample.base_fee + sample.tip].map(U256::from);
        if [tip, price] == expected {
            self.count("model.price");
            return Ok(());
        }
        let what = format!(
            "tip and price {:?} at the head {}, expected {expected:?}",
            [tip, price],
            sample.head
        );
        Err(differs(teller, 0, what))
    }

    /// The head of a node, and the answers of its execution client there. `None` if a block is not
    /// known.
    fn sample(&self, node: usize) -> Option<Sample> {
        let oracles = self.judge.look();
        let mut at = *oracles.heads.get(&(node as u8))?;
        let head = &oracles.blocks.get(&at)?.block.body.payload;
        let fee = base_fee(head);
        let next = next_base_fee(head.gas_limit, head.gas_used, fee);
        let mut blocks = Vec::new();
        while blocks.len() < SAMPLED_BLOCKS {
            let proposed = oracles.blocks.get(&at)?;
            let payload = &proposed.block.body.payload;
            blocks.push(Sampled::of(payload, &oracles.ledger.sent)?);
            if payload.block_number == 1 {
                break;
            }
            at = proposed.parent();
        }
        if blocks.len() < SAMPLED_BLOCKS {
            blocks.push(Sampled::genesis());
        }
        Some(Sample {
            head: B256::new(head.block_hash.0),
            base_fee: fee.max(next),
            tip: suggested_tip(&blocks)?,
        })
    }
}

/// Compares all of a history but its rewards with the blocks. Returns the first difference.
fn check_history(oldest: u64, blocks: &[ExecutionPayload], answer: &Value) -> Option<String> {
    let mut fees: Vec<U256> = blocks
        .iter()
        .map(|block| U256::from(base_fee(block)))
        .collect();
    let next = blocks
        .last()
        .map(|block| next_base_fee(block.gas_limit, block.gas_used, base_fee(block)));
    fees.extend(next.map(U256::from));
    let found = Vec::<U256>::deserialize(&answer["baseFeePerGas"]).unwrap_or_default();
    if found != fees {
        return Some(format!("base fees {found:?}, expected {fees:?}"));
    }
    if U256::deserialize(&answer["oldestBlock"]).ok() != Some(U256::from(oldest)) {
        return Some(format!(
            "oldest block {}, expected {oldest}",
            answer["oldestBlock"]
        ));
    }
    let ratios = Vec::<f64>::deserialize(&answer["gasUsedRatio"]).unwrap_or_default();
    let is_ratio = |(found, block): (&f64, &ExecutionPayload)| {
        (found * block.gas_limit as f64 - block.gas_used as f64).abs()
            <= RATIO_ERROR * block.gas_limit as f64
    };
    let is_right = ratios.len() == blocks.len() && ratios.iter().zip(blocks).all(is_ratio);
    (!is_right).then(|| format!("shares of gas {ratios:?}"))
}

/// The hash of the newest block of a client.
async fn head(client: &HttpClient) -> Option<B256> {
    let params = json!(["latest", false]);
    let block = client.call::<Value>("eth_getBlockByNumber", &params).await;
    B256::deserialize(&block.ok()?["hash"]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, gas_used: u64, fee: u64) -> ExecutionPayload {
        ExecutionPayload {
            parent_hash: alys_types::Hash::ZERO,
            fee_recipient: alys_types::Address([0; 20]),
            state_root: alys_types::Hash::ZERO,
            receipts_root: alys_types::Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: alys_types::Hash::ZERO,
            block_number: number,
            gas_limit: 1_000,
            gas_used,
            timestamp: number,
            extra_data: Vec::new(),
            base_fee_per_gas: U256::from(fee).to_be_bytes(),
            block_hash: alys_types::Hash::ZERO,
            transactions: Vec::new(),
            withdrawals: Vec::new(),
            blob_gas: None,
        }
    }

    #[test]
    fn a_history_is_that_of_its_blocks() {
        let blocks = [block(4, 500, 800), block(5, 750, 800)];
        let good = json!({
            "oldestBlock": "0x4",
            "baseFeePerGas": ["0x320", "0x320", "0x352"],
            "gasUsedRatio": [0.5, 0.75],
        });
        assert_eq!(check_history(4, &blocks, &good), None);
        let table = [
            ("oldestBlock", json!("0x5"), "oldest block"),
            ("baseFeePerGas", json!(["0x320", "0x320"]), "base fees"),
            ("gasUsedRatio", json!([0.75, 0.5]), "shares of gas"),
        ];
        for (field, value, expected) in table {
            let mut wrong = good.clone();
            wrong[field] = value;
            let found = check_history(4, &blocks, &wrong).expect(expected);
            assert!(found.contains(expected), "{found}");
        }
    }
}
