//! Pools of the execution clients and their journals. All clients of a run lose the same
//! transactions, so no other node disagrees, and only a user notices after a restart.

use alloy_primitives::B256;

use super::Violation;

/// Capacity of a pool that buggify makes small.
const SMALL_POOL: usize = 4;

/// Checks that the journal of node `node`, from 0, holds no row in memory that it deleted on disk.
/// It would not write that transaction again if it came back.
///
/// # Errors
/// [`Violation::WrongPool`].
pub fn journal_is_exact(node: u8, left: usize) -> Result<(), Violation> {
    if left == 0 {
        return Ok(());
    }
    Err(Violation::WrongPool {
        node: node + 1,
        what: format!("{left} rows of transactions that left are kept in memory"),
    })
}

/// Checks that a client that opens the store has all saved transactions; `found` is the number that
/// it has.
///
/// # Errors
/// [`Violation::WrongPool`].
pub fn pool_survives(
    node: u8,
    saved: &[B256],
    found: usize,
    is_there: impl Fn(B256) -> bool,
) -> Result<(), Violation> {
    if saved.len() > SMALL_POOL && found == SMALL_POOL {
        // Perhaps the pool is small.
        return Ok(());
    }
    match saved.iter().find(|hash| !is_there(**hash)) {
        None => Ok(()),
        Some(hash) => Err(Violation::WrongPool {
            node: node + 1,
            what: format!("an orderly stop loses transaction {hash}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_transactions_that_left_are_forgotten() {
        assert_eq!(journal_is_exact(0, 0), Ok(()));
        assert!(matches!(
            journal_is_exact(0, 2),
            Err(Violation::WrongPool { node: 1, .. })
        ));
    }

    #[test]
    fn an_orderly_stop_loses_no_transaction() {
        let all: Vec<B256> = (0..6).map(B256::repeat_byte).collect();
        assert_eq!(pool_survives(0, &all, 6, |_| true), Ok(()));
        let lost = |hash: B256| hash != all[5];
        assert!(pool_survives(0, &all, 5, lost).is_err());
        assert_eq!(pool_survives(0, &all, SMALL_POOL, lost), Ok(()), "unclear");
        assert!(pool_survives(0, &all[5..], 0, lost).is_err());
    }
}
