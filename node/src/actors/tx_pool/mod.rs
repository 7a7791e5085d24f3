//! TxPoolActor: users' transactions, from one execution client's pool to the others'.
//!
//! Leaders build blocks from their own client's pool, and a user speaks to one client. Clients with a network of their
//! own (Geth, Reth) share their pools; embedded ones and clients without peers do not, so this actor passes on what is
//! new in the pool, and hands in what others pass on. Owns a bounded memory of what was passed on. Refuses what is no
//! transaction; never judges those that are: the client's pool does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{B256, Bytes, keccak256};
use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_integrations::execution::{ExecutionClient, ExecutionError};
use alys_net::{Command, Topic, Verdict};
use alys_runtime::{buggify, time};
use alys_types::limits::MAX_TRANSACTIONS_BYTES;
use alys_types::wire::{Message as Wire, Transactions};

use crate::actors::network::NetworkMessage;
use crate::actors::validation::Source;

/// How often the client's pool is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row that fail are told to the operator.
const BLIND_AFTER: u32 = 20;
/// Transactions looked at at once.
const MAX_PENDING: usize = 4096;
/// Transactions remembered as known to the others.
const MAX_KNOWN: usize = 16 * 1024;
/// The same where the simulator makes it forgetful: they are passed on again.
const FEW_KNOWN: usize = 16;
/// Transactions taken from one message.
const MAX_RECEIVED: usize = 2048;
/// How long transactions are handed in at one message; the rest of them is at the next.
const TURN: Duration = Duration::from_secs(1);
/// Transactions that wait to be handed in; with more the client is too slow for what users send.
const MAX_WAITING: usize = 2 * MAX_RECEIVED;

/// What the pool is told.
pub enum TxPoolMessage {
    /// The timer.
    Look,
    /// Others pass transactions on.
    Received { source: Source, payload: Vec<u8> },
    /// There are transactions that wait to be handed in.
    HandIn,
}

impl Message for TxPoolMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Received { .. } => "received",
            Self::HandIn => "hand_in",
        }
    }
}

/// The actor.
pub struct TxPoolActor {
    client: Arc<dyn ExecutionClient>,
    network: Addr<NetworkMessage>,
    known: Known,
    /// What others passed on and the client does not have yet.
    waiting: VecDeque<Vec<u8>>,
    /// Whether a [`TxPoolMessage::HandIn`] is on its way.
    handing_in: bool,
    /// Looks at the client's pool that failed, one after the other.
    failed_looks: u32,
}

impl TxPoolActor {
    pub fn new(client: Arc<dyn ExecutionClient>, network: Addr<NetworkMessage>) -> TxPoolActor {
        let (known, waiting) = (Known::default(), VecDeque::new());
        TxPoolActor {
            client,
            network,
            known,
            waiting,
            handing_in: false,
            failed_looks: 0,
        }
    }

    fn go_on(&mut self, ctx: &Context<Self>) {
        if !self.waiting.is_empty() && !self.handing_in {
            self.handing_in = true;
            ctx.send_after(Duration::ZERO, TxPoolMessage::HandIn);
        }
    }

    /// Passes on what is new in the pool.
    async fn look(&mut self) {
        let most = if buggify!("node.tx_pool.small_look") {
            2
        } else {
            MAX_PENDING
        };
        let pending = match self.client.pending_transactions(most).await {
            Ok(pending) => pending,
            Err(error) => {
                // That the client is away is said by who talks to it about blocks; but its pool alone may be too much.
                self.failed_looks = self.failed_looks.saturating_add(1);
                if self.failed_looks == BLIND_AFTER {
                    tracing::warn!(%error, "the execution client's pool cannot be read and is not passed on; asking again");
                }
                return;
            }
        };
        self.failed_looks = 0;
        let fresh: Vec<Vec<u8>> = pending
            .into_iter()
            .filter(|tx| self.known.insert(keccak256(tx)))
            .map(|tx| tx.to_vec())
            .collect();
        for message in split(fresh) {
            let publish = Command::Publish {
                topic: Topic::Transactions,
                payload: message.encode(),
            };
            if self
                .network
                .tell(NetworkMessage::Command(Box::new(publish)))
                .is_err()
            {
                // Passed on again after this memory has forgotten them.
                for tx in &message.0 {
                    self.known.remove(&keccak256(tx));
                }
            }
        }
    }

    /// Hands in what others passed on. Good when at least one was taken.
    async fn receive(&mut self, payload: &[u8]) -> Verdict {
        let Ok(Transactions(transactions)) = Transactions::decode(payload) else {
            return Verdict::Reject;
        };
        if transactions.is_empty() || transactions.len() > MAX_RECEIVED {
            return Verdict::Reject;
        }
        if !transactions.iter().all(|bytes| is_transaction(bytes)) {
            return Verdict::Reject;
        }
        for transaction in transactions {
            if self.waiting.len() < MAX_WAITING && self.known.insert(keccak256(&transaction)) {
                self.waiting.push_back(transaction);
            }
        }
        if self.hand_in().await {
            Verdict::Accept
        } else {
            Verdict::Ignore
        }
    }

    /// Hands in what waits, for the length of a turn. True when at least one was taken.
    async fn hand_in(&mut self) -> bool {
        let begun = time::now();
        let mut taken = false;
        let turn = if buggify!("node.tx_pool.short_turn") {
            Duration::from_millis(1)
        } else {
            TURN
        };
        while time::now().saturating_duration_since(begun) < turn
            && let Some(transaction) = self.waiting.pop_front()
        {
            let hash = keccak256(&transaction);
            match self
                .client
                .send_raw_transaction(Bytes::from(transaction))
                .await
            {
                Ok(_) => taken = true,
                Err(ExecutionError::Transport { .. }) => {
                    // The client is away: they come again from whoever has them.
                    self.known.remove(&hash);
                    for transaction in std::mem::take(&mut self.waiting) {
                        self.known.remove(&keccak256(transaction));
                    }
                }
                // Refused ones are nobody's fault: mined meanwhile, or replaced.
                Err(_) => {}
            }
        }
        taken
    }
}

impl AlysActor for TxPoolActor {
    type Message = TxPoolMessage;
    type Error = std::convert::Infallible;
    type Config = ();
    const NAME: &'static str = "TxPoolActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Self::Error> {
        ctx.send_after(LOOK, TxPoolMessage::Look);
        Ok(())
    }

    async fn handle(&mut self, msg: TxPoolMessage, ctx: &Context<Self>) -> Result<(), Self::Error> {
        match msg {
            TxPoolMessage::Look => {
                self.look().await;
                let wait = if buggify!("node.tx_pool.late_look") {
                    4 * LOOK
                } else {
                    LOOK
                };
                ctx.send_after(wait, TxPoolMessage::Look);
            }
            TxPoolMessage::Received { source, payload } => {
                let verdict = self.receive(&payload).await;
                if let Some(id) = source.gossip {
                    let judge = NetworkMessage::Command(Box::new(Command::Judge { id, verdict }));
                    if self.network.tell(judge).is_err() {
                        tracing::debug!("the network is busy: a verdict is dropped");
                    }
                }
                self.go_on(ctx);
            }
            TxPoolMessage::HandIn => {
                self.handing_in = false;
                self.hand_in().await;
                self.go_on(ctx);
            }
        }
        Ok(())
    }
}

/// Transactions seen, the oldest forgotten first.
#[derive(Default)]
struct Known {
    order: VecDeque<B256>,
    set: BTreeSet<B256>,
}

impl Known {
    /// True when it was not known.
    fn insert(&mut self, hash: B256) -> bool {
        if !self.set.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        let most = if buggify!("node.tx_pool.forget", 50_000) {
            FEW_KNOWN
        } else {
            MAX_KNOWN
        };
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }

    fn remove(&mut self, hash: &B256) {
        self.set.remove(hash);
        self.order.retain(|h| h != hash);
    }
}

/// Whether bytes are an encoded transaction and nothing else. Who signed it, and whether it can be paid, is the client's to
/// find out; but all that we publish was encoded from a transaction, so that who passes on anything else is at fault.
fn is_transaction(bytes: &[u8]) -> bool {
    TxEnvelope::decode_2718_exact(bytes).is_ok()
}

/// Messages within the size limit, in order.
fn split(transactions: Vec<Vec<u8>>) -> Vec<Transactions> {
    let mut messages: Vec<Transactions> = Vec::new();
    let mut bytes = 0;
    for transaction in transactions {
        let size = transaction.len() + 8;
        let room = messages
            .last()
            .is_some_and(|m| m.0.len() < MAX_RECEIVED && bytes + size < MAX_TRANSACTIONS_BYTES)
            && !buggify!("node.tx_pool.small_messages");
        if !room {
            messages.push(Transactions(Vec::new()));
            bytes = 64;
        }
        if let Some(message) = messages.last_mut() {
            bytes += size;
            message.0.push(transaction);
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_eips::eip2718::Encodable2718;
    use alloy_primitives::{Signature, U256};
    use alys_actor_system::testkit::Probe;
    use alys_integrations::execution::HttpEngine;
    use alys_integrations::http::ClientConfig;

    use super::*;

    fn transfer(nonce: u64) -> Vec<u8> {
        let signature = Signature::new(U256::from(1u64), U256::from(2u64), false);
        TxEnvelope::from(
            TxEip1559 {
                nonce,
                ..TxEip1559::default()
            }
            .into_signed(signature),
        )
        .encoded_2718()
    }

    #[test]
    fn rubbish_costs_who_passes_it_on() {
        let (good, other) = (transfer(1), transfer(2));
        let cut = good[..good.len() - 1].to_vec();
        let longer = [&good[..], &[0]].concat();
        // The client is away: what is not refused is nobody's fault.
        let table = [
            (vec![good.clone()], Verdict::Ignore),
            (vec![good.clone(), other.clone()], Verdict::Ignore),
            (vec![], Verdict::Reject),
            (vec![vec![]], Verdict::Reject),
            (vec![vec![0xee; 40]], Verdict::Reject),
            (vec![good.clone(), cut], Verdict::Reject),
            (vec![longer], Verdict::Reject),
        ];
        alys_runtime::block_on_main(async {
            for (row, (transactions, expected)) in table.into_iter().enumerate() {
                let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
                let client = HttpEngine::with_config(ClientConfig::new(nobody));
                let (network, _probe) = Probe::new(4);
                let mut pool = TxPoolActor::new(Arc::new(client), network);
                let verdict = pool.receive(&Transactions(transactions).encode()).await;
                assert_eq!(verdict, expected, "row {row}");
                assert!(
                    pool.known.set.is_empty(),
                    "row {row}: what was not handed in comes again"
                );
            }
        });
    }

    #[test]
    fn messages_stay_within_the_limit_and_keep_the_order() {
        let all: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; 60 * 1024]).collect();
        let messages = split(all.clone());
        assert!(messages.len() > 1);
        assert!(
            messages
                .iter()
                .all(|m| m.encode().len() <= MAX_TRANSACTIONS_BYTES)
        );
        assert_eq!(
            messages.into_iter().flat_map(|m| m.0).collect::<Vec<_>>(),
            all
        );
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut known = Known::default();
        for i in 0..(MAX_KNOWN as u64 + 10) {
            assert!(known.insert(keccak256(i.to_le_bytes())));
        }
        assert_eq!(known.set.len(), MAX_KNOWN);
        assert!(
            known.insert(keccak256(0u64.to_le_bytes())),
            "the oldest is forgotten"
        );
    }
}
