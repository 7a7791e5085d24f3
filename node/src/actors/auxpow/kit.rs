//! An AuxPowActor between a stub of the storage and probes of the chain and the network, for tests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use alys_actor_system::testkit::{Probe, TestSystem};
use alys_actor_system::{AlysActor, Context};
use alys_consensus::BlockRef;
use alys_pow::{Bits, Template};
use alys_types::{Address, Block, Genesis, Hash, Height, Slot};

use super::{
    AuxPowActor, AuxPowMessage, Handle, Mailboxes, Metrics, PowFinal, WorkOffer, default_address,
};
use crate::actors::chain::ChainMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::storage::{self, BlockQuery, FoundBlock, StorageMessage};
use crate::actors::testbed::{authority_key, genesis};
use crate::mining::{BlockReads, Miners};

pub(crate) const NAME: &str = "auxpow";
/// Half of all hashes meet it.
pub(crate) const EASY: u32 = 0x207f_ffff;

/// Content of the storage.
#[derive(Default)]
pub(crate) struct Content {
    pub proofs: BTreeMap<Hash, Vec<u8>>,
    /// Final blocks.
    pub blocks: Vec<Block>,
}

#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Content>>);

impl Disk {
    pub fn with<T>(&self, look: impl FnOnce(&mut Content) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, query: BlockQuery) -> Option<FoundBlock> {
        self.with(|content| {
            let is_wanted = |block: &&Block| match query {
                BlockQuery::Head => true,
                BlockQuery::Height(height) => block.header.height == height,
                BlockQuery::Hash(hash) => block.header.hash() == hash,
            };
            let block = content.blocks.iter().rev().find(is_wanted)?;
            Some(FoundBlock {
                hash: block.header.hash(),
                block: Arc::new(block.clone()),
                is_final: true,
            })
        })
    }
}

struct StorageStub(Disk);

impl AlysActor for StorageStub {
    type Message = StorageMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "StorageStub";

    async fn handle(&mut self, msg: StorageMessage, _: &Context<Self>) -> Result<(), Infallible> {
        let _answered = match msg {
            StorageMessage::PutProof {
                key,
                proof,
                displaced,
                reply,
            } => {
                self.0.with(|content| {
                    content.proofs.insert(key, (*proof).clone());
                    for key in &*displaced {
                        content.proofs.remove(key);
                    }
                });
                reply.send(())
            }
            StorageMessage::DeleteProofs { keys, reply } => {
                self.0.with(|content| {
                    for key in &*keys {
                        content.proofs.remove(key);
                    }
                });
                reply.send(())
            }
            StorageMessage::LoadProofs { reply } => {
                let proofs = self.0.with(|content| content.proofs.clone());
                reply.send(proofs.into_iter().collect())
            }
            StorageMessage::QueryBlock { query, reply } => reply.send(self.0.find(query)),
            StorageMessage::Persist { .. }
            | StorageMessage::Load { .. }
            | StorageMessage::Block { .. }
            | StorageMessage::FinalBlock { .. }
            | StorageMessage::Blocks { .. }
            | StorageMessage::BlockRange { .. }
            | StorageMessage::HeaderRange { .. } => false,
        };
        Ok(())
    }
}

/// The actor and its surroundings.
pub(crate) struct Kit {
    pub test: TestSystem,
    pub actor: alys_actor_system::Addr<AuxPowMessage>,
    pub chain: Probe<ChainMessage>,
    pub network: Probe<NetworkMessage>,
    pub miners: Miners,
    pub disk: Disk,
}

impl Kit {
    /// Starts an actor with this storage. Its authority is the first of four.
    pub fn start(disk: &Disk) -> Kit {
        let genesis = genesis(4, 2_000);
        let test = TestSystem::new();
        let stub = disk.clone();
        let storage = test.start("storage", 64, move || {
            let stub = StorageStub(stub.clone());
            async move { Ok::<_, Infallible>(stub) }
        });
        let storage = storage::Handle(storage);
        let (chain, probe) = Probe::new(64);
        let (network, network_probe) = Probe::new(64);
        let mailboxes = Mailboxes {
            storage: storage.clone(),
            chain,
            network,
        };
        let actor = test.start(NAME, 64, {
            let genesis = genesis.clone();
            move || {
                let (genesis, mailboxes) = (genesis.clone(), mailboxes.clone());
                async move { restore(&genesis, mailboxes).await }
            }
        });
        Kit {
            test,
            miners: Miners {
                genesis,
                desk: Handle::new(actor.clone()),
                blocks: BlockReads::new(storage),
            },
            actor,
            chain: probe,
            network: network_probe,
            disk: disk.clone(),
        }
    }

    /// Reports work over blocks `first` to `last`.
    pub fn offer(&self, sequence: u64, first: u64, last: u64, bits: u32) {
        let offer = WorkOffer {
            sequence,
            first: Height(first),
            range: (first..=last).map(block_hash).collect(),
            bits,
            final_sequence: 0,
            final_end: Height(0),
        };
        self.tell(AuxPowMessage::Work(Some(Arc::new(offer))));
    }

    pub fn report_final(&self, sequence: u64, first: u64, end: u64) {
        self.tell(AuxPowMessage::PowFinal(PowFinal {
            sequence,
            first: Height(first),
            end: Height(end),
            end_hash: block_hash(end),
            miner: Address([7; 20]),
            carrier: BlockRef {
                slot: Slot(end),
                hash: Hash([8; 32]),
            },
        }));
    }

    pub fn tell(&self, message: AuxPowMessage) {
        assert!(self.actor.tell(message).is_ok(), "the mailbox has room");
    }

    /// Numbers of the proofs that the chain got so far, oldest first.
    pub fn sent(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(message) = self.chain.now() {
            if let ChainMessage::Proof(proof) = message {
                sent.push(proof.sequence);
            }
        }
        sent
    }
}

async fn restore(
    genesis: &Genesis,
    mailboxes: Mailboxes,
) -> Result<AuxPowActor, super::AuxPowError> {
    let key = authority_key(0).public_key().to_bytes();
    let fee_address = default_address(None, genesis, Some(&key));
    AuxPowActor::restore(genesis, fee_address, mailboxes, Metrics::default()).await
}

/// Hash of the block at a height of the tests' chain.
pub(crate) fn block_hash(height: u64) -> Hash {
    alys_types::hash::tagged("test", &[&height.to_be_bytes()])
}

/// Bytes of a proof of the work with this commitment, in internal order.
pub(crate) fn mined(commitment: Hash) -> Vec<u8> {
    let easy = Bits::new(EASY).expect("canonical").target();
    let mut template = Template::new(commitment, 1_700_000_000, 0);
    let (proof, _) = template.grind(easy, 1_000);
    proof.expect("half of all hashes meet it").encode()
}
