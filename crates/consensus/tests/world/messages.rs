//! Messages between the nodes: their signatures, their delivery, and the checks of the receiver.

use std::sync::Arc;

use alys_consensus::{
    Broadcast, CertifiedBlock, Input, VerifiedBody, VerifiedProposal, VerifiedVote,
};
use alys_types::wire::{CertifiedHeader, Confirmation, Proposal};
use alys_types::{Block, Hash, Vote};

use super::{Event, Message, SLOT_MS, World};

impl World {
    pub(super) fn send(&mut self, node: usize, broadcast: Broadcast) {
        let message = match broadcast {
            Broadcast::Proposal {
                target,
                signer,
                block,
            } => {
                let vote = self.sign(node, target, signer);
                Message::Proposal(Box::new(Proposal {
                    block: (*block).clone(),
                    vote,
                }))
            }
            Broadcast::Approval { target, signer } => {
                let vote = self.sign(node, target, signer);
                let life = self.nodes[node].life;
                self.at(0, Event::Own { node, vote, life });
                Message::Approval(vote)
            }
            Broadcast::Confirmation {
                target,
                signer,
                certified,
            } => {
                let vote = self.sign(node, target, signer);
                if self.plan.blackout_after_lock && !self.blackout_done && self.finals.len() > 2 {
                    self.blackout_done = true;
                    self.at(0, Event::Blackout);
                }
                let life = self.nodes[node].life;
                self.at(0, Event::Own { node, vote, life });
                Message::Confirmation(Box::new(Confirmation {
                    vote,
                    certified: *certified,
                }))
            }
            Broadcast::Certificate(certified) => Message::Certificate(certified),
        };
        for to in 0..self.plan.nodes {
            if to != node {
                self.post(node, to, message.clone());
            }
        }
    }

    pub(super) fn own(&mut self, node: usize, vote: Vote) {
        let Some(state) = self.nodes[node].state.as_ref() else {
            return;
        };
        let set = state.set_for_vote(&vote);
        // The block may have been pruned meanwhile, and the set may have changed.
        if let Ok(vote) = VerifiedVote::check(vote, &set, &self.genesis) {
            self.input(node, Input::Vote(vote));
        }
    }

    pub(super) fn post(&mut self, from: usize, to: usize, message: Message) {
        if self.calm {
            let delay = 5 + self.below(40);
            return self.at(delay, Event::Deliver { to, message });
        }
        let apart = (self.partition >> from) & 1 != (self.partition >> to) & 1;
        if apart || self.chance(100) {
            return;
        }
        let delay = match self.below(10) {
            0 => self.below(3 * SLOT_MS),
            1..=3 => self.below(SLOT_MS),
            _ => 1 + self.below(150),
        };
        self.at(delay, Event::Deliver { to, message });
    }

    pub(super) fn receive(&mut self, to: usize, message: Message) {
        if self.is_byzantine(to) {
            return self.adversary_hears(to, message);
        }
        let Some(state) = self.nodes[to].state.as_ref() else {
            return;
        };
        let genesis = self.genesis.clone();
        let config = self.config.clone();
        let inputs: Vec<Input> = match message {
            Message::Proposal(proposal) => {
                let header = &proposal.block.header;
                match state.proposal_context(&header.parent_hash) {
                    Some(context) => VerifiedProposal::check(*proposal, &context, &config)
                        .map(Input::Proposal)
                        .into_iter()
                        .collect(),
                    None => return self.serve_sync(to),
                }
            }
            Message::Approval(vote) | Message::BareConfirmation(vote) => {
                let set = state.set_for_vote(&vote);
                VerifiedVote::check(vote, &set, &genesis)
                    .map(Input::Vote)
                    .into_iter()
                    .collect()
            }
            Message::Confirmation(confirmation) => {
                let set = state.set_for(&confirmation.certified.header);
                let certified = CertifiedBlock::check(confirmation.certified, &set, &config)
                    .map(Input::Certified);
                let vote = VerifiedVote::check(confirmation.vote, &set, &genesis).map(Input::Vote);
                certified.into_iter().chain(vote).collect()
            }
            Message::Certificate(certified) => {
                let set = state.set_for(&certified.header);
                CertifiedBlock::check(*certified, &set, &config)
                    .map(Input::Certified)
                    .into_iter()
                    .collect()
            }
            Message::Body(block) => VerifiedBody::check(block)
                .map(Input::Body)
                .into_iter()
                .collect(),
        };
        for input in inputs {
            self.input(to, input);
        }
    }

    /// Gives a node the certified chains of its reachable peers, from its last final block on.
    pub(super) fn serve_sync(&mut self, node: usize) {
        let Some(mine) = self.nodes[node]
            .state
            .as_ref()
            .map(|s| s.summary().final_height)
        else {
            return;
        };
        for peer in self.correct() {
            let Some(state) = self.nodes[peer].state.as_ref().filter(|_| peer != node) else {
                continue;
            };
            let disk = &self.nodes[peer].disk;
            let mut chain: Vec<Hash> = disk.finals.range(mine.next()..).map(|(_, h)| *h).collect();
            chain.extend(
                state
                    .certified_path()
                    .into_iter()
                    .filter(|(h, _)| *h > mine)
                    .map(|(_, h)| h),
            );
            let tail: Vec<CertifiedHeader> = state
                .highest_certified()
                .into_iter()
                .chain(state.last_final())
                .collect();
            let bodies: Vec<Arc<Block>> = chain
                .iter()
                .filter_map(|h| disk.bodies.get(h).cloned())
                .collect();
            let apart = (self.partition >> node) & 1 != (self.partition >> peer) & 1;
            if apart {
                continue;
            }
            for body in bodies.into_iter().take(64) {
                self.receive(node, Message::Body(body));
            }
            for certified in tail {
                self.receive(node, Message::Certificate(Box::new(certified)));
            }
        }
    }
}
