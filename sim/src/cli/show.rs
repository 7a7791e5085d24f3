//! The commands that print information without running a seed: `list` and `describe`.

use schemars::JsonSchema;
use serde_json::json;

use super::{DescribeArgs, ListArgs, PASSED};
use crate::faults::{Actor, Machine, Vote, Way};
use crate::fleet::rules;
use crate::invariants;
use crate::params::{Behaviour, Conduct, FaultModelWord, Ms, Stranger};
use crate::plan::Expect;
use crate::plan::format;
use crate::plan::mutants::{self, Origin, Planted};
use crate::run::recovery;

/// Width of the guide, in columns.
const WIDTH: usize = 100;
/// Column of the comments in the guide's example.
const COMMENTS: usize = 34;

/// Formats a text as a paragraph of the guide.
fn paragraph(text: &str) -> String {
    format::lines(text, WIDTH).join("\n")
}

/// Formats a text as a comment of the guide's example that may have several lines.
fn comment(text: &str) -> String {
    let lines = format::lines(text, WIDTH - COMMENTS - 2);
    format!("# {}", lines.join(&format!("\n{}# ", " ".repeat(COMMENTS))))
}

/// Formats words as `a, b or c`.
fn choice(words: &[String]) -> String {
    match words {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.join(", "),
    }
}

/// The words of an enum of scenario files, formatted as `a, b or c`.
fn choice_of<T: JsonSchema>() -> String {
    choice(&format::words::<T>())
}

/// The guide to scenario files. Lists of words come from the enums of the format.
fn guide() -> String {
    let fault_model = comment(&choice_of::<FaultModelWord>());
    let conducts = comment(&format!(
        "{}; all except twins are the real node with changed messages",
        choice_of::<Conduct>()
    ));
    let strangers = comment(&format!(
        "{}; votes needs a forger",
        choice_of::<Stranger>()
    ));
    let behaviours = comment(&format!(
        "{}; a repeated one is more frequent",
        format::words::<Behaviour>().join(", ")
    ));
    let values = paragraph(&format!(
        "Faults and their values; values in brackets are optional. machine is {}; way is {}; vote \
         is {}; down is the time for which a killed process stays down. An actor is {} (drawn). It \
         fails at its next message, or with spread = \"3s\" at a message up to 3 s later; the node \
         must then recover.",
        choice_of::<Machine>(),
        choice_of::<Way>(),
        choice_of::<Vote>(),
        choice_of::<Actor>(),
    ));
    let faults = format::guide_of_faults();
    let invariants = paragraph(&format!(
        "Invariants: {}. A run that exceeds its time on this machine is a timeout.",
        invariants::names().collect::<Vec<_>>().join(", ")
    ));
    format!(
        "\
A scenario is a TOML file:

    why = \"Purpose of the scenario.\"
    covers = [\"3.4\", \"S28\"]      # rules of the protocol (section.rule), failures of V1
    seed = 7                      # optional: default seed of `cargo sim run`
    mutant = \"quorum-off-by-one\" # optional: planted bug that `cargo sim run` enables
    until = \"40s\"                 # end of the chaos: faults heal, and blocks must become final

    [world]                       # all optional
    nodes = 4                     # authorities, each with an execution client on its own machine
    governance = true             # governance can change the federation
    candidates = 1                # the last nodes, which are not in the first federation
    fault_model = \"byzantine\"     {fault_model}
    slot = \"1s\"
    drift = \"250ms\"               # largest difference between clocks
    forger = 3                    # a thief has this authority's key and forges certificates
    light_client = true           # a light client follows the chain by its headers
    greedy_peers = true           # peers request more than nodes serve
    silent_peers = true           # peers claim to have blocks and answer no request
    strangers = [\"idle\"]          {strangers}
    unlisted = [3]                # authorities whose address the others do not have
    crowd = 6                     # strangers that take the places for strangers
    places = 2                    # places for strangers at each node (50)
    queued_events = 4             # events that wait between network and node (1,024)
    publish_again = \"50ms\"        # each message is published a second time, within this time
    mailboxes = {{ chain = 32 }}    # capacities of mailboxes by actor, smaller than in production
    limits = {{ uncertified = 4 }}  # uncertified blocks, bytes of a range, pending bytes of a port
    tcp_timeout = \"3s\"           # timeout of connections (20s to connect, 30s to send)
    byzantine = [{{ node = 2, conduct = \"twins\" }}]
                                  {conducts}
    first_starts = [{{ node = 2, operation = 35 }}]
                                  # a node loses power at this disk operation of its first start,
                                  # or with fails = true the operation fails
    left_dead = [4]               # nodes that stay down after the chaos; with forger and byzantine
                                  # at most the faulty nodes that the fault model tolerates
    rejoin_margin = 1800          # slots without votes after a node lost its vote state
    buggify = true                # nodes and execution clients often take rare valid paths

    [links]                       # latency, jitter, tail, tail_ppm, loss_ppm, kbytes_per_s
    [workload]                    # users, watchers, loyal, burst, pause, pool, block_gas, data
    behaviours = [\"transfer\"]     {behaviours}
    [expect]
    min_final = 10                # final blocks on every node when the chaos ends (0)
    progress = 3                  # further final blocks on every node after the chaos (3),
    within = \"60s\"                # within this time (three rounds of leaders and 20 s)
    losses = 1                    # losses of vote state that nodes detected in the chaos (0)
    changes = 1                   # changes of the federation in force when the chaos ends (0)
    void = 0                      # changes that are void when the chaos ends, exactly (any number)
    checks = 40                   # signature checks of a node for each slot, at most (no limit)
    [swarm]                       # least, most, kinds, draw_world: faults drawn from the seed

    [[step]]
    at = \"12s\"                    # or \"slot 7 + 300ms\"; slot 1 is the first after the start
    for = \"3s\"                    # without it, until the end of the chaos
    nodes = [\"leader\", 2]         # numbers from 1, leader, leader+1, any (drawn), all, others
    fault = \"kill\"
    power = true

{values}

{faults}

{invariants}"
    )
}

/// Prints the rules with the scenarios that cover them.
fn list_rules() -> anyhow::Result<u8> {
    let covered = rules::covered()?;
    for rule in rules::RULES {
        println!("{:<5} {}", rule.id, rule.sentence);
        match (covered.get(rule.id), rule.uncovered) {
            (Some(names), _) => println!("      {}", names.join(", ")),
            (None, Some(reason)) => println!("      NOT COVERED: {reason}"),
            (None, None) => println!("      NOT COVERED"),
        }
    }
    Ok(PASSED)
}

/// Prints the planted bugs in order of the table, or as JSON.
fn list_mutants(as_json: bool) -> anyhow::Result<u8> {
    if as_json {
        let all: Vec<_> = mutants::ALL
            .iter()
            .map(|planted| {
                json!({
                    "name": planted.name,
                    "area": planted.area,
                    "broken": planted.broken,
                    "scenario": planted.scenario,
                    "found_by": planted.found_by,
                    "origin": planted.origin,
                    "argument": planted.argument,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(PASSED);
    }
    for origin in Origin::ALL {
        let of_origin = mutants::ALL
            .iter()
            .filter(|planted| planted.origin == origin);
        let count = of_origin.clone().count();
        println!("{}: {count}", origin.title());
        of_origin.for_each(show_mutant);
    }
    Ok(PASSED)
}

fn show_mutant(planted: &Planted) {
    let Planted {
        name,
        area,
        broken,
        found_by,
        scenario,
        origin: _,
        argument,
    } = planted;
    println!("{name:<28} {area}: {broken}");
    if found_by.is_empty() {
        println!("{:<28} in {scenario}; nothing finds it: {argument}", "");
    } else {
        let found_by = found_by.join(" or ");
        println!("{:<28} in {scenario}; must be found by {found_by}", "");
    }
}

pub fn list(args: &ListArgs) -> anyhow::Result<u8> {
    if args.mutants {
        return list_mutants(args.json);
    }
    if args.rules {
        return list_rules();
    }
    let scenarios = format::list()?.into_keys().map(|name| format::load(&name));
    let scenarios = scenarios.collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let all: Vec<serde_json::Value> = scenarios
            .iter()
            .map(|scenario| {
                json!({
                    "name": scenario.plan.name,
                    "file": scenario.path,
                    "why": scenario.plan.why,
                    "covers": scenario.plan.covers,
                    "is_drawn": scenario.swarm.is_some(),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(PASSED);
    }
    for scenario in scenarios {
        println!("{:<28} {}", scenario.plan.name, scenario.plan.why);
        if !scenario.plan.covers.is_empty() {
            println!("{:<28} covers {}", "", scenario.plan.covers.join(", "));
        }
    }
    Ok(PASSED)
}

pub fn describe(args: &DescribeArgs) -> anyhow::Result<u8> {
    if args.schema {
        print!("{}", format::schema());
        return Ok(PASSED);
    }
    let Some(name) = &args.scenario else {
        println!("{}", guide());
        return Ok(PASSED);
    };
    let scenario = format::load(name)?;
    let plan = scenario.plan(scenario.seed(args.seed));
    if args.toml {
        print!("{}", format::to_toml(&plan));
        return Ok(PASSED);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(PASSED);
    }
    let world = &plan.world;
    println!("{}: {}", plan.name, plan.why);
    println!(
        "{} nodes ({:?}, quorum {}), slots of {} ms, clocks within {} ms, chaos until {} ms",
        world.nodes,
        world.fault_model,
        world.quorum(),
        world.slot_ms,
        world.drift_ms,
        plan.until_ms
    );
    println!("links {:?}", world.link);
    println!("{:?}", plan.workload);
    if world.governance {
        let first = world.authorities();
        println!("governance can change the federation, at first the nodes 1 to {first}");
    }
    if let Some(forger) = world.forger {
        println!("a thief has the key of node {forger}");
    }
    if world.light_client {
        println!("a light client follows the chain");
    }
    if world.greedy_peers {
        println!("peers request more than nodes serve");
    }
    if world.silent_peers {
        println!("peers claim to have blocks and answer no request");
    }
    for stranger in &world.strangers {
        println!("a stranger attacks: {stranger:?}");
    }
    if !world.unlisted.is_empty() {
        println!(
            "addresses that the others do not have: {:?}",
            world.unlisted
        );
    }
    if world.crowd > 0 {
        println!("{} strangers take places", world.crowd);
    }
    if let Some(places) = world.places {
        println!("each node has {places} places for strangers");
    }
    if let Some(events) = world.queued_events {
        println!("each network service queues {events} events");
    }
    if let Some(Ms(ms)) = world.publish_again {
        println!("each message is published again within {ms} ms");
    }
    if let Some(Ms(ms)) = world.tcp_timeout {
        println!("connections time out after {ms} ms");
    }
    for one in &world.byzantine {
        println!("node {} is Byzantine: {:?}", one.node, one.conduct);
    }
    for (actor, messages) in &world.mailboxes {
        println!("the mailbox of {actor} has room for {messages} messages");
    }
    let limits = [
        ("uncertified blocks", world.limits.uncertified),
        ("bytes of an answer with blocks", world.limits.range),
        ("pending bytes of a public port", world.limits.pending),
    ];
    for (what, limit) in limits {
        if let Some(limit) = limit {
            println!("the limit of {what} is {limit}");
        }
    }
    for first in &world.first_starts {
        let what = if first.fails {
            "fails"
        } else {
            "cuts the power"
        };
        let (node, operation) = (first.node, first.operation);
        println!("disk operation {operation} of the first start of node {node} {what}");
    }
    if !world.left_dead.is_empty() {
        println!("nodes that stay down: {:?}", world.left_dead);
    }
    let Expect {
        min_final,
        progress,
        losses,
        changes,
        void,
        ranges,
        checks,
        within: _,
    } = plan.expect;
    let within_ms = recovery::within_ms(&plan);
    println!(
        "expected: {min_final} final blocks on every healthy node when the chaos ends, \
         then {progress} more within {within_ms} ms"
    );
    if losses > 0 {
        println!("expected: nodes detect {losses} losses of their vote state");
    }
    if changes > 0 {
        println!("expected: {changes} changes of the federation take effect");
    }
    if let Some(void) = void {
        println!("expected: {void} changes of the federation are void");
    }
    if ranges > 0 {
        println!("expected: {ranges} ranges are final by proof of work");
    }
    if let Some(checks) = checks {
        println!("expected: {checks} signature checks of a node for each slot at most");
    }
    for step in &plan.steps {
        println!("    {step}");
    }
    Ok(PASSED)
}
