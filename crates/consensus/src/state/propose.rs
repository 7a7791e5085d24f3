//! Rule 1: proposing.

use std::sync::Arc;

use alys_types::mutant::{self, Mutant};
use alys_types::spec::{HEADER_VERSION, empty_ledger_hash, prev_randao, vault_address};
use alys_types::{Block, Body, ExecutionPayload, Hash, Header, Slot, VoteKind, VoteTarget};

use super::State;
use crate::input::{Effect, Notice, Now, PayloadRequest, Record, Send};
use crate::tree::{BodyState, Entry, Execution};

/// A leader waits this part of its slot for the certificate of the slot before, when it has seen that proposal: its
/// own clock may be ahead, and building beside the block would waste one of the two.
const PATIENCE: u64 = 4;

impl State {
    /// Starts building when this node leads the present slot and is ready.
    pub(super) fn try_propose(&mut self, now: Now, out: &mut Vec<Effect>) {
        let slot = self.slot_at(now);
        let Some(parent) = self.tree.get(&self.highest) else {
            return;
        };
        let Some(set) = &parent.child_set else { return };
        let leader = match mutant::active(Mutant::LeaderByHeight) {
            true => set.leader(Slot(parent.header.height.next().0)),
            false => set.leader(slot),
        };
        if self.index_in(set) != Some(leader)
            || self.silent()
            || self.has_approved_in(slot)
            || slot <= parent.header.slot
            || parent.header.slot < self.votes.locked.slot
            || self.target.is_some()
            || !Self::buildable(parent)
            || (parent.certificate.is_none() && self.highest != self.config.genesis.hash())
            || self.told.map(|(head, _)| head) != Some(self.highest)
            || self.building == Some((slot, self.highest))
        {
            return;
        }
        if now.wall_ms < slot.start_ms(self.slot_ms()) + self.slot_ms() / PATIENCE
            && self.certificate_is_due(slot)
        {
            return;
        }
        let request = PayloadRequest {
            parent: self.highest,
            parent_execution: parent.header.execution_hash,
            slot,
            timestamp: match mutant::active(Mutant::LocalTimestamp) {
                true => now.wall_ms / 1_000,
                false => slot.timestamp(self.slot_ms()),
            },
            prev_randao: prev_randao(&self.highest, slot),
            fee_recipient: vault_address(),
        };
        self.building = Some((slot, self.highest));
        out.push(Effect::Build(request));
    }

    /// True when the slot before has a proposal on the highest block that is not certified yet.
    fn certificate_is_due(&self, slot: Slot) -> bool {
        let before = Slot(slot.0.saturating_sub(1));
        self.tree.children(&self.highest).any(|(_, e)| {
            e.header.slot == before && e.proposed && e.execution != Execution::Invalid
        })
    }

    pub(super) fn on_build_failed(&mut self, slot: Slot, parent: Hash) {
        if self.building == Some((slot, parent)) {
            self.building = None;
        }
    }

    /// The payload is there: make the block, approve it in the same write, propose it.
    pub(super) fn on_built(
        &mut self,
        slot: Slot,
        parent_hash: Hash,
        payload: ExecutionPayload,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        if self.building != Some((slot, parent_hash)) {
            return;
        }
        self.building = None;
        if self.slot_at(now) != slot
            || self.highest != parent_hash
            || self.silent()
            || self.has_approved_in(slot)
        {
            return self.advance(now, out);
        }
        let Some(parent) = self.tree.get(&parent_hash) else {
            return;
        };
        let (Some(set), Some(federation)) = (parent.child_set.clone(), parent.federation.clone())
        else {
            return;
        };
        let Some(signer) = self.index_in(&set) else {
            return;
        };
        let height = parent.header.height.next();
        let parent_certificate = parent.certificate;
        let body = self.fill_body(parent_hash, payload, out);
        let ancestor = |wanted: &Hash| self.tree.ancestor(&parent_hash, wanted);
        let Ok(after) = federation.next(&self.config.genesis, height, &body, ancestor) else {
            return;
        };
        let header = Header {
            version: HEADER_VERSION,
            evm_chain_id: self.config.genesis.spec().evm_chain_id,
            genesis_hash: self.config.genesis.hash(),
            height,
            slot,
            proposer: signer,
            parent_hash,
            parent_certificate,
            execution_hash: body.payload.block_hash,
            body_hash: body.hash(),
            set_hash: after.set().hash(),
            ledger_hash: empty_ledger_hash(),
        };
        let hash = header.hash();
        let block = Arc::new(Block { header, body });
        let mut entry = Entry::new(block.header.clone(), set);
        entry.child_set = Some(after.set().clone());
        entry.proposed = true;
        entry.body = BodyState::Stored;
        self.remember_set(after.set().clone());
        if let Some(next) = after.pending_set() {
            self.remember_set(next.clone());
        }
        entry.federation = Some(after);
        self.tree.insert(hash, entry);
        let target = |kind| VoteTarget {
            kind,
            height,
            slot,
            hash,
        };
        self.votes.approved_slot = slot;
        self.votes.latest.proposal = Some(target(VoteKind::Proposal));
        self.votes.latest.approval = Some(target(VoteKind::Approval));
        self.own_proposal = Some(block.clone());
        let record = Record {
            blocks: vec![block.clone()],
            ..self.record()
        };
        let written = out.len();
        out.push(Effect::Persist(Box::new(record)));
        out.push(Effect::Send(Send::Proposal {
            target: target(VoteKind::Proposal),
            signer,
            block: block.clone(),
        }));
        out.push(Effect::Send(Send::Approval {
            target: target(VoteKind::Approval),
            signer,
        }));
        if mutant::active(Mutant::ProposalBeforeWrite) {
            out[written..].rotate_left(1);
        }
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.execution = Execution::Asked;
        }
        out.push(Effect::Execute {
            hash,
            block: Some(block),
        });
    }

    /// What the leader adds to the payload: finality that the federation's change waits for, and an ordered change.
    fn fill_body(
        &mut self,
        parent_hash: Hash,
        payload: ExecutionPayload,
        out: &mut Vec<Effect>,
    ) -> Body {
        let mut body = Body::of(payload);
        let Some(federation) = self
            .tree
            .get(&parent_hash)
            .and_then(|p| p.federation.clone())
        else {
            return body;
        };
        if let Some(awaited) = federation.awaited_finality()
            && let Some(finality) = self.root_finality
            && finality.target.height >= awaited
            && self
                .tree
                .ancestor(&parent_hash, &finality.target.hash)
                .is_some()
        {
            body.finality.push(finality);
        }
        let Some(order) = self.order.clone() else {
            return body;
        };
        if federation.last_order() >= order.number {
            self.order = None;
            return body;
        }
        let height = self
            .tree
            .get(&parent_hash)
            .map(|p| p.header.height.next())
            .unwrap_or_default();
        let with = Body {
            federation_change: Some(order.clone()),
            ..body.clone()
        };
        let ancestor = |wanted: &Hash| self.tree.ancestor(&parent_hash, wanted);
        if federation
            .next(&self.config.genesis, height, &with, ancestor)
            .is_ok()
        {
            return with;
        }
        if federation.accepts(&order) {
            // Nothing is in the way but the order itself.
            out.push(Effect::Notice(Notice::OrderRefused {
                number: order.number,
            }));
            self.order = None;
        }
        body
    }
}
