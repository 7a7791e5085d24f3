//! Features that the workload has reached, counted by name.

use std::collections::BTreeMap;

/// Every feature that a sweep should reach. The counters of an outcome add the prefix `workload.`.
pub const FEATURES: &[&str] = &[
    // Final transactions, by envelope type and by effect.
    "final.legacy",
    "final.access-list",
    "final.dynamic-fee",
    "final.transfer",
    "final.large",
    "final.cancel",
    "final.touch",
    "deploy.counter",
    "deploy.reverter",
    "deploy.logger",
    "deploy.spinner",
    "deploy.toggle",
    "call.counter",
    "call.reverter",
    "call.logger",
    "call.spinner",
    "call.toggle",
    "call.refund",
    "call.nothing-there",
    // Outcomes of nonces with more than one transaction.
    "replace.won",
    "replace.lost",
    "cancel.won",
    "cancel.lost",
    "underpriced.replaced",
    // Behaviour of the users.
    "flood",
    "bid",
    "gap.made",
    "gap.filled",
    "resent",
    "unanswered",
    // Refusals of the execution clients, by reason.
    "refused.malformed",
    "refused.oversized",
    "refused.type",
    "refused.unprotected",
    "refused.wrong-chain",
    "refused.bad-signature",
    "refused.already-known",
    "refused.nonce-too-low",
    "refused.intrinsic-gas",
    "refused.above-block-gas",
    "refused.tip-above-cap",
    "refused.init-code",
    "refused.underpriced",
    "refused.replacement-underpriced",
    "refused.no-funds",
    "refused.account-limit",
    // Reads that were answered.
    "read.balance",
    "read.nonce",
    "read.storage",
    "read.code",
    "read.call",
    "read.logs",
    "read.receipts",
    "read.estimate",
    "read.estimate-call",
    "read.again",
    "read.block",
    "read.transaction",
    "read.fees",
    "read.price",
    // Answers that were compared with the arithmetic of the invariants.
    "model.gas",
    "model.answer",
    "model.gap",
    "model.replacement",
    "model.nonce",
    "model.order",
    "model.rewards",
    "model.price",
    "model.absence",
    "model.pool",
    // Filters and searches of watchers that were compared with the chain, logs that were taken back
    // after a reorganisation, and filters that were lost in a restart.
    "watch.blocks",
    "watch.logs",
    "watch.removed",
    "watch.range",
    "watch.lost",
    // Submissions of miners, by their conduct.
    "mine.steady",
    "mine.bursts",
    "mine.silent",
    "mine.stale",
    "mine.withhold",
    "mine.replay",
    "mine.replayed",
    "mine.flood",
    "mine.wrong-orders",
    "mine.other-chains",
    // Final blocks, by the share of their gas limit that is used.
    "block.empty",
    "block.part",
    "block.full",
];

/// Error texts of Geth, which wallets match on, with the feature of each; the embedded client uses
/// the same texts. The first text that a message contains decides.
const REASONS: &[(&str, &str)] = &[
    ("rlp:", "refused.malformed"),
    ("oversized data", "refused.oversized"),
    ("transaction type not supported", "refused.type"),
    ("only replay-protected", "refused.unprotected"),
    ("invalid chain id", "refused.wrong-chain"),
    ("invalid sender", "refused.bad-signature"),
    ("already known", ALREADY_KNOWN),
    ("nonce too low", "refused.nonce-too-low"),
    ("intrinsic gas too low", "refused.intrinsic-gas"),
    ("exceeds block gas limit", "refused.above-block-gas"),
    ("max priority fee per gas higher", "refused.tip-above-cap"),
    ("max initcode size", "refused.init-code"),
    (
        "replacement transaction underpriced",
        "refused.replacement-underpriced",
    ),
    ("transaction underpriced", "refused.underpriced"),
    ("insufficient funds", "refused.no-funds"),
    ("account limit exceeded", "refused.account-limit"),
];

/// The only refusal after which the execution client has the transaction.
pub const ALREADY_KNOWN: &str = "refused.already-known";

/// Returns the feature of a refusal; `None` if the message is no refusal by a transaction pool.
pub fn reason(message: &str) -> Option<&'static str> {
    REASONS
        .iter()
        .find(|(text, _)| message.contains(text))
        .map(|(_, feature)| *feature)
}

/// Number of times that each feature was reached.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts a feature once more. Debug builds panic on an unlisted feature, because [`FEATURES`]
    /// must be complete.
    pub fn count(&mut self, feature: &'static str) {
        debug_assert!(FEATURES.contains(&feature), "{feature} is not listed");
        *self.0.entry(feature).or_default() += 1;
    }

    /// Returns the features that were reached, with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(feature, count)| (*feature, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn features_are_listed_once_and_every_reason_is_one() {
        let all: BTreeSet<&str> = FEATURES.iter().copied().collect();
        assert_eq!(all.len(), FEATURES.len());
        for (text, feature) in REASONS {
            assert!(all.contains(feature), "{feature}");
            assert_eq!(reason(text), Some(*feature));
        }
        let refused = FEATURES
            .iter()
            .filter(|feature| feature.starts_with("refused."))
            .count();
        assert_eq!(refused, REASONS.len());
        assert_eq!(
            reason("transaction underpriced: tip 0, minimum needed 1"),
            Some("refused.underpriced")
        );
        assert_eq!(reason("the store of this execution client failed"), None);
    }
}
