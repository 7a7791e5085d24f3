//! Rules 4.4 to 4.6, 5.1 and 5.25 (docs/protocol.md): a block against the ledger of its parent.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use alys_peg::{Additions, Changes, Fees, LastProof, Ledger, LedgerError};
use alys_pow::{
    AuxPow, Bits, BundleError, Demand, Refusal as ProofRefusal, Schedule, VerifiedAuxPow, Work,
    rules,
};
use alys_types::limits::FINALITY_WINDOW;
use alys_types::spec::AuxPowSpec;
use alys_types::{
    AuthoritySet, AuxPowHeader, Block, Genesis, Hash, Header, Height, Withdrawal, WithdrawalKind,
};

use super::{PlantedBug, Refusal};
use crate::config::Config;

/// The reason for which a block does not fit the ledger of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkFault {
    #[error("ledger hash is {found}, and that of the ledger after the parent is {expected}")]
    LedgerHash { expected: Hash, found: Hash },
    #[error("auxpow.chain_id is {found}, the spec's is {expected}")]
    ChainId { expected: u16, found: u16 },
    #[error("auxpow.sequence is {found}, the next one is {expected}")]
    Sequence { expected: u64, found: u64 },
    #[error("auxpow.range_start is {found}, the block after the last range is {expected}")]
    RangeStart { expected: Hash, found: Hash },
    #[error("auxpow.range_end {found} is none of the {limit} blocks after the last range")]
    RangeEnd { found: Hash, limit: u32 },
    #[error(
        "auxpow.range_end has height {end}, and the certificates of the body show blocks up to \
         height {shown} final"
    )]
    NotShownFinal { end: Height, shown: Height },
    #[error("auxpow.bits are {found:#010x}, the schedule gives {expected:#010x}")]
    Bits { expected: u32, found: u32 },
    #[error("auxpow.auxpow, of {bytes} bytes, is no proof in the format of merged mining")]
    Format { bytes: usize },
    #[error("auxpow.auxpow: {0}")]
    Proof(#[from] ProofRefusal),
    #[error("the range of the proof: {0}")]
    Bundle(#[from] BundleError),
    #[error("payload.withdrawals are {found}, and the ledger gives {expected} others")]
    Withdrawals { expected: usize, found: usize },
    #[error("withdrawal_kinds are not one fee for each withdrawal")]
    WithdrawalKinds,
}

/// The part of a body that is judged by the ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    pub proof: Option<AuxPowHeader>,
    pub withdrawals: Vec<Withdrawal>,
    pub kinds: Vec<WithdrawalKind>,
    /// Height of the highest block that a certificate of the body shows final.
    pub shown: Height,
    /// Blocks without transactions have no receipts.
    pub has_transactions: bool,
}

impl Claims {
    pub(crate) fn of(block: &Block) -> Claims {
        let body = &block.body;
        let shown = body.finality.iter().map(|c| c.target.height).max();
        Claims {
            proof: body.auxpow.clone(),
            withdrawals: body.payload.withdrawals.clone(),
            kinds: body.withdrawal_kinds.clone(),
            shown: shown.unwrap_or_default(),
            has_transactions: !body.payload.transactions.is_empty(),
        }
    }
}

/// Checks a block against the ledger after its parent. `set` is that of the block's height. The
/// certificates of the body were checked with the federation.
pub(crate) fn judge(
    header: &Header,
    claims: &Claims,
    before: &Ledger,
    set: &AuthoritySet,
    config: &Config,
) -> Result<(), WorkFault> {
    let bug = &config.planted_bug;
    check_ledger_hash(header, before, bug)?;
    let genesis = &config.genesis;
    let expected = match &claims.proof {
        None => Vec::new(),
        Some(proof) => {
            let end = check_proof(header, proof, claims.shown, before, config)?;
            fees(before, genesis, set, proof, end, bug).withdrawals
        }
    };
    check_withdrawals(claims, &expected, bug)
}

/// Rule 5.1: the header names the ledger after the parent.
pub(crate) fn check_ledger_hash(
    header: &Header,
    before: &Ledger,
    bug: &PlantedBug,
) -> Result<(), WorkFault> {
    let (expected, found) = (before.root(), header.ledger_hash);
    if expected != found && !bug.active("ledger-hash-unchecked") {
        return Err(WorkFault::LedgerHash { expected, found });
    }
    Ok(())
}

/// Rule 4.4: the proof that a block carries. Returns the height of the end of its range.
fn check_proof(
    header: &Header,
    proof: &AuxPowHeader,
    shown: Height,
    before: &Ledger,
    config: &Config,
) -> Result<Height, WorkFault> {
    let genesis = &config.genesis;
    let bug = &config.planted_bug;
    let spec = &genesis.spec().auxpow;
    let last = before.work(genesis);
    if proof.chain_id != spec.chain_id {
        return Err(WorkFault::ChainId {
            expected: spec.chain_id,
            found: proof.chain_id,
        });
    }
    let expected = last.sequence.saturating_add(1);
    if proof.sequence != expected && !bug.active("sequence-unchecked") {
        let found = proof.sequence;
        return Err(WorkFault::Sequence { expected, found });
    }
    let range = range_up_to(proof, before, genesis, bug)?;
    let end = last.end.height.saturating_add(range.len() as u64);
    if end > shown && !bug.active("range-end-not-final") {
        return Err(WorkFault::NotShownFinal { end, shown });
    }
    let timestamp = header.slot.timestamp(genesis.spec().slot_duration_ms);
    let expected = next_bits(&last, timestamp, genesis, bug).get();
    if proof.bits != expected && !bug.active("bits-unchecked") {
        let found = proof.bits;
        return Err(WorkFault::Bits { expected, found });
    }
    check_work(proof, &range, genesis, bug)?;
    Ok(end)
}

/// The hashes of the range, which begins after the last one and ends at the block that the proof
/// names.
fn range_up_to(
    proof: &AuxPowHeader,
    before: &Ledger,
    genesis: &Genesis,
    bug: &PlantedBug,
) -> Result<Vec<Hash>, WorkFault> {
    let limit = genesis.spec().auxpow.max_range;
    let found = proof.range_end;
    let mut range = before.range(genesis, limit as usize);
    let at = range.iter().position(|hash| *hash == found);
    let count = at.ok_or(WorkFault::RangeEnd { found, limit })?;
    range.truncate(count.saturating_add(1));
    let expected = range.first().copied().unwrap_or_default();
    if proof.range_start != expected && !bug.active("range-start-unchecked") {
        let found = proof.range_start;
        return Err(WorkFault::RangeStart { expected, found });
    }
    Ok(range)
}

/// Rules 4.1 and 4.2: the proof commits to the range and its miner, and meets the bits.
fn check_work(
    proof: &AuxPowHeader,
    range: &[Hash],
    genesis: &Genesis,
    bug: &PlantedBug,
) -> Result<(), WorkFault> {
    if bug.active("work-unchecked") {
        return Ok(());
    }
    let bundle = alys_pow::Bundle::new(
        genesis.hash(),
        proof.chain_id,
        proof.sequence,
        range,
        proof.miner,
    )?;
    let bytes = proof.auxpow.len();
    let decoded = AuxPow::decode(&proof.auxpow).map_err(|_| WorkFault::Format { bytes })?;
    let bits = Bits::new(proof.bits).unwrap_or(limit(&genesis.spec().auxpow));
    let demand = Work::new(bundle, bits).demand();
    match VerifiedAuxPow::new(decoded, demand) {
        Ok(_) => Ok(()),
        Err(ProofRefusal::Slot { .. })
            if bug.active("slot-of-chains-unchecked")
                && holds_beside_slot(&proof.auxpow, demand) =>
        {
            Ok(())
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// For a planted bug: true when the rules of rule 4.2 (docs/protocol.md) that follow the one of the
/// slot hold, with which a proof may have any slot.
fn holds_beside_slot(encoded: &[u8], demand: Demand) -> bool {
    let Ok(proof) = AuxPow::decode(encoded) else {
        return false;
    };
    let tag = rules::magic(&proof, None).and_then(|(place, _)| rules::tag(&proof, place));
    tag.is_ok_and(|(tag, _)| {
        rules::root(&proof, &tag, demand.commitment).is_ok() && rules::inclusion(&proof).is_ok()
    })
}

/// Rule 4.5: bits of the proof in a block with this timestamp, in seconds.
pub(crate) fn next_bits(
    last: &LastProof,
    timestamp: u64,
    genesis: &Genesis,
    bug: &PlantedBug,
) -> Bits {
    let spec = &genesis.spec().auxpow;
    let limit = limit(spec);
    let before = if bug.active("bits-from-anchor") {
        spec.anchor_bits
    } else {
        last.bits
    };
    let schedule = Schedule {
        spacing_secs: spec.spacing,
        half_life_secs: NonZeroU64::new(spec.half_life).unwrap_or(NonZeroU64::MIN),
        limit,
    };
    let before = Bits::new(before).unwrap_or(limit);
    let due = last.timestamp.saturating_add(spec.spacing);
    // With the planted bug a proof before its time does not count as early.
    let timestamp = if timestamp < due && bug.active("early-proof-on-time") {
        due
    } else {
        timestamp
    };
    schedule.next_bits(before, last.timestamp, timestamp)
}

/// The easiest bits. The spec's bounds admit canonical ones only.
fn limit(spec: &AuxPowSpec) -> Bits {
    Bits::new(spec.limit_bits).unwrap_or_else(|_| alys_pow::Target::ONE.to_bits())
}

/// Rules 5.9 and 5.25: exactly the withdrawals that the ledger gives, in their order.
fn check_withdrawals(
    claims: &Claims,
    expected: &[Withdrawal],
    bug: &PlantedBug,
) -> Result<(), WorkFault> {
    let found = claims.withdrawals.as_slice();
    if found != expected && !bug.active("withdrawals-unchecked") {
        return Err(WorkFault::Withdrawals {
            expected: expected.len(),
            found: found.len(),
        });
    }
    let kinds = claims.kinds.iter();
    let are_fees = kinds.clone().all(|kind| *kind == WithdrawalKind::Fee);
    if kinds.len() != found.len() || !are_fees {
        return Err(WorkFault::WithdrawalKinds);
    }
    Ok(())
}

/// Rule 5.25: the fees that a block with `proof` pays. The range of the proof ends at `end`. The
/// planted bug leaves the tips of the block there unpaid.
pub(crate) fn fees(
    before: &Ledger,
    genesis: &Genesis,
    set: &AuthoritySet,
    proof: &AuxPowHeader,
    end: Height,
    bug: &PlantedBug,
) -> Fees {
    let end = if bug.active("last-tips-unpaid") {
        Height(end.0.saturating_sub(1))
    } else {
        end
    };
    before.fees(genesis, set, proof, end)
}

/// The ledger after a block that was judged.
pub(crate) fn ledger_after(
    before: &Ledger,
    header: &Header,
    claims: &Claims,
    additions: &Additions,
    set: &AuthoritySet,
    config: &Config,
) -> Result<(Ledger, Changes), LedgerError> {
    let bug = &config.planted_bug;
    let doubled = Additions {
        tips: additions.tips.saturating_add(additions.tips),
    };
    let additions = if bug.active("tips-twice") {
        &doubled
    } else {
        additions
    };
    let (genesis, proof) = (&config.genesis, claims.proof.as_ref());
    let before = if proof.is_some() && bug.active("remainder-lost") {
        &before.without_remainder()
    } else {
        before
    };
    before.apply(genesis, set, header, proof, additions)
}

/// Rule 4.6: the gate is closed for a block without a proof at `height` once the last final block
/// is `max_blocks_without_pow` or more heights above the last range of the parent's branch. It is
/// open above the window of the last final block: no block there can carry a certificate that shows
/// the end of a range final (rule 2.3), so that the chain would never resume.
pub(crate) fn check_gate(
    height: Height,
    last_final: Height,
    pow_end: Height,
    has_proof: bool,
    spec: &AuxPowSpec,
    bug: &PlantedBug,
) -> Result<(), Refusal> {
    let limit = spec.max_blocks_without_pow;
    let is_provable = height.saturating_since(last_final) <= FINALITY_WINDOW;
    let is_closed = limit > 0 && is_provable && last_final.saturating_since(pow_end) >= limit;
    if is_closed && !has_proof && !bug.active("gate-open") {
        return Err(Refusal::GateClosed { pow_end, limit });
    }
    Ok(())
}

/// The changes of several blocks in one write: the last change of each entry. The planted bug
/// writes the first one.
pub(crate) fn merge_changes(changes: Changes, bug: &PlantedBug) -> Changes {
    let mut merged = BTreeMap::new();
    for (key, value) in changes {
        if !(merged.contains_key(&key) && bug.active("first-change-kept")) {
            merged.insert(key, value);
        }
    }
    merged.into_iter().collect()
}

/// True if a question about the receipts of a final block is open again after a restart of the
/// execution layer's connection.
pub(crate) fn reopens_final_question(bug: &PlantedBug) -> bool {
    !bug.active("final-question-kept")
}

/// True if miners have the present work: nothing of the offer changed. With the planted bug the
/// bits may have changed.
pub(crate) fn is_offer_present(is_same: bool, is_same_range: bool, bug: &PlantedBug) -> bool {
    is_same || (is_same_range && bug.active("bits-of-offer-kept"))
}
