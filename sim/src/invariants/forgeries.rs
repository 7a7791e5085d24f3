//! Messages that an adversary made: typed alterations of real messages, and messages of another
//! chain. Each is known here before it is sent, so the verdict of every correct node on it can be
//! compared with the only admissible one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alloy_primitives::{B256, keccak256};
use alys_types::{Hash, VoteKind, VoteTarget};

use super::{Violation, short};

/// Most messages and blocks that are remembered; the oldest are forgotten. A message is judged
/// within seconds, and a run makes a few in each second.
const MOST_KNOWN: usize = 8_192;

/// The most that a correct node may do with a forged message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// It breaks a rule that every node checks before it accepts: no node forwards it.
    Refused,
    /// It is a proposal whose fault shows only in its execution or on its branch: nodes may forward
    /// it, and none votes for its block.
    NotVotedFor,
    /// It breaks no rule, for example a second block of one slot.
    Valid,
}

/// A message of the adversary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgery {
    /// Type, field and signing of the alteration.
    pub name: Arc<str>,
    pub tolerance: Tolerance,
}

/// All forged messages of a run.
#[derive(Debug, Default)]
pub struct Forgeries {
    messages: BTreeMap<B256, Forgery>,
    /// Hashes of messages in the order of their first sending.
    order: VecDeque<B256>,
    /// Blocks that no correct authority may vote for.
    blocks: BTreeMap<Hash, Arc<str>>,
    block_order: VecDeque<Hash>,
    /// Peer ids whose proofs of a key are false.
    impostors: BTreeSet<String>,
    sent: BTreeMap<Arc<str>, u64>,
    refused: BTreeMap<Arc<str>, u64>,
}

impl Forgeries {
    /// Records a message that is about to be sent.
    pub fn sent(&mut self, forgery: &Forgery, payload: &[u8]) {
        let digest = keccak256(payload);
        *self.sent.entry(forgery.name.clone()).or_default() += 1;
        if self.messages.insert(digest, forgery.clone()).is_none() {
            self.order.push_back(digest);
        }
        while self.order.len() > MOST_KNOWN {
            if let Some(oldest) = self.order.pop_front() {
                self.messages.remove(&oldest);
            }
        }
    }

    /// Records a block that no correct authority may vote for.
    pub fn sent_block(&mut self, forgery: &Forgery, hash: Hash) {
        if forgery.tolerance == Tolerance::Valid {
            return;
        }
        if self.blocks.insert(hash, forgery.name.clone()).is_none() {
            self.block_order.push_back(hash);
        }
        while self.block_order.len() > MOST_KNOWN {
            if let Some(oldest) = self.block_order.pop_front() {
                self.blocks.remove(&oldest);
            }
        }
    }

    /// Records a peer that claims an authority's key without its signature.
    pub fn impostor(&mut self, peer: String) {
        self.impostors.insert(peer);
    }

    /// The forgery with these bytes.
    pub fn find(&self, payload: &[u8]) -> Option<Forgery> {
        if self.messages.is_empty() {
            return None;
        }
        self.messages.get(&keccak256(payload)).cloned()
    }

    /// Compares a correct node's verdict on a forgery with the admissible ones.
    ///
    /// # Errors
    /// [`Violation::ForgeryAccepted`].
    pub fn judged(
        &mut self,
        node: u8,
        forgery: &Forgery,
        is_accepted: bool,
    ) -> Result<(), Violation> {
        if !is_accepted {
            self.refused(forgery);
            return Ok(());
        }
        match forgery.tolerance {
            Tolerance::Refused => Err(Violation::ForgeryAccepted {
                node: node + 1,
                what: forgery.name.to_string(),
            }),
            Tolerance::NotVotedFor | Tolerance::Valid => Ok(()),
        }
    }

    /// Counts the refusal of a forgery.
    pub fn refused(&mut self, forgery: &Forgery) {
        *self.refused.entry(forgery.name.clone()).or_default() += 1;
    }

    /// Checks that a correct node's vote is not for a forged block.
    ///
    /// # Errors
    /// [`Violation::ForgeryVotedFor`].
    pub fn signed(&self, node: u8, target: &VoteTarget) -> Result<(), Violation> {
        match (target.kind, self.blocks.get(&target.hash)) {
            (VoteKind::Proposal, _) | (_, None) => Ok(()),
            (VoteKind::Approval | VoteKind::Confirmation, Some(name)) => {
                Err(Violation::ForgeryVotedFor {
                    node: node + 1,
                    slot: target.slot.0,
                    hash: short(&target.hash),
                    what: name.to_string(),
                })
            }
        }
    }

    /// Checks that a peer that a correct node takes for an authority is one.
    ///
    /// # Errors
    /// [`Violation::ImpostorVouched`].
    pub fn vouched(&self, node: u8, peer: &str) -> Result<(), Violation> {
        if !self.impostors.contains(peer) {
            return Ok(());
        }
        Err(Violation::ImpostorVouched {
            node: node + 1,
            peer: peer.to_owned(),
        })
    }

    /// Counters of sent and refused messages, by name.
    pub fn counts(&self) -> impl Iterator<Item = (String, u64)> {
        let sent = self.sent.iter();
        let sent = sent.map(|(name, times)| (format!("forged.{name}"), *times));
        let refused = self.refused.iter();
        sent.chain(refused.map(|(name, times)| (format!("refused.{name}"), *times)))
    }
}

#[cfg(test)]
mod tests {
    use alys_types::{Height, Slot};

    use super::*;

    fn forgery(tolerance: Tolerance) -> Forgery {
        Forgery {
            name: "vote.hash.bare".into(),
            tolerance,
        }
    }

    #[test]
    fn a_forgery_that_is_accepted_is_found_unless_it_is_valid() {
        let table = [
            (Tolerance::Refused, true, false),
            (Tolerance::Refused, false, true),
            (Tolerance::NotVotedFor, true, true),
            (Tolerance::Valid, true, true),
        ];
        for (tolerance, is_accepted, holds) in table {
            let mut all = Forgeries::default();
            all.sent(&forgery(tolerance), b"message");
            assert_eq!(all.find(b"another"), None);
            let found = all.find(b"message").expect("it was sent");
            let judged = all.judged(0, &found, is_accepted);
            assert_eq!(judged.is_ok(), holds, "{tolerance:?}, {is_accepted}");
            let refused = all.counts().any(|(name, _)| name.starts_with("refused."));
            assert_eq!(refused, !is_accepted, "{tolerance:?}");
        }
    }

    #[test]
    fn votes_for_forged_blocks_are_found() {
        let mut all = Forgeries::default();
        all.sent_block(&forgery(Tolerance::NotVotedFor), Hash([1; 32]));
        all.sent_block(&forgery(Tolerance::Valid), Hash([2; 32]));
        let target = |kind, mark| VoteTarget {
            kind,
            height: Height(1),
            slot: Slot(1),
            hash: Hash([mark; 32]),
        };
        assert!(all.signed(0, &target(VoteKind::Approval, 1)).is_err());
        assert!(all.signed(0, &target(VoteKind::Confirmation, 1)).is_err());
        assert!(all.signed(0, &target(VoteKind::Proposal, 1)).is_ok());
        assert!(all.signed(0, &target(VoteKind::Approval, 2)).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut all = Forgeries::default();
        for number in 0..(MOST_KNOWN as u32 + 10) {
            all.sent(&forgery(Tolerance::Refused), &number.to_le_bytes());
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            all.sent_block(&forgery(Tolerance::Refused), Hash(hash));
        }
        assert_eq!(all.messages.len(), MOST_KNOWN);
        assert_eq!(all.blocks.len(), MOST_KNOWN);
        assert_eq!(all.find(&0_u32.to_le_bytes()), None);
    }

    #[test]
    fn an_impostor_is_vouched_for_by_no_node() {
        let mut all = Forgeries::default();
        all.impostor("peer".to_owned());
        assert!(all.vouched(0, "peer").is_err());
        assert!(all.vouched(0, "authority").is_ok());
    }
}
