//! Nodes with their processes and clocks.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Poll, Waker};
use std::time::Duration;

use madsim::runtime::Handle;

use super::disk::Disk;
use super::process::{Process, ProcessFuture, here};
use super::rng::Rng;
use super::state::{WorldState, with};
use super::{Detail, NodeId, World};

/// The address of the world itself, for external systems that it simulates.
pub const WORLD_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254));

/// A machine with one process, one address, one disk and one clock.
pub(crate) struct Node {
    pub name: String,
    pub ip: IpAddr,
    pub madsim: Option<madsim::task::NodeId>,
    /// Counts the node's processes from zero.
    pub incarnation: u32,
    /// The process is running or paused.
    pub is_up: bool,
    /// The machine has power; its kernel then answers for a dead process.
    pub has_power: bool,
    pub is_paused: bool,
    pub clock: NodeClock,
    pub disk: Disk,
    pub rng: Rng,
    pub next_port: u16,
    stop: StopRequest,
}

/// The request for a graceful stop.
#[derive(Default)]
struct StopRequest {
    is_requested: bool,
    /// The process has called [`crate::signal::shutdown`].
    has_listener: bool,
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
            clock: NodeClock::default(),
            disk: Disk::new(Rng::derive(fault_seed, &format!("disk {name}"))),
            rng: Rng::derive(fault_seed, &format!("node {name}")),
            next_port: super::net::FIRST_FREE_PORT,
            stop: StopRequest::default(),
        }
    }
}

/// The wall clock of a node, as a linear deviation from the true time.
#[derive(Default)]
pub(crate) struct NodeClock {
    /// Simulated time of the last change in nanoseconds.
    since: i128,
    /// Deviation at that time in nanoseconds; positive when the clock is ahead.
    ahead: i128,
    drift_ppm: i64,
}

impl NodeClock {
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

impl WorldState {
    /// Adds the node that represents the world itself.
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

    /// Marks the process as dead, which revokes its access to files, locks and ports at once. False
    /// if it was down.
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
        node.stop = StopRequest::default();
        let incarnation = node.incarnation;
        let detail = format!("{} incarnation {incarnation}", node.name);
        self.count(kind);
        self.note(id, kind, &incarnation.to_le_bytes(), || detail);
        true
    }
}

/// Ends a process whose main future has completed.
fn exited(process: Process) {
    with(|state| {
        if state.is_alive(process) && state.end_process(process.node, "node.exit") {
            state.net_process_ended(process.node, false);
            state.node(process.node).disk.process_ended();
        }
    });
}

impl World {
    /// Adds a machine and starts its process. `init` creates the main future, now and at each
    /// restart; the process exits when that completes.
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
            state.note(id, "node.start", name.as_bytes(), || Detail::Started {
                name: name.to_owned(),
                ip,
                incarnation: 0,
            });
            id
        });
        let init = std::sync::Arc::new(init);
        // madsim calls this with its list of nodes locked, so `init` must not run before the first
        // poll.
        let start = move || {
            let process = with(|state| Process {
                node: id,
                incarnation: state.node(id).incarnation,
            });
            let init = init.clone();
            ProcessFuture::new(process, async move {
                init().await;
                exited(process);
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
        let (process, node) = with(|state| {
            let node = state.node(id);
            assert!(node.is_up, "{} is up", node.name);
            let process = Process {
                node: id,
                incarnation: node.incarnation,
            };
            (process, node.madsim)
        });
        let future = ProcessFuture::new(process, future);
        let inner = match node.and_then(|node| Handle::current().get_node(node)) {
            Some(node) => node.spawn(future),
            None => madsim::task::spawn(future),
        };
        crate::JoinHandle::simulated(name, inner)
    }

    /// Kills the process as SIGKILL does: its writes to files survive, its destructors have no
    /// effect, and its kernel ends each connection by a reset or by an orderly close, as the seed
    /// decides. Returns false if it was down.
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

    /// Cuts the machine's power: unsynced data and names are lost completely or in part,
    /// connections vanish silently, and the machine does not answer until the restart. Returns
    /// false if the power was off.
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

    /// Restores the power and starts the process. A running process is killed first.
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
            let incarnation = node.incarnation;
            let name = node.name.clone();
            let ip = node.ip;
            let madsim = node.madsim;
            state.count("node.restart");
            state.note(id, "node.start", &incarnation.to_le_bytes(), || {
                Detail::Started {
                    name,
                    ip,
                    incarnation,
                }
            });
            if !had_power {
                state.net_power_back();
            }
            madsim
        });
        if let Some(node) = node {
            // Also clears the mark that madsim sets on a node whose main future has completed.
            Handle::current().restart(node);
        }
    }

    /// Suspends the process's tasks, as SIGSTOP or a stalled machine does. Time passes, and its
    /// kernel continues to accept connections and bytes.
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

    /// Continues a paused process.
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

    /// Requests a graceful stop, see [`crate::signal::shutdown`]. A process without a listener is
    /// killed.
    pub fn stop(&self, id: NodeId) {
        let is_received = with(|state| {
            let node = state.node(id);
            if !node.is_up {
                return true;
            }
            if !node.stop.has_listener {
                return false;
            }
            node.stop.is_requested = true;
            let wakers = std::mem::take(&mut node.stop.wakers);
            wakers.into_iter().for_each(|waker| state.wake(Some(waker)));
            state.count("node.stop");
            state.note(id, "node.stop", &[], String::new);
            true
        });
        if !is_received {
            self.kill(id);
        }
    }

    /// True while the node's process is paused.
    pub fn is_paused(&self, id: NodeId) -> bool {
        with(|state| state.node(id).is_paused)
    }

    /// True while the node's process is running or paused.
    pub fn is_up(&self, id: NodeId) -> bool {
        with(|state| state.node(id).is_up)
    }

    /// The name passed to [`node`](Self::node).
    pub fn name(&self, id: NodeId) -> String {
        with(|state| state.node(id).name.clone())
    }

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

    /// The node's wall clock in milliseconds since the Unix epoch. [`NodeId::WORLD`] has the true
    /// time.
    pub fn wall_ms(&self, id: NodeId) -> u64 {
        with(|state| state.wall_ms(id))
    }

    /// Sets the node's clock `ms` milliseconds ahead of the true time, or behind if negative. Its
    /// drift continues.
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

    /// Makes the node's clock gain `ppm` microseconds per second from now on, or lose them if
    /// negative.
    pub fn set_clock_drift(&self, id: NodeId, ppm: i64) {
        self.change_clock(id, "clock.drift", ppm, |ahead, _| (ahead, ppm));
    }

    /// The microseconds per second that the node's clock gains.
    pub fn clock_drift(&self, id: NodeId) -> i64 {
        with(|state| state.node(id).clock.drift_ppm)
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
            state.note(id, kind, &by.to_le_bytes(), || Detail::Clock { by });
        });
    }
}

/// The simulated implementation of [`crate::clock::wall_ms`].
pub(crate) fn wall_ms_of_this_node() -> u64 {
    with(|state| state.wall_ms(here().node))
}

/// Waits until the current process is asked to stop; the simulated implementation of
/// [`crate::signal::shutdown`].
pub(crate) async fn shutdown() {
    std::future::poll_fn(|cx| {
        with(|state| {
            let process = here();
            if !state.is_alive(process) {
                return Poll::Pending;
            }
            let stop = &mut state.node(process.node).stop;
            stop.has_listener = true;
            if stop.is_requested {
                return Poll::Ready(());
            }
            if !stop.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                stop.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    })
    .await
}
