//! The order in which blocks that the execution client lost are sent to it again. Pure: the
//! EngineActor performs each [`Step`] and reports its result.
//!
//! A replay starts at the parent of a block that the client cannot execute. It first looks up one
//! ancestor after another until the client has one, then sends the missing blocks in ascending
//! order.

use std::collections::VecDeque;

use alys_types::{Hash, Height};

/// Maximum missing blocks in one replay, to bound its memory. Beyond it the newest are dropped; a
/// later replay finds them again.
pub const MAX_MISSING: usize = 100_000;
/// Blocks sent between two forkchoice updates. An update moves the client's head, without which
/// some clients stop executing, and bounds the blocks that a crash of the client loses.
pub const HEAD_INTERVAL: usize = 16;

/// The next action of the EngineActor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the client for the block, then call [`Replay::on_known`] or [`Replay::on_missing`].
    Search(Hash),
    /// Send the block to the client, then call [`Replay::on_sent`].
    Send(Hash),
    Done,
}

#[derive(Debug)]
pub struct Replay {
    target: Hash,
    target_height: Height,
    /// The genesis block, which every client has.
    genesis: Hash,
    /// The next ancestor to look up; `None` once the client has one or genesis is next.
    search: Option<Hash>,
    /// Blocks that the client lacks, newest first.
    missing: VecDeque<Hash>,
    sent: usize,
    had_last_turn: bool,
}

impl Replay {
    /// A replay of the ancestors of `target`, whose parent is `parent`.
    pub fn new(target: Hash, target_height: Height, parent: Hash, genesis: Hash) -> Replay {
        Replay {
            target,
            target_height,
            genesis,
            search: (parent != genesis).then_some(parent),
            missing: VecDeque::new(),
            sent: 0,
            had_last_turn: false,
        }
    }

    /// Returns true if the message that requests the execution of `hash` continues the replay
    /// instead. A request for the target always does. Every second request for another block does,
    /// because one message has time for only one of the two. A replay that restarted at each new
    /// block instead would never end.
    pub fn takes_turn(&mut self, hash: &Hash) -> bool {
        self.had_last_turn = self.target == *hash || !self.had_last_turn;
        self.had_last_turn
    }

    pub fn next_step(&self) -> Step {
        if let Some(hash) = self.search {
            return Step::Search(hash);
        }
        self.missing
            .back()
            .map_or(Step::Done, |hash| Step::Send(*hash))
    }

    /// The client has the block of the last search, and therefore all of its ancestors.
    pub fn on_known(&mut self) {
        self.search = None;
    }

    /// The client lacks the block of the last search, whose parent is `parent`.
    pub fn on_missing(&mut self, parent: Hash, limit: usize) {
        let Some(hash) = self.search.take() else {
            return;
        };
        if self.missing.len() >= limit {
            self.missing.pop_front();
        }
        self.missing.push_back(hash);
        self.search = (parent != self.genesis).then_some(parent);
    }

    /// The client executed the block of the last send. Returns true if a forkchoice update is due.
    pub fn on_sent(&mut self, head_interval: usize) -> bool {
        self.missing.pop_back();
        self.sent += 1;
        self.missing.is_empty() || self.sent.is_multiple_of(head_interval)
    }

    /// The number of blocks to send, from the end of the search until the first one is sent.
    pub fn begins_to_send(&self) -> Option<usize> {
        let begins = self.search.is_none() && self.sent == 0 && !self.missing.is_empty();
        begins.then_some(self.missing.len())
    }

    /// Returns true if the replay is no longer needed once the client executed a block at `height`:
    /// a client that executes a block has all of its ancestors.
    pub fn is_obsolete(&self, height: Height) -> bool {
        self.target_height <= height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: u8 = 0;

    fn hash(mark: u8) -> Hash {
        Hash([mark; 32])
    }

    /// A replay for block 9 of a chain in which the parent of block n is block n - 1.
    fn replay() -> Replay {
        Replay::new(hash(9), Height(9), hash(8), hash(GENESIS))
    }

    /// Performs all steps against a client that has the blocks up to `known`.
    fn run(mut replay: Replay, known: u8, limit: usize, head_interval: usize) -> Vec<String> {
        let mut log = Vec::new();
        loop {
            match replay.next_step() {
                Step::Search(block) if block.0[0] <= known => {
                    log.push(format!("has {}", block.0[0]));
                    replay.on_known();
                }
                Step::Search(block) => {
                    log.push(format!("lacks {}", block.0[0]));
                    replay.on_missing(hash(block.0[0] - 1), limit);
                }
                Step::Send(block) => {
                    let is_head_due = replay.on_sent(head_interval);
                    let head = if is_head_due { " head" } else { "" };
                    log.push(format!("send {}{head}", block.0[0]));
                }
                Step::Done => return log,
            }
        }
    }

    #[test]
    fn missing_ancestors_are_searched_downwards_and_sent_upwards() {
        let table: [(u8, usize, usize, &[&str]); 5] = [
            (8, 9, 9, &["has 8"]),
            (7, 9, 9, &["lacks 8", "has 7", "send 8 head"]),
            (
                5,
                9,
                2,
                &[
                    "lacks 8",
                    "lacks 7",
                    "lacks 6",
                    "has 5",
                    "send 6",
                    "send 7 head",
                    "send 8 head",
                ],
            ),
            (
                5,
                2,
                9,
                &[
                    "lacks 8",
                    "lacks 7",
                    "lacks 6",
                    "has 5",
                    "send 6",
                    "send 7 head",
                ],
            ),
            (
                GENESIS,
                3,
                9,
                &[
                    "lacks 8",
                    "lacks 7",
                    "lacks 6",
                    "lacks 5",
                    "lacks 4",
                    "lacks 3",
                    "lacks 2",
                    "lacks 1",
                    "send 1",
                    "send 2",
                    "send 3 head",
                ],
            ),
        ];
        for (known, limit, head_interval, expected) in table {
            assert_eq!(
                run(replay(), known, limit, head_interval),
                expected,
                "{known}"
            );
        }
        let on_genesis = Replay::new(hash(1), Height(1), hash(GENESIS), hash(GENESIS));
        assert_eq!(on_genesis.next_step(), Step::Done);
    }

    #[test]
    fn other_blocks_alternate_with_the_replay_and_its_target_never_waits() {
        let mut replay = replay();
        let turns = [3, 3, 3, 9, 9, 3, 3].map(|mark| replay.takes_turn(&hash(mark)));
        assert_eq!(turns, [true, false, true, true, true, false, true]);
    }

    #[test]
    fn the_start_of_sending_is_reported_until_a_block_is_sent() {
        let mut replay = replay();
        assert_eq!(replay.begins_to_send(), None);
        replay.on_missing(hash(7), MAX_MISSING);
        assert_eq!(replay.begins_to_send(), None);
        replay.on_known();
        assert_eq!(replay.begins_to_send(), Some(1));
        replay.on_sent(HEAD_INTERVAL);
        assert_eq!(replay.begins_to_send(), None);
    }

    #[test]
    fn a_block_at_the_target_height_makes_the_replay_obsolete() {
        let obsolete = [8, 9, 10].map(|height| replay().is_obsolete(Height(height)));
        assert_eq!(obsolete, [false, true, true]);
    }
}
