//! The server over real sockets, in front of an AuxPowActor.

use std::net::SocketAddr;

use alys_integrations::http::{CallError, ClientConfig, HttpClient, RpcError};
use alys_pow::{AuxPow, MAX_BYTES, reversed};
use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::Stream;
use alys_types::{AuxPowHeader, Block, Body, ExecutionPayload, Hash, Header, Height, Slot};
use serde_json::{Value, json};

use super::answers::{
    ADDRESS, DESERIALIZATION, IN_CHAIN, INVALID_PARAMETER, MISC, NO_WORK, VERIFY, WARMUP,
};
use super::*;
use crate::actors::auxpow::kit::{Disk, EASY, Kit, mined};
use crate::dev::layout::loopback;

const MINER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// A server of a node with an AuxPowActor.
struct Pool {
    kit: Kit,
    server: MiningServer,
    client: HttpClient,
}

impl Pool {
    async fn start() -> Pool {
        let kit = Kit::start(&Disk::default());
        let server = MiningServer::bind(loopback(0), Settings::default()).await;
        let server = server.expect("a free port");
        server.serve(kit.miners.clone());
        let client = HttpClient::new(ClientConfig::new(server.local_addr()));
        Pool {
            kit,
            server,
            client,
        }
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match self.client.call(method, params).await {
            Ok(value) => Ok(value),
            Err(CallError::Rpc { error, .. }) => Err(error),
            Err(error) => panic!("{method}: {error}"),
        }
    }

    async fn refused(&self, method: &str, params: Value, code: i64, texts: &[&str]) -> RpcError {
        let error = self.call(method, params.clone()).await;
        let error = error.expect_err(&format!("{method} {params}"));
        assert_eq!(error.code, code, "{method} {params}: {error}");
        for text in texts {
            assert!(error.message.contains(text), "{text:?} in {error}");
        }
        error
    }

    async fn end(self) {
        self.server.stop().await;
        self.kit.test.end().await;
    }
}

/// Sends a request and reads the connection to its end: head and body.
async fn post(addr: SocketAddr, headers: &str, body: &str) -> (String, String) {
    let stream = Stream::connect(addr).await.expect("a connection");
    exchange(stream, headers, body).await
}

async fn exchange(mut stream: Stream, headers: &str, body: &str) -> (String, String) {
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the request is sent");
    stream.flush().await.expect("the request is sent");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        answer.extend_from_slice(&chunk[..count]);
    }
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    (head.to_owned(), body.to_owned())
}

async fn answer(addr: SocketAddr, body: &str) -> Value {
    let (head, text) = post(addr, "host: 127.0.0.1\r\n", body).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The commitment of `hash` in internal order.
fn commitment(work: &Value) -> Hash {
    reversed(work["hash"].as_str().expect("a hash").parse().expect("hex"))
}

/// A correct proof of `createauxblock`'s answer, in hex.
fn proof(work: &Value) -> String {
    hex::encode(mined(commitment(work)))
}

/// Cases M02 (pools read `target` or `_target`) and M03 (no address, one, and `getauxblock`).
#[test]
fn work_has_namecoins_fields_and_both_names_of_the_target() {
    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        pool.kit.offer(5, 12, 31, 0x1d00_ffff);
        let expected_target = format!("{}ffff00000000", "00".repeat(26));
        let work = pool
            .call("createauxblock", json!([MINER]))
            .await
            .expect("work");
        assert_eq!(work["chainid"], 21_212);
        assert_eq!(work["coinbasevalue"], 0);
        assert_eq!(work["bits"], "1d00ffff");
        assert_eq!((&work["height"], &work["first"]), (&json!(31), &json!(12)));
        assert_eq!(work["sequence"], 5);
        assert_eq!(work["address"], MINER.to_lowercase());
        for name in ["target", "_target"] {
            assert_eq!(work[name], expected_target, "{name}");
        }
        for name in ["hash", "previousblockhash"] {
            assert_eq!(work[name].as_str().map(str::len), Some(64), "{name}");
        }
        // The default address is the authority's; every way to leave the address out gives it.
        let own = pool.call("createauxblock", json!([])).await.expect("work");
        assert_eq!(own["address"], format!("0x{}", "00".repeat(20)));
        for (method, params) in [
            ("createauxblock", json!([null])),
            ("createauxblock", json!([""])),
            ("createauxblock", json!({})),
            ("getauxblock", json!([])),
        ] {
            let same = pool.call(method, params.clone()).await;
            assert_eq!(same.as_ref(), Ok(&own), "{method} {params}");
        }
        let named = pool
            .call("createauxblock", json!({ "address": MINER }))
            .await;
        assert_eq!(named, Ok(work));
        pool.end().await;
    });
}

#[test]
fn proofs_are_accepted_in_every_form_of_request() {
    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        pool.kit.offer(1, 1, 3, EASY);
        let addr = pool.server.local_addr();
        let work = pool
            .call("createauxblock", json!([MINER]))
            .await
            .expect("work");
        let params = json!([work["hash"], proof(&work)]);
        assert_eq!(pool.call("getqueuedpow", json!([])).await, Ok(Value::Null));
        let submitted = pool.call("submitauxblock", params.clone()).await;
        assert_eq!(submitted, Ok(json!(true)));
        let again = pool.call("getauxblock", params.clone()).await;
        assert_eq!(
            again,
            Ok(json!(true)),
            "a repetition is answered as the first one"
        );
        let queued = pool.call("getqueuedpow", json!([])).await.expect("a proof");
        assert_eq!(
            (&queued["count"], &queued["sequence"]),
            (&json!(3), &json!(1))
        );
        assert_eq!(queued["auxpow"], params[1]);
        let bytes = hex::decode(params[1].as_str().expect("hex")).expect("hex");
        let parent = AuxPow::decode(&bytes).expect("a proof").parent_hash();
        let parent = hex::encode(reversed(parent).0);
        assert_eq!(queued["parenthash"], parent);

        // JSON-RPC 1.0, as pools and V1's miner speak it.
        let request = json!({ "id": 7, "method": "submitauxblock", "params": params });
        let expected = json!({ "result": true, "error": null, "id": 7 });
        assert_eq!(answer(addr, &request.to_string()).await, expected);
        let request = r#"{"jsonrpc":"1.0","id":"curl","method":"getqueuedpow","params":[]}"#;
        let answered = answer(addr, request).await;
        assert_eq!(
            (&answered["result"], &answered["id"]),
            (&queued, &json!("curl"))
        );
        // Without id, params and brackets.
        let answered = answer(addr, r#"{"method":"getblockbyheight","params":0}"#).await;
        assert_eq!(answered["result"]["height"], 0);
        assert_eq!(
            (&answered["error"], &answered["id"]),
            (&Value::Null, &Value::Null)
        );
        let answered = answer(addr, r#"{"id":1,"method":"getwork"}"#).await;
        assert_eq!(answered["error"]["code"], -32601);
        assert_eq!(answered["result"], Value::Null);

        // A batch of both versions.
        let batch = json!([
            { "jsonrpc": "2.0", "id": 1, "method": "createauxblock", "params": [MINER] },
            { "id": 2, "method": "createauxblock", "params": [MINER] },
            { "jsonrpc": "2.0", "id": 3, "method": "nothing" },
        ]);
        let answers = answer(addr, &batch.to_string()).await;
        assert_eq!(answers[0]["result"], work);
        assert_eq!(
            answers[1],
            json!({ "result": work, "error": null, "id": 2 })
        );
        assert_eq!(answers[2]["error"]["code"], -32601);
        let call = json!({ "id": 1, "method": "getqueuedpow" });
        let all = answer(addr, &json!(vec![call.clone(); MAX_BATCH]).to_string()).await;
        assert_eq!(all.as_array().map(Vec::len), Some(MAX_BATCH));
        let many = answer(addr, &json!(vec![call; MAX_BATCH + 1]).to_string()).await;
        assert_eq!(many["error"]["message"], "batch too large");
        pool.end().await;
    });
}

/// Cases M03 (the reason for which there is no work) and M11 (the root in both orders, and its
/// place in the coinbase). A malformed submission stopped V1's nodes (S13).
#[test]
fn every_failure_names_what_is_expected_and_found() {
    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        let text = &["has not reported its work"];
        pool.refused("createauxblock", json!([]), NO_WORK, text)
            .await;
        pool.kit
            .tell(crate::actors::auxpow::AuxPowMessage::Work(None));
        let text = &["there is no work now", "after the next final block"];
        pool.refused("getauxblock", json!([]), NO_WORK, text).await;

        pool.kit.offer(1, 1, 3, EASY);
        let mistyped = MINER.replace('F', "f");
        for (address, texts) in [
            ("bc1qxyz", ["40 hex digits", "bc1qxyz"]),
            ("0x12", ["40 hex digits", "0x12"]),
            (&mistyped, ["EIP-55", MINER]),
        ] {
            pool.refused("createauxblock", json!([address]), ADDRESS, &texts)
                .await;
        }
        let lower = pool
            .call("createauxblock", json!([MINER.to_lowercase()]))
            .await;
        assert!(lower.is_ok(), "{lower:?}");
        let invalid = RpcError::INVALID_PARAMS;
        pool.refused("createauxblock", json!([MINER, 1]), invalid, &["at most 1"])
            .await;
        pool.refused(
            "createauxblock",
            json!({ "adress": MINER }),
            invalid,
            &["adress"],
        )
        .await;
        pool.refused("createauxblock", json!([7]), invalid, &["argument 0"])
            .await;
        pool.refused(
            "getauxblock",
            json!(["00"]),
            invalid,
            &["no arguments", "or two"],
        )
        .await;
        pool.refused("submitauxblock", json!(["00"]), invalid, &["argument 1"])
            .await;
        pool.refused("getdepositaddress", json!([]), MISC, &["peg", "not built"])
            .await;
        pool.refused(
            "getwork",
            json!([]),
            RpcError::METHOD_NOT_FOUND,
            &["createauxblock"],
        )
        .await;

        let work = pool
            .call("createauxblock", json!([MINER]))
            .await
            .expect("work");
        let hash = work["hash"].as_str().expect("a hash");
        let internal = hex::encode(commitment(&work).0);
        let good = proof(&work);
        let submit = async |hash: &str, auxpow: &str, code: i64, texts: &[&str]| {
            pool.refused("submitauxblock", json!([hash, auxpow]), code, texts)
                .await
        };
        submit("zz", &good, INVALID_PARAMETER, &["64 hex digits", "zz"]).await;
        let other = "11".repeat(32);
        submit(&other, &good, INVALID_PARAMETER, &["unknown", &other]).await;
        submit(
            &internal,
            &good,
            INVALID_PARAMETER,
            &["internal byte order", hash],
        )
        .await;
        submit(hash, "xyz", DESERIALIZATION, &["in hex"]).await;
        let long = "00".repeat(MAX_BYTES + 1);
        submit(
            hash,
            &long,
            DESERIALIZATION,
            &["at most 1048576 hex digits"],
        )
        .await;
        let largest = &long[2..];
        submit(hash, largest, DESERIALIZATION, &["rule \"format\""]).await;

        // The root in internal order: the error has it in both.
        let mut proof = AuxPow::decode(&hex::decode(&good).expect("hex")).expect("a proof");
        let script = proof.coinbase.input[0].script_sig.to_bytes();
        let at = script.len() - 8 - 32;
        let mut script_reversed = script.clone();
        script_reversed[at..at + 32].reverse();
        proof.coinbase.input[0].script_sig = script_reversed.into();
        let wrong = hex::encode(remined(proof).encode());
        let error = submit(
            hash,
            &wrong,
            VERIFY,
            &[
                "rule \"chain root\"",
                hash,
                &internal,
                "in internal order: write it reversed",
            ],
        )
        .await;
        let data = error.data.expect("facts");
        assert_eq!(
            (&data["hash"], &data["internal"]),
            (&json!(hash), &json!(internal))
        );
        assert_eq!(data["rule"], "chain root");
        // A corrected one is accepted.
        let accepted = pool.call("submitauxblock", json!([hash, good])).await;
        assert_eq!(accepted, Ok(json!(true)));

        let status = async |hash: &Value| pool.call("alys_workStatus", json!([hash])).await;
        assert_eq!(
            status(&json!(hash)).await.map(|s| s["state"].clone()),
            Ok(json!("accepted"))
        );
        let late = pool.call("createauxblock", json!([])).await.expect("work");
        pool.kit.report_final(1, 1, 3);
        let stale = status(&late["hash"]).await.expect("known work");
        assert_eq!(
            (&stale["state"], &stale["count"]),
            (&json!("stale"), &json!(3))
        );
        let unknown = json!(["11".repeat(32)]);
        pool.refused("alys_workStatus", unknown, INVALID_PARAMETER, &["unknown"])
            .await;
        let hash = late["hash"].as_str().expect("a hash");
        let texts = [
            "stale work",
            "a final block carries proof 1",
            "ask for new work",
        ];
        submit(hash, &self::proof(&late), IN_CHAIN, &texts).await;
        pool.end().await;
    });
}

/// The proof with a parent that includes its coinbase and meets the easy target.
fn remined(mut proof: AuxPow) -> AuxPow {
    let root = proof.coinbase_branch.fold(proof.coinbase_id());
    let mut header = [0_u8; 80];
    let encoded = proof.encode();
    header.copy_from_slice(&encoded[encoded.len() - 80..]);
    header[36..68].copy_from_slice(&root.0);
    let easy = alys_pow::Bits::new(EASY).expect("canonical").target();
    for nonce in 0_u32..1_000 {
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        if easy.is_met_by(alys_pow::sha256d(&[&header])) {
            let mut bytes = proof.encode();
            let at = bytes.len() - 80;
            bytes[at..].copy_from_slice(&header);
            proof = AuxPow::decode(&bytes).expect("a proof");
            return proof;
        }
    }
    panic!("half of all hashes meet it");
}

fn block(height: u64, auxpow: Option<AuxPowHeader>) -> Block {
    let payload = ExecutionPayload {
        parent_hash: Hash([1; 32]),
        fee_recipient: Default::default(),
        state_root: Hash([2; 32]),
        receipts_root: Hash([3; 32]),
        logs_bloom: [0; 256],
        prev_randao: Hash([4; 32]),
        block_number: height,
        gas_limit: 30_000_000,
        gas_used: 21_000,
        timestamp: 1_700_000_000,
        extra_data: Vec::new(),
        base_fee_per_gas: [0; 32],
        block_hash: Hash([5; 32]),
        transactions: vec![vec![1]],
        withdrawals: Vec::new(),
        blob_gas: None,
    };
    Block {
        header: Header {
            version: 1,
            evm_chain_id: 1,
            genesis_hash: Hash([6; 32]),
            height: Height(height),
            slot: Slot(2 * height),
            proposer: 1,
            parent_hash: Hash([7; 32]),
            parent_certificate: None,
            execution_hash: Hash([5; 32]),
            body_hash: Hash([8; 32]),
            set_hash: Hash([9; 32]),
            ledger_hash: Hash([10; 32]),
        },
        body: Body {
            auxpow,
            ..Body::of(payload)
        },
    }
}

#[test]
fn blocks_are_found_by_height_and_hash() {
    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        let genesis = pool.kit.miners.genesis.hash();
        let head = pool.call("getheadblock", json!([])).await.expect("genesis");
        assert_eq!(
            (&head["height"], &head["hash"]),
            (&json!(0), &json!(genesis))
        );
        let by_height = pool.call("getblockbyheight", json!([0])).await;
        let by_hash = pool.call("getblockbyhash", json!([genesis])).await;
        assert_eq!((by_height, by_hash), (Ok(head.clone()), Ok(head)));

        let carried = AuxPowHeader {
            range_start: Hash([1; 32]),
            range_end: Hash([2; 32]),
            bits: EASY,
            chain_id: 21_212,
            sequence: 4,
            auxpow: vec![0xab; 3],
            miner: alys_types::Address([3; 20]),
        };
        let blocks = vec![block(7, None), block(8, Some(carried))];
        let hashes: Vec<Hash> = blocks.iter().map(|block| block.header.hash()).collect();
        pool.kit.disk.with(|content| content.blocks = blocks);
        let head = pool.call("getheadblock", json!([])).await.expect("a block");
        assert_eq!((&head["height"], &head["final"]), (&json!(8), &json!(true)));
        assert_eq!(head["auxpow"]["sequence"], 4);
        assert_eq!(head["auxpow"]["auxpow"], "ababab");
        assert_eq!(head["auxpow"]["bits"], "207fffff");
        for params in [json!([7]), json!(["7"]), json!({ "height": 7 })] {
            let found = pool
                .call("getblockbyheight", params)
                .await
                .expect("a block");
            assert_eq!(found["hash"], json!(hashes[0]));
            assert_eq!(found["auxpow"], Value::Null);
            assert_eq!(found["transactions"], 1);
        }
        // With and without 0x, as V1.
        let bare = hex::encode(hashes[1].0);
        for text in [bare.clone(), format!("0x{bare}")] {
            let found = pool.call("getblockbyhash", json!([text])).await;
            assert_eq!(found.as_ref(), Ok(&head));
        }
        pool.refused(
            "getblockbyheight",
            json!([9]),
            ADDRESS,
            &["no final block at height 9"],
        )
        .await;
        let invalid = RpcError::INVALID_PARAMS;
        pool.refused(
            "getblockbyheight",
            json!([-1]),
            invalid,
            &["expected a number", "-1"],
        )
        .await;
        let unknown = "22".repeat(32);
        pool.refused("getblockbyhash", json!([unknown]), ADDRESS, &[&unknown])
            .await;
        pool.end().await;
    });
}

#[test]
fn a_starting_node_says_so() {
    alys_runtime::block_on_main(async {
        let server = MiningServer::bind(loopback(0), Settings::default()).await;
        let server = server.expect("a free port");
        let client = HttpClient::new(ClientConfig::new(server.local_addr()));
        let error = client.call::<Value>("createauxblock", json!([])).await;
        let Err(CallError::Rpc { error, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (error.code, error.message.as_str()),
            (WARMUP, "the node is starting")
        );
        server.stop().await;
    });
}

#[test]
fn no_web_page_takes_work_and_a_login_is_checked() {
    alys_runtime::block_on_main(async {
        let call = r#"{"id":1,"method":"getqueuedpow"}"#;
        let open = Settings {
            hosts: vec!["pool.example".to_owned()],
            ..Settings::default()
        };
        let closed = Settings {
            login: Some(Login::new("pool", "secret").expect("a login")),
            ..Settings::default()
        };
        let basic = |text: &str| format!("host: localhost\r\nauthorization: Basic {text}\r\n");
        // pool:secret, pool:wrong
        let (right, wrong) = (basic("cG9vbDpzZWNyZXQ="), basic("cG9vbDp3cm9uZw=="));
        let table = [
            (&open, "host: 127.0.0.1\r\n", "200 OK"),
            (&open, "host: localhost:3000\r\n", "200 OK"),
            (&open, "host: pool.example:3000\r\n", "200 OK"),
            (&open, "", "200 OK"),
            (&open, &wrong, "200 OK"),
            (&open, "host: rebound.example\r\n", "403 Forbidden"),
            (
                &open,
                "host: localhost\r\norigin: null\r\n",
                "403 Forbidden",
            ),
            (
                &open,
                "host: localhost\r\norigin: http://localhost:3000\r\n",
                "403 Forbidden",
            ),
            (&closed, "host: localhost\r\n", "401 Unauthorized"),
            (&closed, &wrong, "401 Unauthorized"),
            (&closed, &right, "200 OK"),
        ];
        let kit = Kit::start(&Disk::default());
        for (settings, headers, expected) in table {
            let server = MiningServer::bind(loopback(0), settings.clone()).await;
            let server = server.expect("a free port");
            server.serve(kit.miners.clone());
            let (head, _) = post(server.local_addr(), headers, call).await;
            let line = head.lines().next().expect("a status");
            assert_eq!(line, format!("HTTP/1.1 {expected}"), "{headers}");
            let asks = head
                .to_ascii_lowercase()
                .contains("www-authenticate: basic");
            assert_eq!(asks, expected.starts_with("401"), "{head}");
            server.stop().await;
        }
        kit.test.end().await;
    });
}

#[test]
fn requests_of_any_size_are_answered_or_refused() {
    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        let addr = pool.server.local_addr();
        let largest = "00".repeat(MAX_BYTES);
        for (length, status) in [
            (largest.len(), "200 OK"),
            (MAX_REQUEST_BYTES, "413 Payload Too Large"),
        ] {
            let auxpow = "0".repeat(length);
            let params = json!(["11".repeat(32), auxpow]);
            let request = json!({ "id": 1, "method": "submitauxblock", "params": params });
            let (head, _) = post(addr, "host: localhost\r\n", &request.to_string()).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        }
        let many = format!("[{}1]", "1,".repeat(MAX_VALUES));
        let (head, _) = post(addr, "host: localhost\r\n", &many).await;
        assert!(head.starts_with("HTTP/1.1 413"), "{head}");
        pool.end().await;
    });
}

/// With fewer places than miners, the connection that waits longest gives way to a new one.
#[test]
fn two_hundred_miners_have_a_connection_each() {
    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        pool.kit.offer(1, 1, 3, EASY);
        let addr = pool.server.local_addr();
        let mut connections = Vec::new();
        for _ in 0..200 {
            connections.push(Stream::connect(addr).await.expect("a connection"));
        }
        let call = json!({ "id": 1, "method": "createauxblock", "params": [MINER] }).to_string();
        // The server has accepted all when it answers the last one.
        for connection in connections.into_iter().rev() {
            let (head, text) = exchange(connection, "host: localhost\r\n", &call).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert!(text.contains("previousblockhash"), "{text}");
        }
        pool.end().await;
    });
}

/// The miner finds work, mines it and waits until it is carried.
#[test]
fn the_development_miner_mines_over_the_port() {
    use super::miner::{MinerConfig, MinerEvent, mine};
    use alys_integrations::http::Endpoint;
    use alys_runtime::sync::mpsc;

    alys_runtime::block_on_main(async {
        let pool = Pool::start().await;
        pool.kit.offer(1, 1, 3, EASY);
        let config = MinerConfig {
            endpoint: Endpoint::new(pool.server.local_addr()),
            login: None,
            address: Some(MINER.to_owned()),
            threads: 2,
            rate: Some(50),
        };
        let (news, mut events) = mpsc::channel(64);
        let miner = alys_runtime::spawn("test-miner", async move {
            let report = |event| {
                let _full = news.try_send(event);
            };
            match mine(config, report).await {}
        });
        let mut accepted = Vec::new();
        while accepted.len() < 2 {
            match events.recv().await.expect("the miner runs") {
                MinerEvent::Accepted { height } => {
                    accepted.push(height);
                    pool.kit.report_final(1, 1, 3);
                    pool.kit.offer(2, 4, 9, EASY);
                }
                MinerEvent::Work { .. } | MinerEvent::Rate { .. } => {}
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(accepted, [3, 9]);
        miner.abort();
        pool.end().await;
    });
}
