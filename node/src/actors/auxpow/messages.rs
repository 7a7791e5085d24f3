//! Messages of the AuxPowActor, and the handles for the JSON-RPC of miners and for peers.

use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, AskError, Message, Priority, Reply};
use alys_runtime::sync::{OwnedSemaphorePermit, Semaphore};
use alys_types::{Address, Hash};

use super::desk::{Handed, NoWork, Submission, WorkStatus};
use super::{HeldProof, PowFinal, WorkOffer};
use crate::actors::validation::Source;

/// Longest wait for an answer: the actor may be writing a proof.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Submissions that are in the mailbox or under way, of at most 512 KiB each.
pub const MAX_SUBMISSIONS: usize = 16;
/// Other questions that are in the mailbox or under way: one of each connection of miners.
pub const MAX_QUESTIONS: usize = 256;
/// Proofs of peers that are in the mailbox or under way, of at most 512 KiB each.
pub const MAX_GOSSIPED: usize = 16;
/// Those of strangers, so that those of known peers find room.
const MAX_GOSSIPED_BY_STRANGERS: usize = MAX_GOSSIPED / 4;

pub enum AuxPowMessage {
    /// The chain's work changed, or the ChainActor started.
    Work(Option<Arc<WorkOffer>>),
    /// A range became final by proof of work, or the ChainActor started.
    PowFinal(PowFinal),
    /// The actor's own timer: sends held proofs to the chain again.
    Resend,
    /// A gossiped proof.
    Gossip {
        source: Source,
        payload: Vec<u8>,
        place: Place,
    },
    /// Work for a miner, or for the default address.
    Create {
        miner: Option<Address>,
        place: Place,
        reply: Reply<Result<Handed, NoWork>>,
    },
    /// A proof of the work with this commitment, in internal order.
    Submit {
        commitment: Hash,
        auxpow: Vec<u8>,
        place: Place,
        reply: Reply<Submission>,
    },
    /// The state of the work with this commitment, in internal order.
    GetStatus {
        commitment: Hash,
        place: Place,
        reply: Reply<Option<WorkStatus>>,
    },
    /// The proof that a leader would carry, and the last one that a final block carries.
    GetQueued { place: Place, reply: Reply<Queue> },
}

/// A place among the questions of miners, or the proofs of peers. The message holds it, because an expired message stays in
/// the mailbox until its turn.
pub type Place = OwnedSemaphorePermit;

/// The proofs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// The held proof that a leader would carry.
    pub next: Option<Arc<HeldProof>>,
    /// Number of held proofs.
    pub held: usize,
    /// The last proof that a final block carries.
    pub last_final: Option<PowFinal>,
}

impl Message for AuxPowMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Work(_) => "work",
            Self::PowFinal(_) => "pow_final",
            Self::Resend => "resend",
            Self::Gossip { .. } => "gossip",
            Self::Create { .. } => "create",
            Self::Submit { .. } => "submit",
            Self::GetStatus { .. } => "get_status",
            Self::GetQueued { .. } => "get_queued",
        }
    }

    /// Questions of miners yield to the chain, and proofs of peers to both.
    fn priority(&self) -> Priority {
        match self {
            Self::Work(_) | Self::PowFinal(_) | Self::Resend => Priority::High,
            Self::Create { .. }
            | Self::Submit { .. }
            | Self::GetStatus { .. }
            | Self::GetQueued { .. } => Priority::Normal,
            Self::Gossip { .. } => Priority::Low,
        }
    }
}

/// Reason for which a question has no answer. The same question may be answered later.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    #[error("{limit} other {what} are under way: try again")]
    Busy { what: &'static str, limit: usize },
    #[error("the node's mining part does not answer: {0}")]
    Ask(#[from] AskError),
}

/// Access of the miners' JSON-RPC to the desk, with a bounded number of questions.
#[derive(Clone)]
pub struct Handle {
    addr: Addr<AuxPowMessage>,
    submissions: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

impl Handle {
    pub fn new(addr: Addr<AuxPowMessage>) -> Handle {
        Handle {
            addr,
            submissions: Arc::new(Semaphore::new(MAX_SUBMISSIONS)),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        }
    }

    /// Work for a miner, or for the default address.
    ///
    /// # Errors
    /// Any [`DeskError`].
    pub async fn create(
        &self,
        miner: Option<Address>,
    ) -> Result<Result<Handed, NoWork>, DeskError> {
        let place = self.question()?;
        let make = |reply| AuxPowMessage::Create {
            miner,
            place,
            reply,
        };
        Ok(self.addr.ask(make, ASK_TIMEOUT).await?)
    }

    /// Submits a proof of the work with this commitment, in internal order.
    ///
    /// # Errors
    /// Any [`DeskError`]. After a timeout the proof may have been accepted; it can be submitted
    /// again.
    pub async fn submit(&self, commitment: Hash, auxpow: Vec<u8>) -> Result<Submission, DeskError> {
        let place = self.submissions.clone().try_acquire_owned();
        let place = place.map_err(|_| DeskError::Busy {
            what: "submissions",
            limit: MAX_SUBMISSIONS,
        })?;
        let make = |reply| AuxPowMessage::Submit {
            commitment,
            auxpow,
            place,
            reply,
        };
        Ok(self.addr.ask(make, ASK_TIMEOUT).await?)
    }

    /// The state of the work with this commitment, in internal order; `None` if it is not
    /// remembered.
    ///
    /// # Errors
    /// Any [`DeskError`].
    pub async fn status(&self, commitment: Hash) -> Result<Option<WorkStatus>, DeskError> {
        let place = self.question()?;
        let make = |reply| AuxPowMessage::GetStatus {
            commitment,
            place,
            reply,
        };
        Ok(self.addr.ask(make, ASK_TIMEOUT).await?)
    }

    /// The proofs that the node holds.
    ///
    /// # Errors
    /// Any [`DeskError`].
    pub async fn queue(&self) -> Result<Queue, DeskError> {
        let place = self.question()?;
        let make = |reply| AuxPowMessage::GetQueued { place, reply };
        Ok(self.addr.ask(make, ASK_TIMEOUT).await?)
    }

    fn question(&self) -> Result<Place, DeskError> {
        let place = self.questions.clone().try_acquire_owned();
        place.map_err(|_| DeskError::Busy {
            what: "questions of miners",
            limit: MAX_QUESTIONS,
        })
    }
}

/// Access of peers to the desk. Clones share the places, so that proofs which an earlier
/// incarnation of the NetworkActor left in the mailbox count as well.
#[derive(Clone)]
pub struct PeerProofs {
    addr: Addr<AuxPowMessage>,
    of_known: Arc<Semaphore>,
    of_strangers: Arc<Semaphore>,
}

impl PeerProofs {
    pub fn new(addr: Addr<AuxPowMessage>) -> PeerProofs {
        let of_known = MAX_GOSSIPED.saturating_sub(MAX_GOSSIPED_BY_STRANGERS);
        PeerProofs {
            addr,
            of_known: Arc::new(Semaphore::new(of_known)),
            of_strangers: Arc::new(Semaphore::new(MAX_GOSSIPED_BY_STRANGERS)),
        }
    }

    /// Passes a gossiped proof on, which gets a verdict then. False if there is no room.
    pub fn pass(&self, source: Source, payload: Vec<u8>) -> bool {
        let places = if source.is_known {
            &self.of_known
        } else {
            &self.of_strangers
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            return false;
        };
        let message = AuxPowMessage::Gossip {
            source,
            payload,
            place,
        };
        self.addr.tell(message).is_ok()
    }
}
