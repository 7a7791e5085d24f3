use std::collections::BTreeSet;
use std::time::Duration;

use alys_runtime::{block_on_main, spawn, time};

use super::{BAD, SOON, STALE, TestNode, config, eventually, pause};
use crate::{Command, Event, PeerAddr, Protocol, Refusal, RequestError, Service, Topic};

#[test]
fn four_services_find_each_other_and_gossip_on_every_topic() {
    block_on_main(async {
        let begin = time::now();
        let nodes = TestNode::federation(4).await;
        for node in &nodes {
            node.connected_with(3).await;
        }
        let formed = time::now() - begin;
        assert!(formed < Duration::from_secs(8), "the mesh took {formed:?}");
        for (n, node) in nodes.iter().enumerate() {
            for topic in Topic::ALL {
                node.publish(topic, format!("{n} {topic:?}").as_bytes());
            }
        }
        for (receiver, node) in nodes.iter().enumerate() {
            for sender in (0..4).filter(|sender| *sender != receiver) {
                for topic in Topic::ALL {
                    let payload = format!("{sender} {topic:?}");
                    eventually(&payload, SOON, || {
                        node.seen().times(payload.as_bytes()) == 1
                    })
                    .await;
                }
            }
        }
        pause(500).await;
        for node in &nodes {
            assert!(
                node.seen().gossip.values().all(|times| *times == 1),
                "no message arrives twice"
            );
            assert_eq!(node.seen().peers(), 3);
        }
    });
}

#[test]
fn repeated_bytes_arrive_once_per_window() {
    block_on_main(async {
        let nodes = TestNode::federation(3).await;
        for node in &nodes {
            node.connected_with(2).await;
        }
        for round in 1..=3 {
            for _ in 0..5 {
                nodes[0].publish(Topic::Approvals, b"vote");
            }
            for node in &nodes[1..] {
                eventually("the vote again", SOON, || {
                    node.seen().times(b"vote") == round
                })
                .await;
            }
            pause(1000).await;
        }
        for node in &nodes[1..] {
            assert_eq!(node.seen().times(b"vote"), 3);
        }
    });
}

#[test]
fn blocks_up_to_the_limit_arrive_and_larger_ones_are_not_sent() {
    block_on_main(async {
        // Only one side dials, because the end of a duplicate connection can take the block along.
        let sender = TestNode::start(config(1, vec![])).await;
        let receiver = TestNode::start(config(2, vec![sender.addr()])).await;
        let nodes = [sender, receiver];
        for node in &nodes {
            node.connected_with(1).await;
        }
        let block = vec![1; Topic::Blocks.max_payload()];
        nodes[0].publish(Topic::Blocks, &vec![2; block.len() + 1]);
        nodes[0].publish(
            Topic::Approvals,
            &vec![3; Topic::Approvals.max_payload() + 1],
        );
        nodes[0].publish(Topic::Blocks, &block);
        nodes[0].publish(Topic::Finality, b"afterwards");
        eventually("the block", SOON, || nodes[1].seen().times(&block) == 1).await;
        eventually("the rest", SOON, || {
            nodes[1].seen().times(b"afterwards") == 1
        })
        .await;
        assert_eq!(nodes[1].seen().gossip.len(), 2);
        assert!(nodes[1].seen().banned.is_empty());
    });
}

#[test]
fn only_accepted_gossip_is_forwarded() {
    block_on_main(async {
        // A line: 1 - 2 - 3.
        let middle = TestNode::start(config(2, vec![])).await;
        let left = TestNode::start(config(1, vec![middle.addr()])).await;
        let right = TestNode::start(config(3, vec![middle.addr_only()])).await;
        middle.connected_with(2).await;
        left.connected_with(1).await;
        right.connected_with(1).await;
        // Forwarding uses the mesh, which the heartbeat forms.
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
        assert_eq!(left.seen().gossip.len(), 0, "gossip is not sent back");
    });
}

#[test]
fn rejected_gossip_leads_to_a_temporary_ban() {
    block_on_main(async {
        let mut strict = config(1, vec![]);
        strict.timing.ban = Duration::from_secs(3);
        let strict = TestNode::start(strict).await;
        let offender = TestNode::start(config(2, vec![strict.addr()])).await;
        strict.connected_with(1).await;
        offender.connected_with(1).await;
        for n in 0..3 {
            offender.publish(Topic::Work, format!("bad {n}").as_bytes());
        }
        eventually("three arrive", SOON, || strict.seen().gossip.len() == 3).await;
        pause(300).await;
        assert!(strict.seen().banned.is_empty(), "not yet");
        for n in 3..5 {
            offender.publish(Topic::Work, format!("bad {n}").as_bytes());
        }
        eventually("the ban", SOON, || strict.seen().banned == [offender.id()]).await;
        let banned = time::now();
        eventually("disconnected", SOON, || {
            offender.seen().peers() == 0 && strict.seen().peers() == 0
        })
        .await;
        offender.command(Command::Dial {
            addr: strict.addr(),
        });
        eventually("connected again", SOON, || {
            strict.seen().peers() == 1 && offender.seen().peers() == 1
        })
        .await;
        let away = time::now() - banned;
        assert!(away >= Duration::from_millis(2900), "back after {away:?}");
        // The offender sends gossip once it knows the subscriptions of the strict node.
        offender.connected_with(1).await;
        offender.publish(Topic::Work, b"good");
        eventually("gossip", SOON, || strict.seen().times(b"good") == 1).await;
    });
}

#[test]
fn a_flood_does_not_reach_the_node_and_leads_to_a_ban() {
    block_on_main(async {
        let strict = TestNode::start(config(1, vec![])).await;
        let flooder = TestNode::start(config(2, vec![strict.addr()])).await;
        strict.connected_with(1).await;
        flooder.connected_with(1).await;
        let (burst, per_second) = Topic::Transactions.rate().messages;
        for n in 0..burst + 150 {
            flooder.publish(Topic::Transactions, &n.to_be_bytes());
        }
        eventually("the ban", SOON, || strict.seen().banned == [flooder.id()]).await;
        let received = strict.seen().gossip.len();
        let expected = burst as usize..(burst + 10 * per_second) as usize;
        assert!(
            expected.contains(&received),
            "{received} messages of a burst of {burst}"
        );
    });
}

/// A node that forwards a flood of others must not be banned by its own federation.
#[test]
fn a_flood_of_a_known_peer_is_dropped_and_costs_it_nothing() {
    block_on_main(async {
        let judge = TestNode::start(config(1, vec![])).await;
        let member = TestNode::start(config(2, vec![judge.addr()])).await;
        judge.command(Command::Dial {
            addr: member.addr(),
        });
        judge.connected_with(1).await;
        member.connected_with(1).await;
        let (burst, _) = Topic::Transactions.rate().messages;
        for n in 0..burst + 300 {
            member.publish(Topic::Transactions, &n.to_be_bytes());
        }
        // Other topics have their own budget.
        member.publish(Topic::Approvals, b"a vote");
        eventually("the vote", SOON, || judge.seen().times(b"a vote") == 1).await;
        pause(500).await;
        assert!(judge.seen().banned.is_empty());
        assert_eq!(judge.seen().peers(), 1);
        assert!(judge.seen().gossip.len() < burst as usize + 100);
    });
}

#[test]
fn a_node_that_does_not_keep_up_loses_only_gossip() {
    block_on_main(async {
        let mut lagging = config(1, vec![]);
        lagging.limits.max_queued_events = 8;
        // A payload that counts as seen does not arrive again in this test.
        lagging.timing.repeat_window = Duration::from_secs(3600);
        let (service, handle, mut events) = Service::bind(lagging).await.expect("a free port");
        let lagging = (handle.peer_id(), handle.local_addr());
        spawn("net", service.run());
        handle
            .try_send(Command::SetStatus { status: vec![] })
            .expect("room");
        let other = TestNode::start(config(
            2,
            vec![PeerAddr {
                socket: lagging.1,
                peer: Some(lagging.0),
            }],
        ))
        .await;
        // The lagging node answers the status request and then stops reading events.
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
                Event::PeerSubscribed { .. } => connected = true,
                _ => {}
            }
        }
        other.connected_with(1).await;
        for n in 0..300u32 {
            other.publish(Topic::Approvals, &n.to_be_bytes());
        }
        // The messages exceed all queues.
        pause(1000).await;
        let id = other
            .handle
            .request(lagging.0, Protocol::BlocksByHash, b"x".to_vec())
            .expect("room");
        eventually("an answer", SOON, || {
            other.seen().responses.contains_key(&id)
        })
        .await;
        assert_eq!(
            other.seen().responses[&id],
            Err(RequestError::Refused(Refusal::Busy))
        );
        assert_eq!(other.seen().peers(), 1, "the connection stays");
        let mut received = BTreeSet::new();
        while let Ok(Some(event)) = time::timeout(Duration::from_millis(500), events.next()).await {
            if let Event::Gossip { payload, .. } = event {
                received.insert(payload);
            }
        }
        let count = received.len();
        assert!((8..=80).contains(&count), "{count} of 300 were kept");
        // A message that was dropped for want of room does not count as seen.
        let dropped = (0..300u32).map(|n| n.to_be_bytes());
        let dropped: Vec<_> = dropped.filter(|n| !received.contains(&n[..])).collect();
        for again in &dropped[..8] {
            other.publish(Topic::Approvals, again);
            let next = time::timeout(SOON, events.next()).await;
            let next = next.expect("in time").expect("it runs");
            assert!(matches!(next, Event::Gossip { payload, .. } if payload == again));
        }
    });
}
