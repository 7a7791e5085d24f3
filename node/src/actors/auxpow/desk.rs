//! The desk of merged mining: hands out work (rule 4.1) and takes proofs of it (rules 4.2 and 4.4).
//!
//! A pure machine: never does IO, waits or reads a clock. Owns the present offer of the chain, the
//! work that was handed out, and the verified proofs that no final block carries yet. Guarantees
//! that its tables are bounded, that work of one address displaces none of an address with a valid
//! proof, that work which was just created is not displaced, that a proof is held only after every
//! rule was checked, and that proofs of peers displace none of own miners. Stale work stays known until the next proof is final, so that its miner
//! learns the reason.

mod gossip;

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
use crate::interceptor;

pub use gossip::{BadProof, Gossiped, MAX_HELD_OF_PEERS, Unused};

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
/// Work with a carried proof that is remembered, for its miner's question about it.
pub const MAX_CARRIED: usize = 64;

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

/// The state of work, for its miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkStatus {
    pub sequence: u64,
    pub start: Hash,
    pub end: Hash,
    pub count: u32,
    pub miner: Address,
    pub state: WorkState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkState {
    /// Handed out; a proof is accepted.
    Open,
    /// A proof of it was accepted, and waits for a block.
    Accepted,
    /// A final block carries a proof of it.
    Final(PowFinal),
    /// No block can carry it any more.
    Stale(Staleness),
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
    /// No block can carry it any more.
    staleness: Option<Staleness>,
}

/// Number of works of an address, and the number of the request for the oldest: the greatest rank
/// loses its oldest work first.
type Rank = (usize, Reverse<u64>, Address);

#[derive(Debug)]
struct Held {
    proof: Arc<HeldProof>,
    /// Number in the order of acceptance.
    number: u64,
    /// A miner of this node found it.
    is_own: bool,
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
    /// The rank of each address of [`Self::by_address`].
    ranks: BTreeSet<Rank>,
    /// Stale work, by [`Entry::asked`].
    stale: BTreeMap<u64, Hash>,
    requests: u64,
    /// Addresses with a valid proof, the latest last.
    proven: VecDeque<Address>,
    /// By commitment.
    held: BTreeMap<Hash, Held>,
    accepted: u64,
    /// Work of this desk whose proofs final blocks carry, the latest last.
    carried: VecDeque<(Hash, WorkStatus)>,
    /// The last proof that a final block carries.
    last_final: Option<PowFinal>,
    /// Number of the last proof that a final block carries by the offers so far: after a restart
    /// the chain has no [`PowFinal`] until the next one.
    covered: u64,
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
            ranks: BTreeSet::new(),
            stale: BTreeMap::new(),
            requests: 0,
            proven: VecDeque::new(),
            held: BTreeMap::new(),
            accepted: 0,
            carried: VecDeque::new(),
            last_final: None,
            covered: 0,
            next_start: None,
        }
    }

    /// Holds a proof of an earlier run again. Proofs beyond [`MAX_HELD`] are left out.
    pub fn restore(&mut self, key: Hash, proof: HeldProof, is_own: bool) {
        if self.held.len() < MAX_HELD {
            if is_own {
                self.prove(proof.miner);
            }
            self.hold(key, Arc::new(proof), is_own);
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
        self.covered = self.covered.max(offer.final_sequence);
        if self.last_sequence().checked_add(1) == Some(sequence) {
            self.next_start = offer.range.first().copied();
        }
        self.report = Report::Offer(Box::new(Offer {
            offer,
            bits,
            bundle: None,
        }));
        let delete = self.bury();
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
        self.note_carried(&last);
        self.last_final = Some(last);
        if interceptor::resets_next_start() {
            self.next_start = None;
        }
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
        // The chain offers the next work right after this.
        if let Report::Offer(offer) = &self.report
            && offer.offer.sequence <= last.sequence
        {
            self.report = Report::NoWork;
        }
        self.bury()
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
        let is_accepted = self.works.get(&key).is_some_and(|old| old.is_accepted);
        self.forget(&key);
        let entry = Entry {
            work,
            asked,
            asked_at: now,
            is_accepted,
            staleness: self.staleness(work.bundle.sequence, work.bundle.start),
        };
        self.works.insert(key, entry);
        self.change_works(miner, |works| works.insert(asked, key));
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
        if let Some(why) = entry.staleness
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
        self.hold(key, proof.clone(), true);
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
        let last = self.last_sequence();
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

    /// The state of the work with this commitment; `None` if it is not remembered.
    pub fn status(&self, key: &Hash) -> Option<WorkStatus> {
        if let Some((_, status)) = self.carried.iter().find(|(carried, _)| carried == key) {
            return Some(*status);
        }
        if let Some(entry) = self.works.get(key) {
            let state = match entry.staleness {
                Some(why) => WorkState::Stale(why),
                None if entry.is_accepted => WorkState::Accepted,
                None => WorkState::Open,
            };
            return Some(WorkStatus::of(&entry.work.bundle, state));
        }
        let held = self.held.get(key)?;
        Some(WorkStatus::of_proof(&held.proof, WorkState::Accepted))
    }

    /// Remembers the work of this desk that a carried proof is about.
    fn note_carried(&mut self, last: &PowFinal) {
        let state = WorkState::Final(*last);
        let is_it = |status: &WorkStatus| {
            status.sequence == last.sequence
                && status.end == last.end_hash
                && status.miner == last.miner
        };
        let works = self.works.iter();
        let works = works.map(|(key, entry)| (*key, WorkStatus::of(&entry.work.bundle, state)));
        let held = self.held.iter();
        let held = held.map(|(key, held)| (*key, WorkStatus::of_proof(&held.proof, state)));
        let found = works.chain(held).find(|(_, status)| is_it(status));
        self.carried.extend(found);
        while self.carried.len() > MAX_CARRIED {
            self.carried.pop_front();
        }
    }

    /// Number of the last proof that a final block carries, as far as the chain reported it.
    pub fn last_sequence(&self) -> u64 {
        let last = self.last_final.map_or(0, |last| last.sequence);
        last.max(self.covered)
    }

    /// The last proof that a final block carries, once the chain reported one since its start.
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

    fn hold(&mut self, key: Hash, proof: Arc<HeldProof>, is_own: bool) {
        let number = self.accepted;
        self.accepted = self.accepted.saturating_add(1);
        let held = Held {
            proof,
            number,
            is_own,
        };
        self.held.insert(key, held);
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

    /// Drops proofs beyond [`MAX_HELD`] and [`MAX_HELD_OF_PEERS`]: those of peers first.
    fn displace(&mut self) -> Vec<Hash> {
        let mut displaced = Vec::new();
        while let Some(key) = self.excess() {
            self.held.remove(&key);
            displaced.push(key);
        }
        displaced
    }

    /// The proof that the limits displace next.
    fn excess(&self) -> Option<Hash> {
        let is_over = self.held.len() > MAX_HELD;
        let of_peers = self.held.values().filter(|held| !held.is_own).count();
        if of_peers > MAX_HELD_OF_PEERS || (is_over && of_peers > 0) {
            self.least_useful(|held| !held.is_own)
        } else if is_over {
            self.least_useful(|_| true)
        } else {
            None
        }
    }

    /// Of these proofs one of the fewest blocks, of equal ones the latest, and the longest range of
    /// each number last.
    fn least_useful(&self, is_of: impl Fn(&Held) -> bool) -> Option<Hash> {
        let of: Vec<(&Hash, &Held)> = self.held.iter().filter(|(_, held)| is_of(held)).collect();
        let mut longest: BTreeMap<u64, (u32, Reverse<u64>)> = BTreeMap::new();
        for (_, held) in &of {
            let rank = (held.proof.count, Reverse(held.number));
            let best = longest.entry(held.proof.sequence).or_insert(rank);
            *best = rank.max(*best);
        }
        let longest: BTreeSet<u64> = longest.values().map(|(_, number)| number.0).collect();
        let least = of.into_iter().min_by_key(|(_, held)| {
            let is_longest = longest.contains(&held.number);
            (is_longest, held.proof.count, Reverse(held.number))
        });
        least.map(|(key, _)| *key)
    }

    /// Marks work that no block can carry any more, and drops such proofs, whose keys it returns.
    fn bury(&mut self) -> Vec<Hash> {
        let fresh = self
            .works
            .iter()
            .filter(|(_, entry)| entry.staleness.is_none());
        let of_bundle = |bundle: &Bundle| self.staleness(bundle.sequence, bundle.start);
        let dead = fresh.filter_map(|(key, entry)| Some((*key, of_bundle(&entry.work.bundle)?)));
        let dead: Vec<(Hash, Staleness)> = dead.collect();
        for (key, why) in dead {
            if let Some(entry) = self.works.get_mut(&key) {
                entry.staleness = Some(why);
                self.stale.insert(entry.asked, key);
            }
        }
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
            && let Some((_, dropped)) = if interceptor::drops_oldest_work() {
                of_address.first_key_value()
            } else {
                of_address.last_key_value()
            }
        {
            let dropped = *dropped;
            self.forget(&dropped);
        }
        while self.works.len() > MAX_WORKS
            && let Some(victim) = self.oldest_stale().or_else(|| self.greediest_work(newest))
        {
            self.forget(&victim);
        }
    }

    /// The stale work that was asked for longest ago.
    fn oldest_stale(&self) -> Option<Hash> {
        self.stale.first_key_value().map(|(_, key)| *key)
    }

    /// The oldest work of the address with the most, `newest` left out. Of protected addresses, of
    /// which there are few, only if no other one has any.
    fn greediest_work(&self, newest: Hash) -> Option<Hash> {
        let oldest = |address: &Address| {
            let mut works = self.by_address.get(address)?.values();
            works.find(|key| **key != newest).copied()
        };
        let ranked = || self.ranks.iter().rev().map(|(_, _, address)| address);
        let of_others = ranked().filter(|address| !self.is_protected(address));
        let mut candidates = of_others.chain(ranked());
        candidates.find_map(oldest)
    }

    fn forget(&mut self, key: &Hash) {
        if let Some(entry) = self.works.remove(key) {
            self.stale.remove(&entry.asked);
            self.change_works(entry.work.bundle.miner, |works| works.remove(&entry.asked));
        }
    }

    /// Changes the works of an address, and its rank with them.
    fn change_works<T>(
        &mut self,
        address: Address,
        change: impl FnOnce(&mut BTreeMap<u64, Hash>) -> T,
    ) {
        let rank = |works: &BTreeMap<u64, Hash>| -> Option<Rank> {
            let (oldest, _) = works.first_key_value()?;
            Some((works.len(), Reverse(*oldest), address))
        };
        let works = self.by_address.entry(address).or_default();
        if let Some(rank) = rank(works) {
            self.ranks.remove(&rank);
        }
        change(works);
        match rank(works) {
            Some(rank) => {
                self.ranks.insert(rank);
            }
            None => {
                self.by_address.remove(&address);
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

impl WorkStatus {
    fn of(bundle: &Bundle, state: WorkState) -> WorkStatus {
        WorkStatus {
            sequence: bundle.sequence,
            start: bundle.start,
            end: bundle.end,
            count: bundle.count,
            miner: bundle.miner,
            state,
        }
    }

    fn of_proof(proof: &HeldProof, state: WorkState) -> WorkStatus {
        WorkStatus {
            sequence: proof.sequence,
            start: proof.range_start,
            end: proof.range_end,
            count: proof.count,
            miner: proof.miner,
            state,
        }
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
