//! The division of fees (rule 5.25, docs/protocol.md).

use alloy_primitives::U256;
use alys_types::{Address, AuthoritySet, Withdrawal};

/// Wei in a gwei, the unit of withdrawals.
const GWEI: U256 = U256::from_limbs([1_000_000_000, 0, 0, 0]);
/// The authority has one part of these, the miner the others.
const PARTS: U256 = U256::from_limbs([5, 0, 0, 0]);
const MINER_PARTS: U256 = U256::from_limbs([4, 0, 0, 0]);
/// Validator index of withdrawals that pay fees (rule 5.9, docs/protocol.md).
const FEE_VALIDATOR: u64 = 0;

/// The fees that a block with a proof pays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fees {
    /// At most two: the miner's, then the authority's.
    pub withdrawals: Vec<Withdrawal>,
    /// Wei that stay in the ledger.
    pub remainder: U256,
}

/// Divides `total` wei: four fifths, rounded down to gwei, to the miner; one fifth, rounded down,
/// to the authority. Withdrawals are numbered from `index` on; a share of zero has none and takes
/// no number. A share beyond the 64 bits of a withdrawal, which no supply of bitcoin reaches, stays
/// in the remainder.
pub fn divide(total: U256, miner: Address, authority: Address, index: u64) -> Fees {
    let unit = GWEI.saturating_mul(PARTS);
    let (units, rest) = (total.wrapping_div(unit), total.wrapping_rem(unit));
    // total * 4 / 5 without a product of more than 256 bits.
    let of_rest = rest.saturating_mul(MINER_PARTS).wrapping_div(unit);
    let of_miner = units.saturating_mul(MINER_PARTS).saturating_add(of_rest);
    let mut fees = Fees {
        withdrawals: Vec::new(),
        remainder: total,
    };
    for (address, gwei) in [(miner, of_miner), (authority, units)] {
        let amount_gwei = gwei.saturating_to::<u64>();
        if amount_gwei == 0 {
            continue;
        }
        let paid = U256::from(amount_gwei).saturating_mul(GWEI);
        fees.remainder = fees.remainder.saturating_sub(paid);
        fees.withdrawals.push(Withdrawal {
            index: index.saturating_add(fees.withdrawals.len() as u64),
            validator_index: FEE_VALIDATOR,
            address,
            amount_gwei,
        });
    }
    fees
}

/// The fee address of authority `sequence mod n`. An authority that named none has the vault's
/// address in the set and is paid there, where its share stays.
pub fn authority(set: &AuthoritySet, sequence: u64) -> Address {
    let authorities = set.authorities();
    let index = sequence.checked_rem(authorities.len() as u64);
    let paid = index.and_then(|index| authorities.get(index as usize));
    paid.expect("a set has at least one authority").fee_address
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINER: Address = Address([1; 20]);
    const AUTHORITY: Address = Address([2; 20]);

    #[test]
    fn fees_are_divided_to_the_wei() {
        let ether = 1_000_000_000_000_000_000u128;
        let most = u64::MAX;
        // Total in wei; gwei of the miner and of the authority; wei that remain.
        let table: [(U256, u64, u64, U256); 12] = [
            (U256::ZERO, 0, 0, U256::ZERO),
            (U256::from(1), 0, 0, U256::from(1)),
            // Four fifths of these are a wei short of a gwei, and a gwei.
            (U256::from(1_249_999_999), 0, 0, U256::from(1_249_999_999)),
            (U256::from(1_250_000_000), 1, 0, U256::from(250_000_000)),
            (
                U256::from(4_999_999_999u64),
                3,
                0,
                U256::from(1_999_999_999),
            ),
            (U256::from(5_000_000_000u64), 4, 1, U256::ZERO),
            (U256::from(5_000_000_001u64), 4, 1, U256::from(1)),
            (
                U256::from(9_999_999_999u64),
                7,
                1,
                U256::from(1_999_999_999),
            ),
            (U256::from(ether), 800_000_000, 200_000_000, U256::ZERO),
            (
                U256::from(ether - 1),
                799_999_999,
                199_999_999,
                U256::from(1_999_999_999),
            ),
            // The miner's share is just below and above 64 bits of gwei.
            (
                U256::from(most) * U256::from(1_250_000_000),
                most,
                most / 4,
                U256::from(most % 4) * U256::from(250_000_000),
            ),
            (
                U256::MAX,
                most,
                most,
                U256::MAX - U256::from(most) * U256::from(2_000_000_000),
            ),
        ];
        for (total, miner, authority, remainder) in table {
            let fees = divide(total, MINER, AUTHORITY, 7);
            let shares = [(MINER, miner), (AUTHORITY, authority)];
            let paid = shares.iter().filter(|(_, gwei)| *gwei > 0);
            let wanted = (7..).zip(paid).map(|(index, (address, gwei))| Withdrawal {
                index,
                validator_index: 0,
                address: *address,
                amount_gwei: *gwei,
            });
            assert_eq!(fees.withdrawals, wanted.collect::<Vec<_>>(), "{total}");
            assert_eq!(fees.remainder, remainder, "{total}");
            let gwei = fees.withdrawals.iter().map(|w| U256::from(w.amount_gwei));
            let paid = gwei.fold(U256::ZERO, |sum, gwei| sum + gwei * GWEI);
            assert_eq!(paid + fees.remainder, total, "nothing is lost");
        }
    }

    #[test]
    fn shares_to_one_address_are_not_merged() {
        let fees = divide(U256::from(5_000_000_000u64), MINER, MINER, 0);
        let amounts = fees.withdrawals.iter().map(|w| (w.index, w.amount_gwei));
        assert_eq!(amounts.collect::<Vec<_>>(), [(0, 4), (1, 1)]);
    }
}
