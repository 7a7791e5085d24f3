//! Proof of work and fees (rules 4.1 to 4.6, 5.1 and 5.25) by a second statement of them.
//!
//! **Owns** the ledger after each proposed block of every branch, computed from the blocks and from
//! the transactions as users signed them. **Guarantees** that ranges, bits, proofs, withdrawals and
//! ledger hashes are judged without code of the node. **Never** takes tips from an execution
//! client: the gas of each transaction follows from the model of [`super::arithmetic`].

mod difficulty;
mod offers;
mod proofs;
mod ranges;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{B256, U256, keccak256};
use alys_consensus::PowFinal;
use alys_types::limits::FINALITY_WINDOW;
use alys_types::spec::vault_address;
use alys_types::{
    Address, AuxPowHeader, Block, Certificate, ExecutionPayload, Genesis, Hash, VoteKind,
    VoteTarget, Withdrawal, WithdrawalKind,
};

use super::arithmetic::{GasModel, base_fee};
use super::order::tip_at;
use super::{Members, Oracles, Sent, Violation, short};
use difficulty::Schedule;
pub use difficulty::{compact, target};
pub use offers::{Offer, Place, Verdict};
pub use proofs::{Commitment, check as check_proof};
pub use ranges::{PowFinality, Told};
pub use tree::Entries;

/// Wei in a gwei.
const GWEI: u64 = 1_000_000_000;
/// Most blocks between a certificate in a body and its block (rule 2.3).
const MOST_SHOWN: u64 = 1_024;
/// Blocks before the gate closes from which on slots may stay without a block.
const NEAR_GATE: u64 = 3;
/// Entries of a ledger up to which each root is computed; of larger ledgers one in
/// [`LARGE_ONE_IN`], because the computation is naive.
const SMALL: u64 = 256;
const LARGE_ONE_IN: u64 = 32;

/// The last proof on a branch; before the first one, genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    /// The end of its range.
    height: u64,
    hash: Hash,
    execution_hash: Hash,
    sequence: u64,
    bits: u32,
    /// Time of the block that carries it, in seconds.
    timestamp: u64,
}

/// The ledger after a block.
#[derive(Debug, Clone)]
struct After {
    height: u64,
    parent: Hash,
    execution_hash: Hash,
    last: Last,
    /// Wei; `None` once tips of a covered block are unknown.
    remainder: Option<U256>,
    next_withdrawal: u64,
    /// The tips of the block itself in wei; `None` if no user signed one of its transactions.
    tips: Option<U256>,
    /// Gas of the transactions that follow.
    gas: Option<Arc<GasModel>>,
    /// The range of the proof that the block carries.
    covers: Option<Range>,
}

/// A range that a block covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    end: u64,
    end_hash: Hash,
    sequence: u64,
    miner: Address,
}

/// The constants of the chain.
#[derive(Debug, Clone)]
struct Terms {
    genesis: Hash,
    schedule: Schedule,
    /// Bits before the first proof.
    anchor: u32,
    chain_id: u16,
    max_range: u64,
    /// Blocks without proof after which the gate closes; 0 without one.
    gate: u64,
    /// Certificates in bodies have purposes of the federation, which other invariants judge.
    is_governed: bool,
    /// Fee addresses by node.
    fee_addresses: Vec<Address>,
}

/// The ledgers of a run.
#[derive(Debug, Default)]
pub struct Work {
    terms: Option<Terms>,
    after: BTreeMap<Hash, After>,
    /// The rule that a block breaks.
    broken: BTreeMap<Hash, String>,
    finality: PowFinality,
    offers: offers::Offers,
    counts: Counts,
}

/// Numbers of comparisons, of which a sweep must have some.
#[derive(Debug, Default)]
struct Counts {
    roots: u64,
    proofs: u64,
    payments: u64,
    stored: u64,
}

/// The facts that a proof must agree with.
#[derive(Debug, Clone)]
pub struct Basis {
    pub sequence: u64,
    pub chain_id: u16,
    pub bits: u32,
    /// The bits as they follow from the anchor of the chain in place of the proof before.
    pub bits_of_anchor: u32,
    /// The bits of the proof before.
    pub bits_before: u32,
    /// The easiest bits.
    pub limit: u32,
    /// The end of the last range.
    pub end: Hash,
    /// The blocks after it, oldest first.
    pub uncovered: Vec<Hash>,
    /// The ledger hash of the block before the next one.
    pub ledger_hash_before: Hash,
}

/// Facts about a block that other invariants know.
pub struct Facts<'a> {
    /// The federation of the block.
    pub members: Option<Arc<Members>>,
    /// All transactions of users.
    pub sent: &'a BTreeMap<B256, Sent>,
    /// True if a quorum signed confirmations of a block.
    pub is_confirmed: &'a dyn Fn(&Hash) -> bool,
}

impl Work {
    /// Registers the chain; `fee_addresses` are those of all nodes, from node 0 on.
    pub fn register(&mut self, genesis: &Genesis, governed: bool, fee_addresses: Vec<Address>) {
        let spec = genesis.spec();
        let pow = &spec.auxpow;
        let header = genesis.header();
        let last = Last {
            height: 0,
            hash: genesis.hash(),
            execution_hash: header.execution_hash,
            sequence: 0,
            bits: pow.anchor_bits,
            timestamp: header.slot.0 * spec.slot_duration_ms / 1_000,
        };
        let after = After {
            height: 0,
            parent: Hash::ZERO,
            execution_hash: header.execution_hash,
            last,
            remainder: Some(U256::ZERO),
            next_withdrawal: 0,
            tips: Some(U256::ZERO),
            gas: Some(Arc::default()),
            covers: None,
        };
        self.offers.anchor(&last);
        self.after.insert(genesis.hash(), after);
        self.terms = Some(Terms {
            genesis: genesis.hash(),
            schedule: Schedule {
                spacing: pow.spacing,
                half_life: pow.half_life,
                limit: pow.limit_bits,
            },
            anchor: pow.anchor_bits,
            chain_id: pow.chain_id,
            max_range: u64::from(pow.max_range),
            gate: pow.max_blocks_without_pow,
            is_governed: governed,
            fee_addresses,
        });
    }

    /// Computes the ledger after a proposed block. A block with an unknown parent is not judged.
    pub fn learn(&mut self, hash: Hash, block: &Block, facts: &Facts<'_>) {
        let Some(terms) = &self.terms else { return };
        if self.after.contains_key(&hash) || self.broken.contains_key(&hash) {
            return;
        }
        let Some(parent) = self.after.get(&block.header.parent_hash) else {
            return;
        };
        let judged = Judged {
            work: self,
            terms,
            block,
            parent,
            facts,
        };
        // The computation is naive, so large ledgers are compared now and then.
        let count = parent.height - parent.last.height;
        let is_compared = count <= SMALL || parent.height.is_multiple_of(LARGE_ONE_IN);
        let root = self.ledger_hash(&block.header.parent_hash);
        let root = root.filter(|_| is_compared);
        let paid_before = parent.next_withdrawal;
        match judged.next(root) {
            Ok(after) => {
                self.counts.roots += u64::from(root.is_some());
                self.counts.proofs += u64::from(after.covers.is_some());
                self.counts.payments += after.next_withdrawal - paid_before;
                self.offers.anchor(&after.last);
                self.after.insert(hash, after);
            }
            Err(broken) => drop(self.broken.insert(hash, broken)),
        }
    }

    /// Checks a block that a correct node approved or finalized. An unknown block passes.
    ///
    /// # Errors
    /// [`Violation::ApprovedInvalid`].
    pub fn approved(&self, node: u8, slot: u64, hash: &Hash) -> Result<(), Violation> {
        self.broken.get(hash).map_or(Ok(()), |what| {
            Err(Violation::ApprovedInvalid {
                node: node + 1,
                slot,
                hash: short(hash),
                what: format!("does not hold: {what}"),
            })
        })
    }

    /// Checks an approval against the gate (rule 4.6). `last` is the last final block of the node
    /// as (height, hash); a block of another branch, or one without a known ledger, passes.
    ///
    /// # Errors
    /// [`Violation::ApprovedPastGate`].
    pub fn gate(
        &self,
        node: u8,
        slot: u64,
        block: &Block,
        last: (u64, Hash),
    ) -> Result<(), Violation> {
        let gate = self.terms.as_ref().map_or(0, |terms| terms.gate);
        let parent = self.after.get(&block.header.parent_hash);
        let Some(parent) = parent.filter(|_| gate > 0 && block.body.auxpow.is_none()) else {
            return Ok(());
        };
        let (height, hash) = last;
        let end = parent.last.height;
        let is_on_branch = self.ancestor_at(block.header.parent_hash, height) == Some(hash);
        // Above the window no certificate shows the end of a range final.
        let is_provable = block.header.height.0 <= height + FINALITY_WINDOW;
        if is_on_branch && is_provable && height >= end + gate {
            return Err(Violation::ApprovedPastGate {
                node: node + 1,
                slot,
                final_height: height,
                end,
                gate,
            });
        }
        Ok(())
    }

    fn ancestor_at(&self, hash: Hash, height: u64) -> Option<Hash> {
        let mut at = hash;
        loop {
            let after = self.after.get(&at)?;
            if after.height <= height {
                return (after.height == height).then_some(at);
            }
            at = after.parent;
        }
    }

    /// The height up to which blocks are final by proof of work once `hash` is final; `None` if the
    /// ledger after it is unknown.
    pub fn end_after(&self, hash: &Hash) -> Option<u64> {
        self.after.get(hash).map(|after| after.last.height)
    }

    /// The tips up to this block that no withdrawal has paid, in wei.
    pub fn unpaid_after(&self, hash: &Hash) -> Option<U256> {
        let after = self.after.get(hash)?;
        let mut unpaid = after.remainder?;
        let mut at = *hash;
        loop {
            let block = self.after.get(&at)?;
            if block.height <= after.last.height {
                return Some(unpaid);
            }
            unpaid += block.tips?;
            at = block.parent;
        }
    }

    /// The blocks after the last range on the branch of a block up to it, oldest first.
    fn uncovered(&self, hash: &Hash) -> Option<Vec<(Hash, &After)>> {
        let covered = self.after.get(hash)?.last.height;
        let mut found = Vec::new();
        let mut at = *hash;
        loop {
            let after = self.after.get(&at)?;
            if after.height <= covered {
                found.reverse();
                return Some(found);
            }
            found.push((at, after));
            at = after.parent;
        }
    }

    /// The entries of the ledger after a block (rule 5.1); `None` if they are unknown.
    pub fn entries(&self, hash: &Hash) -> Option<Entries> {
        let Last {
            height,
            hash: end,
            execution_hash,
            sequence,
            bits,
            timestamp,
        } = self.after.get(hash)?.last;
        let mut entries = Entries::new();
        for (hash, after) in self.uncovered(hash)? {
            let key = [b"block/".as_slice(), &after.height.to_be_bytes()].concat();
            let tips = after.tips?.to_be_bytes::<32>();
            let value = [hash.0, after.execution_hash.0, tips].concat();
            entries.insert(key, value);
        }
        if sequence > 0 {
            let mut value = height.to_le_bytes().to_vec();
            value.extend(end.0);
            value.extend(execution_hash.0);
            value.extend(sequence.to_le_bytes());
            value.extend(bits.to_le_bytes());
            value.extend(timestamp.to_le_bytes());
            entries.insert(b"proof".to_vec(), value);
        }
        let After {
            remainder,
            next_withdrawal,
            ..
        } = self.after.get(hash)?;
        // Zero has no entry.
        let remainder = (*remainder)?;
        if !remainder.is_zero() {
            let value = remainder.to_be_bytes::<32>().to_vec();
            entries.insert(b"remainder".to_vec(), value);
        }
        if *next_withdrawal > 0 {
            let value = next_withdrawal.to_le_bytes().to_vec();
            entries.insert(b"withdrawal".to_vec(), value);
        }
        Some(entries)
    }

    /// Checks the stored ledger of a node, which names the block that it is after. The ledger after
    /// an unknown block is not judged.
    ///
    /// # Errors
    /// [`Violation::WrongStore`].
    pub fn stored(&mut self, node: u8, hash: &Hash, rows: &Entries) -> Result<(), Violation> {
        let Some(expected) = self.entries(hash) else {
            return Ok(());
        };
        self.counts.stored += 1;
        let keys = expected.keys().chain(rows.keys());
        let mut differing = keys.filter(|key| expected.get(*key) != rows.get(*key));
        let Some(key) = differing.next() else {
            return Ok(());
        };
        let text = |value: Option<&Vec<u8>>| value.map_or("nothing".to_owned(), hex::encode);
        let what = format!(
            "the ledger after block {}: {} is {}, expected {}",
            short(hash),
            String::from_utf8_lossy(key).escape_debug(),
            text(rows.get(key)),
            text(expected.get(key))
        );
        Err(Violation::WrongStore {
            node: node + 1,
            what,
        })
    }

    /// The root of the ledger after a block.
    pub fn ledger_hash(&self, hash: &Hash) -> Option<Hash> {
        self.entries(hash).map(|entries| tree::root(&entries))
    }

    /// The facts that a proof in a child of `parent` with this timestamp must agree with.
    pub fn basis(&self, parent: &Hash, timestamp: u64) -> Option<Basis> {
        let terms = self.terms.as_ref()?;
        let after = self.after.get(parent)?;
        let last = after.last;
        let bits = |anchor| terms.schedule.bits(anchor, last.timestamp, timestamp);
        let uncovered = self.uncovered(parent)?;
        Some(Basis {
            sequence: last.sequence + 1,
            chain_id: terms.chain_id,
            bits: bits(last.bits),
            bits_of_anchor: bits(terms.anchor),
            bits_before: last.bits,
            limit: terms.schedule.limit,
            end: last.hash,
            uncovered: uncovered.into_iter().map(|(hash, _)| hash).collect(),
            ledger_hash_before: self.ledger_hash(&after.parent)?,
        })
    }

    /// Counters of a run.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Counts {
            roots,
            proofs,
            payments,
            stored,
        } = self.counts;
        let of_final = [
            ("work.ranges", self.finality.ranges()),
            ("work.covered", self.finality.covered()),
        ];
        let compared = [
            ("work.roots", roots),
            ("work.proofs", proofs),
            ("work.payments", payments),
            ("work.stored", stored),
        ];
        of_final
            .into_iter()
            .chain(compared)
            .chain(self.offers.counts())
    }
}

impl Oracles {
    /// Records a block that an authority proposed, or that an adversary made.
    ///
    /// # Errors
    /// Those of [`super::Blocks::proposed`].
    pub fn learn(
        &mut self,
        at_ms: u64,
        node: u8,
        hash: Hash,
        block: &Arc<Block>,
    ) -> Result<(), Violation> {
        let result = self.blocks.proposed(at_ms, node, hash, block);
        let votes = &self.votes;
        let facts = Facts {
            members: self.sets.of(&hash),
            sent: &self.ledger.sent,
            is_confirmed: &|hash| votes.is_confirmed(hash),
        };
        self.work.learn(hash, block, &facts);
        result
    }

    /// Checks a block that a correct node approved.
    pub(super) fn approved(&self, node: u8, target: &VoteTarget) -> Result<(), Violation> {
        let hash = &target.hash;
        let slot = target.slot.0;
        self.blocks.approved(node, hash)?;
        self.work.approved(node, slot, hash)?;
        let is_repeated = self.votes.has_signed(node, target.kind, slot);
        let last = self.finality.of(node);
        let last = self
            .finality
            .blocks
            .get(&last)
            .map(|block| (last, block.hash));
        match (self.blocks.get(hash), last) {
            (Some(proposed), Some(last)) if !is_repeated => {
                self.work.gate(node, slot, &proposed.block, last)
            }
            _ => Ok(()),
        }
    }

    /// Checks a range that a node reported as final by proof of work.
    pub(super) fn pow_final(&mut self, node: u8, range: &PowFinal) -> Result<(), Violation> {
        let told = Told {
            sequence: range.sequence,
            first: range.first.0,
            end: range.end.0,
            end_hash: range.end_hash,
            miner: range.miner,
            carrier: range.carrier.hash,
        };
        // A crash may have cut off the report of the final block, but not the votes for it.
        let (finality, votes) = (&self.finality, &self.votes);
        let is_final = |height: u64, hash: &Hash| match finality.blocks.get(&height) {
            Some(block) => block.hash == *hash,
            None => finality.of(node) >= height || votes.is_confirmed(hash),
        };
        self.work.pow_final(node, &told, is_final)
    }

    /// Checks that proofs that nodes accepted are carried soon where nothing disturbs the run.
    ///
    /// # Errors
    /// [`Violation::WorkNotCarried`].
    pub(super) fn carried(&self, at_ms: u64) -> Result<(), Violation> {
        let Some(since_ms) = self.calm.undisturbed_since_ms() else {
            return Ok(());
        };
        let members = self.sets.current();
        let may_lead = |node: u8| {
            let silent = self.summaries.get(&node).map(|summary| summary.silent);
            members.has(node) && silent == Some(false)
        };
        self.work.overdue(at_ms, since_ms, may_lead)
    }

    /// True if the gate is closed, or closes with the next final blocks: slots may then stay
    /// without a block.
    pub fn is_gate_near(&self) -> bool {
        let gate = self.work.terms.as_ref().map_or(0, |terms| terms.gate);
        let Some((height, block)) = self.finality.blocks.iter().next_back() else {
            return false;
        };
        let end = self.work.end_after(&block.hash);
        gate > 0 && end.is_some_and(|end| height + NEAR_GATE >= end + gate)
    }

    /// The balances that the final chain up to `height` gives to the vault, the miners and the fee
    /// addresses of authorities; `None` if they are unknown.
    pub fn credits(&self, height: u64) -> Option<BTreeMap<alloy_primitives::Address, U256>> {
        let mut credits: BTreeMap<Address, U256> = BTreeMap::new();
        for number in 1..=height {
            let hash = self.finality.blocks.get(&number)?.hash;
            let tips = self.work.after.get(&hash)?.tips?;
            *credits.entry(vault_address()).or_default() += tips;
            let payload = &self.blocks.get(&hash)?.block.body.payload;
            for paid in &payload.withdrawals {
                let wei = U256::from(paid.amount_gwei) * U256::from(GWEI);
                *credits.entry(paid.address).or_default() += wei;
            }
        }
        let all = credits.into_iter();
        Some(all.map(|(address, wei)| (address.0.into(), wei)).collect())
    }

    /// True if the answers of a node to miners are judged.
    pub fn is_judged(&self, node: u8) -> bool {
        !self.votes.is_byzantine(node) && !self.distrusted.contains(&node)
    }

    /// Checks work that a node handed out; `now_secs` is the true time.
    ///
    /// # Errors
    /// Those of [`Work::offered`].
    pub fn offered(
        &mut self,
        node: u8,
        offer: &Offer,
        now_secs: u64,
        slot_secs: u64,
    ) -> Result<Option<Place>, Violation> {
        let now = Some(now_secs).filter(|_| self.clocks.is_right(node));
        self.work
            .offered(node, offer, now, slot_secs, &self.finality)
    }
}

/// A block whose ledger is computed.
struct Judged<'a> {
    work: &'a Work,
    terms: &'a Terms,
    block: &'a Block,
    parent: &'a After,
    facts: &'a Facts<'a>,
}

/// An error unless `holds`; `what` is a sentence that must hold.
fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Judged<'_> {
    fn height(&self) -> u64 {
        self.parent.height + 1
    }

    /// The ledger after the block.
    fn next(&self, root: Option<Hash>) -> Result<After, String> {
        let Block { header, body } = self.block;
        if let Some(root) = root {
            let found = header.ledger_hash;
            let what = format!(
                "its ledger hash is that of the ledger after its parent: {}, expected {}",
                short(&found),
                short(&root)
            );
            require(found == root, &what)?;
        }
        let (tips, gas) = self.tips(&body.payload);
        let mut after = After {
            height: self.height(),
            parent: header.parent_hash,
            execution_hash: header.execution_hash,
            tips,
            gas,
            covers: None,
            ..self.parent.clone()
        };
        match &body.auxpow {
            None => {
                self.pays(&[])?;
                require(
                    self.terms.is_governed || body.finality.is_empty(),
                    "each of its certificates serves a purpose",
                )?;
            }
            Some(proof) => self.carry(proof, &mut after)?,
        }
        let found = body.payload.withdrawals.len() as u64;
        after.next_withdrawal += found;
        Ok(after)
    }

    /// The tips of a payload in wei, and the model after it.
    fn tips(&self, payload: &ExecutionPayload) -> (Option<U256>, Option<Arc<GasModel>>) {
        let Some(mut gas) = self.parent.gas.clone() else {
            return (None, None);
        };
        let base_fee = base_fee(payload);
        let mut total = U256::ZERO;
        for encoded in &payload.transactions {
            let Some(sent) = self.facts.sent.get(&keccak256(encoded)) else {
                return (None, None);
            };
            let spent = Arc::make_mut(&mut gas).spend(sent);
            total += U256::from(tip_at(sent, base_fee)) * U256::from(spent.gas);
        }
        (Some(total), Some(gas))
    }

    /// Checks the proof of the block and what it pays, and applies both.
    fn carry(&self, proof: &AuxPowHeader, after: &mut After) -> Result<(), String> {
        let Block { header, body } = self.block;
        let last = &self.parent.last;
        let sequence = last.sequence + 1;
        let what = format!("its sequence is {sequence}, found {}", proof.sequence);
        require(proof.sequence == sequence, &what)?;
        require(
            proof.chain_id == self.terms.chain_id,
            "its proof has the chain id of the spec",
        )?;
        let uncovered = self.work.uncovered(&header.parent_hash);
        let uncovered = uncovered.ok_or("its ancestors are known")?;
        let hashes: Vec<Hash> = uncovered.iter().map(|(hash, _)| *hash).collect();
        require(
            hashes.first() == Some(&proof.range_start),
            "its range starts at the child of the end of the range before",
        )?;
        let end = hashes.iter().position(|hash| *hash == proof.range_end);
        let end = end.ok_or("its range ends at an ancestor")?;
        let (range, rest) = hashes.split_at(end + 1);
        require(
            range.len() as u64 <= self.terms.max_range,
            "its range has at most as many blocks as the spec allows",
        )?;
        let shown = [&range[end..], rest].concat();
        self.shows(&body.finality, &shown)?;
        let timestamp = body.payload.timestamp;
        let schedule = &self.terms.schedule;
        let bits = schedule.bits(last.bits, last.timestamp, timestamp);
        let what = format!("its bits are {bits:08x}, found {:08x}", proof.bits);
        require(proof.bits == bits, &what)?;
        let commitment = Commitment {
            genesis: self.terms.genesis,
            chain_id: self.terms.chain_id,
            sequence,
            range,
            miner: proof.miner,
        };
        let commitment = commitment.hash().ok_or("its range is not empty")?;
        proofs::check(
            &proof.auxpow,
            commitment,
            self.terms.chain_id,
            target(proof.bits),
        )?;
        let covered = uncovered.get(..=end).unwrap_or_default();
        let newest = covered.last().ok_or("its range is not empty")?;
        after.remainder = self.pays_fees(proof, covered)?;
        after.covers = Some(Range {
            first: last.height + 1,
            end: newest.1.height,
            end_hash: newest.0,
            sequence,
            miner: proof.miner,
        });
        after.last = Last {
            height: newest.1.height,
            hash: newest.0,
            execution_hash: newest.1.execution_hash,
            sequence,
            bits,
            timestamp,
        };
        debug_assert_eq!(header.height.0, after.height);
        Ok(())
    }

    /// Checks that a certificate shows the end of the range final: the first of `blocks`, of which
    /// the others are its descendants up to the parent.
    fn shows(&self, certificates: &[Certificate], blocks: &[Hash]) -> Result<(), String> {
        let is_shown = |certificate: &&Certificate| {
            let target = &certificate.target;
            target.kind == VoteKind::Confirmation
                && blocks.contains(&target.hash)
                && self.height() - target.height.0 <= MOST_SHOWN
        };
        let shows = certificates.iter().filter(is_shown).count();
        require(
            shows > 0,
            "a certificate in its body shows the end of its range final",
        )?;
        require(
            self.terms.is_governed || certificates.len() == 1,
            "each of its certificates serves a purpose",
        )?;
        let mut shown = certificates.iter().filter(is_shown);
        require(
            shown.all(|one| (self.facts.is_confirmed)(&one.target.hash)),
            "a quorum confirmed the block of its certificate",
        )
    }

    /// Checks the withdrawals of a proof, and returns the remainder after them.
    fn pays_fees(
        &self,
        proof: &AuxPowHeader,
        covered: &[(Hash, &After)],
    ) -> Result<Option<U256>, String> {
        let tips = covered.iter().map(|(_, block)| block.tips);
        let tips = tips.chain([self.parent.remainder]).sum::<Option<U256>>();
        let members = self.facts.members.as_ref();
        let (Some(total), Some(members)) = (tips, members) else {
            return Ok(None);
        };
        let place = proof.sequence % members.nodes().len() as u64;
        let node = members
            .at(place as u8)
            .ok_or("its authority is in the set")?;
        let authority = self.terms.fee_addresses.get(usize::from(node));
        let authority = *authority.ok_or("its authority has a fee address")?;
        let gwei = U256::from(GWEI);
        let of_miner = total * U256::from(4) / U256::from(5) / gwei;
        let of_authority = total / U256::from(5) / gwei;
        let shares = [(proof.miner, of_miner), (authority, of_authority)];
        let due = shares.into_iter().filter(|(_, amount)| !amount.is_zero());
        let due: Vec<(Address, u64)> = due.map(|(to, amount)| (to, amount.to())).collect();
        self.pays(&due)?;
        Ok(Some(total - (of_miner + of_authority) * gwei))
    }

    /// Checks that the block has exactly these withdrawals, all of fees.
    fn pays(&self, due: &[(Address, u64)]) -> Result<(), String> {
        let body = &self.block.body;
        let first = self.parent.next_withdrawal;
        let due = due.iter().zip(first..);
        let due: Vec<Withdrawal> = due
            .map(|((address, amount_gwei), index)| Withdrawal {
                index,
                validator_index: 0,
                address: *address,
                amount_gwei: *amount_gwei,
            })
            .collect();
        let found = &body.payload.withdrawals;
        let what = format!("its withdrawals are {due:?}, found {found:?}");
        require(*found == due, &what)?;
        require(
            body.withdrawal_kinds == vec![WithdrawalKind::Fee; due.len()],
            "its withdrawals are of fees",
        )
    }
}
