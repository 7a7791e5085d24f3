//! Watchers: wallets and indexers that poll filters of one execution client for blocks and logs,
//! and search logs over ranges. The sum of the changes that a filter has reported is the canonical
//! chain.
//!
//! A watcher compares while the head of the client stands still, so that it knows the chain of the
//! answer. It installs a filter again only if the filter is lost: an execution client may remove
//! one that was not used for long, and loses all of them in a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::{B256, U64, U256};
use alys_integrations::http::{CallError, HttpClient};
use alys_runtime::sim::{Rng, World};
use alys_runtime::time::{self, Instant};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rpc;
use crate::cluster::now_ms;
use crate::invariants::{
    COUNTER_TOPIC, Emitted, Judge, ToldBlocks, ToldLog, ToldLogs, Violation, same_logs,
};

/// Time after which an execution client may remove an unused filter.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// Time after which an execution client has removed an unused filter.
const LONG_IDLE: Duration = Duration::from_secs(310);
/// The error text of Geth for an unknown filter.
const NOT_FOUND: &str = "filter not found";
/// Longest time of the requests whose answers are compared with one head.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Pause before a poll that repeats a comparison. A head that left and returned between two
/// requests explains one difference, and none that stays.
const RETRY: Duration = Duration::from_millis(300);
/// Polls of each filter at the end of the run.
const LAST_POLLS: u32 = 3;
/// Shortest pause between two polls, in milliseconds, and the largest addition to it: a block is
/// seldom missed.
const SHORT_MS: u64 = 300;
const MORE_MS: u64 = 1_500;
/// A seldom poll is up to this power of two of seconds after the one before, below [`MAX_IDLE`].
const LONG_POWERS: u64 = 9;
/// One visit in this many also searches a range.
const RANGE_ONE_IN: u64 = 4;
/// Most blocks of a range.
const RANGE: u64 = 16;
/// Logs from which an answer may be the part of the changes that fits into one.
const PARTIAL: usize = 10_000;
/// Topics to choose from: those of a logger, which counts down to one.
const LOW_TOPICS: u64 = 4;

const LATEST: &str = "latest";
const FINALIZED: &str = "finalized";

/// A user that polls filters of one execution client.
pub struct Watcher {
    /// The authority of the execution client, from 0.
    pub node: u8,
    /// The watcher's own random stream.
    pub rng: Rng,
    /// The invariants, which know the blocks and receive every violation.
    pub judge: Judge,
    /// Set when the watcher should stop.
    pub is_over: Arc<AtomicBool>,
}

/// The subject of a filter.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Blocks,
    /// Logs, of one topic if there is one.
    Logs(Option<B256>),
}

/// A filter that the watcher always keeps installed.
struct Watched {
    kind: Kind,
    is_seldom: bool,
    /// Time of the next poll.
    due: Instant,
    filter: Option<Filter>,
}

/// An installed filter.
struct Filter {
    id: U64,
    /// The number of starts of the execution client at the installation.
    starts: u64,
    installed: Instant,
    /// Time at which the last answered poll was sent.
    used: Instant,
    told: Told,
    /// The last comparison found a difference.
    is_doubted: bool,
}

enum Told {
    Blocks(ToldBlocks),
    Logs(ToldLogs),
}

/// A block of the execution client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Head {
    number: U64,
    hash: B256,
}

impl Head {
    fn height(&self) -> u64 {
        self.number.to()
    }
}

async fn head(client: &HttpClient, tag: &str) -> Option<Head> {
    let asked = (tag, false);
    let answer: Result<Option<Head>, CallError> = client.call("eth_getBlockByNumber", asked).await;
    answer.ok().flatten()
}

async fn uninstall(client: &HttpClient, id: U64) {
    // An execution client that does not answer removes the unused filter when it expires.
    let _: Result<bool, CallError> = client.call("eth_uninstallFilter", (id,)).await;
}

impl Watcher {
    /// Polls until the run is over or an invariant is violated.
    pub async fn run(mut self) {
        let client = rpc(self.node);
        let mut all = self.filters();
        let watched = self.watch(&client, &mut all).await;
        if let Err(violation) = watched {
            self.judge.accuse(now_ms(World::current()), violation);
        }
    }

    fn filters(&mut self) -> Vec<Watched> {
        let topic = self.topic();
        [
            (Kind::Blocks, false),
            (Kind::Logs(None), false),
            (Kind::Logs(topic), true),
        ]
        .into_iter()
        .map(|(kind, is_seldom)| Watched {
            kind,
            is_seldom,
            due: time::now(),
            filter: None,
        })
        .collect()
    }

    async fn watch(&mut self, client: &HttpClient, all: &mut [Watched]) -> Result<(), Violation> {
        let mut forgotten = None;
        while !self.is_over.load(Ordering::SeqCst) {
            let next = all.iter().map(|watched| watched.due).min();
            time::sleep_until(next.unwrap_or_else(time::now)).await;
            for watched in &mut *all {
                if watched.due <= time::now() {
                    self.visit(client, watched).await?;
                }
            }
            if self.rng.below(RANGE_ONE_IN) == 0 {
                self.search(client).await?;
            }
            self.forget(client, &mut forgotten).await?;
        }
        for _ in 0..LAST_POLLS {
            time::sleep(RETRY).await;
            for watched in &mut *all {
                if let Some(filter) = watched.filter.take() {
                    watched.filter = self.poll(client, filter).await?;
                }
            }
        }
        for filter in all.iter().filter_map(|watched| watched.filter.as_ref()) {
            uninstall(client, filter.id).await;
        }
        Ok(())
    }

    /// Installs a filter and does not use it, and checks after [`LONG_IDLE`] that it is removed.
    async fn forget(
        &self,
        client: &HttpClient,
        forgotten: &mut Option<(U64, Instant)>,
    ) -> Result<(), Violation> {
        let Some((id, installed)) = *forgotten else {
            let answer: Result<U64, CallError> = client.call("eth_newBlockFilter", json!([])).await;
            *forgotten = answer.ok().map(|id| (id, time::now()));
            return Ok(());
        };
        let idle = installed.elapsed();
        if idle < LONG_IDLE {
            return Ok(());
        }
        *forgotten = None;
        let answer: Result<Value, CallError> = client.call("eth_getFilterChanges", (id,)).await;
        match answer {
            Ok(_) => Err(self.differs(format!("a filter answers that was unused for {idle:?}"))),
            Err(_) => Ok(()),
        }
    }

    /// Polls a filter, or installs it if it is lost.
    async fn visit(&mut self, client: &HttpClient, watched: &mut Watched) -> Result<(), Violation> {
        watched.filter = match watched.filter.take() {
            Some(filter) => self.poll(client, filter).await?,
            None => self.install(client, watched.kind).await,
        };
        let pause = match &watched.filter {
            Some(filter) if filter.is_doubted => RETRY,
            Some(_) if watched.is_seldom => Duration::from_secs(1 << self.rng.below(LONG_POWERS)),
            Some(_) | None => Duration::from_millis(SHORT_MS + self.rng.below(MORE_MS)),
        };
        watched.due = time::now() + pause;
        Ok(())
    }

    /// Installs a filter while the head stands still. `None` if the head is not known for certain.
    async fn install(&mut self, client: &HttpClient, kind: Kind) -> Option<Filter> {
        let starts = self.starts();
        let begun = time::now();
        let before = head(client, LATEST).await?;
        let (method, params) = match kind {
            Kind::Blocks => ("eth_newBlockFilter", json!([])),
            Kind::Logs(topic) => ("eth_newFilter", json!([conditions(topic)])),
        };
        let answer: Result<U64, CallError> = client.call(method, params).await;
        let id = answer.ok()?;
        let after = head(client, LATEST).await;
        let is_still = after == Some(before) && begun.elapsed() <= AT_ONCE;
        let told = match kind {
            Kind::Blocks => Some(Told::Blocks(ToldBlocks::new(before.height(), before.hash))),
            Kind::Logs(topic) => self
                .emitted(before.height(), before)
                .map(|logs| Told::Logs(ToldLogs::new(topic, before.height(), logs))),
        };
        let Some(told) = told.filter(|_| is_still) else {
            uninstall(client, id).await;
            return None;
        };
        Some(Filter {
            id,
            starts,
            installed: begun,
            used: begun,
            told,
            is_doubted: false,
        })
    }

    /// Polls a filter and compares. `None` if the filter is lost, or if its position is unknown.
    async fn poll(
        &mut self,
        client: &HttpClient,
        mut filter: Filter,
    ) -> Result<Option<Filter>, Violation> {
        let begun = time::now();
        let before = head(client, LATEST).await;
        let asked = time::now();
        // On a connection of its own: on an idle one the call may be repeated, and the changes of
        // the first answer are lost.
        let answer = rpc(self.node)
            .call::<Value>("eth_getFilterChanges", (filter.id,))
            .await;
        let changes = match answer {
            Ok(changes) => changes,
            Err(CallError::Rpc { error, .. }) if error.message.contains(NOT_FOUND) => {
                self.may_be_lost(&filter)?;
                return Ok(None);
            }
            // The filter has not moved.
            Err(CallError::Rpc { .. } | CallError::Connect { .. }) => return Ok(Some(filter)),
            // It may have moved, and the changes are lost.
            Err(_) => {
                uninstall(client, filter.id).await;
                return Ok(None);
            }
        };
        filter.used = asked;
        if !self.tell(&mut filter, &changes)? {
            uninstall(client, filter.id).await;
            return Ok(None);
        }
        let is_partial = changes.as_array().is_some_and(|all| all.len() >= PARTIAL);
        let finalized = head(client, FINALIZED).await;
        let after = head(client, LATEST).await;
        if let (Some(before), Some(after), Some(finalized)) = (before, after, finalized)
            && before == after
            && begun.elapsed() <= AT_ONCE
            && !is_partial
        {
            self.compare(&mut filter, after, finalized.height())?;
        }
        Ok(Some(filter))
    }

    /// Checks that the execution client had a reason to remove a filter.
    fn may_be_lost(&self, filter: &Filter) -> Result<(), Violation> {
        let idle = filter.used.elapsed();
        if self.starts() != filter.starts || idle >= MAX_IDLE {
            self.count("watch.lost");
            return Ok(());
        }
        Err(Violation::FilterLost {
            node: self.node + 1,
            idle_ms: idle.as_millis() as u64,
            age_ms: filter.installed.elapsed().as_millis() as u64,
        })
    }

    /// Takes the changes of one poll. False if a block is unknown to the invariants, after which
    /// they cannot judge the filter.
    fn tell(&self, filter: &mut Filter, changes: &Value) -> Result<bool, Violation> {
        let odd = |_| self.differs(format!("eth_getFilterChanges: {changes}"));
        let told = match &mut filter.told {
            Told::Blocks(told) => {
                let hashes = Vec::<B256>::deserialize(changes).map_err(odd)?;
                let Some(blocks) = self.places(&hashes) else {
                    return Ok(false);
                };
                told.tell(&blocks)
            }
            Told::Logs(told) => {
                let logs = Vec::<ToldLog>::deserialize(changes).map_err(odd)?;
                told.tell(&logs).map(|removed| {
                    if removed > 0 {
                        self.count("watch.removed");
                    }
                })
            }
        };
        told.map_err(|what| self.differs(format!("eth_getFilterChanges: {what}")))?;
        Ok(true)
    }

    /// Height, hash and parent of each block; `None` if one is unknown.
    fn places(&self, hashes: &[B256]) -> Option<Vec<(u64, B256, B256)>> {
        let oracles = self.judge.look();
        let place = |hash: &B256| {
            let (height, parent) = oracles.emissions.place(hash)?;
            Some((height, *hash, parent))
        };
        hashes.iter().map(place).collect()
    }

    /// Compares the sum of the changes with the chain of this head.
    fn compare(&self, filter: &mut Filter, head: Head, finalized: u64) -> Result<(), Violation> {
        let (feature, compared) = match &mut filter.told {
            Told::Blocks(told) => (
                "watch.blocks",
                told.compare(head.height(), head.hash, finalized),
            ),
            Told::Logs(told) => {
                let Some(expected) = self.emitted(told.lowest(), head) else {
                    return Ok(());
                };
                (
                    "watch.logs",
                    told.compare(head.height(), expected, finalized),
                )
            }
        };
        match compared {
            Ok(()) => {
                self.count(feature);
                filter.is_doubted = false;
                Ok(())
            }
            Err(what) if filter.is_doubted => {
                Err(self.differs(format!("the changes up to block {}: {what}", head.hash)))
            }
            Err(_) => {
                filter.is_doubted = true;
                Ok(())
            }
        }
    }

    /// Searches logs over a range of the chain while the head stands still.
    async fn search(&mut self, client: &HttpClient) -> Result<(), Violation> {
        let topic = self.topic();
        for is_last in [false, true] {
            let begun = time::now();
            let Some(before) = head(client, LATEST).await else {
                return Ok(());
            };
            let height = before.height();
            let to = height - self.rng.below(RANGE.min(height) + 1);
            let from = to - self.rng.below(RANGE.min(to) + 1);
            let mut asked = conditions(topic);
            asked["fromBlock"] = json!(U64::from(from));
            asked["toBlock"] = json!(U64::from(to));
            let answer: Result<Vec<ToldLog>, CallError> =
                client.call("eth_getLogs", json!([asked])).await;
            let Ok(found) = answer else { return Ok(()) };
            let after = head(client, LATEST).await;
            if after != Some(before) || begun.elapsed() > AT_ONCE {
                return Ok(());
            }
            let Some(mut expected) = self.emitted(from, before) else {
                return Ok(());
            };
            expected.retain(|log| log.number <= to && topic.is_none_or(|one| log.topic == one));
            match same_logs(&found, &expected) {
                Ok(()) => {
                    self.count("watch.range");
                    return Ok(());
                }
                Err(what) if is_last => {
                    return Err(self.differs(format!("eth_getLogs {asked}: {what}")));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Draws a condition of a search: no topic, that of counters, or one of loggers.
    fn topic(&mut self) -> Option<B256> {
        let topic = match self.rng.below(LOW_TOPICS + 2) {
            0 => return None,
            1 => COUNTER_TOPIC,
            low => low - 1,
        };
        Some(B256::from(U256::from(topic)))
    }

    /// The logs of the chain from a height up to this head; `None` if they are unknown.
    fn emitted(&self, from: u64, head: Head) -> Option<Vec<Emitted>> {
        let mut guard = self.judge.look();
        let oracles = &mut *guard;
        let sent = &oracles.ledger.sent;
        oracles
            .emissions
            .between(from, head.hash, head.height(), sent)
    }

    /// The number of starts of the execution client.
    fn starts(&self) -> u64 {
        let oracles = self.judge.look();
        oracles
            .execution_starts
            .get(&self.node)
            .copied()
            .unwrap_or(0)
    }

    fn count(&self, feature: &'static str) {
        self.judge.look().ledger.coverage.count(feature);
    }

    fn differs(&self, what: String) -> Violation {
        Violation::FilterDiffers {
            node: self.node + 1,
            what,
        }
    }
}

/// The object of a search, without its range.
fn conditions(topic: Option<B256>) -> Value {
    match topic {
        Some(topic) => json!({ "topics": [topic] }),
        None => json!({}),
    }
}
