//! The supervision tree of a node as data: it configures the tree, the roles of the access table
//! follow from it, and `docs/actors.md` is printed from it.
//!
//! An actor that panics, fails, or spends longer than its message timeout on one message is
//! restarted after its restart delay. The sum of timeout and delay is below five seconds for every
//! actor, the time within which a node must recover. An actor with a circuit breaker refuses
//! messages while it is open. Senders treat that as temporary: the chain retries at its next tick
//! and rebroadcasts after the slot.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use alys_actor_system::{
    Addr, Backoff, Breaker, ChildSpec, Intensity, Message, RestartDelay, Slot, Strategy,
    Supervisor, SupervisorSpec, System, mailbox,
};

use crate::actors::auxpow::{MAX_GOSSIPED, MAX_QUESTIONS, MAX_SUBMISSIONS};
use crate::actors::engine::EngineTimeouts;
use crate::actors::storage::{MAX_BLOCK_READS, MAX_PEER_READS};
use crate::node::StartError;
use crate::rights::Rights;

/// The answer to a call that takes longer than this is too late for its slot. The execution client
/// completes the call nevertheless, so a retry gets its answer at once.
pub(super) const ENGINE_TIMEOUTS: EngineTimeouts = EngineTimeouts::new(Duration::from_secs(2));

/// A supervisor of the tree, and its row in `docs/actors.md`.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub name: &'static str,
    pub strategy: Strategy,
    /// The number of restarts of its children, per period, above which it gives up. Restarts behind
    /// a circuit breaker do not count.
    pub intensity: Intensity,
    pub reason: &'static str,
}

/// When the supervisors below the root give up repeatedly, the root does too, and the process ends.
pub const ROOT: Group = Group {
    name: "root",
    strategy: Strategy::OneForAll,
    intensity: Intensity {
        restarts: 2,
        within: Duration::from_secs(600),
    },
    reason: "a failure that persists after two restarts of the whole tree needs the operator",
};
pub const STORAGE_GROUP: Group = Group {
    name: "storage",
    strategy: Strategy::OneForOne,
    intensity: Intensity {
        restarts: 20,
        within: Duration::from_secs(60),
    },
    reason: "one failure every three seconds is tolerated indefinitely",
};
pub const CHAIN_GROUP: Group = Group {
    name: "chain",
    strategy: Strategy::OneForOne,
    intensity: Intensity {
        restarts: 30,
        within: Duration::from_secs(60),
    },
    reason: "a failure of the storage also fails the chain and the engine",
};
pub const NETWORK_GROUP: Group = Group {
    name: "network",
    strategy: Strategy::RestForOne,
    intensity: Intensity {
        restarts: 20,
        within: Duration::from_secs(60),
    },
    reason: "a new network service has no connections, so the peers restart with it",
};

/// Delay before a restart.
#[derive(Debug, Clone, Copy)]
pub enum RestartTiming {
    /// Doubles from `initial_ms` up to `max_ms`.
    Backoff { initial_ms: u64, max_ms: u64 },
    /// No delay, but the third failure within ten seconds opens the circuit breaker for 500 ms, and
    /// for up to `max_ms` if failures continue. The times are short, because the node cannot
    /// recover while the breaker refuses messages, and senders handle refusals anyway.
    Breaker { max_ms: u64 },
}

/// An actor of the tree, and its row in `docs/actors.md`.
#[derive(Debug, Clone, Copy)]
pub struct ActorSpec {
    /// The name as a child of its supervisor, and as a role in the access table.
    pub name: &'static str,
    pub actor: &'static str,
    /// The name of its supervisor.
    pub group: &'static str,
    /// Paths of the actors that it cannot start without. A start waits until they run, and they
    /// stop after it.
    pub depends_on: &'static [&'static str],
    pub restart: RestartTiming,

    pub message_timeout: Duration,
    pub timeout_reason: &'static str,
    /// Capacity of the mailbox, in messages.
    pub mailbox: usize,
    /// The smallest capacity with which the node still works, more slowly: a message that finds the
    /// mailbox full is dropped and sent again, or its sender waits for room. Simulations use
    /// capacities from here on, see [`MailboxSizes`].
    pub least_mailbox: usize,
    /// Memory in addition to the mailbox. No actor has a memory budget, because every part of its
    /// memory has its own limit, and a restart would not empty the mailbox.
    pub memory: &'static str,
}

pub const STORAGE: ActorSpec = ActorSpec {
    name: "storage",
    actor: "StorageActor",
    group: STORAGE_GROUP.name,
    depends_on: &[],
    restart: BACKOFF,
    message_timeout: Duration::from_secs(2),
    timeout_reason: "two syncs of a slow disk",
    // Twice the reads of peers, so that the messages of the node itself have 128 places, some of
    // which reads of miners take.
    mailbox: 2 * MAX_PEER_READS,
    // All messages have room, whatever peers do: 128 reads of peers, which keep their places until
    // the mailbox has let go of them; six of the node itself, one of the chain, of the engine and
    // of the AuxPowActor, which make one request at a time, and as many that their incarnations
    // before a restart left behind; and the reads of miners.
    least_mailbox: MAX_PEER_READS + 6 + MAX_BLOCK_READS,
    memory: "the cache of the engine; four bytes per 4 KiB of its file",
};
pub const VALIDATION: ActorSpec = ActorSpec {
    name: "validation",
    actor: "ValidationActor",
    group: CHAIN_GROUP.name,
    depends_on: &[],
    restart: BACKOFF,
    message_timeout: Duration::from_secs(2),
    timeout_reason: "computation only",
    mailbox: 1024,
    least_mailbox: LEAST_MAILBOX,
    memory: "512 messages and 256 proofs of strangers, 32 MiB",
};
pub const ENGINE: ActorSpec = ActorSpec {
    name: "engine",
    actor: "EngineActor",
    group: CHAIN_GROUP.name,
    depends_on: &[],
    restart: RestartTiming::Breaker { max_ms: 1_000 },
    message_timeout: ENGINE_TIMEOUTS.supervisor,
    timeout_reason: "the actor's own timeout is shorter; a replay takes many messages",
    mailbox: 64,
    // A build, an execution, a fork choice, a question for receipts, the actor's own reminders, two
    // reads of peers and four answers of peers.
    least_mailbox: 16,
    memory: "hashes of blocks to replay; the receipts of four blocks from peers",
};
pub const CHAIN: ActorSpec = ActorSpec {
    name: "chain",
    actor: "ChainActor",
    group: CHAIN_GROUP.name,
    // It restores its state from the storage.
    depends_on: &["storage/storage"],
    restart: RestartTiming::Backoff {
        initial_ms: 100,
        max_ms: 1_000,
    },
    message_timeout: Duration::from_millis(3_500),
    timeout_reason: "the input budget and the two writes of the last input",
    // A slot of a federation of 15 has 30 votes and a proposal, and after a slot without finality
    // every node re-sends its own.
    mailbox: 1024,
    least_mailbox: LEAST_MAILBOX,
    memory: "blocks above the last final one",
};
pub const AUXPOW: ActorSpec = ActorSpec {
    name: "auxpow",
    actor: "AuxPowActor",
    group: CHAIN_GROUP.name,
    // It restores its proofs from the storage.
    depends_on: &["storage/storage"],
    restart: BACKOFF,
    message_timeout: Duration::from_millis(3_500),
    timeout_reason: "the write of a proof, behind others of the storage",
    // Questions of miners and proofs of peers, of which so many are admitted, and reports of the
    // chain.
    mailbox: 2 * (MAX_SUBMISSIONS + MAX_QUESTIONS + MAX_GOSSIPED),
    // The chain repeats a report that finds no room, miners ask again, and nodes repeat proofs.
    least_mailbox: 4,
    memory: "4096 works, 64 proofs of 32 MiB, 16 submissions and 16 proofs of peers of 8 MiB each",
};
pub const TX_POOL: ActorSpec = ActorSpec {
    name: "tx_pool",
    actor: "TxPoolActor",
    group: CHAIN_GROUP.name,
    depends_on: &[],
    restart: BACKOFF,
    message_timeout: Duration::from_millis(3_500),
    timeout_reason: "the submit budget and one more call of the execution client",
    mailbox: 256,
    // Transactions are sent again by their users and by other nodes.
    least_mailbox: 4,
    memory: "32768 hashes, 4096 transactions of 16 MiB",
};
pub const NETWORK: ActorSpec = ActorSpec {
    name: "network",
    actor: "NetworkActor",
    group: NETWORK_GROUP.name,
    depends_on: &[],
    restart: RestartTiming::Breaker { max_ms: 2_000 },
    message_timeout: Duration::from_secs(2),
    timeout_reason: "it waits for no other actor",
    mailbox: 1024,
    least_mailbox: LEAST_MAILBOX,
    memory: "the limits of the network service",
};
pub const PEERS: ActorSpec = ActorSpec {
    name: "peers",
    actor: "PeerActor",
    group: NETWORK_GROUP.name,
    depends_on: &[],
    restart: BACKOFF,
    message_timeout: Duration::from_secs(2),
    timeout_reason: "it waits for no other actor",
    mailbox: 256,
    // An event and an answer of each of seven peers, and a request of the chain.
    least_mailbox: 16,
    memory: "one entry per peer",
};

/// The messages of one slot of a federation of 15: two votes of each authority, a proposal and a
/// certificate. With less room a slot's votes would displace each other each time.
const LEAST_MAILBOX: usize = 32;

/// Capacities of mailboxes in place of those of the table, by the names of actors. They differ in
/// simulations only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailboxSizes(BTreeMap<&'static str, usize>);

impl MailboxSizes {
    /// Sets the capacity of an actor's mailbox, at least [`ActorSpec::least_mailbox`].
    pub fn set(&mut self, actor: &ActorSpec, messages: usize) {
        let messages = messages.max(actor.least_mailbox);
        self.0.insert(actor.name, messages);
    }

    fn of(&self, actor: &ActorSpec) -> usize {
        self.0.get(actor.name).copied().unwrap_or(actor.mailbox)
    }
}

const BACKOFF: RestartTiming = RestartTiming::Backoff {
    initial_ms: 50,
    max_ms: 500,
};

/// All supervisors.
pub const GROUPS: [Group; 4] = [ROOT, STORAGE_GROUP, CHAIN_GROUP, NETWORK_GROUP];
/// All actors, in the order of their start.
pub const ACTORS: [ActorSpec; 8] = [
    STORAGE, VALIDATION, ENGINE, CHAIN, AUXPOW, TX_POOL, NETWORK, PEERS,
];

impl Group {
    pub(super) fn spec(&self, name: impl Into<String>) -> SupervisorSpec {
        SupervisorSpec {
            intensity: self.intensity,
            ..SupervisorSpec::new(name, self.strategy)
        }
    }

    pub(super) fn start(&self, system: &System) -> Result<Supervisor, StartError> {
        Ok(system.supervisor(self.spec(self.name))?)
    }
}

impl RestartTiming {
    /// A circuit breaker delays restarts in place of the supervisor, which never gives up on them.
    pub const fn is_breaker(&self) -> bool {
        matches!(self, Self::Breaker { .. })
    }

    fn delay(&self) -> RestartDelay {
        match self {
            Self::Backoff { initial_ms, max_ms } => {
                RestartDelay::Backoff(backoff(*initial_ms, *max_ms))
            }
            Self::Breaker { max_ms } => RestartDelay::CircuitBreaker(Breaker {
                open_for: backoff(500, *max_ms),
                ..Breaker::default()
            }),
        }
    }
}

impl ActorSpec {
    /// The path below the root of the supervision tree.
    pub fn path(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    pub(super) fn child(&self, rights: &Rights) -> Result<ChildSpec, StartError> {
        let spec = ChildSpec::new(self.name)
            .restart_delay(self.restart.delay())
            .handle_timeout(self.message_timeout)
            .role(rights.role(self.name)?);
        let dependencies = self.depends_on.iter().copied();
        Ok(dependencies.fold(spec, ChildSpec::depends_on))
    }

    pub(super) fn mailbox<M: Message>(&self, sizes: &MailboxSizes) -> (Addr<M>, Slot<M>) {
        mailbox(sizes.of(self))
    }
}

pub(super) fn backoff(initial_ms: u64, max_ms: u64) -> Backoff {
    Backoff {
        initial: Duration::from_millis(initial_ms),
        max: Duration::from_millis(max_ms),
        ..Backoff::default()
    }
}

/// The restart policy of a supervisor below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorPolicy {
    /// Its name, which is its path below the system.
    pub name: &'static str,
    /// It gives up at more restarts within this time.
    pub intensity: Intensity,
    /// The children whose restarts count; those behind a circuit breaker do not.
    pub children: Vec<&'static str>,
}

/// The restart policies of the supervisors below the root, in the order of their start.
pub fn supervisor_policies() -> Vec<SupervisorPolicy> {
    let below_root = GROUPS.iter().filter(|group| group.name != ROOT.name);
    let policy = |group: &Group| {
        let own = ACTORS.iter().filter(|actor| actor.group == group.name);
        let counted = own.filter(|actor| matches!(actor.restart, RestartTiming::Backoff { .. }));
        SupervisorPolicy {
            name: group.name,
            intensity: group.intensity,
            children: counted.map(|actor| actor.name).collect(),
        }
    };
    below_root.map(policy).collect()
}

/// The supervision tree in Markdown: the content of `docs/actors.md`.
pub fn actors_page() -> String {
    let mut page = String::from(
        "# Actors of a node\n\nGenerated from the tables in `node/src/wiring/table.rs`; a test \
         there compares them.\n\n\
         | supervisor | strategy | gives up after | because |\n|---|---|---|---|\n",
    );
    let row = |page: &mut String, cells: &[&str]| {
        writeln!(page, "| {} |", cells.join(" | ")).expect("writing to a string cannot fail");
    };
    for group in GROUPS {
        let Intensity { restarts, within } = group.intensity;
        let strategy = format!("{:?}", group.strategy);
        let limit = format!("{restarts} restarts in {} s", within.as_secs());
        row(&mut page, &[group.name, &strategy, &limit, group.reason]);
    }
    page.push_str(
        "\nSupervisors below the root start their actors in this order and stop them in \
         reverse, after the actors with a dependency. A supervisor gives up by the restarts of \
         actors without a circuit breaker.\n\n\
         | actor | depends on | restart delay, message timeout | mailbox | memory |\n\
         |---|---|---|---|---|\n",
    );
    for actor in ACTORS {
        let name = format!("`{}` ({})", actor.path(), actor.actor);
        let dependencies = actor.depends_on.join(", ");
        let restart = match actor.restart {
            RestartTiming::Backoff { initial_ms, max_ms } => {
                format!("{initial_ms} to {max_ms} ms")
            }
            RestartTiming::Breaker { max_ms } => {
                format!("0; circuit breaker open for 500 to {max_ms} ms")
            }
        };
        let timeout = actor.message_timeout.as_millis();
        let times = format!("{restart}; {timeout} ms: {}", actor.timeout_reason);
        let mailbox = format!("{} messages", actor.mailbox);
        row(
            &mut page,
            &[&name, &dependencies, &times, &mailbox, actor.memory],
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_wired_actors() {
        let expected = actors_page();
        assert_eq!(
            include_str!("../../../docs/actors.md"),
            expected,
            "docs/actors.md must be:\n{expected}"
        );
    }

    #[test]
    fn mailboxes_can_be_as_small_as_the_node_works_with() {
        let mut sizes = MailboxSizes::default();
        for actor in ACTORS {
            assert!(actor.least_mailbox <= actor.mailbox, "{}", actor.name);
            assert_eq!(sizes.of(&actor), actor.mailbox);
            sizes.set(&actor, 0);
            assert_eq!(sizes.of(&actor), actor.least_mailbox, "{}", actor.name);
        }
    }

    #[test]
    fn every_actor_recovers_within_five_seconds() {
        for actor in ACTORS {
            let delay_ms = match actor.restart {
                RestartTiming::Backoff { max_ms, .. } | RestartTiming::Breaker { max_ms } => max_ms,
            };
            let total = actor.message_timeout + Duration::from_millis(delay_ms);
            assert!(total < Duration::from_secs(5), "{}: {total:?}", actor.name);
        }
    }
}
