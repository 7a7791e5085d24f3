//! Users that compete for the first places of a block, with prices near the base fee, so that fee
//! caps bind; and users that touch accounts without leaving anything there.

use alloy_primitives::Address;
use alys_integrations::http::HttpClient;
use alys_runtime::sim::World;

use super::sign::Fees;
use super::{GWEI, USUAL, User};
use crate::cluster::now_ms;
use crate::invariants::{Action, Violation, base_fee};
use crate::params::accounts::fresh_address;

/// Time for which all bidders use the same execution client, so that its pool has several senders.
const MEETING_MS: u64 = 4_000;
/// The largest base fee that bids follow, in wei, so that they do not drive it above what other
/// users can pay.
const HIGHEST_BASE_FEE: u64 = 20 * GWEI as u64;
/// Precompiled contracts that accept empty input: the last byte of the address, and the gas of a
/// call. They are the recovery of a signer, SHA-256, RIPEMD-160 and the identity.
const PRECOMPILES: [(u8, u64); 4] = [(1, 3_000), (2, 60), (3, 600), (4, 15)];

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

    /// Sends nothing to fresh accounts and to precompiled contracts.
    pub(super) async fn touches(
        &mut self,
        clients: &[HttpClient],
        count: u64,
    ) -> Result<(), Violation> {
        for _ in 0..count {
            let drawn = self.rng.below(2 * PRECOMPILES.len() as u64) as usize;
            let at = match PRECOMPILES.get(drawn) {
                Some((last, _)) => precompile(*last),
                None => fresh_address(self.index, self.desk.nonce),
            };
            self.issue(clients, Action::Touch { at }, USUAL).await?;
        }
        Ok(())
    }
}

fn precompile(last: u8) -> Address {
    let mut bytes = [0; 20];
    bytes[19] = last;
    Address::from(bytes)
}

/// The gas of a call without input to a precompiled contract; 0 for any other account.
pub(super) fn precompile_gas(at: Address) -> u64 {
    let of = |(last, _): &&(u8, u64)| precompile(*last) == at;
    PRECOMPILES.iter().find(of).map_or(0, |(_, gas)| *gas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precompiled_contracts_have_their_price() {
        assert_eq!(precompile_gas(precompile(4)), 15);
        assert_eq!(precompile_gas(precompile(5)), 0);
        assert_eq!(precompile_gas(fresh_address(0, 1)), 0);
        assert_ne!(fresh_address(0, 1), fresh_address(1, 0));
    }
}
