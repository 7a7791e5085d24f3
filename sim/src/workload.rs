//! Users: they sign transactions, hand them to any execution client, and wait until they see them in a final block.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex};
use alys_integrations::http::{CallError, ClientConfig, HttpClient};
use alys_runtime::sim::Rng;
use alys_runtime::time;

use crate::genesis::{CHAIN_ID, sink_address, user_address, user_key};
use crate::machines::{RPC_PORT, client_ip};
use crate::oracles::{Action, Judge, Receipt, Sent};
use crate::plan::WorkloadPlan;

const GWEI: u128 = 1_000_000_000;
/// Between two looks for a receipt.
const LOOK: Duration = Duration::from_millis(600);
/// After so many looks a transaction is handed in again, to another client: pools are lost in crashes.
const LOOKS_BEFORE_RESEND: u32 = 6;
/// Each call counts up in slot 0 and logs the count.
const COUNTER: &[u8] = &hex!("601580600b6000396000f360005460010180600055600052604260206000a100");

/// A user of the network.
pub struct User {
    /// From 0.
    pub index: u8,
    /// Execution clients to choose from.
    pub clients: u8,
    /// What it does.
    pub plan: WorkloadPlan,
    /// Its choices.
    pub rng: Rng,
    /// Where what it sees is written down.
    pub judge: Judge,
    /// Set when it should come to an end.
    pub is_over: Arc<AtomicBool>,
}

/// A client of one execution client's public port.
pub fn rpc(index: u8) -> HttpClient {
    HttpClient::new(ClientConfig {
        deadline: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(1),
        ..ClientConfig::new(SocketAddr::new(client_ip(index), RPC_PORT))
    })
}

struct Pending {
    hash: B256,
    raw: Bytes,
    looks: u32,
}

impl User {
    /// Sends bursts until it is over.
    pub async fn run(mut self) {
        let clients: Vec<HttpClient> = (0..self.clients).map(rpc).collect();
        let mut nonce = 0;
        let contract = user_address(self.index).create(0);
        while !self.is_over.load(Ordering::SeqCst) {
            let count = 1 + self.rng.below(u64::from(self.plan.burst.max(1)));
            let mut pending = Vec::new();
            for _ in 0..count {
                let action = self.choose(nonce, contract);
                let (hash, raw) = self.sign(nonce, action);
                let sent = Sent { user: self.index, nonce, action };
                self.judge.look().ledger.sent.insert(hash, sent);
                nonce += 1;
                self.send(&clients, &raw).await;
                pending.push(Pending { hash, raw, looks: 0 });
            }
            self.wait(&clients, pending).await;
            let pause = self.plan.pause_ms;
            time::sleep(Duration::from_millis(pause / 2 + self.rng.below(pause.max(1)))).await;
        }
    }

    fn choose(&mut self, nonce: u64, contract: Address) -> Action {
        match nonce {
            0 => Action::Deploy,
            _ if self.rng.below(4) == 0 => Action::Count { contract },
            _ => Action::Transfer { wei: 1 + self.rng.below(1_000_000_000) },
        }
    }

    fn sign(&mut self, nonce: u64, action: Action) -> (B256, Bytes) {
        let (to, value, input, gas_limit) = match action {
            Action::Transfer { wei } => (TxKind::Call(sink_address(self.index)), wei, Bytes::new(), 21_000),
            Action::Deploy => (TxKind::Create, 0, Bytes::from_static(COUNTER), 300_000),
            Action::Count { contract } => (TxKind::Call(contract), 0, Bytes::new(), 100_000),
        };
        let value = U256::from(value);
        let envelope = match self.rng.below(2) {
            0 => {
                let chain_id = Some(CHAIN_ID);
                self.seal(TxLegacy { chain_id, nonce, gas_price: 50 * GWEI, gas_limit, to, value, input })
            }
            _ => self.seal(TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit,
                max_fee_per_gas: 100 * GWEI,
                max_priority_fee_per_gas: GWEI,
                to,
                value,
                access_list: Default::default(),
                input,
            }),
        };
        (*envelope.tx_hash(), envelope.encoded_2718().into())
    }

    fn seal<T: SignableTransaction<Signature>>(&self, tx: T) -> TxEnvelope
    where
        TxEnvelope: From<alloy_consensus::Signed<T>>,
    {
        let hash = tx.signature_hash();
        let signed = user_key(self.index).sign_prehash_recoverable(hash.as_slice());
        let signed = signed.expect("a hash has the length that is signed");
        tx.into_signed(Signature::from(signed)).into()
    }

    /// Hands a transaction to one client or another. Answers do not matter: what counts is what becomes final.
    async fn send(&mut self, clients: &[HttpClient], raw: &Bytes) {
        for _ in 0..2 {
            let client = &clients[self.rng.below(clients.len() as u64) as usize];
            let sent: Result<B256, CallError> = client.call("eth_sendRawTransaction", (raw,)).await;
            if matches!(sent, Ok(_) | Err(CallError::Rpc { .. })) {
                return;
            }
        }
    }

    /// Waits until all are in final blocks.
    async fn wait(&mut self, clients: &[HttpClient], mut pending: Vec<Pending>) {
        while !pending.is_empty() && !self.is_over.load(Ordering::SeqCst) {
            time::sleep(LOOK).await;
            let client = &clients[self.rng.below(clients.len() as u64) as usize];
            let mut left = Vec::new();
            for mut transaction in pending {
                let receipt: Result<Option<Receipt>, CallError> =
                    client.call("eth_getTransactionReceipt", (transaction.hash,)).await;
                let is_final = matches!(receipt, Ok(Some(receipt)) if self.acknowledge(&receipt));
                if is_final {
                    continue;
                }
                transaction.looks += 1;
                if transaction.looks.is_multiple_of(LOOKS_BEFORE_RESEND) {
                    self.send(clients, &transaction.raw).await;
                }
                left.push(transaction);
            }
            pending = left;
        }
    }

    /// Writes down that a transaction is in a final block, if it is.
    fn acknowledge(&self, receipt: &Receipt) -> bool {
        let height = receipt.block_number.saturating_to::<u64>();
        let mut oracles = self.judge.look();
        let is_final = oracles
            .finality
            .blocks
            .get(&height)
            .is_some_and(|block| block.execution_hash.0 == receipt.block_hash.0);
        if is_final {
            oracles.ledger.acknowledged.insert(receipt.transaction_hash, (height, receipt.block_hash));
        }
        is_final
    }
}
