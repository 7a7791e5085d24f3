//! Strikes at actors of a running node: an actor is hit at its next message, and must recover soon
//! afterwards.
//!
//! The strike is injected into the node's actor system and happens at the next message that the
//! actor begins. Afterwards the supervision tree of the node is polled until it shows that the
//! actor runs, after a restart if the strike requires one, and that all others run. Actors that
//! only report bad surroundings (no execution client, no peers) count as healthy.

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

/// Time after a strike within which all actors of a node must run again.
const HEALS_WITHIN_MS: u64 = 5_000;
/// Further time within which the node's finality must advance when no other fault is active. It
/// covers new connections and the sync of missed blocks.
const FINAL_WITHIN_MS: u64 = 20_000;
/// Polling interval for a struck node.
const LOOK: Duration = Duration::from_millis(20);

/// A strike of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike {
    /// The name of the fault.
    name: &'static str,
    actor: Actor,
    /// Upper bound of a delay after the step begins, drawn for each node.
    spread: Ms,
    harm: Injected,
    /// Number of the actor's next messages that are hit.
    count: u32,
}

impl Strike {
    /// Creates a strike at the next message.
    pub(super) fn new(name: &'static str, actor: Actor, spread: Ms, harm: Injected) -> Self {
        Self {
            name,
            actor,
            spread,
            harm,
            count: 1,
        }
    }

    /// Repeats the strike at several messages.
    pub(super) fn times(self, count: u32) -> Self {
        Self { count, ..self }
    }
}

/// True if the actor does not survive, so that its supervisor must restart it.
const fn is_deadly(harm: Injected) -> bool {
    match harm {
        Injected::Panic | Injected::Fail | Injected::Hang => true,
        Injected::Slow(_) | Injected::LoseReply | Injected::Drop => false,
    }
}

/// The state of a struck node's supervision tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// The actor was restarted where that is required, and the tree is healthy.
    Healed,
    /// The actor or another part of the tree is not healthy yet.
    Ailing { state: String, health: String },
}

/// Evaluates a tree whose actor at `path` had the number `incarnation` when it was struck.
fn judge(tree: &Snapshot, path: &str, incarnation: u64, harm: Injected) -> Look {
    let health = format!("{:?}", tree.health);
    let Some(actor) = tree.find(path) else {
        let state = "gone".to_owned();
        return Look::Ailing { state, health };
    };
    let is_new = actor.incarnation > incarnation || !is_deadly(harm);
    let runs = |part: &Snapshot| {
        part.state == State::Running && !matches!(part.health, Health::Unhealthy(_))
    };
    if is_new && tree.all().into_iter().all(runs) {
        return Look::Healed;
    }
    let state = format!(
        "{}, incarnation {} after {incarnation}",
        actor.state, actor.incarnation
    );
    Look::Ailing { state, health }
}

/// A strike that has hit.
struct Struck {
    index: u8,
    machine: NodeId,
    strike: Strike,
    /// The struck node. A restart of its process creates another one.
    node: Weak<Node>,
}

impl Faults {
    /// Strikes an actor of each node.
    pub(super) fn strike(&self, hit: &Hit, strike: Strike) {
        for index in &hit.nodes {
            let wait_ms = hit.draws.up_to(strike.spread.0);
            let actor = strike.actor.drawn(|limit| hit.draws.below(limit));
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
        // One strike at a time, so that the observed effects belong to it.
        while faults.waiting(&full) > 0 && struck.strong_count() > 0 {
            time::sleep(LOOK).await;
        }
        let before = hits();
        let mut lived = incarnation(&node, &path);
        let times = u64::from(strike.count.max(1));
        if !faults.plan(&full, Planned::from(strike.harm).times(times)) {
            self.count("actor.too-many");
            return;
        }
        drop(node);
        // Wait until the actor begins a message.
        while hits() == before {
            time::sleep(LOOK).await;
            let Some(node) = struck.upgrade().filter(|_| self.world.is_up(machine)) else {
                self.count("actor.not-there");
                return;
            };
            if hits() == before {
                lived = incarnation(&node, &path);
                if faults.waiting(&full) == 0 {
                    // The fault was cleared meanwhile.
                    return;
                }
            }
        }
        let struck_now = Announcement::ActorStruck {
            node: self.world.name(machine),
            actor: path.clone(),
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

    /// Waits until a struck node is healthy, and reports a violation after the deadline. False if
    /// the node ended or did not recover in time.
    async fn see_healed(&self, struck: &Struck, incarnation: u64) -> bool {
        let world = self.world;
        let begun = now_ms(world);
        let path = struck.strike.actor.path();
        loop {
            // A planned fault ended the process; the watch over exits reports any other end.
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
                // Further messages are still to be hit.
                lock(&self.struck_ms).insert(struck.index, now_ms(world));
            }
            let now = now_ms(world);
            match judge(&actors, &path, incarnation, struck.strike.harm) {
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

    /// Waits until the node's finality advances, and reports a violation after the deadline.
    async fn see_final(&self, struck: &Struck) {
        let reached = || self.judge.look().finality.of(struck.index);
        let before = reached();
        while reached() == before {
            if self.judge.look().is_gate_near() {
                // The chain waits for a miner.
                return;
            }
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

    /// The deadline for a struck node to be healthy; further strikes and pauses postpone it. `None`
    /// during a pause.
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
            failures: incarnation - 1,
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
        let alone = tree(State::Running, 2, Health::Degraded("no peer is connected"));
        assert!(look(&alone, Injected::Panic), "it runs");
        let stuck = tree(State::Running, 2, Health::Unhealthy("computes without end"));
        assert!(!look(&stuck, Injected::Panic));
        let mut other = restarted.clone();
        other.children[0].children.push(Snapshot {
            name: "validation".to_owned(),
            state: State::Backoff,
            ..restarted.clone()
        });
        assert!(!look(&other, Injected::Panic), "another actor is down");
        assert!(matches!(
            judge(&restarted, "chain/none", 1, Injected::Panic),
            Look::Ailing { .. }
        ));
    }
}
