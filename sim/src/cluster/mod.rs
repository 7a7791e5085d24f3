//! The machines of a world and the processes that run on them.
//!
//! **Owns** addresses, keys and the processes of authorities. **Guarantees** that no two machines
//! share an address. **Never** injects faults; [`crate::faults`] does.

pub mod addresses;
mod execution;
pub mod genesis;
mod governance;
mod validator;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_consensus::PlantedBug;
use alys_integrations::embedded::{ExecutionFaultInjector, PublicLimits};
use alys_node::interceptor::Intercept;
use alys_node::node::{Limits, NodeEvent};
use alys_node::wiring::table::MailboxSizes;
use alys_runtime::sim::{Image, NodeId, World, here};
use alys_runtime::sync::mpsc::{Sender, UnboundedSender};

pub use addresses::{MINING_PORT, Net, PEER_PORT, RPC_PORT, Seat, machine_ip, node_ip, peer_id};
pub use execution::execution_faults;
pub use governance::Governance;
pub use validator::{Living, Markers};

use crate::invariants::{ExecutionClients, Judge};
use crate::params::{KnownAddresses, MachineRole};
use genesis::Chain;

/// Receives each event of an authority's node, inside of the node and at the moment of the event.
pub type Observer = Arc<dyn Fn(u8, &NodeEvent) + Send + Sync>;

/// Interval between two status checks of a machine's process.
const LOOK: Duration = Duration::from_millis(500);
/// Timeout of the stop of a machine's process.
const STOP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub struct Authority {
    /// The number of the authority, from 0.
    pub index: u8,
    pub node: NodeId,
    /// The machine of its execution client.
    pub execution: NodeId,
}

impl Authority {
    /// Its machine of this role.
    pub const fn machine(&self, role: MachineRole) -> NodeId {
        match role {
            MachineRole::Node => self.node,
            MachineRole::Execution => self.execution,
        }
    }

    /// All its machines.
    pub fn machines(&self) -> [NodeId; MachineRole::ALL.len()] {
        MachineRole::ALL.map(|role| self.machine(role))
    }
}

/// The end of a process by itself.
#[derive(Debug, Clone)]
pub struct Exit {
    /// The machine of the process.
    pub machine: NodeId,
    /// `None` after a requested stop.
    pub reason: Option<String>,
}

/// State that all machines share. The code that runs on them does not see it.
#[derive(Clone)]
pub struct Shared {
    pub chain: Chain,
    /// Number of nodes with an authority's key.
    pub nodes: u8,
    /// The invariants.
    pub judge: Judge,
    /// Receives every event of a node after the judge.
    pub reactions: Observer,
    /// The running nodes.
    pub living: Living,
    /// The interceptors between nodes and their network, by authority.
    pub interceptors: BTreeMap<u8, Arc<dyn Intercept>>,
    /// The running execution clients.
    pub execution_clients: ExecutionClients,
    /// The fault injectors of the execution clients, by authority.
    pub execution_faults: Vec<ExecutionFaultInjector>,
    /// Receives processes that ended by themselves.
    pub exits: UnboundedSender<Exit>,
    /// Receives copies of the disks of restarting nodes, from 0.
    pub copies: Sender<(u8, Image)>,
    /// Capacities of the nodes' mailboxes in place of production's.
    pub mailboxes: MailboxSizes,
    /// The limits of the nodes.
    pub limits: Limits,
    /// The limits of the execution clients' public ports.
    pub public_limits: PublicLimits,
    /// The planted bug in the nodes' consensus rules.
    pub planted_bug: PlantedBug,
    /// The nodes whose addresses each node knows.
    pub addresses: KnownAddresses,
    /// Addresses that every node dials beside those of the nodes.
    pub other_addresses: Vec<SocketAddr>,
    /// Places for strangers at each node in place of production's.
    pub stranger_places: Option<usize>,
    /// Events that a network service queues in place of production's.
    pub queued_events: Option<usize>,
    /// The authorities that run two nodes with one key.
    pub twins: BTreeSet<u8>,
    /// The nodes that got the marker of a fresh key.
    pub markers: Markers,
}

/// The simulated time in milliseconds.
pub fn now_ms(world: World) -> u64 {
    world.now().as_millis() as u64
}

/// Adds an authority's machines and starts them.
pub fn add(world: World, shared: &Shared, seat: Seat) -> Authority {
    let for_execution = Arc::new(shared.clone());
    let role = MachineRole::Execution;
    let execution = world.node(&seat.name(role), seat.ip(role), move || {
        let shared = for_execution.clone();
        async move { ended(&shared, execution::life(&shared, seat).await) }
    });
    let for_node = Arc::new(shared.clone());
    let role = MachineRole::Node;
    let node = world.node(&seat.name(role), seat.ip(role), move || {
        let shared = for_node.clone();
        async move { ended(&shared, validator::life(&shared, seat).await) }
    });
    Authority {
        index: seat.index,
        node,
        execution,
    }
}

/// Reports the end of a process, unless the process was killed meanwhile.
fn ended(shared: &Shared, result: Result<(), String>) {
    if World::current().is_here_alive() {
        // A closed channel means that the run is over.
        let _ = shared.exits.send(Exit {
            machine: here().node,
            reason: result.err(),
        });
    }
}
