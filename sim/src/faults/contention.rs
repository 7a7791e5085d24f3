//! Contention inside of a node: slow handlers for a while, bursts of questions, failures one after
//! the other. Together with small mailboxes ([`crate::params::WorldPlan::mailboxes`]) messages of
//! all priorities wait at once, senders find no room or give up, and answers arrive after a stop.

use std::time::Duration;

use alys_actor_system::{AskError, Fault as Injected, Planned, Reply, squeeze};
use alys_node::actors::chain::ChainMessage;
use alys_runtime::{spawn, time};

use super::actors::Actor;
use super::draw::{Drawing, drawing};
use super::registry::{Hit, Kind, Place, WrongValue, declare, subject, within};
use super::{Faults, Stop, lock};
use crate::cluster::{Seat, now_ms};
use crate::params::{MachineRole, Ms};

subject![ActorSlowStretch, ActorFailOften, AskBurst, MailboxFull];

/// Longest delay of each message of a slow stretch. Two writes of the storage with it take less
/// than the message timeout of the ChainActor.
const MOST_DELAY_MS: u64 = 1_000;
/// Most questions of a burst.
const MAX_QUESTIONS: u64 = 5_000;
/// Longest patience of an asker.
const MAX_PATIENCE_MS: u64 = 60_000;
/// Shortest time between two failures of an actor whose restarts count: 20 in a minute are
/// tolerated.
const LEAST_EVERY_MS: u64 = 3_200;
/// The same of an actor behind a circuit breaker.
const LEAST_EVERY_BREAKER_MS: u64 = 100;
/// Interval in which a slow stretch reaches a restarted node.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Faults {
    fn activate(&self, hit: &Hit) {
        lock(&self.active).insert(hit.number);
    }

    fn deactivate(&self, hit: &Hit) {
        lock(&self.active).remove(&hit.number);
    }

    /// True until the step ends or everything heals.
    fn is_active(&self, hit: &Hit) -> bool {
        lock(&self.active).contains(&hit.number)
    }

    /// Withdraws the pending faults of a node's actors, because its process stops: it has a limit
    /// for the messages that its actors have left, and fails if they need longer.
    pub(super) fn spare_actors(&self, index: u8) {
        if let Some(node) = self.living.find(index) {
            node.faults().clear();
        }
    }

    /// Delays each message of an actor while the step is active, except in a process that stops.
    async fn slow_down(self, hit: Hit, index: u8, actor: Actor, delay: Duration) {
        let path_in = |system: &str| format!("{system}/{}", actor.path());
        while self.is_active(&hit) {
            if let Some(node) = self.living.find(index) {
                let path = path_in(&node.actors().path);
                let faults = node.faults();
                let slow = Planned::from(Injected::Slow(delay)).times(u64::MAX);
                if self.is_stopping(index) {
                    faults.withdraw(&path);
                } else if faults.waiting(&path) == 0 && faults.plan(&path, slow) {
                    self.count("actor.slowed");
                }
            }
            time::sleep(POLL_INTERVAL).await;
        }
        if let Some(node) = self.living.find(index) {
            node.faults().withdraw(&path_in(&node.actors().path));
        }
    }

    /// Fails a message of an actor from time to time while the step is active, except in a process
    /// that stops. No task watches the recovery from each failure; the invariants of restarts, and
    /// progress at the end, do.
    async fn fail_often(self, hit: Hit, index: u8, actor: Actor, every: Duration) {
        let path_in = |system: &str| format!("{system}/{}", actor.path());
        while self.is_active(&hit) {
            if let Some(node) = self.living.find(index) {
                let path = path_in(&node.actors().path);
                let faults = node.faults();
                if self.is_stopping(index) {
                    faults.withdraw(&path);
                } else if faults.waiting(&path) == 0 && faults.plan(&path, Injected::Fail) {
                    self.count("actor.failed-often");
                    // Strikes of other steps are not due while the tree is disturbed.
                    lock(&self.struck_ms).insert(index, now_ms(self.world));
                }
            }
            time::sleep(every).await;
        }
        if let Some(node) = self.living.find(index) {
            node.faults().withdraw(&path_in(&node.actors().path));
        }
    }

    /// Refuses all messages to an actor whose senders do not wait while the step is active, across
    /// restarts of the node.
    async fn fill(self, hit: Hit, index: u8, actor: Actor) {
        let seat = Seat {
            index,
            is_twin: false,
        };
        let path = format!("{}/{}", seat.name(MachineRole::Node), actor.path());
        squeeze::begin(&path);
        self.judge.look().retold.filled(index, true);
        self.count("mailbox.filled");
        while self.is_active(&hit) {
            time::sleep(POLL_INTERVAL).await;
        }
        squeeze::end(&path);
        self.judge.look().retold.filled(index, false);
    }

    /// Asks a node's chain for its summary, and gives up after a while.
    async fn ask(self, index: u8, patience: Duration) {
        let Some(chain) = self.living.find(index).map(|node| node.chain()) else {
            self.count("ask-burst.not-there");
            return;
        };
        let make = |reply| ChainMessage::GetSummary { reply };
        let asked = chain.0.ask(make, patience).await;
        self.count(match asked {
            Ok(_) => "ask-burst.answered",
            Err(AskError::Timeout { .. }) => "ask-burst.gave-up",
            Err(_) => "ask-burst.refused",
        });
    }

    /// Waits for room in the mailbox of a node's chain, and gives up after a while.
    async fn wait_for_room(self, index: u8, patience: Duration) {
        let Some(chain) = self.living.find(index).map(|node| node.chain()) else {
            self.count("ask-burst.not-there");
            return;
        };
        let (reply, _answer) = Reply::channel();
        let sent = chain.0.send(ChainMessage::GetSummary { reply });
        self.count(match time::timeout(patience, sent).await {
            Ok(Ok(_)) => "ask-burst.sent",
            Ok(Err(_)) => "ask-burst.refused",
            Err(_) => "ask-burst.left-line",
        });
    }
}

declare! {
    "actor-slow-stretch":
        "The actor begins each message `delay` later until the fault ends, so that others wait."
    ActorSlowStretch {
        pub actor: Actor,
        pub delay: Ms,
    }
}

impl Kind for ActorSlowStretch {
    const EFFECTS: &'static [&'static str] = &["fault.actor.slowed"];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            64,
            "slow-stretch",
            "Handlers of an actor are slow for a while.",
            |draw| {
                let actor = draw.actor();
                let delay = draw.ms_between(1, 300);
                draw.push_as_drawn(ActorSlowStretch { actor, delay });
            },
        ),
        drawing(
            65,
            "contention",
            "Handlers are slow while many ask, and the node may stop meanwhile.",
            |draw| {
                let nodes = draw.numbered();
                // The questions are for the ChainActor.
                let actor = if draw.flip() {
                    Actor::Chain
                } else {
                    draw.actor()
                };
                let delay = draw.ms_between(1, 300);
                let lasts_ms = draw.lasts_ms;
                let slow = ActorSlowStretch { actor, delay };
                draw.push(draw.moment, lasts_ms, nodes.clone(), slow);
                for _ in 0..draw.between(1, 4) {
                    let offset_ms = draw.slot_ms() + draw.below(lasts_ms);
                    let burst = AskBurst {
                        // The largest fills the mailbox of production.
                        count: draw.pick(&[10, 100, 2_500]),
                        patience: draw.ms_between(1, 2_000),
                    };
                    draw.push(draw.at(offset_ms), 0, nodes.clone(), burst);
                }
                if draw.below(3) == 0 {
                    let offset_ms = draw.slot_ms() + draw.below(lasts_ms);
                    let down_ms = draw.between(10, 2 * draw.slot_ms());
                    draw.push(draw.at(offset_ms), down_ms, nodes, Stop::of_node());
                }
            },
        ),
    ];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        within("delay", self.delay.0, 1..=MOST_DELAY_MS)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.activate(hit);
        let delay = Duration::from_millis(self.delay.0);
        for index in &hit.nodes {
            let actor = self.actor.drawn(|limit| hit.draws.below(limit));
            let faults = faults.clone();
            spawn(
                "slow stretch",
                faults.slow_down(hit.clone(), *index, actor, delay),
            );
        }
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.deactivate(hit);
    }
}

declare! {
    "actor-fail-often":
        "The handler of the actor returns an error at its next message, and again after each time \
        `every` until the fault ends."
    ActorFailOften {
        pub actor: Actor,
        pub every: Ms,
    }
}

impl Kind for ActorFailOften {
    const EFFECTS: &'static [&'static str] = &["fault.actor.failed-often"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        66,
        "failing-often",
        "An actor fails again and again.",
        |draw| {
            // Below the rate at which its supervisor gives up, together with other faults.
            let every = draw.ms_between(6_000, 10_000);
            let actor = draw.actor();
            draw.push_as_drawn(ActorFailOften { actor, every });
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        let least_ms = if self.actor.is_behind_breaker() {
            LEAST_EVERY_BREAKER_MS
        } else {
            LEAST_EVERY_MS
        };
        if self.every.0 >= least_ms {
            return Ok(());
        }
        let message = format!(
            "every: at least {}, because its supervisor would give up",
            Ms(least_ms)
        );
        Err(("every", message))
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.activate(hit);
        let every = Duration::from_millis(self.every.0);
        for index in &hit.nodes {
            let actor = self.actor.drawn(|limit| hit.draws.below(limit));
            let faults = faults.clone();
            spawn(
                "failing often",
                faults.fail_often(hit.clone(), *index, actor, every),
            );
        }
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.deactivate(hit);
    }
}

declare! {
    "ask-burst":
        "`count` questions reach the ChainActor of each named node at once. Every second asker \
        waits for room in the mailbox, and each gives up after a time of at most `patience`."
    AskBurst {
        pub count: u64,
        pub patience: Ms,
    }
}

impl Kind for AskBurst {
    const EFFECTS: &'static [&'static str] = &[
        "fault.ask-burst.answered",
        "fault.ask-burst.gave-up",
        "fault.ask-burst.left-line",
        "fault.ask-burst.refused",
        "fault.ask-burst.sent",
    ];
    const IS_INSTANT: bool = true;
    /// Drawn along with [`ActorSlowStretch`].
    const DRAWINGS: &'static [Drawing] = &[];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        within("count", self.count, 1..=MAX_QUESTIONS)?;
        within("patience", self.patience.0, 1..=MAX_PATIENCE_MS)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for index in &hit.nodes {
            for number in 0..self.count {
                let patience = Duration::from_millis(1 + hit.draws.below(self.patience.0));
                let faults = faults.clone();
                if number % 2 == 0 {
                    spawn("asker", faults.ask(*index, patience));
                } else {
                    spawn("asker", faults.wait_for_room(*index, patience));
                }
            }
        }
    }
}

declare! {
    "mailbox-full":
        "The mailbox of the actor has no room for messages of other actors of the node that do not \
        wait for it."
    MailboxFull {
        pub actor: Actor,
    }
}

impl Kind for MailboxFull {
    const EFFECTS: &'static [&'static str] = &["fault.mailbox.filled"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        67,
        "full-mailbox",
        "Messages between actors find no room for a while.",
        |draw| {
            let actor = draw.actor();
            // Shorter than a slot, several times, so that a single message of many is lost, too.
            let for_ms = draw.between(50, 2 * draw.slot_ms());
            let nodes = draw.all_or_someone();
            for turn in 0..draw.between(1, 4) {
                let offset_ms = 2 * turn * draw.slot_ms() + draw.below(draw.slot_ms());
                draw.push(
                    draw.at(offset_ms),
                    for_ms,
                    nodes.clone(),
                    MailboxFull { actor },
                );
            }
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.activate(hit);
        for index in &hit.nodes {
            let actor = self.actor.drawn(|limit| hit.draws.below(limit));
            let faults = faults.clone();
            spawn("full mailbox", faults.fill(hit.clone(), *index, actor));
        }
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.deactivate(hit);
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    let actor = Actor::Chain;
    let delay = Ms(20);
    let every = Ms(4_000);
    vec![
        Row::lasting(ActorSlowStretch { actor, delay }, &["active: 1"]),
        Row::lasting(ActorFailOften { actor, every }, &["active: 1"]),
        Row::lasting(MailboxFull { actor }, &["active: 1"]),
        // No node runs on an idle machine.
        Row::passing(
            AskBurst {
                count: 3,
                patience: Ms(10),
            },
            1,
            &[],
        ),
    ]
}
