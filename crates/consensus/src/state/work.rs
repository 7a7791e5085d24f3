//! Proofs of work: the work for miners, the proofs to carry, and the gate (rules 4.1, 4.4, 4.6 of
//! docs/protocol.md).

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use alys_peg::Ledger;
use alys_types::limits::FINALITY_WINDOW;
use alys_types::{AuxPowHeader, Hash, Height, Slot};

use super::State;
use crate::input::{Effect, HeldProof, Now, WorkOffer};
use crate::rules::Refusal;
use crate::rules::work;

/// Proofs that are held: each miner's of one range, with room to spare.
const MAX_HELD: usize = 64;

/// The proofs that a leader can carry, and the work that miners have.
#[derive(Debug, Default)]
pub(super) struct WorkDesk {
    held: Vec<Arc<HeldProof>>,
    /// Number and parent header of proofs that made an own block invalid, which come again from
    /// miners and peers while their number is open; at most [`MAX_HELD`].
    invalid: BTreeSet<(u64, Hash)>,
    offered: Option<Offered>,
    bits: Option<NextBits>,
}

/// The bits of the offer at the last input: they are needed at each input, and change with the
/// slots and the proofs.
#[derive(Debug, Clone, Copy)]
struct NextBits {
    /// Bits and timestamp of the proof before, and the timestamp of the block.
    of: (u32, u64, u64),
    bits: u32,
}

/// The identity of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offered {
    sequence: u64,
    end: Hash,
    bits: u32,
}

/// The number and the first block of the proof after the last one that a final block carries.
#[derive(Debug, Clone, Copy)]
struct NextProof {
    sequence: u64,
    /// `None` while no block is final.
    start: Option<Hash>,
}

impl NextProof {
    /// False for a proof that no block can carry any more.
    fn may_be(&self, proof: &HeldProof) -> bool {
        let starts = || self.start.is_none_or(|start| start == proof.range_start);
        proof.sequence > self.sequence || (proof.sequence == self.sequence && starts())
    }
}

/// A proof with the bits of the block that carries it, and the end of its range.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) header: AuxPowHeader,
    pub(super) end: Height,
}

impl State {
    /// Holds a proof until a final block carries one of its number. Of too many the shortest range
    /// leaves, the newest first.
    pub(super) fn hold_proof(&mut self, proof: Arc<HeldProof>) {
        let is_invalid = self.work.invalid.contains(&(proof.sequence, proof.work));
        if is_invalid || !self.next_proof().may_be(&proof) || self.work.held.contains(&proof) {
            return;
        }
        self.work.held.push(proof);
        if self.work.held.len() > MAX_HELD {
            let shortest = self.work.held.iter().rev().map(|p| p.count).min();
            let at = self
                .work
                .held
                .iter()
                .rposition(|p| Some(p.count) == shortest);
            if let Some(at) = at {
                self.work.held.remove(at);
            }
        }
    }

    fn next_proof(&self) -> NextProof {
        let ledger = &self.settled.ledger;
        let last = ledger.work(&self.config.genesis);
        let first = ledger.uncovered(last.end.height.next());
        NextProof {
            sequence: last.sequence.saturating_add(1),
            start: first.map(|block| block.hash),
        }
    }

    /// Drops proofs of numbers that final blocks carry, and those over a branch that lost.
    pub(super) fn forget_proofs(&mut self) {
        let next = self.next_proof();
        self.work.held.retain(|proof| next.may_be(proof));
        self.work
            .invalid
            .retain(|(sequence, _)| *sequence >= next.sequence);
    }

    /// Drops a proof that made an own block invalid, for as long as its number is open.
    pub(super) fn drop_proof(&mut self, carried: &AuxPowHeader) {
        let held = std::mem::take(&mut self.work.held).into_iter();
        let (dropped, kept): (Vec<_>, Vec<_>) =
            held.partition(|proof| proof.auxpow == carried.auxpow);
        self.work.held = kept;
        let keys = dropped.iter().map(|proof| (proof.sequence, proof.work));
        self.work.invalid.extend(keys);
        while self.work.invalid.len() > MAX_HELD {
            self.work.invalid.pop_first();
        }
    }

    /// The proof with the longest range that a block of `slot` on `parent` can carry. Its end is
    /// shown final by the certificate of the last final block, which has to be within the window.
    pub(super) fn proof_to_carry(&self, parent: &Hash, slot: Slot) -> Option<Carried> {
        let genesis = &self.config.genesis;
        let ledger = self.ledger_after(parent)?;
        let last = ledger.work(genesis);
        let shown = self.root_finality.as_ref()?.target.height;
        let height = self.tree.get(parent)?.header.height.next();
        if height.saturating_since(shown) > FINALITY_WINDOW {
            return None;
        }
        let timestamp = slot.timestamp(genesis.spec().slot_duration_ms);
        let bits = LazyCell::new(|| work::next_bits(&last, timestamp, genesis, self.bug()));
        let fits = |proof: &&Arc<HeldProof>| {
            let end = last.end.height.saturating_add(u64::from(proof.count));
            proof.sequence == last.sequence.saturating_add(1)
                && end <= shown
                && is_at(ledger, end, &proof.range_end)
                && is_at(ledger, last.end.height.next(), &proof.range_start)
                && bits.target().is_met_by(proof.work)
        };
        let proof = self.work.held.iter().filter(fits).max_by_key(|p| p.count)?;
        Some(Carried {
            header: AuxPowHeader {
                range_start: proof.range_start,
                range_end: proof.range_end,
                bits: bits.get(),
                chain_id: genesis.spec().auxpow.chain_id,
                sequence: proof.sequence,
                auxpow: proof.auxpow.clone(),
                miner: proof.miner,
            },
            end: last.end.height.saturating_add(u64::from(proof.count)),
        })
    }

    /// Rule 4.6 (docs/protocol.md), on a parent whose ledger has to be known.
    pub(super) fn check_gate(&self, parent: &Hash, has_proof: bool) -> Result<(), Refusal> {
        let genesis = &self.config.genesis;
        let ledger = self.ledger_after(parent);
        let last = ledger.map(|ledger| ledger.work(genesis));
        let last = last.ok_or(Refusal::LedgerUnknown { parent: *parent })?;
        let last_final = self.tree.root_entry().header.height;
        let height = self
            .tree
            .get(parent)
            .map_or(last_final, |p| p.header.height);
        let (height, pow_end) = (height.next(), last.end.height);
        let spec = &genesis.spec().auxpow;
        work::check_gate(height, last_final, pow_end, has_proof, spec, self.bug())
    }

    /// Rule 4.1 (docs/protocol.md): offers the oldest final blocks after the last range of the
    /// highest block's branch, when they or their bits changed.
    pub(super) fn offer_work(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some((ledger, last_final)) = self.ledger_of_work() else {
            return;
        };
        let genesis = &self.config.genesis;
        let last = ledger.work(genesis);
        let spec = genesis.spec();
        let open = last_final.saturating_since(last.end.height);
        let count = open.min(u64::from(spec.auxpow.max_range));
        let end = last.end.height.saturating_add(count);
        let newest = ledger.uncovered(end).filter(|_| count > 0);
        let timestamp = self.slot_at(now).next().timestamp(spec.slot_duration_ms);
        let of = (last.bits, last.timestamp, timestamp);
        let bits = match self.work.bits {
            Some(known) if known.of == of => known.bits,
            Some(_) | None => work::next_bits(&last, timestamp, genesis, self.bug()).get(),
        };
        let sequence = last.sequence.saturating_add(1);
        let offered = newest.map(|block| Offered {
            sequence,
            end: block.hash,
            bits,
        });
        let present = self.work.offered;
        let of_range = |offer: Offered| (offer.sequence, offer.end);
        let is_same_range = offered.is_some() && offered.map(of_range) == present.map(of_range);
        let is_new = !work::is_offer_present(offered == present, is_same_range, self.bug());
        let first = last.end.height.next();
        let range = match usize::try_from(count) {
            Ok(count) if is_new && offered.is_some() => ledger.range(genesis, count),
            Ok(_) | Err(_) => Vec::new(),
        };
        let last_final = self.settled.ledger.work(genesis);
        let (final_sequence, final_end) = (last_final.sequence, last_final.end.height);
        self.work.bits = Some(NextBits { of, bits });
        if !is_new {
            return;
        }
        self.work.offered = offered;
        let offer = offered.map(|_| {
            Arc::new(WorkOffer {
                sequence,
                first,
                range,
                bits,
                final_sequence,
                final_end,
            })
        });
        out.push(Effect::Work(offer));
    }

    /// The ledger of the highest certified block whose ledger is known, and the last final height.
    fn ledger_of_work(&self) -> Option<(&Ledger, Height)> {
        let root = self.tree.root();
        let mut at = self.highest;
        loop {
            if let Some(ledger) = self.ledger_after(&at) {
                return Some((ledger, self.tree.root_entry().header.height));
            }
            if at == root {
                return None;
            }
            at = self.tree.get(&at)?.header.parent_hash;
        }
    }
}

/// True when the uncovered block at a height has this hash.
fn is_at(ledger: &Ledger, height: Height, hash: &Hash) -> bool {
    let block = ledger.uncovered(height);
    block.is_some_and(|block| block.hash == *hash)
}
