//! Strikes at actors of a running node: an actor is hit at its next message, and must be well again
//! soon after.
//!
//! The strike is put into the node's actor system and happens there, at a message that the actor
//! begins. From then on the node is watched from outside, through what its supervision tree shows:
//! whether the actor was restarted and runs, and whether the tree is healthy.

use std::sync::{Arc, Weak};
use std::time::Duration;

use alys_actor_system::{Fault as Injected, Health, Planned, Snapshot, State};
use alys_node::node::Node;
use alys_runtime::sim::NodeId;
use alys_runtime::{spawn, time};

use super::actors::Actor;
use super::registry::Hit;
use super::{Faults, lock};
use crate::cluster::now_ms;
use crate::events::Announcement;
use crate::invariants::Violation;
use crate::params::Ms;

/// How long a node may take until all its actors run again.
const HEALS_WITHIN_MS: u64 = 5_000;
/// How long after that its finality may take to go on, when nothing else is wrong: connections come
/// back, and what was missed is caught up with.
const FINAL_WITHIN_MS: u64 = 20_000;
/// Between two looks at a node that was struck.
const LOOK: Duration = Duration::from_millis(20);

/// A strike of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike {
    /// The name of the fault.
    name: &'static str,
    actor: Actor,
    /// It comes at a moment, drawn for each node, up to so much after the step begins.
    spread: Ms,
    harm: Injected,
    /// At how many of the actor's next messages.
    count: u32,
}

impl Strike {
    /// A strike at the next message.
    pub(super) fn new(name: &'static str, actor: Actor, spread: Ms, harm: Injected) -> Self {
        Self {
            name,
            actor,
            spread,
            harm,
            count: 1,
        }
    }

    /// The same at several messages.
    pub(super) fn times(self, count: u32) -> Self {
        Self { count, ..self }
    }
}

/// Whether the actor does not survive it: its supervisor must restart it.
const fn is_deadly(harm: Injected) -> bool {
    match harm {
        Injected::Panic | Injected::Fail | Injected::Hang => true,
        Injected::Slow(_) | Injected::LoseReply | Injected::Drop => false,
    }
}

/// The result of a look at a struck node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// The actor was restarted, if it had to be, and everything runs.
    Healed,
    /// It was not, or something does not run: what is shown of it.
    Ailing { state: String, health: String },
}

/// Looks at a tree in which the actor at `path` had `incarnation` incarnations when it was struck.
fn judge(tree: &Snapshot, path: &str, incarnation: u64, harm: Injected) -> Look {
    let health = format!("{:?}", tree.health);
    let Some(actor) = tree.find(path) else {
        let state = "gone".to_owned();
        return Look::Ailing { state, health };
    };
    let is_new = actor.incarnation > incarnation || !is_deadly(harm);
    if is_new && actor.state == State::Running && tree.health == Health::Healthy {
        return Look::Healed;
    }
    let state = format!(
        "{}, incarnation {} after {incarnation}",
        actor.state, actor.incarnation
    );
    Look::Ailing { state, health }
}

/// One strike under way.
struct Struck {
    index: u8,
    machine: NodeId,
    strike: Strike,
    /// The node that was struck: another life of its process is another node.
    node: Weak<Node>,
}

impl Faults {
    /// Strikes an actor of each of these nodes.
    pub(super) fn strike(&self, hit: &Hit, strike: Strike) {
        for index in &hit.nodes {
            let wait_ms = self.draw_up_to(strike.spread.0);
            let actor = strike.actor.drawn(|limit| self.draw_below(limit));
            let strike = Strike { actor, ..strike };
            let faults = self.clone();
            let index = *index;
            spawn("strike", async move {
                time::sleep(Duration::from_millis(wait_ms)).await;
                faults.strike_one(index, strike).await;
            });
        }
    }

    async fn strike_one(&self, index: u8, strike: Strike) {
        if self.is_healed() {
            return;
        }
        let authority = self.authorities.iter().find(|one| one.index == index);
        let (Some(node), Some(authority)) = (self.living.find(index), authority) else {
            self.count("actor.not-there");
            return;
        };
        let machine = authority.node;
        let path = strike.actor.path();
        let full = format!("{}/{path}", node.actors().path);
        let faults = node.faults().clone();
        let struck = Arc::downgrade(&node);
        let hits = || -> u64 {
            let hits = faults.hits();
            let own = hits.iter().filter(|((hit, _), _)| **hit == *full);
            own.map(|(_, times)| times).sum()
        };
        // One at a time, so that what is seen afterwards is known to be of this one.
        while faults.waiting(&full) > 0 && struck.strong_count() > 0 {
            time::sleep(LOOK).await;
        }
        let before = hits();
        let mut lived = incarnation(&node, path);
        let times = u64::from(strike.count.max(1));
        if !faults.plan(&full, Planned::from(strike.harm).times(times)) {
            self.count("actor.too-many");
            return;
        }
        drop(node);
        // Until the actor begins a message.
        while hits() == before {
            time::sleep(LOOK).await;
            let Some(node) = struck.upgrade().filter(|_| self.world.is_up(machine)) else {
                self.count("actor.not-there");
                return;
            };
            if hits() == before {
                lived = incarnation(&node, path);
                if faults.waiting(&full) == 0 {
                    // Healed meanwhile.
                    return;
                }
            }
        }
        let struck_now = Announcement::ActorStruck {
            node: self.world.name(machine),
            actor: path.to_owned(),
            harm: strike.name.to_owned(),
        };
        struck_now.announce(self.world);
        self.count(strike.name);
        self.count(strike.actor.struck());
        lock(&self.struck_ms).insert(index, now_ms(self.world));
        let struck = Struck {
            index,
            machine,
            strike,
            node: struck,
        };
        if self.see_healed(&struck, lived).await && self.only_actors {
            self.see_final(&struck).await;
        }
    }

    /// Watches a struck node until it is well, or should be. False when it ended, or was not well
    /// in time.
    async fn see_healed(&self, struck: &Struck, incarnation: u64) -> bool {
        let world = self.world;
        let begun = now_ms(world);
        let path = struck.strike.actor.path();
        loop {
            // A process that ended was made to, or the watch over exits says so.
            let Some(node) = struck
                .node
                .upgrade()
                .filter(|_| world.is_up(struck.machine))
            else {
                return false;
            };
            if self.is_damaged(struck.machine) {
                return false;
            }
            let actors = node.actors();
            if node.faults().waiting(&format!("{}/{path}", actors.path)) > 0 {
                // It is being struck still.
                lock(&self.struck_ms).insert(struck.index, now_ms(world));
            }
            let now = now_ms(world);
            match judge(&actors, path, incarnation, struck.strike.harm) {
                Look::Healed => {
                    self.healed_after(now - begun);
                    return true;
                }
                Look::Ailing { state, health } => {
                    if self.due_ms(struck).is_some_and(|due| now > due) {
                        let violation = Violation::ActorNotHealed {
                            node: struck.index + 1,
                            actor: struck.strike.actor.to_string(),
                            fault: struck.strike.name.to_owned(),
                            state,
                            health,
                            after_ms: now - begun,
                        };
                        self.judge.accuse(now, violation);
                        return false;
                    }
                }
            }
            drop(node);
            time::sleep(LOOK).await;
        }
    }

    /// Watches until the node's finality has gone on.
    async fn see_final(&self, struck: &Struck) {
        let reached = || self.judge.look().finality.of(struck.index);
        let before = reached();
        while reached() == before {
            let now = now_ms(self.world);
            if self
                .due_ms(struck)
                .is_some_and(|due| now > due + FINAL_WITHIN_MS)
            {
                let violation = Violation::NotFinalAfterFault {
                    node: struck.index + 1,
                    actor: struck.strike.actor.to_string(),
                    fault: struck.strike.name.to_owned(),
                    reached: before,
                };
                self.judge.accuse(now, violation);
                return;
            }
            time::sleep(LOOK).await;
        }
    }

    fn healed_after(&self, ms: u64) {
        let mut counts = lock(&self.counts);
        *counts.entry("actor.healed").or_default() += 1;
        let longest = counts.entry("actor.longest-ms").or_default();
        *longest = ms.max(*longest);
    }

    /// When a struck node must be well: it is struck again, or stands still, in its own time.
    /// `None` while it stands still.
    fn due_ms(&self, struck: &Struck) -> Option<u64> {
        let runs_since = lock(&self.processes).runs_since(struck.machine)?;
        let struck_ms = lock(&self.struck_ms)
            .get(&struck.index)
            .copied()
            .unwrap_or(0);
        Some(struck_ms.max(runs_since) + HEALS_WITHIN_MS)
    }
}

fn incarnation(node: &Node, path: &str) -> u64 {
    let actors = node.actors();
    actors.find(path).map_or(0, |actor| actor.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(state: State, incarnation: u64, health: Health) -> Snapshot {
        let actor = Snapshot {
            name: "engine".to_owned(),
            path: "node1/chain/engine".to_owned(),
            state,
            health,
            incarnation,
            restarts: incarnation - 1,
            last_error: None,
            mailbox: None,
            children: Vec::new(),
        };
        let above = |name: &str, path: &str, child: Snapshot| Snapshot {
            name: name.to_owned(),
            path: path.to_owned(),
            state: State::Running,
            children: vec![child.clone()],
            ..child
        };
        above("node1", "node1", above("chain", "node1/chain", actor))
    }

    #[test]
    fn an_actor_is_healed_when_it_was_restarted_and_everything_runs() {
        let path = "chain/engine";
        let look = |tree: &Snapshot, harm| judge(tree, path, 1, harm) == Look::Healed;
        let running = tree(State::Running, 1, Health::Healthy);
        assert!(
            !look(&running, Injected::Hang),
            "it hangs, and looks as if it ran"
        );
        assert!(look(&running, Injected::Slow(LOOK)), "it was never down");
        let restarted = tree(State::Running, 2, Health::Healthy);
        assert!(look(&restarted, Injected::Hang) && look(&restarted, Injected::Panic));
        assert!(!look(
            &tree(State::Backoff, 2, Health::Unhealthy("waits for a restart")),
            Injected::Panic
        ));
        assert!(
            !look(
                &tree(State::Running, 2, Health::Degraded("a part")),
                Injected::Panic
            ),
            "something else is down"
        );
        assert!(matches!(
            judge(&restarted, "chain/none", 1, Injected::Panic),
            Look::Ailing { .. }
        ));
    }
}
