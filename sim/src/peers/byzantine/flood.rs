//! Byzantine authorities that sign without end.

use std::time::Duration;

use alys_net::{Command, Topic};
use alys_types::{Hash, Height, Slot, VoteTarget};

use super::{Byzantine, Said, now, publish};

/// More than twice as many as nodes take from one peer in the long run, so that the budget of its
/// bursts is used up within a dozen seconds.
const VOTES_PER_SECOND: u64 = 300;

impl Byzantine {
    /// Follows the own approval of each slot by approvals of blocks that do not exist, one after
    /// the other for as long as a slot. Their signatures are valid, so nodes can blame this
    /// authority only for their number. In the second half they are of the next slot and height:
    /// this one is decided by then, and a clock within the drift allowance may be in the next.
    pub(super) fn flood(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let own = match Said::read(&command) {
            Said::Approval(vote) => vote.target,
            Said::Proposal(_) | Said::Confirmation(_) | Said::Else => return now(command),
        };
        let mut all = now(command);
        // A node rebroadcasts its approvals.
        if self.flooded.is_some_and(|last| own.slot <= last) {
            return all;
        }
        self.flooded = Some(own.slot);
        for number in 0..VOTES_PER_SECOND * self.slots.slot_ms / 1_000 {
            self.did();
            let mut hash = [0xf1; 32];
            hash[..8].copy_from_slice(&self.changed.to_le_bytes());
            let wait_ms = 1 + number * 1_000 / VOTES_PER_SECOND;
            let later = u64::from(wait_ms > self.slots.slot_ms / 2);
            let vote = self.sign(VoteTarget {
                hash: Hash(hash),
                slot: Slot(own.slot.0 + later),
                height: Height(own.height.0 + later),
                ..own
            });
            all.push((
                Duration::from_millis(wait_ms),
                publish(Topic::Approvals, &vote),
            ));
        }
        all
    }
}
