//! A consensus node and its execution client on two simulated machines, with production's storage
//! and protocols: crashes, power losses, partitions, wrong clocks, and deterministic replay.
#![cfg(madsim)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use alloy_rpc_types_engine::{ExecutionPayload, ForkchoiceState, PayloadAttributes};
use alys_integrations::embedded::execution::CoreConfig;
use alys_integrations::embedded::{ExecutionServer, ExecutionServerConfig};
use alys_integrations::execution::{
    BlockTag, ExecutionClient, ExecutionError, HttpEngine, PayloadFork,
};
use alys_integrations::http::{ClientConfig, JwtSecret, RpcError};
use alys_runtime::disk::Dir;
use alys_runtime::sim::{Finished, NodeId, Options, World, run, try_run};
use alys_runtime::time::sleep;
use alys_storage::Engine;

const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 8551;

fn secret() -> JwtSecret {
    JwtSecret::new([7; 32])
}

fn genesis() -> alloy_genesis::Genesis {
    serde_json::from_value(serde_json::json!({
        "config": {
            "chainId": 1337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": true, "shanghaiTime": 0, "cancunTime": 0,
        },
        "difficulty": "0x0", "gasLimit": "0x1c9c380", "nonce": "0x0", "timestamp": "0x0",
        "alloc": {},
    }))
    .expect("the genesis is well-formed")
}

/// The execution client's process.
async fn client() {
    // A power loss while the store opens ends the process.
    let Ok(dir) = Dir::open("/data/execution") else {
        return;
    };
    let Ok(store) = alys_storage::open(Engine::Redb, &dir) else {
        return;
    };
    let config = ExecutionServerConfig {
        http_addr: None,
        engine_addr: SocketAddr::new(CLIENT, PORT),
        jwt_secret: secret(),
        genesis: genesis(),
        access: Default::default(),
        store,
        core: CoreConfig::default(),
        limits: Default::default(),
    };
    let Ok(_server) = ExecutionServer::start(config).await else {
        return;
    };
    std::future::pending().await
}

/// The blocks that the consensus node has decided, with counts of its failed calls.
#[derive(Default)]
struct History {
    /// Payloads with their parent beacon block roots.
    payloads: Vec<(ExecutionPayload, B256)>,
    unreachable: usize,
    refused: usize,
    failed: usize,
}

impl History {
    fn count(&mut self, error: &ExecutionError) {
        match error {
            error if error.is_retryable() => self.unreachable += 1,
            // The client restarted between two calls.
            ExecutionError::UnknownPayload { .. } => self.unreachable += 1,
            ExecutionError::Auth { .. } => self.refused += 1,
            ExecutionError::Rpc { error, .. } if error.code == RpcError::INTERNAL => {
                self.failed += 1
            }
            other => panic!("{other}"),
        }
    }
}

type Shared = Arc<Mutex<History>>;

/// The consensus node's process, which builds a block per second and retries failed calls.
async fn consensus(history: Shared) {
    let config = ClientConfig {
        auth: Some(secret()),
        deadline: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(1),
        ..ClientConfig::new(SocketAddr::new(CLIENT, PORT))
    };
    let engine = HttpEngine::with_config(config);
    loop {
        match one_block(&engine, &history).await {
            Ok(()) => sleep(Duration::from_secs(1)).await,
            Err(error) => {
                history.lock().expect("no panic").count(&error);
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn choice(hash: B256) -> ForkchoiceState {
    ForkchoiceState {
        head_block_hash: hash,
        safe_block_hash: B256::ZERO,
        finalized_block_hash: B256::ZERO,
    }
}

async fn one_block(engine: &HttpEngine, history: &Shared) -> Result<(), ExecutionError> {
    let (known, head) = {
        let history = history.lock().expect("no panic");
        let head = history.payloads.last();
        let head = head.map(|(payload, _)| payload.as_v1().clone());
        (history.payloads.len() as u64, head)
    };
    let (hash, time) = match head {
        Some(head) => (head.block_hash, head.timestamp),
        None => (engine.genesis_hash().await?, 0),
    };
    if engine
        .forkchoice_updated(choice(hash), None)
        .await?
        .is_syncing()
    {
        // The client lost blocks, which are resent from its head on.
        let at = engine
            .block_by_tag(BlockTag::Latest)
            .await?
            .map_or(0, |block| block.number);
        for number in at..known {
            let (payload, root) =
                history.lock().expect("no panic").payloads[number as usize].clone();
            let status = engine.new_payload(payload, root).await?;
            assert!(status.is_valid(), "block {} is {status:?} now", number + 1);
        }
        assert!(
            engine
                .forkchoice_updated(choice(hash), None)
                .await?
                .is_valid()
        );
    }
    let attributes = PayloadAttributes {
        timestamp: time + 1,
        prev_randao: B256::ZERO,
        suggested_fee_recipient: Address::ZERO,
        withdrawals: Some(Vec::new()),
        parent_beacon_block_root: Some(hash),
        ..PayloadAttributes::default()
    };
    let started = engine
        .forkchoice_updated(choice(hash), Some(attributes))
        .await?;
    // The client has just restarted and lost the head again.
    let Some(id) = started.payload_id else {
        return Ok(());
    };
    let payload = engine.get_payload(PayloadFork::Deneb, id).await?.payload;
    let block = payload.as_v1().block_hash;
    let status = engine.new_payload(payload.clone(), hash).await?;
    if status.is_valid() {
        history
            .lock()
            .expect("no panic")
            .payloads
            .push((payload, hash));
        engine.forkchoice_updated(choice(block), None).await?;
    }
    Ok(())
}

fn start(world: World) -> (NodeId, NodeId, Shared) {
    let history = Shared::default();
    let client = world.node("client", CLIENT, client);
    let shared = history.clone();
    let node = world.node("node", NODE, move || consensus(shared.clone()));
    (node, client, history)
}

fn count(history: &Shared) -> usize {
    history.lock().expect("no panic").payloads.len()
}

/// Waits until `blocks` more blocks were built, at most `within` seconds.
async fn progress(history: &Shared, blocks: usize, within: u64) {
    let target = count(history) + blocks;
    for _ in 0..within * 10 {
        if count(history) >= target {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{} blocks after {within} s, not {target}", count(history));
}

/// Checks that the client has every block that the node decided.
async fn agree(world: World, node: NodeId, history: Shared) {
    let checked = world.spawn_on(node, "check", async move {
        let engine = HttpEngine::new(SocketAddr::new(CLIENT, PORT), secret());
        let payloads = history.lock().expect("no panic").payloads.clone();
        for (payload, _) in &payloads[..payloads.len() - 1] {
            let payload = payload.as_v1();
            let found = engine
                .block_by_tag(BlockTag::Number(payload.block_number))
                .await
                .expect("it answers");
            assert_eq!(found.map(|block| block.hash), Some(payload.block_hash));
        }
    });
    checked.await.expect("the check ran to its end");
}

#[test]
fn a_client_recovers_from_crashes_and_partitions() {
    for seed in 1..=5 {
        run(Options::new(seed), |world| async move {
            let (node, client, history) = start(world);
            progress(&history, 3, 10).await;
            let mut random = world.rng("faults");
            for _ in 0..12 {
                match random.below(5) {
                    0 => _ = world.kill(client),
                    1 | 2 => _ = world.power_off(client),
                    3 => world.partition(NODE, CLIENT),
                    _ => world.block(CLIENT, NODE, alys_runtime::sim::Block::Cut),
                }
                sleep(Duration::from_millis(100 + random.below(4_000))).await;
                world.heal_all();
                if !world.is_up(client) {
                    world.restart(client);
                }
                // The next fault often occurs during the recovery from this one.
                sleep(Duration::from_millis(random.below(6_000))).await;
            }
            progress(&history, 5, 20).await;
            agree(world, node, history.clone()).await;
            let history = history.lock().expect("no panic");
            assert!(history.unreachable > 0, "no fault had an effect");
            assert_eq!(history.refused, 0);
        });
    }
}

#[test]
fn tokens_are_refused_while_the_clocks_differ_by_more_than_a_minute() {
    run(Options::new(1), |world| async move {
        let (_, client, history) = start(world);
        world.set_clock_offset(client, 55_000);
        progress(&history, 3, 10).await;
        world.set_clock_offset(client, -90_000);
        sleep(Duration::from_secs(3)).await;
        let stuck = count(&history);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(count(&history), stuck);
        assert!(history.lock().expect("no panic").refused > 0);
        world.set_clock_offset(client, 0);
        progress(&history, 3, 10).await;
    });
}

#[test]
fn a_client_with_a_failed_disk_refuses_all_calls_until_a_restart() {
    run(Options::new(1), |world| async move {
        let (node, client, history) = start(world);
        progress(&history, 3, 10).await;
        world.fail_syncs(client, 1);
        sleep(Duration::from_secs(3)).await;
        let stuck = count(&history);
        let failed = history.lock().expect("no panic").failed;
        assert!(failed > 1, "the disk failed and {stuck} blocks were built");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(count(&history), stuck);
        world.restart(client);
        progress(&history, 3, 10).await;
        agree(world, node, history).await;
    });
}

#[test]
fn an_idle_connection_costs_nothing() {
    run(Options::new(1), |world| async move {
        let (node, _, history) = start(world);
        progress(&history, 2, 10).await;
        world.pause(node);
        sleep(Duration::from_secs(1)).await;
        let polls_before = world.polls();
        let events_before = world.events();
        sleep(Duration::from_secs(600)).await;
        let polls = world.polls() - polls_before;
        let events = world.events() - events_before;
        assert!(
            polls < 100 && events < 100,
            "{polls} polls, {events} events"
        );
    });
}

fn traced(seed: u64) -> Finished<usize> {
    try_run(Options::new(seed), |world| async move {
        let (_, client, history) = start(world);
        progress(&history, 5, 20).await;
        world.power_off(client);
        sleep(Duration::from_secs(1)).await;
        world.restart(client);
        progress(&history, 5, 20).await;
        count(&history)
    })
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first = traced(3);
    assert!(first.result.is_ok(), "{:?}", first.result);
    let other = traced(4);
    let again = traced(3);
    assert_eq!(
        (first.trace_hash, first.events),
        (again.trace_hash, again.events)
    );
    assert_ne!(first.trace_hash, other.trace_hash);
}
