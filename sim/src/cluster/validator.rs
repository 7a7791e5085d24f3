//! The machine of an authority's node, which runs the real node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use alys_actor_system::Abandoned;
use alys_consensus::PlantedBug;
use alys_integrations::http::Endpoint;
use alys_node::interceptor::NetworkInterceptor;
use alys_node::mining::{MiningServer, Settings};
use alys_node::node::{
    ExecutionEndpoint, FRESH_VOTES_FILE, Node, NodeConfig, NodeEvent, PeerEvent,
};
use alys_runtime::disk::Dir;
use alys_runtime::sim::{NodeId, World, here};
use alys_runtime::sync::mpsc::error::TrySendError;
use alys_runtime::{select, signal, time};
use alys_storage::Engine;

use super::addresses::{ENGINE_PORT, MINING_PORT, PEER_PORT, Seat, node_ip};
use super::genesis::{authority_key, jwt_secret};
use super::{LOOK, STOP, Shared, now_ms};
use crate::events::{Announcement, Report};
use crate::invariants::Judge;
use crate::params::MachineRole;

/// The running nodes, by authority.
#[derive(Clone, Default)]
pub struct Living(Arc<Mutex<BTreeMap<u8, Weak<Node>>>>);

impl Living {
    /// Registers a running node. The reference is weak, because the node ends with its process.
    pub fn born(&self, index: u8, node: &Arc<Node>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index, Arc::downgrade(node));
    }

    /// The node of an authority, if it runs.
    pub fn find(&self, index: u8) -> Option<Arc<Node>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&index)
            .and_then(Weak::upgrade)
    }

    /// Clears the pending faults of all nodes.
    pub fn heal(&self) {
        let nodes: Vec<_> = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        nodes.iter().for_each(|node| node.faults().clear());
    }
}

/// The nodes into whose data directories their operators have put the marker of a fresh key,
/// durably. An operator repeats a copy that failed, and makes no second one.
#[derive(Clone, Default)]
pub struct Markers(Arc<Mutex<BTreeSet<(u8, bool)>>>);

impl Markers {
    /// True if the node never got a marker. One whose disk was emptied before gets none, because it
    /// counts as one that lost its votes.
    fn needs(&self, judge: &Judge, seat: Seat) -> bool {
        let is_lost = here().incarnation > 0 && judge.look().rejoin.is_without(seat.index);
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !is_lost && !all.contains(&(seat.index, seat.is_twin))
    }

    fn put(&self, seat: Seat) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((seat.index, seat.is_twin));
    }
}

/// Reports the wall clock of the machine on which this runs to the invariants.
fn look_at_clock(world: World, judge: &Judge, index: u8, event: Option<&NodeEvent>) {
    let wall_ms = world.wall_ms(here().node);
    let true_ms = world.wall_ms(NodeId::WORLD);
    judge
        .look()
        .clock(now_ms(world), index, wall_ms, true_ms, event);
}

/// The mistake in the rules of an authority's nodes: that of the run, if there is one. Twins ignore
/// the votes of each other. By rule 3.8 they would take their own votes for lost, and fall silent.
fn planted_bug(shared: &Shared, index: u8) -> PlantedBug {
    if shared.twins.contains(&index) && !shared.planted_bug.is_planted() {
        return PlantedBug::new("held-vote-ignored", Arc::default());
    }
    shared.planted_bug.clone()
}

/// Sends a copy of the disk of a correct node to be checked, if it is wanted.
fn send_copy(shared: &Shared, index: u8) {
    let mut oracles = shared.judge.look();
    let is_judged = !oracles.votes.is_byzantine(index);
    if is_judged && oracles.stores.wants() {
        let image = World::current().disk_image(here().node);
        // A closed channel means that the run is over.
        let sent = shared.copies.try_send((index, image));
        assert!(
            !matches!(sent, Err(TrySendError::Full(_))),
            "the channel has room for all copies of a run"
        );
    }
}

/// Runs the process from start to end.
///
/// # Errors
/// The node cannot start or fails, or its stop leaves actors behind.
pub async fn life(shared: &Shared, seat: Seat) -> Result<(), String> {
    let Seat { index, is_twin } = seat;
    let world = World::current();
    let text = |error: &dyn std::error::Error| error.to_string();
    shared.judge.look().born(index);
    if !is_twin && !shared.twins.contains(&index) {
        let at_ms = now_ms(world);
        let machine = here().node;
        let mut judge = shared.judge.look();
        judge.process_started(at_ms, machine, MachineRole::Node, index);
    }
    if here().incarnation > 0 {
        shared.judge.look().calm.disturbed(now_ms(world));
    }
    let datadir = Dir::open("/data").map_err(|e| text(&e))?;
    if here().incarnation > 0 && !is_twin {
        send_copy(shared, index);
    }
    if shared.markers.needs(&shared.judge, seat) {
        datadir
            .write_atomic(FRESH_VOTES_FILE, b"")
            .map_err(|e| text(&e))?;
        shared.markers.put(seat);
    }
    let fresh_votes = datadir.exists(FRESH_VOTES_FILE).map_err(|e| text(&e))?;
    let others = (0..shared.nodes).filter(|other| *other != index);
    let others = others.filter(|other| shared.addresses.has(index, *other));
    let judge = shared.judge.clone();
    let reactions = shared.reactions.clone();
    let execution_clients = shared.execution_clients.clone();
    let observer = move |event: &NodeEvent| {
        let world = World::current();
        if world.is_here_alive() {
            // These are many, and other events contain all of their information.
            let is_frequent = matches!(
                event,
                NodeEvent::Peering(PeerEvent::Planned) | NodeEvent::Counts { .. }
            );
            if !is_frequent {
                let announcement = Announcement::Node {
                    node: seat.name(MachineRole::Node),
                    report: Report::from(event),
                };
                announcement.announce(world);
            }
            look_at_clock(world, &judge, index, Some(event));
            judge
                .look()
                .executed(now_ms(world), index, event, &execution_clients);
            judge.look().observe(now_ms(world), index, event);
            if !is_twin {
                reactions(index, event);
            }
        }
    };
    let config = NodeConfig {
        name: seat.name(MachineRole::Node),
        genesis: shared.chain.genesis.clone(),
        cancun_time: Some(0),
        key: Some(authority_key(index)),
        fee_address: None,
        identity: seat.identity().into(),
        listen: SocketAddr::new(seat.ip(MachineRole::Node), PEER_PORT),
        bootnodes: others
            .map(|other| SocketAddr::new(node_ip(other), PEER_PORT))
            .chain(shared.other_addresses.iter().copied())
            .map(|address| address.to_string())
            .collect(),
        datadir,
        storage: Engine::Redb,
        execution: ExecutionEndpoint {
            url: Endpoint::new(SocketAddr::new(
                seat.ip(MachineRole::Execution),
                ENGINE_PORT,
            )),
            secret: jwt_secret(index),
            pool: None,
        },
        fresh_votes,
        observer: Some(Arc::new(observer)),
        interceptor: match shared.interceptors.get(&index).filter(|_| !is_twin) {
            Some(interceptor) => NetworkInterceptor::by(interceptor.clone()),
            None => NetworkInterceptor::default(),
        },
        mailboxes: shared.mailboxes.clone(),
        stranger_places: shared.stranger_places,
        limits: shared.limits,
        queued_events: shared.queued_events,
        planted_bug: planted_bug(shared, index),
    };
    let mining_addr = SocketAddr::new(seat.ip(MachineRole::Node), MINING_PORT);
    let mining = MiningServer::bind(mining_addr, Settings::default());
    let mining = mining.await.map_err(|e| text(&e))?;
    let node = Arc::new(Node::start(config).await.map_err(|e| text(&e))?);
    mining.serve(node.miners());
    if !is_twin {
        shared.living.born(index, &node);
    }
    loop {
        select! {
            reason = node.failed() => return Err(reason),
            _ = signal::shutdown() => {
                // A fault may hold an answer for longer than an operating system waits.
                let _ended = time::timeout(STOP, mining.stop()).await;
                // The simulator drops its references to a node before other code runs, so this is
                // the last one.
                let Some(node) = Arc::into_inner(node) else {
                    return Err("another task still holds the node".to_owned());
                };
                let faults = node.faults().clone();
                let report = node.shutdown(STOP).await;
                // An actor with an injected hang also hangs during the stop, which cuts the message
                // off if it is sooner than the watchdog. One that waits for its restart, because it
                // or an actor that it asks was struck, leaves its messages.
                let struck = faults.hits();
                let is_struck = |actor: &str| struck.keys().any(|(path, _)| **path == *actor);
                let hangs = |one: &Abandoned| {
                    one.handling.is_some_and(|handled| {
                        let mut hits = struck.keys();
                        hits.any(|(path, kind)| **path == *one.actor && *kind == handled)
                    })
                };
                let is_excused = |one: &Abandoned| {
                    let is_running = one.handling.is_some() || one.stopping || one.unresponsive;
                    one.failure.is_some() && is_struck(&one.actor)
                        || hangs(one)
                        || !is_running && !struck.is_empty()
                };
                let left = report.abandoned.iter().filter(|one| !is_excused(one));
                let left: Vec<_> = left.collect();
                if left.is_empty() {
                    return Ok(());
                }
                return Err(format!("left undone at the stop: {left:?}"));
            }
            () = time::sleep(LOOK) => {
                let asked = (now_ms(world), shared.judge.look().finality.of(index));
                if let Some(summary) = node.summary().await && world.is_here_alive() {
                    shared.judge.look().stands(now_ms(world), index, asked, summary);
                }
                look_at_clock(world, &shared.judge, index, None);
                shared.judge.look().tree(now_ms(world), index, &node.actors());
                shared.judge.look().footprint(now_ms(world), index, &node.footprint());
            }
        }
    }
}
