//! Scenario files: plans written by hand, in TOML. What is wrong in one is told with line, column and the nearest known word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alys_types::FaultModel;
use alys_types::limits::MAX_GAS_LIMIT;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::plan::{
    Actor, Expect, Fault, Harm, LinkPlan, MAX_NODES, MAX_STEPS, Machine, NodeRef, Plan, Step, Strike, Vote,
    Way, When, WorkloadPlan, WorldPlan, parse_duration,
};
use crate::swarm::{self, Swarm};
use crate::workload::Behaviour;

/// A scenario: a plan, or a plan and the swarm that adds to it by the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Where it was read.
    pub path: PathBuf,
    /// As written.
    pub plan: Plan,
    /// What is drawn besides.
    pub swarm: Option<Swarm>,
}

impl Scenario {
    /// The plan for a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        match &self.swarm {
            Some(swarm) => swarm::draw(&self.plan, swarm, seed),
            None => self.plan.clone(),
        }
    }
}

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Unreadable { file: String, reason: String },
    /// There is no such scenario.
    #[error("no scenario {name:?}; there are {known}{}", advice(.meant))]
    Unknown { name: String, known: String, meant: Option<String> },
    /// A word or a value is wrong.
    #[error("{file}:{line}:{column}: {message}{}", advice(.meant))]
    Wrong { file: String, line: usize, column: usize, message: String, meant: Option<String> },
}

fn advice(meant: &Option<String>) -> String {
    meant.as_ref().map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

/// The directory of the scenario files.
pub fn directory() -> PathBuf {
    let here = Path::new("scenarios");
    if here.is_dir() { here.to_owned() } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios") }
}

/// The scenario files, by name: those of the directory, and those of its areas, one below.
///
/// # Errors
/// [`ScenarioError::Unreadable`].
pub fn list() -> Result<BTreeMap<String, PathBuf>, ScenarioError> {
    let dir = directory();
    let unreadable = |e: std::io::Error| ScenarioError::Unreadable {
        file: dir.display().to_string(),
        reason: e.to_string(),
    };
    let read = |dir: &Path| -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut paths = read(&dir).map_err(unreadable)?;
    for area in paths.clone().iter().filter(|path| path.is_dir()) {
        paths.extend(read(area).map_err(unreadable)?);
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    Ok(paths.into_iter().map(|path| (stem(&path), path)).collect())
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads a scenario, given by its file or its name.
///
/// # Errors
/// See [`ScenarioError`].
pub fn load(name: &str) -> Result<Scenario, ScenarioError> {
    let given = PathBuf::from(name);
    let path = if given.extension().is_some() {
        given
    } else {
        let files = list()?;
        match files.get(name) {
            Some(path) => path.clone(),
            None => {
                let meant = nearest(name, files.keys().map(String::as_str));
                let known = files.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(ScenarioError::Unknown { name: name.to_owned(), known, meant });
            }
        }
    };
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .map_err(|e| ScenarioError::Unreadable { file: file.clone(), reason: e.to_string() })?;
    parse(&file, &text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    why: Spanned<String>,
    #[serde(default)]
    covers: Vec<String>,
    until: Spanned<Duration>,
    #[serde(default)]
    world: RawWorld,
    #[serde(default)]
    links: RawLinks,
    #[serde(default)]
    workload: RawWorkload,
    #[serde(default)]
    expect: RawExpect,
    swarm: Option<Swarm>,
    #[serde(default)]
    step: Vec<Spanned<RawStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWorld {
    nodes: Spanned<u8>,
    fault_model: FaultModel,
    slot: Spanned<Duration>,
    drift: Option<Spanned<Duration>>,
    forger: Option<Spanned<u8>>,
    left_dead: Spanned<Vec<u8>>,
}

impl Default for RawWorld {
    fn default() -> Self {
        Self {
            nodes: Spanned::new(0..0, 4),
            fault_model: FaultModel::Byzantine,
            slot: Spanned::new(0..0, Duration(1_000)),
            drift: None,
            forger: None,
            left_dead: Spanned::new(0..0, Vec::new()),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLinks {
    latency: Option<Duration>,
    jitter: Option<Duration>,
    loss_ppm: Option<u32>,
    kbytes_per_s: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawWorkload {
    users: Option<Spanned<u8>>,
    burst: Option<u8>,
    pause: Option<Duration>,
    behaviours: Option<Spanned<Vec<Behaviour>>>,
    pool: Option<Spanned<usize>>,
    block_gas: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    min_final: Option<u64>,
    progress: Option<u64>,
    within: Option<Duration>,
}

/// Pools that users of all behaviours get along with.
const POOL: std::ops::RangeInclusive<usize> = 16..=10_240;
/// The least gas limit of blocks: room for the largest transaction of the workload.
const LEAST_BLOCK_GAS: u64 = 2_000_000;
/// Messages of an actor that one step may hit.
const MAX_STRUCK: u32 = 1_000;

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Partition,
    SlowLinks,
    Reset,
    Kill,
    Stop,
    Pause,
    Clock,
    Drift,
    SlowDisk,
    FailSyncs,
    PowerAtOperation,
    SlowClient,
    CutClient,
    HoldVotes,
    KillOnVote,
    KillAllOnVotes,
    ActorPanic,
    ActorFail,
    ActorHang,
    ActorSlow,
    ActorLoseReply,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at: Text<When>,
    #[serde(rename = "for")]
    lasts: Option<Duration>,
    #[serde(default)]
    nodes: Vec<Text<NodeRef>>,
    fault: Kind,
    way: Option<Way>,
    held: Option<bool>,
    machine: Option<Machine>,
    power: Option<bool>,
    by: Option<Signed>,
    ppm: Option<i64>,
    delay: Option<Duration>,
    jitter: Option<Duration>,
    loss_ppm: Option<u32>,
    kbytes_per_s: Option<u64>,
    count: Option<u32>,
    operation: Option<u64>,
    vote: Option<Vote>,
    down: Option<Duration>,
    actor: Option<Actor>,
    spread: Option<Duration>,
}

/// Milliseconds, written with a unit.
#[derive(Debug, Clone, Copy)]
struct Duration(u64);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Milliseconds, perhaps negative, written with a unit.
#[derive(Debug, Clone, Copy)]
struct Signed(i64);

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.as_str()),
        };
        let ms = parse_duration(rest).map_err(serde::de::Error::custom)?;
        i64::try_from(ms).map(|ms| Self(sign * ms)).map_err(serde::de::Error::custom)
    }
}

/// A value that is written as a text, or as a plain number.
struct Text<T>(T);

impl<'de, T: std::str::FromStr<Err = crate::plan::WordError>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Text(text) => text,
            Either::Number(number) => number.to_string(),
        };
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// Reads a scenario; `file` is for messages, and gives the name.
///
/// # Errors
/// [`ScenarioError::Wrong`].
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let wrong = |at: usize, message: String| {
        let before = &text[..at.min(text.len())];
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
        let meant = meant(&message);
        ScenarioError::Wrong { file: file.to_owned(), line, column, message, meant }
    };
    let raw: RawScenario = toml::from_str(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        wrong(error.span().map_or(0, |span| span.start), message)
    })?;
    if raw.why.get_ref().trim().is_empty() {
        return Err(wrong(
            raw.why.span().start,
            "`why` says what the scenario is for; it is empty".to_owned(),
        ));
    }
    let world = world(&raw, &wrong)?;
    let workload = workload(&raw.workload, &wrong)?;
    let expect = Expect::default();
    let expect = Expect {
        min_final: raw.expect.min_final.unwrap_or(expect.min_final),
        progress: raw.expect.progress.unwrap_or(expect.progress),
        within_ms: raw.expect.within.map_or(expect.within_ms, |within| within.0),
    };
    if raw.step.len() > MAX_STEPS {
        return Err(wrong(raw.step[MAX_STEPS].span().start, format!("more than {MAX_STEPS} steps")));
    }
    let mut steps = Vec::new();
    for step in raw.step {
        let at = step.span().start;
        steps.push(self::step(step.into_inner(), &world).map_err(|message| wrong(at, message))?);
    }
    if let Some(swarm) = &raw.swarm
        && let Err(message) = swarm.check()
    {
        let at = text.find("[swarm]").unwrap_or(0);
        return Err(wrong(at, message));
    }
    let plan = Plan {
        name: stem(Path::new(file)),
        why: raw.why.into_inner().split_whitespace().collect::<Vec<_>>().join(" "),
        covers: raw.covers,
        world,
        workload,
        steps,
        until_ms: raw.until.get_ref().0,
        expect,
    };
    Ok(Scenario { path: PathBuf::from(file), plan, swarm: raw.swarm })
}

type Wrong<'a> = dyn Fn(usize, String) -> ScenarioError + 'a;

fn world(raw: &RawScenario, wrong: &Wrong<'_>) -> Result<WorldPlan, ScenarioError> {
    let RawWorld { nodes, fault_model, slot, drift, forger, left_dead } = &raw.world;
    let count = *nodes.get_ref();
    if !(1..=MAX_NODES).contains(&count) {
        return Err(wrong(nodes.span().start, format!("nodes: from 1 to {MAX_NODES}, found {count}")));
    }
    let slot_ms = slot.get_ref().0;
    if slot_ms < 1_000 {
        return Err(wrong(slot.span().start, format!("slot: at least 1s, found {slot_ms}ms")));
    }
    let drift_ms = drift.as_ref().map_or((slot_ms / 4).min(500), |drift| drift.get_ref().0);
    if let Some(drift) = drift
        && drift_ms >= slot_ms
    {
        return Err(wrong(
            drift.span().start,
            format!("drift: below the slot of {slot_ms}ms, found {drift_ms}ms"),
        ));
    }
    let links = LinkPlan::default();
    let world = WorldPlan {
        nodes: count,
        fault_model: *fault_model,
        slot_ms,
        drift_ms,
        link: LinkPlan {
            latency_ms: raw.links.latency.map_or(links.latency_ms, |d| d.0),
            jitter_ms: raw.links.jitter.map_or(links.jitter_ms, |d| d.0),
            loss_ppm: raw.links.loss_ppm.unwrap_or(links.loss_ppm),
            kbytes_per_s: raw.links.kbytes_per_s.unwrap_or(links.kbytes_per_s),
        },
        forger: forger.as_ref().map(|forger| *forger.get_ref()),
        left_dead: left_dead.get_ref().clone(),
    };
    if let Some(forger) = forger
        && (!(1..=count).contains(forger.get_ref()) || world.fault_model != FaultModel::Byzantine)
    {
        let message = format!("forger: an authority from 1 to {count}, of a byzantine federation");
        return Err(wrong(forger.span().start, message));
    }
    let dead = left_dead.get_ref();
    if dead.len() > world.tolerated() || dead.iter().any(|node| !(1..=count).contains(node)) {
        let message =
            format!("left_dead: at most {} of the {count} nodes, else nothing can go on", world.tolerated());
        return Err(wrong(left_dead.span().start, message));
    }
    Ok(world)
}

fn workload(raw: &RawWorkload, wrong: &Wrong<'_>) -> Result<WorkloadPlan, ScenarioError> {
    const MAX_USERS: u8 = 32;
    let plan = WorkloadPlan::default();
    if let Some(users) = &raw.users
        && *users.get_ref() > MAX_USERS
    {
        return Err(wrong(users.span().start, format!("users: at most {MAX_USERS}")));
    }
    if let Some(behaviours) = &raw.behaviours
        && behaviours.get_ref().is_empty()
    {
        let message = "behaviours: at least one; for no workload set users = 0".to_owned();
        return Err(wrong(behaviours.span().start, message));
    }
    if let Some(pool) = &raw.pool
        && !POOL.contains(pool.get_ref())
    {
        let message = format!("pool: from {} to {} transactions", POOL.start(), POOL.end());
        return Err(wrong(pool.span().start, message));
    }
    if let Some(gas) = &raw.block_gas
        && !(LEAST_BLOCK_GAS..=MAX_GAS_LIMIT).contains(gas.get_ref())
    {
        let message = format!("block_gas: from {LEAST_BLOCK_GAS} to {MAX_GAS_LIMIT}");
        return Err(wrong(gas.span().start, message));
    }
    Ok(WorkloadPlan {
        users: raw.users.as_ref().map_or(plan.users, |users| *users.get_ref()),
        burst: raw.burst.unwrap_or(plan.burst),
        pause_ms: raw.pause.map_or(plan.pause_ms, |pause| pause.0),
        behaviours: raw.behaviours.as_ref().map_or(plan.behaviours, |words| words.get_ref().clone()),
        pool: raw.pool.as_ref().map_or(plan.pool, |pool| *pool.get_ref()),
        block_gas: raw.block_gas.as_ref().map_or(plan.block_gas, |gas| *gas.get_ref()),
    })
}

fn step(raw: RawStep, world: &WorldPlan) -> Result<Step, String> {
    let words = [
        ("way", raw.way.is_some()),
        ("held", raw.held.is_some()),
        ("machine", raw.machine.is_some()),
        ("power", raw.power.is_some()),
        ("by", raw.by.is_some()),
        ("ppm", raw.ppm.is_some()),
        ("delay", raw.delay.is_some()),
        ("jitter", raw.jitter.is_some()),
        ("loss_ppm", raw.loss_ppm.is_some()),
        ("kbytes_per_s", raw.kbytes_per_s.is_some()),
        ("count", raw.count.is_some()),
        ("operation", raw.operation.is_some()),
        ("vote", raw.vote.is_some()),
        ("down", raw.down.is_some()),
        ("actor", raw.actor.is_some()),
        ("spread", raw.spread.is_some()),
    ];
    let machine = raw.machine.unwrap_or(Machine::Node);
    let power = raw.power.unwrap_or(false);
    let need = |word: &str| format!("this fault needs `{word}`");
    let delay = || raw.delay.map(|d| d.0).ok_or_else(|| need("delay"));
    let vote = || raw.vote.ok_or_else(|| need("vote"));
    let down_ms = raw.down.map_or(500, |down| down.0);
    let strike = |harm, count| {
        let actor = raw.actor.ok_or_else(|| need("actor"))?;
        let spread_ms = raw.spread.map_or(0, |spread| spread.0);
        Ok::<_, String>(Fault::Actor(Strike { actor, harm, count, spread_ms }))
    };
    let many = || match raw.count.unwrap_or(1) {
        count @ 1..=MAX_STRUCK => Ok(count),
        count => Err(format!("count: from 1 to {MAX_STRUCK} messages, found {count}")),
    };
    let (fault, takes): (Fault, &[&str]) = match raw.fault {
        Kind::Partition => {
            let (way, held) = (raw.way.unwrap_or(Way::Both), raw.held.unwrap_or(false));
            (Fault::Partition { way, held }, &["way", "held"])
        }
        Kind::SlowLinks => {
            let links = LinkPlan {
                latency_ms: delay()?,
                jitter_ms: raw.jitter.map_or(0, |d| d.0),
                loss_ppm: raw.loss_ppm.unwrap_or(0),
                kbytes_per_s: raw.kbytes_per_s.unwrap_or(world.link.kbytes_per_s),
            };
            (Fault::SlowLinks(links), &["delay", "jitter", "loss_ppm", "kbytes_per_s"])
        }
        Kind::Reset => (Fault::Reset, &[]),
        Kind::Kill => (Fault::Kill { machine, power }, &["machine", "power"]),
        Kind::Stop => (Fault::Stop, &[]),
        Kind::Pause => (Fault::Pause { machine }, &["machine"]),
        Kind::Clock => (Fault::Clock { ms: raw.by.map(|by| by.0).ok_or_else(|| need("by"))? }, &["by"]),
        Kind::Drift => (Fault::Drift { ppm: raw.ppm.ok_or_else(|| need("ppm"))? }, &["ppm"]),
        Kind::SlowDisk => (Fault::SlowDisk { machine, ms: delay()? }, &["machine", "delay"]),
        Kind::FailSyncs => {
            (Fault::FailSyncs { machine, count: raw.count.unwrap_or(1) }, &["machine", "count"])
        }
        Kind::PowerAtOperation => {
            let operation = raw.operation.ok_or_else(|| need("operation"))?;
            (Fault::PowerAtOperation { machine, operation }, &["machine", "operation"])
        }
        Kind::SlowClient => (Fault::SlowClient { ms: delay()? }, &["delay"]),
        Kind::CutClient => (Fault::CutClient, &[]),
        Kind::HoldVotes => (Fault::HoldVotes { vote: vote()?, ms: delay()? }, &["vote", "delay"]),
        Kind::KillOnVote => (Fault::KillOnVote { vote: vote()?, power, down_ms }, &["vote", "power", "down"]),
        Kind::ActorPanic => (strike(Harm::Panic, 1)?, &["actor", "spread"]),
        Kind::ActorFail => (strike(Harm::Fail, 1)?, &["actor", "spread"]),
        Kind::ActorHang => (strike(Harm::Hang, 1)?, &["actor", "spread"]),
        Kind::ActorSlow => {
            (strike(Harm::Slow { ms: delay()? }, many()?)?, &["actor", "spread", "delay", "count"])
        }
        Kind::ActorLoseReply => (strike(Harm::LoseReply, many()?)?, &["actor", "spread", "count"]),
        Kind::KillAllOnVotes => {
            let count = raw.count.ok_or_else(|| need("count"))?;
            let count = u8::try_from(count).ok().filter(|count| *count <= world.nodes);
            let count = count.ok_or_else(|| format!("count: at most the {} nodes", world.nodes))?;
            (
                Fault::KillAllOnVotes { vote: vote()?, count, power, down_ms },
                &["vote", "count", "power", "down"],
            )
        }
    };
    if let Some((word, _)) = words.iter().find(|(word, is_given)| *is_given && !takes.contains(word)) {
        let known = takes.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        return Err(format!("unknown word `{word}` for {}, expected one of {known}", fault.name()));
    }
    let nodes: Vec<NodeRef> = raw.nodes.into_iter().map(|text| text.0).collect();
    if nodes.is_empty() {
        return Err(need("nodes"));
    }
    let outside = nodes.iter().find(|node| matches!(node, NodeRef::Number(number) if *number > world.nodes));
    if let Some(outside) = outside {
        return Err(format!("nodes: there is no node {outside}, there are {}", world.nodes));
    }
    Ok(Step { at: raw.at.0, for_ms: raw.lasts.map(|lasts| lasts.0), nodes, fault })
}

/// The known word that is nearest to the unknown one in a message of serde's, which puts both between back-quotes, the
/// unknown one first.
fn meant(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    nearest(unknown, words)
}

/// The word that takes the fewest edits, if they are few.
pub fn nearest<'a>(unknown: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    words
        .map(|word| (distance(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .map(|(_, word)| word.to_owned())
}

/// Edits (insert, remove, replace) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests;
