//! Many runs: one process per run, sweeps over seeds, the ledger, and the tools built on them.

pub mod coverage;
pub mod ledger;
pub mod process;
pub mod rules;
pub mod shards;
pub mod shrink;
pub mod sweep;

use std::io;
use std::path::{Path, PathBuf};

/// Writes a file atomically, so that a concurrent reader finds the old or the new content in full.
///
/// # Errors
/// The error of the first operation on the file system that failed.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let new: PathBuf = path.with_file_name(name);
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}
