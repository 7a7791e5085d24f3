//! The rule holds in every state of the small worlds, and each mistake in it is detected.

use alys_model::check::{HEAD, check, check_broken};
use alys_model::world::NO_FORK;
use alys_model::worlds;

#[test]
fn the_rule_holds_in_every_state_of_the_small_worlds() {
    println!("{HEAD}");
    for world in worlds::small() {
        let report = check(&world);
        println!("{report}");
        assert!(
            report.is_good(),
            "{report}\n{:#?}\n{:#?}",
            report.held,
            report.counterexamples
        );
    }
}

#[test]
fn every_mistake_in_the_rule_is_detected() {
    for (name, world) in worlds::broken() {
        let report = check_broken(&world);
        let steps = report.steps_to(NO_FORK);
        println!("{name} in {}: {steps:?} steps to a fork", world.name);
        assert!(
            steps.is_some(),
            "{name} is not detected in {}: {:#?}",
            world.name,
            report.held
        );
    }
}
