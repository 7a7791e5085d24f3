//! Proofs of the miners of other nodes (topic `work`), judged by the present offer alone, the
//! cheapest check first.

use std::sync::Arc;

use alys_pow::{AuxPow, Bundle, BundleError, FormatError, VerifiedAuxPow, Work};
use alys_types::Hash;
use alys_types::codec::DecodeError;
use alys_types::wire::WorkProof;

use super::{Desk, HeldProof, Report};

/// Held proofs of the miners of other nodes, within [`super::MAX_HELD`]: one is carried, and the
/// others are of ranges that overlap it.
pub const MAX_HELD_OF_PEERS: usize = 16;

/// The result for a proof that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossiped {
    /// It meets every rule: to be forwarded, written, and then sent to the chain.
    New {
        key: Hash,
        proof: Arc<HeldProof>,
        /// Keys of held proofs that it displaces, all of peers.
        displaced: Vec<Hash>,
    },
    /// It is of no use here, which is no fault of its sender.
    Unused(Unused),
    /// It breaks a rule, and every honest node knows that.
    Refused(BadProof),
}

/// The reason for which a proof is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// The chain offers no work, or work of another number.
    OtherSequence,
    /// The range is not one that the present offer begins with.
    OtherRange,
    /// A proof of the same work is held.
    Known,
    /// The work does not meet the present bits, which ease with the time of each node.
    Work,
    /// [`MAX_HELD_OF_PEERS`] proofs of more blocks are held, or as many of own miners as there is
    /// room for.
    Superseded,
}

/// The rule that a proof breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    #[error("message of a proof of work: {0}")]
    Message(#[from] DecodeError),
    #[error("range of a proof of work: {0}")]
    Range(#[from] BundleError),
    #[error("AuxPoW: {0}")]
    Format(#[from] FormatError),
    #[error("AuxPoW: rule {rule}: found {found}, expected {expected}")]
    Rule {
        rule: &'static str,
        expected: String,
        found: String,
    },
}

impl Desk {
    /// A proof that a peer sent. A commitment has one proof here, so that copies with another
    /// encoding of the same work are known.
    pub fn on_gossip(&mut self, message: WorkProof) -> Gossiped {
        let (key, proof) = match self.judge(message) {
            Ok(judged) => judged,
            Err(other) => return other,
        };
        let proof = Arc::new(proof);
        self.hold(key, proof.clone(), false);
        let displaced = self.displace();
        if displaced.contains(&key) {
            return Gossiped::Unused(Unused::Superseded);
        }
        Gossiped::New {
            key,
            proof,
            displaced,
        }
    }

    /// The proof with the commitment of its work, or the result if it is not to be held.
    fn judge(&self, message: WorkProof) -> Result<(Hash, HeldProof), Gossiped> {
        let unused = |unused| Err(Gossiped::Unused(unused));
        let refused = |bad: BadProof| Gossiped::Refused(bad);
        let offer = match &self.report {
            Report::Offer(offer) if offer.offer.sequence == message.sequence => offer,
            Report::Offer(_) | Report::NoWork | Report::Missing => {
                return unused(Unused::OtherSequence);
            }
        };
        if message.count == 0 {
            return Err(refused(BundleError::Empty.into()));
        }
        let count = usize::try_from(message.count).unwrap_or(usize::MAX);
        let Some(range) = offer.offer.range.get(..count) else {
            return unused(Unused::OtherRange);
        };
        let is_prefix =
            range.first() == Some(&message.range_start) && range.last() == Some(&message.range_end);
        if !is_prefix {
            return unused(Unused::OtherRange);
        }
        // The end of a range determines its other blocks.
        let is_same = |held: &HeldProof| {
            held.sequence == message.sequence
                && held.range_end == message.range_end
                && held.miner == message.miner
        };
        if self.held.values().any(|held| is_same(&held.proof)) {
            return unused(Unused::Known);
        }
        let auxpow = AuxPow::decode(&message.auxpow).map_err(|error| refused(error.into()))?;
        let work = auxpow.parent_hash();
        if !offer.bits.target().is_met_by(work) {
            return unused(Unused::Work);
        }
        let bundle = Bundle::new(
            self.genesis_hash,
            self.chain_id,
            message.sequence,
            range,
            message.miner,
        );
        let bundle = bundle.map_err(|error| refused(error.into()))?;
        let key = Work::new(bundle, offer.bits);
        VerifiedAuxPow::new(auxpow, key.demand()).map_err(|refusal| {
            refused(BadProof::Rule {
                rule: refusal.rule().name(),
                expected: refusal.expected(),
                found: refusal.found(),
            })
        })?;
        let WorkProof {
            sequence,
            range_start,
            range_end,
            count,
            miner,
            auxpow,
        } = message;
        let proof = HeldProof {
            sequence,
            range_start,
            range_end,
            count,
            miner,
            auxpow,
            work,
        };
        Ok((key.commitment, proof))
    }

    /// The proof of an own miner that peers should have, with the commitment of its work: the
    /// longest range of the offered number. `None` once a block of the chain carries that number.
    pub fn to_publish(&self) -> Option<(Hash, WorkProof)> {
        let Report::Offer(offer) = &self.report else {
            return None;
        };
        let offer = &offer.offer;
        let is_open = |proof: &HeldProof| {
            proof.sequence == offer.sequence && offer.range.first() == Some(&proof.range_start)
        };
        let own = self.held.iter().filter(|(_, held)| held.is_own);
        let open = own.filter(|(_, held)| is_open(&held.proof));
        let best = open.max_by_key(|(_, held)| (held.proof.count, std::cmp::Reverse(held.number)));
        best.map(|(key, held)| (*key, message(&held.proof)))
    }
}

/// The message about a held proof.
fn message(proof: &HeldProof) -> WorkProof {
    WorkProof {
        sequence: proof.sequence,
        range_start: proof.range_start,
        range_end: proof.range_end,
        count: proof.count,
        miner: proof.miner,
        auxpow: proof.auxpow.clone(),
    }
}
