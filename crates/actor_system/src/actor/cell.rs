//! The supervision tree as it can be looked at: one cell a child, read by
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

/// Children that a supervisor may have at once.
pub const MAX_CHILDREN: usize = 1 << 14;

/// Ended children that a supervisor still shows.
const RETIRED_SHOWN: usize = 16;

/// State of an actor or supervisor at one moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Snapshot {
    /// Its name under its supervisor.
    pub name: String,
    /// System, supervisors and name, joined by slashes.
    pub path: String,
    /// Lifecycle state.
    pub state: State,
    /// An actor's own judgement; that of a supervisor is the worst of its children and its own
    /// state.
    pub health: Health,
    /// Incarnations so far.
    pub incarnation: u64,
    /// Restarts so far, those because of a sibling included.
    pub restarts: u64,
    /// The last failure with its sources.
    pub last_error: Option<String>,
    /// The mailbox; none for a supervisor.
    pub mailbox: Option<MailboxSnapshot>,
    /// The children in the order in which they were started, then those that ended for good (the
    /// last few).
    pub children: Vec<Snapshot>,
}

/// State of a mailbox at one moment, and the outcomes of its messages.
///
/// Each message that was accepted is one of: handled, failed, coalesced, dropped, expired,
/// interrupted, abandoned, waiting, or in hand. Timers are not accepted, but handled, failed or
/// interrupted all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct MailboxSnapshot {
    /// Messages waiting.
    pub depth: usize,
    /// Messages that may wait.
    pub capacity: usize,
    /// Messages that were taken.
    pub accepted: u64,
    /// Messages that were not taken: no room, or the circuit breaker was open.
    pub refused: u64,
    /// Messages that a waiting one took in.
    pub coalesced: u64,
    /// Messages that were taken and then dropped for newer ones.
    pub dropped: u64,
    /// Timers that came due.
    pub timers: u64,
    /// Messages, timers included, that were handled without a failure.
    pub handled: u64,
    /// Messages whose handling failed, and that do not come back.
    pub failed: u64,
    /// Messages whose handling failed, and that were put back.
    pub redelivered: u64,
    /// Messages whose deadline passed while they waited.
    pub expired: u64,
    /// Messages that were taken but never handled because the actor ended for good.
    pub abandoned: u64,
    /// Messages whose handling was cut off because a stop took too long, or the watchdog ended it;
    /// and timers in a batch that failed before it took them.
    pub interrupted: u64,
    /// Messages handled in the last second that was looked at.
    pub handled_per_second: u64,
    /// True while the actor awaits something within a message, its start or its reconfiguration.
    /// False while it computes.
    pub in_hand: bool,
    /// Handled messages by kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// The descendant of this path relative to this one (`"chain/engine"`), or itself for the empty
    /// path.
    pub fn find(&self, path: &str) -> Option<&Self> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self, |node, name| {
                node.children.iter().find(|c| c.name == name)
            })
    }

    /// This one and all below it, parents first.
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

/// The visible side of one child. Written by its own task and its supervisor, read by anybody.
pub(crate) struct Cell {
    /// Unique within the system, from 1.
    pub number: u32,
    pub name: Arc<str>,
    pub path: Arc<str>,
    pub role: Option<Role>,
    pub shared: Arc<Shared>,
    pub control: Control,
    /// True while its own code is being polled; `turns` counts the polls.
    pub is_busy: AtomicBool,
    /// True while it awaits something within a message, its start or its reconfiguration.
    pub is_waiting: AtomicBool,
    pub turns: AtomicU64,
    pub handled_per_second: AtomicU64,
    /// True while the monitor finds it in one and the same poll for too long.
    pub is_stuck: AtomicBool,
    /// True once it was stopped for good before its siblings.
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
    last_error: Option<String>,
}

enum Body {
    /// The mailbox knows the cell, so the cell does not hold the mailbox.
    Actor {
        stats: Arc<Stats>,
        mailbox: Weak<dyn View>,
    },
    Supervisor(Mutex<Roster>),
}

/// The children of a supervisor in the order in which they were added. Also what keeps their names
/// unique.
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

    /// The cell of an actor, as its mailbox knows it.
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

    /// Waits until the state is one of these.
    pub async fn reaches(&self, wanted: &[State]) {
        loop {
            let changed = self.changed.notified();
            if wanted.contains(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// Begins the next incarnation: the state says whether it is the first. One that was stopped
    /// while it waited for its first start comes back like any other.
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

    /// True after the begin of the first incarnation.
    pub fn has_begun(&self) -> bool {
        lock(&self.status).incarnation > 0
    }

    /// Brings the state to stopped from wherever it is; a failed one stays failed.
    pub fn rest(&self) {
        let state = self.state();
        if !matches!(state, State::Stopping | State::Stopped | State::Failed) {
            self.advance(State::Stopping);
        }
        if !matches!(state, State::Stopped | State::Failed) {
            self.advance(State::Stopped);
        }
    }

    /// Brings the state to failed from wherever it is; a stopped one stays stopped.
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

    pub fn set_health(&self, health: Health) {
        lock(&self.status).health = health;
    }

    /// Lets the mailbox refuse messages, or accept them again.
    pub fn refuse(&self, is_refusing: bool) {
        if let Some(view) = self.view() {
            view.refuse(is_refusing);
        }
    }

    /// Turns the measurement of times on or off.
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

    /// The counters of an actor; none for a supervisor.
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

    /// Adds a child to a supervisor. Its index is the order of start.
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

    /// Frees a child's name and shows it among the ended ones.
    pub fn retire(&self, child: &Arc<Self>) {
        let mut roster = lock(self.roster());
        roster.children.retain(|other| !Arc::ptr_eq(other, child));
        roster.names.remove(&child.name);
        if roster.retired.len() == RETIRED_SHOWN {
            roster.retired.pop_front();
        }
        roster.retired.push_back(child.clone());
    }

    /// No child can be added any more.
    pub fn close(&self) {
        lock(self.roster()).closed = true;
    }

    /// Actors at and under this cell that may take time to stop, at least one for a supervisor: its
    /// share of the time of a shutdown.
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
            coalesced: stats.coalesced.load(Relaxed),
            dropped: stats.dropped.load(Relaxed),
            timers: stats.timers.load(Relaxed),
            handled: stats.handled.load(Relaxed),
            failed: stats.failed.load(Relaxed),
            redelivered: stats.redelivered.load(Relaxed),
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

    /// The cells at and under this one that have not ended for good.
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

/// The health of one that computes without end.
const STUCK: Health = Health::Unhealthy("computes without end");

/// Combines the lifecycle state of an actor with its own judgement.
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
