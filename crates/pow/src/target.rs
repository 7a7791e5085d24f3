//! Targets of proof of work: unsigned 256-bit integers, and Bitcoin's compact form of them.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::U256;
use alys_types::Hash;
use serde::{Serialize, Serializer};

/// Bits of a compact target's mantissa; the bit above them is its sign.
const MANTISSA: u32 = 0x007f_ffff;
const SIGN: u32 = 0x0080_0000;
/// Bytes of the mantissa, the sign included: an exponent counts bytes from the lowest of them.
const MANTISSA_BYTES: u32 = 3;

/// A positive target: a hash meets it if, read as a little-endian number, it is not above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(U256);

/// A positive target in the canonical compact form (`nBits` of a Bitcoin header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits(u32);

/// The reason for which a number is no canonical compact target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitsError {
    #[error("bits {found:08x} are a negative target")]
    Negative { found: u32 },
    #[error("bits {found:08x} are the target zero")]
    Zero { found: u32 },
    #[error("bits {found:08x} are a target above 256 bits")]
    Overflow { found: u32 },
    #[error("bits {found:08x} are not canonical: expected {expected:08x}")]
    NotCanonical { expected: u32, found: u32 },
    #[error("bits are one to eight hex digits, as in `1d00ffff`")]
    NotHex,
}

impl Target {
    /// The hardest target.
    pub const ONE: Target = Target(U256::ONE);

    /// `None` for zero, which no hash meets.
    pub fn new(value: U256) -> Option<Target> {
        (!value.is_zero()).then_some(Target(value))
    }

    /// The target as a number.
    pub fn value(self) -> U256 {
        self.0
    }

    /// True if `hash`, in internal byte order, has at least the work of this target.
    pub fn is_met_by(self, hash: Hash) -> bool {
        U256::from_le_bytes(hash.0) <= self.0
    }

    /// The compact form, which keeps the highest 15 to 23 bits and clears the others.
    pub fn to_bits(self) -> Bits {
        let bytes = self.0.bit_len().div_ceil(8) as u32;
        let excess = bytes.saturating_sub(MANTISSA_BYTES).saturating_mul(8);
        let lack = MANTISSA_BYTES.saturating_sub(bytes).saturating_mul(8);
        let kept = self.0.wrapping_shr(excess as usize);
        let mantissa = kept.wrapping_shl(lack as usize).saturating_to::<u32>();
        Bits(if mantissa & SIGN == 0 {
            bytes.wrapping_shl(24) | mantissa
        } else {
            bytes.saturating_add(1).wrapping_shl(24) | (mantissa >> 8)
        })
    }

    /// 64 hex digits with the least significant byte first, as pools read `target` and `_target`
    /// of `createauxblock`.
    pub fn to_little_endian_hex(self) -> String {
        hex::encode(self.0.to_le_bytes::<32>())
    }
}

impl Bits {
    /// Checks that `bits` are a canonical compact target above zero.
    ///
    /// # Errors
    /// Any [`BitsError`] but `NotHex`.
    pub fn new(bits: u32) -> Result<Bits, BitsError> {
        let found = bits;
        let target = Bits(bits).expand().ok_or(BitsError::Overflow { found })?;
        if bits & SIGN != 0 && bits & MANTISSA != 0 {
            return Err(BitsError::Negative { found });
        }
        let target = Target::new(target).ok_or(BitsError::Zero { found })?;
        let Bits(expected) = target.to_bits();
        if found != expected {
            return Err(BitsError::NotCanonical { expected, found });
        }
        Ok(Bits(bits))
    }

    /// The compact number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The target.
    pub fn target(self) -> Target {
        Target(self.expand().unwrap_or(U256::MAX))
    }

    /// The number without its sign; `None` above 256 bits.
    fn expand(self) -> Option<U256> {
        let mantissa = U256::from(self.0 & MANTISSA);
        let bytes = self.0 >> 24;
        let excess = bytes.saturating_sub(MANTISSA_BYTES).saturating_mul(8);
        let lack = MANTISSA_BYTES.saturating_sub(bytes).saturating_mul(8);
        if mantissa.is_zero() {
            return Some(U256::ZERO);
        }
        mantissa
            .wrapping_shr(lack as usize)
            .checked_shl(excess as usize)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:064x}", self.0)
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Bits {
    type Err = BitsError;

    fn from_str(text: &str) -> Result<Bits, BitsError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).map_err(|_| BitsError::NotHex)?;
        if !is_hex {
            return Err(BitsError::NotHex);
        }
        Bits::new(number)
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;
    use proptest::prelude::*;

    use super::*;

    /// Bitcoin Core's cases of `arith_uint256::SetCompact`, and the ends of each error.
    #[test]
    fn compact_targets_are_canonical_or_refused() {
        let zero = |found| Err(BitsError::Zero { found });
        let overflow = |found| Err(BitsError::Overflow { found });
        let negative = |found| Err(BitsError::Negative { found });
        let other = |found, expected| Err(BitsError::NotCanonical { expected, found });
        for (bits, expected) in [
            (0x0000_0000, zero(0x0000_0000)),
            (0x0012_3456, zero(0x0012_3456)),
            (0x0100_3456, zero(0x0100_3456)),
            (0x0200_0056, zero(0x0200_0056)),
            (0x2100_0000, zero(0x2100_0000)),
            (0xff80_0000, zero(0xff80_0000)),
            (0x0112_3456, other(0x0112_3456, 0x0112_0000)),
            (0x0112_0000, Ok("12")),
            (0x0200_8000, Ok("80")),
            (0x0300_0080, other(0x0300_0080, 0x0200_8000)),
            (0x0500_9234, Ok("92340000")),
            (0x0492_3456, negative(0x0492_3456)),
            (0x0412_3456, Ok("12345600")),
            (0x0400_0012, other(0x0400_0012, 0x0212_0000)),
            (0x0101_0000, Ok("1")),
            (0x01fe_dcba, negative(0x01fe_dcba)),
            (0x207f_ffff, Ok(&format!("7fffff{}", "0".repeat(58)))),
            (0x2100_ffff, Ok(&format!("ffff{}", "0".repeat(60)))),
            (0x2101_0000, overflow(0x2101_0000)),
            (0x2200_00ff, other(0x2200_00ff, 0x2100_ff00)),
            (0x2200_0100, overflow(0x2200_0100)),
            (0x2300_0001, overflow(0x2300_0001)),
            (0xff12_3456, overflow(0xff12_3456)),
        ] {
            let found = Bits::new(bits).map(|bits| format!("{:x}", bits.target().value()));
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{bits:08x}");
        }
    }

    #[test]
    fn bits_are_read_from_hex() {
        for (text, expected) in [
            ("1d00ffff", Ok(0x1d00_ffff)),
            ("0x1d00ffff", Ok(0x1d00_ffff)),
            ("3456", Err(BitsError::Zero { found: 0x3456 })),
            ("+1d00fff", Err(BitsError::NotHex)),
            ("", Err(BitsError::NotHex)),
            ("1d00ffff0", Err(BitsError::NotHex)),
        ] {
            assert_eq!(text.parse().map(Bits::get), expected, "{text}");
        }
    }

    #[test]
    fn a_hash_equal_to_the_target_meets_it() {
        let target = Target::new(U256::from(0x0102)).expect("positive");
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&[2, 1]);
        assert!(target.is_met_by(Hash(hash)));
        hash[0] = 3;
        assert!(!target.is_met_by(Hash(hash)));
        let hex = target.to_little_endian_hex();
        assert!(hex.starts_with("02010000") && hex.len() == 64, "{hex}");
    }

    /// Mantissa times 256 to the power of exponent - 3, as a big integer.
    fn read(bits: u32) -> Option<BigUint> {
        let mantissa = BigUint::from(bits % (1 << 23));
        let unit = BigUint::from(256_u32).pow(bits >> 24);
        let value = mantissa * unit / BigUint::from(1_u32 << 24);
        let is_positive = bits & (1 << 23) == 0 && value != BigUint::ZERO;
        (is_positive && value.bits() <= 256).then_some(value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bits_are_what_a_big_integer_says(exponent in 0_u32..36, low in 0_u32..1 << 24) {
            let bits = exponent << 24 | low;
            let checked = Bits::new(bits);
            match (read(bits), &checked) {
                (None, Ok(_)) | (Some(_), Err(BitsError::Zero { .. })) => {
                    prop_assert!(false, "{checked:?}");
                }
                (Some(value), Ok(bits)) => {
                    prop_assert_eq!(bits.target().value().to_string(), value.to_string());
                }
                (Some(value), Err(BitsError::NotCanonical { expected, .. })) => {
                    prop_assert_eq!(read(*expected), Some(value));
                    prop_assert!(Bits::new(*expected).is_ok());
                }
                (None, Err(_)) => {}
                (Some(_), Err(error)) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn the_compact_form_is_the_target_cut_off(bytes: [u8; 32], zeros in 0_usize..32) {
            let value = U256::from_be_bytes(bytes) >> (8 * zeros);
            prop_assume!(!value.is_zero());
            let bits = Target::new(value).expect("positive").to_bits();
            prop_assert_eq!(Bits::new(bits.get()), Ok(bits));
            let kept = bits.target().value();
            let lost = value - kept;
            let bound: U256 = value >> 14;
            prop_assert!(kept <= value && lost < bound.max(U256::from(1)), "{lost}");
        }
    }
}
