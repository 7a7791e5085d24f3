//! Planted bugs of this crate, which the simulator must find (`cargo sim mutants`).
//!
//! Each function stands for one correct expression and departs from it only while the bug that it
//! names is active in the current simulation. A production build has no planted bugs: `active` is a
//! constant `false`.

use alys_runtime::mutant::active;

/// `token-kept`: one JWT serves for two minutes, beyond the minute within which an execution client
/// accepts its `iat`.
pub(crate) fn token_issued_secs(now_secs: u64) -> u64 {
    const KEPT_SECS: u64 = 120;
    if active("token-kept") {
        return now_secs - now_secs % KEPT_SECS;
    }
    now_secs
}
