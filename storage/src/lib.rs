//! Key-value trait, redb and sled backends, block store and vote state.
//!
//! **Owns** persistent data: the key-value contract ([`kv`]), the engines behind it ([`redb`] by
//! default, [`sled`] by configuration, [`memory`] for tests), the layout of a data directory
//! ([`open`](mod@open)), and the blocks, certificates and votes in it ([`block_store`], laid out by
//! [`schema`]).
//!
//! **Promises** that batches are atomic, that a durable write survives a power loss once it has
//! returned, that deferred writes are lost from the newest backwards only, and that damage is
//! reported as an error and never returned as data.
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

pub use block_store::{BlockStore, OpenBlock};
pub use kv::{Batch, Direction, Durability, Error, KeyValue, Op, Store, Table};
pub use memory::MemoryStore;
pub use open::{Engine, Options, open, open_with};
