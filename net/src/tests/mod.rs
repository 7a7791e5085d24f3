//! Tests of whole services against each other: over TCP with `cargo test`, over simulated links
//! with `cargo sim-test`.

mod gossip;
mod peers;
mod raw;
mod requests;
#[cfg(madsim)]
mod sim;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alys_runtime::{JoinHandle, spawn, time};
use libp2p::PeerId;

use crate::{
    ChainTag, Command, Config, DisconnectReason, Event, Events, GossipVerdict, Handle, NodeKey,
    PeerAddr, Protocol, Refusal, RequestError, RequestId, Service, Topic,
};

pub(super) const CHAIN: ChainTag = ChainTag {
    genesis: [0xa1; 32],
};
/// Every test node rejects gossip that begins with this.
pub(super) const BAD: &[u8] = b"bad";
/// Every test node ignores gossip that begins with this.
pub(super) const STALE: &[u8] = b"stale";
/// Test nodes never answer this request.
pub(super) const SILENCE: &[u8] = b"silence";
/// Test nodes refuse this request.
pub(super) const REFUSE: &[u8] = b"refuse";
/// Test nodes answer this request with 100 KiB.
pub(super) const LONG: &[u8] = b"long";
/// Test nodes answer this request with 1 MiB.
pub(super) const HUGE: &[u8] = b"huge";

/// The events that a test node has received, over all its incarnations.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) gossip: BTreeMap<Vec<u8>, usize>,
    pub(super) connected: BTreeMap<PeerId, bool>,
    pub(super) subscribed: BTreeMap<PeerId, bool>,
    /// Connections that were established.
    pub(super) arrivals: usize,
    pub(super) disconnected: Vec<(PeerId, DisconnectReason)>,
    pub(super) responses: BTreeMap<RequestId, Result<Vec<u8>, RequestError>>,
    pub(super) statuses: BTreeMap<PeerId, Vec<u8>>,
    pub(super) wrong_chain: Vec<(PeerId, String)>,
    pub(super) banned: Vec<PeerId>,
}

impl Seen {
    pub(super) fn subscribers(&self) -> usize {
        self.subscribed.values().filter(|is| **is).count()
    }

    /// A new incarnation of the process begins without connections.
    #[cfg(madsim)]
    pub(super) fn restart(&mut self) {
        self.connected.clear();
        self.subscribed.clear();
    }

    pub(super) fn peers(&self) -> usize {
        self.connected.values().filter(|is| **is).count()
    }

    pub(super) fn times(&self, payload: &[u8]) -> usize {
        self.gossip.get(payload).copied().unwrap_or(0)
    }
}

/// A service with a scripted node above it.
pub(super) struct TestNode {
    pub(super) handle: Handle,
    seen: Arc<Mutex<Seen>>,
    service: JoinHandle<()>,
}

pub(super) fn key(n: u8) -> NodeKey {
    NodeKey::from_bytes([n; 32])
}

pub(super) fn config(n: u8, peers: Vec<PeerAddr>) -> Config {
    Config::new(key(n), CHAIN, SocketAddr::from(([127, 0, 0, 1], 0)), peers)
}

/// Answers events as a node does, until the service ends.
pub(super) async fn play(handle: Handle, mut events: Events, seen: Arc<Mutex<Seen>>) {
    let send = |command| {
        let handle = handle.clone();
        async move {
            // The service may have ended.
            let _ = handle.send(command).await;
        }
    };
    send(Command::SetStatus {
        status: b"asked".to_vec(),
    })
    .await;
    while let Some(event) = events.next().await {
        match event {
            Event::Gossip { id, payload, .. } => {
                let verdict = match &payload {
                    bad if bad.starts_with(BAD) => GossipVerdict::Reject,
                    stale if stale.starts_with(STALE) => GossipVerdict::Ignore,
                    _ => GossipVerdict::Accept,
                };
                *seen
                    .lock()
                    .expect("no panic")
                    .gossip
                    .entry(payload)
                    .or_default() += 1;
                send(Command::Judge { id, verdict }).await;
            }
            Event::Request {
                id,
                protocol,
                payload,
                ..
            } => {
                let response = match payload {
                    _ if protocol == Protocol::Status => Ok(b"answered".to_vec()),
                    silence if silence == SILENCE => continue,
                    refuse if refuse == REFUSE => Err(Refusal::Unavailable),
                    long if long == LONG => Ok(vec![7; 100 * 1024]),
                    huge if huge == HUGE => Ok(vec![7; 1 << 20]),
                    payload => Ok(payload.into_iter().rev().collect()),
                };
                send(Command::Respond { id, response }).await;
            }
            event => record(&mut seen.lock().expect("no panic"), event),
        }
    }
}

fn record(seen: &mut Seen, event: Event) {
    match event {
        Event::PeerConnected { peer, .. } => {
            seen.arrivals += 1;
            seen.connected.insert(peer, true);
        }
        Event::PeerSubscribed { peer } => {
            seen.subscribed.insert(peer, true);
        }
        Event::PeerDisconnected { peer, reason } => {
            seen.connected.insert(peer, false);
            seen.subscribed.insert(peer, false);
            seen.disconnected.push((peer, reason));
        }
        Event::Response { id, result, .. } => {
            assert!(
                seen.responses.insert(id, result).is_none(),
                "one response per request"
            );
        }
        Event::Status { peer, status } => {
            seen.statuses.insert(peer, status);
        }
        Event::WrongChain { peer, mismatch } => seen.wrong_chain.push((peer, mismatch.to_string())),
        Event::Banned { peer, .. } => seen.banned.push(peer),
        Event::Gossip { .. } | Event::Request { .. } => {}
    }
}

impl TestNode {
    pub(super) async fn start(config: Config) -> Self {
        let (service, handle, events) = Service::bind(config).await.expect("the port is free");
        let seen = Arc::new(Mutex::new(Seen::default()));
        spawn("test-node", play(handle.clone(), events, seen.clone()));
        Self {
            handle,
            seen,
            service: spawn("net", service.run()),
        }
    }

    /// `count` services that know each other's addresses, without identities.
    pub(super) async fn federation(count: u8) -> Vec<Self> {
        let mut nodes: Vec<Self> = Vec::new();
        for n in 1..=count {
            nodes.push(Self::start(config(n, vec![])).await);
        }
        for node in &nodes {
            for other in nodes.iter().filter(|other| other.id() != node.id()) {
                node.command(Command::Dial {
                    addr: other.addr_only(),
                });
            }
        }
        nodes
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }

    pub(super) fn id(&self) -> PeerId {
        self.handle.peer_id()
    }

    pub(super) fn addr(&self) -> PeerAddr {
        PeerAddr {
            socket: self.handle.local_addr(),
            peer: Some(self.id()),
        }
    }

    pub(super) fn addr_only(&self) -> PeerAddr {
        PeerAddr {
            socket: self.handle.local_addr(),
            peer: None,
        }
    }

    pub(super) fn command(&self, command: Command) {
        self.handle.try_send(command).expect("the queue has room");
    }

    pub(super) fn publish(&self, topic: Topic, payload: &[u8]) {
        self.command(Command::Publish {
            topic,
            payload: payload.to_vec(),
        });
    }

    pub(super) async fn stop(self) {
        self.command(Command::Shutdown);
        self.service.await.expect("the service ends by itself");
    }

    pub(super) async fn connected_with(&self, peers: usize) {
        eventually("subscribed", SOON, || self.seen().subscribers() == peers).await;
    }
}

/// A timeout for busy machines. In simulation it costs no real time.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// Waits until `holds`, and panics after `within`.
pub(super) async fn eventually(what: &str, within: Duration, holds: impl Fn() -> bool) {
    let end = time::now() + within;
    while !holds() {
        assert!(time::now() < end, "not within {within:?}: {what}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn pause(ms: u64) {
    time::sleep(Duration::from_millis(ms)).await;
}
