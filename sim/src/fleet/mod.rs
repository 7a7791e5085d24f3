//! Many runs: one process each, sweeps over seeds, their ledger, and what is derived from them.

pub mod coverage;
pub mod ledger;
pub mod process;
pub mod rules;
pub mod shards;
pub mod shrink;
pub mod sweep;

use std::io;
use std::path::{Path, PathBuf};

/// Writes a file at once: who reads it finds the old one or the whole new one.
///
/// # Errors
/// What the system says.
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
