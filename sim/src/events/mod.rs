//! Pages: what happened in a run, and what a sweep came to, each as one HTML file that needs nothing else.
//!
//! **Owns** the recorder, the pages' data, and the pages themselves: `*.html`, `*.css` and `*.js` in [`html`], which are
//! put into one with the data. **Promises** that a page makes no request, that a page of a run stays below [`MAX_PAGE`], and
//! that recording changes nothing of a run. **Never** judges: a page shows what oracles found.

pub mod html;
mod messages;
mod recorder;
mod shapes;
mod words;

use std::io;
use std::path::{Path, PathBuf};

pub use html::{MAX_PAGE, page_name, run_page, sweep_page};
pub use recorder::{Record, Recorder};
pub use shapes::Window;

use crate::plan::parse_duration;

/// Reads `12s..15.5s`.
///
/// # Errors
/// What would be understood.
pub fn parse_window(text: &str) -> Result<Window, String> {
    let error = || format!("{text:?}: messages are wanted of a part of the run, as 12s..15.5s");
    let (from, to) = text.split_once("..").ok_or_else(error)?;
    let us = |text: &str| {
        parse_duration(text)
            .map(|ms| ms * 1_000)
            .map_err(|_| error())
    };
    let (from_us, to_us) = (us(from)?, us(to)?);
    if from_us < to_us {
        Ok(Window { from_us, to_us })
    } else {
        Err(error())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_two_moments() {
        assert_eq!(
            parse_window("12s..15.5s"),
            Ok(Window {
                from_us: 12_000_000,
                to_us: 15_500_000
            })
        );
        for wrong in ["", "12s", "12s..", "15s..12s", "1..2"] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
    }
}
