//! One run of a plan: builds the cluster, injects the plan's faults, ends them, and requires the
//! cluster to recover.

pub mod archive;
pub mod audit;
pub mod bisect;
pub mod inspect;
pub mod logs;
mod memory;
mod miners;
pub mod outcome;
pub mod probe;
pub mod recovery;
pub mod reexecution;
pub mod sandbox;

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use alys_consensus::PlantedBug;
use alys_integrations::embedded::PublicLimits;
use alys_node::interceptor::Intercept;
use alys_node::node::{Limits, NodeEvent};
use alys_node::wiring::table::{ACTORS, MailboxSizes};
use alys_runtime::mutant;
use alys_runtime::sim::{DEFAULT_SHARE_PPM, NodeId, Options, TcpTimeouts, World, try_run};
use alys_runtime::spawn;
use alys_runtime::sync::mpsc;
use tracing::metadata::LevelFilter;

use self::audit::audit;
use self::logs::Logs;
use self::miners::Miners;
use self::outcome::{Mark, Outcome};
use self::recovery::{Progress, wait};
use self::sandbox::Canary;
use crate::cluster::genesis::{Chain, authority, authority_key};
use crate::cluster::{self, Authority, Exit, Living, Markers, Net, Observer, Seat, Shared, now_ms};
use crate::events::{Announcement, Filter, Recorder, print_events};
use crate::faults::{self, Faults, GossipRepeater, Reactions};
use crate::invariants::{ExecutionClients, Judge, Keys, MOST_COPIES, Oracles, Repairs, Violation};
use crate::params::{Conduct, LimitsPlan, Ms, Slots, Stack, WorldPlan};
use crate::peers::add_stranger;
use crate::peers::byzantine;
use crate::peers::crowd;
use crate::peers::flooder;
use crate::peers::hang_up;
use crate::peers::interceptor;
use crate::peers::key_thief;
use crate::peers::light_client;
use crate::peers::mutator::{self, SharedMutator};
use crate::peers::puppet;
use crate::peers::staller;
use crate::plan::Plan;
use crate::plan::mutants::{self, Planted};
use crate::workload::{Desk, User, Watcher, large_callers};

/// Simulated time after the plan's `until_ms` at which a run is aborted as hung.
/// Recovery and audit take less, because each of their waits has a shorter timeout.
const RECOVERY_BUDGET: Duration = Duration::from_secs(300);
const USER_IP: IpAddr = Net::Users.ip(0);

/// The output that a run prints while it executes.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The most verbose level of the nodes' log lines that are printed.
    pub logs: LevelFilter,
    pub trace: Trace,
}

/// A selection of events to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Trace {
    /// No events.
    Off,
    /// Faults, process starts and exits, broken and restored links, clock changes, disk failures,
    /// node events.
    Faults,
    /// Every event that is part of the trace hash.
    All,
}

impl View {
    /// Prints no log lines and no events.
    pub const NONE: Self = Self {
        logs: LevelFilter::OFF,
        trace: Trace::Off,
    };
}

/// The message of a panic that a plan's fault injects into an actor.
const INJECTED: &str = "an injected panic";

/// The last panic that was not injected, with its backtrace. It is printed after the run, because
/// resolving a backtrace opens files, which the sandbox forbids.
static PANICKED: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

/// Installs a panic hook that ignores injected panics and stores the last of the others.
fn keep_panics() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            if info.payload_as_str() != Some(INJECTED) {
                let panic = (info.to_string(), Backtrace::force_capture());
                *PANICKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }));
    });
}

/// Prints the stored panic, if any, and clears it.
fn show_panic() {
    if let Some((message, backtrace)) = PANICKED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        eprintln!("{message}\n{backtrace}");
    }
}

/// The options of a run besides its plan and seed.
#[derive(Debug, Clone)]
pub struct Mode {
    /// The active planted bug.
    pub mutant: Option<&'static Planted>,
    /// The real production stack, or stand-ins for signatures and encryption.
    pub stack: Stack,
    /// The printed output. It does not affect the run.
    pub view: View,
    /// True to stop escapes from the simulation, see [`sandbox`].
    pub is_held: bool,
    /// A deliberate escape, which tests the sandbox.
    pub canary: Option<Canary>,
    /// The events to print in full, by number, see [`bisect::tell`].
    pub window: Option<Range<u64>>,
    /// Receives every event. It does not affect the run.
    pub record: Option<Recorder>,
    pub look: Look,
}

/// The events and states of a run to inspect. Inspection does not change the run, except that the
/// process exits after the last state, see [`inspect`].
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub events: Option<Filter>,
    /// The simulated milliseconds at which the state of all nodes is printed.
    pub states: Vec<u64>,
}

/// Runs a plan. A panic of the simulated code is part of the outcome.
pub fn run(plan: &Plan, seed: u64, mode: Mode) -> Outcome {
    keep_panics();
    let began = Instant::now();
    let stack = mode.stack;
    let bug = mode.mutant.map(|planted| planted.name);
    let judge = Judge::new(&plan.world);
    let reports = Reports::default();
    let options = Options {
        time_limit: Duration::from_millis(plan.until_ms) + RECOVERY_BUDGET,
        ..Options::new(seed)
    };
    let simulation = Simulation {
        plan: plan.clone(),
        judge: judge.clone(),
        mode,
        reports: reports.clone(),
    };
    let finished = try_run(options, move |world| simulation.run(world));
    let at_ms = finished.elapsed.as_millis() as u64;
    if let Err(message) = finished.result {
        let violation = if finished.is_out_of_time {
            Violation::Hung { what: message }
        } else {
            Violation::Panicked { message }
        };
        judge.accuse(at_ms, violation);
    }
    let oracles = judge.look();
    if oracles.found.is_some() {
        show_panic();
    }
    Outcome {
        scenario: plan.name.clone(),
        seed,
        stack,
        mutant: bug.map(str::to_owned),
        found: oracles.found.clone().or_else(|| memory::too_large(at_ms)),
        timeout_s: None,
        trace_hash: finished
            .trace_hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        snapshots: finished.snapshots.iter().map(Mark::from).collect(),
        events: finished.events,
        simulated_ms: at_ms,
        final_height: oracles.finality.top(),
        counters: collect_counters(&reports, &oracles, &finished.counters, bug.is_some()),
        wall_ms: began.elapsed().as_millis() as u64,
        peak_kib: memory::peak_kib(),
    }
}

/// Results that the simulation's thread writes. They stay readable after a panic of that thread.
#[derive(Clone, Default)]
struct Reports {
    /// Counted effects of faults, by name.
    fault_counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    /// Number of calls that reached the planted bug.
    bug_reached: Arc<AtomicU64>,
    /// True if the kernel accepted the sandbox.
    is_sandboxed: Arc<AtomicBool>,
}

/// The counters of a run, prefixed with their source where names could collide.
fn collect_counters(
    reports: &Reports,
    oracles: &Oracles,
    of_runtime: &BTreeMap<&'static str, u64>,
    has_planted_bug: bool,
) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    let faults = reports
        .fault_counts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    all.extend(faults.iter().map(|(name, n)| (format!("fault.{name}"), *n)));
    all.extend(of_runtime.iter().map(|(name, n)| ((*name).to_owned(), *n)));
    all.extend(
        oracles
            .heard
            .iter()
            .map(|(name, n)| (format!("said.{name}"), *n)),
    );
    let changes = oracles.sets.counts().into_iter();
    all.extend(changes.map(|(name, n)| (name.to_owned(), n)));
    all.extend(oracles.model.counts().map(|(name, n)| (name.to_owned(), n)));
    all.extend(oracles.forgeries.counts());
    all.extend(oracles.calm.counts().map(|(name, n)| (name.to_owned(), n)));
    all.extend(oracles.dials.counts().map(|(name, n)| (name.to_owned(), n)));
    let stores = oracles.stores.counts();
    all.extend(stores.map(|(name, n)| (name.to_owned(), n)));
    all.extend(oracles.work.counts().map(|(name, n)| (name.to_owned(), n)));
    let repairs = oracles.repairs.counts();
    all.extend(repairs.map(|(name, n)| (name.to_owned(), n)));
    if let Some(least) = oracles.least_final {
        all.insert("expect.min_final".to_owned(), least);
        all.insert("expect.losses".to_owned(), oracles.rejoin.noticed());
        all.insert("expect.ranges".to_owned(), oracles.least_ranges);
        let most = oracles.checks.values().max().copied().unwrap_or(0);
        all.insert("expect.checks".to_owned(), most);
    }
    let coverage = &oracles.ledger.coverage;
    all.extend(
        coverage
            .counts()
            .map(|(name, n)| (format!("workload.{name}"), n)),
    );
    let armed = reports.is_sandboxed.load(Ordering::SeqCst);
    all.insert("trap.armed".to_owned(), u64::from(armed));
    if has_planted_bug {
        let reached = reports.bug_reached.load(Ordering::Relaxed);
        all.insert("mutant.reached".to_owned(), reached);
    }
    let sent = oracles.ledger.sent.len() as u64;
    all.insert("transactions.sent".to_owned(), sent);
    let acknowledged = oracles.ledger.acknowledged.len() as u64;
    all.insert("transactions.final".to_owned(), acknowledged);
    all
}

/// The part of a run that executes on the simulation's own thread.
struct Simulation {
    plan: Plan,
    judge: Judge,
    mode: Mode,
    reports: Reports,
}

impl Simulation {
    /// Activates the sandbox, the planted bug and all observers, then drives the plan.
    async fn run(self, world: World) {
        let Self {
            plan,
            judge,
            mode,
            reports,
        } = self;
        let Mode {
            mutant,
            stack,
            view,
            is_held,
            canary,
            window,
            record,
            look,
        } = mode;
        let bug = mutant.map(|planted| planted.name);
        let planted_bug = bug.map_or(PlantedBug::NONE, |name| {
            PlantedBug::new(name, reports.bug_reached.clone())
        });
        if is_held {
            let is_sandboxed = sandbox::arm();
            reports.is_sandboxed.store(is_sandboxed, Ordering::SeqCst);
        }
        if let Some(canary) = canary {
            canary.fly();
        }
        mutant::activate(bug.map(|name| (name, reports.bug_reached.clone())));
        stack.switch_on();
        let faults = Arc::new(OnceLock::new());
        let logs = Logs::new(judge.clone(), faults.clone(), view.logs);
        let _default = tracing::subscriber::set_default(logs);
        let traced = match view.trace {
            Trace::Off => None,
            Trace::Faults => Some(Filter::faults()),
            Trace::All => Some(Filter::default()),
        };
        for filter in traced.into_iter().chain(look.events) {
            print_events(world, filter);
        }
        if let Some(record) = record {
            record.attach(world);
        }
        if let Some(Range { start, end }) = window {
            bisect::tell(world, start..=end.saturating_sub(1));
        }
        let ended = drive(world, &plan, &judge, &faults, look.states, planted_bug).await;
        if let Err(violation) = ended {
            judge.accuse(now_ms(world), violation);
        }
        if let Some(faults) = faults.get() {
            let counts = faults.counts();
            let mut reported = reports
                .fault_counts
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *reported = counts;
        }
    }
}

/// Builds the cluster, plays the steps of the plan until its `until_ms`, and requires recovery.
async fn drive(
    world: World,
    plan: &Plan,
    judge: &Judge,
    slot: &OnceLock<Faults>,
    states: Vec<u64>,
    planted_bug: PlantedBug,
) -> Result<(), Violation> {
    let cluster = Cluster::build(world, plan, judge, slot, states, planted_bug)?;
    for (number, step) in (1..).zip(&plan.steps) {
        spawn("step", cluster.faults.clone().play(number, step.clone()));
    }
    if wait(world, judge, plan.until_ms, || false).await {
        return Ok(());
    }
    let living: Vec<u8> = (0..plan.world.nodes)
        .filter(|node| !plan.world.left_dead.contains(&(node + 1)))
        .filter(|node| !plan.world.is_byzantine(*node))
        .collect();
    enough(judge, &living, plan)?;
    recover(world, plan, judge, &cluster).await
}

/// The machines of a run, its fault injector and its users.
struct Cluster {
    shared: Shared,
    faults: Faults,
    users: Users,
    miners: Miners,
}

impl Cluster {
    /// Adds all machines. Their order must not depend on anything but the plan, because it affects
    /// the trace hash.
    fn build(
        world: World,
        plan: &Plan,
        judge: &Judge,
        slot: &OnceLock<Faults>,
        states: Vec<u64>,
        planted_bug: PlantedBug,
    ) -> Result<Self, Violation> {
        configure_world(world, &plan.world);
        watch_repairs(world, judge);
        let nodes = plan.world.nodes;
        let start_ms = world.wall_ms(NodeId::WORLD);
        judge.look().calm.begin(start_ms);
        let chain = Chain::new(&plan.world, &plan.workload, start_ms);
        let reactions = Reactions::default();
        let living = Living::default();
        if !states.is_empty() {
            inspect::watch(states, nodes, judge, &living);
        }
        let (exits, ended) = mpsc::unbounded_channel();
        let (copies, copied) = mpsc::channel(MOST_COPIES as usize);
        let slots = Slots {
            start_ms,
            slot_ms: plan.world.slot_ms,
        };
        let mutators = mutator::of_plan(world, &plan.world, &chain, judge);
        let interceptors =
            interceptor::interceptors(world, &plan.world, slots, &chain, judge, &mutators);
        let execution_faults = cluster::execution_faults(world, nodes);
        let shared = Shared {
            chain,
            nodes,
            judge: judge.clone(),
            reactions: observer(&reactions),
            living: living.clone(),
            execution_clients: ExecutionClients::default(),
            execution_faults: execution_faults.clone(),
            interceptors: interceptors
                .iter()
                .map(|(index, one)| (*index, one.clone() as Arc<dyn Intercept>))
                .collect(),
            exits,
            copies,
            mailboxes: mailbox_sizes(&plan.world),
            addresses: plan.world.addresses(),
            stranger_places: plan.world.places,
            limits: node_limits(&plan.world),
            public_limits: public_limits(&plan.world),
            queued_events: plan.world.queued_events,
            planted_bug,
            twins: twins(&plan.world).collect(),
            markers: Markers::default(),
            other_addresses: hang_up::addresses(&plan.world),
        };
        run_canaries(world)?;
        register_sets(&shared, judge);
        register_work(&shared, &plan.world, judge);
        register_honest(&plan.world, judge);
        probe::add(world, judge);
        let setup = faults::Setup {
            plan: &plan.world,
            steps: &plan.steps,
            authorities: add_authorities(world, &shared),
            repeaters: interceptors
                .into_iter()
                .map(|(index, one)| (index, one as Arc<dyn GossipRepeater>))
                .collect(),
            execution_faults,
            governance: shared.chain.governance.clone(),
            miners: plan.workload.miners.len() as u8,
            slots,
            judge: judge.clone(),
            living,
        };
        let faults = Faults::new(world, setup);
        let faults = slot.get_or_init(|| faults).clone();
        reactions.connect(&faults);
        faults.strike_first_starts();
        spawn(
            "exits",
            watch_exits(world, ended, faults.clone(), judge.clone()),
        );
        let genesis = shared.chain.genesis.hash();
        spawn(
            "archive",
            archive::check_copies(world, judge.clone(), genesis, copied),
        );
        add_twins(world, &plan.world, &shared, &faults);
        add_outsiders(world, &plan.world, &shared, &mutators);
        let users = Users::start(world, plan, judge);
        let miners = Miners::start(world, plan, judge);
        Ok(Self {
            shared,
            faults,
            users,
            miners,
        })
    }
}

/// Has the invariants watch the mechanisms of repair.
fn watch_repairs(world: World, judge: &Judge) {
    let judge = judge.clone();
    let watch = move |machine: NodeId, kind: &'static str, payload: &[u8]| {
        if Repairs::is_watched(kind) {
            let at_ms = now_ms(world);
            judge.look().traced(at_ms, machine, kind, payload);
        }
    };
    world.on_event(Arc::new(watch));
}

/// Applies the plan's default link, TCP timeouts and buggify switch to the world.
fn configure_world(world: World, plan: &WorldPlan) {
    world.set_default_link(faults::link(&plan.link));
    if let Some(Ms(ms)) = plan.tcp_timeout {
        let timeout = Duration::from_millis(ms);
        world.set_tcp_timeouts(TcpTimeouts {
            connect: timeout,
            send: timeout,
        });
    }
    if plan.buggify {
        world.set_buggify(Some(DEFAULT_SHARE_PPM));
    }
}

/// The capacities of mailboxes that a plan names.
fn mailbox_sizes(plan: &WorldPlan) -> MailboxSizes {
    let mut sizes = MailboxSizes::default();
    for actor in &ACTORS {
        if let Some(messages) = plan.mailboxes.get(actor.name) {
            sizes.set(actor, *messages);
        }
    }
    sizes
}

/// The limits of nodes: those that a plan names, production's for the others.
fn node_limits(plan: &WorldPlan) -> Limits {
    let usual = Limits::default();
    let LimitsPlan {
        uncertified, range, ..
    } = plan.limits;
    Limits {
        uncertified: uncertified.unwrap_or(usual.uncertified),
        range_bytes: range.unwrap_or(usual.range_bytes),
    }
}

/// The limits of the execution clients' public ports.
fn public_limits(plan: &WorldPlan) -> PublicLimits {
    let usual = PublicLimits::default();
    PublicLimits {
        max_pending_bytes: plan.limits.pending.unwrap_or(usual.max_pending_bytes),
    }
}

/// Returns an observer of node events that triggers the plan's reactions to them.
fn observer(reactions: &Reactions) -> Observer {
    let reactions = reactions.clone();
    Arc::new(move |node, event: &NodeEvent| reactions.on_event(node, event))
}

/// Misbehaves on purpose when the planted bug is a canary, a bug of the simulator itself.
fn run_canaries(world: World) -> Result<(), Violation> {
    if mutant::active(mutants::ALWAYS_FAILS) {
        return Err(Violation::Canary);
    }
    if mutant::active(mutants::LEAKS) {
        world.note(
            "canary",
            &std::process::id().to_le_bytes(),
            "the number of this process",
        );
    }
    Ok(())
}

/// Registers the libp2p identities of all authorities that follow the protocol, and of those that
/// nodes may not ban.
fn register_honest(plan: &WorldPlan, judge: &Judge) {
    let floods = |index: u8| {
        let mut named = plan.byzantine.iter();
        named.any(|one| one.node == index + 1 && one.conduct == Conduct::Flood)
    };
    let identity = |index: u8| (cluster::peer_id(index), index);
    let correct = (0..plan.nodes).filter(|index| !plan.is_byzantine(*index));
    let spared = (0..plan.nodes).filter(|index| !plan.is_byzantine(*index) || floods(*index));
    let mut oracles = judge.look();
    oracles.honest = correct.map(identity).collect();
    oracles.spared = spared.map(identity).collect();
}

/// Registers the keys by which orders of governance name authorities.
fn register_sets(shared: &Shared, judge: &Judge) {
    let Some(governance) = &shared.chain.governance else {
        return;
    };
    let keys = (0..shared.nodes).map(|index| authority_key(index).public_key().to_bytes());
    let sets = judge.look().sets.clone();
    sets.register(shared.chain.genesis.hash(), keys);
    sets.govern(Keys::new(governance.keys()));
}

/// Registers the constants of proof of work, and the addresses that fees are paid to.
fn register_work(shared: &Shared, plan: &WorldPlan, judge: &Judge) {
    let fee_addresses = (0..shared.nodes).map(|index| authority(index).fee_address);
    let fee_addresses = fee_addresses.collect();
    let mut oracles = judge.look();
    let genesis = &shared.chain.genesis;
    oracles
        .work
        .register(genesis, plan.governance, fee_addresses);
}

fn add_authorities(world: World, shared: &Shared) -> Vec<Authority> {
    let add = |index| {
        let seat = Seat {
            index,
            is_twin: false,
        };
        cluster::add(world, shared, seat)
    };
    (0..shared.nodes).map(add).collect()
}

/// The authorities whose Byzantine behaviour is twins, from 0.
fn twins(plan: &WorldPlan) -> impl Iterator<Item = u8> + '_ {
    let twins = plan
        .byzantine
        .iter()
        .filter(|one| one.conduct == Conduct::Twins);
    twins.map(|one| one.node.saturating_sub(1))
}

/// Adds a second set of machines for each authority whose Byzantine behaviour is twins.
fn add_twins(world: World, plan: &WorldPlan, shared: &Shared, faults: &Faults) {
    for index in twins(plan) {
        let seat = Seat {
            index,
            is_twin: true,
        };
        let twin = cluster::add(world, shared, seat);
        byzantine::split_twins(faults, plan, seat, twin);
    }
}

/// Adds the peers of the plan that are not authorities.
fn add_outsiders(
    world: World,
    plan: &WorldPlan,
    shared: &Shared,
    mutators: &BTreeMap<u8, SharedMutator>,
) {
    if let Some(number) = plan.forger {
        key_thief::add(world, shared, number.saturating_sub(1));
    }
    if plan.light_client {
        light_client::add(world, shared);
    }
    if plan.greedy_peers {
        flooder::add(world, shared);
    }
    if plan.silent_peers {
        staller::add(world, shared);
    }
    (0..plan.crowd).for_each(|index| crowd::add(world, shared, index));
    for (index, mutator) in mutators {
        puppet::add(world, shared, mutator.clone(), Some(*index));
    }
    for stranger in &plan.strangers {
        add_stranger(world, plan, shared, *stranger);
    }
}

/// The users of the workload, on one machine. The audit runs on it too.
struct Users {
    machine: NodeId,
    /// True once the users should stop.
    is_over: Arc<AtomicBool>,
}

impl Users {
    fn start(world: World, plan: &Plan, judge: &Judge) -> Self {
        let machine = world.node("user", USER_IP, std::future::pending);
        world.exempt_from_buggify(machine);
        let is_over = Arc::new(AtomicBool::new(false));
        for index in 0..plan.workload.users {
            let user = User {
                index,
                execution_clients: plan.world.nodes,
                home: (index < plan.workload.loyal)
                    .then(|| plan.world.nodes - 1 - index % plan.world.nodes),
                plan: plan.workload.clone(),
                rng: world.rng(&format!("user {index}")),
                judge: judge.clone(),
                is_over: is_over.clone(),
                desk: Desk::default(),
            };
            world.spawn_on(machine, "user", user.run());
        }
        let correct: Vec<u8> = (0..plan.world.nodes)
            .filter(|node| !plan.world.is_byzantine(*node))
            .collect();
        let watched = correct.iter().cycle();
        for (number, node) in (0..plan.workload.watchers).zip(watched) {
            let watcher = Watcher {
                node: *node,
                rng: world.rng(&format!("watcher {number}")),
                judge: judge.clone(),
                is_over: is_over.clone(),
            };
            world.spawn_on(machine, "watcher", watcher.run());
        }
        if plan.world.limits.pending.is_some() {
            let rng = world.rng("large callers");
            let callers = large_callers::run(plan.world.nodes, rng, is_over.clone());
            world.spawn_on(machine, "large-callers", callers);
        }
        Self { machine, is_over }
    }
}

/// Ends all faults and restores a core of authorities. Then requires, in this order: progress of
/// the core, the same states when a fresh execution client executes the final chain, the final
/// chain and correct balances on the core's execution clients, direct connections between all
/// authorities of the core, that every actor becomes idle, and that the block stores of all correct
/// nodes have the rows of their chains and no others.
/// A run that can settle continues until it is calm, see [`crate::invariants::Calm`].
async fn recover(
    world: World,
    plan: &Plan,
    judge: &Judge,
    cluster: &Cluster,
) -> Result<(), Violation> {
    let Cluster {
        shared,
        faults,
        users,
        miners,
    } = cluster;
    let nodes = plan.world.nodes;
    let mute = judge.look().mute();
    let core = recovery::core(&plan.world, &mute, &mut world.rng("healing"));
    let healed = Announcement::Healed {
        authorities: core.iter().map(|node| node + 1).collect(),
        of: nodes,
    };
    healed.announce(world);
    let left_dead = (0..nodes)
        .filter(|node| !core.contains(node))
        .filter(|node| !plan.world.is_byzantine(*node));
    faults.leave_dead(left_dead);
    faults.heal();
    miners.is_healed.store(true, Ordering::SeqCst);
    let is_whole = core.len() == usize::from(nodes) && mute.is_empty();
    let healed_ms = now_ms(world);
    judge.look().calm.healed(healed_ms, is_whole);
    spawn("operators", faults.clone().confirm_clocks(core.clone()));
    world.set_buggify(None);
    judge.look().retold.healed();
    judge.look().repairs.healed(healed_ms, nodes);
    match recovery::progress(world, judge, plan, &core, &mute).await? {
        Progress::Broken => return Ok(()),
        Progress::Unrecoverable => {
            faults.count("run.unrecoverable");
            return Ok(());
        }
        Progress::Made => {}
    }
    recovery::mined(world, judge, &plan.world, &core).await?;
    recovery::carried(world, judge, &plan.world, &core, healed_ms).await?;
    users.is_over.store(true, Ordering::SeqCst);
    judge.look().calm.rests(now_ms(world));
    let replayed = reexecution::replay(judge, &shared.chain.execution)?;
    Announcement::Reexecuted { blocks: replayed }.announce(world);
    let auditor = judge.clone();
    let members = core.clone();
    let workload = plan.workload.clone();
    let rng = world.rng("audit");
    let audited = world.spawn_on(users.machine, "audit", async move {
        audit(&auditor, &members, &workload, rng).await
    });
    audited.await.unwrap_or_else(|error| {
        Err(Violation::Hung {
            what: error.to_string(),
        })
    })?;
    recovery::connected(world, judge, &core, healed_ms).await?;
    recovery::rest(world, judge, &shared.living, &core).await?;
    recovery::calm(world, judge, plan.world.slot_ms).await;
    let genesis = shared.chain.genesis.hash();
    archive::check_all(world, judge, &plan.world, genesis);
    Ok(())
}

/// Checks the plan's expectations: every authority in `core` reached the minimum final height,
/// nodes noticed at least the expected number of losses of their vote state, the expected numbers
/// of changes of the federation took effect and were void, and signature checks stayed within their
/// limit.
fn enough(judge: &Judge, core: &[u8], plan: &Plan) -> Result<(), Violation> {
    let expect = &plan.expect;
    let slots = plan.until_ms.div_ceil(plan.world.slot_ms);
    let mut oracles = judge.look();
    let least = core
        .iter()
        .map(|node| (oracles.finality.of(*node), *node))
        .min();
    oracles.least_final = least.map(|(reached, _)| reached);
    oracles.least_ranges = oracles.work.ranges();
    let changes = oracles.sets.changes();
    let wrong_void = expect.void.filter(|expected| *expected != changes.void);
    let most_checks = oracles.checks.iter().map(|(node, n)| (*n, *node)).max();
    match least {
        Some((reached, node)) if reached < expect.min_final => Err(Violation::TooFewBlocks {
            node: node + 1,
            reached,
            needed: expect.min_final,
        }),
        _ if oracles.rejoin.noticed() < expect.losses => Err(Violation::LossUnnoticed {
            noticed: oracles.rejoin.noticed(),
            needed: expect.losses,
        }),
        _ if oracles.least_ranges < expect.ranges => Err(Violation::TooFewRanges {
            reached: oracles.least_ranges,
            needed: expect.ranges,
        }),
        _ if changes.effective < expect.changes => Err(Violation::TooFewChanges {
            reached: changes.effective,
            needed: expect.changes,
        }),
        _ => match (wrong_void, most_checks, expect.checks) {
            (Some(expected), ..) => Err(Violation::WrongVoidChanges {
                found: changes.void,
                expected,
            }),
            (None, Some((found, node)), Some(limit)) if found > limit * slots => {
                Err(Violation::TooCostly {
                    node: node + 1,
                    what: "signature checks".to_owned(),
                    blocks: slots,
                    found,
                    budget: limit * slots,
                })
            }
            _ => Ok(()),
        },
    }
}

/// Acts as the operator: restarts processes that exited with an error. Such an exit is a violation
/// unless a fault damaged the machine's disk.
async fn watch_exits(
    world: World,
    mut ended: mpsc::UnboundedReceiver<Exit>,
    faults: Faults,
    judge: Judge,
) {
    while let Some(Exit { machine, reason }) = ended.recv().await {
        let name = world.name(machine);
        let exited = Announcement::Exited {
            machine: name.clone(),
            reason: reason.clone(),
        };
        exited.announce(world);
        if let Some(reason) = reason {
            if !faults.is_damaged(machine) {
                judge.accuse(
                    now_ms(world),
                    Violation::ProcessEnded { node: name, reason },
                );
            }
            faults.respawn(machine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn void_changes_of_the_federation_are_counted_exactly() {
        let text = "why = \"a test\"\nuntil = \"10s\"\n[expect]\nvoid = 1\n";
        let mut plan = crate::plan::format::parse("test.toml", text)
            .expect("it is well-formed")
            .plan;
        let judge = Judge::new(&plan.world);
        let wrong = Violation::WrongVoidChanges {
            found: 0,
            expected: 1,
        };
        assert_eq!(enough(&judge, &[0], &plan), Err(wrong));
        plan.expect.void = Some(0);
        assert_eq!(enough(&judge, &[0], &plan), Ok(()));
    }
}
