//! Reads of the state at a block, and calls without effect on it.

use super::{
    blocks::{ChainAncestors, SealedHeader},
    error::{Error, PoolError},
    executor::{self, BlockContext, TxFailure},
    limits,
    meter::MeterInspector,
    state::Overlay,
    view::ChainView,
};
use crate::interceptor;
use alloy_consensus::{Header, TrieAccount};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::{
    BlockId, BlockNumberOrTag, EIP1186AccountProofResponse, EIP1186StorageProof, TransactionRequest,
};
use revm::{
    context::{
        CfgEnv, TxEnv,
        result::{ExecutionResult, HaltReason, InvalidTransaction},
    },
    context_interface::transaction::TransactionType,
};
use std::sync::Arc;

/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;
/// Gas that a call with value grants the callee for free.
const CALL_STIPEND: u64 = 2_300;
/// Tolerance of the search for a gas limit in thousandths, as in Geth.
const ESTIMATE_TOLERANCE: u64 = 15;

/// The state that a call reads and the block that it runs in.
struct CallSite {
    /// The newest block of the state.
    top: Arc<SealedHeader>,
    /// The header of the next block, for `pending`; otherwise the call runs in `top` again.
    next: Option<Header>,
}

impl CallSite {
    fn state_root(&self) -> B256 {
        self.top.header.state_root
    }

    fn block(&self) -> &Header {
        self.next.as_ref().unwrap_or(&self.top.header)
    }
}

impl ChainView {
    /// A balance in wei.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], as for all reads of the state.
    pub fn balance(&self, address: Address, block: BlockId) -> Result<U256, Error> {
        Ok(self.account_at(address, block)?.1.balance)
    }

    /// The next nonce of an account; for `pending`, after its pending transactions in the pool.
    pub fn nonce(&self, address: Address, block: BlockId) -> Result<u64, Error> {
        let nonce = self.account_at(address, block)?.1.nonce;
        let pooled = match block {
            BlockId::Number(BlockNumberOrTag::Pending) => {
                let pool = self.pool.read();
                self.check_pool(&pool)?;
                pool.next_nonce(&address)
            }
            _ => None,
        };
        Ok(pooled.unwrap_or(nonce).max(nonce))
    }

    /// The code at an address; empty for an account without code.
    pub fn code(&self, address: Address, block: BlockId) -> Result<Bytes, Error> {
        let account = self.account_at(address, block)?.1;
        Ok(self.state.code(account.code_hash)?.original_bytes())
    }

    /// The value of a storage slot; zero when it was never set.
    pub fn storage_at(&self, address: Address, slot: U256, block: BlockId) -> Result<B256, Error> {
        let account = self.account_at(address, block)?.1;
        Ok(self.state.storage(account.storage_root, slot)?.into())
    }

    /// `eth_getProof` (EIP-1186) for at most [`limits::PROOF_KEYS`] keys.
    pub fn proof(
        &self,
        address: Address,
        keys: &[B256],
        block: BlockId,
    ) -> Result<EIP1186AccountProofResponse, Error> {
        if keys.len() > limits::PROOF_KEYS {
            return Err(Error::LimitExceeded {
                what: "storage keys",
                limit: limits::PROOF_KEYS as u64,
            });
        }
        let (header, account) = self.account_at(address, block)?;
        let storage_proof = keys
            .iter()
            .map(|slot| {
                self.check_meter()?;
                Ok(EIP1186StorageProof {
                    key: (*slot).into(),
                    value: self
                        .state
                        .storage(account.storage_root, U256::from_be_bytes(slot.0))?,
                    proof: self.state.prove(account.storage_root, &keccak256(slot))?,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(EIP1186AccountProofResponse {
            address,
            balance: account.balance,
            code_hash: account.code_hash,
            nonce: account.nonce,
            storage_hash: account.storage_root,
            account_proof: self
                .state
                .prove(header.header.state_root, &keccak256(address))?,
            storage_proof,
        })
    }

    /// `eth_call`: executes on the state after `block`, in the environment of `block`, and returns
    /// the output. `pending` is the state of the head in the environment of the next block.
    ///
    /// # Errors
    /// [`Error::Reverted`], [`Error::Halted`], [`Error::InvalidCall`].
    pub fn call(&self, request: &TransactionRequest, block: BlockId) -> Result<Bytes, Error> {
        let site = self.call_site(block)?;
        let gas = request
            .gas
            .unwrap_or(limits::CALL_GAS)
            .min(limits::CALL_GAS);
        let result = self
            .run(request, &site, gas)?
            .map_err(|refusal| refused(request, refusal))?;
        match result {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            failed => Err(failure(failed)),
        }
    }

    /// `eth_estimateGas`: the lowest gas limit, to within 1.5 %, with which the transaction
    /// succeeds on the state after `block`. A transaction is never mined in a block that exists, so
    /// wallets ask for `pending`, which runs in the environment of the next block.
    ///
    /// # Errors
    /// [`Error::GasExceedsAllowance`], and the errors of [`Self::call`].
    pub fn estimate_gas(&self, request: &TransactionRequest, block: BlockId) -> Result<u64, Error> {
        let site = self.call_site(block)?;
        let mut high = request
            .gas
            .filter(|gas| *gas >= TRANSFER_GAS)
            .unwrap_or(site.block().gas_limit);
        high = high
            .min(limits::CALL_GAS)
            .min(self.affordable(request, &site)?);
        let cap = high;
        if self.is_plain_transfer(request, &site)?
            && self
                .run(request, &site, TRANSFER_GAS)?
                .is_ok_and(|result| result.is_success())
        {
            return Ok(TRANSFER_GAS);
        }
        // A call that fails with the maximum gas fails for another reason, which is reported.
        let result = self
            .run(request, &site, high)?
            .map_err(|refusal| match refusal {
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. } => {
                    Error::GasExceedsAllowance { cap }
                }
                refusal => refused(request, refusal),
            })?;
        if !result.is_success() {
            return Err(match failure(result) {
                Error::Halted { reason } if reason == OUT_OF_GAS => {
                    Error::GasExceedsAllowance { cap }
                }
                error => error,
            });
        }
        let spent = result.gas().total_gas_spent();
        let mut low = result.tx_gas_used().saturating_sub(1);
        let enough = |gas: u64| -> Result<bool, Error> {
            Ok(self
                .run(request, &site, gas)?
                .is_ok_and(|result| result.is_success()))
        };
        // A call withholds a 64th of its gas from inner calls (EIP-150). With this surcharge the
        // first guess is usually sufficient.
        let guess = (spent + CALL_STIPEND) * 64 / 63;
        if guess < high {
            if enough(guess)? {
                high = guess;
            } else {
                low = guess;
            }
        }
        while low + 1 < high && (high - low) * 1_000 >= high * ESTIMATE_TOLERANCE {
            // Most transactions need little more gas than they use, so the search is biased to the
            // low end.
            let middle = (low + (high - low) / 2).min(low.saturating_mul(2));
            if enough(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(interceptor::estimated_gas(low, high))
    }

    /// The gas that the sender can afford at the price of the request.
    fn affordable(&self, request: &TransactionRequest, site: &CallSite) -> Result<u64, Error> {
        let price = request
            .gas_price
            .or(request.max_fee_per_gas)
            .unwrap_or_default();
        if price == 0 {
            return Ok(u64::MAX);
        }
        let from = request.from.unwrap_or_default();
        let balance = self
            .state
            .account(site.state_root(), from)?
            .unwrap_or_default()
            .balance;
        let value = request.value.unwrap_or_default();
        let rest = balance.checked_sub(value).ok_or_else(|| {
            let error = PoolError::InsufficientFunds {
                address: from,
                have: balance,
                want: value,
            };
            Error::InvalidCall {
                reason: error.to_string(),
            }
        })?;
        Ok(u64::try_from(rest / U256::from(price)).unwrap_or(u64::MAX))
    }

    fn is_plain_transfer(
        &self,
        request: &TransactionRequest,
        site: &CallSite,
    ) -> Result<bool, Error> {
        let Some(TxKind::Call(to)) = request.to else {
            return Ok(false);
        };
        if request.input.input().is_some_and(|input| !input.is_empty())
            || request.access_list.is_some()
        {
            return Ok(false);
        }
        let account = self
            .state
            .account(site.state_root(), to)?
            .unwrap_or_default();
        Ok(account.code_hash == alloy_primitives::KECCAK256_EMPTY)
    }

    /// Executes a request. The inner error is the EVM's refusal to start.
    fn run(
        &self,
        request: &TransactionRequest,
        site: &CallSite,
        gas: u64,
    ) -> Result<Result<ExecutionResult, InvalidTransaction>, Error> {
        // A call of few instructions does not reach a check of its own.
        self.check_meter()?;
        let price = request
            .gas_price
            .or(request.max_fee_per_gas)
            .unwrap_or_default();
        let invalid = |reason: &str| {
            Err(Error::InvalidCall {
                reason: reason.to_owned(),
            })
        };
        if request.gas_price.is_some() && request.max_fee_per_gas.is_some() {
            return invalid("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified");
        }
        let Ok(input) = request.input.unique_input() else {
            return invalid(DIFFERENT_INPUTS);
        };
        if request.chain_id.is_some_and(|id| id != self.rules.chain_id) {
            return invalid("chainId does not match node's");
        }
        if request.max_fee_per_blob_gas.is_some()
            || request.blob_versioned_hashes.is_some()
            || request.authorization_list.is_some()
        {
            return invalid("transaction type not supported");
        }
        let mut context = BlockContext::new(&self.rules, site.block());
        if price == 0 {
            // As in Geth, a request without a price is exempt from the base fee.
            context.env.basefee = 0;
        }
        context.env.gas_limit = context.env.gas_limit.max(gas);
        let mut cfg = CfgEnv::new_with_spec(context.spec);
        cfg.chain_id = self.rules.chain_id;
        cfg.disable_nonce_check = true;
        // Calls may be simulated with a contract as the caller.
        cfg.disable_eip3607 = true;
        let priority = request
            .max_priority_fee_per_gas
            .filter(|_| request.max_fee_per_gas.is_some());
        let tx_type = match (&request.access_list, request.max_fee_per_gas) {
            (_, Some(_)) => TransactionType::Eip1559,
            (Some(_), None) => TransactionType::Eip2930,
            (None, None) => TransactionType::Legacy,
        };
        let tx = TxEnv {
            tx_type: tx_type as u8,
            caller: request.from.unwrap_or_default(),
            gas_limit: gas,
            gas_price: price,
            kind: request.to.unwrap_or(TxKind::Create),
            value: request.value.unwrap_or_default(),
            data: input.cloned().unwrap_or_default(),
            nonce: request.nonce.unwrap_or_default(),
            chain_id: Some(self.rules.chain_id),
            access_list: request.access_list.clone().unwrap_or_default(),
            gas_priority_fee: request
                .max_fee_per_gas
                .map(|_| priority.unwrap_or_default()),
            blob_hashes: Vec::new(),
            max_fee_per_blob_gas: 0,
            authorization_list: Vec::new(),
        };
        let ancestors = ChainAncestors::new(&self.blocks, &site.top);
        let overlay = Overlay::new(&self.state, site.state_root(), &ancestors);
        let inspector = MeterInspector::new(self.meter.clone());
        match executor::simulate(overlay, cfg, context.env, tx, inspector) {
            Ok(result) => Ok(Ok(result)),
            Err(TxFailure::Invalid(refusal)) => Ok(Err(refusal)),
            Err(TxFailure::Fault(error)) => Err(error),
            Err(other) => Err(Error::InvalidCall {
                reason: other.to_string(),
            }),
        }
    }

    fn call_site(&self, block: BlockId) -> Result<CallSite, Error> {
        let next = match block {
            BlockId::Number(BlockNumberOrTag::Pending) => Some(self.pending_header()),
            BlockId::Number(_) | BlockId::Hash(_) => None,
        };
        Ok(CallSite {
            top: self.known(block)?,
            next,
        })
    }

    fn known(&self, block: BlockId) -> Result<Arc<SealedHeader>, Error> {
        self.header(block)?.ok_or(Error::UnknownBlock { block })
    }

    fn account_at(
        &self,
        address: Address,
        block: BlockId,
    ) -> Result<(Arc<SealedHeader>, TrieAccount), Error> {
        let header = self.known(block)?;
        let account = self
            .state
            .account(header.header.state_root, address)?
            .unwrap_or_default();
        Ok((header, account))
    }
}

const OUT_OF_GAS: &str = "out of gas";
/// Geth's text. One of the two would be ignored silently.
const DIFFERENT_INPUTS: &str = "both \"data\" and \"input\" are set and not equal. Please use \
     \"input\" to pass transaction call data";

/// The error of a call that was executed and failed.
fn failure(result: ExecutionResult) -> Error {
    match result {
        ExecutionResult::Revert { output, .. } => Error::Reverted {
            reason: revert_reason(&output),
            data: output,
        },
        ExecutionResult::Halt {
            reason: HaltReason::OutOfGas(_),
            ..
        } => Error::Halted {
            reason: OUT_OF_GAS.to_owned(),
        },
        ExecutionResult::Halt { reason, .. } => Error::Halted {
            reason: reason.to_string(),
        },
        ExecutionResult::Success { .. } => Error::Halted {
            reason: "succeeded".to_owned(),
        },
    }
}

/// The EVM's refusals with Geth's texts, which wallets know.
fn refused(request: &TransactionRequest, refusal: InvalidTransaction) -> Error {
    let reason = match refusal {
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => PoolError::InsufficientFunds {
            address: request.from.unwrap_or_default(),
            have: *balance,
            want: *fee,
        }
        .to_string(),
        InvalidTransaction::CallGasCostMoreThanGasLimit {
            initial_gas,
            gas_limit,
        } => PoolError::IntrinsicGas {
            gas: gas_limit,
            needed: initial_gas,
        }
        .to_string(),
        InvalidTransaction::GasPriceLessThanBasefee => {
            "max fee per gas less than block base fee".to_owned()
        }
        InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        other => other.to_string(),
    };
    Error::InvalidCall { reason }
}

/// The text of an ABI-encoded `Error(string)`.
fn revert_reason(output: &[u8]) -> Option<String> {
    const SELECTOR: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
    let arguments = output.strip_prefix(&SELECTOR)?;
    let word = |at: usize| {
        let word = arguments.get(at..at.checked_add(32)?)?;
        usize::try_from(U256::from_be_slice(word)).ok()
    };
    let offset = word(0)?;
    let length = word(offset)?;
    let start = offset.checked_add(32)?;
    let text = arguments.get(start..start.checked_add(length)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
