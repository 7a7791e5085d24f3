use std::net::SocketAddr;
use std::time::Duration;

use alys_runtime::block_on_main;
use alys_runtime::io::AsyncWriteExt;
use alys_runtime::net::Stream;

use super::{CHAIN, Puppet, SOON, config, eventually, key, pause};
use crate::{ChainTag, Command, Gone, Service, SetupError, Topic};

#[test]
fn simultaneous_dials_end_with_one_stable_connection_each() {
    block_on_main(async {
        let puppets = Puppet::federation(5).await;
        for puppet in &puppets {
            puppet.connected_with(4).await;
        }
        pause(3000).await;
        let before: Vec<usize> = puppets
            .iter()
            .map(|puppet| puppet.seen().arrivals)
            .collect();
        pause(3000).await;
        let after: Vec<usize> = puppets
            .iter()
            .map(|puppet| puppet.seen().arrivals)
            .collect();
        assert_eq!(before, after, "nobody comes and goes");
        assert!(puppets.iter().all(|puppet| puppet.seen().peers() == 4));
    });
}

#[test]
fn statuses_are_exchanged_on_every_connection() {
    block_on_main(async {
        let puppets = Puppet::federation(2).await;
        for (puppet, other) in [(&puppets[0], &puppets[1]), (&puppets[1], &puppets[0])] {
            let expected = Some(b"answered".to_vec());
            eventually("a status", SOON, || {
                puppet.seen().statuses.get(&other.id()).cloned() == expected
            })
            .await;
        }
    });
}

#[test]
fn another_genesis_or_fork_ends_the_connection_with_both_named() {
    let strangers = [
        (
            ChainTag {
                genesis: [0xb2; 32],
                ..CHAIN
            },
            "wrong genesis",
            "a1".repeat(32),
            "b2".repeat(32),
        ),
        (
            ChainTag {
                fork: [2; 32],
                ..CHAIN
            },
            "wrong fork id",
            "01".repeat(32),
            "02".repeat(32),
        ),
    ];
    for (chain, what, ours, theirs) in strangers {
        block_on_main(async move {
            let puppet = Puppet::start(config(1, vec![])).await;
            let mut other = config(2, vec![puppet.addr_only()]);
            other.chain = chain;
            let other = Puppet::start(other).await;
            for (here, there, ours, theirs) in [
                (&puppet, &other, &ours, &theirs),
                (&other, &puppet, &theirs, &ours),
            ] {
                eventually(what, SOON, || !here.seen().wrong_chain.is_empty()).await;
                let (who, text) = here.seen().wrong_chain[0].clone();
                assert_eq!(who, there.id());
                assert_eq!(
                    text,
                    format!("{what}: ours is {ours}, the peer's is {theirs}")
                );
            }
            pause(1500).await;
            for here in [&puppet, &other] {
                assert_eq!(here.seen().peers(), 0, "they stay apart");
                assert_eq!(here.seen().wrong_chain.len(), 1, "and it is said once");
            }
        });
    }
}

#[test]
fn a_restarted_peer_is_found_again() {
    block_on_main(async {
        let stays = Puppet::start(config(1, vec![])).await;
        let goes = Puppet::start(config(2, vec![stays.addr_only()])).await;
        let at = goes.addr();
        stays.command(Command::Dial { addr: at.clone() });
        stays.connected_with(1).await;
        goes.connected_with(1).await;
        goes.stop().await;
        // Both dial, so one of two connections may have been closed before.
        let closed = (at.peer.expect("known"), Gone::Closed);
        eventually("the farewell", SOON, || {
            stays.seen().peers() == 0 && stays.seen().gone.contains(&closed)
        })
        .await;
        pause(3000).await;
        // It comes back knowing nobody, so it has to be dialled.
        let mut again = config(2, vec![]);
        again.listen = at.socket;
        let again = Puppet::start(again).await;
        stays.connected_with(1).await;
        again.connected_with(1).await;
        stays.publish(Topic::Approvals, b"welcome");
        eventually("gossip", SOON, || again.seen().times(b"welcome") == 1).await;
    });
}

#[test]
fn an_aborted_service_leaves_nothing_behind() {
    block_on_main(async {
        let stays = Puppet::start(config(1, vec![])).await;
        let dies = Puppet::start(config(2, vec![stays.addr()])).await;
        stays.connected_with(1).await;
        let socket = dies.handle.local_addr();
        dies.service.abort();
        eventually("it is noticed", SOON, || stays.seen().peers() == 0).await;
        let mut again = config(2, vec![stays.addr()]);
        again.listen = socket;
        let again = Puppet::start(again).await;
        stays.connected_with(1).await;
        again.connected_with(1).await;
    });
}

#[test]
fn a_peer_that_says_nothing_of_itself_is_dropped() {
    block_on_main(async {
        let mut strict = config(1, vec![]);
        strict.timing.handshake_timeout = Duration::from_secs(1);
        let strict = Puppet::start(strict).await;
        // Its node never sends a status, nor answers any.
        let (service, handle, mut events) = Service::bind(config(2, vec![strict.addr()]))
            .await
            .expect("the port is free");
        let mute = handle.peer_id();
        alys_runtime::spawn("net", service.run());
        alys_runtime::spawn(
            "events",
            async move { while events.next().await.is_some() {} },
        );
        // 20 points each time: five times.
        eventually("the ban", 2 * SOON, || strict.seen().banned == [mute]).await;
        assert_eq!(strict.seen().arrivals, 0);
        drop(handle);
    });
}

#[test]
fn strangers_find_no_place_when_all_are_taken_but_known_peers_do() {
    block_on_main(async {
        let mut small = config(1, vec![]);
        small.limits.max_peers = 2;
        let small = Puppet::start(small).await;
        let mut guests = Vec::new();
        for n in 2..=4 {
            guests.push(Puppet::start(config(n, vec![small.addr()])).await);
        }
        small.connected_with(2).await;
        pause(1500).await;
        assert_eq!(small.seen().peers(), 2);
        let outside = guests
            .iter()
            .find(|guest| guest.seen().peers() == 0)
            .expect("one found no place");
        small.command(Command::Dial {
            addr: outside.addr(),
        });
        eventually("room for a known one", SOON, || small.seen().peers() == 3).await;
    });
}

#[test]
fn a_banned_peer_is_refused_and_a_pardoned_one_is_not() {
    block_on_main(async {
        let judge = Puppet::start(config(1, vec![])).await;
        // One side dials: of two connections one would be closed, and that is a farewell too.
        let other = Puppet::start(config(2, vec![judge.addr_only()])).await;
        judge.connected_with(1).await;
        judge.command(Command::Ban {
            peer: other.id(),
            duration: Duration::from_secs(3600),
        });
        eventually("the farewell", SOON, || {
            judge.seen().gone == [(other.id(), Gone::Banned)]
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
fn a_used_port_is_an_error_that_names_it() {
    block_on_main(async {
        let first = Puppet::start(config(1, vec![])).await;
        let mut second = config(2, vec![]);
        second.listen = first.handle.local_addr();
        let Err(error) = Service::bind(second).await else {
            panic!("two services on one port")
        };
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {}", first.handle.local_addr())
        );
        assert!(
            matches!(error, SetupError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse)
        );
    });
}

#[test]
fn garbage_on_the_port_and_dead_addresses_disturb_nobody() {
    block_on_main(async {
        let puppet = Puppet::start(config(1, vec![])).await;
        let mut streams = Vec::new();
        for n in 0..40u8 {
            let mut stream = Stream::connect(puppet.handle.local_addr())
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
            vec![puppet.addr(), "127.0.0.1:1".parse().expect("an address")],
        );
        let other = Puppet::start(other).await;
        other.command(Command::Dial {
            addr: other.addr_only(),
        });
        // Nobody, but expected, at a known address.
        other.command(Command::Dial {
            addr: crate::PeerAddr {
                socket: nowhere,
                peer: Some(key(9).peer_id()),
            },
        });
        puppet.connected_with(1).await;
        other.connected_with(1).await;
        pause(1000).await;
        assert_eq!(other.seen().peers(), 1);
        assert_eq!(other.seen().arrivals, 1, "nobody comes and goes");
    });
}

#[test]
fn somebody_else_at_a_known_address_is_not_taken_for_the_peer() {
    block_on_main(async {
        let puppet = Puppet::start(config(1, vec![])).await;
        let expected = crate::PeerAddr {
            socket: puppet.handle.local_addr(),
            peer: Some(key(9).peer_id()),
        };
        let other = Puppet::start(config(2, vec![expected])).await;
        pause(1500).await;
        assert_eq!((other.seen().peers(), puppet.seen().peers()), (0, 0));
        other.command(Command::Dial {
            addr: puppet.addr(),
        });
        other.connected_with(1).await;
    });
}

#[test]
fn the_service_ends_with_its_last_handle_and_with_its_events() {
    block_on_main(async {
        let (service, handle, events) =
            Service::bind(config(1, vec![])).await.expect("a free port");
        let running = alys_runtime::spawn("net", service.run());
        pause(50).await;
        drop(handle);
        running.await.expect("it ends");
        drop(events);

        let other = Puppet::start(config(2, vec![])).await;
        let (service, handle, events) = Service::bind(config(3, vec![other.addr()]))
            .await
            .expect("a free port");
        let running = alys_runtime::spawn("net", service.run());
        drop(events);
        // Its first event finds nobody.
        handle
            .try_send(Command::SetStatus { status: vec![] })
            .expect("room");
        running.await.expect("it ends");
    });
}
