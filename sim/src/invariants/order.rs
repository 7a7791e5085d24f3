//! The order of the transactions of a block. A leader takes them from its pool by the tip that each
//! leaves at the base fee of the block, the highest first, and those of one sender by nonce.
//! Another order is valid, and every client of a run has the same one, so only the choice itself
//! shows a mistake.
//!
//! A pool holds all transactions of a block while the block is built, so that the block alone shows
//! among which ones its leader chose at each place.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use alys_types::ExecutionPayload;

use super::arithmetic::base_fee;
use super::{Sent, Violation};

/// Checks the block of node `node`, from 0. Transactions that no user signed pass. Returns the
/// number of places at which a leader chose among several senders.
///
/// # Errors
/// [`Violation::WrongOrder`].
pub fn by_tip(
    node: u8,
    slot: u64,
    payload: &ExecutionPayload,
    sent: &BTreeMap<B256, Sent>,
) -> Result<usize, Violation> {
    let base_fee = base_fee(payload);
    // User and tip, in the order of the block.
    let placed: Vec<(u8, u128)> = payload
        .transactions
        .iter()
        .filter_map(|encoded| sent.get(&keccak256(encoded)))
        .map(|sent| (sent.user, tip_at(sent, base_fee)))
        .collect();
    let mut choices = 0;
    // From the end, the next transaction of each user is the last one seen.
    let mut next: BTreeMap<u8, u128> = BTreeMap::new();
    for (user, tip) in placed.into_iter().rev() {
        next.insert(user, tip);
        let best = next.values().max().copied().unwrap_or(tip);
        if tip < best {
            return Err(Violation::WrongOrder {
                node: node + 1,
                slot,
                what: format!("a tip of {tip} wei is before one of {best}"),
            });
        }
        choices += usize::from(next.len() > 1);
    }
    Ok(choices)
}

/// The tip in wei for a unit of gas that a transaction leaves at a base fee (EIP-1559).
pub fn tip_at(sent: &Sent, base_fee: u128) -> u128 {
    sent.tip.min(sent.cap.saturating_sub(base_fee))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::{Action, Taken};
    use crate::params::transactions::Form;
    use alloy_primitives::U256;

    #[test]
    fn a_leader_takes_the_highest_effective_tip_first() {
        let mut all = BTreeMap::new();
        let mut signed = |mark: u8, user: u8, cap: u128, tip: u128| {
            let sent = Sent {
                user,
                nonce: u64::from(mark),
                action: Action::Cancel,
                form: Form::DynamicFee,
                gas_limit: 21_000,
                size: 100,
                cap,
                tip,
                taken: Taken::Yes,
            };
            all.insert(keccak256([mark]), sent);
        };
        // At a base fee of 10 these leave 10, 15, 5 and 12.
        signed(1, 0, 20, 20);
        signed(2, 1, 40, 15);
        signed(3, 1, 40, 5);
        signed(4, 2, 22, 22);
        let (_, block) = crate::invariants::blocks::tests::block(1, 100, alys_types::Hash::ZERO);
        let mut payload = block.body.payload.clone();
        payload.base_fee_per_gas = U256::from(10).to_be_bytes();
        let table: [(&[u8], Option<usize>); 7] = [
            (&[2, 4, 1, 3], Some(3)),
            (&[2, 9, 4, 1, 3], Some(3)),
            (&[4, 2, 1, 3], None),
            (&[2, 1, 4, 3], None),
            (&[2, 3, 4, 1], None),
            (&[3], Some(0)),
            (&[], Some(0)),
        ];
        for (marks, expected) in table {
            payload.transactions = marks.iter().map(|mark| vec![*mark]).collect();
            let found = by_tip(0, 100, &payload, &all);
            assert_eq!(found.ok(), expected, "{marks:?}");
        }
    }
}
