//! Byzantine authorities that withhold votes, or send them at the edge of their slot.

use std::time::Duration;

use alys_net::Command;
use alys_types::VoteKind;

use super::{Byzantine, KEPT_SLOTS, Said, now};

impl Byzantine {
    /// Drops the messages of some kinds of votes, drawn for each slot.
    pub(super) fn withhold(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let Some(target) = Said::read(&command).target() else {
            return now(command);
        };
        let slot = target.slot.0;
        if !self.kept_back.contains_key(&slot) {
            let drawn = [self.flip(), self.flip(), self.flip()];
            self.kept_back.insert(slot, drawn);
            while self.kept_back.len() > KEPT_SLOTS {
                self.kept_back.pop_first();
            }
        }
        let is_kept_back = self
            .kept_back
            .get(&slot)
            .is_some_and(|kinds| match target.kind {
                VoteKind::Proposal => kinds[0],
                VoteKind::Approval => kinds[1],
                VoteKind::Confirmation => kinds[2],
            });
        if is_kept_back {
            self.did();
            Vec::new()
        } else {
            now(command)
        }
    }

    /// Delays the messages of a slot to its end: shortly before it, so that they are in time for
    /// some nodes only, or after it within the drift allowance.
    pub(super) fn delay(&mut self, command: Command) -> Vec<(Duration, Command)> {
        /// Approximate latency of a message to other nodes.
        const WAY_MS: u64 = 30;
        let Some(target) = Said::read(&command).target() else {
            return now(command);
        };
        let drift_ms = self.genesis.spec().drift_allowance_ms;
        let end_ms = target.slot.next().start_ms(self.slots.slot_ms);
        let edge_ms = (end_ms.saturating_sub(WAY_MS)) + self.rng.below(drift_ms + WAY_MS);
        let wait = edge_ms.saturating_sub(self.now_ms());
        if wait > 0 {
            self.did();
        }
        vec![(Duration::from_millis(wait), command)]
    }
}
