//! Decoders of everything that a node reads: messages of peers, its own records, and the files of
//! operators and developers.

pub mod configuration;
pub mod keystore;
pub mod messages;
pub mod records;
pub mod scenario;
