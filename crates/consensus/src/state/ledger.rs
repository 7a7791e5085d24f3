//! The ledger along the branches (rules 5.1 and 5.4, docs/protocol.md).

use std::sync::Arc;

use alys_peg::{Additions, Changes, Ledger};
use alys_types::{AuthoritySet, Block, Genesis, Hash, Header, Height};

use super::State;
use crate::input::{BlockRef, Effect, LedgerRecord, Notice, Now, PowFinal, Record, StoredFinal};
use crate::rules::work::{self, Claims};
use crate::tree::{BodyState, Execution, LedgerAfter};

/// Blocks above the last final one whose receipts are asked for at once.
const MAX_ASKED: usize = 4;

/// The ledger after the last final block whose additions are known. Finality does not wait for
/// receipts: the final blocks above follow one by one, from the store.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) height: Height,
    pub(crate) hash: Hash,
    pub(crate) ledger: Ledger,
    next: Next,
}

/// The next final block to settle.
#[derive(Debug)]
enum Next {
    Idle,
    /// Asked of the store.
    Loading,
    /// In memory; its additions are not known. `is_asked` until the execution layer answers.
    Loaded {
        block: Arc<Block>,
        hash: Hash,
        set: Arc<AuthoritySet>,
        is_asked: bool,
    },
    /// The ledger contradicts the headers.
    Diverged,
}

/// The blocks that [`State::settle_path`] settled.
#[derive(Debug, Default)]
pub(super) struct NewlySettled {
    pub(super) record: Option<LedgerRecord>,
    pub(super) ranges: Vec<PowFinal>,
}

impl Settled {
    pub(crate) fn genesis(genesis: &Genesis) -> Settled {
        Settled::new(Height(0), genesis.hash(), Ledger::empty())
    }

    pub(crate) fn new(height: Height, hash: Hash, ledger: Ledger) -> Settled {
        Settled {
            height,
            hash,
            ledger,
            next: Next::Idle,
        }
    }
}

impl State {
    /// The ledger after a block of the tree.
    pub(super) fn ledger_after(&self, hash: &Hash) -> Option<&Ledger> {
        if *hash == self.settled.hash {
            return Some(&self.settled.ledger);
        }
        self.tree.get(hash)?.ledger.as_ref().map(|a| &a.ledger)
    }

    /// Judges a block, and derives the ledger after it and after its descendants, as far as bodies
    /// and additions are known.
    pub(crate) fn update_ledgers(&mut self, hash: Hash, out: &mut Vec<Effect>) {
        let mut todo = vec![hash];
        while let Some(hash) = todo.pop() {
            if self.update_ledger(&hash, out) || hash == self.settled.hash {
                todo.extend(self.tree.children(&hash).map(|(h, _)| *h));
            }
        }
    }

    /// True when the ledger after the block became known.
    fn update_ledger(&mut self, hash: &Hash, out: &mut Vec<Effect>) -> bool {
        if self.settled.height >= self.height_of(hash) {
            return false;
        }
        match self.judged_ledger(hash, out) {
            Some(after) => {
                if let Some(entry) = self.tree.get_mut(hash) {
                    entry.ledger = Some(after);
                }
                true
            }
            None => false,
        }
    }

    fn height_of(&self, hash: &Hash) -> Height {
        let entry = self.tree.get(hash);
        entry.map_or(Height(0), |e| e.header.height)
    }

    /// `None` if it is known already or cannot be known yet, or if the block breaks a rule.
    fn judged_ledger(&mut self, hash: &Hash, out: &mut Vec<Effect>) -> Option<LedgerAfter> {
        let entry = self.tree.get(hash)?;
        // The certificates of a body are checked with the federation.
        if entry.ledger.is_some() || entry.federation.is_none() {
            return None;
        }
        let claims = entry.claims.as_ref()?;
        let before = self.ledger_after(&entry.header.parent_hash)?;
        if !entry.is_judged && entry.execution != Execution::Refused {
            let judged = work::judge(&entry.header, claims, before, &entry.set, &self.config);
            if let Err(fault) = judged {
                let slot = entry.header.slot;
                out.push(Effect::Notice(Notice::UnfitProposal { slot, fault }));
                self.set_invalid(*hash, Execution::Refused, out);
                return None;
            }
            self.tree.get_mut(hash)?.is_judged = true;
        }
        let entry = self.tree.get(hash)?;
        if !entry.is_judged {
            return None;
        }
        let before = self.ledger_after(&entry.header.parent_hash)?;
        let additions = entry.additions.as_ref()?;
        let block = Judged {
            hash: *hash,
            header: &entry.header,
            claims: entry.claims.as_ref()?,
            set: &entry.set,
        };
        self.apply(before, &block, additions)
    }

    /// The ledger after a block; `None` if the ledger before cannot be read.
    fn apply(
        &self,
        before: &Ledger,
        block: &Judged<'_>,
        additions: &Additions,
    ) -> Option<LedgerAfter> {
        let Judged {
            hash,
            header,
            claims,
            set,
        } = *block;
        let (ledger, changes) =
            work::ledger_after(before, header, claims, additions, set, &self.config).ok()?;
        let genesis = &self.config.genesis;
        let range = match &claims.proof {
            None => None,
            Some(proof) => {
                let end = ledger.work(genesis).end;
                Some(PowFinal {
                    sequence: proof.sequence,
                    first: before.work(genesis).end.height.next(),
                    end: end.height,
                    end_hash: end.hash,
                    miner: proof.miner,
                    carrier: BlockRef {
                        slot: header.slot,
                        hash,
                    },
                })
            }
        };
        Some(LedgerAfter {
            ledger,
            changes,
            range,
        })
    }

    /// Settles the blocks of a path that is about to become final, as far as their ledgers are
    /// known.
    pub(super) fn settle_path(&mut self, path: &[Hash]) -> NewlySettled {
        let mut settled = NewlySettled::default();
        let mut changes = Changes::new();
        for hash in path {
            let Some(entry) = self.tree.get(hash) else {
                break;
            };
            let Some(after) = &entry.ledger else { break };
            if entry.header.parent_hash != self.settled.hash {
                break;
            }
            changes.extend(after.changes.iter().cloned());
            settled.ranges.extend(after.range);
            let (height, ledger) = (entry.header.height, after.ledger.clone());
            self.settled = Settled::new(height, *hash, ledger);
            settled.record = Some(LedgerRecord {
                height,
                hash: *hash,
                changes: Changes::new(),
            });
        }
        if let Some(record) = &mut settled.record {
            record.changes = work::merge_changes(changes, self.bug());
        }
        self.forget_proofs();
        settled
    }

    /// Asks for the receipts of executed blocks of the certified chain, and for the next final
    /// block that is not settled.
    pub(super) fn ask_accounts(&mut self, out: &mut Vec<Effect>) {
        self.load_final(out);
        let chain = self.certified_chain().unwrap_or_default();
        let is_valid = |hash: &&Hash| {
            let entry = self.tree.get(hash);
            entry.is_some_and(|e| e.execution == Execution::Valid)
        };
        // Blocks below a valid one are executed.
        let Some(last_valid) = chain.iter().rposition(|hash| is_valid(&hash)) else {
            return;
        };
        let is_asked = |hash: &&Hash| self.tree.get(hash).is_some_and(|e| e.is_account_asked);
        let asked = chain.iter().filter(is_asked).count();
        let needs_answer = |hash: &&Hash| {
            let entry = self.tree.get(hash);
            entry
                .is_some_and(|e| e.claims.is_some() && e.additions.is_none() && !e.is_account_asked)
        };
        let executed = chain.iter().take(last_valid.saturating_add(1));
        let room = MAX_ASKED.saturating_sub(asked);
        let next: Vec<Hash> = executed
            .skip(1)
            .filter(needs_answer)
            .take(room)
            .copied()
            .collect();
        for hash in next {
            let Some(entry) = self.tree.get_mut(&hash) else {
                continue;
            };
            entry.is_account_asked = true;
            let block = match &entry.body {
                BodyState::Memory(block) => Some(block.clone()),
                BodyState::Missing | BodyState::Stored => None,
            };
            out.push(Effect::Account { hash, block });
        }
    }

    /// Asks again for additions that were not known.
    fn load_final(&mut self, out: &mut Vec<Effect>) {
        if self.settled.height >= self.tree.root_entry().header.height {
            return;
        }
        match &mut self.settled.next {
            Next::Idle => {
                self.settled.next = Next::Loading;
                let height = self.settled.height.next();
                out.push(Effect::LoadFinal { height });
            }
            Next::Loaded {
                block,
                hash,
                is_asked,
                ..
            } if !*is_asked => {
                *is_asked = true;
                let (hash, block) = (*hash, Some(block.clone()));
                out.push(Effect::Account { hash, block });
            }
            Next::Loading | Next::Loaded { .. } | Next::Diverged => {}
        }
    }

    pub(super) fn on_final_loaded(
        &mut self,
        height: Height,
        stored: Option<Box<StoredFinal>>,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        if !matches!(self.settled.next, Next::Loading) || height != self.settled.height.next() {
            return;
        }
        self.settled.next = Next::Idle;
        // Asked again at the next tick.
        let Some(stored) = stored else { return };
        let Some(set) = self.set_of_final(height, &stored) else {
            return;
        };
        let StoredFinal {
            block, additions, ..
        } = *stored;
        let has_transactions = !block.body.payload.transactions.is_empty();
        let hash = block.header.hash();
        let known = additions.or((!has_transactions).then(Additions::default));
        self.settled.next = Next::Loaded {
            block,
            hash,
            set,
            is_asked: false,
        };
        match known {
            Some(additions) => self.settle_next(additions, now, out),
            None => self.load_final(out),
        }
    }

    fn set_of_final(&self, height: Height, stored: &StoredFinal) -> Option<Arc<AuthoritySet>> {
        if let Some(set) = self.tree.final_set_at(height) {
            return Some(set);
        }
        let genesis = || self.config.genesis.set().hash();
        let hash = stored.set_hash.unwrap_or_else(genesis);
        self.sets.get(&hash).cloned()
    }

    /// Settles the final block that is loaded.
    fn settle_next(&mut self, additions: Additions, now: Now, out: &mut Vec<Effect>) {
        let next = std::mem::replace(&mut self.settled.next, Next::Idle);
        let Next::Loaded {
            block, hash, set, ..
        } = next
        else {
            self.settled.next = next;
            return;
        };
        let header = &block.header;
        let before = &self.settled.ledger;
        let claims = Claims::of(&block);
        let judged = Judged {
            hash,
            header,
            claims: &claims,
            set: &set,
        };
        let follows = header.parent_hash == self.settled.hash
            && work::check_ledger_hash(header, before, self.bug()).is_ok();
        let after = follows.then(|| self.apply(before, &judged, &additions));
        let Some(after) = after.flatten() else {
            self.settled.next = Next::Diverged;
            let height = header.height;
            out.push(Effect::Notice(Notice::LedgerDiverged { height }));
            return;
        };
        let height = header.height;
        self.settled = Settled::new(height, hash, after.ledger);
        self.forget_proofs();
        out.push(Effect::Persist(Box::new(Record {
            additions: vec![(hash, additions)],
            ledger: Some(LedgerRecord {
                height,
                hash,
                changes: after.changes,
            }),
            ..Record::default()
        })));
        out.extend(after.range.map(Effect::PowFinal));
        if hash == self.tree.root() {
            self.update_ledgers(hash, out);
        }
        self.advance(now, out);
    }

    pub(super) fn on_accounted(
        &mut self,
        hash: Hash,
        additions: Option<Additions>,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        if let Next::Loaded {
            hash: next,
            is_asked,
            ..
        } = &mut self.settled.next
            && *next == hash
        {
            *is_asked = false;
            if let Some(additions) = additions {
                self.settle_next(additions, now, out);
            }
            return;
        }
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        entry.is_account_asked = false;
        let Some(additions) = additions else { return };
        if entry.additions.is_some() {
            return;
        }
        entry.additions = Some(additions);
        // Receipts may be lost with the execution layer's memory.
        out.push(Effect::Persist(Box::new(Record {
            additions: vec![(hash, additions)],
            ..Record::default()
        })));
        self.update_ledgers(hash, out);
        self.advance(now, out);
    }

    /// Every question to the execution layer is open again.
    pub(super) fn forget_asked_accounts(&mut self) {
        let hashes: Vec<Hash> = self.tree.iter().map(|(h, _)| *h).collect();
        for hash in hashes {
            if let Some(entry) = self.tree.get_mut(&hash) {
                entry.is_account_asked = false;
            }
        }
        let bug = &self.config.planted_bug;
        if let Next::Loaded { is_asked, .. } = &mut self.settled.next
            && *is_asked
            && work::reopens_final_question(bug)
        {
            *is_asked = false;
        }
    }

    /// Keeps the part of a body that the ledger judges.
    pub(crate) fn keep_claims(&mut self, hash: &Hash, block: &Block) {
        if let Some(entry) = self.tree.get_mut(hash)
            && entry.claims.is_none()
        {
            let claims = Claims::of(block);
            if !claims.has_transactions {
                entry.additions = Some(Additions::default());
            }
            entry.claims = Some(claims);
        }
    }
}

/// A block that fits the ledger before it.
struct Judged<'a> {
    hash: Hash,
    header: &'a Header,
    claims: &'a Claims,
    set: &'a AuthoritySet,
}
