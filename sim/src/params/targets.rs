//! The authorities targeted by a step of a plan.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_NODES, WordError};

/// An authority, named by number or by its role at the time when the fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRef {
    /// The authority of this number, from 1.
    Number(u8),
    /// The leader of the slot at this offset from the current one.
    Leader(i8),
    /// A random authority, drawn when the fault begins; several in one step are distinct.
    Any,
    /// Every authority.
    All,
    /// Every authority that the rest of the list does not name.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_written_as_they_are_read() {
        for text in [
            "1", "15", "leader", "leader+1", "leader-2", "any", "all", "others",
        ] {
            assert_eq!(
                text.parse::<NodeRef>().map(|node| node.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["0", "16", "leaders", "leader+", "none", ""] {
            assert!(text.parse::<NodeRef>().is_err(), "{text}");
        }
    }
}
