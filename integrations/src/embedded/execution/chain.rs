//! The core itself: opening, import of payloads, fork choice.

use super::{
    blocks::{BlockStore, Pointer, SealedHeader, StoredBlock},
    builder::Jobs,
    cache::Cache,
    error::{Error, PoolError},
    executor::{BlockContext, Executed, Executor, TxFailure},
    genesis::{ChainRules, Fork, genesis_block},
    header::check_header,
    limits,
    pool::{HeadInfo, Pool, PoolConfig, Sender},
    sender::recover_sender,
    state::{Ancestors, Overlay, StateDb, StateUpdate},
};
use alloy_consensus::{
    Block, Header, ReceiptEnvelope, TxEnvelope, proofs::calculate_receipt_root,
    transaction::Recovered,
};
use alloy_eips::{BlockNumHash, eip2718::Decodable2718 as _};
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256};
use alloy_rpc_types_engine::{
    ExecutionData, ExecutionPayload, ExecutionPayloadSidecar, ForkchoiceState, ForkchoiceUpdated,
    PayloadAttributes, PayloadStatus, PayloadStatusEnum,
};
use alys_runtime::buggify;
use alys_storage::{Batch, Durability, Store};
use std::cell::RefCell;
use std::sync::Arc;

/// What an operator may choose; none of it is consensus.
#[derive(Debug, Clone, Default)]
pub struct CoreConfig {
    /// Limits of the transaction pool.
    pub pool: PoolConfig,
    /// Gas limit that built blocks move towards; the parent's when absent.
    pub gas_limit_target: Option<u64>,
}

/// The execution client. See the module's page for the whole surface.
pub struct ExecutionCore {
    pub(super) store: Store,
    pub(super) rules: ChainRules,
    pub(super) state: StateDb,
    pub(super) blocks: BlockStore,
    pub(super) config: CoreConfig,
    pub(super) genesis: Arc<SealedHeader>,
    pub(super) head: Arc<SealedHeader>,
    pub(super) safe: Arc<SealedHeader>,
    pub(super) finalized: Arc<SealedHeader>,
    /// Invalid block to its last valid ancestor.
    invalid: Cache<B256, B256>,
    pub(super) jobs: Jobs,
    pub(super) pool: Pool,
}

/// A block that was executed and is not stored yet.
#[derive(Debug, Clone)]
pub(crate) struct ExecutedBlock {
    pub(crate) block: Arc<StoredBlock>,
    pub(crate) receipts: Arc<Vec<ReceiptEnvelope>>,
    pub(crate) state: Arc<StateUpdate>,
}

/// Why a block is not valid, or why we could not find out.
pub(crate) enum ImportError {
    Invalid(String),
    Fault(Error),
}

impl From<Error> for ImportError {
    fn from(error: Error) -> Self {
        Self::Fault(error)
    }
}

impl ExecutionCore {
    /// Opens the chain in `store`, or starts it with `genesis` when there is none.
    ///
    /// # Errors
    /// [`Error::UnsupportedGenesis`], [`Error::GenesisMismatch`] when the store belongs to another chain, and what the
    /// store says.
    pub fn open(store: Store, genesis: &Genesis, config: CoreConfig) -> Result<Self, Error> {
        let rules = ChainRules::new(genesis)?;
        let state = StateDb::new(store.clone());
        let blocks = BlockStore::new(store.clone());
        let (header, update) = genesis_block(&state, &rules, genesis)?;
        let genesis = Arc::new(SealedHeader::new(header));
        match blocks.pointer(Pointer::Genesis)? {
            Some(stored) if stored != genesis.hash => {
                return Err(Error::GenesisMismatch {
                    stored,
                    configured: genesis.hash,
                });
            }
            Some(_) => {}
            None => {
                let withdrawals = genesis.header.withdrawals_root.map(|_| Default::default());
                let mut block = Block {
                    header: genesis.header.clone(),
                    ..Block::default()
                };
                block.body.withdrawals = withdrawals;
                let block = StoredBlock {
                    hash: genesis.hash,
                    block,
                    senders: Vec::new(),
                };
                let mut batch = Batch::new();
                update.write(&mut batch);
                blocks.put_block(&mut batch, &block, &Vec::new());
                blocks.put_canonical(&mut batch, &block);
                for pointer in [
                    Pointer::Genesis,
                    Pointer::Head,
                    Pointer::Safe,
                    Pointer::Finalized,
                ] {
                    blocks.put_pointer(&mut batch, pointer, genesis.hash);
                }
                store.write(batch, Durability::Durable)?;
            }
        }
        let pointed = |pointer: Pointer| {
            let hash = blocks
                .pointer(pointer)?
                .ok_or_else(|| Error::corrupt("pointer", format!("{pointer:?}")))?;
            blocks
                .header(hash)?
                .ok_or_else(|| Error::corrupt("header", hash))
        };
        let (head, safe, finalized) = (
            pointed(Pointer::Head)?,
            pointed(Pointer::Safe)?,
            pointed(Pointer::Finalized)?,
        );
        let pool = Pool::new(match buggify!("execution.pool.small") {
            true => PoolConfig {
                max_transactions: limits::SMALL_POOL,
                ..config.pool.clone()
            },
            false => config.pool.clone(),
        });
        Ok(Self {
            store,
            rules,
            state,
            blocks,
            config,
            genesis,
            head,
            safe,
            finalized,
            invalid: Cache::new(limits::INVALID_CACHE),
            jobs: Jobs::default(),
            pool,
        })
    }

    /// EIP-155 chain id.
    pub fn chain_id(&self) -> u64 {
        self.rules.chain_id
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis.hash
    }

    /// The rules at a timestamp in seconds: which version of an Engine method is in place.
    pub fn fork_at(&self, timestamp: u64) -> Fork {
        self.rules.fork_at(timestamp)
    }

    /// The head of the canonical chain.
    pub fn head(&self) -> BlockNumHash {
        BlockNumHash::new(self.head.header.number, self.head.hash)
    }

    /// The last block that was told to be safe; block 0 before.
    pub fn safe(&self) -> BlockNumHash {
        BlockNumHash::new(self.safe.header.number, self.safe.hash)
    }

    /// The last block that was told to be final; block 0 before.
    pub fn finalized(&self) -> BlockNumHash {
        BlockNumHash::new(self.finalized.header.number, self.finalized.hash)
    }

    /// `engine_newPayload`: executes a block on its parent and keeps it when it is valid.
    ///
    /// The answer is `SYNCING` when the parent is not known: the node sends the missing payloads, this client fetches
    /// nothing. Which version of the method fits the payload's time is for the caller to check ([`Self::fork_at`]).
    ///
    /// # Errors
    /// Failures of the store only; everything about the payload is in the status.
    pub fn new_payload(
        &mut self,
        payload: ExecutionPayload,
        sidecar: ExecutionPayloadSidecar,
    ) -> Result<PayloadStatus, Error> {
        let claimed = payload.block_hash();
        if sidecar
            .versioned_hashes()
            .is_some_and(|hashes| !hashes.is_empty())
        {
            return Ok(invalid(
                "blob transactions are not supported: versioned hashes given",
                None,
            ));
        }
        let block: Block<TxEnvelope> = match ExecutionData::new(payload, sidecar).try_into_block() {
            Ok(block) => block,
            Err(error) => return Ok(invalid(error.to_string(), None)),
        };
        let hash = block.header.hash_slow();
        if hash != claimed {
            return Ok(invalid(
                format!("block hash mismatch: payload says {claimed}, is {hash}"),
                None,
            ));
        }
        if let Some(ancestor) = self.invalid.get(&hash) {
            return Ok(invalid(
                "links to previously rejected block",
                Some(ancestor),
            ));
        }
        if self.blocks.header(hash)?.is_some() {
            return Ok(valid(hash));
        }
        let parent_hash = block.header.parent_hash;
        if let Some(ancestor) = self.invalid.get(&parent_hash) {
            self.invalid.insert(hash, ancestor);
            return Ok(invalid(
                "links to previously rejected block",
                Some(ancestor),
            ));
        }
        let Some(parent) = self.blocks.header(parent_hash)? else {
            return Ok(PayloadStatus::from_status(PayloadStatusEnum::Syncing));
        };
        // A block that was built here was executed by the same code from the same parent.
        let executed = match self.jobs.built(hash) {
            Some(executed) => Ok(executed),
            None => self.execute(&parent, hash, block),
        };
        match executed {
            Ok(executed) => {
                self.keep(executed)?;
                Ok(valid(hash))
            }
            Err(ImportError::Invalid(reason)) => {
                tracing::debug!(%hash, %reason, "invalid payload");
                self.invalid.insert(hash, parent_hash);
                Ok(invalid(reason, Some(parent_hash)))
            }
            Err(ImportError::Fault(error)) => Err(error),
        }
    }

    /// `engine_forkchoiceUpdated`: moves head, safe and finalized, and starts a build when there are attributes.
    ///
    /// Zero hashes for safe and finalized mean "not known" and leave them where they are. The head may move to any block
    /// that descends from the last final one, back to an ancestor too. Finality never moves back.
    ///
    /// # Errors
    /// [`Error::InvalidForkchoice`], [`Error::InvalidAttributes`] (the head has moved then), and what the store says.
    pub fn forkchoice_updated(
        &mut self,
        state: ForkchoiceState,
        attributes: Option<PayloadAttributes>,
    ) -> Result<ForkchoiceUpdated, Error> {
        let head_hash = state.head_block_hash;
        if let Some(ancestor) = self.invalid.get(&head_hash) {
            return Ok(ForkchoiceUpdated::new(invalid(
                "links to previously rejected block",
                Some(ancestor),
            )));
        }
        let Some(head) = self.blocks.header(head_hash)? else {
            return Ok(ForkchoiceUpdated::from_status(PayloadStatusEnum::Syncing));
        };
        let route = self.route_to(&head)?;
        let finalized = self.named(&route, state.finalized_block_hash, "finalized block")?;
        let safe = self.named(&route, state.safe_block_hash, "safe block")?;
        let finalized = finalized
            .filter(|block| block.header.number > self.finalized.header.number)
            .unwrap_or_else(|| self.finalized.clone());
        let safe = match safe {
            Some(safe) => safe,
            // What was safe is no longer on the chain when the head left its branch.
            None if self.is_on(&route, &self.safe)? => self.safe.clone(),
            None => finalized.clone(),
        };
        self.move_to(head, route, safe, finalized)?;
        let status = ForkchoiceUpdated::new(valid(head_hash));
        match attributes {
            None => Ok(status),
            Some(attributes) => Ok(status.with_payload_id(self.start_build(attributes)?)),
        }
    }

    /// Takes a signed, encoded transaction (`eth_sendRawTransaction`) and answers its hash.
    ///
    /// # Errors
    /// [`Error::Pool`], and what the store says.
    pub fn add_transaction(&mut self, raw: &[u8]) -> Result<B256, Error> {
        if raw.len() > limits::TRANSACTION_BYTES {
            return Err(PoolError::Oversized {
                size: raw.len(),
                limit: limits::TRANSACTION_BYTES,
            }
            .into());
        }
        let transaction =
            TxEnvelope::decode_2718_exact(raw).map_err(|error| PoolError::Malformed {
                reason: error.to_string(),
            })?;
        if self.pool.get(transaction.tx_hash()).is_some() {
            return Err(PoolError::AlreadyKnown.into());
        }
        let signer = recover_sender(&transaction).ok_or(PoolError::InvalidSender)?;
        let transaction = Recovered::new_unchecked(transaction, signer);
        let sender = self.sender_at_head(signer)?;
        Ok(self.pool.add(transaction, sender, &self.head_info())?)
    }

    pub(super) fn head_info(&self) -> HeadInfo {
        let header = &self.head.header;
        HeadInfo {
            chain_id: self.rules.chain_id,
            fork: self.rules.fork_at(header.timestamp.saturating_add(1)),
            base_fee: self.next_base_fee(header),
            gas_limit: header.gas_limit,
        }
    }

    pub(super) fn next_base_fee(&self, parent: &Header) -> u64 {
        parent
            .next_block_base_fee(self.rules.base_fee_params())
            .unwrap_or_default()
    }

    fn sender_at_head(&self, address: Address) -> Result<Sender, Error> {
        let account = self.state.account(self.head.header.state_root, address)?;
        Ok(account.map_or_else(Sender::default, |account| Sender {
            nonce: account.nonce,
            balance: account.balance,
            has_code: account.code_hash != alloy_primitives::KECCAK256_EMPTY,
        }))
    }

    /// Recomputes everything that the header states.
    fn execute(
        &self,
        parent: &Arc<SealedHeader>,
        hash: B256,
        block: Block<TxEnvelope>,
    ) -> Result<ExecutedBlock, ImportError> {
        check_header(&self.rules, &parent.header, &block.header).map_err(ImportError::Invalid)?;
        let senders = self.recover(&block.body.transactions)?;
        let ancestors = ChainAncestors::new(&self.blocks, parent);
        let overlay = Overlay::new(&self.state, parent.header.state_root, &ancestors);
        let mut executor = Executor::open(BlockContext::new(&self.rules, &block.header), overlay)?;
        for (index, (transaction, sender)) in
            block.body.transactions.iter().zip(&senders).enumerate()
        {
            executor
                .execute(transaction, *sender)
                .map_err(|failure| match failure {
                    TxFailure::Fault(error) => ImportError::Fault(error),
                    failure => ImportError::Invalid(format!(
                        "could not apply tx {index} [{}]: {failure}",
                        transaction.tx_hash()
                    )),
                })?;
        }
        let executed =
            executor.close(block.body.withdrawals.as_ref().map(|list| list.as_slice()))?;
        let state = self
            .state
            .apply(parent.header.state_root, &executed.changes)?;
        compare(&block.header, &executed, state.root).map_err(ImportError::Invalid)?;
        Ok(ExecutedBlock {
            block: Arc::new(StoredBlock {
                hash,
                block,
                senders,
            }),
            receipts: Arc::new(executed.receipts),
            state: Arc::new(state),
        })
    }

    /// Senders of a block's transactions: from the pool where it knows them, else from the signatures, on all cores.
    fn recover(&self, transactions: &[TxEnvelope]) -> Result<Vec<Address>, ImportError> {
        let known = |transaction: &TxEnvelope| {
            self.pool
                .get(transaction.tx_hash())
                .map(|pooled| Recovered::signer(pooled))
        };
        let work: Vec<_> = transactions
            .iter()
            .map(|transaction| (known(transaction), transaction))
            .collect();
        alys_runtime::par_map(work, |(known, transaction)| match known {
            Some(sender) => Ok(sender),
            None => recover_sender(transaction).ok_or(*transaction.tx_hash()),
        })
        .into_iter()
        .collect::<Result<_, B256>>()
        .map_err(|hash| ImportError::Invalid(format!("invalid signature of transaction {hash}")))
    }

    /// Stores an executed block with its state.
    ///
    /// Deferred: should it be lost in a crash, so is everything after it, and the node, which replays the payloads that
    /// this client lost, sends it again. The durable write of the fork choice that makes it the head covers it.
    fn keep(&mut self, executed: ExecutedBlock) -> Result<(), Error> {
        let mut batch = Batch::new();
        executed.state.write(&mut batch);
        self.blocks
            .put_block(&mut batch, &executed.block, &executed.receipts);
        self.store.write(batch, Durability::Deferred)?;
        self.state.remember(&executed.state)?;
        self.blocks.remember(executed.block, executed.receipts);
        Ok(())
    }

    /// How to get from the canonical chain to `head`: the height where the branches part, and the blocks after it.
    fn route_to(&self, head: &Arc<SealedHeader>) -> Result<Route, Error> {
        let mut blocks = Vec::new();
        let mut at = head.clone();
        while self.blocks.canonical(at.header.number)? != Some(at.hash) {
            if at.header.number <= self.finalized.header.number {
                return Err(Error::InvalidForkchoice {
                    reason: "head does not descend from the finalized block",
                    hash: head.hash,
                });
            }
            let parent = at.header.parent_hash;
            blocks.push(at);
            // A parent that was dropped as a side block lies below finality.
            at = self
                .blocks
                .header(parent)?
                .ok_or(Error::InvalidForkchoice {
                    reason: "head does not descend from the finalized block",
                    hash: head.hash,
                })?;
        }
        if at.header.number < self.finalized.header.number {
            return Err(Error::InvalidForkchoice {
                reason: "head is below the finalized block",
                hash: head.hash,
            });
        }
        blocks.reverse();
        Ok(Route {
            fork: at.header.number,
            blocks,
        })
    }

    /// The block with this hash, which has to be on the route; `None` for the zero hash.
    fn named(
        &self,
        route: &Route,
        hash: B256,
        what: &'static str,
    ) -> Result<Option<Arc<SealedHeader>>, Error> {
        if hash.is_zero() {
            return Ok(None);
        }
        let wrong = || Error::InvalidForkchoice { reason: what, hash };
        let block = self.blocks.header(hash)?.ok_or_else(wrong)?;
        if self.is_on(route, &block)? {
            Ok(Some(block))
        } else {
            Err(wrong())
        }
    }

    fn is_on(&self, route: &Route, block: &SealedHeader) -> Result<bool, Error> {
        let number = block.header.number;
        match number.checked_sub(route.fork + 1) {
            None => Ok(self.blocks.canonical(number)? == Some(block.hash)),
            Some(index) => Ok(usize::try_from(index)
                .ok()
                .and_then(|index| route.blocks.get(index))
                .is_some_and(|on| on.hash == block.hash)),
        }
    }

    /// Rewrites the canonical index along the route, pool included.
    ///
    /// A long route (catch-up) goes in steps; after each the store holds a whole chain with its head. Only the last write
    /// waits for the disk. Without a move of the head nothing has to survive: safe and finalized are told again.
    fn move_to(
        &mut self,
        head: Arc<SealedHeader>,
        route: Route,
        safe: Arc<SealedHeader>,
        finalized: Arc<SealedHeader>,
    ) -> Result<(), Error> {
        let moved = head.hash != self.head.hash;
        let named = safe.hash != self.safe.hash || finalized.hash != self.finalized.hash;
        if !moved && !named {
            return Ok(());
        }
        let mut orphaned = Vec::new();
        let mut batch = Batch::new();
        for number in (route.fork + 1..=self.head.header.number).rev() {
            let block = self.canonical_block(number)?;
            self.blocks.delete_canonical(&mut batch, &block);
            orphaned.push(block);
        }
        for (index, header) in route.blocks.iter().enumerate() {
            let block = self.stored(header.hash)?;
            self.blocks.put_canonical(&mut batch, &block);
            let step = if buggify!("execution.chain.small_route_step") {
                1
            } else {
                limits::ROUTE_STEP
            };
            if (index + 1) % step == 0 {
                // Safe and finalized stay behind until the end, where they are on the chain for sure.
                self.blocks
                    .put_pointer(&mut batch, Pointer::Head, header.hash);
                self.blocks
                    .put_pointer(&mut batch, Pointer::Safe, self.finalized.hash);
                self.store
                    .write(std::mem::take(&mut batch), Durability::Deferred)?;
            }
        }
        self.blocks
            .put_pointer(&mut batch, Pointer::Head, head.hash);
        self.blocks
            .put_pointer(&mut batch, Pointer::Safe, safe.hash);
        self.blocks
            .put_pointer(&mut batch, Pointer::Finalized, finalized.hash);
        self.store.write(
            batch,
            if moved {
                Durability::Durable
            } else {
                Durability::Deferred
            },
        )?;
        self.head = head;
        self.safe = safe;
        self.finalized = finalized;
        if moved {
            self.follow_with_pool(&orphaned)?;
        }
        self.drop_side_blocks()
    }

    fn follow_with_pool(&mut self, orphaned: &[Arc<StoredBlock>]) -> Result<(), Error> {
        let root = self.head.header.state_root;
        let gas_limit = self.head.header.gas_limit;
        let state = &self.state;
        self.pool
            .follow(gas_limit, |address| -> Result<Sender, Error> {
                let account = state.account(root, address)?.unwrap_or_default();
                Ok(Sender {
                    nonce: account.nonce,
                    balance: account.balance,
                    has_code: account.code_hash != alloy_primitives::KECCAK256_EMPTY,
                })
            })?;
        let info = self.head_info();
        // Oldest block first, so that nonces come in order.
        for block in orphaned.iter().rev() {
            for (transaction, sender) in block.block.body.transactions.iter().zip(&block.senders) {
                let account = self.sender_at_head(*sender)?;
                // Refused: it is in the new chain too, or no longer valid there.
                let _ = self.pool.add(
                    Recovered::new_unchecked(transaction.clone(), *sender),
                    account,
                    &info,
                );
            }
        }
        Ok(())
    }

    /// Forgets blocks beside the canonical chain up to the finalized height; what is more than a batch goes with the next
    /// ones. Their state nodes stay: they are shared.
    fn drop_side_blocks(&self) -> Result<(), Error> {
        let mut batch = Batch::new();
        let most = if buggify!("execution.chain.prune_one") {
            1
        } else {
            limits::PRUNE_BATCH
        };
        for (number, hash) in self
            .blocks
            .listed_up_to(self.finalized.header.number, most)?
        {
            self.blocks.unlist(&mut batch, number, hash);
            if self.blocks.canonical(number)? != Some(hash) {
                self.blocks.delete_block(&mut batch, hash);
            }
        }
        if !batch.is_empty() {
            self.store.write(batch, Durability::Deferred)?;
        }
        Ok(())
    }

    pub(super) fn stored(&self, hash: B256) -> Result<Arc<StoredBlock>, Error> {
        self.blocks
            .block(hash)?
            .ok_or_else(|| Error::corrupt("block", hash))
    }

    fn canonical_block(&self, number: u64) -> Result<Arc<StoredBlock>, Error> {
        let hash = self
            .blocks
            .canonical(number)?
            .ok_or_else(|| Error::corrupt("canonical hash", number))?;
        self.stored(hash)
    }
}

/// The way from the canonical chain to a block.
struct Route {
    /// Height of the last block in common.
    fork: u64,
    /// The blocks above it, lowest first.
    blocks: Vec<Arc<SealedHeader>>,
}

/// Compares what was computed with what the header states.
fn compare(header: &Header, executed: &Executed, state_root: B256) -> Result<(), String> {
    if executed.gas_used != header.gas_used {
        return Err(format!(
            "invalid gas used (remote: {} local: {})",
            header.gas_used, executed.gas_used
        ));
    }
    if executed.logs_bloom != header.logs_bloom {
        return Err("invalid bloom".to_owned());
    }
    let receipts_root = calculate_receipt_root(&executed.receipts);
    if receipts_root != header.receipts_root {
        return Err(format!(
            "invalid receipt root hash (remote: {} local: {receipts_root})",
            header.receipts_root
        ));
    }
    if state_root != header.state_root {
        return Err(format!(
            "invalid merkle root (remote: {} local: {state_root})",
            header.state_root
        ));
    }
    Ok(())
}

/// Walks from a block down its own branch, once, as far as it is asked.
pub(super) struct ChainAncestors<'a> {
    blocks: &'a BlockStore,
    top: u64,
    /// Hashes from `top` downwards, and the parent of the last one.
    known: RefCell<(Vec<B256>, B256)>,
}

impl<'a> ChainAncestors<'a> {
    pub(super) fn new(blocks: &'a BlockStore, top: &SealedHeader) -> Self {
        Self {
            blocks,
            top: top.header.number,
            known: RefCell::new((vec![top.hash], top.header.parent_hash)),
        }
    }
}

impl Ancestors for ChainAncestors<'_> {
    fn hash_at(&self, number: u64) -> Result<B256, Error> {
        let Some(back) = self
            .top
            .checked_sub(number)
            .and_then(|back| usize::try_from(back).ok())
        else {
            return Ok(B256::ZERO);
        };
        if back >= limits::BLOCK_HASHES {
            return Ok(B256::ZERO);
        }
        let mut known = self.known.borrow_mut();
        while known.0.len() <= back {
            let hash = known.1;
            let header = self
                .blocks
                .header(hash)?
                .ok_or_else(|| Error::corrupt("header", hash))?;
            known.0.push(hash);
            known.1 = header.header.parent_hash;
        }
        Ok(known.0.get(back).copied().unwrap_or_default())
    }
}

fn valid(hash: B256) -> PayloadStatus {
    PayloadStatus::new(PayloadStatusEnum::Valid, Some(hash))
}

fn invalid(reason: impl Into<String>, latest_valid: Option<B256>) -> PayloadStatus {
    PayloadStatus::new(
        PayloadStatusEnum::Invalid {
            validation_error: reason.into(),
        },
        latest_valid,
    )
}
