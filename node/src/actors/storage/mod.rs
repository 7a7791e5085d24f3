//! StorageActor: the only writer of the block store.
//!
//! Owns the handle of the storage engine. Guarantees that a record is durable and complete when it
//! answers. Never decides what is certified or final, and never asks another actor. A failed write
//! ends the incarnation, because the content of the disk is known only after the store is opened
//! again. The health of the supervision tree therefore shows failing writes without a health check
//! of this actor.

mod metrics;
mod reads;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, AlysActor, AskError, Context, Message, Priority, Reply};
use alys_consensus::federation::FINALITY_WINDOW;
use alys_consensus::{
    BlockRef, FederationRecord, LedgerRecord, Record, Stored, StoredBlock, StoredFinal,
    StoredLedger, VoteState,
};
use alys_runtime::disk::{self, Dir};
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_storage::{Batch, BlockStore, Durability, Engine, FinalBlock};
use alys_types::limits::MAX_CERTIFICATE_BYTES;
use alys_types::wire::{BlockRange, HeaderRange, RangeRequest};
use alys_types::{Block, Genesis, Hash, Height};

use crate::interceptor;

pub use metrics::Metrics;
pub use reads::{MAX_PEER_READS, PeerReads, Place};

/// Longest wait for an answer. A slow disk takes seconds; a write that takes longer has hung.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// Reads of blocks for miners that are queued or under way.
pub const MAX_BLOCK_READS: usize = 4;
/// Pause before the node asks again after it found the mailbox full: about the time of a write,
/// after which the mailbox has room.
const ROOM_INTERVAL: Duration = Duration::from_millis(10);

pub enum StorageMessage {
    /// Write a record; answered once it is durable.
    Persist {
        record: Arc<Record>,
        reply: Reply<()>,
    },
    /// Everything that the state machine needs to start.
    Load { reply: Reply<Stored> },
    Block {
        hash: Hash,
        reply: Reply<Option<Arc<Block>>>,
    },
    /// A final block with its additions, for the ledger.
    FinalBlock {
        height: Height,
        reply: Reply<Option<StoredFinal>>,
    },
    /// A block for the JSON-RPC of miners.
    QueryBlock {
        query: BlockQuery,
        reply: Reply<Option<FoundBlock>>,
    },
    /// Write a proof of work under its commitment, and delete others; answered once it is durable.
    PutProof {
        key: Hash,
        proof: Arc<Vec<u8>>,
        displaced: Arc<Vec<Hash>>,
        reply: Reply<()>,
    },
    /// Delete proofs of work.
    DeleteProofs {
        keys: Arc<Vec<Hash>>,
        reply: Reply<()>,
    },
    /// All proofs of work with their commitments.
    LoadProofs { reply: Reply<Vec<(Hash, Vec<u8>)>> },
    /// Blocks for a peer.
    Blocks {
        hashes: Vec<Hash>,
        place: Arc<Place>,
        reply: Reply<Vec<Block>>,
    },
    /// A range of the certified chain, for a peer.
    BlockRange {
        request: RangeRequest,
        place: Arc<Place>,
        reply: Reply<BlockRange>,
    },
    /// A range of headers, for a peer.
    HeaderRange {
        request: RangeRequest,
        place: Arc<Place>,
        reply: Reply<HeaderRange>,
    },
}

impl Message for StorageMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Persist { .. } => "persist",
            Self::Load { .. } => "load",
            Self::Block { .. } => "block",
            Self::FinalBlock { .. } => "final_block",
            Self::QueryBlock { .. } => "query_block",
            Self::PutProof { .. } => "put_proof",
            Self::DeleteProofs { .. } => "delete_proofs",
            Self::LoadProofs { .. } => "load_proofs",
            Self::Blocks { .. } => "blocks",
            Self::BlockRange { .. } => "block_range",
            Self::HeaderRange { .. } => "header_range",
        }
    }

    /// Requests of peers and miners yield to those of the node itself.
    fn priority(&self) -> Priority {
        match self {
            Self::Persist { .. }
            | Self::Load { .. }
            | Self::Block { .. }
            | Self::FinalBlock { .. }
            | Self::PutProof { .. }
            | Self::DeleteProofs { .. }
            | Self::LoadProofs { .. } => Priority::High,
            Self::QueryBlock { .. }
            | Self::Blocks { .. }
            | Self::BlockRange { .. }
            | Self::HeaderRange { .. } => Priority::Normal,
        }
    }
}

/// The block that a miner asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockQuery {
    /// The certified block with the highest slot whose body is stored, or the last final one.
    Head,
    /// The final block at a height.
    Height(Height),
    Hash(Hash),
}

/// A stored block. Genesis is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBlock {
    pub block: Arc<Block>,
    pub hash: Hash,
    pub is_final: bool,
}

/// Access of the node to the storage; [`PeerReads`] is that of peers. Safe to await from any
/// handler, because the StorageActor asks no other actor.
#[derive(Clone)]
pub struct Handle(pub Addr<StorageMessage>);

impl Handle {
    /// Returns when the record is durable.
    pub async fn persist(&self, record: Box<Record>) -> Result<(), AskError> {
        let record = Arc::<Record>::from(record);
        self.ask(|reply| StorageMessage::Persist {
            record: record.clone(),
            reply,
        })
        .await
    }

    pub async fn load(&self) -> Result<Stored, AskError> {
        self.ask(|reply| StorageMessage::Load { reply }).await
    }

    pub async fn block(&self, hash: Hash) -> Result<Option<Arc<Block>>, AskError> {
        self.ask(|reply| StorageMessage::Block { hash, reply })
            .await
    }

    /// The final block at a height; `None` above the last one and for genesis.
    pub async fn final_block(&self, height: Height) -> Result<Option<StoredFinal>, AskError> {
        self.ask(|reply| StorageMessage::FinalBlock { height, reply })
            .await
    }

    pub async fn query_block(&self, query: BlockQuery) -> Result<Option<FoundBlock>, AskError> {
        self.ask(|reply| StorageMessage::QueryBlock { query, reply })
            .await
    }

    /// Returns when the proof is durable.
    pub async fn put_proof(
        &self,
        key: Hash,
        proof: Vec<u8>,
        displaced: Vec<Hash>,
    ) -> Result<(), AskError> {
        let (proof, displaced) = (Arc::new(proof), Arc::new(displaced));
        self.ask(|reply| StorageMessage::PutProof {
            key,
            proof: proof.clone(),
            displaced: displaced.clone(),
            reply,
        })
        .await
    }

    pub async fn delete_proofs(&self, keys: Vec<Hash>) -> Result<(), AskError> {
        let keys = Arc::new(keys);
        self.ask(|reply| StorageMessage::DeleteProofs {
            keys: keys.clone(),
            reply,
        })
        .await
    }

    pub async fn proofs(&self) -> Result<Vec<(Hash, Vec<u8>)>, AskError> {
        self.ask(|reply| StorageMessage::LoadProofs { reply }).await
    }

    /// Waits for room, up to [`ASK_TIMEOUT`], then for the answer. A full mailbox is a busy disk
    /// and no fault of the asker, and its next incarnation would find it full as well. A question
    /// that was accepted is not repeated. The supervisor's time limit for a message ends the wait
    /// of a handler earlier.
    async fn ask<R: Send + 'static>(
        &self,
        make: impl Fn(Reply<R>) -> StorageMessage,
    ) -> Result<R, AskError> {
        let begun = alys_runtime::time::now();
        loop {
            let asked = self.0.ask(&make, ASK_TIMEOUT).await;
            let waited = alys_runtime::time::now().saturating_duration_since(begun);
            if !matches!(asked, Err(AskError::Full { .. })) || waited >= ASK_TIMEOUT {
                return asked;
            }
            alys_runtime::time::sleep(ROOM_INTERVAL).await;
        }
    }
}

pub struct StorageActor {
    blocks: BlockStore,
    metrics: Metrics,
}

impl StorageActor {
    /// Opens the store in `dir`; one of another chain is an error.
    pub fn open(
        dir: &Dir,
        engine: Engine,
        genesis: &Genesis,
        metrics: Metrics,
    ) -> Result<StorageActor, alys_storage::Error> {
        let store = alys_storage::open(engine, dir)?;
        Ok(StorageActor {
            blocks: BlockStore::open(store, genesis.hash())?,
            metrics,
        })
    }

    /// The same store with another limit of answers, see [`crate::node::Limits`].
    pub fn with_range_limit(self, bytes: usize) -> StorageActor {
        StorageActor {
            blocks: self.blocks.with_range_limit(bytes),
            ..self
        }
    }

    /// True if there is a vote state.
    pub fn has_votes(&self) -> Result<bool, alys_storage::Error> {
        Ok(self.blocks.votes::<VoteState>()?.is_some())
    }

    /// Creates the vote state of a key that never voted, unless there is one.
    pub fn create_votes(&self, genesis: &Genesis) -> Result<(), alys_storage::Error> {
        if self.has_votes()? {
            return Ok(());
        }
        let first = BlockRef {
            slot: genesis.header().slot,
            hash: genesis.hash(),
        };
        let mut batch = Batch::new();
        BlockStore::batch_votes(&mut batch, &VoteState::fresh(first));
        self.blocks.write(batch, Durability::Durable)
    }

    fn persist(&self, record: &Record) -> Result<(), alys_storage::Error> {
        let batch = batch_of(record);
        if batch.is_empty() {
            return Ok(());
        }
        self.blocks.write(batch, interceptor::record_durability())
    }

    fn final_block(&self, height: Height) -> Result<Option<StoredFinal>, alys_storage::Error> {
        let Some(FinalBlock { block, additions }) = self.blocks.final_with_additions(height)?
        else {
            return Ok(None);
        };
        let parent = self.blocks.header(&block.header.parent_hash)?;
        Ok(Some(StoredFinal {
            block: Arc::new(block),
            set_hash: parent.map(|header| header.set_hash),
            additions,
        }))
    }

    fn query_block(&self, query: BlockQuery) -> Result<Option<FoundBlock>, alys_storage::Error> {
        let hash = match query {
            BlockQuery::Hash(hash) => Some(hash),
            BlockQuery::Height(height) => self.blocks.final_hash(height)?,
            BlockQuery::Head => {
                let highest = self.blocks.highest()?.map(|(_, hash)| hash);
                match highest {
                    Some(hash) if self.blocks.body(&hash)?.is_some() => Some(hash),
                    _ => self.blocks.finalized()?.map(|last| last.header.hash()),
                }
            }
        };
        let Some(hash) = hash else {
            return Ok(None);
        };
        let Some(block) = self.blocks.block(&hash)? else {
            return Ok(None);
        };
        let is_final = self.blocks.final_hash(block.header.height)? == Some(hash);
        Ok(Some(FoundBlock {
            block: Arc::new(block),
            hash,
            is_final,
        }))
    }

    /// Loads the blocks that fit in one answer, each once.
    fn load_blocks(&self, hashes: &[Hash]) -> Result<Vec<Block>, alys_storage::Error> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for hash in hashes.iter().collect::<BTreeSet<_>>() {
            let Some(block) = self.blocks.block(hash)? else {
                continue;
            };
            bytes += alys_types::codec::encode(&block).len();
            let is_full = bytes > self.blocks.max_range_bytes() - MAX_CERTIFICATE_BYTES
                || buggify!("node.storage.few_blocks");
            if is_full && !found.is_empty() {
                break;
            }
            found.push(block);
        }
        Ok(found)
    }
}

impl AlysActor for StorageActor {
    type Message = StorageMessage;
    type Error = alys_storage::Error;
    type Config = ();
    const NAME: &'static str = "StorageActor";

    async fn handle(&mut self, msg: StorageMessage, _: &Context<Self>) -> Result<(), Self::Error> {
        buggify_pause!("node.storage.slow", 100_000, 150);
        // The engine is synchronous, so its calls run outside of the runtime's task.
        match msg {
            StorageMessage::Persist { record, reply } => {
                let begun = alys_runtime::time::now();
                alys_runtime::blocking(|| self.persist(&record))?;
                disk::settle().await;
                self.metrics
                    .on_write(alys_runtime::time::now().saturating_duration_since(begun));
                reply.send(());
            }
            StorageMessage::Load { reply } => {
                reply.send(alys_runtime::blocking(|| load(&self.blocks))?);
            }
            StorageMessage::Block { hash, reply } => {
                self.metrics.reads.inc();
                reply.send(alys_runtime::blocking(|| self.blocks.block(&hash))?.map(Arc::new));
            }
            StorageMessage::FinalBlock { height, reply } => {
                self.metrics.reads.inc();
                reply.send(alys_runtime::blocking(|| self.final_block(height))?);
            }
            StorageMessage::QueryBlock { query, reply } => {
                self.metrics.reads.inc();
                reply.send(alys_runtime::blocking(|| self.query_block(query))?);
            }
            StorageMessage::PutProof {
                key,
                proof,
                displaced,
                reply,
            } => {
                let mut batch = Batch::new();
                BlockStore::batch_proof(&mut batch, &key, &proof);
                for key in &*displaced {
                    BlockStore::batch_proof_removed(&mut batch, key);
                }
                let durability = interceptor::proof_durability();
                alys_runtime::blocking(|| self.blocks.write(batch, durability))?;
                disk::settle().await;
                reply.send(());
            }
            StorageMessage::DeleteProofs { keys, reply } => {
                let mut batch = Batch::new();
                for key in &*keys {
                    BlockStore::batch_proof_removed(&mut batch, key);
                }
                alys_runtime::blocking(|| self.blocks.write(batch, Durability::Durable))?;
                disk::settle().await;
                reply.send(());
            }
            StorageMessage::LoadProofs { reply } => {
                reply.send(alys_runtime::blocking(|| self.blocks.proofs())?);
            }
            StorageMessage::Blocks { hashes, reply, .. } => {
                self.metrics.reads.inc();
                let blocks = alys_runtime::blocking(|| self.load_blocks(&hashes))?;
                let is_empty = blocks.is_empty();
                reached(if is_empty {
                    "state.storage.blocks_unknown"
                } else {
                    "state.storage.blocks_served"
                });
                reply.send(blocks);
            }
            StorageMessage::BlockRange { request, reply, .. } => {
                self.metrics.reads.inc();
                let range = alys_runtime::blocking(|| self.blocks.block_range(request))?;
                let is_empty = range.blocks.is_empty();
                reached(if is_empty {
                    "state.storage.range_empty"
                } else {
                    "state.storage.range_served"
                });
                reply.send(range);
            }
            StorageMessage::HeaderRange { request, reply, .. } => {
                self.metrics.reads.inc();
                reply.send(alys_runtime::blocking(|| {
                    self.blocks.header_range(request)
                })?);
            }
        }
        Ok(())
    }
}

/// The contents of the store from which the state machine starts.
///
/// # Errors
/// A record cannot be read.
pub fn load(store: &BlockStore) -> Result<Stored, alys_storage::Error> {
    let finalized = match (store.finalized()?, store.federation::<FederationRecord>()?) {
        (Some(certified), Some(federation)) => Some((certified, federation)),
        _ => None,
    };
    let mut blocks = Vec::new();
    if let Some((last, _)) = &finalized {
        let hash = last.header.hash();
        let certificate = store.certificate(&hash)?;
        blocks.push(StoredBlock {
            header: last.header.clone(),
            block: None,
            certificate,
            additions: None,
        });
    }
    for open in store.open_blocks()? {
        let block = open.body.map(|body| {
            Arc::new(Block {
                header: open.header.clone(),
                body,
            })
        });
        blocks.push(StoredBlock {
            header: open.header,
            block,
            certificate: open.certificate,
            additions: open.additions,
        });
    }
    Ok(Stored {
        votes: store.votes()?,
        finalized,
        window: store.final_window(FINALITY_WINDOW as usize)?,
        blocks,
        sets: store.sets()?,
        ledger: store.ledger()?.map(|rows| StoredLedger {
            height: rows.height,
            hash: rows.hash,
            entries: rows.entries,
        }),
    })
}

/// The record as one batch.
pub fn batch_of(record: &Record) -> Batch {
    let mut batch = Batch::new();
    for block in &record.blocks {
        BlockStore::batch_block(&mut batch, block);
    }
    for certified in &record.certified {
        BlockStore::batch_certified(&mut batch, certified);
    }
    for set in &record.sets {
        BlockStore::batch_set(&mut batch, set);
    }
    for (hash, additions) in &record.additions {
        BlockStore::batch_additions(&mut batch, hash, additions);
    }
    if let Some(LedgerRecord {
        height,
        hash,
        changes,
    }) = &record.ledger
    {
        BlockStore::batch_ledger(&mut batch, *height, *hash, changes);
    }
    if let Some(highest) = record.highest {
        BlockStore::batch_highest(&mut batch, highest.slot, highest.hash);
    }
    if let Some(finalized) = &record.finalized {
        BlockStore::batch_finalized(
            &mut batch,
            &finalized.certified,
            &finalized.chain,
            &finalized.dropped,
        );
        if let Some(federation) = &finalized.federation {
            BlockStore::batch_federation(&mut batch, federation);
        }
    }
    if let Some(votes) = &record.votes {
        BlockStore::batch_votes(&mut batch, votes);
    }
    batch
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use alys_actor_system::testkit::Probe;
    use alys_consensus::Finalization;
    use alys_peg::Additions;
    use alys_storage::MemoryStore;
    use alys_types::bls::Signature;
    use alys_types::wire::CertifiedHeader;
    use alys_types::{
        Address, Bitmap, Body, Certificate, ExecutionPayload, Header, Slot, VoteKind, VoteTarget,
    };

    use super::*;

    const GENESIS: Hash = Hash([9; 32]);

    fn block(height: u64, parent: Hash) -> Arc<Block> {
        let body = Body::of(ExecutionPayload {
            parent_hash: Hash::ZERO,
            fee_recipient: Address::default(),
            state_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: Hash::ZERO,
            block_number: height,
            gas_limit: 0,
            gas_used: 0,
            timestamp: 0,
            extra_data: vec![],
            base_fee_per_gas: [0; 32],
            block_hash: Hash::ZERO,
            transactions: vec![],
            withdrawals: vec![],
            blob_gas: None,
        });
        let header = Header {
            version: 1,
            evm_chain_id: 1,
            genesis_hash: GENESIS,
            height: Height(height),
            slot: Slot(height),
            proposer: 0,
            parent_hash: parent,
            parent_certificate: None,
            execution_hash: Hash::ZERO,
            body_hash: body.hash(),
            set_hash: Hash([height as u8; 32]),
            ledger_hash: Hash::ZERO,
        };
        Arc::new(Block { header, body })
    }

    fn finalization(chain: &[&Block], dropped: Vec<Hash>) -> Finalization {
        let last = &chain.last().expect("one").header;
        Finalization {
            certified: CertifiedHeader {
                header: last.clone(),
                certificate: Certificate {
                    target: VoteTarget {
                        kind: VoteKind::Confirmation,
                        height: last.height,
                        slot: last.slot,
                        hash: last.hash(),
                    },
                    signers: Bitmap::empty(4),
                    signature: Signature([1; 96]),
                },
            },
            chain: chain
                .iter()
                .map(|block| (block.header.height, block.header.hash()))
                .collect(),
            federation: None,
            dropped,
        }
    }

    #[test]
    fn the_ledger_and_additions_of_a_record_load_back() {
        let engine = Arc::new(MemoryStore::new());
        let storage = StorageActor {
            blocks: BlockStore::open(engine, GENESIS).expect("open"),
            metrics: Metrics::default(),
        };
        let write = |record: &Record| {
            let written = storage.blocks.write(batch_of(record), Durability::Durable);
            written.expect("written");
        };
        assert!(load(&storage.blocks).expect("loads").ledger.is_none());
        let first = block(1, GENESIS);
        let hash = first.header.hash();
        let (second, loser, third) = (block(2, hash), block(2, Hash([7; 32])), block(3, hash));
        let tips = |wei: u64| Additions {
            tips: U256::from(wei),
        };
        let of = |block: &Block, wei| (block.header.hash(), tips(wei));
        write(&Record {
            blocks: vec![first.clone(), second.clone(), loser.clone(), third.clone()],
            additions: vec![of(&first, 1), of(&loser, 2), of(&third, 3)],
            ..Record::default()
        });
        // One record makes blocks final, moves the ledger and states additions; those of a dropped
        // block do not outlive it.
        let entry = (b"proof".to_vec(), vec![1, 2]);
        write(&Record {
            additions: vec![of(&loser, 4)],
            finalized: Some(finalization(&[&first, &second], vec![loser.header.hash()])),
            ledger: Some(LedgerRecord {
                height: Height(1),
                hash,
                changes: vec![
                    (entry.0.clone(), Some(entry.1.clone())),
                    (b"remainder".to_vec(), None),
                ],
            }),
            ..Record::default()
        });
        let loaded = load(&storage.blocks).expect("loads");
        let StoredLedger {
            height,
            hash: at,
            entries,
        } = loaded.ledger.expect("stored");
        assert_eq!((height, at, entries), (Height(1), hash, vec![entry]));
        let open: Vec<_> = loaded
            .blocks
            .iter()
            .map(|block| (block.header.hash(), block.additions))
            .collect();
        assert_eq!(open, [(third.header.hash(), Some(tips(3)))]);

        // Height, block, set of its height by its parent's header, additions.
        let parent_set = first.header.set_hash;
        for (height, block, set_hash, additions) in [
            (1, &first, None, Some(tips(1))),
            (2, &second, Some(parent_set), None),
        ] {
            let found = storage.final_block(Height(height)).expect("reads");
            let found = found.expect("final");
            assert_eq!(found.block, *block);
            assert_eq!((found.set_hash, found.additions), (set_hash, additions));
        }
        for height in [0, 3] {
            let found = storage.final_block(Height(height)).expect("reads");
            assert!(found.is_none(), "{height}");
        }
        let left = storage.blocks.additions(&loser.header.hash());
        assert_eq!(left.expect("reads"), None);
    }

    #[test]
    fn a_write_waits_while_the_mailbox_is_full_and_is_asked_once() {
        alys_runtime::block_on_main(async {
            let (storage, mut probe) = Probe::new(1);
            let (reply, _) = Reply::channel();
            let queued = storage.tell_as(Priority::High, StorageMessage::Load { reply });
            assert!(queued.is_ok());
            let handle = Handle(storage.clone());
            let serve = async {
                // The write finds no room several times.
                alys_runtime::time::sleep(5 * ROOM_INTERVAL).await;
                assert!(matches!(probe.now(), Some(StorageMessage::Load { .. })));
                let write = probe.next().await;
                let Some(StorageMessage::Persist { reply, .. }) = write else {
                    panic!("another message");
                };
                assert!(reply.send(()));
                assert!(probe.now().is_none());
            };
            let persist = handle.persist(Box::default());
            let (persisted, ()) = alys_runtime::join!(persist, serve);
            assert_eq!(persisted, Ok(()));
        });
    }
}
