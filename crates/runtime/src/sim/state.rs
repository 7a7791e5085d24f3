//! The mutable state of a simulation, and access to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::buggify::Sites;
use super::net::Net;
use super::node::Node;
use super::process::{Process, here};
use super::trace::{Detail, Trace};
use super::{NodeId, Options};

/// Receives a coverage mark, inside of the node that reached it.
pub type MarkHandler = Arc<dyn Fn(NodeId, &'static str) + Send + Sync>;
/// Receives an event of [`crate::trace::event`] with its payload, inside of the node that recorded
/// it.
pub type EventHandler = Arc<dyn Fn(NodeId, &'static str, &[u8]) + Send + Sync>;

thread_local! {
    /// The state of the run, which has its own thread.
    static STATE: RefCell<Option<WorldState>> = const { RefCell::new(None) };
}

/// The state of the simulated world.
pub(crate) struct WorldState {
    /// The instant at which simulated time is zero.
    pub start: Instant,
    pub fault_seed: u64,
    /// True wall clock at the start, milliseconds since the Unix epoch.
    pub epoch_ms: u64,
    /// By number; the first one represents the world itself.
    pub nodes: Vec<Node>,
    pub by_ip: BTreeMap<IpAddr, NodeId>,
    pub net: Net,
    pub trace: Trace,
    pub counters: BTreeMap<&'static str, u64>,
    /// Receives every coverage mark.
    pub on_reached: Option<MarkHandler>,
    /// Receives every event that a node records.
    pub on_event: Option<EventHandler>,
    pub sites: Sites,
    /// Polls of all tasks of all nodes.
    pub polls: u64,
    /// Woken when the state is released, so that no foreign code runs while it is borrowed.
    wake_later: Vec<Waker>,
}

impl WorldState {
    pub fn new(options: &Options) -> Self {
        let fault_seed = options.fault_seed;
        Self {
            start: Instant::now(),
            fault_seed,
            epoch_ms: options.epoch_ms(),
            nodes: Vec::new(),
            by_ip: BTreeMap::new(),
            net: Net::new(),
            trace: Trace::new(options.seed),
            counters: BTreeMap::new(),
            on_reached: None,
            on_event: None,
            sites: Sites::default(),
            polls: 0,
            wake_later: Vec::new(),
        }
    }

    /// Simulated time since the start.
    pub fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }

    pub fn count(&mut self, what: &'static str) {
        self.count_n(what, 1);
    }

    pub fn count_n(&mut self, what: &'static str, n: u64) {
        if n > 0 {
            *self.counters.entry(what).or_default() += n;
        }
    }

    pub fn note<D: Into<Detail>>(
        &mut self,
        node: NodeId,
        kind: &'static str,
        payload: &[u8],
        detail: impl FnOnce() -> D,
    ) {
        let at = self.now();
        self.trace.note(at, node, kind, payload, detail);
    }

    pub fn wake(&mut self, waker: Option<Waker>) {
        self.wake_later.extend(waker);
    }

    /// Wakes `waker` at `at`. This adds an entry to the timer's heap that cannot be removed.
    pub fn wake_at(&self, at: Duration, waker: &Waker) {
        let mut timer = madsim::time::sleep_until(self.start + at);
        if Pin::new(&mut timer)
            .poll(&mut Context::from_waker(waker))
            .is_ready()
        {
            waker.wake_by_ref();
        }
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(id.0 as usize)
            .expect("a node's number exists only once the node was added")
    }

    pub fn is_alive(&self, process: Process) -> bool {
        self.nodes
            .get(process.node.0 as usize)
            .is_some_and(|node| node.is_up && node.incarnation == process.incarnation)
    }
}

/// Makes `state` the state of this thread.
pub(crate) fn install(state: WorldState) {
    STATE.set(Some(state));
}

/// Removes the state, which ends all access to the world.
pub(crate) fn remove() -> Option<WorldState> {
    STATE.take()
}

/// Runs `f` on the state.
///
/// # Panics
/// Outside of a simulation.
pub(crate) fn with<T>(f: impl FnOnce(&mut WorldState) -> T) -> T {
    let (result, wakers) = STATE.with(|cell| {
        let mut state = cell.borrow_mut();
        let state = state
            .as_mut()
            .expect("the code runs inside of sim::run, on its thread");
        let result = f(state);
        (result, std::mem::take(&mut state.wake_later))
    });
    wakers.into_iter().for_each(Waker::wake);
    result
}

/// As [`with`], but `None` outside of a simulation.
pub(crate) fn with_if_simulated<T>(f: impl FnOnce(&mut WorldState) -> T) -> Option<T> {
    let mut answer = None;
    try_with(|state| answer = Some(f(state)));
    answer
}

/// As [`with`], for destructors, which may run after the simulation or while a panic unwinds.
pub(crate) fn try_with(f: impl FnOnce(&mut WorldState)) {
    let wakers = STATE.try_with(|cell| {
        let mut state = cell.try_borrow_mut().ok()?;
        let state = state.as_mut()?;
        f(state);
        Some(std::mem::take(&mut state.wake_later))
    });
    if let Ok(Some(wakers)) = wakers {
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Records an event of the current process, unless it is dead.
pub(crate) fn note_event(kind: &'static str, payload: &[u8]) {
    let mut reported = None;
    try_with(|state| {
        let process = here();
        if state.is_alive(process) {
            state.note(process.node, kind, payload, String::new);
            let handler = state.on_event.clone();
            reported = handler.map(|handler| (handler, process.node));
        }
    });
    // The handler may look at the world, so the state is released before.
    if let Some((handler, node)) = reported {
        handler(node, kind, payload);
    }
}

/// Counts a coverage mark of the current process, unless it is dead, and reports it.
pub(crate) fn count_reached(what: &'static str) {
    let mut reported = None;
    try_with(|state| {
        let process = here();
        if state.is_alive(process) {
            state.count(what);
            let handler = state.on_reached.clone();
            reported = handler.map(|handler| (handler, process.node));
        }
    });
    // The handler may act on the world, so the state is released before.
    if let Some((handler, node)) = reported {
        handler(node, what);
    }
}
