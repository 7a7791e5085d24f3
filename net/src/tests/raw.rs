//! An attacker that speaks libp2p: it opens streams of our protocols and writes arbitrary bytes.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::net::Listener;
use alys_runtime::{block_on_main, spawn};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self as rr, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, Swarm, SwarmEvent};
use libp2p::{PeerId, StreamProtocol};

use super::requests::ask;
use super::{CHAIN, HUGE, SOON, TestNode, config, eventually, key};
use crate::addr::to_multiaddr;
use crate::transport;
use crate::{Command, Protocol, Refusal, RequestError, Topic};

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

/// Writes the "request" as [`Raw`] does, reads the first byte of the response, which is its tag,
/// and no more.
#[derive(Clone, Default)]
struct TagReader(Arc<Mutex<Vec<u8>>>);

impl rr::Codec for TagReader {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        name: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        Raw.read_request(name, io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut tag = [0];
        io.read_exact(&mut tag).await?;
        self.0.lock().expect("no panic").push(tag[0]);
        std::future::pending().await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        name: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        Raw.write_request(name, io, bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        name: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        Raw.write_response(name, io, bytes).await
    }
}

/// A libp2p node that speaks `protocol` with this codec and dials the node.
async fn dial<C>(
    node: &TestNode,
    protocol: String,
    codec: C,
    timeout: Duration,
) -> Swarm<rr::Behaviour<C>>
where
    C: rr::Codec<Protocol = StreamProtocol> + Clone + Send + 'static,
{
    let key = key(66);
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"))
        .await
        .expect("a free port");
    let transport = transport::build(&key, listener, Duration::from_secs(5)).expect("a good key");
    let name = StreamProtocol::try_from_owned(protocol).expect("begins with a slash");
    let behaviour = rr::Behaviour::with_codec(
        codec,
        [(name, ProtocolSupport::Full)],
        rr::Config::default().with_request_timeout(timeout),
    );
    let swarm_config = swarm::Config::with_executor(|task| {
        spawn("raw", task);
    });
    let mut swarm = Swarm::new(transport, behaviour, key.peer_id(), swarm_config);
    let addr = to_multiaddr(node.handle.local_addr());
    let target = DialOpts::peer_id(node.id()).addresses(vec![addr]).build();
    swarm.dial(target).expect("not connected yet");
    swarm
}

/// Connects to the node and writes `bytes` on a stream of `protocol`, and repeats that after each
/// failure.
async fn attack(node: &TestNode, protocol: String, bytes: Vec<u8>) -> PeerId {
    let mut swarm = dial(node, protocol, Raw, Duration::from_secs(10)).await;
    let own = *swarm.local_peer_id();
    let id = node.id();
    spawn("raw", async move {
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
    own
}

/// Answers that a peer does not read are bounded, and those of all strangers leave room for the
/// federation.
#[test]
fn a_peer_that_does_not_read_its_answers_gets_no_more_of_them() {
    block_on_main(async {
        // Larger than the window of a stream, so that an answer that is not read stays unsent.
        let answer = 1 << 20;
        let mut small = config(1, vec![]);
        small.limits.max_answer_bytes_per_peer = 4 * answer;
        small.limits.max_answer_bytes = 8 * answer;
        // The answers wait for the whole test.
        small.timing.request_timeout = Duration::from_secs(600);
        small.timing.handshake_timeout = Duration::from_secs(600);
        let node = TestNode::start(small).await;
        let tags = TagReader::default();
        let name = Protocol::BlocksByHash.full_name(&CHAIN);
        let mut reader = dial(&node, name, tags.clone(), Duration::from_secs(600)).await;
        let request = [&(HUGE.len() as u32).to_be_bytes(), HUGE].concat();
        let id = node.id();
        spawn("raw", async move {
            loop {
                let event = reader.select_next_some().await;
                if matches!(event, SwarmEvent::ConnectionEstablished { .. }) {
                    for _ in 0..5 {
                        reader.behaviour_mut().send_request(&id, request.clone());
                    }
                }
            }
        });
        let read = || {
            let mut tags = tags.0.lock().expect("no panic").clone();
            tags.sort_unstable();
            tags
        };
        eventually("five answers", SOON, || read().len() == 5).await;
        // The tag of "busy" is 1.
        assert_eq!(read(), [0, 0, 0, 0, 1]);

        // Together the strangers have the half that this one took, and known peers the rest.
        let other = TestNode::start(config(2, vec![node.addr()])).await;
        node.connected_with(1).await;
        other.connected_with(1).await;
        let refused = ask(&other, &node, Protocol::BlocksByHash, HUGE).await;
        assert_eq!(refused, Err(RequestError::Refused(Refusal::Busy)));
        node.command(Command::Dial { addr: other.addr() });
        let served = ask(&other, &node, Protocol::BlocksByHash, HUGE).await;
        assert_eq!(served.map(|answer| answer.len()), Ok(answer));
    });
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
