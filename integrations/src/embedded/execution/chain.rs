//! The core: opening, import of payloads, fork choice.

use super::{
    blocks::{BlockStore, ChainAncestors, ExecutedBlock, Pointer, SealedHeader, StoredBlock},
    cache::Cache,
    error::Error,
    executor::{BlockContext, Executed, Executor, TxFailure},
    genesis::{ChainRules, genesis_block},
    header::check_header,
    jobs::Jobs,
    journal::Journal,
    limits,
    meter::Meter,
    pool::{Pool, PoolConfig},
    sender::recover_sender,
    state::{Overlay, StateDb, StateUpdate},
    view::{ChainReader, ChainView, SharedPool},
};
use alloy_consensus::{
    Block, Header, TxEnvelope, proofs::calculate_receipt_root, transaction::Recovered,
};
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256};
use alloy_rpc_types_engine::{
    ExecutionData, ExecutionPayload, ExecutionPayloadSidecar, ForkchoiceState, ForkchoiceUpdated,
    PayloadAttributes, PayloadStatus, PayloadStatusEnum,
};
use alys_runtime::buggify;
use alys_storage::{Batch, Durability, Store};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Settings of an operator, without effect on consensus.
#[derive(Debug, Clone, Default)]
pub struct CoreConfig {
    pub pool: PoolConfig,
    /// Gas limit towards which built blocks move; `None` keeps the parent's.
    pub gas_limit_target: Option<u64>,
}

/// The execution client. The module documentation lists its interface.
///
/// Every method that returns [`Error`] can fail with [`Error::Storage`] and [`Error::Corrupt`].
pub struct ExecutionCore {
    pub(super) store: Store,
    /// The chain as this core knows it, with caches for imports.
    pub(super) view: ChainView,
    /// The chain as readers see it, with caches of their own.
    reader: ChainReader,
    pub(super) config: CoreConfig,
    /// Last valid ancestors of invalid blocks.
    invalid: Cache<B256, B256>,
    pub(super) jobs: Jobs,
    journal: Journal,
}

/// Every query of a view is a query of the core, answered at its newest block.
impl Deref for ExecutionCore {
    type Target = ChainView;

    fn deref(&self) -> &ChainView {
        &self.view
    }
}

/// A block that is invalid, or that could not be validated because of a fault of this client.
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
    /// Opens the chain in `store`, or creates it from `genesis`.
    ///
    /// # Errors
    /// [`Error::UnsupportedGenesis`], and [`Error::GenesisMismatch`] when the store belongs to
    /// another chain.
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
            None => write_genesis(&store, &blocks, &genesis, &update)?,
        }
        let pointed = |pointer: Pointer| {
            let hash = blocks
                .pointer(pointer)?
                .ok_or_else(|| Error::corrupt("pointer", format!("{pointer:?}")))?;
            blocks
                .header(hash)?
                .ok_or_else(|| Error::corrupt("header", hash))
        };
        let head = pointed(Pointer::Head)?;
        let safe = pointed(Pointer::Safe)?;
        let finalized = pointed(Pointer::Finalized)?;
        let mut pool_config = config.pool.clone();
        if buggify!("execution.pool.small") {
            pool_config.max_transactions = limits::SMALL_POOL;
        }
        let (journal, saved) = Journal::load(&store)?;
        let pool = Pool::new(pool_config, journal.next_arrival());
        let view = ChainView {
            rules: Arc::new(rules),
            state: Arc::new(state),
            blocks: Arc::new(blocks),
            pool: SharedPool::new(pool),
            genesis,
            head,
            safe,
            finalized,
            moves: 0,
            rewrites: 0,
            rewrites_now: Arc::new(AtomicU64::new(0)),
            meter: Meter::default(),
        };
        let reader = ChainReader::new(ChainView {
            state: Arc::new(StateDb::new(store.clone())),
            blocks: Arc::new(BlockStore::new(store.clone())),
            ..view.clone()
        });
        let core = Self {
            store,
            view,
            reader,
            config,
            invalid: Cache::new(limits::INVALID_CACHE),
            jobs: Jobs::default(),
            journal,
        };
        core.restore_pool(saved)?;
        Ok(core)
    }

    /// Access for readers that must not wait for an import, nor an import for them.
    pub fn reader(&self) -> ChainReader {
        self.reader.clone()
    }

    /// `engine_newPayload`: executes a block on its parent and stores it when it is valid.
    ///
    /// The status is `SYNCING` when the parent is unknown, because this client fetches no blocks
    /// and the node sends the missing payloads. The caller checks the method version against the
    /// payload's timestamp ([`Self::fork_at`]). Faults of the payload are in the status; an error
    /// is a failure of the store.
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
        // This client has already executed a block that it built itself.
        let executed = match self.jobs.built(hash) {
            Some(executed) => Ok(executed),
            None => self.execute(&parent, hash, block),
        };
        match executed {
            Ok(executed) => {
                self.store_block(executed)?;
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

    /// `engine_forkchoiceUpdated`: moves head, safe and finalized block, and starts a build when
    /// there are attributes.
    ///
    /// Zero hashes for safe and finalized mean "unknown" and leave them unchanged. The head may
    /// move to any descendant of the finalized block, also back to an ancestor of the head.
    /// Finality never moves back: an ancestor of the finalized block is VALID, and the head stays.
    /// A node that lost blocks and syncs again sends such heads.
    ///
    /// # Errors
    /// [`Error::InvalidForkchoice`], and [`Error::InvalidAttributes`], before which the head has
    /// moved.
    pub fn forkchoice_updated(
        &mut self,
        state: ForkchoiceState,
        attributes: Option<PayloadAttributes>,
    ) -> Result<ForkchoiceUpdated, Error> {
        match attributes {
            Some(attributes) => self.begin_payload(state, attributes, false),
            None => self.set_forkchoice(state),
        }
    }

    /// As [`Self::forkchoice_updated`] with attributes, for a payload without transactions.
    ///
    /// # Errors
    /// As [`Self::forkchoice_updated`].
    pub fn begin_empty_payload(
        &mut self,
        state: ForkchoiceState,
        attributes: PayloadAttributes,
    ) -> Result<ForkchoiceUpdated, Error> {
        self.begin_payload(state, attributes, true)
    }

    fn begin_payload(
        &mut self,
        state: ForkchoiceState,
        attributes: PayloadAttributes,
        is_empty: bool,
    ) -> Result<ForkchoiceUpdated, Error> {
        let updated = self.set_forkchoice(state)?;
        // An ancestor of the finalized block is VALID and not the head.
        if !updated.is_valid() || self.head.hash != state.head_block_hash {
            return Ok(updated);
        }
        let id = self.start_build(attributes, is_empty)?;
        Ok(updated.with_payload_id(id))
    }

    /// Changes the gas limit towards which built blocks move, as `miner_setGasLimit` of Geth.
    pub fn set_gas_limit_target(&mut self, target: Option<u64>) {
        self.config.gas_limit_target = target;
    }

    fn set_forkchoice(&mut self, state: ForkchoiceState) -> Result<ForkchoiceUpdated, Error> {
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
        if self.is_final(&head)? {
            return Ok(ForkchoiceUpdated::new(valid(head_hash)));
        }
        let route = self.route_to(&head)?;
        let finalized = self.find_on(&route, state.finalized_block_hash, "finalized block")?;
        let safe = self.find_on(&route, state.safe_block_hash, "safe block")?;
        let finalized = finalized
            .filter(|block| block.header.number > self.finalized.header.number)
            .unwrap_or_else(|| self.finalized.clone());
        let safe = match safe {
            Some(safe) => safe,
            // The former safe block is not on the chain if the head has left its branch.
            None if self.is_on(&route, &self.safe)? => self.safe.clone(),
            None => finalized.clone(),
        };
        self.move_to(head, route, safe, finalized)?;
        Ok(ForkchoiceUpdated::new(valid(head_hash)))
    }

    /// Returns the transactions of an earlier process to the pool.
    fn restore_pool(&self, saved: Vec<TxEnvelope>) -> Result<(), Error> {
        let info = self.head_info();
        let recovered = alys_runtime::par_map(saved, |transaction| {
            let signer = recover_sender(&transaction)?;
            Some(Recovered::new_unchecked(transaction, signer))
        });
        for transaction in recovered.into_iter().flatten() {
            let sender = self.sender_at_head(transaction.signer())?;
            // A refused transaction is mined, or no longer valid at the head.
            let _ = self.view.pool.write().add(transaction, sender, &info);
        }
        Ok(())
    }

    /// Saves the whole pool, before an orderly stop. A fork choice saves up to
    /// [`limits::JOURNAL_BYTES`].
    pub fn save_pool(&mut self) -> Result<(), Error> {
        let pool = self.view.pool.read();
        self.journal
            .write(&self.store, &pool, usize::MAX, Durability::Durable)
    }

    /// Rows of the pool's journal in memory that the last write deleted on disk, for tests.
    #[cfg(madsim)]
    pub fn journal_left(&self) -> usize {
        self.journal.left()
    }

    /// Executes a block and verifies every field of its header.
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

    /// The senders of a block's transactions: from the pool, or else recovered from the signatures
    /// on all cores.
    fn recover(&self, transactions: &[TxEnvelope]) -> Result<Vec<Address>, ImportError> {
        let work: Vec<_> = {
            let pool = self.pool.read();
            let known = |transaction: &TxEnvelope| {
                pool.get(transaction.tx_hash())
                    .map(|pooled| Recovered::signer(pooled))
            };
            transactions
                .iter()
                .map(|transaction| (known(transaction), transaction))
                .collect()
        };
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
    /// The write is deferred. A crash that loses it also loses everything after it, and the node
    /// replays the payloads that this client lost. The durable write of the fork choice that makes
    /// the block the head makes it durable too.
    fn store_block(&mut self, executed: ExecutedBlock) -> Result<(), Error> {
        let mut batch = Batch::new();
        executed.state.write(&mut batch);
        self.blocks
            .put_block(&mut batch, &executed.block, &executed.receipts);
        self.store.write(batch, Durability::Deferred)?;
        self.state.remember(&executed.state)?;
        self.blocks.remember(executed.block, executed.receipts);
        Ok(())
    }

    /// The route from the canonical chain to `head`: the last common height and the blocks above
    /// it.
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
            // A parent that was pruned as a side block lies below finality.
            at = self
                .blocks
                .header(parent)?
                .ok_or(Error::InvalidForkchoice {
                    reason: "head does not descend from the finalized block",
                    hash: head.hash,
                })?;
        }
        blocks.reverse();
        Ok(Route {
            fork: at.header.number,
            blocks,
        })
    }

    /// True for a block below the finalized one on its chain.
    fn is_final(&self, block: &SealedHeader) -> Result<bool, Error> {
        let number = block.header.number;
        Ok(number < self.finalized.header.number
            && self.blocks.canonical(number)? == Some(block.hash))
    }

    /// The block with this hash, which must be on the route; `None` for the zero hash.
    fn find_on(
        &self,
        route: &Route,
        hash: B256,
        reason: &'static str,
    ) -> Result<Option<Arc<SealedHeader>>, Error> {
        if hash.is_zero() {
            return Ok(None);
        }
        let invalid = || Error::InvalidForkchoice { reason, hash };
        let block = self.blocks.header(hash)?.ok_or_else(invalid)?;
        if self.is_on(route, &block)? {
            Ok(Some(block))
        } else {
            Err(invalid())
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

    /// Rewrites the canonical index along the route and updates the pool.
    ///
    /// A long route (catch-up) is written in steps, each of which leaves a complete chain with its
    /// head in the store. Only the last write is durable. An update of safe and finalized alone is
    /// deferred, because the node repeats it.
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
        if route.fork < self.head.header.number {
            // Before the first write, so that no reader takes answers of both chains for one.
            self.view.rewrites = self.rewrites_now.fetch_add(1, Ordering::SeqCst) + 1;
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
                // Safe and finalized are written last, because the new ones may not be on this part
                // of the chain.
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
        let durability = if moved {
            Durability::Durable
        } else {
            Durability::Deferred
        };
        self.store.write(batch, durability)?;
        self.view.head = head;
        self.view.safe = safe;
        self.view.finalized = finalized;
        self.view.moves += u64::from(moved);
        // Before the pool moves, as `ChainView::check_pool` requires.
        self.reader.publish(&self.view);
        if moved {
            self.update_pool(&orphaned)?;
            let max_bytes = limits::JOURNAL_BYTES;
            let pool = self.view.pool.read();
            self.journal
                .write(&self.store, &pool, max_bytes, Durability::Deferred)?;
        }
        self.prune_side_blocks()
    }

    /// Moves the pool to the new head and returns the transactions of orphaned blocks to it.
    fn update_pool(&self, orphaned: &[Arc<StoredBlock>]) -> Result<(), Error> {
        let info = self.head_info();
        let mut pool = self.view.pool.write();
        pool.set_moves(self.view.moves);
        pool.on_new_head(info.gas_limit, |address| self.sender_at_head(address))?;
        // Oldest block first, so that nonces are in order.
        for block in orphaned.iter().rev() {
            for (transaction, sender) in block.block.body.transactions.iter().zip(&block.senders) {
                let account = self.sender_at_head(*sender)?;
                // A refused transaction is also in the new chain, or no longer valid there.
                let _ = pool.add(
                    Recovered::new_unchecked(transaction.clone(), *sender),
                    account,
                    &info,
                );
            }
        }
        Ok(())
    }

    /// Deletes side blocks up to the finalized height, at most one batch per call. Their trie nodes
    /// stay, because other blocks share them.
    fn prune_side_blocks(&self) -> Result<(), Error> {
        let mut batch = Batch::new();
        let limit = if buggify!("execution.chain.prune_one") {
            1
        } else {
            limits::PRUNE_BATCH
        };
        for (number, hash) in self
            .blocks
            .listed_up_to(self.finalized.header.number, limit)?
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

    fn canonical_block(&self, number: u64) -> Result<Arc<StoredBlock>, Error> {
        let hash = self
            .blocks
            .canonical(number)?
            .ok_or_else(|| Error::corrupt("canonical hash", number))?;
        self.stored(hash)
    }
}

/// Creates the chain with its genesis block.
fn write_genesis(
    store: &Store,
    blocks: &BlockStore,
    genesis: &SealedHeader,
    state: &StateUpdate,
) -> Result<(), Error> {
    let mut block = Block {
        header: genesis.header.clone(),
        ..Block::default()
    };
    block.body.withdrawals = genesis.header.withdrawals_root.map(|_| Default::default());
    let block = StoredBlock {
        hash: genesis.hash,
        block,
        senders: Vec::new(),
    };
    let mut batch = Batch::new();
    state.write(&mut batch);
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
    Ok(())
}

/// The route from the canonical chain to a block.
struct Route {
    /// Height of the last common block.
    fork: u64,
    /// The blocks above it, lowest first.
    blocks: Vec<Arc<SealedHeader>>,
}

/// Compares the results of the execution with the header.
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
