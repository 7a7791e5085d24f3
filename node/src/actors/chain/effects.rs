//! Effects become writes, signatures and messages, in order.

use alys_consensus::{BlockRef, Effect, Input, Notice, Send, VerifiedVote};
use alys_net::{Command, Topic};
use alys_runtime::trace::reached;
use alys_types::wire::{CertifiedHeader, Confirmation, Message as Wire, Proposal};
use alys_types::{Height, Slot, Vote, VoteKind, VoteTarget};

use super::{ChainActor, ChainError};
use crate::actors::engine::EngineMessage;
use crate::actors::peers::PeerMessage;
use crate::node::{FinalBlock, NodeEvent};

impl ChainActor {
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), ChainError> {
        for effect in effects {
            match effect {
                Effect::Persist(record) => self.doors.storage.persist(record).await?,
                Effect::Send(send) => self.send(send),
                Effect::Build(request) => {
                    if self
                        .doors
                        .engine
                        .tell(EngineMessage::Build(request))
                        .is_err()
                    {
                        reached("state.chain.engine_busy");
                        self.inbox.push_back(Input::BuildFailed {
                            slot: request.slot,
                            parent: request.parent,
                        });
                    }
                }
                Effect::Execute { hash, block } => {
                    if self
                        .doors
                        .engine
                        .tell(EngineMessage::Execute { hash, block })
                        .is_err()
                    {
                        let verdict = alys_consensus::Verdict::Unknown;
                        self.inbox.push_back(Input::Executed { hash, verdict });
                    }
                }
                Effect::Forkchoice {
                    head,
                    safe,
                    finalized,
                } => self.set_head(head, safe, finalized),
                Effect::FetchBlock { hash } => self.tell_peers(PeerMessage::Fetch { hash }),
                Effect::Sync { .. } => self.want(),
                Effect::Finalized(blocks, height) => {
                    let first = height.0 + 1 - blocks.len() as u64;
                    for (i, block) in blocks.iter().enumerate() {
                        self.report_final(Height(first + i as u64), block.slot, block.hash)
                            .await?;
                    }
                }
                Effect::Evidence(evidence) => {
                    let (signer, slot) = (evidence.first.signer, evidence.first.target.slot);
                    reached("state.chain.evidence");
                    tracing::warn!(signer, %slot, first = ?evidence.first, second = ?evidence.second,
                        "an authority contradicted itself");
                    self.observe(NodeEvent::Evidence { signer, slot });
                }
                Effect::Notice(notice) => self.notice(notice),
            }
        }
        Ok(())
    }

    fn set_head(
        &mut self,
        head: (alys_types::Hash, alys_types::Hash),
        safe: alys_types::Hash,
        finalized: alys_types::Hash,
    ) {
        if self
            .doors
            .engine
            .tell(EngineMessage::Forkchoice {
                head,
                safe,
                finalized,
            })
            .is_err()
        {
            // The queue to the execution client is full: it is far behind, and asked again.
            self.inbox.push_back(Input::ExecutionRestarted);
            return;
        }
        if let Some(header) = self.state.header(&head.0) {
            self.observe(NodeEvent::Head {
                height: header.height,
                slot: header.slot,
                hash: head.0,
            });
        }
    }

    /// Signs and publishes. The vote is on the disk: the record came before.
    fn send(&mut self, send: Send) {
        match send {
            Send::Proposal {
                target,
                signer,
                block,
            } => {
                self.tell_parent(&target);
                let Some(vote) = self.sign(target, signer) else {
                    return;
                };
                let transactions = block.body.payload.transactions.len();
                let (height, slot, hash) = (target.height, target.slot, target.hash);
                self.observe(NodeEvent::Proposed {
                    height,
                    slot,
                    hash,
                    transactions,
                    block: block.clone(),
                });
                let proposal = Proposal {
                    block: (*block).clone(),
                    vote,
                };
                self.publish(Topic::Blocks, proposal.encode());
            }
            Send::Approval { target, signer } => {
                self.tell_parent(&target);
                let Some(vote) = self.sign(target, signer) else {
                    return;
                };
                self.publish(Topic::Approvals, vote.encode());
                self.count_own(vote);
            }
            Send::Confirmation {
                target,
                signer,
                certified,
            } => {
                let Some(vote) = self.sign(target, signer) else {
                    return;
                };
                let confirmation = Confirmation {
                    vote,
                    certified: *certified,
                };
                self.publish(Topic::Confirmations, confirmation.encode());
                self.count_own(vote);
            }
            Send::Certificate(certified) => {
                reached("state.chain.certificate_made");
                self.publish_certificate(&certified);
            }
        }
    }

    /// What the block of a vote stands on is half of what the rule looks at.
    fn tell_parent(&self, target: &VoteTarget) {
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

    fn publish_certificate(&self, certified: &CertifiedHeader) {
        self.publish(Topic::Finality, certified.encode());
    }

    fn publish(&self, topic: Topic, payload: Vec<u8>) {
        self.command(Command::Publish { topic, payload });
    }

    fn sign(&self, target: VoteTarget, signer: u8) -> Option<Vote> {
        let key = self.key.as_ref()?;
        let signature = key.sign(&target.message(&self.genesis.chain_id()).0);
        self.observe(NodeEvent::Signed { target });
        Some(Vote {
            target,
            signer,
            signature,
        })
    }

    /// The own vote counts like any other, once the effects before it are done.
    fn count_own(&mut self, vote: Vote) {
        debug_assert!(vote.target.kind != VoteKind::Proposal);
        let set = self.state.set_for_vote(&vote);
        // Its block may have been pruned meanwhile, and the set have changed: then it no longer matters.
        if let Ok(vote) = VerifiedVote::check(vote, &set, &self.genesis) {
            self.inbox.push_back(Input::Vote(vote));
        }
    }

    async fn report_final(
        &self,
        height: Height,
        slot: Slot,
        hash: alys_types::Hash,
    ) -> Result<(), ChainError> {
        let Some(block) = self.doors.storage.block(hash).await? else {
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
            "final block"
        );
        self.observe(NodeEvent::Finalized(event));
        Ok(())
    }

    fn notice(&self, notice: Notice) {
        let text = match notice {
            Notice::ClockJumped { by_ms } => {
                reached("state.chain.clock_distrusted");
                tracing::warn!(
                    by_ms,
                    "the wall clock jumped: no votes until peers or the operator confirm it"
                );
                format!(
                    "the wall clock jumped by {by_ms} ms: no votes until peers or the operator confirm it"
                )
            }
            Notice::ClockTrusted => {
                reached("state.chain.clock_trusted");
                "the wall clock is trusted again".to_owned()
            }
            Notice::VotesLost { silent_until } => {
                reached("state.chain.votes_lost");
                tracing::warn!(%silent_until, "the vote state is lost: no votes until a later slot is final");
                format!(
                    "the vote state is lost: no votes until a block after slot {silent_until} is final"
                )
            }
            Notice::VotesRegained => {
                reached("state.chain.votes_regained");
                "votes again after a loss of the vote state".to_owned()
            }
            Notice::CertifiedInvalid { hash } => {
                tracing::error!(%hash, "the execution client calls a certified block invalid");
                format!("the execution client calls the certified block {hash} invalid")
            }
            Notice::ConflictingFinality {
                height,
                ours,
                theirs,
            } => {
                tracing::error!(%height, %ours, %theirs, "conflicting finality: more authorities are faulty than tolerated");
                format!("conflicting finality at height {height}: ours {ours}, theirs {theirs}")
            }
            Notice::OrderRefused { number } => {
                tracing::warn!(number, "an ordered federation change cannot be carried");
                format!("order {number} cannot be carried")
            }
        };
        self.observe(NodeEvent::Notice(text));
    }

    fn observe(&self, event: NodeEvent) {
        if let Some(observer) = &self.observer {
            observer(&event);
        }
    }
}
