//! Additions of blocks to the ledger, from the receipts of the execution client (rules 5.4 and
//! 5.25, docs/protocol.md).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_consensus::federation::FINALITY_WINDOW;
use alys_peg::{Additions, ReceiptsError, receipts};
use alys_runtime::buggify;
use alys_runtime::log_limit::LogLimit;
use alys_runtime::time::{self, Instant};
use alys_runtime::trace::reached;
use alys_types::{Block, Hash, Header};

use super::actor::{EngineActor, EngineError};

/// Time without the receipts of a block after which the operator is told. A client that executes or
/// stores them late has them within a slot or two.
const PATIENCE: Duration = Duration::from_secs(10);
/// Blocks without receipts that are remembered: all that can wait for theirs at once.
const MAX_MISSING: usize = FINALITY_WINDOW as usize;

/// Blocks whose receipts the client does not have, and the log lines about them.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Time of the first answer without receipts, by block.
    since: BTreeMap<Hash, Instant>,
    /// The operator was told, and the client has served no receipts since.
    is_reported: bool,
    /// Limits the lines about receipts that are not those of their block.
    mismatches: LogLimit,
}

impl Missing {
    pub(super) fn len(&self) -> usize {
        self.since.len()
    }

    /// Records an answer without receipts. Returns the time since the first one if the operator has
    /// to be told.
    fn lacks(&mut self, hash: Hash, now: Instant) -> Option<Duration> {
        if self.since.len() >= MAX_MISSING && !self.since.contains_key(&hash) {
            // They belong to branches that the chain has left, because it asks about all others
            // again.
            self.since.clear();
        }
        let first = *self.since.entry(hash).or_insert(now);
        let waited = now.saturating_duration_since(first);
        if self.is_reported || waited < PATIENCE {
            return None;
        }
        self.is_reported = true;
        Some(waited)
    }

    fn has(&mut self, hash: &Hash) {
        self.since.remove(hash);
        self.is_reported = false;
    }
}

impl EngineActor {
    /// The additions of a block, loaded from the storage if `block` is none; `None` if they are not
    /// known yet.
    pub(super) async fn account(
        &mut self,
        hash: Hash,
        block: Option<Arc<Block>>,
    ) -> Result<Option<Additions>, EngineError> {
        if hash == self.genesis.hash() {
            return Ok(Some(Additions::default()));
        }
        let stored = match block {
            Some(block) => Some(block),
            None => self.storage.block(hash).await?,
        };
        let Some(block) = stored else {
            // Another branch may have become final since the chain asked.
            return Ok(None);
        };
        if buggify!("node.engine.no_receipts", 50_000) {
            return Ok(None);
        }
        let payload = &block.body.payload;
        let found = if payload.transactions.is_empty() {
            Some(Vec::new())
        } else {
            let execution_hash = block.header.execution_hash.into();
            let found = self.client.receipts(execution_hash).await;
            let Some(found) = self.track(found).await else {
                return Ok(None);
            };
            found
        };
        let Some(found) = found else {
            reached("state.engine.no_receipts");
            self.metrics.missing_receipts.inc();
            self.report_missing(hash, &block.header);
            return Ok(None);
        };
        match receipts::tips(payload, &found) {
            Ok(tips) => {
                self.missing.has(&hash);
                Ok(Some(Additions { tips }))
            }
            Err(error) => {
                reached("state.engine.wrong_receipts");
                self.metrics.wrong_receipts.inc();
                self.report_wrong(&block.header, &error).await;
                Ok(None)
            }
        }
    }

    /// Tells the operator, once until the client serves receipts again, that it lacks those of a
    /// block.
    fn report_missing(&mut self, hash: Hash, header: &Header) {
        let Header { height, slot, .. } = header;
        match self.missing.lacks(hash, time::now()) {
            Some(waited) => tracing::warn!(
                %height, %slot, ?waited,
                "the execution client lacks the receipts of a block that it executed, and without \
                 them this node neither proposes nor approves: let it keep receipts (EthereumJS: \
                 --saveReceipts; Reth: without --full, --minimal and --prune.receipts; Geth keeps \
                 them), or remove its chain, so that it executes all blocks again"
            ),
            None => tracing::debug!(%height, %slot, "the execution client lacks receipts"),
        }
    }

    /// Tells the operator that the client has other receipts than the block.
    async fn report_wrong(&mut self, header: &Header, error: &ReceiptsError) {
        let Header { height, slot, .. } = header;
        let Some(left_out) = self.missing.mismatches.admit(time::now()) else {
            tracing::debug!(%height, %slot, %error, "receipts do not match their block");
            return;
        };
        let client = self.client.client_version().await;
        let client = client.unwrap_or_else(|_| "unknown execution client".to_owned());
        tracing::warn!(
            %height, %slot, %error, client, left_out,
            "the execution client's receipts are not those of the block, which it called valid; \
             asking again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_once_until_receipts_are_served_again() {
        alys_runtime::block_on_main(async {
            let start = time::now();
            let hash = |mark| Hash([mark; 32]);
            let mut missing = Missing::default();
            // (seconds, block, told)
            let table = [
                (0, 1, false),
                (9, 1, false),
                (9, 2, false),
                (10, 1, true),
                (11, 1, false),
                (60, 2, false),
            ];
            for (seconds, block, told) in table {
                let waited = missing.lacks(hash(block), start + Duration::from_secs(seconds));
                assert_eq!(waited.is_some(), told, "block {block} at {seconds} s");
            }
            missing.has(&hash(1));
            let waited = missing.lacks(hash(2), start + Duration::from_secs(61));
            assert_eq!(waited, Some(Duration::from_secs(52)));
        });
    }

    #[test]
    fn blocks_without_receipts_are_bounded() {
        let mut missing = Missing::default();
        for number in 0..3 * MAX_MISSING as u64 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            missing.lacks(Hash(hash), time::now());
            assert!(missing.len() <= MAX_MISSING);
        }
    }
}
