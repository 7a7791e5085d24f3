//! The plan of a run as plain data: the supervision tree, its actors, the scripts of the senders,
//! the faults and the shutdown. Times are in milliseconds.

use std::time::Duration;

use alys_actor_extras::Routing;
use alys_actor_system::{
    Backoff, Breaker, Exhausted, Fault, Intensity, Overflow, Priority, Restart, RestartDelay,
    Strategy as Supervision,
};
use proptest::{collection::vec, option::weighted, prelude::*, sample::Index};

/// The largest `handle_timeout` of any plan; the watchdog ends a hanging handler then.
const MAX_HANDLE_MS: u64 = 40;

/// Maximum number of messages in a batch.
pub const BATCH: usize = 4;

#[derive(Debug, Clone)]
pub struct Plan {
    /// Restarts within the intensity of the root.
    pub root_restarts: usize,
    pub supervisors: Vec<SupervisorPlan>,
    pub actors: Vec<ActorPlan>,
    pub pool: Option<PoolPlan>,
    /// One script per task outside the system.
    pub senders: Vec<Vec<Step>>,
    /// Injected faults. A plan with faults has no batches, because a fault strikes a single
    /// message.
    pub faults: Vec<FaultPlan>,
    pub shutdown: Shutdown,
}

#[derive(Debug, Clone)]
pub struct SupervisorPlan {
    /// An earlier supervisor, or the root.
    pub parent: Option<Index>,
    pub strategy: Supervision,
    pub intensity: Intensity,
    pub backoff: Backoff,
    pub exhausted: Exhausted,
}

#[derive(Debug, Clone)]
pub struct ActorPlan {
    pub supervisor: Index,
    pub capacity: usize,
    pub bytes: Option<usize>,
    pub restart: Restart,
    pub pace: Option<RestartDelay>,
    pub batches: bool,
    pub handle_timeout: u64,
    pub memory_budget: Option<usize>,
    pub depends_on: Option<Index>,
    pub habits: Habits,
    /// Overflow policy of its subscription to the bus; None without a subscription.
    pub subscribes: Option<Overflow>,
}

/// Behaviour of an actor apart from its letters.
#[derive(Debug, Clone)]
pub struct Habits {
    /// True if each message of a batch is marked as done on its own.
    pub commits: bool,
    /// Results of the first starts; later starts succeed.
    pub starts: Vec<Start>,
    pub stop: Stop,
}

#[derive(Debug, Clone)]
pub struct PoolPlan {
    pub supervisor: Index,
    pub size: usize,
    pub routing: Routing,
    pub capacity: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Well,
    FactoryError,
    FactoryPanic,
    HookError,
    HookPanic,
    HookHang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Well,
    Slow(u64),
    Panic,
}

#[derive(Debug, Clone)]
pub struct FaultPlan {
    pub actor: Index,
    pub fault: Fault,
    pub after: u64,
    pub times: u64,
}

#[derive(Debug, Clone)]
pub struct Shutdown {
    /// None: once all scripts are done and all queues are empty.
    pub at: Option<u64>,
    pub deadline: u64,
}

/// One action of a sender.
#[derive(Debug, Clone)]
pub struct Step {
    pub pause: u64,
    pub times: u8,
    pub to: Index,
    pub how: How,
    pub letter: LetterPlan,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    Tell,
    TellAs(Priority),
    Send,
    Ask {
        deadline: u64,
    },
    AskRetrying {
        each: u64,
        attempts: u32,
    },
    /// Forwards the pending replies of the sender, if it is an actor.
    Forward,
    Broadcast,
    PoolTell,
    PoolSend,
    PoolAsk {
        deadline: u64,
    },
    PoolKeyed {
        key: u8,
    },
    Publish,
}

#[derive(Debug, Clone)]
pub struct LetterPlan {
    pub priority: Priority,
    pub overflow: Overflow,
    pub size: usize,
    pub expires: bool,
    pub deed: Deed,
}

/// The receiver's action on a letter.
#[derive(Debug, Clone)]
pub enum Deed {
    Answer,
    Forget,
    Yield(u8),
    Sleep(u64),
    Panic,
    Fail,
    Hang,
    Stop,
    Grow(usize),
    /// Starts a task that acts `acts` times and then ends or panics.
    Task {
        acts: u8,
        panics: bool,
    },
    /// Starts a task that sends.
    TaskSends(Box<Step>),
    Timer {
        delay: u64,
        letter: Box<LetterPlan>,
        cancelled: bool,
    },
    Say(Box<Step>),
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An index into a list of `len` items; 0 for an empty list.
pub fn place(index: &Index, len: usize) -> usize {
    index.index(len.max(1))
}

fn backoff() -> impl Strategy<Value = Backoff> {
    prop_oneof![
        1 => Just(Backoff::NONE),
        2 => (1..6u64, 1..4u64).prop_map(|(initial, more)| Backoff {
            initial: ms(initial), max: ms(initial * more), factor: 2.0, jitter: 0.5,
        }),
    ]
}

fn supervision() -> impl Strategy<Value = Supervision> {
    prop_oneof![
        Just(Supervision::OneForOne),
        Just(Supervision::OneForAll),
        Just(Supervision::RestForOne)
    ]
}

fn supervisor() -> impl Strategy<Value = SupervisorPlan> {
    let intensity = (0..6usize, prop_oneof![Just(10u64), Just(60_000)]);
    let exhausted = prop_oneof![Just(Exhausted::Escalate), Just(Exhausted::Degrade)];
    (
        weighted(0.5, any::<Index>()),
        supervision(),
        intensity,
        backoff(),
        exhausted,
    )
        .prop_map(
            |(parent, strategy, (restarts, within), backoff, exhausted)| SupervisorPlan {
                parent,
                strategy,
                intensity: Intensity {
                    restarts,
                    within: ms(within),
                },
                backoff,
                exhausted,
            },
        )
}

fn pace() -> impl Strategy<Value = Option<RestartDelay>> {
    let breaker =
        (1..4usize, 5..50u64, 1..20u64, 1..20u64).prop_map(|(failures, within, open, proved)| {
            let open_for = Backoff {
                initial: ms(open),
                max: ms(open * 4),
                factor: 2.0,
                jitter: 0.5,
            };
            RestartDelay::CircuitBreaker(Breaker {
                failures,
                within: ms(within),
                open_for,
                proved_after: ms(proved),
            })
        });
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(RestartDelay::Immediate)),
        1 => (0..10u64).prop_map(|delay| Some(RestartDelay::Delayed(ms(delay)))),
        1 => backoff().prop_map(|backoff| Some(RestartDelay::Backoff(backoff))),
        2 => breaker.prop_map(Some),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![
        5 => Just(Overflow::Block),
        1 => Just(Overflow::Fail),
        2 => Just(Overflow::DropOldest),
        1 => Just(Overflow::DropNewest),
        1 => (1..4u64, 1..5u32).prop_map(|(initial, attempts)| Overflow::Backoff {
            initial: ms(initial), max: ms(5), attempts,
        }),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        12 => Just(Start::Well),
        1 => Just(Start::FactoryError),
        1 => Just(Start::FactoryPanic),
        1 => Just(Start::HookError),
        1 => Just(Start::HookPanic),
        1 => Just(Start::HookHang),
    ]
}

fn actor() -> impl Strategy<Value = ActorPlan> {
    let restart = prop_oneof![
        6 => Just(Restart::Permanent),
        1 => Just(Restart::Transient),
        1 => Just(Restart::Temporary),
    ];
    let capacity = prop_oneof![1..4usize, 1..65usize];
    let mailbox = (
        capacity,
        weighted(0.3, 50..1000usize),
        weighted(0.4, overflow()),
    );
    let stop = prop_oneof![
        6 => Just(Stop::Well),
        1 => (1..20u64).prop_map(Stop::Slow),
        1 => Just(Stop::Panic),
    ];
    let limits = (
        5..MAX_HANDLE_MS,
        weighted(0.2, 500..3000usize),
        weighted(0.2, any::<Index>()),
    );
    let life = (restart, pace(), vec(start(), 0..4), stop);
    (any::<Index>(), mailbox, any::<[bool; 2]>(), limits, life).prop_map(
        |(supervisor, mailbox, [batches, commits], limits, (restart, pace, starts, stop))| {
            let (capacity, bytes, subscribes) = mailbox;
            let (handle_timeout, memory_budget, depends_on) = limits;
            ActorPlan {
                supervisor,
                capacity,
                bytes,
                restart,
                pace,
                batches,
                handle_timeout,
                memory_budget,
                depends_on,
                habits: Habits {
                    commits,
                    starts,
                    stop,
                },
                subscribes,
            }
        },
    )
}

fn letter(deed: BoxedStrategy<Deed>) -> BoxedStrategy<LetterPlan> {
    let priority = prop_oneof![
        4 => Just(Priority::Normal),
        1 => prop::sample::select(&Priority::ALL[..]),
    ];
    let size = prop_oneof![1..100usize, 1..400usize];
    let expires = prop::bool::weighted(0.7);
    (priority, overflow(), size, expires, deed)
        .prop_map(|(priority, overflow, size, expires, deed)| LetterPlan {
            priority,
            overflow,
            size,
            expires,
            deed,
        })
        .boxed()
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        6 => Just(How::Tell),
        1 => prop::sample::select(&Priority::ALL[..]).prop_map(How::TellAs),
        6 => Just(How::Send),
        3 => (0..30u64).prop_map(|deadline| How::Ask { deadline }),
        1 => (1..10u64, 1..4u32).prop_map(|(each, attempts)| How::AskRetrying { each, attempts }),
        2 => Just(How::Forward),
        1 => Just(How::Broadcast),
        1 => Just(How::PoolTell),
        1 => Just(How::PoolSend),
        1 => (0..30u64).prop_map(|deadline| How::PoolAsk { deadline }),
        1 => (0..4u8).prop_map(|key| How::PoolKeyed { key }),
        1 => Just(How::Publish),
    ]
}

fn step(letter: BoxedStrategy<LetterPlan>) -> BoxedStrategy<Step> {
    let times = prop_oneof![4 => Just(1u8), 1 => 2..12u8];
    let pause = prop_oneof![3 => Just(0u64), 1 => 0..6u64];
    (pause, times, any::<Index>(), how(), letter)
        .prop_map(|(pause, times, to, how, letter)| Step {
            pause,
            times,
            to,
            how,
            letter,
        })
        .boxed()
}

fn simple_deed() -> BoxedStrategy<Deed> {
    prop_oneof![
        12 => Just(Deed::Answer),
        1 => Just(Deed::Forget),
        2 => (1..4u8).prop_map(Deed::Yield),
        2 => (0..5u64).prop_map(Deed::Sleep),
        1 => Just(Deed::Panic),
        1 => Just(Deed::Fail),
        1 => Just(Deed::Hang),
        1 => Just(Deed::Stop),
        1 => (1..1000usize).prop_map(Deed::Grow),
        1 => (0..5u8, any::<bool>()).prop_map(|(acts, panics)| Deed::Task { acts, panics }),
    ]
    .boxed()
}

/// Deeds, including those that send letters with the deeds of `inner`.
fn deed(inner: BoxedStrategy<Deed>) -> BoxedStrategy<Deed> {
    let step = step(letter(inner.clone()));
    prop_oneof![
        6 => inner.clone(),
        2 => step.clone().prop_map(|step| Deed::Say(Box::new(step))),
        1 => step.prop_map(|step| Deed::TaskSends(Box::new(step))),
        1 => (0..10u64, letter(inner), prop::bool::weighted(0.2)).prop_map(
            |(delay, letter, cancelled)| {
                Deed::Timer { delay, letter: Box::new(letter), cancelled }
            }
        ),
    ]
    .boxed()
}

fn fault() -> impl Strategy<Value = FaultPlan> {
    let fault = prop_oneof![
        Just(Fault::Panic),
        Just(Fault::Fail),
        Just(Fault::Hang),
        (1..5u64).prop_map(|delay| Fault::Slow(ms(delay))),
        Just(Fault::LoseReply),
        Just(Fault::Drop),
    ];
    (any::<Index>(), fault, 0..10u64, 1..4u64).prop_map(|(actor, fault, after, times)| FaultPlan {
        actor,
        fault,
        after,
        times,
    })
}

/// All plans.
pub fn plans() -> BoxedStrategy<Plan> {
    let letters = letter(deed(deed(simple_deed())));
    let senders = vec(vec(step(letters), 1..24), 1..5);
    let routing = prop_oneof![
        Just(Routing::LeastLoaded),
        Just(Routing::RoundRobin),
        Just(Routing::ByKey)
    ];
    let pool = (any::<Index>(), 1..4usize, routing, 1..9usize).prop_map(
        |(supervisor, size, routing, capacity)| PoolPlan {
            supervisor,
            size,
            routing,
            capacity,
        },
    );
    let shutdown = (
        weighted(0.4, 0..40u64),
        prop_oneof![1 => 0..30u64, 2 => Just(2_000u64)],
    )
        .prop_map(|(at, deadline)| Shutdown { at, deadline });
    let tree = (
        0..4usize,
        vec(supervisor(), 1..5),
        vec(actor(), 1..6),
        weighted(0.4, pool),
    );
    let faults = prop_oneof![2 => Just(Vec::new()), 1 => vec(fault(), 1..5)];
    (tree, senders, faults, shutdown)
        .prop_map(
            |((root_restarts, supervisors, actors, pool), senders, faults, shutdown)| Plan {
                root_restarts,
                supervisors,
                actors,
                pool,
                senders,
                faults,
                shutdown,
            },
        )
        .boxed()
}
