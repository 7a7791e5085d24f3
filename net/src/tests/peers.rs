use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::block_on_main;
use alys_runtime::io::AsyncWriteExt;
use alys_runtime::net::Stream;
use alys_types::Height;
use alys_types::bls::PublicKeyBytes;
use alys_types::forks::ForkMismatch;

use super::{SOON, Seen, TestNode, config, eventually, key, pause, play};
use crate::{ChainTag, Command, DisconnectReason, Service, SetupError, Topic};

#[test]
fn simultaneous_dials_leave_one_stable_connection_per_pair() {
    block_on_main(async {
        let nodes = TestNode::federation(5).await;
        for node in &nodes {
            node.connected_with(4).await;
        }
        pause(3000).await;
        let before: Vec<usize> = nodes.iter().map(|node| node.seen().arrivals).collect();
        pause(3000).await;
        let after: Vec<usize> = nodes.iter().map(|node| node.seen().arrivals).collect();
        assert_eq!(before, after, "connections are stable");
        assert!(nodes.iter().all(|node| node.seen().peers() == 4));
    });
}

#[test]
fn statuses_are_exchanged_on_every_connection() {
    block_on_main(async {
        let nodes = TestNode::federation(2).await;
        for (node, other) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
            let expected = Some(b"answered".to_vec());
            eventually("a status", SOON, || {
                node.seen().statuses.get(&other.id()).cloned() == expected
            })
            .await;
        }
    });
}

#[test]
fn another_genesis_ends_the_connection_with_both_named() {
    let chain = ChainTag {
        genesis: [0xb2; 32],
    };
    let what = "wrong genesis";
    let (ours, theirs) = ("a1".repeat(32), "b2".repeat(32));
    block_on_main(async move {
        let node = TestNode::start(config(1, vec![])).await;
        let mut other = config(2, vec![node.addr_only()]);
        other.chain = chain;
        let other = TestNode::start(other).await;
        for (here, there, ours, theirs) in [
            (&node, &other, &ours, &theirs),
            (&other, &node, &theirs, &ours),
        ] {
            eventually(what, SOON, || !here.seen().wrong_chain.is_empty()).await;
            let (peer, text) = here.seen().wrong_chain[0].clone();
            assert_eq!(peer, there.id());
            assert_eq!(
                text,
                format!("{what}: ours is {ours}, the peer's is {theirs}")
            );
        }
        pause(1500).await;
        for here in [&node, &other] {
            assert_eq!(here.seen().peers(), 0, "no connection");
            assert_eq!(here.seen().wrong_chain.len(), 1, "reported once");
        }
    });
}

#[test]
fn a_restarted_peer_is_redialled() {
    block_on_main(async {
        let stays = TestNode::start(config(1, vec![])).await;
        let goes = TestNode::start(config(2, vec![stays.addr_only()])).await;
        let at = goes.addr();
        stays.command(Command::Dial { addr: at.clone() });
        stays.connected_with(1).await;
        goes.connected_with(1).await;
        goes.stop().await;
        // Both sides dial, so a duplicate connection may have closed before.
        let closed = (at.peer.expect("known"), DisconnectReason::Closed);
        eventually("disconnected", SOON, || {
            stays.seen().peers() == 0 && stays.seen().disconnected.contains(&closed)
        })
        .await;
        pause(3000).await;
        // It restarts without known addresses, so the other side must dial.
        let mut again = config(2, vec![]);
        again.listen = at.socket;
        let again = TestNode::start(again).await;
        stays.connected_with(1).await;
        again.connected_with(1).await;
        stays.publish(Topic::Approvals, b"welcome");
        eventually("gossip", SOON, || again.seen().times(b"welcome") == 1).await;
    });
}

#[test]
fn an_aborted_service_releases_its_port_and_connections() {
    block_on_main(async {
        let stays = TestNode::start(config(1, vec![])).await;
        let dies = TestNode::start(config(2, vec![stays.addr()])).await;
        stays.connected_with(1).await;
        let socket = dies.handle.local_addr();
        dies.service.abort();
        eventually("disconnected", SOON, || stays.seen().peers() == 0).await;
        let mut again = config(2, vec![stays.addr()]);
        again.listen = socket;
        let again = TestNode::start(again).await;
        stays.connected_with(1).await;
        again.connected_with(1).await;
    });
}

#[test]
fn a_peer_without_a_status_is_banned() {
    block_on_main(async {
        let mut strict = config(1, vec![]);
        strict.timing.handshake_timeout = Duration::from_secs(1);
        let strict = TestNode::start(strict).await;
        // Its node neither sends nor answers a status.
        let (service, handle, mut events) = Service::bind(config(2, vec![strict.addr()]))
            .await
            .expect("the port is free");
        let mute = handle.peer_id();
        alys_runtime::spawn("net", service.run());
        alys_runtime::spawn(
            "events",
            async move { while events.next().await.is_some() {} },
        );
        // Five times 20 points lead to a ban.
        eventually("the ban", 2 * SOON, || strict.seen().banned == [mute]).await;
        assert_eq!(strict.seen().arrivals, 0);
        drop(handle);
    });
}

#[test]
fn known_peers_may_exceed_the_peer_limit_and_unknown_ones_may_not() {
    block_on_main(async {
        let mut small = config(1, vec![]);
        small.limits.max_peers = 2;
        small.limits.max_proving = 0;
        let small = TestNode::start(small).await;
        let mut others = Vec::new();
        for n in 2..=4 {
            others.push(TestNode::start(config(n, vec![small.addr()])).await);
        }
        small.connected_with(2).await;
        pause(1500).await;
        assert_eq!(small.seen().peers(), 2);
        let outside = others
            .iter()
            .find(|other| other.seen().peers() == 0)
            .expect("one was refused");
        small.command(Command::Dial {
            addr: outside.addr(),
        });
        eventually("the known peer is connected", SOON, || {
            small.seen().peers() == 3
        })
        .await;
    });
}

/// No configuration names the authority.
#[test]
fn an_authority_has_a_place_although_strangers_take_all() {
    block_on_main(async {
        let mut small = config(1, vec![]);
        small.limits.max_peers = 1;
        small.limits.max_proving = 1;
        small.timing.handshake_timeout = Duration::from_secs(2);
        let small = TestNode::start(small).await;
        let stranger = TestNode::start(config(2, vec![small.addr()])).await;
        small.connected_with(1).await;
        stranger.connected_with(1).await;
        let authority = TestNode::start(config(3, vec![small.addr()])).await;
        eventually("it may prove itself", SOON, || small.seen().peers() == 2).await;
        small.command(Command::Vouch {
            peer: authority.id(),
            key: PublicKeyBytes([1; 48]),
        });
        pause(3000).await;
        assert_eq!(small.seen().peers(), 2, "both stay");
        assert!(small.seen().disconnected.is_empty());
        let other = TestNode::start(config(4, vec![small.addr()])).await;
        let full = (other.id(), DisconnectReason::Full);
        eventually("a stranger beyond the limit leaves", SOON, || {
            small.seen().disconnected.contains(&full)
        })
        .await;
    });
}

/// Silent connections lose their places to newer ones.
#[test]
fn hundreds_of_silent_connections_do_not_keep_a_peer_out() {
    block_on_main(async {
        let node = TestNode::start(config(1, vec![])).await;
        let mut silent = Vec::new();
        for _ in 0..200 {
            let stream = Stream::connect(node.handle.local_addr()).await;
            silent.push(stream.expect("it listens"));
        }
        let other = TestNode::start(config(2, vec![node.addr()])).await;
        // Sooner than the silent ones time out.
        let soon = Duration::from_secs(3);
        eventually("connected", soon, || other.seen().peers() == 1).await;
        drop(silent);
    });
}

/// A peer that reads nothing costs a limited number of bytes.
#[test]
fn a_peer_that_does_not_read_is_disconnected_before_it_is_silent() {
    block_on_main(async {
        let mut small = config(1, vec![]);
        small.limits.max_unread_bytes = 4 << 20;
        let node = TestNode::start(small).await;
        let (service, handle, events) = Service::bind(config(2, vec![node.addr()]))
            .await
            .expect("the port is free");
        let reader = handle.peer_id();
        let seen = Arc::new(Mutex::new(Seen::default()));
        alys_runtime::spawn("reader", play(handle, events, seen));
        // From here on nothing polls its service, whose connection is open. The task of the
        // connection reads some messages ahead, until its queue of events is full.
        let mut running = Box::pin(service.run());
        alys_runtime::select! {
            () = &mut running => panic!("it runs"),
            () = node.connected_with(1) => {}
        }
        let slow = (reader, DisconnectReason::SlowReader);
        // The kernel's buffers, whose size is the machine's, take the first of them.
        let sent = AtomicU32::new(0);
        eventually("disconnected", SOON, || {
            let n = sent.fetch_add(1, Ordering::Relaxed);
            node.publish(Topic::Blocks, &n.to_le_bytes().repeat(64 * 1024));
            node.seen().disconnected.contains(&slow)
        })
        .await;
        drop(running);
    });
}

#[test]
fn a_banned_peer_is_refused_and_a_pardoned_one_is_not() {
    block_on_main(async {
        let judge = TestNode::start(config(1, vec![])).await;
        // Only one side dials, because closing a duplicate connection would be a disconnection too.
        let other = TestNode::start(config(2, vec![judge.addr_only()])).await;
        judge.connected_with(1).await;
        judge.command(Command::Ban {
            peer: other.id(),
            duration: Duration::from_secs(3600),
        });
        eventually("disconnected", SOON, || {
            judge.seen().disconnected == [(other.id(), DisconnectReason::Banned)]
        })
        .await;
        pause(1500).await;
        assert_eq!(judge.seen().peers(), 0);
        judge.command(Command::Pardon { peer: other.id() });
        judge.command(Command::Dial {
            addr: other.addr_only(),
        });
        judge.connected_with(1).await;
    });
}

#[test]
fn a_peer_with_other_upgrades_is_refused_when_the_node_says_so() {
    block_on_main(async {
        let judge = TestNode::start(config(1, vec![])).await;
        let other = TestNode::start(config(2, vec![judge.addr_only()])).await;
        judge.connected_with(1).await;
        let mismatch = ForkMismatch::Outdated { ours: Height(7) };
        judge.command(Command::Refuse {
            peer: other.id(),
            mismatch,
        });
        eventually("disconnected", SOON, || {
            judge.seen().disconnected == [(other.id(), DisconnectReason::WrongChain)]
        })
        .await;
        let text = format!("wrong fork id: {mismatch}");
        assert_eq!(judge.seen().wrong_chain, [(other.id(), text)]);
        pause(1500).await;
        assert_eq!(judge.seen().peers(), 0);
    });
}

#[test]
fn a_used_port_is_an_error_that_names_it() {
    block_on_main(async {
        let first = TestNode::start(config(1, vec![])).await;
        let mut second = config(2, vec![]);
        second.listen = first.handle.local_addr();
        let Err(error) = Service::bind(second).await else {
            panic!("two services on one port")
        };
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {}", first.handle.local_addr())
        );
        let SetupError::Listen { source, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
    });
}

#[test]
fn garbage_on_the_port_and_dead_addresses_do_no_harm() {
    block_on_main(async {
        let node = TestNode::start(config(1, vec![])).await;
        let mut streams = Vec::new();
        for n in 0..40u8 {
            let mut stream = Stream::connect(node.handle.local_addr())
                .await
                .expect("it listens");
            stream
                .write_all(&vec![n; 1000])
                .await
                .expect("there is room");
            streams.push(stream);
        }
        drop(streams);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let other = config(
            2,
            vec![node.addr(), "127.0.0.1:1".parse().expect("an address")],
        );
        let other = TestNode::start(other).await;
        other.command(Command::Dial {
            addr: other.addr_only(),
        });
        // No node listens at this known address.
        other.command(Command::Dial {
            addr: crate::PeerAddr {
                socket: nowhere,
                peer: Some(key(9).peer_id()),
            },
        });
        node.connected_with(1).await;
        other.connected_with(1).await;
        pause(1000).await;
        assert_eq!(other.seen().peers(), 1);
        assert_eq!(other.seen().arrivals, 1, "the connection is stable");
    });
}

#[test]
fn another_identity_at_a_known_address_is_refused() {
    block_on_main(async {
        let node = TestNode::start(config(1, vec![])).await;
        let expected = crate::PeerAddr {
            socket: node.handle.local_addr(),
            peer: Some(key(9).peer_id()),
        };
        let other = TestNode::start(config(2, vec![expected])).await;
        pause(1500).await;
        assert_eq!((other.seen().peers(), node.seen().peers()), (0, 0));
        other.command(Command::Dial { addr: node.addr() });
        other.connected_with(1).await;
    });
}

#[test]
fn dropping_the_last_handle_or_the_events_ends_the_service() {
    block_on_main(async {
        let (service, handle, events) =
            Service::bind(config(1, vec![])).await.expect("a free port");
        let running = alys_runtime::spawn("net", service.run());
        pause(50).await;
        drop(handle);
        running.await.expect("it ends");
        drop(events);

        let other = TestNode::start(config(2, vec![])).await;
        let (service, handle, events) = Service::bind(config(3, vec![other.addr()]))
            .await
            .expect("a free port");
        let running = alys_runtime::spawn("net", service.run());
        drop(events);
        // Emitting its first event fails.
        handle
            .try_send(Command::SetStatus { status: vec![] })
            .expect("room");
        running.await.expect("it ends");
    });
}
