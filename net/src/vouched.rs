//! Peers that proved an authority's key.

use std::collections::VecDeque;

use alys_types::bls::PublicKeyBytes;
use alys_types::limits::MAX_AUTHORITIES;
use libp2p::PeerId;

/// Peers for each key: an authority has one node, and a few more ids after its operator replaced
/// the node or its network key.
const MAX_PER_KEY: usize = 4;
/// Peers of all keys: room for `MAX_PER_KEY` of every authority, so that peers of one key do not
/// displace those of another.
pub const MAX_VOUCHED: usize = MAX_AUTHORITIES * MAX_PER_KEY;

/// Peers that proved an authority's key, the oldest proof first. Beyond four peers of a key its
/// oldest one leaves. Beyond [`MAX_VOUCHED`] peers the oldest of all leaves, which happens only
/// while the peers of an earlier authority set are not removed yet.
#[derive(Debug, Default)]
pub struct Vouched(VecDeque<(PeerId, PublicKeyBytes)>);

impl Vouched {
    /// Returns the peer that leaves to make room.
    pub fn insert(&mut self, peer: PeerId, key: PublicKeyBytes) -> Option<PeerId> {
        self.0.retain(|(known, _)| *known != peer);
        self.0.push_back((peer, key));
        let of_key = self.0.iter().filter(|(_, of)| *of == key).count();
        let leaving = if of_key > MAX_PER_KEY {
            self.0.iter().position(|(_, of)| *of == key)
        } else {
            (self.0.len() > MAX_VOUCHED).then_some(0)
        };
        let (left, _) = self.0.remove(leaving?)?;
        Some(left)
    }

    /// Removes the peers of all other keys and returns them.
    pub fn retain(&mut self, keys: &[PublicKeyBytes]) -> Vec<PeerId> {
        let all = std::mem::take(&mut self.0);
        let (kept, removed): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|(_, key)| keys.contains(key));
        self.0 = kept;
        removed.into_iter().map(|(peer, _)| peer).collect()
    }

    /// The key that the peer proved.
    pub fn key_of(&self, peer: &PeerId) -> Option<PublicKeyBytes> {
        let found = self.0.iter().find(|(known, _)| known == peer);
        found.map(|(_, key)| *key)
    }

    pub fn contains(&self, peer: &PeerId) -> bool {
        self.key_of(peer).is_some()
    }

    pub fn entries(&self) -> usize {
        self.0.len()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
