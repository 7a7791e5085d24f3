//! A probe of the actor system: test actors on a machine beside the nodes, in the same schedule.
//! They exchange numbered messages, ask, panic and hang in ways whose results are known in advance.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_actor_system::{
    Addr, AlysActor, AskError, Backoff, Breaker, ChildSpec, Context, Exhausted, Intensity, Message,
    Reply, RestartDelay, StartError, Strategy, SupervisorSpec, System, TooManyTasks, mailbox,
};
use alys_runtime::sim::{Rng, World};
use alys_runtime::time::{self, timeout};

use crate::cluster::{Net, now_ms};
use crate::invariants::{Judge, Violation};

const IP: IpAddr = Net::Probe.ip(0);
/// Capacity of each mailbox: small, so that it is often full.
const MAILBOX_CAPACITY: usize = 8;
/// Number of concurrent senders of numbered messages.
const SENDERS: u8 = 3;
/// Messages per sender and round.
const LETTERS_PER_ROUND: u64 = 24;
/// Number of rounds per run.
const ROUNDS: u64 = 3;
/// Shortest pause before a round; the drawn pause is up to twice as long.
const MIN_PAUSE_MS: u64 = 2_000;
/// Time limit of a handler call, after which the supervisor considers the actor hung.
const HANDLER_TIMEOUT: Duration = Duration::from_millis(300);
/// Timeout of asks that may stay unanswered.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// Timeout of asks that must fail or be answered before it: a cycle of asks that the actor system
/// does not detect takes this long.
const LONG_ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// Limit on the duration of an ask that must fail promptly. It allows for a full mailbox and two
/// restarts before the ask is handled.
const PROMPT_FAILURE_LIMIT: Duration = Duration::from_millis(2_500);
/// Interval between two checks of an incarnation's task that its actor is still the current one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(20);
/// Time for which the circuit breaker of [`Fragile`] is open, longer than the limit of those who
/// wait for it.
const BREAKER_OPEN: Duration = Duration::from_secs(6);
/// Senders and askers that wait for [`Fragile`] while its breaker opens.
const WAITING: usize = 4;
/// Time by which an ask may exceed its own timeout.
const ASK_SLACK: Duration = Duration::from_millis(100);
/// Restart limit of the supervisor whose child never starts.
const DOOMED_RESTARTS: usize = 3;

/// The observations of all actors.
#[derive(Default)]
struct Log {
    /// By sender: numbers that the mailbox accepted and the actor has not handled.
    taken: BTreeMap<u8, BTreeSet<u64>>,
    /// By sender: the highest number that the actor has handled.
    last: BTreeMap<u8, u64>,
    /// The current incarnation of [`Post`], and its start in simulated milliseconds.
    living: (u64, u64),
    /// Number of start attempts of [`Doomed`].
    doomed: u64,
}

/// The state that the probe's actors share.
#[derive(Clone)]
struct Desk {
    world: World,
    judge: Judge,
    log: Arc<Mutex<Log>>,
}

impl Desk {
    fn look(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accuse(&self, violation: Violation) {
        self.judge.accuse(now_ms(self.world), violation);
    }
}

enum PostMessage {
    Letter {
        sender: u8,
        number: u64,
    },
    /// The answer follows the handling of all earlier messages.
    Ping {
        reply: Reply<()>,
    },
    /// The handler panics.
    Die {
        _reply: Reply<()>,
    },
    /// The handler hangs.
    Hang {
        _reply: Reply<()>,
    },
    /// The handler returns, and the actor keeps the reply handle without answering.
    Keep {
        reply: Reply<()>,
    },
}

impl Message for PostMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Letter { .. } => "letter",
            Self::Ping { .. } => "ping",
            Self::Die { .. } => "die",
            Self::Hang { .. } => "hang",
            Self::Keep { .. } => "keep",
        }
    }
}

/// Receives numbered messages, and checks their order and its own exclusiveness.
struct Post {
    desk: Desk,
    kept: Vec<Reply<()>>,
}

impl AlysActor for Post {
    type Message = PostMessage;
    type Error = TooManyTasks;
    type Config = ();
    const NAME: &'static str = "Post";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), TooManyTasks> {
        let desk = self.desk.clone();
        let incarnation = ctx.incarnation();
        desk.look().living = (incarnation, now_ms(desk.world));
        ctx.spawn("beat", async move {
            loop {
                time::sleep(HEARTBEAT_INTERVAL).await;
                let (living, _) = desk.look().living;
                if living != incarnation {
                    let actor = "probe/post".to_owned();
                    return desk.accuse(Violation::TwoIncarnations {
                        actor,
                        dead: incarnation,
                        living,
                    });
                }
            }
        })?;
        Ok(())
    }

    async fn handle(&mut self, msg: PostMessage, _: &Context<Self>) -> Result<(), TooManyTasks> {
        match msg {
            PostMessage::Letter { sender, number } => {
                let overtaken = {
                    let mut log = self.desk.look();
                    log.taken.entry(sender).or_default().remove(&number);
                    let last = log.last.entry(sender).or_default();
                    let overtaken = (number <= *last).then_some(*last);
                    *last = number.max(*last);
                    overtaken
                };
                if let Some(after) = overtaken {
                    let actor = "probe/post".to_owned();
                    self.desk.accuse(Violation::OrderBroken {
                        actor,
                        sender,
                        number,
                        after,
                    });
                }
                if number.is_multiple_of(5) {
                    // The mailbox fills up meanwhile.
                    time::sleep(Duration::from_millis(10)).await;
                }
            }
            PostMessage::Ping { reply } => {
                reply.send(());
            }
            PostMessage::Die { .. } => panic!("an injected panic"),
            PostMessage::Hang { .. } => std::future::pending().await,
            PostMessage::Keep { reply } => self.kept.push(reply),
        }
        Ok(())
    }
}

/// Asks the other friend within its handler, which makes a cycle of asks.
struct Friend {
    other: Addr<FriendMessage>,
}

enum FriendMessage {
    /// Starts a cycle: the other friend asks back. Answers true when the cycle was detected.
    Begin {
        reply: Reply<bool>,
    },
    /// Asks back. Answers true when that ask failed with [`AskError::Cycle`].
    Back {
        reply: Reply<bool>,
    },
    Ping {
        reply: Reply<()>,
    },
}

impl Message for FriendMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::Back { .. } => "back",
            Self::Ping { .. } => "ping",
        }
    }
}

impl AlysActor for Friend {
    type Message = FriendMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Friend";

    async fn handle(&mut self, msg: FriendMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            FriendMessage::Begin { reply } => {
                let asked = self
                    .other
                    .ask(|reply| FriendMessage::Back { reply }, LONG_ASK_TIMEOUT)
                    .await;
                reply.send(asked.unwrap_or(false));
            }
            FriendMessage::Back { reply } => {
                let asked = self
                    .other
                    .ask(|reply| FriendMessage::Ping { reply }, LONG_ASK_TIMEOUT)
                    .await;
                reply.send(matches!(asked, Err(AskError::Cycle { .. })));
            }
            FriendMessage::Ping { reply } => {
                reply.send(());
            }
        }
        Ok(())
    }
}

/// Fails behind a circuit breaker.
struct Fragile;

enum FragileMessage {
    /// The handler takes its time, so that the mailbox fills up.
    Slow,
    /// The handler fails, and the breaker opens.
    Fail,
    Note,
    Ping {
        reply: Reply<()>,
    },
}

impl Message for FragileMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Fail => "fail",
            Self::Note => "note",
            Self::Ping { .. } => "ping",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an injected failure")]
struct Failure;

impl AlysActor for Fragile {
    type Message = FragileMessage;
    type Error = Failure;
    type Config = ();
    const NAME: &'static str = "Fragile";

    async fn handle(&mut self, msg: FragileMessage, _: &Context<Self>) -> Result<(), Failure> {
        match msg {
            FragileMessage::Slow => time::sleep(Duration::from_millis(100)).await,
            FragileMessage::Fail => return Err(Failure),
            FragileMessage::Note => {}
            FragileMessage::Ping { reply } => {
                reply.send(());
            }
        }
        Ok(())
    }
}

/// Never starts, because its constructor fails.
struct Doomed;

#[derive(Debug, thiserror::Error)]
#[error("doomed")]
struct Doom;

impl AlysActor for Doomed {
    type Message = FriendMessage;
    type Error = Doom;
    type Config = ();
    const NAME: &'static str = "Doomed";

    async fn handle(&mut self, _: FriendMessage, _: &Context<Self>) -> Result<(), Doom> {
        Err(Doom)
    }
}

/// Adds the probe's machine. Its rounds are over long before the end of a run.
pub fn add(world: World, judge: &Judge) {
    let judge = judge.clone();
    let rng = world.rng("probe");
    world.node("probe", IP, move || {
        let desk = Desk {
            world,
            judge: judge.clone(),
            log: Arc::default(),
        };
        let rng = rng.clone();
        async move {
            if let Err(error) = live(&desk, rng).await {
                desk.accuse(Violation::Hung {
                    what: format!("the probe does not start: {error}"),
                });
            }
            std::future::pending().await
        }
    });
}

/// Starts the actor system, plays all rounds, and checks the restarts of the doomed child.
async fn live(desk: &Desk, mut rng: Rng) -> Result<(), StartError> {
    let system = System::new("probe");
    let quick = RestartDelay::Delayed(Duration::from_millis(20));
    let patient = Intensity {
        restarts: 100,
        within: Duration::from_secs(60),
    };
    let offices = system.supervisor(SupervisorSpec {
        intensity: patient,
        ..SupervisorSpec::new("offices", Strategy::OneForOne)
    })?;
    let post_desk = desk.clone();
    let spec = ChildSpec::new("post")
        .restart_delay(quick)
        .handle_timeout(HANDLER_TIMEOUT);
    let post = offices.start(spec, MAILBOX_CAPACITY, move || {
        let post = Post {
            desk: post_desk.clone(),
            kept: Vec::new(),
        };
        async move { Ok::<_, Infallible>(post) }
    })?;
    let (one, one_slot) = mailbox(MAILBOX_CAPACITY);
    let (two, two_slot) = mailbox(MAILBOX_CAPACITY);
    for (name, slot, other) in [("one", one_slot, two), ("two", two_slot, one.clone())] {
        offices.start(ChildSpec::new(name).restart_delay(quick), slot, move || {
            let friend = Friend {
                other: other.clone(),
            };
            async move { Ok::<_, Infallible>(friend) }
        })?;
    }
    let breaker = Breaker {
        failures: 1,
        open_for: Backoff {
            initial: BREAKER_OPEN,
            max: BREAKER_OPEN,
            ..Backoff::default()
        },
        proved_after: Duration::from_millis(10),
        ..Breaker::default()
    };
    let spec = ChildSpec::new("fragile").restart_delay(RestartDelay::CircuitBreaker(breaker));
    let fragile = offices.start(spec, MAILBOX_CAPACITY, || async {
        Ok::<_, Infallible>(Fragile)
    })?;
    let doomed = system.supervisor(SupervisorSpec {
        intensity: Intensity {
            restarts: DOOMED_RESTARTS,
            within: Duration::from_secs(60),
        },
        backoff: Backoff {
            initial: Duration::from_millis(5),
            max: Duration::from_millis(5),
            ..Backoff::default()
        },
        exhausted: Exhausted::Degrade,
        ..SupervisorSpec::new("doomed", Strategy::OneForOne)
    })?;
    let doomed_desk = desk.clone();
    let _never_runs = doomed.start(ChildSpec::new("child"), MAILBOX_CAPACITY, move || {
        doomed_desk.look().doomed += 1;
        async { Err::<Doomed, _>(Doom) }
    })?;
    for round in 0..ROUNDS {
        time::sleep(Duration::from_millis(
            MIN_PAUSE_MS + rng.below(MIN_PAUSE_MS),
        ))
        .await;
        self::round(desk, &post, &mut rng, round).await;
        circle(desk, &one).await;
        if round == 0 {
            open_breaker(desk, &fragile).await;
        }
    }
    let made = desk.look().doomed;
    let supervisor = "probe/doomed".to_owned();
    let limit = DOOMED_RESTARTS as u64;
    match made.saturating_sub(1) {
        restarts if restarts > limit => desk.accuse(Violation::RestartsBeyondPolicy {
            supervisor,
            restarts,
            limit,
        }),
        restarts if restarts < limit => {
            desk.accuse(Violation::GaveUpEarly {
                supervisor,
                percent_of_policy: restarts * 100 / limit,
            });
        }
        _ => {}
    }
    Ok(())
}

/// Plays a round: several senders send concurrently, interleaved with asks that fail. Then checks
/// that every accepted message was handled.
async fn round(desk: &Desk, post: &Addr<PostMessage>, rng: &mut Rng, round: u64) {
    let senders = (0..SENDERS).map(|sender| {
        let desk = desk.clone();
        let post = post.clone();
        let mut rng = Rng::derive(rng.below(u64::MAX), "sender");
        alys_runtime::spawn("sender", async move {
            send(&desk, &post, &mut rng, sender, round).await
        })
    });
    let senders: Vec<_> = senders.collect();
    for _ in 0..2 {
        time::sleep(Duration::from_millis(rng.below(100))).await;
        let (what, limit) = match rng.below(3) {
            0 => ("a question over which the actor dies", LONG_ASK_TIMEOUT),
            1 => ("a question over which the actor hangs", LONG_ASK_TIMEOUT),
            _ => ("a question that is not answered", ASK_TIMEOUT),
        };
        let begun = now_ms(desk.world);
        let asked = async {
            match what {
                "a question over which the actor dies" => {
                    post.ask(|r| PostMessage::Die { _reply: r }, limit).await
                }
                "a question over which the actor hangs" => {
                    post.ask(|r| PostMessage::Hang { _reply: r }, limit).await
                }
                _ => post.ask(|reply| PostMessage::Keep { reply }, limit).await,
            }
        };
        // The kind of failure does not matter, only its delay.
        let over = timeout(LONG_ASK_TIMEOUT * 2, asked).await;
        on_time(desk, what, begun, PROMPT_FAILURE_LIMIT);
        if matches!(over, Ok(Err(AskError::Timeout { .. }))) {
            not_early(desk, what, begun, limit);
        }
    }
    for sender in senders {
        let _done = timeout(LONG_ASK_TIMEOUT * 2, sender).await;
    }
    // The mailbox is ordered, so the answer proves that all letters before the ping were handled.
    let mut answered = false;
    for _ in 0..20 {
        answered = post
            .ask(|reply| PostMessage::Ping { reply }, ASK_TIMEOUT)
            .await
            .is_ok();
        if answered {
            break;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    if !answered {
        return desk.accuse(Violation::ActorNotHealed {
            node: 0,
            actor: "post".to_owned(),
            fault: "probe".to_owned(),
            state: "does not answer".to_owned(),
            health: String::new(),
            after_ms: 0,
        });
    }
    let lost: usize = desk.look().taken.values().map(BTreeSet::len).sum();
    if lost > 0 {
        let messages = lost as i64;
        desk.accuse(Violation::MessageLost {
            node: 0,
            actor: "probe/post".to_owned(),
            messages,
        });
    }
}

/// Sends the letters of a round, some by `tell`, which fails at a full mailbox, and some by `send`,
/// which waits for room.
async fn send(desk: &Desk, post: &Addr<PostMessage>, rng: &mut Rng, sender: u8, round: u64) {
    for letter in 1..=LETTERS_PER_ROUND {
        let number = round * LETTERS_PER_ROUND + letter;
        // The number is recorded first, because the actor may handle the letter before the send
        // returns.
        desk.look().taken.entry(sender).or_default().insert(number);
        let letter = PostMessage::Letter { sender, number };
        let is_taken = match rng.below(3) {
            0 => post.tell(letter).is_ok(),
            _ => post.send(letter).await.is_ok(),
        };
        if !is_taken {
            desk.look().taken.entry(sender).or_default().remove(&number);
        }
        if rng.below(4) == 0 {
            time::sleep(Duration::from_millis(rng.below(8))).await;
        }
    }
}

/// Checks that the actor system detects a cycle of asks.
async fn circle(desk: &Desk, one: &Addr<FriendMessage>) {
    let begun = now_ms(desk.world);
    let asked = timeout(
        LONG_ASK_TIMEOUT * 3,
        one.ask(|reply| FriendMessage::Begin { reply }, LONG_ASK_TIMEOUT * 2),
    )
    .await;
    on_time(desk, "a question in a circle", begun, PROMPT_FAILURE_LIMIT);
    if !matches!(asked, Ok(Ok(true))) && !desk.judge.is_over() {
        desk.accuse(Violation::AskLate {
            what: "a cycle of asks was not detected".to_owned(),
            after_ms: now_ms(desk.world) - begun,
            limit_ms: 0,
        });
    }
}

/// Opens a circuit breaker while senders wait for room and questions wait in the mailbox. The
/// senders are refused at once, and no question takes longer than its timeout.
async fn open_breaker(desk: &Desk, fragile: &Addr<FragileMessage>) {
    // While the first one is handled, the others fill the mailbox.
    for message in [FragileMessage::Slow, FragileMessage::Fail] {
        let _taken = timeout(ASK_TIMEOUT, fragile.send(message)).await;
    }
    let begun = now_ms(desk.world);
    let askers = (0..WAITING).map(|_| {
        let (desk, fragile) = (desk.clone(), fragile.clone());
        alys_runtime::spawn("asker", async move {
            let ask = fragile.ask(|reply| FragileMessage::Ping { reply }, ASK_TIMEOUT);
            let _over = timeout(LONG_ASK_TIMEOUT, ask).await;
            let limit = ASK_TIMEOUT + ASK_SLACK;
            on_time(&desk, "a question before a breaker opens", begun, limit);
        })
    });
    let askers: Vec<_> = askers.collect();
    // The askers are first.
    time::sleep(Duration::from_millis(1)).await;
    while fragile.tell(FragileMessage::Note).is_ok() && !desk.judge.is_over() {}
    let senders = (0..WAITING).map(|_| {
        let (desk, fragile) = (desk.clone(), fragile.clone());
        alys_runtime::spawn("sender", async move {
            let _over = timeout(LONG_ASK_TIMEOUT, fragile.send(FragileMessage::Note)).await;
            let limit = PROMPT_FAILURE_LIMIT;
            on_time(
                &desk,
                "a sender that waits as a breaker opens",
                begun,
                limit,
            );
        })
    });
    let senders: Vec<_> = senders.collect();
    for task in askers.into_iter().chain(senders) {
        let _done = timeout(LONG_ASK_TIMEOUT * 2, task).await;
    }
    let asked_at = now_ms(desk.world);
    let ask = fragile.ask(|reply| FragileMessage::Ping { reply }, ASK_TIMEOUT);
    let _over = timeout(LONG_ASK_TIMEOUT, ask).await;
    let limit = ASK_TIMEOUT + ASK_SLACK;
    on_time(desk, "a question at an open breaker", asked_at, limit);
}

/// Reports an ask that took longer than `limit`.
fn on_time(desk: &Desk, what: &str, begun_ms: u64, limit: Duration) {
    let after_ms = now_ms(desk.world) - begun_ms;
    let limit_ms = limit.as_millis() as u64;
    if after_ms > limit_ms {
        desk.accuse(Violation::AskLate {
            what: what.to_owned(),
            after_ms,
            limit_ms,
        });
    }
}

/// Reports a timeout before its time. Times are rounded to milliseconds.
fn not_early(desk: &Desk, what: &str, begun_ms: u64, limit: Duration) {
    let after_ms = now_ms(desk.world) - begun_ms;
    let limit_ms = limit.as_millis() as u64;
    if after_ms + 1 < limit_ms {
        desk.accuse(Violation::AskEarly {
            what: what.to_owned(),
            after_ms,
            limit_ms,
        });
    }
}
