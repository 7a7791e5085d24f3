//! The kit of the core's tests: funded keys, a store that can lose power, and the node's side of
//! the Engine API.

use super::super::*;
use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::{eip2718::Encodable2718 as _, eip4895::Withdrawal};
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, hex};
use alloy_rpc_types_engine::{
    CancunPayloadFields, ExecutionPayload, ExecutionPayloadSidecar, ForkchoiceState,
    PayloadAttributes, PayloadStatus,
};
use alys_storage::{Batch, Direction, Durability, KeyValue, Op, Table};
use k256::ecdsa::SigningKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(super) const GWEI: u128 = 1_000_000_000;
pub(super) const CHAIN_ID: u64 = 1337;
/// The address of the first contract of key 0.
pub(super) const CONTRACT: Address = address!("0x5FbDB2315678afecb367f032d93F642f64180aa3");
/// Without input: increments slot 0 and logs the count under topic 0x42. With 1: reverts with "no".
/// Else: returns the count.
pub(super) const COUNTER: &[u8] = &hex!(
    "605280600b6000396000f33660195760005460010180600055600052604260206000a100"
    "5b600035600114602e5760005460005260206000f3"
    "5b6308c379a060e01b60005260206004526002602452616e6f60f01b60445260646000fd"
);
/// EIP-4788's contract.
pub(super) const BEACON_ROOTS_CODE: &str = "0x3373fffffffffffffffffffffffffffffffffffffffe1460\
    4d57602036146024575f5ffd5b5f35801560495762001fff810690815414603c575f5ffd5b62001fff01545f\
    5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500";

/// The well-known development keys.
pub(super) fn key(index: usize) -> SigningKey {
    let keys = [
        hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
        hex!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
        hex!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    ];
    SigningKey::from_slice(&keys[index]).expect("a valid key")
}

pub(super) fn account(index: usize) -> Address {
    Address::from_private_key(&key(index))
}

pub(super) fn genesis(fork: Fork) -> Genesis {
    let mut json = serde_json::json!({
        "config": {
            "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true
        },
        "nonce": "0x0", "timestamp": "0x0", "extraData": "0x", "gasLimit": "0x1c9c380",
        "difficulty": "0x0",
        "alloc": {
            "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266": { "balance": "0xd3c21bcecceda1000000" },
            "70997970C51812dc3A010C7d01b50e0d17dc79C8": { "balance": "0xd3c21bcecceda1000000" }
        }
    });
    if fork >= Fork::Shanghai {
        json["config"]["shanghaiTime"] = 0.into();
    }
    if fork >= Fork::Cancun {
        json["config"]["cancunTime"] = 0.into();
        json["alloc"]["000F3df6D732807Ef1319fB7B8bB8522d0Beac02"] =
            serde_json::json!({ "balance": "0x0", "nonce": "0x1", "code": BEACON_ROOTS_CODE });
    }
    serde_json::from_value(json).expect("a valid genesis")
}

/// The fields of a test transaction; the others have defaults.
#[derive(Clone)]
pub(super) struct Tx {
    pub(super) key: usize,
    pub(super) nonce: u64,
    pub(super) to: TxKind,
    pub(super) value: U256,
    pub(super) input: Bytes,
    pub(super) gas: u64,
    pub(super) tip: u128,
    pub(super) cap: u128,
    pub(super) chain_id: u64,
}

impl Tx {
    pub(super) fn transfer(key: usize, nonce: u64, to: Address, wei: u128) -> Self {
        Self {
            key,
            nonce,
            to: TxKind::Call(to),
            value: U256::from(wei),
            input: Bytes::new(),
            gas: 21_000,
            tip: GWEI,
            cap: 100 * GWEI,
            chain_id: CHAIN_ID,
        }
    }

    pub(super) fn call(key: usize, nonce: u64, to: Address, input: impl Into<Bytes>) -> Self {
        Self {
            gas: 200_000,
            input: input.into(),
            ..Self::transfer(key, nonce, to, 0)
        }
    }

    pub(super) fn deploy(key: usize, nonce: u64, code: &[u8]) -> Self {
        let input = Bytes::copy_from_slice(code);
        Self {
            to: TxKind::Create,
            gas: 500_000,
            ..Self::call(key, nonce, Address::ZERO, input)
        }
    }

    pub(super) fn sign(self) -> TxEnvelope {
        sign(
            TxEip1559 {
                chain_id: self.chain_id,
                nonce: self.nonce,
                gas_limit: self.gas,
                max_fee_per_gas: self.cap,
                max_priority_fee_per_gas: self.tip,
                to: self.to,
                value: self.value,
                access_list: Default::default(),
                input: self.input,
            },
            self.key,
        )
    }

    pub(super) fn legacy(self) -> TxEnvelope {
        sign(
            TxLegacy {
                chain_id: Some(self.chain_id),
                nonce: self.nonce,
                gas_price: self.cap,
                gas_limit: self.gas,
                to: self.to,
                value: self.value,
                input: self.input,
            },
            self.key,
        )
    }

    pub(super) fn with_access_list(self) -> TxEnvelope {
        let TxKind::Call(address) = self.to else {
            panic!("an access list test calls")
        };
        let item = alloy_eips::eip2930::AccessListItem {
            address,
            storage_keys: vec![B256::ZERO],
        };
        sign(
            TxEip2930 {
                chain_id: self.chain_id,
                nonce: self.nonce,
                gas_price: self.cap,
                gas_limit: self.gas + 10_000,
                to: self.to,
                value: self.value,
                access_list: vec![item].into(),
                input: self.input,
            },
            self.key,
        )
    }
}

pub(super) fn sign<T: SignableTransaction<Signature>>(tx: T, with: usize) -> TxEnvelope
where
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signed = key(with)
        .sign_prehash_recoverable(tx.signature_hash().as_slice())
        .expect("a hash");
    tx.into_signed(Signature::from(signed)).into()
}

/// One node's execution client.
pub(super) struct TestClient {
    pub(super) core: ExecutionCore,
    pub(super) store: Arc<PowerlessStore>,
    pub(super) genesis: Genesis,
    pub(super) recipient: Address,
    pub(super) withdrawals: Vec<Withdrawal>,
}

impl TestClient {
    pub(super) fn new(fork: Fork) -> Self {
        Self::with(genesis(fork), CoreConfig::default())
    }

    pub(super) fn with(genesis: Genesis, config: CoreConfig) -> Self {
        let store = Arc::new(PowerlessStore::default());
        let core = ExecutionCore::open(store.clone(), &genesis, config).expect("opens");
        Self {
            core,
            store,
            genesis,
            recipient: Address::repeat_byte(0xfe),
            withdrawals: Vec::new(),
        }
    }

    /// Reopens the core from the store.
    pub(super) fn restart(&mut self) {
        self.core = ExecutionCore::open(self.store.clone(), &self.genesis, CoreConfig::default())
            .expect("opens again");
    }

    pub(super) fn send(&mut self, tx: &TxEnvelope) -> Result<B256, Error> {
        self.core.add_transaction(&tx.encoded_2718())
    }

    pub(super) fn must_send(&mut self, tx: &TxEnvelope) -> B256 {
        self.send(tx).expect("is taken")
    }

    pub(super) fn attributes(&self, timestamp: u64) -> PayloadAttributes {
        let fork = self.core.fork_at(timestamp);
        PayloadAttributes {
            timestamp,
            prev_randao: B256::repeat_byte(7),
            suggested_fee_recipient: self.recipient,
            withdrawals: (fork >= Fork::Shanghai).then(|| self.withdrawals.clone()),
            parent_beacon_block_root: (fork >= Fork::Cancun).then(|| beacon_root(timestamp)),
            ..PayloadAttributes::default()
        }
    }

    /// Makes `parent` the head and builds on it with this timestamp.
    pub(super) fn build_on(&mut self, parent: B256, timestamp: u64) -> ExecutionPayload {
        let attributes = self.attributes(timestamp);
        let updated = self
            .core
            .forkchoice_updated(head(parent), Some(attributes))
            .expect("updates");
        assert!(updated.is_valid(), "{updated:?}");
        let id = updated.payload_id.expect("a build");
        self.core.get_payload(id).expect("builds").payload
    }

    pub(super) fn import(&mut self, payload: &ExecutionPayload) -> PayloadStatus {
        let sidecar = sidecar(payload);
        self.core
            .new_payload(payload.clone(), sidecar)
            .expect("the store works")
    }

    pub(super) fn must_import(&mut self, payload: &ExecutionPayload) {
        let status = self.import(payload);
        assert!(status.is_valid(), "{status:?}");
        assert_eq!(status.latest_valid_hash, Some(payload.block_hash()));
    }

    pub(super) fn set_head(&mut self, hash: B256) {
        let updated = self
            .core
            .forkchoice_updated(head(hash), None)
            .expect("updates");
        assert!(updated.is_valid(), "{updated:?}");
    }

    /// Builds a block from the pool, one second after the head.
    pub(super) fn block(&mut self) -> ExecutionPayload {
        let parent = self.core.head();
        let timestamp = self.time_of(parent.hash) + 1;
        let payload = self.build_on(parent.hash, timestamp);
        self.must_import(&payload);
        self.set_head(payload.block_hash());
        payload
    }

    /// Imports `count` empty blocks on `parent` with timestamps `step` seconds apart, so that
    /// branches differ by `step`.
    pub(super) fn branch(
        &mut self,
        parent: B256,
        count: usize,
        step: u64,
    ) -> Vec<ExecutionPayload> {
        let mut payloads: Vec<ExecutionPayload> = Vec::new();
        let mut parent = parent;
        for _ in 0..count {
            let payload = self.build_on(parent, self.time_of(parent) + step);
            self.must_import(&payload);
            parent = payload.block_hash();
            payloads.push(payload);
        }
        payloads
    }

    pub(super) fn time_of(&self, hash: B256) -> u64 {
        self.core
            .header(hash.into())
            .expect("reads")
            .expect("is known")
            .header
            .timestamp
    }

    pub(super) fn balance(&self, address: Address) -> U256 {
        self.core
            .balance(address, Default::default())
            .expect("reads")
    }

    /// Imports the blocks into another client and compares the results.
    pub(super) fn replay_into(&self, other: &mut Self, payloads: &[ExecutionPayload]) {
        for payload in payloads {
            other.must_import(payload);
            other.set_head(payload.block_hash());
        }
        assert_eq!(self.core.head(), other.core.head());
    }
}

pub(super) fn head(hash: B256) -> ForkchoiceState {
    ForkchoiceState {
        head_block_hash: hash,
        safe_block_hash: B256::ZERO,
        finalized_block_hash: B256::ZERO,
    }
}

pub(super) fn beacon_root(timestamp: u64) -> B256 {
    B256::left_padding_from(&[&[0xbe][..], &timestamp.to_be_bytes()].concat())
}

pub(super) fn sidecar(payload: &ExecutionPayload) -> ExecutionPayloadSidecar {
    match payload {
        ExecutionPayload::V1(_) | ExecutionPayload::V2(_) => ExecutionPayloadSidecar::none(),
        _ => ExecutionPayloadSidecar::v3(CancunPayloadFields::new(
            beacon_root(payload.timestamp()),
            Vec::new(),
        )),
    }
}

pub(super) fn eth(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}

type Tables = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// A memory store that drops writes which are not durable at [`PowerlessStore::lose_power`].
#[derive(Default)]
pub(super) struct PowerlessStore {
    live: Mutex<Tables>,
    disk: Mutex<Tables>,
    durable_writes: Mutex<usize>,
    /// All batches in order, with their durability.
    log: Mutex<Vec<(Batch, Durability)>>,
}

impl PowerlessStore {
    pub(super) fn lose_power(&self) {
        *self.live.lock().expect("not poisoned") = self.disk.lock().expect("not poisoned").clone();
    }

    pub(super) fn durable_writes(&self) -> usize {
        *self.durable_writes.lock().expect("not poisoned")
    }

    /// The possible stores after a crash: one for every prefix of the writes.
    pub(super) fn all_prefixes(&self) -> Vec<Arc<Self>> {
        let log = self.log.lock().expect("not poisoned").clone();
        let apply = |length: usize| {
            let store = Arc::new(Self::default());
            for (batch, durability) in &log[..length] {
                store
                    .write(batch.clone(), *durability)
                    .expect("memory does not fail");
            }
            store
        };
        (0..=log.len()).map(apply).collect()
    }

    /// Flips a byte of every value in a table.
    pub(super) fn corrupt(&self, table: &'static str) {
        for (key, value) in self.live.lock().expect("not poisoned").iter_mut() {
            if key.0 == table
                && let Some(byte) = value.first_mut()
            {
                *byte ^= 0xff;
            }
        }
    }
}

impl KeyValue for PowerlessStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, alys_storage::Error> {
        Ok(self
            .live
            .lock()
            .expect("not poisoned")
            .get(&(table.0, key.to_vec()))
            .cloned())
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, alys_storage::Error> {
        let live = self.live.lock().expect("not poisoned");
        let entries = live
            .range((table.0, start.to_vec())..(table.0, end.to_vec()))
            .map(|(k, v)| (k.1.clone(), v.clone()));
        Ok(match direction {
            Direction::Forward => entries.take(limit).collect(),
            Direction::Backward => entries.rev().take(limit).collect(),
        })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), alys_storage::Error> {
        self.log
            .lock()
            .expect("not poisoned")
            .push((batch.clone(), durability));
        let mut live = self.live.lock().expect("not poisoned");
        for op in batch.ops() {
            match op.clone() {
                Op::Put { table, key, value } => live.insert((table.0, key), value),
                Op::Delete { table, key } => live.remove(&(table.0, key)),
            };
        }
        if durability == Durability::Durable {
            *self.disk.lock().expect("not poisoned") = live.clone();
            *self.durable_writes.lock().expect("not poisoned") += 1;
        }
        Ok(())
    }
}
