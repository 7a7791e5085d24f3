//! Storage of blocks, receipts and the canonical index.
//!
//! | table | key | value |
//! |---|---|---|
//! | `el_header` | block hash | RLP header |
//! | `el_block` | block hash | count u32, senders (20 bytes each), RLP block |
//! | `el_receipts` | block hash | RLP list of receipts |
//! | `el_canon` | height u64 | block hash of the canonical chain |
//! | `el_height` | height u64, block hash | empty; blocks that are not final, to find side blocks |
//! | `el_tx` | transaction hash | height u64, index u32, of the canonical chain |
//! | `el_meta` | name | head, safe, finalized, genesis: block hash |
//!
//! Integers are big-endian, so that keys sort by height.

use super::{
    cache::{Cache, lock},
    error::Error,
    limits,
    state::{Ancestors, StateUpdate},
};
use alloy_consensus::{Block, Header, ReceiptEnvelope, TxEnvelope};
use alloy_primitives::{Address, B256};
use alys_storage::{Batch, Direction, Store, Table};
use std::cell::RefCell;
use std::sync::{Arc, Mutex};

const HEADERS: Table = Table("el_header");
const BLOCKS: Table = Table("el_block");
const RECEIPTS: Table = Table("el_receipts");
const CANONICAL: Table = Table("el_canon");
const HEIGHTS: Table = Table("el_height");
const TRANSACTIONS: Table = Table("el_tx");
const META: Table = Table("el_meta");

/// A persistent reference to a block of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointer {
    Genesis,
    Head,
    Safe,
    Finalized,
}

impl Pointer {
    fn key(self) -> &'static [u8] {
        match self {
            Self::Genesis => b"genesis",
            Self::Head => b"head",
            Self::Safe => b"safe",
            Self::Finalized => b"finalized",
        }
    }
}

/// A header with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHeader {
    /// keccak256 of the RLP of `header`.
    pub hash: B256,
    pub header: Header,
}

impl SealedHeader {
    pub fn new(header: Header) -> Self {
        Self {
            hash: header.hash_slow(),
            header,
        }
    }
}

/// An executed block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    pub hash: B256,
    pub block: Block<TxEnvelope>,
    /// The signer of each transaction.
    pub senders: Vec<Address>,
}

/// An executed block that is not stored yet.
#[derive(Debug, Clone)]
pub(crate) struct ExecutedBlock {
    pub(crate) block: Arc<StoredBlock>,
    pub(crate) receipts: Arc<Vec<ReceiptEnvelope>>,
    pub(crate) state: Arc<StateUpdate>,
}

/// Reads and writes blocks, with bounded caches.
pub(crate) struct BlockStore {
    store: Store,
    headers: Mutex<Cache<B256, Arc<SealedHeader>>>,
    blocks: Mutex<Cache<B256, Arc<StoredBlock>>>,
    receipts: Mutex<Cache<B256, Arc<Vec<ReceiptEnvelope>>>>,
}

impl BlockStore {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            headers: Mutex::new(Cache::new(limits::HEADER_CACHE)),
            blocks: Mutex::new(Cache::new(limits::BLOCK_CACHE)),
            receipts: Mutex::new(Cache::new(limits::BLOCK_CACHE)),
        }
    }

    pub(crate) fn header(&self, hash: B256) -> Result<Option<Arc<SealedHeader>>, Error> {
        self.cached(&self.headers, HEADERS, hash, |bytes| {
            let header: Header = alloy_rlp::decode_exact(bytes)?;
            Ok(SealedHeader { hash, header })
        })
    }

    pub(crate) fn block(&self, hash: B256) -> Result<Option<Arc<StoredBlock>>, Error> {
        self.cached(&self.blocks, BLOCKS, hash, |bytes| {
            let short = || alloy_rlp::Error::InputTooShort;
            let (count, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
            let length = u32::from_be_bytes(*count) as usize * Address::len_bytes();
            let (senders, block) = rest.split_at_checked(length).ok_or_else(short)?;
            Ok(StoredBlock {
                hash,
                block: alloy_rlp::decode_exact(block)?,
                senders: senders
                    .chunks_exact(Address::len_bytes())
                    .map(Address::from_slice)
                    .collect(),
            })
        })
    }

    pub(crate) fn receipts(&self, hash: B256) -> Result<Option<Arc<Vec<ReceiptEnvelope>>>, Error> {
        self.cached(&self.receipts, RECEIPTS, hash, |bytes| {
            alloy_rlp::decode_exact(bytes)
        })
    }

    pub(crate) fn canonical(&self, number: u64) -> Result<Option<B256>, Error> {
        self.store
            .get(CANONICAL, &number.to_be_bytes())?
            .map(|bytes| hash_from(&bytes, "canonical hash"))
            .transpose()
    }

    /// Height and index of a transaction of the canonical chain.
    pub(crate) fn lookup(&self, transaction: B256) -> Result<Option<(u64, u32)>, Error> {
        let Some(bytes) = self.store.get(TRANSACTIONS, transaction.as_slice())? else {
            return Ok(None);
        };
        let parsed = bytes.split_first_chunk::<8>().and_then(|(number, index)| {
            Some((
                u64::from_be_bytes(*number),
                u32::from_be_bytes(index.try_into().ok()?),
            ))
        });
        parsed
            .map(Some)
            .ok_or_else(|| Error::corrupt("transaction lookup", transaction))
    }

    pub(crate) fn pointer(&self, pointer: Pointer) -> Result<Option<B256>, Error> {
        self.store
            .get(META, pointer.key())?
            .map(|bytes| hash_from(&bytes, "pointer"))
            .transpose()
    }

    /// At most `limit` blocks of the height list up to `height`, lowest first.
    pub(crate) fn listed_up_to(
        &self,
        height: u64,
        limit: usize,
    ) -> Result<Vec<(u64, B256)>, Error> {
        let end = height.saturating_add(1).to_be_bytes();
        let found = self
            .store
            .range(HEIGHTS, &[], &end, Direction::Forward, limit)?;
        found
            .iter()
            .map(|(key, _)| {
                let (number, hash) = key
                    .split_first_chunk::<8>()
                    .ok_or_else(|| Error::corrupt("height index", key.len()))?;
                Ok((
                    u64::from_be_bytes(*number),
                    hash_from(hash, "height index")?,
                ))
            })
            .collect()
    }

    /// Removes a block from the height list, because it is final or is deleted.
    pub(crate) fn unlist(&self, batch: &mut Batch, number: u64, hash: B256) {
        batch.delete(HEIGHTS, height_key(number, hash));
    }

    pub(crate) fn put_block(
        &self,
        batch: &mut Batch,
        block: &StoredBlock,
        receipts: &Vec<ReceiptEnvelope>,
    ) {
        let mut value = Vec::with_capacity(1024);
        value.extend((block.senders.len() as u32).to_be_bytes());
        for sender in &block.senders {
            value.extend(sender.as_slice());
        }
        alloy_rlp::Encodable::encode(&block.block, &mut value);
        let hash = block.hash.as_slice();
        batch.put(HEADERS, hash, alloy_rlp::encode(&block.block.header));
        batch.put(BLOCKS, hash, value);
        batch.put(RECEIPTS, hash, alloy_rlp::encode(receipts));
        batch.put(
            HEIGHTS,
            height_key(block.block.header.number, block.hash),
            [],
        );
    }

    /// Deletes a side block.
    pub(crate) fn delete_block(&self, batch: &mut Batch, hash: B256) {
        for table in [HEADERS, BLOCKS, RECEIPTS] {
            batch.delete(table, hash.as_slice());
        }
        lock(&self.headers).remove(&hash);
        lock(&self.blocks).remove(&hash);
        lock(&self.receipts).remove(&hash);
    }

    pub(crate) fn put_canonical(&self, batch: &mut Batch, block: &StoredBlock) {
        let number = block.block.header.number;
        batch.put(CANONICAL, number.to_be_bytes(), block.hash.as_slice());
        for (index, transaction) in (0u32..).zip(&block.block.body.transactions) {
            let mut value = number.to_be_bytes().to_vec();
            value.extend(index.to_be_bytes());
            batch.put(TRANSACTIONS, transaction.tx_hash().as_slice(), value);
        }
    }

    pub(crate) fn delete_canonical(&self, batch: &mut Batch, block: &StoredBlock) {
        batch.delete(CANONICAL, block.block.header.number.to_be_bytes());
        for transaction in &block.block.body.transactions {
            batch.delete(TRANSACTIONS, transaction.tx_hash().as_slice());
        }
    }

    pub(crate) fn put_pointer(&self, batch: &mut Batch, pointer: Pointer, hash: B256) {
        batch.put(META, pointer.key(), hash.as_slice());
    }

    /// Caches a block after it was written.
    pub(crate) fn remember(&self, block: Arc<StoredBlock>, receipts: Arc<Vec<ReceiptEnvelope>>) {
        let header = SealedHeader {
            hash: block.hash,
            header: block.block.header.clone(),
        };
        lock(&self.headers).insert(block.hash, Arc::new(header));
        lock(&self.receipts).insert(block.hash, receipts);
        lock(&self.blocks).insert(block.hash, block);
    }

    fn cached<T>(
        &self,
        cache: &Mutex<Cache<B256, Arc<T>>>,
        table: Table,
        hash: B256,
        decode: impl FnOnce(&[u8]) -> alloy_rlp::Result<T>,
    ) -> Result<Option<Arc<T>>, Error> {
        if let Some(value) = lock(cache).get(&hash) {
            return Ok(Some(value));
        }
        let Some(bytes) = self.store.get(table, hash.as_slice())? else {
            return Ok(None);
        };
        let value =
            decode(&bytes).map_err(|error| Error::corrupt(table.0, format!("{hash}: {error}")))?;
        let value = Arc::new(value);
        lock(cache).insert(hash, value.clone());
        Ok(Some(value))
    }
}

/// The ancestors of a block on its own branch, read once and only as far as needed.
pub(super) struct ChainAncestors<'a> {
    blocks: &'a BlockStore,
    top: u64,
    known: RefCell<KnownAncestors>,
}

struct KnownAncestors {
    /// Hashes from the top downwards.
    hashes: Vec<B256>,
    /// Parent of the last hash.
    next: B256,
}

impl<'a> ChainAncestors<'a> {
    pub(super) fn new(blocks: &'a BlockStore, top: &SealedHeader) -> Self {
        Self {
            blocks,
            top: top.header.number,
            known: RefCell::new(KnownAncestors {
                hashes: vec![top.hash],
                next: top.header.parent_hash,
            }),
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
        while known.hashes.len() <= back {
            let hash = known.next;
            let header = self
                .blocks
                .header(hash)?
                .ok_or_else(|| Error::corrupt("header", hash))?;
            known.hashes.push(hash);
            known.next = header.header.parent_hash;
        }
        Ok(known.hashes.get(back).copied().unwrap_or_default())
    }
}

fn height_key(number: u64, hash: B256) -> Vec<u8> {
    [&number.to_be_bytes()[..], hash.as_slice()].concat()
}

fn hash_from(bytes: &[u8], what: &'static str) -> Result<B256, Error> {
    B256::try_from(bytes).map_err(|_| Error::corrupt(what, bytes.len()))
}
