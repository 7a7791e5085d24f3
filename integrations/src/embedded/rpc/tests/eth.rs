//! The read-only `eth_` methods.

use alloy_primitives::hex;

use super::*;

#[test]
fn blocks_have_geths_shape() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (_, [transfer, deploy, _]) = client.with_contract().await;
        let block = client
            .get("eth_getBlockByNumber", json!(["0x1", false]))
            .await;
        let block_keys = BTreeSet::from([
            "baseFeePerGas",
            "blobGasUsed",
            "difficulty",
            "excessBlobGas",
            "extraData",
            "gasLimit",
            "gasUsed",
            "hash",
            "logsBloom",
            "miner",
            "mixHash",
            "nonce",
            "number",
            "parentBeaconBlockRoot",
            "parentHash",
            "receiptsRoot",
            "sha3Uncles",
            "size",
            "stateRoot",
            "timestamp",
            "transactions",
            "transactionsRoot",
            "uncles",
            "withdrawals",
            "withdrawalsRoot",
        ]);
        assert_eq!(
            keys(&block).difference(&block_keys).collect::<Vec<_>>(),
            [&""; 0]
        );
        assert_eq!(
            block_keys.difference(&keys(&block)).collect::<Vec<_>>(),
            [&""; 0]
        );
        assert_eq!(block["number"], "0x1");
        assert_eq!(block["nonce"], "0x0000000000000000");
        assert_eq!(block["difficulty"], "0x0");
        assert_eq!(block["uncles"], json!([]));
        assert_eq!(block["miner"], json!(FEE_RECIPIENT));
        assert_eq!(block["transactions"], json!([transfer, deploy]));
        let full = client
            .get("eth_getBlockByHash", json!([block["hash"], true]))
            .await;
        assert_eq!(full["transactions"][1]["hash"], json!(deploy));
        assert_eq!(full["hash"], block["hash"]);
        for (method, params) in [
            ("eth_getBlockByNumber", json!(["0x99", true])),
            ("eth_getBlockByHash", json!([B256::ZERO, true])),
            ("eth_getTransactionByHash", json!([B256::ZERO])),
            ("eth_getTransactionReceipt", json!([B256::ZERO])),
            ("eth_getBlockTransactionCountByNumber", json!(["0x99"])),
            (
                "eth_getTransactionByBlockNumberAndIndex",
                json!(["0x1", "0x7"]),
            ),
            ("eth_getBlockReceipts", json!(["0x99"])),
        ] {
            assert_eq!(client.get(method, params).await, Value::Null, "{method}");
        }
        assert_eq!(
            client
                .get("eth_getBlockTransactionCountByNumber", json!(["0x1"]))
                .await,
            json!("0x2")
        );
        assert_eq!(
            client
                .get("eth_getBlockTransactionCountByHash", json!([block["hash"]]))
                .await,
            json!("0x2")
        );
        assert_eq!(
            client
                .get("eth_getUncleCountByBlockNumber", json!(["0x1"]))
                .await,
            json!("0x0")
        );
    });
}

#[test]
fn the_pending_block_is_the_next_one() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        client.with_contract().await;
        client
            .send(3, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        let latest = client
            .get("eth_getBlockByNumber", json!(["latest", false]))
            .await;
        let block = client
            .get("eth_getBlockByNumber", json!(["pending", true]))
            .await;
        assert_eq!(keys(&block), keys(&latest));
        assert_eq!(
            (&latest["number"], &block["number"]),
            (&json!("0x2"), &json!("0x3"))
        );
        assert_eq!(block["parentHash"], latest["hash"]);
        assert_eq!(block["transactions"], json!([]));
        for unknown in ["hash", "nonce", "miner"] {
            assert_eq!(block[unknown], Value::Null, "{unknown}");
        }
        let next = client.get("eth_feeHistory", json!(["0x1", "latest"])).await;
        assert_eq!(block["baseFeePerGas"], next["baseFeePerGas"][1]);
        for (method, params, expected) in [
            (
                "eth_getBlockTransactionCountByNumber",
                json!(["pending"]),
                json!("0x0"),
            ),
            (
                "eth_getUncleCountByBlockNumber",
                json!(["pending"]),
                json!("0x0"),
            ),
            (
                "eth_getTransactionByBlockNumberAndIndex",
                json!(["pending", "0x0"]),
                Value::Null,
            ),
            ("eth_getBlockReceipts", json!(["pending"]), json!([])),
            // The number of the block that runs the code.
            (
                "eth_call",
                json!([{ "data": "0x435f5260205ff3" }, "pending"]),
                json!(B256::with_last_byte(3)),
            ),
            (
                "eth_call",
                json!([{ "data": "0x435f5260205ff3" }]),
                json!(B256::with_last_byte(2)),
            ),
        ] {
            let answer = client.get(method, params.clone()).await;
            assert_eq!(answer, expected, "{method} {params}");
        }
        // Reverts unless NUMBER is above 2, the head.
        let request = json!({ "from": SENDER, "data": "0x63000000024311600d575f5ffd5b00" });
        client.get("eth_estimateGas", json!([request])).await;
        let error = client
            .refused("eth_estimateGas", json!([request, "latest"]))
            .await;
        assert_eq!(error.code, 3);
        let empty = client
            .get("eth_feeHistory", json!(["0x0", "latest", []]))
            .await;
        assert_eq!(empty["baseFeePerGas"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn transactions_have_geths_shape() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (_, [transfer, _, _]) = client.with_contract().await;
        let block = client
            .get("eth_getBlockByNumber", json!(["0x1", false]))
            .await;
        let shown = client
            .get("eth_getTransactionByHash", json!([transfer]))
            .await;
        let transaction_keys = BTreeSet::from([
            "accessList",
            "blockHash",
            "blockNumber",
            "chainId",
            "from",
            "gas",
            "gasPrice",
            "hash",
            "input",
            "maxFeePerGas",
            "maxPriorityFeePerGas",
            "nonce",
            "r",
            "s",
            "to",
            "transactionIndex",
            "type",
            "v",
            "value",
            "yParity",
        ]);
        let mut shown_keys = keys(&shown);
        // Newer versions of Geth also have it.
        shown_keys.remove("blockTimestamp");
        assert_eq!(shown_keys, transaction_keys);
        assert_eq!(shown["from"], json!(SENDER));
        assert_eq!(shown["value"], json!(format!("{ETHER:#x}")));
        assert_eq!(
            (&shown["type"], &shown["nonce"]),
            (&json!("0x2"), &json!("0x0"))
        );
        assert_eq!(
            (&shown["blockNumber"], &shown["transactionIndex"]),
            (&json!("0x1"), &json!("0x0"))
        );
        for (method, params) in [
            (
                "eth_getTransactionByBlockNumberAndIndex",
                json!(["0x1", "0x0"]),
            ),
            (
                "eth_getTransactionByBlockHashAndIndex",
                json!([block["hash"], "0x0"]),
            ),
        ] {
            assert_eq!(client.get(method, params).await, shown, "{method}");
        }
    });
}

#[test]
fn receipts_and_logs_have_geths_shape() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (contract, [_, deploy, call]) = client.with_contract().await;
        let receipt = client
            .get("eth_getTransactionReceipt", json!([deploy]))
            .await;
        let receipt_keys = BTreeSet::from([
            "blockHash",
            "blockNumber",
            "contractAddress",
            "cumulativeGasUsed",
            "effectiveGasPrice",
            "from",
            "gasUsed",
            "logs",
            "logsBloom",
            "status",
            "to",
            "transactionHash",
            "transactionIndex",
            "type",
        ]);
        assert_eq!(keys(&receipt), receipt_keys);
        assert_eq!(receipt["contractAddress"], json!(contract));
        assert_eq!(
            (&receipt["to"], &receipt["status"], &receipt["type"]),
            (&Value::Null, &json!("0x1"), &json!("0x2"))
        );
        let receipt = client.get("eth_getTransactionReceipt", json!([call])).await;
        assert_eq!(receipt["contractAddress"], Value::Null);
        let mut log = receipt["logs"][0].clone();
        // Newer versions of Geth also have it.
        log.as_object_mut().unwrap().remove("blockTimestamp");
        let expected = json!({
            "address": contract,
            "topics": [TOPIC],
            "data": B256::with_last_byte(42),
            "blockHash": receipt["blockHash"],
            "blockNumber": "0x2",
            "transactionHash": call,
            "transactionIndex": "0x0",
            "logIndex": "0x0",
            "removed": false,
        });
        assert_eq!(log, expected);
        assert_eq!(
            client.get("eth_getBlockReceipts", json!(["0x2"])).await,
            json!([receipt])
        );
        let filter = json!({
            "fromBlock": "0x0",
            "toBlock": "latest",
            "address": contract,
            "topics": [TOPIC],
        });
        assert_eq!(
            client.get("eth_getLogs", json!([filter])).await,
            receipt["logs"]
        );
        let none = json!({ "fromBlock": "0x0", "toBlock": "latest", "topics": [B256::ZERO] });
        assert_eq!(client.get("eth_getLogs", json!([none])).await, json!([]));
    });
}

#[test]
fn state_is_readable_and_callable_at_any_block() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (contract, _) = client.with_contract().await;
        let storage = B256::with_last_byte(42);
        for (method, params, expected) in [
            ("eth_chainId", json!([]), json!("0x539")),
            ("eth_blockNumber", json!([]), json!("0x2")),
            ("eth_syncing", json!([]), json!(false)),
            ("eth_accounts", json!([]), json!([])),
            ("net_version", json!([]), json!("1337")),
            ("net_listening", json!([]), json!(true)),
            ("net_peerCount", json!([]), json!("0x0")),
            (
                "web3_sha3",
                json!(["0x68656c6c6f"]),
                json!(keccak256("hello")),
            ),
            ("eth_getBalance", json!([RECIPIENT, "0x0"]), json!("0x0")),
            (
                "eth_getBalance",
                json!([RECIPIENT]),
                json!("0xde0b6b3a7640000"),
            ),
            (
                "eth_getTransactionCount",
                json!([SENDER, "latest"]),
                json!("0x3"),
            ),
            (
                "eth_getTransactionCount",
                json!([SENDER, "0x1"]),
                json!("0x2"),
            ),
            ("eth_getCode", json!([RECIPIENT, "latest"]), json!("0x")),
            (
                "eth_getStorageAt",
                json!([contract, "0x0", "latest"]),
                json!(storage),
            ),
            (
                "eth_getStorageAt",
                json!([contract, B256::ZERO, "0x1"]),
                json!(B256::ZERO),
            ),
            (
                "eth_call",
                json!([{ "to": contract }, "latest"]),
                json!(storage),
            ),
            (
                "eth_call",
                json!([{ "to": contract, "from": SENDER, "data": "0x" }]),
                json!(storage),
            ),
            (
                "eth_call",
                json!([{ "to": contract }, { "blockNumber": "0x1" }]),
                json!(storage),
            ),
            (
                "eth_estimateGas",
                json!([{ "to": RECIPIENT, "from": SENDER, "value": "0x1" }]),
                json!("0x5208"),
            ),
        ] {
            assert_eq!(
                client.get(method, params.clone()).await,
                expected,
                "{method} {params}"
            );
        }
        let code = client.get("eth_getCode", json!([contract, "latest"])).await;
        assert!(
            deployment()
                .to_string()
                .ends_with(&code.as_str().unwrap()[2..]),
            "{code}"
        );
    });
}

#[test]
fn failed_calls_have_geths_codes() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (contract, _) = client.with_contract().await;
        let error = client
            .refused(
                "eth_call",
                json!([{ "to": contract, "input": B256::repeat_byte(7) }]),
            )
            .await;
        assert_eq!(
            (error.code, error.data),
            (3, Some(json!(B256::repeat_byte(7))))
        );
        assert!(
            error.message.starts_with("execution reverted"),
            "{}",
            error.message
        );
        let error = client
            .refused(
                "eth_estimateGas",
                json!([{ "to": contract, "data": "0x01" }]),
            )
            .await;
        assert_eq!(error.code, 3);
        let error = client
            .refused("eth_getBalance", json!([RECIPIENT, "0x99"]))
            .await;
        assert_eq!(error, RpcError::server("header not found"));
        let different = json!([{ "to": contract, "data": "0x0c55699c", "input": "0x" }, "latest"]);
        let error = client.refused("eth_call", different).await;
        assert!(error.message.starts_with("both \"data\" and"), "{error}");
        let beyond = json!([{ "fromBlock": "0x0", "toBlock": "0x2710" }]);
        let error = client.refused("eth_getLogs", beyond).await;
        assert_eq!(error.code, RpcError::INVALID_PARAMS, "{error}");
        let overrides =
            json!([{ "to": contract }, "latest", { contract.to_string(): { "balance": "0x1" } }]);
        assert_eq!(
            client.refused("eth_call", overrides).await.code,
            RpcError::INVALID_PARAMS
        );
        for (method, params) in [
            ("eth_getBalance", json!([])),
            ("eth_getBalance", json!(["0x12"])),
            ("eth_getBalance", json!([RECIPIENT, "newest"])),
            ("eth_getBalance", json!({ "address": RECIPIENT })),
            ("eth_chainId", json!({})),
        ] {
            if method == "eth_chainId" {
                // Parameters of a method without parameters are ignored, as in other clients.
                assert_eq!(client.get(method, params).await, json!("0x539"));
                continue;
            }
            let error = client.refused(method, params.clone()).await;
            assert_eq!(
                error.code,
                RpcError::INVALID_PARAMS,
                "{method} {params}: {error}"
            );
        }
        for method in [
            "eth_sign",
            "personal_listAccounts",
            "debug_traceCall",
            "nothing",
        ] {
            assert_eq!(
                client.refused(method, json!([])).await.code,
                RpcError::METHOD_NOT_FOUND,
                "{method}"
            );
        }
    });
}

#[test]
fn proofs_and_fee_history_have_geths_shape() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (contract, _) = client.with_contract().await;
        let proof = client
            .get("eth_getProof", json!([contract, ["0x0"], "latest"]))
            .await;
        let expected = [
            "accountProof",
            "address",
            "balance",
            "codeHash",
            "nonce",
            "storageHash",
            "storageProof",
        ];
        assert_eq!(keys(&proof), BTreeSet::from(expected));
        assert_eq!(proof["storageProof"][0]["value"], "0x2a");
        let block = client
            .get("eth_getBlockByNumber", json!(["latest", false]))
            .await;
        let node: Bytes = serde_json::from_value(proof["accountProof"][0].clone()).unwrap();
        assert_eq!(json!(keccak256(&node)), block["stateRoot"]);

        let history = client
            .get("eth_feeHistory", json!(["0x2", "latest", [50.0]]))
            .await;
        assert_eq!(history["oldestBlock"], "0x1");
        assert_eq!(history["baseFeePerGas"].as_array().map(Vec::len), Some(3));
        assert_eq!(history["gasUsedRatio"].as_array().map(Vec::len), Some(2));
        assert_eq!(history["reward"][0], json!(["0x3b9aca00"]));
        for method in ["eth_gasPrice", "eth_maxPriorityFeePerGas"] {
            let price = client.get(method, json!([])).await;
            assert!(
                price.as_str().unwrap().starts_with("0x"),
                "{method}: {price}"
            );
        }
    });
}

#[test]
fn the_gas_price_suffices_for_an_estimate_while_fees_fall() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        for nonce in 0..4 {
            // Small tips, because a large suggested tip would hide a price that is too low.
            let (raw, _) = with_tip(1, nonce, TxKind::Call(RECIPIENT), 1, Bytes::new());
            client.get("eth_sendRawTransaction", json!([raw])).await;
            client.produce().await;
            let price = client.get("eth_gasPrice", json!([])).await;
            let request =
                json!({ "from": SENDER, "to": RECIPIENT, "value": "0x1", "gasPrice": price });
            assert_eq!(
                client.get("eth_estimateGas", json!([request])).await,
                json!("0x5208")
            );
        }
    });
}

/// Case B10: null in `topics` stands for any topic at its place, and a log needs the others.
#[test]
fn topics_with_null_find_only_the_logs_that_have_the_others() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        // Init codes that log the topic 1, the topics 1 and 2, and the topics 1, 2 and 3.
        let codes: [&[u8]; 3] = [
            &hex!("600160006000a100"),
            &hex!("6002600160006000a200"),
            &hex!("60036002600160006000a300"),
        ];
        let mut sent = Vec::new();
        for (nonce, code) in (0..).zip(codes) {
            let code = Bytes::copy_from_slice(code);
            sent.push(client.send(nonce, TxKind::Create, 0, code).await);
        }
        client.produce().await;
        let topic = B256::with_last_byte;
        for (topics, expected) in [
            (json!([null, null, topic(3)]), &sent[2..]),
            (json!([null, topic(2)]), &sent[1..]),
            (json!([topic(1)]), &sent[..]),
            (json!([null, null, topic(2)]), &[]),
            (json!([null, topic(2), [topic(1), topic(3)]]), &sent[2..]),
        ] {
            let filter = json!([{ "fromBlock": "0x0", "topics": topics }]);
            let logs = client.get("eth_getLogs", filter).await;
            let logs = logs.as_array().unwrap();
            let found: Vec<_> = logs
                .iter()
                .map(|log| log["transactionHash"].clone())
                .collect();
            let expected: Vec<_> = expected.iter().map(|hash| json!(hash)).collect();
            assert_eq!(found, expected, "{topics}");
        }
    });
}
