//! Faults inside of a running node: an actor is struck at its next message, and must be well again soon after.
//!
//! The strike is put into the node's actor system and happens there, at a message that the actor begins. From then on the
//! node is watched from outside, through what its supervision tree shows: whether the actor was made anew and runs, and
//! whether the tree is healthy.

use std::sync::{Arc, Weak};
use std::time::Duration;

use alys_actor_system::{Fault as Injected, Health, Planned, Snapshot, State};
use alys_node::node::Node;
use alys_runtime::sim::NodeId;
use alys_runtime::{spawn, time};

use super::Faults;
use super::{Actor, Harm, Strike};
use crate::cluster::now_ms;
use crate::events::Announcement;
use crate::invariants::Violation;

/// How long a node may take until all its actors run again.
const HEALS_WITHIN_MS: u64 = 5_000;
/// How long after that its finality may take to go on, when nothing else is wrong: connections come back, and what was
/// missed is caught up with.
const FINAL_WITHIN_MS: u64 = 20_000;
/// Between two looks at a node that was struck.
const LOOK: Duration = Duration::from_millis(20);

/// How a look at a struck node came out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// The actor was made anew, if it had to be, and everything runs.
    Healed,
    /// It was not, or something does not run: what is shown of it.
    Ailing { state: String, health: String },
}

/// Looks at a tree in which the actor at `path` had `incarnation` incarnations when it was struck.
fn judge(tree: &Snapshot, path: &str, incarnation: u64, harm: Harm) -> Look {
    let Some(actor) = tree.find(path) else {
        return Look::Ailing {
            state: "gone".to_owned(),
            health: format!("{:?}", tree.health),
        };
    };
    let is_new = actor.incarnation > incarnation || !harm.is_deadly();
    if is_new && actor.state == State::Running && tree.health == Health::Healthy {
        return Look::Healed;
    }
    let state = format!(
        "{}, incarnation {} after {incarnation}",
        actor.state, actor.incarnation
    );
    Look::Ailing {
        state,
        health: format!("{:?}", tree.health),
    }
}

impl Harm {
    fn injected(self) -> Injected {
        match self {
            Self::Panic => Injected::Panic,
            Self::Fail => Injected::Fail,
            Self::Hang => Injected::Hang,
            Self::Slow { ms } => Injected::Slow(Duration::from_millis(ms)),
            Self::LoseReply => Injected::LoseReply,
        }
    }
}

/// One strike under way.
struct Struck {
    index: u8,
    machine: NodeId,
    actor: Actor,
    harm: Harm,
    /// The path below the system.
    path: &'static str,
    /// The node that was struck: another life of its process is another node.
    node: Weak<Node>,
}

impl Faults {
    /// Strikes an actor of each of these nodes.
    pub(super) fn strike(&self, strike: &Strike, nodes: impl IntoIterator<Item = u8>) {
        for index in nodes {
            let (actor, wait) = {
                let mut inner = self.look();
                let spread = inner.rng.below(strike.spread_ms + 1);
                (strike.actor.drawn(|n| inner.rng.below(n)), spread)
            };
            let (faults, harm, count) = (self.clone(), strike.harm, strike.count);
            spawn("strike", async move {
                time::sleep(Duration::from_millis(wait)).await;
                faults.strike_one(index, actor, harm, count).await;
            });
        }
    }

    async fn strike_one(&self, index: u8, actor: Actor, harm: Harm, count: u32) {
        let machine = {
            let inner = self.look();
            if inner.is_healed {
                return;
            }
            inner
                .authorities
                .iter()
                .find(|authority| authority.index == index)
                .map(|found| found.node)
        };
        let (Some(node), Some(machine)) = (self.living().find(index), machine) else {
            self.count("actor.not-there");
            return;
        };
        let path = actor.path();
        let system = node.actors().path;
        let full = format!("{system}/{path}");
        let (faults, struck) = (node.faults().clone(), Arc::downgrade(&node));
        let incarnation = |node: &Node| {
            node.actors()
                .find(path)
                .map_or(0, |actor| actor.incarnation)
        };
        let hits = || -> u64 {
            faults
                .hits()
                .iter()
                .filter(|((hit, _), _)| **hit == *full)
                .map(|(_, times)| times)
                .sum()
        };
        // One at a time, so that what is seen afterwards is known to be of this one.
        while faults.waiting(&full) > 0 && struck.strong_count() > 0 {
            time::sleep(LOOK).await;
        }
        let (before, mut lived) = (hits(), incarnation(&node));
        if !faults.plan(
            &full,
            Planned::from(harm.injected()).times(u64::from(count.max(1))),
        ) {
            self.count("actor.too-many");
            return;
        }
        drop(node);
        // Until the actor begins a message.
        while hits() == before {
            time::sleep(LOOK).await;
            let Some(node) = struck.upgrade().filter(|_| self.world().is_up(machine)) else {
                self.count("actor.not-there");
                return;
            };
            if hits() == before {
                lived = incarnation(&node);
                if faults.waiting(&full) == 0 {
                    // Healed meanwhile.
                    return;
                }
            }
        }
        let struck_now = Announcement::ActorStruck {
            node: self.world().name(machine),
            actor: path.to_owned(),
            harm: harm.name().to_owned(),
        };
        struck_now.announce(self.world());
        self.count(harm.name());
        self.count(actor.struck());
        self.look().struck_ms.insert(index, now_ms(self.world()));
        self.see_healed(
            &Struck {
                index,
                machine,
                actor,
                harm,
                path,
                node: struck,
            },
            lived,
        )
        .await;
    }

    /// Watches a struck node until it is well, or should be.
    async fn see_healed(&self, struck: &Struck, incarnation: u64) {
        let world = self.world();
        let begun = now_ms(world);
        loop {
            // A process that ended was made to, or whoever watches exits says so.
            let Some(node) = struck
                .node
                .upgrade()
                .filter(|_| world.is_up(struck.machine))
            else {
                return;
            };
            if self.is_damaged(struck.machine) {
                return;
            }
            if node
                .faults()
                .waiting(&format!("{}/{}", node.actors().path, struck.path))
                > 0
            {
                // It is being struck still.
                self.look().struck_ms.insert(struck.index, now_ms(world));
            }
            let now = now_ms(world);
            match judge(&node.actors(), struck.path, incarnation, struck.harm) {
                Look::Healed => {
                    self.healed_after(now - begun);
                    break;
                }
                Look::Ailing { state, health } => {
                    let due = self.look().due_ms(struck.index, struck.machine);
                    if due.is_some_and(|due| now > due) {
                        let Struck {
                            index, actor, harm, ..
                        } = struck;
                        let (node, actor, fault) =
                            (index + 1, actor.to_string(), harm.name().to_owned());
                        let after_ms = now - begun;
                        let violation = Violation::ActorNotHealed {
                            node,
                            actor,
                            fault,
                            state,
                            health,
                            after_ms,
                        };
                        self.judge().accuse(now, violation);
                        return;
                    }
                }
            }
            drop(node);
            time::sleep(LOOK).await;
        }
        if self.look().only_actors {
            self.see_final(struck).await;
        }
    }

    /// Watches until the node's finality has gone on.
    async fn see_final(&self, struck: &Struck) {
        let world = self.world();
        let reached = || self.judge().look().finality.of(struck.index);
        let before = reached();
        while reached() == before {
            let due = self.look().due_ms(struck.index, struck.machine);
            if due.is_some_and(|due| now_ms(world) > due + FINAL_WITHIN_MS) {
                let (node, actor, fault) = (
                    struck.index + 1,
                    struck.actor.to_string(),
                    struck.harm.name().to_owned(),
                );
                let violation = Violation::NotFinalAfterFault {
                    node,
                    actor,
                    fault,
                    reached: before,
                };
                self.judge().accuse(now_ms(world), violation);
                return;
            }
            time::sleep(LOOK).await;
        }
    }

    fn healed_after(&self, ms: u64) {
        let counts = &mut self.look().counts;
        *counts.entry("actor.healed").or_default() += 1;
        let longest = counts.entry("actor.longest-ms").or_default();
        *longest = ms.max(*longest);
    }
}

impl super::Inner {
    /// When a struck node must be well: it is struck again, or stands still, in its own time. `None` while it stands still.
    fn due_ms(&self, index: u8, machine: NodeId) -> Option<u64> {
        if self.paused.get(&machine).is_some_and(|count| *count > 0) {
            return None;
        }
        let struck = self.struck_ms.get(&index).copied().unwrap_or(0);
        let resumed = self.resumed_ms.get(&machine).copied().unwrap_or(0);
        Some(struck.max(resumed) + HEALS_WITHIN_MS)
    }
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
    fn an_actor_is_healed_when_it_was_made_anew_and_everything_runs() {
        let path = "chain/engine";
        let look = |tree: &Snapshot, harm| judge(tree, path, 1, harm) == Look::Healed;
        let running = tree(State::Running, 1, Health::Healthy);
        assert!(
            !look(&running, Harm::Hang),
            "it hangs, and looks as if it ran"
        );
        assert!(look(&running, Harm::Slow { ms: 10 }), "it was never down");
        let anew = tree(State::Running, 2, Health::Healthy);
        assert!(look(&anew, Harm::Hang) && look(&anew, Harm::Panic));
        assert!(!look(
            &tree(State::Backoff, 2, Health::Unhealthy("waits for a restart")),
            Harm::Panic
        ));
        assert!(
            !look(
                &tree(State::Running, 2, Health::Degraded("a part")),
                Harm::Panic
            ),
            "something else is down"
        );
        assert!(matches!(
            judge(&anew, "chain/none", 1, Harm::Panic),
            Look::Ailing { .. }
        ));
    }
}
