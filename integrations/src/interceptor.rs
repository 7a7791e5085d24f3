//! Planted bugs of this crate, which the simulator must find (`cargo sim mutants`).
//!
//! Each function stands for one correct expression and departs from it only while the bug that it
//! names is active in the current simulation. A production build has no planted bugs: `active` is a
//! constant `false`.

use alloy_eips::eip1559::BaseFeeParams;
use alloy_primitives::{Bloom, U256};
use alys_runtime::mutant::active;
use alys_runtime::time::Instant;

/// `token-kept`: one JWT serves for two minutes, beyond the minute within which an execution client
/// accepts its `iat`.
pub(crate) fn token_issued_secs(now_secs: u64) -> u64 {
    const KEPT_SECS: u64 = 120;
    if active("token-kept") {
        return now_secs - now_secs % KEPT_SECS;
    }
    now_secs
}

/// `base-fee-slow`: the base fee changes by a sixteenth at most, in place of an eighth, in each
/// embedded client alike.
pub(crate) fn base_fee_params() -> BaseFeeParams {
    let params = BaseFeeParams::ethereum();
    if active("base-fee-slow") {
        return BaseFeeParams {
            max_change_denominator: 2 * params.max_change_denominator,
            ..params
        };
    }
    params
}

/// `refused-charge-returned`: a charge that the budget of a server refused counts as taken, so its
/// bytes are given back though they were never taken.
pub(crate) fn notes_refused_charge() -> bool {
    active("refused-charge-returned")
}

/// `any-replacement`: a replacement need not raise the fees.
pub(crate) fn replacement_is_raised(is_raised: bool) -> bool {
    is_raised || active("any-replacement")
}

/// `estimate-too-low`: an estimate is the highest gas limit that was found not to suffice.
pub(crate) fn estimated_gas(insufficient: u64, sufficient: u64) -> u64 {
    if active("estimate-too-low") {
        return insufficient;
    }
    sufficient
}

/// `log-index-per-receipt`: the indexes of logs start at 0 in each receipt.
pub(crate) fn next_log_index(index: u64) -> u64 {
    if active("log-index-per-receipt") {
        return 0;
    }
    index
}

/// `reward-tips-unsorted`: the percentiles of `eth_feeHistory` follow the order of the block.
pub(crate) fn tips_are_sorted() -> bool {
    !active("reward-tips-unsorted")
}

/// `reward-gas-cumulative`: a transaction counts with the gas of its block up to it.
pub(crate) fn gas_before(cumulative: u64) -> u64 {
    if active("reward-gas-cumulative") {
        return 0;
    }
    cumulative
}

/// `rank-by-named-tip`: a transaction is included by the tip that it names, though its fee cap may
/// leave less of it; a legacy one names its whole price.
pub(crate) fn inclusion_rank(effective: u128, named: u128) -> u128 {
    if active("rank-by-named-tip") {
        return named;
    }
    effective
}

/// `empty-account-written`: an account that did not exist enters the state though it stays empty.
pub(crate) fn empty_account_is_written(is_new: bool) -> bool {
    is_new && active("empty-account-written")
}

/// `left-rows-kept`: the journal of the pool forgets no row in memory.
pub(crate) fn left_rows_are_forgotten() -> bool {
    !active("left-rows-kept")
}

/// `filter-skips-replacement`: after a reorganisation the logs of a filter are searched from the
/// block that was the first unreported one `before`, without the replacements below it.
pub(crate) fn first_searched(before: u64, rewound: u64) -> u64 {
    if rewound != before && active("filter-skips-replacement") {
        return before;
    }
    rewound
}

/// `filter-ages`: a poll does not renew a filter, so that it is removed some time after its
/// installation.
pub(crate) fn filter_used(last_used: Instant, now: Instant) -> Instant {
    if active("filter-ages") {
        return last_used;
    }
    now
}

/// `bloom-of-last-receipt`: the bloom of a block is that of the last receipt, in each embedded client alike.
pub(crate) fn bloom_with(before: Bloom, receipt: Bloom) -> Bloom {
    if before != Bloom::ZERO && active("bloom-of-last-receipt") {
        return receipt;
    }
    before | receipt
}

/// `safe-as-finalized`: the tag `finalized` names the safe block, which no proof of work may cover.
pub(crate) fn finalized<'a, T>(finalized: &'a T, safe: &'a T) -> &'a T {
    if active("safe-as-finalized") {
        return safe;
    }
    finalized
}

/// `replaced-cost-kept`: the cost of a transaction that was replaced stays in the sum of its sender.
pub(crate) fn returned_cost(of_replaced: U256) -> U256 {
    if of_replaced > U256::ZERO && active("replaced-cost-kept") {
        return U256::ZERO;
    }
    of_replaced
}
