//! Rules 2.5 and 3.6 (docs/protocol.md), a valid block, as far as it needs neither the execution
//! layer nor the branch below the parent.

use alys_types::spec::{prev_randao, transaction_type, vault_address};
use alys_types::{
    Block, Certificate, ExecutionPayload, Genesis, Hash, Header, Height, LimitError, Slot, VoteKind,
};

use super::leader;
use super::work::WorkFault;
use crate::config::Config;
use crate::state::ProposalContext;

/// The rule that a block breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("header version {found}, expected {expected}")]
    Version { expected: u16, found: u16 },
    #[error("block of another chain: EVM chain id {evm_chain_id}, genesis {genesis}")]
    OtherChain { evm_chain_id: u64, genesis: Hash },
    #[error("parent is {found}, expected {expected}")]
    Parent { expected: Hash, found: Hash },
    #[error("height {found} on a parent of height {parent}")]
    Height { parent: Height, found: Height },
    #[error("slot {found} is not after the parent's slot {parent}")]
    SlotOrder { parent: Slot, found: Slot },
    #[error("proposer {found} is not the leader {leader} of its slot")]
    NotTheLeader { leader: u8, found: u8 },
    #[error("the header does not carry the certificate of its parent")]
    ParentCertificate,
    #[error("body does not match the header's body hash")]
    BodyHash,
    #[error("{0}")]
    Work(#[from] WorkFault),
    #[error("{0}")]
    Limit(#[from] LimitError),
    #[error("payload.{field} is not the value that the protocol computes")]
    Payload { field: &'static str },
    #[error("payload.gas_limit {found} is above {limit}, the spec's max_gas_limit")]
    GasLimit { limit: u64, found: u64 },
    #[error("payload.blob_gas_used is {used}, and there are no blob transactions")]
    Blobs { used: u64 },
    /// The spec's upgrade table does not list the type of a transaction; `None` if the bytes are no
    /// transaction.
    #[error("transaction {index} of the payload has type {found:?}, which the spec does not list")]
    TransactionType { index: usize, found: Option<u8> },
    #[error("body holds {what}, which this version of the rules does not admit")]
    NotAdmitted { what: &'static str },
    #[error("order {number} is a {kind}, which this version of the rules does not admit")]
    OrderNotAdmitted { number: u64, kind: &'static str },
}

/// Checks the rest of a block against its parent, after [`check_header`]: body and payload.
/// Certificates and signatures are checked in [`crate::verify`], the federation's change in
/// [`crate::federation`], proof of work, withdrawals and ledger hash in [`super::work`].
pub(crate) fn check_contents(
    block: &Block,
    context: &ProposalContext,
    config: &Config,
) -> Result<(), Invalid> {
    check_parent_certificate(&block.header.parent_certificate, context)?;
    check_body_belongs(block)?;
    check_payload(block, context, config)?;
    check_admitted(block)
}

/// Rule 2.5 (docs/protocol.md): a leader applies the rules of validity to its own block. With the
/// planted bug it signs a block that other authorities refuse.
pub(crate) fn check_own_block(
    block: &Block,
    context: &ProposalContext,
    config: &Config,
) -> Result<(), Invalid> {
    let checked = check_header(&block.header, context, config)
        .and_then(|()| check_contents(block, context, config));
    if checked.is_err() && config.planted_bug.active("own-block-unchecked") {
        return Ok(());
    }
    checked
}

/// Checks that the body is the header's and within limits.
pub fn check_body_belongs(block: &Block) -> Result<(), Invalid> {
    block.body.check_limits()?;
    block.check_size()?;
    if block.body.hash() != block.header.body_hash {
        return Err(Invalid::BodyHash);
    }
    Ok(())
}

/// Checks the header against its parent, as far as it needs neither the body nor the parent's
/// certificate.
pub(crate) fn check_header(
    header: &Header,
    context: &ProposalContext,
    config: &Config,
) -> Result<(), Invalid> {
    let parent = &context.parent;
    let genesis = &config.genesis;
    let expected = genesis.upgrade(header.height).header_version;
    if header.version != expected {
        return Err(Invalid::Version {
            expected,
            found: header.version,
        });
    }
    if header.evm_chain_id != genesis.spec().evm_chain_id || header.genesis_hash != genesis.hash() {
        return Err(Invalid::OtherChain {
            evm_chain_id: header.evm_chain_id,
            genesis: header.genesis_hash,
        });
    }
    if header.parent_hash != context.parent_hash {
        return Err(Invalid::Parent {
            expected: context.parent_hash,
            found: header.parent_hash,
        });
    }
    if header.height != parent.height.next() {
        return Err(Invalid::Height {
            parent: parent.height,
            found: header.height,
        });
    }
    if header.slot <= parent.slot {
        return Err(Invalid::SlotOrder {
            parent: parent.slot,
            found: header.slot,
        });
    }
    let leader = leader(
        &context.set,
        header.slot,
        header.height,
        &config.planted_bug,
    );
    if header.proposer != leader {
        return Err(Invalid::NotTheLeader {
            leader,
            found: header.proposer,
        });
    }
    Ok(())
}

/// A child of genesis carries no certificate, every other block the approvals of its parent.
fn check_parent_certificate(
    certificate: &Option<Certificate>,
    context: &ProposalContext,
) -> Result<(), Invalid> {
    let parent = &context.parent;
    if parent.height == Height(0) {
        return certificate
            .is_none()
            .then_some(())
            .ok_or(Invalid::ParentCertificate);
    }
    let target = certificate
        .as_ref()
        .ok_or(Invalid::ParentCertificate)?
        .target;
    let expected = (
        VoteKind::Approval,
        parent.height,
        parent.slot,
        context.parent_hash,
    );
    if (target.kind, target.height, target.slot, target.hash) != expected {
        return Err(Invalid::ParentCertificate);
    }
    Ok(())
}

fn check_payload(block: &Block, context: &ProposalContext, config: &Config) -> Result<(), Invalid> {
    let header = &block.header;
    let payload = &block.body.payload;
    let bug = &config.planted_bug;
    let timestamp = header
        .slot
        .timestamp(config.genesis.spec().slot_duration_ms);
    let randao = prev_randao(&context.parent_hash, header.slot);
    let fields = [
        ("block_hash", payload.block_hash == header.execution_hash),
        (
            "parent_hash",
            payload.parent_hash == context.parent.execution_hash,
        ),
        ("block_number", payload.block_number == header.height.0),
        (
            "timestamp",
            payload.timestamp == timestamp || bug.active("local-timestamp"),
        ),
        ("fee_recipient", payload.fee_recipient == vault_address()),
        (
            "prev_randao",
            payload.prev_randao == randao || bug.active("randao-unchecked"),
        ),
    ];
    match fields.into_iter().find(|(_, holds)| !holds) {
        Some((field, _)) => Err(Invalid::Payload { field }),
        None => check_settings(header.height, payload, &config.genesis),
    }
}

/// The rules that an execution client keeps only if it is configured for them.
fn check_settings(
    height: Height,
    payload: &ExecutionPayload,
    genesis: &Genesis,
) -> Result<(), Invalid> {
    let limit = genesis.spec().max_gas_limit;
    if payload.gas_limit > limit {
        return Err(Invalid::GasLimit {
            limit,
            found: payload.gas_limit,
        });
    }
    if let Some(blobs) = payload.blob_gas
        && blobs.used > 0
    {
        return Err(Invalid::Blobs { used: blobs.used });
    }
    let listed = &genesis.upgrade(height).transaction_types;
    let types = payload.transactions.iter().map(|t| transaction_type(t));
    let admitted = |found: &Option<u8>| found.is_some_and(|t| listed.contains(&t));
    match types.enumerate().find(|(_, found)| !admitted(found)) {
        Some((index, found)) => Err(Invalid::TransactionType { index, found }),
        None => Ok(()),
    }
}

/// Parts of a body whose features this version of the rules does not have.
fn check_admitted(block: &Block) -> Result<(), Invalid> {
    let body = &block.body;
    let absent = [
        ("peg-ins", body.peg_ins.is_empty()),
        ("settlements", body.settlements.is_empty()),
        ("a payout proposal", body.payout_proposal.is_none()),
        ("a fee estimate", body.fee_estimate.is_none()),
    ];
    if let Some((what, _)) = absent.into_iter().find(|(_, is_absent)| !is_absent) {
        return Err(Invalid::NotAdmitted { what });
    }
    let other = body
        .orders
        .iter()
        .find(|order| order.set_change().is_none());
    match other {
        Some(order) => Err(Invalid::OrderNotAdmitted {
            number: order.number,
            kind: order.content.kind(),
        }),
        None => Ok(()),
    }
}
