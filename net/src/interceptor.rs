//! Planted bugs of this crate, which the simulator must find (`cargo sim mutants`).
//!
//! Each function stands for one correct expression and departs from it only while the bug that it
//! names is active in the current simulation. A production build has no planted bugs: `active` is a
//! constant `false`.

use alys_runtime::mutant::active;

use crate::dial::DialState;

/// `never-dials-again`: the address of a lost peer counts as being dialled for ever, so no dial
/// follows.
pub(crate) fn schedule_redial(state: &mut DialState, at_ms: u64) {
    *state = if active("never-dials-again") {
        DialState::Dialling
    } else {
        DialState::Waiting { at_ms }
    };
}

/// `backoff-ends-with-connection`: an established connection ends the backoff of its address,
/// before the peer is admitted.
pub(crate) fn failures_after_connection(failures: u32) -> u32 {
    if active("backoff-ends-with-connection") {
        0
    } else {
        failures
    }
}

/// `requests-not-limited`: a peer's requests are served beyond their rate.
pub(crate) fn is_within_request_rate(is_within: bool) -> bool {
    is_within || active("requests-not-limited")
}

/// `known-peer-banned-for-load`: a peer with a known address pays for load like a stranger.
pub(crate) fn is_spared(is_known: bool) -> bool {
    is_known && !active("known-peer-banned-for-load")
}

/// `dropped-copies-remembered`: gossip that finds no room counts as seen, so the copies of other
/// peers are repeats.
pub(crate) fn remembers_dropped() -> bool {
    active("dropped-copies-remembered")
}

/// `refused-status-forgotten`: a status request of the handshake that the peer refused is not sent
/// again on this connection.
pub(crate) fn repeats_status(is_refused: bool) -> bool {
    !is_refused || !active("refused-status-forgotten")
}

/// `last-ban-kept`: the gate learns of bans only while there are any, so the last one does not end.
pub(crate) fn updates_gate(has_bans: bool) -> bool {
    has_bans || !active("last-ban-kept")
}

/// `bucket-forgets-fractions`: a bucket refills by whole seconds, and forgets the milliseconds between two of its
/// uses.
pub(crate) fn refilling_ms(elapsed_ms: u64) -> u64 {
    if !elapsed_ms.is_multiple_of(1000) && active("bucket-forgets-fractions") {
        return elapsed_ms - elapsed_ms % 1000;
    }
    elapsed_ms
}

/// `former-authority-kept`: peers that proved the key of an authority count as one after it left the set.
pub(crate) fn forgets_former_authorities() -> bool {
    !active("former-authority-kept")
}
