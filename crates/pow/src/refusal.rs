//! The rules by name, and the facts that each compares.

use std::fmt;

use alys_types::Hash;

use crate::hashing::reversed;
use crate::rules::{MAGIC, MAX_LEVELS, TAG_BYTES};
use crate::target::Target;

/// A rule of a proof, in the order in which they are checked: those that cost nothing first, then
/// the work, which a forger has to pay, then the coinbase, then the hashes over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Format,
    CoinbaseIndex,
    CoinbaseLevels,
    ChainLevels,
    ParentChainId,
    Work,
    Magic,
    Tag,
    Size,
    Slot,
    Root,
    Inclusion,
}

impl Rule {
    /// All rules in order.
    pub const ALL: [Rule; 12] = [
        Rule::Format,
        Rule::CoinbaseIndex,
        Rule::CoinbaseLevels,
        Rule::ChainLevels,
        Rule::ParentChainId,
        Rule::Work,
        Rule::Magic,
        Rule::Tag,
        Rule::Size,
        Rule::Slot,
        Rule::Root,
        Rule::Inclusion,
    ];

    /// The name that pools and operators read.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Format => "format",
            Rule::CoinbaseIndex => "coinbase index",
            Rule::CoinbaseLevels => "coinbase branch",
            Rule::ChainLevels => "chain branch",
            Rule::ParentChainId => "parent chain id",
            Rule::Work => "work",
            Rule::Magic => "magic",
            Rule::Tag => "tag",
            Rule::Size => "tree size",
            Rule::Slot => "slot",
            Rule::Root => "chain root",
            Rule::Inclusion => "coinbase inclusion",
        }
    }

    /// The text that the rule is from.
    pub fn source(self) -> &'static str {
        match self {
            Rule::Format | Rule::Work => "Alys 4.4",
            Rule::CoinbaseIndex | Rule::CoinbaseLevels | Rule::Magic => "Alys 4.2",
            Rule::ParentChainId => "Namecoin strict chain id, Alys 4.2",
            Rule::ChainLevels | Rule::Tag | Rule::Size | Rule::Slot | Rule::Root => {
                "merged mining specification, Alys 4.2"
            }
            Rule::Inclusion => "Bitcoin Merkle tree, Alys 4.2",
        }
    }
}

/// A script of the coinbase and a byte in it. It prints as `output 1 at byte 4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Position among the scripts of inputs, then of outputs.
    pub script: usize,
    /// Number of inputs.
    pub inputs: usize,
    /// Offset in the script.
    pub byte: usize,
}

/// The rule that a proof breaks, with the facts that it compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "rule \"{}\" ({}): expected {}, found {}{}",
    self.rule().name(),
    self.rule().source(),
    self.expected(),
    self.found(),
    Note(self.note())
)]
pub enum Refusal {
    /// The coinbase is not the first transaction of the parent.
    CoinbaseIndex {
        found: u32,
    },
    CoinbaseLevels {
        found: usize,
    },
    ChainLevels {
        found: usize,
    },
    /// The upper half of the parent's version is our chain id.
    ParentChainId {
        chain_id: u16,
        version: i32,
    },
    /// The parent's hash is above the target.
    Work {
        target: Target,
        hash: Hash,
    },
    /// The magic is missing, or repeated. `first` is the place of the first; `root` that of our
    /// root without a magic, and true if it is in the reversed order that the rule asks for.
    Magic {
        count: usize,
        first: Option<Place>,
        root: Option<(Place, bool)>,
    },
    /// The script ends before root, size and nonce.
    Tag {
        magic: Place,
        found: usize,
    },
    Size {
        levels: usize,
        expected: u32,
        found: u32,
    },
    Slot {
        chain_id: u16,
        nonce: u32,
        expected: u32,
        found: u32,
    },
    /// The root in the coinbase is not that of the tree with our commitment. Internal order.
    Root {
        expected: Hash,
        found: Hash,
    },
    /// The parent's Merkle root is not that of the tree with the coinbase. Internal order.
    Inclusion {
        expected: Hash,
        found: Hash,
    },
}

impl Refusal {
    /// The rule.
    pub fn rule(&self) -> Rule {
        match self {
            Refusal::CoinbaseIndex { .. } => Rule::CoinbaseIndex,
            Refusal::CoinbaseLevels { .. } => Rule::CoinbaseLevels,
            Refusal::ChainLevels { .. } => Rule::ChainLevels,
            Refusal::ParentChainId { .. } => Rule::ParentChainId,
            Refusal::Work { .. } => Rule::Work,
            Refusal::Magic { .. } => Rule::Magic,
            Refusal::Tag { .. } => Rule::Tag,
            Refusal::Size { .. } => Rule::Size,
            Refusal::Slot { .. } => Rule::Slot,
            Refusal::Root { .. } => Rule::Root,
            Refusal::Inclusion { .. } => Rule::Inclusion,
        }
    }

    /// The value that the rule asks for.
    pub fn expected(&self) -> String {
        match self {
            Refusal::CoinbaseIndex { .. } => "0, the first transaction".to_owned(),
            Refusal::CoinbaseLevels { .. } | Refusal::ChainLevels { .. } => {
                format!("at most {MAX_LEVELS} levels")
            }
            Refusal::ParentChainId { chain_id, .. } => format!("another chain id than {chain_id}"),
            Refusal::Work { target, .. } => format!("a hash up to {target}"),
            Refusal::Magic { .. } => {
                format!("{} once in all scripts of the coinbase", hex::encode(MAGIC))
            }
            Refusal::Tag { .. } => format!("{TAG_BYTES} bytes of root, size and nonce after it"),
            Refusal::Size {
                levels, expected, ..
            } => format!("{expected}, for {levels} levels"),
            Refusal::Slot {
                chain_id,
                nonce,
                expected,
                ..
            } => {
                format!("{expected}, for chain id {chain_id} and nonce {nonce}")
            }
            Refusal::Root { expected, .. } | Refusal::Inclusion { expected, .. } => both(*expected),
        }
    }

    /// The value in the proof.
    pub fn found(&self) -> String {
        match self {
            Refusal::CoinbaseIndex { found } => found.to_string(),
            Refusal::CoinbaseLevels { found } | Refusal::ChainLevels { found } => {
                format!("{found} levels")
            }
            Refusal::ParentChainId { version, .. } => {
                let chain_id = version.cast_unsigned() >> 16;
                format!("chain id {chain_id} of version 0x{version:08x}")
            }
            Refusal::Work { hash, .. } => digits(reversed(*hash)),
            Refusal::Magic { count: 0, .. } => "no magic".to_owned(),
            Refusal::Magic {
                count: 1,
                first: Some(first),
                ..
            } => first.to_string(),
            Refusal::Magic { count, first, .. } => {
                let first = first.map(|place| format!(", first in {place}"));
                format!("{count} of them{}", first.unwrap_or_default())
            }
            Refusal::Tag { magic, found } => format!("{found} bytes after the magic in {magic}"),
            Refusal::Size { found, .. } | Refusal::Slot { found, .. } => found.to_string(),
            Refusal::Root { found, .. } | Refusal::Inclusion { found, .. } => both(*found),
        }
    }

    /// The mistake that the values show.
    pub fn note(&self) -> Option<String> {
        match self {
            Refusal::Root { expected, found } if *found == reversed(*expected) => {
                Some("the root is in internal order: write it reversed".to_owned())
            }
            Refusal::Magic {
                count: 0,
                root: Some((place, is_reversed)),
                ..
            } => {
                let order = if *is_reversed {
                    "the right"
                } else {
                    "internal"
                };
                Some(format!(
                    "our root is in {place}, in {order} byte order and without the magic before it"
                ))
            }
            Refusal::Slot { .. } => {
                Some("slot = index of the chain branch, by nonce, chain id and levels".to_owned())
            }
            _ => None,
        }
    }
}

/// A note behind the values.
struct Note(Option<String>);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let byte = self.byte;
        match self.script.checked_sub(self.inputs) {
            None => write!(f, "input {} at byte {byte}", self.script),
            Some(output) => write!(f, "output {output} at byte {byte}"),
        }
    }
}

/// A hash in both orders, which pools and verifiers confuse.
fn both(hash: Hash) -> String {
    format!(
        "{} (reversed, as explorers and RPC print it; {} in internal order)",
        digits(reversed(hash)),
        digits(hash)
    )
}

fn digits(hash: Hash) -> String {
    hex::encode(hash.0)
}
