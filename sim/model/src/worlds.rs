//! The worlds that tests and the command line explore.

use crate::rule::{Broken, Faults};
use crate::world::World;

/// Worlds that a test explores in seconds.
pub fn small() -> Vec<World> {
    use Faults::{Byzantine, Crash};
    vec![
        World::new("3 nodes that crash, 2 slots", 3, Crash, 2),
        World::new("3 nodes that crash, 2 slots, renamed", 3, Crash, 2).symmetric(),
        World::new(
            "3 nodes, 3 slots, loss and delay only, renamed",
            3,
            Crash,
            3,
        )
        .crashing(false)
        .symmetric(),
        World::new("4 nodes, one Byzantine, 2 slots", 4, Byzantine, 2),
        World::new("4 nodes, one Byzantine, 2 slots, renamed", 4, Byzantine, 2).symmetric(),
        World::new(
            "4 nodes, one Byzantine, the others crash, 2 slots, renamed",
            4,
            Byzantine,
            2,
        )
        .crashing(true)
        .symmetric(),
        World::calm("3 nodes, one silent, 4 calm slots", 3, Crash, 4),
        World::calm("4 nodes, one silent, 4 calm slots", 4, Byzantine, 4),
    ]
}

/// Worlds that take minutes.
pub fn big() -> Vec<World> {
    use Faults::{Byzantine, Crash};
    vec![
        World::new("3 nodes that crash, 3 slots, renamed", 3, Crash, 3).symmetric(),
        World::new("4 nodes, one Byzantine, 3 slots, renamed", 4, Byzantine, 3).symmetric(),
        World::new(
            "5 nodes, 2 slots, loss and delay only, renamed",
            5,
            Crash,
            2,
        )
        .crashing(false)
        .symmetric(),
        World::new("5 nodes that crash, 2 slots, renamed", 5, Crash, 2).symmetric(),
        World::new(
            "3 nodes, 4 slots, loss and delay only, renamed",
            3,
            Crash,
            4,
        )
        .crashing(false)
        .symmetric(),
        World::new("7 nodes, two Byzantine, 2 slots, renamed", 7, Byzantine, 2).symmetric(),
    ]
}

/// Broken rules, each in the smallest world that violates a property with it.
pub fn broken() -> Vec<(&'static str, World)> {
    let world = |broken: Broken| {
        let crash = World::new("3 nodes that crash, 2 slots", 3, Faults::Crash, 2);
        let byzantine = World::new("4 nodes, one Byzantine, 2 slots", 4, Faults::Byzantine, 2);
        match broken {
            Broken::ApproveIgnoresLock | Broken::ConfirmIgnoresApproval | Broken::QuorumOneLess => {
                vec![crash, byzantine]
            }
            // With a Byzantine node it takes 4.6 million states to approve old slots: see
            // `broken_big`.
            Broken::NothingKept | Broken::LockWrittenLate | Broken::ApproveOldSlots => vec![crash],
        }
    };
    let all = Broken::ALL.into_iter();
    all.flat_map(|(name, broken)| {
        world(broken)
            .into_iter()
            .map(move |world| (name, world.with(broken)))
    })
    .collect()
}

/// Broken rules in worlds of millions of states.
pub fn broken_big() -> Vec<(&'static str, World)> {
    let byzantine = World::new("4 nodes, one Byzantine, 2 slots", 4, Faults::Byzantine, 2);
    vec![("approve-old-slots", byzantine.with(Broken::ApproveOldSlots))]
}
