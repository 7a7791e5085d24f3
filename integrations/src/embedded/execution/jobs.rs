//! The payload builds that `engine_forkchoiceUpdated` has started.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use alloy_rpc_types_engine::{PayloadAttributes, PayloadId};

use super::blocks::{ExecutedBlock, SealedHeader};

/// Started builds, newest last.
#[derive(Debug, Default)]
pub(crate) struct Jobs(pub(super) VecDeque<Job>);

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: PayloadId,
    pub(super) parent: Arc<SealedHeader>,
    pub(super) attributes: PayloadAttributes,
    /// The payload must not contain transactions.
    pub(super) is_empty: bool,
    pub(super) last_build: Option<Build>,
}

/// The result of a build.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) executed: ExecutedBlock,
    /// Version of the pool from which the transactions were taken.
    pub(super) pool_version: u64,
    /// Income of the fee recipient in wei.
    pub(super) value: U256,
}

impl Jobs {
    /// The block with this hash, if it is the result of a build.
    pub(crate) fn built(&self, hash: B256) -> Option<ExecutedBlock> {
        self.0
            .iter()
            .filter_map(|job| job.last_build.as_ref())
            .map(|build| &build.executed)
            .find(|executed| executed.block.hash == hash)
            .cloned()
    }
}
