//! Reads of the storage for peers, of a bounded number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alys_actor_system::{Addr, AskError};
use alys_types::wire::{BlockRange, HeaderRange, RangeRequest};
use alys_types::{Block, Hash};

use super::{ASK_TIMEOUT, StorageMessage};

/// Reads of all peers that are queued or under way. The network service forgets the requests of a
/// peer that disconnects, so `alys_net::Limits::max_inbound` does not bound them.
pub const MAX_PEER_READS: usize = 128;
/// Reads at which those of strangers are refused, so that known peers can always catch up.
const MAX_STRANGER_READS: usize = MAX_PEER_READS / 2;

/// Access of peers to the storage. Clones share the places, so that reads which an earlier
/// incarnation of the NetworkActor left in the mailbox count as well.
#[derive(Clone)]
pub struct PeerReads {
    storage: Addr<StorageMessage>,
    running: Arc<AtomicUsize>,
}

/// A place among the reads of peers. The message and the task that answers the peer hold it, and it
/// is free once both are gone, because an expired message stays in the mailbox until its turn.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PeerReads {
    pub fn new(storage: Addr<StorageMessage>) -> PeerReads {
        PeerReads {
            storage,
            running: Arc::default(),
        }
    }

    /// Places that are taken.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Takes a place for a read; `None` if there is no room.
    pub fn reserve(&self, is_known: bool) -> Option<Arc<Place>> {
        let limit = if is_known {
            MAX_PEER_READS
        } else {
            MAX_STRANGER_READS
        };
        let more = |running: usize| (running < limit).then_some(running + 1);
        let taken = self
            .running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Arc::new(Place(self.running.clone())))
    }

    pub async fn blocks(
        &self,
        place: Arc<Place>,
        hashes: Vec<Hash>,
    ) -> Result<Vec<Block>, AskError> {
        self.storage
            .ask(
                |reply| StorageMessage::Blocks {
                    hashes,
                    place,
                    reply,
                },
                ASK_TIMEOUT,
            )
            .await
    }

    pub async fn block_range(
        &self,
        place: Arc<Place>,
        request: RangeRequest,
    ) -> Result<BlockRange, AskError> {
        self.storage
            .ask(
                |reply| StorageMessage::BlockRange {
                    request,
                    place,
                    reply,
                },
                ASK_TIMEOUT,
            )
            .await
    }

    pub async fn header_range(
        &self,
        place: Arc<Place>,
        request: RangeRequest,
    ) -> Result<HeaderRange, AskError> {
        self.storage
            .ask(
                |reply| StorageMessage::HeaderRange {
                    request,
                    place,
                    reply,
                },
                ASK_TIMEOUT,
            )
            .await
    }
}
