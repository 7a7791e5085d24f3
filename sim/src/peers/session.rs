//! Peers that are no authorities: what their network services are given, and what they say of
//! themselves.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use alys_net::{
    ChainTag, Command, Config, Event, Events, Handle, NodeKey, PeerAddr, PeerId, Protocol,
    RequestId, SendError, Service,
};
use alys_runtime::select;
use alys_types::Height;
use alys_types::wire::{HeldVotes, Message, Status, StatusAnswer};

use crate::cluster::{PEER_PORT, Shared, node_ip};

/// An outsider whose network service runs as long as it asks for events. It says that it has
/// nothing but genesis.
pub struct Outsider {
    handle: Handle,
    events: Events,
    running: Pin<Box<dyn Future<Output = ()> + Send>>,
    status: Status,
}

impl Outsider {
    /// Starts the network service. `None`: it cannot.
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

    /// A full queue loses it, and that is all that happens.
    pub fn say(&self, command: Command) {
        let _ = self.handle.try_send(command);
    }

    /// Asks a node.
    ///
    /// # Errors
    /// The queue is full, or the service is over.
    pub fn ask(
        &self,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    ) -> Result<RequestId, SendError> {
        self.handle.request(peer, protocol, payload)
    }

    /// The next event; questions for its status are answered here. `None`: the service is over.
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

/// The status of somebody who has nothing but genesis.
fn status(shared: &Shared) -> Status {
    let genesis = &shared.chain.genesis;
    Status {
        genesis: genesis.hash(),
        fork_id: genesis.fork_id(),
        head_height: Height(0),
        head: genesis.hash(),
        highest: None,
        finalized: None,
        authority: None,
    }
}

/// Its answer to who asks for it.
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

/// What an outsider's network service needs: the chain, an identity, and all nodes as peers.
pub fn config(shared: &Shared, identity: [u8; 32], ip: IpAddr) -> Config {
    let genesis = &shared.chain.genesis;
    let chain = ChainTag {
        genesis: genesis.hash().0,
        fork: genesis.fork_id().0,
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
