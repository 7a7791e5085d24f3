//! A federation in one process: real nodes, libp2p and embedded execution clients, on the runtime
//! of the build.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_integrations::embedded::execution::{CoreConfig, ExecutionCore};
use alys_integrations::embedded::{ExecutionServer, ExecutionServerConfig};
use alys_integrations::http::JwtSecret;
use alys_node::actors::storage::BlockQuery;
use alys_node::node::{ExecutionEndpoint, Node, NodeConfig, NodeEvent};
use alys_pow::Template;
use alys_runtime::disk::Dir;
use alys_types::bls::SecretKey;
use alys_types::spec::{ChainSpec, GovernanceSpec};
use alys_types::{
    Address, Authority, FaultModel, FederationChange, Genesis, Hash, Height, Order, OrderContent,
    SetChange, Slot,
};

const SLOT_MS: u64 = 1000;

struct Validator {
    node: Node,
    execution: ExecutionServer,
    finals: Arc<Mutex<Vec<(u64, String)>>>,
}

fn key(i: usize) -> SecretKey {
    SecretKey::derive(&[i as u8 + 1; 32])
}

fn execution_genesis() -> alloy_genesis::Genesis {
    serde_json::from_value(serde_json::json!({
        "config": {
            "chainId": 1337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true, "shanghaiTime": 0,
            "cancunTime": 0
        },
        "nonce": "0x0", "timestamp": "0x0", "gasLimit": "0x1c9c380", "difficulty": "0x0",
        "alloc": {
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266": { "balance": "0x21e19e0c9bab2400000" }
        }
    }))
    .expect("a genesis")
}

fn governance() -> SecretKey {
    SecretKey::derive(&[99; 32])
}

fn genesis(n: usize, fault_model: FaultModel) -> Arc<Genesis> {
    let store = Arc::new(alys_storage::memory::MemoryStore::new());
    let core =
        ExecutionCore::open(store, &execution_genesis(), CoreConfig::default()).expect("opens");
    let authorities = (0..n)
        .map(|i| Authority {
            public_key: key(i).public_key().to_bytes(),
            proof_of_possession: key(i).prove_possession(),
            fee_address: Address([i as u8; 20]),
        })
        .collect();
    let spec = ChainSpec {
        fault_model,
        drift_allowance_ms: 300,
        rejoin_margin: 20,
        governance: GovernanceSpec {
            threshold: 1,
            keys: vec![governance().public_key().to_bytes()],
        },
        ..ChainSpec::development(
            1337,
            Slot::at(alys_runtime::clock::wall_ms(), SLOT_MS),
            SLOT_MS,
            core.genesis_hash().into(),
            authorities,
        )
    };
    Arc::new(Genesis::new(spec).expect("a spec"))
}

async fn validator(
    i: usize,
    root: &Dir,
    genesis: &Arc<Genesis>,
    listen: SocketAddr,
    peers: Vec<String>,
) -> Validator {
    let datadir = root.sub(&format!("node{i}")).expect("a directory");
    let secret = JwtSecret::new([7; 32]);
    let store = alys_storage::open(
        alys_storage::Engine::Redb,
        &datadir.sub("execution").expect("a directory"),
    );
    let execution = ExecutionServer::start(ExecutionServerConfig {
        http_addr: None,
        engine_addr: "127.0.0.1:0".parse().expect("an address"),
        jwt_secret: secret.clone(),
        genesis: execution_genesis(),
        access: Default::default(),
        store: store.expect("opens"),
        core: CoreConfig::default(),
        limits: Default::default(),
    })
    .await
    .expect("starts");
    let finals = Arc::new(Mutex::new(Vec::new()));
    let seen = finals.clone();
    let node = Node::start(NodeConfig {
        name: format!("node{i}"),
        genesis: genesis.clone(),
        cancun_time: Some(0),
        key: Some(key(i)),
        fee_address: None,
        identity: [i as u8 + 50; 32].into(),
        listen,
        bootnodes: peers,
        datadir,
        storage: alys_storage::Engine::Redb,
        execution: ExecutionEndpoint {
            url: execution.engine_addr().into(),
            secret,
            pool: None,
        },
        fresh_votes: true,
        observer: Some(Arc::new(move |event: &NodeEvent| {
            if let NodeEvent::Finalized(block) = event {
                seen.lock()
                    .expect("not poisoned")
                    .push((block.height.0, block.hash.to_string()));
            }
        })),
        interceptor: Default::default(),
        mailboxes: Default::default(),
        stranger_places: None,
        limits: Default::default(),
        queued_events: None,
        planted_bug: Default::default(),
    })
    .await
    .expect("starts");
    Validator {
        node,
        execution,
        finals,
    }
}

#[test]
fn four_validators_finalize_a_block_a_slot() {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into());
    let _already_set = tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_test_writer()
        .try_init();
    let temp = tempfile::tempdir().expect("a directory");
    alys_runtime::block_on_main(async move {
        let root = Dir::open(temp.path()).expect("a directory");
        let genesis = genesis(4, FaultModel::Byzantine);
        let mut validators: Vec<Validator> = Vec::new();
        for i in 0..4 {
            let peers = validators
                .iter()
                .map(|v| v.node.listen_addr().to_string())
                .collect();
            let listen = "127.0.0.1:0".parse().expect("an address");
            validators.push(validator(i, &root, &genesis, listen, peers).await);
        }
        let all_have_ten = alys_runtime::time::timeout(Duration::from_secs(60), async {
            loop {
                alys_runtime::time::sleep(Duration::from_millis(200)).await;
                if validators
                    .iter()
                    .all(|v| v.finals.lock().expect("not poisoned").len() >= 10)
                {
                    return;
                }
            }
        });
        let reached = all_have_ten.await;
        for v in &validators {
            println!("{:?}", v.node.summary().await);
            println!("{:?}", v.finals.lock().expect("not poisoned").len());
        }
        assert!(reached.is_ok(), "ten final blocks within a minute");
        let lists: Vec<_> = validators
            .iter()
            .map(|v| v.finals.lock().expect("not poisoned")[..10].to_vec())
            .collect();
        assert!(
            lists.windows(2).all(|w| w[0] == w[1]),
            "the same blocks everywhere"
        );
        for v in validators {
            let audit = v.node.audit().expect("the access rules are in force");
            assert!(
                audit.counts.is_empty(),
                "an actor exceeds its rights: {audit:?}"
            );
            let report = v.node.shutdown(Duration::from_secs(5)).await;
            assert!(report.is_clean(), "{report:?}");
            v.execution.stop().await;
        }
    });
}

/// Waits until the validator has `height` final blocks; panics after a minute.
async fn until_final(validator: &Validator, height: u64, what: &str) {
    let waited = alys_runtime::time::timeout(Duration::from_secs(60), async {
        while final_height(validator).await < height {
            alys_runtime::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(waited.await.is_ok(), "within a minute: {what}");
}

async fn final_height(validator: &Validator) -> u64 {
    validator
        .node
        .summary()
        .await
        .map_or(0, |summary| summary.final_height.0)
}

#[test]
fn a_validator_that_was_away_while_the_federation_changed_catches_up() {
    let temp = tempfile::tempdir().expect("a directory");
    alys_runtime::block_on_main(async move {
        let root = Dir::open(temp.path()).expect("a directory");
        let genesis = genesis(4, FaultModel::Crash);
        let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut validators: Vec<Validator> = Vec::new();
        let mut peers = Vec::new();
        for i in 0..4 {
            validators.push(validator(i, &root, &genesis, listen, peers.clone()).await);
            peers.push(validators[i].node.listen_addr().to_string());
        }
        until_final(&validators[3], 3, "the whole federation finalizes").await;
        let away = validators.pop().expect("the last of four");
        assert!(away.node.shutdown(Duration::from_secs(5)).await.is_clean());
        away.execution.stop().await;

        // The remaining three decide without the first.
        let effective = final_height(&validators[0]).await + 6;
        let content = OrderContent::Federation(SetChange {
            change: FederationChange::Remove(key(0).public_key().to_bytes()),
            effective_height: Height(effective),
        });
        let mut order = Order {
            number: 1,
            content,
            signatures: Vec::new(),
        };
        order
            .signatures
            .push((0, governance().sign(&order.message(&genesis.hash()).0)));
        for validator in &validators {
            assert!(validator.node.order(order.clone()));
        }
        until_final(&validators[1], effective + 3, "the new set finalizes").await;

        let back = validator(3, &root, &genesis, listen, peers[..3].to_vec()).await;
        let wanted = final_height(&validators[1]).await + 2;
        until_final(&back, wanted, "it is where the others are").await;
        validators.push(back);
        for v in validators {
            let audit = v.node.audit().expect("the access rules are in force");
            assert!(
                audit.counts.is_empty(),
                "an actor exceeds its rights: {audit:?}"
            );
            let report = v.node.shutdown(Duration::from_secs(5)).await;
            assert!(report.is_clean(), "{report:?}");
            v.execution.stop().await;
        }
    });
}

/// Submits a proof of the present work to this node, if there is work and it is not `last`.
async fn mine(validator: &Validator, last: &mut Hash) {
    let desk = validator.node.miners().desk;
    let handed = desk.create(Some(Address([0xaa; 20]))).await;
    let Ok(work) = handed.expect("an answer").map(|handed| handed.work) else {
        return;
    };
    if work.commitment == *last {
        return;
    }
    *last = work.commitment;
    let seconds = alys_runtime::clock::wall_ms() / 1_000;
    let mut template = Template::new(work.commitment, seconds as u32, 0);
    let (proof, _) = template.grind(work.bits.target(), 1_000_000);
    let proof = proof.expect("a target of development is easy").encode();
    desk.submit(work.commitment, proof)
        .await
        .expect("an answer");
}

/// Authority that proposed the block with the last final proof, as this node has it.
async fn last_carrier(validator: &Validator) -> Option<u8> {
    let miners = validator.node.miners();
    let last = miners.desk.queue().await.expect("an answer").last_final?;
    let block = miners
        .blocks
        .find(BlockQuery::Hash(last.carrier.hash))
        .await;
    let block = block.expect("an answer").expect("final blocks are stored");
    Some(block.block.header.proposer)
}

#[test]
fn a_proof_of_the_only_miner_is_carried_by_a_leader_that_has_none() {
    let temp = tempfile::tempdir().expect("a directory");
    alys_runtime::block_on_main(async move {
        let root = Dir::open(temp.path()).expect("a directory");
        let genesis = genesis(4, FaultModel::Byzantine);
        let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut validators: Vec<Validator> = Vec::new();
        let mut peers = Vec::new();
        for i in 0..4 {
            validators.push(validator(i, &root, &genesis, listen, peers.clone()).await);
            peers.push(validators[i].node.listen_addr().to_string());
        }
        let with_miner = genesis.set().index_of(&key(1).public_key().to_bytes());
        let mut last = Hash([0; 32]);
        let carried = alys_runtime::time::timeout(Duration::from_secs(60), async {
            loop {
                mine(&validators[1], &mut last).await;
                let carrier = last_carrier(&validators[3]).await;
                if carrier.is_some() && carrier != with_miner {
                    return;
                }
                alys_runtime::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(carried.await.is_ok(), "within a minute");
        for v in validators {
            let audit = v.node.audit().expect("the access rules are in force");
            assert!(
                audit.counts.is_empty(),
                "an actor exceeds its rights: {audit:?}"
            );
            let report = v.node.shutdown(Duration::from_secs(5)).await;
            assert!(report.is_clean(), "{report:?}");
            v.execution.stop().await;
        }
    });
}
