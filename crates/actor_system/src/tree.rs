//! The supervision tree as it can be looked at: one cell a child, read by
//! [`System::snapshot`](crate::System::snapshot).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use alys_runtime::trace;

use crate::{
    actor::Health,
    error::{Failure, StartError},
    lifecycle::{Lifecycle, State},
    lock,
    mailbox::{Addr, Message, Stats},
};

/// Children that a supervisor may have at once.
pub const MAX_CHILDREN: usize = 1024;

/// Ended children that a supervisor still shows.
const RETIRED_SHOWN: usize = 16;

/// What an actor or supervisor looks like at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name under its supervisor.
    pub name: String,
    /// System, supervisors and name, joined by slashes.
    pub path: String,
    /// Where it is in its life.
    pub state: State,
    /// Its own judgement; always healthy for a supervisor.
    pub health: Health,
    /// Incarnations so far.
    pub incarnation: u64,
    /// Restarts so far, those because of a sibling included.
    pub restarts: u64,
    /// The last failure with its sources.
    pub last_error: Option<String>,
    /// The mailbox; none for a supervisor.
    pub mailbox: Option<MailboxSnapshot>,
    /// The children in the order in which they were started, then those that ended for good (the last few).
    pub children: Vec<Snapshot>,
}

/// What a mailbox looks like at one moment, and what became of its messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailboxSnapshot {
    /// Messages waiting.
    pub depth: usize,
    /// Messages that may wait.
    pub capacity: usize,
    /// Messages, timers included, that were handled without a failure.
    pub handled: u64,
    /// Messages whose handling failed.
    pub failed: u64,
    /// Messages that were refused because the mailbox was full.
    pub dropped: u64,
    /// Messages that were taken but never handled because the actor ended for good.
    pub abandoned: u64,
    /// Messages whose handling was cut off because a stop took too long.
    pub interrupted: u64,
    /// Handled messages by kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// The descendant of this path relative to this one (`"chain/engine"`), or itself for the empty path.
    pub fn find(&self, path: &str) -> Option<&Self> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self, |node, name| node.children.iter().find(|c| c.name == name))
    }
}

/// The visible side of one child. Written by its own task and its supervisor, read by anybody.
pub(crate) struct Cell {
    pub name: Arc<str>,
    pub path: Arc<str>,
    status: Mutex<Status>,
    body: Body,
}

#[derive(Default)]
struct Status {
    life: Lifecycle,
    health: Health,
    incarnation: u64,
    last_error: Option<String>,
}

enum Body {
    Actor { stats: Arc<Stats>, depth: Box<dyn Fn() -> (usize, usize) + Send + Sync> },
    Supervisor(Mutex<Roster>),
}

/// The children of a supervisor in the order in which they were added. Also what keeps their names unique.
#[derive(Default)]
struct Roster {
    children: Vec<Arc<Cell>>,
    retired: VecDeque<Arc<Cell>>,
    closed: bool,
}

impl Cell {
    pub fn actor<M: Message>(name: &str, parent: &Self, addr: &Addr<M>) -> Self {
        let queue = addr.clone();
        let depth = Box::new(move || (queue.depth(), queue.capacity()));
        Self::new(name, Some(parent), Body::Actor { stats: addr.stats.clone(), depth })
    }

    pub fn supervisor(name: &str, parent: Option<&Self>) -> Self {
        Self::new(name, parent, Body::Supervisor(Mutex::default()))
    }

    fn new(name: &str, parent: Option<&Self>, body: Body) -> Self {
        let path = match parent {
            Some(parent) => format!("{}/{name}", parent.path).into(),
            None => name.into(),
        };
        Self { name: name.into(), path, status: Mutex::default(), body }
    }

    pub fn state(&self) -> State {
        lock(&self.status).life.state()
    }

    pub fn advance(&self, to: State) {
        let advanced = lock(&self.status).life.advance(to);
        match advanced {
            Ok(()) => trace::event("actor.state", format!("{}\0{to}", self.path).as_bytes()),
            Err(error) => tracing::error!(actor = %self.path, %error, "lifecycle broken"),
        }
    }

    /// Begins the next incarnation: the state says whether it is the first.
    pub fn begin(&self) -> u64 {
        let incarnation = {
            let mut status = lock(&self.status);
            status.incarnation += 1;
            status.incarnation
        };
        self.advance(if incarnation == 1 { State::Starting } else { State::Restarting });
        incarnation
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

    pub fn failed(&self, failure: &Failure) {
        lock(&self.status).last_error = Some(failure.chain());
    }

    pub fn set_health(&self, health: Health) {
        lock(&self.status).health = health;
    }

    /// Adds a child to a supervisor. Its index is the order of start.
    pub fn add(&self, child: Arc<Self>) -> Result<(), StartError> {
        let supervisor = || self.path.to_string();
        let mut roster = lock(self.roster());
        if roster.closed {
            return Err(StartError::ShutDown { supervisor: supervisor() });
        }
        if roster.children.len() >= MAX_CHILDREN {
            return Err(StartError::TooManyChildren { supervisor: supervisor(), limit: MAX_CHILDREN });
        }
        if roster.children.iter().any(|other| other.name == child.name) {
            return Err(StartError::NameTaken { supervisor: supervisor(), name: child.name.to_string() });
        }
        roster.retired.retain(|other| other.name != child.name);
        roster.children.push(child);
        Ok(())
    }

    /// Frees a child's name and shows it among the ended ones.
    pub fn retire(&self, child: &Arc<Self>) {
        let mut roster = lock(self.roster());
        roster.children.retain(|other| !Arc::ptr_eq(other, child));
        if roster.retired.len() == RETIRED_SHOWN {
            roster.retired.pop_front();
        }
        roster.retired.push_back(child.clone());
    }

    /// No child can be added any more.
    pub fn close(&self) {
        lock(self.roster()).closed = true;
    }

    /// Actors at and under this cell, at least one: its share of the time of a shutdown.
    pub fn weight(&self) -> u32 {
        match &self.body {
            Body::Actor { .. } => 1,
            Body::Supervisor(roster) => {
                lock(roster).children.iter().map(|child| child.weight()).sum::<u32>().max(1)
            }
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let (mailbox, children) = match &self.body {
            Body::Actor { stats, depth } => (Some(mailbox_snapshot(stats, depth())), Vec::new()),
            Body::Supervisor(roster) => {
                let roster = lock(roster);
                (None, roster.children.iter().chain(&roster.retired).map(|child| child.snapshot()).collect())
            }
        };
        let status = lock(&self.status);
        Snapshot {
            name: self.name.to_string(),
            path: self.path.to_string(),
            state: status.life.state(),
            health: status.health,
            incarnation: status.incarnation,
            restarts: status.incarnation.saturating_sub(1),
            last_error: status.last_error.clone(),
            mailbox,
            children,
        }
    }

    fn roster(&self) -> &Mutex<Roster> {
        match &self.body {
            Body::Supervisor(roster) => roster,
            Body::Actor { .. } => unreachable!("only a supervisor's handle and task touch a roster"),
        }
    }
}

fn mailbox_snapshot(stats: &Stats, (depth, capacity): (usize, usize)) -> MailboxSnapshot {
    MailboxSnapshot {
        depth,
        capacity,
        handled: stats.handled.load(Relaxed),
        failed: stats.failed.load(Relaxed),
        dropped: stats.dropped.load(Relaxed),
        abandoned: stats.abandoned.load(Relaxed),
        interrupted: stats.interrupted.load(Relaxed),
        kinds: lock(&stats.kinds).clone(),
    }
}
