//! Blame for peers that follow the protocol. A ban follows from several offences only, and a score
//! recovers, so each single report is judged: an honest node sends and forwards nothing that
//! another honest node may call invalid.

use alys_net::{GossipVerdict, Offence};

use super::{Oracles, Violation};

impl Oracles {
    /// Checks the report of a correct node about a peer. Offences of load and delay happen on bad
    /// links, and are counted only.
    pub fn blamed(&mut self, at_ms: u64, node: u8, peer: &str, offence: Offence) {
        let Some(blamed) = self.blameless(node, peer) else {
            return;
        };
        if offence.is_soft() {
            *self.heard.entry("blamed-for-load").or_default() += 1;
            return;
        }
        let violation = Violation::HonestPeerBlamed {
            node: node + 1,
            blamed: blamed + 1,
            why: format!("{offence:?}"),
        };
        self.note(at_ms, Err(violation));
    }

    /// Checks the verdict of a correct node on gossip that a peer forwarded.
    pub fn judged_gossip(&mut self, at_ms: u64, node: u8, peer: &str, verdict: GossipVerdict) {
        if verdict == GossipVerdict::Reject {
            self.blamed(at_ms, node, peer, Offence::InvalidGossip);
        }
    }

    /// The number, from 0, of a peer that must not be blamed. A node whose disk lied may serve
    /// anything, and refuse anything.
    fn blameless(&self, node: u8, peer: &str) -> Option<u8> {
        let peer = self.honest.get(peer).copied()?;
        let is_judged = !self.distrusted.contains(&node) && !self.distrusted.contains(&peer);
        is_judged.then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::blocks::tests::plan;

    fn oracles() -> Oracles {
        let mut oracles = Oracles::new(&plan());
        oracles.honest = [("honest".to_owned(), 2)].into();
        oracles
    }

    #[test]
    fn honest_peers_are_not_blamed() {
        let invalid = Offence::InvalidResponse;
        let mut all = oracles();
        all.blamed(5, 0, "stranger", invalid);
        all.blamed(5, 0, "honest", Offence::GossipFlood);
        all.judged_gossip(5, 0, "honest", GossipVerdict::Ignore);
        all.judged_gossip(5, 0, "stranger", GossipVerdict::Reject);
        assert_eq!(all.found, None);
        all.distrusted.insert(2);
        all.blamed(5, 0, "honest", invalid);
        assert_eq!(all.found, None, "its disk lied");
        all.distrusted.clear();
        all.blamed(5, 0, "honest", invalid);
        let name = |all: &Oracles| all.found.as_ref().map(|found| found.violation.name());
        assert_eq!(name(&all).as_deref(), Some("honest-peer-blamed"));
        let mut all = oracles();
        all.judged_gossip(5, 0, "honest", GossipVerdict::Reject);
        assert_eq!(name(&all).as_deref(), Some("honest-peer-blamed"));
    }
}
