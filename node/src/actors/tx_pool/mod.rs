//! TxPoolActor: gossips transactions between the pools of execution clients.
//!
//! A leader builds blocks from the pool of its own execution client, and a user sends to one client
//! only. Clients with a network of their own (Geth, Reth) share their pools; embedded clients and
//! clients without peers do not. Owns bounded sets of the transactions that were broadcast and
//! received. Guarantees that new transactions of the pool are broadcast, in batches and within a
//! budget that every honest peer grants, and that received ones are submitted to the pool. Never
//! forwards a message: transactions cost their sender nothing, so forwarding would let a stranger
//! spend this node's budgets at its peers. A broadcast may reach no peer, or only clients that lose
//! it, so one that stays in the pool is repeated. The pool decides which transactions are worth
//! broadcasting. Refuses malformed transactions; the validity of others is decided by the client.

mod metrics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{B256, Bytes, keccak256};
use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_integrations::execution::{ExecutionClient, ExecutionError};
use alys_net::{Command, GossipVerdict, Topic};
use alys_runtime::buggify;
use alys_runtime::time::{self, Instant};
use alys_types::limits::MAX_TRANSACTIONS_BYTES;
use alys_types::wire::{Message as Wire, Transactions};

use crate::actors::network::NetworkMessage;
use crate::actors::validation::Source;
use crate::interceptor;

pub use metrics::Metrics;

/// Interval between two reads of the client's pool.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Consecutive failed reads after which the operator is warned.
const FAILED_POLLS_TO_WARN: u32 = 20;
/// Transactions per read.
const MAX_PENDING: usize = 4096;
/// Transactions remembered as broadcast, and as received.
const MAX_KNOWN: usize = 16 * 1024;
/// The same limit where the simulator makes the actor forget.
const FEW_KNOWN: usize = 16;
/// Transactions per gossip message.
const MAX_RECEIVED: usize = 2048;
/// Time spent on submitting transactions per message; the rest follows at the next one.
const SUBMIT_BUDGET: Duration = Duration::from_secs(1);
/// Transactions to submit. With more, the client is too slow for the users' load.
const MAX_QUEUED: usize = 2 * MAX_RECEIVED;
/// Bytes of the transactions to submit: 32 of the longest messages.
const MAX_QUEUED_BYTES: usize = 32 * MAX_TRANSACTIONS_BYTES;
/// Messages per read of the pool, which is half of the rate that a peer grants
/// ([`Topic::rate`]); the rest of the pool follows at the next reads.
const MAX_BROADCASTS: usize = 2;
/// Time after which a transaction that is still in the pool is broadcast again: several rounds of
/// leaders, within which a transaction that a leader has is usually in a block.
const REPEAT_AFTER: Duration = Duration::from_secs(20);
/// Time between two messages that repeat transactions. A pool full of transactions that no leader
/// wants costs a message in this time, and not the whole budget.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Time for which a received transaction is not submitted again: shorter than [`REPEAT_AFTER`], so
/// that each repetition reaches a client that lost its pool, and repetitions by several peers do
/// not.
const SUBMITTED_ONCE: Duration = Duration::from_secs(15);

pub enum TxPoolMessage {
    /// Read the client's pool: the actor's own timer.
    Poll,
    /// Gossiped transactions.
    Received { source: Source, payload: Vec<u8> },
    /// Submit the rest of the queue.
    Submit,
}

impl Message for TxPoolMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Received { .. } => "received",
            Self::Submit => "submit",
        }
    }
}

pub struct TxPoolActor {
    client: Arc<dyn ExecutionClient>,
    network: Addr<NetworkMessage>,
    /// Transactions that this node broadcast.
    announced: Known,
    /// Transactions of peers that were queued.
    received: Known,
    /// Received transactions to submit.
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    /// A [`TxPoolMessage::Submit`] is in the mailbox.
    is_submit_scheduled: bool,
    /// Consecutive reads of the pool that failed.
    failed_polls: u32,
    /// Time of the last message that repeated transactions.
    repeated: Option<Instant>,
    metrics: Metrics,
}

impl TxPoolActor {
    pub fn new(
        client: Arc<dyn ExecutionClient>,
        network: Addr<NetworkMessage>,
        metrics: Metrics,
    ) -> TxPoolActor {
        TxPoolActor {
            client,
            network,
            announced: Known::default(),
            received: Known::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_submit_scheduled: false,
            failed_polls: 0,
            repeated: None,
            metrics,
        }
    }

    fn schedule_submit(&mut self, ctx: &Context<Self>) {
        if !self.queue.is_empty() && !self.is_submit_scheduled {
            self.is_submit_scheduled = true;
            ctx.send_after(Duration::ZERO, TxPoolMessage::Submit);
        }
    }

    /// Broadcasts new transactions of the pool, and repeats old ones.
    async fn poll(&mut self, now: Instant) {
        let limit = if buggify!("node.tx_pool.small_look") {
            2
        } else {
            MAX_PENDING
        };
        let pending = match self.client.pending_transactions(limit).await {
            Ok(pending) => pending,
            Err(error) => {
                // The EngineActor warns of an unreachable client, but the pool alone may be
                // unreadable.
                self.metrics.failed_polls.inc();
                self.failed_polls = self.failed_polls.saturating_add(1);
                if self.failed_polls == FAILED_POLLS_TO_WARN {
                    tracing::warn!(
                        %error,
                        "the execution client's pool cannot be read and is not gossiped; asking \
                         again"
                    );
                }
                return;
            }
        };
        self.failed_polls = 0;
        self.metrics.pending.set(pending.len() as i64);
        let (fresh, known): (Vec<Bytes>, Vec<Bytes>) = pending
            .into_iter()
            .partition(|tx| self.announced.noted(&keccak256(tx)).is_none());
        let fresh = fresh.into_iter().map(|tx| tx.to_vec()).collect();
        let mut messages = split(fresh);
        messages.truncate(MAX_BROADCASTS);
        for message in messages {
            if !self.broadcast(&message, now) {
                return;
            }
        }
        if let Some(message) = self.due_again(known, now)
            && self.broadcast(&message, now)
        {
            self.repeated = Some(now);
        }
    }

    /// Broadcasts transactions. False if the NetworkActor has no room for them; the next read of
    /// the pool finds them again.
    fn broadcast(&mut self, message: &Transactions, now: Instant) -> bool {
        let publish = Command::Publish {
            topic: Topic::Transactions,
            payload: message.encode(),
        };
        let publish = NetworkMessage::Command(Box::new(publish));
        let is_taken = self.network.tell(publish).is_ok();
        if !interceptor::counts_as_broadcast(is_taken) {
            return false;
        }
        for tx in &message.0 {
            self.announced.note(keccak256(tx), now);
        }
        self.metrics.broadcast.inc_by(message.0.len() as u64);
        true
    }

    /// A message of transactions that were broadcast long ago, the oldest ones, if one is due.
    fn due_again(&self, known: Vec<Bytes>, now: Instant) -> Option<Transactions> {
        let is_over = |since: Instant, time| now.saturating_duration_since(since) >= time;
        if self
            .repeated
            .is_some_and(|last| !is_over(last, REPEAT_INTERVAL))
        {
            return None;
        }
        let mut due: Vec<(Instant, Bytes)> = known
            .into_iter()
            .filter_map(|tx| Some((self.announced.noted(&keccak256(&tx))?, tx)))
            .filter(|(noted, _)| is_over(*noted, REPEAT_AFTER))
            .collect();
        // Stable, so that the transactions of an account stay in their order.
        due.sort_by_key(|(noted, _)| *noted);
        let due = due.into_iter().map(|(_, tx)| tx.to_vec()).collect();
        split(due).into_iter().next()
    }

    /// Submits received transactions.
    async fn receive(&mut self, payload: &[u8], now: Instant) -> GossipVerdict {
        let Ok(Transactions(transactions)) = Transactions::decode(payload) else {
            return GossipVerdict::Reject;
        };
        if transactions.is_empty() || transactions.len() > MAX_RECEIVED {
            return GossipVerdict::Reject;
        }
        if !transactions.iter().all(|bytes| is_transaction(bytes)) {
            return GossipVerdict::Reject;
        }
        for transaction in transactions {
            let bytes = self.queued_bytes + transaction.len();
            let has_room = self.queue.len() < MAX_QUEUED && bytes <= MAX_QUEUED_BYTES;
            let hash = keccak256(&transaction);
            let is_recent = |noted| now.saturating_duration_since(noted) < SUBMITTED_ONCE;
            if has_room && !self.received.noted(&hash).is_some_and(is_recent) {
                self.received.note(hash, now);
                self.queued_bytes = bytes;
                self.queue.push_back(transaction);
            }
        }
        self.submit().await;
        GossipVerdict::Ignore
    }

    /// Submits queued transactions within [`SUBMIT_BUDGET`].
    async fn submit(&mut self) {
        let begun = time::now();
        let budget = if buggify!("node.tx_pool.short_turn") {
            Duration::from_millis(1)
        } else {
            SUBMIT_BUDGET
        };
        while time::now().saturating_duration_since(begun) < budget
            && let Some(transaction) = self.queue.pop_front()
        {
            self.queued_bytes -= transaction.len();
            let hash = keccak256(&transaction);
            let transaction = Bytes::from(transaction);
            match self.client.send_raw_transaction(transaction).await {
                Ok(_) => {
                    self.metrics.submitted.inc();
                }
                Err(ExecutionError::Transport { .. }) => {
                    // The client is unreachable: other nodes whose pools have these transactions
                    // broadcast them when they start, and users send them again.
                    self.received.remove(&hash);
                    for transaction in std::mem::take(&mut self.queue) {
                        self.received.remove(&keccak256(transaction));
                    }
                    self.queued_bytes = 0;
                }
                // Refused without a fault of the peer: included or replaced in the meantime.
                Err(_) => {}
            }
        }
        self.metrics.queued.set(self.queue.len() as i64);
        let tables = &self.metrics.tables;
        tables.set("queue", self.queue.len());
        tables.set("queue_bytes", self.queued_bytes);
    }
}

impl AlysActor for TxPoolActor {
    type Message = TxPoolMessage;
    type Error = std::convert::Infallible;
    type Config = ();
    const NAME: &'static str = "TxPoolActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Self::Error> {
        ctx.send_after(POLL_INTERVAL, TxPoolMessage::Poll);
        Ok(())
    }

    async fn handle(&mut self, msg: TxPoolMessage, ctx: &Context<Self>) -> Result<(), Self::Error> {
        match msg {
            TxPoolMessage::Poll => {
                self.poll(time::now()).await;
                let delay = if buggify!("node.tx_pool.late_look") {
                    4 * POLL_INTERVAL
                } else {
                    POLL_INTERVAL
                };
                ctx.send_after(delay, TxPoolMessage::Poll);
            }
            TxPoolMessage::Received { source, payload } => {
                let verdict = self.receive(&payload, time::now()).await;
                if let Some(gossip) = source.gossip {
                    let judge = NetworkMessage::Judge { gossip, verdict };
                    if self.network.tell(judge).is_err() {
                        tracing::debug!("the NetworkActor is busy: a verdict is dropped");
                    }
                }
                self.schedule_submit(ctx);
            }
            TxPoolMessage::Submit => {
                self.is_submit_scheduled = false;
                self.submit().await;
                self.schedule_submit(ctx);
            }
        }
        Ok(())
    }
}

/// Hashes of transactions with the times at which they were noted. The oldest is evicted first.
#[derive(Default)]
struct Known {
    /// By the number of their insertion, so that a removal is no search: a client that becomes
    /// unreachable causes one for each queued transaction.
    order: BTreeMap<u64, B256>,
    set: BTreeMap<B256, (u64, Instant)>,
    inserted: u64,
}

impl Known {
    /// Notes a hash, which is the youngest from now on.
    fn note(&mut self, hash: B256, now: Instant) {
        self.remove(&hash);
        self.set.insert(hash, (self.inserted, now));
        self.order.insert(self.inserted, hash);
        self.inserted += 1;
        let limit = if buggify!("node.tx_pool.forget", 50_000) {
            FEW_KNOWN
        } else {
            MAX_KNOWN
        };
        if self.order.len() > limit
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.set.remove(&oldest);
        }
    }

    /// The time at which a hash was noted.
    fn noted(&self, hash: &B256) -> Option<Instant> {
        self.set.get(hash).map(|(_, at)| *at)
    }

    fn remove(&mut self, hash: &B256) {
        if let Some((number, _)) = self.set.remove(hash) {
            self.order.remove(&number);
        }
    }
}

/// True if `bytes` encode one transaction. An honest node broadcasts nothing else, so its sender is
/// at fault for any other bytes. Signature and balance are checked by the client.
fn is_transaction(bytes: &[u8]) -> bool {
    TxEnvelope::decode_2718_exact(bytes).is_ok()
}

/// Packs transactions into messages within the size limit, in order.
fn split(transactions: Vec<Vec<u8>>) -> Vec<Transactions> {
    let mut messages: Vec<Transactions> = Vec::new();
    let mut bytes = 0;
    for transaction in transactions {
        let size = transaction.len() + 8;
        let has_room = messages
            .last()
            .is_some_and(|m| m.0.len() < MAX_RECEIVED && bytes + size < MAX_TRANSACTIONS_BYTES)
            && !buggify!("node.tx_pool.small_messages");
        if !has_room {
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
    use std::sync::Mutex;

    use alloy_consensus::{ReceiptEnvelope, SignableTransaction, TxEip1559};
    use alloy_eips::eip2718::Encodable2718;
    use alloy_primitives::{Signature, U256};
    use alloy_rpc_types_engine::{
        ExecutionPayload, ForkchoiceState, ForkchoiceUpdated, PayloadAttributes, PayloadId,
        PayloadStatus,
    };
    use alys_actor_system::testkit::Probe;
    use alys_integrations::execution::{
        BlockTag, BuiltPayload, Capabilities, ExecutionBlock, HttpEngine, PayloadFork,
    };
    use alys_integrations::http::ClientConfig;
    use futures::future::BoxFuture;

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
    fn malformed_transactions_cost_their_sender() {
        let good = transfer(1);
        let other = transfer(2);
        let cut = good[..good.len() - 1].to_vec();
        let longer = [&good[..], &[0]].concat();
        // The client is unreachable, which is no fault of the sender.
        let table = [
            (vec![good.clone()], GossipVerdict::Ignore),
            (vec![good.clone(), other.clone()], GossipVerdict::Ignore),
            (vec![], GossipVerdict::Reject),
            (vec![vec![]], GossipVerdict::Reject),
            (vec![vec![0xee; 40]], GossipVerdict::Reject),
            (vec![good.clone(), cut], GossipVerdict::Reject),
            (vec![longer], GossipVerdict::Reject),
        ];
        alys_runtime::block_on_main(async {
            for (row, (transactions, expected)) in table.into_iter().enumerate() {
                let closed_port = SocketAddr::from(([127, 0, 0, 1], 1));
                let client = HttpEngine::with_config(ClientConfig::new(closed_port));
                let (network, _probe) = Probe::new(4);
                let mut pool = TxPoolActor::new(Arc::new(client), network, Metrics::default());
                let message = Transactions(transactions).encode();
                let verdict = pool.receive(&message, time::now()).await;
                assert_eq!(verdict, expected, "row {row}");
                assert!(
                    pool.received.set.is_empty(),
                    "row {row}: transactions that were not submitted are forgotten"
                );
            }
        });
    }

    /// A client whose pool takes everything and keeps it.
    #[derive(Default)]
    struct Pool(Mutex<Vec<Bytes>>);

    impl ExecutionClient for Pool {
        fn send_raw_transaction(
            &self,
            transaction: Bytes,
        ) -> BoxFuture<'_, Result<B256, ExecutionError>> {
            Box::pin(async move {
                let hash = keccak256(&transaction);
                self.0.lock().expect("no panic").push(transaction);
                Ok(hash)
            })
        }

        fn pending_transactions(
            &self,
            limit: usize,
        ) -> BoxFuture<'_, Result<Vec<Bytes>, ExecutionError>> {
            Box::pin(async move {
                let pool = self.0.lock().expect("no panic");
                Ok(pool.iter().take(limit).cloned().collect())
            })
        }

        fn exchange_capabilities(&self) -> BoxFuture<'_, Result<Capabilities, ExecutionError>> {
            unreachable!()
        }

        fn forkchoice_updated(
            &self,
            _: ForkchoiceState,
            _: Option<PayloadAttributes>,
        ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>> {
            unreachable!()
        }

        fn begin_empty_payload(
            &self,
            _: ForkchoiceState,
            _: PayloadAttributes,
        ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>> {
            unreachable!()
        }

        fn get_payload(
            &self,
            _: PayloadFork,
            _: PayloadId,
        ) -> BoxFuture<'_, Result<BuiltPayload, ExecutionError>> {
            unreachable!()
        }

        fn new_payload(
            &self,
            _: ExecutionPayload,
            _: B256,
        ) -> BoxFuture<'_, Result<PayloadStatus, ExecutionError>> {
            unreachable!()
        }

        fn block_by_hash(
            &self,
            _: B256,
        ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>> {
            unreachable!()
        }

        fn block_by_tag(
            &self,
            _: BlockTag,
        ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>> {
            unreachable!()
        }

        fn receipts(
            &self,
            _: B256,
        ) -> BoxFuture<'_, Result<Option<Vec<ReceiptEnvelope>>, ExecutionError>> {
            unreachable!()
        }

        fn chain_id(&self) -> BoxFuture<'_, Result<u64, ExecutionError>> {
            unreachable!()
        }

        fn client_version(&self) -> BoxFuture<'_, Result<String, ExecutionError>> {
            unreachable!()
        }
    }

    fn published(message: Option<NetworkMessage>) -> Vec<Vec<u8>> {
        let Some(NetworkMessage::Command(command)) = message else {
            panic!("a command")
        };
        let Command::Publish { topic, payload } = *command else {
            panic!("a broadcast")
        };
        assert_eq!(topic, Topic::Transactions);
        Transactions::decode(&payload).expect("canonical").0
    }

    /// Thousands of messages of a stranger, of one transaction each, leave as a few batches.
    #[test]
    fn received_transactions_leave_in_batches_of_the_own_pool() {
        const RECEIVED: u64 = 3000;
        alys_runtime::block_on_main(async {
            let client = Arc::new(Pool::default());
            let (network, mut probe) = Probe::new(16);
            let mut pool = TxPoolActor::new(client, network, Metrics::default());
            for nonce in 0..RECEIVED {
                let message = Transactions(vec![transfer(nonce)]);
                let verdict = pool.receive(&message.encode(), time::now()).await;
                assert_eq!(verdict, GossipVerdict::Ignore, "not forwarded");
            }
            pool.poll(time::now()).await;
            pool.poll(time::now()).await;
            let mut messages = Vec::new();
            while let Some(message) = probe.now() {
                messages.push(published(Some(message)));
            }
            assert_eq!(messages.len(), 2, "batches of {MAX_RECEIVED} at most");
            let sent = messages.into_iter().flatten().collect::<Vec<_>>();
            assert_eq!(sent, (0..RECEIVED).map(transfer).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_large_pool_leaves_within_the_budget_of_each_read() {
        alys_runtime::block_on_main(async {
            let client = Pool::default();
            let large = |mark: u8| Bytes::from(vec![mark; 300 * 1024]);
            *client.0.lock().expect("no panic") = (0..5).map(large).collect();
            let (network, mut probe) = Probe::new(16);
            let mut pool = TxPoolActor::new(Arc::new(client), network, Metrics::default());
            let mut reads = Vec::new();
            for _ in 0..4 {
                pool.poll(time::now()).await;
                let mut messages = 0;
                while let Some(message) = probe.now() {
                    messages += published(Some(message)).len();
                }
                reads.push(messages);
            }
            assert_eq!(reads, [2, 2, 1, 0], "one of this size in a message");
        });
    }

    #[test]
    fn the_queue_of_received_transactions_is_bounded_in_bytes() {
        let closed_port = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = HttpEngine::with_config(ClientConfig::new(closed_port));
        let (network, _probe) = Probe::new(4);
        let mut pool = TxPoolActor::new(Arc::new(client), network, Metrics::default());
        pool.queued_bytes = MAX_QUEUED_BYTES;
        alys_runtime::block_on_main(async move {
            let message = Transactions(vec![transfer(1)]).encode();
            pool.receive(&message, time::now()).await;
            assert!(pool.queue.is_empty() && pool.received.set.is_empty());
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
    fn the_set_of_known_transactions_is_bounded() {
        let now = time::now();
        let hash = |i: u64| keccak256(i.to_le_bytes());
        let mut known = Known::default();
        for i in 0..(MAX_KNOWN as u64 + 10) {
            known.note(hash(i), now);
        }
        assert_eq!(known.set.len(), MAX_KNOWN);
        assert_eq!(known.noted(&hash(0)), None, "the oldest is evicted");
    }

    #[test]
    fn a_transaction_that_is_noted_again_is_the_youngest() {
        let now = time::now();
        let hash = |i: u64| keccak256(i.to_le_bytes());
        let mut known = Known::default();
        for i in 0..MAX_KNOWN as u64 {
            known.note(hash(i), now);
        }
        known.remove(&hash(0));
        known.remove(&hash(u64::MAX));
        assert_eq!(known.order.len(), MAX_KNOWN - 1);
        let later = now + Duration::from_secs(1);
        known.note(hash(0), later);
        known.note(hash(1), later);
        known.note(hash(u64::MAX), later);
        for kept in [0, 1, u64::MAX] {
            assert_eq!(known.noted(&hash(kept)), Some(later));
        }
        assert_eq!(known.noted(&hash(2)), None);
        let order: Vec<_> = known.order.values().copied().collect();
        let set: Vec<_> = order.iter().filter(|h| known.noted(h).is_some()).collect();
        assert_eq!((order.len(), set.len()), (MAX_KNOWN, MAX_KNOWN));
    }

    /// A broadcast may reach no peer, and this node may never lead.
    #[test]
    fn transactions_that_stay_in_the_pool_are_broadcast_again() {
        alys_runtime::block_on_main(async {
            let client = Pool::default();
            let all = [transfer(1), transfer(2)];
            *client.0.lock().expect("no panic") = all.iter().cloned().map(Bytes::from).collect();
            let (network, mut probe) = Probe::new(16);
            let mut pool = TxPoolActor::new(Arc::new(client), network, Metrics::default());
            let start = time::now();
            let mut sent = Vec::new();
            for seconds in 0..60 {
                pool.poll(start + Duration::from_secs(seconds)).await;
                while let Some(message) = probe.now() {
                    assert_eq!(published(Some(message)), all);
                    sent.push(seconds);
                }
            }
            assert_eq!(sent, [0, 20, 40]);
        });
    }

    #[test]
    fn a_broadcast_without_room_is_not_counted() {
        alys_runtime::block_on_main(async {
            let client = Pool::default();
            *client.0.lock().expect("no panic") = vec![Bytes::from(transfer(1))];
            let (network, mut probe) = Probe::new(1);
            let busy = Command::Publish {
                topic: Topic::Blocks,
                payload: Vec::new(),
            };
            let busy = NetworkMessage::Command(Box::new(busy));
            assert!(network.tell(busy).is_ok());
            let mut pool = TxPoolActor::new(Arc::new(client), network, Metrics::default());
            pool.poll(time::now()).await;
            assert!(probe.now().is_some() && probe.now().is_none());
            pool.poll(time::now()).await;
            assert_eq!(published(probe.now()), [transfer(1)]);
        });
    }

    #[test]
    fn a_repeated_transaction_reaches_a_client_that_lost_its_pool() {
        alys_runtime::block_on_main(async {
            let client = Arc::new(Pool::default());
            let (network, _probe) = Probe::new(16);
            let mut pool = TxPoolActor::new(client.clone(), network, Metrics::default());
            let message = Transactions(vec![transfer(1)]).encode();
            let start = time::now();
            let mut submitted = Vec::new();
            for seconds in [0, 1, 14, 20, 21] {
                pool.receive(&message, start + Duration::from_secs(seconds))
                    .await;
                let lost = std::mem::take(&mut *client.0.lock().expect("no panic"));
                submitted.push(lost.len());
            }
            assert_eq!(submitted, [1, 0, 0, 1, 0]);
        });
    }
}
