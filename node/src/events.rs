//! Events of a node for its observer.

use std::fmt;
use std::sync::Arc;

use alys_consensus::rules::validity::Invalid;
use alys_consensus::{BlockRef, Notice as AgreementNotice};
use alys_net::{Mismatch, PeerId};
use alys_types::{Block, Hash, Height, Slot, VoteTarget};

use crate::actors::auxpow::PowFinal;

/// Receives every event inside of the actor that causes it: must return at once.
pub type Observer = Arc<dyn Fn(&NodeEvent) + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// A vote of this node is durable and about to be sent.
    Signed {
        target: VoteTarget,
    },
    /// The block of the next proposal or approval, and its parent. Left out when the parent is
    /// pruned.
    VotesFor {
        block: BlockRef,
        parent: BlockRef,
    },
    /// This node proposes a block.
    Proposed {
        height: Height,
        slot: Slot,
        hash: Hash,
        transactions: usize,
        block: Arc<Block>,
    },
    /// The execution head moved.
    Head {
        height: Height,
        slot: Slot,
        hash: Hash,
    },
    Finalized(FinalBlock),
    /// A range became final by proof of work. The last one is repeated after a start.
    PowFinal(PowFinal),
    /// The number of connected peers changed.
    Peers {
        connected: usize,
    },
    /// A peer, by its libp2p identity, is banned for a while.
    Banned {
        peer: String,
    },
    /// An authority signed contradicting votes.
    Evidence {
        signer: u8,
        slot: Slot,
    },
    Notice(Notice),
    /// The ChainActor starts with the stored state. State that earlier incarnations had in memory
    /// only is lost.
    Restored {
        incarnation: u64,
    },
    /// A verified vote, of this node too, is about to be counted.
    Counts {
        target: VoteTarget,
        signer: u8,
        /// The set that the number of the signer refers to.
        set_hash: Hash,
    },
    /// The PeerActor learned something about its peers, or made or ended a request.
    Peering(PeerEvent),
}

/// The inputs and decisions of the PeerActor, in their order: an observer can repeat each decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// An incarnation starts, without peers and requests.
    Started {
        incarnation: u64,
    },
    Connected {
        peer: PeerId,
        /// Named by the operator, or a proven authority.
        is_expected: bool,
    },
    Disconnected {
        peer: PeerId,
    },
    /// All connections and requests are gone.
    NetworkRestarted,
    /// Blocks are missing: the last final height, that of the highest certified block, and the
    /// height to reach.
    Goal {
        final_height: Height,
        highest: Height,
        to: Height,
    },
    /// A request is made. Tags rise, and contain the incarnation in their upper half.
    Requested {
        tag: u64,
        peer: PeerId,
        wanted: Wanted,
    },
    /// A request of this incarnation ends.
    Ended {
        tag: u64,
        ending: Ending,
    },
    /// The range of a peer was answered or is on its way, and took too long.
    RangeOverdue {
        peer: PeerId,
    },
    /// The range of a peer is imported.
    RangeTaken {
        peer: PeerId,
        has_progress: bool,
    },
    /// A restart inside of the node lost the range that was answered.
    RangeLost,
    /// The answer of a peer was invalid.
    Misbehaved {
        peer: PeerId,
    },
    /// Overdue requests are given up, and the next range is requested if one is due. Repeated at
    /// intervals.
    Planned,
}

/// The subject of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Range {
        start: Height,
        count: u64,
    },
    Block {
        hash: Hash,
    },
    /// The receipts of a block, under its receipts root.
    Receipts {
        hash: Hash,
        root: Hash,
    },
    Status,
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an answer, which the chain has.
    Answered,
    /// The peer does not have the block.
    Missing,
    /// With an error of the network or the peer, or the chain had no room for the answer.
    Failed,
    /// The answer cannot be decoded, or is about something else.
    Unusable,
    /// The network did not take the request.
    NotSent,
    /// No answer came in time, or newer requests needed its place.
    GivenUp,
}

impl fmt::Display for PeerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { incarnation } => write!(f, "incarnation {incarnation} starts"),
            Self::Connected { peer, is_expected } => {
                let kind = if *is_expected {
                    "expected peer"
                } else {
                    "peer"
                };
                write!(f, "{kind} {peer} is connected")
            }
            Self::Disconnected { peer } => write!(f, "peer {peer} is disconnected"),
            Self::NetworkRestarted => f.write_str("the network restarted"),
            Self::Goal {
                final_height,
                highest,
                to,
            } => write!(
                f,
                "blocks up to {to} are missing above {highest}, final {final_height}"
            ),
            Self::Requested { tag, peer, wanted } => {
                write!(f, "request {tag:x} to {peer}: {wanted}")
            }
            Self::Ended { tag, ending } => write!(f, "request {tag:x} ends: {ending:?}"),
            Self::RangeOverdue { peer } => write!(f, "the range of {peer} is overdue"),
            Self::RangeTaken { peer, has_progress } => {
                let progress = if *has_progress { "with" } else { "without" };
                write!(f, "the range of {peer} is imported {progress} progress")
            }
            Self::RangeLost => f.write_str("an answered range is lost"),
            Self::Misbehaved { peer } => write!(f, "an answer of {peer} is invalid"),
            Self::Planned => f.write_str("the plan is checked"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { start, count } => write!(f, "{count} blocks from {start} on"),
            Self::Block { hash } => write!(f, "block {hash}"),
            Self::Receipts { hash, .. } => write!(f, "receipts of block {hash}"),
            Self::Status => f.write_str("its status"),
        }
    }
}

/// A final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalBlock {
    pub height: Height,
    pub slot: Slot,
    pub hash: Hash,
    pub proposer: u8,
    pub execution_hash: Hash,
    pub state_root: Hash,
    pub transactions: usize,
    pub gas_used: u64,
    /// Time from the start of the slot to finality on this node, in milliseconds of the wall clock.
    pub after_ms: u64,
}

/// A condition that the operator should know of, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Agreement(AgreementNotice),
    /// A peer of another chain or version was disconnected.
    PeerRefused {
        peer: PeerId,
        mismatch: Mismatch,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreement(notice) => fmt_agreement(notice, f),
            Self::PeerRefused { peer, mismatch } => write!(f, "peer {peer} refused: {mismatch}"),
        }
    }
}

/// Advice for an authority whose key signs on two machines.
pub(crate) const KEY_IN_USE: &str = "run a single node with it and stop the other one; if you run \
     no other one, the key is stolen: make another with `alys keys new` and have the federation \
     change to it";

fn fmt_agreement(notice: &AgreementNotice, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match notice {
        AgreementNotice::ClockJumped { by_ms } => write!(
            f,
            "the wall clock jumped by {by_ms} ms: no votes until peers confirm it; if the clock \
             is right, `alys admin confirm-clock` ends the wait"
        ),
        AgreementNotice::ClockUnconfirmed { slot, highest } => write!(
            f,
            "the wall clock is in slot {slot}, far ahead of slot {highest}, the last certified \
             one: no votes until peers confirm it; if the clock is right, `alys admin \
             confirm-clock` ends the wait"
        ),
        AgreementNotice::ClockTrusted => f.write_str("the wall clock is trusted"),
        AgreementNotice::ApprovedAhead { approved, slot } => write!(
            f,
            "this authority has approved in slot {approved}, and its clock is in slot {slot}: it \
             cannot approve until then; a clock that was ahead caused it"
        ),
        AgreementNotice::UnknownVote { slot } => write!(
            f,
            "this authority voted in slot {slot}, and the data directory does not contain that \
             vote: either an older copy of the directory was restored, or the key is in use \
             elsewhere, in which case {KEY_IN_USE}"
        ),
        AgreementNotice::VotesLost { silent_until: None } => f.write_str(
            "the vote state is lost: no votes until the wall clock is trusted and a block of a \
             later slot, which is logged then, is final",
        ),
        AgreementNotice::VotesLost {
            silent_until: Some(until),
        } => write!(
            f,
            "the vote state is lost: no votes until a block after slot {until} is final"
        ),
        AgreementNotice::VotesRegained => {
            f.write_str("the node votes again after the loss of its vote state")
        }
        AgreementNotice::CertifiedInvalid { hash } => write!(
            f,
            "the execution client considers the certified block {hash} invalid, which a quorum \
             executed; the node asks again with growing pauses: check the client's log and disk, \
             then restart it"
        ),
        AgreementNotice::CertifiedValid { hash } => write!(
            f,
            "the execution client considers the certified block {hash} valid now"
        ),
        AgreementNotice::OwnBlockInvalid { slot, rule } => write!(
            f,
            "nothing is proposed from the payload that the execution client built for slot {slot}: \
             {rule}; {}",
            remedy(rule)
        ),
        AgreementNotice::ConflictingFinality {
            height,
            ours,
            theirs,
        } => write!(
            f,
            "conflicting finality at height {height}, ours {ours}, theirs {theirs}: more \
             authorities are faulty than tolerated"
        ),
        AgreementNotice::UnfitProposal { slot, fault } => {
            write!(
                f,
                "the block proposed in slot {slot} is not approved: {fault}"
            )
        }
        AgreementNotice::LedgerDiverged { height } => write!(
            f,
            "the final block at height {height} contradicts the ledger of this node, which signs \
             nothing from now on: its store is damaged, or its execution client gave wrong \
             receipts; stop the node, delete its chain data and let it sync again"
        ),
        AgreementNotice::OrderRefused { number } => {
            write!(f, "federation order {number} cannot be carried out")
        }
    }
}

/// The setting of the execution client to change when it builds payloads that break a rule.
fn remedy(rule: &Invalid) -> String {
    match rule {
        Invalid::GasLimit { limit, .. } => format!(
            "start Geth with --miner.gaslimit {limit}, Reth with --builder.gaslimit {limit}, \
             ethrex with --builder.gas-limit {limit}"
        ),
        Invalid::Blobs { .. } | Invalid::TransactionType { .. } => {
            "initialise the client with the execution genesis of the chain, which permits 0 blobs \
             and no later forks, or remove the transaction from its pool"
                .to_owned()
        }
        Invalid::Limit(_) => {
            "configure the client to build smaller blocks (a lower gas limit)".to_owned()
        }
        Invalid::Version { .. }
        | Invalid::OtherChain { .. }
        | Invalid::Parent { .. }
        | Invalid::Height { .. }
        | Invalid::SlotOrder { .. }
        | Invalid::NotTheLeader { .. }
        | Invalid::ParentCertificate
        | Invalid::BodyHash
        | Invalid::Work(_)
        | Invalid::Payload { .. }
        | Invalid::NotAdmitted { .. }
        | Invalid::OrderNotAdmitted { .. } => {
            "check the version of the client: it does not use the payload attributes that it is \
             given"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use alys_types::LimitError;

    use super::*;

    #[test]
    fn a_vote_of_another_machine_names_the_cause_and_the_remedy() {
        let slot = Slot(7);
        let text = Notice::Agreement(AgreementNotice::UnknownVote { slot }).to_string();
        for part in [
            "slot 7",
            "in use elsewhere",
            "stop the other",
            "alys keys new",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_refused_payload_names_the_setting_of_the_client() {
        let limit = LimitError {
            what: "encoded bytes",
            limit: 1,
            found: 2,
        };
        let table = [
            (
                Invalid::GasLimit {
                    limit: 30_000_000,
                    found: 36_000_000,
                },
                "--miner.gaslimit 30000000",
            ),
            (Invalid::Blobs { used: 131_072 }, "0 blobs"),
            (
                Invalid::TransactionType {
                    index: 0,
                    found: Some(4),
                },
                "no later forks",
            ),
            (Invalid::Limit(limit), "smaller blocks"),
            (Invalid::Payload { field: "timestamp" }, "payload.timestamp"),
        ];
        for (rule, expected) in table {
            let slot = Slot(7);
            let notice = Notice::Agreement(AgreementNotice::OwnBlockInvalid { slot, rule });
            let text = notice.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&rule.to_string()), "{text}");
        }
    }
}
