//! Cheap decisions about votes and proposals before their signatures are checked. Pure: the slots
//! are arguments, and the ChainActor carries the decisions out.
//!
//! A signature check takes two milliseconds, and every node checks and forwards the messages that
//! an authority signs. So a Byzantine authority could occupy the whole federation with valid votes
//! for random hashes. An honest authority signs one block in each slot and kind, and two are the
//! evidence of an equivocation; no more are checked or forwarded. A message counts for its signer
//! only after its check, because a forged one must not use up the share of the authority that it
//! names. Checks under way count for the peer that sent the messages, so a burst of one peer is not
//! checked whole before the first answer, and a forger delays its own messages only. Messages of
//! strangers wait in the queue of the ValidationActor and do not count here.

use std::collections::BTreeMap;

use alys_consensus::VerifiedVote;
use alys_net::PeerId;
use alys_types::{Hash, Slot, Vote, VoteKind, VoteTarget};

/// Different blocks of one signer, slot and kind that are checked: one, and the evidence against
/// it.
pub const MAX_DIFFERENT: usize = 2;
/// Entries of the table. A federation of 15 makes 31 in a slot, and they are dropped when a later
/// slot is final, so this covers two minutes without finality; then the lowest slots are forgotten
/// and would be checked again. The table of checks under way has the same limit; answers empty it.
pub const MAX_ENTRIES: usize = 4096;

/// Time after which the answer to a check counts as lost, because overloaded mailboxes drop
/// messages. The check of a known peer's message waits at most for one mailbox full of such checks,
/// about two seconds.
pub const LOST_AFTER_MS: u64 = 5_000;

/// Slot, kind, signer, and hash of the set to which the signer's index refers.
type Key = (Slot, VoteKind, u8, Hash);

/// A message that was checked.
#[derive(Debug, Clone, Copy)]
struct Seen {
    hash: Hash,
    /// `None` for a proposal, which is more than its vote.
    vote: Option<VerifiedVote>,
}

/// A vote, or the vote under a proposal, whose check counts for its signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    key: Key,
    hash: Hash,
}

impl Counted {
    /// `set` is the hash of the set to check the vote against.
    pub fn new(vote: &Vote, set: Hash) -> Counted {
        Counted {
            key: key(&vote.target, vote.signer, set),
            hash: vote.target.hash,
        }
    }
}

/// Checks of one peer's messages that have no answer yet.
#[derive(Debug, Clone, Copy, Default)]
struct UnderWay {
    checks: usize,
    /// Time at which the last one began.
    since_ms: u64,
}

/// Slots whose votes are still useful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Slot of the last final block: it and all slots below are decided.
    pub last_final: Slot,
    /// The latest slot that an honest authority may be in.
    pub latest: Slot,
}

impl Window {
    fn contains(self, slot: Slot) -> bool {
        slot > self.last_final && slot <= self.latest
    }
}

/// Decision about a vote or proposal.
#[derive(Debug, Clone, Copy)]
pub enum Screened {
    /// Its signature must be checked.
    Check,
    /// Exactly this vote was checked before.
    Checked(VerifiedVote),
    /// Its slot is decided already, or too far ahead of the clock.
    OutsideWindow,
    /// Its signer has named [`MAX_DIFFERENT`] other blocks in this slot.
    Excess,
}

/// The messages of authorities that were checked.
#[derive(Debug, Default)]
pub struct Screen {
    seen: BTreeMap<Key, Vec<Seen>>,
    /// By the peer that sent the messages; `None` is this node.
    under_way: BTreeMap<(Key, Option<PeerId>), UnderWay>,
}

impl Screen {
    /// Decides about a vote, or the vote under a proposal. `set` is the hash of the set to check it
    /// against.
    pub fn screen(&self, vote: &Vote, set: Hash, window: Window) -> Screened {
        if !window.contains(vote.target.slot) {
            return Screened::OutsideWindow;
        }
        let Some(seen) = self.seen.get(&key(&vote.target, vote.signer, set)) else {
            return Screened::Check;
        };
        let same = seen.iter().find(|seen| seen.hash == vote.target.hash);
        match same {
            // A signature is determined by its message and key, so another one is a forgery.
            Some(Seen {
                vote: Some(checked),
                ..
            }) if checked.vote() == vote => Screened::Checked(*checked),
            Some(_) => Screened::Check,
            None if seen.len() >= MAX_DIFFERENT => Screened::Excess,
            None => Screened::Check,
        }
    }

    /// Counts a check of a message of `peer` as under way. False if enough are, so that the message
    /// must not be checked.
    pub fn begin(&mut self, counted: Counted, peer: Option<PeerId>, now_ms: u64) -> bool {
        let seen = self.seen.get(&counted.key).into_iter().flatten();
        let checked = seen.filter(|seen| seen.hash != counted.hash).count();
        let key = (counted.key, peer);
        let mut under_way = self.under_way.get(&key).copied().unwrap_or_default();
        if now_ms.saturating_sub(under_way.since_ms) >= LOST_AFTER_MS {
            under_way.checks = 0;
        }
        if checked + under_way.checks >= MAX_DIFFERENT {
            return false;
        }
        under_way.checks += 1;
        under_way.since_ms = now_ms;
        self.under_way.insert(key, under_way);
        if self.under_way.len() > MAX_ENTRIES {
            self.under_way.pop_first();
        }
        true
    }

    /// Ends a check that has an answer, or whose message was dropped.
    pub fn end(&mut self, counted: Counted, peer: Option<PeerId>) {
        let key = (counted.key, peer);
        if let Some(under_way) = self.under_way.get_mut(&key) {
            under_way.checks = under_way.checks.saturating_sub(1);
            if under_way.checks == 0 {
                self.under_way.remove(&key);
            }
        }
    }

    /// Ends all checks, because the ValidationActor restarted and lost its messages.
    pub fn forget_checks(&mut self) {
        self.under_way.clear();
    }

    /// Records a valid vote.
    pub fn on_vote(&mut self, vote: VerifiedVote) {
        let key = key(&vote.vote().target, vote.vote().signer, vote.set_hash());
        let hash = vote.vote().target.hash;
        self.record(
            key,
            Seen {
                hash,
                vote: Some(vote),
            },
        );
    }

    /// Records the vote of a valid proposal.
    pub fn on_proposal(&mut self, vote: &Vote, set: Hash) {
        let hash = vote.target.hash;
        let key = key(&vote.target, vote.signer, set);
        self.record(key, Seen { hash, vote: None });
    }

    /// Number of signers, slots and kinds with checked messages.
    pub fn entries(&self) -> usize {
        self.seen.len()
    }

    /// Number of peers, signers, slots and kinds with checks under way.
    pub fn checks_under_way(&self) -> usize {
        self.under_way.len()
    }

    fn record(&mut self, key: Key, new: Seen) {
        let seen = self.seen.entry(key).or_default();
        // Several may have been under check at once.
        if seen.len() < MAX_DIFFERENT && seen.iter().all(|seen| seen.hash != new.hash) {
            seen.push(new);
        }
        if self.seen.len() > MAX_ENTRIES {
            self.seen.pop_first();
        }
    }

    /// Forgets slots that are decided.
    pub fn forget_until(&mut self, last_final: Slot) {
        while let Some(first) = self.seen.first_entry()
            && first.key().0 <= last_final
        {
            first.remove();
        }
        while let Some(first) = self.under_way.first_entry()
            && first.key().0.0 <= last_final
        {
            first.remove();
        }
    }
}

fn key(target: &VoteTarget, signer: u8, set: Hash) -> Key {
    (target.slot, target.kind, signer, set)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alys_types::{Genesis, Height};

    use super::*;
    use crate::actors::testbed::{self, authority_key};

    const WINDOW: Window = Window {
        last_final: Slot(5),
        latest: Slot(12),
    };

    fn genesis() -> Arc<Genesis> {
        testbed::genesis(4, 2_000)
    }

    fn vote(genesis: &Genesis, kind: VoteKind, slot: u64, mark: u8, signer: u8) -> Vote {
        let target = VoteTarget {
            kind,
            height: Height(slot),
            slot: Slot(slot),
            hash: Hash([mark; 32]),
        };
        let message = target.message(&genesis.chain_id());
        Vote {
            target,
            signer,
            signature: authority_key(signer).sign(&message.0),
        }
    }

    fn verified(genesis: &Genesis, vote: Vote) -> VerifiedVote {
        VerifiedVote::check(vote, genesis.set(), genesis).expect("a good signature")
    }

    /// Of the votes of one authority for random hashes two are checked and no more.
    #[test]
    fn a_signer_gets_two_checks_for_each_slot_and_kind() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let mut screen = Screen::default();
        let mut checks = 0;
        for mark in 0..200 {
            let vote = vote(&genesis, VoteKind::Approval, 10, mark, 1);
            if matches!(screen.screen(&vote, set, WINDOW), Screened::Check) {
                checks += 1;
                screen.on_vote(verified(&genesis, vote));
            }
        }
        assert_eq!(checks, MAX_DIFFERENT);
        // Neither other signers, kinds, slots and sets pay for it.
        let others = [
            (VoteKind::Approval, 10, 2),
            (VoteKind::Confirmation, 10, 1),
            (VoteKind::Proposal, 10, 1),
            (VoteKind::Approval, 11, 1),
        ];
        for (kind, slot, signer) in others {
            let vote = vote(&genesis, kind, slot, 99, signer);
            let screened = screen.screen(&vote, set, WINDOW);
            assert!(matches!(screened, Screened::Check), "{screened:?}");
        }
        let of_set = vote(&genesis, VoteKind::Approval, 10, 99, 1);
        let screened = screen.screen(&of_set, Hash([7; 32]), WINDOW);
        assert!(matches!(screened, Screened::Check), "{screened:?}");
    }

    /// A burst arrives before the first answer.
    #[test]
    fn checks_under_way_count_for_the_peer_that_sent_the_messages() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let mut screen = Screen::default();
        let peer = |n: u8| Some(alys_net::NodeKey::from_bytes([n; 32]).peer_id());
        let vote = |mark| vote(&genesis, VoteKind::Approval, 10, mark, 1);
        let counted = |mark| Counted::new(&vote(mark), set);
        let begun = |screen: &mut Screen, n, now_ms| {
            let begin = |mark: &u8| screen.begin(counted(*mark), peer(n), now_ms);
            (0..9).filter(begin).count()
        };
        assert_eq!(begun(&mut screen, 1, 0), MAX_DIFFERENT);
        assert_eq!(begun(&mut screen, 2, 0), MAX_DIFFERENT, "another peer");
        // A refusal uses up nothing, a valid vote does, and its copies do not.
        screen.end(counted(0), peer(1));
        assert_eq!(begun(&mut screen, 1, 0), 1);
        screen.end(counted(0), peer(1));
        screen.on_vote(verified(&genesis, vote(0)));
        assert!(!screen.begin(counted(2), peer(1), 0));
        assert!(screen.begin(counted(0), peer(1), 0));
        // Answers can be lost, each or all. One valid vote leaves room for one other.
        assert_eq!(begun(&mut screen, 2, LOST_AFTER_MS - 1), 0);
        assert_eq!(begun(&mut screen, 2, LOST_AFTER_MS), 1);
        screen.forget_checks();
        assert_eq!(begun(&mut screen, 2, LOST_AFTER_MS), 1);
        screen.forget_until(Slot(10));
        assert!(screen.under_way.is_empty());
    }

    #[test]
    fn a_refused_check_takes_no_entry() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let mut screen = Screen::default();
        let vote = |mark| vote(&genesis, VoteKind::Approval, 10, mark, 1);
        let counted = |mark| Counted::new(&vote(mark), set);
        for mark in [0, 1] {
            screen.on_vote(verified(&genesis, vote(mark)));
        }
        assert!(!screen.begin(counted(2), None, 0));
        assert_eq!(screen.checks_under_way(), 0);
        assert!(screen.begin(counted(1), None, 0), "a copy");
        assert_eq!(screen.checks_under_way(), 1);
        screen.end(counted(1), None);
        assert_eq!(screen.checks_under_way(), 0);
    }

    #[test]
    fn forged_votes_use_up_nothing() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let mut screen = Screen::default();
        let good = vote(&genesis, VoteKind::Approval, 10, 1, 1);
        let forged = Vote {
            signature: vote(&genesis, VoteKind::Approval, 10, 2, 1).signature,
            ..good
        };
        for _ in 0..9 {
            let screened = screen.screen(&forged, set, WINDOW);
            assert!(matches!(screened, Screened::Check), "{screened:?}");
        }
        screen.on_vote(verified(&genesis, good));
        let screened = screen.screen(&good, set, WINDOW);
        assert!(matches!(screened, Screened::Checked(vote) if *vote.vote() == good));
        let screened = screen.screen(&forged, set, WINDOW);
        assert!(
            matches!(screened, Screened::Check),
            "its sender pays for it"
        );
    }

    #[test]
    fn slots_outside_of_the_window_are_not_checked() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let screen = Screen::default();
        for (slot, is_inside) in [(0, false), (5, false), (6, true), (12, true), (13, false)] {
            let vote = vote(&genesis, VoteKind::Approval, slot, 1, 1);
            let screened = screen.screen(&vote, set, WINDOW);
            let expected = if is_inside {
                matches!(screened, Screened::Check)
            } else {
                matches!(screened, Screened::OutsideWindow)
            };
            assert!(expected, "slot {slot}: {screened:?}");
        }
    }

    #[test]
    fn proposals_are_counted_and_never_taken_for_checked_votes() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let mut screen = Screen::default();
        let first = vote(&genesis, VoteKind::Proposal, 10, 1, 1);
        screen.on_proposal(&first, set);
        assert!(matches!(
            screen.screen(&first, set, WINDOW),
            Screened::Check
        ));
        screen.on_proposal(&vote(&genesis, VoteKind::Proposal, 10, 2, 1), set);
        let third = vote(&genesis, VoteKind::Proposal, 10, 3, 1);
        assert!(matches!(
            screen.screen(&third, set, WINDOW),
            Screened::Excess
        ));
    }

    #[test]
    fn memory_is_bounded_and_decided_slots_are_forgotten() {
        let genesis = genesis();
        let set = genesis.set().hash();
        let mut screen = Screen::default();
        let vote = vote(&genesis, VoteKind::Proposal, 1, 1, 1);
        for slot in 0..(MAX_ENTRIES as u64 + 10) {
            let target = VoteTarget {
                slot: Slot(slot),
                ..vote.target
            };
            screen.on_proposal(&Vote { target, ..vote }, set);
        }
        assert_eq!(screen.seen.len(), MAX_ENTRIES);
        assert_eq!(
            screen.seen.first_key_value().map(|(key, _)| key.0),
            Some(Slot(10)),
            "the lowest slots give way"
        );
        screen.forget_until(Slot(MAX_ENTRIES as u64));
        assert_eq!(screen.seen.len(), 9);
        for slot in 0..(MAX_ENTRIES as u64 + 10) {
            let target = VoteTarget {
                slot: Slot(slot),
                ..vote.target
            };
            assert!(screen.begin(Counted::new(&Vote { target, ..vote }, set), None, 0));
        }
        assert_eq!(screen.under_way.len(), MAX_ENTRIES);
    }
}
