//! Dials to addresses at which no peer answers: between two of them a node waits for a backoff that
//! doubles up to a limit, and nothing but an admitted peer ends it.

use std::collections::BTreeMap;

use super::{Oracles, Violation};

/// The first backoff and the longest one, in milliseconds, by the documentation of the node.
const BACKOFF_MS: (u64, u64) = (250, 5_000);
/// The same of a world in which nodes take rare valid paths.
const UNUSUAL_BACKOFF_MS: (u64, u64) = (20, 200);
/// Time in milliseconds by which the first dial may have taken longer on its way than a later one.
const SLACK_MS: u64 = 1_000;

/// The dials of one network service of a node to one address.
#[derive(Debug, Clone, Copy)]
struct Series {
    first_ms: u64,
    dials: u64,
    /// The least time from the first to the last dial.
    least_ms: u64,
}

/// The dials of all nodes to addresses without a peer.
#[derive(Debug)]
pub struct Dials {
    backoff_ms: (u64, u64),
    /// By node and address.
    series: BTreeMap<(u8, u8), Series>,
    /// Dials in all.
    dials: u64,
    /// The most dials of a series.
    longest: u64,
}

impl Dials {
    /// `has_buggify`: nodes take rare valid paths.
    pub fn new(has_buggify: bool) -> Self {
        let backoff_ms = if has_buggify {
            UNUSUAL_BACKOFF_MS
        } else {
            BACKOFF_MS
        };
        Self {
            backoff_ms,
            series: BTreeMap::new(),
            dials: 0,
            longest: 0,
        }
    }

    /// A network service begins, which dials each address at once.
    pub fn service_started(&mut self, node: u8) {
        self.series.retain(|(of, _), _| *of != node);
    }

    /// Checks a connection of a node to an address without a peer.
    ///
    /// # Errors
    /// [`Violation::DialledTooOften`].
    fn dialled(&mut self, at_ms: u64, node: u8, address: u8) -> Result<(), Violation> {
        self.dials += 1;
        let (initial_ms, max_ms) = self.backoff_ms;
        let Some(series) = self.series.get_mut(&(node, address)) else {
            let first = Series {
                first_ms: at_ms,
                dials: 1,
                least_ms: 0,
            };
            self.series.insert((node, address), first);
            return Ok(());
        };
        // Beyond 16 doublings every backoff is the longest one.
        let doublings = (series.dials - 1).min(16) as u32;
        series.least_ms += (initial_ms << doublings).min(max_ms);
        series.dials += 1;
        self.longest = self.longest.max(series.dials);
        let within_ms = at_ms - series.first_ms;
        if within_ms + SLACK_MS >= series.least_ms {
            return Ok(());
        }
        Err(Violation::DialledTooOften {
            node: node + 1,
            dials: series.dials,
            within_ms,
            least_ms: series.least_ms,
        })
    }

    /// The counters of a run.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("dials.hung-up", self.dials),
            ("dials.longest", self.longest),
        ];
        all.into_iter().filter(|(_, times)| *times > 0)
    }
}

impl Oracles {
    /// Checks a connection of a node to one of the addresses at which no peer answers.
    pub fn dialled(&mut self, at_ms: u64, node: u8, address: u8) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let result = self.dials.dialled(at_ms, node, address);
        self.note(at_ms, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of the first dial that is too early.
    fn first_too_early(dials: &mut Dials, gaps_ms: &[u64]) -> Option<usize> {
        let mut at_ms = 0;
        gaps_ms.iter().position(|gap| {
            at_ms += gap;
            dials.dialled(at_ms, 0, 1).is_err()
        })
    }

    #[test]
    fn dials_keep_their_backoff_until_the_service_restarts() {
        let doubling = [9, 250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000];
        assert_eq!(first_too_early(&mut Dials::new(false), &doubling), None);
        // 0.25, 0.75 and 1.75 s are due; 3.75 s are not over after 1 s.
        let constant = [9, 250, 250, 250, 250, 250];
        assert_eq!(first_too_early(&mut Dials::new(false), &constant), Some(4));
        assert_eq!(first_too_early(&mut Dials::new(true), &constant), None);
        let mut dials = Dials::new(false);
        assert_eq!(first_too_early(&mut dials, &constant[..4]), None);
        dials.service_started(1);
        assert!(dials.dialled(1_010, 0, 1).is_err(), "of another node");
        dials.service_started(0);
        assert_eq!(dials.dialled(1_020, 0, 1), Ok(()));
        assert_eq!(dials.dialled(1_030, 0, 0), Ok(()), "another address");
    }
}
