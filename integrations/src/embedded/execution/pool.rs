//! Transactions that wait for a block.
//!
//! A sender's transactions are pending as long as their nonces follow on from the account's, queued beyond a gap. What is
//! taken, evicted and ordered depends on the transactions, the head's state and the order of arrival, on nothing else.
//! The pool is memory only: what was not mined is sent again by its wallet after a restart, as with other clients.

use super::{error::PoolError, genesis::Fork, limits};
use alloy_consensus::{Transaction as _, TxEnvelope, transaction::Recovered};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, U256};
use revm::{
    context_interface::cfg::gas::calculate_initial_tx_gas,
    primitives::{eip3860::MAX_INITCODE_SIZE, hardfork::SpecId},
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// The pool's limits.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Transactions in all.
    pub max_transactions: usize,
    /// Encoded bytes in all.
    pub max_bytes: usize,
    /// Transactions of one sender.
    pub max_per_sender: usize,
    /// Transactions of one sender behind a gap in its nonces.
    pub max_queued_per_sender: usize,
    /// The least max priority fee per gas, in wei.
    pub min_tip: u128,
    /// By how much a replacement must raise both fees, in percent.
    pub price_bump: u128,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_transactions: 10_240,
            max_bytes: 64 * 1024 * 1024,
            max_per_sender: 4_096,
            max_queued_per_sender: 256,
            min_tip: 1,
            price_bump: 10,
        }
    }
}

/// How many transactions wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// Those that could go into the next block.
    pub pending: usize,
    /// Those behind a gap.
    pub queued: usize,
}

/// Pending or queued transactions by sender and nonce.
pub type BySender = BTreeMap<Address, BTreeMap<u64, Arc<Recovered<TxEnvelope>>>>;

/// All that waits.
#[derive(Debug, Clone, Default)]
pub struct PoolContent {
    /// Those that could go into the next block.
    pub pending: BySender,
    /// Those behind a gap.
    pub queued: BySender,
}

/// What the pool has to know of a sender, at the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) has_code: bool,
}

/// What the pool has to know of the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadInfo {
    pub(crate) chain_id: u64,
    pub(crate) fork: Fork,
    /// Base fee of the next block, in wei.
    pub(crate) base_fee: u64,
    pub(crate) gas_limit: u64,
}

#[derive(Debug)]
struct Account {
    sender: Sender,
    transactions: BTreeMap<u64, Waiting>,
    /// The first nonce that is free after those that follow on from the account's.
    next: u64,
    /// What all of them cost at most, in wei.
    cost: U256,
}

#[derive(Debug, Clone)]
struct Waiting {
    transaction: Arc<Recovered<TxEnvelope>>,
    arrival: u64,
    size: usize,
    cost: U256,
}

/// How much a transaction is worth to keep: its tip at this base fee, or none when it does not reach the base fee.
type Worth = (Option<u128>, u128, Reverse<u64>);

impl Waiting {
    fn worth(&self, base_fee: u64) -> Worth {
        let tx = &self.transaction;
        (
            tx.effective_tip_per_gas(base_fee),
            tx.max_fee_per_gas(),
            Reverse(self.arrival),
        )
    }
}

impl Account {
    fn new(sender: Sender) -> Self {
        Self {
            sender,
            transactions: BTreeMap::new(),
            next: sender.nonce,
            cost: U256::ZERO,
        }
    }

    fn insert(&mut self, nonce: u64, waiting: Waiting) -> Option<Waiting> {
        self.cost = self.cost.saturating_add(waiting.cost);
        let old = self.transactions.insert(nonce, waiting);
        self.cost = self
            .cost
            .saturating_sub(old.as_ref().map(|old| old.cost).unwrap_or_default());
        self.advance();
        old
    }

    fn remove(&mut self, nonce: u64) -> Option<Waiting> {
        let old = self.transactions.remove(&nonce)?;
        self.cost = self.cost.saturating_sub(old.cost);
        if nonce < self.next {
            self.next = nonce.max(self.sender.nonce);
            self.advance();
        }
        Some(old)
    }

    fn advance(&mut self) {
        while self.transactions.contains_key(&self.next) {
            self.next += 1;
        }
    }
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    accounts: BTreeMap<Address, Account>,
    by_hash: BTreeMap<B256, (Address, u64)>,
    bytes: usize,
    arrivals: u64,
    version: u64,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Self {
        Self {
            config,
            accounts: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
            version: 0,
        }
    }

    /// Changes with every change of what is in the pool.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn min_tip(&self) -> u128 {
        self.config.min_tip
    }

    pub(crate) fn get(&self, hash: &B256) -> Option<&Arc<Recovered<TxEnvelope>>> {
        let (address, nonce) = self.by_hash.get(hash)?;
        Some(
            &self
                .accounts
                .get(address)?
                .transactions
                .get(nonce)?
                .transaction,
        )
    }

    /// The nonce after a sender's pending transactions; `None` when it has none here.
    pub(crate) fn next_nonce(&self, address: &Address) -> Option<u64> {
        self.accounts.get(address).map(|account| account.next)
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let mut status = PoolStatus::default();
        for account in self.accounts.values() {
            let pending = account.transactions.range(..account.next).count();
            status.pending += pending;
            status.queued += account.transactions.len() - pending;
        }
        status
    }

    pub(crate) fn content(&self, only: Option<Address>) -> PoolContent {
        let mut content = PoolContent::default();
        for (address, account) in &self.accounts {
            if only.is_some_and(|only| only != *address) {
                continue;
            }
            let next = account.next;
            for (nonce, waiting) in &account.transactions {
                let side = if *nonce < next {
                    &mut content.pending
                } else {
                    &mut content.queued
                };
                side.entry(*address)
                    .or_default()
                    .insert(*nonce, waiting.transaction.clone());
            }
        }
        content
    }

    /// Takes a transaction of this sender.
    ///
    /// # Errors
    /// Why not, in Geth's wording; the pool is unchanged then.
    pub(crate) fn add(
        &mut self,
        transaction: Recovered<TxEnvelope>,
        sender: Sender,
        head: &HeadInfo,
    ) -> Result<B256, PoolError> {
        let address = transaction.signer();
        let hash = *transaction.tx_hash();
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        let size = transaction.encode_2718_len();
        check_alone(&transaction, size, &sender, head)?;
        let tip = transaction.priority_fee_or_price();
        if tip < self.config.min_tip {
            return Err(PoolError::Underpriced {
                tip,
                needed: self.config.min_tip,
            });
        }
        let nonce = transaction.nonce();
        let cost = U256::from(transaction.max_fee_per_gas())
            .saturating_mul(U256::from(transaction.gas_limit()))
            .saturating_add(transaction.value());
        let waiting = Waiting {
            transaction: Arc::new(transaction),
            arrival: self.arrivals,
            size,
            cost,
        };
        let replaced = self.check_against_own(address, nonce, &waiting, &sender)?;
        if replaced.is_none() {
            self.make_room(address, nonce, &waiting, sender.nonce, head.base_fee)?;
        }
        self.arrivals += 1;
        self.version += 1;
        self.bytes += size;
        let account = self
            .accounts
            .entry(address)
            .or_insert_with(|| Account::new(sender));
        if let Some(old) = account.insert(nonce, waiting) {
            self.bytes -= old.size;
            self.by_hash.remove(old.transaction.tx_hash());
        }
        self.by_hash.insert(hash, (address, nonce));
        Ok(hash)
    }

    /// Rules among the transactions of one sender; answers the one that is replaced.
    fn check_against_own(
        &self,
        address: Address,
        nonce: u64,
        new: &Waiting,
        sender: &Sender,
    ) -> Result<Option<B256>, PoolError> {
        let short = |want: U256| PoolError::InsufficientFunds {
            address,
            have: sender.balance,
            want,
        };
        let Some(account) = self.accounts.get(&address) else {
            return if new.cost > sender.balance {
                Err(short(new.cost))
            } else {
                Ok(None)
            };
        };
        let old = account.transactions.get(&nonce);
        let others = account
            .cost
            .saturating_sub(old.map(|old| old.cost).unwrap_or_default());
        let want = others.saturating_add(new.cost);
        if want > sender.balance {
            return Err(short(want));
        }
        if let Some(old) = old {
            let (before, after) = (&old.transaction, &new.transaction);
            let enough = |old: u128, new: u128| {
                new >= old.saturating_add((old.saturating_mul(self.config.price_bump) / 100).max(1))
            };
            if !enough(before.max_fee_per_gas(), after.max_fee_per_gas())
                || !enough(
                    before.priority_fee_or_price(),
                    after.priority_fee_or_price(),
                )
            {
                return Err(PoolError::ReplacementUnderpriced);
            }
            return Ok(Some(*before.tx_hash()));
        }
        let next = account.next;
        let queued = account.transactions.range(next..).count();
        if account.transactions.len() >= self.config.max_per_sender {
            return Err(PoolError::AccountLimit {
                limit: self.config.max_per_sender,
            });
        }
        if nonce != next && queued >= self.config.max_queued_per_sender {
            return Err(PoolError::AccountLimit {
                limit: self.config.max_queued_per_sender,
            });
        }
        Ok(None)
    }

    /// Evicts the least valuable transactions until the new one fits: first those behind a gap, then the last ones of
    /// their senders, so that no gap is made.
    fn make_room(
        &mut self,
        address: Address,
        nonce: u64,
        new: &Waiting,
        state_nonce: u64,
        base_fee: u64,
    ) -> Result<(), PoolError> {
        while self.by_hash.len() >= self.config.max_transactions
            || self.bytes + new.size > self.config.max_bytes
        {
            let new_pending = nonce == self.next_nonce(&address).unwrap_or(state_nonce);
            let victim = self
                .accounts
                .iter()
                .filter_map(|(address, account)| {
                    let (nonce, waiting) = account.transactions.last_key_value()?;
                    let pending = *nonce < account.next;
                    Some(((pending, waiting.worth(base_fee)), *address, *nonce))
                })
                .min();
            let Some((worth, victim, victim_nonce)) = victim else {
                break;
            };
            if worth >= (new_pending, new.worth(base_fee))
                || (victim == address && victim_nonce < nonce)
            {
                return Err(PoolError::Underpriced {
                    tip: new.transaction.priority_fee_or_price(),
                    needed: worth.1.0.unwrap_or_default().saturating_add(1),
                });
            }
            self.remove(victim, victim_nonce);
        }
        Ok(())
    }

    fn remove(&mut self, address: Address, nonce: u64) {
        let Some(account) = self.accounts.get_mut(&address) else {
            return;
        };
        if let Some(waiting) = account.remove(nonce) {
            self.bytes -= waiting.size;
            self.by_hash.remove(waiting.transaction.tx_hash());
            self.version += 1;
        }
        if account.transactions.is_empty() {
            self.accounts.remove(&address);
        }
    }

    /// Follows the head: what was mined or cannot be paid or does not fit any more goes.
    pub(crate) fn follow<E>(
        &mut self,
        gas_limit: u64,
        mut sender_at_head: impl FnMut(Address) -> Result<Sender, E>,
    ) -> Result<(), E> {
        let mut gone = Vec::new();
        for (address, account) in &mut self.accounts {
            account.sender = sender_at_head(*address)?;
            account.next = account.sender.nonce;
            account.advance();
            let mut spent = U256::ZERO;
            for (nonce, waiting) in &account.transactions {
                let mined = *nonce < account.sender.nonce;
                let total = spent.saturating_add(waiting.cost);
                if mined
                    || total > account.sender.balance
                    || waiting.transaction.gas_limit() > gas_limit
                {
                    gone.push((*address, *nonce));
                } else {
                    spent = total;
                }
            }
        }
        // The base fee moved with the head, so the order did, whether or not something goes.
        self.version += 1;
        for (address, nonce) in gone {
            self.remove(address, nonce);
        }
        Ok(())
    }

    /// Pending transactions, best effective tip first, then earliest; a sender's in the order of nonces.
    pub(crate) fn best(&self, base_fee: u64) -> Best<'_> {
        let mut best = Best {
            pool: self,
            base_fee,
            heads: BinaryHeap::new(),
        };
        for (address, account) in &self.accounts {
            best.push(*address, account.sender.nonce);
        }
        best
    }
}

/// An iteration in the order of inclusion. The next transaction of a sender shows up only after [`Best::included`].
pub(crate) struct Best<'a> {
    pool: &'a Pool,
    base_fee: u64,
    heads: BinaryHeap<(u128, Reverse<u64>, Address, u64)>,
}

impl<'a> Best<'a> {
    pub(crate) fn next(&mut self) -> Option<&'a Arc<Recovered<TxEnvelope>>> {
        let (_, _, address, nonce) = self.heads.pop()?;
        Some(
            &self
                .pool
                .accounts
                .get(&address)?
                .transactions
                .get(&nonce)?
                .transaction,
        )
    }

    pub(crate) fn included(&mut self, transaction: &Recovered<TxEnvelope>) {
        if let Some(next) = transaction.nonce().checked_add(1) {
            self.push(transaction.signer(), next);
        }
    }

    fn push(&mut self, address: Address, nonce: u64) {
        let waiting = self
            .pool
            .accounts
            .get(&address)
            .and_then(|account| account.transactions.get(&nonce));
        if let Some(waiting) = waiting
            && let Some(tip) = waiting.transaction.effective_tip_per_gas(self.base_fee)
        {
            self.heads
                .push((tip, Reverse(waiting.arrival), address, nonce));
        }
    }
}

/// Rules that need nothing but the transaction, its sender and the head.
fn check_alone(
    transaction: &Recovered<TxEnvelope>,
    size: usize,
    sender: &Sender,
    head: &HeadInfo,
) -> Result<(), PoolError> {
    if size > limits::TRANSACTION_BYTES {
        return Err(PoolError::Oversized {
            size,
            limit: limits::TRANSACTION_BYTES,
        });
    }
    if transaction.is_eip4844() || transaction.is_eip7702() {
        return Err(PoolError::TypeNotSupported);
    }
    match transaction.chain_id() {
        Some(have) if have != head.chain_id => {
            return Err(PoolError::WrongChain {
                have,
                want: head.chain_id,
            });
        }
        None => return Err(PoolError::Unprotected),
        Some(_) => {}
    }
    let init_code = transaction.input().len();
    if head.fork >= Fork::Shanghai && transaction.is_create() && init_code > MAX_INITCODE_SIZE {
        return Err(PoolError::InitcodeTooLarge {
            size: init_code,
            limit: MAX_INITCODE_SIZE,
        });
    }
    if transaction.gas_limit() > head.gas_limit {
        return Err(PoolError::ExceedsBlockGasLimit);
    }
    if let Some(tip) = transaction.max_priority_fee_per_gas()
        && tip > transaction.max_fee_per_gas()
    {
        return Err(PoolError::TipAboveFeeCap {
            tip,
            cap: transaction.max_fee_per_gas(),
        });
    }
    let needed = intrinsic_gas(transaction, head.fork);
    if transaction.gas_limit() < needed {
        return Err(PoolError::IntrinsicGas {
            gas: transaction.gas_limit(),
            needed,
        });
    }
    let nonce = transaction.nonce();
    if nonce == u64::MAX {
        return Err(PoolError::NonceMax);
    }
    if nonce < sender.nonce {
        return Err(PoolError::NonceTooLow {
            next: sender.nonce,
            nonce,
        });
    }
    if sender.has_code {
        return Err(PoolError::SenderNotEoa {
            address: transaction.signer(),
        });
    }
    Ok(())
}

/// What a transaction costs before it runs.
fn intrinsic_gas(transaction: &TxEnvelope, fork: Fork) -> u64 {
    let spec = match fork {
        Fork::Paris => SpecId::MERGE,
        Fork::Shanghai => SpecId::SHANGHAI,
        Fork::Cancun => SpecId::CANCUN,
    };
    let (accounts, slots) = transaction.access_list().map_or((0, 0), |list| {
        (
            list.0.len(),
            list.0.iter().map(|item| item.storage_keys.len()).sum(),
        )
    });
    let gas = calculate_initial_tx_gas(
        spec,
        transaction.input(),
        transaction.is_create(),
        accounts as u64,
        slots as u64,
        0,
        None,
    );
    gas.initial_regular_gas + gas.initial_state_gas
}
