//! Byzantine authorities that propose a second block, or a block that cannot be executed.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use alloy_rpc_types_engine::{CancunPayloadFields, ExecutionData, ExecutionPayloadSidecar};
use alys_integrations::execution::to_wire;
use alys_net::{Command, Topic};
use alys_runtime::sim::{Rng, World};
use alys_types::spec::prev_randao;
use alys_types::wire::Proposal;
use alys_types::{Block, Hash, Header, VoteTarget};

use super::{Byzantine, KEPT_SLOTS, Said, now, publish};
use crate::cluster;

impl Byzantine {
    /// Creates an alternative to an own proposal, with a changed payload. Repeated calls for one
    /// block return the same alternative.
    pub(super) fn other(
        &mut self,
        proposal: &Proposal,
        change: impl FnOnce(&mut Rng, &mut Block),
    ) -> Option<Proposal> {
        let own = (proposal.vote.target.slot, proposal.vote.target.hash);
        if let Some(known) = self.others.get(&own) {
            return Some(known.clone());
        }
        let mut block = proposal.block.clone();
        change(&mut self.rng, &mut block);
        block.header.execution_hash = block.body.payload.block_hash;
        block.header.body_hash = block.body.hash();
        let Header { height, slot, .. } = block.header;
        let target = VoteTarget {
            hash: block.header.hash(),
            height,
            slot,
            ..proposal.vote.target
        };
        let other = Proposal {
            vote: self.sign(target),
            block,
        };
        let at_ms = cluster::now_ms(World::current());
        let block = Arc::new(other.block.clone());
        // Correct nodes check the block, so its own violations are ignored here.
        let _ = self
            .judge
            .look()
            .learn(at_ms, self.index, target.hash, &block);
        while self.others.len() >= KEPT_SLOTS {
            self.others.pop_first();
        }
        self.others.insert(own, other.clone());
        Some(other)
    }

    /// Publishes two blocks in each own slot, and two approvals in every slot.
    pub(super) fn equivocate(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let mut all = now(command.clone());
        let second = match Said::read(&command) {
            Said::Proposal(proposal) => self
                .other(&proposal, |_, block| {
                    block.body.payload.extra_data = b"another".to_vec();
                    seal(block);
                })
                .map(|other| publish(Topic::Blocks, &other)),
            Said::Approval(vote) => {
                let hash = match self.others.get(&(vote.target.slot, vote.target.hash)) {
                    Some(other) => other.vote.target.hash,
                    None => Hash([self.rng.below(256) as u8; 32]),
                };
                Some(publish(
                    Topic::Approvals,
                    &self.sign(VoteTarget {
                        hash,
                        ..vote.target
                    }),
                ))
            }
            Said::Confirmation(_) | Said::Else => None,
        };
        let Some(second) = second else { return all };
        self.did();
        let wait = self.soon(4);
        all.push((wait, second));
        if self.flip() {
            // The alternative leaves first.
            (all[0].0, all[1].0) = (all[1].0, all[0].0);
        }
        all
    }

    /// Replaces own blocks by invalid ones, and approves those. A block for a slot of another
    /// leader leaves when that slot begins.
    pub(super) fn replace_payload(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let replaced = match Said::read(&command) {
            Said::Proposal(proposal) => {
                let slot_ms = self.slots.slot_ms;
                self.other(&proposal, |rng, block| spoil(rng, block, slot_ms))
                    .map(|other| publish(Topic::Blocks, &other))
            }
            Said::Approval(vote) => self
                .others
                .get(&(vote.target.slot, vote.target.hash))
                .map(|other| VoteTarget {
                    kind: vote.target.kind,
                    ..other.vote.target
                })
                .map(|target| publish(Topic::Approvals, &self.sign(target))),
            Said::Confirmation(_) | Said::Else => None,
        };
        match replaced {
            Some(replaced) => {
                self.did();
                let slot = Said::read(&replaced)
                    .target()
                    .map_or(0, |target| target.slot.start_ms(self.slots.slot_ms));
                vec![(
                    Duration::from_millis(slot.saturating_sub(self.now_ms())),
                    replaced,
                )]
            }
            None => now(command),
        }
    }
}

/// Makes a block invalid: it fails in execution, or breaks a rule that is checked before it.
fn spoil(rng: &mut Rng, block: &mut Block, slot_ms: u64) {
    let payload = &mut block.body.payload;
    match rng.below(10) {
        0 => payload.state_root.0[0] ^= 1,
        1 => payload.gas_used += 1,
        2 if !payload.transactions.is_empty() => drop(payload.transactions.pop()),
        2 => payload.receipts_root.0[0] ^= 1,
        3 => payload.timestamp += 1,
        4 => payload.prev_randao.0[0] ^= 1,
        5 => payload.fee_recipient.0[0] ^= 1,
        6 => block.header.height.0 += 1,
        7 | 8 => {
            // Out of turn, because another authority leads the next slot.
            block.header.slot = block.header.slot.next();
            payload.timestamp = block.header.slot.timestamp(slot_ms);
            payload.prev_randao = prev_randao(&block.header.parent_hash, block.header.slot);
        }
        _ => {
            // A hash that no block has.
            payload.block_hash.0[0] ^= 1;
            return;
        }
    }
    seal(block);
}

/// Sets the block hash to that of the changed payload, so that only execution can detect the fault.
pub(in crate::peers) fn seal(block: &mut Block) {
    let parent_beacon_block_root = B256::new(block.header.parent_hash.0);
    let sidecar = match block.body.payload.blob_gas {
        Some(_) => ExecutionPayloadSidecar::v3(CancunPayloadFields {
            parent_beacon_block_root,
            versioned_hashes: Vec::new(),
        }),
        None => ExecutionPayloadSidecar::none(),
    };
    let data = ExecutionData::new(to_wire(&block.body.payload), sidecar);
    let sealed: Result<alloy_consensus::Block<alloy_consensus::TxEnvelope>, _> =
        data.try_into_block();
    match sealed {
        Ok(sealed) => block.body.payload.block_hash = Hash(sealed.header.hash_slow().0),
        // A payload that is not a valid block gets a wrong hash, too.
        Err(_) => block.body.payload.block_hash.0[0] ^= 1,
    }
}
