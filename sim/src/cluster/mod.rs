//! The machines of a world: what runs on them, life after life.
//!
//! **Owns** addresses, keys and the processes of authorities. **Promises** that no two machines
//! have one address. **Never** breaks anything: faults do that from outside.

pub mod addresses;
mod execution;
pub mod genesis;
mod validator;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_consensus::PlantedBug;
use alys_integrations::embedded::ExecutionFaultInjector;
use alys_node::interceptor::Intercept;
use alys_node::node::NodeEvent;
use alys_runtime::sim::{NodeId, World, here};
use alys_runtime::sync::mpsc::UnboundedSender;

pub use addresses::{Net, PEER_PORT, RPC_PORT, Seat, client_ip, node_ip, peer_id};
pub use execution::bends;
pub use validator::Living;

use crate::invariants::{Clients, Judge};
use genesis::Chain;

/// Hears what the node of an authority says, inside of the node and at the moment at which it says
/// it.
pub type Observer = Arc<dyn Fn(u8, &NodeEvent) + Send + Sync>;

/// How often a node is asked where it stands.
const LOOK: Duration = Duration::from_millis(500);
/// How long a node or a client may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// The machines of an authority.
#[derive(Debug, Clone, Copy)]
pub struct Authority {
    /// From 0.
    pub index: u8,
    /// The node's machine.
    pub node: NodeId,
    /// The execution client's machine.
    pub client: NodeId,
}

/// A process ended by itself.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Its machine.
    pub machine: NodeId,
    /// `None`: it was asked to, and ended in order.
    pub reason: Option<String>,
}

/// What all machines share. None of it is seen by the code that runs on them.
#[derive(Clone)]
pub struct Shared {
    /// The chain.
    pub chain: Chain,
    /// Authorities.
    pub nodes: u8,
    /// Who judges.
    pub judge: Judge,
    /// Told of every event of a node, after the judge.
    pub reactions: Observer,
    /// The nodes that run.
    pub living: Living,
    /// What stands between nodes and their network, by authority.
    pub interceptors: BTreeMap<u8, Arc<dyn Intercept>>,
    /// The execution clients that run.
    pub clients: Clients,
    /// What is wrong with the execution clients, by authority.
    pub bends: Vec<ExecutionFaultInjector>,
    /// Told of processes that end by themselves.
    pub exits: UnboundedSender<Exit>,
    /// The mistake that the nodes' rules of agreement have.
    pub planted_bug: PlantedBug,
}

/// The present, in milliseconds of simulated time.
pub fn now_ms(world: World) -> u64 {
    world.now().as_millis() as u64
}

/// Adds an authority's two machines and starts them.
pub fn add(world: World, shared: &Shared, seat: Seat) -> Authority {
    let for_client = Arc::new(shared.clone());
    let client = world.node(&seat.name("client"), seat.client_ip(), move || {
        let shared = for_client.clone();
        async move { ended(&shared, execution::life(&shared, seat).await) }
    });
    let for_node = Arc::new(shared.clone());
    let node = world.node(&seat.name("node"), seat.node_ip(), move || {
        let shared = for_node.clone();
        async move { ended(&shared, validator::life(&shared, seat).await) }
    });
    Authority {
        index: seat.index,
        node,
        client,
    }
}

/// A process has come to its end; one that was killed meanwhile has nothing to tell.
fn ended(shared: &Shared, result: Result<(), String>) {
    if World::current().is_here_alive() {
        // Without a receiver the run is over.
        let _ = shared.exits.send(Exit {
            machine: here().node,
            reason: result.err(),
        });
    }
}
