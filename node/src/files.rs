//! Files that a person names on the command line, read through the runtime's disk.

use std::io;
use std::path::{Path, PathBuf};

use alys_runtime::disk::Dir;

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
