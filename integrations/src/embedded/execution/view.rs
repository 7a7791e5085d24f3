//! A view of the chain for readers, which takes no lock that an import holds while it works.
//!
//! A view holds the head, safe and finalized block of one moment. Blocks and trie nodes are stored
//! by hash and not overwritten, so everything below these blocks stays readable while the core
//! imports. The exception is the index by height: a reorganisation rewrites it, and a view of
//! before is then [superseded](ChainView::is_superseded), and the caller discards its answers.
//!
//! Readers have caches of their own, because a scan of the whole state would evict the nodes that
//! the next import needs.

use super::{
    blocks::{BlockStore, SealedHeader, StoredBlock},
    cache::lock,
    error::{Error, PoolError},
    genesis::{ChainRules, Fork},
    limits,
    meter::Meter,
    pool::{HeadInfo, Pool, Sender},
    sender::recover_sender,
    state::StateDb,
};
use alloy_consensus::{Header, TxEnvelope, transaction::Recovered};
use alloy_eips::{BlockNumHash, eip2718::Decodable2718 as _};
use alloy_primitives::{Address, B256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The pool, which readers and the core share.
///
/// A reader holds the lock for look-ups and for copies of bounded size, and never while it encodes
/// or executes. The core holds it while it builds a block.
#[derive(Clone)]
pub(crate) struct SharedPool(Arc<RwLock<Pool>>);

impl SharedPool {
    pub(crate) fn new(pool: Pool) -> Self {
        Self(Arc::new(RwLock::new(pool)))
    }

    /// Poisoning is ignored, because the pool only advises the builder.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Pool> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Pool> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chain at one moment. A clone costs some reference counts.
#[derive(Clone)]
pub struct ChainView {
    pub(super) rules: Arc<ChainRules>,
    pub(super) state: Arc<StateDb>,
    pub(super) blocks: Arc<BlockStore>,
    pub(super) pool: SharedPool,
    pub(super) genesis: Arc<SealedHeader>,
    pub(super) head: Arc<SealedHeader>,
    pub(super) safe: Arc<SealedHeader>,
    pub(super) finalized: Arc<SealedHeader>,
    /// The number of moves of the head since the start.
    pub(super) moves: u64,
    /// The number of reorganisations that had begun when the view was taken.
    pub(super) rewrites: u64,
    /// The number of reorganisations that have begun until now.
    pub(super) rewrites_now: Arc<AtomicU64>,
    pub(super) meter: Meter,
}

impl ChainView {
    /// The chain id of EIP-155 signatures.
    pub fn chain_id(&self) -> u64 {
        self.rules.chain_id
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis.hash
    }

    /// The fork in force at a timestamp in seconds, which determines the version of an Engine API
    /// method.
    pub fn fork_at(&self, timestamp: u64) -> Fork {
        self.rules.fork_at(timestamp)
    }

    /// The head of the canonical chain.
    pub fn head(&self) -> BlockNumHash {
        BlockNumHash::new(self.head.header.number, self.head.hash)
    }

    /// The safe block of the last fork choice that named one; initially block 0.
    pub fn safe(&self) -> BlockNumHash {
        BlockNumHash::new(self.safe.header.number, self.safe.hash)
    }

    /// The finalized block of the last fork choice that named one; initially block 0.
    pub fn finalized(&self) -> BlockNumHash {
        BlockNumHash::new(self.finalized.header.number, self.finalized.hash)
    }

    /// True when a reorganisation has begun since the view was taken. Its answers by height may
    /// then mix two chains.
    pub fn is_superseded(&self) -> bool {
        self.rewrites_now.load(Ordering::SeqCst) != self.rewrites
    }

    /// The same view, whose queries end when the meter says so.
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// # Errors
    /// [`Error::Interrupted`] when the meter ends the query.
    pub(super) fn check_meter(&self) -> Result<(), Error> {
        match self.meter.interrupted() {
            Some(reason) => Err(Error::Interrupted { reason }),
            None => Ok(()),
        }
    }

    /// `eth_sendRawTransaction`: adds a signed, encoded transaction to the pool and returns its
    /// hash.
    ///
    /// # Errors
    /// [`Error::Pool`], and [`Error::Superseded`] when the head has moved.
    pub fn add_transaction(&self, raw: &[u8]) -> Result<B256, Error> {
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
        if self.pool.read().get(transaction.tx_hash()).is_some() {
            return Err(PoolError::AlreadyKnown.into());
        }
        let signer = recover_sender(&transaction).ok_or(PoolError::InvalidSender)?;
        let transaction = Recovered::new_unchecked(transaction, signer);
        let sender = self.sender_at_head(signer)?;
        let head = self.head_info();
        let mut pool = self.pool.write();
        self.check_pool(&pool)?;
        Ok(pool.add(transaction, sender, &head)?)
    }

    /// Refuses a pool of a later head, with which this view disagrees about nonces and balances.
    ///
    /// # Errors
    /// [`Error::Superseded`]. The view of that head was published before the pool moved, so the
    /// next view agrees with it.
    pub(super) fn check_pool(&self, pool: &Pool) -> Result<(), Error> {
        if pool.moves() > self.moves {
            return Err(Error::Superseded);
        }
        Ok(())
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

    pub(super) fn sender_at_head(&self, address: Address) -> Result<Sender, Error> {
        let account = self.state.account(self.head.header.state_root, address)?;
        Ok(account.map_or_else(Sender::default, |account| Sender {
            nonce: account.nonce,
            balance: account.balance,
            has_code: account.code_hash != alloy_primitives::KECCAK256_EMPTY,
        }))
    }

    pub(super) fn stored(&self, hash: B256) -> Result<Arc<StoredBlock>, Error> {
        self.blocks
            .block(hash)?
            .ok_or_else(|| Error::corrupt("block", hash))
    }
}

/// Provides the newest view. The core locks it only to replace three references and two numbers.
#[derive(Clone)]
pub struct ChainReader(Arc<Mutex<ChainView>>);

impl ChainReader {
    pub(super) fn new(view: ChainView) -> Self {
        Self(Arc::new(Mutex::new(view)))
    }

    /// The newest view.
    pub fn view(&self) -> ChainView {
        lock(&self.0).clone()
    }

    /// Publishes the blocks of the core's own view, which has other caches.
    pub(super) fn publish(&self, own: &ChainView) {
        let mut view = lock(&self.0);
        view.head = own.head.clone();
        view.safe = own.safe.clone();
        view.finalized = own.finalized.clone();
        view.moves = own.moves;
        view.rewrites = own.rewrites;
    }
}
