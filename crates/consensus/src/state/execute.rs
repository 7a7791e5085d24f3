//! The execution layer: what it is asked, in which order, and what its answers mean.

use alys_types::{Hash, Slot};

use super::State;
use crate::input::{Effect, Notice, Now, Verdict};
use crate::tree::{BodyState, Entry, Execution};

/// Bodies asked for at once.
const MAX_FETCHES: usize = 8;

impl State {
    /// Moves everything forward that can move: execution of the certified chain, the head, proposals of this slot.
    pub(super) fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.reach_target(now, out);
        self.execute_certified(out);
        self.tell_head(out);
        self.consider_proposals(now, out);
        self.try_propose(now, out);
    }

    /// Asks about the first certified block, from the last final one upwards, that is not known to be valid.
    fn execute_certified(&mut self, out: &mut Vec<Effect>) {
        let Some(mut path) = self.tree.path(&self.highest) else {
            return;
        };
        path.insert(0, self.tree.root());
        let known_to = path
            .iter()
            .rposition(|h| {
                self.tree
                    .get(h)
                    .is_some_and(|e| e.execution == Execution::Valid)
            })
            .map_or(0, |i| i + 1);
        let Some(first) = path.get(known_to) else {
            return;
        };
        let Some(entry) = self.tree.get(first) else {
            return;
        };
        if !entry.has_body() && *first != self.config.genesis.hash() {
            return self.want_bodies(&path[known_to..], out);
        }
        self.ask(*first, out);
    }

    fn ask(&mut self, hash: Hash, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.execution != Execution::Unknown {
            return;
        }
        entry.execution = Execution::Asked;
        let block = match &entry.body {
            BodyState::Memory(block) => Some(block.clone()),
            _ => None,
        };
        out.push(Effect::Execute { hash, block });
    }

    /// Asks peers for missing bodies of certified blocks.
    pub(super) fn want_bodies(&mut self, path: &[Hash], out: &mut Vec<Effect>) {
        let missing = |h: &&Hash| self.tree.get(h).is_some_and(|e| !e.has_body());
        for hash in path.iter().filter(missing).take(MAX_FETCHES) {
            out.push(Effect::FetchBlock { hash: *hash });
        }
    }

    /// Tells the execution layer the head when it moved or something became final.
    fn tell_head(&mut self, out: &mut Vec<Effect>) {
        let Some(path) = self.tree.path(&self.highest) else {
            return;
        };
        let valid = |h: &Hash| {
            self.tree
                .get(h)
                .is_some_and(|e| e.execution == Execution::Valid)
        };
        let root = self.tree.root();
        let head = path
            .iter()
            .rev()
            .copied()
            .find(|h| valid(h))
            .or(valid(&root).then_some(root));
        let Some(head) = head else { return };
        if self.told == Some((head, root)) {
            return;
        }
        self.told = Some((head, root));
        let execution = |h: &Hash| {
            self.tree
                .get(h)
                .map_or(Hash::ZERO, |e| e.header.execution_hash)
        };
        out.push(Effect::Forkchoice {
            head: (head, execution(&head)),
            safe: execution(&root),
            // Final by proof of work; without any, genesis.
            finalized: self.config.genesis.header().execution_hash,
        });
    }

    /// Asks about, and approves, proposals of the present slot.
    fn consider_proposals(&mut self, now: Now, out: &mut Vec<Effect>) {
        let candidates: Vec<(Slot, Hash)> = self
            .tree
            .iter()
            .filter(|(_, e)| e.proposed && e.certificate.is_none() && e.has_body())
            .filter(|(_, e)| self.in_slot(e.header.slot, now))
            .map(|(h, e)| (e.header.slot, *h))
            .collect();
        for (_, hash) in candidates {
            let Some(entry) = self.tree.get(&hash) else {
                continue;
            };
            let parent_valid = self
                .tree
                .get(&entry.header.parent_hash)
                .is_some_and(|p| p.execution == Execution::Valid);
            match entry.execution {
                Execution::Unknown if parent_valid && entry.federation.is_some() => {
                    self.ask(hash, out)
                }
                Execution::Valid => self.try_approve(hash, now, out),
                _ => {}
            }
        }
    }

    pub(super) fn on_executed(
        &mut self,
        hash: Hash,
        verdict: Verdict,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.execution == Execution::Invalid {
            return;
        }
        match verdict {
            Verdict::Valid => {
                entry.execution = Execution::Valid;
                self.advance(now, out);
            }
            Verdict::Invalid => {
                entry.execution = Execution::Invalid;
                if entry.certificate.is_some() {
                    out.push(Effect::Notice(Notice::CertifiedInvalid { hash }));
                }
            }
            // Asked again at the next tick.
            Verdict::Unknown => entry.execution = Execution::Unknown,
        }
    }

    /// The execution layer may have forgotten everything after what it last wrote: everything is asked again.
    pub(super) fn on_execution_restarted(&mut self, out: &mut Vec<Effect>) {
        let hashes: Vec<Hash> = self.tree.iter().map(|(h, _)| *h).collect();
        for hash in hashes {
            if let Some(entry) = self.tree.get_mut(&hash)
                && entry.execution != Execution::Invalid
            {
                entry.execution = Execution::Unknown;
            }
        }
        self.told = None;
        self.building = None;
        self.execute_certified(out);
    }

    /// True when a block could be built upon.
    pub(super) fn buildable(entry: &Entry) -> bool {
        entry.execution == Execution::Valid && entry.federation.is_some()
    }
}
