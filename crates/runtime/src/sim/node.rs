//! Processes and their clocks: started, killed, powered off, paused, restarted.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Poll, Waker};
use std::time::Duration;

use madsim::runtime::Handle;

use super::disk::Disk;
use super::home::{Home, Scoped, here};
use super::rng::Rng;
use super::state::{State, with};
use super::{NodeId, World};
use crate::signal::Shutdown;

/// The address of the world itself, for outside systems that it plays on its own.
pub const WORLD_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254));

/// A machine with one process, one address, one disk and one clock.
pub(crate) struct Node {
    pub name: String,
    pub ip: IpAddr,
    pub madsim: Option<madsim::task::NodeId>,
    /// Counts the process's lives.
    pub incarnation: u32,
    /// The process runs.
    pub is_up: bool,
    /// The machine has power: its kernel answers for a dead process.
    pub has_power: bool,
    pub is_paused: bool,
    pub clock: Clock,
    pub disk: Disk,
    pub rng: Rng,
    pub next_port: u16,
    stop: Stop,
}

/// The wish that a process ends by itself.
#[derive(Default)]
struct Stop {
    is_wanted: bool,
    is_listened_for: bool,
    wakers: Vec<Waker>,
}

impl Node {
    fn new(fault_seed: u64, name: &str, ip: IpAddr, is_up: bool) -> Self {
        Self {
            name: name.to_owned(),
            ip,
            madsim: None,
            incarnation: 0,
            is_up,
            has_power: true,
            is_paused: false,
            clock: Clock::default(),
            disk: Disk::new(Rng::derive(fault_seed, &format!("disk {name}"))),
            rng: Rng::derive(fault_seed, &format!("node {name}")),
            next_port: super::net::FIRST_FREE_PORT,
            stop: Stop::default(),
        }
    }
}

/// The wall clock of a node: a line through the true time.
#[derive(Default)]
pub(crate) struct Clock {
    /// Simulated time at which the line begins, in nanoseconds.
    since: i128,
    /// How far it was ahead then, in nanoseconds.
    ahead: i128,
    drift_ppm: i64,
}

impl Clock {
    fn ahead_at(&self, now: Duration) -> i128 {
        self.ahead + (now.as_nanos() as i128 - self.since) * i128::from(self.drift_ppm) / 1_000_000
    }

    fn set(&mut self, now: Duration, ahead: i128, drift_ppm: i64) {
        *self = Self {
            since: now.as_nanos() as i128,
            ahead,
            drift_ppm,
        };
    }
}

const NANOS_PER_MS: i128 = 1_000_000;

impl State {
    /// Makes the node that stands for the world itself.
    pub fn add_world(&mut self) {
        self.nodes
            .push(Node::new(self.fault_seed, "world", WORLD_IP, true));
        self.by_ip.insert(WORLD_IP, NodeId::WORLD);
    }

    pub fn wall_ms(&self, id: NodeId) -> u64 {
        let now = self.now();
        let ahead = self
            .nodes
            .get(id.0 as usize)
            .map_or(0, |node| node.clock.ahead_at(now));
        let nanos = i128::from(self.epoch_ms) * NANOS_PER_MS + now.as_nanos() as i128 + ahead;
        u64::try_from(nanos / NANOS_PER_MS).unwrap_or(0)
    }

    /// Whether the process could be declared dead; if so it is, and its files, locks and ports are out of its
    /// reach before anything else happens.
    fn end_process(&mut self, id: NodeId, kind: &'static str) -> bool {
        assert!(
            id != NodeId::WORLD,
            "the world itself is not a node that can end"
        );
        let node = self.node(id);
        if !node.is_up {
            return false;
        }
        node.is_up = false;
        node.is_paused = false;
        node.stop = Stop::default();
        let incarnation = node.incarnation;
        let detail = format!("{} life {incarnation}", node.name);
        self.count(kind);
        self.note(id, kind, &incarnation.to_le_bytes(), || detail);
        true
    }
}

/// Ends the process of `id` from within: its initial future has returned.
fn exited(home: Home) {
    with(|state| {
        if state.is_alive(home) && state.end_process(home.node, "node.exit") {
            state.net_process_ended(home.node, false);
            state.node(home.node).disk.process_ended();
        }
    });
}

impl World {
    /// Adds a machine and starts its process: `init` makes its main future, now and at each restart. When that
    /// future ends, the process has exited.
    ///
    /// # Panics
    /// When the name or the address is taken.
    pub fn node<F, Fut>(&self, name: &str, ip: IpAddr, init: F) -> NodeId
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let id = with(|state| {
            let is_taken =
                state.by_ip.contains_key(&ip) || state.nodes.iter().any(|n| n.name == name);
            assert!(!is_taken, "node name {name} and address {ip} are not taken");
            let id = NodeId(state.nodes.len() as u32);
            state
                .nodes
                .push(Node::new(state.fault_seed, name, ip, true));
            state.by_ip.insert(ip, id);
            state.note(id, "node.start", name.as_bytes(), || {
                format!("{name} {ip} life 0")
            });
            id
        });
        let init = std::sync::Arc::new(init);
        // madsim calls this with its list of nodes locked, so nothing of the caller's may run in it.
        let start = move || {
            let home = with(|state| Home {
                node: id,
                incarnation: state.node(id).incarnation,
            });
            let init = init.clone();
            Scoped::new(home, async move {
                init().await;
                exited(home);
            })
        };
        let handle = Handle::current();
        let node = handle.create_node().name(name).init(start).build();
        with(|state| state.node(id).madsim = Some(node.id()));
        id
    }

    /// Runs `future` as a task of the node's current process.
    ///
    /// # Panics
    /// When the process is down.
    #[track_caller]
    pub fn spawn_on<F>(
        &self,
        id: NodeId,
        name: &'static str,
        future: F,
    ) -> crate::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (home, node) = with(|state| {
            let node = state.node(id);
            assert!(node.is_up, "{} is up", node.name);
            (
                Home {
                    node: id,
                    incarnation: node.incarnation,
                },
                node.madsim,
            )
        });
        let scoped = Scoped::new(home, future);
        let inner = match node.and_then(|node| Handle::current().get_node(node)) {
            Some(node) => node.spawn(scoped),
            None => madsim::task::spawn(scoped),
        };
        crate::JoinHandle::simulated(name, inner)
    }

    /// Kills the process as SIGKILL does: all that it wrote to files stays, its destructors change nothing, and
    /// its kernel ends each connection, with a reset or, having sent what was written, in good order, as the
    /// seed decides. Returns false if it was down already.
    pub fn kill(&self, id: NodeId) -> bool {
        let ended = with(|state| {
            let ended = state.end_process(id, "node.kill");
            if ended {
                state.net_process_ended(id, true);
                state.node(id).disk.process_ended();
            }
            ended
        });
        self.kill_tasks(id, ended)
    }

    /// Takes the machine's power: unsynced data and names are lost in part or wholly, connections vanish
    /// without a word, nothing answers until the restart. Returns false if the power was off already.
    pub fn power_off(&self, id: NodeId) -> bool {
        let (lost_power, ended) = with(|state| {
            if !state.node(id).has_power {
                return (false, false);
            }
            let ended = state.end_process(id, "node.power_off");
            state.node(id).has_power = false;
            state.net_power_lost(id);
            state.disk_power_lost(id);
            (true, ended)
        });
        self.kill_tasks(id, ended);
        lost_power
    }

    fn kill_tasks(&self, id: NodeId, ended: bool) -> bool {
        if ended && let Some(node) = with(|state| state.node(id).madsim) {
            Handle::current().kill(node);
        }
        ended
    }

    /// Starts the process again, with power. A process that runs is killed first.
    ///
    /// # Panics
    /// For [`NodeId::WORLD`].
    pub fn restart(&self, id: NodeId) {
        assert!(
            id != NodeId::WORLD,
            "the world itself is not a node that can be restarted"
        );
        self.kill(id);
        let node = with(|state| {
            let node = state.node(id);
            node.incarnation += 1;
            node.is_up = true;
            let had_power = std::mem::replace(&mut node.has_power, true);
            let (incarnation, name) = (node.incarnation, node.name.clone());
            let madsim = node.madsim;
            state.count("node.restart");
            state.note(id, "node.start", &incarnation.to_le_bytes(), || {
                format!("{name} life {incarnation}")
            });
            if !had_power {
                state.net_power_back();
            }
            madsim
        });
        if let Some(node) = node {
            // Also clears the mark that madsim sets on a node whose main future has returned.
            Handle::current().restart(node);
        }
    }

    /// Stops the process's tasks where they are, as SIGSTOP or a stalled machine does. Time goes on, its kernel
    /// goes on taking in connections and bytes.
    pub fn pause(&self, id: NodeId) {
        let node = with(|state| {
            let node = state.node(id);
            if !node.is_up || std::mem::replace(&mut node.is_paused, true) {
                return None;
            }
            let madsim = node.madsim;
            state.count("node.pause");
            state.note(id, "node.pause", &[], String::new);
            madsim
        });
        if let Some(node) = node {
            Handle::current().pause(node);
        }
    }

    /// Lets a paused process go on.
    pub fn resume(&self, id: NodeId) {
        let node = with(|state| {
            let node = state.node(id);
            if !std::mem::replace(&mut node.is_paused, false) {
                return None;
            }
            let madsim = node.madsim;
            state.note(id, "node.resume", &[], String::new);
            madsim
        });
        if let Some(node) = node {
            Handle::current().resume(node);
        }
    }

    /// Asks the process to end by itself, see [`crate::signal::shutdown`]. One that does not listen is killed.
    pub fn stop(&self, id: NodeId) {
        let is_heard = with(|state| {
            let node = state.node(id);
            if !node.is_up {
                return true;
            }
            if !node.stop.is_listened_for {
                return false;
            }
            node.stop.is_wanted = true;
            let wakers = std::mem::take(&mut node.stop.wakers);
            wakers.into_iter().for_each(|waker| state.wake(Some(waker)));
            state.count("node.stop");
            state.note(id, "node.stop", &[], String::new);
            true
        });
        if !is_heard {
            self.kill(id);
        }
    }

    /// Whether the node's process runs (perhaps paused).
    pub fn is_up(&self, id: NodeId) -> bool {
        with(|state| state.node(id).is_up)
    }

    /// The name given to [`node`](Self::node).
    pub fn name(&self, id: NodeId) -> String {
        with(|state| state.node(id).name.clone())
    }

    /// The node's address.
    pub fn ip(&self, id: NodeId) -> IpAddr {
        with(|state| state.node(id).ip)
    }

    /// The node with this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        with(|state| {
            state
                .nodes
                .iter()
                .position(|n| n.name == name)
                .map(|i| NodeId(i as u32))
        })
    }

    /// The node's wall clock, milliseconds since the Unix epoch. [`NodeId::WORLD`] has the true time.
    pub fn wall_ms(&self, id: NodeId) -> u64 {
        with(|state| state.wall_ms(id))
    }

    /// Puts the node's clock `ms` milliseconds ahead of the true time, or behind. Its drift goes on.
    pub fn set_clock_offset(&self, id: NodeId, ms: i64) {
        self.change_clock(id, "clock.offset", ms, |_, drift| {
            (i128::from(ms) * NANOS_PER_MS, drift)
        });
    }

    /// Moves the node's clock by `ms` milliseconds.
    pub fn step_clock(&self, id: NodeId, ms: i64) {
        self.change_clock(id, "clock.step", ms, |ahead, drift| {
            (ahead + i128::from(ms) * NANOS_PER_MS, drift)
        });
    }

    /// Makes the node's clock gain `ppm` microseconds a second from now on, or lose them.
    pub fn set_clock_drift(&self, id: NodeId, ppm: i64) {
        self.change_clock(id, "clock.drift", ppm, |ahead, _| (ahead, ppm));
    }

    fn change_clock(
        &self,
        id: NodeId,
        kind: &'static str,
        by: i64,
        change: impl FnOnce(i128, i64) -> (i128, i64),
    ) {
        with(|state| {
            let now = state.now();
            let clock = &mut state.node(id).clock;
            let (ahead, drift) = change(clock.ahead_at(now), clock.drift_ppm);
            clock.set(now, ahead, drift);
            state.count(kind);
            state.note(id, kind, &by.to_le_bytes(), || by.to_string());
        });
    }
}

/// The simulated half of [`crate::clock::wall_ms`].
pub(crate) fn wall_ms_of_this_node() -> u64 {
    with(|state| state.wall_ms(here().node))
}

/// The simulated half of [`crate::signal::shutdown`].
pub(crate) async fn shutdown() -> Shutdown {
    std::future::poll_fn(|cx| {
        with(|state| {
            let home = here();
            if !state.is_alive(home) {
                return Poll::Pending;
            }
            let stop = &mut state.node(home.node).stop;
            stop.is_listened_for = true;
            if stop.is_wanted {
                return Poll::Ready(Shutdown::Interrupt);
            }
            if !stop.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                stop.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    })
    .await
}
