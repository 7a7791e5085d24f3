//! Filters: queries that return the changes since the last poll.
//!
//! A filter remembers the newest blocks that it has reported, so that it detects a reorganisation.
//! It then reports the logs of the blocks that left the chain again with `removed`, followed by
//! those of their replacements.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_primitives::U64;
use alloy_rpc_types_eth::{BlockId, Filter, FilterBlockOption, Log};
use alys_runtime::time::Instant;
use serde_json::{Value, json};

use super::shared::{quantity, to_json};
use crate::embedded::execution::{ChainView, Error, check_filter};
use crate::http::{Args, RpcError};
use crate::interceptor;

/// Limit of installed filters. A new one then replaces the least recently used.
const MAX_FILTERS: usize = 1_000;
/// Limit of the memory of all filters in bytes. A new one then replaces the least recently used.
const MAX_BYTES: usize = 16 << 20;
/// Memory of a filter without conditions, with the blocks that it remembers.
const FILTER_BYTES: usize = 4 << 10;
/// Memory of an address or a topic of a filter: the value in its set, and its bloom of 256 bytes.
const CONDITION_BYTES: usize = 384;
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
    /// The number of polls that have moved the cursor.
    polls: u64,
    /// Memory in bytes.
    bytes: usize,
}

#[derive(Clone)]
enum FilterKind {
    Blocks,
    Logs(Arc<Filter>),
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
    view: &ChainView,
    method: &str,
    params: Value,
) -> Result<Value, RpcError> {
    let mut args = Args::new(params, if method == "eth_newBlockFilter" { 0 } else { 1 })?;
    match method {
        "eth_newBlockFilter" => Ok(filters.add(view, FilterKind::Blocks, 0)),
        "eth_newFilter" => {
            let filter: Filter = args.required()?;
            if matches!(filter.block_option, FilterBlockOption::AtBlockHash(_)) {
                return Err(RpcError::invalid_params(
                    "a filter cannot follow a single block",
                ));
            }
            let conditions = check_filter(&filter)?;
            Ok(filters.add(view, FilterKind::Logs(Arc::new(filter)), conditions))
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
            to_json(view.logs(&filter)?)
        }
        _ => {
            let id: U64 = args.required()?;
            filters.poll(id, view)
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

    /// Installs a filter with this number of addresses and topics.
    fn add(&self, view: &ChainView, kind: FilterKind, conditions: usize) -> Value {
        let now = alys_runtime::time::now();
        let bytes = FILTER_BYTES + conditions * CONDITION_BYTES;
        let mut by_id = self.lock();
        by_id.retain(|_, entry| now.saturating_duration_since(entry.last_used) < MAX_IDLE);
        let mut total: usize = by_id.values().map(|entry| entry.bytes).sum();
        while by_id.len() >= MAX_FILTERS || total + bytes > MAX_BYTES {
            let oldest = by_id.iter().min_by_key(|(_, entry)| entry.last_used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            total -= by_id.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
        let head = view.head();
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
                polls: 0,
                bytes,
            },
        );
        quantity(id)
    }

    /// The changes since the last poll. The search locks no filter, so polls of different filters
    /// do not wait for each other. Of two polls of one filter at a time, the first one to end
    /// reports the changes.
    fn poll(&self, id: U64, view: &ChainView) -> Result<Value, RpcError> {
        let (kind, mut cursor, polls) = {
            let by_id = self.touch(id)?;
            let entry = by_id.get(&id.to()).ok_or_else(not_found)?;
            (entry.kind.clone(), entry.cursor.clone(), entry.polls)
        };
        let changes = changes(&kind, &mut cursor, view)?;
        if view.is_superseded() {
            return Err(Error::Superseded.into());
        }
        let mut by_id = self.lock();
        let entry = by_id.get_mut(&id.to()).ok_or_else(not_found)?;
        if entry.polls != polls {
            return Ok(json!([]));
        }
        // The cursor moves last, so that an error above loses no change.
        entry.cursor = cursor;
        entry.polls += 1;
        Ok(changes)
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
        entry.last_used = interceptor::filter_used(entry.last_used, now);
        Ok(by_id)
    }
}

/// The changes since `cursor`, which moves past them.
fn changes(kind: &FilterKind, cursor: &mut Cursor, view: &ChainView) -> Result<Value, RpcError> {
    let before = cursor.next;
    let removed = cursor.rewind(view)?;
    let rewound = cursor.clone();
    let from = interceptor::first_searched(before, cursor.next);
    let added = cursor.advance(view, view.head().number)?;
    let filter = match kind {
        FilterKind::Blocks => {
            let hashes: Vec<_> = added.iter().map(|block| block.hash).collect();
            return Ok(json!(hashes));
        }
        FilterKind::Logs(filter) => filter,
    };
    let mut logs = Vec::new();
    for block in removed {
        // A pruned block has no logs to report.
        let Some(removed_logs) = view.removed_logs(block.hash, filter)? else {
            continue;
        };
        logs.extend(removed_logs.into_iter().map(|log| Log {
            removed: true,
            ..log
        }));
    }
    if let Some(last) = added.last()
        && let Some(filter) = within(filter, view, from, last.number)
    {
        match view.logs(&filter) {
            // The caller cannot choose a smaller range, so the next poll continues after the blocks
            // whose logs fit into this answer.
            Err(Error::TooManyLogs { to, .. }) => {
                *cursor = rewound;
                cursor.advance(view, to)?;
                logs.extend(view.logs(&filter.to_block(to))?);
            }
            found => logs.extend(found?),
        }
    }
    to_json(logs)
}

/// The filter restricted to the blocks `from..=to`; `None` when it matches none of them.
fn within(filter: &Filter, view: &ChainView, from: u64, to: u64) -> Option<Filter> {
    let number = |tag: Option<BlockNumberOrTag>, default| match tag {
        Some(BlockNumberOrTag::Number(number)) => number,
        Some(BlockNumberOrTag::Earliest) => 0,
        Some(BlockNumberOrTag::Finalized) => view.finalized().number,
        Some(BlockNumberOrTag::Safe) => view.safe().number,
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
    fn rewind(&mut self, view: &ChainView) -> Result<Vec<BlockNumHash>, RpcError> {
        let mut removed = Vec::new();
        while let Some(newest) = self.blocks.back() {
            if canonical(view, newest.number)?.is_some_and(|block| block.hash == newest.hash) {
                break;
            }
            self.next = newest.number;
            removed.extend(self.blocks.pop_back());
        }
        Ok(removed)
    }

    /// Adds and returns at most [`MAX_BLOCKS_PER_POLL`] blocks up to block `to`, oldest first.
    fn advance(&mut self, view: &ChainView, to: u64) -> Result<Vec<BlockNumHash>, RpcError> {
        let end = to.min(self.next.saturating_add(MAX_BLOCKS_PER_POLL - 1));
        let mut added = Vec::new();
        while self.next <= end {
            let Some(block) = canonical(view, self.next)? else {
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

fn canonical(view: &ChainView, number: u64) -> Result<Option<BlockNumHash>, RpcError> {
    let header = view.header(BlockId::number(number))?;
    Ok(header.map(|header| BlockNumHash::new(number, header.hash)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use alys_storage::MemoryStore;

    use super::super::tests::genesis;
    use super::*;
    use crate::embedded::execution::{CoreConfig, ExecutionCore, Meter};
    use crate::execution::PayloadFork;

    /// A poll that searches for long holds up no other one.
    #[test]
    fn a_poll_locks_no_filter_while_it_searches() {
        alys_runtime::block_on_main(async {
            let store = Arc::new(MemoryStore::new());
            let genesis = genesis(PayloadFork::Deneb);
            let core = ExecutionCore::open(store, &genesis, CoreConfig::default()).unwrap();
            let view = core.reader().view();
            let filters = Arc::new(Filters::default());
            let id = filters.add(&view, FilterKind::Logs(Arc::default()), 0);
            let id: U64 = serde_json::from_value(id).unwrap();
            // As if block 0 were new.
            filters.lock().get_mut(&id.to()).unwrap().cursor = Cursor {
                blocks: VecDeque::new(),
                next: 0,
            };
            let searches = Arc::new(AtomicU32::new(0));
            // Called by the search, for each block.
            let meter = Meter::new({
                let (filters, searches, view) = (filters.clone(), searches.clone(), view.clone());
                move || {
                    searches.fetch_add(1, Ordering::SeqCst);
                    assert!(filters.by_id.try_lock().is_ok(), "the search locks filters");
                    assert_eq!(filters.poll(id, &view), Ok(json!([])));
                    None
                }
            });
            assert_eq!(filters.poll(id, &view.metered(meter)), Ok(json!([])));
            assert_eq!(searches.load(Ordering::SeqCst), 1);
            // The poll within the search was the first to end and moved the filter.
            let entry = &filters.lock()[&id.to()];
            assert_eq!((entry.polls, entry.cursor.next), (1, 1));
        });
    }
}
