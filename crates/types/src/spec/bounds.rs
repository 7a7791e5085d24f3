//! The bounds of a spec (protocol section 10). Each is checked here and nowhere else.

use std::fmt::Display;
use std::ops::RangeBounds;

use super::{
    AuxPowSpec, BitcoinSpec, ChainSpec, HEADER_VERSION, PegSpec, SpecError, TRANSACTION_TYPES,
    two_slots,
};
use crate::limits::{
    FINALITY_WINDOW, MAX_BITCOIN_KEYS, MAX_GAS_LIMIT, MAX_GOVERNANCE_KEYS, MAX_PAYMENTS,
    MAX_SLOT_DURATION_MS, MAX_UPGRADES, MIN_CHANGE_SATS, MIN_GAS_LIMIT, MIN_SLOT_DURATION_MS,
};

/// Most inputs of a payout: of the smallest script (1-of-1) under 10,000 virtual bytes.
const MAX_INPUTS: u16 = 143;
/// Inputs that fit into a payout of the largest script (15-of-15).
const LARGEST_SCRIPT_INPUTS: u64 = 22;
/// Depth outside of development: reorganisations of Bitcoin have been shorter for ten years.
const MIN_CONFIRMATIONS: u32 = 6;
/// Smallest payment that is left of the smallest burn after the highest fee, in satoshi: above the
/// dust limit of every kind of address.
const MIN_PAYMENT: u64 = 1_000;
/// AuxPoW chain ids that parents of Bitcoin carry by chance (rule 4.3).
const FOREIGN_CHAIN_IDS: std::ops::RangeInclusive<u16> = 0x2000..=0x3fff;
/// A day: the longest spacing of proofs, in seconds.
const MAX_SPACING: u64 = 86_400;
/// Longest half life of the difficulty, in seconds.
const MAX_HALF_LIFE: u64 = 1 << 31;
/// Longest range of a proof.
const MAX_RANGE: u32 = 4_096;

pub(super) fn check(spec: &ChainSpec) -> Result<(), SpecError> {
    let is_development = spec.bitcoin.network.is_development();
    let slots = MIN_SLOT_DURATION_MS..=MAX_SLOT_DURATION_MS;
    let gas = MIN_GAS_LIMIT..=MAX_GAS_LIMIT;
    let margin = if is_development { 1 } else { FINALITY_WINDOW };
    let slot_ms = spec.slot_duration_ms;
    let drift_ms = spec.drift_allowance_ms;
    within("evm_chain_id", spec.evm_chain_id, 1.., "above 0")?;
    within("start_slot", spec.start_slot.0, 1.., "above 0")?;
    within("slot_duration_ms", slot_ms, slots, "from 1000 to 60000")?;
    let below_slot = format!("below slot_duration_ms ({slot_ms})");
    within("drift_allowance_ms", drift_ms, ..slot_ms, below_slot)?;
    let at_least = format!("at least {margin}");
    within("rejoin_margin", spec.rejoin_margin, margin.., at_least)?;
    let from_to = "from 5000000 to 30000000";
    within("max_gas_limit", spec.max_gas_limit, gas, from_to)?;
    check_upgrades(spec)?;
    check_governance(spec, is_development)?;
    check_bitcoin(&spec.bitcoin, is_development)?;
    check_peg(&spec.peg)?;
    check_ages(&spec.peg, spec)?;
    check_auxpow(&spec.auxpow, slot_ms, is_development)
}

/// A value within a range; `bound` states the range.
fn within<T: PartialOrd + Display>(
    field: &'static str,
    found: T,
    range: impl RangeBounds<T>,
    bound: impl Into<String>,
) -> Result<(), SpecError> {
    check_bound(field, range.contains(&found), bound, found)
}

fn check_bound(
    field: &'static str,
    holds: bool,
    bound: impl Into<String>,
    found: impl Display,
) -> Result<(), SpecError> {
    if holds {
        return Ok(());
    }
    Err(SpecError::Bound {
        field,
        bound: bound.into(),
        found: found.to_string(),
    })
}

fn check_upgrades(spec: &ChainSpec) -> Result<(), SpecError> {
    let upgrades = &spec.upgrades;
    within("upgrades", upgrades.len(), ..=MAX_UPGRADES, "256 at most")?;
    if upgrades.first().is_none_or(|first| first.height.0 != 0) {
        return Err(SpecError::NoFirstUpgrade);
    }
    let rows = upgrades.iter().enumerate();
    let pairs = rows.clone().skip(1).zip(upgrades);
    for ((index, upgrade), before) in pairs {
        if upgrade.height <= before.height {
            return Err(SpecError::UpgradeOrder { index });
        }
    }
    for (index, upgrade) in rows {
        let found = upgrade.header_version;
        if !(1..=HEADER_VERSION).contains(&found) {
            return Err(SpecError::UpgradeVersion { index, found });
        }
        let types = &upgrade.transaction_types;
        let is_ascending = types.is_sorted_by(|a, b| a < b);
        let are_known = types.iter().all(|kind| TRANSACTION_TYPES.contains(kind));
        if types.is_empty() || !is_ascending || !are_known {
            let found = types.clone();
            return Err(SpecError::UpgradeTypes { index, found });
        }
    }
    Ok(())
}

fn check_governance(spec: &ChainSpec, is_development: bool) -> Result<(), SpecError> {
    let keys = spec.governance.keys.len();
    let threshold = usize::from(spec.governance.threshold);
    let is_fixed = threshold == 0 && keys == 0 && is_development;
    if keys > MAX_GOVERNANCE_KEYS || !(is_fixed || (1..=keys).contains(&threshold)) {
        return Err(SpecError::Threshold { keys, threshold });
    }
    Ok(())
}

fn check_bitcoin(bitcoin: &BitcoinSpec, is_development: bool) -> Result<(), SpecError> {
    let depth = bitcoin.required_confirmations;
    let lowest = if is_development { 1 } else { MIN_CONFIRMATIONS };
    let bound = format!("from {lowest} to 100");
    within("bitcoin.required_confirmations", depth, lowest..=100, bound)?;
    let script = &bitcoin.epoch_0;
    let threshold = usize::from(script.threshold);
    let keys = script.keys.len();
    if keys > MAX_BITCOIN_KEYS || !(1..=keys).contains(&threshold) {
        return Err(SpecError::ScriptThreshold { keys, threshold });
    }
    for (index, key) in script.keys.iter().enumerate() {
        if !key.is_valid() {
            return Err(SpecError::ScriptKey { index });
        }
        if script.keys.iter().take(index).any(|other| other == key) {
            return Err(SpecError::DuplicateScriptKey { index });
        }
    }
    Ok(())
}

/// Amounts, counts and rates.
fn check_peg(peg: &PegSpec) -> Result<(), SpecError> {
    let most_burns = MAX_PAYMENTS as u16;
    let (floor, ceiling) = (peg.fee_floor.0, peg.fee_ceiling.0);
    let increment = peg.incremental_rate.0;
    let deposit = peg.min_deposit.0;
    let (peg_out, change) = (peg.min_peg_out.0, peg.min_change.0);
    within("peg.min_deposit", deposit, 10_000.., "at least 10000")?;
    within(
        "peg.max_fee_share",
        peg.max_fee_share,
        100..=5_000,
        "from 100 to 5000",
    )?;
    within(
        "peg.fee_floor",
        floor,
        100..ceiling,
        "at least 100 and below peg.fee_ceiling",
    )?;
    within(
        "peg.fee_ceiling",
        ceiling,
        ..=10_000_000,
        "at most 10000000",
    )?;
    within(
        "peg.incremental_rate",
        increment,
        100..=10_000,
        "from 100 to 10000",
    )?;
    within(
        "peg.max_burns",
        peg.max_burns,
        1..=most_burns,
        "from 1 to 100",
    )?;
    within(
        "peg.max_inputs",
        peg.max_inputs,
        1..=MAX_INPUTS,
        "from 1 to 143",
    )?;
    within("peg.utxo_target", peg.utxo_target, 1..=64, "from 1 to 64")?;
    let share = share_of(peg_out, peg.max_fee_share);
    let is_paid = peg_out.saturating_sub(share) >= MIN_PAYMENT;
    let bound = "1000 or more after peg.max_fee_share of it";
    check_bound("peg.min_peg_out", is_paid, bound, peg_out)?;
    let covers_fee = share >= floor.saturating_mul(10);
    let bound = "so large that peg.max_fee_share of it is 10 * peg.fee_floor or more";
    check_bound("peg.min_peg_out", covers_fee, bound, peg_out)?;
    let bound = format!("from 330 to peg.min_peg_out ({peg_out})");
    within("peg.min_change", change, MIN_CHANGE_SATS..=peg_out, bound)?;
    let inputs = u64::from(peg.max_inputs).min(LARGEST_SCRIPT_INPUTS);
    let gathered = inputs.saturating_mul(deposit.min(change));
    let bound = format!(
        "so large that {inputs} inputs of the lesser of peg.min_deposit and peg.min_change \
         ({gathered} sat) are 2 * peg.min_peg_out ({peg_out}) or more"
    );
    let suffices = gathered >= peg_out.saturating_mul(2);
    check_bound("peg.max_inputs", suffices, bound, peg.max_inputs)
}

/// `share` parts of 10,000, rounded down.
fn share_of(amount: u64, share: u16) -> u64 {
    let parts = u128::from(amount).saturating_mul(u128::from(share)) / 10_000;
    u64::try_from(parts).unwrap_or(u64::MAX)
}

/// Durations, in seconds.
fn check_ages(peg: &PegSpec, spec: &ChainSpec) -> Result<(), SpecError> {
    let turns = (spec.authorities.len() as u64).saturating_mul(4);
    let lowest = turns.saturating_mul(spec.slot_duration_ms).div_ceil(1000);
    let bound = format!("at least 4 slots for each authority ({lowest} s)");
    within("peg.statement_age", peg.statement_age, lowest.., bound)?;
    within("peg.hold_after", peg.hold_after, 1.., "above 0")?;
    let escalate = peg.escalate_after;
    let bound = format!("above 0 and below peg.escalate_after ({escalate})");
    within("peg.replace_after", peg.replace_after, 1..escalate, bound)
}

fn check_auxpow(auxpow: &AuxPowSpec, slot_ms: u64, is_development: bool) -> Result<(), SpecError> {
    let is_own = !FOREIGN_CHAIN_IDS.contains(&auxpow.chain_id);
    let bound =
        "outside of 0x2000..0x3fff (8192 to 16383), which Bitcoin's headers carry by chance";
    check_bound("auxpow.chain_id", is_own, bound, auxpow.chain_id)?;
    let (limit, anchor) = (auxpow.limit_bits, auxpow.anchor_bits);
    let bound = "a canonical compact target above 0";
    check_bound("auxpow.limit_bits", is_target(limit), bound, bits(limit))?;
    check_bound("auxpow.anchor_bits", is_target(anchor), bound, bits(anchor))?;
    // Canonical compact targets have the order of the numbers that they stand for.
    let bound = format!("no easier target than auxpow.limit_bits ({})", bits(limit));
    check_bound("auxpow.anchor_bits", anchor <= limit, bound, bits(anchor))?;
    let two_slots = two_slots(slot_ms);
    let (spacing, half_life) = (auxpow.spacing, auxpow.half_life);
    let bound = format!("from 2 slots ({two_slots} s) to 86400");
    within("auxpow.spacing", spacing, two_slots..=MAX_SPACING, bound)?;
    let bound = format!("from auxpow.spacing ({spacing}) to 2147483648");
    within(
        "auxpow.half_life",
        half_life,
        spacing..=MAX_HALF_LIFE,
        bound,
    )?;
    within(
        "auxpow.max_range",
        auxpow.max_range,
        1..=MAX_RANGE,
        "from 1 to 4096",
    )?;
    let lowest = u64::from(!is_development);
    let highest = u64::from(auxpow.max_range);
    let gate = auxpow.max_blocks_without_pow;
    let bound = format!("from {lowest} to auxpow.max_range ({highest}); 0 only in development");
    within(
        "auxpow.max_blocks_without_pow",
        gate,
        lowest..=highest,
        bound,
    )
}

fn bits(bits: u32) -> String {
    format!("{bits:#010x}")
}

/// True for the one compact form of a positive number of at most 256 bits: an exponent in the first
/// byte, and a mantissa of three bytes whose first nine bits are not all zero and whose first bit,
/// the sign, is. A number below 2^15 has a shorter mantissa.
fn is_target(bits: u32) -> bool {
    let exponent = bits >> 24;
    let mantissa = bits & 0x00ff_ffff;
    if mantissa & 0x0080_0000 != 0 || mantissa < 0x8000 {
        return false;
    }
    match exponent {
        0 => false,
        1 => mantissa & 0xffff == 0,
        2 => mantissa & 0xff == 0,
        3..=32 => true,
        // One byte of the mantissa is zero, and the number has 256 bits.
        33 => mantissa <= 0xffff,
        _ => false,
    }
}
