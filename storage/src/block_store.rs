//! Headers, bodies, certificates, finality and the vote state, stored in any engine.
//!
//! Owns the tables of [`crate::schema`]. A write takes two steps: the pure `batch_*` functions add
//! records to a [`Batch`], and [`BlockStore::write`] applies it. Records that must become durable
//! together share a batch: the vote state and the body of an approval; the vote state, the header
//! and the certificate of a lock; finality, its index and the ledger.
//!
//! Guarantees that a read returns the record that was written, or an error. Never decides which
//! block is certified or final, or what the ledger is; the caller does.
//!
//! The vote state and the federation are type parameters, because their types belong to the
//! consensus crate, on which this crate does not depend. `alys_types::codec` encodes them, as it
//! does all records.

use std::collections::{BTreeMap, BTreeSet};

use alys_peg::{Additions, Changes};
use alys_runtime::buggify;
use alys_runtime::trace::reached;
use alys_types::hash::{tagged, tags};
use alys_types::limits::{MAX_CERTIFICATE_BYTES, MAX_RANGE_BLOCKS, MAX_RANGE_BYTES};
use alys_types::wire::{BlockRange, CertifiedHeader, HeaderRange, RangeRequest};
use alys_types::{Authority, Block, Body, Certificate, Hash, Header, Height, Order, Slot, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::interceptor;
use crate::kv::{Batch, Direction, Durability, Error, Op, Store, Table};
use crate::schema::{self, hash_key, height_key};

/// Maximum open blocks, and maximum authority sets, loaded at a start, to bound its memory. At the
/// default slot duration this many blocks without finality take 36 hours.
const MAX_LISTED: usize = 1 << 16;
/// Bytes reserved in a range answer for certificates, federation orders and the last final header.
const RANGE_OVERHEAD_BYTES: usize = 64 * 1024;
/// Entries of the ledger that a start reads at once.
const LEDGER_PAGE: usize = 4096;
/// At most this fraction of the limit is reserved, as a divisor: a smaller limit than
/// [`MAX_RANGE_BYTES`] needs room for a tip, and a final header with its certificate, 2 KiB.
const RANGE_OVERHEAD_DIVISOR: usize = 64;

/// The block store of one node.
///
/// Every read fails with [`Error::Corrupt`] if the record does not decode, and with the errors of
/// the engine. A header is also checked against the hash under which it is stored.
#[derive(Clone)]
pub struct BlockStore {
    store: Store,
    /// See [`Self::with_range_limit`].
    max_range_bytes: usize,
}

/// A block above the last final one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBlock {
    pub hash: Hash,
    pub header: Header,
    /// `None` if only the certified header was stored.
    pub body: Option<Body>,
    /// The certificate of approvals.
    pub certificate: Option<Certificate>,
    /// `None` until its receipts are known.
    pub additions: Option<Additions>,
}

/// A final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalBlock {
    pub block: Block,
    /// `None` until its receipts are known.
    pub additions: Option<Additions>,
}

/// The ledger after a final block, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRows {
    /// Height of the block.
    pub height: Height,
    /// Hash of the block.
    pub hash: Hash,
    /// All entries, by ascending key.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl BlockStore {
    /// Initialises an empty `store`, or checks the layout and the chain of any other. Then removes
    /// from the list of open blocks those that are no longer open, and all records of those that
    /// are not final either.
    ///
    /// # Errors
    /// [`Error::Schema`] for another layout, [`Error::OtherChain`] for another genesis.
    pub fn open(store: Store, genesis: Hash) -> Result<Self, Error> {
        let this = Self {
            store,
            max_range_bytes: MAX_RANGE_BYTES,
        };
        match this.store.get(schema::META, schema::SCHEMA)? {
            None => {
                let mut batch = Batch::new();
                batch.put(schema::META, schema::SCHEMA, schema::VERSION.to_be_bytes());
                batch.put(schema::META, schema::GENESIS, genesis.0);
                this.store.write(batch, Durability::Durable)?;
            }
            Some(bytes) => {
                let found = bytes.try_into().map(u32::from_be_bytes);
                let found = found.map_err(|_| {
                    corrupt(schema::META, schema::SCHEMA, "is not a layout version")
                })?;
                if found != schema::VERSION {
                    return Err(Error::Schema {
                        found,
                        wanted: schema::VERSION,
                    });
                }
                let found: Hash = this.required(schema::META, schema::GENESIS)?;
                if found != genesis {
                    return Err(Error::OtherChain {
                        found: found.to_string(),
                        wanted: genesis.to_string(),
                    });
                }
            }
        }
        this.prune_open_list()?;
        Ok(this)
    }

    /// The same store with another limit of the bytes of [`Self::block_range`] than
    /// [`MAX_RANGE_BYTES`], for simulations, in which few blocks are large. It must be at least
    /// 256 KiB and twice the largest block of the run.
    pub fn with_range_limit(self, bytes: usize) -> Self {
        Self {
            max_range_bytes: bytes,
            ..self
        }
    }

    /// The limit of the bytes of an answer.
    pub fn max_range_bytes(&self) -> usize {
        self.max_range_bytes
    }

    /// The engine, for tables that other parts of the node own.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Applies `batch` atomically.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a value that a read would refuse, and the errors of the engine.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        check_readable(&batch)?;
        let marks = marks(&batch);
        interceptor::write(&self.store, batch, durability)?;
        marks.into_iter().for_each(reached);
        Ok(())
    }

    /// Adds the header, body and federation order, if any, of an open block.
    pub fn batch_block(batch: &mut Batch, block: &Block) {
        let hash = block.header.hash();
        batch_header(batch, hash, &block.header);
        batch.put(schema::BODIES, hash_key(&hash), codec::encode(&block.body));
        if let Some(order) = block.body.federation_order() {
            batch.put(schema::ORDERS, hash_key(&hash), codec::encode(order));
        }
    }

    /// Adds the header and certificate (of approvals) of an open block.
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

    /// Adds an authority set under the hash of its encoding.
    pub fn batch_set(batch: &mut Batch, authorities: &[Authority]) {
        let bytes = codec::encode(&authorities);
        let key = tagged(tags::STORED_SET, &[&bytes]);
        batch.put(schema::SETS, hash_key(&key), bytes);
    }

    /// Adds the additions of a block that is stored, or is part of the batch.
    pub fn batch_additions(batch: &mut Batch, hash: &Hash, additions: &Additions) {
        batch.put(schema::ADDITIONS, hash_key(hash), codec::encode(additions));
    }

    /// Moves the stored ledger to the block with this height and hash: `changes` lead there from
    /// the block that it was after.
    pub fn batch_ledger(batch: &mut Batch, height: Height, hash: Hash, changes: &Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(schema::LEDGER, key.as_slice(), value.as_slice()),
                None => batch.delete(schema::LEDGER, key.as_slice()),
            };
        }
        let at = codec::encode(&(height, hash));
        batch.put(schema::META, schema::LEDGER_AT, at);
    }

    /// Adds a proof of work that waits for a block, under the commitment of its work.
    pub fn batch_proof(batch: &mut Batch, commitment: &Hash, proof: &[u8]) {
        batch.put(schema::PROOFS, hash_key(commitment), proof);
    }

    /// Removes a proof that waits no longer.
    pub fn batch_proof_removed(batch: &mut Batch, commitment: &Hash) {
        batch.delete(schema::PROOFS, hash_key(commitment));
    }

    /// Finalizes the blocks of `chain`, in ascending order, up to `last`, which the finality
    /// certificate names. Removes the blocks of `dropped`, which can no longer become final.
    pub fn batch_finalized(
        batch: &mut Batch,
        last: &CertifiedHeader,
        chain: &[(Height, Hash)],
        dropped: &[Hash],
    ) {
        for (at, (height, hash)) in chain.iter().enumerate() {
            if interceptor::enters_final_index(at + 1 == chain.len()) {
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
            batch_dropped(batch, hash);
        }
    }

    /// Sets the federation as of the last final block.
    pub fn batch_federation<F: Serialize>(batch: &mut Batch, federation: &F) {
        batch.put(schema::META, schema::FEDERATION, codec::encode(federation));
    }

    /// The header with this hash. The hash is recomputed and compared.
    pub fn header(&self, hash: &Hash) -> Result<Option<Header>, Error> {
        let header: Option<Header> = self.record(schema::HEADERS, &hash_key(hash))?;
        if header.as_ref().is_some_and(|header| header.hash() != *hash) {
            return Err(corrupt(
                schema::HEADERS,
                &hash.0,
                "belongs to another block",
            ));
        }
        Ok(header)
    }

    pub fn body(&self, hash: &Hash) -> Result<Option<Body>, Error> {
        self.record(schema::BODIES, &hash_key(hash))
    }

    /// The block, when both header and body are stored.
    pub fn block(&self, hash: &Hash) -> Result<Option<Block>, Error> {
        let Some(header) = self.header(hash)? else {
            return Ok(None);
        };
        Ok(self.body(hash)?.map(|body| Block { header, body }))
    }

    /// The certificate of a block: its approvals.
    pub fn certificate(&self, hash: &Hash) -> Result<Option<Certificate>, Error> {
        self.record(schema::CERTIFICATES, &hash_key(hash))
    }

    /// The finality certificate of a block: its confirmations. A block that became final through a
    /// descendant has none.
    pub fn finality(&self, hash: &Hash) -> Result<Option<Certificate>, Error> {
        self.record(schema::FINALITY, &hash_key(hash))
    }

    /// The additions of a block.
    pub fn additions(&self, hash: &Hash) -> Result<Option<Additions>, Error> {
        self.record(schema::ADDITIONS, &hash_key(hash))
    }

    /// The final block at a height with its additions; `None` above the last one and for genesis,
    /// which is not stored.
    pub fn final_with_additions(&self, height: Height) -> Result<Option<FinalBlock>, Error> {
        let Some(hash) = self.final_hash(height)? else {
            return Ok(None);
        };
        let block = self
            .block(&hash)?
            .ok_or_else(|| corrupt(schema::BODIES, &hash.0, "is missing"))?;
        Ok(Some(FinalBlock {
            block,
            additions: self.additions(&hash)?,
        }))
    }

    /// The stored ledger; `None` before the first one. It fits in memory, because a node holds the
    /// same ledger while it runs.
    pub fn ledger(&self) -> Result<Option<LedgerRows>, Error> {
        let at: Option<(Height, Hash)> = self.record(schema::META, schema::LEDGER_AT)?;
        let Some((height, hash)) = at else {
            return Ok(None);
        };
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            // The next key after the last one.
            let start = entries
                .last()
                .map(|(key, _)| [key.as_slice(), &[0]].concat());
            let page = self.store.range(
                schema::LEDGER,
                &start.unwrap_or_default(),
                &schema::AFTER_HASHES,
                Direction::Forward,
                LEDGER_PAGE,
            )?;
            let is_last = page.len() < LEDGER_PAGE;
            entries.extend(page);
            if is_last {
                break;
            }
        }
        for (key, value) in &entries {
            if value.len() > schema::value_limit(schema::LEDGER, key) {
                return Err(corrupt(schema::LEDGER, key, "is too long"));
            }
        }
        Ok(Some(LedgerRows {
            height,
            hash,
            entries,
        }))
    }

    /// The proofs of work that wait for a block, by commitment; at most [`schema::MAX_PROOFS`] and
    /// [`schema::MAX_PROOFS_BYTES`].
    pub fn proofs(&self) -> Result<Vec<(Hash, Vec<u8>)>, Error> {
        let mut proofs = Vec::new();
        let (mut start, mut bytes) = (Vec::new(), 0_usize);
        while proofs.len() < schema::MAX_PROOFS {
            let end = &schema::AFTER_HASHES;
            let row = self
                .store
                .range(schema::PROOFS, &start, end, Direction::Forward, 1)?;
            let Some((key, value)) = row.into_iter().next() else {
                break;
            };
            let commitment = <[u8; 32]>::try_from(&key[..])
                .map_err(|_| corrupt(schema::PROOFS, &key, "is not a commitment"))?;
            if value.len() > schema::value_limit(schema::PROOFS, &key) {
                return Err(corrupt(schema::PROOFS, &key, "is too long"));
            }
            bytes = bytes.saturating_add(value.len());
            if bytes > schema::MAX_PROOFS_BYTES {
                break;
            }
            proofs.push((Hash(commitment), value));
            // The next key in order.
            start = key;
            start.push(0);
        }
        Ok(proofs)
    }

    /// The hash of the final block at a height; `None` for genesis, which is not stored.
    pub fn final_hash(&self, height: Height) -> Result<Option<Hash>, Error> {
        self.record(schema::FINAL, &height_key(height))
    }

    /// The last final block with its finality certificate; `None` while the block is genesis.
    pub fn finalized(&self) -> Result<Option<CertifiedHeader>, Error> {
        self.record(schema::META, schema::FINALIZED)
    }

    /// Slot and hash of the certified block with the highest slot; `None` while it is genesis.
    pub fn highest(&self) -> Result<Option<(Slot, Hash)>, Error> {
        self.record(schema::META, schema::HIGHEST)
    }

    /// The vote state. `None` on an authority means that it was lost (rule 3.8).
    pub fn votes<V: Serialize + DeserializeOwned>(&self) -> Result<Option<V>, Error> {
        self.record(schema::VOTES, schema::VOTE_STATE)
    }

    /// The federation as of the last final block.
    pub fn federation<F: Serialize + DeserializeOwned>(&self) -> Result<Option<F>, Error> {
        self.record(schema::META, schema::FEDERATION)
    }

    /// All authority sets, in the order of their hashes.
    pub fn sets(&self) -> Result<Vec<Vec<Authority>>, Error> {
        let rows = self.store.range(
            schema::SETS,
            &[],
            &schema::AFTER_HASHES,
            Direction::Forward,
            MAX_LISTED,
        )?;
        rows.iter()
            .map(|(key, bytes)| decode(schema::SETS, key, bytes))
            .collect()
    }

    /// The blocks above the last final one, sorted by height, then hash.
    pub fn open_blocks(&self) -> Result<Vec<OpenBlock>, Error> {
        let floor = self.final_height()?;
        let mut blocks = Vec::new();
        for hash in self.open_hashes()? {
            let Some(header) = self.header(&hash)? else {
                return Err(corrupt(schema::HEADERS, &hash.0, "is missing"));
            };
            if header.height > floor {
                blocks.push(OpenBlock {
                    hash,
                    header,
                    body: self.body(&hash)?,
                    certificate: self.certificate(&hash)?,
                    additions: self.additions(&hash)?,
                });
            }
        }
        blocks.sort_by_key(|block| (block.header.height, block.hash));
        Ok(blocks)
    }

    /// Headers of at most `limit` final blocks below the last final one, descending, without
    /// genesis.
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
                let hash: Hash = decode(schema::FINAL, key, bytes)?;
                self.header(&hash)?
                    .ok_or_else(|| corrupt(schema::HEADERS, &hash.0, "is missing"))
            })
            .collect()
    }

    /// The answer to a request for blocks: consecutive blocks of the certified chain from `start`
    /// on, at most `count`, [`MAX_RANGE_BLOCKS`] and, unless the first block alone is larger,
    /// [`Self::max_range_bytes`]. The range ends before the first block without a stored body, and
    /// the certificate of its last block is known; it can be empty.
    pub fn block_range(&self, request: RangeRequest) -> Result<BlockRange, Error> {
        let mut blocks = Vec::new();
        let limit = self.max_range_bytes;
        let mut bytes = RANGE_OVERHEAD_BYTES.min(limit / RANGE_OVERHEAD_DIVISOR);
        let is_short = buggify!("storage.blocks.short_range");
        for hash in self.certified_hashes(request)? {
            if is_short && !blocks.is_empty() {
                break;
            }
            let Some(encoded) = self.store.get(schema::BODIES, &hash_key(&hash))? else {
                break;
            };
            let before = bytes;
            bytes += encoded.len() + MAX_CERTIFICATE_BYTES;
            if interceptor::is_range_full(before, bytes, limit) && !blocks.is_empty() {
                reached("state.storage.range_full");
                break;
            }
            let Some(header) = self.header(&hash)? else {
                break;
            };
            let body = decode(schema::BODIES, &hash.0, &encoded)?;
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

    /// The answer to a request for headers: at most `count` and [`MAX_RANGE_BLOCKS`] headers as in
    /// [`block_range`](Self::block_range), and the federation orders that their blocks carry.
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
            let order: Option<Order> = self.record(schema::ORDERS, &hash_key(&hash))?;
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

    /// The finality certificate of the highest block in the range that has one, so that a peer far
    /// behind finalizes while it syncs. If no block of the range has one, that of the last final
    /// block.
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

    /// The hashes of the certified chain from `start` on: the index of final blocks, then the open
    /// ancestors of the highest certified block and that block.
    fn certified_hashes(&self, request: RangeRequest) -> Result<Vec<Hash>, Error> {
        let count = request.count.min(MAX_RANGE_BLOCKS);
        let end = Height(request.start.0.saturating_add(count));
        let rows = self.store.range(
            schema::FINAL,
            &height_key(request.start),
            &height_key(end),
            Direction::Forward,
            count as usize,
        )?;
        let mut hashes = Vec::new();
        let mut next = request.start;
        for (key, bytes) in &rows {
            if *key != height_key(next) {
                return Ok(hashes);
            }
            hashes.push(decode(schema::FINAL, key, bytes)?);
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

    /// The highest certified block and its open ancestors, by height.
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

    /// The certificate of a block of the certified chain: its own record, or the copy in the header
    /// of its final child.
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
                    .map_err(|key| corrupt(schema::OPEN, &key, "is not a block hash"))
            })
            .collect()
    }

    /// Removes blocks at or below the last final height from the list of open ones. They are in it
    /// if their headers were written after they became final or were dropped, or if the node ended
    /// after it had evicted them from memory. Those that are not on the final chain can never
    /// become final, so their other records are deleted too.
    fn prune_open_list(&self) -> Result<(), Error> {
        let floor = self.final_height()?;
        let mut batch = Batch::new();
        for hash in self.open_hashes()? {
            if let Some(header) = self.header(&hash)?
                && header.height <= floor
            {
                if self.final_hash(header.height)? == Some(hash) {
                    batch.delete(schema::OPEN, hash_key(&hash));
                } else {
                    batch_dropped(&mut batch, &hash);
                }
            }
            // Each removal is independent, so a crash between two of them does no harm.
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
    ) -> Result<Option<T>, Error> {
        match self.store.get(table, key)? {
            Some(bytes) => decode(table, key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    fn required<T: Serialize + DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<T, Error> {
        self.record(table, key)?
            .ok_or_else(|| corrupt(table, key, "is missing"))
    }
}

fn batch_header(batch: &mut Batch, hash: Hash, header: &Header) {
    batch.put(schema::HEADERS, hash_key(&hash), codec::encode(header));
    batch.put(schema::OPEN, hash_key(&hash), []);
}

/// Removes all records of a block that is not final.
fn batch_dropped(batch: &mut Batch, hash: &Hash) {
    for table in [
        schema::OPEN,
        schema::HEADERS,
        schema::BODIES,
        schema::CERTIFICATES,
        schema::ORDERS,
        schema::ADDITIONS,
    ] {
        if interceptor::deletes_dropped(table) {
            batch.delete(table, hash_key(hash));
        }
    }
}

/// Refuses values that [`decode`] would refuse for their length.
fn check_readable(batch: &Batch) -> Result<(), Error> {
    for op in batch.ops() {
        let Op::Put { table, key, value } = op else {
            continue;
        };
        let limit = schema::value_limit(*table, key);
        if value.len() > limit {
            return Err(Error::TooLarge {
                what: table.0,
                bytes: value.len(),
                limit,
            });
        }
    }
    Ok(())
}

/// The coverage marks of the records that a batch writes, each once.
fn marks(batch: &Batch) -> BTreeSet<&'static str> {
    let mark = |op: &Op| match op {
        Op::Put { table, key, .. } => schema::mark(*table, key),
        Op::Delete { .. } => None,
    };
    batch.ops().iter().filter_map(mark).collect()
}

fn decode<T: Serialize + DeserializeOwned>(
    table: Table,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, Error> {
    codec::decode(bytes, schema::value_limit(table, key))
        .map_err(|error| corrupt(table, key, &format!("does not decode: {error}")))
}

fn corrupt(table: Table, key: &[u8], fault: &str) -> Error {
    let shown: String = match std::str::from_utf8(key) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => key
            .iter()
            .take(32)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    };
    Error::Corrupt {
        reason: format!("the entry {shown} of table {} {fault}", table.0),
    }
}
