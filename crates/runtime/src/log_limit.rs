//! A limit on the log lines that remote input causes. Pure; the time is an argument.
//!
//! Peer ids and connections cost nothing, so a line for each offence would let strangers fill the
//! log, and hide the lines that the operator has to read. Each kind of line has a limit of its own. Lines
//! beyond it are logged at DEBUG, and the next line within it states their number.

use std::time::Duration;

use crate::time::Instant;

/// Lines of one kind within [`WINDOW`]: enough to show that it is not a single peer.
pub const MAX_LINES: u32 = 5;
/// The limit applies to each of these periods; the first begins with the first line.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The limit of one kind of line.
#[derive(Debug, Default)]
pub struct LogLimit {
    begun: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// Counts an occurrence. Returns the number of those left out since the last line, or `None` if
    /// another line would exceed the limit.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let is_over = |begun: Instant| now.saturating_duration_since(begun) >= WINDOW;
        if self.begun.is_none_or(is_over) {
            self.begun = Some(now);
            self.lines = 0;
        }
        if self.lines < MAX_LINES {
            self.lines += 1;
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out = self.left_out.saturating_add(1);
        None
    }

    /// Occurrences left out since the last line.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_the_table() {
        crate::block_on_main(async {
            let start = crate::time::now();
            // (seconds, occurrences, lines, the number left out in the first of them)
            let table = [
                (0, 3, 3, Some(0)),
                (59, 100, 2, Some(0)),
                (59, 1, 0, None),
                (60, 1, 1, Some(99)),
                (61, 9, 4, Some(0)),
                (300, 5, 5, Some(5)),
            ];
            let mut limit = LogLimit::default();
            for (seconds, occurrences, lines, left_out) in table {
                let now = start + Duration::from_secs(seconds);
                let admitted = (0..occurrences).filter_map(|_| limit.admit(now));
                let admitted: Vec<u64> = admitted.collect();
                assert_eq!(admitted.len(), lines, "at {seconds} s");
                assert_eq!(admitted.first().copied(), left_out, "at {seconds} s");
            }
        });
    }
}
