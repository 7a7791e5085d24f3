//! Forged certificates, false answers, damaged messages, and proposals for other identities.

use std::time::Duration;

use alys_net::{Command, Protocol, Topic};
use alys_types::wire::{
    BlockRange, BlockReceipts, CertifiedHeader, HeaderRange, Message, Status, StatusAnswer,
};
use alys_types::{Bitmap, Block, Certificate, Header, Height, Slot, VoteKind, VoteTarget};

use super::{Byzantine, Said, now, publish};
use crate::peers::mutator;

/// Heights and slots by which false claims exceed the truth.
const LIE_AHEAD: u64 = 1_000;
/// Most bytes that a mutation appends to a message.
const MOST_EXTRA_BYTES: u64 = 32;

impl Byzantine {
    /// With each approval, also publishes a forged certificate for the last block seen in a
    /// proposal.
    pub(super) fn forge_certificate(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let mut all = now(command.clone());
        if let (Said::Approval(_), Some(header)) = (Said::read(&command), self.seen.clone()) {
            let (topic, forged) = self.forged(header);
            self.did();
            all.push((self.soon(2), publish(topic, &forged)));
        }
        all
    }

    /// Forges a certificate that has only the authority's own signature. Its bitmap names only the
    /// authority, or all authorities, or has the length of another federation.
    fn forged(&mut self, header: Header) -> (Topic, CertifiedHeader) {
        let kind = if self.flip() {
            VoteKind::Approval
        } else {
            VoteKind::Confirmation
        };
        let target = VoteTarget {
            kind,
            height: header.height,
            slot: header.slot,
            hash: header.hash(),
        };
        let signature = self.sign(target).signature;
        let claim = self.rng.below(3);
        let bits = usize::from(self.nodes) + usize::from(claim == 2);
        let mut signers = Bitmap::empty(bits);
        match claim {
            0 => signers.set(self.index),
            _ => (0..self.nodes).for_each(|node| signers.set(node)),
        }
        (
            Topic::Finality,
            CertifiedHeader {
                header,
                certificate: Certificate {
                    target,
                    signers,
                    signature,
                },
            },
        )
    }

    /// Damages one message in three.
    pub(super) fn mutate(&mut self, command: Command) -> Vec<(Duration, Command)> {
        if self.rng.below(3) != 0 {
            return now(command);
        }
        match command {
            Command::Publish { topic, payload } => {
                self.did();
                let topic = match self.rng.below(4) {
                    0 => Topic::ALL[self.rng.below(Topic::ALL.len() as u64) as usize],
                    _ => topic,
                };
                let mut payload = self.damaged(payload);
                payload.truncate(topic.max_payload());
                now(Command::Publish { topic, payload })
            }
            Command::Respond {
                id,
                response: Ok(payload),
            } => {
                self.did();
                now(Command::Respond {
                    id,
                    response: Ok(self.damaged(payload)),
                })
            }
            other => now(other),
        }
    }

    fn damaged(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len() as u64;
        match self.rng.below(4) {
            0 => bytes.truncate(self.rng.below(length + 1) as usize),
            1 => {
                let extra = 1 + self.rng.below(MOST_EXTRA_BYTES);
                bytes.extend((0..extra).map(|_| self.rng.below(256) as u8));
            }
            _ if length > 0 => {
                for _ in 0..1 + self.rng.below(8) {
                    bytes[self.rng.below(length) as usize] ^= 1 << self.rng.below(8);
                }
            }
            _ => bytes.push(0),
        }
        bytes
    }

    /// Withholds half of its proposals, and hands all of them over to another identity, which
    /// alters them. The node itself stays a member, so that it gets the next turn as well.
    pub(super) fn forge(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let (Said::Proposal(proposal), Some(mutator)) = (Said::read(&command), &self.mutator)
        else {
            return now(command);
        };
        mutator::lock(mutator).propose(proposal);
        self.did();
        if self.flip() {
            return Vec::new();
        }
        now(command)
    }

    /// Claims to be far ahead, answers range requests with inconsistent ranges, and alters single
    /// fields of its answers.
    pub(super) fn lie(&mut self, command: Command) -> Vec<(Duration, Command)> {
        match command {
            Command::SetStatus { status } if self.flip() => {
                let altered = mutator::alter_status(&status, &mut self.shop, &self.judge);
                if altered.is_some() {
                    self.did();
                }
                let status = altered.unwrap_or(status);
                now(Command::SetStatus { status })
            }
            Command::SetStatus { status } => match Status::decode(&status) {
                Ok(status) => {
                    self.did();
                    now(Command::SetStatus {
                        status: self.lied_status(status).encode(),
                    })
                }
                Err(_) => now(Command::SetStatus { status }),
            },
            Command::Respond {
                id,
                response: Ok(payload),
            } => {
                let lied = self
                    .questions
                    .remove(&id)
                    .and_then(|protocol| self.lied(protocol, &payload));
                if lied.is_some() {
                    self.did();
                }
                now(Command::Respond {
                    id,
                    response: Ok(lied.unwrap_or(payload)),
                })
            }
            Command::Respond { id, response } => {
                self.questions.remove(&id);
                now(Command::Respond { id, response })
            }
            other => now(other),
        }
    }

    fn lied_status(&mut self, mut status: Status) -> Status {
        status.head_height = Height(status.head_height.0 + LIE_AHEAD);
        if let (Some(header), true) = (self.seen.clone(), self.flip()) {
            let ahead = Header {
                height: Height(header.height.0 + LIE_AHEAD),
                slot: Slot(header.slot.0 + LIE_AHEAD),
                ..header
            };
            let (_, forged) = self.forged(ahead);
            match forged.certificate.target.kind {
                VoteKind::Confirmation => status.finalized = Some(forged),
                _ => status.highest = Some(forged),
            }
        }
        status
    }

    fn lied(&mut self, protocol: Protocol, payload: &[u8]) -> Option<Vec<u8>> {
        if self.flip() {
            return mutator::alter_answer(protocol, payload, &mut self.shop, &self.judge);
        }
        match protocol {
            Protocol::Status => {
                let mut answer = StatusAnswer::decode(payload).ok()?;
                answer.status = self.lied_status(answer.status);
                // The requester's own votes, moved to slots in which it did not sign them.
                for vote in [&mut answer.held.approval, &mut answer.held.confirmation]
                    .into_iter()
                    .flatten()
                {
                    vote.target.slot = Slot(vote.target.slot.0 + LIE_AHEAD);
                }
                Some(answer.encode())
            }
            Protocol::HeadersByRange => {
                let mut range = HeaderRange::decode(payload).ok()?;
                self.shuffle(&mut range.headers, |header| header);
                if self.flip() {
                    range.tip = None;
                }
                Some(range.encode())
            }
            Protocol::BlocksByRange => {
                let mut range = BlockRange::decode(payload).ok()?;
                self.shuffle(&mut range.blocks, |block| &mut block.header);
                Some(range.encode())
            }
            Protocol::BlocksByHash => {
                let mut blocks = Vec::<Block>::decode(payload).ok()?;
                self.shuffle(&mut blocks, |block| &mut block.header);
                Some(blocks.encode())
            }
            Protocol::Receipts => {
                let mut answer = Option::<BlockReceipts>::decode(payload).ok()?;
                match (&mut answer, self.flip()) {
                    (Some(BlockReceipts(receipts)), true) => receipts.reverse(),
                    (Some(BlockReceipts(receipts)), false) => drop(receipts.pop()),
                    (None, _) => answer = Some(BlockReceipts(Vec::new())),
                }
                Some(answer.encode())
            }
        }
    }

    /// Removes one item, swaps two, alters the slot of one, or removes all.
    fn shuffle<T>(&mut self, all: &mut Vec<T>, header: impl Fn(&mut T) -> &mut Header) {
        if all.is_empty() {
            return;
        }
        let a = self.rng.below(all.len() as u64) as usize;
        let b = self.rng.below(all.len() as u64) as usize;
        match self.rng.below(4) {
            0 => drop(all.remove(a)),
            1 if a != b => all.swap(a, b),
            2 => all.clear(),
            _ => header(&mut all[a]).slot = Slot(header(&mut all[b]).slot.0 + 1),
        }
    }
}
