//! The libp2p protocols of a node, combined into one behaviour.

use std::time::Duration;

use libp2p::swarm::NetworkBehaviour;
use libp2p::{StreamProtocol, identify, ping, request_response as rr};

use crate::codec::{Codec, Request, Response};
use crate::config::Config;
use crate::gate::{Gate, GateLimits};
use crate::gossip;
use crate::handshakes::{Places, Upgrades};
use crate::service::SetupError;
use crate::wire::Protocol;

pub(crate) type Channel = rr::ResponseChannel<Response>;
pub(crate) type RequestEvent = rr::Event<Request, Response>;

/// Time between two identify messages on one connection. Long, because their contents never change.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(300);

/// The gate is the first field, so that the other behaviours never see a connection that it
/// refuses.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) gate: Gate,
    pub(crate) gossip: gossip::Behaviour,
    status: rr::Behaviour<Codec>,
    headers_by_range: rr::Behaviour<Codec>,
    blocks_by_range: rr::Behaviour<Codec>,
    blocks_by_hash: rr::Behaviour<Codec>,
    receipts: rr::Behaviour<Codec>,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        config: &Config,
        clock: Box<dyn Fn() -> u64 + Send>,
        upgrades: Upgrades,
    ) -> Result<Self, SetupError> {
        let limits = GateLimits {
            max_peers: config.limits.max_peers,
            max_proving: config.limits.max_proving,
            proving_ms: millis(config.timing.handshake_timeout),
            places: Places {
                strangers: config.limits.max_pending_strangers,
                known: config.limits.max_pending_known,
            },
            crossing_ms: millis(config.timing.crossing_window),
        };
        let requests = |protocol| requests(config, protocol);
        Ok(Self {
            gate: Gate::new(config.key.peer_id(), limits, clock, upgrades),
            gossip: gossip::Behaviour::new(&config.chain, config.timing.heartbeat)?,
            status: requests(Protocol::Status)?,
            headers_by_range: requests(Protocol::HeadersByRange)?,
            blocks_by_range: requests(Protocol::BlocksByRange)?,
            blocks_by_hash: requests(Protocol::BlocksByHash)?,
            receipts: requests(Protocol::Receipts)?,
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(config.timing.ping_interval)
                    .with_timeout(config.timing.ping_timeout),
            ),
            identify: identify::Behaviour::new(
                identify::Config::new(
                    config.chain.identify_version(),
                    config.key.keypair().public(),
                )
                .with_agent_version(concat!("alys/", env!("CARGO_PKG_VERSION")).to_owned())
                .with_interval(IDENTIFY_INTERVAL)
                .with_cache_size(0),
            ),
        })
    }

    /// The request/response behaviour of a protocol. Each protocol has its own, because a shared
    /// one would let the remote side choose among the protocols.
    pub(crate) fn requests(&mut self, protocol: Protocol) -> &mut rr::Behaviour<Codec> {
        match protocol {
            Protocol::Status => &mut self.status,
            Protocol::HeadersByRange => &mut self.headers_by_range,
            Protocol::BlocksByRange => &mut self.blocks_by_range,
            Protocol::BlocksByHash => &mut self.blocks_by_hash,
            Protocol::Receipts => &mut self.receipts,
        }
    }
}

/// A [`BehaviourEvent`] with the request/response events of all protocols in one variant.
pub(crate) enum ProtocolEvent {
    Gossip(gossip::Event),
    Requests(Protocol, RequestEvent),
    Ping(ping::Event),
    Identify(identify::Event),
}

impl From<BehaviourEvent> for ProtocolEvent {
    fn from(event: BehaviourEvent) -> Self {
        match event {
            BehaviourEvent::Gate(never) => match never {},
            BehaviourEvent::Gossip(event) => Self::Gossip(event),
            BehaviourEvent::Status(event) => Self::Requests(Protocol::Status, event),
            BehaviourEvent::HeadersByRange(event) => {
                Self::Requests(Protocol::HeadersByRange, event)
            }
            BehaviourEvent::BlocksByRange(event) => Self::Requests(Protocol::BlocksByRange, event),
            BehaviourEvent::BlocksByHash(event) => Self::Requests(Protocol::BlocksByHash, event),
            BehaviourEvent::Receipts(event) => Self::Requests(Protocol::Receipts, event),
            BehaviourEvent::Ping(event) => Self::Ping(event),
            BehaviourEvent::Identify(event) => Self::Identify(event),
        }
    }
}

fn requests(config: &Config, protocol: Protocol) -> Result<rr::Behaviour<Codec>, SetupError> {
    let name = StreamProtocol::try_from_owned(protocol.full_name(&config.chain))
        .map_err(|_| SetupError::ProtocolName { protocol })?;
    let behaviour = rr::Config::default()
        .with_request_timeout(config.timing.request_timeout)
        // The limit covers both directions of a connection, so it exceeds the requests that a peer
        // may have open; a busy peer then cannot block our own requests.
        .with_max_concurrent_streams(4 * config.limits.max_inbound_per_peer);
    Ok(rr::Behaviour::with_codec(
        Codec {
            protocol,
            max_response: config.limits.max_response(protocol),
        },
        [(name, rr::ProtocolSupport::Full)],
        behaviour,
    ))
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
