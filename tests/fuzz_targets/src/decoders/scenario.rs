//! Scenario files of the simulator.

use alys_sim::plan::format::{parse, to_toml};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(mut scenario) = parse("fuzzed.toml", text) else {
        return;
    };
    if scenario.swarm.is_some() {
        // Only plans are written, and these steps may be incomplete without the swarm's drawings.
        return;
    }
    // A written file has no name of its own.
    scenario.plan.name = "fuzzed".to_owned();
    let written = to_toml(&scenario.plan);
    let again = parse("fuzzed.toml", &written);
    let again = again.unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(again.plan, scenario.plan, "{written}");
}
