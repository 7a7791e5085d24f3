//! Whole services against each other, over real TCP or over simulated links: `cargo test`, `cargo sim-test`.

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
    ChainTag, Command, Config, Event, Events, Gone, Handle, NodeKey, PeerAddr, Protocol, Refusal,
    RequestError, RequestId, Service, Topic, Verdict,
};

pub(super) const CHAIN: ChainTag = ChainTag {
    genesis: [0xa1; 32],
    fork: [1; 32],
};
/// Gossip that begins with this is rejected by every puppet.
pub(super) const BAD: &[u8] = b"bad";
/// Gossip that begins with this is accepted by nobody and blamed on nobody.
pub(super) const STALE: &[u8] = b"stale";
/// A request that is never answered.
pub(super) const SILENCE: &[u8] = b"silence";
/// A request that is refused.
pub(super) const REFUSE: &[u8] = b"refuse";
/// A request whose answer is 100 KiB.
pub(super) const LONG: &[u8] = b"long";

/// What a puppet has seen, over all its lives.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) gossip: BTreeMap<Vec<u8>, usize>,
    pub(super) connected: BTreeMap<PeerId, bool>,
    pub(super) listening: BTreeMap<PeerId, bool>,
    pub(super) arrivals: usize,
    pub(super) gone: Vec<(PeerId, Gone)>,
    pub(super) responses: BTreeMap<RequestId, Result<Vec<u8>, RequestError>>,
    pub(super) statuses: BTreeMap<PeerId, Vec<u8>>,
    pub(super) wrong_chain: Vec<(PeerId, String)>,
    pub(super) banned: Vec<PeerId>,
}

impl Seen {
    pub(super) fn listeners(&self) -> usize {
        self.listening.values().filter(|listens| **listens).count()
    }

    /// A new life of the process: nobody is connected.
    #[cfg(madsim)]
    pub(super) fn begin_again(&mut self) {
        self.connected.clear();
        self.listening.clear();
    }

    pub(super) fn peers(&self) -> usize {
        self.connected
            .values()
            .filter(|connected| **connected)
            .count()
    }

    pub(super) fn times(&self, payload: &[u8]) -> usize {
        self.gossip.get(payload).copied().unwrap_or(0)
    }
}

/// A service and a node above it that does as it is told.
pub(super) struct Puppet {
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

/// Plays the node until the service ends.
pub(super) async fn play(handle: Handle, mut events: Events, seen: Arc<Mutex<Seen>>) {
    let send = |command| {
        let handle = handle.clone();
        async move {
            // The service may be ending.
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
                    bad if bad.starts_with(BAD) => Verdict::Reject,
                    stale if stale.starts_with(STALE) => Verdict::Ignore,
                    _ => Verdict::Accept,
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
                    payload => Ok(payload.into_iter().rev().collect()),
                };
                send(Command::Respond { id, response }).await;
            }
            event => note(&mut seen.lock().expect("no panic"), event),
        }
    }
}

fn note(seen: &mut Seen, event: Event) {
    match event {
        Event::PeerConnected { peer, .. } => {
            seen.arrivals += 1;
            seen.connected.insert(peer, true);
        }
        Event::PeerListens { peer } => {
            seen.listening.insert(peer, true);
        }
        Event::PeerDisconnected { peer, reason } => {
            seen.connected.insert(peer, false);
            seen.listening.insert(peer, false);
            seen.gone.push((peer, reason));
        }
        Event::Response { id, result, .. } => {
            assert!(
                seen.responses.insert(id, result).is_none(),
                "one answer a request"
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

impl Puppet {
    pub(super) async fn start(config: Config) -> Self {
        let (service, handle, events) = Service::bind(config).await.expect("the port is free");
        let seen = Arc::new(Mutex::new(Seen::default()));
        spawn("puppet", play(handle.clone(), events, seen.clone()));
        Self {
            handle,
            seen,
            service: spawn("net", service.run()),
        }
    }

    /// `count` services that know each other's addresses; all but the first know the identities too.
    pub(super) async fn federation(count: u8) -> Vec<Self> {
        let mut puppets: Vec<Self> = Vec::new();
        for n in 1..=count {
            puppets.push(Self::start(config(n, vec![])).await);
        }
        for puppet in &puppets {
            for other in puppets.iter().filter(|other| other.id() != puppet.id()) {
                puppet.command(Command::Dial {
                    addr: other.addr_only(),
                });
            }
        }
        puppets
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no puppet panics")
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
        eventually("peers listen", SOON, || self.seen().listeners() == peers).await;
    }
}

/// Long enough on a busy machine; in simulation it costs nothing.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// Waits until `holds`.
///
/// # Panics
/// When it does not in time.
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
