//! What misbehaviour costs a peer, and when it is shut out. Pure; the time is an argument (milliseconds of a
//! monotonic clock).
//!
//! A score starts at 0 and only falls; it recovers a point a second. At [`BAN_AT`] the peer is banned: for
//! `ban_ms` the first time, twice as long each further time, forgotten after [`MEMORY_MS`] of good conduct.

use std::collections::BTreeMap;

use libp2p::PeerId;

/// The score at which a peer is banned.
pub const BAN_AT: i64 = -100;
/// Points that a score recovers a second.
pub const RECOVERY_PER_SECOND: i64 = 1;
/// Longest ban: a federation member that was repaired must not stay outside for a day.
pub const MAX_BAN_MS: u64 = 3_600_000;
/// After so long without a new ban the earlier ones no longer lengthen the next.
pub const MEMORY_MS: u64 = 3_600_000;
/// Most peers remembered. Identities are free to make, so the book must not grow with them.
pub const MAX_REMEMBERED: usize = 1024;

/// What a peer did wrong. The node above adds its own findings with [`crate::Command::Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// Gossip that the node rejected: does not decode, or is signed wrongly.
    InvalidGossip,
    /// A request that makes no sense.
    InvalidRequest,
    /// An answer that does not decode or is not what was asked for.
    InvalidResponse,
    /// Bytes on a stream that are no frame of the protocol.
    MalformedFrame,
    /// A frame that is longer than its protocol allows.
    OversizedFrame,
    /// More requests than the limits allow. An honest peer stops at the first refusal.
    RateExceeded,
    /// More gossip than the limits allow; counted for each message. A link that comes back brings a backlog,
    /// so one message too many says little.
    GossipFlood,
    /// An answer that did not come in time, from a peer that was alive meanwhile.
    SlowAnswer,
    /// No valid status within the handshake's time.
    NoStatus,
    /// Something only a faulty or hostile node does, such as a forged certificate. Banned at once.
    Hostile,
}

impl Offence {
    /// Points lost, positive.
    pub const fn points(self) -> i64 {
        match self {
            Self::InvalidGossip => 25,
            Self::InvalidRequest => 20,
            Self::InvalidResponse => 30,
            Self::MalformedFrame | Self::OversizedFrame => 50,
            Self::RateExceeded => 5,
            Self::GossipFlood => 1,
            Self::SlowAnswer => 2,
            Self::NoStatus => 20,
            Self::Hostile => 100,
        }
    }
}

/// What came of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Still welcome, with this score.
    Tolerated {
        /// The score after the report.
        score: i64,
    },
    /// Banned until then.
    Banned {
        /// End of the ban, milliseconds of the caller's clock.
        until_ms: u64,
    },
}

#[derive(Debug, Clone, Default)]
struct Record {
    score: i64,
    /// When `score` was brought up to date; the rest of a second is kept by moving this by whole seconds.
    at_ms: u64,
    bans: u32,
    banned_until_ms: u64,
}

impl Record {
    fn settle(&mut self, now_ms: u64) {
        let seconds = now_ms.saturating_sub(self.at_ms) / 1000;
        if self.score < 0 {
            let gained = i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(RECOVERY_PER_SECOND);
            self.score = self.score.saturating_add(gained).min(0);
        }
        self.at_ms = self.at_ms.saturating_add(seconds * 1000);
        if self.bans > 0 && now_ms >= self.banned_until_ms.saturating_add(MEMORY_MS) {
            self.bans = 0;
        }
    }

    fn is_banned(&self, now_ms: u64) -> bool {
        now_ms < self.banned_until_ms
    }

    fn is_clean(&self) -> bool {
        self.score == 0 && self.bans == 0
    }
}

/// Scores and bans of all peers.
#[derive(Debug)]
pub struct Scores {
    ban_ms: u64,
    records: BTreeMap<PeerId, Record>,
}

impl Scores {
    /// An empty book; a first ban lasts `ban_ms`.
    pub fn new(ban_ms: u64) -> Self {
        Self {
            ban_ms,
            records: BTreeMap::new(),
        }
    }

    /// The peer's score now: 0 is clean, [`BAN_AT`] is banned.
    pub fn score(&self, peer: &PeerId, now_ms: u64) -> i64 {
        self.records.get(peer).map_or(0, |record| {
            let mut record = record.clone();
            record.settle(now_ms);
            record.score
        })
    }

    /// Whether the peer is banned now.
    pub fn is_banned(&self, peer: &PeerId, now_ms: u64) -> bool {
        self.records
            .get(peer)
            .is_some_and(|record| record.is_banned(now_ms))
    }

    /// All bans in force, in order of peer id.
    pub fn banned(&self, now_ms: u64) -> impl Iterator<Item = PeerId> + '_ {
        self.records
            .iter()
            .filter(move |(_, record)| record.is_banned(now_ms))
            .map(|(peer, _)| *peer)
    }

    /// Takes the points off, and bans at the limit.
    pub fn report(&mut self, peer: PeerId, offence: Offence, now_ms: u64) -> Standing {
        let ban_ms = self.ban_ms;
        let record = self.record(peer, now_ms);
        if record.is_banned(now_ms) {
            return Standing::Banned {
                until_ms: record.banned_until_ms,
            };
        }
        record.score = record.score.saturating_sub(offence.points());
        if record.score > BAN_AT {
            return Standing::Tolerated {
                score: record.score,
            };
        }
        record.bans = record.bans.saturating_add(1);
        let doublings = (record.bans - 1).min(16);
        let length = ban_ms
            .saturating_mul(1 << doublings)
            .min(MAX_BAN_MS.max(ban_ms));
        record.banned_until_ms = now_ms.saturating_add(length);
        // Halfway: who comes back from a ban has little left to lose.
        record.score = BAN_AT / 2;
        Standing::Banned {
            until_ms: record.banned_until_ms,
        }
    }

    /// Bans for a given time, whatever the score. A longer ban in force stays.
    pub fn ban(&mut self, peer: PeerId, for_ms: u64, now_ms: u64) -> u64 {
        let record = self.record(peer, now_ms);
        record.banned_until_ms = record.banned_until_ms.max(now_ms.saturating_add(for_ms));
        record.banned_until_ms
    }

    /// Forgets the peer's ban and score: an operator's decision.
    pub fn pardon(&mut self, peer: &PeerId) {
        self.records.remove(peer);
    }

    fn record(&mut self, peer: PeerId, now_ms: u64) -> &mut Record {
        if !self.records.contains_key(&peer) && self.records.len() >= MAX_REMEMBERED {
            self.make_room(now_ms);
        }
        let record = self.records.entry(peer).or_insert_with(|| Record {
            at_ms: now_ms,
            ..Record::default()
        });
        record.settle(now_ms);
        record
    }

    /// Drops the clean records; when there are none, the one whose loss matters least: not banned, highest
    /// score.
    fn make_room(&mut self, now_ms: u64) {
        for record in self.records.values_mut() {
            record.settle(now_ms);
        }
        self.records
            .retain(|_, record| !record.is_clean() || record.is_banned(now_ms));
        if self.records.len() < MAX_REMEMBERED {
            return;
        }
        let victim = self
            .records
            .iter()
            .min_by_key(|(peer, r)| (r.is_banned(now_ms), r.banned_until_ms, -r.score, **peer))
            .map(|(peer, _)| *peer);
        if let Some(peer) = victim {
            self.records.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::tests::peer;

    #[test]
    fn reports_follow_the_table() {
        use Offence::*;
        use Standing::*;
        // One peer, first ban 1000 ms. (at ms, offence, what comes of it).
        let table = [
            (0, InvalidGossip, Tolerated { score: -25 }),
            (0, InvalidGossip, Tolerated { score: -50 }),
            (999, RateExceeded, Tolerated { score: -55 }),
            (10_000, RateExceeded, Tolerated { score: -50 }),
            (10_000, OversizedFrame, Banned { until_ms: 11_000 }),
            (10_500, Hostile, Banned { until_ms: 11_000 }),
            (11_000, RateExceeded, Tolerated { score: -54 }),
            (11_000, OversizedFrame, Banned { until_ms: 13_000 }),
            (13_000, Hostile, Banned { until_ms: 17_000 }),
            // An hour later both score and count of bans are forgotten.
            (17_000 + MEMORY_MS, RateExceeded, Tolerated { score: -5 }),
            (
                17_000 + MEMORY_MS,
                Hostile,
                Banned {
                    until_ms: 18_000 + MEMORY_MS,
                },
            ),
        ];
        let mut scores = Scores::new(1000);
        for (row, (at, offence, expected)) in table.into_iter().enumerate() {
            assert_eq!(scores.report(peer(1), offence, at), expected, "row {row}");
        }
    }

    #[test]
    fn a_ban_is_in_force_until_its_end_and_for_its_peer_only() {
        let mut scores = Scores::new(1000);
        scores.report(peer(1), Offence::Hostile, 5);
        for (at, banned) in [(5, true), (1004, true), (1005, false)] {
            assert_eq!(scores.is_banned(&peer(1), at), banned, "at {at}");
            assert_eq!(
                scores.banned(at).collect::<Vec<_>>(),
                if banned { vec![peer(1)] } else { vec![] }
            );
        }
        assert!(!scores.is_banned(&peer(2), 5));
        assert_eq!(scores.ban(peer(2), 10, 0), 10);
        assert_eq!(
            scores.ban(peer(2), 5, 0),
            10,
            "a shorter ban does not replace a longer one"
        );
        scores.pardon(&peer(2));
        assert!(!scores.is_banned(&peer(2), 5));
    }

    #[test]
    fn bans_double_up_to_an_hour() {
        let mut scores = Scores::new(60_000);
        let mut now = 0;
        for expected in [
            60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000, 3_600_000, 3_600_000,
        ] {
            assert_eq!(
                scores.report(peer(1), Offence::Hostile, now),
                Standing::Banned {
                    until_ms: now + expected
                }
            );
            now += expected;
        }
    }

    #[test]
    fn the_book_is_bounded_and_keeps_bans() {
        let mut scores = Scores::new(1_000_000);
        scores.report(peer(0), Offence::Hostile, 0);
        for n in 1..=(MAX_REMEMBERED as u32 + 50) {
            scores.report(peer(n), Offence::RateExceeded, 0);
        }
        assert_eq!(scores.records.len(), MAX_REMEMBERED);
        assert!(scores.is_banned(&peer(0), 1));
    }
}
