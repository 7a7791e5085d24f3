//! The Engine API: building, importing, errors.

use super::*;

/// Runs the calls that a consensus node makes at its start.
async fn check_handshake(client: &TestClient, fork: PayloadFork) {
    assert_eq!(client.engine.chain_id().await.unwrap(), CHAIN_ID);
    assert_eq!(
        client.engine.genesis_hash().await.unwrap(),
        client.server.genesis_hash()
    );
    assert!(
        client
            .engine
            .client_version()
            .await
            .unwrap()
            .starts_with("Alys/v")
    );
    assert_eq!(
        client
            .engine
            .exchange_capabilities()
            .await
            .unwrap()
            .missing(fork),
        [""; 0]
    );
}

#[test]
fn a_consensus_node_builds_and_imports_blocks_in_both_forks() {
    for fork in [PayloadFork::Capella, PayloadFork::Deneb] {
        block_on_main(build_and_import(fork));
    }
}

async fn build_and_import(fork: PayloadFork) {
    let client = TestClient::new(fork).await;
    check_handshake(&client, fork).await;

    let hash = client
        .send(0, TxKind::Call(RECIPIENT), ETHER, Bytes::new())
        .await;
    let genesis = client.head().await;
    let withdrawal = Withdrawal {
        index: 0,
        validator_index: 1,
        address: RECIPIENT,
        amount: 1_000_000_000,
    };
    let attributes = PayloadAttributes {
        withdrawals: Some(vec![withdrawal]),
        ..client.attributes(100)
    };
    let payload = client.build(genesis.hash, attributes).await;
    assert_eq!(payload.as_v1().transactions.len(), 1);
    assert_eq!(PayloadFork::of_payload(&payload), Some(fork));
    let block = payload.as_v1().block_hash;

    // Imported, but not the head yet.
    assert_eq!(
        client
            .engine
            .block_by_hash(block)
            .await
            .unwrap()
            .unwrap()
            .number,
        1
    );
    assert_eq!(client.get("eth_blockNumber", json!([])).await, json!("0x0"));
    assert_eq!(
        client.get("eth_getTransactionReceipt", json!([hash])).await,
        Value::Null
    );

    let state = ForkchoiceState {
        head_block_hash: block,
        safe_block_hash: block,
        finalized_block_hash: genesis.hash,
    };
    assert!(
        client
            .engine
            .forkchoice_updated(state, None)
            .await
            .unwrap()
            .is_valid()
    );
    assert_eq!(client.head().await.hash, block);
    let at = async |tag| {
        client
            .engine
            .block_by_tag(tag)
            .await
            .unwrap()
            .map(|block| block.hash)
    };
    assert_eq!(at(BlockTag::Safe).await, Some(block));
    assert_eq!(at(BlockTag::Finalized).await, Some(genesis.hash));
    assert_eq!(at(BlockTag::Number(2)).await, None);
    // One ether by transfer, one by withdrawal.
    let balance = client
        .get("eth_getBalance", json!([RECIPIENT, "latest"]))
        .await;
    assert_eq!(balance, json!(format!("{:#x}", 2 * ETHER)));
    assert_eq!(
        client.get("eth_getTransactionReceipt", json!([hash])).await["status"],
        "0x1"
    );

    // The same payload again, as after a reconnection.
    let again = client
        .engine
        .new_payload(payload, B256::with_last_byte(2))
        .await
        .unwrap();
    assert!(again.is_valid());
    assert_ne!(client.produce().await, block);
    assert_eq!(client.get("eth_blockNumber", json!([])).await, json!("0x2"));
}

/// Rule 5.4 (docs/protocol.md): the receipts of a block decide about the ledger after it, also
/// before it is the head, and while another branch is.
#[test]
fn receipts_of_a_block_that_is_not_canonical_are_served_by_hash() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (contract, _) = client.with_contract().await;
        let head = client.head().await;
        client
            .send(3, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        client
            .send(4, TxKind::Call(contract), 0, Bytes::new())
            .await;
        let (reverted, _) = transaction(5, TxKind::Call(contract), 0, vec![1; 32].into());
        client
            .get("eth_sendRawTransaction", json!([reverted]))
            .await;
        let side = client.build(head.hash, client.attributes(100)).await;
        let side = side.as_v1().clone();
        assert_eq!(side.transactions.len(), 3);
        let check = async || {
            let receipts = client.engine.receipts(side.block_hash).await.unwrap();
            let receipts = receipts.expect("the client executed the block");
            let root = alloy_consensus::proofs::calculate_receipt_root(&receipts);
            assert_eq!(root, side.receipts_root);
            let of = |receipt: &alloy_consensus::ReceiptEnvelope| {
                (receipt.is_success(), receipt.logs().len())
            };
            let all: Vec<_> = receipts.iter().map(of).collect();
            assert_eq!(all, [(true, 0), (true, 1), (false, 0)]);
        };
        check().await;
        assert_eq!(client.head().await, head);
        // Another branch, without transactions.
        let updated = client
            .engine
            .begin_empty_payload(choice(head.hash), client.attributes(101));
        let id = updated.await.unwrap().payload_id.unwrap();
        let other = client.engine.get_payload(client.fork, id).await.unwrap();
        let other = other.payload;
        let hash = other.as_v1().block_hash;
        let root = B256::with_last_byte(2);
        assert!(
            client
                .engine
                .new_payload(other, root)
                .await
                .unwrap()
                .is_valid()
        );
        for head in [hash, side.block_hash, hash] {
            let updated = client.engine.forkchoice_updated(choice(head), None).await;
            assert!(updated.unwrap().is_valid());
            check().await;
        }
        let receipts = async |hash| client.engine.receipts(hash).await.unwrap();
        assert_eq!(receipts(hash).await, Some(Vec::new()));
        assert_eq!(
            receipts(client.server.genesis_hash()).await,
            Some(Vec::new())
        );
        assert_eq!(receipts(B256::repeat_byte(9)).await, None);
        // A final block on the other branch, after which side blocks are pruned.
        let state = ForkchoiceState {
            finalized_block_hash: hash,
            ..choice(hash)
        };
        let updated = client.engine.forkchoice_updated(state, None).await;
        assert!(updated.unwrap().is_valid());
        let store = client.store.clone();
        client.server.stop().await;
        // Without the caches, which hold them for longer.
        let client = TestClient::on(store, PayloadFork::Deneb).await;
        let found = client.engine.receipts(side.block_hash).await.unwrap();
        assert_eq!(found, None);
    });
}

#[test]
fn a_chain_survives_a_restart() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        client.with_contract().await;
        let head = client.head().await;
        client
            .send(3, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        let (engine, store) = (client.engine.clone(), client.store.clone());
        client.server.stop().await;
        assert!(engine.chain_id().await.unwrap_err().is_retryable());

        let client = TestClient::on(store, PayloadFork::Deneb).await;
        assert_eq!(client.head().await, head);
        assert_eq!(
            client
                .get("eth_getTransactionCount", json!([SENDER, "latest"]))
                .await,
            json!("0x3")
        );
        // The transaction that was not mined is still in the pool.
        let pending = json!([SENDER, "pending"]);
        assert_eq!(
            client.get("eth_getTransactionCount", pending).await,
            json!("0x4")
        );
        client.produce().await;
        assert_eq!(
            client
                .get("eth_getTransactionCount", json!([SENDER, "latest"]))
                .await,
            json!("0x4")
        );
    });
}

#[test]
fn the_engine_port_requires_the_secret_and_the_public_port_has_no_engine_api() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let unauthorized = HttpEngine::new(client.server.engine_addr(), JwtSecret::new([4; 32]));
        let error = unauthorized.chain_id().await.unwrap_err();
        assert!(matches!(error, ExecutionError::Auth { .. }), "{error}");
        let error = client
            .refused("engine_exchangeCapabilities", json!([[]]))
            .await;
        assert_eq!(error.code, RpcError::METHOD_NOT_FOUND);
    });
}

/// Calls of the Engine API of a client by their error codes.
struct EngineCodes {
    client: TestClient,
    engine: HttpClient,
}

impl EngineCodes {
    async fn new(fork: PayloadFork) -> Self {
        let client = TestClient::new(fork).await;
        let config = ClientConfig {
            auth: Some(secret()),
            ..ClientConfig::new(client.server.engine_addr())
        };
        let engine = HttpClient::new(config);
        Self { client, engine }
    }

    /// The error code of a call; zero for a result.
    async fn code(&self, method: &str, params: Value) -> i64 {
        match self.engine.call::<Value>(method, params).await {
            Ok(_) => 0,
            Err(CallError::Rpc { error, .. }) => error.code,
            Err(other) => panic!("{other}"),
        }
    }

    /// The expected code in the fork of the client.
    fn of(&self, capella: i64, deneb: i64) -> i64 {
        match self.client.fork {
            PayloadFork::Capella => capella,
            PayloadFork::Deneb => deneb,
        }
    }
}

const FORKS: [PayloadFork; 2] = [PayloadFork::Capella, PayloadFork::Deneb];

#[test]
fn fork_choices_are_refused_with_the_codes_of_the_specification() {
    for fork in FORKS {
        block_on_main(async move {
            let codes = EngineCodes::new(fork).await;
            let genesis = codes.client.server.genesis_hash();
            let updated = async |version: u8, attributes: Value| {
                let method = format!("engine_forkchoiceUpdatedV{version}");
                codes
                    .code(&method, json!([choice(genesis), attributes]))
                    .await
            };
            for version in 1..=3 {
                assert_eq!(updated(version, Value::Null).await, 0, "V{version}");
            }
            for (version, withdrawals, root, capella, deneb) in [
                (1, false, false, -38005, -38005),
                (1, true, false, -38003, -38003),
                (2, false, false, -38003, -38005),
                (2, true, true, -38003, -38003),
                (2, true, false, 0, -38005),
                (3, true, false, -38003, -38003),
                (3, false, true, -38003, -38003),
                (3, true, true, -38005, 0),
            ] {
                let code = updated(version, attributes(withdrawals, root)).await;
                let expected = codes.of(capella, deneb);
                assert_eq!(code, expected, "V{version} {withdrawals} {root}");
            }
            let stale = PayloadAttributes {
                timestamp: 0,
                ..codes.client.attributes(0)
            };
            let method = format!("engine_forkchoiceUpdatedV{}", codes.of(2, 3));
            let unknown_safe = ForkchoiceState {
                safe_block_hash: B256::repeat_byte(9),
                ..choice(genesis)
            };
            for (params, expected) in [
                (json!([choice(genesis), stale]), -38003),
                (json!([unknown_safe, null]), -38002),
                (json!([]), -32602),
                (json!([choice(genesis), {}]), -32602),
            ] {
                assert_eq!(
                    codes.code(&method, params.clone()).await,
                    expected,
                    "{params}"
                );
            }
            let unknown_head = choice(B256::repeat_byte(8));
            let engine = &codes.client.engine;
            let syncing = engine.forkchoice_updated(unknown_head, None).await.unwrap();
            assert!(syncing.is_syncing() && syncing.payload_id.is_none());
        });
    }
}

/// Payload attributes as JSON, with or without the fields of later versions.
fn attributes(withdrawals: bool, root: bool) -> Value {
    let mut attributes = json!({
        "timestamp": "0x64",
        "prevRandao": B256::ZERO,
        "suggestedFeeRecipient": FEE_RECIPIENT,
    });
    if withdrawals {
        attributes["withdrawals"] = json!([]);
    }
    if root {
        attributes["parentBeaconBlockRoot"] = json!(B256::ZERO);
    }
    attributes
}

#[test]
fn a_payload_without_transactions_can_be_asked_for() {
    for fork in [PayloadFork::Capella, PayloadFork::Deneb] {
        block_on_main(async move {
            let client = TestClient::new(fork).await;
            client
                .send(0, TxKind::Call(RECIPIENT), ETHER, Bytes::new())
                .await;
            let genesis = choice(client.server.genesis_hash());
            let started = client
                .engine
                .begin_empty_payload(genesis, client.attributes(100))
                .await
                .unwrap();
            let id = started.payload_id.unwrap();
            let empty = client.engine.get_payload(fork, id).await.unwrap().payload;
            assert!(empty.as_v1().transactions.is_empty());
            let root = B256::with_last_byte(2);
            let status = client.engine.new_payload(empty, root).await.unwrap();
            assert_eq!(status.status, PayloadStatusEnum::Valid);
            let full = client
                .build(client.server.genesis_hash(), client.attributes(100))
                .await;
            assert_eq!(full.as_v1().transactions.len(), 1);
        });
    }
}

#[test]
fn payloads_are_refused_with_the_codes_of_the_specification() {
    for fork in FORKS {
        block_on_main(async move {
            let codes = EngineCodes::new(fork).await;
            let client = &codes.client;
            let unknown = json!(["0x0000000000000009"]);
            assert_eq!(codes.code("engine_getPayloadV3", unknown).await, -38001);
            let id = PayloadId::new([7; 8]);
            let error = client.engine.get_payload(fork, id).await.unwrap_err();
            assert!(
                matches!(error, ExecutionError::UnknownPayload { .. }),
                "{error}"
            );
            let genesis = choice(client.server.genesis_hash());
            let started = client
                .engine
                .forkchoice_updated(genesis, Some(client.attributes(100)))
                .await
                .unwrap();
            let id = json!([started.payload_id]);
            for (method, capella, deneb) in [
                ("engine_getPayloadV1", -38005, -38005),
                ("engine_getPayloadV2", 0, -38005),
                ("engine_getPayloadV3", -38005, 0),
            ] {
                let expected = codes.of(capella, deneb);
                assert_eq!(codes.code(method, id.clone()).await, expected, "{method}");
            }

            let method = format!("engine_getPayloadV{}", codes.of(2, 3));
            let built: Value = codes.engine.call(&method, &id).await.unwrap();
            let payload = &built["executionPayload"];
            let mut plain = payload.clone();
            let fields = plain.as_object_mut().unwrap();
            fields.retain(|key, _| !key.contains("lob"));
            let mut without_withdrawals = plain.clone();
            without_withdrawals
                .as_object_mut()
                .unwrap()
                .remove("withdrawals");
            let with_root = json!([payload, [], B256::with_last_byte(2)]);
            for (method, params, capella, deneb) in [
                ("engine_newPayloadV2", json!([payload]), 0, -32602),
                ("engine_newPayloadV3", with_root, -32602, 0),
                ("engine_newPayloadV3", json!([payload]), -32602, -32602),
                ("engine_newPayloadV1", json!([payload]), -38005, -38005),
                ("engine_newPayloadV2", json!([plain]), 0, -38005),
                (
                    "engine_newPayloadV2",
                    json!([without_withdrawals]),
                    -32602,
                    -38005,
                ),
                ("engine_newPayloadV9", json!([payload]), -32601, -32601),
            ] {
                let expected = codes.of(capella, deneb);
                let code = codes.code(method, params.clone()).await;
                assert_eq!(code, expected, "{method} {params}");
            }
        });
    }
}

#[test]
fn payload_bodies_are_limited_and_the_client_names_itself() {
    for fork in FORKS {
        block_on_main(async move {
            let codes = EngineCodes::new(fork).await;
            let too_many = vec![B256::ZERO; 1000];
            for (method, params, expected) in [
                ("engine_getPayloadBodiesByHashV1", json!([too_many]), -38004),
                (
                    "engine_getPayloadBodiesByRangeV1",
                    json!(["0x1", "0xffff"]),
                    -38004,
                ),
                (
                    "engine_getPayloadBodiesByRangeV1",
                    json!(["0x0", "0x1"]),
                    -32602,
                ),
            ] {
                assert_eq!(codes.code(method, params).await, expected, "{method}");
            }
            let version: Value = codes
                .engine
                .call("engine_getClientVersionV1", json!([{}]))
                .await
                .unwrap();
            assert_eq!(version[0]["code"], "AL");
        });
    }
}

#[test]
fn wrong_payloads_are_invalid_and_unknown_parents_are_syncing() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let genesis = client.server.genesis_hash();
        let good = client.build(genesis, client.attributes(100)).await;
        let root = B256::with_last_byte(2);
        let ExecutionPayload::V3(good) = good else {
            panic!("not Deneb")
        };

        let mut wrong_hash = good.clone();
        wrong_hash.payload_inner.payload_inner.gas_limit += 1;
        let status = client
            .engine
            .new_payload(ExecutionPayload::V3(wrong_hash), root)
            .await
            .unwrap();
        assert!(status.is_invalid(), "{status:?}");
        // The beacon root is part of the hash.
        let status = client
            .engine
            .new_payload(ExecutionPayload::V3(good.clone()), B256::ZERO)
            .await
            .unwrap();
        assert!(status.is_invalid(), "{status:?}");

        // A client without the first block.
        let late = TestClient::new(PayloadFork::Deneb).await;
        let first = good.payload_inner.payload_inner.block_hash;
        let second = client.build(first, client.attributes(102)).await;
        let status = late.engine.new_payload(second.clone(), root).await.unwrap();
        assert!(
            matches!(
                status.status,
                PayloadStatusEnum::Syncing | PayloadStatusEnum::Accepted
            ),
            "{status:?}"
        );
        assert!(
            late.engine
                .new_payload(ExecutionPayload::V3(good), root)
                .await
                .unwrap()
                .is_valid()
        );
        assert!(
            late.engine
                .new_payload(second.clone(), root)
                .await
                .unwrap()
                .is_valid()
        );
        let head = choice(second.as_v1().block_hash);
        assert!(
            late.engine
                .forkchoice_updated(head, None)
                .await
                .unwrap()
                .is_valid()
        );
        assert_eq!(late.head().await.number, 2);
    });
}
