//! Actors of our own beside the nodes: they send each other numbered messages, ask, fail and hang, on the same actor system
//! and the same schedule, and what comes of it is known beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_actor_system::{
    Addr, AlysActor, AskError, Backoff, ChildSpec, Context, Exhausted, Intensity, Message, Reply,
    RestartDelay, StartError, Strategy, SupervisorSpec, System, TooManyTasks, mailbox,
};
use alys_runtime::sim::{Rng, World};
use alys_runtime::time::{self, timeout};

use crate::cluster::{Net, now_ms};
use crate::invariants::{Judge, Violation};

const IP: IpAddr = Net::Probe.ip(0);
/// Messages that wait for the post office at most: few, so that it is full often.
const MAILBOX: usize = 8;
/// Senders of numbered messages.
const SENDERS: u8 = 3;
/// What each sends in a round.
const LETTERS: u64 = 24;
/// Rounds of a run.
const ROUNDS: u64 = 3;
/// Between two rounds, in milliseconds, and up to as much more.
const PAUSE_MS: u64 = 2_000;
/// The longest that a message may take: one that takes longer hangs.
const HANDLES: Duration = Duration::from_millis(300);
/// How long an answer is waited for that never comes.
const DEADLINE: Duration = Duration::from_millis(400);
/// How long a circle would take that nobody sees.
const LONG: Duration = Duration::from_secs(4);
/// Within what a question is over whose end is known at once, behind a full mailbox and a restart or two.
const AT_ONCE: Duration = Duration::from_millis(2_500);
/// How often the children of an incarnation show that it lives.
const BEAT: Duration = Duration::from_millis(20);
/// Restarts that the doomed child's supervisor makes.
const DOOMED_RESTARTS: usize = 3;

/// What was seen.
#[derive(Default)]
struct Log {
    /// By sender: numbers that were taken and have not arrived.
    taken: BTreeMap<u8, BTreeSet<u64>>,
    /// By sender: the last that arrived.
    last: BTreeMap<u8, u64>,
    /// The incarnation of the post office that lives, and since when, in milliseconds.
    living: (u64, u64),
    /// How often the doomed child was made.
    doomed: u64,
}

/// What the actors share with their judge.
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
    /// Answered when all before it are handled.
    Ping {
        reply: Reply<()>,
    },
    /// The handler panics over it.
    Die {
        _reply: Reply<()>,
    },
    /// The handler hangs over it.
    Hang {
        _reply: Reply<()>,
    },
    /// It is handled, and its answer kept for ever.
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

/// Takes letters in.
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
        let (desk, incarnation) = (self.desk.clone(), ctx.incarnation());
        desk.look().living = (incarnation, now_ms(desk.world));
        ctx.spawn("beat", async move {
            loop {
                time::sleep(BEAT).await;
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
                    // So that others wait meanwhile.
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

/// Asks the other of its kind within its handler.
struct Friend {
    other: Addr<FriendMessage>,
}

enum FriendMessage {
    /// Ask the other, who asks back.
    Begin {
        reply: Reply<bool>,
    },
    /// Ask back. Answers whether that was said to be a circle.
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
                    .ask(|reply| FriendMessage::Back { reply }, LONG)
                    .await;
                reply.send(asked.unwrap_or(false));
            }
            FriendMessage::Back { reply } => {
                let asked = self
                    .other
                    .ask(|reply| FriendMessage::Ping { reply }, LONG)
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

/// Never starts.
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

/// Adds the probe's machine. It is done long before a run is.
pub fn add(world: World, judge: &Judge) {
    let (judge, rng) = (judge.clone(), world.rng("probe"));
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
    let (post_desk, spec) = (
        desk.clone(),
        ChildSpec::new("post")
            .restart_delay(quick)
            .handle_within(HANDLES),
    );
    let post = offices.start(spec, MAILBOX, move || {
        let post = Post {
            desk: post_desk.clone(),
            kept: Vec::new(),
        };
        async move { Ok::<_, Infallible>(post) }
    })?;
    let ((one, one_slot), (two, two_slot)) = (mailbox(MAILBOX), mailbox(MAILBOX));
    for (name, slot, other) in [("one", one_slot, two), ("two", two_slot, one.clone())] {
        offices.start(ChildSpec::new(name).restart_delay(quick), slot, move || {
            let friend = Friend {
                other: other.clone(),
            };
            async move { Ok::<_, Infallible>(friend) }
        })?;
    }
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
    let _never_runs = doomed.start(ChildSpec::new("child"), MAILBOX, move || {
        doomed_desk.look().doomed += 1;
        async { Err::<Doomed, _>(Doom) }
    })?;
    for round in 0..ROUNDS {
        time::sleep(Duration::from_millis(PAUSE_MS + rng.below(PAUSE_MS))).await;
        self::round(desk, &post, &mut rng, round).await;
        circle(desk, &one).await;
    }
    let made = desk.look().doomed;
    let (supervisor, limit) = ("probe/doomed".to_owned(), DOOMED_RESTARTS as u64);
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

/// Letters of several senders at once, and questions of all kinds in between.
async fn round(desk: &Desk, post: &Addr<PostMessage>, rng: &mut Rng, round: u64) {
    let senders = (0..SENDERS).map(|sender| {
        let (desk, post, mut rng) = (
            desk.clone(),
            post.clone(),
            Rng::derive(rng.below(u64::MAX), "sender"),
        );
        alys_runtime::spawn("sender", async move {
            send(&desk, &post, &mut rng, sender, round).await
        })
    });
    let senders: Vec<_> = senders.collect();
    for _ in 0..2 {
        time::sleep(Duration::from_millis(rng.below(100))).await;
        let (what, limit): (&str, Duration) = match rng.below(3) {
            0 => ("a question over which the actor dies", AT_ONCE),
            1 => ("a question over which the actor hangs", AT_ONCE),
            _ => ("a question that is not answered", AT_ONCE),
        };
        let begun = now_ms(desk.world);
        let asked = async {
            match what {
                "a question over which the actor dies" => {
                    post.ask(|r| PostMessage::Die { _reply: r }, LONG).await
                }
                "a question over which the actor hangs" => {
                    post.ask(|r| PostMessage::Hang { _reply: r }, LONG).await
                }
                _ => {
                    post.ask(|reply| PostMessage::Keep { reply }, DEADLINE)
                        .await
                }
            }
        };
        // Full, dropped or late: all that matters is that it is over.
        let _over = timeout(LONG * 2, asked).await;
        on_time(desk, what, begun, limit);
    }
    for sender in senders {
        let _done = timeout(LONG * 2, sender).await;
    }
    // Behind all letters, so that they are handled when it is answered.
    let mut answered = false;
    for _ in 0..20 {
        answered = post
            .ask(|reply| PostMessage::Ping { reply }, DEADLINE)
            .await
            .is_ok();
        if answered {
            break;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    if !answered {
        let (actor, state, health) = (
            "post".to_owned(),
            "does not answer".to_owned(),
            String::new(),
        );
        let fault = "probe".to_owned();
        return desk.accuse(Violation::ActorNotHealed {
            node: 0,
            actor,
            fault,
            state,
            health,
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

/// Sends letters, some waiting for room and some not.
async fn send(desk: &Desk, post: &Addr<PostMessage>, rng: &mut Rng, sender: u8, round: u64) {
    for letter in 1..=LETTERS {
        let number = round * LETTERS + letter;
        // Noted before: it may be handled before this goes on.
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

/// Two actors that ask each other are told so.
async fn circle(desk: &Desk, one: &Addr<FriendMessage>) {
    let begun = now_ms(desk.world);
    let asked = timeout(
        LONG * 3,
        one.ask(|reply| FriendMessage::Begin { reply }, LONG * 2),
    )
    .await;
    on_time(desk, "a question in a circle", begun, AT_ONCE);
    if !matches!(asked, Ok(Ok(true))) && !desk.judge.is_over() {
        let (what, after_ms) = (
            "a circle is not said to be one".to_owned(),
            now_ms(desk.world) - begun,
        );
        desk.accuse(Violation::AskLate {
            what,
            after_ms,
            limit_ms: 0,
        });
    }
}

fn on_time(desk: &Desk, what: &str, begun_ms: u64, limit: Duration) {
    let (after_ms, limit_ms) = (now_ms(desk.world) - begun_ms, limit.as_millis() as u64);
    if after_ms > limit_ms {
        desk.accuse(Violation::AskLate {
            what: what.to_owned(),
            after_ms,
            limit_ms,
        });
    }
}
