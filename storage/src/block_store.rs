//! Headers, bodies, certificates, finality and the vote state, over any engine.
//!
//! Owns the layout of [`crate::schema`]. Writing is in two steps: the `batch_*` functions are pure and add to a [`Batch`],
//! and [`BlockStore::write`] applies it, so that what must be one write (vote state and body of an approval; vote
//! state, header and certificate of a lock; finality and its index) is one batch. Promises that what is read decodes
//! as what was written, or is an error. Never decides: which block is certified or final is what the caller says.
//!
//! The vote state and the federation are types of the consensus crate, beside this one in the dependency graph, so they
//! are type parameters here; they are encoded by `alys_types::codec` like everything else.

use std::collections::BTreeMap;

use alys_runtime::buggify;
use alys_types::limits::{
    MAX_BLOCK_BYTES, MAX_CERTIFICATE_BYTES, MAX_RANGE_BLOCKS, MAX_RANGE_BYTES,
};
use alys_types::mutant::{self, Mutant};
use alys_types::wire::{BlockRange, CertifiedHeader, HeaderRange, RangeRequest};
use alys_types::{
    Authority, Block, Body, Certificate, FederationOrder, Hash, Header, Height, Slot, codec,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kv::{Batch, Direction, Durability, Error, Op, Store, Table};
use crate::schema::{self, hash_key, height_key};

/// Largest vote state, federation record or authority set: two sets of 15 authorities of 144 bytes, with room.
const MAX_RECORD_BYTES: usize = 16 * 1024;
/// Most open blocks and most authority sets that are loaded at a start. Open blocks are those since the last final one; a
/// chain without finality stops growing long before.
const MAX_LISTED: usize = 1 << 16;
/// What certificates, federation orders and the last final header add to a range answer, at most.
const RANGE_OVERHEAD_BYTES: usize = 64 * 1024;

/// The block store of one node.
#[derive(Clone)]
pub struct BlockStore {
    store: Store,
}

/// A block that is not final, with what is stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBlock {
    /// Its hash.
    pub hash: Hash,
    /// Its header.
    pub header: Header,
    /// Its body, when that was stored.
    pub body: Option<Body>,
    /// Its approvals, when it is known to be certified.
    pub certificate: Option<Certificate>,
}

impl BlockStore {
    /// Checks that `store` belongs to this chain and layout, marks a new one, and clears away what a crash left over.
    ///
    /// # Errors
    /// [`Error::Schema`] for another layout, [`Error::OtherChain`] for another genesis, and what the engine says.
    pub fn open(store: Store, genesis: Hash) -> Result<Self, Error> {
        let this = Self { store };
        match this.store.get(schema::META, schema::SCHEMA)? {
            None => {
                let mut batch = Batch::new();
                batch.put(schema::META, schema::SCHEMA, schema::VERSION.to_be_bytes());
                batch.put(schema::META, schema::GENESIS, genesis.0);
                this.store.write(batch, Durability::Durable)?;
            }
            Some(bytes) => {
                let found = bytes.try_into().map(u32::from_be_bytes);
                let found =
                    found.map_err(|_| corrupt(schema::META, schema::SCHEMA, "is no version"))?;
                if found != schema::VERSION {
                    return Err(Error::Schema {
                        found,
                        wanted: schema::VERSION,
                    });
                }
                let found: Hash = this.required(schema::META, schema::GENESIS, 32)?;
                if found != genesis {
                    return Err(Error::OtherChain {
                        found: found.to_string(),
                        wanted: genesis.to_string(),
                    });
                }
            }
        }
        this.forget_closed()?;
        Ok(this)
    }

    /// The engine below, for tables of other parts of the node.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Applies a batch.
    ///
    /// # Errors
    /// What the engine says.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        if mutant::active(Mutant::IndexBeforeBlock) {
            let (mut index, mut blocks) = (Batch::new(), Batch::new());
            for op in batch.into_ops() {
                let (Op::Put { table, .. } | Op::Delete { table, .. }) = &op;
                let is_block =
                    [schema::HEADERS, schema::BODIES, schema::CERTIFICATES].contains(table);
                let half = if is_block { &mut blocks } else { &mut index };
                match op {
                    Op::Put { table, key, value } => half.put(table, key, value),
                    Op::Delete { table, key } => half.delete(table, key),
                };
            }
            self.store.write(index, durability)?;
            return self.store.write(blocks, durability);
        }
        self.store.write(batch, durability)
    }

    /// Adds a block, header and body, as an open one.
    pub fn batch_block(batch: &mut Batch, block: &Block) {
        let hash = block.header.hash();
        batch_header(batch, hash, &block.header);
        batch.put(schema::BODIES, hash_key(&hash), codec::encode(&block.body));
        if let Some(order) = &block.body.federation_change {
            batch.put(schema::ORDERS, hash_key(&hash), codec::encode(order));
        }
    }

    /// Adds a header as an open one, with its certificate (approvals).
    pub fn batch_certified(batch: &mut Batch, certified: &CertifiedHeader) {
        let hash = certified.header.hash();
        batch_header(batch, hash, &certified.header);
        batch.put(
            schema::CERTIFICATES,
            hash_key(&hash),
            codec::encode(&certified.certificate),
        );
    }

    /// Sets the vote state.
    pub fn batch_votes<V: Serialize>(batch: &mut Batch, votes: &V) {
        batch.put(schema::VOTES, schema::VOTE_STATE, codec::encode(votes));
    }

    /// Sets the certified block with the highest slot.
    pub fn batch_highest(batch: &mut Batch, slot: Slot, hash: Hash) {
        batch.put(schema::META, schema::HIGHEST, codec::encode(&(slot, hash)));
    }

    /// Adds an authority set.
    pub fn batch_set(batch: &mut Batch, authorities: &[Authority]) {
        let bytes = codec::encode(&authorities);
        let key = alys_types::hash::tagged("alys/store/set", &[&bytes]);
        batch.put(schema::SETS, hash_key(&key), bytes);
    }

    /// Makes blocks final: `last` is the last final block with its finality certificate, `chain` the newly final blocks,
    /// ascending and ending with it, `dropped` the open blocks that can no longer become final, which are removed.
    pub fn batch_finalized(
        batch: &mut Batch,
        last: &CertifiedHeader,
        chain: &[(Height, Hash)],
        dropped: &[Hash],
    ) {
        for (at, (height, hash)) in chain.iter().enumerate() {
            if at + 1 == chain.len() || !mutant::active(Mutant::FinalIndexGaps) {
                batch.put(schema::FINAL, height_key(*height), hash.0);
            }
            batch.delete(schema::OPEN, hash_key(hash));
        }
        let hash = last.header.hash();
        batch.put(
            schema::HEADERS,
            hash_key(&hash),
            codec::encode(&last.header),
        );
        batch.put(
            schema::FINALITY,
            hash_key(&hash),
            codec::encode(&last.certificate),
        );
        batch.put(schema::META, schema::FINALIZED, codec::encode(last));
        for hash in dropped {
            for table in [
                schema::OPEN,
                schema::HEADERS,
                schema::BODIES,
                schema::CERTIFICATES,
                schema::ORDERS,
            ] {
                batch.delete(table, hash_key(hash));
            }
        }
    }

    /// Sets the federation after the last final block.
    pub fn batch_federation<F: Serialize>(batch: &mut Batch, federation: &F) {
        batch.put(schema::META, schema::FEDERATION, codec::encode(federation));
    }

    /// A header.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not what was stored, and what the engine says; so for all that follow.
    pub fn header(&self, hash: &Hash) -> Result<Option<Header>, Error> {
        let header: Option<Header> =
            self.record(schema::HEADERS, &hash_key(hash), MAX_CERTIFICATE_BYTES)?;
        if header.as_ref().is_some_and(|header| header.hash() != *hash) {
            return Err(corrupt(schema::HEADERS, &hash.0, "is of another block"));
        }
        Ok(header)
    }

    /// A body.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn body(&self, hash: &Hash) -> Result<Option<Body>, Error> {
        self.record(schema::BODIES, &hash_key(hash), MAX_BLOCK_BYTES)
    }

    /// A block, when both header and body are stored.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn block(&self, hash: &Hash) -> Result<Option<Block>, Error> {
        let Some(header) = self.header(hash)? else {
            return Ok(None);
        };
        Ok(self.body(hash)?.map(|body| Block { header, body }))
    }

    /// The approvals of a block.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn certificate(&self, hash: &Hash) -> Result<Option<Certificate>, Error> {
        self.record(schema::CERTIFICATES, &hash_key(hash), MAX_CERTIFICATE_BYTES)
    }

    /// The confirmations of a block. Most final blocks have none of their own but those of a descendant.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn finality(&self, hash: &Hash) -> Result<Option<Certificate>, Error> {
        self.record(schema::FINALITY, &hash_key(hash), MAX_CERTIFICATE_BYTES)
    }

    /// The hash of the final block at a height; none for genesis.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn final_hash(&self, height: Height) -> Result<Option<Hash>, Error> {
        self.record(schema::FINAL, &height_key(height), 32)
    }

    /// The last final block with its finality certificate; none while that is genesis.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn finalized(&self) -> Result<Option<CertifiedHeader>, Error> {
        self.record(schema::META, schema::FINALIZED, 2 * MAX_CERTIFICATE_BYTES)
    }

    /// Slot and hash of the certified block with the highest slot; none while that is genesis.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn highest(&self) -> Result<Option<(Slot, Hash)>, Error> {
        self.record(schema::META, schema::HIGHEST, MAX_RECORD_BYTES)
    }

    /// The vote state, if one was ever written. None on an authority is a loss.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn votes<V: Serialize + DeserializeOwned>(&self) -> Result<Option<V>, Error> {
        self.record(schema::VOTES, schema::VOTE_STATE, MAX_RECORD_BYTES)
    }

    /// The federation after the last final block.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn federation<F: Serialize + DeserializeOwned>(&self) -> Result<Option<F>, Error> {
        self.record(schema::META, schema::FEDERATION, MAX_RECORD_BYTES)
    }

    /// All authority sets, in no order that means anything.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn sets(&self) -> Result<Vec<Vec<Authority>>, Error> {
        let rows = self.store.range(
            schema::SETS,
            &[],
            &schema::AFTER_HASHES,
            Direction::Forward,
            MAX_LISTED,
        )?;
        rows.iter()
            .map(|(key, bytes)| decode(schema::SETS, key, bytes, MAX_RECORD_BYTES))
            .collect()
    }

    /// The blocks above the last final one, by height, then hash.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn open_blocks(&self) -> Result<Vec<OpenBlock>, Error> {
        let floor = self.final_height()?;
        let mut blocks = Vec::new();
        for hash in self.open_hashes()? {
            let Some(header) = self.header(&hash)? else {
                return Err(corrupt(schema::HEADERS, &hash.0, "is missing"));
            };
            if header.height > floor {
                let (body, certificate) = (self.body(&hash)?, self.certificate(&hash)?);
                blocks.push(OpenBlock {
                    hash,
                    header,
                    body,
                    certificate,
                });
            }
        }
        blocks.sort_by_key(|block| (block.header.height, block.hash));
        Ok(blocks)
    }

    /// The headers of the final blocks below the last final one, descending, at most `limit`, without genesis.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn final_window(&self, limit: usize) -> Result<Vec<Header>, Error> {
        let end = height_key(self.final_height()?);
        let rows = self.store.range(
            schema::FINAL,
            &height_key(Height(1)),
            &end,
            Direction::Backward,
            limit,
        )?;
        rows.iter()
            .map(|(key, bytes)| {
                let hash: Hash = decode(schema::FINAL, key, bytes, 32)?;
                self.header(&hash)?
                    .ok_or_else(|| corrupt(schema::HEADERS, &hash.0, "is missing"))
            })
            .collect()
    }

    /// The answer to a request for blocks: consecutive blocks of the certified chain from `start` on, at most `count` and
    /// [`MAX_RANGE_BLOCKS`], as many as fit in an answer, and at least one if there is one.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn block_range(&self, request: RangeRequest) -> Result<BlockRange, Error> {
        let mut blocks = Vec::new();
        let mut bytes = RANGE_OVERHEAD_BYTES;
        let is_short = buggify!("storage.blocks.short_range");
        for hash in self.certified_hashes(request)? {
            if is_short && !blocks.is_empty() {
                break;
            }
            let Some(encoded) = self.store.get(schema::BODIES, &hash_key(&hash))? else {
                break;
            };
            bytes += encoded.len() + MAX_CERTIFICATE_BYTES;
            if bytes > MAX_RANGE_BYTES && !blocks.is_empty() {
                break;
            }
            let Some(header) = self.header(&hash)? else {
                break;
            };
            let body = decode(schema::BODIES, &hash.0, &encoded, MAX_BLOCK_BYTES)?;
            blocks.push(Block { header, body });
        }
        let mut tip = None;
        while let Some(last) = blocks.last() {
            tip = self.approvals_of(&last.header)?;
            if tip.is_some() {
                break;
            }
            blocks.pop();
        }
        let finalized = self.finality_within(blocks.iter().map(|b| &b.header))?;
        Ok(BlockRange {
            blocks,
            tip,
            finalized,
        })
    }

    /// The answer to a request for headers, with the federation orders that the blocks carry; as
    /// [`block_range`](Self::block_range).
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn header_range(&self, request: RangeRequest) -> Result<HeaderRange, Error> {
        let mut headers = Vec::new();
        let mut changes = Vec::new();
        let is_short = buggify!("storage.blocks.short_header_range");
        for hash in self.certified_hashes(request)? {
            if is_short && !headers.is_empty() {
                break;
            }
            let Some(header) = self.header(&hash)? else {
                break;
            };
            let order: Option<FederationOrder> =
                self.record(schema::ORDERS, &hash_key(&hash), MAX_RECORD_BYTES)?;
            changes.extend(order.map(|order| (header.height, order)));
            headers.push(header);
        }
        let mut tip = None;
        while let Some(last) = headers.last() {
            tip = self.approvals_of(last)?;
            if tip.is_some() {
                break;
            }
            headers.pop();
        }
        let end = headers.last().map(|header: &Header| header.height);
        changes.retain(|(height, _)| Some(*height) <= end);
        let finalized = self.finality_within(headers.iter())?;
        Ok(HeaderRange {
            headers,
            tip,
            changes,
            finalized,
        })
    }

    /// The highest finality certificate of a block of a range, so that who is far behind can finalize as it goes; where
    /// the range shows nothing final, the last one.
    fn finality_within<'a>(
        &self,
        headers: impl DoubleEndedIterator<Item = &'a Header>,
    ) -> Result<Option<CertifiedHeader>, Error> {
        for header in headers.rev() {
            if let Some(certificate) = self.finality(&header.hash())? {
                return Ok(Some(CertifiedHeader {
                    header: header.clone(),
                    certificate,
                }));
            }
        }
        self.finalized()
    }

    /// The hashes of the certified chain from `start` on: final blocks by their index, then the open ones under the
    /// highest certified block.
    fn certified_hashes(&self, request: RangeRequest) -> Result<Vec<Hash>, Error> {
        let count = request.count.min(MAX_RANGE_BLOCKS);
        let end = Height(request.start.0.saturating_add(count));
        let (from, to) = (height_key(request.start), height_key(end));
        let rows = self.store.range(
            schema::FINAL,
            &from,
            &to,
            Direction::Forward,
            count as usize,
        )?;
        let mut hashes = Vec::new();
        let mut next = request.start;
        for (key, bytes) in &rows {
            if *key != height_key(next) {
                return Ok(hashes);
            }
            hashes.push(decode(schema::FINAL, key, bytes, 32)?);
            next = next.next();
        }
        let open = if next < end {
            self.open_chain()?
        } else {
            BTreeMap::new()
        };
        while next < end {
            let Some(hash) = open.get(&next) else { break };
            hashes.push(*hash);
            next = next.next();
        }
        Ok(hashes)
    }

    /// The open blocks from the highest certified one down to the last final one.
    fn open_chain(&self) -> Result<BTreeMap<Height, Hash>, Error> {
        let floor = self.final_height()?;
        let mut chain = BTreeMap::new();
        let mut next = self.highest()?.map(|(_, hash)| hash);
        while let Some(hash) = next.take() {
            if let Some(header) = self.header(&hash)?
                && header.height > floor
                && chain.len() < MAX_LISTED
            {
                chain.insert(header.height, hash);
                next = Some(header.parent_hash);
            }
        }
        Ok(chain)
    }

    /// The certificate of a block of the certified chain: its own, or the one that its child carries.
    fn approvals_of(&self, header: &Header) -> Result<Option<Certificate>, Error> {
        let hash = header.hash();
        if let Some(certificate) = self.certificate(&hash)? {
            return Ok(Some(certificate));
        }
        let Some(child) = self.final_hash(header.height.next())? else {
            return Ok(None);
        };
        Ok(self
            .header(&child)?
            .and_then(|child| child.parent_certificate)
            .filter(|c| c.target.hash == hash))
    }

    fn final_height(&self) -> Result<Height, Error> {
        Ok(self
            .finalized()?
            .map_or(Height(0), |last| last.header.height))
    }

    fn open_hashes(&self) -> Result<Vec<Hash>, Error> {
        let rows = self.store.range(
            schema::OPEN,
            &[],
            &schema::AFTER_HASHES,
            Direction::Forward,
            MAX_LISTED,
        )?;
        rows.into_iter()
            .map(|(key, _)| {
                let hash = <[u8; 32]>::try_from(key);
                hash.map(Hash)
                    .map_err(|key| corrupt(schema::OPEN, &key, "is no hash"))
            })
            .collect()
    }

    /// Takes blocks at or below the last final height off the list of open ones: a header that was written again after its
    /// block became final, or a block that lost.
    fn forget_closed(&self) -> Result<(), Error> {
        let floor = self.final_height()?;
        let mut batch = Batch::new();
        for hash in self.open_hashes()? {
            if self
                .header(&hash)?
                .is_some_and(|header| header.height <= floor)
            {
                batch.delete(schema::OPEN, hash_key(&hash));
            }
            // Each of them is forgotten by itself: nothing is wrong with a part of them.
            if !batch.is_empty() && buggify!("storage.blocks.forget_one_by_one", 1_000_000) {
                self.store
                    .write(std::mem::take(&mut batch), Durability::Durable)?;
            }
        }
        if batch.is_empty() {
            Ok(())
        } else {
            self.store.write(batch, Durability::Deferred)
        }
    }

    fn record<T: Serialize + DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
        limit: usize,
    ) -> Result<Option<T>, Error> {
        match self.store.get(table, key)? {
            Some(bytes) => decode(table, key, &bytes, limit).map(Some),
            None => Ok(None),
        }
    }

    fn required<T: Serialize + DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
        limit: usize,
    ) -> Result<T, Error> {
        self.record(table, key, limit)?
            .ok_or_else(|| corrupt(table, key, "is missing"))
    }
}

fn batch_header(batch: &mut Batch, hash: Hash, header: &Header) {
    batch.put(schema::HEADERS, hash_key(&hash), codec::encode(header));
    batch.put(schema::OPEN, hash_key(&hash), []);
}

fn decode<T: Serialize + DeserializeOwned>(
    table: Table,
    key: &[u8],
    bytes: &[u8],
    limit: usize,
) -> Result<T, Error> {
    codec::decode(bytes, limit)
        .map_err(|error| corrupt(table, key, &format!("does not decode: {error}")))
}

fn corrupt(table: Table, key: &[u8], what: &str) -> Error {
    let shown: String = match std::str::from_utf8(key) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => key
            .iter()
            .take(32)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    };
    Error::Corrupt {
        reason: format!("the entry {shown} of table {} {what}", table.0),
    }
}
