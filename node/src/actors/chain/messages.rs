//! What the chain is told and asked.

use std::time::Duration;

use alys_actor_system::{Addr, Message, Reply};
use alys_consensus::{Summary, Verdict};
use alys_net::{InboundId, PeerId};
use alys_types::wire::{BlockRange, StatusAnswer};
use alys_types::{Block, ExecutionPayload, FederationOrder, Hash, Slot};

use crate::actors::validation::{Checked, Heard, Source};

/// What happened, or is asked.
pub enum ChainMessage {
    /// The own timer.
    Tick,
    /// Go on with the inputs that wait.
    Proceed,
    /// Decoded gossip.
    Heard { source: Source, heard: Heard },
    /// The result of a check.
    Checked {
        source: Source,
        checked: Box<Checked>,
    },
    /// Something that was given to be checked will not come back.
    CheckLost,
    /// The execution client's verdict.
    Executed { hash: Hash, verdict: Verdict },
    /// A block that the execution client was to be asked about is not in the store.
    NotStored { hash: Hash },
    /// A payload was built.
    Built {
        slot: Slot,
        parent: Hash,
        payload: Box<ExecutionPayload>,
    },
    /// A payload was not built.
    BuildFailed { slot: Slot, parent: Hash },
    /// The execution client may have forgotten things.
    ExecutionRestarted,
    /// A network service runs: it wants our status.
    NetworkStarted,
    /// What is published reaches one more peer.
    PeerListens,
    /// A peer tells its status and asks for ours.
    StatusAsked {
        id: InboundId,
        peer: PeerId,
        payload: Vec<u8>,
    },
    /// A peer answered our status.
    StatusAnswer {
        peer: PeerId,
        answer: Box<StatusAnswer>,
    },
    /// Blocks of a range.
    Range {
        peer: PeerId,
        range: Box<BlockRange>,
    },
    /// Blocks that were asked for by hash.
    Bodies { peer: PeerId, blocks: Vec<Block> },
    /// A federation change that governance ordered.
    Order(Box<FederationOrder>),
    /// The operator confirms the clock after a jump.
    ConfirmClock,
    /// Where does the chain stand?
    GetSummary { reply: Reply<Summary> },
}

impl Message for ChainMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Proceed => "proceed",
            Self::Heard { .. } => "heard",
            Self::Checked { .. } => "checked",
            Self::CheckLost => "check_lost",
            Self::Executed { .. } => "executed",
            Self::NotStored { .. } => "not_stored",
            Self::Built { .. } => "built",
            Self::BuildFailed { .. } => "build_failed",
            Self::ExecutionRestarted => "execution_restarted",
            Self::NetworkStarted => "network_started",
            Self::PeerListens => "peer_listens",
            Self::StatusAsked { .. } => "status_asked",
            Self::StatusAnswer { .. } => "status_answer",
            Self::Range { .. } => "range",
            Self::Bodies { .. } => "bodies",
            Self::Order(_) => "order",
            Self::ConfirmClock => "confirm_clock",
            Self::GetSummary { .. } => "get_summary",
        }
    }
}

/// How the owner of the node reaches the chain.
#[derive(Clone)]
pub struct Handle(pub Addr<ChainMessage>);

impl Handle {
    /// Where the chain stands; `None` while it is starting or restarting.
    pub async fn summary(&self) -> Option<Summary> {
        self.0
            .ask(
                |reply| ChainMessage::GetSummary { reply },
                Duration::from_secs(5),
            )
            .await
            .ok()
    }

    /// Hands in a federation change that governance ordered; false when the chain is too busy or stopping.
    pub fn order(&self, order: FederationOrder) -> bool {
        self.0.tell(ChainMessage::Order(Box::new(order))).is_ok()
    }

    /// Trusts the wall clock again after a jump; false when the chain is too busy or stopping.
    pub fn confirm_clock(&self) -> bool {
        self.0.tell(ChainMessage::ConfirmClock).is_ok()
    }
}
