//! A federation whose keys the fuzzer has: its blocks, votes and certificates, right and wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_consensus::Config;
use alys_peg::{Additions, Ledger};
use alys_types::bls::SecretKey;
use alys_types::hash::tagged;
use alys_types::spec::{ChainSpec, GovernanceSpec, HEADER_VERSION, prev_randao, vault_address};
use alys_types::wire::{CertifiedHeader, Confirmation, Proposal};
use alys_types::{
    Address, Authority, Block, Body, Certificate, ExecutionPayload, FederationChange, Genesis,
    Hash, Header, Height, Order, OrderContent, SetChange, Slot, Vote, VoteKind, VoteTarget,
};

use crate::choices::Choices;

pub const SLOT_MS: u64 = 2_000;
/// Four of them tolerate one Byzantine authority, and three are a quorum.
pub const AUTHORITIES: u8 = 4;
/// Blocks that are remembered as parents and targets of votes; more would only thin out the votes.
const MAX_BLOCKS: usize = 32;

/// Genesis, keys, and the blocks made so far.
#[derive(Debug)]
pub struct Federation {
    genesis: Arc<Genesis>,
    keys: Vec<SecretKey>,
    governance: SecretKey,
    blocks: Vec<Block>,
    /// Approvals by a quorum, by block hash.
    certified: BTreeMap<Hash, Certificate>,
    /// The ledgers after the blocks made so far, whose transactions have no tips.
    ledgers: BTreeMap<Hash, Ledger>,
}

/// The key of the authority with this index.
pub fn key(index: u8) -> SecretKey {
    SecretKey::derive_stand_in(&[index.saturating_add(1); 32])
}

impl Federation {
    /// A chain that starts in `slot`.
    pub fn new(slot: Slot) -> Federation {
        let keys: Vec<SecretKey> = (0..AUTHORITIES).map(key).collect();
        let governance = key(200);
        let authorities = keys.iter().map(|key| Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: Address([7; 20]),
        });
        let authorities = authorities.collect();
        let spec = ChainSpec {
            drift_allowance_ms: 500,
            rejoin_margin: 5,
            governance: GovernanceSpec {
                threshold: 1,
                keys: vec![governance.public_key().to_bytes()],
            },
            ..ChainSpec::development(1337, slot, SLOT_MS, Hash([9; 32]), authorities)
        };
        let genesis = Genesis::new(spec).expect("keys and ranges of this file are right");
        Federation {
            genesis: Arc::new(genesis),
            keys,
            governance,
            blocks: Vec::new(),
            certified: BTreeMap::new(),
            ledgers: BTreeMap::new(),
        }
    }

    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// The configuration of the authority with this index, or of a full node.
    pub fn config(&self, me: Option<u8>) -> Config {
        let me = me.map(|index| key(index).public_key().to_bytes());
        Config::new(self.genesis.clone(), me)
    }

    /// The blocks made so far, the oldest first.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Remembers a block, of this federation or of the node.
    pub fn remember(&mut self, block: Block) {
        if self.blocks.len() == MAX_BLOCKS {
            let forgotten = self.blocks.remove(0);
            let hash = forgotten.header.hash();
            self.certified.remove(&hash);
            self.ledgers.remove(&hash);
        }
        let Block { header, body } = &block;
        let (before, none) = (self.ledger_after(&header.parent_hash), Additions::default());
        let (genesis, proof) = (&self.genesis, body.auxpow.as_ref());
        if let Ok((after, _)) = before.apply(genesis, genesis.set(), header, proof, &none) {
            self.ledgers.insert(header.hash(), after);
        }
        self.blocks.push(block);
    }

    /// The ledger after a block; that after genesis if the block is not remembered.
    fn ledger_after(&self, hash: &Hash) -> Ledger {
        let known = self.ledgers.get(hash).cloned();
        known.unwrap_or_else(Ledger::empty)
    }

    /// The header with this hash, if it is remembered or genesis.
    pub fn header(&self, hash: &Hash) -> Option<&Header> {
        let headers = self.blocks.iter().map(|block| &block.header);
        let mut all = headers.chain([self.genesis.header()]);
        all.find(|header| header.hash() == *hash)
    }

    /// One of the blocks; `None` while there is none.
    pub fn block(&self, choices: &mut Choices<'_>) -> Option<&Block> {
        // The newest first, because the first is what used-up bytes choose.
        let from_end = choices.below(self.blocks.len());
        self.blocks.iter().rev().nth(from_end)
    }

    /// A new block of `slot`, valid unless the choices want a wrong one.
    pub fn make(&mut self, choices: &mut Choices<'_>, slot: Slot) -> Block {
        let certified: Vec<(Header, Option<Certificate>)> = self
            .blocks
            .iter()
            .rev()
            .filter_map(|block| {
                let certificate = self.certified.get(&block.header.hash())?;
                Some((block.header.clone(), Some(*certificate)))
            })
            .chain([(self.genesis.header().clone(), None)])
            .collect();
        let (parent, certificate) = choices
            .pick(&certified)
            .cloned()
            .unwrap_or_else(|| (self.genesis.header().clone(), None));
        let parent_hash = parent.hash();
        let body = Body::of(payload(&parent, slot, choices.byte()));
        let header = Header {
            version: HEADER_VERSION,
            evm_chain_id: self.genesis.spec().evm_chain_id,
            genesis_hash: self.genesis.hash(),
            height: parent.height.next(),
            slot,
            proposer: self.genesis.set().leader(slot),
            parent_hash,
            parent_certificate: certificate,
            execution_hash: body.payload.block_hash,
            body_hash: body.hash(),
            set_hash: parent.set_hash,
            ledger_hash: self.ledger_after(&parent_hash).root(),
        };
        let mut block = Block { header, body };
        if choices.byte() >= 0xc0 {
            self.spoil(choices, &mut block);
        }
        self.remember(block.clone());
        block
    }

    /// Makes a block wrong in one respect.
    fn spoil(&self, choices: &mut Choices<'_>, block: &mut Block) {
        let header = &mut block.header;
        match choices.below(12) {
            0 => header.version = choices.byte().into(),
            1 => header.evm_chain_id = choices.number(),
            2 => header.genesis_hash = Hash(choices.array()),
            3 => header.height = Height(choices.near(header.height.0)),
            4 => header.slot = Slot(choices.near(header.slot.0)),
            5 => header.proposer = choices.byte(),
            6 => header.parent_hash = Hash(choices.array()),
            7 => header.parent_certificate = None,
            8 => header.set_hash = Hash(choices.array()),
            9 => header.execution_hash = Hash(choices.array()),
            10 => {
                let payload = &mut block.body.payload;
                payload.timestamp = choices.near(payload.timestamp);
                payload.gas_limit = choices.near(payload.gas_limit);
                payload.transactions = vec![choices.bytes(64)];
                header.body_hash = block.body.hash();
            }
            _ => {
                block.body.orders = vec![self.order(choices)];
                header.body_hash = block.body.hash();
            }
        }
    }

    /// A change of the federation, signed by governance.
    pub fn order(&self, choices: &mut Choices<'_>) -> Order {
        let changed = self.keys.get(choices.below(self.keys.len()));
        let key = changed.unwrap_or(&self.governance);
        let change = if choices.flag() {
            FederationChange::Remove(key.public_key().to_bytes())
        } else {
            FederationChange::Add(Authority {
                public_key: key.public_key().to_bytes(),
                proof_of_possession: key.prove_possession(),
                fee_address: Address(choices.array()),
            })
        };
        let number = choices.near(1);
        let content = OrderContent::Federation(SetChange {
            change,
            effective_height: Height(choices.near(16)),
        });
        let mut order = Order {
            number,
            content,
            signatures: Vec::new(),
        };
        let message = order.message(&self.genesis.hash());
        let signature = self.governance.sign(&message.0);
        order.signatures.push((choices.byte() & 1, signature));
        order
    }

    pub fn proposal(&self, block: Block) -> Proposal {
        let signer = block.header.proposer;
        let vote = self.vote(VoteKind::Proposal, &block.header, signer);
        Proposal { block, vote }
    }

    /// A vote with the signature of an authority. An index outside of the set signs with the key of
    /// governance.
    pub fn vote(&self, kind: VoteKind, header: &Header, signer: u8) -> Vote {
        let target = target(kind, header);
        let key = self.keys.get(usize::from(signer));
        let key = key.unwrap_or(&self.governance);
        let signature = key.sign(&target.message(&self.genesis.chain_id()).0);
        Vote {
            target,
            signer,
            signature,
        }
    }

    /// The votes of the authorities whose bits are set; those of all but the first, a quorum, when
    /// none is.
    pub fn certificate(&mut self, kind: VoteKind, header: &Header, signers: u8) -> CertifiedHeader {
        let voting: Vec<u8> = (0..AUTHORITIES)
            .filter(|index| (signers >> index) & 1 == 1)
            .collect();
        let voting = if voting.is_empty() {
            (1..AUTHORITIES).collect()
        } else {
            voting
        };
        let votes: Vec<_> = voting
            .iter()
            .map(|signer| (*signer, self.vote(kind, header, *signer).signature))
            .collect();
        let set = self.genesis.set();
        let certificate = Certificate::aggregate(target(kind, header), &votes, set)
            .expect("at least one authority of the set has signed");
        if kind == VoteKind::Approval && votes.len() >= set.quorum() {
            self.certified.insert(header.hash(), certificate);
        }
        CertifiedHeader {
            header: header.clone(),
            certificate,
        }
    }

    pub fn confirmation(&mut self, header: &Header, signer: u8, signers: u8) -> Confirmation {
        let certified = self.certificate(VoteKind::Approval, header, signers);
        Confirmation {
            vote: self.vote(VoteKind::Confirmation, header, signer),
            certified,
        }
    }
}

/// The payload that an execution client builds on `parent`; `salt` makes several of them.
pub fn payload(parent: &Header, slot: Slot, salt: u8) -> ExecutionPayload {
    let parent_hash = parent.hash();
    let block_hash = tagged(
        "fuzz/payload",
        &[&parent_hash.0, &slot.0.to_le_bytes(), &[salt]],
    );
    ExecutionPayload {
        parent_hash: parent.execution_hash,
        fee_recipient: vault_address(),
        state_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        logs_bloom: [0; 256],
        prev_randao: prev_randao(&parent_hash, slot),
        block_number: parent.height.next().0,
        gas_limit: 30_000_000,
        gas_used: 0,
        timestamp: slot.timestamp(SLOT_MS),
        extra_data: vec![salt],
        base_fee_per_gas: [0; 32],
        block_hash,
        transactions: Vec::new(),
        withdrawals: Vec::new(),
        blob_gas: None,
    }
}

fn target(kind: VoteKind, header: &Header) -> VoteTarget {
    VoteTarget {
        kind,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    }
}
