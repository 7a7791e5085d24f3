//! The ledger of a chain, pure (docs/protocol.md, rules 5.1, 5.2, 5.4 and 5.25).
//!
//! Owns the tree under the ledger hash ([`tree`]), the entries of the ledger and the effects of a
//! block on them ([`ledger`]), the division of fees ([`fees`]) and the sums that a block adds to
//! the ledger through its receipts ([`receipts`]). Promises that a [`Ledger`] holds entries that
//! decode, that a clone costs nothing, and that a change costs one path of the tree. Never does IO,
//! waits, reads a clock or draws randomness.
//!
//! The ledger holds the blocks that no proof of work covers yet, the last proof, the remainder of
//! the fees and the index of the next withdrawal. Deposits, burns and payouts are not built.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod entry;
pub mod fees;
pub mod ledger;
pub mod receipts;
pub mod tree;

pub use entry::{Additions, LastProof, MAX_ENTRY_BYTES, PowEnd, Uncovered};
pub use fees::Fees;
pub use ledger::{Changes, Ledger, LedgerError};
pub use receipts::ReceiptsError;
