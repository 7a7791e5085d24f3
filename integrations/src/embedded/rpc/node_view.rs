//! The consensus node as its execution client sees it: the facts of `eth_syncing` and
//! `net_peerCount`, which only the node knows.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::shared::quantity;

/// Position of the node relative to its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    Synced,
    /// Blocks up to `highest` exist, or may exist while no peer reports its head.
    Syncing {
        highest: u64,
    },
}

/// The node that an execution client belongs to. Called for each request, so it must answer at
/// once.
pub trait NodeView: Send + Sync + 'static {
    /// Connected peers.
    fn peers(&self) -> u64;

    fn sync_state(&self) -> SyncState;
}

/// The view, once the node has started. A client without a node has no peers and is synced: every
/// block that it stores was executed.
#[derive(Clone, Default)]
pub(super) struct NodeSlot(Arc<OnceLock<Arc<dyn NodeView>>>);

impl NodeSlot {
    /// Sets the view; the first one stays.
    pub(super) fn set(&self, view: Arc<dyn NodeView>) {
        let _ = self.0.set(view);
    }

    pub(super) fn peer_count(&self) -> Value {
        quantity(self.0.get().map_or(0, |view| view.peers()))
    }

    /// The answer of `eth_syncing` for a client that started at block `starting` and has the head
    /// `current`.
    pub(super) fn syncing(&self, starting: u64, current: u64) -> Value {
        match self.0.get().map(|view| view.sync_state()) {
            None | Some(SyncState::Synced) => false.into(),
            Some(SyncState::Syncing { highest }) => json!({
                "startingBlock": quantity(starting),
                "currentBlock": quantity(current),
                "highestBlock": quantity(highest.max(current)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64, SyncState);

    impl NodeView for Fixed {
        fn peers(&self) -> u64 {
            self.0
        }

        fn sync_state(&self) -> SyncState {
            self.1
        }
    }

    #[test]
    fn answers_are_those_of_the_node() {
        let behind = json!({
            "startingBlock": "0x2", "currentBlock": "0x5", "highestBlock": "0x9",
        });
        let alone = json!({
            "startingBlock": "0x2", "currentBlock": "0x5", "highestBlock": "0x5",
        });
        for (view, peers, syncing) in [
            (None, "0x0", json!(false)),
            (Some(Fixed(3, SyncState::Synced)), "0x3", json!(false)),
            (
                Some(Fixed(1, SyncState::Syncing { highest: 9 })),
                "0x1",
                behind,
            ),
            (
                Some(Fixed(0, SyncState::Syncing { highest: 0 })),
                "0x0",
                alone,
            ),
        ] {
            let slot = NodeSlot::default();
            if let Some(view) = view {
                slot.set(Arc::new(view));
            }
            assert_eq!(slot.peer_count(), json!(peers));
            assert_eq!(slot.syncing(2, 5), syncing);
        }
    }
}
