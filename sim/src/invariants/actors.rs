//! Supervision trees of the nodes: every accepted message is accounted for, no timer outlives its
//! incarnation, queues stay within their capacity, and supervisors restart and give up according to
//! their policy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

use alys_actor_system::{MailboxSnapshot, Snapshot, State};
use alys_node::wiring::table::{SupervisorPolicy, supervisor_policies};

use super::Violation;

/// Consecutive observations after which an unaccounted message counts as lost. An actor that takes
/// a message while it is observed has one too, so a single observation proves nothing.
const LOOKS_AT_REST: u32 = 60;
/// Largest delay in milliseconds between a failure and its observation.
const OBSERVED_WITHIN_MS: u64 = 2_000;

/// Percentage of a policy that must be observed as used when a supervisor gives up. Less than 100
/// because the observation of failures at the edges of the window is late.
const NEARLY_ALL: usize = 90;

/// The restart policies in the node's wiring.
fn policies() -> &'static [SupervisorPolicy] {
    static POLICIES: LazyLock<Vec<SupervisorPolicy>> = LazyLock::new(supervisor_policies);
    &POLICIES
}

/// Earlier observations of an actor.
#[derive(Debug, Default)]
struct Watched {
    /// Consecutive observations with an unaccounted message.
    unaccounted: u32,
    failures: u64,
}

/// Earlier observations of a supervisor.
#[derive(Debug, Default)]
struct Kept {
    incarnation: u64,
    /// Times at which failures of its children were observed, in milliseconds. Each is a restart
    /// that counts, except for the one at which the supervisor gives up. A restart caused by a
    /// sibling is none of them.
    failures: VecDeque<u64>,
}

/// Earlier observations of one node's tree.
#[derive(Debug, Default)]
struct Tree {
    actors: BTreeMap<String, Watched>,
    supervisors: BTreeMap<&'static str, Kept>,
    /// Highest incarnation of the supervisors, which the root restarts together.
    generation: u64,
}

/// The supervision trees of all nodes.
#[derive(Debug, Default)]
pub struct Actors {
    nodes: BTreeMap<u8, Tree>,
}

/// Returns the number of messages that a mailbox accepted and that no counter accounts for.
pub(super) fn unaccounted(mailbox: &MailboxSnapshot) -> i64 {
    let taken_in = mailbox.accepted + mailbox.timers;
    let accounted = mailbox.handled
        + mailbox.failed
        + mailbox.dropped
        + mailbox.expired
        + mailbox.interrupted
        + mailbox.abandoned
        + mailbox.depth as u64;
    taken_in as i64 - accounted as i64
}

/// Returns path, depth and unaccounted messages of the first actor that is busy and not in
/// `has_rested`; `None` if all actors have been idle once. Adds the idle actors to `has_rested`.
pub fn unrested(tree: &Snapshot, has_rested: &mut BTreeSet<String>) -> Option<(String, u64, i64)> {
    let mut first = None;
    for actor in tree.all() {
        let Some(mailbox) = &actor.mailbox else {
            continue;
        };
        let missing = unaccounted(mailbox);
        if mailbox.depth == 0 && missing == 0 && !mailbox.in_hand {
            has_rested.insert(actor.path.clone());
        } else if !has_rested.contains(&actor.path) {
            first.get_or_insert((actor.path.clone(), mailbox.depth as u64, missing));
        }
    }
    first
}

impl Actors {
    /// Forgets a node's tree because the node restarts with a new one.
    pub fn born(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// Checks a snapshot of a node's tree.
    ///
    /// # Errors
    /// [`Violation::MessageLost`], [`Violation::IncarnationsCrossed`],
    /// [`Violation::QueueOverrun`], [`Violation::RestartsBeyondPolicy`] or
    /// [`Violation::GaveUpEarly`].
    pub fn look(&mut self, at_ms: u64, node: u8, tree: &Snapshot) -> Result<(), Violation> {
        let known = self.nodes.entry(node).or_default();
        for actor in tree.all() {
            let Some(mailbox) = &actor.mailbox else {
                continue;
            };
            let watched = known.actors.entry(actor.path.clone()).or_default();
            known_messages(node, actor, mailbox, watched)?;
        }
        let mut used_percent = 0;
        let mut has_restarted = false;
        let mut generation = known.generation;
        for policy in policies() {
            let SupervisorPolicy {
                name,
                intensity,
                children,
            } = policy;
            let limit = intensity.restarts;
            let window_ms = intensity.within.as_millis() as u64;
            let Some(supervisor) = tree.find(name) else {
                continue;
            };
            let kept = known.supervisors.entry(name).or_default();
            let is_new = kept.incarnation != 0 && supervisor.incarnation != kept.incarnation;
            for child in supervisor
                .children
                .iter()
                .filter(|child| children.contains(&child.name.as_str()))
            {
                let watched = known.actors.entry(child.path.clone()).or_default();
                let more = child.failures.saturating_sub(watched.failures);
                watched.failures = child.failures;
                kept.failures.extend((0..more).map(|_| at_ms));
            }
            // Several if it gave up more than once between two observations.
            let lives = if is_new {
                supervisor
                    .incarnation
                    .saturating_sub(kept.incarnation)
                    .max(1) as usize
            } else {
                1
            };
            kept.incarnation = supervisor.incarnation;
            while kept
                .failures
                .front()
                .is_some_and(|at| at + window_ms + OBSERVED_WITHIN_MS < at_ms)
            {
                kept.failures.pop_front();
            }
            used_percent = used_percent.max(kept.failures.len() * 100 / (limit * lives));
            // The root restarts its supervisors one after the other, and an observation may fall in
            // between. Only the first of them counts.
            has_restarted |= is_new && supervisor.incarnation > known.generation;
            generation = generation.max(supervisor.incarnation);
            if is_new {
                // These used up the policy of the incarnations that gave up, and made them give up;
                // the rest belong to the new one.
                let used = (limit + 1) * lives;
                kept.failures.drain(..kept.failures.len().min(used));
                continue;
            }
            // A supervisor that gave up has a failure more, after which it restarts no child.
            if supervisor.state != State::Running {
                continue;
            }
            let recent = kept
                .failures
                .iter()
                .filter(|at| **at + window_ms >= at_ms + OBSERVED_WITHIN_MS)
                .count();
            if recent > limit {
                return Err(Violation::RestartsBeyondPolicy {
                    supervisor: supervisor.path.clone(),
                    restarts: recent as u64,
                    limit: limit as u64,
                });
            }
        }
        known.generation = generation;
        // The root restarts all supervisors because one of them gave up, so a policy must be used
        // up.
        if has_restarted && used_percent < NEARLY_ALL {
            return Err(Violation::GaveUpEarly {
                supervisor: tree.path.clone(),
                percent_of_policy: used_percent as u64,
            });
        }
        Ok(())
    }
}

fn known_messages(
    node: u8,
    actor: &Snapshot,
    mailbox: &MailboxSnapshot,
    watched: &mut Watched,
) -> Result<(), Violation> {
    let missing = unaccounted(mailbox);
    watched.unaccounted = if missing == 0 || mailbox.in_hand {
        0
    } else {
        watched.unaccounted + 1
    };
    if !(0..=1).contains(&missing) || watched.unaccounted > LOOKS_AT_REST {
        return Err(Violation::MessageLost {
            node: node + 1,
            actor: actor.path.clone(),
            messages: missing,
        });
    }
    if mailbox.crossed > 0 {
        return Err(Violation::IncarnationsCrossed {
            node: node + 1,
            actor: actor.path.clone(),
            what: format!("{} timers", mailbox.crossed),
            living: actor.incarnation,
        });
    }
    if mailbox.depth > mailbox.capacity + ROOM_FOR_RETURNED {
        return Err(Violation::QueueOverrun {
            node: node + 1,
            actor: actor.path.clone(),
            depth: mailbox.depth as u64,
            capacity: mailbox.capacity as u64,
        });
    }
    Ok(())
}

/// Allowed depth beyond the capacity, because a message that returns to its mailbox may find it
/// full.
const ROOM_FOR_RETURNED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use alys_actor_system::Health;

    fn actor(path: &str, restarts: u64, mailbox: MailboxSnapshot) -> Snapshot {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Snapshot {
            name,
            path: path.to_owned(),
            state: State::Running,
            health: Health::Healthy,
            incarnation: restarts + 1,
            restarts,
            failures: restarts,
            last_error: None,
            mailbox: Some(mailbox),
            children: Vec::new(),
        }
    }

    fn tree(incarnation: u64, restarts: u64, mailbox: MailboxSnapshot) -> Snapshot {
        let store = actor("n/storage/storage", restarts, mailbox);
        let storage = Snapshot {
            incarnation,
            mailbox: None,
            children: vec![store],
            ..actor("n/storage", 0, MailboxSnapshot::default())
        };
        Snapshot {
            mailbox: None,
            children: vec![storage],
            ..actor("n", 0, MailboxSnapshot::default())
        }
    }

    #[test]
    fn each_actor_is_idle_once() {
        let busy = MailboxSnapshot {
            accepted: 3,
            handled: 1,
            depth: 2,
            capacity: 4,
            ..Default::default()
        };
        let idle = MailboxSnapshot {
            accepted: 3,
            handled: 3,
            capacity: 4,
            ..Default::default()
        };
        let lost = MailboxSnapshot {
            handled: 2,
            ..idle.clone()
        };
        let mut rested = BTreeSet::new();
        let told = |mailbox: &MailboxSnapshot, rested: &mut _| {
            unrested(&tree(1, 0, mailbox.clone()), rested)
        };
        assert_eq!(
            told(&busy, &mut rested),
            Some(("n/storage/storage".to_owned(), 2, 0))
        );
        assert_eq!(
            told(&lost, &mut rested),
            Some(("n/storage/storage".to_owned(), 0, 1))
        );
        assert_eq!(
            told(
                &MailboxSnapshot {
                    in_hand: true,
                    ..idle.clone()
                },
                &mut rested
            )
            .map(|t| t.1),
            Some(0)
        );
        assert_eq!(told(&idle, &mut rested), None);
        assert_eq!(told(&busy, &mut rested), None, "it was idle before");
    }

    #[test]
    fn accepted_messages_are_accounted_for() {
        let mailbox = |accepted, handled, depth| MailboxSnapshot {
            accepted,
            handled,
            depth,
            capacity: 4,
            ..MailboxSnapshot::default()
        };
        let mut actors = Actors::default();
        assert_eq!(actors.look(0, 0, &tree(1, 0, mailbox(5, 3, 2))), Ok(()));
        for _ in 0..LOOKS_AT_REST {
            assert_eq!(
                actors.look(1, 0, &tree(1, 0, mailbox(5, 4, 0))),
                Ok(()),
                "one may be in progress"
            );
        }
        let at_work = MailboxSnapshot {
            in_hand: true,
            ..mailbox(5, 4, 0)
        };
        assert_eq!(
            actors.look(1, 0, &tree(1, 0, at_work.clone())),
            Ok(()),
            "one is in progress"
        );
        for _ in 0..LOOKS_AT_REST {
            assert_eq!(
                actors.look(1, 0, &tree(1, 0, mailbox(5, 4, 0))),
                Ok(()),
                "one may be in progress"
            );
        }
        let lost_too = MailboxSnapshot {
            accepted: 6,
            ..at_work
        };
        assert!(matches!(
            Actors::default().look(2, 0, &tree(1, 0, lost_too)),
            Err(Violation::MessageLost { messages: 2, .. })
        ));
        assert!(matches!(
            actors.look(2, 0, &tree(1, 0, mailbox(5, 4, 0))),
            Err(Violation::MessageLost {
                node: 1,
                messages: 1,
                ..
            })
        ));
        let mut actors = Actors::default();
        assert!(matches!(
            actors.look(0, 0, &tree(1, 0, mailbox(5, 2, 1))),
            Err(Violation::MessageLost { messages: 2, .. })
        ));
        assert!(matches!(
            actors.look(0, 0, &tree(1, 0, mailbox(90, 0, 90))),
            Err(Violation::QueueOverrun {
                depth: 90,
                capacity: 4,
                ..
            })
        ));
    }

    #[test]
    fn timers_end_with_their_incarnation() {
        let crossed = MailboxSnapshot {
            crossed: 1,
            capacity: 4,
            ..MailboxSnapshot::default()
        };
        let judged = Actors::default().look(0, 0, &tree(1, 1, crossed));
        let Err(Violation::IncarnationsCrossed { living, .. }) = judged else {
            panic!("{judged:?}");
        };
        assert_eq!(living, 2);
    }

    #[test]
    fn every_supervisor_of_the_wiring_has_children_that_count() {
        let count = |policy: &SupervisorPolicy| (policy.name, policy.children.len());
        let counted: Vec<(&str, usize)> = policies().iter().map(count).collect();
        assert_eq!(counted, [("storage", 1), ("chain", 4), ("network", 1)]);
        let storage = &policies()[0];
        assert_eq!(storage.children, ["storage"], "as in the trees below");
        assert_eq!(storage.intensity.restarts, 20, "as in the trees below");
    }

    #[test]
    fn restarts_with_a_sibling_do_not_count() {
        let network = |restarts: u64| {
            let calm = MailboxSnapshot::default;
            // The network fails behind its circuit breaker, and the peers restart with it.
            let service = actor("n/network/network", restarts, calm());
            let peers = Snapshot {
                failures: 0,
                ..actor("n/network/peers", restarts, calm())
            };
            let supervisor = Snapshot {
                mailbox: None,
                children: vec![service, peers],
                ..actor("n/network", 0, calm())
            };
            Snapshot {
                mailbox: None,
                children: vec![supervisor],
                ..actor("n", 0, calm())
            }
        };
        let mut actors = Actors::default();
        assert_eq!(actors.look(0, 0, &network(0)), Ok(()));
        assert_eq!(actors.look(1_000, 0, &network(30)), Ok(()));
    }

    #[test]
    fn a_supervisor_that_gives_up_has_one_failure_more() {
        let mut gave_up = tree(1, 21, MailboxSnapshot::default());
        gave_up.children[0].state = State::Crashed;
        let mut actors = Actors::default();
        let calm = tree(1, 0, MailboxSnapshot::default());
        assert_eq!(actors.look(0, 0, &calm), Ok(()));
        assert_eq!(actors.look(1_000, 0, &gave_up), Ok(()));
        let restarted = tree(2, 21, MailboxSnapshot::default());
        assert_eq!(actors.look(2_000, 0, &restarted), Ok(()));
    }

    #[test]
    fn supervisors_keep_to_their_policy() {
        let mut actors = Actors::default();
        let calm = MailboxSnapshot::default;
        assert_eq!(actors.look(0, 0, &tree(1, 0, calm())), Ok(()));
        assert_eq!(actors.look(1_000, 0, &tree(1, 20, calm())), Ok(()));
        assert!(matches!(
            actors.look(2_000, 0, &tree(1, 21, calm())),
            Err(Violation::RestartsBeyondPolicy {
                restarts: 21,
                limit: 20,
                ..
            })
        ));
        let mut actors = Actors::default();
        assert_eq!(actors.look(0, 0, &tree(1, 0, calm())), Ok(()));
        assert_eq!(actors.look(1_000, 0, &tree(1, 20, calm())), Ok(()));
        assert_eq!(
            actors.look(2_000, 0, &tree(2, 24, calm())),
            Ok(()),
            "its policy was used up"
        );
        // Three of the failures belong to the new incarnation; with 17 more its policy is used up,
        // and the last one makes it give up.
        assert_eq!(
            actors.look(3_000, 0, &tree(3, 42, calm())),
            Ok(()),
            "and that of the next one"
        );
        let mut actors = Actors::default();
        assert_eq!(actors.look(0, 0, &tree(1, 1, calm())), Ok(()));
        assert!(matches!(
            actors.look(2_000, 0, &tree(2, 2, calm())),
            Err(Violation::GaveUpEarly { .. })
        ));
    }

    #[test]
    fn a_restarted_supervisor_has_its_whole_policy_again() {
        let calm = MailboxSnapshot::default;
        let gave_up_once = || {
            let mut actors = Actors::default();
            for (at_ms, incarnation, restarts) in [(0, 1, 0), (1_000, 1, 20), (2_000, 2, 21)] {
                let looked = actors.look(at_ms, 0, &tree(incarnation, restarts, calm()));
                assert_eq!(looked, Ok(()));
            }
            actors
        };
        assert_eq!(
            gave_up_once().look(3_000, 0, &tree(2, 41, calm())),
            Ok(()),
            "it uses its policy up"
        );
        let mut actors = gave_up_once();
        assert_eq!(actors.look(3_000, 0, &tree(2, 22, calm())), Ok(()));
        assert!(matches!(
            actors.look(4_000, 0, &tree(3, 23, calm())),
            Err(Violation::GaveUpEarly { .. })
        ));
    }

    #[test]
    fn a_supervisor_that_gives_up_twice_at_once_used_two_policies() {
        let calm = MailboxSnapshot::default;
        let begun = || {
            let mut actors = Actors::default();
            assert_eq!(actors.look(0, 0, &tree(1, 0, calm())), Ok(()));
            assert_eq!(actors.look(1_000, 0, &tree(1, 20, calm())), Ok(()));
            actors
        };
        assert_eq!(begun().look(2_000, 0, &tree(3, 42, calm())), Ok(()));
        assert!(matches!(
            begun().look(2_000, 0, &tree(3, 22, calm())),
            Err(Violation::GaveUpEarly { .. })
        ));
    }
}
