//! Finds the first event in which two runs of one seed differ.
//!
//! Two fresh processes run the seed and record intermediate trace hashes. Both then run again and
//! print every event between the last equal pair of hashes and the first unequal one.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use alys_runtime::sim::World;
use serde::{Deserialize, Serialize};

use crate::run::outcome::Mark;

/// Number of equal events that are shown before the first difference.
pub const SHOWN_BEFORE: usize = 10;

/// An event in the form in which two runs are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The event's number, from 1.
    pub number: u64,
    /// Simulated time.
    pub at_ns: u64,
    /// The simulator's number of the machine on which the event occurred.
    pub node: u32,
    /// The event's type.
    pub kind: String,
    /// The first bytes of the hashed payload in hex, its length and its digest.
    pub payload: String,
    /// A description for readers; it is not hashed.
    pub detail: String,
}

impl Record {
    /// Formats the event as one line of text.
    pub fn line(&self) -> String {
        let Self {
            number,
            at_ns,
            node,
            kind,
            payload,
            detail,
        } = self;
        let ms = *at_ns as f64 / 1e6;
        format!("event {number} at {ms:.6} ms, machine {node}: {kind} {detail} [{payload}]")
    }
}

/// Limit on the payload bytes that are shown; the digest covers all of them.
const SHOWN_BYTES: usize = 64;

/// Prints the events of `window` to standard error, as one JSON object per line.
pub fn tell(world: World, window: RangeInclusive<u64>) {
    world.add_sink(Box::new(move |event| {
        if !window.contains(&event.number) {
            return;
        }
        let shown = &event.payload[..event.payload.len().min(SHOWN_BYTES)];
        let record = Record {
            number: event.number,
            at_ns: event.at.as_nanos() as u64,
            node: event.node.0,
            kind: event.kind.to_owned(),
            payload: format!(
                "{}, {} bytes, digest {:08x}",
                hex::encode(shown),
                event.payload.len(),
                digest(event.payload)
            ),
            detail: event.detail.to_string(),
        };
        if let Ok(line) = serde_json::to_string(&record) {
            eprintln!("{line}");
        }
    }));
}

/// A short hash that distinguishes payloads with the same first bytes.
fn digest(bytes: &[u8]) -> u32 {
    use sha2::{Digest, Sha256};
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// The events among which two runs diverge, by their intermediate hashes: from the event after the
/// last equal hash to that of the first unequal hash, or unbounded when one run merely continues.
/// `None` when the runs do not diverge.
pub fn window(one: &[Mark], other: &[Mark], same_in_the_end: bool) -> Option<RangeInclusive<u64>> {
    if same_in_the_end {
        return None;
    }
    // Only marks that both runs have are compared: the distance between marks depends on a run's
    // length, because a long run discards some of them.
    let mut equal = 0;
    for mark in one {
        let Some(same) = other.iter().find(|other| other.events == mark.events) else {
            continue;
        };
        if same != mark {
            return Some(equal + 1..=mark.events);
        }
        equal = mark.events;
    }
    Some(equal + 1..=u64::MAX)
}

/// The first difference between two recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The last equal events.
    pub before: Vec<Record>,
    /// The event of the first recording; `None` when it ended before.
    pub one: Option<Record>,
    /// The event of the second recording; `None` when it ended before.
    pub other: Option<Record>,
}

/// Compares two recordings of the same window; `None` when they are equal.
pub fn first_difference(one: &[Record], other: &[Record]) -> Option<Parting> {
    let mut before = VecDeque::new();
    for index in 0..one.len().max(other.len()) {
        let a = one.get(index);
        let b = other.get(index);
        if a != b {
            return Some(Parting {
                before: before.into(),
                one: a.cloned(),
                other: b.cloned(),
            });
        }
        before.extend(a.cloned());
        if before.len() > SHOWN_BEFORE {
            before.pop_front();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(events: u64, hash: &str) -> Mark {
        Mark {
            events,
            at_ms: events,
            hash: hash.to_owned(),
        }
    }

    #[test]
    fn runs_part_after_the_last_equal_hash() {
        let one = [mark(10, "a"), mark(20, "b"), mark(30, "c")];
        assert_eq!(window(&one, &one, true), None);
        assert_eq!(
            window(&one, &one, false),
            Some(31..=u64::MAX),
            "behind the last mark"
        );
        assert_eq!(
            window(&one, &[mark(10, "a"), mark(20, "x"), mark(30, "y")], false),
            Some(11..=20)
        );
        assert_eq!(window(&one, &[mark(10, "x")], false), Some(1..=10));
        assert_eq!(
            window(&one, &[mark(20, "b"), mark(40, "z")], false),
            Some(21..=u64::MAX),
            "another step"
        );
        assert_eq!(window(&[], &one, false), Some(1..=u64::MAX));
    }

    #[test]
    fn the_first_difference_is_named_with_what_was_before() {
        let record = |number: u64, kind: &str| Record {
            number,
            at_ns: number,
            node: 1,
            kind: kind.to_owned(),
            payload: String::new(),
            detail: String::new(),
        };
        let one: Vec<Record> = (1..=50).map(|n| record(n, "same")).collect();
        assert_eq!(first_difference(&one, &one), None);
        let mut other = one.clone();
        other[30] = record(31, "other");
        let parting = first_difference(&one, &other).expect("they differ");
        assert_eq!(
            (parting.one, parting.other),
            (Some(record(31, "same")), Some(record(31, "other")))
        );
        assert_eq!(parting.before, one[20..30]);
        let shorter = first_difference(&one, &one[..7]).expect("one ends");
        assert_eq!(
            (shorter.one, shorter.other),
            (Some(record(8, "same")), None)
        );
    }
}
