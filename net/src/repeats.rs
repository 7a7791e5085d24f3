//! Re-sent gossip. Pure; the time is an argument.
//!
//! Section 3 of the protocol re-sends the very same bytes slot after slot. gossipsub's own cache would
//! swallow them, so the envelope carries a number that makes each sending a message of its own. That number
//! is not signed: anybody could send one vote under a thousand numbers, and every honest node would forward
//! each of them. This filter lets the same payload through once a window, whatever its number, so that a
//! re-sending passes and a flood does not.

use std::collections::{BTreeMap, VecDeque};

/// A digest of topic and payload.
pub type PayloadKey = [u8; 16];

/// When each payload was last let through. Bounded; the oldest entry is forgotten first, which can only let a
/// repeat pass.
#[derive(Debug)]
pub struct Repeats {
    window_ms: u64,
    capacity: usize,
    last: BTreeMap<PayloadKey, u64>,
    order: VecDeque<(PayloadKey, u64)>,
}

impl Repeats {
    /// Lets a payload through once every `window_ms`, remembering at most `capacity` of them.
    pub fn new(window_ms: u64, capacity: usize) -> Self {
        Self {
            window_ms,
            capacity,
            last: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// True when the payload may pass now; false when it passed less than a window ago.
    pub fn admit(&mut self, key: PayloadKey, now_ms: u64) -> bool {
        while let Some((old, at)) = self.order.front().copied() {
            if now_ms < at.saturating_add(self.window_ms) && self.order.len() < self.capacity {
                break;
            }
            self.order.pop_front();
            if self.last.get(&old) == Some(&at) {
                self.last.remove(&old);
            }
        }
        if self.last.contains_key(&key) {
            return false;
        }
        self.last.insert(key, now_ms);
        self.order.push_back((key, now_ms));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_passes_once_a_window() {
        let (a, b) = ([1; 16], [2; 16]);
        let table = [
            (0, a, true),
            (0, a, false),
            (0, b, true),
            (499, a, false),
            (500, a, true),
            (501, b, true),
            (999, a, false),
            (1000, a, true),
        ];
        let mut repeats = Repeats::new(500, 16);
        for (row, (at, key, passes)) in table.into_iter().enumerate() {
            assert_eq!(repeats.admit(key, at), passes, "row {row}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeats = Repeats::new(u64::MAX, 8);
        for n in 0..=255u8 {
            assert!(repeats.admit([n; 16], 0));
        }
        assert!(repeats.last.len() <= 8 && repeats.order.len() <= 8);
        assert!(!repeats.admit([255; 16], 0));
        assert!(repeats.admit([0; 16], 0));
    }
}
