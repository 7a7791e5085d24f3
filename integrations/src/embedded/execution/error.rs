//! Errors of the embedded client with their JSON-RPC codes. The texts are part of the JSON-RPC
//! answers.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_engine::PayloadId;
use alloy_rpc_types_eth::BlockId;

use super::meter::Interrupted;

/// A refused request or a failure of the store.
///
/// [`Error::Storage`] and [`Error::Corrupt`] are faults of this client and stop it when a change
/// meets them. [`Error::Interrupted`] and [`Error::Superseded`] end a query without a fault. All
/// others are faults of the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage engine failed. After a failed write the core must not be used again.
    #[error("{0}")]
    Storage(#[from] alys_storage::Error),
    /// A record that the chain requires is missing or does not decode.
    #[error("database is corrupt: {what} {key}")]
    Corrupt { what: &'static str, key: String },
    /// The genesis file requires a feature that this client does not support.
    #[error("unsupported genesis: {reason}")]
    UnsupportedGenesis { reason: String },
    /// The store was created with another genesis.
    #[error("database has genesis {stored}, configured is {configured}")]
    GenesisMismatch {
        /// Hash of the stored genesis block.
        stored: B256,
        /// Hash of the configured genesis block.
        configured: B256,
    },
    /// The blocks of a fork choice are inconsistent with each other or with finality.
    #[error("Invalid forkchoice state: {reason} ({hash})")]
    InvalidForkchoice {
        reason: &'static str,
        /// The offending block.
        hash: B256,
    },
    /// No block can be built from these attributes.
    #[error("Invalid payload attributes: {reason}")]
    InvalidAttributes { reason: &'static str },
    /// The build was never started, or later builds have replaced it.
    #[error("Unknown payload")]
    UnknownPayload { id: PayloadId },
    /// The block is not stored.
    #[error("header not found")]
    UnknownBlock { block: BlockId },
    /// The pool refuses the transaction.
    #[error("{0}")]
    Pool(#[from] PoolError),
    /// A call ended with REVERT.
    #[error("execution reverted{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Reverted {
        /// The returned data.
        data: Bytes,
        /// The text of a Solidity `Error(string)`.
        reason: Option<String>,
    },
    /// A call ended with an exceptional halt. The text is Geth's where it has one.
    #[error("{reason}")]
    Halted { reason: String },
    /// A call could not start. The text is Geth's where it has one.
    #[error("{reason}")]
    InvalidCall { reason: String },
    /// The call fails with every gas limit up to `cap`.
    #[error("gas required exceeds allowance ({cap})")]
    GasExceedsAllowance { cap: u64 },
    /// The request, or its answer, exceeds a limit of [`super::limits`].
    #[error("{what}: at most {limit}")]
    LimitExceeded { what: &'static str, limit: u64 },
    /// The meter ended the query. The text resembles Geth's.
    #[error("execution aborted ({reason})")]
    Interrupted { reason: Interrupted },
    /// The chain moved while the query ran on a view of it; a new view gives an answer.
    #[error("the chain changed during the query; ask again")]
    Superseded,
    /// A range of logs ends after the newest block.
    #[error("block range extends beyond current head block: requested {requested}, head {head}")]
    RangeBeyondHead { requested: u64, head: u64 },
    /// The logs of a range exceed the limit of an answer. The text is Reth's, which libraries parse
    /// to continue with the range that fits.
    #[error("query exceeds max results {limit}, retry with the range {from}-{to}")]
    TooManyLogs { limit: usize, from: u64, to: u64 },
    /// A parameter is out of its range.
    #[error("{reason}")]
    InvalidParams { reason: &'static str },
}

impl Error {
    /// The code of [`Error::Superseded`] and of no other error: "resource unavailable" of EIP-1474.
    pub const SUPERSEDED: i32 = -32002;

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
            | Self::GasExceedsAllowance { .. }
            | Self::Interrupted { .. } => -32000,
            Self::Superseded => Self::SUPERSEDED,
            Self::Reverted { .. } => 3,
            // Not -32005: libraries take it for a limit of the rate, wait and ask the same again.
            Self::LimitExceeded { .. }
            | Self::RangeBeyondHead { .. }
            | Self::TooManyLogs { .. }
            | Self::InvalidParams { .. } => -32602,
        }
    }

    /// The `data` field of the JSON-RPC error.
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

/// A transaction that the pool refuses. The texts are Geth's, because wallets match on them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The bytes are not an encoded transaction.
    #[error("rlp: {reason}")]
    Malformed { reason: String },
    /// The encoding exceeds the limit, in bytes.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized { size: usize, limit: usize },
    /// A type that this chain does not support (EIP-4844 blobs, EIP-7702 authorizations).
    #[error("transaction type not supported")]
    TypeNotSupported,
    /// A legacy transaction without a chain id.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    WrongChain { have: u64, want: u64 },
    /// No key can be recovered from the signature, or its `s` is high (EIP-2).
    #[error("invalid sender")]
    InvalidSender,
    /// The transaction is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// The nonce is below the account's.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    /// The nonce cannot be incremented (EIP-2681).
    #[error("nonce has max value")]
    NonceMax,
    /// The gas limit is below the intrinsic gas.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    /// The gas limit exceeds that of a block.
    #[error("exceeds block gas limit")]
    ExceedsBlockGasLimit,
    /// The priority fee exceeds the fee cap (EIP-1559), in wei.
    #[error("max priority fee per gas higher than max fee per gas: tip {tip}, cap {cap}")]
    TipAboveFeeCap { tip: u128, cap: u128 },
    /// The init code exceeds the limit of EIP-3860, in bytes.
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    InitcodeTooLarge { size: usize, limit: usize },
    /// The tip is below the pool's minimum, or the pool is full of transactions with higher tips.
    /// Amounts in wei.
    #[error("transaction underpriced: tip {tip}, minimum needed {needed}")]
    Underpriced { tip: u128, needed: u128 },
    /// A replacement does not raise the fees by the required percentage.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The balance does not cover this transaction and the sender's others in the pool. Amounts in
    /// wei.
    #[error(
        "insufficient funds for gas * price + value: address {address} have {have} want {want}"
    )]
    InsufficientFunds {
        address: Address,
        have: U256,
        want: U256,
    },
    /// The sender has code (EIP-3607).
    #[error("sender not an eoa: address {address}")]
    SenderNotEoa { address: Address },
    /// The pool holds the maximum number of transactions of the sender.
    #[error("account limit exceeded: {limit} transactions")]
    AccountLimit { limit: usize },
}
