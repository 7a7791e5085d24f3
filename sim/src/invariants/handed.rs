//! Transactions of loyal users, who give each transaction to one node and to no other.
//!
//! The node must broadcast it soon, and a leader must include it in a block. Other users send a
//! transaction again to another node, which hides that the first one did not broadcast it.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use alys_types::wire::{Message as Wire, Transactions};

use super::{Oracles, Violation};

/// Time after which a transaction that a node's execution client took is broadcast, if nothing
/// disturbs the run. The pool is read twice in a second, and again after a full mailbox.
const BROADCAST_WITHIN_MS: u64 = 6_000;

/// A transaction that is not known to be final.
#[derive(Debug)]
struct Open {
    /// The node, from 0.
    home: u8,
    /// The time at which its execution client took it, or said that it still has it, for the first
    /// time since the last disturbance.
    taken_ms: u64,
    /// Its node broadcast it, or it is in a block.
    is_out: bool,
}

/// The transactions of all loyal users.
#[derive(Debug, Default)]
pub struct Handed(BTreeMap<B256, Open>);

impl Handed {
    /// Records that the execution client of a node has a transaction. `since_ms` is the time of the
    /// last disturbance, `None` during one.
    pub fn taken(&mut self, at_ms: u64, since_ms: Option<u64>, home: u8, hash: B256) {
        let first = || Open {
            home,
            taken_ms: at_ms,
            is_out: false,
        };
        let open = self.0.entry(hash).or_insert_with(first);
        if since_ms.is_none_or(|since_ms| open.taken_ms < since_ms) {
            open.taken_ms = at_ms;
        }
    }

    /// Records a broadcast of a node.
    pub fn broadcast(&mut self, node: u8, transactions: &[Vec<u8>]) {
        for hash in transactions.iter().map(keccak256) {
            if let Some(open) = self.0.get_mut(&hash).filter(|open| open.home == node) {
                open.is_out = true;
            }
        }
    }

    /// Records the transactions of a block.
    pub fn proposed(&mut self, transactions: &[Vec<u8>]) {
        if self.0.is_empty() {
            return;
        }
        for hash in transactions.iter().map(keccak256) {
            if let Some(open) = self.0.get_mut(&hash) {
                open.is_out = true;
            }
        }
    }

    /// Records that a user saw a transaction in a final block.
    pub fn acknowledged(&mut self, hash: &B256) {
        self.0.remove(hash);
    }

    /// The transactions of these nodes that are not known to be final.
    pub fn unmined(&self, nodes: &[u8]) -> Vec<(B256, u8)> {
        let open = self.0.iter().map(|(hash, open)| (*hash, open.home));
        open.filter(|(_, home)| nodes.contains(home)).collect()
    }

    /// Checks that each transaction was broadcast in time.
    ///
    /// # Errors
    /// [`Violation::NotBroadcast`].
    pub fn look(&self, at_ms: u64, since_ms: Option<u64>) -> Result<(), Violation> {
        let Some(since_ms) = since_ms else {
            return Ok(());
        };
        let is_overdue = |open: &Open| {
            let is_kept = !open.is_out && open.taken_ms >= since_ms;
            is_kept && at_ms > open.taken_ms + BROADCAST_WITHIN_MS
        };
        match self.0.iter().find(|one| is_overdue(one.1)) {
            Some((hash, open)) => Err(Violation::NotBroadcast {
                node: open.home + 1,
                transaction: hash.to_string(),
                within_ms: BROADCAST_WITHIN_MS,
            }),
            None => Ok(()),
        }
    }
}

impl Oracles {
    /// Records that the execution client of a loyal user's node has a transaction.
    pub fn handed_in(&mut self, at_ms: u64, home: u8, hash: B256) {
        if !self.votes.is_byzantine(home) {
            let since_ms = self.calm.undisturbed_since_ms();
            self.handed.taken(at_ms, since_ms, home, hash);
        }
    }

    /// Records a broadcast of transactions by a correct node.
    pub fn broadcast(&mut self, node: u8, payload: &[u8]) {
        if let Ok(Transactions(transactions)) = Transactions::decode(payload) {
            self.handed.broadcast(node, &transactions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: u64 = BROADCAST_WITHIN_MS + 1;

    fn name(judged: Result<(), Violation>) -> Option<String> {
        judged.err().map(|violation| violation.name())
    }

    #[test]
    fn transactions_are_broadcast_in_time() {
        let transaction = vec![7; 40];
        let hash = keccak256(&transaction);
        let others = [vec![8; 40]];
        let mut all = Handed::default();
        all.taken(1_000, Some(0), 4, hash);
        all.broadcast(3, std::slice::from_ref(&transaction));
        all.broadcast(4, &others);
        all.proposed(&others);
        assert_eq!(all.look(LATE - 1 + 1_000, Some(0)), Ok(()));
        assert_eq!(all.look(LATE + 1_000, None), Ok(()), "during a disturbance");
        assert_eq!(all.look(LATE + 1_000, Some(1_001)), Ok(()), "after one");
        let kept = Some("not-broadcast".to_owned());
        assert_eq!(name(all.look(LATE + 1_000, Some(0))), kept);
        all.taken(2_000, Some(0), 4, hash);
        assert_eq!(name(all.look(LATE + 1_000, Some(0))), kept, "the same one");
        all.taken(3_000, None, 4, hash);
        assert_eq!(all.look(LATE + 2_999, Some(2_500)), Ok(()));
        assert_eq!(name(all.look(LATE + 3_000, Some(2_500))), kept);
        let mut sent = Handed::default();
        sent.taken(1_000, Some(0), 4, hash);
        sent.broadcast(4, std::slice::from_ref(&transaction));
        assert_eq!(sent.look(LATE + 1_000, Some(0)), Ok(()));
        assert_eq!(sent.unmined(&[0, 4]), [(hash, 4)]);
        assert!(sent.unmined(&[0, 1]).is_empty());
        sent.acknowledged(&hash);
        assert!(sent.unmined(&[0, 4]).is_empty());
        let mut mined = Handed::default();
        mined.taken(1_000, Some(0), 4, hash);
        mined.proposed(&[transaction]);
        assert_eq!(mined.look(LATE + 1_000, Some(0)), Ok(()));
    }
}
