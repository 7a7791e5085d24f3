//! The means of an adversary: its key, if it has one, and the signatures of others that it heard.

use std::collections::BTreeMap;

use alys_runtime::sim::Rng;
use alys_types::bls::{SecretKey, Signature, aggregate};
use alys_types::vote::ChainId;
use alys_types::{Bitmap, Certificate, FaultModel, Vote, VoteKind, VoteTarget};

use crate::params::tolerated;

/// Most targets whose signatures are remembered.
const MOST_TARGETS: usize = 32;

/// Keys and signatures for alterations.
pub struct Workshop {
    /// The authority of the adversary, from 0, and its key; `None` for a stranger.
    key: Option<(u8, SecretKey)>,
    pub chain: ChainId,
    fault_model: FaultModel,
    /// Number of authorities in the set of the altered message, and their quorum.
    pub nodes: u8,
    pub quorum: usize,
    pub rng: Rng,
    /// Valid signatures by target and signer.
    heard: BTreeMap<VoteTarget, BTreeMap<u8, Signature>>,
}

impl Workshop {
    pub fn new(
        key: Option<(u8, SecretKey)>,
        chain: ChainId,
        fault_model: FaultModel,
        nodes: u8,
        rng: Rng,
    ) -> Self {
        let mut shop = Self {
            key,
            chain,
            fault_model,
            nodes,
            quorum: 0,
            rng,
            heard: BTreeMap::new(),
        };
        shop.belong_to(usize::from(nodes));
        shop
    }

    /// Takes the length and the quorum of a set with this number of authorities, because sets
    /// change in a run.
    pub fn belong_to(&mut self, authorities: usize) {
        self.nodes = authorities as u8;
        self.quorum = authorities - tolerated(self.fault_model, authorities);
    }

    /// The authority of the adversary, from 0.
    pub fn authority(&self) -> Option<u8> {
        self.key.as_ref().map(|(index, _)| *index)
    }

    /// Signs with the adversary's key.
    pub fn sign(&self, target: VoteTarget) -> Option<Vote> {
        let (signer, key) = self.key.as_ref()?;
        let signature = key.sign(&target.message(&self.chain).0);
        Some(Vote {
            target,
            signer: *signer,
            signature,
        })
    }

    /// Remembers the signature of a vote; those of the lowest slots are forgotten.
    pub fn hear(&mut self, vote: &Vote) {
        let of_target = self.heard.entry(vote.target).or_default();
        of_target.insert(vote.signer, vote.signature);
        while self.heard.len() > MOST_TARGETS {
            let lowest = self.heard.keys().min_by_key(|target| target.slot).copied();
            if let Some(lowest) = lowest {
                self.heard.remove(&lowest);
            }
        }
    }

    /// The signatures of a target: those that were heard, and the adversary's own.
    pub fn signatures(&self, target: &VoteTarget) -> BTreeMap<u8, Signature> {
        let mut all = self.heard.get(target).cloned().unwrap_or_default();
        if let Some(own) = self.sign(*target) {
            all.insert(own.signer, own.signature);
        }
        all
    }

    /// The finality certificate with the highest slot whose quorum was heard.
    pub fn finality(&self) -> Option<Certificate> {
        let of_final = |(target, signatures): &(&VoteTarget, &BTreeMap<u8, Signature>)| {
            target.kind == VoteKind::Confirmation && signatures.len() >= self.quorum
        };
        let heard = self.heard.iter().filter(of_final);
        let (target, signatures) = heard.max_by_key(|(target, _)| target.slot)?;
        let signers = self.bitmap(signatures.keys().copied());
        let signatures: Vec<Signature> = signatures.values().copied().collect();
        certificate(*target, signers, &signatures)
    }

    /// Another authority than the one of this index.
    pub fn other(&self, index: u8) -> u8 {
        (index + 1) % self.nodes
    }

    /// A bitmap of the federation's length.
    pub fn bitmap(&self, signers: impl IntoIterator<Item = u8>) -> Bitmap {
        bitmap(usize::from(self.nodes), signers)
    }
}

/// A bitmap of `length` bits; signers beyond it are left out.
pub fn bitmap(length: usize, signers: impl IntoIterator<Item = u8>) -> Bitmap {
    let mut bitmap = Bitmap::empty(length);
    signers.into_iter().for_each(|signer| bitmap.set(signer));
    bitmap
}

/// A certificate with these signers and the aggregate of these signatures, which need not belong
/// together; `None` if there is no signature.
pub fn certificate(
    target: VoteTarget,
    signers: Bitmap,
    signatures: &[Signature],
) -> Option<Certificate> {
    let signature = aggregate(signatures).ok()?;
    Some(Certificate {
        target,
        signers,
        signature,
    })
}
