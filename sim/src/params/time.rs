//! Durations with units, moments and slots. Each type parses its own output.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MAX_UNTIL_MS;

/// A word of a plan that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {expected}")]
pub struct WordError {
    /// The invalid text.
    pub text: String,
    /// Description of the valid forms.
    pub expected: &'static str,
}

/// Parses `250ms`, `12s`, `1.5s` or `2min`, as milliseconds.
///
/// # Errors
/// [`WordError`] for any other form, and for durations above [`MAX_UNTIL_MS`].
pub fn parse_duration(text: &str) -> Result<u64, WordError> {
    let error = || WordError {
        text: text.to_owned(),
        expected: "a duration is 250ms, 12s, 1.5s or 2min",
    };
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(error)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        _ => return Err(error()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 3 {
        return Err(error());
    }
    let parse = |digits: &str| digits.parse::<u64>().map_err(|_| error());
    let scale = 10u64.pow(fraction.len() as u32);
    let parts = parse(whole)?
        .checked_mul(unit_ms)
        .zip(parse(fraction)?.checked_mul(unit_ms));
    let (whole, fraction) = parts.ok_or_else(error)?;
    whole
        .checked_add(fraction / scale)
        .filter(|ms| *ms <= MAX_UNTIL_MS)
        .ok_or_else(error)
}

/// Milliseconds, displayed with a unit: `300ms`, `12s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ms(pub u64);

impl FromStr for Ms {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        if ms.is_multiple_of(1_000) {
            write!(f, "{}s", ms / 1_000)
        } else {
            write!(f, "{ms}ms")
        }
    }
}

/// Milliseconds that can be negative, displayed with a unit: `-1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SignedMs(pub i64);

impl FromStr for SignedMs {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (sign, rest) = match text.trim().strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let error = || WordError {
            text: text.to_owned(),
            expected: "a duration is 250ms, 12s, 1.5s or 2min, perhaps with a minus sign before it",
        };
        let ms = parse_duration(rest).map_err(|_| error())?;
        i64::try_from(ms)
            .map(|ms| Self(sign * ms))
            .map_err(|_| error())
    }
}

impl fmt::Display for SignedMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            if self.0 < 0 { "-" } else { "" },
            Ms(self.0.unsigned_abs())
        )
    }
}

/// A moment of a run, relative to its start or to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Milliseconds after the start.
    At(u64),
    /// Slot and milliseconds into it; slot 1 is the first that begins after the start.
    Slot(u64, u64),
}

impl When {
    /// Returns the earliest possible time of this moment in milliseconds after the start. The time
    /// of a slot varies by up to a slot, because slots follow the wall clock.
    pub fn earliest_ms(self, slot_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Slot(slot, ms) => slot
                .saturating_sub(1)
                .saturating_mul(slot_ms)
                .saturating_add(ms),
        }
    }
}

impl FromStr for When {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let expected = "a moment is a duration from the start (12s), or a slot with or without \
            an offset (slot 7 + 300ms)";
        let error = || WordError {
            text: text.to_owned(),
            expected,
        };
        let Some(rest) = text.trim().strip_prefix("slot") else {
            return parse_duration(text).map(Self::At).map_err(|_| error());
        };
        let (slot, offset) = match rest.split_once('+') {
            Some((slot, offset)) => (slot, parse_duration(offset).map_err(|_| error())?),
            None => (rest, 0),
        };
        Ok(Self::Slot(
            slot.trim().parse().map_err(|_| error())?,
            offset,
        ))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(ms) => Ms(*ms).fmt(f),
            Self::Slot(slot, 0) => write!(f, "slot {slot}"),
            Self::Slot(slot, ms) => write!(f, "slot {slot} + {}", Ms(*ms)),
        }
    }
}

/// Conversion between slots and the time of a run.
#[derive(Debug, Clone, Copy)]
pub struct Slots {
    /// True wall clock at the start, in milliseconds.
    pub start_ms: u64,
    /// Length of a slot in milliseconds.
    pub slot_ms: u64,
}

impl Slots {
    /// Returns the slot at `ms` after the start, by the true clock.
    pub fn at(&self, ms: u64) -> u64 {
        (self.start_ms + ms) / self.slot_ms
    }

    /// Returns the time of a moment in milliseconds after the start.
    pub fn when(&self, when: When) -> u64 {
        match when {
            When::At(ms) => ms,
            When::Slot(slot, ms) => (self.at(0) + slot) * self.slot_ms + ms - self.start_ms,
        }
    }
}

macro_rules! as_text {
    ($($name:ident: $pattern:literal, $what:literal;)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    )*};
}

as_text! {
    Ms: r"^\d+(\.\d{1,3})? ?(ms|s|min)$", "A duration: 250ms, 12s, 1.5s, 2min.";
    SignedMs: r"^-?\d+(\.\d{1,3})? ?(ms|s|min)$", "A duration: 250ms, 12s, -1.5s, 2min.";
    When: r"^(\d+(\.\d{1,3})? ?(ms|s|min)|slot \d+( *\+ *\d+(\.\d{1,3})? ?(ms|s|min))?)$",
        "A moment: 12s from the start, slot 7, slot 7 + 300ms; slot 1 is the first that begins \
        after the start.";
}

/// Serde functions for fields that are milliseconds in the program and durations in files:
/// `#[serde(with = "time::ms")]`.
pub(crate) mod ms {
    use super::*;

    pub fn serialize<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        Ms(*ms).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Ms::deserialize(deserializer).map(|ms| ms.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let good = [
            ("0ms", 0),
            ("250ms", 250),
            ("12s", 12_000),
            ("1.5s", 1_500),
            ("0.25s", 250),
            ("2 min", 120_000),
        ];
        for (text, ms) in good {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "12",
            "s",
            "1h",
            "-1s",
            "1.s",
            "1.2345s",
            "1.5.5s",
            "61min",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for (text, ms) in [("-1.5s", -1_500), ("-250ms", -250), ("3s", 3_000)] {
            assert_eq!(text.parse(), Ok(SignedMs(ms)));
            assert_eq!(SignedMs(ms).to_string().parse(), Ok(SignedMs(ms)));
        }
        assert!("--1s".parse::<SignedMs>().is_err());
    }

    #[test]
    fn moments_are_written_as_they_are_read() {
        for text in ["12s", "250ms", "slot 7", "slot 7 + 300ms", "slot 12 + 2s"] {
            assert_eq!(
                text.parse::<When>().map(|when| when.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["slot", "slot x", "slot 7 + 3", "7"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_slot_is_the_first_that_begins_after_the_start() {
        let slots = Slots {
            start_ms: 10_300,
            slot_ms: 1_000,
        };
        assert_eq!((slots.at(0), slots.at(699), slots.at(700)), (10, 10, 11));
        assert_eq!(slots.when(When::At(12)), 12);
        assert_eq!(slots.when(When::Slot(1, 0)), 700);
        assert_eq!(slots.when(When::Slot(3, 250)), 2_950);
        let aligned = Slots {
            start_ms: 10_000,
            slot_ms: 1_000,
        };
        assert_eq!(
            aligned.when(When::Slot(1, 0)),
            1_000,
            "the slot that begins with the start counts as begun before"
        );
    }
}
