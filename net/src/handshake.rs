//! Checks that a peer is on our chain. Pure.
//!
//! A peer names its chain in the version text and the protocol list of identify, which it sends
//! even if we share no protocol, and in the prefix of every status message. The first mismatch ends
//! the connection.

use std::fmt;

use alys_types::forks::ForkMismatch;

use crate::wire::WIRE_VERSION;

/// The identity of a chain that two nodes must share. The node compares the upgrades, which the
/// status names, because the comparison depends on its head ([`crate::Command::Refuse`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainTag {
    /// Hash of the genesis block.
    pub genesis: [u8; 32],
}

/// Bytes of the tag in front of a status message.
pub const TAG_BYTES: usize = 32;

impl ChainTag {
    /// The first eight hex digits of the genesis hash, as in protocol ids and topics.
    pub fn short(&self) -> String {
        Hex(&self.genesis[..4]).to_string()
    }

    /// Prepends the tag to a status.
    pub fn prefix(&self, status: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TAG_BYTES + status.len());
        bytes.extend_from_slice(&self.genesis);
        bytes.extend_from_slice(status);
        bytes
    }

    /// Splits a status message into tag and status. `None` when it is too short for a tag.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (genesis, status) = bytes.split_first_chunk::<TAG_BYTES>()?;
        Some((Self { genesis: *genesis }, status))
    }

    /// The protocol version in identify: `/alys/<genesis hash>/<wire version>`.
    pub fn identify_version(&self) -> String {
        format!("/alys/{}/{WIRE_VERSION}", Hex(&self.genesis))
    }
}

/// The peer is not on our chain. Hashes are in hex, as far as the peer sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The peer follows another chain.
    #[error("wrong genesis: ours is {ours}, the peer's is {theirs}")]
    Genesis {
        /// Our genesis hash.
        ours: String,
        /// The peer's genesis hash, or the first eight digits of it.
        theirs: String,
    },
    /// The peer has the same genesis but other upgrades.
    #[error("wrong fork id: {0}")]
    Fork(#[from] ForkMismatch),
    /// The peer supports none of our protocols.
    #[error("not an Alys node: it supports none of our protocols ({version:?})")]
    Foreign {
        /// The version text of its identify message, shortened.
        version: String,
    },
}

/// Compares the tag of a status message with ours.
pub fn check_tag(ours: &ChainTag, theirs: &ChainTag) -> Result<(), Mismatch> {
    if ours.genesis != theirs.genesis {
        return Err(Mismatch::Genesis {
            ours: Hex(&ours.genesis).to_string(),
            theirs: Hex(&theirs.genesis).to_string(),
        });
    }
    Ok(())
}

/// Checks the version text and the supported protocols of an identify message.
pub fn check_identify<'a>(
    ours: &ChainTag,
    version: &str,
    protocols: impl Iterator<Item = &'a str>,
) -> Result<(), Mismatch> {
    let short = ours.short();
    let mut other = genesis_of(version).filter(|theirs| *theirs != Hex(&ours.genesis).to_string());
    let mut shared = false;
    for theirs in protocols.filter_map(genesis_of) {
        if theirs == short {
            shared = true;
        } else {
            other = other.or(Some(theirs));
        }
    }
    match other {
        // A peer that also supports our protocols may serve several chains; its status decides.
        _ if shared => Ok(()),
        Some(theirs) => Err(Mismatch::Genesis {
            ours: Hex(&ours.genesis).to_string(),
            theirs: theirs.chars().take(64).collect(),
        }),
        None => Err(Mismatch::Foreign {
            version: version.chars().take(128).collect(),
        }),
    }
}

/// The genesis in a name of the form `/alys/<genesis>/..`.
fn genesis_of(name: &str) -> Option<&str> {
    let genesis = name.strip_prefix("/alys/")?.split('/').next()?;
    (!genesis.is_empty() && genesis.bytes().all(|b| b.is_ascii_hexdigit())).then_some(genesis)
}

/// Displays bytes in hex.
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ChainTag = ChainTag {
        genesis: [0xab; 32],
    };

    #[test]
    fn tags_of_other_chains_are_mismatches() {
        let other_genesis = ChainTag {
            genesis: [0xcd; 32],
        };
        assert_eq!(check_tag(&OURS, &OURS), Ok(()));
        assert_eq!(
            check_tag(&OURS, &other_genesis),
            Err(Mismatch::Genesis {
                ours: "ab".repeat(32),
                theirs: "cd".repeat(32)
            })
        );
    }

    #[test]
    fn status_prefix_round_trips() {
        let bytes = OURS.prefix(b"head");
        assert_eq!(ChainTag::split(&bytes), Some((OURS, &b"head"[..])));
        for cut in 0..TAG_BYTES {
            assert_eq!(ChainTag::split(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn identify_messages_of_other_chains_are_mismatches() {
        let ours = ["/ipfs/ping/1.0.0", "/alys/abababab/status/1"];
        let theirs = ["/ipfs/ping/1.0.0", "/alys/cdcdcdcd/status/1"];
        let foreign = ["/ipfs/ping/1.0.0", "/alys//status/1", "/alys/xyz/status/1"];
        let our_version = OURS.identify_version();
        let their_version = ChainTag {
            genesis: [0xcd; 32],
        }
        .identify_version();
        let genesis = |theirs: &str| {
            Err(Mismatch::Genesis {
                ours: "ab".repeat(32),
                theirs: theirs.to_string(),
            })
        };
        let table: [(&str, &[&str], Result<(), Mismatch>); 6] = [
            (&our_version, &ours, Ok(())),
            (&their_version, &theirs, genesis(&"cd".repeat(32))),
            ("", &theirs, genesis("cdcdcdcd")),
            (&their_version, &foreign, genesis(&"cd".repeat(32))),
            (
                "ipfs/1",
                &foreign,
                Err(Mismatch::Foreign {
                    version: "ipfs/1".into(),
                }),
            ),
            (
                &their_version,
                &["/alys/cdcdcdcd/status/1", "/alys/abababab/status/1"],
                Ok(()),
            ),
        ];
        for (row, (version, protocols, expected)) in table.into_iter().enumerate() {
            assert_eq!(
                check_identify(&OURS, version, protocols.iter().copied()),
                expected,
                "row {row}"
            );
        }
    }
}
