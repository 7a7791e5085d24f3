//! The miners of a run: machines that ask nodes for work and submit proofs of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ms;

/// A miner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinerPlan {
    pub conduct: MinerConduct,
    /// Mean time between two proofs that it finds.
    #[serde(default = "MinerPlan::usual")]
    pub every: Ms,
    /// Numbers of the nodes that it asks, from 1; all of them by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<u8>,
    /// Begin of the silence of a silent miner; after 10 s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_from: Option<Ms>,
    /// Length of this silence; 30 s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_for: Option<Ms>,
}

/// Most miners of a world. Each has connections like a machine.
pub const MAX_MINERS: usize = 16;

impl MinerPlan {
    /// Valid values of [`Self::every`] in milliseconds: the work of a proof takes real time.
    pub const EVERY_MS: std::ops::RangeInclusive<u64> = 500..=600_000;
    const SILENT_FROM: Ms = Ms(10_000);
    const SILENT_FOR: Ms = Ms(30_000);

    const fn usual() -> Ms {
        Ms(6_000)
    }

    /// A miner with the usual rate that asks all nodes.
    pub fn of(conduct: MinerConduct) -> Self {
        Self {
            conduct,
            every: Self::usual(),
            nodes: Vec::new(),
            silent_from: None,
            silent_for: None,
        }
    }

    /// The silence of a silent miner, from and until, in milliseconds after the start.
    pub fn silence(&self) -> (u64, u64) {
        let from = self.silent_from.unwrap_or(Self::SILENT_FROM).0;
        let length = self.silent_for.unwrap_or(Self::SILENT_FOR).0;
        (from, from.saturating_add(length))
    }
}

/// The conduct of a miner. Once the faults have ended, miners that have valid work submit it as a
/// steady one does, and the others stop.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MinerConduct {
    /// Submits each proof as it finds it.
    Steady,
    /// Finds nothing for a while, then several proofs one after the other.
    Bursts,
    /// Stops for a long time, and returns with ten times its rate.
    Silent,
    /// Submits each proof long after it found it.
    Stale,
    /// Submits a few proofs at once, and forgets others.
    Withhold,
    /// Submits accepted proofs again and again, to other nodes too.
    Replay,
    /// Submits invalid and half-valid proofs without end, and asks for work with ever other
    /// addresses.
    Flood,
    /// Writes hashes in the wrong byte order.
    WrongOrders,
    /// Submits the work of other chains.
    OtherChains,
}

impl MinerConduct {
    /// All kinds. The generator draws by index, so the order is part of every seed's plan.
    pub const ALL: [Self; 9] = [
        Self::Steady,
        Self::Bursts,
        Self::Silent,
        Self::Stale,
        Self::Withhold,
        Self::Replay,
        Self::Flood,
        Self::WrongOrders,
        Self::OtherChains,
    ];

    /// True if it submits valid proofs.
    pub const fn is_valid(self) -> bool {
        match self {
            Self::Steady
            | Self::Bursts
            | Self::Silent
            | Self::Stale
            | Self::Withhold
            | Self::Replay => true,
            Self::Flood | Self::WrongOrders | Self::OtherChains => false,
        }
    }

    /// Returns the name of the counter of its submissions.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Steady => "mine.steady",
            Self::Bursts => "mine.bursts",
            Self::Silent => "mine.silent",
            Self::Stale => "mine.stale",
            Self::Withhold => "mine.withhold",
            Self::Replay => "mine.replay",
            Self::Flood => "mine.flood",
            Self::WrongOrders => "mine.wrong-orders",
            Self::OtherChains => "mine.other-chains",
        }
    }
}
