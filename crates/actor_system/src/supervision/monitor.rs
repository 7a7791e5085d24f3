//! Checks all actors once a second: measures their message rate and detects handlers that never
//! yield.
//!
//! The task of an actor cancels a handler that awaits for too long, see
//! [`ChildSpec::handle_timeout`](crate::ChildSpec::handle_timeout). It cannot cancel one that
//! computes without awaiting: the monitor first shows such an actor as unhealthy, then fails the
//! system, because only the end of the process stops the handler.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use alys_runtime::time;

use crate::{
    actor::{cell::Cell, error::Failure},
    supervision::tree::TreeState,
};

const PERIOD: Duration = Duration::from_secs(1);

/// Checks in the same poll after which an actor is shown as unhealthy.
const STUCK_AFTER: u64 = 10;

/// Checks in the same poll after which the system fails.
const HOPELESS_AFTER: u64 = 300;

/// The state of an actor at the last check.
struct Seen {
    handled: u64,
    turns: u64,
    /// Consecutive checks that found the actor in the same poll.
    stuck: u64,
}

pub(crate) async fn watch(root: Arc<Cell>, tree: Arc<TreeState>) {
    let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut ticks = time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let cells = root.family();
        let numbers: std::collections::BTreeSet<u64> =
            cells.iter().map(|cell| cell.number).collect();
        seen.retain(|number, _| numbers.contains(number));
        for cell in &cells {
            look(&root, &tree, cell, &mut seen);
        }
    }
}

fn look(root: &Cell, tree: &TreeState, cell: &Cell, seen: &mut BTreeMap<u64, Seen>) {
    let Some(stats) = cell.stats() else { return };
    let handled = stats.handled.load(Relaxed);
    let turns = cell.turns.load(Relaxed);
    let last = seen.entry(cell.number).or_insert(Seen {
        handled,
        turns,
        stuck: 0,
    });
    cell.handled_per_second
        .store(handled.saturating_sub(last.handled), Relaxed);
    last.stuck = if cell.is_busy.load(Relaxed) && turns == last.turns {
        last.stuck + 1
    } else {
        0
    };
    last.handled = handled;
    last.turns = turns;
    let after = PERIOD * u32::try_from(last.stuck).unwrap_or(u32::MAX);
    if last.stuck == 0 {
        cell.is_stuck.store(false, Relaxed);
    }
    if last.stuck == STUCK_AFTER {
        tracing::warn!(actor = %cell.path, ?after, "computes without end, or waits on a lock");
        cell.is_stuck.store(true, Relaxed);
    }
    if last.stuck == HOPELESS_AFTER {
        let failure = Failure::Unresponsive {
            actor: cell.path.to_string(),
            after,
        };
        tracing::error!(system = %root.path, reason = failure.chain(), "gave up");
        tree.fail(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actor::Health, actor::shared::Shared, mailbox::mailbox, mailbox::message::Message,
        mailbox::stats::Stats,
    };

    struct Nothing;

    impl Message for Nothing {
        fn kind(&self) -> &'static str {
            "nothing"
        }
    }

    /// A system of one actor, and the monitor's records.
    fn one() -> (
        Arc<Cell>,
        Arc<Cell>,
        crate::Slot<Nothing>,
        BTreeMap<u64, Seen>,
    ) {
        let root = Arc::new(Cell::root("system", Arc::<Shared>::default()));
        let (addr, slot) = mailbox::<Nothing>(4);
        let cell = Arc::new(Cell::actor("a", &root, None, addr.mailbox()));
        cell.advance(crate::State::Starting);
        cell.advance(crate::State::Running);
        (root, cell, slot, BTreeMap::new())
    }

    fn stats(cell: &Cell) -> &Arc<Stats> {
        cell.stats().expect("an actor has counters")
    }

    #[test]
    fn an_actor_in_the_same_turn_for_long_is_unhealthy_and_then_hopeless() {
        let (root, cell, _slot, mut seen) = one();
        let tree = TreeState::default();
        cell.is_busy.store(true, Relaxed);
        // The first check has no predecessor and counts as the first in the same poll.
        for _ in 1..STUCK_AFTER {
            look(&root, &tree, &cell, &mut seen);
            assert_eq!(cell.snapshot().health, Health::Healthy);
        }
        look(&root, &tree, &cell, &mut seen);
        assert_eq!(
            cell.snapshot().health,
            Health::Unhealthy("computes without end")
        );
        for _ in STUCK_AFTER..HOPELESS_AFTER {
            assert!(!tree.has_failed());
            look(&root, &tree, &cell, &mut seen);
        }
        assert!(tree.has_failed());
    }

    #[test]
    fn an_actor_that_comes_back_is_as_healthy_as_it_says() {
        let (root, cell, _slot, mut seen) = one();
        let tree = TreeState::default();
        cell.is_busy.store(true, Relaxed);
        (0..STUCK_AFTER).for_each(|_| look(&root, &tree, &cell, &mut seen));
        cell.set_health(Health::Degraded("slow"));
        assert_eq!(
            cell.snapshot().health,
            Health::Unhealthy("computes without end")
        );
        cell.turns.fetch_add(1, Relaxed);
        look(&root, &tree, &cell, &mut seen);
        assert_eq!(cell.snapshot().health, Health::Degraded("slow"));
    }

    #[test]
    fn an_actor_that_moves_on_or_waits_is_not_stuck() {
        let (root, cell, _slot, mut seen) = one();
        let tree = TreeState::default();
        for n in 0..2 * HOPELESS_AFTER {
            // Long polls that end before the limit, then an idle actor.
            cell.is_busy.store(n < HOPELESS_AFTER, Relaxed);
            if n % (STUCK_AFTER - 1) == 0 {
                cell.turns.fetch_add(1, Relaxed);
            }
            look(&root, &tree, &cell, &mut seen);
        }
        assert_eq!(cell.snapshot().health, Health::Healthy);
        assert!(!tree.has_failed());
    }

    #[test]
    fn handled_messages_are_counted_per_second() {
        let (root, cell, _slot, mut seen) = one();
        let tree = TreeState::default();
        for (handled, rate) in [(3, 0), (10, 7), (10, 0), (11, 1)] {
            stats(&cell).handled.store(handled, Relaxed);
            look(&root, &tree, &cell, &mut seen);
            assert_eq!(cell.handled_per_second.load(Relaxed), rate);
        }
        // A supervisor has no messages.
        look(&root, &tree, &root, &mut seen);
        assert_eq!(seen.len(), 1);
    }
}
