//! The observable supervision tree: one cell per actor or supervisor, read by
//! [`System::snapshot`](crate::System::snapshot).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use alys_runtime::{sync::Notify, trace};

use crate::{
    actor::Health,
    actor::control::Control,
    actor::error::{Failure, StartError},
    actor::lifecycle::{Lifecycle, State},
    actor::shared::Shared,
    lock,
    mailbox::access::Role,
    mailbox::home::Home,
    mailbox::message::Message,
    mailbox::stats::Stats,
    mailbox::{Mailbox, View},
};

/// Maximum children of a supervisor that have not terminated.
pub const MAX_CHILDREN: usize = 1 << 14;

/// Terminated children that a supervisor still lists in its snapshot.
const RETIRED_SHOWN: usize = 16;

/// Snapshot of an actor or supervisor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Snapshot {
    /// Name, unique among its siblings.
    pub name: String,
    /// Full path: system, supervisors and name, joined by slashes.
    pub path: String,
    /// Lifecycle state.
    pub state: State,
    /// Worst of the lifecycle state, the actor's own
    /// [`health_check`](crate::AlysActor::health_check) and, for a supervisor, its children; an
    /// unhealthy child only degrades its supervisor.
    pub health: Health,
    /// Number of incarnations so far.
    pub incarnation: u64,
    /// Number of restarts so far, including those caused by siblings.
    pub restarts: u64,
    /// Number of ends, by a failure or at its own request, after which its supervisor decided about
    /// a restart. Restarts caused by siblings do not count.
    pub failures: u64,
    /// Last failure with its sources, as one line.
    pub last_error: Option<String>,
    /// State of the mailbox; none for a supervisor.
    pub mailbox: Option<MailboxSnapshot>,
    /// Children in the order of start, then the last few terminated ones.
    pub children: Vec<Snapshot>,
}

/// Snapshot of a mailbox, and the outcomes of its messages since the actor was added.
///
/// Every accepted message is counted once, as handled, failed, dropped, expired,
/// interrupted or abandoned, unless it is still queued or being handled. Messages of timers are not
/// counted as accepted, but as handled, failed or interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct MailboxSnapshot {
    /// Number of queued messages.
    pub depth: usize,
    /// Maximum number of queued messages.
    pub capacity: usize,
    /// Accepted messages.
    pub accepted: u64,
    /// Messages refused because the mailbox was full or the circuit breaker open.
    pub refused: u64,
    /// Accepted messages that were dropped for newer ones, or by an injected fault.
    pub dropped: u64,
    /// Timer messages whose handling started.
    pub timers: u64,
    /// Timer messages whose handling started in another incarnation than the one that set them.
    /// Always 0 outside of simulations with a planted bug, because timers end with their
    /// incarnation.
    pub crossed: u64,
    /// Messages, including those of timers, that were handled without a failure.
    pub handled: u64,
    /// Messages whose handler failed.
    pub failed: u64,
    /// Messages whose deadline passed while they were queued.
    pub expired: u64,
    /// Accepted messages that were not handled because the actor terminated.
    pub abandoned: u64,
    /// Messages whose handler was cancelled by the deadline of a stop or by its time limit, and
    /// timer messages left in a batch that failed.
    pub interrupted: u64,
    /// Messages handled in the last second, updated once a second.
    pub handled_per_second: u64,
    /// True while the actor awaits in a handler, its start or its reconfiguration. False while it
    /// computes.
    pub in_hand: bool,
    /// Handled messages by kind; kinds beyond the first 32 are counted together as `other`.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// The descendant at this relative path (`"chain/engine"`); itself for the empty path.
    pub fn find(&self, path: &str) -> Option<&Self> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self, |node, name| {
                node.children.iter().find(|c| c.name == name)
            })
    }

    /// This node and all its descendants, parents first.
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        let mut at = 0;
        while at < all.len() {
            all.extend(&all[at].children);
            at += 1;
        }
        all
    }
}

/// The shared state of one actor or supervisor, written by its own task and its supervisor.
pub(crate) struct Cell {
    /// Unique within the system, from 1.
    pub number: u64,
    pub name: Arc<str>,
    pub path: Arc<str>,
    pub role: Option<Role>,
    pub shared: Arc<Shared>,
    pub control: Control,
    /// True while the actor's code is being polled; `turns` counts the polls.
    pub is_busy: AtomicBool,
    /// True while the actor awaits in a handler, its start or its reconfiguration.
    pub is_waiting: AtomicBool,
    pub turns: AtomicU64,
    pub handled_per_second: AtomicU64,
    /// True once the monitor has found the actor in the same poll for too long.
    pub is_stuck: AtomicBool,
    /// True once it was drained ahead of its siblings.
    pub is_drained: AtomicBool,
    status: Mutex<Status>,
    changed: Notify,
    body: Body,
}

#[derive(Default)]
struct Status {
    lifecycle: Lifecycle,
    health: Health,
    incarnation: u64,
    failures: u64,
    last_error: Option<String>,
}

enum Body {
    /// Weak, because senders, not the tree, keep the mailbox alive.
    Actor {
        stats: Arc<Stats>,
        mailbox: Weak<dyn View>,
    },
    Supervisor(Mutex<Roster>),
}

/// The children of a supervisor in the order in which they were added, and their unique names.
#[derive(Default)]
struct Roster {
    children: Vec<Arc<Cell>>,
    names: BTreeSet<Arc<str>>,
    retired: VecDeque<Arc<Cell>>,
    closed: bool,
}

impl Cell {
    pub fn actor<M: Message>(
        name: &str,
        parent: &Self,
        role: Option<Role>,
        mailbox: &Arc<Mailbox<M>>,
    ) -> Self {
        let view: Arc<dyn View> = mailbox.clone();
        let body = Body::Actor {
            stats: mailbox.stats.clone(),
            mailbox: Arc::downgrade(&view),
        };
        let path = format!("{}/{name}", parent.path);
        Self::new(name, path, role, parent.shared.clone(), body)
    }

    pub fn supervisor(name: &str, parent: &Self) -> Self {
        let path = format!("{}/{name}", parent.path);
        Self::new(
            name,
            path,
            None,
            parent.shared.clone(),
            Body::Supervisor(Mutex::default()),
        )
    }

    pub fn root(name: &str, shared: Arc<Shared>) -> Self {
        Self::new(
            name,
            name.to_owned(),
            None,
            shared,
            Body::Supervisor(Mutex::default()),
        )
    }

    /// The actor's identity, for its mailbox.
    pub fn home(&self) -> Home {
        Home {
            number: self.number,
            path: self.path.clone(),
            tables: self.shared.tables.clone(),
        }
    }

    fn new(name: &str, path: String, role: Option<Role>, shared: Arc<Shared>, body: Body) -> Self {
        Self {
            number: shared.tables.next_number(),
            name: name.into(),
            path: path.into(),
            role,
            shared,
            control: Control::default(),
            is_busy: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            handled_per_second: AtomicU64::new(0),
            is_stuck: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            status: Mutex::default(),
            changed: Notify::new(),
            body,
        }
    }

    pub fn state(&self) -> State {
        lock(&self.status).lifecycle.state()
    }

    pub fn advance(&self, to: State) {
        let advanced = lock(&self.status).lifecycle.advance(to);
        match advanced {
            Ok(()) => {
                if alys_runtime::is_simulated() {
                    trace::event("actor.state", format!("{}\0{to}", self.path).as_bytes());
                }
                self.changed.notify_waiters();
            }
            Err(error) => tracing::error!(actor = %self.path, %error, "lifecycle broken"),
        }
    }

    /// Waits until the state is one of `wanted`.
    pub async fn reaches(&self, wanted: &[State]) {
        loop {
            let changed = self.changed.notified();
            if wanted.contains(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// Starts the next incarnation and returns its number. The state becomes `Starting` only for an
    /// uninitialized child; one stopped before its first start is `Restarting`.
    pub fn begin(&self) -> u64 {
        let (incarnation, state) = {
            let mut status = lock(&self.status);
            status.incarnation += 1;
            status.health = Health::default();
            (status.incarnation, status.lifecycle.state())
        };
        let is_new = state == State::Uninitialized;
        self.advance(if is_new {
            State::Starting
        } else {
            State::Restarting
        });
        incarnation
    }

    /// True once the first incarnation has started.
    pub fn has_begun(&self) -> bool {
        lock(&self.status).incarnation > 0
    }

    /// Moves the state to `Stopped` by legal transitions; `Failed` stays.
    pub fn rest(&self) {
        let state = self.state();
        if !matches!(state, State::Stopping | State::Stopped | State::Failed) {
            self.advance(State::Stopping);
        }
        if !matches!(state, State::Stopped | State::Failed) {
            self.advance(State::Stopped);
        }
    }

    /// Moves the state to `Failed` by legal transitions, or to `Stopped` where `Failed` is not
    /// reachable.
    pub fn lose(&self, failure: &Failure) {
        self.failed(failure);
        match self.state() {
            State::Running => self.advance(State::Crashed),
            State::Starting | State::Restarting => self.advance(State::StartFailed),
            State::Uninitialized | State::Backoff | State::Stopping => self.rest(),
            State::StartFailed | State::Crashed | State::Stopped | State::Failed => {}
        }
        if matches!(self.state(), State::Crashed | State::StartFailed) {
            self.advance(State::Failed);
        }
    }

    pub fn failed(&self, failure: &Failure) {
        lock(&self.status).last_error = Some(failure.chain());
    }

    /// Counts an end for which the supervisor must decide about a restart.
    pub fn count_failure(&self) {
        lock(&self.status).failures += 1;
    }

    pub fn set_health(&self, health: Health) {
        lock(&self.status).health = health;
    }

    /// Sets the mailbox to refuse messages, or to accept them again.
    pub fn refuse(&self, is_refusing: bool) {
        if let Some(view) = self.view() {
            view.refuse(is_refusing);
        }
    }

    /// Turns the measurement of waiting and handling times on or off.
    pub fn set_timed(&self, is_timed: bool) {
        if let Some(view) = self.view() {
            view.set_timed(is_timed);
        }
    }

    fn view(&self) -> Option<Arc<dyn View>> {
        match &self.body {
            Body::Actor { mailbox, .. } => mailbox.upgrade(),
            Body::Supervisor(_) => None,
        }
    }

    /// Counters of an actor; none for a supervisor.
    pub fn stats(&self) -> Option<&Arc<Stats>> {
        match &self.body {
            Body::Actor { stats, .. } => Some(stats),
            Body::Supervisor(_) => None,
        }
    }

    /// Depth and capacity of the mailbox; zero for a supervisor, and once the mailbox is dropped.
    pub fn depth(&self) -> (usize, usize) {
        self.view().map(|view| view.depth()).unwrap_or_default()
    }

    /// Adds a child to a supervisor, last in the order of start.
    pub fn add(&self, child: Arc<Self>) -> Result<(), StartError> {
        let supervisor = || self.path.to_string();
        let mut roster = lock(self.roster());
        if roster.closed {
            return Err(StartError::ShutDown {
                supervisor: supervisor(),
            });
        }
        if roster.children.len() >= MAX_CHILDREN {
            return Err(StartError::TooManyChildren {
                supervisor: supervisor(),
                limit: MAX_CHILDREN,
            });
        }
        if child.name.is_empty() || child.name.contains('/') {
            return Err(StartError::BadName {
                supervisor: supervisor(),
                name: child.name.to_string(),
            });
        }
        if !roster.names.insert(child.name.clone()) {
            return Err(StartError::NameTaken {
                supervisor: supervisor(),
                name: child.name.to_string(),
            });
        }
        roster.retired.retain(|other| other.name != child.name);
        roster.children.push(child);
        Ok(())
    }

    /// Frees the name of a child and lists it among the terminated ones.
    pub fn retire(&self, child: &Arc<Self>) {
        let mut roster = lock(self.roster());
        roster.children.retain(|other| !Arc::ptr_eq(other, child));
        roster.names.remove(&child.name);
        if roster.retired.len() == RETIRED_SHOWN {
            roster.retired.pop_front();
        }
        roster.retired.push_back(child.clone());
    }

    /// Refuses further children.
    pub fn close(&self) {
        lock(self.roster()).closed = true;
    }

    /// Number of actors at and under this cell that may take time to stop, at least one for a
    /// supervisor. Weights its share of the time of a shutdown.
    pub fn weight(&self) -> u32 {
        match &self.body {
            Body::Actor { .. } => u32::from(!self.is_drained.load(Relaxed)),
            Body::Supervisor(roster) => lock(roster)
                .children
                .iter()
                .map(|child| child.weight())
                .sum::<u32>()
                .max(1),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let (mailbox, children): (_, Vec<Snapshot>) = match &self.body {
            Body::Actor { stats, .. } => (Some(self.mailbox_snapshot(stats)), Vec::new()),
            Body::Supervisor(roster) => {
                let cells: Vec<Arc<Self>> = {
                    let roster = lock(roster);
                    roster
                        .children
                        .iter()
                        .chain(&roster.retired)
                        .cloned()
                        .collect()
                };
                (None, cells.iter().map(|child| child.snapshot()).collect())
            }
        };
        let status = lock(&self.status);
        let stuck = if self.is_stuck.load(Relaxed) {
            STUCK
        } else {
            Health::Healthy
        };
        let own = stuck.worse(health_of(status.lifecycle.state(), status.health));
        Snapshot {
            name: self.name.to_string(),
            path: self.path.to_string(),
            state: status.lifecycle.state(),
            health: children
                .iter()
                .map(|child| child.health.seen_from_above())
                .fold(own, Health::worse),
            incarnation: status.incarnation,
            restarts: status.incarnation.saturating_sub(1),
            failures: status.failures,
            last_error: status.last_error.clone(),
            mailbox,
            children,
        }
    }

    fn mailbox_snapshot(&self, stats: &Stats) -> MailboxSnapshot {
        let (depth, capacity) = self.depth();
        MailboxSnapshot {
            depth,
            capacity,
            accepted: stats.accepted.load(Relaxed),
            refused: stats.refused.load(Relaxed),
            dropped: stats.dropped.load(Relaxed),
            timers: stats.timers.load(Relaxed),
            crossed: stats.crossed.load(Relaxed),
            handled: stats.handled.load(Relaxed),
            failed: stats.failed.load(Relaxed),
            expired: stats.expired.load(Relaxed),
            abandoned: stats.abandoned.load(Relaxed),
            interrupted: stats.interrupted.load(Relaxed),
            handled_per_second: self.handled_per_second.load(Relaxed),
            in_hand: self.is_waiting.load(Relaxed),
            kinds: stats
                .kinds()
                .map(|(name, kind)| (name, kind.handled()))
                .collect(),
        }
    }

    /// The cells at and under this one that have not terminated.
    pub fn family(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let mut all = vec![self.clone()];
        let mut at = 0;
        while at < all.len() {
            if let Body::Supervisor(roster) = &all[at].clone().body {
                all.extend(lock(roster).children.iter().cloned());
            }
            at += 1;
        }
        all
    }

    fn roster(&self) -> &Mutex<Roster> {
        match &self.body {
            Body::Supervisor(roster) => roster,
            Body::Actor { .. } => {
                unreachable!("only a supervisor's handle and task touch a roster")
            }
        }
    }
}

/// Health of an actor that computes without awaiting.
const STUCK: Health = Health::Unhealthy("computes without end");

/// Combines the lifecycle state of an actor with its own assessment.
fn health_of(state: State, own: Health) -> Health {
    match state {
        State::Running => own,
        State::Uninitialized | State::Starting | State::Restarting => {
            Health::Degraded("is starting")
        }
        State::Stopping | State::Stopped => Health::Degraded("is stopped"),
        State::Crashed | State::StartFailed | State::Backoff => {
            Health::Unhealthy("waits for a restart")
        }
        State::Failed => Health::Unhealthy("failed for good"),
    }
}
