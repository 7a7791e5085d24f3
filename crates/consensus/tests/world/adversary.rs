//! The adversary: signs any block that it has received, and proposes two blocks in its slots.

use alys_consensus::PayloadRequest;
use alys_types::spec::{HEADER_VERSION, prev_randao, vault_address};
use alys_types::wire::Proposal;
use alys_types::{Block, Body, Certificate, Hash, Header, Slot, VoteKind, VoteTarget};

use super::{Message, SLOT_MS, World};

impl World {
    pub(super) fn adversary_hears(&mut self, node: usize, message: Message) {
        let mut learn = |header: &Header, certificate: Option<Certificate>| {
            let entry = self
                .seen_by_adversary
                .entry(header.hash())
                .or_insert((header.clone(), None));
            entry.1 = entry.1.or(certificate);
        };
        match message {
            Message::Proposal(proposal) => learn(&proposal.block.header, None),
            Message::Confirmation(c) => learn(&c.certified.header, Some(c.certified.certificate)),
            Message::Certificate(c) if c.certificate.target.kind == VoteKind::Approval => {
                learn(&c.header, Some(c.certificate));
            }
            _ => return,
        }
        let hashes: Vec<Hash> = self.seen_by_adversary.keys().rev().copied().collect();
        for hash in hashes {
            if !self.adversary_voted.insert((node, hash)) {
                continue;
            }
            let header = self.seen_by_adversary[&hash].0.clone();
            // Each vote reaches a random part of the correct nodes.
            for kind in [VoteKind::Approval, VoteKind::Confirmation] {
                let target = VoteTarget {
                    kind,
                    height: header.height,
                    slot: header.slot,
                    hash,
                };
                let vote = self.sign(node, target, node as u8);
                let to = self.random();
                for peer in self.correct() {
                    if (to >> peer) & 1 == 1 {
                        let message = match kind {
                            VoteKind::Approval => Message::Approval(vote),
                            VoteKind::Proposal | VoteKind::Confirmation => {
                                Message::BareConfirmation(vote)
                            }
                        };
                        self.post(node, peer, message);
                    }
                }
            }
        }
    }

    pub(super) fn adversary_tick(&mut self, node: usize) {
        let slot = Slot::at(self.now_ms, SLOT_MS);
        if self.genesis.set().leader(slot) != node as u8 || !self.chance(200) {
            return;
        }
        // Two different blocks on any two certified parents, each to a part of the correct nodes.
        for salt in 0..2 {
            let parents: Vec<(Hash, Header, Option<Certificate>)> = self
                .seen_by_adversary
                .iter()
                .filter(|(_, (_, c))| c.is_some())
                .map(|(h, (header, c))| (*h, header.clone(), *c))
                .collect();
            let mut newest: Vec<_> = parents.into_iter().collect();
            newest.sort_by_key(|(_, h, _)| std::cmp::Reverse(h.slot));
            let genesis = (self.genesis.hash(), self.genesis.header().clone(), None);
            let pick = self.below(3) as usize;
            let (parent_hash, parent, certificate) = newest.get(pick).cloned().unwrap_or(genesis);
            if parent.slot >= slot {
                continue;
            }
            let request = PayloadRequest {
                parent: parent_hash,
                parent_execution: parent.execution_hash,
                slot,
                timestamp: slot.timestamp(SLOT_MS),
                prev_randao: prev_randao(&parent_hash, slot),
                fee_recipient: vault_address(),
                withdrawals: Vec::new(),
                is_empty: false,
            };
            let Some(ledger_hash) = self.ledger_after(&parent_hash).map(|l| l.root()) else {
                continue;
            };
            let mut payload = self.payload(&request, 1000 + salt);
            payload.block_number = parent.height.0 + 1;
            let body = Body::of(payload);
            let header = Header {
                version: HEADER_VERSION,
                evm_chain_id: 1337,
                genesis_hash: self.genesis.hash(),
                height: parent.height.next(),
                slot,
                proposer: node as u8,
                parent_hash,
                parent_certificate: certificate,
                execution_hash: body.payload.block_hash,
                body_hash: body.hash(),
                set_hash: parent.set_hash,
                ledger_hash,
            };
            let hash = header.hash();
            self.learn_ledger(&Block {
                header: header.clone(),
                body: body.clone(),
            });
            let target = VoteTarget {
                kind: VoteKind::Proposal,
                height: header.height,
                slot,
                hash,
            };
            let vote = self.sign(node, target, node as u8);
            self.seen_by_adversary.insert(hash, (header.clone(), None));
            let to = self.random();
            for peer in self.correct() {
                if (to >> peer) & 1 == salt & 1 {
                    let block = Block {
                        header: header.clone(),
                        body: body.clone(),
                    };
                    self.post(
                        node,
                        peer,
                        Message::Proposal(Box::new(Proposal { block, vote })),
                    );
                }
            }
        }
    }
}
