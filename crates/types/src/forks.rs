//! The upgrade table of a chain and its fork ids (rule 2.2 of the protocol). A fork id names the
//! upgrades that a node has passed and the next one that it knows, so that nodes with different
//! tables stay connected until a table differs in what is in force (EIP-2124).

use serde::{Deserialize, Serialize};

use crate::hash::{tagged, tags};
use crate::{Hash, Height, codec};

/// The rules from a height on, up to the next upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The first block with these rules.
    pub height: Height,
    pub header_version: u16,
    /// Types of transactions that a payload may contain (EIP-2718, 0 for legacy ones), ascending.
    pub transaction_types: Vec<u8>,
}

/// The rules in force at a node, for its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkId {
    /// Hash over the genesis hash and the upgrades up to the node's head.
    pub hash: Hash,
    /// Height of the first upgrade above the node's head; `None` if it knows none.
    pub next: Option<Height>,
}

/// The upgrades of a chain, and the fork id of every height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forks {
    /// Ascending; the first is that of genesis.
    ids: Vec<(Height, ForkId)>,
}

/// The reason for which two nodes do not follow the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForkMismatch {
    /// The peer has passed other upgrades, or has another genesis.
    #[error("its upgrades {theirs} are none of ours")]
    Unknown { theirs: Hash },
    /// The peer passes an upgrade at a height that this node has passed without one.
    #[error("it has an upgrade at height {theirs}, and this node is at {head} without it")]
    Missed { theirs: Height, head: Height },
    /// The peer lacks an upgrade that this node has passed.
    #[error("it lacks the upgrade at height {ours}, which this node has passed")]
    Outdated { ours: Height },
}

impl Forks {
    /// The forks of a table, which is ascending and begins with height 0.
    pub(crate) fn new(genesis: &Hash, upgrades: &[Upgrade]) -> Forks {
        let mut hash = tagged(tags::FORK_ID, &[&genesis.0]);
        let nexts = upgrades.iter().skip(1).map(|next| Some(next.height));
        let with_next = upgrades.iter().zip(nexts.chain([None]));
        let ids = with_next.map(|(upgrade, next)| {
            hash = tagged(tags::FORK_ID, &[&hash.0, &codec::encode(upgrade)]);
            (upgrade.height, ForkId { hash, next })
        });
        Forks { ids: ids.collect() }
    }

    /// The fork id of a node with a head at this height.
    pub fn at(&self, head: Height) -> ForkId {
        let (_, id) = self.ids.get(self.index_at(head)).expect("the index exists");
        *id
    }

    /// Checks the fork id of a peer, which may be behind or ahead.
    pub fn check(&self, theirs: &ForkId, head: Height) -> Result<(), ForkMismatch> {
        let unknown = ForkMismatch::Unknown {
            theirs: theirs.hash,
        };
        let same = self.ids.iter().position(|(_, id)| id.hash == theirs.hash);
        let same = same.ok_or(unknown)?;
        let (_, ours) = self.ids.get(same).ok_or(unknown)?;
        match (same.cmp(&self.index_at(head)), theirs.next, ours.next) {
            // The peer is behind: it has to know the upgrade that this node passed next.
            (std::cmp::Ordering::Less, theirs, Some(ours)) if theirs != Some(ours) => {
                Err(ForkMismatch::Outdated { ours })
            }
            (std::cmp::Ordering::Equal, Some(theirs), _) if theirs <= head => {
                Err(ForkMismatch::Missed { theirs, head })
            }
            // The peer is ahead by upgrades that this node knows, or both have the same rules.
            _ => Ok(()),
        }
    }

    fn index_at(&self, head: Height) -> usize {
        let passed = self.ids.partition_point(|(height, _)| *height <= head);
        passed.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: Hash = Hash([7; 32]);

    fn upgrade(height: u64, transaction_types: &[u8]) -> Upgrade {
        Upgrade {
            height: Height(height),
            header_version: 1,
            transaction_types: transaction_types.to_vec(),
        }
    }

    /// The forks of a chain with upgrades at these heights.
    fn forks(heights: &[u64]) -> Forks {
        let upgrades: Vec<Upgrade> = [0]
            .iter()
            .chain(heights)
            .map(|height| upgrade(*height, &[0, 1, 2]))
            .collect();
        Forks::new(&GENESIS, &upgrades)
    }

    /// Both nodes check each other, at their heads: (ours, theirs).
    fn check(
        ours: (&[u64], u64),
        theirs: (&[u64], u64),
    ) -> (Result<(), ForkMismatch>, Result<(), ForkMismatch>) {
        let nodes = [ours, theirs].map(|(heights, head)| (forks(heights), Height(head)));
        let [(our_forks, our_head), (their_forks, their_head)] = &nodes;
        (
            our_forks.check(&their_forks.at(*their_head), *our_head),
            their_forks.check(&our_forks.at(*our_head), *their_head),
        )
    }

    #[test]
    fn nodes_with_one_table_agree_at_every_pair_of_heights() {
        for ours in 0..40 {
            for theirs in 0..40 {
                let found = check((&[10, 20], ours), (&[10, 20], theirs));
                assert_eq!(found, (Ok(()), Ok(())), "{ours}, {theirs}");
            }
        }
    }

    #[test]
    fn a_node_without_the_next_upgrade_is_a_peer_until_its_height() {
        assert_eq!(check((&[10], 9), (&[], 9)), (Ok(()), Ok(())));
        let hash = |heights: &[u64], head| forks(heights).at(Height(head)).hash;
        let outdated = ForkMismatch::Outdated { ours: Height(10) };
        let unknown = ForkMismatch::Unknown {
            theirs: hash(&[10], 10),
        };
        // The peer at any height; this node has passed the upgrade.
        for theirs in [0, 9, 10, 30] {
            let found = check((&[10], 10), (&[], theirs));
            assert_eq!(found, (Err(outdated), Err(unknown)), "{theirs}");
        }
        // The peer is ahead without the upgrade, while this node has not passed it yet.
        let missed = ForkMismatch::Missed {
            theirs: Height(10),
            head: Height(10),
        };
        assert_eq!(check((&[10], 9), (&[], 10)), (Ok(()), Err(missed)));
    }

    #[test]
    fn different_next_upgrades_part_at_the_lower_height() {
        assert_eq!(check((&[10], 9), (&[12], 9)), (Ok(()), Ok(())));
        let (ours, theirs) = check((&[10], 10), (&[12], 10));
        assert_eq!(ours, Err(ForkMismatch::Outdated { ours: Height(10) }));
        assert!(matches!(theirs, Err(ForkMismatch::Unknown { .. })));
    }

    #[test]
    fn other_rules_at_one_height_and_other_chains_have_other_ids() {
        let id = |genesis, types: &[u8]| {
            let upgrades = [upgrade(0, &[0, 1, 2]), upgrade(5, types)];
            Forks::new(genesis, &upgrades).at(Height(5))
        };
        let ours = id(&GENESIS, &[0, 1]);
        assert_ne!(ours, id(&GENESIS, &[0, 2]));
        assert_ne!(ours, id(&Hash([8; 32]), &[0, 1]));
        let foreign = forks(&[5]).check(&id(&Hash([8; 32]), &[0, 1]), Height(5));
        assert!(matches!(foreign, Err(ForkMismatch::Unknown { .. })));
    }
}
