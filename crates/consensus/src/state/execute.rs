//! The execution layer: the blocks to execute, in order, the head, and the answers.

use alys_types::{Hash, Slot};

use super::State;
use crate::input::{Effect, Notice, Now, Verdict};
use crate::rules;
use crate::tree::{BodyState, Execution};

/// Bodies fetched at once.
const MAX_FETCHES: usize = 8;

/// Blocks above the last final one that the execution layer executes after a start before it gets a
/// head. Clients keep the states of a limited number of blocks above their head (Geth 128), and a
/// crash loses those blocks again. Finality follows certificates within a few slots, so the walk is
/// seldom as long.
const MAX_WITHOUT_HEAD: usize = 64;

impl State {
    /// Advances everything that can advance: the sync target, execution of the certified chain, the
    /// head, proposals of this slot.
    pub(super) fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.reach_sync_target(now, out);
        self.execute_certified(now, out);
        self.update_forkchoice(out);
        self.ask_accounts(out);
        self.consider_proposals(now, out);
        self.try_propose(now, out);
    }

    /// Executes the first certified block after the last one that is known to be valid, or fetches
    /// its body.
    fn execute_certified(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(mut path) = self.certified_chain() else {
            return;
        };
        // Blocks below a valid one need no answer: the execution layer has executed them.
        let unknown = match path.iter().rposition(|h| self.is_valid(h)) {
            Some(last_valid) => path.split_off(last_valid.saturating_add(1)),
            None => path,
        };
        let Some(first) = unknown.first() else {
            return;
        };
        if !self.has_body(first) && *first != self.config.genesis.hash() {
            return self.fetch_bodies(&unknown, out);
        }
        self.reconsider(first, now);
        self.execute(*first, out);
    }

    /// The last final block and the certified ones above it, ascending.
    pub(super) fn certified_chain(&self) -> Option<Vec<Hash>> {
        let mut path = self.tree.path(&self.highest)?;
        path.insert(0, self.tree.root());
        Some(path)
    }

    /// Rule 6.2 (docs/protocol.md): the execution layer is asked again about a certified block that
    /// it called invalid.
    fn reconsider(&mut self, hash: &Hash, now: Now) {
        if let Some(entry) = self.tree.get_mut(hash)
            && entry.execution == Execution::Invalid
            && entry.certificate.is_some()
            && now.mono_ms >= entry.ask_again_ms
        {
            entry.execution = Execution::Unknown;
        }
    }

    fn is_valid(&self, hash: &Hash) -> bool {
        let entry = self.tree.get(hash);
        entry.is_some_and(|e| e.execution == Execution::Valid)
    }

    fn is_asked(&self, hash: &Hash) -> bool {
        let entry = self.tree.get(hash);
        entry.is_some_and(|e| e.execution == Execution::Asked)
    }

    fn execute(&mut self, hash: Hash, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.execution != Execution::Unknown {
            return;
        }
        entry.execution = Execution::Asked;
        let block = match &entry.body {
            BodyState::Memory(block) => Some(block.clone()),
            BodyState::Missing | BodyState::Stored => None,
        };
        out.push(Effect::Execute { hash, block });
    }

    /// Fetches missing bodies of certified blocks from peers.
    pub(super) fn fetch_bodies(&mut self, path: &[Hash], out: &mut Vec<Effect>) {
        let is_missing = |h: &&Hash| self.tree.get(h).is_some_and(|e| !e.has_body());
        for hash in path.iter().filter(is_missing).take(MAX_FETCHES) {
            out.push(Effect::FetchBlock { hash: *hash });
        }
    }

    /// Rule 3.10 (docs/protocol.md): the head is the highest executed block of the certified chain.
    /// The execution layer is informed when it moved or a block became final.
    ///
    /// After a start of the node or of the execution layer, its head may be any block of the chain,
    /// and a fork choice for a lower one would revert the blocks above: the first fork choice waits
    /// while the next block is under way. Any other answer than VALID ends the wait, because a
    /// client that lost blocks may need a head to go on from.
    fn update_forkchoice(&mut self, out: &mut Vec<Effect>) {
        let Some(chain) = self.certified_chain() else {
            return;
        };
        let root = self.tree.root();
        let Some(at) = chain.iter().rposition(|h| self.is_valid(h)) else {
            return;
        };
        let (Some(head), next) = (chain.get(at).copied(), chain.get(at.saturating_add(1))) else {
            return;
        };
        let is_walking = at < MAX_WITHOUT_HEAD && next.is_some_and(|h| self.is_asked(h));
        if self.forkchoice.is_none() && is_walking {
            return;
        }
        let pow_final = self.settled.ledger.work(&self.config.genesis).end;
        if self.forkchoice == Some((head, root, pow_final.hash)) {
            return;
        }
        self.forkchoice = Some((head, root, pow_final.hash));
        let execution = |h: &Hash| {
            self.tree
                .get(h)
                .map_or(Hash::ZERO, |e| e.header.execution_hash)
        };
        out.push(Effect::Forkchoice {
            head: (head, execution(&head)),
            safe: execution(&root),
            finalized: pow_final.execution_hash,
        });
    }

    /// Executes, and approves, proposals of the present slot.
    fn consider_proposals(&mut self, now: Now, out: &mut Vec<Effect>) {
        let is_current = |slot: Slot| self.is_in_slot(slot, now);
        let candidates: Vec<Hash> = self
            .tree
            .iter()
            .filter(|(_, e)| e.proposed && e.certificate.is_none() && e.has_body())
            .filter(|(_, e)| is_current(e.header.slot))
            .map(|(h, _)| *h)
            .collect();
        for hash in candidates {
            let Some(entry) = self.tree.get(&hash) else {
                continue;
            };
            let is_executable =
                entry.federation.is_some() && self.is_valid(&entry.header.parent_hash);
            match entry.execution {
                Execution::Unknown if is_executable => self.execute(hash, out),
                Execution::Valid => self.try_approve(hash, now, out),
                Execution::Unknown | Execution::Asked | Execution::Invalid | Execution::Refused => {
                }
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
        if entry.execution.is_invalid() {
            return;
        }
        match verdict {
            Verdict::Valid => {
                entry.execution = Execution::Valid;
                if std::mem::take(&mut entry.invalid_answers) > 0 {
                    out.push(Effect::Notice(Notice::CertifiedValid { hash }));
                }
                self.advance(now, out);
            }
            Verdict::Invalid => {
                entry.invalid_answers = entry.invalid_answers.saturating_add(1);
                let slot_ms = self.config.genesis.spec().slot_duration_ms;
                let bug = &self.config.planted_bug;
                let pause_ms = rules::pause_after_invalid(entry.invalid_answers, slot_ms, bug);
                entry.ask_again_ms = now.mono_ms.saturating_add(pause_ms);
                self.set_invalid(hash, Execution::Invalid, out);
                self.update_forkchoice(out);
            }
            Verdict::Unknown => {
                // Executed again at the next tick.
                entry.execution = Execution::Unknown;
                self.update_forkchoice(out);
            }
        }
    }

    /// The execution layer may have lost all blocks since its last write: every block is executed
    /// again, then the head is sent. It may also be another client, which may accept a certified
    /// block that the last one called invalid.
    pub(super) fn on_execution_restarted(&mut self, now: Now, out: &mut Vec<Effect>) {
        let hashes: Vec<Hash> = self.tree.iter().map(|(h, _)| *h).collect();
        for hash in hashes {
            if let Some(entry) = self.tree.get_mut(&hash) {
                entry.execution = match entry.execution {
                    Execution::Invalid if entry.certificate.is_none() => Execution::Invalid,
                    Execution::Refused => Execution::Refused,
                    Execution::Unknown
                    | Execution::Asked
                    | Execution::Valid
                    | Execution::Invalid => Execution::Unknown,
                };
            }
        }
        self.forkchoice = None;
        self.building = None;
        self.forget_asked_accounts();
        self.execute_certified(now, out);
    }
}
