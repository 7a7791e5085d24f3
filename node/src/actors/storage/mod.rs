//! StorageActor: the one owner of the block store.
//!
//! Owns the engine's handle. Promises that a record is durable when it answers, whole or not at all. Never decides
//! what is certified or final, never asks another actor. A write that fails ends the incarnation: what is on the disk
//! is known only after reopening.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, AlysActor, AskError, Context, Message, Priority, Reply};
use alys_consensus::federation::FINALITY_WINDOW;
use alys_consensus::{BlockRef, FederationRecord, Record, Stored, StoredBlock, VoteState};
use alys_runtime::disk::{self, Dir};
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_storage::{Batch, BlockStore, Durability, Engine};
use alys_types::limits::{MAX_CERTIFICATE_BYTES, MAX_RANGE_BYTES};
use alys_types::mutant::{self, Mutant};
use alys_types::wire::{BlockRange, HeaderRange, RangeRequest};
use alys_types::{Block, Genesis, Hash};

/// Longest wait for an answer of the storage: a slow disk, not a dead one.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the storage is asked.
pub enum StorageMessage {
    /// Write durably; answered when it is.
    Persist {
        record: Box<Record>,
        reply: Reply<()>,
    },
    /// Everything that the state machine starts from.
    Load { reply: Reply<Stored> },
    /// One block, header and body.
    Block {
        hash: Hash,
        reply: Reply<Option<Arc<Block>>>,
    },
    /// Some blocks, for a peer.
    Blocks {
        hashes: Vec<Hash>,
        reply: Reply<Vec<Block>>,
    },
    /// A range of the certified chain, for a peer.
    BlockRange {
        request: RangeRequest,
        reply: Reply<BlockRange>,
    },
    /// A range of headers, for a peer.
    HeaderRange {
        request: RangeRequest,
        reply: Reply<HeaderRange>,
    },
}

impl Message for StorageMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Persist { .. } => "persist",
            Self::Load { .. } => "load",
            Self::Block { .. } => "block",
            Self::Blocks { .. } => "blocks",
            Self::BlockRange { .. } => "block_range",
            Self::HeaderRange { .. } => "header_range",
        }
    }

    /// What strangers ask for waits for what the node itself needs.
    fn priority(&self) -> Priority {
        match self {
            Self::Persist { .. } | Self::Load { .. } | Self::Block { .. } => Priority::High,
            Self::Blocks { .. } | Self::BlockRange { .. } | Self::HeaderRange { .. } => {
                Priority::Normal
            }
        }
    }
}

/// How others reach the storage. Asking it is safe from anywhere: it asks nobody.
#[derive(Clone)]
pub struct Handle(pub Addr<StorageMessage>);

impl Handle {
    /// Returns when the record is durable.
    pub async fn persist(&self, record: Box<Record>) -> Result<(), AskError> {
        self.0
            .ask(|reply| StorageMessage::Persist { record, reply }, DEADLINE)
            .await
    }

    /// See [`StorageMessage::Load`].
    pub async fn load(&self) -> Result<Stored, AskError> {
        self.0
            .ask(|reply| StorageMessage::Load { reply }, DEADLINE)
            .await
    }

    /// See [`StorageMessage::Block`].
    pub async fn block(&self, hash: Hash) -> Result<Option<Arc<Block>>, AskError> {
        self.0
            .ask(|reply| StorageMessage::Block { hash, reply }, DEADLINE)
            .await
    }

    /// See [`StorageMessage::Blocks`].
    pub async fn blocks(&self, hashes: Vec<Hash>) -> Result<Vec<Block>, AskError> {
        self.0
            .ask(|reply| StorageMessage::Blocks { hashes, reply }, DEADLINE)
            .await
    }

    /// See [`StorageMessage::BlockRange`].
    pub async fn block_range(&self, request: RangeRequest) -> Result<BlockRange, AskError> {
        self.0
            .ask(
                |reply| StorageMessage::BlockRange { request, reply },
                DEADLINE,
            )
            .await
    }

    /// See [`StorageMessage::HeaderRange`].
    pub async fn header_range(&self, request: RangeRequest) -> Result<HeaderRange, AskError> {
        self.0
            .ask(
                |reply| StorageMessage::HeaderRange { request, reply },
                DEADLINE,
            )
            .await
    }
}

/// The actor.
pub struct StorageActor {
    blocks: BlockStore,
}

impl StorageActor {
    /// Opens the store of this chain.
    pub fn open(
        dir: &Dir,
        engine: Engine,
        genesis: &Genesis,
    ) -> Result<StorageActor, alys_storage::Error> {
        let store = alys_storage::open(engine, dir)?;
        Ok(StorageActor {
            blocks: BlockStore::open(store, genesis.hash())?,
        })
    }

    /// Makes the vote state of a key that never voted; keeps one that is there.
    pub fn create_votes(&self, genesis: &Genesis) -> Result<(), alys_storage::Error> {
        if self.blocks.votes::<VoteState>()?.is_some() {
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
        let durability = match mutant::active(Mutant::WriteDeferred) {
            true => Durability::Deferred,
            false => Durability::Durable,
        };
        if batch.is_empty() {
            Ok(())
        } else {
            self.blocks.write(batch, durability)
        }
    }

    /// As many of these as fit in an answer, each once.
    fn some_blocks(&self, hashes: &[Hash]) -> Result<Vec<Block>, alys_storage::Error> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for hash in hashes.iter().collect::<BTreeSet<_>>() {
            let Some(block) = self.blocks.block(hash)? else {
                continue;
            };
            bytes += alys_types::codec::encode(&block).len();
            let is_full = bytes > MAX_RANGE_BYTES - MAX_CERTIFICATE_BYTES
                || buggify!("node.storage.few_blocks");
            if is_full && !found.is_empty() {
                break;
            }
            found.push(block);
        }
        Ok(found)
    }

    fn load(&self) -> Result<Stored, alys_storage::Error> {
        let finalized = match (
            self.blocks.finalized()?,
            self.blocks.federation::<FederationRecord>()?,
        ) {
            (Some(certified), Some(federation)) => Some((certified, federation)),
            _ => None,
        };
        let mut blocks = Vec::new();
        if let Some((last, _)) = &finalized {
            let hash = last.header.hash();
            let certificate = self.blocks.certificate(&hash)?;
            blocks.push(StoredBlock {
                header: last.header.clone(),
                block: None,
                certificate,
            });
        }
        for open in self.blocks.open_blocks()? {
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
            });
        }
        Ok(Stored {
            votes: self.blocks.votes()?,
            finalized,
            window: self.blocks.final_window(FINALITY_WINDOW as usize)?,
            blocks,
            sets: self.blocks.sets()?,
        })
    }
}

impl AlysActor for StorageActor {
    type Message = StorageMessage;
    type Error = alys_storage::Error;
    type Config = ();
    const NAME: &'static str = "StorageActor";

    async fn handle(&mut self, msg: StorageMessage, _: &Context<Self>) -> Result<(), Self::Error> {
        buggify_pause!("node.storage.slow", 100_000, 150);
        // The engine is synchronous; elsewhere the runtime goes on meanwhile.
        match msg {
            StorageMessage::Persist { record, reply } => {
                alys_runtime::blocking(|| self.persist(&record))?;
                disk::settle().await;
                reply.send(());
            }
            StorageMessage::Load { reply } => {
                reply.send(alys_runtime::blocking(|| self.load())?);
            }
            StorageMessage::Block { hash, reply } => {
                reply.send(alys_runtime::blocking(|| self.blocks.block(&hash))?.map(Arc::new));
            }
            StorageMessage::Blocks { hashes, reply } => {
                let blocks = alys_runtime::blocking(|| self.some_blocks(&hashes))?;
                let is_empty = blocks.is_empty();
                reached(if is_empty {
                    "state.storage.blocks_unknown"
                } else {
                    "state.storage.blocks_served"
                });
                reply.send(blocks);
            }
            StorageMessage::BlockRange { request, reply } => {
                let range = alys_runtime::blocking(|| self.blocks.block_range(request))?;
                let is_empty = range.blocks.is_empty();
                reached(if is_empty {
                    "state.storage.range_empty"
                } else {
                    "state.storage.range_served"
                });
                reply.send(range);
            }
            StorageMessage::HeaderRange { request, reply } => {
                reply.send(alys_runtime::blocking(|| {
                    self.blocks.header_range(request)
                })?);
            }
        }
        Ok(())
    }
}

/// A record as one batch. Pure.
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
