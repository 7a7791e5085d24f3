use std::time::Duration;

use alys_runtime::{block_on_main, spawn, time};

use super::{BAD, Puppet, SOON, STALE, config, eventually, pause};
use crate::{Command, Event, PeerAddr, Protocol, Refusal, RequestError, Service, Topic};

#[test]
fn four_services_find_each_other_and_gossip_on_every_topic() {
    block_on_main(async {
        let begin = time::now();
        let puppets = Puppet::federation(4).await;
        for puppet in &puppets {
            puppet.connected_with(3).await;
        }
        let formed = time::now() - begin;
        assert!(formed < Duration::from_secs(8), "the mesh took {formed:?}");
        for (n, puppet) in puppets.iter().enumerate() {
            for topic in Topic::ALL {
                puppet.publish(topic, format!("{n} {topic:?}").as_bytes());
            }
        }
        for (receiver, puppet) in puppets.iter().enumerate() {
            for sender in (0..4).filter(|sender| *sender != receiver) {
                for topic in Topic::ALL {
                    let payload = format!("{sender} {topic:?}");
                    eventually(&payload, SOON, || {
                        puppet.seen().times(payload.as_bytes()) == 1
                    })
                    .await;
                }
            }
        }
        pause(500).await;
        for puppet in &puppets {
            assert!(
                puppet.seen().gossip.values().all(|times| *times == 1),
                "nothing arrives twice"
            );
            assert_eq!(puppet.seen().peers(), 3);
        }
    });
}

#[test]
fn the_same_bytes_arrive_again_when_sent_again_but_not_in_a_flood() {
    block_on_main(async {
        let puppets = Puppet::federation(3).await;
        for puppet in &puppets {
            puppet.connected_with(2).await;
        }
        for round in 1..=3 {
            for _ in 0..5 {
                puppets[0].publish(Topic::Approvals, b"vote");
            }
            for puppet in &puppets[1..] {
                eventually("the vote again", SOON, || {
                    puppet.seen().times(b"vote") == round
                })
                .await;
            }
            pause(1000).await;
        }
        for puppet in &puppets[1..] {
            assert_eq!(puppet.seen().times(b"vote"), 3);
        }
    });
}

#[test]
fn large_blocks_arrive_and_larger_ones_are_not_sent() {
    block_on_main(async {
        let puppets = Puppet::federation(2).await;
        for puppet in &puppets {
            puppet.connected_with(1).await;
        }
        let block = vec![1; Topic::Blocks.max_payload()];
        puppets[0].publish(Topic::Blocks, &vec![2; block.len() + 1]);
        puppets[0].publish(
            Topic::Approvals,
            &vec![3; Topic::Approvals.max_payload() + 1],
        );
        puppets[0].publish(Topic::Blocks, &block);
        puppets[0].publish(Topic::Finality, b"afterwards");
        eventually("the block", SOON, || puppets[1].seen().times(&block) == 1).await;
        eventually("the rest", SOON, || {
            puppets[1].seen().times(b"afterwards") == 1
        })
        .await;
        assert_eq!(puppets[1].seen().gossip.len(), 2);
        assert!(puppets[1].seen().banned.is_empty());
    });
}

#[test]
fn what_is_accepted_is_forwarded_and_what_is_not_is_not() {
    block_on_main(async {
        // A line: 1 - 2 - 3.
        let middle = Puppet::start(config(2, vec![])).await;
        let left = Puppet::start(config(1, vec![middle.addr()])).await;
        let right = Puppet::start(config(3, vec![middle.addr_only()])).await;
        middle.connected_with(2).await;
        left.connected_with(1).await;
        right.connected_with(1).await;
        // Forwarding goes along the mesh, which the heartbeat forms.
        pause(2000).await;
        left.publish(Topic::Finality, STALE);
        left.publish(Topic::Finality, BAD);
        left.publish(Topic::Finality, b"good");
        eventually("the good one", SOON, || right.seen().times(b"good") == 1).await;
        eventually("all in the middle", SOON, || {
            middle.seen().gossip.len() == 3
        })
        .await;
        assert_eq!(right.seen().gossip.len(), 1);
        assert_eq!(left.seen().gossip.len(), 0, "nothing comes back");
    });
}

#[test]
fn rejected_gossip_ends_in_a_ban_that_ends() {
    block_on_main(async {
        let mut strict = config(1, vec![]);
        strict.timing.ban = Duration::from_secs(3);
        let strict = Puppet::start(strict).await;
        let wicked = Puppet::start(config(2, vec![strict.addr()])).await;
        strict.connected_with(1).await;
        wicked.connected_with(1).await;
        for n in 0..3 {
            wicked.publish(Topic::Work, format!("bad {n}").as_bytes());
        }
        eventually("three arrive", SOON, || strict.seen().gossip.len() == 3).await;
        pause(300).await;
        assert!(strict.seen().banned.is_empty(), "not yet");
        for n in 3..5 {
            wicked.publish(Topic::Work, format!("bad {n}").as_bytes());
        }
        eventually("the ban", SOON, || strict.seen().banned == [wicked.id()]).await;
        let banned = time::now();
        eventually("the farewell", SOON, || {
            wicked.seen().peers() == 0 && strict.seen().peers() == 0
        })
        .await;
        wicked.command(Command::Dial {
            addr: strict.addr(),
        });
        eventually("the return", SOON, || {
            strict.seen().peers() == 1 && wicked.seen().peers() == 1
        })
        .await;
        let away = time::now() - banned;
        assert!(away >= Duration::from_millis(2900), "back after {away:?}");
        strict.connected_with(1).await;
        wicked.publish(Topic::Work, b"good");
        eventually("peace", SOON, || strict.seen().times(b"good") == 1).await;
    });
}

#[test]
fn a_flood_is_not_passed_on_and_ends_in_a_ban() {
    block_on_main(async {
        let mut strict = config(1, vec![]);
        strict.limits.gossip_burst = 20;
        strict.limits.gossip_per_second = 1;
        let strict = Puppet::start(strict).await;
        let loud = Puppet::start(config(2, vec![strict.addr()])).await;
        strict.connected_with(1).await;
        loud.connected_with(1).await;
        for n in 0..200u32 {
            loud.publish(Topic::Approvals, &n.to_be_bytes());
        }
        eventually("the ban", SOON, || strict.seen().banned == [loud.id()]).await;
        let heard = strict.seen().gossip.len();
        assert!(
            (20..40).contains(&heard),
            "{heard} messages of a burst of 20"
        );
    });
}

#[test]
fn a_node_that_does_not_listen_loses_gossip_and_nothing_else() {
    block_on_main(async {
        let mut deaf = config(1, vec![]);
        deaf.limits.max_queued_events = 8;
        let (service, handle, mut events) = Service::bind(deaf).await.expect("a free port");
        let deaf = (handle.peer_id(), handle.local_addr());
        spawn("net", service.run());
        handle
            .try_send(Command::SetStatus { status: vec![] })
            .expect("room");
        let other = Puppet::start(config(
            2,
            vec![PeerAddr {
                socket: deaf.1,
                peer: Some(deaf.0),
            }],
        ))
        .await;
        // The deaf node has been asked for its status, and answers; then it hears no more.
        let mut connected = false;
        while !connected {
            match events.next().await.expect("it runs") {
                Event::Request { id, .. } => {
                    handle
                        .try_send(Command::Respond {
                            id,
                            response: Ok(vec![]),
                        })
                        .expect("room");
                }
                Event::PeerListens { .. } => connected = true,
                _ => {}
            }
        }
        other.connected_with(1).await;
        for n in 0..300u32 {
            other.publish(Topic::Approvals, &n.to_be_bytes());
        }
        // More than all queues hold.
        pause(1000).await;
        let id = other
            .handle
            .request(deaf.0, Protocol::BlocksByHash, b"x".to_vec())
            .expect("room");
        eventually("an answer", SOON, || {
            other.seen().responses.contains_key(&id)
        })
        .await;
        assert_eq!(
            other.seen().responses[&id],
            Err(RequestError::Refused(Refusal::Busy))
        );
        assert_eq!(other.seen().peers(), 1, "it is alive all the same");
        let mut heard = 0;
        while let Ok(Some(event)) = time::timeout(Duration::from_millis(500), events.next()).await {
            heard += usize::from(matches!(event, Event::Gossip { .. }));
        }
        assert!((8..=80).contains(&heard), "{heard} of 300 were kept");
        other.publish(Topic::Approvals, b"now");
        let next = time::timeout(SOON, events.next())
            .await
            .expect("in time")
            .expect("it runs");
        assert!(matches!(next, Event::Gossip { payload, .. } if payload == b"now"));
    });
}
