//! Peer scores and bans. Pure; the time is an argument, in milliseconds of a monotonic clock.
//!
//! A score starts at 0, falls with each offence, and recovers by [`RECOVERY_PER_SECOND`] up to 0.
//! At [`BAN_AT`] the peer is banned: for `ban_ms` the first time, and twice as long each further
//! time. Earlier bans are forgotten after [`MEMORY_MS`] without a new one.

use std::collections::BTreeMap;

use libp2p::PeerId;

/// The score at which a peer is banned.
pub const BAN_AT: i64 = -100;
pub const RECOVERY_PER_SECOND: i64 = 1;
/// Longest ban. A repaired member of the federation must not stay excluded for a day.
pub const MAX_BAN_MS: u64 = 3_600_000;
/// After this time without a new ban, earlier bans no longer lengthen the next one.
pub const MEMORY_MS: u64 = 3_600_000;
/// Limit of remembered peers, because a peer can create identities at no cost.
pub const MAX_REMEMBERED: usize = 1024;

/// Misbehaviour of a peer. The node reports the offences that it detects with
/// [`crate::Command::Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// Gossip that the node rejected: it does not decode, or its signature is invalid.
    InvalidGossip,
    /// A request that does not decode or violates its protocol.
    InvalidRequest,
    /// An answer that does not decode or does not match the request.
    InvalidResponse,
    /// Bytes that are not a frame of the stream's protocol.
    MalformedFrame,
    /// A frame longer than its protocol allows.
    OversizedFrame,
    /// More requests than the rate allows. An honest peer stops at the first refusal.
    RateExceeded,
    /// More gossip than the rate allows, counted per message. It costs little, because a link that
    /// recovers delivers a backlog.
    GossipFlood,
    /// No answer in time from a peer that was alive meanwhile.
    SlowAnswer,
    /// No valid status within [`crate::Timing::handshake_timeout`].
    NoStatus,
    /// Behaviour that no honest node can show, such as a forged certificate. Leads to an immediate
    /// ban.
    Hostile,
}

impl Offence {
    /// Points that the offence costs, positive.
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

    /// True for offences of load and delay, which an honest peer commits on a bad link or behind a
    /// flood of others. They never ban a peer that the federation needs: a known one, or an
    /// authority.
    pub const fn is_soft(self) -> bool {
        match self {
            Self::RateExceeded | Self::GossipFlood | Self::SlowAnswer | Self::NoStatus => true,
            Self::InvalidGossip
            | Self::InvalidRequest
            | Self::InvalidResponse
            | Self::MalformedFrame
            | Self::OversizedFrame
            | Self::Hostile => false,
        }
    }
}

/// The state of a peer after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not banned.
    Tolerated { score: i64 },
    /// Banned until `until_ms` of the caller's clock.
    Banned { until_ms: u64 },
}

#[derive(Debug, Clone, Default)]
struct PeerScore {
    score: i64,
    /// The time of the last recovery. It advances by whole seconds, so that fractions of a second
    /// are kept.
    recovered_ms: u64,
    bans: u32,
    banned_until_ms: u64,
}

impl PeerScore {
    /// Applies the recovery since the last call.
    fn recover(&mut self, now_ms: u64) {
        let seconds = now_ms.saturating_sub(self.recovered_ms) / 1000;
        if self.score < 0 {
            let gained = i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(RECOVERY_PER_SECOND);
            self.score = self.score.saturating_add(gained).min(0);
        }
        self.recovered_ms = self.recovered_ms.saturating_add(seconds * 1000);
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
    peers: BTreeMap<PeerId, PeerScore>,
}

impl Scores {
    /// `ban_ms` is the duration of a first ban.
    pub fn new(ban_ms: u64) -> Self {
        Self {
            ban_ms,
            peers: BTreeMap::new(),
        }
    }

    /// The peer's score at `now_ms`, from [`BAN_AT`] to 0.
    pub fn score(&self, peer: &PeerId, now_ms: u64) -> i64 {
        self.peers.get(peer).map_or(0, |peer| {
            let mut peer = peer.clone();
            peer.recover(now_ms);
            peer.score
        })
    }

    pub fn is_banned(&self, peer: &PeerId, now_ms: u64) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|peer| peer.is_banned(now_ms))
    }

    /// True if the peer was banned, and the ban is not forgotten.
    pub fn was_banned(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.bans > 0)
    }

    /// The banned peers, sorted.
    pub fn banned(&self, now_ms: u64) -> impl Iterator<Item = PeerId> + '_ {
        self.peers
            .iter()
            .filter(move |(_, peer)| peer.is_banned(now_ms))
            .map(|(id, _)| *id)
    }

    /// Deducts the points of an offence, and bans the peer when its score reaches [`BAN_AT`].
    pub fn report(&mut self, peer: PeerId, offence: Offence, now_ms: u64) -> Standing {
        let ban_ms = self.ban_ms;
        let peer = self.peer(peer, now_ms);
        if peer.is_banned(now_ms) {
            return Standing::Banned {
                until_ms: peer.banned_until_ms,
            };
        }
        peer.score = peer.score.saturating_sub(offence.points());
        if peer.score > BAN_AT {
            return Standing::Tolerated { score: peer.score };
        }
        peer.bans = peer.bans.saturating_add(1);
        let doublings = (peer.bans - 1).min(16);
        let length = ban_ms
            .saturating_mul(1 << doublings)
            .min(MAX_BAN_MS.max(ban_ms));
        peer.banned_until_ms = now_ms.saturating_add(length);
        // Only half of the points are restored, so that a peer which misbehaves after a ban is
        // banned again soon.
        peer.score = BAN_AT / 2;
        Standing::Banned {
            until_ms: peer.banned_until_ms,
        }
    }

    /// Bans for `for_ms`, regardless of the score, and returns the end of the ban. A longer ban in
    /// force stays.
    pub fn ban(&mut self, peer: PeerId, for_ms: u64, now_ms: u64) -> u64 {
        let peer = self.peer(peer, now_ms);
        peer.banned_until_ms = peer.banned_until_ms.max(now_ms.saturating_add(for_ms));
        peer.banned_until_ms
    }

    /// Forgets score and bans of the peer.
    pub fn pardon(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    fn peer(&mut self, peer: PeerId, now_ms: u64) -> &mut PeerScore {
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_REMEMBERED {
            self.make_room(now_ms);
        }
        let peer = self.peers.entry(peer).or_insert_with(|| PeerScore {
            recovered_ms: now_ms,
            ..PeerScore::default()
        });
        peer.recover(now_ms);
        peer
    }

    /// Evicts the peers without points or bans; if there are none, one peer that is not banned,
    /// with the highest score.
    fn make_room(&mut self, now_ms: u64) {
        for peer in self.peers.values_mut() {
            peer.recover(now_ms);
        }
        self.peers
            .retain(|_, peer| !peer.is_clean() || peer.is_banned(now_ms));
        if self.peers.len() < MAX_REMEMBERED {
            return;
        }
        let victim = self
            .peers
            .iter()
            .min_by_key(|(id, peer)| {
                (
                    peer.is_banned(now_ms),
                    peer.banned_until_ms,
                    -peer.score,
                    **id,
                )
            })
            .map(|(id, _)| *id);
        if let Some(id) = victim {
            self.peers.remove(&id);
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
        // (at ms, offence, standing) of one peer with a first ban of 1000 ms
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
            // An hour later the score has recovered and the bans are forgotten.
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
    fn a_ban_applies_to_its_peer_until_its_end() {
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
    fn remembered_peers_are_bounded_and_bans_are_kept() {
        let mut scores = Scores::new(1_000_000);
        scores.report(peer(0), Offence::Hostile, 0);
        for n in 1..=(MAX_REMEMBERED as u32 + 50) {
            scores.report(peer(n), Offence::RateExceeded, 0);
        }
        assert_eq!(scores.peers.len(), MAX_REMEMBERED);
        assert!(scores.is_banned(&peer(0), 1));
    }
}
