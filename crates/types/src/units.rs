//! Quantities. A bare number carries its unit in its name; these carry it in their type.

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

impl Height {
    /// The height of a child. Saturates: a chain never gets there.
    pub fn next(self) -> Height {
        Height(self.0.saturating_add(1))
    }
}

impl Slot {
    /// The slot that the wall clock `now_ms` (milliseconds since the Unix epoch) is in.
    pub fn at(now_ms: u64, slot_duration_ms: u64) -> Slot {
        Slot(now_ms / slot_duration_ms.max(1))
    }

    /// When the slot starts, in milliseconds since the Unix epoch.
    pub fn start_ms(self, slot_duration_ms: u64) -> u64 {
        self.0.saturating_mul(slot_duration_ms)
    }

    /// The timestamp, in seconds, of a block of this slot: derived from the slot, so that a leader's clock cannot bend
    /// it.
    pub fn timestamp(self, slot_duration_ms: u64) -> u64 {
        self.start_ms(slot_duration_ms) / 1000
    }

    /// The slot after this one. Saturates.
    pub fn next(self) -> Slot {
        Slot(self.0.saturating_add(1))
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

display!(Height, Slot, Sats);
