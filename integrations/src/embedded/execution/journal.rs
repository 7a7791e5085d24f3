//! The pool on disk, so that accepted transactions survive a restart.
//!
//! | table | key | value |
//! |---|---|---|
//! | `el_pool` | order of arrival u64, transaction hash | EIP-2718 bytes |
//!
//! The difference between pool and table is written after each fork choice, deferred, and
//! completely at an orderly stop. A transaction that is mined before the next fork choice is never
//! written. A killed process loses the transactions of its last slots only, whose senders see that
//! they are neither pending nor mined.

use super::{error::Error, pool::Pool};
use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::B256;
use alys_storage::{Batch, Direction, Durability, Store, Table};
use std::collections::BTreeMap;

const POOL: Table = Table("el_pool");
/// Rows per read of the table, to bound the memory of a read.
const READ_ROWS: usize = 256;

/// The rows of the table.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Keys by transaction. As many as the pool may hold, and those that left it since the last
    /// write.
    rows: BTreeMap<B256, Vec<u8>>,
    /// Keys of rows that do not decode.
    broken: Vec<Vec<u8>>,
    next_arrival: u64,
    /// See [`Self::left`].
    #[cfg(madsim)]
    left: usize,
}

impl Journal {
    /// Reads the transactions in the order of their arrival. A row that does not decode is deleted
    /// by the next write, because a damaged pool must not stop the client.
    pub(crate) fn load(store: &Store) -> Result<(Journal, Vec<TxEnvelope>), Error> {
        let mut journal = Journal::default();
        let mut transactions = Vec::new();
        let mut start: Vec<u8> = Vec::new();
        loop {
            let rows = store.range(POOL, &start, &[0xff; 41], Direction::Forward, READ_ROWS)?;
            let Some((last, _)) = rows.last() else {
                return Ok((journal, transactions));
            };
            start = [last.as_slice(), &[0][..]].concat();
            for (key, value) in rows {
                match decode(&key, &value) {
                    Some((arrival, transaction)) => {
                        journal.next_arrival = arrival.saturating_add(1);
                        journal.rows.insert(*transaction.tx_hash(), key);
                        transactions.push(transaction);
                    }
                    None => journal.broken.push(key),
                }
            }
        }
    }

    /// The arrival after those of all rows.
    pub(crate) fn next_arrival(&self) -> u64 {
        self.next_arrival
    }

    /// Deletes the transactions that left the pool since the last write, and writes those that
    /// entered it, until they have `max_bytes`; the next write continues with the others.
    pub(crate) fn write(
        &mut self,
        store: &Store,
        pool: &Pool,
        max_bytes: usize,
        durability: Durability,
    ) -> Result<(), Error> {
        let mut batch = Batch::new();
        for key in &self.broken {
            batch.delete(POOL, key.as_slice());
        }
        let gone: Vec<B256> = self
            .rows
            .keys()
            .filter(|hash| pool.get(hash).is_none())
            .copied()
            .collect();
        for hash in &gone {
            if let Some(key) = self.rows.get(hash) {
                batch.delete(POOL, key.as_slice());
            }
        }
        let mut added = Vec::new();
        let mut bytes = 0;
        for (arrival, transaction) in pool.all() {
            let hash = *transaction.tx_hash();
            if self.rows.contains_key(&hash) {
                continue;
            }
            if bytes >= max_bytes {
                break;
            }
            let value = transaction.encoded_2718();
            bytes += value.len();
            let key = [&arrival.to_be_bytes()[..], hash.as_slice()].concat();
            batch.put(POOL, key.as_slice(), value);
            added.push((hash, key));
        }
        if !batch.is_empty() {
            store.write(batch, durability)?;
        }
        self.broken.clear();
        if crate::interceptor::left_rows_are_forgotten() {
            for hash in gone {
                self.rows.remove(&hash);
            }
        }
        self.rows.extend(added);
        #[cfg(madsim)]
        {
            let left = self.rows.keys().filter(|hash| pool.get(hash).is_none());
            self.left = left.count();
        }
        Ok(())
    }

    /// Rows that the last write kept in memory although it deleted them; there must be none.
    #[cfg(madsim)]
    pub(crate) fn left(&self) -> usize {
        self.left
    }
}

/// The arrival and the transaction of a row.
fn decode(key: &[u8], value: &[u8]) -> Option<(u64, TxEnvelope)> {
    let (arrival, hash) = key.split_first_chunk::<8>()?;
    let transaction = TxEnvelope::decode_2718_exact(value).ok()?;
    let is_named = transaction.tx_hash().as_slice() == hash;
    is_named.then_some((u64::from_be_bytes(*arrival), transaction))
}
