//! The events that nodes report to their observer.

use std::fmt;

use alys_node::node::NodeEvent;
use alys_types::{Hash, Height, Slot, VoteKind};
use serde::{Deserialize, Serialize};

/// The first bytes of a hash in hex, for people.
pub fn short(hash: &Hash) -> String {
    let bytes = hash.0.iter().take(5);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The identity of a block in events. The slot is the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockId {
    pub height: u64,
    pub slot: u64,
    /// See [`short`].
    pub hash: String,
}

impl BlockId {
    fn new(height: Height, slot: Slot, hash: &Hash) -> Self {
        Self {
            height: height.0,
            slot: slot.0,
            hash: short(hash),
        }
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "height {} slot {} {}", self.height, self.slot, self.hash)
    }
}

/// A [`NodeEvent`] without the payloads that only invariants need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Signed {
        kind: VoteKind,
        block: BlockId,
    },
    VotesFor {
        slot: u64,
        hash: String,
        parent_slot: u64,
        parent: String,
    },
    Proposed {
        block: BlockId,
        transactions: usize,
    },
    Head(BlockId),
    Finalized(BlockId),
    Peers {
        connected: usize,
    },
    Banned {
        peer: String,
    },
    Evidence {
        signer: u8,
        slot: u64,
    },
    /// A sentence for the operator.
    Notice(String),
    /// Anything else, in a sentence.
    Other(String),
}

impl From<&NodeEvent> for Report {
    fn from(event: &NodeEvent) -> Self {
        match event {
            NodeEvent::Signed { target } => Self::Signed {
                kind: target.kind,
                block: BlockId::new(target.height, target.slot, &target.hash),
            },
            NodeEvent::VotesFor { block, parent } => Self::VotesFor {
                slot: block.slot.0,
                hash: short(&block.hash),
                parent_slot: parent.slot.0,
                parent: short(&parent.hash),
            },
            NodeEvent::Proposed {
                height,
                slot,
                hash,
                transactions,
                ..
            } => Self::Proposed {
                block: BlockId::new(*height, *slot, hash),
                transactions: *transactions,
            },
            NodeEvent::Head { height, slot, hash } => {
                Self::Head(BlockId::new(*height, *slot, hash))
            }
            NodeEvent::Finalized(block) => {
                Self::Finalized(BlockId::new(block.height, block.slot, &block.hash))
            }
            NodeEvent::PowFinal(range) => Self::Other(format!(
                "blocks {} to {} are final by proof of work {} of block {}",
                range.first.0,
                range.end.0,
                range.sequence,
                short(&range.carrier.hash)
            )),
            NodeEvent::Peers { connected } => Self::Peers {
                connected: *connected,
            },
            NodeEvent::Banned { peer } => Self::Banned { peer: peer.clone() },
            NodeEvent::Evidence { signer, slot } => Self::Evidence {
                signer: *signer,
                slot: slot.0,
            },
            NodeEvent::Notice(notice) => Self::Notice(notice.to_string()),
            NodeEvent::Peering(event) => Self::Other(event.to_string()),
            NodeEvent::Restored { incarnation } => {
                Self::Other(format!("incarnation {incarnation} of the chain starts"))
            }
            NodeEvent::Counts { target, signer, .. } => {
                let kind = format!("{:?}", target.kind).to_lowercase();
                let block = BlockId::new(target.height, target.slot, &target.hash);
                Self::Other(format!(
                    "counts the {kind} of {block} by authority {signer}"
                ))
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed { kind, block } => {
                let kind = format!("{kind:?}").to_lowercase();
                write!(f, "signs {kind} of {block}")
            }
            Self::VotesFor {
                slot,
                hash,
                parent_slot,
                parent,
            } => write!(
                f,
                "votes for slot {slot} {hash} with parent slot {parent_slot} {parent}"
            ),
            Self::Proposed {
                block,
                transactions,
            } => write!(f, "proposes {block} with {transactions} transactions"),
            Self::Head(block) => write!(f, "head is {block}"),
            Self::Finalized(block) => write!(f, "final is {block}"),
            Self::Peers { connected } => write!(f, "{connected} peers are connected"),
            Self::Banned { peer } => write!(f, "bans peer {peer}"),
            Self::Evidence { signer, slot } => {
                write!(
                    f,
                    "evidence: authority {signer} contradicts itself in slot {slot}"
                )
            }
            Self::Notice(text) | Self::Other(text) => text.fmt(f),
        }
    }
}
