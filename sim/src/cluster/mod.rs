//! The machines of a world: what runs on them, life after life.

pub mod genesis;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alys_integrations::embedded::{Bend, ExecutionServer, ExecutionServerConfig};
use alys_integrations::http::Endpoint;
use alys_net::NodeKey;
use alys_node::interceptor::NetworkInterceptor;
use alys_node::node::{FRESH_VOTES_FILE, Node, NodeConfig, NodeEvent};
use alys_runtime::disk::Dir;
use alys_runtime::sim::{NodeId, World, here};
use alys_runtime::sync::mpsc::UnboundedSender;
use alys_runtime::{select, signal, time};
use alys_storage::Engine;

use crate::faults::{Living, Reactions};
use crate::invariants::{Clients, Judge, short};
use crate::peers::byzantine::Bender;
use genesis::{Chain, authority_key, jwt_secret};

/// The networks of a world: the third part of each address. All of them are here, for no two machines may have one address.
#[derive(Debug, Clone, Copy)]
pub enum Net {
    /// Nodes.
    Nodes = 0,
    /// Their execution clients.
    Clients = 1,
    /// Users.
    Users = 2,
    /// Who stole a key.
    Forger = 3,
    /// Second nodes with an authority's key.
    TwinNodes = 4,
    /// Their execution clients.
    TwinClients = 5,
    /// Actors beside the nodes.
    Probe = 6,
    /// Who follows the chain without a vote.
    LightClient = 7,
    /// Who asks for more than nodes serve.
    Greedy = 8,
    /// Who answers no question.
    Silent = 9,
}

impl Net {
    /// The address of its `index`th machine, from 0.
    pub const fn ip(self, index: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, self as u8, index + 1))
    }
}

/// Where nodes talk to each other.
pub const PEER_PORT: u16 = 9000;
/// Where nodes talk to their execution clients.
pub const ENGINE_PORT: u16 = 8551;
/// Where users talk to execution clients.
pub const RPC_PORT: u16 = 8545;

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
    /// What happens upon votes.
    pub reactions: Reactions,
    /// The nodes that run.
    pub living: Living,
    /// What stands between nodes and their network, by authority.
    pub benders: BTreeMap<u8, Arc<Bender>>,
    /// The execution clients that run.
    pub clients: Clients,
    /// What is wrong with the execution clients, by authority.
    pub bends: Vec<Bend>,
    /// Told of processes that end by themselves.
    pub exits: UnboundedSender<Exit>,
}

/// The address of an authority's node.
pub fn node_ip(index: u8) -> IpAddr {
    Seat {
        index,
        is_twin: false,
    }
    .node_ip()
}

/// The address of its execution client.
pub fn client_ip(index: u8) -> IpAddr {
    Seat {
        index,
        is_twin: false,
    }
    .client_ip()
}

/// An authority's libp2p identity.
pub fn peer_id(index: u8) -> String {
    NodeKey::from_bytes(
        Seat {
            index,
            is_twin: false,
        }
        .identity(),
    )
    .peer_id()
    .to_string()
}

/// Tells the oracles what the clock of the machine shows on which this runs.
fn look_at_clock(world: World, judge: &Judge, index: u8, event: Option<&NodeEvent>) {
    let (wall_ms, true_ms) = (world.wall_ms(here().node), world.wall_ms(NodeId::WORLD));
    judge
        .look()
        .clock(now_ms(world), index, wall_ms, true_ms, event);
}

/// The present, in milliseconds of simulated time.
pub fn now_ms(world: World) -> u64 {
    world.now().as_millis() as u64
}

/// One of the nodes that have an authority's key. All but twins have a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The authority, from 0.
    pub index: u8,
    /// Whether it is the second one.
    pub is_twin: bool,
}

impl Seat {
    /// The address of the node.
    pub fn node_ip(self) -> IpAddr {
        if self.is_twin {
            Net::TwinNodes
        } else {
            Net::Nodes
        }
        .ip(self.index)
    }

    /// The address of its execution client.
    pub fn client_ip(self) -> IpAddr {
        if self.is_twin {
            Net::TwinClients
        } else {
            Net::Clients
        }
        .ip(self.index)
    }

    fn name(self, of: &str) -> String {
        format!(
            "{of}{}{}",
            self.index + 1,
            if self.is_twin { "twin" } else { "" }
        )
    }

    /// The libp2p identity: a twin has one of its own.
    fn identity(self) -> [u8; 32] {
        [if self.is_twin { 0xc0 } else { 0x80 } + self.index; 32]
    }
}

/// Adds an authority's two machines and starts them.
pub fn add(world: World, shared: &Shared, seat: Seat) -> Authority {
    let for_client = Arc::new(shared.clone());
    let client = world.node(&seat.name("client"), seat.client_ip(), move || {
        let shared = for_client.clone();
        async move { ended(&shared, client_life(&shared, seat).await) }
    });
    let for_node = Arc::new(shared.clone());
    let node = world.node(&seat.name("node"), seat.node_ip(), move || {
        let shared = for_node.clone();
        async move { ended(&shared, node_life(&shared, seat).await) }
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

async fn client_life(shared: &Shared, seat: Seat) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let dir = Dir::open("/data/execution").map_err(|e| text(&e))?;
    let store = alys_storage::open(Engine::Redb, &dir).map_err(|e| text(&e))?;
    let (ip, index) = (seat.client_ip(), seat.index);
    let config = ExecutionServerConfig {
        http_addr: Some(SocketAddr::new(ip, RPC_PORT)),
        engine_addr: SocketAddr::new(ip, ENGINE_PORT),
        jwt_secret: jwt_secret(index),
        genesis: shared.chain.execution.clone(),
        store,
        core: shared.chain.client.clone(),
    };
    let bend = shared
        .bends
        .get(usize::from(index))
        .cloned()
        .unwrap_or_default();
    let server = ExecutionServer::start_bent(config, bend)
        .await
        .map_err(|e| text(&e))?;
    shared
        .clients
        .born(index, now_ms(World::current()), server.witness());
    loop {
        select! {
            _ = signal::shutdown() => {
                return time::timeout(STOP, server.stop()).await.map_err(|_| "did not stop in time".to_owned());
            }
            () = time::sleep(LOOK) => {
                shared.clients.is_up(index, now_ms(World::current()));
                if server.has_failed() {
                    return Err("its store failed".to_owned());
                }
            }
        }
    }
}

async fn node_life(shared: &Shared, seat: Seat) -> Result<(), String> {
    let Seat { index, is_twin } = seat;
    let world = World::current();
    let text = |error: &dyn std::error::Error| error.to_string();
    shared.judge.look().born(index);
    let datadir = Dir::open("/data").map_err(|e| text(&e))?;
    if here().incarnation == 0 {
        datadir
            .write_atomic(FRESH_VOTES_FILE, b"")
            .map_err(|e| text(&e))?;
    }
    let fresh_votes = datadir.exists(FRESH_VOTES_FILE).map_err(|e| text(&e))?;
    let others = (0..shared.nodes).filter(|other| *other != index);
    let (judge, reactions, clients) = (
        shared.judge.clone(),
        shared.reactions.clone(),
        shared.clients.clone(),
    );
    let observer = move |event: &NodeEvent| {
        let world = World::current();
        if world.is_here_alive() {
            let detail = tell(&seat.name("node"), event);
            world.note("said", detail.as_bytes(), &detail);
            look_at_clock(world, &judge, index, Some(event));
            judge.look().executed(now_ms(world), index, event, &clients);
            judge.look().observe(now_ms(world), index, event);
            if !is_twin {
                reactions.on_event(index, event);
            }
        }
    };
    let config = NodeConfig {
        name: seat.name("node"),
        genesis: shared.chain.genesis.clone(),
        cancun_time: Some(0),
        key: Some(authority_key(index)),
        identity: seat.identity(),
        listen: SocketAddr::new(seat.node_ip(), PEER_PORT),
        bootnodes: others
            .map(|other| SocketAddr::new(node_ip(other), PEER_PORT).to_string())
            .collect(),
        datadir,
        storage: Engine::Redb,
        engine: Endpoint::new(SocketAddr::new(seat.client_ip(), ENGINE_PORT)),
        jwt_secret: jwt_secret(index),
        fresh_votes,
        observer: Some(Arc::new(observer)),
        interceptor: match shared.benders.get(&index).filter(|_| !is_twin) {
            Some(bender) => NetworkInterceptor::by(bender.clone()),
            None => NetworkInterceptor::default(),
        },
    };
    let node = Arc::new(Node::start(config).await.map_err(|e| text(&e))?);
    if !is_twin {
        shared.living.born(index, &node);
    }
    loop {
        select! {
            reason = node.failed() => return Err(reason),
            _ = signal::shutdown() => {
                // Nobody else keeps a node: who looks at it lets go of it before anything else runs.
                let Some(node) = Arc::into_inner(node) else { return Err("somebody holds the node".to_owned()) };
                let faults = node.faults().clone();
                let report = node.shutdown(STOP).await;
                // An actor that was told to hang does so at a stop, too.
                let struck = faults.hits();
                let is_struck = |actor: &str| struck.keys().any(|(path, _)| **path == *actor);
                let left: Vec<_> = report
                    .abandoned
                    .iter()
                    .filter(|one| one.failure.is_none() || !is_struck(&one.actor))
                    .collect();
                return if left.is_empty() { Ok(()) } else { Err(format!("left undone at the stop: {left:?}")) };
            }
            () = time::sleep(LOOK) => {
                let asked = (now_ms(world), shared.judge.look().finality.of(index));
                if let Some(summary) = node.summary().await && world.is_here_alive() {
                    shared.judge.look().stands(now_ms(world), index, asked, summary);
                }
                look_at_clock(world, &shared.judge, index, None);
                shared.judge.look().tree(now_ms(world), index, &node.actors());
            }
        }
    }
}

/// What a node says, on a line.
fn tell(name: &str, event: &NodeEvent) -> String {
    let said = match event {
        NodeEvent::Signed { target } => {
            let (kind, height, slot, hash) =
                (target.kind, target.height, target.slot, short(&target.hash));
            format!("signs {kind:?} of height {height} slot {slot} {hash}").to_lowercase()
        }
        NodeEvent::VotesFor { block, parent } => {
            let (hash, on) = (short(&block.hash), short(&parent.hash));
            format!(
                "votes for slot {} {hash} on slot {} {on}",
                block.slot, parent.slot
            )
        }
        NodeEvent::Proposed {
            height,
            slot,
            hash,
            transactions,
            ..
        } => {
            format!(
                "proposes height {height} slot {slot} {} with {transactions} transactions",
                short(hash)
            )
        }
        NodeEvent::Head { height, slot, hash } => {
            format!("head is height {height} slot {slot} {}", short(hash))
        }
        NodeEvent::Finalized(block) => {
            format!(
                "final is height {} slot {} {}",
                block.height,
                block.slot,
                short(&block.hash)
            )
        }
        NodeEvent::Notice(notice) => format!("Notice(\"{notice}\")"),
        other => format!("{other:?}"),
    };
    format!("{name} {said}")
}
