//! Files that a person names on the command line, read through the runtime's disk.

use std::io;
use std::path::{Path, PathBuf};

use alys_runtime::disk::Dir;
use zeroize::Zeroizing;

/// Largest file that is read as a whole: an execution genesis with many contracts stays far below.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Reason for which a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    /// The path does not end in a file name.
    #[error("{} is not the path of a file", path.display())]
    NoName { path: PathBuf },
    /// Not UTF-8, or larger than [`MAX_TEXT_BYTES`].
    #[error("{} is not a text file", path.display())]
    NoText { path: PathBuf },
    #[error("{source}")]
    Io {
        /// The runtime's disk names the path in it.
        #[from]
        source: io::Error,
    },
}

/// Reads the text file at `path`. Creates no directories.
///
/// # Errors
/// Any [`FileError`].
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let bytes = read(path)?;
    match String::from_utf8(bytes) {
        Ok(text) if text.len() <= MAX_TEXT_BYTES => Ok(text),
        _ => Err(FileError::NoText {
            path: path.to_owned(),
        }),
    }
}

/// Reads the text file at `path`, which is secret, and warns when all users of the machine can read
/// it. Access by a group is taken for intended: a node and its execution client may share a secret
/// so.
///
/// # Errors
/// Any [`FileError`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let text = Zeroizing::new(read_text(path)?);
    if is_open_to_all(path) {
        tracing::warn!(
            file = %path.display(),
            "all users of this machine can read the file of a secret: `chmod o-r` it"
        );
    }
    Ok(text)
}

/// True if every user of the machine can read the file.
fn is_open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    const READABLE_BY_OTHERS: u32 = 0o004;
    path.metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & READABLE_BY_OTHERS != 0)
}

/// Reads the file at `path`. Creates no directories.
///
/// # Errors
/// Any [`FileError`] but `NoText`.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let (parent, name) = split(path)?;
    let missing = || FileError::Missing {
        path: path.to_owned(),
    };
    // `Dir::open` would create a missing directory.
    if !parent.is_dir() {
        return Err(missing());
    }
    Dir::open(parent)?.read(&name)?.ok_or_else(missing)
}

/// Splits `path` into its directory and the name of the file.
///
/// # Errors
/// [`FileError::NoName`].
pub fn split(path: &Path) -> Result<(&Path, String), FileError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| FileError::NoName {
        path: path.to_owned(),
    })?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((parent, name.to_owned()))
}

/// True for errors of a place that is not writable.
pub fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_all_users_can_read_is_noticed_and_used() {
        // The simulated disk has no owners.
        if alys_runtime::is_simulated() {
            return;
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = Dir::open(temporary.path()).expect("a directory");
        dir.write_atomic("open", b"pw\n").expect("writable");
        dir.write_atomic_private("private", b"pw\n")
            .expect("writable");
        for (name, is_open) in [("open", true), ("private", false)] {
            let path = dir.path().join(name);
            assert_eq!(is_open_to_all(&path), is_open, "{name}");
            assert_eq!(*read_secret(&path).expect("readable"), "pw\n");
        }
        assert!(!is_open_to_all(&dir.path().join("missing")));
    }
}
