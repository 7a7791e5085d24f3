//! Both ports as a whole: arbitrary parameters, limits, errors of the start.

use std::time::Duration;

use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::Stream;
use alys_runtime::time::timeout;

use super::super::methods::{ENGINE_METHODS, EXCHANGE_CAPABILITIES, PUBLIC_METHODS};
use super::super::server::{PUBLIC_BODY_BYTES, PUBLIC_PENDING_BYTES};
use super::*;

#[test]
fn every_method_answers_arbitrary_parameters() {
    let huge = format!("0x{}", "f".repeat(64));
    let address = SENDER.to_string();
    let max = "0xffffffffffffffff";
    let parameters = [
        json!([]),
        json!({}),
        json!([null, null, null, null]),
        json!([[], [], []]),
        json!([{}, {}, {}, {}]),
        json!([-1, 1e300, true]),
        json!([huge, huge, huge]),
        json!([max, max, max]),
        json!([max, "latest", [0.0, 100.0]]),
        json!([max, "earliest", [-1.0]]),
        json!(["0x1", "0x1", "0x1"]),
        json!(["0x", "0x", "0x"]),
        json!(["", "", ""]),
        json!([address, huge, huge]),
        json!([address, max, max]),
        json!([address, [huge, "0x0"], "pending"]),
        json!([address, "pending"]),
        json!([
            { "to": address, "gas": max, "gasPrice": huge, "value": huge, "nonce": max },
            "latest"
        ]),
        json!([{ "data": format!("0x{}", "5b".repeat(100_000)), "gas": max }, "latest"]),
        json!([{ "from": address, "accessList": [{ "address": address, "storageKeys": [huge] }] }]),
        json!([{ "blobVersionedHashes": [huge], "maxFeePerBlobGas": max, "to": address }]),
        json!([{ "fromBlock": max, "toBlock": "0x0" }]),
        json!([{ "fromBlock": "0x0", "toBlock": max, "topics": [null, [], [huge]] }]),
        json!([{ "blockHash": huge, "fromBlock": "0x0" }]),
        json!([{ "headBlockHash": huge, "safeBlockHash": huge, "finalizedBlockHash": huge }, {}]),
        json!([choice(B256::ZERO), null]),
    ];
    block_on_main(async move {
        let client = TestClient::new(PayloadFork::Deneb).await;
        client.with_contract().await;
        let auth = Some(secret());
        let engine = HttpClient::new(ClientConfig {
            auth,
            ..ClientConfig::new(client.server.engine_addr())
        });
        let methods = [PUBLIC_METHODS, ENGINE_METHODS, &[EXCHANGE_CAPABILITIES][..]].concat();
        // An internal error would be a fault of the server.
        let unexpected = [RpcError::INTERNAL, RpcError::METHOD_NOT_FOUND];
        for method in methods {
            for params in &parameters {
                match engine.call::<Value>(method, params).await {
                    Ok(_) => {}
                    Err(CallError::Rpc { error, .. }) if !unexpected.contains(&error.code) => {}
                    other => panic!("{method} {params}: {other:?}"),
                }
            }
        }
        assert!(!client.server.has_failed());
        client.produce().await;
    });
}

#[test]
fn a_used_port_and_another_genesis_are_errors_of_the_start() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let config = |engine_addr, store, fork| ExecutionServerConfig {
            http_addr: None,
            engine_addr,
            jwt_secret: secret(),
            genesis: genesis(fork),
            access: Default::default(),
            store,
            core: CoreConfig::default(),
            limits: Default::default(),
        };
        let taken = client.server.engine_addr();
        let error = ExecutionServer::start(config(
            taken,
            Arc::new(MemoryStore::new()),
            PayloadFork::Deneb,
        ))
        .await;
        let error = error.err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {taken} for engine")),
            "{error}"
        );
        let error =
            ExecutionServer::start(config(LOCAL, client.store.clone(), PayloadFork::Capella)).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains("database has genesis"), "{error}");
    });
}

/// A connection to `addr` with the head of a request, and `sent` bytes of its body of `length`.
async fn begin(addr: SocketAddr, length: usize, sent: usize) -> Stream {
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut stream = Stream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let body = " ".repeat(sent);
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// The status line of the answer to a body of this length.
async fn status_of(addr: SocketAddr, length: usize) -> String {
    let mut stream = begin(addr, length, length).await;
    let mut answer = [0; 12];
    let read = timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await;
    read.expect("is answered").unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

/// Bodies that callers of the public port hold take a bounded amount of memory.
#[test]
fn held_bodies_fill_the_public_port_and_small_calls_are_served_meanwhile() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let addr = client.server.http_addr().unwrap();
        let longest = PUBLIC_BODY_BYTES;
        assert_eq!(status_of(addr, longest).await, "HTTP/1.1 200");
        assert_eq!(status_of(addr, longest + 1).await, "HTTP/1.1 413");

        let mut held = Vec::new();
        for _ in 0..PUBLIC_PENDING_BYTES / longest {
            held.push(begin(addr, longest, longest - 1).await);
        }
        // Another one does not fit beside them once they have arrived. Until then it may take the
        // room of one of them, which is refused in its place and needs a successor.
        let refused = timeout(Duration::from_secs(60), async {
            while status_of(addr, longest).await != "HTTP/1.1 503" {
                held.push(begin(addr, longest, longest - 1).await);
            }
        });
        refused.await.expect("held bodies fill the budget");
        assert_eq!(client.get("eth_blockNumber", json!([])).await, "0x0");
    });
}
