//! Selection of the signatures and links of a run: the production stack, or faster stand-ins.

use std::cell::Cell;
use std::fmt;

use alys_runtime::sim::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

thread_local! {
    static IS_FAST: Cell<bool> = const { Cell::new(false) };
}

/// One generated run in this many has the full stack.
const FULL_ONE_IN: u64 = 4;

/// Signatures and links of a run. Everything else is the same in both stacks.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// The production stack: BLS signatures, and Noise on all links.
    #[default]
    Full,
    /// Stand-in signatures with the same interface and the same failures, and plain-text links.
    Fast,
}

impl Stack {
    /// Draws the stack of a generated run from its own random stream.
    pub fn drawn(seed: u64) -> Self {
        if Rng::derive(seed, "stack").below(FULL_ONE_IN) == 0 {
            Self::Full
        } else {
            Self::Fast
        }
    }

    /// Applies this stack to the current thread.
    pub fn switch_on(self) {
        IS_FAST.set(self == Self::Fast);
        alys_net::use_plaintext(self == Self::Fast);
    }

    /// Returns true if the current thread uses stand-in signatures.
    pub fn is_fast() -> bool {
        IS_FAST.get()
    }

    /// Returns the name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Fast => "fast",
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
