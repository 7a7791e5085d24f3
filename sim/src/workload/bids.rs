//! Users that compete for the first places of a block, with prices near the base fee, so that fee
//! caps bind.

use alys_integrations::http::HttpClient;
use alys_runtime::sim::World;

use super::sign::Fees;
use super::{GWEI, User};
use crate::cluster::now_ms;
use crate::invariants::{Violation, base_fee};

/// Time for which all bidders use the same execution client, so that its pool has several senders.
const MEETING_MS: u64 = 4_000;
/// The largest base fee that bids follow, in wei: three times as much has to fit into 64 bits.
const HIGHEST_BASE_FEE: u64 = 1_000_000 * GWEI as u64;

impl User {
    /// Sends transfers with drawn prices to the execution client where the bidders meet.
    pub(super) async fn bids(
        &mut self,
        clients: &[HttpClient],
        count: u64,
    ) -> Result<(), Violation> {
        self.count("bid");
        for _ in 0..count {
            let meeting = now_ms(World::current()) / MEETING_MS;
            let number = (meeting % clients.len() as u64) as usize;
            let fees = self.bid();
            let action = self.transfer();
            let nonce = self.desk.nonce;
            self.desk.nonce += 1;
            let raw = self.sign(nonce, action, fees);
            self.send_to(clients, number, &raw).await?;
        }
        Ok(())
    }

    /// A price of which the base fee is a large part. A single price leaves one to two base fees
    /// as a tip; a named tip is half to two and a half of them, of which the cap leaves one to two
    /// again.
    fn bid(&mut self) -> Fees {
        let newest = {
            let oracles = self.judge.look();
            let newest = oracles.finality.blocks.last_key_value();
            let hash = newest.map(|(_, last)| last.hash);
            let proposed = hash.and_then(|hash| oracles.blocks.get(&hash));
            proposed.map(|proposed| base_fee(&proposed.block.body.payload))
        };
        let base = u64::try_from(newest.unwrap_or(GWEI)).unwrap_or(u64::MAX);
        let base = base.clamp(2, HIGHEST_BASE_FEE);
        let cap = 2 * base + self.rng.below(base);
        let tip = base / 2 + self.rng.below(2 * base);
        Fees {
            cap: u128::from(cap),
            tip: u128::from(tip.min(cap)),
        }
    }
}
