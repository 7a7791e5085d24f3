//! Filters: queries that remember what was already told.
//!
//! A filter remembers the newest blocks it has told of, so that a reorganisation is noticed: logs of blocks that left
//! the chain are told again with `removed`, then those of the blocks that took their place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_primitives::U64;
use alloy_rpc_types_eth::{BlockId, Filter, FilterBlockOption, Log};
use alys_runtime::time::Instant;
use serde_json::{Value, json};

use super::node::{quantity, to_json};
use crate::embedded::execution::{ExecutionCore, limits};
use crate::http::{Args, RpcError};

/// Filters at once; a new one replaces the one not asked for the longest.
const MAX_FILTERS: usize = 1_000;
/// A filter that nobody asks for is forgotten after this, as in Geth.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// Blocks one poll goes ahead; the next poll goes on from there.
const MAX_BLOCKS_PER_POLL: u64 = 1_000;
/// Blocks a filter remembers: reorganisations deeper than this tell nothing of what was removed.
const MAX_REMEMBERED: usize = 64;

#[derive(Default)]
pub(super) struct Filters {
    by_id: Mutex<BTreeMap<u64, Entry>>,
}

struct Entry {
    kind: Kind,
    last_used: Instant,
    told: Told,
}

enum Kind {
    Blocks,
    Logs(Box<Filter>),
}

/// Up to where a filter has told.
struct Told {
    /// The newest blocks, oldest first; their numbers are consecutive.
    blocks: VecDeque<BlockNumHash>,
    /// The first block of which nothing was told.
    next: u64,
}

pub(super) fn call(
    filters: &Filters,
    core: &ExecutionCore,
    method: &str,
    params: Value,
) -> Result<Value, RpcError> {
    let mut args = Args::new(params, if method == "eth_newBlockFilter" { 0 } else { 1 })?;
    match method {
        "eth_newBlockFilter" => Ok(filters.add(core, Kind::Blocks)),
        "eth_newFilter" => {
            let filter: Filter = args.required()?;
            if matches!(filter.block_option, FilterBlockOption::AtBlockHash(_)) {
                return Err(RpcError::invalid_params(
                    "a filter cannot follow a single block",
                ));
            }
            Ok(filters.add(core, Kind::Logs(Box::new(filter))))
        }
        "eth_uninstallFilter" => {
            let id: U64 = args.required()?;
            Ok(filters.lock().remove(&id.to()).is_some().into())
        }
        "eth_getFilterLogs" => {
            let id: U64 = args.required()?;
            // Cloned, so that a long search does not hold up the other filters.
            let filter = match filters.used(id)?.get(&id.to()).map(|entry| &entry.kind) {
                Some(Kind::Logs(filter)) => filter.clone(),
                Some(Kind::Blocks) | None => return Err(not_found()),
            };
            to_json(core.logs(&filter)?)
        }
        _ => {
            let id: U64 = args.required()?;
            let mut by_id = filters.used(id)?;
            by_id.get_mut(&id.to()).ok_or_else(not_found)?.changes(core)
        }
    }
}

fn not_found() -> RpcError {
    RpcError::server("filter not found")
}

impl Filters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, core: &ExecutionCore, kind: Kind) -> Value {
        let now = alys_runtime::time::now();
        let mut by_id = self.lock();
        by_id.retain(|_, entry| now.saturating_duration_since(entry.last_used) < MAX_IDLE);
        if by_id.len() >= MAX_FILTERS {
            let oldest = by_id
                .iter()
                .min_by_key(|(_, entry)| entry.last_used)
                .map(|(id, _)| *id);
            oldest.map(|oldest| by_id.remove(&oldest));
        }
        let head = core.head();
        let told = Told {
            blocks: VecDeque::from([head]),
            next: head.number + 1,
        };
        // Not to be guessed: a filter answers whoever knows its id.
        let id = alys_runtime::rand::u64();
        by_id.insert(
            id,
            Entry {
                kind,
                last_used: now,
                told,
            },
        );
        quantity(id)
    }

    /// All filters, `id` marked as used just now.
    fn used(&self, id: U64) -> Result<MutexGuard<'_, BTreeMap<u64, Entry>>, RpcError> {
        let now = alys_runtime::time::now();
        let mut by_id = self.lock();
        let entry = by_id.get_mut(&id.to()).ok_or_else(not_found)?;
        if now.saturating_duration_since(entry.last_used) >= MAX_IDLE {
            by_id.remove(&id.to());
            return Err(not_found());
        }
        entry.last_used = now;
        Ok(by_id)
    }
}

impl Entry {
    fn changes(&mut self, core: &ExecutionCore) -> Result<Value, RpcError> {
        let mut told = Told {
            blocks: self.told.blocks.clone(),
            next: self.told.next,
        };
        let removed = told.step_back(core)?;
        let from = told.next;
        let added = told.step_ahead(core)?;
        let changes = match &self.kind {
            Kind::Blocks => json!(added.iter().map(|block| block.hash).collect::<Vec<_>>()),
            Kind::Logs(filter) => {
                let mut logs = Vec::new();
                for block in removed {
                    // Side blocks are dropped some time after finality has passed them; nothing to tell then.
                    let Ok(gone) = core.logs(&(**filter).clone().at_block_hash(block.hash)) else {
                        continue;
                    };
                    logs.extend(gone.into_iter().map(|log| Log {
                        removed: true,
                        ..log
                    }));
                }
                if let Some(last) = added.last()
                    && let Some(filter) = within(filter, core, from, last.number)
                {
                    logs.extend(core.logs(&filter)?);
                }
                to_json(logs)?
            }
        };
        // Only now: an error above must not lose anything.
        self.told = told;
        Ok(changes)
    }
}

/// The filter cut to the blocks `from..=to`; `None` when it asks for none of them.
fn within(filter: &Filter, core: &ExecutionCore, from: u64, to: u64) -> Option<Filter> {
    let number = |tag: Option<BlockNumberOrTag>, default| match tag {
        Some(BlockNumberOrTag::Number(number)) => number,
        Some(BlockNumberOrTag::Earliest) => 0,
        Some(BlockNumberOrTag::Finalized) => core.finalized().number,
        Some(BlockNumberOrTag::Safe) => core.safe().number,
        Some(BlockNumberOrTag::Latest | BlockNumberOrTag::Pending) | None => default,
    };
    let (first, last) = match filter.block_option {
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => (
            number(from_block, from).max(from),
            number(to_block, to).min(to),
        ),
        FilterBlockOption::AtBlockHash(_) => return None,
    };
    (first <= last).then(|| filter.clone().from_block(first).to_block(last))
}

impl Told {
    /// Forgets the blocks that are not in the chain any more, and gives them, newest first.
    fn step_back(&mut self, core: &ExecutionCore) -> Result<Vec<BlockNumHash>, RpcError> {
        let mut gone = Vec::new();
        while let Some(newest) = self.blocks.back() {
            if canonical(core, newest.number)?.is_some_and(|block| block.hash == newest.hash) {
                break;
            }
            self.next = newest.number;
            gone.extend(self.blocks.pop_back());
        }
        Ok(gone)
    }

    /// Takes in the blocks up to the head, bounded, and gives them, oldest first.
    fn step_ahead(&mut self, core: &ExecutionCore) -> Result<Vec<BlockNumHash>, RpcError> {
        const { assert!(MAX_BLOCKS_PER_POLL <= limits::LOG_BLOCK_RANGE) };
        let end = core
            .head()
            .number
            .min(self.next.saturating_add(MAX_BLOCKS_PER_POLL - 1));
        let mut added = Vec::new();
        while self.next <= end {
            let Some(block) = canonical(core, self.next)? else {
                break;
            };
            added.push(block);
            self.blocks.push_back(block);
            if self.blocks.len() > MAX_REMEMBERED {
                self.blocks.pop_front();
            }
            self.next += 1;
        }
        Ok(added)
    }
}

fn canonical(core: &ExecutionCore, number: u64) -> Result<Option<BlockNumHash>, RpcError> {
    if number > core.head().number {
        return Ok(None);
    }
    let block = core.block(BlockId::number(number))?;
    Ok(block.map(|block| BlockNumHash::new(number, block.hash)))
}
