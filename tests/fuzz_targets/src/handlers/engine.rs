//! The EngineActor with the HTTP client of production, and an execution client that answers
//! anything: right answers, other statuses, errors, other JSON, too late. Each question of the
//! chain is answered exactly once, in order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_actor_system::Addr;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_consensus::PayloadRequest;
use alys_integrations::execution::HttpEngine;
use alys_integrations::http::{ClientConfig, HttpServer, RpcError, RpcHandler, ServerConfig};
use alys_node::actors::chain::ChainMessage;
use alys_node::actors::engine::{EngineActor, EngineMessage, EngineTimeouts, Metrics};
use alys_node::actors::peers::PeerMessage;
use alys_node::actors::storage;
use alys_runtime::time::sleep;
use alys_types::spec::{prev_randao, vault_address};
use alys_types::{Block, Hash, Slot};
use serde_json::{Value, json};

use super::{LOCAL, MAX_STEPS, StoredBlocks, end};
use crate::choices::Choices;
use crate::federation::{Federation, SLOT_MS};
use crate::in_world;

/// Deadline of a call, as production has it for slots of [`SLOT_MS`] or more.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest delay of the client's answers: beyond the deadline of a call.
const MAX_DELAY_MS: u64 = 3_000;
/// Blocks that the storage has, a chain on genesis.
const STORED: u64 = 6;
const FIRST_SLOT: Slot = Slot(850_000_000);

pub fn run(data: &[u8]) {
    let data = data.to_vec();
    in_world(async move {
        let mut choices = Choices::new(&data);
        let mut engine = Engine::start().await;
        for _ in 0..MAX_STEPS {
            if choices.is_over() {
                break;
            }
            engine.script(&mut choices);
            engine.ask(&mut choices).await;
        }
        end(engine.test, &["engine", "storage"]).await;
        engine.server.stop().await;
    });
}

/// The answers of the client to the calls of one question, the last one first.
type Script = Arc<Mutex<Vec<Answer>>>;

#[derive(Debug)]
enum Answer {
    /// As the specification has it, with this status.
    Status(&'static str),
    Refused(i64),
    Json(Value),
    /// As the first, after a delay.
    Late(u64),
}

/// The client.
struct Client(Script);

impl RpcHandler for Client {
    async fn handle(&self, method: &str, _: Value) -> Result<Value, RpcError> {
        let next = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or(Answer::Status("VALID"));
        match next {
            Answer::Status(status) => Ok(answer(method, status)),
            Answer::Refused(code) => Err(RpcError::new(code, "refused")),
            Answer::Json(value) => Ok(value),
            Answer::Late(delay_ms) => {
                sleep(Duration::from_millis(delay_ms)).await;
                Ok(answer(method, "VALID"))
            }
        }
    }
}

/// A well-formed answer.
fn answer(method: &str, status: &str) -> Value {
    let zero = Hash::ZERO.to_string();
    let payload_status = json!({
        "status": status, "latestValidHash": null, "validationError": null,
    });
    if method.starts_with("engine_newPayload") {
        payload_status
    } else if method.starts_with("engine_forkchoiceUpdated") {
        json!({ "payloadStatus": payload_status, "payloadId": "0x0000000000000001" })
    } else if method.starts_with("engine_getPayload") {
        json!({
            "executionPayload": {
                "parentHash": zero, "feeRecipient": format!("0x{}", "00".repeat(20)),
                "stateRoot": zero, "receiptsRoot": zero,
                "logsBloom": format!("0x{}", "00".repeat(256)), "prevRandao": zero,
                "blockNumber": "0x1", "gasLimit": "0x1c9c380", "gasUsed": "0x0",
                "timestamp": "0x1", "extraData": "0x", "baseFeePerGas": "0x7",
                "blockHash": zero, "transactions": [], "withdrawals": [],
            },
            "blockValue": "0x0",
        })
    } else {
        json!({
            "hash": Hash([9; 32]).to_string(), "parentHash": zero, "number": "0x0",
            "timestamp": "0x0", "stateRoot": zero,
        })
    }
}

struct Engine {
    test: TestSystem,
    server: HttpServer,
    script: Script,
    actor: Addr<EngineMessage>,
    chain: Probe<ChainMessage>,
    peers: Probe<PeerMessage>,
    blocks: Vec<Arc<Block>>,
}

impl Engine {
    async fn start() -> Engine {
        let test = TestSystem::new();
        let script = Script::default();
        let server = HttpServer::bind(
            LOCAL,
            ServerConfig::new("fuzzed"),
            Arc::new(Client(script.clone())),
        );
        let server = server.await.expect("a port is free");
        let mut federation = Federation::new(FIRST_SLOT);
        let mut nothing = Choices::new(&[]);
        let mut blocks = Vec::new();
        for above in 1..=STORED {
            let block = federation.make(&mut nothing, FIRST_SLOT.saturating_add(above));
            let kind = alys_types::VoteKind::Approval;
            federation.certificate(kind, &block.header, 0);
            blocks.push(Arc::new(block));
        }
        let stored: BTreeMap<Hash, Arc<Block>> = blocks
            .iter()
            .map(|block| (block.header.hash(), block.clone()))
            .collect();
        let storage = test.start("storage", 64, move || {
            let stored = StoredBlocks(stored.clone());
            async move { Ok::<_, Infallible>(stored) }
        });
        let (chain, chain_probe) = Probe::new(1024);
        let (peers, peers_probe) = Probe::new(1024);
        let genesis = federation.genesis().clone();
        let addr = server.local_addr();
        let actor = test.start("engine", 64, move || {
            let client = HttpEngine::with_config(ClientConfig {
                deadline: CALL_TIMEOUT,
                ..ClientConfig::new(addr)
            });
            let actor = EngineActor::new(
                Arc::new(client),
                genesis.clone(),
                None,
                EngineTimeouts::new(CALL_TIMEOUT),
                chain.clone(),
                storage::Handle(storage.clone()),
                peers.clone(),
                Metrics::default(),
            );
            async move { Ok::<_, Infallible>(actor) }
        });
        Engine {
            test,
            server,
            script,
            actor,
            chain: chain_probe,
            peers: peers_probe,
            blocks,
        }
    }

    /// Writes the answers to the calls of the next question.
    fn script(&mut self, choices: &mut Choices<'_>) {
        let count = choices.below(5);
        let answers = (0..count).map(|_| match choices.byte() % 8 {
            0..=2 => Answer::Status("VALID"),
            3 => Answer::Status("SYNCING"),
            4 => {
                let statuses = ["INVALID", "ACCEPTED", "INVALID_BLOCK_HASH", ""];
                Answer::Status(choices.pick(&statuses).copied().unwrap_or_default())
            }
            5 => {
                let codes = [-38001, -38002, -38003, -32000, -32603, -32601];
                Answer::Refused(choices.pick(&codes).copied().unwrap_or_default())
            }
            6 => Answer::Json(choices.json()),
            _ => Answer::Late(choices.number() % MAX_DELAY_MS),
        });
        let answers = answers.collect();
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    /// Sends a question, and waits for its one answer.
    async fn ask(&mut self, choices: &mut Choices<'_>) {
        let block = choices.pick(&self.blocks).cloned();
        let block = block.expect("the chain has blocks");
        let known = block.header.hash();
        match choices.byte() % 7 {
            6 => {
                let hash = match choices.byte() {
                    0xe0.. => Hash(choices.array()),
                    0..0xe0 => known,
                };
                let block = (choices.flag() && hash == known).then_some(block);
                self.tell(EngineMessage::Account { hash, block });
                self.expect_one(|message| {
                    matches!(message, ChainMessage::Accounted { hash: found, .. } if *found == hash)
                })
                .await;
                while self.peers.now().is_some() {}
            }
            0..=2 => {
                let hash = match choices.byte() {
                    0xf0.. => Hash(choices.array()),
                    0xe0..0xf0 => block.header.genesis_hash,
                    0..0xe0 => known,
                };
                let block = (choices.flag() && hash == known).then_some(block);
                self.tell(EngineMessage::Execute { hash, block });
                self.expect_one(|message| {
                    matches!(message, ChainMessage::Executed { hash: found, .. } if *found == hash)
                })
                .await;
            }
            3 | 4 => {
                let slot = block.header.slot.next();
                self.tell(EngineMessage::Build(PayloadRequest {
                    parent: known,
                    parent_execution: block.header.execution_hash,
                    slot,
                    timestamp: slot.timestamp(SLOT_MS),
                    prev_randao: prev_randao(&known, slot),
                    fee_recipient: vault_address(),
                    withdrawals: Vec::new(),
                    is_empty: choices.flag(),
                }));
                self.expect_one(|message| match message {
                    ChainMessage::Built {
                        slot: of, parent, ..
                    }
                    | ChainMessage::BuildFailed { slot: of, parent } => {
                        *of == slot && *parent == known
                    }
                    _ => false,
                })
                .await;
            }
            _ => {
                let finalized = block.header.genesis_hash;
                self.tell(EngineMessage::Forkchoice {
                    head: block.header.execution_hash,
                    safe: block.header.execution_hash,
                    finalized,
                });
            }
        }
    }

    fn tell(&self, message: EngineMessage) {
        assert!(self.actor.tell(message).is_ok(), "the mailbox is full");
    }

    /// Waits for the answer. Before it, the actor may report that the client was away, and nothing
    /// else.
    async fn expect_one(&mut self, is_answer: impl Fn(&ChainMessage) -> bool) {
        loop {
            let message = self.chain.next().await.expect("an answer to each question");
            match message {
                ChainMessage::ExecutionRestarted | ChainMessage::NotStored { .. } => {}
                message if is_answer(&message) => return,
                message => panic!(
                    "{} is no answer",
                    alys_actor_system::Message::kind(&message)
                ),
            }
        }
    }
}
