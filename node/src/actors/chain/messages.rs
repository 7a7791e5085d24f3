//! Messages of the ChainActor, and the handle for the owner of the node.

use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, Message, Reply};
use alys_consensus::{Summary, Verdict};
use alys_net::{InboundId, PeerId};
use alys_peg::Additions;
use alys_types::wire::{BlockRange, StatusAnswer};
use alys_types::{Block, ExecutionPayload, Hash, Order, Slot};

use crate::actors::auxpow::HeldProof;
use crate::actors::validation::{Checked, Gossip, Source};

/// Longest wait of the owner for a summary.
const SUMMARY_TIMEOUT: Duration = Duration::from_secs(5);

pub enum ChainMessage {
    /// The actor's own timer.
    Tick,
    /// Process the rest of the queue.
    Resume,
    GossipReceived {
        source: Source,
        gossip: Gossip,
    },
    /// The answer to a [`Check`](crate::actors::validation::ValidationMessage::Check), or a refusal
    /// to decode.
    Checked {
        source: Source,
        checked: Box<Checked>,
    },
    /// The ValidationActor restarted and may have lost checks.
    ChecksLost,
    /// The execution client's verdict on a block.
    Executed {
        hash: Hash,
        verdict: Verdict,
    },
    /// The additions of a block to the ledger; `None` if they are not known yet.
    Accounted {
        hash: Hash,
        additions: Option<Additions>,
    },
    /// A block for the execution client is not in the storage.
    NotStored {
        hash: Hash,
    },
    Built {
        slot: Slot,
        parent: Hash,
        payload: Box<ExecutionPayload>,
    },
    BuildFailed {
        slot: Slot,
        parent: Hash,
    },
    /// The execution client may have lost blocks and its fork choice.
    ExecutionRestarted,
    /// A new network service has no status yet.
    NetworkStarted,
    /// A new AuxPowActor has no work yet.
    AuxPowStarted,
    /// A verified proof of work to carry. Repeated until a final block carries one of its number.
    Proof(Arc<HeldProof>),
    /// One more peer receives broadcasts.
    PeerListens,
    /// A peer sent its status and requests ours. `is_known` is true for peers with a known address
    /// and for authorities.
    StatusRequested {
        id: InboundId,
        peer: PeerId,
        is_known: bool,
        payload: Vec<u8>,
    },
    StatusReceived {
        peer: PeerId,
        is_known: bool,
        answer: Box<StatusAnswer>,
    },
    RangeReceived {
        peer: PeerId,
        range: Box<BlockRange>,
    },
    /// Blocks that were requested by hash.
    BodiesReceived {
        peer: PeerId,
        blocks: Vec<Block>,
    },
    /// A change of the federation, signed by governance.
    Order(Box<Order>),
    /// The operator confirms the wall clock after a jump.
    ConfirmClock,
    GetSummary {
        reply: Reply<Summary>,
    },
}

impl Message for ChainMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Resume => "resume",
            Self::GossipReceived { .. } => "gossip_received",
            Self::Checked { .. } => "checked",
            Self::ChecksLost => "checks_lost",
            Self::Executed { .. } => "executed",
            Self::Accounted { .. } => "accounted",
            Self::NotStored { .. } => "not_stored",
            Self::Built { .. } => "built",
            Self::BuildFailed { .. } => "build_failed",
            Self::ExecutionRestarted => "execution_restarted",
            Self::NetworkStarted => "network_started",
            Self::AuxPowStarted => "aux_pow_started",
            Self::Proof(_) => "proof",
            Self::PeerListens => "peer_listens",
            Self::StatusRequested { .. } => "status_requested",
            Self::StatusReceived { .. } => "status_received",
            Self::RangeReceived { .. } => "range_received",
            Self::BodiesReceived { .. } => "bodies_received",
            Self::Order(_) => "order",
            Self::ConfirmClock => "confirm_clock",
            Self::GetSummary { .. } => "get_summary",
        }
    }
}

/// The owner's access to the chain.
#[derive(Clone)]
pub struct Handle(pub Addr<ChainMessage>);

impl Handle {
    /// `None` while the actor starts or restarts.
    pub async fn summary(&self) -> Option<Summary> {
        self.0
            .ask(|reply| ChainMessage::GetSummary { reply }, SUMMARY_TIMEOUT)
            .await
            .ok()
    }

    /// Submits a change of the federation; false when the actor is overloaded or stopping.
    pub fn order(&self, order: Order) -> bool {
        self.0.tell(ChainMessage::Order(Box::new(order))).is_ok()
    }

    /// Trusts the wall clock after a jump; false when the actor is overloaded or stopping.
    pub fn confirm_clock(&self) -> bool {
        self.0.tell(ChainMessage::ConfirmClock).is_ok()
    }
}
