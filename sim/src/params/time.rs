//! The words of plans: durations with units, moments, nodes; each is written as it is read.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_NODES, MAX_UNTIL_MS};

/// A word of a plan that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {expected}")]
pub struct WordError {
    /// What was given.
    pub text: String,
    /// What would be understood.
    pub expected: &'static str,
}

/// Reads `250ms`, `12s`, `1.5s`, `2min`, as milliseconds.
///
/// # Errors
/// [`WordError`], also beyond [`MAX_UNTIL_MS`].
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

/// Milliseconds, written with a unit: `300ms`, `12s`.
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

/// Milliseconds that may be negative, written with a unit: `-1.5s`.
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

/// A moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Milliseconds from the start.
    At(u64),
    /// Milliseconds into a slot; slot 1 is the first that begins after the start.
    Slot(u64, u64),
}

impl When {
    /// The earliest that it can be, in milliseconds from the start: slots begin by the clock, not by the start.
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
        let expected = "a moment is a duration from the start (12s), or a slot with or without an offset (slot 7 + 300ms)";
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

/// An authority, named directly or by its part in the slot in which the fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRef {
    /// By number, from 1.
    Number(u8),
    /// The leader of the slot so many slots after the present one.
    Leader(i8),
    /// Anybody, drawn when the fault begins; several in one step are different ones.
    Any,
    /// Everybody.
    All,
    /// Everybody whom the rest of the list does not name.
    Others,
}

impl FromStr for NodeRef {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let expected = "a node is a number from 1, leader, leader+1, leader-1, any, all or others";
        let error = || WordError {
            text: text.to_owned(),
            expected,
        };
        match text.trim() {
            "leader" => Ok(Self::Leader(0)),
            "any" => Ok(Self::Any),
            "all" => Ok(Self::All),
            "others" => Ok(Self::Others),
            text => match text.strip_prefix("leader") {
                Some(offset) => offset.parse().map(Self::Leader).map_err(|_| error()),
                None => match text.parse() {
                    Ok(number) if (1..=MAX_NODES).contains(&number) => Ok(Self::Number(number)),
                    _ => Err(error()),
                },
            },
        }
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Leader(0) => f.write_str("leader"),
            Self::Leader(offset) => write!(f, "leader{offset:+}"),
            Self::Any => f.write_str("any"),
            Self::All => f.write_str("all"),
            Self::Others => f.write_str("others"),
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
        "A moment: 12s from the start, slot 7, slot 7 + 300ms; slot 1 is the first that begins after the start.";
}

impl Serialize for NodeRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u8(*number),
            named => serializer.collect_str(named),
        }
    }
}

impl<'de> Deserialize<'de> for NodeRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = NodeRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node: a number from 1, leader, leader+1, any, all or others")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NodeRef, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<NodeRef, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NodeRef, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for NodeRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NodeRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A node: a number from 1, leader, leader+1, any (drawn), all or others.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": MAX_NODES },
                { "type": "string", "pattern": r"^(\d+|leader([+-]\d+)?|any|all|others)$" },
            ],
        })
    }
}

/// For fields that are bare milliseconds in the program and durations in files: `#[serde(with = "time::ms")]`.
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
    fn moments_and_nodes_are_written_as_they_are_read() {
        for text in ["12s", "250ms", "slot 7", "slot 7 + 300ms", "slot 12 + 2s"] {
            assert_eq!(
                text.parse::<When>().map(|when| when.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "1", "15", "leader", "leader+1", "leader-2", "any", "all", "others",
        ] {
            assert_eq!(
                text.parse::<NodeRef>().map(|node| node.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["slot", "slot x", "slot 7 + 3", "7"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
        for text in ["0", "16", "leaders", "leader+", "none", ""] {
            assert!(text.parse::<NodeRef>().is_err(), "{text}");
        }
    }
}
