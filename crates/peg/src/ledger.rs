//! The ledger and the effects of a block on it (rules 5.1 and 5.2, docs/protocol.md).

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::U256;
use alys_types::spec::empty_ledger_hash;
use alys_types::{AuthoritySet, AuxPowHeader, Genesis, Hash, Header, Height, codec};

use crate::entry::{
    Additions, Entry, LastProof, PROOF, PowEnd, REMAINDER, Uncovered, WITHDRAWAL, block_key,
};
use crate::fees::{self, Fees};
use crate::tree::Tree;

/// Entries that changed, by ascending key; `None` for one that was removed.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The ledger after a block. A clone shares all entries; two ledgers are equal if their roots are.
#[derive(Clone, PartialEq, Eq)]
pub struct Ledger {
    entries: Tree<Entry>,
}

impl Ledger {
    /// The ledger after genesis.
    pub fn empty() -> Ledger {
        Ledger {
            entries: Tree::empty(),
        }
    }

    /// The ledger with these entries, of which the last one of a key counts: as stored, in any
    /// order.
    ///
    /// # Errors
    /// [`LedgerError::Key`] and [`LedgerError::Value`], so that the reads of a ledger have none.
    pub fn from_entries(
        entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Ledger, LedgerError> {
        let mut tree = Tree::empty();
        for (key, bytes) in entries {
            let entry = Entry::decode(&key, &bytes)?;
            tree.insert(&key, bytes, entry);
        }
        Ok(Ledger { entries: tree })
    }

    /// The ledger hash of the next block's header.
    pub fn root(&self) -> Hash {
        if self.entries.is_empty() {
            empty_ledger_hash()
        } else {
            self.entries.root()
        }
    }

    /// The encoded value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|row| row.bytes)
    }

    /// All keys with their encoded values, in the order of the tree.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.rows().map(|row| (row.key, row.bytes))
    }

    /// The last proof; before the first one, genesis with sequence 0, the time of genesis and the
    /// spec's `anchor_bits` (rule 4.5, docs/protocol.md).
    pub fn work(&self, genesis: &Genesis) -> LastProof {
        match self.read(PROOF) {
            Some(Entry::Proof(proof)) => proof,
            _ => first_work(genesis),
        }
    }

    /// The block at a height above the last range.
    pub fn uncovered(&self, height: Height) -> Option<Uncovered> {
        match self.read(&block_key(height)) {
            Some(Entry::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// Hashes of the oldest `count` blocks that no range covers, oldest first; fewer if there are
    /// fewer.
    pub fn range(&self, genesis: &Genesis, count: usize) -> Vec<Hash> {
        let blocks = self.above(self.work(genesis).end.height).take(count);
        blocks.map(|(_, block)| block.hash).collect()
    }

    /// The block with this hash, if it is above the last range and at most `max_range` blocks
    /// above its end: the end of a range that may come next.
    pub fn range_end(&self, genesis: &Genesis, hash: &Hash) -> Option<PowEnd> {
        let longest = genesis.spec().auxpow.max_range as usize;
        let mut blocks = self.above(self.work(genesis).end.height).take(longest);
        let (height, block) = blocks.find(|(_, block)| block.hash == *hash)?;
        Some(PowEnd {
            height,
            hash: block.hash,
            execution_hash: block.execution_hash,
        })
    }

    /// Fees that no withdrawal paid yet, in wei, beside the tips of the blocks above the last
    /// range.
    pub fn remainder(&self) -> U256 {
        match self.read(REMAINDER) {
            Some(Entry::Remainder(value)) => value,
            _ => U256::ZERO,
        }
    }

    /// The ledger as if the remainder were paid, for planted bugs.
    pub fn without_remainder(&self) -> Ledger {
        let mut next = Next::of(self);
        next.remove(REMAINDER.to_vec());
        next.finish().0
    }

    /// Index of the chain's next withdrawal.
    pub fn next_withdrawal(&self) -> u64 {
        match self.read(WITHDRAWAL) {
            Some(Entry::Withdrawal(index)) => index,
            _ => 0,
        }
    }

    /// The fees that a block pays on this ledger (rule 5.25, docs/protocol.md). The block carries
    /// `proof`, the range of the proof ends at height `end`, and `set` is that of the block's
    /// height.
    pub fn fees(
        &self,
        genesis: &Genesis,
        set: &AuthoritySet,
        proof: &AuxPowHeader,
        end: Height,
    ) -> Fees {
        let covered = self.above(self.work(genesis).end.height);
        let covered = covered.take_while(|(height, _)| *height <= end);
        // Tips of one block have less than 200 bits, so no sum reaches the end of 256.
        let total = covered.fold(self.remainder(), |sum, (_, block)| {
            sum.saturating_add(block.tips)
        });
        let authority = fees::authority(set, proof.sequence);
        fees::divide(total, proof.miner, authority, self.next_withdrawal())
    }

    /// The ledger after a valid child of the block that this ledger is after, and the entries that
    /// differ. `set` is that of the child's height. The effects have the order of rule 5.2
    /// (docs/protocol.md): the proof that the block carries pays fees, becomes the last one and
    /// removes the blocks of its range; then the block enters with its own tips.
    ///
    /// # Errors
    /// [`LedgerError::RangeEnd`] for a proof over other blocks than those of this ledger.
    pub fn apply(
        &self,
        genesis: &Genesis,
        set: &AuthoritySet,
        header: &Header,
        proof: Option<&AuxPowHeader>,
        additions: &Additions,
    ) -> Result<(Ledger, Changes), LedgerError> {
        let mut next = Next::of(self);
        if let Some(proof) = proof {
            let end = self
                .range_end(genesis, &proof.range_end)
                .ok_or(LedgerError::RangeEnd {
                    found: proof.range_end,
                })?;
            let fees = self.fees(genesis, set, proof, end.height);
            let covered = self.above(self.work(genesis).end.height);
            for (height, _) in covered.take_while(|(height, _)| *height <= end.height) {
                next.remove(block_key(height));
            }
            next.set(
                PROOF,
                Entry::Proof(LastProof {
                    end,
                    sequence: proof.sequence,
                    bits: proof.bits,
                    timestamp: header.slot.timestamp(genesis.spec().slot_duration_ms),
                }),
            );
            next.set(REMAINDER, Entry::Remainder(fees.remainder));
            let paid = fees.withdrawals.len() as u64;
            let index = self.next_withdrawal().saturating_add(paid);
            next.set(WITHDRAWAL, Entry::Withdrawal(index));
        }
        next.set(
            &block_key(header.height),
            Entry::Block(Uncovered {
                hash: header.hash(),
                execution_hash: header.execution_hash,
                tips: additions.tips,
            }),
        );
        Ok(next.finish())
    }

    fn read(&self, key: &[u8]) -> Option<Entry> {
        self.entries.get(key).map(|row| *row.value)
    }

    /// The blocks above a height, ascending, up to the first height without one.
    fn above(&self, height: Height) -> impl Iterator<Item = (Height, Uncovered)> {
        let next = |height: Height| height.0.checked_add(1).map(Height);
        let heights = std::iter::successors(next(height), move |height| next(*height));
        heights.map_while(|height| self.uncovered(height).map(|block| (height, block)))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.root())
    }
}

fn first_work(genesis: &Genesis) -> LastProof {
    let spec = genesis.spec();
    LastProof {
        end: PowEnd {
            height: genesis.header().height,
            hash: genesis.hash(),
            execution_hash: genesis.header().execution_hash,
        },
        sequence: 0,
        bits: spec.auxpow.anchor_bits,
        timestamp: spec.start_slot.timestamp(spec.slot_duration_ms),
    }
}

/// A ledger under change.
struct Next {
    entries: Tree<Entry>,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Next {
    fn of(ledger: &Ledger) -> Next {
        Next {
            entries: ledger.entries.clone(),
            changes: BTreeMap::new(),
        }
    }

    /// Sets an entry, unless it has the value already.
    fn set(&mut self, key: &[u8], entry: Entry) {
        if entry.is_zero() {
            return self.remove(key.to_vec());
        }
        if self.entries.get(key).is_some_and(|row| *row.value == entry) {
            return;
        }
        let bytes = entry.encode();
        self.entries.insert(key, bytes.clone(), entry);
        self.changes.insert(key.to_vec(), Some(bytes));
    }

    fn remove(&mut self, key: Vec<u8>) {
        if self.entries.get(&key).is_some() {
            self.entries.remove(&key);
            self.changes.insert(key, None);
        }
    }

    fn finish(self) -> (Ledger, Changes) {
        let ledger = Ledger {
            entries: self.entries,
        };
        (ledger, self.changes.into_iter().collect())
    }
}

/// The reason for which entries make no ledger, or a block does not apply to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No entry of this version has the key.
    #[error("ledger entry {key}: no entry of this release has such a key")]
    Key { key: String },
    /// The value of an entry does not decode.
    #[error("ledger entry {key}: {source}")]
    Value {
        key: String,
        source: codec::DecodeError,
    },
    /// The range of a proof ends at a block that is not among those of the next range.
    #[error(
        "range of the proof ends at {found}, which is none of the `max_range` blocks above the \
         range before"
    )]
    RangeEnd { found: Hash },
}
