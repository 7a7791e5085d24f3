//! The world state: accounts, storage and code at any stored state root, and the changes of a
//! block.
//!
//! Trie nodes are stored by hash and never overwritten, so the state of every stored block is
//! readable and a side branch costs only its changes. No node is deleted: the store is an archive
//! that grows with the changes of blocks.

use super::{
    cache::{Cache, lock},
    error::Error,
    limits,
    trie::{self, Changes, NewNodes, Nodes},
};
use alloy_consensus::TrieAccount;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256, map::AddressMap};
use alloy_trie::{EMPTY_ROOT_HASH, nodes::TrieNode};
use alys_storage::{Batch, Store, Table};
use revm::{
    Database, DatabaseCommit,
    bytecode::Bytecode,
    state::{Account, AccountInfo},
};
use std::collections::{BTreeMap, btree_map::Entry};
use std::sync::{Arc, Mutex};

/// Trie nodes: hash to RLP.
pub(crate) const NODES: Table = Table("el_node");
/// Contract code: hash to bytes.
pub(crate) const CODES: Table = Table("el_code");

/// The state of all stored blocks, with bounded caches in front of the store.
pub(crate) struct StateDb {
    store: Store,
    nodes: Mutex<Cache<B256, Arc<TrieNode>>>,
    codes: Mutex<Cache<B256, Bytecode>>,
}

impl StateDb {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            nodes: Mutex::new(Cache::new(limits::NODE_CACHE)),
            codes: Mutex::new(Cache::new(limits::CODE_CACHE)),
        }
    }

    pub(crate) fn account(
        &self,
        root: B256,
        address: Address,
    ) -> Result<Option<TrieAccount>, Error> {
        let Some(encoded) = trie::get(self, root, &keccak256(address))? else {
            return Ok(None);
        };
        alloy_rlp::decode_exact(&encoded)
            .map(Some)
            .map_err(|error| Error::corrupt("account", format!("{address}: {error}")))
    }

    pub(crate) fn storage(&self, storage_root: B256, slot: U256) -> Result<U256, Error> {
        let key = keccak256(slot.to_be_bytes::<32>());
        let Some(encoded) = trie::get(self, storage_root, &key)? else {
            return Ok(U256::ZERO);
        };
        alloy_rlp::decode_exact(&encoded)
            .map_err(|error| Error::corrupt("storage slot", format!("{slot}: {error}")))
    }

    pub(crate) fn code(&self, hash: B256) -> Result<Bytecode, Error> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = lock(&self.codes).get(&hash) {
            return Ok(code);
        }
        let bytes = self
            .store
            .get(CODES, hash.as_slice())?
            .ok_or_else(|| Error::corrupt("code", hash))?;
        let code = Bytecode::new_legacy(bytes.into());
        lock(&self.codes).insert(hash, code.clone());
        Ok(code)
    }

    /// Computes the state after `changes` without storing it.
    pub(crate) fn apply(&self, root: B256, changes: &StateChanges) -> Result<StateUpdate, Error> {
        let mut update = StateUpdate {
            root,
            ..StateUpdate::default()
        };
        let mut accounts = Changes::new();
        for (address, change) in &changes.accounts {
            let Some(info) = &change.info else {
                accounts.insert(keccak256(address), None);
                continue;
            };
            let slots = change
                .storage
                .iter()
                .map(|(slot, value)| {
                    let value = (!value.is_zero()).then(|| alloy_rlp::encode(value));
                    (keccak256(slot.to_be_bytes::<32>()), value)
                })
                .collect();
            let storage_root = trie::update(self, change.storage_root, &slots, &mut update.nodes)?;
            let account = TrieAccount::new(info.nonce, info.balance, storage_root, info.code_hash);
            accounts.insert(keccak256(address), Some(alloy_rlp::encode(account)));
        }
        update.root = trie::update(self, root, &accounts, &mut update.nodes)?;
        update.codes = changes.codes.clone();
        Ok(update)
    }

    /// Caches the nodes of a written update, because the next block reads the same paths.
    pub(crate) fn remember(&self, update: &StateUpdate) -> Result<(), Error> {
        let mut nodes = lock(&self.nodes);
        for (hash, encoded) in &update.nodes {
            nodes.insert(*hash, Arc::new(trie::decode(encoded)?));
        }
        Ok(())
    }

    pub(crate) fn prove(&self, root: B256, key: &B256) -> Result<Vec<Bytes>, Error> {
        trie::prove(self, root, key)
    }
}

impl Nodes for StateDb {
    fn node(&self, hash: &B256) -> Result<Arc<TrieNode>, Error> {
        if let Some(node) = lock(&self.nodes).get(hash) {
            return Ok(node);
        }
        let encoded = self
            .store
            .get(NODES, hash.as_slice())?
            .ok_or_else(|| Error::corrupt("trie node", hash))?;
        let node = Arc::new(trie::decode(&encoded)?);
        lock(&self.nodes).insert(*hash, node.clone());
        Ok(node)
    }
}

/// The changes of a block, sorted by address.
#[derive(Debug, Default)]
pub(crate) struct StateChanges {
    pub(crate) accounts: BTreeMap<Address, AccountChange>,
    pub(crate) codes: BTreeMap<B256, Bytes>,
}

#[derive(Debug)]
pub(crate) struct AccountChange {
    /// The account after the block; `None` when it was removed.
    pub(crate) info: Option<AccountInfo>,
    /// The root that `storage` is applied to; the empty root when the storage was wiped.
    pub(crate) storage_root: B256,
    /// New values of the changed slots, zero to delete.
    pub(crate) storage: BTreeMap<U256, U256>,
}

/// A computed state that is not stored yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateUpdate {
    pub(crate) root: B256,
    pub(crate) nodes: NewNodes,
    pub(crate) codes: BTreeMap<B256, Bytes>,
}

impl StateUpdate {
    pub(crate) fn write(&self, batch: &mut Batch) {
        for (hash, node) in &self.nodes {
            batch.put(NODES, hash.as_slice(), node.as_slice());
        }
        for (hash, code) in &self.codes {
            batch.put(CODES, hash.as_slice(), code.as_ref());
        }
    }
}

/// Hashes of ancestors, for BLOCKHASH.
pub(crate) trait Ancestors {
    /// The hash of the ancestor at this height; zero when it is out of range.
    fn hash_at(&self, number: u64) -> Result<B256, Error>;
}

/// The state at a root with the changes of the transactions executed on it.
pub(crate) struct Overlay<'a> {
    db: &'a StateDb,
    root: B256,
    ancestors: &'a dyn Ancestors,
    accounts: BTreeMap<Address, OverlayAccount>,
    codes: BTreeMap<B256, Bytecode>,
}

struct OverlayAccount {
    original: Option<TrieAccount>,
    info: Option<AccountInfo>,
    /// Slots read or written: (value before the block, or zero after a wipe; current value).
    storage: BTreeMap<U256, (U256, U256)>,
    wiped: bool,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(db: &'a StateDb, root: B256, ancestors: &'a dyn Ancestors) -> Self {
        Self {
            db,
            root,
            ancestors,
            accounts: BTreeMap::new(),
            codes: BTreeMap::new(),
        }
    }

    /// Loads an account into the overlay.
    fn load(&mut self, address: Address) -> Result<&mut OverlayAccount, Error> {
        match self.accounts.entry(address) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let original = self.db.account(self.root, address)?;
                let info = original.map(|account| info_of(&account));
                Ok(entry.insert(OverlayAccount {
                    original,
                    info,
                    storage: BTreeMap::new(),
                    wiped: false,
                }))
            }
        }
    }

    /// Increases a balance outside of a transaction, for a withdrawal.
    pub(crate) fn credit(&mut self, address: Address, wei: U256) -> Result<(), Error> {
        if wei.is_zero() {
            return Ok(());
        }
        let account = self.load(address)?;
        let info = account.info.get_or_insert_with(AccountInfo::default);
        info.balance = info.balance.saturating_add(wei);
        Ok(())
    }

    /// Replaces an account and its storage, for the genesis.
    pub(crate) fn insert(
        &mut self,
        address: Address,
        info: AccountInfo,
        storage: impl IntoIterator<Item = (U256, U256)>,
    ) -> Result<(), Error> {
        self.collect_code(&info);
        let account = self.load(address)?;
        account.info = Some(info);
        account.storage = storage
            .into_iter()
            .map(|(slot, value)| (slot, (U256::ZERO, value)))
            .collect();
        account.wiped = true;
        Ok(())
    }

    /// The differences to the state at the root.
    pub(crate) fn into_changes(self) -> StateChanges {
        let mut changes = StateChanges::default();
        for (address, entry) in self.accounts {
            let storage: BTreeMap<U256, U256> = entry
                .storage
                .iter()
                .filter(|(_, (before, now))| before != now)
                .map(|(slot, (_, now))| (*slot, *now))
                .collect();
            if is_unchanged(&entry, &storage) {
                continue;
            }
            let storage_root = match (&entry.original, entry.wiped) {
                (Some(original), false) => original.storage_root,
                _ => EMPTY_ROOT_HASH,
            };
            let code_before = entry.original.as_ref().map(|account| account.code_hash);
            if let Some(info) = entry
                .info
                .as_ref()
                .filter(|info| Some(info.code_hash) != code_before)
                && let Some(code) = self.codes.get(&info.code_hash)
            {
                changes.codes.insert(info.code_hash, code.original_bytes());
            }
            changes.accounts.insert(
                address,
                AccountChange {
                    info: entry.info,
                    storage_root,
                    storage,
                },
            );
        }
        changes
    }

    fn collect_code(&mut self, info: &AccountInfo) {
        if let Some(code) = info.code.as_ref().filter(|code| !code.is_empty()) {
            self.codes
                .entry(info.code_hash)
                .or_insert_with(|| code.clone());
        }
    }

    fn commit_account(&mut self, address: Address, account: Account) {
        if !account.is_touched() {
            return;
        }
        self.collect_code(&account.info);
        // The EVM loads an account before it changes it. A missing account would lose the change,
        // which the state root would reveal.
        let Some(entry) = self.accounts.get_mut(&address) else {
            return;
        };
        if account.is_selfdestructed() {
            entry.info = None;
            entry.storage.clear();
            entry.wiped = true;
            return;
        }
        if account.is_created() {
            entry.storage.clear();
            entry.wiped = true;
        }
        for (slot, value) in account.storage {
            let now = value.present_value();
            entry
                .storage
                .entry(slot)
                .or_insert((value.original_value(), now))
                .1 = now;
        }
        // EIP-161: a touched account that is empty is removed.
        let is_kept = !account.info.is_empty()
            || crate::interceptor::empty_account_is_written(entry.original.is_none());
        entry.info = is_kept.then(|| account.info.without_code());
    }
}

/// True when neither the account nor its storage has changed; `storage` holds the changed slots.
fn is_unchanged(account: &OverlayAccount, storage: &BTreeMap<U256, U256>) -> bool {
    match (&account.original, &account.info) {
        (None, None) => true,
        (Some(original), Some(info)) => {
            let same_storage =
                storage.is_empty() && (!account.wiped || original.storage_root == EMPTY_ROOT_HASH);
            same_storage
                && original.balance == info.balance
                && original.nonce == info.nonce
                && original.code_hash == info.code_hash
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The account without its code, which is loaded on demand.
pub(crate) fn info_of(account: &TrieAccount) -> AccountInfo {
    AccountInfo {
        balance: account.balance,
        nonce: account.nonce,
        code_hash: account.code_hash,
        code: None,
        ..AccountInfo::default()
    }
}

impl Database for Overlay<'_> {
    type Error = Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Error> {
        Ok(self.load(address)?.info.clone())
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, Error> {
        match self.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.db.code(hash),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Error> {
        let db = self.db;
        let entry = self.load(address)?;
        if let Some((_, now)) = entry.storage.get(&slot) {
            return Ok(*now);
        }
        let value = match (&entry.original, entry.wiped) {
            (Some(original), false) => db.storage(original.storage_root, slot)?,
            _ => U256::ZERO,
        };
        entry.storage.insert(slot, (value, value));
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Error> {
        self.ancestors.hash_at(number)
    }
}

impl DatabaseCommit for Overlay<'_> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        for (address, account) in changes {
            self.commit_account(address, account);
        }
    }
}
