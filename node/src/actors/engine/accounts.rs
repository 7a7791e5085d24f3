//! Additions of blocks to the ledger, from receipts (rules 5.4 and 5.25, docs/protocol.md): those
//! of the execution client, or of peers if it lost them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::ReceiptEnvelope;
use alys_peg::{Additions, ReceiptsError};
use alys_runtime::buggify;
use alys_runtime::log_limit::LogLimit;
use alys_runtime::time::{self, Instant};
use alys_runtime::trace::reached;
use alys_types::{Block, Hash, Header};

use super::actor::{EngineActor, EngineError};
use crate::actors::peers::PeerMessage;
use crate::interceptor;

/// Time without receipts after which the operator is told. A client that stores them late has them
/// within a slot or two, and peers answer within as much.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time without the receipts of a block after which peers are asked for them. EthereumJS has them
/// once the block is its head, which takes the certificate of the block.
const FETCH_AFTER: Duration = Duration::from_millis(400);
/// Longest pause between two questions to the client for the same receipts. The chain asks ten
/// times in a second, and some clients execute the block for an answer.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Time after which a block is forgotten about which the chain does not ask again: it asks in every
/// slot until it knows the additions, or has left the branch.
const FORGET_AFTER: Duration = Duration::from_secs(120);
/// Blocks without receipts that are remembered: more than the chain asks for at once.
const MAX_MISSING: usize = 256;
/// Blocks whose receipts of peers are kept until the chain asks again. Four are fetched at once.
const MAX_FETCHED: usize = 4;

/// Receipts that the client does not have, and the log lines about them.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Times of the first and the last answer of the client without receipts, by block.
    blocks: BTreeMap<Hash, (Instant, Instant)>,
    /// Time of the first question that the client did not answer since it last served receipts.
    unserved: Option<Instant>,
    /// The operator was told, and no block has been accounted for since.
    is_reported: bool,
    /// Limits the lines about receipts that are not those of their block.
    mismatches: LogLimit,
}

impl Missing {
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Records that the client lacks the receipts of a block. Returns the time without them, of
    /// this block or of all.
    fn note(&mut self, hash: Hash, now: Instant) -> Duration {
        let unserved = *self.unserved.get_or_insert(now);
        let (first, last) = self.blocks.entry(hash).or_insert((now, now));
        *last = now;
        let since = unserved.min(*first);
        if self.blocks.len() > MAX_MISSING {
            let oldest = self.blocks.iter().min_by_key(|(_, (_, last))| *last);
            let oldest = oldest.map(|(hash, _)| *hash);
            oldest.and_then(|hash| self.blocks.remove(&hash));
        }
        now.saturating_duration_since(since)
    }

    /// As [`note`](Self::note); returns the time if the operator has to be told.
    fn lacks(&mut self, hash: Hash, now: Instant) -> Option<Duration> {
        let waited = self.note(hash, now);
        if self.is_reported || waited < PATIENCE {
            return None;
        }
        self.is_reported = true;
        Some(waited)
    }

    /// False while the client was asked for the receipts of this block a moment ago. The pause
    /// grows with the time without them.
    fn is_due(&self, hash: &Hash, now: Instant) -> bool {
        self.blocks.get(hash).is_none_or(|(first, last)| {
            let pause = last.saturating_duration_since(*first) / 4;
            now.saturating_duration_since(*last) >= pause.min(MAX_PAUSE)
        })
    }

    /// True if peers are to be asked for the receipts of a block.
    fn is_long(&self, hash: &Hash, now: Instant) -> bool {
        let first = self.blocks.get(hash).map(|(first, _)| *first);
        first.is_some_and(|first| now.saturating_duration_since(first) >= FETCH_AFTER)
    }

    /// The client served the receipts of a block.
    fn served(&mut self, hash: &Hash) {
        self.blocks.remove(hash);
        self.unserved = None;
        self.is_reported = false;
    }

    /// A peer served the receipts of a block.
    fn fetched(&mut self, hash: &Hash) {
        self.blocks.remove(hash);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < FORGET_AFTER;
        self.blocks.retain(|_, (_, last)| is_recent(*last));
    }
}

/// Receipts of peers, until the chain asks about their blocks again.
#[derive(Debug, Default)]
pub(super) struct Fetched(BTreeMap<Hash, Vec<ReceiptEnvelope>>);

impl Fetched {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn insert(&mut self, hash: Hash, receipts: Vec<ReceiptEnvelope>) {
        // Blocks of a branch that the chain has left would keep their places for good.
        if self.0.len() >= MAX_FETCHED {
            self.0.pop_first();
        }
        self.0.insert(hash, receipts);
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
        let payload = &block.body.payload;
        if let Some(found) = self.fetched.0.remove(&hash) {
            match interceptor::tips(payload, &found) {
                Ok(tips) => {
                    reached("state.engine.fetched_receipts");
                    self.missing.fetched(&hash);
                    return Ok(Some(Additions { tips }));
                }
                // The PeerActor checked the root, so the payload itself is not as it must be.
                Err(error) => tracing::debug!(%hash, %error, "receipts of a peer are of no use"),
            }
        }
        let root = payload.receipts_root;
        let found = if payload.transactions.is_empty() {
            Some(Vec::new())
        } else if !self.missing.is_due(&hash, time::now()) {
            self.fetch_receipts(hash, root);
            return Ok(None);
        } else {
            let execution_hash = block.header.execution_hash.into();
            let found = self.client.receipts(execution_hash).await;
            let found = self.track(found).await;
            if found.is_none() && !self.is_reachable {
                return Ok(None);
            }
            // A refusal counts as an answer without receipts.
            let found = found.flatten();
            found.filter(|_| !buggify!("node.engine.no_receipts", 50_000))
        };
        let Some(found) = found else {
            reached("state.engine.no_receipts");
            self.metrics.missing_receipts.inc();
            self.report_missing(hash, &block.header);
            self.fetch_receipts(hash, root);
            return Ok(None);
        };
        match interceptor::tips(payload, &found) {
            Ok(tips) => {
                if !payload.transactions.is_empty() {
                    self.missing.served(&hash);
                }
                Ok(Some(Additions { tips }))
            }
            Err(error) => {
                reached("state.engine.wrong_receipts");
                self.metrics.wrong_receipts.inc();
                self.report_wrong(&block.header, &error).await;
                self.missing.note(hash, time::now());
                self.fetch_receipts(hash, root);
                Ok(None)
            }
        }
    }

    /// Asks a peer for receipts that the client has lacked for a while. The chain asks again, so
    /// that a request that the PeerActor does not take is repeated.
    fn fetch_receipts(&self, hash: Hash, root: Hash) {
        if !self.missing.is_long(&hash, time::now()) {
            return;
        }
        let fetch = PeerMessage::FetchReceipts { hash, root };
        if self.peers.tell(fetch).is_err() {
            tracing::debug!(%hash, "the PeerActor is busy: receipts are fetched later");
        }
    }

    /// Tells the operator, once until the client serves receipts again, that it lacks those of a
    /// block.
    fn report_missing(&mut self, hash: Hash, header: &Header) {
        let Header { height, slot, .. } = header;
        match self.missing.lacks(hash, time::now()) {
            Some(waited) => tracing::warn!(
                %height, %slot, ?waited,
                "the execution client lacks the receipts of blocks that it executed, and this node \
                 neither proposes nor approves until a peer sends them: let it keep receipts \
                 (EthereumJS: --saveReceipts; Reth: without --full, --minimal and \
                 --prune.receipts; Geth and ethrex keep them), and if they stay lost, remove its \
                 chain, so that it executes all blocks again"
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
             asking peers and it again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> Hash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Hash(hash)
    }

    #[test]
    fn the_operator_is_told_once_until_receipts_are_served_again() {
        alys_runtime::block_on_main(async {
            let start = time::now();
            let at = |seconds| start + Duration::from_secs(seconds);
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
                let waited = missing.lacks(hash(block), at(seconds));
                assert_eq!(waited.is_some(), told, "block {block} at {seconds} s");
            }
            // One block stays lost while the client serves others.
            missing.served(&hash(1));
            let waited = missing.lacks(hash(2), at(61));
            assert_eq!(waited, Some(Duration::from_secs(52)));
            // Peers have what the client loses each time.
            missing.served(&hash(2));
            missing.fetched(&hash(2));
            for (seconds, told) in [(70, false), (75, false), (81, true), (90, false)] {
                let waited = missing.lacks(hash(seconds), at(seconds));
                assert_eq!(waited.is_some(), told, "at {seconds} s");
                missing.fetched(&hash(seconds));
            }
        });
    }

    #[test]
    fn the_client_is_asked_after_growing_pauses_and_peers_after_the_first_ones() {
        let start = time::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut missing = Missing::default();
        let one = hash(1);
        let mut asked = Vec::new();
        let mut fetched = Vec::new();
        // The chain asks ten times in a second.
        for ms in (0..8_000).step_by(100) {
            if missing.is_due(&one, at(ms)) {
                asked.push(ms);
                missing.lacks(one, at(ms));
            }
            if missing.is_long(&one, at(ms)) {
                fetched.push(ms);
            }
        }
        assert_eq!(asked[..8], [0, 100, 200, 300, 400, 500, 700, 900]);
        let last = asked.windows(2).last().expect("it is asked often");
        assert_eq!(last[1] - last[0], 1_000);
        assert_eq!(fetched.first(), Some(&400));
        assert_eq!(fetched.len(), 76);
        missing.fetched(&one);
        assert!(missing.is_due(&one, at(8_000)) && !missing.is_long(&one, at(8_000)));
    }

    #[test]
    fn blocks_without_receipts_are_bounded_and_forgotten() {
        let mut missing = Missing::default();
        let now = time::now();
        for number in 0..3 * MAX_MISSING as u64 {
            missing.lacks(hash(number), now + Duration::from_millis(number));
            assert!(missing.len() <= MAX_MISSING);
        }
        missing.expire(now + FORGET_AFTER);
        assert_eq!(missing.len(), MAX_MISSING);
        missing.expire(now + FORGET_AFTER + Duration::from_secs(1));
        assert_eq!(missing.len(), 0);
        let mut fetched = Fetched::default();
        for number in 0..9 {
            fetched.insert(hash(number), Vec::new());
            assert!(fetched.len() <= MAX_FETCHED);
        }
        assert!(fetched.0.contains_key(&hash(8)));
    }
}
