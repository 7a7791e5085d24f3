//! Filters: queries that return the changes since the last poll.
//!
//! A filter remembers the newest blocks that it has reported, so that it detects a reorganisation.
//! It then reports the logs of the blocks that left the chain again with `removed`, followed by
//! those of their replacements.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_primitives::U64;
use alloy_rpc_types_eth::{BlockId, Filter, FilterBlockOption, Log};
use alys_runtime::time::Instant;
use serde_json::{Value, json};

use super::shared::{quantity, to_json};
use crate::embedded::execution::ExecutionCore;
use crate::http::{Args, RpcError};

/// Limit of installed filters. A new one then replaces the least recently used.
const MAX_FILTERS: usize = 1_000;
/// A filter that is not polled for this time is removed, as in Geth.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// Blocks that one poll advances at most; the next poll continues there.
const MAX_BLOCKS_PER_POLL: u64 = 1_000;
/// Blocks that a filter remembers. A deeper reorganisation reports no removed logs of older blocks.
const MAX_REMEMBERED: usize = 64;

#[derive(Default)]
pub(super) struct Filters {
    by_id: Mutex<BTreeMap<u64, InstalledFilter>>,
}

struct InstalledFilter {
    kind: FilterKind,
    last_used: Instant,
    cursor: Cursor,
}

enum FilterKind {
    Blocks,
    Logs(Box<Filter>),
}

/// The position up to which a filter has reported.
#[derive(Clone)]
struct Cursor {
    /// The newest reported blocks, oldest first, with consecutive numbers.
    blocks: VecDeque<BlockNumHash>,
    /// The number of the first unreported block.
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
        "eth_newBlockFilter" => Ok(filters.add(core, FilterKind::Blocks)),
        "eth_newFilter" => {
            let filter: Filter = args.required()?;
            if matches!(filter.block_option, FilterBlockOption::AtBlockHash(_)) {
                return Err(RpcError::invalid_params(
                    "a filter cannot follow a single block",
                ));
            }
            Ok(filters.add(core, FilterKind::Logs(Box::new(filter))))
        }
        "eth_uninstallFilter" => {
            let id: U64 = args.required()?;
            Ok(filters.lock().remove(&id.to()).is_some().into())
        }
        "eth_getFilterLogs" => {
            let id: U64 = args.required()?;
            // Cloned, so that a long search does not lock the other filters.
            let filter = match filters.touch(id)?.get(&id.to()).map(|entry| &entry.kind) {
                Some(FilterKind::Logs(filter)) => filter.clone(),
                Some(FilterKind::Blocks) | None => return Err(not_found()),
            };
            to_json(core.logs(&filter)?)
        }
        _ => {
            let id: U64 = args.required()?;
            let mut by_id = filters.touch(id)?;
            by_id.get_mut(&id.to()).ok_or_else(not_found)?.changes(core)
        }
    }
}

fn not_found() -> RpcError {
    RpcError::server("filter not found")
}

impl Filters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, InstalledFilter>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, core: &ExecutionCore, kind: FilterKind) -> Value {
        let now = alys_runtime::time::now();
        let mut by_id = self.lock();
        by_id.retain(|_, entry| now.saturating_duration_since(entry.last_used) < MAX_IDLE);
        if by_id.len() >= MAX_FILTERS {
            let oldest = by_id.iter().min_by_key(|(_, entry)| entry.last_used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                by_id.remove(&oldest);
            }
        }
        let head = core.head();
        let cursor = Cursor {
            blocks: VecDeque::from([head]),
            next: head.number + 1,
        };
        // Random, because knowledge of the id suffices to poll a filter.
        let id = alys_runtime::rand::u64();
        by_id.insert(
            id,
            InstalledFilter {
                kind,
                last_used: now,
                cursor,
            },
        );
        quantity(id)
    }

    /// Locks all filters and marks `id` as used.
    fn touch(&self, id: U64) -> Result<MutexGuard<'_, BTreeMap<u64, InstalledFilter>>, RpcError> {
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

impl InstalledFilter {
    fn changes(&mut self, core: &ExecutionCore) -> Result<Value, RpcError> {
        let mut cursor = self.cursor.clone();
        let removed = cursor.rewind(core)?;
        let from = cursor.next;
        let added = cursor.advance(core)?;
        let changes = match &self.kind {
            FilterKind::Blocks => json!(added.iter().map(|block| block.hash).collect::<Vec<_>>()),
            FilterKind::Logs(filter) => {
                let mut logs = Vec::new();
                for block in removed {
                    // Side blocks are pruned some time after finality, and their logs with them.
                    let at_block = (**filter).clone().at_block_hash(block.hash);
                    let Ok(removed_logs) = core.logs(&at_block) else {
                        continue;
                    };
                    logs.extend(removed_logs.into_iter().map(|log| Log {
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
        // The cursor moves last, so that an error above loses no change.
        self.cursor = cursor;
        Ok(changes)
    }
}

/// The filter restricted to the blocks `from..=to`; `None` when it matches none of them.
fn within(filter: &Filter, core: &ExecutionCore, from: u64, to: u64) -> Option<Filter> {
    let number = |tag: Option<BlockNumberOrTag>, default| match tag {
        Some(BlockNumberOrTag::Number(number)) => number,
        Some(BlockNumberOrTag::Earliest) => 0,
        Some(BlockNumberOrTag::Finalized) => core.finalized().number,
        Some(BlockNumberOrTag::Safe) => core.safe().number,
        Some(BlockNumberOrTag::Latest | BlockNumberOrTag::Pending) | None => default,
    };
    let FilterBlockOption::Range {
        from_block,
        to_block,
    } = filter.block_option
    else {
        return None;
    };
    let first = number(from_block, from).max(from);
    let last = number(to_block, to).min(to);
    (first <= last).then(|| filter.clone().from_block(first).to_block(last))
}

impl Cursor {
    /// Removes and returns the blocks that have left the chain, newest first.
    fn rewind(&mut self, core: &ExecutionCore) -> Result<Vec<BlockNumHash>, RpcError> {
        let mut removed = Vec::new();
        while let Some(newest) = self.blocks.back() {
            if canonical(core, newest.number)?.is_some_and(|block| block.hash == newest.hash) {
                break;
            }
            self.next = newest.number;
            removed.extend(self.blocks.pop_back());
        }
        Ok(removed)
    }

    /// Adds and returns at most [`MAX_BLOCKS_PER_POLL`] blocks up to the head, oldest first.
    fn advance(&mut self, core: &ExecutionCore) -> Result<Vec<BlockNumHash>, RpcError> {
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
