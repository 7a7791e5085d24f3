//! An attacker that speaks libp2p: it opens streams of our protocols and writes arbitrary bytes.

use std::io;
use std::time::Duration;

use alys_runtime::net::Listener;
use alys_runtime::{block_on_main, spawn};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self as rr, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, Swarm, SwarmEvent};
use libp2p::{PeerId, StreamProtocol};

use super::{CHAIN, SOON, TestNode, config, eventually, key};
use crate::addr::to_multiaddr;
use crate::transport;
use crate::{Protocol, Topic};

/// Writes the "request" without a frame and reads until the other side closes the stream.
#[derive(Clone)]
struct Raw;

impl rr::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        futures::io::copy(io, &mut futures::io::sink()).await?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(1000).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Connects to the node and writes `bytes` on a stream of `protocol`, and repeats that after each
/// failure.
async fn attack(node: &TestNode, protocol: String, bytes: Vec<u8>) -> PeerId {
    let key = key(66);
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"))
        .await
        .expect("a free port");
    let transport = transport::build(&key, listener, Duration::from_secs(5)).expect("a good key");
    let name = StreamProtocol::try_from_owned(protocol).expect("begins with a slash");
    let behaviour = rr::Behaviour::with_codec(
        Raw,
        [(name, ProtocolSupport::Full)],
        rr::Config::default().with_request_timeout(Duration::from_secs(10)),
    );
    let swarm_config = swarm::Config::with_executor(|task| {
        spawn("raw", task);
    });
    let mut swarm = Swarm::new(transport, behaviour, key.peer_id(), swarm_config);
    let target = node.addr();
    let id = target.peer.expect("known");
    let addr = to_multiaddr(target.socket);
    spawn("raw", async move {
        let dial = || DialOpts::peer_id(id).addresses(vec![addr.clone()]).build();
        swarm.dial(dial()).expect("not connected yet");
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. }
                | SwarmEvent::Behaviour(
                    rr::Event::OutboundFailure { .. } | rr::Event::Message { .. },
                ) => {
                    if swarm.is_connected(&id) {
                        swarm.behaviour_mut().send_request(&id, bytes.clone());
                    }
                }
                SwarmEvent::OutgoingConnectionError { .. } => return,
                _ => {}
            }
        }
    });
    key.peer_id()
}

/// A gossip frame: protobuf after its length.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

fn varint(mut value: usize, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The protobuf field `tag` with these bytes.
fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    varint(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// An RPC that publishes `data` on `topic`, with `more` fields before.
fn publish(topic: Topic, data: &[u8], more: &[u8]) -> Vec<u8> {
    let mut message = more.to_vec();
    message.extend(field(2, data));
    message.extend(field(4, topic.full_name(&CHAIN).as_bytes()));
    frame(&field(2, &message))
}

#[test]
fn every_kind_of_malformed_frame_bans_its_sender_and_no_other_peer() {
    let gossip = "/meshsub/1.1.0".to_string();
    let status = Protocol::Status.full_name(&CHAIN);
    let headers = Protocol::HeadersByRange.full_name(&CHAIN);
    let mut endless = Vec::new();
    varint(usize::MAX / 2, &mut endless);
    endless.extend(vec![0; 9 * 1024 * 1024]);
    let attacks = [
        ("oversized request", headers, vec![0xff; 100]),
        ("status without a chain", status, vec![0, 0, 0, 1, 7]),
        (
            "gossip that is no protobuf",
            gossip.clone(),
            frame(&[0xff; 50]),
        ),
        ("gossip longer than any message", gossip.clone(), endless),
        (
            "a vote longer than allowed",
            gossip.clone(),
            publish(Topic::Approvals, &[1; 4000], &[]),
        ),
        (
            "a vote shorter than its envelope",
            gossip.clone(),
            publish(Topic::Approvals, &[1; 3], &[]),
        ),
        (
            "gossip with an author",
            gossip,
            publish(Topic::Approvals, &[1; 30], &field(1, &[9; 10])),
        ),
    ];
    for (what, protocol, bytes) in attacks {
        block_on_main(async move {
            let mut patient = config(1, vec![]);
            // A short timeout would ban the attacker for its missing status.
            patient.timing.handshake_timeout = Duration::from_secs(600);
            let victim = &TestNode::start(patient).await;
            let other = TestNode::start(config(2, vec![victim.addr()])).await;
            victim.connected_with(1).await;
            other.connected_with(1).await;
            let raw = attack(victim, protocol, bytes).await;
            eventually(what, SOON, || victim.seen().banned == [raw]).await;
            other.publish(Topic::Blocks, b"life goes on");
            eventually("gossip", SOON, || victim.seen().times(b"life goes on") == 1).await;
            assert_eq!(victim.seen().peers(), 1);
        });
    }
}
