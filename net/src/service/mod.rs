//! The service: one task that owns the swarm, executes commands and emits events.
//!
//! It never waits for the node. While the node lags, gossip is dropped, requests are refused, and
//! the other events are queued, because peers and our own requests bound their number.

mod commands;
mod gossiping;
mod peers;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_runtime::log_limit::LogLimit;
use alys_runtime::net::Listener;
use alys_runtime::sync::mpsc;
use alys_runtime::time::{self, Instant};
use alys_runtime::{buggify, rand, select, spawn};
use futures::StreamExt;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{PeerId, noise, swarm};

use crate::addr::to_multiaddr;
use crate::api::{Command, DisconnectReason, Event, Events, Handle, Sizes};
use crate::backlog::Meters;
use crate::behaviour::{Behaviour, BehaviourEvent, ProtocolEvent, millis};
use crate::budgets::Budgets;
use crate::config::Config;
use crate::dial::Dialler;
use crate::gossip::GossipSetupError;
use crate::handshakes::Upgrades;
use crate::interceptor;
use crate::repeats::RepeatFilter;
use crate::scores::Scores;
use crate::transport;
use crate::wire::Protocol;

use peers::Peer;
use requests::Requests;

/// Interval of the periodic checks, which is the resolution of dial backoffs, liveness and bans.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// Capacity of the event channel, in addition to the outbox.
const EVENT_CHANNEL: usize = 64;
/// Commands executed in a row before the swarm is polled, so that neither starves the other.
const COMMANDS_PER_TURN: usize = 16;
/// Payloads remembered by the repeat filter.
const MAX_REMEMBERED_PAYLOADS: usize = 8192;
/// Streams of one connection in their protocol negotiation.
const MAX_NEGOTIATING_STREAMS: usize = 64;

/// The network could not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The noise handshake cannot be set up with this key.
    #[error("cannot set up encryption")]
    Encryption(#[from] noise::Error),
    #[error("cannot set up gossip")]
    Gossip(#[from] GossipSetupError),
    #[error("the id of protocol {protocol:?} is not valid")]
    ProtocolName { protocol: Protocol },
}

/// An event of the service's loop.
enum LoopEvent {
    Tick,
    /// The event channel has room again.
    Room,
    Swarm(SwarmEvent<BehaviourEvent>),
    /// `None` when the last handle was dropped.
    Command(Option<Command>),
}

/// Limits of the lines at WARN that remote input causes.
#[derive(Default)]
struct Lines {
    accept_failed: LogLimit,
    peer_refused: LogLimit,
    peer_banned: LogLimit,
}

/// The network of one node. Create it with [`Service::bind`], then [`run`](Service::run) it in a
/// task of its own.
pub struct Service {
    config: Config,
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events for which the channel had no room.
    outbox: VecDeque<Event>,
    outbox_bytes: usize,
    /// Events dropped since the last warning.
    dropped: u64,
    warned_ms: u64,
    lines: Lines,
    start: Instant,
    peers: BTreeMap<PeerId, Peer>,
    scores: Scores,
    budgets: Budgets,
    dialler: Dialler,
    /// Meters of the connections.
    meters: Meters,
    /// Dials in progress.
    dials: BTreeMap<ConnectionId, SocketAddr>,
    /// Addresses for which an unexpected identity was logged, so that it is logged once.
    warned_addresses: BTreeSet<SocketAddr>,
    repeats: RepeatFilter,
    requests: Requests,
    /// Our status for new peers; `None` until the node has set it.
    status: Option<Vec<u8>>,
    nonce: u64,
    closing: bool,
    /// For the handles.
    sizes: Arc<Mutex<Sizes>>,
}

impl Service {
    /// Binds the listening socket. The service does no other work before [`run`](Self::run).
    ///
    /// # Errors
    /// [`SetupError::Listen`] when the port is in use. The other variants indicate a bug.
    pub async fn bind(mut config: Config) -> Result<(Self, Handle, Events), SetupError> {
        apply_unusual_settings(&mut config);
        let listen_error = |source| SetupError::Listen {
            addr: config.listen,
            source,
        };
        let listener = Listener::bind(config.listen).await.map_err(listen_error)?;
        let addr = listener.local_addr();
        let local = config.key.peer_id();
        let start = time::now();
        let clock = Box::new(move || millis(time::now().saturating_duration_since(start)));

        let upgrades = Upgrades::default();
        let behaviour = Behaviour::new(&config, clock, upgrades.clone())?;
        let transport = transport::build(&config.key, listener, config.timing.dial_timeout)?;
        let meters = Meters::default();
        let transport = meters.measure(upgrades.guard(transport));
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
        let sizes = Arc::new(Mutex::default());
        let handle = Handle {
            commands: command_sender,
            next_request: Arc::new(AtomicU64::new(1)),
            local,
            addr,
            sizes: sizes.clone(),
        };
        let mut service = Self {
            swarm,
            commands,
            events,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            dropped: 0,
            warned_ms: 0,
            lines: Lines::default(),
            start,
            peers: BTreeMap::new(),
            scores: Scores::new(millis(config.timing.ban)),
            budgets: Budgets::new(0),
            dialler: Dialler::new(config.dial, local),
            meters,
            dials: BTreeMap::new(),
            warned_addresses: BTreeSet::new(),
            repeats: RepeatFilter::new(
                millis(config.timing.repeat_window),
                MAX_REMEMBERED_PAYLOADS,
            ),
            requests: Requests::default(),
            status: None,
            // Random, so that nonces of an earlier run do not repeat while other nodes remember
            // them.
            nonce: rand::u64(),
            closing: false,
            sizes,
            config,
        };
        for peer in service.config.peers.clone() {
            service.add_address(peer);
        }
        Ok((service, handle, Events(event_receiver)))
    }

    /// Runs until [`Command::Shutdown`], or until the last [`Handle`] or the [`Events`] are
    /// dropped.
    pub async fn run(mut self) {
        tracing::debug!(peer = %self.config.key.peer_id(), "network started");
        let mut tick = time::interval(if buggify!("net.service.slow_tick") {
            TICK_INTERVAL * 4
        } else {
            TICK_INTERVAL
        });
        self.on_tick();
        while !self.closing {
            for _ in 0..COMMANDS_PER_TURN {
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
            // Rare and short branches come first. Commands come last, because the loop above
            // already takes them in turn.
            let event = select! {
                biased;
                () = tick.tick() => LoopEvent::Tick,
                _ = self.events.reserve(), if !self.outbox.is_empty() => LoopEvent::Room,
                event = self.swarm.select_next_some() => LoopEvent::Swarm(event),
                command = self.commands.recv() => LoopEvent::Command(command),
            };
            match event {
                LoopEvent::Tick => self.on_tick(),
                LoopEvent::Room => {}
                LoopEvent::Swarm(event) => self.on_swarm_event(event),
                LoopEvent::Command(Some(command)) => self.on_command(command),
                LoopEvent::Command(None) => self.closing = true,
            }
        }
        self.close().await;
    }

    /// Closes all connections within [`crate::Timing::shutdown`].
    async fn close(&mut self) {
        self.swarm.behaviour_mut().gate.close();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.disconnect(peer, DisconnectReason::Shutdown);
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
        tracing::debug!("network stopped");
    }

    /// Milliseconds since the start; the time base of all decisions of the service.
    fn now_ms(&self) -> u64 {
        millis(time::now().saturating_duration_since(self.start))
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => match ProtocolEvent::from(event) {
                ProtocolEvent::Gossip(event) => self.on_gossip(event),
                ProtocolEvent::Requests(protocol, event) => self.on_request_event(protocol, event),
                ProtocolEvent::Ping(event) => self.on_ping(event),
                ProtocolEvent::Identify(event) => self.on_identify(event),
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
                if let Some(left_out) = self.lines.accept_failed.admit(time::now()) {
                    tracing::warn!(%error, left_out, "cannot accept a connection");
                } else {
                    tracing::debug!(%error, "cannot accept a connection");
                }
            }
            _ => {}
        }
    }

    fn count_entries(&self, now_ms: u64) {
        let (inbound_requests, outbound_requests, unread_answers) = self.requests.counts();
        let sizes = Sizes {
            connections: self.peers.len(),
            dials: self.dials.len(),
            bans: self.scores.banned(now_ms).count(),
            inbound_requests,
            outbound_requests,
            unread_answers,
            queued_events: self.outbox.len(),
        };
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
    }

    fn on_tick(&mut self) {
        let now_ms = self.now_ms();
        if interceptor::updates_gate(self.scores.banned(now_ms).next().is_some()) {
            self.swarm
                .behaviour_mut()
                .gate
                .set_banned(self.scores.banned(now_ms));
        }
        self.dial_due(now_ms);
        self.check_peers(now_ms);
        self.check_backlogs();
        self.count_entries(now_ms);
        if buggify!("net.service.disconnect", 5_000)
            && let Some(peer) = self.peers.keys().next().copied()
        {
            // A connection may end at any time and is redialled.
            self.disconnect(peer, DisconnectReason::Closed);
        }
        if self.dropped > 0 && now_ms >= self.warned_ms + 10_000 {
            tracing::warn!(
                dropped = self.dropped,
                "gossip was dropped because the node does not keep up with its network"
            );
            self.dropped = 0;
            self.warned_ms = now_ms;
        }
    }

    /// True when the queue has room for an event that may be dropped.
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

/// Applies valid but unusual settings in some simulations.
fn apply_unusual_settings(config: &mut Config) {
    if buggify!("net.config.slow_dials") {
        config.dial.initial_ms *= 4;
        config.dial.max_ms *= 2;
    }
    if buggify!("net.config.fast_dials") {
        config.dial.initial_ms = 20;
        config.dial.max_ms = 200;
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
        config.limits.max_inbound = 2;
        config.limits.max_inbound_per_peer = 1;
    }
}
