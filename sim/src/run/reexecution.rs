//! Re-execution of the final chain on a fresh execution client, which must reach the same states.

use std::sync::Arc;

use alloy_genesis::Genesis;
use alloy_rpc_types_engine::{CancunPayloadFields, ExecutionPayload, ExecutionPayloadSidecar};
use alys_integrations::embedded::execution::{CoreConfig, ExecutionCore};
use alys_integrations::execution::to_wire;
use alys_storage::MemoryStore;

use crate::invariants::{Judge, Violation};

/// Executes the final blocks from the genesis on, up to the first whose proposal was not observed.
/// Returns the height of the last executed block.
///
/// # Errors
/// [`Violation::ReplayDiffers`].
pub fn replay(judge: &Judge, genesis: &Genesis) -> Result<u64, Violation> {
    let differs = |height: u64, what: String| Err(Violation::ReplayDiffers { height, what });
    let mut core =
        match ExecutionCore::open(Arc::new(MemoryStore::new()), genesis, CoreConfig::default()) {
            Ok(core) => core,
            Err(error) => return differs(0, error.to_string()),
        };
    let oracles = judge.look();
    let mut reached = 0;
    for (height, last) in &oracles.finality.blocks {
        let Some(proposed) = oracles
            .blocks
            .get(&last.hash)
            .filter(|_| *height == reached + 1)
        else {
            break;
        };
        let payload = &proposed.block.body.payload;
        if payload.state_root != last.state_root {
            return differs(
                *height,
                "another state was reported than the block has".to_owned(),
            );
        }
        let wire = to_wire(payload);
        let sidecar = match &wire {
            ExecutionPayload::V3(_) => {
                let parent_beacon_block_root = proposed.parent().into();
                let fields = CancunPayloadFields {
                    parent_beacon_block_root,
                    versioned_hashes: Vec::new(),
                };
                ExecutionPayloadSidecar::v3(fields)
            }
            _ => ExecutionPayloadSidecar::none(),
        };
        match core.new_payload(wire, sidecar) {
            Ok(answer) if answer.is_valid() => reached = *height,
            Ok(answer) => return differs(*height, answer.status.to_string()),
            Err(error) => return differs(*height, error.to_string()),
        }
    }
    Ok(reached)
}
