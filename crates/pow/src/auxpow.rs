//! A proof of merged mining in Namecoin's encoding (rule 4.2; `CAuxPow` of Namecoin Core), read
//! within limits.

use alys_types::Hash;
use alys_types::limits::MAX_AUXPOW_BYTES;
use bitcoin::block::Header;
use bitcoin::consensus::encode::{self, VarInt};
use bitcoin::hashes::Hash as _;
use bitcoin::{ScriptBuf, Transaction};

use crate::hashing::sha256d;

/// Largest encoded proof (rule 4.4).
pub const MAX_BYTES: usize = MAX_AUXPOW_BYTES;

/// Bytes of an input besides its script: the spent output and the sequence number.
const INPUT_HEAD_BYTES: usize = 36;
const SEQUENCE_BYTES: usize = 4;
/// Bytes of the smallest input and output, with an empty script. The bytes that are left bound the
/// number of elements before any is read.
const MIN_INPUT_BYTES: usize = INPUT_HEAD_BYTES + 1 + SEQUENCE_BYTES;
const MIN_OUTPUT_BYTES: usize = AMOUNT_BYTES + 1;
const AMOUNT_BYTES: usize = 8;
const HASH_BYTES: usize = 32;
const HEADER_BYTES: usize = 80;

/// A proof that a header of another chain commits to work of ours. Not checked: see
/// [`crate::VerifiedAuxPow`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuxPow {
    /// The transaction of the parent block that carries the commitment; it has an input.
    pub coinbase: Transaction,
    /// Hash of the parent block. No verifier reads it, so that a proof has many encodings.
    pub block_hash: Hash,
    /// From the coinbase to the Merkle root of the parent.
    pub coinbase_branch: Branch,
    /// From our commitment to the root in the coinbase.
    pub chain_branch: Branch,
    /// The header with the work.
    pub parent: Header,
}

/// A branch of a Merkle tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Siblings from the leaf to the root, in internal order.
    pub hashes: Vec<Hash>,
    /// Position of the leaf: bit i is set if the sibling of level i is on the left.
    pub index: u32,
}

/// The reason for which bytes are no proof. An offset counts bytes from the start of the proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the proof has {found} bytes, at most {MAX_BYTES} are allowed")]
    TooLong { found: usize },
    #[error("the proof ends within {field}: expected {expected} bytes at {offset}, found {found}")]
    CutOff {
        field: &'static str,
        offset: usize,
        expected: usize,
        found: usize,
    },
    #[error("{field} at {offset} announces {count} elements, more than the {room} bytes after it")]
    Count {
        field: &'static str,
        offset: usize,
        count: u64,
        room: usize,
    },
    #[error("{field} at {offset} is not the shortest encoding of {value}")]
    NotShortest {
        field: &'static str,
        offset: usize,
        value: u64,
    },
    #[error("the coinbase has segregated-witness flag {found}, expected 1")]
    WitnessFlag { found: u8 },
    #[error("the coinbase is marked as having witnesses, and has none")]
    NoWitness,
    #[error("the coinbase has no inputs")]
    NoInputs,
    #[error("the coinbase is not a transaction: {reason}")]
    Transaction { reason: String },
    #[error("{found} bytes follow the parent header, expected none")]
    TrailingBytes { found: usize },
}

impl AuxPow {
    /// Reads a proof. Every proof has one encoding, that of [`AuxPow::encode`].
    ///
    /// # Errors
    /// Any [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<AuxPow, FormatError> {
        if bytes.len() > MAX_BYTES {
            return Err(FormatError::TooLong { found: bytes.len() });
        }
        let mut reader = Reader { bytes, offset: 0 };
        let coinbase = reader.transaction()?;
        let coinbase = encode::deserialize(coinbase).map_err(|error| FormatError::Transaction {
            reason: error.to_string(),
        })?;
        let proof = AuxPow {
            coinbase,
            block_hash: Hash(reader.array("the block hash")?),
            coinbase_branch: reader.branch("the coinbase branch")?,
            chain_branch: reader.branch("the chain branch")?,
            parent: header(&reader.array("the parent header")?),
        };
        match reader.rest().len() {
            0 => Ok(proof),
            found => Err(FormatError::TrailingBytes { found }),
        }
    }

    /// The proof in Namecoin's encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = encode::serialize(&self.coinbase);
        bytes.extend(self.block_hash.0);
        for branch in [&self.coinbase_branch, &self.chain_branch] {
            bytes.extend(encode::serialize(&VarInt::from(branch.hashes.len())));
            bytes.extend(branch.hashes.iter().flat_map(|hash| hash.0));
            bytes.extend(branch.index.to_le_bytes());
        }
        bytes.extend(encode::serialize(&self.parent));
        bytes
    }

    /// Id of the coinbase: the hash without witnesses.
    pub fn coinbase_id(&self) -> Hash {
        Hash(self.coinbase.compute_txid().to_byte_array())
    }

    /// Hash of the parent header, which has the work.
    pub fn parent_hash(&self) -> Hash {
        sha256d(&[&encode::serialize(&self.parent)])
    }

    /// Scripts of the coinbase, those of inputs first. Witnesses are not in the coinbase's id, so
    /// that the parent's work does not cover them.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = &ScriptBuf> {
        let inputs = self.coinbase.input.iter().map(|input| &input.script_sig);
        inputs.chain(
            self.coinbase
                .output
                .iter()
                .map(|output| &output.script_pubkey),
        )
    }
}

impl Branch {
    /// The root of the tree in which `leaf` has this branch.
    pub fn fold(&self, leaf: Hash) -> Hash {
        let (root, _) = self
            .hashes
            .iter()
            .fold((leaf, self.index), |(node, index), sibling| {
                let (left, right) = if index & 1 == 0 {
                    (node, *sibling)
                } else {
                    (*sibling, node)
                };
                (sha256d(&[&left.0, &right.0]), index >> 1)
            });
        root
    }
}

/// The header in 80 bytes, which any have.
fn header(bytes: &[u8; HEADER_BYTES]) -> Header {
    encode::deserialize(bytes).expect("each field of a header takes any bytes")
}

/// Bytes and the position in them.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], FormatError> {
        let rest = self.rest();
        let taken = rest.get(..length).ok_or(FormatError::CutOff {
            field,
            offset: self.offset,
            expected: length,
            found: rest.len(),
        })?;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    /// A number of elements of at least `least_bytes` each, which have room in the bytes left.
    fn count(&mut self, least_bytes: usize, field: &'static str) -> Result<usize, FormatError> {
        let offset = self.offset;
        let value = self.compact_size(field)?;
        let room = self.rest().len();
        let count = usize::try_from(value).ok();
        count
            .filter(|count| count.saturating_mul(least_bytes) <= room)
            .ok_or(FormatError::Count {
                field,
                offset,
                count: value,
                room,
            })
    }

    /// A number in the shortest of Bitcoin's four forms ("compact size").
    fn compact_size(&mut self, field: &'static str) -> Result<u64, FormatError> {
        let offset = self.offset;
        let [first] = self.array(field)?;
        let (value, least) = match first {
            0..=0xfc => (u64::from(first), 0),
            0xfd => (u16::from_le_bytes(self.array(field)?).into(), 0xfd),
            0xfe => (u32::from_le_bytes(self.array(field)?).into(), 0x1_0000),
            0xff => (u64::from_le_bytes(self.array(field)?), 0x1_0000_0000),
        };
        if value < least {
            return Err(FormatError::NotShortest {
                field,
                offset,
                value,
            });
        }
        Ok(value)
    }

    /// Bytes behind their length.
    fn skip_sized(&mut self, field: &'static str) -> Result<usize, FormatError> {
        let length = self.count(1, field)?;
        self.take(length, field).map(<[u8]>::len)
    }

    fn branch(&mut self, field: &'static str) -> Result<Branch, FormatError> {
        let count = self.count(HASH_BYTES, field)?;
        let mut hashes = Vec::with_capacity(count);
        for _ in 0..count {
            hashes.push(Hash(self.array(field)?));
        }
        let index = u32::from_le_bytes(self.array(field)?);
        Ok(Branch { hashes, index })
    }

    /// The bytes of a transaction. Its counts and lengths are compared with the bytes that are
    /// left, because `bitcoin` allocates up to 16 MB for a count before it reads the elements.
    fn transaction(&mut self) -> Result<&'a [u8], FormatError> {
        let start = self.rest();
        let from = self.offset;
        self.take(4, "the coinbase's version")?;
        let mut inputs = self.count(MIN_INPUT_BYTES, "the coinbase's inputs")?;
        let has_witnesses = inputs == 0;
        if has_witnesses {
            // BIP 144: no inputs are the marker of a transaction with witnesses.
            let [found] = self.array("the coinbase's witness flag")?;
            if found != 1 {
                return Err(FormatError::WitnessFlag { found });
            }
            inputs = self.count(MIN_INPUT_BYTES, "the coinbase's inputs")?;
        }
        if inputs == 0 {
            return Err(FormatError::NoInputs);
        }
        for _ in 0..inputs {
            self.take(INPUT_HEAD_BYTES, "an input of the coinbase")?;
            self.skip_sized("an input script of the coinbase")?;
            self.take(SEQUENCE_BYTES, "an input of the coinbase")?;
        }
        let outputs = self.count(MIN_OUTPUT_BYTES, "the coinbase's outputs")?;
        for _ in 0..outputs {
            self.take(AMOUNT_BYTES, "an output of the coinbase")?;
            self.skip_sized("an output script of the coinbase")?;
        }
        if has_witnesses {
            self.witnesses(inputs)?;
        }
        self.take(4, "the coinbase's lock time")?;
        let length = self.offset.saturating_sub(from);
        Ok(start.get(..length).unwrap_or_default())
    }

    fn witnesses(&mut self, inputs: usize) -> Result<(), FormatError> {
        let mut elements = 0_usize;
        for _ in 0..inputs {
            let count = self.count(1, "a witness of the coinbase")?;
            elements = elements.saturating_add(count);
            for _ in 0..count {
                self.skip_sized("a witness of the coinbase")?;
            }
        }
        if elements == 0 {
            return Err(FormatError::NoWitness);
        }
        Ok(())
    }
}
