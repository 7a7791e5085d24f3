//! Executes the transactions of one block on revm.
//!
//! Importer and builder share this code, so a built block is valid by construction. They differ
//! only in the treatment of a transaction that cannot be included.

use super::{
    error::Error,
    genesis::ChainRules,
    meter::MeterInspector,
    state::{Overlay, StateChanges},
};
use alloy_consensus::{
    Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope, Typed2718 as _,
};
use alloy_eips::{eip4788::BEACON_ROOTS_ADDRESS, eip4895::Withdrawal};
use alloy_primitives::{Address, B256, Bloom, Bytes, U256};
use revm::{
    Context, Database as _, DatabaseCommit as _, ExecuteEvm as _, InspectEvm as _,
    MainBuilder as _, MainnetEvm, SystemCallEvm as _,
    context::{
        BlockEnv, CfgEnv, TxEnv,
        result::{EVMError, ExecutionResult, InvalidTransaction, ResultAndState},
    },
    context_interface::block::BlobExcessGasAndPrice,
    handler::MainnetContext,
    primitives::hardfork::SpecId,
};

/// The execution environment that a header defines.
#[derive(Debug, Clone)]
pub(crate) struct BlockContext {
    pub(crate) spec: SpecId,
    pub(crate) chain_id: u64,
    pub(crate) env: BlockEnv,
    pub(crate) parent_beacon_block_root: Option<B256>,
}

impl BlockContext {
    pub(crate) fn new(rules: &ChainRules, header: &Header) -> Self {
        let spec = rules.spec_at(header.timestamp);
        Self {
            spec,
            chain_id: rules.chain_id,
            env: BlockEnv {
                number: U256::from(header.number),
                beneficiary: header.beneficiary,
                timestamp: U256::from(header.timestamp),
                gas_limit: header.gas_limit,
                basefee: header.base_fee_per_gas.unwrap_or_default(),
                difficulty: U256::ZERO,
                prevrandao: Some(header.mix_hash),
                blob_excess_gas_and_price: header
                    .excess_blob_gas
                    .map(|excess| BlobExcessGasAndPrice::new_with_spec(excess, spec)),
                slot_num: 0,
            },
            parent_beacon_block_root: header.parent_beacon_block_root,
        }
    }
}

/// A transaction that cannot be included.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TxFailure {
    /// The block has too little gas left.
    #[error("gas limit {gas_limit} above the {available} left in the block")]
    BlockGas { gas_limit: u64, available: u64 },
    /// The chain does not support the transaction type.
    #[error("transaction type {0} not supported")]
    Type(u8),
    /// The EVM refuses the transaction before execution.
    #[error("{0}")]
    Invalid(InvalidTransaction),
    /// A fault of this client, not of the transaction.
    #[error(transparent)]
    Fault(#[from] Error),
}

/// The execution of a block in progress.
pub(crate) struct Executor<'a> {
    evm: MainnetEvm<MainnetContext<Overlay<'a>>>,
    context: BlockContext,
    receipts: Vec<ReceiptEnvelope>,
    gas_used: u64,
    tips: U256,
}

/// The result of the execution of a block.
pub(crate) struct Executed {
    pub(crate) changes: StateChanges,
    pub(crate) receipts: Vec<ReceiptEnvelope>,
    pub(crate) logs_bloom: Bloom,
    pub(crate) gas_used: u64,
    /// Income of the fee recipient in wei.
    pub(crate) tips: U256,
}

impl<'a> Executor<'a> {
    /// Opens a block and executes the system call of EIP-4788.
    pub(crate) fn open(context: BlockContext, overlay: Overlay<'a>) -> Result<Self, Error> {
        let mut cfg = CfgEnv::new_with_spec(context.spec);
        cfg.chain_id = context.chain_id;
        let evm = evm(overlay, cfg, context.env.clone());
        let mut this = Self {
            evm,
            context,
            receipts: Vec::new(),
            gas_used: 0,
            tips: U256::ZERO,
        };
        this.store_beacon_root()?;
        Ok(this)
    }

    /// Executes a transaction. An error leaves the block unchanged.
    pub(crate) fn execute(
        &mut self,
        transaction: &TxEnvelope,
        sender: Address,
    ) -> Result<(), TxFailure> {
        if transaction.is_eip4844() || transaction.is_eip7702() {
            return Err(TxFailure::Type(transaction.ty()));
        }
        let available = self.context.env.gas_limit - self.gas_used;
        if transaction.gas_limit() > available {
            return Err(TxFailure::BlockGas {
                gas_limit: transaction.gas_limit(),
                available,
            });
        }
        let ResultAndState { result, state } = self
            .evm
            .transact(tx_env(transaction, sender))
            .map_err(TxFailure::from)?;
        self.evm.ctx.journaled_state.database.commit(state);
        let gas_used = result.tx_gas_used();
        self.gas_used += gas_used;
        let tip = transaction
            .effective_tip_per_gas(self.context.env.basefee)
            .unwrap_or_default();
        self.tips += U256::from(tip) * U256::from(gas_used);
        let receipt = Receipt {
            status: result.is_success().into(),
            cumulative_gas_used: self.gas_used,
            // The receipt of a failed transaction contains no logs.
            logs: if result.is_success() {
                result.into_logs()
            } else {
                Vec::new()
            },
        };
        self.receipts
            .push(ReceiptEnvelope::from_typed(transaction.tx_type(), receipt));
        Ok(())
    }

    /// Remaining gas of the block.
    pub(crate) fn gas_left(&self) -> u64 {
        self.context.env.gas_limit - self.gas_used
    }

    /// Credits the withdrawals (EIP-4895, amounts in gwei) and closes the block.
    pub(crate) fn close(self, withdrawals: Option<&[Withdrawal]>) -> Result<Executed, Error> {
        let mut overlay = self.evm.ctx.journaled_state.database;
        for withdrawal in withdrawals.unwrap_or_default() {
            overlay.credit(withdrawal.address, withdrawal.amount_wei())?;
        }
        let logs_bloom = self.receipts.iter().fold(Bloom::ZERO, |bloom, receipt| {
            crate::interceptor::bloom_with(bloom, *receipt.logs_bloom())
        });
        Ok(Executed {
            changes: overlay.into_changes(),
            receipts: self.receipts,
            logs_bloom,
            gas_used: self.gas_used,
            tips: self.tips,
        })
    }

    fn store_beacon_root(&mut self) -> Result<(), Error> {
        let Some(root) = self
            .context
            .parent_beacon_block_root
            .filter(|_| self.context.spec >= SpecId::CANCUN)
        else {
            return Ok(());
        };
        let contract = self
            .evm
            .ctx
            .journaled_state
            .database
            .basic(BEACON_ROOTS_ADDRESS)?;
        if contract.is_none_or(|account| account.is_empty_code_hash()) {
            return Ok(());
        }
        let mut outcome = self
            .evm
            .system_call(
                BEACON_ROOTS_ADDRESS,
                Bytes::copy_from_slice(root.as_slice()),
            )
            .map_err(|error| match error {
                EVMError::Database(error) => error,
                // The contract is part of the state, so a call that cannot start is a fault of this
                // client.
                other => Error::corrupt("beacon roots contract", other),
            })?;
        // A system call changes neither the system address nor the fee recipient.
        outcome
            .state
            .retain(|address, _| *address == BEACON_ROOTS_ADDRESS);
        self.evm.ctx.journaled_state.database.commit(outcome.state);
        Ok(())
    }
}

/// Executes a single call on a state that is discarded afterwards.
///
/// # Errors
/// [`Error::Interrupted`] when the meter of `inspector` ends the call.
pub(crate) fn simulate(
    overlay: Overlay<'_>,
    cfg: CfgEnv,
    block: BlockEnv,
    tx: TxEnv,
    inspector: MeterInspector,
) -> Result<ExecutionResult, TxFailure> {
    let context: MainnetContext<Overlay<'_>> = Context::new(overlay, cfg.spec);
    let context = context.with_cfg(cfg).with_block(block);
    let mut evm = context.build_mainnet_with_inspector(inspector);
    let executed = evm.inspect_tx(tx)?;
    match evm.inspector.interrupted {
        Some(reason) => Err(TxFailure::Fault(Error::Interrupted { reason })),
        None => Ok(executed.result),
    }
}

fn evm(
    overlay: Overlay<'_>,
    cfg: CfgEnv,
    block: BlockEnv,
) -> MainnetEvm<MainnetContext<Overlay<'_>>> {
    let context: MainnetContext<Overlay<'_>> = Context::new(overlay, cfg.spec);
    context.with_cfg(cfg).with_block(block).build_mainnet()
}

impl From<EVMError<Error>> for TxFailure {
    fn from(error: EVMError<Error>) -> Self {
        match error {
            EVMError::Transaction(error) => Self::Invalid(error),
            EVMError::Database(error) => Self::Fault(error),
            other => Self::Fault(Error::corrupt("execution environment", other)),
        }
    }
}

fn tx_env(transaction: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: transaction.ty(),
        caller: sender,
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: Vec::new(),
    }
}
