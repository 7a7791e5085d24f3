//! The repository's own tasks: what CI runs, and what a person runs before sending a change.
//!
//! **Owns** the rules of the house that a machine can hold ([`tidy`]) and the list of CI's steps ([`steps`]).
//! **Promises** that a finding names file and line and says what to do, that every exception stands in one table with its
//! reason, and that any step that fails makes the whole fail.
//! **Never** is a part of what is shipped, changes a file, or needs the network by itself.

pub mod steps;
pub mod tidy;

use std::path::PathBuf;

/// The root of the repository that this was built from.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// The cargo that runs us, or the one in the path.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
