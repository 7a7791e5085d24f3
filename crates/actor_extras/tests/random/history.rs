//! The events of a run in order, as its actors and senders observed them, independent of the
//! crate's own counters. Violations that are visible at once are added to the complaints at once.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use alys_actor_system::{Overflow, Priority, Receipt, State};
use alys_runtime::time;

/// Limit of letters in a run. Sending stops there, because letters that send letters might never
/// end.
pub const MAX_LETTERS: usize = 1500;

/// Limit of complaints kept per run, because later ones follow from the first.
const MAX_COMPLAINTS: usize = 20;

pub type Id = usize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Sent {
        id: Id,
        outcome: Outcome,
    },
    Begun {
        id: Id,
        actor: usize,
        incarnation: u64,
    },
    Done {
        id: Id,
        actor: usize,
    },
    /// The letter was dropped.
    Gone {
        id: Id,
    },
    /// The factory of the actor was called.
    Made {
        actor: usize,
    },
    Hook {
        actor: usize,
        incarnation: u64,
        hook: Hook,
    },
    TaskActs {
        actor: usize,
        incarnation: u64,
    },
    /// `stopped` ran, the mailbox accepts nothing more, and `left` messages are queued.
    Drained {
        actor: usize,
        left: usize,
    },
    Asked {
        id: Id,
        deadline: Duration,
        took: Duration,
    },
    Restarting {
        path: String,
        delay: Duration,
        is_open: bool,
    },
    GivenUp {
        path: String,
    },
    /// A transition of the lifecycle; recorded in simulation only.
    #[cfg_attr(
        not(madsim),
        expect(dead_code, reason = "read off the simulator's trace")
    )]
    State {
        path: String,
        state: State,
    },
    ShutdownBegins,
    ShutdownEnds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    PreStart,
    PostRestart,
    Started,
    PreRestart,
    PreStop,
    Stopped,
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Taken(Receipt),
    NotTaken,
    /// The timer was cancelled in time.
    Cancelled,
    /// The sending method does not report the outcome.
    Unknown,
}

/// The properties of a letter that are known when it is made.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The sender. Each sends its letters one after the other.
    pub stream: u32,
    pub to: Option<usize>,
    pub priority: Priority,
    pub overflow: Overflow,
    pub size: usize,
    pub expires: bool,
    /// True for `send`, which waits for room; a cancelled `send` has not sent the letter.
    pub is_send: bool,
    /// None if the sender does not know the deadline.
    pub deadline: Option<Option<Instant>>,
    /// The incarnation that set the timer, for a letter of a timer.
    pub timer_of: Option<u64>,
    is_alive: bool,
    has_begun: bool,
    /// True while it is counted as queued in the mailbox of `to`.
    is_waiting: bool,
}

impl Letter {
    pub fn new(
        stream: u32,
        to: Option<usize>,
        priority: Priority,
        overflow: Overflow,
        size: usize,
    ) -> Self {
        Self {
            stream,
            to,
            priority,
            overflow,
            size,
            expires: true,
            is_send: false,
            deadline: Some(None),
            timer_of: None,
            is_alive: true,
            has_begun: false,
            is_waiting: false,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Instant,
    pub event: Event,
}

/// Limits of the queue of an actor.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub messages: usize,
    pub bytes: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Book {
    pub entries: Vec<Entry>,
    pub letters: Vec<Letter>,
    pub complaints: Vec<String>,
    #[cfg_attr(
        not(madsim),
        expect(dead_code, reason = "for steps of a life, seen in simulation only")
    )]
    begun: Option<Instant>,
    bounds: Vec<Bounds>,
    waiting: Vec<(usize, usize)>,
    living: Vec<usize>,
    tasks: Vec<usize>,
    /// Number of live letters.
    alive: usize,
}

impl Book {
    pub fn complain(&mut self, complaint: String) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push(complaint);
        }
    }

    fn leaves(&mut self, id: Id) {
        let letter = &mut self.letters[id];
        if let (true, Some(to)) = (std::mem::take(&mut letter.is_waiting), letter.to) {
            self.waiting[to].0 -= 1;
            self.waiting[to].1 -= letter.size;
        }
    }

    /// Counts a letter as queued. The count is a lower bound: letters that their senders know to be
    /// accepted, and that are neither begun nor dropped.
    fn waits(&mut self, id: Id) {
        let letter = &mut self.letters[id];
        let Some(to) = letter.to.filter(|_| !letter.has_begun && letter.is_alive) else {
            return;
        };
        letter.is_waiting = true;
        self.waiting[to].0 += 1;
        self.waiting[to].1 += letter.size;
        let ((messages, bytes), bounds) = (self.waiting[to], self.bounds[to]);
        if messages > bounds.messages {
            self.complain(format!(
                "{messages} messages wait for actor {to}, {} may",
                bounds.messages
            ));
        }
        if bounds.bytes.is_some_and(|limit| bytes > limit) && messages > 1 {
            self.complain(format!("{bytes} bytes wait for actor {to}: {bounds:?}"));
        }
    }
}

#[derive(Default)]
pub struct History(Mutex<Book>);

impl History {
    pub fn new(bounds: Vec<Bounds>) -> Self {
        let actors = bounds.len();
        let book = Book {
            begun: Some(time::now()),
            bounds,
            waiting: vec![(0, 0); actors],
            living: vec![0; actors],
            tasks: vec![0; actors],
            ..Book::default()
        };
        Self(Mutex::new(book))
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn complain(&self, complaint: String) {
        self.book().complain(complaint);
    }

    /// Registers a letter. None beyond [`MAX_LETTERS`].
    pub fn letter(&self, letter: Letter) -> Option<Id> {
        let mut book = self.book();
        if book.letters.len() >= MAX_LETTERS {
            return None;
        }
        book.letters.push(letter);
        book.alive += 1;
        Some(book.letters.len() - 1)
    }

    pub fn dropped(&self, id: Id) {
        let mut book = self.book();
        book.alive -= 1;
        book.letters[id].is_alive = false;
        book.leaves(id);
        drop(book);
        self.note(Event::Gone { id });
    }

    pub fn note(&self, event: Event) {
        let at = time::now();
        let mut book = self.book();
        match &event {
            Event::Sent {
                id,
                outcome: Outcome::Taken(Receipt::Queued | Receipt::QueuedForOldest),
            } => {
                book.waits(*id);
            }
            Event::Begun { id, .. } => {
                book.leaves(*id);
                book.letters[*id].has_begun = true;
            }
            Event::Made { actor } => {
                let (living, tasks) = (book.living[*actor], book.tasks[*actor]);
                if (living, tasks) != (0, 0) {
                    book.complain(format!(
                        "actor {actor} is made while {living} of its incarnations and {tasks} of \
                         its tasks live"
                    ));
                }
            }
            _ => {}
        }
        book.entries.push(Entry { at, event });
    }

    /// Like [`note`](Self::note), for callers outside the simulated runtime, which have no clock.
    #[cfg(madsim)]
    pub fn note_state(&self, path: String, state: State) {
        let mut book = self.book();
        // The time of the last entry is enough, because states are checked by their order only.
        if let Some(at) = book.entries.last().map(|entry| entry.at).or(book.begun) {
            book.entries.push(Entry {
                at,
                event: Event::State { path, state },
            });
        }
    }

    pub fn lives(&self, actor: usize) {
        let mut book = self.book();
        book.living[actor] += 1;
        if book.living[actor] > 1 {
            let living = book.living[actor];
            book.complain(format!(
                "{living} incarnations of actor {actor} live at once"
            ));
        }
    }

    pub fn dies(&self, actor: usize) {
        self.book().living[actor] -= 1;
    }

    pub fn task_begins(&self, actor: usize) {
        self.book().tasks[actor] += 1;
    }

    pub fn task_ends(&self, actor: usize) {
        self.book().tasks[actor] -= 1;
    }

    /// Numbers of live incarnations, tasks and letters.
    pub fn living(&self) -> (usize, usize, usize) {
        let book = self.book();
        (
            book.living.iter().sum(),
            book.tasks.iter().sum(),
            book.alive,
        )
    }

    /// Number of acts of actors and their tasks so far.
    pub fn acts(&self) -> usize {
        let is_act = |entry: &&Entry| {
            matches!(
                entry.event,
                Event::Begun { .. }
                    | Event::Done { .. }
                    | Event::Made { .. }
                    | Event::TaskActs { .. }
            )
        };
        self.book().entries.iter().filter(is_act).count()
    }
}

/// The id of a letter as its kind, so that a dead letter names its letter.
pub fn kind_of(id: Id) -> &'static str {
    static KINDS: std::sync::OnceLock<Vec<&'static str>> = std::sync::OnceLock::new();
    let all = || {
        (0..MAX_LETTERS)
            .map(|id| &*Box::leak(id.to_string().into_boxed_str()))
            .collect()
    };
    KINDS.get_or_init(all)[id]
}
