//! The test of all kinds of faults: each begins, has its effect, and ends, in a world of idle
//! machines.
//!
//! Each subject has a table of [`Row`]s: a fault, and the differences that it makes to authority 2
//! while it is active. After its end the state is as before. Of two overlapping steps, the end of
//! the first leaves the second as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::disk::Dir;
use alys_runtime::io::AsyncReadExt;
use alys_runtime::net::{Listener, Stream};
use alys_runtime::sim::{NodeId, Options, World, run};
use alys_runtime::{select, signal, spawn, time};

use super::registry::SUBJECTS;
use super::settings::Setting;
use super::{Class, Fault, Faults, GossipRepeater, Reset, Setup, Step, Stop, lock};
use crate::cluster::{
    Authority, Living, Net, PEER_PORT, Seat, execution_faults, machine_ip, node_ip,
};
use crate::invariants::Judge;
use crate::params::{LinkPlan, MachineRole, NodeRef, Slots, When, WorldPlan};

/// A fault, and the differences that it makes.
pub struct Row {
    pub fault: Fault,
    /// Time in milliseconds after the beginning at which the differences are seen.
    seen_ms: u64,
    /// The differences while it is active.
    during: &'static [&'static str],
    /// The differences that stay after its end.
    after: &'static [&'static str],
    /// True if the step has an end, which undoes its effect.
    has_end: bool,
}

impl Row {
    /// A fault that lasts as long as its step.
    pub fn lasting(fault: impl Into<Fault>, during: &'static [&'static str]) -> Self {
        Self {
            fault: fault.into(),
            seen_ms: 900,
            during,
            after: &[],
            has_end: true,
        }
    }

    /// A fault that ends by itself.
    pub fn passing(fault: impl Into<Fault>, seen_ms: u64, during: &'static [&'static str]) -> Self {
        Self {
            seen_ms,
            has_end: false,
            ..Self::lasting(fault, during)
        }
    }

    /// Adds the differences that stay after the end.
    pub fn leaving(self, after: &'static [&'static str]) -> Self {
        Self { after, ..self }
    }
}

/// The index of the authority that the faults hit.
const HIT: u8 = 1;
/// The beginning of the first step in milliseconds, at the start of a slot.
const BEGIN_MS: u64 = 4_000;
const SLOT_MS: u64 = 2_000;
/// The duration of a step in milliseconds.
const LASTS_MS: u64 = 2_000;
/// Time in milliseconds after the end of all steps in which machines restart and reconnect.
const REST_MS: u64 = 4_000;

/// Remembers the repeated gossip and the lost classes.
#[derive(Default)]
struct Repeater(Mutex<Vec<u64>>, Mutex<Vec<(Class, bool)>>);

impl GossipRepeater for Repeater {
    fn duplicate(&self, ms: u64, on: bool) {
        let mut late = lock(&self.0);
        match late.iter().position(|known| *known == ms) {
            Some(at) if !on => drop(late.remove(at)),
            _ => late.push(ms),
        }
    }

    fn lose(&self, class: Class, repeats: bool, on: bool) {
        let mut lost = lock(&self.1);
        match lost.iter().position(|known| *known == (class, repeats)) {
            Some(at) if !on => drop(lost.remove(at)),
            _ if on => lost.push((class, repeats)),
            _ => {}
        }
    }

    fn heal(&self) {
        lock(&self.0).clear();
        lock(&self.1).clear();
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}

/// A world of idle machines with the state of the faults.
pub struct Testbed {
    world: World,
    pub faults: Faults,
    repeater: Arc<Repeater>,
    is_connected: Arc<AtomicBool>,
}

impl Testbed {
    fn new(world: World, steps: &[Step]) -> Self {
        let plan = WorldPlan {
            slot_ms: SLOT_MS,
            link: LinkPlan::PERFECT,
            ..WorldPlan::default()
        };
        let is_connected = Arc::new(AtomicBool::new(false));
        let authorities = (0..plan.nodes).map(|index| add(world, index, &is_connected));
        world.node("miner1", Net::Miners.ip(0), std::future::pending);
        let repeater = Arc::new(Repeater::default());
        let as_repeater: Arc<dyn GossipRepeater> = repeater.clone();
        let setup = Setup {
            plan: &plan,
            steps,
            authorities: authorities.collect(),
            repeaters: BTreeMap::from([(HIT, as_repeater)]),
            execution_faults: execution_faults(world, plan.nodes),
            governance: None,
            miners: 1,
            slots: Slots {
                start_ms: 0,
                slot_ms: SLOT_MS,
            },
            judge: Judge::new(&plan),
            living: Living::default(),
        };
        Self {
            world,
            faults: Faults::new(world, setup),
            repeater,
            is_connected,
        }
    }

    fn play(&self, steps: &[Step]) {
        for (number, step) in (1..).zip(steps) {
            spawn("step", self.faults.clone().play(number, step.clone()));
        }
    }

    /// The state of authority 2, of its links to authority 1, and of the reactions.
    fn state(&self) -> BTreeMap<String, String> {
        let authority = self.faults.authorities[usize::from(HIT)];
        let mut state = BTreeMap::new();
        for role in MachineRole::ALL {
            let machine = authority.machine(role);
            state.insert(self.world.name(machine), self.machine(machine));
        }
        let node = node_ip(HIT);
        for (name, peer) in [
            ("peer", node_ip(0)),
            ("execution", machine_ip(HIT, MachineRole::Execution)),
            ("miner", Net::Miners.ip(0)),
        ] {
            state.insert(format!("to {name}"), self.link(node, peer));
            state.insert(format!("from {name}"), self.link(peer, node));
        }
        let reactions = lock(&self.faults.reactions);
        let triggers = reactions.values().map(|one| format!("{:?}", one.trigger));
        state.insert(
            "reactions".to_owned(),
            triggers.collect::<Vec<_>>().join(", "),
        );
        let orders = lock(&self.faults.orders);
        let words: Vec<String> = orders.values().map(|one| one.words()).collect();
        state.insert("orders".to_owned(), words.join(", "));
        let repeated = format!("{:?}", lock(&self.repeater.0));
        state.insert("repeated".to_owned(), repeated);
        let lost = format!("{:?}", lock(&self.repeater.1));
        state.insert("lost".to_owned(), lost);
        let active = lock(&self.faults.active).len().to_string();
        state.insert("active".to_owned(), active);
        let is_connected =
            self.is_connected.load(Ordering::SeqCst) && self.world.is_up(authority.node);
        state.insert("connected".to_owned(), is_connected.to_string());
        state
    }

    /// The state of a machine: its process, its clock, and its remaining settings.
    fn machine(&self, machine: NodeId) -> String {
        /// Milliseconds to which an offset of a clock is rounded, above the effect of a drift.
        const RESOLUTION_MS: i64 = 100;
        let process = match (self.world.is_up(machine), self.world.is_paused(machine)) {
            (false, _) => "down",
            (true, true) => "paused",
            (true, false) => "up",
        };
        let mut words = vec![process.to_owned()];
        let wall_ms = self.world.wall_ms(machine).cast_signed();
        let ahead_ms = wall_ms - self.world.wall_ms(NodeId::WORLD).cast_signed();
        let ahead_ms = (ahead_ms + RESOLUTION_MS / 2).div_euclid(RESOLUTION_MS) * RESOLUTION_MS;
        if ahead_ms != 0 {
            words.push(format!("ahead {ahead_ms}"));
        }
        for setting in Setting::ALL {
            let left = self.faults.setting(machine, setting);
            let is_limit = matches!(setting, Setting::RoomToWrite | Setting::PowerLoss);
            if let Some(left) = left.filter(|left| is_limit || *left != 0) {
                words.push(format!("{setting:?} {left}"));
            }
        }
        let damage = self.world.disk_damage(machine);
        if damage.is_any() {
            words.push(format!("rotten {}", damage.rotten_bits));
        }
        words.join(", ")
    }

    fn link(&self, from: std::net::IpAddr, to: std::net::IpAddr) -> String {
        if self.world.is_blocked(from, to) {
            return "blocked".to_owned();
        }
        let link = self.world.link(from, to);
        let numbers = [
            ("latency", link.latency.as_millis() as u64),
            ("jitter", link.jitter.as_millis() as u64),
            (
                "tail",
                if link.tail_ppm > 0 {
                    link.tail.as_millis() as u64
                } else {
                    0
                },
            ),
            ("tail_ppm", link.tail_ppm.into()),
            ("loss_ppm", link.loss_ppm.into()),
            ("rate", link.bytes_per_second),
        ];
        let set = numbers.iter().filter(|(_, value)| *value > 0);
        let words = set.map(|(name, value)| format!("{name} {value}"));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Adds the machines of an authority. The process of authority 2 keeps a connection to that of
/// authority 1.
fn add(world: World, index: u8, is_connected: &Arc<AtomicBool>) -> Authority {
    let seat = Seat {
        index,
        is_twin: false,
    };
    let [node, execution] = [MachineRole::Node, MachineRole::Execution].map(|role| {
        let is_connected = is_connected.clone();
        let connects = index == HIT && role == MachineRole::Node;
        world.node(&seat.name(role), seat.ip(role), move || {
            let is_connected = is_connected.clone();
            async move {
                // Content for the faults of disks.
                let dir = Dir::open("/data").expect("the disk works");
                dir.write_atomic("file", &[0; 4096]).expect("there is room");
                select! {
                    _ = signal::shutdown() => {}
                    () = listen(index, role) => {}
                    () = keep_connected(&is_connected), if connects => {}
                }
            }
        })
    });
    Authority {
        index,
        node,
        execution,
    }
}

async fn listen(index: u8, role: MachineRole) {
    let addr = SocketAddr::new(machine_ip(index, role), PEER_PORT);
    let listener = Listener::bind(addr).await.expect("the port is free");
    let mut accepted = Vec::new();
    loop {
        accepted.push(listener.accept().await.expect("it listens"));
    }
}

async fn keep_connected(is_connected: &AtomicBool) {
    /// Time between the loss of a connection and the next one.
    const RETRY_MS: u64 = 500;
    loop {
        let addr = SocketAddr::new(node_ip(0), PEER_PORT);
        if let Ok(mut stream) = Stream::connect(addr).await {
            is_connected.store(true, Ordering::SeqCst);
            // Nothing is sent, so the read ends with the connection.
            let _ = stream.read_u8().await;
            is_connected.store(false, Ordering::SeqCst);
        }
        time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

/// The values that differ, as `name: value`.
fn differences(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let changed = now.iter().filter(|(name, value)| before[*name] != **value);
    changed
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

/// The differences to the state before the first step, at several moments.
fn observe(steps: Vec<Step>, moments_ms: Vec<u64>) -> Vec<Vec<String>> {
    run(Options::new(1), move |world| async move {
        let bed = Testbed::new(world, &steps);
        bed.play(&steps);
        time::sleep(Duration::from_millis(BEGIN_MS - 1)).await;
        let before = bed.state();
        let mut seen = Vec::new();
        for moment in moments_ms {
            let now = world.now().as_millis() as u64;
            time::sleep(Duration::from_millis(moment.saturating_sub(now))).await;
            seen.push(differences(&before, &bed.state()));
        }
        seen
    })
}

fn step(fault: &Fault, at_ms: u64) -> Step {
    Step {
        at: When::At(at_ms),
        for_ms: Some(LASTS_MS),
        nodes: vec![NodeRef::Number(HIT + 1)],
        fault: fault.clone(),
    }
}

/// All rows of all subjects.
fn rows() -> impl Iterator<Item = Row> {
    SUBJECTS.iter().flat_map(|subject| (subject.rows)())
}

/// Asserts that each fault made the expected differences at each moment.
fn check(seen: Vec<(String, Vec<Vec<String>>)>, expected: &[&[&[&str]]]) {
    let pairs = seen.iter().zip(expected);
    let wrong: Vec<_> = pairs
        .filter(|((_, seen), expected)| *seen != **expected)
        .collect();
    assert_eq!(seen.len(), expected.len());
    assert!(wrong.is_empty(), "seen and expected: {wrong:#?}");
}

#[test]
fn every_kind_begins_has_its_effect_and_ends() {
    let rows: Vec<Row> = rows().collect();
    let see = |row: &Row| {
        let moments = vec![BEGIN_MS + row.seen_ms, BEGIN_MS + LASTS_MS + REST_MS];
        let seen = observe(vec![step(&row.fault, BEGIN_MS)], moments);
        (row.fault.to_string(), seen)
    };
    let expected: Vec<[&[&str]; 2]> = rows.iter().map(|row| [row.during, row.after]).collect();
    let expected: Vec<&[&[&str]]> = expected.iter().map(|row| &row[..]).collect();
    check(rows.iter().map(see).collect(), &expected);
}

#[test]
fn the_end_of_the_first_of_two_steps_of_a_kind_leaves_the_second() {
    let rows: Vec<Row> = rows().filter(|row| row.has_end).collect();
    let see = |row: &Row| {
        let second_ms = BEGIN_MS + LASTS_MS / 2;
        let steps = vec![step(&row.fault, BEGIN_MS), step(&row.fault, second_ms)];
        let end_ms = second_ms + LASTS_MS;
        let moments = vec![BEGIN_MS + row.seen_ms, end_ms - 100, end_ms + REST_MS];
        (row.fault.to_string(), observe(steps, moments))
    };
    let expected: Vec<[&[&str]; 3]> = rows
        .iter()
        .map(|row| [row.during, row.during, row.after])
        .collect();
    let expected: Vec<&[&[&str]]> = expected.iter().map(|row| &row[..]).collect();
    check(rows.iter().map(see).collect(), &expected);
}

#[test]
fn every_kind_has_a_row() {
    for subject in SUBJECTS {
        let rows: Vec<&str> = (subject.rows)()
            .iter()
            .map(|row| row.fault.name())
            .collect();
        for kind in subject.kinds {
            assert!(rows.contains(&kind.name), "{} has no row", kind.name);
        }
    }
}

#[test]
fn a_process_that_restarted_at_once_is_not_stopping() {
    let mut stop = step(&Fault::from(Stop::of_node()), BEGIN_MS);
    // Shorter than the interval between two checks if the process has ended.
    stop.for_ms = Some(10);
    let steps = vec![stop];
    let is_stopping = run(Options::new(1), move |world| async move {
        let bed = Testbed::new(world, &steps);
        bed.play(&steps);
        time::sleep(Duration::from_millis(BEGIN_MS + REST_MS)).await;
        bed.faults.is_stopping(HIT)
    });
    assert!(!is_stopping);
}

/// The first numbers that each step of a plan draws, when the steps draw in turn.
fn drawn(steps: Vec<Step>) -> Vec<Vec<u64>> {
    /// Numbers of each step.
    const NUMBERS: usize = 3;
    run(Options::new(1), move |world| async move {
        let bed = Testbed::new(world, &steps);
        let numbered = (1..).zip(&steps);
        let streams = numbered.map(|(number, step)| bed.faults.draws(number, step));
        let streams: Vec<_> = streams.collect();
        let mut drawn = vec![Vec::new(); streams.len()];
        for _ in 0..NUMBERS {
            for (stream, drawn) in streams.iter().zip(&mut drawn) {
                drawn.push(stream.below(u64::MAX));
            }
        }
        drawn
    })
}

#[test]
fn a_step_draws_the_same_without_the_others() {
    let reset = Fault::from(Reset {});
    let stop = Fault::from(Stop::of_node());
    let all = vec![
        step(&reset, BEGIN_MS),
        step(&stop, BEGIN_MS),
        step(&stop, BEGIN_MS),
        step(&reset, BEGIN_MS + 1),
    ];
    let of_all = drawn(all.clone());
    for removed in [0, 3] {
        let mut steps = all.clone();
        steps.remove(removed);
        let mut expected = of_all.clone();
        expected.remove(removed);
        assert_eq!(drawn(steps), expected, "without step {removed}");
    }
    let without_one_of_the_equal = vec![all[0].clone(), all[1].clone(), all[3].clone()];
    let expected = [&of_all[0], &of_all[1], &of_all[3]];
    assert_eq!(
        drawn(without_one_of_the_equal).iter().collect::<Vec<_>>(),
        expected
    );
    assert_ne!(of_all[1], of_all[2], "equal steps draw different numbers");
}
