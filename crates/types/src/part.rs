//! The parts of a body, and the proof of one of them (rule 2.3 of the protocol): a party that has
//! the header checks a proposal or an order without the rest of the body.

use serde::{Deserialize, Serialize};

use crate::hash::{tagged, tags};
use crate::{Body, Hash, codec};

/// Number of parts.
pub const PARTS: usize = 9;

/// A part of a body. The order of the variants is that of the body hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    Payload,
    WithdrawalKinds,
    PegIns,
    Settlements,
    PayoutProposal,
    AuxPow,
    Orders,
    Finality,
    FeeEstimate,
}

impl Part {
    /// All parts, in the order of the body hash.
    pub const ALL: [Part; PARTS] = [
        Part::Payload,
        Part::WithdrawalKinds,
        Part::PegIns,
        Part::Settlements,
        Part::PayoutProposal,
        Part::AuxPow,
        Part::Orders,
        Part::Finality,
        Part::FeeEstimate,
    ];

    /// Hash of the encoding of this part.
    pub fn hash(self, encoding: &[u8]) -> Hash {
        let tag = match self {
            Part::Payload => tags::PART_PAYLOAD,
            Part::WithdrawalKinds => tags::PART_WITHDRAWAL_KINDS,
            Part::PegIns => tags::PART_PEG_INS,
            Part::Settlements => tags::PART_SETTLEMENTS,
            Part::PayoutProposal => tags::PART_PAYOUT_PROPOSAL,
            Part::AuxPow => tags::PART_AUXPOW,
            Part::Orders => tags::PART_ORDERS,
            Part::Finality => tags::PART_FINALITY,
            Part::FeeEstimate => tags::PART_FEE_ESTIMATE,
        };
        tagged(tag, &[encoding])
    }
}

/// The hashes of the other parts beside one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartProof {
    pub part: Part,
    /// In the order of the body hash.
    pub siblings: [Hash; PARTS - 1],
}

impl PartProof {
    /// True if a body with this body hash has the part with this encoding.
    pub fn verify(&self, encoding: &[u8], body_hash: &Hash) -> bool {
        let mut siblings = self.siblings.iter();
        let hashes = Part::ALL.map(|part| {
            if part == self.part {
                return self.part.hash(encoding);
            }
            let sibling = siblings.next().expect("there is a sibling for each part");
            *sibling
        });
        hash_of_parts(&hashes) == *body_hash
    }
}

impl Body {
    /// The body hash: over the hashes of the parts.
    pub fn hash(&self) -> Hash {
        hash_of_parts(&self.part_hashes())
    }

    /// The canonical encoding of one part.
    pub fn encode_part(&self, part: Part) -> Vec<u8> {
        match part {
            Part::Payload => codec::encode(&self.payload),
            Part::WithdrawalKinds => codec::encode(&self.withdrawal_kinds),
            Part::PegIns => codec::encode(&self.peg_ins),
            Part::Settlements => codec::encode(&self.settlements),
            Part::PayoutProposal => codec::encode(&self.payout_proposal),
            Part::AuxPow => codec::encode(&self.auxpow),
            Part::Orders => codec::encode(&self.orders),
            Part::Finality => codec::encode(&self.finality),
            Part::FeeEstimate => codec::encode(&self.fee_estimate),
        }
    }

    /// Proves one part of this body.
    pub fn prove_part(&self, part: Part) -> PartProof {
        let mut siblings = [Hash::ZERO; PARTS - 1];
        let hashes = Part::ALL.into_iter().zip(self.part_hashes());
        let others = hashes.filter(|(other, _)| *other != part);
        for (sibling, (_, hash)) in siblings.iter_mut().zip(others) {
            *sibling = hash;
        }
        PartProof { part, siblings }
    }

    fn part_hashes(&self) -> [Hash; PARTS] {
        Part::ALL.map(|part| part.hash(&self.encode_part(part)))
    }
}

fn hash_of_parts(hashes: &[Hash; PARTS]) -> Hash {
    tagged(tags::BODY, &hashes.each_ref().map(|hash| &hash.0[..]))
}
