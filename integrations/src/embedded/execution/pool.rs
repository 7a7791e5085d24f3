//! The transaction pool.
//!
//! A sender's transactions are pending while their nonces continue the account's without a gap, and
//! queued beyond it. Admission, eviction and order depend only on the transactions, the state at
//! the head and the order of arrival. [`Journal`](super::journal::Journal) saves the transactions,
//! so that they survive a restart.

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

/// Limits of the pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Transactions of all senders.
    pub max_transactions: usize,
    /// Encoded bytes of all transactions.
    pub max_bytes: usize,
    /// Transactions of one sender.
    pub max_per_sender: usize,
    /// Transactions of one sender beyond a gap in its nonces.
    pub max_queued_per_sender: usize,
    /// Smallest max priority fee per gas, in wei.
    pub min_tip: u128,
    /// New heads after which a transaction leaves that was not mined. One that can never pay would
    /// stay for ever, and costs its sender nothing.
    pub max_heads: u64,
    /// Percentage by which a replacement must raise both fees.
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
            // Six hours of slots of two seconds; Geth keeps transactions for three hours.
            max_heads: 10_800,
            price_bump: 10,
        }
    }
}

/// Numbers of transactions in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// Executable in the next block.
    pub pending: usize,
    /// Beyond a gap in the sender's nonces.
    pub queued: usize,
}

/// Pending or queued transactions by sender and nonce.
pub type BySender = BTreeMap<Address, BTreeMap<u64, Arc<Recovered<TxEnvelope>>>>;

/// The transactions in the pool.
#[derive(Debug, Clone, Default)]
pub struct PoolContent {
    /// Executable in the next block.
    pub pending: BySender,
    /// Beyond a gap in the sender's nonces.
    pub queued: BySender,
}

/// The sender's account at the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) has_code: bool,
}

/// The properties of the head that admission depends on.
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
    transactions: BTreeMap<u64, PooledTransaction>,
    /// The nonce after the pending transactions.
    next: u64,
    /// Maximum cost of all transactions in wei.
    cost: U256,
}

#[derive(Debug, Clone)]
struct PooledTransaction {
    transaction: Arc<Recovered<TxEnvelope>>,
    arrival: u64,
    /// The number of heads that the pool had followed at its arrival.
    since: u64,
    /// Encoded bytes.
    size: usize,
    /// Maximum cost in wei.
    cost: U256,
}

/// Rank of a transaction for eviction: the tip at a base fee (`None` when the fee cap is below it),
/// the fee cap, and the order of arrival.
type EvictionRank = (Option<u128>, u128, Reverse<u64>);

impl PooledTransaction {
    fn eviction_rank(&self, base_fee: u64) -> EvictionRank {
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

    fn insert(&mut self, nonce: u64, pooled: PooledTransaction) -> Option<PooledTransaction> {
        self.cost = self.cost.saturating_add(pooled.cost);
        let old = self.transactions.insert(nonce, pooled);
        let returned = old.as_ref().map(|old| old.cost).unwrap_or_default();
        self.cost = self
            .cost
            .saturating_sub(crate::interceptor::returned_cost(returned));
        self.advance();
        old
    }

    fn remove(&mut self, nonce: u64) -> Option<PooledTransaction> {
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

#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    accounts: BTreeMap<Address, Account>,
    by_hash: BTreeMap<B256, (Address, u64)>,
    bytes: usize,
    arrivals: u64,
    version: u64,
    /// The number of moves of the head that the pool has followed.
    moves: u64,
}

impl Pool {
    /// An empty pool that counts arrivals from `arrivals` on.
    pub(crate) fn new(config: PoolConfig, arrivals: u64) -> Self {
        Self {
            config,
            accounts: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            bytes: 0,
            arrivals,
            version: 0,
            moves: 0,
        }
    }

    pub(crate) fn moves(&self) -> u64 {
        self.moves
    }

    pub(crate) fn set_moves(&mut self, moves: u64) {
        self.moves = moves;
    }

    /// Increases with every change of the pool's contents or order.
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

    /// All transactions with their arrivals.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &Arc<Recovered<TxEnvelope>>)> {
        let pooled = self
            .accounts
            .values()
            .flat_map(|account| account.transactions.values());
        pooled.map(|pooled| (pooled.arrival, &pooled.transaction))
    }

    /// The nonce after a sender's pending transactions; `None` when it has no transactions in the
    /// pool.
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

    pub(crate) fn content(&self) -> PoolContent {
        self.content_within(None, 0, usize::MAX)
    }

    /// The part of the pool, or of one sender's transactions, whose JSON fits into `max_bytes`:
    /// first the transactions that can pay the base fee, in the order of inclusion, then the
    /// others, so that a flood of cheap transactions hides no other one.
    pub(crate) fn content_within(
        &self,
        only: Option<Address>,
        base_fee: u64,
        max_bytes: usize,
    ) -> PoolContent {
        let mut left = max_bytes;
        let mut take = |size: usize| {
            let shown = size
                .saturating_mul(2)
                .saturating_add(limits::TRANSACTION_JSON_BYTES);
            match left.checked_sub(shown) {
                Some(rest) => left = rest,
                None => return false,
            }
            true
        };
        let mut content = PoolContent::default();
        // The transactions of one sender are included in the order of their nonces, as below.
        if only.is_none() {
            let mut best = self.best(base_fee);
            while let Some(transaction) = best.next() {
                if !take(transaction.encode_2718_len()) {
                    return content;
                }
                let of_sender = content.pending.entry(transaction.signer()).or_default();
                of_sender.insert(transaction.nonce(), transaction.clone());
                best.included(transaction);
            }
        }
        for (address, account) in &self.accounts {
            if only.is_some_and(|only| only != *address) {
                continue;
            }
            for (nonce, pooled) in &account.transactions {
                let part = if *nonce < account.next {
                    &mut content.pending
                } else {
                    &mut content.queued
                };
                let is_taken = part
                    .get(address)
                    .is_some_and(|of_sender| of_sender.contains_key(nonce));
                if is_taken {
                    continue;
                }
                if !take(pooled.size) {
                    return content;
                }
                let of_sender = part.entry(*address).or_default();
                of_sender.insert(*nonce, pooled.transaction.clone());
            }
        }
        content
    }

    /// Adds a transaction of `sender`. An error leaves the pool unchanged.
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
        check_transaction(&transaction, size, &sender, head)?;
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
        let pooled = PooledTransaction {
            transaction: Arc::new(transaction),
            arrival: self.arrivals,
            since: self.moves,
            size,
            cost,
        };
        let replaced = self.check_sender_limits(address, nonce, &pooled, &sender)?;
        if replaced.is_none() {
            self.make_room(address, nonce, &pooled, sender.nonce, head.base_fee)?;
        }
        self.arrivals += 1;
        self.version += 1;
        self.bytes += size;
        let account = self
            .accounts
            .entry(address)
            .or_insert_with(|| Account::new(sender));
        if let Some(old) = account.insert(nonce, pooled) {
            self.bytes -= old.size;
            self.by_hash.remove(old.transaction.tx_hash());
        }
        self.by_hash.insert(hash, (address, nonce));
        Ok(hash)
    }

    /// Checks a transaction against the others of its sender, and returns the one that it replaces.
    fn check_sender_limits(
        &self,
        address: Address,
        nonce: u64,
        new: &PooledTransaction,
        sender: &Sender,
    ) -> Result<Option<B256>, PoolError> {
        let insufficient = |want: U256| PoolError::InsufficientFunds {
            address,
            have: sender.balance,
            want,
        };
        let Some(account) = self.accounts.get(&address) else {
            return if new.cost > sender.balance {
                Err(insufficient(new.cost))
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
            return Err(insufficient(want));
        }
        if let Some(old) = old {
            let old = &old.transaction;
            let new = &new.transaction;
            let is_raised = |old: u128, new: u128| {
                new >= old.saturating_add((old.saturating_mul(self.config.price_bump) / 100).max(1))
            };
            let is_raised = is_raised(old.max_fee_per_gas(), new.max_fee_per_gas())
                && is_raised(old.priority_fee_or_price(), new.priority_fee_or_price());
            if !crate::interceptor::replacement_is_raised(is_raised) {
                return Err(PoolError::ReplacementUnderpriced);
            }
            return Ok(Some(*old.tx_hash()));
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

    /// Evicts transactions of the lowest rank until the new one fits: queued ones first, and only
    /// the last one of a sender, so that no gap arises.
    fn make_room(
        &mut self,
        address: Address,
        nonce: u64,
        new: &PooledTransaction,
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
                    let (nonce, pooled) = account.transactions.last_key_value()?;
                    let pending = *nonce < account.next;
                    let rank = (pending, pooled.eviction_rank(base_fee));
                    Some((rank, *address, *nonce))
                })
                .min();
            let Some((rank, victim, victim_nonce)) = victim else {
                break;
            };
            if rank >= (new_pending, new.eviction_rank(base_fee))
                || (victim == address && victim_nonce < nonce)
            {
                return Err(PoolError::Underpriced {
                    tip: new.transaction.priority_fee_or_price(),
                    needed: rank.1.0.unwrap_or_default().saturating_add(1),
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
        if let Some(removed) = account.remove(nonce) {
            self.bytes -= removed.size;
            self.by_hash.remove(removed.transaction.tx_hash());
            self.version += 1;
        }
        if account.transactions.is_empty() {
            self.accounts.remove(&address);
        }
    }

    /// Removes the transactions that the new head has mined, or that are too old, unaffordable or
    /// exceed the gas limit there.
    pub(crate) fn on_new_head<E>(
        &mut self,
        gas_limit: u64,
        mut sender_at_head: impl FnMut(Address) -> Result<Sender, E>,
    ) -> Result<(), E> {
        let mut removed = Vec::new();
        let oldest = self.moves.saturating_sub(self.config.max_heads);
        for (address, account) in &mut self.accounts {
            account.sender = sender_at_head(*address)?;
            account.next = account.sender.nonce;
            account.advance();
            let mut spent = U256::ZERO;
            for (nonce, pooled) in &account.transactions {
                let mined = *nonce < account.sender.nonce;
                let total = spent.saturating_add(pooled.cost);
                if mined
                    || pooled.since < oldest
                    || total > account.sender.balance
                    || pooled.transaction.gas_limit() > gas_limit
                {
                    removed.push((*address, *nonce));
                } else {
                    spent = total;
                }
            }
        }
        // A new head changes the base fee and with it the order, even if no transaction is removed.
        self.version += 1;
        for (address, nonce) in removed {
            self.remove(address, nonce);
        }
        Ok(())
    }

    /// Pending transactions by effective tip, then arrival; those of one sender in the order of
    /// their nonces.
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

/// Iterates over pending transactions in the order of inclusion. [`Best::included`] releases the
/// next one of a sender.
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
        let pooled = self
            .pool
            .accounts
            .get(&address)
            .and_then(|account| account.transactions.get(&nonce));
        if let Some(pooled) = pooled
            && let Some(tip) = pooled.transaction.effective_tip_per_gas(self.base_fee)
        {
            let named = pooled.transaction.priority_fee_or_price();
            let rank = crate::interceptor::inclusion_rank(tip, named);
            self.heads
                .push((rank, Reverse(pooled.arrival), address, nonce));
        }
    }
}

/// Checks a transaction against its sender's account and the head.
fn check_transaction(
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

/// Gas charged before execution.
fn intrinsic_gas(transaction: &TxEnvelope, fork: Fork) -> u64 {
    let spec = match fork {
        Fork::Paris => SpecId::MERGE,
        Fork::Shanghai => SpecId::SHANGHAI,
        Fork::Cancun => SpecId::CANCUN,
    };
    let items = transaction.access_list().map_or(&[][..], |list| &list.0);
    let slots: usize = items.iter().map(|item| item.storage_keys.len()).sum();
    let gas = calculate_initial_tx_gas(
        spec,
        transaction.input(),
        transaction.is_create(),
        items.len() as u64,
        slots as u64,
        0,
        None,
    );
    gas.initial_regular_gas + gas.initial_state_gas
}
