//! Builds blocks from the pool's transactions.

use super::{
    blocks::{ChainAncestors, ExecutedBlock, SealedHeader, StoredBlock},
    chain::ExecutionCore,
    error::Error,
    executor::{BlockContext, Executor, TxFailure},
    genesis::Fork,
    header::next_excess_blob_gas,
    jobs::{Build, Job},
    limits,
    state::Overlay,
};
use alloy_consensus::{
    Block, BlockBody, Header,
    proofs::{calculate_receipt_root, calculate_transaction_root, calculate_withdrawals_root},
};
use alloy_eips::{eip1559::calculate_block_gas_limit, eip2718::Encodable2718 as _};
use alloy_primitives::{B64, U256, keccak256};
use alloy_rpc_types_engine::{ExecutionPayload, PayloadAttributes, PayloadId};
use alys_runtime::buggify;
use std::sync::Arc;

/// The minimum gas of a transaction.
const MIN_TRANSACTION_GAS: u64 = 21_000;

/// The result of `engine_getPayload`.
#[derive(Debug, Clone)]
pub struct BuiltPayload {
    /// V1 before Shanghai, V2 before Cancun, V3 from Cancun on.
    pub payload: ExecutionPayload,
    /// Income of the fee recipient in wei.
    pub block_value: U256,
}

impl ExecutionCore {
    /// Registers a build on the head, without transactions if `is_empty`. The same arguments on the
    /// same head give the same id.
    pub(super) fn start_build(
        &mut self,
        attributes: PayloadAttributes,
        is_empty: bool,
    ) -> Result<PayloadId, Error> {
        let invalid = |reason| Err(Error::InvalidAttributes { reason });
        let fork = self.rules.fork_at(attributes.timestamp);
        if attributes.timestamp <= self.head.header.timestamp {
            return invalid("timestamp is not after the head's");
        }
        if attributes.withdrawals.is_some() != (fork >= Fork::Shanghai) {
            return invalid("withdrawals must be given from Shanghai on, and not before");
        }
        if attributes.parent_beacon_block_root.is_some() != (fork >= Fork::Cancun) {
            return invalid("parentBeaconBlockRoot must be given from Cancun on, and not before");
        }
        let id = payload_id(&self.head, &attributes, is_empty);
        if self.jobs.0.iter().any(|job| job.id == id) {
            return Ok(id);
        }
        let max_jobs = if buggify!("execution.builder.one_job") {
            1
        } else {
            limits::PAYLOAD_JOBS
        };
        while self.jobs.0.len() >= max_jobs {
            self.jobs.0.pop_front();
        }
        self.jobs.0.push_back(Job {
            id,
            parent: self.head.clone(),
            attributes,
            is_empty,
            last_build: None,
        });
        Ok(id)
    }

    /// `engine_getPayload`: builds the block, from the current contents of the pool unless it must
    /// be empty.
    pub fn get_payload(&mut self, id: PayloadId) -> Result<BuiltPayload, Error> {
        let pool_version = self.pool_version();
        let index = self
            .jobs
            .0
            .iter()
            .position(|job| job.id == id)
            .ok_or(Error::UnknownPayload { id })?;
        let job = &self.jobs.0[index];
        let last = job.last_build.clone();
        let build = match last.filter(|build| build.pool_version == pool_version) {
            Some(build) => build,
            None => {
                let (executed, value) = self.build(&job.parent, &job.attributes, job.is_empty)?;
                Build {
                    executed,
                    pool_version,
                    value,
                }
            }
        };
        let block = &build.executed.block;
        let (payload, _) = ExecutionPayload::from_block_unchecked(block.hash, &block.block);
        let block_value = build.value;
        for job in &mut self.jobs.0 {
            // Only one executed block is kept, because it holds all trie nodes that it changed, and
            // a node imports the newest build only.
            job.last_build = None;
        }
        self.jobs.0[index].last_build = Some(build);
        Ok(BuiltPayload {
            payload,
            block_value,
        })
    }

    fn build(
        &self,
        parent: &Arc<SealedHeader>,
        attributes: &PayloadAttributes,
        is_empty: bool,
    ) -> Result<(ExecutedBlock, U256), Error> {
        let mut header = self.template(parent, attributes);
        let ancestors = ChainAncestors::new(&self.blocks, parent);
        let overlay = Overlay::new(&self.state, parent.header.state_root, &ancestors);
        let mut executor = Executor::open(BlockContext::new(&self.rules, &header), overlay)?;
        let mut transactions = Vec::new();
        let mut senders = Vec::new();
        let mut bytes = 0;
        let pool = self.pool.read();
        let mut best = pool.best(header.base_fee_per_gas.unwrap_or_default());
        while !is_empty && executor.gas_left() >= MIN_TRANSACTION_GAS {
            // A client is free to leave out transactions.
            if buggify!("execution.builder.stop_early", 100_000) {
                break;
            }
            let Some(transaction) = best.next() else {
                break;
            };
            let size = transaction.encode_2718_len();
            if bytes + size > limits::PAYLOAD_BYTES {
                continue;
            }
            match executor.execute(transaction.inner(), transaction.signer()) {
                Ok(()) => {
                    bytes += size;
                    best.included(transaction);
                    senders.push(transaction.signer());
                    transactions.push(transaction.inner().clone());
                }
                Err(TxFailure::Fault(error)) => return Err(error),
                // The transaction stays in the pool, which drops invalid ones when the head moves.
                // Later transactions of its sender are left out as well.
                Err(failure) => {
                    tracing::trace!(hash = %transaction.tx_hash(), %failure, "left out")
                }
            }
        }
        let withdrawals = attributes.withdrawals.clone();
        let executed = executor.close(withdrawals.as_deref())?;
        let state = self
            .state
            .apply(parent.header.state_root, &executed.changes)?;
        header.state_root = state.root;
        header.gas_used = executed.gas_used;
        header.logs_bloom = executed.logs_bloom;
        header.receipts_root = calculate_receipt_root(&executed.receipts);
        header.transactions_root = calculate_transaction_root(&transactions);
        header.withdrawals_root = withdrawals.as_deref().map(calculate_withdrawals_root);
        let body = BlockBody {
            transactions,
            ommers: Vec::new(),
            withdrawals: withdrawals.map(Into::into),
        };
        let hash = header.hash_slow();
        let block = StoredBlock {
            hash,
            block: Block { header, body },
            senders,
        };
        let executed_block = ExecutedBlock {
            block: Arc::new(block),
            receipts: Arc::new(executed.receipts),
            state: Arc::new(state),
        };
        Ok((executed_block, executed.tips))
    }

    /// The header fields that are known before execution.
    fn template(&self, parent: &SealedHeader, attributes: &PayloadAttributes) -> Header {
        let parent_hash = parent.hash;
        let parent = &parent.header;
        let cancun = self.rules.fork_at(attributes.timestamp) >= Fork::Cancun;
        let target = self.config.gas_limit_target.unwrap_or(parent.gas_limit);
        Header {
            parent_hash,
            beneficiary: attributes.suggested_fee_recipient,
            number: parent.number + 1,
            gas_limit: calculate_block_gas_limit(parent.gas_limit, target),
            timestamp: attributes.timestamp,
            mix_hash: attributes.prev_randao,
            base_fee_per_gas: Some(self.next_base_fee(parent)),
            blob_gas_used: cancun.then_some(0),
            excess_blob_gas: cancun.then(|| next_excess_blob_gas(parent)),
            parent_beacon_block_root: attributes.parent_beacon_block_root,
            ..Header::default()
        }
    }
}

fn payload_id(parent: &SealedHeader, attributes: &PayloadAttributes, is_empty: bool) -> PayloadId {
    let mut bytes = parent.hash.to_vec();
    bytes.extend(attributes.timestamp.to_be_bytes());
    bytes.extend(attributes.prev_randao);
    bytes.extend(attributes.suggested_fee_recipient);
    bytes.push(u8::from(attributes.withdrawals.is_some()));
    alloy_rlp::encode_list(
        attributes.withdrawals.as_deref().unwrap_or_default(),
        &mut bytes,
    );
    bytes.extend(attributes.parent_beacon_block_root.iter().flatten());
    if is_empty {
        bytes.push(1);
    }
    let digest = keccak256(&bytes);
    PayloadId(B64::from_slice(&digest[..8]))
}
