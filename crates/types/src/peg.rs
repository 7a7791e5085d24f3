//! Nouns of the peg (protocol section 5): scripts of the federation, deposits, payouts and
//! settlements, as blocks, orders and the spec carry them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_BITCOIN_KEYS, MAX_PAYMENTS, MAX_PAYOUT_BYTES, MAX_PAYOUT_VERSIONS};
use crate::{Address, Hash, Sats, bounded, bytes};

/// A compressed secp256k1 public key, unchecked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BitcoinKey(#[serde(with = "bytes")] pub [u8; 33]);

impl BitcoinKey {
    /// True for the compressed form of a point on the curve. Bitcoin takes any bytes as a key, and
    /// a script with a mistyped one has a signer less than its members believe.
    pub fn is_valid(&self) -> bool {
        k256::PublicKey::from_sec1_bytes(&self.0).is_ok()
    }
}

impl fmt::Display for BitcoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BitcoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for BitcoinKey {
    type Err = bytes::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes::from_hex(text).map(Self)
    }
}

/// The m-of-n script of one epoch (rule 5.5), unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederationScript {
    /// Signatures that spend an output of the script: m.
    pub threshold: u8,
    /// The n keys, in any order: the script has them in that of BIP 67.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_BITCOIN_KEYS>")]
    pub keys: Vec<BitcoinKey>,
}

/// An output of a Bitcoin transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutPoint {
    /// Internal order.
    pub txid: Hash,
    pub vout: u32,
}

/// A Bitcoin transaction and the block that contains it, both in internal order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedTransaction {
    pub txid: Hash,
    pub bitcoin_block: Hash,
}

/// A credited Bitcoin deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PegIn {
    /// Bitcoin transaction id, internal order.
    pub txid: Hash,
    pub vout: u32,
    pub amount: Sats,
    /// Epoch of the federation script that was paid.
    pub script_epoch: u32,
    pub address: Address,
    /// Bitcoin block, internal order.
    pub bitcoin_block: Hash,
}

/// A payout that Bitcoin confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Number of the payout in the ledger.
    pub payout: u64,
    /// Transaction id of the version that confirmed.
    pub txid: Hash,
    /// Bitcoin block, internal order.
    pub bitcoin_block: Hash,
}

/// A burn (rule 5.12): the same in every block that contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BurnId {
    /// Hash of the EVM transaction.
    pub transaction: Hash,
    /// Index of the log among the bridge's logs of that transaction.
    pub log: u32,
}

/// A part of a burn, paid by one output (rule 5.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Payment {
    pub burn: BurnId,
    /// Number of the part; 0 for a burn that is paid whole.
    pub part: u32,
}

/// Bitcoin transactions that the leader proposes (rules 5.15 to 5.22). An empty proposal is
/// invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutProposal {
    /// The first version of a new payout.
    pub payout: Option<PayoutVersion>,
    /// The first version of a sweep.
    pub sweep: Option<PayoutVersion>,
    /// Next versions of payouts and sweeps in flight, by payout number.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_PAYOUT_VERSIONS>")]
    pub versions: Vec<PayoutVersion>,
}

impl PayoutProposal {
    /// All transactions of the proposal, in the order of their effects.
    pub fn transactions(&self) -> impl Iterator<Item = &PayoutVersion> {
        let first = self.payout.iter().chain(&self.sweep);
        first.chain(&self.versions)
    }
}

/// One of several transactions for the same payout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutVersion {
    /// Number of the payout in the ledger.
    pub payout: u64,
    /// Number of the version; 0 for the first.
    pub version: u32,
    /// The payments, in the order of the outputs; none in a sweep.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_PAYMENTS>")]
    pub payments: Vec<Payment>,
    /// The unsigned transaction in Bitcoin's consensus encoding.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_PAYOUT_BYTES>")]
    pub transaction: Vec<u8>,
}
