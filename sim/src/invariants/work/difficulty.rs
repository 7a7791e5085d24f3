//! Difficulty of proofs by arithmetic of its own (rule 4.5): aserti3-2d with height difference 0,
//! as the specification words it, with divisions in place of shifts.

use alloy_primitives::{U256, U512};

/// One, as a fixed-point number with 16 bits behind the point.
const ONE: i128 = 65_536;
/// Doublings after which every target is above every limit.
const MOST_DOUBLINGS: i128 = 256;

/// The constants of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Seconds between proofs.
    pub spacing: u64,
    /// Seconds of delay that double the target.
    pub half_life: u64,
    /// Easiest target, in compact form.
    pub limit: u32,
}

impl Schedule {
    /// The bits of a proof in a block of time `now`, after a proof of these bits in a block of time
    /// `before`; times are in seconds.
    pub fn bits(&self, anchor: u32, before: u64, now: u64) -> u32 {
        let limit = target(self.limit);
        let late = i128::from(now) - i128::from(before) - i128::from(self.spacing);
        let exponent = late * ONE / i128::from(self.half_life.max(1));
        let doublings = exponent.div_euclid(ONE);
        let part = exponent.rem_euclid(ONE);
        // 2^part, by the specification's polynomial, rounded to the nearest.
        let polynomial = 195_766_423_245_049 * part
            + 971_821_376 * part * part
            + 5_127 * part * part * part
            + (1 << 47);
        let factor = ONE + polynomial / (1 << 48);
        let scaled = U512::from(target(anchor)) * U512::from(factor.unsigned_abs());
        let one = U512::from(ONE.unsigned_abs());
        let two = U512::from(2);
        let most = U512::from(limit) * one;
        let mut shifted = scaled;
        for _ in 0..doublings.clamp(0, MOST_DOUBLINGS) {
            // Further doublings stay above the limit, and would leave the integer.
            if shifted > most {
                break;
            }
            shifted *= two;
        }
        for _ in 0..(-doublings).clamp(0, 2 * MOST_DOUBLINGS) {
            shifted /= two;
        }
        let found: U256 = (shifted / one).min(U512::from(limit)).to();
        compact(found.max(U256::from(1)))
    }
}

/// The target of bits in Bitcoin's compact form; zero for bits that have none.
pub fn target(bits: u32) -> U256 {
    let exponent = (bits >> 24) as usize;
    let mantissa = U256::from(bits & 0x007f_ffff);
    match exponent {
        0..=3 => mantissa >> (8 * (3 - exponent)),
        4..=32 => mantissa << (8 * (exponent - 3)),
        _ if mantissa.is_zero() => U256::ZERO,
        33 if mantissa <= U256::from(0xffff) => mantissa << 240,
        34 if mantissa <= U256::from(0xff) => mantissa << 248,
        _ => U256::ZERO,
    }
}

/// The compact form of a target, which keeps its 15 to 23 highest bits.
pub fn compact(target: U256) -> u32 {
    let mut length = target.byte_len();
    let mut mantissa: u32 = if length <= 3 {
        target.to::<u32>() << (8 * (3 - length))
    } else {
        (target >> (8 * (length - 3))).to()
    };
    // The highest bit of the mantissa is a sign.
    if mantissa > 0x007f_ffff {
        mantissa >>= 8;
        length += 1;
    }
    ((length as u32) << 24) | mantissa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_forms_are_those_of_bitcoin() {
        let table = [
            (0x1d00_ffff, U256::from(0xffff) << 208),
            (0x207f_ffff, U256::from(0x007f_ffff) << 232),
            (0x2100_ffff, U256::from(0xffff) << 240),
            (0x0101_0000, U256::from(1)),
            (0x0200_8000, U256::from(0x80)),
            (0x0312_3456, U256::from(0x0012_3456)),
            (0x0412_3456, U256::from(0x1234_5600)),
        ];
        for (bits, expected) in table {
            assert_eq!(target(bits), expected, "{bits:08x}");
            assert_eq!(compact(expected), bits, "{bits:08x}");
        }
        for bits in [0x2300_0001, 0x2200_0100, 0xff12_3456] {
            assert_eq!(target(bits), U256::ZERO, "{bits:08x}");
        }
    }

    #[test]
    fn bits_follow_the_time_since_the_proof_before() {
        let schedule = Schedule {
            spacing: 60,
            half_life: 600,
            limit: 0x207f_ffff,
        };
        // By hand: on time, one doubling late, a tenth of a half life early, and the limits.
        let table = [
            (0x1d00_ffff, 60, 0x1d00_ffff),
            (0x1d00_ffff, 660, 0x1d01_fffe),
            (0x1d00_ffff, 0, 0x1d00_eee1),
            (0x1c7f_ff80, 1_260, 0x1d01_fffe),
            (0x207f_ffff, 660, 0x207f_ffff),
            (0x0101_0000, 31_536_000, 0x207f_ffff),
            (0x0101_0000, 0, 0x0101_0000),
        ];
        for (anchor, seconds, expected) in table {
            let found = schedule.bits(anchor, 1_000, 1_000 + seconds);
            assert_eq!(
                found, expected,
                "{anchor:08x} after {seconds} s: {found:08x}"
            );
        }
    }
}
