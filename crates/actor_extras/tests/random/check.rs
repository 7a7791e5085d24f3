//! Properties that every history satisfies, for any plan.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use alys_actor_system::{
    DEAD_LETTERS_KEPT, Exhausted, Intensity, Priority, Reason, Receipt, Restart, RestartDelay,
    State, Strategy,
};

use crate::{
    history::{Book, Event, Hook, Id, Outcome},
    plan::{Plan, place},
    world::{GRACE, STOP_TIMEOUT, Seen},
};

/// Part of the time that each actor may add to the deadline of a shutdown: the supervisor waits
/// this long for the actor's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// `stop_timeout` of a pool's workers; each may delay the shutdown by this much.
const POOL_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks a run and adds each violation to the complaints of its book.
pub fn check(plan: &Plan, seen: &Seen, book: &mut Book) {
    let run = Run { plan, seen };
    let mut wrong = Vec::new();
    run.order(book, &mut wrong);
    let fates = Fates::new(seen, book);
    run.fates(book, &fates, &mut wrong);
    run.figures(book, &fates, &mut wrong);
    run.restarts(book, &mut wrong);
    run.breakers(book, &mut wrong);
    run.asks(book, &mut wrong);
    run.incarnations(book, &mut wrong);
    run.states(book, &mut wrong);
    run.drains(book, &mut wrong);
    run.report(&mut wrong);
    wrong
        .into_iter()
        .for_each(|complaint| book.complain(complaint));
}

struct Run<'a> {
    plan: &'a Plan,
    seen: &'a Seen,
}

type Wrong = Vec<String>;

/// The events about each letter, indexed by its id.
struct Fates {
    outcome: Vec<Option<Outcome>>,
    begun: Vec<usize>,
    done: Vec<Vec<usize>>,
    gone: Vec<Option<Instant>>,
    /// Reason and receiver of each dead letter.
    dead: Vec<Vec<(Reason, usize)>>,
    /// True if the log of dead letters dropped none, so that each is known by its id.
    all_named: bool,
}

impl Fates {
    fn new(seen: &Seen, book: &Book) -> Self {
        let len = book.letters.len();
        let mut fates = Self {
            outcome: vec![None; len],
            begun: vec![0; len],
            done: vec![Vec::new(); len],
            gone: vec![None; len],
            dead: vec![Vec::new(); len],
            all_named: seen.dead.total() <= DEAD_LETTERS_KEPT as u64,
        };
        for entry in &book.entries {
            match &entry.event {
                Event::Sent { id, outcome } => fates.outcome[*id] = Some(*outcome),
                Event::Begun { id, .. } => fates.begun[*id] += 1,
                Event::Done { id, actor } => fates.done[*id].push(*actor),
                Event::Gone { id } => fates.gone[*id] = Some(entry.at),
                _ => {}
            }
        }
        for letter in &seen.dead.last {
            let to = seen.paths.iter().position(|path| **path == *letter.to);
            if let (Ok(id), Some(to)) = (letter.kind.parse::<Id>(), to) {
                fates.dead[id].push((letter.reason, to));
            }
        }
        fates
    }

    /// The receivers whose mailbox is known to have accepted the letter, one entry for each end
    /// that it came to.
    fn taken_for(&self, id: Id) -> Vec<usize> {
        let dead = self.dead[id]
            .iter()
            .filter(|(reason, _)| *reason != Reason::DroppedNewest);
        self.done[id]
            .iter()
            .copied()
            .chain(dead.map(|(_, to)| *to))
            .collect()
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Run<'_> {
    /// Letters with the same sender, receiver and priority are begun in the order in which they
    /// were sent.
    fn order(&self, book: &Book, wrong: &mut Wrong) {
        let mut first: BTreeMap<(u32, usize, Priority), Id> = BTreeMap::new();
        for entry in &book.entries {
            let Event::Begun { id, actor, .. } = entry.event else {
                continue;
            };
            let letter = &book.letters[id];
            if letter.timer_of.is_some() {
                continue;
            }
            let key = (letter.stream, actor, letter.priority);
            if first.insert(key, id).is_some_and(|later| later > id) {
                wrong.push(format!("order: {id} is begun after a later one of {key:?}"));
            }
        }
    }

    /// Each accepted letter has exactly one end: it is done or is a dead letter.
    fn fates(&self, book: &Book, fates: &Fates, wrong: &mut Wrong) {
        for (id, letter) in book.letters.iter().enumerate() {
            let (done, begun, dead) = (fates.done[id].len(), fates.begun[id], &fates.dead[id]);
            let ends = done + dead.len();
            let mut blame = |what: &str| {
                let outcome = fates.outcome[id];
                wrong.push(format!(
                    "fate: {id} {what}: {outcome:?} begun {begun} done {done} dead {dead:?}: \
                     {letter:?}"
                ));
            };
            if done > 1 {
                blame("is done more than once");
            }
            if begun > 1 {
                blame("is begun more than once");
            }
            if ends > 1 {
                blame("ends more than once");
            }
            if begun > 0 && fates.all_named && ends == 0 {
                blame("is begun and never ends");
            }
            match fates.outcome[id] {
                Some(Outcome::NotTaken | Outcome::Cancelled) if begun + ends > 0 => {
                    blame("was not taken")
                }
                Some(Outcome::Taken(Receipt::Dropped))
                    if begun + done > 0
                        || (fates.all_named
                            && dead.iter().all(|(why, _)| *why != Reason::DroppedNewest)) =>
                {
                    blame("was dropped");
                }
                Some(Outcome::Taken(Receipt::Queued | Receipt::QueuedForOldest))
                    if fates.all_named && ends != 1 =>
                {
                    blame("is lost");
                }
                // Without an outcome, a `send` was cancelled before the mailbox accepted the
                // letter.
                None if letter.is_send && begun + ends > 0 => blame("was given up by its sender"),
                _ => {}
            }
            for (reason, to) in dead {
                let is_struck = self
                    .plan
                    .faults
                    .iter()
                    .any(|f| place(&f.actor, self.plan.actors.len()) == *to);
                let is_right = match reason {
                    Reason::DroppedOldest => {
                        letter.overflow == alys_actor_system::Overflow::DropOldest
                    }
                    Reason::DroppedNewest => {
                        letter.overflow == alys_actor_system::Overflow::DropNewest
                    }
                    Reason::Expired => {
                        let is_late = |at: Instant| fates.gone[id].is_none_or(|gone| gone >= at);
                        letter.expires && letter.deadline.is_none_or(|at| at.is_some_and(is_late))
                    }
                    Reason::Killed => begun == 1 || is_struck,
                    // A letter of a timer may be left in a batch that failed.
                    Reason::Interrupted => begun == 1 || is_struck || letter.timer_of.is_some(),
                    Reason::Abandoned => true,
                    Reason::Injected => is_struck,
                };
                if !is_right {
                    blame("has a dead letter that is not true");
                }
            }
        }
        let open = (0..book.letters.len()).filter(|id| {
            matches!(fates.outcome[*id], Some(Outcome::Taken(_))) && fates.done[*id].is_empty()
        });
        let (open, dead) = (open.count(), seen_total(self.seen));
        if open > dead {
            wrong.push(format!(
                "fate: {open} letters were taken and not done, {dead} are dead"
            ));
        }
    }

    /// The counters of the crate agree with the history.
    fn figures(&self, book: &Book, fates: &Fates, wrong: &mut Wrong) {
        let all = self.seen.tree.all();
        for (actor, path) in self.seen.paths.iter().enumerate() {
            let Some(node) = all.iter().find(|node| node.path == *path) else {
                continue;
            };
            let Some(figures) = &node.mailbox else {
                continue;
            };
            let begun_with = figures.accepted + figures.timers;
            let ended = figures.handled
                + figures.failed
                + figures.dropped
                + figures.expired
                + figures.interrupted
                + figures.abandoned
                + figures.depth as u64;
            let of = |reasons: &[Reason]| -> u64 {
                let counts = self.seen.dead.counts.iter();
                counts
                    .filter(|((to, why), _)| **to == **path && reasons.contains(why))
                    .map(|(_, n)| n)
                    .sum()
            };
            let receipts = |wanted: Receipt| {
                let ids = (0..book.letters.len()).filter(|id| book.letters[*id].to == Some(actor));
                ids.filter(|id| fates.outcome[*id] == Some(Outcome::Taken(wanted)))
                    .count() as u64
            };
            let done: u64 = fates
                .done
                .iter()
                .flatten()
                .filter(|by| **by == actor)
                .count() as u64;
            let mut pairs = vec![
                (
                    "accepted and timers, and what became of them",
                    begun_with,
                    ended,
                ),
                ("handled, and done", figures.handled, done),
                (
                    "failed and interrupted, and their dead letters",
                    figures.failed + figures.interrupted,
                    of(&[Reason::Killed, Reason::Interrupted]),
                ),
                (
                    "expired, and their dead letters",
                    figures.expired,
                    of(&[Reason::Expired]),
                ),
                (
                    "abandoned, and their dead letters",
                    figures.abandoned,
                    of(&[Reason::Abandoned]),
                ),
                (
                    "dropped, and their dead letters",
                    figures.dropped,
                    of(&[Reason::DroppedOldest, Reason::Injected]),
                ),
                (
                    "dropped as newest, and receipts",
                    of(&[Reason::DroppedNewest]),
                    receipts(Receipt::Dropped),
                ),
                ("waiting at the end", figures.depth as u64, 0),
            ];
            // A letter may displace several if bytes are limited or if the rest of a failed batch
            // exceeds the capacity; then more letters may be dropped than receipts were returned.
            let is_limited = self
                .plan
                .actors
                .get(actor)
                .is_some_and(|plan| plan.bytes.is_some())
                || self.seen.is_batching[actor];
            let (oldest, taken) = (
                of(&[Reason::DroppedOldest]),
                receipts(Receipt::QueuedForOldest),
            );
            if !is_limited || oldest < taken {
                pairs.push(("dropped for newer ones, and receipts", oldest, taken));
            }
            if fates.all_named {
                let letters =
                    (0..book.letters.len()).filter(|id| book.letters[*id].timer_of.is_none());
                let taken = letters
                    .flat_map(|id| fates.taken_for(id))
                    .filter(|to| *to == actor);
                pairs.push((
                    "accepted, and those that ended",
                    figures.accepted,
                    taken.count() as u64,
                ));
            }
            for (what, one, other) in pairs {
                if one != other {
                    wrong.push(format!(
                        "figures of {path}: {what}: {one} and {other}: {figures:?}"
                    ));
                }
            }
        }
    }

    fn strategy_of(&self, supervisor: &str) -> (Strategy, Intensity, Exhausted) {
        match self
            .seen
            .supervisors
            .iter()
            .position(|path| path == supervisor)
        {
            Some(at) => {
                let of = &self.plan.supervisors[at];
                (of.strategy, of.intensity, of.exhausted)
            }
            None => {
                let within = Duration::from_secs(60);
                let intensity = Intensity {
                    restarts: self.plan.root_restarts,
                    within,
                };
                (Strategy::OneForAll, intensity, Exhausted::Escalate)
            }
        }
    }

    fn pace_of(&self, path: &str) -> Option<RestartDelay> {
        let at = self.seen.paths.iter().position(|other| other == path)?;
        self.plan.actors.get(at)?.pace
    }

    /// True if a restart of `failed` also restarts the actor or supervisor at `path`.
    fn is_affected(&self, failed: &str, path: &str) -> bool {
        let supervisor = parent(failed);
        let Some(below) = path
            .strip_prefix(supervisor)
            .and_then(|below| below.strip_prefix('/'))
        else {
            return false;
        };
        let child = format!(
            "{supervisor}/{}",
            below.split('/').next().unwrap_or_default()
        );
        let place = |path: &str| {
            self.seen
                .children
                .iter()
                .position(|(_, child)| child == path)
        };
        match self.strategy_of(supervisor).0 {
            Strategy::OneForOne => child == failed,
            Strategy::OneForAll => true,
            Strategy::RestForOne => place(&child) >= place(failed),
        }
    }

    /// Each restart follows a decision of the supervisor and waits for its delay; the decisions
    /// within a period do not exceed the intensity.
    fn restarts(&self, book: &Book, wrong: &mut Wrong) {
        let actors = self.seen.paths.len();
        let mut allowed = vec![1; actors];
        let mut not_before: Vec<Option<Instant>> = vec![None; actors];
        let mut is_pushed = vec![false; actors];
        // Recent restarts, by supervisor.
        let mut recent: BTreeMap<&str, VecDeque<Instant>> = BTreeMap::new();
        // Supervisors that may have been restarted. Their counts are unknown on tokio, because only
        // the simulator reports the states that show a restart.
        let mut begun_anew: BTreeSet<&str> = BTreeSet::new();
        for entry in &book.entries {
            match &entry.event {
                Event::Made { actor } => {
                    allowed[*actor] -= 1;
                    if allowed[*actor] < 0 {
                        wrong.push(format!(
                            "restarts: actor {actor} is made without a decision"
                        ));
                    }
                    if not_before[*actor]
                        .take()
                        .is_some_and(|until| entry.at < until)
                    {
                        wrong.push(format!("restarts: actor {actor} is made before its time"));
                    }
                }
                Event::State {
                    path,
                    state: State::Starting | State::Restarting,
                } => {
                    recent.remove(path.as_str());
                    // A restarted supervisor starts its children without the delays of its earlier
                    // decisions, because the incarnations they were for have ended and its parent
                    // has waited already.
                    for (actor, _) in self
                        .seen
                        .paths
                        .iter()
                        .enumerate()
                        .filter(|(_, of)| parent(of) == path)
                    {
                        not_before[actor] = None;
                    }
                }
                Event::GivenUp { path } => {
                    let at = self.seen.paths.iter().position(|other| other == path);
                    let restart = at
                        .and_then(|at| self.plan.actors.get(at))
                        .map(|actor| actor.restart);
                    let may_degrade = self.strategy_of(parent(path)).2 == Exhausted::Degrade;
                    if !may_degrade && matches!(restart, None | Some(Restart::Permanent)) {
                        wrong.push(format!(
                            "restarts: {path} is given up, which its supervisor may not"
                        ));
                    }
                }
                Event::Restarting {
                    path,
                    delay,
                    is_open,
                } => {
                    for (actor, of) in self.seen.paths.iter().enumerate() {
                        if self.is_affected(path, of) {
                            allowed[actor] += 1;
                            not_before[actor] = (of == path).then(|| entry.at + *delay);
                            // On tokio the delay of an actor restarted along with another is
                            // unknown, because the states of the supervisors above it are.
                            is_pushed[actor] |= !alys_runtime::is_simulated() && of != path;
                            not_before[actor].take_if(|_| is_pushed[actor]);
                        }
                    }
                    let pace = self.pace_of(path);
                    let is_right = match pace {
                        Some(RestartDelay::Immediate) => delay.is_zero(),
                        Some(RestartDelay::Delayed(wait)) => *delay == wait,
                        Some(RestartDelay::Backoff(backoff)) => *delay <= backoff.max,
                        Some(RestartDelay::CircuitBreaker(breaker)) => {
                            if *is_open {
                                *delay <= breaker.open_for.max
                            } else {
                                delay.is_zero()
                            }
                        }
                        None => true,
                    };
                    if !is_right {
                        wrong.push(format!(
                            "restarts: {path} waits {delay:?}, its pace is {pace:?}"
                        ));
                    }
                    if !alys_runtime::is_simulated() {
                        let taken = self
                            .seen
                            .supervisors
                            .iter()
                            .filter(|below| self.is_affected(path, below));
                        begun_anew.extend(taken.map(String::as_str));
                    }
                    if matches!(pace, Some(RestartDelay::CircuitBreaker(_))) {
                        continue;
                    }
                    let supervisor = parent(path);
                    let intensity = self.strategy_of(supervisor).1;
                    let span = recent.entry(supervisor).or_default();
                    span.push_back(entry.at);
                    while span
                        .front()
                        .is_some_and(|first| entry.at - *first >= intensity.within)
                    {
                        span.pop_front();
                    }
                    // Short periods are exact only in simulation, where computing takes no time.
                    let is_exact =
                        alys_runtime::is_simulated() || intensity.within >= Duration::from_secs(10);
                    let is_known = !begun_anew.contains(supervisor);
                    if is_exact && is_known && span.len() > intensity.restarts {
                        wrong.push(format!(
                            "restarts: {} of {supervisor} within {:?}, {} are allowed",
                            span.len(),
                            intensity.within,
                            intensity.restarts
                        ));
                    }
                }
                _ => {}
            }
        }
    }

    /// A breaker opens in time and stays open, and its mailbox accepts nothing meanwhile. Checked
    /// in simulation only, because on tokio the times are not exact.
    fn breakers(&self, book: &Book, wrong: &mut Wrong) {
        const AROUND: Duration = Duration::from_millis(1);
        if !alys_runtime::is_simulated() {
            return;
        }
        for (actor, path) in self.seen.paths.iter().enumerate() {
            let Some(RestartDelay::CircuitBreaker(breaker)) = self.pace_of(path) else {
                continue;
            };
            let mut recent: VecDeque<Instant> = VecDeque::new();
            let (mut trial, mut closed): (Option<Instant>, Option<(Instant, Instant)>) =
                (None, None);
            for entry in &book.entries {
                match &entry.event {
                    // A stop or restart of the supervisor ends the wait; the queue is kept.
                    Event::State { path: above, .. } if parent(path) == above => closed = None,
                    Event::Sent {
                        id,
                        outcome: Outcome::Taken(_),
                    } if book.letters[*id].to == Some(actor)
                        && closed.is_some_and(|(from, to)| from < entry.at && entry.at < to) =>
                    {
                        wrong.push(format!(
                            "breaker: {id} was taken while that of {path} was open"
                        ));
                    }
                    Event::Restarting { path: failed, .. } if failed != path => {
                        if self.is_affected(failed, path) {
                            closed = None;
                        }
                    }
                    Event::Restarting {
                        delay,
                        is_open: true,
                        ..
                    } => {
                        recent.clear();
                        trial = Some(entry.at + *delay);
                        closed = Some((entry.at + AROUND, entry.at + delay.saturating_sub(AROUND)));
                    }
                    Event::Restarting { .. } => {
                        closed = None;
                        if trial.is_some_and(|began| {
                            entry.at.saturating_duration_since(began) < breaker.proved_after
                        }) {
                            wrong.push(format!(
                                "breaker: that of {path} stays closed after a failed trial"
                            ));
                        }
                        recent.push_back(entry.at);
                        while recent
                            .front()
                            .is_some_and(|first| entry.at - *first >= breaker.within)
                        {
                            recent.pop_front();
                        }
                        if recent.len() >= breaker.failures.max(1) {
                            wrong.push(format!(
                                "breaker: that of {path} stays closed: {} failures",
                                recent.len()
                            ));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Each ask ends with an answer or an error within its deadline.
    fn asks(&self, book: &Book, wrong: &mut Wrong) {
        for entry in &book.entries {
            if let Event::Asked { id, deadline, took } = &entry.event
                && *took > *deadline + GRACE
            {
                wrong.push(format!(
                    "ask: {id} took {took:?}, its deadline was {deadline:?}"
                ));
            }
        }
    }

    /// The hooks of an incarnation run in order; its messages and tasks run between them.
    fn incarnations(&self, book: &Book, wrong: &mut Wrong) {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Phase {
            Gone,
            Making,
            Beginning,
            Again,
            Running,
            Stopping,
            Ended,
        }
        let mut phases = vec![(Phase::Gone, 0); self.seen.paths.len()];
        for entry in &book.entries {
            let (actor, what) = match &entry.event {
                Event::Made { actor }
                | Event::Hook { actor, .. }
                | Event::Begun { actor, .. }
                | Event::TaskActs { actor, .. } => (*actor, &entry.event),
                _ => continue,
            };
            let (phase, current) = phases[actor];
            let next = match (what, phase) {
                (Event::Made { .. }, Phase::Gone | Phase::Making) => Some((Phase::Making, current)),
                (
                    Event::Hook {
                        incarnation, hook, ..
                    },
                    _,
                ) => {
                    let phase = match (hook, phase) {
                        (Hook::PreStart, Phase::Making) if *incarnation > current => {
                            Some(Phase::Beginning)
                        }
                        (Hook::PostRestart, Phase::Beginning) if *incarnation > 1 => {
                            Some(Phase::Again)
                        }
                        (Hook::Started, Phase::Beginning) if *incarnation == 1 => {
                            Some(Phase::Running)
                        }
                        (Hook::Started, Phase::Again) => Some(Phase::Running),
                        (Hook::PreRestart, Phase::Running | Phase::Stopping) => Some(Phase::Ended),
                        (Hook::PreStop, Phase::Running) => Some(Phase::Stopping),
                        (Hook::Stopped, Phase::Stopping) => Some(Phase::Ended),
                        (Hook::Dropped, _) if phase != Phase::Gone => Some(Phase::Gone),
                        _ => None,
                    };
                    let is_same = *incarnation == current
                        || *hook == Hook::PreStart
                        || phase == Some(Phase::Gone);
                    phase.filter(|_| is_same).map(|phase| (phase, *incarnation))
                }
                (Event::Begun { incarnation, .. }, Phase::Running | Phase::Stopping)
                    if *incarnation == current =>
                {
                    Some((phase, current))
                }
                // A task may run until its failed incarnation is gone; the next one is made after
                // that.
                (Event::TaskActs { incarnation, .. }, phase)
                    if *incarnation == current && phase != Phase::Making =>
                {
                    Some((phase, current))
                }
                _ => None,
            };
            match next {
                Some(next) => phases[actor] = next,
                None => wrong.push(format!(
                    "incarnations: {what:?} while {phase:?} of incarnation {current}"
                )),
            }
        }
    }

    /// Actors take legal transitions of the lifecycle only, and all have ended at the end.
    fn states(&self, book: &Book, wrong: &mut Wrong) {
        let mut states: BTreeMap<&str, State> = BTreeMap::new();
        for entry in &book.entries {
            if let Event::State { path, state } = &entry.event {
                let before = states.insert(path, *state).unwrap_or(State::Uninitialized);
                if !before.can_become(*state) {
                    wrong.push(format!("states: {path} was {before} and is {state}"));
                }
            }
        }
        for node in self.seen.tree.all() {
            if !matches!(node.state, State::Stopped | State::Failed) {
                wrong.push(format!(
                    "states: {} is {} after the shutdown",
                    node.path, node.state
                ));
            }
            if states
                .get(node.path.as_str())
                .is_some_and(|last| *last != node.state)
            {
                wrong.push(format!(
                    "states: {} is {} after {}",
                    node.path, node.state, states[&*node.path]
                ));
            }
        }
    }

    /// An actor has handled its queue before `stopped`, unless the first share of the deadline has
    /// passed: three quarters of it, divided among all actors and supervisors.
    fn drains(&self, book: &Book, wrong: &mut Wrong) {
        let parts = u32::try_from(self.seen.children.len()).unwrap_or(u32::MAX) + 1;
        let mut used_up = None;
        for entry in &book.entries {
            match &entry.event {
                Event::ShutdownBegins => {
                    used_up = Some(entry.at + self.seen.deadline * 3 / 4 / parts)
                }
                Event::Drained { actor, left }
                    if *left > 0 && used_up.is_some_and(|at| entry.at < at) =>
                {
                    wrong.push(format!(
                        "drain: actor {actor} leaves {left} messages though it has time"
                    ));
                }
                _ => {}
            }
        }
    }

    /// The report of the shutdown agrees with the history and the dead letters.
    fn report(&self, wrong: &mut Wrong) {
        let report = &self.seen.shutdown;
        let nodes = u32::try_from(self.seen.children.len()).unwrap_or(u32::MAX) + 1;
        let pauses = if self.plan.pool.is_some() {
            POOL_STOP_TIMEOUT
        } else {
            Duration::ZERO
        };
        let most = self.seen.deadline + (ANSWER_TIMEOUT + STOP_TIMEOUT + pauses) * nodes + GRACE;
        if report.took > most {
            wrong.push(format!(
                "report: took {:?} of {:?}",
                report.took, self.seen.deadline
            ));
        }
        let stopped: BTreeSet<&String> = report.stopped.iter().collect();
        if stopped.len() != report.stopped.len() {
            wrong.push(format!("report: one stopped twice: {:?}", report.stopped));
        }
        if let Some(path) = stopped.iter().find(|path| !self.seen.paths.contains(path)) {
            wrong.push(format!("report: {path} is nobody"));
        }
        for left in &report.abandoned {
            // On a loaded machine an actor may answer too late, so this is checked in simulation
            // only.
            if left.unresponsive && alys_runtime::is_simulated() {
                wrong.push(format!("report: {left:?}, which nobody is"));
            }
            if left.is_empty() {
                wrong.push(format!("report: nothing of {} is abandoned", left.actor));
            }
        }
        for path in stopped {
            let left = report.abandoned.iter().filter(|left| left.actor == *path);
            let told: usize = left.map(|left| left.messages).sum();
            let counts = self.seen.dead.counts.iter();
            let dead = counts.filter(|((to, why), _)| **to == **path && *why == Reason::Abandoned);
            let dead: u64 = dead.map(|(_, count)| count).sum();
            if told as u64 != dead {
                wrong.push(format!(
                    "report: {told} messages of {path} abandoned, {dead} dead letters"
                ));
            }
        }
    }
}

fn seen_total(seen: &Seen) -> usize {
    usize::try_from(seen.dead.total()).unwrap_or(usize::MAX)
}
