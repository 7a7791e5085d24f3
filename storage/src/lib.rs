//! Key-value trait, redb and sled backends, block store and vote state

pub mod kv;

pub use kv::{Batch, Direction, Durability, Error, KeyValue, Op, Store, Table};
