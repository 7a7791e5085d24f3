//! Persistent data of a node: a key-value contract, its backends, and the block store on top.
//!
//! **Owns** the key-value contract ([`kv`]), the engines behind it ([`redb`] by default, [`sled`]
//! by configuration, [`memory`] for tests), the layout of a data directory ([`open`](mod@open)),
//! and the store of blocks, certificates and the vote state ([`block_store`], with the tables of
//! [`schema`]).
//!
//! **Promises** that batches are atomic, that a durable write survives a power loss once it has
//! returned, that a power loss drops a deferred write only together with all later writes, and that
//! damage is reported as an error and never returned as data.
//!
//! **Never** starts a task, reads a clock or retries. Calls block on the disk; the caller chooses
//! the thread.

pub mod block_store;
mod interceptor;
pub mod kv;
pub mod memory;
pub mod open;
mod pages;
pub mod redb;
pub mod schema;
pub mod sled;

pub use block_store::{BlockStore, FinalBlock, LedgerRows, OpenBlock};
pub use kv::{Batch, Direction, Durability, Error, KeyValue, Op, Store, Table};
pub use memory::MemoryStore;
pub use open::{Engine, Options, open, open_with};
