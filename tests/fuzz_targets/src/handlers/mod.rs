//! Actors and servers, each with messages in sequence and stand-ins for its neighbours. An actor
//! that panics or ends is a finding: no message of a peer, of a user or of the execution client may
//! restart it.

pub mod chain;
pub mod engine;
pub mod execution_rpc;
pub mod http;
pub mod network;
pub mod peers;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::testkit::TestSystem;
use alys_actor_system::{AlysActor, Context};
use alys_net::{NodeKey, PeerId};
use alys_node::actors::storage::StorageMessage;
use alys_runtime::time::sleep;
use alys_types::wire::{BlockRange, HeaderRange};
use alys_types::{Block, Hash};

/// Steps of one input: several blocks with their votes, or a dozen requests with their answers.
const MAX_STEPS: usize = 48;

/// A free port of this machine.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One of a few peers.
fn peer(index: u8) -> PeerId {
    NodeKey::from_bytes([index % 4 + 1; 32]).peer_id()
}

/// Lets every actor handle what it has; no timer of theirs is as short.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Ends the actors.
///
/// # Panics
/// An actor of `names` was restarted, or lost a message.
async fn end(test: TestSystem, names: &[&str]) {
    for name in names {
        assert_eq!(test.restarts(name), 0, "{name} failed");
    }
    test.end().await;
}

/// A storage with these blocks, which writes nothing.
struct StoredBlocks(BTreeMap<Hash, Arc<Block>>);

impl AlysActor for StoredBlocks {
    type Message = StorageMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "StoredBlocks";

    async fn handle(&mut self, msg: StorageMessage, _: &Context<Self>) -> Result<(), Infallible> {
        let _is_awaited = match msg {
            StorageMessage::Block { hash, reply } => reply.send(self.0.get(&hash).cloned()),
            StorageMessage::FinalBlock { reply, .. } => reply.send(None),
            StorageMessage::QueryBlock { reply, .. } => reply.send(None),
            StorageMessage::PutProof { reply, .. } | StorageMessage::DeleteProofs { reply, .. } => {
                reply.send(())
            }
            StorageMessage::LoadProofs { reply } => reply.send(Vec::new()),
            StorageMessage::Blocks { hashes, reply, .. } => {
                let found = hashes.iter().filter_map(|hash| self.0.get(hash));
                reply.send(found.map(|block| (**block).clone()).collect())
            }
            StorageMessage::BlockRange { reply, .. } => reply.send(BlockRange {
                blocks: Vec::new(),
                tip: None,
                finalized: None,
            }),
            StorageMessage::HeaderRange { reply, .. } => reply.send(HeaderRange {
                headers: Vec::new(),
                tip: None,
                changes: Vec::new(),
                finalized: None,
            }),
            StorageMessage::Persist { reply, .. } => reply.send(()),
            StorageMessage::Load { reply } => reply.send(alys_consensus::Stored::default()),
        };
        Ok(())
    }
}
