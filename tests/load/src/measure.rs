//! The measurement: a federation of processes, and each load in turn.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alys_tests::federation::{Federation, Setup, check_sound};
use alys_tests::process::{Stream, prefixed};
use alys_tests::{Process, World, ports};
use anyhow::{Context, Result};

use crate::loads::{Load, Made, Targets};
use crate::report::{Memory, Row, Table};

const SLOT_MS: u64 = 1000;
/// Final blocks before the first measurement: the handshakes and the first writes are over.
const WARM_UP_BLOCKS: u64 = 10;
/// For a start on a busy machine.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(120);
/// From the end of a load to the reading of memory and blocks. The allocator has returned the pages
/// of the load, and a late block has become final or never will.
const RECOVERY: Duration = Duration::from_secs(30);
/// Time for a load's process to start and to end.
const LOAD_SLACK: Duration = Duration::from_secs(15);
/// The priority of the processes that make the loads.
const NICENESS: &str = "10";

/// The longest duration of a measurement.
pub fn limit(loads: &[&Load], duration: Duration) -> Duration {
    let rows = 1 + loads.len() as u32;
    2 * WARM_UP_TIMEOUT + rows * (duration + RECOVERY + 2 * LOAD_SLACK)
}

/// Starts a federation of four and measures it without a load and then with each one, for
/// `duration` each. `own` is this program, which also makes the loads.
///
/// # Errors
/// When a validator does not start or dies, or a load cannot be made.
pub fn measure(world: &World, loads: &[&Load], duration: Duration, own: &Command) -> Result<Table> {
    let setup = Setup {
        slot_ms: SLOT_MS,
        ..Setup::default()
    };
    let federation = Federation::new(world, &setup)?;
    let mining = ports::free();
    let mining_addr = format!("127.0.0.1:{mining}");
    let nodes = (0..setup.members).map(|index| {
        let more = ["--mining-addr", &mining_addr];
        federation.start(world, index, if index == 0 { &more } else { &[] })
    });
    let nodes: Vec<Process> = nodes.collect::<Result<_>>()?;
    for node in &nodes {
        node.wait_final(world, WARM_UP_BLOCKS, WARM_UP_TIMEOUT)?;
    }
    let members = federation.members();
    let key_holder = members.last().context("a federation has members")?;
    let targets = Targets {
        rpc: members.iter().map(|member| member.http_port).collect(),
        peers: members.iter().map(|member| member.peer_port).collect(),
        mining,
        chain: federation.dir().to_owned(),
        datadir: key_holder.datadir.clone(),
        duration,
    };
    let mut table = Table::default();
    for load in [None].into_iter().chain(loads.iter().copied().map(Some)) {
        let name = load.map_or("none", |load| load.name);
        world.say(&format!("load: {name}"));
        let row = measure_one(world, &nodes, &targets, load, own)?;
        world.say(&format!("{row:?}"));
        table.rows.push(row);
    }
    for (node, member) in nodes.iter().zip(members) {
        if let Err(error) = check_sound(&member.name, node) {
            table.errors.push(error.to_string());
        }
    }
    Ok(table)
}

fn measure_one(
    world: &World,
    nodes: &[Process],
    targets: &Targets,
    load: Option<&Load>,
    own: &Command,
) -> Result<Row> {
    let mut memory = Vec::new();
    for node in nodes {
        node.reset_peak_memory()?;
        let before = node.memory()?.resident_kib;
        memory.push(Memory {
            before,
            ..Memory::default()
        });
    }
    let mut making = match load {
        Some(load) => Some(start(world, load, targets, own)?),
        None => None,
    };
    let slots = wait_slots(targets.duration)?;
    let made = match &mut making {
        Some(making) => finish(world, making)?,
        None => Made::default(),
    };
    for (node, memory) in nodes.iter().zip(&mut memory) {
        memory.peak = node.memory()?.peak_kib;
    }
    thread::sleep(RECOVERY);
    for (node, memory) in nodes.iter().zip(&mut memory) {
        memory.after = node.memory()?.resident_kib;
    }
    Ok(Row {
        name: load.map_or("none", |load| load.name).to_owned(),
        unit: load.map_or("", |load| load.unit).to_owned(),
        wanted: load.map_or(0, |load| load.wanted.within(targets.duration)),
        made: made.made,
        refused: made.refused,
        answers: made.answers,
        slots: slots.end - slots.start,
        blocks: final_slots(nodes, &slots),
        memory,
    })
}

/// Starts the process that makes a load.
fn start(world: &World, load: &Load, targets: &Targets, own: &Command) -> Result<Process> {
    let mut command = prefixed(own, &["nice", "-n", NICENESS]);
    command.args([load.name, "--make", &targets.to_argument()]);
    Process::start(world, load.name, &command)
}

/// Waits for the end of a load.
fn finish(world: &World, process: &mut Process) -> Result<Made> {
    let status = process.wait_end(world, LOAD_SLACK)?;
    let text = process.text(Stream::Out);
    let line = text.lines().last().unwrap_or_default();
    Made::parse(line).with_context(|| format!("the process of the load ended with {status}"))
}

/// Waits until the whole slots of `duration` have passed, and returns them.
fn wait_slots(duration: Duration) -> Result<Range<u64>> {
    let now_ms = || -> Result<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(u64::try_from(now.as_millis())?)
    };
    // Slots are counted from the Unix epoch.
    let start = now_ms()? / SLOT_MS + 1;
    let slots = start..start + u64::try_from(duration.as_millis())? / SLOT_MS;
    let left_ms = (slots.end * SLOT_MS).saturating_sub(now_ms()?);
    thread::sleep(Duration::from_millis(left_ms));
    Ok(slots)
}

/// The slots whose blocks any validator reports as final.
fn final_slots(nodes: &[Process], slots: &Range<u64>) -> u64 {
    let mut found = BTreeSet::new();
    for node in nodes {
        node.written(|written| {
            let finals = written.finals.iter().map(|(_, block)| block.slot);
            found.extend(finals.filter(|slot| slots.contains(slot)));
        });
    }
    found.len() as u64
}
