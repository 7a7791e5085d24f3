//! The pages over HTTP, their format, and the bound on the size of a scrape.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use alys_actor_system::metrics::prometheus_client::encoding::prometheus_text;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_consensus::{BlockRef, Summary, VoteState};
use alys_integrations::http::{ClientConfig, Endpoint, HttpClient, JwtSecret};
use alys_net::{Event, NodeKey};
use alys_runtime::block_on_main;
use alys_runtime::disk::Dir;
use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::{Listener, Stream};
use alys_runtime::time::{self, Duration};
use alys_types::{Hash, Height, Slot};
use serde_json::{Value, json};

use super::pages::{Progress, STALL_TIMEOUT, merge, obstacles};
use super::*;
use crate::actors::peers::{PeerActor, PeerMessage};
use crate::config::Execution;
use crate::dev::layout::{self, Wanted, loopback};
use crate::host::{Host, HostConfig};
use crate::node::ExecutionEndpoint;

/// Status, headers and body of a GET.
async fn get(addr: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = Stream::connect(addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a request");
    stream.flush().await.expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    let status = head[9..12].parse().expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

async fn until_status(addr: SocketAddr, path: &str, expected: u16) -> Value {
    for _ in 0..300 {
        let (status, head, body) = get(addr, path).await;
        assert!(head.contains("content-type: application/json"), "{head}");
        if status == expected {
            return serde_json::from_str(&body).expect("JSON");
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} is never {expected}");
}

/// Scrapes until the page has all these samples, because the first block takes a slot.
async fn until_sampled(addr: SocketAddr, expected: &[&str]) -> String {
    let mut body = String::new();
    for _ in 0..300 {
        let (status, head, page) = get(addr, "/metrics").await;
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        body = page;
        if expected.iter().all(|sample| body.contains(sample)) {
            return body;
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    let missing = expected.iter().find(|sample| !body.contains(*sample));
    panic!("{missing:?} is not in\n{body}");
}

/// Checks that every sample belongs to the family announced before it, and every family is
/// announced once.
fn check_format(text: &str) {
    let mut families = BTreeSet::new();
    let mut family = "";
    let mut kind = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(families.insert(name), "{name} is announced twice");
            assert!(name.starts_with("alys_") && !help.is_empty(), "{line}");
            family = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, found) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&found), "{line}");
            assert_eq!(found == "counter", name.ends_with("_total"), "{line}");
            kind = found;
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().unwrap_or_default();
            let suffix = name.strip_prefix(family).expect("a sample of the family");
            let is_histogram = ["_bucket", "_sum", "_count"].contains(&suffix);
            assert_eq!(is_histogram, kind == "histogram", "{line}");
            assert!(is_histogram || suffix.is_empty(), "{line}");
            value.parse::<f64>().expect("a number");
        }
    }
}

/// The configuration of the first validator of a new chain.
async fn host_config(dir: &Dir, validators: u8) -> HostConfig {
    let wanted = Wanted {
        validators: Some(validators),
        slot_ms: Some(1000),
        ..Wanted::default()
    };
    let network = layout::open_or_make(dir, wanted).await;
    let network = network.expect("an empty directory");
    HostConfig {
        name: "test".to_owned(),
        chain: network.chain.clone(),
        key: Some(network.validators[0].key.clone()),
        fee_address: None,
        listen: loopback(0),
        bootnodes: Vec::new(),
        datadir: network.validators[0].dir.clone(),
        storage: alys_storage::Engine::Redb,
        execution: Execution::Embedded {
            http: Some(loopback(0)),
            engine: loopback(0),
            access: Default::default(),
            secret: None,
        },
        observer: None,
    }
}

#[test]
fn a_validator_is_served_and_unknown_methods_do_not_grow_the_scrape() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let path = temporary.path().join("dev");
    block_on_main(async move {
        let dir = Dir::open(path).expect("a directory");
        let server = MetricsServer::bind(loopback(0)).await.expect("a free port");
        let addr = server.local_addr();
        assert_eq!(get(addr, "/nothing").await.0, 404);
        let starting = until_status(addr, "/health", 503).await;
        assert_eq!(starting["reasons"], json!(["the node is starting"]));

        let host = Host::start(host_config(&dir, 1).await)
            .await
            .expect("it starts");
        server.monitors().add(host.monitor(Some("0".to_owned())));
        let ready = until_status(addr, "/ready", 200).await;
        assert_eq!(ready, json!({ "ready": true, "reasons": [] }));
        let healthy = until_status(addr, "/health", 200).await;
        assert_eq!(healthy, json!({ "healthy": true, "reasons": [] }));

        let rpc = host.http_addr().expect("a public port");
        let client = HttpClient::new(ClientConfig::new(rpc));
        let chain_id = client.call::<Value>("eth_chainId", json!([])).await;
        chain_id.expect("a known method");
        for number in 0..10_000 {
            let method = format!("eth_{number:x}_{}", "x".repeat(40));
            let answer = client.call::<Value>(&method, json!([])).await;
            answer.expect_err("an unknown method");
        }
        let expected = [
            "alys_rpc_requests_total{validator=\"0\",method=\"other\",outcome=\"error\"} 10000",
            "alys_rpc_requests_total{validator=\"0\",method=\"eth_chainId\",outcome=\"ok\"} 1",
            "alys_chain_votes_total{validator=\"0\",kind=\"approval\"}",
            "alys_engine_call_seconds_count{validator=\"0\",method=\"new_payload\"}",
            "alys_chain_synced{validator=\"0\"} 1",
            "alys_storage_write_seconds_count{validator=\"0\"}",
        ];
        let body = until_sampled(addr, &expected).await;
        check_format(&body);
        assert!(body.len() < 1 << 20, "{} bytes", body.len());
        assert!(host.stop(Duration::from_secs(5)).await);
        server.stop().await;
    });
}

#[test]
fn a_node_without_surroundings_is_healthy_and_not_ready() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let path = temporary.path().join("dev");
    block_on_main(async move {
        let dir = Dir::open(path).expect("a directory");
        let server = MetricsServer::bind(loopback(0)).await.expect("a free port");
        let closed = Listener::bind(loopback(0)).await.expect("a free port");
        let url = Endpoint::new(closed.local_addr());
        drop(closed);
        let secret = JwtSecret::new([1; 32]);
        let host = Host::start(HostConfig {
            execution: Execution::Remote(ExecutionEndpoint {
                url,
                secret,
                pool: None,
            }),
            ..host_config(&dir, 4).await
        });
        let host = host.await.expect("it starts");
        server.monitors().add(host.monitor(None));
        let expected = [
            "test/chain/engine: the execution client does not answer",
            "test/network/network: no peer is connected",
        ];
        let reasons = async {
            loop {
                let (_, _, body) = get(server.local_addr(), "/ready").await;
                let body: Value = serde_json::from_str(&body).expect("JSON");
                if expected.iter().all(|reason| {
                    body["reasons"]
                        .as_array()
                        .is_some_and(|found| found.iter().any(|found| found == reason))
                }) {
                    return;
                }
                time::sleep(Duration::from_millis(50)).await;
            }
        };
        let both = time::timeout(Duration::from_secs(30), reasons).await;
        both.expect("/ready names both");
        let healthy = until_status(server.local_addr(), "/health", 200).await;
        assert_eq!(healthy, json!({ "healthy": true, "reasons": [] }));
        host.stop(Duration::from_secs(5)).await;
        server.stop().await;
    });
}

#[test]
fn identities_of_peers_do_not_grow_the_metrics() {
    block_on_main(async {
        let test = TestSystem::new();
        let (network, _network) = Probe::new(64);
        let (chain, _chain) = Probe::new(64);
        let metrics = NodeMetrics::default();
        let of_peers = metrics.peers.clone();
        let peers = test.start("peers", 64, move || {
            let actor = PeerActor::new(network.clone(), chain.clone(), None, of_peers.clone());
            async move { Ok::<_, std::convert::Infallible>(actor) }
        });
        for number in 0..5_000_u64 {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            let event = Event::PeerConnected {
                peer: NodeKey::from_bytes(seed).peer_id(),
                addr: loopback(1),
                outbound: false,
                expected: false,
            };
            let message = PeerMessage::Event(Box::new(event));
            assert!(peers.send(message).await.is_ok());
        }
        test.end().await;
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a string takes everything");
        check_format(&text);
        assert!(text.contains("alys_peers_connections_total 5000"), "{text}");
        assert!(text.len() < 20_000, "{} bytes", text.len());
    });
}

#[test]
fn samples_of_one_family_are_merged_under_one_header() {
    let text = "# HELP a A.\n# TYPE a gauge\na{x=\"{ }\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n";
    let node = |label: &str| (Some(label.to_owned()), text.to_owned());
    let expected = "# HELP a A.\n# TYPE a gauge\n\
                    a{validator=\"0\",x=\"{ }\"} 1\na{validator=\"1\",x=\"{ }\"} 1\n\
                    # HELP b B.\n# TYPE b gauge\n\
                    b{validator=\"0\"} 2\nb{validator=\"1\"} 2\n";
    assert_eq!(merge(&[node("0"), node("1")]), expected);
    assert_eq!(merge(&[(None, text.to_owned())]), text);
    assert_eq!(merge(&[]), "");
}

fn summary(highest: u64, head: u64) -> Summary {
    let block = BlockRef {
        slot: Slot(0),
        hash: Hash([0; 32]),
    };
    Summary {
        highest: block,
        highest_height: Height(highest),
        finalized: block,
        final_height: Height(0),
        pow_final_height: Height(0),
        head: block.hash,
        head_height: Height(head),
        votes: VoteState::fresh(block),
        silent: false,
        clock_trusted: true,
        synced: highest == head,
        entries: 0,
    }
}

#[test]
fn a_node_is_stuck_when_it_is_not_synced_and_gains_no_block() {
    let begun = time::now();
    let mut progress = Progress::default();
    let late = STALL_TIMEOUT + Duration::from_secs(1);
    // Time of the call, highest block, head; whether the node is stuck.
    let table = [
        (Duration::ZERO, 5, 3, false),
        (STALL_TIMEOUT, 5, 3, true),
        (late, 6, 4, false),
        (late + STALL_TIMEOUT / 2, 6, 5, false),
        (late + STALL_TIMEOUT, 6, 6, false),
        (late + STALL_TIMEOUT * 2, 7, 6, false),
        (late + STALL_TIMEOUT * 3, 7, 6, true),
    ];
    for (row, (at, highest, head, is_stuck)) in table.into_iter().enumerate() {
        let found = progress.stall(&summary(highest, head), begun + at);
        assert_eq!(found.is_some(), is_stuck, "row {row}: {found:?}");
    }
}

#[test]
fn a_node_is_ready_when_it_is_synced_and_votes() {
    let silent = Summary {
        silent: true,
        clock_trusted: false,
        ..summary(5, 5)
    };
    let mut both = silent.clone();
    both.votes.silent_until = Some(Slot(9));
    let lost = Summary {
        clock_trusted: true,
        ..both.clone()
    };
    // True for a validator; a word of each obstacle.
    let table: [(Summary, bool, &[&str]); 6] = [
        (summary(5, 5), true, &[]),
        (summary(6, 5), true, &["not synced"]),
        (silent.clone(), true, &["confirm-clock"]),
        (lost, true, &["after slot 9"]),
        (both, true, &["confirm-clock", "after slot 9"]),
        (silent, false, &[]),
    ];
    for (row, (summary, is_validator, expected)) in table.into_iter().enumerate() {
        let found = obstacles(&summary, is_validator);
        assert_eq!(found.len(), expected.len(), "row {row}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "row {row}: {found}");
        }
    }
}
