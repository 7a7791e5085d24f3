//! Rules that depend on the wall clock.

use alys_types::bls::PublicKeyBytes;
use alys_types::{AuthoritySet, ChainSpec, Slot};

use super::{PlantedBug, Refusal};
use crate::input::Now;

/// Slots ahead of the clock for which proposals are kept until their slot comes. The drift
/// allowance is below one slot; one more covers a proposal that arrives while the slot changes.
const EARLY_SLOTS: u64 = 2;

/// Longest pause before the execution layer is asked again about a certified block that it calls
/// invalid, in slots: a client that was repaired without a restart follows again within seconds,
/// and one that was not has time for other requests.
const MAX_PAUSE_SLOTS: u64 = 8;

/// Rule 6.2 (docs/protocol.md): the pause after the execution layer called a certified block
/// invalid `answers` times, in milliseconds. It begins with one slot and doubles. The planted bug
/// takes slots for milliseconds.
pub(crate) fn pause_after_invalid(answers: u32, slot_ms: u64, bug: &PlantedBug) -> u64 {
    let slots = 1u64.checked_shl(answers.saturating_sub(1));
    let slots = slots.map_or(MAX_PAUSE_SLOTS, |slots| slots.min(MAX_PAUSE_SLOTS));
    if bug.active("pause-in-milliseconds") {
        return slots;
    }
    slots.saturating_mul(slot_ms)
}

/// Rule 3.2 (docs/protocol.md): an approval is signed while the wall clock is in the block's slot,
/// give or take the drift allowance.
pub(crate) fn may_sign_in(
    slot: Slot,
    spec: &ChainSpec,
    now: Now,
    bug: &PlantedBug,
) -> Result<(), Refusal> {
    let start = slot.start_ms(spec.slot_duration_ms);
    let end = slot.next().start_ms(spec.slot_duration_ms);
    let is_in = now.wall_ms.saturating_add(spec.drift_allowance_ms) >= start
        && now.wall_ms < end.saturating_add(spec.drift_allowance_ms);
    if is_in || bug.active("approves-out-of-slot") {
        return Ok(());
    }
    Err(Refusal::OutOfSlot {
        slot,
        current: Slot::at(now.wall_ms, spec.slot_duration_ms),
    })
}

/// Rule 3.2 (docs/protocol.md), "early proposals wait for their slot": true when `slot` is too far
/// ahead of `current` for its proposals to be kept.
pub(crate) fn is_too_early(slot: Slot, current: Slot, bug: &PlantedBug) -> bool {
    slot > latest_slot(current) || (slot > current && bug.active("early-proposal-dropped"))
}

/// Rules 3.2 and 3.15 (docs/protocol.md): the latest slot whose proposals and votes are taken while
/// the clock is in `current`.
pub(crate) fn latest_slot(current: Slot) -> Slot {
    current.saturating_add(EARLY_SLOTS)
}

/// Rule 1.2 (docs/protocol.md): the timestamp of a block, in seconds, derived from its slot, so
/// that a leader's clock cannot change it.
pub(crate) fn block_timestamp(slot: Slot, spec: &ChainSpec, now: Now, bug: &PlantedBug) -> u64 {
    if bug.active("local-timestamp") {
        return now.wall_ms / 1_000;
    }
    slot.timestamp(spec.slot_duration_ms)
}

/// Slots by which the clock of a peer may differ from the own one and still agree with it: one for
/// the drift allowance, which is below a slot, one for the latency of the statement.
const AGREED_SLOTS: u64 = 2;

/// Rule 3.9 (docs/protocol.md): true when the slot of a wall clock at the start of a process is no
/// more than `rejoin_margin` above the highest certified one. An authority that signed in a later
/// slot by a wrong clock would be silent until then.
pub(crate) fn is_near_chain(
    current: Slot,
    highest: Slot,
    spec: &ChainSpec,
    bug: &PlantedBug,
) -> bool {
    current <= highest.saturating_add(spec.rejoin_margin) || bug.active("far-clock-trusted")
}

/// Rule 3.9 (docs/protocol.md): true when a peer's clock, of which it stated the slot, agrees with
/// the own one.
pub(crate) fn is_same_time(stated: Slot, current: Slot) -> bool {
    stated.0.abs_diff(current.0) <= AGREED_SLOTS
}

/// Rule 3.9 (docs/protocol.md): the index, in the newest set, of the peer whose vote or statement
/// confirms the clock of `me`. An own vote confirms nothing, because the node itself made it.
pub(crate) fn confirming_peer(
    key: &PublicKeyBytes,
    me: Option<&PublicKeyBytes>,
    newest: &AuthoritySet,
    bug: &PlantedBug,
) -> Option<u8> {
    let is_own = me == Some(key) && !bug.active("own-vote-confirms-clock");
    newest.index_of(key).filter(|_| !is_own)
}

/// Rule 3.9 (docs/protocol.md): true when confirmations of the wall clock at an offset do not count
/// at another one, because the clock moved by more than the drift allowance in between.
pub(crate) fn is_other_time(moved_ms: u64, allowance_ms: u64, bug: &PlantedBug) -> bool {
    moved_ms > allowance_ms && !bug.active("confirmations-outlive-jump")
}

/// Rule 3.9 (docs/protocol.md): true when the highest approved slot is ahead of a trusted clock by
/// more than drift explains, so that the node cannot approve until then.
pub(crate) fn is_approval_ahead(approved: Slot, current: Slot) -> bool {
    approved > latest_slot(current)
}

/// Rule 3.9 (docs/protocol.md): true when the wall clock moved against the monotonic one
/// by more than the drift allowance.
pub(crate) fn has_clock_jumped(by_ms: i64, allowance_ms: u64, bug: &PlantedBug) -> bool {
    by_ms.unsigned_abs() > allowance_ms && !bug.active("clock-jump-ignored")
}
