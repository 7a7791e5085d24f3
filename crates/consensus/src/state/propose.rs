//! Proposals and approvals: rules 3.1, 3.2 and 6.5 (docs/protocol.md).

use std::sync::Arc;

use alys_types::spec::{prev_randao, vault_address};
use alys_types::{
    Block, Body, ExecutionPayload, Hash, Header, Height, Slot, VoteKind, VoteTarget, Withdrawal,
    WithdrawalKind,
};

use super::work::Carried;
use super::{State, trace};
use crate::federation::FederationState;
use crate::input::{BlockRef, Broadcast, Effect, Notice, Now, PayloadRequest, Record};
use crate::rules::validity::{Invalid, check_own_block};
use crate::rules::work::{self, Claims};
use crate::rules::{self, Candidate, Proposing, Refusal};
use crate::tree::{BodyState, Entry, Execution};

/// Own turns without a payload in time, or whose block got no certificate, after which a leader
/// proposes without transactions: one is lost in every short disturbance of the network (rule 6.5).
pub(super) const MAX_FAILED_PROPOSALS: usize = 2;

/// A payload that the execution layer builds.
#[derive(Debug)]
pub(super) struct Building {
    slot: Slot,
    parent: Hash,
    /// The proof of work that the block carries; the payload has its fees as withdrawals.
    carried: Option<Carried>,
}

impl Building {
    fn is(&self, slot: Slot, parent: &Hash) -> bool {
        self.slot == slot && self.parent == *parent
    }
}

impl State {
    /// Requests a payload when this node leads the present slot and may propose.
    pub(super) fn try_propose(&mut self, now: Now, out: &mut Vec<Effect>) {
        let slot = self.slot_at(now);
        if self.config.me.is_none() || self.is_building(slot, &self.highest) {
            return;
        }
        let carried = self.proof_to_carry(&self.highest, slot);
        match self.may_propose(slot, carried.is_some()) {
            None => return,
            Some(Err(refusal)) => return trace(&mut self.traced.proposal, refusal, out),
            Some(Ok(_)) => {}
        }
        if self.awaits_certificate(slot, now) {
            return;
        }
        let Some(withdrawals) = self.fees_of(carried.as_ref()) else {
            return;
        };
        let spec = self.config.genesis.spec();
        let request = PayloadRequest {
            parent: self.highest,
            parent_execution: self.highest_entry().header.execution_hash,
            slot,
            timestamp: rules::block_timestamp(slot, spec, now, self.bug()),
            prev_randao: prev_randao(&self.highest, slot),
            fee_recipient: vault_address(),
            withdrawals,
            is_empty: self.proposes_empty(slot),
        };
        let parent = self.highest;
        self.building = Some(Building {
            slot,
            parent,
            carried,
        });
        out.push(Effect::Build(request));
    }

    fn is_building(&self, slot: Slot, parent: &Hash) -> bool {
        let building = self.building.as_ref();
        building.is_some_and(|building| building.is(slot, parent))
    }

    /// The withdrawals of a block on the highest one; `None` if the ledger after that is unknown.
    fn fees_of(&self, carried: Option<&Carried>) -> Option<Vec<Withdrawal>> {
        let Some(carried) = carried else {
            return Some(Vec::new());
        };
        let ledger = self.ledger_after(&self.highest)?;
        let set = self.newest_set();
        let (genesis, proof) = (&self.config.genesis, &carried.header);
        let fees = work::fees(ledger, genesis, &set, proof, carried.end, self.bug());
        Some(fees.withdrawals)
    }

    /// The own index if the node may propose in this slot; `None` while the set of the block's
    /// height is unknown.
    fn may_propose(&self, slot: Slot, has_proof: bool) -> Option<Result<u8, Refusal>> {
        let parent = self.tree.get(&self.highest)?;
        let set = parent.child_set.as_ref()?;
        let head = self.forkchoice.map(|(head, ..)| head);
        let block = Proposing {
            slot,
            leader: rules::leader(set, slot, parent.header.height.next(), self.bug()),
            index: self.index_in(set),
            parent: BlockRef {
                slot: parent.header.slot,
                hash: self.highest,
            },
            is_certified: parent.certificate.is_some()
                || self.highest == self.config.genesis.hash(),
            is_behind: self.sync_target.is_some(),
            is_executed: parent.is_applied() && head == Some(self.highest),
        };
        let permission = self.may_vote();
        let index = permission.and_then(|()| rules::may_propose(&self.votes, &block, self.bug()));
        Some(index.and_then(|index| {
            self.check_gate(&self.highest, has_proof)?;
            Ok(index)
        }))
    }

    /// True in the first quarter of a slot while the proposal of the slot before, on the highest
    /// block, has no certificate. The own clock may be ahead, and a block beside that proposal
    /// would waste one of the two.
    fn awaits_certificate(&self, slot: Slot, now: Now) -> bool {
        let slot_ms = self.config.genesis.spec().slot_duration_ms;
        let until_ms = slot.start_ms(slot_ms).saturating_add(slot_ms / 4);
        let before = slot.saturating_sub(1);
        let is_awaited =
            |e: &Entry| e.header.slot == before && e.proposed && !e.execution.is_invalid();
        now.wall_ms < until_ms
            && self
                .tree
                .children(&self.highest)
                .any(|(_, e)| is_awaited(e))
    }

    /// Rule 6.5 (docs/protocol.md): true when transactions may be the reason that this node refused
    /// its payload, that the payload came too late, or that its blocks got no certificate.
    fn proposes_empty(&self, slot: Slot) -> bool {
        self.refused_slot == Some(slot) || self.failed_turns() >= MAX_FAILED_PROPOSALS
    }

    fn failed_turns(&self) -> usize {
        let without_payload = self.without_payload.len();
        self.uncertified.len().saturating_add(without_payload)
    }

    /// Counts a turn without a payload in time.
    fn remember_without_payload(&mut self, slot: Slot) {
        let turns = &mut self.without_payload;
        if !turns.contains(&slot) && turns.len() < MAX_FAILED_PROPOSALS {
            turns.push(slot);
        }
    }

    /// Counts an own proposal. The count is not stored, because two more proposals with
    /// transactions after a restart are harmless.
    fn remember_uncertified(&mut self, hash: Hash) {
        if self.uncertified.len() >= MAX_FAILED_PROPOSALS {
            self.uncertified.remove(0);
        }
        self.uncertified.push(hash);
    }

    /// A certificate of an own block: the next one has transactions again. After payloads that came
    /// too late, one more of them is enough for a block without transactions.
    pub(super) fn forget_uncertified(&mut self, certified: &Hash) {
        if self.uncertified.contains(certified) {
            self.uncertified.clear();
            self.without_payload.truncate(MAX_FAILED_PROPOSALS - 1);
        }
    }

    pub(super) fn on_build_failed(&mut self, slot: Slot, parent: Hash) {
        if self.is_building(slot, &parent) {
            self.building = None;
            self.remember_without_payload(slot);
        }
    }

    /// Makes a block of the payload, checks it as if it came from a peer, approves it in the same
    /// write, and proposes it, if the rule still permits it.
    pub(super) fn on_built(
        &mut self,
        slot: Slot,
        parent_hash: Hash,
        payload: ExecutionPayload,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let building = self.building.take_if(|b| b.is(slot, &parent_hash));
        let Some(Building { carried, .. }) = building else {
            return;
        };
        if self.slot_at(now) != slot {
            self.remember_without_payload(slot);
            return self.advance(now, out);
        }
        if self.highest != parent_hash {
            return self.advance(now, out);
        }
        if !payload.transactions.is_empty() {
            self.without_payload.clear();
        }
        let signer = match self.may_propose(slot, carried.is_some()) {
            None => return,
            Some(Err(refusal)) => {
                trace(&mut self.traced.proposal, refusal, out);
                return self.advance(now, out);
            }
            Some(Ok(signer)) => signer,
        };
        let made = self.make_block(slot, signer, payload, carried, out);
        let Some((block, federation)) = made else {
            return;
        };
        match self.check_own(&block) {
            None => return,
            Some(Err(rule)) => {
                if let (Invalid::Work(_), Some(proof)) = (rule, &block.body.auxpow) {
                    self.drop_proof(proof);
                }
                return self.on_own_block_invalid(slot, rule, now, out);
            }
            Some(Ok(())) => {}
        }
        let block = Arc::new(block);
        let hash = self.insert_own_block(&block, federation);
        self.remember_uncertified(hash);
        self.keep_claims(&hash, &block);
        self.update_ledgers(hash, out);
        self.sign_own_block(hash, &block, signer, out);
        out.push(Effect::Execute {
            hash,
            block: Some(block),
        });
    }

    /// Rule 2.5 (docs/protocol.md). `None` if the parent is no longer known.
    fn check_own(&self, block: &Block) -> Option<Result<(), Invalid>> {
        let parent = &block.header.parent_hash;
        let context = self.proposal_context(parent)?;
        let before = self.ledger_after(parent)?;
        let judge = || {
            let claims = Claims::of(block);
            work::judge(&block.header, &claims, before, &context.set, &self.config)
        };
        let checked = check_own_block(block, &context, &self.config);
        Some(checked.and_then(|()| Ok(judge()?)))
    }

    /// Requests a payload without transactions in the same slot, once: if that is refused too, the
    /// fault is in the settings of the execution client, and the slot stays without a block.
    fn on_own_block_invalid(&mut self, slot: Slot, rule: Invalid, now: Now, out: &mut Vec<Effect>) {
        out.push(Effect::Notice(Notice::OwnBlockInvalid { slot, rule }));
        if self.refused_slot.replace(slot) == Some(slot) {
            let parent = self.highest;
            self.building = Some(Building {
                slot,
                parent,
                carried: None,
            });
            return;
        }
        self.try_propose(now, out);
    }

    /// The block of a payload on the highest certified block, with the federation after it.
    fn make_block(
        &mut self,
        slot: Slot,
        proposer: u8,
        payload: ExecutionPayload,
        carried: Option<Carried>,
        out: &mut Vec<Effect>,
    ) -> Option<(Block, FederationState)> {
        let parent_hash = self.highest;
        let body = self.fill_body(parent_hash, payload, carried, out);
        let ledger_hash = self.ledger_after(&parent_hash)?.root();
        let parent = self.tree.get(&parent_hash)?;
        let height = parent.header.height.next();
        let federation = parent.federation.as_ref()?;
        let ancestor = |wanted: &Hash| self.tree.ancestor(&parent_hash, wanted);
        let after = federation
            .next(&self.config, height, &body, ancestor)
            .ok()?;
        let genesis = &self.config.genesis;
        let header = Header {
            version: genesis.upgrade(height).header_version,
            evm_chain_id: genesis.spec().evm_chain_id,
            genesis_hash: genesis.hash(),
            height,
            slot,
            proposer,
            parent_hash,
            parent_certificate: parent.certificate,
            execution_hash: body.payload.block_hash,
            body_hash: body.hash(),
            set_hash: after.set().hash(),
            ledger_hash,
        };
        Some((Block { header, body }, after))
    }

    /// Adds the own block to the tree. Its body counts as stored, because the write that approves
    /// it holds it.
    fn insert_own_block(&mut self, block: &Arc<Block>, after: FederationState) -> Hash {
        let hash = block.header.hash();
        let set = self.newest_set();
        let mut entry = Entry::new(block.header.clone(), set);
        entry.proposed = true;
        entry.body = BodyState::Stored;
        entry.execution = Execution::Asked;
        self.tree.insert(hash, entry, &self.config);
        self.set_federation(&hash, after);
        hash
    }

    fn sign_own_block(
        &mut self,
        hash: Hash,
        block: &Arc<Block>,
        signer: u8,
        out: &mut Vec<Effect>,
    ) {
        let target = |kind| VoteTarget {
            kind,
            height: block.header.height,
            slot: block.header.slot,
            hash,
        };
        let proposal = target(VoteKind::Proposal);
        let approval = target(VoteKind::Approval);
        let before = self.votes;
        self.votes.approved_slot = approval.slot;
        self.votes.latest.proposal = Some(proposal);
        self.votes.latest.approval = Some(approval);
        rules::assert_approved(&before, &self.votes, &approval, self.bug());
        self.own_proposal = Some(block.clone());
        let record = Record {
            blocks: vec![block.clone()],
            ..self.record()
        };
        let messages = vec![
            Broadcast::Proposal {
                target: proposal,
                signer,
                block: block.clone(),
            },
            Broadcast::Approval {
                target: approval,
                signer,
            },
        ];
        out.extend(rules::persist_then_broadcast(record, messages, self.bug()));
    }

    /// A body of the payload, with the leader's additions: a proof of work, the finality
    /// certificate that it or the federation's change awaits, and an ordered change.
    fn fill_body(
        &mut self,
        parent_hash: Hash,
        payload: ExecutionPayload,
        carried: Option<Carried>,
        out: &mut Vec<Effect>,
    ) -> Body {
        let mut body = Body::of(payload);
        let end = carried.as_ref().map(|carried| carried.end);
        body.withdrawal_kinds = vec![WithdrawalKind::Fee; body.payload.withdrawals.len()];
        body.auxpow = carried.map(|carried| carried.header);
        let Some(parent) = self.tree.get(&parent_hash) else {
            return body;
        };
        let height = parent.header.height.next();
        let Some(federation) = parent.federation.clone() else {
            return body;
        };
        let awaited = [federation.awaited_finality(), end];
        let mut awaited = awaited.into_iter().flatten();
        if let Some(finality) = self.root_finality
            && awaited.any(|height| finality.target.height >= height)
            && self.is_ancestor(&parent_hash, &finality.target.hash)
        {
            body.finality.push(finality);
        }
        if let Some(with_change) = self.add_change(&federation, height, &parent_hash, &body, out) {
            return with_change;
        }
        body
    }

    fn is_ancestor(&self, parent: &Hash, wanted: &Hash) -> bool {
        self.tree.ancestor(parent, wanted).is_some()
    }

    /// The body with the ordered federation change, if the next block may carry it. An order that
    /// was carried already, or that can never be carried, is dropped.
    fn add_change(
        &mut self,
        federation: &FederationState,
        height: Height,
        parent_hash: &Hash,
        body: &Body,
        out: &mut Vec<Effect>,
    ) -> Option<Body> {
        let order = self.order.clone()?;
        if federation.last_order() >= order.number {
            self.order = None;
            return None;
        }
        let with_change = Body {
            orders: vec![order.clone()],
            ..body.clone()
        };
        let ancestor = |wanted: &Hash| self.tree.ancestor(parent_hash, wanted);
        let next = federation.next(&self.config, height, &with_change, ancestor);
        if next.is_ok() {
            return Some(with_change);
        }
        if federation.accepts(&order) {
            // The federation is ready for a change, so the order itself is at fault.
            let number = order.number;
            out.push(Effect::Notice(Notice::OrderRefused { number }));
            self.order = None;
        }
        None
    }

    /// Approves a block whose body is in memory, if rule 3.2 permits it.
    pub(super) fn try_approve(&mut self, hash: Hash, now: Now, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get(&hash) else {
            return;
        };
        let header = &entry.header;
        let Some(parent) = self.tree.get(&header.parent_hash) else {
            return;
        };
        let BodyState::Memory(block) = &entry.body else {
            return; // Approved already.
        };
        let Some(signer) = self.index_in(&entry.set) else {
            return;
        };
        let candidate = Candidate {
            slot: header.slot,
            parent: parent.header.slot,
            is_proposed: entry.proposed,
            is_valid: entry.is_applied() && entry.is_judged,
        };
        let spec = self.config.genesis.spec();
        let permission = self
            .may_vote()
            .and_then(|()| rules::may_approve(&self.votes, &candidate, spec, now, self.bug()));
        let has_proof = entry.claims.as_ref().is_some_and(|c| c.proof.is_some());
        let permission = permission.and_then(|()| self.check_gate(&header.parent_hash, has_proof));
        if let Err(refusal) = permission {
            return trace(&mut self.traced.approval, refusal, out);
        }
        let target = VoteTarget {
            kind: VoteKind::Approval,
            height: header.height,
            slot: header.slot,
            hash,
        };
        let blocks = vec![block.clone()];
        let before = self.votes;
        self.votes.approved_slot = target.slot;
        self.votes.latest.approval = Some(target);
        rules::assert_approved(&before, &self.votes, &target, self.bug());
        let record = Record {
            blocks,
            ..self.record()
        };
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.body = BodyState::Stored;
        }
        let messages = vec![Broadcast::Approval { target, signer }];
        out.extend(rules::persist_then_broadcast(record, messages, self.bug()));
    }
}
