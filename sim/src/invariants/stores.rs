//! The rows of a node's block store: each belongs to a final block, or to a block that may still
//! become final, and no row of the final chain is missing. The rows of an execution client's store:
//! each belongs to a canonical block, or to one that is listed to be pruned.

use std::collections::{BTreeMap, BTreeSet};

use alys_storage::{Direction, Error, Store, Table, schema};
use alys_types::wire::CertifiedHeader;
use alys_types::{Hash, Header, Height, codec};

use super::{Violation, short};

/// Most rows of a table that are read; a run of an hour finalizes 3,600 blocks.
const MOST_ROWS: usize = 1 << 20;
/// Most copies of disks that are read while nodes restart, and the capacity of their queue. Each is
/// a file of a few megabytes.
pub const MOST_COPIES: u64 = 24;
/// Most blocks beside the final chain, at or below its end, that wait in a store for its next
/// start, which removes them: a restart leaves out blocks whose parents are not stored, and a
/// header may be written late. GUESSED.
const MOST_BESIDE: u64 = 16;
/// Tables whose keys are hashes of blocks, final or open.
const OF_BLOCKS: [Table; 5] = [
    schema::HEADERS,
    schema::BODIES,
    schema::CERTIFICATES,
    schema::ORDERS,
    schema::ADDITIONS,
];
/// All tables of the block store.
const TABLES: [Table; 13] = [
    schema::META,
    schema::VOTES,
    schema::HEADERS,
    schema::BODIES,
    schema::CERTIFICATES,
    schema::FINALITY,
    schema::FINAL,
    schema::OPEN,
    schema::ORDERS,
    schema::SETS,
    schema::LEDGER,
    schema::ADDITIONS,
    schema::PROOFS,
];
/// Tables of an execution client whose keys are hashes of blocks.
const OF_EXECUTED: [Table; 3] = [Table("el_header"), Table("el_block"), Table("el_receipts")];
/// Heights of canonical blocks to their hashes.
const CANONICAL: Table = Table("el_canon");
/// Heights and hashes of blocks that are not final yet.
const LISTED: Table = Table("el_height");
/// Hashes of transactions to heights, and indices in their blocks.
const TRANSACTIONS: Table = Table("el_tx");
/// All tables of an execution client that are checked. Nodes of its trie are shared by blocks.
const EXECUTION_TABLES: [Table; 6] = [
    OF_EXECUTED[0],
    OF_EXECUTED[1],
    OF_EXECUTED[2],
    CANONICAL,
    LISTED,
    TRANSACTIONS,
];
/// Bytes of a height in a key.
const HEIGHT_BYTES: usize = 8;
/// Single records.
const RECORDS: [&[u8]; 6] = [
    schema::SCHEMA,
    schema::GENESIS,
    schema::HIGHEST,
    schema::FINALIZED,
    schema::FEDERATION,
    schema::LEDGER_AT,
];

type TableRows = BTreeMap<Vec<u8>, Vec<u8>>;

/// All rows of a block store, by table.
#[derive(Debug, Default)]
pub struct Rows(BTreeMap<Table, TableRows>);

impl Rows {
    /// Reads all tables of a node.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn read(store: &Store) -> Result<Self, Error> {
        Self::of_tables(store, &TABLES)
    }

    /// Reads the tables of an execution client.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn of_execution(store: &Store) -> Result<Self, Error> {
        Self::of_tables(store, &EXECUTION_TABLES)
    }

    fn of_tables(store: &Store, tables: &[Table]) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for table in tables.iter().copied() {
            let end = &schema::AFTER_HASHES;
            let rows = store.range(table, &[], end, Direction::Forward, MOST_ROWS)?;
            all.insert(table, rows.into_iter().collect());
        }
        Ok(Self(all))
    }

    /// True before the first write.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    fn of(&self, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self.0.get(&table).into_iter().flatten();
        rows.map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    fn count(&self, table: Table) -> usize {
        self.0.get(&table).map_or(0, BTreeMap::len)
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        self.0.get(&table)?.get(key).map(Vec::as_slice)
    }

    fn header(&self, hash: &[u8]) -> Option<Header> {
        let bytes = self.get(schema::HEADERS, hash)?;
        codec::decode(bytes, schema::value_limit(schema::HEADERS, hash)).ok()
    }

    /// The last final height.
    fn final_height(&self) -> u64 {
        let last = self.get(schema::META, schema::FINALIZED);
        let limit = schema::value_limit(schema::META, schema::FINALIZED);
        let last = last.and_then(|bytes| codec::decode::<CertifiedHeader>(bytes, limit).ok());
        last.map_or(0, |last| last.header.height.0)
    }

    /// The ledger, with the hash of the block that it is after; `None` before the first one.
    pub fn ledger(&self) -> Option<(Hash, BTreeMap<Vec<u8>, Vec<u8>>)> {
        let at = self.get(schema::META, schema::LEDGER_AT)?;
        let limit = schema::value_limit(schema::META, schema::LEDGER_AT);
        let (_, hash): (Height, Hash) = codec::decode(at, limit).ok()?;
        let rows = self.0.get(&schema::LEDGER).cloned().unwrap_or_default();
        Some((hash, rows))
    }

    /// The hashes of the final chain from height 1 on.
    fn finals(&self) -> BTreeSet<&[u8]> {
        self.of(schema::FINAL).map(|(_, hash)| hash).collect()
    }

    /// The number of listed open blocks that are beside the final chain, at or below its end.
    fn beside(&self) -> usize {
        let finals = self.finals();
        let end = self.final_height();
        let is_low = |hash: &[u8]| self.header(hash).is_some_and(|one| one.height.0 <= end);
        let open = self.of(schema::OPEN);
        open.filter(|&(hash, _)| !finals.contains(hash) && is_low(hash))
            .count()
    }

    /// Checks the final chain: one hash for each height, whose header and body are stored, each the
    /// parent of the next one.
    fn check_chain(&self) -> Result<(), String> {
        let end = self.final_height();
        let index = self.count(schema::FINAL) as u64;
        if index != end {
            return Err(format!(
                "{index} final blocks in the index up to height {end}"
            ));
        }
        let mut parent = self.get(schema::META, schema::GENESIS).unwrap_or_default();
        for (height, (key, hash)) in (1_u64..).zip(self.of(schema::FINAL)) {
            if key != height.to_be_bytes() {
                return Err(format!("no final block of height {height} in the index"));
            }
            let Some(header) = self.header(hash) else {
                return Err(format!("no header of the final block of height {height}"));
            };
            if header.height.0 != height || header.parent_hash.0 != parent {
                return Err(format!("another chain in the index at height {height}"));
            }
            if self.get(schema::BODIES, hash).is_none() {
                return Err(format!("no body of the final block of height {height}"));
            }
            parent = hash;
        }
        Ok(())
    }

    /// Checks that each row is reachable; `sets` is the largest number of authority sets.
    fn check_reachable(&self, sets: usize) -> Result<(), String> {
        let unknown = |table: Table, hash: &[u8]| {
            let block = <[u8; 32]>::try_from(hash).map_or_else(|_| "?".to_owned(), named);
            format!(
                "{} of block {block}, which is neither final nor open",
                table.0
            )
        };
        let finals = self.finals();
        let end = self.final_height();
        let mut known = finals.clone();
        for (hash, _) in self.of(schema::OPEN) {
            match self.header(hash) {
                Some(header) if header.height.0 > end => known.insert(hash),
                _ => return Err(unknown(schema::OPEN, hash)),
            };
        }
        for table in OF_BLOCKS {
            if let Some((hash, _)) = self.of(table).find(|&(hash, _)| !known.contains(hash)) {
                return Err(unknown(table, hash));
            }
        }
        let mut finality = self.of(schema::FINALITY);
        if let Some((hash, _)) = finality.find(|&(hash, _)| !finals.contains(hash)) {
            return Err(unknown(schema::FINALITY, hash));
        }
        if self
            .of(schema::META)
            .any(|(key, _)| !RECORDS.contains(&key))
        {
            return Err("an unknown single record".to_owned());
        }
        if self
            .of(schema::VOTES)
            .any(|(key, _)| key != schema::VOTE_STATE)
        {
            return Err("a second vote state".to_owned());
        }
        let found = self.count(schema::SETS);
        if found > sets {
            return Err(format!(
                "{found} authority sets, of {sets} that there can be"
            ));
        }
        Ok(())
    }
}

impl Rows {
    /// Checks that each row of an execution client is reachable.
    fn check_execution(&self) -> Result<(), String> {
        for (height, (key, _)) in (0_u64..).zip(self.of(CANONICAL)) {
            if key != height.to_be_bytes() {
                return Err(format!("no canonical block of height {height}"));
            }
        }
        let mut known: BTreeSet<&[u8]> = self.of(CANONICAL).map(|(_, hash)| hash).collect();
        known.extend(
            self.of(LISTED)
                .filter_map(|(key, _)| key.get(HEIGHT_BYTES..)),
        );
        for table in OF_EXECUTED {
            if let Some((hash, _)) = self.of(table).find(|&(hash, _)| !known.contains(hash)) {
                let block = <[u8; 32]>::try_from(hash).map_or_else(|_| "?".to_owned(), named);
                let table = table.0;
                return Err(format!(
                    "{table} of block {block}, neither canonical nor listed"
                ));
            }
        }
        let is_lost = |place: &[u8]| {
            let height = place.get(..HEIGHT_BYTES);
            height.is_none_or(|height| self.get(CANONICAL, height).is_none())
        };
        if self.of(TRANSACTIONS).any(|(_, place)| is_lost(place)) {
            return Err("a transaction of a block that is not canonical".to_owned());
        }
        Ok(())
    }
}

fn named(hash: [u8; 32]) -> String {
    short(&Hash(hash))
}

/// The stores that were read.
#[derive(Debug, Default)]
pub struct Stores {
    restarts: u64,
    read: u64,
    most_beside: u64,
    most_open: u64,
}

impl Stores {
    /// True if the disk of a node that restarts is to be copied, which counts.
    pub fn wants(&mut self) -> bool {
        let is_wanted = self.restarts < MOST_COPIES;
        self.restarts += u64::from(is_wanted);
        is_wanted
    }

    /// Checks the rows of a node's store: as the node left them, and after the start of the store.
    /// `orders` is the number of federation changes that governance ordered.
    ///
    /// # Errors
    /// [`Violation::WrongStore`].
    pub fn look(
        &mut self,
        node: u8,
        left: &Rows,
        started: &Rows,
        orders: usize,
    ) -> Result<(), Violation> {
        let beside = left.beside() as u64;
        self.read += 1;
        self.most_beside = self.most_beside.max(beside);
        self.most_open = self.most_open.max(started.count(schema::OPEN) as u64);
        // An order changes the set before it, which is that of one of two branches at most.
        let sets = 1 + 2 * orders;
        let result = started
            .check_chain()
            .and_then(|()| started.check_reachable(sets));
        let result = match result {
            Ok(()) if beside > MOST_BESIDE => Err(format!(
                "{beside} blocks beside the final chain, of {MOST_BESIDE} that there can be"
            )),
            other => other,
        };
        result.map_err(|what| Violation::WrongStore {
            node: node + 1,
            what,
        })
    }

    /// Checks the rows of the store of a node's execution client.
    ///
    /// # Errors
    /// [`Violation::WrongStore`].
    pub fn look_at_execution(&mut self, node: u8, rows: &Rows) -> Result<(), Violation> {
        self.read += 1;
        rows.check_execution()
            .map_err(|what| Violation::WrongStore {
                node: node + 1,
                what: format!("execution client: {what}"),
            })
    }

    /// Counters: the stores that were read, and the largest numbers of rows.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("store.read", self.read),
            ("store.beside", self.most_beside),
            ("store.open", self.most_open),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alys_storage::{Batch, BlockStore, Durability, MemoryStore};
    use alys_types::bls::Signature;
    use alys_types::{Bitmap, Block, Certificate, Height, VoteKind, VoteTarget};

    use super::*;
    use crate::invariants::blocks::tests::block;

    const GENESIS: Hash = Hash([9; 32]);

    fn finalize(batch: &mut Batch, blocks: &[&Block], dropped: &[Hash]) {
        let last = &blocks[blocks.len() - 1].header;
        let certified = CertifiedHeader {
            header: last.clone(),
            certificate: Certificate {
                target: VoteTarget {
                    kind: VoteKind::Confirmation,
                    height: last.height,
                    slot: last.slot,
                    hash: last.hash(),
                },
                signers: Bitmap::empty(4),
                signature: Signature([1; 96]),
            },
        };
        let of = |block: &&Block| (block.header.height, block.header.hash());
        let chain: Vec<(Height, Hash)> = blocks.iter().map(of).collect();
        BlockStore::batch_finalized(batch, &certified, &chain, dropped);
    }

    /// A store with two final blocks, one beside them that was dropped, and an open one; `change`
    /// adds to it.
    fn rows(change: impl FnOnce(&mut Batch, &Block)) -> Rows {
        let store: Store = Arc::new(MemoryStore::new());
        let blocks = BlockStore::open(store.clone(), GENESIS).expect("open");
        let (parent, first) = block(1, 1, GENESIS);
        let (hash, second) = block(2, 2, parent);
        let (loser, beside) = block(2, 3, parent);
        let (_, open) = block(3, 4, hash);
        let mut batch = Batch::new();
        for block in [&first, &second, &beside, &open] {
            BlockStore::batch_block(&mut batch, block);
        }
        finalize(&mut batch, &[&first, &second], &[loser]);
        change(&mut batch, &beside);
        blocks.write(batch, Durability::Durable).expect("written");
        Rows::read(&store).expect("read")
    }

    fn judged(rows: &Rows) -> Result<(), String> {
        match Stores::default().look(0, rows, rows, 0) {
            Ok(()) => Ok(()),
            Err(Violation::WrongStore { node: 1, what }) => Err(what),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_store_of_final_and_open_blocks_is_right() {
        assert_eq!(judged(&rows(|_, _| {})), Ok(()));
        assert!(Rows::default().is_empty());
    }

    #[test]
    fn rows_that_nothing_refers_to_are_found() {
        type Change = fn(&mut Batch, &Block);
        let table: [(Change, &str); 6] = [
            (
                |batch, beside| {
                    let bytes = codec::encode(&beside.body);
                    batch.put(schema::BODIES, beside.header.hash().0, bytes);
                },
                "bodies of block",
            ),
            (
                |batch, beside| {
                    let bytes = codec::encode(&beside.header);
                    batch.put(schema::HEADERS, beside.header.hash().0, bytes);
                },
                "headers of block",
            ),
            (
                |batch, beside| {
                    batch.put(schema::OPEN, beside.header.hash().0, []);
                },
                "open of block",
            ),
            (
                |batch, beside| {
                    batch.put(schema::FINALITY, beside.header.hash().0, [1]);
                },
                "finality of block",
            ),
            (
                |batch, _| {
                    batch.put(schema::SETS, [1; 32], [1]);
                    batch.put(schema::SETS, [2; 32], [1]);
                },
                "2 authority sets",
            ),
            (
                |batch, _| {
                    batch.put(schema::META, b"other".to_vec(), [1]);
                },
                "single record",
            ),
        ];
        for (change, expected) in table {
            let found = judged(&rows(change)).expect_err(expected);
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn gaps_in_the_final_chain_are_found() {
        let missing = rows(|batch, _| {
            batch.delete(schema::FINAL, 1_u64.to_be_bytes());
        });
        let found = judged(&missing).expect_err("a gap");
        assert!(found.contains("1 final blocks"), "{found}");
        let other = rows(|batch, beside| {
            batch.put(schema::FINAL, 1_u64.to_be_bytes(), beside.header.hash().0);
            let bytes = codec::encode(&beside.header);
            batch.put(schema::HEADERS, beside.header.hash().0, bytes);
        });
        let found = judged(&other).expect_err("another chain");
        assert!(found.contains("another chain"), "{found}");
    }

    #[test]
    fn few_blocks_beside_the_final_chain_wait_for_the_next_start() {
        let started = rows(|_, _| {});
        let is_right = |beside_chain: u64| {
            let left = rows(|batch, beside| {
                for slot in 10..10 + beside_chain {
                    let (_, other) = block(2, slot, beside.header.parent_hash);
                    BlockStore::batch_block(batch, &other);
                }
            });
            Stores::default().look(0, &left, &started, 0).is_ok()
        };
        assert!(is_right(MOST_BESIDE));
        assert!(!is_right(MOST_BESIDE + 1));
    }

    /// The store of an execution client with two canonical blocks, a listed one beside them, and a
    /// transaction; `change` adds to it.
    fn executed(change: impl FnOnce(&mut Batch)) -> Result<(), String> {
        let store: Store = Arc::new(MemoryStore::new());
        let mut batch = Batch::new();
        for (height, hash) in [(0_u64, [1_u8; 32]), (1, [2; 32]), (1, [3; 32])] {
            for table in OF_EXECUTED {
                batch.put(table, hash, [1]);
            }
            let key = [&height.to_be_bytes()[..], &hash[..]].concat();
            batch.put(LISTED, key, []);
            if hash != [3; 32] {
                batch.put(CANONICAL, height.to_be_bytes(), hash);
            }
        }
        let place = [&1_u64.to_be_bytes()[..], &[0; 4][..]].concat();
        batch.put(TRANSACTIONS, [4; 32], place);
        change(&mut batch);
        store.write(batch, Durability::Durable).expect("written");
        let rows = Rows::of_execution(&store).expect("read");
        match Stores::default().look_at_execution(0, &rows) {
            Err(Violation::WrongStore { what, .. }) => Err(what),
            other => {
                assert_eq!(other, Ok(()));
                Ok(())
            }
        }
    }

    #[test]
    fn rows_of_dropped_blocks_in_an_execution_client_are_found() {
        assert_eq!(executed(|_| {}), Ok(()));
        let unlisted = executed(|batch| {
            let key = [&1_u64.to_be_bytes()[..], &[3; 32][..]].concat();
            batch.delete(LISTED, key);
        });
        let found = unlisted.expect_err("unlisted");
        assert!(found.contains("el_header of block"), "{found}");
        let receipts = executed(|batch| {
            batch.put(OF_EXECUTED[2], [5; 32], [1]);
        });
        let found = receipts.expect_err("receipts");
        assert!(found.contains("el_receipts of block"), "{found}");
        let lost = executed(|batch| {
            let place = [&2_u64.to_be_bytes()[..], &[0; 4][..]].concat();
            batch.put(TRANSACTIONS, [6; 32], place);
        });
        let found = lost.expect_err("a transaction");
        assert!(found.contains("not canonical"), "{found}");
    }

    #[test]
    fn copies_of_restarting_nodes_are_few() {
        let mut stores = Stores::default();
        let wanted = (0..MOST_COPIES + 5).filter(|_| stores.wants()).count();
        assert_eq!(wanted as u64, MOST_COPIES);
    }
}
