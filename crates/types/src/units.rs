//! Quantities whose unit is their type. Their arithmetic saturates: no chain reaches the end of 64
//! bits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A block's distance from genesis, which has height 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Height(pub u64);

/// `floor(now_ms / slot_duration_ms)`, counted from the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Slot(pub u64);

/// An amount of bitcoin in satoshi.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sats(pub u64);

/// A fee rate of Bitcoin, in satoshi per 1000 virtual bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FeeRate(pub u64);

impl Height {
    /// The height of a child.
    pub const fn next(self) -> Height {
        self.saturating_add(1)
    }

    /// The height of a descendant, `blocks` above.
    pub const fn saturating_add(self, blocks: u64) -> Height {
        Height(self.0.saturating_add(blocks))
    }

    /// Blocks from `below` up to this height; 0 if `below` is above.
    pub const fn saturating_since(self, below: Height) -> u64 {
        self.0.saturating_sub(below.0)
    }
}

impl Slot {
    /// The slot that the wall clock `now_ms` (milliseconds since the Unix epoch) is in.
    pub fn at(now_ms: u64, slot_duration_ms: u64) -> Slot {
        Slot(now_ms.checked_div(slot_duration_ms).unwrap_or(now_ms))
    }

    /// Start of the slot, in milliseconds since the Unix epoch.
    pub fn start_ms(self, slot_duration_ms: u64) -> u64 {
        self.0.saturating_mul(slot_duration_ms)
    }

    /// The timestamp, in seconds since the Unix epoch, of a block of this slot: derived from the
    /// slot, so that it does not depend on the leader's clock.
    pub fn timestamp(self, slot_duration_ms: u64) -> u64 {
        self.start_ms(slot_duration_ms) / 1000
    }

    /// The slot after this one.
    pub const fn next(self) -> Slot {
        self.saturating_add(1)
    }

    /// The slot that is `slots` later.
    pub const fn saturating_add(self, slots: u64) -> Slot {
        Slot(self.0.saturating_add(slots))
    }

    /// The slot that is `slots` earlier, or slot 0.
    pub const fn saturating_sub(self, slots: u64) -> Slot {
        Slot(self.0.saturating_sub(slots))
    }
}

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display!(Height, Slot, Sats, FeeRate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_timestamps_round_down() {
        // Slot duration, slot, its start in milliseconds, and its timestamp.
        let table = [
            (2_000, 7, 14_000, 14),
            (1_500, 1, 1_500, 1),
            (1_500, 2, 3_000, 3),
            (999, 1, 999, 0),
            (999, 2, 1_998, 1),
            (1_001, 1, 1_001, 1),
            (400, 4_250_000_001, 1_700_000_000_400, 1_700_000_000),
        ];
        for (duration_ms, slot, start_ms, timestamp) in table {
            let context = format!("slot {slot} of {duration_ms} ms");
            let slot = Slot(slot);
            assert_eq!(slot.start_ms(duration_ms), start_ms, "{context}");
            assert_eq!(slot.timestamp(duration_ms), timestamp, "{context}");
            for (now_ms, wanted) in [
                (start_ms - 1, slot.saturating_sub(1)),
                (start_ms, slot),
                (start_ms + duration_ms - 1, slot),
            ] {
                assert_eq!(Slot::at(now_ms, duration_ms), wanted, "{context}: {now_ms}");
            }
        }
    }
}
