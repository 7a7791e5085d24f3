//! Effects of the state machine become writes, signatures and messages, in order.

use std::sync::Arc;

use alys_consensus::{
    BlockRef, Broadcast, Effect, Evidence, Input, Notice, PayloadRequest, PowFinal, Verdict,
    VerifiedVote,
};
use alys_net::{Command, Topic};
use alys_runtime::trace::reached;
use alys_types::wire::{CertifiedHeader, Confirmation, Message as Wire, Proposal};
use alys_types::{Block, Hash, Height, Slot, Vote, VoteKind, VoteTarget};

use super::{ChainActor, ChainError};
use crate::actors::engine::EngineMessage;
use crate::actors::peers::PeerMessage;
use crate::events::{self, FinalBlock, NodeEvent};

impl ChainActor {
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), ChainError> {
        for effect in effects {
            match effect {
                Effect::Persist(record) => self.mailboxes.storage.persist(record).await?,
                Effect::Broadcast(broadcast) => self.sign_and_send(broadcast),
                Effect::Build(request) => self.build(request),
                Effect::Execute { hash, block } => {
                    let execute = EngineMessage::Execute { hash, block };
                    if self.mailboxes.engine.tell(execute).is_err() {
                        let verdict = Verdict::Unknown;
                        self.follow_ups.push_back(Input::Executed { hash, verdict });
                    }
                }
                Effect::Forkchoice {
                    head,
                    safe,
                    finalized,
                } => self.update_forkchoice(head, safe, finalized),
                Effect::Account { hash, block } => {
                    let account = EngineMessage::Account { hash, block };
                    if self.mailboxes.engine.tell(account).is_err() {
                        let additions = None;
                        self.follow_ups
                            .push_back(Input::Accounted { hash, additions });
                    }
                }
                Effect::LoadFinal { height } => self.load_final(height).await?,
                Effect::Work(offer) => self.mining.on_work(offer),
                Effect::PowFinal(range) => self.on_pow_final(range),
                Effect::FetchBlock { hash } => self.tell_peers(PeerMessage::Fetch { hash }),
                Effect::Sync { .. } => self.set_sync_target(),
                Effect::Finalized(blocks, height) => {
                    for (block, height) in with_heights(&blocks, height) {
                        self.report_final(height, block.slot, block.hash).await?;
                    }
                }
                Effect::Evidence(evidence) => self.report_evidence(&evidence),
                Effect::Notice(notice) => self.notice(notice),
                Effect::Trace(refusal) => tracing::trace!(%refusal, "not signed"),
            }
        }
        Ok(())
    }

    fn build(&mut self, request: PayloadRequest) {
        let PayloadRequest { slot, parent, .. } = request;
        let build = EngineMessage::Build(request);
        if self.mailboxes.engine.tell(build).is_err() {
            reached("state.chain.engine_busy");
            self.follow_ups
                .push_back(Input::BuildFailed { slot, parent });
        }
    }

    /// Loads a final block, whose additions the ledger lacks.
    async fn load_final(&mut self, height: Height) -> Result<(), ChainError> {
        let stored = self.mailboxes.storage.final_block(height).await?;
        let stored = stored.map(Box::new);
        self.follow_ups
            .push_back(Input::FinalLoaded { height, stored });
        Ok(())
    }

    fn on_pow_final(&mut self, range: PowFinal) {
        tracing::info!(
            sequence = range.sequence,
            first = range.first.0,
            end = range.end.0,
            miner = %range.miner,
            carrier = %range.carrier.hash,
            "blocks are final by proof of work"
        );
        self.mining.on_final(range);
        self.observe(NodeEvent::PowFinal(range));
    }

    /// `head` is the block and its execution block.
    fn update_forkchoice(&mut self, head: (Hash, Hash), safe: Hash, finalized: Hash) {
        let (block, head) = head;
        let update = EngineMessage::Forkchoice {
            head,
            safe,
            finalized,
        };
        if self.mailboxes.engine.tell(update).is_err() {
            // The execution client is far behind; the state machine sends the fork choice again.
            self.follow_ups.push_back(Input::ExecutionRestarted);
            return;
        }
        if let Some(header) = self.state.header(&block) {
            self.observe(NodeEvent::Head {
                height: header.height,
                slot: header.slot,
                hash: block,
            });
        }
    }

    /// Signs and broadcasts. The vote is durable, because its record precedes this effect.
    fn sign_and_send(&mut self, broadcast: Broadcast) {
        match broadcast {
            Broadcast::Proposal {
                target,
                signer,
                block,
            } => self.propose(target, signer, &block),
            Broadcast::Approval { target, signer } => {
                self.observe_parent(&target);
                if let Some(vote) = self.sign(target, signer) {
                    self.broadcast(Topic::Approvals, vote.encode());
                    self.count_own(vote);
                }
            }
            Broadcast::Confirmation {
                target,
                signer,
                certified,
            } => {
                if let Some(vote) = self.sign(target, signer) {
                    let certified = *certified;
                    let confirmation = Confirmation { vote, certified };
                    self.broadcast(Topic::Confirmations, confirmation.encode());
                    self.count_own(vote);
                }
            }
            Broadcast::Certificate(certified) => self.broadcast_certificate(&certified),
        }
    }

    fn propose(&mut self, target: VoteTarget, signer: u8, block: &Arc<Block>) {
        self.observe_parent(&target);
        let Some(vote) = self.sign(target, signer) else {
            return;
        };
        self.observe(NodeEvent::Proposed {
            height: target.height,
            slot: target.slot,
            hash: target.hash,
            transactions: block.body.payload.transactions.len(),
            block: block.clone(),
        });
        let proposal = Proposal {
            block: (**block).clone(),
            vote,
        };
        self.broadcast(Topic::Blocks, proposal.encode());
    }

    /// Reports the parent of a block that is voted for: the voting rule depends on both.
    fn observe_parent(&self, target: &VoteTarget) {
        if self.observer.is_none() {
            return;
        }
        if let Some(header) = self.state.header(&target.hash)
            && let Some(parent) = self.state.header(&header.parent_hash)
        {
            let block = BlockRef {
                slot: header.slot,
                hash: target.hash,
            };
            let parent = BlockRef {
                slot: parent.slot,
                hash: header.parent_hash,
            };
            self.observe(NodeEvent::VotesFor { block, parent });
        }
    }

    fn broadcast_certificate(&self, certified: &CertifiedHeader) {
        reached("state.chain.certificate_made");
        self.broadcast(Topic::Finality, certified.encode());
    }

    fn broadcast(&self, topic: Topic, payload: Vec<u8>) {
        self.command(Command::Publish { topic, payload });
    }

    /// `None` on a full node.
    fn sign(&self, target: VoteTarget, signer: u8) -> Option<Vote> {
        let key = self.key.as_ref()?;
        let signature = key.sign(&target.message(&self.genesis.chain_id()).0);
        self.metrics.on_vote(target.kind);
        self.observe(NodeEvent::Signed { target });
        Some(Vote {
            target,
            signer,
            signature,
        })
    }

    /// Counts an own vote like any other, once the effects before it are done.
    fn count_own(&mut self, vote: Vote) {
        assert!(
            vote.target.kind != VoteKind::Proposal,
            "the signature of a proposal is part of it"
        );
        let set = self.state.set_for_vote(&vote);
        // The check fails if the block was pruned and the federation changed; the vote is
        // irrelevant then.
        if let Ok(vote) = VerifiedVote::check(vote, &set, &self.genesis) {
            self.follow_ups.push_back(Input::Vote(vote));
        }
    }

    async fn report_final(&self, height: Height, slot: Slot, hash: Hash) -> Result<(), ChainError> {
        let Some(block) = self.mailboxes.storage.block(hash).await? else {
            return Ok(());
        };
        let payload = &block.body.payload;
        let start_ms = slot.start_ms(self.genesis.spec().slot_duration_ms);
        let event = FinalBlock {
            height,
            slot,
            hash,
            proposer: block.header.proposer,
            execution_hash: payload.block_hash,
            state_root: payload.state_root,
            transactions: payload.transactions.len(),
            gas_used: payload.gas_used,
            after_ms: self.now().wall_ms.saturating_sub(start_ms),
        };
        tracing::info!(
            height = height.0,
            slot = slot.0,
            proposer = event.proposer,
            transactions = event.transactions,
            gas = event.gas_used,
            after_ms = event.after_ms,
            %hash,
            execution_hash = %event.execution_hash,
            "final block"
        );
        self.metrics.on_final(event.after_ms);
        self.observe(NodeEvent::Finalized(event));
        Ok(())
    }

    fn report_evidence(&mut self, evidence: &Evidence) {
        reached("state.chain.evidence");
        self.metrics.on_evidence();
        let Evidence {
            first,
            second,
            set_hash,
        } = evidence;
        let (signer, slot) = (first.signer, first.target.slot);
        let set = self.state.set_for_vote(first);
        let me = self.proof.and_then(|proof| set.index_of(&proof.key));
        if set.hash() == *set_hash && me == Some(signer) && !self.is_own_evidence_logged {
            self.is_own_evidence_logged = true;
            tracing::warn!(
                %slot,
                "the key of this authority signed contradicting votes, so it is in use elsewhere: \
                 {}", events::KEY_IN_USE
            );
        }
        if let Some(left_out) = self.evidence_lines.admit(alys_runtime::time::now()) {
            tracing::warn!(signer, %slot, ?first, ?second, left_out,
                "an authority signed contradicting votes");
        } else {
            tracing::debug!(signer, %slot, ?first, ?second,
                "an authority signed contradicting votes");
        }
        self.observe(NodeEvent::Evidence { signer, slot });
    }

    fn notice(&mut self, notice: Notice) {
        let text = events::Notice::Agreement(notice);
        match notice {
            Notice::ClockJumped { .. } => {
                reached("state.chain.clock_distrusted");
                tracing::warn!("{text}");
            }
            Notice::ClockUnconfirmed { .. } => {
                reached("state.chain.clock_unconfirmed");
                tracing::warn!("{text}");
            }
            Notice::ApprovedAhead { .. } => {
                reached("state.chain.approved_ahead");
                tracing::warn!("{text}");
            }
            Notice::ClockTrusted => {
                reached("state.chain.clock_trusted");
                tracing::info!("{text}");
            }
            Notice::VotesLost { .. } => {
                reached("state.chain.votes_lost");
                tracing::warn!("{text}");
            }
            Notice::VotesRegained => {
                reached("state.chain.votes_regained");
                tracing::info!("{text}");
            }
            Notice::UnfitProposal { slot, .. } => {
                reached("state.chain.unfit_proposal");
                if let Some(left_out) = self.unfit_lines.admit(alys_runtime::time::now()) {
                    tracing::warn!(%slot, left_out, "{text}");
                } else {
                    tracing::debug!(%slot, "{text}");
                }
            }
            Notice::UnknownVote { .. } | Notice::OrderRefused { .. } => tracing::warn!("{text}"),
            Notice::OwnBlockInvalid { .. } => {
                reached("state.chain.own_block_invalid");
                tracing::warn!("{text}");
            }
            Notice::CertifiedValid { .. } => {
                reached("state.chain.certified_valid");
                tracing::info!("{text}");
            }
            Notice::CertifiedInvalid { .. }
            | Notice::ConflictingFinality { .. }
            | Notice::LedgerDiverged { .. } => {
                tracing::error!("{text}");
            }
        }
        self.observe(NodeEvent::Notice(text));
    }

    /// Reports a vote before it is counted.
    pub(super) fn report_vote(&self, vote: &VerifiedVote) {
        let set_hash = vote.set_hash();
        let Vote { target, signer, .. } = *vote.vote();
        self.observe(NodeEvent::Counts {
            target,
            signer,
            set_hash,
        });
    }

    pub(super) fn observe(&self, event: NodeEvent) {
        if let Some(observer) = &self.observer {
            observer(&event);
        }
    }
}

/// Consecutive blocks with their heights, the last one at `last`.
fn with_heights(blocks: &[BlockRef], last: Height) -> impl Iterator<Item = (&BlockRef, Height)> {
    let count = blocks.len() as u64;
    let below = last
        .0
        .checked_sub(count)
        .expect("final blocks are consecutive and above genesis");
    blocks
        .iter()
        .zip(below + 1..)
        .map(|(block, height)| (block, Height(height)))
}
