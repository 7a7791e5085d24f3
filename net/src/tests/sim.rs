//! Tests that need the simulated world: partitions, half-open connections, power losses, and
//! deterministic replay.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::sim::{Block, Finished, Link, NodeId, Options, World, run, try_run};
use alys_runtime::sync::mpsc;
use alys_runtime::{spawn, time};

use super::{CHAIN, Seen, eventually, key, pause, play};
use crate::{Command, Config, DisconnectReason, PeerAddr, Service, Topic};

const PORT: u16 = 9000;

/// A simulated machine whose process is a service with a scripted node above it.
struct Machine {
    id: NodeId,
    ip: IpAddr,
    n: u8,
    seen: Arc<Mutex<Seen>>,
    commands: Arc<Mutex<Option<mpsc::UnboundedSender<Command>>>>,
}

fn ip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

fn machine(world: World, n: u8, count: u8) -> Machine {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let commands = Arc::new(Mutex::new(None));
    let (seen_inside, commands_inside) = (seen.clone(), commands.clone());
    let id = world.node(&format!("node {n}"), ip(n), move || {
        let (seen, commands) = (seen_inside.clone(), commands_inside.clone());
        async move {
            let others = (1..=count).filter(|other| *other != n);
            let peers = others
                .map(|n| PeerAddr {
                    socket: SocketAddr::new(ip(n), PORT),
                    peer: None,
                })
                .collect();
            let config = Config::new(key(n), CHAIN, SocketAddr::new(ip(n), PORT), peers);
            let (service, handle, events) = Service::bind(config).await.expect("the port is free");
            #[expect(clippy::disallowed_methods, reason = "a test sends a few dozen")]
            let (sender, mut receiver) = mpsc::unbounded_channel();
            *commands.lock().expect("no panic") = Some(sender);
            // A new incarnation begins without connections.
            seen.lock().expect("no panic").restart();
            spawn("test-node", play(handle.clone(), events, seen));
            spawn("commands", async move {
                while let Some(command) = receiver.recv().await {
                    if handle.send(command).await.is_err() {
                        break;
                    }
                }
            });
            service.run().await;
        }
    });
    Machine {
        id,
        ip: ip(n),
        n,
        seen,
        commands,
    }
}

impl Machine {
    fn publish(&self, payload: &str) {
        self.command(Command::Publish {
            topic: Topic::Approvals,
            payload: payload.into(),
        });
    }

    fn command(&self, command: Command) {
        let commands = self.commands.lock().expect("no panic");
        // A process that is restarting does not receive commands yet.
        let _ = commands
            .as_ref()
            .expect("it has started once")
            .send(command);
    }

    fn subscribers(&self) -> usize {
        self.seen.lock().expect("no panic").subscribers()
    }

    fn times(&self, payload: &str) -> usize {
        self.seen
            .lock()
            .expect("no panic")
            .times(payload.as_bytes())
    }
}

/// A log subscriber that panics at an ERROR line.
struct NoErrors;

impl tracing::Subscriber for NoErrors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR && metadata.is_event()
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        panic!("ERROR line: {event:?}");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

async fn federation(world: World, count: u8) -> Vec<Machine> {
    // The subscriber stays set until the thread of this run ends.
    std::mem::forget(tracing::subscriber::set_default(NoErrors));
    let machines: Vec<Machine> = (1..=count).map(|n| machine(world, n, count)).collect();
    let all = || {
        machines
            .iter()
            .all(|machine| machine.subscribers() == usize::from(count) - 1)
    };
    eventually(
        "all nodes subscribe to each other",
        Duration::from_secs(8),
        all,
    )
    .await;
    machines
}

/// Publishes from every machine and waits until every other machine has received it once.
async fn all_gossip(machines: &[Machine], mark: &str, within: Duration) {
    for machine in machines {
        machine.publish(&format!("{mark} {}", machine.n));
    }
    for receiver in machines {
        for sender in machines.iter().filter(|sender| sender.n != receiver.n) {
            let payload = format!("{mark} {}", sender.n);
            eventually(&payload, within, || receiver.times(&payload) == 1).await;
        }
    }
}

#[test]
fn a_partition_of_twenty_seconds_heals_within_seconds() {
    for seed in 1..=5 {
        run(Options::new(seed), move |world| async move {
            let machines = federation(world, 4).await;
            all_gossip(&machines, "before", Duration::from_secs(2)).await;
            let halves = machines.split_at(2);
            for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
                world.partition(machines[a].ip, machines[b].ip);
            }
            pause(1000).await;
            all_gossip(halves.0, "inside", Duration::from_secs(2)).await;
            all_gossip(halves.1, "inside", Duration::from_secs(2)).await;
            pause(18_500).await;
            assert!(
                machines.iter().all(|machine| machine.subscribers() == 1),
                "silent peers are disconnected"
            );
            world.heal_all();
            let healed = time::now();
            let all = || machines.iter().all(|machine| machine.subscribers() == 3);
            eventually("all nodes are connected", Duration::from_secs(12), all).await;
            let took = time::now() - healed;
            assert!(
                took < Duration::from_secs(12),
                "seed {seed}: healed after {took:?}"
            );
            println!("seed {seed}: connected {took:?} after healing");
            all_gossip(&machines, "after", Duration::from_secs(2)).await;
        });
    }
}

#[test]
fn a_node_reconnects_at_once_after_a_power_loss_and_a_dead_one_is_disconnected() {
    for seed in 1..=5 {
        run(Options::new(seed), move |world| async move {
            let machines = federation(world, 4).await;
            world.power_off(machines[3].id);
            pause(1000).await;
            world.restart(machines[3].id);
            let all = || machines.iter().all(|machine| machine.subscribers() == 3);
            // The other machines still hold their ends of the old connections.
            pause(100).await;
            eventually("all nodes are connected", Duration::from_secs(6), all).await;
            all_gossip(&machines, "again", Duration::from_secs(2)).await;
            world.power_off(machines[2].id);
            let all_disconnected = || {
                machines.iter().filter(|m| m.n != 3).all(|m| {
                    let seen = m.seen.lock().expect("no panic");
                    seen.disconnected
                        .contains(&(key(3).peer_id(), DisconnectReason::Silent))
                })
            };
            eventually(
                "the dead node is disconnected",
                Duration::from_secs(17),
                all_disconnected,
            )
            .await;
        });
    }
}

#[test]
fn the_largest_federation_forms_within_seconds() {
    run(Options::new(1), |world| async move {
        let begin = time::now();
        let machines = federation(world, 15).await;
        println!(
            "fifteen nodes are subscribed to each other after {:?}",
            time::now() - begin
        );
        all_gossip(&machines, "all", Duration::from_secs(2)).await;
        pause(5_000).await;
        let arrivals = |m: &Machine| m.seen.lock().expect("no panic").arrivals;
        let before: Vec<usize> = machines.iter().map(arrivals).collect();
        println!("connections established per node: {before:?}");
        pause(20_000).await;
        assert_eq!(
            before,
            machines.iter().map(arrivals).collect::<Vec<_>>(),
            "connections are stable"
        );
    });
}

#[test]
fn half_open_connections_are_replaced() {
    run(Options::new(7), |world| async move {
        let machines = federation(world, 3).await;
        assert!(world.half_open(machines[0].ip, machines[1].ip) > 0);
        pause(200).await;
        let all = || machines.iter().all(|machine| machine.subscribers() == 2);
        eventually("all nodes are connected", Duration::from_secs(8), all).await;
        all_gossip(&machines, "again", Duration::from_secs(2)).await;
    });
}

#[test]
fn an_idle_network_costs_little() {
    run(Options::new(1), |world| async move {
        let _machines = federation(world, 4).await;
        pause(5_000).await;
        let polls_before = world.polls();
        let events_before = world.events();
        pause(60_000).await;
        let polls = world.polls() - polls_before;
        let events = world.events() - events_before;
        println!("four idle nodes, a minute: {polls} polls, {events} events");
        // Ticks (ten per second and node), pings and heartbeats stay far below the limits; a flush
        // that wakes the remote side would exceed them by far.
        assert!(
            polls < 60_000 && events < 30_000,
            "{polls} polls, {events} events"
        );
    });
}

#[test]
fn slow_and_lossy_links_carry_blocks_and_keep_their_connections() {
    for seed in 1..=3 {
        run(Options::new(seed), move |world| async move {
            let machines = federation(world, 4).await;
            world.set_default_link(Link {
                latency: Duration::from_millis(80),
                jitter: Duration::from_millis(40),
                loss_ppm: 20_000,
                bytes_per_second: 1_000_000,
                ..Link::default()
            });
            for round in 0..5u8 {
                let block = vec![round; 1_000_000];
                let sender = &machines[usize::from(round) % 4];
                sender.command(Command::Publish {
                    topic: Topic::Blocks,
                    payload: block.clone(),
                });
                let begin = time::now();
                let arrived = || {
                    let others = machines.iter().filter(|other| other.n != sender.n);
                    others
                        .map(|m| m.seen.lock().expect("no panic"))
                        .all(|seen| seen.times(&block) == 1)
                };
                eventually("a block of a megabyte", Duration::from_secs(10), arrived).await;
                println!("seed {seed}: a block took {:?}", time::now() - begin);
                all_gossip(&machines, &format!("round {round}"), Duration::from_secs(8)).await;
            }
            assert!(
                machines
                    .iter()
                    .all(|m| m.seen.lock().expect("no panic").disconnected.is_empty())
            );
        });
    }
}

#[test]
fn the_federation_reconnects_after_random_faults() {
    let seeds = std::env::var("ALYS_NET_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(10);
    for seed in 1..=seeds {
        run(Options::new(seed), move |world| async move {
            let machines = federation(world, 5).await;
            let mut rng = world.rng("faults");
            for _ in 0..12 {
                let a = rng.below(5) as usize;
                let b = rng.below(5) as usize;
                let node = machines[a].id;
                let here = machines[a].ip;
                let there = machines[b].ip;
                match rng.below(6) {
                    0 if world.is_up(node) => drop(world.kill(node)),
                    1 if world.is_up(node) => drop(world.power_off(node)),
                    2 if a != b => world.block(here, there, Block::Cut),
                    3 if a != b => drop(world.reset_connections(here, there)),
                    4 if a != b => drop(world.half_open(here, there)),
                    _ => world.heal_all(),
                }
                pause(rng.below(6_000)).await;
                for machine in machines.iter().filter(|m| !world.is_up(m.id)) {
                    world.restart(machine.id);
                }
                for machine in &machines {
                    machine.publish("noise");
                }
            }
            world.heal_all();
            let healed = time::now();
            let all = || machines.iter().all(|machine| machine.subscribers() == 4);
            // A connection that broke silently at the end is closed after 15 s and replaced.
            eventually("all nodes are connected", Duration::from_secs(25), all).await;
            println!(
                "seed {seed}: connected {:?} after the last fault",
                time::now() - healed
            );
            pause(20_000).await;
            assert!(all(), "seed {seed}: connections are stable");
            all_gossip(&machines, "after", Duration::from_secs(2)).await;
            assert!(
                machines
                    .iter()
                    .all(|m| m.seen.lock().expect("no panic").banned.is_empty())
            );
        });
    }
}

fn traced(seed: u64) -> Finished<usize> {
    try_run(Options::new(seed), move |world| async move {
        let machines = federation(world, 4).await;
        all_gossip(&machines, "one", Duration::from_secs(2)).await;
        world.kill(machines[1].id);
        pause(3_000).await;
        world.restart(machines[1].id);
        pause(6_000).await;
        all_gossip(&machines, "two", Duration::from_secs(2)).await;
        machines.iter().map(Machine::subscribers).sum()
    })
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first = traced(3);
    println!(
        "seed 3: {:02x?} after {} events",
        &first.trace_hash[..8],
        first.events
    );
    assert_eq!(first.result, Ok(12));
    let other = traced(4);
    let again = traced(3);
    assert_eq!(
        (first.trace_hash, first.events),
        (again.trace_hash, again.events)
    );
    assert_ne!(first.trace_hash, other.trace_hash);
}
