//! The actor before an execution client that follows a script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{
    Receipt, ReceiptEnvelope, SignableTransaction, TxEnvelope, TxLegacy, TxType,
};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Signature, TxKind, U256};
use alys_actor_system::Addr;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_consensus::{PayloadRequest, Verdict};
use alys_integrations::execution::{HttpEngine, to_wire, withdrawals_to_wire};
use alys_integrations::http::{ClientConfig, HttpServer, RpcError, RpcHandler, ServerConfig};
use alys_peg::Additions;
use alys_runtime::time::sleep;
use alys_types::wire::BlockReceipts;
use alys_types::{Address, Body, ExecutionPayload, Hash, Header, Slot, Withdrawal};
use serde_json::{Value, json};

use super::*;
use crate::actors::chain::ChainMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage::{self, StorageMessage};
use crate::actors::testbed::genesis;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Longer than the actor waits.
const LATE: Duration = Duration::from_secs(30);

/// The withdrawal that every build asks for.
const FEE: Withdrawal = Withdrawal {
    index: 7,
    validator_index: 0,
    address: Address([8; 20]),
    amount_gwei: 9,
};

/// An answer to a fork choice.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Status(&'static str),
    Refused(i64),
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    heads: Vec<Value>,
    /// The client does not follow this head.
    unknown_head: Option<Value>,
    /// The client answers to this head after [`LATE`].
    late_head: Option<Value>,
    /// The client does not know the attribute `noTxPool`.
    fills_all: bool,
    /// The payload that was begun last is to have transactions.
    is_filled: bool,
    /// The withdrawals of the payload that was begun last.
    withdrawals: Value,
    /// The answer to a question for the receipts of a block.
    receipts: Value,
    /// Questions for receipts.
    receipts_asked: usize,
}

/// Answers fork choices by the script, then with VALID; builds payloads of one transaction; refuses
/// all payloads as of another fork.
#[derive(Clone, Default)]
struct Client(Arc<Mutex<Script>>);

impl RpcHandler for Client {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        if method.starts_with("engine_newPayload") {
            return Err(RpcError::new(-38005, "Unsupported fork"));
        }
        let head = params[0]["headBlockHash"].clone();
        if head.is_string() && self.lock().late_head.as_ref() == Some(&head) {
            self.lock().heads.push(head);
            sleep(LATE).await;
            return Ok(json!({ "payloadStatus": { "status": "VALID" } }));
        }
        let mut script = self.lock();
        if method.starts_with("engine_getPayload") {
            let mut payload = payload();
            if script.is_filled {
                payload.transactions.push(vec![2, 0xc0]);
            }
            return Ok(json!({ "executionPayload": to_wire(&payload), "blockValue": "0x0" }));
        }
        if method == "eth_getBlockReceipts" {
            script.receipts_asked += 1;
            return Ok(script.receipts.clone());
        }
        if method == "eth_getBlockByHash" {
            return Ok(json!({ "transactions": [Hash([7; 32]).to_string()] }));
        }
        if !method.starts_with("engine_forkchoiceUpdated") {
            return Err(RpcError::method_not_found(method));
        }
        if params[1].is_object() {
            script.is_filled = script.fills_all || params[1]["noTxPool"] != true;
            script.withdrawals = params[1]["withdrawals"].clone();
            let status = json!({ "status": "VALID" });
            return Ok(json!({ "payloadStatus": status, "payloadId": "0x0000000000000001" }));
        }
        script.heads.push(head);
        if script.unknown_head.as_ref() == script.heads.last() {
            return Ok(json!({ "payloadStatus": { "status": "SYNCING" } }));
        }
        match script.answers.pop_front() {
            Some(Answer::Refused(code)) => Err(RpcError::new(code, "Invalid forkchoice state")),
            Some(Answer::Status(status)) => Ok(json!({ "payloadStatus": { "status": status } })),
            None => Ok(json!({ "payloadStatus": { "status": "VALID" } })),
        }
    }
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("no panic")
    }

    fn heads(&self) -> usize {
        self.lock().heads.len()
    }
}

/// A payload without the blob fields of Deneb.
pub(super) fn payload() -> ExecutionPayload {
    ExecutionPayload {
        parent_hash: Hash([9; 32]),
        fee_recipient: Address([1; 20]),
        state_root: Hash([2; 32]),
        receipts_root: Hash([3; 32]),
        logs_bloom: [0; 256],
        prev_randao: Hash([4; 32]),
        block_number: 1,
        gas_limit: 30_000_000,
        gas_used: 0,
        timestamp: 1,
        extra_data: Vec::new(),
        base_fee_per_gas: [0; 32],
        block_hash: Hash([6; 32]),
        transactions: Vec::new(),
        withdrawals: Vec::new(),
        blob_gas: None,
    }
}

/// The actor between the client and a probe in place of the chain. The storage is never asked.
struct Engine {
    client: Client,
    actor: Addr<EngineMessage>,
    chain: Probe<ChainMessage>,
    peers: Probe<PeerMessage>,
    metrics: Metrics,
    _server: HttpServer,
    _test: TestSystem,
    _storage: Probe<StorageMessage>,
}

impl Engine {
    async fn start(answers: &[Answer]) -> Engine {
        let client = Client::default();
        client.0.lock().expect("no panic").answers = answers.iter().copied().collect();
        let config = ServerConfig::new("script");
        let server = HttpServer::bind(LOCAL, config, Arc::new(client.clone())).await;
        let server = server.expect("a free port");
        let addr = server.local_addr();
        let test = TestSystem::new();
        let (chain, chain_probe) = Probe::new(1_024);
        let (storage, storage_probe) = Probe::new(16);
        let (peers, peers_probe) = Probe::new(1_024);
        let metrics = Metrics::default();
        let of_actor = metrics.clone();
        let actor = test.start("engine", 64, move || {
            let actor = EngineActor::new(
                Arc::new(HttpEngine::with_config(ClientConfig::new(addr))),
                genesis(1, 2_000),
                None,
                EngineTimeouts::new(Duration::from_secs(2)),
                chain.clone(),
                storage::Handle(storage.clone()),
                peers.clone(),
                of_actor.clone(),
            );
            async move { Ok::<_, Infallible>(actor) }
        });
        Engine {
            client,
            actor,
            chain: chain_probe,
            peers: peers_probe,
            metrics,
            _server: server,
            _test: test,
            _storage: storage_probe,
        }
    }

    async fn set_head(&self, head: u8) {
        let update = EngineMessage::Forkchoice {
            head: Hash([head; 32]),
            safe: Hash([1; 32]),
            finalized: Hash([9; 32]),
        };
        assert!(self.actor.send(update).await.is_ok(), "the actor runs");
    }

    /// Waits until the client got this number of fork choices.
    async fn until(&self, heads: usize) {
        let reached = async {
            while self.client.heads() < heads {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = alys_runtime::time::timeout(Duration::from_secs(20), reached).await;
        reached.expect("the fork choice is sent again");
    }

    /// Waits until the client got a fork choice with this head.
    async fn until_head(&self, head: &Value) {
        let reached = async {
            while !self.client.lock().heads.contains(head) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = alys_runtime::time::timeout(Duration::from_secs(20), reached).await;
        reached.expect("the fork choice is sent");
    }

    /// The number of transactions in the payload that the actor builds.
    async fn build(&mut self, is_empty: bool) -> usize {
        let request = PayloadRequest {
            parent: Hash([7; 32]),
            parent_execution: Hash([9; 32]),
            slot: Slot(1),
            timestamp: 1,
            prev_randao: Hash([4; 32]),
            fee_recipient: Address([1; 20]),
            withdrawals: vec![FEE],
            is_empty,
        };
        // The simulator lets some builds fail.
        for _ in 0..20 {
            let build = EngineMessage::Build(request.clone());
            assert!(self.actor.send(build).await.is_ok(), "the actor runs");
            let answer = self.chain.next_timeout(Duration::from_secs(20)).await;
            if let Some(ChainMessage::Built { payload, .. }) = answer {
                return payload.transactions.len();
            }
        }
        panic!("no payload is built")
    }

    /// The answer to a question for the additions of a block. The simulator loses some answers.
    async fn account(&mut self, block: &Arc<Block>) -> Option<Additions> {
        let hash = block.header.hash();
        for _ in 0..20 {
            let block = Some(block.clone());
            let account = EngineMessage::Account { hash, block };
            assert!(self.actor.send(account).await.is_ok(), "the actor runs");
            let answer = self.chain.next_timeout(Duration::from_secs(20)).await;
            let Some(ChainMessage::Accounted {
                hash: of,
                additions,
            }) = answer
            else {
                panic!("no answer");
            };
            assert_eq!(of, hash);
            if additions.is_some() {
                return additions;
            }
            // Peers are asked after a while.
            sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// The number of requests to execute all open blocks again.
    fn restarts(&mut self) -> usize {
        let messages = std::iter::from_fn(|| self.chain.now());
        messages
            .filter(|message| matches!(message, ChainMessage::ExecutionRestarted))
            .count()
    }
}

#[test]
fn a_refused_fork_choice_is_sent_again_until_the_client_follows() {
    alys_runtime::block_on_main(async {
        let mut engine = Engine::start(&[
            Answer::Refused(-38002),
            Answer::Refused(-32000),
            Answer::Status("SYNCING"),
        ])
        .await;
        engine.set_head(2).await;
        engine.until(4).await;
        let heads = engine.client.0.lock().expect("no panic").heads.clone();
        // A duplicate of the simulator may add calls.
        assert!(heads.iter().all(|head| *head == heads[0]), "{heads:?}");
        let restarts = engine.restarts();
        assert!((1..=3).contains(&restarts), "{restarts}");
    });
}

/// The client may have carried out the later one, whose answer is lost.
#[test]
fn a_fork_choice_that_timed_out_is_not_followed_by_an_earlier_one() {
    alys_runtime::block_on_main(async {
        let engine = Engine::start(&[]).await;
        let of = |head: u8| json!(Hash([head; 32]).to_string());
        {
            let mut script = engine.client.lock();
            script.unknown_head = Some(of(2));
            script.late_head = Some(of(3));
        }
        engine.set_head(2).await;
        engine.set_head(3).await;
        engine.until_head(&of(3)).await;
        let timed_out = async {
            while engine.metrics.reachable.get() != 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let timed_out = alys_runtime::time::timeout(Duration::from_secs(20), timed_out).await;
        timed_out.expect("the call times out");
        // The scheduled attempt is in the mailbox already.
        engine.set_head(4).await;
        engine.until_head(&of(4)).await;
        let heads = engine.client.lock().heads.clone();
        let late = heads.iter().position(|head| *head == of(3));
        let late = late.expect("it was sent");
        assert!(!heads[late..].contains(&of(2)), "{heads:?}");
    });
}

/// A client that never follows must not make the chain execute all its open blocks in a loop.
#[test]
fn a_client_that_does_not_follow_costs_a_bounded_number_of_repetitions() {
    alys_runtime::block_on_main(async {
        let mut engine = Engine::start(&[Answer::Status("SYNCING"); 40]).await;
        for _ in 0..20 {
            engine.set_head(2).await;
        }
        engine.until(20).await;
        let restarts = engine.restarts();
        assert!((1..=12).contains(&restarts), "{restarts} of 20");
    });
}

/// A Byzantine leader can build a payload without the fields of the fork. It is invalid, and not
/// executed again as if the client had not answered.
#[test]
fn a_payload_of_another_fork_is_invalid() {
    alys_runtime::block_on_main(async {
        let mut engine = Engine::start(&[]).await;
        let block = Arc::new(Block {
            header: genesis(1, 2_000).header().clone(),
            body: Body::of(payload()),
        });
        let hash = Hash([5; 32]);
        let execute = EngineMessage::Execute {
            hash,
            block: Some(block),
        };
        assert!(engine.actor.send(execute).await.is_ok(), "the actor runs");
        let answer = engine.chain.next_timeout(Duration::from_secs(20)).await;
        let Some(ChainMessage::Executed { hash: of, verdict }) = answer else {
            panic!("no verdict");
        };
        assert_eq!((of, verdict), (hash, Verdict::Invalid));
    });
}

/// Rule 6.5 requires an empty payload, and third-party clients do not know the request for one.
#[test]
fn a_client_that_fills_an_empty_payload_is_named_and_its_payload_proposed() {
    alys_runtime::block_on_main(async {
        for (is_empty, fills_all, transactions, named) in [
            (false, false, 1, 0),
            (true, false, 0, 0),
            (false, true, 1, 0),
            (true, true, 1, 1),
        ] {
            let mut engine = Engine::start(&[]).await;
            engine.client.0.lock().expect("no panic").fills_all = fills_all;
            let built = engine.build(is_empty).await;
            let asked = engine.client.lock().withdrawals.clone();
            assert_eq!(asked, json!(withdrawals_to_wire(&[FEE])));
            let counted = engine.metrics.filled_payloads.get();
            assert_eq!(
                (built, counted),
                (transactions, named),
                "{is_empty} {fills_all}"
            );
        }
    });
}

/// A block with one transaction of 21,000 gas at 5 wei, of which `base_fee` is burned, or with
/// none.
fn accounted(has_transaction: bool, receipts: &[ReceiptEnvelope], base_fee: u8) -> Arc<Block> {
    let transaction = TxLegacy {
        gas_price: 5,
        gas_limit: 21_000,
        to: TxKind::Call(alloy_primitives::Address::ZERO),
        ..TxLegacy::default()
    };
    let signature = Signature::new(U256::from(1), U256::from(2), false);
    let transaction = TxEnvelope::from(transaction.into_signed(signature));
    let mut payload = payload();
    payload.base_fee_per_gas[31] = base_fee;
    payload.receipts_root = calculate_receipt_root(receipts).into();
    if has_transaction {
        payload.gas_used = 21_000;
        payload.transactions.push(transaction.encoded_2718());
    }
    let header = Header {
        execution_hash: payload.block_hash,
        ..genesis(1, 2_000).header().clone()
    };
    Arc::new(Block {
        header,
        body: Body::of(payload),
    })
}

/// Rule 5.4 (docs/protocol.md): receipts count under the receipts root of the block only. A client
/// without them leaves the ledger unknown; V1 computed other fees then (S15).
#[test]
fn additions_come_from_receipts_under_the_root_of_the_block() {
    let receipt = Receipt {
        status: true.into(),
        cumulative_gas_used: 21_000,
        logs: Vec::new(),
    };
    let right = [ReceiptEnvelope::from_typed(TxType::Legacy, receipt)];
    let wire = |gas: &str| json!([{ "status": "0x1", "cumulativeGasUsed": gas, "logs": [] }]);
    let full = accounted(true, &right, 2);
    let no_receipts = accounted(true, &[], 2);
    let tips = |wei: u64| {
        Some(Additions {
            tips: U256::from(wei),
        })
    };
    // (block, the client's answer, additions, asks the client, missing, wrong)
    let table = [
        (
            accounted(false, &[], 2),
            json!(null),
            tips(0),
            false,
            false,
            false,
        ),
        (
            accounted(false, &right, 2),
            json!(null),
            None,
            false,
            false,
            true,
        ),
        (
            full.clone(),
            wire("0x5208"),
            tips(63_000),
            true,
            false,
            false,
        ),
        (full.clone(), json!(null), None, true, true, false),
        // EthereumJS has lost them.
        (full.clone(), json!([]), None, true, true, false),
        (full.clone(), wire("0x5209"), None, true, false, true),
        (full, json!("receipts"), None, true, true, false),
        (no_receipts, wire("0x5208"), None, true, false, true),
    ];
    alys_runtime::block_on_main(async move {
        for (row, (block, answer, expected, asks, missing, wrong)) in table.into_iter().enumerate()
        {
            let mut engine = Engine::start(&[]).await;
            engine.client.lock().receipts = answer;
            assert_eq!(engine.account(&block).await, expected, "row {row}");
            let asked = engine.client.lock().receipts_asked > 0;
            let counted = engine.metrics.wrong_receipts.get() > 0;
            assert_eq!((asked, counted), (asks, wrong), "row {row}");
            // The simulator loses some receipts.
            let counted = engine.metrics.missing_receipts.get() > 0;
            assert!(counted || !missing, "row {row}");
            let fetch = std::iter::from_fn(|| engine.peers.now()).next();
            assert!(fetch.is_some() || expected.is_some(), "row {row}");
            let (block, root) = (block.header.hash(), block.body.payload.receipts_root);
            assert!(
                fetch.is_none_or(|fetch| matches!(
                    fetch,
                    PeerMessage::FetchReceipts { hash, root: of } if (hash, of) == (block, root)
                )),
                "row {row}"
            );
        }
    });
}

/// EthereumJS loses receipts when it is killed, and never makes them again.
#[test]
fn receipts_that_the_client_lost_are_those_of_a_peer() {
    let receipt = Receipt {
        status: true.into(),
        cumulative_gas_used: 21_000,
        logs: Vec::new(),
    };
    let right = vec![ReceiptEnvelope::from_typed(TxType::Legacy, receipt)];
    let block = accounted(true, &right, 2);
    let hash = block.header.hash();
    alys_runtime::block_on_main(async move {
        for (receipts, tips) in [(right, Some(63_000)), (Vec::new(), None)] {
            let mut engine = Engine::start(&[]).await;
            engine.client.lock().receipts = json!([]);
            let received = EngineMessage::ReceiptsReceived { hash, receipts };
            assert!(engine.actor.send(received).await.is_ok(), "the actor runs");
            let found = engine.account(&block).await;
            assert_eq!(found.map(|found| found.tips), tips.map(U256::from::<u64>));
        }
    });
}

#[test]
fn a_peer_gets_the_receipts_of_the_client_beside_other_questions() {
    alys_runtime::block_on_main(async {
        let engine = Engine::start(&[]).await;
        let right = accounted(true, &[], 2);
        let reads = PeerReceipts::new(engine.actor.clone());
        engine.client.lock().receipts = json!([]);
        let found = reads.of_block(&right, true).await.expect("an answer");
        assert_eq!(found, None, "the client lost them");
        let wire = json!([{ "status": "0x1", "cumulativeGasUsed": "0x5208", "logs": [] }]);
        engine.client.lock().receipts = wire;
        let found = reads.of_block(&right, true).await.expect("an answer");
        assert_eq!(found, None, "they are not those of the block");
        let receipt = Receipt {
            status: true.into(),
            cumulative_gas_used: 21_000,
            logs: Vec::new(),
        };
        let receipt = ReceiptEnvelope::from_typed(TxType::Legacy, receipt);
        let right = accounted(true, std::slice::from_ref(&receipt), 2);
        let found = reads.of_block(&right, false).await.expect("an answer");
        assert_eq!(found, Some(BlockReceipts(vec![receipt.encoded_2718()])));
    });
}
