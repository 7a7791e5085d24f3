//! Chains of blocks for the tests of the block store.

use std::sync::Arc;

use alys_storage::{Batch, BlockStore, Durability, MemoryStore};
use alys_types::bls::Signature;
use alys_types::wire::CertifiedHeader;
use alys_types::{
    Address, Bitmap, Block, Body, Certificate, ExecutionPayload, Hash, Header, Height, Slot,
    VoteKind, VoteTarget,
};

pub const GENESIS: Hash = Hash([9; 32]);

pub fn body(fill: u8, bytes: usize) -> Body {
    Body::of(ExecutionPayload {
        parent_hash: Hash([fill; 32]),
        fee_recipient: Address([1; 20]),
        state_root: Hash([2; 32]),
        receipts_root: Hash([3; 32]),
        logs_bloom: [0; 256],
        prev_randao: Hash([4; 32]),
        block_number: 5,
        gas_limit: 30_000_000,
        gas_used: 0,
        timestamp: 6,
        extra_data: vec![],
        base_fee_per_gas: [0; 32],
        block_hash: Hash([7; 32]),
        transactions: vec![vec![fill; bytes]],
        withdrawals: vec![],
        blob_gas: None,
    })
}

pub fn block_with(parent: Option<&Block>, slot: u64, body: Body) -> Block {
    let header = Header {
        version: 1,
        evm_chain_id: 212121,
        genesis_hash: GENESIS,
        height: Height(parent.map_or(1, |parent| parent.header.height.0 + 1)),
        slot: Slot(slot),
        proposer: 0,
        parent_hash: parent.map_or(GENESIS, |parent| parent.header.hash()),
        parent_certificate: parent.map(|parent| certificate(&parent.header, VoteKind::Approval)),
        execution_hash: body.payload.block_hash,
        body_hash: body.hash(),
        set_hash: Hash([5; 32]),
        ledger_hash: Hash([6; 32]),
    };
    Block { header, body }
}

pub fn block(parent: Option<&Block>, slot: u64, bytes: usize) -> Block {
    block_with(parent, slot, body(slot as u8, bytes))
}

pub fn certificate(header: &Header, kind: VoteKind) -> Certificate {
    let target = VoteTarget {
        kind,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    };
    let mut signers = Bitmap::empty(4);
    (0..3).for_each(|signer| signers.set(signer));
    Certificate {
        target,
        signers,
        signature: Signature([kind as u8; 96]),
    }
}

pub fn certified(block: &Block, kind: VoteKind) -> CertifiedHeader {
    CertifiedHeader {
        header: block.header.clone(),
        certificate: certificate(&block.header, kind),
    }
}

/// A chain of `length` blocks in consecutive slots from slot 1 on.
pub fn chain(length: u64, bytes: usize) -> Vec<Block> {
    let mut chain: Vec<Block> = Vec::new();
    for slot in 1..=length {
        chain.push(block(chain.last(), slot, bytes));
    }
    chain
}

pub fn in_memory() -> BlockStore {
    BlockStore::open(Arc::new(MemoryStore::new()), GENESIS).expect("open")
}

/// A store with `blocks` certified and the first `finals` of them finalized in one batch.
pub fn stored(blocks: &[Block], finals: usize) -> BlockStore {
    let store = in_memory();
    let mut batch = Batch::new();
    for block in blocks {
        BlockStore::batch_block(&mut batch, block);
        BlockStore::batch_certified(&mut batch, &certified(block, VoteKind::Approval));
    }
    if let Some(last) = blocks.last() {
        BlockStore::batch_highest(&mut batch, last.header.slot, last.header.hash());
    }
    finalize(&mut batch, blocks, 0, finals, &[]);
    store.write(batch, Durability::Durable).expect("write");
    store
}

pub fn finalize(batch: &mut Batch, blocks: &[Block], from: usize, to: usize, dropped: &[Hash]) {
    if from < to {
        let newly: Vec<_> = blocks[from..to]
            .iter()
            .map(|b| (b.header.height, b.header.hash()))
            .collect();
        BlockStore::batch_finalized(
            batch,
            &certified(&blocks[to - 1], VoteKind::Confirmation),
            &newly,
            dropped,
        );
    }
}
