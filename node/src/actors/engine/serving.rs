//! Receipts of the execution client for peers, of a bounded number at once (rule 7.2,
//! docs/protocol.md).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy_consensus::ReceiptEnvelope;
use alloy_consensus::proofs::calculate_receipt_root;
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alys_actor_system::{Addr, AskError};
use alys_types::wire::BlockReceipts;
use alys_types::{Block, Hash};

use super::EngineMessage;

/// Reads for all peers that are queued or under way. Each is a call of the execution client, which
/// some clients answer by executing the block again.
pub const MAX_PEER_RECEIPTS: usize = 2;
/// Reads at which those of strangers are refused.
const MAX_STRANGER_RECEIPTS: usize = MAX_PEER_RECEIPTS / 2;
/// Longest wait for an answer: the turn in the mailbox and a call of the client.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason for which a peer gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{MAX_PEER_RECEIPTS} reads of receipts are under way")]
    Busy,
    #[error(transparent)]
    Engine(#[from] AskError),
}

/// Access of peers to receipts. Clones share the places, so that reads which an earlier incarnation
/// of the NetworkActor left in the mailbox count as well.
#[derive(Clone)]
pub struct PeerReceipts {
    engine: Addr<EngineMessage>,
    running: Arc<AtomicUsize>,
}

/// A place among the reads of peers. The message, and then the task that calls the client, hold it.
pub struct ReceiptsPlace(Arc<AtomicUsize>);

impl Drop for ReceiptsPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PeerReceipts {
    pub fn new(engine: Addr<EngineMessage>) -> PeerReceipts {
        PeerReceipts {
            engine,
            running: Arc::default(),
        }
    }

    fn reserve(&self, is_known: bool) -> Option<ReceiptsPlace> {
        let limit = if is_known {
            MAX_PEER_RECEIPTS
        } else {
            MAX_STRANGER_RECEIPTS
        };
        let more = |running: usize| (running < limit).then_some(running + 1);
        let taken = self
            .running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| ReceiptsPlace(self.running.clone()))
    }

    /// The receipts of a stored block, under its receipts root; `None` if the client does not have
    /// them.
    ///
    /// # Errors
    /// [`ServeError::Busy`] beyond [`MAX_PEER_RECEIPTS`], half of it for strangers.
    pub async fn of_block(
        &self,
        block: &Block,
        is_known: bool,
    ) -> Result<Option<BlockReceipts>, ServeError> {
        let payload = &block.body.payload;
        if payload.transactions.is_empty() {
            return Ok(Some(BlockReceipts(Vec::new())));
        }
        let place = self.reserve(is_known).ok_or(ServeError::Busy)?;
        let execution_hash = block.header.execution_hash;
        let ask = |reply| EngineMessage::GetReceipts {
            execution_hash,
            place,
            reply,
        };
        let found = self.engine.ask(ask, ASK_TIMEOUT).await?;
        // Others would count false receipts as a fault of this node.
        let found = found.filter(|found| root(found) == payload.receipts_root);
        Ok(found.map(|found| encode(&found)))
    }
}

/// The receipts root of a payload with these receipts.
fn root(receipts: &[ReceiptEnvelope]) -> Hash {
    calculate_receipt_root(receipts).into()
}

fn encode(receipts: &[ReceiptEnvelope]) -> BlockReceipts {
    BlockReceipts(receipts.iter().map(Encodable2718::encoded_2718).collect())
}

/// Decodes the receipts of a peer; `None` if they are not those under `expected`.
pub(crate) fn checked_receipts(
    encoded: &BlockReceipts,
    expected: Hash,
) -> Option<Vec<ReceiptEnvelope>> {
    let decode = |bytes: &Vec<u8>| ReceiptEnvelope::decode_2718_exact(bytes).ok();
    let receipts: Option<Vec<ReceiptEnvelope>> = encoded.0.iter().map(decode).collect();
    receipts.filter(|receipts| root(receipts) == expected)
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{Receipt, TxType};
    use alys_actor_system::testkit::Probe;
    use alys_types::Body;

    use super::*;
    use crate::actors::engine::tests::payload;
    use crate::actors::testbed::genesis;

    fn receipt(gas: u64) -> ReceiptEnvelope {
        let receipt = Receipt {
            status: true.into(),
            cumulative_gas_used: gas,
            logs: Vec::new(),
        };
        ReceiptEnvelope::from_typed(TxType::Eip1559, receipt)
    }

    #[test]
    fn receipts_of_a_peer_count_under_the_root_only() {
        let right = [receipt(21_000), receipt(42_000)];
        let encoded = encode(&right);
        assert_eq!(
            checked_receipts(&encoded, root(&right)),
            Some(right.to_vec())
        );
        assert_eq!(checked_receipts(&encoded, root(&right[..1])), None);
        let mut longer = encoded.clone();
        longer.0[0].push(0);
        let mut exchanged = encoded.clone();
        exchanged.0.swap(0, 1);
        let mut fewer = encoded;
        fewer.0.pop();
        for other in [longer, exchanged, fewer, BlockReceipts(vec![vec![]])] {
            assert_eq!(checked_receipts(&other, root(&right)), None, "{other:?}");
        }
        let nothing = BlockReceipts(Vec::new());
        assert_eq!(checked_receipts(&nothing, root(&[])), Some(Vec::new()));
    }

    /// The engine answers one question at a time, so the mailbox keeps room for the chain.
    #[test]
    fn reads_of_peers_are_few_and_strangers_leave_one_place() {
        alys_runtime::block_on_main(async {
            let (engine, mut probe) = Probe::new(8);
            let reads = PeerReceipts::new(engine);
            let one = reads.reserve(false);
            assert!(one.is_some());
            assert!(reads.reserve(false).is_none());
            let two = reads.reserve(true);
            assert!(two.is_some());
            assert!(reads.reserve(true).is_none());
            drop((one, two));
            let mut block = Block {
                header: genesis(1, 2_000).header().clone(),
                body: Body::of(payload()),
            };
            let answer = reads.of_block(&block, false).await.expect("no call");
            assert_eq!(answer, Some(BlockReceipts(Vec::new())));
            let right = vec![receipt(21_000)];
            block.body.payload.transactions = vec![vec![2]];
            block.body.payload.receipts_root = root(&right);
            let table = [
                (Some(right.clone()), Some(encode(&right))),
                (Some(vec![receipt(9)]), None),
                (None, None),
            ];
            for (found, expected) in table {
                let read = reads.of_block(&block, false);
                let serve = async {
                    let Some(EngineMessage::GetReceipts { reply, .. }) = probe.next().await else {
                        panic!("no question");
                    };
                    reply.send(found)
                };
                let (answer, _) = futures::future::join(read, serve).await;
                assert_eq!(answer.expect("an answer"), expected);
                assert!(reads.reserve(true).is_some(), "the place is free");
            }
        });
    }
}
