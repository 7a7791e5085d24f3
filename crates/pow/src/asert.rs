//! Difficulty of proofs (rule 4.5): aserti3-2d, specified for Bitcoin Cash on 2020-11-15.

use std::num::NonZeroU64;

use alloy_primitives::{U256, U512};

use crate::target::{Bits, Target};

/// Bits of the fraction of an exponent and of a factor.
const FRACTION_BITS: i128 = 16;
/// 2^16: one, as a fixed-point number.
const ONE: i128 = 1 << FRACTION_BITS;
/// Bits of a target. A positive target shifted left by as many is above every limit.
const TARGET_BITS: i128 = 256;

/// The constants of rule 4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Seconds between proofs.
    pub spacing_secs: u64,
    /// Seconds of delay that double the target.
    pub half_life_secs: NonZeroU64,
    /// Easiest target.
    pub limit: Bits,
}

impl Schedule {
    /// Rule 4.5: bits of the proof in a block with timestamp `timestamp`, in seconds, by the bits
    /// and the carrying block's timestamp of the proof before; before the first proof, the spec's
    /// anchor and genesis.
    pub fn next_bits(&self, before: Bits, before_timestamp: u64, timestamp: u64) -> Bits {
        let elapsed = i128::from(timestamp).saturating_sub(i128::from(before_timestamp));
        self.target(before.target(), elapsed, 0).to_bits()
    }

    /// aserti3-2d: target of the block after one that is `height_difference` above the anchor and
    /// `elapsed` seconds after the anchor's parent. Rule 4.5 makes each proof the anchor of the
    /// next, so that its height difference is 0; the published vectors have others.
    fn target(&self, anchor: Target, elapsed: i128, height_difference: i128) -> Target {
        let scheduled =
            i128::from(self.spacing_secs).saturating_mul(height_difference.saturating_add(1));
        let delay = elapsed.saturating_sub(scheduled).saturating_mul(ONE);
        // A division by a positive number that is not -1 has a result.
        let exponent = delay
            .checked_div(i128::from(self.half_life_secs.get()))
            .unwrap_or(0);
        let doublings = exponent >> FRACTION_BITS;
        let limit = self.limit.target();
        if doublings >= TARGET_BITS {
            return limit;
        }
        // At most 256 + 17 bits.
        let scaled = U512::from(anchor.value()).saturating_mul(U512::from(factor(exponent)));
        let shift = doublings.saturating_sub(FRACTION_BITS);
        let distance = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
        let shifted = if shift < 0 {
            scaled.wrapping_shr(distance)
        } else {
            scaled.saturating_shl(distance)
        };
        let target = shifted
            .min(U512::from(limit.value()))
            .saturating_to::<U256>();
        Target::new(target).unwrap_or(Target::ONE)
    }
}

/// 2^(fraction of `exponent`) times 2^16, by the specification's polynomial of third degree.
fn factor(exponent: i128) -> u128 {
    let x = exponent.rem_euclid(ONE).unsigned_abs();
    let polynomial = [195_766_423_245_049, 971_821_376, 5_127]
        .iter()
        .zip([x, x.pow(2), x.pow(3)])
        .fold(1_u128 << 47, |sum, (coefficient, power)| {
            sum.saturating_add(power.saturating_mul(*coefficient))
        });
    ONE.unsigned_abs().saturating_add(polynomial >> 48)
}

#[cfg(test)]
mod tests {
    use num_bigint::{BigInt, BigUint, Sign};
    use proptest::prelude::*;

    use super::*;

    fn schedule(spacing_secs: u64, half_life_secs: u64, limit: u32) -> Schedule {
        Schedule {
            spacing_secs,
            half_life_secs: NonZeroU64::new(half_life_secs).expect("positive"),
            limit: Bits::new(limit).expect("canonical"),
        }
    }

    #[test]
    fn the_published_vectors_hold() {
        let schedule = schedule(600, 172_800, 0x1d00_ffff);
        let vectors = include_str!("../tests/vectors/asert.txt");
        let mut anchor = (0, 0, schedule.limit);
        let mut checked = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.trim_start_matches("run ").split(' ').collect();
            let [.., height, time, bits] = words[..] else {
                panic!("{line}")
            };
            let height: i128 = height.parse().expect("a height");
            let time: i128 = time.parse().expect("a time");
            let bits: Bits = bits.parse().expect("bits");
            if line.starts_with("run") {
                anchor = (height, time, bits);
                continue;
            }
            let target = schedule.target(anchor.2.target(), time - anchor.1, height - anchor.0);
            assert_eq!(target.to_bits(), bits, "{line}, anchor {anchor:?}");
            checked += 1;
        }
        assert_eq!(checked, 955);
    }

    /// V1 made the target 5 times harder after fast proofs, and only 1.2 times easier with each
    /// later proof (S19): here it eases while the chain waits.
    #[test]
    fn bits_follow_the_time_since_the_proof_before() {
        let schedule = schedule(60, 600, 0x207f_ffff);
        for (before, seconds, expected) in [
            (0x1d00_ffff, 60, 0x1d00_ffff),
            (0x1d00_ffff, 660, 0x1d01_fffe),
            (0x1d00_ffff, 0, 0x1d00_eee1),
            (0x1c7f_ff80, 1260, 0x1d01_fffe),
            // 1,024 times the hash rate leaves: one proof later, after ten half lives.
            (0x1b00_ffff, 60 + 600 * 10, 0x1c03_fffc),
            // The limit, at once and after a year.
            (0x207f_ffff, 660, 0x207f_ffff),
            (0x1d00_ffff, 60 + 600 * 40, 0x207f_ffff),
            (0x0101_0000, 31_536_000, 0x207f_ffff),
            (0x0101_0000, u64::MAX, 0x207f_ffff),
            // The least target stays positive.
            (0x0101_0000, 0, 0x0101_0000),
        ] {
            let before = Bits::new(before).expect("canonical");
            let bits = schedule.next_bits(before, 1_000, seconds.saturating_add(1_000));
            assert_eq!(bits.get(), expected, "{before} after {seconds} s");
        }
        // A block before the proof that it follows: no rule of ours allows it, and nothing panics.
        let before = Bits::new(0x1d00_ffff).expect("canonical");
        assert_eq!(schedule.next_bits(before, u64::MAX, 0).get(), 0x0101_0000);
    }

    /// The specification with divisions of big integers in place of shifts.
    fn read(schedule: &Schedule, anchor: U256, elapsed: i64, heights: i64) -> BigInt {
        let one = BigInt::from(65_536);
        let floor = |number: BigInt, unit: &BigInt| {
            let (quotient, rest) = (&number / unit, &number % unit);
            if rest.sign() == Sign::Minus {
                quotient - 1
            } else {
                quotient
            }
        };
        let due = BigInt::from(schedule.spacing_secs) * (BigInt::from(heights) + 1);
        let exponent: BigInt =
            (BigInt::from(elapsed) - due) * &one / BigInt::from(schedule.half_life_secs.get());
        let doublings = floor(exponent.clone(), &one);
        let x = exponent - &doublings * &one;
        let third = BigInt::from(5_127) * &x * &x * &x;
        let second = BigInt::from(971_821_376) * &x * &x;
        let first = BigInt::from(195_766_423_245_049_u64) * &x;
        let unit = BigInt::from(2).pow(48);
        let factor = (third + second + first + BigInt::from(2).pow(47)) / unit + &one;
        let anchor = BigInt::from(BigUint::from_bytes_be(&anchor.to_be_bytes::<32>()));
        let limit = BigUint::from_bytes_be(&schedule.limit.target().value().to_be_bytes::<32>());
        let (power, is_negative) = match i32::try_from(doublings).expect("small here") {
            power @ 0.. => (power.unsigned_abs(), false),
            power => (power.unsigned_abs(), true),
        };
        let power = BigInt::from(2).pow(power);
        let target = if is_negative {
            anchor * factor / (one * power)
        } else {
            anchor * factor * power / one
        };
        target.clamp(BigInt::from(1), BigInt::from(limit))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn targets_are_what_big_integers_say(
            anchor: [u8; 32],
            zeros in 0_usize..256,
            elapsed in prop_oneof![-100_000_i64..100_000, -4_000_000_i64..4_000_000],
            heights in -1_i64..300,
            spacing in 1_u64..86_400,
            half_life in prop_oneof![60_u64..10_000, 600_000_u64..1 << 31],
            limit in prop_oneof![Just(0x207f_ffff), Just(0x1d00_ffff), Just(0x2100_ffff)],
        ) {
            let schedule = schedule(spacing, half_life.max(spacing), limit);
            let anchor = U256::from_be_bytes(anchor) >> zeros;
            prop_assume!(!anchor.is_zero());
            let target = schedule.target(
                Target::new(anchor).expect("positive"),
                elapsed.into(),
                heights.into(),
            );
            let expected = read(&schedule, anchor, elapsed, heights);
            prop_assert_eq!(target.value().to_string(), expected.to_string());
        }

        /// Rule 4.5: the target only eases while the chain waits.
        #[test]
        fn waiting_never_makes_the_target_harder(
            target: [u8; 32],
            zeros in 1_usize..256,
            seconds in 0_u64..100_000,
            more in 0_u64..100_000,
        ) {
            let schedule = schedule(60, 600, 0x207f_ffff);
            let target = Target::new(U256::from_be_bytes(target) >> zeros);
            let bits = target.unwrap_or(Target::ONE).to_bits();
            let before = schedule.next_bits(bits, 0, seconds).target();
            prop_assert!(before <= schedule.next_bits(bits, 0, seconds + more).target());
        }
    }
}
