//! Queries of blocks, transactions, receipts, logs and fees, with the types of the JSON-RPC.

use super::{
    blocks::{SealedHeader, StoredBlock},
    error::Error,
    genesis::Fork,
    header::next_excess_blob_gas,
    limits,
    pool::{PoolContent, PoolStatus},
    view::ChainView,
};
use alloy_consensus::{
    BlockBody, ReceiptEnvelope, Sealed, Transaction as _, TxEnvelope,
    constants::EMPTY_WITHDRAWALS,
    transaction::{Recovered, TransactionInfo},
};
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, B256, U256};
use alloy_rlp::Encodable as _;
use alloy_rpc_types_engine::ExecutionPayloadBodyV1;
use alloy_rpc_types_eth::{
    Block, BlockId, BlockNumberOrTag, BlockTransactions, FeeHistory, Filter, FilterBlockOption,
    Header, Log, Transaction, TransactionReceipt,
};
use std::sync::Arc;

/// Suggested tip in wei while blocks have room. There it suffices, because leaders include every
/// transaction that can pay the base fee; a higher one would follow the senders that paid too much.
const DEFAULT_TIP: u128 = 1_000_000_000;
/// Highest suggested tip in wei, as in Geth.
const MAX_TIP: u128 = 500_000_000_000;
/// Blocks sampled for a suggestion, as in Geth.
const TIP_BLOCKS: u64 = 20;
/// Lowest tips sampled per block.
const TIP_SAMPLES: usize = 3;

/// The number of addresses and topics of a filter.
///
/// # Errors
/// [`Error::LimitExceeded`] beyond [`limits::FILTER_CONDITIONS`] of either.
pub fn check_filter(filter: &Filter) -> Result<usize, Error> {
    let addresses = filter.address.len();
    let topics: usize = filter.topics.iter().map(|topic| topic.len()).sum();
    for (what, count) in [
        ("addresses in a filter", addresses),
        ("topics in a filter", topics),
    ] {
        if count > limits::FILTER_CONDITIONS {
            return Err(Error::LimitExceeded {
                what,
                limit: limits::FILTER_CONDITIONS as u64,
            });
        }
    }
    Ok(addresses + topics)
}

/// Logs that were found, within the limits of an answer.
#[derive(Default)]
struct FoundLogs {
    logs: Vec<Log>,
    bytes: usize,
}

impl FoundLogs {
    fn is_full(&self) -> bool {
        self.logs.len() >= limits::LOG_RESULTS || self.bytes >= limits::LOG_RESULT_BYTES
    }

    fn push(&mut self, log: Log) {
        self.bytes += limits::LOG_BYTES + log.inner.data.data.len();
        self.logs.push(log);
    }
}

impl ChainView {
    /// The header of a stored block. `pending` means the head, whose state is the one that the next
    /// block starts from; [`Self::pending_header`] is that of the next block.
    pub fn header(&self, id: BlockId) -> Result<Option<Arc<SealedHeader>>, Error> {
        match id {
            BlockId::Hash(id) => {
                let Some(header) = self.blocks.header(id.block_hash)? else {
                    return Ok(None);
                };
                let is_canonical =
                    self.blocks.canonical(header.header.number)? == Some(header.hash);
                let is_required = id.require_canonical.unwrap_or_default();
                Ok((is_canonical || !is_required).then_some(header))
            }
            BlockId::Number(tag) => match tag {
                BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => Ok(Some(self.head.clone())),
                BlockNumberOrTag::Safe => Ok(Some(self.safe.clone())),
                BlockNumberOrTag::Finalized => {
                    let found = crate::interceptor::finalized(&self.finalized, &self.safe);
                    Ok(Some(found.clone()))
                }
                BlockNumberOrTag::Earliest => Ok(Some(self.genesis.clone())),
                // The index may already reach beyond the head of this view.
                BlockNumberOrTag::Number(number) if number > self.head.header.number => Ok(None),
                BlockNumberOrTag::Number(number) => match self.blocks.canonical(number)? {
                    Some(hash) => self.blocks.header(hash),
                    None => Ok(None),
                },
            },
        }
    }

    /// A stored block with its senders.
    pub fn block(&self, id: BlockId) -> Result<Option<Arc<StoredBlock>>, Error> {
        self.header(id)?
            .map(|header| self.stored(header.hash))
            .transpose()
    }

    /// The receipts of a stored block.
    pub fn receipts(&self, id: BlockId) -> Result<Option<Arc<Vec<ReceiptEnvelope>>>, Error> {
        self.header(id)?
            .map(|header| self.stored_receipts(header.hash))
            .transpose()
    }

    /// `eth_getBlockBy…` with full transactions or their hashes.
    pub fn rpc_block(&self, id: BlockId, full: bool) -> Result<Option<Block>, Error> {
        let Some(block) = self.block(id)? else {
            return Ok(None);
        };
        let transactions = if full {
            BlockTransactions::Full(
                (0..block.senders.len())
                    .filter_map(|index| rpc_transaction(&block, index))
                    .collect(),
            )
        } else {
            let hashes = block
                .block
                .body
                .transactions
                .iter()
                .map(|transaction| *transaction.tx_hash());
            BlockTransactions::Hashes(hashes.collect())
        };
        let size = U256::from(block.block.length());
        let sealed = Sealed::new_unchecked(block.block.header.clone(), block.hash);
        Ok(Some(Block {
            header: Header::from_consensus(sealed, None, Some(size)),
            uncles: Vec::new(),
            transactions,
            withdrawals: block.block.body.withdrawals.clone(),
        }))
    }

    /// The header of the next block as far as it is known: without transactions, at the earliest
    /// timestamp, with the gas limit, fee recipient and randomness of the head. Its leader chooses
    /// the actual ones.
    pub fn pending_header(&self) -> alloy_consensus::Header {
        let head = &self.head.header;
        let timestamp = head.timestamp.saturating_add(1);
        let fork = self.rules.fork_at(timestamp);
        let (has_withdrawals, has_blob_fields) = (fork >= Fork::Shanghai, fork >= Fork::Cancun);
        alloy_consensus::Header {
            parent_hash: self.head.hash,
            beneficiary: head.beneficiary,
            state_root: head.state_root,
            number: head.number.saturating_add(1),
            gas_limit: head.gas_limit,
            timestamp,
            mix_hash: head.mix_hash,
            base_fee_per_gas: Some(self.next_base_fee(head)),
            withdrawals_root: has_withdrawals.then_some(EMPTY_WITHDRAWALS),
            blob_gas_used: has_blob_fields.then_some(0),
            excess_blob_gas: has_blob_fields.then(|| next_excess_blob_gas(head)),
            parent_beacon_block_root: has_blob_fields.then_some(B256::ZERO),
            ..alloy_consensus::Header::default()
        }
    }

    /// `eth_getBlockByNumber` of `pending`: the next block without transactions, which enter it
    /// when its leader builds it. Its hash is not known before: it is zero here, because the type
    /// requires one, and null in the answer of the RPC.
    pub fn rpc_pending_block(&self) -> Block {
        let header = self.pending_header();
        let withdrawals = header.withdrawals_root.map(|_| Default::default());
        let block: alloy_consensus::Block<TxEnvelope> = alloy_consensus::Block {
            header,
            body: BlockBody {
                transactions: Vec::new(),
                ommers: Vec::new(),
                withdrawals,
            },
        };
        let size = U256::from(block.length());
        let sealed = Sealed::new_unchecked(block.header, B256::ZERO);
        Block {
            header: Header::from_consensus(sealed, None, Some(size)),
            uncles: Vec::new(),
            transactions: BlockTransactions::Hashes(Vec::new()),
            withdrawals: block.body.withdrawals,
        }
    }

    /// A transaction of the canonical chain or of the pool.
    ///
    /// # Errors
    /// [`Error::Superseded`] when the head has moved, so that the pool may have dropped it as mined.
    pub fn rpc_transaction(&self, hash: B256) -> Result<Option<Transaction>, Error> {
        if let Some((block, index)) = self.mined(hash)? {
            return Ok(rpc_transaction(&block, index));
        }
        let pool = self.pool.read();
        let pooled = pool.get(&hash).cloned();
        if pooled.is_none() {
            // It may have been mined since the look-up above.
            self.check_pool(&pool)?;
        }
        drop(pool);
        let pooled = pooled.map(|pooled| pooled.as_ref().clone());
        Ok(pooled.map(|pooled| Transaction::from_transaction(pooled, TransactionInfo::default())))
    }

    /// A transaction by block and index.
    pub fn rpc_transaction_at(
        &self,
        id: BlockId,
        index: usize,
    ) -> Result<Option<Transaction>, Error> {
        Ok(self
            .block(id)?
            .and_then(|block| rpc_transaction(&block, index)))
    }

    /// The receipt of a transaction of the canonical chain.
    pub fn rpc_receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, Error> {
        let Some((block, index)) = self.mined(hash)? else {
            return Ok(None);
        };
        let receipts = self.stored_receipts(block.hash)?;
        Ok(rpc_receipts(&block, &receipts).nth(index))
    }

    /// The receipts of a block, in order. By hash also those of a block that is not canonical,
    /// until it is pruned, some time after finality.
    pub fn rpc_block_receipts(
        &self,
        id: BlockId,
    ) -> Result<Option<Vec<TransactionReceipt>>, Error> {
        let Some(header) = self.header(id)? else {
            return Ok(None);
        };
        let hash = header.hash;
        match (self.blocks.block(hash)?, self.blocks.receipts(hash)?) {
            (Some(block), Some(receipts)) => Ok(Some(rpc_receipts(&block, &receipts).collect())),
            // A cache may hold the header of a pruned block.
            _ if self.blocks.canonical(header.header.number)? != Some(hash) => Ok(None),
            _ => Err(Error::corrupt("receipts", hash)),
        }
    }

    /// `eth_getLogs` over one block or a range of the canonical chain. As in the specification, the
    /// length of a range has no limit, and a range that is reversed or extends beyond the head is
    /// an error instead of a partial answer.
    ///
    /// # Errors
    /// [`Error::InvalidParams`] and [`Error::RangeBeyondHead`] for such a range,
    /// [`Error::TooManyLogs`] beyond [`limits::LOG_RESULTS`] or [`limits::LOG_RESULT_BYTES`] in
    /// several blocks, [`Error::LimitExceeded`] beyond the limits of [`check_filter`], and
    /// [`Error::UnknownBlock`] for an unknown block hash.
    pub fn logs(&self, filter: &Filter) -> Result<Vec<Log>, Error> {
        check_filter(filter)?;
        let mut found = FoundLogs::default();
        match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let id = BlockId::from(hash);
                let header = self.header(id)?.ok_or(Error::UnknownBlock { block: id })?;
                let number = header.header.number;
                self.block_logs(&header, filter, number, &mut found)?;
            }
            FilterBlockOption::Range {
                from_block,
                to_block,
            } => {
                let number = |tag: Option<BlockNumberOrTag>| -> u64 {
                    match tag.unwrap_or_default() {
                        BlockNumberOrTag::Number(number) => number,
                        BlockNumberOrTag::Earliest => 0,
                        BlockNumberOrTag::Safe => self.safe.header.number,
                        BlockNumberOrTag::Finalized => self.finalized.header.number,
                        BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => {
                            self.head.header.number
                        }
                    }
                };
                let from = number(from_block);
                let to = number(to_block);
                if from > to {
                    return Err(Error::InvalidParams {
                        reason: "invalid block range params",
                    });
                }
                let head = self.head.header.number;
                if to > head {
                    return Err(Error::RangeBeyondHead {
                        requested: to,
                        head,
                    });
                }
                for number in from..=to {
                    self.check_meter()?;
                    let Some(header) = self.header(BlockId::number(number))? else {
                        break;
                    };
                    self.block_logs(&header, filter, from, &mut found)?;
                }
            }
        }
        Ok(found.logs)
    }

    /// The logs of a block that has left the chain; `None` once it is pruned, some time after
    /// finality. A reader's cache may hold parts of the block for longer.
    ///
    /// # Errors
    /// Those of the store and the meter.
    pub fn removed_logs(&self, hash: B256, filter: &Filter) -> Result<Option<Vec<Log>>, Error> {
        self.check_meter()?;
        let Some(block) = self.blocks.block(hash)? else {
            return Ok(None);
        };
        if !filter.matches_bloom(block.block.header.logs_bloom) {
            return Ok(Some(Vec::new()));
        }
        let Some(receipts) = self.blocks.receipts(hash)? else {
            return Ok(None);
        };
        let logs = rpc_receipts(&block, &receipts).flat_map(|receipt| receipt.inner.into_logs());
        Ok(Some(
            logs.filter(|log| filter.matches(&log.inner)).collect(),
        ))
    }

    /// Adds the logs of a block to `found`, which has those from block `from` on.
    fn block_logs(
        &self,
        header: &SealedHeader,
        filter: &Filter,
        from: u64,
        found: &mut FoundLogs,
    ) -> Result<(), Error> {
        if !filter.matches_bloom(header.header.logs_bloom) {
            return Ok(());
        }
        let block = self.stored(header.hash)?;
        let receipts = self.stored_receipts(header.hash)?;
        for log in rpc_receipts(&block, &receipts).flat_map(|receipt| receipt.inner.into_logs()) {
            if filter.matches(&log.inner) {
                // One block has no smaller range, so it is never refused.
                if found.is_full() && header.header.number > from {
                    return Err(Error::TooManyLogs {
                        limit: limits::LOG_RESULTS,
                        from,
                        to: header.header.number.saturating_sub(1),
                    });
                }
                found.push(log);
            }
        }
        Ok(())
    }

    /// `eth_feeHistory`: `count` blocks up to `newest`, with the rewards at ascending percentiles
    /// of gas from 0 to 100.
    ///
    /// # Errors
    /// [`Error::InvalidParams`], [`Error::LimitExceeded`], [`Error::UnknownBlock`].
    pub fn fee_history(
        &self,
        count: u64,
        newest: BlockNumberOrTag,
        percentiles: Option<&[f64]>,
    ) -> Result<FeeHistory, Error> {
        if let Some(percentiles) = percentiles {
            if percentiles.len() > limits::FEE_HISTORY_PERCENTILES {
                return Err(Error::LimitExceeded {
                    what: "percentiles",
                    limit: limits::FEE_HISTORY_PERCENTILES as u64,
                });
            }
            let in_order = percentiles.windows(2).all(|pair| pair[0] <= pair[1]);
            if !in_order
                || !percentiles
                    .iter()
                    .all(|percentile| (0.0..=100.0).contains(percentile))
            {
                return Err(Error::InvalidParams {
                    reason: "invalid reward percentile",
                });
            }
        }
        let id = BlockId::from(newest);
        let newest = self.header(id)?.ok_or(Error::UnknownBlock { block: id })?;
        let count = count
            .min(limits::FEE_HISTORY_BLOCKS)
            .min(newest.header.number + 1);
        let mut history = FeeHistory {
            oldest_block: newest.header.number + 1 - count,
            ..FeeHistory::default()
        };
        // Without blocks the history still has the base fee of the block after `newest`.
        let mut rewards = Vec::new();
        for number in history.oldest_block..=newest.header.number {
            self.check_meter()?;
            let id = BlockId::number(number);
            let header = self.header(id)?.ok_or(Error::UnknownBlock { block: id })?;
            let inner = &header.header;
            history
                .base_fee_per_gas
                .push(inner.base_fee_per_gas.unwrap_or_default().into());
            history
                .gas_used_ratio
                .push(inner.gas_used as f64 / inner.gas_limit as f64);
            history
                .base_fee_per_blob_gas
                .push(inner.blob_fee(BlobParams::cancun()).unwrap_or_default());
            history.blob_gas_used_ratio.push(0.0);
            if let Some(percentiles) = percentiles {
                rewards.push(self.rewards(&header, percentiles)?);
            }
        }
        history
            .base_fee_per_gas
            .push(self.next_base_fee(&newest.header).into());
        let next_blob_fee = newest.header.next_block_blob_fee(BlobParams::cancun());
        history
            .base_fee_per_blob_gas
            .push(next_blob_fee.unwrap_or_default());
        history.reward = percentiles.map(|_| rewards);
        Ok(history)
    }

    /// The tips at percentiles of a block's gas.
    fn rewards(&self, header: &SealedHeader, percentiles: &[f64]) -> Result<Vec<u128>, Error> {
        if header.header.gas_used == 0 {
            return Ok(vec![0; percentiles.len()]);
        }
        let mut tips = self.tips(header)?;
        if crate::interceptor::tips_are_sorted() {
            tips.sort_unstable();
        }
        let mut rest = tips.iter().copied();
        let mut current = rest.next().unwrap_or_default();
        let mut gas = current.1;
        let mut rewards = Vec::with_capacity(percentiles.len());
        for percentile in percentiles {
            let threshold = (header.header.gas_used as f64 * percentile / 100.0) as u64;
            while gas < threshold {
                let Some(next) = rest.next() else { break };
                current = next;
                gas += current.1;
            }
            rewards.push(current.0);
        }
        Ok(rewards)
    }

    /// Effective tip and gas used of each transaction of a block.
    fn tips(&self, header: &SealedHeader) -> Result<Vec<(u128, u64)>, Error> {
        let block = self.stored(header.hash)?;
        let receipts = self.stored_receipts(header.hash)?;
        let base_fee = header.header.base_fee_per_gas.unwrap_or_default();
        let mut before = 0;
        let transactions = block.block.body.transactions.iter().zip(receipts.iter());
        Ok(transactions
            .map(|(transaction, receipt)| {
                let gas = receipt.cumulative_gas_used() - before;
                before = crate::interceptor::gas_before(receipt.cumulative_gas_used());
                (
                    transaction
                        .effective_tip_per_gas(base_fee)
                        .unwrap_or_default(),
                    gas,
                )
            })
            .collect())
    }

    /// `eth_maxPriorityFeePerGas` in wei: the 60th percentile of the lowest included tips of recent
    /// blocks. A block with room counts as one that [`DEFAULT_TIP`] would have entered, so that one
    /// generous sender does not raise the price for all others.
    pub fn max_priority_fee(&self) -> Result<u128, Error> {
        let head = self.head.header.number;
        let mut samples = Vec::new();
        for number in head.saturating_sub(TIP_BLOCKS - 1)..=head {
            let Some(header) = self.header(BlockId::number(number))? else {
                break;
            };
            if header.header.gas_used == 0 {
                samples.push(DEFAULT_TIP);
                continue;
            }
            let needed = if self.has_room(&header)? {
                DEFAULT_TIP
            } else {
                u128::MAX
            };
            let mut tips: Vec<u128> = self
                .tips(&header)?
                .into_iter()
                .map(|(tip, _)| tip.min(needed))
                .collect();
            tips.sort_unstable();
            samples.extend(tips.into_iter().take(TIP_SAMPLES));
        }
        samples.sort_unstable();
        let middle = samples.len().saturating_sub(1) * 60 / 100;
        let suggested = samples.get(middle).copied().unwrap_or(DEFAULT_TIP);
        Ok(suggested.clamp(self.pool.read().min_tip(), MAX_TIP))
    }

    /// True when another transaction would have fit into the block: it uses at most half of its
    /// gas, below which the base fee does not rise, and half of the bytes of a built block.
    fn has_room(&self, header: &SealedHeader) -> Result<bool, Error> {
        let inner = &header.header;
        Ok(inner.gas_used <= inner.gas_limit / 2
            && self.stored(header.hash)?.block.length() <= limits::PAYLOAD_BYTES / 2)
    }

    /// `eth_gasPrice` in wei: the suggested tip plus the base fee of the next block or of the
    /// newest one, the higher of the two. Some wallets pass the price to `eth_estimateGas` or
    /// `eth_call` on `latest`, whose base fee is the higher one while the fee falls.
    pub fn gas_price(&self) -> Result<u128, Error> {
        let newest = self.head.header.base_fee_per_gas.unwrap_or_default();
        let base_fee = newest.max(self.next_base_fee(&self.head.header));
        Ok(u128::from(base_fee).saturating_add(self.max_priority_fee()?))
    }

    /// `eth_blobBaseFee` of the next block in wei. It is the minimum, because this chain has no
    /// blobs.
    pub fn blob_base_fee(&self) -> u128 {
        self.head
            .header
            .next_block_blob_fee(BlobParams::cancun())
            .unwrap_or(1)
    }

    /// `engine_getPayloadBodiesByHashV1` for one hash.
    pub fn payload_body_by_hash(
        &self,
        hash: B256,
    ) -> Result<Option<ExecutionPayloadBodyV1>, Error> {
        Ok(self.blocks.block(hash)?.map(|block| body(&block)))
    }

    /// `engine_getPayloadBodiesByRangeV1`, which ends at the head.
    ///
    /// # Errors
    /// [`Error::InvalidParams`], [`Error::LimitExceeded`].
    pub fn payload_bodies_by_range(
        &self,
        start: u64,
        count: u64,
    ) -> Result<Vec<Option<ExecutionPayloadBodyV1>>, Error> {
        if start == 0 || count == 0 {
            return Err(Error::InvalidParams {
                reason: "start and count must be positive",
            });
        }
        if count > limits::PAYLOAD_BODIES {
            return Err(Error::LimitExceeded {
                what: "payload bodies",
                limit: limits::PAYLOAD_BODIES,
            });
        }
        let end = start.saturating_add(count).min(self.head.header.number + 1);
        (start..end)
            .map(|number| {
                Ok(self
                    .block(BlockId::number(number))?
                    .map(|block| body(&block)))
            })
            .collect()
    }

    pub fn pool_status(&self) -> PoolStatus {
        self.pool.read().status()
    }

    /// The pool within [`limits::POOL_JSON_BYTES`], or the part of `only`.
    pub fn pool_content_within(&self, only: Option<Address>) -> PoolContent {
        let base_fee = self.next_base_fee(&self.head.header);
        let pool = self.pool.read();
        pool.content_within(only, base_fee, limits::POOL_JSON_BYTES)
    }

    pub fn pool_content(&self) -> PoolContent {
        self.pool.read().content()
    }

    pub fn pool_transaction(&self, hash: B256) -> Option<Arc<Recovered<TxEnvelope>>> {
        self.pool.read().get(&hash).cloned()
    }

    /// Increases whenever a transaction enters or leaves the pool, and whenever the head moves.
    pub fn pool_version(&self) -> u64 {
        self.pool.read().version()
    }

    /// Block and index of a transaction of the canonical chain.
    fn mined(&self, hash: B256) -> Result<Option<(Arc<StoredBlock>, usize)>, Error> {
        let Some((number, index)) = self.blocks.lookup(hash)? else {
            return Ok(None);
        };
        if number > self.head.header.number {
            // The pool may have dropped it already, so the answer would be "unknown".
            return Err(Error::Superseded);
        }
        let block = self.block(BlockId::number(number))?;
        Ok(block.map(|block| (block, index as usize)))
    }

    fn stored_receipts(&self, hash: B256) -> Result<Arc<Vec<ReceiptEnvelope>>, Error> {
        self.blocks
            .receipts(hash)?
            .ok_or_else(|| Error::corrupt("receipts", hash))
    }
}

fn body(block: &StoredBlock) -> ExecutionPayloadBodyV1 {
    let body = &block.block.body;
    ExecutionPayloadBodyV1::new(body.withdrawals.clone(), body.transactions.iter())
}

fn rpc_transaction(block: &StoredBlock, index: usize) -> Option<Transaction> {
    let header = &block.block.header;
    let transaction = block.block.body.transactions.get(index)?;
    let sender = *block.senders.get(index)?;
    let info = TransactionInfo {
        hash: Some(*transaction.tx_hash()),
        index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(header.number),
        base_fee: header.base_fee_per_gas,
        block_timestamp: Some(header.timestamp),
    };
    Some(Transaction::from_transaction(
        Recovered::new_unchecked(transaction.clone(), sender),
        info,
    ))
}

fn rpc_receipts<'a>(
    block: &'a StoredBlock,
    receipts: &'a [ReceiptEnvelope],
) -> impl Iterator<Item = TransactionReceipt> + 'a {
    let header = &block.block.header;
    let mut gas_before = 0;
    let mut log_index = 0;
    let transactions = block
        .block
        .body
        .transactions
        .iter()
        .zip(&block.senders)
        .zip(receipts);
    (0u64..)
        .zip(transactions)
        .map(move |(index, ((transaction, sender), receipt))| {
            let gas_used = receipt.cumulative_gas_used() - gas_before;
            gas_before = receipt.cumulative_gas_used();
            log_index = crate::interceptor::next_log_index(log_index);
            let inner = receipt.clone().map_logs(|log| {
                let number = log_index;
                log_index += 1;
                Log {
                    inner: log,
                    block_hash: Some(block.hash),
                    block_number: Some(header.number),
                    block_timestamp: Some(header.timestamp),
                    transaction_hash: Some(*transaction.tx_hash()),
                    transaction_index: Some(index),
                    log_index: Some(number),
                    removed: false,
                }
            });
            TransactionReceipt {
                inner,
                transaction_hash: *transaction.tx_hash(),
                transaction_index: Some(index),
                block_hash: Some(block.hash),
                block_number: Some(header.number),
                gas_used,
                effective_gas_price: transaction.effective_gas_price(header.base_fee_per_gas),
                blob_gas_used: None,
                blob_gas_price: None,
                from: *sender,
                to: transaction.to(),
                contract_address: transaction
                    .is_create()
                    .then(|| sender.create(transaction.nonce())),
            }
        })
}
