//! Proofs of work, fees and ledger hashes of own blocks that a leader altered, each against one
//! rule. The proofs are real: the leader finds them itself, for the altered commitment.

use std::time::Duration;

use alys_net::{Command, Topic};
use alys_runtime::sim::Rng;
use alys_types::wire::{CertifiedHeader, Message, Proposal};
use alys_types::{Address, AuxPowHeader, Block, Certificate, Hash};

use super::equivocation::seal;
use super::{Byzantine, Said, now, publish};
use crate::invariants::{Basis, Commitment, Forgery, Tolerance, target};
use crate::workload::miners::find_proof;

/// One own block in this many leaves as it was, so that proofs are carried.
const UNALTERED_ONE_IN: usize = 4;
/// The address that the proofs of the leader pay.
const MINER: Address = Address([0xe7; 20]);
/// Most hashes for a proof.
const MOST_HASHES: u32 = 1 << 14;

/// A proof that a block is to carry, before it is found.
#[derive(Debug, Clone)]
struct Draft {
    range: Vec<Hash>,
    sequence: u64,
    chain_id: u16,
    /// Bits in the header, and those that the work meets; `None` for work that meets none.
    bits: u32,
    work_bits: Option<u32>,
    certificates: Vec<Certificate>,
    /// The start of the range in the header, if it is not that of the range.
    start: Option<Hash>,
    /// The miner in the header.
    miner: Address,
}

/// An alteration of the draft of a right proof; false if it cannot be made now.
type Change = fn(&mut Draft, &Basis) -> bool;

/// All alterations of a proof. Each breaks rule 4.4, whatever the block has otherwise.
static ALTERATIONS: [(&str, Change); 16] = [
    ("bits.limit", |draft, basis| {
        draft.work_bits = Some(basis.limit);
        std::mem::replace(&mut draft.bits, basis.limit) != basis.limit
    }),
    ("bits.anchor", |draft, basis| {
        draft.work_bits = Some(basis.bits_of_anchor);
        std::mem::replace(&mut draft.bits, basis.bits_of_anchor) != basis.bits_of_anchor
    }),
    ("bits.before", |draft, basis| {
        draft.work_bits = Some(basis.bits_before);
        std::mem::replace(&mut draft.bits, basis.bits_before) != basis.bits_before
    }),
    ("work", |draft, _| {
        draft.work_bits = None;
        true
    }),
    ("sequence.above", |draft, _| {
        draft.sequence += 1;
        true
    }),
    ("sequence.again", |draft, _| {
        draft.sequence -= 1;
        true
    }),
    ("range-start.gap", |draft, _| {
        let is_long = draft.range.len() > 1;
        draft.range.drain(..usize::from(is_long));
        is_long
    }),
    ("range-start.again", |draft, basis| {
        draft.range.insert(0, basis.end);
        true
    }),
    ("range-start.named", |draft, basis| {
        draft.start = Some(basis.end);
        true
    }),
    ("range-end.not-final", |draft, basis| {
        let is_shorter = draft.range.len() < basis.uncovered.len();
        draft.range = basis.uncovered.clone();
        is_shorter
    }),
    ("range-end.unknown", |draft, _| {
        draft.range.push(Hash([0x5a; 32]));
        true
    }),
    ("finality.missing", |draft, _| {
        draft.certificates.clear();
        true
    }),
    ("finality.twice", |draft, _| {
        let again = draft.certificates.first().cloned();
        draft.certificates.extend(again);
        true
    }),
    ("chain-id", |draft, _| {
        draft.chain_id += 1;
        true
    }),
    ("miner", |draft, _| {
        draft.miner = Address([0xe8; 20]);
        true
    }),
    ("range.reversed", |draft, _| {
        draft.range.reverse();
        draft.range.len() > 1
    }),
];

/// Alterations of a block beside its proof.
static OTHERS: [(&str, fn(&mut Block, &Basis) -> bool); 4] = [
    ("ledger-hash", |block, _| {
        block.header.ledger_hash.0[5] ^= 1;
        true
    }),
    ("ledger-hash.before", |block, basis| {
        let before = std::mem::replace(&mut block.header.ledger_hash, basis.ledger_hash_before);
        before != basis.ledger_hash_before
    }),
    ("withdrawals.amount", |block, _| {
        let first = block.body.payload.withdrawals.first_mut();
        let is_there = first.is_some();
        if let Some(first) = first {
            first.amount_gwei += 1;
        }
        seal(block);
        is_there
    }),
    ("withdrawals.kinds", |block, _| {
        block.body.withdrawal_kinds.pop().is_some()
    }),
];

impl Byzantine {
    /// Remembers the last finality certificate that was gossiped.
    pub(super) fn note_finality(&mut self, payload: &[u8]) {
        if let Ok(CertifiedHeader { certificate, .. }) = CertifiedHeader::decode(payload) {
            let is_later = |known: &Certificate| known.target.slot < certificate.target.slot;
            if self.final_by.as_ref().is_none_or(is_later) {
                self.final_by = Some(certificate);
            }
        }
    }

    /// Alters the proof, the fees or the ledger hash of an own block.
    pub(super) fn alter_work(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let Said::Proposal(proposal) = Said::read(&command) else {
            return now(command);
        };
        let turn = self.altered_works;
        self.altered_works += 1;
        if turn % UNALTERED_ONE_IN == UNALTERED_ONE_IN - 1 {
            return now(command);
        }
        let header = &proposal.block.header;
        let timestamp = proposal.block.body.payload.timestamp;
        let basis = self.judge.look().work.basis(&header.parent_hash, timestamp);
        let Some(basis) = basis else {
            return now(command);
        };
        let mut rng = self.rng.clone();
        let altered = (0..ALTERATIONS.len() + OTHERS.len()).find_map(|more| {
            let which = (turn + more) % (ALTERATIONS.len() + OTHERS.len());
            self.altered_block(&proposal, which, &basis, &mut rng)
        });
        self.rng = rng;
        let Some((name, block)) = altered else {
            return now(command);
        };
        let Some(other) = self.other(&proposal, |_, own| *own = block) else {
            return now(command);
        };
        let forgery = Forgery {
            name: format!("work.{name}").into(),
            tolerance: Tolerance::NotVotedFor,
        };
        let hash = other.vote.target.hash;
        self.judge.look().forgeries.sent_block(&forgery, hash);
        self.did();
        now(publish(Topic::Blocks, &other))
    }

    /// The block of a proposal with the alteration `which`; `None` if it cannot be made now.
    fn altered_block(
        &self,
        proposal: &Proposal,
        which: usize,
        basis: &Basis,
        rng: &mut Rng,
    ) -> Option<(&'static str, Block)> {
        let mut block = proposal.block.clone();
        if let Some((name, change)) = which.checked_sub(ALTERATIONS.len()).map(|at| OTHERS[at]) {
            return change(&mut block, basis).then_some((name, block));
        }
        let (name, change) = ALTERATIONS[which];
        let own = block.body.finality.first();
        let certificate = *own.or(self.final_by.as_ref())?;
        let shown = certificate.target.hash;
        let end = basis.uncovered.iter().position(|hash| *hash == shown)?;
        let mut draft = Draft {
            range: basis.uncovered[..=end].to_vec(),
            sequence: basis.sequence,
            chain_id: basis.chain_id,
            bits: basis.bits,
            work_bits: Some(basis.bits),
            certificates: vec![certificate],
            start: None,
            miner: MINER,
        };
        if !change(&mut draft, basis) {
            return None;
        }
        block.body.auxpow = Some(self.found(&draft, basis, rng)?);
        block.body.finality = draft.certificates;
        Some((name, block))
    }

    /// The header of a proof of this draft; `None` without luck.
    fn found(&self, draft: &Draft, basis: &Basis, rng: &mut Rng) -> Option<AuxPowHeader> {
        let commitment = Commitment {
            genesis: self.genesis.hash(),
            chain_id: draft.chain_id,
            sequence: draft.sequence,
            range: &draft.range,
            miner: MINER,
        };
        let commitment = commitment.hash()?;
        let limit = target(basis.limit);
        let auxpow = match draft.work_bits {
            Some(bits) => find_proof(commitment, draft.chain_id, MOST_HASHES, rng, |hash| {
                hash <= target(bits)
            }),
            None => find_proof(commitment, draft.chain_id, MOST_HASHES, rng, |hash| {
                hash > limit
            }),
        };
        Some(AuxPowHeader {
            range_start: draft.start.or(draft.range.first().copied())?,
            range_end: *draft.range.last()?,
            bits: draft.bits,
            chain_id: draft.chain_id,
            sequence: draft.sequence,
            auxpow: auxpow?,
            miner: draft.miner,
        })
    }
}
