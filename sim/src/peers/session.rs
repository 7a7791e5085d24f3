//! Sessions of peers that are not authorities: the configuration of their network services, and
//! their status.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use alys_net::{
    ChainTag, Command, Config, Event, Events, Handle, NodeKey, PeerAddr, PeerId, Protocol,
    RequestId, SendError, Service,
};
use alys_runtime::sim::World;
use alys_runtime::{select, spawn, time};
use alys_types::Height;
use alys_types::wire::{HeldVotes, Message, Status, StatusAnswer};

use crate::cluster::{PEER_PORT, Shared, node_ip};

/// A peer without a vote. Its network service runs only while [`Self::next`] is polled, and its
/// status claims nothing but genesis.
pub struct Outsider {
    handle: Handle,
    events: Events,
    running: Pin<Box<dyn Future<Output = ()> + Send>>,
    status: Status,
}

impl Outsider {
    /// Binds the network service. `None` if that fails.
    pub async fn join(shared: &Shared, config: Config) -> Option<Self> {
        let (service, handle, events) = Service::bind(config).await.ok()?;
        let this = Self {
            handle,
            events,
            running: Box::pin(service.run()),
            status: status(shared),
        };
        this.say(Command::SetStatus {
            status: this.status.encode(),
        });
        Some(this)
    }

    /// Sends a command; a full queue drops it.
    pub fn say(&self, command: Command) {
        let _ = self.handle.try_send(command);
    }

    /// Sends a request to a node.
    ///
    /// # Errors
    /// The queue is full, or the service has ended.
    pub fn ask(
        &self,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    ) -> Result<RequestId, SendError> {
        self.handle.request(peer, protocol, payload)
    }

    /// The next event; requests for the status are answered here. `None`: the service has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = select! {
                () = &mut self.running => return None,
                event = self.events.next() => event?,
            };
            match event {
                Event::Request {
                    id,
                    protocol: Protocol::Status,
                    ..
                } => {
                    self.say(Command::Respond {
                        id,
                        response: Ok(answer(&self.status)),
                    });
                }
                event => return Some(event),
            }
        }
    }
}

/// Adds the machine of a peer that returns with another identity: each incarnation of its process
/// runs `life` for at most `lifetime`, and the next one starts `rest` later.
pub fn add_returning<F, Life>(
    world: World,
    name: &str,
    ip: IpAddr,
    lifetime: Duration,
    rest: Duration,
    life: F,
) where
    F: Fn() -> Life + Send + Sync + 'static,
    Life: Future<Output = ()> + Send + 'static,
{
    let machine = world.node(name, ip, move || {
        let life = life();
        async move {
            // The outcome is irrelevant because the process is restarted.
            let _ended = time::timeout(lifetime, life).await;
        }
    });
    spawn("returning peer", async move {
        loop {
            time::sleep(lifetime + rest).await;
            world.restart(machine);
        }
    });
}

/// A status that claims nothing but genesis.
fn status(shared: &Shared) -> Status {
    let genesis = &shared.chain.genesis;
    Status {
        genesis: genesis.hash(),
        fork_id: genesis.fork_id(Height(0)),
        head_height: Height(0),
        head: genesis.hash(),
        highest: None,
        finalized: None,
        authority: None,
        slot: genesis.header().slot,
    }
}

/// Encodes the answer to a status request.
fn answer(status: &Status) -> Vec<u8> {
    StatusAnswer {
        status: status.clone(),
        held: HeldVotes {
            approval: None,
            confirmation: None,
        },
    }
    .encode()
}

/// The configuration of a peer's network service, with all nodes as peers.
pub fn config(shared: &Shared, identity: [u8; 32], ip: IpAddr) -> Config {
    let genesis = &shared.chain.genesis;
    let chain = ChainTag {
        genesis: genesis.hash().0,
    };
    let peers = (0..shared.nodes).map(|node| PeerAddr {
        socket: SocketAddr::new(node_ip(node), PEER_PORT),
        peer: None,
    });
    Config::new(
        NodeKey::from_bytes(identity),
        chain,
        SocketAddr::new(ip, PEER_PORT),
        peers.collect(),
    )
}
