//! Events of a run, and what is kept of them.
//!
//! **Owns** the recorder. **Promises** that recording changes nothing of a run, and that what is kept stays within limits, so
//! that a page of it stays below its own ([`crate::report`]). **Never** judges.

mod messages;
mod recorder;
mod shapes;
mod words;

pub use recorder::{Record, Recorder};
pub use shapes::{Kind, Window};

use crate::params::parse_duration;

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
