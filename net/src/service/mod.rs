//! The service: one task that owns the swarm, carries out commands and reports events.
//!
//! Nothing here waits for the node: what it does not take in time is dropped (gossip), refused (requests) or
//! kept (everything whose number is bounded by peers or by our own requests).

mod commands;
mod gossiping;
mod peers;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use alys_runtime::net::Listener;
use alys_runtime::sync::mpsc;
use alys_runtime::time::{self, Instant};
use alys_runtime::{buggify, rand, select, spawn};
use futures::StreamExt;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{PeerId, noise, swarm};

use crate::addr::to_multiaddr;
use crate::api::{Command, Event, Events, Handle};
use crate::behaviour::{Behaviour, BehaviourEvent, Sorted, millis};
use crate::config::Config;
use crate::dial::Dialler;
use crate::gossip::GossipSetupError;
use crate::repeats::Repeats;
use crate::scores::Scores;
use crate::transport;
use crate::wire::Protocol;

use peers::Peer;
use requests::Requests;

/// Between two looks at what is due. Dial waits, liveness and bans are that exact.
const TICK: Duration = Duration::from_millis(100);
/// Events that may wait in the channel itself, beside those that wait here.
const EVENT_CHANNEL: usize = 64;
/// Commands taken in a row before the swarm has its turn, so that neither starves the other.
const COMMANDS_A_TURN: usize = 16;
/// Payloads remembered by the repeat filter.
const REPEATS: usize = 8192;
/// Streams of one connection in their protocol negotiation.
const MAX_NEGOTIATING_STREAMS: usize = 64;

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address cannot be listened on: in use, or none of this machine's.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The noise handshake cannot be set up with this key.
    #[error("cannot set up encryption")]
    Encryption(#[from] noise::Error),
    /// gossipsub cannot be set up.
    #[error("cannot set up gossip")]
    Gossip(#[from] GossipSetupError),
    /// A protocol id is not valid.
    #[error("the id of protocol {protocol:?} is not valid")]
    ProtocolName {
        /// Which.
        protocol: Protocol,
    },
}

/// What the service does next.
enum Turn {
    Tick,
    /// The event channel has room again.
    Room,
    Swarm(SwarmEvent<BehaviourEvent>),
    /// `None` when the last handle is gone.
    Command(Option<Command>),
}

/// The network of one node. [`Service::bind`] it, then [`run`](Service::run) it in a task of its own.
pub struct Service {
    config: Config,
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events that the channel had no room for.
    outbox: VecDeque<Event>,
    outbox_bytes: usize,
    /// Events dropped since the last warning.
    dropped: u64,
    warned_ms: u64,
    start: Instant,
    peers: BTreeMap<PeerId, Peer>,
    scores: Scores,
    dialler: Dialler,
    /// Our dials under way.
    dials: BTreeMap<ConnectionId, SocketAddr>,
    /// Addresses where somebody unexpected answered, and that was said.
    strangers: BTreeSet<SocketAddr>,
    repeats: Repeats,
    requests: Requests,
    /// Our status for new peers, once the node has told it.
    status: Option<Vec<u8>>,
    nonce: u64,
    closing: bool,
}

impl Service {
    /// Listens, and prepares everything; nothing happens before [`run`](Self::run).
    ///
    /// # Errors
    /// [`SetupError::Listen`] for a used port. The others mean a bug.
    pub async fn bind(mut config: Config) -> Result<(Self, Handle, Events), SetupError> {
        unusual(&mut config);
        let listen_error = |source| SetupError::Listen {
            addr: config.listen,
            source,
        };
        let listener = Listener::bind(config.listen).await.map_err(listen_error)?;
        let addr = listener.local_addr();
        let local = config.key.peer_id();
        let start = time::now();
        let clock = Box::new(move || millis(time::now().saturating_duration_since(start)));

        let behaviour = Behaviour::new(&config, clock)?;
        let transport = transport::build(&config.key, listener, config.timing.dial_timeout)?;
        let executor = |connection| {
            spawn("net-connection", connection);
        };
        let swarm_config = swarm::Config::with_executor(executor)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
        let mut swarm = Swarm::new(transport, behaviour, local, swarm_config);
        swarm
            .listen_on(to_multiaddr(addr))
            .map_err(|error| listen_error(io::Error::other(error)))?;

        let (command_sender, commands) = mpsc::channel(config.limits.max_queued_commands);
        let channel = if buggify!("net.service.small_channel") {
            1
        } else {
            EVENT_CHANNEL
        };
        let (events, event_receiver) = mpsc::channel(channel);
        let handle = Handle {
            commands: command_sender,
            next_request: Arc::new(AtomicU64::new(1)),
            local,
            addr,
        };
        let mut service = Self {
            swarm,
            commands,
            events,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            dropped: 0,
            warned_ms: 0,
            start,
            peers: BTreeMap::new(),
            scores: Scores::new(millis(config.timing.ban)),
            dialler: Dialler::new(config.dial, local),
            dials: BTreeMap::new(),
            strangers: BTreeSet::new(),
            repeats: Repeats::new(millis(config.timing.repeat_window), REPEATS),
            requests: Requests::default(),
            status: None,
            // Numbers of an earlier run must not come again while other nodes remember them.
            nonce: rand::u64(),
            closing: false,
            config,
        };
        for peer in service.config.peers.clone() {
            service.learn_address(peer);
        }
        Ok((service, handle, Events(event_receiver)))
    }

    /// Runs until [`Command::Shutdown`], until the last [`Handle`] is dropped, or until nobody takes events
    /// any more.
    pub async fn run(mut self) {
        tracing::debug!(peer = %self.config.key.peer_id(), "network runs");
        let mut tick = time::interval(if buggify!("net.service.slow_tick") {
            TICK * 4
        } else {
            TICK
        });
        self.on_tick();
        while !self.closing {
            for _ in 0..COMMANDS_A_TURN {
                match self.commands.try_recv() {
                    Ok(command) => self.on_command(command),
                    Err(_) => break,
                }
                if buggify!("net.service.one_command") {
                    break;
                }
            }
            self.drain_outbox();
            if self.closing {
                break;
            }
            // In this order, because what comes first in it is rare and short; see above for commands.
            let turn = select! {
                biased;
                () = tick.tick() => Turn::Tick,
                _ = self.events.reserve(), if !self.outbox.is_empty() => Turn::Room,
                event = self.swarm.select_next_some() => Turn::Swarm(event),
                command = self.commands.recv() => Turn::Command(command),
            };
            match turn {
                Turn::Tick => self.on_tick(),
                Turn::Room => {}
                Turn::Swarm(event) => self.on_swarm_event(event),
                Turn::Command(Some(command)) => self.on_command(command),
                Turn::Command(None) => self.closing = true,
            }
        }
        self.close().await;
    }

    /// Says goodbye to all peers, for as long as the configuration allows.
    async fn close(&mut self) {
        self.swarm.behaviour_mut().gate.close();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.disconnect(peer, crate::api::Gone::Shutdown);
        }
        self.fail_all_requests();
        let mut deadline = time::sleep(self.config.timing.shutdown);
        while !self.peers.is_empty() {
            select! {
                biased;
                () = &mut deadline => break,
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
            }
        }
        self.drain_outbox();
        tracing::debug!("network has ended");
    }

    /// Milliseconds since the start: the time of everything that is decided here.
    fn now_ms(&self) -> u64 {
        millis(time::now().saturating_duration_since(self.start))
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => match Sorted::from(event) {
                Sorted::Gossip(event) => self.on_gossip(event),
                Sorted::Requests(protocol, event) => self.on_request_event(protocol, event),
                Sorted::Ping(event) => self.on_ping(event),
                Sorted::Identify(event) => self.on_identify(event),
            },
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                self.on_closed(peer_id, connection_id, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.on_dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => {
                tracing::debug!(%send_back_addr, %error, "incoming connection failed");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "cannot accept a connection");
            }
            _ => {}
        }
    }

    fn on_tick(&mut self) {
        let now_ms = self.now_ms();
        self.swarm
            .behaviour_mut()
            .gate
            .set_banned(self.scores.banned(now_ms));
        self.dial_due(now_ms);
        self.look_after_peers(now_ms);
        if buggify!("net.service.disconnect", 5_000)
            && let Some(peer) = self.peers.keys().next().copied()
        {
            // A connection may end at any time; it is made again.
            self.disconnect(peer, crate::api::Gone::Closed);
        }
        if self.dropped > 0 && now_ms >= self.warned_ms + 10_000 {
            tracing::warn!(
                dropped = self.dropped,
                "the node does not keep up with its network"
            );
            (self.dropped, self.warned_ms) = (0, now_ms);
        }
    }

    /// Whether an event that may be dropped has a place.
    fn has_room(&self) -> bool {
        !buggify!("net.service.no_room", 10_000)
            && self.outbox.len() < self.config.limits.max_queued_events
            && self.outbox_bytes < self.config.limits.max_queued_bytes
    }

    fn emit(&mut self, event: Event) {
        self.outbox_bytes += event.bytes();
        self.outbox.push_back(event);
    }

    fn drain_outbox(&mut self) {
        while !self.outbox.is_empty() {
            match self.events.try_reserve() {
                Ok(permit) => {
                    if let Some(event) = self.outbox.pop_front() {
                        self.outbox_bytes -= event.bytes();
                        permit.send(event);
                    }
                }
                Err(mpsc::error::TrySendError::Full(())) => return,
                Err(mpsc::error::TrySendError::Closed(())) => {
                    self.outbox.clear();
                    self.outbox_bytes = 0;
                    self.closing = true;
                }
            }
        }
    }
}

/// Settings that nobody would choose and that work all the same: what the simulator runs with now and then.
fn unusual(config: &mut Config) {
    if buggify!("net.config.slow_dials") {
        (config.dial.initial_ms, config.dial.max_ms) =
            (config.dial.initial_ms * 4, config.dial.max_ms * 2);
    }
    if buggify!("net.config.fast_dials") {
        (config.dial.initial_ms, config.dial.max_ms) = (20, 200);
    }
    if buggify!("net.config.impatient_requests") {
        config.timing.request_timeout /= 2;
    }
    if buggify!("net.config.many_pings") {
        config.timing.ping_interval /= 8;
    }
    if buggify!("net.config.few_requests") {
        config.limits.max_outbound = 2;
    }
    if buggify!("net.config.few_answers") {
        (
            config.limits.max_inbound,
            config.limits.max_inbound_per_peer,
        ) = (2, 1);
    }
}
