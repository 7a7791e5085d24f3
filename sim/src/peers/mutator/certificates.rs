//! Alterations of votes and certificates.

use alys_types::bls::Signature;
use alys_types::{Bitmap, Certificate, Hash, Height, Slot, Vote, VoteKind};

use super::workshop::{Workshop, bitmap, certificate};
use crate::invariants::Tolerance;
use crate::invariants::Tolerance::{Refused, Valid};

/// The encoding of the point at infinity.
const INFINITY: Signature = {
    let mut bytes = [0; 96];
    bytes[0] = 0xc0;
    Signature(bytes)
};

/// An alteration of a vote, without a new signature.
pub type VoteChange = fn(&mut Vote, &mut Workshop);
/// An alteration of a certificate; `None` if the adversary lacks the signatures for it.
pub type CertificateChange = fn(&Certificate, &mut Workshop) -> Option<Certificate>;

/// The fields of a vote. The tolerance is that of an approval which the adversary then signs with
/// its own key; without a new signature none is valid.
pub const VOTE: &[(&str, Tolerance, VoteChange)] = &[
    ("kind", Refused, |vote, _| {
        vote.target.kind = other_kind(vote.target.kind);
    }),
    ("height", Valid, |vote, _| {
        vote.target.height = Height(vote.target.height.0 + 1);
    }),
    ("slot", Valid, |vote, _| {
        vote.target.slot = Slot(vote.target.slot.0.saturating_sub(1));
    }),
    ("hash", Valid, |vote, _| flip_hash(&mut vote.target.hash)),
    ("signer.other", Refused, |vote, shop| {
        vote.signer = shop.other(vote.signer);
    }),
    ("signer.outside", Refused, |vote, shop| {
        vote.signer = shop.nodes;
    }),
    ("signature.bits", Refused, |vote, _| {
        flip_signature(&mut vote.signature);
    }),
    ("signature.infinity", Refused, |vote, _| {
        vote.signature = INFINITY;
    }),
];

/// The fields of a certificate, and combinations of signers and signatures.
pub const CERTIFICATE: &[(&str, Tolerance, CertificateChange)] = &[
    ("kind", Refused, |of, _| {
        let mut altered = *of;
        altered.target.kind = other_kind(of.target.kind);
        Some(altered)
    }),
    ("height", Refused, |of, _| {
        let mut altered = *of;
        altered.target.height = Height(of.target.height.0 + 1);
        Some(altered)
    }),
    ("slot", Refused, |of, _| {
        let mut altered = *of;
        altered.target.slot = Slot(of.target.slot.0 + 1);
        Some(altered)
    }),
    ("hash", Refused, |of, _| {
        let mut altered = *of;
        flip_hash(&mut altered.target.hash);
        Some(altered)
    }),
    ("signers.none", Refused, |of, shop| {
        Some(with_signers(of, shop.bitmap([])))
    }),
    ("signers.one-less", Refused, |of, shop| {
        let without_first = of.signers.iter().skip(1);
        Some(with_signers(of, shop.bitmap(without_first)))
    }),
    ("signers.one-more", Refused, |of, shop| {
        let absent = (0..shop.nodes).find(|index| !of.signers.contains(*index))?;
        let signers = of.signers.iter().chain([absent]);
        Some(with_signers(of, shop.bitmap(signers)))
    }),
    ("signers.exchanged", Refused, |of, shop| {
        let absent = (0..shop.nodes).find(|index| !of.signers.contains(*index))?;
        let signers = of.signers.iter().skip(1).chain([absent]);
        Some(with_signers(of, shop.bitmap(signers)))
    }),
    ("signers.longer", Refused, |of, shop| {
        let length = usize::from(shop.nodes) + 1;
        Some(with_signers(of, bitmap(length, of.signers.iter())))
    }),
    ("signers.shorter", Refused, |of, shop| {
        let length = usize::from(shop.nodes.saturating_sub(1));
        Some(with_signers(of, bitmap(length, of.signers.iter())))
    }),
    ("signature.bits", Refused, |of, _| {
        let mut altered = *of;
        flip_signature(&mut altered.signature);
        Some(altered)
    }),
    ("signature.infinity", Refused, |of, _| {
        Some(Certificate {
            signature: INFINITY,
            ..*of
        })
    }),
    // The signatures of the other phase, of the same authorities for the same block.
    ("signature.other-kind", Refused, |of, shop| {
        let mut target = of.target;
        target.kind = other_kind(target.kind);
        let all: Vec<Signature> = shop.signatures(&target).into_values().collect();
        certificate(of.target, of.signers, &all)
    }),
    // One authority where a quorum is needed: its signature once for each bit.
    ("signers.repeated", Refused, |of, shop| {
        let (_, signature) = one_of_several(of, shop)?;
        let repeated = vec![signature; shop.quorum];
        certificate(of.target, of.signers, &repeated)
    }),
    // One authority, named truly: its signature once for each that a quorum needs.
    ("signers.single", Refused, |of, shop| {
        let (signer, signature) = one_of_several(of, shop)?;
        let repeated = vec![signature; shop.quorum];
        certificate(of.target, shop.bitmap([signer]), &repeated)
    }),
    // A quorum but one, and one of them twice.
    ("signature.repeated", Refused, |of, shop| {
        let all = shop.signatures(&of.target);
        let mut some: Vec<Signature> = all.into_values().take(shop.quorum - 1).collect();
        if some.len() + 1 < shop.quorum {
            return None;
        }
        some.push(*some.first()?);
        certificate(of.target, of.signers, &some)
    }),
    // Valid signatures of one authority less than a quorum, and their bits.
    ("below-quorum", Refused, |of, shop| {
        let all = shop.signatures(&of.target);
        let some: Vec<(u8, Signature)> = all.into_iter().take(shop.quorum - 1).collect();
        if some.len() + 1 < shop.quorum {
            return None;
        }
        let signers = shop.bitmap(some.iter().map(|(signer, _)| *signer));
        let signatures: Vec<Signature> = some.iter().map(|(_, signature)| *signature).collect();
        certificate(of.target, signers, &signatures)
    }),
    // A quorum, one of whose members stands in for another one.
    ("signers.foreign", Refused, |of, shop| {
        let all = shop.signatures(&of.target);
        let some: Vec<(u8, Signature)> = all.into_iter().take(shop.quorum).collect();
        if some.len() < shop.quorum {
            return None;
        }
        let is_member = |index: &u8| some.iter().any(|(signer, _)| signer == index);
        let absent = (0..shop.nodes).find(|index| !is_member(index))?;
        let named = some.iter().skip(1).map(|(signer, _)| *signer);
        let signers = shop.bitmap(named.chain([absent]));
        let signatures: Vec<Signature> = some.iter().map(|(_, signature)| *signature).collect();
        certificate(of.target, signers, &signatures)
    }),
    // Another quorum for the same target is as good.
    ("another-quorum", Valid, |of, shop| {
        let all = shop.signatures(&of.target);
        let newest: Vec<(u8, Signature)> = all.into_iter().rev().take(shop.quorum).collect();
        if newest.len() < shop.quorum {
            return None;
        }
        let signers = shop.bitmap(newest.iter().map(|(signer, _)| *signer));
        let signatures: Vec<Signature> = newest.iter().map(|(_, signature)| *signature).collect();
        certificate(of.target, signers, &signatures)
    }),
];

/// A signature of the target; `None` where one signature is a quorum.
fn one_of_several(of: &Certificate, shop: &Workshop) -> Option<(u8, Signature)> {
    if shop.quorum < 2 {
        return None;
    }
    shop.signatures(&of.target).pop_first()
}

fn with_signers(of: &Certificate, signers: Bitmap) -> Certificate {
    Certificate { signers, ..*of }
}

const fn other_kind(kind: VoteKind) -> VoteKind {
    match kind {
        VoteKind::Approval => VoteKind::Confirmation,
        VoteKind::Proposal | VoteKind::Confirmation => VoteKind::Approval,
    }
}

pub fn flip_hash(hash: &mut Hash) {
    hash.0[0] ^= 1;
}

fn flip_signature(signature: &mut Signature) {
    signature.0[20] ^= 1;
}
