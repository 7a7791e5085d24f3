//! The desk of merged mining: hands out work (rule 4.1) and takes proofs of it (rules 4.2 and 4.4).
//!
//! A pure machine: never does IO, waits or reads a clock. Owns the present offer of the chain, the
//! work that was handed out, and the verified proofs that no final block carries yet. Guarantees
//! that its tables are bounded, that work of one address displaces none of an address with a valid
//! proof, that work which was just created is not displaced, and that a proof is held only after
//! every rule was checked. Stale work stays known until the next proof is final, so that its miner
//! learns the reason.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alys_pow::{
    AuxPow, Bits, BitsError, Bundle, BundleError, MAX_BUNDLE_BLOCKS, MAX_BYTES, Refusal, Rule,
    VerifiedAuxPow, Work, reversed,
};
use alys_runtime::time::Instant;
use alys_types::{Address, Hash, Height};

use super::{HeldProof, PowFinal, WorkOffer};

/// Work that is remembered: about 256 bytes each, a megabyte together.
pub const MAX_WORKS: usize = 4_096;
/// Work of one address. An offer lasts a slot, so that work stays submittable for 64 slots at
/// least, which is above the time that pools keep a job.
pub const MAX_WORKS_PER_ADDRESS: usize = 64;
/// Addresses that had a valid proof and whose work no other address displaces. Together with the
/// fee address they take half of [`MAX_WORKS`].
pub const MAX_PROVEN: usize = 31;
/// Verified proofs that are held: one is carried, and the others are of ranges that overlap it.
pub const MAX_HELD: usize = 64;

/// The chain's offer is none: a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error("offer of proof {sequence}: {source}")]
    Bits { sequence: u64, source: BitsError },
    #[error("offer of proof {sequence}: {source}")]
    Range { sequence: u64, source: BundleError },
}

/// Reason for which there is no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWork {
    #[error(
        "the chain has not reported its work since the start of the node or of its mining part; \
         ask again in a second"
    )]
    Starting,
    #[error(
        "there is no work now: every final block is covered by a proof, or the node is not synced; \
         ask again after the next final block"
    )]
    Covered,
    #[error(
        "this node has no default address: call createauxblock with the EVM address that the work \
         pays, or set fee_address in [mining]"
    )]
    NoAddress,
}

/// Work for a miner, with the heights of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    pub work: Work,
    pub first: Height,
    pub last: Height,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    Accepted(Accepted),
    Stale(Stale),
    /// The proof breaks a rule. A corrected one is accepted.
    Refused(Refused),
    /// No work with this hash is remembered. True if there is one with the reversed hash.
    Unknown {
        is_reversed: bool,
    },
}

/// A proof that meets every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// To be written, and then to be sent to the chain.
    New {
        key: Hash,
        proof: Arc<HeldProof>,
        /// Keys of held proofs that it displaces.
        displaced: Vec<Hash>,
    },
    /// A proof of this work is held or was carried.
    Again,
    /// Not held, because [`MAX_HELD`] proofs of more blocks are.
    Superseded,
}

/// Work that no block can carry any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "stale work: it is for proof {sequence}, and {why}; it was handed out {} s ago: ask for new \
     work",
    .age.as_secs()
)]
pub struct Stale {
    pub sequence: u64,
    pub why: Staleness,
    /// Time since it was handed out last.
    pub age: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Staleness {
    #[error("a final block carries proof {last}")]
    Carried { last: u64 },
    #[error("its range does not start after the one that is final by proof of work")]
    OtherRange,
}

/// The rule that a proof breaks, with the values that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub rule: &'static str,
    pub source: &'static str,
    pub expected: String,
    pub found: String,
    pub note: Option<String>,
    /// The commitment of the work, in internal order.
    pub commitment: Hash,
}

/// Held proofs to send to the chain, and those to delete from the storage.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub send: Vec<Arc<HeldProof>>,
    pub delete: Vec<Hash>,
}

/// Entries of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    pub works: usize,
    pub addresses: usize,
    pub held: usize,
}

/// The chain's report about work.
#[derive(Debug)]
enum Report {
    /// None since the start.
    Missing,
    NoWork,
    Offer(Box<Offer>),
}

#[derive(Debug)]
struct Offer {
    offer: Arc<WorkOffer>,
    bits: Bits,
    /// For the zero address, made at the first request: the root is over up to 4,096 hashes.
    bundle: Option<Bundle>,
}

/// Work that was handed out.
#[derive(Debug)]
struct Entry {
    work: Work,
    /// Number of the last request for it, in the order of all requests.
    asked: u64,
    asked_at: Instant,
    /// A proof of it was accepted.
    is_accepted: bool,
}

#[derive(Debug)]
struct Held {
    proof: Arc<HeldProof>,
    /// Number in the order of acceptance.
    number: u64,
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    genesis_hash: Hash,
    chain_id: u16,
    fee_address: Option<Address>,
    report: Report,
    /// By commitment, in internal order.
    works: BTreeMap<Hash, Entry>,
    /// Commitments of each address, by [`Entry::asked`].
    by_address: BTreeMap<Address, BTreeMap<u64, Hash>>,
    requests: u64,
    /// Addresses with a valid proof, the latest last.
    proven: VecDeque<Address>,
    /// By commitment.
    held: BTreeMap<Hash, Held>,
    accepted: u64,
    /// The last proof that a final block carries.
    last_final: Option<PowFinal>,
    /// First block of the range after [`Self::last_final`], once the chain has offered it.
    next_start: Option<Hash>,
}

impl Desk {
    /// A desk without work. `fee_address` is that of miners who name none.
    pub fn new(genesis_hash: Hash, chain_id: u16, fee_address: Option<Address>) -> Desk {
        Desk {
            genesis_hash,
            chain_id,
            fee_address,
            report: Report::Missing,
            works: BTreeMap::new(),
            by_address: BTreeMap::new(),
            requests: 0,
            proven: VecDeque::new(),
            held: BTreeMap::new(),
            accepted: 0,
            last_final: None,
            next_start: None,
        }
    }

    /// Holds a proof of an earlier run again. Proofs beyond [`MAX_HELD`] are left out.
    pub fn restore(&mut self, key: Hash, proof: HeldProof) {
        if self.held.len() < MAX_HELD {
            self.prove(proof.miner);
            self.hold(key, Arc::new(proof));
        }
    }

    /// The chain's work changed. Returns the held proofs for the offered number again, because the
    /// chain may have lost them.
    ///
    /// # Errors
    /// Any [`OfferError`]; there is no work then.
    pub fn on_work(&mut self, offer: Option<Arc<WorkOffer>>) -> Result<Changes, OfferError> {
        self.report = Report::NoWork;
        let Some(offer) = offer else {
            return Ok(Changes::default());
        };
        let sequence = offer.sequence;
        let bits = Bits::new(offer.bits).map_err(|source| OfferError::Bits { sequence, source })?;
        let found = offer.range.len();
        let source = match found {
            0 => Some(BundleError::Empty),
            1..=MAX_BUNDLE_BLOCKS => None,
            _ => Some(BundleError::TooLong { found }),
        };
        if let Some(source) = source {
            return Err(OfferError::Range { sequence, source });
        }
        let last = self.last_final.map_or(0, |last| last.sequence);
        if last.checked_add(1) == Some(sequence) {
            self.next_start = offer.range.first().copied();
        }
        self.report = Report::Offer(Box::new(Offer {
            offer,
            bits,
            bundle: None,
        }));
        let delete = self.forget_dead_proofs();
        let of_sequence = self.held.values().map(|held| &held.proof);
        let of_sequence = of_sequence.filter(|proof| proof.sequence == sequence);
        Ok(Changes {
            send: of_sequence.cloned().collect(),
            delete,
        })
    }

    /// A range became PoW-final, or the chain repeats the last one. Returns the keys of held proofs
    /// to delete.
    pub fn on_final(&mut self, last: PowFinal) -> Vec<Hash> {
        let before = self.last_final.map_or(0, |last| last.sequence);
        if last.sequence <= before {
            return Vec::new();
        }
        self.last_final = Some(last);
        self.next_start = None;
        // Work of this proof stays, for the answer that it is stale.
        let old: Vec<Hash> = self
            .works
            .iter()
            .filter(|(_, entry)| entry.work.bundle.sequence < last.sequence)
            .map(|(key, _)| *key)
            .collect();
        for key in old {
            self.forget(&key);
        }
        self.forget_dead_proofs()
    }

    /// Work for an address, or the fee address. The same offer and address give the same hash.
    ///
    /// # Errors
    /// Any [`NoWork`].
    pub fn create(&mut self, miner: Option<Address>, now: Instant) -> Result<Handed, NoWork> {
        let (first, bits, bundle) = match &mut self.report {
            Report::Missing => return Err(NoWork::Starting),
            Report::NoWork => return Err(NoWork::Covered),
            Report::Offer(offer) => {
                let bundle = offer.bundle(self.genesis_hash, self.chain_id);
                let bundle = bundle.map_err(|_| NoWork::Covered)?;
                (offer.offer.first, offer.bits, bundle)
            }
        };
        let miner = miner.or(self.fee_address).ok_or(NoWork::NoAddress)?;
        let work = Work::new(Bundle { miner, ..bundle }, bits);
        let key = work.commitment;
        let asked = self.requests;
        self.requests = self.requests.saturating_add(1);
        let before = self.works.remove(&key);
        let of_address = self.by_address.entry(miner).or_default();
        if let Some(before) = &before {
            of_address.remove(&before.asked);
        }
        of_address.insert(asked, key);
        let is_accepted = before.is_some_and(|before| before.is_accepted);
        self.works.insert(
            key,
            Entry {
                work,
                asked,
                asked_at: now,
                is_accepted,
            },
        );
        self.make_room(miner, key);
        let more = u64::from(work.bundle.count).saturating_sub(1);
        Ok(Handed {
            work,
            first,
            last: Height(first.0.saturating_add(more)),
        })
    }

    /// A proof of the work with this commitment, in internal order.
    pub fn submit(&mut self, key: Hash, bytes: &[u8], now: Instant) -> Submission {
        let Some(entry) = self.works.get(&key) else {
            return self.submit_unknown(key, bytes);
        };
        let (work, is_accepted) = (entry.work, entry.is_accepted);
        if let Some(why) = self.staleness(work.bundle.sequence, work.bundle.start)
            && !is_accepted
        {
            return Submission::Stale(Stale {
                sequence: work.bundle.sequence,
                why,
                age: now.saturating_duration_since(entry.asked_at),
            });
        }
        let proof = match self.verify(work, bytes) {
            Ok(proof) => proof,
            Err(refused) => return Submission::Refused(refused),
        };
        if is_accepted {
            return Submission::Accepted(Accepted::Again);
        }
        let bundle = work.bundle;
        let proof = Arc::new(HeldProof {
            sequence: bundle.sequence,
            range_start: bundle.start,
            range_end: bundle.end,
            count: bundle.count,
            miner: bundle.miner,
            auxpow: bytes.to_vec(),
            work: proof.proof().parent_hash(),
        });
        if let Some(entry) = self.works.get_mut(&key) {
            entry.is_accepted = true;
        }
        self.prove(bundle.miner);
        self.hold(key, proof.clone());
        let displaced = self.displace();
        Submission::Accepted(if displaced.contains(&key) {
            Accepted::Superseded
        } else {
            Accepted::New {
                key,
                proof,
                displaced,
            }
        })
    }

    /// A proof whose work is not remembered: one that was accepted before a restart is known.
    fn submit_unknown(&self, key: Hash, bytes: &[u8]) -> Submission {
        let held = self.held.get(&key);
        if held.is_some_and(|held| held.proof.auxpow == bytes) {
            return Submission::Accepted(Accepted::Again);
        }
        Submission::Unknown {
            is_reversed: self.works.contains_key(&reversed(key)),
        }
    }

    /// Checks every rule of a proof. The target of a number only eases while the chain waits (rule
    /// 4.5), so the easier one of the target handed out and the present one counts.
    fn verify(&self, work: Work, bytes: &[u8]) -> Result<VerifiedAuxPow, Refused> {
        let commitment = work.commitment;
        let proof = AuxPow::decode(bytes).map_err(|error| Refused {
            rule: Rule::Format.name(),
            source: Rule::Format.source(),
            expected: format!("an AuxPoW in Namecoin's encoding, of at most {MAX_BYTES} bytes"),
            found: error.to_string(),
            note: None,
            commitment,
        })?;
        let present = match &self.report {
            Report::Offer(offer)
                if offer.offer.sequence == work.bundle.sequence
                    && offer.offer.range.first() == Some(&work.bundle.start) =>
            {
                Some(offer.bits)
            }
            Report::Offer(_) | Report::NoWork | Report::Missing => None,
        };
        let easier = present.filter(|bits| bits.target() > work.bits.target());
        let bits = easier.unwrap_or(work.bits);
        let demand = Work { bits, ..work }.demand();
        VerifiedAuxPow::new(proof, demand).map_err(|refusal| Refused::of(&refusal, commitment))
    }

    /// The reason for which work of this number and first block is stale.
    fn staleness(&self, sequence: u64, start: Hash) -> Option<Staleness> {
        let last = self.last_final.map_or(0, |last| last.sequence);
        if sequence <= last {
            return Some(Staleness::Carried { last });
        }
        let is_next = last.checked_add(1) == Some(sequence);
        let is_other = self.next_start.is_some_and(|next| next != start);
        (is_next && is_other).then_some(Staleness::OtherRange)
    }

    /// The held proof that a leader would carry: the longest range of the lowest number.
    pub fn queued(&self) -> Option<Arc<HeldProof>> {
        let best = self
            .held
            .values()
            .min_by_key(|held| (held.proof.sequence, Reverse(held.proof.count), held.number));
        best.map(|held| held.proof.clone())
    }

    /// All held proofs, in the order of their acceptance.
    pub fn held(&self) -> Vec<Arc<HeldProof>> {
        let mut held: Vec<&Held> = self.held.values().collect();
        held.sort_by_key(|held| held.number);
        held.into_iter().map(|held| held.proof.clone()).collect()
    }

    /// The last proof that a final block carries.
    pub fn last_final(&self) -> Option<&PowFinal> {
        self.last_final.as_ref()
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            works: self.works.len(),
            addresses: self.by_address.len(),
            held: self.held.len(),
        }
    }

    fn hold(&mut self, key: Hash, proof: Arc<HeldProof>) {
        let number = self.accepted;
        self.accepted = self.accepted.saturating_add(1);
        self.held.insert(key, Held { proof, number });
    }

    /// Notes that an address had a valid proof.
    fn prove(&mut self, miner: Address) {
        self.proven.retain(|proven| *proven != miner);
        self.proven.push_back(miner);
        while self.proven.len() > MAX_PROVEN {
            self.proven.pop_front();
        }
    }

    fn is_protected(&self, address: &Address) -> bool {
        self.fee_address.as_ref() == Some(address) || self.proven.contains(address)
    }

    /// Drops proofs beyond [`MAX_HELD`]: those of the fewest blocks first, of equal ones the
    /// latest, and the longest range of each number last.
    fn displace(&mut self) -> Vec<Hash> {
        let mut displaced = Vec::new();
        while self.held.len() > MAX_HELD {
            let mut longest: BTreeMap<u64, (u32, Reverse<u64>)> = BTreeMap::new();
            for held in self.held.values() {
                let rank = (held.proof.count, Reverse(held.number));
                let best = longest.entry(held.proof.sequence).or_insert(rank);
                *best = rank.max(*best);
            }
            let longest: BTreeSet<u64> = longest.values().map(|(_, number)| number.0).collect();
            let least = self.held.iter().min_by_key(|(_, held)| {
                let is_longest = longest.contains(&held.number);
                (is_longest, held.proof.count, Reverse(held.number))
            });
            let Some(key) = least.map(|(key, _)| *key) else {
                break;
            };
            self.held.remove(&key);
            displaced.push(key);
        }
        displaced
    }

    /// Drops held proofs that no block can carry any more.
    fn forget_dead_proofs(&mut self) -> Vec<Hash> {
        let is_dead = |held: &Held| {
            let proof = &held.proof;
            self.staleness(proof.sequence, proof.range_start).is_some()
        };
        let dead = self.held.iter().filter(|(_, held)| is_dead(held));
        let dead: Vec<Hash> = dead.map(|(key, _)| *key).collect();
        for key in &dead {
            self.held.remove(key);
        }
        dead
    }

    /// Drops work beyond the limits: the oldest of this address, then, of all, stale work, then the
    /// oldest of the address with the most. Work of protected addresses fills half of the table at
    /// most, and `newest` was just created, so that another victim exists.
    fn make_room(&mut self, miner: Address, newest: Hash) {
        while let Some(of_address) = self.by_address.get(&miner)
            && of_address.len() > MAX_WORKS_PER_ADDRESS
            && let Some((_, oldest)) = of_address.first_key_value()
        {
            let oldest = *oldest;
            self.forget(&oldest);
        }
        while self.works.len() > MAX_WORKS
            && let Some(victim) = self.stale_work().or_else(|| self.greediest_work(newest))
        {
            self.forget(&victim);
        }
    }

    /// The stale work that was asked for longest ago.
    fn stale_work(&self) -> Option<Hash> {
        let stale = self.works.iter().filter(|(_, entry)| {
            let bundle = &entry.work.bundle;
            self.staleness(bundle.sequence, bundle.start).is_some()
        });
        let oldest = stale.min_by_key(|(_, entry)| entry.asked);
        oldest.map(|(key, _)| *key)
    }

    /// The oldest work of the address with the most, `newest` left out.
    fn greediest_work(&self, newest: Hash) -> Option<Hash> {
        let candidates = self.by_address.iter().filter_map(|(address, works)| {
            let (asked, key) = works.iter().find(|(_, key)| **key != newest)?;
            let is_protected = self.is_protected(address);
            Some(((is_protected, Reverse(works.len()), *asked), *key))
        });
        let worst = candidates.min_by_key(|(rank, _)| *rank);
        worst.map(|(_, key)| key)
    }

    fn forget(&mut self, key: &Hash) {
        let Some(entry) = self.works.remove(key) else {
            return;
        };
        let miner = entry.work.bundle.miner;
        if let Some(of_address) = self.by_address.get_mut(&miner) {
            of_address.remove(&entry.asked);
            if of_address.is_empty() {
                self.by_address.remove(&miner);
            }
        }
    }
}

impl Offer {
    /// The bundle without a miner, made once.
    fn bundle(&mut self, genesis_hash: Hash, chain_id: u16) -> Result<Bundle, OfferError> {
        if let Some(bundle) = self.bundle {
            return Ok(bundle);
        }
        let WorkOffer {
            sequence, range, ..
        } = &*self.offer;
        let sequence = *sequence;
        let bundle = Bundle::new(genesis_hash, chain_id, sequence, range, Address::default())
            .map_err(|source| OfferError::Range { sequence, source })?;
        self.bundle = Some(bundle);
        Ok(bundle)
    }
}

impl Refused {
    fn of(refusal: &Refusal, commitment: Hash) -> Refused {
        Refused {
            rule: refusal.rule().name(),
            source: refusal.rule().source(),
            expected: refusal.expected(),
            found: refusal.found(),
            note: refusal.note(),
            commitment,
        }
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
