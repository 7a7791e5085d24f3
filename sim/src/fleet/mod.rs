//! Many runs: one process each, sweeps over seeds, their ledger, and what is derived from them.

pub mod coverage;
pub mod ledger;
pub mod process;
pub mod rules;
pub mod shards;
pub mod shrink;
pub mod sweep;
