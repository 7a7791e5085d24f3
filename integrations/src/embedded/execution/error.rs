//! Why the embedded client refuses or fails, and the JSON-RPC code that says so.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_engine::PayloadId;
use alloy_rpc_types_eth::BlockId;

/// A refused request or a failure of the store.
///
/// Blame: [`Error::Storage`] and [`Error::Corrupt`] are ours and stop the client; all others are the caller's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine below did not answer; the core must not be used again after this on a write.
    #[error("{0}")]
    Storage(#[from] alys_storage::Error),
    /// The store lacks or garbles what the chain says is there.
    #[error("database is corrupt: {what} {key}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// Under which key.
        key: String,
    },
    /// The genesis file asks for what this client does not do.
    #[error("unsupported genesis: {reason}")]
    UnsupportedGenesis {
        /// Which demand.
        reason: String,
    },
    /// The store was made with another genesis.
    #[error("database has genesis {stored}, configured is {configured}")]
    GenesisMismatch {
        /// Hash of the genesis block in the store.
        stored: B256,
        /// Hash of the genesis block asked for.
        configured: B256,
    },
    /// The three hashes of a fork choice do not fit together or to finality.
    #[error("Invalid forkchoice state: {reason} ({hash})")]
    InvalidForkchoice {
        /// What does not fit.
        reason: &'static str,
        /// The hash at fault.
        hash: B256,
    },
    /// No block can be built from these attributes.
    #[error("Invalid payload attributes: {reason}")]
    InvalidAttributes {
        /// Which one, and why.
        reason: &'static str,
    },
    /// The build was never started, or it was so long ago that it was forgotten.
    #[error("Unknown payload")]
    UnknownPayload {
        /// The id asked for.
        id: PayloadId,
    },
    /// No such block is kept.
    #[error("header not found")]
    UnknownBlock {
        /// The block asked for.
        block: BlockId,
    },
    /// The pool does not take the transaction.
    #[error("{0}")]
    Pool(#[from] PoolError),
    /// A call ended with REVERT.
    #[error("execution reverted{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Reverted {
        /// What the contract returned.
        data: Bytes,
        /// The text of `Error(string)`, if it is one.
        reason: Option<String>,
    },
    /// A call ended exceptionally.
    #[error("{reason}")]
    Halted {
        /// Geth's wording where there is one.
        reason: String,
    },
    /// A call could not start.
    #[error("{reason}")]
    InvalidCall {
        /// Geth's wording where there is one.
        reason: String,
    },
    /// No gas limit up to the cap makes the call succeed.
    #[error("gas required exceeds allowance ({cap})")]
    GasExceedsAllowance {
        /// The highest limit tried.
        cap: u64,
    },
    /// The answer would be larger than what this client gives at once.
    #[error("{what}: at most {limit}")]
    LimitExceeded {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// A parameter makes no sense.
    #[error("{reason}")]
    InvalidParams {
        /// Which, and why.
        reason: &'static str,
    },
}

impl Error {
    /// The JSON-RPC error code, as in the Engine API specification and in Geth.
    pub fn code(&self) -> i32 {
        match self {
            Self::Storage(_)
            | Self::Corrupt { .. }
            | Self::UnsupportedGenesis { .. }
            | Self::GenesisMismatch { .. } => -32603,
            Self::InvalidForkchoice { .. } => -38002,
            Self::InvalidAttributes { .. } => -38003,
            Self::UnknownPayload { .. } => -38001,
            Self::UnknownBlock { .. }
            | Self::Pool(_)
            | Self::Halted { .. }
            | Self::InvalidCall { .. }
            | Self::GasExceedsAllowance { .. } => -32000,
            Self::Reverted { .. } => 3,
            Self::LimitExceeded { .. } => -32005,
            Self::InvalidParams { .. } => -32602,
        }
    }

    /// What goes into the `data` field of the JSON-RPC error.
    pub fn data(&self) -> Option<&Bytes> {
        match self {
            Self::Reverted { data, .. } => Some(data),
            _ => None,
        }
    }

    pub(crate) fn corrupt(what: &'static str, key: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            what,
            key: key.to_string(),
        }
    }
}

impl revm::context::DBErrorMarker for Error {}

/// Why a transaction is not taken, in Geth's wording, which wallets match on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Not an encoded transaction.
    #[error("rlp: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// The encoding is longer than the pool takes.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized {
        /// Encoded length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A type that this chain has not (blobs, authorizations).
    #[error("transaction type not supported")]
    TypeNotSupported,
    /// A legacy transaction without a chain id.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    WrongChain {
        /// In the transaction.
        have: u64,
        /// This chain.
        want: u64,
    },
    /// The signature does not recover, or its s is high.
    #[error("invalid sender")]
    InvalidSender,
    /// It is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// The nonce was used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's nonce.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// The nonce can not be incremented.
    #[error("nonce has max value")]
    NonceMax,
    /// The gas limit is below what the transaction costs before it runs.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// The transaction's limit.
        gas: u64,
        /// The least.
        needed: u64,
    },
    /// The transaction does not fit into a block.
    #[error("exceeds block gas limit")]
    ExceedsBlockGasLimit,
    /// The tip is above the fee cap.
    #[error("max priority fee per gas higher than max fee per gas: tip {tip}, cap {cap}")]
    TipAboveFeeCap {
        /// Max priority fee per gas, in wei.
        tip: u128,
        /// Max fee per gas, in wei.
        cap: u128,
    },
    /// Initcode above the limit of EIP-3860.
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    InitcodeTooLarge {
        /// Length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The tip is below the pool's minimum, or the pool is full of better ones.
    #[error("transaction underpriced: tip {tip}, minimum needed {needed}")]
    Underpriced {
        /// In wei.
        tip: u128,
        /// In wei.
        needed: u128,
    },
    /// Another transaction with the nonce is there, and this one does not pay enough more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The sender cannot pay for it and for what it has in the pool.
    #[error(
        "insufficient funds for gas * price + value: address {address} have {have} want {want}"
    )]
    InsufficientFunds {
        /// The sender.
        address: Address,
        /// Its balance, in wei.
        have: U256,
        /// What its transactions cost at most, in wei.
        want: U256,
    },
    /// The sender has code.
    #[error("sender not an eoa: address {address}")]
    SenderNotEoa {
        /// The sender.
        address: Address,
    },
    /// The sender has as many transactions here as one may.
    #[error("account limit exceeded: {limit} transactions")]
    AccountLimit {
        /// The limit.
        limit: usize,
    },
}
