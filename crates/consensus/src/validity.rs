//! The rules that make a block valid and that need neither the execution layer nor the branch below the parent.

use alys_types::mutant::{self, Mutant};
use alys_types::spec::{HEADER_VERSION, empty_ledger_hash, prev_randao, vault_address};
use alys_types::{Block, Genesis, Hash, Height, LimitError, Slot, VoteKind};

use crate::state::ProposalContext;

/// Which rule a block breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("header version {found}, expected {HEADER_VERSION}")]
    Version { found: u16 },
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
    #[error("ledger hash is not that of the ledger after the parent")]
    LedgerHash,
    #[error("{0}")]
    Limit(#[from] LimitError),
    #[error("payload.{field} is not what the protocol computes")]
    Payload { field: &'static str },
    #[error("body holds {what}, which this version of the rules does not admit")]
    NotAdmitted { what: &'static str },
}

/// Checks a block against its parent: all of protocol section 3's "Valid" but certificates and signatures
/// (see [`crate::verify`]), the federation's change (see [`crate::federation`]) and execution.
pub fn check_block(
    block: &Block,
    context: &ProposalContext,
    genesis: &Genesis,
) -> Result<(), Invalid> {
    let (header, parent) = (&block.header, &context.parent);
    if header.version != HEADER_VERSION {
        return Err(Invalid::Version {
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
    let leader = match mutant::active(Mutant::LeaderByHeight) {
        true => context.set.leader(Slot(header.height.0)),
        false => context.set.leader(header.slot),
    };
    if header.proposer != leader {
        return Err(Invalid::NotTheLeader {
            leader,
            found: header.proposer,
        });
    }
    match &header.parent_certificate {
        None if parent.height == Height(0) => {}
        Some(certificate) if parent.height != Height(0) => {
            let target = certificate.target;
            let expected = (
                VoteKind::Approval,
                parent.height,
                parent.slot,
                context.parent_hash,
            );
            if (target.kind, target.height, target.slot, target.hash) != expected {
                return Err(Invalid::ParentCertificate);
            }
        }
        _ => return Err(Invalid::ParentCertificate),
    }
    if header.ledger_hash != empty_ledger_hash() {
        return Err(Invalid::LedgerHash);
    }
    check_body_belongs(block)?;
    check_payload(block, context, genesis)
}

/// Checks that the body is the header's and within limits.
pub fn check_body_belongs(block: &Block) -> Result<(), Invalid> {
    block.body.check_limits()?;
    if block.body.hash() != block.header.body_hash {
        return Err(Invalid::BodyHash);
    }
    Ok(())
}

fn check_payload(
    block: &Block,
    context: &ProposalContext,
    genesis: &Genesis,
) -> Result<(), Invalid> {
    let (header, body, payload) = (&block.header, &block.body, &block.body.payload);
    let field = |field, holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(Invalid::Payload { field })
        }
    };
    field("block_hash", payload.block_hash == header.execution_hash)?;
    field(
        "parent_hash",
        payload.parent_hash == context.parent.execution_hash,
    )?;
    field("block_number", payload.block_number == header.height.0)?;
    let timestamp = header.slot.timestamp(genesis.spec().slot_duration_ms);
    field(
        "timestamp",
        payload.timestamp == timestamp || mutant::active(Mutant::LocalTimestamp),
    )?;
    field("fee_recipient", payload.fee_recipient == vault_address())?;
    let randao = prev_randao(&context.parent_hash, header.slot);
    field(
        "prev_randao",
        payload.prev_randao == randao || mutant::active(Mutant::RandaoUnchecked),
    )?;
    field(
        "blob_gas_used",
        payload.blob_gas.is_none_or(|b| b.used == 0),
    )?;
    // Withdrawals come from peg-ins and AuxPoW fees; without those there are none.
    field(
        "withdrawals",
        payload.withdrawals.is_empty() && body.withdrawal_kinds.is_empty(),
    )?;
    let admitted = |what, absent: bool| {
        if absent {
            Ok(())
        } else {
            Err(Invalid::NotAdmitted { what })
        }
    };
    admitted("peg-ins", body.peg_ins.is_empty())?;
    admitted("settlements", body.settlements.is_empty())?;
    admitted("a peg-out proposal", body.peg_out.is_none())?;
    admitted("an AuxPoW header", body.auxpow.is_none())?;
    admitted("governance orders", body.governance_orders.is_empty())
}
