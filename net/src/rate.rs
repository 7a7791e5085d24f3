//! Rate limits of peers: token buckets. Pure; the time is an argument.

use crate::interceptor;

/// A bucket of tokens that refills at a constant rate. It counts thousandths of a token, so that
/// slow rates keep their fractions in integer arithmetic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    /// Thousandths of a token.
    capacity: u64,
    /// Thousandths of a token per millisecond, which equals tokens per second.
    per_ms: u64,
    tokens: u64,
    last_ms: u64,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens that refills by `per_second`.
    pub fn new(burst: u32, per_second: u32, now_ms: u64) -> Self {
        let capacity = u64::from(burst) * 1000;
        Self {
            capacity,
            per_ms: u64::from(per_second),
            tokens: capacity,
            last_ms: now_ms,
        }
    }

    /// Takes `amount` tokens, or returns false and takes none. A clock that goes back refills
    /// nothing.
    pub fn take(&mut self, amount: u32, now_ms: u64) -> bool {
        let elapsed = interceptor::refilling_ms(now_ms.saturating_sub(self.last_ms));
        self.last_ms = self.last_ms.max(now_ms);
        self.tokens = self
            .tokens
            .saturating_add(elapsed.saturating_mul(self.per_ms))
            .min(self.capacity);
        let wanted = u64::from(amount) * 1000;
        let granted = wanted <= self.tokens;
        if granted {
            self.tokens -= wanted;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_follow_the_table() {
        // (at ms, tokens wanted, granted) for one bucket with a burst of 4 and 2 per second
        let table = [
            (0, 3, true),
            (0, 1, true),
            (0, 1, false),
            (499, 1, false),
            (500, 1, true),
            (400, 1, false),
            (500, 1, false),
            (1000, 1, true),
            (60_000, 5, false),
            (60_000, 4, true),
            (60_000, 1, false),
        ];
        let mut bucket = TokenBucket::new(4, 2, 0);
        for (row, (at, amount, granted)) in table.into_iter().enumerate() {
            assert_eq!(bucket.take(amount, at), granted, "row {row}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let mut bucket = TokenBucket::new(u32::MAX, u32::MAX, 0);
        assert!(bucket.take(u32::MAX, u64::MAX));
        assert!(!bucket.take(1, u64::MAX));
    }
}
