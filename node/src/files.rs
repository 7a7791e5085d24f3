//! Reading and writing the files that a person names on the command line, by the runtime's disk.

use std::io;
use std::path::{Path, PathBuf};

use alys_runtime::disk::Dir;

/// Largest file that is read as a whole: an execution genesis with many contracts stays far below.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    /// The path does not end in a file name.
    #[error("{} is not the path of a file", path.display())]
    NoName { path: PathBuf },
    /// Not UTF-8, or too long to be what it should be.
    #[error("{} is not a text file", path.display())]
    NoText { path: PathBuf },
    /// The system refuses.
    #[error("{source}")]
    Io {
        /// Names the path.
        #[from]
        source: io::Error,
    },
}

/// The text of the file at `path`. Makes no directories.
///
/// # Errors
/// See [`FileError`].
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let bytes = read(path)?;
    match String::from_utf8(bytes) {
        Ok(text) if text.len() <= MAX_TEXT_BYTES => Ok(text),
        _ => Err(FileError::NoText {
            path: path.to_owned(),
        }),
    }
}

/// The bytes of the file at `path`. Makes no directories.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let (parent, name) = split(path)?;
    let missing = || FileError::Missing {
        path: path.to_owned(),
    };
    // Opening a directory makes it when it is missing, which reading must not do.
    if !parent.is_dir() {
        return Err(missing());
    }
    Dir::open(parent)?.read(&name)?.ok_or_else(missing)
}

/// The directory of `path` and the file's name in it.
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

/// True when the system says that this place cannot be written to.
pub fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
