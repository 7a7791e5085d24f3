//! A filter for repeated gossip. Pure; the time is an argument.
//!
//! Rule 3.7 of docs/protocol.md re-sends the same bytes after each slot without finality.
//! gossipsub's duplicate cache would suppress them, so the envelope carries a nonce that makes each
//! publication a distinct message. The nonce is not signed, so a peer could send one vote with a
//! thousand nonces, and every honest node would forward all copies. This filter ignores the nonce
//! and admits each payload once per window: a rebroadcast passes and a flood does not.

use std::collections::{BTreeMap, VecDeque};

/// A digest of topic and payload, without the nonce.
pub type PayloadKey = [u8; 16];

/// Remembers when each payload was last admitted. A full filter evicts its oldest entry; the only
/// consequence is that a repeat of that payload is admitted early.
#[derive(Debug)]
pub struct RepeatFilter {
    window_ms: u64,
    capacity: usize,
    last: BTreeMap<PayloadKey, u64>,
    order: VecDeque<(PayloadKey, u64)>,
}

impl RepeatFilter {
    /// Creates a filter that admits each payload once per `window_ms` and remembers at most
    /// `capacity` payloads.
    pub fn new(window_ms: u64, capacity: usize) -> Self {
        Self {
            window_ms,
            capacity,
            last: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Returns false if the payload was admitted less than a window ago. Otherwise records and
    /// admits it.
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
    fn a_payload_passes_once_per_window() {
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
        let mut repeats = RepeatFilter::new(500, 16);
        for (row, (at, key, passes)) in table.into_iter().enumerate() {
            assert_eq!(repeats.admit(key, at), passes, "row {row}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeats = RepeatFilter::new(u64::MAX, 8);
        for n in 0..=255u8 {
            assert!(repeats.admit([n; 16], 0));
        }
        assert!(repeats.last.len() <= 8 && repeats.order.len() <= 8);
        assert!(!repeats.admit([255; 16], 0));
        assert!(repeats.admit([0; 16], 0));
    }
}
