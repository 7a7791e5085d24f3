//! Planted bugs of this crate, which the simulator must find (`cargo sim mutants`).
//!
//! Each function stands for one correct expression and departs from it only while the bug that it
//! names is active in the current simulation. A production build has no planted bugs: `active` is a
//! constant `false`.

use std::io;

use alys_runtime::mutant::active;

use crate::kv::{Batch, Durability, Error, Op, Store, Table};
use crate::schema;

/// `checksum-ignored`: a stored value passes although its checksum does not match.
pub(crate) fn checksum_matches(is_match: bool) -> bool {
    is_match || active("checksum-ignored")
}

/// `final-index-gaps`: of the blocks that become final together, only the last enters the index.
pub(crate) fn enters_final_index(is_last: bool) -> bool {
    is_last || !active("final-index-gaps")
}

/// `dropped-bodies-kept`: the bodies of blocks that are not on the final chain stay.
pub(crate) fn deletes_dropped(table: Table) -> bool {
    table != schema::BODIES || !active("dropped-bodies-kept")
}

/// `index-before-block`: the index entries of a batch are written before its blocks, in a write of
/// their own.
pub(crate) fn write(store: &Store, batch: Batch, durability: Durability) -> Result<(), Error> {
    if !active("index-before-block") {
        return store.write(batch, durability);
    }
    let block_tables = [schema::HEADERS, schema::BODIES, schema::CERTIFICATES];
    let is_block = |op: &Op| block_tables.contains(&op.table());
    let (blocks, index): (Vec<Op>, Vec<Op>) = batch.into_ops().into_iter().partition(is_block);
    store.write(Batch::from_iter(index), durability)?;
    store.write(Batch::from_iter(blocks), durability)
}

/// `range-limit-late`: the bytes of an answer are compared before a block is added to it.
pub(crate) fn is_range_full(before: usize, with_block: usize, limit: usize) -> bool {
    let bytes = if active("range-limit-late") {
        before
    } else {
        with_block
    };
    bytes > limit
}

/// `sync-left-out`: the database file is never synced.
pub(crate) fn sync(sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if active("sync-left-out") {
        return Ok(());
    }
    sync()
}
