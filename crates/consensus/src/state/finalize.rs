//! Rule 3.5 (docs/protocol.md): finality.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_types::wire::CertifiedHeader;
use alys_types::{Authority, AuthoritySet, Block, Certificate, Hash};

use super::State;
use crate::input::{BlockRef, Broadcast, Effect, Finalization, Record};
use crate::tree::{BodyState, NewlyFinal};

impl State {
    /// The block `hash` and its ancestors are final. Without all bodies below it the block cannot
    /// become the root yet, because final blocks are served and executed: the bodies are fetched,
    /// and [`Self::retry_finality`] continues.
    pub(super) fn finalize(
        &mut self,
        hash: Hash,
        certificate: Certificate,
        is_own: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.finality.is_some() {
            return;
        }
        entry.finality = Some(certificate);
        let certified = CertifiedHeader {
            header: entry.header.clone(),
            certificate,
        };
        let Some(path) = self.tree.path(&hash) else {
            return;
        };
        let is_complete = |h: &Hash| {
            self.tree
                .get(h)
                .is_some_and(|e| e.federation.is_some() && e.has_body())
        };
        if !path.iter().all(is_complete) {
            return self.fetch_bodies(&path, out);
        }
        self.advance_root(&path, certified, is_own, out);
    }

    /// Makes the last block of `path` the root.
    fn advance_root(
        &mut self,
        path: &[Hash],
        certified: CertifiedHeader,
        is_own: bool,
        out: &mut Vec<Effect>,
    ) {
        let blocks_kept = self.keep_bodies(path);
        let sets = self.sets_of(path);
        let settled = self.settle_path(path);
        let first_height = self.tree.root_entry().header.height.next();
        let hash = certified.certificate.target.hash;
        let Some(NewlyFinal { chain, dropped }) = self.tree.finalize(&hash) else {
            return;
        };
        assert!(
            chain
                .first()
                .is_none_or(|(height, _)| *height == first_height),
            "newly final blocks continue the final chain"
        );
        self.root_finality = Some(certified.certificate);
        self.has_finalized = true;
        let root = self.tree.root_entry();
        let height = root.header.height;
        let block = BlockRef {
            slot: root.header.slot,
            hash,
        };
        let finalization = Finalization {
            certified: certified.clone(),
            chain: chain.iter().map(|(height, b)| (*height, b.hash)).collect(),
            federation: root.federation.as_ref().map(|f| f.to_record()),
            dropped,
        };
        let highest = self.tree.get(&self.highest);
        if highest.is_none_or(|e| e.header.slot < block.slot) {
            self.highest = hash;
        }
        self.review_sync_target();
        self.drop_decided_votes();
        let mut record = Record {
            blocks: blocks_kept,
            finalized: Some(finalization),
            sets,
            ledger: settled.record,
            ..Record::default()
        };
        self.regain_votes(block, &mut record, out);
        out.push(Effect::Persist(Box::new(record)));
        if is_own {
            out.push(Effect::Broadcast(Broadcast::Certificate(Box::new(
                certified,
            ))));
        }
        let blocks: Vec<BlockRef> = chain.into_iter().map(|(_, block)| block).collect();
        for block in &blocks {
            self.forget_uncertified(&block.hash);
        }
        out.push(Effect::Finalized(blocks, height));
        out.extend(settled.ranges.into_iter().map(Effect::PowFinal));
    }

    /// Bodies of a path that are not written yet; the caller writes them.
    fn keep_bodies(&mut self, path: &[Hash]) -> Vec<Arc<Block>> {
        let mut kept = Vec::new();
        for hash in path {
            if let Some(entry) = self.tree.get_mut(hash)
                && let BodyState::Memory(block) = &entry.body
            {
                kept.push(block.clone());
                entry.body = BodyState::Stored;
            }
        }
        kept
    }

    /// The sets that decided on a path. A restart needs the set of every final block in the window.
    fn sets_of(&self, path: &[Hash]) -> Vec<Vec<Authority>> {
        let sets: BTreeMap<Hash, &AuthoritySet> = path
            .iter()
            .filter_map(|h| self.tree.get(h))
            .map(|e| (e.set.hash(), e.set.as_ref()))
            .collect();
        sets.values()
            .map(|set| set.authorities().to_vec())
            .collect()
    }

    /// Continues with the highest finality certificate whose bodies were missing.
    pub(super) fn retry_finality(&mut self, out: &mut Vec<Effect>) {
        let pending = self
            .tree
            .iter()
            .filter(|(h, e)| e.finality.is_some() && **h != self.tree.root())
            .max_by_key(|(_, e)| e.header.height)
            .map(|(h, e)| (*h, e.finality));
        if let Some((hash, Some(certificate))) = pending {
            if let Some(entry) = self.tree.get_mut(&hash) {
                entry.finality = None;
            }
            self.finalize(hash, certificate, false, out);
        }
    }
}
