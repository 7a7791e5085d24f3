//! Leaders, quorums, certificates and equivocation.

use std::collections::BTreeMap;

use alys_types::bls::{self, Signature};
use alys_types::{
    AuthoritySet, Bitmap, Certificate, Hash, Height, Slot, Vote, VoteKind, VoteTarget,
};

use super::PlantedBug;
use crate::config::Config;

/// Rule 1.1 (docs/protocol.md): the index of the leader of a slot, `slot mod n`, in the set of the
/// block's height.
pub(crate) fn leader(set: &AuthoritySet, slot: Slot, height: Height, bug: &PlantedBug) -> u8 {
    if bug.active("leader-by-height") {
        return set.leader(Slot(height.0));
    }
    set.leader(slot)
}

/// Rules 1.3 and 1.4 (docs/protocol.md): n - f distinct signers make a certificate.
pub(crate) fn quorum(set: &AuthoritySet, bug: &PlantedBug) -> usize {
    let quorum = set.quorum();
    if bug.active("quorum-off-by-one") {
        return quorum.saturating_sub(1).max(1);
    }
    quorum
}

/// Rules 3.3 and 3.5 (docs/protocol.md): true when a quorum of the set signed.
pub(crate) fn has_quorum(signers: &Bitmap, set: &AuthoritySet, bug: &PlantedBug) -> bool {
    signers.count() >= quorum(set, bug)
}

/// Rule 3.9 (docs/protocol.md): the number of peers, q - 1, that confirm a wall clock.
pub(crate) fn clock_confirmations(set: &AuthoritySet, bug: &PlantedBug) -> usize {
    quorum(set, bug).saturating_sub(1)
}

/// Rules 3.3 and 3.5 (docs/protocol.md): the certificate of verified votes for one target; `None`
/// below a quorum.
pub(crate) fn aggregate(
    target: VoteTarget,
    votes: &BTreeMap<u8, Signature>,
    set: &AuthoritySet,
    bug: &PlantedBug,
) -> Option<Certificate> {
    let mut signers = Bitmap::empty(set.len());
    votes.keys().for_each(|signer| signers.set(*signer));
    if !has_quorum(&signers, set, bug) {
        return None;
    }
    let votes: Vec<_> = votes
        .iter()
        .map(|(signer, signature)| (*signer, *signature))
        .collect();
    Certificate::aggregate(target, &votes, set)
}

/// Rules 1.6, 3.3 and 3.5 (docs/protocol.md): a certificate is of approvals or confirmations, has
/// one bit for each authority of the set of its block's height, a quorum of signers, and their
/// aggregate signature.
pub fn check_certificate(
    certificate: &Certificate,
    set: &AuthoritySet,
    config: &Config,
) -> Result<(), CertificateError> {
    let Certificate {
        target, signers, ..
    } = certificate;
    if target.kind == VoteKind::Proposal {
        return Err(CertificateError::Kind);
    }
    if signers.len() != set.len() {
        return Err(CertificateError::Bitmap {
            expected: set.len(),
            found: signers.len(),
        });
    }
    let bug = &config.planted_bug;
    if !has_quorum(signers, set, bug) && !bug.active("quorum-unchecked") {
        return Err(CertificateError::Quorum {
            needed: quorum(set, bug),
            found: signers.count(),
        });
    }
    certificate.verify_signature(set, &config.genesis.chain_id())?;
    Ok(())
}

/// Rule 3.3 (docs/protocol.md): the certificate of the parent in a proposal holds against the set
/// of the parent's height.
pub(crate) fn check_parents_votes(
    certificate: &Certificate,
    set: &AuthoritySet,
    config: &Config,
) -> Result<(), CertificateError> {
    if config.planted_bug.active("parent-certificate-unchecked") {
        return Ok(());
    }
    check_certificate(certificate, set, config)
}

/// The reason for which a certificate is refused. Always the fault of its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Proposals are not aggregated.
    #[error("certificate of proposals")]
    Kind,
    /// The bitmap belongs to a set of another size.
    #[error("certificate bitmap has {found} bits, the set has {expected} authorities")]
    Bitmap { expected: usize, found: usize },
    /// Fewer signers than a quorum.
    #[error("certificate has {found} signers, a quorum is {needed}")]
    Quorum { needed: usize, found: usize },
    /// The aggregate does not verify.
    #[error(transparent)]
    Signature(#[from] bls::Error),
}

/// Section 3 of the protocol, "kinds never stand for each other": the tallies that a vote of a
/// kind counts in.
pub(crate) fn counted_as(kind: VoteKind, bug: &PlantedBug) -> &'static [VoteKind] {
    match kind {
        VoteKind::Proposal => &[],
        VoteKind::Approval if bug.active("kinds-mixed") => {
            &[VoteKind::Approval, VoteKind::Confirmation]
        }
        VoteKind::Approval => &[VoteKind::Approval],
        VoteKind::Confirmation => &[VoteKind::Confirmation],
    }
}

/// Rule 3.5 (docs/protocol.md): true when a certificate of this kind makes its block final.
pub(crate) fn makes_final(kind: VoteKind, bug: &PlantedBug) -> bool {
    match kind {
        VoteKind::Proposal => false,
        VoteKind::Approval => bug.active("approvals-finalize"),
        VoteKind::Confirmation => true,
    }
}

/// Votes by slot, kind, signer and hash of the set that the signer's index refers to.
pub(crate) type VoteKey = (Slot, VoteKind, u8, Hash);

/// Rule 3.13 (docs/protocol.md): the earlier vote of the same kind, signer and slot that `vote`
/// contradicts.
pub(crate) fn equivocation<'a>(
    seen: &'a BTreeMap<VoteKey, Vote>,
    vote: &Vote,
    set_hash: Hash,
    bug: &PlantedBug,
) -> Option<&'a Vote> {
    let target = vote.target;
    let differs = |first: &&Vote| first.target.hash != target.hash;
    if bug.active("evidence-by-height") {
        let of_height = seen.iter().filter(|((_, kind, signer, set), first)| {
            (*kind, *signer, *set) == (target.kind, vote.signer, set_hash)
                && first.target.height == target.height
        });
        return of_height.map(|(_, first)| first).find(differs);
    }
    seen.get(&(target.slot, target.kind, vote.signer, set_hash))
        .filter(differs)
}
