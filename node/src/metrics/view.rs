//! The node as its embedded execution client sees it.

use alys_integrations::embedded::{NodeView, SyncState};

use super::NodeMetrics;

/// Certified blocks above the head that are still being executed in normal operation.
const SYNC_TOLERANCE: u64 = 2;

/// The peers and the sync state of a node, read from its metrics.
pub struct MetricsView {
    metrics: NodeMetrics,
    /// The chain has other nodes, so that a node without peers cannot know its height.
    needs_peers: bool,
}

impl MetricsView {
    pub fn new(metrics: NodeMetrics, needs_peers: bool) -> MetricsView {
        MetricsView {
            metrics,
            needs_peers,
        }
    }

    /// No peer is connected, and the chain has other nodes.
    pub fn is_alone(&self) -> bool {
        self.needs_peers && self.metrics.peers.connected() == 0
    }
}

impl NodeView for MetricsView {
    fn peers(&self) -> u64 {
        self.metrics.peers.connected()
    }

    fn sync_state(&self) -> SyncState {
        let chain = &self.metrics.chain;
        sync_state(chain.head_height(), chain.known_height(), self.is_alone())
    }
}

/// The state of a node with the head `head` that knows of blocks up to `highest`.
fn sync_state(head: u64, highest: u64, is_alone: bool) -> SyncState {
    if is_alone || highest > head.saturating_add(SYNC_TOLERANCE) {
        return SyncState::Syncing { highest };
    }
    SyncState::Synced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_needed_peers_or_with_missing_blocks_syncs() {
        let syncing = |highest| SyncState::Syncing { highest };
        for (head, highest, is_alone, expected) in [
            (0, 0, false, SyncState::Synced),
            (0, 0, true, syncing(0)),
            (7, 7, true, syncing(7)),
            (7, 9, false, SyncState::Synced),
            (7, 10, false, syncing(10)),
            (7, 3, false, SyncState::Synced),
        ] {
            let found = sync_state(head, highest, is_alone);
            assert_eq!(found, expected, "{head} {highest} {is_alone}");
        }
    }
}
